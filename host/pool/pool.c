/*
 * Requests into the scheduler, its actions to the accelerators, and the table of models. See
 * pool.h.
 */
#include "host/pool/pool.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/pool/pool_internal.h"

/* Timers and threads are late now and then, and an answer takes time to be sent: what is to be in
 * time is planned to be done so much before. */
#define MARGIN_NS UINT64_C(500000)

/* Accelerators that a thread has where they share threads. */
#define ACCELERATORS_PER_THREAD 64u

/* Requests of a submitter between two looks at what slots are free again. */
#define TAKE_EVERY 64u

/* --- the end of requests -----------------------------------------------------------------------
 */

static void pieces_free(const struct fm_pool_model *model, struct fm_pool_piece *piece)
{
    while (piece != NULL) {
        struct fm_pool_piece *next = piece->next;
        for (uint32_t i = 0; i < model->output_count; i++) {
            fm_value_unref(&piece->outputs[i]);
        }
        fm_free(piece);
        piece = next;
    }
}

/* The pieces in the order of their rows. */
static struct fm_pool_piece *pieces_sort(struct fm_pool_piece *piece)
{
    struct fm_pool_piece *sorted = NULL;
    while (piece != NULL) {
        struct fm_pool_piece *next = piece->next;
        struct fm_pool_piece **place = &sorted;
        while (*place != NULL && (*place)->row < piece->row) {
            place = &(*place)->next;
        }
        piece->next = *place;
        *place = piece;
        piece = next;
    }
    return sorted;
}

/* One output of all pieces behind one another. */
static int output_join(struct fm_pool_request *request, const struct fm_pool_piece *first,
                       uint32_t output)
{
    const struct fm_tensor *like = &first->outputs[output].tensor;
    size_t size = 0;
    for (const struct fm_pool_piece *piece = first; piece != NULL; piece = piece->next) {
        const struct fm_tensor *tensor = &piece->outputs[output].tensor;
        if (tensor->dtype != like->dtype || tensor->rank != like->rank ||
            memcmp(&tensor->shape[1], &like->shape[1], (like->rank - 1) * sizeof like->shape[0]) !=
                0) {
            char shapes[2][160];
            return fm_error_set(&request->error, FM_EINTERNAL,
                                "model '%s': the rows of one request gave outputs of shapes %s and "
                                "%s, which cannot "
                                "be put together; send them one by one",
                                request->model->name,
                                fm_shape_format(like->shape, like->rank, shapes[0], 160),
                                fm_shape_format(tensor->shape, tensor->rank, shapes[1], 160));
        }
        size += tensor->size;
    }
    struct fm_tensor shape = *like;
    shape.shape[0] = request->rows;
    struct fm_value *whole = &request->outputs[output];
    int status = fm_value_alloc(whole, shape.dtype, shape.shape, shape.rank, size);
    if (status != 0) {
        return fm_error_set(&request->error, status, "model '%s': output %u of %u rows: %s",
                            request->model->name, (unsigned)output, (unsigned)request->rows,
                            fm_status_text(status));
    }
    unsigned char *to = whole->tensor.data;
    for (const struct fm_pool_piece *piece = first; piece != NULL; piece = piece->next) {
        const struct fm_tensor *tensor = &piece->outputs[output].tensor;
        if (tensor->size > 0) {
            memcpy(to, tensor->data, tensor->size);
        }
        to += tensor->size;
    }
    atomic_fetch_add_explicit(&request->bytes_copied, size, memory_order_relaxed);
    return 0;
}

static void request_finish(struct fm_pool *pool, struct fm_pool_request *request)
{
    struct fm_pool_model *model = request->model;
    struct fm_pool_piece *pieces =
        pieces_sort(atomic_load_explicit(&request->pieces, memory_order_acquire));
    bool failed = atomic_load_explicit(&request->failed, memory_order_acquire);
    for (uint32_t i = 0; pieces != NULL && !failed && i < model->output_count; i++) {
        if (pieces->outputs[i].buffer != NULL) {
            failed = output_join(request, pieces, i) != 0;
        }
    }
    pieces_free(model, pieces);
    for (uint32_t i = 0; failed && i < model->output_count; i++) {
        fm_value_unref(&request->outputs[i]);
    }
    (void)pool;
    request->done_ns = fm_os_now_ns();
    request->done(request);
    atomic_fetch_sub_explicit(&model->in_use, 1, memory_order_release);
}

void fm_pool_rows_over(struct fm_pool *pool, struct fm_pool_request *request, uint32_t rows)
{
    if (atomic_fetch_sub_explicit(&request->rows_left, rows, memory_order_acq_rel) == rows) {
        request_finish(pool, request);
    }
}

