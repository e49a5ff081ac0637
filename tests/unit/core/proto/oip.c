/*
 * Infer requests and responses: every type in JSON and binary, both ways; every mistake named;
 * classification; the raw form; documents.
 */
#include "core/proto/oip.h"

#include "core/proto/json.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_port two_ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "ids",
     .dtype = FM_DTYPE_INT64,
     .rank = 2,
     .shape = {-1, 1},
     .flags = FM_PORT_OPTIONAL},
};
static const struct fm_port out_ports[] = {
    {.name = "y", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}},
    {.name = "half", .dtype = FM_DTYPE_FP16, .rank = 2, .shape = {-1, 2}},
};
static const struct fm_oip_signature two = {.name = "m",
                                            .version = 3,
                                            .inputs = two_ports,
                                            .input_count = 2,
                                            .outputs = out_ports,
                                            .output_count = 2,
                                            .batch_max = 4};

static int decode(const struct fm_oip_signature *signature, const char *json, const void *tail,
                  size_t tail_size, int binary, struct fm_oip_request *ret_request,
                  struct fm_error *error)
{
    size_t length = strlen(json);
    char *data = malloc(length + tail_size + 1);
    memcpy(data, json, length);
    if (tail_size > 0) {
        memcpy(data + length, tail, tail_size);
    }
    struct fm_oip_body body = {.data = data,
                               .size = length + tail_size,
                               .header_length = binary ? length : FM_OIP_HEADER_ABSENT};
    *error = (struct fm_error){0};
    int status = fm_oip_request_decode(signature, &body, ret_request, error);
    free(data);
    return status;
}

#define Y_ONLY ",\"outputs\":[{\"name\":\"y\"}]"

