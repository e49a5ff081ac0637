/*
 * The loop of the simulated world. See world.h.
 */
#include "engines/sim/world.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/load/portable_math.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "engines/sim/partition.h"
#include "engines/sim/world_state.h"

/* Steps in a row at one time that neither take nor say anything. */
#define IDLE_STEPS_MAX 16u

/* --- how many are up ---------------------------------------------------------------------------
 */

/* Counts those that are up and starting until now; before either changes. */
static void up_count_add(struct fm_sim_world *world)
{
    struct fm_sim_result *result = world->result;
    uint64_t stop_ns = world->now_ns < world->end_ns ? world->now_ns : world->end_ns;
    uint64_t from_ns = world->counted_ns;
    if (from_ns >= stop_ns) {
        return;
    }
    uint64_t warmup_ns = world->scenario->warmup_ns;
    if (stop_ns > warmup_ns) {
        uint64_t measured_ns = stop_ns - (from_ns > warmup_ns ? from_ns : warmup_ns);
        result->up_ns += measured_ns * world->up_count;
        result->starting_ns += measured_ns * world->autoscaler.starting_count;
        result->up_min = world->up_count < result->up_min ? world->up_count : result->up_min;
        result->up_max = world->up_count > result->up_max ? world->up_count : result->up_max;
    }
    for (uint64_t bucket = from_ns / result->bucket_ns; from_ns < stop_ns; bucket++) {
        uint64_t edge_ns = (bucket + 1) * result->bucket_ns;
        edge_ns = edge_ns < stop_ns ? edge_ns : stop_ns;
        result->timeline[bucket].up_ns += (edge_ns - from_ns) * world->up_count;
        from_ns = edge_ns;
    }
    world->counted_ns = stop_ns;
}

static void up_set(struct fm_sim_world *world, uint32_t id, bool up)
{
    up_count_add(world);
    world->accelerators[id].up = up;
    world->up_count = up ? world->up_count + 1 : world->up_count - 1;
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void slot_free(struct fm_sim_world *world, uint32_t request)
{
    world->slots[request].generation = 0;
    world->slots_free[world->slots_free_count++] = request;
}

static bool is_measured(const struct fm_sim_world *world, const struct fm_sim_world_slot *slot)
{
    return slot->arrival_ns >= world->scenario->warmup_ns;
}

/* A stage has answered: the request goes on, or was at its last. */
static void stage_answered(struct fm_sim_world *world, uint32_t request, uint64_t answer_ns)
{
    struct fm_sim_world_slot *slot = &world->slots[request];
    const struct fm_sim_world_stage *stage =
        &world->stages[slot->class_index - FM_SIM_WORLD_STAGE_FIRST];
    struct fm_sim_pipeline_result *result = &world->result->pipelines[stage->pipeline];
    bool late = answer_ns > slot->deadline_ns;
    bool measured = is_measured(world, slot);
    if (measured) {
        result->stages[stage->index].late += late;
        result->stages[stage->index].good += !late;
    }
    if (!stage->last) {
        slot->class_index++;
        slot->model = stage[1].model;
        slot->deadline_ns = slot->arrival_ns + stage[1].due_ns;
        fm_time_heap_push(&world->going,
                          (struct fm_time_heap_entry){.time_ns = answer_ns, .id = request});
        return;
    }
    world->result->timeline[slot->bucket].bad += late;
    fm_sim_autoscaler_outcome(&world->autoscaler, late);
    if (measured) {
        result->counts.late += late;
        result->counts.good += !late;
        fm_log_histogram_add(&result->latency, answer_ns - slot->arrival_ns);
    }
    slot_free(world, request);
}

static void request_answered(struct fm_sim_world *world, uint32_t request)
{
    struct fm_sim_world_slot *slot = &world->slots[request];
    uint64_t answer_ns = world->now_ns + world->scenario->result_ns;
    bool late = answer_ns > slot->deadline_ns;
    fm_sim_auditor_returned(world->auditor, world->now_ns, request, true);
    if (slot->class_index >= FM_SIM_WORLD_STAGE_FIRST) {
        stage_answered(world, request, answer_ns);
        return;
    }
    world->result->timeline[slot->bucket].bad += late;
    fm_sim_autoscaler_outcome(&world->autoscaler, late);
    if (is_measured(world, slot)) {
        struct fm_sim_model_result *result = world->models[slot->model].result;
        result->counts.late += late;
        result->counts.good += !late;
        if (result->classes != NULL) {
            result->classes[slot->class_index].counts.late += late;
            result->classes[slot->class_index].counts.good += !late;
        }
        fm_log_histogram_add(&result->latency, answer_ns - slot->arrival_ns);
    }
    slot_free(world, request);
}

static void request_dropped(struct fm_sim_world *world, uint32_t request,
                            enum fm_sched_drop_reason reason)
{
    struct fm_sim_world_slot *slot = &world->slots[request];
    world->result->timeline[slot->bucket].bad += reason != FM_SCHED_DROP_CANCELLED;
    if (fm_sim_autoscaler_is_lack(reason)) {
        fm_sim_autoscaler_outcome(&world->autoscaler, true);
    }
    if (is_measured(world, slot) && slot->class_index >= FM_SIM_WORLD_STAGE_FIRST) {
        const struct fm_sim_world_stage *stage =
            &world->stages[slot->class_index - FM_SIM_WORLD_STAGE_FIRST];
        struct fm_sim_pipeline_result *result = &world->result->pipelines[stage->pipeline];
        result->counts.dropped[reason]++;
        result->stages[stage->index].dropped[reason]++;
    } else if (is_measured(world, slot)) {
        struct fm_sim_model_result *result = world->models[slot->model].result;
        result->counts.dropped[reason]++;
        if (result->classes != NULL) {
            result->classes[slot->class_index].counts.dropped[reason]++;
        }
    }
    slot_free(world, request);
}

/* --- batches -----------------------------------------------------------------------------------
 */

/* Time on an accelerator, in the measured interval and on the timeline. */
static void busy_add(struct fm_sim_world *world, uint32_t id, uint64_t begin_ns, uint64_t end_ns)
{
    struct fm_sim_result *result = world->result;
    uint64_t stop_ns = end_ns < world->end_ns ? end_ns : world->end_ns;
    uint64_t from_ns =
        begin_ns > world->scenario->warmup_ns ? begin_ns : world->scenario->warmup_ns;
    if (stop_ns > from_ns) {
        result->accelerators[id].busy_ns += stop_ns - from_ns;
    }
    for (uint64_t bucket = begin_ns / result->bucket_ns; begin_ns < stop_ns; bucket++) {
        uint64_t edge_ns = (bucket + 1) * result->bucket_ns;
        edge_ns = edge_ns < stop_ns ? edge_ns : stop_ns;
        result->timeline[bucket].busy_ns += edge_ns - begin_ns;
        begin_ns = edge_ns;
        if (bucket >= world->accelerators[id].bucket_next) {
            result->timeline[bucket].used++;
            world->accelerators[id].bucket_next = (uint32_t)bucket + 1;
        }
    }
}

/* Ends of batches that were taken off early stay in the heap until their time; when it is full they
 * go, and as at most one end an accelerator is a real one there is room again. */
static void ends_compact(struct fm_sim_world *world)
{
    struct fm_time_heap *heap = &world->ends;
    uint32_t count = heap->count;
    heap->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct fm_time_heap_entry entry = heap->entries[i];
        const struct fm_sim_world_accelerator *accelerator = &world->accelerators[entry.id];
        if (accelerator->batch_count > 0 && (uint32_t)accelerator->batches[0].number == entry.tag) {
            fm_time_heap_push(heap, entry);
        }
    }
}

