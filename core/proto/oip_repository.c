/*
 * Repository requests. See oip_repository.h.
 */
#include "core/proto/oip_repository.h"

#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define FILE_PREFIX "file:"

static int digit_of(char character)
{
    return character >= 'A' && character <= 'Z'   ? character - 'A'
           : character >= 'a' && character <= 'z' ? character - 'a' + 26
           : character >= '0' && character <= '9' ? character - '0' + 52
           : character == '+' || character == '-' ? 62
           : character == '/' || character == '_' ? 63
                                                  : -1;
}

int fm_base64_decode(const char *text, size_t length, struct fm_text *content)
{
    uint32_t bits = 0;
    unsigned count = 0;
    size_t padding = 0;
    for (size_t i = 0; i < length; i++) {
        int digit = digit_of(text[i]);
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
            continue;
        }
        if (text[i] == '=' && count >= 2 && padding < 4 - count) {
            padding++;
            continue;
        }
        if (digit < 0 || padding > 0) {
            return FM_EINVAL;
        }
        bits = bits << 6 | (uint32_t)digit;
        if (++count == 4) {
            const char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
            fm_text_append(content, bytes, sizeof(bytes));
            bits = 0;
            count = 0;
        }
    }
    if (count == 1) {
        return FM_EINVAL;
    }
    if (count >= 2) {
        bits <<= 6 * (4 - count);
        const char bytes[2] = {(char)(bits >> 16), (char)(bits >> 8)};
        fm_text_append(content, bytes, count - 1);
    }
    return content->failed ? FM_ENOMEM : 0;
}

void fm_oip_repository_request_deinit(struct fm_oip_repository_request *request)
{
    for (uint32_t i = 0; i < request->file_count; i++) {
        fm_text_deinit(&request->files[i].path);
        fm_text_deinit(&request->files[i].content);
    }
    fm_free(request->files);
    fm_text_deinit(&request->config);
    *request = (struct fm_oip_repository_request){0};
}

static int read_file(struct fm_json_reader *reader, const char *path,
                     struct fm_oip_repository_request *request, struct fm_error *reterr)
{
    if (fm_json_next(reader) != FM_JSON_STRING) {
        return fm_error_set(reterr, FM_EINVAL, "parameter 'file:%.200s' must be a string of base64",
                            path);
    }
    if (request->file_count == FM_OIP_REPOSITORY_FILES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "more than %d files",
                            FM_OIP_REPOSITORY_FILES_MAX);
    }
    struct fm_oip_repository_file *grown =
        fm_realloc(request->files, (request->file_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the files");
    }
    request->files = grown;
    struct fm_oip_repository_file *file = &grown[request->file_count++];
    *file = (struct fm_oip_repository_file){0};
    fm_text_append_string(&file->path, path);
    /* Base64 has no character that JSON would escape but '/', which some writers do. */
    struct fm_text plain = {0};
    if (reader->escaped) {
        fm_json_decode(reader, &plain);
    }
    int status = plain.failed
                     ? FM_ENOMEM
                     : fm_base64_decode(reader->escaped ? plain.data : reader->text,
                                        reader->escaped ? plain.length : reader->text_length,
                                        &file->content);
    fm_text_deinit(&plain);
    if (status == FM_EINVAL) {
        return fm_error_set(reterr, status, "parameter 'file:%.200s' is not base64", path);
    }
    return status == 0 && !file->path.failed
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory for the files");
}

static int read_parameter(struct fm_json_reader *reader, const char *key,
                          struct fm_oip_repository_request *request, struct fm_error *reterr)
{
    if (strncmp(key, FILE_PREFIX, sizeof(FILE_PREFIX) - 1) == 0) {
        return read_file(reader, key + sizeof(FILE_PREFIX) - 1, request, reterr);
    }
    if (strcmp(key, "config") == 0) {
        if (fm_json_next(reader) != FM_JSON_STRING) {
            return fm_error_set(reterr, FM_EINVAL,
                                "parameter 'config' must be a string that holds the model's "
                                "configuration as JSON");
        }
        fm_text_clear(&request->config);
        fm_json_decode(reader, &request->config);
        fm_text_append_string(&request->config, "");
        request->has_config = true;
        return request->config.failed
                   ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the configuration")
                   : 0;
    }
    if (strcmp(key, "unload_dependents") == 0) {
        enum fm_json_token token = fm_json_next(reader);
        request->unload_dependents = token == FM_JSON_TRUE;
        return token == FM_JSON_TRUE || token == FM_JSON_FALSE
                   ? 0
                   : fm_error_set(reterr, FM_EINVAL,
                                  "parameter 'unload_dependents' must be true or false");
    }
    return fm_json_skip(reader) == 0 ? 0 : FM_EINVAL;
}

static int read_parameters(struct fm_json_reader *reader, struct fm_oip_repository_request *request,
                           struct fm_error *reterr)
{
    if (fm_json_next(reader) != FM_JSON_OBJECT_BEGIN) {
        return FM_EINVAL;
    }
    enum fm_json_token token = FM_JSON_ERROR;
    int status = 0;
    while (status == 0 && (token = fm_json_next(reader)) == FM_JSON_KEY) {
        struct fm_text key = {0};
        fm_json_decode(reader, &key);
        status = key.failed
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the request")
                     : read_parameter(reader, key.length > 0 ? key.data : "", request, reterr);
        fm_text_deinit(&key);
    }
    return status != 0 ? status : token == FM_JSON_OBJECT_END ? 0 : FM_EINVAL;
}

static int read_body(struct fm_json_reader *reader, struct fm_oip_repository_request *request,
                     struct fm_error *reterr)
{
    enum fm_json_token token = fm_json_next(reader);
    int status = token == FM_JSON_OBJECT_BEGIN ? 0 : FM_EINVAL;
    while (status == 0 && (token = fm_json_next(reader)) == FM_JSON_KEY) {
        status = fm_json_equals(reader, "parameters") ? read_parameters(reader, request, reterr)
                                                      : fm_json_skip(reader);
    }
    return status != 0                                                          ? status
           : token == FM_JSON_OBJECT_END && fm_json_next(reader) == FM_JSON_END ? 0
                                                                                : FM_EINVAL;
}

int fm_oip_repository_request_decode(const char *data, size_t size,
                                     struct fm_oip_repository_request *ret_request,
                                     struct fm_error *reterr)
{
    struct fm_error error = {0};
    *ret_request = (struct fm_oip_repository_request){0};
    if (size == 0) {
        return 0;
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, data, size);
    int status = read_body(&reader, ret_request, &error);
    if (status == 0) {
        return 0;
    }
    fm_oip_repository_request_deinit(ret_request);
    return error.status != 0
               ? fm_error_set(reterr, error.status, "%s", error.text)
               : fm_error_set(reterr, FM_EINVAL,
                              "the body must be empty or a JSON object like {\"parameters\": "
                              "{...}}%s%s",
                              reader.error.status != 0 ? ": " : "",
                              reader.error.status != 0 ? reader.error.text : "");
}
