/*
 * The scenario file: what is read, and one clear message for each mistake.
 */
#include "engines/sim/scenario_file.h"

#include "tests/harness/test.h"

static struct fm_sim_scenario scenario;
static struct fm_error error;

static int load(const char *text)
{
    fm_sim_scenario_deinit(&scenario);
    error = (struct fm_error){0};
    return fm_sim_scenario_load_text("dir/s.yaml", text, strlen(text), &scenario, &error);
}

static const char whole[] =
    "accelerators: [{count: 4, type: big}, {count: 8, type: small}, {count: 1, type: big}]\n"
    "seed: 11\nwarmup: 1s\nmeasure: 2s\n"
    "network: {control: 100us, data: 50us, result: 2ms}\n"
    "policy: timeout\nbatch_max: 32\nattempts: 2\nrequests_max: 1000\nlearn: true\nadmit: true\n"
    "spread: {sigma: 0.1, seed: 5}\n"
    "batch_failures: {share: 0.01}\n"
    "cancels: {share: 0.2, delay: 3ms, seed: 6}\n"
    "autoscale: {min: 2, max: 12, initial: 3, headroom: 0.25, bad_tolerated: 0.02, interval: 1s, "
    "start_delay: 2s, lack_hold: 3s, surplus_hold: 4s, cooldown: 5s, step_max: 6}\n"
    "events:\n"
    "  - {at: 1500ms, kind: up, accelerator: 2, count: 3}\n"
    "  - {at: 1s, kind: down, accelerator: 2, count: 3}\n"
    "  - {at: 1s, kind: slow, accelerator: 12, factor: 1.5}\n"
    "models:\n"
    "  - name: m\n    count: 3\n    popularity: 0.9\n    slo: 25ms\n    priority: 1\n"
    "    goal: latency\n    statistic: p99\n    batch_max: 16\n    preferred: [4, 8]\n"
    "    queue_delay: 2ms\n"
    "    profiles: {big: {alpha: 1ms, beta: 2ms}, small: {table: {1: 4ms, 8: 20ms}}}\n"
    "    arrivals: {kind: gamma, shape: 0.1, rate: 300, period: 10s, steps: [{at: 0s, factor: 1}, "
    "{at: 1s, factor: 3, ramp: true}]}\n"
    "  - {name: n, slo: 1s, profile: {alpha: 1ms, beta: 2ms, batch_max: 8}, arrivals: {kind: mmpp, "
    "rate: 10, states: [{rate: 1, mean: 1s}, {rate: 9, mean: 100ms}]}}\n"
    "  - {name: o, slo: 1s, profile: {alpha: 1ms, beta: 2ms}, arrivals: {rate: 10}}\n";