/* Standard normal by the polar method (Marsaglia): the same bits everywhere, as square roots are
 * and cosines are not. */
static double normal(struct fm_random *random)
{
    for (;;) {
        double x = 2 * fm_random_unit(random) - 1;
        double y = 2 * fm_random_unit(random) - 1;
        double square = x * x + y * y;
        if (square > 1e-300 && square < 1) {
            return x * sqrt(-2 * fm_portable_log(square) / square);
        }
    }
}

/* The first batch of the accelerator gets its time. */
static void batch_begin(struct fm_sim_world *world, uint32_t id)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[id];
    struct fm_sim_world_batch *batch = &accelerator->batches[0];
    const struct fm_sim_scenario *scenario = world->scenario;
    batch->begin_ns = batch->planned_ns > world->now_ns ? batch->planned_ns : world->now_ns;
    const struct fm_sim_world_model *model = &world->models[batch->model];
    uint64_t latency_ns = model->truth->latency_ns[accelerator->type][batch->count];
    if (accelerator->permille != 1000) {
        latency_ns = latency_ns / 1000 * accelerator->permille;
    }
    if (scenario->spread_sigma > 0) {
        double factor = fm_portable_exp(scenario->spread_sigma * normal(&world->spread));
        double spread_ns = (double)latency_ns * factor + 1;
        latency_ns = spread_ns < (double)FM_PROFILE_LATENCY_MAX_NS ? (uint64_t)spread_ns
                                                                   : FM_PROFILE_LATENCY_MAX_NS;
    }
    batch->fails =
        scenario->failure_share > 0 && fm_random_unit(&world->failures) < scenario->failure_share;
    uint64_t batch_end_ns = batch->begin_ns + latency_ns;
    if (batch_end_ns + FM_SIM_WORLD_DRAIN_NS > world->limit_ns) {
        world->limit_ns = batch_end_ns + FM_SIM_WORLD_DRAIN_NS;
    }
    if (world->ends.count == world->ends.capacity) {
        ends_compact(world);
    }
    fm_time_heap_push(&world->ends, (struct fm_time_heap_entry){
                                        .time_ns = batch_end_ns,
                                        .id = id,
                                        .tag = (uint32_t)batch->number,
                                    });
    if (batch->begin_ns >= scenario->warmup_ns && batch->begin_ns < world->end_ns) {
        model->result->counts.batches++;
        model->result->counts.rows += batch->count;
        world->result->batch_sizes[batch->count]++;
        world->result->accelerators[id].batches++;
    }
}

/* The scenario's number of an accelerator of the sub-cluster. */
static uint32_t global_id(const struct fm_sim_world *world, uint32_t id)
{
    const struct fm_sim_division *division = world->options->division;
    return division == NULL ? id : division->members[division->first[world->options->cluster] + id];
}

