/*
 * The rows of a query that fm_query_sqlite_spool has taken down.
 *
 * HOW IT WORKS. A row's number is the key of a table, so a reader begins at any row. The file is
 * opened as one that nobody changes, so that it needs no locks, which shared file systems may not
 * have. Values have their own types: see value_give.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/source/element.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/source/cells.h"
#include "host/source/formats.h"
#include "host/source/sqlite_uri.h"

#define STRIDE_ROWS UINT64_C(65536)

struct query_reader {
    struct fm_source_reader base;
    const struct fm_source_spec *spec;
    const char *path; /* SQLite's own copy */
    sqlite3 *database;
    sqlite3_stmt *rows;
    struct fm_source_cells cells;
    int *columns; /* by name of the cells: which of the statement's; -1: no id is wanted */
    uint64_t next_row;
    uint64_t row_count;
    bool running; /* the statement stands at next_row, or before it */
    bool pending; /* it stands at next_row, which has not been given yet */
    struct fm_text json;
};

static struct query_reader *query_reader_of(struct fm_source_reader *reader)
{
    return (struct query_reader *)(void *)reader;
}

static int refuse(const struct query_reader *reader, struct fm_error *reterr)
{
    int code = sqlite3_extended_errcode(reader->database) & 0xFF;
    int status = code == SQLITE_NOMEM ? FM_ENOMEM : code == SQLITE_IOERR ? FM_EIO : FM_ECORRUPT;
    return fm_error_set(reterr, status, "%s: %s", reader->path, sqlite3_errmsg(reader->database));
}

/* --- Columns --- */

static int names_read(struct query_reader *reader, struct fm_text *names, const char ***ret_names,
                      uint32_t *ret_count, struct fm_error *reterr)
{
    sqlite3_stmt *statement = NULL;
    uint32_t count = 0;
    int code = sqlite3_prepare_v2(reader->database, "SELECT name FROM name ORDER BY number", -1,
                                  &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    for (; code == SQLITE_ROW; code = sqlite3_step(statement), count++) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        if (name == NULL) {
            code = SQLITE_NOMEM; /* it was written as a text */
            break;
        }
        fm_text_append(names, name, strlen(name) + 1);
    }
    int status = code == SQLITE_DONE    ? 0
                 : code == SQLITE_NOMEM ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                        : refuse(reader, reterr);
    (void)sqlite3_finalize(statement);
    if (status != 0) {
        return status;
    }
    const char **all = fm_alloc_zero(count + 1, sizeof(*all));
    if (all == NULL || names->failed) {
        fm_free((void *)all);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    const char *name = names->data;
    for (uint32_t i = 0; i < count; i++, name += strlen(name) + 1) {
        all[i] = name;
    }
    *ret_names = all;
    *ret_count = count;
    return 0;
}

/* The statement that gives the wanted columns of the rows from a number on. */
static int statement_make(struct query_reader *reader, const char *const *names, uint32_t count,
                          struct fm_error *reterr)
{
    struct fm_text sql = {0};
    int status = 0;
    int at = 0;
    fm_text_append_string(&sql, "SELECT number");
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        const char *wanted = reader->cells.names[i];
        uint32_t column = 0;
        while (wanted != NULL && column < count && strcmp(names[column], wanted) != 0) {
            column++;
        }
        reader->columns[i] = wanted != NULL ? ++at : -1;
        if (wanted != NULL && column == count) {
            status = fm_column_unknown(wanted, names, count, reterr);
            status = fm_error_prefix(reterr, status, "the query");
        }
        if (wanted != NULL) {
            fm_text_append_format(&sql, ", c%" PRIu32, column);
        }
    }
    fm_text_append_string(&sql, " FROM row WHERE number > ? ORDER BY number");
    if (status == 0 && sql.failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    if (status == 0 &&
        sqlite3_prepare_v2(reader->database, sql.data, -1, &reader->rows, NULL) != SQLITE_OK) {
        status = refuse(reader, reterr);
    }
    fm_text_deinit(&sql);
    return status;
}

static int columns_find(struct query_reader *reader, struct fm_error *reterr)
{
    struct fm_text text = {0};
    const char **names = NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < reader->spec->tensor_count; i++) {
        if (reader->spec->tensors[i].name_count == 0) {
            return fm_error_set(reterr, FM_EINVAL, "the column for the input '%s' is not named",
                                reader->spec->tensors[i].column.name);
        }
    }
    int status = names_read(reader, &text, &names, &count, reterr);
    if (status == 0) {
        reader->columns = fm_alloc_zero(reader->cells.name_count, sizeof(*reader->columns));
        status = reader->columns == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                         : statement_make(reader, names, count, reterr);
    }
    fm_free((void *)names);
    fm_text_deinit(&text);
    return status;
}

