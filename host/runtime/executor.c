/*
 * The executor: threads around core/plan/flow. See executor.h.
 *
 * HOW IT WORKS. One lock guards the flow. Whoever changes it (a submit, an operator thread, a
 * backend's completion) calls pump() afterwards, which starts model runs that have become possible
 * and hands out finished requests, always outside the lock. A backend may complete inside submit();
 * pump() therefore does not nest on one thread: the inner call returns and the outer loop finds the
 * new work. Operator threads sleep until the flow has an operator item.
 *
 * Where others run the models (fm_executor_outside), the flow sees as many instances as there can
 * be items, and forms no batches: whoever runs the items does.
 */
#include "host/runtime/executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan/flow.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/runtime/model_batch.h"

enum { REQUESTS_MAX_DEFAULT = 1024, OPERATOR_THREADS_MAX = 256 };

struct stage_slots {
    struct fm_model *model; /* NULL: an operator */
    const struct fm_operator_instance *operator_instance;
    uint32_t fan_out_max;
    uint32_t runs_at_once; /* of an operator; 0: as many as there are threads */
    uint32_t owner; /* the first stage of the same model: the next three fields are in its slots */
    uint32_t *free_instances; /* a stack */
    uint32_t free_count;
    uint32_t instance_count;
    uint32_t batch_max;                  /* of a model */
    const struct fm_stage_place *places; /* of a model, where there are accelerators */
    uint64_t accelerators;               /* that it has places on */
    uint32_t accelerator_count;          /* so many */
};

struct fm_executor {
    const struct fm_pipeline *pipeline;
    struct fm_flow *flow;
    struct stage_slots *stages;
    struct fm_thread *threads; /* room for OPERATOR_THREADS_MAX where there are operators */
    uint32_t thread_count;     /* as many as there have ever been ... */
    uint32_t operator_slots;   /* ... and how many of them may work */
    uint32_t idle_threads;
    /* One stage's outputs on their way into the flow, by port; used under the lock only. */
    struct fm_value **finish_values;
    uint32_t *finish_counts;
    uint32_t accelerator_count;
    bool has_outside;
    struct fm_executor_outside outside;
    uint32_t pumping; /* threads in pump() or on their way to it: destroy waits for them */
    bool stopping;
    struct fm_mutex mutex;
    struct fm_condition work; /* operator threads wait here */
    struct fm_condition drained;
};

/* A model run in progress. */
struct run {
    struct fm_executor *executor;
    struct fm_flow_task task;
    struct fm_model_batch batch;
    struct fm_value *item_values[FM_FLOW_BATCH_ITEMS_MAX]; /* outputs by item; in the batch */
    struct fm_model *model;                                /* none where others run it */
    uint32_t instance;                                     /* likewise */
    uint64_t start_ns;
    struct fm_execution execution;
    /* Where others run it. */
    struct fm_executor_item item;
    struct fm_value *item_inputs;
    struct fm_value *item_outputs;
};

/* The executor whose pump() is on this thread's stack. */
static _Thread_local const struct fm_executor *pumping_here;

static void pump(struct fm_executor *executor);

/* Where the free instances of the stage's model are kept. */
static struct stage_slots *owner_slots(const struct fm_executor *executor, uint32_t stage)
{
    return &executor->stages[executor->stages[stage].owner];
}

/* --- model runs --- */

/* Gives every item of a failed run its verdict: a batch is taken apart, a single item fails. */
static void run_fail_items(struct run *run, const struct fm_error *error)
{
    struct fm_executor *executor = run->executor;
    uint64_t now_ns = fm_os_now_ns();
    bool isolate = run->task.item_count > 1;
    for (uint32_t i = 0; i < run->task.item_count; i++) {
        if (isolate) {
            fm_flow_item_retry_alone(executor->flow, now_ns, run->task.items[i]);
        } else {
            fm_flow_item_failed(executor->flow, now_ns, run->task.items[i], error);
        }
    }
}

/* Hands in the results and returns slot and instance; the lock is held. */
static void run_finish_locked(struct run *run, int status, const struct fm_error *error)
{
    struct fm_executor *executor = run->executor;
    struct stage_slots *slots = owner_slots(executor, run->task.stage);
    uint64_t now_ns = fm_os_now_ns();
    if (status == 0) {
        const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
        uint32_t *counts = executor->finish_counts;
        struct fm_value **values = executor->finish_values;
        uint64_t share_ns = (now_ns - run->start_ns) / run->task.item_count;
        for (uint32_t j = 0; j < stage->output_count; j++) {
            counts[j] = 1;
        }
        for (uint32_t i = 0; i < run->task.item_count; i++) {
            for (uint32_t j = 0; j < stage->output_count; j++) {
                values[j] = &run->item_values[i][j];
            }
            fm_flow_item_done(executor->flow, now_ns, run->task.items[i], share_ns, values, counts);
        }
    } else {
        run_fail_items(run, error);
    }
    fm_flow_task_end(executor->flow, now_ns, run->start_ns, &run->task);
    if (!executor->has_outside && executor->accelerator_count == 0) {
        slots->free_instances[slots->free_count++] = run->instance;
    }
}

