/*
 * One inference, whatever brought it: to the pool or an executor, and back to its loop. See
 * serve_internal.h.
 *
 * The struct is used again for the loop's next inference: an inference of a small model allocates
 * what its decoder and encoder do and nothing here.
 */
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/os.h"

/* Free ones that a loop keeps. */
#define KEPT_MAX 1024u
/* Priorities of the protocol: 0 is none, 1 the highest. None is in the middle. */
#define PRIORITY_NONE 1u
/* Inputs whose digest would hold up the loop for longer than a millisecond or two are computed. */
#define CACHED_INPUT_BYTES_MAX ((size_t)1 << 20)

struct fm_inference *fm_inference_create(struct fm_serve_loop *loop, struct fm_catalog_entry *entry)
{
    struct fm_inference *inference = loop->inferences;
    if (inference != NULL) {
        loop->inferences = inference->next;
        loop->inference_count--;
    } else {
        inference = fm_alloc_zero(1, sizeof *inference);
        if (inference == NULL) {
            return NULL;
        }
    }
    inference->loop = loop;
    inference->next = NULL;
    inference->deadline_ns = 0;
    inference->entry = entry;
    inference->serving = entry != NULL ? entry->attached : NULL;
    inference->received_ns = fm_os_now_ns();
    inference->number = loop->request_number++;
    inference->slot = loop->slot;
    loop->slot = 0;
    inference->cached = FM_INFERENCE_UNCACHED;
    inference->cache_ns = 0;
    if (entry != NULL) {
        fm_catalog_entry_ref(entry);
    }
    fm_serve_loop_in_flight_add(loop, 1);
    return inference;
}

static void outputs_release(struct fm_inference *inference)
{
    for (uint32_t i = 0; inference->outputs != NULL && i < inference->entry->signature.output_count;
         i++) {
        fm_value_unref(&inference->outputs[i]);
    }
    if (inference->outputs != inference->few_outputs) {
        fm_free(inference->outputs);
        fm_free(inference->wanted);
    }
    inference->outputs = NULL;
    inference->wanted = NULL;
}

void fm_inference_free(struct fm_inference *inference)
{
    struct fm_serve_loop *loop = inference->loop;
    fm_access_leave(loop->serve->access, inference->slot);
    outputs_release(inference);
    if (inference->has_response) {
        fm_oip_response_deinit(&inference->response);
    }
    if (inference->has_decoded) {
        fm_oip_request_deinit(&inference->decoded);
    }
    fm_text_deinit(&inference->error_body);
    fm_free((void *)(uintptr_t)inference->parts);
    if (inference->submitted) {
        atomic_fetch_sub_explicit(&inference->serving->in_flight, 1, memory_order_relaxed);
    }
    if (inference->entry != NULL) {
        fm_catalog_entry_unref(inference->entry);
    }
    inference->has_response = false;
    inference->has_decoded = false;
    inference->submitted = false;
    inference->finished = false;
    inference->answered = false;
    inference->outcome.status = 0;
    inference->parts = NULL;
    inference->http = NULL;
    inference->call = NULL;
    inference->local = NULL;
    if (loop->inference_count < KEPT_MAX) {
        inference->next = loop->inferences;
        loop->inferences = inference;
        loop->inference_count++;
    } else {
        fm_free(inference);
    }
    fm_serve_loop_in_flight_add(loop, -1);
    fm_serve_loop_progress(loop);
}

void fm_inferences_release(struct fm_serve_loop *loop)
{
    while (loop->inferences != NULL) {
        struct fm_inference *next = loop->inferences->next;
        fm_free(loop->inferences);
        loop->inferences = next;
    }
    loop->inference_count = 0;
}

/* --- requests that are recorded ----------------------------------------------------------------
 */

enum { RECORDED_FEW = 16 };

static void recorded_inputs_fill(const struct fm_inference *inference,
                                 struct fm_payload_input *inputs, struct fm_payload *payload)
{
    const struct fm_oip_request *decoded = &inference->decoded;
    for (uint32_t i = 0; i < decoded->input_count; i++) {
        if (decoded->inputs[i].tensor.dtype != FM_DTYPE_INVALID) {
            inputs[payload->input_count++] =
                (struct fm_payload_input){.name = inference->entry->signature.inputs[i].name,
                                          .tensor = decoded->inputs[i].tensor};
        }
    }
    payload->inputs = inputs;
}

/* Nothing, where all are asked for as they are. */
static void recorded_outputs_fill(const struct fm_inference *inference,
                                  struct fm_payload_output *outputs, struct fm_payload *payload)
{
    const struct fm_oip_request *decoded = &inference->decoded;
    bool said = decoded->output_count < inference->entry->signature.output_count;
    for (uint32_t i = 0; i < decoded->output_count; i++) {
        const struct fm_oip_output *output = &decoded->outputs[i];
        outputs[i] = (struct fm_payload_output){
            .name = inference->entry->signature.outputs[output->port].name,
            .classes = output->classes};
        said = said || output->classes > 0;
    }
    payload->outputs = outputs;
    payload->output_count = said ? decoded->output_count : 0;
}

