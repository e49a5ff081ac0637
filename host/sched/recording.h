/*
 * The recording of a scheduler that works in real time, into a file (core/sched/record.h has the
 * format, docs/record.md what it is good for).
 *
 * Owns: the file, a thread that writes to it, buffers on their way there. Does not own: the
 * scheduler. Thread rule: step by one thread at a time; everything else by one thread, with no step
 * going on.
 *
 * The scheduler never waits for the disk: when FM_RECORDING_BUFFERS are full and not written, or
 * writing fails, the recording ends there, is good up to there, and says why when it is closed.
 * What is recorded is in the file a second later at the latest, if there are steps or somebody
 * flushes once a second.
 */
#ifndef FM_HOST_SCHED_RECORDING_H
#define FM_HOST_SCHED_RECORDING_H

#include "core/sched/record.h"

#define FM_RECORDING_BUFFERS      32u
#define FM_RECORDING_BUFFER_BYTES (1u << 20)

struct fm_recording;

/* Makes the file, which must not exist yet (FM_EEXIST), and begins the recording. */
int FM_NODISCARD fm_recording_open(const char *path, const struct fm_sched_record_header *header,
                                   struct fm_recording **ret_recording, struct fm_error *reterr);
void fm_recording_step(struct fm_recording *recording, const struct fm_sched_record_step *step);
/* Gives what there is to the file's thread; by who steps, between two steps. Why the recording has
 * ended, if it has. */
int FM_NODISCARD fm_recording_flush(struct fm_recording *recording, struct fm_error *reterr);
/* Writes what is left and the end. A failure, also one from before, is said once, here. Accepts
 * NULL. */
int FM_NODISCARD fm_recording_close(struct fm_recording *recording, struct fm_error *reterr);

struct fm_recording_stats {
    uint64_t bytes; /* in the file */
    uint64_t steps;
    bool ended; /* before it was closed: something went wrong */
};
/* Any thread. */
void fm_recording_stats_get(const struct fm_recording *recording,
                            struct fm_recording_stats *ret_stats);

#endif
