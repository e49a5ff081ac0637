/*
 * Images for bare models. See image.h.
 */
#include "engines/infer/image.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "host/runtime/operator_registry.h"
#include "host/runtime/operators/image.h"

static bool is_channels(int64_t size)
{
    return size == 1 || size == 3;
}

void fm_image_plan_make(const struct fm_port *port, bool batched,
                        const struct fm_image_options *options, struct fm_image_plan *ret_plan)
{
    struct fm_image_plan plan = {.dtype = port->dtype, .options = *options};
    /* [C,H,W] or [H,W,C]: the port without its batch, or without a leading 1 of a model that does
     * not batch. */
    bool leading = port->rank == 4 && (batched || port->shape[0] == 1 || port->shape[0] == -1);
    const int64_t *row = port->shape + 1;
    bool number = port->dtype == FM_DTYPE_FP32 || port->dtype == FM_DTYPE_FP16 ||
                  port->dtype == FM_DTYPE_UINT8;
    if (leading && number && is_channels(row[0])) {
        plan.usable = true;
        plan.channels = (uint32_t)row[0];
        plan.height = row[1] > 0 ? (uint32_t)row[1] : options->height;
        plan.width = row[2] > 0 ? (uint32_t)row[2] : options->width;
    } else if (leading && number && is_channels(row[2])) {
        plan.usable = true;
        plan.channels_last = true;
        plan.channels = (uint32_t)row[2];
        plan.height = row[0] > 0 ? (uint32_t)row[0] : options->height;
        plan.width = row[1] > 0 ? (uint32_t)row[1] : options->width;
    }
    if (!plan.options.has_scale) {
        plan.options.scale = port->dtype == FM_DTYPE_UINT8 ? 1.0 : 1.0 / 255.0;
    }
    for (uint32_t i = 0; i < FM_PLAN_CHANNELS_MAX; i++) {
        plan.options.std[i] = options->std[i] != 0 ? options->std[i] : 1;
    }
    *ret_plan = plan;
}

/* "resized to 192 x 48", "own width, height 48, rounded up to multiples of 32". */
static void size_format(const struct fm_image_plan *plan, char *text, size_t size)
{
    if (plan->width > 0 && plan->height > 0) {
        (void)snprintf(text, size, "resized to %" PRIu32 " x %" PRIu32, plan->width, plan->height);
    } else if (plan->width > 0 || plan->height > 0) {
        (void)snprintf(text, size, "%s %" PRIu32 ", own %s rounded up to a multiple of %d",
                       plan->width > 0 ? "width" : "height",
                       plan->width > 0 ? plan->width : plan->height,
                       plan->width > 0 ? "height" : "width", FM_PLAN_SIZE_STEP);
    } else {
        (void)snprintf(text, size, "own size, sides rounded up to a multiple of %d",
                       FM_PLAN_SIZE_STEP);
    }
}

const char *fm_image_plan_describe(const struct fm_image_plan *plan, char *text, size_t size)
{
    char sides[96];
    char scale[32];
    const double *mean = plan->options.mean;
    const double *std = plan->options.std;
    size_format(plan, sides, sizeof sides);
    if (plan->options.has_scale) {
        (void)snprintf(scale, sizeof scale, "pixel * %g", plan->options.scale);
    } else {
        (void)snprintf(scale, sizeof scale,
                       plan->dtype == FM_DTYPE_UINT8 ? "pixel" : "pixel / 255");
    }
    int used = snprintf(text, size, "%s, %s, %s, %s", sides,
                        plan->channels == 1 ? "gray"
                        : plan->options.bgr ? "BGR"
                                            : "RGB",
                        plan->channels_last ? "NHWC" : "NCHW", scale);
    bool shifted =
        mean[0] != 0 || mean[1] != 0 || mean[2] != 0 || std[0] != 1 || std[1] != 1 || std[2] != 1;
    if (shifted && used > 0 && (size_t)used < size) {
        (void)snprintf(text + used, size - (size_t)used, ", mean %g,%g,%g, std %g,%g,%g", mean[0],
                       mean[1], mean[2], std[0], std[1], std[2]);
    }
    return text;
}

