/*
 * Models into sub-clusters: which group of accelerators holds and runs which models.
 *
 * Owns: the search. Does not own: loading or unloading weights, the measurement of demand, the
 * arrays (all are the caller's). Thread rule: pure; safe anywhere. Meant for epochs, not for each
 * request: it takes memory during the call.
 *
 * THE PROBLEM. A sub-cluster has a number of accelerators and memory on each; a model placed there
 * has its weights on *every* one of them, so that any may run it (the rule of Symphony, arXiv
 * 2308.07470, whose matching thread owns one sub-cluster). Of the models placed on a sub-cluster
 * the weights must fit; its load is the sum of their demands (busy accelerators) by its
 * accelerators. Sought: the least highest load. Only a model that demands more than all of one
 * sub-cluster is placed on several; its demand is then divided freely among them.
 *
 * HOW IT WORKS. From nothing: models in order of falling demand, then of falling memory, then of
 * the larger of both shares (three attempts, unless one reaches the mean; the best counts); each to
 * the sub-cluster that is then least loaded (Graham's longest processing time first; in the second
 * attempt the one whose memory it fills best), or, where none has room, to one that can move
 * another model out of its way. A model too large for one takes as few sub-clusters as suffice
 * (FM_PARTITION_DIVIDED_PERMILLE), those with most left first. Then moves of one model away from
 * the most loaded sub-cluster, and exchanges of two, as long as they lower the higher of the two
 * loads; divided demands are levelled. From a previous assignment: what still fits stays; models
 * that are new, or have outgrown their place, are placed as above; moves and exchanges are made
 * only while the highest load is above the mean by more than threshold_permille, and only such as
 * lower the higher of the two loads by at least gain_permille of the mean. When that leaves a model
 * without room, it is solved from nothing, which is told.
 *
 * BOUNDS. Memory is never exceeded. From nothing, on equal sub-clusters whose memory is no
 * constraint and without divided models: at most 4/3 - 1/(3 m) times the least highest load (R. L.
 * Graham, Bounds on multiprocessing timing anomalies, 1969; the moves only improve it). Where
 * memory constrains, deciding whether everything fits is bin packing, and neither a ratio nor
 * finding every packing is promised; tests/unit/core/sched/partition.c states what was measured
 * against exhaustive search. Deterministic; the work is bounded: about models * sub-clusters for
 * placing, FM_PARTITION_MOVE_TRIES_MAX and FM_PARTITION_TRIES_MAX for improving.
 */
#ifndef FM_CORE_SCHED_PARTITION_H
#define FM_CORE_SCHED_PARTITION_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_PARTITION_MODELS_LIMIT       65536u
#define FM_PARTITION_CLUSTERS_LIMIT     4096u
#define FM_PARTITION_ACCELERATORS_LIMIT 65536u               /* of one sub-cluster */
#define FM_PARTITION_DEMAND_MAX_MILLI   UINT64_C(1000000000) /* of one model */
#define FM_PARTITION_MEMORY_MAX_BYTES   (UINT64_C(1) << 46)
/* A divided model gets as many sub-clusters as keep it below this load, or below the mean where
 * that is higher: more would cost memory and moves for little. */
#define FM_PARTITION_DIVIDED_PERMILLE 700u
/* Pairs looked at in each attempt: of a model and a sub-cluster for moves; of two for exchanges and
 * room. What is not reached in one call is left to the next. */
#define FM_PARTITION_MOVE_TRIES_MAX 200000000u
#define FM_PARTITION_TRIES_MAX      20000000u

struct fm_partition_model {
    const char *name;      /* for messages; NULL: its number */
    uint64_t demand_milli; /* busy accelerators * 1000, as fm_sched_stats.busy_milli */
    uint64_t memory_bytes; /* weights and what else it keeps on each accelerator */
};

struct fm_partition_cluster {
    uint32_t accelerators; /* at least 1 */
    uint64_t memory_bytes; /* of each accelerator, for models */
};

struct fm_partition_problem {
    const struct fm_partition_model *models;
    uint32_t model_count; /* 1 .. FM_PARTITION_MODELS_LIMIT */
    const struct fm_partition_cluster *clusters;
    uint32_t cluster_count; /* 1 .. FM_PARTITION_CLUSTERS_LIMIT */
    /* The trade-off of a re-solve, see above; ignored from nothing. A gain of 0 takes any move that
     * helps; with more, models that are a smaller part of a sub-cluster's load never move. */
    uint32_t threshold_permille;
    uint32_t gain_permille;
};

struct fm_partition_place {
    uint32_t model;
    uint32_t cluster;
    uint64_t demand_milli; /* this sub-cluster's part of the model's demand */
};

struct fm_partition_result {
    uint32_t place_count;
    uint32_t move_count; /* places new to a model that had some before: weights to be loaded */
    bool from_nothing;   /* no previous assignment, or none that could be kept */
    uint64_t load_max_permille;  /* highest load: 1000 keeps every accelerator of one busy */
    uint64_t load_mean_permille; /* all demand by all accelerators */
};

/*
 * Fills places[0 .. place_count), ascending by model, then by cluster; every model has at least
 * one. `previous` (NULL with count 0: from nothing) may come in any order and must not overlap
 * `places`; its demands are not read, and entries whose model or cluster is beyond the counts are
 * of things that are gone. `place_capacity`: model_count, and what divided models need on top.
 *
 * FM_EINVAL: a number beyond its limit, a model twice on a cluster in `previous`. FM_ETOOLARGE: a
 * model larger than every sub-cluster's memory. FM_ELIMIT: the models together do not fit, or no
 * packing was found, or place_capacity is too small. FM_ENOMEM. The text says which model and why.
 * On failure `places` holds nothing of use and *ret_result is zero.
 */
int FM_NODISCARD fm_partition_solve(const struct fm_partition_problem *problem,
                                    const struct fm_partition_place *previous,
                                    uint32_t previous_count, struct fm_partition_place *places,
                                    uint32_t place_capacity, struct fm_partition_result *ret_result,
                                    struct fm_error *reterr);

/* Whether `places` is an assignment as above: order, every model there and its demand complete,
 * memory kept. In O(models + places + clusters), with memory for each cluster; false also for want
 * of that. For tests. */
bool fm_partition_validate(const struct fm_partition_problem *problem,
                           const struct fm_partition_place *places, uint32_t place_count);

#endif
