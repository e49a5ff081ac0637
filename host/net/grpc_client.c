/*
 * The gRPC client. See grpc_client.h.
 *
 * A call waits in the client's queue, then belongs to a connection, until call_done. Connections
 * are CONNECTING, OPEN, and CLOSING; one that says goodbye (GOAWAY) is OPEN until its calls are
 * over, and gets no new ones. nghttp2's session lives until the socket is closed, so that
 * everything may be called from its callbacks.
 */
#include "host/net/grpc_client.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/oip_grpc.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/net/grpc_fields.h"
#include "host/net/http2_frames.h"
#include "host/os/os.h"

#define OUTPUT_BYTES_MAX  ((size_t)1 << 20) /* gathered for one write */
#define STREAM_WINDOW     ((uint32_t)16 << 20)
#define CONNECTION_WINDOW ((int32_t)64 << 20)
#define BODY_BYTES_FIRST  ((size_t)1 << 20)
#define STREAMS_UNSAID    100u /* before the server has said how many it takes */
#define STREAMS_MAX       100000u
#define MESSAGE_TEXT_MAX  2048u
#define PREFIX_BYTES      5u

enum state { CONNECTING, OPEN, CLOSING };

struct fm_grpc_client_connection {
    struct fm_grpc_client *client;
    struct fm_grpc_client_connection *next; /* all of the client's */
    struct fm_grpc_client_connection *previous;
    struct fm_stream stream;
    struct fm_dial dial;
    nghttp2_session *session;
    enum state state;
    bool goaway;
    bool settled;                      /* the server's settings came */
    bool heard;                        /* a byte came */
    struct fm_grpc_client_call *calls; /* on it */
    uint32_t call_count;
    int32_t last_id;    /* submitted */
    int32_t written_id; /* and perhaps with the server, if only in part */
    struct fm_text output;
    uv_buf_t buffer; /* over it, while it is written */
};

struct fm_grpc_client {
    struct fm_grpc_client_options options;
    uv_loop_t *uv;
    struct fm_stream_shared shared;
    struct fm_deadlines deadlines;
    struct fm_dial_pause pause;
    nghttp2_session_callbacks *callbacks;
    struct fm_grpc_client_connection *connections;
    struct fm_grpc_client_call *first; /* that wait */
    struct fm_grpc_client_call *last;
    uint32_t waiting_count;
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
};

/* --- Calls --- */

static void queue_push(struct fm_grpc_client *client, struct fm_grpc_client_call *call, bool front)
{
    call->connection = NULL;
    call->next = front ? client->first : NULL;
    call->previous = front ? NULL : client->last;
    *(call->previous != NULL ? &call->previous->next : &client->first) = call;
    *(call->next != NULL ? &call->next->previous : &client->last) = call;
    client->waiting_count++;
}

static void queue_remove(struct fm_grpc_client *client, struct fm_grpc_client_call *call)
{
    *(call->previous != NULL ? &call->previous->next : &client->first) = call->next;
    *(call->next != NULL ? &call->next->previous : &client->last) = call->previous;
    call->next = NULL;
    call->previous = NULL;
    client->waiting_count--;
}

static void connection_add(struct fm_grpc_client_connection *connection,
                           struct fm_grpc_client_call *call)
{
    call->connection = connection;
    call->previous = NULL;
    call->next = connection->calls;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    connection->calls = call;
    connection->call_count++;
}

/* Nothing that comes for the call's stream finds it any more. */
static void connection_remove(struct fm_grpc_client_call *call)
{
    struct fm_grpc_client_connection *connection = call->connection;
    *(call->previous != NULL ? &call->previous->next : &connection->calls) = call->next;
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    call->next = NULL;
    call->previous = NULL;
    call->connection = NULL;
    connection->call_count--;
    (void)nghttp2_session_set_stream_user_data(connection->session, call->stream_id, NULL);
}

