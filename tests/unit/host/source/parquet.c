/*
 * Tests of host/source/parquet_source and duckdb_value: which types become what, shapes, NULLs,
 * ids, passed columns, row groups, and the words for what cannot be. The files are made by DuckDB.
 */
#include <stdlib.h>

#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/thread.h"
#include "host/source/duckdb_library.h"
#include "host/source/formats.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

#define BYTES_MAX UINT64_C(1000000)

static char directory[64];
static char path[128];

static void directory_remove(void)
{
    if (fm_file_remove_tree(directory, NULL) != 0) {
        printf("# %s stays\n", directory);
    }
}

/* Makes `path` out of a query. */
static int make(const char *options, const char *query)
{
    static unsigned number;
    struct fm_duckdb_session session = {0};
    struct fm_error error = {0};
    char sql[4096];
    if (directory[0] == '\0') {
        if (fm_file_make_temporary("fm-parquet-", directory, sizeof directory, NULL) != 0 ||
            atexit(directory_remove) != 0) {
            abort();
        }
    }
    (void)snprintf(path, sizeof path, "%s/%u.parquet", directory, number++);
    (void)snprintf(sql, sizeof sql, "COPY (%s) TO '%s' (FORMAT parquet%s)", query, path, options);
    int status = fm_duckdb_open(&session, &error);
    if (status == 0) {
        status = fm_duckdb_run(&session, sql, path, -1, &error);
    }
    fm_duckdb_close(&session);
    if (status != 0) {
        printf("# %s: %s\n", query, error.text);
    }
    return status;
}

static struct fm_source_spec spec_of(const struct fm_source_tensor *tensors, uint32_t count)
{
    return (struct fm_source_spec){.format = &fm_source_parquet,
                                   .tensors = tensors,
                                   .tensor_count = count,
                                   .record_bytes_max = BYTES_MAX};
}

/* What a query's column x becomes; in memory that is kept until the next call. */
static const char *read_as(const char *query, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    static char *text;
    struct fm_source_tensor tensor = {
        .column = {.name = "input", .dtype = dtype, .rank = rank},
        .names = (const char *const[]){"x"},
        .name_count = 1,
    };
    if (rank > 0) {
        memcpy(tensor.column.shape, shape, rank * sizeof *shape);
    }
    struct fm_source_spec spec = spec_of(&tensor, 1);
    fm_free(text);
    text = NULL;
    if (make("", query) != 0) {
        return "the file could not be made";
    }
    text = fm_source_rig_read(&spec, path, 0, 0, UINT64_MAX, 100);
    /* The path differs from run to run. */
    char *at = strstr(text, path);
    if (at != NULL) {
        memmove(at, at + strlen(path), strlen(at + strlen(path)) + 1);
    }
    return text;
}

#define AS(type, query) read_as("SELECT " query, FM_DTYPE_##type, 0, NULL)
#define AS_SHAPE(type, query, ...)                                                  \
    read_as("SELECT " query, FM_DTYPE_##type, sizeof((int64_t[]){__VA_ARGS__}) / 8, \
            (const int64_t[]){__VA_ARGS__})

TEST(numbers_keep_their_values)
{
    CHECK_STR_EQ(AS(INT64, "unnest([1, -9223372036854775807 - 1])::BIGINT x"),
                 "0 1\n1 -9223372036854775808\n");
    CHECK_STR_EQ(AS(UINT64, "18446744073709551615::UBIGINT x"), "0 18446744073709551615\n");
    CHECK_STR_EQ(AS(INT8, "unnest([-128, 127])::BIGINT x"), "0 -128\n1 127\n");
    CHECK_STR_EQ(AS(UINT16, "65535::INTEGER x"), "0 65535\n");
    CHECK_STR_EQ(AS(INT32, "2147483647::UBIGINT x"), "0 2147483647\n");
    CHECK_STR_EQ(AS(INT16, "-5::TINYINT x"), "0 -5\n");
    CHECK_STR_EQ(AS(UINT32, "4::UTINYINT x"), "0 4\n");
    CHECK_STR_EQ(AS(FP32, "0.1::DOUBLE x"), "0 0.1\n");
    CHECK_STR_EQ(AS(FP64, "0.1::DOUBLE x"), "0 0.1\n");
    CHECK_STR_EQ(AS(FP64, "0.5::FLOAT x"), "0 0.5\n");
    CHECK_STR_EQ(AS(FP16, "1.5::FLOAT x"), "0 1.5\n");
    CHECK_STR_EQ(AS(BF16, "-3::BIGINT x"), "0 -3.0\n");
    CHECK_STR_EQ(AS(FP32, "unnest(['nan', 'inf', '-inf'])::DOUBLE x"), "0 null\n1 null\n2 null\n");
    CHECK_STR_EQ(AS(INT32, "7.0::DOUBLE x"), "0 7\n");
    CHECK_STR_EQ(AS(BOOL, "unnest([true, false]) x"), "0 true\n1 false\n");
    CHECK_STR_EQ(AS(BOOL, "1::BIGINT x"), "0 true\n");
    CHECK_STR_EQ(AS(FP32, "true x"), "0 1.0\n");
}

