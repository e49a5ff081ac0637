/*
 * The simulated world: scenarios worked out by hand, action by action; the same seed gives the same
 * run; faults lose nothing.
 */
#include "engines/sim/world.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/sim/search.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

static struct fm_profile profile;
static struct fm_sim_group group;
static struct fm_sim_pool pool;
static struct fm_sim_scenario scenario;
static struct fm_error error;

/* One model of alpha 1 ms and beta 4 ms, and the times of its requests. */
static void tiny(uint64_t slo_ns, const uint64_t *times_ns, uint64_t count)
{
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
    profile = (struct fm_profile){0};
    if (fm_profile_add_affine(&profile, MS, 4 * MS, 64, NULL) != 0) {
        abort();
    }
    pool = (struct fm_sim_pool){.count = 1};
    group = (struct fm_sim_group){
        .name = "m",
        .count = 1,
        .slo_ns = slo_ns,
        .profiles = {&profile},
        .arrivals = {.kind = FM_ARRIVALS_TRACE, .times_ns = times_ns, .time_count = count},
    };
    scenario.type_count = 1;
    scenario.pools = &pool;
    scenario.pool_count = 1;
    scenario.groups = &group;
    scenario.group_count = 1;
    scenario.warmup_ns = 0;
    scenario.measure_ns = 1000 * MS;
    scenario.batch_max = 64;
}

/* Eight models and bursts: enough for every path. */
static void busy(uint32_t accelerators, double rate_hz)
{
    tiny(25 * MS, NULL, 0);
    pool.count = accelerators;
    group.count = 8;
    group.popularity = 0.9;
    group.arrivals =
        (struct fm_arrivals_spec){.kind = FM_ARRIVALS_GAMMA, .rate_hz = rate_hz, .shape = 0.5};
    scenario.warmup_ns = 200 * MS;
}

static void action_write(void *context, uint64_t now_ns, const struct fm_sched_action *action,
                         const uint32_t *requests)
{
    struct fm_text *text = context;
    if (action->kind == FM_SCHED_ACTION_START) {
        fm_text_append_format(text, "%g: start %llu on %u at %g to %g:", (double)now_ns / 1e6,
                              (unsigned long long)action->batch, action->accelerator,
                              (double)action->start_ns / 1e6, (double)action->expected_ns / 1e6);
        for (uint32_t i = 0; i < action->request_count; i++) {
            fm_text_append_format(text, " %u", requests[i]);
        }
        fm_text_append_string(text, "\n");
    } else {
        fm_text_append_format(text, "%.9g: drop %u %s\n", (double)now_ns / 1e6, action->request,
                              fm_sched_drop_reason_name(action->reason));
    }
}

static struct fm_sim_result *simulate(enum fm_sched_policy_kind policy, uint64_t seed,
                                      struct fm_text *actions)
{
    struct fm_sim_run_options options = {
        .policy = policy,
        .seed = seed,
        .scale = 1,
        .on_action = actions != NULL ? action_write : NULL,
        .context = actions,
    };
    struct fm_sim_result *result = NULL;
    error = (struct fm_error){0};
    if (fm_sim_scenario_check(&scenario, &error) == 0) {
        (void)!fm_sim_run(&scenario, &options, &result, &error);
    }
    return result;
}

