/*
 * The scheduler in real time: one object that whoever brings something works (whole.h), or its
 * parts (core/sched/parts.h) on threads of their own.
 *
 * Owns, of parts: one thread for the matcher and one for each shard of the models, the rings
 * between them and to them, the clock they decide by. Does not own: requests' payloads, running
 * batches, threads that submit or report. Thread rule: per function.
 *
 * HOW PARTS WORK. Model m belongs to shard m % shard_count. A submitter puts requests into a ring
 * per shard, a reporter ends of batches into a ring to the matcher, both without locks or waiting.
 * A shard's thread takes what is there, in steps of up to FM_SCHEDULER_STEP events, and hands
 * actions to on_action() on its own thread; the matcher takes offers, answers and ends, on its own
 * thread or, while that sleeps, on the thread of the shard that has something for it. Threads that
 * have nothing to do sleep until somebody wakes them or a timer is due; nobody spins,
 * so there may be more threads than CPUs. The exchange of demand and pool goes through a lock, 50
 * times a second and not on anybody's way.
 *
 * Rings towards shards are as long as there can be messages, so that the matcher never waits for a
 * shard; a shard may wait for the matcher.
 *
 * LIMITATIONS. The slots (requests_max) are one memory that all shards write to: slots next to each
 * other are best used by one shard, or one after the other.
 */
#ifndef FM_HOST_SCHED_SCHEDULER_H
#define FM_HOST_SCHED_SCHEDULER_H

#include "core/sched/record.h"
#include "core/sched/sched.h"
#include "core/stats/log_histogram.h"

#define FM_SCHEDULER_STEP           512u
#define FM_SCHEDULER_ENDPOINTS_MAX  64u
#define FM_SCHEDULER_SUBMIT_DEFAULT 65536u
#define FM_SCHEDULER_SUBMIT_MAX     (1u << 24)

/*
 * On the shard's thread (without shards: on any that submits, reports or controls, or the
 * scheduler's own, one at a time): be quick, call no function of the scheduler. `requests` are the
 * action's, borrowed. START: run it at start_ns and report it; where batches stand behind one
 * another (lead times) the lower number runs first, and this is called for it first, whichever
 * shard it is of. DROP: the slot is free. DONE: the batch's slots are free (without shards `model`
 * is not given). PREEMPT: the batch is lost with its accelerator, its requests are tried again; it
 * may come after another shard's START for the same accelerator, whose number is then higher.
 */
typedef void fm_scheduler_action_fn(void *context, uint32_t shard,
                                    const struct fm_sched_action *action, const uint32_t *requests);

/* Every step there is, in order, after it was taken and before it is acted upon; only without
 * shards. The same rules as for on_action; what the step refers to is borrowed. */
typedef void fm_scheduler_step_fn(void *context, const struct fm_sched_record_step *step);

struct fm_scheduler_options {
    struct fm_sched_options sched; /* part WHOLE, no table: the scheduler makes its own parts */
    uint32_t shard_count;          /* 0: one scheduler for all .. FM_SCHED_SHARDS_LIMIT */
    uint32_t submitter_count;      /* threads that submit, 1 .. FM_SCHEDULER_ENDPOINTS_MAX */
    uint32_t reporter_count;       /* threads that report, 1 .. FM_SCHEDULER_ENDPOINTS_MAX */
    uint32_t submit_capacity;      /* events on their way per submitter and shard; 0: the default */
    uint64_t offer_slack_ns;       /* as in fm_sched_options */
    fm_scheduler_action_fn *on_action;
    fm_scheduler_step_fn *on_step; /* NULL: nobody wants to know */
    void *context;
};

struct fm_scheduler;

/* What a recording of the steps begins with. Only without shards. */
void fm_scheduler_record_header(const struct fm_scheduler_options *options,
                                struct fm_sched_record_header *ret_header);

/* Starts the threads. FM_EINVAL (what core/sched refuses, a policy without parts, a count beyond
 * its limits), FM_ENOMEM, or why a thread could not be started. */
int FM_NODISCARD fm_scheduler_create(const struct fm_scheduler_options *options,
                                     struct fm_scheduler **ret_scheduler, struct fm_error *reterr);
/* Ends the threads. Nobody may be in another call. Accepts NULL. */
void fm_scheduler_destroy(struct fm_scheduler *scheduler);

/* --- requests: one thread at a time for each submitter -----------------------------------------
 */