static void run_end(struct run *run, int status, struct fm_error *error)
{
    struct fm_executor *executor = run->executor;
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
    if (status == 0) {
        status = fm_model_batch_scatter(&run->batch, run->item_values, error);
    } else if (error->status == 0) {
        (void)fm_error_set(error, status, "model '%s' failed: %s", stage->spec->target,
                           fm_status_text(status));
    }
    fm_mutex_lock(&executor->mutex);
    run_finish_locked(run, status, error);
    fm_mutex_unlock(&executor->mutex);
    fm_model_batch_deinit(&run->batch);
    free(run->item_inputs);
    free(run->item_outputs);
    free(run);
}

static void run_over(struct run *run, int status, struct fm_error *error)
{
    struct fm_executor *executor = run->executor;
    /* Once the results are in, another thread may hand out the last request, and destroy may come:
     * it has to wait until this one is out of here. */
    fm_mutex_lock(&executor->mutex);
    executor->pumping++;
    fm_mutex_unlock(&executor->mutex);
    run_end(run, status, error);
    pump(executor);
    fm_mutex_lock(&executor->mutex);
    executor->pumping--;
    fm_condition_broadcast(&executor->drained);
    fm_mutex_unlock(&executor->mutex);
}

static void run_complete(struct fm_execution *execution, int status)
{
    struct fm_error error = execution->error;
    run_over(execution->user, status, &error);
}

static void buffer_release(void *context)
{
    fm_buffer_unref(context);
}

/* Others have run it: their values become the batch's outputs. */
static void item_done(struct fm_executor_item *item)
{
    struct run *run = FM_CONTAINER_OF(item, struct run, item);
    struct fm_error error = item->error;
    for (uint32_t j = 0; j < run->batch.output_count && error.status == 0; j++) {
        struct fm_output *output = &run->batch.outputs[j];
        output->tensor = item->outputs[j].tensor;
        output->release = buffer_release;
        output->release_context = item->outputs[j].buffer;
    }
    run_over(run, error.status, &error);
}

/* Memory for the item, and what it brings. */
static int item_make(struct run *run, struct fm_error *reterr)
{
    run->item_inputs = calloc(run->batch.input_count + 1u, sizeof(*run->item_inputs));
    run->item_outputs = calloc(run->batch.output_count + 1u, sizeof(*run->item_outputs));
    if (run->item_inputs == NULL || run->item_outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "stage '%s': out of memory for an item",
                            run->executor->pipeline->stages[run->task.stage].spec->name);
    }
    for (uint32_t i = 0; i < run->batch.input_count; i++) {
        run->item_inputs[i].tensor = run->batch.inputs[i];
    }
    run->item = (struct fm_executor_item){.stage = run->task.stage,
                                          .inputs = run->item_inputs,
                                          .outputs = run->item_outputs,
                                          .request = fm_flow_item_user(run->task.items[0]),
                                          .done = item_done};
    return 0;
}

static int item_submit(struct run *run, struct fm_error *reterr)
{
    const struct fm_executor_outside *outside = &run->executor->outside;
    int status = item_make(run, reterr);
    if (status == 0) {
        status = outside->submit(outside->context, &run->item);
        if (status != 0) {
            *reterr = run->item.error;
        }
    }
    return status;
}

/* Assembles and submits; the lock is not held. */
static void run_start(struct run *run)
{
    struct fm_executor *executor = run->executor;
    struct fm_error error = {0};
    run->start_ns = fm_os_now_ns();
    int status = fm_model_batch_gather(&run->batch, &error);
    if (status == 0 && executor->has_outside) {
        status = item_submit(run, &error);
        if (status == 0) {
            return; /* run may be gone already */
        }
    } else if (status == 0) {
        run->execution = (struct fm_execution){.struct_size = sizeof(run->execution),
                                               .input_count = run->batch.input_count,
                                               .output_count = run->batch.output_count,
                                               .batch_size = run->task.rows,
                                               .inputs = run->batch.inputs,
                                               .outputs = run->batch.outputs,
                                               .complete = run_complete,
                                               .user = run};
        status = fm_model_submit(run->model, run->instance, &run->execution);
        if (status == 0) {
            return; /* run may be gone already */
        }
        error = run->execution.error;
    }
    run_end(run, status, &error);
}

/* Without memory for a run its items fail: waiting would not bring any, and with nothing else
 * running nobody would wake us. */
