/*
 * Operator crop_warp: a quadrilateral cut out of an image and straightened.
 *
 * HOW IT WORKS. The quad's corners go to the corners of the crop. An axis-parallel rectangle is
 * sampled by rows (image.h). For all others the homography of the crop's rectangle to the quad
 * (Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, section 2.2.3) gives for
 * each pixel centre the place in the image, and four pixels are mixed; outside the image its edge
 * is repeated. Thread rule: the state is constant.
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
    PARAMETER_HEIGHT,
    PARAMETER_MIN_WIDTH,
    PARAMETER_MAX_WIDTH,
    PARAMETER_MAX_HEIGHT,
    PARAMETER_TALL,
};

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_HEIGHT] = {"height", "0",
                          "pixels of the crop, width in proportion (rounded up); 0: the quad's own "
                          "size (rounded)"},
    [PARAMETER_MIN_WIDTH] = {"min_width", "1", "pixels; narrower crops are stretched to it"},
    [PARAMETER_MAX_WIDTH] = {"max_width", "8192", "pixels; wider crops are squeezed to it"},
    [PARAMETER_MAX_HEIGHT] = {"max_height", "8192",
                              "pixels; higher crops are squeezed to it (for height 0)"},
    [PARAMETER_TALL] = {"rotate_tall", "0",
                        "crops at least this many times as high as wide are turned by 90 degrees "
                        "counterclockwise (PaddleOCR: 1.5); 0: never"},
    {NULL, NULL, NULL},
};

/* Coordinates beyond this are no places in any image that can be loaded. */
#define COORDINATE_MAX 4194304.0
/* Shorter sides have no direction. */
#define SIDE_MIN 0.01

struct warp_state {
    uint32_t height;
    uint32_t min_width;
    uint32_t max_width;
    uint32_t max_height;
    double tall;
};

static int warp_create(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)setting_count;
    uint64_t values[4] = {0};
    double tall = 0;
    for (int i = PARAMETER_HEIGHT; i <= PARAMETER_MAX_HEIGHT; i++) {
        int status =
            fm_option_uint(&settings[i], i == PARAMETER_HEIGHT ? 0 : 1, 65536, &values[i], reterr);
        if (status != 0) {
            return status;
        }
    }
    int status = fm_option_double(&settings[PARAMETER_TALL], 0, 1000, &tall, reterr);
    if (status != 0) {
        return status;
    }
    if (values[PARAMETER_MIN_WIDTH] > values[PARAMETER_MAX_WIDTH]) {
        return fm_error_set(reterr, FM_EINVAL, "min_width %llu is greater than max_width %llu",
                            (unsigned long long)values[PARAMETER_MIN_WIDTH],
                            (unsigned long long)values[PARAMETER_MAX_WIDTH]);
    }
    struct warp_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    *state = (struct warp_state){.height = (uint32_t)values[PARAMETER_HEIGHT],
                                 .min_width = (uint32_t)values[PARAMETER_MIN_WIDTH],
                                 .max_width = (uint32_t)values[PARAMETER_MAX_WIDTH],
                                 .max_height = (uint32_t)values[PARAMETER_MAX_HEIGHT],
                                 .tall = tall};
    *ret_state = state;
    return 0;
}

static int warp_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                      const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port inputs[] = {
        {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, -1}},
        {.name = "quad", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {4, 2}},
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

/* --- Geometry --- */

/* Corners top left, top right, bottom right, bottom left, as they are in the crop. */
struct quad {
    double x[4];
    double y[4];
};

static double side_length(const struct quad *quad, int from, int to)
{
    return hypot(quad->x[to] - quad->x[from], quad->y[to] - quad->y[from]);
}

static int quad_read(const struct fm_tensor *tensor, struct quad *quad, struct fm_error *reterr)
{
    const float *values = tensor->data;
    for (int i = 0; i < 4; i++) {
        quad->x[i] = values[2 * i];
        quad->y[i] = values[2 * i + 1];
        /* Written so that NaN fails too. */
        if (!(fabs(quad->x[i]) <= COORDINATE_MAX && fabs(quad->y[i]) <= COORDINATE_MAX)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "corner %d of the quad is (%g, %g), which is no place in an image",
                                i, quad->x[i], quad->y[i]);
        }
    }
    return 0;
}

