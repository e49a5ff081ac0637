/*
 * Connected components of a probability map.
 *
 * Owns: binarisation and 8-connected labelling by runs of pixels. Does not own: what becomes of a
 * component (rectangle.h). Thread rule: pure functions and caller's memory.
 */
#ifndef FM_EXAMPLES_OCR_COMPONENTS_H
#define FM_EXAMPLES_OCR_COMPONENTS_H

#include <stddef.h>
#include <stdint.h>

/* A side of the map, so that coordinates fit everywhere and products cannot overflow. */
#define OCR_MAP_SIDE_MAX 16384
/* Runs of set pixels in one map. A page of text has some 10,000; noise stops here. */
#define OCR_RUNS_MAX 4000000

/* Pixels [begin, end) of one row that belong to one component. */
struct ocr_run {
    int32_t row;
    int32_t begin;
    int32_t end;
    int32_t component; /* index of the component */
};

struct ocr_component {
    size_t first_run; /* its runs lie together, ordered by row and then by begin */
    size_t run_count;
    int32_t left, top, right, bottom; /* pixels [left, right) x [top, bottom) */
    double score;                     /* mean probability of its pixels */
};

struct ocr_components {
    struct ocr_run *runs;
    size_t run_count;
    struct ocr_component *items; /* in the order of their first pixel, row by row */
    size_t count;
};

/*
 * Finds the components of the pixels above `threshold` (NaN is not) in map [height, width];
 * probabilities count as at most 1. Pixels of upright strokes shorter than stroke_min count as not
 * set: such thin bridges tie lines of neighbouring columns together. On success the caller owns
 * *ret_components and passes it to ocr_components_deinit. FM_EINVAL: a side is 0 or above the
 * maximum. FM_ELIMIT: more than OCR_RUNS_MAX runs. FM_ENOMEM.
 */
int ocr_components_find(const float *map, int32_t height, int32_t width, float threshold,
                        int32_t stroke_min, struct ocr_components *ret_components);
void ocr_components_deinit(struct ocr_components *components); /* accepts a zeroed one */

#endif
