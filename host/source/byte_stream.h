/*
 * The bytes of a file, decompressed where it is compressed: with gzip or with Zstandard, which its
 * first bytes say.
 *
 * Owns: the use of zlib and libzstd for that, going to a place of a file that has no places: back
 * means from its beginning, forth means decompressing what lies between. Does not own: what the
 * bytes are. A compressed file may consist of several streams, one behind the other, as programs
 * that compress in parallel write them. Memory is bounded, whatever comes out. Thread rule: one
 * thread at a time.
 */
#ifndef FM_HOST_SOURCE_BYTE_STREAM_H
#define FM_HOST_SOURCE_BYTE_STREAM_H

#include "host/os/file_reader.h"

/* Zero-initialise. */
struct fm_byte_stream {
    struct fm_file_reader file;
    const struct fm_byte_stream_kind *kind; /* NULL: the file's bytes as they are */
    void *state;                            /* of the kind */
    uint64_t position;                      /* of what comes next, in what comes out */
    unsigned char *input;
    size_t input_size;
    size_t input_used;
    uint64_t input_offset; /* of input[0] in the file */
    bool input_ended;
    bool within; /* a stream has begun and not ended */
};

int FM_NODISCARD fm_byte_stream_open(struct fm_byte_stream *stream, const char *path,
                                     struct fm_error *reterr);
/* Up to `size` bytes from `offset` of what comes out; fewer only at its end (*ret_size says how
 * many). Cheap where the last call ended. FM_ECORRUPT: the file was cut off, or is damaged; the
 * words name it, and the place in it. FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_byte_stream_read_at(struct fm_byte_stream *stream, uint64_t offset, void *data,
                                        size_t size, size_t *ret_size, struct fm_error *reterr);
void fm_byte_stream_close(struct fm_byte_stream *stream); /* fine when not open */

#endif
