/*
 * Operator image_tensor: an image to the tensor a model takes: resized, padded, normalised, laid
 * out.
 *
 * HOW IT WORKS. plan() turns the image's size and the parameters into a placement: how large the
 * scaled image is, where it lies in the result, which source window it shows. Then one pass over
 * the rows: sample, normalise, store, with all row buffers in the nearest cache. Thread rule: the
 * state is constant.
 */
#include <math.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/image.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/table.h"

enum {
    PARAMETER_FIT,
    PARAMETER_WIDTH,
    PARAMETER_HEIGHT,
    PARAMETER_LIMIT,
    PARAMETER_MULTIPLE,
    PARAMETER_MIN_WIDTH,
    PARAMETER_MAX_WIDTH,
    PARAMETER_ANCHOR,
    PARAMETER_PAD,
    PARAMETER_INTERPOLATION,
    PARAMETER_CHANNELS,
    PARAMETER_SWAP,
    PARAMETER_SCALE,
    PARAMETER_MEAN,
    PARAMETER_STD,
    PARAMETER_DTYPE,
    PARAMETER_LAYOUT,
};

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_FIT] = {"fit", "stretch",
                       "how the image meets the size: stretch, letterbox, cover, limit_longest, "
                       "limit_shortest, height or none"},
    [PARAMETER_WIDTH] = {"width", "0", "pixels of the result; 0: follows from fit and the image"},
    [PARAMETER_HEIGHT] = {"height", "0", "pixels of the result; 0: follows from fit and the image"},
    [PARAMETER_LIMIT] = {"limit", "0",
                         "pixels: limit_longest shrinks the longer side to it, limit_shortest "
                         "enlarges the shorter side to it"},
    [PARAMETER_MULTIPLE] = {"multiple", "1",
                            "sides that follow from the image become multiples of it, 1 to 1024: "
                            "limit_* round, height and none pad"},
    [PARAMETER_MIN_WIDTH] = {"min_width", "1", "pixels; fit height and none pad to it"},
    [PARAMETER_MAX_WIDTH] = {"max_width", "65536",
                             "pixels; fit height squeezes wider images to it, none refuses them"},
    [PARAMETER_ANCHOR] = {"anchor", "corner",
                          "where the image lies in the padding: corner (top left) or center"},
    [PARAMETER_PAD] = {"pad", "0", "value of the padding, after normalisation"},
    [PARAMETER_INTERPOLATION] = {"interpolation", "bilinear",
                                 "bilinear (half-pixel centres), nearest or area"},
    [PARAMETER_CHANNELS] = {"channels", "0",
                            "channels of the result: 1, 3 (a gray image is repeated) or 0: as the "
                            "image"},
    [PARAMETER_SWAP] = {"swap_channels", "false",
                        "true: reverse the order of three channels (RGB to BGR and back)"},
    [PARAMETER_SCALE] = {"scale", "",
                         "factor for the bytes, before mean and std; default 1/255, and 1 for "
                         "dtype uint8"},
    [PARAMETER_MEAN] = {"mean", "0",
                        "subtracted after scale: one number or one for each channel of the result"},
    [PARAMETER_STD] = {"std", "1",
                       "divides after mean: one number or one for each channel of the result"},
    [PARAMETER_DTYPE] = {"dtype", "fp32", "fp32, fp16 or uint8 (rounded and clamped)"},
    [PARAMETER_LAYOUT] = {"layout", "chw", "chw (planes) or hwc (pixels)"},
    {NULL, NULL, NULL},
};

enum fit {
    FIT_STRETCH,
    FIT_LETTERBOX,
    FIT_COVER,
    FIT_LIMIT_LONGEST,
    FIT_LIMIT_SHORTEST,
    FIT_HEIGHT,
    FIT_NONE
};
static const char *const fit_names[] = {"stretch",        "letterbox", "cover", "limit_longest",
                                        "limit_shortest", "height",    "none",  NULL};
