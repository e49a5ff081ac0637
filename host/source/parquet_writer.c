/*
 * Parquet, written by DuckDB. See parquet_writer.h.
 *
 * HOW IT WORKS. DuckDB is told to copy to the file what a table function gives, on a thread of the
 * writer's. That function brings an empty chunk, gives the turn to whoever appends rows, and waits.
 * append fills the chunk's vectors in place; when it is full (by rows, or by bytes) the turn goes
 * back, and DuckDB takes the chunk into the row group at hand, compresses and writes. So of the two
 * threads one works on a chunk at a time, and rows are copied once.
 *
 * LIMITATIONS. One row is in memory as a whole, and a row group's worth of rows is.
 */
#include "host/source/parquet_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/source/element.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/thread.h"
#include "host/source/duckdb_library.h"

enum { CHUNK_BYTES = 4 << 20, SQL_SIZE = 320 };

#define ROWS_FUNCTION "fermata_rows"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

struct column {
    struct fm_parquet_column is; /* with a name of its own */
    uint32_t depth;              /* of lists */
    uint32_t dtype;              /* as it lies in a vector; BYTES: a text or a BLOB */

    /* Of the chunk at hand: the column's vector, then the entries of its lists, and so on; how many
     * entries there are in each so far, without the rows themselves. */
    duckdb_vector vectors[FM_RANK_MAX + 1];
    uint64_t lengths[FM_RANK_MAX + 1];
};

enum turn { TURN_COPY, TURN_ROWS };

struct fm_parquet_writer {
    struct fm_file_writer file;
    const char *compression; /* as DuckDB calls it */
    struct fm_duckdb_session session;
    struct column *columns;
    uint32_t column_count;
    struct fm_thread thread;
    struct fm_text scratch; /* of a text that was mended */

    struct fm_mutex mutex;
    struct fm_condition changed;
    enum turn turn;
    bool no_more; /* rows */
    bool abandoned;
    bool over; /* the copy is, and `status` says how */
    int status;
    struct fm_error error;

    /* Whose turn it is has these. */
    uint64_t chunk_rows;
    uint64_t chunk_bytes;
};

/* --- The thread that writes --- */

static void chunk_begin(struct fm_parquet_writer *writer, duckdb_data_chunk chunk)
{
    const struct fm_duckdb *duck = writer->session.duck;
    writer->chunk_rows = 0;
    writer->chunk_bytes = 0;
    for (uint32_t i = 0; i < writer->column_count; i++) {
        struct column *column = &writer->columns[i];
        memset(column->lengths, 0, sizeof column->lengths);
        column->vectors[0] = duck->data_chunk_get_vector(chunk, i);
        for (uint32_t level = 0; level < column->depth; level++) {
            column->vectors[level + 1] = duck->list_vector_get_child(column->vectors[level]);
        }
    }
}

/* The table function: called until it gives no rows. */
static void rows_pull(duckdb_function_info info, duckdb_data_chunk output)
{
    struct fm_parquet_writer *const *bound = fm_duckdb_loaded()->function_get_bind_data(info);
    struct fm_parquet_writer *writer = *bound;
    fm_mutex_lock(&writer->mutex);
    if (!writer->no_more && !writer->abandoned) {
        chunk_begin(writer, output);
        writer->turn = TURN_ROWS;
        fm_condition_signal(&writer->changed);
        while (writer->turn == TURN_ROWS) {
            fm_condition_wait(&writer->changed, &writer->mutex);
        }
        writer->session.duck->data_chunk_set_size(output, writer->chunk_rows);
    }
    if (writer->abandoned) {
        writer->session.duck->function_set_error(info, "the file was abandoned");
    }
    fm_mutex_unlock(&writer->mutex);
}

static void rows_init(duckdb_init_info info)
{
    fm_duckdb_loaded()->init_set_max_threads(info, 1);
}

