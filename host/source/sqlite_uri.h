/*
 * How SQLite is told to open a file that nobody changes, and that therefore needs no locks.
 *
 * Owns: nothing. Does not own: databases. Thread rule: pure.
 */
#ifndef FM_HOST_SOURCE_SQLITE_URI_H
#define FM_HOST_SOURCE_SQLITE_URI_H

#include "core/util/text.h"

/* "file:...?immutable=1", in which no character of the path means anything. uri->failed: there was
 * no memory. */
void fm_sqlite_immutable_uri(const char *path, struct fm_text *uri);

#endif
