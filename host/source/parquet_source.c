/*
 * The format parquet, read by DuckDB.
 *
 * HOW IT WORKS. A point is a row group. A reader asks for the wanted columns of the rows from a
 * number on; DuckDB passes over the row groups before it by what the file's footer says, and over
 * the rows before it in their row group without making values of their columns. What comes back are
 * chunks of columns, whose numbers are taken into the tensors as they lie. The first column is the
 * number of the row, which is looked at: rows come in the file's order, or not at all.
 *
 * LIMITATIONS. A chunk has up to 2048 rows of a row group, all in memory at once. Two columns whose
 * names differ only in the case of letters are one to DuckDB, which renames the second ("A_1").
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file_reader.h"
#include "host/os/thread.h"
#include "host/source/cells.h"
#include "host/source/duckdb_value.h"
#include "host/source/formats.h"

#define ROW_NUMBER "file_row_number"
#define TABLE      "read_parquet('" FM_DUCKDB_FILE "', hive_partitioning=false)"

/* A column that is asked for. */
struct part {
    const char *name; /* NULL: no id is wanted */
    enum fm_duckdb_form form;
    struct fm_duckdb_column column; /* as it comes back */
};

struct parquet_reader {
    struct fm_source_reader base;
    const struct fm_source_spec *spec;
    struct fm_file_reader file;
    struct fm_duckdb_session session;
    struct fm_source_cells cells;
    uint32_t *types;       /* of what is passed */
    struct part *parts;    /* by cell, then the id, then what is passed */
    struct fm_text select; /* the query, up to the number of the first row */
    struct fm_text json;

    uint64_t next_row;
    duckdb_result result;
    bool running; /* `result` gives the rows from next_row on; columns are told */
    bool ended;   /* and has no more: it cannot be asked again */
    duckdb_data_chunk chunk;
    uint64_t chunk_rows;
    uint64_t chunk_at;
    const int64_t *numbers; /* of the chunk's rows */
};

static struct parquet_reader *parquet_reader_of(struct fm_source_reader *reader)
{
    return (struct parquet_reader *)(void *)reader;
}

static int refuse(const struct parquet_reader *reader, const char *message, struct fm_error *reterr)
{
    return fm_duckdb_refuse(&reader->session, FM_ECORRUPT, message, reader->file.path,
                            reader->file.descriptor, reterr);
}

/* --- What is wanted --- */

static int parts_make(struct parquet_reader *reader, struct fm_error *reterr)
{
    const struct fm_source_spec *spec = reader->spec;
    for (uint32_t i = 0; i < spec->tensor_count; i++) {
        if (spec->tensors[i].name_count == 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "%s: the column for the input '%s' is not named, and the columns "
                                "of Parquet have names",
                                reader->file.path, spec->tensors[i].column.name);
        }
    }
    int status = fm_source_cells_make(&reader->cells, spec);
    if (status == 0) {
        reader->parts = fm_alloc_zero(reader->cells.name_count, sizeof(*reader->parts));
    }
    reader->types = fm_alloc_zero(spec->passed_count + 1, sizeof(*reader->types));
    for (uint32_t i = 0; reader->parts != NULL && i < reader->cells.name_count; i++) {
        reader->parts[i].name = reader->cells.names[i];
    }
    reader->base.passed_types = reader->types;
    return reader->parts != NULL && reader->types != NULL
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

/* The name within quotes for DuckDB. */
static void identifier_append(struct fm_text *sql, const char *name)
{
    fm_text_append_char(sql, '"');
    for (; *name != '\0'; name++) {
        fm_text_append_string(sql, *name == '"' ? "\"" : "");
        fm_text_append_char(sql, *name);
    }
    fm_text_append_char(sql, '"');
}

static void part_select(struct fm_text *sql, const struct part *part)
{
    static const char *const calls[] = {
        [FM_DUCKDB_AS_IT_IS] = "", [FM_DUCKDB_AS_TEXT] = "CAST(", [FM_DUCKDB_AS_JSON] = "to_json("};
    static const char *const ends[] = {[FM_DUCKDB_AS_IT_IS] = "",
                                       [FM_DUCKDB_AS_TEXT] = " AS VARCHAR)",
                                       [FM_DUCKDB_AS_JSON] = ")::VARCHAR"};
    fm_text_append_string(sql, ", ");
    fm_text_append_string(sql, calls[part->form]);
    identifier_append(sql, part->name);
    fm_text_append_string(sql, ends[part->form]);
}

