/*
 * The split of a deadline over the stages of a pipeline, so that the pipeline needs few
 * accelerators.
 *
 * Owns: the search. Does not own: tables (borrowed during the call), pipelines' files, queues.
 * Thread rule: pure; safe anywhere. Meant for configuration and epochs, not for each request: it
 * takes memory during the call.
 *
 * THE PROBLEM. A stage that is given budget B runs batches as large as B allows; a row waits at
 * most until its batch is full and then for the batch: span(b) = l(b) + b * gap            gap:
 * time between two rows at this stage span(1) = l(1) + min(gap, l(1))     a batch of one waits for
 * no other row, only for the one batch before it where rows come more slowly than l(1) (the first
 * is l(b) * (1 + 1/n) with n = rate * l(b) / b staggered accelerators: Symphony, arXiv 2308.07470;
 * larger batches where less than one accelerator is needed wait as long). It then costs work(b) =
 * rate * l(b) / b           nanoseconds of accelerators per second and of the batches within B the
 * one of least work is meant: the largest, where throughput grows with the batch, as it does
 * throughout a fm_latency_table of affine l(b). Sought are budgets of least total work such that
 * the budgets of every path of the pipeline sum up to no more than the total.
 *
 * HOW IT WORKS. Stages are composed in series and in parallel as far as the order of the pipeline
 * allows it; each composition gets a table "least work by budget" in FM_BUDGET_TICKS ticks of the
 * total (dynamic programming: the minimum over all divisions of a budget for series, the sum for
 * parallel). Parts that are neither (the smallest: a->c, a->d, b->d) are layered: a layer after
 * the other, which asks for more than the edges do. Then, in exact nanoseconds, single upgrades
 * and upgrades paid by one other stage's downgrade are made for as long as they pay, from this
 * solution and, where parts were layered, from batches of one as well; the better result counts.
 * At last what is left of the total is given to the stages in proportion.
 *
 * GUARANTEE. For pipelines made of series and parallels (chains, forks and joins, trees), where
 * `exact_order` is then true: the work is at most the least possible within a total that is shorter
 * by one tick for each stage on the longest path (total - stages * total / FM_BUDGET_TICKS). For
 * others no bound is proved; tests/unit/core/sched/budget.c holds both against exhaustive search.
 *
 * LIMITATIONS. Rows are taken to come evenly: a request that brings fifty rows at once fills
 * batches sooner than the mean gap says, and the split is then on the safe side for larger batches.
 * Stages are counted as if each had accelerators of its own; sharing them needs less, not more.
 */
#ifndef FM_CORE_SCHED_BUDGET_H
#define FM_CORE_SCHED_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/sched/latency_table.h"
#include "fermata/status.h"

#define FM_BUDGET_STAGES_MAX   32u
#define FM_BUDGET_EDGES_MAX    256u
#define FM_BUDGET_TICKS        1000u
#define FM_BUDGET_TOTAL_MAX_NS (UINT64_C(1) << 56)     /* two years */
#define FM_BUDGET_RATE_MAX     UINT64_C(1000000000000) /* a billion requests per second */
#define FM_BUDGET_FAN_OUT_MAX  10000000u               /* ten thousand rows per request */
#define FM_BUDGET_WORK_MAX_NS  (UINT64_C(1) << 58)     /* of one stage: more is taken as this */

struct fm_budget_stage {
    const char *name; /* for messages; NULL: its number */
    const struct fm_latency_table *table;
    uint32_t fan_out_permille; /* rows of this stage per request of the pipeline * 1000, 1 ..
                                  FM_BUDGET_FAN_OUT_MAX; a stage half of the requests skip: 500 */
};

struct fm_budget_edge {
    uint32_t from; /* index of a stage; `to` starts when `from` is done */
    uint32_t to;
};

struct fm_budget_pipeline {
    const struct fm_budget_stage *stages;
    uint32_t stage_count; /* 1 .. FM_BUDGET_STAGES_MAX */
    const struct fm_budget_edge *edges;
    uint32_t edge_count;      /* at most FM_BUDGET_EDGES_MAX; no cycle */
    uint64_t rate_millihertz; /* requests per 1000 seconds, 1 .. FM_BUDGET_RATE_MAX */
    uint64_t total_ns;        /* what a request may take in all stages, 1 .. TOTAL_MAX_NS */
};

struct fm_budget_share {
    uint64_t budget_ns; /* the stage's part: of any path the sum is at most total_ns */
    uint64_t span_ns;   /* of it surely needed by batches of `batch` */
    uint32_t batch;     /* of least work within the budget */
    uint64_t work_ns;   /* ns of accelerators per second */
};

struct fm_budget_split {
    struct fm_budget_share shares[FM_BUDGET_STAGES_MAX]; /* as the stages */
    uint64_t work_ns;                                    /* of all: 10^9 is one accelerator */
    uint64_t least_ns; /* the least total that batches of one fit into */
    bool exact_order;  /* no part had to be layered: the guarantee holds */
};

/*
 * Splits. FM_EINVAL: a count, index, rate or time beyond its limit, an edge to itself, a cycle, a
 * stage that runs on nothing, or a total that not even batches of one fit into: the text then names
 * the path and the least total, which ret_split->least_ns has, too. FM_ENOMEM. On success
 * *ret_split is filled; on failure everything in it but least_ns is zero.
 */
int FM_NODISCARD fm_budget_split(const struct fm_budget_pipeline *pipeline,
                                 struct fm_budget_split *ret_split, struct fm_error *reterr);

/* span(batch) and work(batch) as above, for 1 <= batch <= table->batch_max and rows per 1000
 * seconds >= 1. */
uint64_t fm_budget_span_ns(const struct fm_latency_table *table, uint64_t rows_millihertz,
                           uint32_t batch);
uint64_t fm_budget_work_ns(const struct fm_latency_table *table, uint64_t rows_millihertz,
                           uint32_t batch);

#endif
