/*
 * Process-wide locks on files (flock). See file_lock.h.
 */
#include "host/os/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "core/util/error.h"

/* Somebody who only looks has it for a moment. */
#define LOOK_TRIES 20
#define LOOK_NS    5000000L

static int fail(struct fm_error *reterr, const char *what, const char *path, int error)
{
    int status = error == ENOSPC || error == EDQUOT                    ? FM_ENOSPC
                 : error == EACCES || error == EPERM || error == EROFS ? FM_EPERM
                 : error == ENOENT || error == ENOTDIR                 ? FM_ENOTFOUND
                                                                       : FM_EIO;
    return fm_error_set(reterr, status, "cannot %s '%s': %s", what, path, strerror(error));
}

static long holder_read(int descriptor)
{
    char text[32];
    ssize_t length = pread(descriptor, text, sizeof(text) - 1, 0);
    if (length <= 0) {
        return 0;
    }
    text[length] = '\0';
    long holder = strtol(text, NULL, 10);
    return holder > 0 ? holder : 0;
}

/* 0 or the errno value. Another holder is given the time that a look takes. */
static int lock_take(int descriptor)
{
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    for (int i = 0; flock(descriptor, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EWOULDBLOCK || i == LOOK_TRIES) {
            return errno;
        }
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

int fm_file_lock_acquire(struct fm_file_lock *lock, const char *path, long *ret_holder,
                         struct fm_error *reterr)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) {
        return fail(reterr, "create lock", path, errno);
    }
    int error = lock_take(descriptor);
    if (error != 0) {
        long holder = holder_read(descriptor);
        close(descriptor);
        if (error != EWOULDBLOCK) {
            return fail(reterr, "lock", path, error);
        }
        if (ret_holder != NULL) {
            *ret_holder = holder;
        }
        return fm_error_set(reterr, FM_EUNAVAILABLE, "'%s' is locked by process %ld", path, holder);
    }
    /* The id is for messages only: the lock holds without it, even on a full disk. */
    char text[32];
    int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(descriptor, 0) == 0 && length > 0) {
        ssize_t written = pwrite(descriptor, text, (size_t)length, 0);
        (void)written;
    }
    lock->descriptor = descriptor;
    lock->held = true;
    return 0;
}

void fm_file_lock_look(const char *path, bool *ret_held, long *ret_holder)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    *ret_held = false;
    *ret_holder = 0;
    if (descriptor >= 0) {
        *ret_held = flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        *ret_holder = *ret_held ? holder_read(descriptor) : 0;
        close(descriptor);
    }
}

void fm_file_lock_release(struct fm_file_lock *lock)
{
    if (lock->held) {
        close(lock->descriptor);
        lock->held = false;
    }
}
