/*
 * What one thread counts of one version of a model, and the totals over all threads.
 *
 * Owns: counts, times and histograms of requests and batches. Does not own: clocks, who asks, how
 * it is shown (Prometheus, the statistics documents, the dashboard read the same totals). Thread
 * rule: a counters object is written by exactly one thread, with plain adds of a few nanoseconds;
 * any thread adds it to totals of its own meanwhile, without locks. A reader may see a request in
 * one number and not yet in another.
 *
 * Who counts what: the thread that answers a request counts its end (success, failure, drop, cache,
 * cost); the thread that runs batches counts queue, window and compute.
 */
#ifndef FM_CORE_STATS_MODEL_COUNTERS_H
#define FM_CORE_STATS_MODEL_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/stats/live_histogram.h"
#include "fermata/status.h"

#define FM_COUNTERS_BATCH_LIMIT 4096u

/* Reasons as Triton's dashboards know them. */
enum fm_counted_failure {
    FM_COUNTED_REJECTED, /* never started: bad input, no room, could not be in time */
    FM_COUNTED_CANCELED, /* the client went away or asked for it */
    FM_COUNTED_BACKEND,  /* the model failed */
    FM_COUNTED_OTHER,
    FM_COUNTED_FAILURE_COUNT_
};

/* Why work was dropped: first the reasons of enum fm_sched_drop_reason, in its order. */
enum fm_counted_drop {
    FM_COUNTED_DROP_INFEASIBLE,
    FM_COUNTED_DROP_LATE,
    FM_COUNTED_DROP_SACRIFICED,
    FM_COUNTED_DROP_REJECTED,
    FM_COUNTED_DROP_CANCELLED,
    FM_COUNTED_DROP_MODEL_GONE,
    FM_COUNTED_DROP_FAILED,
    FM_COUNTED_DROP_OUTRANKED,
    FM_COUNTED_DROP_ADMISSION,  /* before the scheduler: limits on rate, readiness, drain */
    FM_COUNTED_DROP_QUEUE_FULL, /* before the scheduler: no slot */
    FM_COUNTED_DROP_COUNT_
};

enum fm_counted_time {
    FM_COUNTED_SUCCESS, /* whole requests, from first byte to answer */
    FM_COUNTED_FAIL,
    FM_COUNTED_QUEUE,
    FM_COUNTED_COMPUTE_INPUT,
    FM_COUNTED_COMPUTE_INFER,
    FM_COUNTED_COMPUTE_OUTPUT,
    FM_COUNTED_CACHE_HIT,
    FM_COUNTED_CACHE_MISS,
    FM_COUNTED_TIME_COUNT_
};

enum fm_counted_histogram {
    FM_COUNTED_HISTOGRAM_QUEUE,   /* arrival to start of the batch */
    FM_COUNTED_HISTOGRAM_WINDOW,  /* of that: deferred although an accelerator was idle */
    FM_COUNTED_HISTOGRAM_COMPUTE, /* input, infer, output */
    FM_COUNTED_HISTOGRAM_TOTAL,   /* end to end */
    FM_COUNTED_HISTOGRAM_COUNT_
};

enum fm_counted_deadline { FM_DEADLINE_NONE, FM_DEADLINE_MET, FM_DEADLINE_MISSED };

struct fm_live_time {
    fm_live_count count;
    fm_live_count ns;
};

/* Of batches with one size. */
struct fm_live_batch_row {
    fm_live_count batches;
    fm_live_count input_ns;
    fm_live_count infer_ns;
    fm_live_count output_ns;
};

struct fm_model_counters {
    fm_live_count failures[FM_COUNTED_FAILURE_COUNT_];
    fm_live_count drops[FM_COUNTED_DROP_COUNT_];
    struct fm_live_time times[FM_COUNTED_TIME_COUNT_];
    fm_live_count inferences; /* rows that went through the model */
    fm_live_count executions; /* batches */
    fm_live_count deadlines_met;
    fm_live_count deadlines_missed;  /* late answers, and errors to requests that had one */
    fm_live_count answers_late;      /* of those: answers */
    fm_live_count last_inference_ms; /* wall time; 0: none yet */
    fm_live_count bytes_copied;
    struct fm_live_histogram histograms[FM_COUNTED_HISTOGRAM_COUNT_];
    uint32_t batch_max;
    struct fm_live_batch_row rows[]; /* by batch size, 0 .. batch_max; larger ones in the last */
};

/* batch_max: 1 .. FM_COUNTERS_BATCH_LIMIT (others are moved into that range). FM_ENOMEM. */
int FM_NODISCARD fm_model_counters_create(uint32_t batch_max,
                                          struct fm_model_counters **ret_counters);
void fm_model_counters_destroy(struct fm_model_counters *counters); /* accepts NULL */

static inline void fm_live_time_add(struct fm_live_time *time, uint64_t count, uint64_t ns)
{
    fm_live_count_add(&time->count, count);
    fm_live_count_add(&time->ns, ns);
}

/* --- the thread that answers -------------------------------------------------------------------
 */

