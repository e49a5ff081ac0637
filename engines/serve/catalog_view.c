/*
 * Views: one block of memory each, looked up by a hash of the name. See catalog_view.h.
 */
#include "engines/serve/catalog_view.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "core/util/text.h"

/* Comparing a name with all of more would hold up the loop for longer than the hint is worth. */
#define SUGGESTED_ROWS_MAX 1000

/* Names come from the directories of whoever runs the server; a look-up compares them in full, and
 * strangers' names only ever miss. */
static size_t slot_of(const struct fm_catalog_view *view, const char *name)
{
    return (size_t)fm_hash_add(FM_HASH_START, name, strlen(name)) & view->slot_mask;
}

static void slots_fill(struct fm_catalog_view *view)
{
    for (size_t i = 0; i < view->row_count; i++) {
        if (i > 0 && strcmp(view->rows[i - 1].name, view->rows[i].name) == 0) {
            continue;
        }
        size_t slot = slot_of(view, view->rows[i].name);
        while (view->slots[slot] != 0) {
            slot = (slot + 1) & view->slot_mask;
        }
        view->slots[slot] = (uint32_t)(i + 1);
    }
}

static const char *text_put(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);
    *at += size;
    return copy;
}

struct fm_catalog_view *fm_catalog_view_create(const struct fm_catalog_row *rows, size_t count)
{
    size_t slot_count = 2;
    size_t text_bytes = 0;
    while (slot_count < count * 2) {
        slot_count *= 2;
    }
    for (size_t i = 0; i < count; i++) {
        text_bytes += strlen(rows[i].name) + strlen(rows[i].reason) + 2;
    }
    size_t rows_bytes = count * sizeof(*rows);
    size_t slots_bytes = slot_count * sizeof(uint32_t);
    struct fm_catalog_view *view = fm_alloc(sizeof(*view) + rows_bytes + slots_bytes + text_bytes);
    if (view == NULL) {
        return NULL;
    }
    struct fm_catalog_row *copies = (struct fm_catalog_row *)(view + 1);
    uint32_t *slots = (uint32_t *)((char *)copies + rows_bytes);
    char *texts = (char *)slots + slots_bytes;
    memset(slots, 0, slots_bytes);
    *view = (struct fm_catalog_view){
        .rows = copies, .row_count = count, .slots = slots, .slot_mask = slot_count - 1};
    for (size_t i = 0; i < count; i++) {
        copies[i] = rows[i];
        copies[i].name = i > 0 && strcmp(rows[i].name, rows[i - 1].name) == 0
                             ? copies[i - 1].name
                             : text_put(&texts, rows[i].name);
        copies[i].reason = text_put(&texts, rows[i].reason);
        FM_ASSERT((rows[i].state == FM_CATALOG_READY) == (rows[i].entry != NULL));
        if (rows[i].entry != NULL) {
            fm_catalog_entry_ref(rows[i].entry);
        }
        view->counts[rows[i].state]++;
    }
    slots_fill(view);
    return view;
}

void fm_catalog_view_free(struct fm_catalog_view *view)
{
    for (size_t i = 0; view != NULL && i < view->row_count; i++) {
        if (view->rows[i].entry != NULL) {
            fm_catalog_entry_unref(view->rows[i].entry);
        }
    }
    fm_free(view);
}

/* --- Looking up --- */

const struct fm_catalog_row *fm_catalog_view_rows(const struct fm_catalog_view *view,
                                                  const char *name, size_t *ret_count)
{
    for (size_t slot = slot_of(view, name); view->slots[slot] != 0;
         slot = (slot + 1) & view->slot_mask) {
        size_t first = view->slots[slot] - 1;
        const char *found = view->rows[first].name;
        if (strcmp(found, name) != 0) {
            continue;
        }
        size_t end = first + 1;
        while (end < view->row_count && view->rows[end].name == found) {
            end++;
        }
        *ret_count = end - first;
        return &view->rows[first];
    }
    *ret_count = 0;
    return NULL;
}

static int unknown(const struct fm_catalog_view *view, const char *name, struct fm_error *reterr)
{
    const char *nearest = NULL;
    for (size_t i = 0; view->row_count <= SUGGESTED_ROWS_MAX && i < view->row_count; i++) {
        if (i == 0 || view->rows[i].name != view->rows[i - 1].name) {
            nearest = fm_text_suggest_next(name, nearest, view->rows[i].name);
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

/* Why none of the rows answers: the newest that is meant to. */
static int not_ready(const struct fm_catalog_row *rows, size_t count, uint64_t version,
                     struct fm_error *reterr)
{
    const struct fm_catalog_row *row = NULL;
    for (size_t i = 0; i < count; i++) {
        row = version == 0 || rows[i].version == version ? &rows[i] : row;
    }
    if (row == NULL) {
        /* Before its directory was read, a model has one row without a version. */
        row = rows[0].version == 0 ? &rows[0] : NULL;
    }
    if (row == NULL) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "Request for unknown model: '%s' version %llu is not found",
                            rows[0].name, (unsigned long long)version);
    }
    if (row->state == FM_CATALOG_LOADING) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "model '%s' is not ready: it is being loaded",
                            row->name);
    }
    if (!row->wanted) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "Request for unknown model: '%s' is not found: it is in the "
                            "repository, but not loaded",
                            row->name);
    }
    return fm_error_set(reterr, FM_EUNAVAILABLE, "model '%s' is not ready: %s", row->name,
                        row->reason);
}

int fm_catalog_view_find(const struct fm_catalog_view *view, const char *name, uint64_t version,
                         struct fm_catalog_entry **ret_entry, struct fm_error *reterr)
{
    size_t count = 0;
    const struct fm_catalog_row *rows = fm_catalog_view_rows(view, name, &count);
    if (rows == NULL) {
        return unknown(view, name, reterr);
    }
    for (size_t i = count; i-- > 0;) {
        if (rows[i].entry != NULL && (version == 0 || rows[i].version == version)) {
            *ret_entry = rows[i].entry;
            return 0;
        }
    }
    return not_ready(rows, count, version, reterr);
}

bool fm_catalog_view_is_ready(const struct fm_catalog_view *view, bool strict)
{
    return view->started && (strict ? view->models_ready == view->models_wanted
                                    : view->models_ready > 0 || view->models_wanted == 0);
}

const char *fm_catalog_state_name(enum fm_catalog_state state)
{
    switch (state) {
    case FM_CATALOG_LOADING:
        return "LOADING";
    case FM_CATALOG_READY:
        return "READY";
    case FM_CATALOG_UNLOADING:
        return "UNLOADING";
    case FM_CATALOG_UNAVAILABLE:
        return "UNAVAILABLE";
    case FM_CATALOG_STATE_COUNT_:
        break;
    }
    return "UNKNOWN";
}