TEST(decimals_and_wide_integers_do_so_too)
{
    CHECK_STR_EQ(AS(FP64, "unnest([1.10, -0.05])::DECIMAL(4,2) x"), "0 1.1\n1 -0.05\n");
    CHECK_STR_EQ(AS(FP64, "123456.789::DECIMAL(9,3) x"), "0 123456.789\n");
    CHECK_STR_EQ(AS(FP64, "-12345678901234.5::DECIMAL(18,1) x"), "0 -12345678901234.5\n");
    CHECK_STR_EQ(AS(FP64, "0.1000000000000000055511151231257827::DECIMAL(38,34) x"), "0 0.1\n");
    CHECK_STR_EQ(AS(FP64, "'-99999999999999999999999999999999999999'::DECIMAL(38,0) x"),
                 "0 -1e+38\n");
    CHECK_STR_EQ(AS(INT64, "unnest([12.00, -3.00])::DECIMAL(5,2) x"), "0 12\n1 -3\n");
    CHECK_STR_EQ(AS(INT64, "'-9223372036854775808'::DECIMAL(38,0) x"), "0 -9223372036854775808\n");
    CHECK_STR_EQ(AS(UINT64, "'18446744073709551615'::DECIMAL(38,0) x"), "0 18446744073709551615\n");
    CHECK_STR_EQ(AS(INT8, "1.5::DECIMAL(3,1) x"),
                 "0 !row 0: column 'x': '1.5' is no INT8: it must be -128 to 127, without a "
                 "fraction\n");
    CHECK_STR_EQ(AS(INT64, "'9223372036854775808'::DECIMAL(38,0) x"),
                 "0 !row 0: column 'x': '9223372036854775808' is no INT64: it must be "
                 "-9223372036854775808 to 9223372036854775807\n");
    CHECK_STR_EQ(AS(UINT64, "-0.01::DECIMAL(4,2) x"),
                 "0 !row 0: column 'x': '-0.01' is no UINT64: it must be 0 to "
                 "18446744073709551615, without a fraction\n");
    CHECK_STR_EQ(AS(FP16, "70000.0::DECIMAL(6,1) x"),
                 "0 !row 0: column 'x': '70000.0' is no FP16: it must be within 65504 of zero\n");
}

TEST(numbers_that_do_not_fit_are_bad_rows)
{
    CHECK_STR_EQ(AS(UINT8, "unnest([255, 256, 0]) x"),
                 "0 255\n1 !row 1: column 'x': '256' is no UINT8: it must be 0 to 255\n2 0\n");
    CHECK_STR_EQ(AS(UINT8, "-1::BIGINT x"),
                 "0 !row 0: column 'x': '-1' is no UINT8: it must be 0 to 255\n");
    CHECK_STR_EQ(AS(INT64, "1.5::DOUBLE x"), "0 !row 0: column 'x': '1.5' is no INT64: it must be "
                                             "a number without a fraction\n");
    CHECK_STR_EQ(AS(INT64, "'nan'::DOUBLE x"),
                 "0 !row 0: column 'x': 'nan' is no INT64: it must be -9223372036854775808 to "
                 "9223372036854775807\n");
    CHECK_STR_EQ(AS(INT64, "9.3e18::DOUBLE x"),
                 "0 !row 0: column 'x': '9.3e+18' is no INT64: it must be -9223372036854775808 to "
                 "9223372036854775807\n");
    CHECK_STR_EQ(AS(FP32, "1e300::DOUBLE x"),
                 "0 !row 0: column 'x': '1e+300' is no FP32: it must be within 3.40282e+38 of "
                 "zero\n");
    CHECK_STR_EQ(AS(BOOL, "2::BIGINT x"),
                 "0 !row 0: column 'x': '2' is no BOOL: it must be true, false, 1 or 0\n");
    CHECK_STR_EQ(AS(FP32, "unnest([1.5, NULL])::FLOAT x"),
                 "0 1.5\n1 !row 1: column 'x': there is no value, it is NULL\n");
}

