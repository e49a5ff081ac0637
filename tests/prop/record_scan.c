/*
 * core/source over random texts made from known fields: however a text is cut into pieces, the scan
 * gives the same points and counts; scanning and parsing give the fields back; each point is a
 * place to start from, at which a reader finds the same records as from the beginning. Seeded.
 */
#include "core/source/record_scan.h"

#include "core/proto/json.h"
#include "core/source/csv.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { CASES = 1000, RECORDS_MAX = 60, COLUMNS_MAX = 5, FIELD_MAX = 40, TEXT_MAX = 1 << 16 };

struct field {
    char data[FIELD_MAX];
    size_t size;
};

/* A text and what it was made from. */
struct sample {
    struct fm_random random;
    struct fm_record_options options;
    struct fm_csv_options csv;
    uint32_t column_count;
    uint32_t record_count; /* with the header, if there is one */
    struct field fields[RECORDS_MAX][COLUMNS_MAX];
    struct fm_record_point starts[RECORDS_MAX]; /* row: with the header counted */
    char text[TEXT_MAX];
    size_t size;
    uint64_t line;
};

struct index {
    struct fm_record_point points[RECORDS_MAX];
    uint32_t count;
    uint64_t rows;
    uint64_t lines;
    uint64_t bytes;
    uint64_t header_offset;
    uint64_t header_size;
};

static uint64_t below(struct sample *sample, uint64_t bound)
{
    return fm_random_below(&sample->random, bound);
}

static void put(struct sample *sample, const char *data, size_t size)
{
    for (size_t i = 0; i < size && sample->size < TEXT_MAX; i++) {
        sample->text[sample->size++] = data[i];
        sample->line += data[i] == '\n';
    }
}

static void put_end(struct sample *sample)
{
    put(sample, "\r", below(sample, 2));
    put(sample, "\n", 1);
}

static void field_make(struct sample *sample, struct field *field)
{
    static const char alphabet[] = "ab,;\t\"\"'\r\n\n \0\xC3\xA9[{1";
    field->size = below(sample, 8) == 0 ? below(sample, FIELD_MAX + 1) : below(sample, 5);
    for (size_t i = 0; i < field->size; i++) {
        field->data[i] = alphabet[below(sample, sizeof alphabet - 1)];
    }
    if (sample->csv.quote == '\0') {
        /* Then there is no way to write these. */
        for (size_t i = 0; i < field->size; i++) {
            char *byte = &field->data[i];
            *byte = *byte == sample->csv.delimiter || *byte == '\n' || *byte == '\r' ? 'x' : *byte;
        }
    }
}

static bool needs_quotes(const struct sample *sample, const struct field *field)
{
    if (sample->csv.quote == '\0' || field->size == 0) {
        return false;
    }
    for (size_t i = 0; i < field->size; i++) {
        char byte = field->data[i];
        if (byte == sample->csv.delimiter || byte == sample->csv.quote || byte == '\n' ||
            byte == '\r') {
            return true;
        }
    }
    return false;
}

static void csv_record_put(struct sample *sample, struct field *fields)
{
    for (uint32_t i = 0; i < sample->column_count; i++) {
        struct field *field = &fields[i];
        field_make(sample, field);
        if (sample->column_count == 1 && field->size == 0 && sample->csv.quote == '\0') {
            *field = (struct field){.data = {'y'}, .size = 1};
        }
        bool alone = sample->column_count == 1 && field->size == 0;
        bool quoted = needs_quotes(sample, field) || alone ||
                      (sample->csv.quote != '\0' && below(sample, 4) == 0);
        put(sample, &sample->csv.delimiter, i > 0);
        put(sample, &sample->csv.quote, quoted);
        for (size_t k = 0; k < field->size; k++) {
            put(sample, &field->data[k], 1);
            put(sample, &sample->csv.quote, quoted && field->data[k] == sample->csv.quote);
        }
        put(sample, &sample->csv.quote, quoted);
    }
}

/* A line of JSON: an array with one string. */
static void json_record_put(struct sample *sample, struct field *fields)
{
    char memory[512];
    struct fm_text text;
    struct fm_json_writer writer;
    field_make(sample, &fields[0]);
    fm_text_begin(&text, memory, sizeof memory);
    fm_json_writer_init(&writer, &text);
    fm_json_array_begin(&writer);
    fm_json_string_n(&writer, fields[0].data, fields[0].size);
    fm_json_array_end(&writer);
    put(sample, " ", below(sample, 2));
    put(sample, text.data, text.length);
    put(sample, "\t", below(sample, 2));
    fm_text_deinit(&text);
}

