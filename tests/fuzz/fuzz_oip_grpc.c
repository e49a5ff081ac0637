/*
 * Fuzzes core/proto/oip_grpc and core/proto/protobuf against protobuf-c, which shares no code with
 * them: a message that both read has the same names, parameters and tensors, what we decode is
 * whole and fits the model, and what we encode protobuf-c reads back with the same bytes. The first
 * byte chooses the model.
 */
#include <string.h>

#include "core/proto/oip_grpc.h"
#include "core/proto/protobuf.h"
#include "host/messages/inference.pb-c.h"
#include "tests/fuzz/check.h"

static const struct fm_port ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "s", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {-1}, .flags = FM_PORT_OPTIONAL},
    {.name = "i", .dtype = FM_DTYPE_INT8, .rank = 1, .shape = {-1}, .flags = FM_PORT_OPTIONAL},
    {.name = "l", .dtype = FM_DTYPE_UINT64, .rank = 0, .flags = FM_PORT_OPTIONAL},
};

static _Alignas(16) char region[256];

static int resolve(void *context, const char *name, uint64_t offset, uint64_t size, bool writable,
                   struct fm_value *ret_value, struct fm_error *reterr)
{
    (void)context;
    (void)name;
    (void)writable;
    if (offset > sizeof(region) || size > sizeof(region) - offset) {
        reterr->status = FM_EINVAL;
        reterr->text[0] = '!';
        reterr->text[1] = '\0';
        return FM_EINVAL;
    }
    ret_value->tensor.data = region + offset;
    ret_value->tensor.size = (size_t)size;
    return 0;
}

/* The answer that echoes the request, as the other implementation reads it. */
static void check_answer(const struct fm_oip_signature *signature,
                         const struct fm_oip_request *request, bool stream)
{
    const struct fm_oip_grpc_form form = {.stream = stream, .final = true};
    struct fm_oip_response response;
    struct fm_error error = {0};
    if (fm_oip_grpc_encode(signature, request, request->inputs, NULL, NULL, &form, &response,
                           &error) != 0) {
        FUZZ_CHECK(error.status != 0 && error.text[0] != '\0');
        return;
    }
    struct fm_text bytes = {0};
    for (uint32_t i = 0; i < response.part_count; i++) {
        FUZZ_CHECK(response.parts[i].size > 0);
        fm_text_append(&bytes, response.parts[i].data, response.parts[i].size);
    }
    FUZZ_CHECK(bytes.length == response.body_size);
    Inference__ModelStreamInferResponse *outer = NULL;
    Inference__ModelInferResponse *message = NULL;
    if (stream) {
        outer = inference__model_stream_infer_response__unpack(NULL, bytes.length,
                                                               (const uint8_t *)bytes.data);
        message = outer != NULL ? outer->infer_response : NULL;
    } else {
        message = inference__model_infer_response__unpack(NULL, bytes.length,
                                                          (const uint8_t *)bytes.data);
    }
    FUZZ_CHECK(message != NULL && !fm_fuzz_canary);
    if (message != NULL) {
        FUZZ_CHECK(message->n_outputs == request->output_count);
        FUZZ_CHECK(message->n_raw_output_contents == request->output_count);
        for (uint32_t i = 0; i < request->output_count; i++) {
            const struct fm_oip_output *wanted = &request->outputs[i];
            const struct fm_tensor *tensor = &request->inputs[wanted->port].tensor;
            const ProtobufCBinaryData *raw = &message->raw_output_contents[i];
            FUZZ_CHECK(strcmp(message->outputs[i]->name, ports[wanted->port].name) == 0);
            if (wanted->classes == 0 && wanted->region.name == NULL) {
                FUZZ_CHECK(message->outputs[i]->n_shape == tensor->rank);
                FUZZ_CHECK(raw->len == tensor->size &&
                           (raw->len == 0 || memcmp(raw->data, tensor->data, raw->len) == 0));
            }
        }
    }
    if (stream) {
        protobuf_c_message_free_unpacked((ProtobufCMessage *)outer, NULL);
    } else {
        protobuf_c_message_free_unpacked((ProtobufCMessage *)message, NULL);
    }
    fm_text_deinit(&bytes);
    fm_oip_response_deinit(&response);
}

