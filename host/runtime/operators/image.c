/*
 * Image views and separable resampling. See image.h.
 *
 * HOW IT WORKS. Both axes are described by taps (which source elements, which weights). A source
 * row is resampled across once, into planar floats, and kept while the rows below need it: two such
 * rows are enough for bilinear sampling in any direction. A result row is their weighted sum, which
 * the compiler turns into vector code because planes are contiguous. LIMITATIONS. AREA downwards
 * with a fractional factor resamples the shared border rows twice.
 */
#include "host/runtime/operators/image.h"

#include <math.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/memory.h"

int fm_image_view(const struct fm_tensor *tensor, struct fm_image *ret_image,
                  struct fm_error *reterr)
{
    char shape[160];
    const int64_t *side = tensor->shape;
    if (tensor->dtype != FM_DTYPE_UINT8 || tensor->rank != 3 || side[0] < 1 || side[1] < 1 ||
        side[0] > FM_IMAGE_SIDE_MAX || side[1] > FM_IMAGE_SIDE_MAX ||
        (side[2] != 1 && side[2] != 3)) {
        return fm_error_set(reterr, FM_ETYPE,
                            "%s%s is no image: UINT8 [height, width, 1 or 3] with sides from 1 to "
                            "%u is needed",
                            fm_dtype_name(tensor->dtype),
                            fm_shape_format(side, tensor->rank, shape, sizeof(shape)),
                            FM_IMAGE_SIDE_MAX);
    }
    *ret_image = (struct fm_image){.pixels = tensor->data,
                                   .height = (uint32_t)side[0],
                                   .width = (uint32_t)side[1],
                                   .channels = (uint32_t)side[2]};
    return 0;
}

int fm_image_emit(struct fm_operator_call *call, uint32_t port, uint64_t height, uint64_t width,
                  uint32_t channels, uint8_t **ret_pixels)
{
    if (height < 1 || width < 1 || height > FM_IMAGE_SIDE_MAX || width > FM_IMAGE_SIDE_MAX ||
        height * width > FM_IMAGE_BYTES_MAX / channels) {
        return fm_error_set(&call->error, FM_ETOOLARGE,
                            "the result would be an image of %llu x %llu pixels, which is beyond "
                            "the limits",
                            (unsigned long long)width, (unsigned long long)height);
    }
    const struct fm_tensor like = {
        .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {(int64_t)height, (int64_t)width, channels}};
    void *data = NULL;
    int status = call->emit(call, port, &like, &data);
    *ret_pixels = data;
    return status;
}

/* --- Taps --- */

static void taps_linear(struct fm_taps *taps, uint32_t source_length, double origin, double step)
{
    for (uint32_t i = 0; i < taps->length; i++) {
        double at = origin + (i + 0.5) * step - 0.5;
        double last = (double)(source_length - 2);
        double base = floor(at);
        base = base < 0 ? 0 : base > last ? last : base;
        double fraction = at - base;
        fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
        taps->start[i] = (uint32_t)base;
        taps->weight[2 * (size_t)i] = (float)(1 - fraction);
        taps->weight[2 * (size_t)i + 1] = (float)fraction;
    }
}

static void taps_nearest(struct fm_taps *taps, uint32_t source_length, double origin, double step)
{
    for (uint32_t i = 0; i < taps->length; i++) {
        double at = floor(origin + (i + 0.5) * step);
        double last = (double)(source_length - 1);
        taps->start[i] = (uint32_t)(at < 0 ? 0 : at > last ? last : at);
        taps->weight[i] = 1;
    }
}

/* The overlap of [low, high) with each source pixel, as a share of the whole; beyond the edge the
 * edge pixel stands in. */
static void taps_area(struct fm_taps *taps, uint32_t source_length, double origin, double step)
{
    for (uint32_t i = 0; i < taps->length; i++) {
        double centre = origin + (i + 0.5) * step;
        double half = fabs(step) / 2;
        double low = fmin(fmax(centre - half, 0), source_length - 1.0);
        double high = fmin(fmax(centre + half, low), source_length);
        uint32_t start = (uint32_t)floor(low);
        if (start > source_length - taps->taps) {
            start = source_length - taps->taps;
        }
        float *weight = &taps->weight[(size_t)i * taps->taps];
        double sum = 0;
        for (uint32_t t = 0; t < taps->taps; t++) {
            double from = fmax(low, (double)start + t);
            double to = fmin(high, (double)start + t + 1);
            double share = to > from ? to - from : 0;
            weight[t] = (float)share;
            sum += share;
        }
        if (sum > 0) {
            for (uint32_t t = 0; t < taps->taps; t++) {
                weight[t] = (float)(weight[t] / sum);
            }
        } else {
            /* The whole window lies outside. */
            uint32_t nearest = (uint32_t)low - start;
            weight[nearest < taps->taps ? nearest : taps->taps - 1] = 1;
        }
        taps->start[i] = start;
    }
}

