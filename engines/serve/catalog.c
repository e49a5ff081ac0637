/*
 * What is served. See catalog.h.
 */
#include "engines/serve/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/os.h"

/* --- Reading the paths --- */

static bool is_wanted(const struct fm_catalog_options *options, const char *name)
{
    for (uint32_t i = 0; i < options->model_count; i++) {
        if (strcmp(options->models[i], name) == 0) {
            return true;
        }
    }
    return options->model_count == 0;
}

static size_t versions_of(const struct fm_repository_entry *entry)
{
    return entry->kind == FM_REPOSITORY_MODEL && entry->error.status == 0 &&
                   entry->version_count > 0
               ? entry->version_count
               : 1;
}

static int entry_compare(const void *a, const void *b)
{
    const struct fm_catalog_entry *left = a;
    const struct fm_catalog_entry *right = b;
    int names = strcmp(left->name, right->name);
    return names != 0                       ? names
           : left->version < right->version ? -1
                                            : left->version > right->version;
}

static void entries_add(struct fm_catalog *catalog, const struct fm_repository *repository)
{
    for (size_t i = 0; i < repository->count; i++) {
        const struct fm_repository_entry *source = &repository->entries[i];
        for (size_t v = 0; is_wanted(&catalog->options, source->name) && v < versions_of(source);
             v++) {
            struct fm_catalog_entry *entry = &catalog->entries[catalog->entry_count++];
            *entry = (struct fm_catalog_entry){
                .catalog = catalog,
                .name = source->name,
                .version = source->version_count > 0 ? source->versions[v].version : 1,
                .repository = repository};
            if (source->error.status != 0) {
                entry->error = source->error;
            }
        }
    }
}

/* Every name that was asked for must be there, and no name twice. */
static int entries_check(const struct fm_catalog *catalog, struct fm_error *reterr)
{
    const struct fm_catalog_options *options = &catalog->options;
    for (size_t i = 1; i < catalog->entry_count; i++) {
        const struct fm_catalog_entry *entry = &catalog->entries[i];
        if (strcmp(entry->name, entry[-1].name) == 0 && entry->repository != entry[-1].repository) {
            return fm_error_set(
                reterr, FM_EEXIST,
                "model '%s' comes from two of the given paths; names must be unique", entry->name);
        }
    }
    for (uint32_t m = 0; m < options->model_count; m++) {
        bool found = false;
        for (size_t i = 0; i < catalog->entry_count && !found; i++) {
            found = strcmp(catalog->entries[i].name, options->models[m]) == 0;
        }
        if (!found) {
            return fm_error_set(reterr, FM_ENOTFOUND, "none of the given paths holds a model '%s'",
                                options->models[m]);
        }
    }
    return catalog->entry_count > 0
               ? 0
               : fm_error_set(reterr, FM_ENOTFOUND,
                              "'%s' holds no model; a model lies in <name>/<version>/model.onnx",
                              options->paths[0]);
}

int fm_catalog_open(struct fm_catalog *catalog, const struct fm_catalog_options *options,
                    struct fm_error *reterr)
{
    *catalog = (struct fm_catalog){.options = *options};
    catalog->repositories = fm_alloc_zero(options->path_count, sizeof(*catalog->repositories));
    int status = catalog->repositories != NULL ? 0 : FM_ENOMEM;
    size_t count = 0;
    for (uint32_t i = 0; i < options->path_count && status == 0; i++) {
        status = fm_repository_open(options->paths[i], &catalog->repositories[i], reterr);
        if (status == 0) {
            catalog->repository_count++;
            for (size_t e = 0; e < catalog->repositories[i].count; e++) {
                count += versions_of(&catalog->repositories[i].entries[e]);
            }
        }
    }
    if (status == 0 && count > FM_CATALOG_ENTRIES_MAX) {
        status = fm_error_set(reterr, FM_ETOOLARGE,
                              "%zu models are more than the %d that one server takes", count,
                              FM_CATALOG_ENTRIES_MAX);
    }
    if (status == 0) {
        catalog->entries = fm_alloc_zero(count, sizeof(*catalog->entries));
        status = catalog->entries != NULL ? 0 : FM_ENOMEM;
    }
    if (status == FM_ENOMEM) {
        (void)fm_error_set(reterr, FM_ENOMEM, "out of memory while reading the models' paths");
    }
    if (status == 0) {
        for (uint32_t i = 0; i < catalog->repository_count; i++) {
            entries_add(catalog, &catalog->repositories[i]);
        }
        if (catalog->entry_count > 0) {
            qsort(catalog->entries, catalog->entry_count, sizeof(*catalog->entries), entry_compare);
        }
        status = entries_check(catalog, reterr);
    }
    if (status != 0) {
        fm_catalog_close(catalog);
    }
    return status;
}

/* --- Loading --- */

/* On the loop: the entry becomes what the loading thread found out. */
static void entry_loaded(struct fm_loop_task *task)
{
    struct fm_catalog_entry *entry = FM_CONTAINER_OF(task, struct fm_catalog_entry, loaded);
    struct fm_servable *servable = entry->loaded_servable;
    entry->state = servable != NULL ? FM_CATALOG_READY : FM_CATALOG_UNAVAILABLE;
    if (servable != NULL) {
        entry->servable = servable;
        entry->loaded_servable = NULL;
        const struct fm_model *model = fm_servable_model(servable);
        entry->signature.name = entry->name;
        entry->signature.version = entry->version;
        entry->signature.inputs = fm_servable_inputs(servable, &entry->signature.input_count);
        entry->signature.outputs = fm_servable_outputs(servable, &entry->signature.output_count);
        entry->signature.batch_max = model != NULL ? fm_model_batch_max(model) : 0;
    }
    entry->catalog->options.loaded(entry->catalog->options.context, entry);
}

