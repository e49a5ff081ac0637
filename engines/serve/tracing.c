/*
 * Spans of single inferences. See tracing.h.
 */
#include "engines/serve/tracing.h"

#include <stdio.h>
#include <string.h>

#include "engines/serve/serve_internal.h"
#include "host/net/otlp_exporter.h"
#include "host/os/os.h"

bool fm_serve_traces(const struct fm_inference *inference)
{
    return inference->loop->serve->otlp != NULL;
}

void fm_serve_trace_begin(struct fm_inference *inference, const char *protocol, const char *parent,
                          const char *state)
{
    struct fm_serve_loop *loop = inference->loop;
    struct fm_serve_trace *trace = &inference->trace;
    trace->sampled = false;
    if (!fm_serve_traces(inference)) {
        return;
    }
    struct fm_trace_context from;
    bool has_parent = parent != NULL && fm_traceparent_parse(parent, strlen(parent), &from) == 0;
    const uint64_t random[3] = {fm_random_next(&loop->random), fm_random_next(&loop->random),
                                fm_random_next(&loop->random)};
    trace->context =
        fm_trace_context_begin(&loop->serve->sampler, has_parent ? &from : NULL, random);
    trace->sampled = trace->context.sampled;
    trace->parent = has_parent ? from.span : 0;
    trace->protocol = protocol;
    trace->state[0] = '\0';
    size_t length = state != NULL ? strlen(state) : 0;
    if (has_parent && length > 0 && length < sizeof trace->state &&
        fm_tracestate_valid(state, length)) {
        memcpy(trace->state, state, length + 1);
    }
}

static void part_put(const struct fm_inference *inference, const struct fm_otlp_span *whole,
                     const char *name, uint64_t start_ns, uint64_t end_ns)
{
    struct fm_serve_loop *loop = inference->loop;
    struct fm_otlp_span span = *whole;
    uint64_t wall_ns = fm_os_wall_ns() - fm_os_now_ns();
    span.name = name;
    span.kind = FM_OTLP_INTERNAL;
    span.parent = whole->context.span;
    span.context.span = fm_random_next(&loop->random) | 1;
    span.start_ns = wall_ns + start_ns;
    span.end_ns = wall_ns + end_ns;
    (void)fm_otlp_exporter_put(loop->serve->otlp, &span); /* what is dropped is counted there */
}

void fm_serve_trace_end(const struct fm_inference *inference, int status)
{
    const struct fm_serve_trace *trace = &inference->trace;
    if (!trace->sampled) {
        return;
    }
    uint64_t wall_ns = fm_os_wall_ns() - fm_os_now_ns();
    struct fm_otlp_span span = {.context = trace->context,
                                .parent = trace->parent,
                                .start_ns = wall_ns + inference->received_ns,
                                .end_ns = fm_os_wall_ns(),
                                .name = "infer",
                                .kind = FM_OTLP_SERVER,
                                .status = status};
    (void)snprintf(span.protocol, sizeof span.protocol, "%s", trace->protocol);
    memcpy(span.tracestate, trace->state, sizeof span.tracestate);
    fm_otlp_span_set_model(&span, inference->entry != NULL ? inference->entry->name : "");
    bool ran = inference->submitted && inference->serving->model != NULL &&
               inference->run.pool.computed_ns != 0;
    if (ran) {
        const struct fm_pool_request *run = &inference->run.pool;
        span.batch = run->batch_rows;
        span.queue_ns = run->started_ns - run->arrived_ns;
        part_put(inference, &span, "queue", run->arrived_ns, run->started_ns);
        part_put(inference, &span, "compute", run->started_ns, run->done_ns);
    }
    if (inference->cached == FM_INFERENCE_HIT) {
        part_put(inference, &span, "cache", inference->cache_start_ns,
                 inference->cache_start_ns + inference->cache_ns);
    }
    (void)fm_otlp_exporter_put(inference->loop->serve->otlp, &span);
}
