/*
 * When something that ended is started again, and when no more: pauses that double, and a breaker.
 *
 * Owns: the counting. Does not own: what is started, clocks. Thread rule: plain data; now_ns is
 * passed in.
 *
 * What ended after it had done something is started again at once. What ends without having done
 * anything pauses for FM_RESTART_FIRST_NS, then twice that, up to FM_RESTART_MOST_NS. After
 * FM_RESTART_STARTS_MAX starts in a row that failed it counts as broken: whoever needs it is
 * refused, and one start is tried every FM_RESTART_BROKEN_NS.
 */
#ifndef FM_CORE_PLAN_RESTART_H
#define FM_CORE_PLAN_RESTART_H

#include <stdbool.h>
#include <stdint.h>

#define FM_RESTART_FIRST_NS   UINT64_C(100000000)
#define FM_RESTART_MOST_NS    UINT64_C(2000000000)
#define FM_RESTART_BROKEN_NS  UINT64_C(30000000000)
#define FM_RESTART_STARTS_MAX 5

/* Zero-initialise. */
struct fm_restart {
    uint32_t starts_failed; /* in a row */
    uint32_t idle_ends;     /* ends and failed starts since it did something */
    uint64_t next_ns;       /* not before */
};

/* True: start now, or at *ret_at_ns when that is later. False: it is broken, until *ret_at_ns. */
bool fm_restart_may(const struct fm_restart *restart, uint64_t now_ns, uint64_t *ret_at_ns);
void fm_restart_failed(struct fm_restart *restart, uint64_t now_ns); /* a start */
void fm_restart_begun(struct fm_restart *restart);                   /* a start was good */
void fm_restart_worked(struct fm_restart *restart);                  /* it has done something */
void fm_restart_ended(struct fm_restart *restart, uint64_t now_ns);

#endif
