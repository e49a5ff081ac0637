/*
 * Inference over gRPC: ModelInfer and ModelStreamInfer. See serve_internal.h.
 *
 * A message is decoded in place; its tensors refer to the buffer it came in. Answers of a stream
 * come in the order of its requests: one that is done before those ahead of it waits. One request
 * of a stream that fails is answered inside it, and the stream lives on.
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"

static void message_release(void *context)
{
    fm_inference_free(context);
}

/* --- answers -----------------------------------------------------------------------------------
 */

/* Sends what was encoded; the inference is freed when it has left. */
static void response_send(struct fm_inference *inference)
{
    struct fm_grpc_service_call *call = inference->call;
    const struct fm_oip_response *response = &inference->response;
    struct fm_grpc_part *parts = inference->few_parts.grpc;
    if (response->part_count > FM_OIP_PARTS_INLINE) {
        parts = fm_alloc(response->part_count * sizeof *parts);
        inference->parts = parts;
    }
    if (parts == NULL || call->grpc == NULL) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_ENOMEM, "out of memory for the answer");
        if (call->grpc != NULL) {
            fm_serve_grpc_finish(call, &error);
        }
        fm_inference_free(inference);
        return;
    }
    for (uint32_t i = 0; i < response->part_count; i++) {
        parts[i] = (struct fm_grpc_part){response->parts[i].data, response->parts[i].size};
    }
    const struct fm_grpc_message message = {.parts = parts,
                                            .part_count = response->part_count,
                                            .release = message_release,
                                            .context = inference};
    fm_grpc_send(call->grpc, &message);
}

/* Answers a request that it is known of what to answer; it is freed. */
static void answer(struct fm_inference *inference)
{
    struct fm_grpc_service_call *call = inference->call;
    if (call->grpc == NULL) {
        fm_inference_free(inference);
    } else if (inference->has_response) {
        response_send(inference);
    } else {
        struct fm_error error = inference->outcome;
        fm_inference_free(inference);
        fm_serve_grpc_finish(call, error.status != 0 ? &error : NULL);
    }
}

static void encode_error(struct fm_inference *inference)
{
    const struct fm_error *error = &inference->outcome;
    const char *text = error->text[0] != '\0' ? error->text : fm_status_text(error->status);
    inference->has_response =
        fm_oip_grpc_encode_stream_error(text, inference->stream_id, inference->stream_id_length,
                                        &inference->response) == 0;
}

static void unary_answer(struct fm_inference *inference)
{
    struct fm_grpc_service_call *call = inference->call;
    call->held++;
    call->first = NULL;
    call->last = NULL;
    call->unanswered--;
    answer(inference);
    if (call->grpc != NULL) {
        fm_serve_grpc_finish(call, NULL);
    }
    call->held--;
    fm_serve_grpc_progress(call);
}

/* Sends what is done and has nothing ahead of it; ends the stream when nothing more comes. */
static void stream_progress(struct fm_grpc_service_call *call)
{
    call->held++;
    while (call->first != NULL && call->first->answered) {
        struct fm_inference *inference = call->first;
        call->first = inference->next;
        call->last = call->first == NULL ? NULL : call->last;
        call->unanswered--;
        answer(inference);
        if (call->grpc != NULL) {
            fm_grpc_handled(call->grpc);
        }
    }
    call->held--;
    fm_serve_grpc_progress(call);
}

/* On the loop: the run is over, or there was none. */
static void finish(struct fm_inference *inference, const struct fm_error *error)
{
    struct fm_grpc_service_call *call = inference->call;
    if (error->status != 0) {
        inference->outcome = *error; /* not when all is well: it is half a kilobyte */
    } else {
        inference->outcome.status = 0;
        const struct fm_oip_grpc_form form = {.stream = !call->unary_infer, .final = true};
        int status = fm_oip_grpc_encode(&inference->entry->signature, &inference->decoded,
                                        inference->outputs, fm_inference_labels, inference->entry,
                                        &form, &inference->response, &inference->outcome);
        inference->has_response = status == 0;
    }
    if (inference->outcome.status != 0) {
        fm_inference_log(inference, &inference->outcome);
    }
    fm_inference_count(inference, inference->outcome.status != 0 ? &inference->outcome : NULL);
    if (call->unary_infer) {
        unary_answer(inference);
        return;
    }
    if (inference->outcome.status != 0) {
        encode_error(inference);
    }
    inference->answered = true;
    stream_progress(call);
}

/* --- requests ----------------------------------------------------------------------------------
 */

/* Finds the model and decodes. On failure there may be an inference all the same, to be answered.
 * *ret_head stays zero when nothing could be read. */
