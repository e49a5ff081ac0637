/*
 * The page for Prometheus. See metrics.h.
 */
#include "engines/serve/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/stats/prometheus.h"
#include "core/util/assert.h"
#include "engines/serve/catalog.h"

static_assert((int)FM_COUNTED_DROP_INFEASIBLE == (int)FM_SCHED_DROP_INFEASIBLE &&
                  (int)FM_COUNTED_DROP_OUTRANKED == (int)FM_SCHED_DROP_OUTRANKED &&
                  (int)FM_COUNTED_DROP_ADMISSION == (int)FM_SCHED_DROP_COUNT_,
              "the scheduler's reasons come first, in its order");

/* Upper bounds of durations: from a tenth of a millisecond to ten seconds. */
static const uint64_t bounds_ns[] = {
    100000,    250000,     500000,     1000000,    2500000,     5000000,   10000000,
    20000000,  35000000,   50000000,   75000000,   100000000,   150000000, 250000000,
    500000000, 1000000000, 2500000000, 5000000000, 10000000000,
};
static const uint64_t batch_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

static const struct fm_prometheus_labels none = {NULL, 0};

/* A family that is used in one place. */
#define FAMILY(variable, kind, name_, help_) \
    static const struct fm_prometheus_family variable = {(name_), FM_PROMETHEUS_##kind, (help_)}

FAMILY(nv_success, COUNTER, "nv_inference_request_success",
       "Number of successful inference requests, all batch sizes");
FAMILY(nv_failure, COUNTER, "nv_inference_request_failure",
       "Number of failed inference requests, all batch sizes");
FAMILY(nv_count, COUNTER, "nv_inference_count",
       "Number of inferences performed (does not include cached requests)");
FAMILY(nv_exec, COUNTER, "nv_inference_exec_count",
       "Number of model executions performed (does not include cached requests)");
FAMILY(nv_request_us, COUNTER, "nv_inference_request_duration_us",
       "Cumulative inference request duration in microseconds (includes cached requests)");
FAMILY(nv_queue_us, COUNTER, "nv_inference_queue_duration_us",
       "Cumulative inference queuing duration in microseconds (includes cached requests)");
FAMILY(nv_input_us, COUNTER, "nv_inference_compute_input_duration_us",
       "Cumulative compute input duration in microseconds (does not include cached requests)");
FAMILY(nv_infer_us, COUNTER, "nv_inference_compute_infer_duration_us",
       "Cumulative compute inference duration in microseconds (does not include cached requests)");
FAMILY(nv_output_us, COUNTER, "nv_inference_compute_output_duration_us",
       "Cumulative inference compute output duration in microseconds (does not include cached "
       "requests)");
FAMILY(nv_pending, GAUGE, "nv_inference_pending_request_count",
       "Instantaneous number of pending requests awaiting execution per-model.");
FAMILY(nv_load, GAUGE, "nv_model_load_duration_secs", "Model load time in seconds");
FAMILY(nv_hits, COUNTER, "nv_cache_num_hits_per_model", "Number of cache hits per model");
FAMILY(nv_misses, COUNTER, "nv_cache_num_misses_per_model", "Number of cache misses per model");
FAMILY(nv_hit_us, COUNTER, "nv_cache_hit_duration_per_model",
       "Total cache hit duration per model, in microseconds");
FAMILY(nv_miss_us, COUNTER, "nv_cache_miss_duration_per_model",
       "Total cache miss duration per model, in microseconds");

/* --- A model's --- */

FAMILY(queue_seconds, HISTOGRAM, "fermata_queue_seconds",
       "Time from a request's arrival to the start of its batch.");
FAMILY(window_seconds, HISTOGRAM, "fermata_window_wait_seconds",
       "Time for which a request was held back although an accelerator was idle, so that its batch "
       "could grow.");
FAMILY(compute_seconds, HISTOGRAM, "fermata_compute_seconds",
       "Time of a request's batch on its accelerator: input, inference, output.");
FAMILY(total_seconds, HISTOGRAM, "fermata_request_seconds",
       "Time from a request's first byte to its answer, of requests that were answered well.");
FAMILY(batch_size, HISTOGRAM, "fermata_batch_size", "Rows of a batch that ran.");
FAMILY(deadlines, COUNTER, "fermata_deadlines_total",
       "Requests that had a deadline, by whether it was met; drops and errors missed it.");
FAMILY(good, COUNTER, "fermata_good_answers_total",
       "Goodput: answers within their deadline, or without one.");
FAMILY(drops, COUNTER, "fermata_drops_total",
       "Requests that were let go before they ran, by reason.");
FAMILY(copied, COUNTER, "fermata_request_copied_bytes_total",
       "Tensor bytes that the server copied for requests.");
FAMILY(state_, GAUGE, "fermata_model_state",
       "1 for the state in which the model's version is, 0 for the others.");
FAMILY(load_seconds, GAUGE, "fermata_model_load_seconds", "How long loading took.");
FAMILY(model_memory, GAUGE, "fermata_model_memory_bytes", "Memory of a loaded model, if known.");
FAMILY(model_in_flight, GAUGE, "fermata_model_requests_in_flight",
       "Requests that are not answered yet.");
FAMILY(slo_seconds, GAUGE, "fermata_model_slo_seconds",
       "Usual time from arrival to deadline, as configured.");
FAMILY(arrival_rate, GAUGE, "fermata_model_arrivals_per_second",
       "Arrival rate that the scheduler measures.");
FAMILY(batch_target, GAUGE, "fermata_model_batch_target", "Batch size that the scheduler aims at.");
FAMILY(bad_ratio, GAUGE, "fermata_model_bad_ratio",
       "Recent share of requests that were dropped or late, as the scheduler sees it.");

struct model_labels {
    struct fm_prometheus_label items[3];
    char version[24];
};

static struct fm_prometheus_labels labels_two(const struct model_labels *labels)
{
    return (struct fm_prometheus_labels){labels->items, 2};
}

static struct fm_prometheus_labels labels_three(struct model_labels *labels, const char *name,
                                                const char *value)
{
    labels->items[2] = (struct fm_prometheus_label){name, value};
    return (struct fm_prometheus_labels){labels->items, 3};
}

static void triton_counters_write(struct fm_prometheus *page, struct model_labels *labels,
                                  const struct fm_model_totals *totals)
{
    static const struct {
        const struct fm_prometheus_family *family;
        enum fm_counted_time time;
    } durations[] = {
        {&nv_request_us, FM_COUNTED_SUCCESS},       {&nv_queue_us, FM_COUNTED_QUEUE},
        {&nv_input_us, FM_COUNTED_COMPUTE_INPUT},   {&nv_infer_us, FM_COUNTED_COMPUTE_INFER},
        {&nv_output_us, FM_COUNTED_COMPUTE_OUTPUT}, {&nv_hit_us, FM_COUNTED_CACHE_HIT},
        {&nv_miss_us, FM_COUNTED_CACHE_MISS},
    };
    const struct fm_prometheus_labels two = labels_two(labels);
    fm_prometheus_uint(page, &nv_success, two, totals->times[FM_COUNTED_SUCCESS].count);
    for (uint32_t i = 0; i < FM_COUNTED_FAILURE_COUNT_; i++) {
        fm_prometheus_uint(
            page, &nv_failure,
            labels_three(labels, "reason", fm_counted_failure_name((enum fm_counted_failure)i)),
            totals->failures[i]);
    }
    fm_prometheus_uint(page, &nv_count, two, totals->inferences);
    fm_prometheus_uint(page, &nv_exec, two, totals->executions);
    for (size_t i = 0; i < FM_COUNT_OF(durations); i++) {
        fm_prometheus_uint(page, durations[i].family, two,
                           totals->times[durations[i].time].ns / 1000);
    }
    fm_prometheus_uint(page, &nv_hits, two, totals->times[FM_COUNTED_CACHE_HIT].count);
    fm_prometheus_uint(page, &nv_misses, two, totals->times[FM_COUNTED_CACHE_MISS].count);
}

static void batch_sizes_write(struct fm_prometheus *page, struct model_labels *labels,
                              const struct fm_model_totals *totals)
{
    uint64_t cumulative[FM_COUNT_OF(batch_bounds)] = {0};
    uint64_t sum = 0;
    uint64_t count = 0;
    for (uint32_t size = 0; size < totals->row_count; size++) {
        uint64_t batches = totals->rows[size].batches;
        sum += batches * size;
        count += batches;
        for (size_t i = 0; i < FM_COUNT_OF(batch_bounds); i++) {
            cumulative[i] += size <= batch_bounds[i] ? batches : 0;
        }
    }
    fm_prometheus_histogram_counts(page, &batch_size, labels_two(labels), batch_bounds, cumulative,
                                   FM_COUNT_OF(batch_bounds), sum, count);
}

static void own_counters_write(struct fm_prometheus *page, struct model_labels *labels,
                               const struct fm_model_totals *totals)
{
    static const struct fm_prometheus_family *const families[] = {&queue_seconds, &window_seconds,
                                                                  &compute_seconds, &total_seconds};
    static_assert(FM_COUNT_OF(families) == FM_COUNTED_HISTOGRAM_COUNT_, "one for each histogram");
    const struct fm_prometheus_labels two = labels_two(labels);
    for (uint32_t i = 0; i < FM_COUNTED_HISTOGRAM_COUNT_; i++) {
        fm_prometheus_histogram(page, families[i], two, &totals->histograms[i], bounds_ns,
                                FM_COUNT_OF(bounds_ns));
    }
    batch_sizes_write(page, labels, totals);
    fm_prometheus_uint(page, &deadlines, labels_three(labels, "outcome", "met"),
                       totals->deadlines_met);
    fm_prometheus_uint(page, &deadlines, labels_three(labels, "outcome", "missed"),
                       totals->deadlines_missed);
    fm_prometheus_uint(page, &good, two, fm_model_totals_good(totals));
    for (uint32_t i = 0; i < FM_COUNTED_DROP_COUNT_; i++) {
        fm_prometheus_uint(
            page, &drops,
            labels_three(labels, "reason", fm_counted_drop_name((enum fm_counted_drop)i)),
            totals->drops[i]);
    }
    fm_prometheus_uint(page, &copied, two, totals->bytes_copied);
}

static void model_gauges_write(struct fm_prometheus *page, struct model_labels *labels,
                               const struct fm_view_model *model)
{
    const struct fm_prometheus_labels two = labels_two(labels);
    for (unsigned i = 0; i < FM_CATALOG_STATE_COUNT_; i++) {
        const char *name = fm_catalog_state_name((enum fm_catalog_state)i);
        fm_prometheus_uint(page, &state_, labels_three(labels, "state", name),
                           i == model->state ? 1 : 0);
    }
    fm_prometheus_uint(page, &nv_pending, two, model->queued);
    fm_prometheus_uint(page, &model_in_flight, two, model->in_flight);
    if (model->load_ns > 0) {
        fm_prometheus_number(page, &nv_load, two, (double)model->load_ns / 1e9);
        fm_prometheus_number(page, &load_seconds, two, (double)model->load_ns / 1e9);
    }
    if (model->memory_bytes > 0) {
        fm_prometheus_uint(page, &model_memory, two, model->memory_bytes);
    }
    if (model->slo_ns > 0) {
        fm_prometheus_number(page, &slo_seconds, two, (double)model->slo_ns / 1e9);
    }
    fm_prometheus_number(page, &arrival_rate, two, (double)model->rate_millihertz / 1e3);
    fm_prometheus_uint(page, &batch_target, two, model->target_batch);
    fm_prometheus_number(page, &bad_ratio, two, (double)model->bad_permyriad / 1e4);
}

static void model_write(struct fm_prometheus *page, const struct fm_view_model *model)
{
    static const struct fm_model_totals nothing = {0};
    struct model_labels labels = {0};
    (void)snprintf(labels.version, sizeof(labels.version), "%" PRIu64, model->version);
    labels.items[0] = (struct fm_prometheus_label){"model", model->name};
    labels.items[1] = (struct fm_prometheus_label){"version", labels.version};
    model_gauges_write(page, &labels, model);
    const struct fm_model_totals *totals = model->totals != NULL ? model->totals : &nothing;
    triton_counters_write(page, &labels, totals);
    /* Histograms have some hundred series each: only for models that were asked for. */
    if (model->totals != NULL && fm_model_totals_requests(totals) + totals->executions > 0) {
        own_counters_write(page, &labels, totals);
    }
}

/* --- Stages of pipelines --- */

FAMILY(stage_items, COUNTER, "fermata_stage_items_total",
       "Items that a pipeline's stage is done with, by outcome.");
FAMILY(stage_batches, COUNTER, "fermata_stage_batches_total",
       "Batches whose first item was the stage's.");
FAMILY(stage_queue, HISTOGRAM, "fermata_stage_queue_seconds",
       "Time of items from the stage's start to that of their batch.");
FAMILY(stage_total, HISTOGRAM, "fermata_stage_seconds",
       "Time of items that a stage did, from its start to its end.");
FAMILY(stage_budget, GAUGE, "fermata_stage_budget_seconds",
       "The stage's part of its pipeline's time.");

static void stage_write(struct fm_prometheus *page, const struct fm_view_stage *stage)
{
    const struct fm_model_totals *totals = stage->totals;
    char version[24];
    (void)snprintf(version, sizeof(version), "%" PRIu64, stage->version);
    struct fm_prometheus_label items[5] = {{"pipeline", stage->pipeline},
                                           {"version", version},
                                           {"stage", stage->name},
                                           {"model", stage->model}};
    const struct fm_prometheus_labels four = {items, 4};
    const struct fm_prometheus_labels five = {items, 5};
    fm_prometheus_number(page, &stage_budget, four, (double)stage->budget_ns / 1e9);
    fm_prometheus_uint(page, &stage_batches, four, totals->executions);
    items[4] = (struct fm_prometheus_label){"outcome", "done"};
    fm_prometheus_uint(page, &stage_items, five, totals->times[FM_COUNTED_SUCCESS].count);
    items[4] = (struct fm_prometheus_label){"outcome", "failed"};
    fm_prometheus_uint(page, &stage_items, five, totals->times[FM_COUNTED_FAIL].count);
    /* As with models: only where there is something to see. */
    if (fm_model_totals_requests(totals) > 0) {
        fm_prometheus_histogram(page, &stage_queue, four,
                                &totals->histograms[FM_COUNTED_HISTOGRAM_QUEUE], bounds_ns,
                                FM_COUNT_OF(bounds_ns));
        fm_prometheus_histogram(page, &stage_total, four,
                                &totals->histograms[FM_COUNTED_HISTOGRAM_TOTAL], bounds_ns,
                                FM_COUNT_OF(bounds_ns));
    }
}

/* --- Accelerators --- */

FAMILY(accelerators, GAUGE, "fermata_accelerators",
       "Accelerators by state: up, busy (a batch runs), used (touched lately), down.");
FAMILY(accelerators_needed, GAUGE, "fermata_accelerators_needed",
       "Busy equivalents that the measured load needs.");
FAMILY(accelerator_busy, COUNTER, "fermata_accelerator_busy_seconds_total",
       "Time during which batches ran on the accelerator.");
FAMILY(accelerator_batches, COUNTER, "fermata_accelerator_batches_total",
       "Batches that ended on the accelerator, by outcome.");
FAMILY(accelerator_brief, COUNTER, "fermata_accelerator_brief_batches_total",
       "Batches that the event loop ran that brought them, since to wake a thread takes longer.");
FAMILY(accelerator_rest, GAUGE, "fermata_accelerator_rest_seconds",
       "How long the accelerator is known not to be needed, from now on.");
FAMILY(advice_wanted, GAUGE, "fermata_accelerators_wanted",
       "Autoscale advice: accelerators the "
       "load deserves.");
FAMILY(advice_missing, GAUGE, "fermata_accelerators_missing", "Of those wanted: not up.");
FAMILY(advice_could_go, GAUGE, "fermata_accelerators_could_go",
       "Of those up: the so many highest-numbered are not needed.");

static void accelerator_write(struct fm_prometheus *page,
                              const struct fm_view_accelerator *accelerator, uint32_t index,
                              uint64_t now_ns)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", index);
    struct fm_prometheus_label items[4] = {
        {"accelerator", number}, {"name", accelerator->name}, {"type", accelerator->type}};
    const struct fm_prometheus_labels labels = {items, 3};
    fm_prometheus_number(page, &accelerator_busy, labels, (double)accelerator->busy_ns / 1e9);
    fm_prometheus_uint(page, &accelerator_brief, labels, accelerator->brief);
    uint64_t rest_ns =
        accelerator->rest_until_ns > now_ns ? accelerator->rest_until_ns - now_ns : 0;
    fm_prometheus_number(page, &accelerator_rest, labels,
                         accelerator->rest_until_ns == FM_SCHED_NEVER ? (double)INFINITY
                                                                      : (double)rest_ns / 1e9);
    items[3] = (struct fm_prometheus_label){"outcome", "done"};
    fm_prometheus_uint(page, &accelerator_batches, (struct fm_prometheus_labels){items, 4},
                       accelerator->batches);
    items[3] = (struct fm_prometheus_label){"outcome", "failed"};
    fm_prometheus_uint(page, &accelerator_batches, (struct fm_prometheus_labels){items, 4},
                       accelerator->failures);
}

