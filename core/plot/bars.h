/*
 * Bars that are made of parts: where the time of a request goes, for one setting beside another.
 *
 * Owns: layout. Thread rule: pure.
 */
#ifndef FM_CORE_PLOT_BARS_H
#define FM_CORE_PLOT_BARS_H

#include "core/plot/picture.h"

/* Texts and values are borrowed. */
struct fm_bars {
    const char *title;       /* may be NULL */
    const char *label;       /* of the values, with their unit */
    const char *const *bars; /* their names, from above */
    uint32_t bar_count;
    const char *const *parts; /* their names, from the left */
    uint32_t part_count;
    const double *values; /* by bar, then part; not finite, or below 0: there is none */
};

void fm_bars_svg(const struct fm_bars *bars, enum fm_picture_place place, struct fm_text *text);
/* `columns` of the terminal at the most. */
void fm_bars_terminal(const struct fm_bars *bars, uint32_t columns, struct fm_text *text);

#endif
