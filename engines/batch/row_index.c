/*
 * Counting rows, and finding them again. See row_index.h.
 */
#include "engines/batch/row_index.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/text.h"
#include "host/os/file.h"

enum {
    POINT_BYTES = 48,
    WRITE_CHUNK = 1 << 16,
    READ_CHUNK = 1 << 16,
    TRY_ROWS = 100,
    TRY_FILES = 16
};
/* What ends the counting of a file of which no more rows are wanted. */
#define ENOUGH 1

/* --- Writing --- */

struct writer {
    struct fm_file_writer file;
    bool writes;
    struct fm_text text;
    uint64_t checksum;
    uint64_t rows;     /* of the entries before */
    uint64_t rows_max; /* of all of them */
    uint64_t entry;
    struct fm_listing_entry *at;
    bool begun; /* the entry has its first point */
    struct fm_record_point before;
    struct fm_error *reterr;
};

static void number_put(struct fm_text *text, uint64_t number)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(number >> (8 * i));
    }
    fm_text_append(text, bytes, sizeof(bytes));
}

static int flush(struct writer *writer)
{
    int status = 0;
    if (writer->text.failed) {
        return fm_error_set(writer->reterr, FM_ENOMEM, "out of memory for the index of the rows");
    }
    if (writer->writes) {
        writer->checksum = fm_hash_add(writer->checksum, writer->text.data, writer->text.length);
        status = fm_file_writer_append(&writer->file, writer->text.data, writer->text.length,
                                       writer->reterr);
    }
    fm_text_clear(&writer->text);
    return status;
}

static int point_put(struct writer *writer, uint64_t file_row, const struct fm_record_point *point)
{
    number_put(&writer->text, writer->rows + file_row - writer->at->first_row);
    number_put(&writer->text, writer->entry);
    number_put(&writer->text, file_row);
    number_put(&writer->text, point->row);
    number_put(&writer->text, point->offset);
    number_put(&writer->text, point->line);
    return writer->text.failed || writer->text.length >= WRITE_CHUNK ? flush(writer) : 0;
}

/* The entry's first row is reached from the last point at or before it. */
static int entry_begin(struct writer *writer, const struct fm_record_point *next)
{
    uint64_t first = writer->at->first_row;
    writer->begun = true;
    return point_put(writer, first, next != NULL && next->row == first ? next : &writer->before);
}

static int take(void *context, const struct fm_record_point *point)
{
    struct writer *writer = context;
    uint64_t first = writer->at->first_row;
    int status = 0;
    if (!writer->begun && point->row >= first) {
        status = entry_begin(writer, point);
    }
    if (status == 0 && point->row > first) {
        if (writer->rows + (point->row - first) >= writer->rows_max) {
            return ENOUGH;
        }
        status = point_put(writer, point->row, point);
    }
    writer->before = *point;
    return status;
}

static int entry_count(struct writer *writer, const struct fm_listing *listing,
                       const struct fm_source_spec *source)
{
    struct fm_listing_entry *entry = writer->at;
    char path[2 * FM_LISTING_ID_MAX];
    uint64_t rows = 0;
    uint64_t room = writer->rows_max - writer->rows;
    if (fm_path_join(path, sizeof(path), listing->base, entry->id) != 0) {
        return fm_error_set(writer->reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                            entry->id);
    }
    writer->begun = false;
    int status = source->format->count(source, path, take, writer, &rows, writer->reterr);
    if (status < 0) {
        return status;
    }
    bool enough = status == ENOUGH;
    if (!enough && rows > entry->first_row && !writer->begun) {
        status = entry_begin(writer, NULL);
    }
    uint64_t there = rows > entry->first_row ? rows - entry->first_row : 0;
    entry->row_count = enough || there > room ? room : there;
    entry->rows_total = enough ? FM_LISTING_ROWS_UNKNOWN : rows;
    writer->rows += entry->row_count;
    return enough ? 0 : status;
}

static int entries_count(struct writer *writer, struct fm_listing *listing, const size_t *order,
                         size_t count, const struct fm_source_spec *source)
{
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        writer->at = &listing->entries[order != NULL ? order[i] : i];
        writer->entry = i;
        if (writer->rows < writer->rows_max) {
            status = entry_count(writer, listing, source);
        } else {
            writer->at->row_count = 0;
            writer->at->rows_total = FM_LISTING_ROWS_UNKNOWN;
        }
    }
    return status;
}

int fm_row_index_count(struct fm_listing *listing, size_t count,
                       const struct fm_source_spec *source, uint64_t rows_max, uint64_t *ret_rows,
                       struct fm_error *reterr)
{
    struct writer writer = {.rows_max = rows_max, .reterr = reterr};
    int status = entries_count(&writer, listing, NULL, count, source);
    fm_text_deinit(&writer.text);
    *ret_rows = writer.rows;
    return status;
}

