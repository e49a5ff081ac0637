/*
 * What the server is told, from either form. See messages.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/proto/base64.h"
#include "core/proto/json.h"
#include "core/util/error.h"
#include "host/messages/inference.pb-c.h"
#include "host/messages/messages_internal.h"

#define SETTINGS_MAX 64   /* of one request */
#define STRINGS_MAX  64   /* of one setting */
#define FILES_MAX    1024 /* of one model */

/* --- JSON --- */

struct body {
    struct fm_json_reader reader;
    struct fm_arena *arena;
    struct fm_error *reterr;
};

static int body_wrong(struct body *body, enum fm_json_token token, const char *where,
                      const char *expected)
{
    if (token == FM_JSON_ERROR) {
        return fm_error_set(body->reterr, FM_EINVAL, "the request's JSON is malformed: %s",
                            body->reader.error.text);
    }
    return fm_error_set(body->reterr, FM_EINVAL, "%s must be %s", where, expected);
}

static int body_no_memory(struct body *body)
{
    return fm_error_set(body->reterr, FM_ENOMEM, "out of memory while reading the request");
}

/* The current KEY or STRING, decoded into the arena. */
static int body_text(struct body *body, const char **ret_text, size_t *ret_length)
{
    struct fm_text text = {0};
    fm_json_decode(&body->reader, &text);
    const char *copy =
        text.failed
            ? NULL
            : fm_arena_strndup(body->arena, text.data != NULL ? text.data : "", text.length);
    *ret_length = text.length;
    fm_text_deinit(&text);
    *ret_text = copy;
    return copy != NULL ? 0 : body_no_memory(body);
}

/* Names and paths end where a NUL is: what stands behind it must not be dropped silently. */
static int nul_check(const struct body *body, const char *text, size_t length)
{
    return strlen(text) == length ? 0
                                  : fm_error_set(body->reterr, FM_EINVAL,
                                                 "'%.100s' has a NUL character in it, which names "
                                                 "and paths cannot have",
                                                 text);
}

static int body_string(struct body *body, const char *where, const char **ret_text)
{
    enum fm_json_token token = fm_json_next(&body->reader);
    size_t length = 0;
    int status = token != FM_JSON_STRING ? body_wrong(body, token, where, "a string")
                                         : body_text(body, ret_text, &length);
    return status == 0 ? nul_check(body, *ret_text, length) : status;
}

static int body_bool(struct body *body, const char *where, bool *ret_value)
{
    enum fm_json_token token = fm_json_next(&body->reader);
    *ret_value = token == FM_JSON_TRUE;
    return token == FM_JSON_TRUE || token == FM_JSON_FALSE
               ? 0
               : body_wrong(body, token, where, "true or false");
}

static int body_uint(struct body *body, const char *where, uint64_t *ret_value)
{
    enum fm_json_token token = fm_json_next(&body->reader);
    bool good = token == FM_JSON_NUMBER && fm_json_uint64(&body->reader, ret_value) == 0;
    return good ? 0 : body_wrong(body, token, where, "a whole number of at least 0");
}

/* Reads one member whose key is the current token, or skips it. */
typedef int (*member_read)(struct body *body, void *context);

/* The object that comes next; `where` names it. */
static int body_object(struct body *body, const char *where, member_read member, void *context)
{
    enum fm_json_token token = fm_json_next(&body->reader);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return body_wrong(body, token, where, "a JSON object");
    }
    while ((token = fm_json_next(&body->reader)) == FM_JSON_KEY) {
        int status = member(body, context);
        if (status != 0) {
            return status;
        }
    }
    return token == FM_JSON_OBJECT_END ? 0 : body_wrong(body, token, where, "a JSON object");
}

static int body_skip(struct body *body)
{
    return fm_json_skip(&body->reader) == 0
               ? 0
               : body_wrong(body, FM_JSON_ERROR, "the request", "JSON");
}

