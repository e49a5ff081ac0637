/*
 * The control thread: what is to be loaded, reloaded and let go, and what every loop is shown of
 * it. See catalog.h and catalog_internal.h.
 *
 * HOW IT WORKS. One thread owns the models. It wakes for operations, for news of load jobs, for
 * entries that were released, for the result of a look at the repositories, and for the next poll.
 * Each model has at most one job; operations on it wait for each other, those on other models do
 * not. Whatever changed marks the catalog dirty; then a new view is made and offered to every loop.
 * An operation is answered when all loops have the view that shows its outcome.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
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

static void model_next(struct fm_catalog *catalog, struct fm_catalog_model *model);

static void event(const struct fm_catalog *catalog, const struct fm_catalog_event *what)
{
    if (catalog->options.event != NULL) {
        catalog->options.event(catalog->options.context, what);
    }
}

/* --- Models --- */

static size_t model_place(const struct fm_catalog *catalog, const char *name)
{
    size_t low = 0;
    size_t high = catalog->model_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(catalog->models[middle]->name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct fm_catalog_model *model_find(const struct fm_catalog *catalog, const char *name)
{
    size_t place = model_place(catalog, name);
    return place < catalog->model_count && strcmp(catalog->models[place]->name, name) == 0
               ? catalog->models[place]
               : NULL;
}

static void model_free(struct fm_catalog_model *model)
{
    fm_catalog_files_unref(model->files);
    fm_free(model->versions);
    fm_free(model->name);
    fm_free(model);
}

/* NULL: out of memory, or too many. */
static struct fm_catalog_model *model_add(struct fm_catalog *catalog, const char *name,
                                          uint32_t root)
{
    if (catalog->model_count == FM_CATALOG_ENTRIES_MAX) {
        return NULL;
    }
    if (catalog->model_count == catalog->model_capacity) {
        size_t capacity = catalog->model_capacity == 0 ? 16 : catalog->model_capacity * 2;
        struct fm_catalog_model **grown =
            fm_realloc(catalog->models, capacity * sizeof(struct fm_catalog_model *));
        if (grown == NULL) {
            return NULL;
        }
        catalog->models = grown;
        catalog->model_capacity = capacity;
    }
    struct fm_catalog_model *model = fm_alloc_zero(1, sizeof(*model));
    if (model == NULL || (model->name = fm_strdup(name)) == NULL) {
        fm_free(model);
        return NULL;
    }
    model->root = root;
    model->present = true;
    model->since_wall_ns = fm_os_wall_ns();
    model->job.model = model;
    size_t place = model_place(catalog, name);
    memmove(&catalog->models[place + 1], &catalog->models[place],
            (catalog->model_count - place) * sizeof(struct fm_catalog_model *));
    catalog->models[place] = model;
    catalog->model_count++;
    catalog->dirty = true;
    return model;
}

static void model_remove(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    size_t place = model_place(catalog, model->name);
    FM_ASSERT(catalog->models[place] == model && !model->busy);
    catalog->model_count--;
    memmove(&catalog->models[place], &catalog->models[place + 1],
            (catalog->model_count - place) * sizeof(struct fm_catalog_model *));
    model_free(model);
    catalog->dirty = true;
}

static struct fm_catalog_version *version_find(struct fm_catalog_model *model, uint64_t number)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].number == number) {
            return &model->versions[i];
        }
    }
    return NULL;
}

