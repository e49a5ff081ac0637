/*
 * Base64: the vectors of the RFC, lenient forms, in place, and what is none.
 */
#include "core/proto/base64.h"

#include "tests/harness/test.h"

TEST(what_it_stands_for)
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
        char text[32];
        size_t size = 99;
        size_t length = strlen(rows[i].text);
        memcpy(text, rows[i].text, length);
        CHECK_INT_EQ(fm_base64_decode(text, length, text, &size), 0);
        CHECK_INT_EQ(size, strlen(rows[i].content));
        CHECK_MEM_EQ(text, rows[i].content, size);
    }
}

TEST(what_is_no_base64)
{
    static const char *const texts[] = {"Z",    "Zm9vY", "Zm9v!", "=",
                                        "Zg=g", "Z===",  "Zg===", "Zm9v="};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char out[32];
        size_t size = 0;
        CHECK_INT_EQ(fm_base64_decode(texts[i], strlen(texts[i]), out, &size), FM_EINVAL);
    }
}

TEST_MAIN()
