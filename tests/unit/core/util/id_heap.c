/*
 * id_heap against a plain array, alone and with positions shared by several heaps.
 */
#include "core/util/id_heap.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { BOUND = 300, HEAPS = 3 };
#define OUT UINT64_MAX

/* The model: each id's key in each heap, or OUT. */
static uint64_t keys[HEAPS][BOUND];

static uint32_t naive_first(uint32_t heap, uint32_t *ret_count)
{
    uint32_t first = BOUND;
    *ret_count = 0;
    for (uint32_t id = 0; id < BOUND; id++) {
        if (keys[heap][id] != OUT) {
            (*ret_count)++;
            first = first == BOUND || keys[heap][id] < keys[heap][first] ? id : first;
        }
    }
    return first;
}

static void compare(const struct fm_id_heap *heaps)
{
    for (uint32_t i = 0; i < HEAPS; i++) {
        uint32_t count;
        uint32_t first = naive_first(i, &count);
        CHECK(fm_id_heap_validate(&heaps[i]));
        CHECK_UINT_EQ(heaps[i].count, count);
        CHECK_INT_EQ(fm_id_heap_empty(&heaps[i]), count == 0);
        if (count > 0) {
            CHECK_UINT_EQ(fm_id_heap_first(&heaps[i]).id, first);
            CHECK_UINT_EQ(fm_id_heap_first(&heaps[i]).key, keys[i][first]);
        }
    }
}

static uint32_t heap_of(uint32_t id)
{
    uint32_t heap = 0;
    while (heap < HEAPS && keys[heap][id] == OUT) {
        heap++;
    }
    return heap;
}

static void run(uint64_t seed, uint32_t *positions, struct fm_id_heap *heaps)
{
    struct fm_random random;
    fm_random_init(&random, seed);
    memset(keys, 0xff, sizeof keys);
    uint64_t key_bound = seed % 2 == 0 ? 8 : UINT64_C(1) << 60;
    for (uint32_t step = 0; step < 4000; step++) {
        uint32_t id = (uint32_t)fm_random_below(&random, BOUND);
        uint32_t heap = (uint32_t)fm_random_below(&random, HEAPS);
        uint32_t here = positions != NULL ? heap_of(id) : keys[heap][id] != OUT ? heap : HEAPS;
        bool growing = step / 500 % 2 == 0;
        if (here < HEAPS && fm_random_below(&random, growing ? 4 : 2) == 0) {
            fm_id_heap_remove(&heaps[here], id);
            keys[here][id] = OUT;
        } else if (here < HEAPS || growing) {
            heap = here < HEAPS ? here : heap;
            uint64_t key = fm_random_below(&random, key_bound);
            fm_id_heap_set(&heaps[heap], id, key);
            keys[heap][id] = key;
        }
        compare(heaps);
        CHECK_INT_EQ(fm_test_failed, 0);
    }
    /* What is left comes out in order. */
    for (uint32_t i = 0; i < HEAPS; i++) {
        while (!fm_id_heap_empty(&heaps[i])) {
            uint32_t count;
            uint32_t first = naive_first(i, &count);
            CHECK_UINT_EQ(fm_id_heap_first(&heaps[i]).id, first);
            fm_id_heap_remove(&heaps[i], first);
            keys[i][first] = OUT;
        }
    }
}

TEST(heaps_of_their_own_are_sorted)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct fm_id_heap heaps[HEAPS];
        for (uint32_t i = 0; i < HEAPS; i++) {
            CHECK_INT_EQ(fm_id_heap_init(&heaps[i], BOUND, NULL), 0);
        }
        run(seed, NULL, heaps);
        for (uint32_t i = 0; i < HEAPS; i++) {
            fm_id_heap_deinit(&heaps[i]);
        }
    }
}

TEST(heaps_that_share_positions_are_sorted)
{
    for (uint64_t seed = 5; seed <= 8; seed++) {
        uint32_t positions[BOUND];
        memset(positions, 0xff, sizeof positions);
        struct fm_id_heap heaps[HEAPS];
        for (uint32_t i = 0; i < HEAPS; i++) {
            CHECK_INT_EQ(fm_id_heap_init(&heaps[i], BOUND, positions), 0);
        }
        run(seed, positions, heaps);
        for (uint32_t i = 0; i < HEAPS; i++) {
            fm_id_heap_deinit(&heaps[i]);
        }
        for (uint32_t i = 0; i < BOUND; i++) {
            CHECK_UINT_EQ(positions[i], UINT32_MAX);
        }
    }
}

