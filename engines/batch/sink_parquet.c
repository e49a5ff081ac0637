/*
 * Results as Parquet, by host/source/parquet_writer.
 *
 * HOW IT WORKS. A packed row is, column by column, how many bytes its value has (NONE: it is null),
 * the shape where the column is one of lists, and the bytes as they lie in the tensor: one copy,
 * and nothing is turned into text on the way. append gives the writer pointers into that.
 *
 * LIMITATIONS. Every file has the same columns, so the type and the number of axes of an output
 * have to be known before anything runs.
 */
#include <stdio.h>
#include <string.h>

#include "core/source/element.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/file_sum.h"
#include "engines/batch/row_columns.h"
#include "engines/batch/sink.h"
#include "host/source/formats.h"
#include "host/source/parquet_writer.h"

#define NONE UINT64_MAX

struct parquet_file {
    struct fm_sink_file base;
    struct fm_parquet_writer *writer;
    struct fm_parquet_value *values;
    int64_t (*shapes)[FM_RANK_MAX]; /* by column */
    uint32_t *ranks;                /* likewise, of a row */
    uint32_t column_count;
    char path[4096];
};

/* --- Columns --- */

static uint32_t lead_of(const struct fm_row_format *format)
{
    return format->strip_rows ? 1 : 0;
}

static uint32_t passed_type(const struct fm_row_format *format, uint32_t index)
{
    return format->passed_types != NULL ? format->passed_types[index] : FM_DTYPE_INVALID;
}

/* What a column is to the writer, but for its name. */
static struct fm_parquet_column column_of(const struct fm_row_format *format,
                                          struct fm_row_column column)
{
    struct fm_parquet_column is = {.kind = FM_PARQUET_TENSOR};
    switch (column.kind) {
    case FM_ROW_COLUMN_ID:
        is.kind = FM_PARQUET_TEXT;
        break;
    case FM_ROW_COLUMN_PASSED:
        is.dtype = passed_type(format, column.index);
        is.kind = is.dtype == FM_DTYPE_INVALID ? FM_PARQUET_JSON
                  : is.dtype == FM_DTYPE_BYTES ? FM_PARQUET_TEXT
                                               : FM_PARQUET_TENSOR;
        break;
    case FM_ROW_COLUMN_OUTPUT: {
        const struct fm_port *port = &format->outputs[column.index];
        is.dtype = port->dtype;
        is.rank = fm_row_output_is_one(format, port) ? 0 : (uint32_t)port->rank - lead_of(format);
        is.text = format->bytes == FM_JOB_BYTES_TEXT;
        break;
    }
    case FM_ROW_COLUMN_TIME:
    default:
        is.dtype = FM_DTYPE_FP64;
        break;
    }
    return is;
}

static int parquet_check(const struct fm_row_format *format, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < format->output_count; i++) {
        const struct fm_port *port = &format->outputs[i];
        if (port->dtype == FM_DTYPE_INVALID || port->rank < (int32_t)lead_of(format)) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "the pipeline's output '%s' may have any type or any number of "
                                "axes, but a column of Parquet has one: declare it in the model's "
                                "or pipeline's file, or write output.format: jsonl",
                                port->name);
        }
    }
    int status = fm_row_columns_check(format, true, reterr);
    return status != 0 ? status : fm_parquet_writer_check(reterr);
}

/* --- Packing --- */

static void number_put(struct fm_text *rows, uint64_t number)
{
    fm_text_append(rows, &number, sizeof(number));
}

static void value_put(struct fm_text *rows, const void *data, size_t size)
{
    number_put(rows, size);
    fm_text_append(rows, data, size);
}

/* A passed number, which is JSON, as an element of its column's type. */
static int passed_number(const char *name, uint32_t dtype, const char *json,
                         unsigned char ret_element[8], struct fm_error *reterr)
{
    const struct fm_column column = {.name = name, .dtype = dtype};
    struct fm_json_reader reader;
    struct fm_text element;
    char room[16];
    fm_json_reader_init(&reader, json, strlen(json));
    fm_text_begin(&element, room, sizeof(room));
    int status = fm_column_from_json(&column, &reader, &element, NULL, reterr);
    if (status == 0) {
        memcpy(ret_element, element.data, element.length);
    }
    fm_text_deinit(&element);
    return status;
}

