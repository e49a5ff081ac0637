/*
 * The deferred policy: when a candidate may start, and which requests it lets go. See
 * docs/scheduling.md.
 *
 * HOW IT WORKS. Symphony starts a batch in the window [frontrun, latest]: not before D - l(b + 1),
 * as until then one more request could join, not after D - l(b). What is kept of it, and what is
 * not:
 *
 * Holding. A model that needs several accelerators, and two fifths of what all models need,
 * suffers from bunching, as buses do: a batch that starts early is small, ends early, and is
 * followed by another small one. Its batches are held until they have 90 % of the target size or
 * the window begins. Another model has nothing to bunch with: there, waiting beside an idle
 * accelerator gives away time and nothing is gained. It is willing at once, but only on the
 * accelerators that the load keeps in use. That changes when the load asks for all accelerators:
 * none is idle then, a small batch takes the place of a larger one, and every model holds, until it
 * has half of its target.
 *
 * The window begins 8 % of the SLO early, 10 % in a full pool that is shared: at D - l(b + 1)
 * exactly there is no time left to wait for an accelerator that is about to come free.
 *
 * Letting go. An old request that limits the batch is served if what stays behind can still be
 * served by the accelerator it is likely to get next; only if that would be in trouble too is the
 * old one let go, and only as far as the batch grows by it. Past saturation what stays behind is in
 * trouble anyway: there a model lets go until a decent batch can be made, one with nearly the
 * target's throughput. Not the target itself: that of a model with many requests leaves hardly any
 * time to wait.
 */
#include "core/sched/policy.h"

#define LOOK_LEAST      512u
#define HOLD_PERMILLE   900u
#define MANY_MILLI      8000u
#define LAST_PERMILLE   10u
#define SLACK_PERMILLE  80u
#define DECENT_PERMILLE 850u
/* Under overload what stays behind is worth less: nothing is to be gained by keeping it. */
#define OVERLOAD_PERMILLE 50u
#define OVERLOAD_FACTOR   6u
/* In a full pool that is shared; and the loss from which it counts as past saturation. */
#define SHARED_HOLD_PERMILLE  500u
#define SHARED_SLACK_PERMILLE 100u
#define PAST_PERMILLE         25u

static uint64_t less(uint64_t from, uint64_t amount)
{
    return from > amount ? from - amount : 0;
}

/* Until when a model's batch is held. */
struct holding {
    bool holds;
    uint64_t gather_permille; /* or until it has this much of the target */
    uint64_t slack_ns;        /* so much before frontrun */
};

static struct holding holding_of(const struct fm_sched *sched,
                                 const struct fm_sched_model_entry *model)
{
    bool full = fm_sched_demand_full(sched);
    struct holding holding = {
        .holds = model->holds || full,
        .gather_permille = HOLD_PERMILLE,
        .slack_ns = model->slo_ns / 1000 * SLACK_PERMILLE,
    };
    uint64_t busy_milli = model->busy_micro / 1000;
    if (!model->holds && full) {
        holding.gather_permille = SHARED_HOLD_PERMILLE;
        holding.slack_ns = model->slo_ns / 1000 * SHARED_SLACK_PERMILLE;
    } else if (full) {
        /* Others may be in its way, its own batches come by themselves. */
        uint64_t others_milli = fm_sched_busy_micro(sched) / 1000 - busy_milli;
        holding.gather_permille = 1000;
        holding.slack_ns = holding.slack_ns / (others_milli + busy_milli + 1) * others_milli;
    } else if (busy_milli > MANY_MILLI) {
        /* Accelerators come free the more often the more it has: less to wait and to hold for. */
        holding.slack_ns = holding.slack_ns / busy_milli * MANY_MILLI;
        holding.gather_permille = 1000 - (1000 - HOLD_PERMILLE) * MANY_MILLI / busy_milli;
    }
    return holding;
}

void fm_sched_deferred_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                             uint64_t deadline_ns, uint32_t count,
                             struct fm_sched_readiness *readiness)
{
    const struct fm_latency_table *table = &model->tables[model->reference];
    bool spare = fm_sched_busy_micro(sched) < (uint64_t)sched->up_count * 700000u;
    if (count >= model->batch_max || (model->goal == FM_SCHED_GOAL_LATENCY && spare)) {
        readiness->willing_ns = 0;
        readiness->urgent_ns = 0;
        return;
    }
    struct holding holding = holding_of(sched, model);
    uint64_t next_ns = table->total_ns[count + 1] + sched->options.control_ns;
    holding.slack_ns += fm_sched_delay_ns(sched);
    uint64_t window_ns = less(deadline_ns, next_ns + holding.slack_ns);
    uint64_t half_ns = table->total_ns[(count + 3) / 4] + sched->options.control_ns;
    half_ns += fm_sched_delay_ns(sched);
    uint64_t last_ns = less(deadline_ns, half_ns + model->slo_ns / 1000 * LAST_PERMILLE);
    readiness->urgent_ns = last_ns > window_ns ? last_ns : window_ns;
    bool gathered = (uint64_t)count * 1000 >= (uint64_t)model->target * holding.gather_permille;
    bool defers = model->goal == FM_SCHED_GOAL_EFFICIENCY && spare;
    readiness->willing_ns = holding.holds && gathered ? 0 : holding.holds || defers ? window_ns : 0;
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

uint32_t fm_sched_deferred_sacrifice(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                     const struct fm_latency_table *table, uint64_t free_ns)
{
    if (!model->holds && fm_sched_bad_q20(sched) > FM_SCHED_Q20(PAST_PERMILLE) &&
        fm_sched_demand_full(sched)) {
        return window_drop(sched, model, table, free_ns, model->decent);
    }
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
    uint64_t bad_permille = (uint64_t)model->bad_q20 * 1000 >> 20;
    uint64_t decent_permille =
        (model->holds && model->busy_micro / 1000 <= MANY_MILLI ? DECENT_PERMILLE : 1000u) +
        (bad_permille > OVERLOAD_PERMILLE ? bad_permille - OVERLOAD_PERMILLE : 0) * OVERLOAD_FACTOR;
    decent_permille = decent_permille < 1000 ? decent_permille : 1000;
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
            uint32_t later = stay < table->batch_max ? stay : table->batch_max;
            turn_ns = next_turn_ns(
                          sched, table->latency_ns[best > 0 ? best : 1],
                          less(sched->requests.nodes[behind].deadline_ns, table->total_ns[later])) +
                      sched->options.control_ns;
        }
        uint64_t joining = model->gap_ns == FM_SCHED_NEVER || turn_ns <= sched->now_ns
                               ? 0
                               : (turn_ns - sched->now_ns) / model->gap_ns;
        uint64_t decent = stay + joining < model->target ? stay + joining : model->target;
        decent = decent * decent_permille / 1000;
        if (!model->holds && decent > model->decent && fm_sched_demand_full(sched)) {
            decent = model->decent;
        }
        decent = decent > 1 ? decent : 1;
        if (batch > 0 && within(table, sched->requests.nodes[behind].deadline_ns, turn_ns,
                                (uint32_t)decent) == decent) {
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
