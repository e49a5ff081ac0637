/*
 * When a job is to be finished: a time of day, or so long after it was begun.
 *
 * Owns: reading it, and which of several counts. Does not own: what is done for it
 * (core/ledger/demand.h). Thread rule: pure; fm_finish_by_settle as the store's.
 */
#ifndef FM_ENGINES_BATCH_FINISH_BY_H
#define FM_ENGINES_BATCH_FINISH_BY_H

#include <stdbool.h>
#include <stdint.h>

#include "host/store/job_store.h"

struct fm_finish_by {
    bool given;
    uint64_t at_ms;    /* since 1970; 0: after_ms counts */
    uint64_t after_ms; /* since the job was begun; 0, with at_ms 0: never */
};

/* "2026-11-23T06:00:00Z", "2026-11-23 06:00+01:00", "2h", "90m"; "none". FM_EINVAL with words. */
int FM_NODISCARD fm_finish_by_parse(const char *text, struct fm_finish_by *ret_finish_by,
                                    struct fm_error *reterr);

/*
 * The time that counts, in milliseconds since 1970; 0: none. The option's, else the one that an
 * earlier run has recorded in the store, else the job file's; it is recorded, so that a resumed job
 * keeps it. The job's notes are there (job_notes.h).
 */
int FM_NODISCARD fm_finish_by_settle(struct fm_job_store *store, const struct fm_finish_by *option,
                                     const struct fm_finish_by *job_file, uint64_t *ret_at_ms,
                                     struct fm_error *reterr);

#endif
