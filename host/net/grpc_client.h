/*
 * A gRPC client on an event loop: a few HTTP/2 connections to one server, thousands of calls on
 * them.
 *
 * Owns: connections, HTTP/2 (by nghttp2), gRPC's framing, decompression, flow control, time limits,
 * retries of what the server said it did not process. Does not own: what messages mean,
 * compression of requests. Thread rule: everything on the loop's thread. What is sent during one
 * round of the loop leaves with one system call per connection, when fm_grpc_client_round says so.
 *
 * A unary call gives its one message with the call. A stream sends messages while it lives.
 */
#ifndef FM_HOST_NET_GRPC_CLIENT_H
#define FM_HOST_NET_GRPC_CLIENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/proto/oip.h"
#include "core/tensor/tensor.h"
#include "host/net/compress.h"
#include "host/net/connect.h"
#include "host/net/deadlines.h"
#include "host/net/loop.h"

#define FM_GRPC_CLIENT_FIELDS_MAX 80u

struct fm_grpc_client_field {
    const char *name; /* in lower case */
    const char *value;
};

struct fm_grpc_client_options {
    const struct fm_endpoint *endpoint; /* borrowed while the client lives */
    struct fm_tls *tls;                 /* taken over; NULL: none */
    uint32_t connections_max;
    uint32_t retries_max;
    uint64_t connect_timeout_ns;
    uint64_t message_bytes_max;                /* of an answer */
    const struct fm_grpc_client_field *fields; /* metadata of each call; borrowed */
    uint32_t field_count;
    enum fm_compression compression; /* in which the calls' messages are */
};

/* A message of a stream. */
struct fm_grpc_client_message {
    struct fm_grpc_client_message *next;
    struct fm_text bytes; /* with gRPC's prefix */
};

/* One RPC. Zeroed to start; the caller's memory until `done`. */
struct fm_grpc_client_call {
    /* Given by the caller, and borrowed until `done`. */
    const char *path; /* "/package.Service/Method" */
    const struct fm_oip_part *parts;
    uint32_t part_count;
    size_t size;          /* of all parts */
    bool compressed;      /* the message is */
    bool stream;          /* no message yet: fm_grpc_client_call_send */
    uint64_t deadline_ns; /* fm_os_now_ns; 0: none; the server is told */
    /* A message came: `size` bytes in a buffer that is the callee's. It may cancel the call, whose
     * memory then has to stay until it returns to the loop. */
    void (*message)(struct fm_grpc_client_call *call, struct fm_buffer *buffer, const char *data,
                    size_t size);
    /* Once. The call is the caller's again. */
    void (*done)(struct fm_grpc_client_call *call);

    /* The outcome. */
    int status;
    struct fm_error error;
    int code; /* of gRPC; -1: the server gave none */

    /* Internal. */
    struct fm_grpc_client *client;
    struct fm_grpc_client_connection *connection;
    struct fm_grpc_client_call *next; /* waiting, or of the connection */
    struct fm_grpc_client_call *previous;
    struct fm_deadline deadline;
    int32_t stream_id;
    uint32_t tries;
    unsigned char prefix[5];
    size_t sent; /* of prefix and parts, or of the first message */
    struct fm_grpc_client_message *first;
    struct fm_grpc_client_message *last;
    _Atomic size_t waiting_bytes; /* of messages; anybody may look */
    bool finished;                /* nothing more is sent */
    /* What came. */
    unsigned http_code;
    char content_type[64]; /* its beginning */
    bool is_grpc;          /* the content type is gRPC's */
    bool answered;
    enum fm_compression encoding;
    struct fm_text text; /* grpc-message */
    unsigned char head[5];
    uint32_t head_size;
    char *body;
    size_t body_offset;
    size_t body_size;
    size_t body_capacity;
    size_t body_wanted;
    uint32_t message_count;
};

struct fm_grpc_client;

/* FM_ENOMEM. */
int FM_NODISCARD fm_grpc_client_create(struct fm_loop *loop,
                                       const struct fm_grpc_client_options *options,
                                       struct fm_grpc_client **ret_client, struct fm_error *reterr);
/* Ends every call with FM_ECANCELLED, closes all connections, then calls closed(context), after
 * which the client's memory is gone. */
void fm_grpc_client_close(struct fm_grpc_client *client, void (*closed)(void *context),
                          void *context);
/* Writes what there is to write. To be called at the end of each round of the loop. */
void fm_grpc_client_round(struct fm_grpc_client *client);

/* `done` comes, perhaps from in here. */
void fm_grpc_client_send(struct fm_grpc_client *client, struct fm_grpc_client_call *call);
/* Ends the call with `status`, now: `done` is called from in here. */
void fm_grpc_client_cancel(struct fm_grpc_client_call *call, int status, const char *why);
/* Takes over a message of a stream, or NULL: nothing more is sent. */
void fm_grpc_client_call_send(struct fm_grpc_client_call *call,
                              struct fm_grpc_client_message *message);
void fm_grpc_client_message_free(struct fm_grpc_client_message *message);

#endif
