/*
 * Rows as columns. See row_columns.h.
 */
#include "engines/batch/row_columns.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/sink.h"

uint32_t fm_row_column_count(const struct fm_row_format *format)
{
    return 1 + format->passed_count + format->output_count +
           (format->timings ? format->stage_count + 1 : 0);
}

struct fm_row_column fm_row_column_at(const struct fm_row_format *format, uint32_t index)
{
    FM_ASSERT(index < fm_row_column_count(format));
    if (index == 0) {
        return (struct fm_row_column){.kind = FM_ROW_COLUMN_ID};
    }
    index -= 1;
    if (index < format->passed_count) {
        return (struct fm_row_column){.kind = FM_ROW_COLUMN_PASSED, .index = index};
    }
    index -= format->passed_count;
    if (index < format->output_count) {
        return (struct fm_row_column){.kind = FM_ROW_COLUMN_OUTPUT, .index = index};
    }
    return (struct fm_row_column){.kind = FM_ROW_COLUMN_TIME,
                                  .index = index - format->output_count};
}

void fm_row_column_name(const struct fm_row_format *format, struct fm_row_column column,
                        struct fm_text *name)
{
    switch (column.kind) {
    case FM_ROW_COLUMN_ID:
        fm_text_append_string(name, "id");
        break;
    case FM_ROW_COLUMN_PASSED:
        fm_text_append_string(name, format->passed[column.index]);
        break;
    case FM_ROW_COLUMN_OUTPUT:
        fm_text_append_string(name, format->outputs[column.index].name);
        break;
    case FM_ROW_COLUMN_TIME:
    default:
        fm_text_append_string(name, "timings.");
        fm_text_append_string(name, column.index < format->stage_count
                                        ? format->stage_names[column.index]
                                        : "total_ms");
        break;
    }
}

double fm_row_column_time(const struct fm_row_format *format, struct fm_row_column column,
                          const struct fm_result *result)
{
    return fm_row_milliseconds(column.index < format->stage_count ? result->stage_ns[column.index]
                                                                  : result->total_ns);
}

/* --- Checks --- */

static int names_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int names_compare_any_case(const void *left, const void *right)
{
    int order = strcasecmp(*(const char *const *)left, *(const char *const *)right);
    return order != 0 ? order : names_compare(left, right);
}

static int names_check(char **names, uint32_t count, const struct fm_row_format *format,
                       bool ignore_case, struct fm_error *reterr)
{
    qsort(names, count, sizeof(*names), ignore_case ? names_compare_any_case : names_compare);
    for (uint32_t i = 1; i < count; i++) {
        if ((ignore_case ? strcasecmp(names[i - 1], names[i]) : strcmp(names[i - 1], names[i])) ==
            0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the results would have the columns '%s' and '%s', which are one "
                                "to readers of %s: rename the pipeline's output, or pass another "
                                "column",
                                names[i - 1], names[i], format->sink->title);
        }
    }
    return 0;
}

int fm_row_columns_check(const struct fm_row_format *format, bool ignore_case,
                         struct fm_error *reterr)
{
    uint32_t count = fm_row_column_count(format);
    char **names = fm_alloc_zero(count, sizeof(*names));
    int status = names != NULL ? 0 : FM_ENOMEM;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct fm_text name = {0};
        fm_row_column_name(format, fm_row_column_at(format, i), &name);
        names[i] = fm_text_take(&name);
        status = names[i] != NULL ? 0 : FM_ENOMEM;
    }
    status = status == 0 ? names_check(names, count, format, ignore_case, reterr)
                         : fm_error_set(reterr, status, "out of memory");
    for (uint32_t i = 0; names != NULL && i < count; i++) {
        fm_free(names[i]);
    }
    fm_free(names);
    return status;
}

int fm_row_columns_id_check(const struct fm_row_format *format, const struct fm_row_id *id,
                            struct fm_error *reterr)
{
    return fm_row_id_is_text(id)
               ? 0
               : fm_error_set(reterr, FM_EUNSUPPORTED,
                              "the id is not UTF-8, and so no text of %s; output.format: jsonl "
                              "without compression can hold it",
                              format->sink->title);
}

int fm_row_passed_text(const char *json, struct fm_text *room, const char **ret_data,
                       size_t *ret_size, bool *ret_null)
{
    size_t size = strlen(json);
    *ret_data = json;
    *ret_size = size;
    *ret_null = strcmp(json, "null") == 0;
    if (json[0] != '"') {
        return 0;
    }
    if (size >= 2 && memchr(json, '\\', size) == NULL) {
        *ret_data = json + 1;
        *ret_size = size - 2;
        return 0;
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, json, size);
    fm_text_clear(room);
    if (fm_json_next(&reader) == FM_JSON_STRING) {
        fm_json_decode(&reader, room);
    }
    *ret_data = room->length > 0 ? room->data : "";
    *ret_size = room->length;
    return room->failed ? FM_ENOMEM : 0;
}
