/*
 * What the load asks for: arrival rates, target batches, how many accelerators that keeps busy,
 * what has to stay clear for tight models, and who has been treated badly. See state.h.
 *
 * HOW IT WORKS. The rate of a model is counted in windows of WINDOW_NS, the last one fading out
 * while the present one fills. Its target is the largest batch b with l(b) + b * gap <= budget: n
 * accelerators that start perfectly staggered start a batch every b * gap, so a request waits at
 * most that long and then runs l(b) (reference: Symphony's upper bound l(b)(1 + 1/n) with n = l(b)
 * / (b * gap); where less than one accelerator is needed, b * gap is the time the batch takes to
 * gather). Running at the target it keeps l(b) / (b * gap) accelerators busy. The sum over models
 * says how many accelerators the load needs. Of a tight model in a mostly idle pool whose arrivals
 * come in bursts, it is the gap within those that counts, see bursts_review.
 *
 * Clearance. A batch that runs longer than a tighter model can wait must not take the last
 * accelerator that comes free in that time: non-preemptive blocking is what ruins mixed SLOs. For
 * every half octave of tightness, as many accelerators as the models that tight keep busy (and one
 * standard deviation of a Poisson count of them) must come free within 3/4 of it after any grant;
 * but never so many that the other models' demand has no place.
 *
 * Fairness. A model that loses more than others gains in the order of candidates, see bias_review.
 */
#include <string.h>

#include "core/sched/state.h"
#include "core/util/assert.h"

#define WINDOW_NS     UINT64_C(500000000)
#define REVIEW_NS     UINT64_C(10000000)
#define SCRUB_DIVISOR 64u
#define ONE_MICRO     UINT64_C(1000000)
/* One model's demand is counted up to as many accelerators as there can be. */
#define BUSY_MAX_MICRO (FM_SCHED_ACCELERATORS_LIMIT * ONE_MICRO)
#define ONE_Q20        (1u << 20)
#define ONE_Q40        (UINT64_C(1) << 40)
/* A batch is decent that has this much of the target's throughput. */
#define DECENT_PERMILLE 990u
/* Held until a batch has this much of it; with more accelerators than MANY_MILLI more of it, as one
 * comes free the more often. */
#define GATHERED_PERMILLE 975u
#define MANY_MILLI        8000u
/* What starting before the window may cost of it: one part in so many. */
#define SLACK_DIVISOR 50u
/* Requests that a model's share of bad ones is known over. */
#define MEMORY_SLOS    8u
#define MEMORY_LEAST   400u
#define MEMORY_SECONDS 4u
#define MEMORY_SHORT   20u
#define MEMORY_MOST    1000000u
/* Requests that are lost widen the margin of accelerators: so many times it for each percent. */
#define MARGIN_PER_PERCENT 20u
/* A model that asks for this share of what all ask for has the pool to itself. */
#define ALONE_PERCENT 40u
/* Up to so much of the mean a model fares no worse than others. */
#define USUAL_PERMILLE 1300
/* The loss from which on a pool counts as past saturation, and that from which it wholly does. */
#define PAST_FROM_PERMILLE 10u
#define PAST_FULL_PERMILLE 40u
/* Of what is lost there a model bears between these parts of the mean. */
#define BURDEN_LEAST_PERMILLE 500u
#define BURDEN_MOST_PERMILLE  1500u

/* Bursts count where other models use no more of the pool, for SLOs up to so many times l(1). */
#define BURSTS_BUSY_PERCENT 50u
#define BURSTS_TIGHT        3u
/* A model holds whose bursts ask for more than so many twentieths of an accelerator. */
#define BURST_HOLDS 13u
/* They are known over so many requests, and from so many on. */
#define PAIRS_MEMORY 512u
#define PAIRS_LEAST  16u
#define PAIRS_SHIFT  10u
/* More of them in a window say nothing new. */
#define PAIRS_WINDOW_MOST (1u << 20)

#define CLASS_FIRST_SHIFT 16u

