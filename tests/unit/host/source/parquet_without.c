/*
 * Tests of host/source/parquet_without: what a build without DuckDB says, whatever this build has.
 */
#include "host/source/parquet_without.c"

#include "core/util/memory.h"
#include "tests/harness/source_rig.h"
#include "tests/harness/test.h"

TEST(reading_and_writing_say_what_is_missing)
{
    static const struct fm_source_spec spec = {.format = &fm_source_parquet};
    static const struct fm_parquet_column column = {.name = "x", .dtype = FM_DTYPE_INT64};
    struct fm_parquet_writer *writer = NULL;
    struct fm_error error = {0};
    char *text = fm_source_rig_count(&spec, "a.parquet");
    CHECK_STR_CONTAINS(text, "!! EUNSUPPORTED a.parquet: Parquet needs DuckDB, and this program "
                             "was built without it");
    fm_free(text);
    text = fm_source_rig_read(&spec, "a.parquet", 0, 0, 1, 1);
    CHECK_STR_CONTAINS(text, "!! EUNSUPPORTED a.parquet: ");
    fm_free(text);
    CHECK_INT_EQ(fm_parquet_writer_create("a.parquet", &column, 1, "snappy", &writer, &error),
                 FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "run tools/setup, or give the build -Dduckdb_root=FOLDER");
}

TEST_MAIN()