/* A request or a cancel (of a request that this submitter has submitted; `model` is the request's).
 * A cancel may come too late: the slot of a request that may still be on its way to be cancelled is
 * used again by the same submitter only, for a model of the same shard, or the new request may be
 * the one that is cancelled.
 * Seen by the shard at the latest after fm_scheduler_flush(). False: the ring is full; flush, and
 * come again later. */
bool FM_NODISCARD fm_scheduler_submit(struct fm_scheduler *scheduler, uint32_t submitter,
                                      uint32_t model, const struct fm_sched_event *event);
/* Wakes the shards that have something to take from this submitter; without shards it is taken
 * here, if nobody else is at it. */
void fm_scheduler_flush(struct fm_scheduler *scheduler, uint32_t submitter);

/* --- ends of batches: one thread at a time for each reporter -----------------------------------
 */

/* BATCH_DONE or BATCH_FAILED. The reports of one accelerator come in order. False: full, flush and
 * come again later. */
bool FM_NODISCARD fm_scheduler_report(struct fm_scheduler *scheduler, uint32_t reporter,
                                      const struct fm_sched_event *event);
void fm_scheduler_report_flush(struct fm_scheduler *scheduler, uint32_t reporter);

/* From within on_action: whose flush it is called by, a submitter below submitter_count or
 * submitter_count + a reporter; FM_SCHED_NONE: nobody's. Only without shards. */
uint32_t fm_scheduler_actor(const struct fm_scheduler *scheduler);

/* --- control: any thread, one at a time waits for the other ------------------------------------
 */

/* MODEL_SET, MODEL_REMOVED, ACCELERATOR_UP, _DOWN, _SLOW, DRAIN. Returns when the parts have taken
 * it. FM_ENOMEM: a model may then be known to a part of them only; set it again, or remove it
 * (which may be refused and is done).
 * FM_EINVAL: another kind of event, ids beyond the limits, or what core/sched refuses. */
int FM_NODISCARD fm_scheduler_control(struct fm_scheduler *scheduler,
                                      const struct fm_sched_event *event, struct fm_error *reterr);
/* Several of one kind with one way to each thread and back: where there are thousands. One that is
 * refused is left out; where memory ends, those behind it are too. */
int FM_NODISCARD fm_scheduler_controls(struct fm_scheduler *scheduler,
                                       const struct fm_sched_event *events, uint32_t count,
                                       struct fm_error *reterr);

struct fm_scheduler_stats;
/* As on_action: be quick, call no function of the scheduler. */
typedef void fm_scheduler_look_fn(void *context, const struct fm_sched *sched,
                                  const struct fm_scheduler_stats *stats);
/* Calls look with the scheduler standing still, and returns then. Only without shards. */
void fm_scheduler_look(struct fm_scheduler *scheduler, fm_scheduler_look_fn *look, void *context);

/* Times from something being handed to a thread until what it led to was handed on. */
enum fm_scheduler_hop {
    FM_SCHEDULER_HOP_SUBMIT, /* request to its shard */
    FM_SCHEDULER_HOP_REPORT, /* end of a batch to the matcher */
    FM_SCHEDULER_HOP_OFFER,  /* shard to matcher: offers and answers */
    FM_SCHEDULER_HOP_GRANT,  /* matcher to shard: grants and ends */
    FM_SCHEDULER_HOP_TIMER,  /* how late a step was that a timer had asked for */
    FM_SCHEDULER_HOP_COUNT_
};
const char *fm_scheduler_hop_name(enum fm_scheduler_hop hop);

struct fm_scheduler_stats {
    struct fm_sched_stats matcher;
    uint64_t refused;  /* events that named what is not there, by all parts */
    uint64_t requests; /* taken by shards */
    uint64_t started;  /* requests in batches */
    uint64_t batches;
    uint64_t dropped[FM_SCHED_DROP_COUNT_];
    uint64_t messages; /* between parts */
    uint64_t declined; /* grants that no batch was formed for */
    uint64_t steps;
    uint64_t parks; /* times a thread went to sleep */
    uint64_t cpu_ns;
    struct fm_log_histogram hops[FM_SCHEDULER_HOP_COUNT_];
    /* From a request's submission, or from the time at which its batch was to start, until the
     * batch was handed out: of batches that an accelerator was free for when they were offered. */
    struct fm_log_histogram delay;
};
/* Of all threads, since the start; each thread's as of a moment in the last 20 ms
 * or when it last did something. */
void fm_scheduler_stats_get(struct fm_scheduler *scheduler, struct fm_scheduler_stats *ret_stats);

#endif