/* A whole body; an empty one is an empty object. */
static int body_read(struct fm_arena *arena, const void *data, size_t size, member_read member,
                     void *context, struct fm_error *reterr)
{
    struct body body = {.arena = arena, .reterr = reterr};
    if (size == 0) {
        return 0;
    }
    fm_json_reader_init(&body.reader, data, size);
    int status = body_object(&body, "the request", member, context);
    if (status != 0) {
        return status;
    }
    enum fm_json_token token = fm_json_next(&body.reader);
    return token == FM_JSON_END ? 0 : body_wrong(&body, token, "the request", "one JSON object");
}

/* --- Names and the index --- */

int fm_messages_read_name(const void *data, size_t size, struct fm_messages_name *ret_name,
                          struct fm_error *reterr)
{
    struct fm_messages_name name = {.name = ""};
    ProtobufCMessage *message = NULL;
    int status = fm_messages_unpack(&name.arena, &inference__model_ready_request__descriptor, data,
                                    size, &message, reterr);
    if (status != 0) {
        fm_arena_deinit(&name.arena);
        return status == FM_ENOMEM
                   ? status
                   : fm_error_set(reterr, status,
                                  "the request is malformed: it is no message of a name and a "
                                  "version in UTF-8");
    }
    /* The same fields in all of them; those that have one only leave the other empty. */
    name.name = ((Inference__ModelReadyRequest *)message)->name;
    name.version = ((Inference__ModelReadyRequest *)message)->version;
    *ret_name = name;
    return 0;
}

void fm_messages_name_deinit(struct fm_messages_name *name)
{
    fm_arena_deinit(&name->arena);
    *name = (struct fm_messages_name){0};
}

static int index_member(struct body *body, void *context)
{
    return fm_json_equals(&body->reader, "ready") ? body_bool(body, "ready", context)
                                                  : body_skip(body);
}

int fm_messages_read_index(enum fm_messages_form form, const void *data, size_t size,
                           bool *ret_ready_only, struct fm_error *reterr)
{
    struct fm_arena arena = {0};
    ProtobufCMessage *message = NULL;
    bool ready_only = false;
    int status;
    if (form == FM_MESSAGES_JSON) {
        status = body_read(&arena, data, size, index_member, &ready_only, reterr);
    } else {
        status = fm_messages_unpack(&arena, &inference__repository_index_request__descriptor, data,
                                    size, &message, reterr);
        ready_only = status == 0 && ((Inference__RepositoryIndexRequest *)message)->ready != 0;
    }
    fm_arena_deinit(&arena);
    *ret_ready_only = ready_only;
    return status;
}

/* --- Load and unload --- */

#define FILE_PREFIX "file:"

static int parameter_unknown(const char *key, bool load, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINVAL, "unknown parameter '%.100s'; %s", key,
                        load ? "a load knows config and file:PATH"
                             : "an unload knows unload_dependents");
}

static int load_check(const struct fm_messages_load *load, struct fm_error *reterr)
{
    if (load->file_count > 0 && load->config == NULL) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "files need a configuration with them; send the parameter 'config' too");
    }
    for (size_t i = 0; i < load->file_count; i++) {
        if (load->files[i].path[0] == '\0') {
            return fm_error_set(reterr, FM_EINVAL, "a parameter file: has no path behind it");
        }
    }
    return 0;
}

static int file_add(struct fm_arena *arena, struct fm_messages_load *load, const char *path,
                    const void *data, size_t size, struct fm_error *reterr)
{
    if (load->file_count == FILES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "a model is sent as at most %d files", FILES_MAX);
    }
    if (load->files == NULL) {
        load->files = fm_arena_alloc(arena, FILES_MAX * sizeof(*load->files));
    }
    if (load->files == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the request");
    }
    load->files[load->file_count++] =
        (struct fm_messages_file){.path = path, .data = data, .size = size};
    return 0;
}

struct load_reading {
    struct fm_messages_load *load;
    bool is_load;
};

