/*
 * The control thread: it wakes, takes what came in, and has it done. See catalog.h and
 * catalog_internal.h.
 *
 * HOW IT WORKS. One thread owns the models (catalog_models.c). It wakes for operations
 * (catalog_operations.c), for news of load jobs (catalog_jobs.c), for entries that were released,
 * for the result of a look at the repositories and for the next one (catalog_scan.c). Each model
 * has at most one job; operations on it wait for each other, those on other models do not. Whatever
 * changed marks the catalog dirty; then a new view is made and offered to every loop
 * (catalog_publish.c). An operation is answered when all loops have the view that shows its
 * outcome.
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"
#include "engines/serve/catalog_view.h"
#include "host/os/os.h"

/* --- The thread --- */

static void entry_released(struct fm_catalog *catalog, struct fm_catalog_entry *entry)
{
    struct fm_catalog_model *model = fm_catalog_model_find(catalog, entry->name);
    (void)atomic_fetch_add(&catalog->releases, 1);
    const struct fm_catalog_event what = {
        .kind = FM_CATALOG_EVENT_UNLOADED, .name = entry->name, .version = entry->version};
    fm_catalog_event_tell(catalog, &what);
    struct fm_catalog_version *version =
        model != NULL ? fm_catalog_version_find(model, entry->version) : NULL;
    if (version != NULL && version->leaving == entry) {
        version->leaving = NULL;
        catalog->dirty = true;
        fm_catalog_model_tidy(catalog, model);
    }
    fm_catalog_entry_release(entry);
}

/* What came in since the last turn, taken at once. */
struct turn {
    struct fm_catalog_operation *operations;
    struct fm_catalog_entry *released;
    struct fm_watch_scan scan;
    struct fm_error scan_error;
    bool scan_done;
    bool scan_stamps;
};

/* The lock is held. */
static void turn_take(struct fm_catalog *catalog, struct turn *turn)
{
    *turn = (struct turn){.released = catalog->released, .scan_done = catalog->scan_done};
    catalog->released = NULL;
    catalog->woken = false;
    while (catalog->inbox != NULL) {
        struct fm_catalog_operation *operation = catalog->inbox;
        catalog->inbox = operation->next;
        operation->next = turn->operations;
        turn->operations = operation;
    }
    if (turn->scan_done) {
        turn->scan = catalog->scan;
        turn->scan_error = catalog->scan_error;
        turn->scan_stamps = catalog->scan_stamps;
        catalog->scan_done = false;
    }
}

static void news_take(struct fm_catalog *catalog)
{
    fm_mutex_lock(&catalog->lock);
    while (catalog->news != NULL) {
        struct fm_catalog_job *job = catalog->news;
        catalog->news = job->news_next;
        job->in_news = false;
        size_t ready = job->ready;
        bool listed = job->listed;
        bool finished = job->finished;
        fm_mutex_unlock(&catalog->lock);
        fm_catalog_job_news(catalog, job, ready, listed, finished);
        fm_mutex_lock(&catalog->lock);
    }
    fm_mutex_unlock(&catalog->lock);
}

static void turn_do(struct fm_catalog *catalog, struct turn *turn)
{
    news_take(catalog);
    while (turn->released != NULL) {
        struct fm_catalog_entry *entry = turn->released;
        turn->released = entry->next;
        entry_released(catalog, entry);
    }
    if (turn->scan_done) {
        fm_catalog_scan_end(catalog, &turn->scan, turn->scan_stamps, &turn->scan_error);
    }
    while (turn->operations != NULL) {
        struct fm_catalog_operation *operation = turn->operations;
        turn->operations = operation->next;
        operation->next = NULL;
        fm_catalog_operation_begin(catalog, operation);
    }
    uint64_t now_ns = fm_os_now_ns();
    fm_catalog_scan_begin(catalog, now_ns);
    if (catalog->dirty && now_ns >= catalog->publish_after_ns) {
        fm_catalog_view_publish(catalog);
    }
    fm_catalog_views_retire(catalog);
}

/* When the thread has something to do though nobody wakes it. */
static uint64_t wake_time(const struct fm_catalog *catalog)
{
    /* A look that is under way ends with a wake-up of its own; the next one waits for that. */
    bool polls = catalog->next_poll_ns != 0 && !catalog->scanning;
    uint64_t wake_ns = polls ? catalog->next_poll_ns : UINT64_MAX;
    if (catalog->dirty && catalog->publish_after_ns < wake_ns) {
        wake_ns = catalog->publish_after_ns;
    }
    return wake_ns;
}