static const char *const anchor_names[] = {"corner", "center", NULL};
static const char *const interpolation_names[] = {"bilinear", "nearest", "area", NULL};
static const char *const dtype_names[] = {"fp32", "fp16", "uint8", NULL};
static const char *const layout_names[] = {"chw", "hwc", NULL};

struct tensor_state {
    enum fit fit;
    uint32_t width;
    uint32_t height;
    uint32_t limit;
    uint32_t multiple;
    uint32_t min_width;
    uint32_t max_width;
    bool center;
    enum fm_interpolation interpolation;
    uint32_t channels; /* 0: as the image */
    bool swap;
    bool planes; /* chw */
    uint32_t dtype;
    float pad;
    float factor[3]; /* result = byte * factor + offset, by channel of the result */
    float offset[3];
    struct fm_port output[3];
};

/* --- Parameters --- */

static int normalisation_read(struct tensor_state *state, const struct fm_setting *settings,
                              struct fm_error *reterr)
{
    double scale = state->dtype == FM_DTYPE_UINT8 ? 1 : 1.0 / 255;
    double mean[3];
    double std[3];
    double pad = 0;
    int status = 0;
    if (settings[PARAMETER_SCALE].value[0] != '\0') {
        status = fm_option_double(&settings[PARAMETER_SCALE], -1e6, 1e6, &scale, reterr);
    }
    if (status == 0) {
        status = fm_option_doubles(&settings[PARAMETER_MEAN], -1e9, 1e9, 3, mean, reterr);
    }
    if (status == 0) {
        status = fm_option_doubles(&settings[PARAMETER_STD], 1e-9, 1e9, 3, std, reterr);
    }
    if (status == 0) {
        status = fm_option_double(&settings[PARAMETER_PAD], -1e9, 1e9, &pad, reterr);
    }
    if (status != 0) {
        return status;
    }
    state->pad = (float)pad;
    for (int c = 0; c < 3; c++) {
        state->factor[c] = (float)(scale / std[c]);
        state->offset[c] = (float)(-mean[c] / std[c]);
    }
    return 0;
}

static int choices_read(struct tensor_state *state, const struct fm_setting *settings,
                        struct fm_error *reterr)
{
    static const uint32_t dtypes[] = {FM_DTYPE_FP32, FM_DTYPE_FP16, FM_DTYPE_UINT8};
    int fit = 0;
    int anchor = 0;
    int interpolation = 0;
    int dtype = 0;
    int layout = 0;
    int status = fm_option_choice(&settings[PARAMETER_FIT], fit_names, &fit, reterr);
    if (status == 0) {
        status = fm_option_choice(&settings[PARAMETER_ANCHOR], anchor_names, &anchor, reterr);
    }
    if (status == 0) {
        status = fm_option_choice(&settings[PARAMETER_INTERPOLATION], interpolation_names,
                                  &interpolation, reterr);
    }
    if (status == 0) {
        status = fm_option_choice(&settings[PARAMETER_DTYPE], dtype_names, &dtype, reterr);
    }
    if (status == 0) {
        status = fm_option_choice(&settings[PARAMETER_LAYOUT], layout_names, &layout, reterr);
    }
    if (status == 0) {
        status = fm_option_bool(&settings[PARAMETER_SWAP], &state->swap, reterr);
    }
    state->fit = (enum fit)fit;
    state->center = anchor == 1;
    state->interpolation = (enum fm_interpolation)interpolation;
    state->dtype = dtypes[dtype];
    state->planes = layout == 0;
    return status;
}

