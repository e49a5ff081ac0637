/*
 * What the scheduler's parts share: its state, and what each part does with it. Not for users; they
 * include sched.h.
 *
 * Files: sched.c (creation, events, the step), demand.c (rates, targets, how many accelerators the
 * load needs), shed.c (priorities past saturation), candidate.c (what a model would run now, and
 * whom it lets go), dispatch.c (who gets which accelerator), parts.c (matcher and shards), policy.c
 * (the table) with a file per policy that needs one. Thread rule: pure; one thread at a time.
 *
 * Times. Inside, a request's deadline is already less options.result_ns. A batch of b that is
 * granted at t to a free accelerator starts at t + control + b * data and takes l(b).
 */
#ifndef FM_CORE_SCHED_STATE_H
#define FM_CORE_SCHED_STATE_H

#include "core/sched/free_times.h"
#include "core/sched/id_set.h"
#include "core/sched/latency_table.h"
#include "core/sched/parts.h"
#include "core/sched/request_queue.h"
#include "core/sched/sched.h"
#include "core/util/id_heap.h"

/* Durations by half octaves from 2^16 ns (65 us) to 2^32 ns (4.3 s). */
#define FM_SCHED_REACH_CLASSES FM_SCHED_DEMAND_CLASSES
#define FM_SCHED_RUNNING_MAX   2u

/* A share of requests as bad_q20 counts it. */
#define FM_SCHED_Q20(permille) ((1u << 20) / 1000u * (permille))

enum fm_sched_model_state {
    FM_SCHED_MODEL_IDLE,    /* no candidate */
    FM_SCHED_MODEL_WAITING, /* deferring */
    FM_SCHED_MODEL_WILLING, /* may start on an accelerator that the load keeps in use anyway */
    FM_SCHED_MODEL_URGENT   /* may start on any */
};

/* When a candidate may start. */
struct fm_sched_readiness {
    uint64_t willing_ns; /* <= urgent_ns */
    uint64_t urgent_ns;
    uint64_t latest_ns; /* order among those that may */
};

#define FM_SCHED_LINE 64u

/* What each request touches comes first: up to `stats.requests`, on two cache lines, and behind
 * `stats` what tells bursts. */
struct fm_sched_model_entry {
    _Alignas(FM_SCHED_LINE) struct fm_request_queue queue;
    bool present;
    bool marked;          /* SHARD: what it offers has to be looked at */
    uint8_t reference;    /* the fastest type: what it cannot meet nothing can */
    uint8_t planned;      /* the type that candidate and demand are planned for */
    uint32_t quiet_count; /* SHARD: up to so many queued ones nothing changes that counts */
    uint64_t least_ns;    /* from the grant to the end of a batch of one */
    uint64_t review_ns;
    uint64_t window_begin_ns;
    uint64_t window_first_ns; /* of the first arrival ever */
    uint32_t window_count;
    uint32_t window_count_before;
    struct fm_sched_model_stats stats;
    /* How bursty arrivals are: pairs of requests that came within one slot. */
    uint64_t slot_ns; /* 0: not known yet */
    uint64_t slot_begin_ns;
    uint32_t slot_count;
    uint64_t window_pairs;   /* twice those of the present window */
    uint64_t pairs;          /* the same of those before, fading; in 1/1024 */
    uint64_t pairs_expected; /* what it would be if arrivals were independent */
    uint64_t pairs_of;       /* requests that these are of */

    enum fm_sched_model_state state;
    enum fm_sched_goal goal;
    uint8_t reach_class; /* whose ready heap it is in */
    uint8_t tightness_class;
    bool holds;       /* keeps a distance between its batches: needs more than one accelerator */
    bool shares;      /* the pool with others: asks for less than much of what all ask for */
    bool bursts;      /* strongly, with little time to wait, in a mostly idle pool */
    uint16_t granted; /* MATCHER: grants that are not answered yet */
    uint32_t batch_max;
    const struct fm_sched_policy *policy; /* its own, or the scheduler's */
    uint64_t ready_key_ns;                /* SHARD: its order among those that are ready */
    uint64_t slo_ns;                      /* as given */
    uint64_t budget_ns;                   /* slo - result - control */
    uint64_t since_ns;                    /* when what waits first became the first */