void fm_catalog_control_run(void *argument)
{
    struct fm_catalog *catalog = argument;
    fm_mutex_lock(&catalog->lock);
    while (!catalog->closing) {
        uint64_t wake_ns = wake_time(catalog);
        if (!catalog->woken && fm_os_now_ns() < wake_ns) {
            if (wake_ns == UINT64_MAX) {
                fm_condition_wait(&catalog->control_wake, &catalog->lock);
            } else {
                (void)fm_condition_wait_until(&catalog->control_wake, &catalog->lock, wake_ns);
            }
            continue;
        }
        struct turn turn;
        turn_take(catalog, &turn);
        fm_mutex_unlock(&catalog->lock);
        turn_do(catalog, &turn);
        fm_mutex_lock(&catalog->lock);
    }
    fm_mutex_unlock(&catalog->lock);
}

/* --- Life --- */

static int twins_refuse(const struct fm_catalog *catalog, const struct fm_watch_scan *scan,
                        struct fm_error *reterr)
{
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->found[i].twins > 0 && fm_catalog_is_allowed(catalog, scan->found[i].name)) {
            return fm_error_set(
                reterr, FM_EEXIST,
                "model '%s' comes from two of the given paths; names must be unique",
                scan->found[i].name);
        }
    }
    return 0;
}

static int names_check(const struct fm_catalog *catalog, const char *const *names, uint32_t count,
                       struct fm_error *reterr)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(names[i], "*") != 0 && fm_catalog_model_find(catalog, names[i]) == NULL) {
            return fm_error_set(reterr, FM_ENOTFOUND, "none of the given paths holds a model '%s'",
                                names[i]);
        }
    }
    return 0;
}

static int models_check(const struct fm_catalog *catalog, struct fm_error *reterr)
{
    const struct fm_catalog_options *options = &catalog->options;
    int status = 0;
    /* With polling or operations, what is not there yet may still come. */
    if (options->mode == FM_CATALOG_NONE) {
        status = names_check(catalog, options->models, options->model_count, reterr);
    }
    if (status == 0) {
        status = names_check(catalog, options->load_models, options->load_model_count, reterr);
    }
    if (status == 0 && options->mode == FM_CATALOG_NONE && catalog->model_count == 0) {
        status = fm_error_set(reterr, FM_ENOTFOUND,
                              "'%s' holds no model; a model lies in <name>/<version>/model.onnx",
                              options->paths[0]);
    }
    return status;
}

static int models_fill(struct fm_catalog *catalog, const struct fm_watch_scan *scan,
                       struct fm_error *reterr)
{
    if (scan->count > FM_CATALOG_ENTRIES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "%zu models are more than the %d that one server takes", scan->count,
                            FM_CATALOG_ENTRIES_MAX);
    }
    for (size_t i = 0; i < scan->count; i++) {
        if (!fm_catalog_is_allowed(catalog, scan->found[i].name)) {
            continue;
        }
        struct fm_catalog_model *model =
            fm_catalog_model_add(catalog, scan->found[i].name, scan->found[i].root);
        if (model == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the models' paths");
        }
        model->wanted = fm_catalog_is_wanted_at_start(catalog, model);
    }
    return 0;
}

int fm_catalog_control_init(struct fm_catalog *catalog, struct fm_error *reterr)
{
    struct fm_watch_scan scan = {0};
    int status =
        fm_watch_scan_read(catalog->roots, catalog->options.path_count, false, &scan, reterr);
    for (uint32_t r = 0; status == 0 && r < catalog->options.path_count; r++) {
        if (scan.errors[r].status != 0) {
            status = fm_error_set(reterr, scan.errors[r].status, "%s", scan.errors[r].text);
        }
    }
    status = status == 0 ? twins_refuse(catalog, &scan, reterr) : status;
    status = status == 0 ? models_fill(catalog, &scan, reterr) : status;
    fm_watch_scan_free(&scan);
    status = status == 0 ? models_check(catalog, reterr) : status;
    if (status == 0) {
        catalog->current = fm_catalog_view_make(catalog);
        catalog->oldest = catalog->current;
        catalog->dirty = false;
        status = catalog->current != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of models");
    }
    return status;
}

static void model_close(struct fm_catalog_model *model)
{
    struct fm_catalog_job *job = &model->job;
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].entry != NULL) {
            fm_catalog_entry_unref(model->versions[i].entry);
        }
    }
    for (size_t i = job->taken; i < job->result_count; i++) {
        if (job->results[i].entry != NULL) {
            fm_catalog_entry_unref(job->results[i].entry);
        }
    }
    fm_catalog_files_unref(job->files);
    fm_free(job->known);
    fm_free(job->results);
    fm_catalog_model_free(model);
}

void fm_catalog_control_deinit(struct fm_catalog *catalog)
{
    while (catalog->oldest != NULL) {
        struct fm_catalog_view *view = catalog->oldest;
        catalog->oldest = view->next;
        fm_catalog_view_free(view);
    }
    for (size_t i = 0; i < catalog->model_count; i++) {
        model_close(catalog->models[i]);
    }
    if (catalog->scan_done) {
        fm_watch_scan_free(&catalog->scan);
    }
    fm_free(catalog->models);
    fm_free(catalog->rows);
}
