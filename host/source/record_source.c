/*
 * Formats whose files are records of text: csv, tsv, jsonl and openai_batch.
 *
 * HOW IT WORKS. Counting runs the scan of core/source/record_scan over the file once, which gives
 * the points. A reader begins at a point, takes record after record out of a buffer, and makes each
 * wanted column of it a part of its tensor's row: a "cell". A record whose shapes do not fit into
 * the block is kept for the next one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/source/csv_numbers.h"
#include "core/source/request_line.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/source/byte_stream.h"
#include "host/source/cells.h"
#include "host/source/formats.h"

enum { CHUNK_BYTES = 1 << 18, SCAN_BYTES = 1 << 20 };
#define STRIDE_BYTES UINT64_C(262144)
#define STRIDE_ROWS  UINT64_C(65536)

/* Where a wanted column lies: for csv its field, for jsonl the value in the record at hand. */
struct place {
    const char *name;
    uint32_t field;
    const char *value; /* NULL: the record has none */
    size_t size;
};

struct record_reader {
    struct fm_source_reader base;
    const struct fm_source_spec *spec;
    struct fm_record_options options;
    struct fm_byte_stream file;
    struct fm_record_reader records;
    char *buffer;
    size_t capacity;
    size_t start; /* of what is not used up */
    size_t end;
    bool file_ended;
    struct fm_record record;
    bool pending; /* the record has not been given yet */
    struct fm_source_cells cells;
    uint32_t *types;      /* of what is passed, of csv */
    struct place *places; /* by cell, then the id, then what is passed */
    uint32_t next_place;  /* where the next member of an object is looked for first */
    struct fm_csv_header header;
    struct fm_csv_field *fields;
    /* Of CSV whose cells are all elements of FP32: which one a field is; otherwise NULL. */
    uint32_t *elements_of;
    float *elements;
    bool plain; /* the record at hand has its cells in `elements` */
    struct fm_text scratch;
    struct fm_request_line request; /* of openai_batch: the record at hand */
};

static bool is_csv(const struct fm_source_spec *spec)
{
    return spec->format != &fm_source_jsonl && spec->format != &fm_source_openai_batch;
}

static bool is_requests(const struct fm_source_spec *spec)
{
    return spec->format == &fm_source_openai_batch;
}

static void options_make(const struct fm_source_spec *spec, struct fm_record_options *ret_options)
{
    *ret_options = (struct fm_record_options){
        .kind = is_csv(spec) ? FM_RECORD_CSV : FM_RECORD_LINES,
        .quote = is_csv(spec) ? spec->csv.quote : '\0',
        .header = is_csv(spec) && spec->csv_header,
        .record_bytes_max = spec->record_bytes_max,
        .stride_rows = STRIDE_ROWS,
        .stride_bytes = STRIDE_BYTES,
    };
}

static struct record_reader *record_reader_of(struct fm_source_reader *reader)
{
    return (struct record_reader *)(void *)reader;
}

/* --- Records --- */

static int buffer_fill(struct record_reader *reader, struct fm_error *reterr)
{
    size_t left = reader->end - reader->start;
    size_t got = 0;
    if (left == reader->capacity) {
        size_t capacity = reader->capacity == 0 ? CHUNK_BYTES : reader->capacity * 2;
        char *grown = fm_realloc(reader->buffer, capacity);
        if (grown == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for a record of %zu bytes", left);
        }
        reader->buffer = grown;
        reader->capacity = capacity;
    }
    memmove(reader->buffer, reader->buffer + reader->start, left);
    reader->start = 0;
    reader->end = left;
    int status =
        fm_byte_stream_read_at(&reader->file, reader->records.next.offset + left,
                               reader->buffer + left, reader->capacity - left, &got, reterr);
    reader->end += got;
    reader->file_ended = status == 0 && reader->end < reader->capacity;
    return status;
}

/* 1: the record is there; 0: the file is over. */
static int record_next(struct record_reader *reader, struct fm_error *reterr)
{
    for (;;) {
        size_t used = 0;
        int status = 0;
        if (reader->capacity > 0) {
            status = fm_record_reader_next(&reader->records, reader->buffer + reader->start,
                                           reader->end - reader->start, reader->file_ended,
                                           &reader->record, &used, reterr);
            reader->start += used;
        }
        if (status != 0 || reader->file_ended) {
            return status < 0 ? fm_error_prefix(reterr, status, "%s", reader->file.file.path)
                              : status;
        }
        status = buffer_fill(reader, reterr);
        if (status != 0) {
            return status;
        }
    }
}

