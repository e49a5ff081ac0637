/*
 * A lock held by this process on a file, given back by the kernel when the process ends, however it
 * ends.
 *
 * Thread rule: a lock belongs to one thread at a time.
 */
#ifndef FM_HOST_OS_FILE_LOCK_H
#define FM_HOST_OS_FILE_LOCK_H

#include <stdbool.h>

#include "fermata/status.h"

/* Zero-initialise. */
struct fm_file_lock {
    int descriptor;
    bool held;
};

/*
 * Creates the file if need be, locks it without waiting and writes this process's id into it.
 * FM_EUNAVAILABLE: another process has it; *ret_holder (may be NULL) is its id then, 0 when
 * unknown.
 */
int FM_NODISCARD fm_file_lock_acquire(struct fm_file_lock *lock, const char *path, long *ret_holder,
                                      struct fm_error *reterr);
/* Whether another process has the lock; *ret_holder is its id then, 0 when unknown. Changes
 * nothing, and delays by a moment whoever wants the lock just then. A lock file that is not there,
 * or that this user may not read, is not held: *ret_held is false. */
void fm_file_lock_look(const char *path, bool *ret_held, long *ret_holder);
void fm_file_lock_release(struct fm_file_lock *lock); /* fine when not held; the file stays */

#endif
