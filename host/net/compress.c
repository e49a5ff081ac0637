/*
 * gzip and deflate. See compress.h.
 */
#include "host/net/compress.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "core/util/memory.h"

#define CHUNK_BYTES_MIN ((size_t)4 << 10)
#define CHUNK_BYTES_MAX ((size_t)1 << 20)
/* zlib's: 15 bits of window, and 16 more for the gzip format. */
#define WINDOW_ZLIB 15
#define WINDOW_GZIP (15 + 16)
/* Tensors rarely compress well: the fastest level gives most of what there is. */
#define LEVEL 1
/* zlib counts in 32 bits. */
#define PIECE_BYTES_MAX ((size_t)1 << 30)

static const char *const names[FM_COMPRESSION_COUNT_] = {
    [FM_COMPRESSION_IDENTITY] = "identity",
    [FM_COMPRESSION_DEFLATE] = "deflate",
    [FM_COMPRESSION_GZIP] = "gzip",
};

const char *fm_compression_name(enum fm_compression compression)
{
    return names[compression];
}

enum fm_compression fm_compression_parse(const char *name, size_t length)
{
    for (int i = 0; i < FM_COMPRESSION_COUNT_; i++) {
        if (strlen(names[i]) == length && strncasecmp(name, names[i], length) == 0) {
            return (enum fm_compression)i;
        }
    }
    return length == 6 && strncasecmp(name, "x-gzip", 6) == 0 ? FM_COMPRESSION_GZIP
                                                              : FM_COMPRESSION_COUNT_;
}

/* The thousandths of ";q=0.123"; 1000 when there is none, 0 when it cannot be read. */
static unsigned weight_of(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length && (text[i] == ' ' || text[i] == '\t' || text[i] == ';')) {
        i++;
    }
    if (i == length) {
        return 1000;
    }
    if (length - i < 3 || (text[i] != 'q' && text[i] != 'Q') || text[i + 1] != '=') {
        return 0;
    }
    unsigned weight = 0;
    unsigned scale = 1000;
    for (i += 2; i < length && scale > 0; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            weight += (unsigned)(text[i] - '0') * scale;
            scale /= 10;
        } else if (text[i] != '.') {
            break;
        }
    }
    return weight <= 1000 ? weight : 0;
}

enum fm_compression fm_compression_choose(const char *accepted)
{
    enum fm_compression best = FM_COMPRESSION_IDENTITY;
    unsigned best_weight = 0;
    while (accepted != NULL && *accepted != '\0') {
        accepted += strspn(accepted, ", \t");
        size_t length = strcspn(accepted, ",");
        size_t name_length = strcspn(accepted, ",; \t");
        enum fm_compression one = fm_compression_parse(accepted, name_length);
        if (one == FM_COMPRESSION_GZIP || one == FM_COMPRESSION_DEFLATE) {
            unsigned weight = weight_of(accepted + name_length, length - name_length);
            if (weight > best_weight || (weight > 0 && weight == best_weight && one > best)) {
                best = one;
                best_weight = weight;
            }
        }
        accepted += length;
    }
    return best;
}

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

/* Inflates up to the end of the stream. */
static int inflate_all(z_stream *stream, const unsigned char *data, size_t size, size_t bytes_max,
                       struct fm_text *text)
{
    size_t used = 0;
    size_t made = 0;
    size_t chunk = size < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN : size;
    for (;;) {
        chunk = chunk > CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX : chunk;
        size_t piece = size - used < PIECE_BYTES_MAX ? size - used : PIECE_BYTES_MAX;
        /* One byte more than may come tells a text that is too long from one that just fits. */
        size_t room = chunk < bytes_max - made + 1 ? chunk : bytes_max - made + 1;
        size_t start = text->length;
        char *out = fm_text_reserve(text, room);
        if (out == NULL) {
            return FM_ENOMEM;
        }
        /* zlib only reads them; its type has no const. */
        stream->next_in = (unsigned char *)data + used;
        stream->avail_in = (unsigned)piece;
        stream->next_out = (unsigned char *)out;
        stream->avail_out = (unsigned)room;
        int result = inflate(stream, Z_NO_FLUSH);
        used += piece - stream->avail_in;
        made += room - stream->avail_out;
        text->length = start + (room - stream->avail_out);
        if (made > bytes_max) {
            return FM_ETOOLARGE;
        }
        if (result == Z_STREAM_END) {
            return used == size ? 0 : FM_ECORRUPT;
        }
        if (result == Z_MEM_ERROR) {
            return FM_ENOMEM;
        }
        if (result != Z_OK || (used == size && stream->avail_out > 0)) {
            return FM_ECORRUPT;
        }
        chunk *= 2;
    }
}

