/*
 * Pipelines of a scenario: how their deadlines are split over their stages.
 *
 * Owns: the split, by core/sched/budget.h or evenly, and what of it the scheduler is told. Does not
 * own: requests on their way (world.h). Thread rule: call while the scenario is being checked.
 */
#ifndef FM_ENGINES_SIM_PIPELINE_H
#define FM_ENGINES_SIM_PIPELINE_H

#include "engines/sim/scenario.h"

/*
 * Fills due_ns of every pipeline and stage_ns of every group, for the scenario's load (whatever
 * the scale of a run, as a configuration would). Rows that others send to a stage's model fill its
 * batches, too. FM_EINVAL with place and reason: the deadline does not hold the stages; FM_ENOMEM.
 */
int FM_NODISCARD fm_sim_pipelines_split(struct fm_sim_scenario *scenario, struct fm_error *reterr);

#endif
