/*
 * A pipeline's items into the pool and back. See stages.h.
 */
#include "host/pool/stages.h"

#include <string.h>

#include "core/sched/budget.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"

/* Of a stage: items are done on any thread. */
struct counts {
    struct fm_mutex lock;
    struct fm_model_counters *counters;
};

struct stage {
    struct fm_pool_model *model; /* NULL: an operator */
    bool owns;                   /* the model; the others of the same one do not */
    struct counts *counts;       /* NULL: an operator */
    uint32_t part;               /* index into the split; NONE: an operator */
    uint64_t budget_ns;
    uint64_t behind_ns; /* what the longest way from here to the end needs */
};

struct fm_pool_stages {
    struct fm_pool *pool;
    const struct fm_pipeline *pipeline;
    uint64_t slo_ns;
    struct stage *stages; /* by stage of the pipeline */
};

/* An item that the pool has. */
struct stage_request {
    struct fm_pool_request request;
    struct counts *counts;
    struct fm_executor_item *item;
};

/* --- items -------------------------------------------------------------------------------------
 */

static void request_count(struct counts *counts, const struct fm_pool_request *request,
                          uint64_t deadline_ns)
{
    struct fm_model_counters *counters = counts->counters;
    uint64_t total_ns = request->done_ns - request->arrived_ns;
    fm_mutex_lock(&counts->lock);
    if (request->computed_ns != 0) {
        fm_pool_request_count(request, counters, fm_os_wall_ns() / 1000000);
    }
    fm_model_count_cost(counters, request->bytes_copied);
    if (request->error.status == 0) {
        fm_model_count_success(counters, total_ns,
                               deadline_ns == 0                  ? FM_DEADLINE_NONE
                               : request->done_ns <= deadline_ns ? FM_DEADLINE_MET
                                                                 : FM_DEADLINE_MISSED);
    } else {
        fm_model_count_failure(
            counters, total_ns,
            fm_counted_failure_of(request->error.status, request->started_ns != 0),
            deadline_ns != 0);
    }
    if (request->drop != FM_SCHED_DROP_COUNT_) {
        fm_model_count_drop(counters, (enum fm_counted_drop)request->drop);
    }
    fm_mutex_unlock(&counts->lock);
}

static void request_done(struct fm_pool_request *request)
{
    struct stage_request *of = FM_CONTAINER_OF(request, struct stage_request, request);
    struct fm_executor_item *item = of->item;
    item->error = request->error;
    request_count(of->counts, request, item->request->deadline_ns);
    fm_free(of);
    item->done(item);
}

static uint64_t item_deadline_ns(const struct fm_pool_stages *stages, const struct stage *stage,
                                 const struct fm_request *request)
{
    uint64_t time_ns = stages->slo_ns;
    if (request->deadline_ns > request->submitted_ns) {
        time_ns = request->deadline_ns - request->submitted_ns;
    } else if (request->deadline_ns != 0) {
        return request->deadline_ns;
    }
    double share = (double)stage->behind_ns / (double)stages->slo_ns;
    return request->submitted_ns + time_ns - (uint64_t)(share * (double)time_ns);
}

static int submit(void *context, struct fm_executor_item *item)
{
    struct fm_pool_stages *stages = context;
    const struct stage *stage = &stages->stages[item->stage];
    struct stage_request *of = fm_alloc(sizeof *of);
    if (of == NULL) {
        return fm_error_set(&item->error, FM_ENOMEM, "out of memory for a stage's item");
    }
    /* Items of models that batch have their batch dimension in front: one row each. */
    of->item = item;
    of->counts = stage->counts;
    of->request =
        (struct fm_pool_request){.model = stage->model,
                                 .inputs = item->inputs,
                                 .outputs = item->outputs,
                                 .deadline_ns = item_deadline_ns(stages, stage, item->request),
                                 .rows = 1,
                                 .priority = item->request->priority,
                                 .done = request_done};
    int status = fm_pool_submit(stages->pool, FM_POOL_SHARED, &of->request);
    if (status != 0) {
        item->error = of->request.error;
        fm_free(of);
    }
    return status;
}

static void flush(void *context)
{
    struct fm_pool_stages *stages = context;
    fm_pool_flush(stages->pool, FM_POOL_SHARED);
}

/* --- the split ---------------------------------------------------------------------------------
 */

struct split {
    const struct fm_pool_stages_options *options;
    struct fm_pool_stages *stages;
    struct fm_latency_table tables[FM_BUDGET_STAGES_MAX];
    struct fm_budget_stage parts[FM_BUDGET_STAGES_MAX];
    uint32_t part_count;
    struct fm_budget_edge edges[FM_BUDGET_EDGES_MAX];
    uint32_t edge_count;
    struct fm_budget_split result;
};