int fm_taps_init(struct fm_taps *taps, enum fm_interpolation interpolation, uint32_t length,
                 uint32_t source_length, double origin, double step)
{
    bool same = origin == 0 && step == 1 && length <= source_length;
    uint32_t count = 2;
    if (interpolation == FM_INTERPOLATION_AREA && fabs(step) > 1) {
        double wanted = ceil(fabs(step)) + 1;
        count = wanted < source_length ? (uint32_t)wanted : source_length;
    } else if (interpolation == FM_INTERPOLATION_NEAREST || source_length == 1 || same) {
        count = 1;
    }
    *taps = (struct fm_taps){.length = length, .taps = count};
    taps->start = fm_alloc(length * sizeof(taps->start[0]));
    taps->weight = fm_alloc_zero((size_t)length * count, sizeof(taps->weight[0]));
    if (taps->start == NULL || taps->weight == NULL) {
        fm_taps_deinit(taps);
        return FM_ENOMEM;
    }
    if (interpolation == FM_INTERPOLATION_AREA && fabs(step) > 1) {
        taps_area(taps, source_length, origin, step);
    } else if (count == 1) {
        taps_nearest(taps, source_length, origin, step);
    } else {
        taps_linear(taps, source_length, origin, step);
    }
    return 0;
}

void fm_taps_deinit(struct fm_taps *taps)
{
    fm_free(taps->start);
    fm_free(taps->weight);
    *taps = (struct fm_taps){0};
}

/* --- Rows --- */

int fm_resampler_init(struct fm_resampler *resampler, const struct fm_image *image,
                      struct fm_taps *take_across, struct fm_taps *take_down)
{
    size_t size = (size_t)take_across->length * image->channels * sizeof(float);
    *resampler = (struct fm_resampler){.image = *image,
                                       .across = *take_across,
                                       .down = *take_down,
                                       .row_index = {-1, -1},
                                       .rows = {fm_alloc_tensor(size), fm_alloc_tensor(size)},
                                       .result = fm_alloc_tensor(size)};
    *take_across = (struct fm_taps){0};
    *take_down = (struct fm_taps){0};
    if (resampler->rows[0] == NULL || resampler->rows[1] == NULL || resampler->result == NULL) {
        fm_resampler_deinit(resampler);
        return FM_ENOMEM;
    }
    return 0;
}

void fm_resampler_deinit(struct fm_resampler *resampler)
{
    fm_taps_deinit(&resampler->across);
    fm_taps_deinit(&resampler->down);
    fm_free(resampler->rows[0]);
    fm_free(resampler->rows[1]);
    fm_free(resampler->result);
    *resampler = (struct fm_resampler){0};
}

static void across_copy(const struct fm_taps *taps, const uint8_t *source, uint32_t channels,
                        float *restrict planar)
{
    const uint32_t *start = taps->start;
    uint32_t length = taps->length;
    if (channels == 1) {
        for (uint32_t i = 0; i < length; i++) {
            planar[i] = source[start[i]];
        }
        return;
    }
    for (uint32_t i = 0; i < length; i++) {
        const uint8_t *pixel = source + (size_t)start[i] * 3;
        planar[i] = pixel[0];
        planar[(size_t)length + i] = pixel[1];
        planar[(size_t)2 * length + i] = pixel[2];
    }
}

