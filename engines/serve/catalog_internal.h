/*
 * What the files of the catalog share: catalog.c (life, what others ask), catalog_control.c (what
 * is decided), catalog_load.c (what takes long), catalog_view.c.
 *
 * Thread rule: `models`, `views` and everything below them belong to the control thread; what is
 * between threads stands below `lock`, which nobody holds for long.
 */
#ifndef FM_ENGINES_SERVE_CATALOG_INTERNAL_H
#define FM_ENGINES_SERVE_CATALOG_INTERNAL_H

#include "engines/serve/catalog.h"
#include "engines/serve/watch.h"
#include "host/os/thread.h"

/* What came with a load operation instead of from the repository. Shared by all that was loaded
 * from it; the directory goes with the last of them. */
struct fm_catalog_files {
    atomic_uint references;
    uint64_t number; /* no two are alike */
    char *config;
    size_t config_size;
    char directory[256]; /* "": the repository's */
};

/* The configurations that a job read: its entries borrow from them. */
struct fm_catalog_source {
    atomic_uint references;
    struct fm_repository repository;
};

/* What a load job found out about one version. */
struct fm_catalog_result {
    uint64_t version;
    uint64_t stamp;
    bool kept; /* what is loaded already is what lies there */
    struct fm_catalog_entry *entry;
    struct fm_error error;
    uint64_t load_ns;
};

struct fm_catalog_known {
    uint64_t version;
    uint64_t stamp;
};

/* Loading a model: which versions, and each of them. */
struct fm_catalog_job {
    struct fm_catalog_model *model;
    struct fm_catalog_job *next; /* queue */
    struct fm_catalog_job *news_next;
    const struct fm_catalog_operation *operation; /* with files of its own; NULL: none */
    struct fm_catalog_files *files;               /* held */
    struct fm_catalog_known *known;               /* what answers now */
    size_t known_count;
    /* The worker's, the control thread's once `ready`, `listed` or `finished` say so. */
    struct fm_error error; /* nothing could be read */
    uint64_t stamp;        /* of the whole model, before it was read */
    struct fm_catalog_result *results;
    size_t result_count;
    /* Below the lock. */
    size_t ready;
    bool listed;
    bool finished;
    bool in_news;
    /* The control thread's. */
    size_t taken;
    bool announced;
};

/* One version as the control thread sees it. */
struct fm_catalog_version {
    uint64_t number;
    bool selected; /* by the policy, when the directory was last read */
    bool loading;
    struct fm_catalog_entry *entry;         /* that answers; held */
    const struct fm_catalog_entry *leaving; /* that answered last, until it was released */
    uint64_t stamp;                         /* of entry */
    struct fm_error error;                  /* of the last load */
    enum fm_catalog_state state;            /* as last published */
    uint64_t since_wall_ns;
    uint64_t load_ns;
};

struct fm_catalog_model {
    char *name;
    uint32_t root;
    bool wanted;
    bool present;     /* in a repository, when it was last looked at */
    bool busy;        /* its job is queued or running */
    bool starting;    /* its job is one of those that START waits for */
    bool tried;       /* `stamp` says something */
    bool twins;       /* another root has the name too */
    uint64_t stamp;   /* of the files that were last loaded, or failed to */
    uint64_t seen;    /* at the last poll, when it differed */
    uint32_t missing; /* polls in a row */
    uint64_t since_wall_ns;
    struct fm_error error;          /* of the model as a whole */
    struct fm_catalog_files *files; /* of what answers, when it did not come from the repository */
    struct fm_catalog_version *versions; /* ascending */
    size_t version_count;
    size_t version_capacity;
    struct fm_catalog_operation *operations; /* waiting; the first is being done while busy */
    struct fm_catalog_job job;
};

struct fm_catalog {
    struct fm_catalog_options options;
    struct fm_watch_root *roots;
    struct fm_thread control;
    struct fm_thread chores;
    struct fm_thread loaders[FM_CATALOG_THREADS_MAX];
    uint32_t loader_count;
    atomic_bool stopping;      /* nothing further is loaded */
    atomic_size_t entry_count; /* that exist */

    /* The control thread's. */
    struct fm_catalog_model **models; /* by name */
    size_t model_count;
    size_t model_capacity;
    size_t busy_count;
    struct fm_catalog_row *rows; /* scratch */
    size_t row_capacity;
    struct fm_catalog_view *oldest; /* all views, up to the current one */
    bool dirty;
    bool started;
    uint64_t publish_after_ns;
    uint64_t next_poll_ns;
    struct fm_catalog_operation *start; /* waiting */
    size_t start_pending;
    struct fm_catalog_operation *stop;    /* waiting */
    struct fm_catalog_operation *polls;   /* for the next look */
    struct fm_catalog_operation *polling; /* for the one that is under way */
    bool poll_due;
    bool scanning; /* a look was asked for, and its result is not in yet */
    bool scan_settles;
    struct fm_catalog_operation *finishing; /* until every loop has the view */

    struct fm_mutex lock;
    struct fm_condition control_wake;
    struct fm_condition load_wake;
    struct fm_condition chore_wake;
    bool woken; /* something for the control thread */
    bool closing;
    struct fm_catalog_operation *inbox; /* newest first */
    size_t operation_count;             /* submitted and not done */
    struct fm_catalog_job *load_first;
    struct fm_catalog_job *load_last;
    struct fm_catalog_job *news;
    struct fm_catalog_entry *dead;     /* to be released */
    struct fm_catalog_entry *released; /* to be reported */
    bool scan_wanted;
    bool scan_stamps;
    bool scan_done;
    struct fm_watch_scan scan;
    struct fm_error scan_error;
    struct fm_catalog_view *current;
    struct fm_catalog_reader *readers[FM_CATALOG_READERS_MAX];
    uint32_t reader_count;

    atomic_uint_fast64_t loads;
    atomic_uint_fast64_t load_failures;
    atomic_uint_fast64_t releases;
    atomic_uint_fast64_t polls_done;
    atomic_uint_fast64_t poll_failures;
    atomic_uint_fast64_t views;
    atomic_uint_fast64_t load_ns_total;
};

/* catalog.c */
void fm_catalog_files_unref(struct fm_catalog_files *files); /* accepts NULL */
/* One part of an operation is through, or all of one that has no parts: returns what is to be
 * answered now, or NULL while other parts are not through. Frees what was only a part. */
struct fm_catalog_operation *fm_catalog_operation_part_end(struct fm_catalog_operation *operation);

/* catalog_control.c. Threads of the catalog; the argument is the catalog. */
void fm_catalog_control_run(void *argument);
/* Before the threads start, and after they ended. */
int FM_NODISCARD fm_catalog_control_init(struct fm_catalog *catalog, struct fm_error *reterr);
void fm_catalog_control_deinit(struct fm_catalog *catalog);

/* catalog_load.c */
void fm_catalog_load_run(void *argument);
void fm_catalog_chores_run(void *argument);
/* Detaches and closes the servable unless that was done, and frees the entry. */
void fm_catalog_entry_release(struct fm_catalog_entry *entry);
/* Wakes the control thread; the lock is held. */
void fm_catalog_wake(struct fm_catalog *catalog);

#endif
