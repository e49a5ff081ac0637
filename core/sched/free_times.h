/*
 * How many of the busy accelerators will be free by a time.
 *
 * Owns: the expected ends of what runs, counted in intervals. Does not own: which accelerator it
 * is. Thread rule: pure; one thread at a time.
 *
 * HOW IT WORKS. A ring of FM_FREE_TIMES_INTERVALS intervals with a binary indexed tree over their
 * counts (Fenwick, 1994): adding, removing and asking cost O(log intervals), whatever the number
 * of accelerators. The ring's position follows the clock; what should have ended already is counted
 * as overdue. LIMITATIONS. Answers are exact to one interval, rounded to later ends; what ends
 * beyond the ring is taken to end at its last interval: the user chooses intervals so that this is
 * rare.
 */
#ifndef FM_CORE_SCHED_FREE_TIMES_H
#define FM_CORE_SCHED_FREE_TIMES_H

#include <stdbool.h>
#include <stdint.h>

#define FM_FREE_TIMES_INTERVALS 1024u

struct fm_free_times {
    uint64_t interval_ns;
    uint64_t first; /* number of the ring's first interval: ends before it are overdue */
    uint32_t counts[FM_FREE_TIMES_INTERVALS];
    uint32_t tree[FM_FREE_TIMES_INTERVALS + 1];
    uint32_t overdue;
    uint32_t total; /* overdue ones too */
};

/* Empties it. interval_ns >= 1. */
void fm_free_times_init(struct fm_free_times *times, uint64_t interval_ns);
/* Follows the clock; costs O(1) per interval passed that holds ends. */
void fm_free_times_advance(struct fm_free_times *times, uint64_t now_ns);
/* Adds an end that is expected. Returns the end as it is counted, to be given to remove. */
uint64_t fm_free_times_add(struct fm_free_times *times, uint64_t end_ns);
/* It has come, or is expected no more. */
void fm_free_times_remove(struct fm_free_times *times, uint64_t counted_ns);
/* How many ends are expected by then, overdue ones too. */
uint32_t fm_free_times_count(const struct fm_free_times *times, uint64_t by_ns);
/* The earliest time by which `count` ends are expected; UINT64_MAX: not within the ring. */
uint64_t fm_free_times_when(const struct fm_free_times *times, uint32_t count);

bool fm_free_times_validate(const struct fm_free_times *times);

#endif
