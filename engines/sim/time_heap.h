/*
 * A heap of times: what happens next, and to whom.
 *
 * Owns: the order, (time, id, tag) ascending, so that equal times have one order everywhere. Does
 * not own: its memory, which is the caller's and large enough (asserted). Four children a node:
 * fewer cache lines than two. Thread rule: one thread at a time for each object.
 */
#ifndef FM_ENGINES_SIM_TIME_HEAP_H
#define FM_ENGINES_SIM_TIME_HEAP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/util/assert.h"

struct fm_time_heap_entry {
    uint64_t time_ns;
    uint32_t id;
    uint32_t tag;
};

struct fm_time_heap {
    struct fm_time_heap_entry *entries;
    uint32_t count;
    uint32_t capacity;
};

static inline bool fm_time_heap_before(const struct fm_time_heap_entry *left,
                                       const struct fm_time_heap_entry *right)
{
    if (left->time_ns != right->time_ns) {
        return left->time_ns < right->time_ns;
    }
    return left->id != right->id ? left->id < right->id : left->tag < right->tag;
}

/* UINT64_MAX when empty. */
static inline uint64_t fm_time_heap_next_ns(const struct fm_time_heap *heap)
{
    return heap->count > 0 ? heap->entries[0].time_ns : UINT64_MAX;
}

static inline void fm_time_heap_sink(struct fm_time_heap *heap, uint32_t place,
                                     struct fm_time_heap_entry entry)
{
    for (;;) {
        uint32_t child = place * 4 + 1;
        if (child >= heap->count) {
            break;
        }
        uint32_t end = heap->count - child < 4 ? heap->count : child + 4;
        uint32_t least = child;
        for (uint32_t i = child + 1; i < end; i++) {
            if (fm_time_heap_before(&heap->entries[i], &heap->entries[least])) {
                least = i;
            }
        }
        if (!fm_time_heap_before(&heap->entries[least], &entry)) {
            break;
        }
        heap->entries[place] = heap->entries[least];
        place = least;
    }
    heap->entries[place] = entry;
}

static inline void fm_time_heap_push(struct fm_time_heap *heap, struct fm_time_heap_entry entry)
{
    FM_ASSERT(heap->count < heap->capacity);
    uint32_t place = heap->count++;
    while (place > 0) {
        uint32_t parent = (place - 1) / 4;
        if (!fm_time_heap_before(&entry, &heap->entries[parent])) {
            break;
        }
        heap->entries[place] = heap->entries[parent];
        place = parent;
    }
    heap->entries[place] = entry;
}

static inline void fm_time_heap_pop(struct fm_time_heap *heap)
{
    FM_ASSERT(heap->count > 0);
    struct fm_time_heap_entry last = heap->entries[--heap->count];
    if (heap->count > 0) {
        fm_time_heap_sink(heap, 0, last);
    }
}

/* The first entry gets another time. */
static inline void fm_time_heap_postpone(struct fm_time_heap *heap, uint64_t time_ns)
{
    struct fm_time_heap_entry entry = heap->entries[0];
    entry.time_ns = time_ns;
    fm_time_heap_sink(heap, 0, entry);
}

#endif