void fm_pool_rows_fail(struct fm_pool *pool, struct fm_pool_request *request, uint32_t rows,
                       enum fm_sched_drop_reason drop, const struct fm_error *error)
{
    bool failed = false;
    if (atomic_compare_exchange_strong_explicit(&request->failed, &failed, true,
                                                memory_order_acq_rel, memory_order_acquire)) {
        /* Nobody reads it before the last row is over. */
        request->drop = drop;
        request->error = *error;
    }
    fm_pool_rows_over(pool, request, rows);
}

/* --- the scheduler's actions: one at a time ----------------------------------------------------
 */

static const struct {
    int status;
    const char *text;
} drops[] = {
    [FM_SCHED_DROP_INFEASIBLE] = {FM_EDEADLINE, "Request timeout expired: there was less time left "
                                                "on arrival than the model takes"},
    [FM_SCHED_DROP_LATE] = {FM_EDEADLINE, "Request timeout expired before an accelerator was free"},
    [FM_SCHED_DROP_SACRIFICED] = {FM_EDEADLINE,
                                  "Request timeout expired: the server is overloaded, "
                                  "and others could still be served in time"},
    [FM_SCHED_DROP_REJECTED] = {FM_EAGAIN, "Exceeds maximum queue size: what is queued leaves no "
                                           "time for this request before its deadline"},
    [FM_SCHED_DROP_CANCELLED] = {FM_ECANCELLED, "the client went away"},
    [FM_SCHED_DROP_MODEL_GONE] = {FM_EUNAVAILABLE, "the model is being unloaded"},
    [FM_SCHED_DROP_FAILED] = {FM_EINTERNAL, "the accelerator does not answer: the batch takes much "
                                            "longer than the model should"},
    [FM_SCHED_DROP_OUTRANKED] = {FM_EAGAIN, "the server is overloaded, and more important requests "
                                            "go first"},
};
_Static_assert(FM_COUNT_OF(drops) == FM_SCHED_DROP_COUNT_, "words for each reason");

static void slot_free(struct fm_pool *pool, uint32_t slot)
{
    struct fm_pool_submitter *submitter = &pool->submitters[slot / pool->options.rows_max];
    bool put = fm_ring_put(&submitter->freed, &slot, sizeof slot);
    FM_ASSERT(put); /* it holds all there are */
}

static void on_drop(struct fm_pool *pool, const struct fm_sched_action *action)
{
    struct fm_pool_request *request = pool->slots[action->request].request;
    struct fm_error error = {0};
    if (pool->slots[action->request].row == FM_POOL_ROW_OVER) {
        slot_free(pool, action->request);
        return;
    }
    (void)fm_error_set(&error, drops[action->reason].status, "model '%s': %s", request->model->name,
                       drops[action->reason].text);
    slot_free(pool, action->request);
    fm_pool_rows_fail(pool, request, 1, action->reason, &error);
}

/* The accelerator has one batch more: what it and the others did until now. */
static void occupy(struct fm_pool *pool, struct fm_pool_accelerator *accelerator,
                   struct fm_pool_batch *batch, bool rested)
{
    bool was_idle =
        atomic_fetch_add_explicit(&accelerator->handed_count, 1, memory_order_relaxed) == 0;
    uint32_t busy = was_idle ? atomic_fetch_add_explicit(&pool->busy_count, 1, memory_order_relaxed)
                             : atomic_load_explicit(&pool->busy_count, memory_order_relaxed);
    batch->idle_ns = busy < pool->accelerator_count
                         ? atomic_load_explicit(&pool->idle_since_ns, memory_order_relaxed)
                         : batch->handed_ns;
    batch->rest_ns = was_idle && rested
                         ? atomic_load_explicit(&accelerator->idle_since_ns, memory_order_relaxed)
                         : 0;
}

static void on_start(struct fm_pool *pool, const struct fm_sched_action *action,
                     const uint32_t *requests)
{
    struct fm_pool_accelerator *accelerator = &pool->accelerators[action->accelerator];
    struct fm_pool_batch *batch = NULL;
    for (uint32_t i = 0; i < FM_POOL_BATCHES && batch == NULL; i++) {
        if (!atomic_load_explicit(&accelerator->batches[i].used, memory_order_acquire)) {
            batch = &accelerator->batches[i];
        }
    }
    FM_ASSERT(batch != NULL);
    atomic_store_explicit(&batch->used, true, memory_order_relaxed);
    /* The table of models changes only for those that have no requests. */
    batch->model = pool->models[action->model];
    atomic_fetch_add_explicit(&batch->model->in_use, 1, memory_order_relaxed);
    batch->number = action->batch;
    batch->start_ns = action->start_ns;
    batch->handed_ns = fm_os_now_ns();
    batch->frontrun_ns = action->frontrun_ns;
    batch->latest_ns = action->latest_ns;
    occupy(pool, accelerator, batch, action->rested);
    batch->slot_count = action->request_count;
    memcpy(batch->slots, requests, action->request_count * sizeof *requests);
    batch->visited_ns = 0;
    batch->brief = fm_pool_brief_take(pool, batch);
    fm_pool_worker_mail(accelerator->worker, batch);
}