TEST(texts_are_bytes)
{
    CHECK_STR_EQ(AS(BYTES, "unnest(['', 'a', 'exactly12345', 'more than twelve', 'é']) x"),
                 "0 ''\n1 'a'\n2 'exactly12345'\n3 'more than twelve'\n4 'é'\n");
    CHECK_STR_EQ(AS(BYTES, "'ab'::BLOB x"), "0 'ab'\n");
    CHECK_STR_EQ(AS_SHAPE(BYTES, "['a', 'bc'] x", -1), "0 [2]'a','bc'\n");
    CHECK_STR_EQ(AS_SHAPE(BYTES, "'a' x", 1), "0 [1]'a'\n");
    CHECK_STR_EQ(AS(BYTES, "DATE '2026-01-31' x"), "0 '2026-01-31'\n");
    CHECK_STR_EQ(AS(BYTES, "TIMESTAMP '2026-01-31 12:00:00.5' x"), "0 '2026-01-31 12:00:00.5'\n");
    CHECK_STR_EQ(AS(BYTES, "TIMESTAMPTZ '2026-01-31 12:00:00+02' x"),
                 "0 '2026-01-31 10:00:00+00'\n");
    CHECK_STR_EQ(AS(BYTES, "'00000000-0000-0000-0000-000000000001'::UUID x"),
                 "0 '00000000-0000-0000-0000-000000000001'\n");
    CHECK_STR_EQ(AS(BYTES, "NULL::VARCHAR x"),
                 "0 !row 0: column 'x': there is no value, it is NULL\n");
}

TEST(blobs_hold_tensors_as_they_lie)
{
    CHECK_STR_EQ(AS_SHAPE(FP32, "'\\x00\\x00\\x80\\x3F\\x00\\x00\\x00\\xC0'::BLOB x", 2),
                 "0 [2]1.0,-2.0\n");
    CHECK_STR_EQ(AS_SHAPE(UINT8, "'\\x01\\x02\\x03\\x04'::BLOB x", 2, 2), "0 [2,2]1,2,3,4\n");
    CHECK_STR_EQ(AS_SHAPE(UINT8, "unnest(['abcd'::BLOB, 'abc'::BLOB, NULL]) x", 4),
                 "0 [4]97,98,99,100\n1 !row 1: column 'x': the BLOB has 3 bytes, and a row has 4\n"
                 "2 !row 2: column 'x': there is no value, it is NULL\n");
}

TEST(lists_are_nested_as_the_shape_is)
{
    CHECK_STR_EQ(AS_SHAPE(FP32, "[1, 2.5]::DOUBLE[] x", 2), "0 [2]1.0,2.5\n");
    CHECK_STR_EQ(AS_SHAPE(INT32, "[1, 2]::INTEGER[] x", 2), "0 [2]1,2\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[[1, 2, 3], [4, 5, 6]] x", 2, 3), "0 [2,3]1,2,3,4,5,6\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[[1, 2, 3], [4, 5, 6]] x", -1, -1), "0 [2,3]1,2,3,4,5,6\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[[[1]], [[2]]] x", 2, 1, 1), "0 [2,1,1]1,2\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[1, 2, 3, 4] x", 2, 2), "0 [2,2]1,2,3,4\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "5 x", 1, 1), "0 [1,1]5\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[1, 2]::BIGINT[2] x", 2), "0 [2]1,2\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[]::BIGINT[] x", -1), "0 [0]\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[]::BIGINT[][] x", -1, -1), "0 [0,0]\n");
    CHECK_STR_EQ(AS_SHAPE(FP64, "[1.5, 2.25]::DECIMAL(4,2)[] x", 2), "0 [2]1.5,2.25\n");
}

