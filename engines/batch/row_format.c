/*
 * Rows, and rows as JSON lines. See row_format.h.
 */
#include "engines/batch/row_format.h"

#include <math.h>
#include <string.h>

#include "core/util/error.h"
#include "engines/batch/sink.h"

/* --- Pieces --- */

static void base64_append(struct fm_text *text, const char *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = (const unsigned char *)data;
    char *out = fm_text_reserve(text, (length + 2) / 3 * 4);
    if (out == NULL) {
        return;
    }
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        unsigned group = (unsigned)bytes[i] << 16 | (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
}

static int base64_write(struct fm_json_writer *json, const char *data, size_t length)
{
    struct fm_text encoded = {0};
    fm_text_append_char(&encoded, '"');
    base64_append(&encoded, data, length);
    fm_text_append_char(&encoded, '"');
    int status = encoded.failed ? FM_ENOMEM : 0;
    if (status == 0) {
        fm_json_raw(json, encoded.data, encoded.length);
    }
    fm_text_deinit(&encoded);
    return status;
}

bool fm_row_id_is_text(const struct fm_row_id *id)
{
    for (size_t i = 0; i < id->size;) {
        size_t step = fm_utf8_sequence(id->data + i, id->size - i);
        if (step == 0) {
            return false;
        }
        i += step;
    }
    return true;
}

/* A file name that is not UTF-8 also comes in base64, so that it can be told from others and found
 * again. */
static int id_write(struct fm_json_writer *json, const struct fm_row_id *id)
{
    fm_json_key(json, "id");
    fm_json_string_n(json, id->data, id->size);
    if (fm_row_id_is_text(id)) {
        return 0;
    }
    fm_json_key(json, "id_base64");
    return base64_write(json, id->data, id->size);
}

/* --- Tensors --- */

static bool type_has_form(uint32_t dtype)
{
    switch (dtype) {
    case FM_DTYPE_BOOL:
    case FM_DTYPE_UINT8:
    case FM_DTYPE_UINT16:
    case FM_DTYPE_UINT32:
    case FM_DTYPE_UINT64:
    case FM_DTYPE_INT8:
    case FM_DTYPE_INT16:
    case FM_DTYPE_INT32:
    case FM_DTYPE_INT64:
    case FM_DTYPE_FP16:
    case FM_DTYPE_BF16:
    case FM_DTYPE_FP32:
    case FM_DTYPE_FP64:
    case FM_DTYPE_BYTES:
        return true;
    default:
        return false;
    }
}

#define ELEMENT(type, name) \
    type name;              \
    memcpy(&name, data + index * sizeof(name), sizeof(name))

/* What JSON has no number for is a text, which the sources read back. */
static void float_write(struct fm_json_writer *json, double value, bool single)
{
    if (!isfinite(value)) {
        fm_json_string(json, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    } else if (single) {
        fm_json_float(json, (float)value);
    } else {
        fm_json_number(json, value);
    }
}

static void number_write(struct fm_json_writer *json, uint32_t dtype, const char *data,
                         uint64_t index)
{
    switch (dtype) {
    case FM_DTYPE_BOOL: {
        fm_json_bool(json, data[index] != 0);
        break;
    }
    case FM_DTYPE_UINT8: {
        ELEMENT(uint8_t, value);
        fm_json_uint(json, value);
        break;
    }
    case FM_DTYPE_UINT16: {
        ELEMENT(uint16_t, value);
        fm_json_uint(json, value);
        break;
    }
    case FM_DTYPE_UINT32: {
        ELEMENT(uint32_t, value);
        fm_json_uint(json, value);
        break;
    }
    case FM_DTYPE_UINT64: {
        ELEMENT(uint64_t, value);
        fm_json_uint(json, value);
        break;
    }
    case FM_DTYPE_INT8: {
        ELEMENT(int8_t, value);
        fm_json_int(json, value);
        break;
    }
    case FM_DTYPE_INT16: {
        ELEMENT(int16_t, value);
        fm_json_int(json, value);
        break;
    }
    case FM_DTYPE_INT32: {
        ELEMENT(int32_t, value);
        fm_json_int(json, value);
        break;
    }
    case FM_DTYPE_INT64: {
        ELEMENT(int64_t, value);
        fm_json_int(json, value);
        break;
    }
    case FM_DTYPE_FP16: {
        ELEMENT(uint16_t, value);
        float_write(json, fm_fp16_to_float(value), true);
        break;
    }
    case FM_DTYPE_BF16: {
        ELEMENT(uint16_t, value);
        float_write(json, fm_bf16_to_float(value), true);
        break;
    }
    case FM_DTYPE_FP32: {
        ELEMENT(float, value);
        float_write(json, value, true);
        break;
    }
    case FM_DTYPE_FP64: {
        ELEMENT(double, value);
        float_write(json, value, false);
        break;
    }
    default:
        fm_json_null(json);
        break;
    }
}

int fm_row_bytes_next(const struct fm_tensor *tensor, size_t *cursor, const char **ret_data,
                      size_t *ret_size)
{
    const unsigned char *data = tensor->data;
    if (tensor->size - *cursor < 4) {
        return FM_ECORRUPT;
    }
    size_t length = (size_t)data[*cursor] | (size_t)data[*cursor + 1] << 8 |
                    (size_t)data[*cursor + 2] << 16 | (size_t)data[*cursor + 3] << 24;
    if (tensor->size - *cursor - 4 < length) {
        return FM_ECORRUPT;
    }
    *ret_data = (const char *)data + *cursor + 4;
    *ret_size = length;
    *cursor += 4 + length;
    return 0;
}

/* BYTES elements are read in order: `cursor` walks along. */
static int bytes_write(struct fm_json_writer *json, const struct fm_tensor *tensor, size_t *cursor,
                       enum fm_job_bytes form)
{
    const char *text = NULL;
    size_t length = 0;
    int status = fm_row_bytes_next(tensor, cursor, &text, &length);
    if (status == 0 && form == FM_JOB_BYTES_BASE64) {
        return base64_write(json, text, length);
    }
    if (status == 0) {
        fm_json_string_n(json, text, length);
    }
    return status;
}

/* Nested arrays, row-major. `axis` from which on the shape is shown; the depth is bounded by
 * FM_RANK_MAX. */
static int tensor_write(struct fm_json_writer *json, const struct fm_tensor *tensor, uint32_t axis,
                        enum fm_job_bytes form, uint64_t *index, size_t *cursor)
{
    if (axis >= tensor->rank) {
        if (tensor->dtype == FM_DTYPE_BYTES) {
            return bytes_write(json, tensor, cursor, form);
        }
        number_write(json, tensor->dtype, tensor->data, (*index)++);
        return 0;
    }
    int status = 0;
    fm_json_array_begin(json);
    for (int64_t i = 0; i < tensor->shape[axis] && status == 0; i++) {
        status = tensor_write(json, tensor, axis + 1, form, index, cursor);
    }
    fm_json_array_end(json);
    return status;
}

int fm_row_tensor_write(const struct fm_tensor *tensor, uint32_t axes, enum fm_job_bytes bytes,
                        struct fm_json_writer *json)
{
    uint64_t index = 0;
    size_t cursor = 0;
    return type_has_form(tensor->dtype) ? tensor_write(json, tensor, axes, bytes, &index, &cursor)
                                        : FM_EUNSUPPORTED;
}

bool fm_row_output_is_one(const struct fm_row_format *format, const struct fm_port *port)
{
    int32_t axis = format->strip_rows && port->rank > 0 ? 1 : 0;
    return port->rank == axis || (port->rank == axis + 1 && port->shape[axis] == 1);
}

int fm_row_output_write(const struct fm_row_format *format, const struct fm_port *port,
                        const struct fm_tensor *tensor, struct fm_json_writer *json)
{
    uint64_t index = 0;
    size_t cursor = 0;
    if (tensor->dtype == FM_DTYPE_INVALID) {
        fm_json_null(json);
        return 0;
    }
    if (!type_has_form(tensor->dtype)) {
        return FM_EUNSUPPORTED;
    }
    uint32_t axis = format->strip_rows && tensor->rank > 0 ? 1 : 0;
    /* One string is a string; whether it is one is said by the port, not by how many there happen
     * to be. */
    bool one = port->dtype == FM_DTYPE_BYTES && fm_row_output_is_one(format, port) &&
               tensor->rank == axis + 1 && tensor->shape[axis] == 1;
    return tensor_write(json, tensor, one ? axis + 1 : axis, format->bytes, &index, &cursor);
}

/* --- Lines --- */

static bool is_key(const char *name)
{
    static const char *const keys[] = {"id", "id_base64", "timings"};
    size_t k = 0;
    while (k < sizeof(keys) / sizeof(keys[0]) && strcmp(name, keys[k]) != 0) {
        k++;
    }
    return k < sizeof(keys) / sizeof(keys[0]);
}

static int passed_check(const struct fm_row_format *format, const char *name,
                        struct fm_error *reterr)
{
    if (is_key(name)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "output.passthrough: the column '%s' has the name of a key that every "
                            "line has",
                            name);
    }
    for (uint32_t i = 0; i < format->output_count; i++) {
        if (strcmp(format->outputs[i].name, name) == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "output.passthrough: the column '%s' has the name of an output of "
                                "the pipeline",
                                name);
        }
    }
    return 0;
}