static void gauge_state(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                        const char *state, uint64_t value)
{
    const struct fm_prometheus_label label = {"state", state};
    fm_prometheus_uint(page, family, (struct fm_prometheus_labels){&label, 1}, value);
}

static void accelerators_write(struct fm_prometheus *page, const struct fm_view *view)
{
    uint64_t counts[FM_VIEW_ACCELERATOR_STATE_COUNT_] = {0};
    for (uint32_t i = 0; i < view->accelerator_count; i++) {
        counts[view->accelerators[i].state]++;
        if (i < FM_METRICS_ACCELERATORS_MAX) {
            accelerator_write(page, &view->accelerators[i], i, view->now_ns);
        }
    }
    gauge_state(page, &accelerators, "up",
                counts[FM_VIEW_ACCELERATOR_IDLE] + counts[FM_VIEW_ACCELERATOR_BUSY]);
    gauge_state(page, &accelerators, "down", counts[FM_VIEW_ACCELERATOR_DOWN]);
    gauge_state(page, &accelerators, "busy", counts[FM_VIEW_ACCELERATOR_BUSY]);
    gauge_state(page, &accelerators, "idle", counts[FM_VIEW_ACCELERATOR_IDLE]);
    gauge_state(page, &accelerators, "used", view->sched.accelerators_active);
    fm_prometheus_number(page, &accelerators_needed, none, (double)view->sched.busy_milli / 1e3);
    if (view->advice != NULL) {
        fm_prometheus_uint(page, &advice_wanted, none, view->advice->wanted);
        fm_prometheus_uint(page, &advice_missing, none, view->advice->missing);
        fm_prometheus_uint(page, &advice_could_go, none, view->advice->could_go);
    }
}

