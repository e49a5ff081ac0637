/*
 * Trace files, line by line. See trace_text.h. Pure.
 */
#include "core/load/trace_text.h"

#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"

/* A piece of the text. */
struct span {
    const char *start;
    size_t length;
};

struct parser {
    const struct fm_trace_text_options *options;
    uint64_t times_max;
    struct span rest;
    uint64_t line;         /* of the line in hand, from 1 */
    size_t column;         /* index of the column with the times */
    size_t header_columns; /* 0: the header is still to come */
    uint64_t *times_ns;
    uint64_t count;
    uint64_t capacity;
    struct fm_error *reterr;
};

/* For "%.*s" of text from outside: long enough to be recognised. */
static int shown(struct span span)
{
    return span.length > 60 ? 60 : (int)span.length;
}

static bool blank(char character)
{
    return character == ' ' || character == '\t';
}

static struct span trim(struct span span)
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
static bool read_exponent(struct span span, size_t *position, long *ret_exponent)
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

enum time_result { TIME_GOOD, TIME_NO_NUMBER, TIME_TOO_LARGE };

/*
 * Seconds to nanoseconds, in integers: the digits, without their point, are followed up to the one
 * of the nanoseconds; the digit behind it rounds.
 */
static enum time_result read_time(struct span span, uint64_t *ret_ns)
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
            return TIME_NO_NUMBER;
        }
    }
    if (digits == 0 || at != span.length) {
        return TIME_NO_NUMBER;
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
            return TIME_TOO_LARGE;
        } else {
            value = value * 10 + number;
        }
        taken++;
    }
    for (; taken < wanted && value != 0; taken++) {
        if (value > UINT64_MAX / 10) {
            return TIME_TOO_LARGE;
        }
        value *= 10;
    }
    /* The last value means "never" to who reads the times. */
    if (value >= UINT64_MAX - 1) {
        return TIME_TOO_LARGE;
    }
    *ret_ns = value + (round_up ? 1 : 0);
    return TIME_GOOD;
}

static int add(struct parser *parser, uint64_t time_ns)
{
    if (parser->count == parser->times_max) {
        return fm_error_set(parser->reterr, FM_ETOOLARGE,
                            "%s:%llu: more than the limit of %llu times; cut the trace",
                            parser->options->name, (unsigned long long)parser->line,
                            (unsigned long long)parser->times_max);
    }
    if (parser->count == parser->capacity) {
        uint64_t capacity = parser->capacity == 0 ? 1024 : parser->capacity * 2;
        uint64_t *grown = fm_realloc(parser->times_ns, capacity * sizeof(*grown));
        if (grown == NULL) {
            return fm_error_set(parser->reterr, FM_ENOMEM,
                                "%s:%llu: out of memory for more than %llu times",
                                parser->options->name, (unsigned long long)parser->line,
                                (unsigned long long)parser->count);
        }
        parser->times_ns = grown;
        parser->capacity = capacity;
    }
    parser->times_ns[parser->count++] = time_ns;
    return 0;
}

static int take_time(struct parser *parser, struct span span)
{
    const char *name = parser->options->name;
    unsigned long long line = parser->line;
    uint64_t time_ns = 0;
    switch (read_time(span, &time_ns)) {
    case TIME_GOOD:
        break;
    case TIME_TOO_LARGE:
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: \"%.*s\" is too late: times are in seconds, up to 1.8e10",
                            name, line, shown(span), span.start);
    case TIME_NO_NUMBER:
        return fm_error_set(
            parser->reterr, FM_EINVAL,
            "%s:%llu: \"%.*s\" is not a time in seconds, 0 or above, such as 12.5%s", name, line,
            shown(span), span.start,
            parser->options->column == NULL && memchr(span.start, ',', span.length) != NULL
                ? "; of a CSV file, name the column with the times"
                : "");
    }
    if (!parser->options->any_order && parser->count > 0 &&
        time_ns < parser->times_ns[parser->count - 1]) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: \"%.*s\" is before the time in front of it; sort the trace",
                            name, line, shown(span), span.start);
    }
    return add(parser, time_ns);
}

/*
 * Takes the next field, trimmed, off a CSV line: up to a comma, or in double quotes (returned
 * without them; doubled ones inside stay as they are, no time and no sensible column has any).
 * False when quotes are not closed or text follows them. *ret_more: a comma follows.
 */
