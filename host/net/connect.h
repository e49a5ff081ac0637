/*
 * Where a client connects to, and connecting.
 *
 * Owns: URLs of servers, looking names up, trying one address after the other. Does not own: the
 * stream (stream.h), time limits. For the clients of host/net. Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_CONNECT_H
#define FM_HOST_NET_CONNECT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "fermata/status.h"
#include "host/net/stream.h"

struct fm_endpoint {
    char *url;       /* as it was given */
    char *host;      /* without brackets; of a Unix socket: "localhost" */
    char *authority; /* as requests name it: "host:port" */
    char *prefix;    /* in front of every path: "" or "/some/where" */
    char *path;      /* of a Unix socket; NULL: TCP */
    uint16_t port;
    bool grpc;
    bool tls;
};

/* http, https, grpc, grpcs, unix, http+unix, grpc+unix. FM_EINVAL: what is wrong, and what would be
 * right. On failure nothing has to be released. */
int FM_NODISCARD fm_endpoint_parse(const char *url, struct fm_endpoint *ret_endpoint,
                                   struct fm_error *reterr);
void fm_endpoint_deinit(struct fm_endpoint *endpoint);

/* One connection on its way. */
struct fm_dial {
    struct fm_stream *stream;
    const struct fm_endpoint *endpoint;
    uv_loop_t *uv;
    uv_getaddrinfo_t resolving;
    uv_connect_t connecting;
    struct addrinfo *addresses;
    const struct addrinfo *next;
    /* Connected (0), or why not. Not called after fm_dial_close. */
    void (*done)(void *context, int result);
    void *context;
    bool is_resolving;
    bool is_reopening;
    bool is_closed;
    bool stream_closed;
};

/* The stream was initialised for the endpoint's kind of socket. `done` may come from in here. */
void fm_dial_start(struct fm_dial *dial, struct fm_stream *stream,
                   const struct fm_endpoint *endpoint, uv_loop_t *uv,
                   void (*done)(void *context, int result), void *context);
/* Closes the stream, however far it got, and whatever is under way. May be called again. */
void fm_dial_close(struct fm_dial *dial);
/* To be asked when the stream says that it is closed. False: not yet, it will say so again. True:
 * both may be freed. */
bool fm_dial_is_over(struct fm_dial *dial);

#endif