static int sizes_read(struct tensor_state *state, const struct fm_setting *settings,
                      struct fm_error *reterr)
{
    const struct {
        int parameter;
        uint64_t minimum;
        uint64_t maximum;
        uint32_t *target;
    } rows[] = {
        {PARAMETER_WIDTH, 0, FM_IMAGE_SIDE_MAX, &state->width},
        {PARAMETER_HEIGHT, 0, FM_IMAGE_SIDE_MAX, &state->height},
        {PARAMETER_LIMIT, 0, FM_IMAGE_SIDE_MAX, &state->limit},
        {PARAMETER_MULTIPLE, 1, 1024, &state->multiple},
        {PARAMETER_MIN_WIDTH, 1, FM_IMAGE_SIDE_MAX, &state->min_width},
        {PARAMETER_MAX_WIDTH, 1, FM_IMAGE_SIDE_MAX, &state->max_width},
        {PARAMETER_CHANNELS, 0, 3, &state->channels},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = 0;
        int status = fm_option_uint(&settings[rows[i].parameter], rows[i].minimum, rows[i].maximum,
                                    &value, reterr);
        if (status != 0) {
            return status;
        }
        *rows[i].target = (uint32_t)value;
    }
    if (state->channels == 2) {
        return fm_error_set(reterr, FM_EINVAL, "parameter 'channels' is 2, but must be 0, 1 or 3");
    }
    if (state->min_width > state->max_width) {
        return fm_error_set(reterr, FM_EINVAL, "min_width %u is greater than max_width %u",
                            state->min_width, state->max_width);
    }
    return 0;
}

/* Each fit needs certain sizes, and has no use for others: those would be a misunderstanding. */
static int sizes_check(const struct tensor_state *state, struct fm_error *reterr)
{
    const char *fit = fit_names[state->fit];
    bool both = state->width > 0 && state->height > 0;
    bool limits = state->fit == FIT_LIMIT_LONGEST || state->fit == FIT_LIMIT_SHORTEST;
    if (!both &&
        (state->fit == FIT_STRETCH || state->fit == FIT_LETTERBOX || state->fit == FIT_COVER)) {
        return fm_error_set(reterr, FM_EINVAL, "fit %s needs width and height", fit);
    }
    if (limits && (state->limit == 0 || state->width > 0 || state->height > 0)) {
        return fm_error_set(reterr, FM_EINVAL, "fit %s needs limit, and neither width nor height",
                            fit);
    }
    if (!limits && state->limit > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "limit is for fit limit_longest and limit_shortest, not for %s", fit);
    }
    if (state->fit == FIT_HEIGHT && (state->height == 0 || state->width > 0)) {
        return fm_error_set(reterr, FM_EINVAL, "fit height needs height, and no width");
    }
    return 0;
}

static void ports_describe(struct tensor_state *state)
{
    int64_t channels = state->channels > 0 ? (int64_t)state->channels : -1;
    int64_t height = state->height > 0 ? (int64_t)state->height : -1;
    int64_t width = state->width > 0 ? (int64_t)state->width : -1;
    state->output[0] = (struct fm_port){.name = "tensor", .dtype = state->dtype, .rank = 3};
    int64_t *shape = state->output[0].shape;
    shape[0] = state->planes ? channels : height;
    shape[1] = state->planes ? height : width;
    shape[2] = state->planes ? width : channels;
    state->output[1] =
        (struct fm_port){.name = "scale", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}};
    state->output[2] =
        (struct fm_port){.name = "offset", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}};
}

static int tensor_create(const struct fm_host *host, const struct fm_setting *settings,
                         size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)setting_count;
    struct tensor_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = choices_read(state, settings, reterr);
    if (status == 0) {
        status = sizes_read(state, settings, reterr);
    }
    if (status == 0) {
        status = sizes_check(state, reterr);
    }
    if (status == 0) {
        status = normalisation_read(state, settings, reterr);
    }
    if (status != 0) {
        fm_free(state);
        return status;
    }
    ports_describe(state);
    *ret_state = state;
    return 0;
}

static int tensor_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                        const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port input = {
        .name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, -1}};
    *ret_inputs = &input;
    *ret_input_count = 1;
    *ret_outputs = ((struct tensor_state *)state)->output;
    *ret_output_count = 3;
    return 0;
}

/* --- Placement --- */

/* The result, and the rectangle of it that shows the image; source x = origin_x + (x + 0.5) *
 * step_x - 0.5 for x from the rectangle's left. */
