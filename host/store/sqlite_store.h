/*
 * The job store in one SQLite file beside the output: write-ahead log, synchronous=FULL, one
 * transaction for all decisions that are put together.
 *
 * Owns: the only contact with sqlite3 and the schema. Thread rule: job_store.h.
 */
#ifndef FM_HOST_STORE_SQLITE_STORE_H
#define FM_HOST_STORE_SQLITE_STORE_H

#include <stdbool.h>

#include "host/store/job_store.h"

/* Version of the schema, in the file's user_version. Files of older versions are brought to it when
 * they are opened; readers see version 2 as it is, and refuse version 1. */
#define FM_SQLITE_STORE_VERSION 3

/*
 * Opens the file, or creates it. FM_ECORRUPT: damaged, or some other program's; FM_EUNSUPPORTED:
 * made by a newer Fermata; FM_EPERM, FM_ENOSPC, FM_EIO.
 */
int FM_NODISCARD fm_sqlite_store_open(const char *path, struct fm_job_store **ret_store,
                                      struct fm_error *reterr);

/*
 * Opens what is there for reading, as it is at this moment: later changes are not seen, nobody who
 * writes is held up, and nothing in the directory changes (but the "-shm" beside a "-wal" that a
 * killed process left may be made anew). Whatever would change the store is FM_EPERM. FM_ENOTFOUND:
 * there is no such file; FM_EUNSUPPORTED also for what an older Fermata made.
 */
int FM_NODISCARD fm_sqlite_store_open_reader(const char *path, struct fm_job_store **ret_store,
                                             struct fm_error *reterr);

#endif