TEST(other_shapes_are_bad_rows)
{
    CHECK_STR_EQ(AS_SHAPE(INT64, "[1, 2, 3] x", 2),
                 "0 !row 0: column 'x': the value has not the shape [2]: a list at level 1 has 3 "
                 "entries instead of 2\n");
    CHECK_STR_EQ(
        AS_SHAPE(INT64, "[[1, 2], [3]] x", 2, -1),
        "0 !row 0: column 'x': the value has not the shape [2,-1]: a list at level 2 has 1 "
        "entries instead of 2\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[1, 2, 3] x", 2, 2),
                 "0 !row 0: column 'x': the list has 3 entries instead of 4\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[1, NULL] x", 2),
                 "0 !row 0: column 'x': entry 1 of its list is NULL\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "[[1], NULL] x", 2, 1),
                 "0 !row 0: column 'x': entry 1 of its list is NULL\n");
    CHECK_STR_EQ(AS_SHAPE(INT64, "NULL::BIGINT[] x", 2),
                 "0 !row 0: column 'x': there is no value, it is NULL\n");
    CHECK_STR_EQ(AS_SHAPE(UINT8, "[1, 256] x", 2),
                 "0 !row 0: column 'x': '256' is no UINT8: it must be 0 to 255\n");
    /* What came before it in the block stays as it is. */
    CHECK_STR_EQ(read_as("SELECT unnest([{'x': [[1, 2]]}, {'x': [[3, 4], [5]]}, {'x': [[6, 7]]}], "
                         "recursive := true)",
                         FM_DTYPE_INT64, 2, (const int64_t[]){-1, -1}),
                 "0 [1,2]1,2\n1 !row 1: column 'x': the value has not the shape [-1,-1]: a list at "
                 "level 2 has 1 entries instead of 2\n2 [1,2]6,7\n");
}

TEST(rows_of_other_shapes_begin_another_block)
{
    CHECK_STR_EQ(read_as("SELECT unnest([{'x': [1]}, {'x': [2]}, {'x': [3, 4]}, {'x': [5]}], "
                         "recursive := true)",
                         FM_DTYPE_INT64, 1, (const int64_t[]){-1}),
                 "0 [1]1\n1 [1]2\n--\n2 [2]3,4\n--\n3 [1]5\n");
}

TEST(types_that_cannot_be_are_refused_at_once)
{
    CHECK_STR_EQ(AS(BYTES, "1 x"),
                 "!! ETYPE : column 'x' is INTEGER, which is no row of BYTES with the shape []");
    CHECK_STR_EQ(AS(FP32, "'1' x"),
                 "!! ETYPE : column 'x' is VARCHAR, which is no row of FP32 with the shape []");
    CHECK_STR_EQ(AS(INT64, "TIMESTAMP '2026-01-31' x"),
                 "!! ETYPE : column 'x' is TIMESTAMP, which is no row of INT64 with the shape []");
    CHECK_STR_EQ(AS(INT64, "[1] x"),
                 "!! ETYPE : column 'x' is INTEGER[], which is no row of INT64 with the shape []");
    CHECK_STR_EQ(AS_SHAPE(INT64, "1 x", -1),
                 "!! ETYPE : column 'x' is INTEGER, which is no row of INT64 with the shape [-1]");
    CHECK_STR_EQ(
        AS_SHAPE(INT64, "[[1]] x", 1),
        "!! ETYPE : column 'x' is INTEGER[][], which is no row of INT64 with the shape [1]");
    CHECK_STR_EQ(AS_SHAPE(INT64, "{'a': 1} x", 1),
                 "!! ETYPE : column 'x' is STRUCT, which is no row of INT64 with the shape [1]");
    CHECK_STR_EQ(AS_SHAPE(FP32, "'a'::BLOB x", -1),
                 "!! ETYPE : column 'x' is BLOB, which is no row of FP32 with the shape [-1]");
    CHECK_STR_EQ(AS_SHAPE(BOOL, "'a'::BLOB x", 1),
                 "!! ETYPE : column 'x' is BLOB, which is no row of BOOL with the shape [1]");
}

