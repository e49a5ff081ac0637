/*
 * What the files of the pool share: pool.c (requests, models, the scheduler's actions), worker.c
 * (threads), brief.c (batches that need none), batch.c (one batch from its requests to their
 * answers), watch.c (runs that do not come back), count.c (what models are told of them).
 */
#ifndef FM_HOST_POOL_POOL_INTERNAL_H
#define FM_HOST_POOL_POOL_INTERNAL_H

#include <stdatomic.h>

#include "core/sched/brief.h"
#include "host/os/parker.h"
#include "host/os/ring.h"
#include "host/os/thread.h"
#include "host/pool/pool.h"
#include "host/sched/recording.h"

/* One runs, one may stand behind it, and one may be handed out while the first is being reported.
 */
#define FM_POOL_BATCHES 3u

/* In fm_pool_batch.run. */
#define FM_POOL_RUN_LOST (UINT64_C(1) << 63)
/* In fm_pool_slot.row: the row is over, though its batch is not. */
#define FM_POOL_ROW_OVER UINT32_MAX

/* A row in the scheduler. */
struct fm_pool_slot {
    struct fm_pool_request *request;
    uint32_t row;
    uint32_t next; /* the slot of the request's next row; NONE: the last */
};

/* Rows of one request that stand next to each other in a batch. */
struct fm_pool_group {
    struct fm_pool_request *request;
    uint32_t row;
    uint32_t rows;
    bool taken; /* in the run that goes on, or over */
    bool alone; /* failed among others: runs by itself */
};

struct fm_pool_batch {
    struct fm_pool_batch *next; /* in its worker's mail */
    struct fm_pool *pool;
    struct fm_pool_model *model;
    struct fm_pool_accelerator *accelerator;
    uint64_t number;
    uint64_t start_ns;
    uint64_t handed_ns;
    uint64_t frontrun_ns; /* its window */
    uint64_t latest_ns;
    uint64_t rest_ns;    /* its accelerator rested since then; 0: it did not */
    uint64_t idle_ns;    /* some accelerator was idle since then */
    uint64_t begun_ns;   /* the run that goes on: when it began, or the one before it ended */
    uint64_t visited_ns; /* a submitter began it, in the worker's place; 0: no */
    bool brief;          /* its worker need not be woken: it is visited */
    _Atomic bool used;
    /* Counts; odd while a model has the run. Whoever moves it away from an odd number has the
     * requests: the worker to the next even one, or whoever gives the run up by adding LOST. One
     * that waits behind a run that is given up is LOST, too. */
    _Atomic uint64_t run;
    _Atomic uint64_t run_start_ns;
    _Atomic uint64_t run_limit_ns;
    uint32_t *slots; /* [pool's batch_max] */
    uint32_t slot_count;

    /* Of the runs: as many as its requests have kinds of shapes, mostly one. */
    struct fm_pool_group *groups; /* [pool's batch_max] */
    uint32_t group_count;
    uint32_t *members; /* groups of the run that goes on: [pool's batch_max] */
    uint32_t member_count;
    uint64_t computing_ns;
    struct fm_execution execution;
    bool submitted; /* a backend has it, and has mailed it back when it is mailed again */
    bool lost;      /* the run came back after it had been given up */
    int status;
};

/* Memory that an input of a batch is gathered in. */
struct fm_pool_scratch {
    void *data;
    size_t capacity;
};

struct fm_pool_accelerator {
    uint32_t index;
    uint32_t type;
    uint32_t instance; /* of models of its type */
    struct fm_pool_worker *worker;
    struct fm_pool_batch batches[FM_POOL_BATCHES];

    /* Of who has its worker's `hold`. */
    struct fm_pool_batch *behind; /* waits until the one that runs is over */
    struct fm_pool_batch *running;
    uint32_t port_capacity;
    struct fm_tensor *inputs; /* [port_capacity] */
    struct fm_pool_scratch *scratch;
    struct fm_output *outputs;
    struct fm_buffer **held; /* what the run reads of a request's own memory: [held_count] */
    uint32_t held_count;
    bool returns; /* it answers again: to be told when no lost batch is in the mail */

    _Atomic uint32_t handed_count;  /* batches that it has */
    _Atomic uint64_t idle_since_ns; /* if that is 0 */
    _Atomic uint64_t batch_count;
    _Atomic uint64_t brief_count;
    _Atomic uint64_t row_count;
    _Atomic uint64_t busy_ns;
    _Atomic bool busy;
    _Atomic bool down;
    _Atomic uint64_t hangs;
};

struct fm_pool_worker {
    struct fm_pool *pool;
    uint32_t index; /* as a reporter, too */
    struct fm_thread thread;
    struct fm_parker parker;
    struct fm_pool_batch *_Atomic mail; /* the last one first */
    _Atomic bool stopping;
    /* Who has it does the worker's work: its thread, unless that sleeps, or a submitter. */
    struct fm_mutex hold;
    _Atomic uint32_t helper; /* that submitter; NONE: the thread */
    bool returning;          /* one of its accelerators is; under hold */
};

/* Looks for runs that take too long. */
struct fm_pool_watch {
    struct fm_thread thread;
    bool running;
    bool stopping; /* under lock */
    /* Held while a run is given up and its accelerator goes down. */
    struct fm_mutex lock;
    struct fm_condition wake;
    _Atomic uint32_t down_count;
};

struct fm_pool_submitter {
    uint32_t *free; /* a stack */
    uint32_t free_count;
    uint32_t submit_count;
    struct fm_ring freed; /* slots that the scheduler is done with */
    /* While it flushes: workers that have brief batches in their mail. */
    struct fm_pool_worker *visits[FM_BRIEF_TURN_BATCHES];
    uint32_t visit_count;
    unsigned char gap[64]; /* each is its own thread's */
};