static void run_refuse_locked(struct fm_executor *executor)
{
    struct fm_flow_task task;
    uint64_t now_ns = fm_os_now_ns();
    if (fm_flow_next(executor->flow, now_ns, FM_STAGE_MODEL, &task)) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_ENOMEM, "stage '%s': out of memory for a batch",
                           executor->pipeline->stages[task.stage].spec->name);
        for (uint32_t i = 0; i < task.item_count; i++) {
            fm_flow_item_failed(executor->flow, now_ns, task.items[i], &error);
        }
        fm_flow_task_end(executor->flow, now_ns, now_ns, &task);
    }
}

/* The next model run with its inputs, or NULL. The lock is held. */
static struct run *run_take_locked(struct fm_executor *executor)
{
    struct run *run = NULL;
    while (fm_flow_may_run(executor->flow, FM_STAGE_MODEL) &&
           (run = calloc(1, sizeof(*run))) == NULL) {
        run_refuse_locked(executor);
    }
    if (run == NULL) {
        return NULL;
    }
    run->executor = executor;
    if (!fm_flow_next(executor->flow, fm_os_now_ns(), FM_STAGE_MODEL, &run->task)) {
        free(run);
        return NULL;
    }
    struct stage_slots *slots = owner_slots(executor, run->task.stage);
    if (executor->accelerator_count > 0) {
        const struct fm_stage_place *place =
            &executor->stages[run->task.stage].places[run->task.accelerator];
        run->model = place->model;
        run->instance = place->instance;
    } else if (!executor->has_outside) {
        FM_ASSERT(slots->free_count > 0);
        run->model = slots->model;
        run->instance = slots->free_instances[--slots->free_count];
    }
    fm_model_batch_init(&run->batch, executor->pipeline, run->task.stage, run->task.item_count,
                        run->task.rows);
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
    for (uint32_t i = 0; i < run->task.item_count && run->batch.ready; i++) {
        for (uint32_t j = 0; j < stage->input_count; j++) {
            fm_flow_input_get(executor->flow, run->task.items[i], j,
                              fm_model_batch_item_input(&run->batch, i, j));
        }
    }
    return run;
}

/* --- finished requests --- */

static void request_assemble(struct fm_executor *executor, struct fm_flow_request *finished,
                             struct fm_request *request)
{
    const struct fm_pipeline *pipeline = executor->pipeline;
    for (uint32_t i = 0; i < pipeline->output_count && request->error.status == 0; i++) {
        const struct fm_pipeline_output *output = &pipeline->outputs[i];
        uint32_t count = fm_flow_output_count(finished, i);
        int status = 0;
        if (!output->stacks) {
            request->outputs[i] = fm_value_ref(fm_flow_output_get(finished, i, 0));
        } else {
            const struct fm_value **elements = calloc(count == 0 ? 1 : count, sizeof(*elements));
            if (elements == NULL) {
                status = fm_error_set(&request->error, FM_ENOMEM, "output '%s': out of memory",
                                      output->name);
            }
            for (uint32_t e = 0; status == 0 && e < count; e++) {
                elements[e] = fm_flow_output_get(finished, i, e);
            }
            if (status == 0) {
                status = fm_model_batch_stack(output, elements, count, &request->outputs[i],
                                              &request->error);
            }
            free(elements);
        }
    }
}

static void request_finish(struct fm_executor *executor, struct fm_flow_request *finished)
{
    struct fm_request *request = fm_flow_request_user(finished);
    request->error = *fm_flow_request_error(finished);
    request->failed_stage = fm_flow_request_failed_stage(finished);
    if (request->error.status == 0) {
        request_assemble(executor, finished, request);
    }
    if (request->error.status != 0) {
        for (uint32_t i = 0; i < executor->pipeline->output_count; i++) {
            fm_value_unref(&request->outputs[i]);
        }
    }
    if (request->timings != NULL) {
        const struct fm_flow_timing *timings = fm_flow_request_timings(finished);
        for (uint32_t i = 0; i < executor->pipeline->stage_count; i++) {
            request->timings[i] = (struct fm_stage_timing){.wait_ns = timings[i].wait_ns,
                                                           .run_ns = timings[i].run_ns,
                                                           .items = timings[i].items};
        }
    }
    request->bytes_most = fm_flow_request_bytes_most(finished);
    fm_flow_request_free(finished);
    request->done_ns = fm_os_now_ns();
    request->done(request);
}

/* --- the pump --- */

/* Hands one finished request back, giving the lock up meanwhile. False when none is finished. */
static bool finish_one_locked(struct fm_executor *executor)
{
    struct fm_flow_request *finished = fm_flow_finished(executor->flow);
    if (finished == NULL) {
        return false;
    }
    /* From here on a cancel finds nothing to cancel. */
    ((struct fm_request *)fm_flow_request_user(finished))->internal = NULL;
    executor->pumping++;
    fm_mutex_unlock(&executor->mutex);
    request_finish(executor, finished);
    fm_mutex_lock(&executor->mutex);
    executor->pumping--;
    fm_condition_broadcast(&executor->drained);
    return true;
}

