/*
 * Where a server listens: a TCP port, a Unix socket, or both, on one event loop.
 *
 * Owns: the listening handles, the name of a Unix socket, and trying again when there was no memory
 * for a connection. Does not own: connections. For the other files of host/net. Thread rule: the
 * loop's thread; opening may be done elsewhere before the loop runs.
 *
 * Several loops serve one address by giving each a listener: the first is opened with `shared`, the
 * others with it as `sibling`. Each then has a TCP socket of its own on the same port (the kernel
 * spreads connections over them) and a descriptor of the same Unix socket.
 */
#ifndef FM_HOST_NET_LISTENER_H
#define FM_HOST_NET_LISTENER_H

#include <stdbool.h>
#include <uv.h>

#include "fermata/status.h"
#include "host/os/unix_socket.h"

struct fm_listener {
    uv_loop_t *uv;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_timer_t retry;
    struct fm_unix_socket unix_name; /* of pipe */
    bool unix_inherited;             /* the name is another process's until we begin */
    uint16_t port;
    bool tcp_open;
    bool pipe_open;
    bool retry_open;
    bool tcp_waiting; /* has a connection for which there was no memory */
    bool pipe_waiting;
    int handles_open; /* 0: the listener may be freed */
    bool (*accept)(void *context, uv_stream_t *handle);
    void *context;
};

struct fm_listener_options {
    const char *host; /* address or name; NULL: no TCP */
    uint16_t port;    /* 0: any free one */
    int inherited;    /* a TCP socket that is open already, instead of host and port; taken, in any
                         case. 0: none */
    const char *unix_path;
    int unix_inherited; /* the socket that stands under unix_path, from the process that made it;
                           taken, in any case. 0: none */
    bool held;          /* take no connection before fm_listener_begin */
    bool shared;        /* others will listen here too */
    const struct fm_listener *sibling;
    /* Accepts the connection that `handle` has. False: there is no memory for it. libuv keeps it,
     * and takes no other, until it is accepted: called again when memory comes back
     * (fm_listener_retry), and after a while. */
    bool (*accept)(void *context, uv_stream_t *handle);
    void *context;
};

/* Binds and listens. After a failure, too, fm_listener_close and waiting for handles_open are due.
 */
int FM_NODISCARD fm_listener_open(struct fm_listener *listener, uv_loop_t *uv,
                                  const struct fm_listener_options *options,
                                  struct fm_error *reterr);
/* Closes inherited sockets, 0 where there is none, for a listener that is not opened after all. */
void fm_listener_refuse(uv_loop_t *uv, int inherited, int unix_inherited);
/* For one that was held: takes connections from now on, and the Unix socket's name. */
int FM_NODISCARD fm_listener_begin(struct fm_listener *listener, struct fm_error *reterr);
/* The listening descriptors, which stay the listener's; -1 where there is none. */
void fm_listener_descriptors(const struct fm_listener *listener, int *ret_tcp, int *ret_unix);
/* No more connections, and the Unix socket's name stays: another process has it now. */
void fm_listener_leave(struct fm_listener *listener);
/* No more connections; removes the Unix socket's name. May be called again. */
void fm_listener_stop(struct fm_listener *listener);
/* Stops, and closes every handle; the loop must run until handles_open is 0. */
void fm_listener_close(struct fm_listener *listener);
/* Memory came back. */
void fm_listener_retry(struct fm_listener *listener);

#endif
