/*
 * Replays and what-ifs of a scheduler's life written by hand: what is compared, what is taken over,
 * and that no allocation that fails does harm.
 */
#include "engines/sim/replay.h"

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "engines/sim/what_if.h"
#include "tests/harness/test.h"

enum { EVENTS_MAX = 8, ACTIONS_MAX = 4, STARTED_MAX = 16 };
#define MS UINT64_C(1000000)

static struct fm_sim_recorder recorder;
static struct fm_sched *sched;
static struct fm_profile profile;
static struct fm_sched_model model;
static struct fm_error error;

static struct fm_sched_record_header header_of(void)
{
    return (struct fm_sched_record_header){
        .options = {.policy = FM_SCHED_POLICY_EAGER,
                    .models_max = 4,
                    .accelerators_max = 4,
                    .type_count = 2,
                    .requests_max = 64,
                    .batch_max = 8,
                    .result_ns = MS},
        .events_max = EVENTS_MAX,
        .action_capacity = ACTIONS_MAX,
        .request_capacity = STARTED_MAX,
        .has_actions = true,
    };
}

/* What the scheduler does at the step `lie_at` is recorded as something else. */
static uint64_t lie_at;
static void (*lie)(struct fm_sched_record_step *step, struct fm_sched_action *items);
static uint64_t step_number;

static void tell(uint64_t now_ns, const struct fm_sched_event *events, uint32_t count)
{
    struct fm_sched_action items[ACTIONS_MAX];
    uint32_t requests[STARTED_MAX];
    struct fm_sched_actions actions = {.items = items,
                                       .capacity = ACTIONS_MAX,
                                       .requests = requests,
                                       .request_capacity = STARTED_MAX};
    uint32_t taken = 0;
    CHECK_INT_EQ(fm_sched_step(sched, now_ns, events, count, &actions, &taken), 0);
    struct fm_sched_record_step step = {.now_ns = now_ns,
                                        .events = events,
                                        .event_count = count,
                                        .taken = taken,
                                        .actions = items,
                                        .action_count = actions.count,
                                        .requests = requests,
                                        .request_count = actions.request_count,
                                        .wake_ns = actions.wake_ns};
    if (++step_number == lie_at) {
        lie(&step, items);
    }
    fm_sim_recorder_step(&recorder, &step);
}

static struct fm_sched_event request_of(uint32_t slot, uint64_t deadline_ns, uint32_t priority)
{
    return (struct fm_sched_event){
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {
            .request = slot, .model = 2, .deadline_ns = deadline_ns, .priority = priority}};
}

static struct fm_sched_event accelerator_of(enum fm_sched_event_kind kind, uint32_t id,
                                            uint32_t type, uint32_t permille)
{
    return (struct fm_sched_event){
        .kind = kind, .as.accelerator = {.accelerator = id, .type = type, .permille = permille}};
}

/* Model 2; accelerator 0 is up and 1 slow, 3 was up and went; 2 comes later. The clock began at
 * 5 ms, the first request comes at 10 ms. */
static void live(bool model_changes)
{
    struct fm_sched_record_header header = header_of();
    step_number = 0;
    error = (struct fm_error){0};
    fm_sim_recorder_deinit(&recorder);
    profile = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&profile, MS, 4 * MS, 8, &error), 0);
    model = (struct fm_sched_model){.model = 2, .slo_ns = 20 * MS, .profiles = {NULL, &profile}};
    CHECK_INT_EQ(fm_sched_create(&header.options, &sched, &error), 0);
    fm_sim_recorder_begin(&recorder, &header);
    const struct fm_sched_event begin[] = {
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model},
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 0, 1, 0),
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 1, 1, 0),
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_SLOW, 1, 0, 2000),
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 3, 0, 0),
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 3, 1, 0), /* refused: is up */
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_DOWN, 3, 0, 0),
    };
    tell(5 * MS, begin, 7);
    const struct fm_sched_event one[] = {request_of(0, 40 * MS, 0), request_of(1, 50 * MS, 9)};
    tell(10 * MS, one, 2);
    const struct fm_sched_event next[] = {
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 2, 1, 0),
        {.kind = FM_SCHED_EVENT_BATCH_DONE, .as.batch = {.accelerator = 0, .batch = 1}},
        request_of(0, 15 * MS, 1),
        {.kind = FM_SCHED_EVENT_CANCEL, .as.cancel = {.request = 9}},
    };
    tell(16 * MS, next, 4);
    if (model_changes) {
        const struct fm_sched_event again = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
        tell(17 * MS, &again, 1);
    }
    fm_sched_destroy(sched);
    sched = NULL;
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
}

