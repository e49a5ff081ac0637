/*
 * Reading order: see reading_order.h.
 */
#include "examples/ocr/reading_order.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/status.h"

/* A box joins one of so many last lines. */
#define LINES_BACK 6
/* Columns inside columns' remainders: each cut takes boxes away, so this is never reached by a real
 * page. */
#define CUT_DEPTH_MAX 32
/* Places in the middle of a page where a gap is looked for. */
#define GAP_PLACES_MAX 64

#define COLUMN_LINES_MIN 6
#define CUT_BOXES_MIN    (2 * COLUMN_LINES_MIN)
/* In heights of a box: */
#define PAGE_WIDTH_MIN 24.0
#define GAP_MIN        0.4
/* Less than this across the gap is a line that the detector drew a letter too far. */
#define GAP_CROSSING 1.0
#define GAP_STEP     0.25
/* In widths of the page's text: */
#define GAP_MIDDLE 0.06
/* In widths of a column: what is as full as this is a column, what is less full than that is none.
 */
#define COLUMN_FULL     0.9
#define COLUMN_FILL_MIN 0.4
/* A line of a column is one box, or two with leaders between; rows of a table have more. */
#define COLUMN_CELLS_MAX 2.0
/* Of a page's boxes, so many in a hundred at either edge do not set the width of its text: page
 * numbers and footers stand out of it. */
#define EDGE_OUTLIERS 5
/* Lines side by side: within this of each other, in heights of a box, they are aligned. */
#define ALIGNED_WITHIN 0.25
#define ALIGNED_MAX    0.7

struct box {
    struct ocr_bounds bounds;
    double middle; /* vertical */
    uint32_t index;
};

struct line {
    double top_sum;
    double bottom_sum;
    double middle_sum;
    double left;
    double right;
    size_t box_count;
    uint32_t sequence; /* breaks ties */
    uint32_t rank;     /* after sorting */
};

/* A cut into columns: the boxes between `top` and `bottom` (vertical middles, exclusive) left and
 * right of x. */
struct cut {
    double x;
    double top;
    double bottom;
    size_t line_count;
    double gap;
};

/* Memory for one page, so that nothing below allocates. Every array has room for all boxes of the
 * page (crossings: and two). */
struct work {
    struct box *boxes; /* the page's, regrouped in place */
    struct box *sorted;
    struct box *side;
    uint32_t *line_of;
    struct line *lines;
    struct line *lines_sorted;
    double *values;
    double *crossings;
    double *left_middles;
    double *right_middles;
    struct ocr_place *places;
    size_t place_count;
    uint32_t line_count;
};

static int number_compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static int box_by_middle(const void *a, const void *b)
{
    const struct box *left = a;
    const struct box *right = b;
    int order = number_compare(&left->middle, &right->middle);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

static int line_compare(const void *a, const void *b)
{
    const struct line *left = a;
    const struct line *right = b;
    double left_middle = left->middle_sum / (double)left->box_count;
    double right_middle = right->middle_sum / (double)right->box_count;
    int order = number_compare(&left_middle, &right_middle);
    return order != 0 ? order
                      : (left->sequence > right->sequence) - (left->sequence < right->sequence);
}

static bool line_takes(const struct line *line, uint32_t line_index, const struct box *box,
                       const struct box *boxes, const uint32_t *line_of, size_t box_count)
{
    double top = line->top_sum / (double)line->box_count;
    double bottom = line->bottom_sum / (double)line->box_count;
    const struct ocr_bounds *b = &box->bounds;
    double overlap = fmin(bottom, b->bottom) - fmax(top, b->top);
    if (!(overlap > 0.5 * fmin(bottom - top, b->bottom - b->top))) {
        return false;
    }
    if (b->left >= line->right || b->right <= line->left) {
        return true;
    }
    for (size_t i = 0; i < box_count; i++) {
        const struct ocr_bounds *o = &boxes[i].bounds;
        if (line_of[i] == line_index && fmin(o->right, b->right) - fmax(o->left, b->left) >
                                            0.3 * fmin(o->right - o->left, b->right - b->left)) {
            return false;
        }
    }
    return true;
}

static void line_add(struct line *line, const struct box *box)
{
    const struct ocr_bounds *b = &box->bounds;
    line->left = line->box_count == 0 ? b->left : fmin(line->left, b->left);
    line->right = line->box_count == 0 ? b->right : fmax(line->right, b->right);
    line->top_sum += b->top;
    line->bottom_sum += b->bottom;
    line->middle_sum += box->middle;
    line->box_count++;
}

/* Puts boxes (sorted by their middle) into work->lines; work->line_of[i] is the line of boxes[i].
 * Returns the number of lines. */
static size_t lines_make(struct work *work, const struct box *boxes, size_t count)
{
    size_t line_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t found = line_count;
        size_t oldest = line_count > LINES_BACK ? line_count - LINES_BACK : 0;
        for (size_t j = line_count; j > oldest; j--) {
            if (line_takes(&work->lines[j - 1], (uint32_t)(j - 1), &boxes[i], boxes, work->line_of,
                           i)) {
                found = j - 1;
                break;
            }
        }
        if (found == line_count) {
            work->lines[line_count] = (struct line){.sequence = (uint32_t)line_count};
            line_count++;
        }
        line_add(&work->lines[found], &boxes[i]);
        work->line_of[i] = (uint32_t)found;
    }
    return line_count;
}