/* --- Cells --- */

static int places_make(struct record_reader *reader)
{
    int status = fm_source_cells_make(&reader->cells, reader->spec);
    if (status != 0) {
        return status;
    }
    reader->places = fm_alloc_zero(reader->cells.name_count, sizeof(*reader->places));
    for (uint32_t i = 0; reader->places != NULL && i < reader->cells.name_count; i++) {
        reader->places[i].name = reader->cells.names[i];
    }
    if (is_csv(reader->spec)) {
        reader->types = fm_alloc(sizeof(*reader->types) * (reader->spec->passed_count + 1));
        for (uint32_t i = 0; reader->types != NULL && i < reader->spec->passed_count; i++) {
            reader->types[i] = FM_DTYPE_BYTES;
        }
        status = reader->types != NULL ? 0 : FM_ENOMEM;
    }
    reader->base.passed_types = reader->types;
    return reader->places != NULL ? status : FM_ENOMEM;
}

/* --- CSV --- */

/* The names of a file without a header: "0", "1", ... for as many as its first record has. */
static int header_number(struct record_reader *reader, const struct fm_record *record,
                         struct fm_error *reterr)
{
    struct fm_text names = {0};
    struct fm_csv_field field;
    uint32_t count = 0;
    int status = fm_csv_record_parse(&reader->spec->csv, record->data, record->size,
                                     &reader->scratch, &field, 1, &count, reterr);
    if (status != 0 && status != FM_ETOOLARGE) {
        return fm_error_prefix(reterr, status, "%s, line %" PRIu64, reader->file.file.path,
                               record->at.line);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            fm_text_append_char(&names, reader->spec->csv.delimiter);
        }
        fm_text_append_format(&names, "%" PRIu32, i);
    }
    status = names.failed ? FM_ENOMEM
                          : fm_csv_header_init(&reader->header, &reader->spec->csv, names.data,
                                               names.length, reterr);
    fm_text_deinit(&names);
    return status;
}

static bool is_single(const struct fm_source_cell *cell)
{
    return cell->column.dtype == FM_DTYPE_FP32 && cell->column.rank == 0;
}

/* Whether all rows may go the fast way, and how: every cell is one number, and has a field of its
 * own that nothing else is made of. */
static int numbers_prepare(struct record_reader *reader, struct fm_error *reterr)
{
    uint32_t cells = reader->cells.count;
    bool may = cells > 0;
    reader->elements_of = fm_alloc_zero(reader->header.count, sizeof(*reader->elements_of));
    reader->elements = fm_alloc_zero(cells + 1, sizeof(*reader->elements));
    if (reader->elements_of == NULL || reader->elements == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < reader->header.count; i++) {
        reader->elements_of[i] = FM_CSV_NUMBERS_TEXT;
    }
    for (uint32_t i = 0; i < reader->cells.name_count && may; i++) {
        uint32_t *element = &reader->elements_of[reader->places[i].field];
        if (reader->places[i].name != NULL) {
            may = *element == FM_CSV_NUMBERS_TEXT &&
                  (i >= cells || is_single(&reader->cells.items[i]));
            *element = i < cells ? i : *element;
        }
    }
    if (!may) {
        fm_free(reader->elements_of);
        reader->elements_of = NULL;
    }
    return 0;
}

/* What the columns are called is in the beginning of the file, wherever the reader begins. */
static int header_read(struct record_reader *reader, struct fm_error *reterr)
{
    const struct fm_source_spec *spec = reader->spec;
    fm_record_reader_init(&reader->records, &reader->options, NULL);
    int status = record_next(reader, reterr);
    if (status == 0) {
        return fm_error_set(reterr, FM_ECORRUPT, "%s: the file is empty; a header was expected",
                            reader->file.file.path);
    }
    if (status < 0) {
        return status;
    }
    status = reader->record.header
                 ? fm_csv_header_init(&reader->header, &spec->csv, reader->record.data,
                                      reader->record.size, reterr)
                 : header_number(reader, &reader->record, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", reader->file.file.path);
    }
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        if (reader->places[i].name != NULL) {
            status = fm_csv_header_find(&reader->header, reader->places[i].name,
                                        &reader->places[i].field, reterr);
        }
    }
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", reader->file.file.path);
    }
    reader->fields = fm_alloc_zero(reader->header.count, sizeof(*reader->fields));
    return reader->fields != NULL ? numbers_prepare(reader, reterr)
                                  : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

