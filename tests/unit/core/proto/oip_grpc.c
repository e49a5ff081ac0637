/*
 * Inference as protobuf: messages made and read by protobuf-c, which shares no code with ours, in
 * every type and both forms; what is referred to and what is copied; shared memory; streams; every
 * mistake named; and one message that another library wrote.
 */
#include "core/proto/oip_grpc.h"

#include "core/proto/protobuf.h"
#include "core/util/memory.h"
#include "host/messages/inference.pb-c.h"
#include "tests/harness/test.h"

typedef Inference__ModelInferRequest Request;
typedef Inference__ModelInferRequest__InferInputTensor Input;

static const struct fm_port in_ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "s", .dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {-1, 2}, .flags = FM_PORT_OPTIONAL},
};
static const struct fm_port out_ports[] = {
    {.name = "y", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "n", .dtype = FM_DTYPE_INT64, .rank = 1, .shape = {-1}},
};
static const struct fm_oip_signature two = {.name = "m",
                                            .version = 12,
                                            .inputs = in_ports,
                                            .input_count = 2,
                                            .outputs = out_ports,
                                            .output_count = 2,
                                            .batch_max = 4};

/* Decodes a copy of the message in a buffer, where it ends aligned. */
static int decode_in(const struct fm_oip_signature *signature, const void *data, size_t size,
                     fm_oip_resolve resolve, struct fm_oip_request *ret_request,
                     struct fm_error *error)
{
    size_t offset = fm_oip_grpc_message_offset(size);
    struct fm_buffer *buffer = fm_buffer_create(offset + size);
    char *copy = (char *)fm_buffer_data(buffer) + offset;
    memcpy(copy, data, size);
    struct fm_oip_body body = {.data = copy, .size = size, .buffer = buffer, .resolve = resolve};
    struct fm_oip_grpc_head head;
    *error = (struct fm_error){0};
    int status = fm_oip_grpc_peek(copy, size, &head, error);
    if (status == 0) {
        status = fm_oip_grpc_decode(signature, &body, &head, ret_request, error);
    }
    fm_buffer_unref(buffer);
    return status;
}

static int decode_message(const struct fm_oip_signature *signature, const Request *message,
                          fm_oip_resolve resolve, struct fm_oip_request *ret_request,
                          struct fm_error *error)
{
    size_t size = inference__model_infer_request__get_packed_size(message);
    uint8_t *data = malloc(size + 1);
    inference__model_infer_request__pack(message, data);
    int status = decode_in(signature, data, size, resolve, ret_request, error);
    free(data);
    return status;
}

/* Sends values through the encoder; the answer as protobuf-c reads it (NULL: it does not). */
static ProtobufCMessage *answer(const struct fm_oip_signature *signature,
                                const struct fm_oip_request *request,
                                const struct fm_value *outputs, const struct fm_oip_grpc_form *form,
                                const ProtobufCMessageDescriptor *descriptor)
{
    struct fm_oip_response response;
    struct fm_error error = {0};
    if (fm_oip_grpc_encode(signature, request, outputs, NULL, NULL, form, &response, &error) != 0) {
        printf("# %s\n", error.text);
        return NULL;
    }
    struct fm_text bytes = {0};
    for (uint32_t i = 0; i < response.part_count; i++) {
        fm_text_append(&bytes, response.parts[i].data, response.parts[i].size);
    }
    ProtobufCMessage *message = NULL;
    if (bytes.length == response.body_size) {
        message =
            protobuf_c_message_unpack(descriptor, NULL, bytes.length, (const uint8_t *)bytes.data);
    }
    fm_text_deinit(&bytes);
    fm_oip_response_deinit(&response);
    return message;
}

static const struct fm_oip_grpc_form unary = {0};