static void forget(void)
{
    fm_sim_recorder_deinit(&recorder);
    lie_at = 0;
}

TEST(a_life_is_replayed)
{
    struct fm_sim_replay found;
    live(true);
    CHECK_INT_EQ(fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error),
                 0);
    CHECK(!found.differs);
    CHECK_STR_EQ(found.difference, "");
    CHECK_UINT_EQ(found.steps, 4);
    CHECK_UINT_EQ(found.requests, 3);
    CHECK_UINT_EQ(found.batches, 1);
    CHECK_UINT_EQ(found.dropped, 1);
    CHECK_UINT_EQ(found.first_ns, 5 * MS);
    CHECK_UINT_EQ(found.last_ns, 17 * MS);
    forget();
}

/* --- differences -------------------------------------------------------------------------------
 */

static void lie_wake(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)items;
    step->wake_ns = 12345;
}

static void lie_taken(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)items;
    step->taken = 1;
}

static void lie_start(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)step;
    items[0].accelerator = 1;
}

static void lie_requests(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    static const uint32_t others[] = {7, 8, 9, 10};
    (void)items;
    step->requests = others;
}

static void lie_drop(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)step;
    items[0].reason = FM_SCHED_DROP_LATE;
}

static void lie_none(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)items;
    step->action_count = 0;
    step->request_count = 0;
}

static void lie_memory(struct fm_sched_record_step *step, struct fm_sched_action *items)
{
    (void)items;
    step->out_of_memory = true;
}

TEST(every_difference_is_named)
{
    static const struct {
        uint64_t step;
        void (*lie)(struct fm_sched_record_step *step, struct fm_sched_action *items);
        const char *text;
    } rows[] = {
        {2, lie_wake, "asked to be called again by 12345 ns, now by"},
        {1, lie_taken, "it took 1 of 7 events, now 7"},
        {2, lie_start, "with 2 requests on accelerator 1 at 10000000 ns until 16000000 ns; now it"},
        {2, lie_requests, ", with other requests"},
        {2, lie_none, "action 1 was: no further action; now it is: start batch 1 of model 2"},
        {3, lie_drop,
         "was: drop request 0 of model 2 as late; now it is: drop request 0 of model 2 "
         "as infeasible"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fm_sim_replay found;
        char place[40];
        lie_at = rows[i].step;
        lie = rows[i].lie;
        live(false);
        CHECK_INT_EQ(
            fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error), 0);
        CHECK(found.differs);
        (void)snprintf(place, sizeof place, "step %d (of ", (int)rows[i].step);
        CHECK_STR_CONTAINS(found.difference, place);
        CHECK_STR_CONTAINS(found.difference, rows[i].text);
        CHECK_UINT_EQ(found.steps, rows[i].step - 1);
        forget();
    }
}

TEST(a_step_without_memory_ends_what_can_be_replayed)
{
    struct fm_sim_replay found;
    lie_at = 2;
    lie = lie_memory;
    live(false);
    CHECK_INT_EQ(fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error),
                 FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "step 2 (of 10000000 ns) failed in its middle");
    CHECK_UINT_EQ(found.steps, 1);
    forget();
}

TEST(options_no_scheduler_takes_are_refused)
{
    struct fm_sim_replay found;
    struct fm_sched_record_header header = header_of();
    header.options.type_count = 9;
    fm_sim_recorder_begin(&recorder, &header);
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
    CHECK_INT_EQ(fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "the scheduler it was recorded from: type_count is 9");
    forget();
}

