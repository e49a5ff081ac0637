/*
 * What every loop is shown: views made of the models, offered to all loops, freed when none has
 * them; and operations answered once every loop has the view with their outcome. See catalog.h and
 * catalog_internal.h.
 *
 * Does not own: what a view is (catalog_view.c). Thread rule: the control thread, but for what is
 * posted to loops.
 */
#include "core/util/assert.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"
#include "engines/serve/catalog_view.h"
#include "host/os/os.h"

/* A big catalog that changes all the time (ten thousand models loading) spends at most this share
 * of the control thread on views: one after another waits for so many times what the last one took.
 */
#define VIEW_PAUSE_FACTOR 4
#define RETRY_NS          UINT64_C(100000000) /* when there was no memory for a view */
#define NO_VERSION        1 /* what a model is listed under that could not be read */

/* --- Telling --- */

void fm_catalog_event_tell(const struct fm_catalog *catalog, const struct fm_catalog_event *what)
{
    if (catalog->options.event != NULL) {
        catalog->options.event(catalog->options.context, what);
    }
}

/* --- Making a view --- */

static void row_reason(const struct fm_catalog_model *model,
                       const struct fm_catalog_version *version, enum fm_catalog_state state,
                       struct fm_catalog_row *row)
{
    row->reason = "";
    if (state == FM_CATALOG_READY) {
        row->reason = version->error.status != 0 ? version->error.text
                      : model->error.status != 0 ? model->error.text
                      : model->twins ? "another repository has a model of this name, which is not "
                                       "served"
                                     : "";
    } else if (state == FM_CATALOG_UNAVAILABLE) {
        row->reason = !model->wanted                                  ? "unloaded"
                      : version != NULL && version->error.status != 0 ? version->error.text
                      : model->error.status != 0                      ? model->error.text
                                                                      : "not loaded";
    }
}

static void row_put(struct fm_catalog *catalog, const struct fm_catalog_row *row, size_t *count)
{
    if (*count < catalog->row_capacity) {
        catalog->rows[*count] = *row;
    }
    (*count)++;
}

static size_t model_rows(struct fm_catalog *catalog, struct fm_catalog_model *model, size_t count)
{
    struct fm_catalog_row row = {.name = model->name,
                                 .wanted = model->wanted,
                                 .since_wall_ns = model->since_wall_ns,
                                 .reason = ""};
    for (size_t i = 0; i < model->version_count; i++) {
        struct fm_catalog_version *version = &model->versions[i];
        row.version = version->number;
        row.state = version->entry != NULL     ? FM_CATALOG_READY
                    : version->loading         ? FM_CATALOG_LOADING
                    : version->leaving != NULL ? FM_CATALOG_UNLOADING
                                               : FM_CATALOG_UNAVAILABLE;
        if (version->state != row.state) {
            version->state = row.state;
            version->since_wall_ns = fm_os_wall_ns();
        }
        row.entry = version->entry;
        row.since_wall_ns = version->since_wall_ns;
        row.load_ns = version->load_ns;
        row_reason(model, version, row.state, &row);
        row_put(catalog, &row, &count);
    }
    if (model->version_count == 0) {
        bool coming = model->busy || (model->wanted && !model->tried);
        row.state = coming ? FM_CATALOG_LOADING : FM_CATALOG_UNAVAILABLE;
        row.version = coming || model->error.status == 0 ? 0 : NO_VERSION;
        row_reason(model, NULL, row.state, &row);
        row.reason = !model->wanted ? "not loaded" : row.reason;
        row_put(catalog, &row, &count);
    }
    return count;
}

/* All rows into catalog->rows; FM_ENOMEM leaves them as they were. */
static int rows_gather(struct fm_catalog *catalog, size_t *ret_count)
{
    for (;;) {
        size_t count = 0;
        for (size_t i = 0; i < catalog->model_count; i++) {
            count = model_rows(catalog, catalog->models[i], count);
        }
        if (count <= catalog->row_capacity) {
            *ret_count = count;
            return 0;
        }
        size_t capacity = count + count / 2;
        struct fm_catalog_row *grown = fm_realloc(catalog->rows, capacity * sizeof(*grown));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        catalog->rows = grown;
        catalog->row_capacity = capacity;
    }
}

