/*
 * PNG decoding with libspng: every colour type and bit depth to 8 bits, transparency on white,
 * interlaced or not.
 *
 * 16-bit samples keep their high byte; gamma and colour profiles are not applied; eXIf orientation
 * is not looked at. Checksums of the chunks that make the image are checked, damaged ancillary
 * chunks are skipped. The chunks are walked to the end chunk first, so that a truncated file is
 * refused even where the missing bytes are none of the image's. What follows the end chunk is
 * ignored. Thread rule: one decoder, one thread.
 */
#include <spng.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/image.h"
#include "host/runtime/operators/image_codec.h"

/* Memory that text, profiles and other ancillary chunks of one file may take, unpacked. */
#define ANCILLARY_BYTES_MAX ((size_t)16 << 20)

struct png_decoder {
    spng_ctx *context;
    uint32_t height;
    uint32_t width;
    uint32_t channels;
    int format;  /* that libspng decodes to */
    bool direct; /* straight into the caller's pixels, else by way of RGBA */
    bool bgr;
};

/*
 * libspng reports a failed allocation inside zlib as damaged data, and its allocator hooks have no
 * context: so the hooks leave word here, for the decoder that this thread is running.
 */
static _Thread_local bool allocation_failed;

static void *hook_alloc(size_t size)
{
    void *memory = fm_alloc(size);
    allocation_failed = allocation_failed || memory == NULL;
    return memory;
}

static void *hook_realloc(void *old, size_t size)
{
    void *memory = fm_realloc(old, size);
    allocation_failed = allocation_failed || memory == NULL;
    return memory;
}

static void *hook_alloc_zero(size_t count, size_t size)
{
    void *memory = fm_alloc_zero(count, size);
    allocation_failed = allocation_failed || memory == NULL;
    return memory;
}

static void png_close(void *decoder_)
{
    struct png_decoder *decoder = decoder_;
    if (decoder != NULL) {
        spng_ctx_free(decoder->context);
        fm_free(decoder);
    }
}

static int library_error(int code, struct fm_error *reterr)
{
    if (code == SPNG_EMEM || allocation_failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the PNG image");
    }
    if (code == SPNG_EOF || code == SPNG_EIDAT_TOO_SHORT) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the PNG image is truncated (%s); copy the file again",
                            spng_strerror(code));
    }
    return fm_error_set(reterr, FM_ECORRUPT, "the PNG image cannot be decoded: %s",
                        spng_strerror(code));
}

/* Follows the chunks' lengths from the signature to IEND. */
static int chunks_walk(const uint8_t *data, size_t size, struct fm_error *reterr)
{
    size_t at = 8;
    while (at < size && size - at >= 12) {
        size_t length = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 |
                        (size_t)data[at + 2] << 8 | data[at + 3];
        if (length > size - at - 12) {
            break;
        }
        if (memcmp(data + at + 4, "IEND", 4) == 0) {
            return 0;
        }
        at += 12 + length;
    }
    return fm_error_set(reterr, FM_ECORRUPT,
                        "the PNG image is truncated: its %zu bytes end without an end chunk; copy "
                        "the file again",
                        size);
}

static void formats_choose(struct png_decoder *decoder, enum fm_decode_channels channels,
                           const struct spng_ihdr *header, bool transparent)
{
    bool gray_file = header->color_type == SPNG_COLOR_TYPE_GRAYSCALE ||
                     header->color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
    bool gray = channels == FM_DECODE_GRAY || (channels == FM_DECODE_NATIVE && gray_file);
    decoder->channels = gray ? 1 : 3;
    decoder->bgr = channels == FM_DECODE_BGR;
    decoder->direct = true;
    if (!transparent && !gray) {
        decoder->format = SPNG_FMT_RGB8;
    } else if (!transparent && header->color_type == SPNG_COLOR_TYPE_GRAYSCALE &&
               header->bit_depth <= 8) {
        decoder->format = SPNG_FMT_G8;
    } else {
        decoder->format = SPNG_FMT_RGBA8;
        decoder->direct = false;
    }
}

