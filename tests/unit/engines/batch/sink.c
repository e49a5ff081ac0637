/*
 * Sinks: what they write, and how it is read back; every failing allocation.
 */
#include "engines/batch/sink.h"

#include <unistd.h>

#include "core/util/memory.h"
#include "engines/batch/file_sum.h"
#include "engines/batch/part_reader.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static const struct fm_port ports[] = {
    {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {-1, 1}},
    {.name = "score", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 2}},
};
static const char *const passed[] = {"label", "number"};
static const uint32_t passed_types[] = {FM_DTYPE_BYTES, FM_DTYPE_INT64};
static const char *const stages[] = {"model"};

/* Those of the table, then those of them that compress their files; NULL: there are no more. */
static const struct fm_sink *sink_at(size_t index)
{
    size_t count = 0;
    for (; fm_sinks[count] != NULL; count++) {
        if (count == index) {
            return fm_sinks[count];
        }
    }
    for (size_t i = 0; fm_sinks[i] != NULL; i++) {
        if (fm_sinks[i]->gzip != NULL && count++ == index) {
            return fm_sinks[i]->gzip;
        }
    }
    return NULL;
}

static struct fm_row_format format_of(const struct fm_sink *sink)
{
    return (struct fm_row_format){.sink = sink,
                                  .compression = sink->compressions[0],
                                  .outputs = ports,
                                  .output_count = 2,
                                  .strip_rows = true,
                                  .timings = true,
                                  .stage_names = stages,
                                  .stage_count = 1,
                                  .passed = passed,
                                  .passed_count = 2,
                                  .passed_types = passed_types};
}

static int row_pack(const struct fm_row_format *format, const char *id, struct fm_text *rows,
                    struct fm_error *error)
{
    static char text[] = "\5\0\0\0a,\"b\n";
    static float scores[] = {0.5f, -1.0f};
    static const uint64_t stage_ns[] = {1500000};
    const struct fm_tensor outputs[] = {
        {.dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {1, 1}, .data = text, .size = 9},
        {.dtype = FM_DTYPE_FP32,
         .rank = 2,
         .shape = {1, 2},
         .data = scores,
         .size = sizeof(scores)},
    };
    const struct fm_result result = {.id = {id, strlen(id)},
                                     .passed = "\"l\\u00fc\\\"\"\0"
                                               "-7",
                                     .outputs = outputs,
                                     .stage_ns = stage_ns,
                                     .total_ns = 2500000};
    return format->sink->pack(format, &result, rows, error);
}

/* One row, sealed where the sink can. */
static int row_append(const struct fm_sink *sink, struct fm_sink_file *file,
                      const struct fm_text *rows, struct fm_error *error)
{
    struct fm_text sealed = {0};
    int status = sink->seal != NULL ? sink->seal(rows, &sealed) : 0;
    status = status != 0          ? status
             : sink->seal != NULL ? sink->append_sealed(file, sealed.data, sealed.length, error)
                                  : sink->append(file, rows->data, rows->length, error);
    fm_text_deinit(&sealed);
    return status;
}

/* Two rows into a file, and their ids out of it. FM_EINTERNAL: they are not what they were. */
static int write_and_read(const struct fm_sink *sink, const char *path, struct fm_error *error)
{
    const struct fm_row_format format = format_of(sink);
    struct fm_text rows = {0};
    struct fm_text id = {0};
    struct fm_sink_file *file = NULL;
    struct fm_part_reader reader = {.bytes = 0};
    uint64_t bytes = 0;
    uint64_t checksum = 0;
    uint64_t sum = 0;
    uint64_t size = 0;
    uint64_t seen = 0;
    bool found = true;
    int status = sink->open(&format, path, &file, error);
    status = status != 0 ? status : row_pack(&format, "first", &rows, error);
    status = status != 0 ? status : sink->append(file, rows.data, rows.length, error);
    fm_text_clear(&rows);
    status = status != 0 ? status : row_pack(&format, "second, \"2\"", &rows, error);
    status = status != 0 ? status : row_append(sink, file, &rows, error);
    if (status == 0) {
        status = sink->finish(file, &bytes, &checksum, error);
        file = NULL;
    }
    status = status != 0 ? status : fm_file_sum(path, &sum, &size, error);
    if (status == 0) {
        status = size == bytes && sum == checksum ? fm_part_reader_open(&reader, sink, path, error)
                                                  : FM_EINTERNAL;
    }
    while (status == 0 && found) {
        status = fm_part_reader_next(&reader, &id, &found, error);
        if (status == 0 && found) {
            status = strcmp(id.data, seen == 0 ? "first" : "second, \"2\"") == 0 ? 0 : FM_EINTERNAL;
            seen++;
        }
    }
    if (status == 0 &&
        (seen != 2 || reader.rows != 2 || reader.bytes != bytes || reader.checksum != checksum)) {
        status = FM_EINTERNAL;
    }
    if (file != NULL) {
        sink->abandon(file);
    }
    fm_part_reader_deinit(&reader);
    fm_text_deinit(&rows);
    fm_text_deinit(&id);
    return status;
}