/* Takes a batch off its accelerator; what was behind it begins. */
static void batch_remove(struct fm_sim_world *world, uint32_t id, uint32_t place, bool completed)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[id];
    const struct fm_sim_world_batch *batch = &accelerator->batches[place];
    uint64_t now_ns = world->now_ns;
    if (place == 0 && now_ns > batch->begin_ns) {
        busy_add(world, id, batch->begin_ns, now_ns);
        if (world->options->on_span != NULL) {
            world->options->on_span(world->options->context,
                                    &(struct fm_sim_span){
                                        .batch = batch->number,
                                        .begin_ns = batch->begin_ns,
                                        .end_ns = now_ns,
                                        .model = batch->model,
                                        .accelerator = global_id(world, id),
                                        .count = batch->count,
                                        .completed = completed,
                                    });
        }
    }
    fm_sim_auditor_batch_ended(world->auditor, now_ns, id, batch->number);
    uint32_t request = batch->first;
    for (uint32_t i = 0; i < batch->count; i++) {
        uint32_t next = world->slots[request].next;
        if (completed) {
            request_answered(world, request);
        } else {
            fm_sim_auditor_returned(world->auditor, now_ns, request, false);
        }
        request = next;
    }
    accelerator->batch_count--;
    if (place == 0 && accelerator->batch_count > 0) {
        accelerator->batches[0] = accelerator->batches[1];
        batch_begin(world, id);
    }
}

static void batch_start(struct fm_sim_world *world, const struct fm_sched_action *action,
                        const uint32_t *requests)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[action->accelerator];
    for (uint32_t i = 0; i + 1 < action->request_count; i++) {
        world->slots[requests[i]].next = requests[i + 1];
    }
    accelerator->batches[accelerator->batch_count++] = (struct fm_sim_world_batch){
        .number = action->batch,
        .planned_ns = action->start_ns,
        .model = action->model,
        .first = requests[0],
        .count = action->request_count,
    };
    if (accelerator->batch_count == 1) {
        batch_begin(world, action->accelerator);
    }
}

/* --- actions -----------------------------------------------------------------------------------
 */

/* l(b) as the scheduler was told, 0 for a batch that cannot be. */
static uint64_t latency_of(const struct fm_sim_world *world, const struct fm_sched_action *action)
{
    if (action->kind != FM_SCHED_ACTION_START || action->model >= world->model_count ||
        action->accelerator >= world->accelerator_count) {
        return 0;
    }
    const struct fm_sim_world_model *model = &world->models[action->model];
    const struct fm_sim_latencies *shared = &world->shared[model->group];
    const uint64_t *table =
        model->promise->latency_ns[world->accelerators[action->accelerator].type];
    if (table == NULL || action->request_count > shared->batch_max) {
        fm_sim_auditor_blame(world->auditor, world->now_ns,
                             "batch %" PRIu64 " of model %" PRIu32 " with %" PRIu32
                             " requests cannot run on accelerator %" PRIu32,
                             action->batch, action->model, action->request_count,
                             action->accelerator);
        return 0;
    }
    return table[action->request_count];
}

static void batch_preempt(struct fm_sim_world *world, const struct fm_sched_action *action)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[action->accelerator];
    uint32_t place = accelerator->batches[0].number == action->batch ? 0 : 1;
    world->result->preempted++;
    batch_remove(world, action->accelerator, place, false);
}

static void actions_apply(struct fm_sim_world *world)
{
    const struct fm_sched_actions *actions = &world->actions;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct fm_sched_action *action = &actions->items[i];
        const uint32_t *requests = actions->requests + action->request_first;
        world->result->trace_hash =
            fm_sim_action_hash(world->result->trace_hash, world->now_ns, action, requests);
        if (world->options->on_action != NULL) {
            world->options->on_action(world->options->context, world->now_ns, action, requests);
        }
        uint64_t latency_ns = latency_of(world, action);
        if (!fm_sim_auditor_action(world->auditor, world->now_ns, action, requests, latency_ns)) {
            continue;
        }
        switch (action->kind) {
        case FM_SCHED_ACTION_START:
            if (latency_ns > 0) {
                batch_start(world, action, requests);
            }
            break;
        case FM_SCHED_ACTION_DROP:
            request_dropped(world, action->request, action->reason);
            break;
        case FM_SCHED_ACTION_PREEMPT:
            batch_preempt(world, action);
            break;
        case FM_SCHED_ACTION_DONE: /* of parts only */
        case FM_SCHED_ACTION_COUNT_:
            break;
        }
    }
}

static void step_record(struct fm_sim_world *world, uint32_t offset, uint32_t taken, int status)
{
    const struct fm_sched_actions *actions = &world->actions;
    fm_sim_recorder_step(world->options->recorder, &(struct fm_sched_record_step){
                                                       .now_ns = world->now_ns,
                                                       .events = world->events + offset,
                                                       .event_count = world->event_count - offset,
                                                       .taken = taken,
                                                       .out_of_memory = status == FM_ENOMEM,
                                                       .actions = actions->items,
                                                       .action_count = actions->count,
                                                       .requests = actions->requests,
                                                       .request_count = actions->request_count,
                                                       .wake_ns = actions->wake_ns,
                                                   });
}

