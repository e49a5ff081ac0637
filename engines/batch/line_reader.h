/*
 * The lines of a file that is too large to hold, with their checksum.
 *
 * Thread rule: a reader belongs to one thread.
 */
#ifndef FM_ENGINES_BATCH_LINE_READER_H
#define FM_ENGINES_BATCH_LINE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/os/file_reader.h"

/* A longer line is FM_ETOOLARGE. */
#define FM_LINE_BYTES_MAX ((size_t)1 << 30)

/* Zero-initialise. One may be opened again after it was closed, and keeps its memory until deinit.
 */
struct fm_line_reader {
    struct fm_file_reader file;
    char *buffer;
    size_t capacity;
    size_t begin;
    size_t end;
    bool at_end;       /* of the file */
    bool unterminated; /* the last line had no newline */
    uint64_t bytes;    /* read so far; at the end: the file's size */
    uint64_t checksum; /* of them, as core/util/hash.h */
    uint64_t lines;
};

int FM_NODISCARD fm_line_reader_open(struct fm_line_reader *reader, const char *path,
                                     struct fm_error *reterr);
/* The next line without its newline, borrowed until the next call; *ret_line NULL: there is none.
 * FM_ETOOLARGE, FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_line_reader_next(struct fm_line_reader *reader, const char **ret_line,
                                     size_t *ret_length, struct fm_error *reterr);
void fm_line_reader_close(struct fm_line_reader *reader);
void fm_line_reader_deinit(struct fm_line_reader *reader);

#endif
