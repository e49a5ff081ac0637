/*
 * The queue of bench tasks in virtual time, against simpler ways to share tasks among followers.
 *
 * Owns: traces of tasks (made from a seed, or read from a file's text), the policies that it
 * compares, and the measures. Does not own: how the queue decides (core/bench/job_queue.h), files,
 * printing (queue_sim_report.h). Thread rule: one thread; pure but for memory.
 *
 * HOW IT WORKS. A trace is run through each policy, from the first arrival until all tasks have
 * ended: once with the true lengths as estimates, once with estimates that are wrong. The simple
 * policies bind a task to a follower when it arrives, in turn (round-robin) or where the least
 * estimated work is outstanding, and each follower begins what it has in order of arrival (FIFO)
 * or the shortest estimate first. The two-tier policy is the object that a leader runs. Everything
 * is measured against round-robin with FIFO, which needs no estimates.
 *
 * The measures, over all tasks of all seeds. A task's completion time is from its arrival to its
 * end; a policy's gain is the baseline's mean completion time over its own. A task's waiting is
 * from its arrival to its begin. Two say what that costs single tasks; of tasks that arrive in one
 * instant, which FIFO has no order for, each one's FIFO waiting is that of the last of them:
 *
 *     bounded ratio   waiting / (FIFO waiting + half the longest task's length): 2 when a task
 *                     waits twice as long as under FIFO and as long as the longest task, which
 *                     cannot be interrupted, on top
 *     own ratio       waiting / FIFO waiting, of tasks whose FIFO waiting is a mean length or more
 */
#ifndef FM_ENGINES_BENCH_QUEUE_SIM_H
#define FM_ENGINES_BENCH_QUEUE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bench/job_queue.h"
#include "fermata/status.h"

#define FM_QUEUE_SIM_TASKS_MAX     FM_JOB_QUEUE_TASKS_MAX
#define FM_QUEUE_SIM_FOLLOWERS_MAX FM_JOB_QUEUE_FOLLOWERS_MAX
#define FM_QUEUE_SIM_SEEDS_MAX     1000u
#define FM_QUEUE_SIM_SUM_MAX       4000000u /* tasks of all seeds */
#define FM_QUEUE_SIM_SIGMA_MAX     3.0

enum fm_queue_sim_mix {
    FM_QUEUE_SIM_UNIFORM,     /* 1 to 10 min */
    FM_QUEUE_SIM_EXPONENTIAL, /* mean 5 min */
    FM_QUEUE_SIM_BIMODAL,     /* 100 s, and one in five 1,000 s */
    FM_QUEUE_SIM_LOGNORMAL,   /* median 5 min, sigma 1 */
    FM_QUEUE_SIM_MIX_COUNT_
};

enum fm_queue_sim_policy {
    FM_QUEUE_SIM_ROUND_ROBIN_FIFO, /* the baseline */
    FM_QUEUE_SIM_LEAST_WORK_FIFO,
    FM_QUEUE_SIM_ROUND_ROBIN_SHORTEST,
    FM_QUEUE_SIM_LEAST_WORK_SHORTEST,
    FM_QUEUE_SIM_TWO_TIER,
    FM_QUEUE_SIM_POLICY_COUNT_
};

const char *fm_queue_sim_mix_name(enum fm_queue_sim_mix mix);          /* "uniform" */
const char *fm_queue_sim_policy_name(enum fm_queue_sim_policy policy); /* "round-robin, FIFO" */

/* Tasks in order of arrival; arrays are the trace's own. */
struct fm_queue_trace {
    uint64_t *arrivals_ns;
    uint64_t *lengths_ns;
    uint64_t *estimates_ns; /* NULL: it has none */
    uint32_t count;
};

void fm_queue_trace_deinit(struct fm_queue_trace *trace); /* accepts a zeroed one */

struct fm_queue_sim_options {
    enum fm_queue_sim_mix mix;
    bool poisson; /* arrivals; else all at once */
    double load;  /* of a Poisson stream: mean length times rate over followers */
    uint32_t tasks;
    uint32_t followers; /* with one device each */
    uint64_t seed;      /* the first one */
    uint32_t seeds;
    double sigma; /* wrong estimates: length times e^(sigma * normal) */
    uint32_t ageing_percent;
};

/* One trace from options and one seed. FM_ENOMEM. */
int FM_NODISCARD fm_queue_trace_make(const struct fm_queue_sim_options *options, uint64_t seed,
                                     struct fm_queue_trace *ret_trace);
/*
 * CSV with a header; its columns arrival_s (ascending) and length_s are needed, estimate_s is used
 * where there is one, others are not. `name`: of the file, for messages. FM_EINVAL with name and
 * line, FM_ETOOLARGE beyond FM_QUEUE_SIM_TASKS_MAX, FM_ENOMEM.
 */
int FM_NODISCARD fm_queue_trace_parse(const char *name, const char *text, size_t size,
                                      struct fm_queue_trace *ret_trace, struct fm_error *reterr);

struct fm_queue_sim_measures {
    double mean_s;       /* completion time */
    double p99_s;        /* the same */
    double gain;         /* the baseline's mean over this one's */
    double gain_least;   /* of the seed in which it is least */
    double p99_gain;     /* the same for the 99th percentile */
    double bounded_p99;  /* see above */
    double bounded_most; /* the same */
    double own_p99;      /* see above; 0: no task waited that long under FIFO */
    double own_most;     /* the same */
};

/* Index 0 of the second: estimates are the true lengths; 1: they are wrong. */
struct fm_queue_sim_result {
    struct fm_queue_sim_options options;
    bool from_file;
    bool own_estimates; /* the wrong estimates are those of the file */
    uint64_t tasks;     /* of all seeds */
    struct fm_queue_sim_measures measures[FM_QUEUE_SIM_POLICY_COUNT_][2];
};

/* `trace`: run this one, and options say the followers and how estimates are wrong; NULL: make one
 * for each seed. FM_ENOMEM. */
int FM_NODISCARD fm_queue_sim_run(const struct fm_queue_sim_options *options,
                                  const struct fm_queue_trace *trace,
                                  struct fm_queue_sim_result *ret_result);

#endif
