/*
 * Checks everything the scheduler's state promises, in O(everything). See state.h.
 *
 * Owns: nothing. Does not do: repair, or tell what is wrong: a debugger stops at the function that
 * returns false. Thread rule: pure.
 *
 * Holds after every step, also one that stopped in the middle of an event as the arrays were full.
 */
#include "core/sched/state.h"

#define RUNNING_OWNER FM_SCHED_MODELS_LIMIT

/* Each queued request is in exactly one queue: its owner's. */
static bool queue_ok(const struct fm_sched *sched, uint32_t id)
{
    const struct fm_request_queue *queue = &sched->models[id].queue;
    if (!fm_request_queue_validate(queue, &sched->requests)) {
        return false;
    }
    for (uint32_t slot = fm_request_queue_first(queue); slot != FM_REQUEST_QUEUE_END;
         slot = sched->requests.nodes[slot].next[0]) {
        const struct fm_request_node *node = &sched->requests.nodes[slot];
        if (node->owner != id || node->attempts >= sched->options.attempts_max) {
            return false;
        }
    }
    return true;
}

static bool tables_ok(const struct fm_sched *sched, const struct fm_sched_model_entry *model)
{
    for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        const struct fm_latency_table *table = &model->tables[type];
        if (table->batch_max > sched->options.batch_max ||
            (type >= sched->options.type_count && table->batch_max > 0)) {
            return false;
        }
        for (uint32_t batch = 1; batch <= table->batch_max; batch++) {
            if (table->latency_ns[batch] == 0 ||
                table->latency_ns[batch] < table->latency_ns[batch - 1]) {
                return false;
            }
        }
    }
    return model->reference < sched->options.type_count &&
           model->tables[model->reference].batch_max > 0 &&
           model->batch_max <= model->tables[model->reference].batch_max && model->batch_max > 0 &&
           (sched->options.part == FM_SCHED_PART_MATCHER ||
            (model->target > 0 && model->target <= model->batch_max));
}

/* The model is in the heaps that its state says. */
static bool place_ok(const struct fm_sched *sched, uint32_t id)
{
    const struct fm_sched_model_entry *model = &sched->models[id];
    bool urgent = model->state == FM_SCHED_MODEL_URGENT;
    bool ready = urgent || model->state == FM_SCHED_MODEL_WILLING;
    bool idle = model->state == FM_SCHED_MODEL_IDLE;
    if (sched->options.part == FM_SCHED_PART_SHARD) {
        return idle == (model->queue.count == 0) &&
               idle == (sched->timers.positions[id] == UINT32_MAX) &&
               model->reach_class < FM_SCHED_REACH_CLASSES;
    }
    uint32_t position = sched->ready_positions[id];
    if (sched->options.part == FM_SCHED_PART_MATCHER) {
        if (ready != (position != UINT32_MAX) ||
            (ready && (model->granted > 0 || !model->present))) {
            return false;
        }
    } else if (idle != (model->queue.count == 0) ||
               idle != (sched->timers.positions[id] == UINT32_MAX) ||
               ready != (position != UINT32_MAX)) {
        return false;
    }
    if (!ready) {
        return true;
    }
    if (model->reach_class >= FM_SCHED_REACH_CLASSES) {
        return false;
    }
    const struct fm_id_heap *heap =
        urgent ? &sched->urgent[model->reach_class] : &sched->willing[model->reach_class];
    return position < heap->count && heap->entries[position].id == id;
}

