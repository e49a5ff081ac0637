/*
 * The job store in one SQLite file beside the output: write-ahead log, synchronous=FULL, one
 * transaction per decision.
 *
 * Owns: the only contact with sqlite3 and the schema. Thread rule: job_store.h.
 */
#ifndef FM_HOST_STORE_SQLITE_STORE_H
#define FM_HOST_STORE_SQLITE_STORE_H

#include <stdbool.h>

#include "host/store/job_store.h"

/* Version of the schema, in the file's user_version. */
#define FM_SQLITE_STORE_VERSION 1

/*
 * Opens the file, or creates it. FM_ECORRUPT: damaged, or some other program's; FM_EUNSUPPORTED:
 * made by a newer Fermata; FM_EPERM, FM_ENOSPC, FM_EIO.
 */
int FM_NODISCARD fm_sqlite_store_open(const char *path, struct fm_job_store **ret_store,
                                      struct fm_error *reterr);

#endif