static int csv_places(struct record_reader *reader, struct fm_error *reterr)
{
    reader->plain = reader->elements_of != NULL &&
                    fm_csv_numbers_parse(&reader->spec->csv, reader->record.data,
                                         reader->record.size, reader->elements_of,
                                         reader->header.count, reader->elements, reader->fields);
    int status = reader->plain ? 0
                               : fm_csv_row_parse(&reader->header, &reader->spec->csv,
                                                  reader->record.data, reader->record.size,
                                                  &reader->scratch, reader->fields, reterr);
    uint32_t first = reader->plain ? reader->cells.count : 0;
    for (uint32_t i = first; i < reader->cells.name_count && status == 0; i++) {
        const struct fm_csv_field *field = &reader->fields[reader->places[i].field];
        reader->places[i].value = field->data;
        reader->places[i].size = field->size;
    }
    return status;
}

/* --- JSON lines --- */

/* The place that wants the member at hand, from the one behind the last match on: members mostly
 * come in the order in which they are wanted. */
static struct place *place_of(struct record_reader *reader, const struct fm_json_reader *json)
{
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        uint32_t index = (reader->next_place + i) % reader->cells.name_count;
        struct place *place = &reader->places[index];
        if (place->name != NULL && fm_json_equals(json, place->name)) {
            reader->next_place = index + 1;
            return place;
        }
    }
    return NULL;
}

/* All places of that name: a column may feed several tensors, and be passed as well. */
static int places_set(struct record_reader *reader, const struct place *first, const char *value,
                      size_t size, struct fm_error *reterr)
{
    if (first->value != NULL) {
        return fm_error_set(reterr, FM_ECORRUPT, "the member '%s' occurs twice", first->name);
    }
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        struct place *place = &reader->places[i];
        if (place == first || (place->name != NULL && strcmp(place->name, first->name) == 0)) {
            place->value = value;
            place->size = size;
        }
    }
    return 0;
}

/* The reader has seen one line only, and says so: which one is said elsewhere. */
static const char *json_words(const struct fm_json_reader *json)
{
    static const char line[] = "line 1, ";
    const char *words = json->error.text;
    words += strncmp(words, line, sizeof(line) - 1) == 0 ? sizeof(line) - 1 : 0;
    return words[0] != '\0' ? words : "something stands behind it";
}

static int json_places(struct record_reader *reader, struct fm_error *reterr)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, reader->record.data, reader->record.size);
    for (uint32_t i = 0; i < reader->cells.name_count; i++) {
        reader->places[i].value = NULL;
    }
    enum fm_json_token token = fm_json_next(&json);
    if (token != FM_JSON_OBJECT_BEGIN && token != FM_JSON_ERROR) {
        return fm_error_set(reterr, FM_ECORRUPT, "the line is no JSON object");
    }
    for (token = fm_json_next(&json); token == FM_JSON_KEY; token = fm_json_next(&json)) {
        struct place *place = place_of(reader, &json);
        size_t from = json.offset;
        int status = fm_json_skip(&json);
        if (status == 0 && place != NULL) {
            while (reader->record.data[from] == ' ' || reader->record.data[from] == '\t' ||
                   reader->record.data[from] == ':') {
                from++;
            }
            status =
                places_set(reader, place, reader->record.data + from, json.offset - from, reterr);
            if (status != 0) {
                return status;
            }
        }
    }
    if (token == FM_JSON_OBJECT_END) {
        token = fm_json_next(&json);
    }
    return token == FM_JSON_END ? 0
                                : fm_error_set(reterr, FM_ECORRUPT,
                                               "the line is no JSON object: %s", json_words(&json));
}

static int json_id(struct record_reader *reader, const struct place *place,
                   struct fm_row_block *block, struct fm_error *reterr)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, place->value, place->size);
    enum fm_json_token token = fm_json_next(&json);
    if (token == FM_JSON_NUMBER) {
        fm_row_block_id(block, place->value, place->size);
        return 0;
    }
    if (token != FM_JSON_STRING) {
        return fm_error_set(reterr, FM_ETYPE, "the id '%s' is neither a string nor a number",
                            place->name);
    }
    fm_text_clear(&reader->scratch);
    fm_json_decode(&json, &reader->scratch);
    if (reader->scratch.failed) {
        return FM_ENOMEM;
    }
    fm_row_block_id(block, reader->scratch.length > 0 ? reader->scratch.data : "",
                    reader->scratch.length);
    return 0;
}

