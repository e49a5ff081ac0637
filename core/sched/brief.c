/*
 * Brief batches. See brief.h.
 */
#include "core/sched/brief.h"

/* One overrun in so many is taken for an interruption. */
#define OVERRUN_DEBT 8u
#define DEBT_MAX     32u

uint32_t fm_brief_rows(const struct fm_profile *profile, uint32_t batch_max)
{
    return fm_profile_batch_within(profile, FM_PROFILE_P50, FM_BRIEF_NS, batch_max);
}

bool fm_brief_may(const struct fm_brief *brief, uint64_t now_ns)
{
    return now_ns >= brief->paused_until_ns;
}

void fm_brief_ran(struct fm_brief *brief, uint64_t ran_ns, uint64_t now_ns)
{
    if (ran_ns <= FM_BRIEF_OVERRUN_NS) {
        brief->debt -= brief->debt > 0 ? 1 : 0;
        return;
    }
    brief->debt += OVERRUN_DEBT;
    if (brief->debt > DEBT_MAX) {
        brief->debt = 0;
        brief->paused_until_ns = now_ns + FM_BRIEF_PAUSE_NS;
    }
}
