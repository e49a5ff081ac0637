/*
 * GET /debug/state: one JSON document with what the dashboard shows, for each poll.
 *
 * Owns: the document's form (docs/dashboard.md) and its bounds. Does not own: the numbers (view.h),
 * HTTP. Thread rule: pure.
 */
#ifndef FM_ENGINES_SERVE_STATE_DOCUMENT_H
#define FM_ENGINES_SERVE_STATE_DOCUMENT_H

#include "core/util/text.h"
#include "engines/serve/view.h"

#define FM_STATE_FORMAT           1u
#define FM_STATE_MODELS_MAX       500u
#define FM_STATE_ACCELERATORS_MAX 256u
#define FM_STATE_SPANS_MAX        4096u
#define FM_STATE_SPAN_AGE_NS      UINT64_C(10000000000)
#define FM_STATE_SIZES_MAX        128u /* batch sizes of a model; more are gathered */
#define FM_STATE_LOG_LINES_MAX    100u

struct fm_state_query {
    uint64_t since_us;      /* spans that ended later; 0: the last seconds */
    uint64_t history_since; /* samples after this wall_ms; 0: all */
};

/* "since=N&history=N" (either may be missing, others are refused with FM_EINVAL). */
int FM_NODISCARD fm_state_query_parse(const char *query, struct fm_state_query *ret_query,
                                      struct fm_error *reterr);

/* Appends the document. text->failed when memory ran out. */
void fm_state_document_write(const struct fm_view *view, const struct fm_state_query *query,
                             struct fm_text *text);

#endif
