/*
 * Autoscaling in the simulated world: which accelerators come, which go, and when.
 *
 * Owns: what each accelerator is to autoscaling (away, starting, up, leaving, broken), and the
 * times of looking and of coming up. How many there should be is core/sched/advice.h's word. Does
 * not own: accelerators, batches, telling the scheduler (world.h). Thread rule: one thread at a
 * time for each object.
 *
 * HOW IT WORKS. Every `interval` a look takes the scheduler's numbers to the advisor. When fewer
 * are up than it wants, the lowest-numbered ones that are away start, and are up start_delay later;
 * starts that are wanted no more are called off, highest number first. When some could go, the
 * highest-numbered ones are leaving: the world takes each down once nothing runs on it. One that is
 * wanted again before that stays.
 */
#ifndef FM_ENGINES_SIM_AUTOSCALER_H
#define FM_ENGINES_SIM_AUTOSCALER_H

#include "core/sched/advice.h"
#include "core/sched/sched.h"
#include "engines/sim/scenario.h"

enum fm_sim_presence {
    FM_SIM_PRESENCE_AWAY,
    FM_SIM_PRESENCE_STARTING,
    FM_SIM_PRESENCE_UP,
    FM_SIM_PRESENCE_LEAVING, /* up, to be taken down when nothing runs on it */
    FM_SIM_PRESENCE_BROKEN   /* by an event of the scenario: as if it were not there */
};

struct fm_sim_autoscaler {
    const struct fm_sim_autoscale *settings; /* borrowed */
    struct fm_advisor advisor;
    uint32_t count;
    uint8_t *presences;  /* enum fm_sim_presence, by accelerator */
    uint64_t *starts_ns; /* when one that is starting is up */
    uint32_t starting_count;
    uint64_t look_ns;
    uint64_t start_next_ns; /* the earliest of starts_ns; UINT64_MAX: none is starting */
    uint32_t wanted;
    uint64_t changes; /* of `wanted` */
    /* Outcomes since the last look, without those that no accelerator could have helped. */
    uint64_t outcome_count;
    uint64_t bad_count;
};

/* The first `initial` are up. `settings` has been checked. FM_ENOMEM. Always deinit. */
int FM_NODISCARD fm_sim_autoscaler_init(struct fm_sim_autoscaler *autoscaler,
                                        const struct fm_sim_autoscale *settings,
                                        uint32_t accelerator_count);
void fm_sim_autoscaler_deinit(struct fm_sim_autoscaler *autoscaler);

/* A request has been answered, or dropped. */
static inline void fm_sim_autoscaler_outcome(struct fm_sim_autoscaler *autoscaler, bool bad)
{
    autoscaler->outcome_count++;
    autoscaler->bad_count += bad;
}
/* Whether more accelerators might have served a request that was dropped for this reason. */
bool fm_sim_autoscaler_is_lack(enum fm_sched_drop_reason reason);

/* When something is to be done next. */
uint64_t fm_sim_autoscaler_next_ns(const struct fm_sim_autoscaler *autoscaler);
/* The lowest-numbered one whose start is over by now, which is up from now on; FM_SCHED_NONE. */
uint32_t fm_sim_autoscaler_started(struct fm_sim_autoscaler *autoscaler, uint64_t now_ns);
/* Looks, if it is time. True: some may be leaving. */
bool fm_sim_autoscaler_look(struct fm_sim_autoscaler *autoscaler, uint64_t now_ns,
                            const struct fm_sched_stats *stats);
/* One that was leaving has been taken down. */
void fm_sim_autoscaler_left(struct fm_sim_autoscaler *autoscaler, uint32_t accelerator);
/* An event of the scenario takes one away, whatever it is to autoscaling, or gives it back: it is
 * then away, and started when it is wanted. */
void fm_sim_autoscaler_break(struct fm_sim_autoscaler *autoscaler, uint32_t accelerator,
                             bool broken);

static inline bool fm_sim_autoscaler_is_leaving(const struct fm_sim_autoscaler *autoscaler,
                                                uint32_t accelerator)
{
    return autoscaler->presences[accelerator] == FM_SIM_PRESENCE_LEAVING;
}

#endif