TEST(equal_keys_come_by_id)
{
    struct fm_id_heap heap;
    CHECK_INT_EQ(fm_id_heap_init(&heap, BOUND, NULL), 0);
    for (uint32_t id = BOUND; id-- > 0;) {
        fm_id_heap_set(&heap, id, 7);
    }
    for (uint32_t id = 0; id < BOUND; id++) {
        CHECK_UINT_EQ(fm_id_heap_first(&heap).id, id);
        fm_id_heap_remove(&heap, id);
    }
    fm_id_heap_deinit(&heap);
}

TEST(validate_sees_what_is_wrong)
{
    struct fm_id_heap heap;
    CHECK_INT_EQ(fm_id_heap_init(&heap, 10, NULL), 0);
    for (uint32_t id = 0; id < 10; id++) {
        fm_id_heap_set(&heap, id, id);
    }
    CHECK(fm_id_heap_validate(&heap));
    heap.entries[0].key = 5;
    CHECK(!fm_id_heap_validate(&heap));
    heap.entries[0].key = 0;
    heap.positions[3] = 4;
    CHECK(!fm_id_heap_validate(&heap));
    fm_id_heap_deinit(&heap);
}

TEST(no_memory_leaves_nothing)
{
    uint32_t positions[4];
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct fm_id_heap heap;
        (void)fm_memory_fail_at(nth, 0);
        CHECK_INT_EQ(fm_id_heap_init(&heap, 4, NULL), FM_ENOMEM);
        (void)fm_memory_fail_at(1, 0);
        CHECK_INT_EQ(fm_id_heap_init(&heap, 4, positions), FM_ENOMEM);
        (void)fm_memory_fail_at(0, 0);
        fm_id_heap_deinit(&heap);
    }
}

TEST(count_below_agrees_with_counting)
{
    struct fm_random random;
    fm_random_init(&random, 9);
    struct fm_id_heap heap;
    CHECK_INT_EQ(fm_id_heap_init(&heap, 200, NULL), 0);
    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t id = (uint32_t)fm_random_below(&random, 200);
        if (heap.positions[id] != UINT32_MAX && fm_random_below(&random, 3) == 0) {
            fm_id_heap_remove(&heap, id);
        } else {
            fm_id_heap_set(&heap, id, fm_random_below(&random, 50));
        }
        uint64_t key = fm_random_below(&random, 52);
        uint32_t most = (uint32_t)fm_random_below(&random, 220);
        uint32_t count = 0;
        for (uint32_t i = 0; i < heap.count; i++) {
            count += heap.entries[i].key < key ? 1u : 0u;
        }
        CHECK_INT_EQ(fm_id_heap_count_below(&heap, key, most), count < most ? count : most);
    }
    fm_id_heap_deinit(&heap);
}

TEST(about_below_is_exact_for_few_and_near_for_many)
{
    enum { IDS = 20000 };
    struct fm_random random;
    fm_random_init(&random, 10);
    struct fm_id_heap heap;
    CHECK_INT_EQ(fm_id_heap_init(&heap, IDS, NULL), 0);
    for (uint32_t id = 0; id < IDS; id++) {
        fm_id_heap_set(&heap, id, fm_random_below(&random, IDS));
    }
    for (uint64_t key = 0; key <= IDS; key += 500) {
        uint32_t count = fm_id_heap_count_below(&heap, key, IDS);
        uint32_t about = fm_id_heap_about_below(&heap, key, IDS);
        CHECK(about >= (count < FM_ID_HEAP_SAMPLE ? count : FM_ID_HEAP_SAMPLE));
        CHECK_UINT_EQ(fm_id_heap_about_below(&heap, key, 100), about < 100 ? about : 100);
        CHECK(about >= count - count / 3 && about <= count + IDS / 5); /* three deviations */
    }
    for (uint64_t key = 0; key < 60; key++) {
        uint32_t count = fm_id_heap_count_below(&heap, key, IDS);
        CHECK(count >= FM_ID_HEAP_SAMPLE || fm_id_heap_about_below(&heap, key, IDS) == count);
    }
    fm_id_heap_deinit(&heap);
}

TEST_MAIN()
