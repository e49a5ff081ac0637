/*
 * A histogram of durations with equal relative width: 32 buckets an octave, from 1 us to 18
 * minutes.
 *
 * Owns: counts, sum, and what is asked of them: mean and quantiles. A quantile is exact to the
 * width of its bucket (3 %), read off by a straight line inside it. Durations below the first
 * bucket count into it, those above the last into that. Does not own: what is measured. Thread
 * rule: pure; one thread at a time for each object.
 */
#ifndef FM_CORE_STATS_LOG_HISTOGRAM_H
#define FM_CORE_STATS_LOG_HISTOGRAM_H

#include <stdint.h>

#define FM_LOG_HISTOGRAM_SHIFT   10u /* the first octave begins at 2^10 ns */
#define FM_LOG_HISTOGRAM_OCTAVES 30u
#define FM_LOG_HISTOGRAM_STEPS   32u
#define FM_LOG_HISTOGRAM_BUCKETS (FM_LOG_HISTOGRAM_OCTAVES * FM_LOG_HISTOGRAM_STEPS)

/* Zero-initialise. */
struct fm_log_histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint32_t buckets[FM_LOG_HISTOGRAM_BUCKETS];
};

static inline uint32_t fm_log_histogram_index(uint64_t value_ns)
{
    if (value_ns < UINT64_C(1) << FM_LOG_HISTOGRAM_SHIFT) {
        return 0;
    }
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(value_ns);
    uint32_t step = (uint32_t)(value_ns >> (octave - 5)) & (FM_LOG_HISTOGRAM_STEPS - 1);
    uint32_t index = (octave - FM_LOG_HISTOGRAM_SHIFT) * FM_LOG_HISTOGRAM_STEPS + step;
    return index < FM_LOG_HISTOGRAM_BUCKETS ? index : FM_LOG_HISTOGRAM_BUCKETS - 1;
}

static inline void fm_log_histogram_add(struct fm_log_histogram *histogram, uint64_t value_ns)
{
    histogram->count++;
    histogram->sum_ns += value_ns;
    histogram->max_ns = value_ns > histogram->max_ns ? value_ns : histogram->max_ns;
    histogram->buckets[fm_log_histogram_index(value_ns)]++;
}

/* The lower edge of a bucket; of FM_LOG_HISTOGRAM_BUCKETS: the upper edge of the last. */
uint64_t fm_log_histogram_edge_ns(uint32_t index);
void fm_log_histogram_merge(struct fm_log_histogram *histogram,
                            const struct fm_log_histogram *other);
/* 0 when nothing was added. */
uint64_t fm_log_histogram_mean_ns(const struct fm_log_histogram *histogram);
/* The duration that `permille` thousandths of all do not exceed; 0 when nothing was added. */
uint64_t fm_log_histogram_quantile_ns(const struct fm_log_histogram *histogram, uint32_t permille);

#endif
