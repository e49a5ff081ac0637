/*
 * Traces of Azure Functions. See azure_trace.h. Pure.
 */
#include "core/load/azure_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/load/trace_fields.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "core/util/text.h"

#define MINUTE_NS  UINT64_C(60000000000)
#define BEFORE     ((uint64_t)1 << 63) /* added to times that may be before 0 */
#define COUNT_MAX  UINT64_C(1000000000)
#define NAMES_2019 4u
#define NAMES_2021 4u

struct parser {
    const struct fm_azure_trace_options *options;
    uint64_t times_max;
    struct fm_trace_span rest;
    uint64_t line;    /* of the line in hand, from 1 */
    uint32_t minutes; /* of the header of 2019; 0: the header is still to come */
    bool header;      /* there was one */
    uint64_t rows;    /* chosen */
    uint64_t total;   /* invocations of the rows chosen */
    uint64_t counts[FM_AZURE_TRACE_MINUTES_MAX];
    uint64_t *times_ns;
    uint64_t capacity;
    struct fm_error *reterr;
};

static const char *const names_2019[NAMES_2019] = {"HashOwner", "HashApp", "HashFunction",
                                                   "Trigger"};
static const char *const names_2021[NAMES_2021] = {"app", "func", "end_timestamp", "duration"};

static int too_many(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_ETOOLARGE,
                        "%s:%llu: more than the limit of %llu invocations; choose one function, or "
                        "cut the trace",
                        parser->options->name, (unsigned long long)parser->line,
                        (unsigned long long)parser->times_max);
}

static int out_of_memory(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_ENOMEM, "%s: out of memory for %llu invocations",
                        parser->options->name, (unsigned long long)parser->total);
}

static int bad_quotes(const struct parser *parser)
{
    return fm_error_set(parser->reterr, FM_EINVAL,
                        "%s:%llu: a field's double quotes are not closed, or not followed by a "
                        "comma; a field ends on its line",
                        parser->options->name, (unsigned long long)parser->line);
}

static int bad_header(const struct parser *parser, size_t column, const char *wanted,
                      struct fm_trace_span found)
{
    return fm_error_set(parser->reterr, FM_EINVAL,
                        "%s:%llu: column %zu is \"%.*s\", must be \"%s\": the header is not that "
                        "of Azure's trace of %s",
                        parser->options->name, (unsigned long long)parser->line, column + 1,
                        fm_trace_span_shown(found), found.start, wanted,
                        parser->options->form == FM_AZURE_TRACE_2019 ? "2019" : "2021");
}

static int take_header(struct parser *parser, struct fm_trace_span line)
{
    bool by_minute = parser->options->form == FM_AZURE_TRACE_2019;
    const char *const *names = by_minute ? names_2019 : names_2021;
    size_t name_count = by_minute ? NAMES_2019 : NAMES_2021;
    size_t columns_max = name_count + (by_minute ? FM_AZURE_TRACE_MINUTES_MAX : 0);
    size_t columns = 0;
    for (bool more = true; more; columns++) {
        struct fm_trace_span field = {0};
        char minute[16];
        if (!fm_trace_take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        if (columns == columns_max) {
            return bad_header(parser, columns, "the end", field);
        }
        (void)snprintf(minute, sizeof minute, "%zu", columns + 1 - name_count);
        const char *wanted = columns < name_count ? names[columns] : minute;
        if (!fm_trace_span_is(field, wanted)) {
            return bad_header(parser, columns, wanted, field);
        }
    }
    size_t columns_min = name_count + (by_minute ? 1 : 0);
    if (columns < columns_min) {
        return bad_header(parser, columns,
                          by_minute && columns == name_count ? "1" : names[columns],
                          (struct fm_trace_span){"", 0});
    }
    parser->minutes = (uint32_t)(columns - name_count);
    parser->header = true;
    return 0;
}

static bool chosen(const char *wanted, struct fm_trace_span field)
{
    return wanted == NULL || fm_trace_span_is(field, wanted);
}

static int bad_columns(const struct parser *parser, size_t columns, size_t wanted)
{
    return fm_error_set(parser->reterr, FM_EINVAL, "%s:%llu: %s%zu fields, but the header has %zu",
                        parser->options->name, (unsigned long long)parser->line,
                        columns > wanted ? "more than " : "", columns > wanted ? wanted : columns,
                        wanted);
}

static int read_count(const struct parser *parser, struct fm_trace_span field, uint64_t *ret_count)
{
    uint64_t value = 0;
    bool good = field.length > 0;
    for (size_t i = 0; good && i < field.length; i++) {
        unsigned digit = (unsigned)(unsigned char)field.start[i] - '0';
        value = value * 10 + digit;
        good = digit <= 9 && value <= COUNT_MAX;
    }
    *ret_count = value;
    if (!good) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s:%llu: \"%.*s\" is not a count of invocations, from 0 to %llu",
                            parser->options->name, (unsigned long long)parser->line,
                            fm_trace_span_shown(field), field.start, (unsigned long long)COUNT_MAX);
    }
    return 0;
}

