/*
 * How many workers a job wants. See demand.h.
 */
#include "core/ledger/demand.h"

#include <math.h>

#include "core/util/assert.h"

#define NS_PER_S 1e9
/* Workers that bring less than this share of what an older one brings are no use. */
#define GAIN_LEAST 0.2
/* At most so many times as many workers in one step. */
#define STEP_TIMED 4
#define STEP       2
/* Of the rows that are left, for what cannot be known; more for a spread of rates, ... */
#define RESERVE            0.10
#define RESERVE_SPREAD_MAX 0.20
/* ... of which half is gone before it grows, and more before it becomes smaller. */
#define RESERVE_GONE 0.5
#define RESERVE_LESS 0.15
/* It aims at a time before, by this part of all the time there was, and no more than so much. */
#define EARLY_SHARE  20
#define EARLY_MAX_NS (UINT64_C(600) * 1000000000)
/* So much more than can be done is late: what is known is not better. */
#define LATE_LEAST 1.05
/* New workers are to be there for as long as they took to begin, at least. */
#define STARTUPS_TIMED 2
/* How much the newest window counts. */
#define NEWEST_SHARE 0.5
/* Starts of workers that take so much longer than others are not waited for. */
#define STARTUP_PATIENCE 4
/* The rest of a job is worth more workers when it takes so many times as long as their start. */
#define STARTUPS_WORTH 4
/* However often it doubles. */
#define DOUBLED_MAX 64

void fm_demand_init(struct fm_demand *demand, const struct fm_demand_options *options)
{
    *demand = (struct fm_demand){
        .options = *options, .hold_ns = options->hold_ns, .ceiling_ns = options->ceiling_ns};
}

static uint64_t startup_of(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    return look->startup_ns > 0 ? look->startup_ns : demand->options.startup_ns;
}

static uint64_t doubled(uint64_t ns, uint64_t first_ns)
{
    return ns < first_ns * DOUBLED_MAX ? ns * 2 : ns;
}

static void change(struct fm_demand *demand, const struct fm_demand_look *look, uint32_t workers)
{
    demand->wanted = workers;
    demand->changed_ns = look->now_ns;
    demand->ready_ns = 0;
    demand->window_ns = 0;
    demand->less_ns = 0;
}

static void ceiling_set(struct fm_demand *demand, const struct fm_demand_look *look,
                        uint32_t workers, enum fm_demand_reason reason)
{
    demand->capped = reason;
    demand->reason = reason;
    demand->ceiling = workers;
    demand->ceiling_until_ns = look->now_ns + demand->ceiling_ns;
    demand->ceiling_ns = doubled(demand->ceiling_ns, demand->options.ceiling_ns);
}

/* --- Measuring --- */

/* Those that are wanted are there, or should have come. */
static bool is_settled(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    uint64_t patience_ns =
        STARTUP_PATIENCE * startup_of(demand, look) + 2 * demand->options.settle_ns;
    return look->working == demand->wanted ||
           (look->working > 0 && look->now_ns - demand->changed_ns >= patience_ns);
}

/* What the growth before this window has brought. */
static void growth_judge(struct fm_demand *demand, const struct fm_demand_look *look, double rate,
                         double workers)
{
    double older = demand->before_rate / demand->before;
    double added = workers - demand->before;
    double gain = added > 0 ? (rate - demand->before_rate) / added : older;
    if (gain < GAIN_LEAST * older) {
        /* So many workers as before would have brought this rate. */
        double worth = ceil(rate / older - GAIN_LEAST);
        uint32_t ceiling = worth > demand->before
                               ? (worth < demand->wanted ? (uint32_t)worth : demand->wanted)
                               : demand->before;
        ceiling_set(demand, look, ceiling, FM_DEMAND_NO_GAIN);
        if (ceiling < demand->wanted) {
            /* Each of those that stay brings more again. */
            demand->rate = rate / ceiling;
            change(demand, look, ceiling);
        }
    }
    demand->before = 0;
}

static void window_end(struct fm_demand *demand, const struct fm_demand_look *look)
{
    double seconds = (double)(look->now_ns - demand->window_ns) / NS_PER_S;
    double rows = look->rows_done > demand->rows ? (double)(look->rows_done - demand->rows) : 0;
    double rate = rows / demand->worker_s;
    bool first = demand->rate <= 0 || demand->before > 0;
    demand->rate = first ? rate : demand->rate * (1 - NEWEST_SHARE) + rate * NEWEST_SHARE;
    demand->window_ns = 0;
    if (demand->before > 0) {
        growth_judge(demand, look, rows / seconds, demand->worker_s / seconds);
    }
}

