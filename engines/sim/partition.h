/*
 * A scenario's accelerators in sub-clusters, each with some of the models and a scheduler of its
 * own.
 *
 * Owns: which accelerators and models belong to which sub-cluster, when, and which requests go
 * where; running a scenario so divided. Does not own: the search (core/sched/partition.h), what
 * happens in a sub-cluster (world.h). Thread rule: a finished division is read-only.
 *
 * HOW IT WORKS. The accelerators of each type are cut into equal runs, one for each sub-cluster.
 * The models are placed by fm_partition_solve, at time 0, every `every_ns`, and whenever a model
 * comes, goes or gets a profile the scheduler is told of; each time from the placement before, so
 * that few models move. Demand is what the scenario says will arrive until the next time, in
 * accelerators kept busy by batches of the size that the SLO allows: nothing is measured, a live
 * system would know less. A request goes to its model's sub-cluster of the moment it arrives; where
 * the model is divided over several, by a number drawn for it, in proportion. What waits where a
 * model has moved away is still served there. As sub-clusters have nothing in common but the
 * arrivals, which each can draw for itself, they are run one after the other and added up.
 */
#ifndef FM_ENGINES_SIM_PARTITION_H
#define FM_ENGINES_SIM_PARTITION_H

#include "core/sched/partition.h"
#include "engines/sim/world.h"

#define FM_SIM_SOLVES_MAX 4096u
#define FM_SIM_PLACES_MAX (1u << 24) /* models times solves */

/* A model's place in a sub-cluster. */
struct fm_sim_place {
    uint32_t model;
    uint32_t cluster;
    uint64_t demand_milli; /* busy accelerators * 1000 */
    uint64_t below;        /* it takes the numbers from the place before up to this one */
};

struct fm_sim_cluster_plan {
    uint32_t model_count;
    uint64_t demand_milli;
    uint64_t memory_bytes; /* on each accelerator */
};

/* A placement, until the next one. */
struct fm_sim_solve {
    uint64_t at_ns;
    struct fm_sim_place *places; /* by model, then by sub-cluster */
    uint32_t place_count;
    uint32_t *first;                      /* of each model in places; [model_count + 1] */
    struct fm_sim_cluster_plan *clusters; /* [cluster_count] */
    struct fm_partition_result result;
};

struct fm_sim_division {
    uint32_t cluster_count;
    uint32_t model_count;
    uint32_t accelerator_count;
    uint32_t *accelerator_clusters;
    uint32_t *accelerators; /* how many, of each sub-cluster */
    uint32_t *locals;       /* of each accelerator: its number in its sub-cluster */
    uint32_t *members;      /* all accelerators, by sub-cluster, then by number */
    uint32_t *first;        /* of each sub-cluster in members */
    struct fm_sim_solve *solves;
    uint32_t solve_count;
};

/* Divides a checked scenario with partition.clusters > 0. FM_EINVAL: not enough accelerators,
 * FM_ETOOLARGE, FM_ELIMIT: the models' memory, FM_ENOMEM. The text names the key to change. */
int FM_NODISCARD fm_sim_division_create(const struct fm_sim_scenario *scenario, double scale,
                                        struct fm_sim_division **ret_division,
                                        struct fm_error *reterr);
void fm_sim_division_destroy(struct fm_sim_division *division); /* accepts NULL */

/* Whether the model is ever placed there. */
bool fm_sim_division_has(const struct fm_sim_division *division, uint32_t cluster, uint32_t model);

struct fm_sim_cluster_result {
    struct fm_sim_counts total;
    uint64_t busy_ns;
};

struct fm_sim_partition_result {
    struct fm_sim_division *division;
    struct fm_sim_cluster_result *clusters; /* [cluster_count] */
    bool has_pool;
    struct fm_sim_counts pool; /* the same load on one pool with one scheduler */
};
void fm_sim_partition_result_free(struct fm_sim_partition_result *partition); /* accepts NULL */

/* fm_sim_run for a scenario with partition.clusters > 0. */
int FM_NODISCARD fm_sim_partition_run(const struct fm_sim_scenario *scenario,
                                      const struct fm_sim_run_options *options,
                                      struct fm_sim_result **ret_result, struct fm_error *reterr);

#endif
