/*
 * The scenario file: YAML, every field in docs/sim.md.
 *
 * Owns: the syntax. Does not own: what the fields mean (scenario.h). Thread rule: no shared state.
 */
#ifndef FM_ENGINES_SIM_SCENARIO_FILE_H
#define FM_ENGINES_SIM_SCENARIO_FILE_H

#include "engines/sim/scenario.h"

/*
 * Reads and checks. Mistakes are "file:line:column: ..." (FM_EINVAL, FM_ETOOLARGE); files it names,
 * profiles and traces, are relative to it and read now (errors of reading them as they are). Always
 * deinit the scenario, whatever is returned.
 */
int FM_NODISCARD fm_sim_scenario_load(const char *path, struct fm_sim_scenario *scenario,
                                      struct fm_error *reterr);
/* The same from text; `file` is its name in messages and tells what other files are relative to. */
int FM_NODISCARD fm_sim_scenario_load_text(const char *file, const char *text, size_t length,
                                           struct fm_sim_scenario *scenario,
                                           struct fm_error *reterr);

#endif
