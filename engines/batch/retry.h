/*
 * The rows that failed in another job, as the inputs of this one.
 *
 * Owns: which of the job's inputs they are. Does not own: reading dead letters (letters.h), finding
 * where rows lie in their files (lister.h). Thread rule: one thread.
 *
 * A dead letter names its file, and the row's number in it where files hold rows. So the job has to
 * be the same, as far as its inputs go: then the rows have the ids that they had. A file that is
 * not among the inputs any more is taken all the same: its rows become dead letters that say so.
 */
#ifndef FM_ENGINES_BATCH_RETRY_H
#define FM_ENGINES_BATCH_RETRY_H

#include "engines/batch/listing.h"

struct fm_retry_row {
    size_t entry; /* of the listing */
    uint64_t row; /* of the file; 0: the file is the row */
};

/* Zero-initialise. */
struct fm_retry {
    struct fm_retry_row *rows; /* in the order of the entries, then of the rows; no two alike */
    size_t count;
};

/*
 * Leaves of the listing, which has all inputs of the job, the files with dead letters in the output
 * directory `from`, adds those that are not in it, and says which rows. FM_ENOTFOUND: no job, or it
 * has no dead letters; FM_EINVAL: they are not of such inputs; FM_ECORRUPT, FM_EIO, FM_ENOMEM.
 */
int FM_NODISCARD fm_retry_choose(struct fm_retry *retry, const char *from, const struct fm_job *job,
                                 struct fm_listing *listing, struct fm_error *reterr);
void fm_retry_deinit(struct fm_retry *retry);

#endif
