/*
 * Making and freeing the catalog's views. See catalog.h, which has what readers need of them.
 *
 * Owns: the layout of a view (rows, texts and hash table in one block) and its references to
 * entries. Does not own: when views are made and who has them. Thread rule: one thread makes and
 * frees them.
 */
#ifndef FM_ENGINES_SERVE_CATALOG_VIEW_H
#define FM_ENGINES_SERVE_CATALOG_VIEW_H

#include "engines/serve/catalog.h"

/* Copies `rows` (sorted by name, then version) and their texts, and holds their entries. NULL: out
 * of memory. Counts of rows are filled in; the rest of the view is the caller's. */
struct fm_catalog_view *fm_catalog_view_create(const struct fm_catalog_row *rows, size_t count);
/* Lets go of the entries. Accepts NULL. */
void fm_catalog_view_free(struct fm_catalog_view *view);

#endif