static void body_drop(struct fm_grpc_client_call *call)
{
    fm_free(call->body);
    call->body = NULL;
    call->body_size = 0;
    call->body_capacity = 0;
    call->head_size = 0;
}

void fm_grpc_client_message_free(struct fm_grpc_client_message *message)
{
    if (message != NULL) {
        fm_text_deinit(&message->bytes);
        fm_free(message);
    }
}

/* Nothing of the call is used from here on. It is on no list. */
static void call_done(struct fm_grpc_client_call *call)
{
    fm_deadlines_remove(&call->client->deadlines, &call->deadline);
    body_drop(call);
    fm_text_deinit(&call->text);
    while (call->first != NULL) {
        struct fm_grpc_client_message *message = call->first;
        call->first = message->next;
        fm_grpc_client_message_free(message);
    }
    call->last = NULL;
    call->done(call);
}

/* For a call that no byte was sent of, or that the server refused without a look at it. */
static bool call_retry(struct fm_grpc_client_call *call)
{
    struct fm_grpc_client *client = call->client;
    if (call->answered || call->stream || call->tries > client->options.retries_max ||
        client->closing) {
        return false;
    }
    connection_remove(call);
    call->sent = 0;
    call->stream_id = 0;
    queue_push(client, call, true);
    return true;
}

static void call_fail(struct fm_grpc_client_call *call, int status, const char *why)
{
    if (call->connection != NULL) {
        connection_remove(call);
    }
    call->code = -1;
    call->status = fm_error_set(&call->error, status, "%s", why);
    call_done(call);
}

/* The stream is over, and said why. */
static void call_conclude(struct fm_grpc_client_call *call, uint32_t error_code)
{
    if (error_code == NGHTTP2_REFUSED_STREAM && call_retry(call)) {
        return;
    }
    connection_remove(call);
    const char *text = call->text.data != NULL && call->text.length > 0 ? call->text.data : NULL;
    if (call->code > 0) {
        call->status = fm_error_set(&call->error, fm_status_from_grpc(call->code), "%s",
                                    text != NULL ? text : "the server gave no reason");
    } else if (call->http_code != 0 && call->http_code != 200) {
        int status = fm_status_from_http((int)call->http_code);
        call->status = fm_error_set(
            &call->error, status != 0 ? status : FM_ECORRUPT,
            "the server answered with HTTP status %u and content type '%s', not with gRPC's",
            call->http_code, call->content_type);
    } else if (call->http_code == 200 && !call->is_grpc) {
        call->status = fm_error_set(&call->error, FM_ECORRUPT,
                                    "the server answered with content type '%s', not with gRPC's",
                                    call->content_type);
    } else if (call->code == 0 && call->head_size > 0) {
        call->status = fm_error_set(&call->error, FM_ECORRUPT, "the last message is cut off");
    } else if (call->code == 0 && !call->stream && call->message_count == 0) {
        call->status = fm_error_set(&call->error, FM_ECORRUPT, "the answer has no message");
    } else if (call->code == 0) {
        call->status = 0;
    } else {
        call->status = fm_error_set(
            &call->error, error_code == NGHTTP2_NO_ERROR ? FM_ECORRUPT : FM_EUNAVAILABLE,
            "the server ended the call without a status (%s)", nghttp2_http2_strerror(error_code));
    }
    call_done(call);
}

/* --- Connections: the end --- */

static void client_free(void *context)
{
    struct fm_grpc_client *client = context;
    void (*closed)(void *) = client->closed;
    void *closed_context = client->closed_context;
    nghttp2_session_callbacks_del(client->callbacks);
    fm_tls_destroy(client->options.tls);
    fm_free(client);
    closed(closed_context);
}

static void client_finish(struct fm_grpc_client *client)
{
    if (client->closing && client->connections == NULL) {
        fm_deadlines_deinit(&client->deadlines, client_free, client);
    }
}