TEST(a_recording_without_actions_compares_nothing)
{
    struct fm_sim_replay found;
    struct fm_text text = {0};
    struct fm_sched_record_header header = header_of();
    header.has_actions = false;
    fm_sim_recorder_begin(&recorder, &header);
    const struct fm_sched_event up = accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 0, 1, 0);
    fm_sim_recorder_step(&recorder, &(struct fm_sched_record_step){
                                        .now_ns = 3, .events = &up, .event_count = 1, .taken = 1});
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
    CHECK_INT_EQ(fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error),
                 0);
    CHECK(!found.differs && found.steps == 1);
    fm_sim_replay_table(&found, &text);
    CHECK_STR_CONTAINS(text.data, "holds no actions to compare with");
    fm_text_clear(&text);
    fm_sim_replay_json(&found, 5, &text);
    CHECK_STR_CONTAINS(text.data, "\"compared\":false,\"identical\":null");
    fm_text_deinit(&text);
    forget();
}

/* A step of many models is larger than the recorder's buffer at first. */
TEST(the_recorder_grows_its_buffer)
{
    enum { MANY = 400 };
    static struct fm_profile profiles[MANY];
    static struct fm_sched_model models[MANY];
    static struct fm_sched_event events[MANY];
    struct fm_sched_record_header header = header_of();
    struct fm_sim_replay found;
    header.events_max = MANY;
    header.options.models_max = MANY;
    for (uint32_t i = 0; i < MANY; i++) {
        profiles[i] = (struct fm_profile){0};
        for (uint32_t batch = 1; batch <= 40; batch++) {
            struct fm_profile_point point = {.batch = batch, .sample_count = i + batch};
            for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
                point.latency_ns[j] = MS * (i + batch + j);
            }
            CHECK_INT_EQ(fm_profile_add(&profiles[i], &point, &error), 0);
        }
        models[i] =
            (struct fm_sched_model){.model = i, .slo_ns = 1000 * MS, .profiles = {&profiles[i]}};
        events[i] =
            (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &models[i]};
    }
    fm_sim_recorder_begin(&recorder, &header);
    fm_sim_recorder_step(&recorder, &(struct fm_sched_record_step){.events = events,
                                                                   .event_count = MANY,
                                                                   .taken = MANY,
                                                                   .wake_ns = FM_SCHED_NEVER});
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
    CHECK_INT_EQ(fm_sim_replay(recorder.bytes.data, recorder.bytes.length, NULL, &found, &error),
                 0);
    CHECK_STR_EQ(found.difference, "");
    forget();
}

/* --- what-if -----------------------------------------------------------------------------------
 */

