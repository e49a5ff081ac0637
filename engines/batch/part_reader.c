/*
 * Reading parts back. See part_reader.h.
 */
#include "engines/batch/part_reader.h"

#include <string.h>

#include "core/util/error.h"
#include "engines/batch/file_sum.h"
#include "engines/batch/row_line.h"

enum { BLOCK_ROWS = 1024 };
/* What a row may have at most: the readers want a limit, and what was written may be read. */
#define RECORD_BYTES_MAX (UINT64_C(4) << 30)

static int source_open(struct fm_part_reader *reader, const char *path, struct fm_error *reterr)
{
    int status = fm_file_sum(path, &reader->checksum, &reader->bytes, reterr);
    reader->spec = (struct fm_source_spec){.format = reader->sink->source,
                                           .id = "id",
                                           .csv = {.delimiter = ',', .quote = '"'},
                                           .csv_header = true,
                                           .record_bytes_max = RECORD_BYTES_MAX};
    if (status == 0 && !reader->has_block) {
        status = fm_row_block_init(&reader->block, NULL, 0, 0, BLOCK_ROWS);
        reader->has_block = status == 0;
        status = status == 0 ? 0 : fm_error_set(reterr, status, "out of memory to read '%s'", path);
    }
    if (status != 0) {
        return status;
    }
    fm_row_block_clear(&reader->block);
    status = reader->spec.format->open(&reader->spec, path, NULL, &reader->source, reterr);
    /* A column that is not there, for one. */
    return status == FM_ENOTFOUND ? fm_error_set(reterr, FM_ECORRUPT, "%s", reterr->text) : status;
}

int fm_part_reader_open(struct fm_part_reader *reader, const struct fm_sink *sink, const char *path,
                        struct fm_error *reterr)
{
    reader->sink = sink;
    reader->bytes = 0;
    reader->checksum = 0;
    reader->rows = 0;
    reader->unterminated = false;
    reader->at = 0;
    return sink->source == NULL ? fm_line_reader_open(&reader->lines, path, reterr)
                                : source_open(reader, path, reterr);
}

int fm_part_reader_line(struct fm_part_reader *reader, const char **ret_line, size_t *ret_length,
                        struct fm_error *reterr)
{
    int status = fm_line_reader_next(&reader->lines, ret_line, ret_length, reterr);
    reader->bytes = reader->lines.bytes;
    reader->checksum = reader->lines.checksum;
    reader->rows = reader->lines.lines;
    reader->unterminated = reader->lines.unterminated;
    return status;
}

static void source_close(struct fm_part_reader *reader)
{
    if (reader->source != NULL) {
        reader->source->format->close(reader->source);
    }
    reader->source = NULL;
}

/* More rows in the block; none: the file is over. */
static int block_fill(struct fm_part_reader *reader, struct fm_error *reterr)
{
    reader->at = 0;
    fm_row_block_clear(&reader->block);
    int status = reader->source->format->read(reader->source, BLOCK_ROWS, &reader->block, reterr);
    if (status != 0) {
        source_close(reader); /* nothing behind it can be had */
    }
    return status == 0 || status == FM_ENOMEM || status == FM_EIO
               ? status
               : fm_error_set(reterr, FM_ECORRUPT, "%s", reterr->text);
}

static int source_next(struct fm_part_reader *reader, struct fm_text *id, bool *ret_found,
                       struct fm_error *reterr)
{
    if (reader->source != NULL && reader->at == reader->block.row_count) {
        int status = block_fill(reader, reterr);
        if (status != 0) {
            return status;
        }
    }
    if (reader->source == NULL || reader->block.row_count == 0) {
        return 0;
    }
    const struct fm_block_row *row = &reader->block.rows[reader->at++];
    const char *texts = reader->block.texts.data;
    reader->rows++;
    if (row->status != 0) {
        return fm_error_set(reterr, FM_ECORRUPT, "%s", texts + row->words);
    }
    fm_text_clear(id);
    fm_text_append(id, texts + row->id, row->id_size);
    fm_text_append_string(id, ""); /* never NULL */
    *ret_found = true;
    return id->failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory for a row") : 0;
}

int fm_part_reader_next(struct fm_part_reader *reader, struct fm_text *id, bool *ret_found,
                        struct fm_error *reterr)
{
    const char *line = NULL;
    size_t length = 0;
    *ret_found = false;
    if (reader->sink->source != NULL) {
        return source_next(reader, id, ret_found, reterr);
    }
    int status = fm_part_reader_line(reader, &line, &length, reterr);
    if (status != 0 || line == NULL) {
        return status;
    }
    status = fm_row_line_id(line, length, id, reterr);
    *ret_found = status == 0;
    return status;
}

void fm_part_reader_close(struct fm_part_reader *reader)
{
    fm_line_reader_close(&reader->lines);
    source_close(reader);
}

void fm_part_reader_deinit(struct fm_part_reader *reader)
{
    fm_part_reader_close(reader);
    fm_line_reader_deinit(&reader->lines);
    fm_row_block_deinit(&reader->block);
    reader->has_block = false;
}
