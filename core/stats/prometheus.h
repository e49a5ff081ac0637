/*
 * The Prometheus text exposition format (version 0.0.4).
 *
 * Owns: the format: HELP and TYPE once for each family, all samples of a family together in
 * whatever order callers come to them, escaping, histograms with `le` bounds. Does not own: names
 * and numbers. Thread rule: one thread at a time for each object.
 */
#ifndef FM_CORE_STATS_PROMETHEUS_H
#define FM_CORE_STATS_PROMETHEUS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/stats/live_histogram.h"
#include "core/util/text.h"

#define FM_PROMETHEUS_TYPE         "text/plain; version=0.0.4; charset=utf-8"
#define FM_PROMETHEUS_FAMILIES_MAX 160u
#define FM_PROMETHEUS_LABELS_MAX   8u
#define FM_PROMETHEUS_BOUNDS_MAX   64u

enum fm_prometheus_type { FM_PROMETHEUS_COUNTER, FM_PROMETHEUS_GAUGE, FM_PROMETHEUS_HISTOGRAM };

/* A family: its names are literals or live as long as the page. */
struct fm_prometheus_family {
    const char *name;
    enum fm_prometheus_type type;
    const char *help;
};

struct fm_prometheus_label {
    const char *name; /* a literal */
    const char *value;
};

/* Labels of a sample: borrowed during the call. */
struct fm_prometheus_labels {
    const struct fm_prometheus_label *items;
    uint32_t count; /* at most FM_PROMETHEUS_LABELS_MAX */
};

/* Zero-initialise. */
struct fm_prometheus {
    const struct fm_prometheus_family *families[FM_PROMETHEUS_FAMILIES_MAX];
    struct fm_text samples[FM_PROMETHEUS_FAMILIES_MAX];
    uint32_t count;
};

void fm_prometheus_deinit(struct fm_prometheus *page);

/* A family is known by its address: use static ones. More than FM_PROMETHEUS_FAMILIES_MAX is a
 * programmer's error. */
void fm_prometheus_uint(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                        struct fm_prometheus_labels labels, uint64_t value);
/* NaN and infinities are written as the format has them. */
void fm_prometheus_number(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                          struct fm_prometheus_labels labels, double value);
/* In seconds: bounds_ns ascending; +Inf, _sum and _count follow. */
void fm_prometheus_histogram(struct fm_prometheus *page, const struct fm_prometheus_family *family,
                             struct fm_prometheus_labels labels,
                             const struct fm_histogram_totals *totals, const uint64_t *bounds_ns,
                             uint32_t bound_count);
/* With plain bounds: `cumulative[i]` values are at most bounds[i]. */
void fm_prometheus_histogram_counts(struct fm_prometheus *page,
                                    const struct fm_prometheus_family *family,
                                    struct fm_prometheus_labels labels, const uint64_t *bounds,
                                    const uint64_t *cumulative, uint32_t bound_count, uint64_t sum,
                                    uint64_t count);

/* Appends the page. Families without samples are left out. text->failed when memory ran out,
 * here or before. */
void fm_prometheus_write(const struct fm_prometheus *page, struct fm_text *text);

#endif
