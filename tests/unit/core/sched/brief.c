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
        fm_brief_ran(&brief, i % 100 == 0 ? 4000 * US : 10 * US, now_ns);
        CHECK(fm_brief_may(&brief, now_ns));
    }
}

/* The share of its time that an event loop gives to a model which takes run_ns each. */
static double share_of(uint64_t run_ns)
{
    struct fm_brief brief = {0};
    uint64_t now_ns = 5;
    uint64_t spent_ns = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        if (fm_brief_may(&brief, now_ns)) {
            now_ns += run_ns;
            spent_ns += run_ns;
            fm_brief_ran(&brief, run_ns, now_ns);
        } else {
            now_ns = brief.paused_until_ns;
        }
    }
    return (double)spent_ns / (double)now_ns;
}

TEST(who_takes_long_costs_a_small_part_of_the_time)
{
    for (uint64_t run_ns = 2 * FM_BRIEF_OVERRUN_NS; run_ns < 2000000 * US; run_ns *= 3) {
        CHECK(share_of(run_ns) < 0.06);
    }
    CHECK(share_of(FM_BRIEF_OVERRUN_NS) > 0.99);
}

TEST(after_the_pause_it_is_tried_again)
{
    struct fm_brief brief = {0};
    fm_brief_ran(&brief, 500000 * US, 7);
    CHECK(!fm_brief_may(&brief, 7 + 9000000 * US));
    CHECK(fm_brief_may(&brief, 7 + 10000000 * US));
    /* From the beginning: without debts. */
    fm_brief_ran(&brief, 4000 * US, 7 + 10000000 * US);
    CHECK(fm_brief_may(&brief, 7 + 10000000 * US));
    /* Even hours are not made up for by days. */
    fm_brief_ran(&brief, UINT64_C(3600000000) * US, 0);
    CHECK(fm_brief_may(&brief, 60000000 * US));
}

TEST_MAIN()
