/*
 * Tables of l(b). See latencies.h.
 */
#include "engines/sim/latencies.h"

#include "core/util/memory.h"

int fm_sim_latencies_init(struct fm_sim_latencies *latencies,
                          const struct fm_profile *const *profiles, uint32_t batch_max)
{
    latencies->profiles = profiles;
    latencies->batch_max = batch_max;
    for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        if (profiles[type] == NULL) {
            continue;
        }
        if (type > 0 && profiles[type] == profiles[0]) {
            latencies->latency_ns[type] = latencies->latency_ns[0];
            continue;
        }
        uint64_t *table = fm_alloc_zero(batch_max + 1, sizeof *table);
        if (table == NULL) {
            return FM_ENOMEM;
        }
        latencies->latency_ns[type] = table;
        for (uint32_t batch = 1; batch <= batch_max; batch++) {
            table[batch] = fm_profile_latency_ns(profiles[type], FM_PROFILE_MEAN, batch);
        }
    }
    return 0;
}

void fm_sim_latencies_deinit(struct fm_sim_latencies *latencies)
{
    for (uint32_t type = 0; type < FM_SCHED_TYPES_LIMIT; type++) {
        if (type == 0 || latencies->latency_ns[type] != latencies->latency_ns[0]) {
            fm_free(latencies->latency_ns[type]);
        }
    }
    *latencies = (struct fm_sim_latencies){0};
}
