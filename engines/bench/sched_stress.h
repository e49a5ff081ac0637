/*
 * The scheduler under load in real time: host/sched's threads, with accelerators that are timers.
 *
 * Owns: one thread that plays the rest of the world: it submits requests, ends batches when their
 * time is over, and looks whether answers were in time. Does not own: printing
 * (sched_stress_report.h). Thread rule: a run is one call, from one thread; it has no state outside
 * itself.
 *
 * HOW IT WORKS. Requests arrive as one Poisson stream, each for a model drawn evenly; its deadline
 * counts from the time at which it should have arrived, also where this thread was late. With
 * rate 0 they are submitted as fast as the scheduler takes them. The latency profile is affine and
 * made so that the accelerators are busy for FM_SCHED_STRESS_BUSY of the time at that rate and the
 * batches have a size worth scheduling, unless it is given.
 */
#ifndef FM_ENGINES_BENCH_SCHED_STRESS_H
#define FM_ENGINES_BENCH_SCHED_STRESS_H

#include "host/sched/scheduler.h"

#define FM_SCHED_STRESS_BUSY        0.7
#define FM_SCHED_STRESS_MODELS_MAX  FM_SCHED_MODELS_LIMIT
#define FM_SCHED_STRESS_RATE_MAX_HZ 1e9
#define FM_SCHED_STRESS_ASSUMED_HZ  8e6 /* for profiles, where the rate is not given */

struct fm_sched_stress_options {
    enum fm_sched_policy_kind policy;
    uint32_t models;
    uint32_t accelerators;
    uint32_t shards;
    double rate_hz; /* 0: as fast as it goes */
    uint64_t warmup_ns;
    uint64_t measure_ns;
    uint64_t alpha_ns; /* alpha and beta 0: made from the rate */
    uint64_t beta_ns;
    uint64_t slo_ns; /* 0: made from the profile */
    uint64_t seed;
};

/* Over the measured time. */
struct fm_sched_stress_result {
    struct fm_sched_stress_options options; /* with what was made of them */
    double seconds;
    uint64_t submitted;
    uint64_t served;  /* answers in time */
    uint64_t late;    /* answers after their deadline */
    uint64_t dropped; /* by any reason */
    uint32_t batch_max;
    uint32_t touched; /* accelerators that ran something */
    double busy;      /* accelerators busy, mean */
    uint64_t load_cpu_ns;
    struct fm_log_histogram lag; /* how late the load was, at each look; none without a rate */
    struct fm_scheduler_stats scheduler;
};

/* FM_EINVAL with what is wrong, FM_ENOMEM, or why threads could not be started. */
int FM_NODISCARD fm_sched_stress_run(const struct fm_sched_stress_options *options,
                                     struct fm_sched_stress_result *ret_result,
                                     struct fm_error *reterr);

#endif
