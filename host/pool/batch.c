/*
 * One batch from its requests to their answers: gather, run, scatter. See pool_internal.h.
 */
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

/* --- who runs together -------------------------------------------------------------------------
 */

/* Since the request was there and some accelerator idle, it was held back by choice. */
static uint64_t held_ns(const struct fm_pool_batch *batch, const struct fm_pool_request *request)
{
    uint64_t since_ns = batch->idle_ns > request->arrived_ns ? batch->idle_ns : request->arrived_ns;
    return batch->handed_ns > since_ns ? batch->handed_ns - since_ns : 0;
}

static void groups_make(struct fm_pool_batch *batch)
{
    batch->group_count = 0;
    for (uint32_t i = 0; i < batch->slot_count; i++) {
        const struct fm_pool_slot *slot = &batch->pool->slots[batch->slots[i]];
        struct fm_pool_group *last =
            batch->group_count > 0 ? &batch->groups[batch->group_count - 1] : NULL;
        if (last != NULL && last->request == slot->request && last->row + last->rows == slot->row) {
            last->rows++;
            continue;
        }
        batch->groups[batch->group_count++] =
            (struct fm_pool_group){.request = slot->request, .row = slot->row, .rows = 1};
        if (slot->row == 0) {
            slot->request->started_ns = batch->handed_ns;
            slot->request->held_ns = held_ns(batch, slot->request);
        }
    }
}

bool fm_pool_fit_together(const struct fm_pool_model *model, const struct fm_value *left,
                          const struct fm_value *right)
{
    for (uint32_t i = 0; i < model->input_count; i++) {
        const struct fm_tensor *one = &left[i].tensor;
        const struct fm_tensor *other = &right[i].tensor;
        if (one->dtype != other->dtype || one->rank != other->rank) {
            return false;
        }
        for (uint32_t axis = 1; axis < one->rank; axis++) {
            if (one->shape[axis] != other->shape[axis]) {
                return false;
            }
        }
    }
    return true;
}

/* The groups of the next run: the first that is left, and those that go with it. False: none. */
static bool members_choose(struct fm_pool_batch *batch)
{
    const struct fm_pool_group *first = NULL;
    batch->member_count = 0;
    for (uint32_t i = 0; i < batch->group_count; i++) {
        struct fm_pool_group *group = &batch->groups[i];
        if (group->taken) {
            continue;
        }
        if (atomic_load_explicit(&group->request->failed, memory_order_relaxed)) {
            group->taken = true;
            fm_pool_rows_over(batch->pool, group->request, group->rows);
            continue;
        }
        if (first != NULL &&
            (first->alone || group->alone ||
             !fm_pool_fit_together(batch->model, first->request->inputs, group->request->inputs))) {
            continue;
        }
        first = first == NULL ? group : first;
        group->taken = true;
        batch->members[batch->member_count++] = i;
    }
    return batch->member_count > 0;
}

static uint32_t member_rows(const struct fm_pool_batch *batch)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < batch->member_count; i++) {
        rows += batch->groups[batch->members[i]].rows;
    }
    return rows;
}

/* --- gather ------------------------------------------------------------------------------------
 */

static int ports_reserve(struct fm_pool_accelerator *accelerator, uint32_t count)
{
    if (count <= accelerator->port_capacity) {
        return 0;
    }
    struct fm_tensor *inputs = fm_realloc(accelerator->inputs, count * sizeof *inputs);
    accelerator->inputs = inputs != NULL ? inputs : accelerator->inputs;
    struct fm_output *outputs = fm_realloc(accelerator->outputs, count * sizeof *outputs);
    accelerator->outputs = outputs != NULL ? outputs : accelerator->outputs;
    struct fm_pool_scratch *scratch = fm_realloc(accelerator->scratch, count * sizeof *scratch);
    accelerator->scratch = scratch != NULL ? scratch : accelerator->scratch;
    struct fm_buffer **held = fm_realloc(accelerator->held, count * sizeof(struct fm_buffer *));
    accelerator->held = held != NULL ? held : accelerator->held;
    if (inputs == NULL || outputs == NULL || scratch == NULL || held == NULL) {
        return FM_ENOMEM;
    }
    memset(scratch + accelerator->port_capacity, 0,
           (count - accelerator->port_capacity) * sizeof *scratch);
    accelerator->port_capacity = count;
    return 0;
}

