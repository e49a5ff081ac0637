/*
 * The Prometheus text format. See prometheus.h.
 */
#include "core/stats/prometheus.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
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

static void append_labels(struct fm_text *text, struct fm_prometheus_labels labels,
                          const char *bound)
{
    FM_ASSERT(labels.count <= FM_PROMETHEUS_LABELS_MAX);
    if (labels.count == 0 && bound == NULL) {
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
    if (bound != NULL) {
        fm_text_append_string(text, labels.count > 0 ? ",le=\"" : "le=\"");
        fm_text_append_string(text, bound);
        fm_text_append_char(text, '"');
    }
    fm_text_append_char(text, '}');
}

static void append_sample(struct fm_text *text, const struct fm_prometheus_family *family,
                          const char *suffix, struct fm_prometheus_labels labels, const char *bound,
                          const char *value)
{
    fm_text_append_string(text, family->name);
    fm_text_append_string(text, suffix);
    append_labels(text, labels, bound);
    fm_text_append_char(text, ' ');
    fm_text_append_string(text, value);
    fm_text_append_char(text, '\n');
}

static const char *format_uint(uint64_t value, char text[NUMBER_SIZE])
{
    (void)snprintf(text, NUMBER_SIZE, "%" PRIu64, value);
    return text;
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
    append_sample(samples_find(page, family), family, "", labels, NULL, format_uint(value, number));
}

void fm_prometheus_number(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                          struct fm_prometheus_labels labels, double value)
{
    char number[NUMBER_SIZE];
    FM_ASSERT(family->type != FM_PROMETHEUS_HISTOGRAM);
    append_sample(samples_find(page, family), family, "", labels, NULL,
                  format_number(value, number));
}

static void append_histogram_end(struct fm_text *text, const struct fm_prometheus_family *family,
                                 struct fm_prometheus_labels labels, double sum, uint64_t count)
{
    char number[NUMBER_SIZE];
    append_sample(text, family, "_bucket", labels, "+Inf", format_uint(count, number));
    append_sample(text, family, "_sum", labels, NULL, format_number(sum, number));
    append_sample(text, family, "_count", labels, NULL, format_uint(count, number));
}

void fm_prometheus_histogram(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                             struct fm_prometheus_labels labels,
                             const struct fm_histogram_totals *totals, const uint64_t *bounds_ns,
                             uint32_t bound_count)
{
    char bound[NUMBER_SIZE];
    char number[NUMBER_SIZE];
    struct fm_text *text = samples_find(page, family);
    FM_ASSERT(family->type == FM_PROMETHEUS_HISTOGRAM && bound_count <= FM_PROMETHEUS_BOUNDS_MAX);
    for (uint32_t i = 0; i < bound_count; i++) {
        append_sample(text, family, "_bucket", labels,
                      format_number((double)bounds_ns[i] / 1e9, bound),
                      format_uint(fm_histogram_totals_at_most(totals, bounds_ns[i]), number));
    }
    append_histogram_end(text, family, labels, (double)totals->sum_ns / 1e9, totals->count);
}

void fm_prometheus_histogram_counts(struct fm_prometheus *page,
                                    const struct fm_prometheus_family *family,
                                    struct fm_prometheus_labels labels, const uint64_t *bounds,
                                    const uint64_t *cumulative, uint32_t bound_count, uint64_t sum,
                                    uint64_t count)
{
    char bound[NUMBER_SIZE];
    char number[NUMBER_SIZE];
    struct fm_text *text = samples_find(page, family);
    FM_ASSERT(family->type == FM_PROMETHEUS_HISTOGRAM && bound_count <= FM_PROMETHEUS_BOUNDS_MAX);
    for (uint32_t i = 0; i < bound_count; i++) {
        append_sample(text, family, "_bucket", labels, format_uint(bounds[i], bound),
                      format_uint(cumulative[i], number));
    }
    append_histogram_end(text, family, labels, (double)sum, count);
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
