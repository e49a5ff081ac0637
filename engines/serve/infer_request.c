/*
 * One inference: HTTP body to tensors, to the executor, back to an HTTP answer. See
 * serve_internal.h.
 *
 * Bodies are decoded on the loop's thread; answers are encoded on the executor's thread that
 * finished the request and go back to the loop as pieces that refer to the output tensors. The
 * struct below is freed on the loop's thread when the last byte was written, or when it is clear
 * that nobody wants the answer.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/log.h"
#include "host/os/os.h"

struct inference {
    struct fm_serve *serve;
    struct fm_catalog_entry *entry;
    struct fm_http_request *http;
    struct fm_oip_request decoded;
    struct fm_oip_response response;
    struct fm_request request;
    struct fm_value *outputs;
    struct fm_text error_body;
    struct fm_http_part error_part;
    struct fm_http_part *parts; /* of a good answer */
    char header_length[24];
};

static void inference_free(void *context)
{
    struct inference *inference = context;
    struct fm_serve *serve = inference->serve;
    for (uint32_t i = 0; inference->outputs != NULL && i < inference->entry->signature.output_count;
         i++) {
        fm_value_unref(&inference->outputs[i]);
    }
    fm_oip_response_deinit(&inference->response);
    fm_oip_request_deinit(&inference->decoded);
    fm_text_deinit(&inference->error_body);
    fm_free(inference->parts);
    fm_free(inference->outputs);
    fm_catalog_entry_unref(inference->entry);
    fm_free(inference);
    serve->in_flight--;
    fm_serve_stop_when_done(serve);
}

/* --- The answer --- */

static void answer_error(struct inference *inference, int status, const char *message)
{
    struct fm_http_answer answer = {.status = fm_status_http(status),
                                    .content_type = "application/json",
                                    .release = inference_free,
                                    .context = inference};
    fm_oip_write_error(&inference->error_body, message);
    if (!inference->error_body.failed) {
        inference->error_part =
            (struct fm_http_part){inference->error_body.data, inference->error_body.length};
        answer.parts = &inference->error_part;
        answer.part_count = 1;
    } else {
        /* An error without its words is no answer; asked again there may be memory for it. */
        answer.status = fm_status_http(FM_ENOMEM);
    }
    if (answer.status == 503) {
        answer.headers[answer.header_count++] = (struct fm_http_header){"Retry-After", "1"};
    }
    fm_http_answer(inference->http, &answer);
}

/* Conditions that a busy server meets every day are no news; a model that fails is. */
static void failure_log(const struct inference *inference, const struct fm_error *error)
{
    if (fm_status_http(error->status) < 500 || error->status == FM_EUNSUPPORTED ||
        error->status == FM_EAGAIN || error->status == FM_EDEADLINE ||
        error->status == FM_ECANCELLED || error->status == FM_EUNAVAILABLE) {
        return;
    }
    fm_log(FM_LOG_ERROR, "inference_failed", FM_LOG_TEXT("model", inference->entry->name),
           FM_LOG_UINT("version", inference->entry->version),
           FM_LOG_TEXT("request_id", inference->decoded.id != NULL ? inference->decoded.id : ""),
           FM_LOG_TEXT("status", fm_status_name(error->status)), FM_LOG_TEXT("reason", error->text),
           FM_LOG_TEXT("next", "answered with an error"));
}

static void answer_failure(struct inference *inference, const struct fm_error *error)
{
    failure_log(inference, error);
    answer_error(inference, error->status,
                 error->text[0] != '\0' ? error->text : fm_status_text(error->status));
}

static const char *const *labels_find(void *context, uint32_t port, size_t *ret_count)
{
    const struct fm_catalog_entry *entry = context;
    const struct fm_model *model = fm_servable_model(entry->servable);
    *ret_count = 0;
    return model != NULL ? fm_model_labels(model, port, ret_count) : NULL;
}

static int response_make(struct inference *inference, struct fm_error *reterr)
{
    struct fm_oip_response *response = &inference->response;
    int status =
        fm_oip_response_encode(&inference->entry->signature, &inference->decoded,
                               inference->outputs, labels_find, inference->entry, response, reterr);
    if (status != 0) {
        return status;
    }
    inference->parts = fm_alloc_zero(response->part_count, sizeof(*inference->parts));
    if (inference->parts == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the answer");
    }
    for (uint32_t i = 0; i < response->part_count; i++) {
        inference->parts[i] =
            (struct fm_http_part){response->parts[i].data, response->parts[i].size};
    }
    return 0;
}

