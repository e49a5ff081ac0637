/*
 * Who gets which accelerator. See state.h.
 *
 * HOW IT WORKS. The lowest-numbered accelerator that may be given a batch goes to the ready
 * candidate with the earliest `latest`: urgent ones take any, willing ones only those that the load
 * keeps in use. Candidates stand in heaps by the half octave of their reach, so that those which
 * clearance forbids are passed over without being looked at.
 */
#include "core/sched/state.h"
#include "core/util/assert.h"

/* Candidates that an accelerator of the wrong type makes us pass over in one choice. */
#define SKIPS_MAX 64u
/* Accelerators of a type that are looked at for one candidate: one that is about to come free may
 * be too late for it, while a higher-numbered one is free. */
#define PLACES_MAX 8u
/* And so many that are slowed, which may be too slow for it for ever. */
#define SLOW_MAX 64u

/* A busy accelerator may be given its next batch this many requests' transfers before it is free.
 */
#define LEAD_BATCH 32u

static uint64_t lead_ns(const struct fm_sched *sched)
{
    uint64_t own_ns = sched->options.control_ns + sched->options.data_ns * LEAD_BATCH;
    return own_ns > sched->policy->ahead_ns ? own_ns : sched->policy->ahead_ns;
}

void fm_sched_accelerator_settle(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    struct fm_id_set *set = &sched->grantable[accelerator->type];
    uint64_t free_ns = fm_sched_accelerator_free_ns(accelerator);
    uint64_t lead = lead_ns(sched);
    bool grantable = accelerator->up && accelerator->running_count == 0;
    bool closing = accelerator->up && accelerator->running_count == 1 && lead > 0 &&
                   !accelerator->running[0].open;
    if (closing && free_ns <= sched->now_ns + lead) {
        grantable = true;
    }
    if (fm_id_set_has(set, id) != grantable) {
        sched->grantable_count += grantable ? 1u : UINT32_MAX;
        grantable ? fm_id_set_add(set, id) : fm_id_set_remove(set, id);
    }
    if (sched->closing.positions[id] != UINT32_MAX && (grantable || !closing)) {
        fm_id_heap_remove(&sched->closing, id);
    } else if (closing && !grantable) {
        fm_id_heap_set(&sched->closing, id, free_ns - lead);
    }
    if (accelerator->counted_ns != FM_SCHED_NEVER) {
        fm_free_times_remove(&sched->free_times, accelerator->counted_ns);
        accelerator->counted_ns = FM_SCHED_NEVER;
    }
    if (accelerator->up && !grantable) {
        accelerator->counted_ns = fm_free_times_add(&sched->free_times, free_ns);
    }
    if (sched->policy->settled != NULL) {
        sched->policy->settled(sched, id);
    }
}

/* The highest class of reach that may be granted an accelerator now; `highest`: that is asked for.
 */
static uint32_t reach_allowed(struct fm_sched *sched, uint32_t highest)
{
    for (uint32_t i = 0; i < sched->clearance_count; i++) {
        const struct fm_sched_clearance *clearance = &sched->clearances[i];
        if (clearance->reach_class >= highest) {
            break;
        }
        uint32_t others = sched->grantable_count - 1;
        if (others >= clearance->count ||
            others +
                    fm_free_times_count(&sched->free_times, sched->now_ns + clearance->within_ns) >=
                clearance->count) {
            continue;
        }
        uint64_t when_ns = fm_free_times_when(&sched->free_times, clearance->count - others);
        when_ns = when_ns > clearance->within_ns ? when_ns - clearance->within_ns : 0;
        when_ns = when_ns > sched->now_ns ? when_ns : sched->now_ns + sched->free_times.interval_ns;
        sched->blocked_wake_ns =
            when_ns < sched->blocked_wake_ns ? when_ns : sched->blocked_wake_ns;
        return clearance->reach_class;
    }
    return FM_SCHED_REACH_CLASSES - 1;
}

static bool better(struct fm_id_heap_entry left, uint32_t model, uint64_t key)
{
    return model == FM_SCHED_NONE || left.key < key || (left.key == key && left.id < model);
}

/* The first candidate over the heaps of `classes`. */
static void first_of(const struct fm_id_heap *heaps, uint64_t classes, uint32_t *model,
                     uint64_t *key)
{
    for (; classes != 0; classes &= classes - 1) {
        struct fm_id_heap_entry entry =
            fm_id_heap_first(&heaps[(uint32_t)__builtin_ctzll(classes)]);
        if (better(entry, *model, *key)) {
            *model = entry.id;
            *key = entry.key;
        }
    }
}