/* What the other implementation made of the same bytes; NULL: it reads them as malformed. */
static void check_request(const struct fm_oip_signature *signature,
                          const struct fm_oip_request *request,
                          const Inference__ModelInferRequest *other)
{
    uint32_t given = 0;
    for (uint32_t i = 0; i < signature->input_count; i++) {
        struct fm_error error = {0};
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        if (tensor->dtype == FM_DTYPE_INVALID) {
            continue;
        }
        given++;
        FUZZ_CHECK(tensor->dtype == signature->inputs[i].dtype);
        FUZZ_CHECK(fm_tensor_check(tensor, &error) == 0);
        FUZZ_CHECK(fm_shape_matches(&signature->inputs[i], tensor->shape, tensor->rank));
    }
    FUZZ_CHECK(request->output_count <= signature->output_count);
    if (other == NULL) {
        return;
    }
    FUZZ_CHECK(other->n_inputs == given);
    size_t raw = 0;
    for (size_t i = 0; i < other->n_inputs; i++) {
        const Inference__ModelInferRequest__InferInputTensor *input = other->inputs[i];
        uint32_t port = 0;
        while (port < signature->input_count && strcmp(ports[port].name, input->name) != 0) {
            port++;
        }
        FUZZ_CHECK(port < signature->input_count);
        const struct fm_tensor *tensor = &request->inputs[port].tensor;
        FUZZ_CHECK(input->n_shape == tensor->rank);
        FUZZ_CHECK(tensor->rank == 0 ||
                   memcmp(input->shape, tensor->shape, tensor->rank * sizeof(int64_t)) == 0);
        bool in_region = (char *)tensor->data >= region && (char *)tensor->data <= region + 256;
        if (input->contents != NULL) {
            FUZZ_CHECK(tensor->dtype != FM_DTYPE_FP32 || tensor->size == 0 ||
                       memcmp(input->contents->fp32_contents, tensor->data, tensor->size) == 0);
            FUZZ_CHECK(tensor->dtype != FM_DTYPE_UINT64 ||
                       memcmp(input->contents->uint64_contents, tensor->data, 8) == 0);
        } else if (input->n_parameters == 0 && !in_region) {
            FUZZ_CHECK(raw < other->n_raw_input_contents);
            const ProtobufCBinaryData *bytes = &other->raw_input_contents[raw++];
            FUZZ_CHECK(bytes->len == tensor->size &&
                       (bytes->len == 0 || memcmp(bytes->data, tensor->data, bytes->len) == 0));
        } else {
            raw = SIZE_MAX / 2; /* of shared memory or not: the order is no longer known here */
            break;
        }
    }
    FUZZ_CHECK(raw >= SIZE_MAX / 2 || raw == other->n_raw_input_contents);
    FUZZ_CHECK(other->n_outputs == 0 || other->n_outputs == request->output_count);
    FUZZ_CHECK(strcmp(other->id, request->id != NULL ? request->id : "") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    uint32_t count = 1 + data[0] % 4u;
    const struct fm_oip_signature signature = {.name = "m",
                                               .version = 1,
                                               .inputs = ports,
                                               .input_count = count,
                                               .outputs = ports,
                                               .output_count = count,
                                               .batch_max = (data[0] & 128u) != 0 ? 4 : 0};
    struct fm_oip_body body = {.size = size - 1, .resolve = (data[0] & 32u) != 0 ? resolve : NULL};
    _Alignas(max_align_t) char memory[1024];
    if ((data[0] & 4u) != 0) {
        body.memory = memory;
        body.memory_size = sizeof(memory);
    }
    size_t offset = (data[0] & 64u) != 0 ? fm_oip_grpc_message_offset(body.size) : 1;
    struct fm_buffer *buffer = fm_buffer_create(offset + body.size);
    if (buffer == NULL) {
        return 0;
    }
    memcpy((char *)fm_buffer_data(buffer) + offset, data + 1, body.size);
    body.data = (char *)fm_buffer_data(buffer) + offset;
    body.buffer = (data[0] & 16u) != 0 ? buffer : NULL;
    struct fm_oip_grpc_head head;
    struct fm_oip_request request;
    struct fm_error error = {0};
    int status = fm_oip_grpc_peek(body.data, body.size, &head, &error);
    if (status == 0) {
        status = fm_oip_grpc_decode(&signature, &body, &head, &request, &error);
    }
    if (status == 0) {
        Inference__ModelInferRequest *other =
            inference__model_infer_request__unpack(NULL, body.size, (const uint8_t *)body.data);
        check_request(&signature, &request, other);
        if (other != NULL) {
            inference__model_infer_request__free_unpacked(other, NULL);
        }
        check_answer(&signature, &request, (data[0] & 8u) != 0);
        fm_oip_request_deinit(&request);
    } else {
        FUZZ_CHECK(error.status == status && error.text[0] != '\0');
    }
    fm_buffer_unref(buffer);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

static void append_tensor(struct fm_text *text, const char *name, const char *datatype,
                          const char *shape, size_t rank, uint32_t field, const char *contents,
                          size_t size)
{
    struct fm_text tensor = {0};
    fm_protobuf_append_string(&tensor, 1, name);
    fm_protobuf_append_string(&tensor, 2, datatype);
    fm_protobuf_append_bytes(&tensor, 3, shape, rank);
    if (contents != NULL) {
        struct fm_text inner = {0};
        fm_protobuf_append_bytes(&inner, field, contents, size);
        fm_protobuf_append_bytes(&tensor, 5, inner.data, inner.length);
        fm_text_deinit(&inner);
    }
    fm_protobuf_append_bytes(text, 5, tensor.data, tensor.length);
    fm_text_deinit(&tensor);
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const choices = "\x10\x53\xDB\x21";
    struct fm_text text = {0};
    if (index > 3) {
        return 0;
    }
    fm_text_append_char(&text, choices[index]);
    fm_protobuf_append_string(&text, 1, "m");
    fm_protobuf_append_string(&text, 3, "id");
    fm_text_append(&text, "\x22\x0D\x0A\x07timeout\x12\x02\x10\x05", 15);
    if (index == 1) {
        append_tensor(&text, "x", "FP32", "\1\3", 2, 6, "0123456789ab", 12);
        append_tensor(&text, "i", "INT8", "\2", 1, 2, "\5\6", 2);
        append_tensor(&text, "s", "BYTES", "\1", 1, 8, "word", 4);
        append_tensor(&text, "l", "UINT64", "", 0, 5, "\x96\x01", 2);
    } else {
        append_tensor(&text, "x", "FP32", "\1\3", 2, 0, NULL, 0);
        append_tensor(&text, "s", "BYTES", "\1", 1, 0, NULL, 0);
        fm_protobuf_append_string(&text, 7, "0123456789ab");
        fm_protobuf_append_bytes(&text, 7, "\2\0\0\0ab", 6);
    }
    if (index == 3) {
        fm_text_append(&text, "\x32\x03\x0A\x01x", 5);
    }
    return fm_fuzz_bytes(&text, data, capacity);
}
