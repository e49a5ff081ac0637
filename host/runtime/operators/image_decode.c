/*
 * Operator image_decode: the bytes of a JPEG or PNG file to UINT8 [height, width, channels].
 *
 * Owns: recognition of formats, limits, scale selection, orientation. The two decoders are in
 * image_jpeg.c and image_png.c. Thread rule: the state is constant; every run has decoder objects
 * of its own.
 */
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/image.h"
#include "host/runtime/operators/image_codec.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/table.h"

enum { PARAMETER_CHANNELS, PARAMETER_MAX_PIXELS, PARAMETER_SCALE_TO, PARAMETER_ORIENTATION };

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_CHANNELS] = {"channels", "rgb",
                            "rgb, bgr, gray (one channel) or native (one channel for gray files, "
                            "else rgb)"},
    [PARAMETER_MAX_PIXELS] = {"max_pixels", "50000000",
                              "pixels of the file above which it is refused, before any memory is "
                              "allocated; 1 to 1000000000"},
    [PARAMETER_SCALE_TO] = {"scale_to", "0",
                            "pixels of the longest side that are wanted: JPEG is decoded at 1/2, "
                            "1/4 or 1/8 where that is still not smaller; 0: full size"},
    [PARAMETER_ORIENTATION] = {"orientation", "true",
                               "turn JPEG images as their EXIF orientation says"},
    {NULL, NULL, NULL},
};

static const char *const channel_names[] = {"rgb", "bgr", "gray", "native", NULL};

struct decode_state {
    struct fm_decode_options options;
    bool orientation;
    struct fm_port output[2];
};

static int decode_create(const struct fm_host *host, const struct fm_setting *settings,
                         size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)setting_count;
    int channels = 0;
    uint64_t scale_to = 0;
    struct decode_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = fm_option_choice(&settings[PARAMETER_CHANNELS], channel_names, &channels, reterr);
    if (status == 0) {
        status = fm_option_uint(&settings[PARAMETER_MAX_PIXELS], 1, 1000000000,
                                &state->options.pixels_max, reterr);
    }
    if (status == 0) {
        status =
            fm_option_uint(&settings[PARAMETER_SCALE_TO], 0, FM_IMAGE_SIDE_MAX, &scale_to, reterr);
    }
    if (status == 0) {
        status = fm_option_bool(&settings[PARAMETER_ORIENTATION], &state->orientation, reterr);
    }
    if (status != 0) {
        fm_free(state);
        return status;
    }
    state->options.channels = (enum fm_decode_channels)channels;
    state->options.scale_to = (uint32_t)scale_to;
    int64_t depth = channels == FM_DECODE_NATIVE ? -1 : channels == FM_DECODE_GRAY ? 1 : 3;
    state->output[0] = (struct fm_port){
        .name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, depth}};
    state->output[1] =
        (struct fm_port){.name = "source_size", .dtype = FM_DTYPE_INT64, .rank = 1, .shape = {2}};
    *ret_state = state;
    return 0;
}

static int decode_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                        const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port input = {
        .name = "bytes", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    *ret_inputs = &input;
    *ret_input_count = 1;
    *ret_outputs = ((struct decode_state *)state)->output;
    *ret_output_count = 2;
    return 0;
}

/* --- Formats --- */

struct magic {
    const char *name;
    size_t offset;
    const char *bytes;
    size_t length;
};

#define MAGIC(name, offset, bytes)             \
    {                                          \
        name, offset, bytes, sizeof(bytes) - 1 \
    }

/* Files that people send by mistake, so that the message can name them. */
static const struct magic magics[] = {
    MAGIC("a GIF image", 0, "GIF8"),
    MAGIC("a WebP image", 8, "WEBP"),
    MAGIC("a PDF document", 0, "%PDF-"),
    MAGIC("a TIFF image", 0, "II*\0"),
    MAGIC("a TIFF image", 0, "MM\0*"),
    MAGIC("a BMP image", 0, "BM"),
    MAGIC("an AVIF image", 4, "ftypavif"),
    MAGIC("a HEIC image", 4, "ftyphei"),
    MAGIC("a HEIC image", 4, "ftypmif1"),
    MAGIC("a JPEG 2000 image", 0, "\0\0\0\x0cjP  "),
    MAGIC("a JPEG XL image", 0, "\xff\x0a"),
    MAGIC("a JPEG XL image", 0, "\0\0\0\x0cJXL "),
    MAGIC("an icon", 0, "\0\0\1\0"),
    MAGIC("a Photoshop file", 0, "8BPS"),
    MAGIC("a zip archive", 0, "PK\3\4"),
    MAGIC("gzip data", 0, "\x1f\x8b"),
    MAGIC("a program", 0,
          "\x7f"
          "ELF"),
    MAGIC("an HTML page", 0, "<!DOCTYPE"),
    MAGIC("an HTML page", 0, "<!doctype"),
    MAGIC("an HTML page", 0, "<html"),
    MAGIC("an HTML page", 0, "<HTML"),
    MAGIC("an SVG image", 0, "<svg"),
    MAGIC("an XML document", 0, "<?xml"),
    MAGIC("a PostScript document", 0, "%!PS"),
    MAGIC("a Netpbm image", 0, "P4\n"),
    MAGIC("a Netpbm image", 0, "P5\n"),
    MAGIC("a Netpbm image", 0, "P6\n"),
};

