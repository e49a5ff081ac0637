/*
 * Bytes of files that may be compressed. See byte_stream.h.
 */
#include "host/source/byte_stream.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

enum { INPUT_BYTES = 1 << 17, SKIP_BYTES = 1 << 14, HEAD_BYTES = 4 };

enum step { STEP_MORE, STEP_STREAM_END, STEP_CORRUPT, STEP_NO_MEMORY };

/* One way of compressing. */
struct fm_byte_stream_kind {
    const char *name;
    unsigned char magic[HEAD_BYTES];
    size_t magic_size;
    void *(*create)(void); /* NULL: no memory */
    /* Ready for the beginning of a stream. */
    void (*reset)(void *state);
    /* Decompresses some. *words: what is wrong, when something is. */
    enum step (*step)(void *state, const unsigned char *input, size_t *input_size,
                      unsigned char *output, size_t *output_size, const char **words);
    void (*destroy)(void *state);
};

/* --- gzip --- */

enum { GZIP_WINDOW = 15 + 16 };

static voidpf gzip_alloc(voidpf context, uInt count, uInt size)
{
    (void)context;
    return fm_alloc((size_t)count * size);
}

static void gzip_free(voidpf context, voidpf memory)
{
    (void)context;
    fm_free(memory);
}

static void *gzip_create(void)
{
    z_stream *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return NULL;
    }
    state->zalloc = gzip_alloc;
    state->zfree = gzip_free;
    if (inflateInit2(state, GZIP_WINDOW) != Z_OK) {
        fm_free(state);
        return NULL;
    }
    return state;
}

static void gzip_reset(void *state)
{
    int status = inflateReset(state);
    FM_ASSERT(status == Z_OK); /* of a state that stands it cannot fail */
}

static enum step gzip_step(void *state, const unsigned char *input, size_t *input_size,
                           unsigned char *output, size_t *output_size, const char **words)
{
    z_stream *stream = state;
    stream->next_in = (unsigned char *)(uintptr_t)input; /* zlib does not write there */
    stream->avail_in = (uInt)*input_size;
    stream->next_out = output;
    stream->avail_out = (uInt)*output_size;
    int status = inflate(stream, Z_NO_FLUSH);
    *input_size -= stream->avail_in;
    *output_size -= stream->avail_out;
    switch (status) {
    case Z_OK:
    case Z_BUF_ERROR: /* it wants more of something: that is seen by what was used */
        return STEP_MORE;
    case Z_STREAM_END:
        return STEP_STREAM_END;
    case Z_MEM_ERROR:
        return STEP_NO_MEMORY;
    default:
        *words = stream->msg != NULL ? stream->msg : "it cannot be decompressed";
        return STEP_CORRUPT;
    }
}

static void gzip_destroy(void *state)
{
    (void)inflateEnd(state);
    fm_free(state);
}

/* --- Zstandard --- */

static void *zstd_create(void)
{
    return ZSTD_createDCtx();
}

static void zstd_reset(void *state)
{
    size_t status = ZSTD_DCtx_reset(state, ZSTD_reset_session_only);
    FM_ASSERT(ZSTD_isError(status) == 0);
}

static enum step zstd_step(void *state, const unsigned char *input, size_t *input_size,
                           unsigned char *output, size_t *output_size, const char **words)
{
    ZSTD_inBuffer in = {.src = input, .size = *input_size};
    ZSTD_outBuffer out = {.dst = output, .size = *output_size};
    size_t left = ZSTD_decompressStream(state, &out, &in);
    *input_size = in.pos;
    *output_size = out.pos;
    if (ZSTD_isError(left)) {
        *words = ZSTD_getErrorName(left);
        return strcmp(*words, "Allocation error : not enough memory") == 0 ? STEP_NO_MEMORY
                                                                           : STEP_CORRUPT;
    }
    return left == 0 ? STEP_STREAM_END : STEP_MORE;
}

static void zstd_destroy(void *state)
{
    (void)ZSTD_freeDCtx(state);
}

static const struct fm_byte_stream_kind kinds[] = {
    {"gzip", {0x1F, 0x8B}, 2, gzip_create, gzip_reset, gzip_step, gzip_destroy},
    {"zstd", {0x28, 0xB5, 0x2F, 0xFD}, 4, zstd_create, zstd_reset, zstd_step, zstd_destroy},
};

/* --- Streams --- */

static int refuse(const struct fm_byte_stream *stream, const char *words, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ECORRUPT, "%s: byte %" PRIu64 " of the %s file: %s",
                        stream->file.path, stream->input_offset + stream->input_used,
                        stream->kind->name, words);
}