TEST(ids_and_passed_columns)
{
    static const char *const passed[] = {"b", "i", "f", "d", "s", "l",
                                         "r", "t", "m", "j", "n", "h"};
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT32, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    spec.id = "id";
    spec.passed = passed;
    spec.passed_count = sizeof passed / sizeof passed[0];
    CHECK_INT_EQ(
        make("", "SELECT 1 x, 'k\"1' id, true b, -5 i, 0.1::FLOAT f, 1.50::DECIMAL(4,2) d, "
                 "'a\"é' s, [1.5, NULL, 'nan'::DOUBLE] l, {'k': 1, 'v': ['x']} r, "
                 "TIMESTAMP '2026-01-31 12:00:00' t, MAP{'a': 1} m, '{\"q\": [1]}'::JSON j, "
                 "NULL::INTEGER n, -99999999999999999999999999999999999999::DECIMAL(38,0) h "
                 "UNION ALL SELECT 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
                 "NULL, NULL, NULL"),
        0);
    char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
    CHECK_STR_EQ(text,
                 "0 id=k\"1 1 | true | -5 | 0.1 | 1.50 | \"a\\\"é\" | [1.5,null,null] | "
                 "{\"k\":1,\"v\":[\"x\"]} | \"2026-01-31 12:00:00\" | {\"a\":1} | {\"q\":[1]} | "
                 "null | -99999999999999999999999999999999999999\n"
                 "1 !row 1: column 'id': the row's id is NULL | null | null | null | null | null | "
                 "null | null | null | null | null | null | null\n");
    fm_free(text);
}

TEST(what_can_be_an_id)
{
    static const struct {
        const char *column;
        const char *line;
    } cases[] = {
        {"12::UBIGINT", "0 id=12 1\n"},
        {"-1.50::DECIMAL(4,2)", "0 id=-1.50 1\n"},
        {"'00000000-0000-0000-0000-000000000001'::UUID",
         "0 id=00000000-0000-0000-0000-000000000001 1\n"},
        {"DATE '2026-01-31'", "0 id=2026-01-31 1\n"},
        {"'ab'::BLOB", "0 id=ab 1\n"},
    };
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT32, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    char query[128];
    spec.id = "id";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(query, sizeof query, "SELECT 1 x, %s id", cases[i].column);
        CHECK_INT_EQ(make("", query), 0);
        char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
        CHECK_STR_EQ(text, cases[i].line);
        fm_free(text);
    }
    CHECK_INT_EQ(make("", "SELECT 1 x, 1.5::DOUBLE id"), 0);
    char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 10);
    CHECK_STR_CONTAINS(text, "column 'id' is DOUBLE, which cannot name rows");
    fm_free(text);
}

TEST(several_columns_make_one_row)
{
    const struct fm_source_tensor tensors[] = {
        FM_SOURCE_TENSOR(FP32, 1, FM_SOURCE_SHAPE(3), "a", "weird \"name\"", "a"),
        FM_SOURCE_TENSOR(BYTES, 0, FM_SOURCE_SHAPE(0), "größe"),
    };
    struct fm_source_spec spec = spec_of(tensors, 2);
    CHECK_INT_EQ(make("", "SELECT i::DOUBLE a, i * 10 \"weird \"\"name\"\"\", 'g' || i größe, "
                          "[i] unused FROM range(3) t(i)"),
                 0);
    char *text = fm_source_rig_read(&spec, path, 0, 0, 10, 2);
    CHECK_STR_EQ(text,
                 "0 [3]0.0,0.0,0.0; 'g0'\n1 [3]1.0,10.0,1.0; 'g1'\n--\n2 [3]2.0,20.0,2.0; 'g2'\n");
    fm_free(text);
}

TEST(row_groups_are_points)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    CHECK_INT_EQ(make(", ROW_GROUP_SIZE 2048", "SELECT i x FROM range(5000) t(i)"), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "5000: 0/0 2048/1 4096/2");
    fm_free(text);
    static const struct {
        uint64_t point, skip, rows;
        const char *lines;
    } cases[] = {
        {0, 0, 1, "0 0\n"},
        {2048, 0, 1, "2048 2048\n"},
        {0, 4999, 5, "4999 4999\n"},
        {2048, 2047, 2, "4095 4095\n4096 4096\n"},
        {2048, 1, 1, "2049 2049\n"},
        {4096, 904, 5, ""},
        {4096, 905, 5, "has fewer rows than when the job was begun"},
        {0, 5000, 5, ""},
        {0, 5001, 5, "!! ENOTFOUND"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text = fm_source_rig_read(&spec, path, cases[i].point, cases[i].skip, cases[i].rows, 7);
        CHECK_STR_CONTAINS(text, cases[i].lines);
        CHECK(cases[i].lines[0] != '\0' || text[0] == '\0');
        fm_free(text);
    }
}