    /* Demand. */
    uint64_t gap_ns;      /* between arrivals, mean; FM_SCHED_NEVER: not known */
    uint64_t near_gap_ns; /* as most requests see it: within bursts, where it bursts */
    uint32_t target;
    uint32_t target_q8;    /* the same in 1/256: between two sizes */
    uint32_t gathered;     /* as many are enough not to be held any more */
    uint32_t decent;       /* the smallest batch with nearly the target's throughput */
    uint64_t slack_ns;     /* so much before its window it may start: it costs little throughput */
    uint64_t busy_micro;   /* accelerators it keeps busy at its target, in millionths */
    uint64_t near_micro;   /* those of them it needs anew in the time it can wait */
    uint64_t tightness_ns; /* how long a moderate batch of it can wait for an accelerator */
    uint64_t rate_millihertz;
    uint64_t starts_millihertz; /* batches of its target size */
    uint32_t burden_permille;   /* of what is lost past saturation, by what its requests cost */

    /* Fairness: recent share of requests that were not served, in 2^-20, and what it gains by it.
     */
    uint32_t bad_q20;
    uint64_t bad_q40; /* the same, finer */
    int64_t bias_ns;
    uint32_t noise_permille; /* by so much of the usual share chance alone makes it differ */

    struct fm_latency_table tables[FM_SCHED_TYPES_LIMIT];
    uint32_t preferred[FM_SCHED_PREFERRED_MAX];
    uint64_t queue_delay_ns;
};

struct fm_sched_running {
    uint64_t batch; /* 0: none */
    uint32_t model;
    uint32_t first; /* slot; linked by next[0]; MATCHER: none */
    uint32_t count;
    bool told;             /* SHARD: that it is lost */
    bool open;             /* MATCHER: granted and not answered, so all but `batch` is a guess */
    enum fm_sched_end end; /* MATCHER: what happened while it was open */
    uint64_t start_ns;
    uint64_t expected_ns;
};

/* Of a shard: its own batches only, in any order; `up` and counted_ns mean nothing. */
struct fm_sched_accelerator {
    bool up;
    uint8_t type;
    uint32_t permille;
    uint32_t running_count;
    struct fm_sched_running running[FM_SCHED_RUNNING_MAX]; /* [0] runs, [1] waits behind it */
    uint64_t counted_ns;                                   /* as free_times counts its end */
};

/* At least `count` accelerators have to come free within `within_ns`, for models this tight. */
struct fm_sched_clearance {
    uint64_t within_ns;
    uint32_t count;
    uint32_t reach_class; /* candidates up to this class are not held back by it */
};

/* Less important requests that are let go on arrival; by priority. */
struct fm_sched_shed {
    uint64_t review_ns;
    uint64_t until_ns;                           /* there are several priorities */
    uint64_t asked_ns[FM_SCHED_PRIORITY_COUNT];  /* of accelerators' time, since the review */
    uint64_t recent_ns[FM_SCHED_PRIORITY_COUNT]; /* the same, of the last ones */
    uint64_t served[FM_SCHED_PRIORITY_COUNT];
    uint64_t lost[FM_SCHED_PRIORITY_COUNT];    /* late or sacrificed */
    uint32_t refuses[FM_SCHED_PRIORITY_COUNT]; /* of 2^16 that arrive */
    uint32_t owed[FM_SCHED_PRIORITY_COUNT];    /* the same, not yet done */
    uint32_t room_permille;                    /* of the accelerators that are up */
};

struct fm_sched_shard_load {
    struct fm_sched_load load;
    uint64_t weight; /* outcomes since the one before */
};

struct fm_sched {
    struct fm_sched_options options;
    const struct fm_sched_policy *policy; /* shares the accelerators out */
    void *policy_state;                   /* the policy's own */
    bool draining;                        /* nothing is held any more */
    uint64_t now_ns;
    struct fm_request_table requests; /* SHARD: its nodes are shared, its order of arrival is not */
    struct fm_sched_model_entry *models;
    void *models_memory; /* what they lie in */
    struct fm_sched_accelerator *accelerators;
    uint32_t model_count; /* present */
    uint32_t up_count;
    uint32_t up_by_type[FM_SCHED_TYPES_LIMIT];
    uint32_t first_by_type[FM_SCHED_TYPES_LIMIT]; /* the lowest that is up; NONE */
    uint32_t busy_count;
    uint32_t queued_count;
    uint64_t batch_number;

