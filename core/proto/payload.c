/*
 * Lines of recorded requests. See payload.h. Pure.
 */
#include "core/proto/payload.h"

#include <string.h>

#include "core/proto/base64.h"
#include "core/proto/json.h"
#include "core/util/error.h"

/* --- writing -----------------------------------------------------------------------------------
 */

static void content_write(struct fm_json_writer *json, const struct fm_tensor *tensor)
{
    size_t length = FM_BASE64_LENGTH(tensor->size);
    fm_json_key(json, "content");
    fm_json_object_begin(json);
    fm_json_key(json, "b64");
    /* Straight into the text: it may be large. */
    fm_json_raw(json, "\"", 1);
    char *out = fm_text_reserve(json->text, length);
    if (out != NULL) {
        fm_base64_encode(tensor->data, tensor->size, out);
    }
    fm_text_append_char(json->text, '"');
    fm_json_object_end(json);
}

static void inputs_write(struct fm_json_writer *json, const struct fm_payload *payload)
{
    fm_json_key(json, "inputs");
    fm_json_object_begin(json);
    for (uint32_t i = 0; i < payload->input_count; i++) {
        const struct fm_tensor *tensor = &payload->inputs[i].tensor;
        fm_json_key(json, payload->inputs[i].name);
        fm_json_object_begin(json);
        fm_json_member_string(json, "datatype", fm_dtype_name(tensor->dtype));
        fm_json_member_ints(json, "shape", tensor->shape, tensor->rank);
        content_write(json, tensor);
        fm_json_object_end(json);
    }
    fm_json_object_end(json);
}

static void outputs_write(struct fm_json_writer *json, const struct fm_payload *payload)
{
    fm_json_key(json, "outputs");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < payload->output_count; i++) {
        fm_json_object_begin(json);
        fm_json_member_string(json, "name", payload->outputs[i].name);
        if (payload->outputs[i].classes > 0) {
            fm_json_member_uint(json, "classification", payload->outputs[i].classes);
        }
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

static void member_uint_unless_0(struct fm_json_writer *json, const char *key, uint64_t value)
{
    if (value != 0) {
        fm_json_member_uint(json, key, value);
    }
}

static void request_write(struct fm_json_writer *json, const struct fm_payload *payload)
{
    fm_json_member_uint(json, "time_ns", payload->time_ns);
    if (payload->protocol != NULL) {
        fm_json_member_string(json, "protocol", payload->protocol);
    }
    fm_json_member_string(json, "model", payload->model);
    member_uint_unless_0(json, "version", payload->version);
    if (payload->id != NULL) {
        fm_json_key(json, "id");
        fm_json_string_n(json, payload->id, payload->id_length);
    }
    member_uint_unless_0(json, "timeout_us", payload->timeout_us);
    member_uint_unless_0(json, "priority", payload->priority);
    if (payload->output_count > 0) {
        outputs_write(json, payload);
    }
    inputs_write(json, payload);
}

void fm_payload_write(struct fm_text *text, const struct fm_payload *payload)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    if (payload->kind == FM_PAYLOAD_BEGIN) {
        fm_json_member_string(&json, "format", FM_PAYLOAD_FORMAT);
        if (payload->server != NULL) {
            fm_json_member_string(&json, "server", payload->server);
        }
        member_uint_unless_0(&json, "start_wall_ns", payload->start_wall_ns);
    } else if (payload->kind == FM_PAYLOAD_REQUEST) {
        request_write(&json, payload);
    } else {
        fm_json_member_uint(&json, "end_ns", payload->time_ns);
        fm_json_member_uint(&json, "recorded", payload->recorded);
        fm_json_member_uint(&json, "left_out", payload->left_out);
        fm_json_member_uint(&json, "sampled_out", payload->sampled_out);
    }
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
}

/* --- reading -----------------------------------------------------------------------------------
 */

struct reading {
    struct fm_json_reader json;
    struct fm_arena *arena;
    struct fm_payload *payload;
    struct fm_error *reterr;
    bool has_format;
    bool has_end;
    bool has_time;
    bool has_inputs;
};

static int wrong(struct reading *reading, enum fm_json_token token, const char *what,
                 const char *expected)
{
    return token == FM_JSON_ERROR
               ? fm_error_set(reading->reterr, FM_EINVAL, "the line is no JSON object: %s",
                              reading->json.error.text)
               : fm_error_set(reading->reterr, FM_EINVAL, "%s must be %s", what, expected);
}

