/*
 * Runs a linked pipeline: operators on a small pool of threads, models on their backend's
 * instances, requests in, results out.
 *
 * Owns: threads, the tensors of requests in flight, batch assembly (one gather) and scatter (views,
 * no copy). Decides nothing: what runs next is decided by core/plan/flow. Does not own: models and
 * operator instances (borrowed, must outlive it), protocols, files. Thread rule: submit and stats
 * from any thread. `done` is called once per accepted request, on a thread of the executor; it must
 * not block and may submit again.
 */
#ifndef FM_HOST_RUNTIME_EXECUTOR_H
#define FM_HOST_RUNTIME_EXECUTOR_H

#include "core/plan/pipeline.h"
#include "core/tensor/tensor.h"
#include "host/runtime/model.h"
#include "host/runtime/operator_registry.h"

/* What a model stage runs on one accelerator: an instance that nobody uses elsewhere. */
struct fm_stage_place {
    struct fm_model *model; /* NULL: it does not run there */
    uint32_t instance;
};

/* What stage i runs: exactly one of the first two is set, as the stage's kind says. Stages may run
 * the same model: they then share its instances. An operator instance belongs to one stage. */
struct fm_stage_binding {
    struct fm_model *model;
    struct fm_operator_instance *operator_instance;
    /* Of a model, where the executor has accelerators: by accelerator, in place while it lives. The
     * models are all alike, and `model` is one of them. */
    const struct fm_stage_place *places;
};

/* One item of a model stage that others run. In place until done. */
struct fm_executor_item {
    uint32_t stage;
    /* By input of the model, with the batch dimension in front where it has one; borrowed. */
    const struct fm_value *inputs;
    struct fm_value *outputs; /* by output of the model; zeroed; whoever runs it fills them */
    const struct fm_request *request; /* that it is of: its deadline and age */
    struct fm_error error; /* to be set by whoever runs it; status 0: outputs are there */
    void (*done)(struct fm_executor_item *item); /* to be called once, from any thread */
};

/* Those who run models for an executor, instead of the instances that it would choose itself. */
struct fm_executor_outside {
    void *context;
    /* Non-zero: nothing was taken, item->error has the words. May call done before it returns. */
    int (*submit)(void *context, struct fm_executor_item *item);
    void (*flush)(void *context); /* after a lot of them */
};

struct fm_executor_options {
    /* Model items are run by others, one by one as far as the executor knows; before the first
     * request fm_executor_outside_set() says by whom. */
    bool outside;
    uint32_t operator_threads;  /* 0: one per usable CPU */
    uint32_t accelerator_slots; /* model runs at once, over all models that share this machine's
                                   CPUs; 0: bounded by instances only */
    /* That run one batch at a time, whatever stage it is of, up to FM_FLOW_ACCELERATORS_MAX: every
     * model stage has `places` then, and may run on one at least. 0: instances are all that counts.
     */
    uint32_t accelerator_count;
    uint32_t batch_halvings; /* the largest batch of every model is halved so often, down to 1 */
    uint32_t requests_max; /* accepted and not done; submit answers FM_EAGAIN beyond it; 0: 1024 */
};

/* Time a request spent in a stage, summed over its items. */
struct fm_stage_timing {
    uint64_t wait_ns; /* ready, but not started */
    uint64_t run_ns;  /* share of the batch: batch time / items in it */
    uint32_t items;
};

/*
 * One request. The caller owns the struct and keeps it in place until done. `inputs` are taken by a
 * successful submit (and zeroed). For a pipeline that is one model, tensors carry the batch
 * dimension when the model batches, and `rows` is its size; for all others rows is 1.
 */