uint32_t fm_sched_class_of(uint64_t duration_ns)
{
    if (duration_ns < UINT64_C(1) << CLASS_FIRST_SHIFT) {
        return 0;
    }
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(duration_ns);
    /* Upper half of the octave: duration^2 >= 2^(2 * shift + 1), i.e. >= 1.41421 * 2^shift. */
    uint64_t half = (UINT64_C(1) << shift) / 100000u * 141421u;
    uint32_t index = (shift - CLASS_FIRST_SHIFT) * 2 + (duration_ns >= half ? 1u : 0u);
    return index < FM_SCHED_REACH_CLASSES ? index : FM_SCHED_REACH_CLASSES - 1;
}

uint64_t fm_sched_class_ns(uint32_t class_index)
{
    if (class_index == 0) {
        return 0;
    }
    uint64_t octave = UINT64_C(1) << (CLASS_FIRST_SHIFT + class_index / 2);
    return class_index % 2 == 0 ? octave : octave / 100000u * 141421u;
}

static uint64_t square_root(uint64_t value)
{
    uint64_t root = 0;
    for (uint64_t step = UINT64_C(1) << 31; step > 0; step >>= 1) {
        if ((root + step) * (root + step) <= value) {
            root += step;
        }
    }
    return root;
}

/* The mean gap between arrivals as the windows tell it. */
static uint64_t gap_of(const struct fm_sched_model_entry *model, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - model->window_begin_ns;
    uint64_t known_ns = now_ns - model->window_first_ns;
    if (known_ns < WINDOW_NS) {
        /* Still in the first window: what came so far. */
        return model->window_count > 1 ? known_ns / (model->window_count - 1) + 1 : FM_SCHED_NEVER;
    }
    elapsed_ns = elapsed_ns < WINDOW_NS ? elapsed_ns : WINDOW_NS;
    /* Arrivals in the last WINDOW_NS, in 1/1024. */
    uint64_t arrivals =
        (uint64_t)model->window_count * 1024 +
        (uint64_t)model->window_count_before * ((WINDOW_NS - elapsed_ns) * 1024 / WINDOW_NS);
    return arrivals > 0 ? WINDOW_NS * 1024 / arrivals + 1 : FM_SCHED_NEVER;
}

/* The window's pairs join those before, and as many requests as came are forgotten of these. */
static void pairs_turn(struct fm_sched_model_entry *model)
{
    uint64_t count = model->window_count;
    uint64_t fade = count < PAIRS_MEMORY / 8 ? count : PAIRS_MEMORY / 8;
    model->pairs -= model->pairs / PAIRS_MEMORY * fade;
    model->pairs_expected -= model->pairs_expected / PAIRS_MEMORY * fade;
    model->pairs_of -= model->pairs_of / PAIRS_MEMORY * fade;
    if (count > 0 && count < PAIRS_WINDOW_MOST) {
        uint64_t part = (model->slot_ns << PAIRS_SHIFT) / WINDOW_NS;
        model->pairs += model->window_pairs << PAIRS_SHIFT;
        model->pairs_expected += count * (count - 1) * part;
        model->pairs_of += count << PAIRS_SHIFT;
    }
    model->window_pairs = 0;
}

static void windows_turn(struct fm_sched_model_entry *model, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - model->window_begin_ns;
    if (elapsed_ns < WINDOW_NS) {
        return;
    }
    pairs_turn(model);
    bool adjacent = elapsed_ns < 2 * WINDOW_NS;
    model->window_count_before = adjacent ? model->window_count : 0;
    model->window_count = 0;
    model->window_begin_ns = adjacent ? model->window_begin_ns + WINDOW_NS : now_ns;
}

static void pairs_count(struct fm_sched_model_entry *model, uint64_t now_ns)
{
    if (model->slot_ns == 0) {
        return;
    }
    uint64_t elapsed_ns = now_ns - model->slot_begin_ns;
    if (elapsed_ns >= model->slot_ns) {
        model->slot_begin_ns += elapsed_ns / model->slot_ns * model->slot_ns;
        model->slot_count = 0;
    }
    model->window_pairs += 2 * (uint64_t)model->slot_count;
    model->slot_count++;
}