static int no_memory(struct reading *reading)
{
    return fm_error_set(reading->reterr, FM_ENOMEM, "out of memory for a recorded request");
}

/* The current KEY or STRING in the arena, with a NUL behind it. */
static int text_copy(struct reading *reading, const char **ret_text, size_t *ret_length)
{
    struct fm_text text = {0};
    fm_json_decode(&reading->json, &text);
    char *copy = text.failed ? NULL : fm_arena_alloc(reading->arena, text.length + 1);
    if (copy != NULL && text.length > 0) {
        memcpy(copy, text.data, text.length);
    }
    *ret_text = copy;
    *ret_length = text.length;
    fm_text_deinit(&text);
    return copy != NULL ? 0 : no_memory(reading);
}

static int read_text(struct reading *reading, const char *what, const char **ret_text,
                     size_t *ret_length)
{
    enum fm_json_token token = fm_json_next(&reading->json);
    return token == FM_JSON_STRING ? text_copy(reading, ret_text, ret_length)
                                   : wrong(reading, token, what, "a text");
}

/* A text in which a NUL would end a name early. */
static int read_name(struct reading *reading, const char *what, const char **ret_name)
{
    size_t length = 0;
    int status = read_text(reading, what, ret_name, &length);
    if (status == 0 && (length == 0 || strlen(*ret_name) != length)) {
        status = wrong(reading, FM_JSON_STRING, what, "a name");
    }
    return status;
}

static int read_uint(struct reading *reading, const char *what, uint64_t *ret_value)
{
    enum fm_json_token token = fm_json_next(&reading->json);
    return token == FM_JSON_NUMBER && fm_json_uint64(&reading->json, ret_value) == 0
               ? 0
               : wrong(reading, token, what, "a whole number");
}

static int read_shape(struct reading *reading, struct fm_tensor *tensor)
{
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_ARRAY_BEGIN) {
        return wrong(reading, token, "a shape", "a list of numbers");
    }
    tensor->rank = 0;
    while ((token = fm_json_next(&reading->json)) == FM_JSON_NUMBER) {
        if (tensor->rank == FM_RANK_MAX ||
            fm_json_int64(&reading->json, &tensor->shape[tensor->rank]) != 0) {
            return fm_error_set(reading->reterr, FM_ETOOLARGE,
                                "a shape has at most %d dimensions, each a whole number",
                                FM_RANK_MAX);
        }
        tensor->rank++;
    }
    return token == FM_JSON_ARRAY_END ? 0 : wrong(reading, token, "a shape", "a list of numbers");
}

static int read_b64(struct reading *reading, struct fm_tensor *tensor)
{
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_STRING || reading->json.escaped) {
        return wrong(reading, token, "b64", "base64 without escapes");
    }
    /* Aligned for every type, as arenas are. */
    tensor->data = fm_arena_alloc(reading->arena, reading->json.text_length / 4 * 3 + 3);
    if (tensor->data == NULL) {
        return no_memory(reading);
    }
    return fm_base64_decode(reading->json.text, reading->json.text_length, tensor->data,
                            &tensor->size) == 0
               ? 0
               : wrong(reading, token, "b64", "base64");
}

static int read_content(struct reading *reading, struct fm_tensor *tensor)
{
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong(reading, token, "content", "an object with b64");
    }
    int status = 0;
    while (status == 0 && (token = fm_json_next(&reading->json)) == FM_JSON_KEY) {
        status = fm_json_equals(&reading->json, "b64") ? read_b64(reading, tensor)
                                                       : fm_json_skip(&reading->json);
    }
    return status != 0 || token == FM_JSON_OBJECT_END
               ? status
               : wrong(reading, token, "content", "an object with b64");
}