    /* A model stands in one of: timers (always, unless idle), and of the ready heaps at most one.
     * SHARD: there are none, it is the matcher who chooses. */
    struct fm_id_heap timers; /* by model */
    uint32_t *ready_positions;
    struct fm_id_heap urgent[FM_SCHED_REACH_CLASSES];
    struct fm_id_heap willing[FM_SCHED_REACH_CLASSES];
    uint64_t urgent_classes; /* bit: that heap is not empty */
    uint64_t willing_classes;
    uint32_t ready_count;

    struct fm_id_set up;                              /* not SHARD */
    struct fm_id_set grantable[FM_SCHED_TYPES_LIMIT]; /* accelerators that may be given a batch */
    uint32_t grantable_count;
    struct fm_id_heap closing; /* busy ones, by when they may be given the next (lead times only) */
    struct fm_free_times free_times; /* of those that are not grantable */
    uint64_t longest_ns;             /* l(b) seen: sizes free_times' intervals */

    /* Demand of all models, reviewed every epoch. */
    uint64_t epoch_ns;
    uint32_t scrub; /* next model to look at */
    uint64_t busy_micro;
    uint64_t rate_millihertz;
    uint64_t starts_millihertz;
    uint64_t busy_micro_by_tightness[FM_SCHED_REACH_CLASSES];
    uint64_t near_micro_by_tightness[FM_SCHED_REACH_CLASSES];
    uint32_t models_by_tightness[FM_SCHED_REACH_CLASSES]; /* present ones */
    uint32_t active_count;                                /* accelerators the load needs */
    uint32_t active_end; /* so many of those that are up have lower numbers */
    struct fm_sched_clearance clearances[FM_SCHED_REACH_CLASSES];
    uint32_t clearance_count; /* SHARD: of the matcher */
    uint64_t blocked_wake_ns; /* when a candidate that was held back should be looked at again */
    uint32_t bad_q20;         /* recent, all models */
    uint64_t bad_q40;         /* the same, finer */
    uint64_t outcomes;
    struct fm_sched_shed shed;

    /* Parts. By model: what the shard has offered, or what the matcher was offered. */
    struct fm_sched_offer *offers;
    uint32_t *marks; /* SHARD: models whose offer has to be looked at */
    uint32_t mark_count;
    struct fm_sched_pool pool;     /* SHARD: as last told */
    uint64_t elsewhere_micro;      /* SHARD: what models of other shards keep busy */
    uint64_t elsewhere_millihertz; /* SHARD: batches that they start */
    uint64_t trip_ns; /* SHARD: from an offer to its grant, if there is an accelerator */
    uint64_t lag_ns;  /* SHARD: how late timers are */
    struct fm_sched_outlook outlook;   /* SHARD: of the grant that is being used */
    struct fm_sched_shard_load *loads; /* MATCHER: by shard */
    uint32_t waiting_count;            /* MATCHER: models that have requests queued */

    struct fm_sched_stats stats;
};

/* Which requests run next, and where. */
struct fm_sched_choice {
    uint32_t model;
    /* NONE: on none of those that are free; the model is passed over. One that may not be given a
     * batch (not grantable) is preempted, and the choice is made again: policies that preempt. */
    uint32_t accelerator;
    uint32_t skip;  /* so many of the earliest requests stay in the queue */
    uint32_t count; /* 0: dispatch forms the batch */
};

/*
 * A model's policy says when its batch is ready, how large it is, and whom it lets go: `ready`,
 * `sacrifice`, `limit`, `plans`, `uses_outlook`. The scheduler's shares the accelerators out among
 * all models: the rest.
 */
