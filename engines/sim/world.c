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
#include "core/util/random.h"
#include "engines/sim/autoscaler.h"
#include "engines/sim/time_heap.h"

#define EVENTS_MAX       1024u
#define ACTIONS_MAX      1024u
#define REQUESTS_DEFAULT 65536u
#define TRACE_REQUESTS   (1u << 18)
#define CANCELS_FIRST    4096u
#define GRANTS_MAX       2u
/* Steps in a row at one time that neither take nor say anything. */
#define IDLE_STEPS_MAX 16u
/* Virtual time after the last arrival, the last deadline and the last end of a batch in which
 * everything must have had its outcome. */
#define DRAIN_NS UINT64_C(3600000000000)

struct slot {
    uint64_t arrival_ns;
    uint64_t deadline_ns;
    uint32_t model;
    uint32_t next; /* in its batch */
    uint32_t generation;
    uint32_t bucket;
};

struct batch {
    uint64_t number;
    uint64_t planned_ns; /* not before */
    uint64_t begin_ns;
    uint32_t model;
    uint32_t first;
    uint32_t count;
    bool fails;
};

struct accelerator {
    struct batch batches[GRANTS_MAX]; /* [0] runs, [1] waits behind it */
    uint32_t batch_count;
    uint32_t permille;
    uint32_t type;
    uint32_t bucket_next; /* it is not counted as used in this part of the timeline yet */
    bool up;
};

/* What models of one group have in common. */
struct shared {
    uint64_t *latency_ns[FM_SCHED_TYPES_LIMIT]; /* l(b): [batch_max + 1], NULL: not on that type */
    uint32_t batch_max;
};

struct model {
    struct fm_arrivals *arrivals;
    struct fm_sim_model_result *result;
    uint64_t slo_ns;
    const uint64_t *budgets_ns; /* of each request, of a recorded load; NULL: slo_ns */
    const uint8_t *priorities;  /* likewise */
    uint64_t arrived;
    uint32_t group;
    uint32_t priority;
};

struct world {
    const struct fm_sim_scenario *scenario;
    const struct fm_sim_run_options *options;
    struct fm_error *reterr;
    struct fm_sched *sched;
    struct fm_sim_auditor *auditor;
    struct fm_sim_result *result;

    struct model *models;
    uint32_t model_count;
    struct shared *shared; /* by group */
    struct accelerator *accelerators;
    uint32_t accelerator_count;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t *slots_free;
    uint32_t slots_free_count;
    uint32_t generation;

    uint64_t now_ns;
    uint64_t end_ns;   /* of arrivals */
    uint64_t limit_ns; /* of everything */
    uint64_t wake_ns;
    uint64_t bucket_end_ns;
    uint32_t bucket;
    uint32_t fault_next;
    struct fm_sim_autoscaler autoscaler; /* without autoscaling: all zero */
    uint32_t up_count;
    uint64_t counted_ns; /* up to here `up_count` is in the result */
    struct fm_time_heap arrivals;
    struct fm_time_heap ends;    /* id: accelerator, tag: low bits of the batch's number */
    struct fm_time_heap cancels; /* id: slot, tag: generation */

    struct fm_random spread;
    struct fm_random failures;
    struct fm_random cancelling;

    struct fm_sched_event *events;
    uint32_t event_count;
    struct fm_sched_actions actions;
};

/* --- making it ---------------------------------------------------------------------------------
 */

/* Requests that may be under way at once: what the load brings in four times its SLO, and room for
 * bursts. */
static uint32_t requests_max_of(const struct fm_sim_scenario *scenario, double scale)
{
    if (scenario->requests_max > 0) {
        return scenario->requests_max;
    }
    double wanted = REQUESTS_DEFAULT;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        const struct fm_arrivals_spec *spec = &group->arrivals;
        double peak = spec->rate_hz;
        for (uint32_t j = 0; j < spec->state_count; j++) {
            peak = spec->states[j].rate_hz > peak ? spec->states[j].rate_hz : peak;
        }
        double factor = 1;
        for (uint32_t j = 0; j < spec->step_count; j++) {
            factor = spec->steps[j].factor > factor ? spec->steps[j].factor : factor;
        }
        wanted += 4 * peak * factor * group->count * scale * (double)group->slo_ns / 1e9;
        wanted += spec->kind == FM_ARRIVALS_TRACE ? TRACE_REQUESTS : 0;
    }
    return wanted < FM_SCHED_REQUESTS_LIMIT ? (uint32_t)wanted : FM_SCHED_REQUESTS_LIMIT;
}

