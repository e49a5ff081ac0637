/*
 * Tests of core/proto/oip_repository: base64, and the bodies of load and unload requests.
 */
#include "core/proto/oip_repository.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

TEST(base64_of_every_length)
{
    static const struct {
        const char *text;
        const char *content;
    } rows[] = {{"", ""},
                {"Zg==", "f"},
                {"Zm8=", "fo"},
                {"Zm9v", "foo"},
                {"Zm9vYg==", "foob"},
                {"Zm9vYmE=", "fooba"},
                {"Zm9vYmFy", "foobar"},
                {"Zm9vYg", "foob"},
                {"Zm9v\nYmFy\n", "foobar"},
                {"+/-_", "\xFB\xFF\xBF"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_text content = {0};
        CHECK_INT_EQ(fm_base64_decode(rows[i].text, strlen(rows[i].text), &content), 0);
        CHECK_INT_EQ(content.length, strlen(rows[i].content));
        CHECK(content.length == 0 || memcmp(content.data, rows[i].content, content.length) == 0);
        fm_text_deinit(&content);
    }
}

TEST(what_is_no_base64)
{
    static const char *const texts[] = {"Z",    "Zm9vY", "Zm9v!", "=",
                                        "Zg=g", "Z===",  "Zg===", "Zm9v="};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fm_text content = {0};
        CHECK_INT_EQ(fm_base64_decode(texts[i], strlen(texts[i]), &content), FM_EINVAL);
        fm_text_deinit(&content);
    }
}

static int decode(const char *text, struct fm_oip_repository_request *ret_request,
                  struct fm_error *reterr)
{
    *reterr = (struct fm_error){0};
    return fm_oip_repository_request_decode(text, strlen(text), ret_request, reterr);
}

TEST(a_whole_request)
{
    struct fm_oip_repository_request request;
    struct fm_error error;
    CHECK_INT_EQ(decode("{\"other\":[1],\"parameters\":{\"config\":\"{\\\"a\\\":1}\",\"file:1/m\":"
                        "\"Zm9v\",\"file:2/m\":\"Zm\\/v\",\"unload_dependents\":true,\"x\":{}}}",
                        &request, &error),
                 0);
    CHECK(request.has_config && request.unload_dependents);
    CHECK_STR_EQ(request.config.data, "{\"a\":1}");
    CHECK_INT_EQ(request.file_count, 2);
    CHECK_STR_EQ(request.files[0].path.data, "1/m");
    CHECK_INT_EQ(request.files[0].content.length, 3);
    CHECK_INT_EQ(request.files[1].content.length, 3);
    fm_oip_repository_request_deinit(&request);
    CHECK_INT_EQ(decode("", &request, &error), 0);
    CHECK_INT_EQ(decode("{}", &request, &error), 0);
    CHECK(!request.has_config && request.file_count == 0);
}

TEST(mistakes)
{
    static const char *const texts[] = {"[]",
                                        "{",
                                        "{\"parameters\":1}",
                                        "{\"parameters\":{\"config\":1}}",
                                        "{\"parameters\":{\"file:a\":1}}",
                                        "{\"parameters\":{\"file:a\":\"?\"}}",
                                        "{\"parameters\":{\"unload_dependents\":1}}",
                                        "{\"parameters\":{}} x",
                                        "{\"parameters\":{\"config\":\"a\"}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fm_oip_repository_request request;
        struct fm_error error;
        CHECK_INT_EQ(decode(texts[i], &request, &error), FM_EINVAL);
        CHECK(error.text[0] != '\0');
    }
}

TEST(without_memory)
{
    static const char text[] =
        "{\"parameters\":{\"config\":\"{}\",\"file:1/m\":\"Zm9v\",\"file:2/m\":\"Zm9v\"}}";
    for (uint64_t n = 1; n < 100; n++) {
        struct fm_oip_repository_request request;
        struct fm_error error;
        (void)fm_memory_fail_at(n, 0);
        int status = decode(text, &request, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            CHECK_INT_EQ(request.file_count, 2);
            fm_oip_repository_request_deinit(&request);
            return;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
    CHECK(false);
}

TEST_MAIN()