static void pairs_begin(struct fm_sched_model_entry *model, uint64_t slot_ns, uint64_t now_ns)
{
    model->slot_ns = slot_ns < WINDOW_NS / 2 ? slot_ns : WINDOW_NS / 2;
    model->slot_begin_ns = now_ns;
    model->slot_count = 0;
    model->window_pairs = 0;
    model->pairs = 0;
    model->pairs_expected = 0;
    model->pairs_of = 0;
}

/*
 * The gap between arrivals as most requests see it. In bursts it is much less than the mean, which
 * says nothing about how many can gather: that is told by the pairs of requests that come within
 * the time that one can wait, against the requests (the mean number of others, over requests and
 * not over time). Independent arrivals have as many pairs as their rate says, so theirs is the
 * mean; it is bursts if there are twice as many. The model itself is not in the sums of demand.
 */
static void bursts_review(const struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    uint64_t budget_ns = model->budget_ns;
    uint64_t single_ns = fm_sched_plan_of(model)->total_ns[1];
    model->bursts = false;
    model->near_gap_ns = model->gap_ns;
    if (!model->policy->plans || budget_ns <= single_ns || budget_ns / BURSTS_TIGHT > single_ns) {
        return;
    }
    if (model->slot_ns == 0) {
        pairs_begin(model, budget_ns - single_ns, sched->now_ns);
    }
    if (model->pairs_of < (uint64_t)PAIRS_LEAST << PAIRS_SHIFT ||
        model->pairs < model->pairs_expected * 2 ||
        fm_sched_busy_micro(sched) > sched->up_count * ONE_MICRO / 100 * BURSTS_BUSY_PERCENT) {
        return;
    }
    /* As slot_ns <= 2^28 and pairs_of < 2^34. */
    uint64_t gap_ns = model->slot_ns * (model->pairs_of >> 5) / ((model->pairs >> 5) + 1) + 1;
    if (gap_ns < budget_ns && gap_ns < model->gap_ns) {
        model->bursts = true;
        model->near_gap_ns = gap_ns;
    }
}

void fm_sched_demand_arrival(struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    if (model->window_first_ns == FM_SCHED_NEVER) {
        model->window_first_ns = sched->now_ns;
        model->window_begin_ns = sched->now_ns;
    }
    if (sched->now_ns - model->window_begin_ns >= WINDOW_NS) {
        windows_turn(model, sched->now_ns);
    }
    model->window_count++;
    pairs_count(model, sched->now_ns);
    if (sched->now_ns >= model->review_ns) {
        fm_sched_demand_review(sched, model);
    }
}

/* Puts a model into the sums, or takes it out. */
static void demand_count(struct fm_sched *sched, const struct fm_sched_model_entry *model, bool in)
{
    uint32_t class_index = model->tightness_class;
    if (in) {
        sched->models_by_tightness[class_index] += model->present ? 1u : 0u;
        sched->busy_micro += model->busy_micro;
        sched->rate_millihertz += model->rate_millihertz;
        sched->starts_millihertz += model->starts_millihertz;
        sched->busy_micro_by_tightness[class_index] += model->busy_micro;
        sched->near_micro_by_tightness[class_index] += model->near_micro;
    } else {
        FM_ASSERT(sched->busy_micro >= model->busy_micro);
        sched->models_by_tightness[class_index] -= model->present ? 1u : 0u;
        sched->busy_micro -= model->busy_micro;
        sched->rate_millihertz -= model->rate_millihertz;
        sched->starts_millihertz -= model->starts_millihertz;
        sched->busy_micro_by_tightness[class_index] -= model->busy_micro;
        sched->near_micro_by_tightness[class_index] -= model->near_micro;
    }
}

void fm_sched_demand_forget(struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    demand_count(sched, model, false);
    model->busy_micro = 0;
    model->near_micro = 0;
    model->rate_millihertz = 0;
    model->starts_millihertz = 0;
    demand_count(sched, model, true);
}

