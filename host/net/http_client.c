/*
 * The HTTP/1.1 client. See http_client.h.
 *
 * A connection is CONNECTING, then IDLE and BUSY in turn, then CLOSING; connection_close is the
 * only way there. A call that is concluded while its request is still being written, or that is
 * given up, ends with its connection: its bytes are borrowed until the socket is closed.
 */
#include "host/net/http_client.h"

#include <string.h>
#include <strings.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/net/compress.h"
#include "host/net/http_parser_shim.h"
#include "host/os/os.h"

#define FIELD_BYTES_MAX  256u
#define BODY_BYTES_FIRST ((size_t)1 << 20)

enum state { CONNECTING, IDLE, BUSY, CLOSING };

struct fm_http_client_connection {
    struct fm_http_client *client;
    struct fm_http_client_connection *next; /* all of the client's */
    struct fm_http_client_connection *previous;
    struct fm_http_client_connection *next_idle;
    struct fm_stream stream;
    struct fm_dial dial;
    struct fm_http_parser *parser;
    enum state state;
    bool used; /* it has brought an answer before */
    /* The call that has it, and its answer so far. */
    struct fm_http_client_call *call;
    bool concluded; /* the call ends with the connection; its outcome is set */
    bool retry;     /* or rather, it is sent again then */
    struct fm_text head;
    uv_buf_t *buffers;
    uint32_t buffer_capacity;
    bool answered; /* a byte came */
    bool interim;  /* 1xx: the answer is still to come */
    bool keep_alive;
    size_t head_bytes;
    struct fm_text name;
    struct fm_text value;
    bool in_value;
    enum fm_compression compression;
    char *body;
    size_t body_offset;
    size_t body_size;
    size_t body_capacity;
};

struct fm_http_client {
    struct fm_http_client_options options;
    uv_loop_t *uv;
    struct fm_stream_shared shared;
    struct fm_deadlines deadlines;
    struct fm_dial_pause pause;
    struct fm_http_client_connection *connections;
    struct fm_http_client_connection *idle;
    uint32_t connection_count;
    uint32_t connecting_count;
    struct fm_http_client_call *first; /* that wait */
    struct fm_http_client_call *last;
    uint32_t waiting_count;
    bool pumping;
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
};

static const struct fm_http_parser_events parser_events;
static const struct fm_stream_events stream_events;
static void pump(struct fm_http_client *client);
static void connect_failed(struct fm_http_client_connection *connection, int result);

/* --- Calls --- */

static void queue_push(struct fm_http_client *client, struct fm_http_client_call *call, bool front)
{
    call->connection = NULL;
    call->next = front ? client->first : NULL;
    call->previous = front ? NULL : client->last;
    *(call->previous != NULL ? &call->previous->next : &client->first) = call;
    *(call->next != NULL ? &call->next->previous : &client->last) = call;
    client->waiting_count++;
}

static void queue_remove(struct fm_http_client *client, struct fm_http_client_call *call)
{
    *(call->previous != NULL ? &call->previous->next : &client->first) = call->next;
    *(call->next != NULL ? &call->next->previous : &client->last) = call->previous;
    call->next = NULL;
    call->previous = NULL;
    client->waiting_count--;
}

/* Nothing of the call is used from here on. */
static void call_done(struct fm_http_client_call *call)
{
    fm_deadlines_remove(&call->client->deadlines, &call->deadline);
    call->connection = NULL;
    call->done(call);
}

static void body_release(void *memory)
{
    fm_free(memory);
}

static void body_drop(struct fm_http_client_connection *connection)
{
    fm_free(connection->body);
    connection->body = NULL;
    connection->body_size = 0;
    connection->body_capacity = 0;
    connection->body_offset = 0;
}

/* --- Connections: the end --- */

static void list_remove(struct fm_http_client_connection *connection)
{
    struct fm_http_client *client = connection->client;
    *(connection->previous != NULL ? &connection->previous->next : &client->connections) =
        connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    client->connection_count--;
}

static void idle_remove(struct fm_http_client_connection *connection)
{
    struct fm_http_client_connection **at = &connection->client->idle;
    while (*at != NULL && *at != connection) {
        at = &(*at)->next_idle;
    }
    if (*at != NULL) {
        *at = connection->next_idle;
    }
}

