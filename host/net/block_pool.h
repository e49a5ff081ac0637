/*
 * Small blocks of memory, kept for the next time: nghttp2 takes and returns many for every call.
 *
 * Owns: the blocks that are free. Does not own: those that are in use, which must be returned
 * before the pool ends. Thread rule: one thread.
 */
#ifndef FM_HOST_NET_BLOCK_POOL_H
#define FM_HOST_NET_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FM_BLOCK_POOL_STEP    64u
#define FM_BLOCK_POOL_CLASSES 8u    /* blocks of up to 512 bytes; larger ones are not kept */
#define FM_BLOCK_POOL_KEEP    1024u /* of each class */

struct fm_block;

/* Zero-initialise. */
struct fm_block_pool {
    struct fm_block *free[FM_BLOCK_POOL_CLASSES];
    uint32_t count[FM_BLOCK_POOL_CLASSES];
    struct fm_block *aside;
    bool failed; /* an allocation did */
};

/* As malloc, calloc, realloc and free. */
void *fm_block_alloc(struct fm_block_pool *pool, size_t size) __attribute__((warn_unused_result));
void *fm_block_alloc_zero(struct fm_block_pool *pool, size_t count, size_t size)
    __attribute__((warn_unused_result));
void *fm_block_realloc(struct fm_block_pool *pool, void *memory, size_t size)
    __attribute__((warn_unused_result));
void fm_block_free(struct fm_block_pool *pool, void *memory);
/* Nothing will be returned twice any more. */
void fm_block_pool_recover(struct fm_block_pool *pool);
void fm_block_pool_deinit(struct fm_block_pool *pool);

#endif
