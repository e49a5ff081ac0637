/*
 * A gRPC server on an event loop: HTTP/2 connections, calls, messages, limits, drain.
 *
 * Owns: listening, HTTP/2 (by nghttp2), gRPC's framing, metadata, compression of messages, flow
 * control, and noticing clients that leave. Does not own: services and what messages mean
 * (engines/serve). Thread rule: everything on the loop's thread, callbacks and functions; answers
 * that are made elsewhere come back as posted tasks (loop.h). Whatever is sent during one round of
 * the loop leaves with one system call per connection.
 *
 * A call begins with its metadata, brings messages, and is answered with messages and one finish.
 * fm_grpc_finish is due exactly once for each call that began, also after it was cancelled, and
 * ends the callee's right to use it.
 */
#ifndef FM_HOST_NET_GRPC_SERVER_H
#define FM_HOST_NET_GRPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tensor/tensor.h"
#include "fermata/status.h"
#include "host/net/loop.h"
#include "host/net/peer.h"
#include "host/net/tls.h"

#define FM_GRPC_MESSAGE_TEXT_MAX 2048u /* bytes of a status message; longer ones are cut */
#define FM_GRPC_TRAILERS_MAX     8u
#define FM_GRPC_PARTS_MAX        65536u

/* The codes of gRPC that this module and its users give by name. fm_status_grpc (core/util/error.h)
 * gives those of our statuses. */
enum {
    FM_GRPC_OK = 0,
    FM_GRPC_CANCELLED = 1,
    FM_GRPC_INVALID_ARGUMENT = 3,
    FM_GRPC_PERMISSION_DENIED = 7,
    FM_GRPC_RESOURCE_EXHAUSTED = 8,
    FM_GRPC_UNIMPLEMENTED = 12,
    FM_GRPC_INTERNAL = 13,
    FM_GRPC_UNAVAILABLE = 14,
    FM_GRPC_UNAUTHENTICATED = 16,
};

/* One RPC. Made by the server. */
struct fm_grpc_call {
    const char *path; /* "/package.Service/Method" */
    /* On the clock of fm_os_now_ns, from grpc-timeout; 0: none. The callee keeps it. */
    uint64_t deadline_ns;
    void *user; /* the callee's */
};

/* Metadata by its lower-case name, as sent (names that end in "-bin": base64); NULL when there is
 * none. */
const char *fm_grpc_call_metadata(const struct fm_grpc_call *call, const char *name);
/* False: the client is gone, or has cancelled; nothing that is sent arrives. */
bool fm_grpc_call_connected(const struct fm_grpc_call *call);
/* The client's address, or "unix". */
void fm_grpc_call_peer(const struct fm_grpc_call *call, char *text, size_t size);
/* The same as bytes; UNKNOWN when the client is gone. */
struct fm_peer fm_grpc_call_address(const struct fm_grpc_call *call);
/* The process at the other end of a Unix socket, as the kernel says; 0: not known. */
int fm_grpc_call_process(const struct fm_grpc_call *call);
/* Answers that were sent and have not left yet. */
uint32_t fm_grpc_call_unsent(const struct fm_grpc_call *call);

struct fm_grpc_part {
    const void *data;
    size_t size;
};

/* A message of the answer. Parts and their array are borrowed until `release` is called, exactly
 * once, at the latest when the call or its connection ends, possibly before fm_grpc_send returns.
 */
struct fm_grpc_message {
    const struct fm_grpc_part *parts;
    uint32_t part_count;
    bool compress;                  /* where the client takes compressed messages */
    void (*release)(void *context); /* NULL: nothing to release */
    void *context;
};

/* The struct itself is copied. */
void fm_grpc_send(struct fm_grpc_call *call, const struct fm_grpc_message *message);

struct fm_grpc_trailer {
    const char *name; /* lower case */
    const char *value;
};

/* Ends the call, behind what was sent. `message` may be NULL; both are copied. Data that the client
 * still sends is ignored. */
void fm_grpc_finish(struct fm_grpc_call *call, int code, const char *message,
                    const struct fm_grpc_trailer *trailers, uint32_t trailer_count);

/* For calls with many messages: the callee has done with a message that it was given. While
 * unhandled_max messages of a call are not, no more are given and the client's window stays shut.
 * Calls with one message need not say so. */
void fm_grpc_handled(struct fm_grpc_call *call);

/* What a service does with calls. Everything but `begin` is optional. Nothing is called any more
 * once the call was finished. */
struct fm_grpc_events {
    /* The metadata is there. May finish the call at once. */
    void (*begin)(void *context, struct fm_grpc_call *call);
    /* A whole message, decompressed. `data` lies at the end of `buffer`, of which the callee may
     * take references; NULL when size is 0. One that came uncompressed ends aligned for any type.
     */
    void (*message)(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                    const void *data, size_t size);
    /* The client sends no more messages. */
    void (*half_closed)(void *context, struct fm_grpc_call *call);
    /* The client cancelled or is gone. Called at most once. The finish is due all the same. */
    void (*cancelled)(void *context, struct fm_grpc_call *call);
    /* unsent_max answers were waiting to leave, and now there are fewer. */
    void (*writable)(void *context, struct fm_grpc_call *call);
    /* After fm_grpc_server_drain: the last connection is gone. */
    void (*drained)(void *context);
};

