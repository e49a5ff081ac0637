/*
 * What the files of the client library share.
 *
 * A call is made and encoded on the caller's thread, belongs to the client's thread from
 * fm_client_call_start until its `finish`, and is freed there, or by whoever waits for it. What
 * crosses threads is behind the client's mutex: the table of calls, so that a cancel finds its call
 * or nothing.
 */
#ifndef FM_ENGINES_CLIENT_CLIENT_INTERNAL_H
#define FM_ENGINES_CLIENT_CLIENT_INTERNAL_H

#include "core/proto/oip_client.h"
#include "host/messages/questions.h"
#include "host/net/grpc_client.h"
#include "host/net/http_client.h"
#include "host/net/loop.h"
#include "host/os/thread.h"

struct fm_client_call;

struct fm_client {
    struct fm_endpoint endpoint;
    struct fm_arena arena; /* of copied options */
    struct fm_text fields; /* HTTP: header fields of every request */
    struct fm_grpc_client_field grpc_fields[FM_GRPC_CLIENT_FIELDS_MAX];
    uint32_t grpc_field_count;
    uint32_t connections;
    uint32_t retries;
    uint64_t connect_timeout_ns;
    uint64_t timeout_ns;
    uint64_t answer_bytes_max;
    enum fm_compression compression;
    bool json;
    struct fm_loop *loop;
    struct fm_thread thread;
    struct fm_http_client *http; /* one of both, of the client's thread */
    struct fm_grpc_client *grpc;
    bool shut; /* they are gone or going */
    struct fm_loop_task close_task;
    struct fm_mutex mutex;
    /* Behind the mutex. */
    struct fm_client_call **calls; /* by place; NULL: free */
    uint32_t *generations;
    uint32_t *free_places;
    uint32_t free_count;
    uint32_t place_count;
    uint32_t requests_max;
    uint32_t under_way;
    bool closed;
};

/* A request under way. */
struct fm_client_call {
    struct fm_client *client;
    struct fm_loop_task start_task;
    struct fm_loop_task cancel_task;
    struct fm_http_client_call http;
    struct fm_grpc_client_call grpc;
    char what[160]; /* "inference of model 'm'" */
    struct fm_text target;
    struct fm_text fields;
    struct fm_oip_client_message message; /* the request */
    struct fm_text body;                  /* or this */
    struct fm_oip_part part;
    struct fm_arena arena;
    struct fm_client_request request; /* what decoding needs of it */
    struct fm_buffer *answer;
    const char *data; /* of the answer */
    size_t size;
    uint64_t length;
    uint32_t place;
    bool begun;     /* the transport has it */
    bool is_over;   /* finish was called */
    bool cancelled; /* behind the mutex, as the following */
    bool cancel_posted;
    unsigned http_code;
    int status; /* the outcome */
    struct fm_error error;
    /* On the client's thread, once; the call is freed afterwards. */
    void (*finish)(struct fm_client_call *call);
    fm_client_done done; /* inference */
    void *context;
};

struct fm_client_result {
    struct fm_oip_client_answer answer;
};

/* For a thread that waits for the client's. */
struct fm_client_waiter {
    struct fm_mutex mutex;
    struct fm_condition condition;
    bool over;
};

/* FM_EINVAL: this is the client's own thread, which nobody would wake. */
int FM_NODISCARD fm_client_may_wait(const struct fm_client *client, struct fm_error *reterr);
void fm_client_waiter_init(struct fm_client_waiter *waiter);
/* Waits until it was woken; then the waiter is over. */
void fm_client_waiter_wait(struct fm_client_waiter *waiter);
void fm_client_waiter_wake(struct fm_client_waiter *waiter);

/* NULL: out of memory. */
struct fm_client_call *fm_client_call_make(struct fm_client *client);
void fm_client_call_free(struct fm_client_call *call);
/* Hands the call over, unless it fails. *ret_id may be NULL. FM_EAGAIN, FM_ENOMEM, FM_ECANCELLED.
 */
int FM_NODISCARD fm_client_call_start(struct fm_client_call *call, uint64_t *ret_id,
                                      struct fm_error *reterr);
/* The call's error, with what was asked of whom in front. */
int fm_client_call_fail(struct fm_client_call *call, int status, const char *why);
/* The same for an answer over HTTP that is not 200: the server's reason, if it gave one. */
int fm_client_call_refused(struct fm_client_call *call);
/* `timeout_ns` from now, or the client's own; 0: none. */
uint64_t fm_client_deadline(const struct fm_client *client, uint64_t timeout_ns);
/* Compresses the request's parts where that is wanted. FM_ENOMEM. */
int FM_NODISCARD fm_client_call_pack(struct fm_client_call *call, const struct fm_oip_part *parts,
                                     uint32_t count, size_t size);
/* Appends a segment of a path. */
void fm_client_path_append(struct fm_text *text, const char *segment);

/* infer.c */
/* Copies the struct as far as the caller's goes. FM_EINVAL. */
int FM_NODISCARD fm_client_request_take(const struct fm_client *client,
                                        const struct fm_client_request *request,
                                        struct fm_client_request *ret_request,
                                        struct fm_error *reterr);

/* result.c */
/* Takes over the answer, also on failure. NULL: out of memory. */
struct fm_client_result *fm_client_result_make(struct fm_oip_client_answer *answer);

#endif
