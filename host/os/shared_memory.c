/*
 * POSIX shared memory objects. See shared_memory.h.
 */
#include "host/os/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/error.h"

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
    if (memory->descriptor >= 0) {
        (void)close(memory->descriptor);
    }
    *memory = (struct fm_shared_memory){.descriptor = -1};
}

bool fm_shared_memory_intact(const struct fm_shared_memory *memory)
{
    int64_t whole = object_size(memory->descriptor);
    return whole >= 0 && memory->offset <= (uint64_t)whole &&
           memory->size <= (uint64_t)whole - memory->offset;
}