static int out_of_memory(const struct world *world)
{
    return fm_error_set(world->reterr, FM_ENOMEM,
                        "out of memory for a simulation of %" PRIu32 " models, %" PRIu32
                        " accelerators and %" PRIu32 " requests at once",
                        world->model_count, world->accelerator_count, world->slot_count);
}

static int heap_create(struct world *world, struct fm_time_heap *heap, uint32_t capacity)
{
    heap->capacity = capacity;
    heap->entries = fm_alloc((size_t)capacity * sizeof *heap->entries);
    return heap->entries != NULL ? 0 : out_of_memory(world);
}

/* l(b) as dense tables, one for each profile of the group. */
static int shared_create(struct world *world, uint32_t index)
{
    const struct fm_sim_group *group = &world->scenario->groups[index];
    struct shared *shared = &world->shared[index];
    shared->batch_max = group->batch_max > 0 && group->batch_max < world->scenario->batch_max
                            ? group->batch_max
                            : world->scenario->batch_max;
    for (uint32_t type = 0; type < world->scenario->type_count; type++) {
        if (group->profiles[type] == NULL) {
            continue;
        }
        if (type > 0 && group->profiles[type] == group->profiles[0]) {
            shared->latency_ns[type] = shared->latency_ns[0];
            continue;
        }
        uint64_t *table = fm_alloc_zero(shared->batch_max + 1, sizeof *table);
        if (table == NULL) {
            return out_of_memory(world);
        }
        shared->latency_ns[type] = table;
        for (uint32_t batch = 1; batch <= shared->batch_max; batch++) {
            table[batch] = fm_profile_latency_ns(group->profiles[type], FM_PROFILE_MEAN, batch);
        }
    }
    return 0;
}

static int models_create(struct world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    double *shares = fm_alloc((size_t)world->model_count * sizeof *shares);
    if (shares == NULL) {
        return out_of_memory(world);
    }
    int status = 0;
    uint32_t id = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        status = fm_sim_group_shares(group, shares, world->reterr);
        status = status == 0 ? shared_create(world, i) : status;
        for (uint32_t j = 0; status == 0 && j < group->count; j++, id++) {
            struct model *model = &world->models[id];
            model->result = &world->result->models[id];
            model->slo_ns = group->slo_ns;
            model->group = i;
            model->priority = group->priority;
            model->budgets_ns = group->budgets_ns;
            model->priorities = group->priorities;
            struct fm_arrivals_spec spec = group->arrivals;
            spec.scale = shares[j] * world->options->scale;
            status = fm_arrivals_create(&spec, fm_sim_seed(world->options->seed, "arrivals", id),
                                        &model->arrivals, world->reterr);
        }
    }
    fm_free(shares);
    return status;
}

static int result_create(struct world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    struct fm_sim_result *result = fm_alloc_zero(1, sizeof *result);
    if (result == NULL) {
        return out_of_memory(world);
    }
    world->result = result;
    result->scenario = scenario;
    result->policy = world->options->policy;
    result->seed = world->options->seed;
    result->scale = world->options->scale;
    result->model_count = world->model_count;
    result->accelerator_count = world->accelerator_count;
    result->batch_max = scenario->batch_max;
    result->trace_hash = FM_HASH_START;
    result->up_min = UINT32_MAX;
    result->bucket_ns = (world->end_ns + FM_SIM_TIMELINE_BUCKETS - 1) / FM_SIM_TIMELINE_BUCKETS;
    result->models = fm_alloc_zero(world->model_count, sizeof *result->models);
    result->accelerators = fm_alloc_zero(world->accelerator_count, sizeof *result->accelerators);
    result->batch_sizes = fm_alloc_zero(scenario->batch_max + 1, sizeof *result->batch_sizes);
    world->bucket_end_ns = result->bucket_ns;
    return result->models != NULL && result->accelerators != NULL && result->batch_sizes != NULL
               ? 0
               : out_of_memory(world);
}

