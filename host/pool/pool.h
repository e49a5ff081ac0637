/*
 * The pool: accelerators that run the batches of all models, and the scheduler that says which
 * requests run together, when and where.
 *
 * Owns: the scheduler (host/sched), a thread for each accelerator, gathering requests into batches,
 * running them, and scattering the answers. Decides nothing: core/sched does. Does not own: models
 * (borrowed while they are in the pool), protocols, pipelines. Thread rule: per function.
 *
 * HOW IT WORKS. A request of n rows is n entries in the scheduler, so that a large request may run
 * on several accelerators at once; its answer is put together when the last row is there. A batch
 * that is one whole request passes its tensors through; others are copied once into the
 * accelerator's memory. Outputs are handed on as views into what the model produced; only a request
 * whose rows ran in several batches has its outputs copied together. Requests of one batch whose
 * shapes differ beyond the batch dimension run one after the other. When a batch of several
 * requests fails, each runs again by itself, so that a bad one fails alone.
 *
 * A batch that takes less than waking a thread, of a model that never waits, runs on the thread
 * that flushes it, in the place of the accelerator's.
 *
 * A run that takes much longer than it may is given up: its accelerator is down, its requests and
 * those behind it are answered with an error, and the others are served by the other accelerators.
 * When the model returns after all, the accelerator is up again. So long the inputs that it reads
 * are kept, and so is the model: removing it abandons it (fm_pool_model_remove).
 *
 * Accelerators are numbered by type in the order of the types: the first type's come first, and are
 * used first.
 */
#ifndef FM_HOST_POOL_POOL_H
#define FM_HOST_POOL_POOL_H

#include "core/stats/model_counters.h"
#include "core/tensor/tensor.h"
#include "host/runtime/model.h"
#include "host/sched/scheduler.h"

#define FM_POOL_MODELS_DEFAULT 1024u
#define FM_POOL_ROWS_DEFAULT   65536u

struct fm_pool;
struct fm_pool_model;

/* A kind of accelerator. */
struct fm_pool_type {
    const char *name;      /* for messages and metrics; borrowed */
    uint32_t accelerators; /* 1 .. */
    /* Accelerators that cost no CPU while they work (emulated ones) share threads; the others have
     * one each. A model that computes on the calling thread would stop them all. */
    bool shares_threads;
};

#define FM_POOL_HANG_FACTOR 20u

/* An accelerator does not answer (ran_ns: for how long) or, `over`, does so again. On a thread of
 * the pool: be quick. */
struct fm_pool_hang {
    uint32_t accelerator;
    const char *type;
    const char *model;
    uint64_t ran_ns;
    bool over;
};
typedef void fm_pool_hang_fn(void *context, const struct fm_pool_hang *hang);

/* A run of a model that is over, well or not. */
struct fm_pool_run {
    uint32_t worker; /* whose it is: below fm_pool_worker_count(); one is told at a time */
    uint32_t accelerator;
    uint32_t tag; /* of the model */
    uint32_t rows;
    uint64_t batch;
    uint64_t start_ns;
    uint64_t end_ns;
    /* Of the batch's first run: when it could have started. Both 0: a later run. */
    uint64_t frontrun_ns;
    uint64_t latest_ns;
    uint64_t rest_ns; /* the accelerator's rest ended with it, and had begun then; 0: it had none */
};
/* On the worker's thread or a submitter's, before the requests are done: be quick. */
typedef void fm_pool_run_fn(void *context, const struct fm_pool_run *run);