static void on_action(void *context, uint32_t shard, const struct fm_sched_action *action,
                      const uint32_t *requests)
{
    struct fm_pool *pool = context;
    (void)shard;
    switch (action->kind) {
    case FM_SCHED_ACTION_START:
        on_start(pool, action, requests);
        break;
    case FM_SCHED_ACTION_DROP:
        on_drop(pool, action);
        break;
    case FM_SCHED_ACTION_DONE:
        for (uint32_t i = 0; i < action->request_count; i++) {
            slot_free(pool, requests[i]);
        }
        break;
    case FM_SCHED_ACTION_PREEMPT:
    case FM_SCHED_ACTION_COUNT_:
        FM_ASSERT(false); /* no policy of a pool preempts, and there are no shards */
        break;
    }
}

static void on_step(void *context, const struct fm_sched_record_step *step)
{
    struct fm_pool *pool = context;
    if (pool->recording != NULL) {
        fm_recording_step(pool->recording, step);
    }
}

/* --- requests ----------------------------------------------------------------------------------
 */

static void freed_take(struct fm_pool_submitter *submitter)
{
    uint32_t count;
    const uint32_t *freed;
    while ((freed = fm_ring_peek(&submitter->freed, &count)) != NULL) {
        memcpy(&submitter->free[submitter->free_count], freed, count * sizeof *freed);
        submitter->free_count += count;
        fm_ring_take(&submitter->freed, count);
    }
}

static void slots_take(struct fm_pool *pool, struct fm_pool_submitter *submitter,
                       struct fm_pool_request *request)
{
    uint32_t next = FM_SCHED_NONE;
    for (uint32_t row = request->rows; row > 0; row--) {
        uint32_t slot = submitter->free[--submitter->free_count];
        pool->slots[slot] = (struct fm_pool_slot){.request = request, .row = row - 1, .next = next};
        next = slot;
    }
    request->first_slot = next;
}

/* Whoever brings a request may have used it before. */
static void outcome_clear(struct fm_pool_request *request)
{
    request->error.status = 0;
    request->drop = FM_SCHED_DROP_COUNT_;
    request->started_ns = 0;
    request->computing_ns = 0;
    request->computed_ns = 0;
    request->held_ns = 0;
    atomic_init(&request->bytes_copied, 0);
    request->batch_rows = 0;
    request->batch = 0;
    atomic_init(&request->runs_led, 0);
    atomic_init(&request->rows_led, 0);
    request->accelerator = FM_SCHED_NONE;
}

static int submit(struct fm_pool *pool, uint32_t submitter_index, struct fm_pool_request *request)
{
    struct fm_pool_submitter *submitter = &pool->submitters[submitter_index];
    struct fm_pool_model *model = request->model;
    FM_ASSERT(request->rows >= 1 && (model->batch_max > 0 || request->rows == 1));
    FM_ASSERT(request->priority < FM_SCHED_PRIORITY_COUNT);
    outcome_clear(request);
    /* Now and then: so those that were used lately are used again, and not one after the other
     * until all were. */
    if (submitter->free_count < request->rows || submitter->submit_count++ % TAKE_EVERY == 0) {
        freed_take(submitter);
    }
    if (submitter->free_count < request->rows) {
        if (request->rows > pool->options.rows_max) {
            return fm_error_set(
                &request->error, FM_ETOOLARGE,
                "model '%s': a request of %u rows is larger than the %u that may be "
                "in flight",
                model->name, (unsigned)request->rows, (unsigned)pool->options.rows_max);
        }
        if (submitter->free_count < request->rows) {
            return fm_error_set(&request->error, FM_EAGAIN,
                                "model '%s': Exceeds maximum queue size: %u rows are in flight",
                                model->name, (unsigned)pool->options.rows_max);
        }
    }
    request->arrived_ns = fm_os_now_ns();
    atomic_init(&request->rows_left, request->rows);
    atomic_init(&request->failed, false);
    atomic_init(&request->pieces, NULL);
    atomic_fetch_add_explicit(&model->in_use, 1, memory_order_relaxed);
    slots_take(pool, submitter, request);
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_REQUEST};
    event.as.request.model = model->id;
    event.as.request.priority = request->priority;
    event.as.request.deadline_ns =
        request->deadline_ns != 0
            ? request->deadline_ns
            : request->arrived_ns + atomic_load_explicit(&model->slo_ns, memory_order_relaxed);
    /* The last row may be over before the next event is put: the slot's link is read before. */
    for (uint32_t slot = request->first_slot; slot != FM_SCHED_NONE;) {
        uint32_t next = pool->slots[slot].next;
        event.as.request.request = slot;
        bool put = fm_scheduler_submit(pool->scheduler, submitter_index, model->id, &event);
        FM_ASSERT(put); /* there is room for all slots and their cancels */
        slot = next;
    }
    return 0;
}

