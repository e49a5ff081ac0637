/*
 * The JSON reader and writer: a table of good and bad texts in the spirit of the public conformance
 * suites, decoding, numbers, limits, and round trips through both.
 */
#include "core/proto/json.h"

#include "tests/harness/test.h"

/* Reads everything. Returns 0 when the text is good. */
static int read_all(const char *text, size_t length)
{
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, text, length);
    for (;;) {
        enum fm_json_token token = fm_json_next(&reader);
        if (token == FM_JSON_END) {
            return 0;
        }
        if (token == FM_JSON_ERROR) {
            return reader.error.status;
        }
    }
}

TEST(accepts_good_texts)
{
    static const char *const good[] = {
        "{}",
        "[]",
        "[[]   ]",
        "[\"\"]",
        "[\"a\"]",
        "[false]",
        "[null, 1, \"1\", {}]",
        "[null]",
        "[1\n]",
        " [1]",
        "\xEF\xBB\xBF [1]",
        "[1,null,null,null,2]",
        "[2] ",
        "[123e65]",
        "[0e+1]",
        "[0e1]",
        "[ 4]",
        "[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
        "[20e1]",
        "[-0]",
        "[-123]",
        "[-1]",
        "[1E22]",
        "[1E-2]",
        "[1E+2]",
        "[123e45]",
        "[123.456e78]",
        "[1e-2]",
        "[1e+2]",
        "[123]",
        "[123.456789]",
        "{\"asd\":\"sdf\", \"dfg\":\"fgh\"}",
        "{\"asd\":\"sdf\"}",
        "{\"a\":\"b\",\"a\":\"c\"}",
        "{\"\":0}",
        "{\"foo\\u0000bar\": 42}",
        "{\"a\":[]}",
        "{\n\"a\": \"b\"\n}",
        "[\"\\u0060\\u012a\\u12AB\"]",
        "[\"\\uD801\\udc37\"]",
        "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
        "[\"a/*b*/c/*d//e\"]",
        "[\"\\\\a\"]",
        "[\"\\u0012\"]",
        "[\"\\uFFFF\"]",
        "[\"\xE2\x82\xAC\xF0\x9D\x84\x9E\"]",
        "[\"\x7f\"]",
        "42",
        "-0.1",
        "null",
        "\"asd\"",
        "true",
        "\"\"",
        "[\"a\"]\n",
        "[true]",
        " [] ",
        "[\"\\uD800\"]",
        "[0.4e-999]",
        "[[],[[]],{}]",
        "[1.5E-07]",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (read_all(good[i], strlen(good[i])) != 0) {
            printf("# refused: %s\n", good[i]);
        }
        CHECK_INT_EQ(read_all(good[i], strlen(good[i])), 0);
    }
}

