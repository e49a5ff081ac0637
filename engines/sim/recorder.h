/*
 * Records a scheduler's steps into memory that grows, for a file (core/sched/record.h).
 *
 * Owns: the bytes, and the first thing that went wrong: a caller looks once, at the end. Does not
 * own: the format, files. Thread rule: one thread at a time for each object.
 */
#ifndef FM_ENGINES_SIM_RECORDER_H
#define FM_ENGINES_SIM_RECORDER_H

#include "core/sched/record.h"
#include "core/util/text.h"

/* Zero-initialise. */
struct fm_sim_recorder {
    struct fm_text bytes;
    struct fm_sched_record_writer *writer;
    void *buffer;
    size_t buffer_size;
    struct fm_error error; /* the first one; what is said after it is ignored */
};

void fm_sim_recorder_begin(struct fm_sim_recorder *recorder,
                           const struct fm_sched_record_header *header);
void fm_sim_recorder_step(struct fm_sim_recorder *recorder,
                          const struct fm_sched_record_step *step);
/* Ends the recording: all of it is in recorder->bytes, or the first error in reterr. */
int FM_NODISCARD fm_sim_recorder_finish(struct fm_sim_recorder *recorder, struct fm_error *reterr);
void fm_sim_recorder_deinit(struct fm_sim_recorder *recorder);

#endif
