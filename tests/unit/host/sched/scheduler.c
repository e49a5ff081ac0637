/*
 * The scheduler's threads: real ones, with accelerators that this test plays. ThreadSanitizer
 * watches.
 */
#include "host/sched/scheduler.h"

#include <stdatomic.h>

#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/parker.h"
#include "host/os/ring.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

enum { MODELS = 10, ACCELERATORS = 6, SLOTS = 512, SHARDS = 3, REQUESTS = 6000 };
/* Of the scheduler that a test makes: SHARDS, or 0 for one without. */
static uint32_t shard_count = SHARDS;
#define MS UINT64_C(1000000)

struct told {
    enum fm_sched_action_kind kind;
    enum fm_sched_drop_reason reason;
    uint32_t slot; /* NONE: a batch began */
    uint32_t accelerator;
    uint64_t batch;
    uint64_t expected_ns;
};

struct world {
    struct fm_scheduler *scheduler;
    struct fm_ring told[SHARDS];
    struct fm_parker parker;
    struct fm_profile profile;
    bool busy[SLOTS];
    uint32_t model[SLOTS];
    struct told running[ACCELERATORS]; /* batch 0: none */
    struct told behind[ACCELERATORS];  /* with lead times: comes next */
    uint64_t behind_count;             /* so far */
    bool leads;
    bool lossy; /* accelerators go in the middle of batches */
    uint32_t live;
    uint64_t steps; /* told, and the events in them */
    uint64_t events;
    uint64_t done;
    uint64_t dropped[FM_SCHED_DROP_COUNT_];
};

static void on_action(void *context, uint32_t shard, const struct fm_sched_action *action,
                      const uint32_t *requests)
{
    struct world *world = context;
    struct told told = {.kind = action->kind,
                        .reason = action->reason,
                        .slot =
                            action->kind == FM_SCHED_ACTION_DROP ? action->request : FM_SCHED_NONE,
                        .accelerator = action->accelerator,
                        .batch = action->batch,
                        .expected_ns = action->expected_ns};
    bool put = action->kind == FM_SCHED_ACTION_DONE ||
               fm_ring_put(&world->told[shard], &told, sizeof told);
    for (uint32_t i = 0; action->kind == FM_SCHED_ACTION_DONE && i < action->request_count; i++) {
        told.slot = requests[i];
        put = put && fm_ring_put(&world->told[shard], &told, sizeof told);
    }
    CHECK(put);
    fm_parker_wake(&world->parker);
}

static struct fm_scheduler_options options_of(struct world *world)
{
    return (struct fm_scheduler_options){
        .sched = {.policy = FM_SCHED_POLICY_DEFERRED,
                  .models_max = MODELS,
                  .accelerators_max = ACCELERATORS,
                  .type_count = 1,
                  .requests_max = SLOTS,
                  .batch_max = 16,
                  .attempts_max = 2},
        .shard_count = shard_count,
        .submitter_count = 1,
        .reporter_count = 1,
        .on_action = on_action,
        .context = world,
    };
}

static void control(struct world *world, const struct fm_sched_event *event)
{
    struct fm_error error;
    CHECK_INT_EQ(fm_scheduler_control(world->scheduler, event, &error), 0);
}

static void model_set(struct world *world, uint32_t id)
{
    struct fm_sched_model model = {.model = id, .slo_ns = 60 * MS, .profiles = {&world->profile}};
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
    control(world, &event);
}

static void accelerator_is(struct world *world, uint32_t id, enum fm_sched_event_kind kind)
{
    struct fm_sched_event event = {.kind = kind};
    event.as.accelerator.accelerator = id;
    control(world, &event);
}

static void world_begin_with(struct world *world, uint64_t control_ns, uint64_t data_ns)
{
    memset(world, 0, sizeof *world);
    world->leads = control_ns + data_ns > 0;
    fm_parker_init(&world->parker);
    for (uint32_t i = 0; i < SHARDS; i++) {
        CHECK_INT_EQ(fm_ring_init(&world->told[i], 4 * SLOTS, sizeof(struct told)), 0);
    }
    CHECK_INT_EQ(fm_profile_add_affine(&world->profile, MS / 10, MS / 2, 16, NULL), 0);
    struct fm_scheduler_options options = options_of(world);
    options.sched.control_ns = control_ns;
    options.sched.data_ns = data_ns;
    struct fm_error error;
    CHECK_INT_EQ(fm_scheduler_create(&options, &world->scheduler, &error), 0);
    for (uint32_t id = 0; id < MODELS; id++) {
        model_set(world, id);
    }
    for (uint32_t id = 0; id < ACCELERATORS; id++) {
        accelerator_is(world, id, FM_SCHED_EVENT_ACCELERATOR_UP);
    }
}

