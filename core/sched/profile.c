/*
 * Latency profiles. See profile.h.
 */
#include "core/sched/profile.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"

static const char *const statistic_names[] = {"mean", "p50", "p90", "p99"};
_Static_assert(FM_COUNT_OF(statistic_names) == FM_PROFILE_STATISTIC_COUNT_, "one name each");
_Static_assert((uint64_t)FM_PROFILE_BATCH_MAX *FM_PROFILE_LATENCY_MAX_NS <= UINT64_C(1) << 62,
               "products fit");

const char *fm_profile_statistic_name(enum fm_profile_statistic statistic)
{
    FM_ASSERT(statistic < FM_PROFILE_STATISTIC_COUNT_);
    return statistic_names[statistic];
}

enum fm_profile_statistic fm_profile_statistic_parse(const char *name)
{
    unsigned index = 0;
    while (index < FM_PROFILE_STATISTIC_COUNT_ && strcmp(statistic_names[index], name) != 0) {
        index++;
    }
    return (enum fm_profile_statistic)index;
}

static int point_check(const struct fm_profile_point *point, struct fm_error *reterr)
{
    if (point->batch == 0 || point->batch > FM_PROFILE_BATCH_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "batch size %" PRIu32 " is outside 1 to %u",
                            point->batch, FM_PROFILE_BATCH_MAX);
    }
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        uint64_t latency_ns = point->latency_ns[i];
        if (latency_ns == 0 || latency_ns > FM_PROFILE_LATENCY_MAX_NS) {
            return fm_error_set(reterr, FM_EINVAL,
                                "batch %" PRIu32 ": %s of %" PRIu64 " ns is outside 1 to %" PRIu64,
                                point->batch, statistic_names[i], latency_ns,
                                FM_PROFILE_LATENCY_MAX_NS);
        }
        if (i > FM_PROFILE_P50 && latency_ns < point->latency_ns[i - 1]) {
            return fm_error_set(
                reterr, FM_EINVAL,
                "batch %" PRIu32 ": %s (%" PRIu64 " ns) is below %s (%" PRIu64 " ns)", point->batch,
                statistic_names[i], latency_ns, statistic_names[i - 1], point->latency_ns[i - 1]);
        }
    }
    return 0;
}

int fm_profile_add(struct fm_profile *profile, const struct fm_profile_point *point,
                   struct fm_error *reterr)
{
    int status = point_check(point, reterr);
    if (status != 0) {
        return status;
    }
    uint32_t at = 0;
    while (at < profile->point_count && profile->points[at].batch < point->batch) {
        at++;
    }
    if (at < profile->point_count && profile->points[at].batch == point->batch) {
        return fm_error_set(reterr, FM_EEXIST, "batch size %" PRIu32 " appears twice",
                            point->batch);
    }
    if (profile->point_count == FM_PROFILE_POINTS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "a profile holds at most %d batch sizes",
                            FM_PROFILE_POINTS_MAX);
    }
    memmove(&profile->points[at + 1], &profile->points[at],
            (profile->point_count - at) * sizeof *profile->points);
    profile->points[at] = *point;
    profile->point_count++;
    return 0;
}

int fm_profile_add_samples(struct fm_profile *profile, uint32_t batch, const uint64_t *sorted_ns,
                           uint32_t count)
{
    FM_ASSERT(count > 0);
    uint64_t sum_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum_ns += sorted_ns[i];
    }
    struct fm_profile_point point = {.batch = batch, .sample_count = count};
    const uint64_t latencies[] = {[FM_PROFILE_MEAN] = sum_ns / count,
                                  [FM_PROFILE_P50] = sorted_ns[count / 2],
                                  [FM_PROFILE_P90] = sorted_ns[count * 9 / 10],
                                  [FM_PROFILE_P99] = sorted_ns[count - 1]};
    for (uint32_t i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        point.latency_ns[i] = latencies[i] > 0 ? latencies[i] : 1;
    }
    return fm_profile_add(profile, &point, NULL);
}

int fm_profile_add_affine(struct fm_profile *profile, uint64_t alpha_ns, uint64_t beta_ns,
                          uint32_t batch_max, struct fm_error *reterr)
{
    if (alpha_ns > FM_PROFILE_LATENCY_MAX_NS || beta_ns > FM_PROFILE_LATENCY_MAX_NS ||
        batch_max > FM_PROFILE_BATCH_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "alpha and beta must be below %" PRIu64
                            " ns, the batch size at most %u",
                            FM_PROFILE_LATENCY_MAX_NS, FM_PROFILE_BATCH_MAX);
    }
    const uint32_t batches[] = {1, batch_max};
    for (size_t i = 0; i < (batch_max > 1 ? 2u : 1u); i++) {
        struct fm_profile_point point = {.batch = batches[i]};
        for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
            point.latency_ns[j] = alpha_ns * batches[i] + beta_ns;
        }
        int status = fm_profile_add(profile, &point, reterr);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* The running maximum up to and including point `index`. Tables are short; no copy of it is kept
 * that could disagree. */
static uint64_t envelope_ns(const struct fm_profile *profile, enum fm_profile_statistic statistic,
                            uint32_t index)
{
    uint64_t latency_ns = 0;
    for (uint32_t i = 0; i <= index; i++) {
        if (profile->points[i].latency_ns[statistic] > latency_ns) {
            latency_ns = profile->points[i].latency_ns[statistic];
        }
    }
    return latency_ns;
}

/* `numerator * factor / divisor`, rounded up; the caller keeps the product below 2^62. */
static uint64_t scale(uint64_t numerator, uint64_t factor, uint64_t divisor)
{
    return (numerator * factor + divisor - 1) / divisor;
}

