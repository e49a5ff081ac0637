/*
 * Many runs of one scenario: in parallel over seeds, loads and policies, and the search for the
 * highest load that keeps the bad rate.
 *
 * Owns: the threads, the order of results (that of the tasks, whatever runs first) and the
 * bisection. Does not own: a run (world.h). Thread rule: call from one thread; it starts and joins
 * its own.
 */
#ifndef FM_ENGINES_SIM_SEARCH_H
#define FM_ENGINES_SIM_SEARCH_H

#include "engines/sim/world.h"

/* What a run comes to, in a few numbers. */
struct fm_sim_summary {
    double scale;
    double offered_rps;
    double goodput_rps;
    double bad_rate;
    double bad_rate_worst_model;
    double batch_mean;
    double latency_mean_ms;
    double latency_p50_ms;
    double latency_p99_ms;
    double busy;
    uint32_t touched;
    uint64_t requests; /* simulated */
    uint64_t measured; /* of them, those that count */
    uint64_t trace_hash;
    uint64_t violations;
    char violation[256];
    struct fm_sim_traces traces;
};

struct fm_sim_task {
    enum fm_sched_policy_kind policy;
    uint64_t seed;
    double scale;
    /* Filled: */
    int status;
    struct fm_error error;
    struct fm_sim_summary summary; /* of a search: of the highest load found; scale 0: none */
    uint32_t run_count;
};

struct fm_sim_search_options {
    uint32_t thread_count; /* at least 1 */
    bool find_goodput;     /* search, starting at each task's scale; otherwise run at that scale */
    double bad_rate;       /* at most this */
    /* No further up than from a run of so many requests; 0: 20 million, or 100 times the first. */
    uint64_t requests_max;
};

/*
 * Does all tasks. The first (in order of the tasks) that failed gives the status and reterr.
 * Errors as fm_sim_run; of a search also FM_ELIMIT when even the highest load tried keeps the bad
 * rate, and FM_EINVAL when nothing arrives at any.
 */
int FM_NODISCARD fm_sim_search(const struct fm_sim_scenario *scenario,
                               const struct fm_sim_search_options *options,
                               struct fm_sim_task *tasks, uint32_t task_count,
                               struct fm_error *reterr);

void fm_sim_summarize(const struct fm_sim_result *result, struct fm_sim_summary *ret_summary);

#endif
