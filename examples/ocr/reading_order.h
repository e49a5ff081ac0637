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
 * columns where, in its middle, a gap runs down past at least six lines on either side, three
 * quarters of the way no box crosses it, and one line in four on either side is nearly as wide as
 * its column: running text is, the cells of a table seldom are, and a table must be read across.
 * What lies above and below the columns is treated likewise.
 *
 * LIMITATIONS. Upright pages only. Two columns, not three. A table of two wide columns of prose is
 * read as columns.
 */
int ocr_reading_order(const struct ocr_bounds *bounds, size_t count, struct ocr_place *ret_places);

#endif
