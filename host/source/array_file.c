/*
 * One NumPy array in a file. See array_file.h.
 */
#include "host/source/array_file.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#include "core/util/error.h"
#include "core/util/memory.h"

enum { BUFFER_BYTES = 1 << 18, INPUT_BYTES = 1 << 16, WINDOW_RAW = -15 };

/* At once: zlib counts in 32 bits. */
#define PIECE_BYTES_MAX ((size_t)1 << 30)

_Static_assert((size_t)BUFFER_BYTES >= FM_NPY_HEADER_MAX, "the header comes with the first bytes");

struct fm_array_inflater {
    z_stream stream;
    uint64_t used; /* of the bytes that are stored */
    uint32_t crc;
    unsigned char input[INPUT_BYTES];
};

static void *zlib_alloc(void *context, unsigned count, unsigned size)
{
    (void)context;
    return fm_alloc_zero(count, size);
}

static void zlib_free(void *context, void *memory)
{
    (void)context;
    fm_free(memory);
}

static int inflater_open(struct fm_array_file *array, struct fm_error *reterr)
{
    struct fm_array_inflater *inflater = fm_alloc_zero(1, sizeof(*inflater));
    if (inflater != NULL) {
        inflater->stream.zalloc = zlib_alloc;
        inflater->stream.zfree = zlib_free;
        inflater->crc = (uint32_t)crc32(0, NULL, 0);
        if (inflateInit2(&inflater->stream, WINDOW_RAW) == Z_OK) {
            array->inflater = inflater;
            return 0;
        }
    }
    fm_free(inflater);
    return fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

/* Exactly `size` bytes of the file into the buffer's end. */
static int stored_read(struct fm_array_file *array, size_t size, struct fm_error *reterr)
{
    size_t got = 0;
    int status = fm_file_reader_read_at(array->file, array->place.offset + array->position,
                                        array->buffer + array->end, size, &got, reterr);
    if (status == 0 && got < size) {
        status = fm_error_set(reterr, FM_ECORRUPT, "the file is cut off");
    }
    return status;
}

static int inflated_read(struct fm_array_file *array, size_t size, struct fm_error *reterr)
{
    struct fm_array_inflater *inflater = array->inflater;
    z_stream *stream = &inflater->stream;
    stream->next_out = array->buffer + array->end;
    stream->avail_out = (unsigned)size;
    while (stream->avail_out > 0) {
        if (stream->avail_in == 0) {
            uint64_t left = array->place.stored_size - inflater->used;
            size_t piece = left < INPUT_BYTES ? (size_t)left : INPUT_BYTES;
            int status = fm_file_reader_read_at(array->file, array->place.offset + inflater->used,
                                                inflater->input, piece, &piece, reterr);
            if (status != 0) {
                return status;
            }
            stream->next_in = inflater->input;
            stream->avail_in = (unsigned)piece;
            inflater->used += piece;
        }
        int result = inflate(stream, Z_NO_FLUSH);
        if (result == Z_MEM_ERROR) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory");
        }
        if (result != Z_OK && !(result == Z_STREAM_END && stream->avail_out == 0)) {
            return fm_error_set(reterr, FM_ECORRUPT, "its compressed bytes are damaged");
        }
    }
    inflater->crc = (uint32_t)crc32(inflater->crc, array->buffer + array->end, (unsigned)size);
    if (array->position + size == array->place.size && inflater->crc != array->place.crc) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "its bytes have not the checksum of the archive's directory");
    }
    return 0;
}

/* As many bytes as there is room for behind those in the buffer, which move to its front. */
static int buffer_fill(struct fm_array_file *array, struct fm_error *reterr)
{
    uint64_t left = array->place.size - array->position;
    memmove(array->buffer, array->buffer + array->start, array->end - array->start);
    array->end -= array->start;
    array->start = 0;
    size_t room = array->capacity - array->end;
    size_t size = left < room ? (size_t)left : room;
    size = size < PIECE_BYTES_MAX ? size : PIECE_BYTES_MAX;
    int status = array->inflater != NULL ? inflated_read(array, size, reterr)
                                         : stored_read(array, size, reterr);
    if (status == 0) {
        array->end += size;
        array->position += size;
    }
    return status;
}

