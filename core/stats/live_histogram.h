/*
 * A histogram that one thread writes while others read it: 8 buckets an octave, no locks.
 *
 * Owns: the bucket counts of one writer, and plain totals that several writers' counts are added up
 * in. A quantile is exact to the width of its bucket (12.5 %), read off by a straight line inside
 * it. The count is the sum of the buckets, so a reader's copy is consistent in itself. Does not
 * own: what is measured. Thread rule: one thread adds to a live histogram; any thread adds it to
 * totals of its own meanwhile.
 *
 * Compare log_histogram.h: finer, for one thread. This one has 64-bit counts, because a server
 * that answers for months must not wrap.
 */
#ifndef FM_CORE_STATS_LIVE_HISTOGRAM_H
#define FM_CORE_STATS_LIVE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define FM_LIVE_HISTOGRAM_SHIFT   10u /* the first octave begins at 2^10: 1 us */
#define FM_LIVE_HISTOGRAM_OCTAVES 30u /* the last ends at 2^40 ns: 18 minutes */
#define FM_LIVE_HISTOGRAM_STEPS   8u
#define FM_LIVE_HISTOGRAM_BUCKETS (FM_LIVE_HISTOGRAM_OCTAVES * FM_LIVE_HISTOGRAM_STEPS)

/* A number that one thread writes and any thread reads: an increment is a plain add. */
typedef _Atomic uint64_t fm_live_count;

static inline void fm_live_count_add(fm_live_count *count, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, value + amount, memory_order_relaxed);
}

static inline uint64_t fm_live_count_read(const fm_live_count *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* Zero-initialise. */
struct fm_live_histogram {
    fm_live_count sum_ns;
    fm_live_count buckets[FM_LIVE_HISTOGRAM_BUCKETS];
};

/* Added up from live ones; plain. Zero-initialise. */
struct fm_histogram_totals {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t buckets[FM_LIVE_HISTOGRAM_BUCKETS];
};

static inline uint32_t fm_live_histogram_index(uint64_t value_ns)
{
    if (value_ns < UINT64_C(1) << FM_LIVE_HISTOGRAM_SHIFT) {
        return 0;
    }
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(value_ns);
    uint32_t step = (uint32_t)(value_ns >> (octave - 3)) & (FM_LIVE_HISTOGRAM_STEPS - 1);
    uint32_t index = (octave - FM_LIVE_HISTOGRAM_SHIFT) * FM_LIVE_HISTOGRAM_STEPS + step;
    return index < FM_LIVE_HISTOGRAM_BUCKETS ? index : FM_LIVE_HISTOGRAM_BUCKETS - 1;
}

/* `times` values at once, for all requests of a batch. */
static inline void fm_live_histogram_add_times(struct fm_live_histogram *histogram,
                                               uint64_t value_ns, uint64_t times)
{
    fm_live_count_add(&histogram->sum_ns, value_ns * times);
    fm_live_count_add(&histogram->buckets[fm_live_histogram_index(value_ns)], times);
}

static inline void fm_live_histogram_add(struct fm_live_histogram *histogram, uint64_t value_ns)
{
    fm_live_histogram_add_times(histogram, value_ns, 1);
}

/* The lower edge of a bucket (of the first: 0 counts in it, too); of FM_LIVE_HISTOGRAM_BUCKETS: the
 * upper edge of the last. */
uint64_t fm_live_histogram_edge_ns(uint32_t index);

/* Adds what `histogram` holds now. */
void fm_histogram_totals_add_live(struct fm_histogram_totals *totals,
                                  const struct fm_live_histogram *histogram);
void fm_histogram_totals_add(struct fm_histogram_totals *totals,
                             const struct fm_histogram_totals *other);
/* What came since `before` was taken of the same histogram. A bucket that shrank counts as 0. */
void fm_histogram_totals_subtract(struct fm_histogram_totals *totals,
                                  const struct fm_histogram_totals *before);
uint64_t fm_histogram_totals_mean_ns(const struct fm_histogram_totals *totals);
/* The value that `permille` thousandths of all do not exceed; 0 when there is none. */
uint64_t fm_histogram_totals_quantile_ns(const struct fm_histogram_totals *totals,
                                         uint32_t permille);
/* How many are at most bounds_ns[i], which ascend: a bucket that a bound cuts counts by its part
 * below it, rounded down, so that the answers ascend, too. */
void fm_histogram_totals_at_most(const struct fm_histogram_totals *totals,
                                 const uint64_t *bounds_ns, uint32_t bound_count,
                                 uint64_t *ret_counts);

#endif