TEST(everything_is_read)
{
    CHECK_INT_EQ(load(whole), 0);
    CHECK_UINT_EQ(scenario.type_count, 2);
    CHECK_STR_EQ(scenario.types[1], "small");
    CHECK_UINT_EQ(fm_sim_scenario_accelerator_count(&scenario), 13);
    CHECK_UINT_EQ(scenario.pools[2].type, 0);
    CHECK_UINT_EQ(scenario.seed, 11);
    CHECK_UINT_EQ(scenario.warmup_ns, 1000000000);
    CHECK_UINT_EQ(scenario.measure_ns, 2000000000);
    CHECK_UINT_EQ(scenario.control_ns + scenario.data_ns + scenario.result_ns, 2150000);
    CHECK_INT_EQ(scenario.policy, FM_SCHED_POLICY_TIMEOUT);
    CHECK(scenario.learn && scenario.admit);
    CHECK_UINT_EQ(scenario.batch_max + scenario.attempts_max + scenario.requests_max, 1034);
    CHECK_NEAR(scenario.spread_sigma, 0.1, 0);
    CHECK_UINT_EQ(scenario.spread_seed, 5);
    CHECK_NEAR(scenario.failure_share, 0.01, 0);
    CHECK_NEAR(scenario.cancel_share, 0.2, 0);
    CHECK_UINT_EQ(scenario.cancel_delay_ns, 3000000);
    const struct fm_sim_autoscale *autoscale = &scenario.autoscale;
    CHECK(autoscale->on);
    CHECK_UINT_EQ(autoscale->advice.accelerators_min, 2);
    CHECK_UINT_EQ(autoscale->advice.accelerators_max, 12);
    CHECK_UINT_EQ(autoscale->initial, 3);
    CHECK_UINT_EQ(autoscale->advice.headroom_permille, 250);
    CHECK_UINT_EQ(autoscale->advice.bad_tolerated_permyriad, 200);
    CHECK_UINT_EQ(autoscale->advice.step_max, 6);
    CHECK_UINT_EQ(autoscale->interval_ns, 1000000000);
    CHECK_UINT_EQ(autoscale->start_delay_ns, 2000000000);
    CHECK_UINT_EQ(autoscale->advice.lack_hold_ns, 3000000000);
    CHECK_UINT_EQ(autoscale->advice.surplus_hold_ns, 4000000000);
    CHECK_UINT_EQ(autoscale->advice.cooldown_ns, 5000000000);
    CHECK_UINT_EQ(scenario.event_count, 3);
    CHECK_INT_EQ(scenario.events[0].kind,
                 FM_SIM_EVENT_DOWN); /* in order of time, then as written */
    CHECK_INT_EQ(scenario.events[1].kind, FM_SIM_EVENT_SLOW);
    CHECK_UINT_EQ(scenario.events[1].permille, 1500);
    CHECK_UINT_EQ(fm_sim_scenario_model_count(&scenario), 5);
    const struct fm_sim_group *group = &scenario.groups[0];
    CHECK_UINT_EQ(group->slo_ns, 25000000);
    CHECK_INT_EQ(group->goal, FM_SCHED_GOAL_LATENCY);
    CHECK_INT_EQ(group->statistic, FM_PROFILE_P99);
    CHECK_UINT_EQ(group->preferred[1], 8);
    CHECK_UINT_EQ(group->preferred[2], 0);
    CHECK_UINT_EQ(group->queue_delay_ns, 2000000);
    CHECK_UINT_EQ(fm_profile_latency_ns(group->profiles[1], FM_PROFILE_MEAN, 8), 20000000);
    CHECK_UINT_EQ(fm_profile_latency_ns(group->profiles[0], FM_PROFILE_MEAN, 8), 10000000);
    CHECK_UINT_EQ(group->arrivals.step_count, 2);
    CHECK(group->arrivals.steps[1].ramp);
    CHECK_PTR_EQ(scenario.groups[2].profiles[0], scenario.groups[2].profiles[1]);
    CHECK_INT_EQ(scenario.groups[2].arrivals.kind, FM_ARRIVALS_POISSON);
    char name[32];
    CHECK_STR_EQ(fm_sim_scenario_model_name(&scenario, 2, name, sizeof name), "m.2");
    CHECK_STR_EQ(fm_sim_scenario_model_name(&scenario, 4, name, sizeof name), "o");
}

/* A scenario that lies in tests/data, beside the traces it names. */
static int load_beside_data(const char *keys)
{
    static char text[1024];
    char path[4096];
    (void)snprintf(
        text, sizeof text,
        "accelerators: 1\nmodels: [{name: m, slo: 20ms, profile: {alpha: 1ms, beta: 2ms}, "
        "arrivals: {kind: trace, %s}}]\n",
        keys);
    (void)snprintf(path, sizeof path, "%s/tests/data/s.yaml", getenv("FM_SOURCE_ROOT"));
    fm_sim_scenario_deinit(&scenario);
    error = (struct fm_error){0};
    return fm_sim_scenario_load_text(path, text, strlen(text), &scenario, &error);
}

static const struct fm_arrivals_spec *arrivals(void)
{
    return &scenario.groups[0].arrivals;
}

