/*
 * Rectangles: see rectangle.h.
 */
#include "examples/ocr/rectangle.h"

#include <math.h>
#include <stdlib.h>

#define UPRIGHT_RATIO 1.5

static int point_compare(const void *a, const void *b)
{
    const struct ocr_point *left = a;
    const struct ocr_point *right = b;
    if (left->y != right->y) {
        return left->y < right->y ? -1 : 1;
    }
    if (left->x != right->x) {
        return left->x < right->x ? -1 : 1;
    }
    return 0;
}

/* Twice the area of the triangle o, a, b: positive when b lies to the left of o -> a in a system
 * whose y goes up. */
static double cross(const struct ocr_point *o, const struct ocr_point *a, const struct ocr_point *b)
{
    return (a->x - o->x) * (b->y - o->y) - (a->y - o->y) * (b->x - o->x);
}

/*
 * HOW IT WORKS. Andrew's monotone chain along y, in place: the chain on one side is kept at the
 * front of the array while the points still to be seen lie behind it; the points it leaves out are
 * moved to the back, which is then walked the other way for the other side.
 */
static size_t chain(struct ocr_point *points, size_t count, double sign)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct ocr_point point = points[i];
        while (kept >= 2 && sign * cross(&points[kept - 2], &points[kept - 1], &point) <= 0) {
            kept--;
        }
        /* A swap, so that no point is lost: the other chain needs those that this one drops. */
        points[i] = points[kept];
        points[kept] = point;
        kept++;
    }
    return kept;
}

size_t ocr_hull(struct ocr_point *points, size_t count)
{
    if (count < 2) {
        return count;
    }
    qsort(points, count, sizeof(*points), point_compare);
    size_t distinct = 1;
    for (size_t i = 1; i < count; i++) {
        if (point_compare(&points[i], &points[distinct - 1]) != 0) {
            points[distinct++] = points[i];
        }
    }
    if (distinct < 3) {
        return distinct;
    }
    size_t first_side = chain(points, distinct, 1);
    struct ocr_point first = points[0];
    /* Behind the chain now lie all others, out of order; its last point begins the way back and the
     * first one ends it. */
    struct ocr_point *rest = points + first_side - 1;
    size_t rest_count = distinct - first_side + 1;
    qsort(rest + 1, rest_count - 1, sizeof(*rest), point_compare);
    for (size_t i = 1, j = rest_count - 1; i < j; i++, j--) {
        struct ocr_point swap = rest[i];
        rest[i] = rest[j];
        rest[j] = swap;
    }
    size_t back = chain(rest, rest_count, 1);
    /* The way back ends at `first`: drop what bends the wrong way there. */
    while (back >= 2 && cross(&rest[back - 2], &rest[back - 1], &first) <= 0) {
        back--;
    }
    return first_side - 1 + back;
}

struct ocr_rectangle ocr_rectangle_around(const struct ocr_point *hull, size_t count)
{
    struct ocr_rectangle best = {hull[0], {1, 0}, 0, 0};
    double best_area = INFINITY;
    for (size_t i = 0; i < count && count > 1; i++) {
        struct ocr_point a = hull[i];
        struct ocr_point b = hull[(i + 1) % count];
        double length = hypot(b.x - a.x, b.y - a.y);
        struct ocr_point u = {(b.x - a.x) / length, (b.y - a.y) / length};
        double u_min = INFINITY, u_max = -INFINITY, v_min = INFINITY, v_max = -INFINITY;
        for (size_t j = 0; j < count; j++) {
            double along = hull[j].x * u.x + hull[j].y * u.y;
            double across = hull[j].y * u.x - hull[j].x * u.y;
            u_min = fmin(u_min, along);
            u_max = fmax(u_max, along);
            v_min = fmin(v_min, across);
            v_max = fmax(v_max, across);
        }
        double area = (u_max - u_min) * (v_max - v_min);
        if (area < best_area) {
            double along = (u_min + u_max) / 2;
            double across = (v_min + v_max) / 2;
            best_area = area;
            best.center =
                (struct ocr_point){along * u.x - across * u.y, along * u.y + across * u.x};
            best.x_axis = u;
            best.width = u_max - u_min;
            best.height = v_max - v_min;
        }
    }
    /* Quarter turns until the first axis points to the right. */
    for (int turn = 0; turn < 3 && !(best.x_axis.x >= fabs(best.x_axis.y)); turn++) {
        double width = best.width;
        best.x_axis = (struct ocr_point){-best.x_axis.y, best.x_axis.x};
        best.width = best.height;
        best.height = width;
    }
    return best;
}

struct ocr_rectangle ocr_rectangle_grow(const struct ocr_rectangle *rectangle, double ratio)
{
    struct ocr_rectangle grown = *rectangle;
    double sides = rectangle->width + rectangle->height;
    if (sides > 0) {
        double distance = rectangle->width * rectangle->height * ratio / (2 * sides);
        grown.width += 2 * distance;
        grown.height += 2 * distance;
    }
    return grown;
}

struct ocr_quad ocr_rectangle_quad(const struct ocr_rectangle *rectangle, double scale_x,
                                   double scale_y)
{
    struct ocr_point half_x = {rectangle->x_axis.x * rectangle->width / 2,
                               rectangle->x_axis.y * rectangle->width / 2};
    struct ocr_point half_y = {-rectangle->x_axis.y * rectangle->height / 2,
                               rectangle->x_axis.x * rectangle->height / 2};
    static const double signs[4][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};
    int shift = rectangle->height > UPRIGHT_RATIO * rectangle->width ? 3 : 0;
    struct ocr_quad quad;
    for (int i = 0; i < 4; i++) {
        const double *sign = signs[(i + shift) % 4];
        quad.corners[i].x =
            (rectangle->center.x + sign[0] * half_x.x + sign[1] * half_y.x) * scale_x;
        quad.corners[i].y =
            (rectangle->center.y + sign[0] * half_x.y + sign[1] * half_y.y) * scale_y;
    }
    return quad;
}

struct ocr_bounds ocr_quad_bounds(const struct ocr_quad *quad)
{
    struct ocr_bounds bounds = {INFINITY, INFINITY, -INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        bounds.left = fmin(bounds.left, quad->corners[i].x);
        bounds.top = fmin(bounds.top, quad->corners[i].y);
        bounds.right = fmax(bounds.right, quad->corners[i].x);
        bounds.bottom = fmax(bounds.bottom, quad->corners[i].y);
    }
    return bounds;
}
