/*
 * What all pictures of this folder share: the SVG around them, its style, colours, the frame with
 * its axes.
 *
 * Owns: looks. A picture follows the reader's light or dark scheme, needs nothing from outside, and
 * its colours can be told apart by the colour-blind (Okabe and Ito's, and lighter ones for the dark
 * scheme). Thread rule: pure.
 */
#ifndef FM_CORE_PLOT_PICTURE_H
#define FM_CORE_PLOT_PICTURE_H

#include "core/plot/axis.h"
#include "core/util/text.h"

enum { FM_PICTURE_COLORS = 8 };

/* Where a picture is written to. */
enum fm_picture_place {
    FM_PICTURE_FILE, /* a document of its own, with a style, and paper under it */
    FM_PICTURE_PAGE, /* part of an HTML page, which has fm_picture_style's rules */
};

/* Where the axes lie in the picture, in its units. */
struct fm_picture_frame {
    double left;
    double top;
    double width;
    double height;
};

/* The rules for class names that all pictures use, to stand in a <style> element. */
void fm_picture_style(struct fm_text *text);
/* Texts are borrowed and escaped; title may be NULL. */
void fm_picture_begin(struct fm_text *text, enum fm_picture_place place, const char *title,
                      double width, double height);
void fm_picture_end(struct fm_text *text);
/* Lines, names and labels; an axis that is NULL is left out. */
void fm_picture_axes(struct fm_text *text, const struct fm_picture_frame *frame,
                     const struct fm_axis *x, const struct fm_axis *y);
double fm_picture_x(const struct fm_picture_frame *frame, const struct fm_axis *axis, double value);
double fm_picture_y(const struct fm_picture_frame *frame, const struct fm_axis *axis, double value);
/* Names with their colours, in rows from (left, top) on, the one under the other. Returns the
 * height. */
double fm_picture_legend(struct fm_text *text, double left, double top, double width,
                         const char *const *names, uint32_t count);

#endif
