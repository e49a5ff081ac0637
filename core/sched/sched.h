/*
 * The scheduler: decides which requests run together, when, and on which accelerator.
 *
 * Owns: the queue of every model, the candidate each model would run now, the state of every
 * accelerator as far as the scheduler knows it, and the measured rates that decisions stand on.
 * Does not own: clocks, threads, requests' payloads, running anything; it knows ids, counts,
 * deadlines and latencies only. Thread rule: pure; one thread at a time for each object.
 *
 * HOW IT WORKS. fm_sched_step() takes the time and what has happened and returns what to do: start
 * a batch, drop a request, preempt an accelerator, and when to call again. All memory is taken by
 * fm_sched_create() and by events that add a model; requests, batches and timers allocate nothing.
 * The same events at the same times give the same actions on every machine: integers only, ties
 * broken by id.
 *
 * Ids are the caller's and dense: a request is a slot below requests_max that the caller does not
 * reuse until the request's one outcome (a drop, or the batch it ran in done or failed); models and
 * accelerators likewise. "Lowest-numbered accelerator" means the lowest id.
 *
 * Sources: deferred batch scheduling after Symphony (arXiv 2308.07470); docs/scheduling.md says
 * what is taken from it, what was found wanting and what is done instead.
 */
#ifndef FM_CORE_SCHED_SCHED_H
#define FM_CORE_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sched/profile.h"
#include "fermata/status.h"

#define FM_SCHED_NONE               UINT32_MAX
#define FM_SCHED_NEVER              UINT64_MAX
#define FM_SCHED_MODELS_LIMIT       65536u
#define FM_SCHED_ACCELERATORS_LIMIT 65536u
#define FM_SCHED_TYPES_LIMIT        8u
#define FM_SCHED_REQUESTS_LIMIT     (1u << 24)
#define FM_SCHED_BATCH_LIMIT        4096u
#define FM_SCHED_PREFERRED_MAX      8u
#define FM_SCHED_PRIORITY_COUNT     4u
#define FM_SCHED_SHARDS_LIMIT       64u
/* Times beyond this are refused: sums of a few of them must not overflow. */
#define FM_SCHED_TIME_MAX_NS (UINT64_C(1) << 60)

/* Policies: rows of the table in policy.c, in this order. docs/scheduling.md names the sources. */
enum fm_sched_policy_kind {
    FM_SCHED_POLICY_DEFERRED,
    FM_SCHED_POLICY_EAGER,
    FM_SCHED_POLICY_LATEST,
    FM_SCHED_POLICY_TIMEOUT,
    FM_SCHED_POLICY_TARGET,
    FM_SCHED_POLICY_NEXUS,
    FM_SCHED_POLICY_SHEPHERD,
    FM_SCHED_POLICY_CLOCKWORK,
    FM_SCHED_POLICY_SYMPHONY, /* deferred as published */
    FM_SCHED_POLICY_COUNT_
};

/* What a model wants from `deferred`. */
enum fm_sched_goal {
    FM_SCHED_GOAL_BALANCED,   /* few accelerators, and no waiting while one of them is idle */
    FM_SCHED_GOAL_EFFICIENCY, /* defer fully: the largest batches, the fewest accelerators */
    FM_SCHED_GOAL_LATENCY,    /* defer only when the load needs it */
    FM_SCHED_GOAL_COUNT_
};

enum fm_sched_drop_reason {
    FM_SCHED_DROP_INFEASIBLE, /* could not be met when it arrived */
    FM_SCHED_DROP_LATE,       /* no accelerator in time */
    FM_SCHED_DROP_SACRIFICED, /* let go so that more of its successors can be served */
    FM_SCHED_DROP_REJECTED,   /* admission control: the queue ahead of it is too long */
    FM_SCHED_DROP_CANCELLED,  /* asked for */
    FM_SCHED_DROP_MODEL_GONE, /* its model was removed, or is not there */
    FM_SCHED_DROP_FAILED,     /* its batch failed or its accelerator went, and there is no time left
                                 to try again */
    FM_SCHED_DROP_OUTRANKED,  /* past saturation, for the sake of more important ones */
    FM_SCHED_DROP_COUNT_
};

/* A scheduler is one object, or several on threads of their own: core/sched/parts.h. */
enum fm_sched_part {
    FM_SCHED_PART_WHOLE,
    FM_SCHED_PART_MATCHER, /* accelerators, and which model gets the next one */
    FM_SCHED_PART_SHARD,   /* some of the models: their requests and candidates */
    FM_SCHED_PART_COUNT_
};

struct fm_request_table;
struct fm_sched_message;

