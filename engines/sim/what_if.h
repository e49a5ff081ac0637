/*
 * What if: the load of a recording as a scenario.
 *
 * Owns: taking requests, models and accelerators out of a recording. Does not own: the format
 * (core/sched/record.h), running it (world.h). Thread rule: no state outside a call.
 *
 * HOW IT WORKS. Which batches end when depends on what the scheduler decided, so the ends in a
 * recording say nothing about another policy; nor do failures and cancels, which came after
 * decisions. What came from outside is taken: every request at its time with its own deadline and
 * priority, the models with their profiles as they came, went and changed, and which accelerators
 * were up, or slow, when. The
 * simulator ends batches by the profiles. Time begins with the first request, measured is until the
 * last one. At a scale X everything recorded comes X times earlier.
 */
#ifndef FM_ENGINES_SIM_WHAT_IF_H
#define FM_ENGINES_SIM_WHAT_IF_H

#include "engines/sim/scenario.h"

/* What could not be taken over. */
struct fm_sim_what_if {
    uint64_t cancels;
    uint64_t failures; /* of batches */
    uint64_t changes;  /* of models: of anything but the latencies of the types they ran on */
    uint64_t homeless; /* requests for models that were not there, or not yet */
};

/*
 * Makes a scenario of data[size], called `file` (borrowed). Errors, which do not name the file, as
 * of fm_sim_replay, and FM_EINVAL where there is nothing that can be simulated. Deinit the scenario
 * in any case.
 */
int FM_NODISCARD fm_sim_what_if_load(const char *file, const void *data, size_t size,
                                     struct fm_sim_scenario *ret_scenario,
                                     struct fm_sim_what_if *ret_what_if, struct fm_error *reterr);

#endif
