/*
 * The scheduler's life, its events, and the step. See sched.h and state.h.
 */
#include "core/sched/sched.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "core/sched/policy.h"
#include "core/sched/state.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define RUNNING_OWNER FM_SCHED_MODELS_LIMIT
/* A batch is as large as pays that has this much of the largest one's throughput. */
#define WORTH_PERMILLE    990u
#define INTERVAL_FIRST_NS UINT64_C(20000)
#define AHEAD             4u /* events that are looked at before their turn */

_Static_assert(RUNNING_OWNER < FM_REQUEST_OWNER_NONE, "a node's owner has room for every model");
_Static_assert(FM_SCHED_PRIORITY_COUNT == 4, "a node's priority has two bits");
_Static_assert(offsetof(struct fm_sched_model_entry, stats.requests) + sizeof(uint64_t) <=
                   2 * FM_SCHED_LINE,
               "what an arrival touches lies on two cache lines");

/* --- creation ----------------------------------------------------------------------------------
 */

static int limit_check(const char *name, uint64_t value, uint64_t least, uint64_t most,
                       struct fm_error *reterr)
{
    if (value < least || value > most) {
        return fm_error_set(reterr, FM_EINVAL, "%s is %" PRIu64 ", must be %" PRIu64 " to %" PRIu64,
                            name, value, least, most);
    }
    return 0;
}

static int options_check(const struct fm_sched_options *options, struct fm_error *reterr)
{
    const struct {
        const char *name;
        uint64_t value;
        uint64_t least;
        uint64_t most;
    } limits[] = {
        {"policy", options->policy, 0, FM_SCHED_POLICY_COUNT_ - 1},
        {"models_max", options->models_max, 1, FM_SCHED_MODELS_LIMIT},
        {"accelerators_max", options->accelerators_max, 1, FM_SCHED_ACCELERATORS_LIMIT},
        {"type_count", options->type_count, 1, FM_SCHED_TYPES_LIMIT},
        {"requests_max", options->requests_max, 1, FM_SCHED_REQUESTS_LIMIT},
        {"batch_max", options->batch_max, 1, FM_SCHED_BATCH_LIMIT},
        {"control_ns", options->control_ns, 0, FM_PROFILE_LATENCY_MAX_NS},
        {"data_ns", options->data_ns, 0, FM_PROFILE_LATENCY_MAX_NS / FM_SCHED_BATCH_LIMIT},
        {"result_ns", options->result_ns, 0, FM_PROFILE_LATENCY_MAX_NS},
        {"attempts_max", options->attempts_max, 0, UINT8_MAX},
        {"part", options->part, 0, FM_SCHED_PART_COUNT_ - 1},
        {"shard_count", options->shard_count, options->part == FM_SCHED_PART_MATCHER ? 1 : 0,
         options->part == FM_SCHED_PART_MATCHER ? FM_SCHED_SHARDS_LIMIT : 0},
        {"offer_slack_ns", options->offer_slack_ns, 0,
         options->part == FM_SCHED_PART_SHARD ? FM_PROFILE_LATENCY_MAX_NS : 0},
    };
    for (size_t i = 0; i < FM_COUNT_OF(limits); i++) {
        int status =
            limit_check(limits[i].name, limits[i].value, limits[i].least, limits[i].most, reterr);
        if (status != 0) {
            return status;
        }
    }
    if ((options->requests != NULL) != (options->part == FM_SCHED_PART_SHARD)) {
        return fm_error_set(reterr, FM_EINVAL, "requests: shards share a table, nobody else does");
    }
    if (options->requests != NULL && options->requests->slot_count != options->requests_max) {
        return fm_error_set(reterr, FM_EINVAL,
                            "requests_max is %" PRIu32 ", the table has %" PRIu32,
                            options->requests_max, options->requests->slot_count);
    }
    if (options->part != FM_SCHED_PART_WHOLE && !fm_sched_policy_has_parts(options->policy)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "policy: %s chooses among all models at once, it has no form in parts",
                            fm_sched_policy_name(options->policy));
    }
    return 0;
}