/* `schema`: of the file, without rows. */
static int column_unknown(const struct parquet_reader *reader, duckdb_result *schema,
                          const char *name, struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    idx_t count = duck->column_count(schema);
    const char **names = fm_alloc_zero((size_t)count + 1, sizeof(*names));
    if (names == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (idx_t i = 0; i < count; i++) {
        names[i] = duck->column_name(schema, i);
    }
    int status = fm_column_unknown(name, names, (uint32_t)count, reterr);
    fm_free((void *)names);
    return fm_error_prefix(reterr, status, "%s", reader->file.path);
}

/* What all values of a passed column are, where they go on as they are. */
static uint32_t type_of(const struct fm_duckdb_column *column, enum fm_duckdb_form form)
{
    return form != FM_DUCKDB_AS_IT_IS                                      ? FM_DTYPE_INVALID
           : column->type == DUCKDB_TYPE_VARCHAR && !column->json          ? FM_DTYPE_BYTES
           : column->child_count == 0 && column->dtype != FM_DTYPE_INVALID ? column->dtype
                                                                           : FM_DTYPE_INVALID;
}

/* How the part that has this index is asked for. */
static int part_check(struct parquet_reader *reader, uint32_t index, duckdb_result *schema,
                      struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    struct part *part = &reader->parts[index];
    idx_t count = duck->column_count(schema);
    idx_t at = 0;
    while (at < count && strcmp(duck->column_name(schema, at), part->name) != 0) {
        at++;
    }
    if (at == count) {
        return column_unknown(reader, schema, part->name, reterr);
    }
    struct fm_duckdb_column column;
    duckdb_logical_type type = duck->column_logical_type(schema, at);
    int status = fm_duckdb_column_init(&column, duck, type, reterr);
    duck->destroy_logical_type(&type);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s: column '%s'", reader->file.path, part->name);
    }
    if (index < reader->cells.count) {
        status = fm_duckdb_form_of_tensor(&column, &reader->cells.items[index].column, &part->form,
                                          reterr);
    } else if (index == reader->cells.count) {
        status = fm_duckdb_form_of_id(&column, part->name, &part->form, reterr);
    } else {
        part->form = fm_duckdb_form_of_json(&column);
        reader->types[index - reader->cells.count - 1] = type_of(&column, part->form);
    }
    fm_duckdb_column_deinit(&column);
    return status == 0 ? 0 : fm_error_prefix(reterr, status, "%s", reader->file.path);
}

/* Looks at the file's own columns, and makes the query out of them. */
static int select_make(struct parquet_reader *reader, struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    duckdb_result schema;
    char sql[sizeof TABLE + 64];
    (void)snprintf(sql, sizeof sql, "SELECT * FROM " TABLE " LIMIT 0", reader->file.descriptor);
    if (duck->query(reader->session.connection, sql, &schema) != DuckDBSuccess) {
        int status = refuse(reader, duck->result_error(&schema), reterr);
        duck->destroy_result(&schema);
        return status;
    }
    int status = 0;
    for (idx_t i = 0; i < duck->column_count(&schema) && status == 0; i++) {
        if (strcmp(duck->column_name(&schema, i), ROW_NUMBER) == 0) {
            status = fm_error_set(reterr, FM_EUNSUPPORTED,
                                  "%s: a column of the name '" ROW_NUMBER
                                  "' cannot be read; write it under another name",
                                  reader->file.path);
        }
    }
    fm_text_append_string(&reader->select, "SELECT " ROW_NUMBER);
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        if (reader->parts[i].name != NULL) {
            status = part_check(reader, i, &schema, reterr);
            part_select(&reader->select, &reader->parts[i]);
        }
    }
    duck->destroy_result(&schema);
    fm_text_append_format(&reader->select,
                          " FROM " TABLE " WHERE " ROW_NUMBER " >= ", reader->file.descriptor);
    return status != 0             ? status
           : reader->select.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                   : 0;
}

/* --- Chunks --- */