TEST(eager_worked_by_hand)
{
    /* The first is started alone; what comes while it runs is started together when it ends. Slots
     * are taken and given back like plates: 0, then 1 and 2; the last comes when all are free, and
     * takes the one that came free last. */
    static const uint64_t times[] = {0, 1 * MS, 2 * MS, 30 * MS};
    struct fm_text actions = {0};
    tiny(20 * MS, times, 4);
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 5: 0\n"
                               "5: start 2 on 0 at 5 to 11: 1 2\n"
                               "30: start 3 on 0 at 30 to 35: 2\n");
    CHECK_UINT_EQ(result->audit.violations, 0);
    CHECK_UINT_EQ(result->total.requests, 4);
    CHECK_UINT_EQ(result->total.good, 4);
    CHECK_UINT_EQ(result->total.batches, 3);
    CHECK_UINT_EQ(result->accelerators[0].busy_ns, 16 * MS);
    CHECK_UINT_EQ(result->batch_sizes[1], 2);
    CHECK_UINT_EQ(result->batch_sizes[2], 1);
    CHECK_UINT_EQ(result->latency.sum_ns, (5 + 10 + 9 + 5) * MS);
    CHECK_UINT_EQ(result->latency.max_ns, 10 * MS);
    CHECK_NEAR(fm_sim_counts_batch_mean(&result->total), 4 / 3.0, 1e-9);
    CHECK_NEAR(fm_sim_result_busy(result), 0.016, 1e-9);
    CHECK_UINT_EQ(fm_sim_result_touched(result), 1);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(latest_worked_by_hand)
{
    /* Three requests wait until the last moment of the first: 20 - l(3) = 13 ms. */
    static const uint64_t times[] = {0, 1 * MS, 2 * MS};
    struct fm_text actions = {0};
    tiny(20 * MS, times, 3);
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_LATEST, 1, &actions);
    CHECK_STR_EQ(actions.data, "13: start 1 on 0 at 13 to 20: 0 1 2\n");
    CHECK_UINT_EQ(result->latency.sum_ns, (20 + 19 + 18) * MS);
    CHECK_UINT_EQ(result->total.good, 3);
    CHECK_UINT_EQ(result->total.late, 0);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(the_network_worked_by_hand)
{
    /* Control 1 ms, 0.5 ms for the request's input, l(1) = 5 ms, answer 2 ms: 8.5 ms. */
    static const uint64_t times[] = {10 * MS};
    struct fm_text actions = {0};
    tiny(20 * MS, times, 1);
    scenario.control_ns = MS;
    scenario.data_ns = MS / 2;
    scenario.result_ns = 2 * MS;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(actions.data, "10: start 1 on 0 at 11.5 to 16.5: 0\n");
    CHECK_UINT_EQ(result->latency.sum_ns, 8500000);
    CHECK_UINT_EQ(result->accelerators[0].busy_ns, 5 * MS);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(a_request_without_an_accelerator_is_dropped)
{
    /* The accelerator is busy until 5 ms; the second request had to start at 1 + 6 - 5 = 2 ms. */
    static const uint64_t times[] = {0, 1 * MS};
    struct fm_text actions = {0};
    tiny(6 * MS, times, 2);
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 5: 0\n"
                               "2.000001: drop 1 late\n");
    CHECK_UINT_EQ(result->total.dropped[FM_SCHED_DROP_LATE], 1);
    CHECK_NEAR(fm_sim_counts_bad_rate(&result->total), 0.5, 1e-9);
    CHECK_UINT_EQ(result->audit.violations, 0);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(a_slow_accelerator_answers_late)
{
    static const uint64_t times[] = {10 * MS};
    static struct fm_sim_event faults[] = {
        {.kind = FM_SIM_EVENT_SLOW, .at_ns = 5 * MS, .count = 1, .permille = 5000}};
    tiny(20 * MS, times, 1);
    scenario.events = faults;
    scenario.event_count = 1;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, NULL);
    CHECK_UINT_EQ(result->total.late + result->total.dropped[FM_SCHED_DROP_LATE], 1);
    CHECK_UINT_EQ(result->total.good, 0);
    CHECK_UINT_EQ(result->audit.violations, 0);
    fm_sim_result_free(result);
}

TEST(the_same_seed_gives_the_same_run)
{
    for (unsigned policy = 0; policy < FM_SCHED_POLICY_COUNT_; policy++) {
        busy(4, 150);
        struct fm_sim_result *first = simulate((enum fm_sched_policy_kind)policy, 1, NULL);
        struct fm_sim_result *again = simulate((enum fm_sched_policy_kind)policy, 1, NULL);
        struct fm_sim_result *other = simulate((enum fm_sched_policy_kind)policy, 2, NULL);
        CHECK(first != NULL && again != NULL && other != NULL);
        printf("# %s: %016llx\n", fm_sched_policy_name((enum fm_sched_policy_kind)policy),
               (unsigned long long)first->trace_hash);
        CHECK_STR_EQ(first->audit.first, "");
        CHECK_UINT_EQ(first->trace_hash, again->trace_hash);
        CHECK(first->trace_hash != other->trace_hash);
        CHECK_UINT_EQ(first->total.requests, again->total.requests);
        CHECK_UINT_EQ(first->latency.sum_ns, again->latency.sum_ns);
        CHECK(first->total.requests > 1000);
        fm_sim_result_free(first);
        fm_sim_result_free(again);
        fm_sim_result_free(other);
    }
}

static uint64_t outcomes(const struct fm_sim_counts *counts)
{
    uint64_t sum = counts->good + counts->late;
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        sum += counts->dropped[i];
    }
    return sum;
}

TEST(faults_lose_no_request)
{
    static struct fm_sim_event faults[] = {
        {.kind = FM_SIM_EVENT_UP, .at_ns = 900 * MS, .first = 1, .count = 2},
        {.kind = FM_SIM_EVENT_SLOW, .at_ns = 300 * MS, .first = 0, .count = 2, .permille = 2000},
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 500 * MS, .first = 1, .count = 3},
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 501 * MS, .first = 1, .count = 1}, /* already */
        {.kind = FM_SIM_EVENT_SLOW, .at_ns = 950 * MS, .first = 0, .count = 4, .permille = 1000},
    };
    for (uint64_t seed = 1; seed <= 5; seed++) {
        busy(4, 150);
        scenario.events = faults;
        scenario.event_count = 5;
        scenario.spread_sigma = 0.3;
        scenario.failure_share = 0.05;
        scenario.failure_seed = seed;
        scenario.cancel_share = 0.1;
        scenario.cancel_delay_ns = 3 * MS;
        scenario.attempts_max = 3;
        scenario.control_ns = seed % 2 * 100000;
        scenario.data_ns = seed % 2 * 50000;
        struct fm_sim_result *result = simulate(FM_SCHED_POLICY_DEFERRED, seed, NULL);
        CHECK_STR_EQ(error.text, "");
        CHECK_STR_EQ(result->audit.first, "");
        CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
        CHECK(result->failed > 0 && result->total.dropped[FM_SCHED_DROP_CANCELLED] > 0);
        fm_sim_result_free(result);
    }
}

