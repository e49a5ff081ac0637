/*
 * Remembered JSON: requests and answers are the same bytes as without a memory, whatever differs
 * between them.
 */
#include "core/proto/oip_memo.h"

#include "core/proto/oip.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_port ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 2}},
    {.name = "s", .dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {-1, 1}, .flags = FM_PORT_OPTIONAL},
};
static const struct fm_oip_signature signature = {.name = "m",
                                                  .version = 3,
                                                  .inputs = ports,
                                                  .input_count = 2,
                                                  .outputs = ports,
                                                  .output_count = 2,
                                                  .batch_max = 4};

#define X                                                                                         \
    "{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":" \
    "8}}"
#define S                                                                                          \
    "{\"name\":\"s\",\"shape\":[1,1],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":" \
    "7}}"
#define OUTPUTS ",\"parameters\":{\"binary_data_output\":true}}"
#define X_DATA  "abcdefgh"
#define S_DATA  "\3\0\0\0xyz"

/* What came of one body: the status, the tensors, the answer's JSON. */
struct outcome {
    int status;
    struct fm_text text;
};

static void tell(struct fm_text *text, const struct fm_oip_request *request)
{
    fm_text_append_format(text, "id %s rows %u timeout %llu priority %llu\n",
                          request->id != NULL ? request->id : "-", request->rows,
                          (unsigned long long)request->timeout_us,
                          (unsigned long long)request->priority);
    for (uint32_t i = 0; i < request->input_count; i++) {
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        char shape[64];
        fm_text_append_format(text, "%s %s ", fm_dtype_name(tensor->dtype),
                              fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)));
        fm_text_append(text, tensor->data, tensor->size);
    }
}

/* The model's answer is its input; `s` where none was sent is empty. */
static void answer(struct fm_text *text, const struct fm_oip_request *request)
{
    struct fm_value outputs[2] = {request->inputs[0], request->inputs[1]};
    if (outputs[1].tensor.dtype == FM_DTYPE_INVALID) {
        outputs[1].tensor = (struct fm_tensor){.dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {0, 1}};
    }
    struct fm_oip_response response;
    struct fm_error error = {0};
    if (fm_oip_response_encode(&signature, request, outputs, NULL, NULL, &response, &error) != 0) {
        fm_text_append_string(text, error.text);
        return;
    }
    fm_text_append_format(text, "\nbinary %d parts %u size %zu\n", response.binary,
                          response.part_count, response.body_size);
    for (uint32_t i = 0; i < response.part_count; i++) {
        fm_text_append(text, response.parts[i].data, response.parts[i].size);
    }
    fm_oip_response_deinit(&response);
}

static struct outcome run(struct fm_oip_memo *memo, const char *json, const char *tail,
                          size_t tail_size)
{
    struct outcome outcome = {0};
    size_t length = strlen(json);
    char *data = malloc(length + tail_size);
    memcpy(data, json, length);
    memcpy(data + length, tail, tail_size);
    struct fm_oip_body body = {
        .data = data, .size = length + tail_size, .header_length = length, .memo = memo};
    struct fm_oip_request request;
    struct fm_error error = {0};
    outcome.status = fm_oip_request_decode(&signature, &body, &request, &error);
    if (outcome.status == 0) {
        tell(&outcome.text, &request);
        answer(&outcome.text, &request);
        fm_oip_request_deinit(&request);
    } else {
        fm_text_append_string(&outcome.text, error.text);
    }
    free(data);
    return outcome;
}

/* With the memory, twice, and without it: the same. */
static void check_same(struct fm_oip_memo *memo, const char *json, const char *tail,
                       size_t tail_size)
{
    struct outcome plain = run(NULL, json, tail, tail_size);
    for (int i = 0; i < 3; i++) {
        struct outcome with = run(memo, json, tail, tail_size);
        CHECK_INT_EQ(with.status, plain.status);
        CHECK_INT_EQ(with.text.length, plain.text.length);
        CHECK_MEM_EQ(with.text.data, plain.text.data, plain.text.length);
        fm_text_deinit(&with.text);
    }
    fm_text_deinit(&plain.text);
}