int fm_row_format_check(const struct fm_row_format *format, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < format->passed_count; i++) {
        int status = passed_check(format, format->passed[i], reterr);
        if (status != 0) {
            return status;
        }
    }
    for (uint32_t i = 0; i < format->output_count; i++) {
        const struct fm_port *port = &format->outputs[i];
        if (is_key(port->name)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the pipeline's output '%s' has the name of a key that every "
                                "line has: rename it",
                                port->name);
        }
        if (port->dtype != FM_DTYPE_INVALID && !type_has_form(port->dtype)) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "the pipeline's output '%s' is %s, which has no form in %s: "
                                "convert it in the pipeline",
                                port->name, fm_dtype_name(port->dtype), format->sink->title);
        }
    }
    return format->sink->check(format, reterr);
}

/* Three digits: shorter, and nobody measures better. */
double fm_row_milliseconds(uint64_t ns)
{
    return round((double)ns / 1000) / 1000;
}

static void passed_write(const struct fm_row_format *format, struct fm_json_writer *json,
                         const char *passed)
{
    for (uint32_t i = 0; passed != NULL && i < format->passed_count; i++) {
        size_t size = strlen(passed);
        fm_json_key(json, format->passed[i]);
        fm_json_raw(json, passed, size);
        passed += size + 1;
    }
}

