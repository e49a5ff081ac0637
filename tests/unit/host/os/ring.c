/*
 * Rings and parkers: alone, and between two threads, which ThreadSanitizer watches.
 */
#include "host/os/ring.h"

#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { ITEMS = 200000 };

TEST(what_is_put_is_taken_in_order_and_no_more_than_there_is_room)
{
    struct fm_ring ring;
    CHECK_INT_EQ(fm_ring_init(&ring, 5, sizeof(uint32_t)), 0);
    CHECK_UINT_EQ(fm_ring_room(&ring), 8);
    uint32_t next = 0;
    uint32_t expected = 0;
    for (uint32_t round = 0; round < 100; round++) {
        while (fm_ring_put(&ring, &next, sizeof next)) {
            next++;
        }
        CHECK_UINT_EQ(fm_ring_room(&ring), 0);
        CHECK_UINT_EQ(next - expected, 8);
        uint32_t wanted = 1 + round % 8;
        while (wanted > 0) {
            uint32_t count;
            const uint32_t *items = fm_ring_peek(&ring, &count);
            CHECK(items != NULL);
            count = count < wanted ? count : wanted;
            for (uint32_t i = 0; i < count; i++) {
                CHECK_UINT_EQ(items[i], expected + i);
            }
            expected += count;
            wanted -= count;
            fm_ring_take(&ring, count);
        }
    }
    fm_ring_deinit(&ring);
}

TEST(a_ring_that_is_emptied_uses_its_front_again)
{
    enum { CAPACITY = 1 << 16, ROUNDS = 3000, EACH = 100 };
    struct fm_ring ring;
    CHECK_INT_EQ(fm_ring_init(&ring, CAPACITY, sizeof(uint32_t)), 0);
    uint32_t next = 1;
    uint32_t expected = 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < EACH; i++, next++) {
            CHECK(fm_ring_put(&ring, &next, sizeof next));
        }
        uint32_t count;
        const uint32_t *items;
        while ((items = fm_ring_peek(&ring, &count)) != NULL) {
            for (uint32_t i = 0; i < count; i++) {
                CHECK_UINT_EQ(items[i], expected++);
            }
            fm_ring_take(&ring, count);
        }
        CHECK_UINT_EQ(expected, next);
    }
    /* 100 divides no multiple of 64 often: it begins again after 64 rounds at most. */
    for (uint32_t i = FM_RING_FRONT + EACH * FM_RING_LOOKS; i < CAPACITY; i++) {
        CHECK_UINT_EQ(((const uint32_t *)(const void *)ring.items)[i], 0);
    }
    /* All of it is still to be had. */
    for (uint32_t i = 0; i < CAPACITY; i++, next++) {
        CHECK(fm_ring_put(&ring, &next, sizeof next));
    }
    CHECK(!fm_ring_put(&ring, &next, sizeof next));
    uint32_t count;
    const uint32_t *items;
    while ((items = fm_ring_peek(&ring, &count)) != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            CHECK_UINT_EQ(items[i], expected++);
        }
        fm_ring_take(&ring, count);
    }
    CHECK_UINT_EQ(expected, next);
    fm_ring_deinit(&ring);
}

TEST(the_oldest_stamp_counts)
{
    struct fm_ring ring;
    CHECK_INT_EQ(fm_ring_init(&ring, 4, sizeof(uint32_t)), 0);
    CHECK_UINT_EQ(fm_ring_stamp_take(&ring), 0);
    fm_ring_stamp(&ring, 7);
    fm_ring_stamp(&ring, 9);
    CHECK_UINT_EQ(fm_ring_stamp_take(&ring), 7);
    CHECK_UINT_EQ(fm_ring_stamp_take(&ring), 0);
    CHECK(fm_ring_empty(&ring));
    fm_ring_deinit(&ring);
}

TEST(no_memory_is_said)
{
    struct fm_ring ring;
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_ring_init(&ring, 4, sizeof(uint32_t)), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    fm_ring_deinit(&ring);
}

struct pair {
    struct fm_ring ring;
    struct fm_parker consumer;
    struct fm_parker producer;
};

static void produce(void *argument)
{
    struct pair *pair = argument;
    for (uint64_t i = 0; i < ITEMS;) {
        if (fm_ring_put(&pair->ring, &i, sizeof i)) {
            i++;
            if (i % 7 == 0) {
                fm_parker_wake(&pair->consumer);
            }
            continue;
        }
        fm_parker_wake(&pair->consumer);
        fm_parker_prepare(&pair->producer);
        if (fm_ring_room(&pair->ring) == 0) {
            fm_parker_park(&pair->producer, FM_PARKER_FOREVER);
        } else {
            fm_parker_stay(&pair->producer);
        }
    }
    fm_parker_wake(&pair->consumer);
}

static void two_threads(uint32_t capacity)
{
    static struct pair pair;
    CHECK_INT_EQ(fm_ring_init(&pair.ring, capacity, sizeof(uint64_t)), 0);
    fm_parker_init(&pair.consumer);
    fm_parker_init(&pair.producer);
    struct fm_thread thread;
    CHECK_INT_EQ(fm_thread_start(&thread, "produce", produce, &pair), 0);
    uint64_t expected = 0;
    while (expected < ITEMS) {
        uint32_t count;
        const uint64_t *items = fm_ring_peek(&pair.ring, &count);
        for (uint32_t i = 0; i < count; i++) {
            CHECK_UINT_EQ(items[i], expected + i);
        }
        if (count > 0) {
            expected += count;
            fm_ring_take(&pair.ring, count);
            fm_parker_wake(&pair.producer);
            continue;
        }
        fm_parker_prepare(&pair.consumer);
        if (fm_ring_empty(&pair.ring)) {
            fm_parker_park(&pair.consumer, FM_PARKER_FOREVER);
        } else {
            fm_parker_stay(&pair.consumer);
        }
    }
    fm_thread_join(&thread);
    CHECK(fm_ring_empty(&pair.ring));
    fm_ring_deinit(&pair.ring);
}

TEST(two_threads_that_sleep_and_wake_each_other_lose_nothing)
{
    two_threads(64);
}

TEST(nor_do_they_where_the_producer_begins_at_the_front_again)
{
    two_threads(1 << 14);
}

TEST(a_parked_thread_comes_back_by_itself_when_it_is_time)
{
    struct fm_parker parker;
    fm_parker_init(&parker);
    uint64_t until_ns = fm_os_now_ns() + 3000000;
    fm_parker_prepare(&parker);
    fm_parker_park(&parker, until_ns);
    CHECK(fm_os_now_ns() >= until_ns);
}

int main(int argc, char **argv)
{
    return fm_test_main(argc, argv);
}
