/*
 * Small blocks. See block_pool.h.
 */
#include "host/net/block_pool.h"

#include <string.h>

#include "core/util/memory.h"

/* In front of every block; keeps what follows aligned for anything. */
struct fm_block {
    struct fm_block *next; /* while it is free */
    uint32_t size;         /* what fits in it */
    uint32_t is_free;
};

_Static_assert(sizeof(struct fm_block) == 16, "what follows is aligned");

/* The class of a size, from 0; FM_BLOCK_POOL_CLASSES and more: too large. */
static size_t class_of(size_t size)
{
    return size == 0 ? 0 : (size - 1) / FM_BLOCK_POOL_STEP;
}

void *fm_block_alloc(struct fm_block_pool *pool, size_t size)
{
    size_t class = class_of(size);
    struct fm_block *block = NULL;
    if (class < FM_BLOCK_POOL_CLASSES) {
        block = pool->free[class];
        size = (class + 1) * FM_BLOCK_POOL_STEP;
    }
    if (block != NULL) {
        pool->free[class] = block->next;
        pool->count[class]--;
    } else {
        if (size > UINT32_MAX - sizeof(*block)) {
            return NULL;
        }
        block = fm_alloc(sizeof(*block) + size);
        if (block == NULL) {
            pool->failed = true;
            return NULL;
        }
        block->size = (uint32_t)size;
    }
    block->is_free = 0;
    return block + 1;
}

void *fm_block_alloc_zero(struct fm_block_pool *pool, size_t count, size_t size)
{
    if (size > 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    void *memory = fm_block_alloc(pool, count * size);
    return memory != NULL ? memset(memory, 0, count * size) : NULL;
}

void *fm_block_realloc(struct fm_block_pool *pool, void *memory, size_t size)
{
    struct fm_block *block = memory != NULL ? (struct fm_block *)memory - 1 : NULL;
    if (block != NULL && size <= block->size) {
        return memory;
    }
    void *larger = fm_block_alloc(pool, size);
    if (larger != NULL && block != NULL) {
        memcpy(larger, memory, block->size);
        fm_block_free(pool, memory);
    }
    return larger;
}

static void put_back(struct fm_block_pool *pool, struct fm_block *block)
{
    size_t class = class_of(block->size);
    if (class < FM_BLOCK_POOL_CLASSES && pool->count[class] < FM_BLOCK_POOL_KEEP) {
        block->next = pool->free[class];
        pool->free[class] = block;
        pool->count[class]++;
    } else {
        fm_free(block);
    }
}

void fm_block_free(struct fm_block_pool *pool, void *memory)
{
    if (memory == NULL) {
        return;
    }
    struct fm_block *block = (struct fm_block *)memory - 1;
    if (!pool->failed) {
        block->is_free = 1;
        put_back(pool, block);
    } else if (block->is_free == 0) {
        block->is_free = 1;
        block->next = pool->aside;
        pool->aside = block;
    }
}

void fm_block_pool_recover(struct fm_block_pool *pool)
{
    while (pool->aside != NULL) {
        struct fm_block *block = pool->aside;
        pool->aside = block->next;
        put_back(pool, block);
    }
    pool->failed = false;
}

void fm_block_pool_deinit(struct fm_block_pool *pool)
{
    fm_block_pool_recover(pool);
    for (size_t class = 0; class < FM_BLOCK_POOL_CLASSES; class ++) {
        while (pool->free[class] != NULL) {
            struct fm_block *block = pool->free[class];
            pool->free[class] = block->next;
            fm_free(block);
        }
        pool->count[class] = 0;
    }
}