static int result_write(const struct fm_row_format *format, const struct fm_result *result,
                        struct fm_text *text, struct fm_error *reterr)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    int status = id_write(&json, &result->id);
    if (status != 0) {
        return fm_error_set(reterr, status, "out of memory for the row's line");
    }
    passed_write(format, &json, result->passed);
    for (uint32_t i = 0; i < format->output_count; i++) {
        fm_json_key(&json, format->outputs[i].name);
        status = fm_row_output_write(format, &format->outputs[i], &result->outputs[i], &json);
        if (status != 0) {
            return fm_error_set(reterr, status, "output '%s' cannot be written as JSON: %s",
                                format->outputs[i].name, fm_status_text(status));
        }
    }
    if (format->timings) {
        fm_json_key(&json, "timings");
        fm_json_object_begin(&json);
        for (uint32_t i = 0; i < format->stage_count; i++) {
            fm_json_key(&json, format->stage_names[i]);
            fm_json_number(&json, fm_row_milliseconds(result->stage_ns[i]));
        }
        fm_json_key(&json, "total_ms");
        fm_json_number(&json, fm_row_milliseconds(result->total_ns));
        fm_json_object_end(&json);
    }
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
    return text->failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the row's line") : 0;
}

/* As if nothing had been appended since. */
static void take_back(struct fm_text *text, size_t length)
{
    text->length = length;
    text->failed = false;
}

