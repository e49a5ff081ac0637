/*
 * What is served, and how that changes while serving: models and pipelines of several repositories,
 * loaded, reloaded and unloaded without a request noticing.
 *
 * Owns: the list of what is served (views), everything that is loaded (entries), the control thread
 * that decides, the threads that load and release, version policy, polling, repository control.
 * Does not own: HTTP and gRPC, the accelerators (hooks attach and detach), what a model computes.
 *
 * HOW IT WORKS. The control thread alone knows the models and what is being done with them. After
 * each change it makes a view, an immutable table, and posts it to every loop; a loop looks things
 * up in the view it has, without a lock. A request holds its entry. What is in no view and in no
 * request's hands any more is released by a thread of the catalog. So a new version takes over
 * between two requests, and the old one goes when its last answer was sent.
 *
 * Thread rule: each function says who may call it.
 */
#ifndef FM_ENGINES_SERVE_CATALOG_H
#define FM_ENGINES_SERVE_CATALOG_H

#include <stdatomic.h>

#include "core/proto/oip.h"
#include "host/net/loop.h"
#include "host/runtime/servable.h"

#define FM_CATALOG_ENTRIES_MAX    100000 /* models; further ones are not served, and say why */
#define FM_CATALOG_READERS_MAX    256
#define FM_CATALOG_OPERATIONS_MAX 1024 /* waiting; further ones are refused with FM_EAGAIN */
#define FM_CATALOG_FILES_MAX      1024 /* of one load operation */
#define FM_CATALOG_THREADS_MAX    64

/* UNLOADING: in no view's look-up any more, but requests still hold it. */
enum fm_catalog_state {
    FM_CATALOG_LOADING,
    FM_CATALOG_READY,
    FM_CATALOG_UNLOADING,
    FM_CATALOG_UNAVAILABLE,
    FM_CATALOG_STATE_COUNT_
};

enum fm_catalog_mode {
    FM_CATALOG_NONE,     /* everything is loaded at the start; what changes later is not looked at,
                            except when somebody asks (FM_CATALOG_POLL) */
    FM_CATALOG_POLLING,  /* the repositories are looked at again and again */
    FM_CATALOG_EXPLICIT, /* only what operations ask for */
};

struct fm_catalog;

/* One version of a model, or a pipeline, loaded. Immutable; lives as long as somebody holds it. */
struct fm_catalog_entry {
    const char *name;
    uint64_t version; /* pipelines: 1 */
    struct fm_servable *servable;
    struct fm_oip_signature signature;
    uint64_t load_ns; /* how long loading took, warm-up and attach included */
    void *attached;   /* the attach hook's */
    /* For the catalog. */
    struct fm_catalog *catalog;
    atomic_uint references;
    struct fm_catalog_files *files;
    struct fm_catalog_source *source;
    struct fm_catalog_entry *next;
};

/* Any thread. Whoever refs has the entry from a view of its own loop, or a reference already. */
void fm_catalog_entry_ref(struct fm_catalog_entry *entry);
/* Any thread; never waits for a release, which is another thread's. */
void fm_catalog_entry_unref(struct fm_catalog_entry *entry);

/* What came with the load operation instead of from the repository; NULL: nothing. *ret_directory:
 * NULL, or where its files lie as long as the entry lives. All of it lives as long. */
const char *fm_catalog_entry_override(const struct fm_catalog_entry *entry,
                                      const char **ret_directory);

/* --- Views --- */

struct fm_catalog_row {
    const char *name;
    uint64_t version; /* 0: not known (yet) */
    enum fm_catalog_state state;
    const char *reason; /* "", or why it is not ready; READY: why a newer copy did not replace it */
    struct fm_catalog_entry *entry; /* READY only */
    bool wanted;                    /* meant to answer; false: nobody asked for it, or unloaded */
    uint64_t since_wall_ns;         /* when it came into this state */
    uint64_t load_ns;               /* of the last load that ended; 0: none */
};