struct ranked {
    uint32_t rank;
    uint32_t index;
    double left;
};

static int ranked_compare(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    if (left->rank != right->rank) {
        return left->rank < right->rank ? -1 : 1;
    }
    int order = number_compare(&left->left, &right->left);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

/* Appends the lines of these boxes to the order. */
static int lines_emit(struct work *work, const struct box *boxes, size_t count)
{
    if (count == 0) {
        return FM_OK;
    }
    struct ranked *ranked = malloc(count * sizeof(*ranked));
    if (ranked == NULL) {
        return FM_ENOMEM;
    }
    memcpy(work->sorted, boxes, count * sizeof(*boxes));
    qsort(work->sorted, count, sizeof(*boxes), box_by_middle);
    size_t line_count = lines_make(work, work->sorted, count);
    memcpy(work->lines_sorted, work->lines, line_count * sizeof(*work->lines));
    qsort(work->lines_sorted, line_count, sizeof(*work->lines), line_compare);
    for (size_t i = 0; i < line_count; i++) {
        work->lines[work->lines_sorted[i].sequence].rank = (uint32_t)i;
    }
    for (size_t i = 0; i < count; i++) {
        ranked[i] = (struct ranked){work->lines[work->line_of[i]].rank, work->sorted[i].index,
                                    work->sorted[i].bounds.left};
    }
    qsort(ranked, count, sizeof(*ranked), ranked_compare);
    for (size_t i = 0; i < count; i++) {
        work->places[work->place_count++] =
            (struct ocr_place){ranked[i].index, work->line_count + ranked[i].rank};
    }
    work->line_count += (uint32_t)line_count;
    free(ranked);
    return FM_OK;
}

static double bounds_center(const struct ocr_bounds *bounds)
{
    return (bounds->left + bounds->right) / 2;
}

/* The value below which numerator/denominator of the values lie; sorts them. */
static double quantile(double *values, size_t count, size_t numerator, size_t denominator)
{
    qsort(values, count, sizeof(*values), number_compare);
    size_t index = count * numerator / denominator;
    return values[index < count ? index : count - 1];
}

/* One side of a possible cut. */
struct column {
    double *middles;   /* of its lines; memory of the page's work */
    size_t line_count; /* 0: too few to be a column */
    double edge;       /* where nine of ten boxes have ended (left side), or have not begun */
    double fill;       /* width that one line in four exceeds, in halves of the page's text */
    double cells;      /* boxes of a line; the median */
};

/* Measures the side of `cut` that side->middles is for; sorted[count] are the boxes between its
 * ends. */
static void column_measure(struct work *work, const struct box *sorted, size_t count,
                           const struct cut *cut, double page_width, bool is_left,
                           struct column *side)
{
    size_t side_count = 0;
    side->line_count = 0;
    for (size_t i = 0; i < count; i++) {
        if ((bounds_center(&sorted[i].bounds) <= cut->x) == is_left) {
            work->values[side_count] = is_left ? -sorted[i].bounds.right : sorted[i].bounds.left;
            work->side[side_count++] = sorted[i];
        }
    }
    if (side_count < COLUMN_LINES_MIN) {
        return;
    }
    double edge = quantile(work->values, side_count, 1, 10);
    side->edge = is_left ? -edge : edge;
    size_t line_count = lines_make(work, work->side, side_count);
    for (size_t i = 0; i < line_count; i++) {
        work->values[i] = (double)work->lines[i].box_count;
    }
    side->cells = quantile(work->values, line_count, 1, 2);
    for (size_t i = 0; i < line_count; i++) {
        work->values[i] = work->lines[i].right - work->lines[i].left;
        side->middles[i] = work->lines[i].middle_sum / (double)work->lines[i].box_count;
    }
    side->fill = quantile(work->values, line_count, 3, 4) / (page_width / 2);
    side->line_count = line_count >= COLUMN_LINES_MIN ? line_count : 0;
}

/*
 * Of the lines of the column with fewer, as far as the other column reaches: the part that has a
 * line at its own height there. Chance makes it two in five; the rows of a table make it nearly
 * all, and so does a page set on a grid.
 */
static double columns_aligned(struct column *left, struct column *right, double box_height)
{
    struct column *few = left->line_count < right->line_count ? left : right;
    struct column *many = few == left ? right : left;
    size_t seen = 0;
    size_t aligned = 0;
    qsort(few->middles, few->line_count, sizeof(double), number_compare);
    qsort(many->middles, many->line_count, sizeof(double), number_compare);
    size_t j = 0;
    for (size_t i = 0; i < few->line_count; i++) {
        double middle = few->middles[i];
        if (middle < many->middles[0] - box_height ||
            middle > many->middles[many->line_count - 1] + box_height) {
            continue;
        }
        while (j + 1 < many->line_count &&
               fabs(many->middles[j + 1] - middle) <= fabs(many->middles[j] - middle)) {
            j++;
        }
        seen++;
        aligned += fabs(many->middles[j] - middle) < ALIGNED_WITHIN * box_height;
    }
    return seen > 0 ? (double)aligned / (double)seen : 1;
}

/* Whether the two sides are columns to be read one after the other, and not the cells of a table.
 */
static bool columns_are(struct column *left, struct column *right, double box_height)
{
    if (left->line_count == 0 || right->line_count == 0 ||
        right->edge - left->edge < GAP_MIN * box_height) {
        return false;
    }
    double fill = fmin(left->fill, right->fill);
    bool is_full = fill >= COLUMN_FULL && fmax(left->cells, right->cells) <= COLUMN_CELLS_MAX;
    return is_full ||
           (fill >= COLUMN_FILL_MIN && columns_aligned(left, right, box_height) <= ALIGNED_MAX);
}

/* Tries every stretch of the gap at x between boxes that cross it, and keeps the best cut so far in
 * *best. */
static void cuts_try(struct work *work, const struct box *sorted, size_t count, double x,
                     double box_height, double page_width, struct cut *best)
{
    size_t crossing_count = 0;
    work->crossings[crossing_count++] = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (sorted[i].bounds.left < x - GAP_CROSSING * box_height &&
            sorted[i].bounds.right > x + GAP_CROSSING * box_height) {
            work->crossings[crossing_count++] = sorted[i].middle;
        }
    }
    work->crossings[crossing_count++] = INFINITY;
    size_t first = 0;
    for (size_t i = 0; i + 1 < crossing_count; i++) {
        struct cut cut = {.x = x, .top = work->crossings[i], .bottom = work->crossings[i + 1]};
        struct column left = {.middles = work->left_middles};
        struct column right = {.middles = work->right_middles};
        while (first < count && sorted[first].middle <= cut.top) {
            first++;
        }
        size_t end = first;
        while (end < count && sorted[end].middle < cut.bottom) {
            end++;
        }
        if (end - first < CUT_BOXES_MIN) {
            continue;
        }
        column_measure(work, sorted + first, end - first, &cut, page_width, true, &left);
        column_measure(work, sorted + first, end - first, &cut, page_width, false, &right);
        cut.gap = right.edge - left.edge;
        cut.line_count = left.line_count + right.line_count;
        bool is_better = cut.line_count > best->line_count ||
                         (cut.line_count == best->line_count && cut.gap > best->gap);
        if (is_better && columns_are(&left, &right, box_height)) {
            *best = cut;
        }
    }
}

