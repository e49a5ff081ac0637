/*
 * Matcher and shards: what they tell each other, and what they make of it. See parts.h and state.h.
 */
#include "core/sched/parts.h"

#include <string.h>

#include "core/sched/policy.h"
#include "core/sched/state.h"
#include "core/util/assert.h"
#include "core/util/memory.h"

/* Delays are followed fast when they grow and slowly when they shrink: what counts is not the mean
 * but what has to be reckoned with. */
#define RISE 8u
#define FALL 256u
/* One that is only willing waits for an accelerator in use: its order matters less. */
#define WILLING_SLACK 4u
/* Where there is not enough for all, larger batches have to be seen to be preferred. */
#define FULL_SLACK_DIVISOR 8u
#define DELAY_MAX_NS       UINT64_C(20000000) /* a longer one is a stall: not learnt from */

bool fm_sched_policy_has_parts(enum fm_sched_policy_kind policy)
{
    const struct fm_sched_policy *row = &fm_sched_policies[policy];
    return row->choose == NULL && !row->preempts && row->ahead_ns == 0;
}

int fm_sched_parts_init(struct fm_sched *sched)
{
    uint32_t models = sched->options.models_max;
    sched->offers = fm_alloc_zero(models, sizeof *sched->offers);
    if (sched->offers == NULL) {
        return FM_ENOMEM;
    }
    if (sched->options.part == FM_SCHED_PART_SHARD) {
        sched->marks = fm_alloc((size_t)models * sizeof *sched->marks);
        return sched->marks == NULL ? FM_ENOMEM : 0;
    }
    sched->loads = fm_alloc_zero(sched->options.shard_count, sizeof *sched->loads);
    return sched->loads == NULL ? FM_ENOMEM : 0;
}

void fm_sched_parts_deinit(struct fm_sched *sched)
{
    fm_free(sched->loads);
    fm_free(sched->marks);
    fm_free(sched->offers);
}

/* --- the shard ---------------------------------------------------------------------------------
 */

void fm_sched_delay_learn(uint64_t *delay_ns, uint64_t measured_ns)
{
    measured_ns = measured_ns < DELAY_MAX_NS ? measured_ns : DELAY_MAX_NS;
    if (measured_ns > *delay_ns) {
        *delay_ns += (measured_ns - *delay_ns) / RISE;
    } else {
        *delay_ns -= (*delay_ns - measured_ns) / FALL;
    }
}

void fm_sched_offer_mark(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    if (sched->options.part == FM_SCHED_PART_SHARD && !model->marked) {
        model->marked = true;
        sched->marks[sched->mark_count++] = id;
    }
}

static bool state_is_ready(uint32_t state)
{
    return state == FM_SCHED_MODEL_WILLING || state == FM_SCHED_MODEL_URGENT;
}

uint64_t fm_sched_offer_slack_ns(const struct fm_sched *sched, enum fm_sched_model_state state)
{
    if (fm_sched_demand_full(sched)) {
        return sched->options.offer_slack_ns / FULL_SLACK_DIVISOR;
    }
    return sched->options.offer_slack_ns * (state == FM_SCHED_MODEL_URGENT ? 1 : WILLING_SLACK);
}

uint32_t fm_sched_offer_want(const struct fm_sched_model_entry *model, uint32_t count)
{
    uint32_t want = count / model->target;
    want = want < FM_SCHED_WANT_MAX ? want : FM_SCHED_WANT_MAX;
    return want > 1 ? want : 1;
}

static struct fm_sched_offer offer_of(const struct fm_sched *sched, uint32_t id)
{
    const struct fm_sched_model_entry *model = &sched->models[id];
    struct fm_sched_offer offer = {.state = (uint8_t)model->state, .known = true};
    if (!state_is_ready(model->state)) {
        return offer;
    }
    offer.key_ns = model->ready_key_ns;
    offer.deadline_ns = fm_sched_candidate_deadline_ns(sched, id);
    offer.count = model->queue.count;
    offer.reach_class = model->reach_class;
    offer.want = 1;
    if (sched->options.offer_slack_ns > 0) {
        offer.want = (uint16_t)fm_sched_offer_want(model, offer.count);
        if (offer.count < model->quiet_count && offer.count < model->batch_max) {
            offer.count = model->quiet_count;
        }
    }
    return offer;
}

static uint64_t apart(uint64_t left, uint64_t right)
{
    return left > right ? left - right : right - left;
}

