/*
 * Where a thread sleeps that others give work to without locks.
 *
 * Owns: whether the thread sleeps. Does not own: the work; it is in rings (ring.h) or behind
 * atomics. Thread rule: one thread parks; any thread wakes it.
 *
 * Use, by the thread that sleeps:
 *
 *     fm_parker_prepare(parker);
 *     if (nothing to do) {
 *         fm_parker_park(parker, until_ns);
 *     } else {
 *         fm_parker_stay(parker);
 *     }
 *
 * and by who gave it work: fm_parker_wake(parker), after the work can be seen. Work given before
 * prepare() is seen by the check after it; work given later makes park() return. Waking a thread
 * that does not sleep costs one atomic exchange; one that does, a system call (futex).
 */
#ifndef FM_HOST_OS_PARKER_H
#define FM_HOST_OS_PARKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FM_PARKER_FOREVER UINT64_MAX

struct fm_parker {
    _Atomic uint32_t awake;
};

void fm_parker_init(struct fm_parker *parker); /* nothing has to be released */

static inline void fm_parker_prepare(struct fm_parker *parker)
{
    (void)atomic_exchange_explicit(&parker->awake, 0, memory_order_acq_rel);
}

static inline void fm_parker_stay(struct fm_parker *parker)
{
    (void)atomic_exchange_explicit(&parker->awake, 1, memory_order_acq_rel);
}

/* Whether its thread sleeps, or is about to: a hint. */
static inline bool fm_parker_sleeps(struct fm_parker *parker)
{
    return atomic_load_explicit(&parker->awake, memory_order_acquire) == 0;
}

/* Returns when woken, or at until_ns (as fm_os_now_ns; FM_PARKER_FOREVER: not by itself). */
void fm_parker_park(struct fm_parker *parker, uint64_t until_ns);
void fm_parker_rouse(struct fm_parker *parker); /* of fm_parker_wake() */

static inline void fm_parker_wake(struct fm_parker *parker)
{
    if (atomic_exchange_explicit(&parker->awake, 1, memory_order_acq_rel) == 0) {
        fm_parker_rouse(parker);
    }
}

#endif