struct fm_pool_model {
    struct fm_pool *pool;
    uint32_t id;
    struct fm_model *models[FM_SCHED_TYPES_LIMIT];
    uint32_t input_count;
    uint32_t output_count;
    uint32_t batch_max; /* 0: does not batch */
    uint32_t tag;
    _Atomic uint64_t slo_ns;
    _Atomic uint64_t limit_ns[FM_SCHED_TYPES_LIMIT]; /* a run is given up after */
    uint32_t brief_rows[FM_SCHED_TYPES_LIMIT];       /* a batch of so many is brief */
    _Atomic uint64_t brief_debt_ns[FM_SCHED_TYPES_LIMIT];
    _Atomic uint64_t brief_paused_until_ns[FM_SCHED_TYPES_LIMIT];
    /* Batches between having been handed out and being over, and requests that are not done. */
    _Atomic uint64_t in_use;
    _Atomic uint64_t lost;      /* those of them that were given up and are not back */
    struct fm_pool_model *next; /* abandoned */
    char name[];
};

/* Rows of an answer that is put together when all are there. */
struct fm_pool_piece {
    struct fm_pool_piece *next;
    uint32_t row;
    uint32_t rows;
    struct fm_value outputs[]; /* by output of the model */
};

struct fm_pool {
    struct fm_pool_options options;
    struct fm_scheduler *scheduler;
    struct fm_recording *recording; /* NULL: none, or over */
    const char *type_names[FM_SCHED_TYPES_LIMIT];
    uint32_t type_first[FM_SCHED_TYPES_LIMIT + 1];
    struct fm_pool_slot *slots; /* [submitter * rows_max + ..] */
    struct fm_pool_submitter *submitters;
    struct fm_pool_accelerator *accelerators;
    uint32_t accelerator_count;
    struct fm_pool_worker *workers;
    uint32_t worker_count;
    _Atomic uint32_t busy_count;    /* accelerators that have a batch */
    _Atomic uint64_t idle_since_ns; /* when they were last all busy */

    uint32_t submitter_count;        /* with the shared one, which is the last */
    struct fm_mutex shared_lock;     /* of the shared submitter */
    struct fm_pool_model *abandoned; /* under lock: kept until no thread runs */
    _Atomic uint32_t abandoned_count;
    struct fm_mutex lock; /* of the table of models */
    struct fm_pool_watch watch;
    struct fm_pool_model **models;
};

/* --- pool.c --- */

/* `rows` rows of the request are over, with pieces or failed. The last ones finish it. */
void fm_pool_rows_over(struct fm_pool *pool, struct fm_pool_request *request, uint32_t rows);
/* Rows that will not be served. The first reason counts. */
void fm_pool_rows_fail(struct fm_pool *pool, struct fm_pool_request *request, uint32_t rows,
                       enum fm_sched_drop_reason drop, const struct fm_error *error);

/* --- worker.c --- */

int FM_NODISCARD fm_pool_worker_start(struct fm_pool_worker *worker);
void fm_pool_worker_stop(struct fm_pool_worker *worker);
/* The accelerator has one batch less. */
void fm_pool_worker_relieve(struct fm_pool_accelerator *accelerator, struct fm_pool *pool);
/* Runs the batch, and those of its accelerator that wait behind it. True: something ended, and is
 * to be flushed. Under hold. */
bool fm_pool_worker_work(struct fm_pool_worker *worker, struct fm_pool_batch *batch);
/* From any thread. A brief one wakes nobody. */
void fm_pool_worker_mail(struct fm_pool_worker *worker, struct fm_pool_batch *batch);
/* Mail that was taken, its last one, in the order in which it came. */
struct fm_pool_batch *fm_pool_worker_order(struct fm_pool_batch *last);

/* --- brief.c --- */

/* Of a batch that the scheduler starts. True: fm_pool_brief_run() of the submitter whose thread
 * this is will look after it. */
bool fm_pool_brief_take(struct fm_pool *pool, struct fm_pool_batch *batch);
/* On the submitter's thread, after its flush. */
void fm_pool_brief_run(struct fm_pool *pool, uint32_t submitter);
/* The batch is over, or comes back after it had been given up. Under its worker's hold. */
void fm_pool_brief_over(struct fm_pool_batch *batch, uint64_t now_ns);

/* --- watch.c --- */

/* Nothing where options.hang_ns is 0. */
int FM_NODISCARD fm_pool_watch_start(struct fm_pool *pool);
void fm_pool_watch_stop(struct fm_pool *pool);
/* Under the worker's hold, after a lost run: waits until its accelerator is down, so that nothing
 * more is handed to it. */
void fm_pool_watch_wait(struct fm_pool *pool);
/* The accelerator answers again. On its worker's thread, with no batch of it in the mail. */
void fm_pool_watch_up(struct fm_pool *pool, struct fm_pool_accelerator *accelerator);

/* --- batch.c: under the worker's hold --- */

/* Whether inputs can be put behind one another: equal but for the batch dimension. Any thread. */
bool fm_pool_fit_together(const struct fm_pool_model *model, const struct fm_value *left,
                          const struct fm_value *right);
/* Begins the batch, or goes on with it when it was mailed back. True: it is over, and everything of
 * it but its slots has been handed on, or it is `lost`. False: a backend has it. */
bool fm_pool_batch_go_on(struct fm_pool_batch *batch);

#endif
