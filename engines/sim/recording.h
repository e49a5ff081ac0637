/*
 * The batches of a run, kept for who draws them: the trace for Perfetto and the page's timeline.
 *
 * Owns: the spans, up to a number given, and the trace format. What does not fit is counted, not
 * kept. Thread rule: one thread at a time for each object.
 */
#ifndef FM_ENGINES_SIM_RECORDING_H
#define FM_ENGINES_SIM_RECORDING_H

#include "core/util/text.h"
#include "engines/sim/world.h"

#define FM_SIM_TRACE_SPANS_MAX 1000000u
#define FM_SIM_PAGE_SPANS_MAX  40000u

/* Zero-initialise, set span_max. */
struct fm_sim_recording {
    struct fm_sim_span *spans;
    uint32_t span_count;
    uint32_t span_capacity;
    uint32_t span_max;
    uint64_t omitted;
};

/* For fm_sim_run_options.on_span; the context is the recording. */
void fm_sim_recording_add(void *recording, const struct fm_sim_span *span);
void fm_sim_recording_deinit(struct fm_sim_recording *recording);

/* Chrome trace events (JSON): one row for each accelerator that ran something. Opens in
 * Perfetto. */
void fm_sim_recording_trace(const struct fm_sim_recording *recording,
                            const struct fm_sim_result *result, struct fm_text *text);

#endif