/* Turns a standing quad, so that its right side becomes the top of the crop. */
static void quad_lay_down(struct quad *quad)
{
    const struct quad old = *quad;
    for (int i = 0; i < 4; i++) {
        quad->x[i] = old.x[(i + 1) % 4];
        quad->y[i] = old.y[(i + 1) % 4];
    }
}

static int crop_size(const struct warp_state *state, struct quad *quad, uint32_t *ret_width,
                     uint32_t *ret_height, struct fm_error *reterr)
{
    double width = fmax(side_length(quad, 0, 1), side_length(quad, 3, 2));
    double height = fmax(side_length(quad, 0, 3), side_length(quad, 1, 2));
    if (state->tall > 0 && height >= state->tall * width) {
        double swap = width;
        quad_lay_down(quad);
        width = height;
        height = swap;
    }
    if (width < SIDE_MIN || height < SIDE_MIN) {
        return fm_error_set(reterr, FM_EINVAL, "the quad is degenerate: %g pixels wide and %g high",
                            width, height);
    }
    if (state->height > 0) {
        width = ceil(state->height * width / height);
        height = state->height;
    }
    width = fmin(fmax(round(width), state->min_width), state->max_width);
    height = fmax(round(height), 1);
    if (state->height == 0) {
        height = fmin(height, state->max_height);
    }
    *ret_width = (uint32_t)width;
    *ret_height = (uint32_t)height;
    return 0;
}

/* x = (a u + b v + c) / (g u + h v + 1), y = (d u + e v + f) / (same), for u, v from 0 to 1 across
 * the crop. */
struct homography {
    double a, b, c, d, e, f, g, h;
};

static int homography_solve(const struct quad *quad, struct homography *ret_map,
                            struct fm_error *reterr)
{
    const double *x = quad->x;
    const double *y = quad->y;
    double x1 = x[1] - x[2];
    double x2 = x[3] - x[2];
    double x3 = x[0] - x[1] + x[2] - x[3];
    double y1 = y[1] - y[2];
    double y2 = y[3] - y[2];
    double y3 = y[0] - y[1] + y[2] - y[3];
    double determinant = x1 * y2 - x2 * y1;
    double size = fmax(hypot(x1, y1) * hypot(x2, y2), SIDE_MIN * SIDE_MIN);
    if (fabs(determinant) < 1e-6 * size) {
        return fm_error_set(reterr, FM_EINVAL, "the quad is degenerate: its corners are in line");
    }
    double g = (x3 * y2 - x2 * y3) / determinant;
    double h = (x1 * y3 - x3 * y1) / determinant;
    /* The denominator is linear, so inside the crop it is positive when it is at the corners: true
     * for convex quads only. */
    if (1 + g < 1e-3 || 1 + h < 1e-3 || 1 + g + h < 1e-3) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the quad is not convex, or its corners are not in order");
    }
    *ret_map = (struct homography){.a = x[1] - x[0] + g * x[1],
                                   .b = x[3] - x[0] + h * x[3],
                                   .c = x[0],
                                   .d = y[1] - y[0] + g * y[1],
                                   .e = y[3] - y[0] + h * y[3],
                                   .f = y[0],
                                   .g = g,
                                   .h = h};
    return 0;
}

static bool is_axis_parallel(const struct quad *quad)
{
    const double tolerance = 1.0 / 1024;
    return fabs(quad->y[0] - quad->y[1]) < tolerance && fabs(quad->y[3] - quad->y[2]) < tolerance &&
           fabs(quad->x[0] - quad->x[3]) < tolerance && fabs(quad->x[1] - quad->x[2]) < tolerance;
}

/* --- Sampling --- */