/* What is served at one moment. Immutable. */
struct fm_catalog_view {
    const struct fm_catalog_row *rows; /* by name in byte order, then by version */
    size_t row_count;
    size_t counts[FM_CATALOG_STATE_COUNT_]; /* of rows */
    size_t models_wanted; /* that are meant to be ready: every model, or the ones asked for */
    size_t models_ready;  /* of these: some version answers */
    bool started;         /* the first loading of everything is through */
    uint64_t generation;
    /* For the catalog. */
    struct fm_catalog_view *next;
    uint32_t *slots; /* hash table of row indexes + 1, the first row of each name */
    size_t slot_mask;
};

/*
 * version 0: the highest that is ready. *ret_entry is borrowed until the calling task of the loop
 * ends: ref it to keep it. FM_ENOTFOUND in the words clients look for, with a suggestion;
 * FM_EUNAVAILABLE when it is there but not ready.
 */
int FM_NODISCARD fm_catalog_view_find(const struct fm_catalog_view *view, const char *name,
                                      uint64_t version, struct fm_catalog_entry **ret_entry,
                                      struct fm_error *reterr);
/* All rows of a model, ascending by version; NULL and 0 when there is none of that name. */
const struct fm_catalog_row *fm_catalog_view_rows(const struct fm_catalog_view *view,
                                                  const char *name, size_t *ret_count);
/*
 * Whether the server should be sent requests. strict: the first loading is through and every wanted
 * model answers. Otherwise: it is through, and some model answers or none is wanted.
 */
bool fm_catalog_view_is_ready(const struct fm_catalog_view *view, bool strict);
const char *fm_catalog_state_name(enum fm_catalog_state state);

/*
 * A loop's window on the catalog: `view` is what is served as this loop sees it. In the loop
 * owner's memory, zero-initialised, in place until fm_catalog_close. Read on the loop's thread
 * only.
 */
struct fm_catalog_reader {
    const struct fm_catalog_view *view; /* never NULL once added */
    struct fm_loop *loop;
    /* For the catalog. */
    struct fm_catalog *catalog;
    struct fm_loop_task task;
    const struct fm_catalog_view *offered;
    uint64_t seen; /* generation */
    bool posted;
};

/* --- Operations --- */

enum fm_catalog_operation_kind {
    FM_CATALOG_START,  /* load what the mode and options want; done when all of it is through */
    FM_CATALOG_LOAD,   /* load or reload `name`: versions that changed, and those that failed */
    FM_CATALOG_UNLOAD, /* `name`, and with `dependents` what a pipeline of that name uses */
    FM_CATALOG_POLL,   /* look at the repositories once, now, without waiting for files to settle */
    FM_CATALOG_INDEX,  /* make the view show what the repositories hold now */
    FM_CATALOG_STOP,   /* load nothing further; done when nothing is being loaded */
};

/* A file that comes with a load operation instead of from the repository. Borrowed. */
struct fm_catalog_file {
    const char *path; /* "<version>/<name>", further folders allowed; never upwards */
    const void *data;
    size_t size;
};

/*
 * Something to be done. In the caller's memory, in place until `done`, which runs on the reader's
 * loop once EVERY loop has the view that shows the outcome. error.status: 0, or why it failed.
 * LOAD and UNLOAD are refused (FM_EUNSUPPORTED) unless the mode is FM_CATALOG_EXPLICIT.
 */
struct fm_catalog_operation {
    enum fm_catalog_operation_kind kind;
    const char *name;
    const char *config; /* LOAD: Triton's ModelConfig as JSON or text instead of the model's
                           configuration file; NULL: the file */
    size_t config_size;
    const struct fm_catalog_file *files; /* LOAD: the versions, instead of the repository's; need
                                            `config` */
    size_t file_count;
    bool dependents;
    struct fm_catalog_reader *reader;
    void (*done)(struct fm_catalog_operation *operation);
    void *context;
    struct fm_error error;
    /* For the catalog. */
    struct fm_loop_task task;
    struct fm_catalog_operation *next;
    struct fm_catalog_operation *whole; /* that this is a part of; NULL: an operation itself */
    size_t parts;                       /* that are not through; 0: it is in one piece */
    bool begun;                         /* the model's job is this one's */
    bool settled;                       /* the view of `generation` shows the outcome */
    uint64_t generation;
};

