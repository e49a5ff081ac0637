/*
 * What a model would run now: when it may start, how many of its requests fit, and which are let
 * go. See state.h.
 */
#include "core/sched/state.h"
#include "core/util/assert.h"

/* A model that is treated this much worse than the mean does not have to leave room for others. */
#define EXEMPT_PERMILLE 1500
/* While more than this is lost, being overdue is no merit. */
#define LOSING_PERMILLE 4u

uint64_t fm_sched_accelerator_free_ns(const struct fm_sched_accelerator *accelerator)
{
    return accelerator->running_count == 0
               ? 0
               : accelerator->running[accelerator->running_count - 1].expected_ns;
}

void fm_sched_request_drop(struct fm_sched *sched, struct fm_sched_model_entry *model,
                           uint32_t request, enum fm_sched_drop_reason reason,
                           struct fm_sched_actions *actions)
{
    FM_ASSERT(actions->count < actions->capacity);
    sched->requests.nodes[request].owner = FM_REQUEST_OWNER_NONE;
    actions->items[actions->count++] = (struct fm_sched_action){
        .kind = FM_SCHED_ACTION_DROP,
        .model = model == NULL ? FM_SCHED_NONE : (uint32_t)(model - sched->models),
        .accelerator = FM_SCHED_NONE,
        .request = request,
        .reason = reason,
    };
    if (model != NULL) {
        model->stats.dropped[reason]++;
        if (reason != FM_SCHED_DROP_CANCELLED && reason != FM_SCHED_DROP_MODEL_GONE &&
            reason != FM_SCHED_DROP_OUTRANKED) {
            fm_sched_demand_outcome(sched, model, 1, true);
        }
        if (reason == FM_SCHED_DROP_LATE || reason == FM_SCHED_DROP_SACRIFICED) {
            sched->shed.lost[sched->requests.nodes[request].priority]++;
        }
    }
}

void fm_sched_candidate_head_drop(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                  enum fm_sched_drop_reason reason,
                                  struct fm_sched_actions *actions)
{
    uint32_t request = fm_request_queue_pop(&model->queue, &sched->requests);
    model->since_ns = sched->now_ns;
    sched->queued_count--;
    fm_sched_request_drop(sched, model, request, reason, actions);
}

/* A shard whose offers need not be exact. */
static bool lax(const struct fm_sched *sched)
{
    return sched->options.offer_slack_ns > 0;
}

static uint64_t head_deadline(const struct fm_sched *sched,
                              const struct fm_sched_model_entry *model)
{
    return sched->requests.nodes[fm_request_queue_first(&model->queue)].deadline_ns;
}

/* The last moment at which a single request could be granted; 0: never. */
static uint64_t last_chance(const struct fm_sched_model_entry *model, uint64_t deadline_ns)
{
    return deadline_ns > model->least_ns ? deadline_ns - model->least_ns : 0;
}

static void ready_leave(struct fm_sched *sched, struct fm_sched_model_entry *model, uint32_t id)
{
    if (sched->ready_positions == NULL || sched->ready_positions[id] == UINT32_MAX) {
        return;
    }
    bool urgent = model->state == FM_SCHED_MODEL_URGENT;
    struct fm_id_heap *heap =
        urgent ? &sched->urgent[model->reach_class] : &sched->willing[model->reach_class];
    fm_id_heap_remove(heap, id);
    sched->ready_count--;
    if (fm_id_heap_empty(heap)) {
        uint64_t *classes = urgent ? &sched->urgent_classes : &sched->willing_classes;
        *classes &= ~(UINT64_C(1) << model->reach_class);
    }
}

uint64_t fm_sched_candidate_deadline_ns(const struct fm_sched *sched, uint32_t id)
{
    return sched->options.part == FM_SCHED_PART_MATCHER ? sched->offers[id].deadline_ns
                                                        : head_deadline(sched, &sched->models[id]);
}