/* Reading everything, passing over some now and then, against the numbers themselves. */
TEST(rows_come_in_their_order)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    struct fm_error error = {0};
    struct fm_source_reader *reader = NULL;
    struct fm_column *columns = NULL;
    struct fm_row_block block;
    uint64_t next = 0;
    CHECK_INT_EQ(make(", ROW_GROUP_SIZE 4096", "SELECT i x FROM range(30000) t(i)"), 0);
    CHECK_INT_EQ(fm_source_columns(&spec, &columns), 0);
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 1, 0, 1000), 0);
    CHECK_INT_EQ(spec.format->open(&spec, path, NULL, &reader, &error), 0);
    for (uint32_t turn = 1; next < 30000; turn++) {
        uint64_t skip = turn % 3 == 0 ? turn * 37 % 5000 : 0;
        skip = skip < 30000 - next ? skip : 30000 - next;
        CHECK_INT_EQ(spec.format->skip(reader, skip, &error), 0);
        next += skip;
        fm_row_block_clear(&block);
        CHECK_INT_EQ(spec.format->read(reader, turn % 1000 + 1, &block, &error), 0);
        for (uint32_t i = 0; i < block.row_count; i++) {
            int64_t value = 0;
            memcpy(&value, block.tensors[0].data + i * sizeof value, sizeof value);
            CHECK_UINT_EQ(block.rows[i].row, next);
            CHECK_INT_EQ(value, (int64_t)next);
            next++;
        }
    }
    spec.format->close(reader);
    fm_row_block_deinit(&block);
    fm_free(columns);
}

/* A reader of its own for each thread: what rows it read, and whether they were the right ones. */
struct crowd_reader {
    struct fm_thread thread;
    uint64_t first;
    uint64_t rows;
    bool right;
};

static void crowd_read(void *argument)
{
    struct crowd_reader *mine = argument;
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(FP64, 1, FM_SOURCE_SHAPE(2), "l");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    const struct fm_record_point point = {.row = mine->first};
    struct fm_source_reader *reader = NULL;
    struct fm_column *columns = NULL;
    struct fm_row_block block = {0};
    mine->right = fm_source_columns(&spec, &columns) == 0 &&
                  fm_row_block_init(&block, columns, 1, 0, 1000) == 0 &&
                  spec.format->open(&spec, path, &point, &reader, NULL) == 0;
    while (mine->right) {
        fm_row_block_clear(&block);
        mine->right = spec.format->read(reader, 1000, &block, NULL) == 0;
        for (uint32_t i = 0; i < block.row_count; i++) {
            double pair[2];
            double row = (double)(mine->first + mine->rows++);
            memcpy(pair, block.tensors[0].data + i * sizeof pair, sizeof pair);
            mine->right = mine->right && fabs(pair[0] - row) < 0.5 && fabs(pair[1] + row) < 0.5;
        }
        if (block.row_count == 0) {
            break;
        }
    }
    if (reader != NULL) {
        spec.format->close(reader);
    }
    fm_row_block_deinit(&block);
    fm_free(columns);
}

TEST(several_readers_at_once)
{
    enum { READERS = 4, ROWS = 20000 };
    struct crowd_reader readers[READERS] = {0};
    CHECK_INT_EQ(make(", ROW_GROUP_SIZE 2048", "SELECT [i, -i]::BIGINT[] l FROM range(20000) t(i)"),
                 0);
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i].first = i * UINT64_C(3000);
        CHECK_INT_EQ(fm_thread_start(&readers[i].thread, "reader", crowd_read, &readers[i]), 0);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        fm_thread_join(&readers[i].thread);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        CHECK(readers[i].right);
        CHECK_UINT_EQ(readers[i].rows, ROWS - readers[i].first);
    }
}

