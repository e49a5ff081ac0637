/*
 * l(b) for one model on one type of accelerator, laid out for the scheduler: an answer is a load.
 *
 * Owns: a dense copy of a profile up to the largest batch worth running, and the factor by which
 * measured batches have drifted from it. Does not own: the profile. Thread rule: pure; one thread
 * at a time.
 *
 * HOW IT WORKS. The profile (core/sched/profile.h) is monotone. The table ends where throughput
 * b/l(b) stops growing: where batching does not pay that is b = 1, where throughput falls after a
 * peak it is the peak. A throughput gain below 1/1000 of the best does not count, so that noise in
 * a measured table does not stretch batches for nothing.
 */
#ifndef FM_CORE_SCHED_LATENCY_TABLE_H
#define FM_CORE_SCHED_LATENCY_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sched/profile.h"

struct fm_latency_table {
    uint64_t *latency_ns;  /* l(b): [batch_max + 1], [0] = 0, ascending, scaled by the drift */
    uint64_t *total_ns;    /* l(b) + b * data: with the transfer of its inputs; without data the
                              same array */
    uint64_t *profiled_ns; /* l(b) as profiled */
    uint64_t data_ns;
    uint32_t batch_max; /* 0: the model does not run on this type */
    uint32_t drift_permille;
    uint64_t drift_q20; /* running estimate of measured / profiled, 2^20 = as profiled */
};

/* Builds the table; frees what was there, on success only. FM_ENOMEM. */
int FM_NODISCARD fm_latency_table_set(struct fm_latency_table *table,
                                      const struct fm_profile *profile,
                                      enum fm_profile_statistic statistic, uint32_t batch_limit,
                                      uint64_t data_ns);
void fm_latency_table_deinit(struct fm_latency_table *table); /* accepts a zeroed one */

/* The largest b <= limit with l(b) + b * data <= budget_ns; 0: none. */
static inline uint32_t fm_latency_table_within(const struct fm_latency_table *table,
                                               uint64_t budget_ns, uint32_t limit)
{
    uint32_t low = 0;
    uint32_t high = limit < table->batch_max ? limit : table->batch_max;
    if (high == 0 || table->total_ns[high] <= budget_ns) {
        return high;
    }
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        if (table->total_ns[middle] <= budget_ns) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The largest b with l(b) + b * (data + per_row_ns) <= budget_ns; 0: none. */
uint32_t fm_latency_table_within_growing(const struct fm_latency_table *table, uint64_t budget_ns,
                                         uint64_t per_row_ns);

/* The smallest batch with at least permille / 1000 of the throughput of `batch_q8` / 256 requests;
 * between two sizes l(b) is a straight line, beyond batch_max there is none. At least 1. */
uint32_t fm_latency_table_share(const struct fm_latency_table *table, uint64_t batch_q8,
                                uint32_t permille);

/*
 * A batch of `batch` rows took measured_ns. Moves the estimate of the drift, which the table
 * follows in steps of 2 %. A single sample moves it by 1/64 of its own deviation and at most 1/256
 * in all: drift is followed within some hundred batches, an outlier is not. Returns whether the
 * table changed.
 */
bool fm_latency_table_learn(struct fm_latency_table *table, uint32_t batch, uint64_t measured_ns);

#endif
