/*
 * JPEG decoding with libturbojpeg, at 1/1, 1/2, 1/4 or 1/8.
 *
 * WHAT COUNTS AS AN ERROR. libjpeg paints what it cannot read gray and only warns; here that is an
 * error. Before decoding, the file's segments are walked to its end marker, so a truncated file is
 * refused whatever the decoder would make of it. After decoding, a warning is an error unless it is
 * known to lose nothing (see harmless_warnings): odd metadata, or extra bytes before the end
 * marker. libturbojpeg keeps only the first warning of an image: damage behind a harmless warning
 * in the same file can pass. Thread rule: one decoder, one thread.
 */
#include <string.h>
#include <turbojpeg.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/image.h"
#include "host/runtime/operators/image_codec.h"

struct jpeg_decoder {
    tjhandle handle;
    const uint8_t *data;
    size_t size;
    uint32_t height;
    uint32_t width;
    uint32_t channels;
    int pixel_format;
    bool cmyk;
    bool bgr;
};

/* --- Segments --- */

enum {
    MARKER_TEM = 0x01,
    MARKER_RST0 = 0xD0,
    MARKER_RST7 = 0xD7,
    MARKER_SOI = 0xD8,
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP1 = 0xE1,
    TAG_ORIENTATION = 0x0112,
    TYPE_SHORT = 3,
};

static uint32_t read_number(const uint8_t *bytes, int count, bool little)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++) {
        value = value << 8 | bytes[little ? count - 1 - i : i];
    }
    return value;
}

/* The orientation in the content of an Exif segment, 1 when there is none or it makes no sense. */
static int exif_orientation(const uint8_t *data, size_t size)
{
    if (size < 14 || memcmp(data, "Exif\0\0", 6) != 0) {
        return 1;
    }
    const uint8_t *tiff = data + 6;
    size -= 6;
    bool little = tiff[0] == 'I';
    size_t directory = read_number(tiff + 4, 4, little);
    if (directory > size || size - directory < 2) {
        return 1;
    }
    size_t entries = read_number(tiff + directory, 2, little);
    for (size_t i = 0; i < entries; i++) {
        size_t at = directory + 2 + 12 * i;
        if (at + 12 > size) {
            break;
        }
        if (read_number(tiff + at, 2, little) == TAG_ORIENTATION &&
            read_number(tiff + at + 2, 2, little) == TYPE_SHORT) {
            uint32_t value = read_number(tiff + at + 8, 2, little);
            return value >= 1 && value <= 8 ? (int)value : 1;
        }
    }
    return 1;
}

/* Behind the coded data that begins at `at`: where the next marker's 0xFF is, or size. */
static size_t coded_data_end(const uint8_t *data, size_t size, size_t at)
{
    while (at < size) {
        const uint8_t *found = memchr(data + at, 0xFF, size - at);
        if (found == NULL || found + 1 == data + size) {
            return size;
        }
        at = (size_t)(found - data);
        uint8_t next = found[1];
        if (next != 0 && next != 0xFF && !(next >= MARKER_RST0 && next <= MARKER_RST7)) {
            return at;
        }
        at += next == 0xFF ? 1 : 2;
    }
    return size;
}

/* Walks all segments to the end marker. */
static int segments_walk(const uint8_t *data, size_t size, int *ret_orientation,
                         struct fm_error *reterr)
{
    size_t at = 2;
    bool scan_seen = false;
    *ret_orientation = 1;
    while (at < size) {
        const uint8_t *found = memchr(data + at, 0xFF, size - at);
        if (found == NULL || found + 1 == data + size) {
            break;
        }
        at = (size_t)(found - data) + 1;
        uint8_t marker = data[at];
        if (marker == 0xFF) {
            continue;
        }
        at++;
        if (marker == MARKER_EOI) {
            if (scan_seen) {
                return 0;
            }
            return fm_error_set(reterr, FM_ECORRUPT, "the JPEG image ends before any image data");
        }
        if (marker == 0 || marker == MARKER_TEM ||
            (marker >= MARKER_RST0 && marker <= MARKER_SOI)) {
            continue;
        }
        if (size - at < 2) {
            break;
        }
        size_t length = read_number(data + at, 2, false);
        if (length < 2 || length > size - at) {
            break;
        }
        if (marker == MARKER_APP1 && *ret_orientation == 1) {
            *ret_orientation = exif_orientation(data + at + 2, length - 2);
        }
        at += length;
        if (marker == MARKER_SOS) {
            scan_seen = true;
            at = coded_data_end(data, size, at);
        }
    }
    return fm_error_set(reterr, FM_ECORRUPT,
                        "the JPEG image is truncated: its %zu bytes end %s, without an end marker; "
                        "copy the file again",
                        size, scan_seen ? "in the image data" : "in the headers");
}

/* --- The codec --- */