static void world_begin(struct world *world)
{
    world_begin_with(world, 0, 0);
}

static void world_end(struct world *world)
{
    fm_scheduler_destroy(world->scheduler);
    for (uint32_t i = 0; i < SHARDS; i++) {
        fm_ring_deinit(&world->told[i]);
    }
}

static void hear(struct world *world, const struct told *told)
{
    if (told->kind == FM_SCHED_ACTION_START) {
        struct told *running = &world->running[told->accelerator];
        if (world->leads && running->batch != 0) {
            CHECK(world->behind[told->accelerator].batch == 0);
            bool first = told->batch < running->batch;
            world->behind[told->accelerator] = first ? *running : *told;
            *running = first ? *told : *running;
            world->behind_count++;
            return;
        }
        /* Without lead times a second one means that the first was lost. */
        CHECK(world->lossy || running->batch == 0);
        *running = told->batch > running->batch ? *told : *running;
        return;
    }
    if (told->kind == FM_SCHED_ACTION_PREEMPT) {
        struct told *running = &world->running[told->accelerator];
        running->batch = running->batch == told->batch ? 0 : running->batch;
        return;
    }
    CHECK(world->busy[told->slot]);
    world->busy[told->slot] = false;
    world->live--;
    if (told->kind == FM_SCHED_ACTION_DROP) {
        world->dropped[told->reason]++;
    } else {
        world->done++;
    }
}

/* False: there was nothing. */
static bool hear_all(struct world *world)
{
    bool any = false;
    for (uint32_t i = 0; i < SHARDS; i++) {
        uint32_t count;
        const struct told *told = fm_ring_peek(&world->told[i], &count);
        for (uint32_t k = 0; k < count; k++) {
            hear(world, &told[k]);
        }
        if (count > 0) {
            fm_ring_take(&world->told[i], count);
            any = true;
        }
    }
    return any;
}

/* What the shards have said and what has ended; `fail`: each so many-th batch fails. */
static void look(struct world *world, uint32_t fail)
{
    uint64_t now_ns = fm_os_now_ns();
    while (hear_all(world)) { /* of one batch before the one behind it */
    }
    for (uint32_t id = 0; id < ACCELERATORS; id++) {
        uint64_t batch = world->running[id].batch;
        if (batch != 0 && world->running[id].expected_ns <= now_ns) {
            struct fm_sched_event event = {.kind = fail > 0 && batch % fail == 0
                                                       ? FM_SCHED_EVENT_BATCH_FAILED
                                                       : FM_SCHED_EVENT_BATCH_DONE};
            event.as.batch.accelerator = id;
            event.as.batch.batch = batch;
            world->running[id] = world->behind[id];
            world->behind[id].batch = 0;
            CHECK(fm_scheduler_report(world->scheduler, 0, &event));
            fm_scheduler_report_flush(world->scheduler, 0);
        }
    }
}

static void wait_a_moment(struct world *world)
{
    fm_parker_prepare(&world->parker);
    fm_parker_park(&world->parker, fm_os_now_ns() + MS / 5);
}

static bool submit(struct world *world, uint32_t model, uint64_t slo_ns)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        if (world->busy[slot]) {
            continue;
        }
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
        event.as.request.request = slot;
        event.as.request.model = model;
        event.as.request.deadline_ns = fm_os_now_ns() + slo_ns;
        if (!fm_scheduler_submit(world->scheduler, 0, model, &event)) {
            return false;
        }
        world->busy[slot] = true;
        world->model[slot] = model;
        world->live++;
        return true;
    }
    return false;
}

static void drain(struct world *world, uint32_t fail)
{
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    while (world->live > 0 && fm_os_now_ns() < until_ns) {
        look(world, fail);
        wait_a_moment(world);
    }
    CHECK_UINT_EQ(world->live, 0);
}

static void check_every_request_gets_one_outcome(void)
{
    static struct world world;
    world_begin(&world);
    uint32_t submitted = 0;
    while (submitted < REQUESTS) {
        for (uint32_t i = 0; i < 20 && submit(&world, (submitted * 7) % MODELS, 60 * MS); i++) {
            submitted++;
        }
        fm_scheduler_flush(world.scheduler, 0);
        look(&world, 50);
        wait_a_moment(&world);
    }
    drain(&world, 50);
    uint64_t dropped = 0;
    for (uint32_t i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        dropped += world.dropped[i];
    }
    CHECK_UINT_EQ(world.done + dropped, submitted);
    CHECK(world.done > REQUESTS / 10);
    world_end(&world);
}