/* Found or added; NULL: out of memory. */
static struct fm_catalog_version *version_have(struct fm_catalog_model *model, uint64_t number)
{
    struct fm_catalog_version *version = version_find(model, number);
    if (version != NULL) {
        return version;
    }
    if (model->version_count == model->version_capacity) {
        size_t capacity = model->version_capacity == 0 ? 1 : model->version_capacity * 2;
        struct fm_catalog_version *grown = fm_realloc(model->versions, capacity * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        model->versions = grown;
        model->version_capacity = capacity;
    }
    size_t place = model->version_count++;
    for (; place > 0 && model->versions[place - 1].number > number; place--) {
        model->versions[place] = model->versions[place - 1];
    }
    model->versions[place] = (struct fm_catalog_version){
        .number = number, .state = FM_CATALOG_STATE_COUNT_, .since_wall_ns = fm_os_wall_ns()};
    return &model->versions[place];
}

static void version_remove(struct fm_catalog_model *model, size_t index)
{
    FM_ASSERT(model->versions[index].entry == NULL);
    model->version_count--;
    memmove(&model->versions[index], &model->versions[index + 1],
            (model->version_count - index) * sizeof(*model->versions));
}

/* Takes the version's entry out of what is shown. It is released when nobody holds it. */
static void version_retire(struct fm_catalog *catalog, struct fm_catalog_version *version)
{
    struct fm_catalog_entry *entry = version->entry;
    if (entry != NULL) {
        version->entry = NULL;
        version->leaving = entry;
        catalog->dirty = true;
        fm_catalog_entry_unref(entry);
    }
}

static bool model_answers(const struct fm_catalog_model *model)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].entry != NULL) {
            return true;
        }
    }
    return false;
}

/* A model that is neither there nor wanted nor in anybody's hands is forgotten. */
static void model_tidy(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    for (size_t i = model->version_count; i-- > 0;) {
        const struct fm_catalog_version *version = &model->versions[i];
        bool listed = version->selected && model->present;
        if (!model->busy && !listed && version->entry == NULL && version->leaving == NULL) {
            version_remove(model, i);
            catalog->dirty = true;
        }
    }
    if (!model->present && !model->wanted && !model->busy && model->operations == NULL &&
        model->version_count == 0) {
        model_remove(catalog, model);
    }
}

/* --- Operations: answers --- */

/* The outcome is what the next view shows; if nothing changes, what the last one showed. */
static void operation_finish(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    operation->settled = false;
    operation->next = catalog->finishing;
    catalog->finishing = operation;
}

static void operations_finish(struct fm_catalog *catalog, struct fm_catalog_operation *operations,
                              const struct fm_error *error)
{
    while (operations != NULL) {
        struct fm_catalog_operation *next = operations->next;
        operations->error = *error;
        operation_finish(catalog, operations);
        operations = next;
    }
}

static void append(struct fm_catalog_operation **list, struct fm_catalog_operation *operation)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    operation->next = NULL;
    *list = operation;
}

/* --- Loading --- */

/* Hands the model to the loading threads. `operation`: with a configuration of its own, or NULL. */
static int model_load(struct fm_catalog *catalog, struct fm_catalog_model *model,
                      const struct fm_catalog_operation *operation)
{
    struct fm_catalog_job *job = &model->job;
    struct fm_catalog_known *known = fm_alloc((model->version_count + 1) * sizeof(*known));
    if (known == NULL) {
        return FM_ENOMEM;
    }
    FM_ASSERT(!model->busy);
    *job = (struct fm_catalog_job){.model = model, .operation = operation, .known = known};
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].entry != NULL) {
            known[job->known_count++] =
                (struct fm_catalog_known){model->versions[i].number, model->versions[i].stamp};
        }
    }
    model->wanted = true;
    model->busy = true;
    catalog->busy_count++;
    catalog->dirty = true;
    fm_mutex_lock(&catalog->lock);
    if (catalog->load_last != NULL) {
        catalog->load_last->next = job;
    } else {
        catalog->load_first = job;
    }
    catalog->load_last = job;
    fm_condition_signal(&catalog->load_wake);
    fm_mutex_unlock(&catalog->lock);
    return 0;
}

static void model_unload(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    model->wanted = false;
    model->error = (struct fm_error){0};
    model->tried = false;
    for (size_t i = 0; i < model->version_count; i++) {
        model->versions[i].error = (struct fm_error){0};
        version_retire(catalog, &model->versions[i]);
    }
    fm_catalog_files_unref(model->files);
    model->files = NULL;
    catalog->dirty = true;
}