static void connection_close(struct fm_http_client_connection *connection)
{
    if (connection->state == CLOSING) {
        return;
    }
    if (connection->state == CONNECTING) {
        connection->client->connecting_count--;
    } else if (connection->state == IDLE) {
        idle_remove(connection);
    }
    connection->state = CLOSING;
    fm_dial_close(&connection->dial);
}

static void client_free(void *context)
{
    struct fm_http_client *client = context;
    void (*closed)(void *) = client->closed;
    void *closed_context = client->closed_context;
    fm_tls_destroy(client->options.tls);
    fm_free(client);
    closed(closed_context);
}

static void client_finish(struct fm_http_client *client)
{
    if (client->closing && client->connections == NULL) {
        /* The timer is the last handle; its memory goes with the client. */
        fm_deadlines_deinit(&client->deadlines, client_free, client);
    }
}

static void on_closed(void *context)
{
    struct fm_http_client_connection *connection = context;
    struct fm_http_client *client = connection->client;
    struct fm_http_client_call *call = connection->call;
    bool retry = connection->retry;
    if (!fm_dial_is_over(&connection->dial)) {
        return;
    }
    list_remove(connection);
    fm_http_parser_free(connection->parser);
    body_drop(connection);
    fm_text_deinit(&connection->head);
    fm_text_deinit(&connection->name);
    fm_text_deinit(&connection->value);
    fm_free(connection->buffers);
    fm_free(connection);
    if (retry && !client->closing) {
        queue_push(client, call, true);
    } else if (call != NULL) {
        call_done(call);
    }
    if (client->closing) {
        client_finish(client);
    } else {
        pump(client);
    }
}

/* The call's outcome is known. It ends now, or with its connection. */
static void conclude(struct fm_http_client_connection *connection, bool reuse)
{
    struct fm_http_client_call *call = connection->call;
    connection->concluded = true;
    if (!reuse || connection->stream.writing || connection->state != BUSY) {
        connection_close(connection);
        return;
    }
    connection->call = NULL;
    connection->used = true;
    connection->state = IDLE;
    connection->next_idle = connection->client->idle;
    connection->client->idle = connection;
    struct fm_http_client *client = connection->client;
    call_done(call);
    pump(client);
}

static void fail(struct fm_http_client_connection *connection, int status, const char *why)
{
    struct fm_http_client_call *call = connection->call;
    if (!connection->concluded || connection->retry) {
        connection->retry = false;
        call->status = fm_error_set(&call->error, status, "%s", why);
        conclude(connection, false);
    }
}

/* To send it again does no harm. */
static bool may_retry(const struct fm_http_client_connection *connection)
{
    const struct fm_http_client_call *call = connection->call;
    bool harmless = connection->used && !connection->answered && strcmp(call->method, "GET") == 0;
    return call->tries <= connection->client->options.retries_max &&
           (harmless || !connection->stream.departed);
}

/* The connection broke under its call. */
static void broken(struct fm_http_client_connection *connection, int result)
{
    struct fm_http_client_call *call = connection->call;
    const char *problem = fm_stream_problem(&connection->stream);
    if (call == NULL || connection->concluded) {
        connection_close(connection);
        return;
    }
    if (may_retry(connection)) {
        connection->retry = true;
        conclude(connection, false);
        return;
    }
    call->status = fm_error_set(
        &call->error, FM_EUNAVAILABLE, "the connection broke %s%s%s",
        connection->answered ? "in the middle of the answer" : "before the server answered",
        problem != NULL || result != 0 ? ": " : "",
        problem != NULL ? problem : (result != 0 ? uv_strerror(result) : ""));
    conclude(connection, false);
}

/* --- Answers --- */

static bool field_is(const struct fm_http_client_connection *connection, const char *name)
{
    return connection->name.length == strlen(name) &&
           strncasecmp(connection->name.data, name, connection->name.length) == 0;
}

