/*
 * Looking at repositories: what is there, and whether its files are still the ones they were.
 *
 * Owns: stamps (size, time and inode of every file that a model is made of), listing several
 * repositories at once. Does not own: what follows from a change (catalog_scan.c), reading
 * configurations (host/runtime/repository.h). Reads directories and pipeline files only; never
 * contents of models. Thread rule: no shared state.
 */
#ifndef FM_ENGINES_SERVE_WATCH_H
#define FM_ENGINES_SERVE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_WATCH_DEPTH_MAX                                                 \
    16 /* folders below a model's directory; deeper ones are not looked at \
        */
#define FM_WATCH_FILES_MAX 100000 /* of one model; further ones are not looked at */

struct fm_watch_root {
    const char *path;
    bool single;      /* one model or pipeline */
    const char *name; /* of the single one */
};

/* --- One model --- */

struct fm_watch_version {
    uint64_t version;
    uint64_t stamp; /* of its directory */
};

/*
 * Equal stamps mean equal files, as far as anybody can tell without reading them: an edit that
 * keeps size, time and inode is not seen.
 */
struct fm_watch_stamps {
    uint64_t common; /* of what all versions share; pipelines: with the models they use */
    uint64_t whole;  /* of everything */
    struct fm_watch_version *versions; /* ascending */
    size_t count;
};

/* FM_ENOTFOUND when the root has nothing of that name, FM_ENOMEM. */
int FM_NODISCARD fm_watch_stamps_read(const struct fm_watch_root *root, const char *name,
                                      struct fm_watch_stamps *ret_stamps, struct fm_error *reterr);
void fm_watch_stamps_free(struct fm_watch_stamps *stamps);
/* Of one version; `common` alone where it has no directory. */
uint64_t fm_watch_stamp_of(const struct fm_watch_stamps *stamps, uint64_t version);

/* --- All of them --- */

struct fm_watch_found {
    char *name;
    uint32_t root;  /* index; of several that have the name, the first */
    uint32_t twins; /* further roots that have it */
    uint64_t stamp; /* whole; 0 when stamps were not asked for */
};

struct fm_watch_scan {
    struct fm_watch_found *found; /* by name, each once */
    size_t count;
    struct fm_error *errors; /* by root: status != 0 when it could not be listed */
};

/* Fails for want of memory only: what is wrong with a root is in `errors`. */
int FM_NODISCARD fm_watch_scan_read(const struct fm_watch_root *roots, uint32_t root_count,
                                    bool stamps, struct fm_watch_scan *ret_scan,
                                    struct fm_error *reterr);
void fm_watch_scan_free(struct fm_watch_scan *scan);

/* --- What pipelines use --- */

/* The models of a pipeline, each once; none for a model. Broken pipelines have none. */
struct fm_watch_uses {
    char **names;
    size_t count;
    char *models; /* path of the repository they come from; NULL: none */
};
int FM_NODISCARD fm_watch_uses_read(const struct fm_watch_root *root, const char *name,
                                    struct fm_watch_uses *ret_uses, struct fm_error *reterr);
void fm_watch_uses_free(struct fm_watch_uses *uses);

#endif