TEST(refuses_bad_texts)
{
    static const char *const bad[] = {
        "",
        " ",
        "[1 true]",
        "[a]",
        "[\"\": 1]",
        "[\"\"],",
        "[,1]",
        "[1,,2]",
        "[\"x\",,]",
        "[\"x\"]]",
        "[\"\",]",
        "[\"x\"",
        "[x",
        "[3[4]]",
        "[1:2]",
        "[,]",
        "[-]",
        "[   , \"\"]",
        "[\"a\",\n4\n,1,",
        "[1,]",
        "[1,1,]",
        "[*]",
        "[\"\"",
        "[1,",
        "[1,\n1\n,1",
        "[{}",
        "[fals]",
        "[nul]",
        "[tru]",
        "[++1234]",
        "[+1]",
        "[+Inf]",
        "[-01]",
        "[-1.0.]",
        "[-2.]",
        "[-NaN]",
        "[.-1]",
        "[.2e-3]",
        "[0.1.2]",
        "[0.3e+]",
        "[0.3e]",
        "[0.e1]",
        "[0E+]",
        "[0E]",
        "[0e+]",
        "[0e]",
        "[1.0e+]",
        "[1.0e-]",
        "[1.0e]",
        "[1 000.0]",
        "[1eE2]",
        "[2.e+3]",
        "[2.e-3]",
        "[2.e3]",
        "[9.e+]",
        "[Inf]",
        "[NaN]",
        "[1+2]",
        "[0x1]",
        "[0x42]",
        "[Infinity]",
        "[0e+-1]",
        "[-123.123foo]",
        "[-Infinity]",
        "[-foo]",
        "[- 1]",
        "[-012]",
        "[-.123]",
        "[-1x]",
        "[1ea]",
        "[1a]",
        "[.123]",
        "[1.2a-3]",
        "[012]",
        "[\"x\", truth]",
        "{[: \"x\"}\n",
        "{\"x\", null}",
        "{\"x\"::\"b\"}",
        "{\"a\":\"a\" 123}",
        "{key: 'value'}",
        "{\"a\" b}",
        "{:\"b\"}",
        "{\"a\" \"b\"}",
        "{\"a\":",
        "{\"a\"",
        "{1:1}",
        "{9999E9999:1}",
        "{null:null,null:null}",
        "{\"id\":0,,,,,}",
        "{'a':0}",
        "{\"id\":0,}",
        "{\"a\":\"b\"}/**/",
        "{\"a\":\"b\"}//",
        "{\"a\":\"b\",,\"c\":\"d\"}",
        "{a: \"b\"}",
        "{\"a\":\"a",
        "{ \"foo\" : \"bar\", \"a\" }",
        "{\"a\":\"b\"}#",
        " ",
        "[\"\\uD800\\\"]",
        "[\"\\uD800\\u\"]",
        "[\"\\uD800\\u1\"]",
        "[\"\\uD800\\u1x\"]",
        "[\xC3\xA9]",
        "[\"\\\n\"]",
        "[\"\\x00\"]",
        "[\"\\\\\\\"]",
        "[\"\\\t\"]",
        "[\"\\\"]",
        "[\"\\u00A\"]",
        "[\"\\uqqqq\"]",
        "[\"\\a\"]",
        "[\\u0020\"asd\"]",
        "[\\n]",
        "\"",
        "['single']",
        "abc",
        "[\"\\",
        "[\"new\nline\"]",
        "[\"\t\"]",
        "\"\\UA66D\"",
        "\"\"x",
        "<.>",
        "[<null>]",
        "[1]x",
        "[1]]",
        "[\"asd]",
        "aa",
        "[True]",
        "1]",
        "{\"x\": true,",
        "[][]",
        "]",
        "\xEF\xBB\xBF\xEF\xBB\xBF{}",
        "{\xEF\xBB\xBF}",
        "[",
        "[1}",
        "{\"a\":1]",
        "{\"a\": true} \"x\"",
        "{]",
        "{,",
        "{[",
        "{\"a",
        "[\"\xE9\"]",
        "[\"\xFF\"]",
        "[\"\xED\xA0\x80\"]",
        "[\"\xC0\xAF\"]",
        "[\"\xF4\xBF\xBF\xBF\"]",
        "[\"\x81\"]",
        "[\f]",
        "[1]\v",
        "nulll",
        "-",
        "--1",
        "\\u000A\"\"",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (read_all(bad[i], strlen(bad[i])) == 0) {
            printf("# accepted: %s\n", bad[i]);
        }
        CHECK_INT_EQ(read_all(bad[i], strlen(bad[i])), FM_EINVAL);
    }
    CHECK_INT_EQ(read_all("[\"\0\"]", 5), FM_EINVAL);
    CHECK_INT_EQ(read_all("123\0", 4), FM_EINVAL);
    CHECK_INT_EQ(read_all("[\"\\\0\"]", 6), FM_EINVAL);
}

TEST(every_prefix_of_a_good_text_is_bad)
{
    const char *text = "{\"a\":[1.5e3,\"\\u00e9x\",{\"b\":null}],\"c\":true}";
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        /* A copy of exactly that size, so that a sanitizer sees a read beyond it. */
        char *copy = malloc(i + 1);
        memcpy(copy, text, i);
        char *exact = realloc(copy, i == 0 ? 1 : i);
        CHECK_INT_EQ(read_all(exact, i), FM_EINVAL);
        free(exact);
    }
    CHECK_INT_EQ(read_all(text, length), 0);
}

TEST(reports_line_and_column)
{
    struct fm_json_reader reader;
    const char *text = "{\n  \"a\": 1,\n  b: 2\n}";
    fm_json_reader_init(&reader, text, strlen(text));
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_OBJECT_BEGIN);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_KEY);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_NUMBER);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_ERROR);
    CHECK_STR_EQ(reader.error.text, "line 3, column 3: a key in quotes was expected here");
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_ERROR);
}

