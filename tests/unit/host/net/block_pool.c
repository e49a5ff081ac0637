/*
 * Small blocks: random taking and returning against what was written, and that blocks come back.
 */
#include "host/net/block_pool.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

TEST(what_is_written_stays)
{
    struct fm_block_pool pool = {0};
    struct fm_random random;
    struct {
        unsigned char *data;
        size_t size;
    } held[200] = {0};
    fm_random_init(&random, 3);
    for (int step = 0; step < 100000; step++) {
        size_t i = fm_random_below(&random, 200);
        for (size_t at = 0; at < held[i].size; at++) {
            CHECK_UINT_EQ(held[i].data[at], (unsigned char)i);
        }
        size_t size = fm_random_below(&random, fm_random_below(&random, 8) == 0 ? 3000 : 600);
        switch (fm_random_below(&random, 3)) {
        case 0:
            fm_block_free(&pool, held[i].data);
            held[i].data = NULL;
            held[i].size = 0;
            continue;
        case 1:
            held[i].data = fm_block_realloc(&pool, held[i].data, size);
            break;
        default:
            fm_block_free(&pool, held[i].data);
            held[i].data = fm_block_alloc_zero(&pool, 1, size);
            for (size_t at = 0; at < size; at++) {
                CHECK_UINT_EQ(held[i].data[at], 0);
            }
        }
        CHECK(held[i].data != NULL && (uintptr_t)held[i].data % 16 == 0);
        memset(held[i].data, (int)i, size);
        held[i].size = size;
    }
    for (size_t i = 0; i < 200; i++) {
        fm_block_free(&pool, held[i].data);
    }
    fm_block_pool_deinit(&pool);
}

TEST(a_second_return_after_a_failure_does_nothing)
{
    struct fm_block_pool pool = {0};
    void *kept = fm_block_alloc(&pool, 100);
    void *one = fm_block_alloc(&pool, 100);
    void *large = fm_block_alloc(&pool, 5000);
    (void)fm_memory_fail_at(1, 0);
    CHECK(fm_block_alloc(&pool, 100) == NULL);
    (void)fm_memory_fail_at(0, 0);
    for (int i = 0; i < 2; i++) {
        fm_block_free(&pool, one);
        fm_block_free(&pool, large);
    }
    void *other = fm_block_alloc(&pool, 100);
    CHECK_PTR_NE(other, one);
    fm_block_pool_recover(&pool);
    CHECK_PTR_EQ(fm_block_alloc(&pool, 100), one);
    fm_block_free(&pool, one);
    fm_block_free(&pool, other);
    fm_block_free(&pool, kept);
    fm_block_pool_deinit(&pool);
}

TEST(blocks_come_back)
{
    struct fm_block_pool pool = {0};
    void *first = fm_block_alloc(&pool, 100);
    fm_block_free(&pool, first);
    (void)fm_memory_fail_at(0, 0);
    void *second = fm_block_alloc(&pool, 65);
    CHECK_PTR_EQ(first, second);
    CHECK_UINT_EQ(fm_memory_fail_at(0, 0), 0);
    fm_block_free(&pool, second);
    fm_block_free(&pool, NULL);
    CHECK(fm_block_alloc_zero(&pool, SIZE_MAX / 2, 3) == NULL);
    CHECK(fm_block_alloc(&pool, SIZE_MAX) == NULL);
    fm_block_pool_deinit(&pool);
}

TEST_MAIN()
