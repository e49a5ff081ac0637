/*
 * The running part of a batch job: the master's decisions carried out, with one worker in this
 * process.
 *
 * Owns: bringing master, worker, store and data path together; publishing what is committed;
 * stopping. Does not own: who gets which shard (core/ledger), rows (data_path.h), durability
 * (output.h, host/store). Thread rule: one call at a time, from one thread.
 *
 * HOW IT WORKS. The calling thread is the only one that touches master and holder. The data path
 * and the store's writer wake it when they have something; it takes that, hands on what follows
 * from it, gives the writer whatever is to be stored, and waits again. Stopping begins no more
 * rows, waits for those that compute, and commits what each open shard has finished: that is a
 * prefix of it, and the ledger makes the rest a shard of its own.
 */
#ifndef FM_ENGINES_BATCH_RUN_H
#define FM_ENGINES_BATCH_RUN_H

#include "core/ledger/master.h"
#include "engines/batch/fault.h"
#include "engines/batch/job_file.h"
#include "engines/batch/listing.h"
#include "host/runtime/servable.h"
#include "host/store/job_store.h"

struct fm_run_progress {
    uint64_t rows_total;
    uint64_t rows_done;      /* computed, before this run and in it */
    uint64_t rows_committed; /* safe */
    uint64_t dead_letters;
    uint64_t rows_in_flight;
    const char *slowest_stage; /* where most of the computing time went lately; NULL: unknown */
    double slowest_share;      /* of it, 0 to 1 */
};

struct fm_run_hooks {
    bool (*stop)(void *context); /* asked several times a second; NULL: never */
    void (*progress)(void *context, const struct fm_run_progress *progress); /* likewise */
    void *context;
};

struct fm_run_options {
    const struct fm_job *job;
    const char *base;
    struct fm_servable *servable;
    struct fm_master *master; /* restored, with all rows, closed; workers_max at least 1 */
    struct fm_job_store *store;
    struct fm_row_source *source;
    uint32_t input;          /* of the pipeline, that gets the file's bytes */
    uint32_t rows_in_flight; /* > 0 */
    uint64_t shard_rows;     /* > 0; as the master has it */
    uint64_t lease_ns;       /* likewise */
    uint64_t worker;         /* a number that was never a worker's of this job */
    struct fm_fault *fault;
    struct fm_run_hooks hooks;
};

enum fm_run_end {
    FM_RUN_FINISHED,  /* no row is left to do */
    FM_RUN_STOPPED,   /* by hooks.stop */
    FM_RUN_THRESHOLD, /* too many dead letters */
    FM_RUN_FAILED,    /* the output, the ledger or the listing failed */
};

/* Returns 0 and sets *ret_end, or a negative status (FAILED, or no memory to begin with) with its
 * text. THRESHOLD sets the text, too. */
int FM_NODISCARD fm_run(const struct fm_run_options *options, enum fm_run_end *ret_end,
                        struct fm_run_progress *ret_progress, struct fm_error *reterr);

#endif
