/*
 * The allocator behind all deciding code, with fault injection, and arenas. See memory.h.
 */
#include "core/util/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/tally.h"

/* The countdown is 0 (off) except in tests, so one relaxed load is all that production pays. */
static atomic_uint_fast64_t fail_countdown;
static atomic_int fail_persistent;
static atomic_uint_fast64_t allocation_count;
static atomic_int counting;

/* What this thread has allocated and not freed since its meter began: below 0 where it frees what
 * others have allocated. */
static _Thread_local int64_t meter_held;
static _Thread_local int64_t meter_most;

static void *count_in(void *memory)
{
    meter_held += memory != NULL ? (int64_t)malloc_usable_size(memory) : 0;
    meter_most = meter_held > meter_most ? meter_held : meter_most;
    return memory;
}

static void count_out(void *memory)
{
    meter_held -= memory != NULL ? (int64_t)malloc_usable_size(memory) : 0;
}

void fm_memory_meter_begin(void)
{
    meter_held = 0;
    meter_most = 0;
}

uint64_t fm_memory_meter_most(void)
{
    return (uint64_t)meter_most;
}

/* Before each allocation. */
static int should_fail(void)
{
    fm_tally_add(FM_TALLY_ALLOCATIONS, 1);
    if (atomic_load_explicit(&counting, memory_order_relaxed) == 0) {
        return 0;
    }
    atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed);
    uint_fast64_t left = atomic_load(&fail_countdown);
    while (left != 0) {
        if (left == 1 && atomic_load(&fail_persistent)) {
            return 1;
        }
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) {
            return left == 1;
        }
    }
    return 0;
}

uint64_t fm_memory_fail_at(uint64_t countdown, int persistent)
{
    atomic_store(&counting, 1);
    atomic_store(&fail_persistent, persistent);
    atomic_store(&fail_countdown, countdown);
    return atomic_exchange(&allocation_count, 0);
}

void *fm_alloc(size_t size)
{
    return should_fail() ? NULL : count_in(malloc(size == 0 ? 1 : size));
}

void *fm_alloc_zero(size_t count, size_t size)
{
    return should_fail() ? NULL : count_in(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *fm_realloc(void *memory, size_t size)
{
    if (should_fail()) {
        return NULL;
    }
    int64_t before = memory != NULL ? (int64_t)malloc_usable_size(memory) : 0;
    void *fresh = realloc(memory, size == 0 ? 1 : size);
    if (fresh != NULL) {
        meter_held -= before;
    }
    return count_in(fresh);
}

void *fm_alloc_tensor(size_t size)
{
    size_t rounded = (size + 63) & ~(size_t)63;
    if (rounded < size || should_fail()) {
        return NULL;
    }
    return count_in(aligned_alloc(64, rounded == 0 ? 64 : rounded));
}

void fm_free(void *memory)
{
    count_out(memory);
    free(memory);
}

char *fm_strndup(const char *text, size_t length)
{
    char *copy = fm_alloc(length + 1);
    if (copy != NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *fm_strdup(const char *text)
{
    return fm_strndup(text, strlen(text));
}

enum { ARENA_ALIGNMENT = 16, ARENA_BLOCK_SIZE = 16 * 1024 };

struct fm_arena_block {
    struct fm_arena_block *next;
    size_t size;
    size_t used;
    size_t padding; /* keeps the header a multiple of the alignment */
};

_Static_assert(sizeof(struct fm_arena_block) % ARENA_ALIGNMENT == 0,
               "objects behind the header are aligned");

void fm_arena_init(struct fm_arena *arena, size_t bytes_max)
{
    *arena = (struct fm_arena){.bytes_max = bytes_max};
}

void fm_arena_deinit(struct fm_arena *arena)
{
    struct fm_arena_block *block = arena->blocks;
    while (block != NULL) {
        struct fm_arena_block *next = block->next;
        fm_free(block);
        block = next;
    }
    *arena = (struct fm_arena){.bytes_max = arena->bytes_max};
}

void *fm_arena_alloc(struct fm_arena *arena, size_t size)
{
    size_t rounded = (size + ARENA_ALIGNMENT - 1) & ~(size_t)(ARENA_ALIGNMENT - 1);
    if (rounded < size) {
        return NULL;
    }
    if (arena->bytes_max != 0 && rounded > arena->bytes_max - arena->bytes) {
        return NULL;
    }
    struct fm_arena_block *block = arena->blocks;
    if (block == NULL || block->size - block->used < rounded) {
        size_t block_size = rounded > ARENA_BLOCK_SIZE ? rounded : ARENA_BLOCK_SIZE;
        if (block_size > SIZE_MAX - sizeof(*block)) {
            return NULL;
        }
        struct fm_arena_block *fresh = fm_alloc(sizeof(*fresh) + block_size);
        if (fresh == NULL) {
            return NULL;
        }
        *fresh = (struct fm_arena_block){.next = block, .size = block_size};
        arena->blocks = fresh;
        block = fresh;
    }
    char *memory = (char *)(block + 1) + block->used;
    block->used += rounded;
    arena->bytes += rounded;
    memset(memory, 0, rounded);
    return memory;
}

char *fm_arena_strndup(struct fm_arena *arena, const char *text, size_t length)
{
    char *copy = fm_arena_alloc(arena, length + 1);
    if (copy != NULL) {
        memcpy(copy, text, length);
    }
    return copy;
}

char *fm_arena_strdup(struct fm_arena *arena, const char *text)
{
    return fm_arena_strndup(arena, text, strlen(text));
}