/* Not in a build without DuckDB. */
static bool is_there(const struct fm_sink *sink)
{
    const struct fm_row_format format = format_of(sink);
    return sink->check(&format, NULL) != FM_EUNSUPPORTED;
}

static const char *path_make(void)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "/tmp/fermata-sink-%d", (int)getpid());
    return path;
}

TEST(what_is_written_is_read_back)
{
    const char *path = path_make();
    for (size_t i = 0; sink_at(i) != NULL; i++) {
        struct fm_error error = {0};
        CHECK_INT_EQ(is_there(sink_at(i)) ? write_and_read(sink_at(i), path, &error) : 0, 0);
    }
    unlink(path);
}

TEST(a_record_of_csv)
{
    const char *path = path_make();
    char *data = NULL;
    size_t size = 0;
    CHECK_INT_EQ(write_and_read(&fm_sink_csv, path, NULL), 0);
    CHECK_INT_EQ(fm_file_read(path, 1 << 20, &data, &size, NULL), 0);
    CHECK_STR_EQ(
        data, "id,label,number,text,score,timings.model,timings.total_ms\n"
              "first,\"l\xc3\xbc\"\"\",-7,\"a,\"\"b\n\",\"[0.5,-1.0]\",1.5,2.5\n"
              "\"second, \"\"2\"\"\",\"l\xc3\xbc\"\"\",-7,\"a,\"\"b\n\",\"[0.5,-1.0]\",1.5,2.5\n");
    fm_free(data);
    unlink(path);
}

TEST(rows_that_a_table_cannot_hold_leave_nothing_behind)
{
    for (size_t i = 1; sink_at(i) != NULL; i++) {
        const struct fm_row_format format = format_of(sink_at(i));
        struct fm_text rows = {0};
        struct fm_error error = {0};
        CHECK_INT_EQ(row_pack(&format, "good", &rows, &error), 0);
        size_t before = rows.length;
        CHECK_INT_EQ(row_pack(&format, "\xff", &rows, &error), FM_EUNSUPPORTED);
        CHECK_STR_CONTAINS(error.text, "the id is not UTF-8");
        CHECK_UINT_EQ(rows.length, before);
        fm_text_deinit(&rows);
    }
}

TEST(names)
{
    const struct fm_sink *sink = NULL;
    const char *compression = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_sink_find("parquet", &sink, &error), 0);
    CHECK(sink == &fm_sink_parquet);
    CHECK_INT_EQ(fm_sink_find("json", &sink, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(
        error.text,
        "'json' is no output format (jsonl, csv, parquet, openai_batch); did you mean 'jsonl'?");
    CHECK_INT_EQ(fm_sink_compression(&sink, "zstd", &compression, &error), 0);
    CHECK_STR_EQ(compression, "zstd");
    CHECK(sink == &fm_sink_parquet);
    CHECK_INT_EQ(fm_sink_compression(&sink, "gzip", &compression, &error), 0);
    CHECK(sink == &fm_sink_parquet);
    sink = &fm_sink_jsonl;
    CHECK_INT_EQ(fm_sink_compression(&sink, "zstd", &compression, &error), FM_EUNSUPPORTED);
    CHECK_INT_EQ(fm_sink_compression(&sink, "gzip", &compression, &error), 0);
    CHECK(sink == fm_sink_jsonl.gzip);
    CHECK(fm_sink_of_fact("jsonl, compression gzip") == fm_sink_jsonl.gzip);
    CHECK(fm_sink_of_fact("openai_batch, compression gzip, embedding x") ==
          fm_sink_openai_batch.gzip);
    CHECK(fm_sink_of_fact("parquet, compression gzip") == &fm_sink_parquet);
    CHECK(fm_sink_of_ending(".csv.gz") == fm_sink_csv.gzip);
    CHECK(fm_sink_of_fact("csv, compression none") == &fm_sink_csv);
    CHECK(fm_sink_of_fact("csvs, compression none") == &fm_sink_jsonl);
    CHECK(fm_sink_of_ending(".parquet") == &fm_sink_parquet);
    CHECK(fm_sink_of_ending("parquet") == NULL);
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    const char *path = path_make();
    for (size_t i = 0; sink_at(i) != NULL; i++) {
        int status = is_there(sink_at(i)) ? FM_ENOMEM : 0;
        int failures = 0;
        for (uint64_t n = 1; n < 2000 && status != 0; n++) {
            struct fm_error error = {0};
            (void)fm_memory_fail_at(n, 0);
            status = write_and_read(sink_at(i), path, &error);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || status == FM_ENOMEM);
            failures += status != 0;
        }
        CHECK_INT_EQ(status, 0);
        CHECK(failures > 3 || !is_there(sink_at(i)));
    }
    unlink(path);
}

TEST_MAIN()
