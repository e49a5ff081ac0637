/*
 * The Mersenne Twister MT19937, 32 bits: for schedules that another program draws with it.
 *
 * Owns: the generator, with the seeding of the C++ standard's std::mt19937 ([rand.eng.mers]).
 * Fermata's own streams use core/util/random instead. Source: M. Matsumoto, T. Nishimura,
 * "Mersenne Twister", ACM TOMACS 8 (1998), and their initialisation of 2002. Thread rule: pure; a
 * generator belongs to one thread.
 */
#ifndef FM_CORE_LOAD_MT19937_H
#define FM_CORE_LOAD_MT19937_H

#include <stdint.h>

#define FM_MT19937_WORDS        624u
#define FM_MT19937_SEED_DEFAULT 5489u /* of the C++ standard */

struct fm_mt19937 {
    uint32_t words[FM_MT19937_WORDS];
    uint32_t index; /* of the next word; FM_MT19937_WORDS: all are used */
};

void fm_mt19937_init(struct fm_mt19937 *twister, uint32_t seed);
uint32_t fm_mt19937_next(struct fm_mt19937 *twister);

#endif
