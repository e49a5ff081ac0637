/*
 * The shepherd policy: the largest batch first, and in place of a running one that is three times
 * smaller. See docs/scheduling.md.
 *
 * HOW IT WORKS. After Flex, the online part of Shepherd (Zhang et al., NSDI 2023). Whenever
 * something has happened, each model offers the largest batch of its queue that would still be in
 * time on an accelerator that is free; the largest of them all starts. If none is free, it is
 * compared with the smallest batch that runs: if it is at least PREEMPT_FACTOR times as large, that
 * one is stopped and its requests are queued again. Earlier requests that would make a batch
 * smaller stay in the queue: another accelerator may still be in time for them. Of batches of one
 * size the one whose earliest deadline comes first is taken, then the lowest model.
 *
 * LIMITATIONS. The source also plans which accelerators form a group and which models are served
 * there, for pools of many groups; here the pool is one group. A choice looks at every model that
 * has requests. With several types of accelerators the smallest running batch of any type is
 * compared. A batch that waits behind another one (lead times only) is not preempted.
 */
#include <string.h>

#include "core/sched/policy.h"
#include "core/util/memory.h"

/* The source derives 3.03 as the factor of the best competitive ratio. */
#define PREEMPT_FACTOR 3u

struct shepherd_state {
    struct fm_id_heap running; /* accelerators with one batch, by its size */
};

struct offer {
    uint64_t deadline_ns;
    struct fm_sched_choice choice;
};

int fm_sched_shepherd_init(struct fm_sched *sched)
{
    struct shepherd_state *state = fm_alloc_zero(1, sizeof *state);
    if (state == NULL) {
        return FM_ENOMEM;
    }
    sched->policy_state = state;
    return fm_id_heap_init(&state->running, sched->options.accelerators_max, NULL);
}

void fm_sched_shepherd_deinit(struct fm_sched *sched)
{
    struct shepherd_state *state = sched->policy_state;
    if (state != NULL) {
        fm_id_heap_deinit(&state->running);
    }
    fm_free(state);
    sched->policy_state = NULL;
}

void fm_sched_shepherd_settled(struct fm_sched *sched, uint32_t id)
{
    struct shepherd_state *state = sched->policy_state;
    const struct fm_sched_accelerator *accelerator = &sched->accelerators[id];
    if (accelerator->running_count == 1) {
        fm_id_heap_set(&state->running, id, accelerator->running[0].count);
    } else if (state->running.positions[id] != UINT32_MAX) {
        fm_id_heap_remove(&state->running, id);
    }
}

/* Replaces the offer by this model's largest batch if that is better. */
static void model_offers(const struct fm_sched *sched, uint32_t id, uint32_t accelerator,
                         uint64_t free_ns, struct offer *offer)
{
    const struct fm_sched_model_entry *model = &sched->models[id];
    const struct fm_latency_table *table = &model->tables[sched->accelerators[accelerator].type];
    uint32_t skip = 0;
    for (uint32_t slot = fm_request_queue_first(&model->queue); slot != FM_REQUEST_QUEUE_END;
         slot = sched->requests.nodes[slot].next[0]) {
        uint32_t left = model->queue.count - skip;
        uint32_t most = left < model->batch_max ? left : model->batch_max;
        most = most < table->batch_max ? most : table->batch_max;
        if (most < offer->choice.count || most == 0) {
            return;
        }
        uint64_t deadline_ns = sched->requests.nodes[slot].deadline_ns;
        uint32_t batch = fm_sched_candidate_within(sched, table, deadline_ns, free_ns, 1000, most);
        bool before = deadline_ns < offer->deadline_ns ||
                      (deadline_ns == offer->deadline_ns && id < offer->choice.model);
        if (batch > offer->choice.count ||
            (batch > 0 && batch == offer->choice.count && before && id != offer->choice.model)) {
            offer->deadline_ns = deadline_ns;
            offer->choice = (struct fm_sched_choice){
                .model = id, .accelerator = accelerator, .skip = skip, .count = batch};
        }
        if (batch == most) {
            return;
        }
        skip++;
    }
}

static void all_offer(const struct fm_sched *sched, uint32_t accelerator, uint64_t free_ns,
                      struct offer *offer)
{
    /* Nobody waits willingly and nothing reaches: all candidates are in one heap. */
    const struct fm_id_heap *ready = &sched->urgent[0];
    for (uint32_t i = 0; i < ready->count; i++) {
        model_offers(sched, ready->entries[i].id, accelerator, free_ns, offer);
    }
}

bool fm_sched_shepherd_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                              struct fm_sched_choice *ret_choice)
{
    if (sched->ready_count == 0 || actions->count == actions->capacity) {
        return false;
    }
    struct offer offer = {.choice = {.model = FM_SCHED_NONE, .accelerator = FM_SCHED_NONE}};
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        uint32_t id = fm_id_set_first(&sched->grantable[type], 0);
        if (id != FM_ID_SET_NONE) {
            all_offer(sched, id, fm_sched_accelerator_free_ns(&sched->accelerators[id]), &offer);
        }
    }
    if (offer.choice.count > 0) {
        *ret_choice = offer.choice;
        return true;
    }
    const struct shepherd_state *state = sched->policy_state;
    if (fm_id_heap_empty(&state->running)) {
        return false;
    }
    struct fm_id_heap_entry smallest = fm_id_heap_first(&state->running);
    const struct fm_sched_accelerator *place = &sched->accelerators[smallest.id];
    if (!sched->models[place->running[0].model].present ||
        fm_id_set_has(&sched->grantable[place->type], smallest.id)) {
        return false;
    }
    offer.choice.count = (uint32_t)smallest.key * PREEMPT_FACTOR - 1;
    offer.deadline_ns = 0;
    all_offer(sched, smallest.id, 0, &offer);
    *ret_choice = offer.choice;
    return offer.choice.model != FM_SCHED_NONE;
}