static void pump(struct fm_executor *executor)
{
    if (pumping_here == executor) {
        return;
    }
    const struct fm_executor *outer = pumping_here;
    pumping_here = executor;
    bool submitted = false;
    fm_mutex_lock(&executor->mutex);
    executor->pumping++;
    for (;;) {
        if (finish_one_locked(executor)) {
            continue;
        }
        struct run *run = run_take_locked(executor);
        /* Choosing drops requests whose deadline has passed, which finishes them. */
        if (run == NULL && finish_one_locked(executor)) {
            continue;
        }
        if (run == NULL && !submitted) {
            break;
        }
        fm_mutex_unlock(&executor->mutex);
        if (run != NULL) {
            run_start(run);
        } else {
            /* May end some of them, here and now. */
            executor->outside.flush(executor->outside.context);
        }
        submitted = run != NULL && executor->has_outside;
        fm_mutex_lock(&executor->mutex);
    }
    if (executor->idle_threads > 0 && fm_flow_may_run(executor->flow, FM_STAGE_OPERATOR)) {
        fm_condition_signal(&executor->work);
    }
    executor->pumping--;
    fm_condition_broadcast(&executor->drained);
    fm_mutex_unlock(&executor->mutex);
    pumping_here = outer;
}

/* --- operators --- */

/* What an operator thread works on; used again for every item. The thread owns it. */
struct operator_run {
    struct fm_executor *executor;
    struct fm_flow_task task;
    struct fm_value_list inputs[FM_PIPELINE_PORTS_MAX];
    struct fm_value_list outputs[FM_PIPELINE_PORTS_MAX];
    uint64_t start_ns;
    uint64_t bytes; /* the most that it had allocated, its outputs with it */
    struct fm_error error;
    int status;
};

/* Takes references to the inputs; the lock is held. */
static void operator_gather_locked(struct fm_executor *executor, struct operator_run *run)
{
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
    run->status = 0;
    for (uint32_t j = 0; j < stage->input_count; j++) {
        uint32_t count = fm_flow_input_count(executor->flow, run->task.items[0], j);
        run->inputs[j] = (struct fm_value_list){0};
        if (count == 0) {
            continue;
        }
        run->inputs[j].items = fm_alloc_zero(count, sizeof(struct fm_value));
        if (run->inputs[j].items == NULL) {
            run->status =
                fm_error_set(&run->error, FM_ENOMEM, "stage '%s': out of memory for its inputs",
                             stage->spec->name);
            continue;
        }
        run->inputs[j].count = count;
        run->inputs[j].capacity = count;
        fm_flow_input_get(executor->flow, run->task.items[0], j, run->inputs[j].items);
    }
}

static void operator_finish_locked(struct fm_executor *executor, struct operator_run *run)
{
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
    uint64_t now_ns = fm_os_now_ns();
    fm_flow_item_took(run->task.items[0], run->bytes);
    if (run->status == 0) {
        struct fm_value **values = executor->finish_values;
        uint32_t *counts = executor->finish_counts;
        for (uint32_t j = 0; j < stage->output_count; j++) {
            values[j] = run->outputs[j].items;
            counts[j] = (uint32_t)run->outputs[j].count;
        }
        fm_flow_item_done(executor->flow, now_ns, run->task.items[0], now_ns - run->start_ns,
                          values, counts);
    } else {
        fm_flow_item_failed(executor->flow, now_ns, run->task.items[0], &run->error);
    }
    fm_flow_task_end(executor->flow, now_ns, run->start_ns, &run->task);
}

static void operator_run_once(struct fm_executor *executor, struct operator_run *run)
{
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[run->task.stage];
    const struct stage_slots *slots = &executor->stages[run->task.stage];
    run->start_ns = fm_os_now_ns();
    for (uint32_t j = 0; j < stage->output_count; j++) {
        run->outputs[j] = (struct fm_value_list){0};
    }
    fm_memory_meter_begin();
    if (run->status == 0) {
        run->error = (struct fm_error){0};
        run->status =
            fm_operator_run(slots->operator_instance, run->inputs, stage->input_count, run->outputs,
                            stage->output_count, slots->fan_out_max, &run->error);
        if (run->status != 0 && run->error.status == 0) {
            (void)fm_error_set(&run->error, run->status, "operator '%s' failed: %s",
                               stage->spec->target, fm_status_text(run->status));
        }
    }
    run->bytes = fm_memory_meter_most();
    for (uint32_t j = 0; j < stage->input_count; j++) {
        fm_value_list_deinit(&run->inputs[j]);
    }
    fm_mutex_lock(&executor->mutex);
    operator_finish_locked(executor, run);
    fm_mutex_unlock(&executor->mutex);
    for (uint32_t j = 0; j < stage->output_count; j++) {
        fm_value_list_deinit(&run->outputs[j]);
    }
}

