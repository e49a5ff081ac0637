/*
 * Early stopping: binomial tails and what is searched with them. See early_stopping.h. Pure.
 */
#include "core/stats/early_stopping.h"

#include <math.h>

#include "core/util/assert.h"
#include "core/util/error.h"

#define TWO_PI        6.283185307179586476925
#define LOG_2PI_HALF  0.918938533204672741780 /* ln(2 pi) / 2 */
#define NEGLIGIBLE    0x1.0p-60               /* of a sum: what no longer changes it */
#define TOTAL_MAX     ((uint64_t)1 << 53)     /* doubles count exactly up to here */
#define SMALL_NUMBER  15u                     /* factorials up to here are exact */
#define SEARCH_ROUNDS 200

int fm_early_stopping_check(const struct fm_early_stopping *rule, struct fm_error *reterr)
{
    if (!(rule->percentile > 0 && rule->percentile < 1)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "percentile: %g is not a share between 0 and 1; of the 99th percentile "
                            "it is 0.99",
                            rule->percentile);
    }
    if (!(rule->confidence >= FM_EARLY_STOPPING_CONFIDENCE_MIN &&
          rule->confidence <= FM_EARLY_STOPPING_CONFIDENCE_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "confidence: %g is not a share from %g to %.9g",
                            rule->confidence, FM_EARLY_STOPPING_CONFIDENCE_MIN,
                            FM_EARLY_STOPPING_CONFIDENCE_MAX);
    }
    if (!(rule->tolerance >= 0 && rule->tolerance < 1)) {
        return fm_error_set(reterr, FM_EINVAL, "tolerance: %g is not a share from 0 to below 1",
                            rule->tolerance);
    }
    double share = rule->percentile - rule->tolerance;
    if (!(share >= FM_EARLY_STOPPING_SHARE_MIN && share <= FM_EARLY_STOPPING_SHARE_MAX)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "percentile: %.9g less a tolerance of %g is not from %g to %.9g",
                            rule->percentile, rule->tolerance, FM_EARLY_STOPPING_SHARE_MIN,
                            FM_EARLY_STOPPING_SHARE_MAX);
    }
    return 0;
}

/* ln n! less Stirling's formula for it: (n + 1/2) ln n - n + ln(2 pi)/2. n > 0. */
static double stirling_error(uint64_t n)
{
    double x = (double)n;
    if (n <= SMALL_NUMBER) {
        double factorial = 1;
        for (uint64_t i = 2; i <= n; i++) {
            factorial *= (double)i;
        }
        return log(factorial) - ((x + 0.5) * log(x) - x + LOG_2PI_HALF);
    }
    double square = x * x;
    return (1.0 / 12 -
            (1.0 / 360 - (1.0 / 1260 -
                          (1.0 / 1680 - (1.0 / 1188 - 691.0 / 360360 / square) / square) / square) /
                             square) /
                square) /
           x;
}

/* Loader's deviance: x ln(x/mean) + mean - x, for x = mean + distance, by its series where the two
 * terms would cancel. */
static double deviance(double x, double mean, double distance)
{
    if (fabs(distance) >= 0.1 * (x + mean)) {
        return x * log(x / mean) - distance;
    }
    double v = distance / (x + mean);
    double sum = distance * v;
    double term = 2.0 * x * v;
    for (unsigned j = 3;; j += 2) {
        term *= v * v;
        double next = sum + term / (double)j;
        if (next == sum) {
            return sum;
        }
        sum = next;
    }
}

/* ln P(X = late), 0 < late < total. */
static double log_point(uint64_t late, uint64_t total, double q)
{
    double x = (double)late;
    double n = (double)total;
    double rest = n - x;
    double distance = x - n * q;
    double exponent = stirling_error(total) - stirling_error(late) - stirling_error(total - late) -
                      deviance(x, n * q, distance) - deviance(rest, n * (1.0 - q), -distance);
    return exponent + 0.5 * log(n / (TWO_PI * x * rest));
}

/* ln P(X <= late). */
static double log_chance(uint64_t late, uint64_t total, double q)
{
    if (late >= total) {
        return 0;
    }
    double n = (double)total;
    if (late == 0) {
        return n * log1p(-q);
    }
    double odds = (1.0 - q) / q;
    double sum = 1;
    double term = 1;
    for (uint64_t i = late; i > 0; i--) {
        term *= (double)i * odds / (n - (double)i + 1.0);
        sum += term;
        /* Where terms still grow, the next ones count whatever this one is. */
        if (term < sum * NEGLIGIBLE || sum == INFINITY) {
            break;
        }
    }
    double result = log_point(late, total, q) + log(sum);
    return result < 0 ? result : 0;
}

