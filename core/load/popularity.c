/*
 * Zipf's law. See popularity.h. Pure.
 */
#include "core/load/popularity.h"

#include "core/load/portable_math.h"
#include "core/util/error.h"

int fm_popularity_zipf(double exponent, uint32_t count, double *ret_shares, struct fm_error *reterr)
{
    if (count == 0 || count > FM_POPULARITY_COUNT_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "count: %u is not between 1 and %u", count,
                            FM_POPULARITY_COUNT_MAX);
    }
    if (!(exponent >= 0 && exponent <= FM_POPULARITY_EXPONENT_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "exponent: %g is not between 0 and %g", exponent,
                            FM_POPULARITY_EXPONENT_MAX);
    }
    double sum = 0;
    for (uint32_t i = count; i > 0; i--) { /* the small ones first: the sum keeps their digits */
        ret_shares[i - 1] = fm_portable_exp(-exponent * fm_portable_log((double)i));
        sum += ret_shares[i - 1];
    }
    for (uint32_t i = 0; i < count; i++) {
        ret_shares[i] /= sum;
    }
    return 0;
}
