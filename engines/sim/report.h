/*
 * What a simulation found, for programs and for people.
 *
 * Owns: the JSON (docs/sim.md documents it) and the tables. Does not own: the numbers (world.h,
 * search.h), pages and traces (page.h, trace.h). Thread rule: pure.
 */
#ifndef FM_ENGINES_SIM_REPORT_H
#define FM_ENGINES_SIM_REPORT_H

#include "core/util/text.h"
#include "engines/sim/search.h"

/* One run. */
void fm_sim_report_json(const struct fm_sim_result *result, struct fm_text *text);
void fm_sim_report_table(const struct fm_sim_result *result, struct fm_text *text);

/* A search over seeds with one policy: the median, and each seed's. */
void fm_sim_report_goodput_json(const struct fm_sim_scenario *scenario, double bad_rate,
                                const struct fm_sim_task *tasks, uint32_t task_count,
                                struct fm_text *text);
void fm_sim_report_goodput_table(double bad_rate, const struct fm_sim_task *tasks,
                                 uint32_t task_count, struct fm_text *text);

/* Policies side by side: `seed_count` tasks for each, one after the other; every number is the
 * median over the seeds. */
void fm_sim_report_compare_json(const struct fm_sim_task *tasks, uint32_t task_count,
                                uint32_t seed_count, struct fm_text *text);
void fm_sim_report_compare_table(const struct fm_sim_task *tasks, uint32_t task_count,
                                 uint32_t seed_count, struct fm_text *text);

/* The task in the middle by goodput (the lower one of two), of `count`. */
const struct fm_sim_task *fm_sim_report_median(const struct fm_sim_task *tasks, uint32_t count);

#endif