static void operator_thread(void *argument)
{
    struct operator_run *run = argument;
    struct fm_executor *executor = run->executor;
    fm_mutex_lock(&executor->mutex);
    while (!executor->stopping) {
        if (!fm_flow_next(executor->flow, fm_os_now_ns(), FM_STAGE_OPERATOR, &run->task)) {
            /* Choosing drops requests whose deadline has passed, which finishes them. */
            if (finish_one_locked(executor)) {
                continue;
            }
            executor->idle_threads++;
            fm_condition_wait(&executor->work, &executor->mutex);
            executor->idle_threads--;
            continue;
        }
        operator_gather_locked(executor, run);
        if (executor->idle_threads > 0 && fm_flow_may_run(executor->flow, FM_STAGE_OPERATOR)) {
            fm_condition_signal(&executor->work);
        }
        fm_mutex_unlock(&executor->mutex);
        operator_run_once(executor, run);
        pump(executor);
        fm_mutex_lock(&executor->mutex);
    }
    fm_mutex_unlock(&executor->mutex);
    free(run);
}

/* --- life --- */

static void places_set(const struct fm_executor *executor, struct stage_slots *slots,
                       const struct fm_stage_binding *binding)
{
    if (executor->accelerator_count == 0 || binding->model == NULL) {
        return;
    }
    slots->places = binding->places;
    for (uint32_t i = 0; i < executor->accelerator_count; i++) {
        if (slots->places[i].model != NULL) {
            slots->accelerators |= UINT64_C(1) << i;
            slots->accelerator_count++;
        }
    }
    FM_ASSERT(slots->accelerator_count > 0);
}

static int slots_create(struct fm_executor *executor, const struct fm_stage_binding *bindings,
                        struct fm_error *reterr)
{
    const struct fm_pipeline *pipeline = executor->pipeline;
    executor->stages = calloc(pipeline->stage_count, sizeof(*executor->stages));
    if (executor->stages == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor");
    }
    uint32_t outputs_max = 1;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        uint32_t count = pipeline->stages[i].output_count;
        outputs_max = count > outputs_max ? count : outputs_max;
    }
    executor->finish_values = calloc(outputs_max, sizeof(*executor->finish_values));
    executor->finish_counts = calloc(outputs_max, sizeof(*executor->finish_counts));
    if (executor->finish_values == NULL || executor->finish_counts == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor");
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        struct stage_slots *slots = &executor->stages[i];
        const struct fm_stage_spec *spec = pipeline->stages[i].spec;
        slots->model = bindings[i].model;
        slots->operator_instance = bindings[i].operator_instance;
        slots->fan_out_max =
            spec->fan_out_max > 0 ? spec->fan_out_max : FM_OPERATOR_FAN_OUT_DEFAULT;
        FM_ASSERT((slots->model != NULL) == (spec->kind == FM_STAGE_MODEL));
        FM_ASSERT((slots->operator_instance != NULL) == (spec->kind == FM_STAGE_OPERATOR));
        if (slots->operator_instance != NULL) {
            struct fm_operator_info info;
            int status = fm_operator_info(slots->operator_instance, &info, reterr);
            if (status != 0) {
                return status;
            }
            slots->runs_at_once = info.runs_at_once;
        }
        places_set(executor, slots, &bindings[i]);
        slots->owner = i;
        for (uint32_t k = 0; k < i && slots->model != NULL && slots->owner == i; k++) {
            slots->owner = bindings[k].model == slots->model ? k : i;
        }
        if (slots->model == NULL || slots->owner != i) {
            continue;
        }
        slots->instance_count = fm_model_instance_count(slots->model);
        slots->free_instances = calloc(slots->instance_count, sizeof(uint32_t));
        if (slots->free_instances == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor");
        }
        /* The stack's top is instance 0: the lowest-numbered free accelerator is used first. */
        for (uint32_t k = 0; k < slots->instance_count; k++) {
            slots->free_instances[k] = slots->instance_count - 1 - k;
        }
        slots->free_count = slots->instance_count;
    }
    return 0;
}

