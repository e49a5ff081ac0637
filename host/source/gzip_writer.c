/*
 * Writing gzip. See gzip_writer.h.
 */
#include "host/source/gzip_writer.h"

#include <limits.h>
#include <zlib.h>

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "host/os/file.h"

enum { OUT_BYTES = 1 << 16 };
/* A window of 32 KiB, with a header and a trailer of gzip's, which name no time and no file. */
#define WINDOW_BITS (15 + 16)
#define MEMORY      8

struct fm_gzip_writer {
    struct fm_file_writer file;
    z_stream stream;
    bool begun;
    uint64_t checksum;
    unsigned char out[OUT_BYTES];
};

static int no_memory(const char *path, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "out of memory to write '%s'", path);
}

/* Writes what the stream has made, and empties its room. */
static int out_write(struct fm_gzip_writer *writer, struct fm_error *reterr)
{
    size_t size = OUT_BYTES - writer->stream.avail_out;
    writer->checksum = fm_hash_add(writer->checksum, writer->out, size);
    writer->stream.next_out = writer->out;
    writer->stream.avail_out = OUT_BYTES;
    return fm_file_writer_append(&writer->file, writer->out, size, reterr);
}

/* zlib's memory is ours, so that its lack is an error that is tested. */
static voidpf memory_give(voidpf context, uInt items, uInt size)
{
    (void)context;
    return fm_alloc_zero(items, size);
}

static void memory_take(voidpf context, voidpf memory)
{
    (void)context;
    fm_free(memory);
}

int fm_gzip_writer_open(const char *path, struct fm_gzip_writer **ret_writer,
                        struct fm_error *reterr)
{
    struct fm_gzip_writer *writer = fm_alloc_zero(1, sizeof(*writer));
    if (writer == NULL) {
        return no_memory(path, reterr);
    }
    writer->checksum = FM_HASH_START;
    writer->stream.zalloc = memory_give;
    writer->stream.zfree = memory_take;
    writer->begun = deflateInit2(&writer->stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS,
                                 MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
    writer->stream.next_out = writer->out;
    writer->stream.avail_out = OUT_BYTES;
    int status =
        writer->begun ? fm_file_writer_open(&writer->file, path, reterr) : no_memory(path, reterr);
    if (status != 0) {
        fm_gzip_writer_abandon(writer);
        return status;
    }
    *ret_writer = writer;
    return 0;
}

int fm_gzip_writer_append(struct fm_gzip_writer *writer, const void *data, size_t size,
                          struct fm_error *reterr)
{
    const unsigned char *bytes = data;
    int status = 0;
    while (size > 0 && status == 0) {
        uInt piece = size < UINT_MAX ? (uInt)size : UINT_MAX;
        writer->stream.next_in = (unsigned char *)(uintptr_t)bytes; /* it does not write there */
        writer->stream.avail_in = piece;
        while (writer->stream.avail_in > 0 && status == 0) {
            (void)deflate(&writer->stream, Z_NO_FLUSH); /* it cannot fail, but lack room */
            status = writer->stream.avail_out == 0 ? out_write(writer, reterr) : 0;
        }
        bytes += piece;
        size -= piece;
    }
    return status;
}

static void writer_free(struct fm_gzip_writer *writer)
{
    if (writer->begun) {
        (void)deflateEnd(&writer->stream);
    }
    fm_free(writer);
}

int fm_gzip_writer_finish(struct fm_gzip_writer *writer, uint64_t *ret_bytes,
                          uint64_t *ret_checksum, struct fm_error *reterr)
{
    int status = 0;
    int code = Z_OK;
    while (code == Z_OK && status == 0) {
        code = deflate(&writer->stream, Z_FINISH);
        status = out_write(writer, reterr);
    }
    if (status != 0) {
        fm_gzip_writer_abandon(writer);
        return status;
    }
    status = fm_file_writer_commit(&writer->file, reterr);
    *ret_bytes = writer->file.size;
    *ret_checksum = writer->checksum;
    writer_free(writer);
    return status;
}

void fm_gzip_writer_abandon(struct fm_gzip_writer *writer)
{
    if (writer != NULL) {
        fm_file_writer_abandon(&writer->file);
        writer_free(writer);
    }
}