/* --- Requests --- */

/* Whether the columns are ones that requests have. */
static int requests_check(const struct record_reader *reader, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        const char *name = reader->places[i].name;
        status = name != NULL ? fm_request_path_check(name, reterr) : 0;
    }
    return status != 0 ? fm_error_prefix(reterr, status, "%s", reader->file.file.path) : 0;
}

static int request_places(struct record_reader *reader, struct fm_error *reterr)
{
    int status =
        fm_request_line_read(reader->record.data, reader->record.size, &reader->request, reterr);
    for (uint32_t i = 0; i < reader->cells.name_count && status == 0; i++) {
        struct place *place = &reader->places[i];
        struct fm_request_value value = {NULL, 0};
        status = place->name != NULL
                     ? fm_request_line_value(&reader->request, place->name, &value, reterr)
                     : 0;
        place->value = value.data;
        place->size = value.size;
    }
    return status;
}

/* --- Rows --- */

static int places_find(struct record_reader *reader, struct fm_error *reterr)
{
    return is_csv(reader->spec)        ? csv_places(reader, reterr)
           : is_requests(reader->spec) ? request_places(reader, reterr)
                                       : json_places(reader, reterr);
}

static int passed_give(struct record_reader *reader, const struct place *place,
                       struct fm_row_block *block)
{
    if (place->value == NULL) {
        fm_row_block_pass(block, "null", 4);
        return 0;
    }
    if (!is_csv(reader->spec)) {
        fm_row_block_pass(block, place->value, place->size);
        return 0;
    }
    struct fm_text json = {0};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, &json);
    fm_json_string_n(&writer, place->value, place->size);
    int status = json.failed ? FM_ENOMEM : 0;
    if (status == 0) {
        fm_row_block_pass(block, json.data, json.length);
    }
    fm_text_deinit(&json);
    return status;
}

static int id_give(struct record_reader *reader, struct fm_row_block *block,
                   struct fm_error *reterr)
{
    const struct place *place = &reader->places[reader->cells.count];
    if (place->name == NULL) {
        return 0;
    }
    if (place->value == NULL) {
        return fm_error_set(reterr, FM_ECORRUPT, "the column '%s', the row's id, is missing",
                            place->name);
    }
    if (!is_csv(reader->spec)) {
        return json_id(reader, place, block, reterr);
    }
    fm_row_block_id(block, place->value, place->size);
    return 0;
}

static int cell_give(struct record_reader *reader, uint32_t index, struct fm_row_block *block,
                     struct fm_error *reterr)
{
    const struct fm_source_cell *cell = &reader->cells.items[index];
    const struct place *place = &reader->places[index];
    struct fm_text *out = &block->tensors[cell->tensor];
    int64_t shape[FM_RANK_MAX];
    int status = 0;
    if (place->value == NULL) {
        return fm_error_set(reterr, FM_ECORRUPT, "the column '%s' is missing", place->name);
    }
    if (is_csv(reader->spec)) {
        status = fm_column_from_field(&cell->column, place->value, place->size, out, shape, reterr);
    } else {
        struct fm_json_reader json;
        fm_json_reader_init(&json, place->value, place->size);
        status = fm_column_from_json(&cell->column, &json, out, shape, reterr);
    }
    if (status != 0 || !cell->last) {
        return status;
    }
    const struct fm_source_tensor *tensor = &reader->spec->tensors[cell->tensor];
    return fm_row_block_shape(block, cell->tensor,
                              tensor->name_count > 1 ? tensor->column.shape : shape);
}

/* The cells of a plain record, a tensor at a time. */
static int elements_give(struct record_reader *reader, struct fm_row_block *block)
{
    uint32_t first = 0;
    int status = 0;
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        const struct fm_source_cell *cell = &reader->cells.items[i];
        if (cell->last) {
            fm_text_append(&block->tensors[cell->tensor], reader->elements + first,
                           (i + 1 - first) * sizeof(*reader->elements));
            status = fm_row_block_shape(block, cell->tensor,
                                        reader->spec->tensors[cell->tensor].column.shape);
            first = i + 1;
        }
    }
    return status;
}