static void sample_make(struct sample *sample, uint64_t seed)
{
    *sample = (struct sample){.line = 1};
    fm_random_init(&sample->random, seed);
    bool csv = below(sample, 3) > 0;
    sample->csv.delimiter = below(sample, 2) == 0 ? ',' : '\t';
    sample->csv.quote = below(sample, 5) == 0 ? '\0' : below(sample, 4) == 0 ? '\'' : '"';
    sample->options = (struct fm_record_options){
        .kind = csv ? FM_RECORD_CSV : FM_RECORD_LINES,
        .quote = sample->csv.quote,
        .header = csv && below(sample, 2) == 0,
        .record_bytes_max = TEXT_MAX,
        .stride_rows = 1 + below(sample, 8),
        .stride_bytes = 1 + below(sample, 300),
    };
    sample->column_count = csv ? 1 + (uint32_t)below(sample, COLUMNS_MAX) : 1;
    sample->record_count = (uint32_t)below(sample, below(sample, 4) == 0 ? RECORDS_MAX + 1 : 9);
    if (below(sample, 3) == 0) {
        put(sample, "\xEF\xBB\xBF", 3);
    }
    for (uint32_t i = 0; i < sample->record_count; i++) {
        while (below(sample, 6) == 0) {
            put(sample, "  ", csv ? 0 : below(sample, 3));
            put_end(sample);
        }
        sample->starts[i] =
            (struct fm_record_point){.row = i, .offset = sample->size, .line = sample->line};
        (csv ? csv_record_put : json_record_put)(sample, sample->fields[i]);
        if (i + 1 < sample->record_count || below(sample, 3) > 0) {
            put_end(sample);
        }
    }
}

static int point_take(void *context, const struct fm_record_point *point)
{
    struct index *index = context;
    if (index->count == RECORDS_MAX) {
        return FM_ELIMIT;
    }
    index->points[index->count++] = *point;
    return 0;
}

/* The first piece and those behind it have these sizes, as far as there is text. */
static bool scan_pieces(struct sample *sample, size_t first, size_t step, struct index *ret_index)
{
    struct fm_record_scan scan;
    struct fm_error error = {0};
    size_t at = 0;
    int status = 0;
    memset(ret_index, 0, sizeof *ret_index);
    fm_record_scan_init(&scan, &sample->options, point_take, ret_index);
    for (size_t size = first; status == 0; size = step) {
        size = size < sample->size - at ? size : sample->size - at;
        /* A copy of the exact size, so that a read beyond its end is seen. */
        char *piece = malloc(size + (size == 0));
        if (piece == NULL) {
            return false;
        }
        memcpy(piece, sample->text + at, size);
        status = fm_record_scan_feed(&scan, piece, size, &error);
        free(piece);
        at += size;
        if (at == sample->size) {
            break;
        }
    }
    status = status != 0 ? status : fm_record_scan_finish(&scan, &error);
    if (status != 0) {
        printf("# %s\n", error.text);
        return false;
    }
    ret_index->rows = scan.rows;
    ret_index->lines = scan.lines;
    ret_index->bytes = scan.bytes;
    ret_index->header_offset = scan.header_offset;
    ret_index->header_size = scan.header_size;
    return true;
}

static void check_pieces(struct sample *sample, const struct index *whole)
{
    struct index index;
    size_t step = sample->size <= 400 ? 1 : 1 + sample->size / 400;
    for (size_t split = 0; split <= sample->size; split += step) {
        CHECK(scan_pieces(sample, split, SIZE_MAX, &index));
        CHECK_MEM_EQ(&index, whole, sizeof index);
    }
    for (size_t size = 1; size <= 130; size += size < 9 ? 1 : 11) {
        CHECK(scan_pieces(sample, size, size, &index));
        CHECK_MEM_EQ(&index, whole, sizeof index);
    }
}

/* The points are those of records, at the strides. */
static void check_index(const struct sample *sample, const struct index *index)
{
    uint32_t header = sample->options.header && sample->record_count > 0;
    CHECK_UINT_EQ(index->rows, sample->record_count - header);
    CHECK_UINT_EQ(index->bytes, sample->size);
    CHECK_UINT_EQ(index->header_offset, header ? sample->starts[0].offset : 0);
    const struct fm_record_point *last = NULL;
    uint32_t count = 0;
    for (uint32_t i = header; i < sample->record_count; i++) {
        struct fm_record_point start = sample->starts[i];
        start.row -= header;
        if (last == NULL || start.row - last->row >= sample->options.stride_rows ||
            start.offset - last->offset >= sample->options.stride_bytes) {
            CHECK(count < index->count);
            CHECK_MEM_EQ(&index->points[count], &start, sizeof start);
            last = &index->points[count++];
        }
    }
    CHECK_UINT_EQ(index->count, count);
}

