/*
 * A min-heap of ids below a bound, each at most once, ordered by (key, id).
 *
 * Owns: the order, and where each id stands. Does not own: what the ids and keys mean. Thread rule:
 * pure; one thread at a time. Four children per node: fewer cache lines per level than two, and
 * most moves are short ones towards the root.
 */
#ifndef FM_CORE_UTIL_ID_HEAP_H
#define FM_CORE_UTIL_ID_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_id_heap_entry {
    uint64_t key;
    uint32_t id;
};

struct fm_id_heap {
    struct fm_id_heap_entry *entries;
    uint32_t *positions; /* by id; UINT32_MAX: not in the heap. May be shared by several heaps of
                            which an id is in at most one */
    uint32_t count;
    uint32_t bound;
    bool positions_owned;
};

/* Room for all ids below `bound`. `positions`: NULL, or an array of `bound` elements that are all
 * UINT32_MAX, borrowed for the heap's life. FM_ENOMEM. */
int FM_NODISCARD fm_id_heap_init(struct fm_id_heap *heap, uint32_t bound, uint32_t *positions);
/* Room for more ids. For a heap that owns its positions. FM_ENOMEM: the heap is as it was. */
int FM_NODISCARD fm_id_heap_grow(struct fm_id_heap *heap, uint32_t bound);
void fm_id_heap_deinit(struct fm_id_heap *heap); /* accepts a zeroed one */

/* Puts `id` in, or changes its key. */
void fm_id_heap_set(struct fm_id_heap *heap, uint32_t id, uint64_t key);
void fm_id_heap_remove(struct fm_id_heap *heap, uint32_t id); /* it must be in */
bool fm_id_heap_holds(const struct fm_id_heap *heap, uint32_t id);

static inline bool fm_id_heap_empty(const struct fm_id_heap *heap)
{
    return heap->count == 0;
}

/* The least entry; the heap must not be empty. */
static inline struct fm_id_heap_entry fm_id_heap_first(const struct fm_id_heap *heap)
{
    return heap->entries[0];
}

/* How many keys are less than `key`, counted up to `most`. O(result). */
uint32_t fm_id_heap_count_below(const struct fm_id_heap *heap, uint64_t key, uint32_t most);
/* The same, exact below FM_ID_HEAP_SAMPLE and estimated from as many samples above. O(1). */
#define FM_ID_HEAP_SAMPLE 64u
uint32_t fm_id_heap_about_below(const struct fm_id_heap *heap, uint64_t key, uint32_t most);

bool fm_id_heap_validate(const struct fm_id_heap *heap);

#endif