static int heaps_init(struct fm_sched *sched)
{
    uint32_t models = sched->options.models_max;
    int status = fm_id_heap_init(&sched->timers, models, NULL);
    if (status != 0 || sched->options.part == FM_SCHED_PART_SHARD) {
        return status;
    }
    sched->ready_positions = fm_alloc((size_t)models * sizeof *sched->ready_positions);
    if (sched->ready_positions == NULL) {
        return FM_ENOMEM;
    }
    memset(sched->ready_positions, 0xff, (size_t)models * sizeof *sched->ready_positions);
    status = fm_id_heap_init(&sched->closing, sched->options.accelerators_max, NULL);
    for (uint32_t i = 0; status == 0 && i < FM_SCHED_REACH_CLASSES; i++) {
        status = fm_id_heap_init(&sched->urgent[i], models, sched->ready_positions);
        if (status == 0) {
            status = fm_id_heap_init(&sched->willing[i], models, sched->ready_positions);
        }
    }
    if (status == 0) {
        status = fm_id_set_init(&sched->up, sched->options.accelerators_max);
    }
    for (uint32_t i = 0; status == 0 && i < sched->options.type_count; i++) {
        status = fm_id_set_init(&sched->grantable[i], sched->options.accelerators_max);
    }
    return status;
}

int fm_sched_create(const struct fm_sched_options *options, struct fm_sched **ret_sched,
                    struct fm_error *reterr)
{
    int status = options_check(options, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_sched *sched = fm_alloc_zero(1, sizeof *sched);
    if (sched == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the scheduler");
    }
    sched->options = *options;
    sched->options.attempts_max = options->attempts_max == 0 ? 1 : options->attempts_max;
    sched->policy = &fm_sched_policies[options->policy];
    sched->models_memory = fm_alloc_zero((size_t)options->models_max + 1, sizeof *sched->models);
    if (sched->models_memory != NULL) {
        uintptr_t begin = (uintptr_t)sched->models_memory;
        sched->models = (void *)((unsigned char *)sched->models_memory +
                                 (FM_SCHED_LINE - begin % FM_SCHED_LINE) % FM_SCHED_LINE);
    }
    sched->accelerators = fm_alloc_zero(options->accelerators_max, sizeof *sched->accelerators);
    status = sched->models == NULL || sched->accelerators == NULL ? FM_ENOMEM : 0;
    if (options->requests != NULL) {
        sched->requests = *options->requests;
    } else if (status == 0) {
        status = fm_request_table_init(
            &sched->requests, options->part == FM_SCHED_PART_MATCHER ? 1 : options->requests_max);
    }
    if (status == 0 && options->part != FM_SCHED_PART_WHOLE) {
        status = fm_sched_parts_init(sched);
    }
    if (status == 0) {
        status = heaps_init(sched);
    }
    if (status == 0 && sched->policy->init != NULL) {
        status = sched->policy->init(sched);
    }
    if (status != 0) {
        fm_sched_destroy(sched);
        return fm_error_set(reterr, status, "no memory for a scheduler of this size");
    }
    for (uint32_t i = 0; i < options->accelerators_max; i++) {
        sched->accelerators[i].counted_ns = FM_SCHED_NEVER;
    }
    for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        sched->first_by_type[type] = FM_SCHED_NONE;
    }
    sched->blocked_wake_ns = FM_SCHED_NEVER;
    fm_free_times_init(&sched->free_times, INTERVAL_FIRST_NS);
    *ret_sched = sched;
    return 0;
}

void fm_sched_destroy(struct fm_sched *sched)
{
    if (sched == NULL) {
        return;
    }
    if (sched->policy->deinit != NULL) {
        sched->policy->deinit(sched);
    }
    for (uint32_t i = 0; sched->models != NULL && i < sched->options.models_max; i++) {
        for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
            fm_latency_table_deinit(&sched->models[i].tables[type]);
        }
    }
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        fm_id_heap_deinit(&sched->urgent[i]);
        fm_id_heap_deinit(&sched->willing[i]);
    }
    for (uint32_t i = 0; i < FM_SCHED_TYPES_LIMIT; i++) {
        fm_id_set_deinit(&sched->grantable[i]);
    }
    fm_id_set_deinit(&sched->up);
    fm_id_heap_deinit(&sched->closing);
    fm_id_heap_deinit(&sched->timers);
    if (sched->options.requests == NULL) {
        fm_request_table_deinit(&sched->requests);
    }
    fm_sched_parts_deinit(sched);
    fm_free(sched->ready_positions);
    fm_free(sched->accelerators);
    fm_free(sched->models_memory);
    fm_free(sched);
}

/* --- models ------------------------------------------------------------------------------------
 */