int fm_row_format_result(const struct fm_row_format *format, const struct fm_result *result,
                         struct fm_text *text, struct fm_error *reterr)
{
    size_t before = text->length;
    int status = result_write(format, result, text, reterr);
    if (status != 0) {
        take_back(text, before);
    }
    return status;
}

/* As text, cut at a whole character, or in base64. */
static int raw_write(struct fm_json_writer *json, const struct fm_dead_letter *letter)
{
    size_t size = letter->raw_size;
    int status = 0;
    for (size_t cut = 0; letter->raw_truncated && cut < 4 && cut < letter->raw_size; cut++) {
        if (fm_row_id_is_text(&(struct fm_row_id){letter->raw, letter->raw_size - cut})) {
            size = letter->raw_size - cut;
            break;
        }
    }
    if (fm_row_id_is_text(&(struct fm_row_id){letter->raw, size})) {
        fm_json_key(json, "raw");
        fm_json_string_n(json, letter->raw, size);
    } else {
        fm_json_key(json, "raw_base64");
        status = base64_write(json, letter->raw, size);
    }
    if (letter->raw_truncated) {
        fm_json_key(json, "raw_truncated");
        fm_json_bool(json, true);
    }
    return status;
}

/* What those look at who sent the requests. */
static void answer_write(struct fm_json_writer *json, const struct fm_dead_letter *letter)
{
    fm_json_key(json, "custom_id");
    fm_json_string_n(json, letter->id.data, letter->id.size);
    fm_json_key(json, "response");
    fm_json_null(json);
    fm_json_key(json, "error");
    fm_json_object_begin(json);
    fm_json_member_string(json, "code", fm_status_name(letter->status));
    fm_json_member_string(json, "message", letter->message);
    fm_json_object_end(json);
}

int fm_row_format_letter(const struct fm_dead_letter *letter, struct fm_text *text)
{
    struct fm_json_writer json;
    size_t before = text->length;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    if (id_write(&json, &letter->id) != 0) {
        take_back(text, before);
        return FM_ENOMEM;
    }
    if (letter->answer) {
        answer_write(&json, letter);
    }
    fm_json_key(&json, "row");
    fm_json_uint(&json, letter->row);
    fm_json_key(&json, "source");
    fm_json_string(&json, letter->source);
    if (letter->file != NULL) {
        fm_json_key(&json, "file");
        fm_json_string(&json, letter->file);
        fm_json_key(&json, "file_row");
        fm_json_uint(&json, letter->file_row);
    }
    if (letter->line > 0) {
        fm_json_key(&json, "line");
        fm_json_uint(&json, letter->line);
    }
    fm_json_key(&json, "stage");
    fm_json_string(&json, letter->stage);
    fm_json_key(&json, "code");
    fm_json_string(&json, fm_status_name(letter->status));
    fm_json_key(&json, "message");
    fm_json_string(&json, letter->message);
    fm_json_key(&json, "attempts");
    fm_json_uint(&json, letter->attempts);
    if (letter->raw != NULL && raw_write(&json, letter) != 0) {
        take_back(text, before);
        return FM_ENOMEM;
    }
    if (letter->columns != NULL) {
        fm_json_key(&json, "columns");
        fm_json_raw(&json, letter->columns, strlen(letter->columns));
    }
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
    if (text->failed) {
        take_back(text, before);
        return FM_ENOMEM;
    }
    return 0;
}