static int scratch_reserve(struct fm_pool_scratch *scratch, size_t size)
{
    if (size <= scratch->capacity) {
        return 0;
    }
    fm_free(scratch->data);
    size_t capacity = size + size / 4;
    scratch->data = fm_alloc_tensor(capacity);
    scratch->capacity = scratch->data != NULL ? capacity : 0;
    return scratch->data != NULL ? 0 : FM_ENOMEM;
}

/* The rows of a group, as a view of what its request brought. */
static int group_input(const struct fm_pool_group *group, uint32_t input,
                       struct fm_tensor *ret_view)
{
    const struct fm_tensor *whole = &group->request->inputs[input].tensor;
    size_t offset = 0;
    if (whole->rank == 0) {
        *ret_view = *whole;
        return 0;
    }
    if (group->row > 0) {
        struct fm_tensor before;
        int status = fm_tensor_rows_next(whole, &offset, group->row, &before);
        if (status != 0) {
            return status;
        }
    }
    return fm_tensor_rows_next(whole, &offset, group->rows, ret_view);
}

static int input_gather(struct fm_pool_batch *batch, uint32_t input, uint32_t rows)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    struct fm_tensor *gathered = &accelerator->inputs[input];
    struct fm_tensor view;
    size_t size = 0;
    for (uint32_t i = 0; i < batch->member_count; i++) {
        int status = group_input(&batch->groups[batch->members[i]], input, &view);
        if (status != 0) {
            return status;
        }
        size += view.size;
    }
    int status = scratch_reserve(&accelerator->scratch[input], size);
    if (status != 0) {
        return status;
    }
    unsigned char *to = accelerator->scratch[input].data;
    for (uint32_t i = 0; i < batch->member_count; i++) {
        const struct fm_pool_group *group = &batch->groups[batch->members[i]];
        status = group_input(group, input, &view);
        FM_ASSERT(status == 0);
        if (view.size > 0) {
            memcpy(to, view.data, view.size);
        }
        to += view.size;
        atomic_fetch_add_explicit(&group->request->bytes_copied, view.size, memory_order_relaxed);
    }
    *gathered = view;
    gathered->shape[0] = rows;
    gathered->data = accelerator->scratch[input].data;
    gathered->size = size;
    return 0;
}

/* What passes through is read where it lies, and stays there even if the run is given up and its
 * request is answered: a value that owns its bytes is held, one that borrows them is copied. */
static int input_pass(struct fm_pool_accelerator *accelerator, uint32_t input,
                      struct fm_pool_request *request)
{
    const struct fm_value *value = &request->inputs[input];
    accelerator->inputs[input] = value->tensor;
    if (value->buffer != NULL) {
        accelerator->held[accelerator->held_count++] = fm_buffer_ref(value->buffer);
        return 0;
    }
    if (value->tensor.size == 0) {
        return 0;
    }
    struct fm_pool_scratch *scratch = &accelerator->scratch[input];
    int status = scratch_reserve(scratch, value->tensor.size);
    if (status == 0) {
        memcpy(scratch->data, value->tensor.data, value->tensor.size);
        accelerator->inputs[input].data = scratch->data;
        atomic_fetch_add_explicit(&request->bytes_copied, value->tensor.size, memory_order_relaxed);
    }
    return status;
}

static void held_release(struct fm_pool_accelerator *accelerator)
{
    while (accelerator->held_count > 0) {
        fm_buffer_unref(accelerator->held[--accelerator->held_count]);
    }
}

/* A group that is all of its request. */
static bool is_whole(const struct fm_pool_group *group)
{
    return group->row == 0 && group->rows == group->request->rows;
}

static int gather(struct fm_pool_batch *batch, uint32_t rows)
{
    const struct fm_pool_model *model = batch->model;
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    const struct fm_pool_group *first = &batch->groups[batch->members[0]];
    uint32_t ports =
        model->input_count > model->output_count ? model->input_count : model->output_count;
    int status = ports_reserve(accelerator, ports);
    for (uint32_t i = 0; i < model->input_count && status == 0; i++) {
        if (first->request->inputs[i].tensor.dtype == FM_DTYPE_INVALID ||
            (batch->member_count == 1 && is_whole(first))) {
            status = input_pass(accelerator, i, first->request);
        } else {
            status = input_gather(batch, i, rows);
        }
    }
    for (uint32_t i = 0; i < model->output_count && status == 0; i++) {
        accelerator->outputs[i] = (struct fm_output){0};
        for (uint32_t m = 0; m < batch->member_count; m++) {
            const bool *wanted = batch->groups[batch->members[m]].request->wanted;
            accelerator->outputs[i].wanted |= wanted == NULL || wanted[i] ? 1u : 0u;
        }
    }
    return status;
}

