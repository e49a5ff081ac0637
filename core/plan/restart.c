/*
 * Pauses between starts. See restart.h.
 */
#include "core/plan/restart.h"

static void pause_begin(struct fm_restart *restart, uint64_t now_ns)
{
    uint64_t pause_ns = 0;
    for (uint32_t i = 1; i < restart->idle_ends && pause_ns < FM_RESTART_MOST_NS; i++) {
        pause_ns = pause_ns == 0 ? FM_RESTART_FIRST_NS : pause_ns * 2;
    }
    pause_ns = pause_ns < FM_RESTART_MOST_NS ? pause_ns : FM_RESTART_MOST_NS;
    if (restart->starts_failed >= FM_RESTART_STARTS_MAX) {
        pause_ns = FM_RESTART_BROKEN_NS;
    }
    uint64_t next_ns = now_ns < UINT64_MAX - pause_ns ? now_ns + pause_ns : UINT64_MAX;
    restart->next_ns = next_ns > restart->next_ns ? next_ns : restart->next_ns;
}

bool fm_restart_may(const struct fm_restart *restart, uint64_t now_ns, uint64_t *ret_at_ns)
{
    *ret_at_ns = restart->next_ns;
    return restart->starts_failed < FM_RESTART_STARTS_MAX || now_ns >= restart->next_ns;
}

void fm_restart_failed(struct fm_restart *restart, uint64_t now_ns)
{
    restart->starts_failed += restart->starts_failed < UINT32_MAX ? 1 : 0;
    fm_restart_ended(restart, now_ns);
}

void fm_restart_begun(struct fm_restart *restart)
{
    restart->starts_failed = 0;
}

void fm_restart_worked(struct fm_restart *restart)
{
    restart->idle_ends = 0;
}

void fm_restart_ended(struct fm_restart *restart, uint64_t now_ns)
{
    restart->idle_ends += restart->idle_ends < UINT32_MAX ? 1 : 0;
    pause_begin(restart, now_ns);
}
