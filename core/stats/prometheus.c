/*
 * The Prometheus text format. See prometheus.h.
 */
#include "core/stats/prometheus.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/proto/decimal.h"
#include "core/util/assert.h"

#define NUMBER_SIZE 48

void fm_prometheus_deinit(struct fm_prometheus *page)
{
    for (uint32_t i = 0; i < page->count; i++) {
        fm_text_deinit(&page->samples[i]);
    }
    *page = (struct fm_prometheus){0};
}

/* The text of a family's samples. Callers mostly add to the family added to last or the next one,
 * but a search over at most some hundred pointers is nothing beside formatting. */
static struct fm_text *samples_find(struct fm_prometheus *page,
                                    const struct fm_prometheus_family *family)
{
    for (uint32_t i = 0; i < page->count; i++) {
        if (page->families[i] == family) {
            return &page->samples[i];
        }
    }
    FM_ASSERT(page->count < FM_PROMETHEUS_FAMILIES_MAX);
    page->families[page->count] = family;
    return &page->samples[page->count++];
}

/* Backslash and newline are escaped; in label values quotes, too. */
static void append_escaped(struct fm_text *text, const char *string, bool quotes)
{
    const char *from = string;
    for (const char *at = string;; at++) {
        const char *escaped = *at == '\\'            ? "\\\\"
                              : *at == '\n'          ? "\\n"
                              : *at == '"' && quotes ? "\\\""
                                                     : NULL;
        if (escaped != NULL || *at == '\0') {
            fm_text_append(text, from, (size_t)(at - from));
            from = at + 1;
        }
        if (*at == '\0') {
            return;
        }
        if (escaped != NULL) {
            fm_text_append_string(text, escaped);
        }
    }
}

/* With `open` the last brace is left to the caller, who adds a label. */
static void append_labels(struct fm_text *text, struct fm_prometheus_labels labels, bool open)
{
    FM_ASSERT(labels.count <= FM_PROMETHEUS_LABELS_MAX);
    if (labels.count == 0 && !open) {
        return;
    }
    fm_text_append_char(text, '{');
    for (uint32_t i = 0; i < labels.count; i++) {
        if (i > 0) {
            fm_text_append_char(text, ',');
        }
        fm_text_append_string(text, labels.items[i].name);
        fm_text_append_string(text, "=\"");
        append_escaped(text, labels.items[i].value, true);
        fm_text_append_char(text, '"');
    }
    if (open) {
        fm_text_append_string(text, labels.count > 0 ? ",le=\"" : "le=\"");
    } else {
        fm_text_append_char(text, '}');
    }
}

static void append_sample(struct fm_text *text, const struct fm_prometheus_family *family,
                          const char *suffix, struct fm_prometheus_labels labels, const char *value)
{
    fm_text_append_string(text, family->name);
    fm_text_append_string(text, suffix);
    append_labels(text, labels, false);
    fm_text_append_char(text, ' ');
    fm_text_append_string(text, value);
    fm_text_append_char(text, '\n');
}

/* Some ten thousand numbers a page: snprintf would be half of its time. */
static const char *format_uint(uint64_t value, char text[NUMBER_SIZE])
{
    char *at = text + NUMBER_SIZE - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return at;
}

static const char *format_number(double value, char text[NUMBER_SIZE])
{
    static_assert(NUMBER_SIZE >= FM_DECIMAL_SIZE, "decimal.h says how long a number gets");
    if (isnan(value)) {
        return "NaN";
    }
    if (isinf(value)) {
        return value > 0 ? "+Inf" : "-Inf";
    }
    text[fm_decimal_write_double(value, text)] = '\0';
    return text;
}

void fm_prometheus_uint(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                        struct fm_prometheus_labels labels, uint64_t value)
{
    char number[NUMBER_SIZE];
    FM_ASSERT(family->type != FM_PROMETHEUS_HISTOGRAM);
    append_sample(samples_find(page, family), family, "", labels, format_uint(value, number));
}

void fm_prometheus_number(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                          struct fm_prometheus_labels labels, double value)
{
    char number[NUMBER_SIZE];
    FM_ASSERT(family->type != FM_PROMETHEUS_HISTOGRAM);
    append_sample(samples_find(page, family), family, "", labels, format_number(value, number));
}