TEST(json_flat_nested_and_in_any_order)
{
    static const char *const bodies[] = {
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[1,2.5,-3e0,4,"
        "5,6]}]" Y_ONLY "}",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":[[1,2.5,-3],["
        "4,5,6]]}]" Y_ONLY "}",
        "{\"inputs\":[{\"data\":[[1,2.5,-3],[4,5,6]],\"datatype\":\"FP32\",\"x\":{\"y\":[]},"
        "\"shape\":[2,3],\"name\":\"x\"}]" Y_ONLY ",\"more\":1}",
    };
    static const float expected[] = {1, 2.5f, -3, 4, 5, 6};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct fm_oip_request request;
        struct fm_error error;
        int status = decode(&two, bodies[i], NULL, 0, 0, &request, &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        CHECK_INT_EQ(request.rows, 2);
        CHECK_INT_EQ(request.inputs[0].tensor.rank, 2);
        CHECK_MEM_EQ(request.inputs[0].tensor.data, expected, sizeof(expected));
        CHECK_INT_EQ(request.inputs[1].tensor.dtype, FM_DTYPE_INVALID);
        CHECK_INT_EQ(request.output_count, 1);
        CHECK(!request.outputs[0].binary);
        CHECK(request.id == NULL);
        fm_oip_request_deinit(&request);
    }
}

TEST(small_parts_lie_in_the_callers_memory_where_they_fit)
{
    static const char json[] = "{\"id\":\"a\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],"
                               "\"datatype\":\"FP32\",\"data\":[1,2,3]}]" Y_ONLY "}";
    static _Alignas(max_align_t) char memory[1024];
    for (size_t size = 0; size <= sizeof(memory); size += sizeof(memory) / 4) {
        struct fm_oip_request request;
        struct fm_error error = {0};
        const struct fm_oip_body body = {.data = json,
                                         .size = sizeof(json) - 1,
                                         .header_length = FM_OIP_HEADER_ABSENT,
                                         .memory = memory,
                                         .memory_size = size};
        memset(memory, 0xA5, sizeof(memory));
        CHECK_INT_EQ(fm_oip_request_decode(&two, &body, &request, &error), 0);
        CHECK_INT_EQ((char *)request.inputs == memory, size >= sizeof(memory) / 2);
        CHECK_STR_EQ(request.id, "a");
        CHECK_INT_EQ(request.output_count, 1);
        CHECK_INT_EQ(request.inputs[1].tensor.dtype, FM_DTYPE_INVALID);
        CHECK_PTR_EQ(request.outputs[0].region.name, NULL);
        fm_oip_request_deinit(&request);
    }
}

TEST(parameters_and_outputs)
{
    struct fm_oip_request request;
    struct fm_error error;
    CHECK_INT_EQ(decode(&two,
                        "{\"id\":\"a\\u00e9\",\"parameters\":{\"timeout\":1500,\"priority\":2,"
                        "\"binary_data_output\":true,\"sequence_id\":0,"
                        "\"own\":[1]},\"outputs\":[{\"name\":\"half\"},{\"name\":\"y\","
                        "\"parameters\":{\"binary_data\":false,"
                        "\"classification\":2}}],\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],"
                        "\"datatype\":\"FP32\","
                        "\"parameters\":{\"binary_data_size\":12}}]}",
                        "\0\0\x80?\0\0\0@\0\0@@", 12, 1, &request, &error),
                 0);
    CHECK_STR_EQ(request.id, "a\xC3\xA9");
    CHECK_INT_EQ(request.timeout_us, 1500);
    CHECK_INT_EQ(request.priority, 2);
    CHECK_INT_EQ(request.output_count, 2);
    CHECK_INT_EQ(request.outputs[0].port, 1);
    CHECK(request.outputs[0].binary);
    CHECK(!request.outputs[1].binary);
    CHECK_INT_EQ(request.outputs[1].classes, 2);
    CHECK_NEAR(((float *)request.inputs[0].tensor.data)[2], 3, 0);
    fm_oip_request_deinit(&request);
}

struct mistake {
    const char *json;
    int status;
    const char *text;
};

#define X(members) "{\"inputs\":[{" members "}]" Y_ONLY "}"

TEST(mistakes_are_named)
{
    static const struct mistake rows[] = {
        {"", FM_EINVAL, "ends too early"},
        {"[]", FM_EINVAL, "must be a JSON object"},
        {"{}x", FM_EINVAL, "line 1, column 3"},
        {"{}", FM_EINVAL, "input 'x' of model 'm' is missing"},
        {"{\"inputs\":{}}", FM_EINVAL, "inputs must be an array"},
        {"{\"inputs\":[1]}", FM_EINVAL, "inputs must be an array of objects"},
        {X("\"name\":1"), FM_EINVAL, "name must be a string"},
        {X("\"name\":\"xx\""), FM_EINVAL, "model 'm' has no input 'xx'; did you mean 'x'?"},
        {X("\"name\":\"something\""), FM_EINVAL, "it has: x, ids"},
        {X("\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), FM_EINVAL, "has no name"},
        {X("\"name\":\"x\",\"datatype\":\"FP32\",\"data\":[1,2,3]"), FM_EINVAL, "has no shape"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"data\":[1,2,3]"), FM_EINVAL, "has no datatype"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\""), FM_EINVAL, "has no data"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FLOAT\",\"data\":[]"), FM_EINVAL,
         "unknown datatype 'FLOAT'"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP64\",\"data\":[1,2,3]"), FM_ETYPE,
         "is FP32, but the request sends FP64"},
        {X("\"name\":\"x\",\"shape\":[3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), FM_ETYPE,
         "has shape [-1,3] (batch first), but the request sends [3]"},
        {X("\"name\":\"x\",\"shape\":[1,-3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), FM_EINVAL,
         "whole numbers of at least 0"},
        {X("\"name\":\"x\",\"shape\":[9,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"), FM_ETYPE,
         "27 elements, but its data has fewer"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2]"), FM_ETYPE,
         "fewer"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), FM_ETYPE,
         "more"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[[1],[2],[3]]"), FM_ETYPE,
         "nesting"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,[2,3]]"), FM_ETYPE,
         "nesting"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[[[1,2,3]]]"), FM_ETYPE,
         "nesting"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,\"3\"]"), FM_ETYPE,
         "element 2 is not a value of type FP32"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,null,3]"), FM_ETYPE,
         "element 1, null is not"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,NaN,3]"), FM_EINVAL,
         "malformed"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,1e39,3]"), FM_ETYPE,
         "1e39"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3],\"data\":[1,2,"
           "3]"),
         FM_EINVAL, "twice"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]},{\"name\":"
           "\"x\""),
         FM_EINVAL, "given twice"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_"
           "size\":12}"),
         FM_EINVAL, "only 0 bytes are left"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_"
           "size\":0}"),
         FM_ETYPE, "takes 12 bytes"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_"
           "size\":-1}"),
         FM_EINVAL, "whole number"},
        {X("\"name\":\"x\",\"parameters\":{\"shared_memory_region\":\"r\"}"), FM_EUNSUPPORTED,
         "shared memory"},
        {X("\"name\":\"x\",\"shape\":[5,3],\"datatype\":\"FP32\",\"data\":[1,2,3,1,2,3,1,2,3,1,2,3,"
           "1,2,3]"),
         FM_ETYPE, "takes batches of 1 to 4"},
        {X("\"name\":\"x\",\"shape\":[0,3],\"datatype\":\"FP32\",\"data\":[]"), FM_ETYPE,
         "takes batches of 1 to 4"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]},{\"name\":"
           "\"ids\",\"shape\":[2,1],\"datatype\":\"INT64\",\"data\":[1,2]"),
         FM_ETYPE, "inputs before it have 1"},
        {X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]},{\"name\":"
           "\"ids\",\"shape\":[1,1],\"datatype\":\"INT64\",\"data\":[1.5]"),
         FM_ETYPE, "1.5 is not a value of type INT64"},
        {"{\"inputs\":[],\"outputs\":[{\"name\":\"z\"}]}", FM_EINVAL, "has no output 'z'"},
        {"{\"inputs\":[],\"outputs\":[{}]}", FM_EINVAL, "an output has no name"},
        {"{\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}", FM_EINVAL, "asked for twice"},
        {"{\"parameters\":{\"sequence_id\":5}}", FM_EUNSUPPORTED, "sequences"},
        {"{\"parameters\":{\"timeout\":-5}}", FM_EINVAL, "timeout"},
        {"{\"parameters\":[]}", FM_EINVAL, "must be an object"},
        {"{\"id\":5}", FM_EINVAL, "id must be a string"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]}]}",
         FM_EINVAL, "'half' is FP16, which has no JSON form"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_oip_request request;
        struct fm_error error;
        int status = decode(&two, rows[i].json, NULL, 0, 0, &request, &error);
        if (status != rows[i].status || strstr(error.text, rows[i].text) == NULL) {
            printf("# %s: %d, %s\n", rows[i].json, status, error.text);
        }
        CHECK_INT_EQ(status, rows[i].status);
        CHECK_STR_CONTAINS(error.text, rows[i].text);
    }
    struct fm_oip_request request;
    struct fm_error error;
    CHECK_INT_EQ(decode(&two,
                        X("\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"data\":[1,2,3]"),
                        "zz", 2, 1, &request, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "2 bytes at the end of the body belong to no input");
}

