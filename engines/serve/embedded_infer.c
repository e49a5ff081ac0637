/*
 * Inferences of this process. See embedded.h.
 *
 * A call is one allocation with all that the request says but the bytes of its tensors, which its
 * inference refers to through a buffer of its own: when the last reference is gone, nobody reads
 * them any more. The answer is moved out of the inference into the call, so that it lives as long
 * as its owner likes.
 */
#include <string.h>

#include "core/proto/oip_named.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/embedded.h"
#include "host/os/os.h"

struct output {
    const char *name;
    struct fm_value value;
};

struct fm_server_call {
    struct fm_server *server;
    struct fm_serve_loop *loop;
    void (*done)(void *context, struct fm_server_call *call);
    void (*inputs_released)(void *context);
    void *context;
    /* Who may still look at it: its owner, the buffer of its inputs, a cancellation on its way. */
    atomic_uint references;
    atomic_uint awaited;        /* before `done` can be called */
    atomic_bool answered;       /* it is its owner's */
    atomic_bool cancel_posted;  /* once */
    struct fm_buffer *borrowed; /* the bytes of its inputs */
    struct fm_loop_task begin_task;
    struct fm_loop_task cancel_task;
    /* The loop's. */
    struct fm_inference *inference; /* while it is on its way */
    bool cancelled;                 /* before it was */

    uint64_t received_ns;
    uint64_t deadline_ns; /* 0: none */
    const char *model;
    uint64_t version;
    const char *traceparent;
    struct fm_oip_named named;

    /* The answer. */
    struct fm_error error;
    struct fm_server_timing timing;
    struct output *outputs; /* one allocation with their names */
    uint32_t output_count;
};

/* --- memory ------------------------------------------------------------------------------------
 */

static void call_unref(struct fm_server_call *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < call->output_count; i++) {
            fm_value_unref(&call->outputs[i].value);
        }
        fm_free(call->outputs);
        fm_free(call);
    }
}

/* One of the two that an answer waits for is there. */
static void settle(struct fm_server_call *call)
{
    if (atomic_fetch_sub_explicit(&call->awaited, 1, memory_order_acq_rel) == 1) {
        atomic_store_explicit(&call->answered, true, memory_order_release);
        call->done(call->context, call);
    }
}

/* On any thread: nobody reads the inputs any more. */
static void inputs_release(void *context)
{
    struct fm_server_call *call = context;
    if (call->inputs_released != NULL) {
        call->inputs_released(call->context);
    } else {
        settle(call);
    }
    call_unref(call);
}

/* Where strings and tables of a call go, one behind the other. */
struct place {
    char *at;
};

static char *string_keep(struct place *place, const char *text)
{
    if (text == NULL) {
        return NULL;
    }
    size_t size = strlen(text) + 1;
    char *kept = memcpy(place->at, text, size);
    place->at += size;
    return kept;
}

static size_t string_size(const char *text)
{
    return text != NULL ? strlen(text) + 1 : 0;
}

/* Everything but the bytes, in one allocation. NULL: no memory. */
static struct fm_server_call *call_create(const struct fm_server_request *request)
{
    size_t inputs = request->input_count * sizeof(struct fm_named_tensor);
    size_t outputs = request->output_count * sizeof(char *);
    size_t strings =
        string_size(request->model) + string_size(request->id) + string_size(request->traceparent);
    for (uint32_t i = 0; i < request->input_count; i++) {
        strings += string_size(request->inputs[i].name);
    }
    for (uint32_t i = 0; i < request->output_count; i++) {
        strings += string_size(request->outputs[i]);
    }
    struct fm_server_call *call = fm_alloc(sizeof *call + inputs + outputs + strings);
    if (call == NULL) {
        return NULL;
    }
    memset(call, 0, sizeof *call);
    struct fm_named_tensor *named = (void *)(call + 1);
    const char **wanted = (void *)((char *)(call + 1) + inputs);
    struct place place = {(char *)(call + 1) + inputs + outputs};
    for (uint32_t i = 0; i < request->input_count; i++) {
        named[i] = request->inputs[i];
        named[i].name = string_keep(&place, request->inputs[i].name);
    }
    for (uint32_t i = 0; i < request->output_count; i++) {
        wanted[i] = string_keep(&place, request->outputs[i]);
    }
    call->model = string_keep(&place, request->model);
    call->version = request->version;
    call->traceparent = string_keep(&place, request->traceparent);
    call->named = (struct fm_oip_named){.id = string_keep(&place, request->id),
                                        .priority = request->priority,
                                        .inputs = named,
                                        .input_count = request->input_count,
                                        .outputs = wanted,
                                        .output_count = request->output_count};
    return call;
}

