/*
 * POSIX shared memory objects. See shared_memory.h.
 */
#include "host/os/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/util/error.h"

/* --- objects that shrink under us --------------------------------------------------------------
 */

/* A mapping that the handler knows. */
struct fm_shared_memory_guard {
    _Atomic bool used;
    _Atomic bool broken; /* some of it is not the object's any more */
    _Atomic uintptr_t start;
    _Atomic uintptr_t end; /* 0: not to be looked at */
};

static struct fm_shared_memory_guard guards[FM_SHARED_MEMORY_GUARDS_MAX];
static _Atomic uint32_t guards_end; /* those beyond were never used */
static uintptr_t page_size;
static struct sigaction others; /* who had the signal before */
static pthread_once_t installed = PTHREAD_ONCE_INIT;

/* Puts zeros from the page of the address to the end of its mapping. mmap is a bare system call
 * here, though POSIX does not list it for handlers. */
static bool mend(uintptr_t address)
{
    uint32_t count = atomic_load_explicit(&guards_end, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        struct fm_shared_memory_guard *guard = &guards[i];
        uintptr_t end = atomic_load_explicit(&guard->end, memory_order_acquire);
        uintptr_t start = atomic_load_explicit(&guard->start, memory_order_relaxed);
        if (end == 0 || address < start || address >= end) {
            continue;
        }
        uintptr_t page = address - address % page_size;
        atomic_store_explicit(&guard->broken, true, memory_order_relaxed);
        /* Others may read the pages meanwhile: the kernel changes them at once. mmap() itself would
         * be a write to ThreadSanitizer, and a race. */
        return syscall(SYS_mmap, page, end - page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (long)page;
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    int error = errno;
    (void)context;
    if (!mend((uintptr_t)info->si_addr)) {
        /* Not ours: the access is made again, and theirs to end. */
        (void)sigaction(number, &others, NULL);
    }
    errno = error;
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_RESTART};
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGBUS, &action, &others);
}

static struct fm_shared_memory_guard *guard_take(void)
{
    for (uint32_t i = 0; i < FM_SHARED_MEMORY_GUARDS_MAX; i++) {
        bool used = false;
        if (atomic_compare_exchange_strong_explicit(&guards[i].used, &used, true,
                                                    memory_order_acquire, memory_order_relaxed)) {
            uint32_t end = atomic_load_explicit(&guards_end, memory_order_relaxed);
            while (end <= i && !atomic_compare_exchange_weak_explicit(&guards_end, &end, i + 1,
                                                                      memory_order_release,
                                                                      memory_order_relaxed)) {
            }
            atomic_store_explicit(&guards[i].broken, false, memory_order_relaxed);
            return &guards[i];
        }
    }
    return NULL;
}

static void guard_set(struct fm_shared_memory_guard *guard, const void *mapping, size_t size)
{
    uintptr_t start = (uintptr_t)mapping;
    uintptr_t whole = (size + page_size - 1) / page_size * page_size;
    atomic_store_explicit(&guard->start, start, memory_order_relaxed);
    atomic_store_explicit(&guard->end, start + whole, memory_order_release);
}

static void guard_return(struct fm_shared_memory_guard *guard)
{
    atomic_store_explicit(&guard->end, 0, memory_order_relaxed);
    atomic_store_explicit(&guard->used, false, memory_order_release);
}

/* --- opening -----------------------------------------------------------------------------------
 */

static int fail(struct fm_error *reterr, const char *what, const char *key, int error)
{
    int status = error == ENOENT                     ? FM_ENOTFOUND
                 : error == EACCES || error == EPERM ? FM_EPERM
                 : error == ENOSPC                   ? FM_ENOSPC
                 : error == ENOMEM                   ? FM_ENOMEM
                 : error == EINVAL || error == ELOOP ? FM_EINVAL
                                                     : FM_EIO;
    return fm_error_set(reterr, status, "cannot %s the shared memory object '%s': %s", what, key,
                        strerror(error));
}

/* The object's size; -1 when it is no such object. */
static int64_t object_size(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) ? (int64_t)status.st_size
                                                                      : -1;
}

