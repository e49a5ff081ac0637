/*
 * What the files of the gRPC server share: grpc_server.c (beginning, rounds, time limits, drain,
 * end), grpc_connection.c (bytes in and out, HTTP/2), grpc_exchange.c (one call: what comes) and
 * grpc_answer.c (what goes back). Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_GRPC_INTERNAL_H
#define FM_HOST_NET_GRPC_INTERNAL_H

#include <nghttp2/nghttp2.h>
#include <uv.h>

#include "core/util/text.h"
#include "host/net/block_pool.h"
#include "host/net/compress.h"
#include "host/net/grpc_server.h"
#include "host/net/listener.h"
#include "host/net/stream.h"

struct fm_grpc_connection;

/* A message on its way to the client. */
struct fm_grpc_outgoing {
    struct fm_grpc_outgoing *next;
    struct fm_grpc_message message;
    uint32_t part; /* what goes next */
    size_t offset;
    size_t unpacked; /* bytes that are in no frame yet, prefix included */
    uint8_t prefix[5];
    uint8_t prefix_left;
    struct fm_text compressed;
    struct fm_grpc_part compressed_part;
};

/* What goes out with one system call: frames that were copied, and messages that are referred to. A
 * connection has one at a time; others wait in nghttp2. */
#define FM_GRPC_OUTPUT_BYTES   ((size_t)64 << 10)
#define FM_GRPC_OUTPUT_RESERVE ((size_t)18 << 10) /* more than nghttp2 hands out at once */
#define FM_GRPC_OUTPUT_BUFFERS 512u
#define FM_GRPC_OUTPUT_TOTAL   ((size_t)4 << 20)

struct fm_grpc_output {
    struct fm_grpc_output *next;
    struct fm_grpc_outgoing *done; /* released once this is written */
    unsigned count;
    size_t used;
    size_t total;
    uv_buf_t buffers[FM_GRPC_OUTPUT_BUFFERS];
    char bytes[FM_GRPC_OUTPUT_BYTES];
};

/* A whole message that waits until the callee has handled those before it. */
struct fm_grpc_incoming {
    struct fm_grpc_incoming *next;
    struct fm_buffer *buffer;
    size_t size;
};

struct fm_grpc_field {
    nghttp2_rcbuf *name;
    nghttp2_rcbuf *value;
};

#define FM_GRPC_FIELDS_INLINE 16u

/* A call and its answer: one stream of HTTP/2. Freed when the stream is closed and the callee has
 * finished. */
struct fm_grpc_exchange {
    struct fm_grpc_call call; /* first: callees see only this */
    struct fm_grpc_server *server;
    struct fm_grpc_connection *connection; /* NULL: the stream is closed */
    struct fm_grpc_exchange *previous;
    struct fm_grpc_exchange *next;
    int32_t stream_id;

    /* Metadata. */
    struct fm_grpc_field *fields;
    uint32_t field_count;
    uint32_t field_capacity;
    size_t field_bytes;
    nghttp2_rcbuf *path;
    const char *content_type; /* these point into fields */
    const char *timeout;
    const char *encoding_name;
    const char *accept_encoding;
    bool is_post;

    /* Messages that come. */
    enum fm_compression encoding;
    uint8_t prefix[5];
    uint8_t prefix_length;
    char *data;   /* the message being received, behind `front` unused bytes */
    size_t front; /* so many that it ends aligned, as do the tensors at its end */
    size_t size;
    size_t capacity;
    size_t received;
    size_t charged; /* of the server's total */
    size_t credit;  /* bytes of window not given back to the client yet */
    uint64_t received_ns;
    struct fm_grpc_incoming *waiting;
    struct fm_grpc_incoming **waiting_end;
    uint32_t unhandled;
    uint32_t given_first; /* the oldest in `given` */
    size_t given_one;     /* its size when there is but one */
    size_t *given;        /* ring of the sizes of unhandled messages */
    bool end_received;    /* of the client's data */
    bool end_told;
    bool delivering;

    /* The life of the call. */
    bool begun;     /* the callee knows it, and must finish it */
    bool finished;  /* it did */
    bool ended;     /* the status is decided, by the callee or by us */
    bool cancelled; /* the callee was told */

    /* The answer. */
    enum fm_compression answer_encoding;
    struct fm_grpc_outgoing *outgoing;
    struct fm_grpc_outgoing **outgoing_end;
    uint32_t unsent;
    bool submitted; /* the answer's head */
    bool deferred;  /* nghttp2 has asked for data when there was none */
    uint64_t progress_ns;
    int code;
    struct fm_text status_text; /* encoded */
    struct fm_text trailer_text;
    uint32_t trailer_count;

    struct fm_grpc_field fields_inline[FM_GRPC_FIELDS_INLINE];
};

enum fm_grpc_state {
    FM_GRPC_OPEN,
    FM_GRPC_LINGER, /* all is said and shut down; what still comes is thrown away, so that the last
                       words are not lost in a reset */
    FM_GRPC_CLOSING,
};