static int headers_read(struct png_decoder *decoder, const struct fm_decode_options *options,
                        const uint8_t *data, size_t size, struct fm_error *reterr)
{
    struct spng_ihdr header;
    struct spng_trns transparency;
    int status = chunks_walk(data, size, reterr);
    if (status != 0) {
        return status;
    }
    int code = spng_set_chunk_limits(decoder->context, ANCILLARY_BYTES_MAX, ANCILLARY_BYTES_MAX);
    if (code == 0) {
        code = spng_set_png_buffer(decoder->context, data, size);
    }
    if (code == 0) {
        code = spng_get_ihdr(decoder->context, &header);
    }
    if (code != 0) {
        return library_error(code, reterr);
    }
    status = fm_decode_limit(options, header.width, header.height, reterr);
    if (status != 0) {
        return status;
    }
    code = spng_get_trns(decoder->context, &transparency);
    if (code != 0 && code != SPNG_ECHUNKAVAIL) {
        return library_error(code, reterr);
    }
    decoder->width = header.width;
    decoder->height = header.height;
    formats_choose(decoder, options->channels, &header, code == 0 || (header.color_type & 4) != 0);
    size_t bytes = 0;
    code = spng_decoded_image_size(decoder->context, decoder->format, &bytes);
    if (code != 0) {
        return library_error(code, reterr);
    }
    size_t channels = decoder->direct ? decoder->channels : 4;
    if (bytes != (size_t)header.width * header.height * channels) {
        return fm_error_set(reterr, FM_EINTERNAL,
                            "the PNG library wants %zu bytes for %u x %u pixels", bytes,
                            header.width, header.height);
    }
    return 0;
}

static int png_open(const struct fm_decode_options *options, const uint8_t *data, size_t size,
                    void **ret_decoder, struct fm_decoded *ret_decoded, struct fm_error *reterr)
{
    struct spng_alloc allocator = {hook_alloc, hook_realloc, hook_alloc_zero, fm_free};
    allocation_failed = false;
    struct png_decoder *decoder = fm_alloc_zero(1, sizeof(*decoder));
    if (decoder == NULL || (decoder->context = spng_ctx_new2(&allocator, 0)) == NULL) {
        png_close(decoder);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a PNG decoder");
    }
    int status = headers_read(decoder, options, data, size, reterr);
    if (status != 0) {
        png_close(decoder);
        return status;
    }
    *ret_decoded = (struct fm_decoded){.height = decoder->height,
                                       .width = decoder->width,
                                       .channels = decoder->channels,
                                       .source_height = decoder->height,
                                       .source_width = decoder->width,
                                       .orientation = 1};
    *ret_decoder = decoder;
    return 0;
}

static uint32_t on_white(uint32_t value, uint32_t alpha)
{
    return (value * alpha + 255 * (255 - alpha) + 127) / 255;
}

static void from_rgba(const struct png_decoder *decoder, const uint8_t *rgba, uint8_t *pixels)
{
    size_t count = (size_t)decoder->height * decoder->width;
    for (size_t i = 0; i < count; i++, rgba += 4) {
        uint32_t red = on_white(rgba[0], rgba[3]);
        uint32_t green = on_white(rgba[1], rgba[3]);
        uint32_t blue = on_white(rgba[2], rgba[3]);
        if (decoder->channels == 1) {
            pixels[i] = (uint8_t)((77 * red + 150 * green + 29 * blue + 128) >> 8);
        } else {
            pixels[3 * i] = (uint8_t)(decoder->bgr ? blue : red);
            pixels[3 * i + 1] = (uint8_t)green;
            pixels[3 * i + 2] = (uint8_t)(decoder->bgr ? red : blue);
        }
    }
}

static int png_decode(void *decoder_, uint8_t *pixels, struct fm_error *reterr)
{
    struct png_decoder *decoder = decoder_;
    size_t count = (size_t)decoder->height * decoder->width;
    size_t size = count * (decoder->direct ? decoder->channels : 4);
    uint8_t *target = pixels;
    if (!decoder->direct) {
        target = fm_alloc(size);
        if (target == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the PNG image");
        }
    }
    int status = 0;
    int code = spng_decode_image(decoder->context, target, size, decoder->format, SPNG_DECODE_TRNS);
    if (code != 0) {
        status = library_error(code, reterr);
    } else if (!decoder->direct) {
        from_rgba(decoder, target, pixels);
    } else if (decoder->bgr) {
        for (size_t i = 0; i < count; i++) {
            uint8_t red = pixels[3 * i];
            pixels[3 * i] = pixels[3 * i + 2];
            pixels[3 * i + 2] = red;
        }
    }
    if (target != pixels) {
        fm_free(target);
    }
    return status;
}

const struct fm_codec fm_codec_png = {png_open, png_decode, png_close};
