/*
 * Tests of core/source/record_scan: what is a record and what is not, points, limits, and the place
 * that errors name; scan and reader must say the same.
 */
#include "core/source/record_scan.h"

#include "tests/harness/test.h"

enum { POINTS_MAX = 32 };

struct points {
    struct fm_record_point points[POINTS_MAX];
    uint32_t count;
    uint32_t fail_at; /* 0: never */
};

static int point_take(void *context, const struct fm_record_point *point)
{
    struct points *points = context;
    if (points->count == POINTS_MAX || points->count + 1 == points->fail_at) {
        return FM_ENOMEM;
    }
    points->points[points->count++] = *point;
    return 0;
}

static const struct fm_record_options csv = {.kind = FM_RECORD_CSV,
                                             .quote = '"',
                                             .record_bytes_max = 100,
                                             .stride_rows = 1,
                                             .stride_bytes = 1000};
static const struct fm_record_options lines = {
    .kind = FM_RECORD_LINES, .record_bytes_max = 100, .stride_rows = 1, .stride_bytes = 1000};

static int scan_text(const struct fm_record_options *options, const char *text, size_t size,
                     struct points *points, struct fm_record_scan *scan, struct fm_error *reterr)
{
    *points = (struct points){0};
    fm_record_scan_init(scan, options, point_take, points);
    int status = fm_record_scan_feed(scan, text, size, reterr);
    return status != 0 ? status : fm_record_scan_finish(scan, reterr);
}

struct expected {
    const char *text;
    size_t size; /* 0: strlen */
    const struct fm_record_options *options;
    const char *records[6];
    struct fm_record_point points[6];
    uint64_t lines;
};

static const struct expected cases[] = {
    {.text = "", .options = &lines},
    {.text = "", .options = &csv},
    {.text = "a\nb\n",
     .options = &lines,
     .records = {"a", "b"},
     .points = {{0, 0, 1}, {1, 2, 2}},
     .lines = 2},
    {.text = "a\r\n\r\n \t\r\n{\"b\n\n  c",
     .options = &lines,
     .records = {"a", "{\"b", "  c"},
     .points = {{0, 0, 1}, {1, 9, 4}, {2, 14, 6}},
     .lines = 6},
    {.text = "\xEF\xBB\xBF"
             "a\nb",
     .options = &lines,
     .records = {"a", "b"},
     .points = {{0, 3, 1}, {1, 5, 2}},
     .lines = 2},
    {.text = "\xEF\xBB\xBF", .options = &csv},
    {.text = "\xEF\xBB",
     .options = &csv,
     .records = {"\xEF\xBB"},
     .points = {{0, 0, 1}},
     .lines = 1},
    {.text = "\xEF\xBBz\n",
     .options = &csv,
     .records = {"\xEF\xBBz"},
     .points = {{0, 0, 1}},
     .lines = 1},
    {.text = "1,\"a\n\"\"b\r\n\"\r\n\n\r\n \n\"\"\n2",
     .options = &csv,
     .records = {"1,\"a\n\"\"b\r\n\"", " ", "\"\"", "2"},
     .points = {{0, 0, 1}, {1, 16, 6}, {2, 18, 7}, {3, 21, 8}},
     .lines = 8},
    {.text = "a\0b\n\0\n",
     .size = 6,
     .options = &csv,
     .records = {"a", ""}, /* up to the NUL */
     .points = {{0, 0, 1}, {1, 4, 2}},
     .lines = 2},
    {.text = "x\r", .options = &csv, .records = {"x"}, .points = {{0, 0, 1}}, .lines = 1},
    {.text = "\r\r", .options = &csv, .lines = 1},
    {.text = "x\r\r\n", .options = &csv, .records = {"x\r"}, .points = {{0, 0, 1}}, .lines = 1},
};

TEST(records_are_what_the_rule_says)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct expected *expected = &cases[i];
        size_t size = expected->size > 0 ? expected->size : strlen(expected->text);
        struct points points;
        struct fm_record_scan scan;
        struct fm_error error = {0};
        CHECK_INT_EQ(scan_text(expected->options, expected->text, size, &points, &scan, &error), 0);
        uint32_t count = 0;
        while (expected->records[count] != NULL) {
            count++;
        }
        CHECK_UINT_EQ(scan.rows, count);
        CHECK_UINT_EQ(points.count, count);
        CHECK_UINT_EQ(scan.bytes, size);
        CHECK_UINT_EQ(scan.lines, expected->lines);
        struct fm_record_reader reader;
        fm_record_reader_init(&reader, expected->options, NULL);
        size_t at = 0;
        for (uint32_t k = 0; k <= count; k++) {
            struct fm_record record;
            size_t used = 0;
            int status = fm_record_reader_next(&reader, expected->text + at, size - at, true,
                                               &record, &used, &error);
            at += used;
            CHECK_INT_EQ(status, k < count);
            if (k < count) {
                CHECK_UINT_EQ(points.points[k].row, expected->points[k].row);
                CHECK_UINT_EQ(points.points[k].offset, expected->points[k].offset);
                CHECK_UINT_EQ(points.points[k].line, expected->points[k].line);
                CHECK_MEM_EQ(&points.points[k], &record.at, sizeof record.at);
                CHECK(!record.header && record.size >= strlen(expected->records[k]));
                CHECK_MEM_EQ(record.data, expected->records[k], strlen(expected->records[k]));
                CHECK(memchr(record.data, '\0', record.size) != NULL ||
                      record.size == strlen(expected->records[k]));
            }
        }
        CHECK_UINT_EQ(at, size);
    }
}