static int rows_count(struct query_reader *reader, struct fm_error *reterr)
{
    sqlite3_stmt *statement = NULL;
    int code =
        sqlite3_prepare_v2(reader->database, "SELECT max(number) FROM row", -1, &statement, NULL);
    bool there = code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW;
    reader->row_count = there ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    int status = there ? 0 : refuse(reader, reterr);
    (void)sqlite3_finalize(statement);
    return status;
}

/* --- Values --- */

static int no_value(const struct fm_column *column, const char *what, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ETYPE, "column '%s': %s, and an input of %s cannot take it",
                        column->name, what, fm_dtype_name(column->dtype));
}

static uint64_t elements_of(const struct fm_column *column)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < column->rank; i++) {
        count *= column->shape[i] >= 0 ? (uint64_t)column->shape[i] : 0;
    }
    return count;
}

static int number_give(const struct fm_column *column, uint32_t dtype, const void *number,
                       struct fm_text *out, int64_t *ret_shape, struct fm_error *reterr)
{
    unsigned char element[8];
    uint64_t bad = 0;
    if (!fm_element_is_number(column->dtype)) {
        return no_value(column, "it is a number", reterr);
    }
    if (elements_of(column) != 1) {
        return no_value(column, "it is one number where an array is wanted", reterr);
    }
    if (!fm_elements_convert(dtype, number, 1, column->dtype, element, &bad)) {
        return fm_element_refuse(column->name, dtype, number, 0, column->dtype, reterr);
    }
    for (uint32_t i = 0; i < column->rank; i++) {
        ret_shape[i] = 1;
    }
    fm_text_append(out, element,
                   fm_dtype_bits(column->dtype) < 8 ? 1 : fm_dtype_bits(column->dtype) / 8);
    return out->failed ? FM_ENOMEM : 0;
}

/* Bytes: of one element of BYTES they are its value; else they are the whole row, as it lies in a
 * tensor. */
static int blob_give(const struct fm_column *column, const void *data, size_t size,
                     struct fm_text *out, int64_t *ret_shape, struct fm_error *reterr)
{
    if (column->dtype == FM_DTYPE_BYTES) {
        return fm_column_from_field(column, data != NULL ? data : "", size, out, ret_shape, reterr);
    }
    uint64_t elements = elements_of(column);
    uint64_t wanted = elements * fm_dtype_bits(column->dtype) / 8;
    if (elements == 0 || wanted != size) {
        return fm_error_set(reterr, FM_ETYPE,
                            "column '%s': its %zu bytes are not a row of the input, which has "
                            "%" PRIu64,
                            column->name, size, wanted);
    }
    memcpy(ret_shape, column->shape, column->rank * sizeof(*ret_shape));
    fm_text_append(out, data, size);
    return out->failed ? FM_ENOMEM : 0;
}

static int value_give(struct query_reader *reader, const struct fm_column *column, int at,
                      struct fm_text *out, int64_t *ret_shape, struct fm_error *reterr)
{
    int64_t whole = 0;
    double number = 0;
    switch (sqlite3_column_type(reader->rows, at)) {
    case SQLITE_INTEGER:
        whole = sqlite3_column_int64(reader->rows, at);
        return number_give(column, FM_DTYPE_INT64, &whole, out, ret_shape, reterr);
    case SQLITE_FLOAT:
        number = sqlite3_column_double(reader->rows, at);
        return number_give(column, FM_DTYPE_FP64, &number, out, ret_shape, reterr);
    case SQLITE_TEXT: {
        const void *text = sqlite3_column_text(reader->rows, at);
        size_t size = (size_t)sqlite3_column_bytes(reader->rows, at);
        return text == NULL ? FM_ENOMEM
                            : fm_column_from_field(column, text, size, out, ret_shape, reterr);
    }
    case SQLITE_BLOB: {
        const void *data = sqlite3_column_blob(reader->rows, at);
        return blob_give(column, data, (size_t)sqlite3_column_bytes(reader->rows, at), out,
                         ret_shape, reterr);
    }
    default:
        return fm_error_set(reterr, FM_ETYPE, "column '%s': it is NULL, and a value is needed",
                            column->name);
    }
}

