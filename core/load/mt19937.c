/*
 * The Mersenne Twister MT19937. See mt19937.h. Pure.
 */
#include "core/load/mt19937.h"

#define MIDDLE     397u
#define MATRIX     UINT32_C(0x9908b0df)
#define UPPER_BIT  UINT32_C(0x80000000)
#define LOWER_BITS UINT32_C(0x7fffffff)

void fm_mt19937_init(struct fm_mt19937 *twister, uint32_t seed)
{
    twister->words[0] = seed;
    for (uint32_t i = 1; i < FM_MT19937_WORDS; i++) {
        uint32_t before = twister->words[i - 1];
        twister->words[i] = UINT32_C(1812433253) * (before ^ (before >> 30)) + i;
    }
    twister->index = FM_MT19937_WORDS;
}

/* All words anew, each from itself, the next and the one MIDDLE ahead; around the end. */
static void twist(struct fm_mt19937 *twister)
{
    uint32_t *words = twister->words;
    for (uint32_t i = 0; i < FM_MT19937_WORDS; i++) {
        uint32_t next = words[(i + 1) % FM_MT19937_WORDS];
        uint32_t joined = (words[i] & UPPER_BIT) | (next & LOWER_BITS);
        uint32_t shifted = (joined >> 1) ^ ((joined & 1u) != 0 ? MATRIX : 0);
        words[i] = words[(i + MIDDLE) % FM_MT19937_WORDS] ^ shifted;
    }
    twister->index = 0;
}

uint32_t fm_mt19937_next(struct fm_mt19937 *twister)
{
    if (twister->index == FM_MT19937_WORDS) {
        twist(twister);
    }
    uint32_t word = twister->words[twister->index++];
    word ^= word >> 11;
    word ^= (word << 7) & UINT32_C(0x9d2c5680);
    word ^= (word << 15) & UINT32_C(0xefc60000);
    return word ^ (word >> 18);
}