TEST(raw_tensors_are_not_copied)
{
    float x[6] = {1, 2.5f, -3, 4, 5, 6};
    int64_t shape[2] = {2, 3};
    Input input = INFERENCE__MODEL_INFER_REQUEST__INFER_INPUT_TENSOR__INIT;
    input.name = (char *)(uintptr_t) "x";
    input.datatype = (char *)(uintptr_t) "FP32";
    input.shape = shape;
    input.n_shape = 2;
    Input *inputs[1] = {&input};
    ProtobufCBinaryData raw = {sizeof(x), (uint8_t *)x};
    Request message = INFERENCE__MODEL_INFER_REQUEST__INIT;
    message.model_name = (char *)(uintptr_t) "m";
    message.id = (char *)(uintptr_t) "request-1";
    message.inputs = inputs;
    message.n_inputs = 1;
    message.raw_input_contents = &raw;
    message.n_raw_input_contents = 1;
    struct fm_oip_request request;
    struct fm_error error;
    (void)fm_memory_fail_at(0, 0);
    fm_buffer_unref(fm_buffer_create(1));
    uint64_t own = fm_memory_fail_at(0, 0);
    int status = decode_message(&two, &message, NULL, &request, &error);
    uint64_t allocations = fm_memory_fail_at(0, 0);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(allocations - own, 1);
    CHECK_INT_EQ(request.rows, 2);
    CHECK_INT_EQ(request.bytes_copied, 0);
    CHECK_STR_EQ(request.id, "request-1");
    CHECK_MEM_EQ(request.inputs[0].tensor.data, x, sizeof(x));
    CHECK_INT_EQ(request.inputs[1].tensor.dtype, FM_DTYPE_INVALID);
    CHECK_INT_EQ(request.output_count, 2);

    struct fm_value outputs[2] = {request.inputs[0],
                                  {.tensor = {.dtype = FM_DTYPE_INT64, .rank = 1}}};
    struct fm_oip_response response;
    (void)fm_memory_fail_at(0, 0);
    CHECK_INT_EQ(fm_oip_grpc_encode(&two, &request, outputs, NULL, NULL, &unary, &response, &error),
                 0);
    CHECK_INT_EQ(fm_memory_fail_at(0, 0), 0);
    CHECK_INT_EQ(response.part_count, 3);
    CHECK_PTR_EQ(response.parts[1].data, request.inputs[0].tensor.data);
    fm_oip_response_deinit(&response);
    Inference__ModelInferResponse *back = (void *)answer(
        &two, &request, outputs, &unary, &inference__model_infer_response__descriptor);
    CHECK(back != NULL);
    CHECK_STR_EQ(back->model_name, "m");
    CHECK_STR_EQ(back->model_version, "12");
    CHECK_STR_EQ(back->id, "request-1");
    CHECK_INT_EQ(back->n_outputs, 2);
    CHECK_STR_EQ(back->outputs[0]->name, "y");
    CHECK_STR_EQ(back->outputs[0]->datatype, "FP32");
    CHECK_INT_EQ(back->outputs[0]->n_shape, 2);
    CHECK_INT_EQ(back->outputs[0]->shape[1], 3);
    CHECK_STR_EQ(back->outputs[1]->name, "n");
    CHECK_INT_EQ(back->n_raw_output_contents, 2);
    CHECK_INT_EQ(back->raw_output_contents[0].len, sizeof(x));
    CHECK_MEM_EQ(back->raw_output_contents[0].data, x, sizeof(x));
    CHECK_INT_EQ(back->raw_output_contents[1].len, 0);
    CHECK_INT_EQ(back->n_parameters, 0);
    inference__model_infer_response__free_unpacked(back, NULL);
    fm_oip_request_deinit(&request);
}

