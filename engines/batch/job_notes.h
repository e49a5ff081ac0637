/*
 * What the master notes in the job's store for those who look at it from outside: how the job is
 * called, when it was begun, and how its last run ended.
 *
 * Owns: the keys (job_look.h reads them). Does not own: what is compared before a job is resumed.
 * Thread rule: as the store's.
 */
#ifndef FM_ENGINES_BATCH_JOB_NOTES_H
#define FM_ENGINES_BATCH_JOB_NOTES_H

#include "engines/batch/job_file.h"
#include "host/store/job_store.h"

#define FM_JOB_NOTE_NAME  "job.name"
#define FM_JOB_NOTE_FILE  "job.file"
#define FM_JOB_NOTE_BEGUN "job.begun" /* milliseconds since 1970, in decimal */
/* When it is to be finished, in the same form; 0: at no time (finish_by.h). */
#define FM_JOB_NOTE_FINISH_BY "job.finish_by"
#define FM_JOB_NOTE_STATE     "job.state" /* "running", or why it does not */

#define FM_JOB_STATE_RUNNING   "running"
#define FM_JOB_STATE_STOPPED   "stopped"
#define FM_JOB_STATE_CANCELLED "cancelled"
#define FM_JOB_STATE_COMPLETE  "complete"

/* A run begins, at this time: durable when it returns 0. The store has been taken. */
int FM_NODISCARD fm_job_notes_begin(struct fm_job_store *store, const struct fm_job *job,
                                    uint64_t wall_ns, struct fm_error *reterr);
/* FM_EINVAL, in words: the job was cancelled, and is not to be resumed as it is. */
int FM_NODISCARD fm_job_notes_permit(struct fm_job_store *store, const char *directory,
                                     struct fm_error *reterr);
/* It has ended so; a job that was cancelled stays so, unless it is complete. As good as can be: a
 * store that fails now has failed before. */
void fm_job_notes_end(struct fm_job_store *store, const char *state);

#endif