static int load_parameter(struct body *body, void *context)
{
    struct load_reading *reading = context;
    struct fm_messages_load *load = reading->load;
    const char *key = NULL;
    size_t length = 0;
    int status = body_text(body, &key, &length);
    status = status == 0 ? nul_check(body, key, length) : status;
    if (status != 0) {
        return status;
    }
    if (!reading->is_load) {
        return strcmp(key, "unload_dependents") == 0
                   ? body_bool(body, "unload_dependents", &load->unload_dependents)
                   : parameter_unknown(key, false, body->reterr);
    }
    if (strcmp(key, "config") == 0) {
        return body_string(body, "parameter 'config'", &load->config);
    }
    if (strncmp(key, FILE_PREFIX, strlen(FILE_PREFIX)) != 0) {
        return parameter_unknown(key, true, body->reterr);
    }
    enum fm_json_token token = fm_json_next(&body->reader);
    const char *text = NULL;
    size_t size = 0;
    status = token != FM_JSON_STRING ? body_wrong(body, token, key, "a string of base64")
                                     : body_text(body, &text, &length);
    if (status != 0) {
        return status;
    }
    /* In place: the bytes are fewer than the characters. */
    void *content = (void *)(uintptr_t)text;
    if (fm_base64_decode(text, length, content, &size) != 0) {
        return fm_error_set(body->reterr, FM_EINVAL, "parameter '%.100s' is not base64", key);
    }
    return file_add(body->arena, load, key + strlen(FILE_PREFIX), content, size, body->reterr);
}

static int load_member(struct body *body, void *context)
{
    return fm_json_equals(&body->reader, "parameters")
               ? body_object(body, "parameters", load_parameter, context)
               : body_skip(body);
}

typedef Inference__ModelRepositoryParameter Parameter;

static int load_entry(struct fm_messages_load *load, const char *key, const Parameter *value,
                      struct fm_error *reterr)
{
    if (strcmp(key, "config") == 0) {
        if (value == NULL ||
            value->parameter_choice_case !=
                INFERENCE__MODEL_REPOSITORY_PARAMETER__PARAMETER_CHOICE_STRING_PARAM) {
            return fm_error_set(reterr, FM_EINVAL, "parameter 'config' must be a string");
        }
        load->config = value->string_param;
        return 0;
    }
    if (strncmp(key, FILE_PREFIX, strlen(FILE_PREFIX)) != 0) {
        return parameter_unknown(key, true, reterr);
    }
    if (value == NULL || value->parameter_choice_case !=
                             INFERENCE__MODEL_REPOSITORY_PARAMETER__PARAMETER_CHOICE_BYTES_PARAM) {
        return fm_error_set(reterr, FM_EINVAL, "parameter '%.100s' must be bytes", key);
    }
    return file_add(&load->arena, load, key + strlen(FILE_PREFIX), value->bytes_param.data,
                    value->bytes_param.len, reterr);
}

static int load_unpack(struct fm_messages_load *load, const void *data, size_t size,
                       struct fm_error *reterr)
{
    ProtobufCMessage *base = NULL;
    int status =
        fm_messages_unpack(&load->arena, &inference__repository_model_load_request__descriptor,
                           data, size, &base, reterr);
    if (status != 0) {
        return status;
    }
    const Inference__RepositoryModelLoadRequest *message = (void *)base;
    load->repository = message->repository_name;
    load->model = message->model_name;
    for (size_t i = 0; status == 0 && i < message->n_parameters; i++) {
        status =
            load_entry(load, message->parameters[i]->key, message->parameters[i]->value, reterr);
    }
    return status;
}

