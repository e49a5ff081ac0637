/*
 * Lines of an OpenAI batch. See request_line.h. Pure.
 */
#include "core/source/request_line.h"

#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"

static const char *const members[] = {FM_REQUEST_LINE_ID, "method", "url", "body"};
enum { MEMBERS = sizeof(members) / sizeof(members[0]), BODY = 3 };

/* --- Paths --- */

int fm_request_path_check(const char *path, struct fm_error *reterr)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        if (strcmp(path, members[i]) == 0) {
            return 0;
        }
    }
    if (strncmp(path, "body.", 5) != 0) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "there is no column '%s' in an OpenAI batch, whose columns are "
                            "custom_id, method, url, body and what is in the body; did you mean "
                            "'body.%s'?",
                            path, path);
    }
    for (const char *name = path + 5; name != NULL;) {
        const char *dot = strchr(name, '.');
        size_t length = dot != NULL ? (size_t)(dot - name) : strlen(name);
        if (length == 0 || length > FM_REQUEST_LINE_NAME_MAX) {
            return fm_error_set(reterr, FM_ENOTFOUND,
                                "the column '%s' of an OpenAI batch has a member's name that is "
                                "empty or longer than %d bytes",
                                path, FM_REQUEST_LINE_NAME_MAX);
        }
        name = dot != NULL ? dot + 1 : NULL;
    }
    return 0;
}

/* --- Values --- */

static int no_object(const struct fm_json_reader *json, struct fm_error *reterr)
{
    /* The reader has seen one line only, and says so: which one is said elsewhere. */
    static const char line[] = "line 1, ";
    const char *words = json->error.text;
    words += strncmp(words, line, sizeof(line) - 1) == 0 ? sizeof(line) - 1 : 0;
    return fm_error_set(reterr, FM_ECORRUPT, "the line is no JSON object%s%s",
                        words[0] != '\0' ? ": " : "", words);
}

/* The member's value, from behind its key on. */
static int value_take(struct fm_json_reader *json, struct fm_request_value *ret_value)
{
    size_t from = json->offset;
    int status = fm_json_skip(json);
    while (status == 0 && strchr(" \t\r\n:", json->data[from]) != NULL) {
        from++;
    }
    *ret_value = (struct fm_request_value){json->data + from, json->offset - from};
    return status;
}

/* The values of some members of an object, which is all that the text is. */
static int members_find(const char *data, size_t size, const char *const *names, size_t count,
                        struct fm_request_value *values, struct fm_error *reterr)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, data, size);
    enum fm_json_token token = fm_json_next(&json);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return no_object(&json, reterr);
    }
    for (token = fm_json_next(&json); token == FM_JSON_KEY; token = fm_json_next(&json)) {
        struct fm_request_value value;
        size_t found = 0;
        while (found < count && !fm_json_equals(&json, names[found])) {
            found++;
        }
        if (value_take(&json, &value) != 0) {
            return no_object(&json, reterr);
        }
        if (found < count && values[found].data != NULL) {
            return fm_error_set(reterr, FM_ECORRUPT, "the member '%s' occurs twice", names[found]);
        }
        if (found < count) {
            values[found] = value;
        }
    }
    return token == FM_JSON_OBJECT_END && fm_json_next(&json) == FM_JSON_END
               ? 0
               : no_object(&json, reterr);
}

int fm_request_line_read(const char *data, size_t size, struct fm_request_line *ret_line,
                         struct fm_error *reterr)
{
    struct fm_request_value values[MEMBERS] = {{NULL, 0}};
    int status = members_find(data, size, members, MEMBERS, values, reterr);
    *ret_line = (struct fm_request_line){
        .id = values[0], .method = values[1], .url = values[2], .body = values[BODY]};
    return status;
}

int fm_request_line_value(const struct fm_request_line *line, const char *path,
                          struct fm_request_value *ret_value, struct fm_error *reterr)
{
    const struct fm_request_value all[MEMBERS] = {line->id, line->method, line->url, line->body};
    size_t first = 0;
    while (first < BODY && strcmp(path, members[first]) != 0) {
        first++;
    }
    struct fm_request_value value = all[first];
    const char *name = first == BODY ? strchr(path, '.') : NULL;
    while (name != NULL && value.data != NULL && value.data[0] == '{') {
        char one[FM_REQUEST_LINE_NAME_MAX + 1];
        const char *const wanted = one;
        const char *dot = strchr(++name, '.');
        size_t length = dot != NULL ? (size_t)(dot - name) : strlen(name);
        struct fm_request_value within = {NULL, 0};
        length = length < sizeof(one) ? length : sizeof(one) - 1;
        memcpy(one, name, length);
        one[length] = '\0';
        int status = members_find(value.data, value.size, &wanted, 1, &within, reterr);
        if (status != 0) {
            return status;
        }
        value = within;
        name = dot;
    }
    *ret_value = name == NULL ? value : (struct fm_request_value){NULL, 0};
    return 0;
}

/* --- What must be --- */

static bool is_text(const struct fm_request_value *value, const char *text)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, value->data, value->size);
    return fm_json_next(&json) == FM_JSON_STRING && fm_json_equals(&json, text);
}

/* Whether the string is the same after it was decoded. */
static bool is_exact(const struct fm_request_value *value)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, value->data, value->size);
    return fm_json_next(&json) == FM_JSON_STRING && fm_json_is_text(&json);
}

/* A JSON value in words, not too much of it. */
static int shown(const struct fm_request_value *value)
{
    return value->size > 80 ? 80 : (int)value->size;
}

int fm_request_line_check(const struct fm_request_line *line, const char *url,
                          struct fm_error *reterr)
{
    const struct fm_request_value *const values[] = {&line->id, &line->method, &line->url,
                                                     &line->body};
    for (size_t i = 0; i < MEMBERS; i++) {
        if (values[i]->data == NULL) {
            return fm_error_set(reterr, FM_ECORRUPT, "the member '%s' is missing", members[i]);
        }
        if (values[i]->data[0] != (i == BODY ? '{' : '"')) {
            return fm_error_set(reterr, FM_ETYPE, "the member '%s' is no %s", members[i],
                                i == BODY ? "object" : "string");
        }
    }
    if (!is_exact(&line->id)) {
        return fm_error_set(reterr, FM_ETYPE,
                            "the custom_id is %.*s, in which a surrogate stands alone: no text can "
                            "hold it, so no answer could name it",
                            shown(&line->id), line->id.data);
    }
    if (!is_text(&line->method, "POST")) {
        return fm_error_set(reterr, FM_ETYPE, "the method is %.*s, but requests are by POST",
                            shown(&line->method), line->method.data);
    }
    return url == NULL || is_text(&line->url, url)
               ? 0
               : fm_error_set(reterr, FM_ETYPE, "the url is %.*s, but this job answers '%s'",
                              shown(&line->url), line->url.data, url);
}