/* --- on the loop -------------------------------------------------------------------------------
 */

/* An output of the model as the call keeps it: the model's own bytes, unless they are the caller's,
 * which it may change from now on. */
static int output_take(const struct fm_server_call *call, struct fm_value *take,
                       struct fm_value *ret_value)
{
    if (take->buffer != NULL && take->buffer != call->borrowed) {
        *ret_value = *take;
        *take = (struct fm_value){0};
        return 0;
    }
    const struct fm_tensor *tensor = &take->tensor;
    int status =
        fm_value_alloc(ret_value, tensor->dtype, tensor->shape, tensor->rank, tensor->size);
    if (status == 0 && tensor->size > 0) {
        memcpy(ret_value->tensor.data, tensor->data, tensor->size);
    }
    return status;
}

static int answer_make(struct fm_server_call *call, struct fm_error *reterr)
{
    struct fm_inference *inference = call->inference;
    const struct fm_oip_signature *signature = &inference->entry->signature;
    const struct fm_oip_request *request = &inference->decoded;
    int status = fm_oip_named_check(signature, request, inference->outputs, reterr);
    if (status != 0) {
        return status;
    }
    size_t names = 0;
    for (uint32_t i = 0; i < request->output_count; i++) {
        names += strlen(signature->outputs[request->outputs[i].port].name) + 1;
    }
    call->outputs = fm_alloc(request->output_count * sizeof *call->outputs + names + 1);
    if (call->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the answer");
    }
    struct place place = {(char *)(call->outputs + request->output_count)};
    for (uint32_t i = 0; i < request->output_count && status == 0; i++) {
        uint32_t port = request->outputs[i].port;
        struct output *output = &call->outputs[i];
        output->name = string_keep(&place, signature->outputs[port].name);
        status = output_take(call, &inference->outputs[port], &output->value);
        call->output_count += status == 0 ? 1 : 0;
    }
    return status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for the answer");
}

static void timing_take(struct fm_server_call *call, const struct fm_inference *inference)
{
    call->timing.version = inference->entry->version;
    if (inference->submitted && inference->serving->model != NULL &&
        inference->run.pool.computed_ns != 0) {
        const struct fm_pool_request *run = &inference->run.pool;
        call->timing.batch_rows = run->batch_rows;
        call->timing.queue_ns = run->started_ns - run->arrived_ns;
        call->timing.compute_ns = run->done_ns - run->started_ns;
    }
}

/* The answer, call->error, is known. The call may be gone behind this. */
static void answer(struct fm_server_call *call)
{
    struct fm_inference *inference = call->inference;
    call->timing.total_ns = fm_os_now_ns() - call->received_ns;
    call->inference = NULL;
    if (inference != NULL) {
        fm_inference_free(inference);
    }
    fm_buffer_unref(call->borrowed);
    settle(call);
}

static void finish(struct fm_inference *inference, const struct fm_error *error)
{
    struct fm_server_call *call = inference->local;
    if (error->status != 0) {
        call->error = *error;
    } else {
        (void)!answer_make(call, &call->error); /* what is wrong stands in the error */
    }
    timing_take(call, inference);
    if (call->error.status != 0) {
        fm_inference_log(inference, &call->error);
    }
    fm_inference_count(inference, call->error.status != 0 ? &call->error : NULL);
    answer(call);
}

static int submit(struct fm_server_call *call, struct fm_inference *inference,
                  struct fm_error *reterr)
{
    call->named.owner = call->borrowed;
    int status = fm_oip_named_decode(&inference->entry->signature, &call->named,
                                     &inference->decoded, reterr);
    inference->has_decoded = status == 0;
    return status != 0 ? status : fm_inference_submit(inference, call->deadline_ns, reterr);
}

