/*
 * The OCR plug-in: what turns a text-detection network's map into boxes, and recognised lines into
 * a page.
 *
 * Owns: the plug-in's entry, the operator ocr_boxes, and the helpers of operators.h. Does not own:
 * the geometry (components.h, rectangle.h, reading_order.h), the other operators (page.c). It uses
 * the installed ABI headers and libm, nothing else of Fermata. Thread rule: states are constant
 * after create(); run() works on its own memory.
 *
 * ocr_boxes is the post-processing of a DB ("differentiable binarisation") detector: the map gives
 * for every pixel the probability that it belongs to the shrunken kernel of a text line. Kernels
 * are cut out at `threshold`, weighed by their mean probability, boxed by the rectangle of least
 * area and grown back to the size of the line.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/ocr/components.h"
#include "examples/ocr/operators.h"
#include "examples/ocr/reading_order.h"

/* A rectangle so many times as long as high is a line of text, whose outer rows may be fringe:
 * those with less than FRINGE_MAX of its length in pixels. */
#define FRINGE_LENGTH_MIN 8.0
#define FRINGE_MAX        0.1
/* No line that could be trimmed is higher, in map pixels. */
#define ROWS_MAX 512

struct boxes_state {
    double threshold;
    double box_threshold;
    double unclip;
    double side_min;
    double stroke_min;
    size_t boxes_max;
};

/* Quads found so far, in the map's coordinates scaled to the page. */
struct quad_list {
    struct ocr_quad *items;
    size_t count;
    size_t capacity;
};

int ocr_fail(struct fm_error *error, int status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        (void)vsnprintf(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
    }
    return status;
}

int ocr_parameter(const struct fm_setting *setting, double min, double max, double *ret_value,
                  struct fm_error *reterr)
{
    char *end = NULL;
    double value = strtod(setting->value, &end);
    if (end == setting->value || *end != '\0' || !(value >= min && value <= max)) {
        return ocr_fail(reterr, FM_EINVAL, "parameter '%s' is '%s': give a number from %g to %g",
                        setting->key, setting->value, min, max);
    }
    *ret_value = value;
    return FM_OK;
}

int ocr_quad_read(const struct fm_tensor *tensor, struct ocr_quad *ret_quad,
                  struct fm_error *reterr)
{
    float values[8];
    if (tensor->dtype != FM_DTYPE_FP32 || tensor->rank != 2 || tensor->shape[0] != 4 ||
        tensor->shape[1] != 2 || tensor->size != sizeof(values)) {
        return ocr_fail(reterr, FM_ETYPE, "a quad must be FP32 [4,2]: four corners, x and y each");
    }
    memcpy(values, tensor->data, sizeof(values));
    for (int i = 0; i < 4; i++) {
        if (!isfinite(values[2 * i]) || !isfinite(values[2 * i + 1])) {
            return ocr_fail(reterr, FM_EINVAL, "corner %d of a quad is not finite", i);
        }
        ret_quad->corners[i] = (struct ocr_point){values[2 * i], values[2 * i + 1]};
    }
    return FM_OK;
}

void ocr_quad_write(const struct ocr_quad *quad, float ret_values[8])
{
    for (int i = 0; i < 4; i++) {
        ret_values[2 * i] = (float)quad->corners[i].x;
        ret_values[2 * i + 1] = (float)quad->corners[i].y;
    }
}

static const struct fm_operator_parameter boxes_parameters[] = {
    {"threshold", "0.3", "a map pixel above this is text; 0 to 1"},
    {"box_threshold", "0.6", "a box whose pixels' mean is below this is dropped; 0 to 1"},
    {"unclip", "1.5", "how far a box grows: area x this / perimeter on every side; 0 to 10"},
    {"side_min", "3", "a box with a shorter side, in map pixels, is dropped; 1 to 1000"},
    {"stroke_min", "2",
     "upright strokes of fewer map pixels are cut away: they tie columns together; 1: none; 1 to "
     "1000"},
    {"boxes_max", "2000", "a page with more boxes is refused; 1 to 4000"},
    {NULL, NULL, NULL},
};

