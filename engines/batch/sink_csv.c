/*
 * Results as CSV (RFC 4180): a header in every file, then a record for each row.
 *
 * HOW IT WORKS. What is one value stands in its field as it is; a row of more values is a JSON
 * array, as the source csv reads it. A field is quoted when it has to be.
 *
 * LIMITATIONS. A field cannot tell an empty text from none.
 */
#include <math.h>
#include <string.h>

#include "core/proto/base64.h"
#include "core/source/element.h"
#include "core/util/error.h"
#include "engines/batch/row_columns.h"
#include "engines/batch/sink_text.h"
#include "host/source/formats.h"

enum { SCRATCH_BYTES = 1024 };

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

static bool has_to_be_quoted(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '"' || data[i] == ',' || data[i] == '\n' || data[i] == '\r') {
            return true;
        }
    }
    return false;
}

static void field_append(struct fm_text *record, const char *data, size_t size)
{
    if (!has_to_be_quoted(data, size)) {
        fm_text_append(record, data, size);
        return;
    }
    fm_text_append_char(record, '"');
    while (size > 0) {
        const char *quote = memchr(data, '"', size);
        size_t length = quote != NULL ? (size_t)(quote - data) + 1 : size;
        fm_text_append(record, data, length);
        if (quote != NULL) {
            fm_text_append_char(record, '"');
        }
        data += length;
        size -= length;
    }
    fm_text_append_char(record, '"');
}

/* What is not UTF-8 becomes U+FFFD, as in JSON. */
static void text_append(struct fm_text *record, struct fm_text *scratch, const char *data,
                        size_t size)
{
    if (fm_row_id_is_text(&(struct fm_row_id){data, size})) {
        field_append(record, data, size);
        return;
    }
    fm_text_clear(scratch);
    for (size_t i = 0; i < size;) {
        size_t step = fm_utf8_sequence(data + i, size - i);
        fm_text_append(scratch, step > 0 ? data + i : replacement,
                       step > 0 ? step : sizeof(replacement) - 1);
        i += step > 0 ? step : 1;
    }
    record->failed = record->failed || scratch->failed;
    field_append(record, scratch->length > 0 ? scratch->data : "", scratch->length);
}

static int bytes_append(const struct fm_row_format *format, struct fm_text *record,
                        struct fm_text *scratch, const struct fm_tensor *tensor)
{
    const char *data = NULL;
    size_t size = 0;
    size_t cursor = 0;
    int status = fm_row_bytes_next(tensor, &cursor, &data, &size);
    if (status != 0) {
        return status;
    }
    if (format->bytes != FM_JOB_BYTES_BASE64) {
        text_append(record, scratch, data, size);
        return 0;
    }
    char *room = fm_text_reserve(record, FM_BASE64_LENGTH(size));
    if (room != NULL) {
        fm_base64_encode(data, size, room);
    }
    return 0;
}

