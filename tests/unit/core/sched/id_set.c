/*
 * id_set against an array of bools, at bounds that end on and beside every level's edge.
 */
#include "core/sched/id_set.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

static const uint32_t bounds[] = {1,    2,    63,   64,    65,    4095,
                                  4096, 4097, 8192, 65536, 65537, FM_ID_SET_BOUND_MAX};
static bool naive[FM_ID_SET_BOUND_MAX];

static uint32_t naive_first(uint32_t bound, uint32_t from)
{
    while (from < bound && !naive[from]) {
        from++;
    }
    return from < bound ? from : FM_ID_SET_NONE;
}

/* Few members, mostly beside edges, so that searches cross all levels. */
static uint32_t some_id(struct fm_random *random, uint32_t bound)
{
    uint32_t id = (uint32_t)fm_random_below(random, bound);
    switch (fm_random_below(random, 4)) {
    case 0:
        id = id / 64 * 64;
        break;
    case 1:
        id = id / 4096 * 4096 + 4095;
        break;
    case 2:
        id = id < bound / 2 ? 0 : bound - 1;
        break;
    default:
        break;
    }
    return id < bound ? id : bound - 1;
}

static void run(uint32_t bound, uint32_t members_usual)
{
    struct fm_id_set set;
    struct fm_random random;
    fm_random_init(&random, bound);
    CHECK_INT_EQ(fm_id_set_init(&set, bound), 0);
    memset(naive, 0, sizeof naive);
    uint32_t count = 0;
    for (uint32_t step = 0; step < 1500; step++) {
        uint32_t id = some_id(&random, bound);
        bool add = fm_random_below(&random, 2 * (uint64_t)members_usual) >= count;
        count += add ? !naive[id] : 0u - naive[id];
        naive[id] = add;
        add ? fm_id_set_add(&set, id) : fm_id_set_remove(&set, id);
        CHECK_UINT_EQ(set.count, count);
        CHECK_INT_EQ(fm_id_set_has(&set, id), add);
        uint32_t from = some_id(&random, bound);
        CHECK_UINT_EQ(fm_id_set_first(&set, from), naive_first(bound, from));
        CHECK_UINT_EQ(fm_id_set_first(&set, 0), naive_first(bound, 0));
        CHECK_UINT_EQ(fm_id_set_first(&set, bound), FM_ID_SET_NONE);
        if (step % 50 == 0) {
            CHECK(fm_id_set_validate(&set));
        }
    }
    for (uint32_t id = 0; id < bound; id++) {
        fm_id_set_remove(&set, id);
    }
    CHECK(fm_id_set_validate(&set));
    CHECK_UINT_EQ(set.top, 0);
    CHECK_UINT_EQ(fm_id_set_first(&set, 0), FM_ID_SET_NONE);
    fm_id_set_deinit(&set);
}

TEST(any_bound_agrees_with_bools)
{
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        run(bounds[i], 3);
        run(bounds[i], 200);
        CHECK_INT_EQ(fm_test_failed, 0);
    }
}

/* Small bounds are enumerated: every set of up to eight ids, every place to search from. */
TEST(small_sets_are_right_exhaustively)
{
    for (uint32_t bits = 0; bits < 256; bits++) {
        struct fm_id_set set;
        CHECK_INT_EQ(fm_id_set_init(&set, 64 * 8), 0);
        memset(naive, 0, sizeof naive);
        for (uint32_t i = 0; i < 8; i++) {
            naive[i * 64 + i] = (bits >> i & 1) != 0;
            if (naive[i * 64 + i]) {
                fm_id_set_add(&set, i * 64 + i);
            }
        }
        for (uint32_t from = 0; from <= 64 * 8; from++) {
            CHECK_UINT_EQ(fm_id_set_first(&set, from), naive_first(64 * 8, from));
        }
        CHECK(fm_id_set_validate(&set));
        fm_id_set_deinit(&set);
    }
}

TEST(validate_sees_what_is_wrong)
{
    struct fm_id_set set;
    CHECK_INT_EQ(fm_id_set_init(&set, 5000), 0);
    fm_id_set_add(&set, 4999);
    CHECK(fm_id_set_validate(&set));
    set.words[0] = 1;
    CHECK(!fm_id_set_validate(&set));
    set.words[0] = 0;
    set.top |= 4;
    CHECK(!fm_id_set_validate(&set));
    set.top &= ~UINT64_C(4);
    set.count = 2;
    CHECK(!fm_id_set_validate(&set));
    fm_id_set_deinit(&set);
}

TEST(no_memory_is_said)
{
    struct fm_id_set set;
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_id_set_init(&set, 100), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    fm_id_set_deinit(&set);
}

TEST(count_below_agrees_with_counting)
{
    struct fm_random random;
    fm_random_init(&random, 10);
    struct fm_id_set set;
    CHECK_INT_EQ(fm_id_set_init(&set, 300), 0);
    for (uint32_t i = 0; i < 100; i++) {
        fm_id_set_add(&set, (uint32_t)fm_random_below(&random, 300));
    }
    uint32_t count = 0;
    for (uint32_t bound = 0; bound <= 300; bound++) {
        CHECK_INT_EQ(fm_id_set_count_below(&set, bound), count);
        bool has = bound < 300 && fm_id_set_has(&set, bound);
        count += has ? 1u : 0u;
        if (has) {
            CHECK_UINT_EQ(fm_id_set_end(&set, count), bound + 1);
        }
    }
    CHECK_UINT_EQ(fm_id_set_end(&set, 0), 0);
    CHECK_UINT_EQ(fm_id_set_end(&set, count + 1), 300);
    fm_id_set_deinit(&set);
}

TEST_MAIN()
