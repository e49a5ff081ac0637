/*
 * Trace files: text to arrival times.
 *
 * Owns: the grammar, of two forms: one time in seconds per line, or CSV with a header one of whose
 * columns holds the times. Does not own: reading files, what to do with the times
 * (core/load/arrivals). Thread rule: pure.
 */
#ifndef FM_CORE_LOAD_TRACE_TEXT_H
#define FM_CORE_LOAD_TRACE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TRACE_TEXT_TIMES_MAX (UINT64_C(1) << 30)

struct fm_trace_text_options {
    const char *name;   /* of the file, for messages */
    const char *column; /* the CSV column with the times; NULL: one time per line, no header */
    uint64_t times_max; /* 0: FM_TRACE_TEXT_TIMES_MAX */
    bool from_first;    /* count from the first time: for traces that hold times of day or epochs */
    bool any_order;     /* times need not ascend: of deadlines; not with from_first */
};

/*
 * Reads all of text[size]. Blank lines and lines that begin with # are skipped, also before the
 * header; without a column, # also ends a time. LF and CRLF; a UTF-8 byte-order mark is taken. A
 * time is decimal ("12", "0.25", "1e-05"), rounded to the nearest nanosecond exactly; times ascend,
 * equal ones are allowed.
 *
 * On success *ret_times_ns holds *ret_count > 0 times and is the caller's to fm_free. FM_EINVAL
 * with name and line in reterr (no times at all included), FM_ETOOLARGE beyond times_max,
 * FM_ENOMEM; then *ret_times_ns is NULL.
 */
int FM_NODISCARD fm_trace_text_parse(const struct fm_trace_text_options *options, const char *text,
                                     size_t size, uint64_t **ret_times_ns, uint64_t *ret_count,
                                     struct fm_error *reterr);

#endif
