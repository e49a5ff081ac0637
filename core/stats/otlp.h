/*
 * Spans in OpenTelemetry's OTLP/HTTP form, as JSON.
 *
 * Owns: the document ExportTraceServiceRequest with one resource and one scope. Does not own:
 * sending (host/net/otlp_exporter), which requests are traced (core/proto/traceparent). Thread
 * rule: pure.
 */
#ifndef FM_CORE_STATS_OTLP_H
#define FM_CORE_STATS_OTLP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/proto/traceparent.h"
#include "core/util/text.h"

#define FM_OTLP_MODEL_SIZE 64u
#define FM_OTLP_STATE_SIZE 128u

enum fm_otlp_span_kind { FM_OTLP_INTERNAL = 1, FM_OTLP_SERVER = 2 };

/* A finished span, self-contained so that it can wait in a queue. 304 bytes. */
struct fm_otlp_span {
    struct fm_trace_context context; /* this span's own id in `span` */
    uint64_t parent;                 /* 0: the first of its trace */
    uint64_t start_ns;               /* wall time */
    uint64_t end_ns;
    const char *name; /* a literal: "infer", "queue", "compute" */
    uint32_t kind;    /* enum fm_otlp_span_kind */
    int32_t status;   /* an FM_E... code; 0: good */
    uint32_t batch;   /* rows of its batch; 0: none */
    bool has_window;
    uint64_t queue_ns;
    uint64_t window_ns;
    char model[FM_OTLP_MODEL_SIZE];      /* cut where it does not fit */
    char protocol[8];                    /* "http", "grpc" */
    char tracestate[FM_OTLP_STATE_SIZE]; /* left out where it does not fit */
};

struct fm_otlp_resource {
    const char *service_name;
    const char *service_version;
    const char *host; /* "": left out */
};

/* Appends the document. text->failed when memory ran out. */
void fm_otlp_write(const struct fm_otlp_resource *resource, const struct fm_otlp_span *spans,
                   uint32_t count, struct fm_text *text);
/* Copies what fits of a name into the span, at a whole character. */
void fm_otlp_span_set_model(struct fm_otlp_span *span, const char *model);

#endif
