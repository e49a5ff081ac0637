/*
 * Tests of what host/source/duckdb_library says where DuckDB's library is not there, or is none: in
 * a process of its own, because a library that was loaded stays.
 */
#include <stdlib.h>

#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/source/duckdb_library.h"
#include "host/source/formats.h"
#include "host/source/parquet_writer.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

static const struct fm_source_tensor tensor = {
    .column = {.name = "input", .dtype = FM_DTYPE_INT64},
    .names = (const char *const[]){"x"},
    .name_count = 1,
};
static const struct fm_source_spec spec = {
    .format = &fm_source_parquet, .tensors = &tensor, .tensor_count = 1, .record_bytes_max = 100};

TEST(a_library_that_is_not_there)
{
    static const struct fm_parquet_column column = {.name = "x", .dtype = FM_DTYPE_INT64};
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(setenv("FERMATA_DUCKDB", "/nonexistent/libduckdb.so", 1), 0);
    char *text = fm_source_rig_count(&spec, "/proc/self/exe");
    CHECK_STR_CONTAINS(text, "!! ENOTFOUND Parquet needs DuckDB's library, and it could not be "
                             "loaded: /nonexistent/libduckdb.so");
    CHECK_STR_CONTAINS(text, "run tools/setup, or set FERMATA_DUCKDB");
    fm_free(text);
    CHECK_INT_EQ(
        fm_parquet_writer_create("/nonexistent/x.parquet", &column, 1, "snappy", &writer, &error),
        FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "Parquet needs DuckDB's library");
}

TEST(a_library_that_is_another)
{
    CHECK_INT_EQ(setenv("FERMATA_DUCKDB", "libm.so.6", 1), 0);
    char *text = fm_source_rig_count(&spec, "/proc/self/exe");
    CHECK_STR_CONTAINS(text, "!! EABI 'libm.so.6' is no DuckDB that Fermata can use (1.4 or "
                             "later): it does not export duckdb_");
    fm_free(text);
}

/* What failed is tried again. */
TEST(a_library_that_has_come)
{
    CHECK_INT_EQ(unsetenv("FERMATA_DUCKDB"), 0);
    char *text = fm_source_rig_count(&spec, "/proc/self/exe");
    CHECK_STR_CONTAINS(text, "!! ECORRUPT /proc/self/exe: ");
    fm_free(text);
}

/* A failure inside of DuckDB takes its instance, and no other session's. */
TEST(an_instance_that_failed_is_replaced)
{
    struct fm_duckdb_session old = {0};
    struct fm_duckdb_session fresh = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_duckdb_open(&old, &error), 0);
    CHECK_INT_EQ(
        fm_duckdb_refuse(&old, FM_ECORRUPT, "INTERNAL Error: a bug\nmore", "file", -1, &error),
        FM_EINTERNAL);
    CHECK_STR_EQ(error.text, "file: INTERNAL Error: a bug");
    CHECK_INT_EQ(fm_duckdb_open(&fresh, &error), 0);
    CHECK_PTR_NE(old.instance, fresh.instance);
    CHECK_INT_EQ(fm_duckdb_run(&old, "SELECT 1", "file", -1, &error), 0);
    fm_duckdb_close(&old);
    CHECK_INT_EQ(fm_duckdb_run(&fresh, "SELECT 1", "file", -1, &error), 0);
    fm_duckdb_close(&fresh);
    fm_duckdb_close(&fresh);
}

TEST(messages_have_a_status_and_the_name_of_the_file)
{
    static const struct {
        const char *message;
        int status;
        const char *words;
    } cases[] = {
        {"IO Error: Could not write file \"/proc/self/fd/7\": No space left on device", FM_ENOSPC,
         "a.parquet: IO Error: Could not write file \"a.parquet\": No space left on device"},
        {"IO Error: cannot read", FM_EIO, "a.parquet: IO Error: cannot read"},
        {"Out of Memory Error: failed to pin", FM_ENOMEM,
         "a.parquet: Out of Memory Error: failed to pin"},
        {"Invalid Input Error: odd\nLINE 1: SELECT", FM_ECORRUPT,
         "a.parquet: Invalid Input Error: odd"},
        {"", FM_ECORRUPT, "a.parquet: no reason was given"},
        {NULL, FM_ECORRUPT, "a.parquet: no reason was given"},
    };
    struct fm_duckdb_session session = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_duckdb_open(&session, &error), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT_EQ(
            fm_duckdb_refuse(&session, FM_ECORRUPT, cases[i].message, "a.parquet", 7, &error),
            cases[i].status);
        CHECK_STR_EQ(error.text, cases[i].words);
    }
    fm_duckdb_close(&session);
}

TEST_MAIN()