static int sched_create(struct world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    struct fm_sched_options options = {
        .policy = world->options->policy,
        .models_max = world->model_count,
        .accelerators_max = world->accelerator_count,
        .type_count = scenario->type_count,
        .requests_max = world->slot_count,
        .batch_max = scenario->batch_max,
        .control_ns = scenario->control_ns,
        .data_ns = scenario->data_ns,
        .result_ns = scenario->result_ns,
        .attempts_max = scenario->attempts_max,
        .learn = scenario->learn,
        .admit = scenario->admit,
    };
    struct fm_sim_auditor_options audit = {
        .requests_max = world->slot_count,
        .accelerator_count = world->accelerator_count,
        .batch_max = scenario->batch_max,
        .result_ns = scenario->result_ns,
        .ahead = scenario->control_ns + scenario->data_ns > 0 ||
                 world->options->policy == FM_SCHED_POLICY_CLOCKWORK,
        .learn = scenario->learn,
    };
    if (world->options->recorder != NULL) {
        fm_sim_recorder_begin(world->options->recorder,
                              &(struct fm_sched_record_header){
                                  .options = options,
                                  .events_max = EVENTS_MAX,
                                  .action_capacity = world->actions.capacity,
                                  .request_capacity = world->actions.request_capacity,
                                  .has_actions = true,
                              });
    }
    int status = fm_sched_create(&options, &world->sched, world->reterr);
    return status == 0 ? fm_sim_auditor_create(&audit, &world->auditor, world->reterr) : status;
}

static int world_create(struct world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    world->model_count = fm_sim_scenario_model_count(scenario);
    world->accelerator_count = fm_sim_scenario_accelerator_count(scenario);
    world->slot_count = requests_max_of(scenario, world->options->scale);
    world->end_ns = scenario->warmup_ns + scenario->measure_ns;
    world->limit_ns = world->end_ns + DRAIN_NS;
    world->wake_ns = FM_SCHED_NEVER;
    fm_random_init(&world->spread, fm_sim_seed(scenario->spread_seed, "spread", 0));
    fm_random_init(&world->failures, fm_sim_seed(scenario->failure_seed, "failures", 0));
    fm_random_init(&world->cancelling, fm_sim_seed(scenario->cancel_seed, "cancels", 0));
    world->models = fm_alloc_zero(world->model_count, sizeof *world->models);
    world->shared = fm_alloc_zero(scenario->group_count, sizeof *world->shared);
    world->accelerators = fm_alloc_zero(world->accelerator_count, sizeof *world->accelerators);
    world->slots = fm_alloc_zero(world->slot_count, sizeof *world->slots);
    world->slots_free = fm_alloc((size_t)world->slot_count * sizeof *world->slots_free);
    world->events = fm_alloc_zero(EVENTS_MAX, sizeof *world->events);
    world->actions.capacity = ACTIONS_MAX;
    world->actions.request_capacity = ACTIONS_MAX * 16;
    world->actions.items = fm_alloc_zero(ACTIONS_MAX, sizeof *world->actions.items);
    world->actions.requests =
        fm_alloc_zero(world->actions.request_capacity, sizeof *world->actions.requests);
    if (world->models == NULL || world->shared == NULL || world->accelerators == NULL ||
        world->slots == NULL || world->slots_free == NULL || world->events == NULL ||
        world->actions.items == NULL || world->actions.requests == NULL) {
        return out_of_memory(world);
    }
    for (uint32_t i = world->slot_count; i > 0; i--) {
        world->slots_free[world->slots_free_count++] = i - 1;
    }
    int status = heap_create(world, &world->arrivals, world->model_count);
    status =
        status == 0 ? heap_create(world, &world->ends, world->accelerator_count * 2 + 64) : status;
    if (status == 0 && scenario->cancel_share > 0) {
        status = heap_create(world, &world->cancels, CANCELS_FIRST);
    }
    status = status == 0 ? result_create(world) : status;
    if (status == 0 && scenario->autoscale.on) {
        status = fm_sim_autoscaler_init(&world->autoscaler, &scenario->autoscale,
                                        world->accelerator_count);
        status = status == 0 ? 0 : out_of_memory(world);
    }
    status = status == 0 ? models_create(world) : status;
    return status == 0 ? sched_create(world) : status;
}