static void number_append(struct fm_text *record, uint32_t dtype, const void *data)
{
    double value = 0;
    uint64_t bad = 0;
    if (fm_element_is_float(dtype) &&
        fm_elements_convert(dtype, data, 1, FM_DTYPE_FP64, &value, &bad) && !isfinite(value)) {
        fm_text_append_string(record, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    struct fm_json_writer json;
    fm_json_writer_init(&json, record);
    fm_element_write_json(&json, dtype, data, 0);
}

static bool holds_one(const struct fm_tensor *tensor)
{
    int64_t count = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        count *= tensor->shape[i];
    }
    return count == 1;
}

static int output_append(const struct fm_row_format *format, struct fm_text *record,
                         struct fm_text *scratch, const struct fm_port *port,
                         const struct fm_tensor *tensor)
{
    if (tensor->dtype == FM_DTYPE_INVALID) {
        return 0;
    }
    bool one = fm_row_output_is_one(format, port) && holds_one(tensor);
    if (one && tensor->dtype == FM_DTYPE_BYTES) {
        return bytes_append(format, record, scratch, tensor);
    }
    if (one && fm_element_is_number(tensor->dtype)) {
        number_append(record, tensor->dtype, tensor->data);
        return 0;
    }
    struct fm_json_writer json;
    fm_text_clear(scratch);
    fm_json_writer_init(&json, scratch);
    int status = fm_row_output_write(format, port, tensor, &json);
    if (status == 0 && scratch->failed) {
        status = FM_ENOMEM;
    }
    if (status == 0) {
        field_append(record, scratch->data, scratch->length);
    }
    return status;
}

static int passed_append(struct fm_text *record, struct fm_text *scratch, const char *json)
{
    const char *data = NULL;
    size_t size = 0;
    bool null = false;
    int status = fm_row_passed_text(json, scratch, &data, &size, &null);
    if (status == 0 && !null) {
        field_append(record, data, size);
    }
    return status;
}

static int column_append(const struct fm_row_format *format, struct fm_row_column column,
                         const struct fm_result *result, const char **passed,
                         struct fm_text *record, struct fm_text *scratch)
{
    struct fm_json_writer json;
    int status = 0;
    switch (column.kind) {
    case FM_ROW_COLUMN_ID:
        field_append(record, result->id.data, result->id.size);
        break;
    case FM_ROW_COLUMN_PASSED:
        status = passed_append(record, scratch, *passed);
        *passed += strlen(*passed) + 1;
        break;
    case FM_ROW_COLUMN_OUTPUT:
        status = output_append(format, record, scratch, &format->outputs[column.index],
                               &result->outputs[column.index]);
        break;
    case FM_ROW_COLUMN_TIME:
    default:
        fm_json_writer_init(&json, record);
        fm_json_number(&json, fm_row_column_time(format, column, result));
        break;
    }
    return status;
}

static int csv_pack(const struct fm_row_format *format, const struct fm_result *result,
                    struct fm_text *rows, struct fm_error *reterr)
{
    char memory[SCRATCH_BYTES];
    struct fm_text scratch;
    size_t before = rows->length;
    const char *passed = result->passed;
    uint32_t count = fm_row_column_count(format);
    int status = fm_row_columns_id_check(format, &result->id, reterr);
    if (status != 0) {
        return status;
    }
    fm_text_begin(&scratch, memory, sizeof(memory));
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct fm_row_column column = fm_row_column_at(format, i);
        if (i > 0) {
            fm_text_append_char(rows, ',');
        }
        status = column_append(format, column, result, &passed, rows, &scratch);
        status = status == 0 && rows->failed ? FM_ENOMEM : status;
        if (status != 0) {
            struct fm_text name = {0};
            fm_row_column_name(format, column, &name);
            status = fm_error_set(reterr, status, "the column '%s' cannot be written as CSV: %s",
                                  name.data != NULL ? name.data : "?", fm_status_text(status));
            fm_text_deinit(&name);
        }
    }
    fm_text_append_char(rows, '\n');
    fm_text_deinit(&scratch);
    if (status == 0 && rows->failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the row's record");
    }
    if (status != 0) {
        rows->length = before;
        rows->failed = false;
    }
    return status;
}

static int csv_check(const struct fm_row_format *format, struct fm_error *reterr)
{
    return fm_row_columns_check(format, false, reterr);
}

static int csv_open(const struct fm_row_format *format, const char *path,
                    struct fm_sink_file **ret_file, struct fm_error *reterr)
{
    struct fm_text head = {0};
    struct fm_text name = {0};
    for (uint32_t i = 0; i < fm_row_column_count(format); i++) {
        fm_text_clear(&name);
        fm_row_column_name(format, fm_row_column_at(format, i), &name);
        if (i > 0) {
            fm_text_append_char(&head, ',');
        }
        field_append(&head, name.data != NULL ? name.data : "", name.length);
        head.failed = head.failed || name.failed;
    }
    fm_text_append_char(&head, '\n');
    int status = head.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory to write '%s'", path)
                             : fm_sink_text_open(format->sink, path, &head, ret_file, reterr);
    fm_text_deinit(&name);
    fm_text_deinit(&head);
    return status;
}

/* What its files have in common, compressed or not. */
#define CSV                                                                                    \
    FM_SINK_TEXT, .name = "csv", .title = "CSV", .source = &fm_source_csv, .check = csv_check, \
                  .pack = csv_pack, .open = csv_open

static const struct fm_sink sink_csv_gzip = {CSV, FM_SINK_TEXT_GZIPPED, .ending = ".csv.gz"};

const struct fm_sink fm_sink_csv = {CSV, .ending = ".csv", .gzip = &sink_csv_gzip};