static int passed_pack(const struct fm_row_format *format, uint32_t index, const char *json,
                       struct fm_text *rows, struct fm_error *reterr)
{
    uint32_t dtype = passed_type(format, index);
    struct fm_text room = {0};
    unsigned char element[8];
    const char *data = json;
    size_t size = strlen(json);
    bool null = strcmp(json, "null") == 0;
    int status = 0;
    if (dtype == FM_DTYPE_BYTES) {
        status = fm_row_passed_text(json, &room, &data, &size, &null);
    } else if (dtype != FM_DTYPE_INVALID && !null) {
        status = passed_number(format->passed[index], dtype, json, element, reterr);
        data = (const char *)element;
        size = fm_dtype_bits(dtype) / 8;
    }
    if (status == 0 && null) {
        number_put(rows, NONE);
    } else if (status == 0) {
        value_put(rows, data, size);
    }
    fm_text_deinit(&room);
    return status;
}

static int output_pack(const struct fm_row_format *format, const struct fm_port *port,
                       const struct fm_tensor *tensor, struct fm_text *rows,
                       struct fm_error *reterr)
{
    bool one = fm_row_output_is_one(format, port);
    uint32_t lead = lead_of(format);
    int64_t elements = 1;
    if (tensor->dtype == FM_DTYPE_INVALID) {
        number_put(rows, NONE);
        return 0;
    }
    for (uint32_t i = lead; i < tensor->rank; i++) {
        elements *= tensor->shape[i];
    }
    if (tensor->dtype != port->dtype || tensor->rank < lead ||
        (one ? elements != 1 : tensor->rank != (uint32_t)port->rank)) {
        char shape[128];
        return fm_error_set(reterr, FM_ETYPE,
                            "the pipeline gave %s of the shape %s, which is not the column's",
                            fm_dtype_name(tensor->dtype),
                            fm_shape_format(tensor->shape, tensor->rank, shape, sizeof(shape)));
    }
    number_put(rows, tensor->size);
    if (!one) {
        fm_text_append(rows, &tensor->shape[lead],
                       (tensor->rank - lead) * sizeof(tensor->shape[0]));
    }
    fm_text_append(rows, tensor->data, tensor->size);
    return 0;
}

static int column_pack(const struct fm_row_format *format, struct fm_row_column column,
                       const struct fm_result *result, const char **passed, struct fm_text *rows,
                       struct fm_error *reterr)
{
    double time = 0;
    int status = 0;
    switch (column.kind) {
    case FM_ROW_COLUMN_ID:
        value_put(rows, result->id.data, result->id.size);
        break;
    case FM_ROW_COLUMN_PASSED:
        status = passed_pack(format, column.index, *passed, rows, reterr);
        *passed += strlen(*passed) + 1;
        break;
    case FM_ROW_COLUMN_OUTPUT:
        status = output_pack(format, &format->outputs[column.index], &result->outputs[column.index],
                             rows, reterr);
        break;
    case FM_ROW_COLUMN_TIME:
    default:
        time = fm_row_column_time(format, column, result);
        value_put(rows, &time, sizeof(time));
        break;
    }
    return status;
}

static int parquet_pack(const struct fm_row_format *format, const struct fm_result *result,
                        struct fm_text *rows, struct fm_error *reterr)
{
    size_t before = rows->length;
    const char *passed = result->passed;
    uint32_t count = fm_row_column_count(format);
    int status = fm_row_columns_id_check(format, &result->id, reterr);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct fm_row_column column = fm_row_column_at(format, i);
        struct fm_error why = {0};
        status = column_pack(format, column, result, &passed, rows, &why);
        if (status != 0) {
            struct fm_text name = {0};
            fm_row_column_name(format, column, &name);
            status = fm_error_set(reterr, status, "the column '%s' cannot be written: %s",
                                  name.data != NULL ? name.data : "?",
                                  why.text[0] != '\0' ? why.text : fm_status_text(status));
            fm_text_deinit(&name);
        }
    }
    if (status == 0 && rows->failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the row's values");
    }
    if (status != 0) {
        rows->length = before;
        rows->failed = false;
    }
    return status;
}

/* --- Files --- */

static struct parquet_file *parquet_file_of(struct fm_sink_file *file)
{
    return (struct parquet_file *)(void *)file;
}

/* Without the writer. */
static void file_free(struct parquet_file *file)
{
    fm_free(file->values);
    fm_free(file->shapes);
    fm_free(file->ranks);
    fm_free(file);
}