static int flow_create(struct fm_executor *executor, const struct fm_executor_options *options,
                       struct fm_error *reterr)
{
    const struct fm_pipeline *pipeline = executor->pipeline;
    uint32_t stage_slots[FM_PIPELINE_STAGES_MAX];
    uint32_t slots_of[FM_PIPELINE_STAGES_MAX];
    uint32_t batch_max[FM_PIPELINE_STAGES_MAX];
    uint64_t accelerators[FM_PIPELINE_STAGES_MAX];
    bool placed = executor->accelerator_count > 0;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_stage_spec *spec = pipeline->stages[i].spec;
        uint32_t model_max = pipeline->stages[i].ports.batch_max;
        stage_slots[i] = executor->stages[i].model == NULL ? executor->stages[i].runs_at_once
                         : executor->has_outside || placed
                             ? UINT32_MAX
                             : owner_slots(executor, i)->instance_count;
        slots_of[i] = executor->stages[i].owner;
        accelerators[i] = executor->stages[i].accelerators;
        batch_max[i] =
            spec->batch.max > 0 && spec->batch.max < model_max ? spec->batch.max : model_max;
        for (uint32_t k = 0; k < options->batch_halvings && batch_max[i] > 1; k++) {
            batch_max[i] /= 2;
        }
        if (executor->has_outside && !spec->items_have_rows) {
            batch_max[i] = batch_max[i] > 1 ? 1 : batch_max[i];
        }
        executor->stages[i].batch_max = executor->stages[i].model == NULL ? 0
                                        : batch_max[i] > 0                ? batch_max[i]
                                                                          : 1;
    }
    struct fm_flow_options flow_options = {
        .requests_max = options->requests_max > 0 ? options->requests_max : REQUESTS_MAX_DEFAULT,
        .operator_slots = executor->operator_slots,
        .accelerator_slots = executor->has_outside ? 0 : options->accelerator_slots,
        .stage_slots = stage_slots,
        .slots_of = slots_of,
        .batch_max = batch_max,
        .accelerators = placed ? accelerators : NULL};
    if (fm_flow_create(pipeline, &flow_options, &executor->flow) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor");
    }
    return 0;
}

/* Up to so many. */
static int threads_start(struct fm_executor *executor, uint32_t wanted, struct fm_error *reterr)
{
    for (uint32_t i = executor->thread_count; i < wanted; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "fm-op-%u", i);
        struct operator_run *run = calloc(1, sizeof(*run));
        int status = FM_ENOMEM;
        if (run != NULL) {
            run->executor = executor;
            status = fm_thread_start(&executor->threads[i], name, operator_thread, run);
        }
        if (status != 0) {
            free(run);
            return fm_error_set(
                reterr, status,
                "cannot start operator thread %u of %u: %s; lower the number of threads", i + 1,
                wanted, fm_status_text(status));
        }
        executor->thread_count++;
    }
    return 0;
}

static bool has_operators(const struct fm_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i].spec->kind == FM_STAGE_OPERATOR) {
            return true;
        }
    }
    return false;
}

int fm_executor_create(const struct fm_pipeline *pipeline, const struct fm_stage_binding *bindings,
                       const struct fm_executor_options *options, struct fm_executor **ret_executor,
                       struct fm_error *reterr)
{
    struct fm_executor *executor = calloc(1, sizeof(*executor));
    if (executor == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor");
    }
    executor->pipeline = pipeline;
    executor->has_outside = options->outside;
    executor->accelerator_count = options->accelerator_count;
    FM_ASSERT(options->accelerator_count <= FM_FLOW_ACCELERATORS_MAX);
    FM_ASSERT(options->accelerator_count == 0 || !options->outside);
    fm_mutex_init(&executor->mutex);
    fm_condition_init(&executor->work);
    fm_condition_init(&executor->drained);
    uint32_t threads =
        options->operator_threads > 0 ? options->operator_threads : fm_os_cpu_count();
    if (has_operators(pipeline)) {
        executor->operator_slots = threads < OPERATOR_THREADS_MAX ? threads : OPERATOR_THREADS_MAX;
        executor->threads = calloc(OPERATOR_THREADS_MAX, sizeof(*executor->threads));
    }
    int status = executor->operator_slots > 0 && executor->threads == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the executor's threads")
                     : slots_create(executor, bindings, reterr);
    status = status != 0 ? status : flow_create(executor, options, reterr);
    status = status != 0 ? status : threads_start(executor, executor->operator_slots, reterr);
    if (status != 0) {
        fm_executor_destroy(executor);
        return status;
    }
    *ret_executor = executor;
    return 0;
}

void fm_executor_destroy(struct fm_executor *executor)
{
    if (executor == NULL) {
        return;
    }
    fm_mutex_lock(&executor->mutex);
    while (executor->flow != NULL &&
           (fm_flow_in_flight(executor->flow) > 0 || executor->pumping > 0)) {
        fm_condition_wait(&executor->drained, &executor->mutex);
    }
    executor->stopping = true;
    fm_condition_broadcast(&executor->work);
    fm_mutex_unlock(&executor->mutex);
    for (uint32_t i = 0; i < executor->thread_count; i++) {
        fm_thread_join(&executor->threads[i]);
    }
    fm_flow_destroy(executor->flow);
    for (uint32_t i = 0; executor->stages != NULL && i < executor->pipeline->stage_count; i++) {
        free(executor->stages[i].free_instances);
    }
    fm_condition_deinit(&executor->drained);
    fm_condition_deinit(&executor->work);
    fm_mutex_deinit(&executor->mutex);
    free(executor->stages);
    free(executor->finish_values);
    free(executor->finish_counts);
    free(executor->threads);
    free(executor);
}