static duckdb_type leaf_type(const struct column *column)
{
    static const duckdb_type types[FM_DTYPE_COUNT_] = {
        [FM_DTYPE_BOOL] = DUCKDB_TYPE_BOOLEAN,     [FM_DTYPE_UINT8] = DUCKDB_TYPE_UTINYINT,
        [FM_DTYPE_UINT16] = DUCKDB_TYPE_USMALLINT, [FM_DTYPE_UINT32] = DUCKDB_TYPE_UINTEGER,
        [FM_DTYPE_UINT64] = DUCKDB_TYPE_UBIGINT,   [FM_DTYPE_INT8] = DUCKDB_TYPE_TINYINT,
        [FM_DTYPE_INT16] = DUCKDB_TYPE_SMALLINT,   [FM_DTYPE_INT32] = DUCKDB_TYPE_INTEGER,
        [FM_DTYPE_INT64] = DUCKDB_TYPE_BIGINT,     [FM_DTYPE_FP32] = DUCKDB_TYPE_FLOAT,
        [FM_DTYPE_FP64] = DUCKDB_TYPE_DOUBLE};
    return column->dtype != FM_DTYPE_BYTES                           ? types[column->dtype]
           : column->is.kind != FM_PARQUET_TENSOR || column->is.text ? DUCKDB_TYPE_VARCHAR
                                                                     : DUCKDB_TYPE_BLOB;
}

static void rows_bind(duckdb_bind_info info)
{
    const struct fm_duckdb *duck = fm_duckdb_loaded();
    duckdb_value value = duck->bind_get_parameter(info, 0);
    struct fm_parquet_writer **bound = fm_alloc(sizeof(*bound));
    if (bound == NULL) {
        duck->destroy_value(&value);
        duck->bind_set_error(info, "Out of Memory Error: for a table function");
        return;
    }
    *bound = (struct fm_parquet_writer *)(uintptr_t)duck->get_uint64(value);
    duck->destroy_value(&value);
    duck->bind_set_bind_data(info, bound, fm_free);
    for (uint32_t i = 0; i < (*bound)->column_count; i++) {
        const struct column *column = &(*bound)->columns[i];
        duckdb_logical_type type = duck->create_logical_type(leaf_type(column));
        if (column->is.kind == FM_PARQUET_JSON) {
            duck->logical_type_set_alias(type, "JSON");
        }
        for (uint32_t level = 0; level < column->depth; level++) {
            duckdb_logical_type list = duck->create_list_type(type);
            duck->destroy_logical_type(&type);
            type = list;
        }
        duck->bind_add_result_column(info, column->is.name, type);
        duck->destroy_logical_type(&type);
    }
}

static int function_register(const struct fm_duckdb *duck, duckdb_connection connection)
{
    duckdb_table_function function = duck->create_table_function();
    duckdb_logical_type address = duck->create_logical_type(DUCKDB_TYPE_UBIGINT);
    duck->table_function_set_name(function, ROWS_FUNCTION);
    duck->table_function_add_parameter(function, address);
    duck->table_function_set_bind(function, rows_bind);
    duck->table_function_set_init(function, rows_init);
    duck->table_function_set_function(function, rows_pull);
    duckdb_state state = duck->register_table_function(connection, function);
    duck->destroy_logical_type(&address);
    duck->destroy_table_function(&function);
    return state == DuckDBSuccess ? 0 : FM_EINTERNAL;
}

static void copy_run(void *argument)
{
    struct fm_parquet_writer *writer = argument;
    struct fm_error error = {0};
    char sql[SQL_SIZE];
    (void)snprintf(sql, sizeof sql,
                   "COPY (SELECT * FROM " ROWS_FUNCTION "(%" PRIuPTR
                   "::UBIGINT)) TO '" FM_DUCKDB_FILE
                   "' (FORMAT parquet, COMPRESSION %s, USE_TMP_FILE false, ROW_GROUP_SIZE %d, "
                   "ROW_GROUP_SIZE_BYTES %d)",
                   (uintptr_t)writer, writer->file.descriptor, writer->compression,
                   FM_PARQUET_GROUP_ROWS, FM_PARQUET_GROUP_BYTES);
    int status =
        fm_duckdb_run(&writer->session, sql, writer->file.path, writer->file.descriptor, &error);
    fm_mutex_lock(&writer->mutex);
    writer->status = status;
    writer->error = error;
    writer->over = true;
    fm_condition_signal(&writer->changed);
    fm_mutex_unlock(&writer->mutex);
}

