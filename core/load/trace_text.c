/*
 * Trace files, line by line. See trace_text.h. Pure.
 */
#include "core/load/trace_text.h"

#include <string.h>

#include "core/load/trace_fields.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"

struct parser {
    const struct fm_trace_text_options *options;
    uint64_t times_max;
    struct fm_trace_span rest;
    uint64_t line;         /* of the line in hand, from 1 */
    size_t column;         /* index of the column with the times */
    size_t header_columns; /* 0: the header is still to come */
    uint64_t *times_ns;
    uint64_t count;
    uint64_t capacity;
    struct fm_error *reterr;
};

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

static int take_time(struct parser *parser, struct fm_trace_span span)
{
    const char *name = parser->options->name;
    unsigned long long line = parser->line;
    uint64_t time_ns = 0;
    switch (fm_trace_read_time(span, &time_ns)) {
    case FM_TRACE_TIME_GOOD:
        break;
    case FM_TRACE_TIME_TOO_LARGE:
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: \"%.*s\" is too late: times are in seconds, up to 1.8e10",
                            name, line, fm_trace_span_shown(span), span.start);
    case FM_TRACE_TIME_NO_NUMBER:
        return fm_error_set(
            parser->reterr, FM_EINVAL,
            "%s:%llu: \"%.*s\" is not a time in seconds, 0 or above, such as 12.5%s", name, line,
            fm_trace_span_shown(span), span.start,
            parser->options->column == NULL && memchr(span.start, ',', span.length) != NULL
                ? "; of a CSV file, name the column with the times"
                : "");
    }
    if (!parser->options->any_order && parser->count > 0 &&
        time_ns < parser->times_ns[parser->count - 1]) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: \"%.*s\" is before the time in front of it; sort the trace",
                            name, line, fm_trace_span_shown(span), span.start);
    }
    return add(parser, time_ns);
}

static int bad_quotes(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_EINVAL,
                        "%s:%llu: a field's double quotes are not closed, or not followed by a "
                        "comma; a field ends on its line",
                        parser->options->name, (unsigned long long)parser->line);
}

static int take_header(struct parser *parser, struct fm_trace_span line)
{
    const char *wanted = parser->options->column;
    struct fm_trace_span whole = line;
    struct fm_trace_span field = {0};
    size_t found = 0;
    for (bool more = true; more; parser->header_columns++) {
        if (!fm_trace_take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        if (field.length == strlen(wanted) && memcmp(field.start, wanted, field.length) == 0) {
            parser->column = parser->header_columns;
            found++;
        }
    }
    if (found != 1) {
        return fm_error_set(
            parser->reterr, FM_EINVAL, "%s:%llu: %s column is named \"%s\"; the header is \"%.*s\"",
            parser->options->name, (unsigned long long)parser->line,
            found == 0 ? "no" : "more than one", wanted, fm_trace_span_shown(whole), whole.start);
    }
    return 0;
}

static int take_row(struct parser *parser, struct fm_trace_span line)
{
    struct fm_trace_span field = {0};
    struct fm_trace_span time = {0};
    size_t columns = 0;
    for (bool more = true; more; columns++) {
        if (!fm_trace_take_field(&line, &field, &more)) {
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

static int take_line(struct parser *parser, struct fm_trace_span line)
{
    line = fm_trace_span_trim(line);
    if (line.length == 0 || line.start[0] == '#') {
        return 0;
    }
    if (parser->options->column == NULL) {
        const char *comment = memchr(line.start, '#', line.length);
        line.length = comment == NULL ? line.length : (size_t)(comment - line.start);
        return take_time(parser, fm_trace_span_trim(line));
    }
    return parser->header_columns == 0 ? take_header(parser, line) : take_row(parser, line);
}

static int parse(struct parser *parser)
{
    struct fm_trace_span line = {0};
    while (fm_trace_take_line(&parser->rest, &line)) {
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