static int cell_give(struct query_reader *reader, uint32_t index, struct fm_row_block *block,
                     struct fm_error *reterr)
{
    const struct fm_source_cell *cell = &reader->cells.items[index];
    const struct fm_source_tensor *tensor = &reader->spec->tensors[cell->tensor];
    int64_t shape[FM_RANK_MAX];
    int status = value_give(reader, &cell->column, reader->columns[index],
                            &block->tensors[cell->tensor], shape, reterr);
    return status != 0 || !cell->last
               ? status
               : fm_row_block_shape(block, cell->tensor,
                                    tensor->name_count > 1 ? tensor->column.shape : shape);
}

static int id_give(struct query_reader *reader, struct fm_row_block *block, struct fm_error *reterr)
{
    int at = reader->columns[reader->cells.count];
    if (at < 0) {
        return 0;
    }
    int type = sqlite3_column_type(reader->rows, at);
    if (type != SQLITE_INTEGER && type != SQLITE_TEXT) {
        return fm_error_set(reterr, FM_ETYPE,
                            "column '%s', the row's id, is neither an integer "
                            "nor a text",
                            reader->spec->id);
    }
    const char *text = (const char *)sqlite3_column_text(reader->rows, at);
    if (text == NULL) {
        return FM_ENOMEM;
    }
    fm_row_block_id(block, text, (size_t)sqlite3_column_bytes(reader->rows, at));
    return 0;
}

static int passed_give(struct query_reader *reader, int at, struct fm_row_block *block)
{
    struct fm_json_writer json;
    fm_text_clear(&reader->json);
    fm_json_writer_init(&json, &reader->json);
    switch (sqlite3_column_type(reader->rows, at)) {
    case SQLITE_INTEGER:
        fm_json_int(&json, sqlite3_column_int64(reader->rows, at));
        break;
    case SQLITE_FLOAT:
        fm_json_number(&json, sqlite3_column_double(reader->rows, at));
        break;
    case SQLITE_NULL:
        fm_json_null(&json);
        break;
    default: {
        const void *data = sqlite3_column_blob(reader->rows, at);
        fm_json_string_n(&json, data != NULL ? data : "",
                         (size_t)sqlite3_column_bytes(reader->rows, at));
        break;
    }
    }
    if (reader->json.failed) {
        return FM_ENOMEM;
    }
    fm_row_block_pass(block, reader->json.data, reader->json.length);
    return 0;
}

/* --- Rows --- */

/* 1: the row next_row is there; 0: there are no more. */
static int row_ready(struct query_reader *reader, struct fm_error *reterr)
{
    if (reader->pending || reader->next_row >= reader->row_count) {
        return reader->pending ? 1 : 0;
    }
    if (!reader->running) {
        (void)sqlite3_reset(reader->rows);
        (void)sqlite3_bind_int64(reader->rows, 1, (sqlite3_int64)reader->next_row);
        reader->running = true;
    }
    if (sqlite3_step(reader->rows) != SQLITE_ROW ||
        sqlite3_column_int64(reader->rows, 0) != (sqlite3_int64)reader->next_row + 1) {
        return sqlite3_errcode(reader->database) == SQLITE_ROW ||
                       sqlite3_errcode(reader->database) == SQLITE_DONE
                   ? fm_error_set(reterr, FM_ECORRUPT, "%s: row %" PRIu64 " is missing",
                                  reader->path, reader->next_row)
                   : refuse(reader, reterr);
    }
    reader->pending = true;
    return 1;
}

static int size_check(const struct query_reader *reader, struct fm_error *reterr)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        int at = reader->columns[i];
        int type = at >= 0 ? sqlite3_column_type(reader->rows, at) : SQLITE_NULL;
        if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
            size += (uint64_t)sqlite3_column_bytes(reader->rows, at);
        }
    }
    return size <= reader->spec->record_bytes_max
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE,
                              "it has %" PRIu64 " bytes, and the limit is %" PRIu64, size,
                              reader->spec->record_bytes_max);
}

