/*
 * Memory shared with a program. See private_memory.h.
 */
#include "host/os/private_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/util/error.h"

int fm_private_memory_create(size_t size, struct fm_private_memory *ret_memory,
                             struct fm_error *reterr)
{
    struct fm_private_memory memory = {.size = size, .descriptor = -1};
    void *data = MAP_FAILED;
    memory.descriptor = memfd_create("fermata", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory.descriptor >= 0 && ftruncate(memory.descriptor, (off_t)size) == 0 &&
        fcntl(memory.descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.descriptor, 0);
    }
    if (data == MAP_FAILED) {
        int status = fm_error_set(reterr, errno == ENOMEM ? FM_ENOMEM : FM_EIO,
                                  "cannot share %zu bytes of memory with a process: %s", size,
                                  strerror(errno));
        fm_private_memory_descriptor_close(&memory);
        return status;
    }
    memory.data = data;
    *ret_memory = memory;
    return 0;
}

void fm_private_memory_descriptor_close(struct fm_private_memory *memory)
{
    if (memory->descriptor >= 0) {
        (void)close(memory->descriptor);
    }
    memory->descriptor = -1;
}

void fm_private_memory_destroy(struct fm_private_memory *memory)
{
    if (memory->data != NULL) {
        fm_private_memory_descriptor_close(memory);
        (void)munmap(memory->data, memory->size);
    }
    *memory = (struct fm_private_memory){.descriptor = -1};
}
