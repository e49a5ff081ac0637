/*
 * GET /debug/trace?seconds=N: the last seconds as a trace for Perfetto and Chrome's viewer.
 *
 * Owns: the trace event JSON: a track for each accelerator (batches, windows, rests) and each event
 * loop (phases of the requests that were sampled), arrows from requests to their batch, queue
 * lengths as counters. Does not own: recording (core/stats/timeline), HTTP. Thread rule: one thread
 * at a time for each object; everybody may go on recording.
 *
 * The document comes in pieces, ring after ring, so that a server may send it as it is written, and
 * ends cleanly at FM_DEBUG_TRACE_BYTES_MAX whatever was recorded.
 */
#ifndef FM_ENGINES_SERVE_DEBUG_TRACE_H
#define FM_ENGINES_SERVE_DEBUG_TRACE_H

#include <stdbool.h>

#include "core/util/text.h"
#include "engines/serve/view.h"

#define FM_DEBUG_TRACE_TYPE        "application/json"
#define FM_DEBUG_TRACE_SECONDS     5u /* when the query does not say */
#define FM_DEBUG_TRACE_SECONDS_MAX 300u
#define FM_DEBUG_TRACE_BYTES_MAX   (64u << 20)
#define FM_DEBUG_TRACE_CHUNK_SPANS 512u

/* "seconds=N", 1 .. FM_DEBUG_TRACE_SECONDS_MAX, or "". FM_EINVAL says what is taken. */
int FM_NODISCARD fm_debug_trace_query_parse(const char *query, uint32_t *ret_seconds,
                                            struct fm_error *reterr);

/* Borrows the view (its timeline, names, now_ns) until it is through. */
struct fm_debug_trace {
    const struct fm_view *view;
    uint64_t since_ns;
    struct fm_span *spans; /* of the ring that is written */
    uint32_t span_count;
    uint32_t span_next;
    uint32_t ring_next;
    uint64_t bytes; /* so far */
    bool started;
    bool ended;
    bool cut; /* FM_DEBUG_TRACE_BYTES_MAX was reached */
};

/* FM_ENOMEM. */
int FM_NODISCARD fm_debug_trace_init(struct fm_debug_trace *trace, const struct fm_view *view,
                                     uint32_t seconds);
void fm_debug_trace_deinit(struct fm_debug_trace *trace);
/* Appends the next piece (some 100 KB at most); false: that was the last. */
bool fm_debug_trace_next(struct fm_debug_trace *trace, struct fm_text *text);

#endif