static void failed(struct fm_catalog *catalog, const struct fm_catalog_model *model,
                   uint64_t version, const struct fm_error *error)
{
    (void)atomic_fetch_add(&catalog->load_failures, 1);
    if (error->status == FM_ECANCELLED) {
        return;
    }
    const struct fm_catalog_event what = {.kind = FM_CATALOG_EVENT_FAILED,
                                          .name = model->name,
                                          .version = version,
                                          .replaces = model_answers(model),
                                          .ends_start =
                                              catalog->options.strict && !catalog->started,
                                          .error = error};
    event(catalog, &what);
}

/* What one version's loading came to. */
static void result_apply(struct fm_catalog *catalog, struct fm_catalog_model *model,
                         struct fm_catalog_result *result)
{
    struct fm_catalog_version *version = version_find(model, result->version);
    if (version == NULL) {
        /* There was no memory to list it. */
        (void)fm_error_set(&result->error, FM_ENOMEM, "out of memory");
        if (result->entry != NULL) {
            fm_catalog_entry_unref(result->entry);
            result->entry = NULL;
        }
        failed(catalog, model, result->version, &result->error);
        return;
    }
    version->loading = false;
    version->error = result->error;
    catalog->dirty = true;
    if (result->kept) {
        return;
    }
    version->load_ns = result->load_ns;
    (void)atomic_fetch_add(&catalog->load_ns_total, result->load_ns);
    if (result->entry == NULL) {
        failed(catalog, model, result->version, &result->error);
        return;
    }
    (void)atomic_fetch_add(&catalog->loads, 1);
    bool replaces = model_answers(model);
    struct fm_catalog_entry *old = version->entry;
    version->entry = result->entry;
    version->stamp = result->stamp;
    version->leaving = NULL;
    result->entry = NULL;
    if (old != NULL) {
        fm_catalog_entry_unref(old);
    }
    const struct fm_catalog_event what = {.kind = FM_CATALOG_EVENT_READY,
                                          .name = model->name,
                                          .version = version->number,
                                          .entry = version->entry,
                                          .replaces = replaces};
    event(catalog, &what);
}

/* The job has read the directory: these versions are meant to be there. */
static void results_announce(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    struct fm_catalog_job *job = &model->job;
    job->announced = true;
    model->error = (struct fm_error){0};
    for (size_t i = 0; i < model->version_count; i++) {
        model->versions[i].selected = false;
    }
    for (size_t i = 0; i < job->result_count; i++) {
        struct fm_catalog_version *version = version_have(model, job->results[i].version);
        if (version != NULL) {
            version->selected = true;
            version->loading = !job->results[i].kept;
        }
    }
    catalog->dirty = true;
}

/*
 * Older versions go when all that the policy selects answer. Until then they stay: a version that
 * does not load takes nothing away.
 */
static void versions_settle(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    bool whole = true;
    for (size_t i = 0; i < model->version_count; i++) {
        whole = whole && (!model->versions[i].selected || model->versions[i].entry != NULL);
    }
    for (size_t i = 0; whole && i < model->version_count; i++) {
        if (!model->versions[i].selected) {
            version_retire(catalog, &model->versions[i]);
        }
    }
}

/* The first of what went wrong. */
static void job_error(const struct fm_catalog_job *job, struct fm_error *ret_error)
{
    *ret_error = job->error;
    for (size_t i = 0; i < job->result_count && ret_error->status == 0; i++) {
        *ret_error = job->results[i].error;
    }
}