static int read_input(struct reading *reading, struct fm_payload_input *input)
{
    struct fm_tensor *tensor = &input->tensor;
    const char *dtype = NULL;
    size_t length = 0;
    int status = 0;
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong(reading, token, "an input", "an object");
    }
    while (status == 0 && (token = fm_json_next(&reading->json)) == FM_JSON_KEY) {
        if (fm_json_equals(&reading->json, "datatype")) {
            status = read_text(reading, "datatype", &dtype, &length);
        } else if (fm_json_equals(&reading->json, "shape")) {
            status = read_shape(reading, tensor);
        } else if (fm_json_equals(&reading->json, "content")) {
            status = read_content(reading, tensor);
        } else {
            status = fm_json_skip(&reading->json);
        }
    }
    if (status != 0 || token != FM_JSON_OBJECT_END) {
        return status != 0 ? status : wrong(reading, token, "an input", "an object");
    }
    tensor->dtype = dtype != NULL ? fm_dtype_parse(dtype, length) : FM_DTYPE_INVALID;
    struct fm_error error = {0};
    if (tensor->dtype == FM_DTYPE_INVALID || tensor->data == NULL) {
        return fm_error_set(reading->reterr, FM_EINVAL,
                            "input '%s' needs datatype, shape and content.b64", input->name);
    }
    status = fm_tensor_check(tensor, &error);
    return status == 0
               ? 0
               : fm_error_set(reading->reterr, status, "input '%s': %s", input->name, error.text);
}

/* The n-th of a list that doubles; NULL: there are too many, or no memory. */
static void *place(struct reading *reading, const void *list, uint32_t count, size_t size)
{
    if (count >= FM_PAYLOAD_PORTS_MAX || (count & (count - 1)) != 0) {
        return count >= FM_PAYLOAD_PORTS_MAX ? NULL : (void *)(uintptr_t)list;
    }
    void *grown = fm_arena_alloc(reading->arena, (count > 0 ? 2 * (size_t)count : 1) * size);
    if (grown != NULL && count > 0) {
        memcpy(grown, list, count * size);
    }
    return grown;
}

static int too_many(struct reading *reading, uint32_t count)
{
    return count < FM_PAYLOAD_PORTS_MAX
               ? no_memory(reading)
               : fm_error_set(reading->reterr, FM_ETOOLARGE, "more than %u inputs or outputs",
                              FM_PAYLOAD_PORTS_MAX);
}

static int read_inputs(struct reading *reading)
{
    struct fm_payload *payload = reading->payload;
    int status = 0;
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong(reading, token, "inputs", "an object");
    }
    payload->input_count = 0;
    reading->has_inputs = true;
    while (status == 0 && (token = fm_json_next(&reading->json)) == FM_JSON_KEY) {
        struct fm_payload_input *list =
            place(reading, payload->inputs, payload->input_count, sizeof *list);
        if (list == NULL) {
            return too_many(reading, payload->input_count);
        }
        size_t length = 0;
        struct fm_payload_input *input = &list[payload->input_count];
        *input = (struct fm_payload_input){0};
        payload->inputs = list;
        status = text_copy(reading, &input->name, &length);
        if (status == 0 && (length == 0 || strlen(input->name) != length)) {
            return wrong(reading, token, "an input's name", "a name");
        }
        status = status != 0 ? status : read_input(reading, input);
        payload->input_count++;
    }
    return status != 0 || token == FM_JSON_OBJECT_END
               ? status
               : wrong(reading, token, "inputs", "an object");
}

static int read_output(struct reading *reading, struct fm_payload_output *output)
{
    uint64_t classes = 0;
    int status = 0;
    enum fm_json_token token = FM_JSON_KEY;
    while (status == 0 && (token = fm_json_next(&reading->json)) == FM_JSON_KEY) {
        if (fm_json_equals(&reading->json, "name")) {
            status = read_name(reading, "an output's name", &output->name);
        } else if (fm_json_equals(&reading->json, "classification")) {
            status = read_uint(reading, "classification", &classes);
        } else {
            status = fm_json_skip(&reading->json);
        }
    }
    output->classes = (uint32_t)classes;
    if (status == 0 &&
        (token != FM_JSON_OBJECT_END || output->name == NULL || classes > UINT32_MAX)) {
        return wrong(reading, token, "an output", "an object with a name");
    }
    return status;
}

