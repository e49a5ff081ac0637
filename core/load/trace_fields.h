/*
 * What the texts of traces have in common: lines, fields of CSV, times.
 *
 * Owns: how they are read. For the readers of traces (trace_text, azure_trace) alone. Thread rule:
 * pure.
 */
#ifndef FM_CORE_LOAD_TRACE_FIELDS_H
#define FM_CORE_LOAD_TRACE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of the text. */
struct fm_trace_span {
    const char *start;
    size_t length;
};

/* For "%.*s" of text from outside: long enough to be recognised. */
static inline int fm_trace_span_shown(struct fm_trace_span span)
{
    return span.length > 60 ? 60 : (int)span.length;
}

/* Without blanks and tabs at its ends. */
struct fm_trace_span fm_trace_span_trim(struct fm_trace_span span);
bool fm_trace_span_is(struct fm_trace_span span, const char *text);

enum fm_trace_time { FM_TRACE_TIME_GOOD, FM_TRACE_TIME_NO_NUMBER, FM_TRACE_TIME_TOO_LARGE };

/* Seconds, decimal ("12", "0.25", "1e-05"), to the nearest nanosecond. */
enum fm_trace_time fm_trace_read_time(struct fm_trace_span span, uint64_t *ret_ns);

/* The next line, without its LF or CRLF; false behind the last. */
bool fm_trace_take_line(struct fm_trace_span *rest, struct fm_trace_span *ret_line);

/*
 * Takes the next field, trimmed, off a CSV line: up to a comma, or in double quotes (returned
 * without them; doubled ones inside stay as they are, no time and no sensible column has any).
 * False when quotes are not closed or text follows them. *ret_more: a comma follows.
 */
bool fm_trace_take_field(struct fm_trace_span *line, struct fm_trace_span *ret_field,
                         bool *ret_more);

#endif