static void world_destroy(struct world *world)
{
    fm_sched_destroy(world->sched);
    fm_sim_auditor_destroy(world->auditor);
    fm_sim_autoscaler_deinit(&world->autoscaler);
    for (uint32_t i = 0; world->models != NULL && i < world->model_count; i++) {
        fm_arrivals_destroy(world->models[i].arrivals);
    }
    for (uint32_t i = 0; world->shared != NULL && i < world->scenario->group_count; i++) {
        for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
            uint64_t *table = world->shared[i].latency_ns[type];
            if (type == 0 || table != world->shared[i].latency_ns[0]) {
                fm_free(table);
            }
        }
    }
    fm_free(world->models);
    fm_free(world->shared);
    fm_free(world->accelerators);
    fm_free(world->slots);
    fm_free(world->slots_free);
    fm_free(world->events);
    fm_free(world->actions.items);
    fm_free(world->actions.requests);
    fm_free(world->arrivals.entries);
    fm_free(world->ends.entries);
    fm_free(world->cancels.entries);
}

/* --- how many are up ---------------------------------------------------------------------------
 */

/* Counts those that are up and starting until now; before either changes. */
static void up_count_add(struct world *world)
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

static void up_set(struct world *world, uint32_t id, bool up)
{
    up_count_add(world);
    world->accelerators[id].up = up;
    world->up_count = up ? world->up_count + 1 : world->up_count - 1;
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void slot_free(struct world *world, uint32_t request)
{
    world->slots[request].generation = 0;
    world->slots_free[world->slots_free_count++] = request;
}

static bool is_measured(const struct world *world, const struct slot *slot)
{
    return slot->arrival_ns >= world->scenario->warmup_ns;
}

static void request_answered(struct world *world, uint32_t request)
{
    struct slot *slot = &world->slots[request];
    uint64_t answer_ns = world->now_ns + world->scenario->result_ns;
    bool late = answer_ns > slot->deadline_ns;
    fm_sim_auditor_returned(world->auditor, world->now_ns, request, true);
    world->result->timeline[slot->bucket].bad += late;
    fm_sim_autoscaler_outcome(&world->autoscaler, late);
    if (is_measured(world, slot)) {
        struct fm_sim_model_result *result = world->models[slot->model].result;
        result->counts.late += late;
        result->counts.good += !late;
        fm_log_histogram_add(&result->latency, answer_ns - slot->arrival_ns);
    }
    slot_free(world, request);
}

static void request_dropped(struct world *world, uint32_t request, enum fm_sched_drop_reason reason)
{
    struct slot *slot = &world->slots[request];
    world->result->timeline[slot->bucket].bad += reason != FM_SCHED_DROP_CANCELLED;
    if (fm_sim_autoscaler_is_lack(reason)) {
        fm_sim_autoscaler_outcome(&world->autoscaler, true);
    }
    if (is_measured(world, slot)) {
        world->models[slot->model].result->counts.dropped[reason]++;
    }
    slot_free(world, request);
}

/* --- batches -----------------------------------------------------------------------------------
 */

/* Time on an accelerator, in the measured interval and on the timeline. */
static void busy_add(struct world *world, uint32_t id, uint64_t begin_ns, uint64_t end_ns)
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
static void ends_compact(struct world *world)
{
    struct fm_time_heap *heap = &world->ends;
    uint32_t count = heap->count;
    heap->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct fm_time_heap_entry entry = heap->entries[i];
        const struct accelerator *accelerator = &world->accelerators[entry.id];
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
static void batch_begin(struct world *world, uint32_t id)
{
    struct accelerator *accelerator = &world->accelerators[id];
    struct batch *batch = &accelerator->batches[0];
    const struct fm_sim_scenario *scenario = world->scenario;
    batch->begin_ns = batch->planned_ns > world->now_ns ? batch->planned_ns : world->now_ns;
    const struct model *model = &world->models[batch->model];
    uint64_t latency_ns = world->shared[model->group].latency_ns[accelerator->type][batch->count];
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
    if (batch_end_ns + DRAIN_NS > world->limit_ns) {
        world->limit_ns = batch_end_ns + DRAIN_NS;
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

/* Takes a batch off its accelerator; what was behind it begins. */
static void batch_remove(struct world *world, uint32_t id, uint32_t place, bool completed)
{
    struct accelerator *accelerator = &world->accelerators[id];
    const struct batch *batch = &accelerator->batches[place];
    uint64_t now_ns = world->now_ns;
    if (place == 0 && now_ns > batch->begin_ns) {
        busy_add(world, id, batch->begin_ns, now_ns);
        if (world->options->on_span != NULL) {
            world->options->on_span(world->options->context, &(struct fm_sim_span){
                                                                 .batch = batch->number,
                                                                 .begin_ns = batch->begin_ns,
                                                                 .end_ns = now_ns,
                                                                 .model = batch->model,
                                                                 .accelerator = id,
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

static void batch_start(struct world *world, const struct fm_sched_action *action,
                        const uint32_t *requests)
{
    struct accelerator *accelerator = &world->accelerators[action->accelerator];
    for (uint32_t i = 0; i + 1 < action->request_count; i++) {
        world->slots[requests[i]].next = requests[i + 1];
    }
    accelerator->batches[accelerator->batch_count++] = (struct batch){
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

/* l(b) as the world runs it, 0 for a batch that cannot be. */
static uint64_t latency_of(const struct world *world, const struct fm_sched_action *action)
{
    if (action->kind != FM_SCHED_ACTION_START || action->model >= world->model_count ||
        action->accelerator >= world->accelerator_count) {
        return 0;
    }
    const struct shared *shared = &world->shared[world->models[action->model].group];
    const uint64_t *table = shared->latency_ns[world->accelerators[action->accelerator].type];
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

static void batch_preempt(struct world *world, const struct fm_sched_action *action)
{
    struct accelerator *accelerator = &world->accelerators[action->accelerator];
    uint32_t place = accelerator->batches[0].number == action->batch ? 0 : 1;
    world->result->preempted++;
    batch_remove(world, action->accelerator, place, false);
}

static void actions_apply(struct world *world)
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

static void step_record(struct world *world, uint32_t offset, uint32_t taken, int status)
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
static int step(struct world *world)
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

static int event_add(struct world *world, const struct fm_sched_event *event)
{
    world->events[world->event_count++] = *event;
    return world->event_count == EVENTS_MAX ? step(world) : 0;
}

/* --- what happens ------------------------------------------------------------------------------
 */

static int up_happens(struct world *world, uint32_t id)
{
    struct accelerator *accelerator = &world->accelerators[id];
    struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_ACCELERATOR_UP,
        .as.accelerator = {.accelerator = id, .type = accelerator->type, .permille = 1000}};
    up_set(world, id, true);
    accelerator->permille = 1000;
    fm_sim_auditor_accelerator(world->auditor, id, true, false);
    return event_add(world, &event);
}

static int down_happens(struct world *world, uint32_t id)
{
    struct accelerator *accelerator = &world->accelerators[id];
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

static int slow_happens(struct world *world, uint32_t id, uint32_t permille)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_ACCELERATOR_SLOW,
                                   .as.accelerator = {.accelerator = id, .permille = permille}};
    world->accelerators[id].permille = permille;
    fm_sim_auditor_accelerator(world->auditor, id, world->accelerators[id].up, permille != 1000);
    return event_add(world, &event);
}

/* With autoscaling, `down` takes an accelerator away from it, and `up` gives it back: it then comes
 * up when it is wanted. */
static int fault_happens(struct world *world, const struct fm_sim_fault *fault, uint32_t id)
{
    bool up = fault->kind == FM_SIM_FAULT_UP;
    if (fault->kind == FM_SIM_FAULT_SLOW) {
        return slow_happens(world, id, fault->permille);
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

static int faults_happen(struct world *world)
{
    int status = 0;
    while (world->fault_next < world->scenario->fault_count &&
           world->scenario->faults[world->fault_next].at_ns <= world->now_ns) {
        const struct fm_sim_fault *fault = &world->scenario->faults[world->fault_next++];
        for (uint32_t i = 0; status == 0 && i < fault->count; i++) {
            status = fault_happens(world, fault, fault->first + i);
        }
    }
    return status;
}

/* Takes down an accelerator that is to go. */
static int leave(struct world *world, uint32_t id)
{
    fm_sim_autoscaler_left(&world->autoscaler, id);
    world->result->autoscale.stopped++;
    return down_happens(world, id);
}

static int autoscale_happens(struct world *world)
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

static int batches_end(struct world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->ends) <= world->now_ns) {
        struct fm_time_heap_entry entry = world->ends.entries[0];
        fm_time_heap_pop(&world->ends);
        const struct accelerator *accelerator = &world->accelerators[entry.id];
        const struct batch *batch = &accelerator->batches[0];
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
        if (leaves && world->event_count + 2 >= EVENTS_MAX) {
            /* The end and the going must be told in one step, or it is given another batch. */
            status = step(world);
        }
        status = status == 0 ? event_add(world, &event) : status;
        status = status == 0 && leaves ? leave(world, entry.id) : status;
    }
    return status;
}

static int cancels_happen(struct world *world)
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
static int cancel_plan(struct world *world, uint32_t request)
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
            return out_of_memory(world);
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

static int request_arrives(struct world *world, uint32_t id)
{
    if (world->slots_free_count == 0) {
        return fm_error_set(world->reterr, FM_ELIMIT,
                            "more than %" PRIu32 " requests are under way at %g s of virtual time: "
                            "lower the load, or raise 'requests_max' (up to %u)",
                            world->slot_count, (double)world->now_ns / 1e9,
                            FM_SCHED_REQUESTS_LIMIT);
    }
    struct model *model = &world->models[id];
    uint64_t place = model->arrived++;
    uint64_t budget_ns = model->budgets_ns != NULL ? model->budgets_ns[place] : model->slo_ns;
    uint32_t priority = model->priorities != NULL ? model->priorities[place] : model->priority;
    uint32_t request = world->slots_free[--world->slots_free_count];
    struct slot *slot = &world->slots[request];
    world->generation = world->generation == UINT32_MAX ? 1 : world->generation + 1;
    while (world->now_ns >= world->bucket_end_ns) {
        world->bucket_end_ns += world->result->bucket_ns;
        world->bucket++;
    }
    *slot = (struct slot){
        .arrival_ns = world->now_ns,
        .deadline_ns = world->now_ns + budget_ns,
        .model = id,
        .generation = world->generation,
        .bucket = world->bucket,
    };
    world->result->requests_all++;
    world->result->timeline[world->bucket].requests++;
    if (is_measured(world, slot)) {
        model->result->counts.requests++;
    }
    int status = world->scenario->cancel_share > 0 ? cancel_plan(world, request) : 0;
    if (status != 0) {
        return status;
    }
    if (slot->deadline_ns + DRAIN_NS > world->limit_ns) {
        world->limit_ns = slot->deadline_ns + DRAIN_NS;
    }
    fm_sim_auditor_arrived(world->auditor, world->now_ns, request, id, slot->deadline_ns);
    struct fm_sched_event event = {
        .kind = FM_SCHED_EVENT_REQUEST,
        .as.request = {.request = request,
                       .model = id,
                       .deadline_ns = slot->deadline_ns,
                       .priority = priority},
    };
    return event_add(world, &event);
}

static int requests_arrive(struct world *world)
{
    int status = 0;
    while (status == 0 && fm_time_heap_next_ns(&world->arrivals) <= world->now_ns) {
        uint32_t id = world->arrivals.entries[0].id;
        uint64_t next_ns = fm_arrivals_next(world->models[id].arrivals);
        if (next_ns < world->end_ns) {
            fm_time_heap_postpone(&world->arrivals, next_ns);
        } else {
            fm_time_heap_pop(&world->arrivals);
        }
        status = request_arrives(world, id);
    }
    return status;
}

/* --- the run -----------------------------------------------------------------------------------
 */

/* Models and accelerators, at time 0. */
static int begin(struct world *world)
{
    const struct fm_sim_scenario *scenario = world->scenario;
    int status = 0;
    uint32_t id = 0;
    for (uint32_t i = 0; i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        struct fm_sched_model model = {
            .slo_ns = group->slo_ns,
            .goal = group->goal,
            .batch_max = world->shared[i].batch_max,
            .statistic = group->statistic,
            .queue_delay_ns = group->queue_delay_ns,
        };
        memcpy(model.profiles, group->profiles, sizeof model.profiles);
        memcpy(model.preferred, group->preferred, sizeof model.preferred);
        for (uint32_t j = 0; status == 0 && j < group->count; j++, id++) {
            model.model = id;
            struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &model};
            status = event_add(world, &event);
            status = status == 0 ? step(world) : status; /* the event borrows `model` */
            uint64_t first_ns = fm_arrivals_next(world->models[id].arrivals);
            if (status == 0 && first_ns < world->end_ns) {
                fm_time_heap_push(&world->arrivals,
                                  (struct fm_time_heap_entry){.time_ns = first_ns, .id = id});
            }
        }
    }
    id = 0;
    for (uint32_t i = 0; i < scenario->pool_count; i++) {
        for (uint32_t j = 0; status == 0 && j < scenario->pools[i].count; j++, id++) {
            world->accelerators[id] =
                (struct accelerator){.type = scenario->pools[i].type, .permille = 1000};
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

static uint64_t next_time(const struct world *world)
{
    uint64_t next_ns =
        least(fm_time_heap_next_ns(&world->arrivals), fm_time_heap_next_ns(&world->ends));
    next_ns = least(next_ns, fm_time_heap_next_ns(&world->cancels));
    next_ns = least(next_ns, world->wake_ns);
    if (world->fault_next < world->scenario->fault_count) {
        next_ns = least(next_ns, world->scenario->faults[world->fault_next].at_ns);
    }
    if (world->scenario->autoscale.on) {
        next_ns = least(next_ns, fm_sim_autoscaler_next_ns(&world->autoscaler));
    }
    return next_ns;
}

static int loop(struct world *world)
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
        status = world->fault_next < world->scenario->fault_count ? faults_happen(world) : 0;
        status = status == 0 && world->scenario->autoscale.on ? autoscale_happens(world) : status;
        status = status == 0 ? batches_end(world) : status;
        status = status == 0 && world->cancels.count > 0 ? cancels_happen(world) : status;
        status = status == 0 ? requests_arrive(world) : status;
        status = status == 0 ? step(world) : status;
    }
    return status;
}

static void result_finish(struct world *world)
{
    struct fm_sim_result *result = world->result;
    world->now_ns = world->now_ns > world->end_ns ? world->now_ns : world->end_ns;
    up_count_add(world);
    fm_sim_auditor_finish(world->auditor, world->now_ns);
    fm_sim_auditor_get(world->auditor, &result->audit);
    for (uint32_t i = 0; i < result->model_count; i++) {
        const struct fm_sim_counts *counts = &result->models[i].counts;
        result->total.requests += counts->requests;
        result->total.good += counts->good;
        result->total.late += counts->late;
        result->total.batches += counts->batches;
        result->total.rows += counts->rows;
        for (unsigned j = 0; j < FM_SCHED_DROP_COUNT_; j++) {
            result->total.dropped[j] += counts->dropped[j];
        }
        fm_log_histogram_merge(&result->latency, &result->models[i].latency);
    }
}

int fm_sim_run(const struct fm_sim_scenario *scenario, const struct fm_sim_run_options *options,
               struct fm_sim_result **ret_result, struct fm_error *reterr)
{
    FM_ASSERT(options->scale > 0);
    struct world world = {.scenario = scenario, .options = options, .reterr = reterr};
    int status = world_create(&world);
    status = status == 0 ? begin(&world) : status;
    status = status == 0 ? loop(&world) : status;
    if (status == 0) {
        result_finish(&world);
        *ret_result = world.result;
    } else {
        fm_sim_result_free(world.result);
    }
    world_destroy(&world);
    return status;
}
