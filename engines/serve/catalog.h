/*
 * What is served: the entries of all repositories, their loading on a thread of its own, and the
 * look-up by name and version.
 *
 * Owns: repositories and servables. Does not own: HTTP. An entry's state changes on the loop's
 * thread only. Thread rule: the loop's thread, apart from the loading thread inside.
 */
#ifndef FM_ENGINES_SERVE_CATALOG_H
#define FM_ENGINES_SERVE_CATALOG_H

#include <stdatomic.h>

#include "core/proto/oip.h"
#include "host/net/loop.h"
#include "host/os/thread.h"
#include "host/runtime/servable.h"

#define FM_CATALOG_ENTRIES_MAX 100000

enum fm_catalog_state { FM_CATALOG_LOADING, FM_CATALOG_READY, FM_CATALOG_UNAVAILABLE };

struct fm_catalog;

/* One version of a model, or a pipeline. */
struct fm_catalog_entry {
    struct fm_catalog *catalog;
    const char *name;
    uint64_t version; /* pipelines: 1 */
    enum fm_catalog_state state;
    struct fm_error error;             /* UNAVAILABLE: why */
    struct fm_servable *servable;      /* READY */
    struct fm_oip_signature signature; /* READY */
    /* The loading thread's result, handed over by the task. */
    const struct fm_repository *repository;
    struct fm_loop_task loaded;
    struct fm_servable *loaded_servable;
    uint64_t load_ns;
};

struct fm_catalog_options {
    const char *const *paths;
    uint32_t path_count;
    const char *const *models; /* none: all */
    uint32_t model_count;
    struct fm_servable_options servable;
    /* On the loop's thread, after each entry, and once when all are through (entry NULL). */
    void (*loaded)(void *context, struct fm_catalog_entry *entry);
    void *context;
};

struct fm_catalog {
    struct fm_catalog_options options;
    struct fm_loop *loop;
    struct fm_repository *repositories;
    uint32_t repository_count;
    struct fm_catalog_entry *entries; /* by name, then version */
    size_t entry_count;
    struct fm_thread thread;
    struct fm_loop_task finished;
    atomic_bool stopping;
    bool loading;
};

/* Reads the paths; loads nothing yet. `catalog` stays in place. On failure nothing is left. */
int FM_NODISCARD fm_catalog_open(struct fm_catalog *catalog,
                                 const struct fm_catalog_options *options, struct fm_error *reterr);
/* Loads on another thread; results arrive by `loaded`. */
int FM_NODISCARD fm_catalog_load(struct fm_catalog *catalog, struct fm_loop *loop,
                                 struct fm_error *reterr);
/* Loads nothing further after the entry that is being loaded. */
void fm_catalog_stop(struct fm_catalog *catalog);
/* Waits for the loading thread and for requests in flight, then releases everything. */
void fm_catalog_close(struct fm_catalog *catalog);

/*
 * version 0: the highest that is ready. FM_ENOTFOUND in the words clients look for, with a
 * suggestion; FM_EUNAVAILABLE when it is there but not ready (*ret_entry is set then too).
 */
int FM_NODISCARD fm_catalog_find(struct fm_catalog *catalog, const char *name, uint64_t version,
                                 struct fm_catalog_entry **ret_entry, struct fm_error *reterr);
const char *fm_catalog_state_name(enum fm_catalog_state state);
size_t fm_catalog_count(const struct fm_catalog *catalog, enum fm_catalog_state state);

#endif
