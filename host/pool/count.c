/*
 * What a request that ran adds to the counts of its model. See pool.h.
 */
#include "core/util/assert.h"
#include "host/pool/pool.h"

void fm_pool_request_count(const struct fm_pool_request *request,
                           struct fm_model_counters *counters, uint64_t wall_ms)
{
    FM_ASSERT(request->computed_ns != 0);
    fm_model_count_start(counters, request->started_ns - request->arrived_ns, request->held_ns);
    struct fm_counted_batch batch = {.requests = 1,
                                     .input_ns = request->computing_ns - request->started_ns,
                                     .infer_ns = request->computed_ns - request->computing_ns,
                                     .output_ns = request->done_ns - request->computed_ns,
                                     .wall_ms = wall_ms};
    fm_model_count_compute(counters, &batch);
    batch.requests = 0;
    /* The runs of a request of many rows differ by their rows; only their sum is kept. */
    uint32_t led = atomic_load_explicit(&request->runs_led, memory_order_relaxed);
    uint32_t rows = atomic_load_explicit(&request->rows_led, memory_order_relaxed);
    for (; led > 0; led--) {
        batch.rows = rows / led;
        rows -= batch.rows;
        fm_model_count_batch(counters, &batch);
    }
}
