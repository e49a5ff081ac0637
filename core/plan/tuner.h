/*
 * The tuner: how many rows are in flight, how many threads read and run operators, and how large
 * batches are, so that the slowest part of a data path never waits for another one.
 *
 * Owns: these decisions. Does not own: measuring, threads, batches (engines/batch/data_path).
 * Thread rule: pure; caller's memory.
 *
 * HOW IT WORKS. Hill climbing, one step at a time. A window is measured; if something was short in
 * it while neither the CPUs nor a model were busy all the time, it is doubled, later raised by half
 * (all that was short, where there were several), what was in flight is let through, and another
 * window tells whether that has helped: by a fifth of what it would bring at best (as DLRover has
 * it for workers). If not, it is taken back, and tried again after a pause that doubles every time.
 * Batches of a model that is busy all the time are tried at half and at twice their size; there it
 * is the rows per busy second that count. Threads that are idle for more than half of the time go
 * back towards where they began.
 */
#ifndef FM_CORE_PLAN_TUNER_H
#define FM_CORE_PLAN_TUNER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/plan/pipeline.h"

/* Where a setting begins, and how far it may go; first == max: it is fixed. */
struct fm_tuner_range {
    uint32_t first; /* > 0 */
    uint32_t max;
};

struct fm_tuner_stage {
    uint32_t slots;     /* of a model: how many of its batches run at once; 0: an operator */
    uint32_t batch_max; /* of a model */
};

struct fm_tuner_options {
    struct fm_tuner_range rows; /* in flight */
    struct fm_tuner_range readers;
    struct fm_tuner_range operators;     /* threads; first 0: there are no operators */
    uint32_t rows_step;                  /* rows in flight go in steps of so many; > 0 */
    uint32_t cpus;                       /* > 0 */
    uint32_t stage_count;                /* up to FM_PIPELINE_STAGES_MAX */
    const struct fm_tuner_stage *stages; /* copied */
};

struct fm_tuner_settings {
    uint32_t rows;
    uint32_t readers;
    uint32_t operators;
    uint32_t batch[FM_PIPELINE_STAGES_MAX]; /* of model stages; 0: an operator */
};

/* Sums since the beginning. */
struct fm_tuner_stage_sample {
    uint64_t busy_ns; /* over all slots or threads */
    uint64_t batches;
    uint64_t rows; /* in them */
};

struct fm_tuner_sample {
    uint64_t now_ns;
    uint64_t cpu_ns;  /* of the process */
    uint64_t rows;    /* finished */
    uint64_t full_ns; /* as many rows as may be were in flight, and more could have been read */
    uint64_t readers_busy_ns; /* over all readers */
    struct fm_tuner_stage_sample stages[FM_PIPELINE_STAGES_MAX];
};

/* Internal. */
#define FM_TUNER_NO_STAGE UINT32_MAX

struct fm_tuner_knob {
    uint32_t value;
    uint32_t max;
    uint32_t misses;   /* in a row */
    uint64_t retry_ns; /* it is not tried again before */
    bool upwards;      /* the next try */
};

struct fm_tuner_path {
    uint32_t rows;
    uint32_t readers;
    uint32_t operators;
};

enum fm_tuner_phase {
    FM_TUNER_WATCHES,
    FM_TUNER_SETTLES, /* something was raised; what was in flight goes through */
    FM_TUNER_TRIES,
    FM_TUNER_COMES_BACK, /* something was lowered; likewise */
};

struct fm_tuner {
    struct fm_tuner_range rows;
    struct fm_tuner_range readers;
    struct fm_tuner_range operators;
    uint32_t rows_step;
    uint32_t cpus;
    uint32_t stage_count;
    struct fm_tuner_stage stages[FM_PIPELINE_STAGES_MAX];
    struct fm_tuner_path path;
    uint32_t path_misses;
    bool path_missed; /* ever */
    uint64_t path_retry_ns;
    struct fm_tuner_knob batches[FM_PIPELINE_STAGES_MAX];
    enum fm_tuner_phase phase;
    /* The step that is tried. */
    uint32_t stage; /* whose batches; NO_STAGE: the path */
    uint32_t batch_before;
    struct fm_tuner_path path_before;
    double speed; /* what there was to beat ... */
    double gain;  /* ... and by how much, as a share of it */
    bool begun;
    struct fm_tuner_sample begin; /* of the window */
};

void fm_tuner_init(struct fm_tuner *ret_tuner, const struct fm_tuner_options *options);
/* To be called some times in a second, while there is work. true: the settings have changed. */
bool fm_tuner_look(struct fm_tuner *tuner, const struct fm_tuner_sample *sample);
/* There was no work for a while: what was measured since the last look does not count. */
void fm_tuner_pause(struct fm_tuner *tuner);
void fm_tuner_settings(const struct fm_tuner *tuner, struct fm_tuner_settings *ret_settings);

#endif
