/*
 * Facts of this process from /proc. See process_facts.h.
 */
#include "host/os/process_facts.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

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
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned long long total = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu %llu", &total, &resident) == 2) {
            ret_facts->virtual_bytes = total * page;
            ret_facts->resident_bytes = resident * page;
        }
        (void)fclose(file);
    }
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
