/*
 * Fuzzes core/proto/oip_client: answers of a server that may be anything. What is decoded is whole,
 * and every tensor fits its type, shape and bytes; an answer over gRPC that protobuf-c reads, too,
 * has the same names, shapes and bytes there. The first byte chooses the form and who owns the
 * bytes.
 */
#include <string.h>

#include "core/proto/oip_client.h"
#include "core/proto/protobuf.h"
#include "core/util/error.h"
#include "host/messages/inference.pb-c.h"
#include "tests/fuzz/check.h"

enum { FORM = 7, JSON_WHOLE = 0, JSON_BINARY, DOCUMENTS, GRPC, GRPC_STREAM };
enum { OWNED = 16, ODD = 32, ASKED = 64 };

static const struct fm_client_output wanted[] = {{.name = "y", .region = "out"}, {.name = "r"}};
static const struct fm_client_request asked = {
    .model = "m", .outputs = wanted, .output_count = sizeof(wanted) / sizeof(wanted[0])};

static void check_outputs(const struct fm_oip_client_answer *answer)
{
    FUZZ_CHECK(answer->output_count <= FM_OIP_CLIENT_OUTPUTS_MAX && !fm_fuzz_canary);
    for (uint32_t i = 0; i < answer->output_count; i++) {
        const struct fm_oip_client_output *output = &answer->outputs[i];
        FUZZ_CHECK(output->name != NULL);
        if (output->value.tensor.data != NULL) {
            FUZZ_CHECK(fm_tensor_check(&output->value.tensor, NULL) == 0);
            FUZZ_CHECK(output->value.buffer != NULL);
        }
    }
}

/* The same bytes as protobuf-c reads them; NULL: it calls them malformed. */
static void check_other(const struct fm_oip_client_answer *answer,
                        const Inference__ModelInferResponse *other)
{
    if (other == NULL) {
        return;
    }
    FUZZ_CHECK(strcmp(answer->model, other->model_name) == 0);
    FUZZ_CHECK(strcmp(answer->id, other->id) == 0);
    FUZZ_CHECK(answer->output_count == other->n_outputs);
    for (size_t i = 0; i < other->n_outputs; i++) {
        const struct fm_tensor *tensor = &answer->outputs[i].value.tensor;
        FUZZ_CHECK(strcmp(answer->outputs[i].name, other->outputs[i]->name) == 0);
        FUZZ_CHECK(tensor->rank == other->outputs[i]->n_shape);
        FUZZ_CHECK(tensor->rank == 0 || memcmp(tensor->shape, other->outputs[i]->shape,
                                               tensor->rank * sizeof(int64_t)) == 0);
        if (other->n_raw_output_contents == other->n_outputs && tensor->data != NULL) {
            const ProtobufCBinaryData *raw = &other->raw_output_contents[i];
            FUZZ_CHECK(raw->len == tensor->size &&
                       (raw->len == 0 || memcmp(raw->data, tensor->data, raw->len) == 0));
        }
    }
}

static void check_grpc(const struct fm_oip_client_answer *answer,
                       const struct fm_oip_client_body *body, bool stream)
{
    const uint8_t *data = (const uint8_t *)body->data;
    if (!stream) {
        Inference__ModelInferResponse *other =
            inference__model_infer_response__unpack(NULL, body->size, data);
        check_other(answer, other);
        if (other != NULL) {
            inference__model_infer_response__free_unpacked(other, NULL);
        }
        return;
    }
    Inference__ModelStreamInferResponse *outer =
        inference__model_stream_infer_response__unpack(NULL, body->size, data);
    if (outer != NULL) {
        FUZZ_CHECK((answer->error_text != NULL) == (outer->error_message[0] != '\0'));
        if (answer->error_text == NULL) {
            check_other(answer, outer->infer_response);
        }
        inference__model_stream_infer_response__free_unpacked(outer, NULL);
    }
}

