/*
 * A bounded queue from one thread to one other, without locks: both sides are wait-free.
 *
 * Owns: the memory of its items, which have one size and are copied in and out. Does not own:
 * waiting; who finds it empty or full goes and does something else, or parks (parker.h). Thread
 * rule: one thread at a time puts, one takes; creation and destruction have the ring to themselves.
 *
 * HOW IT WORKS. A power of two of items in a circle; each side writes one counter and keeps a copy
 * of the other side's, which it reads again only when the copy leaves it nothing to do (Lamport
 * 1977 with cached counters). Gaps keep the counters on cache lines of their own. A producer that
 * finds a long ring empty begins again at its front, so that memory is touched (and counted as the
 * process's) as far as items ever waited, not as far as items ever came.
 *
 * The age of what waits: a producer that calls fm_ring_stamp() after it has put something leaves
 * the time there if nothing older is waiting; the consumer collects it.
 */
#ifndef FM_HOST_OS_RING_H
#define FM_HOST_OS_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fermata/status.h"

#define FM_RING_LINE         128u /* two lines: neighbours are fetched in pairs */
#define FM_RING_CAPACITY_MAX (1u << 28)
/* So many items are put before the producer looks whether it may begin at the front again, and it
 * looks so often. */
#define FM_RING_FRONT 1024u
#define FM_RING_LOOKS 64u

struct fm_ring {
    _Atomic uint64_t put; /* items put so far; the producer's */
    uint64_t taken_seen;
    uint64_t base; /* item number `base` lies at the front; the producer's, while it is empty */
    unsigned char gap_one[FM_RING_LINE];
    _Atomic uint64_t taken; /* items taken so far; the consumer's */
    uint64_t put_seen;
    unsigned char gap_two[FM_RING_LINE];
    _Atomic uint64_t stamp_ns; /* 0: none */
    unsigned char gap_three[FM_RING_LINE];
    uint64_t mask;
    size_t item_size;
    unsigned char *items;
    unsigned char gap_four[FM_RING_LINE];
};

/* Room for at least `capacity` items (1 to FM_RING_CAPACITY_MAX). FM_ENOMEM. */
int FM_NODISCARD fm_ring_init(struct fm_ring *ring, uint32_t capacity, size_t item_size);
void fm_ring_deinit(struct fm_ring *ring); /* accepts a zeroed one */

/* --- the producer ------------------------------------------------------------------------------
 */

/* How many items can be put now, if the consumer takes none. */
static inline uint64_t fm_ring_room(struct fm_ring *ring)
{
    uint64_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
    ring->taken_seen = atomic_load_explicit(&ring->taken, memory_order_acquire);
    return ring->mask + 1 - (put - ring->taken_seen);
}

/* Whatever the consumer sees later is behind the new base: it has taken all that was before. */
static inline void fm_ring_rewind(struct fm_ring *ring, uint64_t put)
{
    if (((put - ring->base) & ring->mask) < FM_RING_FRONT || put % FM_RING_LOOKS != 0) {
        return;
    }
    ring->taken_seen = atomic_load_explicit(&ring->taken, memory_order_acquire);
    if (ring->taken_seen == put) {
        ring->base = put;
    }
}

/* False: full. item_size is a constant at the call, so that the copy is a few moves. */
static inline bool fm_ring_put(struct fm_ring *ring, const void *item, size_t item_size)
{
    uint64_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
    if (put - ring->taken_seen > ring->mask && fm_ring_room(ring) == 0) {
        return false;
    }
    fm_ring_rewind(ring, put);
    memcpy(ring->items + ((put - ring->base) & ring->mask) * item_size, item, item_size);
    atomic_store_explicit(&ring->put, put + 1, memory_order_release);
    return true;
}

static inline void fm_ring_stamp(struct fm_ring *ring, uint64_t now_ns)
{
    if (atomic_load_explicit(&ring->stamp_ns, memory_order_relaxed) == 0) {
        atomic_store_explicit(&ring->stamp_ns, now_ns, memory_order_relaxed);
    }
}

/* --- the consumer ------------------------------------------------------------------------------
 */

/* The items that wait, as far as they lie in a row: *ret_count of them; NULL: none. They stay until
 * fm_ring_take(). */
static inline void *fm_ring_peek(struct fm_ring *ring, uint32_t *ret_count)
{
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    if (ring->put_seen == taken) {
        ring->put_seen = atomic_load_explicit(&ring->put, memory_order_acquire);
        if (ring->put_seen == taken) {
            *ret_count = 0;
            return NULL;
        }
    }
    uint64_t index = (taken - ring->base) & ring->mask;
    uint64_t row = ring->mask + 1 - index;
    uint64_t count = ring->put_seen - taken;
    count = count < row ? count : row;
    *ret_count = (uint32_t)count;
    return ring->items + index * ring->item_size;
}

static inline void fm_ring_take(struct fm_ring *ring, uint32_t count)
{
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    atomic_store_explicit(&ring->taken, taken + count, memory_order_release);
}

static inline bool fm_ring_empty(struct fm_ring *ring)
{
    uint32_t count;
    return fm_ring_peek(ring, &count) == NULL;
}

/* Since when the oldest item has waited, about; 0: not known. */
static inline uint64_t fm_ring_stamp_take(struct fm_ring *ring)
{
    uint64_t stamp_ns = atomic_load_explicit(&ring->stamp_ns, memory_order_relaxed);
    if (stamp_ns != 0) {
        atomic_store_explicit(&ring->stamp_ns, 0, memory_order_relaxed);
    }
    return stamp_ns;
}

#endif
