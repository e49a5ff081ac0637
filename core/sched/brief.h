/*
 * Which batches run on the thread that brings them: brief ones, since to wake another thread takes
 * as long.
 *
 * An event loop that runs a batch itself reads no sockets meanwhile. So only a few small batches of
 * a turn are taken for brief, by the latency profile that their model came with, and the turn has a
 * budget. What takes longer all the same is a debt of the model's: who has too much of it runs on
 * no event loop for a while, which is the longer the larger the debt. One that was only interrupted
 * now and then, on a busy machine, pays it back.
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
/* So many in a turn; those behind them run meanwhile, where they would have run. */
#define FM_BRIEF_TURN_BATCHES 4u
/* And none is begun later than this in it. */
#define FM_BRIEF_TURN_NS UINT64_C(200000)
/* What one takes beyond this is a debt. */
#define FM_BRIEF_OVERRUN_NS UINT64_C(100000)
/* Who has run up too much of it pauses for so long at least. */
#define FM_BRIEF_PAUSE_NS UINT64_C(1000000000)

/* Of a model. Zeroed: no debt. */
struct fm_brief {
    uint64_t debt_ns;
    uint64_t paused_until_ns;
};

/* The largest batch up to batch_max that is brief, by the profile's medians; 0: none. */
uint32_t fm_brief_rows(const struct fm_profile *profile, uint32_t batch_max);
bool fm_brief_may(const struct fm_brief *brief, uint64_t now_ns);
/* A batch that was taken for brief ran for ran_ns, until now. */
void fm_brief_ran(struct fm_brief *brief, uint64_t ran_ns, uint64_t now_ns);

#endif