/* A request was answered with the model's outputs. */
static inline void fm_model_count_success(struct fm_model_counters *counters, uint64_t total_ns,
                                          enum fm_counted_deadline deadline)
{
    fm_live_time_add(&counters->times[FM_COUNTED_SUCCESS], 1, total_ns);
    fm_live_histogram_add(&counters->histograms[FM_COUNTED_HISTOGRAM_TOTAL], total_ns);
    if (deadline == FM_DEADLINE_MET) {
        fm_live_count_add(&counters->deadlines_met, 1);
    } else if (deadline == FM_DEADLINE_MISSED) {
        fm_live_count_add(&counters->deadlines_missed, 1);
        fm_live_count_add(&counters->answers_late, 1);
    }
}

/* A request was answered with an error. One that had a deadline missed it. */
static inline void fm_model_count_failure(struct fm_model_counters *counters, uint64_t total_ns,
                                          enum fm_counted_failure reason, bool had_deadline)
{
    fm_live_time_add(&counters->times[FM_COUNTED_FAIL], 1, total_ns);
    fm_live_count_add(&counters->failures[reason], 1);
    if (had_deadline) {
        fm_live_count_add(&counters->deadlines_missed, 1);
    }
}

/* Why it was dropped, beside fm_model_count_failure. */
static inline void fm_model_count_drop(struct fm_model_counters *counters,
                                       enum fm_counted_drop reason)
{
    fm_live_count_add(&counters->drops[reason], 1);
}

static inline void fm_model_count_cache(struct fm_model_counters *counters, bool hit, uint64_t ns)
{
    fm_live_time_add(&counters->times[hit ? FM_COUNTED_CACHE_HIT : FM_COUNTED_CACHE_MISS], 1, ns);
}

/* What a request cost: tensor bytes copied. */
static inline void fm_model_count_cost(struct fm_model_counters *counters, uint64_t bytes_copied)
{
    fm_live_count_add(&counters->bytes_copied, bytes_copied);
}

/* --- the thread that runs batches --------------------------------------------------------------
 */

/* A request of a batch that starts now: how long it waited, and how much of that by choice. */
static inline void fm_model_count_start(struct fm_model_counters *counters, uint64_t queue_ns,
                                        uint64_t window_ns)
{
    fm_live_time_add(&counters->times[FM_COUNTED_QUEUE], 1, queue_ns);
    fm_live_histogram_add(&counters->histograms[FM_COUNTED_HISTOGRAM_QUEUE], queue_ns);
    fm_live_histogram_add(&counters->histograms[FM_COUNTED_HISTOGRAM_WINDOW], window_ns);
}

struct fm_counted_batch {
    uint32_t rows;     /* its size, as the model sees it */
    uint32_t requests; /* that are in it */
    uint64_t input_ns;
    uint64_t infer_ns;
    uint64_t output_ns;
    uint64_t wall_ms; /* when it ended */
};
/* A batch ended well. */
void fm_model_count_batch(struct fm_model_counters *counters, const struct fm_counted_batch *batch);
/* Only the times of requests, without a batch: where its requests are counted one by one, and the
 * batch itself with 0 requests. */
void fm_model_count_compute(struct fm_model_counters *counters,
                            const struct fm_counted_batch *batch);

/* --- totals ------------------------------------------------------------------------------------
 */

struct fm_time_total {
    uint64_t count;
    uint64_t ns;
};
struct fm_batch_row_total {
    uint64_t batches;
    uint64_t input_ns;
    uint64_t infer_ns;
    uint64_t output_ns;
};

/* Plain numbers. Zero-initialise; fm_model_totals_deinit frees the rows. */
struct fm_model_totals {
    uint64_t failures[FM_COUNTED_FAILURE_COUNT_];
    uint64_t drops[FM_COUNTED_DROP_COUNT_];
    struct fm_time_total times[FM_COUNTED_TIME_COUNT_];
    uint64_t inferences;
    uint64_t executions;
    uint64_t deadlines_met;
    uint64_t deadlines_missed;
    uint64_t answers_late;
    uint64_t last_inference_ms; /* the latest */
    uint64_t bytes_copied;
    struct fm_histogram_totals histograms[FM_COUNTED_HISTOGRAM_COUNT_];
    struct fm_batch_row_total *rows; /* by batch size, row_count of them; NULL: none */
    uint32_t row_count;
};

/* Adds what one thread counted. Call for every thread. FM_ENOMEM: the rows did not grow; the rest
 * was added. */
int FM_NODISCARD fm_model_totals_add(struct fm_model_totals *totals,
                                     const struct fm_model_counters *counters);
void fm_model_totals_clear(struct fm_model_totals *totals); /* to zero; keeps the memory */
void fm_model_totals_deinit(struct fm_model_totals *totals);

/* Answers and errors together. */
uint64_t fm_model_totals_requests(const struct fm_model_totals *totals);
/* Goodput's count: answers in time, and those to requests without a deadline. */
uint64_t fm_model_totals_good(const struct fm_model_totals *totals);
uint64_t fm_model_totals_dropped(const struct fm_model_totals *totals);
/* Mean rows of a batch; 0 without batches. */
double fm_model_totals_batch_mean(const struct fm_model_totals *totals);

/* Why a request with this error status counts as failed; `ran`: its batch began. */
enum fm_counted_failure fm_counted_failure_of(int status, bool ran);
const char *fm_counted_failure_name(enum fm_counted_failure reason); /* "REJECTED" */
const char *fm_counted_drop_name(enum fm_counted_drop reason);       /* "infeasible" */

#endif
