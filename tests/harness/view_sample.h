/*
 * A picture of a server that has everything in it: three models, stages, accelerators, loops,
 * spans, history, log. What the tests of the metrics page, the dashboard's state and the trace look
 * at.
 *
 * Thread rule: one thread.
 */
#ifndef FM_TESTS_HARNESS_VIEW_SAMPLE_H
#define FM_TESTS_HARNESS_VIEW_SAMPLE_H

#include "engines/serve/view.h"

struct fm_view_sample {
    struct fm_view view;
    struct fm_model_counters *counters;
    struct fm_model_totals totals;
    struct fm_model_totals nothing;
    struct fm_recent recent;
    struct fm_history history;
    struct fm_timeline timeline;
    struct fm_advice advice;
    struct fm_port ports[2];
    struct fm_view_model models[3];
    struct fm_view_accelerator accelerators[3];
    struct fm_view_loop loops[2];
    struct fm_view_stage stages[2];
};

/* Aborts when there is no memory. */
void fm_view_sample_init(struct fm_view_sample *sample);
void fm_view_sample_deinit(struct fm_view_sample *sample);

/* Writes `size` bytes to <FM_SAMPLE_OUT>/name for a script to look at; nothing without that
 * variable. False when it could not. */
bool fm_view_sample_save(const char *name, const char *data, size_t size);

#endif
