/*
 * Tests of queries whose rows are taken down: read from any row on, and every failing allocation.
 */
#include <sqlite3.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "host/source/formats.h"
#include "host/source/query_spool.h"
#include "tests/harness/test.h"

enum { ROWS = 300 };

static char database[64];
static char rows_path[64];

static const char *const names[] = {"n"};
static const char *const passed[] = {"t"};
static const struct fm_source_tensor tensors[] = {
    {.column = {.name = "n", .dtype = FM_DTYPE_INT32}, .names = names, .name_count = 1}};
static const struct fm_source_spec spec = {.format = &fm_source_query,
                                           .tensors = tensors,
                                           .tensor_count = 1,
                                           .id = "id",
                                           .passed = passed,
                                           .passed_count = 1,
                                           .record_bytes_max = 1 << 20};

static void database_make(void)
{
    sqlite3 *made = NULL;
    (void)snprintf(database, sizeof(database), "/tmp/fermata-query-%d.db", (int)getpid());
    (void)snprintf(rows_path, sizeof(rows_path), "/tmp/fermata-query-%d.rows", (int)getpid());
    CHECK_INT_EQ(sqlite3_open(database, &made), SQLITE_OK);
    CHECK_INT_EQ(sqlite3_exec(made,
                              "CREATE TABLE t(id, n, t); WITH RECURSIVE r(i) AS (SELECT 0 UNION "
                              "ALL SELECT i + 1 FROM r WHERE i < 299) INSERT INTO t SELECT 'r' || "
                              "i, i, 'text ' || i FROM r",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    (void)sqlite3_close(made);
}

static int take(struct fm_error *error)
{
    const struct fm_query query = {
        .database = database, .sql = "SELECT id, n, t FROM t ORDER BY n", .rows_max = UINT64_MAX};
    (void)unlink(rows_path);
    return fm_query_sqlite_spool(&query, rows_path, error);
}

/* The rows from `first` on, as they are to be. */
static int rows_check(uint64_t first, struct fm_error *error)
{
    const struct fm_record_point point = {.row = first};
    struct fm_source_reader *reader = NULL;
    struct fm_row_block block = {0};
    uint64_t next = first;
    int status = fm_row_block_init(&block, &tensors[0].column, 1, 1, 64);
    status = status != 0 ? status : fm_source_query.open(&spec, rows_path, &point, &reader, error);
    do {
        fm_row_block_clear(&block);
        status = status != 0 ? status : fm_source_query.read(reader, 64, &block, error);
        for (uint32_t i = 0; status == 0 && i < block.row_count; i++, next++) {
            int32_t value = -1;
            memcpy(&value, block.tensors[0].data + i * sizeof(value), sizeof(value));
            status =
                block.rows[i].status == 0 && (uint64_t)value == next && block.rows[i].row == next
                    ? 0
                    : FM_EINTERNAL;
        }
    } while (status == 0 && block.row_count > 0);
    if (reader != NULL) {
        fm_source_query.close(reader);
    }
    fm_row_block_deinit(&block);
    return status != 0 || next == ROWS ? status : FM_EINTERNAL;
}

TEST(rows_from_any_on)
{
    struct fm_error error = {0};
    database_make();
    CHECK_INT_EQ(take(&error), 0);
    for (uint64_t first = 0; first <= ROWS; first += 75) {
        CHECK_INT_EQ(rows_check(first, &error), 0);
    }
}

TEST(passing_over_rows)
{
    struct fm_source_reader *reader = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_source_query.open(&spec, rows_path, NULL, &reader, &error), 0);
    CHECK_INT_EQ(fm_source_query.skip(reader, ROWS, &error), 0);
    CHECK_INT_EQ(fm_source_query.skip(reader, 1, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "has fewer rows than when the job was begun");
    fm_source_query.close(reader);
}

/* The page of a table of the rows, in the file; its size in *ret_size. */
static void page_find(const char *table, long *ret_at, long *ret_size)
{
    sqlite3 *made = NULL;
    sqlite3_stmt *statement = NULL;
    CHECK_INT_EQ(sqlite3_open(rows_path, &made), SQLITE_OK);
    CHECK_INT_EQ(sqlite3_prepare_v2(made,
                                    "SELECT rootpage, page_size FROM sqlite_master, "
                                    "pragma_page_size WHERE name = ?",
                                    -1, &statement, NULL),
                 SQLITE_OK);
    (void)sqlite3_bind_text(statement, 1, table, -1, SQLITE_STATIC);
    CHECK_INT_EQ(sqlite3_step(statement), SQLITE_ROW);
    long page = (long)sqlite3_column_int64(statement, 0);
    *ret_size = (long)sqlite3_column_int64(statement, 1);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(made);
    *ret_at = (page - 1) * *ret_size;
}

TEST(names_that_cannot_be_read_are_damage_and_no_unknown_column)
{
    struct fm_source_reader *reader = NULL;
    struct fm_error error = {0};
    long size = 0;
    long at = 0;
    page_find("name", &at, &size);
    FILE *file = fopen(rows_path, "r+b");
    CHECK(file != NULL);
    (void)fseek(file, at, SEEK_SET);
    for (long i = 0; i < size; i++) {
        (void)fputc(0xff, file);
    }
    CHECK_INT_EQ(fclose(file), 0);
    CHECK_INT_EQ(fm_source_query.open(&spec, rows_path, NULL, &reader, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "malformed");
    CHECK_INT_EQ(take(NULL), 0);
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    int status = FM_ENOMEM;
    int failures = 0;
    for (uint64_t n = 1; n < 2000 && status != 0; n++) {
        struct fm_error error = {0};
        (void)fm_memory_fail_at(n, 0);
        status = take(&error);
        status = status != 0 ? status : rows_check(0, &error);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
        failures += status != 0;
    }
    CHECK_INT_EQ(status, 0);
    CHECK_INT_GT(failures, 3);
    (void)unlink(database);
    (void)unlink(rows_path);
}

TEST_MAIN()