/* Tells the scheduler what happened and does what it answers, until it has no more to say. */
static int step(struct fm_sim_world *world)
{
    uint32_t offset = 0;
    uint32_t idle = 0;
    bool again = true;
    while (again) {
        uint32_t taken = 0;
        int status = fm_sched_step(world->sched, world->now_ns, world->events + offset,
                                   world->event_count - offset, &world->actions, &taken);
        if (world->options->recorder != NULL) {
            step_record(world, offset, taken, status);
        }
        if (status != 0) {
            return fm_error_set(world->reterr, status,
                                "the scheduler failed at %" PRIu64 " ns of virtual time",
                                world->now_ns);
        }
        world->result->steps++;
        offset += taken;
        idle = taken == 0 && world->actions.count == 0 ? idle + 1 : 0;
        actions_apply(world);
        again = offset < world->event_count || world->actions.wake_ns <= world->now_ns;
        if (idle > IDLE_STEPS_MAX) {
            return fm_error_set(world->reterr, FM_EINTERNAL,
                                "the scheduler wants to be called again and again at %" PRIu64
                                " ns of virtual time, but does nothing",
                                world->now_ns);
        }
    }
    world->event_count = 0;
    world->wake_ns = world->actions.wake_ns;
    return 0;
}

static int event_add(struct fm_sim_world *world, const struct fm_sched_event *event)
{
    world->events[world->event_count++] = *event;
    return world->event_count == FM_SIM_WORLD_EVENTS_MAX ? step(world) : 0;
}

/* --- what happens ------------------------------------------------------------------------------
 */

static int up_happens(struct fm_sim_world *world, uint32_t id)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[id];
    struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_ACCELERATOR_UP,
        .as.accelerator = {.accelerator = id, .type = accelerator->type, .permille = 1000}};
    up_set(world, id, true);
    accelerator->permille = 1000;
    fm_sim_auditor_accelerator(world->auditor, id, true, false);
    return event_add(world, &event);
}

static int down_happens(struct fm_sim_world *world, uint32_t id)
{
    struct fm_sim_world_accelerator *accelerator = &world->accelerators[id];
    struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_ACCELERATOR_DOWN,
        .as.accelerator = {.accelerator = id, .type = accelerator->type}};
    up_set(world, id, false);
    while (accelerator->batch_count > 0) {
        /* The last one first: what is behind must not begin. */
        world->result->failed++;
        batch_remove(world, id, accelerator->batch_count - 1, false);
    }
    fm_sim_auditor_accelerator(world->auditor, id, false, false);
    return event_add(world, &event);
}

static int slow_happens(struct fm_sim_world *world, uint32_t id, uint32_t permille)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_ACCELERATOR_SLOW,
                                   .as.accelerator = {.accelerator = id, .permille = permille}};
    world->accelerators[id].permille = permille;
    fm_sim_auditor_accelerator(world->auditor, id, world->accelerators[id].up, permille != 1000);
    return event_add(world, &event);
}

/* The number here of one of the scenario's accelerators; FM_SCHED_NONE: another sub-cluster's. */
static uint32_t local_id(const struct fm_sim_world *world, uint32_t id)
{
    const struct fm_sim_division *division = world->options->division;
    if (division == NULL) {
        return id;
    }
    return division->accelerator_clusters[id] == world->options->cluster ? division->locals[id]
                                                                         : FM_SCHED_NONE;
}

/* With autoscaling, `down` takes an accelerator away from it, and `up` gives it back: it then comes
 * up when it is wanted. */
static int accelerator_event(struct fm_sim_world *world, const struct fm_sim_event *event,
                             uint32_t id)
{
    bool up = event->kind == FM_SIM_EVENT_UP;
    if (id == FM_SCHED_NONE) {
        return 0;
    }
    if (event->kind == FM_SIM_EVENT_SLOW) {
        return slow_happens(world, id, event->permille);
    }
    if (world->scenario->autoscale.on) {
        up_count_add(world); /* it may have been starting */
        fm_sim_autoscaler_break(&world->autoscaler, id, !up);
        return up || !world->accelerators[id].up ? 0 : down_happens(world, id);
    }
    if (world->accelerators[id].up == up) {
        return 0; /* is so already */
    }
    return up ? up_happens(world, id) : down_happens(world, id);
}

/* Tells the scheduler of a model: that it is there, or what changed. */
static int model_set(struct fm_sim_world *world, uint32_t id)
{
    const struct fm_sim_world_model *model = &world->models[id];
    const struct fm_sim_group *group = &world->scenario->groups[model->group];
    uint64_t told_ns = fm_sim_group_told_ns(group);
    struct fm_sched_model given = {
        .model = id,
        .slo_ns = told_ns,
        .goal = group->goal,
        .policy_given = group->policy_given,
        .policy = group->policy,
        .batch_max = world->shared[model->group].batch_max,
        .statistic = group->statistic,
        /* As of other models, where the file could not know the SLO. */
        .queue_delay_ns =
            group->slo_ns == 0 && group->queue_delay_ns == 0 ? told_ns / 5 : group->queue_delay_ns,
    };
    memcpy(given.profiles, model->promise->profiles, sizeof given.profiles);
    memcpy(given.preferred, group->preferred, sizeof given.preferred);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &given};
    uint32_t others = world->event_count; /* told with it; a refused one of them is no defect */
    struct fm_sched_stats before;
    struct fm_sched_stats after;
    fm_sched_stats_get(world->sched, &before);
    int status = event_add(world, &event);
    status = status == 0 ? step(world) : status; /* the event borrows `given` */
    fm_sched_stats_get(world->sched, &after);
    if (status == 0 && after.refused - before.refused > others) {
        char name[160];
        return fm_error_set(world->reterr, FM_EINTERNAL,
                            "the scheduler refuses model '%s' at %g s of virtual time; this is a "
                            "defect of the simulator: please report it with the scenario",
                            fm_sim_scenario_model_name(world->scenario, id, name, sizeof name),
                            (double)world->now_ns / 1e9);
    }
    return status;
}