static int start(struct fm_grpc_service_call *call, struct fm_buffer *buffer, const void *data,
                 size_t size, struct fm_oip_grpc_head *ret_head,
                 struct fm_inference **ret_inference, struct fm_error *reterr)
{
    struct fm_serve_loop *loop = call->loop;
    struct fm_oip_grpc_head head;
    uint64_t version = 0;
    int status = fm_oip_grpc_peek(data, size, &head, reterr);
    if (status == 0) {
        *ret_head = head;
        status = fm_oip_version_parse(head.model_version.data, head.model_version.size, &version,
                                      reterr);
    }
    if (status != 0) {
        return status;
    }
    char name[256];
    if (head.model_name.size > 0 &&
        memchr(head.model_name.data, '\0', head.model_name.size) != NULL) {
        return fm_error_set(reterr, FM_EINVAL, "a model's name has no NUL bytes");
    }
    if (head.model_name.size >= sizeof name) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "Request for unknown model: a name of %zu bytes is not found",
                            head.model_name.size);
    }
    if (head.model_name.size > 0) {
        memcpy(name, head.model_name.data, head.model_name.size);
    }
    name[head.model_name.size] = '\0';
    struct fm_catalog_entry *entry = NULL;
    status = fm_catalog_view_find(loop->reader.view, name, version, &entry, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_inference *inference = fm_inference_create(loop, entry);
    if (inference == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    inference->call = call;
    inference->finish = finish;
    bool traces = fm_serve_traces(inference);
    fm_serve_trace_begin(inference, "grpc",
                         traces ? fm_grpc_call_metadata(call->grpc, "traceparent") : NULL,
                         traces ? fm_grpc_call_metadata(call->grpc, "tracestate") : NULL);
    *ret_inference = inference;
    const struct fm_oip_body body = {.data = data,
                                     .size = size,
                                     .buffer = buffer,
                                     .header_length = FM_OIP_HEADER_ABSENT,
                                     .copies_regions = inference->serving->cached,
                                     .resolve = fm_shared_regions_resolve,
                                     .resolve_context = &loop->serve->regions,
                                     .memory = inference->memory,
                                     .memory_size = sizeof inference->memory};
    status = fm_oip_grpc_decode(&entry->signature, &body, &head, &inference->decoded, reterr);
    inference->has_decoded = status == 0;
    return status;
}

static void append(struct fm_grpc_service_call *call, struct fm_inference *inference)
{
    if (call->last != NULL) {
        call->last->next = inference;
    } else {
        call->first = inference;
    }
    call->last = inference;
    call->unanswered++;
}

void fm_serve_grpc_infer(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                         const void *data, size_t size)
{
    struct fm_inference *inference = NULL;
    struct fm_oip_grpc_head head = {0};
    struct fm_error error;
    fm_error_init(&error);
    int status = fm_serve_grpc_guard_infer(call, &error);
    status = status != 0 ? status : start(call, buffer, data, size, &head, &inference, &error);
    fm_serve_guard_end(call->loop);
    if (status == 0) {
        append(call, inference);
        status = fm_inference_submit(inference, call->grpc->deadline_ns, &error);
        if (status == 0) {
            return;
        }
        call->first = NULL;
        call->last = NULL;
        call->unanswered--;
    }
    if (inference != NULL) {
        fm_inference_log(inference, &error);
        fm_inference_count(inference, &error);
        fm_inference_free(inference);
    }
    fm_serve_grpc_finish(call, &error);
}

/* A request that no model was found for is answered in its turn, too: by an inference without one.
 */
void fm_serve_grpc_stream(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                          const void *data, size_t size)
{
    struct fm_inference *inference = NULL;
    struct fm_oip_grpc_head head = {0};
    struct fm_error error = {0};
    int status = fm_serve_grpc_guard_infer(call, &error);
    status = status != 0 ? status : start(call, buffer, data, size, &head, &inference, &error);
    fm_serve_guard_end(call->loop);
    if (inference == NULL) {
        inference = fm_inference_create(call->loop, NULL);
        if (inference == NULL) {
            fm_serve_grpc_finish(call, &error);
            return;
        }
        inference->call = call;
    }
    /* A request that was decoded keeps its message; one that was not is answered before the end of
     * this function. */
    inference->stream_id = (const char *)head.id.data;
    inference->stream_id_length = head.id.size;
    append(call, inference);
    status = status != 0 ? status : fm_inference_submit(inference, call->grpc->deadline_ns, &error);
    if (status != 0) {
        if (inference->entry != NULL) {
            finish(inference, &error);
            return;
        }
        inference->outcome = error;
        encode_error(inference);
        inference->answered = true;
        stream_progress(call);
    }
}

void fm_serve_grpc_infer_cancel(struct fm_grpc_service_call *call)
{
    for (struct fm_inference *inference = call->first; inference != NULL;
         inference = inference->next) {
        fm_inference_cancel(inference);
    }
}