/* Thirty seconds of much, then little, then much load on up to twelve accelerators. */
static void breathing(void)
{
    static const struct fm_arrivals_step steps[] = {
        {.at_ns = 0, .factor = 1},
        {.at_ns = 10000 * MS, .factor = 0.1},
        {.at_ns = 20000 * MS, .factor = 1},
    };
    busy(12, 500);
    group.popularity = 0;
    group.arrivals.shape = 1;
    group.arrivals.kind = FM_ARRIVALS_POISSON;
    group.arrivals.steps = steps;
    group.arrivals.step_count = 3;
    scenario.warmup_ns = 1000 * MS;
    scenario.measure_ns = 29000 * MS;
    scenario.autoscale = (struct fm_sim_autoscale){
        .on = true,
        .initial = 12,
        .interval_ns = 200 * MS,
        .start_delay_ns = 500 * MS,
        .advice = {.accelerators_min = 1,
                   .headroom_permille = 200,
                   .bad_tolerated_permyriad = 100,
                   .surplus_hold_ns = 2000 * MS,
                   .lack_hold_ns = 400 * MS,
                   .cooldown_ns = 700 * MS},
    };
}

static double up_at(const struct fm_sim_result *result, uint64_t time_ns)
{
    return (double)result->timeline[time_ns / result->bucket_ns].up_ns / (double)result->bucket_ns;
}

/* Seven tenths want an answer in 20 ms, the others have 100 ms; every second is less important. */
static void draw_classes(void)
{
    group.slo_choices[0] =
        (struct fm_sim_choice){.value = 20 * MS, .below = FM_SIM_DRAW_END / 10 * 7};
    group.slo_choices[1] = (struct fm_sim_choice){.value = 100 * MS, .below = FM_SIM_DRAW_END};
    group.slo_choice_count = 2;
    group.priority_choices[0] = (struct fm_sim_choice){.value = 0, .below = FM_SIM_DRAW_END / 2};
    group.priority_choices[1] = (struct fm_sim_choice){.value = 3, .below = FM_SIM_DRAW_END};
    group.priority_choice_count = 2;
    group.slo_ns = 20 * MS;
}

TEST(requests_draw_their_slo_and_priority)
{
    busy(4, 150);
    struct fm_sim_result *alike = simulate(FM_SCHED_POLICY_DEFERRED, 1, NULL);
    busy(4, 150);
    draw_classes();
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_DEFERRED, 1, NULL);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(result->total.requests, alike->total.requests); /* the same arrivals */
    CHECK_PTR_EQ(alike->models[0].classes, NULL);
    double share = 0;
    for (uint32_t i = 0; i < result->model_count; i++) {
        const struct fm_sim_model_result *model = &result->models[i];
        struct fm_sim_counts sum = {0};
        CHECK_UINT_EQ(model->class_count, 4);
        for (uint32_t j = 0; j < 4; j++) {
            const struct fm_sim_class_result *class = &model->classes[j];
            CHECK_UINT_EQ(class->slo_ns, (j < 2 ? 20 : 100) * MS);
            CHECK_UINT_EQ(class->priority, j % 2 * 3);
            CHECK_UINT_EQ(outcomes(&class->counts), class->counts.requests);
            sum.requests += class->counts.requests;
            sum.good += class->counts.good;
            share += j < 2 ? (double)class->counts.requests : 0;
        }
        CHECK_UINT_EQ(sum.requests, model->counts.requests);
        CHECK_UINT_EQ(sum.good, model->counts.good);
    }
    CHECK_NEAR(share / (double)result->total.requests, 0.7, 0.05);
    fm_sim_result_free(alike);
    fm_sim_result_free(result);
}

TEST(deadlines_and_priorities_worked_by_hand)
{
    /* The budgets of the trace are 10, 30 and 12 ms: the accelerator is free at 5 ms, and then the
     * third, which must start by 1 + 12 - 6, goes in front of the second. */
    static const uint64_t times[] = {0, 1 * MS, 1 * MS};
    static const uint64_t budgets[] = {10 * MS, 30 * MS, 12 * MS};
    struct fm_text actions = {0};
    tiny(20 * MS, times, 3);
    group.budgets_ns = budgets;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 5: 0\n"
                               "5: start 2 on 0 at 5 to 11: 2 1\n");
    CHECK_UINT_EQ(result->total.good, 3);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