static int model_added(struct fm_sim_world *world, uint32_t id)
{
    world->models[id].present = true;
    fm_sim_auditor_model(world->auditor, id, true);
    return model_set(world, id);
}

static int model_removed(struct fm_sim_world *world, uint32_t id)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_REMOVED, .as.model_removed = id};
    world->models[id].present = false;
    fm_sim_auditor_model(world->auditor, id, false);
    int status = event_add(world, &event);
    /* Should it come back at the same time, what is dropped until then is still dropped rightly. */
    return status == 0 ? step(world) : status;
}

static int model_event(struct fm_sim_world *world, const struct fm_sim_event *event,
                       const struct fm_sim_latencies *shared, uint32_t id)
{
    struct fm_sim_world_model *model = &world->models[id];
    if (model->elsewhere) {
        return 0;
    }
    if (event->kind == FM_SIM_EVENT_MODEL_ADDED) {
        return model->present ? 0 : model_added(world, id);
    }
    if (event->kind == FM_SIM_EVENT_MODEL_REMOVED) {
        return model->present ? model_removed(world, id) : 0;
    }
    if (event->change != FM_SIM_CHANGE_PROMISE) {
        model->truth = shared;
    }
    if (event->change == FM_SIM_CHANGE_TRUTH) {
        return 0;
    }
    model->promise = shared;
    return model->present ? model_set(world, id) : 0;
}

static int events_happen(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    int status = 0;
    while (world->event_next < scenario->event_count &&
           scenario->events[world->event_next].at_ns <= world->now_ns) {
        const struct fm_sim_event *event = &scenario->events[world->event_next];
        const struct fm_sim_latencies *shared =
            &world->shared[scenario->group_count + world->event_next];
        world->event_next++;
        for (uint32_t i = 0; status == 0 && i < event->count; i++) {
            status = event->kind >= FM_SIM_EVENT_MODEL_ADDED
                         ? model_event(world, event, shared, event->first + i)
                         : accelerator_event(world, event, local_id(world, event->first + i));
        }
    }
    return status;
}

/* Takes down an accelerator that is to go. */
static int leave(struct fm_sim_world *world, uint32_t id)
{
    fm_sim_autoscaler_left(&world->autoscaler, id);
    world->result->autoscale.stopped++;
    return down_happens(world, id);
}

static int autoscale_happens(struct fm_sim_world *world)
{
    struct fm_sim_autoscaler *autoscaler = &world->autoscaler;
    int status = 0;
    if (fm_sim_autoscaler_next_ns(autoscaler) > world->now_ns) {
        return 0;
    }
    up_count_add(world);
    for (uint32_t id = fm_sim_autoscaler_started(autoscaler, world->now_ns);
         status == 0 && id != FM_SCHED_NONE;
         id = fm_sim_autoscaler_started(autoscaler, world->now_ns)) {
        world->result->autoscale.started++;
        status = up_happens(world, id);
    }
    struct fm_sched_stats stats;
    fm_sched_stats_get(world->sched, &stats);
    bool leaving = fm_sim_autoscaler_look(autoscaler, world->now_ns, &stats);
    world->result->autoscale.changes = autoscaler->changes;
    for (uint32_t id = world->accelerator_count; status == 0 && leaving && id > 0; id--) {
        if (fm_sim_autoscaler_is_leaving(autoscaler, id - 1) &&
            world->accelerators[id - 1].batch_count == 0) {
            status = leave(world, id - 1);
        }
    }
    return status;
}

static int batches_end(struct fm_sim_world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->ends) <= world->now_ns) {
        struct fm_time_heap_entry entry = world->ends.entries[0];
        fm_time_heap_pop(&world->ends);
        const struct fm_sim_world_accelerator *accelerator = &world->accelerators[entry.id];
        const struct fm_sim_world_batch *batch = &accelerator->batches[0];
        if (accelerator->batch_count == 0 || (uint32_t)batch->number != entry.tag) {
            continue; /* it was taken off before its end */
        }
        struct fm_sched_event event = {
            .kind = batch->fails ? FM_SCHED_EVENT_BATCH_FAILED : FM_SCHED_EVENT_BATCH_DONE,
            .as.batch = {.accelerator = entry.id, .batch = batch->number},
        };
        world->result->failed += batch->fails;
        batch_remove(world, entry.id, 0, !batch->fails);
        bool leaves = world->scenario->autoscale.on && accelerator->batch_count == 0 &&
                      fm_sim_autoscaler_is_leaving(&world->autoscaler, entry.id);
        if (leaves && world->event_count + 2 >= FM_SIM_WORLD_EVENTS_MAX) {
            /* The end and the going must be told in one step, or it is given another batch. */
            status = step(world);
        }
        status = status == 0 ? event_add(world, &event) : status;
        status = status == 0 && leaves ? leave(world, entry.id) : status;
    }
    return status;
}