int fm_pool_submit(struct fm_pool *pool, uint32_t submitter, struct fm_pool_request *request)
{
    if (submitter != FM_POOL_SHARED) {
        return submit(pool, submitter, request);
    }
    fm_mutex_lock(&pool->shared_lock);
    int status = submit(pool, pool->submitter_count - 1, request);
    fm_mutex_unlock(&pool->shared_lock);
    return status;
}

void fm_pool_flush(struct fm_pool *pool, uint32_t submitter)
{
    if (submitter == FM_POOL_SHARED) {
        fm_scheduler_flush(pool->scheduler, pool->submitter_count - 1);
        return;
    }
    fm_scheduler_flush(pool->scheduler, submitter);
    fm_pool_brief_run(pool, submitter);
}

static void cancel(struct fm_pool *pool, uint32_t submitter, struct fm_pool_request *request)
{
    struct fm_sched_event event = {.kind = FM_SCHED_EVENT_CANCEL};
    /* What is over by now, though `done` may not have been seen yet, may have lost its slots to
     * others. */
    for (uint32_t slot = request->first_slot;
         slot != FM_SCHED_NONE && pool->slots[slot].request == request;
         slot = pool->slots[slot].next) {
        event.as.cancel.request = slot;
        bool put = fm_scheduler_submit(pool->scheduler, submitter, request->model->id, &event);
        FM_ASSERT(put);
    }
}

void fm_pool_cancel(struct fm_pool *pool, uint32_t submitter, struct fm_pool_request *request)
{
    if (submitter != FM_POOL_SHARED) {
        cancel(pool, submitter, request);
        return;
    }
    fm_mutex_lock(&pool->shared_lock);
    cancel(pool, pool->submitter_count - 1, request);
    fm_mutex_unlock(&pool->shared_lock);
}

/* --- models ------------------------------------------------------------------------------------
 */

/* How long a run may take: measured by the largest batch, whatever its size. */
static uint64_t limit_choose(const struct fm_pool *pool, const struct fm_profile *profile,
                             enum fm_profile_statistic statistic, uint32_t batch_max)
{
    uint64_t latency_ns = fm_profile_latency_ns(profile, statistic, batch_max);
    uint64_t limit_ns = latency_ns < FM_SCHED_TIME_MAX_NS / FM_POOL_HANG_FACTOR
                            ? latency_ns * FM_POOL_HANG_FACTOR
                            : FM_SCHED_TIME_MAX_NS;
    return limit_ns > pool->options.hang_ns ? limit_ns : pool->options.hang_ns;
}

static int model_tell(struct fm_pool *pool, struct fm_pool_model *model,
                      const struct fm_pool_model_options *options, struct fm_error *reterr)
{
    struct fm_sched_model of = {.model = model->id,
                                .slo_ns = options->slo_ns,
                                .goal = options->goal,
                                .policy_given = options->policy_given,
                                .policy = options->policy,
                                .batch_max = model->batch_max == 0 ? 1 : model->batch_max,
                                .statistic = options->statistic,
                                .queue_delay_ns = options->queue_delay_ns};
    if (options->batch_max > 0 && options->batch_max < of.batch_max) {
        of.batch_max = options->batch_max;
    }
    if (of.batch_max > pool->options.batch_max) {
        of.batch_max = pool->options.batch_max;
    }
    if (options->policy_given && !fm_sched_policy_mixes(pool->options.policy, options->policy)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "model '%s' has policy %s, which cannot be mixed with the server's "
                            "policy %s: what chooses among all models at once is for all or for "
                            "none, so give it to all with --policy (nexus or clockwork; "
                            "shepherd is for simulations)",
                            options->name, fm_sched_policy_name(options->policy),
                            fm_sched_policy_name(pool->options.policy));
    }
    memcpy(of.preferred, options->preferred, sizeof of.preferred);
    for (uint32_t type = 0; type < pool->options.type_count; type++) {
        of.profiles[type] = model->models[type] != NULL ? options->profiles[type] : NULL;
        if (of.profiles[type] != NULL) {
            atomic_store_explicit(&model->limit_ns[type],
                                  limit_choose(pool, of.profiles[type], of.statistic, of.batch_max),
                                  memory_order_relaxed);
        }
    }
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_SET, .as.model = &of};
    int status = fm_scheduler_control(pool->scheduler, &event, reterr);
    return status == 0 ? 0 : fm_error_prefix(reterr, status, "model '%s'", options->name);
}

