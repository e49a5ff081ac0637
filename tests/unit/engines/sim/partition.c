/*
 * Scenarios in sub-clusters: one sub-cluster is the pool, several lose no request, and the plan
 * keeps memory and moves little.
 */
#include "engines/sim/partition.h"

#include "core/util/error.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define MB UINT64_C(1000000)

static struct fm_profile profile;
static struct fm_profile slower;
static struct fm_sim_group groups[2];
static struct fm_sim_pool pool;
static struct fm_sim_scenario scenario;
static struct fm_error error;

/* Twelve models of two kinds on eight accelerators. */
static void fresh(uint32_t clusters)
{
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
    profile = (struct fm_profile){0};
    slower = (struct fm_profile){0};
    if (fm_profile_add_affine(&profile, MS, 4 * MS, 64, NULL) != 0 ||
        fm_profile_add_affine(&slower, 2 * MS, 6 * MS, 64, NULL) != 0) {
        abort();
    }
    pool = (struct fm_sim_pool){.count = 8};
    groups[0] = (struct fm_sim_group){
        .name = "a",
        .count = 8,
        .popularity = 0.9,
        .slo_ns = 30 * MS,
        .memory_bytes = 100 * MB,
        .profiles = {&profile},
        .arrivals = {.kind = FM_ARRIVALS_POISSON, .rate_hz = 200},
    };
    groups[1] = (struct fm_sim_group){
        .name = "b",
        .count = 4,
        .slo_ns = 60 * MS,
        .memory_bytes = 300 * MB,
        .profiles = {&slower},
        .arrivals = {.kind = FM_ARRIVALS_GAMMA, .rate_hz = 100, .shape = 0.5},
    };
    scenario.type_count = 1;
    scenario.pools = &pool;
    scenario.pool_count = 1;
    scenario.groups = groups;
    scenario.group_count = 2;
    scenario.warmup_ns = 200 * MS;
    scenario.measure_ns = 1800 * MS;
    scenario.batch_max = 64;
    scenario.partition.clusters = clusters;
}

static struct fm_sim_result *simulate(void)
{
    struct fm_sim_run_options options = {
        .policy = FM_SCHED_POLICY_DEFERRED, .seed = 3, .scale = 1, .with_pool = true};
    struct fm_sim_result *result = NULL;
    error = (struct fm_error){0};
    if (fm_sim_scenario_check(&scenario, &error) == 0) {
        (void)!fm_sim_run(&scenario, &options, &result, &error);
    }
    return result;
}

static uint64_t outcomes(const struct fm_sim_counts *counts)
{
    uint64_t sum = counts->good + counts->late;
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        sum += counts->dropped[i];
    }
    return sum;
}

/* What holds of every run in sub-clusters. */
static void check_whole(const struct fm_sim_result *result)
{
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(result->audit.violations, 0);
    CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
    CHECK_UINT_EQ(result->total.requests, result->partition->pool.requests);
    CHECK_UINT_EQ(result->accelerator_count, 8);
    uint64_t requests = 0;
    for (uint32_t i = 0; i < result->partition->division->cluster_count; i++) {
        requests += result->partition->clusters[i].total.requests;
    }
    CHECK_UINT_EQ(requests, result->total.requests);
}

TEST(one_sub_cluster_is_the_pool)
{
    fresh(1);
    scenario.spread_sigma = 0.2;
    scenario.failure_share = 0.02;
    scenario.cancel_share = 0.05;
    scenario.cancel_delay_ns = 4 * MS;
    struct fm_sim_result *one = simulate();
    check_whole(one);
    scenario.partition.clusters = 0;
    struct fm_sim_result *none = simulate();
    CHECK_PTR_EQ(none->partition, NULL);
    CHECK_MEM_EQ(&one->total, &none->total, sizeof one->total);
    CHECK_MEM_EQ(&one->partition->pool, &none->total, sizeof none->total);
    CHECK_MEM_EQ(one->timeline, none->timeline, sizeof one->timeline);
    CHECK_UINT_EQ(one->latency.sum_ns, none->latency.sum_ns);
    CHECK_UINT_EQ(one->up_ns, none->up_ns);
    fm_sim_result_free(one);
    fm_sim_result_free(none);
}

