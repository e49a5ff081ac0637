/*
 * SQLite's results as statuses: what all stores on SQLite share.
 *
 * Thread rule: the connection's.
 */
#ifndef FM_HOST_STORE_SQLITE_STATUS_H
#define FM_HOST_STORE_SQLITE_STATUS_H

#include <sqlite3.h>
#include <stdint.h>

/* What a result that is no success means. `database` is where it came from. */
int fm_sqlite_status(sqlite3 *database, int result);
/* The first column of the first row of what `text` gives. Returns SQLite's result; SQLITE_OK: there
 * was one. */
int fm_sqlite_number(sqlite3 *database, const char *text, int64_t *ret_value);
/* Statements that are one transaction: where one fails nothing of it stays. Likewise. */
int fm_sqlite_script(sqlite3 *database, const char *text);

#endif
