/*
 * What is asked of a histogram of durations. See log_histogram.h.
 */
#include "core/stats/log_histogram.h"

uint64_t fm_log_histogram_edge_ns(uint32_t index)
{
    uint32_t octave = index / FM_LOG_HISTOGRAM_STEPS + FM_LOG_HISTOGRAM_SHIFT;
    uint64_t step = index % FM_LOG_HISTOGRAM_STEPS;
    return (FM_LOG_HISTOGRAM_STEPS + step) << (octave - 5);
}

void fm_log_histogram_merge(struct fm_log_histogram *histogram,
                            const struct fm_log_histogram *other)
{
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    histogram->max_ns = other->max_ns > histogram->max_ns ? other->max_ns : histogram->max_ns;
    for (uint32_t i = 0; i < FM_LOG_HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] += other->buckets[i];
    }
}

uint64_t fm_log_histogram_mean_ns(const struct fm_log_histogram *histogram)
{
    return histogram->count > 0 ? histogram->sum_ns / histogram->count : 0;
}

uint64_t fm_log_histogram_quantile_ns(const struct fm_log_histogram *histogram, uint32_t permille)
{
    if (histogram->count == 0) {
        return 0;
    }
    /* The rank of the one asked for, from 1. */
    uint64_t rank =
        (histogram->count / 1000) * permille + ((histogram->count % 1000) * permille + 999) / 1000;
    rank = rank > 0 ? rank : 1;
    uint64_t before = 0;
    for (uint32_t i = 0; i < FM_LOG_HISTOGRAM_BUCKETS; i++) {
        uint64_t here = histogram->buckets[i];
        if (before + here >= rank) {
            uint64_t low_ns = fm_log_histogram_edge_ns(i);
            uint64_t width_ns = fm_log_histogram_edge_ns(i + 1) - low_ns;
            uint64_t value_ns =
                low_ns + (uint64_t)((double)width_ns * (double)(rank - before) / (double)here);
            return value_ns < histogram->max_ns ? value_ns : histogram->max_ns;
        }
        before += here;
    }
    return histogram->max_ns;
}
