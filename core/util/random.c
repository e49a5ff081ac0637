/*
 * xoshiro256** and what is drawn from it. See random.h. Pure.
 */
#include "core/util/random.h"

#include <math.h>

static uint64_t rotate_left(uint64_t value, int bits)
{
    return (value << bits) | (value >> (64 - bits));
}

void fm_random_init(struct fm_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t mixed = seed;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
        random->state[i] = mixed ^ (mixed >> 31);
    }
}

uint64_t fm_random_next(struct fm_random *random)
{
    uint64_t *state = random->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t fm_random_below(struct fm_random *random, uint64_t bound)
{
    /* Values below the remainder of 2^64 / bound are drawn again, so that every result is equally
     * likely. */
    uint64_t threshold = (0 - bound) % bound;
    for (;;) {
        uint64_t value = fm_random_next(random);
        if (value >= threshold) {
            return value % bound;
        }
    }
}

double fm_random_unit(struct fm_random *random)
{
    return (double)(fm_random_next(random) >> 11) * 0x1.0p-53;
}

double fm_random_normal(struct fm_random *random)
{
    double radius = sqrt(-2.0 * log(1.0 - fm_random_unit(random)));
    return radius * cos(6.283185307179586 * fm_random_unit(random));
}
