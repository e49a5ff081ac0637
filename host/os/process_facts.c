/*
 * Facts of this process and of the machine from /proc. See process_facts.h.
 */
#include "host/os/process_facts.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/os/memory_facts.h"

/* Pieces of so many bytes are mapped by themselves; the top of a heap is given back beyond. */
enum { MAPPED_BYTES = 128 << 10, KEPT_BYTES = 512 << 10 };

/* Entries of a folder of /proc, without "." and "..". */
static uint32_t entries_count(const char *path)
{
    DIR *folder = opendir(path);
    uint32_t count = 0;
    if (folder == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(folder);
    return count;
}

void fm_process_facts_get(struct fm_process_facts *ret_facts)
{
    *ret_facts = (struct fm_process_facts){0};
    struct fm_memory_facts memory;
    fm_memory_facts_get(&memory);
    ret_facts->virtual_bytes = memory.virtual_bytes;
    ret_facts->resident_bytes = memory.resident_bytes;
    uint32_t descriptors = entries_count("/proc/self/fd");
    /* Looking needs a descriptor itself. */
    ret_facts->open_descriptors = descriptors > 0 ? descriptors - 1 : 0;
    ret_facts->threads = entries_count("/proc/self/task");
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        ret_facts->descriptors_max =
            limit.rlim_cur < UINT32_MAX ? (uint32_t)limit.rlim_cur : UINT32_MAX;
    }
}

void fm_machine_memory_get(uint64_t *ret_total, uint64_t *ret_used)
{
    uint64_t available = 0;
    fm_memory_machine_get(ret_total, &available);
    *ret_used = available < *ret_total ? *ret_total - available : 0;
}

void fm_machine_cpu_look(struct fm_machine_cpu *cpu, double *utilization)
{
    /* user, nice, system, idle, waiting for disks, interrupts (two), taken by the host */
    unsigned long long ticks[8] = {0};
    FILE *file = fopen("/proc/stat", "re");
    if (file == NULL) {
        return;
    }
    int read = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1],
                      &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]);
    (void)fclose(file);
    struct fm_machine_cpu now = {0};
    for (int i = 0; i < read; i++) {
        now.all_ticks += ticks[i];
        now.busy_ticks += i == 3 || i == 4 ? 0 : ticks[i];
    }
    if (now.all_ticks > cpu->all_ticks && now.busy_ticks >= cpu->busy_ticks) {
        *utilization =
            (double)(now.busy_ticks - cpu->busy_ticks) / (double)(now.all_ticks - cpu->all_ticks);
        *cpu = now;
    }
}

uint64_t fm_process_memory_kept(void)
{
    return mallinfo2().fordblks;
}

void fm_process_memory_release(void)
{
    (void)malloc_trim(0);
}

void fm_process_memory_keep_little(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}
