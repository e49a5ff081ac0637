/*
 * Facts of this process: plausible, and they follow what it does.
 */
#include "host/os/process_facts.h"

#include <fcntl.h>
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

TEST_MAIN()