/* Where the text of these boxes begins and ends, but for a few that stand out. */
static void edges_find(struct work *work, const struct box *boxes, size_t count, double *ret_left,
                       double *ret_right)
{
    for (size_t i = 0; i < count; i++) {
        work->values[i] = boxes[i].bounds.left;
    }
    *ret_left = quantile(work->values, count, EDGE_OUTLIERS, 100);
    for (size_t i = 0; i < count; i++) {
        work->values[i] = -boxes[i].bounds.right;
    }
    *ret_right = -quantile(work->values, count, EDGE_OUTLIERS, 100);
}

/* The best cut of these boxes; false when they are one column. */
static bool cut_find(struct work *work, const struct box *boxes, size_t count, struct cut *ret_cut)
{
    if (count < CUT_BOXES_MIN) {
        return false;
    }
    double left = 0;
    double right = 0;
    edges_find(work, boxes, count, &left, &right);
    for (size_t i = 0; i < count; i++) {
        work->values[i] = boxes[i].bounds.bottom - boxes[i].bounds.top;
    }
    double box_height = quantile(work->values, count, 1, 2);
    double page_width = right - left;
    if (!(box_height > 0) || page_width < PAGE_WIDTH_MIN * box_height) {
        return false;
    }
    memcpy(work->sorted, boxes, count * sizeof(*boxes));
    qsort(work->sorted, count, sizeof(*boxes), box_by_middle);
    struct cut best = {0};
    double begin = (left + right) / 2 - GAP_MIDDLE * page_width;
    double step = fmax(GAP_STEP * box_height, 2 * GAP_MIDDLE * page_width / GAP_PLACES_MAX);
    for (int i = 0; i <= GAP_PLACES_MAX && (double)i * step <= 2 * GAP_MIDDLE * page_width; i++) {
        cuts_try(work, work->sorted, count, begin + (double)i * step, box_height, page_width,
                 &best);
    }
    *ret_cut = best;
    return best.line_count > 0;
}