/* True: a window has come to its end. */
static bool measure(struct fm_demand *demand, const struct fm_demand_look *look, uint64_t past_ns)
{
    const struct fm_demand_options *options = &demand->options;
    if (look->paused) {
        demand->ready_ns = 0;
        demand->window_ns = 0;
        return false;
    }
    if (demand->ready_ns == 0) {
        demand->ready_ns = is_settled(demand, look) ? look->now_ns + options->settle_ns : 0;
        return false;
    }
    if (demand->window_ns == 0) {
        bool ready = look->now_ns >= demand->ready_ns;
        demand->window_ns = ready ? look->now_ns : 0;
        demand->worker_s = 0;
        demand->rows = look->rows_done;
        return false;
    }
    demand->worker_s += (double)past_ns / NS_PER_S * look->working;
    uint64_t took_ns = look->now_ns - demand->window_ns;
    uint64_t rows = look->rows_done > demand->rows ? look->rows_done - demand->rows : 0;
    bool enough =
        rows >= (uint64_t)options->window_rows * look->working && took_ns >= options->window_ns;
    if (demand->worker_s <= 0 || rows == 0 || (!enough && took_ns < options->window_max_ns)) {
        return false;
    }
    window_end(demand, look);
    return true;
}

/* --- Deciding --- */

/* The time that it aims at: somewhat before the one that was given, because what happens last
 * cannot be made up for. */
static double aim_s(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    uint64_t early_ns = demand->span_ns / EARLY_SHARE;
    early_ns = early_ns < EARLY_MAX_NS ? early_ns : EARLY_MAX_NS;
    uint64_t left_ns = look->left_ns > 2 * early_ns ? look->left_ns - early_ns : look->left_ns / 2;
    return (double)left_ns / NS_PER_S;
}

/* How far the rates of workers lie apart, as a share of their mean. */
static double spread_of(const struct fm_demand_look *look)
{
    double sum = 0;
    double squares = 0;
    double count = (double)look->rate_count;
    for (size_t i = 0; i < look->rate_count; i++) {
        sum += look->rates[i];
        squares += look->rates[i] * look->rates[i];
    }
    double mean = count > 0 ? sum / count : 0;
    double variance = count > 1 ? squares / count - mean * mean : 0;
    return mean > 0 && variance > 0 ? sqrt(variance) / mean : 0;
}

static double reserve_of(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    double spread = spread_of(look) / sqrt(demand->wanted > 0 ? demand->wanted : 1);
    return RESERVE + (spread < RESERVE_SPREAD_MAX ? spread : RESERVE_SPREAD_MAX);
}

static bool has_ceiling(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    return demand->ceiling > 0 && look->now_ns < demand->ceiling_until_ns;
}

/* As many as there may be: no more than rows, and no more than brought something lately. */
static uint32_t top_of(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    uint32_t top = look->max;
    if (!look->listing && look->rows_left < top) {
        top = look->rows_left > look->min ? (uint32_t)look->rows_left : look->min;
    }
    if (has_ceiling(demand, look) && demand->ceiling < top) {
        top = demand->ceiling > look->min ? demand->ceiling : look->min;
    }
    return top > demand->wanted ? top : demand->wanted;
}

/* Who is still to come comes first. */
static bool may_grow(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    return look->idle == 0 && look->working >= demand->wanted;
}

static void grow(struct fm_demand *demand, const struct fm_demand_look *look, uint32_t workers)
{
    if (demand->shrunk) {
        demand->shrunk = false;
        demand->hold_ns = doubled(demand->hold_ns, demand->options.hold_ns);
    }
    demand->before = demand->wanted;
    demand->before_rate = demand->rate * demand->wanted;
    change(demand, look, workers);
}

static void shrink(struct fm_demand *demand, const struct fm_demand_look *look, uint32_t workers)
{
    demand->shrunk = true;
    demand->before = 0;
    change(demand, look, workers);
}

/* What cannot be finished in time even by all that there may be, as far as they were measured. */
static void late_look(struct fm_demand *demand, const struct fm_demand_look *look)
{
    double left_s = (double)look->left_ns / NS_PER_S;
    double startup_s = (double)startup_of(demand, look) / NS_PER_S;
    double later_s = left_s > startup_s ? left_s - startup_s : 0;
    double more = top_of(demand, look) - demand->wanted;
    double most = demand->rate * (demand->wanted * left_s + more * later_s);
    bool grown = more <= 0 || left_s <= STARTUPS_TIMED * startup_s;
    bool measured = demand->rate > 0 && demand->before == 0 && demand->ready_ns > 0;
    bool known = grown && measured && !look->paused;
    bool late = look->rows_left > 0 &&
                (look->left_ns == 0 || (known && (double)look->rows_left > most * LATE_LEAST));
    demand->late_ns = !late ? 0 : demand->late_ns > 0 ? demand->late_ns : look->now_ns;
}

static bool is_late(const struct fm_demand *demand, const struct fm_demand_look *look)
{
    return look->timed && demand->late_ns > 0 &&
           (look->left_ns == 0 || look->now_ns - demand->late_ns >= demand->options.late_ns);
}

