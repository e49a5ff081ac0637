/*
 * Fuzzes core/source: whatever the bytes, the scan in pieces, the scan of the whole and the reader
 * agree on records, places and failures; what the parser accepts holds its fields within the record
 * or the scratch text, and quoting them again gives the same fields; a field is a value of every
 * type, or an error with words; the fast way for numbers says nothing else than the slow one. The
 * first two bytes choose the options and the cut.
 */
#include <stdlib.h>
#include <string.h>

#include "core/source/column.h"
#include "core/source/csv.h"
#include "core/source/csv_numbers.h"
#include "core/source/record_scan.h"
#include "tests/fuzz/check.h"

enum { FIELDS_MAX = 16, CUT_MAX = 80 };

/* Points as a number: order and places are in it. */
struct seen {
    uint64_t hash;
    uint64_t count;
};

static int point_take(void *context, const struct fm_record_point *point)
{
    struct seen *seen = context;
    seen->hash = ((seen->hash * 31 + point->row) * 31 + point->offset) * 31 + point->line;
    seen->count++;
    return 0;
}

static int scan(const struct fm_record_options *options, const uint8_t *data, size_t size,
                size_t piece, struct fm_record_scan *scanned, struct seen *seen,
                struct fm_error *error)
{
    int status = 0;
    fm_record_scan_init(scanned, options, point_take, seen);
    for (size_t at = 0; at < size && status == 0; at += piece) {
        status =
            fm_record_scan_feed(scanned, data + at, size - at < piece ? size - at : piece, error);
    }
    return status != 0 ? status : fm_record_scan_finish(scanned, error);
}

/* The fields, each in quotes, are the same fields again. */
static void quote_again(const struct fm_csv_options *options, const struct fm_csv_field *fields,
                        uint32_t count)
{
    struct fm_csv_field again[FIELDS_MAX];
    struct fm_text text = {0};
    struct fm_text scratch = {0};
    uint32_t again_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        fm_text_append(&text, &options->delimiter, i > 0);
        fm_text_append_char(&text, options->quote);
        for (size_t k = 0; k < fields[i].size; k++) {
            fm_text_append_char(&text, fields[i].data[k]);
            fm_text_append(&text, &options->quote, fields[i].data[k] == options->quote);
        }
        fm_text_append_char(&text, options->quote);
    }
    FUZZ_CHECK(fm_csv_record_parse(options, text.data, text.length, &scratch, again, FIELDS_MAX,
                                   &again_count, NULL) == 0);
    FUZZ_CHECK(again_count == count);
    for (uint32_t i = 0; i < count && i < again_count; i++) {
        FUZZ_CHECK(again[i].size == fields[i].size &&
                   memcmp(again[i].data, fields[i].data, fields[i].size) == 0);
    }
    fm_text_deinit(&text);
    fm_text_deinit(&scratch);
}

static void field_to_values(const struct fm_csv_field *field)
{
    for (uint32_t dtype = 0; dtype < FM_DTYPE_COUNT_; dtype++) {
        for (uint32_t rank = 0; rank < 3; rank++) {
            const struct fm_column column = {
                .name = "x", .dtype = dtype, .rank = rank, .shape = {rank == 2 ? -1 : 2, 2}};
            struct fm_text out = {0};
            struct fm_error error = {0};
            int64_t shape[FM_RANK_MAX] = {0};
            if (fm_column_check(&column, &error) != 0) {
                continue;
            }
            int status =
                fm_column_from_field(&column, field->data, field->size, &out, shape, &error);
            struct fm_tensor tensor = {
                .dtype = dtype, .rank = rank, .data = out.data, .size = out.length};
            memcpy(tensor.shape, shape, sizeof shape);
            FUZZ_CHECK(status == 0 ? fm_tensor_check(&tensor, &error) == 0
                                   : out.length == 0 && error.text[0] != '\0');
            fm_text_deinit(&out);
        }
    }
}

/* What the fast way accepts, with any field as text, are the fields of the slow way. */
static void numbers_parse(const struct fm_csv_options *options, const char *data, size_t size,
                          const struct fm_csv_field *fields, uint32_t count)
{
    const struct fm_column column = {.name = "x", .dtype = FM_DTYPE_FP32};
    for (uint32_t texts = 0; texts < 4 && count > 0; texts++) {
        struct fm_csv_field views[FIELDS_MAX];
        uint32_t places[FIELDS_MAX];
        float elements[FIELDS_MAX];
        for (uint32_t i = 0; i < count; i++) {
            places[i] = (texts >> (i % 2) & 1) != 0 ? FM_CSV_NUMBERS_TEXT : i;
        }
        if (!fm_csv_numbers_parse(options, data, size, places, count, elements, views)) {
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            struct fm_text out = {0};
            if (places[i] == FM_CSV_NUMBERS_TEXT) {
                FUZZ_CHECK(views[i].data == fields[i].data && views[i].size == fields[i].size);
            } else {
                FUZZ_CHECK(fm_column_from_field(&column, fields[i].data, fields[i].size, &out, NULL,
                                                NULL) == 0);
                FUZZ_CHECK(memcmp(out.data, &elements[i], sizeof(elements[i])) == 0);
            }
            fm_text_deinit(&out);
        }
    }
}