/* --- Turns --- */

static int turn_wait(struct fm_parquet_writer *writer, struct fm_error *reterr)
{
    int status = 0;
    fm_mutex_lock(&writer->mutex);
    while (writer->turn != TURN_ROWS && !writer->over) {
        fm_condition_wait(&writer->changed, &writer->mutex);
    }
    if (writer->over) {
        /* Before it was given its last row: so it failed. */
        FM_ASSERT(writer->status != 0);
        status = fm_error_set(reterr, writer->status, "%s", writer->error.text);
    }
    fm_mutex_unlock(&writer->mutex);
    return status;
}

static void turn_give(struct fm_parquet_writer *writer)
{
    const struct fm_duckdb *duck = writer->session.duck;
    for (uint32_t i = 0; i < writer->column_count; i++) {
        const struct column *column = &writer->columns[i];
        for (uint32_t level = 0; level < column->depth; level++) {
            (void)duck->list_vector_set_size(column->vectors[level], column->lengths[level + 1]);
        }
    }
    fm_mutex_lock(&writer->mutex);
    writer->turn = TURN_COPY;
    fm_condition_signal(&writer->changed);
    fm_mutex_unlock(&writer->mutex);
}

/* --- Rows --- */

/* Whether the value is one of the column's. */
static int value_check(const struct fm_parquet_writer *writer, const struct column *column,
                       const struct fm_parquet_value *value, struct fm_error *reterr)
{
    if (value->null || column->is.kind != FM_PARQUET_TENSOR) {
        return 0;
    }
    struct fm_tensor tensor = {.dtype = column->is.dtype,
                               .rank = column->is.rank,
                               .data = (void *)value->data, /* is only looked at */
                               .size = value->size};
    for (uint32_t i = 0; i < column->is.rank; i++) {
        tensor.shape[i] = value->shape[i];
    }
    int status = fm_tensor_check(&tensor, reterr);
    return status == 0 ? 0
                       : fm_error_prefix(reterr, FM_EINVAL, "%s: column '%s'", writer->file.path,
                                         column->is.name);
}

static void null_set(const struct fm_duckdb *duck, duckdb_vector vector, uint64_t row)
{
    duck->vector_ensure_validity_writable(vector);
    duck->vector_get_validity(vector)[row / 64] &= ~(UINT64_C(1) << (row % 64));
}

static int text_put(struct fm_parquet_writer *writer, const struct column *column, uint64_t index,
                    const char *data, size_t size)
{
    size_t good = 0;
    bool text = leaf_type(column) == DUCKDB_TYPE_VARCHAR;
    for (size_t length = 1; text && good < size && length > 0; good += length) {
        length = fm_utf8_sequence(data + good, size - good);
    }
    if (text && good < size) {
        fm_text_clear(&writer->scratch);
        for (size_t i = 0; i < size;) {
            size_t length = fm_utf8_sequence(data + i, size - i);
            fm_text_append(&writer->scratch, length > 0 ? data + i : replacement,
                           length > 0 ? length : sizeof replacement - 1);
            i += length > 0 ? length : 1;
        }
        if (writer->scratch.failed) {
            return FM_ENOMEM;
        }
        data = writer->scratch.data;
        size = writer->scratch.length;
    }
    writer->session.duck->vector_assign_string_element_len(column->vectors[column->depth], index,
                                                           size > 0 ? data : "", size);
    return 0;
}

/* `count` elements from `index` on. */
static int elements_put(struct fm_parquet_writer *writer, const struct column *column,
                        uint64_t index, uint64_t count, const struct fm_parquet_value *value)
{
    if (column->is.kind != FM_PARQUET_TENSOR) {
        return text_put(writer, column, index, value->data, value->size);
    }
    if (column->dtype != FM_DTYPE_BYTES) {
        size_t size = fm_dtype_bits(column->dtype) / 8;
        char *data = writer->session.duck->vector_get_data(column->vectors[column->depth]);
        uint64_t bad = 0;
        bool fits = fm_elements_convert(column->is.dtype, value->data, count, column->dtype,
                                        data + index * size, &bad);
        FM_ASSERT(fits); /* nothing is narrowed */
        return 0;
    }
    const char *data = value->data;
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t length = 0;
        memcpy(&length, data, sizeof length);
        status = text_put(writer, column, index + i, data + sizeof length, length);
        data += sizeof length + length;
    }
    return status;
}