static int cells_give(struct record_reader *reader, struct fm_row_block *block,
                      struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < reader->cells.count && status == 0; i++) {
        status = cell_give(reader, i, block, reterr);
    }
    return status;
}

/* FM_EAGAIN: the record has to wait for the next block. */
static int row_give(struct record_reader *reader, struct fm_row_block *block,
                    struct fm_error *reterr)
{
    struct fm_error error = {0};
    fm_row_block_begin(block, reader->record.at.row, reader->record.at.line);
    if (reader->file.kind == NULL) { /* places in what was compressed are none of the file's */
        fm_row_block_place(block, reader->record.at.offset, reader->record.size);
    }
    int status = places_find(reader, &error);
    if (status == 0) {
        status = id_give(reader, block, &error);
        if (status == 0 && is_requests(reader->spec)) {
            status = fm_request_line_check(&reader->request, reader->spec->url, &error);
        }
        for (uint32_t i = 0; i < reader->spec->passed_count && status == 0; i++) {
            status = passed_give(reader, &reader->places[reader->cells.count + 1 + i], block);
        }
    }
    if (status == 0) {
        status = reader->plain ? elements_give(reader, block) : cells_give(reader, block, &error);
    }
    return fm_source_row_end(block, status, &error, "line", reader->record.at.line, reterr);
}

static int records_read(struct fm_source_reader *source, uint32_t rows_max,
                        struct fm_row_block *block, struct fm_error *reterr)
{
    struct record_reader *reader = record_reader_of(source);
    while (block->row_count < rows_max) {
        int status = reader->pending ? 1 : record_next(reader, reterr);
        reader->pending = false;
        if (status <= 0) {
            return status;
        }
        if (reader->record.header) {
            continue;
        }
        status = row_give(reader, block, reterr);
        if (status == FM_EAGAIN) {
            reader->pending = true; /* the buffer stays as it is until the next one is asked for */
            return 0;
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int records_skip(struct fm_source_reader *source, uint64_t rows, struct fm_error *reterr)
{
    struct record_reader *reader = record_reader_of(source);
    while (rows > 0) {
        int status = reader->pending ? 1 : record_next(reader, reterr);
        reader->pending = false;
        if (status < 0) {
            return status;
        }
        if (status == 0) {
            return fm_error_set(reterr, FM_ENOTFOUND,
                                "%s has fewer rows than when the job was begun",
                                reader->file.file.path);
        }
        rows -= reader->record.header ? 0 : 1;
    }
    return 0;
}

/* --- Life --- */

static void records_close(struct fm_source_reader *source)
{
    struct record_reader *reader = record_reader_of(source);
    fm_byte_stream_close(&reader->file);
    fm_csv_header_deinit(&reader->header);
    fm_free(reader->elements_of);
    fm_free(reader->elements);
    fm_text_deinit(&reader->scratch);
    fm_free(reader->fields);
    fm_free(reader->buffer);
    fm_source_cells_deinit(&reader->cells);
    fm_free(reader->types);
    fm_free(reader->places);
    fm_free(reader);
}

/* What is no text of ours is told by its first bytes, before it is taken for a strange one. */
static int text_check(struct fm_byte_stream *file, struct fm_error *reterr)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } known[] = {
        {"\x1F\x8B", 2, "is compressed twice: decompress it first"},
        {"\x28\xB5\x2F\xFD", 4, "is compressed twice: decompress it first"},
        {"\xFD"
         "7zX",
         4, "is compressed with xz: decompress it first, or use gzip or zstd"},
        {"BZh", 3, "is compressed with bzip2: decompress it first"},
        {"PK\x03\x04", 4, "is a ZIP archive, or a spreadsheet: save the table as CSV"},
        {"PAR1", 4, "is a Parquet file: say format: parquet"},
        {"\xFF\xFE", 2, "is UTF-16: save it as UTF-8"},
        {"\xFE\xFF", 2, "is UTF-16: save it as UTF-8"},
    };
    char head[4];
    size_t size = 0;
    int status = fm_byte_stream_read_at(file, 0, head, sizeof(head), &size, reterr);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && status == 0; i++) {
        if (size >= known[i].size && memcmp(head, known[i].bytes, known[i].size) == 0) {
            status =
                fm_error_set(reterr, FM_EUNSUPPORTED, "%s %s", file->file.path, known[i].words);
        }
    }
    return status;
}

