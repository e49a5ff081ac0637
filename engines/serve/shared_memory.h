/*
 * The regions of shared memory that clients registered: names to mapped bytes.
 *
 * Owns: the table, and how long a region stays mapped: until it was unregistered AND the last
 * request that uses it is through. Does not own: the mapping itself (host/os/shared_memory.h),
 * protocol (core/proto, host/messages). Thread rule: any thread; a look-up holds the lock for a
 * search of the names and no system call.
 */
#ifndef FM_ENGINES_SERVE_SHARED_MEMORY_H
#define FM_ENGINES_SERVE_SHARED_MEMORY_H

#include "core/tensor/tensor.h"
#include "core/util/memory.h"
#include "host/messages/messages.h"
#include "host/os/thread.h"

#define FM_SHARED_REGIONS_MAX 4096 /* registered at once; more are refused */

struct fm_shared_region;

struct fm_shared_regions {
    struct fm_mutex mutex;
    struct fm_shared_region **list; /* by name */
    size_t count;
    size_t capacity;
    bool frozen;  /* another process has what is registered; nothing changes here any more */
    bool refused; /* set before the first request: none may be registered */
};

void fm_shared_regions_init(struct fm_shared_regions *regions);
/* Unregisters all. Requests that still use regions keep those. */
void fm_shared_regions_deinit(struct fm_shared_regions *regions);

/* From now on (or no longer) registering and unregistering are refused. */
void fm_shared_regions_freeze(struct fm_shared_regions *regions, bool frozen);

/* FM_EPERM where that is refused, FM_EAGAIN when it is frozen, FM_EEXIST when the name is taken,
 * FM_ELIMIT, and what fm_shared_memory_open says. */
int FM_NODISCARD fm_shared_regions_register(struct fm_shared_regions *regions,
                                            const struct fm_messages_region *region,
                                            struct fm_error *reterr);
/* A name that is not there is no mistake: what was asked for is the case. "" or NULL: all.
 * FM_EAGAIN when it is frozen. */
int FM_NODISCARD fm_shared_regions_unregister(struct fm_shared_regions *regions, const char *name,
                                              struct fm_error *reterr);
/*
 * The regions (all, or the one of that name), with strings in `arena`. FM_ENOTFOUND for a name that
 * is not there, FM_ENOMEM.
 */
int FM_NODISCARD fm_shared_regions_list(struct fm_shared_regions *regions, const char *name,
                                        struct fm_arena *arena,
                                        struct fm_messages_region **ret_rows, size_t *ret_count,
                                        struct fm_error *reterr);
/* A fm_oip_resolve; `context` is the struct fm_shared_regions. */
int FM_NODISCARD fm_shared_regions_resolve(void *context, const char *name, uint64_t offset,
                                           uint64_t size, bool writable, struct fm_value *ret_value,
                                           struct fm_error *reterr);

#endif
