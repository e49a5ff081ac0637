/*
 * What the kernel counts of this process: memory, descriptors, threads. For metrics.
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

#endif