static void on_closed(void *context)
{
    struct fm_grpc_client_connection *connection = context;
    struct fm_grpc_client *client = connection->client;
    if (!fm_dial_is_over(&connection->dial)) {
        return;
    }
    *(connection->previous != NULL ? &connection->previous->next : &client->connections) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    FM_ASSERT(connection->calls == NULL);
    nghttp2_session_del(connection->session);
    fm_text_deinit(&connection->output);
    fm_free(connection);
    client_finish(client);
}

/* Its calls fail, apart from those that surely did not leave. */
static void connection_fail(struct fm_grpc_client_connection *connection, int status,
                            const char *why)
{
    if (connection->state == CLOSING) {
        return;
    }
    connection->state = CLOSING;
    fm_dial_close(&connection->dial);
    while (connection->calls != NULL) {
        struct fm_grpc_client_call *call = connection->calls;
        if (call->stream_id <= connection->written_id || !call_retry(call)) {
            call_fail(call, status, why);
        }
    }
}

static void fail_waiting(struct fm_grpc_client *client, int status, const char *why)
{
    for (uint32_t count = client->waiting_count; count > 0 && client->first != NULL; count--) {
        struct fm_grpc_client_call *call = client->first;
        queue_remove(client, call);
        call_fail(call, status, why);
    }
}

static void connect_failed(struct fm_grpc_client_connection *connection, int result)
{
    struct fm_grpc_client *client = connection->client;
    struct fm_error error;
    bool others = false;
    fm_dial_failure(&connection->dial, result, &error);
    fm_dial_pause_begin(&client->pause, &client->deadlines, &error);
    connection_fail(connection, FM_EUNAVAILABLE, error.text);
    for (struct fm_grpc_client_connection *at = client->connections; at != NULL; at = at->next) {
        others = others || at->state == CONNECTING || (at->state == OPEN && !at->goaway);
    }
    if (!others) {
        fail_waiting(client, FM_EUNAVAILABLE, error.text);
    }
}

static void broken(struct fm_grpc_client_connection *connection, int result)
{
    struct fm_error error;
    const char *problem = fm_stream_problem(&connection->stream);
    problem = problem == NULL && result != 0 ? uv_strerror(result) : problem;
    (void)fm_error_set(&error, FM_EUNAVAILABLE, "the connection broke before the call was over%s%s",
                       problem != NULL ? ": " : "", problem != NULL ? problem : "");
    connection_fail(connection, FM_EUNAVAILABLE, error.text);
}

/* --- Messages that come --- */

static void body_release(void *memory)
{
    fm_free(memory);
}

/* The message is whole. False: the call is over. */
static bool message_take(struct fm_grpc_client_call *call)
{
    struct fm_text text = {0};
    char *memory = call->body;
    size_t offset = call->body_offset;
    size_t size = call->body_size;
    if (call->head[0] != 0) {
        int status = fm_decompress(call->encoding, memory + offset, size,
                                   (size_t)call->client->options.message_bytes_max, &text);
        size = text.length;
        offset = 0;
        memory = status == 0 ? fm_text_take(&text) : NULL;
        fm_text_deinit(&text);
        if (memory == NULL) {
            fm_grpc_client_cancel(call, status != 0 ? status : FM_ENOMEM,
                                  "the answer cannot be decompressed, or is too large");
            return false;
        }
        fm_free(call->body);
    }
    call->body = NULL;
    body_drop(call);
    struct fm_buffer *buffer = fm_buffer_wrap(memory, offset + size, body_release, memory);
    if (buffer == NULL) {
        fm_free(memory);
        fm_grpc_client_cancel(call, FM_ENOMEM, "out of memory for the answer");
        return false;
    }
    if (++call->message_count > 1 && !call->stream) {
        fm_buffer_unref(buffer);
        fm_grpc_client_cancel(call, FM_ECORRUPT, "the answer has more than one message");
        return false;
    }
    call->message(call, buffer, memory + offset, size);
    return call->connection != NULL; /* it may have cancelled the call */
}

