/*
 * What takes long: reading a model's directory and loading its versions, releasing what nobody
 * holds, looking at the repositories. See catalog_internal.h.
 *
 * Owns: the loading threads and the thread for chores. Does not own: what is to be loaded and what
 * becomes of it (catalog_jobs.c).
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/serve/catalog_internal.h"
#include "host/os/file.h"
#include "host/os/os.h"

enum { PATH_SIZE = 4096, FILE_PATH_MAX = 1024, FILE_PART_MAX = 255 };

void fm_catalog_wake(struct fm_catalog *catalog)
{
    catalog->woken = true;
    fm_condition_signal(&catalog->control_wake);
}

/* --- Files that came with the operation --- */

/* "<version>/<name>" without anything that leads elsewhere. */
static int file_check(const struct fm_catalog_file *file, struct fm_error *reterr)
{
    const char *path = file->path;
    size_t digits = strspn(path, "0123456789");
    uint64_t version = 0;
    char number[24];
    bool good = digits > 0 && digits < sizeof(number) && path[0] != '0' && path[digits] == '/' &&
                strlen(path) < FILE_PATH_MAX;
    if (good) {
        memcpy(number, path, digits);
        number[digits] = '\0';
        good = fm_parse_uint64(number, &version) == 0;
    }
    for (const char *part = path; good && part != NULL;) {
        const char *end = strchr(part, '/');
        size_t length = end != NULL ? (size_t)(end - part) : strlen(part);
        good = length > 0 && length <= FILE_PART_MAX && part[0] != '.';
        part = end != NULL ? end + 1 : NULL;
    }
    return good ? 0
                : fm_error_set(reterr, FM_EINVAL,
                               "Invalid file path: 'file:%.200s' does not name a file of a "
                               "version: write 'file:1/model.onnx', with no part that begins with "
                               "a dot or is longer than %d bytes",
                               path, FILE_PART_MAX);
}

static int file_write(const char *directory, const struct fm_catalog_file *file,
                      struct fm_error *reterr)
{
    char path[PATH_SIZE];
    char folder[PATH_SIZE];
    int status = file_check(file, reterr);
    if (status != 0) {
        return status;
    }
    if (fm_path_join(path, sizeof(path), directory, file->path) != 0 ||
        fm_path_directory(folder, sizeof(folder), path) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'file:%.200s': the path is too long",
                            file->path);
    }
    status = fm_file_make_directories(folder, reterr);
    return status == 0 ? fm_file_write_atomic(path, file->data, file->size, reterr) : status;
}

/* Copies what the operation brings. */
static int files_create(const struct fm_catalog_operation *operation,
                        struct fm_catalog_files **ret_files, struct fm_error *reterr)
{
    static atomic_uint_fast64_t numbers;
    if (operation->file_count > FM_CATALOG_FILES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE, "more than %d files", FM_CATALOG_FILES_MAX);
    }
    struct fm_catalog_files *files = fm_alloc_zero(1, sizeof(*files));
    if (files == NULL ||
        (files->config = fm_strndup(operation->config, operation->config_size)) == NULL) {
        fm_free(files);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the configuration");
    }
    files->config_size = operation->config_size;
    files->number = atomic_fetch_add(&numbers, 1) + 1;
    atomic_init(&files->references, 1);
    int status = 0;
    if (operation->file_count > 0) {
        status = fm_file_make_temporary("fermata-model", files->directory, sizeof(files->directory),
                                        reterr);
        if (status != 0) {
            files->directory[0] = '\0';
        }
    }
    for (size_t i = 0; status == 0 && i < operation->file_count; i++) {
        status = file_write(files->directory, &operation->files[i], reterr);
    }
    if (status != 0) {
        fm_catalog_files_unref(files);
        return status;
    }
    *ret_files = files;
    return 0;
}

/* --- One version --- */

static void source_unref(struct fm_catalog_source *source)
{
    if (source != NULL && atomic_fetch_sub(&source->references, 1) == 1) {
        fm_repository_close(&source->repository);
        fm_free(source);
    }
}

static struct fm_catalog_entry *entry_create(struct fm_catalog *catalog, const char *name,
                                             uint64_t version, struct fm_servable *servable,
                                             struct fm_catalog_source *source,
                                             struct fm_catalog_files *files)
{
    struct fm_catalog_entry *entry = fm_alloc_zero(1, sizeof(*entry));
    char *copy = entry != NULL ? fm_strdup(name) : NULL;
    if (copy == NULL) {
        fm_free(entry);
        return NULL;
    }
    const struct fm_model *model = fm_servable_model(servable);
    entry->name = copy;
    entry->version = version;
    entry->servable = servable;
    entry->catalog = catalog;
    entry->signature.name = copy;
    entry->signature.version = version;
    entry->signature.inputs = fm_servable_inputs(servable, &entry->signature.input_count);
    entry->signature.outputs = fm_servable_outputs(servable, &entry->signature.output_count);
    entry->signature.batch_max = model != NULL ? fm_model_batch_max(model) : 0;
    entry->source = source;
    (void)atomic_fetch_add(&source->references, 1);
    entry->files = files;
    if (files != NULL) {
        (void)atomic_fetch_add(&files->references, 1);
    }
    atomic_init(&entry->references, 1);
    (void)atomic_fetch_add(&catalog->entry_count, 1);
    return entry;
}

