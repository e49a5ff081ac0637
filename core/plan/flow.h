/*
 * The flow: decides which items of which requests run next, and in which batches. The state machine
 * behind host/runtime/executor.
 *
 * Owns: requests in flight, frames (one per item of a scope), when a stage becomes ready, batch
 * forming, slots, isolation of failures, and the life of values (released when their last consumer
 * has run) with what they take. Does not own: threads, clocks, running anything. Thread rule: one
 * thread at a time (the executor's lock).
 *
 * HOW IT WORKS. A request opens a frame of scope 0. Each frame counts, per stage of its scope, the
 * inputs still missing; a stage whose count reaches 0 is an item in that stage's queue. A stage
 * that fans out opens one child frame per element. Collected inputs count down when every child
 * frame has delivered. fm_flow_next() takes the deepest stage that may run, so that requests are
 * finished before new ones are opened and memory stays flat. Model items are batched with others of
 * the same bucket, from any requests.
 *
 * Where there are accelerators, a model stage also needs a free one of its own. It takes the one
 * that the fewest stages may use, so that those which others depend on stay free for them; of
 * several, the lowest number.
 *
 * LIMITATIONS. Batches are formed greedily among the items that are ready (wait_for excepted);
 * deadlines only drop work that has not started.
 */
#ifndef FM_CORE_PLAN_FLOW_H
#define FM_CORE_PLAN_FLOW_H

#include "core/plan/pipeline.h"
#include "core/tensor/tensor.h"

#define FM_FLOW_BATCH_ITEMS_MAX  256
#define FM_FLOW_ACCELERATORS_MAX 64

struct fm_flow;
struct fm_flow_request;

struct fm_flow_options {
    uint32_t requests_max;
    uint32_t operator_slots;    /* operator runs at once */
    uint32_t accelerator_slots; /* model runs at once, over all models; 0: only bounded per stage */
    /* Runs at once. Model stages: instances; operators: 0 where only operator_slots bound them. */
    const uint32_t *stage_slots;
    /* By stage: the first stage that runs on the same slots (itself when nobody shares), because
     * both are one model. NULL: no stage shares. Stages that share have equal stage_slots. */
    const uint32_t *slots_of;
    const uint32_t *batch_max; /* model stages: rows in a run, at least 1 */
    /* By stage: the accelerators that a model stage may use, bit n for number n. Each of them runs
     * one batch at a time, whatever stage it is of. NULL: there are none, slots are all that
     * counts.
     */
    const uint64_t *accelerators;
};

enum fm_flow_item_state {
    FM_FLOW_ITEM_WAITING,
    FM_FLOW_ITEM_READY,
    FM_FLOW_ITEM_RUNNING,
    FM_FLOW_ITEM_DONE
};

struct fm_flow_frame;

/* One stage on one frame. */
struct fm_flow_item {
    struct fm_flow_frame *frame;
    struct fm_flow_item *next; /* in the stage's queue, or among those that run */
    struct fm_flow_item *previous;
    uint32_t stage;
    uint32_t missing; /* inputs not there yet */
    uint8_t state;    /* enum fm_flow_item_state */
    bool alone;       /* its batch failed: must run by itself */
    int64_t bucket;
    uint64_t ready_ns;
    uint64_t start_ns;
};

/* A run: one item for operators, a batch for models. */
struct fm_flow_task {
    uint32_t stage;
    uint32_t item_count;
    uint32_t rows;
    uint32_t accelerator; /* where a model stage runs; without accelerators 0 */
    struct fm_flow_item *items[FM_FLOW_BATCH_ITEMS_MAX];
};

/* What was measured of one stage for one request. */
struct fm_flow_timing {
    uint64_t wait_ns;
    uint64_t run_ns;
    uint32_t items;
};

struct fm_flow_stats {
    uint64_t items;
    uint64_t failures;
    uint64_t batches;
    uint64_t rows; /* in them */
    uint64_t busy_ns;
    uint32_t queued;
    uint32_t running;
};

/* What was measured of one accelerator. */
struct fm_flow_accelerator_stats {
    uint64_t batches;
    uint64_t busy_ns;
};

int FM_NODISCARD fm_flow_create(const struct fm_pipeline *pipeline,
                                const struct fm_flow_options *options, struct fm_flow **ret_flow);
void fm_flow_destroy(struct fm_flow *flow); /* no request may be in flight; accepts NULL */

/*
 * Admits a request. Takes (and zeroes) the input values on success. `rows` is the request's size in
 * rows for a pipeline of one model (else 1). FM_EAGAIN: requests_max reached; FM_ENOMEM. `user`
 * comes back with the finished request.
 */