/* The accelerator's time for a request of the mean model; 0: not known. */
static uint64_t cost_mean_ns(const struct fm_sched *sched)
{
    uint64_t rate = sched->rate_millihertz;
    uint64_t busy_micro = sched->busy_micro;
    for (; rate >= UINT64_C(1) << 40; rate >>= 1) {
        busy_micro >>= 1;
    }
    return rate == 0 ? 0 : busy_micro / rate * ONE_MICRO + busy_micro % rate * ONE_MICRO / rate;
}

/* What a request costs against the mean, within bounds. */
static uint32_t burden_of(const struct fm_sched *sched, uint64_t cost_ns)
{
    uint64_t mean_ns = cost_mean_ns(sched);
    if (mean_ns == 0) {
        return 1000;
    }
    uint64_t most_ns = mean_ns / 1000 * BURDEN_MOST_PERMILLE;
    uint64_t permille = cost_ns < most_ns ? cost_ns * 1000 / mean_ns : BURDEN_MOST_PERMILLE;
    return permille > BURDEN_LEAST_PERMILLE ? (uint32_t)permille : BURDEN_LEAST_PERMILLE;
}

/*
 * Types differ in speed. Batches and demand are planned for the one that can do most of the model's
 * work.
 */
static void plan_choose(const struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    if (sched->options.type_count == 1 || !model->policy->plans) {
        return;
    }
    uint64_t best = 0;
    model->planned = model->reference;
    for (uint8_t type = 0; type < sched->options.type_count; type++) {
        const struct fm_latency_table *table = &model->tables[type];
        if (table->batch_max == 0 || table->total_ns[1] > model->budget_ns) {
            continue;
        }
        uint64_t strength = ((uint64_t)sched->up_by_type[type] << 46) / table->latency_ns[1];
        if (strength > best) {
            best = strength;
            model->planned = type;
        }
    }
}

/* So many accelerators of the planned type, as ones of the mean speed that the pool has for the
 * model. */
static uint64_t mean_micro(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint64_t planned_micro)
{
    if (sched->options.type_count == 1 || !model->policy->plans) {
        return planned_micro;
    }
    uint32_t batch = model->target;
    uint64_t planned_ns = fm_sched_plan_of(model)->latency_ns[batch];
    uint64_t strength_milli = 0; /* of the pool, in the planned type's accelerators */
    for (uint8_t type = 0; type < sched->options.type_count; type++) {
        const struct fm_latency_table *table = &model->tables[type];
        if (table->batch_max >= batch && table->total_ns[1] <= model->budget_ns) {
            strength_milli +=
                sched->up_by_type[type] * planned_ns / (table->latency_ns[batch] / 1000 + 1);
        }
    }
    if (strength_milli == 0) {
        return planned_micro;
    }
    /* planned_micro < 2^36, up_count <= 2^16, so 1000 of them leave 64 bits to none. */
    uint64_t micro = planned_micro * sched->up_count / strength_milli * 1000;
    return micro < BUSY_MAX_MICRO ? micro : BUSY_MAX_MICRO;
}

/*
 * The largest batch within the budget, and by how much it is exceeded until the next one. In a
 * burst the first request is there when it begins, so it waits for one less.
 */
static void target_review(struct fm_sched_model_entry *model)
{
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    uint64_t gap_ns = model->near_gap_ns;
    uint64_t budget_ns = model->budget_ns + (model->bursts ? gap_ns : 0);
    uint32_t target = 1;
    uint64_t part_q8 = 0;
    if (gap_ns != FM_SCHED_NEVER) {
        target = fm_latency_table_within_growing(table, budget_ns, gap_ns);
        target = target == 0 ? 1 : target;
    }
    if (target >= model->batch_max) {
        target = model->batch_max;
    } else if (gap_ns != FM_SCHED_NEVER && target < table->batch_max) {
        uint64_t used_ns = table->total_ns[target] + target * gap_ns;
        uint64_t more_ns = table->total_ns[target + 1] - table->total_ns[target] + gap_ns;
        if (used_ns < budget_ns) {
            part_q8 = (budget_ns - used_ns) * 256 / more_ns;
        }
    }
    model->target = target;
    model->target_q8 = (target << 8) + (uint32_t)(part_q8 < 255 ? part_q8 : 255);
    model->decent = fm_latency_table_share(table, (uint64_t)target << 8, DECENT_PERMILLE);
}