/* One element of each type, as the typed fields and as raw bytes: both give the same tensor. */
static void both_forms(uint32_t dtype, const void *data, size_t size,
                       Inference__InferTensorContents *contents)
{
    const struct fm_port port = {.name = "t", .dtype = dtype, .rank = 2, .shape = {1, -1}};
    const struct fm_oip_signature signature = {.name = "id",
                                               .version = 1,
                                               .inputs = &port,
                                               .input_count = 1,
                                               .outputs = &port,
                                               .output_count = 1};
    int64_t shape[2] = {1, 2};
    Input input = INFERENCE__MODEL_INFER_REQUEST__INFER_INPUT_TENSOR__INIT;
    Input *inputs[1] = {&input};
    Request message = INFERENCE__MODEL_INFER_REQUEST__INIT;
    ProtobufCBinaryData raw = {size, (uint8_t *)(uintptr_t)data};
    input.name = (char *)(uintptr_t) "t";
    input.datatype = (char *)(uintptr_t)fm_dtype_name(dtype);
    input.shape = shape;
    input.n_shape = 2;
    message.inputs = inputs;
    message.n_inputs = 1;
    for (int typed = 0; typed < 2; typed++) {
        input.contents = typed != 0 ? contents : NULL;
        message.raw_input_contents = &raw;
        message.n_raw_input_contents = typed == 0;
        struct fm_oip_request request;
        struct fm_error error;
        int status = decode_message(&signature, &message, NULL, &request, &error);
        if (typed != 0 && contents == NULL) {
            CHECK_INT_EQ(status, FM_EINVAL);
            continue;
        }
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        CHECK_INT_EQ(request.inputs[0].tensor.size, size);
        CHECK_MEM_EQ(request.inputs[0].tensor.data, data, size);
        Inference__ModelInferResponse *back =
            (void *)answer(&signature, &request, request.inputs, &unary,
                           &inference__model_infer_response__descriptor);
        CHECK(back != NULL);
        CHECK_STR_EQ(back->outputs[0]->datatype, fm_dtype_name(dtype));
        CHECK_INT_EQ(back->raw_output_contents[0].len, size);
        CHECK_MEM_EQ(back->raw_output_contents[0].data, data, size);
        inference__model_infer_response__free_unpacked(back, NULL);
        fm_oip_request_deinit(&request);
    }
}

#define CONTENTS(field, values)                                                    \
    Inference__InferTensorContents field = INFERENCE__INFER_TENSOR_CONTENTS__INIT; \
    field.n_##field = 2;                                                           \
    field.field = (values)

TEST(every_type_in_both_forms)
{
    protobuf_c_boolean bools[2] = {1, 0};
    int32_t ints[2] = {-128, 127};
    int64_t longs[2] = {INT64_MIN, INT64_MAX};
    uint32_t uints[2] = {0, 255};
    uint64_t ulongs[2] = {0, UINT64_MAX};
    float floats[2] = {-0.5f, 3e38f};
    double doubles[2] = {-0.5, 1e308};
    ProtobufCBinaryData texts[2] = {{0, NULL}, {3, (uint8_t *)(uintptr_t) "a\0b"}};
    CONTENTS(bool_contents, bools);
    CONTENTS(int_contents, ints);
    CONTENTS(int64_contents, longs);
    CONTENTS(uint_contents, uints);
    CONTENTS(uint64_contents, ulongs);
    CONTENTS(fp32_contents, floats);
    CONTENTS(fp64_contents, doubles);
    CONTENTS(bytes_contents, texts);
    both_forms(FM_DTYPE_BOOL, "\1\0", 2, &bool_contents);
    both_forms(FM_DTYPE_INT8, "\x80\x7F", 2, &int_contents);
    both_forms(FM_DTYPE_INT16, "\x80\xFF\x7F\0", 4, &int_contents);
    both_forms(FM_DTYPE_INT32, ints, 8, &int_contents);
    both_forms(FM_DTYPE_INT64, longs, 16, &int64_contents);
    both_forms(FM_DTYPE_UINT8, "\0\xFF", 2, &uint_contents);
    both_forms(FM_DTYPE_UINT16, "\0\0\xFF\0", 4, &uint_contents);
    both_forms(FM_DTYPE_UINT32, uints, 8, &uint_contents);
    both_forms(FM_DTYPE_UINT64, ulongs, 16, &uint64_contents);
    both_forms(FM_DTYPE_FP32, floats, 8, &fp32_contents);
    both_forms(FM_DTYPE_FP64, doubles, 16, &fp64_contents);
    both_forms(FM_DTYPE_BYTES, "\0\0\0\0\3\0\0\0a\0b", 11, &bytes_contents);
    both_forms(FM_DTYPE_FP16, "\0\1\2\3", 4, NULL);
    both_forms(FM_DTYPE_BF16, "\0\1\2\3", 4, NULL);
}

