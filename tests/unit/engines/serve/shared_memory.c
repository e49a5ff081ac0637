/*
 * Shared memory regions: bytes go both ways through a real object; every wrong name, size and
 * offset is refused; a region outlives its name while it is used; several threads at once.
 */
#include "engines/serve/shared_memory.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/os/shared_memory.h"
#include "tests/harness/test.h"

static char key[64];

/* An object of two pages, counted up; NULL when the machine has none. */
static char *object_make(size_t size)
{
    snprintf(key, sizeof(key), "/fermata-test-%ld", (long)getpid());
    (void)shm_unlink(key);
    int descriptor = shm_open(key, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (descriptor < 0 || ftruncate(descriptor, (off_t)size) != 0) {
        return NULL;
    }
    char *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)i;
    }
    return data;
}

static int register_region(struct fm_shared_regions *regions, const char *name, const char *of,
                           uint64_t offset, uint64_t size, struct fm_error *error)
{
    *error = (struct fm_error){0};
    return fm_shared_regions_register(regions, &(struct fm_messages_region){name, of, offset, size},
                                      error);
}

TEST(bytes_go_both_ways)
{
    struct fm_shared_regions regions;
    struct fm_error error;
    struct fm_value value = {0};
    char *object = object_make(8192);
    CHECK(object != NULL);
    fm_shared_regions_init(&regions);
    CHECK_INT_EQ(register_region(&regions, "in", key, 4100, 4000, &error), 0);
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "in", 10, 20, true, &value, &error), 0);
    CHECK_INT_EQ(value.tensor.size, 20);
    CHECK_MEM_EQ(value.tensor.data, object + 4110, 20);
    ((char *)value.tensor.data)[3] = 'x';
    CHECK_INT_EQ(object[4113], 'x');
    /* Unregistered, it stays until the request is through. */
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "in", NULL), 0);
    object[4114] = 'y';
    CHECK_INT_EQ(((char *)value.tensor.data)[4], 'y');
    struct fm_value none = {0};
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "in", 0, 1, false, &none, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "Unable to find shared memory region: 'in'");
    fm_value_unref(&value);
    fm_shared_regions_deinit(&regions);
    munmap(object, 8192);
    shm_unlink(key);
}

TEST(what_is_refused)
{
    struct fm_shared_regions regions;
    struct fm_error error;
    struct fm_value value = {0};
    char *object = object_make(8192);
    CHECK(object != NULL);
    fm_shared_regions_init(&regions);
    CHECK_INT_EQ(register_region(&regions, "a", "/fermata-none", 0, 1, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "failed to register shared memory region 'a': cannot open");
    CHECK_INT_EQ(register_region(&regions, "a", "/../etc/passwd", 0, 1, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "a", "..", 0, 1, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "a", "", 0, 1, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "a", key, 0, 8193, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "has 8192 bytes; 8193 at offset 0 are not among them");
    CHECK_INT_EQ(register_region(&regions, "a", key, UINT64_MAX, 2, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "a", key, 8, UINT64_MAX, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "a", key, 0, 0, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "", key, 0, 1, &error), FM_EINVAL);
    CHECK_INT_EQ(register_region(&regions, "\xFF", key, 0, 1, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "both UTF-8");
    CHECK_INT_EQ(register_region(&regions, "a", key, 0, 100, &error), 0);
    CHECK_INT_EQ(register_region(&regions, "a", key, 0, 100, &error), FM_EEXIST);
    CHECK_STR_CONTAINS(error.text, "'a' already in manager");
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "a", 0, 101, false, &value, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "Invalid offset + byte size for shared memory region: 'a'");
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "a", 1, UINT64_MAX, false, &value, &error),
                 FM_EINVAL);
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "a", 101, 0, false, &value, &error),
                 FM_EINVAL);
    /* The client makes its object smaller. */
    int descriptor = shm_open(key, O_RDWR, 0);
    CHECK_INT_EQ(ftruncate(descriptor, 50), 0);
    close(descriptor);
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "a", 0, 10, false, &value, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "has been made smaller");
    fm_shared_regions_deinit(&regions);
    munmap(object, 8192);
    shm_unlink(key);
}