/* As it came, whatever becomes of it. */
static void payload_record(const struct fm_inference *inference)
{
    struct fm_payload_recording *recording = inference->loop->serve->payloads;
    const struct fm_oip_request *decoded = &inference->decoded;
    struct fm_payload_input few_inputs[RECORDED_FEW];
    struct fm_payload_output few_outputs[RECORDED_FEW];
    bool few = decoded->input_count <= RECORDED_FEW && decoded->output_count <= RECORDED_FEW;
    struct fm_payload_input *inputs =
        few ? few_inputs : fm_alloc((decoded->input_count + 1) * sizeof *inputs);
    struct fm_payload_output *outputs =
        few ? few_outputs : fm_alloc((decoded->output_count + 1) * sizeof *outputs);
    struct fm_payload payload = {.kind = FM_PAYLOAD_REQUEST,
                                 .time_ns = inference->received_ns,
                                 .protocol = inference->http != NULL    ? "http"
                                             : inference->local != NULL ? "local"
                                                                        : "grpc",
                                 .model = inference->entry->name,
                                 .version = inference->entry->version,
                                 .id = decoded->id,
                                 .id_length = decoded->id_length,
                                 .priority = decoded->priority};
    if (inference->deadline_ns > inference->received_ns) {
        /* A parameter as it came; of grpc-timeout only the deadline is known. */
        uint64_t left_us = (inference->deadline_ns - inference->received_ns + 999) / 1000;
        payload.timeout_us = decoded->timeout_us != 0 && decoded->timeout_us < left_us
                                 ? decoded->timeout_us
                                 : left_us;
    }
    if (inputs != NULL && outputs != NULL) {
        recorded_inputs_fill(inference, inputs, &payload);
        recorded_outputs_fill(inference, outputs, &payload);
        fm_payload_recording_put(recording, &payload);
    } else {
        fm_payload_recording_lost(recording);
    }
    if (!few) {
        fm_free(inputs);
        fm_free(outputs);
    }
}

/* --- answers that are known --------------------------------------------------------------------
 */

static size_t input_bytes(const struct fm_inference *inference)
{
    size_t size = 0;
    for (uint32_t i = 0; i < inference->decoded.input_count; i++) {
        size += inference->decoded.inputs[i].tensor.size;
    }
    return size;
}

/* True: the outputs are there. Without memory for the key it is computed as if there were no cache.
 */
static bool cache_find(struct fm_inference *inference)
{
    struct fm_serve_loop *loop = inference->loop;
    uint32_t count = inference->entry->signature.output_count;
    if (!inference->serving->cached || input_bytes(inference) > CACHED_INPUT_BYTES_MAX) {
        return false;
    }
    inference->cache_start_ns = fm_os_now_ns();
    if (fm_response_key_make(loop->digester, inference->serving->load, &inference->decoded,
                             inference->wanted, count, &inference->key) != 0) {
        return false;
    }
    bool found =
        fm_response_cache_find(loop->serve->cache, &inference->key, inference->outputs, count);
    inference->cached = found ? FM_INFERENCE_HIT : FM_INFERENCE_MISS;
    inference->cache_ns = fm_os_now_ns() - inference->cache_start_ns;
    return found;
}

static void cache_put(struct fm_inference *inference)
{
    uint64_t start_ns = fm_os_now_ns();
    fm_response_cache_put(inference->loop->serve->cache, &inference->key, inference->outputs,
                          inference->entry->signature.output_count);
    inference->cache_ns += fm_os_now_ns() - start_ns;
}

/* --- the end -----------------------------------------------------------------------------------
 */

/* On the loop. */
static void finish_task(struct fm_loop_task *task)
{
    struct fm_inference *inference = FM_CONTAINER_OF(task, struct fm_inference, task);
    const struct fm_error *error = inference->serving->model != NULL
                                       ? &inference->run.pool.error
                                       : &inference->run.pipeline.error;
    inference->finished = true;
    if (inference->cached == FM_INFERENCE_MISS && error->status == 0) {
        cache_put(inference);
    }
    inference->finish(inference, error);
}

/* On any thread. */
static void pool_done(struct fm_pool_request *request)
{
    struct fm_inference *inference = request->user;
    fm_loop_post(inference->loop->loop, &inference->task);
}

static void pipeline_done(struct fm_request *request)
{
    struct fm_inference *inference = request->user;
    fm_loop_post(inference->loop->loop, &inference->task);
}

/* --- the beginning -----------------------------------------------------------------------------
 */

uint64_t fm_inference_deadline(uint64_t timeout_us, uint64_t deadline_ns)
{
    if (timeout_us == 0) {
        return deadline_ns;
    }
    uint64_t now_ns = fm_os_now_ns();
    uint64_t own_ns = timeout_us > (FM_SCHED_TIME_MAX_NS - now_ns) / 1000
                          ? FM_SCHED_TIME_MAX_NS
                          : now_ns + timeout_us * 1000;
    return deadline_ns != 0 && deadline_ns < own_ns ? deadline_ns : own_ns;
}

