/*
 * The name of a listening Unix socket: made by binding, and removed only while it is still ours.
 *
 * Owns: the name in the file system. Does not own: the descriptor, which is the caller's, and
 * listening (host/net). Thread rule: a socket belongs to one thread at a time.
 */
#ifndef FM_HOST_OS_UNIX_SOCKET_H
#define FM_HOST_OS_UNIX_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

/* What the kernel keeps of a name. */
#define FM_UNIX_SOCKET_PATH_MAX 107u

/* Zero-initialise. */
struct fm_unix_socket {
    char path[FM_UNIX_SOCKET_PATH_MAX + 1];
    uint64_t device; /* what stood under that name once it was bound */
    uint64_t inode;
    bool bound;
};

/* Binds a new non-blocking stream socket to `path`, which must not exist and has at most
 * FM_UNIX_SOCKET_PATH_MAX bytes. 0, or the errno value that says why not; then there is no
 * descriptor and no name. */
int fm_unix_socket_bind(struct fm_unix_socket *name, const char *path, int *ret_descriptor)
    __attribute__((warn_unused_result));

/* Takes over the name of a socket that another process bound, which leaves it: the caller has put
 * it into name->path. Where no socket stands under that name any more it stays unknown. */
void fm_unix_socket_adopt(struct fm_unix_socket *name);

/* Removes the name, unless something else stands there by now. Fine when not bound. */
void fm_unix_socket_remove(struct fm_unix_socket *name);

#endif