/* On a small stack, as a shell may give a program's first thread (`ulimit -s 64`). */
static void *count_small(void *argument)
{
    *(char **)argument = fm_source_rig_count(
        &(struct fm_source_spec){.format = &fm_source_parquet, .record_bytes_max = BYTES_MAX},
        path);
    return NULL;
}

TEST(counting_needs_no_stack)
{
    pthread_attr_t attributes;
    pthread_t thread;
    char *text = NULL;
    CHECK_INT_EQ(make("", "SELECT i x FROM range(7) t(i)"), 0);
    CHECK_INT_EQ(pthread_attr_init(&attributes), 0);
    CHECK_INT_EQ(pthread_attr_setstacksize(&attributes, 65536), 0);
    CHECK_INT_EQ(pthread_create(&thread, &attributes, count_small, &text), 0);
    CHECK_INT_EQ(pthread_join(thread, NULL), 0);
    CHECK_STR_EQ(text, "7: 0/0");
    fm_free(text);
    (void)pthread_attr_destroy(&attributes);
}

TEST(row_groups_of_one_row)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    /* Chunks of one row are what makes row groups of one. */
    CHECK_INT_EQ(
        make(", ROW_GROUP_SIZE_BYTES 1", "SELECT 1 x UNION ALL SELECT 2 UNION ALL SELECT 3"), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "3: 0/0 1/1 2/2");
    fm_free(text);
    text = fm_source_rig_read(&spec, path, 1, 1, 5, 5);
    CHECK_STR_EQ(text, "2 3\n");
    fm_free(text);
}

TEST(no_rows_at_all)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    CHECK_INT_EQ(make("", "SELECT 1 x WHERE false"), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_EQ(text, "0:");
    fm_free(text);
    text = fm_source_rig_read(&spec, path, 0, 0, 5, 5);
    CHECK_STR_EQ(text, "");
    fm_free(text);
}

TEST(columns_that_are_not_there)
{
    const struct fm_source_tensor near = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "agee");
    const struct fm_source_tensor far = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "zzzzzz");
    const struct fm_source_tensor none = {.column = {.name = "input", .dtype = FM_DTYPE_INT64}};
    struct fm_source_spec spec = spec_of(&near, 1);
    CHECK_INT_EQ(make("", "SELECT 1 age, 2 other"), 0);
    char *text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "!! ENOTFOUND");
    CHECK_STR_CONTAINS(text, "there is no column 'agee'; did you mean 'age'?");
    fm_free(text);
    spec.tensors = &far;
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "there is no column 'zzzzzz'; the columns are age, other");
    fm_free(text);
    spec.tensors = &none;
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "the column for the input 'input' is not named");
    fm_free(text);
    spec.tensors = &near;
    CHECK_INT_EQ(make("", "SELECT 1 agee, 2 file_row_number"), 0);
    text = fm_source_rig_count(&spec, path);
    CHECK_STR_CONTAINS(text, "!! EUNSUPPORTED");
    CHECK_STR_CONTAINS(text, "a column of the name 'file_row_number' cannot be read");
    fm_free(text);
}

TEST(names_of_files_mean_nothing_else)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    struct fm_error error = {0};
    char folder[128];
    char odd[256];
    CHECK_INT_EQ(make("", "SELECT 1 x"), 0);
    (void)snprintf(folder, sizeof folder, "%s/x=7", directory);
    (void)snprintf(odd, sizeof odd, "%s/[*]'?.parquet", folder);
    CHECK_INT_EQ(fm_file_make_directories(folder, &error), 0);
    CHECK_INT_EQ(fm_file_rename(path, odd, &error), 0);
    char *text = fm_source_rig_read(&spec, odd, 0, 0, 5, 5);
    CHECK_STR_EQ(text, "0 1\n");
    fm_free(text);
}

/* What was written to `path` is read, instead of a whole file. */
static char *read_damaged(const char *data, size_t size)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    if (fm_file_write_atomic(path, data, size, NULL) != 0) {
        return NULL;
    }
    char *text = fm_source_rig_count(&spec, path);
    if (strncmp(text, "!!", 2) == 0) {
        return text;
    }
    fm_free(text);
    return fm_source_rig_read(&spec, path, 0, 0, UINT64_MAX, 100);
}