static int row_give(struct query_reader *reader, struct fm_row_block *block,
                    struct fm_error *reterr)
{
    struct fm_error error = {0};
    fm_row_block_begin(block, reader->next_row, 0);
    int status = id_give(reader, block, &error);
    status = status != 0 ? status : size_check(reader, &error);
    for (uint32_t i = 0; i < reader->spec->passed_count && status == 0; i++) {
        status = passed_give(reader, reader->columns[reader->cells.count + 1 + i], block);
    }
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        status = cell_give(reader, i, block, &error);
    }
    return fm_source_row_end(block, status, &error, "row", reader->next_row, reterr);
}

static int query_read(struct fm_source_reader *source, uint32_t rows_max,
                      struct fm_row_block *block, struct fm_error *reterr)
{
    struct query_reader *reader = query_reader_of(source);
    while (block->row_count < rows_max) {
        int status = row_ready(reader, reterr);
        if (status <= 0) {
            return status;
        }
        status = row_give(reader, block, reterr);
        if (status == FM_EAGAIN) {
            return 0; /* it waits for the next block */
        }
        if (status != 0) {
            return status;
        }
        reader->pending = false;
        reader->next_row++;
    }
    return 0;
}

static int query_skip(struct fm_source_reader *source, uint64_t rows, struct fm_error *reterr)
{
    struct query_reader *reader = query_reader_of(source);
    if (rows > reader->row_count || reader->next_row > reader->row_count - rows) {
        return fm_error_set(reterr, FM_ENOTFOUND, "%s has fewer rows than when the job was begun",
                            reader->path);
    }
    reader->next_row += rows;
    reader->running = reader->running && rows == 0;
    reader->pending = reader->pending && rows == 0;
    return 0;
}

/* --- Life --- */

static void query_close(struct fm_source_reader *source)
{
    struct query_reader *reader = query_reader_of(source);
    (void)sqlite3_finalize(reader->rows);
    (void)sqlite3_close(reader->database);
    fm_source_cells_deinit(&reader->cells);
    fm_text_deinit(&reader->json);
    fm_free(reader->columns);
    fm_free(reader);
}

static int database_open(struct query_reader *reader, const char *path, struct fm_error *reterr)
{
    struct fm_text uri = {0};
    fm_sqlite_immutable_uri(path, &uri);
    int code =
        uri.failed
            ? SQLITE_NOMEM
            : sqlite3_open_v2(uri.data, &reader->database,
                              SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI, NULL);
    fm_text_deinit(&uri);
    if (reader->database == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->path = sqlite3_db_filename(reader->database, "main");
    reader->path = reader->path != NULL ? reader->path : "the rows of the query";
    return code == SQLITE_OK ? 0
           : code == SQLITE_CANTOPEN
               ? fm_error_set(reterr, FM_ENOTFOUND, "cannot open the rows of the query, '%s'", path)
               : refuse(reader, reterr);
}

static int query_open(const struct fm_source_spec *spec, const char *path,
                      const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                      struct fm_error *reterr)
{
    struct query_reader *reader = fm_alloc_zero(1, sizeof(*reader));
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->base.format = spec->format;
    reader->spec = spec;
    reader->next_row = point != NULL ? point->row : 0;
    int status = fm_source_cells_make(&reader->cells, spec);
    status = status != 0 ? fm_error_set(reterr, status, "out of memory")
                         : database_open(reader, path, reterr);
    status = status != 0 ? status : columns_find(reader, reterr);
    status = status != 0 ? status : rows_count(reader, reterr);
    if (status != 0) {
        query_close(&reader->base);
        return status;
    }
    *ret_reader = &reader->base;
    return 0;
}

static int query_count(const struct fm_source_spec *spec, const char *path,
                       fm_record_point_take take, void *context, uint64_t *ret_rows,
                       struct fm_error *reterr)
{
    struct fm_source_reader *source = NULL;
    int status = query_open(spec, path, NULL, &source, reterr);
    if (status != 0) {
        return status;
    }
    uint64_t rows = query_reader_of(source)->row_count;
    query_close(source);
    for (uint64_t row = 0; row < rows && take != NULL && status == 0; row += STRIDE_ROWS) {
        const struct fm_record_point point = {.row = row, .offset = row};
        status = take(context, &point);
    }
    *ret_rows = rows;
    return status;
}

static const char *const endings[] = {NULL};

const struct fm_source_format fm_source_query = {.name = "query",
                                                 .endings = endings,
                                                 .count = query_count,
                                                 .open = query_open,
                                                 .skip = query_skip,
                                                 .read = query_read,
                                                 .close = query_close};
