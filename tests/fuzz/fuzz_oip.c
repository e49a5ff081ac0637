/*
 * Fuzzes core/proto/oip: any body either decodes into tensors that are whole and fit the model, and
 * whose echo can be encoded, or gives an error. The first byte chooses the model, the second how
 * long the JSON is said to be.
 */
#include <string.h>

#include "core/proto/oip.h"
#include "tests/fuzz/check.h"

static const struct fm_port ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "s", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {-1}, .flags = FM_PORT_OPTIONAL},
    {.name = "i", .dtype = FM_DTYPE_INT8, .rank = 1, .shape = {-1}, .flags = FM_PORT_OPTIONAL},
    {.name = "h", .dtype = FM_DTYPE_FP16, .rank = 0, .flags = FM_PORT_OPTIONAL},
};

static _Alignas(16) char region[64];

static int resolve(void *context, const char *name, uint64_t offset, uint64_t size, bool writable,
                   struct fm_value *ret_value, struct fm_error *reterr)
{
    (void)context;
    (void)writable;
    FUZZ_CHECK(name[0] != '\0');
    if (offset > sizeof(region) || size > sizeof(region) - offset) {
        *reterr = (struct fm_error){.status = FM_EINVAL, .text = "not there"};
        return FM_EINVAL;
    }
    ret_value->tensor.data = region + offset;
    ret_value->tensor.size = (size_t)size;
    return 0;
}

static void check(const struct fm_oip_signature *signature, const struct fm_oip_request *request)
{
    struct fm_error error = {0};
    for (uint32_t i = 0; i < signature->input_count; i++) {
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        if (tensor->dtype != FM_DTYPE_INVALID) {
            FUZZ_CHECK(tensor->dtype == signature->inputs[i].dtype);
            FUZZ_CHECK(fm_tensor_check(tensor, &error) == 0);
            FUZZ_CHECK(fm_shape_matches(&signature->inputs[i], tensor->shape, tensor->rank));
        }
    }
    FUZZ_CHECK(request->output_count <= signature->output_count);
    struct fm_oip_response response;
    if (fm_oip_response_encode(signature, request, request->inputs, NULL, NULL, &response,
                               &error) == 0) {
        size_t total = 0;
        for (uint32_t i = 0; i < response.part_count; i++) {
            total += response.parts[i].size;
        }
        FUZZ_CHECK(total == response.body_size && !fm_fuzz_canary);
        fm_oip_response_deinit(&response);
    }
}

/* What is remembered of a request says the same as reading it. */
static void check_memo(const struct fm_oip_signature *signature, struct fm_oip_body *body,
                       const struct fm_oip_request *plain)
{
    struct fm_oip_memo memo = {0};
    body->memo = &memo;
    for (int i = 0; i < 2; i++) {
        struct fm_oip_request request;
        struct fm_error error = {0};
        if (fm_oip_request_decode(signature, body, &request, &error) != 0) {
            FUZZ_CHECK(error.status == FM_ENOMEM);
            break;
        }
        FUZZ_CHECK(request.rows == plain->rows && request.timeout_us == plain->timeout_us &&
                   request.priority == plain->priority && request.id_length == plain->id_length &&
                   (plain->id == NULL || memcmp(request.id, plain->id, plain->id_length) == 0) &&
                   request.output_count == plain->output_count);
        for (uint32_t at = 0; at < signature->input_count; at++) {
            const struct fm_tensor *a = &request.inputs[at].tensor;
            const struct fm_tensor *b = &plain->inputs[at].tensor;
            FUZZ_CHECK(a->dtype == b->dtype && a->rank == b->rank && a->size == b->size &&
                       memcmp(a->shape, b->shape, a->rank * sizeof(a->shape[0])) == 0 &&
                       (a->size == 0 || memcmp(a->data, b->data, a->size) == 0));
        }
        check(signature, &request);
        fm_oip_request_deinit(&request);
    }
    fm_oip_memo_deinit(&memo);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    uint32_t count = 1 + data[0] % 4u;
    const struct fm_oip_signature signature = {
        .name = "m",
        .version = 1,
        .inputs = (data[0] & 64u) != 0 ? ports + 4 - count : ports,
        .input_count = count,
        .outputs = (data[0] & 64u) != 0 ? ports + 4 - count : ports,
        .output_count = count,
        .batch_max = (data[0] & 128u) != 0 && (data[0] & 64u) == 0 && count == 1 ? 4 : 0};
    struct fm_oip_body body = {
        .data = (const char *)data + 2, .size = size - 2, .header_length = FM_OIP_HEADER_ABSENT};
    if (data[1] != 0) {
        body.header_length = data[1] == 255  ? 0
                             : data[1] < 128 ? (uint64_t)data[1] * 4
                                             : size - 2 - (255u - data[1]) % (size - 1);
    }
    body.raw_answers_json = (data[0] & 32u) != 0;
    body.resolve = (data[0] & 8u) != 0 ? resolve : NULL;
    /* With an owner too, so that tensors refer to the body. */
    if ((data[0] & 16u) != 0) {
        body.buffer = fm_buffer_create(size - 2);
        if (body.buffer == NULL) {
            return 0;
        }
        memcpy(fm_buffer_data(body.buffer), data + 2, size - 2);
        body.data = fm_buffer_data(body.buffer);
    }
    struct fm_oip_request request;
    struct fm_error error = {0};
    int status = fm_oip_request_decode(&signature, &body, &request, &error);
    if (status == 0) {
        check(&signature, &request);
        check_memo(&signature, &body, &request);
        fm_oip_request_deinit(&request);
    } else {
        FUZZ_CHECK(error.status == status && error.text[0] != '\0');
    }
    fm_buffer_unref(body.buffer);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char head[] =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",";
    static const char *const bodies[] = {
        ("\"data\":[[1,2.5,3]]}],\"outputs\":[{\"name\":\"x\",\"parameters\":{\"classification\":2}"
         "}"
         "],"
         "\"parameters\":{\"timeout\":5},\"id\":\"a\"}"),
        ("\"data\":[1,2,3]},{\"name\":\"s\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"a\","
         "\"b\\u0041\"]},"
         "{\"name\":\"i\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[1,-128]}]}"),
        ("\"parameters\":{\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":12}}],"
         "\"outputs\":[{\"name\":\"x\",\"parameters\":{\"shared_memory_region\":\"r\","
         "\"shared_memory_offset\":20,\"shared_memory_byte_size\":20}}]}"),
        ("\"parameters\":{\"binary_data_size\":12}}],\"parameters\":{\"binary_data_output\":true}}"
         "0123456789ab"),
    };
    /* Model and length: one input; three of them; shared memory; one whose tensor is the last 12
     * bytes. */
    static const uint8_t choices[][2] = {{0, 0}, {2, 0}, {8, 0}, {16, 243}};
    if (index >= sizeof(bodies) / sizeof(bodies[0])) {
        return 0;
    }
    size_t head_length = sizeof(head) - 1;
    size_t length = strlen(bodies[index]);
    if (2 + head_length + length > capacity) {
        return 0;
    }
    memcpy(data, choices[index], 2);
    memcpy(data + 2, head, head_length);
    memcpy(data + 2 + head_length, bodies[index], length);
    return 2 + head_length + length;
}
