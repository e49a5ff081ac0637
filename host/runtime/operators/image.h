/*
 * Images as tensors: UINT8 [height, width, channels], rows without padding.
 *
 * Owns: the view of such a tensor and the sampling of rows from it. Thread rule: caller's memory.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_IMAGE_H
#define FM_HOST_RUNTIME_OPERATORS_IMAGE_H

#include <stdbool.h>

#include "fermata/operator.h"

/* The longest side of an image that any operator makes; above it indices would leave 32 bits. */
#define FM_IMAGE_SIDE_MAX (1u << 20)
/* The most bytes of one tensor that an operator makes from an image: a wild parameter is an error
 * and not a full memory. */
#define FM_IMAGE_BYTES_MAX ((uint64_t)4 << 30)

struct fm_image {
    const uint8_t *pixels; /* [height, width, channels] */
    uint32_t height;
    uint32_t width;
    uint32_t channels; /* 1 or 3 */
};

/* Views a checked tensor of rank 3. FM_ETYPE for no pixels, for sides above FM_IMAGE_SIDE_MAX, for
 * channels other than 1 or 3. */
int FM_NODISCARD fm_image_view(const struct fm_tensor *tensor, struct fm_image *ret_image,
                               struct fm_error *reterr);
/* Emits an image of that size on `port` and gives its bytes. FM_ETOOLARGE beyond the limits above.
 */
int FM_NODISCARD fm_image_emit(struct fm_operator_call *call, uint32_t port, uint64_t height,
                               uint64_t width, uint32_t channels, uint8_t **ret_pixels);

/*
 * How one axis is resampled: element i of the result is the sum over t < taps of source[start[i] +
 * t] * weight[i * taps + t]. Every index lies inside the source, weights add up to 1.
 */
struct fm_taps {
    uint32_t length;
    uint32_t taps;
    uint32_t *start;
    float *weight;
};

enum fm_interpolation {
    FM_INTERPOLATION_BILINEAR,
    FM_INTERPOLATION_NEAREST,
    FM_INTERPOLATION_AREA
};

/*
 * Element i is centred on source coordinate origin + (i + 0.5) * step, where source pixel j covers
 * [j, j + 1): the half-pixel convention of OpenCV. Outside the source its edge is repeated. step
 * may be negative (a mirrored axis) and is the scale factor for AREA, which averages over |step|
 * pixels and is BILINEAR where |step| <= 1. FM_ENOMEM.
 */
int FM_NODISCARD fm_taps_init(struct fm_taps *taps, enum fm_interpolation interpolation,
                              uint32_t length, uint32_t source_length, double origin, double step);
void fm_taps_deinit(struct fm_taps *taps);

/* Rows of a resampled image, one after another, in order or not. */
struct fm_resampler {
    struct fm_image image;
    struct fm_taps across;
    struct fm_taps down;
    float *rows[2];       /* source rows resampled across, planar [channels, length] */
    int64_t row_index[2]; /* -1: none */
    int newest;
    float *result;
};

/* Borrows the pixels; takes both taps, on failure too. FM_ENOMEM. */
int FM_NODISCARD fm_resampler_init(struct fm_resampler *resampler, const struct fm_image *image,
                                   struct fm_taps *take_across, struct fm_taps *take_down);
void fm_resampler_deinit(struct fm_resampler *resampler);
/* Row y of the result, planar [channels, across.length], values 0 to 255; valid until the next
 * call. */
const float *fm_resampler_row(struct fm_resampler *resampler, uint32_t y);

/* Rounds planar floats to interleaved bytes. */
void fm_row_to_bytes(const float *planar, uint32_t width, uint32_t channels, uint8_t *pixels);

#endif