/* False: the call is over. */
static bool head_take(struct fm_grpc_client_call *call)
{
    const unsigned char *head = call->head;
    size_t size =
        (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | (size_t)head[4];
    if (head[0] > 1 || (head[0] == 1 && call->encoding == FM_COMPRESSION_IDENTITY)) {
        fm_grpc_client_cancel(call, FM_ECORRUPT, "the answer is compressed in an unknown way");
        return false;
    }
    if (size > call->client->options.message_bytes_max) {
        fm_grpc_client_cancel(call, FM_ETOOLARGE, "the answer is larger than the client takes");
        return false;
    }
    call->body_wanted = size;
    call->body_offset = fm_oip_grpc_message_offset(size);
    return true;
}

/* Large ones must first show that they are coming. */
static bool body_reserve(struct fm_grpc_client_call *call, size_t size)
{
    if (size <= call->body_capacity && call->body != NULL) {
        return true;
    }
    size_t capacity = size <= BODY_BYTES_FIRST && call->body_wanted > BODY_BYTES_FIRST
                          ? BODY_BYTES_FIRST
                          : call->body_wanted;
    char *body = fm_realloc(call->body, call->body_offset + capacity + 1);
    if (body == NULL) {
        return false;
    }
    call->body = body;
    call->body_capacity = capacity;
    return true;
}

static void data_take(struct fm_grpc_client_call *call, const uint8_t *data, size_t size)
{
    for (;;) {
        while (call->head_size < PREFIX_BYTES && size > 0) {
            call->head[call->head_size++] = *data++;
            size--;
            if (call->head_size == PREFIX_BYTES && !head_take(call)) {
                return;
            }
        }
        if (call->head_size < PREFIX_BYTES) {
            return;
        }
        size_t left = call->body_wanted - call->body_size;
        size_t take = size < left ? size : left;
        if (!body_reserve(call, call->body_size + take)) {
            fm_grpc_client_cancel(call, FM_ENOMEM, "out of memory for the answer");
            return;
        }
        if (take > 0) {
            memcpy(call->body + call->body_offset + call->body_size, data, take);
        }
        call->body_size += take;
        data += take;
        size -= take;
        if (call->body_size < call->body_wanted || !message_take(call)) {
            return;
        }
    }
}

/* --- Events of HTTP/2 --- */

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t size, void *context)
{
    (void)flags;
    (void)context;
    struct fm_grpc_client_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    /* The words of a proxy, for example, are no messages. */
    if (call != NULL && call->http_code == 200 && call->is_grpc) {
        data_take(call, data, size);
    }
    return 0;
}

static bool name_is(const uint8_t *name, size_t length, const char *wanted)
{
    return length == strlen(wanted) && memcmp(name, wanted, length) == 0;
}

/* Digits only; -1 for anything else. */
static int number(const uint8_t *text, size_t length)
{
    int value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || length > 4) {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
    }
    return length > 0 ? value : -1;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                     void *context)
{
    (void)flags;
    (void)context;
    struct fm_grpc_client_call *call =
        frame->hd.type == NGHTTP2_HEADERS
            ? nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)
            : NULL;
    if (call == NULL) {
        return 0;
    }
    call->answered = true;
    if (name_is(name, name_length, ":status")) {
        int code = number(value, value_length);
        call->http_code = code > 0 ? (unsigned)code : 0;
    } else if (name_is(name, name_length, "content-type")) {
        (void)snprintf(call->content_type, sizeof(call->content_type), "%.*s", (int)value_length,
                       (const char *)value);
        call->is_grpc = fm_grpc_content_type_matches(call->content_type);
    } else if (name_is(name, name_length, "grpc-status")) {
        int code = number(value, value_length);
        call->code = code >= 0 ? code : 2;
    } else if (name_is(name, name_length, "grpc-message")) {
        fm_text_clear(&call->text);
        fm_grpc_message_decode(&call->text, (const char *)value,
                               value_length < MESSAGE_TEXT_MAX ? value_length : MESSAGE_TEXT_MAX);
    } else if (name_is(name, name_length, "grpc-encoding")) {
        enum fm_compression found = fm_compression_parse((const char *)value, value_length);
        call->encoding = found != FM_COMPRESSION_COUNT_ ? found : FM_COMPRESSION_IDENTITY;
    }
    return 0;
}