struct fm_sched_options {
    enum fm_sched_policy_kind policy;
    uint32_t models_max;       /* 1 .. FM_SCHED_MODELS_LIMIT */
    uint32_t accelerators_max; /* 1 .. FM_SCHED_ACCELERATORS_LIMIT */
    uint32_t type_count;       /* kinds of accelerators, 1 .. FM_SCHED_TYPES_LIMIT */
    uint32_t requests_max;     /* slots, 1 .. FM_SCHED_REQUESTS_LIMIT */
    uint32_t batch_max;        /* 1 .. FM_SCHED_BATCH_LIMIT */
    /* Subtracted from what a deadline leaves: scheduler to accelerator, each request's input to the
     * accelerator, the answer back. 0 inside one process. */
    uint64_t control_ns;
    uint64_t data_ns;
    uint64_t result_ns;
    uint32_t attempts_max; /* times a request may be started; 0: 1 */
    bool learn;            /* follow drifting latencies by what batches really took */
    bool admit;            /* reject on arrival what the queue ahead leaves no time for */

    /* Of parts; zero for a whole one. */
    enum fm_sched_part part;
    uint32_t shard_count;    /* MATCHER: 1 .. FM_SCHED_SHARDS_LIMIT */
    uint64_t offer_slack_ns; /* SHARD: smaller changes of a candidate's order are neither looked
                                for nor told (of one that is only willing: four times that; while
                                the load asks for all accelerators: an eighth). 0: every request
                                is looked at by itself */
    const struct fm_request_table *requests; /* SHARD: the slots that all shards share; borrowed */
};

/* A model as it is added or changed. */
struct fm_sched_model {
    uint32_t model;
    uint64_t slo_ns; /* usual time from arrival to deadline; each request still has its own */
    enum fm_sched_goal goal;
    uint32_t batch_max;                  /* 0: options.batch_max */
    enum fm_profile_statistic statistic; /* which l(b) promises are made on */
    /* How its batches are formed: when one is ready, how large it is, whom it lets go. It has to
     * mix with the scheduler's (fm_sched_policy_mixes), which shares the accelerators out. Not
     * given: the scheduler's. */
    bool policy_given;
    enum fm_sched_policy_kind policy;
    /* By type; borrowed during the call; NULL: does not run on that type. Not all NULL. */
    const struct fm_profile *profiles[FM_SCHED_TYPES_LIMIT];
    /* For `timeout`: start at a preferred size, or when the oldest has waited this long. */
    uint32_t preferred[FM_SCHED_PREFERRED_MAX]; /* ascending, 0-terminated; none: the batch limit */
    uint64_t queue_delay_ns;
};

enum fm_sched_event_kind {
    FM_SCHED_EVENT_REQUEST,
    FM_SCHED_EVENT_CANCEL,
    FM_SCHED_EVENT_ACCELERATOR_UP,   /* new, or back; also changes its type while it is down */
    FM_SCHED_EVENT_ACCELERATOR_DOWN, /* at once; what ran there is tried again or dropped */
    FM_SCHED_EVENT_ACCELERATOR_SLOW, /* takes permille/1000 of the profile's time from now on */
    FM_SCHED_EVENT_BATCH_DONE,
    FM_SCHED_EVENT_BATCH_FAILED,  /* the accelerator is free again */
    FM_SCHED_EVENT_MODEL_SET,     /* added, or changed with its queue kept */
    FM_SCHED_EVENT_MODEL_REMOVED, /* its queue is dropped, what runs ends */
    FM_SCHED_EVENT_DRAIN,         /* hardly anything more comes: from now on no batch is held back
                                     for more requests, whatever the policies */
    FM_SCHED_EVENT_TICK,          /* nothing: time passed */
    FM_SCHED_EVENT_MESSAGE,       /* from another part */
    FM_SCHED_EVENT_COUNT_
};

struct fm_sched_event {
    enum fm_sched_event_kind kind;
    union {
        struct {
            uint32_t request; /* slot */
            uint32_t model;
            uint64_t deadline_ns;
            uint32_t priority; /* 0: most important .. FM_SCHED_PRIORITY_COUNT - 1 */
        } request;
        struct {
            uint32_t request;
        } cancel;
        struct {
            uint32_t accelerator;
            uint32_t type;     /* UP */
            uint32_t permille; /* SLOW; 1000: as profiled */
        } accelerator;
        struct {
            uint32_t accelerator;
            uint64_t batch; /* as in the action; an older number is ignored and counted */
        } batch;
        const struct fm_sched_model *model; /* SET; borrowed during the call */
        uint32_t model_removed;
        const struct fm_sched_message *message; /* borrowed during the call */
    } as;
};

enum fm_sched_action_kind {
    FM_SCHED_ACTION_START,
    FM_SCHED_ACTION_DROP,
    FM_SCHED_ACTION_PREEMPT, /* stop the batch that runs there; its requests are queued again.
                                SHARD: it was lost with its accelerator, maybe before it began */
    FM_SCHED_ACTION_DONE,    /* SHARD: the slots of a batch that is done are the caller's again */
    FM_SCHED_ACTION_COUNT_
};

