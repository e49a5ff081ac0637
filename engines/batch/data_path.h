/*
 * The data path of a worker: it reads the rows of shards, runs them through the pipeline, and
 * writes their lines into attempt files.
 *
 * Owns: rows in flight and their limits, the order of lines inside a shard, attempt files until
 * they are reported. Does not own: which shards there are and what their attempts are worth
 * (core/ledger), publishing them, the pipeline (host/runtime). Thread rule: every function from the
 * thread that opened it; `wake` comes from threads of its own.
 *
 * HOW IT WORKS. Rows go in blocks: one row where a file is a row, and a batch of them where files
 * hold rows and the pipeline is one model. Reader threads take the next block of the first shard
 * that has one, as long as blocks and bytes are free, read it and submit it to the executor (a row
 * behind an address is only asked for, and submitted by a reader thread when it has come); when
 * the executor is done with it they turn it into its lines. Of a shard whose rows come out of files
 * one thread reads at a time. The writer thread appends lines in row order, and when the last line
 * of a shard is there it brings the attempt to the disk. A block's memory is used again once its
 * lines are written, so that memory is bounded by rows_in_flight and bytes_in_flight whatever the
 * size of the job; a block counts with the bytes that were read for it, then with its lines until
 * they are written. It also counts against the budget of memory, with all that it is expected to
 * take on its way (path_memory.h), of which the process's resident memory is the measure: a block
 * that does not fit waits until others are through, before it is begun, or, where its size was not
 * known before it was fetched, then. What a shard came to is collected with
 * fm_data_path_poll.
 */
#ifndef FM_ENGINES_BATCH_DATA_PATH_H
#define FM_ENGINES_BATCH_DATA_PATH_H

#include "core/ledger/master.h"
#include "core/proto/batch_messages.h"
#include "engines/batch/fault.h"
#include "engines/batch/job_setup.h"

struct fm_data_path_options {
    const struct fm_job_setup *setup; /* these three are borrowed while the path is open */
    const char *base;                 /* where relative ids start */
    struct fm_fault *fault;
    struct fm_job_ranges ranges; /* of what is tuned (core/plan/tuner) */
    uint32_t rows_fetched;       /* more in flight than those, of rows behind addresses */
    /* Nothing can be run with less memory: a row that gets none becomes a dead letter, unless the
     * process has grown. Otherwise the path ends (STARVED). */
    bool single;
    uint64_t memory_bytes; /* that the process may have; 0: no limit, so that nothing is too much */
    /* That rows in work may take, beyond what the process has without any; 0: no limit. Strict: the
     * user's own number (core/plan/memory_budget). */
    uint64_t memory_budget;
    bool memory_budget_strict;
    /* There may be something to poll: called from any thread, and once after each poll that found
     * nothing. */
    void (*wake)(void *context);
    void *context;
};

/* A file that is a row to be run, or some rows of a file that holds many. */
struct fm_data_path_row {
    const char *id;
    uint64_t size;                /* of the file, where it is known; else FM_LISTING_SIZE_UNKNOWN */
    uint64_t row_count;           /* of the file's rows; 0: the file is one */
    uint64_t first_row;           /* of those, in the file */
    struct fm_record_point point; /* from which they are reached */
};

struct fm_data_path;

/* FM_ENOMEM and others: what is wrong with the outputs, threads that cannot be had. */
int FM_NODISCARD fm_data_path_open(const struct fm_data_path_options *options,
                                   struct fm_data_path **ret_path, struct fm_error *reterr);
/* Throws away what was not collected, and waits for what is in the executor, until until_ns. False:
 * something of it is still running. */
bool fm_data_path_drain(struct fm_data_path *path, uint64_t until_ns);
/* Drains it, however long that takes, and frees it. Accepts NULL. */
void fm_data_path_close(struct fm_data_path *path);

/*
 * Begins a shard, behind those that were begun before. get(context, &row) gives its files, one
 * after the other, until they have the shard's rows together; what it gives is copied. A condemned
 * row is not read: it becomes a dead letter for this reason. FM_ENOMEM, or what `get` says: nothing
 * was begun.
 */
int FM_NODISCARD fm_data_path_run(struct fm_data_path *path, const struct fm_shard *shard,
                                  const char *reason,
                                  int (*get)(void *context, struct fm_data_path_row *ret_row),
                                  void *context);
/* Leaves out the rows behind the first keep_rows, but none that has begun. Returns how many stay:
 * 0: none had begun, and the shard is gone. */
uint64_t fm_data_path_shorten(struct fm_data_path *path, uint64_t number, uint64_t keep_rows);
/* Begins no more rows of the shard: what is finished will be its end. */
void fm_data_path_curtail(struct fm_data_path *path, uint64_t number);
/* Throws the shard away, with its files. */
void fm_data_path_abandon(struct fm_data_path *path, uint64_t number);

enum fm_data_path_event_kind {
    FM_DATA_PATH_DONE,     /* the attempt is on the disk, and now the caller's */
    FM_DATA_PATH_RELEASED, /* it was curtailed before anything of it had begun, or nothing of it is
                              finished */
    FM_DATA_PATH_STARVED, /* there was no memory for a row: no more are begun, and shards end before
                             it; `error` says what; comes once */
    FM_DATA_PATH_BROKEN,  /* the path cannot go on: `error` says why; comes again */
};

struct fm_data_path_event {
    enum fm_data_path_event_kind kind;
    struct fm_master_done done; /* of the others only the number */
    struct fm_error error;
};

/* The next thing that has happened to a shard; false: nothing. */
bool fm_data_path_poll(struct fm_data_path *path, struct fm_data_path_event *ret_event);

/* How far a shard is; false when it is not there, or over. */
bool fm_data_path_progress(struct fm_data_path *path, uint64_t number,
                           struct fm_master_holding *ret_holding);

/* A shard with rows in a stage that has been running for too long. */
struct fm_data_path_overdue {
    uint64_t number;
    bool held; /* false: nobody wants the shard any more */
    const char *stage;
    uint64_t start_ns;
    uint64_t row; /* of the job, one of them */
};

/* Stages that began before before_ns and have not come to an end: at most `max` of their shards,
 * each once, the one that began first at first. Such a path cannot be closed. */
size_t fm_data_path_overdue(struct fm_data_path *path, uint64_t before_ns,
                            struct fm_data_path_overdue *ret_overdue, size_t max);

/* Looks how fast it is, and sets threads, rows in flight and batches accordingly. To be called some
 * times in a second, by one thread. */
void fm_data_path_tune(struct fm_data_path *path, uint64_t now_ns);

struct fm_data_path_stats {
    uint32_t rows_in_flight;
    uint64_t rows_finished;        /* since it was opened */
    const char *slowest_stage;     /* where most of the computing time went lately; NULL: unknown */
    double slowest_share;          /* of it, 0 to 1 */
    struct fm_batch_stages stages; /* how busy they were lately; the names are the path's */
    struct fm_error last_error;    /* of a row */
    struct fm_batch_memory memory;
    struct fm_batch_tuned tuned; /* its text is the path's, until the next call */
};

/* By the thread that tunes. */
void fm_data_path_stats(struct fm_data_path *path, struct fm_data_path_stats *ret_stats);

#endif
