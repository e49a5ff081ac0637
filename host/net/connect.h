/*
 * Where a client connects to, and connecting.
 *
 * Owns: URLs of servers, looking names up, trying one address after the other, how long that may
 * take, what is said when it fails, and the pause until it is tried again. Does not own: the stream
 * (stream.h). For the clients of host/net. Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_CONNECT_H
#define FM_HOST_NET_CONNECT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "fermata/status.h"
#include "host/net/deadlines.h"
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

struct fm_dial_options {
    const struct fm_endpoint *endpoint; /* borrowed while the dial lives */
    uv_loop_t *uv;
    struct fm_deadlines *deadlines;
    uint64_t timeout_ns; /* until fm_dial_ready */
    /* Connected (0), or why not; also later, when fm_dial_ready was not called in time: then
     * fm_dial_failure has the words, and fm_dial_close is due. Not called after fm_dial_close. */
    void (*done)(void *context, int result);
    void *context;
};

/* One connection on its way. */
struct fm_dial {
    struct fm_dial_options options;
    struct fm_stream *stream;
    uv_getaddrinfo_t resolving;
    uv_connect_t connecting;
    struct addrinfo *addresses;
    const struct addrinfo *next;
    struct fm_deadline deadline; /* of the present address, or of all */
    uint64_t end_ns;             /* of all */
    bool is_resolving;
    bool is_reopening;
    bool is_late;
    bool is_closed;
    bool stream_closed;
};

/* The stream was initialised for the endpoint's kind of socket. `done` may come from in here.
 * Of the time that is left, each address that is left may take its share, so that one that never
 * answers does not keep the next from being tried. FM_ENOMEM: nothing was begun; fm_dial_close is
 * due all the same. */
int FM_NODISCARD fm_dial_start(struct fm_dial *dial, struct fm_stream *stream,
                               const struct fm_dial_options *options);
/* The connection is as good as it has to be, the handshake of TLS included: there is no time limit
 * any more. */
void fm_dial_ready(struct fm_dial *dial);
/* The words for a dial that failed: `result` as given to `done`, or to the stream's `ended` (0: the
 * server ended the handshake). */
void fm_dial_failure(const struct fm_dial *dial, int result, struct fm_error *reterr);
/* Closes the stream, however far it got, and whatever is under way. May be called again. */
void fm_dial_close(struct fm_dial *dial);
/* To be asked when the stream says that it is closed. False: not yet, it will say so again. True:
 * both may be freed. */
bool fm_dial_is_over(struct fm_dial *dial);

/* How long not to dial after a failure: twice as long each time, up to a second, so that a server
 * that is down is not asked as fast as the processor can. deadline.passed is the owner's, and tells
 * that the pause is over; zeroed otherwise. */
struct fm_dial_pause {
    struct fm_deadline deadline;
    uint64_t wait_ns;        /* of the latest */
    struct fm_error failure; /* that it began with */
};

/* A dial failed. Without memory there is no pause; one that lasts goes on as it is. */
void fm_dial_pause_begin(struct fm_dial_pause *pause, struct fm_deadlines *deadlines,
                         const struct fm_error *failure);
bool fm_dial_pause_lasts(const struct fm_dial_pause *pause);
/* FM_EDEADLINE, and why, for a call whose time is over. `pause` NULL: it had a connection. */
void fm_dial_pause_late(const struct fm_dial_pause *pause, struct fm_error *reterr);
/* A connection stands, or nobody wants one any more. */
void fm_dial_pause_end(struct fm_dial_pause *pause, struct fm_deadlines *deadlines);

#endif
