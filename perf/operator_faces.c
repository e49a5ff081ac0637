/*
 * What stands between a detector and a classifier in perf/batch_pipelines: perf_faces cuts some
 * small pieces out of an image, from none to eight, as its bytes say. Needs the detector's answer
 * to begin, and does not look at it: emulated detectors see nothing.
 */
#include <string.h>

#include "fermata/operator.h"

enum { SIDE = 32, FACES_MAX = 8 };

static int faces_create(const struct fm_host *host, const struct fm_setting *settings,
                        size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_state = NULL;
    return 0;
}

static void faces_destroy(void *state)
{
    (void)state;
}

static int faces_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                       const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port inputs[] = {
        {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, 3}},
        {.name = "boxes", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}},
    };
    static const struct fm_port output = {.name = "face",
                                          .dtype = FM_DTYPE_FP32,
                                          .rank = 3,
                                          .shape = {3, SIDE, SIDE},
                                          .flags = FM_PORT_MANY};
    (void)state;
    *ret_inputs = inputs;
    *ret_input_count = 2;
    *ret_outputs = &output;
    *ret_output_count = 1;
    return 0;
}

static void cut(const struct fm_tensor *image, int64_t left, float *ret_face)
{
    const unsigned char *pixels = image->data;
    for (int64_t y = 0; y < SIDE; y++) {
        for (int64_t x = 0; x < SIDE; x++) {
            const unsigned char *pixel = pixels + (y * image->shape[1] + left + x) * 3;
            for (int64_t c = 0; c < 3; c++) {
                ret_face[(c * SIDE + y) * SIDE + x] = (float)pixel[c] / 255;
            }
        }
    }
}

static int faces_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    const struct fm_tensor *image = &call->inputs[0].items[0];
    const struct fm_tensor like = {.dtype = FM_DTYPE_FP32, .rank = 3, .shape = {3, SIDE, SIDE}};
    int64_t room = image->shape[1] - SIDE;
    if (image->shape[0] < SIDE || room < FACES_MAX) {
        return FM_EINVAL;
    }
    unsigned faces = ((const unsigned char *)image->data)[0] % (FACES_MAX + 1u);
    for (unsigned i = 0; i < faces; i++) {
        void *face = NULL;
        int status = call->emit(call, 0, &like, &face);
        if (status != 0) {
            return status;
        }
        cut(image, room * i / FACES_MAX, face);
    }
    return 0;
}

static const struct fm_operator faces = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "perf_faces",
    .summary = "some pieces of an image, as many as its first byte says",
    .create = faces_create,
    .destroy = faces_destroy,
    .ports = faces_ports,
    .run = faces_run,
};

static const struct fm_operator *const operators[] = {&faces};
static const struct fm_operator_plugin plugin = {
    .struct_size = sizeof(struct fm_operator_plugin),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "perf_faces",
    .operators = operators,
    .operator_count = 1,
};

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor)
{
    (void)minor;
    return major == FM_OPERATOR_ABI_MAJOR ? &plugin : NULL;
}