struct fm_grpc_server;

struct fm_grpc_options {
    const char *host;      /* address or name; NULL: no TCP */
    uint16_t port;         /* 0: any free one */
    const char *unix_path; /* NULL: none */
    int unix_inherited;    /* the socket that stands there, from another process; taken likewise */
    bool held;             /* take no connection before fm_grpc_server_begin */
    bool shared;           /* servers on other loops will listen here too ... */
    const struct fm_grpc_server *sibling; /* ... and for each of them: the first one */
    int inherited;      /* a TCP socket that is open already, instead of host and port; taken, in
                           any case. 0: none */
    struct fm_tls *tls; /* borrowed; NULL: without */
    uint32_t connections_max;
    uint32_t calls_max;                     /* at once on one connection */
    size_t message_bytes_max;               /* one message, decompressed */
    size_t message_bytes_total_max;         /* received or being received, of calls not finished */
    size_t metadata_bytes_max;              /* of one call: names, values, and 32 for each */
    uint32_t unhandled_max;                 /* messages of one call with the callee */
    uint32_t unsent_max;                    /* answers of one call, before its client is held up */
    uint32_t stream_window_bytes;           /* what a client may send ahead for one call */
    uint32_t connection_window_bytes;       /* and for all calls of a connection */
    uint32_t resets_per_second_max;         /* cancelled calls of one connection */
    uint32_t control_frames_per_second_max; /* PING, SETTINGS, PRIORITY, empty DATA ... of one */
    uint64_t handshake_timeout_ns;          /* until the client's SETTINGS */
    uint64_t idle_timeout_ns;               /* without calls */
    uint64_t keepalive_ns;                  /* without a byte, before asking with a PING */
    uint64_t keepalive_timeout_ns;          /* for the answer to it */
    uint64_t message_timeout_ns;            /* inside a message, without a byte of it */
    uint64_t write_timeout_ns;              /* without the client taking anything that waits */
    struct fm_grpc_events events;
    void *context;
};

void fm_grpc_options_init(
    struct fm_grpc_options *options); /* the defaults; no address, no events */

/* Binds and listens; borrows the loop and copies options (not what they point to). */
int FM_NODISCARD fm_grpc_server_create(struct fm_loop *loop, const struct fm_grpc_options *options,
                                       struct fm_grpc_server **ret_server, struct fm_error *reterr);
/* The port in use; 0 without TCP. */
uint16_t fm_grpc_server_port(const struct fm_grpc_server *server);

/* For a server that was held: takes connections from now on. */
int FM_NODISCARD fm_grpc_server_begin(struct fm_grpc_server *server, struct fm_error *reterr);
/* The descriptors it listens on, which stay its own; -1 where there is none. Any thread, before the
 * end begins. */
void fm_grpc_server_descriptors(const struct fm_grpc_server *server, int *ret_tcp, int *ret_unix);
/*
 * Another process takes what comes from now on (it has the same sockets): no new connections here,
 * the Unix socket's name stays, and clients are told to go on elsewhere (GOAWAY). Those that are
 * idle stay open until fm_grpc_server_drain, which is due later.
 */
void fm_grpc_server_leave(struct fm_grpc_server *server);
/*
 * Begins the end: clients are told with GOAWAY to go elsewhere; connections and calls are taken for
 * another `grace_ns`, so that none that is on its way is lost, then no more; calls that began are
 * finished; `drained` is called when all is done.
 */
void fm_grpc_server_drain(struct fm_grpc_server *server, uint64_t grace_ns);
/* Cancels what is in flight and closes every connection now. */
void fm_grpc_server_abort(struct fm_grpc_server *server);
/* Closes whatever is open, runs the loop until that is done, frees. Every call must have been
 * finished. Accepts NULL. */
void fm_grpc_server_destroy(struct fm_grpc_server *server);

struct fm_grpc_stats {
    uint64_t connections_accepted;
    uint64_t connections_refused; /* connections_max was reached */
    uint64_t connections_failed;  /* ended for what the client did: not HTTP/2, floods, timeouts */
    uint64_t calls;               /* begun */
    uint64_t rejected;            /* answered by the server itself: no gRPC, too large, malformed */
    uint64_t cancelled;           /* the client left before the end */
    uint64_t messages_received;
    uint64_t messages_sent;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t reads; /* system calls */
    uint64_t writes;
    uint64_t bytes_copied; /* of messages, by this module */
    size_t message_bytes;  /* held for calls now */
    uint32_t connections;  /* open now */
    uint32_t in_flight;    /* calls begun and not finished */
};
void fm_grpc_server_stats(const struct fm_grpc_server *server, struct fm_grpc_stats *ret_stats);

#endif