static int model_check(const struct fm_pool *pool, const struct fm_pool_model_options *options,
                       struct fm_pool_model *model, struct fm_error *reterr)
{
    bool any = false;
    for (uint32_t type = 0; type < pool->options.type_count; type++) {
        const struct fm_model *of = options->models[type];
        uint32_t accelerators = pool->type_first[type + 1] - pool->type_first[type];
        if (of == NULL) {
            continue;
        }
        if (options->profiles[type] == NULL) {
            return fm_error_set(reterr, FM_EINVAL, "model '%s' has no profile for '%s'",
                                options->name, pool->type_names[type]);
        }
        if (fm_model_instance_count(of) < accelerators) {
            return fm_error_set(reterr, FM_EINVAL,
                                "model '%s' has %u instances for %u accelerators of type '%s'",
                                options->name, (unsigned)fm_model_instance_count(of),
                                (unsigned)accelerators, pool->type_names[type]);
        }
        any = true;
        (void)fm_model_inputs(of, &model->input_count);
        (void)fm_model_outputs(of, &model->output_count);
        model->batch_max = fm_model_batch_max(of);
        model->models[type] = options->models[type];
        /* By the profile that it comes with. What it is told later was learnt from batches, some of
         * which waited for a thread to wake. */
        model->brief_rows[type] = pool->options.brief && fm_model_never_waits(of)
                                      ? fm_brief_rows(options->profiles[type],
                                                      model->batch_max > 0 ? model->batch_max : 1)
                                      : 0;
    }
    return any ? 0
               : fm_error_set(reterr, FM_EINVAL, "model '%s' runs on no type of accelerator",
                              options->name);
}

int fm_pool_model_add(struct fm_pool *pool, const struct fm_pool_model_options *options,
                      struct fm_pool_model **ret_model, struct fm_error *reterr)
{
    size_t name_size = strlen(options->name) + 1;
    struct fm_pool_model *model = fm_alloc_zero(1, sizeof *model + name_size);
    if (model == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", options->name);
    }
    model->pool = pool;
    memcpy(model->name, options->name, name_size);
    model->tag = options->tag;
    atomic_init(&model->slo_ns, options->slo_ns);
    int status = model_check(pool, options, model, reterr);
    if (status != 0) {
        fm_free(model);
        return status;
    }
    fm_mutex_lock(&pool->lock);
    uint32_t id = 0;
    while (id < pool->options.models_max && pool->models[id] != NULL) {
        id++;
    }
    if (id < pool->options.models_max) {
        model->id = id;
        pool->models[id] = model;
    } else {
        status = fm_error_set(reterr, FM_ELIMIT, "model '%s': there are %u models already",
                              options->name, (unsigned)pool->options.models_max);
    }
    fm_mutex_unlock(&pool->lock);
    if (status == 0) {
        status = model_tell(pool, model, options, reterr);
        if (status != 0) {
            fm_mutex_lock(&pool->lock);
            pool->models[id] = NULL;
            fm_mutex_unlock(&pool->lock);
        }
    }
    if (status != 0) {
        fm_free(model);
        return status;
    }
    *ret_model = model;
    return 0;
}

int fm_pool_model_set(struct fm_pool *pool, struct fm_pool_model *model,
                      const struct fm_pool_model_options *options, struct fm_error *reterr)
{
    int status = model_tell(pool, model, options, reterr);
    if (status == 0) {
        atomic_store_explicit(&model->slo_ns, options->slo_ns, memory_order_relaxed);
    }
    return status;
}

bool fm_pool_model_remove(struct fm_pool *pool, struct fm_pool_model *model)
{
    if (model == NULL) {
        return true;
    }
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_MODEL_REMOVED,
                                         .as.model_removed = model->id};
    struct fm_error error;
    int status = fm_scheduler_control(pool->scheduler, &event, &error);
    FM_ASSERT(status == 0);
    /* Rare, and as long as a batch at most, or until one that hangs is given up. */
    uint64_t in_use = atomic_load_explicit(&model->in_use, memory_order_acquire);
    while (in_use > 0 && atomic_load_explicit(&model->lost, memory_order_relaxed) != in_use) {
        fm_sleep_until(fm_os_now_ns() + 200000);
        in_use = atomic_load_explicit(&model->in_use, memory_order_acquire);
    }
    fm_mutex_lock(&pool->lock);
    pool->models[model->id] = NULL;
    if (in_use > 0) {
        model->next = pool->abandoned;
        pool->abandoned = model;
        atomic_fetch_add_explicit(&pool->abandoned_count, 1, memory_order_relaxed);
    }
    fm_mutex_unlock(&pool->lock);
    if (in_use > 0) {
        return false;
    }
    fm_free(model);
    return true;
}

uint32_t fm_pool_model_id(const struct fm_pool_model *model)
{
    return model->id;
}

/* --- creation ----------------------------------------------------------------------------------
 */

/* How many threads the accelerators of a type have. */
static uint32_t type_threads(const struct fm_pool_type *type)
{
    return type->shares_threads
               ? (type->accelerators + ACCELERATORS_PER_THREAD - 1) / ACCELERATORS_PER_THREAD
               : type->accelerators;
}

