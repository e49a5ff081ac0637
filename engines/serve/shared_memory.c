/*
 * Regions of shared memory by name. See shared_memory.h. A region is freed by the buffer that
 * stands for its bytes, when nobody refers to that any more.
 */
#include "engines/serve/shared_memory.h"

#include <string.h>

#include "core/util/error.h"
#include "host/os/shared_memory.h"

struct fm_shared_region {
    char *name;
    char *key;
    struct fm_shared_memory memory;
    struct fm_buffer *buffer; /* the table's reference */
};

static void region_free(void *context)
{
    struct fm_shared_region *region = context;
    fm_shared_memory_close(&region->memory);
    fm_free(region->name);
    fm_free(region->key);
    fm_free(region);
}

void fm_shared_regions_init(struct fm_shared_regions *regions)
{
    *regions = (struct fm_shared_regions){0};
    fm_mutex_init(&regions->mutex);
}

/* Where the name is, or belongs. With the lock held. */
static size_t place(const struct fm_shared_regions *regions, const char *name, bool *ret_found)
{
    size_t low = 0;
    size_t high = regions->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(regions->list[middle]->name, name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* False: it is frozen, and that counts. */
static bool remove_named(struct fm_shared_regions *regions, const char *name, bool even_frozen)
{
    bool all = name == NULL || name[0] == '\0';
    bool found = true;
    while (found) {
        struct fm_shared_region *region = NULL;
        fm_mutex_lock(&regions->mutex);
        if (regions->frozen && !even_frozen) {
            fm_mutex_unlock(&regions->mutex);
            return false;
        }
        size_t at = all ? regions->count : place(regions, name, &found);
        if (all) {
            found = regions->count > 0;
            at = found ? regions->count - 1 : 0;
        }
        if (found) {
            region = regions->list[at];
            regions->count--;
            memmove(regions->list + at, regions->list + at + 1,
                    (regions->count - at) * sizeof(struct fm_shared_region *));
        }
        fm_mutex_unlock(&regions->mutex);
        if (region != NULL) {
            /* Without the lock: the last reference unmaps. */
            fm_buffer_unref(region->buffer);
        }
        found = found && all;
    }
    return true;
}

void fm_shared_regions_freeze(struct fm_shared_regions *regions, bool frozen)
{
    fm_mutex_lock(&regions->mutex);
    regions->frozen = frozen;
    fm_mutex_unlock(&regions->mutex);
}

static int frozen_error(struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EAGAIN,
                        "this server is being replaced by a new one: try again, on a new "
                        "connection");
}

void fm_shared_regions_deinit(struct fm_shared_regions *regions)
{
    (void)remove_named(regions, NULL, true);
    fm_free(regions->list);
    fm_mutex_deinit(&regions->mutex);
    *regions = (struct fm_shared_regions){0};
}

/* With the lock held. Takes the region on success. */
static int insert(struct fm_shared_regions *regions, struct fm_shared_region *region,
                  struct fm_error *reterr)
{
    bool found = false;
    size_t at = place(regions, region->name, &found);
    if (regions->frozen) {
        return frozen_error(reterr);
    }
    if (found) {
        return fm_error_set(reterr, FM_EEXIST,
                            "shared memory region '%s' already in manager; unregister it first",
                            region->name);
    }
    if (regions->count == FM_SHARED_REGIONS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "%d shared memory regions are registered, and more are not accepted",
                            FM_SHARED_REGIONS_MAX);
    }
    if (regions->count == regions->capacity) {
        size_t capacity = regions->capacity > 0 ? 2 * regions->capacity : 16;
        void *list = fm_realloc(regions->list, capacity * sizeof(struct fm_shared_region *));
        if (list == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for a shared memory region");
        }
        regions->list = list;
        regions->capacity = capacity;
    }
    memmove(regions->list + at + 1, regions->list + at,
            (regions->count - at) * sizeof(struct fm_shared_region *));
    regions->list[at] = region;
    regions->count++;
    return 0;
}

/* Everything but the table. On failure nothing is left. */
static int region_make(const struct fm_messages_region *row, struct fm_shared_region **ret_region,
                       struct fm_error *reterr)
{
    struct fm_shared_region *region = fm_alloc_zero(1, sizeof(*region));
    if (region == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a shared memory region");
    }
    region->memory.descriptor = -1;
    region->name = fm_strdup(row->name);
    region->key = fm_strdup(row->key);
    int status =
        region->name != NULL && region->key != NULL
            ? fm_shared_memory_open(&region->memory, row->key, row->offset, row->size, reterr)
            : fm_error_set(reterr, FM_ENOMEM, "out of memory for a shared memory region");
    if (status == 0) {
        region->buffer =
            fm_buffer_wrap(region->memory.data, region->memory.size, region_free, region);
        if (region->buffer == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "out of memory for a shared memory region");
        }
    }
    if (status != 0) {
        region_free(region);
        return status;
    }
    *ret_region = region;
    return 0;
}