/* A field is complete. */
static int field_take(struct fm_http_client_connection *connection)
{
    const char *length_field = connection->client->options.length_field;
    const char *value = connection->value.data != NULL ? connection->value.data : "";
    int status = 0;
    if (length_field != NULL && field_is(connection, length_field)) {
        status = fm_parse_uint64(value, &connection->call->length) == 0 ? 0 : FM_EINVAL;
    } else if (field_is(connection, "Content-Encoding") && connection->value.length > 0) {
        connection->compression = strcasecmp(value, "identity") == 0
                                      ? FM_COMPRESSION_IDENTITY
                                      : fm_compression_parse(value, connection->value.length);
        status = connection->compression != FM_COMPRESSION_COUNT_ ? 0 : FM_EINVAL;
    }
    fm_text_clear(&connection->name);
    fm_text_clear(&connection->value);
    connection->in_value = false;
    if (status != 0) {
        fail(connection, FM_ECORRUPT, "the answer has a header field that makes no sense");
    }
    return status != 0 ? -1 : 0;
}

static int event_begin(void *context)
{
    struct fm_http_client_connection *connection = context;
    connection->compression = FM_COMPRESSION_IDENTITY;
    connection->head_bytes = 0;
    connection->in_value = false;
    fm_text_clear(&connection->name);
    fm_text_clear(&connection->value);
    body_drop(connection);
    return 0;
}

static int head_count(struct fm_http_client_connection *connection, size_t length)
{
    connection->head_bytes += length;
    if (connection->head_bytes > FM_HTTP_CLIENT_HEAD_BYTES_MAX) {
        fail(connection, FM_ETOOLARGE, "the answer's head is too large");
        return -1;
    }
    return 0;
}

static void keep(struct fm_text *text, const char *data, size_t length)
{
    /* Fields that mean something here are short. */
    size_t room = text->length < FIELD_BYTES_MAX ? FIELD_BYTES_MAX - text->length : 0;
    fm_text_append(text, data, length < room ? length : room);
}

static int event_name(void *context, const char *data, size_t length)
{
    struct fm_http_client_connection *connection = context;
    if (connection->in_value && field_take(connection) != 0) {
        return -1;
    }
    keep(&connection->name, data, length);
    return head_count(connection, length);
}

static int event_value(void *context, const char *data, size_t length)
{
    struct fm_http_client_connection *connection = context;
    connection->in_value = true;
    keep(&connection->value, data, length);
    return head_count(connection, length);
}

static int event_head_complete(void *context)
{
    struct fm_http_client_connection *connection = context;
    if (connection->in_value && field_take(connection) != 0) {
        return -1;
    }
    struct fm_http_client_call *call = connection->call;
    call->code = fm_http_parser_status(connection->parser);
    connection->interim = call->code < 200;
    connection->keep_alive = fm_http_parser_keep_alive(connection->parser);
    if (fm_http_parser_content_length(connection->parser) >
        connection->client->options.body_bytes_max) {
        fail(connection, FM_ETOOLARGE, "the answer is larger than the client takes");
        return -1;
    }
    return 0;
}

static int event_chunk(void *context)
{
    (void)context;
    return 0;
}

static bool body_reserve(struct fm_http_client_connection *connection, size_t size)
{
    const uint64_t align = _Alignof(max_align_t);
    uint64_t before = connection->call->length;
    if (size <= connection->body_capacity) {
        return true;
    }
    uint64_t announced = fm_http_parser_content_length(connection->parser);
    size_t capacity = connection->body_capacity < 2048 ? 4096 : 2 * connection->body_capacity;
    if (connection->body_capacity == 0) {
        /* Large ones must first show that they are coming. */
        capacity = announced > 0 && announced < BODY_BYTES_FIRST ? (size_t)announced : capacity;
        connection->body_offset =
            before != UINT64_MAX ? (size_t)((align - before % align) % align) : 0;
    } else if (size > BODY_BYTES_FIRST && announced >= size) {
        capacity = (size_t)announced;
    }
    capacity = capacity < size ? size : capacity;
    char *body = fm_realloc(connection->body, connection->body_offset + capacity);
    if (body == NULL) {
        return false;
    }
    connection->body = body;
    connection->body_capacity = capacity;
    return true;
}

