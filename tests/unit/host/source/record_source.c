/*
 * Tests of host/source: formats by name, and csv and JSON lines read from every place of a file.
 */
#include "host/source/source.h"

#include <unistd.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { POINTS_MAX = 64, ROWS = 3000 };

static char path[64];

static void file_make(const char *data, size_t size)
{
    if (path[0] == '\0') {
        (void)snprintf(path, sizeof(path), "/tmp/fermata-source-XXXXXX");
        int descriptor = mkstemp(path);
        if (descriptor < 0) {
            abort();
        }
        (void)close(descriptor);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        abort();
    }
}

static const char *const x_names[] = {"a", "b"};
static const char *const n_names[] = {"n"};
static const char *const passed[] = {"text"};
static const struct fm_source_tensor tensors[] = {
    {.column = {.name = "x", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {2}},
     .names = x_names,
     .name_count = 2},
    {.column = {.name = "n", .dtype = FM_DTYPE_INT64}, .names = n_names, .name_count = 1},
};

static struct fm_source_spec spec_of(const struct fm_source_format *format)
{
    return (struct fm_source_spec){.format = format,
                                   .tensors = tensors,
                                   .tensor_count = 2,
                                   .id = "id",
                                   .passed = passed,
                                   .passed_count = 1,
                                   .csv = {.delimiter = ',', .quote = '"'},
                                   .csv_header = true,
                                   .record_bytes_max = 1 << 20};
}

struct points {
    struct fm_record_point items[POINTS_MAX];
    size_t count;
    size_t stop_at; /* 0: never */
};

static int take(void *context, const struct fm_record_point *point)
{
    struct points *points = context;
    if (points->count == POINTS_MAX) {
        abort();
    }
    points->items[points->count++] = *point;
    return points->stop_at > 0 && points->count == points->stop_at ? 1 : 0;
}

/* Row n of the file: its texts hold delimiters, quotes and line ends. */
static void row_write(struct fm_text *text, bool csv, int row)
{
    if (csv) {
        fm_text_append_format(text, "%d,r%d,%d,\"", row, row, 2 * row);
        for (int i = 0; i < row % 700; i++) {
            fm_text_append_string(text, i % 7 == 0 ? "\"\"" : i % 5 == 0 ? ",\n" : "x");
        }
        fm_text_append_format(text, "\",%d\r\n", 3 * row);
    } else {
        fm_text_append_format(text, "{\"text\": [%d, ", row);
        for (int i = 0; i < row % 300; i++) {
            fm_text_append_string(text, "\"}\", ");
        }
        fm_text_append_format(text, "null], \"n\":%d,\"id\":\"r%d\" , \"b\":%d,\"a\":%d}\n",
                              3 * row, row, 2 * row, row);
    }
}

static void rows_check(const struct fm_row_block *block, uint64_t first)
{
    for (uint32_t i = 0; i < block->row_count; i++) {
        char id[32];
        int32_t x[2];
        int64_t n = 0;
        int row = (int)(first + i);
        (void)snprintf(id, sizeof(id), "r%d", row);
        memcpy(x, block->tensors[0].data + i * sizeof(x), sizeof(x));
        memcpy(&n, block->tensors[1].data + i * sizeof(n), sizeof(n));
        CHECK_INT_EQ(block->rows[i].status, 0);
        CHECK_UINT_EQ(block->rows[i].row, (uint64_t)row);
        CHECK_STR_EQ(block->texts.data + block->rows[i].id, id);
        CHECK(x[0] == row && x[1] == 2 * row && n == (int64_t)3 * row);
    }
}

/* Reads a stretch of rows from the last point before it. */
static void stretch_check(const struct fm_source_spec *spec, const struct points *points,
                          const struct fm_column *columns, uint64_t first, uint64_t count)
{
    struct fm_source_reader *reader = NULL;
    struct fm_row_block block;
    size_t at = 0;
    while (at + 1 < points->count && points->items[at + 1].row <= first) {
        at++;
    }
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 2, 1, 100), 0);
    CHECK_INT_EQ(spec->format->open(spec, path, &points->items[at], &reader, NULL), 0);
    CHECK_INT_EQ(spec->format->skip(reader, first - points->items[at].row, NULL), 0);
    for (uint64_t done = 0; done < count; done += block.row_count) {
        fm_row_block_clear(&block);
        uint32_t most = count - done < 100 ? (uint32_t)(count - done) : 100;
        CHECK_INT_EQ(spec->format->read(reader, most, &block, NULL), 0);
        CHECK_UINT_EQ(block.row_count, most);
        rows_check(&block, first + done);
        if (block.row_count == 0) {
            break;
        }
    }
    spec->format->close(reader);
    fm_row_block_deinit(&block);
}

