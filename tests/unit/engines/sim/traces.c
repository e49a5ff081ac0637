/*
 * Loads that end: what is measured of them at a scale, what is left out, and whose events move.
 */
#include "engines/sim/traces.h"

#include <string.h>

#include "core/util/assert.h"
#include "engines/sim/world.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

static const uint64_t times[] = {0, 10 * MS, 20 * MS, 30 * MS, 40 * MS};
static struct fm_profile profile;
static struct fm_sim_group groups[2];
static struct fm_sim_pool pool;
static struct fm_sim_event events[2];
static struct fm_sim_scenario scenario;
static struct fm_sim_scenario *fitted;
static struct fm_sim_traces traces;
static struct fm_error error;

/* A model that asks by the trace above, and 100 ms to measure. */
static void begin(void)
{
    fm_sim_scenario_init(&scenario);
    profile = (struct fm_profile){0};
    if (fm_profile_add_affine(&profile, MS, MS, 8, NULL) != 0) {
        abort();
    }
    pool = (struct fm_sim_pool){.count = 2};
    memset(groups, 0, sizeof groups);
    for (uint32_t i = 0; i < 2; i++) {
        groups[i] = (struct fm_sim_group){
            .name = i == 0 ? "a" : "b",
            .count = 1,
            .slo_ns = 20 * MS,
            .profiles = {&profile},
            .arrivals = {.kind = FM_ARRIVALS_TRACE, .times_ns = times, .time_count = 5},
        };
    }
    events[0] = (struct fm_sim_event){.kind = FM_SIM_EVENT_DOWN, .at_ns = 10 * MS, .count = 1};
    events[1] = (struct fm_sim_event){.kind = FM_SIM_EVENT_UP, .at_ns = 30 * MS, .count = 1};
    scenario.type_count = 1;
    scenario.pools = &pool;
    scenario.pool_count = 1;
    scenario.groups = groups;
    scenario.group_count = 1;
    scenario.warmup_ns = 0;
    scenario.measure_ns = 100 * MS;
    scenario.ends_with_load = true;
}

static int fit(double scale)
{
    fm_sim_scenario_fitted_free(fitted);
    fitted = NULL;
    error = (struct fm_error){0};
    return fm_sim_scenario_fit(&scenario, scale, &fitted, &traces, &error);
}

static void end(void)
{
    fm_sim_scenario_fitted_free(fitted);
    fitted = NULL;
    fm_sim_scenario_deinit(&scenario);
}

TEST(what_is_measured_ends_with_the_load)
{
    begin();
    CHECK_INT_EQ(fit(1), 0);
    CHECK_UINT_EQ(fitted->measure_ns, 40 * MS + 1);
    CHECK(traces.shortened && traces.early == NULL);
    CHECK_UINT_EQ(traces.count, 1);
    CHECK_UINT_EQ(traces.left_out, 0);
    CHECK_INT_EQ(fit(4), 0);
    CHECK_UINT_EQ(fitted->measure_ns, 10 * MS + 1);
    CHECK_UINT_EQ(traces.end_ns, 10 * MS);
    /* What fits is not fitted again. */
    struct fm_sim_scenario once = *fitted;
    struct fm_sim_scenario *twice = NULL;
    CHECK_INT_EQ(fm_sim_scenario_fit(&once, 4, &twice, &traces, &error), 0);
    CHECK_PTR_EQ(twice, NULL);
    end();
}

TEST(a_slow_load_is_cut_off_and_counted)
{
    begin();
    CHECK_INT_EQ(fit(0.25), 0); /* at 0, 40, 80, 120 and 160 ms */
    CHECK_PTR_EQ(fitted, NULL);
    CHECK(!traces.shortened);
    CHECK_UINT_EQ(traces.left_out, 2);
    groups[0].count = 3;
    CHECK_INT_EQ(fit(0.25), 0);
    CHECK_UINT_EQ(traces.left_out, 6);
    /* Two models of Zipf's law, mean 1: 4/3 and 2/3 of it. */
    groups[0].count = 2;
    groups[0].popularity = 1;
    CHECK_INT_EQ(fit(0.25), 0); /* at 0, 30, ..., 120 and at 0, 60, ..., 240 ms */
    CHECK_UINT_EQ(traces.left_out, 1 + 3);
    CHECK_UINT_EQ(traces.end_ns, 240 * MS);
    end();
}

TEST(beside_others_a_trace_may_end_early)
{
    begin();
    scenario.group_count = 2;
    groups[1].arrivals = (struct fm_arrivals_spec){.kind = FM_ARRIVALS_POISSON, .rate_hz = 10};
    CHECK_INT_EQ(fit(1), 0);
    CHECK_PTR_EQ(fitted, NULL);
    CHECK_STR_EQ(traces.early, "a");
    CHECK_UINT_EQ(traces.early_ns, 40 * MS);
    CHECK(!traces.shortened);
    groups[0].arrivals = groups[1].arrivals;
    CHECK_INT_EQ(fit(1), 0);
    CHECK_UINT_EQ(traces.count, 0);
    end();
}

TEST(events_of_the_load_keep_its_pace)
{
    begin();
    scenario.events = events;
    scenario.event_count = 2;
    CHECK_INT_EQ(fit(2), 0);
    CHECK_UINT_EQ(fitted->events[1].at_ns, 30 * MS);
    scenario.events_keep_pace = true;
    CHECK_INT_EQ(fit(2), 0);
    CHECK_UINT_EQ(fitted->events[0].at_ns, 5 * MS);
    CHECK_UINT_EQ(fitted->events[1].at_ns, 15 * MS);
    CHECK_UINT_EQ(scenario.events[1].at_ns, 30 * MS);
    end();
}

TEST(a_load_that_is_over_before_the_interval_is_refused)
{
    begin();
    scenario.warmup_ns = 30 * MS;
    CHECK_INT_EQ(fit(1), 0);
    CHECK_UINT_EQ(fitted->measure_ns, 10 * MS + 1);
    CHECK_INT_EQ(fit(2), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "at 2 times the load the last request of the traces comes at "
                                   "0.02 s, before the measured interval begins, at 0.03 s");
    end();
}

TEST(a_run_divides_by_what_it_measured)
{
    begin();
    CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), 0);
    for (unsigned scale = 1; scale <= 4; scale *= 2) {
        struct fm_sim_run_options options = {.scale = scale};
        struct fm_sim_result *result = NULL;
        CHECK_INT_EQ(fm_sim_run(&scenario, &options, &result, &error), 0);
        CHECK_UINT_EQ(result->total.requests, 5);
        CHECK_NEAR(fm_sim_result_offered_rps(result), 125 * scale, 0.01);
        fm_sim_result_free(result);
    }
    end();
}

TEST_MAIN()