/*
 * How long it takes until the last part of the target's throughput has gathered: of a batch of b
 * requests another one is worth the part of l(b) that does not grow with b, divided by b l(b), and
 * it takes a gap to come and its part of l(b) to run.
 */
static uint64_t slack_of(const struct fm_sched_model_entry *model)
{
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    uint32_t target = model->target;
    if (target == 1 || model->near_gap_ns == FM_SCHED_NEVER) {
        return FM_SCHED_NEVER;
    }
    uint64_t latency_ns = table->latency_ns[target];
    uint64_t each_ns = (table->total_ns[target] - table->total_ns[target / 2]) / ((target + 1) / 2);
    if (each_ns * target >= latency_ns) {
        return FM_SCHED_NEVER;
    }
    uint64_t worth_q10 = latency_ns * 1024 / (latency_ns - each_ns * target);
    worth_q10 = worth_q10 < UINT64_C(1) << 16 ? worth_q10 : UINT64_C(1) << 16;
    return (each_ns + model->near_gap_ns) * target / SLACK_DIVISOR * worth_q10 / 1024;
}

/* When a batch has been held for long enough. */
static void holding_review(const struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    uint64_t busy_milli = model->busy_micro / 1000;
    uint64_t rest_permille = 1000 - GATHERED_PERMILLE;
    if (busy_milli > MANY_MILLI) {
        rest_permille = rest_permille * MANY_MILLI / busy_milli;
    }
    uint64_t all_micro = fm_sched_busy_micro(sched) + model->busy_micro;
    model->shares = model->busy_micro < all_micro / 100 * ALONE_PERCENT;
    model->holds = model->busy_micro > ONE_MICRO * 21 / 20;
    if (model->bursts) {
        /* What a burst keeps busy. */
        uint64_t latency_ns = fm_sched_plan_of(model)->latency_ns[model->target];
        model->holds = latency_ns * 20 / (BURST_HOLDS * model->target) > model->near_gap_ns;
    }
    model->gathered = fm_latency_table_share(fm_sched_plan_of(model), model->target_q8,
                                             (uint32_t)(1000 - rest_permille));
    model->slack_ns = slack_of(model);
}

/* How many accelerators the model keeps busy at its target. */
static uint64_t busy_of(const struct fm_sched *sched, const struct fm_sched_model_entry *model)
{
    if (model->gap_ns == FM_SCHED_NEVER) {
        return 0;
    }
    uint64_t latency_ns = fm_sched_plan_of(model)->latency_ns[model->target];
    uint64_t busy_micro = latency_ns > UINT64_MAX / ONE_MICRO
                              ? BUSY_MAX_MICRO
                              : latency_ns * ONE_MICRO / (model->target * model->gap_ns);
    return mean_micro(sched, model, busy_micro < BUSY_MAX_MICRO ? busy_micro : BUSY_MAX_MICRO);
}

/* How far past saturation what is lost says it is, in thousandths of as far as counts. */
static uint32_t past_permille(const struct fm_sched *sched)
{
    uint32_t lost_permille = (uint32_t)((uint64_t)fm_sched_bad_q20(sched) * 1000 / ONE_Q20);
    uint32_t past = lost_permille > PAST_FROM_PERMILLE ? lost_permille - PAST_FROM_PERMILLE : 0;
    uint32_t full = PAST_FULL_PERMILLE - PAST_FROM_PERMILLE;
    return past < full ? past * 1000 / full : 1000;
}

/*
 * Over how many of its requests a model's share of bad ones is known. As many as come in some SLOs
 * at least: what is done about it takes up to an SLO to show, and with a shorter memory the model's
 * turn swings to and fro. Past saturation no more than come in some seconds: a rare model that has
 * yet to lose many would starve until then.
 */