static void read_documents(const char *data, size_t size)
{
    struct fm_text text = {0};
    if (fm_oip_client_error_read(data, size, &text)) {
        FUZZ_CHECK(text.failed || text.data == NULL || strlen(text.data) <= text.length);
    }
    fm_text_deinit(&text);
    bool flag = false;
    (void)fm_oip_client_flag_read(data, size, "ready", &flag);
    struct fm_arena arena;
    struct fm_client_model model;
    struct fm_error error = {0};
    fm_arena_init(&arena, 1024);
    if (fm_oip_client_model_read(data, size, &arena, &model, &error) == 0) {
        FUZZ_CHECK(model.name != NULL && model.platform != NULL);
        for (uint32_t i = 0; i < model.input_count; i++) {
            FUZZ_CHECK(model.inputs[i].name != NULL && model.inputs[i].rank <= FM_RANK_MAX);
        }
    } else {
        FUZZ_CHECK(error.status != 0 && error.text[0] != '\0');
    }
    fm_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    uint32_t form = data[0] & FORM;
    size_t odd = (data[0] & ODD) != 0 ? 1 : 0;
    struct fm_buffer *buffer = fm_buffer_create(size - 1 + odd);
    if (buffer == NULL) {
        return 0;
    }
    char *bytes = (char *)fm_buffer_data(buffer) + odd;
    memcpy(bytes, data + 1, size - 1);
    struct fm_oip_client_body body = {.data = bytes,
                                      .size = size - 1,
                                      .buffer = (data[0] & OWNED) != 0 ? buffer : NULL,
                                      .header_length = FM_OIP_HEADER_ABSENT};
    const char *end = memchr(bytes, '\n', body.size);
    if (form == JSON_BINARY && end != NULL) {
        body.header_length = (uint64_t)(end - bytes);
    }
    const struct fm_client_request *request = (data[0] & ASKED) != 0 ? &asked : NULL;
    struct fm_oip_client_answer answer;
    struct fm_error error = {0};
    if (form == DOCUMENTS) {
        read_documents(bytes, body.size);
    } else {
        bool grpc = form >= GRPC;
        bool stream = form == GRPC_STREAM;
        int status = grpc ? fm_oip_client_decode_grpc(&body, request, stream, &answer, &error)
                          : fm_oip_client_decode_json(&body, request, &answer, &error);
        if (status == 0) {
            check_outputs(&answer);
            if (grpc && request == NULL) {
                check_grpc(&answer, &body, stream);
            }
            fm_oip_client_answer_deinit(&answer);
        } else {
            FUZZ_CHECK(error.status == status && error.text[0] != '\0');
        }
    }
    fm_buffer_unref(buffer);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

static size_t seed_grpc(bool stream, uint8_t *data, size_t capacity)
{
    struct fm_text tensor = {0};
    struct fm_text answer = {0};
    struct fm_text text = {0};
    fm_protobuf_append_string(&tensor, 1, "y");
    fm_protobuf_append_string(&tensor, 2, "FP32");
    fm_protobuf_append_bytes(&tensor, 3, "\1\2", 2);
    fm_protobuf_append_string(&answer, 1, "m");
    fm_protobuf_append_string(&answer, 2, "1");
    fm_protobuf_append_string(&answer, 3, "id");
    fm_protobuf_append_bytes(&answer, 5, tensor.data, tensor.length);
    fm_protobuf_append_bytes(&answer, 6, "01234567", 8);
    fm_text_append_char(&text, stream ? GRPC_STREAM | OWNED : GRPC);
    if (stream) {
        fm_protobuf_append_bytes(&text, 2, answer.data, answer.length);
    } else {
        fm_text_append(&text, answer.data, answer.length);
    }
    fm_text_deinit(&tensor);
    fm_text_deinit(&answer);
    return fm_fuzz_bytes(&text, data, capacity);
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "\x40{\"model_name\":\"m\",\"model_version\":\"1\",\"id\":\"a\",\"outputs\":[{\"name\":"
        "\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1.5,-2e3]},{\"data\":[\"a\"],"
        "\"shape\":[1],\"name\":\"s\",\"datatype\":\"BYTES\"}]}",
        "\x11{\"outputs\":[{\"name\":\"y\",\"datatype\":\"INT32\",\"shape\":[2],\"parameters\":"
        "{\"binary_data_size\":8}}]}\n01234567",
        "\x02{\"error\":\"no such \\u006dodel\",\"ready\":true}",
        "\x02{\"name\":\"m\",\"platform\":\"p\",\"versions\":[\"1\"],\"inputs\":[{\"name\":\"x\","
        "\"datatype\":\"FP32\",\"shape\":[-1,3]}],\"outputs\":[]}",
    };
    const size_t count = sizeof(seeds) / sizeof(seeds[0]);
    return index < count       ? fm_fuzz_text(seeds[index], data, capacity)
           : index < count + 2 ? seed_grpc(index > count, data, capacity)
                               : 0;
}
