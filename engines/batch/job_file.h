/*
 * The job file: YAML into the specification of a batch job. docs/batch.md describes every key.
 *
 * Owns: this syntax. Does not own: looking at files. Thread rule: no shared state; read-only after
 * loading.
 */
#ifndef FM_ENGINES_BATCH_JOB_FILE_H
#define FM_ENGINES_BATCH_JOB_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/plan/memory_budget.h"
#include "core/util/memory.h"
#include "engines/batch/finish_by.h"
#include "fermata/status.h"
#include "host/runtime/accelerator_group.h"
#include "host/source/source.h"

#define FM_JOB_ROWS_IN_FLIGHT_MAX 4096
/* The names of so many rows fit into one message to a worker, however long they are. */
#define FM_JOB_SHARD_ROWS_MAX   10000
#define FM_JOB_READ_THREADS_MAX 64
#define FM_JOB_BATCH_MAX        1024
#define FM_JOB_REQUESTS_MAX     512
/* Transfers are looked after in whole seconds. */
#define FM_JOB_STALL_MIN_NS UINT64_C(1000000000)
/* A limit below these would end workers that have done nothing wrong. */
#define FM_JOB_STAGE_TIME_MIN_NS UINT64_C(100000000)
#define FM_JOB_BEGIN_TIME_MIN_NS UINT64_C(1000000000)
#define FM_JOB_BEGIN_TIME_NS     (600 * UINT64_C(1000000000))
#define FM_JOB_MEMORY_MIN        (UINT64_C(64) << 20)

struct fm_sink;

enum fm_job_engine { FM_JOB_ENGINE_SQLITE, FM_JOB_ENGINE_DUCKDB };

enum fm_job_bytes { FM_JOB_BYTES_TEXT, FM_JOB_BYTES_BASE64 };

/* Which columns fill an input of the pipeline. */
struct fm_job_column {
    const char *input;
    const char **names;
    uint32_t name_count;
};

struct fm_job {
    struct fm_arena arena; /* of the strings */
    const char *file;
    const char *name;
    const char *pipeline; /* resolved path */
    const char **files;   /* resolved paths and patterns; NULL-terminated; NULL: none */
    const char *list;     /* resolved path, or "-": names on standard input; NULL: none */
    /* Instead of both, which are NULL then: rows that are taken down before the job begins
     * (spool.h). */
    bool standard_input;
    const char *query;         /* SQL; NULL: none */
    const char *database;      /* of the query: resolved path */
    enum fm_job_engine engine; /* that runs it */
    const char *base;          /* resolved path; NULL: chosen from files or list */
    /* Of inputs behind addresses, which `files`, `list` and `base` may be, too. */
    uint32_t requests;        /* at once, of a worker */
    uint64_t stall_ns;        /* for how long a transfer may be below FM_FETCH_RATE_LEAST */
    const char *ca_file;      /* resolved path; NULL: whom the system trusts */
    const char *headers_file; /* resolved path; NULL: none */
    const char *tensor;       /* NULL: the only one */
    /* Patterns of ids: what the first one matches is done first, and so on; none: all the same. */
    const char **priority;
    uint32_t priority_count; /* at most FM_LEDGER_RANK_LAST */
    /* NULL: a file is a row. Else files hold rows, and these say what of them goes where. */
    const struct fm_source_format *format;
    const struct fm_job_column *columns; /* none: inputs and columns of the same names */
    uint32_t column_count;
    const char *id_column; /* NULL: ids are made of the file's and the row's number */
    const char **passed;   /* columns that go to the results as they are */
    uint32_t passed_count;
    struct fm_csv_options csv;
    bool csv_header;
    uint64_t record_bytes_max;
    const char *output; /* resolved path */
    const struct fm_sink *sink;
    const char *compression; /* one of the sink's */
    enum fm_job_bytes bytes;
    const char *embedding; /* of openai_batch: the output that answers; NULL: all of them do */
    bool timings;
    uint64_t shard_rows;
    uint32_t max_batch_size; /* of models that do not say theirs; 0: as when they are served */
    uint32_t rows_in_flight; /* 0: tuned */
    uint64_t bytes_in_flight;
    uint32_t read_threads;     /* 0: tuned */
    uint32_t operator_threads; /* 0: tuned */
    uint64_t errors_max_rows;  /* UINT64_MAX: no limit */
    double errors_max_ratio;
    uint64_t errors_min_sample;
    uint64_t file_bytes_max;
    const char *webhook;          /* is told when the job begins and ends; NULL: none */
    uint64_t stage_time_ns;       /* what a stage may take for a row or batch; 0: no limit */
    uint64_t worker_memory_bytes; /* of each worker's process; 0: no limit */
    uint64_t memory_budget;       /* of the rows in work of each worker; 0: no limit; or
                                     FM_MEMORY_BUDGET_UNSAID */
    uint32_t worker_nice;         /* of its processes; 0: as they are started */
    uint64_t begin_time_ns;       /* that a worker may take until it asks for work; 0: no limit */
    struct fm_finish_by finish_by;
    /* Accelerators of each worker, and which of them stages run on; none: every model has instances
     * of its own. */
    struct fm_accelerator_group groups[FM_GROUPS_MAX];
    uint32_t group_count;
    const struct fm_stage_groups *stage_groups;
    uint32_t stage_group_count;
};

/* Every mistake is "job.yaml:line:column: ...". The caller deinits on success only. */
int FM_NODISCARD fm_job_load(const char *path, struct fm_job *ret_job, struct fm_error *reterr);
void fm_job_deinit(struct fm_job *job);
/* Groups of accelerators instead of those that the file has (accelerator_group.h says how they are
 * written). FM_EINVAL: they are not written so, or too many. */
int FM_NODISCARD fm_job_accelerators_set(struct fm_job *job, const char *text,
                                         struct fm_error *reterr);
/* Whether its rows are taken down before it begins. */
bool fm_job_is_spooled(const struct fm_job *job);

#endif
