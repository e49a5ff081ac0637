/*
 * The fine histogram. See fine_histogram.h.
 */
#include "core/stats/fine_histogram.h"

#include <math.h>

void fm_fine_histogram_add(struct fm_fine_histogram *histogram, uint64_t value_ns, uint64_t times)
{
    double value = (double)value_ns;
    if (times == 0) {
        return;
    }
    histogram->min_ns =
        histogram->count == 0 || value_ns < histogram->min_ns ? value_ns : histogram->min_ns;
    histogram->max_ns = value_ns > histogram->max_ns ? value_ns : histogram->max_ns;
    histogram->count += times;
    histogram->sum_ns += value * (double)times;
    histogram->squares_ns2 += value * value * (double)times;
    histogram->buckets[fm_fine_histogram_index(value_ns)] += times;
}

uint64_t fm_fine_histogram_edge_ns(uint32_t index)
{
    uint32_t octave = index / FM_FINE_HISTOGRAM_STEPS;
    uint64_t step = index % FM_FINE_HISTOGRAM_STEPS;
    return octave == 0 ? step : (FM_FINE_HISTOGRAM_STEPS + step) << (octave - 1);
}

void fm_fine_histogram_merge(struct fm_fine_histogram *histogram,
                             const struct fm_fine_histogram *other)
{
    if (other->count == 0) {
        return;
    }
    histogram->min_ns = histogram->count == 0 || other->min_ns < histogram->min_ns
                            ? other->min_ns
                            : histogram->min_ns;
    histogram->max_ns = other->max_ns > histogram->max_ns ? other->max_ns : histogram->max_ns;
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    histogram->squares_ns2 += other->squares_ns2;
    for (uint32_t i = 0; i < FM_FINE_HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] += other->buckets[i];
    }
}

double fm_fine_histogram_mean_ns(const struct fm_fine_histogram *histogram)
{
    return histogram->count > 0 ? histogram->sum_ns / (double)histogram->count : 0;
}

double fm_fine_histogram_variation(const struct fm_fine_histogram *histogram)
{
    double mean = fm_fine_histogram_mean_ns(histogram);
    if (!(mean > 0)) {
        return 0;
    }
    double variance = histogram->squares_ns2 / (double)histogram->count - mean * mean;
    return sqrt(fmax(variance, 0)) / mean;
}

/* The middle of a bucket, and never beyond what was there. */
double fm_fine_histogram_quantile_ns(const struct fm_fine_histogram *histogram, double q)
{
    double rank = ceil(fmin(fmax(q, 0), 1) * (double)histogram->count);
    uint64_t wanted = rank >= 1 ? (uint64_t)rank : 1;
    uint64_t below = 0;
    if (histogram->count == 0) {
        return 0;
    }
    if (wanted >= histogram->count) {
        return (double)histogram->max_ns;
    }
    for (uint32_t i = 0; i < FM_FINE_HISTOGRAM_BUCKETS; i++) {
        uint64_t here = histogram->buckets[i];
        if (below + here >= wanted) {
            double from = (double)fm_fine_histogram_edge_ns(i);
            double width = (double)fm_fine_histogram_edge_ns(i + 1) - from;
            double value = width > 1 ? from + width / 2 : from;
            return fmin(fmax(value, (double)histogram->min_ns), (double)histogram->max_ns);
        }
        below += here;
    }
    return (double)histogram->max_ns;
}

uint64_t fm_fine_histogram_below(const struct fm_fine_histogram *histogram, uint64_t value_ns)
{
    uint32_t last = fm_fine_histogram_index(value_ns);
    uint64_t count = 0;
    if (value_ns >= histogram->max_ns) {
        return histogram->count;
    }
    for (uint32_t i = 0; i <= last; i++) {
        count += histogram->buckets[i];
    }
    return count;
}