static int boxes_create(const struct fm_host *host, const struct fm_setting *settings,
                        size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    struct boxes_state parsed = {0};
    double boxes_max = 0;
    const struct {
        double min;
        double max;
        double *value;
    } rules[] = {
        {0, 1, &parsed.threshold},   {0, 1, &parsed.box_threshold}, {0, 10, &parsed.unclip},
        {1, 1000, &parsed.side_min}, {1, 1000, &parsed.stroke_min}, {1, OCR_BOXES_MAX, &boxes_max},
    };
    if (setting_count != sizeof(rules) / sizeof(rules[0])) {
        return ocr_fail(reterr, FM_EINVAL, "ocr_boxes expects its six parameters, got %zu",
                        setting_count);
    }
    for (size_t i = 0; i < setting_count; i++) {
        int status =
            ocr_parameter(&settings[i], rules[i].min, rules[i].max, rules[i].value, reterr);
        if (status < 0) {
            return status;
        }
    }
    parsed.boxes_max = (size_t)boxes_max;
    struct boxes_state *state = malloc(sizeof(*state));
    if (state == NULL) {
        return ocr_fail(reterr, FM_ENOMEM, "out of memory");
    }
    *state = parsed;
    *ret_state = state;
    return FM_OK;
}

static void boxes_destroy(void *state)
{
    free(state);
}

static int boxes_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                       const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port inputs[] = {
        {.name = "map", .dtype = FM_DTYPE_FP32, .rank = -1},
        {.name = "page", .dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {-1, -1, -1}},
    };
    static const struct fm_port outputs[] = {
        {.name = "quad", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {4, 2}, .flags = FM_PORT_MANY},
    };
    (void)state;
    *ret_inputs = inputs;
    *ret_input_count = 2;
    *ret_outputs = outputs;
    *ret_output_count = 1;
    return FM_OK;
}

/* The last two dimensions of a map whose other dimensions are 1. */
static int map_sides(const struct fm_tensor *map, int32_t *ret_height, int32_t *ret_width,
                     struct fm_error *reterr)
{
    uint32_t rank = map->rank;
    int plane = rank >= 2 && rank <= FM_RANK_MAX;
    for (uint32_t i = 0; plane && i + 2 < rank; i++) {
        plane = map->shape[i] == 1;
    }
    if (!plane) {
        return ocr_fail(reterr, FM_ETYPE, "the map must be FP32 [H,W] or [1,..,H,W], not rank %u",
                        (unsigned)rank);
    }
    int64_t height = map->shape[rank - 2];
    int64_t width = map->shape[rank - 1];
    if (height < 1 || width < 1 || height > OCR_MAP_SIDE_MAX || width > OCR_MAP_SIDE_MAX) {
        return ocr_fail(reterr, FM_ETOOLARGE,
                        "the map is %lld x %lld pixels: sides from 1 to %d are supported",
                        (long long)width, (long long)height, OCR_MAP_SIDE_MAX);
    }
    if (map->size != (size_t)height * (size_t)width * sizeof(float)) {
        return ocr_fail(reterr, FM_ETYPE, "the map has %zu bytes, which is not its shape's size",
                        map->size);
    }
    *ret_height = (int32_t)height;
    *ret_width = (int32_t)width;
    return FM_OK;
}

/* The outermost corners of a component's pixels, row by row: at most four a row. Returns how many.
 */
static size_t component_outline(const struct ocr_run *runs, size_t run_count,
                                struct ocr_point *ret_points)
{
    size_t count = 0;
    for (size_t i = 0; i < run_count;) {
        size_t last = i;
        while (last + 1 < run_count && runs[last + 1].row == runs[i].row) {
            last++;
        }
        double left = runs[i].begin;
        double right = runs[last].end;
        double top = runs[i].row;
        ret_points[count++] = (struct ocr_point){left, top};
        ret_points[count++] = (struct ocr_point){right, top};
        ret_points[count++] = (struct ocr_point){left, top + 1};
        ret_points[count++] = (struct ocr_point){right, top + 1};
        i = last + 1;
    }
    return count;
}

static double pixel_across(const struct ocr_rectangle *rectangle, double x, double y)
{
    return (y + 0.5 - rectangle->center.y) * rectangle->x_axis.x -
           (x + 0.5 - rectangle->center.x) * rectangle->x_axis.y + rectangle->height / 2;
}

/* The corners of the pixels of a component that lie in rows [first, last] of a rectangle, as
 * component_outline gives them. */
static size_t band_outline(const struct ocr_run *runs, size_t run_count,
                           const struct ocr_rectangle *rectangle, int first, int last,
                           struct ocr_point *ret_points)
{
    size_t count = 0;
    for (size_t i = 0; i < run_count;) {
        int32_t row = runs[i].row;
        int32_t left = INT32_MAX;
        int32_t right = -1;
        for (; i < run_count && runs[i].row == row; i++) {
            for (int32_t x = runs[i].begin; x < runs[i].end; x++) {
                double across = pixel_across(rectangle, x, row);
                if (across >= first && across < last + 1) {
                    left = x < left ? x : left;
                    right = x;
                }
            }
        }
        if (right >= 0) {
            ret_points[count++] = (struct ocr_point){left, row};
            ret_points[count++] = (struct ocr_point){right + 1, row};
            ret_points[count++] = (struct ocr_point){left, row + 1};
            ret_points[count++] = (struct ocr_point){right + 1, row + 1};
        }
    }
    return count;
}

