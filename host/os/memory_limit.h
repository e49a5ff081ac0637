/*
 * A limit on the memory of this process.
 *
 * Owns: nothing; the limit is the process's. Does not own: what follows when it is reached. Thread
 * rule: every function is thread safe.
 *
 * WHAT COUNTS. The limit is on data (RLIMIT_DATA): memory that this process has mapped to write to
 * and shares with nobody, whether it has touched it or not. That is the heap, what backends and
 * plug-ins allocate, and the stacks of threads, 8 MiB each; not programs, mapped files and what
 * lies on devices. Beyond it allocations fail as they do when the machine has no memory left.
 */
#ifndef FM_HOST_OS_MEMORY_LIMIT_H
#define FM_HOST_OS_MEMORY_LIMIT_H

#include <stdint.h>

#include "fermata/status.h"

/* For this process and those that it starts. Cannot be taken back by who is not root. FM_EINVAL:
 * there is more already; FM_EPERM: the system refuses. */
int FM_NODISCARD fm_memory_limit_set(uint64_t bytes, struct fm_error *reterr);
/* What counts against it, or what is resident, whichever is more. 0: not known. */
uint64_t fm_memory_limit_used(void);

#endif
