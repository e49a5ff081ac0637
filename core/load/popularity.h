/*
 * How popular each of many models is: shares of the load.
 *
 * Owns: Zipf's law. Does not own: which model is which, and rates. Thread rule: pure.
 */
#ifndef FM_CORE_LOAD_POPULARITY_H
#define FM_CORE_LOAD_POPULARITY_H

#include <stdint.h>

#include "fermata/status.h"

#define FM_POPULARITY_COUNT_MAX    1000000u
#define FM_POPULARITY_EXPONENT_MAX 20.0

/*
 * Writes `count` shares that fall with the rank and sum to 1: that of rank i, from 1, is in
 * proportion to i^-exponent. Exponent 0: all alike; near 1: what traces of real services show. The
 * same bits everywhere. FM_EINVAL with the argument named in reterr.
 */
int FM_NODISCARD fm_popularity_zipf(double exponent, uint32_t count, double *ret_shares,
                                    struct fm_error *reterr);

#endif
