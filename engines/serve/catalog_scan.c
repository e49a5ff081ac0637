/*
 * Looks at the repositories: when one is due, and what follows from what it found. See catalog.h
 * and catalog_internal.h.
 *
 * Does not own: looking itself (watch.h, on the thread of catalog_load.c). Thread rule: the control
 * thread.
 */
#include <string.h>

#include "engines/serve/catalog_internal.h"

/* A model that is there. `stamps`: found->stamp says something. */
static void found_apply(struct fm_catalog *catalog, const struct fm_watch_found *found, bool stamps)
{
    struct fm_catalog_model *model = fm_catalog_model_find(catalog, found->name);
    bool explicit_mode = catalog->options.mode == FM_CATALOG_EXPLICIT;
    if (model == NULL) {
        model = fm_catalog_model_add(catalog, found->name, found->root);
        if (model == NULL) {
            return;
        }
        model->wanted = !explicit_mode;
    }
    if (model->root != found->root && found->twins == 0 && !model->busy) {
        model->root = found->root;
    }
    catalog->dirty = catalog->dirty || !model->present || model->twins != (found->twins > 0);
    model->twins = found->twins > 0;
    model->present = true;
    model->missing = 0;
    if (!stamps || !catalog->started || atomic_load(&catalog->stopping) || model->busy ||
        (explicit_mode && (!model->wanted || model->files != NULL)) ||
        (model->tried && model->stamp == found->stamp) || model->root != found->root) {
        return;
    }
    if (catalog->scan_settles && model->seen != found->stamp) {
        /* Somebody may still be copying: looked at again before it is taken. */
        model->seen = found->stamp;
        return;
    }
    /* Without memory it is tried again at the next look. */
    (void)!fm_catalog_model_load(catalog, model, NULL);
}

static void missing_apply(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    bool settles = catalog->scan_settles && catalog->options.mode == FM_CATALOG_POLLING;
    model->missing++;
    if (model->busy || (settles && model->missing < 2)) {
        return;
    }
    catalog->dirty = catalog->dirty || model->present;
    model->present = false;
    if (catalog->options.mode != FM_CATALOG_EXPLICIT) {
        fm_catalog_model_unload(catalog, model);
    }
    fm_catalog_model_tidy(catalog, model);
}

static void scan_apply(struct fm_catalog *catalog, const struct fm_watch_scan *scan, bool stamps)
{
    bool whole = true;
    for (uint32_t r = 0; r < catalog->options.path_count; r++) {
        const struct fm_error *error = &scan->errors[r];
        if (error->status != 0) {
            whole = false;
            (void)atomic_fetch_add(&catalog->poll_failures, 1);
            const struct fm_catalog_event what = {.kind = FM_CATALOG_EVENT_POLL_FAILED,
                                                  .name = catalog->roots[r].path,
                                                  .error = error};
            fm_catalog_event_tell(catalog, &what);
        }
    }
    for (size_t i = 0; i < scan->count; i++) {
        if (fm_catalog_is_allowed(catalog, scan->found[i].name)) {
            found_apply(catalog, &scan->found[i], stamps);
        }
    }
    /* What lies in a repository that cannot be read is not gone. */
    size_t at = scan->count;
    for (size_t i = catalog->model_count; whole && i-- > 0;) {
        struct fm_catalog_model *model = catalog->models[i];
        while (at > 0 && strcmp(scan->found[at - 1].name, model->name) > 0) {
            at--;
        }
        if (at == 0 || strcmp(scan->found[at - 1].name, model->name) != 0) {
            missing_apply(catalog, model);
        }
    }
}

void fm_catalog_scan_begin(struct fm_catalog *catalog, uint64_t now_ns)
{
    bool timed = catalog->next_poll_ns != 0 && now_ns >= catalog->next_poll_ns;
    if (catalog->scanning || (!timed && catalog->polls == NULL)) {
        return;
    }
    fm_mutex_lock(&catalog->lock);
    catalog->scan_wanted = true;
    catalog->scan_stamps = timed || catalog->poll_due;
    fm_condition_signal(&catalog->chore_wake);
    fm_mutex_unlock(&catalog->lock);
    catalog->scanning = true;
    catalog->scan_settles = !catalog->poll_due;
    catalog->poll_due = false;
    catalog->polling = catalog->polls;
    catalog->polls = NULL;
    if (timed) {
        catalog->next_poll_ns = now_ns + catalog->options.poll_interval_ns;
    }
}

void fm_catalog_scan_end(struct fm_catalog *catalog, struct fm_watch_scan *scan, bool stamps,
                         const struct fm_error *error)
{
    catalog->scanning = false;
    (void)atomic_fetch_add(&catalog->polls_done, stamps ? 1 : 0);
    if (error->status == 0) {
        scan_apply(catalog, scan, stamps);
    }
    fm_watch_scan_free(scan);
    fm_catalog_operations_finish(catalog, catalog->polling, error);
    catalog->polling = NULL;
}