static void across_linear(const struct fm_taps *taps, const uint8_t *source, uint32_t channels,
                          float *restrict planar)
{
    const uint32_t *start = taps->start;
    const float *weight = taps->weight;
    uint32_t length = taps->length;
    if (channels == 1) {
        for (uint32_t i = 0; i < length; i++) {
            const uint8_t *pixel = source + start[i];
            planar[i] = (float)pixel[0] * weight[2 * i] + (float)pixel[1] * weight[2 * i + 1];
        }
        return;
    }
    for (uint32_t i = 0; i < length; i++) {
        const uint8_t *pixel = source + (size_t)start[i] * 3;
        float left = weight[2 * i];
        float right = weight[2 * i + 1];
        planar[i] = (float)pixel[0] * left + (float)pixel[3] * right;
        planar[(size_t)length + i] = (float)pixel[1] * left + (float)pixel[4] * right;
        planar[(size_t)2 * length + i] = (float)pixel[2] * left + (float)pixel[5] * right;
    }
}

static void across_any(const struct fm_taps *taps, const uint8_t *source, uint32_t channels,
                       float *restrict planar)
{
    for (uint32_t c = 0; c < channels; c++) {
        float *plane = planar + (size_t)c * taps->length;
        for (uint32_t i = 0; i < taps->length; i++) {
            const uint8_t *pixel = source + (size_t)taps->start[i] * channels + c;
            const float *weight = taps->weight + (size_t)i * taps->taps;
            float sum = 0;
            for (uint32_t t = 0; t < taps->taps; t++) {
                sum += (float)pixel[(size_t)t * channels] * weight[t];
            }
            plane[i] = sum;
        }
    }
}

/* Source row y resampled across, from one of the two kept rows when it is there; else it replaces
 * the older one. */
static const float *row_get(struct fm_resampler *resampler, uint32_t y)
{
    for (int slot = 0; slot < 2; slot++) {
        if (resampler->row_index[slot] == (int64_t)y) {
            resampler->newest = slot;
            return resampler->rows[slot];
        }
    }
    const struct fm_image *image = &resampler->image;
    const uint8_t *source = image->pixels + (size_t)y * image->width * image->channels;
    int slot = 1 - resampler->newest;
    resampler->newest = slot;
    resampler->row_index[slot] = y;
    if (resampler->across.taps == 1) {
        across_copy(&resampler->across, source, image->channels, resampler->rows[slot]);
    } else if (resampler->across.taps == 2) {
        across_linear(&resampler->across, source, image->channels, resampler->rows[slot]);
    } else {
        across_any(&resampler->across, source, image->channels, resampler->rows[slot]);
    }
    return resampler->rows[slot];
}

static void rows_mix(const float *upper, const float *lower, float upper_weight, float lower_weight,
                     size_t count, float *restrict result)
{
    for (size_t i = 0; i < count; i++) {
        result[i] = upper[i] * upper_weight + lower[i] * lower_weight;
    }
}

static void row_add(const float *row, float weight, size_t count, float *restrict result)
{
    for (size_t i = 0; i < count; i++) {
        result[i] += row[i] * weight;
    }
}

const float *fm_resampler_row(struct fm_resampler *resampler, uint32_t y)
{
    const struct fm_taps *down = &resampler->down;
    const float *weight = down->weight + (size_t)y * down->taps;
    uint32_t start = down->start[y];
    size_t count = (size_t)resampler->across.length * resampler->image.channels;
    if (down->taps == 1 || (down->taps == 2 && weight[1] == 0)) {
        return row_get(resampler, start);
    }
    if (down->taps == 2 && weight[0] == 0) {
        return row_get(resampler, start + 1);
    }
    if (down->taps == 2) {
        const float *upper = row_get(resampler, start);
        const float *lower = row_get(resampler, start + 1);
        rows_mix(upper, lower, weight[0], weight[1], count, resampler->result);
        return resampler->result;
    }
    memset(resampler->result, 0, count * sizeof(float));
    for (uint32_t t = 0; t < down->taps; t++) {
        if (weight[t] != 0) {
            row_add(row_get(resampler, start + t), weight[t], count, resampler->result);
        }
    }
    return resampler->result;
}

void fm_row_to_bytes(const float *planar, uint32_t width, uint32_t channels, uint8_t *pixels)
{
    /* Weighted means of bytes stay between 0 and 255, up to rounding that the + 0.5 absorbs. */
    if (channels == 1) {
        for (uint32_t i = 0; i < width; i++) {
            pixels[i] = (uint8_t)(int)(planar[i] + 0.5f);
        }
        return;
    }
    for (uint32_t i = 0; i < width; i++) {
        for (uint32_t c = 0; c < 3; c++) {
            pixels[(size_t)i * 3 + c] = (uint8_t)(int)(planar[(size_t)c * width + i] + 0.5f);
        }
    }
}