int FM_NODISCARD fm_flow_admit(struct fm_flow *flow, uint64_t now_ns, struct fm_value *take_inputs,
                               uint32_t rows, uint64_t deadline_ns, void *user,
                               struct fm_flow_request **ret_request);
/* Fails the request: items that have not started are dropped. Nothing happens to one that has
 * failed already. */
void fm_flow_fail(struct fm_flow *flow, struct fm_flow_request *request, int stage,
                  const struct fm_error *error);

/* From the next run on; runs in progress go on. Slots > 0. */
void fm_flow_operator_slots_set(struct fm_flow *flow, uint32_t slots);
/* Likewise, of a model stage: rows in a run, from 1 up to what the flow was made with. */
void fm_flow_batch_max_set(struct fm_flow *flow, uint32_t stage, uint32_t rows);

/* Whether a run of the kind could start now. */
bool fm_flow_may_run(const struct fm_flow *flow, enum fm_stage_kind kind);
/* The next run of the kind, or false. Fails requests whose deadline has passed on the way. */
bool fm_flow_next(struct fm_flow *flow, uint64_t now_ns, enum fm_stage_kind kind,
                  struct fm_flow_task *ret_task);

/* Input `input` of an item, with a reference each, in order: one value, or all elements of a
 * collected input. ret_values holds `count` of them. */
uint32_t fm_flow_input_count(const struct fm_flow *flow, const struct fm_flow_item *item,
                             uint32_t input);
void fm_flow_input_get(const struct fm_flow *flow, const struct fm_flow_item *item, uint32_t input,
                       struct fm_value *ret_values);

/* The item that has been running for the longest time (start_ns, stage); the others follow by
 * `next`. NULL: none runs. */
const struct fm_flow_item *fm_flow_running(const struct fm_flow *flow);

/* The `user` of the request that the item is of. */
void *fm_flow_item_user(const struct fm_flow_item *item);

/*
 * Results. For each item of the task exactly one of: done (values[j] = elements of output port j,
 * counts[j] of them; taken and zeroed), failed, retry_alone (a batch failed as a whole; every item
 * goes back to its queue to run by itself). Then task_end, once, which gives the slot back.
 */
void fm_flow_item_done(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item,
                       uint64_t run_ns, struct fm_value *const *take_values,
                       const uint32_t *counts);
/* Before one of these: while it ran the item had so many bytes besides its inputs. */
void fm_flow_item_took(struct fm_flow_item *item, uint64_t bytes);
void fm_flow_item_failed(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item,
                         const struct fm_error *error);
void fm_flow_item_retry_alone(struct fm_flow *flow, uint64_t now_ns, struct fm_flow_item *item);
void fm_flow_task_end(struct fm_flow *flow, uint64_t now_ns, uint64_t start_ns,
                      const struct fm_flow_task *task);

/* The next finished request, or NULL. It is out of the flow then and belongs to the caller until
 * fm_flow_request_free. */
struct fm_flow_request *fm_flow_finished(struct fm_flow *flow);
void *fm_flow_request_user(const struct fm_flow_request *request);
/* status 0: complete. */
const struct fm_error *fm_flow_request_error(const struct fm_flow_request *request);
int fm_flow_request_failed_stage(const struct fm_flow_request *request); /* -1: unknown */
const struct fm_flow_timing *fm_flow_request_timings(
    const struct fm_flow_request *request); /* by stage */
/* The most that it had at once, in inputs, outputs of stages, and what was taken besides: not what
 * somebody else owns. */
uint64_t fm_flow_request_bytes_most(const struct fm_flow_request *request);
/* Output `output` of a complete request: how many elements (1 unless it stacks), and element
 * `index`, borrowed. */
uint32_t fm_flow_output_count(const struct fm_flow_request *request, uint32_t output);
const struct fm_value *fm_flow_output_get(const struct fm_flow_request *request, uint32_t output,
                                          uint32_t index);
void fm_flow_request_free(struct fm_flow_request *request);

uint32_t fm_flow_in_flight(
    const struct fm_flow *flow); /* admitted, not yet returned by fm_flow_finished */
/* Of the values of these requests. */
uint64_t fm_flow_bytes(const struct fm_flow *flow);
void fm_flow_stats(const struct fm_flow *flow, uint32_t stage, struct fm_flow_stats *ret_stats);

/* Of an accelerator that some stage may use. */
void fm_flow_accelerator_stats(const struct fm_flow *flow, uint32_t accelerator,
                               struct fm_flow_accelerator_stats *ret_stats);

/* Checks the whole structure; for tests. Aborts when something is wrong. */
void fm_flow_validate(const struct fm_flow *flow);

#endif
