/*
 * The deferred policy: when a candidate may start, and which requests it lets go. See
 * docs/scheduling.md.
 *
 * HOW IT WORKS. Symphony starts a batch in the window [frontrun, latest]: not before D - l(b + 1),
 * as until then one more request could join, not after D - l(b). What is kept of it, and what is
 * not:
 *
 * Holding. A model that needs more than one accelerator suffers from bunching, as buses do: a batch
 * that starts early is small, ends early, and is followed by another small one. Its batches are
 * held until they have 97.5 % of the target's throughput or the window begins. Another model has
 * nothing to bunch with: there, waiting beside an idle accelerator gives away time and nothing is
 * gained. It is willing at once, but only on the accelerators that the load keeps in use. That
 * changes when the load asks for all accelerators: none is idle then, a small batch takes the place
 * of a larger one, and every model holds, until it has half of its target.
 *
 * The window begins somewhat before D - l(b + 1), where there is no time left to wait for an
 * accelerator that is about to come free: by the time between two starts in the pool, which is how
 * long that takes; but by no more than costs 2 % of the throughput, or up to 10 % where others are
 * in the way. In a full pool a model that shares it has a tenth of its SLO.
 *
 * Patience. Held is what is likely to be joined soon, as the measured rate says. When requests have
 * stopped coming the rate is not known to have fallen for a while, and the last ones would wait for
 * their window beside idle accelerators: they are let off after four times as long as gathering
 * should have taken. A model whose goal is latency is not held for longer than four of its batches.
 *
 * Bursts. A tight model whose requests come in bursts is held until the window even where its mean
 * rate says that nobody joins, if a burst asks for much of an accelerator.
 *
 * Throughput and not requests is what is compared: of a batch that is hardly worth more than one
 * request nothing is waited for and nobody is let go.
 *
 * Letting go. An old request that limits the batch is served if what stays behind can still be
 * served by the accelerator it is likely to get next; only if that would be in trouble too is the
 * old one let go, and only as far as the batch grows by it. Past saturation what stays behind is in
 * trouble anyway: there a model lets go until a decent batch can be made, one with nearly the
 * target's throughput. Not the target itself: that of a model with many requests leaves hardly any
 * time to wait.
 */
#include "core/sched/policy.h"

#define LOOK_LEAST    512u
#define MANY_MILLI    8000u
#define LAST_PERMILLE 10u
#define KEEP_PERMILLE 930u
/* One's own batches come by themselves; when others do is chance. */
#define OTHERS_FACTOR 4u
/* Under overload what stays behind is worth less: nothing is to be gained by keeping it. */
#define OVERLOAD_PERMILLE 50u
#define OVERLOAD_FACTOR   3u
/* In a full pool that is shared; and the loss from which it counts as past saturation. */
#define SHARED_SLACK_PERMILLE 100u
#define PAST_PERMILLE         25u
/* In a burst: of the time that a request can wait, times how busy others keep the pool. */
#define BURST_PERMILLE 600u
/* A held batch that has waited so many times as long as it should have taken to gather is not
 * waited for any more. */
#define PATIENCE_FACTOR 4u

static uint64_t less(uint64_t from, uint64_t amount)
{
    return from > amount ? from - amount : 0;
}

/* Until when a model's batch is held. */
struct holding {
    bool holds;
    uint32_t gathered; /* or until it has so many */
    uint64_t slack_ns; /* so much before frontrun */
};

/* In a burst: to the window, earlier the more of the pool others use. */
static void hold_burst(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                       uint64_t others_milli, struct holding *holding)
{
    uint64_t wait_ns = less(model->budget_ns, fm_sched_plan_of(model)->total_ns[1]);
    uint64_t part_permille = others_milli / (sched->up_count > 0 ? sched->up_count : 1);
    part_permille = part_permille < 1000 ? part_permille : 1000;
    uint64_t slack_ns = wait_ns / 1000 * BURST_PERMILLE / 1000 * part_permille;
    holding->gathered = model->batch_max;
    if (model->slack_ns == FM_SCHED_NEVER || holding->slack_ns < slack_ns) {
        holding->slack_ns = slack_ns;
    }
}

