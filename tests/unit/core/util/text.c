/*
 * Tests of core/util/text: growing text, strict parsers, suggestions, UTF-8.
 */
#include "core/util/text.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

TEST(text_grows_and_is_taken)
{
    struct fm_text text = {0};
    for (int i = 0; i < 1000; i++) {
        fm_text_append_format(&text, "%d,", i);
    }
    fm_text_append_char(&text, '!');
    CHECK(!text.failed);
    CHECK_UINT_EQ(text.length, 10 * 2 + 90 * 3 + 900 * 4 + 1);
    char *taken = fm_text_take(&text);
    CHECK_STR_CONTAINS(taken, "998,999,!");
    CHECK_PTR_EQ(text.data, NULL);
    fm_free(taken);
    char *empty = fm_text_take(&text);
    CHECK_STR_EQ(empty, "");
    fm_free(empty);
}

TEST(a_failed_append_sticks)
{
    struct fm_text text = {0};
    (void)fm_memory_fail_at(1, 0);
    fm_text_append_string(&text, "lost");
    (void)fm_memory_fail_at(0, 0);
    fm_text_append_string(&text, "also lost");
    CHECK(text.failed);
    CHECK_PTR_EQ(fm_text_take(&text), NULL);
}

TEST(text_leaves_the_callers_memory_when_it_grows)
{
    char memory[8];
    struct fm_text text;
    fm_text_begin(&text, memory, sizeof(memory));
    fm_text_append(&text, "1234567", 7);
    CHECK_PTR_EQ(text.data, memory);
    CHECK_STR_EQ(text.data, "1234567");
    fm_text_append_char(&text, '8');
    CHECK(text.data != memory);
    CHECK_STR_EQ(text.data, "12345678");
    fm_text_deinit(&text);
    fm_text_begin(&text, memory, sizeof(memory));
    fm_text_append(&text, "ab", 2);
    char *taken = fm_text_take(&text);
    CHECK(taken != memory);
    CHECK_STR_EQ(taken, "ab");
    fm_free(taken);
    fm_text_begin(&text, memory, sizeof(memory));
    fm_text_deinit(&text);
}

TEST(suggestions_are_near_ones)
{
    static const char *const words[] = {"source", "sink", "stages", "outputs"};
    CHECK_STR_EQ(fm_text_suggest("souce", words, 4), "source");
    CHECK_STR_EQ(fm_text_suggest("STAGE", words, 4), "stages");
    CHECK_PTR_EQ(fm_text_suggest("qwertz", words, 4), NULL);
    CHECK_PTR_EQ(fm_text_suggest("x", words, 0), NULL);
    CHECK_INT_EQ(fm_text_distance("kitten", "sitting"), 3);
    CHECK_INT_EQ(fm_text_distance("", "abc"), 3);
}

TEST(suggestions_one_at_a_time_are_the_same)
{
    static const char *const names[] = {"imagine", "images", "image", "imago", "x"};
    const char *best = NULL;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        best = fm_text_suggest_next("imags", best, names[i]);
        CHECK_PTR_EQ(best, fm_text_suggest("imags", names, i + 1));
    }
    CHECK(fm_text_suggest_next("imags", NULL, "threads") == NULL);
}

TEST(a_byte_order_mark_is_only_a_whole_one_in_front)
{
    CHECK_UINT_EQ(fm_text_after_bom("\xEF\xBB\xBFx", 4), 3);
    CHECK_UINT_EQ(fm_text_after_bom("\xEF\xBB\xBF", 3), 3);
    CHECK_UINT_EQ(fm_text_after_bom("\xEF\xBB\xBF", 2), 0);
    CHECK_UINT_EQ(fm_text_after_bom("x\xEF\xBB\xBF", 4), 0);
    CHECK_UINT_EQ(fm_text_after_bom("", 0), 0);
}

TEST(unsigned_numbers_are_strict)
{
    uint64_t value = 7;
    CHECK_INT_EQ(fm_parse_uint64("18446744073709551615", &value), 0);
    CHECK_UINT_EQ(value, UINT64_MAX);
    CHECK_INT_EQ(fm_parse_uint64("18446744073709551616", &value), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_parse_uint64("0xFf", &value), 0);
    CHECK_UINT_EQ(value, 255);
    static const char *const bad[] = {"", " 1", "1 ", "-1", "+1", "0x", "1e3", "12a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(fm_parse_uint64(bad[i], &value), FM_EINVAL);
    }
    CHECK_UINT_EQ(value, 255);
}

