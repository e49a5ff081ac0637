/*
 * Recorded requests as lines: there and back, what is added later, what is wrong, and without
 * memory.
 */
#include "core/proto/payload.h"

#include "core/util/error.h"
#include "tests/harness/test.h"

static int line_read(const char *line, struct fm_arena *arena, struct fm_payload *ret_payload,
                     struct fm_error *reterr)
{
    fm_arena_init(arena, 0);
    return fm_payload_read(line, strlen(line), arena, ret_payload, reterr);
}

static void sample_write(struct fm_text *text)
{
    static float numbers[] = {1.5f, -2, 0, 4};
    static const char words[] = "\2\0\0\0hi\0\0\0\0";
    const struct fm_payload_input inputs[] = {
        {"x", {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {1, 4}, .data = numbers, .size = 16}},
        {"s \"\xc3\xa4\"",
         {.dtype = FM_DTYPE_BYTES,
          .rank = 1,
          .shape = {2},
          .data = (char *)(uintptr_t)words,
          .size = 10}},
        {"n", {.dtype = FM_DTYPE_INT8, .rank = 1, .shape = {0}, .data = numbers, .size = 0}}};
    const struct fm_payload_output outputs[] = {{"y", 0}, {"t", 3}};
    const struct fm_payload payload = {.kind = FM_PAYLOAD_REQUEST,
                                       .time_ns = UINT64_C(18000000000000000000),
                                       .protocol = "grpc",
                                       .model = "m",
                                       .version = 3,
                                       .id = "a\0b",
                                       .id_length = 3,
                                       .timeout_us = 5000,
                                       .priority = 2,
                                       .inputs = inputs,
                                       .input_count = 3,
                                       .outputs = outputs,
                                       .output_count = 2};
    fm_payload_write(text, &payload);
}

TEST(there_and_back)
{
    struct fm_text text = {0};
    struct fm_arena arena;
    struct fm_payload back;
    struct fm_error error = {0};
    sample_write(&text);
    CHECK(!text.failed && text.data[text.length - 1] == '\n');
    CHECK_STR_CONTAINS(text.data,
                       "\"x\":{\"datatype\":\"FP32\",\"shape\":[1,4],\"content\":{\"b64\":"
                       "\"AADAPwAAAMAAAAAAAACAQA==\"}}");
    fm_arena_init(&arena, 0);
    CHECK_INT_EQ(fm_payload_read(text.data, text.length, &arena, &back, &error), 0);
    CHECK_INT_EQ(back.kind, FM_PAYLOAD_REQUEST);
    CHECK_UINT_EQ(back.time_ns, UINT64_C(18000000000000000000));
    CHECK_STR_EQ(back.protocol, "grpc");
    CHECK_STR_EQ(back.model, "m");
    CHECK_UINT_EQ(back.version, 3);
    CHECK_UINT_EQ(back.id_length, 3);
    CHECK_MEM_EQ(back.id, "a\0b", 4);
    CHECK_UINT_EQ(back.timeout_us, 5000);
    CHECK_UINT_EQ(back.priority, 2);
    CHECK_UINT_EQ(back.input_count, 3);
    CHECK_STR_EQ(back.inputs[1].name, "s \"\xc3\xa4\"");
    CHECK_UINT_EQ(back.inputs[0].tensor.size, 16);
    CHECK_INT_EQ(back.inputs[0].tensor.shape[1], 4);
    CHECK(((float *)back.inputs[0].tensor.data)[0] == 1.5f);
    CHECK_MEM_EQ(back.inputs[1].tensor.data, "\2\0\0\0hi\0\0\0", 10);
    CHECK_UINT_EQ(back.output_count, 2);
    CHECK_STR_EQ(back.outputs[1].name, "t");
    CHECK_UINT_EQ(back.outputs[1].classes, 3);
    /* Written again it is the same line. */
    struct fm_text again = {0};
    fm_payload_write(&again, &back);
    CHECK_STR_EQ(again.data, text.data);
    fm_text_deinit(&again);
    fm_text_deinit(&text);
    fm_arena_deinit(&arena);
}

TEST(the_first_and_the_last_line)
{
    struct fm_text text = {0};
    struct fm_arena arena;
    struct fm_payload back;
    fm_payload_write(&text, &(struct fm_payload){.server = "fermata 1", .start_wall_ns = 77});
    CHECK_INT_EQ(line_read(text.data, &arena, &back, NULL), 0);
    CHECK_INT_EQ(back.kind, FM_PAYLOAD_BEGIN);
    CHECK_STR_EQ(back.server, "fermata 1");
    CHECK_UINT_EQ(back.start_wall_ns, 77);
    fm_arena_deinit(&arena);
    fm_text_clear(&text);
    fm_payload_write(
        &text,
        &(struct fm_payload){
            .kind = FM_PAYLOAD_END, .time_ns = 9, .recorded = 1, .left_out = 2, .sampled_out = 3});
    CHECK_INT_EQ(line_read(text.data, &arena, &back, NULL), 0);
    CHECK_INT_EQ(back.kind, FM_PAYLOAD_END);
    CHECK(back.time_ns == 9 && back.recorded == 1 && back.left_out == 2 && back.sampled_out == 3);
    fm_arena_deinit(&arena);
    fm_text_deinit(&text);
}