/* --- The server --- */

FAMILY(build_info, GAUGE, "fermata_build_info", "1; the labels say what runs.");
FAMILY(ready, GAUGE, "fermata_ready", "1 while the server takes requests.");
FAMILY(uptime, GAUGE, "fermata_uptime_seconds", "Time since the start.");
FAMILY(models_by_state, GAUGE, "fermata_models", "Versions of models by state.");
FAMILY(models_abandoned, GAUGE, "fermata_models_abandoned",
       "Models that were unloaded while runs of theirs hung: their memory stays in use.");
FAMILY(models_omitted, GAUGE, "fermata_models_omitted",
       "Versions of models without series of their own, for want of room on this page.");
FAMILY(sched_steps, COUNTER, "fermata_scheduler_steps_total", "Decisions of the scheduler.");
FAMILY(sched_refused, COUNTER, "fermata_scheduler_refused_total",
       "Events that the scheduler refused because they could not be.");
FAMILY(sched_queued, GAUGE, "fermata_scheduler_queued", "Requests that wait for their batch.");
FAMILY(loop_requests, COUNTER, "fermata_loop_requests_total", "Requests taken in, by event loop.");
FAMILY(loop_rejected, COUNTER, "fermata_loop_rejected_total",
       "Requests answered before they were read in whole: malformed, too large, too slow.");