TEST(a_header_is_no_row)
{
    static const char text[] = "\r\n\"a\nb\",c\r\n1,2\n3,4\n";
    struct fm_record_options options = csv;
    options.header = true;
    struct points points;
    struct fm_record_scan scan;
    CHECK_INT_EQ(scan_text(&options, text, strlen(text), &points, &scan, NULL), 0);
    CHECK_UINT_EQ(scan.rows, 2);
    CHECK_UINT_EQ(scan.header_offset, 2);
    CHECK_UINT_EQ(scan.header_size, 7);
    CHECK_UINT_EQ(points.count, 2);
    CHECK_UINT_EQ(points.points[0].row, 0);
    CHECK_UINT_EQ(points.points[0].offset, 11);
    CHECK_UINT_EQ(points.points[0].line, 4);
    struct fm_record_reader reader;
    struct fm_record record;
    size_t used = 0;
    fm_record_reader_init(&reader, &options, NULL);
    CHECK_INT_EQ(fm_record_reader_next(&reader, text, strlen(text), false, &record, &used, NULL),
                 1);
    CHECK(record.header && record.size == 7 && record.at.offset == 2);
    CHECK_UINT_EQ(reader.next.row, 0);
    CHECK_INT_EQ(fm_record_reader_next(&reader, text + used, strlen(text) - used, false, &record,
                                       &used, NULL),
                 1);
    CHECK(!record.header && record.at.row == 0 && record.at.line == 4);
    /* The header cut into its bytes has the same size. */
    fm_record_scan_init(&scan, &options, NULL, NULL);
    for (size_t i = 0; i < strlen(text); i++) {
        CHECK_INT_EQ(fm_record_scan_feed(&scan, text + i, 1, NULL), 0);
    }
    CHECK_INT_EQ(fm_record_scan_finish(&scan, NULL), 0);
    CHECK_UINT_EQ(scan.header_size, 7);
    CHECK_UINT_EQ(scan.rows, 2);
    /* A file of nothing has none. */
    CHECK_INT_EQ(scan_text(&options, "\n", 1, &points, &scan, NULL), 0);
    CHECK_UINT_EQ(scan.header_size, 0);
}

TEST(points_keep_their_strides)
{
    char text[400];
    struct fm_record_options options = csv;
    struct points points;
    struct fm_record_scan scan;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = i % 10 == 9 ? '\n' : 'x';
    }
    options.stride_rows = 7;
    CHECK_INT_EQ(scan_text(&options, text, sizeof text, &points, &scan, NULL), 0);
    CHECK_UINT_EQ(points.count, 6);
    for (uint32_t i = 0; i < points.count; i++) {
        CHECK_UINT_EQ(points.points[i].row, 7 * i);
        CHECK_UINT_EQ(points.points[i].offset, 70 * i);
        CHECK_UINT_EQ(points.points[i].line, 7 * i + 1);
    }
    options.stride_bytes = 41;
    CHECK_INT_EQ(scan_text(&options, text, sizeof text, &points, &scan, NULL), 0);
    CHECK_UINT_EQ(points.count, 8);
    CHECK_UINT_EQ(points.points[1].row, 5);
    /* Whoever has no place for a point ends the scan, once and for all. */
    struct fm_error error = {0};
    points = (struct points){.fail_at = 3};
    fm_record_scan_init(&scan, &options, point_take, &points);
    CHECK_INT_EQ(fm_record_scan_feed(&scan, text, sizeof text, &error), FM_ENOMEM);
    CHECK_STR_EQ(error.text, "line 11 (byte 100): no place for an index point");
    CHECK_INT_EQ(fm_record_scan_feed(&scan, text, sizeof text, &error), FM_ENOMEM);
    CHECK_STR_CONTAINS(error.text, "failed before");
    CHECK_INT_EQ(fm_record_scan_finish(&scan, NULL), FM_ENOMEM);
    CHECK_UINT_EQ(points.count, 2);
}

