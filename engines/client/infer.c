/*
 * Inference, waiting for it or not. See include/fermata/client.h.
 *
 * The request is encoded on the caller's thread, its tensors stay where they are; the answer is
 * decoded on the client's, its tensors stay where they were received.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/client/client_internal.h"

int fm_client_request_take(const struct fm_client *client, const struct fm_client_request *request,
                           struct fm_client_request *ret_request, struct fm_error *reterr)
{
    struct fm_client_request taken = {0};
    if (request == NULL ||
        request->struct_size < offsetof(struct fm_client_request, model) + sizeof(taken.model)) {
        return fm_error_set(reterr, FM_EINVAL, "struct_size of the request is not set");
    }
    size_t size = request->struct_size;
    memcpy(&taken, request, size < sizeof(taken) ? size : sizeof(taken));
    if ((taken.inputs == NULL && taken.input_count > 0) ||
        (taken.outputs == NULL && taken.output_count > 0) ||
        (taken.parameters == NULL && taken.parameter_count > 0)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the request counts what it does not have: a list "
                            "of inputs, outputs or parameters is NULL");
    }
    taken.timeout_ns = taken.timeout_ns > 0 ? taken.timeout_ns : client->timeout_ns;
    *ret_request = taken;
    return 0;
}

/* What decoding asks about, in the call's own memory. */
static int outputs_keep(struct fm_client_call *call, const struct fm_client_request *request)
{
    uint32_t count = request->output_count;
    bool regions = false;
    for (uint32_t i = 0; i < count; i++) {
        regions = regions || request->outputs[i].region != NULL;
    }
    if (!regions) {
        return 0;
    }
    struct fm_client_output *outputs = fm_arena_alloc(&call->arena, count * sizeof(*outputs));
    if (outputs == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        outputs[i].name = fm_arena_strdup(&call->arena, request->outputs[i].name);
        outputs[i].region = request->outputs[i].region != NULL ? "" : NULL;
        if (outputs[i].name == NULL) {
            return FM_ENOMEM;
        }
    }
    call->request.outputs = outputs;
    call->request.output_count = count;
    return 0;
}

static void target_make(struct fm_client_call *call, const struct fm_client_request *request)
{
    if (call->client->endpoint.grpc) {
        fm_text_append_string(&call->target, "/inference.GRPCInferenceService/ModelInfer");
        return;
    }
    fm_text_append_string(&call->target, "/v2/models/");
    fm_client_path_append(&call->target, request->model);
    if (request->version != NULL && request->version[0] != '\0') {
        fm_text_append_string(&call->target, "/versions/");
        fm_client_path_append(&call->target, request->version);
    }
    fm_text_append_string(&call->target, "/infer");
    if (call->message.binary) {
        fm_text_append_format(&call->fields,
                              "Content-Type: application/octet-stream\r\n"
                              "Inference-Header-Content-Length: %zu\r\n",
                              call->message.head.length);
    } else {
        fm_text_append_string(&call->fields, "Content-Type: application/json\r\n");
    }
}

static int call_encode(struct fm_client_call *call, const struct fm_client_request *request,
                       struct fm_error *reterr)
{
    struct fm_client *client = call->client;
    int status = client->endpoint.grpc
                     ? fm_oip_client_encode_grpc(request, &call->message, reterr)
                     : fm_oip_client_encode_json(request, !client->json, &call->message, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", call->what);
    }
    target_make(call, request);
    status = outputs_keep(call, request);
    if (status == 0) {
        status = fm_client_call_pack(call, call->message.parts, call->message.part_count,
                                     call->message.size);
    }
    return status != 0
               ? fm_error_set(reterr, status, "%s: out of memory for the request", call->what)
               : 0;
}

/* The answer of a call that went well so far. */
static int answer_decode(struct fm_client_call *call, struct fm_client_result **ret_result)
{
    struct fm_oip_client_answer answer = {0};
    struct fm_error problem = {0};
    const struct fm_oip_client_body body = {
        .data = call->data,
        .size = call->size,
        .buffer = call->answer,
        .header_length = call->length,
    };
    if (!call->client->endpoint.grpc && call->http_code != 200) {
        return fm_client_call_refused(call);
    }
    int status = call->client->endpoint.grpc
                     ? fm_oip_client_decode_grpc(&body, &call->request, false, &answer, &problem)
                     : fm_oip_client_decode_json(&body, &call->request, &answer, &problem);
    if (status != 0) {
        return fm_client_call_fail(call, status, problem.text);
    }
    *ret_result = fm_client_result_make(&answer);
    return *ret_result != NULL ? 0
                               : fm_client_call_fail(call, FM_ENOMEM,
                                                     "out of memory for the "
                                                     "result");
}

static void infer_finish(struct fm_client_call *call)
{
    struct fm_client_result *result = NULL;
    if (call->status == 0) {
        call->status = answer_decode(call, &result);
    }
    call->done(call->context, call->status, result, &call->error);
}

int fm_client_infer_start(struct fm_client *client, const struct fm_client_request *request,
                          fm_client_done done, void *context, uint64_t *ret_call,
                          struct fm_error *reterr)
{
    struct fm_client_request taken;
    int status = done != NULL ? fm_client_request_take(client, request, &taken, reterr)
                              : fm_error_set(reterr, FM_EINVAL, "there is no `done` to call");
    if (status != 0) {
        return status;
    }
    struct fm_client_call *call = fm_client_call_make(client);
    if (call == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    (void)snprintf(call->what, sizeof(call->what), "inference of model '%.120s'",
                   taken.model != NULL ? taken.model : "");
    call->done = done;
    call->context = context;
    call->finish = infer_finish;
    call->http.method = "POST";
    call->http.deadline_ns = fm_client_deadline(client, taken.timeout_ns);
    call->grpc.deadline_ns = call->http.deadline_ns;
    status = call_encode(call, &taken, reterr);
    status = status == 0 ? fm_client_call_start(call, ret_call, reterr) : status;
    if (status != 0) {
        fm_client_call_free(call);
    }
    return status;
}

/* --- Waiting --- */

struct wait {
    struct fm_client_waiter waiter;
    int status;
    struct fm_client_result *result;
    struct fm_error error;
};

static void wait_done(void *context, int status, struct fm_client_result *result,
                      const struct fm_error *error)
{
    struct wait *wait = context;
    wait->status = status;
    wait->result = result;
    wait->error = *error;
    fm_client_waiter_wake(&wait->waiter);
}

int fm_client_infer(struct fm_client *client, const struct fm_client_request *request,
                    struct fm_client_result **ret_result, struct fm_error *reterr)
{
    struct wait wait = {0};
    int status = fm_client_may_wait(client, reterr);
    if (status != 0) {
        return status;
    }
    fm_client_waiter_init(&wait.waiter);
    status = fm_client_infer_start(client, request, wait_done, &wait, NULL, reterr);
    if (status != 0) {
        fm_client_waiter_wake(&wait.waiter);
        fm_client_waiter_wait(&wait.waiter);
        return status;
    }
    fm_client_waiter_wait(&wait.waiter);
    if (wait.status != 0) {
        return fm_error_set(reterr, wait.status, "%s", wait.error.text);
    }
    *ret_result = wait.result;
    return 0;
}