static int options_check(struct fm_pool_options *options, struct fm_error *reterr)
{
    uint32_t accelerators = 0;
    uint32_t threads = 0;
    options->models_max = options->models_max > 0 ? options->models_max : FM_POOL_MODELS_DEFAULT;
    options->rows_max = options->rows_max > 0 ? options->rows_max : FM_POOL_ROWS_DEFAULT;
    if (options->type_count < 1 || options->type_count > FM_SCHED_TYPES_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL,
                            "there are %u types of accelerators, must be 1 to %u",
                            (unsigned)options->type_count, FM_SCHED_TYPES_LIMIT);
    }
    for (uint32_t i = 0; i < options->type_count; i++) {
        if (options->types[i].accelerators < 1 ||
            options->types[i].accelerators > FM_MODEL_INSTANCES_MAX) {
            return fm_error_set(reterr, FM_EINVAL, "'%s' has %u accelerators, must have 1 to %u",
                                options->types[i].name, (unsigned)options->types[i].accelerators,
                                (unsigned)FM_MODEL_INSTANCES_MAX);
        }
        accelerators += options->types[i].accelerators;
        threads += type_threads(&options->types[i]);
    }
    if (threads > FM_SCHEDULER_ENDPOINTS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "%u accelerators need %u threads, and there are at most %u: give "
                            "--accelerators fewer, but for emulated ones, %u of which share one",
                            (unsigned)accelerators, (unsigned)threads, FM_SCHEDULER_ENDPOINTS_MAX,
                            ACCELERATORS_PER_THREAD);
    }
    if (options->submitter_count < 1 || options->submitter_count >= FM_SCHEDULER_ENDPOINTS_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "submitter_count is %u, must be 1 to %u",
                            (unsigned)options->submitter_count, FM_SCHEDULER_ENDPOINTS_MAX - 1);
    }
    if ((uint64_t)options->rows_max * (options->submitter_count + 1) > FM_SCHED_REQUESTS_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL, "%u times %u rows in flight are more than %u",
                            (unsigned)options->submitter_count + 1, (unsigned)options->rows_max,
                            FM_SCHED_REQUESTS_LIMIT);
    }
    if (options->policy == FM_SCHED_POLICY_SHEPHERD) {
        return fm_error_set(reterr, FM_EINVAL,
                            "policy '%s' stops batches that run, which accelerators here cannot",
                            fm_sched_policy_name(options->policy));
    }
    return accelerators > 0 ? 0 : FM_EINVAL;
}

static int accelerator_init(struct fm_pool *pool, struct fm_pool_accelerator *accelerator)
{
    uint32_t batch_max = pool->options.batch_max;
    for (uint32_t i = 0; i < FM_POOL_BATCHES; i++) {
        struct fm_pool_batch *batch = &accelerator->batches[i];
        batch->pool = pool;
        batch->accelerator = accelerator;
        batch->slots = fm_alloc(batch_max * sizeof *batch->slots);
        batch->groups = fm_alloc(batch_max * sizeof *batch->groups);
        batch->members = fm_alloc(batch_max * sizeof *batch->members);
        if (batch->slots == NULL || batch->groups == NULL || batch->members == NULL) {
            return FM_ENOMEM;
        }
    }
    return 0;
}

static int accelerators_create(struct fm_pool *pool, const struct fm_pool_type *types)
{
    uint32_t first_worker = 0;
    for (uint32_t type = 0; type < pool->options.type_count; type++) {
        pool->type_names[type] = types[type].name;
        pool->type_first[type] = pool->accelerator_count;
        pool->accelerator_count += types[type].accelerators;
        pool->type_first[type + 1] = pool->accelerator_count;
        pool->worker_count += type_threads(&types[type]);
    }
    pool->accelerators = fm_alloc_zero(pool->accelerator_count, sizeof *pool->accelerators);
    pool->workers = fm_alloc_zero(pool->worker_count, sizeof *pool->workers);
    if (pool->accelerators == NULL || pool->workers == NULL) {
        pool->accelerator_count = pool->accelerators == NULL ? 0 : pool->accelerator_count;
        pool->worker_count = pool->workers == NULL ? 0 : pool->worker_count;
        return FM_ENOMEM;
    }
    for (uint32_t type = 0; type < pool->options.type_count; type++) {
        for (uint32_t i = 0; i < types[type].accelerators; i++) {
            uint32_t index = pool->type_first[type] + i;
            struct fm_pool_accelerator *accelerator = &pool->accelerators[index];
            accelerator->index = index;
            accelerator->type = type;
            accelerator->instance = i;
            atomic_init(&accelerator->idle_since_ns, fm_os_now_ns());
            uint32_t worker = types[type].shares_threads ? i / ACCELERATORS_PER_THREAD : i;
            accelerator->worker = &pool->workers[first_worker + worker];
            if (accelerator_init(pool, accelerator) != 0) {
                return FM_ENOMEM;
            }
        }
        first_worker += type_threads(&types[type]);
    }
    return 0;
}