FAMILY(loop_cancelled, COUNTER, "fermata_loop_cancelled_total",
       "Requests whose client left before the answer.");
FAMILY(loop_accepted, COUNTER, "fermata_connections_accepted_total", "Connections accepted.");
FAMILY(loop_refused, COUNTER, "fermata_connections_refused_total",
       "Connections refused because there were too many.");
FAMILY(loop_connections, GAUGE, "fermata_connections", "Connections that are open.");
FAMILY(loop_in_flight, GAUGE, "fermata_loop_requests_in_flight",
       "Requests that the event loop has not answered yet.");
FAMILY(loop_received, COUNTER, "fermata_received_bytes_total", "Bytes received from clients.");
FAMILY(loop_sent, COUNTER, "fermata_sent_bytes_total", "Bytes sent to clients.");
FAMILY(loop_cpu, COUNTER, "fermata_loop_cpu_seconds_total", "CPU time of the event loop's thread.");
FAMILY(loop_lag, GAUGE, "fermata_loop_lag_seconds", "Longest turn of the event loop lately.");
FAMILY(export_spans, COUNTER, "fermata_trace_spans_total",
       "Spans for the trace collector, by outcome.");
FAMILY(export_failures, COUNTER, "fermata_trace_export_failures_total",
       "Attempts to reach the trace collector that failed.");