static int columns_make(const struct fm_row_format *format, struct parquet_file *file,
                        struct fm_parquet_column *columns)
{
    int status = 0;
    for (uint32_t i = 0; i < file->column_count && status == 0; i++) {
        struct fm_row_column column = fm_row_column_at(format, i);
        struct fm_text name = {0};
        fm_row_column_name(format, column, &name);
        columns[i] = column_of(format, column);
        columns[i].name = fm_text_take(&name);
        file->ranks[i] = columns[i].rank;
        status = columns[i].name == NULL ? FM_ENOMEM : 0;
    }
    return status;
}

static int parquet_open(const struct fm_row_format *format, const char *path,
                        struct fm_sink_file **ret_file, struct fm_error *reterr)
{
    uint32_t count = fm_row_column_count(format);
    struct parquet_file *file = fm_alloc_zero(1, sizeof(*file));
    struct fm_parquet_column *columns = fm_alloc_zero(count, sizeof(*columns));
    int status = FM_ENOMEM;
    if (file != NULL && columns != NULL) {
        file->base.sink = format->sink;
        file->column_count = count;
        file->values = fm_alloc_zero(count, sizeof(*file->values));
        file->shapes = fm_alloc_zero(count, sizeof(*file->shapes));
        file->ranks = fm_alloc_zero(count, sizeof(*file->ranks));
        status = file->values == NULL || file->shapes == NULL || file->ranks == NULL ||
                         snprintf(file->path, sizeof(file->path), "%s", path) < 0
                     ? FM_ENOMEM
                     : columns_make(format, file, columns);
    }
    status = status == 0 ? fm_parquet_writer_create(path, columns, count, format->compression,
                                                    &file->writer, reterr)
                         : fm_error_set(reterr, status, "out of memory to write '%s'", path);
    for (uint32_t i = 0; columns != NULL && i < count; i++) {
        fm_free((void *)columns[i].name);
    }
    fm_free(columns);
    if (status == 0) {
        *ret_file = &file->base;
    } else if (file != NULL) {
        file_free(file);
    }
    return status;
}

static void taken(const char **rows, void *to, size_t size)
{
    memcpy(to, *rows, size);
    *rows += size;
}

static int parquet_append(struct fm_sink_file *sink_file, const char *rows, size_t size,
                          struct fm_error *reterr)
{
    struct parquet_file *file = parquet_file_of(sink_file);
    const char *end = rows + size;
    int status = 0;
    while (rows < end && status == 0) {
        for (uint32_t i = 0; i < file->column_count; i++) {
            struct fm_parquet_value *value = &file->values[i];
            uint64_t length = 0;
            taken(&rows, &length, sizeof(length));
            *value = (struct fm_parquet_value){.null = length == NONE, .shape = file->shapes[i]};
            if (!value->null) {
                taken(&rows, file->shapes[i], file->ranks[i] * sizeof(file->shapes[i][0]));
                value->data = rows;
                value->size = length;
                rows += length;
            }
        }
        status = fm_parquet_writer_append(file->writer, file->values, reterr);
    }
    FM_ASSERT(status != 0 || rows == end);
    return status;
}

static int parquet_finish(struct fm_sink_file *sink_file, uint64_t *ret_bytes,
                          uint64_t *ret_checksum, struct fm_error *reterr)
{
    struct parquet_file *file = parquet_file_of(sink_file);
    uint64_t bytes = 0;
    int status = fm_parquet_writer_finish(file->writer, ret_bytes, reterr);
    status = status != 0 ? status : fm_file_sum(file->path, ret_checksum, &bytes, reterr);
    if (status == 0 && bytes != *ret_bytes) {
        status = fm_error_set(reterr, FM_EIO, "'%s' was changed while it was written", file->path);
    }
    file_free(file);
    return status;
}

static void parquet_abandon(struct fm_sink_file *sink_file)
{
    struct parquet_file *file = parquet_file_of(sink_file);
    fm_parquet_writer_abandon(file->writer);
    file_free(file);
}

static const char *const compressions[] = {"snappy", "zstd", "gzip", "none", NULL};

const struct fm_sink fm_sink_parquet = {.name = "parquet",
                                        .title = "Parquet",
                                        .ending = ".parquet",
                                        .typed = true,
                                        .compressions = compressions,
                                        .source = &fm_source_parquet,
                                        .check = parquet_check,
                                        .pack = parquet_pack,
                                        .open = parquet_open,
                                        .append = parquet_append,
                                        .finish = parquet_finish,
                                        .abandon = parquet_abandon};
