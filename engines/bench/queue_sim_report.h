/*
 * What the simulator of the queue of bench tasks found, as a table and as JSON; and a trace as CSV.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_ENGINES_BENCH_QUEUE_SIM_REPORT_H
#define FM_ENGINES_BENCH_QUEUE_SIM_REPORT_H

#include "core/util/text.h"
#include "engines/bench/queue_sim.h"

/* Append to text, which says whether memory ran out. */
void fm_queue_sim_report_table(const struct fm_queue_sim_result *result, struct fm_text *text);
void fm_queue_sim_report_json(const struct fm_queue_sim_result *result, struct fm_text *text);
/* In the form that fm_queue_trace_parse reads; times are exact. */
void fm_queue_trace_csv(const struct fm_queue_trace *trace, struct fm_text *text);

#endif