struct fm_grpc_connection {
    struct fm_stream stream;
    struct fm_grpc_server *server;
    struct fm_grpc_connection *previous;
    struct fm_grpc_connection *next;
    struct fm_grpc_connection *dirty_next;
    nghttp2_session *session;
    struct fm_grpc_exchange *exchanges;
    uint32_t exchange_count;
    struct fm_grpc_output *output; /* being filled or written */
    enum fm_grpc_state state;
    uint8_t preface_length; /* bytes of it that were right */
    bool dirty;             /* in the server's list */
    bool busy;              /* inside nghttp2: must not be closed */
    bool broken;            /* to be closed when it no longer is */
    bool handshaken;        /* the client's SETTINGS came */
    bool goaway;            /* the last one is submitted */
    bool reading_held;      /* too much waits to be written */
    uint64_t since_ns;      /* this state began */
    uint64_t read_ns;
    uint64_t idle_ns; /* the last call ended */
    uint64_t ping_ns; /* 0: none asked */
    uint64_t progress_ns;
    size_t unwritten;
    size_t lingered_bytes;
    uint64_t second; /* of the counters below */
    uint32_t resets;
    uint32_t control_frames;
};

struct fm_grpc_server {
    struct fm_loop *loop;
    uv_loop_t *uv;
    struct fm_grpc_options options;
    struct fm_listener listener;
    uv_timer_t grace;
    uv_timer_t sweep;
    uv_prepare_t prepare;
    uv_check_t check;
    bool handles_init;
    int handles_open; /* these four and connections */
    bool draining;    /* clients were told to go on elsewhere */
    bool ending;      /* fm_grpc_server_drain was called */
    bool closed_to_new;
    bool drained;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *http2_options;
    nghttp2_mem memory;
    struct fm_block_pool blocks; /* what it takes from */
    struct fm_grpc_connection *connections;
    struct fm_grpc_connection *dirty;
    struct fm_grpc_exchange *exchanges_free;
    uint32_t exchanges_free_count;
    struct fm_grpc_outgoing *outgoing_free;
    uint32_t outgoing_free_count;
    struct fm_grpc_output *output_free; /* one */
    struct fm_grpc_stats stats;
    struct fm_stream_shared shared;
};

static inline uint64_t fm_grpc_now_ns(const struct fm_grpc_server *server)
{
    return uv_now(server->uv) * 1000000;
}

/* grpc_server.c */
/* There is something to write: at the end of this round of the loop. */
void fm_grpc_server_mark(struct fm_grpc_connection *connection);
void fm_grpc_server_forget(struct fm_grpc_connection *connection);

/* grpc_connection.c */
/* False: no memory for it. */
bool fm_grpc_connection_accept(struct fm_grpc_server *server, uv_stream_t *listener);
/* The same for a connected Unix socket. NULL: no memory. */
struct fm_grpc_connection *fm_grpc_connection_open(struct fm_grpc_server *server, int descriptor);
void fm_grpc_connection_flush(struct fm_grpc_connection *connection);
/* Cancels its calls; the memory goes later. */
void fm_grpc_connection_close(struct fm_grpc_connection *connection);
/* As few words as possible, then the end, when the calls are over. */
void fm_grpc_connection_goaway(struct fm_grpc_connection *connection);
/* Looks at the time limits. */
void fm_grpc_connection_sweep(struct fm_grpc_connection *connection, uint64_t now_ns);
int fm_grpc_connection_prepare(struct fm_grpc_server *server); /* nghttp2's tables of callbacks */

/* grpc_exchange.c */
struct fm_grpc_exchange *fm_grpc_exchange_create(struct fm_grpc_connection *connection,
                                                 int32_t stream_id);
void fm_grpc_exchange_free(struct fm_grpc_exchange *exchange);
/* One field of the head. Not 0: the connection is to be ended. */
int fm_grpc_exchange_field(struct fm_grpc_exchange *exchange, nghttp2_rcbuf *name,
                           nghttp2_rcbuf *value);
void fm_grpc_exchange_head_complete(struct fm_grpc_exchange *exchange);
void fm_grpc_exchange_data(struct fm_grpc_exchange *exchange, const uint8_t *data, size_t size);
void fm_grpc_exchange_end(struct fm_grpc_exchange *exchange);
/* Gives back as much window as the call may have now. */
void fm_grpc_exchange_grant(struct fm_grpc_exchange *exchange);
/* The stream is closed. */
void fm_grpc_exchange_close(struct fm_grpc_exchange *exchange);
/* Ends the call with a status of our own. */
void fm_grpc_exchange_fail(struct fm_grpc_exchange *exchange, int code, const char *format, ...)
    FM_PRINTF(3, 4);
/* Frees what was received and tells nobody. */
void fm_grpc_exchange_drop_received(struct fm_grpc_exchange *exchange);

/* grpc_answer.c */
/* Ends the stream with the status in exchange->code and status_text. */
void fm_grpc_answer_end(struct fm_grpc_exchange *exchange);
/* Answers with a status of HTTP and nothing else. */
void fm_grpc_answer_http(struct fm_grpc_exchange *exchange, const char *status);
/* What is waiting does not go out any more. */
void fm_grpc_answer_drop(struct fm_grpc_exchange *exchange);
/* nghttp2's callback: the frame of `length` bytes behind `head`. */
int fm_grpc_answer_pack(struct fm_grpc_exchange *exchange, const uint8_t *head, size_t length);
/* For another frame. */
bool fm_grpc_output_has_room(const struct fm_grpc_output *output);
void fm_grpc_output_copy(struct fm_grpc_output *output, const void *data, size_t size);
void fm_grpc_output_done(struct fm_grpc_server *server, struct fm_grpc_output *output);
/* NULL: out of memory. */
struct fm_grpc_output *fm_grpc_output_take(struct fm_grpc_server *server);
void fm_grpc_outgoing_free_all(struct fm_grpc_server *server);

#endif
