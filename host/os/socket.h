/*
 * What libuv does not offer everywhere of sockets: options, and whether the peer left.
 *
 * Owns: nothing; descriptors are the caller's. Thread rule: every function is thread safe.
 */
#ifndef FM_HOST_OS_SOCKET_H
#define FM_HOST_OS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

/* Lets several sockets of this user listen on one TCP port; to be called before binding, on each of
 * them. 0 or the errno value. */
int fm_socket_share_port(int descriptor) __attribute__((warn_unused_result));

/* Whether a socket that does not share its port could be bound to a socket address: 0, or the errno
 * value that says why not. Nothing stays bound. A shared port would otherwise be shared with
 * whatever program of the same user listens there already. */
int fm_socket_address_free(const void *address, size_t size) __attribute__((warn_unused_result));

/* Another descriptor of the same socket, close-on-exec; negative: minus the errno value. */
int fm_socket_duplicate(int descriptor) __attribute__((warn_unused_result));

/* The number of the process that opened the other end of a Unix socket, as the kernel says; 0: it
 * does not. */
int fm_socket_peer_process(int descriptor) __attribute__((warn_unused_result));

/* Whether the peer has ended a connection, or its sending half of it, even if there are bytes of it
 * to be read. */
bool fm_socket_peer_left(int descriptor) __attribute__((warn_unused_result));

#endif