struct fm_sched_policy {
    const char *name;
    /* Memory of its own, sched->policy_state; both NULL: none. FM_ENOMEM. */
    int (*init)(struct fm_sched *sched);
    void (*deinit)(struct fm_sched *sched); /* accepts what init left behind when it failed */
    uint64_t ahead_ns; /* batches may be queued behind one that ends within this time */
    /* Fills willing and urgent; latest_ns is there already. `count` requests are queued, the
     * earliest of them with deadline_ns. */
    void (*ready)(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                  uint64_t deadline_ns, uint32_t count, struct fm_sched_readiness *readiness);
    /* How many of the earliest to let go so that the rest fares better, when a batch starts on an
     * accelerator that is free at free_ns. NULL: only those that are late. */
    uint32_t (*sacrifice)(struct fm_sched *sched, struct fm_sched_model_entry *model,
                          const struct fm_latency_table *table, uint64_t free_ns);
    bool uses_clearance; /* long batches leave room for tight models */
    bool plans;          /* batches no larger than pays, planned for the types that there are */
    bool uses_fairness;
    bool uses_priorities; /* past saturation the less important are let go on arrival */
    bool uses_outlook;    /* sacrifice asks when the next accelerator comes free */
    bool preempts;
    /* The largest batch that may be formed of `count` requests, the earliest of them with
     * deadline_ns; NULL: batch_max. */
    uint32_t (*limit)(const struct fm_sched *sched, const struct fm_sched_model_entry *model,
                      uint64_t deadline_ns, uint32_t count);
    /* Called at most once an epoch; NULL: nothing. */
    void (*epoch)(struct fm_sched *sched);
    /* Replaces dispatch's choice; NULL: the common one. May let requests go; false: nothing to
     * start, or no room to say what was let go. */
    bool (*choose)(struct fm_sched *sched, struct fm_sched_actions *actions,
                   struct fm_sched_choice *ret_choice);
    /* What runs on an accelerator has changed; NULL: nothing. */
    void (*settled)(struct fm_sched *sched, uint32_t accelerator);
};

extern const struct fm_sched_policy fm_sched_policies[FM_SCHED_POLICY_COUNT_];

/* An accelerator as a batch that is formed for it sees it. */
struct fm_sched_place {
    uint32_t accelerator;
    uint8_t type;
    uint32_t permille;
    uint64_t free_ns; /* 0: it is */
};

/* Of all models of the pool. */
static inline uint64_t fm_sched_busy_micro(const struct fm_sched *sched)
{
    return sched->busy_micro + sched->elsewhere_micro;
}

/* When the request that waits first came: its deadline less the SLO. One that may take longer than
 * that has at the latest come when it became the first. */
static inline uint64_t fm_sched_arrived_ns(const struct fm_sched *sched,
                                           const struct fm_sched_model_entry *model,
                                           uint64_t deadline_ns)
{
    uint64_t due_ns = deadline_ns + sched->options.result_ns;
    uint64_t arrived_ns = due_ns > model->slo_ns ? due_ns - model->slo_ns : 0;
    return arrived_ns < model->since_ns ? arrived_ns : model->since_ns;
}

/* Until when the request that waits first is to be met where nothing is in the way: it is not held
 * for longer than one that has the model's SLO, however patient its client is. */
static inline uint64_t fm_sched_wished_ns(const struct fm_sched *sched,
                                          const struct fm_sched_model_entry *model,
                                          uint64_t deadline_ns)
{
    uint64_t wished_ns = fm_sched_arrived_ns(sched, model, deadline_ns) + model->slo_ns;
    wished_ns -= wished_ns < sched->options.result_ns ? wished_ns : sched->options.result_ns;
    return wished_ns < deadline_ns ? wished_ns : deadline_ns;
}

/* A request waits for its model. `again`: where its first arrival put it. */
static inline void fm_sched_enqueue(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                    uint32_t slot, bool again)
{
    fm_request_queue_insert(&model->queue, &sched->requests, slot, again);
    sched->queued_count++;
    if (model->queue.count == 1) {
        model->since_ns = sched->now_ns;
    }
}

/* l(b) of the type that the model's batches are planned for. */
static inline const struct fm_latency_table *fm_sched_plan_of(
    const struct fm_sched_model_entry *model)
{
    return &model->tables[model->planned];
}

/* --- sched.c -----------------------------------------------------------------------------------
 */

/*
 * The requests of a batch that did not finish: queued again while their attempts and the time last,
 * dropped otherwise. False: the arrays are full, call again.
 */
bool fm_sched_requests_return(struct fm_sched *sched, struct fm_sched_running *running,
                              struct fm_sched_actions *actions);
/* The requests of a batch that finished are nobody's any more. */
void fm_sched_requests_finish(struct fm_sched *sched, const struct fm_sched_running *running);
/* How long a batch took that ends now; 0: nothing is to be learnt from it. */
uint64_t fm_sched_ran_ns(const struct fm_sched *sched, const struct fm_sched_running *running,
                         uint32_t accelerator);
