/*
 * The batch engine: one job from its file to its proof.
 *
 * Owns: the order of things: checks, lock, ledger, reconciling, running, manifest. Does not own:
 * printing, signals, exit codes (cmd/batch.c). Thread rule: one job per process at a time, from one
 * thread.
 */
#ifndef FM_ENGINES_BATCH_BATCH_H
#define FM_ENGINES_BATCH_BATCH_H

#include "engines/batch/fault.h"
#include "engines/batch/host.h"
#include "engines/batch/job_file.h"
#include "engines/batch/sample.h"

struct fm_batch_options {
    bool resume;
    bool restart;
    const char
        *retry;      /* the output directory whose dead letters are the inputs; NULL: all inputs */
    uint64_t limit;  /* at most so many rows in the job; 0: all */
    uint64_t sample; /* of a plan: rows to try; 0: none */
    struct fm_fault *fault;
    const char *fault_text;               /* the same, for the first worker; NULL: none */
    uint32_t workers_min;                 /* processes of this machine ... */
    uint32_t workers_max;                 /* ... up to FM_BATCH_WORKERS_MAX */
    struct fm_finish_by finish_by;        /* instead of what the job file says */
    const struct fm_batch_listen *listen; /* NULL: workers of this machine only */
    const struct fm_page_listen *page;    /* where a page about it is served; NULL: not */
    const char *version;                  /* of this program */
    struct fm_run_hooks hooks;
    void (*note)(void *context, const char *text); /* things to know once; NULL: dropped */
    void (*begin)(
        void *context,
        const struct fm_run_progress *progress); /* loaded and about to run; NULL: not wanted */
    void *context;                               /* of note and begin */
};

enum fm_batch_verdict {
    FM_BATCH_COMPLETE,
    FM_BATCH_COMPLETE_WITH_LETTERS,
    FM_BATCH_STOPPED,    /* resumable */
    FM_BATCH_CANCELLED,  /* resumable, when that is taken back (steer.h) */
    FM_BATCH_THRESHOLD,  /* resumable, once the cause is mended */
    FM_BATCH_INCOMPLETE, /* the ledger holds shards that were given up */
};

struct fm_batch_report {
    enum fm_batch_verdict verdict;
    struct fm_ledger_proof proof;
    bool began;                  /* rows were being done: what is committed can be resumed */
    uint64_t rows_before;        /* done by earlier runs */
    uint64_t rows_found;         /* inputs there are */
    uint64_t elapsed_ns;         /* of the running part */
    uint64_t memory_peak;        /* of this process, the master */
    uint64_t worker_memory_peak; /* of the largest of its workers */
    struct fm_crew_counts crew;  /* why workers of this machine were started again */
    uint64_t finish_by_ms;       /* since 1970; 0: no time was given */
    uint64_t ended_ms;           /* likewise; 0: earlier runs had done everything */
    struct fm_error error;       /* THRESHOLD: what happened */
};

/*
 * Runs the job. 0: *ret_report says how it ended. Negative: it could not begin, or (began)
 * something other than its data failed: FM_ENOSPC, FM_EIO, FM_ENOMEM and others; what is committed
 * stays, and resume goes on. FM_EUNAVAILABLE: another process runs it, or the output directory was
 * taken away; FM_EEXIST: the directory holds a job and neither resume nor restart was asked for;
 * FM_EINVAL: resume refused, with the differences.
 */
int FM_NODISCARD fm_batch_run(const struct fm_job *job, const struct fm_batch_options *options,
                              struct fm_batch_report *ret_report, struct fm_error *reterr);

/* What --dry-run tells. */
struct fm_batch_plan {
    uint64_t files;
    uint64_t rows_found; /* where files hold rows, up to the limit */
    uint64_t rows;       /* of the job: limit applied */
    uint64_t bytes;      /* of the inputs whose size is known */
    uint64_t shard_rows; /* 0: as the pace of the workers says */
    uint64_t hidden_count;
    uint64_t duplicate_count;
    uint32_t stages;
    uint32_t rows_in_flight;
    bool output_holds_job;
    char pipeline[128];
    char tensor[128]; /* the inputs that get something, separated by commas */
    char format[32];
    /* Of the rows that were tried; rows 0: none. */
    struct fm_sample_result sample;
    uint64_t sample_memory; /* the most that this process had */
};

/* Runs the first rows in this process and shows them, one after the other; writes nothing. */
int FM_NODISCARD fm_batch_preview(const struct fm_job *job, const struct fm_batch_options *options,
                                  uint64_t rows,
                                  void (*show)(void *context, const struct fm_sample_row *row),
                                  void *context, struct fm_sample_result *ret_result,
                                  struct fm_error *reterr);

/* Lists the inputs and loads and checks the pipeline, and tries so many rows for their speed;
 * writes nothing. */
int FM_NODISCARD fm_batch_plan(const struct fm_job *job, const struct fm_batch_options *options,
                               struct fm_batch_plan *ret_plan, struct fm_error *reterr);

#endif
