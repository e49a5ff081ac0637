/*
 * What the server shows of itself: one picture, filled for each scrape or poll, from which the
 * metrics page and the dashboard's state are written.
 *
 * Owns: nothing; everything is borrowed while a document is written. Does not own: getting the
 * numbers (observe.c collects them) and formats (metrics.h, state_document.h). Thread rule:
 * caller's memory.
 */
#ifndef FM_ENGINES_SERVE_VIEW_H
#define FM_ENGINES_SERVE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sched/advice.h"
#include "core/sched/sched.h"
#include "core/stats/model_counters.h"
#include "core/stats/recent.h"
#include "core/stats/timeline.h"
#include "core/tensor/tensor.h"
#include "core/util/tally.h"
#include "engines/serve/catalog.h"

/* A version of a model, or a pipeline. */
struct fm_view_model {
    const char *name;
    uint64_t version;
    const char *kind; /* "model", "pipeline", or "stage": a model that only pipelines run */
    enum fm_catalog_state state;
    const char *reason;  /* why it is not ready; "" */
    const char *backend; /* "" where there is none */
    const char *policy;  /* fm_sched_policy_name; "" for pipelines */
    const char *goal;    /* fm_sched_goal_name; "" */
    const struct fm_port *inputs;
    uint32_t input_count;
    const struct fm_port *outputs;
    uint32_t output_count;
    uint64_t load_ns;      /* how long loading took; 0: not loaded yet */
    uint64_t memory_bytes; /* 0: not known */
    uint64_t slo_ns;       /* 0: none */
    uint32_t batch_max;
    uint32_t instances;
    uint32_t queued;    /* with the scheduler */
    uint32_t in_flight; /* not answered yet, queued ones included */
    uint32_t target_batch;
    uint64_t rate_millihertz; /* measured arrivals */
    uint32_t bad_permyriad;
    const struct fm_model_totals *totals; /* NULL: nothing was counted yet */
    const struct fm_recent *recent;       /* NULL: not sampled */
};

/* A stage of a pipeline that a model runs. */
struct fm_view_stage {
    const char *pipeline;
    uint64_t version;
    const char *name;
    const char *model;
    uint64_t budget_ns;                   /* its part of the pipeline's time */
    const struct fm_model_totals *totals; /* of its items */
};

enum fm_view_accelerator_state {
    FM_VIEW_ACCELERATOR_DOWN,
    FM_VIEW_ACCELERATOR_IDLE,
    FM_VIEW_ACCELERATOR_BUSY,
    FM_VIEW_ACCELERATOR_STATE_COUNT_
};

struct fm_view_accelerator {
    const char *name;
    const char *type;
    enum fm_view_accelerator_state state;
    const char *model;      /* that runs, or ran last; "" */
    uint64_t batches;       /* ended */
    uint64_t brief;         /* batches that an event loop ran itself */
    uint64_t failures;      /* batches that failed */
    uint64_t busy_ns;       /* in all */
    uint64_t rest_until_ns; /* fm_sched_rest_until_ns; at most `now`: needed */
};

/* An event loop. */
struct fm_view_loop {
    uint64_t requests; /* taken in whole */
    uint64_t rejected; /* answered before they were requests: malformed, too large, too slow */
    uint64_t cancelled;
    uint64_t connections_accepted;
    uint64_t connections_refused;
    uint32_t connections;
    uint32_t in_flight;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t cpu_ns;
    uint64_t lag_max_ns; /* longest turn since the last look */
};

struct fm_view_process {
    uint64_t cpu_ns;
    uint64_t resident_bytes;
    uint64_t peak_bytes;
    uint64_t virtual_bytes;
    uint32_t open_descriptors;
    uint32_t descriptors_max;
    uint32_t threads;
    uint64_t tally[FM_TALLY_COUNT_];
    double machine_cpu; /* share of all CPUs' time that somebody uses, 0 .. 1 */
    uint64_t machine_memory;
    uint64_t machine_memory_used;
};

#define FM_VIEW_ACCESS_REASONS 8u

struct fm_view_refused {
    const char *reason; /* NULL: no more */
    uint64_t count;
};

/* Who was let in, and who was not. */
struct fm_view_access {
    struct fm_view_refused refused[FM_VIEW_ACCESS_REASONS];
    uint32_t tokens;
    uint32_t clients; /* remembered for their limits */
    uint64_t evicted; /* forgotten because there were too many */
    uint64_t reloads; /* of the token file */
    uint64_t reload_failures;
};

struct fm_view_export {
    bool enabled;
    uint64_t sent;
    uint64_t dropped;
    uint64_t failed; /* attempts */
};

/* The recording of payloads. */
struct fm_view_payloads {
    bool enabled;
    uint64_t bytes;
    uint64_t recorded;
    uint64_t left_out;
    uint64_t sampled_out;
};

/* The response cache. */
struct fm_view_cache {
    bool enabled;
    uint64_t bytes;
    uint64_t bytes_max;
    uint64_t entries;
    uint64_t inserted;
    uint64_t evicted;
    uint64_t too_large;
    uint64_t no_memory;
};

struct fm_view {
    const char *version;
    const char *commit;
    const char *build; /* compiler, build type */
    const char *host;  /* name of this machine; "" */
    const char *policy;
    uint64_t now_ns; /* monotonic */
    uint64_t wall_ns;
    uint64_t start_wall_ns;
    bool ready;
    bool draining;
    uint32_t cpu_count;
    const struct fm_view_model *models; /* by name, then version */
    uint32_t model_count;
    const struct fm_view_stage *stages; /* by pipeline, in the order of its file */
    uint32_t stage_count;
    uint32_t abandoned_count; /* models that are gone but for runs that do not return */
    const struct fm_view_accelerator *accelerators; /* by id */
    uint32_t accelerator_count;
    const struct fm_view_loop *loops;
    uint32_t loop_count;
    struct fm_sched_stats sched;
    const struct fm_advice *advice; /* NULL: none is given */
    struct fm_view_process process;
    struct fm_view_export otlp;
    struct fm_view_access access;
    struct fm_view_cache cache;
    struct fm_view_payloads payloads;
    uint64_t log_dropped;
    const struct fm_history *history;   /* NULL: not sampled */
    const struct fm_timeline *timeline; /* NULL: none */
    const char *const *span_models;     /* names, by the `model` of spans; entries may be NULL */
    uint32_t span_model_count;
    const char *log; /* JSON objects, the latest last, separated by newlines; "" */
};

#endif