/* The latencies of a batch's model follow what it took (0: they do not). */
void fm_sched_latency_learn(struct fm_sched *sched, const struct fm_sched_running *running,
                            uint8_t type, uint64_t ran_ns);
/* The first batch of an accelerator is over; the one behind it starts. Settles it. */
void fm_sched_running_pop(struct fm_sched *sched, uint32_t accelerator);

/* --- parts.c -----------------------------------------------------------------------------------
 */

/* SHARD: how long it takes from when a model becomes ready to when its batch can be formed; 0 for
 * a whole scheduler. */
static inline uint64_t fm_sched_delay_ns(const struct fm_sched *sched)
{
    return sched->trip_ns + sched->lag_ns;
}
void fm_sched_delay_learn(uint64_t *delay_ns, uint64_t measured_ns);

int FM_NODISCARD fm_sched_parts_init(struct fm_sched *sched);
void fm_sched_parts_deinit(struct fm_sched *sched);
/* SHARD: when what stays behind gets an accelerator, if it has to start by latest_ns;
 * FM_SCHED_NEVER: later than the grant tells. */
uint64_t fm_sched_outlook_turn_ns(const struct fm_sched *sched, uint64_t latest_ns);
/* SHARD: by how much the order of a model in that state may differ from what is offered. */
uint64_t fm_sched_offer_slack_ns(const struct fm_sched *sched, enum fm_sched_model_state state);
/* How many batches a model with that many requests wants to start. */
uint32_t fm_sched_offer_want(const struct fm_sched_model_entry *model, uint32_t count);
/* SHARD: what a model offers may have changed; nothing for other parts. */
void fm_sched_offer_mark(struct fm_sched *sched, uint32_t model);
/* SHARD: tells the changed offers, as far as there is room. */
void fm_sched_offers_tell(struct fm_sched *sched, struct fm_sched_actions *actions);
/* MATCHER: puts a model where its offer says. */
void fm_sched_offer_place(struct fm_sched *sched, uint32_t model);
/* MATCHER: a model is gone. */
void fm_sched_offer_forget(struct fm_sched *sched, uint32_t model);
/* MATCHER: there is room for the message. The model is out of the running until it answers. */
void fm_sched_grant(struct fm_sched *sched, uint32_t model, uint32_t accelerator,
                    struct fm_sched_actions *actions);
/* MATCHER: tells the shard that the first batch of an accelerator is over, or keeps it until the
 * grant is answered. False: no room to say so. */
bool fm_sched_end_tell(struct fm_sched *sched, uint32_t accelerator, enum fm_sched_end end,
                       struct fm_sched_actions *actions);
/* False: not finished, as the arrays are full. */
bool fm_sched_message_take(struct fm_sched *sched, const struct fm_sched_message *message,
                           struct fm_sched_actions *actions);

/* --- demand.c ----------------------------------------------------------------------------------
 */

uint32_t fm_sched_class_of(uint64_t duration_ns);
/* The lower edge of a class. */
uint64_t fm_sched_class_ns(uint32_t class_index);
void fm_sched_demand_arrival(struct fm_sched *sched, struct fm_sched_model_entry *model);
/* Recomputes target and demand from the rate. */
void fm_sched_demand_review(struct fm_sched *sched, struct fm_sched_model_entry *model);
void fm_sched_demand_forget(struct fm_sched *sched, struct fm_sched_model_entry *model);
/* How long a request that arrives now would wait behind those that are queued for its model. */
uint64_t fm_sched_demand_wait_ns(const struct fm_sched *sched,
                                 const struct fm_sched_model_entry *model);
void fm_sched_demand_epoch(struct fm_sched *sched);
/* What the whole pool lost lately. */
uint32_t fm_sched_bad_q20(const struct fm_sched *sched);
/* The time between two starts of batches anywhere in the pool, if all have their target size; 0:
 * none are expected. */
uint64_t fm_sched_demand_turn_ns(const struct fm_sched *sched);
/* Whether the load asks for all accelerators, or for more than there are. */
bool fm_sched_demand_full(const struct fm_sched *sched);
/* `count` requests of the model were served, or were not. */
void fm_sched_demand_outcome(struct fm_sched *sched, struct fm_sched_model_entry *model,
                             uint32_t count, bool bad);

