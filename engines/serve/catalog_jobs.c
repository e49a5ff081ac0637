/*
 * Load jobs as the control thread sees them: handed to the loading threads, and what becomes of
 * models when there is news of them. See catalog_internal.h.
 *
 * Does not own: loading itself (catalog_load.c), who wants it. Thread rule: the control thread.
 */
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"

int fm_catalog_model_load(struct fm_catalog *catalog, struct fm_catalog_model *model,
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

void fm_catalog_model_unload(struct fm_catalog *catalog, struct fm_catalog_model *model)
{
    model->wanted = false;
    model->error = (struct fm_error){0};
    model->tried = false;
    for (size_t i = 0; i < model->version_count; i++) {
        model->versions[i].error = (struct fm_error){0};
        fm_catalog_version_retire(catalog, &model->versions[i]);
    }
    fm_catalog_files_unref(model->files);
    model->files = NULL;
    catalog->dirty = true;
}

void fm_catalog_failed_tell(struct fm_catalog *catalog, const struct fm_catalog_model *model,
                            uint64_t version, const struct fm_error *error)
{
    (void)atomic_fetch_add(&catalog->load_failures, 1);
    if (error->status == FM_ECANCELLED) {
        return;
    }
    const struct fm_catalog_event what = {.kind = FM_CATALOG_EVENT_FAILED,
                                          .name = model->name,
                                          .version = version,
                                          .replaces = fm_catalog_model_answers(model),
                                          .ends_start =
                                              catalog->options.strict && !catalog->started,
                                          .error = error};
    fm_catalog_event_tell(catalog, &what);
}

/* What one version's loading came to. */
static void result_apply(struct fm_catalog *catalog, struct fm_catalog_model *model,
                         struct fm_catalog_result *result)
{
    struct fm_catalog_version *version = fm_catalog_version_find(model, result->version);
    if (version == NULL) {
        /* There was no memory to list it. */
        (void)fm_error_set(&result->error, FM_ENOMEM, "out of memory");
        if (result->entry != NULL) {
            fm_catalog_entry_unref(result->entry);
            result->entry = NULL;
        }
        fm_catalog_failed_tell(catalog, model, result->version, &result->error);
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
        fm_catalog_failed_tell(catalog, model, result->version, &result->error);
        return;
    }
    (void)atomic_fetch_add(&catalog->loads, 1);
    bool replaces = fm_catalog_model_answers(model);
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
    fm_catalog_event_tell(catalog, &what);
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
        struct fm_catalog_version *version =
            fm_catalog_version_have(model, job->results[i].version);
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
            fm_catalog_version_retire(catalog, &model->versions[i]);
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
            fm_catalog_model_answers(model) ? " (what was loaded before goes on answering)" : "");
    }
    fm_catalog_operation_finish(catalog, operation);
}

void fm_catalog_start_check(struct fm_catalog *catalog, const struct fm_catalog_model *model,
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
    fm_catalog_operation_finish(catalog, catalog->start);
    catalog->start = NULL;
}

void fm_catalog_stop_check(struct fm_catalog *catalog)
{
    if (catalog->stop != NULL && catalog->busy_count == 0) {
        struct fm_catalog_operation *stop = catalog->stop;
        catalog->stop = NULL;
        fm_catalog_operations_finish(catalog, stop, &(struct fm_error){0});
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
    if (taken || !fm_catalog_model_answers(model)) {
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
        fm_catalog_failed_tell(catalog, model, 0, &job->error);
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
        fm_catalog_start_check(catalog, model, &error);
    }
    job_answer(catalog, model, &error);
    fm_catalog_stop_check(catalog);
    fm_catalog_model_next(catalog, model);
}

void fm_catalog_job_news(struct fm_catalog *catalog, struct fm_catalog_job *job, size_t ready,
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
