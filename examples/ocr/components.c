/*
 * Connected components: see components.h.
 *
 * HOW IT WORKS. Each row of the thresholded map is cut into runs of set pixels. A run joins every
 * run of the row above that it touches, corners included, in a union-find forest whose roots are
 * always the smallest index, so that numbering does not depend on the order of joins. A counting
 * sort then brings the runs of a component together. Time and memory are linear in pixels.
 */
#include "examples/ocr/components.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/status.h"

struct builder {
    struct ocr_run *runs; /* component = parent in the forest while building */
    size_t count;
    size_t capacity;
};

static int builder_push(struct builder *builder, int32_t row, int32_t begin, int32_t end)
{
    if (builder->count == OCR_RUNS_MAX) {
        return FM_ELIMIT;
    }
    if (builder->count == builder->capacity) {
        size_t capacity = builder->capacity == 0 ? 4096 : builder->capacity * 2;
        struct ocr_run *runs = realloc(builder->runs, capacity * sizeof(*runs));
        if (runs == NULL) {
            return FM_ENOMEM;
        }
        builder->runs = runs;
        builder->capacity = capacity;
    }
    builder->runs[builder->count] = (struct ocr_run){row, begin, end, (int32_t)builder->count};
    builder->count++;
    return FM_OK;
}

static int32_t forest_root(struct ocr_run *runs, int32_t index)
{
    while (runs[index].component != index) {
        runs[index].component = runs[runs[index].component].component;
        index = runs[index].component;
    }
    return index;
}

static void forest_join(struct ocr_run *runs, int32_t a, int32_t b)
{
    a = forest_root(runs, a);
    b = forest_root(runs, b);
    if (a < b) {
        runs[b].component = a;
    } else {
        runs[a].component = b;
    }
}

/* Joins the runs [current, end) of one row with those of the row above, [above, current). */
static void rows_join(struct ocr_run *runs, size_t above, size_t current, size_t end)
{
    size_t upper = above;
    for (size_t lower = current; lower < end; lower++) {
        while (upper < current && runs[upper].end < runs[lower].begin) {
            upper++;
        }
        /* The last run that touches may touch the next one of this row too: it is looked at again.
         */
        for (size_t i = upper; i < current && runs[i].begin <= runs[lower].end; i++) {
            forest_join(runs, (int32_t)i, (int32_t)lower);
        }
    }
}

/* Sets the bytes of pixels above the threshold, but for upright strokes shorter than stroke_min. */
static void mask_fill(const float *map, int32_t height, int32_t width, float threshold,
                      int32_t stroke_min, uint8_t *mask, int32_t *strokes)
{
    memset(strokes, 0, (size_t)width * sizeof(*strokes));
    for (int32_t row = 0; row <= height; row++) {
        size_t start = (size_t)row * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            bool is_set = row < height && map[start + (size_t)x] > threshold;
            if (row < height) {
                mask[start + (size_t)x] = is_set;
            }
            if (is_set) {
                strokes[x]++;
                continue;
            }
            for (int32_t i = 1; strokes[x] < stroke_min && i <= strokes[x]; i++) {
                mask[start + (size_t)x - (size_t)i * (size_t)width] = 0;
            }
            strokes[x] = 0;
        }
    }
}

static int runs_collect(struct builder *builder, const uint8_t *mask, int32_t height, int32_t width)
{
    size_t above = 0;
    size_t current = 0;
    for (int32_t row = 0; row < height; row++) {
        const uint8_t *pixels = mask + (size_t)row * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            if (pixels[x] == 0) {
                continue;
            }
            int32_t begin = x;
            while (x < width && pixels[x] != 0) {
                x++;
            }
            int status = builder_push(builder, row, begin, x);
            if (status < 0) {
                return status;
            }
        }
        rows_join(builder->runs, above, current, builder->count);
        above = current;
        current = builder->count;
    }
    return FM_OK;
}

/* Numbers the roots in order, so that runs[i].component becomes the index of a component. Returns
 * how many there are. */