/* Answers the operation that asked for the job. */
static void job_answer(struct fm_catalog *catalog, struct fm_catalog_model *model,
                       const struct fm_error *error)
{
    struct fm_catalog_operation *operation = model->operations;
    if (operation == NULL || !operation->begun) {
        return;
    }
    model->operations = operation->next;
    operation->error = *error;
    if (error->status != 0) {
        /* The path asked for is there; something that the model needs is not. And it was not the
         * client that cancelled a load: another server, or this one when it is back, may do it. */
        operation->error.status = error->status == FM_ENOTFOUND    ? FM_EINVAL
                                  : error->status == FM_ECANCELLED ? FM_EUNAVAILABLE
                                                                   : error->status;
        (void)fm_error_prefix(
            &operation->error, operation->error.status, "failed to load '%s'%s", model->name,
            model_answers(model) ? " (what was loaded before goes on answering)" : "");
    }
    operation_finish(catalog, operation);
}

/* Answers START when nothing is left to wait for. `failure`: of `model`, which it waited for. */
static void start_check(struct fm_catalog *catalog, const struct fm_catalog_model *model,
                        const struct fm_error *failure)
{
    if (catalog->start == NULL) {
        return;
    }
    bool refused = failure != NULL && failure->status != 0 && catalog->options.strict;
    if (!refused && catalog->start_pending > 0) {
        return;
    }
    if (refused) {
        atomic_store(&catalog->stopping, true);
        catalog->start->error = *failure;
        (void)fm_error_prefix(&catalog->start->error, failure->status, "model '%s' does not load",
                              model->name);
    } else {
        catalog->started = true;
    }
    catalog->dirty = true;
    operation_finish(catalog, catalog->start);
    catalog->start = NULL;
}

static void stop_check(struct fm_catalog *catalog)
{
    if (catalog->stop != NULL && catalog->busy_count == 0) {
        struct fm_catalog_operation *stop = catalog->stop;
        catalog->stop = NULL;
        operations_finish(catalog, stop, &(struct fm_error){0});
    }
}

/*
 * What answers from now on came with the job's files, or from the repository as it was then. When
 * nothing came of the job, and an older copy goes on answering, that one's files stay the model's;
 * a configuration of its own says nothing about the repository's, which are still to be tried.
 */
static void job_keep(struct fm_catalog_model *model)
{
    struct fm_catalog_job *job = &model->job;
    bool taken = false;
    for (size_t i = 0; i < job->result_count; i++) {
        taken = taken || job->results[i].error.status == 0;
    }
    if (taken || !model_answers(model)) {
        fm_catalog_files_unref(model->files);
        model->files = taken ? job->files : NULL;
        job->files = taken ? NULL : job->files;
    } else if (job->operation != NULL) {
        return;
    }
    model->stamp = job->stamp;
}

static void job_finished(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    struct fm_catalog_job *job = &model->job;
    struct fm_error error = {0};
    model->busy = false;
    catalog->busy_count--;
    catalog->dirty = true;
    job_error(job, &error);
    if (job->error.status != 0) {
        model->error = job->error;
        failed(catalog, model, 0, &job->error);
    } else {
        versions_settle(catalog, model);
    }
    job_keep(model);
    model->tried = true;
    fm_catalog_files_unref(job->files);
    fm_free(job->known);
    fm_free(job->results);
    *job = (struct fm_catalog_job){.model = model};
    if (model->starting) {
        model->starting = false;
        catalog->start_pending--;
        start_check(catalog, model, &error);
    }
    job_answer(catalog, model, &error);
    stop_check(catalog);
    model_next(catalog, model);
}

static void job_news(struct fm_catalog *catalog, struct fm_catalog_job *job, size_t ready,
                     bool listed, bool finished)
{
    struct fm_catalog_model *model = job->model;
    if (listed && !job->announced) {
        results_announce(catalog, model);
    }
    for (; job->taken < ready && job->taken < job->result_count; job->taken++) {
        result_apply(catalog, model, &job->results[job->taken]);
    }
    if (finished) {
        job_finished(catalog, model);
    }
}

/* --- Operations --- */