/* Intervals of free_times as long as the longest batch needs; the counts are made anew. */
static void intervals_fit(struct fm_sched *sched, uint64_t latency_ns)
{
    if (latency_ns <= sched->longest_ns) {
        return;
    }
    sched->longest_ns = latency_ns;
    uint64_t interval_ns = latency_ns / (FM_FREE_TIMES_INTERVALS / 2) + 1;
    if (interval_ns <= sched->free_times.interval_ns) {
        return;
    }
    fm_free_times_init(&sched->free_times, interval_ns);
    fm_free_times_advance(&sched->free_times, sched->now_ns);
    for (uint32_t i = 0; i < sched->options.accelerators_max; i++) {
        struct fm_sched_accelerator *accelerator = &sched->accelerators[i];
        if (accelerator->counted_ns != FM_SCHED_NEVER) {
            accelerator->counted_ns =
                fm_free_times_add(&sched->free_times, fm_sched_accelerator_free_ns(accelerator));
        }
    }
}

/* Builds all tables of a model, or none. */
static int tables_build(const struct fm_sched *sched, const struct fm_sched_model *given,
                        uint32_t batch_max, struct fm_latency_table *ret_tables)
{
    int status = 0;
    for (uint32_t type = 0; status == 0 && type < sched->options.type_count; type++) {
        const struct fm_profile *profile = given->profiles[type];
        if (profile == NULL) {
            continue;
        }
        /* Batches that take twice the SLO serve nobody. */
        uint64_t budget_ns = given->slo_ns * 2;
        uint32_t limit = fm_profile_batch_within(profile, given->statistic, budget_ns, batch_max);
        status = fm_latency_table_set(&ret_tables[type], profile, given->statistic,
                                      limit > 0 ? limit : 1, sched->options.data_ns);
    }
    for (uint32_t type = 0; status != 0 && type < FM_SCHED_TYPES_LIMIT; type++) {
        fm_latency_table_deinit(&ret_tables[type]);
    }
    return status;
}

static bool model_given_ok(const struct fm_sched *sched, const struct fm_sched_model *given)
{
    bool runs = false;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        const struct fm_profile *profile = given->profiles[type];
        runs = runs || profile != NULL;
        if (profile != NULL && profile->point_count == 0) {
            return false;
        }
    }
    return runs && given->model < sched->options.models_max && given->slo_ns > 0 &&
           given->slo_ns <= FM_PROFILE_LATENCY_MAX_NS && given->goal < FM_SCHED_GOAL_COUNT_ &&
           given->statistic < FM_PROFILE_STATISTIC_COUNT_ &&
           given->queue_delay_ns <= FM_PROFILE_LATENCY_MAX_NS &&
           (!given->policy_given || (given->policy < FM_SCHED_POLICY_COUNT_ &&
                                     fm_sched_policy_mixes(sched->options.policy, given->policy)));
}

static void model_first_time(struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    fm_request_queue_init(&model->queue);
    model->present = true;
    if (sched->options.part != FM_SCHED_PART_MATCHER) {
        sched->models_by_tightness[model->tightness_class]++;
    }
    model->state = FM_SCHED_MODEL_IDLE;
    model->window_first_ns = FM_SCHED_NEVER;
    model->window_begin_ns = 0;
    model->window_count = 0;
    model->window_count_before = 0;
    model->gap_ns = FM_SCHED_NEVER;
    model->bad_q20 = 0;
    model->bad_q40 = 0;
    model->bias_ns = 0;
    model->stats = (struct fm_sched_model_stats){0};
    sched->model_count++;
}

static void least_review(const struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    model->least_ns = model->tables[model->reference].total_ns[1] + sched->options.control_ns;
}

static uint8_t fastest_type(const struct fm_sched_model_entry *model)
{
    uint8_t best = FM_SCHED_TYPES_LIMIT;
    for (uint8_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        if (model->tables[type].batch_max > 0 &&
            (best == FM_SCHED_TYPES_LIMIT ||
             model->tables[type].latency_ns[1] < model->tables[best].latency_ns[1])) {
            best = type;
        }
    }
    FM_ASSERT(best < FM_SCHED_TYPES_LIMIT);
    return best;
}

/*
 * The largest batch that pays: beyond it throughput hardly grows, while all that wait and all that
 * are in it are answered later.
 */
static uint32_t batch_worth(const struct fm_sched_model_entry *model)
{
    const struct fm_latency_table *table = &model->tables[model->reference];
    uint32_t most = fm_latency_table_within(table, model->budget_ns, table->batch_max);
    uint32_t best = 1;
    for (uint32_t batch = 2; batch <= most; batch++) {
        if (table->latency_ns[batch] / batch < table->latency_ns[best] / best) {
            best = batch;
        }
    }
    uint32_t worth = 1;
    while (table->latency_ns[worth] / worth * WORTH_PERMILLE >
           table->latency_ns[best] / best * 1000) {
        worth++;
    }
    return worth;
}