static size_t components_number(struct ocr_run *runs, size_t run_count)
{
    size_t count = 0;
    for (size_t i = 0; i < run_count; i++) {
        /* A root comes before its children and so has its number already; numbers are stored as -1
         * - number until all are. */
        if (runs[i].component == (int32_t)i) {
            runs[i].component = -1 - (int32_t)count;
            count++;
        } else {
            int32_t parent = runs[i].component;
            runs[i].component = runs[parent].component;
        }
    }
    for (size_t i = 0; i < run_count; i++) {
        runs[i].component = -1 - runs[i].component;
    }
    return count;
}

static void component_add(struct ocr_component *component, const struct ocr_run *run)
{
    if (component->run_count == 0) {
        component->left = run->begin;
        component->top = run->row;
        component->right = run->end;
    }
    component->left = run->begin < component->left ? run->begin : component->left;
    component->right = run->end > component->right ? run->end : component->right;
    component->bottom = run->row + 1;
    component->run_count++;
}

static double component_score(const struct ocr_run *runs, const struct ocr_component *component,
                              const float *map, int32_t width)
{
    double sum = 0;
    double pixels = 0;
    for (size_t i = 0; i < component->run_count; i++) {
        const struct ocr_run *run = &runs[component->first_run + i];
        const float *row = map + (size_t)run->row * (size_t)width;
        for (int32_t x = run->begin; x < run->end; x++) {
            sum += row[x] < 1.0f ? (double)row[x] : 1.0;
        }
        pixels += run->end - run->begin;
    }
    return sum / pixels;
}

/* Moves runs from the builder, in scan order, to `components`, grouped. */
static int components_group(const struct builder *builder, size_t count,
                            struct ocr_components *components)
{
    components->items = calloc(count, sizeof(*components->items));
    components->runs = malloc(builder->count * sizeof(*components->runs));
    size_t *next = malloc(count * sizeof(*next));
    if (components->items == NULL || components->runs == NULL || next == NULL) {
        free(next);
        return FM_ENOMEM;
    }
    for (size_t i = 0; i < builder->count; i++) {
        component_add(&components->items[builder->runs[i].component], &builder->runs[i]);
    }
    size_t first = 0;
    for (size_t i = 0; i < count; i++) {
        components->items[i].first_run = first;
        next[i] = first;
        first += components->items[i].run_count;
    }
    for (size_t i = 0; i < builder->count; i++) {
        components->runs[next[builder->runs[i].component]++] = builder->runs[i];
    }
    components->run_count = builder->count;
    components->count = count;
    free(next);
    return FM_OK;
}

int ocr_components_find(const float *map, int32_t height, int32_t width, float threshold,
                        int32_t stroke_min, struct ocr_components *ret_components)
{
    memset(ret_components, 0, sizeof(*ret_components));
    if (height <= 0 || width <= 0 || height > OCR_MAP_SIDE_MAX || width > OCR_MAP_SIDE_MAX) {
        return FM_EINVAL;
    }
    struct builder builder = {0};
    uint8_t *mask = malloc((size_t)height * (size_t)width);
    int32_t *strokes = malloc((size_t)width * sizeof(*strokes));
    int status = FM_ENOMEM;
    if (mask != NULL && strokes != NULL) {
        mask_fill(map, height, width, threshold, stroke_min, mask, strokes);
        status = runs_collect(&builder, mask, height, width);
    }
    free(mask);
    free(strokes);
    if (status == FM_OK && builder.count > 0) {
        for (size_t i = 0; i < builder.count; i++) {
            builder.runs[i].component = forest_root(builder.runs, (int32_t)i);
        }
        size_t count = components_number(builder.runs, builder.count);
        status = components_group(&builder, count, ret_components);
    }
    free(builder.runs);
    if (status < 0) {
        ocr_components_deinit(ret_components);
        return status;
    }
    for (size_t i = 0; i < ret_components->count; i++) {
        ret_components->items[i].score =
            component_score(ret_components->runs, &ret_components->items[i], map, width);
    }
    return FM_OK;
}

void ocr_components_deinit(struct ocr_components *components)
{
    free(components->runs);
    free(components->items);
    memset(components, 0, sizeof(*components));
}
