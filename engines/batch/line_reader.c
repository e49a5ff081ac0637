/*
 * Lines of large files. See line_reader.h.
 */
#include "engines/batch/line_reader.h"

#include <string.h>

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"

enum { READ_CHUNK = 1 << 18 };

int fm_line_reader_open(struct fm_line_reader *reader, const char *path, struct fm_error *reterr)
{
    int status = fm_file_reader_open(&reader->file, path, reterr);
    reader->begin = 0;
    reader->end = 0;
    reader->at_end = false;
    reader->unterminated = false;
    reader->bytes = 0;
    reader->checksum = FM_HASH_START;
    reader->lines = 0;
    return status;
}

/* Room behind what is not yet taken. */
static int room_make(struct fm_line_reader *reader, struct fm_error *reterr)
{
    if (reader->begin > 0) {
        memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
        reader->end -= reader->begin;
        reader->begin = 0;
    }
    if (reader->end >= FM_LINE_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%s' has a line of more than %zu MiB",
                            reader->file.path, FM_LINE_BYTES_MAX >> 20);
    }
    if (reader->capacity - reader->end >= READ_CHUNK) {
        return 0;
    }
    size_t wanted = reader->capacity > 0 ? reader->capacity * 2 : 2 * READ_CHUNK;
    char *buffer = fm_realloc(reader->buffer, wanted);
    if (buffer == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory to read '%s'", reader->file.path);
    }
    reader->buffer = buffer;
    reader->capacity = wanted;
    return 0;
}

static int fill(struct fm_line_reader *reader, struct fm_error *reterr)
{
    size_t size = 0;
    int status = room_make(reader, reterr);
    char *room = reader->buffer + reader->end;
    status = status != 0 ? status
                         : fm_file_reader_read_at(&reader->file, reader->bytes, room, READ_CHUNK,
                                                  &size, reterr);
    if (status == 0) {
        reader->checksum = fm_hash_add(reader->checksum, room, size);
        reader->bytes += size;
        reader->end += size;
        reader->at_end = size < READ_CHUNK;
    }
    return status;
}

int fm_line_reader_next(struct fm_line_reader *reader, const char **ret_line, size_t *ret_length,
                        struct fm_error *reterr)
{
    size_t looked = 0;
    *ret_line = NULL;
    *ret_length = 0;
    for (;;) {
        const char *start = reader->end > 0 ? reader->buffer + reader->begin : "";
        size_t rest = reader->end - reader->begin;
        const char *newline = rest > looked ? memchr(start + looked, '\n', rest - looked) : NULL;
        if (newline == NULL && !reader->at_end) {
            looked = rest;
            int status = fill(reader, reterr);
            if (status != 0) {
                return status;
            }
            continue;
        }
        if (newline == NULL && rest == 0) {
            return 0;
        }
        reader->unterminated = newline == NULL;
        *ret_line = start;
        *ret_length = newline != NULL ? (size_t)(newline - start) : rest;
        reader->begin += *ret_length + (newline != NULL ? 1 : 0);
        reader->lines++;
        return 0;
    }
}

void fm_line_reader_close(struct fm_line_reader *reader)
{
    fm_file_reader_close(&reader->file);
}

void fm_line_reader_deinit(struct fm_line_reader *reader)
{
    fm_line_reader_close(reader);
    fm_free(reader->buffer);
    reader->buffer = NULL;
    reader->capacity = 0;
}