static void entry_free(struct fm_catalog_entry *entry)
{
    fm_servable_close(entry->servable);
    source_unref(entry->source);
    fm_catalog_files_unref(entry->files);
    (void)atomic_fetch_sub(&entry->catalog->entry_count, 1);
    fm_free((char *)entry->name);
    fm_free(entry);
}

void fm_catalog_entry_release(struct fm_catalog_entry *entry)
{
    const struct fm_catalog_options *options = &entry->catalog->options;
    if (entry->servable != NULL && options->detach != NULL) {
        options->detach(options->context, entry);
    }
    entry_free(entry);
}

static void version_load(struct fm_catalog *catalog, struct fm_catalog_source *source,
                         const char *name, struct fm_catalog_files *files,
                         struct fm_catalog_result *result)
{
    const struct fm_catalog_options *options = &catalog->options;
    struct fm_servable *servable = NULL;
    uint64_t start_ns = fm_os_now_ns();
    int status = fm_servable_open(&source->repository, name, result->version, &options->servable,
                                  &servable, &result->error);
    struct fm_catalog_entry *entry = NULL;
    if (status == 0) {
        entry = entry_create(catalog, name, result->version, servable, source, files);
        if (entry == NULL) {
            fm_servable_close(servable);
            status = fm_error_set(&result->error, FM_ENOMEM, "out of memory");
        }
    }
    if (status == 0 && options->attach != NULL) {
        status = options->attach(options->context, entry, &result->error);
        if (status != 0) {
            entry_free(entry);
        }
    }
    result->load_ns = fm_os_now_ns() - start_ns;
    if (status == 0) {
        entry->load_ns = result->load_ns;
        result->error = (struct fm_error){0};
        result->entry = entry;
    } else {
        result->error.status = status;
    }
}

/* --- One model --- */

static void tell(struct fm_catalog *catalog, struct fm_catalog_job *job, size_t ready,
                 bool finished)
{
    fm_mutex_lock(&catalog->lock);
    job->listed = job->results != NULL;
    job->ready = ready;
    job->finished = finished;
    if (!job->in_news) {
        job->in_news = true;
        job->news_next = catalog->news;
        catalog->news = job;
    }
    fm_catalog_wake(catalog);
    fm_mutex_unlock(&catalog->lock);
}

static bool is_known(const struct fm_catalog_job *job, uint64_t version, uint64_t stamp)
{
    for (size_t i = 0; i < job->known_count; i++) {
        if (job->known[i].version == version && job->known[i].stamp == stamp) {
            return true;
        }
    }
    return false;
}