TEST(damaged_files)
{
    char *data = NULL;
    size_t size = 0;
    char *text = read_damaged("", 0);
    CHECK_INT_EQ(make("", "SELECT i x, 'text ' || i y FROM range(1000) t(i)"), 0);
    fm_free(text);
    CHECK_INT_EQ(fm_file_read(path, 1 << 20, &data, &size, NULL), 0);
    text = read_damaged("", 0);
    CHECK_STR_CONTAINS(text, "!! ECORRUPT");
    CHECK_STR_CONTAINS(text, path); /* and not what DuckDB was told */
    CHECK(strstr(text, "/proc/self") == NULL);
    fm_free(text);
    text = read_damaged("x,y\n1,2\n3,4\nnot a parquet file", 30);
    CHECK_STR_CONTAINS(text, "!! ECORRUPT");
    fm_free(text);
    text = read_damaged(data, size / 2);
    CHECK_STR_CONTAINS(text, "!! ECORRUPT");
    fm_free(text);
    for (size_t at = 0; at < size; at += size / 97 + 1) {
        char kept = data[at];
        data[at] = (char)~kept;
        text = read_damaged(data, size);
        CHECK_PTR_NE(text, NULL); /* rows or words, and the next file is read all the same */
        fm_free(text);
        data[at] = kept;
    }
    text = read_damaged(data, size);
    CHECK_STR_CONTAINS(text, "\n999 999\n");
    fm_free(text);
    fm_free(data);
}

TEST(files_that_are_not_there)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 0, FM_SOURCE_SHAPE(0), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    char *text = fm_source_rig_count(&spec, "/nonexistent/x.parquet");
    CHECK_STR_CONTAINS(text, "!! ENOTFOUND cannot open '/nonexistent/x.parquet'");
    fm_free(text);
    text = fm_source_rig_count(&spec, "/tmp");
    CHECK_STR_CONTAINS(text, "!! E");
    fm_free(text);
}

TEST(rows_have_a_limit)
{
    const struct fm_source_tensor tensor = FM_SOURCE_TENSOR(INT64, 1, FM_SOURCE_SHAPE(-1), "x");
    struct fm_source_spec spec = spec_of(&tensor, 1);
    spec.record_bytes_max = 800;
    CHECK_INT_EQ(make("", "SELECT range(i * 100) x FROM range(1, 3) t(i)"), 0);
    char *text = fm_source_rig_read(&spec, path, 0, 0, 5, 5);
    CHECK_STR_CONTAINS(text, "98,99\n1 !row 1: column 'x': the row has more than 800 bytes\n");
    fm_free(text);
}

TEST(memory_that_runs_out)
{
    const struct fm_source_tensor tensors[] = {
        FM_SOURCE_TENSOR(INT64, 1, FM_SOURCE_SHAPE(-1), "x"),
        FM_SOURCE_TENSOR(BYTES, 0, FM_SOURCE_SHAPE(0), "s"),
    };
    static const char *const passed[] = {"x", "r"};
    struct fm_source_spec spec = spec_of(tensors, 2);
    spec.id = "s";
    spec.passed = passed;
    spec.passed_count = 2;
    CHECK_INT_EQ(make("", "SELECT [i, i] x, 's' || i s, {'a': i} r FROM range(10) t(i)"), 0);
    bool through = false;
    for (uint64_t nth = 1; !through; nth++) {
        struct fm_error error = {0};
        struct fm_source_reader *reader = NULL;
        struct fm_column *columns = NULL;
        struct fm_row_block block = {0};
        fm_memory_fail_at(nth, 0);
        int status = fm_source_columns(&spec, &columns);
        status = status == 0 ? fm_row_block_init(&block, columns, 2, 2, 10) : status;
        status = status == 0 ? spec.format->open(&spec, path, NULL, &reader, &error) : status;
        status = status == 0 ? spec.format->read(reader, 10, &block, &error) : status;
        through = fm_memory_fail_at(0, 0) < nth;
        CHECK(status == FM_ENOMEM || (through && status == 0 && block.good_count == 10));
        if (reader != NULL) {
            spec.format->close(reader);
        }
        fm_row_block_deinit(&block);
        fm_free(columns);
    }
}

TEST_MAIN()