/* The server has said all: the call is over, though we may not have. Where we have, the stream is
 * closed next. */
static void answer_end(nghttp2_session *session, int32_t stream_id)
{
    struct fm_grpc_client_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    if (call != NULL && nghttp2_session_get_stream_local_close(session, stream_id) == 0) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
        call_conclude(call, NGHTTP2_NO_ERROR);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct fm_grpc_client_connection *connection = context;
    if (frame->hd.type == NGHTTP2_SETTINGS) {
        connection->settled = true;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        connection->goaway = true;
    } else if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        answer_end(session, frame->hd.stream_id);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *context)
{
    (void)context;
    struct fm_grpc_client_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    if (call != NULL) {
        call_conclude(call, error_code);
    }
    return 0;
}

/* --- Messages that go --- */

static ssize_t on_source(nghttp2_session *session, int32_t stream_id, uint8_t *buffer,
                         size_t length, uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)buffer;
    (void)source;
    (void)context;
    struct fm_grpc_client_call *call = nghttp2_session_get_stream_user_data(session, stream_id);
    if (call == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    size_t total = PREFIX_BYTES + call->size;
    if (call->stream) {
        if (call->first == NULL) {
            *flags |= call->finished ? NGHTTP2_DATA_FLAG_EOF : 0;
            return call->finished ? 0 : NGHTTP2_ERR_DEFERRED;
        }
        total = call->first->bytes.length;
    }
    size_t left = total - call->sent;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!call->stream && left <= length) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)(left < length ? left : length);
}