static uint32_t lowest_grantable(const struct fm_sched *sched)
{
    uint32_t lowest = FM_SCHED_NONE;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        uint32_t id = fm_id_set_first(&sched->grantable[type], 0);
        lowest = id < lowest ? id : lowest;
    }
    return lowest;
}

/* Whether the candidate's first request still makes it on an accelerator. */
static bool makes_it(const struct fm_sched *sched, uint32_t model, uint32_t id)
{
    const struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    if (sched->options.part == FM_SCHED_PART_MATCHER && sched->options.type_count == 1 &&
        sched->options.control_ns + sched->options.data_ns == 0 && accelerator->permille == 1000) {
        return true; /* its shard knows better; there is no other place to look for */
    }
    return fm_sched_candidate_within(sched, &sched->models[model].tables[accelerator->type],
                                     fm_sched_candidate_deadline_ns(sched, model),
                                     fm_sched_accelerator_free_ns(accelerator),
                                     accelerator->permille, 1) > 0;
}

/* Whether a grant now would only fix the batch earlier than its inputs have to travel. */
static bool too_early(struct fm_sched *sched, uint32_t model, uint32_t id)
{
    uint64_t free_ns = fm_sched_accelerator_free_ns(&sched->accelerators[id]);
    uint32_t count = fm_sched_candidate_count(sched, model);
    count = count < sched->models[model].batch_max ? count : sched->models[model].batch_max;
    uint64_t lead = sched->options.control_ns + sched->options.data_ns * count;
    if (free_ns <= sched->now_ns + lead || sched->policy->ahead_ns > 0) {
        return false;
    }
    uint64_t when_ns = free_ns - lead;
    sched->blocked_wake_ns = when_ns < sched->blocked_wake_ns ? when_ns : sched->blocked_wake_ns;
    return true;
}

/* The lowest-numbered accelerator on which it does, of the first few of each type. `*ret_early`:
 * there is one for which it is too early. */
static uint32_t lowest_place(struct fm_sched *sched, uint32_t model, bool *ret_early)
{
    uint32_t lowest = FM_SCHED_NONE;
    *ret_early = false;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        if (sched->models[model].tables[type].batch_max == 0) {
            continue;
        }
        uint32_t from = 0;
        uint32_t slow = 0;
        for (uint32_t i = 0; i < PLACES_MAX + slow; i++) {
            uint32_t id = fm_id_set_first(&sched->grantable[type], from);
            if (id >= lowest) { /* none, too */
                break;
            }
            slow += sched->accelerators[id].permille != 1000 && slow < SLOW_MAX ? 1u : 0u;
            if (makes_it(sched, model, id)) {
                if (!too_early(sched, model, id)) {
                    lowest = id;
                    break;
                }
                *ret_early = true;
            }
            from = id + 1;
        }
    }
    return lowest;
}

static bool choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                   struct fm_sched_choice *ret_choice)
{
    (void)actions;
    uint32_t lowest = lowest_grantable(sched);
    if (lowest == FM_SCHED_NONE || sched->ready_count == 0) {
        return false;
    }
    uint64_t allowed = UINT64_MAX;
    if (sched->clearance_count > 0) {
        uint64_t classes = sched->urgent_classes | sched->willing_classes;
        uint32_t highest = classes == 0 ? 0 : 63 - (uint32_t)__builtin_clzll(classes);
        allowed = (UINT64_C(2) << reach_allowed(sched, highest)) - 1;
    }
    uint32_t model = FM_SCHED_NONE;
    uint64_t key = 0;
    first_of(sched->urgent, sched->urgent_classes & allowed, &model, &key);
    if (lowest < sched->active_end) {
        first_of(sched->willing, sched->willing_classes & allowed, &model, &key);
    }
    if (model == FM_SCHED_NONE) {
        return false;
    }
    const struct fm_sched_model_entry *entry = &sched->models[model];
    bool early;
    uint32_t place = lowest_place(sched, model, &early);
    if (place == FM_SCHED_NONE && early) {
        return false; /* its turn comes in a moment: nobody overtakes it */
    }
    if (place != FM_SCHED_NONE && place >= sched->active_end &&
        entry->state == FM_SCHED_MODEL_WILLING) {
        place = FM_SCHED_NONE;
    }
    ret_choice->model = model;
    ret_choice->accelerator = place;
    return true;
}