/* --- shed.c ------------------------------------------------------------------------------------
 */

/* A request arrives. True: it is let go, for the sake of more important ones. */
bool fm_sched_shed_arrival(struct fm_sched *sched, const struct fm_sched_model_entry *model,
                           uint32_t priority);
void fm_sched_shed_epoch(struct fm_sched *sched);

/* --- candidate.c -------------------------------------------------------------------------------
 */

/* Looks at a model's queue again: lets late requests go, and puts the model where it belongs. */
void fm_sched_candidate_refresh(struct fm_sched *sched, uint32_t model,
                                struct fm_sched_actions *actions);
/* A request was queued behind others: as refresh, which is left out where it would change nothing.
 */
void fm_sched_candidate_grown(struct fm_sched *sched, uint32_t model,
                              struct fm_sched_actions *actions);
/* The largest batch of the model's first requests that an accelerator could run in time, after
 * letting go those that the policy sacrifices. 0: none is left. */
uint32_t fm_sched_candidate_form(struct fm_sched *sched, uint32_t model,
                                 const struct fm_sched_place *place,
                                 struct fm_sched_actions *actions);
/* Its first request's deadline, and how many are queued; there is one. */
uint64_t fm_sched_candidate_deadline_ns(const struct fm_sched *sched, uint32_t model);
uint32_t fm_sched_candidate_count(const struct fm_sched *sched, uint32_t model);
/* Puts a model into the ready heap of `state`, and of no other. */
void fm_sched_candidate_enter(struct fm_sched *sched, uint32_t model,
                              enum fm_sched_model_state state, uint32_t reach_class, uint64_t key);
/* When a batch of so many, the earliest with deadline_ns, may start: as the policy has it
 * (willing), and at the latest. */
void fm_sched_candidate_window(const struct fm_sched *sched, uint32_t id, uint64_t deadline_ns,
                               uint32_t count, uint64_t *ret_frontrun_ns, uint64_t *ret_latest_ns);
/* The largest batch, of those whose earliest deadline this is, that could run in time on an
 * accelerator that is free at free_ns and takes permille/1000 of the profile's time. */
uint32_t fm_sched_candidate_within(const struct fm_sched *sched,
                                   const struct fm_latency_table *table, uint64_t deadline_ns,
                                   uint64_t free_ns, uint32_t permille, uint32_t limit);
/* Lets the earliest request go; there is one, and room to say so. The model needs a refresh. */
void fm_sched_candidate_head_drop(struct fm_sched *sched, struct fm_sched_model_entry *model,
                                  enum fm_sched_drop_reason reason,
                                  struct fm_sched_actions *actions);
void fm_sched_request_drop(struct fm_sched *sched, struct fm_sched_model_entry *model,
                           uint32_t request, enum fm_sched_drop_reason reason,
                           struct fm_sched_actions *actions);
/* Takes a ready model out of the running until it is refreshed. */
void fm_sched_candidate_withdraw(struct fm_sched *sched, uint32_t model);
/* The model has nothing to run and no timer. */
void fm_sched_candidate_idle(struct fm_sched *sched, uint32_t model);
/* When the accelerator would be free for another batch; 0: it is. */
uint64_t fm_sched_accelerator_free_ns(const struct fm_sched_accelerator *accelerator);

/* --- dispatch.c --------------------------------------------------------------------------------
 */

/* Grants until nobody may start any more, or the arrays are full. */
void fm_sched_dispatch(struct fm_sched *sched, struct fm_sched_actions *actions);
/* Puts an accelerator where its state says: grantable, closing, or counted as busy. */
void fm_sched_accelerator_settle(struct fm_sched *sched, uint32_t accelerator);
struct fm_sched_place fm_sched_place_of(const struct fm_sched *sched, uint32_t accelerator);
/* Takes `count` requests out of the queue and hands them out as a batch; `running` has its number.
 * There is room for it. `skip`: so many of the earliest stay. */
void fm_sched_start(struct fm_sched *sched, uint32_t model, const struct fm_sched_place *place,
                    uint32_t skip, uint32_t count, struct fm_sched_running *running,
                    struct fm_sched_actions *actions);

#endif