static void all_loaded(struct fm_loop_task *task)
{
    struct fm_catalog *catalog = FM_CONTAINER_OF(task, struct fm_catalog, finished);
    catalog->loading = false;
    catalog->options.loaded(catalog->options.context, NULL);
}

static void loader_run(void *argument)
{
    struct fm_catalog *catalog = argument;
    for (size_t i = 0; i < catalog->entry_count && !atomic_load(&catalog->stopping); i++) {
        struct fm_catalog_entry *entry = &catalog->entries[i];
        uint64_t start_ns = fm_os_now_ns();
        if (entry->error.status == 0 &&
            fm_servable_open(entry->repository, entry->name, entry->version,
                             &catalog->options.servable, &entry->loaded_servable,
                             &entry->error) != 0) {
            entry->loaded_servable = NULL;
        }
        entry->load_ns = fm_os_now_ns() - start_ns;
        entry->loaded.run = entry_loaded;
        fm_loop_post(catalog->loop, &entry->loaded);
    }
    catalog->finished.run = all_loaded;
    fm_loop_post(catalog->loop, &catalog->finished);
}

int fm_catalog_load(struct fm_catalog *catalog, struct fm_loop *loop, struct fm_error *reterr)
{
    catalog->loop = loop;
    catalog->loading = true;
    int status = fm_thread_start(&catalog->thread, "fm-load", loader_run, catalog);
    if (status != 0) {
        catalog->loading = false;
        return fm_error_set(reterr, status, "cannot start the thread that loads models");
    }
    return 0;
}

void fm_catalog_stop(struct fm_catalog *catalog)
{
    atomic_store(&catalog->stopping, true);
}

void fm_catalog_close(struct fm_catalog *catalog)
{
    fm_catalog_stop(catalog);
    fm_thread_join(&catalog->thread);
    for (size_t i = 0; i < catalog->entry_count; i++) {
        fm_servable_close(catalog->entries[i].servable);
        fm_servable_close(catalog->entries[i].loaded_servable);
    }
    for (uint32_t i = 0; i < catalog->repository_count; i++) {
        fm_repository_close(&catalog->repositories[i]);
    }
    fm_free(catalog->entries);
    fm_free(catalog->repositories);
    *catalog = (struct fm_catalog){0};
}

/* --- Finding --- */

const char *fm_catalog_state_name(enum fm_catalog_state state)
{
    switch (state) {
    case FM_CATALOG_LOADING:
        return "LOADING";
    case FM_CATALOG_READY:
        return "READY";
    case FM_CATALOG_UNAVAILABLE:
        return "UNAVAILABLE";
    }
    return "UNKNOWN";
}

size_t fm_catalog_count(const struct fm_catalog *catalog, enum fm_catalog_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < catalog->entry_count; i++) {
        count += catalog->entries[i].state == state;
    }
    return count;
}

static int not_found(const struct fm_catalog *catalog, const char *name, struct fm_error *reterr)
{
    const char *nearest = NULL;
    unsigned nearest_distance = 1 + (unsigned)strnlen(name, 64) / 4;
    for (size_t i = 0; i < catalog->entry_count; i++) {
        unsigned distance = fm_text_distance(name, catalog->entries[i].name);
        if (distance <= nearest_distance) {
            nearest = catalog->entries[i].name;
            nearest_distance = distance;
        }
    }
    return nearest != NULL
               ? fm_error_set(
                     reterr, FM_ENOTFOUND,
                     "Request for unknown model: '%.200s' is not found; did you mean '%s'?", name,
                     nearest)
               : fm_error_set(reterr, FM_ENOTFOUND,
                              "Request for unknown model: '%.200s' is not found", name);
}

int fm_catalog_find(struct fm_catalog *catalog, const char *name, uint64_t version,
                    struct fm_catalog_entry **ret_entry, struct fm_error *reterr)
{
    struct fm_catalog_entry *found = NULL;
    bool name_known = false;
    for (size_t i = 0; i < catalog->entry_count; i++) {
        struct fm_catalog_entry *entry = &catalog->entries[i];
        if (strcmp(entry->name, name) != 0) {
            continue;
        }
        name_known = true;
        /* Versions ascend: the last that fits is the highest. A ready one is never replaced by one
         * that is not. */
        if (version == 0 ? found == NULL || entry->state == FM_CATALOG_READY ||
                               found->state != FM_CATALOG_READY
                         : entry->version == version) {
            found = entry;
        }
    }
    if (found == NULL) {
        return name_known
                   ? fm_error_set(reterr, FM_ENOTFOUND,
                                  "Request for unknown model: '%.200s' version %llu is not found",
                                  name, (unsigned long long)version)
                   : not_found(catalog, name, reterr);
    }
    *ret_entry = found;
    if (found->state == FM_CATALOG_READY) {
        return 0;
    }
    return found->state == FM_CATALOG_LOADING
               ? fm_error_set(reterr, FM_EUNAVAILABLE,
                              "model '%s' is not ready: it is being loaded", found->name)
               : fm_error_set(reterr, FM_EUNAVAILABLE, "model '%s' is not ready: %s", found->name,
                              found->error.text);
}
