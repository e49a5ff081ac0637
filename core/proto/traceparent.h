/*
 * W3C trace context: the headers traceparent and tracestate.
 *
 * Owns: their syntax (level 1, and higher versions as it says to read them), the decision whether a
 * request is traced. Does not own: drawing random numbers (ids come in), exporting. Thread rule:
 * pure.
 */
#ifndef FM_CORE_PROTO_TRACEPARENT_H
#define FM_CORE_PROTO_TRACEPARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TRACEPARENT_SIZE     56 /* with its NUL */
#define FM_TRACESTATE_BYTES_MAX 512u
#define FM_TRACESTATE_ROWS_MAX  32u

/* Ids are big-endian numbers: their hexadecimal text is what the header holds. */
struct fm_trace_context {
    uint64_t trace_high;
    uint64_t trace_low;
    uint64_t span; /* of whoever sent it; 0: none, this is where the trace begins */
    bool sampled;
};

/* FM_EINVAL for what is no traceparent; then the request is treated as if it had none, as the
 * standard asks. `text` need not end with a NUL. */
int FM_NODISCARD fm_traceparent_parse(const char *text, size_t length,
                                      struct fm_trace_context *ret_context);
void fm_traceparent_format(const struct fm_trace_context *context, char text[FM_TRACEPARENT_SIZE]);
/* Is this a tracestate that may be passed on? Otherwise it is dropped whole. */
bool fm_tracestate_valid(const char *text, size_t length);

/*
 * Who is traced: a request whose sender says so (and, if `respect_parent_no`, none whose sender
 * says no); of those without a sender, rate_millionths of a million, by their trace id, so that
 * every server of a trace decides alike.
 */
struct fm_trace_sampler {
    uint32_t rate_millionths; /* 0 .. 1000000 */
    bool respect_parent_no;   /* parent-based sampling, as OpenTelemetry's default */
};

/*
 * The context of this server's span: `parent` (NULL: none came) continued, or a new trace with the
 * ids in `random`: three numbers, of which zeros are made ones.
 */
struct fm_trace_context fm_trace_context_begin(const struct fm_trace_sampler *sampler,
                                               const struct fm_trace_context *parent,
                                               const uint64_t random[3]);

#endif