#define SAME(memo, json, tail) check_same(memo, json, tail, sizeof(tail) - 1)

TEST(the_same_head_is_read_once)
{
    struct fm_oip_memo memo = {0};
    SAME(&memo, "{\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"inputs\":[" X "]" OUTPUTS, "01234567");
    CHECK_INT_EQ(memo.remembered, 1);
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA S_DATA);
    SAME(&memo, "{\"inputs\":[" S "," X "]" OUTPUTS, S_DATA X_DATA);
    CHECK_INT_EQ(memo.remembered, 3);
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA S_DATA);
    CHECK_INT_EQ(memo.remembered, 3);
    fm_oip_memo_deinit(&memo);
}

TEST(ids_differ_in_what_is_remembered)
{
    struct fm_oip_memo memo = {0};
    SAME(&memo, "{\"id\":\"1\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"id\":\"another one\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    CHECK_INT_EQ(memo.remembered, 1);
    char json[2048];
    for (size_t length = 62; length <= 1026; length = length < 66 ? length + 1 : length + 240) {
        (void)snprintf(json, sizeof(json), "{\"id\":\"%0*d\",\"inputs\":[" X "]" OUTPUTS,
                       (int)length, 7);
        SAME(&memo, json, X_DATA);
    }
    CHECK_INT_EQ(memo.remembered, 1);
    /* The same text behind the id, which is not the same without one. */
    SAME(&memo, "\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    /* Ids that are not plain, stand elsewhere, or are two, are read each time. */
    SAME(&memo, "{\"id\":\"\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"id\":\"a\\u00e9\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"id\":\"\xC3\xA9\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"id\":\"1\",\"id\":\"2\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{\"id\":\"3\",\"id\":\"2\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    SAME(&memo, "{ \"id\":\"1\",\"inputs\":[" X "]" OUTPUTS, X_DATA);
    CHECK_INT_EQ(memo.remembered, 1);
    fm_oip_memo_deinit(&memo);
}

TEST(what_does_not_fit_is_told_as_ever)
{
    struct fm_oip_memo memo = {0};
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA S_DATA);
    CHECK_INT_EQ(memo.remembered, 1);
    /* Less and more bytes than the head says, and a BYTES tensor that is none. */
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA "\3\0\0\0xy");
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA S_DATA "z");
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA "\4\0\0\0xyz");
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS, X_DATA S_DATA);
    SAME(&memo, "{\"inputs\":[" X "," S "]" OUTPUTS "x", X_DATA S_DATA);
    CHECK_INT_EQ(memo.remembered, 1);
    fm_oip_memo_deinit(&memo);
}

TEST(other_requests_are_not_remembered)
{
    struct fm_oip_memo memo = {0};
    SAME(&memo,
         "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[1,2]}]}",
         "");
    SAME(&memo,
         "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[1,2]}," S
         "]}",
         S_DATA);
    char json[2048];
    (void)snprintf(json, sizeof(json), "{\"inputs\":[" X "],\"own\":\"%0*d\"}", 800, 7);
    SAME(&memo, json, X_DATA);
    CHECK_INT_EQ(memo.remembered, 0);
    fm_oip_memo_deinit(&memo);
}

TEST(answers_in_other_forms)
{
    struct fm_oip_memo memo = {0};
    SAME(&memo, "{\"inputs\":[" X "],\"outputs\":[{\"name\":\"x\"}]}", X_DATA);
    SAME(&memo,
         "{\"inputs\":[" X "],\"outputs\":[{\"name\":\"x\",\"parameters\":{\"classification\":1}}],"
         "\"parameters\":{\"priority\":1,\"timeout\":5}}",
         X_DATA);
    SAME(&memo,
         "{\"inputs\":[" S "," X "],\"outputs\":[{\"name\":\"s\",\"parameters\":{\"binary_data\":"
         "true}}]}",
         S_DATA X_DATA);
    CHECK_INT_EQ(memo.remembered, 3);
    fm_oip_memo_deinit(&memo);
}