int fm_row_index_write(struct fm_listing *listing, const size_t *order, size_t count,
                       const struct fm_source_spec *source, uint64_t rows_max, const char *path,
                       uint64_t *ret_rows, uint64_t *ret_checksum, struct fm_error *reterr)
{
    struct writer writer = {
        .writes = true, .checksum = FM_HASH_START, .rows_max = rows_max, .reterr = reterr};
    char temporary[FM_LISTING_ID_MAX];
    int length = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof(temporary)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", path);
    }
    int status = fm_file_writer_open(&writer.file, temporary, reterr);
    status = status != 0 ? status : entries_count(&writer, listing, order, count, source);
    status = status != 0 ? status : flush(&writer);
    fm_text_deinit(&writer.text);
    status = status != 0 ? status : fm_file_writer_commit(&writer.file, reterr);
    status = status != 0 ? status : fm_file_rename(temporary, path, reterr);
    if (status != 0) {
        fm_file_writer_abandon(&writer.file);
        /* What matters is said already; a leftover is overwritten by the next attempt. */
        int ignored = fm_file_remove(temporary, NULL);
        (void)ignored;
        return status;
    }
    *ret_rows = writer.rows;
    *ret_checksum = writer.checksum;
    return 0; /* the listing, which is written behind it, brings the names to the disk */
}

/* --- Trying --- */

/* 1: the file has rows, and some of them fit; 0: it has none. */
static int file_try(const struct fm_source_spec *source, const char *path,
                    struct fm_row_block *block, struct fm_error *reterr)
{
    struct fm_source_reader *reader = NULL;
    fm_row_block_clear(block);
    int status = source->format->open(source, path, NULL, &reader, reterr);
    if (status != 0) {
        return status;
    }
    status = source->format->read(reader, TRY_ROWS, block, reterr);
    source->format->close(reader);
    if (status != 0) {
        return status;
    }
    return block->row_count == 0 || block->good_count > 0
               ? (block->row_count > 0 ? 1 : 0)
               : fm_error_set(reterr, FM_ETYPE,
                              "%s: none of the first %" PRIu32
                              " rows fits input.columns; the first of them: %s",
                              path, block->row_count, block->texts.data + block->rows[0].words);
}

int fm_row_index_try(const struct fm_listing *listing, const struct fm_source_spec *source,
                     struct fm_error *reterr)
{
    struct fm_column *columns = NULL;
    struct fm_row_block block = {0};
    char path[2 * FM_LISTING_ID_MAX];
    int status = fm_source_columns(source, &columns);
    status = status != 0 ? status
                         : fm_row_block_init(&block, columns, source->tensor_count,
                                             source->passed_count, TRY_ROWS);
    if (status != 0) {
        (void)fm_error_set(reterr, status, "out of memory");
    }
    for (size_t i = 0; i < listing->count && i < TRY_FILES && status == 0; i++) {
        status = fm_path_join(path, sizeof(path), listing->base, listing->entries[i].id) == 0
                     ? file_try(source, path, &block, reterr)
                     : 0;
    }
    fm_row_block_deinit(&block);
    fm_free(columns);
    return status > 0 ? 0 : status;
}

/* --- Reading --- */

int fm_row_index_open(struct fm_row_index *index, const char *path, uint64_t *checksum,
                      struct fm_error *reterr)
{
    char *chunk = fm_alloc(READ_CHUNK);
    uint64_t offset = 0;
    size_t size = READ_CHUNK;
    int status = chunk == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                               : fm_file_reader_open(&index->file, path, reterr);
    while (status == 0 && size > 0) {
        status = fm_file_reader_read_at(&index->file, offset, chunk, READ_CHUNK, &size, reterr);
        if (status == 0) {
            *checksum = fm_hash_add(*checksum, chunk, size);
            offset += size;
        }
    }
    fm_free(chunk);
    index->count = offset / POINT_BYTES;
    if (status != 0) {
        fm_row_index_close(index);
    }
    return status;
}

static uint64_t number_get(const unsigned char *bytes)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < 8; i++) {
        number |= (uint64_t)bytes[i] << (8 * i);
    }
    return number;
}

static int point_get(const struct fm_row_index *index, uint64_t number,
                     struct fm_row_point *ret_point, struct fm_error *reterr)
{
    unsigned char bytes[POINT_BYTES];
    size_t size = 0;
    int status = fm_file_reader_read_at(&index->file, number * POINT_BYTES, bytes, sizeof(bytes),
                                        &size, reterr);
    if (status == 0 && size != sizeof(bytes)) {
        status = fm_error_set(reterr, FM_ECORRUPT, "'%s' was cut short", index->file.path);
    }
    if (status == 0) {
        *ret_point = (struct fm_row_point){.row = number_get(bytes),
                                           .entry = number_get(bytes + 8),
                                           .file_row = number_get(bytes + 16),
                                           .point = {.row = number_get(bytes + 24),
                                                     .offset = number_get(bytes + 32),
                                                     .line = number_get(bytes + 40)}};
    }
    return status;
}

int fm_row_index_find(const struct fm_row_index *index, uint64_t row,
                      struct fm_row_point *ret_point, struct fm_error *reterr)
{
    uint64_t low = 0; /* points before it are at or before the row */
    uint64_t high = index->count;
    struct fm_row_point point;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int status = point_get(index, middle, &point, reterr);
        if (status != 0) {
            return status;
        }
        if (point.row <= row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? point_get(index, low - 1, ret_point, reterr)
                   : fm_error_set(reterr, FM_ECORRUPT, "'%s' has no row %" PRIu64, index->file.path,
                                  row);
}

void fm_row_index_close(struct fm_row_index *index)
{
    fm_file_reader_close(&index->file);
    index->count = 0;
}
