/*
 * Tests of host/source/parquet_writer: what is written is read by the format parquet, and by DuckDB
 * itself; row groups, NULLs, files that cannot be written, abandoned files.
 */
#include "host/source/parquet_writer.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/memory_facts.h"
#include "host/os/os.h"
#include "host/source/duckdb_library.h"
#include "host/source/formats.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

static char directory[64];
static char path[128];

static void directory_remove(void)
{
    if (fm_file_remove_tree(directory, NULL) != 0) {
        printf("# %s stays\n", directory);
    }
}

static void path_next(void)
{
    static unsigned number;
    if (directory[0] == '\0') {
        if (fm_file_make_temporary("fm-parquet-", directory, sizeof directory, NULL) != 0 ||
            atexit(directory_remove) != 0) {
            abort();
        }
    }
    (void)snprintf(path, sizeof path, "%s/%u.parquet", directory, number++);
}

/* The rows of a query as DuckDB writes them, in memory that is kept until the next call. */
static const char *ask(const char *query)
{
    static struct fm_text text;
    struct fm_duckdb_session session = {0};
    struct fm_error error = {0};
    duckdb_result result;
    char sql[1024];
    fm_text_clear(&text);
    if (fm_duckdb_open(&session, &error) != 0) {
        return "DuckDB is not there";
    }
    const struct fm_duckdb *duck = session.duck;
    (void)snprintf(sql, sizeof sql, "SELECT x::VARCHAR FROM (%s) t(x)", query);
    if (duck->query(session.connection, sql, &result) != DuckDBSuccess) {
        fm_text_append_string(&text, duck->result_error(&result));
    }
    for (duckdb_data_chunk chunk; (chunk = duck->fetch_chunk(result)) != NULL;
         duck->destroy_data_chunk(&chunk)) {
        duckdb_vector vector = duck->data_chunk_get_vector(chunk, 0);
        const duckdb_string_t *texts = duck->vector_get_data(vector);
        const uint64_t *validity = duck->vector_get_validity(vector);
        for (idx_t i = 0; i < duck->data_chunk_get_size(chunk); i++) {
            bool null = validity != NULL && (validity[i / 64] >> (i % 64) & 1u) == 0;
            uint32_t length = texts[i].value.inlined.length;
            const char *data =
                length <= 12 ? texts[i].value.inlined.inlined : texts[i].value.pointer.ptr;
            fm_text_append_string(&text, text.length > 0 ? ";" : "");
            fm_text_append(&text, null ? "NULL" : data, null ? 4 : length);
        }
    }
    duck->destroy_result(&result);
    fm_duckdb_close(&session);
    return text.data;
}

static const char *ask_file(const char *select, const char *rest)
{
    char query[512];
    (void)snprintf(query, sizeof query, "SELECT %s FROM read_parquet('%s') %s", select, path, rest);
    return ask(query);
}

#define VALUE(type, ...)                                                                          \
    {                                                                                             \
        .data = (const type[]){__VA_ARGS__}, .size = sizeof((type[]){__VA_ARGS__}), .shape = NULL \
    }
#define SHAPED(type, shape_, ...)                                                   \
    {                                                                               \
        .data = (const type[]){__VA_ARGS__}, .size = sizeof((type[]){__VA_ARGS__}), \
        .shape = (shape_)                                                           \
    }
#define TEXT(literal)                                                 \
    {                                                                 \
        .data = (literal), .size = sizeof(literal) - 1, .shape = NULL \
    }

