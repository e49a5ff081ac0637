/*
 * Text inside SVG and HTML.
 *
 * Owns: what must be written in another way there. Thread rule: pure.
 */
#ifndef FM_CORE_PLOT_MARKUP_H
#define FM_CORE_PLOT_MARKUP_H

#include "core/util/text.h"

/* As text of an element or of a quoted attribute: nothing in it is markup, and what is no UTF-8, or
 * is a control character that XML does not have, becomes U+FFFD. */
void fm_markup_escape(struct fm_text *text, const char *string, size_t length);
void fm_markup_escape_string(struct fm_text *text, const char *string);

#endif
