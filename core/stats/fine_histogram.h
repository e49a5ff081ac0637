/*
 * A histogram of durations for measurements: 256 buckets an octave, so that a quantile is exact to
 * 0.2 %, from 1 ns to 73 minutes.
 *
 * Owns: counts, sum, extremes, and what is asked of them. Mergeable: merged histograms say what one
 * of all their durations would say. Durations beyond the last bucket count into it; the largest is
 * kept as it is. Does not own: what is measured; for what is counted all the time there is the
 * smaller log_histogram.h. Thread rule: pure; one thread at a time for each object.
 */
#ifndef FM_CORE_STATS_FINE_HISTOGRAM_H
#define FM_CORE_STATS_FINE_HISTOGRAM_H

#include <stdint.h>

#define FM_FINE_HISTOGRAM_BITS    8u /* below 2^8 ns a bucket is one nanosecond */
#define FM_FINE_HISTOGRAM_STEPS   (1u << FM_FINE_HISTOGRAM_BITS)
#define FM_FINE_HISTOGRAM_OCTAVES 34u
#define FM_FINE_HISTOGRAM_BUCKETS ((FM_FINE_HISTOGRAM_OCTAVES + 1) * FM_FINE_HISTOGRAM_STEPS)

/* Zero-initialise. */
struct fm_fine_histogram {
    uint64_t count;
    double sum_ns;
    double squares_ns2; /* sum of the squares */
    uint64_t min_ns;    /* of what was added, when count > 0 */
    uint64_t max_ns;
    uint64_t buckets[FM_FINE_HISTOGRAM_BUCKETS];
};

static inline uint32_t fm_fine_histogram_index(uint64_t value_ns)
{
    if (value_ns < FM_FINE_HISTOGRAM_STEPS) {
        return (uint32_t)value_ns;
    }
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(value_ns);
    uint32_t step =
        (uint32_t)(value_ns >> (octave - FM_FINE_HISTOGRAM_BITS)) & (FM_FINE_HISTOGRAM_STEPS - 1);
    uint32_t index = (octave - FM_FINE_HISTOGRAM_BITS + 1) * FM_FINE_HISTOGRAM_STEPS + step;
    return index < FM_FINE_HISTOGRAM_BUCKETS ? index : FM_FINE_HISTOGRAM_BUCKETS - 1;
}

/* `times` of the same. */
void fm_fine_histogram_add(struct fm_fine_histogram *histogram, uint64_t value_ns, uint64_t times);
/* The lower edge of a bucket; of FM_FINE_HISTOGRAM_BUCKETS: the upper edge of the last. */
uint64_t fm_fine_histogram_edge_ns(uint32_t index);
void fm_fine_histogram_merge(struct fm_fine_histogram *histogram,
                             const struct fm_fine_histogram *other);
/* 0 when nothing was added. */
double fm_fine_histogram_mean_ns(const struct fm_fine_histogram *histogram);
/* Standard deviation over the mean. */
double fm_fine_histogram_variation(const struct fm_fine_histogram *histogram);
/* The duration that the share `q`, 0 to 1, of all does not exceed: the smallest such one that was
 * added, to the width of its bucket. q = 1 is the largest. 0 when nothing was added. */
double fm_fine_histogram_quantile_ns(const struct fm_fine_histogram *histogram, double q);
/* How many were not above it, to the width of a bucket; beyond the last bucket's lower edge all of
 * it. */
uint64_t fm_fine_histogram_below(const struct fm_fine_histogram *histogram, uint64_t value_ns);

#endif