TEST(every_request_gets_one_outcome)
{
    check_every_request_gets_one_outcome();
}

TEST(without_shards_every_request_gets_one_outcome)
{
    shard_count = 0;
    check_every_request_gets_one_outcome();
    shard_count = SHARDS;
}

/* Inputs that travel ahead: a batch may be handed out while another runs. */
static void check_a_batch_may_stand_behind_the_one_that_runs(void)
{
    static struct world world;
    world_begin_with(&world, MS / 2, MS / 50);
    uint32_t submitted = 0;
    while (submitted < REQUESTS) {
        for (uint32_t i = 0; i < 20 && submit(&world, (submitted * 7) % MODELS, 60 * MS); i++) {
            submitted++;
        }
        fm_scheduler_flush(world.scheduler, 0);
        look(&world, 0);
        wait_a_moment(&world);
    }
    drain(&world, 0);
    CHECK(world.done > REQUESTS / 10 && world.behind_count > 0);
    world_end(&world);
}

TEST(a_batch_may_stand_behind_the_one_that_runs)
{
    check_a_batch_may_stand_behind_the_one_that_runs();
}

TEST(without_shards_a_batch_may_stand_behind_the_one_that_runs)
{
    shard_count = 0;
    check_a_batch_may_stand_behind_the_one_that_runs();
    shard_count = SHARDS;
}

static void check_it_ends_in_the_middle_of_everything(void)
{
    for (uint32_t round = 0; round < 20; round++) {
        static struct world world;
        world_begin(&world);
        for (uint32_t i = 0; i < SLOTS / 2 && submit(&world, i % MODELS, 60 * MS); i++) {
            if (i % 8 == 0) {
                fm_scheduler_flush(world.scheduler, 0);
                look(&world, 3);
            }
        }
        CHECK(world.live > 0);
        world_end(&world);
    }
}

TEST(it_ends_in_the_middle_of_everything)
{
    check_it_ends_in_the_middle_of_everything();
}

TEST(without_shards_it_ends_in_the_middle_of_everything)
{
    shard_count = 0;
    check_it_ends_in_the_middle_of_everything();
    shard_count = SHARDS;
}

static void check_what_is_cancelled_or_cannot_be_met_is_said(void)
{
    static struct world world;
    world_begin(&world);
    for (uint32_t id = 0; id < ACCELERATORS; id++) {
        accelerator_is(&world, id, FM_SCHED_EVENT_ACCELERATOR_DOWN);
    }
    CHECK(submit(&world, 3, 5000 * MS));
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_CANCEL, .as.cancel.request = 0};
    CHECK(fm_scheduler_submit(world.scheduler, 0, 3, &event));
    CHECK(submit(&world, 4, 1));
    fm_scheduler_flush(world.scheduler, 0);
    drain(&world, 0);
    CHECK_UINT_EQ(world.dropped[FM_SCHED_DROP_CANCELLED], 1);
    CHECK_UINT_EQ(world.dropped[FM_SCHED_DROP_INFEASIBLE], 1);
    world_end(&world);
}

TEST(what_is_cancelled_or_cannot_be_met_is_said)
{
    check_what_is_cancelled_or_cannot_be_met_is_said();
}

TEST(without_shards_what_is_cancelled_or_cannot_be_met_is_said)
{
    shard_count = 0;
    check_what_is_cancelled_or_cannot_be_met_is_said();
    shard_count = SHARDS;
}

static void check_models_and_accelerators_may_go_while_requests_come(void)
{
    static struct world world;
    world_begin(&world);
    world.lossy = true;
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t id = round % ACCELERATORS;
        for (uint32_t i = 0; i < 40; i++) {
            (void)submit(&world, i % MODELS, 60 * MS);
        }
        fm_scheduler_flush(world.scheduler, 0);
        struct fm_sched_event removed = {.kind = FM_SCHED_EVENT_MODEL_REMOVED,
                                         .as.model_removed = round % MODELS};
        control(&world, &removed);
        look(&world, 0);
        accelerator_is(&world, id, FM_SCHED_EVENT_ACCELERATOR_DOWN);
        wait_a_moment(&world);
        look(&world, 0);
        model_set(&world, round % MODELS);
        accelerator_is(&world, id, FM_SCHED_EVENT_ACCELERATOR_UP);
    }
    drain(&world, 0);
    CHECK(world.done > 0);
    CHECK(world.dropped[FM_SCHED_DROP_MODEL_GONE] > 0);
    world_end(&world);
}

