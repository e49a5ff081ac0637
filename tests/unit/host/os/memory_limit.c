/*
 * A limit on this process's memory: what counts, and what fails beyond it.
 */
#include "host/os/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/test.h"

TEST(what_is_used_grows_with_what_is_taken)
{
    enum { BYTES = 50 << 20 };
    uint64_t before = fm_memory_limit_used();
    CHECK(before > 0);
    volatile char *memory = malloc(BYTES);
    CHECK(memory != NULL);
    for (size_t i = 0; i < BYTES; i += 4096) {
        memory[i] = 1;
    }
    CHECK(fm_memory_limit_used() >= before + BYTES - (1 << 20));
    free((void *)memory);
}

/* The last one: nothing takes the limit back. */
TEST(beyond_the_limit_allocations_fail)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    TEST_SKIP("sanitizers map more than any limit");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    TEST_SKIP("sanitizers map more than any limit");
#endif
#endif
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_memory_limit_set(4096, &error), FM_EINVAL);
    CHECK(strstr(error.text, "MiB already") != NULL);
    uint64_t limit = fm_memory_limit_used() + (64u << 20);
    CHECK_INT_EQ(fm_memory_limit_set(limit, &error), 0);
    void *little = malloc(8 << 20);
    CHECK(little != NULL);
    void *much = malloc(100 << 20);
    CHECK(much == NULL);
    free(much);
    free(little);
}

TEST_MAIN()
