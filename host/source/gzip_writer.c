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
    bool member; /* one is begun, and not ended */
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

/* Whether the stream was made. */
static bool stream_begin(z_stream *stream)
{
    stream->zalloc = memory_give;
    stream->zfree = memory_take;
    return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEMORY,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

int fm_gzip_writer_open(const char *path, struct fm_gzip_writer **ret_writer,
                        struct fm_error *reterr)
{
    struct fm_gzip_writer *writer = fm_alloc_zero(1, sizeof(*writer));
    if (writer == NULL) {
        return no_memory(path, reterr);
    }
    writer->checksum = FM_HASH_START;
    writer->begun = stream_begin(&writer->stream);
    writer->member = true; /* a file without anything in it is an empty member */
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

static int stream_broken(const struct fm_gzip_writer *writer, int code, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINTERNAL, "cannot compress '%s': zlib's code %d",
                        writer->file.path, code);
}

int fm_gzip_writer_append(struct fm_gzip_writer *writer, const void *data, size_t size,
                          struct fm_error *reterr)
{
    const unsigned char *bytes = data;
    int status = 0;
    writer->member = writer->member || size > 0;
    while (size > 0 && status == 0) {
        uInt piece = size < UINT_MAX ? (uInt)size : UINT_MAX;
        writer->stream.next_in = (unsigned char *)(uintptr_t)bytes; /* it does not write there */
        writer->stream.avail_in = piece;
        while (writer->stream.avail_in > 0 && status == 0) {
            int code = deflate(&writer->stream, Z_NO_FLUSH);
            status = code != Z_OK                    ? stream_broken(writer, code, reterr)
                     : writer->stream.avail_out == 0 ? out_write(writer, reterr)
                                                     : 0;
        }
        bytes += piece;
        size -= piece;
    }
    return status;
}

/* What is written next begins another member. */
static int member_end(struct fm_gzip_writer *writer, struct fm_error *reterr)
{
    int status = 0;
    int code = Z_OK;
    if (!writer->member) {
        return 0;
    }
    while (code == Z_OK && status == 0) {
        code = deflate(&writer->stream, Z_FINISH);
        status = out_write(writer, reterr);
    }
    code = status == 0 && code == Z_STREAM_END ? deflateReset(&writer->stream) : code;
    writer->member = false;
    return status != 0 || code == Z_OK ? status : stream_broken(writer, code, reterr);
}

int fm_gzip_writer_append_member(struct fm_gzip_writer *writer, const void *member, size_t size,
                                 struct fm_error *reterr)
{
    /* Of a file that begins with it there is nothing yet to end. */
    writer->member = writer->member && writer->stream.total_in > 0;
    int status = member_end(writer, reterr);
    writer->checksum = fm_hash_add(writer->checksum, member, size);
    return status != 0 ? status : fm_file_writer_append(&writer->file, member, size, reterr);
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
    int status = member_end(writer, reterr);
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

int fm_gzip_member_make(const void *data, size_t size, struct fm_text *member)
{
    z_stream stream = {0};
    size_t before = member->length;
    /* What does not fit is for the writer, piece by piece. */
    if (size > UINT_MAX / 2 || !stream_begin(&stream)) {
        return FM_ENOMEM;
    }
    size_t most = deflateBound(&stream, (uLong)size);
    char *room = fm_text_reserve(member, most);
    int code = Z_MEM_ERROR;
    if (room != NULL) {
        stream.next_in = (unsigned char *)(uintptr_t)data; /* it does not write there */
        stream.avail_in = (uInt)size;
        stream.next_out = (unsigned char *)room;
        stream.avail_out = (uInt)most;
        code = deflate(&stream, Z_FINISH);
    }
    member->length = code == Z_STREAM_END ? before + (most - stream.avail_out) : before;
    member->failed = false;
    (void)deflateEnd(&stream);
    return code == Z_STREAM_END ? 0 : FM_ENOMEM;
}
