/*
 * Seeded random numbers: xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64. One
 * generator per concern, never shared.
 */
#ifndef FM_CORE_UTIL_RANDOM_H
#define FM_CORE_UTIL_RANDOM_H

#include <stdint.h>

struct fm_random {
    uint64_t state[4];
};

void fm_random_init(struct fm_random *random, uint64_t seed);
uint64_t fm_random_next(struct fm_random *random);
/* Uniform in [0, bound), without bias; bound > 0. */
uint64_t fm_random_below(struct fm_random *random, uint64_t bound);
/* Uniform in [0, 1). */
double fm_random_unit(struct fm_random *random);
/* Standard normal (Box-Muller, one value per call). */
double fm_random_normal(struct fm_random *random);

#endif