uint32_t fm_sched_candidate_count(const struct fm_sched *sched, uint32_t id)
{
    return sched->options.part == FM_SCHED_PART_MATCHER ? sched->offers[id].count
                                                        : sched->models[id].queue.count;
}

void fm_sched_candidate_enter(struct fm_sched *sched, uint32_t id, enum fm_sched_model_state state,
                              uint32_t reach_class, uint64_t key)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    if (state != model->state || reach_class != model->reach_class) {
        ready_leave(sched, model, id);
        model->state = state;
        model->reach_class = (uint8_t)reach_class;
    }
    if (sched->ready_positions == NULL) {
        model->ready_key_ns = key;
        return;
    }
    bool urgent = state == FM_SCHED_MODEL_URGENT;
    struct fm_id_heap *heap = urgent ? &sched->urgent[reach_class] : &sched->willing[reach_class];
    if (sched->ready_positions[id] == UINT32_MAX) {
        sched->ready_count++;
        *(urgent ? &sched->urgent_classes : &sched->willing_classes) |= UINT64_C(1) << reach_class;
    }
    fm_id_heap_set(heap, id, key);
}

void fm_sched_candidate_idle(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    ready_leave(sched, model, id);
    if (model->state != FM_SCHED_MODEL_IDLE) {
        fm_id_heap_remove(&sched->timers, id);
        model->state = FM_SCHED_MODEL_IDLE;
        fm_sched_offer_mark(sched, id);
    }
}

void fm_sched_candidate_withdraw(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    ready_leave(sched, model, id);
    model->state = FM_SCHED_MODEL_WAITING;
}

/*
 * Sorting key among ready candidates: the earliest `latest` first, and fairness. Past saturation
 * every model's `latest` is over, and the longer its batches, the longer: to go by that would serve
 * the models with long batches and starve the others. So all that are overdue count alike, as of
 * when they were looked at, and fairness decides.
 */
static uint64_t key_of(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                       uint64_t latest_ns)
{
    if (!sched->policy->uses_fairness) {
        return latest_ns;
    }
    if (fm_sched_bad_q20(sched) > FM_SCHED_Q20(LOSING_PERMILLE) && latest_ns < sched->now_ns) {
        latest_ns = sched->now_ns;
    }
    int64_t key = (int64_t)latest_ns - model->bias_ns;
    return key > 0 ? (uint64_t)key : 0;
}

/* How far into others' time a batch of this model reaches: its duration, but a model is not held
 * back for others about as tight as itself. */
static uint32_t reach_of(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                         uint32_t batch)
{
    if (!sched->policy->uses_clearance || sched->clearance_count == 0 || sched->draining ||
        model->bias_ns > (int64_t)(model->slo_ns / 10000) * EXEMPT_PERMILLE) {
        return 0;
    }
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    uint64_t reach_ns = table->latency_ns[batch < table->batch_max ? batch : table->batch_max];
    uint64_t own_ns = model->tightness_ns * 3 / 5;
    uint32_t reach = fm_sched_class_of(reach_ns < own_ns ? reach_ns : own_ns);
    return lax(sched) && reach <= sched->pool.clearance_class ? 0 : reach;
}

/* When a batch of `count` queued requests, or of as many as can be of them, may start. */
static struct fm_sched_readiness readiness_of(const struct fm_sched *sched,
                                              const struct fm_sched_model_entry *model,
                                              uint64_t deadline_ns, uint32_t count)
{
    uint32_t batch = count < model->batch_max ? count : model->batch_max;
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    batch = batch < table->batch_max ? batch : table->batch_max;
    uint64_t needed_ns = table->total_ns[batch] + sched->options.control_ns;
    struct fm_sched_readiness readiness = {
        .latest_ns = deadline_ns > needed_ns ? deadline_ns - needed_ns : 0,
    };
    model->policy->ready(sched, model, deadline_ns, count, &readiness);
    if (sched->draining) {
        readiness.willing_ns = 0;
        readiness.urgent_ns = 0;
    }
    return readiness;
}