/* Lists of regions go to other clients, who must be able to read them. */
static bool is_utf8(const char *text)
{
    size_t length = strlen(text);
    for (size_t at = 0; at < length;) {
        size_t sequence = fm_utf8_sequence(text + at, length - at);
        if (sequence == 0) {
            return false;
        }
        at += sequence;
    }
    return true;
}

int fm_shared_regions_register(struct fm_shared_regions *regions,
                               const struct fm_messages_region *row, struct fm_error *reterr)
{
    struct fm_shared_region *region = NULL;
    size_t length = strlen(row->name);
    if (regions->refused) {
        return fm_error_set(reterr, FM_EPERM,
                            "clients may not register shared memory here; whoever runs this server "
                            "can allow it with --allow-client-shm");
    }
    if (length == 0 || length > FM_OIP_REGION_BYTES_MAX || !is_utf8(row->name) ||
        !is_utf8(row->key)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a shared memory region needs a name of 1 to %d bytes and a key, both "
                            "UTF-8",
                            FM_OIP_REGION_BYTES_MAX);
    }
    int status = region_make(row, &region, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "failed to register shared memory region '%s'",
                               row->name);
    }
    fm_mutex_lock(&regions->mutex);
    status = insert(regions, region, reterr);
    fm_mutex_unlock(&regions->mutex);
    if (status != 0) {
        fm_buffer_unref(region->buffer);
    }
    return status;
}

int fm_shared_regions_unregister(struct fm_shared_regions *regions, const char *name,
                                 struct fm_error *reterr)
{
    return remove_named(regions, name, false) ? 0 : frozen_error(reterr);
}

int fm_shared_regions_list(struct fm_shared_regions *regions, const char *name,
                           struct fm_arena *arena, struct fm_messages_region **ret_rows,
                           size_t *ret_count, struct fm_error *reterr)
{
    bool all = name == NULL || name[0] == '\0';
    bool found = true;
    bool failed = false;
    fm_mutex_lock(&regions->mutex);
    size_t first = all ? 0 : place(regions, name, &found);
    size_t count = all ? regions->count : found;
    struct fm_messages_region *rows = fm_arena_alloc(arena, (count + 1) * sizeof(*rows));
    for (size_t i = 0; rows != NULL && i < count; i++) {
        const struct fm_shared_region *region = regions->list[first + i];
        rows[i] = (struct fm_messages_region){.name = fm_arena_strdup(arena, region->name),
                                              .key = fm_arena_strdup(arena, region->key),
                                              .offset = region->memory.offset,
                                              .size = region->memory.size};
        failed = failed || rows[i].name == NULL || rows[i].key == NULL;
    }
    fm_mutex_unlock(&regions->mutex);
    if (!found) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "Unable to find system shared memory region: '%.255s'", name);
    }
    if (rows == NULL || failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of regions");
    }
    *ret_rows = rows;
    *ret_count = count;
    return 0;
}

int fm_shared_regions_resolve(void *context, const char *name, uint64_t offset, uint64_t size,
                              bool writable, struct fm_value *ret_value, struct fm_error *reterr)
{
    struct fm_shared_regions *regions = context;
    struct fm_shared_region *region = NULL;
    bool found = false;
    fm_mutex_lock(&regions->mutex);
    size_t at = place(regions, name, &found);
    if (found) {
        region = regions->list[at];
        (void)fm_buffer_ref(region->buffer);
    }
    fm_mutex_unlock(&regions->mutex);
    if (region == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "Unable to find shared memory region: '%s'", name);
    }
    const struct fm_shared_memory *memory = &region->memory;
    int status = 0;
    if (offset > memory->size || size > memory->size - offset) {
        status =
            fm_error_set(reterr, FM_EINVAL,
                         "Invalid offset + byte size for shared memory region: '%s' (%llu + "
                         "%llu of its %zu bytes)",
                         name, (unsigned long long)offset, (unsigned long long)size, memory->size);
    } else if (writable && !memory->writable) {
        status =
            fm_error_set(reterr, FM_EPERM,
                         "shared memory region '%s' may be read only: this server has no right "
                         "to write to its object '%s'",
                         name, region->key);
    } else if (!fm_shared_memory_intact(memory)) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "the object '%s' of shared memory region '%s' has been made smaller "
                              "since it was registered; register it again",
                              region->key, name);
    }
    if (status != 0) {
        fm_buffer_unref(region->buffer);
        return status;
    }
    ret_value->tensor.data = (char *)memory->data + offset;
    ret_value->tensor.size = (size_t)size;
    ret_value->buffer = region->buffer;
    return 0;
}