TEST(every_type)
{
    static const struct fm_parquet_column columns[] = {
        {.name = "bool", .dtype = FM_DTYPE_BOOL},
        {.name = "u8", .dtype = FM_DTYPE_UINT8},
        {.name = "u16", .dtype = FM_DTYPE_UINT16},
        {.name = "u32", .dtype = FM_DTYPE_UINT32},
        {.name = "u64", .dtype = FM_DTYPE_UINT64},
        {.name = "i8", .dtype = FM_DTYPE_INT8},
        {.name = "i16", .dtype = FM_DTYPE_INT16},
        {.name = "i32", .dtype = FM_DTYPE_INT32},
        {.name = "i64", .dtype = FM_DTYPE_INT64},
        {.name = "f16", .dtype = FM_DTYPE_FP16},
        {.name = "bf16", .dtype = FM_DTYPE_BF16},
        {.name = "f32", .dtype = FM_DTYPE_FP32},
        {.name = "f64", .dtype = FM_DTYPE_FP64},
        {.name = "blob", .dtype = FM_DTYPE_BYTES},
        {.name = "text", .dtype = FM_DTYPE_BYTES, .text = true},
        {.name = "größe", .kind = FM_PARQUET_TEXT},
        {.name = "json", .kind = FM_PARQUET_JSON},
    };
    const struct fm_parquet_value values[] = {
        VALUE(uint8_t, 1),           VALUE(uint8_t, 255),
        VALUE(uint16_t, 65535),      VALUE(uint32_t, UINT32_MAX),
        VALUE(uint64_t, UINT64_MAX), VALUE(int8_t, -128),
        VALUE(int16_t, -32768),      VALUE(int32_t, INT32_MIN),
        VALUE(int64_t, INT64_MIN),   VALUE(uint16_t, 0x3E00),
        VALUE(uint16_t, 0xC060),     VALUE(float, 0.1f),
        VALUE(double, 0.1),          TEXT("\2\0\0\0\xFF\0"),
        TEXT("\4\0\0\0a\xFFé"),      TEXT("a\xC3 text that is longer than twelve"),
        TEXT("{\"a\": [1]}"),
    };
    struct fm_parquet_value nulls[sizeof values / sizeof values[0]];
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        nulls[i] = (struct fm_parquet_value){.null = true};
    }
    path_next();
    CHECK_INT_EQ(fm_parquet_writer_create(path, columns, sizeof columns / sizeof columns[0],
                                          "snappy", &writer, &error),
                 0);
    CHECK_INT_EQ(fm_parquet_writer_append(writer, values, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_append(writer, nulls, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_append(writer, values, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    struct fm_file_facts facts;
    CHECK_INT_EQ(fm_file_stat(path, &facts, NULL), 0);
    CHECK_UINT_EQ(bytes, facts.size);
    CHECK_STR_EQ(ask_file("row(bool, u8, u16, u32, u64, i8, i16, i32, i64)", ""),
                 "(true, 255, 65535, 4294967295, 18446744073709551615, -128, -32768, -2147483648, "
                 "-9223372036854775808);(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);"
                 "(true, 255, 65535, 4294967295, 18446744073709551615, -128, -32768, -2147483648, "
                 "-9223372036854775808)");
    CHECK_STR_EQ(ask_file("row(f16, bf16, f32, f64)", "LIMIT 2"),
                 "(1.5, -3.5, 0.1, 0.1);(NULL, NULL, NULL, NULL)");
    CHECK_STR_EQ(ask_file("blob", "LIMIT 2"), "\\xFF\\x00;NULL");
    CHECK_STR_EQ(ask_file("text", "LIMIT 1"), "a\xEF\xBF\xBDé");
    CHECK_STR_EQ(ask_file("größe", "LIMIT 2"),
                 "a\xEF\xBF\xBD text that is longer than twelve;NULL");
    CHECK_STR_EQ(ask_file("json->'a'", "LIMIT 1"), "[1]");
    char query[256];
    (void)snprintf(query, sizeof query,
                   "SELECT list(column_type) FROM (DESCRIBE SELECT * FROM read_parquet('%s'))",
                   path);
    CHECK_STR_EQ(ask(query),
                 "[BOOLEAN, UTINYINT, USMALLINT, UINTEGER, UBIGINT, TINYINT, SMALLINT, INTEGER, "
                 "BIGINT, FLOAT, FLOAT, FLOAT, DOUBLE, BLOB, VARCHAR, VARCHAR, JSON]");
}

TEST(lists_of_every_depth)
{
    static const struct fm_parquet_column columns[] = {
        {.name = "one", .dtype = FM_DTYPE_FP32, .rank = 1},
        {.name = "two", .dtype = FM_DTYPE_INT64, .rank = 2},
        {.name = "three", .dtype = FM_DTYPE_FP16, .rank = 3},
        {.name = "texts", .dtype = FM_DTYPE_BYTES, .rank = 2, .text = true},
    };
    static const int64_t two[] = {2}, none[] = {0}, pairs[] = {3, 2}, empty[] = {2, 0},
                         cube[] = {2, 1, 2}, row[] = {1, 2};
    const struct fm_parquet_value rows[][4] = {
        {SHAPED(float, two, 1.5f, 2),
         SHAPED(int64_t, pairs, 1, 2, 3, 4, 5, 6),
         SHAPED(uint16_t, cube, 0x3C00, 0x4000, 0x4200, 0x4400),
         {.data = "\1\0\0\0a\2\0\0\0bc", .size = 11, .shape = row}},
        {{.data = "", .size = 0, .shape = none},
         {.data = "", .size = 0, .shape = empty},
         {.null = true},
         {.null = true}},
        {{.null = true},
         {.null = true},
         SHAPED(uint16_t, cube, 0, 0, 0, 0x3C00),
         {.data = "\0\0\0\0\0\0\0\0", .size = 8, .shape = row}},
        {SHAPED(float, two, 3, 4),
         SHAPED(int64_t, pairs, 7, 8, 9, 10, 11, 12),
         {.null = true},
         {.null = true}},
    };
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    path_next();
    CHECK_INT_EQ(fm_parquet_writer_create(path, columns, 4, "snappy", &writer, &error), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_INT_EQ(fm_parquet_writer_append(writer, rows[i], &error), 0);
    }
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    CHECK_STR_EQ(ask_file("one", ""), "[1.5, 2.0];[];NULL;[3.0, 4.0]");
    CHECK_STR_EQ(ask_file("two", ""),
                 "[[1, 2], [3, 4], [5, 6]];[[], []];NULL;[[7, 8], [9, 10], [11, 12]]");
    CHECK_STR_EQ(ask_file("three", ""),
                 "[[[1.0, 2.0]], [[3.0, 4.0]]];NULL;[[[0.0, 0.0]], [[0.0, 1.0]]];NULL");
    CHECK_STR_EQ(ask_file("texts", ""), "[[a, bc]];NULL;[['', '']];NULL");
}

/* More than a chunk, and than a row group, has. */
TEST(many_rows)
{
    static const struct fm_parquet_column columns[] = {
        {.name = "id", .dtype = FM_DTYPE_INT64},
        {.name = "list", .dtype = FM_DTYPE_INT32, .rank = 1},
        {.name = "name", .kind = FM_PARQUET_TEXT},
    };
    enum { ROWS = 130000 };
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    path_next();
    CHECK_INT_EQ(fm_parquet_writer_create(path, columns, 3, "snappy", &writer, &error), 0);
    for (int32_t i = 0; i < ROWS; i++) {
        char name[32];
        int64_t id = i;
        int64_t shape = i % 3;
        const int32_t list[] = {i, -i};
        const struct fm_parquet_value values[] = {
            {.data = &id, .size = sizeof id},
            {.data = list, .size = (size_t)shape * sizeof list[0], .shape = &shape},
            {.null = i % 7 == 0,
             .data = name,
             .size = (size_t)snprintf(name, sizeof name, "the name of row %d", (int)i)}};
        CHECK_INT_EQ(fm_parquet_writer_append(writer, values, &error), 0);
    }
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    CHECK_STR_EQ(
        ask_file("count(*) || ' ' || count(*) FILTER (id = file_row_number AND "
                 "list = CASE id % 3 WHEN 0 THEN [] WHEN 1 THEN [id] ELSE [id, -id] END AND "
                 "name IS NOT DISTINCT FROM "
                 "CASE WHEN id % 7 = 0 THEN NULL ELSE 'the name of row ' || id END)",
                 ""),
        "130000 130000");
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "id");
    struct fm_source_spec spec = {.format = &fm_source_parquet,
                                  .tensors = &tensor,
                                  .tensor_count = 1,
                                  .record_bytes_max = 1000};
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "130000: 0/0 122880/1");
    fm_free(text);
    text = fm_source_rig_read(&spec, path, 122880, 7000, 2, 2);
    CHECK_STR_EQ(text, "129880 129880\n129881 129881\n");
    fm_free(text);
}

/* Rows of 1 MiB: row groups end by their bytes, and memory does not grow with the rows. */
TEST(large_rows)
{
    static const struct fm_parquet_column column = {
        .name = "x", .dtype = FM_DTYPE_UINT32, .rank = 1};
    enum { ELEMENTS = 1 << 18, ROWS = 300 };
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    int64_t shape = ELEMENTS;
    uint32_t *data = fm_alloc(ELEMENTS * sizeof *data);
    struct fm_parquet_value value = {
        .data = data, .size = ELEMENTS * sizeof *data, .shape = &shape};
    path_next();
    CHECK_PTR_NE(data, NULL);
    CHECK_INT_EQ(fm_parquet_writer_create(path, &column, 1, "snappy", &writer, &error), 0);
    uint64_t before = fm_memory_peak();
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            data[i] = (i + row) * 2654435761u;
        }
        CHECK_INT_EQ(fm_parquet_writer_append(writer, &value, &error), 0);
    }
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    CHECK_UINT_EQ(bytes > (uint64_t)ROWS << 20, 1);
    fm_free(data);
    /* A row group of 16 MiB, and what encoding it takes; all rows would be 300 MiB. */
    if (strcmp(getenv("FM_SANITIZE") != NULL ? getenv("FM_SANITIZE") : "none", "none") == 0) {
        CHECK_INT_LT(fm_memory_peak() - before, 200 << 20);
    }
    char query[256];
    (void)snprintf(query, sizeof query,
                   "SELECT count(*) > 10 AND max(row_group_num_rows) < 25 FROM "
                   "parquet_metadata('%s')",
                   path);
    CHECK_STR_EQ(ask(query), "true");
    CHECK_STR_EQ(
        ask_file("count(*) || ' ' || min(len(x)) || ' ' || max(x[2]) || ' ' || bool_and(x[1] "
                 "= (file_row_number * 2654435761) % 4294967296)",
                 ""),
        "300 262144 4281627536 true");
}

