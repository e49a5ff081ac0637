/*
 * A limit on this process's memory: what counts, what fails beyond it; and where the kernel says
 * how many processes it has ended.
 */
#include "host/os/memory_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host/os/file.h"
#include "tests/harness/test.h"

TEST(what_is_used_grows_with_what_is_taken)
{
    enum { BYTES = 50 << 20 };
    uint64_t before = fm_memory_limit_used();
    CHECK(before > 0);
    volatile char *memory = malloc(BYTES);
    CHECK(memory != NULL);
    for (size_t i = 0; i < BYTES; i += 4096) {
        memory[i] = 1;
    }
    CHECK(fm_memory_limit_used() >= before + BYTES - (1 << 20));
    free((void *)memory);
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

/* The last one: nothing takes the limit back. */
TEST(beyond_the_limit_allocations_fail)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    TEST_SKIP("sanitizers map more than any limit");
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    TEST_SKIP("sanitizers map more than any limit");
#endif
#endif
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_memory_limit_set(4096, &error), FM_EINVAL);
    CHECK(strstr(error.text, "MiB already") != NULL);
    uint64_t limit = fm_memory_limit_used() + (64u << 20);
    CHECK_INT_EQ(fm_memory_limit_set(limit, &error), 0);
    void *little = malloc(8 << 20);
    CHECK(little != NULL);
    void *much = malloc(100 << 20);
    CHECK(much == NULL);
    free(much);
    free(little);
}

TEST_MAIN()