static void every_place_check(const char *name)
{
    struct fm_source_spec spec;
    const struct fm_source_format *format = NULL;
    struct points points = {0};
    struct fm_column *columns = NULL;
    struct fm_text text = {0};
    struct fm_random random;
    uint64_t rows = 0;
    CHECK_INT_EQ(fm_source_format_find(name, &format, NULL), 0);
    spec = spec_of(format);
    bool csv = strcmp(name, "csv") == 0;
    if (csv) {
        fm_text_append_string(&text, "\xEF\xBB\xBF"
                                     "a,id,b,text,n\n");
    }
    for (int row = 0; row < ROWS; row++) {
        row_write(&text, csv, row);
    }
    file_make(text.data, text.length);
    CHECK_INT_EQ(format->count(&spec, path, take, &points, &rows, NULL), 0);
    CHECK_UINT_EQ(rows, ROWS);
    CHECK(points.count > 3 && points.items[0].row == 0);
    CHECK_INT_EQ(fm_source_columns(&spec, &columns), 0);
    fm_random_init(&random, 5);
    for (int i = 0; i < 60; i++) {
        uint64_t first = fm_random_below(&random, ROWS);
        stretch_check(&spec, &points, columns, first,
                      1 + fm_random_below(&random, ROWS - first < 300 ? ROWS - first : 300));
    }
    for (size_t i = 0; i < points.count; i++) {
        stretch_check(&spec, &points, columns, points.items[i].row, 1);
    }
    stretch_check(&spec, &points, columns, 0, ROWS);
    points = (struct points){.stop_at = 2};
    CHECK_INT_EQ(format->count(&spec, path, take, &points, &rows, NULL), 1);
    fm_free(columns);
    fm_text_deinit(&text);
}

TEST(csv_is_read_from_every_place)
{
    every_place_check("csv");
}

TEST(json_lines_are_read_from_every_place)
{
    every_place_check("jsonl");
}

TEST(formats_by_name_and_by_ending)
{
    const struct fm_source_format *format = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_source_format_find("jsnol", &format, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "did you mean 'jsonl'?");
    CHECK_INT_EQ(fm_source_format_find("excel", &format, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "csv, tsv, jsonl");
    CHECK_STR_EQ(fm_source_format_of("a/b.CSV")->name, "csv");
    CHECK_STR_EQ(fm_source_format_of("b.ndjson")->name, "jsonl");
    CHECK(fm_source_format_of(".csv") == NULL);
    CHECK(fm_source_format_of("csv") == NULL);
}

TEST(what_is_wrong_with_a_file)
{
    static const struct {
        const char *text;
        const char *words;
        int status;
    } bad[] = {
        {"", "a header was expected", FM_ECORRUPT},
        {"a,id,b,text\n", "column 'n'", FM_ENOTFOUND},
        {"a,id,b,text,n,a\n", "names 'a' twice", FM_ECORRUPT},
        {"a,id,b,text,n\n1,2,3,\"open\n", "line 2", FM_ECORRUPT},
    };
    const struct fm_source_format *format = fm_source_format_of("a.csv");
    const struct fm_source_spec spec = spec_of(format);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_error error = {0};
        struct points points = {0};
        uint64_t rows = 0;
        file_make(bad[i].text, strlen(bad[i].text));
        CHECK_INT_EQ(format->count(&spec, path, take, &points, &rows, &error), bad[i].status);
        CHECK_STR_CONTAINS(error.text, bad[i].words);
        CHECK_STR_CONTAINS(error.text, path);
    }
}

TEST(a_file_that_has_become_shorter)
{
    struct fm_source_reader *reader = NULL;
    struct fm_error error = {0};
    const struct fm_source_format *format = fm_source_format_of("a.csv");
    const struct fm_source_spec spec = spec_of(format);
    static const char text[] = "a,id,b,text,n\n1,one,2,t,3\n";
    file_make(text, sizeof(text) - 1);
    CHECK_INT_EQ(format->open(&spec, path, NULL, &reader, &error), 0);
    CHECK_INT_EQ(format->skip(reader, 2, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "fewer rows");
    format->close(reader);
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    static const char *const names[] = {"csv", "jsonl"};
    for (size_t kind = 0; kind < 2; kind++) {
        const struct fm_source_format *format = NULL;
        struct fm_text text = {0};
        int status = FM_ENOMEM;
        int failures = 0;
        CHECK_INT_EQ(fm_source_format_find(names[kind], &format, NULL), 0);
        const struct fm_source_spec spec = spec_of(format);
        fm_text_append_string(&text, kind == 0 ? "a,id,b,text,n\n" : "");
        for (int row = 0; row < 20; row++) {
            row_write(&text, kind == 0, row);
        }
        file_make(text.data, text.length);
        for (uint64_t n = 1; n < 1000 && status != 0; n++) {
            struct fm_source_reader *reader = NULL;
            struct fm_column *columns = NULL;
            struct fm_row_block block = {0};
            struct points points = {0};
            struct fm_error error = {0};
            uint64_t rows = 0;
            (void)fm_memory_fail_at(n, 0);
            status = format->count(&spec, path, take, &points, &rows, &error);
            status = status != 0 ? status : fm_source_columns(&spec, &columns);
            status = status != 0 ? status : fm_row_block_init(&block, columns, 2, 1, 20);
            status =
                status != 0 ? status : format->open(&spec, path, &points.items[0], &reader, &error);
            status = status != 0 ? status : format->read(reader, 20, &block, &error);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || status == FM_ENOMEM);
            CHECK(status != 0 || (block.row_count == 20 && block.good_count == 20));
            failures += status != 0;
            if (reader != NULL) {
                format->close(reader);
            }
            fm_row_block_deinit(&block);
            fm_free(columns);
        }
        CHECK_INT_EQ(status, 0);
        CHECK(failures > 10);
        fm_text_deinit(&text);
    }
    (void)unlink(path);
}

TEST_MAIN()
