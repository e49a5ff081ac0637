/*
 * Descriptors 0, 1 and 2. See standard_files.h.
 */
#include "host/os/standard_files.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

bool fm_standard_files_open(void)
{
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
        if (fcntl(descriptor, F_GETFD) >= 0) {
            continue;
        }
        /* The lowest free number is this one. Children inherit it, as any standard file. What is
         * printed must not vanish as if somebody had it: output cannot be written to. */
        int mode = descriptor == STDOUT_FILENO ? O_RDONLY : O_RDWR;
        if (open("/dev/null", mode) != descriptor) {
            return false;
        }
    }
    return true;
}

bool fm_standard_output_is_writable(void)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

bool fm_standard_output_abandoned(void)
{
    struct pollfd poller = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&poller, 1, 0) == 1 && (poller.revents & (POLLERR | POLLHUP)) != 0;
}