/* Those that take an output of the stage. Calls with each; a stage may come several times. */
static int next_stages(struct split *split, uint32_t stage, uint32_t from,
                       int (*found)(struct split *split, uint32_t from, uint32_t stage))
{
    const struct fm_pipeline *pipeline = split->stages->pipeline;
    int status = 0;
    for (uint32_t i = 0; i < pipeline->stages[stage].output_count; i++) {
        const struct fm_pipeline_value *value =
            &pipeline->values[pipeline->stages[stage].outputs[i]];
        for (uint32_t k = 0; k < value->consumer_count && status == 0; k++) {
            status = found(split, from, value->consumers[k].stage);
        }
    }
    return status;
}

/* A model behind part `from`, or an operator that may have one behind it. */
static int edge_add(struct split *split, uint32_t from, uint32_t stage)
{
    uint32_t part = split->stages->stages[stage].part;
    if (part == FM_SCHED_NONE) {
        return next_stages(split, stage, from, edge_add);
    }
    for (uint32_t i = 0; i < split->edge_count; i++) {
        if (split->edges[i].from == from && split->edges[i].to == part) {
            return 0;
        }
    }
    if (split->edge_count == FM_BUDGET_EDGES_MAX) {
        return FM_ELIMIT;
    }
    split->edges[split->edge_count++] = (struct fm_budget_edge){.from = from, .to = part};
    return 0;
}

/* The latencies of the type that the model runs on first. */
static int part_add(struct split *split, uint32_t stage)
{
    const struct fm_pool_model_options *model = &split->options->models[stage];
    const struct fm_profile *profile = NULL;
    for (uint32_t type = FM_SCHED_TYPES_LIMIT; type > 0; type--) {
        profile = model->models[type - 1] != NULL ? model->profiles[type - 1] : profile;
    }
    if (split->part_count == FM_BUDGET_STAGES_MAX) {
        return FM_ELIMIT;
    }
    FM_ASSERT(profile != NULL);
    uint32_t batch_max = fm_profile_batch_max(profile);
    struct fm_latency_table *table = &split->tables[split->part_count];
    int status = fm_latency_table_set(table, profile, model->statistic, batch_max, 0);
    if (status == 0) {
        split->stages->stages[stage].part = split->part_count;
        split->parts[split->part_count++] = (struct fm_budget_stage){
            .name = split->stages->pipeline->stages[stage].spec->name,
            .table = table,
            .fan_out_permille = 1000,
        };
    }
    return status;
}

/* As many requests as keep one accelerator busy with the slowest stage: the split depends little on
 * it. */
static uint64_t rate_millihertz(const struct split *split)
{
    uint64_t slowest_ns = 1;
    for (uint32_t i = 0; i < split->part_count; i++) {
        uint64_t single_ns = split->tables[i].latency_ns[1];
        slowest_ns = single_ns > slowest_ns ? single_ns : slowest_ns;
    }
    uint64_t rate = UINT64_C(1000000000000) / slowest_ns;
    return rate > 0 ? rate : 1;
}

static void behind_set(struct split *split)
{
    const struct fm_pipeline *pipeline = split->stages->pipeline;
    uint64_t behind_ns[FM_BUDGET_STAGES_MAX] = {0};
    /* Longest ways, by as many rounds as a way has edges. */
    for (uint32_t round = 0; round < split->part_count; round++) {
        for (uint32_t i = 0; i < split->edge_count; i++) {
            const struct fm_budget_edge *edge = &split->edges[i];
            uint64_t through_ns = split->result.shares[edge->to].budget_ns + behind_ns[edge->to];
            if (through_ns > behind_ns[edge->from]) {
                behind_ns[edge->from] = through_ns;
            }
        }
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        struct stage *stage = &split->stages->stages[i];
        if (stage->part != FM_SCHED_NONE) {
            stage->budget_ns = split->result.shares[stage->part].budget_ns;
            stage->behind_ns = behind_ns[stage->part];
        }
    }
}

static int split_make(struct split *split, struct fm_error *reterr)
{
    const struct fm_pipeline *pipeline = split->stages->pipeline;
    int status = 0;
    for (uint32_t i = 0; i < pipeline->stage_count && status == 0; i++) {
        if (pipeline->stages[i].spec->kind == FM_STAGE_MODEL) {
            status = part_add(split, i);
        }
    }
    for (uint32_t i = 0; i < pipeline->stage_count && status == 0; i++) {
        uint32_t part = split->stages->stages[i].part;
        if (part != FM_SCHED_NONE) {
            status = next_stages(split, i, part, edge_add);
        }
    }
    if (status != 0) {
        return fm_error_set(reterr, status,
                            status == FM_ELIMIT
                                ? "a pipeline that is served has at most %u models and %u ways "
                                  "between them"
                                : "no memory to split the pipeline's time",
                            FM_BUDGET_STAGES_MAX, FM_BUDGET_EDGES_MAX);
    }
    if (split->part_count == 0) {
        return 0;
    }
    const struct fm_budget_pipeline budget = {.stages = split->parts,
                                              .stage_count = split->part_count,
                                              .edges = split->edges,
                                              .edge_count = split->edge_count,
                                              .rate_millihertz = rate_millihertz(split),
                                              .total_ns = split->options->slo_ns};
    status = fm_budget_split(&budget, &split->result, reterr);
    if (status == 0) {
        behind_set(split);
    }
    return status;
}

