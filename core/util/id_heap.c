/*
 * A heap of ids. See id_heap.h.
 */
#include "core/util/id_heap.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

#define CHILDREN 4u
#define ABSENT   UINT32_MAX

int fm_id_heap_init(struct fm_id_heap *heap, uint32_t bound, uint32_t *positions)
{
    *heap = (struct fm_id_heap){.bound = bound};
    heap->entries = fm_alloc((size_t)bound * sizeof *heap->entries);
    heap->positions = positions;
    if (positions == NULL) {
        heap->positions = fm_alloc((size_t)bound * sizeof *heap->positions);
        heap->positions_owned = true;
    }
    if (heap->entries == NULL || heap->positions == NULL) {
        fm_id_heap_deinit(heap);
        return FM_ENOMEM;
    }
    if (positions == NULL) {
        memset(heap->positions, 0xff, (size_t)bound * sizeof *heap->positions);
    }
    return 0;
}

int fm_id_heap_grow(struct fm_id_heap *heap, uint32_t bound)
{
    FM_ASSERT(heap->positions_owned && bound >= heap->bound);
    struct fm_id_heap_entry *entries =
        fm_realloc(heap->entries, (size_t)bound * sizeof *heap->entries);
    if (entries == NULL) {
        return FM_ENOMEM;
    }
    heap->entries = entries;
    uint32_t *positions = fm_realloc(heap->positions, (size_t)bound * sizeof *heap->positions);
    if (positions == NULL) {
        return FM_ENOMEM;
    }
    memset(positions + heap->bound, 0xff, (size_t)(bound - heap->bound) * sizeof *positions);
    heap->positions = positions;
    heap->bound = bound;
    return 0;
}

void fm_id_heap_deinit(struct fm_id_heap *heap)
{
    fm_free(heap->entries);
    if (heap->positions_owned) {
        fm_free(heap->positions);
    }
    *heap = (struct fm_id_heap){0};
}

static bool before(struct fm_id_heap_entry left, struct fm_id_heap_entry right)
{
    return left.key < right.key || (left.key == right.key && left.id < right.id);
}

static void place(struct fm_id_heap *heap, uint32_t position, struct fm_id_heap_entry entry)
{
    heap->entries[position] = entry;
    heap->positions[entry.id] = position;
}

/* Moves `entry`, whose home would be `position`, towards the root. Returns where it came to rest.
 */
static uint32_t sift_up(struct fm_id_heap *heap, uint32_t position, struct fm_id_heap_entry entry)
{
    while (position > 0) {
        uint32_t parent = (position - 1) / CHILDREN;
        if (!before(entry, heap->entries[parent])) {
            break;
        }
        place(heap, position, heap->entries[parent]);
        position = parent;
    }
    place(heap, position, entry);
    return position;
}

static void sift_down(struct fm_id_heap *heap, uint32_t position, struct fm_id_heap_entry entry)
{
    for (;;) {
        uint32_t child = position * CHILDREN + 1;
        if (child >= heap->count) {
            break;
        }
        uint32_t end = child + CHILDREN < heap->count ? child + CHILDREN : heap->count;
        uint32_t least = child;
        while (++child < end) {
            if (before(heap->entries[child], heap->entries[least])) {
                least = child;
            }
        }
        if (!before(heap->entries[least], entry)) {
            break;
        }
        place(heap, position, heap->entries[least]);
        position = least;
    }
    place(heap, position, entry);
}

void fm_id_heap_set(struct fm_id_heap *heap, uint32_t id, uint64_t key)
{
    FM_ASSERT(id < heap->bound);
    uint32_t position = heap->positions[id];
    struct fm_id_heap_entry entry = {key, id};
    if (position == ABSENT) {
        (void)sift_up(heap, heap->count++, entry);
    } else if (key != heap->entries[position].key && sift_up(heap, position, entry) == position) {
        sift_down(heap, position, entry);
    }
}

void fm_id_heap_remove(struct fm_id_heap *heap, uint32_t id)
{
    FM_ASSERT(id < heap->bound);
    uint32_t position = heap->positions[id];
    FM_ASSERT(position < heap->count);
    heap->positions[id] = ABSENT;
    struct fm_id_heap_entry last = heap->entries[--heap->count];
    if (last.id == id) {
        return;
    }
    if (sift_up(heap, position, last) == position) {
        sift_down(heap, position, last);
    }
}

bool fm_id_heap_holds(const struct fm_id_heap *heap, uint32_t id)
{
    return id < heap->bound && heap->positions[id] != ABSENT;
}

uint32_t fm_id_heap_count_below(const struct fm_id_heap *heap, uint64_t key, uint32_t most)
{
    /* Depth first through the nodes that are below: their parents are, too. */
    uint32_t count = 0;
    uint32_t position = 0;
    while (count < most && position < heap->count) {
        if (heap->entries[position].key < key) {
            count++;
            if (position * CHILDREN + 1 < heap->count) {
                position = position * CHILDREN + 1;
                continue;
            }
        }
        /* The next sibling, or that of the nearest ancestor that has one. */
        while (position > 0 && (position % CHILDREN == 0 || position + 1 >= heap->count)) {
            position = (position - 1) / CHILDREN;
        }
        if (position == 0) {
            break;
        }
        position++;
    }
    return count;
}

uint32_t fm_id_heap_about_below(const struct fm_id_heap *heap, uint64_t key, uint32_t most)
{
    uint32_t enough = most < FM_ID_HEAP_SAMPLE ? most : FM_ID_HEAP_SAMPLE;
    uint32_t exact = fm_id_heap_count_below(heap, key, enough);
    if (exact < FM_ID_HEAP_SAMPLE) {
        return exact;
    }
    /* Keys fall into the array's parts by their rank: samples have to come from all of it. */
    uint32_t stride = heap->count / FM_ID_HEAP_SAMPLE;
    uint32_t samples = 0;
    uint32_t below = 0;
    for (uint32_t i = 0; i < heap->count; i += stride) {
        samples++;
        below += heap->entries[i].key < key ? 1u : 0u;
    }
    uint32_t about = (uint32_t)((uint64_t)below * heap->count / samples);
    about = about > exact ? about : exact;
    return about < most ? about : most;
}

bool fm_id_heap_validate(const struct fm_id_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++) {
        if (heap->entries[i].id >= heap->bound || heap->positions[heap->entries[i].id] != i ||
            (i > 0 && before(heap->entries[i], heap->entries[(i - 1) / CHILDREN]))) {
            return false;
        }
    }
    return true;
}
