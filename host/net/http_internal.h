/*
 * What the files of the HTTP server share: http_server.c (beginning, drain, end), http_connection.c
 * (the life of a connection) and http_message.c (one request put together, one answer written).
 * Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_HTTP_INTERNAL_H
#define FM_HOST_NET_HTTP_INTERNAL_H

#include <uv.h>

#include "core/util/text.h"
#include "host/net/compress.h"
#include "host/net/http_parser_shim.h"
#include "host/net/http_server.h"
#include "host/net/listener.h"
#include "host/net/stream.h"

struct fm_http_connection;

/* Pieces that an answer may have without an allocation. */
#define FM_HTTP_FEW_BUFFERS 6u
/* Exchanges that a server keeps to use again, with what they have of at most so many bytes. */
#define FM_HTTP_EXCHANGES_KEPT 256u
#define FM_HTTP_BYTES_KEPT     4096u

/* A request and its answer. Lives until the answer was written, or released because the client is
 * gone. */
struct fm_http_exchange {
    struct fm_http_request request; /* first: handlers see only this */
    struct fm_http_server *server;
    struct fm_http_connection *connection; /* NULL: the client is gone */
    /* Reading: head holds NUL-terminated texts, starts where each begins: the target, then name and
     * value in turn. */
    struct fm_text head;
    uint32_t *starts;
    uint32_t start_count;
    int piece; /* enum fm_http_piece: what came last */
    struct fm_http_header *headers;
    uint32_t header_capacity;
    char *body;
    size_t body_offset; /* of its first byte in `body` */
    size_t body_size;
    size_t body_capacity;
    size_t body_charged; /* of the server's total */
    uint32_t chunk_count;
    size_t trailer_bytes;
    bool is_head;
    bool keep_alive;
    bool is_1_0;
    /* Writing. */
    struct fm_loop_task answered;
    struct fm_http_answer answer;
    struct fm_text answer_head;
    struct fm_text error_body;
    struct fm_text compressed;
    enum fm_compression compression; /* of the answer */
    struct fm_http_part error_part;
    uv_buf_t few_buffers[FM_HTTP_FEW_BUFFERS];
    uv_buf_t *buffers;             /* few_buffers, or allocated */
    struct fm_http_exchange *next; /* among the free ones */
};

enum fm_http_piece {
    FM_HTTP_PIECE_NONE,
    FM_HTTP_PIECE_TARGET,
    FM_HTTP_PIECE_NAME,
    FM_HTTP_PIECE_VALUE
};

enum fm_http_state {
    FM_HTTP_IDLE,      /* waiting for the first byte of a request */
    FM_HTTP_HEAD,      /* inside a request's head */
    FM_HTTP_BODY,      /* inside its body */
    FM_HTTP_IN_FLIGHT, /* the handler has the request */
    FM_HTTP_WRITING,   /* the answer is going out */
    FM_HTTP_LINGER, /* answered and shut down; what still comes is thrown away, so that the answer
                       is not lost in a reset */
    FM_HTTP_CLOSING,
};

struct fm_http_connection {
    struct fm_http_server *server;
    struct fm_http_connection *previous;
    struct fm_http_connection *next;
    struct fm_stream stream;
    uv_timer_t timer;
    int handles_open;
    enum fm_http_state state;
    struct fm_http_parser *parser;
    struct fm_http_exchange *exchange; /* the one being read, worked on, or answered */
    struct fm_text pending;            /* bytes received and not parsed yet */
    size_t pending_offset;
    bool end_of_input; /* the client closed its sending half */
    int reject_status; /* why an event ended the parsing */
    const char *reject_reason;
    uint64_t since_ns; /* the present phase began */
    size_t unwritten;  /* at the last look */
};

struct fm_http_server {
    struct fm_loop *loop;
    uv_loop_t *uv;
    struct fm_http_options options;
    struct fm_listener listener;
    uv_timer_t grace;
    bool grace_open;
    int handles_open; /* the timer and connections */
    bool draining;    /* every answer is its connection's last */
    bool ending;      /* fm_http_server_drain was called */
    bool closed_to_new;
    bool drained;
    struct fm_http_connection *connections;
    struct fm_http_exchange *exchanges; /* free ones */
    uint32_t exchange_count;
    size_t body_bytes;
    struct fm_http_stats stats;
    uint64_t date_second;
    char date[64];
    struct fm_stream_shared shared;
};

/* http_connection.c */
/* False: no memory for a connection. */
bool fm_http_connection_accept(struct fm_http_server *server, uv_stream_t *listener);
void fm_http_connection_close(struct fm_http_connection *connection);
/* Says "100 Continue". False: that failed, and the connection is closed. */
bool fm_http_connection_continue(struct fm_http_connection *connection);
void fm_http_connection_answer(struct fm_http_connection *connection);

/* http_server.c */
/* A connection's last handle is closed. */
void fm_http_server_forget(struct fm_http_server *server);

/* http_message.c */
extern const struct fm_http_parser_events fm_http_events;
struct fm_http_exchange *fm_http_exchange_create(struct fm_http_connection *connection);
void fm_http_exchange_free(struct fm_http_exchange *exchange);
/* Frees those that were kept. */
void fm_http_exchanges_release(struct fm_http_server *server);
/* All parts are there: makes the public view. 0, or the status to reject with and *ret_reason. */
int fm_http_exchange_complete(struct fm_http_exchange *exchange, const char **ret_reason);
/* Writes the answer that is in exchange->answer: 0, or as fm_stream_write says. */
int fm_http_exchange_write(struct fm_http_exchange *exchange, bool close);
/* Fills exchange->answer with an error of the server's own. */
void fm_http_exchange_reject(struct fm_http_exchange *exchange, int status, const char *reason);

#endif
