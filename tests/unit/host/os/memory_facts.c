/*
 * What the kernel says of memory: of this process, of the machine and of groups of processes, and
 * how many processes it has ended.
 */
#include "host/os/memory_facts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "host/os/file.h"
#include "tests/harness/test.h"

TEST(the_process_and_the_machine_have_memory)
{
    struct fm_memory_facts facts;
    uint64_t total = 0;
    uint64_t available = 0;
    fm_memory_facts_get(&facts);
    CHECK(facts.resident_bytes > 0 && facts.data_bytes > 0);
    CHECK(facts.virtual_bytes >= facts.resident_bytes && facts.virtual_bytes >= facts.data_bytes);
    fm_memory_machine_get(&total, &available);
    CHECK(available > 0 && available < total && facts.resident_bytes < total);
}

TEST(what_is_resident_grows_with_what_is_touched)
{
    enum { BYTES = 32 << 20 };
    uint64_t before = fm_memory_resident();
    CHECK(before > 0);
    volatile char *memory = malloc(BYTES);
    CHECK(memory != NULL);
    for (size_t i = 0; memory != NULL && i < BYTES; i += 4096) {
        memory[i] = 1;
    }
    CHECK(fm_memory_resident() >= before + BYTES / 10 * 9);
    free((void *)(uintptr_t)memory);
}

