/*
 * The rows of a query, taken down once, so that they can be read from any place and again.
 *
 * Owns: asking databases, how the rows of SQLite are kept in a file. Does not own: where the file
 * lies, who reads it: of SQLite the format fm_source_query, of DuckDB the format parquet. Thread
 * rule: no shared state.
 *
 * The database is opened for reading only. The query is one statement that gives rows, and changes
 * nothing; what the engine says of it comes with its own words.
 */
#ifndef FM_HOST_SOURCE_QUERY_SPOOL_H
#define FM_HOST_SOURCE_QUERY_SPOOL_H

#include <stdint.h>

#include "fermata/status.h"

struct fm_query {
    const char *database; /* the file */
    const char *sql;
    uint64_t rows_max; /* at most so many are wanted */
};

/*
 * Asks SQLite, and makes the file `path`, which must not exist: a table "row" of SQLite's, whose
 * key is the row's number from 1 and whose other columns have numbers for names, and a table "name"
 * with the names of these columns. Its bytes are on the disk then. FM_ENOTFOUND: there is no
 * database; FM_ECORRUPT: it is none; FM_EINVAL: it is no such statement, or two of its columns have
 * one name; FM_EUNAVAILABLE: it is locked; FM_ENOSPC, FM_EIO, FM_ENOMEM. After an error `path` may
 * be there.
 */
int FM_NODISCARD fm_query_sqlite_spool(const struct fm_query *query, const char *path,
                                       struct fm_error *reterr);

/* The same by DuckDB, whose library is loaded: a file of Parquet. FM_EUNSUPPORTED: this program was
 * built without it. */
int FM_NODISCARD fm_query_duckdb_spool(const struct fm_query *query, const char *path,
                                       struct fm_error *reterr);

#endif