static void query_end(struct parquet_reader *reader)
{
    if (reader->chunk != NULL) {
        reader->session.duck->destroy_data_chunk(&reader->chunk);
    }
    if (reader->running) {
        reader->session.duck->destroy_result(&reader->result);
    }
    reader->chunk_rows = 0;
    reader->chunk_at = 0;
    reader->running = false;
    reader->ended = false;
}

static int columns_init(struct parquet_reader *reader, struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    idx_t at = 1; /* behind the row's number */
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        struct part *part = &reader->parts[i];
        if (part->name == NULL || part->column.type != DUCKDB_TYPE_INVALID) {
            at += part->name != NULL;
            continue;
        }
        duckdb_logical_type type = duck->column_logical_type(&reader->result, at++);
        int status = fm_duckdb_column_init(&part->column, duck, type, reterr);
        duck->destroy_logical_type(&type);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "%s", reader->file.path);
        }
    }
    return 0;
}

/* Asks for the rows from `row` on. */
static int query_begin(struct parquet_reader *reader, uint64_t row, struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    duckdb_prepared_statement statement = NULL;
    duckdb_pending_result pending = NULL;
    size_t length = reader->select.length;
    int status = 0;
    query_end(reader);
    fm_text_append_format(&reader->select, "%" PRIu64, row);
    if (reader->select.failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    if (duck->prepare(reader->session.connection, reader->select.data, &statement) !=
        DuckDBSuccess) {
        status = refuse(reader, duck->prepare_error(statement), reterr);
    } else if (duck->pending_prepared_streaming(statement, &pending) != DuckDBSuccess) {
        status = refuse(reader, duck->pending_error(pending), reterr);
    } else {
        reader->running = true;
        if (duck->execute_pending(pending, &reader->result) != DuckDBSuccess) {
            status = refuse(reader, duck->result_error(&reader->result), reterr);
        }
    }
    duck->destroy_pending(&pending);
    duck->destroy_prepare(&statement);
    reader->select.length = length;
    reader->next_row = row;
    return status == 0 ? columns_init(reader, reterr) : status;
}

/* The next chunk; without rows: the file is over. */
static int chunk_next(struct parquet_reader *reader, struct fm_error *reterr)
{
    const struct fm_duckdb *duck = reader->session.duck;
    if (reader->chunk != NULL) {
        duck->destroy_data_chunk(&reader->chunk);
    }
    reader->chunk_at = 0;
    reader->chunk_rows = 0;
    reader->chunk = duck->fetch_chunk(reader->result);
    if (reader->chunk == NULL) {
        reader->ended = true;
        const char *message = duck->result_error(&reader->result);
        return message != NULL && message[0] != '\0' ? refuse(reader, message, reterr) : 0;
    }
    reader->chunk_rows = duck->data_chunk_get_size(reader->chunk);
    idx_t at = 0;
    reader->numbers = duck->vector_get_data(duck->data_chunk_get_vector(reader->chunk, at++));
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        if (reader->parts[i].name != NULL) {
            fm_duckdb_column_bind(&reader->parts[i].column, duck,
                                  duck->data_chunk_get_vector(reader->chunk, at++));
        }
    }
    return 0;
}

/* 1: the row at chunk_at is there; 0: the file is over. */
static int row_ready(struct parquet_reader *reader, struct fm_error *reterr)
{
    int status = reader->running ? 0 : query_begin(reader, reader->next_row, reterr);
    if (status == 0 && reader->chunk_at == reader->chunk_rows && !reader->ended) {
        status = chunk_next(reader, reterr);
    }
    if (status != 0 || reader->chunk_at == reader->chunk_rows) {
        return status;
    }
    if (reader->numbers[reader->chunk_at] != (int64_t)reader->next_row) {
        return fm_error_set(reterr, FM_EINTERNAL,
                            "%s: row %" PRId64 " came where row %" PRIu64 " was due",
                            reader->file.path, reader->numbers[reader->chunk_at], reader->next_row);
    }
    return 1;
}

static void row_pass(struct parquet_reader *reader)
{
    reader->chunk_at++;
    reader->next_row++;
}

/* --- Rows --- */

static int id_give(struct parquet_reader *reader, struct fm_row_block *block,
                   struct fm_error *reterr)
{
    const struct part *part = &reader->parts[reader->cells.count];
    const char *data = NULL;
    size_t size = 0;
    if (part->name == NULL) {
        return 0;
    }
    if (!fm_duckdb_text(&part->column, reader->chunk_at, &data, &size)) {
        return fm_error_set(reterr, FM_ETYPE, "column '%s': the row's id is NULL", part->name);
    }
    fm_row_block_id(block, data, size);
    return 0;
}