static void reader_take(struct fm_loop_task *task)
{
    struct fm_catalog_reader *reader = FM_CONTAINER_OF(task, struct fm_catalog_reader, task);
    struct fm_catalog *catalog = reader->catalog;
    fm_mutex_lock(&catalog->lock);
    reader->view = reader->offered;
    reader->seen = reader->view->generation;
    reader->posted = false;
    fm_catalog_wake(catalog);
    fm_mutex_unlock(&catalog->lock);
}

static void view_offer(struct fm_catalog *catalog, struct fm_catalog_view *view)
{
    fm_mutex_lock(&catalog->lock);
    catalog->current->next = view;
    catalog->current = view;
    for (uint32_t i = 0; i < catalog->reader_count; i++) {
        struct fm_catalog_reader *reader = catalog->readers[i];
        reader->offered = view;
        if (!reader->posted) {
            reader->posted = true;
            reader->task.run = reader_take;
            fm_loop_post(reader->loop, &reader->task);
        }
    }
    fm_mutex_unlock(&catalog->lock);
}

struct fm_catalog_view *fm_catalog_view_make(struct fm_catalog *catalog)
{
    size_t count = 0;
    if (rows_gather(catalog, &count) != 0) {
        return NULL;
    }
    struct fm_catalog_view *view = fm_catalog_view_create(catalog->rows, count);
    if (view == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < catalog->model_count; i++) {
        view->models_wanted += catalog->models[i]->wanted;
        view->models_ready +=
            catalog->models[i]->wanted && fm_catalog_model_answers(catalog->models[i]);
    }
    view->started = catalog->started;
    return view;
}

void fm_catalog_view_publish(struct fm_catalog *catalog)
{
    uint64_t start_ns = fm_os_now_ns();
    struct fm_catalog_view *view = fm_catalog_view_make(catalog);
    if (view == NULL) {
        catalog->publish_after_ns = start_ns + RETRY_NS;
        return;
    }
    view->generation = catalog->current->generation + 1;
    view_offer(catalog, view);
    (void)atomic_fetch_add(&catalog->views, 1);
    catalog->dirty = false;
    uint64_t end_ns = fm_os_now_ns();
    catalog->publish_after_ns = end_ns + (end_ns - start_ns) * VIEW_PAUSE_FACTOR;
    for (struct fm_catalog_operation *operation = catalog->finishing; operation != NULL;
         operation = operation->next) {
        if (!operation->settled) {
            operation->settled = true;
            operation->generation = view->generation;
        }
    }
}

/* The oldest view that any loop still has. */
static uint64_t seen_by_all(struct fm_catalog *catalog)
{
    fm_mutex_lock(&catalog->lock);
    uint64_t seen = catalog->current->generation;
    for (uint32_t i = 0; i < catalog->reader_count; i++) {
        seen = catalog->readers[i]->seen < seen ? catalog->readers[i]->seen : seen;
    }
    fm_mutex_unlock(&catalog->lock);
    return seen;
}

static void operation_done(struct fm_loop_task *task)
{
    struct fm_catalog_operation *operation =
        FM_CONTAINER_OF(task, struct fm_catalog_operation, task);
    operation->done(operation);
}

static void operation_answer(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    fm_mutex_lock(&catalog->lock);
    catalog->operation_count--;
    fm_mutex_unlock(&catalog->lock);
    operation->task.run = operation_done;
    fm_loop_post(operation->reader->loop, &operation->task);
}

void fm_catalog_views_retire(struct fm_catalog *catalog)
{
    uint64_t seen = seen_by_all(catalog);
    while (catalog->oldest->generation < seen) {
        struct fm_catalog_view *view = catalog->oldest;
        catalog->oldest = view->next;
        fm_catalog_view_free(view);
    }
    struct fm_catalog_operation *waiting = catalog->finishing;
    catalog->finishing = NULL;
    while (waiting != NULL) {
        struct fm_catalog_operation *operation = waiting;
        waiting = operation->next;
        if (!operation->settled && !catalog->dirty) {
            operation->settled = true;
            operation->generation = catalog->current->generation;
        }
        if (operation->settled && operation->generation <= seen) {
            operation_answer(catalog, operation);
        } else {
            operation->next = catalog->finishing;
            catalog->finishing = operation;
        }
    }
}