static int kind_find(struct fm_byte_stream *stream, struct fm_error *reterr)
{
    unsigned char head[HEAD_BYTES];
    size_t size = 0;
    int status = fm_file_reader_read_at(&stream->file, 0, head, sizeof(head), &size, reterr);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && status == 0; i++) {
        if (size >= kinds[i].magic_size && memcmp(head, kinds[i].magic, kinds[i].magic_size) == 0) {
            stream->kind = &kinds[i];
        }
        /* A frame to be skipped may come first: pzstd writes one. */
        if (kinds[i].create == zstd_create && size >= 4 && (head[0] & 0xF0) == 0x50 &&
            memcmp(head + 1, "\x2A\x4D\x18", 3) == 0) {
            stream->kind = &kinds[i];
        }
    }
    return status;
}

int fm_byte_stream_open(struct fm_byte_stream *stream, const char *path, struct fm_error *reterr)
{
    *stream = (struct fm_byte_stream){0};
    int status = fm_file_reader_open(&stream->file, path, reterr);
    status = status != 0 ? status : kind_find(stream, reterr);
    if (status == 0 && stream->kind != NULL) {
        stream->input = fm_alloc(INPUT_BYTES);
        stream->state = stream->kind->create();
        if (stream->input == NULL || stream->state == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "%s: out of memory to decompress it", path);
        }
    }
    if (status != 0) {
        fm_byte_stream_close(stream);
    }
    return status;
}

static void rewind_to_start(struct fm_byte_stream *stream)
{
    stream->kind->reset(stream->state);
    stream->position = 0;
    stream->input_size = 0;
    stream->input_used = 0;
    stream->input_offset = 0;
    stream->input_ended = false;
    stream->within = false;
}

static int input_fill(struct fm_byte_stream *stream, struct fm_error *reterr)
{
    if (stream->input_used < stream->input_size || stream->input_ended) {
        return 0;
    }
    stream->input_offset += stream->input_size;
    stream->input_used = 0;
    int status = fm_file_reader_read_at(&stream->file, stream->input_offset, stream->input,
                                        INPUT_BYTES, &stream->input_size, reterr);
    stream->input_ended = status == 0 && stream->input_size < INPUT_BYTES;
    return status;
}

/* Between streams: 1: another one begins; 0: the file is over. Zeros fill up a file, as tapes want
 * it; anything else is another stream, or damage that the next step sees. */
static int stream_begin(struct fm_byte_stream *stream, struct fm_error *reterr)
{
    for (;;) {
        int status = input_fill(stream, reterr);
        if (status != 0 || stream->input_used == stream->input_size) {
            return status;
        }
        if (stream->input[stream->input_used] != 0) {
            break;
        }
        stream->input_used++;
    }
    stream->kind->reset(stream->state);
    stream->within = true;
    return 1;
}

/* Some more bytes: *size, 0 at the end. */
static int some(struct fm_byte_stream *stream, unsigned char *data, size_t *size,
                struct fm_error *reterr)
{
    size_t room = *size;
    *size = 0;
    while (*size == 0) {
        const char *words = NULL;
        int begun = stream->within ? 1 : stream_begin(stream, reterr);
        if (begun <= 0) {
            return begun;
        }
        int status = input_fill(stream, reterr);
        if (status != 0) {
            return status;
        }
        size_t used = stream->input_size - stream->input_used;
        bool cut = used == 0;
        *size = room;
        enum step step = stream->kind->step(stream->state, stream->input + stream->input_used,
                                            &used, data, size, &words);
        stream->input_used += used;
        stream->position += *size;
        stream->within = step != STEP_STREAM_END;
        if (step == STEP_NO_MEMORY) {
            return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory to decompress it",
                                stream->file.path);
        }
        if (step == STEP_CORRUPT) {
            return refuse(stream, words, reterr);
        }
        if (step == STEP_MORE && cut && *size == 0) {
            return refuse(stream, "the file ends in the middle: it was cut off", reterr);
        }
    }
    return 0;
}

int fm_byte_stream_read_at(struct fm_byte_stream *stream, uint64_t offset, void *data, size_t size,
                           size_t *ret_size, struct fm_error *reterr)
{
    unsigned char passed[SKIP_BYTES];
    *ret_size = 0;
    if (stream->kind == NULL) {
        return fm_file_reader_read_at(&stream->file, offset, data, size, ret_size, reterr);
    }
    if (offset < stream->position) {
        rewind_to_start(stream);
    }
    while (stream->position < offset) {
        uint64_t left = offset - stream->position;
        size_t part = left < sizeof(passed) ? (size_t)left : sizeof(passed);
        int status = some(stream, passed, &part, reterr);
        if (status != 0 || part == 0) {
            return status;
        }
    }
    while (*ret_size < size) {
        size_t part = size - *ret_size;
        int status = some(stream, (unsigned char *)data + *ret_size, &part, reterr);
        if (status != 0 || part == 0) {
            return status;
        }
        *ret_size += part;
    }
    return 0;
}

void fm_byte_stream_close(struct fm_byte_stream *stream)
{
    if (stream->state != NULL) {
        stream->kind->destroy(stream->state);
    }
    fm_free(stream->input);
    fm_file_reader_close(&stream->file);
    *stream = (struct fm_byte_stream){0};
}
