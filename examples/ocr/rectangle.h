/*
 * Rectangles at any angle around the components of a text map.
 *
 * Owns: convex hulls, minimum-area rectangles, growing them ("unclip"), their corners in reading
 * direction. Does not own: order on the page. Thread rule: pure functions and caller's memory.
 *
 * Coordinates are those of edges: pixel i covers [i, i + 1). y grows downwards.
 */
#ifndef FM_EXAMPLES_OCR_RECTANGLE_H
#define FM_EXAMPLES_OCR_RECTANGLE_H

#include <stddef.h>

struct ocr_point {
    double x;
    double y;
};

/* Corners: where a reader's line begins above (top left), then clockwise. Top edge: 0 to 1. */
struct ocr_quad {
    struct ocr_point corners[4];
};

/* `x_axis` is a unit vector along `width`, within 45 degrees of the page's x axis; `height` goes at
 * a right angle to it, downwards. */
struct ocr_rectangle {
    struct ocr_point center;
    struct ocr_point x_axis;
    double width;
    double height;
};

/* The box of a quad that is parallel to the page. */
struct ocr_bounds {
    double left, top, right, bottom;
};

/*
 * Makes `points` their convex hull, in place: corners only, in order around it. Returns how many
 * remain: 0 for none, at most 2 when all lie on a line. Sorts; O(n log n).
 */
size_t ocr_hull(struct ocr_point *points, size_t count);

/*
 * The rectangle of the least area around a convex hull of at least one point; one of its sides lies
 * on an edge of the hull. Ties go to the first edge. O(n^2) for n corners, of which a hull on a
 * pixel grid has few hundreds at most.
 */
struct ocr_rectangle ocr_rectangle_around(const struct ocr_point *hull, size_t count);

/* Moves every side out by area * ratio / perimeter, as the detection network was trained to shrink
 * them. */
struct ocr_rectangle ocr_rectangle_grow(const struct ocr_rectangle *rectangle, double ratio);

/*
 * The corners, with coordinates multiplied by scale_x and scale_y. A rectangle more than 1.5 times
 * as high as wide holds a line that runs upwards (as the label of a vertical axis does): its corner
 * 0 is the bottom left one.
 */
struct ocr_quad ocr_rectangle_quad(const struct ocr_rectangle *rectangle, double scale_x,
                                   double scale_y);

struct ocr_bounds ocr_quad_bounds(const struct ocr_quad *quad);

#endif