/* The rectangle turned along the middle of the component's pixels (least squares), high enough to
 * hold all of them still. */
static struct ocr_rectangle rectangle_level(const struct ocr_rectangle *rectangle,
                                            const struct ocr_run *runs, size_t run_count)
{
    struct ocr_point u = rectangle->x_axis;
    double pixels = 0, along_sum = 0, across_sum = 0, square_sum = 0, product_sum = 0;
    for (size_t i = 0; i < run_count; i++) {
        double y = runs[i].row + 0.5 - rectangle->center.y;
        for (int32_t pixel = runs[i].begin; pixel < runs[i].end; pixel++) {
            double x = pixel + 0.5 - rectangle->center.x;
            double along = x * u.x + y * u.y;
            double across = y * u.x - x * u.y;
            pixels++;
            along_sum += along;
            across_sum += across;
            square_sum += along * along;
            product_sum += along * across;
        }
    }
    double spread = square_sum - along_sum * along_sum / pixels;
    double slope = spread > 0 ? (product_sum - along_sum * across_sum / pixels) / spread : 0;
    double length = hypot(1, slope);
    struct ocr_rectangle level = *rectangle;
    level.x_axis = (struct ocr_point){(u.x - slope * u.y) / length, (u.y + slope * u.x) / length};
    level.height += fabs(slope) * rectangle->width + 2;
    return level;
}

/*
 * A rectangle without the fringe of its component. The mark of a footnote at one end of a long line
 * lifts that end, and a rectangle around all would be half as high again as the line: its letters
 * then become so narrow that the network has no time steps for them. So rows along the line that
 * hold few pixels do not count if they are its outer ones, and what remains is boxed anew.
 */
static struct ocr_rectangle rectangle_trim(const struct ocr_rectangle *rectangle,
                                           const struct ocr_run *runs, size_t run_count,
                                           struct ocr_point *points)
{
    uint32_t pixels[ROWS_MAX] = {0};
    if (rectangle->width < FRINGE_LENGTH_MIN * rectangle->height) {
        return *rectangle;
    }
    struct ocr_rectangle level = rectangle_level(rectangle, runs, run_count);
    int bottom = (int)ceil(level.height) - 1;
    if (bottom >= ROWS_MAX) {
        return *rectangle;
    }
    for (size_t i = 0; i < run_count; i++) {
        for (int32_t x = runs[i].begin; x < runs[i].end; x++) {
            double across = pixel_across(&level, x, runs[i].row);
            pixels[across < 0 ? 0 : across > bottom ? bottom : (int)across]++;
        }
    }
    int top = 0;
    while (top < bottom && pixels[top] < FRINGE_MAX * level.width) {
        top++;
    }
    while (bottom > top && pixels[bottom] < FRINGE_MAX * level.width) {
        bottom--;
    }
    size_t count = band_outline(runs, run_count, &level, top, bottom, points);
    if (count == 0) {
        return *rectangle;
    }
    count = ocr_hull(points, count);
    return ocr_rectangle_around(points, count);
}

static int quads_push(struct quad_list *quads, const struct ocr_quad *quad)
{
    if (quads->count == quads->capacity) {
        size_t capacity = quads->capacity == 0 ? 128 : quads->capacity * 2;
        struct ocr_quad *items = realloc(quads->items, capacity * sizeof(*items));
        if (items == NULL) {
            return FM_ENOMEM;
        }
        quads->items = items;
        quads->capacity = capacity;
    }
    quads->items[quads->count++] = *quad;
    return FM_OK;
}