static int submitters_create(struct fm_pool *pool)
{
    uint32_t rows = pool->options.rows_max;
    uint32_t count = pool->submitter_count;
    pool->slots = fm_alloc_zero((size_t)rows * count, sizeof *pool->slots);
    pool->submitters = fm_alloc_zero(count, sizeof *pool->submitters);
    pool->models = fm_alloc_zero(pool->options.models_max, sizeof(struct fm_pool_model *));
    if (pool->slots == NULL || pool->submitters == NULL || pool->models == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct fm_pool_submitter *submitter = &pool->submitters[i];
        submitter->free = fm_alloc(rows * sizeof *submitter->free);
        if (submitter->free == NULL ||
            fm_ring_init(&submitter->freed, rows, sizeof(uint32_t)) != 0) {
            return FM_ENOMEM;
        }
        /* The lowest is on top: memory that was used lately is used again. */
        for (uint32_t slot = 0; slot < rows; slot++) {
            submitter->free[slot] = (i + 1) * rows - 1 - slot;
        }
        submitter->free_count = rows;
    }
    return 0;
}

static int scheduler_create(struct fm_pool *pool, struct fm_error *reterr)
{
    const struct fm_pool_options *options = &pool->options;
    const struct fm_scheduler_options scheduler = {
        .sched = {.policy = options->policy,
                  .models_max = options->models_max,
                  .accelerators_max = pool->accelerator_count,
                  .type_count = options->type_count,
                  .requests_max = options->rows_max * pool->submitter_count,
                  .batch_max = options->batch_max,
                  .result_ns = MARGIN_NS,
                  .attempts_max = 1,
                  .learn = options->learn,
                  .admit = options->admit},
        .submitter_count = pool->submitter_count,
        .reporter_count = pool->worker_count,
        .submit_capacity = 2 * options->rows_max,
        .on_action = on_action,
        .on_step = options->record_path != NULL ? on_step : NULL,
        .context = pool};
    int status = 0;
    if (options->record_path != NULL) {
        struct fm_sched_record_header header;
        fm_scheduler_record_header(&scheduler, &header);
        status = fm_recording_open(options->record_path, &header, &pool->recording, reterr);
    }
    status = status != 0 ? status : fm_scheduler_create(&scheduler, &pool->scheduler, reterr);
    for (uint32_t i = 0; i < pool->accelerator_count && status == 0; i++) {
        struct fm_sched_event event = {.kind = FM_SCHED_EVENT_ACCELERATOR_UP};
        event.as.accelerator.accelerator = i;
        event.as.accelerator.type = pool->accelerators[i].type;
        status = fm_scheduler_control(pool->scheduler, &event, reterr);
    }
    return status;
}

int fm_pool_create(const struct fm_pool_options *options, struct fm_pool **ret_pool,
                   struct fm_error *reterr)
{
    struct fm_pool *pool = fm_alloc_zero(1, sizeof *pool);
    if (pool == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "no memory for the pool of accelerators");
    }
    pool->options = *options;
    pool->submitter_count = options->submitter_count + 1;
    atomic_init(&pool->idle_since_ns, fm_os_now_ns());
    fm_mutex_init(&pool->shared_lock);
    fm_mutex_init(&pool->lock);
    fm_mutex_init(&pool->watch.lock);
    fm_condition_init(&pool->watch.wake);
    int status = options_check(&pool->options, reterr);
    if (status == 0 &&
        (accelerators_create(pool, options->types) != 0 || submitters_create(pool) != 0)) {
        status = fm_error_set(reterr, FM_ENOMEM, "no memory for the pool of accelerators");
    }
    status = status != 0 ? status : scheduler_create(pool, reterr);
    for (uint32_t i = 0; status == 0 && i < pool->worker_count; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].index = i;
        status = fm_pool_worker_start(&pool->workers[i]);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "cannot start a thread for accelerator %u",
                               (unsigned)i);
        }
    }
    if (status == 0) {
        status = fm_pool_watch_start(pool);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "cannot start the thread that watches accelerators");
        }
    }
    if (status != 0) {
        fm_pool_destroy(pool);
        return status;
    }
    *ret_pool = pool;
    return 0;
}

static void accelerator_deinit(struct fm_pool_accelerator *accelerator)
{
    for (uint32_t i = 0; i < FM_POOL_BATCHES; i++) {
        fm_free(accelerator->batches[i].slots);
        fm_free(accelerator->batches[i].groups);
        fm_free(accelerator->batches[i].members);
    }
    for (uint32_t i = 0; i < accelerator->port_capacity; i++) {
        fm_free(accelerator->scratch[i].data);
    }
    fm_free(accelerator->inputs);
    fm_free(accelerator->scratch);
    fm_free(accelerator->outputs);
    fm_free(accelerator->held);
}

struct ending {
    struct fm_pool *pool;
    struct fm_recording *recording;
};

