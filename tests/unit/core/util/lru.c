/*
 * The least recently used go first: against a naive model (an array in the order of use), at the
 * bounds, and without memory.
 */
#include "core/util/lru.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { KEYS = 64, STEPS = 20000 };

struct thing {
    struct fm_lru_entry lru;
    uint32_t number;
};

/* Few buckets are used: only the low bits of the first word are. */
static struct fm_lru_key key_of(uint32_t number)
{
    return (struct fm_lru_key){{number & 7, number * UINT64_C(0x9e3779b97f4a7c15), 1, number}};
}

static void things_free(struct fm_lru_entry *list)
{
    while (list != NULL) {
        struct fm_lru_entry *next = list->chain;
        fm_free(list);
        list = next;
    }
}

/* The naive model: newest first. */
struct naive {
    uint32_t numbers[KEYS];
    size_t bytes[KEYS];
    size_t count;
    size_t total;
};

static size_t naive_find(const struct naive *naive, uint32_t number)
{
    size_t i = 0;
    while (i < naive->count && naive->numbers[i] != number) {
        i++;
    }
    return i;
}

static void naive_front(struct naive *naive, size_t from, uint32_t number, size_t bytes)
{
    memmove(naive->numbers + 1, naive->numbers, from * sizeof naive->numbers[0]);
    memmove(naive->bytes + 1, naive->bytes, from * sizeof naive->bytes[0]);
    naive->numbers[0] = number;
    naive->bytes[0] = bytes;
}

/* How many had to go. */
static size_t naive_insert(struct naive *naive, uint32_t number, size_t bytes, size_t bytes_max)
{
    size_t before = naive->count;
    while (naive->total + bytes > bytes_max) {
        naive->count--;
        naive->total -= naive->bytes[naive->count];
    }
    size_t gone = before - naive->count;
    naive_front(naive, naive->count, number, bytes);
    naive->count++;
    naive->total += bytes;
    return gone;
}

static void compare(const struct fm_lru *lru, const struct naive *naive)
{
    size_t at = 0;
    CHECK(fm_lru_is_valid(lru));
    CHECK_UINT_EQ(lru->count, naive->count);
    CHECK_UINT_EQ(lru->bytes, naive->total);
    for (const struct fm_lru_entry *entry = lru->newest; entry != NULL; entry = entry->older) {
        CHECK_UINT_EQ(((const struct thing *)entry)->number, naive->numbers[at]);
        at++;
    }
}

static void step(struct fm_lru *lru, struct naive *naive, struct fm_random *random)
{
    uint32_t number = (uint32_t)fm_random_below(random, KEYS);
    const struct fm_lru_key key = key_of(number);
    struct fm_lru_entry *found = fm_lru_find(lru, &key);
    size_t place = naive_find(naive, number);
    CHECK_INT_EQ(found != NULL, place < naive->count);
    if (found != NULL) {
        CHECK_UINT_EQ(((struct thing *)found)->number, number);
        naive_front(naive, place, number, naive->bytes[place]);
        return;
    }
    struct thing *thing = fm_alloc_zero(1, sizeof *thing);
    CHECK(thing != NULL);
    thing->number = number;
    /* Now and then all that may be in. */
    size_t bytes = fm_random_below(random, 50) == 0 ? lru->bytes_max
                                                    : 1 + (size_t)fm_random_below(random, 200);
    thing->lru = (struct fm_lru_entry){.key = key, .bytes = bytes};
    struct fm_lru_entry *gone = fm_lru_insert(lru, &thing->lru);
    size_t count = 0;
    for (const struct fm_lru_entry *entry = gone; entry != NULL; entry = entry->chain) {
        count++;
    }
    CHECK_UINT_EQ(count, naive_insert(naive, number, bytes, lru->bytes_max));
    things_free(gone);
}

TEST(it_does_what_a_naive_one_does)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct fm_random random;
        struct fm_lru lru;
        struct naive naive = {0};
        fm_random_init(&random, seed);
        CHECK_INT_EQ(fm_lru_init(&lru, 500 * seed, seed), 0);
        for (uint32_t i = 0; i < STEPS / 8; i++) {
            step(&lru, &naive, &random);
            compare(&lru, &naive);
        }
        things_free(fm_lru_deinit(&lru));
    }
}

TEST(bounds)
{
    struct fm_lru lru;
    CHECK_INT_EQ(fm_lru_init(&lru, 10, UINT64_MAX), 0);
    CHECK_UINT_EQ(lru.bucket_mask, FM_LRU_BUCKETS_MAX - 1);
    CHECK_PTR_EQ(fm_lru_deinit(&lru), NULL);
    CHECK_PTR_EQ(fm_lru_deinit(&lru), NULL);
    CHECK_INT_EQ(fm_lru_init(&lru, 10, 0), 0);
    struct fm_lru_key key = key_of(1);
    CHECK_PTR_EQ(fm_lru_find(&lru, &key), NULL);
    struct thing one = {.lru = {.key = key, .bytes = 10}};
    CHECK_PTR_EQ(fm_lru_insert(&lru, &one.lru), NULL);
    key = key_of(2);
    struct thing other = {.lru = {.key = key, .bytes = 1}};
    CHECK_PTR_EQ(fm_lru_insert(&lru, &other.lru), &one.lru);
    CHECK_UINT_EQ(lru.bytes, 1);
    CHECK_PTR_EQ(fm_lru_deinit(&lru), &other.lru);
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_lru_init(&lru, 10, 16), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    CHECK_PTR_EQ(fm_lru_deinit(&lru), NULL);
}

TEST_MAIN()
