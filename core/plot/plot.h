/*
 * Plots of y over x: lines, steps and points, as SVG or in the characters of a terminal.
 *
 * Owns: layout. Does not own: the numbers, which are borrowed; what a plot is of. Thread rule:
 * pure.
 */
#ifndef FM_CORE_PLOT_PLOT_H
#define FM_CORE_PLOT_PLOT_H

#include <stddef.h>

#include "core/plot/picture.h"

enum fm_plot_mark {
    FM_PLOT_LINE,        /* from point to point */
    FM_PLOT_LINE_POINTS, /* likewise, with the points */
    FM_PLOT_STEPS,       /* y holds until the next x: of counts, and of distributions */
    FM_PLOT_POINTS,      /* points alone */
};

struct fm_plot_series {
    const char *name;
    enum fm_plot_mark mark;
    const double *x;
    const double *y;
    size_t count;
    const char *const *labels; /* of points, beside them; NULL: none; entries may be NULL */
    /* Between low[i] and high[i] a band is drawn; both or neither. */
    const double *low;
    const double *high;
};

/* A line across the plot: a limit, a quantile, a roof. */
struct fm_plot_rule {
    bool vertical; /* at an x; else at a y */
    double at;
    const char *label; /* may be NULL */
};

/* Points and rules that an axis has no place for (not finite; not above 0 on a LOG axis) are left
 * out, and a line has a gap there. */
struct fm_plot {
    const char *title; /* may be NULL */
    struct fm_axis x;  /* label and scale; from and to where `fixed` says so */
    struct fm_axis y;
    bool x_fixed; /* else the axis covers all points and rules */
    bool y_fixed;
    const struct fm_plot_series *series;
    uint32_t series_count;
    const struct fm_plot_rule *rules;
    uint32_t rule_count;
};

/* 720 units wide. */
void fm_plot_svg(const struct fm_plot *plot, enum fm_picture_place place, struct fm_text *text);
/* `columns` and `rows` of the terminal at the most (but 26 and 8 at least), the names of the series
 * below it not counted; with colour by ANSI sequences. Labels of points and rules are left out. */
void fm_plot_terminal(const struct fm_plot *plot, uint32_t columns, uint32_t rows, bool color,
                      struct fm_text *text);
/* Both axes as they are drawn. */
void fm_plot_axes(const struct fm_plot *plot, struct fm_axis *ret_x, struct fm_axis *ret_y);

#endif