/* Boxes the components. `scale` takes the map's pixels to the page's. */
static int quads_collect(const struct boxes_state *state, const struct ocr_components *components,
                         struct ocr_point *points, struct ocr_point scale, struct quad_list *quads,
                         struct fm_error *reterr)
{
    for (size_t i = 0; i < components->count; i++) {
        const struct ocr_component *component = &components->items[i];
        if (component->right - component->left < state->side_min ||
            component->bottom - component->top < state->side_min ||
            component->score < state->box_threshold) {
            continue;
        }
        size_t count = component_outline(&components->runs[component->first_run],
                                         component->run_count, points);
        count = ocr_hull(points, count);
        struct ocr_rectangle rectangle = ocr_rectangle_around(points, count);
        rectangle = rectangle_trim(&rectangle, &components->runs[component->first_run],
                                   component->run_count, points);
        if (fmin(rectangle.width, rectangle.height) < state->side_min) {
            continue;
        }
        if (quads->count == state->boxes_max) {
            return ocr_fail(reterr, FM_ELIMIT,
                            "the page has more than %zu text boxes: raise 'boxes_max', or "
                            "'box_threshold' if this is noise",
                            state->boxes_max);
        }
        rectangle = ocr_rectangle_grow(&rectangle, state->unclip);
        struct ocr_quad quad = ocr_rectangle_quad(&rectangle, scale.x, scale.y);
        if (quads_push(quads, &quad) < 0) {
            return ocr_fail(reterr, FM_ENOMEM, "out of memory");
        }
    }
    return FM_OK;
}

static int quads_emit(struct fm_operator_call *call, const struct quad_list *quads)
{
    const struct fm_tensor like = {
        .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {4, 2}, .size = 8 * sizeof(float)};
    size_t count = quads->count;
    struct ocr_bounds *bounds = calloc(count + 1, sizeof(*bounds));
    struct ocr_place *places = malloc((count + 1) * sizeof(*places));
    int status = bounds == NULL || places == NULL ? FM_ENOMEM : FM_OK;
    for (size_t i = 0; status == FM_OK && i < count; i++) {
        bounds[i] = ocr_quad_bounds(&quads->items[i]);
    }
    if (status == FM_OK) {
        status = ocr_reading_order(bounds, count, places);
    }
    for (size_t i = 0; status == FM_OK && i < count; i++) {
        float values[8];
        void *data = NULL;
        ocr_quad_write(&quads->items[places[i].box], values);
        status = call->emit(call, 0, &like, &data);
        if (status == FM_OK) {
            memcpy(data, values, sizeof(values));
        }
    }
    free(bounds);
    free(places);
    if (status < 0 && call->error.status == 0) {
        return ocr_fail(&call->error, status, "cannot give out %zu text boxes", count);
    }
    return status;
}

static int boxes_run(void *opaque, struct fm_operator_call *call)
{
    const struct boxes_state *state = opaque;
    const struct fm_tensor *map = &call->inputs[0].items[0];
    const struct fm_tensor *page = &call->inputs[1].items[0];
    int32_t height = 0;
    int32_t width = 0;
    int status = map_sides(map, &height, &width, &call->error);
    if (status < 0) {
        return status;
    }
    struct ocr_components components;
    struct quad_list quads = {0};
    struct ocr_point *points = NULL;
    status = ocr_components_find(map->data, height, width, (float)state->threshold,
                                 (int32_t)state->stroke_min, &components);
    if (status < 0) {
        return ocr_fail(&call->error, status,
                        status == FM_ELIMIT ? "the map is noise: more than %d runs of text pixels"
                                            : "cannot label the map (limit of runs: %d)",
                        OCR_RUNS_MAX);
    }
    points = malloc(4 * (size_t)height * sizeof(*points));
    if (points == NULL) {
        status = ocr_fail(&call->error, FM_ENOMEM, "out of memory");
        goto out;
    }
    struct ocr_point scale = {(double)page->shape[1] / width, (double)page->shape[0] / height};
    status = quads_collect(state, &components, points, scale, &quads, &call->error);
    if (status < 0) {
        goto out;
    }
    status = quads_emit(call, &quads);

out:
    free(quads.items);
    free(points);
    ocr_components_deinit(&components);
    return status;
}

const struct fm_operator ocr_boxes_operator = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "ocr_boxes",
    .summary = "text-detection map -> boxes of text lines, in reading order",
    .parameters = boxes_parameters,
    .create = boxes_create,
    .destroy = boxes_destroy,
    .ports = boxes_ports,
    .run = boxes_run,
};

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t host_abi_major,
                                                                    uint16_t host_abi_minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    static const struct fm_operator *const operators[] = {
        &ocr_boxes_operator,
        &ocr_orient_operator,
        &ocr_page_operator,
    };
    static const struct fm_operator_plugin plugin = {
        .struct_size = sizeof(struct fm_operator_plugin),
        .abi_major = FM_OPERATOR_ABI_MAJOR,
        .abi_minor = FM_OPERATOR_ABI_MINOR,
        .name = "ocr_text",
        .operators = operators,
        .operator_count = sizeof(operators) / sizeof(operators[0]),
    };
    (void)host_abi_minor;
    return host_abi_major == FM_OPERATOR_ABI_MAJOR ? &plugin : NULL;
}