void fm_sched_candidate_window(const struct fm_sched *sched, uint32_t id, uint64_t deadline_ns,
                               uint32_t count, uint64_t *ret_frontrun_ns, uint64_t *ret_latest_ns)
{
    struct fm_sched_readiness readiness =
        readiness_of(sched, &sched->models[id], deadline_ns, count);
    *ret_frontrun_ns = readiness.willing_ns;
    *ret_latest_ns = readiness.latest_ns;
}

static enum fm_sched_model_state state_of(const struct fm_sched *sched,
                                          const struct fm_sched_readiness *readiness)
{
    return sched->now_ns < readiness->willing_ns  ? FM_SCHED_MODEL_WAITING
           : sched->now_ns < readiness->urgent_ns ? FM_SCHED_MODEL_WILLING
                                                  : FM_SCHED_MODEL_URGENT;
}

/*
 * How far the queue may grow before that has to be looked at: until the candidate's order or the
 * number of batches it wants would be worth an offer, or until it would be ready. Its timers are
 * set by what they would be then (`readiness`), which is earlier: who looks at it in vain looks at
 * what is so by then.
 */
static uint32_t quiet_until(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                            uint64_t deadline_ns, uint32_t count,
                            struct fm_sched_readiness *readiness)
{
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    enum fm_sched_model_state state = state_of(sched, readiness);
    uint64_t slack_ns = fm_sched_offer_slack_ns(sched, state);
    uint32_t want = fm_sched_offer_want(model, count);
    /* What is left of the slack, if the offer stays as it was told. */
    const struct fm_sched_offer *told = &sched->offers[model - sched->models];
    uint64_t key_ns = key_of(sched, model, readiness->latest_ns);
    uint64_t used_ns = key_ns < told->key_ns ? told->key_ns - key_ns : 0;
    if (told->known && told->state == state && used_ns <= slack_ns && want < 2 * told->want) {
        slack_ns -= used_ns;
        want = told->want;
    }
    uint32_t quiet = UINT32_MAX;
    if (count < model->batch_max && count < table->batch_max) {
        quiet = fm_latency_table_within(table, table->total_ns[count] + slack_ns, model->batch_max);
    }
    if (want < FM_SCHED_WANT_MAX && quiet > 2 * want * model->target - 1) {
        quiet = 2 * want * model->target - 1;
    }
    for (; quiet > count; quiet = count + (quiet - count) / 2) {
        struct fm_sched_readiness later = readiness_of(sched, model, deadline_ns, quiet);
        if (state_of(sched, &later) == state) {
            readiness->willing_ns = later.willing_ns;
            readiness->urgent_ns = later.urgent_ns;
            return quiet;
        }
    }
    return count;
}

void fm_sched_candidate_refresh(struct fm_sched *sched, uint32_t id,
                                struct fm_sched_actions *actions)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    uint64_t now_ns = sched->now_ns;
    fm_sched_offer_mark(sched, id);
    model->quiet_count = 0;
    while (model->queue.count > 0 && last_chance(model, head_deadline(sched, model)) < now_ns &&
           actions->count < actions->capacity) {
        fm_sched_candidate_head_drop(sched, model, FM_SCHED_DROP_LATE, actions);
    }
    uint32_t count = model->queue.count;
    if (count == 0) {
        fm_sched_candidate_idle(sched, id);
        return;
    }
    uint64_t deadline_ns = head_deadline(sched, model);
    uint64_t expiry_ns = last_chance(model, deadline_ns) + 1;
    if (expiry_ns <= now_ns) {
        /* No room to say so: the step comes back. */
        fm_id_heap_set(&sched->timers, id, now_ns);
        if (model->state == FM_SCHED_MODEL_IDLE) {
            model->state = FM_SCHED_MODEL_WAITING;
        }
        return;
    }
    struct fm_sched_readiness readiness = readiness_of(sched, model, deadline_ns, count);
    enum fm_sched_model_state state = state_of(sched, &readiness);
    if (lax(sched)) {
        model->quiet_count = quiet_until(sched, model, deadline_ns, count, &readiness);
        count = model->quiet_count;
    }
    uint64_t timer_ns = expiry_ns;
    if (state == FM_SCHED_MODEL_WAITING) {
        ready_leave(sched, model, id);
        model->state = state;
        timer_ns = readiness.willing_ns < expiry_ns ? readiness.willing_ns : expiry_ns;
    } else {
        uint32_t batch = count < model->batch_max ? count : model->batch_max;
        fm_sched_candidate_enter(sched, id, state, reach_of(sched, model, batch),
                                 key_of(sched, model, readiness.latest_ns));
        if (state == FM_SCHED_MODEL_WILLING && readiness.urgent_ns < expiry_ns) {
            timer_ns = readiness.urgent_ns;
        }
    }
    fm_id_heap_set(&sched->timers, id, timer_ns);
}