/* --- scatter -----------------------------------------------------------------------------------
 */

/* A reference to what the model produced; the memory goes with the last one. */
static int output_take(struct fm_output *output, struct fm_value *ret_value)
{
    struct fm_buffer *buffer = fm_buffer_wrap(output->tensor.data, output->tensor.size,
                                              output->release, output->release_context);
    if (buffer == NULL) {
        return FM_ENOMEM;
    }
    output->release = NULL;
    *ret_value = (struct fm_value){.tensor = output->tensor, .buffer = buffer};
    return 0;
}

static bool wants(const struct fm_pool_request *request, uint32_t output)
{
    return request->wanted == NULL || request->wanted[output];
}

/* Where a group's outputs go: the request's, or a piece of it. NULL: no memory. */
static struct fm_value *outputs_place(const struct fm_pool_model *model,
                                      const struct fm_pool_group *group,
                                      struct fm_pool_piece **ret_piece)
{
    *ret_piece = NULL;
    if (is_whole(group)) {
        return group->request->outputs;
    }
    struct fm_pool_piece *piece =
        fm_alloc_zero(1, sizeof *piece + model->output_count * sizeof piece->outputs[0]);
    if (piece == NULL) {
        return NULL;
    }
    piece->row = group->row;
    piece->rows = group->rows;
    *ret_piece = piece;
    return piece->outputs;
}

static void piece_add(struct fm_pool_request *request, struct fm_pool_piece *piece)
{
    struct fm_pool_piece *first = atomic_load_explicit(&request->pieces, memory_order_relaxed);
    do {
        piece->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&request->pieces, &first, piece,
                                                    memory_order_release, memory_order_relaxed));
}

static void times_set(const struct fm_pool_batch *batch, const struct fm_pool_group *group,
                      uint32_t rows)
{
    struct fm_pool_request *request = group->request;
    if (group == &batch->groups[batch->members[0]]) {
        atomic_fetch_add_explicit(&request->runs_led, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&request->rows_led, rows, memory_order_relaxed);
    }
    if (group->row > 0) {
        return;
    }
    request->computing_ns = batch->computing_ns;
    request->computed_ns = batch->execution.end_ns;
    request->batch_rows = rows;
    request->batch = batch->number;
    request->accelerator = batch->accelerator->index;
}

/* Gives a group its rows of the outputs; `offsets` move on. */
static int group_answer(struct fm_pool_batch *batch, const struct fm_pool_group *group,
                        const struct fm_value *wholes, size_t *offsets)
{
    const struct fm_pool_model *model = batch->model;
    struct fm_pool_piece *piece;
    struct fm_value *place = outputs_place(model, group, &piece);
    int status = place != NULL ? 0 : FM_ENOMEM;
    for (uint32_t i = 0; i < model->output_count && status == 0; i++) {
        if (wholes[i].buffer == NULL) {
            continue;
        }
        struct fm_tensor view = wholes[i].tensor;
        if (model->batch_max > 0) {
            status = fm_tensor_rows_next(&wholes[i].tensor, &offsets[i], group->rows, &view);
        }
        if (status == 0 && wants(group->request, i)) {
            place[i] = fm_value_ref(&wholes[i]);
            place[i].tensor = view;
        }
    }
    if (piece != NULL) {
        piece_add(group->request, piece); /* also when it is not whole: it is released with it */
    }
    return status;
}

