/*
 * What the simulated world is made of. For world.c and world_create.c alone; users include world.h.
 *
 * Owns: nothing; shapes. Files: world_create.c (memory, the scheduler, the books), world.c (what
 * happens). Thread rule: one thread for a world.
 */
#ifndef FM_ENGINES_SIM_WORLD_STATE_H
#define FM_ENGINES_SIM_WORLD_STATE_H

#include "core/util/random.h"
#include "engines/sim/autoscaler.h"
#include "engines/sim/latencies.h"
#include "engines/sim/time_heap.h"
#include "engines/sim/world.h"

#define FM_SIM_WORLD_EVENTS_MAX  1024u
#define FM_SIM_WORLD_GRANTS_MAX  2u
#define FM_SIM_WORLD_STAGE_FIRST 0x8000u
/* Virtual time after the last arrival, the last deadline and the last end of a batch in which
 * everything must have had its outcome. */
#define FM_SIM_WORLD_DRAIN_NS UINT64_C(3600000000000)

struct fm_sim_world_slot {
    uint64_t arrival_ns;
    uint64_t deadline_ns;
    uint32_t model;
    uint32_t next; /* in its batch */
    uint32_t generation;
    uint16_t bucket;
    /* In its model's result; from FM_SIM_WORLD_STAGE_FIRST on: of world.stages. */
    uint16_t class_index;
};
_Static_assert(FM_SIM_TIMELINE_BUCKETS <= UINT16_MAX, "a part of the timeline in a slot");

struct fm_sim_world_batch {
    uint64_t number;
    uint64_t planned_ns; /* not before */
    uint64_t begin_ns;
    uint32_t model;
    uint32_t first;
    uint32_t count;
    bool fails;
};

struct fm_sim_world_accelerator {
    struct fm_sim_world_batch batches[FM_SIM_WORLD_GRANTS_MAX]; /* [0] runs, [1] waits behind it */
    uint32_t batch_count;
    uint32_t permille;
    uint32_t type;
    uint32_t bucket_next; /* it is not counted as used in this part of the timeline yet */
    bool up;
};

struct fm_sim_world_model {
    struct fm_arrivals *arrivals;
    struct fm_sim_model_result *result;
    const struct fm_sim_latencies *truth;   /* what batches take */
    const struct fm_sim_latencies *promise; /* what the scheduler is told that they take */
    uint64_t slo_ns;
    uint32_t group;
    uint32_t priority;
    bool present;
    bool elsewhere;   /* in no time in this sub-cluster */
    bool varied;      /* `variety` has a say in what its requests are */
    uint64_t arrived; /* of a varied one */
};

/* Of a model whose requests are not all alike, or do not all come. */
struct fm_sim_world_variety {
    struct fm_random slo;
    struct fm_random priority;
    struct fm_random place; /* among the sub-clusters of a divided model */
};

/* A stage of a pipeline. */
struct fm_sim_world_stage {
    uint32_t pipeline;
    uint32_t index; /* in it */
    uint32_t model;
    uint32_t priority;
    uint64_t due_ns; /* from the request's arrival */
    bool last;
};

struct fm_sim_world_pipeline {
    struct fm_arrivals *arrivals;
    uint32_t stage_first; /* in world.stages */
};

/* What a request has. */
struct fm_sim_world_traits {
    uint64_t budget_ns; /* from its arrival to its deadline */
    uint32_t priority;
    uint32_t class_index;
};

struct fm_sim_world {
    const struct fm_sim_scenario *scenario;
    const struct fm_sim_run_options *options;
    struct fm_error *reterr;
    struct fm_sched *sched;
    struct fm_sim_auditor *auditor;
    struct fm_sim_result *result;

    struct fm_sim_world_model *models;
    struct fm_sim_world_variety *varieties; /* by model; NULL: no model has any */
    uint32_t model_count;
    struct fm_sim_world_pipeline *pipelines;
    struct fm_sim_world_stage *stages; /* of all pipelines, in order */
    struct fm_time_heap going;         /* to their next stage; id: slot */
    struct fm_sim_latencies *shared;   /* by group, then by event (of those with a profile) */
    uint32_t shared_count;
    struct fm_sim_world_accelerator *accelerators;
    uint32_t accelerator_count;
    struct fm_sim_world_slot *slots;
    uint32_t slot_count;
    uint32_t *slots_free;
    uint32_t slots_free_count;
    uint32_t generation;

    uint64_t now_ns;
    uint64_t end_ns;   /* of arrivals */
    uint64_t limit_ns; /* of everything */
    uint64_t wake_ns;
    uint64_t bucket_end_ns;
    uint32_t bucket;
    uint32_t event_next;                 /* of the scenario */
    uint32_t solve;                      /* of the division, now */
    struct fm_sim_autoscaler autoscaler; /* without autoscaling: all zero */
    uint32_t up_count;
    uint64_t counted_ns; /* up to here `up_count` is in the result */
    struct fm_time_heap arrivals;
    struct fm_time_heap ends;    /* id: accelerator, tag: low bits of the batch's number */
    struct fm_time_heap cancels; /* id: slot, tag: generation */

    struct fm_random spread;
    struct fm_random failures;
    struct fm_random cancelling;

    struct fm_sched_event *events;
    uint32_t event_count;
    struct fm_sched_actions actions;
};

/* Sets the world's error. FM_ENOMEM. */
int fm_sim_world_out_of_memory(const struct fm_sim_world *world);
/* Everything but scenario, options and reterr, which are set. On failure destroy it all the same.
 */
int FM_NODISCARD fm_sim_world_create(struct fm_sim_world *world);
void fm_sim_world_destroy(struct fm_sim_world *world);

#endif
