/*
 * The texts of gRPC's header fields.
 */
#include "host/net/grpc_fields.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

TEST(timeouts)
{
    static const struct {
        const char *text;
        uint64_t expected;
    } rows[] = {
        {"1H", UINT64_C(3600000000000)},
        {"2M", UINT64_C(120000000000)},
        {"3S", UINT64_C(3000000000)},
        {"250m", UINT64_C(250000000)},
        {"7u", UINT64_C(7000)},
        {"9n", UINT64_C(9)},
        {"0n", 0},
        {"00000001S", UINT64_C(1000000000)},
        {"99999999S", UINT64_C(99999999000000000)},
        {"99999999H", UINT64_MAX},
        {"5124095H", UINT64_C(5124095) * UINT64_C(3600000000000)},
        {"5124096H", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t ns = 1;
        CHECK_INT_EQ(fm_grpc_timeout_parse(rows[i].text, &ns), 0);
        CHECK_UINT_EQ(ns, rows[i].expected);
    }
    static const char *const wrong[] = {"",     "S",   "1",   "1s",   "1h",         "-1S",
                                        " 1S",  "1S ", "1 S", "1.5S", "123456789S", "1SS",
                                        "0x1S", "+1S", "1\n", "1m1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t ns = 0;
        CHECK_INT_EQ(fm_grpc_timeout_parse(wrong[i], &ns), FM_EINVAL);
    }
}

TEST(content_types)
{
    CHECK(fm_grpc_content_type_matches("application/grpc"));
    CHECK(fm_grpc_content_type_matches("application/grpc+proto"));
    CHECK(fm_grpc_content_type_matches("Application/GRPC; charset=utf-8"));
    CHECK(fm_grpc_content_type_matches("application/grpc+proto;x"));
    CHECK(!fm_grpc_content_type_matches(""));
    CHECK(!fm_grpc_content_type_matches("application/grp"));
    CHECK(!fm_grpc_content_type_matches("application/grpc-web"));
    CHECK(!fm_grpc_content_type_matches("application/grpc+json"));
    CHECK(!fm_grpc_content_type_matches("application/grpc+proton"));
    CHECK(!fm_grpc_content_type_matches("text/plain"));
}

static const char *encoded(const char *message, size_t length_max)
{
    static struct fm_text text;
    fm_text_clear(&text);
    fm_text_append_string(&text, "");
    fm_grpc_message_encode(&text, message, length_max);
    return text.data;
}

TEST(messages)
{
    CHECK_STR_EQ(encoded("plain words, 100%", 100), "plain words, 100%25");
    CHECK_STR_EQ(encoded("a\nb\tc\x7f", 100), "a%0Ab%09c%7F");
    CHECK_STR_EQ(encoded("gr\xc3\xb6\xc3\x9f"
                         "e",
                         100),
                 "gr%C3%B6%C3%9Fe");
    CHECK_STR_EQ(encoded("\xff", 100), "%FF");
    CHECK_STR_EQ(encoded("", 100), "");
    /* Cut between characters. */
    CHECK_STR_EQ(encoded("ab\xc3\xb6", 8), "ab%C3%B6");
    CHECK_STR_EQ(encoded("ab\xc3\xb6", 7), "ab");
    CHECK_STR_EQ(encoded("abc", 2), "ab");
}

TEST_MAIN()
