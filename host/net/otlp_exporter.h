/*
 * Sends spans to an OpenTelemetry collector over OTLP/HTTP, from a thread of its own.
 *
 * Owns: a bounded queue, batches, retries with growing pauses, libcurl. Does not own: which
 * requests are traced, the documents' form (core/stats/otlp). Thread rule: fm_otlp_exporter_put and
 * _stats from any thread; start and stop from one.
 *
 * Putting never waits for the network: it takes a lock for the length of a copy, and where the
 * queue is full the span is dropped and counted. Only sampled requests come here, so the lock is
 * not on the way of the others.
 */
#ifndef FM_HOST_NET_OTLP_EXPORTER_H
#define FM_HOST_NET_OTLP_EXPORTER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/stats/otlp.h"
#include "fermata/status.h"

#define FM_OTLP_QUEUE_LIMIT    (1u << 20)
#define FM_OTLP_BATCH_LIMIT    8192u
#define FM_OTLP_ATTEMPTS_LIMIT 20u
#define FM_OTLP_HEADERS_MAX    16u

/* Zero means the default that is named. */
struct fm_otlp_options {
    /* OTEL_EXPORTER_OTLP_ENDPOINT: a base, "/v1/traces" is added; http or https. */
    const char *endpoint;
    /* OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: used as it is; overrules endpoint. NULL: none. */
    const char *traces_endpoint;
    /* OTEL_EXPORTER_OTLP_HEADERS: "key=value,key=value"; NULL: none. */
    const char *headers;
    const char *service_name;    /* OTEL_SERVICE_NAME; NULL: "fermata" */
    const char *service_version; /* NULL: "" */
    const char *host;            /* NULL: "" */
    uint32_t queue_max;          /* spans: 8192 */
    uint32_t batch_max;          /* spans of one request: 512 */
    uint64_t delay_ns;           /* how long spans are gathered: 1 s */
    uint64_t timeout_ns;         /* of one attempt: 10 s */
    uint32_t attempts_max;       /* of one batch: 5 */
    uint64_t pause_ns;           /* before the second attempt, doubled before each other: 500 ms */
};

struct fm_otlp_stats {
    uint64_t queued; /* now */
    uint64_t sent;
    uint64_t dropped; /* queue full, or a batch given up */
    uint64_t failed;  /* attempts */
};

struct fm_otlp_exporter;

/*
 * Everything is copied. FM_EINVAL for an endpoint or a header that cannot be, FM_ENOMEM, or what
 * starting a thread gives; a collector that is not there is no error.
 */
int FM_NODISCARD fm_otlp_exporter_start(const struct fm_otlp_options *options,
                                        struct fm_otlp_exporter **ret_exporter,
                                        struct fm_error *reterr);
/* Copies the span. False: it was dropped. */
bool fm_otlp_exporter_put(struct fm_otlp_exporter *exporter, const struct fm_otlp_span *span);
void fm_otlp_exporter_stats(struct fm_otlp_exporter *exporter, struct fm_otlp_stats *ret_stats);
/* Sends what is queued, for at most grace_ns and without waiting between attempts, then frees.
 * Accepts NULL. */
void fm_otlp_exporter_stop(struct fm_otlp_exporter *exporter, uint64_t grace_ns);

#endif