struct fm_request {
    struct fm_value *inputs;  /* by pipeline input; zeroed value = absent optional */
    struct fm_value *outputs; /* by pipeline output; zeroed by the caller; owned by the caller after
                                 done (fm_value_unref) */
    struct fm_stage_timing *timings; /* by stage, zeroed by the caller; NULL: not wanted */
    uint64_t deadline_ns; /* absolute; 0: none. Work that has not started by then is dropped with
                             FM_EDEADLINE */
    uint32_t rows;
    uint32_t priority; /* for those outside who run the models; the executor does not look at it */
    uint64_t submitted_ns; /* set by submit */
    uint64_t done_ns;      /* set before done */
    uint64_t bytes_most;   /* likewise: the most that it had at once, in tensors and while operators
                              worked on it; not its inputs where those have no owner */
    int failed_stage;      /* set when status < 0: index of the stage, -1 unknown */
    struct fm_error error; /* status 0: outputs are complete */
    void (*done)(struct fm_request *request);
    void *user;
    void *internal;
};

struct fm_executor_stage_stats {
    uint64_t items; /* finished, good or bad */
    uint64_t failures;
    uint64_t batches; /* runs */
    uint64_t rows;    /* in them: items, or, where a request brings several, those */
    uint64_t busy_ns; /* summed over instances or threads */
    uint32_t queued;  /* items ready and not started */
    uint32_t running; /* runs in progress */
    uint32_t slots;   /* accelerators or instances of the model, or operator threads */
};

struct fm_executor_accelerator_stats {
    uint64_t batches;
    uint64_t busy_ns;
};

struct fm_executor;

int FM_NODISCARD fm_executor_create(const struct fm_pipeline *pipeline,
                                    const struct fm_stage_binding *bindings,
                                    const struct fm_executor_options *options,
                                    struct fm_executor **ret_executor, struct fm_error *reterr);
/* Waits until every accepted request is done, then frees. Accepts NULL. */
void fm_executor_destroy(struct fm_executor *executor);

/* Once, before the first request. Copied. */
void fm_executor_outside_set(struct fm_executor *executor,
                             const struct fm_executor_outside *outside);

/* FM_EAGAIN: requests_max reached. FM_ETYPE, FM_EINVAL: an input does not fit (request->error says
 * which and why). */
int FM_NODISCARD fm_executor_submit(struct fm_executor *executor, struct fm_request *request);
/* Asks for early end of a request: items not started are dropped; done still comes, with
 * FM_ECANCELLED unless it had finished. */
void fm_executor_cancel(struct fm_executor *executor, struct fm_request *request);
/* Submits and waits, for one-shot use. Returns request->error.status. */
int FM_NODISCARD fm_executor_run(struct fm_executor *executor, struct fm_request *request);

/* While it runs: so many operator threads (at least 1), and as many operators at once. Returns how
 * many there are: fewer when no more can be started. Does nothing where there are no operators. One
 * thread at a time. */
uint32_t fm_executor_operator_threads_set(struct fm_executor *executor, uint32_t threads);
/* While it runs: rows in a run of the stage's model, from 1 up to the largest that it was made
 * with (fm_executor_batch_max). */
void fm_executor_batch_max_set(struct fm_executor *executor, uint32_t stage, uint32_t rows);
/* 0: an operator. */
uint32_t fm_executor_batch_max(const struct fm_executor *executor, uint32_t stage);

/*
 * Calls visit for every item that runs, the one that began first at first, until it says false.
 * Runs under the executor's lock: visit must be short and call nothing of the executor; none of the
 * requests is done before it returns.
 */
void fm_executor_running(struct fm_executor *executor,
                         bool (*visit)(void *context, uint32_t stage, uint64_t start_ns,
                                       struct fm_request *request),
                         void *context);

/* What the tensors of all requests take, from submit to done. */
uint64_t fm_executor_bytes(struct fm_executor *executor);
void fm_executor_stats(struct fm_executor *executor, uint32_t stage,
                       struct fm_executor_stage_stats *ret_stats);
/* Of accelerator_count of them. */
void fm_executor_accelerator_stats(struct fm_executor *executor, uint32_t accelerator,
                                   struct fm_executor_accelerator_stats *ret_stats);

#endif