TEST(signed_numbers_reach_their_ends)
{
    int64_t value = 0;
    CHECK_INT_EQ(fm_parse_int64("-9223372036854775808", &value), 0);
    CHECK_INT_EQ(value, INT64_MIN);
    CHECK_INT_EQ(fm_parse_int64("9223372036854775807", &value), 0);
    CHECK_INT_EQ(value, INT64_MAX);
    CHECK_INT_EQ(fm_parse_int64("9223372036854775808", &value), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_parse_int64("--1", &value), FM_EINVAL);
}

TEST(doubles_round_trip)
{
    static const double values[] = {0.0,       1.0, -2.5, 0.1, 1e300, 1e-300, 3.141592653589793,
                                    12345678.9};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char text[40];
        double value = 0;
        (void)snprintf(text, sizeof(text), "%.17g", values[i]);
        CHECK_INT_EQ(fm_parse_double(text, &value), 0);
        CHECK_NEAR(value, values[i], fabs(values[i]) * 4.5e-16);
    }
    double value = 0;
    static const char *const bad[] = {"",    ".",     "e5",  "1e",   "1e+", "nan",
                                      "inf", "1e999", "1,5", "0x10", "1 "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(fm_parse_double(bad[i], &value), FM_EINVAL);
    }
}

TEST(durations_and_sizes)
{
    uint64_t value = 0;
    CHECK_INT_EQ(fm_parse_duration_ns("250ms", &value), 0);
    CHECK_UINT_EQ(value, 250000000);
    CHECK_INT_EQ(fm_parse_duration_ns("1.5s", &value), 0);
    CHECK_UINT_EQ(value, 1500000000);
    CHECK_INT_EQ(fm_parse_duration_ns("2", &value), 0);
    CHECK_UINT_EQ(value, 2000000000);
    CHECK_INT_EQ(fm_parse_duration_ns("-1s", &value), FM_EINVAL);
    CHECK_INT_EQ(fm_parse_duration_ns("1 s", &value), FM_EINVAL);
    CHECK_INT_EQ(fm_parse_duration_ns("1e15h", &value), FM_ETOOLARGE);
    CHECK_INT_EQ(fm_parse_bytes("64MiB", &value), 0);
    CHECK_UINT_EQ(value, 64u << 20);
    CHECK_INT_EQ(fm_parse_bytes("1.5GB", &value), 0);
    CHECK_UINT_EQ(value, 1500000000);
    CHECK_INT_EQ(fm_parse_bytes("4x", &value), FM_EINVAL);
    bool flag = false;
    CHECK_INT_EQ(fm_parse_bool("yes", &flag), 0);
    CHECK(flag);
    CHECK_INT_EQ(fm_parse_bool("off", &flag), 0);
    CHECK(!flag);
    CHECK_INT_EQ(fm_parse_bool("maybe", &flag), FM_EINVAL);
}

/* Every two-byte prefix, against the table of Unicode 15 (table 3-7). */
TEST(utf8_first_bytes_exhaustively)
{
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            char text[4] = {(char)first, (char)second, (char)0x80, (char)0x80};
            bool tail = second >= 0x80 && second <= 0xBF;
            size_t expected = 0;
            if (first < 0x80) {
                expected = 1;
            } else if (first >= 0xC2 && first <= 0xDF && tail) {
                expected = 2;
            } else if (first >= 0xE0 && first <= 0xEF && tail) {
                bool bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F);
                expected = bad ? 0 : 3;
            } else if (first >= 0xF0 && first <= 0xF4 && tail) {
                bool bad = (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
                expected = bad ? 0 : 4;
            }
            CHECK_UINT_EQ(fm_utf8_sequence(text, 4), expected);
            if (expected > 1) {
                CHECK_UINT_EQ(fm_utf8_sequence(text, expected - 1), 0);
            }
        }
    }
    CHECK_UINT_EQ(fm_utf8_sequence("a", 0), 0);
}

TEST(hexadecimal_digits)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    for (int c = -128; c < 128; c++) {
        const char *at = c != 0 ? strchr(digits, c) : NULL;
        int value = at == NULL ? -1 : (int)(at - digits);
        CHECK_INT_EQ(fm_hex_digit((char)c), value > 15 ? value - 6 : value);
    }
}

TEST_MAIN()