static bool offer_differs(const struct fm_sched_offer *told, const struct fm_sched_offer *offer,
                          uint64_t slack_ns)
{
    return !told->known || told->state != offer->state || told->reach_class != offer->reach_class ||
           apart(told->key_ns, offer->key_ns) > slack_ns ||
           apart(told->deadline_ns, offer->deadline_ns) > slack_ns ||
           (offer->want > 1 && offer->want >= 2 * told->want) ||
           (slack_ns == 0 && told->count != offer->count);
}

void fm_sched_offers_tell(struct fm_sched *sched, struct fm_sched_actions *actions)
{
    while (sched->mark_count > 0) {
        uint32_t id = sched->marks[sched->mark_count - 1];
        struct fm_sched_offer offer = offer_of(sched, id);
        uint64_t slack_ns = fm_sched_offer_slack_ns(sched, (enum fm_sched_model_state)offer.state);
        bool moved = sched->options.type_count > 1 && /* the matcher judges places by it */
                     offer.deadline_ns != sched->offers[id].deadline_ns;
        if (moved || offer_differs(&sched->offers[id], &offer, slack_ns)) {
            if (actions->message_count == actions->message_capacity) {
                actions->wake_ns = sched->now_ns;
                return;
            }
            sched->offers[id] = offer;
            actions->messages[actions->message_count++] = (struct fm_sched_message){
                .kind = FM_SCHED_MESSAGE_OFFER, .model = id, .as.offer = offer};
        }
        sched->models[id].marked = false;
        sched->mark_count--;
    }
}

uint64_t fm_sched_outlook_turn_ns(const struct fm_sched *sched, uint64_t latest_ns)
{
    const struct fm_sched_outlook *outlook = &sched->outlook;
    uint64_t earliest_ns = sched->now_ns + fm_sched_delay_ns(sched);
    if (outlook->step_ns == 0) {
        return earliest_ns;
    }
    uint64_t ahead_ns = latest_ns > sched->now_ns ? latest_ns - sched->now_ns : 0;
    uint64_t step = (ahead_ns + outlook->step_ns - 1) / outlook->step_ns;
    step = step < FM_SCHED_OUTLOOK_STEPS ? step : FM_SCHED_OUTLOOK_STEPS - 1;
    uint64_t turn_ns = outlook->turn_ns[step];
    return turn_ns > earliest_ns ? turn_ns : earliest_ns;
}

static bool grant_take(struct fm_sched *sched, const struct fm_sched_message *message,
                       struct fm_sched_actions *actions)
{
    if (actions->message_count == actions->message_capacity) {
        return false;
    }
    uint32_t id = message->model;
    struct fm_sched_accelerator *accelerator = &sched->accelerators[message->accelerator];
    struct fm_sched_place place = {
        .accelerator = message->accelerator,
        .type = message->as.grant.type,
        .permille = message->as.grant.permille,
        .free_ns = message->as.grant.free_ns,
    };
    uint32_t count = 0;
    if (state_is_ready(sched->models[id].state) &&
        sched->models[id].tables[place.type].batch_max > 0) {
        sched->outlook = message->as.grant.outlook;
        count = fm_sched_candidate_form(sched, id, &place, actions);
        if (actions->count == actions->capacity ||
            actions->request_capacity - actions->request_count < count) {
            fm_sched_candidate_refresh(sched, id, actions); /* it may have lost all it had */
            return false;
        }
    }
    /* There and back: this way once more. */
    uint64_t at_ns = message->as.grant.at_ns;
    uint64_t trip_ns = sched->now_ns > at_ns ? 2 * (sched->now_ns - at_ns) : 0;
    fm_sched_delay_learn(&sched->trip_ns, trip_ns);
    struct fm_sched_message answer = {
        .kind = FM_SCHED_MESSAGE_ANSWER,
        .model = id,
        .accelerator = message->accelerator,
        .batch = message->batch,
        .as.answer.count = count,
    };
    if (count > 0) {
        FM_ASSERT(accelerator->running_count < FM_SCHED_RUNNING_MAX);
        struct fm_sched_running *running = &accelerator->running[accelerator->running_count++];
        running->batch = message->batch;
        accelerator->type = place.type;
        accelerator->permille = place.permille;
        fm_sched_start(sched, id, &place, 0, count, running, actions);
        answer.as.answer.start_ns = running->start_ns;
        answer.as.answer.expected_ns = running->expected_ns;
    }
    if (sched->models[id].present) {
        fm_sched_candidate_refresh(sched, id, actions);
    }
    sched->offers[id] = offer_of(sched, id);
    answer.as.answer.offer = sched->offers[id];
    actions->messages[actions->message_count++] = answer;
    return true;
}