TEST(models_and_accelerators_may_go_while_requests_come)
{
    check_models_and_accelerators_may_go_while_requests_come();
}

TEST(without_shards_models_and_accelerators_may_go_while_requests_come)
{
    shard_count = 0;
    check_models_and_accelerators_may_go_while_requests_come();
    shard_count = SHARDS;
}

TEST(idle_threads_sleep_once_the_load_is_forgotten)
{
    static struct world world;
    static struct fm_scheduler_stats before;
    static struct fm_scheduler_stats after;
    world_begin(&world);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)submit(&world, i % MODELS, 60 * MS);
        if (i % 20 == 0) {
            fm_scheduler_flush(world.scheduler, 0);
            look(&world, 0);
            wait_a_moment(&world);
        }
    }
    fm_scheduler_flush(world.scheduler, 0);
    drain(&world, 0);
    fm_scheduler_stats_get(world.scheduler, &before);
    CHECK(before.matcher.busy_milli > 0);
    fm_sleep_until(fm_os_now_ns() + 4000 * MS); /* windows of demand are half a second long */
    fm_scheduler_stats_get(world.scheduler, &before);
    CHECK_UINT_EQ(before.matcher.busy_milli, 0);
    fm_sleep_until(fm_os_now_ns() + 300 * MS);
    fm_scheduler_stats_get(world.scheduler, &after);
    CHECK_UINT_EQ(after.parks, before.parks);
    world_end(&world);
}

static void check_a_control_that_cannot_be_is_refused(void)
{
    static struct world world;
    struct fm_error error;
    world_begin(&world);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_ACCELERATOR_UP};
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "is there already");
    event.as.accelerator.accelerator = ACCELERATORS;
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "6 accelerators and 10 models at most");
    struct fm_sched_model model = {.model = 2, .slo_ns = 0, .profiles = {&world.profile}};
    event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), FM_EINVAL);
    event = (struct fm_sched_event){.kind = FM_SCHED_EVENT_TICK};
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), FM_EINVAL);
    world_end(&world);
}

static void check_a_drain_is_taken(void)
{
    static struct world world;
    struct fm_error error;
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_DRAIN};
    world_begin(&world);
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), 0);
    CHECK_INT_EQ(fm_scheduler_control(world.scheduler, &event, &error), 0);
    world_end(&world);
}

TEST(a_drain_is_taken)
{
    check_a_drain_is_taken();
    shard_count = 0;
    check_a_drain_is_taken();
    shard_count = SHARDS;
}

TEST(a_control_that_cannot_be_is_refused)
{
    check_a_control_that_cannot_be_is_refused();
}

TEST(without_shards_a_control_that_cannot_be_is_refused)
{
    shard_count = 0;
    check_a_control_that_cannot_be_is_refused();
    shard_count = SHARDS;
}

static void check_several_controls_at_once_leave_out_what_is_refused(void)
{
    static struct world world;
    world_begin(&world);
    struct fm_error error;
    struct fm_sched_event events[3];
    for (uint32_t i = 0; i < 3; i++) {
        events[i] =
            (struct fm_sched_event){.kind = FM_SCHED_EVENT_MODEL_REMOVED, .as.model_removed = i};
    }
    CHECK_INT_EQ(fm_scheduler_controls(world.scheduler, events, 2, &error), 0);
    /* 0 and 1 are gone already, 2 goes. */
    CHECK_INT_EQ(fm_scheduler_controls(world.scheduler, events, 3, &error), FM_EINVAL);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(submit(&world, i, 5000 * MS));
    }
    CHECK(submit(&world, 3, 5000 * MS));
    fm_scheduler_flush(world.scheduler, 0);
    drain(&world, 0);
    CHECK_UINT_EQ(world.dropped[FM_SCHED_DROP_MODEL_GONE], 3);
    CHECK_UINT_EQ(world.done, 1);
    events[1] = (struct fm_sched_event){.kind = FM_SCHED_EVENT_ACCELERATOR_DOWN};
    CHECK_INT_EQ(fm_scheduler_controls(world.scheduler, events, 2, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "of one kind");
    CHECK_INT_EQ(fm_scheduler_controls(world.scheduler, events, 0, &error), 0);
    world_end(&world);
}

TEST(several_controls_at_once_leave_out_what_is_refused)
{
    check_several_controls_at_once_leave_out_what_is_refused();
}

TEST(without_shards_several_controls_at_once_leave_out_what_is_refused)
{
    shard_count = 0;
    check_several_controls_at_once_leave_out_what_is_refused();
    shard_count = SHARDS;
}

