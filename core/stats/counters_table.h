/*
 * The counters of all models on all threads: who finds its own without a lock, and adds up
 * everybody's.
 *
 * Owns: one counters object for each pair of a thread and a model that met, made at the first
 * meeting. Does not own: the numbering of threads and models. Thread rule: for one thread number
 * _get is called by one thread only; _totals by any thread at any time; _release when nobody counts
 * for that model and nobody reads it.
 *
 * Costs: 8 bytes a pair, and some 9 KB for each pair that met.
 */
#ifndef FM_CORE_STATS_COUNTERS_TABLE_H
#define FM_CORE_STATS_COUNTERS_TABLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/stats/model_counters.h"

#define FM_COUNTERS_THREADS_LIMIT 8192u
#define FM_COUNTERS_MODELS_LIMIT  100000u
#define FM_COUNTERS_PAIRS_LIMIT   (1u << 26)

struct fm_counters_table {
    _Atomic(struct fm_model_counters *) *pairs; /* [thread][model] */
    uint32_t thread_count;
    uint32_t model_count;
};

/* FM_EINVAL beyond the limits, FM_ENOMEM. */
int FM_NODISCARD fm_counters_table_init(struct fm_counters_table *table, uint32_t thread_count,
                                        uint32_t model_count);
void fm_counters_table_deinit(struct fm_counters_table *table); /* accepts a zeroed one */

/* Makes the pair's counters. NULL: no memory; then this once nothing is counted. */
struct fm_model_counters *fm_counters_table_make(struct fm_counters_table *table, uint32_t thread,
                                                 uint32_t model, uint32_t batch_max);

/* The calling thread's counters of a model; batch_max matters at the first meeting. */
static inline struct fm_model_counters *fm_counters_table_get(struct fm_counters_table *table,
                                                              uint32_t thread, uint32_t model,
                                                              uint32_t batch_max)
{
    struct fm_model_counters *counters = atomic_load_explicit(
        &table->pairs[(uint64_t)thread * table->model_count + model], memory_order_relaxed);
    return counters != NULL ? counters : fm_counters_table_make(table, thread, model, batch_max);
}

/* Adds all threads' counts of a model to `totals`. FM_ENOMEM as fm_model_totals_add. */
int FM_NODISCARD fm_counters_table_totals(const struct fm_counters_table *table, uint32_t model,
                                          struct fm_model_totals *totals);
/* Frees a model's counters, so that another may have its number. */
void fm_counters_table_release(struct fm_counters_table *table, uint32_t model);

#endif
