/*
 * What image_decode asks of a decoder: the facts first, then the pixels into memory that the caller
 * provides.
 *
 * Thread rule: decoders belong to one thread; the codecs themselves are constant.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_IMAGE_CODEC_H
#define FM_HOST_RUNTIME_OPERATORS_IMAGE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

enum fm_decode_channels { FM_DECODE_RGB, FM_DECODE_BGR, FM_DECODE_GRAY, FM_DECODE_NATIVE };

struct fm_decode_options {
    uint64_t pixels_max;
    uint32_t scale_to; /* longest side wanted; 0: full size */
    enum fm_decode_channels channels;
};

struct fm_decoded {
    uint32_t height; /* of the pixels that decode() writes */
    uint32_t width;
    uint32_t channels;
    uint32_t source_height; /* as the file says */
    uint32_t source_width;
    int orientation; /* 1 to 8 as in EXIF */
};

struct fm_codec {
    /*
     * Reads the headers and fills *ret_decoded. data is borrowed until close(). Allocates no memory
     * that depends on the image's size before the limit of options is checked. FM_ECORRUPT,
     * FM_ETOOLARGE, FM_EUNSUPPORTED, FM_ENOMEM.
     */
    int (*open)(const struct fm_decode_options *options, const uint8_t *data, size_t size,
                void **ret_decoder, struct fm_decoded *ret_decoded, struct fm_error *reterr);
    /* Once: writes height * width * channels bytes. On failure their content is undefined. */
    int (*decode)(void *decoder, uint8_t *pixels, struct fm_error *reterr);
    void (*close)(void *decoder); /* accepts NULL */
};

extern const struct fm_codec fm_codec_jpeg;
extern const struct fm_codec fm_codec_png;

/* FM_ETOOLARGE with the dimensions in the text when the file has more pixels than allowed,
 * FM_ECORRUPT for none. */
int FM_NODISCARD fm_decode_limit(const struct fm_decode_options *options, uint64_t width,
                                 uint64_t height, struct fm_error *reterr);

#endif
