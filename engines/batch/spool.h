/*
 * Rows that can be had once only, those of a query or of standard input, taken down before the job
 * begins: as one file, that the job, its resumptions and all its workers read.
 *
 * Owns: where that file lies, when it is made anew, its checksum. Does not own: what is in it
 * (host/source). Thread rule: one thread.
 *
 * HOW IT WORKS. The file is made in .fermata/spool.new/ under the job's lock, and becomes
 * .fermata/spool/ when the job begins: before that a former job's rows stay as they are, and a job
 * that is refused leaves none. A job that only looks has it in a temporary directory.
 */
#ifndef FM_ENGINES_BATCH_SPOOL_H
#define FM_ENGINES_BATCH_SPOOL_H

#include "engines/batch/listing.h"

/* Zero-initialise. */
struct fm_spool {
    bool open;
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
    const char *retry; /* the output directory whose rows are taken; NULL: none */
    uint64_t rows_max; /* of a query: at most so many are wanted */
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
/* Removes what was not settled. Accepts a zeroed one. */
void fm_spool_close(struct fm_spool *spool);

#endif
