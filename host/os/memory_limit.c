/*
 * A limit on memory. See memory_limit.h.
 */
#include "host/os/memory_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/util/error.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 4096 };

uint64_t fm_memory_limit_used(void)
{
    unsigned long long pages[6] = {0}; /* all, resident, shared, program, none, data and stack */
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    int read = fscanf(file, "%llu %llu %llu %llu %llu %llu", &pages[0], &pages[1], &pages[2],
                      &pages[3], &pages[4], &pages[5]);
    (void)fclose(file);
    unsigned long long most = pages[1] > pages[5] ? pages[1] : pages[5];
    return read == 6 ? (uint64_t)most * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t fm_memory_resident(void)
{
    char text[LINE_BYTES];
    unsigned long long pages[2] = {0}; /* all, resident */
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0;
    }
    ssize_t size = read(file, text, sizeof(text) - 1);
    (void)close(file);
    text[size > 0 ? size : 0] = '\0';
    return sscanf(text, "%llu %llu", &pages[0], &pages[1]) == 2
               ? (uint64_t)pages[1] * (uint64_t)sysconf(_SC_PAGESIZE)
               : 0;
}

int fm_memory_limit_set(uint64_t bytes, struct fm_error *reterr)
{
    struct rlimit limit;
    uint64_t used = fm_memory_limit_used();
    if (used >= bytes) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "memory cannot be limited to %llu MiB, because the process has %llu MiB "
            "already: allow more",
            (unsigned long long)(bytes >> 20), (unsigned long long)(used >> 20));
    }
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur > bytes) {
        limit.rlim_cur = bytes;
        if (setrlimit(RLIMIT_DATA, &limit) != 0) {
            return fm_error_set(reterr, FM_EPERM, "memory cannot be limited: %s", strerror(errno));
        }
    }
    return 0;
}

/* The number behind a word at the beginning of a line of a file. False: there is none. */
static bool number_find(const char *path, const char *word, uint64_t *ret_number)
{
    char line[LINE_BYTES];
    size_t length = strlen(word);
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        unsigned long long number = 0;
        found = strncmp(line, word, length) == 0 && line[length] == ' ' &&
                sscanf(line + length, "%llu", &number) == 1;
        *ret_number = (uint64_t)number;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

/* The group of this process in a hierarchy ("0::/path", "4:memory:/path") that says it. */
static bool kills_of_group(const char *group_file, const char *groups_root, uint64_t *ret_kills)
{
    char line[LINE_BYTES];
    char path[PATH_BYTES];
    bool found = false;
    FILE *file = fopen(group_file, "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *one = strncmp(line, "0::", 3) == 0 ? line + 3 : NULL;
        const char *two = strstr(line, ":memory:");
        const char *group = one != NULL ? one : two != NULL ? two + 8 : NULL;
        if (group == NULL ||
            snprintf(path, sizeof(path), "%s%s%.3000s/%s", groups_root,
                     one != NULL ? "" : "/memory", group,
                     one != NULL ? "memory.events" : "memory.oom_control") >= (int)sizeof(path)) {
            continue;
        }
        found = number_find(path, "oom_kill", ret_kills);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

/* The number that is a file of the group that the line is about. False: there is none ("max"). */
static bool group_number(const char *groups_root, const char *group, const char *name,
                         uint64_t *ret_number)
{
    char path[PATH_BYTES];
    unsigned long long number = 0;
    FILE *file = NULL;
    if (snprintf(path, sizeof(path), "%s%.3000s/%s", groups_root, group, name) <
        (int)sizeof(path)) {
        file = fopen(path, "re");
    }
    bool found = file != NULL && fscanf(file, "%llu", &number) == 1;
    if (file != NULL) {
        (void)fclose(file);
    }
    *ret_number = (uint64_t)number;
    return found;
}

uint64_t fm_memory_available_in(const char *group_file, const char *groups_root,
                                const char *machine_file)
{
    char line[LINE_BYTES];
    uint64_t kib = 0;
    uint64_t most = 0;
    uint64_t used = 0;
    uint64_t available = number_find(machine_file, "MemAvailable:", &kib) ? kib << 10 : 0;
    FILE *file = fopen(group_file, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0 &&
            group_number(groups_root, line + 3, "memory.max", &most) &&
            group_number(groups_root, line + 3, "memory.current", &used)) {
            uint64_t left = most > used ? most - used : 1;
            available = available == 0 || left < available ? left : available;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return available;
}

uint64_t fm_memory_available(void)
{
    return fm_memory_available_in("/proc/self/cgroup", "/sys/fs/cgroup", "/proc/meminfo");
}

uint64_t fm_memory_kills_in(const char *group_file, const char *groups_root,
                            const char *machine_file)
{
    uint64_t kills = 0;
    return kills_of_group(group_file, groups_root, &kills) ||
                   number_find(machine_file, "oom_kill", &kills)
               ? kills
               : 0;
}

uint64_t fm_memory_kills(void)
{
    return fm_memory_kills_in("/proc/self/cgroup", "/sys/fs/cgroup", "/proc/vmstat");
}