/* One input and one output of type `dtype`, shape [2,2], identity. */
static void round_trip(uint32_t dtype, const void *data, size_t size, int binary_in, int binary_out)
{
    struct fm_port port = {.name = "t", .dtype = dtype, .rank = 2, .shape = {2, -1}};
    const struct fm_oip_signature signature = {.name = "id",
                                               .version = 1,
                                               .inputs = &port,
                                               .input_count = 1,
                                               .outputs = &port,
                                               .output_count = 1};
    struct fm_tensor tensor = {
        .dtype = dtype, .rank = 2, .shape = {2, 2}, .data = (void *)(uintptr_t)data, .size = size};
    struct fm_value value = {.tensor = tensor};
    struct fm_oip_output wanted = {.port = 0, .binary = binary_in != 0};
    struct fm_oip_request asked = {.outputs = &wanted, .output_count = 1};
    struct fm_oip_response response;
    struct fm_error error = {0};
    /* A response's outputs array is an inputs array, so the encoder makes the request. */
    CHECK_INT_EQ(fm_oip_response_encode(&signature, &asked, &value, NULL, NULL, &response, &error),
                 0);
    struct fm_text json = {0};
    const char *outputs = strstr(response.head.data, "\"outputs\":");
    CHECK(outputs != NULL);
    fm_text_append_format(&json, "{\"parameters\":{\"binary_data_output\":%s},\"inputs\":%s",
                          binary_out ? "true" : "false", outputs + 10);
    struct fm_oip_request request;
    int status = decode(&signature, json.data, binary_in ? response.parts[1].data : NULL,
                        binary_in ? response.parts[1].size : 0, binary_in, &request, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_INT_EQ(request.inputs[0].tensor.size, size);
    CHECK_MEM_EQ(request.inputs[0].tensor.data, data, size);
    CHECK_INT_EQ(request.outputs[0].binary, binary_out);
    struct fm_oip_response again;
    CHECK_INT_EQ(
        fm_oip_response_encode(&signature, &request, request.inputs, NULL, NULL, &again, &error),
        0);
    CHECK_INT_EQ(again.part_count, binary_out ? 2 : 1);
    CHECK_INT_EQ(again.binary, binary_out);
    if (binary_out) {
        CHECK_PTR_EQ(again.parts[1].data, request.inputs[0].tensor.data);
        CHECK_INT_EQ(again.body_size, again.head.length + size);
    }
    fm_oip_response_deinit(&again);
    fm_oip_response_deinit(&response);
    fm_oip_request_deinit(&request);
    fm_text_deinit(&json);
}

TEST(every_type_survives_both_forms)
{
    uint64_t state = 7;
    for (int round = 0; round < 50; round++) {
        unsigned char bytes[4 * 8];
        for (size_t i = 0; i < sizeof(bytes); i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (unsigned char)(state >> 56);
        }
        for (uint32_t dtype = FM_DTYPE_BOOL; dtype <= FM_DTYPE_BF16; dtype++) {
            unsigned char data[sizeof(bytes)];
            memcpy(data, bytes, sizeof(bytes));
            size_t size = 4 * fm_dtype_bits(dtype) / 8;
            if (dtype == FM_DTYPE_BYTES) {
                size = 28;
                memcpy(data, "\5\0\0\0a\"\\\n\xC2\0\0\0\0\1\0\0\0\0\6\0\0\0\xE2\x82\xACxyz", 28);
                data[8] = 'z';
            } else if (dtype == FM_DTYPE_BOOL) {
                for (size_t i = 0; i < size; i++) {
                    data[i] &= 1u;
                }
            } else if (dtype == FM_DTYPE_FP32 || dtype == FM_DTYPE_FP64) {
                for (size_t i = 0; i < 4; i++) {
                    /* Finite values only: JSON has no others. */
                    data[(i + 1) * size / 4 - 1] &= 0xBFu;
                }
            }
            int json_form = dtype != FM_DTYPE_FP16 && dtype != FM_DTYPE_BF16;
            for (int form = 0; form < 4; form++) {
                if (json_form || form == 3) {
                    round_trip(dtype, data, size, form & 1, form >> 1);
                    if (fm_test_failed) {
                        printf("# type %s, form %d\n", fm_dtype_name(dtype), form);
                        return;
                    }
                }
            }
        }
    }
}

TEST(integer_ranges)
{
    static const struct {
        uint32_t dtype;
        const char *good;
        const char *bad;
    } rows[] = {
        {FM_DTYPE_UINT8, "[0,255]", "[0,256]"},
        {FM_DTYPE_INT8, "[-128,127]", "[-129,0]"},
        {FM_DTYPE_UINT16, "[0,65535]", "[-1,0]"},
        {FM_DTYPE_INT16, "[-32768,32767]", "[0,32768]"},
        {FM_DTYPE_UINT32, "[0,4294967295]", "[0,4294967296]"},
        {FM_DTYPE_INT32, "[-2147483648,2147483647]", "[0,2147483648]"},
        {FM_DTYPE_UINT64, "[0,18446744073709551615]", "[0,18446744073709551616]"},
        {FM_DTYPE_INT64, "[-9223372036854775808,9223372036854775807]", "[0,9223372036854775808]"},
        {FM_DTYPE_BOOL, "[true,0]", "[2,0]"},
        {FM_DTYPE_BYTES, "[\"\",\"x\"]", "[1,2]"},
        {FM_DTYPE_FP64, "[1e308,-5e-324]", "[1e309,0]"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_port port = {.name = "t", .dtype = rows[i].dtype, .rank = 1, .shape = {2}};
        const struct fm_oip_signature signature = {.name = "id",
                                                   .version = 1,
                                                   .inputs = &port,
                                                   .input_count = 1,
                                                   .outputs = &port,
                                                   .output_count = 1};
        for (int bad = 0; bad < 2; bad++) {
            char json[256];
            (void)snprintf(
                json, sizeof(json),
                "{\"inputs\":[{\"name\":\"t\",\"shape\":[2],\"datatype\":\"%s\",\"data\":%s}]}",
                fm_dtype_name(rows[i].dtype), bad ? rows[i].bad : rows[i].good);
            struct fm_oip_request request;
            struct fm_error error;
            int status = decode(&signature, json, NULL, 0, 0, &request, &error);
            if (bad != (status == FM_ETYPE)) {
                printf("# %s: %d %s\n", json, status, error.text);
            }
            CHECK_INT_EQ(status, bad ? FM_ETYPE : 0);
            if (status == 0) {
                fm_oip_request_deinit(&request);
            }
        }
    }
}

TEST(raw_requests)
{
    struct fm_port image = {.name = "image", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    const struct fm_oip_signature ocr = {.name = "ocr",
                                         .version = 1,
                                         .inputs = &image,
                                         .input_count = 1,
                                         .outputs = &image,
                                         .output_count = 1};
    struct fm_oip_body body = {.data = "jpeg", .size = 4, .header_length = 0};
    struct fm_oip_request request;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_oip_request_decode(&ocr, &body, &request, &error), 0);
    CHECK_INT_EQ(request.inputs[0].tensor.size, 8);
    CHECK_MEM_EQ(request.inputs[0].tensor.data, "\4\0\0\0jpeg", 8);
    CHECK(request.outputs[0].binary);
    fm_oip_request_deinit(&request);
    body.raw_answers_json = true;
    CHECK_INT_EQ(fm_oip_request_decode(&ocr, &body, &request, &error), 0);
    CHECK(!request.outputs[0].binary);
    fm_oip_request_deinit(&request);

    struct fm_port row = {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, -1}};
    const struct fm_oip_signature batched = {.name = "b",
                                             .version = 1,
                                             .inputs = &row,
                                             .input_count = 1,
                                             .outputs = &row,
                                             .output_count = 1,
                                             .batch_max = 8};
    float numbers[6] = {1, 2, 3, 4, 5, 6};
    body = (struct fm_oip_body){
        .data = (const char *)numbers, .size = sizeof(numbers), .header_length = 0};
    CHECK_INT_EQ(fm_oip_request_decode(&batched, &body, &request, &error), 0);
    CHECK_INT_EQ(request.inputs[0].tensor.shape[0], 1);
    CHECK_INT_EQ(request.inputs[0].tensor.shape[1], 6);
    fm_oip_request_deinit(&request);
    body.size = 23;
    CHECK_INT_EQ(fm_oip_request_decode(&batched, &body, &request, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "23 bytes");
    CHECK_INT_EQ(fm_oip_request_decode(&two, &body, &request, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "more than one input");
    body.header_length = 100;
    CHECK_INT_EQ(fm_oip_request_decode(&two, &body, &request, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "Inference-Header-Content-Length is 100");
}

static const char *const *label_list(void *context, uint32_t port, size_t *ret_count)
{
    static const char *const names[] = {"cat", "dog"};
    (void)context;
    (void)port;
    *ret_count = 2;
    return names;
}

TEST(classification)
{
    float scores[6] = {0.25f, 0.5f, -1, 7, NAN, 8};
    struct fm_value values[2] = {{.tensor = {.dtype = FM_DTYPE_FP32,
                                             .rank = 2,
                                             .shape = {2, 3},
                                             .data = scores,
                                             .size = sizeof(scores)}}};
    struct fm_oip_output wanted = {.port = 0, .classes = 2};
    struct fm_oip_request request = {.outputs = &wanted, .output_count = 1};
    struct fm_oip_response response;
    struct fm_error error = {0};
    CHECK_INT_EQ(
        fm_oip_response_encode(&two, &request, values, label_list, NULL, &response, &error), 0);
    CHECK_STR_EQ(response.head.data, "{\"model_name\":\"m\",\"model_version\":\"3\",\"outputs\":[{"
                                     "\"name\":\"y\",\"datatype\":\"BYTES\","
                                     "\"shape\":[2,2],\"data\":[\"0.500000:1:dog\",\"0.250000:0:"
                                     "cat\",\"8.000000:2\",\"7.000000:0:cat\"]}]}");
    fm_oip_response_deinit(&response);
    wanted.classes = 1000;
    CHECK_INT_EQ(fm_oip_response_encode(&two, &request, values, NULL, NULL, &response, &error), 0);
    CHECK_STR_CONTAINS(response.head.data, "\"shape\":[2,3]");
    fm_oip_response_deinit(&response);
}

/* --- Shared memory --- */

static _Alignas(16) char region[64];

static int resolve(void *context, const char *name, uint64_t offset, uint64_t size, bool writable,
                   struct fm_value *ret_value, struct fm_error *reterr)
{
    (void)writable;
    if (strcmp(name, context) != 0 || offset > sizeof(region) || size > sizeof(region) - offset) {
        reterr->status = FM_EINVAL;
        snprintf(reterr->text, sizeof(reterr->text), "no such bytes");
        return FM_EINVAL;
    }
    ret_value->tensor.data = region + offset;
    ret_value->tensor.size = (size_t)size;
    return 0;
}

static int decode_region(const char *json, struct fm_oip_request *ret_request,
                         struct fm_error *error)
{
    struct fm_oip_body body = {.data = json,
                               .size = strlen(json),
                               .header_length = FM_OIP_HEADER_ABSENT,
                               .resolve = resolve,
                               .resolve_context = (char *)(uintptr_t) "r\"1"};
    *error = (struct fm_error){0};
    return fm_oip_request_decode(&two, &body, ret_request, error);
}

#define REGION(more)                                                                              \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":{"         \
    "\"shared_memory_region\":\"r\\\"1\",\"shared_memory_offset\":8,\"shared_memory_byte_size\":" \
    "12}"                                                                                         \
    "}],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"shared_memory_region\":\"r\\\"1\"," more   \
    "}}]}"

TEST(shared_memory)
{
    const float numbers[3] = {1, 2, 3};
    struct fm_oip_request request;
    struct fm_oip_response response;
    struct fm_error error;
    memcpy(region + 8, numbers, sizeof(numbers));
    int status = decode_region(REGION("\"shared_memory_offset\":32,\"shared_memory_byte_size\":16"),
                               &request, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_PTR_EQ(request.inputs[0].tensor.data, region + 8);
    CHECK_INT_EQ(request.bytes_copied, 0);
    CHECK_INT_EQ(
        fm_oip_response_encode(&two, &request, request.inputs, NULL, NULL, &response, &error), 0);
    CHECK_STR_CONTAINS(response.head.data, "\"datatype\":\"FP32\",\"shape\":[1,3]}");
    CHECK(!response.binary);
    CHECK_INT_EQ(response.bytes_copied, 12);
    CHECK_MEM_EQ(region + 32, numbers, sizeof(numbers));
    fm_oip_response_deinit(&response);
    fm_oip_request_deinit(&request);
    /* Over its own input. */
    CHECK_INT_EQ(decode_region(REGION("\"shared_memory_offset\":12,\"shared_memory_byte_size\":16"),
                               &request, &error),
                 0);
    CHECK_INT_EQ(
        fm_oip_response_encode(&two, &request, request.inputs, NULL, NULL, &response, &error), 0);
    CHECK_MEM_EQ(region + 12, numbers, sizeof(numbers));
    fm_oip_response_deinit(&response);
    fm_oip_request_deinit(&request);
    memcpy(region + 8, numbers, sizeof(numbers));
    CHECK_INT_EQ(decode_region(REGION("\"shared_memory_byte_size\":4"), &request, &error), 0);
    CHECK_INT_EQ(
        fm_oip_response_encode(&two, &request, request.inputs, NULL, NULL, &response, &error),
        FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "(4 bytes) should be at least 12 bytes to hold the results");
    fm_oip_request_deinit(&request);
    CHECK_INT_EQ(decode_region(REGION("\"a\":1"), &request, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "but has no shared_memory_byte_size");
    CHECK_INT_EQ(decode_region(REGION("\"shared_memory_byte_size\":65"), &request, &error),
                 FM_EINVAL);
    CHECK_STR_EQ(error.text, "output 'y': no such bytes");
    CHECK_INT_EQ(
        decode_region("{\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],\"datatype\":\"FP32\","
                      "\"data\":[1,2,3],\"parameters\":{\"shared_memory_region\":\"r\"}}]}",
                      &request, &error),
        FM_EINVAL);
    CHECK_STR_EQ(error.text, "input 'x' has both data and shared_memory_region");
}

TEST(what_is_copied)
{
    static const char json[] = "{\"id\":\"request-1\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,3],"
                               "\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":12}}],"
                               "\"outputs\":[{\"name\":\"y\"}],\"parameters\":{"
                               "\"binary_data_output\":true}}";
    size_t length = strlen(json);
    for (size_t shift = 0; shift < 4; shift++) {
        struct fm_buffer *buffer = fm_buffer_create(length + 64);
        /* The tensor begins `shift` bytes beyond a place where numbers may lie. */
        char *data = (char *)fm_buffer_data(buffer) + (4 - length % 4) % 4 + shift;
        const float numbers[3] = {1, 2, 3};
        memcpy(data, json, length);
        memcpy(data + length, numbers, sizeof(numbers));
        struct fm_oip_body body = {
            .data = data, .size = length + 12, .buffer = buffer, .header_length = length};
        struct fm_oip_request request;
        struct fm_oip_response response;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(0, 0);
        CHECK_INT_EQ(fm_oip_request_decode(&two, &body, &request, &error), 0);
        uint64_t allocations = fm_memory_fail_at(0, 0);
        CHECK_INT_EQ(allocations, shift == 0 ? 1 : 2);
        CHECK_INT_EQ(request.bytes_copied, shift == 0 ? 0 : 12);
        CHECK_MEM_EQ(request.inputs[0].tensor.data, numbers, sizeof(numbers));
        CHECK_INT_EQ(
            fm_oip_response_encode(&two, &request, request.inputs, NULL, NULL, &response, &error),
            0);
        CHECK_INT_EQ(fm_memory_fail_at(0, 0), 0);
        CHECK_PTR_EQ(response.parts[1].data, request.inputs[0].tensor.data);
        fm_oip_response_deinit(&response);
        fm_oip_request_deinit(&request);
        fm_buffer_unref(buffer);
    }
}

TEST(error_document)
{
    struct fm_text text = {0};
    fm_oip_write_error(&text, "bad \"thing\"");
    CHECK_STR_EQ(text.data, "{\"error\":\"bad \\\"thing\\\"\"}");
    fm_text_deinit(&text);
}

TEST_MAIN()