/* Takes the request that has `skip` before it. */
static uint32_t take(struct fm_sched *sched, struct fm_sched_model_entry *model, uint32_t skip)
{
    if (skip == 0) {
        return fm_request_queue_pop(&model->queue, &sched->requests);
    }
    uint32_t request = fm_request_queue_first(&model->queue);
    for (uint32_t i = 0; i < skip; i++) {
        request = sched->requests.nodes[request].next[0];
    }
    fm_request_queue_remove(&model->queue, &sched->requests, request);
    return request;
}

/*
 * Stops what runs on an accelerator, which is free at once: its work is lost, its requests are
 * queued again where their first arrival put them, and the attempt does not count. Those that
 * cannot be met any more are let go as any others are, when their model is looked at. A report of
 * the stopped batch that comes later is ignored.
 */
static void preempt(struct fm_sched *sched, uint32_t id, struct fm_sched_actions *actions)
{
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    FM_ASSERT(accelerator->running_count == 1 && actions->count < actions->capacity);
    struct fm_sched_running *running = &accelerator->running[0];
    struct fm_sched_model_entry *model = &sched->models[running->model];
    FM_ASSERT(model->present);
    actions->items[actions->count++] = (struct fm_sched_action){
        .kind = FM_SCHED_ACTION_PREEMPT,
        .model = running->model,
        .accelerator = id,
        .batch = running->batch,
        .request = FM_SCHED_NONE,
    };
    for (uint32_t slot = running->first; slot != FM_SCHED_NONE;) {
        struct fm_request_node *node = &sched->requests.nodes[slot];
        uint32_t next = node->next[0];
        fm_request_node_own(node, running->model);
        node->attempts--;
        fm_sched_enqueue(sched, model, slot, true);
        model->stats.preempted++;
        slot = next;
    }
    uint32_t preempted = running->model;
    *running = (struct fm_sched_running){0};
    accelerator->running_count = 0;
    sched->busy_count--;
    fm_sched_accelerator_settle(sched, id);
    fm_sched_candidate_refresh(sched, preempted, actions);
}

struct fm_sched_place fm_sched_place_of(const struct fm_sched *sched, uint32_t id)
{
    const struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    return (struct fm_sched_place){
        .accelerator = id,
        .type = accelerator->type,
        .permille = accelerator->permille,
        .free_ns = fm_sched_accelerator_free_ns(accelerator),
    };
}

void fm_sched_start(struct fm_sched *sched, uint32_t model_id, const struct fm_sched_place *place,
                    uint32_t skip, uint32_t count, struct fm_sched_running *running,
                    struct fm_sched_actions *actions)
{
    struct fm_sched_model_entry *model = &sched->models[model_id];
    uint64_t start_ns = sched->now_ns + sched->options.control_ns + count * sched->options.data_ns;
    start_ns = start_ns > place->free_ns ? start_ns : place->free_ns;
    uint64_t latency_ns = model->tables[place->type].latency_ns[count];
    if (place->permille != 1000) {
        latency_ns = latency_ns / 1000 * place->permille;
    }
    running->model = model_id;
    running->count = count;
    running->start_ns = start_ns;
    running->expected_ns = start_ns + latency_ns;
    actions->items[actions->count++] = (struct fm_sched_action){
        .kind = FM_SCHED_ACTION_START,
        .model = model_id,
        .accelerator = place->accelerator,
        .batch = running->batch,
        .start_ns = start_ns,
        .expected_ns = running->expected_ns,
        .request_first = actions->request_count,
        .request_count = count,
        .request = FM_SCHED_NONE,
        .rested = place->accelerator >= sched->active_end,
    };
    struct fm_sched_action *action = &actions->items[actions->count - 1];
    uint32_t *link = &running->first;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t request = take(sched, model, skip);
        struct fm_request_node *node = &sched->requests.nodes[request];
        fm_request_node_own(node, FM_SCHED_MODELS_LIMIT); /* runs */
        node->attempts++;
        sched->shed.served[node->priority]++;
        *link = request;
        link = &node->next[0];
        if (i == 0 && sched->options.part == FM_SCHED_PART_WHOLE) {
            fm_sched_candidate_window(sched, model_id, node->deadline_ns, count,
                                      &action->frontrun_ns, &action->latest_ns);
        }
        actions->requests[actions->request_count++] = request;
        if (i >= FM_REQUEST_QUEUE_AHEAD) {
            fm_request_table_note(
                &sched->requests,
                actions->requests[actions->request_count - 1 - FM_REQUEST_QUEUE_AHEAD], request);
        }
    }
    *link = FM_SCHED_NONE;
    model->since_ns = sched->now_ns;
    sched->queued_count -= count;
    model->stats.started += count;
    model->stats.batches++;
    fm_sched_demand_outcome(sched, model, count, false);
}