static int event_model_set(struct fm_sched *sched, const struct fm_sched_model *given,
                           struct fm_sched_actions *actions)
{
    if (!model_given_ok(sched, given)) {
        sched->stats.refused++;
        return 0;
    }
    uint32_t batch_max = given->batch_max == 0 || given->batch_max > sched->options.batch_max
                             ? sched->options.batch_max
                             : given->batch_max;
    struct fm_latency_table tables[FM_SCHED_TYPES_LIMIT] = {{0}};
    int status = tables_build(sched, given, batch_max, tables);
    if (status != 0) {
        return status;
    }
    struct fm_sched_model_entry *model = &sched->models[given->model];
    if (!model->present) {
        model_first_time(sched, model);
    }
    for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        fm_latency_table_deinit(&model->tables[type]);
        model->tables[type] = tables[type];
    }
    model->reference = fastest_type(model);
    model->planned = model->reference;
    const struct fm_latency_table *table = &model->tables[model->reference];
    least_review(sched, model);
    model->batch_max = table->batch_max;
    model->goal = given->goal;
    model->slo_ns = given->slo_ns;
    uint64_t fixed_ns = sched->options.result_ns + sched->options.control_ns;
    model->budget_ns = given->slo_ns > fixed_ns ? given->slo_ns - fixed_ns : 0;
    model->slot_ns = 0;
    model->policy = given->policy_given ? &fm_sched_policies[given->policy] : sched->policy;
    if (model->policy->plans) {
        model->batch_max = batch_worth(model);
    }
    memcpy(model->preferred, given->preferred, sizeof model->preferred);
    model->queue_delay_ns = given->queue_delay_ns;
    intervals_fit(sched, table->latency_ns[table->batch_max]);
    if (sched->options.part != FM_SCHED_PART_MATCHER) {
        fm_sched_demand_review(sched, model);
        fm_sched_candidate_refresh(sched, given->model, actions);
    }
    return 0;
}