struct fm_pool_options {
    enum fm_sched_policy_kind policy; /* none that preempts */
    const struct fm_pool_type *types; /* borrowed during the call, but for the names */
    uint32_t type_count;              /* 1 .. FM_SCHED_TYPES_LIMIT */
    uint32_t models_max;              /* 0: FM_POOL_MODELS_DEFAULT */
    uint32_t rows_max;                /* in flight per submitter; 0: FM_POOL_ROWS_DEFAULT */
    uint32_t batch_max;               /* of any model, 1 .. FM_SCHED_BATCH_LIMIT */
    uint32_t submitter_count;         /* threads that submit, 1 .. FM_SCHEDULER_ENDPOINTS_MAX - 1 */
    bool learn;                       /* follow drifting latencies */
    bool admit;                       /* refuse on arrival what the queue leaves no time for */
    bool brief;                       /* run brief batches on the threads that submit */
    const char *record_path; /* a file for the recording of the scheduler's life; NULL: none */
    /* A run may take FM_POOL_HANG_FACTOR times what its model's largest batch is expected to, and
     * at least so long; 0: for ever. */
    uint64_t hang_ns;
    fm_pool_hang_fn *on_hang; /* NULL; or who is told */
    fm_pool_run_fn *on_run;   /* NULL; or who is told */
    void *context;            /* of on_hang and on_run */
};

/* FM_EINVAL: a count beyond its limit, a policy that preempts. FM_ENOMEM, FM_ELIMIT (threads). */
int FM_NODISCARD fm_pool_create(const struct fm_pool_options *options, struct fm_pool **ret_pool,
                                struct fm_error *reterr);
/* Hardly anything more comes: from now on no batch is held back for more requests, whatever the
 * policies. Requests are still taken. Any thread; for good. */
void fm_pool_drain(struct fm_pool *pool);
/* No request may be in flight, no model left, and no accelerator down: its thread is joined.
 * Accepts NULL. */
void fm_pool_destroy(struct fm_pool *pool);
/* Ends the recording, if there is one; the scheduler goes on. Why it is not whole, if it is not.
 * Once, before fm_pool_destroy; requests may be in flight. */
int FM_NODISCARD fm_pool_record_end(struct fm_pool *pool, struct fm_error *reterr);
/* What was recorded so far goes to the file. Why the recording has ended, if it has. Not while it
 * is being ended. */
int FM_NODISCARD fm_pool_record_flush(struct fm_pool *pool, struct fm_error *reterr);

/* --- models: any thread ------------------------------------------------------------------------
 */

struct fm_pool_model_options {
    const char *name; /* for messages; copied */
    uint32_t tag;     /* the caller's, for on_run */
    /* By type; NULL: does not run there. Has an instance for each accelerator of the type. Not all
     * NULL, and the same ports in all. */
    struct fm_model *models[FM_SCHED_TYPES_LIMIT];
    const struct fm_profile *profiles[FM_SCHED_TYPES_LIMIT]; /* borrowed during the call */
    enum fm_profile_statistic statistic;
    uint64_t slo_ns;
    enum fm_sched_goal goal;
    bool policy_given; /* false: the pool's */
    enum fm_sched_policy_kind policy;
    uint32_t batch_max; /* 0: the model's own */
    uint32_t preferred[FM_SCHED_PREFERRED_MAX];
    uint64_t queue_delay_ns;
};

/* FM_EINVAL with what is wrong; FM_ELIMIT: models_max; FM_ENOMEM. */
int FM_NODISCARD fm_pool_model_add(struct fm_pool *pool,
                                   const struct fm_pool_model_options *options,
                                   struct fm_pool_model **ret_model, struct fm_error *reterr);
/*
 * What is queued is dropped, what runs ends. True: nothing of it is in the pool any more. False: it
 * is abandoned, as all that is left of it are runs that were given up: whatever they use (`models`
 * of the options and what those need) has to stay, as nobody knows when they return. Without
 * hang_ns it waits for them instead. Not from a `done`. Accepts NULL.
 */
bool FM_NODISCARD fm_pool_model_remove(struct fm_pool *pool, struct fm_pool_model *model);
/* New latencies, SLO, goal, ...: the queue is kept. `models` are not looked at. */
int FM_NODISCARD fm_pool_model_set(struct fm_pool *pool, struct fm_pool_model *model,
                                   const struct fm_pool_model_options *options,
                                   struct fm_error *reterr);

/* --- requests ----------------------------------------------------------------------------------
 */