static int cancels_happen(struct fm_sim_world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->cancels) <= world->now_ns) {
        struct fm_time_heap_entry entry = world->cancels.entries[0];
        fm_time_heap_pop(&world->cancels);
        if (world->slots[entry.id].generation == entry.tag) {
            struct fm_sched_event event = {.kind = FM_SCHED_EVENT_CANCEL,
                                           .as.cancel = {.request = entry.id}};
            status = event_add(world, &event);
        }
    }
    return status;
}

/* Perhaps the client will not wait for it. */
static int cancel_plan(struct fm_sim_world *world, uint32_t request)
{
    struct fm_time_heap *heap = &world->cancels;
    if (fm_random_unit(&world->cancelling) >= world->scenario->cancel_share) {
        return 0;
    }
    if (heap->count == heap->capacity) {
        /* As many as arrive within the delay: not known before. */
        struct fm_time_heap_entry *grown =
            fm_realloc(heap->entries, (size_t)heap->capacity * 2 * sizeof *grown);
        if (grown == NULL) {
            return fm_sim_world_out_of_memory(world);
        }
        heap->entries = grown;
        heap->capacity *= 2;
    }
    fm_time_heap_push(heap, (struct fm_time_heap_entry){.time_ns = world->now_ns +
                                                                   world->scenario->cancel_delay_ns,
                                                        .id = request,
                                                        .tag = world->generation});
    return 0;
}

static uint32_t draw(struct fm_random *random, const struct fm_sim_choice *choices, uint32_t count)
{
    uint32_t index = 0;
    uint64_t number = count > 1 ? fm_random_next(random) % FM_SIM_DRAW_END : 0;
    while (index + 1 < count && number >= choices[index].below) {
        index++;
    }
    return index;
}

/* Whether the next request of a model comes to this sub-cluster. */
static bool comes_here(struct fm_sim_world *world, uint32_t id)
{
    const struct fm_sim_division *division = world->options->division;
    while (world->solve + 1 < division->solve_count &&
           division->solves[world->solve + 1].at_ns <= world->now_ns) {
        world->solve++;
    }
    const struct fm_sim_solve *solve = &division->solves[world->solve];
    uint32_t place = solve->first[id];
    uint32_t end = solve->first[id + 1];
    uint64_t number =
        end - place > 1 ? fm_random_next(&world->varieties[id].place) % FM_SIM_DRAW_END : 0;
    while (place + 1 < end && number >= solve->places[place].below) {
        place++;
    }
    return solve->places[place].cluster == world->options->cluster;
}

/* What the next request of a varied model has. False: it does not come. Draws for each alike, so
 * that who does not come changes nothing for the others. */
static bool variety_draw(struct fm_sim_world *world, uint32_t id,
                         struct fm_sim_world_traits *traits)
{
    struct fm_sim_world_model *model = &world->models[id];
    struct fm_sim_world_variety *variety = &world->varieties[id];
    const struct fm_sim_group *group = &world->scenario->groups[model->group];
    uint64_t place = model->arrived++;
    uint32_t slo = draw(&variety->slo, group->slo_choices, group->slo_choice_count);
    uint32_t priority =
        draw(&variety->priority, group->priority_choices, group->priority_choice_count);
    uint32_t priorities = group->priority_choice_count;
    traits->class_index = slo * (priorities > 0 ? priorities : 1) + priority;
    if (group->budgets_ns != NULL) {
        traits->budget_ns = group->budgets_ns[place];
    } else if (group->slo_choice_count > 0) {
        traits->budget_ns = group->slo_choices[slo].value;
    }
    if (group->priorities != NULL) {
        traits->priority = group->priorities[place];
    } else if (priorities > 0) {
        traits->priority = (uint32_t)group->priority_choices[priority].value;
    }
    bool here = world->options->division == NULL || comes_here(world, id);
    return here && (model->present || !group->clients_leave);
}

/* Counts a request that arrives. */
static void arrival_count(struct fm_sim_world *world, const struct fm_sim_world_slot *slot)
{
    world->result->requests_all++;
    world->result->timeline[slot->bucket].requests++;
    if (!is_measured(world, slot)) {
        return;
    }
    if (slot->class_index >= FM_SIM_WORLD_STAGE_FIRST) {
        const struct fm_sim_world_stage *stage =
            &world->stages[slot->class_index - FM_SIM_WORLD_STAGE_FIRST];
        world->result->pipelines[stage->pipeline].counts.requests++;
        world->result->pipelines[stage->pipeline].stages[0].requests++;
        return;
    }
    struct fm_sim_model_result *result = world->models[slot->model].result;
    result->counts.requests++;
    if (result->classes != NULL) {
        result->classes[slot->class_index].counts.requests++;
    }
}

