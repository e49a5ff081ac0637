/*
 * Tests of core/util/memory: alignment, limits, and that injected failures really happen and are
 * counted.
 */
#include "core/util/memory.h"

#include "tests/harness/test.h"

TEST(tensor_memory_is_aligned)
{
    for (size_t size = 0; size < 200; size += 13) {
        void *memory = fm_alloc_tensor(size);
        CHECK_PTR_NE(memory, NULL);
        CHECK_UINT_EQ((uintptr_t)memory % 64, 0);
        fm_free(memory);
    }
    CHECK_PTR_EQ(fm_alloc_tensor(SIZE_MAX - 3), NULL);
}

TEST(the_nth_allocation_fails_once)
{
    (void)fm_memory_fail_at(2, 0);
    void *first = fm_alloc(8);
    void *second = fm_alloc(8);
    void *third = fm_alloc_zero(1, 8);
    uint64_t count = fm_memory_fail_at(0, 0);
    CHECK_PTR_NE(first, NULL);
    CHECK_PTR_EQ(second, NULL);
    CHECK_PTR_NE(third, NULL);
    CHECK_UINT_EQ(count, 3);
    fm_free(first);
    fm_free(third);
}

TEST(persistent_failure_stays)
{
    (void)fm_memory_fail_at(1, 1);
    void *first = fm_alloc(8);
    void *second = fm_realloc(NULL, 8);
    char *third = fm_strdup("x");
    (void)fm_memory_fail_at(0, 0);
    CHECK_PTR_EQ(first, NULL);
    CHECK_PTR_EQ(second, NULL);
    CHECK_PTR_EQ(third, NULL);
}

TEST(a_meter_tells_the_most_that_was_held)
{
    void *before = fm_alloc(5000);
    CHECK(before != NULL);
    fm_memory_meter_begin();
    CHECK_UINT_EQ(fm_memory_meter_most(), 0);
    fm_free(before);
    CHECK_UINT_EQ(fm_memory_meter_most(), 0); /* others' memory brings it below 0 */
    fm_memory_meter_begin();
    void *small = fm_alloc(1000);
    void *large = fm_alloc_tensor(100000);
    CHECK(small != NULL && large != NULL);
    fm_free(large);
    void *grown = fm_realloc(small, 2000);
    CHECK(grown != NULL);
    uint64_t most = fm_memory_meter_most();
    CHECK(most >= 101000 && most < 101000 + 8192); /* with what the allocator adds */
    grown = fm_realloc(grown, 200000);
    CHECK(grown != NULL);
    most = fm_memory_meter_most();
    CHECK(most >= 200000 && most < 200000 + 8192);
    fm_free(grown);
    fm_free(NULL);
    CHECK_UINT_EQ(fm_memory_meter_most(), most);
}

TEST(arena_memory_is_zeroed_aligned_and_separate)
{
    struct fm_arena arena;
    fm_arena_init(&arena, 0);
    unsigned char *previous = NULL;
    for (int i = 0; i < 3000; i++) {
        unsigned char *memory = fm_arena_alloc(&arena, 24);
        CHECK_PTR_NE(memory, NULL);
        CHECK_UINT_EQ((uintptr_t)memory % 16, 0);
        for (int k = 0; k < 24; k++) {
            CHECK_INT_EQ(memory[k], 0);
        }
        memset(memory, 0xAB, 24);
        CHECK(previous == NULL || previous[0] == 0xAB);
        previous = memory;
    }
    CHECK_PTR_NE(fm_arena_alloc(&arena, 1 << 20), NULL);
    CHECK_STR_EQ(fm_arena_strndup(&arena, "abcdef", 3), "abc");
    fm_arena_deinit(&arena);
    CHECK_UINT_EQ(arena.bytes, 0);
}

TEST(arena_limit_is_kept)
{
    struct fm_arena arena;
    fm_arena_init(&arena, 100);
    CHECK_PTR_NE(fm_arena_alloc(&arena, 64), NULL);
    CHECK_PTR_EQ(fm_arena_alloc(&arena, 64), NULL);
    CHECK_PTR_NE(fm_arena_alloc(&arena, 32), NULL);
    CHECK_PTR_EQ(fm_arena_alloc(&arena, SIZE_MAX - 2), NULL);
    fm_arena_deinit(&arena);
}

TEST_MAIN()