static uint64_t extrapolate(const struct fm_profile *profile, enum fm_profile_statistic statistic,
                            uint32_t batch)
{
    uint32_t last = profile->point_count - 1;
    uint32_t last_batch = profile->points[last].batch;
    uint64_t last_ns = envelope_ns(profile, statistic, last);
    uint64_t extra = batch - last_batch;
    uint64_t growth_ns;
    if (last == 0) {
        growth_ns = scale(last_ns, extra, last_batch);
    } else {
        uint64_t segment_ns = scale(last_ns - envelope_ns(profile, statistic, last - 1), extra,
                                    last_batch - profile->points[last - 1].batch);
        uint64_t whole_ns = scale(last_ns - envelope_ns(profile, statistic, 0), extra,
                                  last_batch - profile->points[0].batch);
        growth_ns = segment_ns > whole_ns ? segment_ns : whole_ns;
    }
    uint64_t latency_ns = last_ns + growth_ns;
    return latency_ns < FM_PROFILE_LATENCY_MAX_NS ? latency_ns : FM_PROFILE_LATENCY_MAX_NS;
}

uint64_t fm_profile_latency_ns(const struct fm_profile *profile,
                               enum fm_profile_statistic statistic, uint32_t batch)
{
    FM_ASSERT(profile->point_count > 0);
    FM_ASSERT(statistic < FM_PROFILE_STATISTIC_COUNT_);
    FM_ASSERT(batch > 0);
    FM_ASSERT(batch <= FM_PROFILE_BATCH_MAX);
    uint32_t at = 0;
    while (at < profile->point_count && profile->points[at].batch < batch) {
        at++;
    }
    if (at == profile->point_count) {
        return extrapolate(profile, statistic, batch);
    }
    uint64_t high_ns = envelope_ns(profile, statistic, at);
    if (at == 0 || profile->points[at].batch == batch) {
        return high_ns;
    }
    uint64_t low_ns = envelope_ns(profile, statistic, at - 1);
    uint32_t low = profile->points[at - 1].batch;
    return low_ns + scale(high_ns - low_ns, batch - low, profile->points[at].batch - low);
}

uint64_t fm_profile_rate_millihertz(const struct fm_profile *profile,
                                    enum fm_profile_statistic statistic, uint32_t batch)
{
    /* 65536 * 10^12 is below 2^63. */
    return (uint64_t)batch * UINT64_C(1000000000000) /
           fm_profile_latency_ns(profile, statistic, batch);
}

uint32_t fm_profile_batch_max(const struct fm_profile *profile)
{
    FM_ASSERT(profile->point_count > 0);
    return profile->points[profile->point_count - 1].batch;
}

uint32_t fm_profile_batch_within(const struct fm_profile *profile,
                                 enum fm_profile_statistic statistic, uint64_t latency_ns,
                                 uint32_t batch_limit)
{
    uint32_t low = 0; /* fits (0 rows always do) */
    uint32_t high = batch_limit < FM_PROFILE_BATCH_MAX ? batch_limit : FM_PROFILE_BATCH_MAX;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (fm_profile_latency_ns(profile, statistic, middle) <= latency_ns) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Whether batch `a` has a higher rate than `b`: a/l(a) > b/l(b), without division. */
static bool is_faster(const struct fm_profile *profile, enum fm_profile_statistic statistic,
                      uint32_t a, uint32_t b)
{
    return (uint64_t)a * fm_profile_latency_ns(profile, statistic, b) >
           (uint64_t)b * fm_profile_latency_ns(profile, statistic, a);
}

uint32_t fm_profile_batch_fastest_within(const struct fm_profile *profile,
                                         enum fm_profile_statistic statistic, uint64_t latency_ns,
                                         uint32_t batch_limit)
{
    uint32_t largest = fm_profile_batch_within(profile, statistic, latency_ns, batch_limit);
    uint32_t best = 0;
    for (uint32_t i = 0; i < profile->point_count && profile->points[i].batch <= largest; i++) {
        if (best == 0 || is_faster(profile, statistic, profile->points[i].batch, best)) {
            best = profile->points[i].batch;
        }
    }
    if (largest > 0 && (best == 0 || is_faster(profile, statistic, largest, best))) {
        best = largest;
    }
    return best;
}

uint32_t fm_profile_knee(const struct fm_profile *profile, enum fm_profile_statistic statistic,
                         uint32_t tolerance_permille)
{
    FM_ASSERT(tolerance_permille < 1000);
    uint64_t best = 0;
    for (uint32_t i = 0; i < profile->point_count; i++) {
        uint64_t rate = fm_profile_rate_millihertz(profile, statistic, profile->points[i].batch);
        best = rate > best ? rate : best;
    }
    uint64_t enough = best / 1000 * (1000 - tolerance_permille) +
                      best % 1000 * (1000 - tolerance_permille) / 1000;
    for (uint32_t i = 0; i < profile->point_count; i++) {
        if (fm_profile_rate_millihertz(profile, statistic, profile->points[i].batch) >= enough) {
            return profile->points[i].batch;
        }
    }
    return fm_profile_batch_max(profile);
}

bool fm_profile_validate(const struct fm_profile *profile)
{
    if (profile->point_count > FM_PROFILE_POINTS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < profile->point_count; i++) {
        if (point_check(&profile->points[i], NULL) != 0 ||
            (i > 0 && profile->points[i].batch <= profile->points[i - 1].batch)) {
            return false;
        }
    }
    return true;
}