void fm_executor_outside_set(struct fm_executor *executor,
                             const struct fm_executor_outside *outside)
{
    FM_ASSERT(executor->has_outside);
    executor->outside = *outside;
}

/* --- requests --- */

static int input_check(const struct fm_port *port, const struct fm_value *value,
                       struct fm_error *reterr)
{
    char wanted[160];
    char given[160];
    const struct fm_tensor *tensor = &value->tensor;
    if (tensor->dtype == FM_DTYPE_INVALID) {
        if ((port->flags & FM_PORT_OPTIONAL) != 0) {
            return 0;
        }
        return fm_error_set(reterr, FM_EINVAL, "input '%s' is missing", port->name);
    }
    if (port->dtype != FM_DTYPE_INVALID && port->dtype != tensor->dtype) {
        return fm_error_set(reterr, FM_ETYPE, "input '%s' must be %s, but is %s", port->name,
                            fm_dtype_name(port->dtype), fm_dtype_name(tensor->dtype));
    }
    int status = fm_tensor_check(tensor, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "input '%s'", port->name);
    }
    if (!fm_shape_matches(port, tensor->shape, tensor->rank)) {
        return fm_error_set(
            reterr, FM_ETYPE, "input '%s' must have shape %s, but has %s", port->name,
            fm_shape_format(port->shape, (uint32_t)port->rank, wanted, sizeof(wanted)),
            fm_shape_format(tensor->shape, tensor->rank, given, sizeof(given)));
    }
    return 0;
}

/* A model served alone batches over dimension 0: all inputs must agree on it, and it must fit. */
static int rows_check(const struct fm_executor *executor, struct fm_request *request)
{
    const struct fm_pipeline_stage *stage = &executor->pipeline->stages[0];
    request->rows = 1;
    if (!stage->spec->items_have_rows || stage->ports.batch_max == 0) {
        return 0;
    }
    int64_t rows = -1;
    for (uint32_t i = 0; i < executor->pipeline->spec->input_count; i++) {
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        if (tensor->dtype == FM_DTYPE_INVALID || tensor->rank == 0) {
            continue;
        }
        if (rows >= 0 && tensor->shape[0] != rows) {
            return fm_error_set(&request->error, FM_EINVAL,
                                "inputs disagree on the batch size: %lld and %lld rows",
                                (long long)rows, (long long)tensor->shape[0]);
        }
        rows = tensor->shape[0];
    }
    if (rows < 1 || rows > (int64_t)stage->ports.batch_max) {
        return fm_error_set(&request->error, FM_EINVAL,
                            "batch size %lld is not between 1 and the model's maximum of %u",
                            (long long)rows, stage->ports.batch_max);
    }
    request->rows = (uint32_t)rows;
    return 0;
}

int fm_executor_submit(struct fm_executor *executor, struct fm_request *request)
{
    const struct fm_pipeline_spec *spec = executor->pipeline->spec;
    request->error = (struct fm_error){0};
    request->failed_stage = -1;
    for (size_t i = 0; i < spec->input_count; i++) {
        int status = input_check(&spec->inputs[i], &request->inputs[i], &request->error);
        if (status != 0) {
            return status;
        }
    }
    int status = rows_check(executor, request);
    if (status != 0) {
        return status;
    }
    request->submitted_ns = fm_os_now_ns();
    struct fm_flow_request *admitted = NULL;
    fm_mutex_lock(&executor->mutex);
    status = fm_flow_admit(executor->flow, request->submitted_ns, request->inputs, request->rows,
                           request->deadline_ns, request, &admitted);
    if (status == 0) {
        request->internal = admitted;
    }
    fm_mutex_unlock(&executor->mutex);
    if (status != 0) {
        return fm_error_set(
            &request->error, status, "%s",
            status == FM_EAGAIN
                ? "Exceeds maximum queue size: too many requests in flight; try again later"
                : "out of memory for the request");
    }
    pump(executor);
    return 0;
}

void fm_executor_cancel(struct fm_executor *executor, struct fm_request *request)
{
    fm_mutex_lock(&executor->mutex);
    if (request->internal != NULL) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_ECANCELLED, "the request was cancelled");
        fm_flow_fail(executor->flow, request->internal, -1, &error);
    }
    fm_mutex_unlock(&executor->mutex);
    pump(executor);
}

struct waiter {
    struct fm_mutex mutex;
    struct fm_condition condition;
    bool done;
};