/* The beginning of all buckets of a histogram is the same: it is made once and copied. */
struct bucket_writer {
    struct fm_text *text;
    size_t prefix_at; /* within text: the first bucket's own beginning */
    size_t prefix_length;
};

static void bucket_append(struct bucket_writer *writer, const char *bound, uint64_t count)
{
    char number[NUMBER_SIZE];
    struct fm_text *text = writer->text;
    if (text->length > writer->prefix_at + writer->prefix_length) {
        char *room = fm_text_reserve(text, writer->prefix_length);
        if (room == NULL) {
            return;
        }
        memcpy(room, text->data + writer->prefix_at, writer->prefix_length);
    }
    fm_text_append_string(text, bound);
    fm_text_append(text, "\"} ", 3);
    fm_text_append_string(text, format_uint(count, number));
    fm_text_append_char(text, '\n');
}

static struct bucket_writer buckets_begin(struct fm_text *text,
                                          const struct fm_prometheus_family *family,
                                          struct fm_prometheus_labels labels)
{
    struct bucket_writer writer = {.text = text, .prefix_at = text->length};
    fm_text_append_string(text, family->name);
    fm_text_append_string(text, "_bucket");
    append_labels(text, labels, true);
    writer.prefix_length = text->length - writer.prefix_at;
    return writer;
}

static void buckets_end(struct bucket_writer *writer, const struct fm_prometheus_family *family,
                        struct fm_prometheus_labels labels, double sum, uint64_t count)
{
    char number[NUMBER_SIZE];
    bucket_append(writer, "+Inf", count);
    append_sample(writer->text, family, "_sum", labels, format_number(sum, number));
    append_sample(writer->text, family, "_count", labels, format_uint(count, number));
}

void fm_prometheus_histogram(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                             struct fm_prometheus_labels labels,
                             const struct fm_histogram_totals *totals, const uint64_t *bounds_ns,
                             uint32_t bound_count)
{
    char bound[NUMBER_SIZE];
    uint64_t cumulative[FM_PROMETHEUS_BOUNDS_MAX];
    struct fm_text *text = samples_find(page, family);
    FM_ASSERT(family->type == FM_PROMETHEUS_HISTOGRAM && bound_count <= FM_PROMETHEUS_BOUNDS_MAX);
    struct bucket_writer writer = buckets_begin(text, family, labels);
    fm_histogram_totals_at_most(totals, bounds_ns, bound_count, cumulative);
    for (uint32_t i = 0; i < bound_count; i++) {
        bucket_append(&writer, format_number((double)bounds_ns[i] / 1e9, bound), cumulative[i]);
    }
    buckets_end(&writer, family, labels, (double)totals->sum_ns / 1e9, totals->count);
}

void fm_prometheus_histogram_counts(struct fm_prometheus *page,
                                    const struct fm_prometheus_family *family,
                                    struct fm_prometheus_labels labels, const uint64_t *bounds,
                                    const uint64_t *cumulative, uint32_t bound_count, uint64_t sum,
                                    uint64_t count)
{
    char bound[NUMBER_SIZE];
    struct fm_text *text = samples_find(page, family);
    FM_ASSERT(family->type == FM_PROMETHEUS_HISTOGRAM && bound_count <= FM_PROMETHEUS_BOUNDS_MAX);
    struct bucket_writer writer = buckets_begin(text, family, labels);
    for (uint32_t i = 0; i < bound_count; i++) {
        bucket_append(&writer, format_uint(bounds[i], bound), cumulative[i]);
    }
    buckets_end(&writer, family, labels, (double)sum, count);
}

void fm_prometheus_write(const struct fm_prometheus *page, struct fm_text *text)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (uint32_t i = 0; i < page->count; i++) {
        const struct fm_prometheus_family *family = page->families[i];
        fm_text_append_format(text, "# HELP %s ", family->name);
        append_escaped(text, family->help, false);
        fm_text_append_format(text, "\n# TYPE %s %s\n", family->name, types[family->type]);
        fm_text_append(text, page->samples[i].data, page->samples[i].length);
        text->failed = text->failed || page->samples[i].failed;
    }
}