static bool take_field(struct span *line, struct span *ret_field, bool *ret_more)
{
    struct span rest = trim(*line);
    if (rest.length > 0 && rest.start[0] == '"') {
        size_t at = 1;
        while (at < rest.length &&
               (rest.start[at] != '"' || (at + 1 < rest.length && rest.start[at + 1] == '"'))) {
            at += rest.start[at] == '"' ? 2 : 1;
        }
        if (at >= rest.length) {
            return false;
        }
        *ret_field = trim((struct span){rest.start + 1, at - 1});
        rest = trim((struct span){rest.start + at + 1, rest.length - at - 1});
        if (rest.length > 0 && rest.start[0] != ',') {
            return false;
        }
    } else {
        const char *comma = rest.length > 0 ? memchr(rest.start, ',', rest.length) : NULL;
        size_t length = comma == NULL ? rest.length : (size_t)(comma - rest.start);
        *ret_field = trim((struct span){rest.start, length});
        rest = (struct span){rest.start + length, rest.length - length};
    }
    *ret_more = rest.length > 0;
    *line = *ret_more ? (struct span){rest.start + 1, rest.length - 1} : rest;
    return true;
}

static int bad_quotes(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_EINVAL,
                        "%s:%llu: a field's double quotes are not closed, or not followed by a "
                        "comma; a field ends on its line",
                        parser->options->name, (unsigned long long)parser->line);
}

static int take_header(struct parser *parser, struct span line)
{
    const char *wanted = parser->options->column;
    struct span whole = line;
    struct span field = {0};
    size_t found = 0;
    for (bool more = true; more; parser->header_columns++) {
        if (!take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        if (field.length == strlen(wanted) && memcmp(field.start, wanted, field.length) == 0) {
            parser->column = parser->header_columns;
            found++;
        }
    }
    if (found != 1) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: %s column is named \"%s\"; the header is \"%.*s\"",
                            parser->options->name, (unsigned long long)parser->line,
                            found == 0 ? "no" : "more than one", wanted, shown(whole), whole.start);
    }
    return 0;
}

static int take_row(struct parser *parser, struct span line)
{
    struct span field = {0};
    struct span time = {0};
    size_t columns = 0;
    for (bool more = true; more; columns++) {
        if (!take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        time = columns == parser->column ? field : time;
    }
    if (columns != parser->header_columns) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: %zu fields, but the header has %zu", parser->options->name,
                            (unsigned long long)parser->line, columns, parser->header_columns);
    }
    return take_time(parser, time);
}

static int take_line(struct parser *parser, struct span line)
{
    line = trim(line);
    if (line.length == 0 || line.start[0] == '#') {
        return 0;
    }
    if (parser->options->column == NULL) {
        const char *comment = memchr(line.start, '#', line.length);
        line.length = comment == NULL ? line.length : (size_t)(comment - line.start);
        return take_time(parser, trim(line));
    }
    return parser->header_columns == 0 ? take_header(parser, line) : take_row(parser, line);
}

static int parse(struct parser *parser)
{
    while (parser->rest.length > 0) {
        struct span *rest = &parser->rest;
        const char *end = memchr(rest->start, '\n', rest->length);
        size_t length = end == NULL ? rest->length : (size_t)(end - rest->start);
        struct span line = {rest->start, length};
        if (length > 0 && line.start[length - 1] == '\r') {
            line.length--;
        }
        size_t used = length + (end == NULL ? 0 : 1);
        *rest = (struct span){rest->start + used, rest->length - used};
        parser->line++;
        int status = take_line(parser, line);
        if (status != 0) {
            return status;
        }
    }
    if (parser->count == 0) {
        return fm_error_set(parser->reterr, FM_EINVAL, "%s: holds no times", parser->options->name);
    }
    return 0;
}

int fm_trace_text_parse(const struct fm_trace_text_options *options, const char *text, size_t size,
                        uint64_t **ret_times_ns, uint64_t *ret_count, struct fm_error *reterr)
{
    *ret_times_ns = NULL;
    *ret_count = 0;
    size_t skipped = size > 0 ? fm_text_after_bom(text, size) : 0;
    uint64_t limit = options->times_max;
    struct parser parser = {
        .options = options,
        .times_max =
            limit == 0 || limit > FM_TRACE_TEXT_TIMES_MAX ? FM_TRACE_TEXT_TIMES_MAX : limit,
        .rest = {size > 0 ? text + skipped : "", size - skipped},
        .reterr = reterr,
    };
    int status = parse(&parser);
    if (status != 0) {
        fm_free(parser.times_ns);
        return status;
    }
    uint64_t first_ns = options->from_first ? parser.times_ns[0] : 0;
    for (uint64_t i = 0; i < parser.count && first_ns != 0; i++) {
        parser.times_ns[i] -= first_ns;
    }
    *ret_times_ns = parser.times_ns;
    *ret_count = parser.count;
    return 0;
}