static uint64_t memory_of(const struct fm_sched *sched, const struct fm_sched_model_entry *model)
{
    uint64_t short_count = model->rate_millihertz * MEMORY_SECONDS / 1000;
    short_count = short_count < MEMORY_SHORT ? MEMORY_SHORT : short_count;
    uint64_t least = MEMORY_LEAST;
    if (short_count < MEMORY_LEAST) {
        least -= (MEMORY_LEAST - short_count) * past_permille(sched) / 1000;
    }
    uint64_t memory = model->slo_ns * MEMORY_SLOS / model->gap_ns;
    return memory < least ? least : memory < MEMORY_MOST ? memory : MEMORY_MOST;
}

/* The share of bad ones above which a model fares worse than others. */
static uint64_t usual_q20(const struct fm_sched *sched)
{
    uint64_t usual = (uint64_t)fm_sched_bad_q20(sched) * USUAL_PERMILLE / 1000;
    return usual > ONE_Q20 / 500 ? usual : ONE_Q20 / 500;
}

void fm_sched_demand_review(struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    model->review_ns = sched->now_ns + REVIEW_NS;
    model->quiet_count = 0; /* what it is judged by may be another */
    model->gap_ns = gap_of(model, sched->now_ns);
    demand_count(sched, model, false);
    plan_choose(sched, model);
    bursts_review(sched, model);
    target_review(model);
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    uint32_t target = model->target;
    uint64_t budget_ns = model->budget_ns;
    model->rate_millihertz =
        model->gap_ns == FM_SCHED_NEVER ? 0 : UINT64_C(1000000000000) / model->gap_ns;
    model->starts_millihertz = model->rate_millihertz / target;
    model->busy_micro = busy_of(sched, model);
    holding_review(sched, model);
    uint64_t moderate_ns = table->total_ns[(target + 1) / 2];
    model->tightness_ns = budget_ns > moderate_ns ? budget_ns - moderate_ns : 0;
    model->tightness_class = (uint8_t)fm_sched_class_of(model->tightness_ns);
    model->near_micro = model->busy_micro;
    uint64_t wait_ns = fm_sched_class_ns(model->tightness_class) * 3 / 4;
    if (wait_ns < table->latency_ns[target]) {
        /* In that time only a part of its accelerators come free and are needed again. */
        model->near_micro = model->busy_micro / 1024 * (wait_ns * 1024 / table->latency_ns[target]);
    }
    demand_count(sched, model, true);
    model->burden_permille = burden_of(sched, table->latency_ns[target] / target);
    /* Half a deviation; that of a Poisson count of so many is the root of it. */
    uint64_t expected_q20 = memory_of(sched, model) * usual_q20(sched);
    model->noise_permille = (uint32_t)square_root((UINT64_C(250000) << 20) / expected_q20);
}

uint64_t fm_sched_demand_turn_ns(const struct fm_sched *sched)
{
    uint64_t starts_millihertz = sched->starts_millihertz + sched->elsewhere_millihertz;
    return starts_millihertz == 0 ? 0 : UINT64_C(1000000000000) / starts_millihertz;
}

uint32_t fm_sched_bad_q20(const struct fm_sched *sched)
{
    return sched->options.part == FM_SCHED_PART_SHARD ? sched->pool.bad_q20 : sched->bad_q20;
}

bool fm_sched_demand_full(const struct fm_sched *sched)
{
    return fm_sched_busy_micro(sched) >= sched->up_count * ONE_MICRO;
}