struct placement {
    uint64_t height;
    uint64_t width;
    uint32_t top;
    uint32_t left;
    uint32_t shown_height;
    uint32_t shown_width;
    double origin_x;
    double origin_y;
    double step_x;
    double step_y;
};

static uint64_t round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static double at_least(double value, double minimum)
{
    return value > minimum ? value : minimum;
}

static void plan_limit(const struct tensor_state *state, const struct fm_image *image,
                       struct placement *placement)
{
    bool longest = state->fit == FIT_LIMIT_LONGEST;
    double side = (image->height > image->width) == longest ? image->height : image->width;
    double factor = state->limit / side;
    if (longest ? factor > 1 : factor < 1) {
        factor = 1;
    }
    double multiple = state->multiple;
    placement->height =
        (uint64_t)at_least(round(image->height * factor / multiple) * multiple, multiple);
    placement->width =
        (uint64_t)at_least(round(image->width * factor / multiple) * multiple, multiple);
}

static void plan_letterbox(const struct tensor_state *state, const struct fm_image *image,
                           struct placement *placement)
{
    double factor =
        fmin((double)state->width / image->width, (double)state->height / image->height);
    placement->height = state->height;
    placement->width = state->width;
    placement->shown_height =
        (uint32_t)at_least(fmin(round(image->height * factor), state->height), 1);
    placement->shown_width =
        (uint32_t)at_least(fmin(round(image->width * factor), state->width), 1);
}

/* The largest window of the result's proportions from the middle of the image. */
static void plan_cover(const struct tensor_state *state, const struct fm_image *image,
                       struct placement *placement)
{
    double factor =
        fmax((double)state->width / image->width, (double)state->height / image->height);
    placement->height = state->height;
    placement->width = state->width;
    placement->step_x = 1 / factor;
    placement->step_y = 1 / factor;
    placement->origin_x = (image->width - state->width / factor) / 2;
    placement->origin_y = (image->height - state->height / factor) / 2;
}

static void plan_height(const struct tensor_state *state, const struct fm_image *image,
                        struct placement *placement)
{
    double wanted = ceil((double)state->height * image->width / image->height);
    double shown = fmin(at_least(wanted, 1), state->max_width);
    uint64_t width = round_up((uint64_t)shown, state->multiple);
    placement->height = state->height;
    placement->width =
        width > state->min_width ? width : round_up(state->min_width, state->multiple);
    placement->shown_width = (uint32_t)shown;
    placement->shown_height = state->height;
}

static void plan_none(const struct tensor_state *state, const struct fm_image *image,
                      struct placement *placement)
{
    uint64_t width = image->width > state->min_width ? image->width : state->min_width;
    placement->height =
        state->height > 0 ? state->height : round_up(image->height, state->multiple);
    placement->width = state->width > 0 ? state->width : round_up(width, state->multiple);
    placement->shown_height = (uint32_t)fmin(image->height, (double)placement->height);
    placement->shown_width = (uint32_t)fmin(image->width, (double)placement->width);
    placement->step_x = 1;
    placement->step_y = 1;
    if (state->center) {
        placement->origin_x = (image->width - placement->shown_width) / 2;
        placement->origin_y = (image->height - placement->shown_height) / 2;
    }
}