TEST(no_rows)
{
    static const struct fm_parquet_column column = {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2};
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    path_next();
    CHECK_INT_EQ(fm_parquet_writer_create(path, &column, 1, "snappy", &writer, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    CHECK_STR_EQ(ask_file("count(*) || ' ' || any_value(typeof(x))", ""), "NULL");
    CHECK_STR_EQ(ask_file("count(*)", ""), "0");
}

TEST(columns_that_cannot_be)
{
    static const struct {
        struct fm_parquet_column columns[2];
        uint32_t count;
        int status;
        const char *words;
    } cases[] = {
        {{{.name = "x"}}, 0, FM_EINVAL, "one column at least"},
        {{{.name = "", .dtype = FM_DTYPE_FP32}}, 1, FM_EINVAL, "cannot name a column: it is empty"},
        {{{.name = "a\xFF", .dtype = FM_DTYPE_FP32}}, 1, FM_EINVAL, "it is not UTF-8"},
        {{{.name = "x", .dtype = FM_DTYPE_FP32}, {.name = "X", .dtype = FM_DTYPE_FP32}},
         2,
         FM_EINVAL,
         "the columns 'x' and 'X' have the same name"},
        {{{.name = "x", .dtype = FM_DTYPE_COMPLEX64}},
         1,
         FM_EUNSUPPORTED,
         "column 'x': Parquet has no type for values of type COMPLEX64"},
    };
    struct fm_file_facts facts;
    path_next();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_parquet_writer *writer = NULL;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_parquet_writer_create(path, cases[i].columns, cases[i].count, "snappy",
                                              &writer, &error),
                     cases[i].status);
        CHECK_STR_CONTAINS(error.text, cases[i].words);
        CHECK_PTR_EQ(writer, NULL);
    }
    CHECK_INT_EQ(fm_file_stat(path, &facts, NULL), 0);
    CHECK_INT_EQ(facts.kind, FM_FILE_ABSENT);
}