static int begin(struct fm_server_call *call, struct fm_error *reterr)
{
    struct fm_serve_loop *loop = call->loop;
    struct fm_catalog_entry *entry = NULL;
    loop->local_count++;
    if (fm_serve_is_draining(loop->serve)) {
        return fm_embedded_stopped(reterr);
    }
    if (call->cancelled) {
        return fm_error_set(reterr, FM_ECANCELLED, "the request was cancelled");
    }
    int status =
        fm_catalog_view_find(loop->reader.view, call->model, call->version, &entry, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_inference *inference = fm_inference_create(loop, entry);
    if (inference == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    inference->local = call;
    inference->finish = finish;
    inference->received_ns = call->received_ns;
    call->inference = inference;
    fm_serve_trace_begin(inference, "local", call->traceparent, NULL);
    status = submit(call, inference, reterr);
    if (status != 0) {
        timing_take(call, inference);
        fm_inference_log(inference, reterr);
        fm_inference_count(inference, reterr);
    }
    return status;
}

static void begin_task_run(struct fm_loop_task *task)
{
    struct fm_server_call *call = FM_CONTAINER_OF(task, struct fm_server_call, begin_task);
    if (begin(call, &call->error) != 0) {
        answer(call);
    }
}

static void cancel_task_run(struct fm_loop_task *task)
{
    struct fm_server_call *call = FM_CONTAINER_OF(task, struct fm_server_call, cancel_task);
    if (call->inference != NULL) {
        fm_inference_cancel(call->inference);
    } else {
        call->cancelled = true;
    }
    call_unref(call);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static int call_prepare(const struct fm_server_request *request, struct fm_server_call **ret_call,
                        struct fm_error *reterr)
{
    struct fm_server_call *call = call_create(request);
    if (call == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    /* Whose size does not matter: tensors refer to bytes of their own. */
    call->borrowed = fm_buffer_wrap(call, 0, inputs_release, call);
    if (call->borrowed == NULL) {
        fm_free(call);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    call->done = request->done;
    call->inputs_released = request->inputs_released;
    call->context = request->context;
    atomic_init(&call->references, 2);
    atomic_init(&call->awaited, request->inputs_released != NULL ? 1 : 2);
    call->begin_task.run = begin_task_run;
    call->cancel_task.run = cancel_task_run;
    call->received_ns = fm_os_now_ns();
    if (request->timeout_ns > 0) {
        call->deadline_ns = request->timeout_ns > FM_SCHED_TIME_MAX_NS - call->received_ns
                                ? FM_SCHED_TIME_MAX_NS
                                : call->received_ns + request->timeout_ns;
    }
    *ret_call = call;
    return 0;
}

/* Takes a caller's request, which may be of an older header. */
static int request_read(const struct fm_server_request *request,
                        struct fm_server_request *ret_known, struct fm_error *reterr)
{
    *ret_known = (struct fm_server_request){0};
    if (request->struct_size == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the request has no struct_size: set it to sizeof(struct "
                            "fm_server_request)");
    }
    memcpy(ret_known, request,
           request->struct_size < sizeof *ret_known ? request->struct_size : sizeof *ret_known);
    if (ret_known->model == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "the request names no model");
    }
    return 0;
}

int fm_server_infer_async(struct fm_server *server, const struct fm_server_request *request,
                          struct fm_server_call **ret_call, struct fm_error *reterr)
{
    struct fm_server_request known;
    struct fm_server_call *call = NULL;
    int status = request_read(request, &known, reterr);
    if (status == 0 && known.done == NULL) {
        status = fm_error_set(reterr, FM_EINVAL, "the request says nobody to answer: set `done`");
    }
    status = status != 0 ? status : call_prepare(&known, &call, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_serve_loop *loop = fm_embedded_enter(server);
    if (loop == NULL) {
        /* Nobody is to be told: the call was never known. */
        call->inputs_released = NULL;
        atomic_store_explicit(&call->awaited, 2, memory_order_relaxed);
        fm_buffer_unref(call->borrowed);
        call_unref(call);
        return fm_embedded_stopped(reterr);
    }
    /* What a callback begins stays on its loop, without a way there. */
    struct fm_serve_loop *here = fm_embedded_here(server);
    call->server = server;
    call->loop = here != NULL ? here : loop;
    if (ret_call != NULL) {
        *ret_call = call;
    }
    fm_loop_post(call->loop->loop, &call->begin_task);
    fm_embedded_leave(server, loop);
    return 0;
}

void fm_server_call_cancel(struct fm_server_call *call)
{
    if (atomic_load_explicit(&call->answered, memory_order_acquire) ||
        atomic_exchange_explicit(&call->cancel_posted, true, memory_order_relaxed)) {
        return;
    }
    struct fm_serve_loop *loop = fm_embedded_enter(call->server);
    if (loop != NULL) {
        atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
        fm_loop_post(call->loop->loop, &call->cancel_task);
        fm_embedded_leave(call->server, loop);
    }
}

/* --- and waits ---------------------------------------------------------------------------------
 */

struct waiter {
    struct fm_mutex lock;
    struct fm_condition changed;
    struct fm_server_call *call; /* NULL: not yet */
    bool released;
    void (*inputs_released)(void *context);
};

static void waiter_done(void *context, struct fm_server_call *call)
{
    struct waiter *waiter = context;
    fm_mutex_lock(&waiter->lock);
    waiter->call = call;
    fm_condition_signal(&waiter->changed);
    fm_mutex_unlock(&waiter->lock);
}

int fm_server_infer(struct fm_server *server, const struct fm_server_request *request,
                    struct fm_server_call **ret_call, struct fm_error *reterr)
{
    struct fm_server_request known;
    int status = request_read(request, &known, reterr);
    struct fm_serve_loop *loop = status == 0 ? fm_embedded_enter(server) : NULL;
    if (loop != NULL) {
        if (fm_embedded_here(server) != NULL) {
            status = fm_error_set(reterr, FM_EINVAL,
                                  "a callback of the server cannot wait for an inference: it "
                                  "would wait for itself; use fm_server_infer_async");
        }
        fm_embedded_leave(server, loop);
    }
    if (status != 0) {
        return status;
    }
    struct waiter waiter = {0};
    fm_mutex_init(&waiter.lock);
    fm_condition_init(&waiter.changed);
    known.struct_size = sizeof known;
    known.done = waiter_done;
    known.inputs_released = NULL; /* the caller has them back when this returns */
    known.context = &waiter;
    status = fm_server_infer_async(server, &known, NULL, reterr);
    if (status == 0) {
        fm_mutex_lock(&waiter.lock);
        while (waiter.call == NULL) {
            fm_condition_wait(&waiter.changed, &waiter.lock);
        }
        fm_mutex_unlock(&waiter.lock);
        status = waiter.call->error.status;
        if (status == 0) {
            *ret_call = waiter.call;
        } else {
            if (reterr != NULL) {
                *reterr = waiter.call->error;
            }
            call_unref(waiter.call);
        }
    }
    fm_condition_deinit(&waiter.changed);
    fm_mutex_deinit(&waiter.lock);
    return status;
}

/* --- answers -----------------------------------------------------------------------------------
 */

const struct fm_error *fm_server_call_error(const struct fm_server_call *call)
{
    return &call->error;
}

uint32_t fm_server_call_output_count(const struct fm_server_call *call)
{
    return call->error.status == 0 ? call->output_count : 0;
}

const struct fm_tensor *fm_server_call_output(const struct fm_server_call *call, uint32_t index,
                                              const char **ret_name)
{
    if (index >= fm_server_call_output_count(call)) {
        return NULL;
    }
    if (ret_name != NULL) {
        *ret_name = call->outputs[index].name;
    }
    return &call->outputs[index].value.tensor;
}

const struct fm_tensor *fm_server_call_output_find(const struct fm_server_call *call,
                                                   const char *name)
{
    for (uint32_t i = 0; i < fm_server_call_output_count(call); i++) {
        if (strcmp(call->outputs[i].name, name) == 0) {
            return &call->outputs[i].value.tensor;
        }
    }
    return NULL;
}

void fm_server_call_timing(const struct fm_server_call *call, struct fm_server_timing *ret_timing)
{
    uint32_t size = ret_timing->struct_size;
    struct fm_server_timing timing = call->timing;
    timing.struct_size = size;
    memcpy(ret_timing, &timing, size < sizeof timing ? size : sizeof timing);
}

void fm_server_call_free(struct fm_server_call *call)
{
    if (call != NULL) {
        call_unref(call);
    }
}