FAMILY(cache_bytes, GAUGE, "fermata_response_cache_bytes",
       "Memory that the answers in the response cache take.");
FAMILY(cache_bytes_max, GAUGE, "fermata_response_cache_bytes_max",
       "Memory that they may take (--response-cache).");
FAMILY(cache_entries, GAUGE, "fermata_response_cache_entries", "Answers in the response cache.");
FAMILY(cache_inserted, COUNTER, "fermata_response_cache_inserted_total",
       "Answers put into the response cache.");
FAMILY(cache_evicted, COUNTER, "fermata_response_cache_evicted_total",
       "Answers that left the response cache to make room.");
FAMILY(cache_not_kept, COUNTER, "fermata_response_cache_not_kept_total",
       "Answers that the response cache did not take, by reason.");
FAMILY(payload_requests, COUNTER, "fermata_payload_requests_total",
       "Requests for the recording of payloads, by outcome.");
FAMILY(payload_bytes, GAUGE, "fermata_payload_file_bytes", "Size of the recording of payloads.");
FAMILY(log_dropped, COUNTER, "fermata_log_dropped_total",
       "Log records dropped because their reader is slow.");

FAMILY(access_refused, COUNTER, "fermata_access_refused_total",
       "Requests refused before anything was done, by reason.");
FAMILY(access_tokens, GAUGE, "fermata_access_tokens", "Tokens in the token file.");
FAMILY(access_clients, GAUGE, "fermata_access_clients",
       "Clients remembered for their rates and requests in flight.");