uint64_t fm_sched_demand_wait_ns(const struct fm_sched *sched,
                                 const struct fm_sched_model_entry *model)
{
    if (model->queue.count == 0 || sched->up_count == 0) {
        return 0;
    }
    uint64_t busy_micro = fm_sched_busy_micro(sched);
    /* The model's share of the pool: what others leave, or its part of what all ask for. */
    uint64_t up_micro = sched->up_count * ONE_MICRO;
    uint64_t others_micro = busy_micro - model->busy_micro;
    uint64_t share_micro = up_micro > others_micro ? up_micro - others_micro : 0;
    if (busy_micro > up_micro) {
        /* busy / sum * up in 2^-10, without leaving 64 bits. */
        uint64_t part_q10 = (model->busy_micro << 10) / busy_micro;
        uint64_t part_micro = part_q10 * up_micro >> 10;
        share_micro = share_micro > part_micro ? share_micro : part_micro;
    }
    /* Those that stand idle are there, whatever the rates of the last second say. */
    uint64_t idle_micro = sched->grantable_count * ONE_MICRO;
    share_micro = share_micro > idle_micro ? share_micro : idle_micro;
    share_micro = share_micro > ONE_MICRO / 1000 ? share_micro : ONE_MICRO / 1000;
    const struct fm_latency_table *table = fm_sched_plan_of(model);
    uint64_t each_ns = table->latency_ns[model->target] / model->target + 1;
    /* each_ns < 2^46, so divide before multiplying by a queue of up to 2^24. */
    uint64_t each_shared_ns =
        each_ns / share_micro * ONE_MICRO + each_ns % share_micro * ONE_MICRO / share_micro;
    uint64_t most = FM_SCHED_TIME_MAX_NS / model->queue.count;
    return each_shared_ns < most ? each_shared_ns * model->queue.count : FM_SCHED_TIME_MAX_NS;
}

/* Accelerators that the load needs, from what it keeps busy: half a standard deviation, and more
 * while requests are lost, as bursts are more than a mean rate tells. */
static uint32_t active_of(const struct fm_sched *sched)
{
    uint64_t most_micro = 2 * sched->up_count * ONE_MICRO; /* more changes nothing */
    uint64_t busy_micro = sched->busy_micro < most_micro ? sched->busy_micro : most_micro;
    uint64_t spread_micro = square_root(busy_micro * ONE_MICRO) / 2;
    spread_micro += spread_micro * sched->bad_q20 / FM_SCHED_Q20(10u) * MARGIN_PER_PERCENT;
    uint64_t active = (busy_micro + spread_micro + ONE_MICRO - 1) / ONE_MICRO;
    return active < 1 ? 1 : active < sched->up_count ? (uint32_t)active : sched->up_count;
}

static void clearances_review(struct fm_sched *sched)
{
    sched->clearance_count = 0;
    uint64_t up = sched->up_count;
    uint64_t sum_micro = 0;
    uint64_t near_micro = 0;
    if (up < 2) {
        return;
    }
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        if (sched->busy_micro_by_tightness[i] == 0) {
            continue;
        }
        sum_micro += sched->busy_micro_by_tightness[i];
        near_micro += sched->near_micro_by_tightness[i];
        uint64_t bounded_micro = near_micro < 2 * up * ONE_MICRO ? near_micro : 2 * up * ONE_MICRO;
        uint64_t wanted =
            (bounded_micro + square_root(bounded_micro * ONE_MICRO) + ONE_MICRO / 2) / ONE_MICRO;
        if (wanted == 0) {
            continue; /* to keep one idle would cost the others more than it gives these */
        }
        uint64_t others_micro = sched->busy_micro - sum_micro;
        uint64_t others = (others_micro + ONE_MICRO - 1) / ONE_MICRO;
        uint64_t limit = up > others ? up - others : 0;
        if (sched->busy_micro > up * ONE_MICRO) {
            limit = (up * (sum_micro >> 8) + (sched->busy_micro >> 9)) / (sched->busy_micro >> 8);
        }
        limit = limit < up - 1 ? limit : up - 1;
        wanted = wanted < limit ? wanted : limit;
        uint64_t tightness_ns = fm_sched_class_ns(i);
        sched->clearances[sched->clearance_count++] = (struct fm_sched_clearance){
            .within_ns = tightness_ns * 3 / 4,
            .count = wanted > 1 ? (uint32_t)wanted : 1,
            .reach_class = i,
        };
    }
}

/* Looks at a share of the models, so that those which have fallen silent are not counted for ever.
 */