/* The least number that finishes in time, when a window has ended. */
static void timed_decide(struct fm_demand *demand, const struct fm_demand_look *look)
{
    double left_s = aim_s(demand, look);
    double startup_s = (double)startup_of(demand, look) / NS_PER_S;
    double reserve = reserve_of(demand, look);
    double rows = (double)look->rows_left;
    double capacity = demand->rate * demand->wanted * left_s;
    uint32_t top = top_of(demand, look);
    uint32_t step = demand->wanted > 0 ? demand->wanted * STEP_TIMED : 1;
    demand->reason = FM_DEMAND_FINISH_BY;
    if (rows * (1 + reserve * RESERVE_GONE) > capacity && look->left_ns > 0) {
        double missing = rows * (1 + reserve) - capacity;
        double later_s = left_s > startup_s ? left_s - startup_s : 0;
        double more = later_s > 0 ? ceil(missing / (demand->rate * later_s)) : step;
        top = top < step ? top : step;
        uint32_t workers = more < top - demand->wanted ? demand->wanted + (uint32_t)more : top;
        demand->less_ns = 0;
        if (workers > demand->wanted && may_grow(demand, look) &&
            left_s > STARTUPS_TIMED * startup_s) {
            grow(demand, look, workers);
        }
        return;
    }
    double fewer = left_s > 0 ? ceil(rows * (1 + reserve + RESERVE_LESS) / (demand->rate * left_s))
                              : demand->wanted;
    fewer = fewer > look->min ? fewer : look->min;
    if (look->listing || look->left_ns == 0 || fewer >= demand->wanted) {
        demand->less_ns = 0;
    } else if (demand->less_ns == 0) {
        demand->less_ns = look->now_ns;
    } else if (look->now_ns - demand->less_ns >= demand->hold_ns) {
        shrink(demand, look, (uint32_t)fewer);
    }
}

static void untimed_decide(struct fm_demand *demand, const struct fm_demand_look *look)
{
    double rest_s = (double)look->rows_left / (demand->rate * demand->wanted);
    double worth_s =
        (double)(STARTUPS_WORTH * startup_of(demand, look) + demand->options.window_ns) / NS_PER_S;
    uint32_t top = top_of(demand, look);
    uint32_t workers = demand->wanted * STEP < top ? demand->wanted * STEP : top;
    if (demand->wanted >= look->max) {
        demand->reason = FM_DEMAND_MOST;
    } else if (workers <= demand->wanted) {
        demand->reason = has_ceiling(demand, look) ? demand->capped : FM_DEMAND_NO_WORK;
    } else if (!may_grow(demand, look)) {
        demand->reason = look->idle > 0 ? FM_DEMAND_NO_WORK : FM_DEMAND_MEASURING;
    } else if (rest_s < worth_s) {
        demand->reason = FM_DEMAND_SHORT;
    } else {
        demand->reason = FM_DEMAND_GROWING;
        grow(demand, look, workers);
    }
}

/* Near the end: who gets nothing any more is not wanted any more. */
static void idle_look(struct fm_demand *demand, const struct fm_demand_look *look)
{
    bool over = look->idle > 0 && !look->listing && !look->paused;
    demand->idle_ns = !over ? 0 : demand->idle_ns > 0 ? demand->idle_ns : look->now_ns;
    if (!over || look->now_ns - demand->idle_ns < demand->options.idle_ns) {
        return;
    }
    uint32_t busy = look->working > look->idle ? look->working - look->idle : 0;
    uint32_t workers = busy > look->min ? busy : look->min;
    if (workers < demand->wanted) {
        shrink(demand, look, workers);
        ceiling_set(demand, look, workers, FM_DEMAND_NO_WORK);
    }
    demand->idle_ns = look->now_ns;
}

static void bounds_look(struct fm_demand *demand, const struct fm_demand_look *look)
{
    uint32_t workers = demand->wanted < look->min   ? look->min
                       : demand->wanted > look->max ? look->max
                                                    : demand->wanted;
    if (workers != demand->wanted) {
        demand->before = 0;
        demand->reason = FM_DEMAND_MEASURING;
        change(demand, look, workers);
    }
}

struct fm_demand_advice fm_demand_update(struct fm_demand *demand,
                                         const struct fm_demand_look *look)
{
    FM_ASSERT(look->min <= look->max);
    uint64_t past_ns = demand->looked_ns > 0 && look->now_ns > demand->looked_ns
                           ? look->now_ns - demand->looked_ns
                           : 0;
    demand->looked_ns = look->now_ns;
    demand->span_ns = demand->span_ns > 0 ? demand->span_ns : look->left_ns;
    bounds_look(demand, look);
    bool measured = measure(demand, look, past_ns);
    if (look->timed) {
        late_look(demand, look);
    }
    if (look->min == look->max) {
        demand->reason = FM_DEMAND_FIXED;
    } else if (measured && demand->before == 0 && demand->ready_ns > 0) {
        if (look->timed) {
            timed_decide(demand, look);
        } else {
            untimed_decide(demand, look);
        }
    }
    if (look->min < look->max) {
        idle_look(demand, look);
    }
    bool late = is_late(demand, look);
    return (struct fm_demand_advice){
        .workers = demand->wanted,
        .reason = late && demand->reason == FM_DEMAND_FINISH_BY ? FM_DEMAND_LATE : demand->reason,
        .rows_per_s = demand->rate,
        .late = late};
}
