/*
 * The memory of rings. See ring.h.
 */
#include "host/os/ring.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

int fm_ring_init(struct fm_ring *ring, uint32_t capacity, size_t item_size)
{
    FM_ASSERT(capacity > 0 && capacity <= FM_RING_CAPACITY_MAX && item_size > 0);
    uint64_t count = 1;
    while (count < capacity) {
        count *= 2;
    }
    memset(ring, 0, sizeof *ring);
    ring->mask = count - 1;
    ring->item_size = item_size;
    ring->items = fm_alloc_zero((size_t)count, item_size);
    return ring->items == NULL ? FM_ENOMEM : 0;
}

void fm_ring_deinit(struct fm_ring *ring)
{
    fm_free(ring->items);
    ring->items = NULL;
}
