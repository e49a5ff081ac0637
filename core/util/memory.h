/*
 * Memory for deciding code: the one place in core that calls the system's allocator, and arenas on
 * top of it.
 *
 * Owns: allocation and its fault injection; each one is counted (tally.h), and so is what each
 * thread holds. Thread rule: fm_alloc and fm_free are as thread safe as malloc; an arena belongs to
 * one thread.
 */
#ifndef FM_CORE_UTIL_MEMORY_H
#define FM_CORE_UTIL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* As malloc, calloc, realloc, free; NULL on failure or when fault injection says so. Size 0 gives a
 * unique pointer. */
void *fm_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *fm_alloc_zero(size_t count, size_t size) __attribute__((malloc, warn_unused_result));
void *fm_realloc(void *memory, size_t size) __attribute__((warn_unused_result));
/* Aligned to 64 bytes, uninitialised; freed with fm_free. For tensor bytes. */
void *fm_alloc_tensor(size_t size) __attribute__((malloc, warn_unused_result));
void fm_free(void *memory);
char *fm_strdup(const char *text) __attribute__((malloc, warn_unused_result));
char *fm_strndup(const char *text, size_t length) __attribute__((malloc, warn_unused_result));

/*
 * Fault injection for tests: the `countdown`-th allocation from now fails (1 = the next one), and
 * with `persistent` all after it too. 0 switches it off. Returns how many allocations happened
 * since the last call. Process wide.
 */
uint64_t fm_memory_fail_at(uint64_t countdown, int persistent);

/*
 * How much a piece of work takes: between begin and most, which the same thread calls, the most
 * that it had allocated here beyond what it had freed, with what the allocator adds to each. What
 * libraries allocate by themselves is not in it. One piece at a time.
 */
void fm_memory_meter_begin(void);
uint64_t fm_memory_meter_most(void);

/* Objects that live and die together. Zero-initialise or call init; deinit frees everything. */
struct fm_arena_block;
struct fm_arena {
    struct fm_arena_block *blocks;
    size_t bytes_max; /* 0 = no limit */
    size_t bytes;     /* handed out */
};

void fm_arena_init(struct fm_arena *arena, size_t bytes_max);
void fm_arena_deinit(struct fm_arena *arena);
/* Zeroed, aligned to 16; NULL when memory or bytes_max is exhausted. */
void *fm_arena_alloc(struct fm_arena *arena, size_t size) __attribute__((warn_unused_result));
char *fm_arena_strdup(struct fm_arena *arena, const char *text) __attribute__((warn_unused_result));
char *fm_arena_strndup(struct fm_arena *arena, const char *text, size_t length)
    __attribute__((warn_unused_result));

#endif