static bool models_ok(const struct fm_sched *sched)
{
    uint64_t micro[FM_SCHED_REACH_CLASSES] = {0};
    uint32_t by_tightness[FM_SCHED_REACH_CLASSES] = {0};
    uint64_t sum_micro = 0;
    uint64_t sum_millihertz = 0;
    uint64_t sum_starts = 0;
    uint32_t present = 0;
    uint32_t queued = 0;
    for (uint32_t id = 0; id < sched->options.models_max; id++) {
        const struct fm_sched_model_entry *model = &sched->models[id];
        if (!place_ok(sched, id) || model->tightness_class >= FM_SCHED_REACH_CLASSES) {
            return false;
        }
        if (!model->present && (model->queue.count > 0 || model->busy_micro > 0)) {
            return false;
        }
        if (model->present && (!queue_ok(sched, id) || !tables_ok(sched, model))) {
            return false;
        }
        present += model->present ? 1u : 0u;
        queued += model->queue.count;
        sum_micro += model->busy_micro;
        sum_millihertz += model->rate_millihertz;
        sum_starts += model->starts_millihertz;
        micro[model->tightness_class] += model->busy_micro;
        by_tightness[model->tightness_class] += model->present ? 1u : 0u;
    }
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        if (sched->options.part != FM_SCHED_PART_MATCHER &&
            (micro[i] != sched->busy_micro_by_tightness[i] ||
             by_tightness[i] != sched->models_by_tightness[i])) {
            return false;
        }
    }
    /* A matcher's sums are those of the shards' loads. */
    return present == sched->model_count && queued == sched->queued_count &&
           (sched->options.part == FM_SCHED_PART_MATCHER ||
            (sum_micro == sched->busy_micro && sum_millihertz == sched->rate_millihertz &&
             sum_starts == sched->starts_millihertz));
}

static bool heaps_ok(const struct fm_sched *sched)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        if (!fm_id_heap_validate(&sched->urgent[i]) || !fm_id_heap_validate(&sched->willing[i]) ||
            (sched->urgent_classes >> i & 1) != (sched->urgent[i].count > 0) ||
            (sched->willing_classes >> i & 1) != (sched->willing[i].count > 0)) {
            return false;
        }
        ready += sched->urgent[i].count + sched->willing[i].count;
    }
    return ready == sched->ready_count && (sched->urgent_classes >> FM_SCHED_REACH_CLASSES) == 0 &&
           (sched->willing_classes >> FM_SCHED_REACH_CLASSES) == 0 &&
           fm_id_heap_validate(&sched->timers) && fm_id_heap_validate(&sched->closing);
}

/* Every batch names as many requests as it counts, each of them marked as running. */
static bool running_ok(const struct fm_sched *sched, const struct fm_sched_accelerator *accelerator,
                       uint32_t *running)
{
    if (accelerator->running_count > FM_SCHED_RUNNING_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < FM_SCHED_RUNNING_MAX; i++) {
        const struct fm_sched_running *batch = &accelerator->running[i];
        if (i >= accelerator->running_count) {
            if (batch->batch != 0) {
                return false;
            }
            continue;
        }
        uint32_t count = 0;
        for (uint32_t slot = batch->first; slot != FM_SCHED_NONE;
             slot = sched->requests.nodes[slot].next[0]) {
            if (slot >= sched->options.requests_max || count++ == batch->count ||
                sched->requests.nodes[slot].owner != RUNNING_OWNER) {
                return false;
            }
        }
        if (sched->options.part == FM_SCHED_PART_MATCHER) {
            count = batch->count; /* its shard has them */
        }
        if (count != batch->count || batch->batch == 0 ||
            (batch->batch > sched->batch_number && sched->options.part != FM_SCHED_PART_SHARD) ||
            batch->model >= sched->options.models_max || batch->expected_ns < batch->start_ns) {
            return false;
        }
        *running += count;
    }
    return accelerator->running_count < 2 || sched->options.part == FM_SCHED_PART_SHARD ||
           accelerator->running[1].open ||
           (accelerator->running[0].batch < accelerator->running[1].batch &&
            accelerator->running[1].start_ns >= accelerator->running[0].expected_ns);
}