static int unload_unpack(struct fm_messages_load *load, const void *data, size_t size,
                         struct fm_error *reterr)
{
    ProtobufCMessage *base = NULL;
    int status =
        fm_messages_unpack(&load->arena, &inference__repository_model_unload_request__descriptor,
                           data, size, &base, reterr);
    if (status != 0) {
        return status;
    }
    const Inference__RepositoryModelUnloadRequest *message = (void *)base;
    load->repository = message->repository_name;
    load->model = message->model_name;
    for (size_t i = 0; i < message->n_parameters; i++) {
        const Parameter *value = message->parameters[i]->value;
        if (strcmp(message->parameters[i]->key, "unload_dependents") != 0) {
            return parameter_unknown(message->parameters[i]->key, false, reterr);
        }
        if (value == NULL ||
            value->parameter_choice_case !=
                INFERENCE__MODEL_REPOSITORY_PARAMETER__PARAMETER_CHOICE_BOOL_PARAM) {
            return fm_error_set(reterr, FM_EINVAL, "unload_dependents must be true or false");
        }
        load->unload_dependents = value->bool_param != 0;
    }
    return 0;
}

static int load_read(enum fm_messages_form form, bool is_load, const void *data, size_t size,
                     struct fm_messages_load *ret_load, struct fm_error *reterr)
{
    struct fm_messages_load load = {.repository = "", .model = ""};
    struct load_reading reading = {&load, is_load};
    int status = form == FM_MESSAGES_JSON
                     ? body_read(&load.arena, data, size, load_member, &reading, reterr)
                 : is_load ? load_unpack(&load, data, size, reterr)
                           : unload_unpack(&load, data, size, reterr);
    if (status == 0) {
        status = load_check(&load, reterr);
    }
    if (status != 0) {
        fm_arena_deinit(&load.arena);
        return status;
    }
    *ret_load = load;
    return 0;
}

int fm_messages_read_load(enum fm_messages_form form, const void *data, size_t size,
                          struct fm_messages_load *ret_load, struct fm_error *reterr)
{
    return load_read(form, true, data, size, ret_load, reterr);
}

int fm_messages_read_unload(enum fm_messages_form form, const void *data, size_t size,
                            struct fm_messages_load *ret_load, struct fm_error *reterr)
{
    return load_read(form, false, data, size, ret_load, reterr);
}

void fm_messages_load_deinit(struct fm_messages_load *load)
{
    fm_arena_deinit(&load->arena);
    *load = (struct fm_messages_load){0};
}

/* --- Shared memory --- */

static int register_member(struct body *body, void *context)
{
    struct fm_messages_register *request = context;
    return fm_json_equals(&body->reader, "key")      ? body_string(body, "key", &request->key)
           : fm_json_equals(&body->reader, "offset") ? body_uint(body, "offset", &request->offset)
           : fm_json_equals(&body->reader, "byte_size")
               ? body_uint(body, "byte_size", &request->size)
               : body_skip(body);
}

int fm_messages_read_register(enum fm_messages_form form, const void *data, size_t size,
                              struct fm_messages_register *ret_register, struct fm_error *reterr)
{
    struct fm_messages_register request = {.name = "", .key = ""};
    ProtobufCMessage *base = NULL;
    int status;
    if (form == FM_MESSAGES_JSON) {
        status = body_read(&request.arena, data, size, register_member, &request, reterr);
    } else {
        status = fm_messages_unpack(&request.arena,
                                    &inference__system_shared_memory_register_request__descriptor,
                                    data, size, &base, reterr);
    }
    if (status == 0 && base != NULL) {
        const Inference__SystemSharedMemoryRegisterRequest *message = (void *)base;
        request.name = message->name;
        request.key = message->key;
        request.offset = message->offset;
        request.size = message->byte_size;
    }
    if (status == 0 && (request.key[0] == '\0' || request.size == 0)) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "a shared memory region needs a key and a byte_size above 0");
    }
    if (status != 0) {
        fm_arena_deinit(&request.arena);
        return status;
    }
    *ret_register = request;
    return 0;
}

void fm_messages_register_deinit(struct fm_messages_register *request)
{
    fm_arena_deinit(&request->arena);
    *request = (struct fm_messages_register){0};
}