static int key_check(const char *key, struct fm_error *reterr)
{
    const char *name = key[0] == '/' ? key + 1 : key;
    size_t length = strlen(name);
    bool good = length > 0 && length <= FM_SHARED_MEMORY_KEY_MAX && strchr(name, '/') == NULL &&
                strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    return good ? 0
                : fm_error_set(reterr, FM_EINVAL,
                               "a shared memory key is one name of 1 to %d bytes, like \"/input\", "
                               "not '%.100s'",
                               FM_SHARED_MEMORY_KEY_MAX, key);
}

static int bounds_check(const struct fm_shared_memory *memory, const char *key, uint64_t size,
                        struct fm_error *reterr)
{
    int64_t whole = object_size(memory->descriptor);
    if (whole < 0) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' is no shared memory object", key);
    }
    if (size == 0 || memory->offset > (uint64_t)whole || size > (uint64_t)whole - memory->offset) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the shared memory object '%s' has %lld bytes; %llu at offset %llu are "
                            "not among them",
                            key, (long long)whole, (unsigned long long)size,
                            (unsigned long long)memory->offset);
    }
    return 0;
}

static int map(struct fm_shared_memory *memory, const char *key, size_t size,
               struct fm_error *reterr)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t before = memory->offset % page;
    memory->mapping_size = size + (size_t)before;
    memory->guard = guard_take();
    if (memory->guard == NULL) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "%d shared memory objects are open, and more are not opened: '%s'",
                            FM_SHARED_MEMORY_GUARDS_MAX, key);
    }
    if (memory->writable) {
        int error = posix_fallocate(memory->descriptor, (off_t)memory->offset, (off_t)size);
        if (error != 0 && error != EOPNOTSUPP && error != EINVAL) {
            return fail(reterr, "reserve the pages of", key, error);
        }
    }
    memory->mapping =
        mmap(NULL, memory->mapping_size, PROT_READ | (memory->writable ? PROT_WRITE : 0),
             MAP_SHARED, memory->descriptor, (off_t)(memory->offset - before));
    if (memory->mapping == MAP_FAILED) {
        memory->mapping = NULL;
        return fail(reterr, "map", key, errno);
    }
    guard_set(memory->guard, memory->mapping, memory->mapping_size);
    memory->data = (char *)memory->mapping + before;
    memory->size = size;
    return 0;
}

int fm_shared_memory_open(struct fm_shared_memory *memory, const char *key, uint64_t offset,
                          uint64_t size, struct fm_error *reterr)
{
    *memory = (struct fm_shared_memory){.offset = offset, .descriptor = -1, .writable = true};
    int status = key_check(key, reterr);
    if (status != 0) {
        return status;
    }
    (void)pthread_once(&installed, install);
    memory->descriptor = shm_open(key, O_RDWR, 0);
    if (memory->descriptor < 0 && errno == EACCES) {
        memory->writable = false;
        memory->descriptor = shm_open(key, O_RDONLY, 0);
    }
    if (memory->descriptor < 0) {
        return fail(reterr, "open", key, errno);
    }
    status = bounds_check(memory, key, size, reterr);
    if (status == 0) {
        status = map(memory, key, (size_t)size, reterr);
    }
    if (status != 0) {
        fm_shared_memory_close(memory);
    }
    return status;
}

void fm_shared_memory_close(struct fm_shared_memory *memory)
{
    if (memory->mapping != NULL) {
        (void)munmap(memory->mapping, memory->mapping_size);
    }
    if (memory->guard != NULL) {
        guard_return(memory->guard);
    }
    if (memory->descriptor >= 0) {
        (void)close(memory->descriptor);
    }
    *memory = (struct fm_shared_memory){.descriptor = -1};
}

bool fm_shared_memory_intact(const struct fm_shared_memory *memory)
{
    int64_t whole = object_size(memory->descriptor);
    return !atomic_load_explicit(&memory->guard->broken, memory_order_relaxed) && whole >= 0 &&
           memory->offset <= (uint64_t)whole && memory->size <= (uint64_t)whole - memory->offset;
}
