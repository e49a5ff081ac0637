/*
 * Answers of servers as the client reads them: what servers leave out or write as null, what they
 * must not leave behind, and models' metadata.
 */
#include "core/proto/oip_client.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "tests/harness/test.h"

static int decode(const char *text, size_t size, uint64_t header_length,
                  struct fm_oip_client_answer *ret_answer, struct fm_error *reterr)
{
    const struct fm_oip_client_body body = {
        .data = text, .size = size, .header_length = header_length};
    return fm_oip_client_decode_json(&body, NULL, ret_answer, reterr);
}

TEST(members_that_are_null_are_not_there)
{
    static const char text[] =
        "{\"model_name\":\"m\",\"model_version\":null,\"id\":null,\"parameters\":null,"
        "\"outputs\":[{\"name\":\"y\",\"parameters\":null,\"shape\":[2],\"datatype\":\"INT32\","
        "\"data\":[1,2]},{\"name\":\"z\",\"shape\":[1],\"datatype\":\"INT32\",\"data\":[7],"
        "\"parameters\":{\"binary_data_size\":null,\"content_type\":null}}]}";
    struct fm_oip_client_answer answer;
    struct fm_error error = {0};
    CHECK_INT_EQ(decode(text, strlen(text), FM_OIP_HEADER_ABSENT, &answer, &error), 0);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(answer.model, "m");
    CHECK_STR_EQ(answer.version, "");
    CHECK_STR_EQ(answer.id, "");
    CHECK_UINT_EQ(answer.output_count, 2);
    CHECK_STR_EQ(answer.outputs[1].name, "z");
    CHECK_INT_EQ(((const int32_t *)answer.outputs[0].value.tensor.data)[1], 2);
    CHECK_INT_EQ(((const int32_t *)answer.outputs[1].value.tensor.data)[0], 7);
    fm_oip_client_answer_deinit(&answer);
}

TEST(what_has_to_be_there_is_not_null)
{
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"{\"outputs\":null}", "outputs must be an array"},
        {"{\"outputs\":[{\"name\":null,\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1]}]}",
         "no name"},
        {"{\"outputs\":[{\"name\":\"y\",\"shape\":null,\"datatype\":\"INT32\",\"data\":[1]}]}",
         "a shape"},
        {"{\"outputs\":[{\"name\":\"y\",\"shape\":[1],\"datatype\":null,\"data\":[1]}]}",
         "datatype"},
        {"{\"model_name\":1,\"outputs\":[]}", "a string was expected"},
        {"{\"outputs\":[{\"name\":\"y\",\"parameters\":[]}]}", "must be an object"},
        {"{\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data_size\":\"8\"}}]}",
         "must be a number"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_oip_client_answer answer;
        struct fm_error error = {0};
        CHECK_INT_EQ(
            decode(cases[i].text, strlen(cases[i].text), FM_OIP_HEADER_ABSENT, &answer, &error),
            FM_ECORRUPT);
        CHECK_STR_CONTAINS(error.text, cases[i].words);
    }
}

TEST(nothing_stands_behind_the_last_tensor)
{
    static const char head[] = "{\"outputs\":[{\"name\":\"y\",\"shape\":[2],\"datatype\":\"INT32\","
                               "\"parameters\":{\"binary_data_size\":8}}]}";
    char text[sizeof(head) + 16];
    const size_t head_size = sizeof(head) - 1;
    struct fm_oip_client_answer answer;
    struct fm_error error = {0};
    memcpy(text, head, head_size);
    memset(text + head_size, 1, 16);
    CHECK_INT_EQ(decode(text, head_size + 8, head_size, &answer, &error), 0);
    fm_oip_client_answer_deinit(&answer);
    CHECK_INT_EQ(decode(text, head_size + 9, head_size, &answer, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "the answer has 1 bytes behind its last tensor");
    CHECK_INT_EQ(decode(text, head_size + 7, head_size, &answer, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "only 7 bytes are left");
}

TEST(metadata_with_null)
{
    static const char text[] =
        "{\"name\":\"m\",\"platform\":null,\"versions\":null,\"outputs\":null,\"parameters\":null,"
        "\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2],\"parameters\":null},"
        "{\"name\":null,\"datatype\":null,\"shape\":[]}]}";
    static const char wrong[] = "{\"name\":1}";
    struct fm_arena arena;
    struct fm_client_model model;
    struct fm_error error = {0};
    fm_arena_init(&arena, 0);
    CHECK_INT_EQ(fm_oip_client_model_read(text, strlen(text), &arena, &model, &error), 0);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(model.name, "m");
    CHECK_STR_EQ(model.platform, "");
    CHECK_UINT_EQ(model.output_count, 0);
    CHECK_UINT_EQ(model.input_count, 2);
    CHECK_UINT_EQ(model.inputs[0].dtype, FM_DTYPE_FP32);
    CHECK_INT_EQ(model.inputs[0].rank, 2);
    CHECK_STR_EQ(model.inputs[1].name, "");
    CHECK_INT_EQ(fm_oip_client_model_read(wrong, strlen(wrong), &arena, &model, &error),
                 FM_ECORRUPT);
    fm_arena_deinit(&arena);
}

TEST_MAIN()