/* Starts the first operation that waits for this model, as far as that needs no waiting. */
static void model_next(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    while (!model->busy && model->operations != NULL) {
        struct fm_catalog_operation *operation = model->operations;
        int status = 0;
        if (operation->kind == FM_CATALOG_UNLOAD) {
            model_unload(catalog, model);
        } else {
            status = model_load(catalog, model, operation->config != NULL ? operation : NULL);
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
            operation_finish(catalog, operation);
        }
    }
    model_tidy(catalog, model);
}

static bool is_allowed(const struct fm_catalog *catalog, const char *name)
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
    struct fm_catalog_model *model = model_find(catalog, operation->name);
    uint32_t root = 0;
    int status = 0;
    if (!is_allowed(catalog, operation->name)) {
        status = fm_error_set(&operation->error, FM_ENOTFOUND,
                              "failed to load '%s': it is none of the models this server was "
                              "started for (--model)",
                              operation->name);
    }
    if (status == 0 && (model == NULL || !model_answers(model))) {
        status = root_find(catalog, operation, &root, &operation->error);
        /* What is known, and gone meanwhile, is told by its job. */
        status = status != 0 && model != NULL && model->busy ? 0 : status;
        if (status == 0 && model == NULL) {
            model = model_add(catalog, operation->name, root);
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
        operation_finish(catalog, operation);
        return;
    }
    append(&model->operations, operation);
    model_next(catalog, model);
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
        const struct fm_catalog_model *used = model_find(catalog, uses->names[i]);
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
    struct fm_catalog_model *model = model_find(catalog, operation->name);
    struct fm_watch_uses uses = {0};
    struct fm_catalog_operation *parts = NULL;
    if (model == NULL) {
        /* Nothing to do is done. */
        operation_finish(catalog, operation);
        return;
    }
    if (operation->dependents && fm_watch_uses_read(&catalog->roots[model->root], model->name,
                                                    &uses, &operation->error) != 0) {
        operation_finish(catalog, operation);
        return;
    }
    int status = parts_make(catalog, operation, &uses, &parts);
    fm_watch_uses_free(&uses);
    if (status != 0) {
        operation->parts = 0;
        operation_finish(catalog, operation);
        return;
    }
    while (parts != NULL) {
        struct fm_catalog_operation *part = parts;
        struct fm_catalog_model *used = model_find(catalog, part->name);
        parts = part->next;
        append(&used->operations, part);
        model_next(catalog, used);
    }
    append(&model->operations, operation);
    model_next(catalog, model);
}

static bool is_wanted_at_start(const struct fm_catalog *catalog,
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
        if (!is_wanted_at_start(catalog, model)) {
            continue;
        }
        if (model_load(catalog, model, NULL) == 0) {
            model->starting = true;
            catalog->start_pending++;
        } else {
            /* As if its job had found that. */
            (void)fm_error_set(&model->error, FM_ENOMEM, "out of memory");
            model->tried = true;
            catalog->dirty = true;
            failed(catalog, model, 0, &model->error);
            unbegun = model;
        }
    }
    if (catalog->options.mode == FM_CATALOG_POLLING) {
        catalog->next_poll_ns = fm_os_now_ns() + catalog->options.poll_interval_ns;
    }
    start_check(catalog, unbegun, unbegun != NULL ? &unbegun->error : NULL);
}