/* The caller owns the struct and keeps it in place until done. */
struct fm_pool_request {
    struct fm_pool_model *model;
    const struct fm_value *inputs; /* by input of the model; borrowed; zeroed: absent optional */
    struct fm_value *outputs;      /* by output of the model; zeroed by the caller, the caller's */
    const bool *wanted;            /* by output; NULL: all */
    uint64_t deadline_ns;          /* absolute; 0: the model's SLO from now */
    uint32_t rows;                 /* 1 for models that do not batch */
    uint32_t priority;             /* 0 most important .. FM_SCHED_PRIORITY_COUNT - 1 */
    /* Once, on any thread: be quick. */
    void (*done)(struct fm_pool_request *request);
    void *user;

    /* Set before done. */
    enum fm_sched_drop_reason drop; /* COUNT_: it was not dropped */
    uint64_t arrived_ns;
    uint64_t
        started_ns; /* its batch was handed out; this and the rest: of its first row; 0: never */
    uint64_t computing_ns; /* the inputs were gathered */
    uint64_t computed_ns;
    uint64_t done_ns;
    uint64_t held_ns;              /* of its wait: while some accelerator was idle */
    _Atomic uint64_t bytes_copied; /* by gathering and putting together */
    uint64_t batch;
    uint32_t batch_rows;
    uint32_t accelerator;
    _Atomic uint32_t runs_led; /* that it was the first of: whoever counts runs adds these up */
    _Atomic uint32_t rows_led; /* of those runs together */

    /* The pool's. */
    uint32_t first_slot;
    _Atomic uint32_t rows_left;
    _Atomic bool failed; /* some row is: the others need not run */
    struct fm_pool_piece *_Atomic pieces;

    /* Set before done; behind all that two threads share. Status 0: outputs are complete. */
    struct fm_error error;
};

/* The submitter that any thread may be: its calls wait for each other, briefly. */
#define FM_POOL_SHARED UINT32_MAX

/* By the submitter's thread. FM_EAGAIN: rows_max rows are in flight; FM_ETOOLARGE: more rows than
 * that. Nothing is then taken, and `done` does not come. */
int FM_NODISCARD fm_pool_submit(struct fm_pool *pool, uint32_t submitter,
                                struct fm_pool_request *request);
/* What was submitted or cancelled since is looked at, and brief batches are run: `done` may come
 * before it returns. Once after a lot of requests. */
void fm_pool_flush(struct fm_pool *pool, uint32_t submitter);
/* By the submitter's thread, before done has been called or while it may be: what has not started
 * is dropped. done comes all the same. */
void fm_pool_cancel(struct fm_pool *pool, uint32_t submitter, struct fm_pool_request *request);

/* Of a request that is done and ran (computed_ns is not 0): its times, and the batches that it was
 * the first of. `wall_ms`: now, since 1970. On the thread that writes the counters. */
void fm_pool_request_count(const struct fm_pool_request *request,
                           struct fm_model_counters *counters, uint64_t wall_ms);

/* --- what can be asked: any thread -------------------------------------------------------------
 */

struct fm_pool_accelerator_stats {
    const char *type;
    uint64_t batches; /* runs of a model */
    uint64_t brief;   /* batches that ran on a submitter's thread */
    uint64_t rows;    /* in them */
    uint64_t busy_ns; /* of what is over */
    bool busy;
    bool down;              /* it does not answer */
    uint64_t idle_since_ns; /* 0: it has something to do */
    uint64_t hangs;         /* times it was given up */
};

/* Models that were abandoned. */
uint32_t fm_pool_abandoned_count(const struct fm_pool *pool);
/* Accelerators that do not answer. */
uint32_t fm_pool_down_count(const struct fm_pool *pool);
uint32_t fm_pool_accelerator_count(const struct fm_pool *pool);
uint32_t fm_pool_worker_count(const struct fm_pool *pool); /* threads of accelerators */
void fm_pool_accelerator_stats(struct fm_pool *pool, uint32_t accelerator,
                               struct fm_pool_accelerator_stats *ret_stats);
/* Called with the scheduler standing still, as fm_scheduler_look. */
void fm_pool_look(struct fm_pool *pool, fm_scheduler_look_fn *look, void *context);
/* The scheduler's id of the model, for fm_sched_model_stats_get. */
uint32_t fm_pool_model_id(const struct fm_pool_model *model);

#endif
