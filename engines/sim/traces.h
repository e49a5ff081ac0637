/*
 * Loads that end: traces, and what they leave to measure at a scale.
 *
 * Owns: when a scenario's traces end, the measured interval that fits them, and what of them lies
 * behind it. Does not own: the arrivals (core/load), the run (world.h). Thread rule: no state
 * outside a call.
 *
 * HOW IT WORKS. A rate is a count over the time in which it could grow. Where all that asks is
 * traces, nothing can come after the last of them: the measured interval ends there, at a scale X
 * so many times earlier. Otherwise a higher load would be divided by a rest in which nobody asks,
 * and a search for the highest goodput would find a lower one. Where other clients ask on, the
 * interval stays as it is.
 */
#ifndef FM_ENGINES_SIM_TRACES_H
#define FM_ENGINES_SIM_TRACES_H

#include "engines/sim/scenario.h"

struct fm_sim_traces {
    uint32_t count; /* models' groups and pipelines that ask by a trace; 0: the rest says nothing */
    uint64_t end_ns;   /* of the last of them, at the scale */
    uint64_t left_out; /* their requests that come after the measured interval */
    bool shortened;    /* the measured interval ends with them, before 'measure' is over */
    /* One that ends, at early_ns, before the measured interval does; NULL: none. The scenario's. */
    const char *early;
    uint64_t early_ns;
};

/*
 * What a run at `scale` needs instead of the scenario: a shallow copy that measures another
 * interval, and whose events (where events_keep_pace says so) come at other times; NULL: nothing
 * else. fm_sim_scenario_fitted_free it; the scenario must outlive it. FM_EINVAL: everything is
 * over before the measured interval begins; FM_ENOMEM.
 */
int FM_NODISCARD fm_sim_scenario_fit(const struct fm_sim_scenario *scenario, double scale,
                                     struct fm_sim_scenario **ret_fitted,
                                     struct fm_sim_traces *ret_traces, struct fm_error *reterr);
void fm_sim_scenario_fitted_free(struct fm_sim_scenario *fitted); /* accepts NULL */

#endif