/* What happens to the only model of `tiny`. */
static struct fm_sim_event model_event(enum fm_sim_event_kind kind, uint64_t at_ns)
{
    return (struct fm_sim_event){.kind = kind, .at_ns = at_ns, .count = 1};
}

TEST(a_model_goes_and_comes_worked_by_hand)
{
    /* What runs ends, what waits is let go, and who asks meanwhile asks in vain. */
    static const uint64_t times[] = {0, 1 * MS, 10 * MS, 20 * MS};
    struct fm_sim_event events[] = {model_event(FM_SIM_EVENT_MODEL_REMOVED, 2 * MS),
                                    model_event(FM_SIM_EVENT_MODEL_ADDED, 15 * MS)};
    struct fm_text actions = {0};
    tiny(20 * MS, times, 4);
    scenario.events = events;
    scenario.event_count = 2;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 5: 0\n"
                               "2: drop 1 model_gone\n"
                               "10: drop 0 model_gone\n"
                               "20: start 2 on 0 at 20 to 25: 0\n");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(result->total.requests, 4);
    CHECK_UINT_EQ(result->total.good, 2);
    CHECK_NEAR(fm_sim_counts_bad_rate(&result->total), 0.5, 1e-9);
    fm_sim_result_free(result);
    group.clients_leave = true;
    fm_text_deinit(&actions);
    result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 5: 0\n"
                               "2: drop 1 model_gone\n"
                               "20: start 2 on 0 at 20 to 25: 0\n");
    CHECK_UINT_EQ(result->total.requests, 3);
    CHECK_UINT_EQ(result->requests_all, 3);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
    group.absent = true; /* it comes at 15 ms for the first time */
    scenario.events = events + 1;
    scenario.event_count = 1;
    result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(actions.data, "20: start 1 on 0 at 20 to 25: 0\n");
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(a_new_profile_worked_by_hand)
{
    /* l(1) is 5 ms at first, then 10 ms: as the scheduler expects, and as it is. */
    static const struct {
        enum fm_sim_change change;
        const char *actions;
        uint64_t latency_ns;
    } cases[] = {
        {FM_SIM_CHANGE_BOTH, "10: start 1 on 0 at 10 to 20: 0\n", 10 * MS},
        {FM_SIM_CHANGE_TRUTH, "10: start 1 on 0 at 10 to 15: 0\n", 10 * MS},
        {FM_SIM_CHANGE_PROMISE, "10: start 1 on 0 at 10 to 20: 0\n", 5 * MS},
    };
    static const uint64_t times[] = {10 * MS};
    static struct fm_profile slower;
    slower = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&slower, 2 * MS, 8 * MS, 64, NULL), 0);
    const struct fm_profile *profiles[FM_SCHED_TYPES_LIMIT] = {&slower};
    for (unsigned i = 0; i < FM_COUNT_OF(cases); i++) {
        struct fm_sim_event event = model_event(FM_SIM_EVENT_REPROFILED, 5 * MS);
        struct fm_text actions = {0};
        event.profiles = profiles;
        event.change = cases[i].change;
        tiny(20 * MS, times, 1);
        scenario.events = &event;
        scenario.event_count = 1;
        struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
        CHECK_STR_EQ(error.text, "");
        CHECK_STR_EQ(actions.data, cases[i].actions);
        CHECK_UINT_EQ(result->latency.sum_ns, cases[i].latency_ns);
        CHECK_UINT_EQ(result->audit.violations, 0);
        fm_sim_result_free(result);
        fm_text_deinit(&actions);
    }
}