/* Tells the caller that a batch is over: its slots are free, or it is lost. False: no room. */
static bool over_tell(const struct fm_sched *sched, const struct fm_sched_running *running,
                      enum fm_sched_action_kind kind, uint32_t accelerator,
                      struct fm_sched_actions *actions)
{
    uint32_t count = kind == FM_SCHED_ACTION_DONE ? running->count : 0;
    if (actions->count == actions->capacity ||
        actions->request_capacity - actions->request_count < count) {
        return false;
    }
    actions->items[actions->count++] = (struct fm_sched_action){
        .kind = kind,
        .model = running->model,
        .accelerator = accelerator,
        .batch = running->batch,
        .request_first = actions->request_count,
        .request_count = count,
        .request = FM_SCHED_NONE,
    };
    for (uint32_t slot = running->first; count > 0; count--) {
        actions->requests[actions->request_count++] = slot;
        fm_request_table_fetch(&sched->requests, slot);
        slot = sched->requests.nodes[slot].next[0];
    }
    return true;
}

static bool ended_take(struct fm_sched *sched, const struct fm_sched_message *message,
                       struct fm_sched_actions *actions)
{
    struct fm_sched_accelerator *accelerator = &sched->accelerators[message->accelerator];
    uint32_t index = 0;
    while (index < accelerator->running_count &&
           accelerator->running[index].batch != message->batch) {
        index++;
    }
    FM_ASSERT(index < accelerator->running_count);
    struct fm_sched_running *running = &accelerator->running[index];
    enum fm_sched_end end = message->as.ended.end;
    if (end == FM_SCHED_END_DONE) {
        if (!over_tell(sched, running, FM_SCHED_ACTION_DONE, message->accelerator, actions)) {
            return false;
        }
        fm_sched_requests_finish(sched, running);
        fm_sched_latency_learn(sched, running, accelerator->type, message->as.ended.ran_ns);
    } else {
        if (end == FM_SCHED_END_LOST && !running->told) {
            if (!over_tell(sched, running, FM_SCHED_ACTION_PREEMPT, message->accelerator,
                           actions)) {
                return false;
            }
            running->told = true;
        }
        if (!fm_sched_requests_return(sched, running, actions)) {
            return false;
        }
    }
    if (index == 0) {
        accelerator->running[0] = accelerator->running[1];
    }
    accelerator->running[1] = (struct fm_sched_running){0};
    accelerator->running_count--;
    return true;
}

void fm_sched_shard_load_get(const struct fm_sched *shard, struct fm_sched_load *ret_load)
{
    memcpy(ret_load->busy_micro, shard->busy_micro_by_tightness, sizeof ret_load->busy_micro);
    memcpy(ret_load->near_micro, shard->near_micro_by_tightness, sizeof ret_load->near_micro);
    memcpy(ret_load->models, shard->models_by_tightness, sizeof ret_load->models);
    ret_load->starts_millihertz = shard->starts_millihertz;
    ret_load->bad_q20 = shard->bad_q20;
    ret_load->outcomes = shard->outcomes;
}

void fm_sched_shard_pool_set(struct fm_sched *shard, const struct fm_sched_pool *pool)
{
    shard->pool = *pool;
    shard->up_count = pool->up_count;
    memcpy(shard->up_by_type, pool->up_by_type, sizeof shard->up_by_type);
    shard->clearance_count = pool->clearance_count;
    shard->elsewhere_micro =
        pool->busy_micro > shard->busy_micro ? pool->busy_micro - shard->busy_micro : 0;
    shard->elsewhere_millihertz = pool->starts_millihertz > shard->starts_millihertz
                                      ? pool->starts_millihertz - shard->starts_millihertz
                                      : 0;
}

/* --- the matcher -------------------------------------------------------------------------------
 */

void fm_sched_offer_place(struct fm_sched *sched, uint32_t id)
{
    struct fm_sched_model_entry *model = &sched->models[id];
    const struct fm_sched_offer *offer = &sched->offers[id];
    if (model->granted > 0) {
        return;
    }
    if (offer->known && state_is_ready(offer->state)) {
        fm_sched_candidate_enter(sched, id, (enum fm_sched_model_state)offer->state,
                                 offer->reach_class, offer->key_ns);
    } else {
        fm_sched_candidate_withdraw(sched, id);
    }
}

static bool offer_waits(const struct fm_sched_offer *offer)
{
    return offer->known && offer->state != FM_SCHED_MODEL_IDLE;
}