/* What the header says, against the size that the file has. */
static int rows_find(struct fm_array_file *array, uint64_t row_bytes_max, struct fm_error *reterr)
{
    const struct fm_npy_header *header = &array->header;
    uint64_t bytes = array->place.size - header->data_offset;
    if (header->rank == 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the array is a single number, which has no rows");
    }
    int status = fm_shape_element_count(header->shape + 1, header->rank - 1, &array->row_elements);
    if (status == 0 && array->row_elements == 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED, "the array's rows have no elements");
    }
    if (status != 0 || array->row_elements > SIZE_MAX / header->element_size) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "no array can have the shape that its header says");
    }
    array->rows = (uint64_t)header->shape[0];
    array->row_bytes = (size_t)array->row_elements * header->element_size;
    if (array->rows > bytes / array->row_bytes || array->rows * array->row_bytes != bytes) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the file is %s: its header promises %" PRIu64
                            " rows of %zu bytes, it has %" PRIu64 " bytes",
                            array->rows > bytes / array->row_bytes ? "cut off" : "too long",
                            array->rows, array->row_bytes, bytes);
    }
    if (array->row_bytes > row_bytes_max) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "a row has %zu bytes, and %" PRIu64 " are allowed", array->row_bytes,
                            row_bytes_max);
    }
    return 0;
}

/* A buffer that holds a row. */
static int buffer_grow(struct fm_array_file *array, size_t size, struct fm_error *reterr)
{
    if (size > array->capacity) {
        unsigned char *grown = fm_realloc(array->buffer, size);
        if (grown == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for a row of %zu bytes", size);
        }
        array->buffer = grown;
        array->capacity = size;
    }
    return 0;
}

int fm_array_file_open(struct fm_array_file *array, const struct fm_file_reader *file,
                       const struct fm_array_place *place, uint64_t row_bytes_max,
                       struct fm_error *reterr)
{
    *array = (struct fm_array_file){.file = file, .place = *place};
    int status = buffer_grow(array, BUFFER_BYTES, reterr);
    if (status == 0 && place->deflated) {
        status = inflater_open(array, reterr);
    }
    status = status == 0 ? buffer_fill(array, reterr) : status;
    status = status == 0 ? fm_npy_header_read(array->buffer, array->end, &array->header, reterr)
                         : status;
    status = status == 0 ? rows_find(array, row_bytes_max, reterr) : status;
    status = status == 0 ? buffer_grow(array, array->row_bytes, reterr) : status;
    if (status != 0) {
        fm_array_file_close(array);
        return status;
    }
    array->start = array->header.data_offset;
    return 0;
}

int fm_array_file_skip(struct fm_array_file *array, uint64_t rows, struct fm_error *reterr)
{
    if (rows > array->rows - array->row) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "there are fewer rows than when the job was begun");
    }
    uint64_t bytes = rows * array->row_bytes;
    array->row += rows;
    while (bytes > array->end - array->start) {
        bytes -= array->end - array->start;
        array->start = array->end;
        if (array->inflater == NULL) {
            array->position += bytes;
            return 0;
        }
        int status = buffer_fill(array, reterr);
        if (status != 0) {
            return status;
        }
    }
    array->start += (size_t)bytes;
    return 0;
}

int fm_array_file_next(struct fm_array_file *array, const void **ret_row, struct fm_error *reterr)
{
    if (array->row == array->rows) {
        return 0;
    }
    while (array->end - array->start < array->row_bytes) {
        int status = buffer_fill(array, reterr);
        if (status != 0) {
            return status;
        }
    }
    *ret_row = array->buffer + array->start;
    array->start += array->row_bytes;
    array->row++;
    return 1;
}

void fm_array_file_close(struct fm_array_file *array)
{
    if (array->inflater != NULL) {
        (void)inflateEnd(&array->inflater->stream);
    }
    fm_free(array->inflater);
    fm_free(array->buffer);
    *array = (struct fm_array_file){0};
}
