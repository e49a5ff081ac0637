/*
 * Walking a directory tree in a fixed order.
 *
 * Names come in byte order within a directory. Links to directories are not entered, so that a walk
 * always ends. Thread rule: no shared state.
 */
#ifndef FM_HOST_OS_TREE_H
#define FM_HOST_OS_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TREE_DEPTH_MAX    64
#define FM_TREE_SIZE_UNKNOWN UINT64_MAX

struct fm_tree_options {
    bool hidden; /* also names that begin with a dot */
    const char
        *exclude; /* a directory that is left out wherever it turns up, links into it too; NULL */
    int levels;   /* that are looked at: 1: the names in `root` only; 0: all */
    uint64_t *ret_hidden;        /* counts what was left out for its dot; NULL: not wanted */
    const atomic_bool *stopping; /* once it is true, the walk ends; NULL: never */
};

/*
 * Calls each(context, path, size) for everything below `root` that is not a directory; path is
 * relative to root, size FM_TREE_SIZE_UNKNOWN for what is not a regular file or cannot be looked
 * at. A directory that cannot be listed is an error, because then nobody knows what is in it. An
 * answer of `each` that is not 0 ends the walk and is returned. FM_ECANCELLED: it was stopped.
 */
int FM_NODISCARD fm_tree_walk(const char *root, const struct fm_tree_options *options,
                              int (*each)(void *context, const char *path, uint64_t size),
                              void *context, struct fm_error *reterr);

/*
 * Calls each(context, path, trouble) for `root` (path as it was given) and every directory below
 * it, parents first; names that begin with a dot are left out. Answers: 0: go on, 1: nothing below
 * this one is wanted, negative: the walk ends and returns it. A directory that cannot be listed, or
 * lies too deep, comes again, with `trouble` (else NULL), and is no error.
 */
int FM_NODISCARD fm_tree_directories(const char *root,
                                     int (*each)(void *context, const char *path,
                                                 const struct fm_error *trouble),
                                     void *context);

/* The absolute path without links and dots (realpath). Fails as looking at the path does. */
int FM_NODISCARD fm_tree_resolve(const char *path, char *ret_path, size_t size,
                                 struct fm_error *reterr);

#endif
