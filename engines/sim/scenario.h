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

enum fm_sim_fault_kind { FM_SIM_FAULT_DOWN, FM_SIM_FAULT_UP, FM_SIM_FAULT_SLOW };

/* Happens at at_ns to the accelerators [first, first + count). */
struct fm_sim_fault {
    enum fm_sim_fault_kind kind;
    uint64_t at_ns;
    uint32_t first;
    uint32_t count;
    uint32_t permille; /* SLOW: batches take permille/1000 of their time from now on */
    uint32_t line;     /* in the file, for messages */
};

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

/* `count` models that differ in their share of the load only. */
struct fm_sim_group {
    const char *name;
    uint32_t line; /* in the file, for messages */
    uint32_t count;
    uint32_t first;    /* id of its first model; set by the check */
    double popularity; /* exponent of Zipf's law over the group; 0: all alike */
    uint64_t slo_ns;
    uint32_t priority;
    enum fm_sched_goal goal;
    enum fm_profile_statistic statistic;
    uint32_t batch_max; /* 0: the scenario's */
    uint32_t preferred[FM_SCHED_PREFERRED_MAX];
    uint64_t queue_delay_ns;
    /* By type; NULL: does not run on it. Of the arena. */
    const struct fm_profile *profiles[FM_SCHED_TYPES_LIMIT];
    struct fm_arrivals_spec arrivals; /* of one model, at the group's mean rate */
    /* Of a recorded load (what_if.h): what each of a trace's requests has, from its arrival to its
     * deadline, and its priority. NULL: slo_ns and priority. Of the arena. */
    const uint64_t *budgets_ns;
    const uint8_t *priorities;
};

struct fm_sim_scenario {
    struct fm_arena arena;
    const char *file; /* for messages; may be NULL */

    char types[FM_SCHED_TYPES_LIMIT][FM_SIM_TYPE_NAME_SIZE];
    uint32_t type_count;
    struct fm_sim_pool *pools;
    uint32_t pool_count;

    uint64_t seed;
    uint64_t warmup_ns;
    uint64_t measure_ns;
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

    /* What goes wrong. Each with a seed of its own, so that one does not change the other. */
    double spread_sigma; /* batches take exp(sigma * normal) times their profile */
    uint64_t spread_seed;
    double failure_share; /* of batches: they end as failed */
    uint64_t failure_seed;
    double cancel_share; /* of requests: cancelled cancel_delay_ns after they arrived */
    uint64_t cancel_delay_ns;
    uint64_t cancel_seed;
    struct fm_sim_fault *faults; /* ascending in time once checked */
    uint32_t fault_count;

    struct fm_sim_autoscale autoscale;
};

/* Defaults; nothing in it yet. */
void fm_sim_scenario_init(struct fm_sim_scenario *scenario);
void fm_sim_scenario_deinit(struct fm_sim_scenario *scenario);

/* Whether it can be run; puts the faults in order and completes the limits of autoscaling.
 * FM_EINVAL with place and reason, FM_ENOMEM. */
int FM_NODISCARD fm_sim_scenario_check(struct fm_sim_scenario *scenario, struct fm_error *reterr);

uint32_t fm_sim_scenario_model_count(const struct fm_sim_scenario *scenario);
uint32_t fm_sim_scenario_accelerator_count(const struct fm_sim_scenario *scenario);
/* Mean requests per second of all models; of traces: their mean. */
double fm_sim_scenario_rate_hz(const struct fm_sim_scenario *scenario);
/* How many times the group's mean rate each of its models has: [group->count], their mean is 1.
 * FM_EINVAL: a popularity that cannot be. */
int FM_NODISCARD fm_sim_group_shares(const struct fm_sim_group *group, double *ret_shares,
                                     struct fm_error *reterr);
/* "name", or "name.index" in a group of several. Of a checked scenario. Returns text. */
const char *fm_sim_scenario_model_name(const struct fm_sim_scenario *scenario, uint32_t model,
                                       char *text, size_t size);
/* A seed for one concern of one model, unrelated to all others of the same scenario. */
uint64_t fm_sim_seed(uint64_t seed, const char *concern, uint64_t index);

#endif