/* Models come, go and change under load, some at once, some while batches stand behind others. */
TEST(models_may_change_at_any_time)
{
    static struct fm_profile slower;
    slower = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&slower, 2 * MS, 5 * MS, 64, NULL), 0);
    const struct fm_profile *slow[FM_SCHED_TYPES_LIMIT] = {&slower};
    const struct fm_profile *as_before[FM_SCHED_TYPES_LIMIT] = {&profile};
    struct fm_sim_event events[] = {
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 300 * MS, .first = 0, .count = 1},
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 300 * MS, .first = 3, .count = 3},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 300 * MS, .first = 0, .count = 1},
        {.kind = FM_SIM_EVENT_REPROFILED, .at_ns = 400 * MS, .count = 2, .profiles = slow},
        {.kind = FM_SIM_EVENT_REPROFILED,
         .at_ns = 500 * MS,
         .first = 4, /* which is away: when it comes */
         .count = 1,
         .profiles = slow},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 600 * MS, .first = 0, .count = 8},
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 700 * MS, .count = 1},
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 700 * MS, .first = 0, .count = 8},
        {.kind = FM_SIM_EVENT_UP, .at_ns = 710 * MS, .count = 1},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 720 * MS, .first = 0, .count = 8},
        {.kind = FM_SIM_EVENT_REPROFILED,
         .at_ns = 900 * MS,
         .count = 8,
         .profiles = as_before,
         .change = FM_SIM_CHANGE_PROMISE},
        {.kind = FM_SIM_EVENT_REPROFILED,
         .at_ns = 950 * MS,
         .count = 8,
         .profiles = slow,
         .change = FM_SIM_CHANGE_TRUTH},
    };
    for (unsigned i = 0; i < 4 * FM_SCHED_POLICY_COUNT_; i++) {
        enum fm_sched_policy_kind policy = (enum fm_sched_policy_kind)(i / 4);
        busy(4, 150);
        draw_classes();
        scenario.events = events;
        scenario.event_count = FM_COUNT_OF(events);
        scenario.attempts_max = 2;
        scenario.control_ns = i % 2 * 200000; /* batches stand behind one another */
        scenario.learn = i % 4 > 1;
        scenario.cancel_share = 0.05;
        scenario.cancel_delay_ns = 3 * MS;
        struct fm_sim_result *result = simulate(policy, i, NULL);
        struct fm_sim_result *again = simulate(policy, i, NULL);
        CHECK_STR_EQ(error.text, "");
        CHECK_STR_EQ(result->audit.first, "");
        CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
        CHECK_UINT_EQ(result->trace_hash, again->trace_hash);
        CHECK(result->total.dropped[FM_SCHED_DROP_MODEL_GONE] > 50);
        CHECK(result->total.good > 100);
        fm_sim_result_free(result);
        fm_sim_result_free(again);
    }
}

/* Stages of two models that have no requests of their own; l(b) is b + 4 ms, and 2 b + 2 ms. */
static void two_stages(const uint64_t *times_ns, uint64_t count)
{
    static struct fm_profile second;
    static struct fm_sim_group groups[2];
    static struct fm_sim_pipeline pipeline;
    tiny(20 * MS, times_ns, count);
    second = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&second, 2 * MS, 2 * MS, 64, NULL), 0);
    groups[0] =
        (struct fm_sim_group){.name = "first", .count = 1, .profiles = {&profile}, .silent = true};
    groups[1] = groups[0];
    groups[1].name = "second";
    groups[1].profiles[0] = &second;
    pipeline = (struct fm_sim_pipeline){
        .name = "p",
        .slo_ns = 40 * MS,
        .stages = {0, 1},
        .stage_count = 2,
        .even = true,
        .arrivals = group.arrivals,
    };
    scenario.groups = groups;
    scenario.group_count = 2;
    scenario.pipelines = &pipeline;
    scenario.pipeline_count = 1;
}

TEST(a_pipeline_worked_by_hand)
{
    /* Both go through the first together, then through the second, in the step that ends the first:
     * counted once, from arrival to the last answer. The third has its 20 ms for the first stage,
     * and hands on what it did not need. */
    static const uint64_t times[] = {0, 0, 30 * MS};
    struct fm_text actions = {0};
    two_stages(times, 3);
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_EAGER, 1, &actions);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(actions.data, "0: start 1 on 0 at 0 to 6: 0 1\n"
                               "6: start 2 on 0 at 6 to 12: 0 1\n"
                               "30: start 3 on 0 at 30 to 35: 1\n"
                               "35: start 4 on 0 at 35 to 39: 1\n");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(result->total.requests, 3);
    CHECK_UINT_EQ(result->total.good, 3);
    CHECK_UINT_EQ(result->total.batches, 4);
    CHECK_UINT_EQ(result->requests_all, 3);
    CHECK_UINT_EQ(result->latency.sum_ns, (12 + 12 + 9) * MS);
    CHECK_UINT_EQ(result->pipelines[0].counts.good, 3);
    CHECK_UINT_EQ(result->pipelines[0].stages[0].good, 3);
    CHECK_UINT_EQ(result->pipelines[0].stages[1].requests, 3);
    CHECK_UINT_EQ(result->models[0].counts.requests, 0);
    CHECK_UINT_EQ(result->models[1].counts.rows, 3);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);

    /* Each stage's answer is 1 ms under way; the policy waits as long as a stage's share allows:
     * until 20 - 1 - 5, and, 20 - 5 - 1 ms after that share's end, 40 - 1 - 4. */
    two_stages(times, 1);
    scenario.result_ns = MS;
    result = simulate(FM_SCHED_POLICY_LATEST, 1, &actions);
    CHECK_STR_EQ(actions.data, "14: start 1 on 0 at 14 to 19: 0\n"
                               "35: start 2 on 0 at 35 to 39: 0\n");
    CHECK_UINT_EQ(result->latency.sum_ns, 40 * MS);
    CHECK_UINT_EQ(result->total.good, 1);
    fm_sim_result_free(result);
    fm_text_deinit(&actions);
}