static void on_step(void *context, const struct fm_sched_record_step *step)
{
    struct world *world = context;
    world->steps++;
    world->events += step->taken;
}

/* Everything that is taken is in the steps that are told. */
TEST(without_shards_every_step_is_told)
{
    static struct world world;
    static struct fm_scheduler_stats stats;
    struct fm_scheduler_options options = options_of(&world);
    shard_count = 0;
    world_begin(&world);
    fm_scheduler_destroy(world.scheduler);
    options.shard_count = 0;
    options.on_step = on_step;
    struct fm_error error;
    CHECK_INT_EQ(fm_scheduler_create(&options, &world.scheduler, &error), 0);
    model_set(&world, 1);
    accelerator_is(&world, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK(submit(&world, 1, 5000 * MS));
        fm_scheduler_flush(world.scheduler, 0);
    }
    drain(&world, 0);
    CHECK_UINT_EQ(world.done, 100);
    fm_scheduler_stats_get(world.scheduler, &stats);
    CHECK_UINT_EQ(stats.requests, 100);
    CHECK_UINT_EQ(world.steps, stats.steps);
    CHECK_UINT_EQ(world.events, 2 + 100 + stats.batches);
    CHECK_UINT_EQ(stats.matcher.accelerators_up, 1);
    world_end(&world);
    shard_count = SHARDS;
}

/* The policies that choose among all models have no parts: they are here only. */
TEST(without_shards_all_policies_serve)
{
    static struct world world;
    shard_count = 0;
    for (unsigned policy = 0; policy < FM_SCHED_POLICY_COUNT_; policy++) {
        world_begin(&world);
        fm_scheduler_destroy(world.scheduler);
        struct fm_scheduler_options options = options_of(&world);
        options.sched.policy = (enum fm_sched_policy_kind)policy;
        struct fm_error error;
        CHECK_INT_EQ(fm_scheduler_create(&options, &world.scheduler, &error), 0);
        world.lossy = true; /* some preempt, some plan ahead */
        world.leads = policy == FM_SCHED_POLICY_CLOCKWORK;
        model_set(&world, 1);
        accelerator_is(&world, 0, FM_SCHED_EVENT_ACCELERATOR_UP);
        for (uint32_t i = 0; i < 20; i++) {
            CHECK(submit(&world, 1, 200 * MS));
        }
        fm_scheduler_flush(world.scheduler, 0);
        drain(&world, 0);
        CHECK(world.done > 0);
        world_end(&world);
    }
    shard_count = SHARDS;
}

TEST(what_cannot_be_created_is_explained)
{
    struct world world = {0};
    struct fm_scheduler *scheduler;
    struct fm_error error;
    struct fm_scheduler_options options = options_of(&world);
    options.shard_count = 65;
    CHECK_INT_EQ(fm_scheduler_create(&options, &scheduler, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "shard_count is 65, must be 0 to 64");
    options = options_of(&world);
    options.on_step = on_step;
    CHECK_INT_EQ(fm_scheduler_create(&options, &scheduler, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "one scheduler makes them all");
    options = options_of(&world);
    options.sched.policy = FM_SCHED_POLICY_NEXUS;
    CHECK_INT_EQ(fm_scheduler_create(&options, &scheduler, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "nexus chooses among all models at once");
    options = options_of(&world);
    options.submit_capacity = UINT32_MAX;
    CHECK_INT_EQ(fm_scheduler_create(&options, &scheduler, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "submit_capacity");
    options = options_of(&world);
    options.sched.requests_max = 0;
    CHECK_INT_EQ(fm_scheduler_create(&options, &scheduler, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "requests_max");
}

TEST(no_memory_is_said_wherever_it_ends)
{
    struct world world = {0};
    struct fm_scheduler_options options = options_of(&world);
    for (options.shard_count = 0; options.shard_count <= 1; options.shard_count++) {
        int status = FM_ENOMEM;
        for (uint64_t nth = 1; status == FM_ENOMEM; nth++) {
            struct fm_scheduler *scheduler = NULL;
            struct fm_error error;
            (void)fm_memory_fail_at(nth, 0);
            status = fm_scheduler_create(&options, &scheduler, &error);
            (void)fm_memory_fail_at(0, 0);
            if (status == 0) {
                CHECK(nth > 10);
                fm_scheduler_destroy(scheduler);
            }
        }
        CHECK_INT_EQ(status, 0);
    }
}

int main(int argc, char **argv)
{
    return fm_test_main(argc, argv);
}