TEST(several_lose_no_request)
{
    fresh(4);
    scenario.partition.memory_bytes = 600 * MB;
    struct fm_sim_result *result = simulate();
    check_whole(result);
    const struct fm_sim_solve *solve = &result->partition->division->solves[0];
    uint64_t demand = 0;
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_UINT_EQ(result->partition->division->accelerators[i], 2);
        CHECK(solve->clusters[i].memory_bytes <= 600 * MB);
        CHECK(result->partition->clusters[i].total.requests > 0);
        demand += solve->clusters[i].demand_milli;
    }
    CHECK_UINT_EQ(solve->first[12], solve->place_count);
    /* Planned is what batches as large as the SLO allows need: not more than is used. */
    printf("# %g planned, %g busy\n", (double)demand / 1000, fm_sim_result_busy(result));
    CHECK((double)demand / 1000 < fm_sim_result_busy(result));
    CHECK((double)demand / 1000 > fm_sim_result_busy(result) / 2);
    CHECK(fm_sim_result_touched(result) == 8);
    struct fm_sim_result *again = simulate();
    CHECK_UINT_EQ(result->trace_hash, again->trace_hash);
    fm_sim_result_free(again);
    fm_sim_result_free(result);
}

TEST(a_large_model_is_divided)
{
    fresh(2);
    groups[0].count = 1;
    groups[0].arrivals.rate_hz = 3500;
    groups[1].count = 1;
    scenario.group_count = 2;
    struct fm_sim_result *result = simulate();
    check_whole(result);
    const struct fm_sim_solve *solve = &result->partition->division->solves[0];
    CHECK_UINT_EQ(solve->first[1] - solve->first[0], 2);
    double share = (double)solve->places[0].below / (double)FM_SIM_DRAW_END;
    double found =
        (double)(result->partition->clusters[0].total.requests) / (double)result->total.requests;
    printf("# %g of the large model planned for the first, it has %g of all\n", share, found);
    CHECK_NEAR(found, share, 0.06);
    fm_sim_result_free(result);
}

TEST(it_is_solved_again_with_few_moves)
{
    static const struct fm_arrivals_step rising[] = {{.at_ns = 1000 * MS, .factor = 3}};
    fresh(2);
    scenario.partition.every_ns = 500 * MS;
    groups[1].count = 1;
    groups[1].arrivals.rate_hz = 150;
    groups[1].arrivals.steps = rising;
    groups[1].arrivals.step_count = 1;
    struct fm_sim_result *result = simulate();
    check_whole(result);
    const struct fm_sim_division *division = result->partition->division;
    CHECK_UINT_EQ(division->solve_count, 4);
    CHECK_UINT_EQ(division->solves[1].result.move_count, 0);
    CHECK(division->solves[2].result.move_count > 0 && division->solves[2].result.move_count <= 4);
    CHECK_UINT_EQ(division->solves[3].result.move_count, 0);
    CHECK(!division->solves[2].result.from_nothing);
    CHECK(division->solves[2].result.load_mean_permille >
          division->solves[1].result.load_mean_permille);
    fm_sim_result_free(result);
}

