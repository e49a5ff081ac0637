/*
 * The model stages of a pipeline, run by the pool: what an executor hands its items to.
 *
 * Owns: the pool's entries of the stages' models, how much of a request's time each stage may
 * take, what is counted of them. Does not own: the pipeline, its operators, the models. Thread
 * rule: create and destroy from one thread, with no request in flight; the executor's calls come
 * from any.
 *
 * HOW IT WORKS. The time that a request has is split over the stages (core/sched/budget), once, by
 * their latencies. An item of a stage has to be done so early that the stages behind it have their
 * parts: its deadline is the request's, less what the longest way from it to the end needs, which
 * shrinks and grows with the time that the request brought. The scheduler then batches the items of
 * a stage across requests as it batches requests. LIMITATIONS. Operators are taken to cost no time.
 */
#ifndef FM_HOST_POOL_STAGES_H
#define FM_HOST_POOL_STAGES_H

#include "host/pool/pool.h"
#include "host/runtime/servable.h"

struct fm_pool_stages;

struct fm_pool_stages_options {
    const struct fm_servable *servable; /* opened with `outside`; outlives the stages */
    /* By stage: how its model goes into the pool; zeroed for operators. slo_ns is set here. */
    const struct fm_pool_model_options *models;
    uint64_t slo_ns; /* of the whole pipeline */
};

/* Puts the models into the pool and connects the servable's executor. FM_EINVAL: also an slo_ns
 * that not even batches of one fit into; the words name the least. */
int FM_NODISCARD fm_pool_stages_create(struct fm_pool *pool,
                                       const struct fm_pool_stages_options *options,
                                       struct fm_pool_stages **ret_stages, struct fm_error *reterr);
/* False: a model was abandoned (fm_pool_model_remove), so the servable has to stay. Accepts NULL.
 */
bool fm_pool_stages_destroy(struct fm_pool_stages *stages);

/* The part of the pipeline's time that a stage has; 0 for operators. */
uint64_t fm_pool_stages_budget_ns(const struct fm_pool_stages *stages, uint32_t stage);
/* What was counted of a stage: read it from any thread. NULL: an operator. */
const struct fm_model_counters *fm_pool_stages_counters(const struct fm_pool_stages *stages,
                                                        uint32_t stage);
/* NULL for operators. */
const struct fm_pool_model *fm_pool_stages_model(const struct fm_pool_stages *stages,
                                                 uint32_t stage);

#endif
