/*
 * Early stopping as MLPerf LoadGen has it: how many requests prove, with a given confidence, that a
 * percentile of the latency is under a bound.
 *
 * Owns: the three questions (how many requests must there be for t late ones; how many late ones a
 * count allows; which request's latency is a safe estimate of the percentile) and the answer for a
 * run with a bound. Does not own: what is late, who counts. Thread rule: pure.
 *
 * HOW IT WORKS. Were the percentile p over the bound, at least the share q = 1 - p + d of requests
 * would be late, d being the tolerance. t or fewer late ones among n are then as likely as
 * P(X <= t), X binomial of n and q. When that is at most 1 - c, the bound is proven with confidence
 * c. The smallest such n is the minimum; n - t are LoadGen's h. The probability is P(X = t) in
 * Loader's saddle-point form (C. Loader, "Fast and accurate computation of binomial probabilities",
 * 2000), which loses no digits however large n is, times the sum of P(X = i) / P(X = t) for i = t,
 * t - 1 and so on, until a term no longer counts: about 7 sqrt(t) of them, all positive.
 *
 * LIMITATIONS. Requests are taken as independent, as in LoadGen: a server that stalls makes late
 * ones in rows, and then the confidence is less than it says.
 */
#ifndef FM_CORE_STATS_EARLY_STOPPING_H
#define FM_CORE_STATS_EARLY_STOPPING_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_EARLY_STOPPING_CONFIDENCE 0.99 /* LoadGen's; its tolerance is 0 */

/* What a rule may ask for. */
#define FM_EARLY_STOPPING_SHARE_MIN      0.01        /* percentile less tolerance */
#define FM_EARLY_STOPPING_SHARE_MAX      0.9999999   /* likewise */
#define FM_EARLY_STOPPING_CONFIDENCE_MIN 0.5         /* below, nothing is proven */
#define FM_EARLY_STOPPING_CONFIDENCE_MAX 0.999999999 /* beyond, 1 - c has no digits left */
#define FM_EARLY_STOPPING_LATE_MAX       100000000u  /* bounds the time a question takes: 10 ms */

struct fm_early_stopping {
    double percentile; /* as a share: 0.99 */
    double confidence;
    double tolerance; /* how much of the percentile is given away: usually 0 */
};

/* Whether the rule is one. FM_EINVAL with the field named. All others below ask for a rule that
 * is. */
int FM_NODISCARD fm_early_stopping_check(const struct fm_early_stopping *rule,
                                         struct fm_error *reterr);

/* P(X <= late) for `total` requests, each late with probability 1 - percentile + tolerance; late <=
 * FM_EARLY_STOPPING_LATE_MAX, total < 2^53. Falls as total grows, grows with late. */
double fm_early_stopping_chance(const struct fm_early_stopping *rule, uint64_t late,
                                uint64_t total);
/* The fewest requests of which `late` may be late; UINT64_MAX beyond FM_EARLY_STOPPING_LATE_MAX. */
uint64_t fm_early_stopping_total_min(const struct fm_early_stopping *rule, uint64_t late);
/* The most late ones that `total` requests may have; false when even none is too many, because
 * there are too few. At most FM_EARLY_STOPPING_LATE_MAX are said to be allowed. */
bool fm_early_stopping_late_max(const struct fm_early_stopping *rule, uint64_t total,
                                uint64_t *ret_late);

/* What a run of `total` requests without a bound says of its percentile. */
struct fm_early_stopping_estimate {
    bool possible;
    uint64_t rank; /* the answer is the rank-th longest latency, from 1; 0: not possible */
    uint64_t more; /* requests that are missing until it is possible */
};

/* LoadGen's rule for streams: with t the most late ones that are allowed, the t - 1 longest are put
 * away and the next is the estimate, which the percentile does not exceed with the confidence. t
 * has to be 1 at least, which is what LoadGen asks, too. */
void fm_early_stopping_estimate(const struct fm_early_stopping *rule, uint64_t total,
                                struct fm_early_stopping_estimate *ret_estimate);

/* Whether a run with a bound proves it. */
struct fm_early_stopping_proof {
    bool valid;
    uint64_t total_min; /* requests that so many late ones need; UINT64_MAX: beyond all counts */
    uint64_t more;      /* requests that are missing, if none of them is late */
};

/* LoadGen's rule for its Server scenario: valid when total >= total_min(late). */
void fm_early_stopping_proof(const struct fm_early_stopping *rule, uint64_t late, uint64_t total,
                             struct fm_early_stopping_proof *ret_proof);

#endif
