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
