/*
 * The simulated world: accelerators, clients and time around the real scheduler.
 *
 * Owns: virtual time, arrivals, batches that run, events, and the numbers that come out. The
 * scheduler is core/sched as it is; everything it does is checked by the auditor. Does not own:
 * scenarios (scenario.h), printing (report.h), the search for a load (search.h). Thread rule: a run
 * has no state outside itself; runs may go on in parallel over one scenario.
 *
 * HOW IT WORKS. The next time is the least over the heap of arrivals (one entry a model), the heap
 * of ends (one a running batch), the events, autoscaling (autoscaler.h), the cancels and the
 * scheduler's wish to be woken. Everything of one time goes into one step, in this order: events,
 * autoscaling, ends by accelerator, cancels, what goes on to its next stage, arrivals by model,
 * then of pipelines (an event of a model is a step of its own). An accelerator that is to go is
 * taken down in the step that tells of its last batch's end, or at once when it is idle, so that no
 * batch is lost. Requests are slots, linked into batches; nothing is allocated while it runs. The
 * same scenario, policy, seed and scale give the same actions everywhere: `trace_hash` says so.
 */
#ifndef FM_ENGINES_SIM_WORLD_H
#define FM_ENGINES_SIM_WORLD_H

#include "core/stats/log_histogram.h"
#include "engines/sim/auditor.h"
#include "engines/sim/recorder.h"
#include "engines/sim/scenario.h"
#include "engines/sim/traces.h"

#define FM_SIM_TIMELINE_BUCKETS 240u

/* One batch that has left its accelerator, for who draws or records. */
struct fm_sim_span {
    uint64_t batch;
    uint64_t begin_ns;
    uint64_t end_ns;
    uint32_t model;
    uint32_t accelerator;
    uint32_t count;
    bool completed; /* false: failed, preempted, or its accelerator went */
};

struct fm_sim_division;
struct fm_sim_partition_result;

struct fm_sim_run_options {
    enum fm_sched_policy_kind policy;
    uint64_t seed;
    double scale; /* of all loads; above 0 */
    /* Called after each batch; NULL: not. */
    void (*on_span)(void *context, const struct fm_sim_span *span);
    /* Called for each action, before it is carried out; NULL: not. */
    void (*on_action)(void *context, uint64_t now_ns, const struct fm_sched_action *action,
                      const uint32_t *requests);
    void *context;                    /* of both */
    struct fm_sim_recorder *recorder; /* gets every step; NULL: not recorded. With a partition: the
                                         steps of one scheduler are not those of another: NULL */
    bool with_pool; /* with a partition: run the load on one pool, too, to compare */
    /* Of partition.c: only what is in this sub-cluster. NULL: everything. */
    const struct fm_sim_division *division;
    uint32_t cluster;
};

/* Counts are of requests that arrived in the measured interval. */
struct fm_sim_counts {
    uint64_t requests;
    uint64_t good;
    uint64_t late; /* answered, but after the deadline */
    uint64_t dropped[FM_SCHED_DROP_COUNT_];
    uint64_t batches; /* that began in the measured interval */
    uint64_t rows;    /* in those */
};

/* Requests of one SLO and one priority, of a model whose requests draw them. */
struct fm_sim_class_result {
    uint64_t slo_ns;
    uint32_t priority;
    struct fm_sim_counts counts; /* without batches and rows: batches mix classes */
};

struct fm_sim_model_result {
    struct fm_sim_counts counts;
    struct fm_sim_class_result *classes; /* by SLO, then by priority; NULL: all are alike */
    uint32_t class_count;
    struct fm_log_histogram latency;
};

/* Of a pipeline's requests, counted once, end to end. */
struct fm_sim_pipeline_result {
    struct fm_sim_counts counts; /* without batches and rows: those are the models' */
    struct fm_log_histogram latency;
    /* By stage: what came there, and how it met the stage's own deadline. What is late there goes
     * on all the same. */
    struct fm_sim_counts stages[FM_SIM_STAGES_MAX];
};

struct fm_sim_accelerator_result {
    uint64_t busy_ns; /* in the measured interval */
    uint64_t batches; /* that began in it */
};

/* One of FM_SIM_TIMELINE_BUCKETS equal parts of warm-up and measured interval. */
struct fm_sim_bucket {
    uint64_t busy_ns; /* over all accelerators */
    uint64_t up_ns;   /* likewise */
    uint32_t used;    /* accelerators that worked in it, however shortly */
    uint64_t requests;
    uint64_t bad;
};