static int plan(const struct tensor_state *state, const struct fm_image *image,
                struct placement *placement, struct fm_error *reterr)
{
    *placement = (struct placement){.height = state->height, .width = state->width};
    switch (state->fit) {
    case FIT_STRETCH:
        break;
    case FIT_LETTERBOX:
        plan_letterbox(state, image, placement);
        break;
    case FIT_COVER:
        plan_cover(state, image, placement);
        break;
    case FIT_LIMIT_LONGEST:
    case FIT_LIMIT_SHORTEST:
        plan_limit(state, image, placement);
        break;
    case FIT_HEIGHT:
        plan_height(state, image, placement);
        break;
    case FIT_NONE:
        if (state->width == 0 && image->width > state->max_width) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "the image is %u pixels wide, max_width is %u", image->width,
                                state->max_width);
        }
        plan_none(state, image, placement);
        break;
    }
    if (placement->height > FM_IMAGE_SIDE_MAX || placement->width > FM_IMAGE_SIDE_MAX ||
        placement->height * placement->width > FM_IMAGE_BYTES_MAX / 12) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "an image of %u x %u pixels would become %llu x %llu, which is beyond "
                            "the limits",
                            image->width, image->height, (unsigned long long)placement->width,
                            (unsigned long long)placement->height);
    }
    if (placement->shown_width == 0) {
        placement->shown_width = (uint32_t)placement->width;
        placement->shown_height = (uint32_t)placement->height;
    }
    if (placement->step_x == 0) {
        placement->step_x = (double)image->width / placement->shown_width;
        placement->step_y = (double)image->height / placement->shown_height;
    }
    if (state->center) {
        placement->left = ((uint32_t)placement->width - placement->shown_width) / 2;
        placement->top = ((uint32_t)placement->height - placement->shown_height) / 2;
    }
    return 0;
}

/* --- Storing --- */

/* value * factor + offset into `count` elements that lie `stride` apart. */
static void store_fp32(const float *values, uint32_t count, float factor, float offset,
                       size_t stride, float *restrict result)
{
    if (stride == 1) {
        for (uint32_t i = 0; i < count; i++) {
            result[i] = values[i] * factor + offset;
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        result[i * stride] = values[i] * factor + offset;
    }
}

static void store_fp16(const float *values, uint32_t count, float factor, float offset,
                       size_t stride, uint16_t *restrict result)
{
    for (uint32_t i = 0; i < count; i++) {
        result[i * stride] = fm_fp16_from_float(values[i] * factor + offset);
    }
}

static uint8_t byte_clamp(float value)
{
    return (uint8_t)(int)(value < 0 ? 0 : value > 255 ? 255 : value + 0.5f);
}

static void store_uint8(const float *values, uint32_t count, float factor, float offset,
                        size_t stride, uint8_t *restrict result)
{
    for (uint32_t i = 0; i < count; i++) {
        result[i * stride] = byte_clamp(values[i] * factor + offset);
    }
}

static void pad_fill(const struct tensor_state *state, void *data, size_t count)
{
    if (state->dtype == FM_DTYPE_UINT8) {
        memset(data, byte_clamp(state->pad), count);
    } else if (state->dtype == FM_DTYPE_FP16) {
        uint16_t value = fm_fp16_from_float(state->pad);
        for (size_t i = 0; i < count; i++) {
            ((uint16_t *)data)[i] = value;
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            ((float *)data)[i] = state->pad;
        }
    }
}

/* Three gray channels to one, with the weights of JPEG's luma; swap says that blue comes first. */
static void row_to_gray(const float *planar, uint32_t width, bool swap, float *restrict gray)
{
    const float *red = planar + (swap ? (size_t)2 * width : 0);
    const float *green = planar + width;
    const float *blue = planar + (swap ? 0 : (size_t)2 * width);
    for (uint32_t i = 0; i < width; i++) {
        gray[i] = 0.299f * red[i] + 0.587f * green[i] + 0.114f * blue[i];
    }
}

static void rows_store(const struct tensor_state *state, const struct placement *placement,
                       struct fm_resampler *resampler, uint32_t channels, float *gray, void *data)
{
    uint32_t width = placement->shown_width;
    size_t plane = (size_t)placement->height * placement->width;
    size_t stride = state->planes ? 1 : channels;
    uint32_t source_channels = resampler->image.channels;
    for (uint32_t y = 0; y < placement->shown_height; y++) {
        const float *row = fm_resampler_row(resampler, y);
        if (channels < source_channels) {
            row_to_gray(row, width, state->swap, gray);
            row = gray;
        }
        size_t pixel = (placement->top + (size_t)y) * placement->width + placement->left;
        for (uint32_t c = 0; c < channels; c++) {
            uint32_t from = source_channels < 3 || channels < 3 ? 0 : state->swap ? 2 - c : c;
            const float *values = row + (size_t)from * width;
            size_t at = state->planes ? c * plane + pixel : pixel * channels + c;
            if (state->dtype == FM_DTYPE_FP32) {
                store_fp32(values, width, state->factor[c], state->offset[c], stride,
                           (float *)data + at);
            } else if (state->dtype == FM_DTYPE_FP16) {
                store_fp16(values, width, state->factor[c], state->offset[c], stride,
                           (uint16_t *)data + at);
            } else {
                store_uint8(values, width, state->factor[c], state->offset[c], stride,
                            (uint8_t *)data + at);
            }
        }
    }
}

/* --- Run --- */

static int pair_emit(struct fm_operator_call *call, uint32_t port, double x, double y)
{
    const struct fm_tensor like = {.dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}};
    void *data = NULL;
    int status = call->emit(call, port, &like, &data);
    if (status == 0) {
        ((float *)data)[0] = (float)x;
        ((float *)data)[1] = (float)y;
    }
    return status;
}

