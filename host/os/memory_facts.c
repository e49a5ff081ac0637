/*
 * What the kernel says of memory. See memory_facts.h.
 */
#include "host/os/memory_facts.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 4096, GROUP_BYTES = 3000 };

/* Where the two versions of groups say what. */
struct group_files {
    const char *folder; /* of the hierarchy, below the groups' root */
    const char *most;
    const char *used;
    const char *idle; /* in memory.stat: of files, and not used lately */
    const char *kills;
};

static const struct group_files version_2 = {"", "memory.max", "memory.current", "inactive_file",
                                             "memory.events"};
static const struct group_files version_1 = {"/memory", "memory.limit_in_bytes",
                                             "memory.usage_in_bytes", "total_inactive_file",
                                             "memory.oom_control"};

/* A group that this process is in: "0::/path", or "4:memory:/path". */
struct group {
    const struct group_files *files;
    char path[GROUP_BYTES]; /* "/a/b"; "" is the root */
};

/* --- Texts --- */

void fm_memory_facts_get(struct fm_memory_facts *ret_facts)
{
    char text[LINE_BYTES];
    /* all, resident, shared, program, none, data and stacks */
    unsigned long long pages[6] = {0};
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *ret_facts = (struct fm_memory_facts){0};
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return;
    }
    ssize_t size = read(file, text, sizeof(text) - 1);
    (void)close(file);
    text[size > 0 ? size : 0] = '\0';
    if (sscanf(text, "%llu %llu %llu %llu %llu %llu", &pages[0], &pages[1], &pages[2], &pages[3],
               &pages[4], &pages[5]) == 6) {
        *ret_facts = (struct fm_memory_facts){.virtual_bytes = pages[0] * page,
                                              .resident_bytes = pages[1] * page,
                                              .data_bytes = pages[5] * page};
    }
}

uint64_t fm_memory_resident(void)
{
    struct fm_memory_facts facts;
    fm_memory_facts_get(&facts);
    return facts.resident_bytes;
}

/* The number behind a word at the beginning of a line of a file; behind no word: the file's first.
 * False: there is none. */
static bool number_find(const char *path, const char *word, uint64_t *ret_number)
{
    char line[LINE_BYTES];
    size_t length = strlen(word);
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        unsigned long long number = 0;
        found = strncmp(line, word, length) == 0 &&
                (length == 0 || line[length] == ' ' || line[length] == '\t') &&
                sscanf(line + length, "%llu", &number) == 1;
        *ret_number = (uint64_t)number;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

uint64_t fm_memory_peak(void)
{
    uint64_t kib = 0;
    return number_find("/proc/self/status", "VmHWM:", &kib) ? kib << 10 : 0;
}

static void machine_get(const char *path, uint64_t *ret_total, uint64_t *ret_available)
{
    uint64_t kib = 0;
    *ret_total = number_find(path, "MemTotal:", &kib) ? kib << 10 : 0;
    *ret_available = number_find(path, "MemAvailable:", &kib) ? kib << 10 : 0;
}

void fm_memory_machine_get(uint64_t *ret_total, uint64_t *ret_available)
{
    machine_get("/proc/meminfo", ret_total, ret_available);
}

/* --- Groups --- */

/* The next one that a file like /proc/self/cgroup names and that may have a limit on memory. */
static bool group_next(FILE *file, struct group *ret_group)
{
    char line[LINE_BYTES];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const char *two = strstr(line, ":memory:");
        const char *path = strncmp(line, "0::", 3) == 0 ? line + 3 : NULL;
        ret_group->files = path != NULL ? &version_2 : &version_1;
        path = path == NULL && two != NULL ? two + 8 : path;
        if (path == NULL || strlen(path) >= sizeof(ret_group->path)) {
            continue;
        }
        (void)snprintf(ret_group->path, sizeof(ret_group->path), "%s",
                       strcmp(path, "/") == 0 ? "" : path);
        return true;
    }
    return false;
}

/* A number that one of the group's files says, behind a word or alone ("max" is none). */
static bool group_number(const char *root, const struct group *group, const char *name,
                         const char *word, uint64_t *ret_number)
{
    char path[PATH_BYTES];
    return snprintf(path, sizeof(path), "%.500s%s%s/%s", root, group->files->folder, group->path,
                    name) < (int)sizeof(path) &&
           number_find(path, word, ret_number);
}

/* What a group leaves. False: it has no limit. */
static bool group_left(const char *root, const struct group *group, uint64_t *ret_left)
{
    uint64_t most = 0;
    uint64_t used = 0;
    uint64_t idle = 0;
    if (!group_number(root, group, group->files->most, "", &most) ||
        !group_number(root, group, group->files->used, "", &used)) {
        return false;
    }
    idle = group_number(root, group, "memory.stat", group->files->idle, &idle) ? idle : 0;
    used -= idle < used ? idle : used;
    *ret_left = most > used ? most - used : 1;
    return true;
}

uint64_t fm_memory_available_in(const char *group_file, const char *groups_root,
                                const char *machine_file)
{
    struct group group;
    uint64_t total = 0;
    uint64_t left = 0;
    uint64_t available = 0;
    machine_get(machine_file, &total, &available);
    FILE *file = fopen(group_file, "re");
    while (group_next(file, &group)) {
        for (char *end = group.path; end != NULL;) {
            if (group_left(groups_root, &group, &left)) {
                available = available == 0 || left < available ? left : available;
            }
            end = strrchr(group.path, '/'); /* the one above */
            if (end != NULL) {
                *end = '\0';
            }
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
    struct group group;
    uint64_t kills = 0;
    bool found = false;
    FILE *file = fopen(group_file, "re");
    while (!found && group_next(file, &group)) {
        found = group_number(groups_root, &group, group.files->kills, "oom_kill", &kills);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found || number_find(machine_file, "oom_kill", &kills) ? kills : 0;
}

uint64_t fm_memory_kills(void)
{
    return fm_memory_kills_in("/proc/self/cgroup", "/sys/fs/cgroup", "/proc/vmstat");
}
