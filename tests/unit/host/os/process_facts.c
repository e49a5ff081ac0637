/*
 * Facts of this process: plausible, and they follow what it does.
 */
#include "host/os/process_facts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/test.h"

TEST(facts_follow_what_the_process_does)
{
    struct fm_process_facts before;
    fm_process_facts_get(&before);
    CHECK(before.resident_bytes > 100000 && before.virtual_bytes >= before.resident_bytes);
    CHECK(before.threads >= 1);
    CHECK(before.open_descriptors >= 1 && before.descriptors_max >= before.open_descriptors);
    int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(descriptor >= 0);
    struct fm_process_facts after;
    fm_process_facts_get(&after);
    CHECK_INT_EQ(after.open_descriptors, before.open_descriptors + 1);
    (void)close(descriptor);
}

TEST(memory_that_was_freed_can_be_given_back)
{
    enum { BLOCKS = 2000, BYTES = 16384 };
    static void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BYTES);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, BYTES);
    }
    void *last = malloc(100); /* what is below it is not the end of the heap */
    for (size_t i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    struct fm_process_facts before;
    struct fm_process_facts after;
    uint64_t kept = fm_process_memory_kept();
    fm_process_facts_get(&before);
    fm_process_memory_release();
    fm_process_facts_get(&after);
    /* Sanitizers have an allocator of their own, which keeps what it likes. */
    if (kept >= (uint64_t)BLOCKS * BYTES) {
        CHECK(after.resident_bytes + (uint64_t)BLOCKS * BYTES / 2 < before.resident_bytes);
    }
    free(last);
}

TEST_MAIN()