/* Copies `size` bytes of a unary call's prefix and parts, from call->sent on. */
static void copy_parts(struct fm_grpc_client_call *call, struct fm_text *output, size_t size)
{
    size_t begin = 0;
    for (uint32_t i = 0; i <= call->part_count && size > 0; i++) {
        const char *data = i == 0 ? (const char *)call->prefix : call->parts[i - 1].data;
        size_t length = i == 0 ? PREFIX_BYTES : call->parts[i - 1].size;
        if (call->sent < begin + length) {
            size_t skip = call->sent - begin;
            size_t take = length - skip < size ? length - skip : size;
            fm_text_append(output, data + skip, take);
            call->sent += take;
            size -= take;
        }
        begin += length;
    }
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *context)
{
    (void)source;
    struct fm_grpc_client_connection *connection = context;
    struct fm_grpc_client_call *call =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (call == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    fm_text_append(&connection->output, head, 9);
    if (!call->stream) {
        copy_parts(call, &connection->output, length);
    } else {
        struct fm_grpc_client_message *message = call->first;
        fm_text_append(&connection->output, message->bytes.data + call->sent, length);
        call->sent += length;
        if (call->sent == message->bytes.length) {
            call->sent = 0;
            call->first = message->next;
            call->last = call->first != NULL ? call->last : NULL;
            call->waiting_bytes -= message->bytes.length;
            fm_grpc_client_message_free(message);
        }
    }
    if (connection->output.failed) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    /* Else it would go on for as long as there is something to send. */
    return connection->output.length < OUTPUT_BYTES_MAX ? 0 : NGHTTP2_ERR_PAUSE;
}

static bool fill(struct fm_grpc_client_connection *connection)
{
    fm_text_clear(&connection->output);
    while (connection->output.length < OUTPUT_BYTES_MAX) {
        const uint8_t *data = NULL;
        ssize_t size = nghttp2_session_mem_send(connection->session, &data);
        if (size < 0) {
            return false;
        }
        if (size == 0) {
            break;
        }
        fm_text_append(&connection->output, data, (size_t)size);
    }
    return !connection->output.failed;
}

static void flush(struct fm_grpc_client_connection *connection)
{
    while (connection->state == OPEN && !connection->stream.writing) {
        if (!fill(connection)) {
            connection_fail(connection, FM_ENOMEM, "out of memory for the request");
            return;
        }
        if (connection->output.length == 0) {
            break;
        }
        connection->buffer =
            (uv_buf_t){.base = connection->output.data, .len = connection->output.length};
        int status = fm_stream_write(&connection->stream, &connection->buffer, 1);
        if (connection->stream.departed) {
            /* Also of a write that failed: with TLS it is done in pieces. */
            connection->written_id = connection->last_id;
        }
        if (status != 0 && status != FM_EAGAIN) {
            broken(connection, UV_EPIPE);
            return;
        }
    }
    if (connection->state == OPEN && !connection->stream.writing && connection->calls == NULL &&
        (connection->goaway || (nghttp2_session_want_read(connection->session) == 0 &&
                                nghttp2_session_want_write(connection->session) == 0))) {
        connection_fail(connection, FM_EUNAVAILABLE, "the server ended the connection");
    } else if (connection->state == OPEN && nghttp2_session_want_read(connection->session) == 0 &&
               nghttp2_session_want_write(connection->session) == 0) {
        connection_fail(connection, FM_ECORRUPT, "the server broke the rules of HTTP/2");
    }
}

/* --- Events of the socket --- */

static void on_read(void *context, const char *data, size_t size)
{
    struct fm_grpc_client_connection *connection = context;
    if (connection->state != OPEN) {
        return;
    }
    if (!connection->heard && size >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        connection_fail(connection, FM_ECORRUPT,
                        "the server speaks HTTP/1.1 there, not gRPC: it may be the port of REST");
        return;
    }
    connection->heard = true;
    ssize_t used = nghttp2_session_mem_recv(connection->session, (const uint8_t *)data, size);
    if (used < 0) {
        connection_fail(connection, FM_ECORRUPT, "the server does not speak HTTP/2");
    }
}

static void on_ended(void *context, int result)
{
    struct fm_grpc_client_connection *connection = context;
    if (connection->state == CONNECTING) {
        connect_failed(connection, result);
        return;
    }
    broken(connection, result);
}

static void on_written(void *context, int result)
{
    struct fm_grpc_client_connection *connection = context;
    if (result != 0 && connection->state == OPEN) {
        broken(connection, result);
    }
}

/* --- Connections: the beginning --- */

static bool session_open(struct fm_grpc_client_connection *connection)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FM_HTTP2_FRAME_BYTES_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 65536},
    };
    return nghttp2_session_client_new(&connection->session, connection->client->callbacks,
                                      connection) == 0 &&
           nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
                                   sizeof(settings) / sizeof(settings[0])) == 0 &&
           nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                                 CONNECTION_WINDOW) == 0;
}

static void on_ready(void *context)
{
    struct fm_grpc_client_connection *connection = context;
    if (connection->state == CONNECTING) {
        fm_dial_ready(&connection->dial);
        fm_dial_pause_end(&connection->client->pause, &connection->client->deadlines);
        connection->state = OPEN;
    }
}

static void on_connected(void *context, int result)
{
    struct fm_grpc_client_connection *connection = context;
    result = result == 0 ? fm_stream_begin(&connection->stream) : result;
    if (result != 0) {
        connect_failed(connection, result);
    } else if (connection->stream.tls == NULL) {
        on_ready(connection);
    }
}

static const struct fm_stream_events stream_events = {.read = on_read,
                                                      .ended = on_ended,
                                                      .written = on_written,
                                                      .closed = on_closed,
                                                      .ready = on_ready};

