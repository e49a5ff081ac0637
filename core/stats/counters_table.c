/*
 * Pairs of threads and models. See counters_table.h.
 */
#include "core/stats/counters_table.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

int fm_counters_table_init(struct fm_counters_table *table, uint32_t thread_count,
                           uint32_t model_count)
{
    *table = (struct fm_counters_table){0};
    if (thread_count < 1 || thread_count > FM_COUNTERS_THREADS_LIMIT || model_count < 1 ||
        model_count > FM_COUNTERS_MODELS_LIMIT ||
        (uint64_t)thread_count * model_count > FM_COUNTERS_PAIRS_LIMIT) {
        return FM_EINVAL;
    }
    table->pairs = fm_alloc_zero((size_t)thread_count * model_count, sizeof(*table->pairs));
    if (table->pairs == NULL) {
        return FM_ENOMEM;
    }
    table->thread_count = thread_count;
    table->model_count = model_count;
    return 0;
}

void fm_counters_table_deinit(struct fm_counters_table *table)
{
    for (uint32_t model = 0; model < table->model_count; model++) {
        fm_counters_table_release(table, model);
    }
    fm_free(table->pairs);
    *table = (struct fm_counters_table){0};
}

struct fm_model_counters *fm_counters_table_make(struct fm_counters_table *table, uint32_t thread,
                                                 uint32_t model, uint32_t batch_max)
{
    struct fm_model_counters *counters = NULL;
    FM_ASSERT(thread < table->thread_count && model < table->model_count);
    if (fm_model_counters_create(batch_max, &counters) != 0) {
        return NULL;
    }
    /* Readers must see it zeroed. */
    atomic_store_explicit(&table->pairs[(uint64_t)thread * table->model_count + model], counters,
                          memory_order_release);
    return counters;
}

int fm_counters_table_totals(const struct fm_counters_table *table, uint32_t model,
                             struct fm_model_totals *totals)
{
    int status = 0;
    FM_ASSERT(model < table->model_count);
    for (uint32_t thread = 0; thread < table->thread_count; thread++) {
        const struct fm_model_counters *counters = atomic_load_explicit(
            &table->pairs[(uint64_t)thread * table->model_count + model], memory_order_acquire);
        if (counters != NULL && fm_model_totals_add(totals, counters) != 0) {
            status = FM_ENOMEM;
        }
    }
    return status;
}

void fm_counters_table_release(struct fm_counters_table *table, uint32_t model)
{
    for (uint32_t thread = 0; thread < table->thread_count; thread++) {
        _Atomic(struct fm_model_counters *) *pair =
            &table->pairs[(uint64_t)thread * table->model_count + model];
        fm_model_counters_destroy(atomic_load_explicit(pair, memory_order_acquire));
        atomic_store_explicit(pair, NULL, memory_order_relaxed);
    }
}