static int passed_give(struct parquet_reader *reader, uint32_t index, struct fm_row_block *block,
                       struct fm_error *reterr)
{
    const struct part *part = &reader->parts[reader->cells.count + 1 + index];
    fm_text_clear(&reader->json);
    int status = fm_duckdb_append_json(&part->column, part->form, reader->chunk_at, part->name,
                                       &reader->json, reterr);
    if (status == 0) {
        fm_row_block_pass(block, reader->json.data, reader->json.length);
    }
    return status;
}

static int cell_give(struct parquet_reader *reader, uint32_t index, struct fm_row_block *block,
                     struct fm_error *reterr)
{
    const struct fm_source_cell *cell = &reader->cells.items[index];
    const struct fm_source_tensor *tensor = &reader->spec->tensors[cell->tensor];
    int64_t shape[FM_RANK_MAX];
    int status = fm_duckdb_append_row(&reader->parts[index].column, reader->chunk_at, &cell->column,
                                      reader->spec->record_bytes_max, &block->tensors[cell->tensor],
                                      shape, reterr);
    if (status != 0 || !cell->last) {
        return status;
    }
    return fm_row_block_shape(block, cell->tensor,
                              tensor->name_count > 1 ? tensor->column.shape : shape);
}

/* FM_EAGAIN: the row has to wait for the next block. */
static int row_give(struct parquet_reader *reader, struct fm_row_block *block,
                    struct fm_error *reterr)
{
    struct fm_error error;
    fm_error_init(&error);
    fm_row_block_begin(block, reader->next_row, 0);
    int status = id_give(reader, block, &error);
    for (uint32_t i = 0; i < reader->spec->passed_count && status == 0; i++) {
        status = passed_give(reader, i, block, &error);
    }
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        status = cell_give(reader, i, block, &error);
    }
    return fm_source_row_end(block, status, &error, "row", reader->next_row, reterr);
}

static int parquet_read(struct fm_source_reader *source, uint32_t rows_max,
                        struct fm_row_block *block, struct fm_error *reterr)
{
    struct parquet_reader *reader = parquet_reader_of(source);
    while (block->row_count < rows_max) {
        int status = row_ready(reader, reterr);
        if (status <= 0) {
            return status;
        }
        status = row_give(reader, block, reterr);
        if (status != 0) {
            return status == FM_EAGAIN ? 0 : status;
        }
        row_pass(reader);
    }
    return 0;
}

static int parquet_skip(struct fm_source_reader *source, uint64_t rows, struct fm_error *reterr)
{
    struct parquet_reader *reader = parquet_reader_of(source);
    uint64_t left = reader->chunk_rows - reader->chunk_at;
    if (rows <= left) {
        reader->chunk_at += rows;
        reader->next_row += rows;
        return 0;
    }
    /* The last row to be passed over is asked for: if it is there, all are. */
    int status = query_begin(reader, reader->next_row + rows - 1, reterr);
    status = status == 0 ? row_ready(reader, reterr) : status;
    if (status == 0) {
        return fm_error_set(reterr, FM_ENOTFOUND, "%s has fewer rows than when the job was begun",
                            reader->file.path);
    }
    if (status < 0) {
        return status;
    }
    row_pass(reader);
    return 0;
}

/* --- Life --- */

static void parquet_close(struct fm_source_reader *source)
{
    struct parquet_reader *reader = parquet_reader_of(source);
    query_end(reader);
    for (uint32_t i = 0; reader->parts != NULL && i < reader->cells.name_count; i++) {
        fm_duckdb_column_deinit(&reader->parts[i].column);
    }
    fm_duckdb_close(&reader->session);
    fm_file_reader_close(&reader->file);
    fm_text_deinit(&reader->select);
    fm_text_deinit(&reader->json);
    fm_source_cells_deinit(&reader->cells);
    fm_free(reader->types);
    fm_free(reader->parts);
    fm_free(reader);
}