TEST(traces_of_azure_are_read)
{
    CHECK_INT_EQ(load_beside_data("file: azure_2019.csv, format: azure2019"), 0);
    CHECK_UINT_EQ(arrivals()->time_count, 194);
    CHECK(!fm_sim_scenario_draws(&scenario));
    uint64_t first_ns = arrivals()->times_ns[0];
    CHECK_INT_EQ(
        load_beside_data("file: azure_2019.csv, format: azure2019, seed: 1, app: "
                         "dd311ca871902316d9841aab4ccec38d79d89a0da0c41aebb8f010b8e9a5b5ab"),
        0);
    CHECK_UINT_EQ(arrivals()->time_count, 149);
    CHECK_UINT_EQ(arrivals()->times_ns[0], first_ns); /* it has all of the first minute */
    CHECK_INT_EQ(load_beside_data("file: azure_2019.csv, format: azure2019, seed: 2"), 0);
    CHECK(arrivals()->times_ns[0] != first_ns);
    CHECK_INT_EQ(load_beside_data("file: azure_2021.csv, format: azure2021"), 0);
    CHECK_UINT_EQ(arrivals()->time_count, 6);
    CHECK_UINT_EQ(arrivals()->times_ns[5], 3500000000);
    static const struct {
        const char *keys;
        const char *message;
    } cases[] = {
        {"format: azure2019", "missing key 'file'"},
        {"file: azure_2021.csv, format: azure2019", "azure_2021.csv:1: column 1 is \"app\""},
        {"file: azure_2021.csv, format: azure2021, function: f", "no row is of function f"},
        {"file: azure_2021.csv, format: azure2021, seed: 1", "unknown key 'seed'"},
        {"file: azure_2019.csv, format: azure2019, seed: -1", "'seed' must be a whole number"},
        {"file: azure_2019.csv, format: azure2019, column: a", "unknown key 'column'"},
        {"file: azure_2019.csv, format: azure, seed: 1", "'format' must be one of times"},
        {"file: azure_2022.csv, format: azure2019", "azure_2022.csv"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT_LT(load_beside_data(cases[i].keys), 0);
        CHECK_STR_CONTAINS(error.text, cases[i].message);
    }
}

/* Seeds of LoadGen need all 64 bits; without one, requests draw from the scenario's. */
TEST(schedules_of_loadgen_are_read)
{
    CHECK_INT_EQ(load("accelerators: 1\nmodels: [{name: m, slo: 20ms, profile: {alpha: 1ms, beta: "
                      "2ms}, arrivals: {kind: loadgen, rate: 100, seed: 16159082839903944936}}]\n"),
                 0);
    const struct fm_arrivals_spec *spec = &scenario.groups[0].arrivals;
    CHECK_INT_EQ(spec->kind, FM_ARRIVALS_LOADGEN);
    CHECK_UINT_EQ(spec->loadgen_seed, UINT64_C(16159082839903944936));
    CHECK(spec->loadgen_seeded && !fm_sim_scenario_draws(&scenario));
    CHECK_NEAR(fm_sim_scenario_rate_hz(&scenario), 100, 0);
    CHECK_INT_EQ(load("accelerators: 1\nmodels: [{name: m, slo: 20ms, profile: {alpha: 1ms, beta: "
                      "2ms}, arrivals: {kind: loadgen, rate: 100}}]\n"),
                 0);
    CHECK(!scenario.groups[0].arrivals.loadgen_seeded && fm_sim_scenario_draws(&scenario));
}

#define MODEL(rest) "accelerators: 1\nmodels:\n  - {name: m, slo: 20ms, " rest "}\n"
#define GOOD        "profile: {alpha: 1ms, beta: 2ms}, arrivals: {rate: 10}"

TEST(autoscaling_has_defaults)
{
    CHECK_INT_EQ(load("accelerators: 7\nmodels: [{name: m, slo: 20ms, " GOOD "}]\n"), 0);
    CHECK(!scenario.autoscale.on);
    CHECK_INT_EQ(load("accelerators: 7\nautoscale: {}\nmodels: [{name: m, slo: 20ms, " GOOD "}]"),
                 0);
    const struct fm_sim_autoscale *autoscale = &scenario.autoscale;
    CHECK(autoscale->on);
    CHECK_UINT_EQ(autoscale->advice.accelerators_min, 1);
    CHECK_UINT_EQ(autoscale->advice.accelerators_max, 7);
    CHECK_UINT_EQ(autoscale->initial, 7);
    CHECK_UINT_EQ(autoscale->advice.headroom_permille, 100);
    CHECK_UINT_EQ(autoscale->advice.bad_tolerated_permyriad, 100);
    CHECK_UINT_EQ(autoscale->start_delay_ns, 30000000000);
}

TEST(requests_draw_by_shares)
{
    CHECK_INT_EQ(
        load("accelerators: 1\nmodels: [{name: m, slo: {100ms: 0.25, 20ms: 0.5, 1s: 0.25}, "
             "priority: {2: 0.9, 1: 0.1}, " GOOD "}]\n"),
        0);
    const struct fm_sim_group *group = &scenario.groups[0];
    CHECK_UINT_EQ(group->slo_choice_count, 3);
    CHECK_UINT_EQ(group->slo_choices[0].value, 20000000); /* in order */
    CHECK_UINT_EQ(group->slo_choices[0].below, FM_SIM_DRAW_END / 2);
    CHECK_UINT_EQ(group->slo_choices[1].below, FM_SIM_DRAW_END / 4 * 3);
    CHECK_UINT_EQ(group->slo_choices[2].value, 1000000000);
    CHECK_UINT_EQ(group->slo_choices[2].below, FM_SIM_DRAW_END);
    CHECK_UINT_EQ(fm_sim_group_slo_min_ns(group), 20000000);
    CHECK_UINT_EQ(fm_sim_group_slo_max_ns(group), 1000000000);
    CHECK_UINT_EQ(group->slo_ns, 20000000);
    CHECK_UINT_EQ(group->queue_delay_ns, 4000000);
    CHECK_UINT_EQ(group->priority_choice_count, 2);
    CHECK_UINT_EQ(group->priority_choices[1].value, 2);
}

TEST(models_have_events)
{
    CHECK_INT_EQ(
        load("accelerators: [{count: 1, type: a}, {count: 1, type: b}]\nevents:\n"
             "  - {at: 3s, kind: reprofiled, model: n.1, factor: 1.5, changes: truth}\n"
             "  - {at: 4s, kind: reprofiled, model: m, profile: {alpha: 1ms, beta: 1ms}}\n"
             "  - {at: 2s, kind: model_added, model: n}\n"
             "  - {at: 1s, kind: model_removed, model: m}\n"
             "models:\n  - {name: m, slo: 20ms, " GOOD "}\n"
             "  - {name: n, count: 3, present: false, clients: leave, slo: 20ms, profiles: {b: "
             "{alpha: 1ms, beta: 2ms}}, arrivals: {rate: 1}}\n"),
        0);
    const struct fm_sim_event *events = scenario.events;
    CHECK_UINT_EQ(scenario.event_count, 4);
    CHECK(events[0].kind == FM_SIM_EVENT_MODEL_REMOVED && events[0].first == 0 &&
          events[0].count == 1);
    CHECK(events[1].kind == FM_SIM_EVENT_MODEL_ADDED && events[1].first == 1 &&
          events[1].count == 3);
    CHECK(events[2].kind == FM_SIM_EVENT_REPROFILED && events[2].first == 2 &&
          events[2].count == 1 && events[2].change == FM_SIM_CHANGE_TRUTH);
    CHECK_PTR_EQ(events[2].profiles[0], NULL);
    CHECK_UINT_EQ(fm_profile_latency_ns(events[2].profiles[1], FM_PROFILE_MEAN, 2), 6000000);
    CHECK_INT_EQ(events[3].change, FM_SIM_CHANGE_BOTH);
    CHECK_PTR_EQ(events[3].profiles[0], events[3].profiles[1]);
    CHECK(!scenario.groups[0].absent && scenario.groups[1].absent);
    CHECK(!scenario.groups[0].clients_leave && scenario.groups[1].clients_leave);
}

#define PIPELINE(slo, stages, rest)                                        \
    "accelerators: 1\npipelines: [{name: p, slo: " slo ", stages: " stages \
    ", arrivals: {rate: 10}}]\nmodels:\n"                                  \
    "  - {name: a, profile: {alpha: 1ms, beta: 2ms}}\n"                    \
    "  - {name: b, count: 2, profile: {alpha: 1ms, beta: 2ms}}\n" rest

TEST(pipelines_are_split)
{
    CHECK_INT_EQ(load(PIPELINE("40ms", "[a, b.1, a]", "network: {result: 1ms}\n")), 0);
    const struct fm_sim_pipeline *pipeline = &scenario.pipelines[0];
    CHECK_UINT_EQ(scenario.pipeline_count, 1);
    CHECK_UINT_EQ(pipeline->stage_count, 3);
    CHECK_UINT_EQ(pipeline->stages[1], 2);
    CHECK(pipeline->due_ns[0] >= 4000000 && pipeline->due_ns[1] > pipeline->due_ns[0]);
    CHECK_UINT_EQ(pipeline->due_ns[2], 40000000);
    CHECK_NEAR(fm_sim_pipeline_share_ms(pipeline, 2),
               (double)(pipeline->due_ns[2] - pipeline->due_ns[1]) / 1e6, 1e-9);
    /* The scheduler is told the shortest of a model's shares. */
    CHECK_UINT_EQ(scenario.groups[0].slo_ns, 0);
    CHECK(scenario.groups[0].silent);
    CHECK_UINT_EQ(fm_sim_group_told_ns(&scenario.groups[0]), scenario.groups[0].stage_ns);
    CHECK(scenario.groups[0].stage_ns <= pipeline->due_ns[0]);
    CHECK_NEAR(fm_sim_scenario_rate_hz(&scenario), 10, 0);
}

TEST(only_what_is_drawn_has_a_seed)
{
    CHECK_INT_EQ(load("accelerators: 1\nmodels: [{name: m, slo: 20ms, " GOOD "}]"), 0);
    CHECK(fm_sim_scenario_draws(&scenario));
#define CONSTANT "profile: {alpha: 1ms, beta: 1ms}, arrivals: {kind: constant, rate: 10}"
    CHECK_INT_EQ(load("accelerators: 1\nmodels: [{name: m, slo: 20ms, " CONSTANT "}]"), 0);
    CHECK(!fm_sim_scenario_draws(&scenario));
    CHECK_INT_EQ(
        load("accelerators: 1\nmodels: [{name: m, slo: {20ms: 0.5, 40ms: 0.5}, " CONSTANT "}]"), 0);
    CHECK(fm_sim_scenario_draws(&scenario));
    CHECK_INT_EQ(
        load("accelerators: 1\npartition: {clusters: 1}\nmodels: [{name: m, slo: 20ms, " CONSTANT
             "}]"),
        0);
    CHECK(fm_sim_scenario_draws(&scenario));
}

TEST(mistakes_are_explained)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "a map is expected here, not nothing"},
        {"{}", "missing key 'accelerators'"},
        {"[1]", "a map is expected here, not a list"},
        {"accelerators: 0\nmodels: []", "dir/s.yaml:1:15: 'accelerators' must be a whole number"},
        {"accelerators: []\nmodels: []", "'accelerators' has 1 to"},
        {"accelerators: 1\n", "missing key 'models'"},
        {"accelerators: 1\nmodels: []", "'models' has 1 to"},
        {"accelerators: 1\nmodles: []", "is 'modles' a misspelling of it?"},
        {MODEL(GOOD) "sede: 3\n", "dir/s.yaml:4:1: unknown key 'sede'; did you mean 'seed'?"},
        {MODEL(GOOD) "policy: defered\n", "did you mean 'deferred'?"},
        {MODEL(GOOD) "measure: 0s\n", "'measure' must be above 0"},
        {MODEL(GOOD) "network: {control: 5}\nwarmup: x\n", "'warmup' must be a duration"},
        {MODEL(GOOD) "network: {delay: 5ms}\n", "unknown key 'delay'"},
        {MODEL(GOOD) "network: {result: 19ms}\n", "model 'm' can never meet its slo of 20 ms"},
        {MODEL(GOOD) "events: [{at: 1s, kind: down, accelerator: 1}]\n",
         "dir/s.yaml:4: the event is for accelerators 1 to 1, but the last one is 0"},
        {MODEL(GOOD) "events: [{at: 1s, kind: slow, accelerator: 0}]\n", "missing key 'factor'"},
        {MODEL(GOOD) "events: [{at: 1s, kind: gone, accelerator: 0}]\n", "gone"},
        {"accelerators: 1\nmodels: [{name: m, slo: {}, " GOOD "}]", "'slo' has 1 to 8 values"},
        {"accelerators: 1\nmodels: [{name: m, slo: {1s: 0.5, 2s: 0.4}, " GOOD "}]",
         "dir/s.yaml:2:25: the shares of 'slo' add up to 0.9, not to 1"},
        {"accelerators: 1\nmodels: [{name: m, slo: {1s: 0.5, 1000ms: 0.5}, " GOOD "}]",
         "'slo' has '1000ms' twice"},
        {"accelerators: 1\nmodels: [{name: m, slo: {soon: 1}, " GOOD "}]",
         "'soon' is not a value of 'slo'; write {VALUE: SHARE, ...}"},
        {"accelerators: 1\nmodels: [{name: m, slo: {0s: 1}, " GOOD "}]", "'0s' is not a value"},
        {"accelerators: 1\nmodels: [{name: m, slo: {1s: 2}, " GOOD "}]",
         "'1s' must be a number from 1e-06 to 1"},
        {"accelerators: 1\nmodels: [{name: m, slo: {2ms: 0.5, 20ms: 0.5}, " GOOD "}]",
         "model 'm' can never meet its slo of 2 ms"},
        {"accelerators: 1\nmodels: [{name: m, slo: 20h, " GOOD "}]",
         "its slo is longer than the 19 hours"},
        {"accelerators: 1\nmodels: [{name: m, slo: 1s, priority: {4: 1}, " GOOD "}]",
         "'4' is not a value of 'priority'"},
        {MODEL(GOOD) "partition: {memory: 1GB}\n", "missing key 'clusters'"},
        {MODEL(GOOD) "partition: {clusters: 5000}\n", "'clusters' must be a whole number"},
        {MODEL("memory: 65TiB, " GOOD), "'memory' is more than 64 TiB"},
        {MODEL("clients: go, " GOOD), "'clients' must be one of stay, leave"},
        {PIPELINE("40ms", "[a, c]", ""), "dir/s.yaml:2:46: there is no model 'c'"},
        {PIPELINE("40ms", "[a, b]", ""), "'b' are 2 models, a stage is one: write 'b.0'"},
        {PIPELINE("40ms", "[]", ""), "'stages' has 1 to 16 models"},
        {PIPELINE("40ms", "[a]", ""),
         "dir/s.yaml:5: missing key 'slo': model 'b' is a stage of no pipeline"},
        {PIPELINE("5ms", "[a, b.0]", ""),
         "dir/s.yaml:2: pipeline 'p': deadline split: 5000 us do not hold even batches of one: the "
         "path a -> b needs"},
        {PIPELINE("5ms", "[a, b.0]", "network: {control: 3ms}\n"),
         "its slo of 5 ms must be at most 19 hours, and above the 6 ms that the network takes"},
        {PIPELINE("40ms", "[a, b.0]", "partition: {clusters: 1}\n"),
         "dir/s.yaml:6: 'partition' and 'pipelines' do not go together"},
        {"accelerators: 1\npipelines: []\nmodels: [{name: m, slo: 1s, profile: {alpha: 1ms, beta: "
         "1ms}}]",
         "dir/s.yaml:3: missing key 'arrivals': model 'm' is a stage of no pipeline"},
        {"accelerators: 1\nmodels: [{name: m, slo: 1s, profile: {alpha: 1ms, beta: 1ms}}]",
         "dir/s.yaml:2:10: missing key 'arrivals'"},
        {MODEL(GOOD) "pipelines: [{name: p, slo: 1s, stages: [m], arrivals: {rate: 1}, split: "
                     "odd}]\n",
         "'split' must be one of budget, even"},
        {MODEL(GOOD) "events: [{at: 1s, kind: model_removed}]\n", "missing key 'model'"},
        {MODEL(GOOD) "events: [{at: 1s, kind: model_removed, model: n}]\n",
         "dir/s.yaml:4:47: there is no model 'n'"},
        {MODEL(GOOD) "events: [{at: 1s, kind: model_removed, model: m.0}]\n",
         "there is no model 'm.0'"},
        {MODEL(GOOD) "events: [{at: 1s, kind: model_added, model: m}]\n",
         "dir/s.yaml:4: model 'm' is there already at 1 s: one that comes later has 'present: "
         "false'"},
        {MODEL("present: false, " GOOD) "events: [{at: 1s, kind: model_removed, model: m}]\n",
         "model 'm' is not there at 1 s: it cannot be removed"},
        {MODEL(GOOD) "events: [{at: 1s, kind: reprofiled, model: m}]\n", "either 'profile' or"},
        {MODEL(GOOD) "events: [{at: 1s, kind: reprofiled, model: m, factor: 2, profile: {}}]\n",
         "or a 'factor' on the model's own, not both"},
        {MODEL(GOOD) "events: [{at: 1s, kind: reprofiled, model: m, factor: 2, changes: all}]\n",
         "'changes' must be one of both, truth, promise"},
        {"accelerators: [{count: 1, type: a}, {count: 1, type: b}]\nmodels: [{name: m, slo: 1s, "
         "profiles: {b: {alpha: 1ms, beta: 1ms}}, arrivals: {rate: 1}}]\n"
         "events: [{at: 1s, kind: reprofiled, model: m, profile: {alpha: 1ms, beta: 1ms}}]\n",
         "dir/s.yaml:3: the new profile must be for the same types of accelerators: model 'm' does "
         "not run on type 'a', the new profile has it"},
        {MODEL(GOOD) "cancels: {share: 2, delay: 1s}\n", "'share' must be a number from 0 to 1"},
        {MODEL(GOOD) "cancels: {share: 0.5}\n", "missing key 'delay'"},
        {MODEL(GOOD) "autoscale: 3\n", "dir/s.yaml:4:12: a map is expected here"},
        {MODEL(GOOD) "autoscale: {mix: 1}\n", "unknown key 'mix'; did you mean 'min'?"},
        {MODEL(GOOD) "autoscale: {max: 2}\n",
         "dir/s.yaml:4: 'autoscale': 'max' is 2, but there are only 1 accelerators"},
        {MODEL(GOOD) "autoscale: {min: 2}\n", "'min' is 2, above 'max', which is 1"},
        {MODEL(GOOD) "autoscale: {initial: 0}\n",
         "'initial' is 0, must be between 'min' and 'max', 1 and 1"},
        {MODEL(GOOD) "autoscale: {max: 0}\n", "'max' must be a whole number from 1 to"},
        {MODEL(GOOD) "autoscale: {interval: 1ms}\n", "'interval' must be at least 10 ms"},
        {MODEL(GOOD) "autoscale: {headroom: -1}\n", "'headroom' must be a number from 0 to 10"},
        {MODEL(GOOD) "autoscale: {bad_tolerated: 1}\n",
         "'bad_tolerated' must be a number from 0 to 0.999"},
        {MODEL(GOOD) "autoscale: {cooldown: soon}\n", "'cooldown' must be a duration"},
        {MODEL(GOOD) "spread: {sigma: 9}\n", "'sigma' must be a number from 0 to 3"},
        {MODEL("arrivals: {rate: 10}"), "a model needs either 'profile' or 'profiles'"},
        {MODEL("profile: {alpha: 1ms}, arrivals: {rate: 10}"), "missing key 'beta'"},
        {MODEL("profile: {table: {0: 1ms}}, arrivals: {rate: 10}"), "'0' is not a batch size"},
        {MODEL("profile: {table: {1: 5}}, arrivals: {rate: 10}"), "can never meet its slo"},
        {MODEL("profile: {table: {}}, arrivals: {rate: 10}"), "'table' is empty"},
        {MODEL("profile: {table: {1: 5ms}, file: x}, arrivals: {rate: 10}"), "not both"},
        {MODEL("profile: {file: missing.yaml}, arrivals: {rate: 10}"), "dir/missing.yaml"},
        {MODEL("profiles: {bgi: {alpha: 1ms, beta: 2ms}}, arrivals: {rate: 10}"),
         "unknown key 'bgi'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}"), "missing key 'arrivals'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: poisson}"),
         "missing key 'rate'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: gamma, rate: 1}"),
         "missing key 'shape'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: loadgen}"),
         "missing key 'rate'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: loadgen, rate: 1, seed: x}"),
         "'seed' is \"x\", not a whole number"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: loadgen, rate: 1, seed: -1}"),
         "'seed' is \"-1\", not a whole number"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: loadgen, rate: 1, period: 1s}"),
         "unknown key 'period'"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: loadgen, rate: 1e9}"),
         "stands still"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {kind: trace, file: no.txt}"),
         "dir/no.txt"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {rate: 1, steps: [{at: 1s, factor: 1}, "
               "{at: 1s, factor: 2}]}"),
         "'at' must be after that of the step before"},
        {MODEL(GOOD ", preferred: [8, 4]"), "ascending"},
        {MODEL(GOOD ", goal: fast"), "fast"},
        {"accelerators: 1\nmodels:\n  - {name: m, slo: 20ms, " GOOD
         "}\n  - {name: m, slo: 20ms, " GOOD "}\n",
         "dir/s.yaml:4:5: two models are called 'm'"},
        {"accelerators: 1\nmodels:\n  - {name: m, " GOOD "}\n", "missing key 'slo'"},
        {"accelerators: 1\nmodels:\n  - {name: m, slo: , " GOOD "}\n",
         "dir/s.yaml:3:20: 'slo' is empty: write its value after it"},
        {MODEL("profile: {alpha: 1ms, beta: 2ms}, arrivals: {rate: }"), "'rate' is empty"},
        {"accelerators:\nmodels: []", "'accelerators' is empty"},
        {"accelerators: 1\nmodels:\n  - {name: \"x\\e[31m\", slo: 20ms, " GOOD "}\n",
         "dir/s.yaml:3:12: 'name' has a control character in it"},
        {"accelerators: 1\nmodels:\n  - {name: \"x\\x9b31m\", slo: 20ms, " GOOD "}\n",
         "'name' has a control character in it"},
        {"accelerators: [{count: 1, type: \"a\\nb\"}]\nmodels: []",
         "'type' has a control character in it"},
        {"accelerators: 1\nmodels:\n  - {name: m, count: 2, slo: 20ms, " GOOD
         "}\n  - {name: m.0, slo: 20ms, " GOOD "}\n",
         "dir/s.yaml:4:5: two models are called 'm.0': 'm' with a count of 2 has one"},
        {"accelerators: 1\nmodels:\n  - {name: m.1, count: 3, slo: 20ms, " GOOD
         "}\n  - {name: m, count: 2, slo: 20ms, " GOOD "}\n",
         "dir/s.yaml:4:5: two models are called 'm.1': 'm' with a count of 2 has one"},
        {MODEL(GOOD) "pipelines:\n  - {name: p, slo: 1s, stages: [m], arrivals: {rate: 1}}\n  - "
                     "{name: p, slo: 1s, stages: [m], arrivals: {rate: 1}}\n",
         "dir/s.yaml:6:5: two pipelines are called 'p'"},
        {MODEL(GOOD) "attempts: 256\n",
         "dir/s.yaml:4:11: 'attempts' must be a whole number from 1 to 255, not '256'"},
        {MODEL(GOOD) "network: {data: 18s}\n", "dir/s.yaml:4:17: 'data' is at most 17 s"},
        {MODEL(GOOD) "network: {control: 20h}\n", "'control' is at most 70368 s"},
        {MODEL(GOOD) "network: {result: 20h}\n", "'result' is at most 70368 s"},
        {MODEL(GOOD) "seed: 9223372036854775808\n",
         "'seed': '9223372036854775808' is too large: at most 9223372036854775807"},
        {MODEL(GOOD) "measure: 1e18\n", "'measure': '1e18' is too long: at most 584 years"},
        {MODEL("queue_delay: 20h, " GOOD),
         "model 'm': its queue_delay is longer than the 19 hours"},
        {"accelerators: 1\nmodels:\n  - {name: m, slo: 20ms, count: 70000, " GOOD "}\n", "'count'"},
        {"accelerators: 70000\nmodels: []\n", "'accelerators'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        printf("# %s\n", cases[i].message);
        CHECK(load(cases[i].text) != 0);
        CHECK_STR_CONTAINS(error.text, cases[i].message);
        CHECK_STR_CONTAINS(error.text, "dir/");
    }
    fm_sim_scenario_deinit(&scenario);
    CHECK(fm_sim_scenario_load("/nonexistent/s.yaml", &scenario, &error) != 0);
    CHECK_STR_CONTAINS(error.text, "/nonexistent/s.yaml");
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST_MAIN()