/* The same failure from the scan, in pieces of every size, and from the reader. */
static void check_failure(const struct fm_record_options *options, const char *text, int status,
                          const char *says)
{
    size_t size = strlen(text);
    for (size_t piece = 1; piece <= size; piece++) {
        struct fm_record_scan scan;
        struct fm_error error = {0};
        int got = 0;
        fm_record_scan_init(&scan, options, NULL, NULL);
        for (size_t at = 0; at < size && got == 0; at += piece) {
            size_t count = size - at < piece ? size - at : piece;
            got = fm_record_scan_feed(&scan, text + at, count, &error);
        }
        got = got != 0 ? got : fm_record_scan_finish(&scan, &error);
        CHECK_INT_EQ(got, status);
        CHECK_STR_EQ(error.text, says);
    }
    struct fm_record_reader reader;
    struct fm_error error = {0};
    struct fm_record record;
    int got = 1;
    size_t at = 0;
    fm_record_reader_init(&reader, options, NULL);
    for (size_t used = 0; got == 1; at += used) {
        got = fm_record_reader_next(&reader, text + at, size - at, true, &record, &used, &error);
    }
    CHECK_INT_EQ(got, status);
    CHECK_STR_EQ(error.text, says);
}

TEST(an_open_quote_is_placed)
{
    static const char says[] = "line 2 (byte 5): the quote that opens here is never closed";
    struct fm_record_options options = csv;
    check_failure(&options, "a,b\n1\"", FM_ECORRUPT, says);
    check_failure(&options, "a,b\n1\"\n2,3\n", FM_ECORRUPT, says);
    check_failure(&options, "a,b\n1\"\"\"\n2,3\"\"\n4", FM_ECORRUPT, says);
    check_failure(&options, "\"a\"\n,\"", FM_ECORRUPT, says);
    /* In a later block than the record's beginning. */
    options.record_bytes_max = 1000;
    check_failure(&options,
                  "a,bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,\"c\n\","
                  "ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd,\"e\n",
                  FM_ECORRUPT, "line 2 (byte 139): the quote that opens here is never closed");
    /* Without quoting a quote is like any other character. */
    struct points points;
    struct fm_record_scan scan;
    options.quote = '\0';
    CHECK_INT_EQ(scan_text(&options, "a\"\nb\n", 5, &points, &scan, NULL), 0);
    CHECK_UINT_EQ(scan.rows, 2);
}

TEST(a_long_record_is_refused)
{
    struct fm_record_options options = lines;
    options.record_bytes_max = 4;
    struct points points;
    struct fm_record_scan scan;
    CHECK_INT_EQ(scan_text(&options, "1234\n5678", 9, &points, &scan, NULL), 0);
    CHECK_UINT_EQ(scan.rows, 2);
    check_failure(&options, "1234\n56789\n", FM_ETOOLARGE,
                  "line 2 (byte 5): the record that begins here is longer than 4 bytes");
    check_failure(&options, "1234\n56789abcdef", FM_ETOOLARGE,
                  "line 2 (byte 5): the record that begins here is longer than 4 bytes");
    check_failure(&options, "\n\n       \n1\n", FM_ETOOLARGE,
                  "line 3 (byte 2): the record that begins here is longer than 4 bytes");
    options = csv;
    options.record_bytes_max = 4;
    check_failure(&options, "1\n\"2\n3\n4\n5\n6\n", FM_ETOOLARGE,
                  "line 2 (byte 2): the record that begins here is longer than 4 bytes; is there a "
                  "quote in it that is never closed?");
}

TEST(a_reader_waits_for_the_whole_record)
{
    static const char text[] = "\xEF\xBB\xBF\n1,\"a\nb\"\n2\n";
    struct fm_record_reader reader;
    struct fm_record record;
    size_t used = 0;
    size_t taken = 0;
    uint32_t records = 0;
    fm_record_reader_init(&reader, &csv, NULL);
    for (size_t size = 0; size <= strlen(text); size++) {
        /* Each byte alone, behind what was left over. */
        int status =
            fm_record_reader_next(&reader, text + taken, size - taken, false, &record, &used, NULL);
        taken += used;
        records += status == 1;
        CHECK_INT_EQ(status, size == 12 || size == 14);
        CHECK_UINT_EQ(reader.next.offset, taken);
    }
    CHECK_UINT_EQ(records, 2);
    CHECK_UINT_EQ(taken, strlen(text));
    CHECK_UINT_EQ(record.at.line, 4);
    CHECK_UINT_EQ(reader.next.line, 5);
    CHECK_UINT_EQ(reader.next.row, 2);
}

TEST_MAIN()
