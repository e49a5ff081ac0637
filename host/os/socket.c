/*
 * Options of sockets. See socket.h.
 */
#include "host/os/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

int fm_socket_share_port(int descriptor)
{
    int on = 1;
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 ? 0 : errno;
}

int fm_socket_address_free(const void *address, size_t size)
{
    const struct sockaddr *name = address;
    int on = 1;
    int descriptor = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return errno;
    }
    /* As libuv does: a port whose connections are only waiting for their end is free. */
    int error = 0;
    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(descriptor, name, (socklen_t)size) != 0) {
        error = errno;
    }
    close(descriptor);
    return error;
}

int fm_socket_duplicate(int descriptor)
{
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    return copy >= 0 ? copy : -errno;
}

int fm_socket_peer_process(int descriptor)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? (int)peer.pid : 0;
}

bool fm_socket_peer_left(int descriptor)
{
    /* Errors and a connection that is gone are told unasked. */
    struct pollfd facts = {.fd = descriptor, .events = POLLRDHUP};
    return poll(&facts, 1, 0) > 0;
}