struct fm_sched_action {
    enum fm_sched_action_kind kind;
    uint32_t model;
    uint32_t accelerator; /* START, PREEMPT, DONE */
    uint64_t batch;       /* START, PREEMPT, DONE: number of the batch, from 1, never reused */
    uint64_t start_ns;    /* START: when it is to run, now or later */
    uint64_t expected_ns; /* START: when it should be done */
    /* START, not of parts; for who looks on: they are not recorded. The window of the candidate
     * that it became: from when on the policy would have let it start (0: at once), and when it had
     * to at the latest. */
    uint64_t frontrun_ns;
    uint64_t latest_ns;
    bool rested;            /* START, likewise: the load had not kept the accelerator in use */
    uint32_t request_first; /* START, DONE: index into actions.requests */
    uint32_t request_count;
    uint32_t request;                 /* DROP */
    enum fm_sched_drop_reason reason; /* DROP */
};

/* Filled by a step; the arrays are the caller's. */
struct fm_sched_actions {
    struct fm_sched_action *items;
    uint32_t capacity; /* at least 1 */
    uint32_t count;
    uint32_t *requests;
    uint32_t request_capacity; /* at least options.batch_max */
    uint32_t request_count;
    struct fm_sched_message *messages; /* for other parts; NULL for a whole one */
    uint32_t message_capacity;
    uint32_t message_count;
    uint64_t wake_ns; /* call again by then, FM_SCHED_NEVER: not needed. Not later than `now`: the
                         arrays were full, empty them and call again at the same time. */
};

struct fm_sched;

/* FM_EINVAL with the field's name and limits in reterr, FM_ENOMEM. */
int FM_NODISCARD fm_sched_create(const struct fm_sched_options *options,
                                 struct fm_sched **ret_sched, struct fm_error *reterr);
void fm_sched_destroy(struct fm_sched *sched); /* accepts NULL */

/*
 * Takes `event_count` events that happened by now_ns, in order, and decides. Time that runs
 * backwards is taken as standing still, and counted. Events that cannot be (a slot in use, an
 * accelerator that is up already, an unknown model, an id beyond its limit) change nothing and are
 * counted in `refused`; of a request that is refused for its model a drop is returned, as for any
 * other. FM_ENOMEM (MODEL_SET only): the event is not taken, those before it are, those after it
 * are not; *ret_taken tells how many. Otherwise 0.
 */
int FM_NODISCARD fm_sched_step(struct fm_sched *sched, uint64_t now_ns,
                               const struct fm_sched_event *events, uint32_t event_count,
                               struct fm_sched_actions *actions, uint32_t *ret_taken);

/* --- what can be asked -------------------------------------------------------------------------
 */

struct fm_sched_model_stats {
    uint64_t requests;
    uint64_t started; /* requests */
    uint64_t batches;
    uint64_t preempted; /* requests whose batch was stopped; counted in started, too */
    uint64_t dropped[FM_SCHED_DROP_COUNT_];
    uint32_t queued;
    uint32_t target;          /* batch size aimed at */
    uint64_t rate_millihertz; /* measured arrivals */
    uint32_t bad_permyriad;   /* recent */
};
struct fm_sched_stats {
    uint64_t steps;
    uint64_t refused;
    uint64_t time_reversals;
    uint64_t late_reports; /* BATCH_DONE/FAILED of a batch that is not running */
    uint32_t accelerators_up;
    uint32_t accelerators_busy;
    uint32_t accelerators_active; /* those the policy is content with at this load */
    uint32_t busy_milli;          /* busy equivalents the measured load needs, in thousandths */
    uint32_t queued;
};
void fm_sched_stats_get(const struct fm_sched *sched, struct fm_sched_stats *ret_stats);
/* All zero for a model that is not there. */
void fm_sched_model_stats_get(const struct fm_sched *sched, uint32_t model,
                              struct fm_sched_model_stats *ret_stats);

/*
 * The rest of an accelerator: until when it is surely not needed for what is queued and for what
 * the measured load makes likely. `now_ns` or earlier: it is needed (or busy, or down). Offline
 * work that fits into it delays nobody who is already here.
 */
uint64_t fm_sched_rest_until_ns(const struct fm_sched *sched, uint64_t now_ns,
                                uint32_t accelerator);

/* The requests of a batch that runs on the accelerator or stands behind one that does, into
 * requests[capacity]; returns how many there are (0: no such batch), which may be more than were
 * put there. Not of parts. */
uint32_t fm_sched_batch_requests(const struct fm_sched *sched, uint32_t accelerator, uint64_t batch,
                                 uint32_t *requests, uint32_t capacity);

/* Checks every invariant, in O(everything); for tests. */
bool fm_sched_validate(const struct fm_sched *sched);

const char *fm_sched_policy_name(enum fm_sched_policy_kind policy);
/* FM_SCHED_POLICY_COUNT_ for an unknown name. */
enum fm_sched_policy_kind fm_sched_policy_parse(const char *name);
/* Whether a model may have `model` where the scheduler has `scheduler`: its own always; others
 * where neither chooses among all models at once. */
bool fm_sched_policy_mixes(enum fm_sched_policy_kind scheduler, enum fm_sched_policy_kind model);
const char *fm_sched_goal_name(enum fm_sched_goal goal);
enum fm_sched_goal fm_sched_goal_parse(const char *name);
const char *fm_sched_drop_reason_name(enum fm_sched_drop_reason reason);

#endif