static void waiter_done(struct fm_request *request)
{
    struct waiter *waiter = request->user;
    fm_mutex_lock(&waiter->mutex);
    waiter->done = true;
    fm_condition_signal(&waiter->condition);
    fm_mutex_unlock(&waiter->mutex);
}

int fm_executor_run(struct fm_executor *executor, struct fm_request *request)
{
    struct waiter waiter = {.done = false};
    fm_mutex_init(&waiter.mutex);
    fm_condition_init(&waiter.condition);
    request->done = waiter_done;
    request->user = &waiter;
    int status = fm_executor_submit(executor, request);
    if (status == 0) {
        fm_mutex_lock(&waiter.mutex);
        while (!waiter.done) {
            fm_condition_wait(&waiter.condition, &waiter.mutex);
        }
        fm_mutex_unlock(&waiter.mutex);
        status = request->error.status;
    }
    fm_condition_deinit(&waiter.condition);
    fm_mutex_deinit(&waiter.mutex);
    return status;
}

void fm_executor_running(struct fm_executor *executor,
                         bool (*visit)(void *context, uint32_t stage, uint64_t start_ns,
                                       struct fm_request *request),
                         void *context)
{
    fm_mutex_lock(&executor->mutex);
    const struct fm_flow_item *item = fm_flow_running(executor->flow);
    while (item != NULL && visit(context, item->stage, item->start_ns, fm_flow_item_user(item))) {
        item = item->next;
    }
    fm_mutex_unlock(&executor->mutex);
}

uint32_t fm_executor_operator_threads_set(struct fm_executor *executor, uint32_t threads)
{
    struct fm_error error = {0};
    if (executor->operator_slots == 0) {
        return 0;
    }
    uint32_t wanted = threads < OPERATOR_THREADS_MAX ? threads : OPERATOR_THREADS_MAX;
    int status = threads_start(executor, wanted, &error);
    fm_mutex_lock(&executor->mutex);
    executor->operator_slots = status == 0 ? wanted : executor->thread_count;
    fm_flow_operator_slots_set(executor->flow, executor->operator_slots);
    fm_condition_broadcast(&executor->work);
    fm_mutex_unlock(&executor->mutex);
    return executor->operator_slots;
}

void fm_executor_batch_max_set(struct fm_executor *executor, uint32_t stage, uint32_t rows)
{
    fm_mutex_lock(&executor->mutex);
    fm_flow_batch_max_set(executor->flow, stage, rows);
    fm_mutex_unlock(&executor->mutex);
}

uint32_t fm_executor_batch_max(const struct fm_executor *executor, uint32_t stage)
{
    return executor->stages[stage].batch_max;
}

/* Batches that the model of a stage may have in work at once. */
static uint32_t model_slots(const struct fm_executor *executor, uint32_t stage)
{
    return executor->accelerator_count > 0 ? executor->stages[stage].accelerator_count
                                           : owner_slots(executor, stage)->instance_count;
}

uint64_t fm_executor_bytes(struct fm_executor *executor)
{
    fm_mutex_lock(&executor->mutex);
    uint64_t bytes = fm_flow_bytes(executor->flow);
    fm_mutex_unlock(&executor->mutex);
    return bytes;
}

void fm_executor_stats(struct fm_executor *executor, uint32_t stage,
                       struct fm_executor_stage_stats *ret_stats)
{
    struct fm_flow_stats stats;
    fm_mutex_lock(&executor->mutex);
    fm_flow_stats(executor->flow, stage, &stats);
    uint32_t threads = executor->operator_slots;
    fm_mutex_unlock(&executor->mutex);
    bool model = executor->stages[stage].model != NULL;
    uint32_t most = executor->stages[stage].runs_at_once;
    *ret_stats = (struct fm_executor_stage_stats){.items = stats.items,
                                                  .failures = stats.failures,
                                                  .batches = stats.batches,
                                                  .rows = stats.rows,
                                                  .busy_ns = stats.busy_ns,
                                                  .queued = stats.queued,
                                                  .running = stats.running,
                                                  .slots = model ? model_slots(executor, stage)
                                                           : most > 0 && most < threads ? most
                                                                                        : threads};
}

void fm_executor_accelerator_stats(struct fm_executor *executor, uint32_t accelerator,
                                   struct fm_executor_accelerator_stats *ret_stats)
{
    struct fm_flow_accelerator_stats stats;
    FM_ASSERT(accelerator < executor->accelerator_count);
    fm_mutex_lock(&executor->mutex);
    fm_flow_accelerator_stats(executor->flow, accelerator, &stats);
    fm_mutex_unlock(&executor->mutex);
    *ret_stats =
        (struct fm_executor_accelerator_stats){.batches = stats.batches, .busy_ns = stats.busy_ns};
}