/* --- Events, for the log --- */

enum fm_catalog_event_kind {
    FM_CATALOG_EVENT_READY,       /* entry answers from now on; replaces: an older one went */
    FM_CATALOG_EVENT_FAILED,      /* a version, or a whole model (version 0), did not load: error */
    FM_CATALOG_EVENT_UNLOADED,    /* released */
    FM_CATALOG_EVENT_POLL_FAILED, /* a repository could not be looked at: error */
    FM_CATALOG_EVENT_COUNT_
};

struct fm_catalog_event {
    enum fm_catalog_event_kind kind;
    const char *name; /* POLL_FAILED: the repository's path */
    uint64_t version;
    const struct fm_catalog_entry *entry; /* READY */
    bool replaces;                        /* READY: took over from an older copy.
                                             FAILED: an older copy goes on answering */
    bool ends_start;                      /* FAILED: START, which is strict, ends with it */
    const struct fm_error *error;
};

/* Counted since the start. Any thread may read them. */
struct fm_catalog_stats {
    uint64_t loads;
    uint64_t load_failures;
    uint64_t releases;
    uint64_t polls;
    uint64_t poll_failures;
    uint64_t views;
    uint64_t load_ns_total;
};

struct fm_catalog_options {
    const char *const *paths;
    uint32_t path_count;
    const char *const *models; /* nothing else is ever served; none: all */
    uint32_t model_count;
    enum fm_catalog_mode mode;
    const char *const *load_models; /* EXPLICIT: loaded at the start; "*" alone: all */
    uint32_t load_model_count;
    uint64_t poll_interval_ns;
    uint32_t load_threads; /* models loaded at once; 0: default */
    bool strict;           /* START ends with the first failure, and loads nothing further */
    struct fm_servable_options servable;
    /*
     * After a servable was opened and warmed up, before it is in any view; on a loading thread,
     * several at once. A failure is a failed load. NULL: nothing to do.
     */
    int (*attach)(void *context, struct fm_catalog_entry *entry, struct fm_error *reterr);
    /* When nobody holds the entry any more, before it is released; may wait. Takes the servable, by
     * setting it to NULL, where it has to stay. NULL allowed. */
    void (*detach)(void *context, struct fm_catalog_entry *entry);
    /* On the control thread. NULL allowed. */
    void (*event)(void *context, const struct fm_catalog_event *event);
    void *context;
};

/*
 * Lists the paths and starts the threads; loads nothing before FM_CATALOG_START. A path that cannot
 * be read, a name that two paths share, or one asked for that none has, is an error. Strings of the
 * options are borrowed until close. Any thread.
 */
int FM_NODISCARD fm_catalog_open(const struct fm_catalog_options *options,
                                 struct fm_catalog **ret_catalog, struct fm_error *reterr);
/* Before the loop runs. `reader` sees a view at once. */
void fm_catalog_add_reader(struct fm_catalog *catalog, struct fm_catalog_reader *reader,
                           struct fm_loop *loop);
/* Any thread. Never blocks for long; failures come through operation->done. */
void fm_catalog_submit(struct fm_catalog *catalog, struct fm_catalog_operation *operation);
/*
 * When no reader's loop runs any more (or from the only one's thread) and nobody holds an entry:
 * ends the threads, answers what is pending (FM_ECANCELLED), releases everything. Accepts NULL.
 */
void fm_catalog_close(struct fm_catalog *catalog);
void fm_catalog_stats_read(const struct fm_catalog *catalog, struct fm_catalog_stats *ret_stats);

#endif
