/*
 * The order in which a person reads the boxes of a page.
 *
 * Owns: putting boxes together into lines, finding two columns, the order of it all. Does not own:
 * text. Thread rule: pure functions and caller's memory.
 */
#ifndef FM_EXAMPLES_OCR_READING_ORDER_H
#define FM_EXAMPLES_OCR_READING_ORDER_H

#include <stddef.h>
#include <stdint.h>

#include "examples/ocr/rectangle.h"

/* Boxes of one page. The search for columns is quadratic in them. */
#define OCR_BOXES_MAX 4000

struct ocr_place {
    uint32_t box;  /* index into bounds */
    uint32_t line; /* boxes that share a line number stand side by side; numbers never fall along
                      the order */
};

/*
 * Fills ret_places[count] with the reading order of the boxes. FM_ELIMIT: more than OCR_BOXES_MAX.
 * FM_ENOMEM.
 *
 * HOW IT WORKS. Boxes that overlap by more than half in height and do not lie above each other make
 * a line; lines go from top to bottom. Before that, a page (or what is left of it) is cut into two
 * columns where a gap runs down near its middle past at least six lines on either side. What has
 * such a gap may also be a table, which must be read across: it is taken for columns only if its
 * lines fill them and are of few pieces, or if the lines on one side do not stand at the heights of
 * those on the other. What lies above and below the columns is treated likewise.
 *
 * LIMITATIONS. Upright pages only. Two columns, not three. A table whose two halves are full of
 * text is read as columns.
 */
int ocr_reading_order(const struct ocr_bounds *bounds, size_t count, struct ocr_place *ret_places);

#endif
