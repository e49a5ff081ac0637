/*
 * A scenario: what is simulated. Accelerators, models with their load and profiles, the network,
 * and what goes wrong when.
 *
 * Owns: the description, its defaults and its checks. Does not own: the file it comes from
 * (scenario_file.h), running it (world.h). Thread rule: a checked scenario is read-only, any number
 * of threads may run it.
 */
#ifndef FM_ENGINES_SIM_SCENARIO_H
#define FM_ENGINES_SIM_SCENARIO_H

#include "core/load/arrivals.h"
#include "core/sched/advice.h"
#include "core/sched/latency_table.h"
#include "core/sched/sched.h"
#include "core/util/memory.h"

#define FM_SIM_TYPE_NAME_SIZE  64u
#define FM_SIM_GROUPS_MAX      4096u
#define FM_SIM_EVENTS_MAX      4096u
#define FM_SIM_TRACE_TIMES_MAX (1u << 26)
#define FM_SIM_TIME_MAX_NS     (UINT64_C(1) << 56) /* 2.3 years */

/* `count` accelerators in a row of one type. */
struct fm_sim_pool {
    uint32_t count;
    uint32_t type;
};

enum fm_sim_event_kind {
    FM_SIM_EVENT_DOWN,
    FM_SIM_EVENT_UP,
    FM_SIM_EVENT_SLOW,
    FM_SIM_EVENT_MODEL_ADDED,
    FM_SIM_EVENT_MODEL_REMOVED,
    FM_SIM_EVENT_REPROFILED,
};

/* What a new profile changes. */
enum fm_sim_change {
    FM_SIM_CHANGE_BOTH,    /* batches take it, and the scheduler is told: a new version */
    FM_SIM_CHANGE_TRUTH,   /* batches take it, the scheduler is not told */
    FM_SIM_CHANGE_PROMISE, /* the scheduler is told, batches take what they took */
};

/* Happens at at_ns to the accelerators, or the models, [first, first + count). */
struct fm_sim_event {
    enum fm_sim_event_kind kind;
    uint64_t at_ns;
    uint32_t first;
    uint32_t count;
    uint32_t permille; /* SLOW: batches take permille/1000 of their time from now on */
    uint32_t line;     /* in the file, for messages */
    /* REPROFILED: by type, [FM_SCHED_TYPES_LIMIT], of the same types as before. Of the arena. */
    const struct fm_profile *const *profiles;
    enum fm_sim_change change;
};

/* One of several values that requests draw from: the one whose `below` is the first above a number
 * drawn from [0, FM_SIM_DRAW_END). */
struct fm_sim_choice {
    uint64_t value;
    uint64_t below; /* of the last one FM_SIM_DRAW_END */
};
#define FM_SIM_DRAW_END (UINT64_C(1) << 32)
#define FM_SIM_SLOS_MAX 8u

/* How many accelerators are up follows the load, by core/sched/advice.h. */
struct fm_sim_autoscale {
    bool on;
    uint32_t line;                   /* in the file, for messages */
    uint32_t initial;                /* up at the beginning */
    uint64_t interval_ns;            /* between two looks */
    uint64_t start_delay_ns;         /* from the wish to an accelerator that is up */
    struct fm_advice_options advice; /* accelerators_max 0: all; the check says how many */
};
#define FM_SIM_INITIAL_MAX     UINT32_MAX /* `initial`: the maximum */
#define FM_SIM_INTERVAL_MIN_NS UINT64_C(10000000)

/* Sub-clusters with a scheduler each (partition.h). */
struct fm_sim_partition {
    uint32_t clusters;           /* 0: one pool */
    uint32_t line;               /* in the file, for messages */
    uint64_t memory_bytes;       /* of each accelerator, for models; 0: no limit */
    uint64_t every_ns;           /* how often it is solved again; 0: when models change */
    uint32_t threshold_permille; /* as in core/sched/partition.h */
    uint32_t gain_permille;
};

