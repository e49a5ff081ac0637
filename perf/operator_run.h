/*
 * Runs an operator's item of a flow on this thread: for programs that measure and drive a flow by
 * hand. Ends the program where it fails. Thread rule: the flow's.
 */
#ifndef FM_PERF_OPERATOR_RUN_H
#define FM_PERF_OPERATOR_RUN_H

#include "core/plan/flow.h"
#include "host/runtime/servable.h"

/* The item is done then; the task is still to be ended. */
void perf_operator_run(struct fm_flow *flow, const struct fm_pipeline *pipeline,
                       const struct fm_stage_binding *bindings, const struct fm_flow_task *task);

#endif