TEST(events_meet_those_they_are_for)
{
    const struct fm_profile *slow[FM_SCHED_TYPES_LIMIT] = {&slower};
    struct fm_sim_event events[] = {
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 600 * MS, .first = 3, .count = 2},
        {.kind = FM_SIM_EVENT_UP, .at_ns = 800 * MS, .first = 4, .count = 1},
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 900 * MS, .first = 0, .count = 2},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 1200 * MS, .first = 0, .count = 2},
        {.kind = FM_SIM_EVENT_REPROFILED, .at_ns = 1300 * MS, .count = 4, .profiles = slow},
        {.kind = FM_SIM_EVENT_REPROFILED,
         .at_ns = 1500 * MS,
         .count = 4,
         .profiles = slow,
         .change = FM_SIM_CHANGE_TRUTH},
    };
    fresh(2);
    groups[0].clients_leave = true;
    scenario.events = events;
    scenario.event_count = 6;
    scenario.attempts_max = 2;
    struct fm_sim_result *result = simulate();
    check_whole(result);
    const struct fm_sim_division *division = result->partition->division;
    CHECK_UINT_EQ(division->solve_count, 4); /* not for what nobody is told */
    CHECK_UINT_EQ(division->solves[1].at_ns, 900 * MS);
    CHECK(division->solves[1].result.load_mean_permille <
          division->solves[0].result.load_mean_permille);
    CHECK(division->solves[3].result.load_mean_permille >
          division->solves[2].result.load_mean_permille);
    CHECK_UINT_EQ(result->up_min, 6);
    CHECK_UINT_EQ(result->up_max, 8);
    CHECK_NEAR(fm_sim_result_up(result), (8 * 0.4 + 6 * 0.2 + 7 * 1.2) / 1.8, 1e-9);
    fm_sim_result_free(result);
}

TEST(no_allocation_that_fails_does_harm)
{
    struct fm_sim_event events[] = {
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 20 * MS, .first = 0, .count = 1},
    };
    int status = FM_ENOMEM;
    uint64_t nth = 1;
    for (; status != 0 && nth < 5000; nth++) {
        struct fm_sim_run_options options = {
            .policy = FM_SCHED_POLICY_DEFERRED, .seed = 3, .scale = 1, .with_pool = true};
        struct fm_sim_result *result = NULL;
        fresh(2);
        groups[0].count = 2;
        groups[1].count = 1;
        groups[0].clients_leave = true;
        groups[0].slo_choices[0] =
            (struct fm_sim_choice){.value = 30 * MS, .below = FM_SIM_DRAW_END / 2};
        groups[0].slo_choices[1] =
            (struct fm_sim_choice){.value = 60 * MS, .below = FM_SIM_DRAW_END};
        groups[0].slo_choice_count = 2;
        scenario.events = events;
        scenario.event_count = 1;
        scenario.warmup_ns = 0;
        scenario.measure_ns = 40 * MS;
        error = (struct fm_error){0};
        (void)fm_memory_fail_at(nth, 0);
        status = fm_sim_scenario_check(&scenario, &error);
        status = status == 0 ? fm_sim_run(&scenario, &options, &result, &error) : status;
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
        CHECK_INT_EQ(error.status, status);
        CHECK((result != NULL) == (status == 0));
        fm_sim_result_free(result);
    }
    printf("# %llu allocations failed in turn\n", (unsigned long long)nth - 2);
    CHECK_INT_EQ(status, 0);
}

TEST(what_cannot_be_is_refused)
{
    fresh(9);
    CHECK_PTR_EQ(simulate(), NULL);
    CHECK_INT_EQ(error.status, FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "9 sub-clusters, but only 8 accelerators of type");
    fresh(2);
    scenario.partition.memory_bytes = 200 * MB;
    CHECK_PTR_EQ(simulate(), NULL);
    CHECK_INT_EQ(error.status, FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "at 0 s: ");
    fresh(2);
    scenario.partition.memory_bytes = 700 * MB;
    CHECK_PTR_EQ(simulate(), NULL);
    CHECK_INT_EQ(error.status, FM_ELIMIT);
    fresh(2);
    scenario.partition.every_ns = 1000;
    CHECK_PTR_EQ(simulate(), NULL);
    CHECK_STR_CONTAINS(error.text, "give a longer 'every'");
    fresh(2);
    scenario.autoscale.on = true;
    CHECK_PTR_EQ(simulate(), NULL);
    CHECK_STR_CONTAINS(error.text, "'partition' and 'autoscale' do not go together");
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST_MAIN()