static int value_put(struct fm_parquet_writer *writer, struct column *column, uint64_t row,
                     const struct fm_parquet_value *value)
{
    const struct fm_duckdb *duck = writer->session.duck;
    uint64_t index = row; /* of the first list, or element, at the level */
    uint64_t count = 1;   /* of them */
    if (value->null) {
        null_set(duck, column->vectors[0], row);
    }
    for (uint32_t level = 0; level < column->depth; level++) {
        /* A list that is NULL has no entries either. */
        uint64_t size = value->null ? 0 : (uint64_t)value->shape[level];
        uint64_t from = column->lengths[level + 1];
        duckdb_list_entry *entries = duck->vector_get_data(column->vectors[level]);
        for (uint64_t i = 0; i < count; i++) {
            entries[index + i] = (duckdb_list_entry){.offset = from + i * size, .length = size};
        }
        count *= size;
        if (duck->list_vector_reserve(column->vectors[level], from + count) != DuckDBSuccess) {
            return FM_ENOMEM;
        }
        column->lengths[level + 1] = from + count;
        index = from;
    }
    return value->null || count == 0 ? 0 : elements_put(writer, column, index, count, value);
}

int fm_parquet_writer_append(struct fm_parquet_writer *writer,
                             const struct fm_parquet_value *values, struct fm_error *reterr)
{
    int status = turn_wait(writer, reterr);
    for (uint32_t i = 0; i < writer->column_count && status == 0; i++) {
        status = value_check(writer, &writer->columns[i], &values[i], reterr);
    }
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < writer->column_count && status == 0; i++) {
        status = value_put(writer, &writer->columns[i], writer->chunk_rows, &values[i]);
        writer->chunk_bytes += values[i].null ? 0 : values[i].size;
    }
    if (status != 0) {
        return fm_error_set(reterr, status, "%s: out of memory for a row", writer->file.path);
    }
    writer->chunk_rows++;
    if (writer->chunk_rows == writer->session.duck->vector_size() ||
        writer->chunk_bytes >= CHUNK_BYTES) {
        turn_give(writer);
    }
    return 0;
}

/* --- Life --- */

static int column_init(struct column *column, const struct fm_parquet_column *is,
                       struct fm_error *reterr)
{
    uint32_t dtype = is->dtype;
    size_t length = strlen(is->name);
    size_t good = 0;
    for (size_t size = 1; good < length && size > 0; good += size) {
        size = fm_utf8_sequence(is->name + good, length - good);
    }
    if (length == 0 || good < length) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' cannot name a column: it is %s", is->name,
                            length == 0 ? "empty" : "not UTF-8");
    }
    if (is->kind == FM_PARQUET_TENSOR && dtype != FM_DTYPE_BYTES && !fm_element_is_number(dtype)) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "column '%s': Parquet has no type for values of type %s", is->name,
                            fm_dtype_name(dtype));
    }
    FM_ASSERT(is->rank <= FM_RANK_MAX);
    column->is = *is;
    column->depth = is->kind == FM_PARQUET_TENSOR ? is->rank : 0;
    column->dtype = is->kind != FM_PARQUET_TENSOR                      ? FM_DTYPE_BYTES
                    : dtype == FM_DTYPE_FP16 || dtype == FM_DTYPE_BF16 ? FM_DTYPE_FP32
                                                                       : dtype;
    column->is.name = fm_strdup(is->name);
    return column->is.name != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