static int event_body(void *context, const char *data, size_t length)
{
    struct fm_http_client_connection *connection = context;
    if (length > connection->client->options.body_bytes_max - connection->body_size) {
        fail(connection, FM_ETOOLARGE, "the answer is larger than the client takes");
        return -1;
    }
    if (!body_reserve(connection, connection->body_size + length)) {
        fail(connection, FM_ENOMEM, "out of memory for the answer");
        return -1;
    }
    memcpy(connection->body + connection->body_offset + connection->body_size, data, length);
    connection->body_size += length;
    return 0;
}

static const struct fm_http_parser_events parser_events = {
    .begin = event_begin,
    .header_name = event_name,
    .header_value = event_value,
    .head_complete = event_head_complete,
    .chunk = event_chunk,
    .body = event_body,
};

static int body_decompress(struct fm_http_client_connection *connection)
{
    struct fm_text text = {0};
    int status = fm_decompress(connection->compression, connection->body + connection->body_offset,
                               connection->body_size,
                               (size_t)connection->client->options.body_bytes_max, &text);
    if (status == 0 && text.failed) {
        status = FM_ENOMEM;
    }
    if (status == 0) {
        body_drop(connection);
        connection->body_size = text.length;
        connection->body = fm_text_take(&text);
        status = connection->body != NULL ? 0 : FM_ENOMEM;
    }
    fm_text_deinit(&text);
    return status;
}

/* The answer is whole. */
static void answer_complete(struct fm_http_client_connection *connection)
{
    struct fm_http_client_call *call = connection->call;
    if (connection->compression != FM_COMPRESSION_IDENTITY && connection->body_size > 0) {
        int status = body_decompress(connection);
        if (status != 0) {
            fail(connection, status, "the answer cannot be decompressed, or is too large");
            return;
        }
    }
    if (connection->body_size > 0) {
        call->body =
            fm_buffer_wrap(connection->body, connection->body_offset + connection->body_size,
                           body_release, connection->body);
        if (call->body == NULL) {
            fail(connection, FM_ENOMEM, "out of memory for the answer");
            return;
        }
        call->data = connection->body + connection->body_offset;
        call->data_size = connection->body_size;
        connection->body = NULL;
    }
    body_drop(connection);
    call->status = 0;
    conclude(connection, connection->keep_alive);
}

static void on_read(void *context, const char *data, size_t size)
{
    struct fm_http_client_connection *connection = context;
    if (connection->state != BUSY || connection->concluded) {
        /* Nobody asked: an answer to nothing, or the rest of what was given up. */
        connection_close(connection);
        return;
    }
    connection->answered = true;
    while (size > 0) {
        size_t used = 0;
        int status = fm_http_parser_feed(connection->parser, data, size, &used);
        data += used;
        size -= used;
        if (status == FM_EAGAIN && !connection->interim) {
            connection->keep_alive = connection->keep_alive && size == 0;
            answer_complete(connection);
            return;
        }
        if (status != 0 && status != FM_EAGAIN) {
            if (status != FM_ECANCELLED) {
                fail(connection, FM_ECORRUPT, "the answer is no HTTP/1.1");
            }
            return;
        }
    }
}

static void on_ended(void *context, int result)
{
    struct fm_http_client_connection *connection = context;
    if (connection->state == BUSY && !connection->concluded && connection->answered &&
        result == 0 && fm_stream_end_was_said(&connection->stream) &&
        fm_http_parser_finish(connection->parser) && !connection->interim) {
        connection->keep_alive = false;
        answer_complete(connection);
        return;
    }
    if (connection->state == CONNECTING) {
        connect_failed(connection, result);
        return;
    }
    broken(connection, result);
}

static void on_written(void *context, int result)
{
    struct fm_http_client_connection *connection = context;
    if (result != 0 && connection->state != CLOSING && !connection->stream.ended) {
        /* An answer may have come before it broke: reading tells. */
        if (!connection->answered) {
            broken(connection, result);
        }
    }
}

/* --- Requests --- */

