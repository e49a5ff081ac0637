/*
 * Fuzzes core/source/request_line: whatever the bytes, a line of an OpenAI batch is one whose
 * values lie within it and are JSON, or an error with words. What stands before the first NUL is a
 * path.
 */
#include "core/source/request_line.h"

#include <string.h>

#include "core/proto/json.h"
#include "tests/fuzz/check.h"

/* Within the line, and one JSON value. */
static void value_check(const struct fm_request_value *value, const char *line, size_t size)
{
    struct fm_json_reader json;
    if (value->data == NULL) {
        return;
    }
    FUZZ_CHECK(value->data >= line && value->size > 0 && !fm_fuzz_canary);
    FUZZ_CHECK(value->size <= size && (size_t)(value->data - line) <= size - value->size);
    fm_json_reader_init(&json, value->data, value->size);
    if (fm_json_next(&json) == FM_JSON_OBJECT_BEGIN || value->data[0] == '[') {
        return; /* of these the whole was looked at when they were found */
    }
    FUZZ_CHECK(fm_json_next(&json) == FM_JSON_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_error error = {0};
    struct fm_request_line line;
    const char *end = size > 0 ? memchr(data, '\0', size) : NULL;
    const char *path = end != NULL ? (const char *)data : "body.input";
    const char *text = end != NULL ? end + 1 : (const char *)data;
    size_t length = size - (size_t)(text - (const char *)data);
    int status = fm_request_line_read(text, length, &line, &error);
    FUZZ_CHECK(status == 0 || (status == FM_ECORRUPT && error.text[0] != '\0'));
    if (status != 0) {
        return 0;
    }
    value_check(&line.id, text, length);
    value_check(&line.method, text, length);
    value_check(&line.url, text, length);
    value_check(&line.body, text, length);
    error = (struct fm_error){0};
    status = fm_request_line_check(&line, FM_REQUEST_LINE_EMBEDDINGS, &error);
    FUZZ_CHECK(status == 0 || error.text[0] != '\0');
    if (fm_request_path_check(path, &error) == 0) {
        struct fm_request_value value;
        error = (struct fm_error){0};
        status = fm_request_line_value(&line, path, &value, &error);
        FUZZ_CHECK(status == 0 || (status == FM_ECORRUPT && error.text[0] != '\0'));
        if (status == 0) {
            value_check(&value, text, length);
        }
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char path[] = "body.a.b"; /* with its NUL */
    static const char line[] = "{\"custom_id\": \"r\", \"method\": \"POST\", "
                               "\"url\": \"/v1/embeddings\", \"body\": {\"input\": [\"x\", 1], "
                               "\"a\": {\"b\": {\"c\": null}, \"\\u0062d\": \"\\\"}\"}}}";
    size_t before = index == 0 ? sizeof(path) : 0;
    if (index > 1 || before + sizeof(line) - 1 > capacity) {
        return 0;
    }
    memcpy(data, path, before);
    memcpy(data + before, line, sizeof(line) - 1);
    return before + sizeof(line) - 1;
}