/* Rows that are not chosen are checked, too: a broken file is told whatever is asked of it. */
static int take_counts(struct parser *parser, struct fm_trace_span line)
{
    size_t wanted = NAMES_2019 + parser->minutes;
    bool counts = true;
    size_t columns = 0;
    for (bool more = true; more; columns++) {
        struct fm_trace_span field = {0};
        uint64_t count = 0;
        if (!fm_trace_take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        if (columns == wanted) {
            return bad_columns(parser, columns + 1, wanted);
        }
        if (columns < NAMES_2019) {
            counts = counts && (columns != 1 || chosen(parser->options->app, field)) &&
                     (columns != 2 || chosen(parser->options->function, field));
            continue;
        }
        int status = read_count(parser, field, &count);
        if (status != 0) {
            return status;
        }
        parser->counts[columns - NAMES_2019] += counts ? count : 0;
        parser->total += counts ? count : 0;
        if (parser->total > parser->times_max) {
            return too_many(parser);
        }
    }
    parser->rows += counts;
    return columns < wanted ? bad_columns(parser, columns, wanted) : 0;
}

static int read_seconds(const struct parser *parser, struct fm_trace_span field, const char *column,
                        uint64_t *ret_ns)
{
    enum fm_trace_time result = fm_trace_read_time(field, ret_ns);
    if (result == FM_TRACE_TIME_GOOD && *ret_ns < BEFORE) {
        return 0;
    }
    return fm_error_set(parser->reterr, FM_EINVAL,
                        "%s:%llu: %s \"%.*s\" is not a number of seconds, from 0 to 9.2e9",
                        parser->options->name, (unsigned long long)parser->line, column,
                        fm_trace_span_shown(field), field.start);
}

static int add(struct parser *parser, uint64_t time_ns)
{
    if (parser->total == parser->times_max) {
        return too_many(parser);
    }
    if (parser->total == parser->capacity) {
        uint64_t capacity = parser->capacity == 0 ? 1024 : parser->capacity * 2;
        uint64_t *grown = fm_realloc(parser->times_ns, capacity * sizeof *grown);
        if (grown == NULL) {
            return out_of_memory(parser);
        }
        parser->times_ns = grown;
        parser->capacity = capacity;
    }
    parser->times_ns[parser->total++] = time_ns;
    return 0;
}

static int take_invocation(struct parser *parser, struct fm_trace_span line)
{
    struct fm_trace_span fields[NAMES_2021] = {{0}};
    size_t columns = 0;
    for (bool more = true; more; columns++) {
        struct fm_trace_span field = {0};
        if (!fm_trace_take_field(&line, &field, &more)) {
            return bad_quotes(parser);
        }
        if (columns == NAMES_2021) {
            return bad_columns(parser, columns + 1, NAMES_2021);
        }
        fields[columns] = field;
    }
    if (columns < NAMES_2021) {
        return bad_columns(parser, columns, NAMES_2021);
    }
    uint64_t end_ns = 0;
    uint64_t duration_ns = 0;
    int status = read_seconds(parser, fields[2], names_2021[2], &end_ns);
    status = status == 0 ? read_seconds(parser, fields[3], names_2021[3], &duration_ns) : status;
    if (status != 0 || !chosen(parser->options->app, fields[0]) ||
        !chosen(parser->options->function, fields[1])) {
        return status;
    }
    parser->rows++;
    return add(parser, end_ns + BEFORE - duration_ns);
}

static int take_line(struct parser *parser, struct fm_trace_span line)
{
    line = fm_trace_span_trim(line);
    if (line.length == 0) {
        return 0;
    }
    if (!parser->header) {
        return take_header(parser, line);
    }
    return parser->options->form == FM_AZURE_TRACE_2019 ? take_counts(parser, line)
                                                        : take_invocation(parser, line);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* The counts of 2019 as times. */
static int draw_times(struct parser *parser)
{
    struct fm_random random;
    parser->times_ns = fm_alloc(parser->total * sizeof *parser->times_ns);
    if (parser->times_ns == NULL) {
        return out_of_memory(parser);
    }
    fm_random_init(&random, parser->options->seed);
    uint64_t *next = parser->times_ns;
    for (uint32_t minute = 0; minute < parser->minutes; minute++) {
        uint64_t count = parser->counts[minute];
        for (uint64_t i = 0; i < count; i++) {
            next[i] = minute * MINUTE_NS + fm_random_below(&random, MINUTE_NS);
        }
        if (count > 1) {
            qsort(next, count, sizeof *next, compare);
        }
        next += count;
    }
    return 0;
}

/* Nothing was found: why. */
static int nothing(const struct parser *parser)
{
    const struct fm_azure_trace_options *options = parser->options;
    if (!parser->header) {
        return fm_error_set(parser->reterr, FM_EINVAL,
                            "%s: is empty; it must begin with the header of Azure's trace",
                            options->name);
    }
    if (parser->rows == 0 && (options->app != NULL || options->function != NULL)) {
        return fm_error_set(parser->reterr, FM_EINVAL, "%s: no row is of %s%.80s%s%s%.80s",
                            options->name, options->app != NULL ? "application " : "",
                            options->app != NULL ? options->app : "",
                            options->app != NULL && options->function != NULL ? " and " : "",
                            options->function != NULL ? "function " : "",
                            options->function != NULL ? options->function : "");
    }
    return fm_error_set(parser->reterr, FM_EINVAL, "%s: holds no invocations%s", options->name,
                        parser->rows > 0 ? ": every count is 0" : "");
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
    if (parser->total == 0) {
        return nothing(parser);
    }
    if (parser->options->form == FM_AZURE_TRACE_2019) {
        return draw_times(parser);
    }
    qsort(parser->times_ns, parser->total, sizeof *parser->times_ns, compare);
    uint64_t zero_ns = parser->times_ns[0] < BEFORE ? parser->times_ns[0] : BEFORE;
    for (uint64_t i = 0; i < parser->total; i++) {
        parser->times_ns[i] -= zero_ns;
    }
    return 0;
}

int fm_azure_trace_parse(const struct fm_azure_trace_options *options, const char *text,
                         size_t size, uint64_t **ret_times_ns, uint64_t *ret_count,
                         struct fm_error *reterr)
{
    *ret_times_ns = NULL;
    *ret_count = 0;
    size_t skipped = size > 0 ? fm_text_after_bom(text, size) : 0;
    uint64_t limit = options->times_max;
    struct parser parser = {
        .options = options,
        .times_max =
            limit == 0 || limit > FM_AZURE_TRACE_TIMES_MAX ? FM_AZURE_TRACE_TIMES_MAX : limit,
        .rest = {size > 0 ? text + skipped : "", size - skipped},
        .reterr = reterr,
    };
    int status = parse(&parser);
    if (status != 0) {
        fm_free(parser.times_ns);
        return status;
    }
    uint64_t first_ns = options->from_first ? parser.times_ns[0] : 0;
    for (uint64_t i = 0; i < parser.total && first_ns != 0; i++) {
        parser.times_ns[i] -= first_ns;
    }
    *ret_times_ns = parser.times_ns;
    *ret_count = parser.total;
    return 0;
}
