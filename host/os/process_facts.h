/*
 * What the kernel counts of this process (memory, descriptors, threads) and of the machine (CPUs,
 * memory). For metrics.
 *
 * Thread rule: thread safe. Costs some 20 us, most of it for counting descriptors.
 */
#ifndef FM_HOST_OS_PROCESS_FACTS_H
#define FM_HOST_OS_PROCESS_FACTS_H

#include <stdint.h>

struct fm_process_facts {
    uint64_t resident_bytes;
    uint64_t virtual_bytes;
    uint32_t open_descriptors;
    uint32_t descriptors_max;
    uint32_t threads;
};

/* 0 for what the kernel does not tell. */
void fm_process_facts_get(struct fm_process_facts *ret_facts);

/* Memory that this process has freed and its allocator keeps. */
uint64_t fm_process_memory_kept(void);
/* Gives it back to the machine, as far as the allocator can. Others that allocate wait meanwhile:
 * some milliseconds for a hundred MiB. */
void fm_process_memory_release(void);
/* From now on larger pieces go back by themselves as soon as they are freed, which costs more time
 * for each of them. */
void fm_process_memory_keep_little(void);

/* Memory of the machine: all, and all but what is to be had. 0: not known. */
void fm_machine_memory_get(uint64_t *ret_total, uint64_t *ret_used);

/* Time of all CPUs of the machine since it started. Zero-initialise. */
struct fm_machine_cpu {
    uint64_t busy_ticks;
    uint64_t all_ticks;
};
/* The share of the CPUs' time that was used since the last look, 0 .. 1; of the first look: since
 * the machine started. Unchanged where the kernel does not tell, or no time has passed. */
void fm_machine_cpu_look(struct fm_machine_cpu *cpu, double *utilization);

#endif