static int parquet_open(const struct fm_source_spec *spec, const char *path,
                        const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                        struct fm_error *reterr)
{
    struct parquet_reader *reader = fm_alloc_zero(1, sizeof(*reader));
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->base.format = spec->format;
    reader->spec = spec;
    reader->next_row = point != NULL ? point->row : 0;
    int status = fm_file_reader_open(&reader->file, path, reterr);
    status = status == 0 ? parts_make(reader, reterr) : status;
    status = status == 0 ? fm_duckdb_open(&reader->session, reterr) : status;
    status = status == 0 ? select_make(reader, reterr) : status;
    if (status != 0) {
        parquet_close(&reader->base);
        return status;
    }
    *ret_reader = &reader->base;
    return 0;
}

/* A point for each row group with rows, out of their numbers and counts. */
static int groups_take(const struct parquet_reader *reader, duckdb_result *groups,
                       fm_record_point_take take, void *context, uint64_t *ret_rows)
{
    const struct fm_duckdb *duck = reader->session.duck;
    uint64_t rows = 0;
    int status = 0;
    for (duckdb_data_chunk chunk; status == 0 && (chunk = duck->fetch_chunk(*groups)) != NULL;
         duck->destroy_data_chunk(&chunk)) {
        const int64_t *ids = duck->vector_get_data(duck->data_chunk_get_vector(chunk, 0));
        const int64_t *counts = duck->vector_get_data(duck->data_chunk_get_vector(chunk, 1));
        for (idx_t i = 0; i < duck->data_chunk_get_size(chunk) && status == 0; i++) {
            struct fm_record_point point = {.row = rows, .offset = (uint64_t)ids[i]};
            status = counts[i] > 0 && take != NULL ? take(context, &point) : 0;
            rows += counts[i] > 0 ? (uint64_t)counts[i] : 0;
        }
    }
    *ret_rows = rows;
    return status;
}

/* What counting is asked, and answers. */
struct counting {
    const struct fm_source_spec *spec;
    const char *path;
    fm_record_point_take take;
    void *context;
    uint64_t rows;
    int status;
    struct fm_error error;
};

static void count_run(void *argument)
{
    struct counting *counting = argument;
    struct fm_source_reader *source = NULL;
    /* Opening is what checks the columns. */
    counting->status =
        parquet_open(counting->spec, counting->path, NULL, &source, &counting->error);
    if (counting->status != 0) {
        return;
    }
    const struct parquet_reader *reader = parquet_reader_of(source);
    const struct fm_duckdb *duck = reader->session.duck;
    duckdb_result groups;
    char sql[sizeof FM_DUCKDB_FILE + 192];
    (void)snprintf(sql, sizeof sql,
                   "SELECT row_group_id, row_group_num_rows FROM parquet_metadata('" FM_DUCKDB_FILE
                   "') WHERE column_id = 0 ORDER BY row_group_id",
                   reader->file.descriptor);
    if (duck->query(reader->session.connection, sql, &groups) == DuckDBSuccess) {
        counting->status =
            groups_take(reader, &groups, counting->take, counting->context, &counting->rows);
    } else {
        counting->status = refuse(reader, duck->result_error(&groups), &counting->error);
    }
    duck->destroy_result(&groups);
    parquet_close(source);
}

/* On a thread of its own: files are counted from a program's first thread, whose stack may be as
 * small as the shell says, and DuckDB needs 100 KiB of it. */
static int parquet_count(const struct fm_source_spec *spec, const char *path,
                         fm_record_point_take take, void *context, uint64_t *ret_rows,
                         struct fm_error *reterr)
{
    struct counting counting = {.spec = spec, .path = path, .take = take, .context = context};
    struct fm_thread thread = {0};
    int status = fm_thread_start(&thread, "parquet", count_run, &counting);
    if (status != 0) {
        return fm_error_set(reterr, status, "%s: no thread could be started", path);
    }
    fm_thread_join(&thread);
    *ret_rows = counting.rows;
    return counting.error.status == 0
               ? counting.status
               : fm_error_set(reterr, counting.status, "%s", counting.error.text);
}

static const char *const endings[] = {".parquet", ".pq", NULL};

const struct fm_source_format fm_source_parquet = {.name = "parquet",
                                                   .endings = endings,
                                                   .count = parquet_count,
                                                   .open = parquet_open,
                                                   .skip = parquet_skip,
                                                   .read = parquet_read,
                                                   .close = parquet_close};
