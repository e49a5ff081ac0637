/*
 * Counters of a model and their totals. See model_counters.h.
 */
#include "core/stats/model_counters.h"

#include <assert.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

int fm_model_counters_create(uint32_t batch_max, struct fm_model_counters **ret_counters)
{
    batch_max = batch_max < 1 ? 1 : batch_max;
    batch_max = batch_max > FM_COUNTERS_BATCH_LIMIT ? FM_COUNTERS_BATCH_LIMIT : batch_max;
    size_t row_bytes = (batch_max + 1) * sizeof(struct fm_live_batch_row);
    struct fm_model_counters *counters = fm_alloc_zero(1, sizeof(*counters) + row_bytes);
    if (counters == NULL) {
        return FM_ENOMEM;
    }
    counters->batch_max = batch_max;
    *ret_counters = counters;
    return 0;
}

void fm_model_counters_destroy(struct fm_model_counters *counters)
{
    fm_free(counters);
}

void fm_model_count_compute(struct fm_model_counters *counters,
                            const struct fm_counted_batch *batch)
{
    uint64_t requests = batch->requests;
    fm_live_time_add(&counters->times[FM_COUNTED_COMPUTE_INPUT], requests,
                     batch->input_ns * requests);
    fm_live_time_add(&counters->times[FM_COUNTED_COMPUTE_INFER], requests,
                     batch->infer_ns * requests);
    fm_live_time_add(&counters->times[FM_COUNTED_COMPUTE_OUTPUT], requests,
                     batch->output_ns * requests);
    fm_live_histogram_add_times(&counters->histograms[FM_COUNTED_HISTOGRAM_COMPUTE],
                                batch->input_ns + batch->infer_ns + batch->output_ns, requests);
}

void fm_model_count_batch(struct fm_model_counters *counters, const struct fm_counted_batch *batch)
{
    uint32_t size = batch->rows < counters->batch_max ? batch->rows : counters->batch_max;
    struct fm_live_batch_row *row = &counters->rows[size];
    fm_live_count_add(&row->batches, 1);
    fm_live_count_add(&row->input_ns, batch->input_ns);
    fm_live_count_add(&row->infer_ns, batch->infer_ns);
    fm_live_count_add(&row->output_ns, batch->output_ns);
    fm_live_count_add(&counters->executions, 1);
    fm_live_count_add(&counters->inferences, batch->rows);
    fm_model_count_compute(counters, batch);
    atomic_store_explicit(&counters->last_inference_ms, batch->wall_ms, memory_order_relaxed);
}

/* --- Totals --- */

static int rows_grow(struct fm_model_totals *totals, uint32_t count)
{
    if (totals->row_count >= count) {
        return 0;
    }
    struct fm_batch_row_total *rows = fm_realloc(totals->rows, count * sizeof(*rows));
    if (rows == NULL) {
        return FM_ENOMEM;
    }
    memset(rows + totals->row_count, 0, (count - totals->row_count) * sizeof(*rows));
    totals->rows = rows;
    totals->row_count = count;
    return 0;
}

static void scalars_add(struct fm_model_totals *totals, const struct fm_model_counters *counters)
{
    for (uint32_t i = 0; i < FM_COUNTED_FAILURE_COUNT_; i++) {
        totals->failures[i] += fm_live_count_read(&counters->failures[i]);
    }
    for (uint32_t i = 0; i < FM_COUNTED_DROP_COUNT_; i++) {
        totals->drops[i] += fm_live_count_read(&counters->drops[i]);
    }
    for (uint32_t i = 0; i < FM_COUNTED_TIME_COUNT_; i++) {
        totals->times[i].count += fm_live_count_read(&counters->times[i].count);
        totals->times[i].ns += fm_live_count_read(&counters->times[i].ns);
    }
    totals->inferences += fm_live_count_read(&counters->inferences);
    totals->executions += fm_live_count_read(&counters->executions);
    totals->deadlines_met += fm_live_count_read(&counters->deadlines_met);
    totals->deadlines_missed += fm_live_count_read(&counters->deadlines_missed);
    totals->answers_late += fm_live_count_read(&counters->answers_late);
    totals->bytes_copied += fm_live_count_read(&counters->bytes_copied);
    uint64_t last_ms = fm_live_count_read(&counters->last_inference_ms);
    totals->last_inference_ms =
        last_ms > totals->last_inference_ms ? last_ms : totals->last_inference_ms;
}

