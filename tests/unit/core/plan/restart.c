/*
 * Unit tests of core/plan/restart: what ends after work starts at once, what ends without pauses
 * longer and longer, and what cannot start is left alone.
 */
#include "core/plan/restart.h"

#include <stdbool.h>

#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

TEST(what_has_worked_starts_at_once)
{
    struct fm_restart restart = {0};
    uint64_t at_ns = 0;
    for (uint64_t now_ns = 1000; now_ns < 100000; now_ns += 1000) {
        fm_restart_begun(&restart);
        fm_restart_worked(&restart);
        fm_restart_ended(&restart, now_ns);
        CHECK(fm_restart_may(&restart, now_ns, &at_ns));
        CHECK_UINT_EQ(at_ns, now_ns);
    }
}

TEST(what_ends_without_work_pauses_twice_as_long_each_time)
{
    static const uint64_t pauses_ms[] = {0, 100, 200, 400, 800, 1600, 2000, 2000, 2000};
    struct fm_restart restart = {0};
    uint64_t now_ns = 5 * MS;
    uint64_t at_ns = 0;
    for (size_t i = 0; i < sizeof(pauses_ms) / sizeof(pauses_ms[0]); i++) {
        fm_restart_begun(&restart);
        fm_restart_ended(&restart, now_ns);
        CHECK(fm_restart_may(&restart, now_ns, &at_ns));
        CHECK_UINT_EQ(at_ns, now_ns + pauses_ms[i] * MS);
        now_ns = at_ns;
    }
    fm_restart_worked(&restart);
    fm_restart_ended(&restart, now_ns);
    CHECK(fm_restart_may(&restart, now_ns, &at_ns));
    CHECK_UINT_EQ(at_ns, now_ns);
}

TEST(starts_that_fail_break_it_and_one_good_start_mends_it)
{
    struct fm_restart restart = {0};
    uint64_t now_ns = 0;
    uint64_t at_ns = 0;
    for (int i = 0; i < FM_RESTART_STARTS_MAX; i++) {
        CHECK(fm_restart_may(&restart, now_ns, &at_ns));
        now_ns = at_ns;
        fm_restart_failed(&restart, now_ns);
    }
    CHECK(!fm_restart_may(&restart, now_ns, &at_ns));
    CHECK_UINT_EQ(at_ns, now_ns + FM_RESTART_BROKEN_NS);
    CHECK(!fm_restart_may(&restart, at_ns - 1, &at_ns));
    /* One try, and if it fails the same again. */
    CHECK(fm_restart_may(&restart, at_ns, &at_ns));
    now_ns = at_ns;
    fm_restart_failed(&restart, now_ns);
    CHECK(!fm_restart_may(&restart, now_ns, &at_ns));
    CHECK_UINT_EQ(at_ns, now_ns + FM_RESTART_BROKEN_NS);
    fm_restart_begun(&restart);
    fm_restart_worked(&restart);
    now_ns = at_ns;
    fm_restart_ended(&restart, now_ns);
    CHECK(fm_restart_may(&restart, now_ns, &at_ns));
    CHECK_UINT_EQ(at_ns, now_ns);
}

TEST(a_good_start_in_between_keeps_it_from_breaking)
{
    struct fm_restart restart = {0};
    uint64_t at_ns = 0;
    for (int round = 0; round < 5; round++) {
        for (int i = 1; i < FM_RESTART_STARTS_MAX; i++) {
            fm_restart_failed(&restart, 0);
            CHECK(fm_restart_may(&restart, 0, &at_ns));
        }
        fm_restart_begun(&restart);
    }
}

TEST(times_do_not_wrap)
{
    struct fm_restart restart = {0};
    uint64_t at_ns = 0;
    for (int i = 0; i < 100; i++) {
        fm_restart_failed(&restart, UINT64_MAX - 3);
    }
    CHECK(!fm_restart_may(&restart, UINT64_MAX - 3, &at_ns));
    CHECK_UINT_EQ(at_ns, UINT64_MAX);
}

TEST_MAIN()