TEST(limits_depth)
{
    char text[2 * FM_JSON_DEPTH_MAX + 2];
    memset(text, '[', FM_JSON_DEPTH_MAX);
    memset(text + FM_JSON_DEPTH_MAX, ']', FM_JSON_DEPTH_MAX);
    CHECK_INT_EQ(read_all(text, (size_t)2 * FM_JSON_DEPTH_MAX), 0);
    memset(text, '[', FM_JSON_DEPTH_MAX + 1);
    CHECK_INT_EQ(read_all(text, FM_JSON_DEPTH_MAX + 1), FM_EINVAL);
}

TEST(decodes_strings)
{
    static const struct {
        const char *json;
        const char *text;
        size_t length;
    } rows[] = {
        {"\"plain\"", "plain", 5},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\\u20AC\\uD834\\uDD1E\"", "A\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E", 10},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\uD834x\"", "\xEF\xBF\xBDx", 4},
        {"\"\\uDD1E\\uD834\"", "\xEF\xBF\xBD\xEF\xBF\xBD", 6},
        {"\"\\uD834\\u0041\"",
         "\xEF\xBF\xBD"
         "A",
         4},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_json_reader reader;
        fm_json_reader_init(&reader, rows[i].json, strlen(rows[i].json));
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_STRING);
        struct fm_text text = {0};
        fm_json_decode(&reader, &text);
        CHECK_INT_EQ(text.length, rows[i].length);
        CHECK_MEM_EQ(text.data, rows[i].text, text.length);
        if (strlen(rows[i].text) == rows[i].length) {
            CHECK(fm_json_equals(&reader, rows[i].text));
        }
        CHECK(!fm_json_equals(&reader, "something else"));
        CHECK(!fm_json_equals(&reader, ""));
        fm_text_deinit(&text);
    }
}

TEST(strings_that_no_text_can_hold)
{
    static const struct {
        const char *json;
        bool text;
    } strings[] = {
        {"\"plain\"", true},
        {"\"\"", true},
        {"\"\\n\\\\\\\"\"", true},
        {"\"\\u00fc\"", true},
        {"\"\\ud83d\\ude00\"", true},
        {"\"a\\ufffd\"", true},
        {"\"\\uFFFD\\ud83d\"", false},
        {"\"\\ud83d\"", false},
        {"\"\\ude00\"", false},
        {"\"\\ud83dx\"", false},
        {"\"\\ud83d\\ud83d\\ude00\"", false},
        {"\"\xEF\xBF\xBD\\n\"", true},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        struct fm_json_reader reader;
        fm_json_reader_init(&reader, strings[i].json, strlen(strings[i].json));
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_STRING);
        CHECK_INT_EQ(fm_json_is_text(&reader), strings[i].text);
    }
}

TEST(skips_values)
{
    struct fm_json_reader reader;
    const char *text = "{\"a\":{\"x\":[1,{\"y\":[]}]},\"b\":[[]],\"c\":3,\"d\":4}";
    fm_json_reader_init(&reader, text, strlen(text));
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_OBJECT_BEGIN);
    for (int i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_KEY);
        CHECK_INT_EQ(fm_json_skip(&reader), 0);
    }
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_KEY);
    CHECK(fm_json_equals(&reader, "d"));
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_NUMBER);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_OBJECT_END);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_END);
    fm_json_reader_init(&reader, "[]", 2);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_ARRAY_BEGIN);
    CHECK_INT_EQ(fm_json_skip(&reader), FM_EINVAL);
}

static int read_integer(const char *text, int64_t *ret_signed, uint64_t *ret_unsigned)
{
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, text, strlen(text));
    if (fm_json_next(&reader) != FM_JSON_NUMBER) {
        return FM_EINVAL;
    }
    return ret_signed != NULL ? fm_json_int64(&reader, ret_signed)
                              : fm_json_uint64(&reader, ret_unsigned);
}