TEST(pipelines_lose_no_request)
{
    static struct fm_sim_event events[] = {
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 500 * MS, .first = 1, .count = 2},
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 600 * MS, .first = 1, .count = 1},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 650 * MS, .first = 1, .count = 1},
        {.kind = FM_SIM_EVENT_UP, .at_ns = 700 * MS, .first = 1, .count = 2},
    };
    for (unsigned i = 0; i < 2 * FM_SCHED_POLICY_COUNT_; i++) {
        two_stages(NULL, 0);
        pool.count = 4;
        scenario.pipelines[0].even = false;
        scenario.pipelines[0].arrivals =
            (struct fm_arrivals_spec){.kind = FM_ARRIVALS_POISSON, .rate_hz = 900};
        scenario.groups[1].silent = false; /* others ask for the second alone */
        scenario.groups[1].slo_ns = 25 * MS;
        scenario.groups[1].arrivals =
            (struct fm_arrivals_spec){.kind = FM_ARRIVALS_POISSON, .rate_hz = 100};
        scenario.warmup_ns = 100 * MS;
        scenario.events = events;
        scenario.event_count = FM_COUNT_OF(events);
        scenario.failure_share = 0.02;
        scenario.cancel_share = 0.05;
        scenario.cancel_delay_ns = 15 * MS;
        scenario.attempts_max = 2;
        scenario.spread_sigma = 0.1;
        scenario.result_ns = i % 2 * MS;
        scenario.control_ns = i % 2 * MS / 10;
        struct fm_sim_result *result = simulate((enum fm_sched_policy_kind)(i / 2), i, NULL);
        struct fm_sim_result *again = simulate((enum fm_sched_policy_kind)(i / 2), i, NULL);
        CHECK_STR_EQ(error.text, "");
        CHECK_STR_EQ(result->audit.first, "");
        CHECK_UINT_EQ(result->trace_hash, again->trace_hash);
        const struct fm_sim_pipeline_result *pipeline = &result->pipelines[0];
        CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
        CHECK_UINT_EQ(outcomes(&pipeline->counts), pipeline->counts.requests);
        CHECK_UINT_EQ(pipeline->counts.requests + result->models[1].counts.requests,
                      result->total.requests);
        /* Every stage's requests are those that the one before it answered. */
        CHECK_UINT_EQ(pipeline->stages[0].requests, pipeline->counts.requests);
        CHECK_UINT_EQ(outcomes(&pipeline->stages[0]), pipeline->stages[0].requests);
        CHECK_UINT_EQ(outcomes(&pipeline->stages[1]), pipeline->stages[1].requests);
        CHECK_UINT_EQ(pipeline->stages[0].good + pipeline->stages[0].late,
                      pipeline->stages[1].requests);
        CHECK(pipeline->counts.good > 300);
        CHECK(pipeline->counts.dropped[FM_SCHED_DROP_MODEL_GONE] > 0);
        fm_sim_result_free(result);
        fm_sim_result_free(again);
    }
}

TEST(no_allocation_of_a_pipeline_that_fails_does_harm)
{
    static const uint64_t times[] = {0, 0, 30 * MS};
    int status = FM_ENOMEM;
    for (uint64_t nth = 1; status != 0 && nth < 2000; nth++) {
        struct fm_sim_run_options options = {
            .policy = FM_SCHED_POLICY_DEFERRED, .seed = 1, .scale = 1};
        struct fm_sim_result *result = NULL;
        two_stages(times, 3);
        scenario.pipelines[0].even = false;
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
    CHECK_INT_EQ(status, 0);
}

TEST(a_split_by_work_takes_more_load)
{
    double good[2];
    static struct fm_profile light; /* half of the time is too much for it */
    light = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&light, MS / 20, MS / 2, 64, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        two_stages(NULL, 0);
        pool.count = 4;
        scenario.groups[1].profiles[0] = &light;
        scenario.pipelines[0].even = i == 1;
        scenario.pipelines[0].slo_ns = 30 * MS;
        scenario.pipelines[0].arrivals =
            (struct fm_arrivals_spec){.kind = FM_ARRIVALS_POISSON, .rate_hz = 900};
        struct fm_sim_task task = {.policy = FM_SCHED_POLICY_DEFERRED, .seed = 1, .scale = 1};
        struct fm_sim_search_options options = {
            .thread_count = 1, .find_goodput = true, .bad_rate = 0.01};
        CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), 0);
        CHECK_UINT_EQ(scenario.pipelines[0].due_ns[1], 30 * MS);
        printf("# first stage: %g ms\n", (double)scenario.pipelines[0].due_ns[0] / 1e6);
        CHECK_INT_EQ(fm_sim_search(&scenario, &options, &task, 1, &error), 0);
        CHECK_UINT_EQ(task.summary.violations, 0);
        good[i] = task.summary.goodput_rps;
    }
    printf("# by work %g, evenly %g\n", good[0], good[1]);
    CHECK(good[0] > 1.05 * good[1]);
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST(autoscaling_follows_the_load)
{
    static const enum fm_sched_policy_kind policies[] = {
        FM_SCHED_POLICY_DEFERRED, FM_SCHED_POLICY_EAGER, FM_SCHED_POLICY_CLOCKWORK};
    for (unsigned i = 0; i < 6; i++) {
        breathing();
        scenario.control_ns = i % 2 * 200000; /* batches stand behind one another */
        struct fm_sim_result *result = simulate(policies[i / 2], 1, NULL);
        CHECK_STR_EQ(error.text, "");
        CHECK_STR_EQ(result->audit.first, "");
        printf("# %g up at 9 s, %g at 19 s, %g at 29 s, %llu failed\n", up_at(result, 9000 * MS),
               up_at(result, 19000 * MS), up_at(result, 29000 * MS),
               (unsigned long long)result->failed);
        CHECK_UINT_EQ(result->failed, 0); /* nothing is lost by going */
        CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
        CHECK(up_at(result, 9000 * MS) > 2 * up_at(result, 19000 * MS));
        CHECK(up_at(result, 29000 * MS) > 2 * up_at(result, 19000 * MS));
        CHECK(result->autoscale.started > 0 && result->autoscale.changes >= 2);
        CHECK(result->up_min < result->up_max && result->up_max <= 12);
        CHECK(fm_sim_result_busy(result) < fm_sim_result_up(result));
        CHECK_NEAR(fm_sim_result_accelerator_hours(result),
                   fm_sim_result_up(result) * 29 / 3600 + (double)result->starting_ns / 3600e9,
                   1e-9);
        CHECK(result->starting_ns > 0);
        struct fm_sim_result *again = simulate(policies[i / 2], 1, NULL);
        CHECK_UINT_EQ(result->trace_hash, again->trace_hash);
        fm_sim_result_free(again);
        fm_sim_result_free(result);
    }
}

