/*
 * The policies that need a file of their own. See state.h for what a policy is.
 */
#ifndef FM_CORE_SCHED_POLICY_H
#define FM_CORE_SCHED_POLICY_H

#include "core/sched/state.h"

/* policy_deferred.c */
void fm_sched_deferred_ready(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                             uint64_t deadline_ns, uint32_t count,
                             struct fm_sched_readiness *readiness);
uint32_t fm_sched_deferred_sacrifice(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                     const struct fm_latency_table *table, uint64_t free_ns);
/* When what has to start by latest_ns would get the accelerator after the one that is being given
 * away; FM_SCHED_NEVER: later than is known. `*ret_ahead` candidates come before it. */
uint64_t fm_sched_deferred_turn_ns(const struct fm_sched *sched, uint64_t latest_ns,
                                   uint32_t *ret_ahead);
/* Symphony's window rule: lets go of the earliest requests that would force the batch below the
 * target. */
uint32_t fm_sched_window_sacrifice(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                   const struct fm_latency_table *table, uint64_t free_ns);

/* policy_nexus.c */
int FM_NODISCARD fm_sched_nexus_init(struct fm_sched *sched);
void fm_sched_nexus_deinit(struct fm_sched *sched);
void fm_sched_nexus_epoch(struct fm_sched *sched);
bool fm_sched_nexus_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                           struct fm_sched_choice *ret_choice);

/* What a model asks of the packing. */
struct fm_nexus_load {
    uint32_t model;
    const struct fm_latency_table *table; /* borrowed */
    uint64_t budget_ns;                   /* for waiting and running */
    uint64_t gap_ns;                      /* between arrivals, mean; at least 1 */
    /* Set by packing: what whole accelerators leave over, as it would run alone. */
    uint64_t left_gap_ns; /* FM_SCHED_NEVER: nothing */
    uint64_t duty_ns;
    uint64_t occupancy_q16;
    uint32_t batch;
};
/* A model's place on an accelerator: batches of up to `batch`, in turn. */
struct fm_nexus_share {
    uint32_t model;
    uint32_t batch;
    uint32_t load; /* index of the load it serves; NONE: a whole accelerator */
};
#define FM_NEXUS_SHARES_MAX 16u
struct fm_nexus_node {
    struct fm_nexus_share shares[FM_NEXUS_SHARES_MAX];
    uint32_t share_count;
    uint32_t turn; /* the share that is next */
    uint64_t duty_ns;
    uint64_t occupied_ns; /* of the duty cycle */
};
/* Squishy bin packing: sorts the loads and fills the nodes. Returns how many the load needs; more
 * than node_max: they do not suffice, and what is there is incomplete. */
uint32_t fm_nexus_pack(struct fm_nexus_load *loads, uint32_t load_count,
                       struct fm_nexus_node *nodes, uint32_t node_max);

/* policy_shepherd.c */
int FM_NODISCARD fm_sched_shepherd_init(struct fm_sched *sched);
void fm_sched_shepherd_deinit(struct fm_sched *sched);
void fm_sched_shepherd_settled(struct fm_sched *sched, uint32_t accelerator);
bool fm_sched_shepherd_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                              struct fm_sched_choice *ret_choice);

/* policy_clockwork.c */
#define FM_SCHED_CLOCKWORK_AHEAD_NS UINT64_C(5000000)
bool fm_sched_clockwork_choose(struct fm_sched *sched, struct fm_sched_actions *actions,
                               struct fm_sched_choice *ret_choice);

#endif
