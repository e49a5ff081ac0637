/*
 * Who comes and who goes, look by look.
 */
#include "engines/sim/autoscaler.h"

#include "tests/harness/test.h"

#define S UINT64_C(1000000000)

static struct fm_sim_autoscale settings;
static struct fm_sim_autoscaler autoscaler;

/* No holds, no headroom: what is needed is wanted at once. */
static void begin(uint32_t initial)
{
    settings = (struct fm_sim_autoscale){
        .on = true,
        .initial = initial,
        .interval_ns = S,
        .start_delay_ns = 3 * S,
        .advice = {.accelerators_min = 1, .accelerators_max = 8, .bad_tolerated_permyriad = 100},
    };
    fm_sim_autoscaler_deinit(&autoscaler);
    CHECK_INT_EQ(fm_sim_autoscaler_init(&autoscaler, &settings, 8), 0);
}

static bool look(uint64_t now_ns, uint32_t up, uint32_t need)
{
    struct fm_sched_stats stats = {.accelerators_up = up, .busy_milli = need * 1000};
    return fm_sim_autoscaler_look(&autoscaler, now_ns, &stats);
}

/* "UUSLB...": up, starting, leaving, broken, away. */
static const char *presences(void)
{
    static char text[9];
    for (uint32_t i = 0; i < 8; i++) {
        text[i] = ".SULB"[autoscaler.presences[i]];
    }
    return text;
}

TEST(the_lowest_numbered_come)
{
    begin(2);
    CHECK_STR_EQ(presences(), "UU......");
    CHECK_UINT_EQ(fm_sim_autoscaler_next_ns(&autoscaler), S);
    CHECK(!look(S - 1, 2, 4)); /* not yet */
    CHECK_STR_EQ(presences(), "UU......");
    CHECK(!look(S, 2, 4));
    CHECK_STR_EQ(presences(), "UUSS....");
    CHECK_UINT_EQ(autoscaler.changes, 1);
    CHECK(!look(2 * S, 2, 5));
    CHECK_STR_EQ(presences(), "UUSSS...");
    CHECK_UINT_EQ(autoscaler.starting_count, 3);
    CHECK_UINT_EQ(fm_sim_autoscaler_next_ns(&autoscaler), 3 * S);
    CHECK(!look(3 * S, 2, 5));
    CHECK_UINT_EQ(fm_sim_autoscaler_started(&autoscaler, 4 * S - 1), FM_SCHED_NONE);
    CHECK_UINT_EQ(fm_sim_autoscaler_started(&autoscaler, 4 * S), 2);
    CHECK_UINT_EQ(fm_sim_autoscaler_started(&autoscaler, 4 * S), 3);
    CHECK_UINT_EQ(fm_sim_autoscaler_started(&autoscaler, 4 * S), FM_SCHED_NONE);
    CHECK_STR_EQ(presences(), "UUUUS...");
    CHECK_UINT_EQ(autoscaler.start_next_ns, 5 * S);
}

TEST(a_start_is_called_off)
{
    begin(1);
    CHECK(!look(S, 1, 4));
    CHECK_STR_EQ(presences(), "USSS....");
    CHECK(!look(2 * S, 1, 2));
    CHECK_STR_EQ(presences(), "US......");
    CHECK_UINT_EQ(autoscaler.starting_count, 1);
    CHECK_UINT_EQ(autoscaler.changes, 2);
}

TEST(the_highest_numbered_go_and_may_stay)
{
    begin(6);
    CHECK(look(S, 6, 3));
    CHECK_STR_EQ(presences(), "UUULLL..");
    fm_sim_autoscaler_left(&autoscaler, 5);
    CHECK(!look(2 * S, 5, 5)); /* wanted again before they were idle */
    CHECK_STR_EQ(presences(), "UUUUU...");
    CHECK(look(3 * S, 5, 0));
    CHECK_STR_EQ(presences(), "ULLLL..."); /* the minimum stays */
}

TEST(those_that_the_policy_uses_stay)
{
    begin(6);
    struct fm_sched_stats stats = {
        .accelerators_up = 6, .accelerators_active = 5, .busy_milli = 2000};
    CHECK(fm_sim_autoscaler_look(&autoscaler, S, &stats));
    CHECK_STR_EQ(presences(), "UUUUUL..");
}

TEST(a_broken_one_is_passed_over)
{
    begin(2);
    fm_sim_autoscaler_break(&autoscaler, 2, true);
    CHECK(!look(S, 2, 4));
    CHECK_STR_EQ(presences(), "UUBSS...");
    fm_sim_autoscaler_break(&autoscaler, 3, true); /* while it was starting */
    CHECK_UINT_EQ(autoscaler.starting_count, 1);
    fm_sim_autoscaler_break(&autoscaler, 0, true); /* that was up: one is missing more */
    CHECK(!look(2 * S, 1, 4));
    CHECK_STR_EQ(presences(), "BUBBSSS.");
    fm_sim_autoscaler_break(&autoscaler, 0, false);
    fm_sim_autoscaler_break(&autoscaler, 1, false); /* it was not broken */
    CHECK_STR_EQ(presences(), ".UBBSSS.");
    CHECK(!look(3 * S, 1, 5));
    CHECK_STR_EQ(presences(), "SUBBSSS.");
}

TEST(bad_answers_ask_for_more)
{
    begin(4);
    for (int i = 0; i < 80; i++) {
        fm_sim_autoscaler_outcome(&autoscaler, i % 5 == 0);
    }
    CHECK(!look(S, 4, 3)); /* 20 % bad: a quarter more */
    CHECK_STR_EQ(presences(), "UUUUS...");
    fm_sim_autoscaler_outcome(&autoscaler, false);
    CHECK(look(2 * S, 4, 3)); /* counted anew since the last look */
    CHECK(fm_sim_autoscaler_is_lack(FM_SCHED_DROP_LATE));
    CHECK(fm_sim_autoscaler_is_lack(FM_SCHED_DROP_SACRIFICED));
    CHECK(fm_sim_autoscaler_is_lack(FM_SCHED_DROP_REJECTED));
    CHECK(fm_sim_autoscaler_is_lack(FM_SCHED_DROP_OUTRANKED));
    CHECK(!fm_sim_autoscaler_is_lack(FM_SCHED_DROP_INFEASIBLE));
    CHECK(!fm_sim_autoscaler_is_lack(FM_SCHED_DROP_FAILED));
    CHECK(!fm_sim_autoscaler_is_lack(FM_SCHED_DROP_CANCELLED));
    fm_sim_autoscaler_deinit(&autoscaler);
}

TEST_MAIN()