static int format_unknown(struct fm_error *reterr, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < FM_COUNT_OF(magics); i++) {
        const struct magic *magic = &magics[i];
        if (size >= magic->offset + magic->length &&
            memcmp(data + magic->offset, magic->bytes, magic->length) == 0) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "the input is %s; only JPEG and PNG images can be decoded",
                                magic->name);
        }
    }
    char first[3 * 8 + 1] = "";
    static const char digits[] = "0123456789abcdef";
    size_t shown = size < 8 ? size : 8;
    for (size_t i = 0; i < shown; i++) {
        first[3 * i] = ' ';
        first[3 * i + 1] = digits[data[i] >> 4];
        first[3 * i + 2] = digits[data[i] & 15];
        first[3 * i + 3] = '\0';
    }
    return fm_error_set(reterr, FM_ECORRUPT,
                        "the input is neither a JPEG nor a PNG image: its %zu bytes begin with%s",
                        size, first);
}

int fm_decode_limit(const struct fm_decode_options *options, uint64_t width, uint64_t height,
                    struct fm_error *reterr)
{
    if (width == 0 || height == 0) {
        return fm_error_set(reterr, FM_ECORRUPT, "the image has no pixels (%llu x %llu)",
                            (unsigned long long)width, (unsigned long long)height);
    }
    if (width > FM_IMAGE_SIDE_MAX || height > FM_IMAGE_SIDE_MAX ||
        width * height > options->pixels_max) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the image has %llu x %llu pixels (%.1f megapixels), more than "
                            "max_pixels %llu allows; raise max_pixels or make the image smaller",
                            (unsigned long long)width, (unsigned long long)height,
                            (double)(width * height) / 1e6,
                            (unsigned long long)options->pixels_max);
    }
    return 0;
}

/* --- Orientation --- */

/*
 * EXIF's eight orientations: where the stored row 0 and column 0 are on the real image. Pixel (y,
 * x) of the upright image comes from the stored image at origin + y * down + x * across, in pixels.
 */
static void orient(const uint8_t *source, uint32_t source_height, uint32_t source_width,
                   uint32_t channels, int orientation, uint8_t *result)
{
    bool swapped = orientation >= 5;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    /* With swapped axes the upright rows run along stored columns. */
    uint32_t height = swapped ? source_width : source_height;
    uint32_t width = swapped ? source_height : source_width;
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            uint32_t source_y = swapped ? x : y;
            uint32_t source_x = swapped ? y : x;
            bool flip_y = swapped ? from_right : from_bottom;
            bool flip_x = swapped ? from_bottom : from_right;
            source_y = flip_y ? source_height - 1 - source_y : source_y;
            source_x = flip_x ? source_width - 1 - source_x : source_x;
            const uint8_t *pixel = source + ((size_t)source_y * source_width + source_x) * channels;
            for (uint32_t c = 0; c < channels; c++) {
                *result++ = pixel[c];
            }
        }
    }
}

/* --- Run --- */

static int decode_into(struct fm_operator_call *call, const struct decode_state *state,
                       const struct fm_codec *codec, const uint8_t *data, size_t size,
                       struct fm_decoded *decoded)
{
    const struct fm_decode_options *options = &state->options;
    void *decoder = NULL;
    int status = codec->open(options, data, size, &decoder, decoded, &call->error);
    if (status != 0) {
        return status;
    }
    int orientation = state->orientation ? decoded->orientation : 1;
    bool swapped = orientation >= 5;
    uint8_t *pixels = NULL;
    uint8_t *stored = NULL;
    status = fm_image_emit(call, 0, swapped ? decoded->width : decoded->height,
                           swapped ? decoded->height : decoded->width, decoded->channels, &pixels);
    if (status != 0) {
        goto out;
    }
    if (orientation > 1) {
        stored = fm_alloc((size_t)decoded->height * decoded->width * decoded->channels);
        if (stored == NULL) {
            status = fm_error_set(&call->error, FM_ENOMEM, "out of memory for the image");
            goto out;
        }
    }
    status = codec->decode(decoder, stored != NULL ? stored : pixels, &call->error);
    if (status == 0 && stored != NULL) {
        orient(stored, decoded->height, decoded->width, decoded->channels, orientation, pixels);
    }
    if (swapped) {
        uint32_t width = decoded->source_width;
        decoded->source_width = decoded->source_height;
        decoded->source_height = width;
    }
out:
    fm_free(stored);
    codec->close(decoder);
    return status;
}

static int decode_run(void *state, struct fm_operator_call *call)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const char *bytes = NULL;
    size_t size = 0;
    int status = fm_bytes_get(&call->inputs[0].items[0], 0, &bytes, &size);
    if (status != 0) {
        return fm_error_set(&call->error, status, "the input holds no bytes element");
    }
    const uint8_t *data = (const uint8_t *)bytes;
    struct fm_decoded decoded = {.orientation = 1};
    if (size == 0) {
        return fm_error_set(&call->error, FM_ECORRUPT, "the image file is empty (0 bytes)");
    }
    if (size >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF) {
        status = decode_into(call, state, &fm_codec_jpeg, data, size, &decoded);
    } else if (size >= 4 && memcmp(data, png, size < 8 ? size : 8) == 0) {
        status = decode_into(call, state, &fm_codec_png, data, size, &decoded);
    } else {
        status = format_unknown(&call->error, data, size);
    }
    if (status != 0) {
        return status;
    }
    const struct fm_tensor like = {.dtype = FM_DTYPE_INT64, .rank = 1, .shape = {2}};
    void *source_size = NULL;
    status = call->emit(call, 1, &like, &source_size);
    if (status == 0) {
        ((int64_t *)source_size)[0] = decoded.source_height;
        ((int64_t *)source_size)[1] = decoded.source_width;
    }
    return status;
}

const struct fm_operator fm_operator_image_decode = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "image_decode",
    .summary = "the bytes of a JPEG or PNG file to an image",
    .parameters = parameters,
    .create = decode_create,
    .destroy = fm_free,
    .ports = decode_ports,
    .run = decode_run,
};
