/*
 * What happened lately: rates and quantiles of the last seconds of a model, and the history of the
 * whole server for charts.
 *
 * Owns: the totals of some seconds ago, and a ring of samples. Does not own: clocks, who samples
 * (about once a second; more often is ignored). Thread rule: one thread at a time for each object.
 *
 * HOW IT WORKS. Totals only grow, so what came lately is their difference to a copy. Two copies
 * take turns: the older one is 5 to 10 seconds old, unless less was sampled.
 */
#ifndef FM_CORE_STATS_RECENT_H
#define FM_CORE_STATS_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/stats/model_counters.h"

#define FM_RECENT_TURN_NS   UINT64_C(5000000000)
#define FM_HISTORY_SAMPLES  300u /* five minutes */
#define FM_HISTORY_EVERY_NS UINT64_C(1000000000)

struct fm_recent_copy {
    uint64_t at_ns;
    uint64_t successes;
    uint64_t failures;
    uint64_t good;
    uint64_t dropped;
    uint64_t met;
    uint64_t missed;
    uint64_t inferences;
    uint64_t executions;
    struct fm_histogram_totals total;
    struct fm_histogram_totals queue;
};

/* Zero-initialise. */
struct fm_recent {
    struct fm_recent_copy older;
    struct fm_recent_copy newer;
    struct fm_recent_copy last;
    bool started;
};

/* Per second over the last 5 to 10 seconds. */
struct fm_recent_rates {
    uint64_t span_ns; /* 0: nothing can be said yet */
    double requests;  /* answered or failed */
    double good;      /* in time; those without a deadline count when they succeeded */
    double failures;
    double dropped;
    double batch_mean; /* rows; 0: no batch */
    double met_share;  /* of those with a deadline; 1 when there were none */
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t queue_p99_ns;
};

void fm_recent_sample(struct fm_recent *recent, uint64_t now_ns,
                      const struct fm_model_totals *totals);
void fm_recent_rates(const struct fm_recent *recent, struct fm_recent_rates *ret_rates);

/* Totals over all models at one time, as a history takes them. */
struct fm_history_totals {
    uint64_t good; /* answered in time, or without a deadline */
    uint64_t late;
    uint64_t failed;  /* errors that were no drops */
    uint64_t dropped; /* by any reason */
    uint64_t inferences;
    uint64_t executions;
};

struct fm_history_sample {
    uint64_t wall_ms;
    uint32_t span_ms; /* what it covers */
    uint32_t good;    /* counts within the span */
    uint32_t late;
    uint32_t failed;
    uint32_t dropped;
    uint32_t inferences;
    uint32_t executions;
    uint32_t queued;           /* at its end */
    uint32_t accelerators_up;  /* at its end */
    uint32_t accelerators_use; /* busy at some time within */
    uint32_t wanted;           /* advice; 0: none */
};

/* Zero-initialise. */
struct fm_history {
    struct fm_history_sample samples[FM_HISTORY_SAMPLES]; /* a ring */
    uint32_t first;
    uint32_t count;
    uint64_t last_ns;
    struct fm_history_totals last;
    bool started;
};

struct fm_history_now {
    uint64_t now_ns;
    uint64_t wall_ns;
    struct fm_history_totals totals;
    uint32_t queued;
    uint32_t accelerators_up;
    uint32_t accelerators_use;
    uint32_t wanted;
};

/* Adds a model's totals. */
void fm_history_totals_add(struct fm_history_totals *sum, const struct fm_model_totals *totals);
/* Takes a sample when one is due (FM_HISTORY_EVERY_NS, with a tenth of tolerance). */
void fm_history_sample(struct fm_history *history, const struct fm_history_now *now);
/* index 0: the oldest. */
const struct fm_history_sample *fm_history_get(const struct fm_history *history, uint32_t index);

#endif