/* --- Hand-made messages --- */

static void tensor_begin(struct fm_text *text, const char *name, const char *datatype,
                         const char *shape, size_t rank)
{
    fm_protobuf_append_string(text, 1, name);
    fm_protobuf_append_string(text, 2, datatype);
    fm_protobuf_append_bytes(text, 3, shape, rank);
}

static void parameter(struct fm_text *text, uint32_t number, const char *key, uint32_t kind,
                      uint64_t value, const char *string)
{
    struct fm_text inner = {0};
    struct fm_text entry = {0};
    if (string != NULL) {
        fm_protobuf_append_string(&inner, kind, string);
    } else {
        fm_protobuf_append_uint(&inner, kind, value);
    }
    fm_protobuf_append_string(&entry, 1, key);
    fm_protobuf_append_bytes(&entry, 2, inner.data, inner.length);
    fm_protobuf_append_bytes(text, number, entry.data, entry.length);
    fm_text_deinit(&inner);
    fm_text_deinit(&entry);
}

static void nested(struct fm_text *text, uint32_t number, struct fm_text *inner)
{
    fm_protobuf_append_bytes(text, number, inner->data, inner->length);
    fm_text_deinit(inner);
}

static void good_input(struct fm_text *text)
{
    struct fm_text tensor = {0};
    tensor_begin(&tensor, "x", "FP32", "\1\3", 2);
    nested(text, 5, &tensor);
    fm_protobuf_append_bytes(text, 7, "\0\0\x80?\0\0\0@\0\0@@", 12);
}

static void expect(struct fm_text *text, int status, const char *words)
{
    struct fm_oip_request request = {0};
    struct fm_error error;
    int result =
        decode_in(&two, text->data != NULL ? text->data : "", text->length, NULL, &request, &error);
    if (result == 0) {
        fm_oip_request_deinit(&request);
    }
    fm_text_deinit(text);
    CHECK_STR_CONTAINS(error.text, words);
    CHECK_INT_EQ(result, status);
}

