/*
 * Paths as people write them: one spelling for one file, and what lies below what.
 *
 * Owns: taking out "//", "." and "..", and resolving paths of which only a part exists. Does not
 * own: patterns (glob.h), reading. Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_PATHS_H
#define FM_ENGINES_BATCH_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/status.h"

/*
 * `path` without empty names, "." and "x/..". Symbolic links stay as they are, and "x/.." stays
 * where x is a link, because it means another directory there. A relative path is taken to start at
 * `base` ("": the current directory). The empty path becomes ".". FM_ETOOLARGE.
 */
int FM_NODISCARD fm_paths_tidy(const char *base, const char *path, char *ret_path, size_t size);

/*
 * The absolute path without links and dots, of something that may not exist yet: what is missing is
 * appended to what is there. FM_ETOOLARGE, FM_EPERM, FM_EIO.
 */
int FM_NODISCARD fm_paths_resolve(const char *path, char *ret_path, size_t size,
                                  struct fm_error *reterr);

/* The part of `path` below `base` ("" when they are the same); NULL when it is not below. Both
 * resolved. */
const char *fm_paths_below(const char *base, const char *path);

#endif