/* The versions to be had, in job->results. */
static int results_list(struct fm_catalog_job *job, const struct fm_repository *repository,
                        const struct fm_watch_stamps *stamps)
{
    const struct fm_repository_entry *source = &repository->entries[0];
    size_t count = source->kind == FM_REPOSITORY_MODEL ? source->version_count : 1;
    struct fm_catalog_result *results = fm_alloc_zero(count, sizeof(*results));
    if (results == NULL) {
        return fm_error_set(&job->error, FM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t version = source->kind == FM_REPOSITORY_MODEL ? source->versions[i].version : 1;
        uint64_t stamp = fm_watch_stamp_of(stamps, version);
        if (job->files != NULL) {
            stamp = fm_hash_add(stamp, &job->files->number, sizeof(job->files->number));
        }
        results[i].version = version;
        results[i].stamp = stamp;
        results[i].kept = is_known(job, version, stamp);
    }
    job->results = results;
    job->result_count = count;
    return 0;
}

/* Reads the model's directory. */
static int job_read(struct fm_catalog *catalog, struct fm_catalog_job *job,
                    struct fm_repository *repository)
{
    const struct fm_catalog_model *model = job->model;
    const struct fm_watch_root *root = &catalog->roots[model->root];
    struct fm_watch_stamps stamps = {0};
    int status = 0;
    if (atomic_load(&catalog->stopping)) {
        return fm_error_set(&job->error, FM_ECANCELLED, "the server is ending");
    }
    if (job->operation != NULL) {
        status = files_create(job->operation, &job->files, &job->error);
    }
    struct fm_repository_override override = {0};
    if (job->files != NULL) {
        override = (struct fm_repository_override){
            .config = job->files->config,
            .config_size = job->files->config_size,
            .directory = job->files->directory[0] != '\0' ? job->files->directory : NULL};
    }
    /* Before reading, so that what changes meanwhile is seen as a change later. */
    if (status == 0) {
        status = fm_watch_stamps_read(root, model->name, &stamps, &job->error);
        /* Files that came with the operation may be all there is of the model. */
        status = status == FM_ENOTFOUND && override.directory != NULL ? 0 : status;
    }
    job->stamp = stamps.whole;
    if (status == 0) {
        status = fm_repository_read(root->path, model->name, job->files != NULL ? &override : NULL,
                                    repository, &job->error);
    }
    if (status == 0) {
        job->error = (struct fm_error){0};
        status = results_list(job, repository, &stamps);
    }
    fm_watch_stamps_free(&stamps);
    return status;
}

static void job_run(struct fm_catalog *catalog, struct fm_catalog_job *job)
{
    struct fm_catalog_source *source = fm_alloc_zero(1, sizeof(*source));
    int status = source != NULL ? 0 : fm_error_set(&job->error, FM_ENOMEM, "out of memory");
    if (status == 0) {
        atomic_init(&source->references, 1);
        status = job_read(catalog, job, &source->repository);
    }
    if (status != 0) {
        source_unref(source);
        job->error.status = status;
        tell(catalog, job, 0, true);
        return;
    }
    tell(catalog, job, 0, false);
    for (size_t i = 0; i < job->result_count; i++) {
        struct fm_catalog_result *result = &job->results[i];
        if (!result->kept && atomic_load(&catalog->stopping)) {
            (void)fm_error_set(&result->error, FM_ECANCELLED, "the server is ending");
        } else if (!result->kept) {
            version_load(catalog, source, job->model->name, job->files, result);
        }
        tell(catalog, job, i + 1, false);
    }
    source_unref(source);
    tell(catalog, job, job->result_count, true);
}

/* Lets go of one entry that nobody holds; false when there is none. The lock is held, and let go of
 * meanwhile. */
static bool release_one(struct fm_catalog *catalog)
{
    struct fm_catalog_entry *entry = catalog->dead;
    if (entry == NULL) {
        return false;
    }
    catalog->dead = entry->next;
    fm_mutex_unlock(&catalog->lock);
    /* Its name is still to be reported; the rest goes now. */
    if (catalog->options.detach != NULL) {
        catalog->options.detach(catalog->options.context, entry);
    }
    fm_servable_close(entry->servable);
    entry->servable = NULL;
    fm_mutex_lock(&catalog->lock);
    entry->next = catalog->released;
    catalog->released = entry;
    fm_catalog_wake(catalog);
    return true;
}

void fm_catalog_load_run(void *argument)
{
    struct fm_catalog *catalog = argument;
    fm_mutex_lock(&catalog->lock);
    while (!catalog->closing) {
        struct fm_catalog_job *job = catalog->load_first;
        if (job != NULL && release_one(catalog)) {
            /* First: who loads faster than is released would fill the memory with what is on its
             * way out. */
            continue;
        }
        if (job == NULL) {
            fm_condition_wait(&catalog->load_wake, &catalog->lock);
            continue;
        }
        catalog->load_first = job->next;
        catalog->load_last = job->next != NULL ? catalog->load_last : NULL;
        fm_mutex_unlock(&catalog->lock);
        job_run(catalog, job);
        fm_mutex_lock(&catalog->lock);
    }
    fm_mutex_unlock(&catalog->lock);
}

/* --- Chores --- */

static void scan_run(struct fm_catalog *catalog)
{
    bool stamps = catalog->scan_stamps;
    catalog->scan_wanted = false;
    fm_mutex_unlock(&catalog->lock);
    struct fm_watch_scan scan = {0};
    struct fm_error error = {0};
    int status =
        fm_watch_scan_read(catalog->roots, catalog->options.path_count, stamps, &scan, &error);
    fm_mutex_lock(&catalog->lock);
    error.status = status;
    catalog->scan = scan;
    catalog->scan_error = error;
    catalog->scan_done = true;
    fm_catalog_wake(catalog);
}

void fm_catalog_chores_run(void *argument)
{
    struct fm_catalog *catalog = argument;
    fm_mutex_lock(&catalog->lock);
    while (!catalog->closing) {
        if (release_one(catalog)) {
            continue;
        }
        if (catalog->scan_wanted && !catalog->scan_done) {
            scan_run(catalog);
        } else {
            fm_condition_wait(&catalog->chore_wake, &catalog->lock);
        }
    }
    fm_mutex_unlock(&catalog->lock);
}