TEST(lists)
{
    struct fm_shared_regions regions;
    struct fm_error error;
    struct fm_arena arena = {0};
    struct fm_messages_region *rows = NULL;
    size_t count = 0;
    char name[32];
    char *object = object_make(4096);
    CHECK(object != NULL);
    fm_shared_regions_init(&regions);
    CHECK_INT_EQ(fm_shared_regions_list(&regions, "", &arena, &rows, &count, &error), 0);
    CHECK_INT_EQ(count, 0);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "r%02u", i * 37 % 50);
        CHECK_INT_EQ(register_region(&regions, name, key, i, 1, &error), 0);
    }
    CHECK_INT_EQ(fm_shared_regions_list(&regions, "", &arena, &rows, &count, &error), 0);
    CHECK_INT_EQ(count, 50);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "r%02u", i);
        CHECK_STR_EQ(rows[i].name, name);
        CHECK_STR_EQ(rows[i].key, key);
    }
    CHECK_INT_EQ(fm_shared_regions_list(&regions, "r07", &arena, &rows, &count, &error), 0);
    CHECK_INT_EQ(count, 1);
    CHECK_STR_EQ(rows[0].name, "r07");
    CHECK_INT_EQ(fm_shared_regions_list(&regions, "x", &arena, &rows, &count, &error),
                 FM_ENOTFOUND);
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "r07", NULL), 0);
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "r07", NULL), 0);
    CHECK_INT_EQ(fm_shared_regions_list(&regions, NULL, &arena, &rows, &count, &error), 0);
    CHECK_INT_EQ(count, 49);
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "", NULL), 0);
    CHECK_INT_EQ(fm_shared_regions_list(&regions, NULL, &arena, &rows, &count, &error), 0);
    CHECK_INT_EQ(count, 0);
    fm_arena_deinit(&arena);
    fm_shared_regions_deinit(&regions);
    munmap(object, 4096);
    shm_unlink(key);
}

TEST(frozen)
{
    struct fm_shared_regions regions;
    struct fm_error error;
    struct fm_value value = {0};
    char *object = object_make(4096);
    CHECK(object != NULL);
    fm_shared_regions_init(&regions);
    CHECK_INT_EQ(register_region(&regions, "in", key, 0, 64, &error), 0);
    fm_shared_regions_freeze(&regions, true);
    CHECK_INT_EQ(register_region(&regions, "more", key, 0, 64, &error), FM_EAGAIN);
    CHECK_STR_CONTAINS(error.text, "being replaced by a new one");
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "in", &error), FM_EAGAIN);
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, NULL, &error), FM_EAGAIN);
    CHECK_INT_EQ(fm_shared_regions_resolve(&regions, "in", 0, 64, false, &value, &error), 0);
    fm_value_unref(&value);
    fm_shared_regions_freeze(&regions, false);
    CHECK_INT_EQ(register_region(&regions, "more", key, 0, 64, &error), 0);
    CHECK_INT_EQ(fm_shared_regions_unregister(&regions, "in", &error), 0);
    fm_shared_regions_freeze(&regions, true);
    fm_shared_regions_deinit(&regions);
    munmap(object, 4096);
    shm_unlink(key);
}

struct worker {
    struct fm_thread thread;
    struct fm_shared_regions *regions;
    bool changes;
    atomic_uint *found;
};

static void work(void *argument)
{
    struct worker *worker = argument;
    struct fm_error error;
    for (int i = 0; i < 500; i++) {
        if (worker->changes) {
            (void)!register_region(worker->regions, "w", key, 0, 64, &error);
            CHECK_INT_EQ(fm_shared_regions_unregister(worker->regions, "w", NULL), 0);
            continue;
        }
        struct fm_value value = {0};
        if (fm_shared_regions_resolve(worker->regions, "w", 0, 64, false, &value, &error) == 0) {
            atomic_fetch_add(worker->found, (unsigned)(((char *)value.tensor.data)[1] == 1));
            fm_value_unref(&value);
        }
    }
}

TEST(threads)
{
    struct fm_shared_regions regions;
    struct worker workers[4];
    atomic_uint found = 0;
    char *object = object_make(4096);
    CHECK(object != NULL);
    fm_shared_regions_init(&regions);
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.regions = &regions, .changes = i < 2, .found = &found};
        CHECK_INT_EQ(fm_thread_start(&workers[i].thread, "worker", work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        fm_thread_join(&workers[i].thread);
    }
    fm_shared_regions_deinit(&regions);
    munmap(object, 4096);
    shm_unlink(key);
}

TEST_MAIN()