TEST(reads_integers_exactly)
{
    int64_t value = 0;
    CHECK_INT_EQ(read_integer("-9223372036854775808", &value, NULL), 0);
    CHECK(value == INT64_MIN);
    CHECK_INT_EQ(read_integer("9223372036854775807", &value, NULL), 0);
    CHECK(value == INT64_MAX);
    CHECK_INT_EQ(read_integer("9223372036854775808", &value, NULL), FM_ETYPE);
    CHECK_INT_EQ(read_integer("-9223372036854775809", &value, NULL), FM_ETYPE);
    CHECK_INT_EQ(read_integer("1.0", &value, NULL), FM_ETYPE);
    CHECK_INT_EQ(read_integer("1e3", &value, NULL), FM_ETYPE);
    uint64_t big = 0;
    CHECK_INT_EQ(read_integer("18446744073709551615", NULL, &big), 0);
    CHECK(big == UINT64_MAX);
    CHECK_INT_EQ(read_integer("18446744073709551616", NULL, &big), FM_ETYPE);
    CHECK_INT_EQ(read_integer("-1", NULL, &big), FM_ETYPE);
    CHECK_INT_EQ(read_integer("-0", NULL, &big), 0);
    CHECK_INT_EQ(big, 0);
}

TEST(writes_what_it_reads)
{
    struct fm_text text = {0};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, &text);
    fm_json_object_begin(&writer);
    fm_json_key(&writer, "a\"b");
    fm_json_array_begin(&writer);
    fm_json_int(&writer, INT64_MIN);
    fm_json_uint(&writer, UINT64_MAX);
    fm_json_float(&writer, 0.1f);
    fm_json_float(&writer, INFINITY);
    fm_json_number(&writer, 0.1);
    fm_json_number(&writer, NAN);
    fm_json_bool(&writer, true);
    fm_json_bool(&writer, false);
    fm_json_null(&writer);
    fm_json_object_begin(&writer);
    fm_json_object_end(&writer);
    fm_json_array_begin(&writer);
    fm_json_array_end(&writer);
    fm_json_array_end(&writer);
    fm_json_key(&writer, "s");
    fm_json_string_n(&writer, "x\0\x01\x1f\x7f\n\xFF\xC3\xA9", 9);
    fm_json_key(&writer, "raw");
    fm_json_raw(&writer, "[1]", 3);
    fm_json_object_end(&writer);
    CHECK(!text.failed);
    CHECK_STR_EQ(text.data,
                 "{\"a\\\"b\":[-9223372036854775808,18446744073709551615,0.1,null,0.1,null,true,"
                 "false,null,{},[]],"
                 "\"s\":\"x\\u0000\\u0001\\u001f\\u007f\\n\xEF\xBF\xBD\xC3\xA9\",\"raw\":[1]}");
    CHECK_INT_EQ(read_all(text.data, text.length), 0);
    fm_text_deinit(&text);
}

TEST(any_bytes_written_as_a_string_read_back_clean)
{
    uint64_t state = 12345;
    for (int round = 0; round < 2000; round++) {
        char bytes[40];
        size_t length = (size_t)(round % 40);
        for (size_t i = 0; i < length; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (char)(state >> 56);
        }
        struct fm_text text = {0};
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, &text);
        fm_json_string_n(&writer, bytes, length);
        struct fm_json_reader reader;
        fm_json_reader_init(&reader, text.data, text.length);
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_STRING);
        struct fm_text again = {0};
        fm_json_decode(&reader, &again);
        /* Written once more, the clean form stays as it is. */
        struct fm_text twice = {0};
        fm_json_writer_init(&writer, &twice);
        fm_json_string_n(&writer, again.data != NULL ? again.data : "", again.length);
        CHECK_STR_EQ(twice.data, text.data);
        fm_text_deinit(&text);
        fm_text_deinit(&again);
        fm_text_deinit(&twice);
    }
}

/* Eight bytes are looked at together: each byte that is special, at each place, in texts of each
 * length, stands alone between plain ones. */
TEST(a_special_byte_is_seen_wherever_it_stands)
{
    for (unsigned byte = 0; byte < 0x80; byte++) {
        for (size_t length = 1; length <= 20; length++) {
            for (size_t place = 0; place < length; place++) {
                char bytes[20];
                memset(bytes, 'a', sizeof bytes);
                bytes[place] = (char)byte;
                struct fm_text text = {0};
                struct fm_json_writer writer;
                fm_json_writer_init(&writer, &text);
                fm_json_string_n(&writer, bytes, length);
                bool plain = byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
                CHECK(plain == (text.length == length + 2));
                struct fm_json_reader reader;
                fm_json_reader_init(&reader, text.data, text.length);
                CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_STRING);
                struct fm_text again = {0};
                fm_json_decode(&reader, &again);
                CHECK(again.length == length && memcmp(again.data, bytes, length) == 0);
                fm_text_deinit(&text);
                fm_text_deinit(&again);
            }
        }
    }
}

TEST_MAIN()