/* Where a box goes: 0 above the columns, 1 left, 2 right, 3 below. */
static int cut_part(const struct cut *cut, const struct box *box)
{
    if (box->middle <= cut->top) {
        return 0;
    }
    if (box->middle >= cut->bottom) {
        return 3;
    }
    return bounds_center(&box->bounds) <= cut->x ? 1 : 2;
}

static int order_boxes(struct work *work, struct box *boxes, size_t count, int depth)
{
    struct cut cut;
    if (depth == CUT_DEPTH_MAX || !cut_find(work, boxes, count, &cut)) {
        return lines_emit(work, boxes, count);
    }
    size_t begins[5] = {0};
    size_t filled = 0;
    for (int part = 0; part < 4; part++) {
        begins[part] = filled;
        for (size_t i = filled; i < count; i++) {
            if (cut_part(&cut, &boxes[i]) == part) {
                struct box swap = boxes[i];
                boxes[i] = boxes[filled];
                boxes[filled++] = swap;
            }
        }
    }
    begins[4] = filled;
    int status = FM_OK;
    for (int part = 0; part < 4 && status == FM_OK; part++) {
        struct box *first = boxes + begins[part];
        size_t part_count = begins[part + 1] - begins[part];
        status = part == 1 || part == 2 ? lines_emit(work, first, part_count)
                                        : order_boxes(work, first, part_count, depth + 1);
    }
    return status;
}

int ocr_reading_order(const struct ocr_bounds *bounds, size_t count, struct ocr_place *ret_places)
{
    if (count > OCR_BOXES_MAX) {
        return FM_ELIMIT;
    }
    if (count == 0) {
        return FM_OK;
    }
    struct work work = {
        .boxes = malloc(count * sizeof(*work.boxes)),
        .sorted = malloc(count * sizeof(*work.sorted)),
        .side = malloc(count * sizeof(*work.side)),
        .line_of = malloc(count * sizeof(*work.line_of)),
        .lines = malloc(count * sizeof(*work.lines)),
        .lines_sorted = malloc(count * sizeof(*work.lines_sorted)),
        .values = malloc(count * sizeof(*work.values)),
        .crossings = malloc((count + 2) * sizeof(*work.crossings)),
        .left_middles = malloc(count * sizeof(*work.left_middles)),
        .right_middles = malloc(count * sizeof(*work.right_middles)),
        .places = ret_places,
    };
    int status = FM_ENOMEM;
    if (work.boxes != NULL && work.sorted != NULL && work.side != NULL && work.line_of != NULL &&
        work.lines != NULL && work.lines_sorted != NULL && work.values != NULL &&
        work.crossings != NULL && work.left_middles != NULL && work.right_middles != NULL) {
        for (size_t i = 0; i < count; i++) {
            work.boxes[i] =
                (struct box){bounds[i], (bounds[i].top + bounds[i].bottom) / 2, (uint32_t)i};
        }
        status = order_boxes(&work, work.boxes, count, 0);
    }
    free(work.boxes);
    free(work.sorted);
    free(work.side);
    free(work.line_of);
    free(work.lines);
    free(work.lines_sorted);
    free(work.values);
    free(work.crossings);
    free(work.left_middles);
    free(work.right_middles);
    return status;
}