static void text_write(const char *folder, const char *name, const char *text)
{
    char path[1200];
    (void)snprintf(path, sizeof(path), "%.1000s/%.100s", folder, name);
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static uint64_t kills_in(const char *folder)
{
    char group[1200];
    char machine[1200];
    (void)snprintf(group, sizeof(group), "%.1000s/group", folder);
    (void)snprintf(machine, sizeof(machine), "%.1000s/vmstat", folder);
    return fm_memory_kills_in(group, folder, machine);
}

TEST(the_peak_stays_when_memory_is_given_back)
{
    enum { BYTES = 48 << 20 };
    volatile char *memory = malloc(BYTES);
    CHECK(memory != NULL);
    for (size_t i = 0; memory != NULL && i < BYTES; i += 4096) {
        memory[i] = 1;
    }
    uint64_t most = fm_memory_resident();
    free((void *)(uintptr_t)memory);
    CHECK(most >= BYTES && fm_memory_peak() >= most / 10 * 9);
    CHECK(fm_memory_peak() < most * 4);
}

TEST(kills_are_read_where_the_group_or_the_machine_says_them)
{
    char folder[1024];
    char path[1200];
    static const char *const folders[] = {"/memory", "/memory/a", "/memory/a/b"};
    CHECK_INT_EQ(fm_file_make_temporary("fermata-kills", folder, sizeof(folder), NULL), 0);
    CHECK_UINT_EQ(kills_in(folder), 0); /* nothing is known */
    text_write(folder, "vmstat", "oom_kill_disable 7\nnr_free 3\noom_kill 5\n");
    CHECK_UINT_EQ(kills_in(folder), 5);
    text_write(folder, "group", "9:name=systemd:/\n4:memory:/a/b\n0::/\n");
    CHECK_UINT_EQ(kills_in(folder), 5); /* the group's file is not there */
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)snprintf(path, sizeof(path), "%.1000s%s", folder, folders[i]);
        CHECK_INT_EQ(mkdir(path, 0700), 0);
    }
    text_write(path, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    CHECK_UINT_EQ(kills_in(folder), 2);
    text_write(folder, "group", "0::/\n");
    text_write(folder, "memory.events", "low 0\nhigh 1\nmax 4\noom 4\noom_kill 9\n");
    CHECK_UINT_EQ(kills_in(folder), 9);
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

static uint64_t available_in(const char *folder)
{
    char group[1200];
    char machine[1200];
    (void)snprintf(group, sizeof(group), "%.1000s/group", folder);
    (void)snprintf(machine, sizeof(machine), "%.1000s/meminfo", folder);
    return fm_memory_available_in(group, folder, machine);
}

TEST(what_is_available_is_what_the_machine_and_the_group_leave)
{
    char folder[1024];
    CHECK_INT_EQ(fm_file_make_temporary("fermata-available", folder, sizeof(folder), NULL), 0);
    CHECK_UINT_EQ(available_in(folder), 0); /* nothing is known */
    text_write(folder, "meminfo", "MemTotal:       1000 kB\nMemAvailable:    600 kB\n");
    CHECK_UINT_EQ(available_in(folder), 600 << 10);
    text_write(folder, "group", "4:memory:/a\n0::/\n");
    CHECK_UINT_EQ(available_in(folder), 600 << 10); /* the group does not say */
    text_write(folder, "memory.max", "max\n");
    text_write(folder, "memory.current", "100000\n");
    CHECK_UINT_EQ(available_in(folder), 600 << 10); /* it has no limit */
    text_write(folder, "memory.max", "300000\n");
    CHECK_UINT_EQ(available_in(folder), 200000);
    text_write(folder, "memory.max", "90000\n");
    CHECK_UINT_EQ(available_in(folder), 1); /* it has more already */
    text_write(folder, "memory.max", "1000000000\n");
    CHECK_UINT_EQ(available_in(folder), 600 << 10);
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
    CHECK(fm_memory_available() > 0);
}

TEST(files_that_were_read_are_not_taken)
{
    char folder[1024];
    CHECK_INT_EQ(fm_file_make_temporary("fermata-available", folder, sizeof(folder), NULL), 0);
    text_write(folder, "meminfo", "MemTotal:       1000 kB\nMemAvailable:    600 kB\n");
    text_write(folder, "group", "0::/\n");
    text_write(folder, "memory.max", "300000\n");
    text_write(folder, "memory.current", "300000\n");
    CHECK_UINT_EQ(available_in(folder), 1);
    text_write(folder, "memory.stat", "anon 40000\nfile 260000\ninactive_file 250000\n");
    CHECK_UINT_EQ(available_in(folder), 250000);
    text_write(folder, "memory.stat", "anon 40000\ninactive_file 900000\n"); /* seen later */
    CHECK_UINT_EQ(available_in(folder), 300000);
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

static void group_write(const char *folder, const char *group, const char *name, const char *text)
{
    char path[1200];
    (void)snprintf(path, sizeof(path), "%.1000s%.100s", folder, group);
    CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
    text_write(path, name, text);
}

TEST(the_groups_above_have_limits_too)
{
    char folder[1024];
    CHECK_INT_EQ(fm_file_make_temporary("fermata-available", folder, sizeof(folder), NULL), 0);
    text_write(folder, "meminfo", "MemTotal:       1000 kB\nMemAvailable:    600 kB\n");
    text_write(folder, "group", "0::/pod/worker\n");
    group_write(folder, "/pod", "memory.max", "500000\n");
    group_write(folder, "/pod", "memory.current", "400000\n");
    group_write(folder, "/pod/worker", "memory.max", "max\n");
    group_write(folder, "/pod/worker", "memory.current", "10000\n");
    CHECK_UINT_EQ(available_in(folder), 100000);
    group_write(folder, "/pod/worker", "memory.max", "50000\n");
    CHECK_UINT_EQ(available_in(folder), 40000);
    text_write(folder, "memory.max",
               "20000\n"); /* of the folder that a container sees as the root */
    text_write(folder, "memory.current", "5000\n");
    CHECK_UINT_EQ(available_in(folder), 15000);
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

TEST(groups_of_the_first_version_have_limits_too)
{
    char folder[1024];
    CHECK_INT_EQ(fm_file_make_temporary("fermata-available", folder, sizeof(folder), NULL), 0);
    text_write(folder, "meminfo", "MemTotal:       1000 kB\nMemAvailable:    600 kB\n");
    text_write(folder, "group", "9:name=systemd:/\n4:memory:/a/b\n0::/\n");
    group_write(folder, "/memory", "memory.limit_in_bytes", "9223372036854771712\n");
    group_write(folder, "/memory", "memory.usage_in_bytes", "80000000\n");
    CHECK_UINT_EQ(available_in(folder), 600 << 10); /* what stands for no limit */
    group_write(folder, "/memory/a", "memory.limit_in_bytes", "400000\n");
    group_write(folder, "/memory/a", "memory.usage_in_bytes", "390000\n");
    group_write(folder, "/memory/a", "memory.stat", "inactive_file 7\ntotal_inactive_file 90000\n");
    CHECK_UINT_EQ(available_in(folder), 100000);
    group_write(folder, "/memory/a/b", "memory.limit_in_bytes", "60000\n");
    group_write(folder, "/memory/a/b", "memory.usage_in_bytes", "20000\n");
    CHECK_UINT_EQ(available_in(folder), 40000);
    CHECK_INT_EQ(fm_file_remove_tree(folder, NULL), 0);
}

TEST_MAIN()
