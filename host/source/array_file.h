/*
 * One NumPy array in a file, row by row: a .npy file, or a member of a .npz archive.
 *
 * Owns: reading and inflating its bytes, the header, where rows begin. Does not own: the file, what
 * rows are worth. Thread rule: caller's memory.
 *
 * Rows are along the first axis. Of an array that is not compressed any row is reached at once; one
 * that is deflated is read from its beginning on, and its checksum is compared at its end.
 */
#ifndef FM_HOST_SOURCE_ARRAY_FILE_H
#define FM_HOST_SOURCE_ARRAY_FILE_H

#include "core/proto/npy.h"
#include "host/os/file_reader.h"

/* Where the bytes of a .npy file lie in another file. */
struct fm_array_place {
    uint64_t offset;
    uint64_t stored_size; /* there */
    uint64_t size;        /* inflated */
    bool deflated;
    uint32_t crc; /* of what is inflated */
};

/* Zero-initialise. */
struct fm_array_file {
    struct fm_npy_header header;
    uint64_t rows;
    uint64_t row_elements;
    size_t row_bytes; /* > 0 */

    /* Internal. */
    const struct fm_file_reader *file;
    struct fm_array_place place;
    struct fm_array_inflater *inflater; /* NULL: its bytes are stored as they are */
    unsigned char *buffer;
    size_t capacity;
    size_t start; /* of the bytes that come next */
    size_t end;
    uint64_t position; /* of what comes behind the buffer, in the array's bytes */
    uint64_t row;      /* the next one */
};

/* `file` is borrowed. row_bytes_max: a longer row is FM_ETOOLARGE. FM_ECORRUPT, FM_EUNSUPPORTED (a
 * type, Fortran order, no rows: a single number, or rows without elements), FM_EIO, FM_ENOMEM;
 * without the file's name. */
int FM_NODISCARD fm_array_file_open(struct fm_array_file *array, const struct fm_file_reader *file,
                                    const struct fm_array_place *place, uint64_t row_bytes_max,
                                    struct fm_error *reterr);
/* FM_ENOTFOUND: there are not so many rows left. */
int FM_NODISCARD fm_array_file_skip(struct fm_array_file *array, uint64_t rows,
                                    struct fm_error *reterr);
/* 1: *ret_row are the next row's bytes, until the next call; 0: there are no more. */
int FM_NODISCARD fm_array_file_next(struct fm_array_file *array, const void **ret_row,
                                    struct fm_error *reterr);
void fm_array_file_close(struct fm_array_file *array); /* fine when not open */

#endif