/* `count` models that differ in their share of the load only. */
struct fm_sim_group {
    const char *name;
    uint32_t line; /* in the file, for messages */
    uint32_t count;
    uint32_t first;     /* id of its first model; set by the check */
    double popularity;  /* exponent of Zipf's law over the group; 0: all alike */
    bool absent;        /* at the beginning, until a MODEL_ADDED */
    bool clients_leave; /* nobody asks for it while it is absent; false: they do, in vain */
    uint64_t slo_ns;    /* from arrival to deadline, unless requests draw it; 0: of stages only */
    uint32_t priority;  /* likewise */
    uint64_t stage_ns;  /* set by the check: its shortest share of a pipeline's deadline, 0: none */
    /* Each request draws its SLO and its priority; count 0: all have those above. */
    struct fm_sim_choice slo_choices[FM_SIM_SLOS_MAX];
    uint32_t slo_choice_count;
    struct fm_sim_choice priority_choices[FM_SCHED_PRIORITY_COUNT];
    uint32_t priority_choice_count;
    enum fm_sched_goal goal;
    bool policy_given; /* false: the scenario's, or what a run is told */
    enum fm_sched_policy_kind policy;
    enum fm_profile_statistic statistic;
    uint32_t batch_max; /* 0: the scenario's */
    uint32_t preferred[FM_SCHED_PREFERRED_MAX];
    uint64_t queue_delay_ns;
    uint64_t memory_bytes; /* on each accelerator of its sub-cluster */
    /* By type; NULL: does not run on it. Of the arena. */
    const struct fm_profile *profiles[FM_SCHED_TYPES_LIMIT];
    struct fm_arrivals_spec arrivals; /* of one model, at the group's mean rate */
    bool silent;                      /* it has none: a stage of pipelines only */
    /* Of a trace: what each of its requests has, from its arrival to its deadline, and its
     * priority. NULL: as above. Of the arena. */
    const uint64_t *budgets_ns;
    const uint8_t *priorities;
};

#define FM_SIM_STAGES_MAX    16u
#define FM_SIM_PIPELINES_MAX 256u

/* Requests that go through several models, one after the other. */
struct fm_sim_pipeline {
    const char *name;
    uint32_t line;                      /* in the file, for messages */
    uint64_t slo_ns;                    /* from arrival to the last answer */
    uint32_t priority;                  /* at every stage */
    uint32_t stages[FM_SIM_STAGES_MAX]; /* models */
    uint32_t stage_count;
    bool even; /* all stages get the same share of the deadline; false: by core/sched/budget.h */
    struct fm_arrivals_spec arrivals;
    uint64_t due_ns[FM_SIM_STAGES_MAX]; /* set by the check: from arrival to each stage's answer */
};

/* A file that a scenario is read from besides its own: a trace, a profile. Of the arena. */
struct fm_sim_file {
    const char *path;
    struct fm_sim_file *next;
};

struct fm_sim_scenario {
    struct fm_arena arena;
    const char *file; /* for messages; may be NULL */
    struct fm_sim_file *files;

    char types[FM_SCHED_TYPES_LIMIT][FM_SIM_TYPE_NAME_SIZE];
    uint32_t type_count;
    struct fm_sim_pool *pools;
    uint32_t pool_count;

    uint64_t seed;
    uint64_t warmup_ns;
    uint64_t measure_ns;
    bool ends_with_load;   /* measured is at most until the last trace's end (traces.h) */
    bool events_keep_pace; /* they are of the load: at a scale X they come X times earlier */
    uint64_t control_ns;
    uint64_t data_ns;
    uint64_t result_ns;

    enum fm_sched_policy_kind policy;
    uint32_t batch_max;
    uint32_t attempts_max;
    uint32_t requests_max; /* 0: by the load */
    bool learn;
    bool admit;

