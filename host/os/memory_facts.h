/*
 * What the kernel says of memory: of this process, of the machine, and of the group (cgroup v2 or
 * v1) that this process is in.
 *
 * Owns: reading its texts, each in one place. Does not own: what follows; the limit on this process
 * (memory_limit.h). Thread rule: every function is thread safe.
 */
#ifndef FM_HOST_OS_MEMORY_FACTS_H
#define FM_HOST_OS_MEMORY_FACTS_H

#include <stdbool.h>
#include <stdint.h>

/* Of this process. 0: not known. */
struct fm_memory_facts {
    uint64_t virtual_bytes;
    uint64_t resident_bytes; /* in the machine's memory, whoever shares it */
    uint64_t data_bytes;     /* mapped to write to, with the stacks */
};

/* Costs some microseconds, and allocates nothing. */
void fm_memory_facts_get(struct fm_memory_facts *ret_facts);
/* The middle one, and the most that it ever was of this program: not, as getrusage says it, of what
 * the process was before. */
uint64_t fm_memory_resident(void);
uint64_t fm_memory_peak(void);

/* Of the machine: all, and what is still to be had. 0: not known. */
void fm_memory_machine_get(uint64_t *ret_total, uint64_t *ret_available);

/* What this process and those that it starts may still take, of the machine, and of its group and
 * every one above that, as far as these have limits. What a group has of files that nobody has
 * looked at lately does not count as taken: the kernel drops that first. 0: not known; 1: nothing.
 */
uint64_t fm_memory_available(void);
/* The same for other places of the texts; for tests. */
uint64_t fm_memory_available_in(const char *group_file, const char *groups_root,
                                const char *machine_file);

/*
 * How many processes the kernel has ended for lack of memory, as far as can be seen from here:
 * those of this process's group, or of the machine where the group does not say. Only whether it
 * has changed says something. 0: not known.
 */
uint64_t fm_memory_kills(void);
/* The same for other places of the three texts; for tests. */
uint64_t fm_memory_kills_in(const char *group_file, const char *groups_root,
                            const char *machine_file);

#endif
