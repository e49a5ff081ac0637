/*
 * Sleeping and waking. See parker.h.
 */
#include "host/os/parker.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/util/tally.h"

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the kernel looks at a plain word");

void fm_parker_init(struct fm_parker *parker)
{
    atomic_init(&parker->awake, 1);
}

void fm_parker_park(struct fm_parker *parker, uint64_t until_ns)
{
    /* WAIT_BITSET takes a point in time of CLOCK_MONOTONIC, where WAIT takes a duration. */
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                   .tv_nsec = (long)(until_ns % 1000000000u)};
    const struct timespec *limit = until_ns == FM_PARKER_FOREVER ? NULL : &until;
    while (atomic_load_explicit(&parker->awake, memory_order_acquire) == 0) {
        fm_tally_add(FM_TALLY_WAITS, 1);
        long status = syscall(SYS_futex, &parker->awake, FUTEX_WAIT_BITSET_PRIVATE, 0, limit, NULL,
                              FUTEX_BITSET_MATCH_ANY);
        if (status != 0 && errno == ETIMEDOUT) {
            break;
        }
    }
    fm_parker_stay(parker); /* after a timeout */
}

void fm_parker_rouse(struct fm_parker *parker)
{
    fm_tally_add(FM_TALLY_WAKES, 1);
    (void)syscall(SYS_futex, &parker->awake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