/* --- Settings --- */

static int setting_add(struct fm_messages_settings *settings, const char *key,
                       struct fm_messages_setting **ret_setting, struct fm_error *reterr)
{
    if (settings->count == SETTINGS_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "one request sets at most %d settings",
                            SETTINGS_MAX);
    }
    if (settings->settings == NULL) {
        settings->settings =
            fm_arena_alloc(&settings->arena, SETTINGS_MAX * sizeof(*settings->settings));
    }
    if (settings->settings == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the request");
    }
    *ret_setting = &settings->settings[settings->count++];
    (*ret_setting)->key = key;
    return 0;
}

/* The current token as a string of the setting: a string, or a number as it was written. */
static int setting_string(struct body *body, enum fm_json_token token,
                          struct fm_messages_setting *setting, const char **strings)
{
    size_t length = 0;
    if (setting->string_count == STRINGS_MAX) {
        return fm_error_set(body->reterr, FM_ETOOLARGE, "a setting has at most %d values",
                            STRINGS_MAX);
    }
    const char **place = &strings[setting->string_count++];
    if (token == FM_JSON_NUMBER) {
        *place = fm_arena_strndup(body->arena, body->reader.text, body->reader.text_length);
        return *place != NULL ? 0 : body_no_memory(body);
    }
    return token == FM_JSON_STRING
               ? body_text(body, place, &length)
               : body_wrong(body, token, setting->key, "a string, a list of strings, or null");
}

static int trace_member(struct body *body, void *context)
{
    struct fm_messages_settings *settings = context;
    struct fm_messages_setting *setting = NULL;
    const char *key = NULL;
    size_t length = 0;
    int status = body_text(body, &key, &length);
    if (status == 0) {
        status = setting_add(settings, key, &setting, body->reterr);
    }
    if (status != 0) {
        return status;
    }
    const char **strings = fm_arena_alloc(body->arena, STRINGS_MAX * sizeof(*strings));
    if (strings == NULL) {
        return body_no_memory(body);
    }
    setting->strings = strings;
    enum fm_json_token token = fm_json_next(&body->reader);
    if (token == FM_JSON_NULL) {
        return 0;
    }
    if (token != FM_JSON_ARRAY_BEGIN) {
        return setting_string(body, token, setting, strings);
    }
    while (status == 0 && (token = fm_json_next(&body->reader)) != FM_JSON_ARRAY_END) {
        status = setting_string(body, token, setting, strings);
    }
    return status;
}

static int log_member(struct body *body, void *context)
{
    struct fm_messages_settings *settings = context;
    struct fm_messages_setting *setting = NULL;
    const char *key = NULL;
    size_t length = 0;
    int status = body_text(body, &key, &length);
    if (status == 0) {
        status = setting_add(settings, key, &setting, body->reterr);
    }
    if (status != 0) {
        return status;
    }
    enum fm_json_token token = fm_json_next(&body->reader);
    uint64_t number = 0;
    if (token == FM_JSON_TRUE || token == FM_JSON_FALSE) {
        setting->kind = FM_MESSAGES_BOOL;
        setting->is_true = token == FM_JSON_TRUE;
        return 0;
    }
    if (token == FM_JSON_NUMBER && fm_json_uint64(&body->reader, &number) == 0 &&
        number <= UINT32_MAX) {
        setting->kind = FM_MESSAGES_UINT;
        setting->number = (uint32_t)number;
        return 0;
    }
    const char **strings = fm_arena_alloc(body->arena, sizeof(*strings));
    if (strings == NULL) {
        return body_no_memory(body);
    }
    setting->strings = strings;
    return token == FM_JSON_STRING
               ? setting_string(body, token, setting, strings)
               : body_wrong(body, token, key, "true, false, a whole number or a string");
}