static int sample_rows(const struct fm_image *image, const struct quad *quad, uint32_t width,
                       uint32_t height, uint8_t *pixels)
{
    struct fm_taps across = {0};
    struct fm_taps down = {0};
    struct fm_resampler resampler = {0};
    int status = fm_taps_init(&across, FM_INTERPOLATION_BILINEAR, width, image->width, quad->x[0],
                              (quad->x[1] - quad->x[0]) / width);
    if (status == 0) {
        status = fm_taps_init(&down, FM_INTERPOLATION_BILINEAR, height, image->height, quad->y[0],
                              (quad->y[3] - quad->y[0]) / height);
    }
    if (status == 0) {
        status = fm_resampler_init(&resampler, image, &across, &down);
    }
    for (uint32_t y = 0; status == 0 && y < height; y++) {
        fm_row_to_bytes(fm_resampler_row(&resampler, y), width, image->channels,
                        pixels + (size_t)y * width * image->channels);
    }
    fm_taps_deinit(&across);
    fm_taps_deinit(&down);
    fm_resampler_deinit(&resampler);
    return status;
}

/* The lower of the two indices that are mixed, and the share of the upper one, for a coordinate of
 * pixel centres; the edge is repeated. */
static uint32_t split(float at, uint32_t length, float *ret_fraction)
{
    float last = (float)(length - 1);
    float inside = at < 0 ? 0 : at > last ? last : at;
    uint32_t low = (uint32_t)inside;
    *ret_fraction = inside - (float)low;
    return low;
}

static void sample_row(const struct fm_image *image, const struct homography *map, double v,
                       uint32_t width, uint8_t *restrict pixels)
{
    const uint32_t channels = image->channels;
    const size_t stride = (size_t)image->width * channels;
    const double step = 1.0 / width;
    for (uint32_t i = 0; i < width; i++) {
        double u = (i + 0.5) * step;
        double inverse = 1 / (map->g * u + map->h * v + 1);
        float x = (float)((map->a * u + map->b * v + map->c) * inverse - 0.5);
        float y = (float)((map->d * u + map->e * v + map->f) * inverse - 0.5);
        float right = 0;
        float lower = 0;
        uint32_t x0 = split(x, image->width, &right);
        uint32_t y0 = split(y, image->height, &lower);
        const uint8_t *top = image->pixels + y0 * stride + (size_t)x0 * channels;
        const uint8_t *bottom = y0 + 1 < image->height ? top + stride : top;
        size_t next = x0 + 1 < image->width ? channels : 0;
        for (uint32_t c = 0; c < channels; c++) {
            float above = (float)top[c] + ((float)top[c + next] - (float)top[c]) * right;
            float below = (float)bottom[c] + ((float)bottom[c + next] - (float)bottom[c]) * right;
            pixels[(size_t)i * channels + c] =
                (uint8_t)(int)(above + (below - above) * lower + 0.5f);
        }
    }
}

static int warp_run(void *state_, struct fm_operator_call *call)
{
    const struct warp_state *state = state_;
    struct fm_image image;
    struct quad quad;
    struct homography map = {0};
    uint32_t width = 0;
    uint32_t height = 0;
    uint8_t *pixels = NULL;
    int status = fm_image_view(&call->inputs[0].items[0], &image, &call->error);
    if (status == 0) {
        status = quad_read(&call->inputs[1].items[0], &quad, &call->error);
    }
    if (status == 0) {
        status = crop_size(state, &quad, &width, &height, &call->error);
    }
    if (status == 0) {
        status = homography_solve(&quad, &map, &call->error);
    }
    if (status == 0) {
        status = fm_image_emit(call, 0, height, width, image.channels, &pixels);
    }
    if (status != 0) {
        return status;
    }
    if (is_axis_parallel(&quad)) {
        status = sample_rows(&image, &quad, width, height, pixels);
        if (status != 0) {
            (void)fm_error_set(&call->error, status, "out of memory for the crop");
        }
        return status;
    }
    for (uint32_t y = 0; y < height; y++) {
        sample_row(&image, &map, (y + 0.5) / height, width,
                   pixels + (size_t)y * width * image.channels);
    }
    return 0;
}

const struct fm_operator fm_operator_crop_warp = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "crop_warp",
    .summary = "a quadrilateral cut out of an image and straightened",
    .parameters = parameters,
    .create = warp_create,
    .destroy = fm_free,
    .ports = warp_ports,
    .run = warp_run,
};
