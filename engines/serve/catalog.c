/*
 * The catalog's life, and what others ask of it. See catalog.h.
 */
#include "engines/serve/catalog.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"
#include "host/os/file.h"
#include "host/os/os.h"

#define LOAD_THREADS_DEFAULT 2

/* --- Holding --- */

void fm_catalog_files_unref(struct fm_catalog_files *files)
{
    if (files == NULL || atomic_fetch_sub(&files->references, 1) > 1) {
        return;
    }
    if (files->directory[0] != '\0') {
        /* A copy in a temporary directory; what cannot be removed is left to the system. */
        int status = fm_file_remove_tree(files->directory, NULL);
        (void)status;
    }
    fm_free(files->config);
    fm_free(files);
}

void fm_catalog_entry_ref(struct fm_catalog_entry *entry)
{
    unsigned before = atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
    FM_ASSERT(before > 0);
}

void fm_catalog_entry_unref(struct fm_catalog_entry *entry)
{
    struct fm_catalog *catalog = entry->catalog;
    unsigned before = atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel);
    FM_ASSERT(before > 0);
    if (before == 1) {
        fm_mutex_lock(&catalog->lock);
        entry->next = catalog->dead;
        catalog->dead = entry;
        fm_condition_signal(&catalog->chore_wake);
        fm_mutex_unlock(&catalog->lock);
    }
}

const char *fm_catalog_entry_override(const struct fm_catalog_entry *entry,
                                      const char **ret_directory)
{
    const struct fm_catalog_files *files = entry->files;
    *ret_directory = files != NULL && files->directory[0] != '\0' ? files->directory : NULL;
    return files != NULL ? files->config : NULL;
}

struct fm_catalog_operation *fm_catalog_operation_part_end(struct fm_catalog_operation *operation)
{
    struct fm_catalog_operation *whole = operation->whole != NULL ? operation->whole : operation;
    if (operation != whole) {
        fm_free(operation);
    }
    if (whole->parts > 0) {
        whole->parts--;
    }
    return whole->parts == 0 ? whole : NULL;
}

/* --- Asking --- */

void fm_catalog_add_reader(struct fm_catalog *catalog, struct fm_catalog_reader *reader,
                           struct fm_loop *loop)
{
    fm_mutex_lock(&catalog->lock);
    FM_ASSERT(catalog->reader_count < FM_CATALOG_READERS_MAX);
    *reader = (struct fm_catalog_reader){.catalog = catalog,
                                         .loop = loop,
                                         .view = catalog->current,
                                         .seen = catalog->current->generation};
    catalog->readers[catalog->reader_count++] = reader;
    fm_mutex_unlock(&catalog->lock);
}

static void refused(struct fm_loop_task *task)
{
    struct fm_catalog_operation *operation =
        FM_CONTAINER_OF(task, struct fm_catalog_operation, task);
    operation->done(operation);
}

/* Answers what does not reach the control thread any more. */
static void refuse(struct fm_catalog_operation *operation, int status, const char *text)
{
    (void)fm_error_set(&operation->error, status, "%s", text);
    operation->task.run = refused;
    fm_loop_post(operation->reader->loop, &operation->task);
}

void fm_catalog_submit(struct fm_catalog *catalog, struct fm_catalog_operation *operation)
{
    FM_ASSERT(operation->reader != NULL && operation->done != NULL);
    operation->whole = NULL;
    operation->parts = 0;
    operation->begun = false;
    fm_mutex_lock(&catalog->lock);
    /* START and STOP are the server's own, and are never too many. */
    bool full = catalog->operation_count >= FM_CATALOG_OPERATIONS_MAX &&
                operation->kind != FM_CATALOG_START && operation->kind != FM_CATALOG_STOP;
    if (!full) {
        catalog->operation_count++;
        operation->next = catalog->inbox;
        catalog->inbox = operation;
        fm_catalog_wake(catalog);
    }
    fm_mutex_unlock(&catalog->lock);
    if (full) {
        refuse(operation, FM_EAGAIN, "too many loads and unloads are waiting; try again later");
    }
}

void fm_catalog_stats_read(const struct fm_catalog *catalog, struct fm_catalog_stats *ret_stats)
{
    *ret_stats = (struct fm_catalog_stats){.loads = atomic_load(&catalog->loads),
                                           .load_failures = atomic_load(&catalog->load_failures),
                                           .releases = atomic_load(&catalog->releases),
                                           .polls = atomic_load(&catalog->polls_done),
                                           .poll_failures = atomic_load(&catalog->poll_failures),
                                           .views = atomic_load(&catalog->views),
                                           .load_ns_total = atomic_load(&catalog->load_ns_total)};
}

/* --- Life --- */

static int roots_read(struct fm_catalog *catalog, struct fm_error *reterr)
{
    const struct fm_catalog_options *options = &catalog->options;
    catalog->roots = fm_alloc_zero(options->path_count, sizeof(*catalog->roots));
    if (catalog->roots == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the models' paths");
    }
    for (uint32_t i = 0; i < options->path_count; i++) {
        struct fm_repository_names names = {0};
        int status = fm_repository_list(options->paths[i], &names, reterr);
        if (status != 0) {
            return status;
        }
        catalog->roots[i] = (struct fm_watch_root){options->paths[i], names.single, NULL};
        if (names.single) {
            catalog->roots[i].name = names.names[0];
            names.names[0] = NULL;
        }
        fm_repository_names_free(&names);
    }
    return 0;
}