static void check_record(const struct sample *sample, const struct fm_record *record,
                         const struct field *expected)
{
    struct fm_csv_field fields[COLUMNS_MAX];
    struct fm_text scratch = {0};
    uint32_t count = 1;
    if (sample->options.kind == FM_RECORD_CSV) {
        CHECK_INT_EQ(fm_csv_record_parse(&sample->csv, record->data, record->size, &scratch, fields,
                                         COLUMNS_MAX, &count, NULL),
                     0);
    } else {
        struct fm_json_reader reader;
        fm_json_reader_init(&reader, record->data, record->size);
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_ARRAY_BEGIN);
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_STRING);
        fm_json_decode(&reader, &scratch);
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_ARRAY_END);
        CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_END);
        fields[0] = (struct fm_csv_field){.data = scratch.data, .size = scratch.length};
    }
    CHECK_UINT_EQ(count, sample->column_count);
    for (uint32_t i = 0; i < count; i++) {
        /* Malformed UTF-8 is changed by the writer of JSON. */
        if (sample->options.kind == FM_RECORD_CSV) {
            CHECK_UINT_EQ(fields[i].size, expected[i].size);
            CHECK_MEM_EQ(fields[i].data, expected[i].data, fields[i].size);
        }
    }
    fm_text_deinit(&scratch);
}

/* Reads from the point (NULL: the beginning) to the end, with `more` new bytes at a time. */
static void check_reading(struct sample *sample, const struct fm_record_point *point, size_t more)
{
    struct fm_record_reader reader;
    uint32_t header = sample->options.header && sample->record_count > 0;
    uint32_t number = point != NULL ? (uint32_t)point->row + header : 0;
    size_t from = point != NULL ? (size_t)point->offset : 0;
    size_t to = from;
    bool over = false;
    fm_record_reader_init(&reader, &sample->options, point);
    while (!over) {
        struct fm_record record;
        size_t used = 0;
        bool end = to == sample->size;
        char *window = malloc(to - from + (to == from)); /* exact, for the address sanitizer */
        CHECK(window != NULL);
        memcpy(window, sample->text + from, to - from);
        int status = fm_record_reader_next(&reader, window, to - from, end, &record, &used, NULL);
        CHECK(status >= 0 && used <= to - from);
        from += used;
        CHECK_UINT_EQ(reader.next.offset, from);
        if (status == 1) {
            CHECK(number < sample->record_count);
            struct fm_record_point start = sample->starts[number];
            start.row -= header && number > 0;
            CHECK_MEM_EQ(&record.at, &start, sizeof start);
            CHECK(record.header == (header && number == 0));
            check_record(sample, &record, sample->fields[number]);
            number++;
        } else {
            over = end;
            to = sample->size - to < more ? sample->size : to + more;
        }
        free(window);
        if (fm_test_failed != 0) {
            return;
        }
    }
    CHECK_UINT_EQ(number, sample->record_count);
    CHECK_UINT_EQ(from, sample->size);
}

static void check_sample(struct sample *sample)
{
    static struct index whole;
    CHECK(sample->size < TEXT_MAX);
    CHECK(scan_pieces(sample, SIZE_MAX, SIZE_MAX, &whole));
    check_index(sample, &whole);
    if (fm_test_failed == 0) {
        check_pieces(sample, &whole);
    }
    for (size_t more = 1; more <= TEXT_MAX && fm_test_failed == 0; more *= 16) {
        check_reading(sample, NULL, more);
        for (uint32_t i = 0; i < whole.count && fm_test_failed == 0; i++) {
            check_reading(sample, &whole.points[i], more * 4);
        }
    }
}

TEST(texts_come_back)
{
    static struct sample sample;
    for (uint64_t seed = 0; seed < CASES && fm_test_failed == 0; seed++) {
        sample_make(&sample, seed);
        check_sample(&sample);
        if (fm_test_failed != 0) {
            printf("# seed %" PRIu64 "\n", seed);
        }
    }
}

TEST_MAIN()
