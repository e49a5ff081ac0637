/*
 * What Fermata asks of the kernel: time, entropy, machine facts. Threads are in thread.h, files in
 * file.h.
 *
 * Thread rule: every function is thread safe.
 */
#ifndef FM_HOST_OS_OS_H
#define FM_HOST_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

uint64_t fm_os_now_ns(void);        /* monotonic */
uint64_t fm_os_wall_ns(void);       /* since 1970, for records and logs */
uint64_t fm_os_cpu_ns(void);        /* CPU time of this process, all threads */
uint64_t fm_os_thread_cpu_ns(void); /* CPU time of the calling thread */
uint64_t fm_os_entropy(void);
uint32_t fm_os_cpu_count(
    void); /* usable by this process: affinity and cgroup quota considered, at least 1 */
uint64_t fm_os_memory_peak_of_children(void);    /* of the largest child that has ended */
const char *fm_os_environment(const char *name); /* NULL when unset */
/* Sets what is not set. Before there are other threads. False: no memory. */
bool fm_os_environment_default(const char *name, const char *value);
/* The name of this machine, cut to the size; "" when it has none. */
void fm_os_host_name(char *name, size_t size);
bool fm_os_is_terminal(int descriptor);
uint32_t fm_os_terminal_columns(int descriptor); /* 80 when unknown */
/* RFC 3339 in UTC, "2026-01-31T12:00:00.123Z". size >= 32. */
void fm_os_format_time(uint64_t wall_ns, char *text, size_t size);

#endif