/* An accelerator is grantable, or closing, or neither, as its state says. */
static bool standing_ok(const struct fm_sched *sched, uint32_t id)
{
    const struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    bool grantable = false;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        bool has = fm_id_set_has(&sched->grantable[type], id);
        if (has && type != accelerator->type) {
            return false;
        }
        grantable = grantable || has;
    }
    bool closing = sched->closing.positions[id] != UINT32_MAX;
    bool counted = accelerator->counted_ns != FM_SCHED_NEVER;
    if (!accelerator->up) {
        return !grantable && !closing && !counted &&
               (accelerator->running_count == 0 || accelerator->running[0].open);
    }
    if (accelerator->running_count == 0) {
        return grantable && !closing && !counted;
    }
    /* One may stand behind another only where there are lead times. */
    bool lead =
        sched->options.control_ns + sched->options.data_ns > 0 || sched->policy->ahead_ns > 0;
    bool may_close = accelerator->running_count == 1 && lead && !accelerator->running[0].open;
    return counted != grantable && closing == (may_close && !grantable) &&
           (!grantable || may_close);
}

static bool accelerators_ok(const struct fm_sched *sched)
{
    uint32_t up = 0;
    uint32_t busy = 0;
    uint32_t running = 0;
    bool shard = sched->options.part == FM_SCHED_PART_SHARD;
    for (uint32_t id = 0; id < sched->options.accelerators_max; id++) {
        const struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
        if (!running_ok(sched, accelerator, &running) || (!shard && !standing_ok(sched, id))) {
            return false;
        }
        up += accelerator->up ? 1u : 0u;
        if (!shard && accelerator->up != fm_id_set_has(&sched->up, id)) {
            return false;
        }
        busy += accelerator->running_count > 0 ? 1u : 0u;
    }
    uint32_t grantable = 0;
    for (uint32_t type = 0; !shard && type < sched->options.type_count; type++) {
        if (!fm_id_set_validate(&sched->grantable[type])) {
            return false;
        }
        grantable += sched->grantable[type].count;
    }
    if (sched->options.part == FM_SCHED_PART_MATCHER) {
        return up == sched->up_count && busy == sched->busy_count &&
               grantable == sched->grantable_count;
    }
    uint32_t marked = 0;
    uint32_t queued = 0;
    for (uint32_t slot = 0; slot < sched->options.requests_max; slot++) {
        uint32_t owner = sched->requests.nodes[slot].owner;
        marked += owner == RUNNING_OWNER ? 1u : 0u;
        queued += owner < sched->options.models_max ? 1u : 0u;
        if (owner >= sched->options.models_max && owner != RUNNING_OWNER &&
            owner != FM_REQUEST_OWNER_NONE) {
            return false;
        }
    }
    if (shard) {
        return true; /* slots are shared: what is marked may be another's */
    }
    return up == sched->up_count && busy == sched->busy_count && running == marked &&
           queued == sched->queued_count && grantable == sched->grantable_count;
}

/* The counted ends are those of the accelerators, interval by interval. */
static bool free_times_ok(const struct fm_sched *sched)
{
    const struct fm_free_times *times = &sched->free_times;
    uint32_t counts[FM_FREE_TIMES_INTERVALS] = {0};
    uint32_t overdue = 0;
    for (uint32_t id = 0; id < sched->options.accelerators_max; id++) {
        uint64_t counted_ns = sched->accelerators[id].counted_ns;
        if (counted_ns == FM_SCHED_NEVER) {
            continue;
        }
        uint64_t interval = counted_ns / times->interval_ns;
        if (interval >= times->first + FM_FREE_TIMES_INTERVALS) {
            return false;
        }
        if (interval < times->first) {
            overdue++;
        } else {
            counts[interval % FM_FREE_TIMES_INTERVALS]++;
        }
    }
    for (uint32_t i = 0; i < FM_FREE_TIMES_INTERVALS; i++) {
        if (counts[i] != times->counts[i]) {
            return false;
        }
    }
    return overdue == times->overdue && fm_free_times_validate(times);
}

bool fm_sched_validate(const struct fm_sched *sched)
{
    return models_ok(sched) && heaps_ok(sched) && accelerators_ok(sched) && free_times_ok(sched);
}
