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

enum { POINT_BYTES = 48, READ_CHUNK = 1 << 16, TRY_ROWS = 100, TRY_FILES = 16 };
/* --- Writing --- */

static void number_put(struct fm_text *text, uint64_t number)
{
    unsigned char bytes[8];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(number >> (8 * i));
    }
    fm_text_append(text, bytes, sizeof(bytes));
}

int fm_row_index_put(struct fm_row_index_writer *writer, const struct fm_row_point *point,
                     struct fm_error *reterr)
{
    number_put(&writer->text, point->row);
    number_put(&writer->text, point->entry);
    number_put(&writer->text, point->file_row);
    number_put(&writer->text, point->point.row);
    number_put(&writer->text, point->point.offset);
    number_put(&writer->text, point->point.line);
    return writer->text.failed
               ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the index of the rows")
               : 0;
}

int fm_row_index_write(struct fm_row_index_writer *writer, const char *path, uint64_t *ret_checksum,
                       struct fm_error *reterr)
{
    *ret_checksum = fm_hash_add(FM_HASH_START, writer->text.data, writer->text.length);
    return fm_file_write_atomic(path, writer->text.data, writer->text.length, reterr);
}

void fm_row_index_clear(struct fm_row_index_writer *writer)
{
    fm_text_clear(&writer->text);
}

void fm_row_index_writer_deinit(struct fm_row_index_writer *writer)
{
    fm_text_deinit(&writer->text);
}

/* --- Counting --- */

/* 1: the row that was wanted last has come by. */
static int take(void *context, const struct fm_record_point *point)
{
    const uint64_t *room = context;
    return point->row >= *room ? 1 : 0;
}

int fm_row_index_count(struct fm_listing *listing, const struct fm_source_spec *source,
                       uint64_t rows_max, uint64_t *ret_rows, struct fm_error *reterr)
{
    char path[2 * FM_LISTING_ID_MAX];
    int status = 0;
    *ret_rows = 0;
    for (size_t i = 0; i < listing->count && status >= 0 && *ret_rows < rows_max; i++) {
        struct fm_listing_entry *entry = &listing->entries[i];
        uint64_t room = rows_max - *ret_rows;
        uint64_t rows = 0;
        if (fm_path_join(path, sizeof(path), listing->base, entry->id) != 0) {
            return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                                entry->id);
        }
        status = source->format->count(source, path, take, &room, &rows, reterr);
        entry->row_count = status == 1 || rows > room ? room : rows;
        *ret_rows += status >= 0 ? entry->row_count : 0;
    }
    return status < 0 ? status : 0;
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
