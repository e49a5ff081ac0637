/*
 * Files through formats, told as text. See source_rig.h.
 */
#include "tests/harness/source_rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/source/element.h"
#include "core/util/error.h"
#include "core/util/memory.h"

static void tell_tensor(struct fm_text *text, const struct fm_column *column, const int64_t *shape,
                        const char *data, size_t *offset)
{
    uint64_t count = 0;
    char words[128];
    if (fm_shape_element_count(shape, column->rank, &count) != 0) {
        fm_text_append_string(text, "no shape");
    }
    if (column->rank > 0) {
        fm_text_append_string(text, fm_shape_format(shape, column->rank, words, sizeof words));
    }
    for (uint64_t i = 0; i < count; i++) {
        fm_text_append_string(text, i > 0 ? "," : "");
        if (column->dtype == FM_DTYPE_BYTES) {
            uint32_t length = 0;
            memcpy(&length, data + *offset, sizeof length);
            fm_text_append_format(text, "'%.*s'", (int)length, data + *offset + sizeof length);
            *offset += sizeof length + length;
        } else if (fm_element_is_number(column->dtype)) {
            struct fm_json_writer writer;
            fm_json_writer_init(&writer, text);
            fm_element_write_json(&writer, column->dtype, data + *offset, 0);
            *offset += fm_dtype_bits(column->dtype) / 8;
        } else {
            *offset += fm_dtype_bits(column->dtype) / 8;
        }
    }
}

static void tell_block(struct fm_text *text, const struct fm_row_block *block)
{
    size_t offsets[FM_SOURCE_RIG_TENSORS] = {0};
    for (uint32_t i = 0; i < block->row_count; i++) {
        const struct fm_block_row *row = &block->rows[i];
        const char *texts = block->texts.data;
        fm_text_append_format(text, "%" PRIu64, row->row);
        if (row->id != SIZE_MAX) {
            fm_text_append_format(text, " id=%.*s", (int)row->id_size, texts + row->id);
        }
        if (row->status != 0) {
            fm_text_append_format(text, " !%s", texts + row->words);
        }
        for (uint32_t t = 0; t < block->tensor_count && row->status == 0; t++) {
            fm_text_append_string(text, t > 0 ? "; " : " ");
            tell_tensor(text, &block->columns[t], block->shapes[t], block->tensors[t].data,
                        &offsets[t]);
        }
        const char *passed = texts + row->passed;
        for (uint32_t p = 0; p < block->passed_count; p++) {
            fm_text_append_format(text, " | %s", passed);
            passed += strlen(passed) + 1;
        }
        fm_text_append_char(text, '\n');
    }
    for (uint32_t t = 0; t < block->tensor_count; t++) {
        if (offsets[t] != block->tensors[t].length) {
            fm_text_append_format(text, "!! tensor %" PRIu32 " has %zu bytes, not %zu\n", t,
                                  block->tensors[t].length, offsets[t]);
        }
    }
}

static void tell_error(struct fm_text *text, const struct fm_error *error)
{
    fm_text_append_format(text, "!! %s %s", fm_status_name(error->status), error->text);
}

/* All rows, and the status in `error`. */
static void read_rows(const struct fm_source_spec *spec, struct fm_source_reader *reader,
                      uint64_t rows, uint32_t rows_max, struct fm_text *text,
                      struct fm_error *error)
{
    struct fm_row_block block;
    struct fm_column *columns = NULL;
    if (fm_source_columns(spec, &columns) != 0 ||
        fm_row_block_init(&block, columns, spec->tensor_count, spec->passed_count, rows_max) != 0) {
        error->status = FM_ENOMEM;
        fm_free(columns);
        return;
    }
    int status = 0;
    while (rows > 0 && status == 0) {
        fm_row_block_clear(&block);
        status =
            spec->format->read(reader, rows < rows_max ? (uint32_t)rows : rows_max, &block, error);
        if (block.row_count == 0) {
            break;
        }
        rows -= block.row_count;
        fm_text_append_string(text, text->length > 0 ? "--\n" : "");
        tell_block(text, &block);
    }
    fm_row_block_deinit(&block);
    fm_free(columns);
}

char *fm_source_rig_read(const struct fm_source_spec *spec, const char *path, uint64_t point,
                         uint64_t skip, uint64_t rows, uint32_t rows_max)
{
    const struct fm_record_point at = {.row = point};
    struct fm_error error = {0};
    struct fm_text text = {0};
    struct fm_source_reader *reader = NULL;
    int status = spec->format->open(spec, path, point > 0 ? &at : NULL, &reader, &error);
    if (status == 0) {
        status = skip > 0 ? spec->format->skip(reader, skip, &error) : 0;
        if (status == 0) {
            read_rows(spec, reader, rows, rows_max, &text, &error);
        }
        spec->format->close(reader);
    }
    if (error.status != 0) {
        tell_error(&text, &error);
    }
    return fm_text_take(&text);
}

static int take_point(void *context, const struct fm_record_point *point)
{
    fm_text_append_format(context, " %" PRIu64 "/%" PRIu64, point->row, point->offset);
    return 0;
}

char *fm_source_rig_count(const struct fm_source_spec *spec, const char *path)
{
    struct fm_error error = {0};
    struct fm_text points = {0};
    struct fm_text text = {0};
    uint64_t rows = 0;
    if (spec->format->count(spec, path, take_point, &points, &rows, &error) == 0) {
        fm_text_append_format(&text, "%" PRIu64 ":%s", rows,
                              points.data != NULL ? points.data : "");
    } else {
        tell_error(&text, &error);
    }
    fm_text_deinit(&points);
    return fm_text_take(&text);
}