static struct holding holding_of(const struct fm_sched *sched,
                                 const struct fm_sched_model_entry *model)
{
    bool full = fm_sched_demand_full(sched);
    uint64_t turn_ns = fm_sched_demand_turn_ns(sched);
    uint64_t all_milli = fm_sched_busy_micro(sched) / 1000 + 1;
    uint64_t others_milli = all_milli - model->busy_micro / 1000;
    uint64_t most_ns = model->slack_ns;
    if (most_ns != FM_SCHED_NEVER) {
        most_ns += most_ns / all_milli * others_milli * OTHERS_FACTOR;
    }
    struct holding holding = {
        .holds = model->holds || full,
        .gathered = model->gathered,
        .slack_ns = turn_ns < most_ns ? turn_ns : most_ns,
    };
    if (model->bursts) {
        hold_burst(sched, model, others_milli, &holding);
    } else if (model->shares && full) {
        holding.gathered = (model->target + 1) / 2;
        holding.slack_ns = model->slo_ns / 1000 * SHARED_SLACK_PERMILLE;
    } else if (full) {
        /* Others may be in its way, its own batches come by themselves. */
        holding.gathered = model->target;
        holding.slack_ns = holding.slack_ns / all_milli * others_milli;
    }
    return holding;
}

/* What a batch of so many takes on the slowest type that is there and fast enough: as long as it
 * can be met there every accelerator is of use. */
static uint64_t slowest_ns(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint32_t count)
{
    uint64_t slowest_ns = fm_sched_plan_of(model)->total_ns[count];
    for (uint32_t type = 0; sched->options.type_count > 1 && type < sched->options.type_count;
         type++) {
        const struct fm_latency_table *table = &model->tables[type];
        uint32_t most = fm_latency_table_within(table, model->budget_ns, count);
        if (sched->up_by_type[type] > 0 && most > 0 && table->total_ns[most] > slowest_ns) {
            slowest_ns = table->total_ns[most];
        }
    }
    return slowest_ns;
}

/* When a batch that is held has waited long enough for those that should have joined it. */
static uint64_t patient_until_ns(const struct fm_sched *sched,
                                 const struct fm_sched_model_entry *model, uint64_t deadline_ns,
                                 const struct holding *holding)
{
    uint64_t gather = ((uint64_t)holding->gathered + 1) * PATIENCE_FACTOR;
    if (model->bursts) {
        return FM_SCHED_NEVER;
    }
    if (model->gap_ns >= model->slo_ns) {
        return 0; /* nobody is likely to join it at all */
    }
    uint64_t patience_ns = model->gap_ns * gather;
    if (model->goal == FM_SCHED_GOAL_LATENCY) {
        /* Not longer than what is gained by it could matter. */
        const struct fm_latency_table *table = fm_sched_plan_of(model);
        uint32_t size = holding->gathered < table->batch_max ? holding->gathered : table->batch_max;
        uint64_t most_ns = table->total_ns[size] * PATIENCE_FACTOR;
        patience_ns = patience_ns < most_ns ? patience_ns : most_ns;
    }
    return fm_sched_arrived_ns(sched, model, deadline_ns) + patience_ns;
}

/* Whether one of the accelerators that the load keeps in use can run it in time at all. A shard
 * does not know them. */
static bool has_active(const struct fm_sched *sched, const struct fm_sched_model_entry *model)
{
    if (sched->options.type_count == 1 || sched->options.part != FM_SCHED_PART_WHOLE) {
        return true;
    }
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        if (sched->first_by_type[type] < sched->active_end && model->tables[type].batch_max > 0 &&
            model->tables[type].total_ns[1] <= model->budget_ns) {
            return true;
        }
    }
    return false;
}

void fm_sched_deferred_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                             uint64_t deadline_ns, uint32_t count,
                             struct fm_sched_readiness *readiness)
{
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    bool spare = fm_sched_busy_micro(sched) < (uint64_t)sched->up_count * 700000u;
    if (count >= model->batch_max || count >= table->batch_max ||
        (model->goal == FM_SCHED_GOAL_LATENCY && spare)) {
        readiness->willing_ns = 0;
        readiness->urgent_ns = 0;
        return;
    }
    struct holding holding = holding_of(sched, model);
    uint64_t next_ns = slowest_ns(sched, model, count + 1) + sched->options.control_ns;
    holding.slack_ns += fm_sched_delay_ns(sched);
    uint64_t window_ns = less(deadline_ns, next_ns + holding.slack_ns);
    uint64_t wished_ns = fm_sched_wished_ns(sched, model, deadline_ns);
    uint64_t half_ns = table->total_ns[(count + 3) / 4] + sched->options.control_ns;
    half_ns += fm_sched_delay_ns(sched);
    uint64_t last_ns = less(deadline_ns, half_ns + model->slo_ns / 1000 * LAST_PERMILLE);
    readiness->urgent_ns = last_ns > window_ns ? last_ns : window_ns;
    bool gathered = count >= holding.gathered;
    bool defers = model->goal == FM_SCHED_GOAL_EFFICIENCY && spare;
    uint64_t patient_ns =
        defers ? FM_SCHED_NEVER : patient_until_ns(sched, model, deadline_ns, &holding);
    uint64_t held_ns = less(wished_ns, next_ns + holding.slack_ns);
    held_ns = patient_ns < held_ns ? patient_ns : held_ns;
    readiness->willing_ns = holding.holds && gathered ? 0 : holding.holds || defers ? held_ns : 0;
    if (!has_active(sched, model)) {
        /* Nothing comes of waiting for those. */
        readiness->urgent_ns = readiness->willing_ns;
    }
}

