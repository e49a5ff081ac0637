/*
 * Heat maps: one value for each pair of two things, as colours with the value in them.
 *
 * Owns: layout and colours. Thread rule: pure.
 */
#ifndef FM_CORE_PLOT_HEAT_MAP_H
#define FM_CORE_PLOT_HEAT_MAP_H

#include "core/plot/picture.h"

/* Texts and values are borrowed. */
struct fm_heat_map {
    const char *title; /* may be NULL */
    const char *x_label;
    const char *y_label;
    const char *value_label;
    const char *const *columns; /* their names, from the left */
    uint32_t column_count;
    const char *const *rows; /* from below */
    uint32_t row_count;
    const double *values; /* by row, then column; not finite: there is none, the cell is empty */
    bool logarithmic;     /* colours by the logarithm; values that are not above 0 are the lowest */
};

void fm_heat_map_svg(const struct fm_heat_map *map, enum fm_picture_place place,
                     struct fm_text *text);
/* A cell is as wide as the longest value or name; with `color`, on grounds of 256 colours. */
void fm_heat_map_terminal(const struct fm_heat_map *map, bool color, struct fm_text *text);

#endif