FAMILY(access_evicted, COUNTER, "fermata_access_clients_evicted_total",
       "Clients forgotten because there were too many.");
FAMILY(access_reloads, COUNTER, "fermata_access_reloads_total",
       "Times that the token file was read again, by outcome.");

static void access_write(struct fm_prometheus *page, const struct fm_view_access *access)
{
    for (uint32_t i = 0; i < FM_VIEW_ACCESS_REASONS && access->refused[i].reason != NULL; i++) {
        const struct fm_prometheus_label label = {"reason", access->refused[i].reason};
        fm_prometheus_uint(page, &access_refused, (struct fm_prometheus_labels){&label, 1},
                           access->refused[i].count);
    }
    const struct fm_prometheus_label outcomes[] = {{"outcome", "done"}, {"outcome", "failed"}};
    fm_prometheus_uint(page, &access_tokens, none, access->tokens);
    fm_prometheus_uint(page, &access_clients, none, access->clients);
    fm_prometheus_uint(page, &access_evicted, none, access->evicted);
    fm_prometheus_uint(page, &access_reloads, (struct fm_prometheus_labels){&outcomes[0], 1},
                       access->reloads);
    fm_prometheus_uint(page, &access_reloads, (struct fm_prometheus_labels){&outcomes[1], 1},
                       access->reload_failures);
}