TEST(a_what_if_takes_what_came_from_outside)
{
    struct fm_sim_scenario scenario;
    struct fm_sim_what_if rest;
    live(true);
    int status = fm_sim_what_if_load("r", recorder.bytes.data, recorder.bytes.length, &scenario,
                                     &rest, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_UINT_EQ(rest.cancels, 1);
    CHECK_UINT_EQ(rest.changes, 0); /* it was set again as it was */
    CHECK_UINT_EQ(rest.failures + rest.homeless, 0);
    CHECK_INT_EQ(scenario.policy, FM_SCHED_POLICY_EAGER);
    CHECK_UINT_EQ(scenario.result_ns, MS);
    CHECK_UINT_EQ(scenario.warmup_ns, 0);
    CHECK(scenario.ends_with_load && scenario.events_keep_pace);
    CHECK_UINT_EQ(scenario.group_count, 1);
    const struct fm_sim_group *group = &scenario.groups[0];
    CHECK_STR_EQ(group->name, "model.2");
    CHECK_UINT_EQ(group->arrivals.time_count, 3);
    const uint64_t times_ns[] = {0, 0, 6 * MS};
    const uint64_t budgets_ns[] = {30 * MS, 40 * MS, 0};
    const uint8_t priorities[] = {0, 3, 1};
    CHECK_MEM_EQ(group->arrivals.times_ns, times_ns, sizeof times_ns);
    CHECK_MEM_EQ(group->budgets_ns, budgets_ns, sizeof budgets_ns);
    CHECK_MEM_EQ(group->priorities, priorities, sizeof priorities);
    /* 0, 1, 2 and 3 of types 1, 1, 1, 0; at first 1 is slow, 2 and 3 are not there. */
    CHECK_UINT_EQ(scenario.pool_count, 4);
    CHECK_UINT_EQ(scenario.pools[2].type, 1);
    CHECK_UINT_EQ(scenario.pools[3].type, 0);
    CHECK_UINT_EQ(scenario.event_count, 4);
    CHECK(scenario.events[0].kind == FM_SIM_EVENT_SLOW && scenario.events[0].first == 1 &&
          scenario.events[0].permille == 2000);
    CHECK(scenario.events[1].kind == FM_SIM_EVENT_DOWN && scenario.events[1].first == 2);
    CHECK(scenario.events[2].kind == FM_SIM_EVENT_DOWN && scenario.events[2].first == 3);
    CHECK(scenario.events[3].kind == FM_SIM_EVENT_UP && scenario.events[3].first == 2 &&
          scenario.events[3].at_ns == 6 * MS);
    fm_sim_scenario_deinit(&scenario);
    forget();
}

/* The scheduler dropped those that came before their model; the scenario must not have them. */
TEST(a_what_if_leaves_out_what_came_before_its_model)
{
    struct fm_sched_record_header header = header_of();
    struct fm_sim_scenario scenario;
    struct fm_sim_what_if rest;
    live(false); /* makes the profile and the model */
    fm_sim_recorder_deinit(&recorder);
    CHECK_INT_EQ(fm_sched_create(&header.options, &sched, &error), 0);
    fm_sim_recorder_begin(&recorder, &header);
    const struct fm_sched_event up = accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 0, 1, 0);
    tell(MS, &up, 1);
    for (uint32_t i = 0; i < 20; i++) {
        const struct fm_sched_event early = request_of(i, 60 * MS, 0);
        tell((2 + i) * MS, &early, 1);
    }
    const struct fm_sched_event set = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
    tell(30 * MS, &set, 1);
    const struct fm_sched_event late = request_of(0, 90 * MS, 2);
    tell(40 * MS, &late, 1);
    fm_sched_destroy(sched);
    sched = NULL;
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
    int status = fm_sim_what_if_load("r", recorder.bytes.data, recorder.bytes.length, &scenario,
                                     &rest, &error);
    CHECK_INT_EQ(status, 0);
    CHECK_UINT_EQ(rest.homeless, 20);
    CHECK_UINT_EQ(scenario.groups[0].arrivals.time_count, 1);
    CHECK_UINT_EQ(scenario.groups[0].arrivals.times_ns[0], 0);
    CHECK_UINT_EQ(scenario.groups[0].budgets_ns[0], 50 * MS);
    fm_sim_scenario_deinit(&scenario);
    forget();
}