static bool warning_is_harmless(const char *text)
{
    static const char *const harmless_warnings[] = {
        "unknown JFIF revision number",
        "Unknown Adobe color transform code",
        "bad ICC marker",
        "extraneous bytes before marker 0xd9",
        "Invalid SOS parameters for sequential JPEG",
    };
    for (size_t i = 0; i < FM_COUNT_OF(harmless_warnings); i++) {
        if (strstr(text, harmless_warnings[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* What the library said, as one of our statuses. */
static int library_error(tjhandle handle, struct fm_error *reterr)
{
    const char *text = tjGetErrorStr2(handle);
    int status =
        strstr(text, "nsupported") != NULL || strstr(text, "not supported") != NULL
            ? FM_EUNSUPPORTED
        : strstr(text, "nsufficient memory") != NULL || strstr(text, "Memory allocation") != NULL
            ? FM_ENOMEM
            : FM_ECORRUPT;
    return fm_error_set(reterr, status, "the JPEG image cannot be decoded: %s", text);
}

/* 8, 4, 2 or 1: the strongest reduction that leaves the longest side at least `wanted` pixels long.
 */
static uint32_t reduction_choose(uint32_t longest, uint32_t wanted)
{
    for (uint32_t by = 8; wanted > 0 && by > 1; by /= 2) {
        if ((longest + by - 1) / by >= wanted) {
            return by;
        }
    }
    return 1;
}

static void jpeg_close(void *decoder_)
{
    struct jpeg_decoder *decoder = decoder_;
    if (decoder == NULL) {
        return;
    }
    if (decoder->handle != NULL) {
        (void)tjDestroy(decoder->handle);
    }
    fm_free(decoder);
}

static void formats_choose(struct jpeg_decoder *decoder, enum fm_decode_channels channels,
                           int colour_space)
{
    bool gray =
        channels == FM_DECODE_GRAY || (channels == FM_DECODE_NATIVE && colour_space == TJCS_GRAY);
    decoder->bgr = channels == FM_DECODE_BGR;
    decoder->channels = gray ? 1 : 3;
    decoder->cmyk = colour_space == TJCS_CMYK || colour_space == TJCS_YCCK;
    decoder->pixel_format = decoder->cmyk  ? TJPF_CMYK
                            : gray         ? TJPF_GRAY
                            : decoder->bgr ? TJPF_BGR
                                           : TJPF_RGB;
}

static int jpeg_open(const struct fm_decode_options *options, const uint8_t *data, size_t size,
                     void **ret_decoder, struct fm_decoded *ret_decoded, struct fm_error *reterr)
{
    int width = 0;
    int height = 0;
    int subsampling = 0;
    int colour_space = 0;
    struct jpeg_decoder *decoder = fm_alloc_zero(1, sizeof(*decoder));
    if (decoder == NULL || (decoder->handle = tjInitDecompress()) == NULL) {
        jpeg_close(decoder);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a JPEG decoder");
    }
    int status = segments_walk(data, size, &ret_decoded->orientation, reterr);
    if (status == 0 &&
        tjDecompressHeader3(decoder->handle, data, (unsigned long)size, &width, &height,
                            &subsampling, &colour_space) != 0 &&
        (tjGetErrorCode(decoder->handle) != TJERR_WARNING || width <= 0)) {
        status = library_error(decoder->handle, reterr);
    }
    if (status == 0) {
        status = fm_decode_limit(options, (uint64_t)width, (uint64_t)height, reterr);
    }
    if (status != 0) {
        jpeg_close(decoder);
        return status;
    }
    uint32_t by = reduction_choose((uint32_t)(width > height ? width : height), options->scale_to);
    decoder->data = data;
    decoder->size = size;
    decoder->width = ((uint32_t)width + by - 1) / by;
    decoder->height = ((uint32_t)height + by - 1) / by;
    formats_choose(decoder, options->channels, colour_space);
    ret_decoded->width = decoder->width;
    ret_decoded->height = decoder->height;
    ret_decoded->channels = decoder->channels;
    ret_decoded->source_width = (uint32_t)width;
    ret_decoded->source_height = (uint32_t)height;
    *ret_decoder = decoder;
    return 0;
}

/* Print colours as Adobe stores them, inverted: 255 is no ink. Good enough to read by; no colour
 * profile is applied. */
static void from_cmyk(const struct jpeg_decoder *decoder, const uint8_t *cmyk, uint8_t *pixels)
{
    size_t count = (size_t)decoder->height * decoder->width;
    for (size_t i = 0; i < count; i++, cmyk += 4) {
        uint32_t red = cmyk[0] * cmyk[3] / 255u;
        uint32_t green = cmyk[1] * cmyk[3] / 255u;
        uint32_t blue = cmyk[2] * cmyk[3] / 255u;
        if (decoder->channels == 1) {
            pixels[i] = (uint8_t)((77 * red + 150 * green + 29 * blue + 128) >> 8);
        } else {
            pixels[3 * i] = (uint8_t)(decoder->bgr ? blue : red);
            pixels[3 * i + 1] = (uint8_t)green;
            pixels[3 * i + 2] = (uint8_t)(decoder->bgr ? red : blue);
        }
    }
}

static int jpeg_decode(void *decoder_, uint8_t *pixels, struct fm_error *reterr)
{
    struct jpeg_decoder *decoder = decoder_;
    uint8_t *target = pixels;
    int status = 0;
    if (decoder->cmyk) {
        target = fm_alloc((size_t)decoder->height * decoder->width * 4);
        if (target == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the image");
        }
    }
    if (tjDecompress2(decoder->handle, decoder->data, (unsigned long)decoder->size, target,
                      (int)decoder->width, 0, (int)decoder->height, decoder->pixel_format,
                      TJFLAG_LIMITSCANS) != 0) {
        bool warning = tjGetErrorCode(decoder->handle) == TJERR_WARNING;
        if (!warning || !warning_is_harmless(tjGetErrorStr2(decoder->handle))) {
            status = library_error(decoder->handle, reterr);
        }
    }
    if (status == 0 && decoder->cmyk) {
        from_cmyk(decoder, target, pixels);
    }
    if (target != pixels) {
        fm_free(target);
    }
    return status;
}

const struct fm_codec fm_codec_jpeg = {jpeg_open, jpeg_decode, jpeg_close};