static uint32_t heaps_before(const struct fm_id_heap *heaps, uint64_t classes, uint64_t latest_ns,
                             uint32_t most)
{
    uint32_t count = 0;
    for (; classes != 0 && count < most; classes &= classes - 1) {
        count += fm_id_heap_about_below(&heaps[__builtin_ctzll(classes)], latest_ns, most - count);
    }
    return count;
}

/* How many ready candidates have to start earlier than that, about. */
static uint32_t candidates_before(const struct fm_sched *sched, uint64_t latest_ns)
{
    uint32_t most = 2 * sched->up_count;
    uint32_t count = heaps_before(sched->urgent, sched->urgent_classes, latest_ns, most);
    return count + heaps_before(sched->willing, sched->willing_classes, latest_ns, most - count);
}

uint64_t fm_sched_deferred_turn_ns(const struct fm_sched *sched, uint64_t latest_ns,
                                   uint32_t *ret_ahead)
{
    uint32_t others = sched->grantable_count > 0 ? sched->grantable_count - 1 : 0;
    *ret_ahead = 0;
    if (others >= sched->ready_count) {
        return sched->now_ns; /* however many come before it */
    }
    uint32_t ahead = candidates_before(sched, latest_ns);
    ahead = ahead > 0 ? ahead - 1 : 0; /* itself */
    *ret_ahead = ahead;
    if (others > ahead) {
        return sched->now_ns;
    }
    uint64_t when_ns = fm_free_times_when(&sched->free_times, ahead + 1 - others);
    return when_ns > sched->now_ns ? when_ns : sched->now_ns;
}

/* When what stays behind would likely get an accelerator, after this batch took one. */
static uint64_t next_turn_ns(const struct fm_sched *sched, uint64_t latency_ns, uint64_t latest_ns)
{
    uint32_t ahead = 0;
    uint64_t turn_ns = sched->options.part == FM_SCHED_PART_SHARD
                           ? fm_sched_outlook_turn_ns(sched, latest_ns)
                           : fm_sched_deferred_turn_ns(sched, latest_ns, &ahead);
    if (turn_ns != FM_SCHED_NEVER) {
        return turn_ns;
    }
    uint32_t up = sched->up_count > 0 ? sched->up_count : 1;
    return sched->now_ns + latency_ns + latency_ns * (ahead / up);
}

static uint32_t within(const struct fm_latency_table *table, uint64_t deadline_ns,
                       uint64_t begin_ns, uint32_t limit)
{
    return deadline_ns <= begin_ns ? 0
                                   : fm_latency_table_within(table, deadline_ns - begin_ns, limit);
}

/* So many of a queue's requests are looked at for one batch: the cost of a request must not grow
 * with the queue. What lies behind has its turn when these are gone. */
static uint32_t look_of(const struct fm_sched_model_entry *model)
{
    return 2 * model->batch_max > LOOK_LEAST ? 2 * model->batch_max : LOOK_LEAST;
}

/* The largest batch that any of the queue's first requests could lead, and how many are before it.
 */
static uint32_t best_batch(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           const struct fm_latency_table *table, uint64_t begin_ns,
                           uint32_t *ret_before)
{
    uint32_t best = 0;
    uint32_t before = 0;
    *ret_before = 0;
    uint32_t look = look_of(model);
    for (uint32_t slot = fm_request_queue_first(&model->queue);
         slot != FM_REQUEST_QUEUE_END && model->queue.count - before > best && before < look;
         slot = sched->requests.nodes[slot].next[0]) {
        uint32_t left = model->queue.count - before;
        uint32_t batch = within(table, sched->requests.nodes[slot].deadline_ns, begin_ns,
                                left < model->batch_max ? left : model->batch_max);
        if (batch > best) {
            best = batch;
            *ret_before = before;
        }
        if (best == model->batch_max || best == table->batch_max) {
            break;
        }
        before++;
    }
    return best;
}