/* A model that comes, goes, and changes its profile, and then something else. */
TEST(a_what_if_takes_changes_of_models)
{
    struct fm_sched_record_header header = header_of();
    struct fm_sim_scenario scenario;
    struct fm_sim_what_if rest;
    static struct fm_profile slower;
    live(false); /* makes the profile and the model */
    fm_sim_recorder_deinit(&recorder);
    slower = (struct fm_profile){0};
    CHECK_INT_EQ(fm_profile_add_affine(&slower, 2 * MS, 8 * MS, 8, NULL), 0);
    struct fm_sched_model changed = model;
    changed.profiles[1] = &slower;
    struct fm_sched_model other = changed;
    other.slo_ns *= 2;
    struct fm_sched_model early = model;
    early.model = 1;
    const struct fm_sched_event events[] = {
        accelerator_of(FM_SCHED_EVENT_ACCELERATOR_UP, 0, 1, 0),
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &early},
        request_of(0, 60 * MS, 0), /* for 2: homeless */
        {.kind = FM_SCHED_EVENT_REQUEST,
         .as.request = {.request = 1, .model = 1, .deadline_ns = 60 * MS}},
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model},
        request_of(2, 60 * MS, 0),
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &changed},
        {.kind = FM_SCHED_EVENT_MODEL_REMOVED, .as.model_removed = 2},
        request_of(3, 60 * MS, 0), /* homeless again */
        {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &other},
        request_of(4, 90 * MS, 0),
    };
    CHECK_INT_EQ(fm_sched_create(&header.options, &sched, &error), 0);
    fm_sim_recorder_begin(&recorder, &header);
    for (uint32_t i = 0; i < FM_COUNT_OF(events); i++) {
        tell(i * MS, &events[i], 1);
    }
    fm_sched_destroy(sched);
    sched = NULL;
    CHECK_INT_EQ(fm_sim_recorder_finish(&recorder, &error), 0);
    int status = fm_sim_what_if_load("r", recorder.bytes.data, recorder.bytes.length, &scenario,
                                     &rest, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_UINT_EQ(rest.homeless, 2);
    CHECK_UINT_EQ(rest.changes, 1);
    CHECK_UINT_EQ(scenario.group_count, 2);
    CHECK(!scenario.groups[0].absent && scenario.groups[1].absent);
    CHECK_UINT_EQ(scenario.groups[1].arrivals.time_count, 2);
    static const struct {
        enum fm_sim_event_kind kind;
        uint64_t at_ns;
    } expected[] = {{FM_SIM_EVENT_MODEL_ADDED, 1 * MS},
                    {FM_SIM_EVENT_REPROFILED, 3 * MS},
                    {FM_SIM_EVENT_MODEL_REMOVED, 4 * MS},
                    {FM_SIM_EVENT_MODEL_ADDED, 6 * MS}};
    CHECK_UINT_EQ(scenario.event_count, 4);
    for (uint32_t i = 0; i < FM_COUNT_OF(expected); i++) {
        CHECK_INT_EQ(scenario.events[i].kind, expected[i].kind);
        CHECK_UINT_EQ(scenario.events[i].at_ns, expected[i].at_ns);
        CHECK_UINT_EQ(scenario.events[i].first, 1);
    }
    CHECK_UINT_EQ(fm_profile_latency_ns(scenario.events[1].profiles[1], FM_PROFILE_MEAN, 1),
                  10 * MS);
    fm_sim_scenario_deinit(&scenario);
    forget();
}

/* --- memory ------------------------------------------------------------------------------------
 */

TEST(no_allocation_that_fails_does_harm)
{
    live(true);
    for (int what = 0; what < 3; what++) {
        int status = FM_ENOMEM;
        for (uint64_t nth = 1; status != 0; nth++) {
            struct fm_sim_replay found;
            struct fm_sim_scenario scenario;
            struct fm_sim_what_if rest;
            struct fm_sim_recorder again = {0};
            error = (struct fm_error){0};
            (void)fm_memory_fail_at(nth, 0);
            if (what == 2) {
                status = fm_sim_what_if_load("r", recorder.bytes.data, recorder.bytes.length,
                                             &scenario, &rest, &error);
                fm_sim_scenario_deinit(&scenario);
            } else {
                status = fm_sim_replay(recorder.bytes.data, recorder.bytes.length,
                                       what == 1 ? &again : NULL, &found, &error);
                if (status == 0 && what == 1) {
                    status = fm_sim_recorder_finish(&again, &error);
                }
            }
            (void)fm_memory_fail_at(0, 0);
            fm_sim_recorder_deinit(&again);
            CHECK(status == 0 || status == FM_ENOMEM);
            CHECK_INT_EQ(error.status, status);
            CHECK(nth < 1000);
        }
    }
    forget();
}

TEST_MAIN()