int fm_decompress(enum fm_compression compression, const void *data, size_t size, size_t bytes_max,
                  struct fm_text *text)
{
    if (compression == FM_COMPRESSION_IDENTITY) {
        if (size > bytes_max) {
            return FM_ETOOLARGE;
        }
        fm_text_append(text, data, size);
        return text->failed ? FM_ENOMEM : 0;
    }
    z_stream stream = {.zalloc = zlib_alloc, .zfree = zlib_free};
    if (inflateInit2(&stream, compression == FM_COMPRESSION_GZIP ? WINDOW_GZIP : WINDOW_ZLIB) !=
        Z_OK) {
        return FM_ENOMEM;
    }
    int status = inflate_all(&stream, data, size, bytes_max, text);
    (void)inflateEnd(&stream);
    return status;
}

struct fm_compressor {
    z_stream stream;
    struct fm_text *text;
    bool identity;
};

struct fm_compressor *fm_compressor_create(enum fm_compression compression, struct fm_text *text)
{
    struct fm_compressor *compressor = fm_alloc_zero(1, sizeof(*compressor));
    if (compressor == NULL) {
        return NULL;
    }
    compressor->text = text;
    compressor->identity = compression == FM_COMPRESSION_IDENTITY;
    compressor->stream.zalloc = zlib_alloc;
    compressor->stream.zfree = zlib_free;
    if (!compressor->identity &&
        deflateInit2(&compressor->stream, LEVEL, Z_DEFLATED,
                     compression == FM_COMPRESSION_GZIP ? WINDOW_GZIP : WINDOW_ZLIB, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        fm_free(compressor);
        return NULL;
    }
    return compressor;
}

static int deflate_piece(struct fm_compressor *compressor, const unsigned char *data, size_t size,
                         int flush)
{
    z_stream *stream = &compressor->stream;
    struct fm_text *text = compressor->text;
    stream->next_in = (unsigned char *)data;
    stream->avail_in = (unsigned)size;
    for (;;) {
        size_t start = text->length;
        size_t room = CHUNK_BYTES_MIN + stream->avail_in / 2;
        char *out = fm_text_reserve(text, room);
        if (out == NULL) {
            return FM_ENOMEM;
        }
        stream->next_out = (unsigned char *)out;
        stream->avail_out = (unsigned)room;
        int result = deflate(stream, flush);
        text->length = start + (room - stream->avail_out);
        if (result == Z_STREAM_END || (flush == Z_NO_FLUSH && stream->avail_in == 0)) {
            return 0;
        }
        if (result != Z_OK) {
            return FM_EINTERNAL;
        }
    }
}

int fm_compressor_add(struct fm_compressor *compressor, const void *data, size_t size)
{
    if (compressor->identity) {
        fm_text_append(compressor->text, data, size);
        return compressor->text->failed ? FM_ENOMEM : 0;
    }
    const unsigned char *bytes = data;
    int status = 0;
    while (size > 0 && status == 0) {
        size_t piece = size < PIECE_BYTES_MAX ? size : PIECE_BYTES_MAX;
        status = deflate_piece(compressor, bytes, piece, Z_NO_FLUSH);
        bytes += piece;
        size -= piece;
    }
    return status;
}

int fm_compressor_end(struct fm_compressor *compressor)
{
    return compressor->identity ? 0 : deflate_piece(compressor, NULL, 0, Z_FINISH);
}

void fm_compressor_destroy(struct fm_compressor *compressor)
{
    if (compressor != NULL && !compressor->identity) {
        (void)deflateEnd(&compressor->stream);
    }
    fm_free(compressor);
}