/* Lets go until what is left can make a batch of `size`, or all that is left. */
static uint32_t window_drop(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                            const struct fm_latency_table *table, uint64_t free_ns, uint32_t size)
{
    uint64_t begin_ns = sched->now_ns + sched->options.control_ns;
    begin_ns = begin_ns > free_ns ? begin_ns : free_ns;
    uint32_t let_go = 0;
    uint32_t look = look_of(model);
    for (uint32_t slot = fm_request_queue_first(&model->queue);
         slot != FM_REQUEST_QUEUE_END && let_go < look;
         slot = sched->requests.nodes[slot].next[0]) {
        uint32_t left = model->queue.count - let_go;
        uint32_t want = size < left ? size : left;
        if (within(table, sched->requests.nodes[slot].deadline_ns, begin_ns, want) == want) {
            return let_go;
        }
        let_go++;
    }
    return let_go;
}

/* How much of the throughput that it could have the batch of what stays behind has to keep. */
static uint32_t keep_permille(const struct fm_sched_model_entry *model)
{
    uint32_t bad_permille = (uint32_t)((uint64_t)model->bad_q20 * 1000 >> 20);
    uint32_t keep = model->holds && model->busy_micro / 1000 <= MANY_MILLI ? KEEP_PERMILLE : 1000;
    keep +=
        (bad_permille > OVERLOAD_PERMILLE ? bad_permille - OVERLOAD_PERMILLE : 0) * OVERLOAD_FACTOR;
    return keep < 1000 ? keep : 1000;
}

/* The batch that is decent for what stays behind, with those who join it until its turn. */
static uint32_t decent_of(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                          uint32_t stay, uint64_t turn_ns)
{
    uint64_t all_q8 = (uint64_t)stay << 8;
    if (model->near_gap_ns != FM_SCHED_NEVER && turn_ns > sched->now_ns) {
        uint64_t wait_ns = turn_ns - sched->now_ns;
        all_q8 +=
            wait_ns < model->budget_ns ? wait_ns * 256 / model->near_gap_ns : model->target_q8;
    }
    all_q8 = all_q8 < model->target_q8 ? all_q8 : model->target_q8;
    uint32_t decent = fm_latency_table_share(fm_sched_plan_of(model), all_q8, keep_permille(model));
    return model->shares && decent > model->decent && fm_sched_demand_full(sched) ? model->decent
                                                                                  : decent;
}

uint32_t fm_sched_deferred_sacrifice(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                     const struct fm_latency_table *table, uint64_t free_ns)
{
    if (model->shares && fm_sched_bad_q20(sched) > FM_SCHED_Q20(PAST_PERMILLE) &&
        fm_sched_demand_full(sched)) {
        return window_drop(sched, model, table, free_ns, model->decent);
    }
    /* What stays behind is served by another accelerator, of whatever type. */
    const struct fm_latency_table *plan = fm_sched_plan_of(model);
    uint64_t begin_ns = sched->now_ns + sched->options.control_ns;
    begin_ns = begin_ns > free_ns ? begin_ns : free_ns;
    uint32_t count = model->queue.count;
    uint32_t before_best;
    uint32_t first = fm_request_queue_first(&model->queue);
    uint32_t limit = count < model->batch_max ? count : model->batch_max;
    if (within(table, sched->requests.nodes[first].deadline_ns, begin_ns, limit) == limit) {
        return 0;
    }
    uint32_t best = best_batch(sched, model, table, begin_ns, &before_best);
    uint64_t turn_ns = FM_SCHED_NEVER;
    /* Two fingers: the batch's first request, and the first that stays behind. */
    uint32_t behind = first;
    uint32_t behind_index = 0;
    uint32_t head = first;
    for (uint32_t let_go = 0; let_go < before_best; let_go++) {
        uint32_t left = count - let_go;
        uint32_t batch = within(table, sched->requests.nodes[head].deadline_ns, begin_ns,
                                left < model->batch_max ? left : model->batch_max);
        while (behind_index < let_go + batch) {
            behind = sched->requests.nodes[behind].next[0];
            behind_index++;
        }
        uint32_t stay = left - batch;
        if (turn_ns == FM_SCHED_NEVER) {
            uint32_t later = stay < plan->batch_max ? stay : plan->batch_max;
            turn_ns = next_turn_ns(
                          sched, table->latency_ns[best > 0 ? best : 1],
                          less(sched->requests.nodes[behind].deadline_ns, plan->total_ns[later])) +
                      sched->options.control_ns;
        }
        uint32_t decent = decent_of(sched, model, stay, turn_ns);
        if (batch > 0 &&
            within(plan, sched->requests.nodes[behind].deadline_ns, turn_ns, decent) == decent) {
            return let_go;
        }
        head = sched->requests.nodes[head].next[0];
    }
    return before_best;
}

uint32_t fm_sched_window_sacrifice(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                   const struct fm_latency_table *table, uint64_t free_ns)
{
    return window_drop(sched, model, table, free_ns, model->target);
}
