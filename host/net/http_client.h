/*
 * An HTTP/1.1 client on an event loop: a pool of connections to one server, thousands of calls.
 *
 * Owns: connections and their reuse, requests' heads, answers' bodies, time limits, retries. Does
 * not own: what paths and bodies mean, compression of requests. Thread rule: everything on the
 * loop's thread.
 *
 * A call waits until a connection is free, and has it alone. It is tried again when not a byte of
 * it was sent. A GET, which changes nothing, also is when a connection that had stood before broke
 * without a byte of an answer: most likely, the server had closed it while it was idle. Anything
 * else may have been processed by then, and fails. So that this is rare, a connection is asked
 * whether it still stands before it is used again.
 */
#ifndef FM_HOST_NET_HTTP_CLIENT_H
#define FM_HOST_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/proto/oip.h"
#include "core/tensor/tensor.h"
#include "host/net/connect.h"
#include "host/net/deadlines.h"
#include "host/net/loop.h"

#define FM_HTTP_CLIENT_HEAD_BYTES_MAX ((size_t)64 << 10) /* of an answer */

struct fm_http_client_options {
    const struct fm_endpoint *endpoint; /* borrowed while the client lives */
    struct fm_tls *tls;                 /* taken over; NULL: none */
    uint32_t connections_max;
    uint32_t retries_max;
    uint64_t connect_timeout_ns;
    uint64_t body_bytes_max; /* of an answer */
    const char *fields; /* more header fields of each request, with their line ends; borrowed */
    const char *length_field; /* the answer's field that tells how many bytes of its body come
                                 before what has to lie aligned; borrowed; NULL: none */
};

/* One request and its answer. Zeroed to start; the caller's memory until `done`. */
struct fm_http_client_call {
    /* Given by the caller, and borrowed until `done`. */
    const char *method;
    const char *target; /* behind the endpoint's prefix */
    const char *fields; /* more header fields, with their line ends; NULL: none */
    const struct fm_oip_part *parts;
    uint32_t part_count;
    size_t size;          /* of all parts */
    uint64_t deadline_ns; /* fm_os_now_ns; 0: none */
    /* Once. The call is the caller's again. */
    void (*done)(struct fm_http_client_call *call);

    /* The outcome: 0 and an answer (of whatever code), or a failure in words. */
    int status;
    struct fm_error error;
    unsigned code;
    struct fm_buffer *body; /* the caller's; NULL: empty */
    char *data;             /* inside it */
    size_t data_size;
    uint64_t length; /* what length_field said; UINT64_MAX: nothing */

    /* Internal. */
    struct fm_http_client *client;
    struct fm_http_client_connection *connection;
    struct fm_http_client_call *next; /* that waits */
    struct fm_http_client_call *previous;
    struct fm_deadline deadline;
    uint32_t tries;
};

struct fm_http_client;

/* FM_ENOMEM. */
int FM_NODISCARD fm_http_client_create(struct fm_loop *loop,
                                       const struct fm_http_client_options *options,
                                       struct fm_http_client **ret_client, struct fm_error *reterr);
/* Ends every call with FM_ECANCELLED, closes all connections, then calls closed(context), after
 * which the client's memory is gone. */
void fm_http_client_close(struct fm_http_client *client, void (*closed)(void *context),
                          void *context);

/* `done` comes, perhaps from in here. */
void fm_http_client_send(struct fm_http_client *client, struct fm_http_client_call *call);
/* Ends the call with `status`, soon. */
void fm_http_client_cancel(struct fm_http_client_call *call, int status, const char *why);

#endif