TEST(autoscaling_and_events_get_along)
{
    static struct fm_sim_event faults[] = {
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 3000 * MS, .first = 0, .count = 2},
        /* One that is away, and comes back as away. */
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 15000 * MS, .first = 11, .count = 1},
        {.kind = FM_SIM_EVENT_UP, .at_ns = 16000 * MS, .first = 11, .count = 1},
        {.kind = FM_SIM_EVENT_SLOW, .at_ns = 16000 * MS, .first = 10, .count = 1, .permille = 3000},
        {.kind = FM_SIM_EVENT_UP, .at_ns = 17000 * MS, .first = 0, .count = 2},
        {.kind = FM_SIM_EVENT_DOWN, .at_ns = 20500 * MS, .first = 4, .count = 2}, /* starting */
    };
    breathing();
    scenario.events = faults;
    scenario.event_count = 6;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_DEFERRED, 1, NULL);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
    CHECK(result->up_max <= 12);
    /* `up` starts nothing that is not wanted, while the load is falling. */
    CHECK(up_at(result, 16500 * MS) <= up_at(result, 14900 * MS));
    CHECK(up_at(result, 29000 * MS) <= 10 && up_at(result, 29000 * MS) > 6);
    fm_sim_result_free(result);
}

TEST(autoscaling_follows_the_models)
{
    /* Six of eight models go for ten seconds. Who asks for them is turned away, but that is no lack
     * of accelerators. */
    static struct fm_sim_event events[] = {
        {.kind = FM_SIM_EVENT_MODEL_REMOVED, .at_ns = 10000 * MS, .first = 0, .count = 6},
        {.kind = FM_SIM_EVENT_MODEL_ADDED, .at_ns = 20000 * MS, .first = 0, .count = 6},
    };
    breathing();
    group.arrivals.step_count = 0;
    scenario.events = events;
    scenario.event_count = 2;
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_DEFERRED, 1, NULL);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(result->audit.first, "");
    CHECK_UINT_EQ(outcomes(&result->total), result->total.requests);
    printf("# %g up at 9 s, %g at 19 s, %g at 29 s\n", up_at(result, 9000 * MS),
           up_at(result, 19000 * MS), up_at(result, 29000 * MS));
    CHECK(result->total.dropped[FM_SCHED_DROP_MODEL_GONE] > 10000);
    CHECK(up_at(result, 9000 * MS) > 1.5 * up_at(result, 19000 * MS));
    CHECK(up_at(result, 29000 * MS) > 1.5 * up_at(result, 19000 * MS));
    CHECK_UINT_EQ(result->failed, 0);
    fm_sim_result_free(result);
}

