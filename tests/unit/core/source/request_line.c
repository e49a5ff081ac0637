/*
 * Tests of core/source/request_line: where the values of an OpenAI batch's line are, and what is
 * wrong with lines that cannot be answered.
 */
#include "core/source/request_line.h"

#include <string.h>

#include "tests/harness/test.h"

static const char whole[] =
    " {\"custom_id\": \"a\", \"method\":\"POST\", \"url\" : \"/v1/embeddings\","
    "\"body\": {\"input\": \"x\", \"o\": {\"p\": [1, 2], \"\\u0071\": 3},"
    " \"n\": null}, \"more\": {\"custom_id\": 7}}";

static void value_is(const struct fm_request_line *line, const char *path, const char *expected)
{
    struct fm_request_value value = {NULL, 0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_request_path_check(path, &error), 0);
    CHECK_INT_EQ(fm_request_line_value(line, path, &value, &error), 0);
    CHECK(expected != NULL ? value.data != NULL : value.data == NULL);
    if (expected != NULL && value.data != NULL) {
        CHECK_INT_EQ(value.size, strlen(expected));
        CHECK(memcmp(value.data, expected, value.size) == 0);
    }
}

TEST(values_by_their_paths)
{
    struct fm_request_line line;
    CHECK_INT_EQ(fm_request_line_read(whole, strlen(whole), &line, NULL), 0);
    CHECK_INT_EQ(fm_request_line_check(&line, NULL, NULL), 0);
    CHECK_INT_EQ(fm_request_line_check(&line, FM_REQUEST_LINE_EMBEDDINGS, NULL), 0);
    value_is(&line, "custom_id", "\"a\"");
    value_is(&line, "method", "\"POST\"");
    value_is(&line, "body.input", "\"x\"");
    value_is(&line, "body.o.p", "[1, 2]");
    value_is(&line, "body.o.q", "3");
    value_is(&line, "body.n", "null");
    value_is(&line, "body.no", NULL);
    value_is(&line, "body.input.x", NULL);
    value_is(&line, "body.o.p.x", NULL);
}

TEST(paths_that_are_none)
{
    struct fm_error error;
    char deep[FM_REQUEST_LINE_NAME_MAX + 8];
    CHECK_INT_EQ(fm_request_path_check("input", &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "did you mean 'body.input'?");
    CHECK_INT_EQ(fm_request_path_check("body.", &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_request_path_check("body.a..b", &error), FM_ENOTFOUND);
    memset(deep, 'x', sizeof(deep));
    memcpy(deep, "body.", 5);
    deep[sizeof(deep) - 1] = '\0';
    CHECK_INT_EQ(fm_request_path_check(deep, &error), FM_ENOTFOUND);
    deep[5 + FM_REQUEST_LINE_NAME_MAX] = '\0';
    CHECK_INT_EQ(fm_request_path_check(deep, &error), 0);
}

TEST(lines_that_cannot_be_answered)
{
    static const struct {
        const char *line;
        const char *words;
        int status;
    } bad[] = {
        {"{\"custom_id\": \"a\"", "the line is no JSON object: column", FM_ECORRUPT},
        {"[]", "the line is no JSON object", FM_ECORRUPT},
        {"", "the line is no JSON object", FM_ECORRUPT},
        {"{} {}", "the line is no JSON object", FM_ECORRUPT},
        {"{\"url\":1,\"url\":2}", "the member 'url' occurs twice", FM_ECORRUPT},
        {"{}", "the member 'custom_id' is missing", FM_ECORRUPT},
        {"{\"custom_id\":1,\"method\":\"POST\",\"url\":\"u\",\"body\":{}}",
         "the member 'custom_id' is no string", FM_ETYPE},
        {"{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"u\",\"body\":[]}",
         "the member 'body' is no object", FM_ETYPE},
        {"{\"custom_id\":\"1\",\"method\":\"GET\",\"url\":\"u\",\"body\":{}}",
         "the method is \"GET\"", FM_ETYPE},
        {"{\"custom_id\":\"1\",\"method\":\"POST\",\"url\":\"u\",\"body\":{}}",
         "the url is \"u\", but this job answers '/v1/embeddings'", FM_ETYPE},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_request_line line;
        struct fm_error error = {0};
        int status = fm_request_line_read(bad[i].line, strlen(bad[i].line), &line, &error);
        status =
            status != 0 ? status : fm_request_line_check(&line, FM_REQUEST_LINE_EMBEDDINGS, &error);
        CHECK_INT_EQ(status, bad[i].status);
        CHECK_STR_CONTAINS(error.text, bad[i].words);
    }
}

TEST(a_member_of_the_body_that_occurs_twice)
{
    static const char twice[] = "{\"body\": {\"a\": 1, \"a\": 2, \"b\": {}}}";
    struct fm_request_line line;
    struct fm_request_value value;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_request_line_read(twice, strlen(twice), &line, NULL), 0);
    CHECK_INT_EQ(fm_request_line_value(&line, "body.a", &value, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "the member 'a' occurs twice");
    CHECK_INT_EQ(fm_request_line_value(&line, "body.b", &value, NULL), 0);
}

TEST_MAIN()