/* Tells the scheduler of a request in its slot. */
static int request_tell(struct fm_sim_world *world, uint32_t request, uint32_t priority)
{
    const struct fm_sim_world_slot *slot = &world->slots[request];
    if (slot->deadline_ns + FM_SIM_WORLD_DRAIN_NS > world->limit_ns) {
        world->limit_ns = slot->deadline_ns + FM_SIM_WORLD_DRAIN_NS;
    }
    fm_sim_auditor_arrived(world->auditor, world->now_ns, request, slot->model, slot->deadline_ns);
    struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {.request = request,
                       .model = slot->model,
                       .deadline_ns = slot->deadline_ns,
                       .priority = priority},
    };
    return event_add(world, &event);
}

static int request_add(struct fm_sim_world *world, uint32_t model,
                       const struct fm_sim_world_traits *traits)
{
    if (world->slots_free_count == 0) {
        return fm_error_set(world->reterr, FM_ELIMIT,
                            "more than %" PRIu32 " requests are under way at %g s of virtual time: "
                            "lower the load, or raise 'requests_max' (up to %u)",
                            world->slot_count, (double)world->now_ns / 1e9,
                            FM_SCHED_REQUESTS_LIMIT);
    }
    uint32_t request = world->slots_free[--world->slots_free_count];
    struct fm_sim_world_slot *slot = &world->slots[request];
    world->generation = world->generation == UINT32_MAX ? 1 : world->generation + 1;
    while (world->now_ns >= world->bucket_end_ns) {
        world->bucket_end_ns += world->result->bucket_ns;
        world->bucket++;
    }
    *slot = (struct fm_sim_world_slot){
        .arrival_ns = world->now_ns,
        .deadline_ns = world->now_ns + traits->budget_ns,
        .model = model,
        .generation = world->generation,
        .bucket = (uint16_t)world->bucket,
        .class_index = (uint16_t)traits->class_index,
    };
    arrival_count(world, slot);
    int status = world->scenario->cancel_share > 0 ? cancel_plan(world, request) : 0;
    return status == 0 ? request_tell(world, request, traits->priority) : status;
}

/* The stream of a model, or (numbered after them) of a pipeline. */
static struct fm_arrivals *stream_of(const struct fm_sim_world *world, uint32_t id)
{
    return id < world->model_count ? world->models[id].arrivals
                                   : world->pipelines[id - world->model_count].arrivals;
}

/* What the next request of a stream has, and of which model it is. False: it does not come. */
static bool request_draw(struct fm_sim_world *world, uint32_t stream, uint32_t *ret_model,
                         struct fm_sim_world_traits *ret_traits)
{
    if (stream >= world->model_count) {
        uint32_t index = world->pipelines[stream - world->model_count].stage_first;
        const struct fm_sim_world_stage *stage = &world->stages[index];
        *ret_model = stage->model;
        *ret_traits = (struct fm_sim_world_traits){.budget_ns = stage->due_ns,
                                                   .priority = stage->priority,
                                                   .class_index = FM_SIM_WORLD_STAGE_FIRST + index};
        return true;
    }
    const struct fm_sim_world_model *model = &world->models[stream];
    *ret_model = stream;
    *ret_traits =
        (struct fm_sim_world_traits){.budget_ns = model->slo_ns, .priority = model->priority};
    return !model->varied || variety_draw(world, stream, ret_traits);
}

static int requests_arrive(struct fm_sim_world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->arrivals) <= world->now_ns) {
        uint32_t stream = world->arrivals.entries[0].id;
        uint64_t next_ns = fm_arrivals_next(stream_of(world, stream));
        uint32_t model = 0;
        struct fm_sim_world_traits traits;
        if (next_ns < world->end_ns) {
            fm_time_heap_postpone(&world->arrivals, next_ns);
        } else {
            fm_time_heap_pop(&world->arrivals);
        }
        if (request_draw(world, stream, &model, &traits)) {
            status = request_add(world, model, &traits);
        }
    }
    return status;
}

/* Requests whose stage has answered come to the next one. */
static int requests_go_on(struct fm_sim_world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->going) <= world->now_ns) {
        uint32_t request = world->going.entries[0].id;
        const struct fm_sim_world_slot *slot = &world->slots[request];
        const struct fm_sim_world_stage *stage =
            &world->stages[slot->class_index - FM_SIM_WORLD_STAGE_FIRST];
        fm_time_heap_pop(&world->going);
        if (is_measured(world, slot)) {
            world->result->pipelines[stage->pipeline].stages[stage->index].requests++;
        }
        status = request_tell(world, request, stage->priority);
    }
    return status;
}

/* --- the run -----------------------------------------------------------------------------------
 */

static void arrivals_begin(struct fm_sim_world *world, uint32_t id)
{
    struct fm_arrivals *arrivals = stream_of(world, id);
    uint64_t first_ns = arrivals != NULL ? fm_arrivals_next(arrivals) : FM_ARRIVALS_NEVER;
    if (first_ns < world->end_ns) {
        fm_time_heap_push(&world->arrivals,
                          (struct fm_time_heap_entry){.time_ns = first_ns, .id = id});
    }
}