static void scrub(struct fm_sched *sched)
{
    uint32_t count = sched->options.models_max / SCRUB_DIVISOR + 1;
    for (uint32_t i = 0; i < count; i++) {
        struct fm_sched_model_entry *model = &sched->models[sched->scrub];
        sched->scrub = sched->scrub + 1 < sched->options.models_max ? sched->scrub + 1 : 0;
        if (!model->present || model->window_first_ns == FM_SCHED_NEVER) {
            continue;
        }
        windows_turn(model, sched->now_ns);
        if (sched->now_ns >= model->review_ns + WINDOW_NS / 4) {
            fm_sched_demand_review(sched, model);
        }
    }
}

void fm_sched_demand_epoch(struct fm_sched *sched)
{
    if (sched->now_ns < sched->epoch_ns) {
        return;
    }
    sched->epoch_ns = sched->now_ns + FM_SCHED_EXCHANGE_NS;
    if (sched->options.part != FM_SCHED_PART_MATCHER) {
        scrub(sched);
        fm_sched_shed_epoch(sched);
    }
    if (sched->options.part != FM_SCHED_PART_SHARD) {
        sched->active_count = active_of(sched);
        sched->active_end = fm_id_set_end(&sched->up, sched->active_count);
        clearances_review(sched);
    }
    if (sched->policy->epoch != NULL) {
        sched->policy->epoch(sched);
    }
}

static uint64_t average_move(uint64_t average_q40, uint32_t count, uint64_t weight, bool bad)
{
    uint64_t target = bad ? ONE_Q40 : 0;
    uint64_t share = count < weight ? count : weight;
    int64_t move = ((int64_t)target - (int64_t)average_q40) * (int64_t)share / (int64_t)weight;
    return (uint64_t)((int64_t)average_q40 + move);
}

/*
 * A model that fares worse than usual, which is somewhat worse than the mean, is treated as if its
 * deadlines were earlier, by a tenth of its SLO for each multiple, at most two; one that fares
 * better as if later, by half of that. Past saturation this has to decide who is served at all, so
 * it grows with what is lost, up to four times. And there the models bear what is lost by what
 * their requests cost.
 */
static void bias_review(const struct fm_sched *sched, struct fm_sched_model_entry *model)
{
    int64_t lost_permille = (int64_t)fm_sched_bad_q20(sched) * 1000 / ONE_Q20;
    int64_t burden_permille =
        1000 + ((int64_t)model->burden_permille - 1000) * (int64_t)past_permille(sched) / 1000;
    int64_t usual = (int64_t)usual_q20(sched);
    int64_t excess_permille =
        (int64_t)model->bad_q20 * 1000 * 1000 / (usual * burden_permille) - 1000;
    int64_t noise_permille = model->noise_permille;
    excess_permille = excess_permille > noise_permille    ? excess_permille - noise_permille
                      : excess_permille < -noise_permille ? excess_permille + noise_permille
                                                          : 0;
    excess_permille = excess_permille < 2000 ? excess_permille : 2000;
    excess_permille = excess_permille > -500 ? excess_permille : -500;
    int64_t gain_permille = 1000 + 30 * lost_permille;
    gain_permille = gain_permille < 4000 ? gain_permille : 4000;
    model->bias_ns = (int64_t)(model->slo_ns / 10000) * excess_permille / 1000 * gain_permille;
}

void fm_sched_demand_outcome(struct fm_sched *sched, struct fm_sched_model_entry *model,
                             uint32_t count, bool bad)
{
    bool shard = sched->options.part == FM_SCHED_PART_SHARD;
    uint64_t models = shard ? sched->pool.model_count : sched->model_count;
    models = models < 20 ? 20 : models;
    sched->outcomes += count;
    uint64_t memory = MEMORY_LEAST * (models < 1000 ? models : 1000);
    uint64_t second = sched->rate_millihertz / 1000;
    second = second < MEMORY_MOST ? second : MEMORY_MOST;
    model->bad_q40 = average_move(model->bad_q40, count, memory_of(sched, model), bad);
    sched->bad_q40 = average_move(sched->bad_q40, count, memory > second ? memory : second, bad);
    model->bad_q20 = (uint32_t)(model->bad_q40 >> 20);
    sched->bad_q20 = (uint32_t)(sched->bad_q40 >> 20);
    bias_review(sched, model);
}