static int read_outputs(struct reading *reading)
{
    struct fm_payload *payload = reading->payload;
    int status = 0;
    enum fm_json_token token = fm_json_next(&reading->json);
    if (token != FM_JSON_ARRAY_BEGIN) {
        return wrong(reading, token, "outputs", "a list");
    }
    payload->output_count = 0;
    while (status == 0 && (token = fm_json_next(&reading->json)) == FM_JSON_OBJECT_BEGIN) {
        struct fm_payload_output *list =
            place(reading, payload->outputs, payload->output_count, sizeof *list);
        if (list == NULL) {
            return too_many(reading, payload->output_count);
        }
        payload->outputs = list;
        list[payload->output_count] = (struct fm_payload_output){0};
        status = read_output(reading, &list[payload->output_count++]);
    }
    return status != 0 || token == FM_JSON_ARRAY_END ? status
                                                     : wrong(reading, token, "outputs", "a list");
}

static int read_format(struct reading *reading)
{
    const char *format = NULL;
    size_t length = 0;
    int status = read_text(reading, "format", &format, &length);
    reading->has_format = true;
    return status != 0 || strcmp(format, FM_PAYLOAD_FORMAT) == 0
               ? status
               : fm_error_set(reading->reterr, FM_EUNSUPPORTED,
                              "this is no recording of requests that can be read here: its format "
                              "is '%.60s' instead of '" FM_PAYLOAD_FORMAT "'",
                              format);
}

static int read_member(struct reading *reading)
{
    struct fm_payload *payload = reading->payload;
    const struct {
        const char *key;
        uint64_t *value;
        bool *seen;
    } numbers[] = {{"time_ns", &payload->time_ns, &reading->has_time},
                   {"end_ns", &payload->time_ns, &reading->has_end},
                   {"start_wall_ns", &payload->start_wall_ns, NULL},
                   {"version", &payload->version, NULL},
                   {"timeout_us", &payload->timeout_us, NULL},
                   {"priority", &payload->priority, NULL},
                   {"recorded", &payload->recorded, NULL},
                   {"left_out", &payload->left_out, NULL},
                   {"sampled_out", &payload->sampled_out, NULL}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (fm_json_equals(&reading->json, numbers[i].key)) {
            if (numbers[i].seen != NULL) {
                *numbers[i].seen = true;
            }
            return read_uint(reading, numbers[i].key, numbers[i].value);
        }
    }
    if (fm_json_equals(&reading->json, "format")) {
        return read_format(reading);
    }
    if (fm_json_equals(&reading->json, "server")) {
        return read_name(reading, "server", &payload->server);
    }
    if (fm_json_equals(&reading->json, "protocol")) {
        return read_name(reading, "protocol", &payload->protocol);
    }
    if (fm_json_equals(&reading->json, "model")) {
        return read_name(reading, "model", &payload->model);
    }
    if (fm_json_equals(&reading->json, "id")) {
        return read_text(reading, "id", &payload->id, &payload->id_length);
    }
    return fm_json_equals(&reading->json, "inputs")    ? read_inputs(reading)
           : fm_json_equals(&reading->json, "outputs") ? read_outputs(reading)
                                                       : fm_json_skip(&reading->json);
}

int fm_payload_read(const char *line, size_t length, struct fm_arena *arena,
                    struct fm_payload *ret_payload, struct fm_error *reterr)
{
    struct reading reading = {.arena = arena, .payload = ret_payload, .reterr = reterr};
    *ret_payload = (struct fm_payload){0};
    fm_json_reader_init(&reading.json, line, length);
    enum fm_json_token token = fm_json_next(&reading.json);
    if (token != FM_JSON_OBJECT_BEGIN) {
        return wrong(&reading, token, "a line", "a JSON object");
    }
    while ((token = fm_json_next(&reading.json)) == FM_JSON_KEY) {
        int status = read_member(&reading);
        if (status != 0) {
            /* A value that is skipped says what is wrong with it to the reader only. */
            return reading.json.error.status != 0
                       ? wrong(&reading, FM_JSON_ERROR, "a line", "a JSON object")
                       : status;
        }
    }
    token = token == FM_JSON_OBJECT_END ? fm_json_next(&reading.json) : FM_JSON_ERROR;
    if (token != FM_JSON_END) {
        return wrong(&reading, token, "a line", "one JSON object");
    }
    ret_payload->kind = reading.has_format ? FM_PAYLOAD_BEGIN
                        : reading.has_end  ? FM_PAYLOAD_END
                                           : FM_PAYLOAD_REQUEST;
    if (ret_payload->kind == FM_PAYLOAD_REQUEST &&
        (ret_payload->model == NULL || !reading.has_time || !reading.has_inputs)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a request needs the members time_ns, model and inputs");
    }
    return 0;
}
