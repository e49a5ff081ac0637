/*
 * Which batches run on the thread that brings them: brief ones, since to wake another thread takes
 * as long.
 *
 * An event loop that runs a batch itself reads no sockets meanwhile. So a batch is only taken for
 * brief if its latency profile says so and it is small, and a turn of the loop has a budget. Those
 * that take longer all the same run up a debt: who has too much of it runs none for a while. One
 * that was only interrupted, on a busy machine, does not.
 *
 * Owns: these rules. Does not own: running (host/pool). Thread rule: pure; caller's memory.
 */
#ifndef FM_CORE_SCHED_BRIEF_H
#define FM_CORE_SCHED_BRIEF_H

#include "core/sched/profile.h"

/* A batch is brief if it is expected to take so long at most: what it costs to wake a thread, and
 * to be woken by it. */
#define FM_BRIEF_NS UINT64_C(20000)
/* And if its inputs are no larger than what is copied in that time. */
#define FM_BRIEF_BYTES ((uint64_t)256 << 10)
/* Of one that took more it is said that it was not. */
#define FM_BRIEF_OVERRUN_NS UINT64_C(100000)
/* Brief batches of one turn together. */
#define FM_BRIEF_TURN_NS UINT64_C(200000)
/* Who has run up too much debt runs none for so long. */
#define FM_BRIEF_PAUSE_NS UINT64_C(1000000000)

/* Zeroed: no debt. */
struct fm_brief {
    uint32_t debt;
    uint64_t paused_until_ns;
};

/* The largest batch up to batch_max that is brief, by the profile's medians; 0: none. */
uint32_t fm_brief_rows(const struct fm_profile *profile, uint32_t batch_max);
bool fm_brief_may(const struct fm_brief *brief, uint64_t now_ns);
/* A batch that was taken for brief ran for ran_ns, until now. */
void fm_brief_ran(struct fm_brief *brief, uint64_t ran_ns, uint64_t now_ns);

#endif