static int trace_unpack(struct fm_messages_settings *settings, const void *data, size_t size,
                        struct fm_error *reterr)
{
    ProtobufCMessage *base = NULL;
    int status = fm_messages_unpack(&settings->arena, &inference__trace_setting_request__descriptor,
                                    data, size, &base, reterr);
    if (status != 0) {
        return status;
    }
    const Inference__TraceSettingRequest *message = (void *)base;
    settings->model = message->model_name;
    for (size_t i = 0; status == 0 && i < message->n_settings; i++) {
        struct fm_messages_setting *setting = NULL;
        status = setting_add(settings, message->settings[i]->key, &setting, reterr);
        if (status == 0 && message->settings[i]->value != NULL) {
            setting->strings = (const char *const *)message->settings[i]->value->value;
            setting->string_count = message->settings[i]->value->n_value;
        }
    }
    return status;
}

static int log_unpack(struct fm_messages_settings *settings, const void *data, size_t size,
                      struct fm_error *reterr)
{
    ProtobufCMessage *base = NULL;
    int status = fm_messages_unpack(&settings->arena, &inference__log_settings_request__descriptor,
                                    data, size, &base, reterr);
    if (status != 0) {
        return status;
    }
    const Inference__LogSettingsRequest *message = (void *)base;
    for (size_t i = 0; i < message->n_settings; i++) {
        const Inference__LogSettingsRequest__SettingValue *value = message->settings[i]->value;
        struct fm_messages_setting *setting = NULL;
        status = setting_add(settings, message->settings[i]->key, &setting, reterr);
        if (status != 0) {
            return status;
        }
        switch (value != NULL ? value->parameter_choice_case : 0) {
        case INFERENCE__LOG_SETTINGS_REQUEST__SETTING_VALUE__PARAMETER_CHOICE_BOOL_PARAM:
            setting->kind = FM_MESSAGES_BOOL;
            setting->is_true = value->bool_param != 0;
            break;
        case INFERENCE__LOG_SETTINGS_REQUEST__SETTING_VALUE__PARAMETER_CHOICE_UINT32_PARAM:
            setting->kind = FM_MESSAGES_UINT;
            setting->number = value->uint32_param;
            break;
        case INFERENCE__LOG_SETTINGS_REQUEST__SETTING_VALUE__PARAMETER_CHOICE_STRING_PARAM:
            setting->strings = (const char *const *)&value->string_param;
            setting->string_count = 1;
            break;
        case INFERENCE__LOG_SETTINGS_REQUEST__SETTING_VALUE__PARAMETER_CHOICE__NOT_SET:
        default:
            return fm_error_set(reterr, FM_EINVAL, "setting '%.100s' has no value", setting->key);
        }
    }
    return 0;
}

static int settings_read(enum fm_messages_form form, bool trace, const void *data, size_t size,
                         struct fm_messages_settings *ret_settings, struct fm_error *reterr)
{
    struct fm_messages_settings settings = {.model = ""};
    int status = form == FM_MESSAGES_JSON
                     ? body_read(&settings.arena, data, size, trace ? trace_member : log_member,
                                 &settings, reterr)
                 : trace ? trace_unpack(&settings, data, size, reterr)
                         : log_unpack(&settings, data, size, reterr);
    if (status != 0) {
        fm_arena_deinit(&settings.arena);
        return status;
    }
    *ret_settings = settings;
    return 0;
}

int fm_messages_read_trace(enum fm_messages_form form, const void *data, size_t size,
                           struct fm_messages_settings *ret_settings, struct fm_error *reterr)
{
    return settings_read(form, true, data, size, ret_settings, reterr);
}

int fm_messages_read_log(enum fm_messages_form form, const void *data, size_t size,
                         struct fm_messages_settings *ret_settings, struct fm_error *reterr)
{
    return settings_read(form, false, data, size, ret_settings, reterr);
}

void fm_messages_settings_deinit(struct fm_messages_settings *settings)
{
    fm_arena_deinit(&settings->arena);
    *settings = (struct fm_messages_settings){0};
}