static int resampler_make(const struct tensor_state *state, const struct fm_image *image,
                          const struct placement *placement, struct fm_resampler *resampler)
{
    struct fm_taps across = {0};
    struct fm_taps down = {0};
    int status = fm_taps_init(&across, state->interpolation, placement->shown_width, image->width,
                              placement->origin_x, placement->step_x);
    if (status == 0) {
        status = fm_taps_init(&down, state->interpolation, placement->shown_height, image->height,
                              placement->origin_y, placement->step_y);
    }
    if (status == 0) {
        status = fm_resampler_init(resampler, image, &across, &down);
    }
    fm_taps_deinit(&across);
    fm_taps_deinit(&down);
    return status;
}

static int tensor_run(void *state_, struct fm_operator_call *call)
{
    const struct tensor_state *state = state_;
    struct fm_image image;
    struct placement placement;
    struct fm_resampler resampler = {0};
    float *gray = NULL;
    int status = fm_image_view(&call->inputs[0].items[0], &image, &call->error);
    if (status == 0) {
        status = plan(state, &image, &placement, &call->error);
    }
    if (status != 0) {
        return status;
    }
    uint32_t channels = state->channels > 0 ? state->channels : image.channels;
    struct fm_tensor like = {.dtype = state->dtype, .rank = 3};
    like.shape[0] = (int64_t)(state->planes ? channels : placement.height);
    like.shape[1] = (int64_t)(state->planes ? placement.height : placement.width);
    like.shape[2] = (int64_t)(state->planes ? placement.width : channels);
    void *data = NULL;
    status = call->emit(call, 0, &like, &data);
    if (status != 0) {
        return status;
    }
    status = resampler_make(state, &image, &placement, &resampler);
    gray = fm_alloc(placement.shown_width * sizeof(float));
    if (status != 0 || gray == NULL) {
        status = fm_error_set(&call->error, FM_ENOMEM, "out of memory for resizing");
        goto out;
    }
    if (placement.shown_width < placement.width || placement.shown_height < placement.height) {
        pad_fill(state, data, (size_t)placement.height * placement.width * channels);
    }
    rows_store(state, &placement, &resampler, channels, gray, data);
    status = pair_emit(call, 1, 1 / placement.step_x, 1 / placement.step_y);
    if (status == 0) {
        status = pair_emit(call, 2, placement.left - placement.origin_x / placement.step_x,
                           placement.top - placement.origin_y / placement.step_y);
    }
out:
    fm_free(gray);
    fm_resampler_deinit(&resampler);
    return status;
}

const struct fm_operator fm_operator_image_tensor = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "image_tensor",
    .summary = "an image resized, padded and normalised to the tensor that a model takes",
    .parameters = parameters,
    .create = tensor_create,
    .destroy = fm_free,
    .ports = tensor_ports,
    .run = tensor_run,
};
