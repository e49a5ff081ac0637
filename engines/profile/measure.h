/*
 * Measures a model's latency profile: l(b) for each batch size in each setting of threads x
 * instances.
 *
 * Owns: loading the model in each setting, the closed loops, the order of measuring, and the
 * numbers made of it. Does not own: the choice and the record (core/sched/profile_record.h), files,
 * printing.
 *
 * HOW IT WORKS. For every number of threads the model is loaded once, with as many instances as any
 * setting needs. A point is (setting, batch size): one thread per instance runs batches back to
 * back, all instances at once, for a slice of time. All points are visited once per round, in an
 * order shuffled anew each round, so that a disturbance of the machine hits all alike; a rate is
 * the median over the rounds, latency quantiles are over all runs. Then the points near the best
 * get a second set of rounds, which decides between them. LIMITATIONS. Rates are of the model
 * alone: no decoding, no queue. Points whose single run takes longer than latency_limit_ns end
 * their setting's list of batch sizes.
 * Thread rule: call from one thread; `stop` and `progress` are called on that thread, `stop` also
 * on the measuring threads.
 */
#ifndef FM_ENGINES_PROFILE_MEASURE_H
#define FM_ENGINES_PROFILE_MEASURE_H

#include "core/sched/profile_record.h"
#include "engines/profile/inputs.h"
#include "host/runtime/model.h"

struct fm_measure_progress {
    uint32_t done; /* slices */
    uint32_t total;
    uint32_t threads; /* what is measured now */
    uint32_t instances;
    uint32_t batch;
    const char *phase; /* "loading", "warming up", "measuring", "deciding" */
};

/* One variant of further backend settings. */
struct fm_measure_variant {
    const char *key; /* NULL: the model's own settings */
    const char *value;
};

struct fm_measure_options {
    const uint32_t *batches; /* ascending; those the model cannot do are left out */
    size_t batch_count;
    bool batches_given; /* by the user: go beyond the maximum in the model's configuration */
    const uint32_t *threads;
    size_t thread_count;
    const uint32_t
        *instances; /* NULL: for each number of threads 1, powers of two, and as many as fit */
    size_t instance_count;
    const struct fm_measure_variant *variants;
    size_t variant_count; /* 0: one, without changes */
    uint32_t cpu_count;   /* settings with threads * instances above it are left out; 0: none is */
    uint64_t duration_ns; /* per point, over all rounds */
    uint64_t latency_limit_ns; /* 0: none */
    uint32_t rounds;
    uint32_t deciding_rounds; /* of the points within 10 % of the best; 0: none */
    uint64_t slo_ns;          /* 0: none */
    uint64_t seed;
    const struct fm_input_shape *shapes;
    size_t shape_count;
    bool *ret_shapes_wrong;      /* mandatory; set when it is `shapes` that lacks or misfits */
    bool (*stop)(void *context); /* true: end soon; NULL: never */
    void (*progress)(void *context, const struct fm_measure_progress *progress);
    void (*note)(void *context, const char *text);
    void *context;
};

/*
 * Fills `record` but for machine and measured. `config` is changed: threads, instances, largest
 * batch. When stop() said so the record holds what was measured, complete is false, and the result
 * is 0 if there is anything in it, else FM_ECANCELLED.
 */
int FM_NODISCARD fm_measure(struct fm_model_config *config,
                            const struct fm_measure_options *options,
                            struct fm_profile_record *record, struct fm_error *reterr);

#endif