TEST(all_are_up_without_autoscaling)
{
    busy(4, 150);
    struct fm_sim_result *result = simulate(FM_SCHED_POLICY_DEFERRED, 1, NULL);
    CHECK_NEAR(fm_sim_result_up(result), 4, 1e-9);
    CHECK_UINT_EQ(result->up_min + result->up_max, 8);
    CHECK_UINT_EQ(result->autoscale.changes + result->autoscale.stopped, 0);
    for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
        CHECK(result->timeline[i].used <= 4);
    }
    CHECK(result->timeline[FM_SIM_TIMELINE_BUCKETS / 2].used > 0);
    fm_sim_result_free(result);
}

TEST(a_share_of_popularity_is_kept)
{
    busy(8, 100);
    double shares[8];
    CHECK_INT_EQ(fm_sim_group_shares(&group, shares, NULL), 0);
    double sum = 0;
    for (int i = 0; i < 8; i++) {
        sum += shares[i];
        CHECK(i == 0 || shares[i] < shares[i - 1]);
    }
    CHECK_NEAR(sum, 8, 1e-9);
    CHECK_NEAR(shares[0] / shares[3], pow(4, 0.9), 1e-9);
    CHECK_NEAR(fm_sim_scenario_rate_hz(&scenario), 800, 1e-9);
}

TEST(too_many_requests_are_refused)
{
    static const uint64_t times[] = {0, 1, 2, 3};
    tiny(20 * MS, times, 4);
    scenario.requests_max = 3;
    CHECK_PTR_EQ(simulate(FM_SCHED_POLICY_LATEST, 1, NULL), NULL);
    CHECK_INT_EQ(error.status, FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "raise 'requests_max'");
}

TEST(a_model_that_the_scheduler_refuses_ends_the_run)
{
    static const uint64_t times[] = {0};
    struct fm_sim_run_options options = {.policy = FM_SCHED_POLICY_TIMEOUT, .scale = 1};
    struct fm_sim_result *result = NULL;
    tiny(20 * MS, times, 1);
    CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), 0);
    group.queue_delay_ns = FM_PROFILE_LATENCY_MAX_NS + 1; /* behind the check's back */
    CHECK_INT_EQ(fm_sim_run(&scenario, &options, &result, &error), FM_EINTERNAL);
    CHECK_STR_CONTAINS(error.text, "the scheduler refuses model 'm' at 0 s");
    CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "its queue_delay is longer than the 19 hours");
}

TEST(quantiles_beyond_the_histogram_are_no_number)
{
    struct fm_log_histogram latency = {0};
    for (uint64_t i = 0; i < 10; i++) {
        fm_log_histogram_add(&latency, i < 5 ? 5 * MS : UINT64_C(7200000) * MS);
    }
    CHECK_NEAR(fm_sim_quantile_ms(&latency, 500), 5, 0.2);
    CHECK(fm_sim_quantile_ms(&latency, 990) > 1e300);
    /* What is the longest, and in the last bucket, is known. */
    struct fm_log_histogram edge = {0};
    fm_log_histogram_add(&edge, (UINT64_C(1) << 40) - 1);
    CHECK_NEAR(fm_sim_quantile_ms(&edge, 990), 1099511.6, 0.1);
}

TEST(a_search_ends_where_runs_become_too_large)
{
    struct fm_sim_task task = {.policy = FM_SCHED_POLICY_EAGER, .seed = 1, .scale = 1};
    struct fm_sim_search_options options = {
        .thread_count = 1, .find_goodput = true, .bad_rate = 1, .requests_max = 2000};
    busy(4, 100);
    CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), 0);
    CHECK_INT_EQ(fm_sim_search(&scenario, &options, &task, 1, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "times the load (");
    CHECK_STR_CONTAINS(error.text, "requests a second) keeps the bad rate: give more load");
    CHECK(task.summary.requests >= 2000);
    CHECK(task.summary.requests < 4000);
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST(threads_do_not_change_the_search)
{
    struct fm_sim_task tasks[2][3];
    memset(tasks, 0, sizeof tasks);
    busy(4, 100);
    scenario.measure_ns = 400 * MS;
    CHECK_INT_EQ(fm_sim_scenario_check(&scenario, &error), 0);
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < 3; j++) {
            tasks[i][j] = (struct fm_sim_task){
                .policy = FM_SCHED_POLICY_EAGER, .seed = 11 * (j + 1), .scale = i == 0 ? 1 : 1};
        }
        struct fm_sim_search_options options = {
            .thread_count = i == 0 ? 1 : 3, .find_goodput = true, .bad_rate = 0.01};
        CHECK_INT_EQ(fm_sim_search(&scenario, &options, tasks[i], 3, &error), 0);
    }
    for (uint32_t j = 0; j < 3; j++) {
        CHECK(tasks[0][j].summary.goodput_rps > 0);
        CHECK(tasks[0][j].summary.bad_rate <= 0.01);
        CHECK_NEAR(tasks[0][j].summary.goodput_rps, tasks[1][j].summary.goodput_rps, 0);
        CHECK_UINT_EQ(tasks[0][j].summary.trace_hash, tasks[1][j].summary.trace_hash);
    }
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST_MAIN()