void fm_sched_candidate_grown(struct fm_sched *sched, uint32_t id, struct fm_sched_actions *actions)
{
    const struct fm_sched_model_entry *model = &sched->models[id];
    if (model->queue.count > model->quiet_count) {
        fm_sched_candidate_refresh(sched, id, actions);
    }
}

/* What may take duration_ns where it is slowed may take so long as profiled. One that is faster
 * than its profile is not relied on. */
static uint64_t as_profiled(uint64_t duration_ns, uint32_t permille)
{
    if (permille <= 1000) {
        return duration_ns;
    }
    return duration_ns / permille * 1000 + duration_ns % permille * 1000 / permille;
}

uint32_t fm_sched_candidate_within(const struct fm_sched *sched,
                                   const struct fm_latency_table *table, uint64_t deadline_ns,
                                   uint64_t free_ns, uint32_t permille, uint32_t limit)
{
    uint64_t begin_ns = sched->now_ns + sched->options.control_ns;
    if (deadline_ns <= begin_ns || deadline_ns <= free_ns) {
        return 0;
    }
    uint64_t budget_ns = as_profiled(deadline_ns - begin_ns, permille);
    uint32_t batch = fm_latency_table_within(table, budget_ns, limit);
    budget_ns = as_profiled(deadline_ns - free_ns, permille);
    while (batch > 0 && free_ns > begin_ns && table->latency_ns[batch] > budget_ns) {
        batch--;
    }
    return batch;
}

uint32_t fm_sched_candidate_form(struct fm_sched *sched, uint32_t id,
                                 const struct fm_sched_place *place,
                                 struct fm_sched_actions *actions)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    const struct fm_latency_table *table = &model->tables[place->type];
    uint64_t free_ns = place->free_ns;
    while (model->queue.count > 0 && actions->count < actions->capacity &&
           fm_sched_candidate_within(sched, table, head_deadline(sched, model), free_ns, 1000, 1) ==
               0 &&
           last_chance(model, head_deadline(sched, model)) < sched->now_ns) {
        fm_sched_candidate_head_drop(sched, model, FM_SCHED_DROP_LATE, actions);
    }
    if (model->queue.count > 0 && model->policy->sacrifice != NULL) {
        uint32_t sacrifices = model->policy->sacrifice(sched, model, table, free_ns);
        for (uint32_t i = 0; i < sacrifices && actions->count < actions->capacity; i++) {
            fm_sched_candidate_head_drop(sched, model, FM_SCHED_DROP_SACRIFICED, actions);
        }
    }
    if (model->queue.count == 0 || actions->count == actions->capacity) {
        return 0;
    }
    uint32_t limit = model->queue.count < model->batch_max ? model->queue.count : model->batch_max;
    if (model->policy->limit != NULL) {
        uint32_t most =
            model->policy->limit(sched, model, head_deadline(sched, model), model->queue.count);
        limit = most < limit ? most : limit;
    }
    return fm_sched_candidate_within(sched, table, head_deadline(sched, model), free_ns,
                                     place->permille, limit);
}
