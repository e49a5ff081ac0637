/*
 * A limit on memory. See memory_limit.h.
 */
#include "host/os/memory_limit.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "core/util/error.h"
#include "host/os/memory_facts.h"

uint64_t fm_memory_limit_used(void)
{
    struct fm_memory_facts facts;
    fm_memory_facts_get(&facts);
    return facts.resident_bytes > facts.data_bytes ? facts.resident_bytes : facts.data_bytes;
}

int fm_memory_limit_set(uint64_t bytes, struct fm_error *reterr)
{
    struct rlimit limit;
    uint64_t used = fm_memory_limit_used();
    if (used >= bytes) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "memory cannot be limited to %llu MiB, because the process has %llu MiB "
            "already: allow more",
            (unsigned long long)(bytes >> 20), (unsigned long long)(used >> 20));
    }
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur > bytes) {
        limit.rlim_cur = bytes;
        if (setrlimit(RLIMIT_DATA, &limit) != 0) {
            return fm_error_set(reterr, FM_EPERM, "memory cannot be limited: %s", strerror(errno));
        }
    }
    return 0;
}
