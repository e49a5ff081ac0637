/*
 * Fuzzes core/proto/json: any bytes are read to a clean end or to an error with a place; what was
 * read can be written, and reads back the same.
 */
#include "core/proto/json.h"

#include <string.h>

#include "tests/fuzz/check.h"

/* Reads everything and writes the same values. False: the text is bad. */
static bool copy(const char *data, size_t size, struct fm_text *text)
{
    struct fm_json_reader reader;
    struct fm_json_writer writer;
    struct fm_text decoded = {0};
    fm_json_reader_init(&reader, data, size);
    fm_json_writer_init(&writer, text);
    for (;;) {
        enum fm_json_token token = fm_json_next(&reader);
        FUZZ_CHECK(reader.offset <= size);
        if (token == FM_JSON_END || token == FM_JSON_ERROR) {
            fm_text_deinit(&decoded);
            FUZZ_CHECK((token == FM_JSON_ERROR) == (reader.error.status != 0));
            return token == FM_JSON_END;
        }
        fm_text_clear(&decoded);
        double number = 0;
        if (token == FM_JSON_KEY || token == FM_JSON_STRING) {
            fm_text_append(&decoded, "", 0);
            fm_json_decode(&reader, &decoded);
            FUZZ_CHECK(strlen(decoded.data) != decoded.length ||
                       fm_json_equals(&reader, decoded.data));
        }
        if (token == FM_JSON_KEY && strlen(decoded.data) == decoded.length) {
            fm_json_key(&writer, decoded.data);
        } else if (token == FM_JSON_KEY) {
            fm_json_key(&writer, "key with a zero byte");
        } else if (token == FM_JSON_STRING) {
            fm_json_string_n(&writer, decoded.data, decoded.length);
        } else if (token == FM_JSON_NUMBER) {
            int64_t integer = 0;
            uint64_t count = 0;
            if (fm_json_int64(&reader, &integer) == 0) {
                fm_json_int(&writer, integer);
            } else if (fm_json_uint64(&reader, &count) == 0) {
                fm_json_uint(&writer, count);
            } else {
                number = fm_json_double(&reader, &number) == 0 ? number : 0;
                fm_json_number(&writer, number);
            }
        } else if (token == FM_JSON_OBJECT_BEGIN) {
            fm_json_object_begin(&writer);
        } else if (token == FM_JSON_OBJECT_END) {
            fm_json_object_end(&writer);
        } else if (token == FM_JSON_ARRAY_BEGIN) {
            fm_json_array_begin(&writer);
        } else if (token == FM_JSON_ARRAY_END) {
            fm_json_array_end(&writer);
        } else if (token == FM_JSON_NULL) {
            fm_json_null(&writer);
        } else {
            fm_json_bool(&writer, token == FM_JSON_TRUE);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_text first = {0};
    struct fm_text second = {0};
    if (copy((const char *)data, size, &first)) {
        bool good = copy(first.data, first.length, &second);
        FUZZ_CHECK(good);
        FUZZ_CHECK(first.length == second.length &&
                   memcmp(first.data, second.data, first.length) == 0 && !fm_fuzz_canary);
    }
    fm_text_deinit(&first);
    fm_text_deinit(&second);
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, (const char *)data, size);
    (void)!fm_json_skip(&reader);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "{\"a\":[1,-2.5e10,\"x\\u00e9\\ud83d\\ude00\\n\",true,false,null,{\"b\":{}}],\"c\":[]}",
        ("[0.1,1e-7,123456789012345678901234567890,4.9e-324,1.7976931348623157e308,-0,"
         "18446744073709551615]"),
        "\"\xE2\x82\xAC \\ud800 \\\" \\u0000\"",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}
