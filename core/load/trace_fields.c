/*
 * Lines, fields and times of trace files. See trace_fields.h. Pure.
 */
#include "core/load/trace_fields.h"

#include <string.h>

static bool blank(char character)
{
    return character == ' ' || character == '\t';
}

struct fm_trace_span fm_trace_span_trim(struct fm_trace_span span)
{
    while (span.length > 0 && blank(span.start[0])) {
        span.start++;
        span.length--;
    }
    while (span.length > 0 && blank(span.start[span.length - 1])) {
        span.length--;
    }
    return span;
}

static bool digit(char character)
{
    return character >= '0' && character <= '9';
}

/* "[+-]digits" at *position, its magnitude capped at 100,000: beyond any time in any unit. */
static bool read_exponent(struct fm_trace_span span, size_t *position, long *ret_exponent)
{
    size_t at = *position;
    bool negative = at < span.length && span.start[at] == '-';
    at += at < span.length && (span.start[at] == '-' || span.start[at] == '+');
    if (at == span.length || !digit(span.start[at])) {
        return false;
    }
    long exponent = 0;
    for (; at < span.length && digit(span.start[at]); at++) {
        exponent = exponent < 100000 ? exponent * 10 + (span.start[at] - '0') : exponent;
    }
    *ret_exponent = negative ? -exponent : exponent;
    *position = at;
    return true;
}

/*
 * Seconds to nanoseconds, in integers: the digits, without their point, are followed up to the one
 * of the nanoseconds; the digit behind it rounds.
 */
enum fm_trace_time fm_trace_read_time(struct fm_trace_span span, uint64_t *ret_ns)
{
    size_t at = span.length > 0 && span.start[0] == '+' ? 1 : 0;
    size_t first = at;
    size_t point = SIZE_MAX;
    size_t digits = 0;
    for (; at < span.length; at++) {
        if (span.start[at] == '.' && point == SIZE_MAX) {
            point = digits;
        } else if (digit(span.start[at])) {
            digits++;
        } else {
            break;
        }
    }
    size_t end = at;
    long exponent = 0;
    if (digits > 0 && at < span.length && (span.start[at] == 'e' || span.start[at] == 'E')) {
        at++;
        if (!read_exponent(span, &at, &exponent)) {
            return FM_TRACE_TIME_NO_NUMBER;
        }
    }
    if (digits == 0 || at != span.length) {
        return FM_TRACE_TIME_NO_NUMBER;
    }
    point = point == SIZE_MAX ? digits : point;
    int64_t wanted = (int64_t)point + exponent + 9;
    uint64_t value = 0;
    bool round_up = false;
    int64_t taken = 0;
    for (at = first; at < end && taken <= wanted; at++) {
        if (span.start[at] == '.') {
            continue;
        }
        unsigned number = (unsigned)(span.start[at] - '0');
        if (taken == wanted) {
            round_up = number >= 5;
        } else if (value > (UINT64_MAX - number) / 10) {
            return FM_TRACE_TIME_TOO_LARGE;
        } else {
            value = value * 10 + number;
        }
        taken++;
    }
    for (; taken < wanted && value != 0; taken++) {
        if (value > UINT64_MAX / 10) {
            return FM_TRACE_TIME_TOO_LARGE;
        }
        value *= 10;
    }
    /* The last value means "never" to who reads the times. */
    if (value >= UINT64_MAX - 1) {
        return FM_TRACE_TIME_TOO_LARGE;
    }
    *ret_ns = value + (round_up ? 1 : 0);
    return FM_TRACE_TIME_GOOD;
}

bool fm_trace_take_line(struct fm_trace_span *rest, struct fm_trace_span *ret_line)
{
    if (rest->length == 0) {
        return false;
    }
    const char *end = memchr(rest->start, '\n', rest->length);
    size_t length = end == NULL ? rest->length : (size_t)(end - rest->start);
    *ret_line = (struct fm_trace_span){rest->start, length};
    if (length > 0 && rest->start[length - 1] == '\r') {
        ret_line->length--;
    }
    size_t used = length + (end == NULL ? 0 : 1);
    *rest = (struct fm_trace_span){rest->start + used, rest->length - used};
    return true;
}

bool fm_trace_take_field(struct fm_trace_span *line, struct fm_trace_span *ret_field,
                         bool *ret_more)
{
    struct fm_trace_span rest = fm_trace_span_trim(*line);
    if (rest.length > 0 && rest.start[0] == '"') {
        size_t at = 1;
        while (at < rest.length &&
               (rest.start[at] != '"' || (at + 1 < rest.length && rest.start[at + 1] == '"'))) {
            at += rest.start[at] == '"' ? 2 : 1;
        }
        if (at >= rest.length) {
            return false;
        }
        *ret_field = fm_trace_span_trim((struct fm_trace_span){rest.start + 1, at - 1});
        rest =
            fm_trace_span_trim((struct fm_trace_span){rest.start + at + 1, rest.length - at - 1});
        if (rest.length > 0 && rest.start[0] != ',') {
            return false;
        }
    } else {
        const char *comma = rest.length > 0 ? memchr(rest.start, ',', rest.length) : NULL;
        size_t length = comma == NULL ? rest.length : (size_t)(comma - rest.start);
        *ret_field = fm_trace_span_trim((struct fm_trace_span){rest.start, length});
        rest = (struct fm_trace_span){rest.start + length, rest.length - length};
    }
    *ret_more = rest.length > 0;
    *line = *ret_more ? (struct fm_trace_span){rest.start + 1, rest.length - 1} : rest;
    return true;
}

bool fm_trace_span_is(struct fm_trace_span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.start, text, span.length) == 0;
}