static int threads_start(struct fm_catalog *catalog, struct fm_error *reterr)
{
    uint32_t wanted = catalog->options.load_threads;
    wanted = wanted == 0 ? LOAD_THREADS_DEFAULT : wanted;
    wanted = wanted > FM_CATALOG_THREADS_MAX ? FM_CATALOG_THREADS_MAX : wanted;
    int status = fm_thread_start(&catalog->control, "fm-catalog", fm_catalog_control_run, catalog);
    if (status == 0) {
        status = fm_thread_start(&catalog->chores, "fm-release", fm_catalog_chores_run, catalog);
    }
    for (uint32_t i = 0; i < wanted && status == 0; i++) {
        status = fm_thread_start(&catalog->loaders[i], "fm-load", fm_catalog_load_run, catalog);
        catalog->loader_count += status == 0 ? 1 : 0;
    }
    return status == 0 ? 0
                       : fm_error_set(reterr, status, "cannot start the threads that load models");
}

int fm_catalog_open(const struct fm_catalog_options *options, struct fm_catalog **ret_catalog,
                    struct fm_error *reterr)
{
    FM_ASSERT(options->path_count > 0);
    struct fm_catalog *catalog = fm_alloc_zero(1, sizeof(*catalog));
    if (catalog == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the models' paths");
    }
    catalog->options = *options;
    fm_mutex_init(&catalog->lock);
    fm_condition_init(&catalog->control_wake);
    fm_condition_init(&catalog->load_wake);
    fm_condition_init(&catalog->chore_wake);
    int status = roots_read(catalog, reterr);
    status = status == 0 ? fm_catalog_control_init(catalog, reterr) : status;
    status = status == 0 ? threads_start(catalog, reterr) : status;
    if (status != 0) {
        fm_catalog_close(catalog);
        return status;
    }
    *ret_catalog = catalog;
    return 0;
}

static void threads_end(struct fm_catalog *catalog)
{
    atomic_store(&catalog->stopping, true);
    fm_mutex_lock(&catalog->lock);
    catalog->closing = true;
    fm_condition_broadcast(&catalog->control_wake);
    fm_condition_broadcast(&catalog->load_wake);
    fm_condition_broadcast(&catalog->chore_wake);
    fm_mutex_unlock(&catalog->lock);
    fm_thread_join(&catalog->control);
    fm_thread_join(&catalog->chores);
    for (uint32_t i = 0; i < catalog->loader_count; i++) {
        fm_thread_join(&catalog->loaders[i]);
    }
}

static void refuse_all(struct fm_catalog_operation *operations)
{
    while (operations != NULL) {
        struct fm_catalog_operation *next = operations->next;
        struct fm_catalog_operation *whole = fm_catalog_operation_part_end(operations);
        if (whole != NULL) {
            refuse(whole, FM_EUNAVAILABLE, "the server is ending");
        }
        operations = next;
    }
}

/* What nobody will come to any more is answered, and what was posted to the loops runs: it refers
 * to what is about to go. */
static void operations_end(struct fm_catalog *catalog)
{
    refuse_all(catalog->inbox);
    refuse_all(catalog->start);
    refuse_all(catalog->stop);
    refuse_all(catalog->polls);
    refuse_all(catalog->polling);
    for (size_t i = 0; i < catalog->model_count; i++) {
        refuse_all(catalog->models[i]->operations);
    }
    while (catalog->finishing != NULL) {
        struct fm_catalog_operation *operation = catalog->finishing;
        catalog->finishing = operation->next;
        operation->task.run = refused;
        fm_loop_post(operation->reader->loop, &operation->task);
    }
    for (uint32_t i = 0; i < catalog->reader_count; i++) {
        fm_loop_run_posted(catalog->readers[i]->loop);
    }
}

void fm_catalog_close(struct fm_catalog *catalog)
{
    if (catalog == NULL) {
        return;
    }
    threads_end(catalog);
    operations_end(catalog);
    fm_catalog_control_deinit(catalog);
    while (catalog->dead != NULL || catalog->released != NULL) {
        struct fm_catalog_entry **list =
            catalog->dead != NULL ? &catalog->dead : &catalog->released;
        struct fm_catalog_entry *entry = *list;
        *list = entry->next;
        fm_catalog_entry_release(entry);
    }
    FM_ASSERT(atomic_load(&catalog->entry_count) == 0);
    for (uint32_t i = 0; catalog->roots != NULL && i < catalog->options.path_count; i++) {
        fm_free((char *)catalog->roots[i].name);
    }
    fm_free(catalog->roots);
    fm_condition_deinit(&catalog->control_wake);
    fm_condition_deinit(&catalog->load_wake);
    fm_condition_deinit(&catalog->chore_wake);
    fm_mutex_deinit(&catalog->lock);
    fm_free(catalog);
}
