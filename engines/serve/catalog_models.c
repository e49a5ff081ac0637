/*
 * The models that a catalog knows, with their versions: found, added, let go, forgotten. See
 * catalog_internal.h.
 *
 * Does not own: when that is to happen (catalog_jobs.c, catalog_operations.c, catalog_scan.c).
 * Thread rule: the control thread, but for fm_catalog_model_free.
 */
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_internal.h"
#include "host/os/os.h"

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

struct fm_catalog_model *fm_catalog_model_find(const struct fm_catalog *catalog, const char *name)
{
    size_t place = model_place(catalog, name);
    return place < catalog->model_count && strcmp(catalog->models[place]->name, name) == 0
               ? catalog->models[place]
               : NULL;
}

void fm_catalog_model_free(struct fm_catalog_model *model)
{
    fm_catalog_files_unref(model->files);
    fm_free(model->versions);
    fm_free(model->name);
    fm_free(model);
}

struct fm_catalog_model *fm_catalog_model_add(struct fm_catalog *catalog, const char *name,
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
    fm_catalog_model_free(model);
    catalog->dirty = true;
}

struct fm_catalog_version *fm_catalog_version_find(struct fm_catalog_model *model, uint64_t number)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].number == number) {
            return &model->versions[i];
        }
    }
    return NULL;
}

struct fm_catalog_version *fm_catalog_version_have(struct fm_catalog_model *model, uint64_t number)
{
    struct fm_catalog_version *version = fm_catalog_version_find(model, number);
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

void fm_catalog_version_retire(struct fm_catalog *catalog, struct fm_catalog_version *version)
{
    struct fm_catalog_entry *entry = version->entry;
    if (entry != NULL) {
        version->entry = NULL;
        version->leaving = entry;
        catalog->dirty = true;
        fm_catalog_entry_unref(entry);
    }
}

bool fm_catalog_model_answers(const struct fm_catalog_model *model)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].entry != NULL) {
            return true;
        }
    }
    return false;
}

void fm_catalog_model_tidy(struct fm_catalog *catalog, struct fm_catalog_model *model)
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
