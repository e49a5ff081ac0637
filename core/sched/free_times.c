/*
 * Expected ends, counted. See free_times.h.
 */
#include "core/sched/free_times.h"

#include <string.h>

#include "core/util/assert.h"

#define INTERVALS FM_FREE_TIMES_INTERVALS
_Static_assert((INTERVALS & (INTERVALS - 1)) == 0, "a power of two");

void fm_free_times_init(struct fm_free_times *times, uint64_t interval_ns)
{
    FM_ASSERT(interval_ns > 0);
    memset(times, 0, sizeof *times);
    times->interval_ns = interval_ns;
}

static void tree_add(struct fm_free_times *times, uint32_t index, uint32_t change)
{
    for (uint32_t i = index + 1; i <= INTERVALS; i += i & -i) {
        times->tree[i] += change; /* modulo 2^32: a removal adds 2^32 - 1 */
    }
}

/* Ends in ring places 0 to count - 1. */
static uint32_t tree_sum(const struct fm_free_times *times, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = count; i > 0; i -= i & -i) {
        sum += times->tree[i];
    }
    return sum;
}

void fm_free_times_advance(struct fm_free_times *times, uint64_t now_ns)
{
    uint64_t now = now_ns / times->interval_ns;
    if (now <= times->first) {
        return;
    }
    uint64_t passed = now - times->first;
    passed = passed < INTERVALS ? passed : INTERVALS;
    for (uint64_t i = 0; i < passed; i++) {
        uint32_t place = (uint32_t)((times->first + i) % INTERVALS);
        if (times->counts[place] > 0) {
            tree_add(times, place, -times->counts[place]);
            times->overdue += times->counts[place];
            times->counts[place] = 0;
        }
    }
    times->first = now;
}

static void change(struct fm_free_times *times, uint64_t interval, uint32_t by)
{
    times->total += by;
    if (interval < times->first) {
        times->overdue += by;
        return;
    }
    uint32_t place = (uint32_t)(interval % INTERVALS);
    times->counts[place] += by;
    tree_add(times, place, by);
}

uint64_t fm_free_times_add(struct fm_free_times *times, uint64_t end_ns)
{
    uint64_t interval = end_ns / times->interval_ns;
    uint64_t last = times->first + INTERVALS - 1;
    interval = interval < last ? interval : last;
    change(times, interval, 1);
    return interval * times->interval_ns;
}

void fm_free_times_remove(struct fm_free_times *times, uint64_t counted_ns)
{
    uint64_t interval = counted_ns / times->interval_ns;
    FM_ASSERT(interval < times->first + INTERVALS && times->total > 0);
    change(times, interval, UINT32_MAX);
}

/* Ends in the ring's first `count` intervals from now. */
static uint32_t ring_sum(const struct fm_free_times *times, uint32_t count)
{
    uint32_t begin = (uint32_t)(times->first % INTERVALS);
    if (begin + count <= INTERVALS) {
        return tree_sum(times, begin + count) - tree_sum(times, begin);
    }
    return tree_sum(times, INTERVALS) - tree_sum(times, begin) +
           tree_sum(times, begin + count - INTERVALS);
}

uint32_t fm_free_times_count(const struct fm_free_times *times, uint64_t by_ns)
{
    /* An interval counts once it has ended. */
    uint64_t end = by_ns / times->interval_ns;
    if (end <= times->first) {
        return times->overdue;
    }
    uint64_t passed = end - times->first;
    return times->overdue + ring_sum(times, passed < INTERVALS ? (uint32_t)passed : INTERVALS);
}

uint64_t fm_free_times_when(const struct fm_free_times *times, uint32_t count)
{
    if (count > times->total) {
        return UINT64_MAX;
    }
    uint32_t low = 0; /* intervals; too few ends */
    uint32_t high = INTERVALS;
    if (count <= times->overdue) {
        return times->first * times->interval_ns;
    }
    while (low + 1 < high) {
        uint32_t middle = (low + high) / 2;
        if (times->overdue + ring_sum(times, middle) >= count) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return (times->first + high) * times->interval_ns;
}

bool fm_free_times_validate(const struct fm_free_times *times)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < INTERVALS; i++) {
        if (tree_sum(times, i) != sum) {
            return false;
        }
        sum += times->counts[i];
    }
    return times->interval_ns > 0 && tree_sum(times, INTERVALS) == sum &&
           times->overdue + sum == times->total;
}