void fm_sched_offer_forget(struct fm_sched *sched, uint32_t id)
{
    sched->waiting_count -= offer_waits(&sched->offers[id]) ? 1u : 0u;
    sched->offers[id] = (struct fm_sched_offer){0};
    fm_sched_candidate_withdraw(sched, id);
}

static void offer_take(struct fm_sched *sched, uint32_t id, const struct fm_sched_offer *given)
{
    if (!sched->models[id].present) {
        return; /* said before its shard knew */
    }
    struct fm_sched_offer *offer = &sched->offers[id];
    sched->waiting_count -= offer_waits(offer) ? 1u : 0u;
    *offer = *given;
    sched->waiting_count += offer_waits(offer) ? 1u : 0u;
    fm_sched_offer_place(sched, id);
}

/* What the shard needs to judge whether it should let old requests go; nothing if it will not. */
static struct fm_sched_outlook outlook_of(const struct fm_sched *sched, uint32_t id,
                                          const struct fm_sched_place *place)
{
    struct fm_sched_outlook outlook = {0};
    const struct fm_sched_model_entry *model = &sched->models[id];
    const struct fm_sched_offer *offer = &sched->offers[id];
    uint32_t limit = offer->count + offer->count / 8 + 1; /* it may have grown */
    limit = limit < model->batch_max ? limit : model->batch_max;
    if (!model->policy->uses_outlook ||
        fm_sched_candidate_within(sched, &model->tables[place->type], offer->deadline_ns,
                                  place->free_ns, place->permille, limit) == limit) {
        return outlook;
    }
    outlook.step_ns = model->slo_ns / (FM_SCHED_OUTLOOK_STEPS - 1) + 1;
    for (uint32_t i = 0; i < FM_SCHED_OUTLOOK_STEPS; i++) {
        uint32_t ahead;
        outlook.turn_ns[i] =
            fm_sched_deferred_turn_ns(sched, sched->now_ns + i * outlook.step_ns, &ahead);
    }
    return outlook;
}

void fm_sched_grant(struct fm_sched *sched, uint32_t id, uint32_t accelerator_id,
                    struct fm_sched_actions *actions)
{
    FM_ASSERT(actions->message_count < actions->message_capacity);
    struct fm_sched_accelerator *accelerator = &sched->accelerators[accelerator_id];
    FM_ASSERT(accelerator->running_count < FM_SCHED_RUNNING_MAX);
    struct fm_sched_place place = fm_sched_place_of(sched, accelerator_id);
    const struct fm_latency_table *table = &sched->models[id].tables[place.type];
    uint32_t count = sched->offers[id].count;
    count = count < table->batch_max ? count : table->batch_max;
    uint64_t start_ns = sched->now_ns + sched->options.control_ns + count * sched->options.data_ns;
    start_ns = start_ns > place.free_ns ? start_ns : place.free_ns;
    actions->messages[actions->message_count++] = (struct fm_sched_message){
        .kind = FM_SCHED_MESSAGE_GRANT,
        .model = id,
        .accelerator = accelerator_id,
        .batch = ++sched->batch_number,
        .as.grant = {.type = place.type,
                     .permille = place.permille,
                     .free_ns = place.free_ns,
                     .at_ns = sched->now_ns,
                     .outlook = outlook_of(sched, id, &place)},
    };
    accelerator->running[accelerator->running_count++] = (struct fm_sched_running){
        .batch = sched->batch_number,
        .model = id,
        .first = FM_SCHED_NONE,
        .count = count,
        .open = true,
        .start_ns = start_ns,
        .expected_ns = start_ns + table->latency_ns[count],
    };
    sched->busy_count += accelerator->running_count == 1 ? 1u : 0u;
    fm_sched_accelerator_settle(sched, accelerator_id);
    fm_sched_candidate_withdraw(sched, id);
    sched->models[id].granted++;
}

bool fm_sched_end_tell(struct fm_sched *sched, uint32_t id, enum fm_sched_end end,
                       struct fm_sched_actions *actions)
{
    struct fm_sched_running *running = &sched->accelerators[id].running[0];
    if (running->open) {
        if (running->end != FM_SCHED_END_NONE) {
            sched->stats.late_reports++;
            return true;
        }
        running->end = end;
        return true;
    }
    if (actions->message_count == actions->message_capacity) {
        return false;
    }
    uint64_t ran_ns = end == FM_SCHED_END_DONE ? fm_sched_ran_ns(sched, running, id) : 0;
    actions->messages[actions->message_count++] = (struct fm_sched_message){
        .kind = FM_SCHED_MESSAGE_ENDED,
        .model = running->model,
        .accelerator = id,
        .batch = running->batch,
        .as.ended = {.end = end, .ran_ns = ran_ns},
    };
    fm_sched_latency_learn(sched, running, sched->accelerators[id].type, ran_ns);
    fm_sched_running_pop(sched, id);
    return true;
}