/* Runs the operator image_decode on the file's bytes. */
static int decode(const struct fm_image_plan *plan, const void *data, size_t size,
                  struct fm_value *ret_image, struct fm_error *reterr)
{
    const struct fm_operator *operator_ = NULL;
    struct fm_operator_instance *instance = NULL;
    struct fm_value bytes = {0};
    struct fm_value_list input = {0};
    struct fm_value_list outputs[2] = {0};
    uint32_t output_count = 0;
    const struct fm_setting settings[] = {{"channels", plan->channels == 1 ? "gray"
                                                       : plan->options.bgr ? "bgr"
                                                                           : "rgb"}};
    int status = fm_operator_find("image_decode", &operator_, reterr);
    if (status == 0) {
        status = fm_operator_create(operator_, settings, 1, ".", &instance, reterr);
    }
    if (status != 0) {
        return status;
    }
    (void)fm_operator_outputs(instance, &output_count);
    if (output_count != sizeof outputs / sizeof outputs[0]) {
        status = fm_error_set(reterr, FM_EINTERNAL, "image_decode has %" PRIu32 " outputs",
                              output_count);
    }
    if (status == 0) {
        status = fm_value_from_bytes(&bytes, data, size);
    }
    if (status == 0) {
        status = fm_value_list_append(&input, &bytes);
    }
    if (status == FM_ENOMEM) {
        (void)fm_error_set(reterr, status, "out of memory");
    }
    if (status == 0) {
        status = fm_operator_run(instance, &input, 1, outputs, output_count, 1, reterr);
    }
    if (status == 0) {
        *ret_image = fm_value_ref(&outputs[0].items[0]);
    }
    fm_value_unref(&bytes);
    fm_value_list_deinit(&input);
    fm_value_list_deinit(&outputs[0]);
    fm_value_list_deinit(&outputs[1]);
    fm_operator_destroy(instance);
    return status;
}

/* One channel value into the tensor, in its dtype. */
static void element_store(struct fm_tensor *tensor, size_t index, double value)
{
    float single = (float)value;
    uint16_t half;
    switch (tensor->dtype) {
    case FM_DTYPE_FP32:
        memcpy((char *)tensor->data + index * sizeof single, &single, sizeof single);
        break;
    case FM_DTYPE_FP16:
        half = fm_fp16_from_float(single);
        memcpy((char *)tensor->data + index * sizeof half, &half, sizeof half);
        break;
    default:
        ((uint8_t *)tensor->data)[index] = (uint8_t)(value < 0     ? 0
                                                     : value > 255 ? 255
                                                                   : value + 0.5);
        break;
    }
}

/* Resamples row by row straight into the tensor. */
static void fill(const struct fm_image_plan *plan, struct fm_resampler *resampler, uint32_t width,
                 uint32_t height, struct fm_tensor *tensor)
{
    uint32_t channels = plan->channels;
    for (uint32_t y = 0; y < height; y++) {
        const float *row = fm_resampler_row(resampler, y); /* [channels, width] */
        for (uint32_t c = 0; c < channels; c++) {
            double scale = plan->options.scale / plan->options.std[c];
            double shift = plan->options.mean[c] / plan->options.std[c];
            for (uint32_t x = 0; x < width; x++) {
                size_t index = plan->channels_last ? ((size_t)y * width + x) * channels + c
                                                   : ((size_t)c * height + y) * width + x;
                element_store(tensor, index, (double)row[(size_t)c * width + x] * scale - shift);
            }
        }
    }
}

static uint32_t round_up(uint32_t side)
{
    return (side + FM_PLAN_SIZE_STEP - 1) / FM_PLAN_SIZE_STEP * FM_PLAN_SIZE_STEP;
}

int fm_image_convert(const struct fm_image_plan *plan, const char *label, const void *data,
                     size_t size, struct fm_value *ret_row, struct fm_error *reterr)
{
    struct fm_value decoded = {0};
    struct fm_image image = {0};
    struct fm_taps across = {0};
    struct fm_taps down = {0};
    struct fm_resampler resampler = {0};
    int status = decode(plan, data, size, &decoded, reterr);
    if (status == 0) {
        status = fm_image_view(&decoded.tensor, &image, reterr);
    }
    if (status != 0) {
        fm_value_unref(&decoded);
        return fm_error_prefix(reterr, status, "'%s'", label);
    }
    uint32_t width = plan->width > 0 ? plan->width : round_up(image.width);
    uint32_t height = plan->height > 0 ? plan->height : round_up(image.height);
    const int64_t first[] = {plan->channels, height, width};
    const int64_t last[] = {height, width, plan->channels};
    status = fm_taps_init(&across, FM_INTERPOLATION_AREA, width, image.width, 0,
                          (double)image.width / width);
    if (status == 0) {
        status = fm_taps_init(&down, FM_INTERPOLATION_AREA, height, image.height, 0,
                              (double)image.height / height);
        if (status == 0) {
            status = fm_resampler_init(&resampler, &image, &across, &down);
        } else {
            fm_taps_deinit(&across);
        }
    }
    if (status == 0) {
        status = fm_value_alloc(ret_row, plan->dtype, plan->channels_last ? last : first, 3, 0);
        if (status == 0) {
            fill(plan, &resampler, width, height, &ret_row->tensor);
        }
        fm_resampler_deinit(&resampler);
    }
    fm_value_unref(&decoded);
    return status == 0 ? 0
                       : fm_error_set(reterr, status,
                                      "'%s': out of memory for %" PRIu32 " x %" PRIu32 " pixels",
                                      label, width, height);
}