static bool connection_open(struct fm_grpc_client *client)
{
    struct fm_grpc_client_connection *connection = fm_alloc_zero(1, sizeof(*connection));
    if (connection == NULL) {
        return false;
    }
    connection->client = client;
    connection->state = CONNECTING;
    if (!session_open(connection)) {
        nghttp2_session_del(connection->session);
        fm_free(connection);
        return false;
    }
    connection->next = client->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    client->connections = connection;
    fm_stream_init(&connection->stream, client->uv, client->options.endpoint->path != NULL,
                   &client->shared, &stream_events, connection);
    const struct fm_dial_options dialling = {.endpoint = client->options.endpoint,
                                             .uv = client->uv,
                                             .deadlines = &client->deadlines,
                                             .timeout_ns = client->options.connect_timeout_ns,
                                             .done = on_connected,
                                             .context = connection};
    if (fm_dial_start(&connection->dial, &connection->stream, &dialling) != 0) {
        connection_fail(connection, FM_ENOMEM, "out of memory for a connection");
        return false;
    }
    return true;
}

/* --- Sending --- */

static uint32_t streams_max(const struct fm_grpc_client_connection *connection)
{
    uint32_t said = nghttp2_session_get_remote_settings(connection->session,
                                                        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    uint32_t most = connection->settled ? STREAMS_MAX : STREAMS_UNSAID;
    return said < most ? said : most;
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NONE};
}

/* False: the connection has no stream left for it. */
static bool submit(struct fm_grpc_client_connection *connection, struct fm_grpc_client_call *call)
{
    const struct fm_grpc_client_options *options = &connection->client->options;
    nghttp2_nv fields[FM_GRPC_CLIENT_FIELDS_MAX + 16];
    const nghttp2_data_provider provider = {.read_callback = on_source};
    char timeout[32];
    size_t count = 0;
    fields[count++] = field(":method", "POST");
    fields[count++] = field(":scheme", options->endpoint->tls ? "https" : "http");
    fields[count++] = field(":path", call->path);
    fields[count++] = field(":authority", options->endpoint->authority);
    fields[count++] = field("te", "trailers");
    fields[count++] = field("content-type", "application/grpc");
    fields[count++] = field("grpc-accept-encoding", "identity,deflate,gzip");
    if (call->compressed) {
        fields[count++] = field("grpc-encoding", fm_compression_name(options->compression));
    }
    if (call->deadline_ns > 0) {
        uint64_t now_ns = fm_os_now_ns();
        fm_grpc_timeout_write(call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 1, timeout,
                              sizeof(timeout));
        fields[count++] = field("grpc-timeout", timeout);
    }
    for (uint32_t i = 0; i < options->field_count && i < FM_GRPC_CLIENT_FIELDS_MAX; i++) {
        fields[count++] = field(options->fields[i].name, options->fields[i].value);
    }
    int32_t id = nghttp2_submit_request(connection->session, NULL, fields, count, &provider, call);
    if (id < 0) {
        return false;
    }
    call->stream_id = id;
    call->tries++;
    call->code = -1;
    connection->last_id = id;
    connection_add(connection, call);
    return true;
}

/* The pause is over: those that wait are looked after at the end of this round. */
static void on_pause_over(struct fm_deadline *deadline)
{
    (void)deadline;
}

/* Gives those that wait to connections. */
static void pump(struct fm_grpc_client *client)
{
    while (client->first != NULL && !client->closing) {
        struct fm_grpc_client_connection *best = NULL;
        uint32_t count = 0;
        bool connecting = false;
        for (struct fm_grpc_client_connection *at = client->connections; at != NULL;
             at = at->next) {
            connecting = connecting || at->state == CONNECTING;
            count += at->state != CLOSING && !at->goaway ? 1 : 0;
            if (at->state == OPEN && !at->goaway && at->call_count < streams_max(at) &&
                (best == NULL || at->call_count < best->call_count)) {
                best = at;
            }
        }
        if ((best == NULL || best->call_count > 0) && !connecting &&
            count < client->options.connections_max && !fm_dial_pause_lasts(&client->pause) &&
            !connection_open(client) && count == 0) {
            /* Those that stand have room, or will have it again. */
            fail_waiting(client, FM_ENOMEM, "out of memory for a connection");
            return;
        }
        if (best == NULL) {
            return;
        }
        struct fm_grpc_client_call *call = client->first;
        queue_remove(client, call);
        if (!submit(best, call)) {
            /* Out of stream numbers, or of memory: another connection. */
            best->goaway = true;
            queue_push(client, call, true);
        }
    }
}

