/*
 * The rest of an accelerator: until when it is surely not needed. See sched.h and state.h.
 *
 * HOW IT WORKS. Accelerators are used lowest number first. One is needed by what is queued if, were
 * every model with a queue to take the lowest grantable one, its turn would come. Otherwise only
 * what has not arrived yet can need it, and that can wait at least as long as the tightest model.
 * Those that the measured load keeps in use have no rest: their pauses are what deferral lives on.
 */
#include "core/sched/state.h"

/* How long a request that arrives now can wait for an accelerator, whichever model it is for. */
static uint64_t patience_ns(const struct fm_sched *sched)
{
    for (uint32_t i = 0; i < FM_SCHED_REACH_CLASSES; i++) {
        if (sched->models_by_tightness[i] > 0) {
            return fm_sched_class_ns(i);
        }
    }
    return FM_SCHED_NEVER;
}

uint64_t fm_sched_rest_until_ns(const struct fm_sched *sched, uint64_t now_ns, uint32_t accelerator)
{
    if (accelerator >= sched->options.accelerators_max || accelerator < sched->active_end ||
        !sched->accelerators[accelerator].up ||
        sched->accelerators[accelerator].running_count > 0) {
        return now_ns;
    }
    uint32_t before = 0;
    for (uint32_t type = 0; type < sched->options.type_count; type++) {
        before += fm_id_set_count_below(&sched->grantable[type], accelerator);
    }
    uint32_t waiting =
        sched->options.part == FM_SCHED_PART_MATCHER ? sched->waiting_count : sched->timers.count;
    if (before < waiting) {
        return now_ns;
    }
    uint64_t patience = patience_ns(sched);
    return patience == FM_SCHED_NEVER ? FM_SCHED_NEVER : now_ns + patience;
}