static bool head_make(struct fm_http_client_connection *connection,
                      const struct fm_http_client_call *call)
{
    const struct fm_http_client_options *options = &connection->client->options;
    struct fm_text *head = &connection->head;
    fm_text_clear(head);
    fm_text_append_format(head, "%s %s%s HTTP/1.1\r\nHost: %s\r\n", call->method,
                          options->endpoint->prefix, call->target, options->endpoint->authority);
    fm_text_append_string(head, options->fields);
    fm_text_append_string(head, call->fields != NULL ? call->fields : "");
    if (strcmp(call->method, "GET") != 0) {
        fm_text_append_format(head, "Content-Length: %zu\r\n", call->size);
    }
    fm_text_append_string(head, "\r\n");
    if (call->part_count + 1 > connection->buffer_capacity) {
        fm_free(connection->buffers);
        connection->buffers = fm_alloc_zero(call->part_count + 1, sizeof(uv_buf_t));
        connection->buffer_capacity = connection->buffers != NULL ? call->part_count + 1 : 0;
    }
    return !head->failed && connection->buffers != NULL;
}

static void begin(struct fm_http_client_connection *connection, struct fm_http_client_call *call)
{
    connection->state = BUSY;
    connection->call = call;
    connection->concluded = false;
    connection->answered = false;
    connection->interim = false;
    call->connection = connection;
    call->tries++;
    call->length = UINT64_MAX;
    if (!head_make(connection, call)) {
        fail(connection, FM_ENOMEM, "out of memory for the request");
        return;
    }
    connection->buffers[0] =
        (uv_buf_t){.base = connection->head.data, .len = connection->head.length};
    for (uint32_t i = 0; i < call->part_count; i++) {
        connection->buffers[i + 1] =
            (uv_buf_t){.base = (char *)(uintptr_t)call->parts[i].data, .len = call->parts[i].size};
    }
    int status = fm_stream_write(&connection->stream, connection->buffers, call->part_count + 1);
    if (status != 0 && status != FM_EAGAIN) {
        broken(connection, UV_EPIPE);
    }
}

/* --- Connections: the beginning --- */

/* Nobody can serve those that wait. */
static void fail_waiting(struct fm_http_client *client, const struct fm_error *failure)
{
    for (uint32_t count = client->waiting_count; count > 0 && client->first != NULL; count--) {
        struct fm_http_client_call *call = client->first;
        queue_remove(client, call);
        call->error = *failure;
        call->status = failure->status;
        call_done(call);
    }
}

/* There is a connection that can serve those that wait, now or soon. */
static bool others_stand(const struct fm_http_client *client)
{
    bool found = false;
    for (const struct fm_http_client_connection *at = client->connections; at != NULL;
         at = at->next) {
        found = found || at->state != CLOSING;
    }
    return found;
}

static void connect_failed(struct fm_http_client_connection *connection, int result)
{
    struct fm_http_client *client = connection->client;
    struct fm_error failure;
    fm_dial_failure(&connection->dial, result, &failure);
    connection_close(connection);
    fm_dial_pause_begin(&client->pause, &client->deadlines, &failure);
    if (!others_stand(client)) {
        fail_waiting(client, &failure);
    }
}

static void on_pause_over(struct fm_deadline *deadline)
{
    pump(FM_CONTAINER_OF(deadline, struct fm_http_client, pause.deadline));
}

static void on_ready(void *context)
{
    struct fm_http_client_connection *connection = context;
    if (connection->state == CONNECTING) {
        fm_dial_ready(&connection->dial);
        fm_dial_pause_end(&connection->client->pause, &connection->client->deadlines);
        connection->client->connecting_count--;
        connection->state = IDLE;
        connection->next_idle = connection->client->idle;
        connection->client->idle = connection;
        pump(connection->client);
    }
}

