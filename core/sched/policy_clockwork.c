/*
 * The clockwork policy: the batch that has to start first is the next one, a few milliseconds
 * ahead. See docs/scheduling.md.
 *
 * HOW IT WORKS. After the controller of Clockwork (Gujarati et al., OSDI 2020). A model has a
 * strategy for each batch size it is prepared for: powers of two, up to the requests it has. A
 * strategy's required start is the earliest deadline less l(b). Whenever an accelerator has less
 * than AHEAD_NS of work left, strategies are looked at in the order of their required start as seen
 * from when it will be free: those that would start too late are passed over, and the first that
 * does not is started. So a model's first strategy that counts is the largest batch that still
 * makes it, and it is enough to compare one for each model. Requests that even a batch of one could
 * not serve by then are cancelled at once.
 *
 * LIMITATIONS. The source also schedules loading of weights; here every model is in place
 * everywhere. A choice looks at every model that has requests.
 */
#include "core/sched/policy.h"

static uint64_t later(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

/* The grantable accelerator that is free first, for models of a type; of several the lowest. */
static uint32_t first_free(const struct fm_sched *sched, uint32_t type)
{
    uint32_t best = FM_SCHED_NONE;
    uint64_t best_ns = 0;
    for (uint32_t id = fm_id_set_first(&sched->grantable[type], 0); id != FM_ID_SET_NONE;
         id = fm_id_set_first(&sched->grantable[type], id + 1)) {
        uint64_t free_ns = fm_sched_accelerator_free_ns(&sched->accelerators[id]);
        free_ns = later(free_ns, sched->now_ns);
        if (best == FM_SCHED_NONE || free_ns < best_ns) {
            best = id;
            best_ns = free_ns;
        }
        if (best_ns == sched->now_ns) {
            break;
        }
    }
    return best;
}

/* Cancels what no accelerator can serve: none is free before free_ns. */
static void hopeless_cancel(struct fm_sched *sched, struct fm_sched_model_entry *model,
                            uint64_t free_ns, struct fm_sched_actions *actions)
{
    const struct fm_latency_table *table = &model->tables[model->reference];
    while (model->queue.count > 0 && actions->count < actions->capacity) {
        uint64_t deadline_ns =
            sched->requests.nodes[fm_request_queue_first(&model->queue)].deadline_ns;
        if (fm_sched_candidate_within(sched, table, deadline_ns, free_ns, 1000, 1) > 0) {
            return;
        }
        fm_sched_candidate_head_drop(sched, model, FM_SCHED_DROP_LATE, actions);
    }
}

/* The largest power of two that makes it; 0: none. */
static uint32_t strategy_size(const struct fm_sched *sched,
                              const struct fm_sched_model_entry *model,
                              const struct fm_latency_table *table, uint64_t deadline_ns,
                              uint64_t free_ns)
{
    uint32_t most = model->queue.count < model->batch_max ? model->queue.count : model->batch_max;
    uint32_t batch = fm_sched_candidate_within(sched, table, deadline_ns, free_ns, 1000, most);
    return batch == 0 ? 0 : 1u << (31u - (uint32_t)__builtin_clz(batch));
}

struct first_strategy {
    uint64_t required_ns;
    struct fm_sched_choice choice;
};

static void model_compare(const struct fm_sched *sched, uint32_t id, uint32_t accelerator,
                          struct first_strategy *first)
{
    const struct fm_sched_model_entry *model = &sched->models[id];
    const struct fm_sched_accelerator *place = &sched->accelerators[accelerator];
    const struct fm_latency_table *table = &model->tables[place->type];
    if (table->batch_max == 0) {
        return;
    }
    uint64_t deadline_ns = sched->requests.nodes[fm_request_queue_first(&model->queue)].deadline_ns;
    uint32_t batch =
        strategy_size(sched, model, table, deadline_ns, fm_sched_accelerator_free_ns(place));
    if (batch == 0) {
        return;
    }
    uint64_t required_ns = deadline_ns - table->latency_ns[batch];
    if (required_ns < first->required_ns ||
        (required_ns == first->required_ns && id < first->choice.model)) {
        first->required_ns = required_ns;
        first->choice =
            (struct fm_sched_choice){.model = id, .accelerator = accelerator, .count = batch};
    }
}

bool fm_sched_clockwork_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                               struct fm_sched_choice *ret_choice)
{
    if (sched->ready_count == 0 || sched->grantable_count == 0) {
        return false;
    }
    uint32_t places[FM_SCHED_TYPES_LIMIT];
    uint64_t earliest_ns = FM_SCHED_NEVER;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        places[type] = first_free(sched, type);
        if (places[type] != FM_SCHED_NONE) {
            uint64_t free_ns = fm_sched_accelerator_free_ns(&sched->accelerators[places[type]]);
            earliest_ns = free_ns < earliest_ns ? free_ns : earliest_ns;
        }
    }
    /* Nobody waits willingly and nothing reaches: all candidates are in one heap. It changes while
     * requests are cancelled, so the look at it starts over. */
    const struct fm_id_heap *ready = &sched->urgent[0];
    struct first_strategy first = {.required_ns = FM_SCHED_NEVER,
                                   .choice = {.model = FM_SCHED_NONE}};
    for (uint32_t i = 0; i < ready->count;) {
        uint32_t id = ready->entries[i].id;
        struct fm_sched_model_entry *model = &sched->models[id];
        uint32_t before = model->queue.count;
        hopeless_cancel(sched, model, earliest_ns, actions);
        if (actions->count == actions->capacity) {
            fm_sched_candidate_refresh(sched, id, actions);
            return false;
        }
        if (model->queue.count != before) {
            fm_sched_candidate_refresh(sched, id, actions);
            first = (struct first_strategy){.required_ns = FM_SCHED_NEVER,
                                            .choice = {.model = FM_SCHED_NONE}};
            i = 0;
            continue;
        }
        for (uint32_t type = 0; type < sched->options.type_count; type++) {
            if (places[type] != FM_SCHED_NONE) {
                model_compare(sched, id, places[type], &first);
            }
        }
        i++;
    }
    *ret_choice = first.choice;
    return first.choice.model != FM_SCHED_NONE;
}
