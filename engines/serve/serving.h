/*
 * A loaded model or pipeline as requests meet it: its place in the pool of accelerators, what it
 * has to keep, what was counted of it.
 *
 * Owns: putting an entry of the catalog into the pool and taking it out, its latency profile (from
 * a file, or measured when it was loaded, and kept up with what batches really take), its counters,
 * what is remembered of requests to it.
 * Does not own: the entry, the pool, requests. Thread rule: attach and detach on threads of the
 * catalog; each loop writes its own counters and memory; the rest is the observer's.
 */
#ifndef FM_ENGINES_SERVE_SERVING_H
#define FM_ENGINES_SERVE_SERVING_H

#include <stdatomic.h>

#include "core/proto/oip_memo.h"
#include "core/stats/model_counters.h"
#include "core/stats/recent.h"
#include "engines/serve/catalog.h"
#include "host/pool/pool.h"
#include "host/pool/stages.h"

/* Requests of one batch, at most, whatever a model says. */
#define FM_SERVING_BATCH_MAX 1024u

/* Where a model's latencies come from. */
enum fm_serving_source { FM_SERVING_PROFILED, FM_SERVING_MEASURED, FM_SERVING_GUESSED };

struct fm_serving {
    struct fm_catalog_entry *entry; /* borrowed: it owns this */
    struct fm_pool *pool;
    struct fm_pool_model *model;          /* a model; NULL: a pipeline */
    struct fm_pool_stages *stages;        /* a pipeline; NULL: a model */
    struct fm_pool_model_options options; /* of a model */
    struct fm_profile *profiles;          /* of a model, by the pool's type */
    const struct fm_accelerator_group *groups;
    uint32_t group_count; /* 0: the pool has one type */
    uint32_t type_count;
    uint32_t instances;    /* of a model, on all types */
    uint64_t memory_bytes; /* likewise */
    enum fm_serving_source source;
    _Atomic uint64_t slo_ns;
    bool slo_given;                   /* by the model or the server's options; else chosen here */
    enum fm_sched_policy_kind policy; /* of a model: its own, or the server's */
    uint32_t requests_max;
    _Atomic uint32_t in_flight;
    uint32_t span_model; /* its number in the timeline */
    uint64_t load;       /* a number that no other load of anything has */
    bool cached;         /* its answers are kept in the response cache */

    struct fm_model_counters **counters; /* by loop */
    struct fm_oip_memo *memos;           /* by loop */
    uint32_t loop_count;

    /* The observer's. */
    struct fm_model_totals totals;
    struct fm_recent recent;
    struct fm_batch_row_total *learnt; /* by batch size: what the profile is up to date with */
    uint32_t learnt_count;
};

struct fm_serving_options {
    struct fm_pool *pool;
    const struct fm_accelerator_group *groups; /* the pool's types; borrowed for good */
    uint32_t group_count;                      /* 0: the pool has one type */
    uint32_t loop_count;
    uint32_t requests_max;
    uint64_t slo_ns;                  /* of models that name none; 0: chosen */
    enum fm_sched_policy_kind policy; /* of models that name none: the pool's */
    enum fm_sched_goal goal;
    bool goal_given;
    bool cache;   /* there is a response cache */
    bool measure; /* run a model without a profile, to have one */
    /* The number of a name in the timeline. */
    uint32_t (*span_model)(void *context, const char *name);
    void *context;
};

/* As the attach hook of the catalog: measures if it has to, and puts the entry into the pool. */
int FM_NODISCARD fm_serving_create(const struct fm_serving_options *options,
                                   struct fm_catalog_entry *entry, struct fm_serving **ret_serving,
                                   struct fm_error *reterr);
/* When nobody holds the entry. Waits until nothing of it is in the pool. False: until nothing was
 * but runs that hang, which go on using the servable, so that it has to stay for ever. Accepts
 * NULL. */
bool fm_serving_destroy(struct fm_serving *serving);

/* Adds what was counted of requests to it. FM_ENOMEM as fm_model_totals_add. Any thread. */
int FM_NODISCARD fm_serving_totals_add(const struct fm_serving *serving,
                                       struct fm_model_totals *totals);
/* Of a pipeline; 0: a model. */
uint32_t fm_serving_stage_count(const struct fm_serving *serving);
/* What a stage of a pipeline counted, and of which model; NULL: an operator. Read it from any
 * thread. */
const struct fm_model_counters *fm_serving_stage_counters(const struct fm_serving *serving,
                                                          uint32_t stage, const char **ret_model,
                                                          uint64_t *ret_version);

/* Adds up what was counted, and follows it: about once a second, by the observer. */
void fm_serving_sample(struct fm_serving *serving, uint64_t now_ns);

#endif
