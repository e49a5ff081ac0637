/*
 * Finds a job's inputs while the job runs: on a thread of its own, segment after segment, so that
 * the first rows are worked on before the last ones are known.
 *
 * Owns: the thread; when a segment is cut; counting the rows of files that hold many; bringing a
 * segment to the disk and into the store before anybody hears of it. Does not own: how files are
 * found (listing.h), what index files look like (row_index.h), the ledger: whoever takes a segment
 * adds it there. Thread rule: all functions from one thread.
 *
 * HOW IT WORKS. A segment is cut when some time has passed, at first a tenth of a second, then
 * twice as long each time, up to 20 s: so there are few of them, however long it takes. Where a
 * directory or a pattern is the input, files are recorded as the walk comes by; lists are sorted
 * first. The rows of files are counted in one pass, and a segment may end in the middle of a file.
 * Where some inputs are to be done first (priority.h) a segment ends also where the next file has
 * another rank, so that it has one rank; after RANK_CUTS_MAX of such ends there are no more, and a
 * segment has the lowest rank among its files: nothing comes later than it was to.
 *
 * A lister that is stopped, or dies, leaves a job that knows a part of its inputs: the rest are new
 * ones to whoever resumes it.
 */
#ifndef FM_ENGINES_BATCH_LISTER_H
#define FM_ENGINES_BATCH_LISTER_H

#include "engines/batch/fault.h"
#include "engines/batch/retry.h"
#include "engines/batch/row_source.h"
#include "host/store/job_store.h"

struct fm_lister_options {
    const struct fm_job *job;            /* all are borrowed until the stop */
    const struct fm_source_spec *source; /* where files hold rows; else NULL */
    struct fm_job_store *store;
    /* Of a job that begins here, to be stored with its first segment; none: it has begun. */
    const struct fm_job_fact *facts;
    size_t fact_count;
    uint64_t first_row;
    uint32_t first_segment;
    uint64_t rows_max; /* at most so many are added; UINT64_MAX: all there are */
    /* What was listed already: these entries of it (NULL: all). NULL: to be walked. */
    struct fm_listing *listing;
    const size_t *order;
    size_t order_count;
    /* Only these rows of the files that `listing` has, all of them in one segment: so it is known
     * at once which rows the job has. NULL: all rows. */
    const struct fm_retry *retry;
    struct fm_fault *fault;
};

struct fm_lister;

int FM_NODISCARD fm_lister_start(const struct fm_lister_options *options,
                                 struct fm_lister **ret_lister, struct fm_error *reterr);
/* Waits until there is something to take, or the end. */
void fm_lister_wait(struct fm_lister *lister);

enum fm_lister_state {
    FM_LISTER_SEGMENT, /* *ret_segment is durable; the next one in order */
    FM_LISTER_BUSY,    /* nothing now */
    FM_LISTER_ENDED,   /* all were taken; *reterr has the words when it could not go on */
};

enum fm_lister_state fm_lister_next(struct fm_lister *lister, struct fm_job_segment *ret_segment,
                                    struct fm_error *reterr);

/* After the end. */
struct fm_lister_counts {
    uint64_t hidden;     /* names that were left out for their dot */
    uint64_t duplicates; /* left out because they were named more than once */
};
void fm_lister_counts(const struct fm_lister *lister, struct fm_lister_counts *ret_counts);
/* Ends it, wherever it is, and frees it. Accepts NULL. */
void fm_lister_stop(struct fm_lister *lister);

/* Where a segment's list of inputs is, and the index of their rows. */
struct fm_segment_paths {
    char listing[4096];
    char index[4096];
};

int FM_NODISCARD fm_segment_paths_make(const char *directory, uint32_t segment,
                                       struct fm_segment_paths *ret_paths, struct fm_error *reterr);

#endif