TEST(values_that_cannot_be)
{
    static const struct fm_parquet_column columns[] = {
        {.name = "n", .dtype = FM_DTYPE_INT32}, {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 1}};
    static const int64_t two[] = {2};
    const struct fm_parquet_value bad[] = {VALUE(int32_t, 1), SHAPED(float, two, 1)};
    const struct fm_parquet_value good[] = {VALUE(int32_t, 2), SHAPED(float, two, 1, 2)};
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    uint64_t bytes = 0;
    path_next();
    CHECK_INT_EQ(fm_parquet_writer_create(path, columns, 2, "snappy", &writer, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_append(writer, bad, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "column 'x'");
    CHECK_INT_EQ(fm_parquet_writer_append(writer, good, &error), 0);
    CHECK_INT_EQ(fm_parquet_writer_finish(writer, &bytes, &error), 0);
    CHECK_STR_EQ(ask_file("row(n, x)", ""), "(2, [1.0, 2.0])");
}

TEST(abandoned_files_are_gone)
{
    static const struct fm_parquet_column column = {.name = "x", .dtype = FM_DTYPE_INT64};
    struct fm_error error = {0};
    struct fm_file_facts facts;
    for (int rows = 0; rows <= 5000; rows = rows * 10 + 5) {
        struct fm_parquet_writer *writer = NULL;
        path_next();
        CHECK_INT_EQ(fm_parquet_writer_create(path, &column, 1, "snappy", &writer, &error), 0);
        for (int64_t i = 0; i < rows; i++) {
            const struct fm_parquet_value value = {.data = &i, .size = sizeof i};
            CHECK_INT_EQ(fm_parquet_writer_append(writer, &value, &error), 0);
        }
        fm_parquet_writer_abandon(writer);
        CHECK_INT_EQ(fm_file_stat(path, &facts, NULL), 0);
        CHECK_INT_EQ(facts.kind, FM_FILE_ABSENT);
    }
    fm_parquet_writer_abandon(NULL);
}

TEST(files_that_cannot_be_written)
{
    static const struct fm_parquet_column column = {
        .name = "x", .dtype = FM_DTYPE_UINT8, .rank = 1};
    enum { SIZE = 1 << 20 };
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    int64_t shape = SIZE;
    uint64_t bytes = 0;
    uint32_t seed = 1;
    CHECK_INT_EQ(
        fm_parquet_writer_create("/nonexistent/x.parquet", &column, 1, "snappy", &writer, &error),
        FM_ENOTFOUND);
    /* Full: at the end, and in the middle of rows. A link is what is removed. */
    for (int rows = 2; rows <= 200; rows *= 100) {
        path_next();
        CHECK_INT_EQ(symlink("/dev/full", path), 0);
        unsigned char *data = fm_alloc(SIZE);
        struct fm_parquet_value value = {.data = data, .size = SIZE, .shape = &shape};
        int status = 0;
        CHECK_PTR_NE(data, NULL);
        writer = NULL;
        CHECK_INT_EQ(fm_parquet_writer_create(path, &column, 1, "snappy", &writer, &error), 0);
        for (int row = 0; row < rows && status == 0; row++) {
            for (size_t i = 0; i < SIZE; i++) {
                seed = seed * 1664525u + 1013904223u;
                data[i] = (unsigned char)(seed >> 24);
            }
            status = fm_parquet_writer_append(writer, &value, &error);
        }
        CHECK_INT_EQ(rows == 2 ? status : 0, 0);
        if (status == 0) {
            status = fm_parquet_writer_finish(writer, &bytes, &error);
        } else {
            CHECK_INT_EQ(fm_parquet_writer_append(writer, &value, NULL), status);
            fm_parquet_writer_abandon(writer);
        }
        CHECK_INT_EQ(status, FM_ENOSPC);
        CHECK_STR_CONTAINS(error.text, path);
        fm_free(data);
    }
}

TEST(several_at_once)
{
    static const struct fm_parquet_column column = {.name = "x", .dtype = FM_DTYPE_INT64};
    enum { WRITERS = 4 };
    struct fm_parquet_writer *writers[WRITERS] = {0};
    char paths[WRITERS][sizeof path];
    struct fm_error error = {0};
    uint64_t bytes = 0;
    for (int w = 0; w < WRITERS; w++) {
        path_next();
        memcpy(paths[w], path, sizeof path);
        CHECK_INT_EQ(fm_parquet_writer_create(path, &column, 1, "snappy", &writers[w], &error), 0);
    }
    for (int64_t i = 0; i < 20000; i++) {
        const struct fm_parquet_value value = {.data = &i, .size = sizeof i};
        CHECK_INT_EQ(fm_parquet_writer_append(writers[i % WRITERS], &value, &error), 0);
    }
    for (int w = 0; w < WRITERS; w++) {
        CHECK_INT_EQ(fm_parquet_writer_finish(writers[w], &bytes, &error), 0);
        memcpy(path, paths[w], sizeof path);
        char expected[32];
        (void)snprintf(expected, sizeof expected, "5000 %d", w);
        CHECK_STR_EQ(ask_file("count(*) || ' ' || any_value(x % 4)", ""), expected);
    }
}

TEST_MAIN()