static void operation_begin(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    operation->error = (struct fm_error){0};
    switch (operation->kind) {
    case FM_CATALOG_START:
        start_begin(catalog, operation);
        return;
    case FM_CATALOG_LOAD:
    case FM_CATALOG_UNLOAD:
        if (operation_check(catalog, operation) != 0) {
            operation_finish(catalog, operation);
        } else if (operation->kind == FM_CATALOG_LOAD) {
            load_begin(catalog, operation);
        } else {
            unload_begin(catalog, operation);
        }
        return;
    case FM_CATALOG_INDEX:
        if (catalog->options.mode != FM_CATALOG_EXPLICIT) {
            operation_finish(catalog, operation);
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
        stop_check(catalog);
        return;
    }
}

/* --- Looking at the repositories --- */

/* A model that is there. `stamps`: found->stamp says something. */
static void found_apply(struct fm_catalog *catalog, const struct fm_watch_found *found, bool stamps)
{
    struct fm_catalog_model *model = model_find(catalog, found->name);
    bool explicit_mode = catalog->options.mode == FM_CATALOG_EXPLICIT;
    if (model == NULL) {
        model = model_add(catalog, found->name, found->root);
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
    (void)model_load(catalog, model, NULL);
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
        model_unload(catalog, model);
    }
    model_tidy(catalog, model);
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
            event(catalog, &what);
        }
    }
    for (size_t i = 0; i < scan->count; i++) {
        if (is_allowed(catalog, scan->found[i].name)) {
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

/* Asks for a look when one is due and none is under way. */
static void scan_begin(struct fm_catalog *catalog, uint64_t now_ns)
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

static void scan_end(struct fm_catalog *catalog, struct fm_watch_scan *scan, bool stamps,
                     const struct fm_error *error)
{
    catalog->scanning = false;
    (void)atomic_fetch_add(&catalog->polls_done, stamps ? 1 : 0);
    if (error->status == 0) {
        scan_apply(catalog, scan, stamps);
    }
    fm_watch_scan_free(scan);
    operations_finish(catalog, catalog->polling, error);
    catalog->polling = NULL;
}

/* --- Views --- */

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

static struct fm_catalog_view *view_make(struct fm_catalog *catalog)
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
        view->models_ready += catalog->models[i]->wanted && model_answers(catalog->models[i]);
    }
    view->started = catalog->started;
    return view;
}

static void view_publish(struct fm_catalog *catalog)
{
    uint64_t start_ns = fm_os_now_ns();
    struct fm_catalog_view *view = view_make(catalog);
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

/* Frees views that no loop has, and answers operations whose outcome every loop shows. */
static void views_retire(struct fm_catalog *catalog)
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

/* --- The thread --- */

static void entry_released(struct fm_catalog *catalog, struct fm_catalog_entry *entry)
{
    struct fm_catalog_model *model = model_find(catalog, entry->name);
    (void)atomic_fetch_add(&catalog->releases, 1);
    const struct fm_catalog_event what = {
        .kind = FM_CATALOG_EVENT_UNLOADED, .name = entry->name, .version = entry->version};
    event(catalog, &what);
    struct fm_catalog_version *version = model != NULL ? version_find(model, entry->version) : NULL;
    if (version != NULL && version->leaving == entry) {
        version->leaving = NULL;
        catalog->dirty = true;
        model_tidy(catalog, model);
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
        job_news(catalog, job, ready, listed, finished);
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
        scan_end(catalog, &turn->scan, turn->scan_stamps, &turn->scan_error);
    }
    while (turn->operations != NULL) {
        struct fm_catalog_operation *operation = turn->operations;
        turn->operations = operation->next;
        operation->next = NULL;
        operation_begin(catalog, operation);
    }
    uint64_t now_ns = fm_os_now_ns();
    scan_begin(catalog, now_ns);
    if (catalog->dirty && now_ns >= catalog->publish_after_ns) {
        view_publish(catalog);
    }
    views_retire(catalog);
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
        if (scan->found[i].twins > 0 && is_allowed(catalog, scan->found[i].name)) {
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
        if (strcmp(names[i], "*") != 0 && model_find(catalog, names[i]) == NULL) {
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
        if (!is_allowed(catalog, scan->found[i].name)) {
            continue;
        }
        struct fm_catalog_model *model =
            model_add(catalog, scan->found[i].name, scan->found[i].root);
        if (model == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the models' paths");
        }
        model->wanted = is_wanted_at_start(catalog, model);
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
        catalog->current = view_make(catalog);
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
    model_free(model);
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