TEST(parameters)
{
    struct fm_text text = {0};
    fm_protobuf_append_string(&text, 1, "m");
    parameter(&text, 4, "timeout", 2, 1500, NULL);
    parameter(&text, 4, "priority", 5, 3, NULL);
    parameter(&text, 4, "triton_enable_empty_final_response", 1, 1, NULL);
    parameter(&text, 4, "triton_whatever", 5, 1, NULL);
    parameter(&text, 4, "sequence_id", 2, 0, NULL);
    parameter(&text, 4, "sequence_id", 3, 0, "");
    parameter(&text, 4, "sequence_start", 1, 0, NULL);
    parameter(&text, 4, "own", 3, 0, "anything");
    good_input(&text);
    struct fm_text output = {0};
    fm_protobuf_append_string(&output, 1, "n");
    parameter(&output, 2, "classification", 2, 2, NULL);
    parameter(&output, 2, "binary_data", 1, 0, NULL);
    nested(&text, 6, &output);
    struct fm_oip_request request;
    struct fm_error error;
    int status = decode_in(&two, text.data, text.length, NULL, &request, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(request.timeout_us, 1500);
    CHECK_INT_EQ(request.priority, 3);
    CHECK(request.empty_final_response);
    CHECK(request.id == NULL);
    CHECK_INT_EQ(request.output_count, 1);
    CHECK_INT_EQ(request.outputs[0].port, 1);
    CHECK_INT_EQ(request.outputs[0].classes, 2);
    CHECK(request.outputs[0].binary);
    fm_oip_request_deinit(&request);
    fm_text_deinit(&text);
    struct fm_text strings = {0};
    parameter(&strings, 4, "timeout", 3, 0, "70");
    parameter(&strings, 4, "priority", 2, 2, NULL);
    good_input(&strings);
    CHECK_INT_EQ(decode_in(&two, strings.data, strings.length, NULL, &request, &error), 0);
    CHECK_INT_EQ(request.timeout_us, 70);
    CHECK_INT_EQ(request.priority, 2);
    fm_oip_request_deinit(&request);
    fm_text_deinit(&strings);
}

TEST(mistakes_in_parameters)
{
    struct fm_text text = {0};
    parameter(&text, 4, "timeout", 2, UINT64_MAX, NULL);
    expect(&text, FM_EINVAL, "parameter timeout (microseconds) must be a whole number from 0 to");
    parameter(&text, 4, "timeout", 3, 0, "soon");
    expect(&text, FM_EINVAL, "parameter timeout");
    parameter(&text, 4, "priority", 1, 1, NULL);
    expect(&text, FM_EINVAL, "parameter priority must be a whole number");
    parameter(&text, 4, "sequence_id", 2, 5, NULL);
    expect(&text, FM_EUNSUPPORTED, "sequences (sequence_id) are not supported");
    parameter(&text, 4, "sequence_id", 3, 0, "a");
    expect(&text, FM_EUNSUPPORTED, "sequences (sequence_id) are not supported");
    fm_protobuf_append_bytes(&text, 3, "\xFF", 1);
    expect(&text, FM_EINVAL, "the request's id is not UTF-8");
}

static void mistaken_input(const char *name, const char *datatype, const char *shape, size_t rank,
                           const char *raw, size_t raw_size, int status, const char *words)
{
    struct fm_text text = {0};
    struct fm_text tensor = {0};
    tensor_begin(&tensor, name, datatype, shape, rank);
    nested(&text, 5, &tensor);
    if (raw != NULL) {
        fm_protobuf_append_bytes(&text, 7, raw, raw_size);
    }
    expect(&text, status, words);
}

TEST(mistakes_in_inputs)
{
    struct fm_text text = {0};
    mistaken_input("z", "FP32", "\1\3", 2, NULL, 0, FM_EINVAL, "model 'm' has no input 'z'");
    mistaken_input("x", "FLOAT", "\1\3", 2, NULL, 0, FM_EINVAL, "unknown datatype 'FLOAT'");
    mistaken_input("x", "INT8", "\1\3", 2, NULL, 0, FM_ETYPE,
                   "is FP32, but the request sends INT8");
    mistaken_input("x", "FP32", "\1\4", 2, NULL, 0, FM_ETYPE, "has shape [-1,3] (batch first)");
    mistaken_input("x", "FP32", "\5\3", 2, (const char[60]){0}, 60, FM_ETYPE,
                   "takes batches of 1 to 4");
    mistaken_input("x", "FP32", "\1\3", 2, NULL, 0, FM_EINVAL, "input 'x' has no data");
    mistaken_input("x", "FP32", "\1\3", 2, "1234", 4, FM_ETYPE,
                   "FP32[1,3] takes 12 bytes, but its entry of raw_input_contents has 4");
    mistaken_input("s", "BYTES", "\1\2", 2, "\0\0\0\0\1\0\0\0", 8, FM_ETYPE,
                   "input 's': BYTES element 1");
    mistaken_input("x", "FP32", "\1\x80", 2, NULL, 0, FM_EINVAL, "mistake in an input's shape");
    good_input(&text);
    good_input(&text);
    expect(&text, FM_EINVAL, "input 'x' is given twice");
    good_input(&text);
    fm_protobuf_append_string(&text, 7, "more");
    expect(&text, FM_EINVAL, "raw_input_contents has 2 entries, but 1 inputs take one");
    good_input(&text);
    struct fm_text tensor = {0};
    tensor_begin(&tensor, "s", "BYTES", "\1\2", 2);
    nested(&text, 5, &tensor);
    expect(&text, FM_EINVAL, "input 's' has no data: raw_input_contents has only 1 entries");
    expect(&text, FM_EINVAL, "input 'x' of model 'm' is missing");
    fm_protobuf_append_uint(&text, 5, 3);
    expect(&text, FM_EINVAL, "no well-formed ModelInferRequest");
    fm_text_append_string(&text, "\x2A\x7F");
    expect(&text, FM_EINVAL, "no well-formed ModelInferRequest");
    struct fm_text output = {0};
    good_input(&text);
    fm_protobuf_append_string(&output, 1, "yy");
    nested(&text, 6, &output);
    expect(&text, FM_EINVAL, "model 'm' has no output 'yy'; did you mean 'y'?");
}

static void contents_mistake(uint32_t field, const char *bytes, size_t size, const char *raw,
                             int status, const char *words)
{
    struct fm_text text = {0};
    struct fm_text tensor = {0};
    struct fm_text contents = {0};
    tensor_begin(&tensor, "x", "FP32", "\1\3", 2);
    fm_protobuf_append_bytes(&contents, field, bytes, size);
    nested(&tensor, 5, &contents);
    nested(&text, 5, &tensor);
    if (raw != NULL) {
        fm_protobuf_append_string(&text, 7, raw);
    }
    expect(&text, status, words);
}

TEST(mistakes_in_contents)
{
    contents_mistake(6, "123456781234", 12, "", FM_EINVAL,
                     "contents field must not be specified when using raw_input_contents for 'x' "
                     "for model ");
    contents_mistake(6, "12345678", 8, NULL, FM_ETYPE,
                     "shape [1,3] needs 3 elements, but its data has fewer");
    contents_mistake(6, "1234567812345678", 16, NULL, FM_ETYPE, "but its data has more");
    contents_mistake(6, "12345", 5, NULL, FM_EINVAL, "mistake in an input's contents");
    contents_mistake(
        7, "12345678", 8, NULL, FM_ETYPE,
        "input 'x' is FP32, whose elements belong in fp32_contents, not in fp64_contents");
    const struct fm_port small[] = {{.name = "x", .dtype = FM_DTYPE_INT8, .rank = 1, .shape = {1}}};
    const struct fm_oip_signature narrow = {
        .name = "m", .inputs = small, .input_count = 1, .outputs = small, .output_count = 1};
    struct fm_text text = {0};
    struct fm_text tensor = {0};
    struct fm_text contents = {0};
    struct fm_oip_request request;
    struct fm_error error;
    tensor_begin(&tensor, "x", "INT8", "\1", 1);
    fm_protobuf_append_uint(&contents, 2, 200);
    nested(&tensor, 5, &contents);
    nested(&text, 5, &tensor);
    CHECK_INT_EQ(decode_in(&narrow, text.data, text.length, NULL, &request, &error), FM_ETYPE);
    CHECK_STR_EQ(error.text, "input 'x': element 0, 200 is not a value of type INT8");
    fm_text_deinit(&text);
}

/* --- Shared memory --- */

static _Alignas(16) char region[64];

static int resolve(void *context, const char *name, uint64_t offset, uint64_t size, bool writable,
                   struct fm_value *ret_value, struct fm_error *reterr)
{
    (void)context;
    (void)writable;
    if (strcmp(name, "r") != 0 || offset > sizeof(region) || size > sizeof(region) - offset) {
        reterr->status = FM_EINVAL;
        snprintf(reterr->text, sizeof(reterr->text), "no such bytes");
        return FM_EINVAL;
    }
    ret_value->tensor.data = region + offset;
    ret_value->tensor.size = (size_t)size;
    return 0;
}

static void add_region(struct fm_text *text, uint32_t number, const char *name, uint64_t offset,
                       uint64_t size)
{
    parameter(text, number, "shared_memory_region", 3, 0, name);
    parameter(text, number, "shared_memory_offset", 2, offset, NULL);
    parameter(text, number, "shared_memory_byte_size", 5, size, NULL);
}

/* x and y in shared memory, s raw. */
static void region_message(struct fm_text *text, const char *name, uint64_t in_size,
                           uint64_t out_size)
{
    struct fm_text tensor = {0};
    tensor_begin(&tensor, "x", "FP32", "\1\3", 2);
    add_region(&tensor, 4, name, 4, in_size);
    nested(text, 5, &tensor);
    tensor_begin(&tensor, "s", "BYTES", "\1\2", 2);
    nested(text, 5, &tensor);
    fm_protobuf_append_bytes(text, 7, "\1\0\0\0a\0\0\0\0", 9);
    struct fm_text output = {0};
    fm_protobuf_append_string(&output, 1, "y");
    add_region(&output, 2, name, 32, out_size);
    nested(text, 6, &output);
}

TEST(shared_memory)
{
    const float values[3] = {1, 2, 3};
    memcpy(region + 4, values, sizeof(values));
    struct fm_text text = {0};
    struct fm_oip_request request;
    struct fm_error error;
    region_message(&text, "r", 12, 16);
    int status = decode_in(&two, text.data, text.length, resolve, &request, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_PTR_EQ(request.inputs[0].tensor.data, region + 4);
    CHECK_INT_EQ(request.inputs[1].tensor.size, 9);
    CHECK_INT_EQ(request.bytes_copied, 0);
    Inference__ModelInferResponse *back = (void *)answer(
        &two, &request, request.inputs, &unary, &inference__model_infer_response__descriptor);
    CHECK(back != NULL);
    CHECK_MEM_EQ(region + 32, values, sizeof(values));
    CHECK_INT_EQ(back->n_raw_output_contents, 1);
    CHECK_INT_EQ(back->raw_output_contents[0].len, 0);
    CHECK_INT_EQ(back->outputs[0]->n_parameters, 3);
    CHECK_STR_EQ(back->outputs[0]->parameters[0]->key, "shared_memory_region");
    CHECK_STR_EQ(back->outputs[0]->parameters[0]->value->string_param, "r");
    CHECK_STR_EQ(back->outputs[0]->parameters[1]->key, "shared_memory_byte_size");
    CHECK_INT_EQ(back->outputs[0]->parameters[1]->value->int64_param, 12);
    CHECK_STR_EQ(back->outputs[0]->parameters[2]->key, "shared_memory_offset");
    CHECK_INT_EQ(back->outputs[0]->parameters[2]->value->int64_param, 32);
    inference__model_infer_response__free_unpacked(back, NULL);
    fm_oip_request_deinit(&request);

    /* Too small for what comes out. */
    fm_text_clear(&text);
    region_message(&text, "r", 12, 8);
    CHECK_INT_EQ(decode_in(&two, text.data, text.length, resolve, &request, &error), 0);
    struct fm_oip_response response;
    CHECK_INT_EQ(
        fm_oip_grpc_encode(&two, &request, request.inputs, NULL, NULL, &unary, &response, &error),
        FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "output 'y' (8 bytes) should be at least 12 bytes to hold");
    fm_oip_request_deinit(&request);
    fm_text_clear(&text);
    region_message(&text, "q", 12, 8);
    CHECK_INT_EQ(decode_in(&two, text.data, text.length, resolve, &request, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "input 'x': no such bytes");
    fm_text_clear(&text);
    region_message(&text, "r", 11, 8);
    CHECK_INT_EQ(decode_in(&two, text.data, text.length, resolve, &request, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "takes 12 bytes, but shared_memory_byte_size is 11");
    CHECK_INT_EQ(decode_in(&two, text.data, text.length, NULL, &request, &error), FM_EUNSUPPORTED);
    fm_text_deinit(&text);
}

/* --- Streams --- */

TEST(streams)
{
    struct fm_text text = {0};
    struct fm_oip_request request;
    struct fm_error error;
    fm_protobuf_append_string(&text, 3, "7");
    good_input(&text);
    CHECK_INT_EQ(decode_in(&two, text.data, text.length, NULL, &request, &error), 0);
    request.output_count = 1;
    for (int final = 0; final < 2; final++) {
        const struct fm_oip_grpc_form form = {.stream = true, .final = final != 0};
        Inference__ModelStreamInferResponse *back =
            (void *)answer(&two, &request, request.inputs, &form,
                           &inference__model_stream_infer_response__descriptor);
        CHECK(back != NULL);
        CHECK_STR_EQ(back->error_message, "");
        CHECK_STR_EQ(back->infer_response->id, "7");
        CHECK_INT_EQ(back->infer_response->n_parameters, 1);
        CHECK_STR_EQ(back->infer_response->parameters[0]->key, "triton_final_response");
        CHECK_INT_EQ(back->infer_response->parameters[0]->value->bool_param, final);
        CHECK_INT_EQ(back->infer_response->raw_output_contents[0].len, 12);
        inference__model_stream_infer_response__free_unpacked(back, NULL);
    }
    const struct fm_oip_grpc_form last = {.stream = true, .final = true};
    struct fm_oip_response response;
    CHECK_INT_EQ(fm_oip_grpc_encode_empty(&two, &request, &last, &response, &error), 0);
    CHECK_INT_EQ(response.part_count, 1);
    Inference__ModelStreamInferResponse *back = inference__model_stream_infer_response__unpack(
        NULL, response.body_size, response.parts[0].data);
    CHECK(back != NULL);
    CHECK_INT_EQ(back->infer_response->n_outputs, 0);
    inference__model_stream_infer_response__free_unpacked(back, NULL);
    fm_oip_response_deinit(&response);
    CHECK_INT_EQ(
        fm_oip_grpc_encode_stream_error("wr\xFFng", request.id, request.id_length, &response), 0);
    back = inference__model_stream_infer_response__unpack(NULL, response.body_size,
                                                          response.parts[0].data);
    CHECK(back != NULL);
    CHECK_STR_EQ(back->error_message, "wr?ng");
    CHECK_STR_EQ(back->infer_response->id, "7");
    inference__model_stream_infer_response__free_unpacked(back, NULL);
    fm_oip_response_deinit(&response);
    fm_oip_request_deinit(&request);
    fm_text_deinit(&text);
}

TEST(versions)
{
    uint64_t version = 9;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_oip_version_parse("", 0, &version, &error), 0);
    CHECK_INT_EQ(version, 0);
    CHECK_INT_EQ(fm_oip_version_parse("-1", 2, &version, &error), 0);
    CHECK_INT_EQ(version, 0);
    CHECK_INT_EQ(fm_oip_version_parse("18446744073709551615", 20, &version, &error), 0);
    CHECK_INT_EQ(version, UINT64_MAX);
    CHECK_INT_EQ(fm_oip_version_parse("18446744073709551616", 20, &version, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_oip_version_parse("0", 1, &version, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_oip_version_parse("1a", 2, &version, &error), FM_EINVAL);
}

/* Written by `protoc --encode` from the text beside it. */
TEST(a_message_of_another_library)
{
    char path[512];
    uint8_t data[1024];
    const char *root = getenv("FM_SOURCE_ROOT");
    snprintf(path, sizeof(path), "%s/tests/data/proto/model_infer_request.pb",
             root != NULL ? root : ".");
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    struct fm_oip_grpc_head head;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_oip_grpc_peek(data, size, &head, &error), 0);
    CHECK_INT_EQ(head.model_name.size, 1);
    CHECK_MEM_EQ(head.model_version.data, "12", 2);
    struct fm_oip_request request;
    int status = decode_in(&two, data, size, NULL, &request, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_STR_EQ(request.id, "\xC3\xA9t\xC3\xA9");
    CHECK_INT_EQ(request.timeout_us, 250000);
    CHECK_INT_EQ(request.priority, 1);
    CHECK_NEAR(((float *)request.inputs[0].tensor.data)[5], -6.5, 0);
    CHECK_INT_EQ(request.inputs[1].tensor.size, 4 * 4 + 7);
    CHECK_INT_EQ(request.output_count, 1);
    CHECK_INT_EQ(request.outputs[0].port, 1);
    CHECK_INT_EQ(request.outputs[0].classes, 3);
    fm_oip_request_deinit(&request);
}

TEST_MAIN()
