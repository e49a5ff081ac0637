/*
 * What a stress of the scheduler found, for programs and for people.
 *
 * Owns: the JSON and the table (docs/bench-sched.md documents both). Thread rule: pure.
 */
#ifndef FM_ENGINES_BENCH_SCHED_STRESS_REPORT_H
#define FM_ENGINES_BENCH_SCHED_STRESS_REPORT_H

#include "core/util/text.h"
#include "engines/bench/sched_stress.h"

void fm_sched_stress_report_json(const struct fm_sched_stress_result *result, struct fm_text *text);
void fm_sched_stress_report_table(const struct fm_sched_stress_result *result,
                                  struct fm_text *text);

#endif
