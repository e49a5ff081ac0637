/*
 * Inputs of a job that are objects behind an address instead of files.
 *
 * Owns: which inputs are, how an id becomes an address again, finding what lies below a prefix of a
 * store or matches a pattern, the job's options for that. Does not own: transfers and stores
 * (host/net/objects.h), files (listing.h). Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_REMOTE_H
#define FM_ENGINES_BATCH_REMOTE_H

#include "engines/batch/job_file.h"
#include "host/net/objects.h"

/* Whether any of the job's inputs may be behind an address. */
bool fm_remote_may_be(const struct fm_job *job);
/* Whether the input with this id is. */
bool fm_remote_is(const char *base, const char *id);
/* Where the input with this id is: an address, or a path. FM_ETOOLARGE. */
int FM_NODISCARD fm_remote_place(char *ret_place, size_t size, const char *base, const char *id);
/* The id of what is at the address: relative to the base when it lies below it, else the address
 * itself. A part of the address. */
const char *fm_remote_id(const char *base, const char *address);

/* What gets the job's objects. FM_EINVAL, FM_ENOTFOUND, FM_EPERM: what is wrong with the job's
 * options or the environment; FM_ENOMEM. */
int FM_NODISCARD fm_remote_open(const struct fm_job *job, struct fm_objects **ret_objects,
                                struct fm_error *reterr);

/* Whether the address names many objects: a pattern, a prefix with a slash at its end, a bucket. */
bool fm_remote_is_walk(const char *address);
/* The part of such an address to which the ids of what is found are relative. */
void fm_remote_walk_base(const char *address, char *ret_base, size_t size);

struct fm_remote_walk {
    const char *address;
    const char *base; /* of ids */
    int (*found)(void *context, const char *id, uint64_t size);
    void *context;
    uint64_t *hidden_count;      /* goes up by what was left out for a leading dot */
    const atomic_bool *stopping; /* once it is true, the walk ends: FM_ECANCELLED; NULL: never */
};
/* Calls found(context, id, size) for each object. What it returns, where it is not 0, ends the walk
 * and is returned. */
int FM_NODISCARD fm_remote_walk(const struct fm_job *job, const struct fm_remote_walk *walk,
                                struct fm_error *reterr);

#endif