static void loop_write(struct fm_prometheus *page, const struct fm_view_loop *loop, uint32_t index)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", index);
    const struct fm_prometheus_label label = {"loop", number};
    const struct fm_prometheus_labels labels = {&label, 1};
    fm_prometheus_uint(page, &loop_requests, labels, loop->requests);
    fm_prometheus_uint(page, &loop_rejected, labels, loop->rejected);
    fm_prometheus_uint(page, &loop_cancelled, labels, loop->cancelled);
    fm_prometheus_uint(page, &loop_accepted, labels, loop->connections_accepted);
    fm_prometheus_uint(page, &loop_refused, labels, loop->connections_refused);
    fm_prometheus_uint(page, &loop_connections, labels, loop->connections);
    fm_prometheus_uint(page, &loop_in_flight, labels, loop->in_flight);
    fm_prometheus_uint(page, &loop_received, labels, loop->bytes_received);
    fm_prometheus_uint(page, &loop_sent, labels, loop->bytes_sent);
    fm_prometheus_number(page, &loop_cpu, labels, (double)loop->cpu_ns / 1e9);
    fm_prometheus_number(page, &loop_lag, labels, (double)loop->lag_max_ns / 1e9);
}

static void cache_write(struct fm_prometheus *page, const struct fm_view_cache *cache)
{
    const struct fm_prometheus_label reasons[] = {{"reason", "too_large"}, {"reason", "no_memory"}};
    fm_prometheus_uint(page, &cache_bytes, none, cache->bytes);
    fm_prometheus_uint(page, &cache_bytes_max, none, cache->bytes_max);
    fm_prometheus_uint(page, &cache_entries, none, cache->entries);
    fm_prometheus_uint(page, &cache_inserted, none, cache->inserted);
    fm_prometheus_uint(page, &cache_evicted, none, cache->evicted);
    fm_prometheus_uint(page, &cache_not_kept, (struct fm_prometheus_labels){&reasons[0], 1},
                       cache->too_large);
    fm_prometheus_uint(page, &cache_not_kept, (struct fm_prometheus_labels){&reasons[1], 1},
                       cache->no_memory);
}

static void server_write(struct fm_prometheus *page, const struct fm_view *view)
{
    const struct fm_prometheus_label build[] = {{"version", view->version},
                                                {"commit", view->commit},
                                                {"build", view->build},
                                                {"policy", view->policy}};
    fm_prometheus_uint(page, &build_info, (struct fm_prometheus_labels){build, 4}, 1);
    fm_prometheus_uint(page, &ready, none, view->ready ? 1 : 0);
    uint64_t up_ns = view->wall_ns > view->start_wall_ns ? view->wall_ns - view->start_wall_ns : 0;
    fm_prometheus_number(page, &uptime, none, (double)up_ns / 1e9);
    fm_prometheus_uint(page, &sched_steps, none, view->sched.steps);
    fm_prometheus_uint(page, &sched_refused, none, view->sched.refused);
    fm_prometheus_uint(page, &sched_queued, none, view->sched.queued);
    for (uint32_t i = 0; i < view->loop_count; i++) {
        loop_write(page, &view->loops[i], i);
    }
    if (view->otlp.enabled) {
        gauge_state(page, &export_spans, "sent", view->otlp.sent);
        gauge_state(page, &export_spans, "dropped", view->otlp.dropped);
        fm_prometheus_uint(page, &export_failures, none, view->otlp.failed);
    }
    access_write(page, &view->access);
    if (view->payloads.enabled) {
        const struct fm_view_payloads *payloads = &view->payloads;
        const struct fm_prometheus_label outcomes[] = {
            {"outcome", "recorded"}, {"outcome", "left_out"}, {"outcome", "sampled_out"}};
        const uint64_t counts[] = {payloads->recorded, payloads->left_out, payloads->sampled_out};
        for (size_t i = 0; i < FM_COUNT_OF(counts); i++) {
            fm_prometheus_uint(page, &payload_requests,
                               (struct fm_prometheus_labels){&outcomes[i], 1}, counts[i]);
        }
        fm_prometheus_uint(page, &payload_bytes, none, payloads->bytes);
    }
    if (view->cache.enabled) {
        cache_write(page, &view->cache);
    }
    fm_prometheus_uint(page, &log_dropped, none, view->log_dropped);
}

/* --- The process, under the names that every client library uses --- */

FAMILY(process_cpu, COUNTER, "process_cpu_seconds_total",
       "Total user and system CPU time spent in seconds.");
FAMILY(process_resident, GAUGE, "process_resident_memory_bytes", "Resident memory size in bytes.");
FAMILY(process_virtual, GAUGE, "process_virtual_memory_bytes", "Virtual memory size in bytes.");
FAMILY(process_peak, GAUGE, "fermata_process_resident_memory_peak_bytes",
       "Largest resident memory size so far.");
