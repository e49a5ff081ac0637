/*
 * How long batches take, by type of accelerator and size: l(b) laid out so that an answer is a
 * load.
 *
 * Owns: dense copies of the means of a model's profiles. Does not own: the profiles; what a
 * scheduler makes of them (core/sched/latency_table.h). Thread rule: read-only once made.
 */
#ifndef FM_ENGINES_SIM_LATENCIES_H
#define FM_ENGINES_SIM_LATENCIES_H

#include "core/sched/sched.h"

/* Zero-initialise. */
struct fm_sim_latencies {
    const struct fm_profile *const *profiles; /* by type; borrowed */
    /* By type: [batch_max + 1]; NULL: not on that type. Types of one profile share a table. */
    uint64_t *latency_ns[FM_SCHED_TYPES_LIMIT];
    uint32_t batch_max;
};

/* `profiles`: [FM_SCHED_TYPES_LIMIT], they outlive it. FM_ENOMEM: *latencies is to be deinited all
 * the same. */
int FM_NODISCARD fm_sim_latencies_init(struct fm_sim_latencies *latencies,
                                       const struct fm_profile *const *profiles,
                                       uint32_t batch_max);
void fm_sim_latencies_deinit(struct fm_sim_latencies *latencies);

#endif