static uint32_t priority_of(uint64_t priority)
{
    if (priority == 0) {
        return PRIORITY_NONE;
    }
    return priority <= FM_SCHED_PRIORITY_COUNT ? (uint32_t)priority - 1
                                               : FM_SCHED_PRIORITY_COUNT - 1;
}

/* Memory for the outputs, and which of them are asked for. */
static int outputs_prepare(struct fm_inference *inference, struct fm_error *reterr)
{
    uint32_t count = inference->entry->signature.output_count;
    bool some = inference->decoded.output_count < count;
    if (count <= FM_INFERENCE_FEW) {
        inference->outputs = inference->few_outputs;
        inference->wanted = some ? inference->few_wanted : NULL;
        memset(inference->few_outputs, 0, count * sizeof inference->few_outputs[0]);
        memset(inference->few_wanted, 0, sizeof inference->few_wanted);
    } else {
        inference->outputs = fm_alloc_zero(count, sizeof *inference->outputs);
        inference->wanted = some ? fm_alloc_zero(count, sizeof *inference->wanted) : NULL;
        if (inference->outputs == NULL || (some && inference->wanted == NULL)) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request's outputs");
        }
    }
    for (uint32_t i = 0; some && i < inference->decoded.output_count; i++) {
        inference->wanted[inference->decoded.outputs[i].port] = true;
    }
    return 0;
}

static int pool_submit(struct fm_inference *inference, struct fm_error *reterr)
{
    struct fm_serve_loop *loop = inference->loop;
    struct fm_pool_request *request = &inference->run.pool;
    request->model = inference->serving->model;
    request->inputs = inference->decoded.inputs;
    request->outputs = inference->outputs;
    request->wanted = inference->wanted;
    request->deadline_ns = inference->deadline_ns;
    request->rows = inference->decoded.rows;
    request->priority = priority_of(inference->decoded.priority);
    request->done = pool_done;
    request->user = inference;
    int status = fm_pool_submit(loop->serve->pool, loop->index, request);
    if (status != 0) {
        *reterr = request->error;
        return status;
    }
    loop->submitted = true;
    return 0;
}

static int pipeline_submit(struct fm_inference *inference, struct fm_error *reterr)
{
    struct fm_request *request = &inference->run.pipeline;
    *request = (struct fm_request){.inputs = inference->decoded.inputs,
                                   .outputs = inference->outputs,
                                   .deadline_ns = inference->deadline_ns,
                                   .rows = inference->decoded.rows,
                                   .priority = priority_of(inference->decoded.priority),
                                   .done = pipeline_done,
                                   .user = inference};
    int status = fm_executor_submit(fm_servable_executor(inference->entry->servable), request);
    if (status != 0) {
        *reterr = request->error;
        reterr->status = status;
    }
    return status;
}

int fm_inference_submit(struct fm_inference *inference, uint64_t deadline_ns,
                        struct fm_error *reterr)
{
    struct fm_serve_loop *loop = inference->loop;
    struct fm_serving *serving = inference->serving;
    inference->deadline_ns = fm_inference_deadline(inference->decoded.timeout_us, deadline_ns);
    inference->task.run = finish_task;
    if (loop->serve->payloads != NULL &&
        fm_payload_recording_wants(loop->serve->payloads, &loop->payload_random)) {
        payload_record(inference);
    }
    int status = outputs_prepare(inference, reterr);
    if (status != 0) {
        return status;
    }
    if (cache_find(inference)) {
        static const struct fm_error none = {0};
        inference->finished = true;
        inference->finish(inference, &none);
        return 0;
    }
    if (atomic_load_explicit(&serving->in_flight, memory_order_relaxed) >= serving->requests_max) {
        return fm_error_set(reterr, FM_EAGAIN,
                            "model '%s': Exceeds maximum queue size: %u requests are in flight",
                            inference->entry->name, (unsigned)serving->requests_max);
    }
    atomic_fetch_add_explicit(&serving->in_flight, 1, memory_order_relaxed);
    inference->submitted = true;
    status = serving->model != NULL ? pool_submit(inference, reterr)
                                    : pipeline_submit(inference, reterr);
    inference->finished = status != 0;
    return status;
}

void fm_inference_cancel(struct fm_inference *inference)
{
    struct fm_serve_loop *loop = inference->loop;
    if (!inference->submitted || inference->finished) {
        return;
    }
    if (inference->serving->model != NULL) {
        fm_pool_cancel(loop->serve->pool, loop->index, &inference->run.pool);
        loop->submitted = true;
    } else {
        fm_executor_cancel(fm_servable_executor(inference->entry->servable),
                           &inference->run.pipeline);
    }
}

void fm_inference_flush(struct fm_serve_loop *loop)
{
    if (loop->submitted) {
        loop->submitted = false;
        fm_pool_flush(loop->serve->pool, loop->index);
    }
}

const char *const *fm_inference_labels(void *context, uint32_t port, size_t *ret_count)
{
    const struct fm_catalog_entry *entry = context;
    const struct fm_model *model = fm_servable_model(entry->servable);
    *ret_count = 0;
    return model != NULL ? fm_model_labels(model, port, ret_count) : NULL;
}
