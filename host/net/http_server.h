/*
 * An HTTP/1.1 server on an event loop: connections, limits, timeouts, ordered answers, drain.
 *
 * Owns: listening, parsing, buffering whole request bodies, writing answers without copying them,
 * and noticing clients that leave, compressed bodies (gzip and deflate), TLS. Does not own: routes
 * and what bodies mean (engines/serve). No HTTP/2. Thread rule: everything on the loop's thread,
 * except fm_http_answer, which any thread may call.
 *
 * One request of a connection is worked on at a time; pipelined ones wait in order. A client that
 * closes its connection makes its request cancelled; one that closes only its sending half still
 * gets its answer (HTTP/1.1 clients are told apart by sending them interim "100 Continue" answers,
 * which a closed connection refuses).
 */
#ifndef FM_HOST_NET_HTTP_SERVER_H
#define FM_HOST_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tensor/tensor.h"
#include "core/util/text.h"
#include "fermata/status.h"
#include "host/net/loop.h"
#include "host/net/peer.h"
#include "host/net/tls.h"

#define FM_HTTP_PARTS_MAX          1100 /* pieces of one answer's body */
#define FM_HTTP_CHUNKS_MAX         65536
#define FM_HTTP_ANSWER_HEADERS_MAX 8 /* that a handler adds */

struct fm_http_header {
    const char *name; /* as sent; compare without regard to case */
    const char *value;
};

/* A complete request. Made and freed by the server; valid until fm_http_answer was called for it.
 */
struct fm_http_request {
    const char *method;
    const char *path;  /* of the target, still percent-encoded, without the query */
    const char *query; /* behind '?', or "" */
    const struct fm_http_header *headers;
    uint32_t header_count;
    uint32_t header_initials; /* a bit for each first letter of a name, whatever its case */
    const char *body;         /* body_size bytes */
    size_t body_size;
    struct fm_buffer *body_buffer; /* owner of body; NULL when it is empty */
    /* Set by the handler: called once on the loop's thread when the client left before the answer.
     * The answer is due all the same. */
    void (*cancelled)(struct fm_http_request *request);
    void *user;
    /* Set by the handler: header fields that the answer has besides its own, each with its CRLF;
     * borrowed for as long as the server lives. NULL: none. */
    const char *answer_fields;
};

/* Of the connection; UNKNOWN when the client is gone. */
struct fm_peer fm_http_request_peer(const struct fm_http_request *request);

/* The header's value, or NULL. */
const char *fm_http_header_find(const struct fm_http_request *request, const char *name);

struct fm_http_part {
    const void *data;
    size_t size;
};

/* An answer. Everything is borrowed until `release` is called (on the loop's thread), which happens
 * exactly once. */
struct fm_http_answer {
    int status;
    const char *content_type; /* NULL: no body */
    struct fm_http_header headers[FM_HTTP_ANSWER_HEADERS_MAX];
    uint32_t header_count;
    const struct fm_http_part *parts;
    uint32_t part_count;
    bool
        compress; /* the body, where the client takes it so (Accept-Encoding) and it gets smaller */
    void (*release)(void *context); /* NULL: nothing to release */
    void *context;
};

/* Every request is answered exactly once. The struct itself is copied. */
void fm_http_answer(struct fm_http_request *request, const struct fm_http_answer *answer);

struct fm_http_server;

struct fm_http_options {
    const char *host;      /* address or name; NULL: no TCP */
    uint16_t port;         /* 0: any free one */
    int inherited;         /* a TCP socket that is open already, instead of host and port; taken, in
                              any case. 0: none */
    const char *unix_path; /* NULL: none */
    int unix_inherited;    /* the socket that stands there, from another process; taken likewise */
    bool held;             /* take no connection before fm_http_server_begin */
    bool shared;           /* servers on other loops will listen here too ... */
    const struct fm_http_server *sibling; /* ... and for each of them: the first one */
    struct fm_tls *tls;                   /* borrowed; NULL: without */
    size_t header_bytes_max;
    uint32_t header_count_max;
    size_t body_bytes_max;       /* of one request */
    size_t body_bytes_total_max; /* of all requests being received or worked on */
    uint32_t connections_max;
    /* NULL, or a header field that says how many bytes of the body come before data: these then lie
     * aligned for any type. */
    const char *align_header;
    uint64_t idle_timeout_ns;   /* between requests */
    uint64_t header_timeout_ns; /* from the first byte of a request to the end of its head */
    uint64_t body_timeout_ns;   /* for the body, plus one second for each 64 KiB received */
    uint64_t write_timeout_ns;  /* without the client taking anything */
    void (*handle)(void *context, struct fm_http_request *request);
    /* Appends a body of type error_type that carries `message`. */
    void (*write_error)(struct fm_text *text, const char *message);
    const char *error_type;
    void (*drained)(void *context); /* after fm_http_server_drain: the last connection is gone */
    void *context;
};

void fm_http_options_init(
    struct fm_http_options *options); /* the defaults of docs/serving.md; no address, no handlers */

/* Binds and listens; borrows the loop and copies options (not what they point to, except
 * addresses). */
int FM_NODISCARD fm_http_server_create(struct fm_loop *loop, const struct fm_http_options *options,
                                       struct fm_http_server **ret_server, struct fm_error *reterr);
/* The port in use; 0 without TCP. */
uint16_t fm_http_server_port(const struct fm_http_server *server);

/* For a server that was held: takes connections from now on. */
int FM_NODISCARD fm_http_server_begin(struct fm_http_server *server, struct fm_error *reterr);
/* The descriptors it listens on, which stay its own; -1 where there is none. Any thread, before the
 * end begins. */
void fm_http_server_descriptors(const struct fm_http_server *server, int *ret_tcp, int *ret_unix);
/*
 * Another process takes what comes from now on (it has the same sockets): no new connections here,
 * the Unix socket's name stays, and every answer says "Connection: close". Those that are idle stay
 * open until fm_http_server_drain, which is due later.
 */
void fm_http_server_leave(struct fm_http_server *server);
/*
 * Begins the end: new connections are taken for another `grace_ns`, so that a client that is just
 * connecting is not turned away with a reset, then no more; every answer says "Connection: close";
 * `drained` is called when all is done.
 */
void fm_http_server_drain(struct fm_http_server *server, uint64_t grace_ns);
/* Cancels what is in flight and closes every connection now. */
void fm_http_server_abort(struct fm_http_server *server);
/* Closes whatever is open, runs the loop until that is done, frees. Every request must have been
 * answered. Accepts NULL. */
void fm_http_server_destroy(struct fm_http_server *server);

struct fm_http_stats {
    uint64_t connections_accepted;
    uint64_t connections_refused; /* connections_max was reached */
    uint64_t requests;            /* complete ones, handed to the handler */
    uint64_t rejected;  /* answered by the server itself: malformed, too large, too slow */
    uint64_t cancelled; /* the client left before the answer */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t reads; /* system calls */
    uint64_t writes;
    uint64_t bytes_copied; /* of bodies, by the server */
    uint32_t connections;  /* open now */
    uint32_t in_flight;    /* requests with the handler now */
};
void fm_http_server_stats(const struct fm_http_server *server, struct fm_http_stats *ret_stats);

#endif
