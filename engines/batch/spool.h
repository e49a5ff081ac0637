/*
 * Rows that can be had once only, those of a query or of standard input, taken down before the job
 * begins: as one file, that the job, its resumptions and all its workers read.
 *
 * Owns: where that file lies, when it is made anew, its checksum. Does not own: what is in it
 * (host/source). Thread rule: one thread.
 *
 * HOW IT WORKS. The file is made in .fermata/spool.new/ under the job's lock, and becomes
 * .fermata/spool/ when the job begins: before that a former job's rows stay as they are, and a job
 * that is refused leaves none. Standard input is written as stdin.part, which becomes stdin when it
 * is whole: after a crash before the job has begun, --resume takes what has that name, and a start
 * that is refused then leaves it. Rows of another job, whose dead letters are run, are made in
 * .fermata/spool.retry/ instead: they are nobody's standard input. A job that only looks has its
 * rows in a temporary directory. What a signal would leave half done is removed when it comes
 * (host/os/stop_signal.h).
 */
#ifndef FM_ENGINES_BATCH_SPOOL_H
#define FM_ENGINES_BATCH_SPOOL_H

#include "engines/batch/fault.h"
#include "engines/batch/listing.h"

/* Zero-initialise. */
struct fm_spool {
    bool made;    /* by this start, which removes it unless the job begins */
    bool taken;   /* by an earlier one, from standard input; no job had begun with it */
    bool settles; /* it is not yet where it stays */
    char folder[FM_LISTING_ID_MAX]; /* where it lies */
    const char *output;             /* in whose state it is going to lie; NULL: it is removed */
    char checksum[24];              /* of the file, in words */
};

struct fm_spool_options {
    const struct fm_job *job;
    bool temporary; /* nothing is written into the output directory */
    bool resumes;   /* standard input that was taken down is there, or new */
    bool continues; /* or it was taken down as a whole by a start that was cut short then */
    /* Of a job that was begun: the sum of its rows, which have to be there. NULL: it was not. */
    const char *recorded;
    const char *retry;      /* the output directory whose rows are taken; NULL: none */
    uint64_t rows_max;      /* of a query: at most so many are wanted */
    struct fm_fault *fault; /* NULL: none */
};

/* Finds the rows, or takes them down. What the database says; FM_ENOTFOUND: `retry` has none;
 * FM_ECORRUPT: the rows are not those of the job that was begun; FM_ENOSPC, FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_spool_open(struct fm_spool *spool, const struct fm_spool_options *options,
                               struct fm_error *reterr);
/* Its only file as the listing of a job. FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_spool_list(const struct fm_spool *spool, const struct fm_job *job,
                               struct fm_listing *ret_listing, struct fm_error *reterr);
/* The job begins: the file is brought to where it stays, durably. */
int FM_NODISCARD fm_spool_settle(struct fm_spool *spool, struct fm_error *reterr);
/* Names the rows as a person knows them, where an error of them names the file that they are in.
 * Accepts NULL. */
void fm_spool_error(const struct fm_spool *spool, const struct fm_job *job, struct fm_error *error);
/* Removes what this start has made and no job has begun with. Accepts a zeroed one. */
void fm_spool_close(struct fm_spool *spool);

#endif
