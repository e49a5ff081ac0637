/*
 * Operator rotate_by_class: an image turned by 180 degrees when a classifier is sure enough that it
 * is upside down; else handed on without a copy.
 *
 * Thread rule: the state is constant.
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/runtime/operators/image.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/table.h"

enum { PARAMETER_CLASS, PARAMETER_THRESHOLD };

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_CLASS] = {"class_index", "1", "class that means upside down, from 0"},
    [PARAMETER_THRESHOLD] = {"threshold", "0.9",
                             "probability of that class above which the image is turned, 0 to 1"},
    {NULL, NULL, NULL},
};

struct rotate_state {
    uint64_t class_index;
    double threshold;
};

static int rotate_create(const struct fm_host *host, const struct fm_setting *settings,
                         size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)setting_count;
    struct rotate_state made = {0};
    int status = fm_option_uint(&settings[PARAMETER_CLASS], 0, 1000000, &made.class_index, reterr);
    if (status == 0) {
        status = fm_option_double(&settings[PARAMETER_THRESHOLD], 0, 1, &made.threshold, reterr);
    }
    if (status != 0) {
        return status;
    }
    struct rotate_state *state = fm_alloc(sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    *state = made;
    *ret_state = state;
    return 0;
}

static int rotate_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                        const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port inputs[] = {
        {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, -1}},
        {.name = "probabilities", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}},
    };
    static const struct fm_port output = {
        .name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, -1}};
    (void)state;
    *ret_inputs = inputs;
    *ret_input_count = 2;
    *ret_outputs = &output;
    *ret_output_count = 1;
    return 0;
}

static void turn(const struct fm_image *image, uint8_t *restrict result)
{
    size_t count = (size_t)image->height * image->width;
    const uint8_t *source = image->pixels;
    if (image->channels == 1) {
        for (size_t i = 0; i < count; i++) {
            result[i] = source[count - 1 - i];
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *pixel = source + (count - 1 - i) * 3;
        result[3 * i] = pixel[0];
        result[3 * i + 1] = pixel[1];
        result[3 * i + 2] = pixel[2];
    }
}

static int rotate_run(void *state_, struct fm_operator_call *call)
{
    const struct rotate_state *state = state_;
    const struct fm_tensor *probabilities = &call->inputs[1].items[0];
    struct fm_image image;
    int status = fm_image_view(&call->inputs[0].items[0], &image, &call->error);
    if (status != 0) {
        return status;
    }
    if (state->class_index >= (uint64_t)probabilities->shape[0]) {
        return fm_error_set(
            &call->error, FM_ETYPE, "class_index is %llu, but there are only %lld classes",
            (unsigned long long)state->class_index, (long long)probabilities->shape[0]);
    }
    float probability = ((const float *)probabilities->data)[state->class_index];
    if (!(probability > (float)state->threshold)) {
        return call->forward(call, 0, 0, 0);
    }
    uint8_t *pixels = NULL;
    status = fm_image_emit(call, 0, image.height, image.width, image.channels, &pixels);
    if (status == 0) {
        turn(&image, pixels);
    }
    return status;
}

const struct fm_operator fm_operator_rotate_by_class = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "rotate_by_class",
    .summary = "an image turned by 180 degrees when a classifier says that it is upside down",
    .parameters = parameters,
    .create = rotate_create,
    .destroy = fm_free,
    .ports = rotate_ports,
    .run = rotate_run,
};