/* True when it was accepted. */
static bool record_parse(const struct fm_csv_options *options, const struct fm_record *record)
{
    struct fm_csv_field fields[FIELDS_MAX];
    struct fm_text scratch = {0};
    struct fm_error error = {0};
    uint32_t count = 0;
    /* A copy of the exact size, so that a read beyond the end is seen. */
    char *copy = malloc(record->size + 1);
    if (copy == NULL) {
        return false;
    }
    memcpy(copy, record->data, record->size);
    int status = fm_csv_record_parse(options, copy, record->size, &scratch, fields, FIELDS_MAX,
                                     &count, &error);
    FUZZ_CHECK(status == 0 ? count > 0 && count <= FIELDS_MAX : error.text[0] != '\0');
    for (uint32_t i = 0; i < count && status == 0; i++) {
        const char *data = fields[i].data;
        FUZZ_CHECK((record->size == 0 && fields[i].size == 0) ||
                   (data >= copy && data + fields[i].size <= copy + record->size) ||
                   (scratch.data != NULL && data >= scratch.data &&
                    data + fields[i].size <= scratch.data + scratch.length));
        if (i < 2) {
            field_to_values(&fields[i]);
        }
    }
    if (status == 0 && options->quote != '\0') {
        quote_again(options, fields, count);
    }
    numbers_parse(options, copy, record->size, fields, status == 0 ? count : 0);
    struct fm_csv_header header = {0};
    if (fm_csv_header_init(&header, options, copy, record->size, &error) == 0) {
        FUZZ_CHECK(status != 0 || header.count == count);
        fm_csv_header_deinit(&header);
    }
    free(copy);
    fm_text_deinit(&scratch);
    return status == 0;
}

/*
 * A record that the parser accepts is one by the parser's own measure, too: cut short at a line end
 * within quotes it is none.
 */
static void cut_record(const struct fm_csv_options *options, const struct fm_record *record)
{
    struct fm_csv_field fields[FIELDS_MAX];
    struct fm_text scratch = {0};
    const char *feed = record->size > 0 ? memchr(record->data, '\n', record->size) : NULL;
    uint32_t count = 0;
    if (feed != NULL) {
        FUZZ_CHECK(fm_csv_record_parse(options, record->data, (size_t)(feed - record->data),
                                       &scratch, fields, FIELDS_MAX, &count, NULL) == FM_ECORRUPT);
    }
    fm_text_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned form = size > 0 ? data[0] : 0;
    size_t piece = size > 1 ? 1 + data[1] % CUT_MAX : 1;
    const struct fm_csv_options csv = {.delimiter = (form & 1u) != 0 ? '\t' : ',',
                                       .quote = (form & 2u) != 0 ? '\0' : '"'};
    const struct fm_record_options options = {
        .kind = (form & 4u) != 0 ? FM_RECORD_LINES : FM_RECORD_CSV,
        .quote = csv.quote,
        .header = (form & 8u) != 0,
        .record_bytes_max = (form & 16u) != 0 ? 20 : 1 << 20,
        .stride_rows = 1,
        .stride_bytes = 1,
    };
    struct fm_record_scan whole;
    struct fm_record_scan pieces;
    struct seen seen = {0};
    struct seen pieces_seen = {0};
    struct seen read_seen = {0};
    struct fm_error error = {0};
    struct fm_error pieces_error = {0};
    struct fm_error read_error = {0};
    data += size < 2 ? size : 2;
    size -= size < 2 ? size : 2;
    int status = scan(&options, data, size, size + 1, &whole, &seen, &error);
    FUZZ_CHECK(scan(&options, data, size, piece, &pieces, &pieces_seen, &pieces_error) == status);
    FUZZ_CHECK(seen.count == pieces_seen.count && seen.hash == pieces_seen.hash);
    FUZZ_CHECK(strcmp(error.text, pieces_error.text) == 0 && whole.rows == seen.count);
    FUZZ_CHECK(status != 0 || (whole.bytes == size && whole.lines == pieces.lines));

    struct fm_record_reader reader;
    struct fm_record record;
    size_t at = 0;
    int found = 1;
    fm_record_reader_init(&reader, &options, NULL);
    while (found == 1) {
        size_t used = 0;
        found = fm_record_reader_next(&reader, (const char *)data + at, size - at, true, &record,
                                      &used, &read_error);
        at += used;
        if (found == 1 && !record.header) {
            (void)point_take(&read_seen, &record.at);
        }
        if (found == 1 && options.kind == FM_RECORD_CSV && record_parse(&csv, &record)) {
            cut_record(&csv, &record);
        }
    }
    FUZZ_CHECK(found == status && strcmp(error.text, read_error.text) == 0);
    FUZZ_CHECK(read_seen.count == seen.count && read_seen.hash == seen.hash);
    FUZZ_CHECK(found != 0 || (at == size && !fm_fuzz_canary));
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "  id,age,text\n1,20,\"a, \"\"b\"\"\nc\"\r\n2,+3.5e1,\"\"\n",
        "(\x05name\r\n\"x\ny\"\r\n\r\nz",
        "!\x3Fid\tv\n1\t\"[1,2]\"\n2\t[[1,2],[3,4]]\n3\tnan\n",
        "\"\x07"
        "a\"b,c\n5\" disk,true\n",
        "$\x09{\"a\": [1, 2]}\n\n  \t\r\n{\"a\": \"\\n\"}",
        "0\x11short\n\"a record that is too long\"\n",
        "  \xEF\xBB\xBF\"a\",\"never closed\n1,2\n",
        " @a,b,\"0123456789012345678901234567890123456789012345678901234567890123456789\"\"\n\","
        "\"\"\"\"\nc,d,e,f\n",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
