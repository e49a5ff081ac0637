/*
 * Operations: checked, put in the queue of the model that they are about, begun when it is their
 * turn. See catalog.h and catalog_internal.h.
 *
 * Does not own: what a load comes to (catalog_jobs.c), when an operation is answered
 * (catalog_publish.c). Thread rule: the control thread.
 */
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"
#include "host/os/os.h"

/* --- Answers --- */

void fm_catalog_operation_finish(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    operation->settled = false;
    operation->next = catalog->finishing;
    catalog->finishing = operation;
}

void fm_catalog_operations_finish(struct fm_catalog *catalog,
                                  struct fm_catalog_operation *operations,
                                  const struct fm_error *error)
{
    while (operations != NULL) {
        struct fm_catalog_operation *next = operations->next;
        operations->error = *error;
        fm_catalog_operation_finish(catalog, operations);
        operations = next;
    }
}

/* --- Turns --- */

static void append(struct fm_catalog_operation **list, struct fm_catalog_operation *operation)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    operation->next = NULL;
    *list = operation;
}

void fm_catalog_model_next(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    while (!model->busy && model->operations != NULL) {
        struct fm_catalog_operation *operation = model->operations;
        int status = 0;
        if (operation->kind == FM_CATALOG_UNLOAD) {
            fm_catalog_model_unload(catalog, model);
        } else {
            status =
                fm_catalog_model_load(catalog, model, operation->config != NULL ? operation : NULL);
            if (status == 0) {
                /* Answered when the job is through. */
                operation->begun = true;
                return;
            }
            (void)fm_error_set(&operation->error, status, "out of memory");
        }
        model->operations = operation->next;
        operation = fm_catalog_operation_part_end(operation);
        if (operation != NULL) {
            fm_catalog_operation_finish(catalog, operation);
        }
    }
    fm_catalog_model_tidy(catalog, model);
}

bool fm_catalog_is_allowed(const struct fm_catalog *catalog, const char *name)
{
    const struct fm_catalog_options *options = &catalog->options;
    for (uint32_t i = 0; i < options->model_count; i++) {
        if (strcmp(options->models[i], name) == 0) {
            return true;
        }
    }
    return options->model_count == 0;
}

/* The root that has something of that name now; with files of its own the first one does. */
static int root_find(const struct fm_catalog *catalog, const struct fm_catalog_operation *operation,
                     uint32_t *ret_root, struct fm_error *reterr)
{
    char place[4096];
    for (uint32_t r = 0; r < catalog->options.path_count; r++) {
        const struct fm_watch_root *root = &catalog->roots[r];
        if (root->single ? root->name != NULL && strcmp(root->name, operation->name) == 0
                         : operation->file_count > 0 ||
                               fm_repository_locate(root->path, false, operation->name, place,
                                                    sizeof(place), NULL) == 0) {
            *ret_root = r;
            return 0;
        }
    }
    return fm_error_set(reterr, FM_ENOTFOUND,
                        "failed to load '%.200s': none of the repositories has such a model",
                        operation->name);
}

static bool is_name(const char *name)
{
    return name != NULL && name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
           strlen(name) < 1024;
}

static int operation_check(const struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    struct fm_error *error = &operation->error;
    if (atomic_load(&catalog->stopping)) {
        return fm_error_set(error, FM_EUNAVAILABLE, "the server is ending");
    }
    if (catalog->options.mode != FM_CATALOG_EXPLICIT) {
        return fm_error_set(error, FM_EUNSUPPORTED,
                            "explicit model load / unload is not allowed here: start the server "
                            "with --model-control-mode explicit");
    }
    if (!is_name(operation->name)) {
        return fm_error_set(error, FM_EINVAL, "'%.200s' is no name of a model",
                            operation->name != NULL ? operation->name : "");
    }
    if (operation->file_count > 0 && operation->config == NULL) {
        return fm_error_set(error, FM_EINVAL,
                            "failed to load '%s': files need a configuration with them: give "
                            "'config' too",
                            operation->name);
    }
    return 0;
}

static void load_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    struct fm_catalog_model *model = fm_catalog_model_find(catalog, operation->name);
    uint32_t root = 0;
    int status = 0;
    if (!fm_catalog_is_allowed(catalog, operation->name)) {
        status = fm_error_set(&operation->error, FM_ENOTFOUND,
                              "failed to load '%s': it is none of the models this server was "
                              "started for (--model)",
                              operation->name);
    }
    if (status == 0 && (model == NULL || !fm_catalog_model_answers(model))) {
        status = root_find(catalog, operation, &root, &operation->error);
        /* What is known, and gone meanwhile, is told by its job. */
        status = status != 0 && model != NULL && model->busy ? 0 : status;
        if (status == 0 && model == NULL) {
            model = fm_catalog_model_add(catalog, operation->name, root);
            status = model != NULL ? 0
                                   : fm_error_set(&operation->error, FM_ELIMIT,
                                                  "failed to load '%s': there is no room for more "
                                                  "models",
                                                  operation->name);
        } else if (status == 0 && !model->busy) {
            model->root = root;
            model->present = true;
        }
    }
    if (status != 0) {
        fm_catalog_operation_finish(catalog, operation);
        return;
    }
    append(&model->operations, operation);
    fm_catalog_model_next(catalog, model);
}