static double late_share(const struct fm_early_stopping *rule)
{
    return 1.0 - (rule->percentile - rule->tolerance);
}

double fm_early_stopping_chance(const struct fm_early_stopping *rule, uint64_t late, uint64_t total)
{
    FM_ASSERT(late <= FM_EARLY_STOPPING_LATE_MAX);
    FM_ASSERT(total < TOTAL_MAX);
    return exp(log_chance(late, total, late_share(rule)));
}

/* How much too likely so many late ones still are: above 0 when the requests do not suffice. */
static double excess(const struct fm_early_stopping *rule, uint64_t late, uint64_t total)
{
    return log_chance(late, total, late_share(rule)) - log1p(-rule->confidence);
}

/*
 * HOW IT WORKS. The logarithm of the chance falls with the total, nearly in a parabola. A bracket
 * is found by strides of a standard deviation that double; then straight lines through its ends
 * guess the middle, and every third guess halves it, so that it cannot creep.
 */
uint64_t fm_early_stopping_total_min(const struct fm_early_stopping *rule, uint64_t late)
{
    if (late > FM_EARLY_STOPPING_LATE_MAX) {
        return UINT64_MAX;
    }
    double q = late_share(rule);
    uint64_t low = late; /* as many requests as late ones never suffice */
    double low_excess = -log1p(-rule->confidence);
    uint64_t high = (uint64_t)(((double)late + 1.0) / q) + 1;
    double stride = sqrt((double)late + 1.0) / q + 1.0;
    double high_excess = excess(rule, late, high);
    for (; high_excess > 0; stride *= 2) {
        low = high;
        low_excess = high_excess;
        high += (uint64_t)stride;
        FM_ASSERT(high < TOTAL_MAX);
        high_excess = excess(rule, late, high);
    }
    for (unsigned round = 0; high - low > 1; round++) {
        FM_ASSERT(round < SEARCH_ROUNDS);
        uint64_t width = high - low;
        uint64_t step = width / 2;
        if (round % 3 != 2) {
            step = (uint64_t)((double)width * (low_excess / (low_excess - high_excess)));
            step = step == 0 ? 1 : step >= width ? width - 1 : step;
        }
        uint64_t middle = low + step;
        double middle_excess = excess(rule, late, middle);
        if (middle_excess > 0) {
            low = middle;
            low_excess = middle_excess;
        } else {
            high = middle;
            high_excess = middle_excess;
        }
    }
    return high;
}

bool fm_early_stopping_late_max(const struct fm_early_stopping *rule, uint64_t total,
                                uint64_t *ret_late)
{
    *ret_late = 0;
    uint64_t limit = total < TOTAL_MAX ? total : TOTAL_MAX - 1;
    if (limit == 0 || excess(rule, 0, limit) > 0) {
        return false;
    }
    /* More than the mean are never allowed, for confidences from one half on. */
    double mean = (double)limit * late_share(rule) + 2.0;
    uint64_t low = 0;
    uint64_t high = mean < FM_EARLY_STOPPING_LATE_MAX ? (uint64_t)mean
                                                      : FM_EARLY_STOPPING_LATE_MAX + UINT64_C(1);
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        *(excess(rule, middle, limit) > 0 ? &high : &low) = middle;
    }
    *ret_late = low;
    return true;
}

void fm_early_stopping_estimate(const struct fm_early_stopping *rule, uint64_t total,
                                struct fm_early_stopping_estimate *ret_estimate)
{
    uint64_t late = 0;
    bool allowed = fm_early_stopping_late_max(rule, total, &late);
    *ret_estimate = (struct fm_early_stopping_estimate){.possible = allowed && late > 0};
    if (ret_estimate->possible) {
        ret_estimate->rank = late;
    } else {
        ret_estimate->more = fm_early_stopping_total_min(rule, 1) - total;
    }
}

void fm_early_stopping_proof(const struct fm_early_stopping *rule, uint64_t late, uint64_t total,
                             struct fm_early_stopping_proof *ret_proof)
{
    uint64_t total_min = fm_early_stopping_total_min(rule, late);
    *ret_proof = (struct fm_early_stopping_proof){
        .valid = total_min != UINT64_MAX && total >= total_min,
        .total_min = total_min,
        .more = total < total_min ? total_min - total : 0,
    };
}