static bool answer_take(struct fm_sched *sched, const struct fm_sched_message *message,
                        struct fm_sched_actions *actions)
{
    uint32_t id = message->accelerator;
    struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    FM_ASSERT(accelerator->running_count > 0);
    struct fm_sched_running *running = &accelerator->running[accelerator->running_count - 1];
    FM_ASSERT(running->open && running->batch == message->batch);
    enum fm_sched_end end = running->end;
    if (message->as.answer.count > 0 && end != FM_SCHED_END_NONE &&
        actions->message_count == actions->message_capacity) {
        return false;
    }
    FM_ASSERT(sched->models[message->model].granted > 0);
    sched->models[message->model].granted--;
    offer_take(sched, message->model, &message->as.answer.offer);
    if (message->as.answer.count == 0) {
        *running = (struct fm_sched_running){0};
        sched->busy_count -= --accelerator->running_count == 0 ? 1u : 0u;
        fm_sched_accelerator_settle(sched, id);
        return true;
    }
    running->open = false;
    running->end = FM_SCHED_END_NONE;
    running->count = message->as.answer.count;
    running->start_ns = message->as.answer.start_ns;
    running->expected_ns = message->as.answer.expected_ns;
    fm_sched_accelerator_settle(sched, id);
    return end == FM_SCHED_END_NONE || fm_sched_end_tell(sched, id, end, actions);
}

bool fm_sched_message_take(struct fm_sched *sched, const struct fm_sched_message *message,
                           struct fm_sched_actions *actions)
{
    bool shard = sched->options.part == FM_SCHED_PART_SHARD;
    FM_ASSERT(message->model < sched->options.models_max);
    FM_ASSERT(message->kind == FM_SCHED_MESSAGE_OFFER ||
              message->accelerator < sched->options.accelerators_max);
    switch (message->kind) {
    case FM_SCHED_MESSAGE_GRANT:
        FM_ASSERT(shard);
        return grant_take(sched, message, actions);
    case FM_SCHED_MESSAGE_ENDED:
        FM_ASSERT(shard);
        return ended_take(sched, message, actions);
    case FM_SCHED_MESSAGE_OFFER:
        FM_ASSERT(!shard);
        offer_take(sched, message->model, &message->as.offer);
        return true;
    case FM_SCHED_MESSAGE_ANSWER:
        FM_ASSERT(!shard);
        return answer_take(sched, message, actions);
    }
    return true;
}

void fm_sched_matcher_load_set(struct fm_sched *matcher, uint32_t shard,
                               const struct fm_sched_load *load)
{
    FM_ASSERT(shard < matcher->options.shard_count);
    struct fm_sched_shard_load *known = &matcher->loads[shard];
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        matcher->busy_micro += load->busy_micro[i] - known->load.busy_micro[i];
        matcher->busy_micro_by_tightness[i] += load->busy_micro[i] - known->load.busy_micro[i];
        matcher->near_micro_by_tightness[i] += load->near_micro[i] - known->load.near_micro[i];
        matcher->models_by_tightness[i] += load->models[i] - known->load.models[i];
    }
    matcher->starts_millihertz += load->starts_millihertz - known->load.starts_millihertz;
    known->weight = load->outcomes - known->load.outcomes;
    known->load = *load;
    uint64_t weights = 0;
    uint64_t sum_q20 = 0;
    for (uint32_t i = 0; i < matcher->options.shard_count; i++) {
        weights += matcher->loads[i].weight;
        sum_q20 += matcher->loads[i].weight * matcher->loads[i].load.bad_q20;
    }
    matcher->bad_q20 = weights > 0 ? (uint32_t)(sum_q20 / weights) : matcher->bad_q20;
}

void fm_sched_matcher_pool_get(const struct fm_sched *matcher, struct fm_sched_pool *ret_pool)
{
    *ret_pool = (struct fm_sched_pool){
        .busy_micro = matcher->busy_micro,
        .starts_millihertz = matcher->starts_millihertz,
        .up_count = matcher->up_count,
        .clearance_count = matcher->clearance_count,
        .clearance_class = matcher->clearance_count > 0 ? matcher->clearances[0].reach_class : 0,
        .model_count = matcher->model_count,
        .bad_q20 = matcher->bad_q20,
    };
    memcpy(ret_pool->up_by_type, matcher->up_by_type, sizeof ret_pool->up_by_type);
}