/* Models and accelerators, at time 0. */
static int begin(struct fm_sim_world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    int status = 0;
    uint32_t id = 0;
    for (; status == 0 && id < world->model_count; id++) {
        if (world->models[id].elsewhere) {
            continue;
        }
        if (!scenario->groups[world->models[id].group].absent) {
            status = model_added(world, id);
        }
        arrivals_begin(world, id);
    }
    for (uint32_t i = 0; i < scenario->pipeline_count; i++) {
        arrivals_begin(world, world->model_count + i);
    }
    uint32_t global = 0;
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        for (uint32_t j = 0; status == 0 && j < scenario->pools[i].count; j++, global++) {
            id = local_id(world, global);
            if (id == FM_SCHED_NONE) {
                continue;
            }
            world->accelerators[id] = (struct fm_sim_world_accelerator){
                .type = scenario->pools[i].type, .permille = 1000};
            if (!scenario->autoscale.on || id < scenario->autoscale.initial) {
                status = up_happens(world, id);
            }
        }
    }
    return status == 0 ? step(world) : status;
}

static uint64_t least(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

static uint64_t next_time(const struct fm_sim_world *world)
{
    uint64_t next_ns =
        least(fm_time_heap_next_ns(&world->arrivals), fm_time_heap_next_ns(&world->ends));
    next_ns = least(next_ns, fm_time_heap_next_ns(&world->cancels));
    next_ns = least(next_ns, fm_time_heap_next_ns(&world->going));
    next_ns = least(next_ns, world->wake_ns);
    if (world->event_next < world->scenario->event_count) {
        next_ns = least(next_ns, world->scenario->events[world->event_next].at_ns);
    }
    if (world->scenario->autoscale.on) {
        next_ns = least(next_ns, fm_sim_autoscaler_next_ns(&world->autoscaler));
    }
    return next_ns;
}

static int loop(struct fm_sim_world *world)
{
    int status = 0;
    while (status == 0) {
        if (world->arrivals.count == 0 && world->slots_free_count == world->slot_count) {
            break;
        }
        uint64_t next_ns = next_time(world);
        if (next_ns == FM_SCHED_NEVER || next_ns > world->limit_ns) {
            break; /* the auditor says who has no outcome */
        }
        world->now_ns = next_ns > world->now_ns ? next_ns : world->now_ns;
        status = world->event_next < world->scenario->event_count ? events_happen(world) : 0;
        status = status == 0 && world->scenario->autoscale.on ? autoscale_happens(world) : status;
        status = status == 0 ? batches_end(world) : status;
        status = status == 0 && world->cancels.count > 0 ? cancels_happen(world) : status;
        status = status == 0 && world->going.count > 0 ? requests_go_on(world) : status;
        status = status == 0 ? requests_arrive(world) : status;
        status = status == 0 ? step(world) : status;
    }
    return status;
}

static void total_add(struct fm_sim_result *result, const struct fm_sim_counts *counts,
                      const struct fm_log_histogram *latency)
{
    result->total.requests += counts->requests;
    result->total.good += counts->good;
    result->total.late += counts->late;
    result->total.batches += counts->batches;
    result->total.rows += counts->rows;
    for (unsigned i = 0; i < FM_SCHED_DROP_COUNT_; i++) {
        result->total.dropped[i] += counts->dropped[i];
    }
    fm_log_histogram_merge(&result->latency, latency);
}

static void result_finish(struct fm_sim_world *world)
{
    struct fm_sim_result *result = world->result;
    world->now_ns = world->now_ns > world->end_ns ? world->now_ns : world->end_ns;
    up_count_add(world);
    fm_sim_auditor_finish(world->auditor, world->now_ns);
    fm_sim_auditor_get(world->auditor, &result->audit);
    for (uint32_t i = 0; i < result->model_count; i++) {
        total_add(result, &result->models[i].counts, &result->models[i].latency);
    }
    for (uint32_t i = 0; i < result->pipeline_count; i++) {
        total_add(result, &result->pipelines[i].counts, &result->pipelines[i].latency);
    }
}

/* Of a scenario that is fitted to its load. */
static int run(const struct fm_sim_scenario *scenario, const struct fm_sim_run_options *options,
               struct fm_sim_result **ret_result, struct fm_error *reterr)
{
    if (scenario->partition.clusters > 0 && options->division == NULL) {
        return fm_sim_partition_run(scenario, options, ret_result, reterr);
    }
    struct fm_sim_world world = {.scenario = scenario, .options = options, .reterr = reterr};
    int status = fm_sim_world_create(&world);
    status = status == 0 ? begin(&world) : status;
    status = status == 0 ? loop(&world) : status;
    if (status == 0) {
        result_finish(&world);
        *ret_result = world.result;
    } else {
        fm_sim_result_free(world.result);
    }
    fm_sim_world_destroy(&world);
    return status;
}

int fm_sim_run(const struct fm_sim_scenario *scenario, const struct fm_sim_run_options *options,
               struct fm_sim_result **ret_result, struct fm_error *reterr)
{
    FM_ASSERT(options->scale > 0);
    struct fm_sim_scenario *fitted = NULL;
    struct fm_sim_traces traces = {0};
    if (options->division != NULL) {
        return run(scenario, options, ret_result, reterr);
    }
    int status = fm_sim_scenario_fit(scenario, options->scale, &fitted, &traces, reterr);
    status =
        status == 0 ? run(fitted != NULL ? fitted : scenario, options, ret_result, reterr) : status;
    if (status != 0) {
        fm_sim_scenario_fitted_free(fitted);
        return status;
    }
    (*ret_result)->fitted = fitted;
    (*ret_result)->traces = traces;
    return 0;
}