static int outputs_check(const struct fm_pool_batch *batch, uint32_t rows, struct fm_error *reterr)
{
    const struct fm_pool_model *model = batch->model;
    for (uint32_t i = 0; i < model->output_count; i++) {
        const struct fm_output *output = &batch->accelerator->outputs[i];
        if (output->wanted != 0 && model->batch_max > 0 &&
            (output->tensor.rank == 0 || output->tensor.shape[0] != (int64_t)rows)) {
            char shape[160];
            return fm_error_set(
                reterr, FM_EINTERNAL,
                "model '%s' answered a batch of %u rows with its output %u of shape %s",
                model->name, (unsigned)rows, (unsigned)i,
                fm_shape_format(output->tensor.shape, output->tensor.rank, shape, sizeof shape));
        }
    }
    return 0;
}

static void outputs_release(const struct fm_pool_batch *batch)
{
    for (uint32_t i = 0; i < batch->model->output_count; i++) {
        struct fm_output *output = &batch->accelerator->outputs[i];
        if (output->release != NULL) {
            output->release(output->release_context);
            output->release = NULL;
        }
    }
}

/* Hands the outputs of the run to its members. On failure nobody has got anything that counts. */
static int scatter(struct fm_pool_batch *batch, uint32_t rows, struct fm_error *reterr)
{
    const struct fm_pool_model *model = batch->model;
    int status = outputs_check(batch, rows, reterr);
    struct fm_value few[4] = {0};
    size_t few_offsets[4] = {0};
    bool many = model->output_count > FM_COUNT_OF(few);
    struct fm_value *wholes = many ? fm_alloc_zero(model->output_count, sizeof *wholes) : few;
    size_t *offsets = many ? fm_alloc_zero(model->output_count, sizeof *offsets) : few_offsets;
    if (status == 0 && (wholes == NULL || offsets == NULL)) {
        status = FM_ENOMEM;
    }
    for (uint32_t i = 0; i < model->output_count && status == 0; i++) {
        if (batch->accelerator->outputs[i].wanted != 0) {
            status = output_take(&batch->accelerator->outputs[i], &wholes[i]);
        }
    }
    for (uint32_t i = 0; i < batch->member_count && status == 0; i++) {
        status = group_answer(batch, &batch->groups[batch->members[i]], wholes, offsets);
    }
    for (uint32_t i = 0; wholes != NULL && i < model->output_count; i++) {
        fm_value_unref(&wholes[i]);
    }
    if (many) {
        fm_free(wholes);
        fm_free(offsets);
    }
    outputs_release(batch);
    if (status != 0 && reterr->status == 0) {
        (void)fm_error_set(reterr, status, "model '%s': the outputs of a batch of %u rows: %s",
                           model->name, (unsigned)rows, fm_status_text(status));
    }
    return status;
}

/* --- the run -----------------------------------------------------------------------------------
 */

static void members_fail(struct fm_pool_batch *batch, const struct fm_error *error)
{
    for (uint32_t i = 0; i < batch->member_count; i++) {
        struct fm_pool_group *group = &batch->groups[batch->members[i]];
        fm_pool_rows_fail(batch->pool, group->request, group->rows, FM_SCHED_DROP_COUNT_, error);
    }
}

static void run_tell(struct fm_pool_batch *batch, uint32_t rows)
{
    const struct fm_pool_options *options = &batch->pool->options;
    struct fm_pool_run run = {.worker = batch->accelerator->worker->index,
                              .accelerator = batch->accelerator->index,
                              .tag = batch->model->tag,
                              .rows = rows,
                              .batch = batch->number,
                              .start_ns = batch->begun_ns,
                              .end_ns = batch->execution.end_ns};
    if (batch->begun_ns == batch->start_ns) {
        /* It could not start before its first request was there. */
        const struct fm_pool_group *first = &batch->groups[batch->members[0]];
        uint64_t arrived_ns = first->request->arrived_ns;
        run.frontrun_ns = batch->frontrun_ns > arrived_ns ? batch->frontrun_ns : arrived_ns;
        run.latest_ns = batch->latest_ns;
        run.rest_ns = batch->rest_ns;
    }
    batch->begun_ns = batch->execution.end_ns;
    if (options->on_run != NULL) {
        options->on_run(options->context, &run);
    }
}

