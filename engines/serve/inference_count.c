/*
 * What is told of an inference that is over: its model's counters, the timeline, the log. See
 * serve_internal.h.
 */
#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/serve/serve_internal.h"
#include "host/os/log.h"
#include "host/os/os.h"

static enum fm_counted_failure failure_of(const struct fm_inference *inference,
                                          const struct fm_error *error)
{
    /* A pipeline has no start of its own: what failed in it says so with its status. */
    bool ran = inference->submitted && inference->serving->model != NULL &&
               inference->run.pool.started_ns != 0;
    return fm_counted_failure_of(error->status, ran);
}

/* Where it was, if it is a sampled one. */
static void spans_put(const struct fm_inference *inference)
{
    struct fm_serve *serve = inference->loop->serve;
    const struct fm_pool_request *run = &inference->run.pool;
    uint32_t ring = inference->loop->index;
    struct fm_span span = {.batch = run->batch, .model = inference->serving->span_model};
    if (!fm_timeline_samples(&serve->timeline, inference->number)) {
        return;
    }
    const struct {
        enum fm_span_kind kind;
        uint64_t start_ns;
        uint64_t end_ns;
    } phases[] = {{FM_SPAN_DECODE, inference->received_ns, run->arrived_ns},
                  {FM_SPAN_QUEUE, run->arrived_ns, run->started_ns},
                  {FM_SPAN_HELD, run->started_ns - run->held_ns, run->started_ns},
                  {FM_SPAN_COMPUTE, run->started_ns, run->done_ns},
                  {FM_SPAN_ENCODE, run->done_ns, fm_os_now_ns()}};
    span.request = inference->number + 1;
    span.count = inference->decoded.rows;
    span.track = FM_TRACK_LOOP;
    span.index = ring;
    for (size_t i = 0; i < FM_COUNT_OF(phases); i++) {
        span.kind = (uint16_t)phases[i].kind;
        span.start_ns = phases[i].start_ns;
        span.end_ns = phases[i].end_ns;
        fm_timeline_put(&serve->timeline, ring, &span);
    }
}

/* A pipeline's request is one execution, which takes all of its time. */
static void pipeline_count(const struct fm_inference *inference, struct fm_model_counters *counters,
                           uint64_t total_ns, uint64_t wall_ms)
{
    uint32_t rows = inference->decoded.rows;
    const struct fm_counted_batch batch = {
        .rows = rows > 0 ? rows : 1, .requests = 1, .infer_ns = total_ns, .wall_ms = wall_ms};
    fm_model_count_start(counters, 0, 0);
    fm_model_count_batch(counters, &batch);
}

/* A request that was answered from the response cache, if it is a sampled one. */
static void cache_spans_put(const struct fm_inference *inference)
{
    struct fm_serve *serve = inference->loop->serve;
    if (!fm_timeline_samples(&serve->timeline, inference->number)) {
        return;
    }
    uint64_t found_ns = inference->cache_start_ns + inference->cache_ns;
    struct fm_span span = {.model = inference->serving->span_model,
                           .request = inference->number + 1,
                           .count = inference->decoded.rows,
                           .track = FM_TRACK_LOOP,
                           .index = inference->loop->index,
                           .kind = FM_SPAN_DECODE,
                           .start_ns = inference->received_ns,
                           .end_ns = inference->cache_start_ns};
    fm_timeline_put(&serve->timeline, inference->loop->index, &span);
    span.kind = FM_SPAN_CACHE;
    span.start_ns = inference->cache_start_ns;
    span.end_ns = found_ns;
    fm_timeline_put(&serve->timeline, inference->loop->index, &span);
    span.kind = FM_SPAN_ENCODE;
    span.start_ns = found_ns;
    span.end_ns = fm_os_now_ns();
    fm_timeline_put(&serve->timeline, inference->loop->index, &span);
}

/* A hit waited for nothing, which counts among the times in the queue. */
static void cache_count(const struct fm_inference *inference, struct fm_model_counters *counters)
{
    bool hit = inference->cached == FM_INFERENCE_HIT;
    fm_model_count_cache(counters, hit, inference->cache_ns);
    if (hit) {
        fm_model_count_start(counters, 0, 0);
        cache_spans_put(inference);
    }
}

void fm_inference_count(struct fm_inference *inference, const struct fm_error *error)
{
    fm_serve_trace_end(inference, error != NULL ? error->status : 0);
    struct fm_serving *serving = inference->serving;
    struct fm_model_counters *counters = serving->counters[inference->loop->index];
    uint64_t now_ns = fm_os_now_ns();
    uint64_t total_ns = now_ns - inference->received_ns;
    uint64_t wall_ms = (now_ns + inference->loop->wall_offset_ns) / 1000000;
    bool pooled = inference->submitted && serving->model != NULL;
    if (inference->cached != FM_INFERENCE_UNCACHED) {
        cache_count(inference, counters);
    }
    if (pooled && inference->run.pool.computed_ns != 0) {
        fm_pool_request_count(&inference->run.pool, counters, wall_ms);
        spans_put(inference);
    } else if (error == NULL && inference->submitted && serving->model == NULL) {
        pipeline_count(inference, counters, total_ns, wall_ms);
    }
    fm_model_count_cost(counters, inference->decoded.bytes_copied +
                                      inference->response.bytes_copied +
                                      (pooled ? inference->run.pool.bytes_copied : 0));
    if (error == NULL) {
        uint64_t deadline_ns = inference->deadline_ns != 0
                                   ? inference->deadline_ns
                                   : inference->received_ns + serving->slo_ns;
        bool has_deadline = inference->deadline_ns != 0 || serving->slo_given;
        fm_model_count_success(counters, total_ns,
                               !has_deadline           ? FM_DEADLINE_NONE
                               : now_ns <= deadline_ns ? FM_DEADLINE_MET
                                                       : FM_DEADLINE_MISSED);
        return;
    }
    fm_model_count_failure(counters, total_ns, failure_of(inference, error),
                           inference->deadline_ns != 0 || serving->slo_given);
    if (pooled && inference->finished && inference->run.pool.drop != FM_SCHED_DROP_COUNT_) {
        fm_model_count_drop(counters, (enum fm_counted_drop)inference->run.pool.drop);
    } else if (error->status == FM_EAGAIN) {
        fm_model_count_drop(counters, FM_COUNTED_DROP_QUEUE_FULL);
    } else if (error->status == FM_EDEADLINE) {
        fm_model_count_drop(counters, FM_COUNTED_DROP_LATE);
    }
}

/* Conditions that a busy server meets every day are no news; a model that fails is. */
void fm_inference_log(const struct fm_inference *inference, const struct fm_error *error)
{
    if (fm_status_http(error->status) < 500 || error->status == FM_EUNSUPPORTED ||
        error->status == FM_EAGAIN || error->status == FM_EDEADLINE ||
        error->status == FM_ECANCELLED || error->status == FM_EUNAVAILABLE) {
        return;
    }
    fm_log(FM_LOG_ERROR, "inference_failed", FM_LOG_TEXT("model", inference->entry->name),
           FM_LOG_UINT("version", inference->entry->version),
           FM_LOG_TEXT("request_id", inference->has_decoded && inference->decoded.id != NULL
                                         ? inference->decoded.id
                                         : ""),
           FM_LOG_TEXT("status", fm_status_name(error->status)), FM_LOG_TEXT("reason", error->text),
           FM_LOG_TEXT("next", "answered with an error"));
}