/*
 * Makes an unload of each dependent a part of the operation, in `*ret_parts` by their `next`: they
 * wait their turn as other operations on those models do. Without memory there are none.
 */
static int parts_make(const struct fm_catalog *catalog, struct fm_catalog_operation *operation,
                      const struct fm_watch_uses *uses, struct fm_catalog_operation **ret_parts)
{
    *ret_parts = NULL;
    operation->parts = 1;
    for (size_t i = 0; i < uses->count; i++) {
        const struct fm_catalog_model *used = fm_catalog_model_find(catalog, uses->names[i]);
        if (used == NULL || strcmp(used->name, operation->name) == 0) {
            continue;
        }
        struct fm_catalog_operation *part = fm_alloc_zero(1, sizeof(*part));
        if (part == NULL) {
            while (*ret_parts != NULL) {
                part = *ret_parts;
                *ret_parts = part->next;
                fm_free(part);
            }
            return fm_error_set(&operation->error, FM_ENOMEM,
                                "failed to unload '%s': out of memory", operation->name);
        }
        part->kind = FM_CATALOG_UNLOAD;
        part->name = used->name;
        part->whole = operation;
        part->next = *ret_parts;
        *ret_parts = part;
        operation->parts++;
    }
    return 0;
}

static void unload_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    struct fm_catalog_model *model = fm_catalog_model_find(catalog, operation->name);
    struct fm_watch_uses uses = {0};
    struct fm_catalog_operation *parts = NULL;
    if (model == NULL) {
        /* Nothing to do is done. */
        fm_catalog_operation_finish(catalog, operation);
        return;
    }
    if (operation->dependents && fm_watch_uses_read(&catalog->roots[model->root], model->name,
                                                    &uses, &operation->error) != 0) {
        fm_catalog_operation_finish(catalog, operation);
        return;
    }
    int status = parts_make(catalog, operation, &uses, &parts);
    fm_watch_uses_free(&uses);
    if (status != 0) {
        operation->parts = 0;
        fm_catalog_operation_finish(catalog, operation);
        return;
    }
    while (parts != NULL) {
        struct fm_catalog_operation *part = parts;
        struct fm_catalog_model *used = fm_catalog_model_find(catalog, part->name);
        parts = part->next;
        append(&used->operations, part);
        fm_catalog_model_next(catalog, used);
    }
    append(&model->operations, operation);
    fm_catalog_model_next(catalog, model);
}

bool fm_catalog_is_wanted_at_start(const struct fm_catalog *catalog,
                                   const struct fm_catalog_model *model)
{
    const struct fm_catalog_options *options = &catalog->options;
    bool wanted = options->mode != FM_CATALOG_EXPLICIT;
    for (uint32_t i = 0; i < options->load_model_count && !wanted; i++) {
        wanted = strcmp(options->load_models[i], "*") == 0 ||
                 strcmp(options->load_models[i], model->name) == 0;
    }
    return wanted;
}

static void start_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    const struct fm_catalog_model *unbegun = NULL;
    catalog->start = operation;
    for (size_t i = 0; i < catalog->model_count; i++) {
        struct fm_catalog_model *model = catalog->models[i];
        if (!fm_catalog_is_wanted_at_start(catalog, model)) {
            continue;
        }
        if (fm_catalog_model_load(catalog, model, NULL) == 0) {
            model->starting = true;
            catalog->start_pending++;
        } else {
            /* As if its job had found that. */
            (void)fm_error_set(&model->error, FM_ENOMEM, "out of memory");
            model->tried = true;
            catalog->dirty = true;
            fm_catalog_failed_tell(catalog, model, 0, &model->error);
            unbegun = model;
        }
    }
    if (catalog->options.mode == FM_CATALOG_POLLING) {
        catalog->next_poll_ns = fm_os_now_ns() + catalog->options.poll_interval_ns;
    }
    fm_catalog_start_check(catalog, unbegun, unbegun != NULL ? &unbegun->error : NULL);
}

void fm_catalog_operation_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    operation->error = (struct fm_error){0};
    switch (operation->kind) {
    case FM_CATALOG_START:
        start_begin(catalog, operation);
        return;
    case FM_CATALOG_LOAD:
    case FM_CATALOG_UNLOAD:
        if (operation_check(catalog, operation) != 0) {
            fm_catalog_operation_finish(catalog, operation);
        } else if (operation->kind == FM_CATALOG_LOAD) {
            load_begin(catalog, operation);
        } else {
            unload_begin(catalog, operation);
        }
        return;
    case FM_CATALOG_INDEX:
        if (catalog->options.mode != FM_CATALOG_EXPLICIT) {
            fm_catalog_operation_finish(catalog, operation);
            return;
        }
        append(&catalog->polls, operation);
        return;
    case FM_CATALOG_POLL:
        catalog->poll_due = true;
        append(&catalog->polls, operation);
        return;
    case FM_CATALOG_STOP:
        atomic_store(&catalog->stopping, true);
        append(&catalog->stop, operation);
        fm_catalog_stop_check(catalog);
        return;
    }
}
