/*
 * What the simulator of the queue draws with: one generator for each concern of a seed.
 *
 * Thread rule: pure. Only for queue_trace.c and queue_sim.c.
 */
#ifndef FM_ENGINES_BENCH_QUEUE_DRAW_H
#define FM_ENGINES_BENCH_QUEUE_DRAW_H

#include "core/util/random.h"

/* Added to a seed, so that the concerns do not draw the same numbers. */
#define FM_QUEUE_DRAW_LENGTHS   UINT64_C(0x6c656e67746873)
#define FM_QUEUE_DRAW_ARRIVALS  UINT64_C(0x6172726976616c)
#define FM_QUEUE_DRAW_ESTIMATES UINT64_C(0x657374696d6174)

/* Standard normal, the same bits everywhere. */
double fm_queue_draw_normal(struct fm_random *random);

#endif