/* A run is over: answers, or another try one by one. */
static void run_over(struct fm_pool_batch *batch, int status, uint32_t rows)
{
    struct fm_error *error = &batch->execution.error;
    held_release(batch->accelerator);
    if (batch->execution.end_ns == 0) {
        batch->execution.end_ns = fm_os_now_ns();
    }
    run_tell(batch, rows);
    if (status != 0 && batch->member_count > 1) {
        for (uint32_t i = 0; i < batch->member_count; i++) {
            struct fm_pool_group *group = &batch->groups[batch->members[i]];
            group->taken = false;
            group->alone = true;
        }
        return;
    }
    if (status != 0 && error->status == 0) {
        (void)fm_error_set(error, status, "model '%s' failed: %s", batch->model->name,
                           fm_status_text(status));
    }
    /* Before the answers: who has one finds it counted. */
    atomic_fetch_add_explicit(&batch->accelerator->batch_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&batch->accelerator->row_count, rows, memory_order_relaxed);
    for (uint32_t i = 0; i < batch->member_count; i++) {
        times_set(batch, &batch->groups[batch->members[i]], rows);
    }
    if (status == 0) {
        status = scatter(batch, rows, error);
    }
    if (status != 0) {
        members_fail(batch, error);
        return;
    }
    for (uint32_t i = 0; i < batch->member_count; i++) {
        const struct fm_pool_group *group = &batch->groups[batch->members[i]];
        fm_pool_rows_over(batch->pool, group->request, group->rows);
    }
}

/* The model has it from now on. */
static void run_give(struct fm_pool_batch *batch)
{
    uint64_t run = atomic_load_explicit(&batch->run, memory_order_relaxed);
    atomic_store_explicit(&batch->run_start_ns, batch->computing_ns, memory_order_relaxed);
    atomic_store_explicit(&batch->run_limit_ns,
                          atomic_load_explicit(&batch->model->limit_ns[batch->accelerator->type],
                                               memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&batch->run, run + 1, memory_order_release);
}

/* The model has returned. Where the run had been given up, its requests are gone. */
static void run_return(struct fm_pool_batch *batch, int status, uint32_t rows)
{
    uint64_t run = atomic_load_explicit(&batch->run, memory_order_relaxed) & ~FM_POOL_RUN_LOST;
    uint64_t expected = run;
    if (atomic_compare_exchange_strong_explicit(&batch->run, &expected, run + 1,
                                                memory_order_acq_rel, memory_order_acquire)) {
        run_over(batch, status, rows);
        return;
    }
    batch->lost = true;
    outputs_release(batch);
    held_release(batch->accelerator);
}

/* On a thread of the backend. */
static void run_complete(struct fm_execution *execution, int status)
{
    struct fm_pool_batch *batch = execution->user;
    batch->status = status;
    fm_pool_worker_mail(batch->accelerator->worker, batch);
}

/* Starts a run. True: it is over already. */
static bool run_start(struct fm_pool_batch *batch)
{
    struct fm_pool_accelerator *accelerator = batch->accelerator;
    struct fm_model *model = batch->model->models[accelerator->type];
    uint32_t rows = member_rows(batch);
    batch->execution = (struct fm_execution){.struct_size = sizeof(struct fm_execution),
                                             .input_count = batch->model->input_count,
                                             .output_count = batch->model->output_count,
                                             .batch_size = rows,
                                             .complete = run_complete,
                                             .user = batch};
    int status = gather(batch, rows);
    batch->computing_ns = fm_os_now_ns();
    if (status != 0) {
        (void)fm_error_set(&batch->execution.error, status,
                           "model '%s': gathering a batch of %u rows: %s", batch->model->name,
                           (unsigned)rows, fm_status_text(status));
        run_over(batch, status, rows);
        return true;
    }
    batch->execution.inputs = accelerator->inputs;
    batch->execution.outputs = accelerator->outputs;
    run_give(batch);
    if (fm_model_executes(model)) {
        run_return(batch, fm_model_run(model, accelerator->instance, &batch->execution, NULL),
                   rows);
        return true;
    }
    batch->submitted = true;
    status = fm_model_submit(model, accelerator->instance, &batch->execution);
    if (status != 0) {
        batch->submitted = false;
        run_return(batch, status, rows);
    }
    return status != 0;
}

bool fm_pool_batch_go_on(struct fm_pool_batch *batch)
{
    if (batch->submitted) {
        batch->submitted = false;
        run_return(batch, batch->status, member_rows(batch));
    } else {
        groups_make(batch);
    }
    while (!batch->lost && members_choose(batch)) {
        if (!run_start(batch)) {
            return false;
        }
    }
    return true;
}