/* On a thread of the executor. */
static void inference_done(struct fm_request *request)
{
    struct inference *inference = request->user;
    struct fm_error error = request->error;
    if (error.status != 0 || response_make(inference, &error) != 0) {
        answer_failure(inference, &error);
        return;
    }
    struct fm_http_answer answer = {.status = 200,
                                    .content_type = "application/json",
                                    .parts = inference->parts,
                                    .part_count = inference->response.part_count,
                                    .release = inference_free,
                                    .context = inference};
    if (inference->response.binary) {
        (void)snprintf(inference->header_length, sizeof(inference->header_length), "%zu",
                       inference->response.head.length);
        answer.content_type = "application/octet-stream";
        answer.headers[answer.header_count++] =
            (struct fm_http_header){"Inference-Header-Content-Length", inference->header_length};
    }
    fm_http_answer(inference->http, &answer);
}

/* --- The request --- */

static void client_left(struct fm_http_request *http)
{
    struct inference *inference = http->user;
    fm_executor_cancel(fm_servable_executor(inference->entry->servable), &inference->request);
}

/* How the body is to be read, from the header fields. */
static int body_describe(const struct fm_http_request *http, struct fm_oip_body *ret_body,
                         struct fm_error *reterr)
{
    *ret_body = (struct fm_oip_body){.data = http->body,
                                     .size = http->body_size,
                                     .buffer = http->body_buffer,
                                     .header_length = FM_OIP_HEADER_ABSENT};
    const char *encoding = fm_http_header_find(http, "Content-Encoding");
    if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "compressed request bodies (Content-Encoding: %.40s) are not supported",
                            encoding);
    }
    const char *header_length = fm_http_header_find(http, "Inference-Header-Content-Length");
    const char *type = fm_http_header_find(http, "Content-Type");
    if (header_length != NULL) {
        if (header_length[0] < '0' || header_length[0] > '9' ||
            fm_parse_uint64(header_length, &ret_body->header_length) != 0 ||
            ret_body->header_length == FM_OIP_HEADER_ABSENT) {
            return fm_error_set(reterr, FM_EINVAL,
                                "Inference-Header-Content-Length must be a number, not '%.40s'",
                                header_length);
        }
    } else if (type != NULL && strncasecmp(type, "image/", 6) == 0) {
        /* A file as it is, for people with curl; they want to read the answer. */
        ret_body->header_length = 0;
        ret_body->raw_answers_json = true;
    }
    return 0;
}

static uint64_t deadline_after(uint64_t timeout_us)
{
    if (timeout_us == 0) {
        return 0;
    }
    uint64_t now_ns = fm_os_now_ns();
    return timeout_us > (UINT64_MAX - now_ns) / 1000 ? UINT64_MAX : now_ns + timeout_us * 1000;
}

/* Decodes and submits. What fails leaves the reason in *reterr. */
static int inference_start(struct inference *inference, struct fm_error *reterr)
{
    const struct fm_oip_signature *signature = &inference->entry->signature;
    struct fm_oip_body body;
    int status = body_describe(inference->http, &body, reterr);
    if (status == 0) {
        status = fm_oip_request_decode(signature, &body, &inference->decoded, reterr);
    }
    if (status != 0) {
        return status;
    }
    if (signature->output_count + 1 > FM_HTTP_PARTS_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "model '%s' has more outputs than one answer holds", signature->name);
    }
    inference->outputs = fm_alloc_zero(signature->output_count, sizeof(*inference->outputs));
    if (inference->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request's outputs");
    }
    inference->request =
        (struct fm_request){.inputs = inference->decoded.inputs,
                            .outputs = inference->outputs,
                            .deadline_ns = deadline_after(inference->decoded.timeout_us),
                            .rows = inference->decoded.rows,
                            .done = inference_done,
                            .user = inference};
    inference->http->user = inference;
    inference->http->cancelled = client_left;
    status =
        fm_executor_submit(fm_servable_executor(inference->entry->servable), &inference->request);
    if (status != 0) {
        *reterr = inference->request.error;
        reterr->status = status;
    }
    return status;
}

void fm_serve_infer(struct fm_serve *serve, struct fm_catalog_entry *entry,
                    struct fm_http_request *http)
{
    struct inference *inference = fm_alloc_zero(1, sizeof(*inference));
    if (inference == NULL) {
        fm_serve_answer_error(http, 503, "out of memory for the request");
        return;
    }
    serve->in_flight++;
    inference->serve = serve;
    inference->entry = entry;
    fm_catalog_entry_ref(entry);
    inference->http = http;
    struct fm_error error = {0};
    if (inference_start(inference, &error) != 0) {
        http->cancelled = NULL;
        answer_failure(inference, &error);
    }
}
