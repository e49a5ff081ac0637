/*
 * Brief batches. See brief.h.
 */
#include "core/sched/brief.h"

#define DEBT_MAX_NS UINT64_C(20000000)
/* What a batch in time pays back. */
#define PAID_NS (FM_BRIEF_OVERRUN_NS / 2)
/* The pause in debts: an event loop loses no more than this part of its time. */
#define PAUSE_DEBTS  20u
#define PAUSE_MAX_NS UINT64_C(60000000000)

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
        brief->debt_ns -= brief->debt_ns < PAID_NS ? brief->debt_ns : PAID_NS;
        return;
    }
    brief->debt_ns += ran_ns - FM_BRIEF_OVERRUN_NS;
    if (brief->debt_ns > DEBT_MAX_NS) {
        uint64_t pause_ns = brief->debt_ns < PAUSE_MAX_NS / PAUSE_DEBTS
                                ? brief->debt_ns * PAUSE_DEBTS
                                : PAUSE_MAX_NS;
        brief->paused_until_ns =
            now_ns + (pause_ns > FM_BRIEF_PAUSE_NS ? pause_ns : FM_BRIEF_PAUSE_NS);
        brief->debt_ns = 0;
    }
}