void fm_grpc_client_round(struct fm_grpc_client *client)
{
    pump(client);
    for (struct fm_grpc_client_connection *at = client->connections; at != NULL; at = at->next) {
        if (at->state == OPEN) {
            flush(at);
        }
    }
}

/* --- The client --- */

int fm_grpc_client_create(struct fm_loop *loop, const struct fm_grpc_client_options *options,
                          struct fm_grpc_client **ret_client, struct fm_error *reterr)
{
    struct fm_grpc_client *client = fm_alloc_zero(1, sizeof(*client));
    if (client == NULL || nghttp2_session_callbacks_new(&client->callbacks) != 0) {
        fm_free(client);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the client");
    }
    nghttp2_session_callbacks *callbacks = client->callbacks;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, fm_http2_read_length);
    client->options = *options;
    client->uv = fm_loop_uv(loop);
    client->shared.tls = options->tls;
    client->shared.protocol = "h2";
    fm_deadlines_init(&client->deadlines, client->uv);
    client->pause.deadline.passed = on_pause_over;
    *ret_client = client;
    return 0;
}

void fm_grpc_client_close(struct fm_grpc_client *client, void (*closed)(void *context),
                          void *context)
{
    client->closing = true;
    client->closed = closed;
    client->closed_context = context;
    fm_dial_pause_end(&client->pause, &client->deadlines);
    fail_waiting(client, FM_ECANCELLED, "the client was closed");
    for (struct fm_grpc_client_connection *at = client->connections; at != NULL; at = at->next) {
        connection_fail(at, FM_ECANCELLED, "the client was closed");
    }
    client_finish(client);
}

static void on_call_late(struct fm_deadline *deadline)
{
    struct fm_grpc_client_call *call =
        FM_CONTAINER_OF(deadline, struct fm_grpc_client_call, deadline);
    struct fm_error error;
    fm_dial_pause_late(call->connection == NULL ? &call->client->pause : NULL, &error);
    fm_grpc_client_cancel(call, FM_EDEADLINE, error.text);
}

void fm_grpc_client_send(struct fm_grpc_client *client, struct fm_grpc_client_call *call)
{
    call->client = client;
    call->code = -1;
    call->deadline = (struct fm_deadline){.at_ns = call->deadline_ns, .passed = on_call_late};
    call->prefix[0] = call->compressed ? 1 : 0;
    for (int i = 0; i < 4; i++) {
        call->prefix[1 + i] = (unsigned char)(call->size >> (24 - 8 * i));
    }
    if (client->closing) {
        call_fail(call, FM_ECANCELLED, "the client was closed");
    } else if (call->deadline_ns > 0 &&
               fm_deadlines_add(&client->deadlines, &call->deadline) != 0) {
        call_fail(call, FM_ENOMEM, "out of memory for the request");
    } else {
        queue_push(client, call, false);
    }
}

void fm_grpc_client_cancel(struct fm_grpc_client_call *call, int status, const char *why)
{
    struct fm_grpc_client_connection *connection = call->connection;
    if (connection == NULL) {
        queue_remove(call->client, call);
    } else {
        (void)nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                        NGHTTP2_CANCEL);
    }
    call_fail(call, status, why);
}

void fm_grpc_client_call_send(struct fm_grpc_client_call *call,
                              struct fm_grpc_client_message *message)
{
    if (message == NULL) {
        call->finished = true;
    } else {
        message->next = NULL;
        *(call->last != NULL ? &call->last->next : &call->first) = message;
        call->last = message;
        call->waiting_bytes += message->bytes.length;
    }
    if (call->connection != NULL) {
        (void)nghttp2_session_resume_data(call->connection->session, call->stream_id);
    }
}
