/*
 * What the files of the catalog share: catalog.c (life, what others ask); the control thread's
 * catalog_control.c (when it wakes), catalog_models.c (what there is), catalog_operations.c,
 * catalog_jobs.c and catalog_scan.c (what is decided), catalog_publish.c (what is shown);
 * catalog_load.c (what takes long), catalog_view.c.
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

/* --- The control thread's, each in the file that its heading names --- */

/* catalog_models.c */

/* NULL: there is none of that name. */
struct fm_catalog_model *fm_catalog_model_find(const struct fm_catalog *catalog, const char *name);
/* A name that is not there yet, present in that root. NULL: out of memory, or too many. */
struct fm_catalog_model *fm_catalog_model_add(struct fm_catalog *catalog, const char *name,
                                              uint32_t root);
/* Also when the control thread has ended. Its versions have no entries any more. */
void fm_catalog_model_free(struct fm_catalog_model *model);
/* Whether any version of it does. */
bool fm_catalog_model_answers(const struct fm_catalog_model *model);
/* Forgets versions that are neither there nor loaded, and a model that is neither there nor wanted
 * nor in anybody's hands: `model` may be gone afterwards. */
void fm_catalog_model_tidy(struct fm_catalog *catalog, struct fm_catalog_model *model);
/* NULL: there is none of that number. */
struct fm_catalog_version *fm_catalog_version_find(struct fm_catalog_model *model, uint64_t number);
/* Found or added, which moves the others; NULL: out of memory. */
struct fm_catalog_version *fm_catalog_version_have(struct fm_catalog_model *model, uint64_t number);
/* Takes the version's entry out of what is shown. It is released when nobody holds it. */
void fm_catalog_version_retire(struct fm_catalog *catalog, struct fm_catalog_version *version);

/* catalog_jobs.c */

/* Hands the model, which is not busy, to the loading threads. `operation`: with a configuration of
 * its own, or NULL. FM_ENOMEM. */
int FM_NODISCARD fm_catalog_model_load(struct fm_catalog *catalog, struct fm_catalog_model *model,
                                       const struct fm_catalog_operation *operation);
/* Nobody wants it any more: none of its versions is shown from the next view on. */
void fm_catalog_model_unload(struct fm_catalog *catalog, struct fm_catalog_model *model);
/* Counts and reports that a version, or (0) the whole model, did not load. */
void fm_catalog_failed_tell(struct fm_catalog *catalog, const struct fm_catalog_model *model,
                            uint64_t version, const struct fm_error *error);
/* The job has `ready` results; `listed`: all that there will be are known; `finished`: it is over.
 */
void fm_catalog_job_news(struct fm_catalog *catalog, struct fm_catalog_job *job, size_t ready,
                         bool listed, bool finished);
/* Answers START when nothing is left to wait for. `failure`: of `model`, which it waited for; NULL:
 * none. */
void fm_catalog_start_check(struct fm_catalog *catalog, const struct fm_catalog_model *model,
                            const struct fm_error *failure);
/* Answers STOP when nothing is being loaded. */
void fm_catalog_stop_check(struct fm_catalog *catalog);

/* catalog_operations.c */

void fm_catalog_operation_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation);
/* The outcome is what the next view shows; if nothing changes, what the last one showed. */
void fm_catalog_operation_finish(struct fm_catalog *catalog,
                                 struct fm_catalog_operation *operation);
/* All of a list, with that error. */
void fm_catalog_operations_finish(struct fm_catalog *catalog,
                                  struct fm_catalog_operation *operations,
                                  const struct fm_error *error);
/* Starts the first operation that waits for this model, as far as that needs no waiting. `model`
 * may be gone afterwards. */
void fm_catalog_model_next(struct fm_catalog *catalog, struct fm_catalog_model *model);
/* Whether the options let a model of that name be served. */
bool fm_catalog_is_allowed(const struct fm_catalog *catalog, const char *name);
bool fm_catalog_is_wanted_at_start(const struct fm_catalog *catalog,
                                   const struct fm_catalog_model *model);

/* catalog_scan.c */

/* Asks for a look when one is due and none is under way. */
void fm_catalog_scan_begin(struct fm_catalog *catalog, uint64_t now_ns);
/* What a look found, which it frees. `stamps`: that says whether files changed. */
void fm_catalog_scan_end(struct fm_catalog *catalog, struct fm_watch_scan *scan, bool stamps,
                         const struct fm_error *error);

/* catalog_publish.c */

/* For the log. */
void fm_catalog_event_tell(const struct fm_catalog *catalog, const struct fm_catalog_event *what);
/* Of the models as they are; NULL: out of memory. */
struct fm_catalog_view *fm_catalog_view_make(struct fm_catalog *catalog);
/* Makes one and offers it to every loop; without memory, later. */
void fm_catalog_view_publish(struct fm_catalog *catalog);
/* Frees views that no loop has, and answers operations whose outcome every loop shows. */
void fm_catalog_views_retire(struct fm_catalog *catalog);

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
