/*
 * Inference over REST: a body to tensors, and tensors to an answer. See serve_internal.h.
 *
 * Answers go out as pieces that refer to the output tensors; the inference is freed when the last
 * byte was written, or when it is clear that nobody wants the answer.
 */
#include <assert.h>
#include <string.h>
#include <strings.h>

#include "core/plan/pipeline.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"

static void inference_release(void *context)
{
    fm_inference_free(context);
}

static void answer_error(struct fm_inference *inference, const struct fm_error *error)
{
    fm_inference_log(inference, error);
    fm_inference_count(inference, error);
    struct fm_http_answer answer = {.status = fm_status_http(error->status),
                                    .content_type = "application/json",
                                    .release = inference_release,
                                    .context = inference};
    fm_oip_write_error(&inference->error_body,
                       error->text[0] != '\0' ? error->text : fm_status_text(error->status));
    if (!inference->error_body.failed) {
        inference->few_parts.http[0] =
            (struct fm_http_part){inference->error_body.data, inference->error_body.length};
        answer.parts = inference->few_parts.http;
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

/* The JSON, and the bytes of each output. */
static_assert(FM_MODEL_PORTS_MAX + 1 <= FM_HTTP_PARTS_MAX, "an answer holds all of a model's");
static_assert(FM_PIPELINE_PORTS_MAX + 1 <= FM_HTTP_PARTS_MAX, "or of a pipeline's outputs");

static int parts_make(struct fm_inference *inference, const struct fm_http_part **ret_parts,
                      struct fm_error *reterr)
{
    const struct fm_oip_response *response = &inference->response;
    struct fm_http_part *parts = inference->few_parts.http;
    if (response->part_count > FM_OIP_PARTS_INLINE) {
        parts = fm_alloc(response->part_count * sizeof *parts);
        inference->parts = parts;
    }
    if (parts == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the answer");
    }
    for (uint32_t i = 0; i < response->part_count; i++) {
        parts[i] = (struct fm_http_part){response->parts[i].data, response->parts[i].size};
    }
    *ret_parts = parts;
    return 0;
}

/* At the end of the text; where it begins. */
static const char *number_write(char *text, size_t size, size_t number)
{
    text[--size] = '\0';
    do {
        text[--size] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return text + size;
}

static void finish(struct fm_inference *inference, const struct fm_error *error)
{
    struct fm_error failure = {0};
    const struct fm_http_part *parts = NULL;
    inference->http->cancelled = NULL;
    if (error->status == 0) {
        int status = fm_oip_response_encode(&inference->entry->signature, &inference->decoded,
                                            inference->outputs, fm_inference_labels,
                                            inference->entry, &inference->response, &failure);
        inference->has_response = status == 0;
        status = status != 0 ? status : parts_make(inference, &parts, &failure);
        error = &failure;
    }
    if (error->status != 0) {
        answer_error(inference, error);
        return;
    }
    fm_inference_count(inference, NULL);
    struct fm_http_answer answer = {.status = 200,
                                    .content_type = "application/json",
                                    .parts = parts,
                                    .part_count = inference->response.part_count,
                                    .compress = true,
                                    .release = inference_release,
                                    .context = inference};
    if (inference->response.binary) {
        answer.content_type = "application/octet-stream";
        answer.headers[answer.header_count++] = (struct fm_http_header){
            "Inference-Header-Content-Length",
            number_write(inference->header_length, sizeof inference->header_length, parts[0].size)};
    }
    fm_http_answer(inference->http, &answer);
}

static void client_left(struct fm_http_request *http)
{
    fm_inference_cancel(http->user);
}

/* How the body is to be read, from the header fields. */
static int body_describe(const struct fm_serve_loop *loop, const struct fm_http_request *http,
                         struct fm_oip_body *ret_body, struct fm_error *reterr)
{
    *ret_body = (struct fm_oip_body){.data = http->body,
                                     .size = http->body_size,
                                     .buffer = http->body_buffer,
                                     .header_length = FM_OIP_HEADER_ABSENT,
                                     .resolve = fm_shared_regions_resolve,
                                     .resolve_context = &loop->serve->regions};
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

static int start(struct fm_inference *inference, struct fm_error *reterr)
{
    struct fm_oip_body body;
    int status = body_describe(inference->loop, inference->http, &body, reterr);
    if (status == 0) {
        body.memo = &inference->serving->memos[inference->loop->index];
        body.copies_regions = inference->serving->cached;
        body.memory = inference->memory;
        body.memory_size = sizeof inference->memory;
        status =
            fm_oip_request_decode(&inference->entry->signature, &body, &inference->decoded, reterr);
        inference->has_decoded = status == 0;
    }
    if (status != 0) {
        return status;
    }
    inference->finish = finish;
    inference->http->user = inference;
    inference->http->cancelled = client_left;
    return fm_inference_submit(inference, 0, reterr);
}

void fm_serve_http_infer(struct fm_serve_loop *loop, struct fm_catalog_entry *entry,
                         struct fm_http_request *http)
{
    struct fm_inference *inference = fm_inference_create(loop, entry);
    if (inference == NULL) {
        fm_serve_http_error(http, 503, "out of memory for the request");
        return;
    }
    inference->http = http;
    const char *parent =
        fm_serve_traces(inference) ? fm_http_header_find(http, "traceparent") : NULL;
    fm_serve_trace_begin(inference, "http", parent,
                         parent != NULL ? fm_http_header_find(http, "tracestate") : NULL);
    struct fm_error error;
    fm_error_init(&error);
    if (start(inference, &error) != 0) {
        http->cancelled = NULL;
        answer_error(inference, &error);
    }
}
