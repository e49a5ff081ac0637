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

TEST(there_and_back)
{
    unsigned char bytes[200];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(i * 151 + 7);
    }
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        char text[FM_BASE64_LENGTH(sizeof(bytes)) + 1];
        unsigned char back[FM_BASE64_LENGTH(sizeof(bytes))];
        size_t back_size = 999;
        text[FM_BASE64_LENGTH(size)] = '!';
        fm_base64_encode(bytes, size, text);
        CHECK_INT_EQ(text[FM_BASE64_LENGTH(size)], '!');
        CHECK_INT_EQ(fm_base64_decode(text, FM_BASE64_LENGTH(size), back, &back_size), 0);
        CHECK_INT_EQ(back_size, size);
        CHECK_MEM_EQ(back, bytes, size);
    }
    char text[8];
    fm_base64_encode("fooba", 5, text);
    CHECK_MEM_EQ(text, "Zm9vYmE=", 8);
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
