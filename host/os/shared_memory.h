/*
 * A piece of somebody else's shared memory object (POSIX, shm_open), mapped.
 *
 * Owns: opening, mapping, and the checks that keep an access from leaving the object. Does not own:
 * names that clients give to regions (engines/serve/shared_memory.h). Thread rule: open and close
 * once; the rest from anywhere in between.
 *
 * LIMITATIONS: another process has the object too. It may change bytes at any time, so what is
 * checked must be copied first. Should it shrink the object between our check and our access, the
 * access raises SIGBUS: the process' handler of it, put in place by the first open, then puts
 * memory of our own, all zeros, where the object's is gone, and the object is intact no more. What
 * was being read or written then is worthless, and nobody else notices. It guards the first
 * FM_SHARED_MEMORY_GUARDS_MAX objects; more are not opened.
 */
#ifndef FM_HOST_OS_SHARED_MEMORY_H
#define FM_HOST_OS_SHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_SHARED_MEMORY_KEY_MAX    254 /* bytes of an object's name */
#define FM_SHARED_MEMORY_GUARDS_MAX 4096

struct fm_shared_memory_guard;

struct fm_shared_memory {
    void *data; /* `size` bytes of the object, from `offset` on */
    size_t size;
    uint64_t offset;
    bool writable;
    int descriptor;
    void *mapping; /* whole pages around them */
    size_t mapping_size;
    struct fm_shared_memory_guard *guard;
};

/*
 * Maps `size` bytes at `offset` of the object `key` ("/name"; the slash may be missing), for
 * writing where we may. Its pages are reserved, so that writing does not fail for want of memory
 * later. FM_EINVAL (key, or bytes that the object does not have), FM_ENOTFOUND, FM_EPERM,
 * FM_ENOSPC, FM_ENOMEM, FM_EIO, FM_ELIMIT; reterr names the key.
 */
int FM_NODISCARD fm_shared_memory_open(struct fm_shared_memory *memory, const char *key,
                                       uint64_t offset, uint64_t size, struct fm_error *reterr);
void fm_shared_memory_close(struct fm_shared_memory *memory);
/* False when the object has become too small for what is mapped, or was when somebody looked there:
 * a system call. */
bool fm_shared_memory_intact(const struct fm_shared_memory *memory);

#endif