static void on_connected(void *context, int result)
{
    struct fm_http_client_connection *connection = context;
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

/* False: out of memory. */
static bool connection_open(struct fm_http_client *client)
{
    struct fm_http_client_connection *connection = fm_alloc_zero(1, sizeof(*connection));
    if (connection == NULL) {
        return false;
    }
    connection->parser = fm_http_parser_create_answers(&parser_events, connection);
    if (connection->parser == NULL) {
        fm_free(connection);
        return false;
    }
    connection->client = client;
    connection->state = CONNECTING;
    connection->next = client->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    client->connections = connection;
    client->connection_count++;
    client->connecting_count++;
    fm_stream_init(&connection->stream, client->uv, client->options.endpoint->path != NULL,
                   &client->shared, &stream_events, connection);
    const struct fm_dial_options dialling = {.endpoint = client->options.endpoint,
                                             .uv = client->uv,
                                             .deadlines = &client->deadlines,
                                             .timeout_ns = client->options.connect_timeout_ns,
                                             .done = on_connected,
                                             .context = connection};
    if (fm_dial_start(&connection->dial, &connection->stream, &dialling) != 0) {
        connection_close(connection);
        return false;
    }
    return true;
}

/* Gives work to connections, and connections to work. Not from inside itself: what it calls may
 * have changed everything. */
static void pump(struct fm_http_client *client)
{
    if (client->pumping || client->closing) {
        return;
    }
    client->pumping = true;
    bool more = true;
    while (more && client->first != NULL) {
        struct fm_http_client_connection *connection = client->idle;
        if (connection != NULL && fm_stream_peer_left(&connection->stream)) {
            connection_close(connection);
        } else if (connection != NULL) {
            struct fm_http_client_call *call = client->first;
            client->idle = connection->next_idle;
            queue_remove(client, call);
            begin(connection, call);
        } else if (client->connecting_count < client->waiting_count &&
                   client->connection_count < client->options.connections_max &&
                   !fm_dial_pause_lasts(&client->pause)) {
            more = connection_open(client);
            if (!more && !others_stand(client)) {
                const struct fm_error failure = {FM_ENOMEM, "out of memory for a connection"};
                fail_waiting(client, &failure);
            }
        } else {
            more = false;
        }
    }
    client->pumping = false;
}

/* --- The client --- */

int fm_http_client_create(struct fm_loop *loop, const struct fm_http_client_options *options,
                          struct fm_http_client **ret_client, struct fm_error *reterr)
{
    struct fm_http_client *client = fm_alloc_zero(1, sizeof(*client));
    if (client == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the client");
    }
    client->options = *options;
    client->uv = fm_loop_uv(loop);
    client->shared.tls = options->tls;
    client->shared.protocol = "http/1.1";
    fm_deadlines_init(&client->deadlines, client->uv);
    client->pause.deadline.passed = on_pause_over;
    *ret_client = client;
    return 0;
}

void fm_http_client_close(struct fm_http_client *client, void (*closed)(void *context),
                          void *context)
{
    const struct fm_error cancelled = {FM_ECANCELLED, "the client was closed"};
    client->closing = true;
    client->closed = closed;
    client->closed_context = context;
    fm_dial_pause_end(&client->pause, &client->deadlines);
    fail_waiting(client, &cancelled);
    for (struct fm_http_client_connection *at = client->connections; at != NULL;) {
        struct fm_http_client_connection *next = at->next;
        if (at->call != NULL) {
            fail(at, FM_ECANCELLED, cancelled.text);
        }
        connection_close(at);
        at = next;
    }
    client_finish(client);
}

static void on_call_late(struct fm_deadline *deadline)
{
    struct fm_http_client_call *call =
        FM_CONTAINER_OF(deadline, struct fm_http_client_call, deadline);
    struct fm_error error;
    fm_dial_pause_late(call->connection == NULL ? &call->client->pause : NULL, &error);
    fm_http_client_cancel(call, FM_EDEADLINE, error.text);
}

void fm_http_client_send(struct fm_http_client *client, struct fm_http_client_call *call)
{
    call->client = client;
    call->tries = 0;
    call->deadline = (struct fm_deadline){.at_ns = call->deadline_ns, .passed = on_call_late};
    if (client->closing) {
        call->status = fm_error_set(&call->error, FM_ECANCELLED, "the client was closed");
        call->done(call);
        return;
    }
    if (call->deadline_ns > 0 && fm_deadlines_add(&client->deadlines, &call->deadline) != 0) {
        call->status = fm_error_set(&call->error, FM_ENOMEM, "out of memory for the request");
        call->done(call);
        return;
    }
    queue_push(client, call, false);
    pump(client);
}

void fm_http_client_cancel(struct fm_http_client_call *call, int status, const char *why)
{
    struct fm_http_client_connection *connection = call->connection;
    if (connection != NULL) {
        fail(connection, status, why);
        return;
    }
    queue_remove(call->client, call);
    call->status = fm_error_set(&call->error, status, "%s", why);
    call_done(call);
}