int fm_model_totals_add(struct fm_model_totals *totals, const struct fm_model_counters *counters)
{
    scalars_add(totals, counters);
    for (uint32_t i = 0; i < FM_COUNTED_HISTOGRAM_COUNT_; i++) {
        fm_histogram_totals_add_live(&totals->histograms[i], &counters->histograms[i]);
    }
    if (rows_grow(totals, counters->batch_max + 1) != 0) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i <= counters->batch_max; i++) {
        const struct fm_live_batch_row *row = &counters->rows[i];
        totals->rows[i].batches += fm_live_count_read(&row->batches);
        totals->rows[i].input_ns += fm_live_count_read(&row->input_ns);
        totals->rows[i].infer_ns += fm_live_count_read(&row->infer_ns);
        totals->rows[i].output_ns += fm_live_count_read(&row->output_ns);
    }
    return 0;
}

void fm_model_totals_clear(struct fm_model_totals *totals)
{
    struct fm_batch_row_total *rows = totals->rows;
    uint32_t row_count = totals->row_count;
    if (row_count > 0) {
        memset(rows, 0, row_count * sizeof(*rows));
    }
    *totals = (struct fm_model_totals){.rows = rows, .row_count = row_count};
}

void fm_model_totals_deinit(struct fm_model_totals *totals)
{
    fm_free(totals->rows);
    *totals = (struct fm_model_totals){0};
}

uint64_t fm_model_totals_requests(const struct fm_model_totals *totals)
{
    return totals->times[FM_COUNTED_SUCCESS].count + totals->times[FM_COUNTED_FAIL].count;
}

uint64_t fm_model_totals_good(const struct fm_model_totals *totals)
{
    uint64_t successes = totals->times[FM_COUNTED_SUCCESS].count;
    /* Counted after the success, but read before it may be one ahead. */
    return successes > totals->answers_late ? successes - totals->answers_late : 0;
}

uint64_t fm_model_totals_dropped(const struct fm_model_totals *totals)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FM_COUNTED_DROP_COUNT_; i++) {
        sum += totals->drops[i];
    }
    return sum;
}

double fm_model_totals_batch_mean(const struct fm_model_totals *totals)
{
    return totals->executions > 0 ? (double)totals->inferences / (double)totals->executions : 0;
}

enum fm_counted_failure fm_counted_failure_of(int status, bool ran)
{
    /* What broke here before a batch began is no request that was turned away, either. */
    return status == FM_ECANCELLED                ? FM_COUNTED_CANCELED
           : ran || fm_status_http(status) == 500 ? FM_COUNTED_BACKEND
                                                  : FM_COUNTED_REJECTED;
}

const char *fm_counted_failure_name(enum fm_counted_failure reason)
{
    static const char *const names[] = {"REJECTED", "CANCELED", "BACKEND", "OTHER"};
    static_assert(FM_COUNT_OF(names) == FM_COUNTED_FAILURE_COUNT_, "one name for each reason");
    return reason < FM_COUNTED_FAILURE_COUNT_ ? names[reason] : "OTHER";
}

const char *fm_counted_drop_name(enum fm_counted_drop reason)
{
    static const char *const names[] = {"infeasible", "late",       "sacrificed", "rejected",
                                        "cancelled",  "model_gone", "failed",     "outranked",
                                        "admission",  "queue_full"};
    static_assert(FM_COUNT_OF(names) == FM_COUNTED_DROP_COUNT_, "one name for each reason");
    return reason < FM_COUNTED_DROP_COUNT_ ? names[reason] : "unknown";
}
