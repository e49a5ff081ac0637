/*
 * The FIFO shadow: when each bench task would begin if they were dealt to the devices in turn and
 * served in the order of their arrival. The queue of bench tasks ages its tasks by it.
 *
 * Owns: lanes, one per device; entries, one per task, in the order of arrival in each lane; when
 * each entry begins in its lane. Does not own: which tasks there are and which of them really runs
 * (job_queue.h). Thread rule: one thread at a time.
 *
 * HOW IT WORKS. A task is dealt to the next lane, in turn, whose device has what it needs. A lane
 * serves its entries one after the other, each as long as its task is believed to take: the
 * estimate, and once the task has really ended, how long it took. So estimates that were wrong are
 * put right as soon as that is known, and the shadow does not drift from what FIFO would have done.
 * An entry stays until it has ended both here and in truth. When a device goes, what its lane had
 * not ended is dealt anew, in order of arrival.
 *
 * LIMITATIONS. A task that really ended in less than its estimate, because it was cancelled, counts
 * with what it took. Lanes know nothing of tasks that were lost and run again: they count once.
 */
#ifndef FM_CORE_BENCH_FIFO_SHADOW_H
#define FM_CORE_BENCH_FIFO_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_FIFO_SHADOW_NONE UINT32_MAX

/* What a device has, and what a task needs. */
struct fm_job_ability {
    uint64_t features;     /* bits, whose meaning is the caller's; a task needs all that it names */
    uint64_t memory_bytes; /* that there is; that it takes */
};

static inline bool fm_job_ability_suffices(const struct fm_job_ability *has,
                                           const struct fm_job_ability *needed)
{
    return (has->features & needed->features) == needed->features &&
           has->memory_bytes >= needed->memory_bytes;
}

struct fm_fifo_shadow;

/* For up to so many lanes, and entries at once. FM_ENOMEM. */
int FM_NODISCARD fm_fifo_shadow_create(uint32_t lanes_max, uint32_t entries_max,
                                       struct fm_fifo_shadow **ret_shadow);
void fm_fifo_shadow_destroy(struct fm_fifo_shadow *shadow); /* accepts NULL */

/* A device with these abilities; `lane` must be closed, and below lanes_max. Entries that no lane
 * could take are dealt to it. */
void fm_fifo_shadow_open(struct fm_fifo_shadow *shadow, uint64_t now_ns, uint32_t lane,
                         const struct fm_job_ability *ability);
/* The device is gone; the lane must be open. */
void fm_fifo_shadow_close(struct fm_fifo_shadow *shadow, uint64_t now_ns, uint32_t lane);

/* A task that arrived now. Returns its entry; FM_FIFO_SHADOW_NONE when entries_max are there. */
uint32_t fm_fifo_shadow_add(struct fm_fifo_shadow *shadow, uint64_t now_ns,
                            const struct fm_job_ability *needed, uint64_t length_ns);
/* Its task is now believed to take so long. */
void fm_fifo_shadow_expect(struct fm_fifo_shadow *shadow, uint32_t entry, uint64_t length_ns);
/* Its task took so long, and the entry may not be named any more. 0: it never ran. */
void fm_fifo_shadow_end(struct fm_fifo_shadow *shadow, uint32_t entry, uint64_t length_ns);

/* Works out when each entry begins, and forgets what has ended. To be called before _begin_ns, when
 * something has changed. */
void fm_fifo_shadow_look(struct fm_fifo_shadow *shadow, uint64_t now_ns);
/* When the entry's task would begin, or would have begun. UINT64_MAX: no device could take it. */
uint64_t fm_fifo_shadow_begin_ns(const struct fm_fifo_shadow *shadow, uint32_t entry);

uint32_t fm_fifo_shadow_count(const struct fm_fifo_shadow *shadow);

/* Checks the whole structure; aborts when something is wrong. For tests. */
void fm_fifo_shadow_validate(const struct fm_fifo_shadow *shadow);

#endif