    struct fm_sim_group *groups;
    uint32_t group_count;
    struct fm_sim_pipeline *pipelines;
    uint32_t pipeline_count;

    /* What goes wrong, or otherwise changes. Each with a seed of its own, so that one does not
     * change the other. */
    double spread_sigma; /* batches take exp(sigma * normal) times their profile */
    uint64_t spread_seed;
    double failure_share; /* of batches: they end as failed */
    uint64_t failure_seed;
    double cancel_share; /* of requests: cancelled cancel_delay_ns after they arrived */
    uint64_t cancel_delay_ns;
    uint64_t cancel_seed;
    struct fm_sim_event *events; /* ascending in time once checked */
    uint32_t event_count;

    struct fm_sim_autoscale autoscale;
    struct fm_sim_partition partition;
};

/* Defaults; nothing in it yet. */
void fm_sim_scenario_init(struct fm_sim_scenario *scenario);
void fm_sim_scenario_deinit(struct fm_sim_scenario *scenario);

/* Whether it can be run; puts the events in order and completes the limits of autoscaling.
 * FM_EINVAL with place and reason, FM_ENOMEM. */
int FM_NODISCARD fm_sim_scenario_check(struct fm_sim_scenario *scenario, struct fm_error *reterr);

uint32_t fm_sim_scenario_model_count(const struct fm_sim_scenario *scenario);
uint32_t fm_sim_scenario_accelerator_count(const struct fm_sim_scenario *scenario);
/* Mean requests per second of all models; of traces: their mean. */
double fm_sim_scenario_rate_hz(const struct fm_sim_scenario *scenario);
/* Requests that may be under way at once: as the scenario says, or what the load (`scale` times)
 * brings in four times its SLO, and room for bursts. */
uint32_t fm_sim_scenario_requests_max(const struct fm_sim_scenario *scenario, double scale);
/* The shortest and the longest SLO that a request of the group draws; choices ascend. */
uint64_t fm_sim_group_slo_min_ns(const struct fm_sim_group *group);
uint64_t fm_sim_group_slo_max_ns(const struct fm_sim_group *group);
/* Mean requests per second; of a trace: its mean. */
double fm_sim_arrivals_rate_hz(const struct fm_arrivals_spec *arrivals);
/* What the scheduler is told is the usual time from arrival to deadline: the shortest. Of a checked
 * scenario. */
uint64_t fm_sim_group_told_ns(const struct fm_sim_group *group);
/* The scheduler's l(b) of a model with these profiles (by type) on the type that is fastest for one
 * request, of batches of up to most_ns. The table's owner is the caller. FM_ENOMEM. */
int FM_NODISCARD fm_sim_group_table(const struct fm_sim_scenario *scenario,
                                    const struct fm_sim_group *group,
                                    const struct fm_profile *const *profiles, uint64_t most_ns,
                                    struct fm_latency_table *ret_table);
/* A stage's part of the deadline, in milliseconds; of a checked scenario. */
double fm_sim_pipeline_share_ms(const struct fm_sim_pipeline *pipeline, uint32_t stage);
/* How many times the group's mean rate each of its models has: [group->count], their mean is 1.
 * FM_EINVAL: a popularity that cannot be. */
int FM_NODISCARD fm_sim_group_shares(const struct fm_sim_group *group, double *ret_shares,
                                     struct fm_error *reterr);
/* "name", or "name.index" in a group of several. Of a checked scenario. Returns text. */
const char *fm_sim_scenario_model_name(const struct fm_sim_scenario *scenario, uint32_t model,
                                       char *text, size_t size);
/* Whether the seed of a run decides anything; spread, failures and cancels have seeds of their own.
 */
bool fm_sim_scenario_draws(const struct fm_sim_scenario *scenario);
/* A seed for one concern of one model, unrelated to all others of the same scenario. */
uint64_t fm_sim_seed(uint64_t seed, const char *concern, uint64_t index);

#endif