/* False: not finished, as the arrays are full. */
static bool event_model_removed(struct fm_sched *sched, uint32_t id,
                                struct fm_sched_actions *actions)
{
    if (id >= sched->options.models_max || !sched->models[id].present) {
        sched->stats.refused++;
        return true;
    }
    struct fm_sched_model_entry *model = &sched->models[id];
    while (model->queue.count > 0) {
        if (actions->count == actions->capacity) {
            return false;
        }
        uint32_t request = fm_request_queue_pop(&model->queue, &sched->requests);
        sched->queued_count--;
        fm_sched_request_drop(sched, model, request, FM_SCHED_DROP_MODEL_GONE, actions);
    }
    if (sched->options.part == FM_SCHED_PART_MATCHER) {
        fm_sched_offer_forget(sched, id);
    } else {
        fm_sched_candidate_idle(sched, id);
        fm_sched_demand_forget(sched, model);
    }
    /* The tables stay until the place is used again: what runs may still ask for them. */
    model->present = false;
    if (sched->options.part != FM_SCHED_PART_MATCHER) {
        sched->models_by_tightness[model->tightness_class]--;
    }
    sched->model_count--;
    return true;
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void event_request(struct fm_sched *sched, const struct fm_sched_event *event,
                          struct fm_sched_actions *actions)
{
    uint32_t slot = event->as.request.request;
    uint32_t id = event->as.request.model;
    if (slot >= sched->options.requests_max ||
        sched->requests.nodes[slot].owner != FM_REQUEST_OWNER_NONE) {
        sched->stats.refused++;
        return;
    }
    if (id >= sched->options.models_max || !sched->models[id].present) {
        sched->stats.refused++;
        fm_sched_request_drop(sched, NULL, slot, FM_SCHED_DROP_MODEL_GONE, actions);
        return;
    }
    struct fm_sched_model_entry *model = &sched->models[id];
    struct fm_request_node *node = &sched->requests.nodes[slot];
    uint64_t deadline_ns = event->as.request.deadline_ns;
    deadline_ns = deadline_ns < FM_SCHED_TIME_MAX_NS ? deadline_ns : FM_SCHED_TIME_MAX_NS;
    deadline_ns =
        deadline_ns > sched->options.result_ns ? deadline_ns - sched->options.result_ns : 0;
    node->deadline_ns = deadline_ns;
    uint32_t priority = event->as.request.priority;
    priority = priority < FM_SCHED_PRIORITY_COUNT ? priority : FM_SCHED_PRIORITY_COUNT - 1;
    node->priority = priority & (FM_SCHED_PRIORITY_COUNT - 1);
    node->attempts = 0;
    model->stats.requests++;
    if (sched->now_ns + model->least_ns > deadline_ns) {
        fm_sched_request_drop(sched, model, slot, FM_SCHED_DROP_INFEASIBLE, actions);
        return;
    }
    /* What nobody could serve asks for no accelerator. */
    fm_sched_demand_arrival(sched, model);
    if (sched->policy->uses_priorities && sched->grantable_count == 0 &&
        fm_sched_shed_arrival(sched, model, node->priority)) {
        fm_sched_request_drop(sched, model, slot, FM_SCHED_DROP_OUTRANKED, actions);
        return;
    }
    if (sched->options.admit &&
        fm_sched_demand_wait_ns(sched, model) + model->least_ns > deadline_ns - sched->now_ns) {
        fm_sched_request_drop(sched, model, slot, FM_SCHED_DROP_REJECTED, actions);
        return;
    }
    fm_request_node_own(node, id);
    fm_sched_enqueue(sched, model, slot, false);
    if (fm_request_queue_first(&model->queue) == slot) {
        fm_sched_candidate_refresh(sched, id, actions);
    } else {
        fm_sched_candidate_grown(sched, id, actions);
    }
}

static void event_cancel(struct fm_sched *sched, uint32_t slot, struct fm_sched_actions *actions)
{
    uint32_t owner = slot < sched->options.requests_max ? sched->requests.nodes[slot].owner
                                                        : FM_REQUEST_OWNER_NONE;
    if (owner == FM_REQUEST_OWNER_NONE) {
        sched->stats.refused++;
        return;
    }
    if (owner == RUNNING_OWNER) {
        return; /* its outcome is that of its batch */
    }
    if (!sched->models[owner].present) {
        sched->stats.refused++; /* a shard's: the slot is another shard's by now */
        return;
    }
    struct fm_sched_model_entry *model = &sched->models[owner];
    if (fm_request_queue_first(&model->queue) == slot) {
        model->since_ns = sched->now_ns;
    }
    fm_request_queue_remove(&model->queue, &sched->requests, slot);
    sched->queued_count--;
    fm_sched_request_drop(sched, model, slot, FM_SCHED_DROP_CANCELLED, actions);
    fm_sched_candidate_refresh(sched, owner, actions);
}

/* --- accelerators ------------------------------------------------------------------------------
 */

bool fm_sched_requests_return(struct fm_sched *sched, struct fm_sched_running *running,
                              struct fm_sched_actions *actions)
{
    struct fm_sched_model_entry *model = &sched->models[running->model];
    while (running->first != FM_SCHED_NONE) {
        if (actions->count == actions->capacity) {
            break;
        }
        uint32_t slot = running->first;
        struct fm_request_node *node = &sched->requests.nodes[slot];
        running->first = node->next[0];
        running->count--;
        if (model->present && node->attempts < sched->options.attempts_max &&
            sched->now_ns + model->least_ns <= node->deadline_ns) {
            fm_request_node_own(node, running->model);
            fm_sched_enqueue(sched, model, slot, true);
        } else {
            fm_sched_request_drop(sched, model, slot, FM_SCHED_DROP_FAILED, actions);
        }
    }
    if (model->present) {
        fm_sched_candidate_refresh(sched, running->model, actions);
    }
    return running->first == FM_SCHED_NONE;
}

void fm_sched_requests_finish(struct fm_sched *sched, const struct fm_sched_running *running)
{
    for (uint32_t slot = running->first; slot != FM_SCHED_NONE;) {
        struct fm_request_node *node = &sched->requests.nodes[slot];
        node->owner = FM_REQUEST_OWNER_NONE;
        slot = node->next[0];
    }
}

uint64_t fm_sched_ran_ns(const struct fm_sched *sched, const struct fm_sched_running *running,
                         uint32_t id)
{
    if (!sched->options.learn || sched->accelerators[id].permille != 1000) {
        return 0;
    }
    return sched->now_ns > running->start_ns ? sched->now_ns - running->start_ns : 1;
}

void fm_sched_latency_learn(struct fm_sched *sched, const struct fm_sched_running *running,
                            uint8_t type, uint64_t ran_ns)
{
    struct fm_sched_model_entry *model = &sched->models[running->model];
    if (ran_ns > 0 && model->present &&
        fm_latency_table_learn(&model->tables[type], running->count, ran_ns)) {
        least_review(sched, model);
        model->quiet_count = 0; /* what it is judged by is another */
    }
}

void fm_sched_running_pop(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    accelerator->running[0] = accelerator->running[1];
    accelerator->running[1] = (struct fm_sched_running){0};
    if (--accelerator->running_count == 0) {
        sched->busy_count--;
    } else if (accelerator->running[0].start_ns < sched->now_ns) {
        /* The one behind it starts now, later than was thought. */
        struct fm_sched_running *next = &accelerator->running[0];
        next->expected_ns += sched->now_ns - next->start_ns;
        next->start_ns = sched->now_ns;
    }
    fm_sched_accelerator_settle(sched, id);
}

/* The first batch of an accelerator is over. False: no room to say what that means. */
static bool batch_end(struct fm_sched *sched, uint32_t id, enum fm_sched_end end,
                      struct fm_sched_actions *actions)
{
    struct fm_sched_running *running = &sched->accelerators[id].running[0];
    if (sched->options.part == FM_SCHED_PART_MATCHER) {
        return fm_sched_end_tell(sched, id, end, actions);
    }
    if (end == FM_SCHED_END_DONE) {
        fm_sched_requests_finish(sched, running);
        fm_sched_latency_learn(sched, running, sched->accelerators[id].type,
                               fm_sched_ran_ns(sched, running, id));
    } else if (!fm_sched_requests_return(sched, running, actions)) {
        return false;
    }
    fm_sched_running_pop(sched, id);
    return true;
}

uint32_t fm_sched_batch_requests(const struct fm_sched *sched, uint32_t accelerator, uint64_t batch,
                                 uint32_t *requests, uint32_t capacity)
{
    if (accelerator >= sched->options.accelerators_max) {
        return 0;
    }
    const struct fm_sched_accelerator *of = &sched->accelerators[accelerator];
    const struct fm_sched_running *running = NULL;
    for (uint32_t i = 0; i < of->running_count; i++) {
        running = of->running[i].batch == batch ? &of->running[i] : running;
    }
    if (running == NULL) {
        return 0;
    }
    uint32_t slot = running->first;
    for (uint32_t i = 0; i < capacity && slot != FM_SCHED_NONE; i++) {
        requests[i] = slot;
        slot = sched->requests.nodes[slot].next[0];
    }
    return running->count;
}

static uint32_t first_up(const struct fm_sched *sched, uint8_t type, uint32_t from)
{
    for (uint32_t id = from; id < sched->options.accelerators_max; id++) {
        if (sched->accelerators[id].up && sched->accelerators[id].type == type) {
            return id;
        }
    }
    return FM_SCHED_NONE;
}

static bool event_accelerator_down(struct fm_sched *sched, uint32_t id,
                                   struct fm_sched_actions *actions)
{
    if (id >= sched->options.accelerators_max || !sched->accelerators[id].up) {
        sched->stats.refused++;
        return true;
    }
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    while (accelerator->running_count > 0 && !accelerator->running[0].open) {
        if (!batch_end(sched, id, FM_SCHED_END_LOST, actions)) {
            return false;
        }
    }
    if (accelerator->running_count > 0 && accelerator->running[0].end == FM_SCHED_END_NONE) {
        /* Its shard may have started it by now; it is told when it says so. */
        accelerator->running[0].end = FM_SCHED_END_LOST;
    }
    accelerator->up = false;
    sched->up_count--;
    sched->up_by_type[accelerator->type]--;
    if (sched->first_by_type[accelerator->type] == id) {
        sched->first_by_type[accelerator->type] = first_up(sched, accelerator->type, id + 1);
    }
    fm_id_set_remove(&sched->up, id);
    fm_sched_accelerator_settle(sched, id);
    sched->epoch_ns = 0; /* what was to stay clear of the larger pool might block the smaller one */
    return true;
}

static void event_accelerator_up(struct fm_sched *sched, uint32_t id, uint32_t type)
{
    if (id >= sched->options.accelerators_max || sched->accelerators[id].up ||
        type >= sched->options.type_count) {
        sched->stats.refused++;
        return;
    }
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    accelerator->up = true;
    accelerator->type = (uint8_t)type;
    accelerator->permille = 1000;
    sched->up_count++;
    sched->up_by_type[type]++;
    if (id < sched->first_by_type[type]) {
        sched->first_by_type[type] = id;
    }
    fm_id_set_add(&sched->up, id);
    fm_sched_accelerator_settle(sched, id);
    sched->epoch_ns = 0; /* the load's share of the pool is another now */
}

static void event_accelerator_slow(struct fm_sched *sched, uint32_t id, uint32_t permille)
{
    if (id >= sched->options.accelerators_max || permille == 0 || permille > 1000000) {
        sched->stats.refused++;
        return;
    }
    sched->accelerators[id].permille = permille;
}

static bool event_batch(struct fm_sched *sched, const struct fm_sched_event *event,
                        struct fm_sched_actions *actions)
{
    uint32_t id = event->as.batch.accelerator;
    if (id >= sched->options.accelerators_max || sched->accelerators[id].running_count == 0 ||
        sched->accelerators[id].running[0].batch != event->as.batch.batch) {
        sched->stats.late_reports++;
        return true;
    }
    return batch_end(sched, id,
                     event->kind == FM_SCHED_EVENT_BATCH_DONE ? FM_SCHED_END_DONE
                                                              : FM_SCHED_END_FAILED,
                     actions);
}

static void event_drain(struct fm_sched *sched, struct fm_sched_actions *actions)
{
    sched->draining = true;
    for (uint32_t id = 0; id < sched->options.models_max; id++) {
        if (sched->models[id].present && sched->models[id].queue.count > 0) {
            fm_sched_candidate_refresh(sched, id, actions);
        }
    }
}

/* --- the step ----------------------------------------------------------------------------------
 */

/* Parts take the events that are theirs only. */
static bool event_fits(const struct fm_sched *sched, enum fm_sched_event_kind kind)
{
    switch (kind) {
    case FM_SCHED_EVENT_REQUEST:
    case FM_SCHED_EVENT_CANCEL:
        return sched->options.part != FM_SCHED_PART_MATCHER;
    case FM_SCHED_EVENT_ACCELERATOR_UP:
    case FM_SCHED_EVENT_ACCELERATOR_DOWN:
    case FM_SCHED_EVENT_ACCELERATOR_SLOW:
    case FM_SCHED_EVENT_BATCH_DONE:
    case FM_SCHED_EVENT_BATCH_FAILED:
        return sched->options.part != FM_SCHED_PART_SHARD;
    case FM_SCHED_EVENT_MESSAGE:
        return sched->options.part != FM_SCHED_PART_WHOLE;
    case FM_SCHED_EVENT_MODEL_SET:
    case FM_SCHED_EVENT_MODEL_REMOVED:
    case FM_SCHED_EVENT_DRAIN:
    case FM_SCHED_EVENT_TICK:
        return true;
    case FM_SCHED_EVENT_COUNT_:
        break;
    }
    return false;
}

/* 1: taken; 0: not yet, the arrays are full; negative: failed. */
static int event_take(struct fm_sched *sched, const struct fm_sched_event *event,
                      struct fm_sched_actions *actions)
{
    if (!event_fits(sched, event->kind)) {
        sched->stats.refused++;
        return 1;
    }
    switch (event->kind) {
    case FM_SCHED_EVENT_REQUEST:
        event_request(sched, event, actions);
        return 1;
    case FM_SCHED_EVENT_CANCEL:
        event_cancel(sched, event->as.cancel.request, actions);
        return 1;
    case FM_SCHED_EVENT_ACCELERATOR_UP:
        event_accelerator_up(sched, event->as.accelerator.accelerator, event->as.accelerator.type);
        return 1;
    case FM_SCHED_EVENT_ACCELERATOR_DOWN:
        return event_accelerator_down(sched, event->as.accelerator.accelerator, actions);
    case FM_SCHED_EVENT_ACCELERATOR_SLOW:
        event_accelerator_slow(sched, event->as.accelerator.accelerator,
                               event->as.accelerator.permille);
        return 1;
    case FM_SCHED_EVENT_BATCH_DONE:
    case FM_SCHED_EVENT_BATCH_FAILED:
        return event_batch(sched, event, actions);
    case FM_SCHED_EVENT_MODEL_SET: {
        int status = event_model_set(sched, event->as.model, actions);
        return status == 0 ? 1 : status;
    }
    case FM_SCHED_EVENT_MODEL_REMOVED:
        return event_model_removed(sched, event->as.model_removed, actions);
    case FM_SCHED_EVENT_DRAIN:
        event_drain(sched, actions);
        return 1;
    case FM_SCHED_EVENT_MESSAGE:
        return fm_sched_message_take(sched, event->as.message, actions);
    case FM_SCHED_EVENT_TICK:
    case FM_SCHED_EVENT_COUNT_:
        break;
    }
    return 1;
}

/* Asks for the memory that a request will touch soon. */
static void event_fetch(const struct fm_sched *sched, const struct fm_sched_event *event)
{
    if (event->kind != FM_SCHED_EVENT_REQUEST ||
        event->as.request.model >= sched->options.models_max ||
        event->as.request.request >= sched->requests.slot_count) {
        return;
    }
    const char *model = (const char *)&sched->models[event->as.request.model];
    __builtin_prefetch(model, 1);
    __builtin_prefetch(model + FM_SCHED_LINE, 1);
    __builtin_prefetch(&sched->requests.nodes[event->as.request.request], 1);
}

static void timers_fire(struct fm_sched *sched, struct fm_sched_actions *actions)
{
    while (!fm_id_heap_empty(&sched->timers) && actions->count < actions->capacity) {
        struct fm_id_heap_entry first = fm_id_heap_first(&sched->timers);
        if (first.key > sched->now_ns) {
            break;
        }
        if (sched->options.part == FM_SCHED_PART_SHARD) {
            fm_sched_delay_learn(&sched->lag_ns, sched->now_ns - first.key);
        }
        fm_sched_candidate_refresh(sched, first.id, actions);
    }
    while (!fm_id_heap_empty(&sched->closing) &&
           fm_id_heap_first(&sched->closing).key <= sched->now_ns) {
        fm_sched_accelerator_settle(sched, fm_id_heap_first(&sched->closing).id);
    }
}

static uint64_t least(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

int fm_sched_step(struct fm_sched *sched, uint64_t now_ns, const struct fm_sched_event *events,
                  uint32_t event_count, struct fm_sched_actions *actions, uint32_t *ret_taken)
{
    FM_ASSERT(actions->capacity > 0 && actions->request_capacity >= sched->options.batch_max);
    FM_ASSERT(sched->options.part == FM_SCHED_PART_WHOLE || actions->message_capacity > 0);
    actions->count = 0;
    actions->request_count = 0;
    actions->message_count = 0;
    actions->wake_ns = FM_SCHED_NEVER;
    sched->stats.steps++;
    if (now_ns < sched->now_ns) {
        sched->stats.time_reversals++;
    } else {
        sched->now_ns = least(now_ns, FM_SCHED_TIME_MAX_NS);
    }
    fm_free_times_advance(&sched->free_times, sched->now_ns);
    uint32_t taken = 0;
    int status = 0;
    /* An event can cause one action at once, and a refresh a few more that it can put off. */
    while (taken < event_count && actions->count < actions->capacity) {
        if (event_count - taken > AHEAD) {
            event_fetch(sched, &events[taken + AHEAD]);
        }
        int result = event_take(sched, &events[taken], actions);
        if (result <= 0) {
            status = result;
            break;
        }
        taken++;
    }
    *ret_taken = taken;
    if (status != 0) {
        actions->wake_ns = now_ns; /* what was taken has not been decided on */
        return status;
    }
    fm_sched_demand_epoch(sched);
    timers_fire(sched, actions);
    if (sched->options.part == FM_SCHED_PART_SHARD) {
        fm_sched_offers_tell(sched, actions);
    } else if (actions->count < actions->capacity) {
        fm_sched_dispatch(sched, actions);
    }
    if (taken < event_count || actions->count == actions->capacity ||
        actions->wake_ns == sched->now_ns) {
        actions->wake_ns = least(now_ns, sched->now_ns);
        return 0;
    }
    if (!fm_id_heap_empty(&sched->timers)) {
        actions->wake_ns = least(actions->wake_ns, fm_id_heap_first(&sched->timers).key);
    }
    if (!fm_id_heap_empty(&sched->closing)) {
        actions->wake_ns = least(actions->wake_ns, fm_id_heap_first(&sched->closing).key);
    }
    actions->wake_ns = least(actions->wake_ns, sched->blocked_wake_ns);
    return 0;
}

/* --- what can be asked -------------------------------------------------------------------------
 */

void fm_sched_stats_get(const struct fm_sched *sched, struct fm_sched_stats *ret_stats)
{
    *ret_stats = sched->stats;
    ret_stats->accelerators_up = sched->up_count;
    ret_stats->accelerators_busy = sched->busy_count;
    ret_stats->accelerators_active = sched->active_count;
    ret_stats->busy_milli = (uint32_t)((fm_sched_busy_micro(sched) + 999) / 1000);
    ret_stats->queued = sched->queued_count;
}

void fm_sched_model_stats_get(const struct fm_sched *sched, uint32_t id,
                              struct fm_sched_model_stats *ret_stats)
{
    if (id >= sched->options.models_max || !sched->models[id].present) {
        *ret_stats = (struct fm_sched_model_stats){0};
        return;
    }
    const struct fm_sched_model_entry *model = &sched->models[id];
    *ret_stats = model->stats;
    ret_stats->queued = model->queue.count;
    ret_stats->target = model->target;
    ret_stats->rate_millihertz =
        model->gap_ns == FM_SCHED_NEVER ? 0 : UINT64_C(1000000000000) / model->gap_ns;
    ret_stats->bad_permyriad = (uint32_t)((uint64_t)model->bad_q20 * 10000 >> 20);
}