FAMILY(process_start, GAUGE, "process_start_time_seconds",
       "Start time of the process since unix epoch in seconds.");
FAMILY(process_open, GAUGE, "process_open_fds", "Number of open file descriptors.");
FAMILY(process_fds_max, GAUGE, "process_max_fds", "Maximum number of open file descriptors.");
FAMILY(process_threads, GAUGE, "process_threads", "Number of OS threads in the process.");
FAMILY(allocations, COUNTER, "fermata_allocations_total",
       "Memory allocations by the server's own code, of all threads.");
FAMILY(system_calls, COUNTER, "fermata_system_calls_total",
       "System calls of event loops and threads that pass work on, by what for.");
FAMILY(nv_cpu, GAUGE, "nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]");
FAMILY(nv_cpu_total, GAUGE, "nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes");
FAMILY(nv_cpu_used, GAUGE, "nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes");

static void tally_write(struct fm_prometheus *page, const struct fm_view_process *process)
{
    static const struct {
        const char *name;
        enum fm_tally tally;
    } calls[] = {{"read", FM_TALLY_READS},
                 {"write", FM_TALLY_WRITES},
                 {"wait", FM_TALLY_WAITS},
                 {"wake", FM_TALLY_WAKES}};
    fm_prometheus_uint(page, &allocations, none, process->tally[FM_TALLY_ALLOCATIONS]);
    for (size_t i = 0; i < FM_COUNT_OF(calls); i++) {
        const struct fm_prometheus_label label = {"call", calls[i].name};
        fm_prometheus_uint(page, &system_calls, (struct fm_prometheus_labels){&label, 1},
                           process->tally[calls[i].tally]);
    }
}

static void process_write(struct fm_prometheus *page, const struct fm_view *view)
{
    const struct fm_view_process *process = &view->process;
    fm_prometheus_number(page, &process_cpu, none, (double)process->cpu_ns / 1e9);
    fm_prometheus_uint(page, &process_resident, none, process->resident_bytes);
    fm_prometheus_uint(page, &process_virtual, none, process->virtual_bytes);
    fm_prometheus_uint(page, &process_peak, none, process->peak_bytes);
    fm_prometheus_number(page, &process_start, none, (double)(view->start_wall_ns / 1000000) / 1e3);
    fm_prometheus_uint(page, &process_open, none, process->open_descriptors);
    fm_prometheus_uint(page, &process_fds_max, none, process->descriptors_max);
    fm_prometheus_uint(page, &process_threads, none, process->threads);
    tally_write(page, process);
    fm_prometheus_number(page, &nv_cpu, none, process->machine_cpu);
    fm_prometheus_uint(page, &nv_cpu_total, none, process->machine_memory);
    fm_prometheus_uint(page, &nv_cpu_used, none, process->machine_memory_used);
}

static void models_write(struct fm_prometheus *page, const struct fm_view *view)
{
    uint64_t counts[FM_CATALOG_STATE_COUNT_] = {0};
    for (uint32_t i = 0; i < view->model_count; i++) {
        counts[view->models[i].state]++;
        if (i < FM_METRICS_MODELS_MAX) {
            model_write(page, &view->models[i]);
        }
    }
    for (unsigned i = 0; i < FM_CATALOG_STATE_COUNT_; i++) {
        gauge_state(page, &models_by_state, fm_catalog_state_name((enum fm_catalog_state)i),
                    counts[i]);
    }
    fm_prometheus_uint(page, &models_abandoned, none, view->abandoned_count);
    fm_prometheus_uint(
        page, &models_omitted, none,
        view->model_count > FM_METRICS_MODELS_MAX ? view->model_count - FM_METRICS_MODELS_MAX : 0);
}

void fm_metrics_write(const struct fm_view *view, struct fm_text *text)
{
    struct fm_prometheus page = {0};
    server_write(&page, view);
    models_write(&page, view);
    for (uint32_t i = 0; i < view->stage_count && i < FM_METRICS_STAGES_MAX; i++) {
        stage_write(&page, &view->stages[i]);
    }
    accelerators_write(&page, view);
    process_write(&page, view);
    fm_prometheus_write(&page, text);
    fm_prometheus_deinit(&page);
}
