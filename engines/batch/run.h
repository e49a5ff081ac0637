/*
 * The running part of a batch job: threads that read, format and write while the executor computes.
 *
 * Owns: rows in flight and their limits, the order of lines inside a shard, the error threshold,
 * stopping. Does not own: which shard is next (core/ledger), durability (output.h, host/store), the
 * pipeline (host/runtime). Thread rule: one call at a time, from one thread.
 *
 * HOW IT WORKS. The calling thread claims shards and admits their rows in order, as long as rows
 * are free. Reader threads read files and submit them to the executor; when the executor is done
 * with a row they also turn it into its line. The writer thread appends lines in row order and
 * commits a shard when its last line is there: sync, ledger, rename. A row's memory is used again
 * once its line is written, so that memory is bounded by rows_in_flight and bytes_in_flight
 * whatever the size of the job. Stopping admits no more rows, waits for those that compute, and
 * commits what each open shard has finished: rows are admitted in order, so that is a prefix of it,
 * and the ledger makes the rest a shard of its own.
 */
#ifndef FM_ENGINES_BATCH_RUN_H
#define FM_ENGINES_BATCH_RUN_H

#include "core/ledger/ledger.h"
#include "engines/batch/fault.h"
#include "engines/batch/job_file.h"
#include "engines/batch/listing.h"
#include "host/runtime/servable.h"
#include "host/store/job_store.h"

/* Shards being written at once. */
#define FM_RUN_SHARDS_MAX 64

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
    struct fm_ledger *ledger;
    struct fm_job_store *store;
    struct fm_row_source *source;
    uint32_t input;          /* of the pipeline, that gets the file's bytes */
    uint32_t rows_in_flight; /* > 0 */
    uint64_t shard_rows;     /* > 0; of a new shard */
    uint64_t owner;
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