static int columns_init(struct fm_parquet_writer *writer, const struct fm_parquet_column *columns,
                        uint32_t column_count, struct fm_error *reterr)
{
    writer->columns = fm_alloc_zero(column_count + 1, sizeof(*writer->columns));
    if (writer->columns == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    writer->column_count = column_count;
    int status = column_count > 0
                     ? 0
                     : fm_error_set(reterr, FM_EINVAL, "a Parquet file has one column at least");
    for (uint32_t i = 0; i < column_count && status == 0; i++) {
        status = column_init(&writer->columns[i], &columns[i], reterr);
        for (uint32_t other = 0; other < i && status == 0; other++) {
            if (strcasecmp(columns[i].name, columns[other].name) == 0) {
                status =
                    fm_error_set(reterr, FM_EINVAL, "the columns '%s' and '%s' have the same name",
                                 columns[other].name, columns[i].name);
            }
        }
    }
    return status;
}

/* Without the file. */
static void writer_free(struct fm_parquet_writer *writer)
{
    fm_duckdb_close(&writer->session);
    for (uint32_t i = 0; writer->columns != NULL && i < writer->column_count; i++) {
        fm_free((void *)writer->columns[i].is.name);
    }
    fm_free(writer->columns);
    fm_text_deinit(&writer->scratch);
    fm_condition_deinit(&writer->changed);
    fm_mutex_deinit(&writer->mutex);
    fm_free(writer);
}

int fm_parquet_writer_check(struct fm_error *reterr)
{
    struct fm_duckdb_session session = {0};
    int status = fm_duckdb_open(&session, reterr);
    fm_duckdb_close(&session);
    return status;
}

/* As DuckDB calls it; NULL: there is no such. */
static const char *compression_of(const char *name)
{
    static const char *const names[][2] = {
        {"none", "uncompressed"}, {"snappy", "snappy"}, {"zstd", "zstd"}, {"gzip", "gzip"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i][0], name) == 0) {
            return names[i][1];
        }
    }
    return NULL;
}

int fm_parquet_writer_create(const char *path, const struct fm_parquet_column *columns,
                             uint32_t column_count, const char *compression,
                             struct fm_parquet_writer **ret_writer, struct fm_error *reterr)
{
    struct fm_parquet_writer *writer = fm_alloc_zero(1, sizeof(*writer));
    if (writer == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    fm_mutex_init(&writer->mutex);
    fm_condition_init(&writer->changed);
    writer->compression = compression_of(compression);
    int status =
        writer->compression != NULL
            ? columns_init(writer, columns, column_count, reterr)
            : fm_error_set(reterr, FM_EINVAL, "Parquet has no compression '%s'", compression);
    if (status != 0) {
        status = fm_error_prefix(reterr, status, "%s", path);
    }
    status = status == 0 ? fm_duckdb_open(&writer->session, reterr) : status;
    status = status == 0 ? fm_duckdb_once(&writer->session, function_register, reterr) : status;
    status = status == 0 ? fm_file_writer_open(&writer->file, path, reterr) : status;
    if (status == 0) {
        status = fm_thread_start(&writer->thread, "parquet", copy_run, writer);
        if (status != 0) {
            status = fm_error_set(reterr, status, "%s: no thread could be started", path);
            fm_file_writer_abandon(&writer->file);
        }
    }
    if (status != 0) {
        writer_free(writer);
        return status;
    }
    *ret_writer = writer;
    return 0;
}

/* Lets the copy end, well or not, and says how it did. */
static int copy_end(struct fm_parquet_writer *writer, bool abandoned, struct fm_error *reterr)
{
    if (turn_wait(writer, NULL) == 0) {
        fm_mutex_lock(&writer->mutex);
        writer->no_more = true;
        writer->abandoned = abandoned;
        fm_mutex_unlock(&writer->mutex);
        turn_give(writer);
    }
    fm_thread_join(&writer->thread);
    return writer->status == 0 ? 0 : fm_error_set(reterr, writer->status, "%s", writer->error.text);
}

int fm_parquet_writer_finish(struct fm_parquet_writer *writer, uint64_t *ret_bytes,
                             struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    int status = copy_end(writer, false, reterr);
    status = status == 0 ? fm_file_stat(writer->file.path, &facts, reterr) : status;
    if (status == 0) {
        status = fm_file_writer_commit(&writer->file, reterr);
    } else {
        fm_file_writer_abandon(&writer->file);
    }
    *ret_bytes = facts.size;
    writer_free(writer);
    return status;
}

void fm_parquet_writer_abandon(struct fm_parquet_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    (void)copy_end(writer, true, NULL);
    fm_file_writer_abandon(&writer->file);
    writer_free(writer);
}
