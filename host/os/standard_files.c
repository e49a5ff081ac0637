/*
 * Descriptors 0, 1 and 2. See standard_files.h.
 */
#include "host/os/standard_files.h"

#include <fcntl.h>
#include <unistd.h>

bool fm_standard_files_open(void)
{
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
        if (fcntl(descriptor, F_GETFD) >= 0) {
            continue;
        }
        /* The lowest free number is this one. Children inherit it, as any standard file. */
        if (open("/dev/null", O_RDWR) != descriptor) {
            return false;
        }
    }
    return true;
}