static void start_here(struct fm_sched *sched, const struct fm_sched_choice *choice, uint32_t count,
                       const struct fm_sched_place *place, struct fm_sched_actions *actions)
{
    struct fm_sched_accelerator *accelerator = &sched->accelerators[choice->accelerator];
    FM_ASSERT(accelerator->running_count < FM_SCHED_RUNNING_MAX && count > 0);
    struct fm_sched_running *running = &accelerator->running[accelerator->running_count++];
    running->batch = ++sched->batch_number;
    fm_sched_start(sched, choice->model, place, choice->skip, count, running, actions);
    sched->busy_count += accelerator->running_count == 1 ? 1u : 0u;
    fm_sched_accelerator_settle(sched, choice->accelerator);
}

/* Grants the model as many accelerators as it wants and may have. False: the array is full. */
static bool grants_make(struct fm_sched *sched, const struct fm_sched_choice *choice,
                        struct fm_sched_actions *actions)
{
    const struct fm_sched_model_entry *model = &sched->models[choice->model];
    uint32_t want = sched->offers[choice->model].want;
    bool willing = model->state == FM_SCHED_MODEL_WILLING;
    uint32_t place = choice->accelerator;
    for (uint32_t i = 0; i < want; i++) {
        if (actions->message_count == actions->message_capacity) {
            return i > 0;
        }
        fm_sched_grant(sched, choice->model, place, actions);
        bool early;
        place =
            sched->grantable_count > 0 ? lowest_place(sched, choice->model, &early) : FM_SCHED_NONE;
        /* What others are ready for is theirs: the next batch of this one is later than its first.
         */
        if (place == FM_SCHED_NONE || sched->grantable_count <= sched->ready_count ||
            (willing && place >= sched->active_end) ||
            (sched->clearance_count > 0 &&
             reach_allowed(sched, model->reach_class) < model->reach_class)) {
            break;
        }
    }
    return true;
}

/* Forms the batch that was chosen and starts it. False: the arrays are full. */
static bool choice_start(struct fm_sched *sched, const struct fm_sched_choice *choice,
                         struct fm_sched_actions *actions)
{
    if (sched->options.part == FM_SCHED_PART_MATCHER) {
        return grants_make(sched, choice, actions);
    }
    struct fm_sched_place place = fm_sched_place_of(sched, choice->accelerator);
    uint32_t count = choice->count > 0
                         ? choice->count
                         : fm_sched_candidate_form(sched, choice->model, &place, actions);
    bool full = actions->count == actions->capacity ||
                actions->request_capacity - actions->request_count < count;
    if (!full && count > 0) {
        start_here(sched, choice, count, &place, actions);
    }
    fm_sched_candidate_refresh(sched, choice->model, actions);
    return !full;
}

void fm_sched_dispatch(struct fm_sched *sched, struct fm_sched_actions *actions)
{
    uint32_t skipped[SKIPS_MAX];
    uint32_t skip_count = 0;
    sched->blocked_wake_ns = FM_SCHED_NEVER;
    for (;;) {
        struct fm_sched_choice choice = {.model = FM_SCHED_NONE, .accelerator = FM_SCHED_NONE};
        bool (*chooser)(struct fm_sched *, struct fm_sched_actions *, struct fm_sched_choice *) =
            sched->policy->choose != NULL ? sched->policy->choose : choose;
        if (!chooser(sched, actions, &choice)) {
            break;
        }
        uint32_t model = choice.model;
        uint32_t accelerator = choice.accelerator;
        if (accelerator == FM_SCHED_NONE) {
            /* Free accelerators are of types that this one cannot use in time: out of the way. */
            fm_sched_candidate_withdraw(sched, model);
            skipped[skip_count++] = model;
            if (skip_count == SKIPS_MAX) {
                break;
            }
            continue;
        }
        if (sched->policy->preempts &&
            !fm_id_set_has(&sched->grantable[sched->accelerators[accelerator].type], accelerator)) {
            preempt(sched, accelerator, actions);
            continue;
        }
        if (!choice_start(sched, &choice, actions)) {
            actions->wake_ns = sched->now_ns;
            break;
        }
    }
    for (uint32_t i = 0; i < skip_count; i++) {
        if (sched->options.part == FM_SCHED_PART_MATCHER) {
            fm_sched_offer_place(sched, skipped[i]);
            continue;
        }
        fm_sched_candidate_refresh(sched, skipped[i], actions);
    }
}
