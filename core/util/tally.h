/*
 * What threads count of themselves: how often they allocate memory and ask the kernel, for the
 * whole process.
 *
 * Owns: a sheet of counts for each thread, on cache lines of its own. Does not own: whose request
 * it was for; what libraries do by themselves is not in it. Thread rule: any thread adds, with a
 * plain add of a few nanoseconds; any thread reads the sums meanwhile, without locks.
 *
 * LIMITATIONS. Threads beyond FM_TALLY_SHEETS, ever, share the last sheet, which costs them an
 * atomic addition. A plug-in that has this module linked into it counts in sheets of its own.
 */
#ifndef FM_CORE_UTIL_TALLY_H
#define FM_CORE_UTIL_TALLY_H

#include <stdint.h>

#define FM_TALLY_SHEETS 256u

enum fm_tally {
    FM_TALLY_ALLOCATIONS, /* of fm_alloc and its like */
    /* System calls. */
    FM_TALLY_READS,  /* of connections and of what wakes event loops */
    FM_TALLY_WRITES, /* to connections */
    FM_TALLY_WAITS,  /* for something to happen: of event loops and of threads */
    FM_TALLY_WAKES,  /* of a loop or thread by another */
    FM_TALLY_COUNT_
};

void fm_tally_add(enum fm_tally what, uint64_t amount);
/* Over all threads since the start, those that have ended included. */
uint64_t fm_tally_total(enum fm_tally what);

#endif
