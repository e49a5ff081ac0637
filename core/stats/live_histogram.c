/*
 * What is asked of live histograms. See live_histogram.h.
 */
#include "core/stats/live_histogram.h"

uint64_t fm_live_histogram_edge_ns(uint32_t index)
{
    uint32_t octave = index / FM_LIVE_HISTOGRAM_STEPS + FM_LIVE_HISTOGRAM_SHIFT;
    uint64_t step = index % FM_LIVE_HISTOGRAM_STEPS;
    return (FM_LIVE_HISTOGRAM_STEPS + step) << (octave - 3);
}

void fm_histogram_totals_add_live(struct fm_histogram_totals *totals,
                                  const struct fm_live_histogram *histogram)
{
    totals->sum_ns += fm_live_count_read(&histogram->sum_ns);
    for (uint32_t i = 0; i < FM_LIVE_HISTOGRAM_BUCKETS; i++) {
        uint64_t here = fm_live_count_read(&histogram->buckets[i]);
        totals->buckets[i] += here;
        totals->count += here;
    }
}

void fm_histogram_totals_add(struct fm_histogram_totals *totals,
                             const struct fm_histogram_totals *other)
{
    totals->count += other->count;
    totals->sum_ns += other->sum_ns;
    for (uint32_t i = 0; i < FM_LIVE_HISTOGRAM_BUCKETS; i++) {
        totals->buckets[i] += other->buckets[i];
    }
}

static uint64_t difference(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

void fm_histogram_totals_subtract(struct fm_histogram_totals *totals,
                                  const struct fm_histogram_totals *before)
{
    totals->sum_ns = difference(totals->sum_ns, before->sum_ns);
    totals->count = 0;
    for (uint32_t i = 0; i < FM_LIVE_HISTOGRAM_BUCKETS; i++) {
        totals->buckets[i] = difference(totals->buckets[i], before->buckets[i]);
        totals->count += totals->buckets[i];
    }
}

uint64_t fm_histogram_totals_mean_ns(const struct fm_histogram_totals *totals)
{
    return totals->count > 0 ? totals->sum_ns / totals->count : 0;
}

uint64_t fm_histogram_totals_quantile_ns(const struct fm_histogram_totals *totals,
                                         uint32_t permille)
{
    if (totals->count == 0) {
        return 0;
    }
    /* The rank of the one asked for, from 1. */
    uint64_t rank =
        (totals->count / 1000) * permille + ((totals->count % 1000) * permille + 999) / 1000;
    rank = rank > 0 ? rank : 1;
    uint64_t before = 0;
    for (uint32_t i = 0; i < FM_LIVE_HISTOGRAM_BUCKETS; i++) {
        uint64_t here = totals->buckets[i];
        if (before + here >= rank) {
            uint64_t low_ns = fm_live_histogram_edge_ns(i);
            uint64_t width_ns = fm_live_histogram_edge_ns(i + 1) - low_ns;
            return low_ns + (uint64_t)((double)width_ns * (double)(rank - before) / (double)here);
        }
        before += here;
    }
    return fm_live_histogram_edge_ns(FM_LIVE_HISTOGRAM_BUCKETS);
}

void fm_histogram_totals_at_most(const struct fm_histogram_totals *totals,
                                 const uint64_t *bounds_ns, uint32_t bound_count,
                                 uint64_t *ret_counts)
{
    uint64_t sum = 0;
    uint32_t i = 0;
    for (uint32_t at = 0; at < bound_count; at++) {
        while (i < FM_LIVE_HISTOGRAM_BUCKETS && fm_live_histogram_edge_ns(i + 1) <= bounds_ns[at]) {
            sum += totals->buckets[i++];
        }
        ret_counts[at] = sum;
        uint64_t low_ns = i == 0 ? 0 : fm_live_histogram_edge_ns(i);
        if (i < FM_LIVE_HISTOGRAM_BUCKETS && totals->buckets[i] > 0 && low_ns < bounds_ns[at]) {
            double width_ns = (double)(fm_live_histogram_edge_ns(i + 1) - low_ns);
            double part = (double)(bounds_ns[at] - low_ns) / width_ns;
            ret_counts[at] += (uint64_t)((double)totals->buckets[i] * part);
        }
    }
}