/* What autoscaling did, over the whole run; all 0 without. */
struct fm_sim_autoscale_result {
    uint64_t changes; /* of how many it wanted */
    uint64_t started; /* accelerators that came up */
    uint64_t stopped; /* that were taken down */
};

struct fm_sim_result {
    const struct fm_sim_scenario *scenario; /* borrowed, or `fitted`: with what was measured */
    struct fm_sim_scenario *fitted;         /* NULL: measured as the scenario says */
    struct fm_sim_traces traces;
    enum fm_sched_policy_kind policy;
    uint64_t seed;
    double scale;
    struct fm_sim_counts total;
    struct fm_log_histogram latency;
    struct fm_sim_model_result *models;
    uint32_t model_count;
    struct fm_sim_pipeline_result *pipelines; /* as the scenario's */
    uint32_t pipeline_count;
    struct fm_sim_accelerator_result *accelerators;
    uint32_t accelerator_count;
    uint64_t *batch_sizes; /* [batch_max + 1]: batches of that size that began while measured */
    uint32_t batch_max;
    uint64_t bucket_ns;
    struct fm_sim_bucket timeline[FM_SIM_TIMELINE_BUCKETS];
    uint64_t trace_hash; /* of every action */
    uint64_t steps;
    uint64_t requests_all; /* with the warm-up's */
    uint64_t preempted;    /* batches */
    uint64_t failed;       /* batches that failed or lost their accelerator */
    /* Sums over accelerators, in the measured interval. */
    uint64_t up_ns;
    uint64_t starting_ns;
    uint32_t up_min;
    uint32_t up_max;
    struct fm_sim_autoscale_result autoscale;
    struct fm_sim_audit audit;
    struct fm_sim_partition_result *partition; /* partition.h; NULL: one pool */
};

/*
 * With a partition in the scenario, and no `division`: one scheduler for each sub-cluster, and the
 * sum of them (`trace_hash`: of theirs, in order); errors of fm_sim_division_create, too.
 * Of a load that ends (traces.h), the result's scenario says what was measured; errors of
 * fm_sim_scenario_fit, too. FM_ENOMEM; FM_ELIMIT: more requests at once than requests_max;
 * FM_EINTERNAL: the scheduler failed. Violations that the auditor found are in the result, not an
 * error. The scenario must have been checked and outlive the result.
 */
int FM_NODISCARD fm_sim_run(const struct fm_sim_scenario *scenario,
                            const struct fm_sim_run_options *options,
                            struct fm_sim_result **ret_result, struct fm_error *reterr);
void fm_sim_result_free(struct fm_sim_result *result); /* accepts NULL */

/* The hash of a run, continued with an action; `requests`: of a START. */
uint64_t fm_sim_action_hash(uint64_t hash, uint64_t now_ns, const struct fm_sched_action *action,
                            const uint32_t *requests);

/* Drops (but those that the client asked for) and late answers over all that arrived. */
double fm_sim_counts_bad_rate(const struct fm_sim_counts *counts);
uint64_t fm_sim_counts_bad(const struct fm_sim_counts *counts);
/* A quantile of latencies in milliseconds; INFINITY: one that the histogram cannot tell from longer
 * ones, from 18 minutes on. */
double fm_sim_quantile_ms(const struct fm_log_histogram *latency, uint32_t permille);
double fm_sim_counts_batch_mean(const struct fm_sim_counts *counts);
/* The worst over models and pipelines with at least FM_SIM_WORST_REQUESTS requests (fewer say
 * nothing). */
#define FM_SIM_WORST_REQUESTS 200u
double fm_sim_result_worst_bad_rate(const struct fm_sim_result *result);
double fm_sim_result_goodput_rps(const struct fm_sim_result *result);
double fm_sim_result_offered_rps(const struct fm_sim_result *result);
uint32_t fm_sim_result_touched(const struct fm_sim_result *result);
double fm_sim_result_busy(const struct fm_sim_result *result); /* busy equivalents */
double fm_sim_result_up(const struct fm_sim_result *result);   /* up on average */
/* Up or starting, in the measured interval. */
double fm_sim_result_accelerator_hours(const struct fm_sim_result *result);

#endif