/* The answer's shapes need not follow from the request. */
TEST(answers_of_another_shape)
{
    struct fm_oip_memo memo = {0};
    const char *json = "{\"inputs\":[" X "]" OUTPUTS;
    struct fm_text data = {0};
    fm_text_append_string(&data, json);
    fm_text_append_string(&data, X_DATA);
    size_t head[5];
    for (uint32_t i = 0; i < 5; i++) {
        struct fm_oip_body body = {
            .data = data.data, .size = data.length, .header_length = strlen(json), .memo = &memo};
        struct fm_oip_request request;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_oip_request_decode(&signature, &body, &request, &error), 0);
        int64_t wide = i % 3 == 2 ? 100 : 2;
        float floats[100] = {0};
        struct fm_value outputs[2] = {
            {.tensor = {.dtype = FM_DTYPE_FP32,
                        .rank = 2,
                        .shape = {1, wide},
                        .data = floats,
                        .size = (size_t)wide * sizeof(float)}},
            {.tensor = {.dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {0, 1}}}};
        struct fm_oip_response response;
        CHECK_INT_EQ(
            fm_oip_response_encode(&signature, &request, outputs, NULL, NULL, &response, &error),
            0);
        head[i] = response.parts[0].size;
        CHECK_INT_EQ(response.parts[1].size, (size_t)wide * sizeof(float));
        fm_oip_response_deinit(&response);
        fm_oip_request_deinit(&request);
    }
    CHECK_INT_EQ(memo.remembered, 1);
    CHECK_INT_EQ(head[0], head[1]);
    CHECK(head[2] > head[1]);
    CHECK_INT_EQ(head[3], head[0]);
    CHECK_INT_EQ(head[4], head[0]);
    fm_text_deinit(&data);
    fm_oip_memo_deinit(&memo);
}

/* More heads than are kept, and a request that is answered when its head was forgotten. */
TEST(the_oldest_is_forgotten)
{
    struct fm_oip_memo memo = {0};
    char json[512];
    struct fm_oip_request first;
    for (int i = 0; i < 9; i++) {
        (void)snprintf(json, sizeof(json), "{\"inputs\":[" X "],\"parameters\":{\"n\":%d}}", i);
        SAME(&memo, json, X_DATA);
        if (i == 0) {
            struct fm_text data = {0};
            struct fm_error error = {0};
            fm_text_append_string(&data, json);
            fm_text_append_string(&data, X_DATA);
            struct fm_oip_body body = {.data = data.data,
                                       .size = data.length,
                                       .header_length = strlen(json),
                                       .memo = &memo};
            CHECK_INT_EQ(fm_oip_request_decode(&signature, &body, &first, &error), 0);
            fm_text_deinit(&data);
        }
    }
    CHECK_INT_EQ(memo.remembered, 9);
    struct fm_text text = {0};
    answer(&text, &first);
    CHECK(text.length > 0 && strstr(text.data, "\"model_name\":\"m\"") != NULL);
    fm_text_deinit(&text);
    fm_oip_request_deinit(&first);
    fm_oip_memo_deinit(&memo);
}

TEST(without_memory_nothing_is_remembered)
{
    for (uint64_t failure = 1; failure < 12; failure++) {
        struct fm_oip_memo memo = {0};
        (void)fm_memory_fail_at(failure, 0);
        struct outcome outcome = run(&memo, "{\"inputs\":[" X "]" OUTPUTS, X_DATA, 8);
        (void)fm_memory_fail_at(0, 0);
        CHECK(outcome.status == 0 || outcome.status == FM_ENOMEM);
        fm_text_deinit(&outcome.text);
        SAME(&memo, "{\"inputs\":[" X "]" OUTPUTS, X_DATA);
        CHECK_INT_EQ(memo.remembered, 1);
        fm_oip_memo_deinit(&memo);
    }
}

TEST_MAIN()
