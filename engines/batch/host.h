/*
 * The master of a job as a process: it listens for workers, starts those of this machine, and
 * carries out what core/ledger/master.h decides.
 *
 * Owns: the workers' streams, child processes, publishing what is committed, stopping. Does not
 * own: who gets which shard, when a process is started again (core/ledger/crew.h), messages
 * (core/proto/batch_messages.h), durability (output.h, host/store). Thread rule: one call at a
 * time, from one thread.
 *
 * HOW IT WORKS. The calling thread runs an event loop and is the only one that touches the master's
 * core. A worker is a stream of messages each way (docs/batch-protocol.md). Workers of this machine
 * are child processes that come over a Unix socket in the job's state directory, where the kernel
 * tells which process came; how one of them ended tells whether the rows that it held are suspect.
 * The store's writer wakes the loop when decisions are durable. The same socket takes the calls of
 * those who steer the job (steer.h): whoever reaches it may read and write the job's files anyway.
 * Workers of other hosts, who come over TCP, may not steer.
 */
#ifndef FM_ENGINES_BATCH_HOST_H
#define FM_ENGINES_BATCH_HOST_H

#include "core/ledger/crew.h"
#include "core/ledger/master.h"
#include "engines/batch/fault.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/page_server.h"
#include "engines/batch/row_source.h"
#include "engines/batch/scaling.h"
#include "engines/batch/stage_use.h"
#include "engines/batch/token.h"

#define FM_BATCH_WORKERS_MAX FM_CREW_PLACES_MAX /* children */

/* Where workers of other hosts come to. */
struct fm_batch_listen {
    const char *host;                   /* address or name */
    uint16_t port;                      /* 0: any free one */
    const struct fm_batch_token *token; /* that they have to show; NULL: none */
    const char *tls_certificate_path;   /* NULL: without TLS */
    const char *tls_key_path;
    const char *tls_client_ca_path; /* their certificates must be of these; NULL: they need none */
};

struct fm_run_progress {
    uint64_t rows_total;     /* that are known */
    bool listing;            /* there may be more */
    uint64_t rows_done;      /* computed, before this run and in it */
    uint64_t rows_committed; /* safe */
    uint64_t dead_letters;
    uint64_t rows_in_work;
    const char *slowest_stage;  /* where most of the computing time went lately; NULL: unknown */
    double slowest_share;       /* of it, 0 to 1 */
    bool paused;                /* nothing is handed out (steer.h) */
    struct fm_crew_counts crew; /* why workers of this machine were started again */
    uint32_t workers;           /* that ask for work, of other hosts, too */
    uint32_t workers_wanted;
    const char *workers_why; /* as many; NULL: nothing can be said yet */
    bool late;               /* it cannot be finished by the time that was given */
    /* Of all workers together: what they have set themselves to, and what their rows take. */
    uint32_t read_threads;
    uint32_t operator_threads;
    uint32_t rows_in_flight;
    uint64_t memory_budget;
    uint64_t memory_used;
    struct fm_stage_uses stages; /* means of the workers */
};

struct fm_run_hooks {
    bool (*stop)(void *context); /* asked several times a second; NULL: never */
    void (*progress)(void *context, const struct fm_run_progress *progress); /* likewise */
    void *context;
};

enum fm_run_end {
    FM_RUN_FINISHED,  /* no row is left to do */
    FM_RUN_STOPPED,   /* by hooks.stop */
    FM_RUN_CANCELLED, /* likewise by somebody else (steer.h); the store says so */
    FM_RUN_THRESHOLD, /* too many dead letters */
    FM_RUN_FAILED,    /* the output, the ledger or the listing failed, or no worker can work */
};

struct fm_batch_host_options {
    const struct fm_job *job;
    const struct fm_job_facts *facts;
    const char *base;         /* where relative ids start */
    struct fm_master *master; /* restored, with the rows that are known so far */
    uint64_t lease_ns;        /* as the master has it */
    struct fm_job_store *store;
    struct fm_row_source *source;
    /* Asked many times a second while it says 1: it adds rows to master and source as they are
     * found. 0: there are all; negative: that failed. */
    int (*more_rows)(void *context, struct fm_error *reterr);
    void *more_context;
    struct fm_fault *fault;
    struct fm_run_hooks hooks;
    uint32_t workers_min; /* processes of this machine; may be 0 when it listens */
    uint32_t workers_max;
    uint64_t finish_by_ms;                /* since 1970: as many as finish by then; 0: no time */
    const struct fm_batch_listen *listen; /* NULL: workers of this machine only */
    const struct fm_page_listen *page;    /* where a page about it is served; NULL: not */
    const char *version;                  /* of this program */
    const char *worker_fault;             /* --fault for the first worker; NULL: none */
    void (*note)(void *context, const char *text); /* NULL: dropped */
    void *note_context;
};

/* Returns 0 and sets *ret_end, or a negative status (FAILED, or nothing to begin with) with its
 * text. THRESHOLD sets the text, too. With `listen` it notes where it listens. */
int FM_NODISCARD fm_batch_host_run(const struct fm_batch_host_options *options,
                                   enum fm_run_end *ret_end, struct fm_run_progress *ret_progress,
                                   struct fm_error *reterr);

#endif