static int budgets_set(struct fm_pool_stages *stages, const struct fm_pool_stages_options *options,
                       struct fm_error *reterr)
{
    struct split *split = fm_alloc_zero(1, sizeof *split);
    if (split == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory to split the pipeline's time");
    }
    split->options = options;
    split->stages = stages;
    int status = split_make(split, reterr);
    for (uint32_t i = 0; i < split->part_count; i++) {
        fm_latency_table_deinit(&split->tables[i]);
    }
    fm_free(split);
    return status;
}

/* --- creation ----------------------------------------------------------------------------------
 */

static struct counts *counts_create(uint32_t batch_max)
{
    struct counts *counts = fm_alloc(sizeof *counts);
    if (counts != NULL && fm_model_counters_create(batch_max, &counts->counters) != 0) {
        fm_free(counts);
        counts = NULL;
    }
    if (counts != NULL) {
        fm_mutex_init(&counts->lock);
    }
    return counts;
}

static void counts_destroy(struct counts *counts)
{
    if (counts != NULL) {
        fm_model_counters_destroy(counts->counters);
        fm_mutex_deinit(&counts->lock);
        fm_free(counts);
    }
}

/* Stages of one model share its place in the pool. */
static int models_add(struct fm_pool_stages *stages, const struct fm_pool_stages_options *options,
                      struct fm_error *reterr)
{
    const struct fm_stage_binding *bindings = fm_servable_bindings(options->servable);
    int status = 0;
    for (uint32_t i = 0; i < stages->pipeline->stage_count && status == 0; i++) {
        struct stage *stage = &stages->stages[i];
        if (bindings[i].model == NULL) {
            continue;
        }
        for (uint32_t k = 0; k < i && stage->model == NULL; k++) {
            stage->model = bindings[k].model == bindings[i].model ? stages->stages[k].model : NULL;
        }
        stage->counts = counts_create(fm_model_batch_max(bindings[i].model));
        if (stage->counts == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "no memory for what is counted of a stage");
        } else if (stage->model == NULL) {
            struct fm_pool_model_options model = options->models[i];
            model.slo_ns = stage->budget_ns;
            status = fm_pool_model_add(stages->pool, &model, &stage->model, reterr);
            stage->owns = status == 0;
        }
    }
    return status;
}

int fm_pool_stages_create(struct fm_pool *pool, const struct fm_pool_stages_options *options,
                          struct fm_pool_stages **ret_stages, struct fm_error *reterr)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(options->servable);
    struct fm_pool_stages *stages = fm_alloc_zero(1, sizeof *stages);
    if (stages != NULL) {
        stages->stages = fm_alloc_zero(pipeline->stage_count, sizeof *stages->stages);
    }
    if (stages == NULL || stages->stages == NULL) {
        fm_free(stages);
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the pipeline's stages");
    }
    stages->pool = pool;
    stages->pipeline = pipeline;
    stages->slo_ns = options->slo_ns;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        stages->stages[i].part = FM_SCHED_NONE;
    }
    int status = budgets_set(stages, options, reterr);
    status = status != 0 ? status : models_add(stages, options, reterr);
    if (status != 0) {
        (void)fm_pool_stages_destroy(stages); /* nothing runs yet */
        return status;
    }
    fm_executor_outside_set(
        fm_servable_executor(options->servable),
        &(struct fm_executor_outside){.context = stages, .submit = submit, .flush = flush});
    *ret_stages = stages;
    return 0;
}

bool fm_pool_stages_destroy(struct fm_pool_stages *stages)
{
    bool gone = true;
    if (stages == NULL) {
        return gone;
    }
    for (uint32_t i = 0; i < stages->pipeline->stage_count; i++) {
        if (stages->stages[i].owns &&
            !fm_pool_model_remove(stages->pool, stages->stages[i].model)) {
            gone = false;
        }
    }
    for (uint32_t i = 0; i < stages->pipeline->stage_count; i++) {
        counts_destroy(stages->stages[i].counts);
    }
    fm_free(stages->stages);
    fm_free(stages);
    return gone;
}

uint64_t fm_pool_stages_budget_ns(const struct fm_pool_stages *stages, uint32_t stage)
{
    return stages->stages[stage].budget_ns;
}

const struct fm_model_counters *fm_pool_stages_counters(const struct fm_pool_stages *stages,
                                                        uint32_t stage)
{
    const struct stage *of = &stages->stages[stage];
    return of->counts != NULL ? of->counts->counters : NULL;
}

const struct fm_pool_model *fm_pool_stages_model(const struct fm_pool_stages *stages,
                                                 uint32_t stage)
{
    return stages->stages[stage].model;
}
