/*
 * Names of Unix sockets. See unix_socket.h.
 */
#include "host/os/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/assert.h"

int fm_unix_socket_bind(struct fm_unix_socket *name, const char *path, int *ret_descriptor)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat facts;
    size_t length = strlen(path);
    _Static_assert(FM_UNIX_SOCKET_PATH_MAX < sizeof(address.sun_path), "and the zero behind it");
    FM_ASSERT(length <= FM_UNIX_SOCKET_PATH_MAX);
    memcpy(address.sun_path, path, length + 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return errno;
    }
    if (bind(descriptor, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        int error = errno;
        close(descriptor);
        return error;
    }
    memcpy(name->path, path, length + 1);
    /* A name of which nothing is known is never removed. */
    if (lstat(path, &facts) == 0) {
        name->device = facts.st_dev;
        name->inode = facts.st_ino;
        name->bound = true;
    }
    *ret_descriptor = descriptor;
    return 0;
}

void fm_unix_socket_adopt(struct fm_unix_socket *name)
{
    struct stat facts;
    name->bound = lstat(name->path, &facts) == 0 && S_ISSOCK(facts.st_mode);
    name->device = name->bound ? facts.st_dev : 0;
    name->inode = name->bound ? facts.st_ino : 0;
}

void fm_unix_socket_remove(struct fm_unix_socket *name)
{
    struct stat facts;
    if (name->bound && lstat(name->path, &facts) == 0 && facts.st_dev == name->device &&
        facts.st_ino == name->inode) {
        (void)unlink(name->path);
    }
    name->bound = false;
}