/* With the scheduler standing still. */
static void recording_take(void *context, const struct fm_sched *sched,
                           const struct fm_scheduler_stats *stats)
{
    struct ending *ending = context;
    (void)sched;
    (void)stats;
    ending->recording = ending->pool->recording;
    ending->pool->recording = NULL;
}

int fm_pool_record_end(struct fm_pool *pool, struct fm_error *reterr)
{
    struct ending ending = {.pool = pool};
    fm_scheduler_look(pool->scheduler, recording_take, &ending);
    return fm_recording_close(ending.recording, reterr);
}

void fm_pool_drain(struct fm_pool *pool)
{
    const struct fm_sched_event event = {.kind = FM_SCHED_EVENT_DRAIN};
    int status = fm_scheduler_control(pool->scheduler, &event, NULL);
    FM_ASSERT(status == 0);
}

struct flushing {
    struct fm_pool *pool;
    struct fm_error *reterr;
    int status;
};

static void recording_flush(void *context, const struct fm_sched *sched,
                            const struct fm_scheduler_stats *stats)
{
    struct flushing *flushing = context;
    (void)sched;
    (void)stats;
    if (flushing->pool->recording != NULL) {
        flushing->status = fm_recording_flush(flushing->pool->recording, flushing->reterr);
    }
}

int fm_pool_record_flush(struct fm_pool *pool, struct fm_error *reterr)
{
    struct flushing flushing = {.pool = pool, .reterr = reterr};
    fm_scheduler_look(pool->scheduler, recording_flush, &flushing);
    return flushing.status;
}

void fm_pool_destroy(struct fm_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    fm_pool_watch_stop(pool);
    for (uint32_t i = 0; i < pool->worker_count; i++) {
        if (pool->workers[i].pool != NULL) {
            fm_pool_worker_stop(&pool->workers[i]);
        }
    }
    fm_scheduler_destroy(pool->scheduler);
    (void)!fm_recording_close(pool->recording, NULL);
    for (uint32_t i = 0; i < pool->accelerator_count; i++) {
        accelerator_deinit(&pool->accelerators[i]);
    }
    for (uint32_t i = 0; pool->submitters != NULL && i < pool->submitter_count; i++) {
        fm_free(pool->submitters[i].free);
        fm_ring_deinit(&pool->submitters[i].freed);
    }
    while (pool->abandoned != NULL) {
        struct fm_pool_model *model = pool->abandoned;
        pool->abandoned = model->next;
        fm_free(model);
    }
    fm_condition_deinit(&pool->watch.wake);
    fm_mutex_deinit(&pool->watch.lock);
    fm_mutex_deinit(&pool->lock);
    fm_mutex_deinit(&pool->shared_lock);
    fm_free(pool->slots);
    fm_free(pool->submitters);
    fm_free(pool->models);
    fm_free(pool->accelerators);
    fm_free(pool->workers);
    fm_free(pool);
}

/* --- what can be asked -------------------------------------------------------------------------
 */

uint32_t fm_pool_accelerator_count(const struct fm_pool *pool)
{
    return pool->accelerator_count;
}

uint32_t fm_pool_worker_count(const struct fm_pool *pool)
{
    return pool->worker_count;
}

void fm_pool_accelerator_stats(struct fm_pool *pool, uint32_t accelerator,
                               struct fm_pool_accelerator_stats *ret_stats)
{
    FM_ASSERT(accelerator < pool->accelerator_count);
    struct fm_pool_accelerator *of = &pool->accelerators[accelerator];
    bool idle = atomic_load_explicit(&of->handed_count, memory_order_acquire) == 0;
    *ret_stats = (struct fm_pool_accelerator_stats){
        .type = pool->type_names[of->type],
        .batches = atomic_load_explicit(&of->batch_count, memory_order_relaxed),
        .brief = atomic_load_explicit(&of->brief_count, memory_order_relaxed),
        .rows = atomic_load_explicit(&of->row_count, memory_order_relaxed),
        .busy_ns = atomic_load_explicit(&of->busy_ns, memory_order_relaxed),
        .busy = atomic_load_explicit(&of->busy, memory_order_relaxed),
        .down = atomic_load_explicit(&of->down, memory_order_relaxed),
        .idle_since_ns = idle ? atomic_load_explicit(&of->idle_since_ns, memory_order_relaxed) : 0,
        .hangs = atomic_load_explicit(&of->hangs, memory_order_relaxed)};
}

uint32_t fm_pool_abandoned_count(const struct fm_pool *pool)
{
    return atomic_load_explicit(&pool->abandoned_count, memory_order_relaxed);
}

uint32_t fm_pool_down_count(const struct fm_pool *pool)
{
    return atomic_load_explicit(&pool->watch.down_count, memory_order_relaxed);
}

void fm_pool_look(struct fm_pool *pool, fm_scheduler_look_fn *look, void *context)
{
    fm_scheduler_look(pool->scheduler, look, context);
}