#define INPUT "\"x\":{\"datatype\":\"UINT8\",\"shape\":[3],\"content\":{\"b64\":\"YWJj\"}}"

TEST(what_is_not_known_is_skipped)
{
    struct fm_arena arena;
    struct fm_payload back;
    CHECK_INT_EQ(line_read("{\"later\":{\"a\":[1]},\"time_ns\":1,\"inputs\":{" INPUT
                           "},\"model\":\"m\",\"more\":null}",
                           &arena, &back, NULL),
                 0);
    CHECK_MEM_EQ(back.inputs[0].tensor.data, "abc", 3);
    fm_arena_deinit(&arena);
}

TEST(what_is_wrong_is_said)
{
    static const struct {
        const char *line;
        const char *part;
    } rows[] = {
        {"", "JSON object"},
        {"[]", "a line must be a JSON object"},
        {"{\"time_ns\":1", "no JSON object"},
        {"{\"time_ns\":1}x", "no JSON object"},
        {"{\"time_ns\":1} {}", "no JSON object"},
        {"{\"a\":[}", "no JSON object"},
        {"{\"time_ns\":-1}", "time_ns must be a whole number"},
        {"{\"format\":\"fermata-payloads/2\"}", "its format is 'fermata-payloads/2'"},
        {"{\"model\":\"m\",\"inputs\":{" INPUT "}}", "needs the members"},
        {"{\"time_ns\":1,\"inputs\":{" INPUT "}}", "needs the members"},
        {"{\"time_ns\":1,\"model\":\"m\"}", "needs the members"},
        {"{\"time_ns\":1,\"model\":\"a\\u0000b\",\"inputs\":{}}", "model must be a name"},
        {"{\"inputs\":{\"x\":{}}}", "input 'x' needs datatype"},
        {"{\"inputs\":{\"\":{}}}", "an input's name"},
        {"{\"inputs\":{\"x\":{\"datatype\":\"UINT8\",\"shape\":[4],\"content\":{\"b64\":\"YWJj\"}}}"
         "}",
         "must have 4 bytes, but has 3"},
        {"{\"inputs\":{\"x\":{\"datatype\":\"BYTES\",\"shape\":[1],\"content\":{\"b64\":\"YWJj\"}}}"
         "}",
         "input 'x'"},
        {"{\"inputs\":{\"x\":{\"datatype\":\"UINT8\",\"shape\":[-3],\"content\":{\"b64\":\"YWJj\"}}"
         "}}",
         "invalid shape"},
        {"{\"inputs\":{\"x\":{\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}}}", "dimensions"},
        {"{\"inputs\":{\"x\":{\"content\":{\"b64\":\"Y\"}}}}", "b64 must be base64"},
        {"{\"inputs\":{\"x\":{\"content\":[1]}}}", "content must be"},
        {"{\"outputs\":[{}]}", "an output must be"},
        {"{\"outputs\":[{\"name\":\"y\",\"classification\":4294967296}]}", "an output must be"},
        {"{\"outputs\":{}}", "outputs must be a list"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fm_arena arena;
        struct fm_payload back;
        struct fm_error error = {0};
        CHECK_INT_LT(line_read(rows[i].line, &arena, &back, &error), 0);
        CHECK_STR_CONTAINS(error.text, rows[i].part);
        fm_arena_deinit(&arena);
    }
}

TEST(too_many_inputs)
{
    struct fm_text text = {0};
    struct fm_arena arena;
    struct fm_payload back;
    struct fm_error error = {0};
    fm_text_append_string(&text, "{\"time_ns\":1,\"model\":\"m\",\"inputs\":{");
    for (uint32_t i = 0; i < FM_PAYLOAD_PORTS_MAX; i++) {
        fm_text_append_string(&text, i > 0 ? "," INPUT : INPUT);
    }
    size_t length = text.length;
    fm_text_append_string(&text, "}}");
    CHECK_INT_EQ(line_read(text.data, &arena, &back, &error), 0);
    CHECK_UINT_EQ(back.input_count, FM_PAYLOAD_PORTS_MAX);
    CHECK_MEM_EQ(back.inputs[FM_PAYLOAD_PORTS_MAX - 1].tensor.data, "abc", 3);
    fm_arena_deinit(&arena);
    text.length = length;
    fm_text_append_string(&text, "," INPUT "}}");
    CHECK_INT_EQ(line_read(text.data, &arena, &back, &error), FM_ETOOLARGE);
    fm_arena_deinit(&arena);
    fm_text_deinit(&text);
}

TEST(without_memory)
{
    struct fm_text text = {0};
    sample_write(&text);
    for (uint64_t nth = 1;; nth++) {
        struct fm_arena arena;
        struct fm_payload back;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(nth, 0);
        int status = line_read(text.data, &arena, &back, &error);
        (void)fm_memory_fail_at(0, 0);
        fm_arena_deinit(&arena);
        if (status == 0) {
            CHECK(nth > 2);
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
    for (uint64_t nth = 1;; nth++) {
        struct fm_text other = {0};
        (void)fm_memory_fail_at(nth, 0);
        sample_write(&other);
        (void)fm_memory_fail_at(0, 0);
        bool failed = other.failed;
        fm_text_deinit(&other);
        if (!failed) {
            break;
        }
    }
    fm_text_deinit(&text);
}

TEST_MAIN()