static int records_open(const struct fm_source_spec *spec, const char *path,
                        const struct fm_record_point *point, struct fm_source_reader **ret_reader,
                        struct fm_error *reterr)
{
    struct record_reader *reader = fm_alloc_zero(1, sizeof(*reader));
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    reader->base.format = spec->format;
    reader->spec = spec;
    options_make(spec, &reader->options);
    int status = places_make(reader);
    status = status == 0 ? fm_byte_stream_open(&reader->file, path, reterr)
                         : fm_error_set(reterr, status, "out of memory");
    status = status != 0 ? status : text_check(&reader->file, reterr);
    if (status == 0 && is_csv(spec)) {
        status = header_read(reader, reterr);
    } else if (status == 0 && is_requests(spec)) {
        status = requests_check(reader, reterr);
    }
    if (status != 0) {
        records_close(&reader->base);
        return status;
    }
    fm_record_reader_init(&reader->records, &reader->options, point);
    reader->start = 0;
    reader->end = 0;
    reader->file_ended = false;
    if (reader->capacity > 0) {
        status = buffer_fill(reader, reterr);
    }
    if (status != 0) {
        records_close(&reader->base);
        return status;
    }
    *ret_reader = &reader->base;
    return 0;
}

static int scan(struct fm_record_scan *scan, const char *path, struct fm_error *reterr)
{
    struct fm_byte_stream file = {0};
    char *buffer = fm_alloc(SCAN_BYTES);
    size_t got = SCAN_BYTES;
    int status = buffer == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                : fm_byte_stream_open(&file, path, reterr);
    for (uint64_t offset = 0; status == 0 && got == SCAN_BYTES; offset += got) {
        status = fm_byte_stream_read_at(&file, offset, buffer, SCAN_BYTES, &got, reterr);
        if (status == 0) {
            status = fm_record_scan_feed(scan, buffer, got, reterr);
            status = status < 0 ? fm_error_prefix(reterr, status, "%s", path) : status;
        }
    }
    if (status == 0) {
        status = fm_record_scan_finish(scan, reterr);
        status = status < 0 ? fm_error_prefix(reterr, status, "%s", path) : status;
    }
    fm_byte_stream_close(&file);
    fm_free(buffer);
    return status;
}

static int records_count(const struct fm_source_spec *spec, const char *path,
                         fm_record_point_take take, void *context, uint64_t *ret_rows,
                         struct fm_error *reterr)
{
    struct fm_record_options options;
    struct fm_record_scan counting;
    struct fm_source_reader *reader = NULL;
    /* Opening is what checks the header. */
    int status = records_open(spec, path, NULL, &reader, reterr);
    if (status != 0) {
        return status;
    }
    records_close(reader);
    options_make(spec, &options);
    fm_record_scan_init(&counting, &options, take, context);
    status = scan(&counting, path, reterr);
    *ret_rows = counting.rows;
    return status;
}

static const char *const csv_endings[] = {".csv", ".csv.gz", ".csv.zst", NULL};
static const char *const tsv_endings[] = {".tsv", ".tab", ".tsv.gz", ".tsv.zst", NULL};
static const char *const jsonl_endings[] = {".jsonl",     ".ndjson",     ".jsonl.gz", ".jsonl.zst",
                                            ".ndjson.gz", ".ndjson.zst", NULL};

const struct fm_source_format fm_source_csv = {.name = "csv",
                                               .endings = csv_endings,
                                               .count = records_count,
                                               .open = records_open,
                                               .skip = records_skip,
                                               .read = records_read,
                                               .close = records_close};

const struct fm_source_format fm_source_tsv = {.name = "tsv",
                                               .endings = tsv_endings,
                                               .count = records_count,
                                               .open = records_open,
                                               .skip = records_skip,
                                               .read = records_read,
                                               .close = records_close};

const struct fm_source_format fm_source_jsonl = {.name = "jsonl",
                                                 .endings = jsonl_endings,
                                                 .count = records_count,
                                                 .open = records_open,
                                                 .skip = records_skip,
                                                 .read = records_read,
                                                 .close = records_close};

/* No name says that lines are requests. */
static const char *const no_endings[] = {NULL};

const struct fm_source_format fm_source_openai_batch = {.name = "openai_batch",
                                                        .endings = no_endings,
                                                        .count = records_count,
                                                        .open = records_open,
                                                        .skip = records_skip,
                                                        .read = records_read,
                                                        .close = records_close};
