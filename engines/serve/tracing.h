/*
 * Spans of single inferences for OpenTelemetry: who is traced, and what is told.
 *
 * Owns: the decision for each request (its sender's, else by the rate), the spans of one inference.
 * Does not own: sending them (host/net/otlp_exporter), the formats (core/proto/traceparent,
 * core/stats/otlp). Thread rule: the inference's loop.
 */
#ifndef FM_ENGINES_SERVE_TRACING_H
#define FM_ENGINES_SERVE_TRACING_H

#include "core/proto/traceparent.h"
#include "fermata/status.h"

struct fm_inference;

/* Of one inference. */
struct fm_serve_trace {
    struct fm_trace_context context; /* of the server's span */
    uint64_t parent;                 /* 0: none came */
    const char *protocol;            /* "http", "grpc", "local"; like the rest: if sampled */
    char state[128];                 /* tracestate; "" */
    bool sampled;
};

/* Whether anybody wants spans: `parent` and `state` need not be looked for otherwise. */
bool fm_serve_traces(const struct fm_inference *inference);
/* `parent` and `state`: what came as traceparent and tracestate; NULL: nothing. */
void fm_serve_trace_begin(struct fm_inference *inference, const char *protocol, const char *parent,
                          const char *state);
/* It was answered. Hands its spans to the exporter if it is traced. */
void fm_serve_trace_end(const struct fm_inference *inference, int status);

#endif
