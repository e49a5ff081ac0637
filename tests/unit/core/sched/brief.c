/*
 * Tests of core/sched/brief: what is brief, and who is believed.
 */
#include "core/sched/brief.h"

#include "tests/harness/test.h"

#define US UINT64_C(1000)

static struct fm_profile line(uint64_t alpha_ns, uint64_t beta_ns)
{
    struct fm_profile profile = {0};
    for (uint32_t batch = 1; batch <= 64; batch *= 2) {
        struct fm_profile_point point = {.batch = batch, .sample_count = 1};
        for (uint32_t i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
            /* Of the slowest a hundredth much slower: that is no reason. */
            point.latency_ns[i] = (alpha_ns * batch + beta_ns) * (i == FM_PROFILE_P99 ? 50 : 1);
        }
        (void)!fm_profile_add(&profile, &point, NULL);
    }
    return profile;
}

TEST(the_batches_that_are_expected_to_take_less_than_waking_a_thread_are_brief)
{
    struct fm_profile quick = line(100, 1000);
    CHECK_UINT_EQ(fm_brief_rows(&quick, 64), 64);
    CHECK_UINT_EQ(fm_brief_rows(&quick, 8), 8);
    struct fm_profile middling = line(1000, 4000);
    CHECK_UINT_EQ(fm_brief_rows(&middling, 64), 16);
    struct fm_profile slow = line(0, 21 * US);
    CHECK_UINT_EQ(fm_brief_rows(&slow, 64), 0);
}

TEST(now_and_then_one_may_be_interrupted)
{
    struct fm_brief brief = {0};
    uint64_t now_ns = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        now_ns += 10 * US;
        fm_brief_ran(&brief, i % 9 == 0 ? 4000 * US : 10 * US, now_ns);
        CHECK(fm_brief_may(&brief, now_ns));
    }
}

TEST(who_takes_long_again_and_again_runs_none_for_a_while)
{
    struct fm_brief brief = {0};
    uint64_t now_ns = 5;
    uint32_t ran = 0;
    while (fm_brief_may(&brief, now_ns)) {
        fm_brief_ran(&brief, FM_BRIEF_OVERRUN_NS + 1, now_ns);
        ran++;
    }
    CHECK_UINT_EQ(ran, 5);
    CHECK(!fm_brief_may(&brief, now_ns + FM_BRIEF_PAUSE_NS - 1));
    CHECK(fm_brief_may(&brief, now_ns + FM_BRIEF_PAUSE_NS));
    /* Then it is tried again, from the beginning. */
    now_ns += FM_BRIEF_PAUSE_NS;
    fm_brief_ran(&brief, 4000 * US, now_ns);
    CHECK(fm_brief_may(&brief, now_ns));
}

TEST_MAIN()
