/*
 * What a build without DuckDB says about Parquet. See formats.h, parquet_writer.h
 * and query_spool.h.
 */
#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/source/formats.h"
#include "host/source/parquet_writer.h"
#include "host/source/query_spool.h"

static int refuse(const char *path, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EUNSUPPORTED,
                        "%s: Parquet needs DuckDB, and this program was built without it; run "
                        "tools/setup, or give the build -Dduckdb_root=FOLDER",
                        path);
}

static int without_count(const struct fm_source_spec *spec, const char *path,
                         fm_record_point_take take, void *context, uint64_t *ret_rows,
                         struct fm_error *reterr)
{
    (void)spec;
    (void)take;
    (void)context;
    (void)ret_rows;
    return refuse(path, reterr);
}

static int without_open(const struct fm_source_spec *spec, const char *path,
                        const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                        struct fm_error *reterr)
{
    (void)spec;
    (void)point;
    (void)ret_reader;
    return refuse(path, reterr);
}

/* There is no reader and no writer that the others could be called with. */

static int without_skip(struct fm_source_reader *reader, uint64_t rows, struct fm_error *reterr)
{
    (void)rows;
    (void)reterr;
    FM_ASSERT(reader == NULL);
    return FM_EUNSUPPORTED;
}

static int without_read(struct fm_source_reader *reader, uint32_t rows_max,
                        struct fm_row_block *block, struct fm_error *reterr)
{
    (void)rows_max;
    (void)block;
    (void)reterr;
    FM_ASSERT(reader == NULL);
    return FM_EUNSUPPORTED;
}

static void without_close(struct fm_source_reader *reader)
{
    FM_ASSERT(reader == NULL);
}

static const char *const endings[] = {".parquet", ".pq", NULL};

const struct fm_source_format fm_source_parquet = {.name = "parquet",
                                                   .endings = endings,
                                                   .count = without_count,
                                                   .open = without_open,
                                                   .skip = without_skip,
                                                   .read = without_read,
                                                   .close = without_close};

int fm_parquet_writer_check(struct fm_error *reterr)
{
    return refuse("output.format", reterr);
}

int fm_parquet_writer_create(const char *path, const struct fm_parquet_column *columns,
                             uint32_t column_count, const char *compression,
                             struct fm_parquet_writer **ret_writer, struct fm_error *reterr)
{
    (void)columns;
    (void)column_count;
    (void)compression;
    (void)ret_writer;
    return refuse(path, reterr);
}

int fm_parquet_writer_append(struct fm_parquet_writer *writer,
                             const struct fm_parquet_value *values, struct fm_error *reterr)
{
    (void)values;
    (void)reterr;
    FM_ASSERT(writer == NULL);
    return FM_EUNSUPPORTED;
}

int fm_parquet_writer_finish(struct fm_parquet_writer *writer, uint64_t *ret_bytes,
                             struct fm_error *reterr)
{
    (void)ret_bytes;
    (void)reterr;
    FM_ASSERT(writer == NULL);
    return FM_EUNSUPPORTED;
}

void fm_parquet_writer_abandon(struct fm_parquet_writer *writer)
{
    FM_ASSERT(writer == NULL);
}

int fm_query_duckdb_spool(const struct fm_query *query, const char *path, struct fm_error *reterr)
{
    (void)path;
    return refuse(query->database, reterr);
}
