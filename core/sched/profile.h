/*
 * The latency profile l(b): how long a batch of b rows takes, as measured.
 *
 * Owns: a measured table (batch size -> mean and quantiles) and what can be asked of it: l(b) for
 * any b, throughput, the knee, the largest b that fits into a latency. Does not own: measuring
 * (engines/profile), files (host/runtime/profile_file.h), tensors. Thread rule: pure; a finished
 * profile is read-only.
 *
 * HOW IT WORKS. l(b) is the running maximum of the table, joined by straight lines: noise never
 * makes a larger batch look faster, so that l is monotone and searching it is a bisection. Below
 * the first measured batch l is that batch's latency (a smaller batch is not slower). Above the
 * last one l grows by the larger of the last segment's slope and the whole table's: an accelerator
 * whose last two points happen to lie flat must not promise unlimited throughput. With a single
 * point growth is proportional. LIMITATIONS. Extrapolation far beyond the table is a guess; a
 * scheduler should cap b at fm_profile_batch_max(). All arithmetic is on integers, so that every
 * machine and compiler decides the same.
 */
#ifndef FM_CORE_SCHED_PROFILE_H
#define FM_CORE_SCHED_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_PROFILE_POINTS_MAX 64
/* Products of a batch and a latency stay below 2^63. */
#define FM_PROFILE_BATCH_MAX      65536u
#define FM_PROFILE_LATENCY_MAX_NS (UINT64_C(1) << 46) /* 19 hours */

/* Which number of a point l(b) is made of. A scheduler that must keep promises takes a high
 * quantile. */
enum fm_profile_statistic {
    FM_PROFILE_MEAN,
    FM_PROFILE_P50,
    FM_PROFILE_P90,
    FM_PROFILE_P99,
    FM_PROFILE_STATISTIC_COUNT_
};

struct fm_profile_point {
    uint32_t batch;
    uint32_t sample_count;
    uint64_t latency_ns[FM_PROFILE_STATISTIC_COUNT_];
};

/* Zero-initialise, add points, then ask. */
struct fm_profile {
    struct fm_profile_point points[FM_PROFILE_POINTS_MAX]; /* ascending by batch */
    uint32_t point_count;
};

/* "mean", "p50", ... and back; FM_PROFILE_STATISTIC_COUNT_ for an unknown name. */
const char *fm_profile_statistic_name(enum fm_profile_statistic statistic);
enum fm_profile_statistic fm_profile_statistic_parse(const char *name);

/*
 * Adds a point, in any order. FM_EINVAL: batch 0 or above FM_PROFILE_BATCH_MAX, a latency of 0 or
 * above FM_PROFILE_LATENCY_MAX_NS, quantiles that fall, FM_EEXIST: that batch is there already,
 * FM_ELIMIT: FM_PROFILE_POINTS_MAX.
 */
int FM_NODISCARD fm_profile_add(struct fm_profile *profile, const struct fm_profile_point *point,
                                struct fm_error *reterr);
/* A point of `count` latencies of a batch, in ascending order. The error codes are the same. */
int FM_NODISCARD fm_profile_add_samples(struct fm_profile *profile, uint32_t batch,
                                        const uint64_t *sorted_ns, uint32_t count);
/* One line alpha*b + beta as a profile of two points, for emulation and tests. */
int FM_NODISCARD fm_profile_add_affine(struct fm_profile *profile, uint64_t alpha_ns,
                                       uint64_t beta_ns, uint32_t batch_max,
                                       struct fm_error *reterr);

/* All below need at least one point. */

/* l(batch), monotone in batch; batch >= 1, at most FM_PROFILE_BATCH_MAX. Capped at
 * FM_PROFILE_LATENCY_MAX_NS. */
uint64_t fm_profile_latency_ns(const struct fm_profile *profile,
                               enum fm_profile_statistic statistic, uint32_t batch);
/* Rows per second at l(batch), in thousandths. */
uint64_t fm_profile_rate_millihertz(const struct fm_profile *profile,
                                    enum fm_profile_statistic statistic, uint32_t batch);
/* The largest measured batch. */
uint32_t fm_profile_batch_max(const struct fm_profile *profile);
/* The largest batch <= batch_limit with l(batch) <= latency_ns; 0: not even one row fits. */
uint32_t fm_profile_batch_within(const struct fm_profile *profile,
                                 enum fm_profile_statistic statistic, uint64_t latency_ns,
                                 uint32_t batch_limit);
/*
 * The batch of the highest rate among those; differs from the above where rates fall again, as they
 * do on a CPU. Of equal rates the smallest batch. Looks at measured sizes and at the largest that
 * fits, between which the rate has no peak.
 */
uint32_t fm_profile_batch_fastest_within(const struct fm_profile *profile,
                                         enum fm_profile_statistic statistic, uint64_t latency_ns,
                                         uint32_t batch_limit);
/* The smallest measured batch whose rate is at least (1000 - tolerance_permille)/1000 of the best
 * measured one. */
uint32_t fm_profile_knee(const struct fm_profile *profile, enum fm_profile_statistic statistic,
                         uint32_t tolerance_permille);

/* Checks the order and the limits of every point; true for an empty profile. */
bool fm_profile_validate(const struct fm_profile *profile);

#endif
