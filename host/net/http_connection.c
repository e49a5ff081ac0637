/*
 * The life of one connection: bytes in, requests to the handler, answers out, time limits, the end.
 * See http_internal.h.
 *
 * Where a connection stands is `state`; fm_http_connection_close is the only way to
 * FM_HTTP_CLOSING. Memory goes in the close callback of its last handle.
 */
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/http_internal.h"
#include "host/os/os.h"

/* Bytes of later requests that are kept while one is worked on; then the kernel's buffers have to
 * do. */
#define PENDING_BYTES_MAX 65536u
#define LINGER_NS         UINT64_C(1000000000)
#define LINGER_BYTES_MAX  (16u << 20)
/* After the client closed its half: how soon, and then how often, to find out whether the other
 * half is open. */
#define PROBE_FIRST_NS        UINT64_C(100000000)
#define PROBE_NS              UINT64_C(1000000000)
#define BODY_BYTES_PER_SECOND 65536u

static void arm(struct fm_http_connection *connection, uint64_t delay_ns);
static void advance(struct fm_http_connection *connection);
static void written(struct fm_http_connection *connection, int result);

/* When this round of the loop began, in milliseconds' steps: limits need no more, and asking the
 * clock several times for each request shows. */
static uint64_t round_ns(const struct fm_http_connection *connection)
{
    return uv_now(connection->server->uv) * 1000000u;
}

/* --- The end --- */

static void closed_one(struct fm_http_connection *connection)
{
    if (--connection->handles_open > 0) {
        return;
    }
    struct fm_http_server *server = connection->server;
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        server->connections = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    fm_http_parser_free(connection->parser);
    fm_text_deinit(&connection->pending);
    fm_free(connection);
    server->stats.connections--;
    fm_http_server_forget(server);
}

static void timer_closed(uv_handle_t *handle)
{
    closed_one(handle->data);
}

static void on_closed(void *context)
{
    closed_one(context);
}

void fm_http_connection_close(struct fm_http_connection *connection)
{
    if (connection->state == FM_HTTP_CLOSING) {
        return;
    }
    enum fm_http_state state = connection->state;
    struct fm_http_exchange *exchange = connection->exchange;
    connection->state = FM_HTTP_CLOSING;
    fm_stream_close(&connection->stream);
    uv_close((uv_handle_t *)&connection->timer, timer_closed);
    if (state == FM_HTTP_WRITING || exchange == NULL) {
        /* The write's event, due before the stream's last, releases the exchange. */
        return;
    }
    connection->exchange = NULL;
    if (state != FM_HTTP_IN_FLIGHT) {
        fm_http_exchange_free(exchange);
        return;
    }
    exchange->connection = NULL;
    connection->server->stats.cancelled++;
    if (exchange->request.cancelled != NULL) {
        exchange->request.cancelled(&exchange->request);
    }
}

/* --- Answers --- */

static void write_start(struct fm_http_connection *connection)
{
    struct fm_http_exchange *exchange = connection->exchange;
    exchange->keep_alive =
        exchange->keep_alive && !connection->server->draining &&
        !(connection->end_of_input && connection->pending_offset == connection->pending.length);
    connection->state = FM_HTTP_WRITING;
    int status = fm_http_exchange_write(exchange, !exchange->keep_alive);
    if (status != FM_EAGAIN) {
        written(connection, status);
        return;
    }
    connection->unwritten = fm_stream_unwritten(&connection->stream);
    arm(connection, connection->server->options.write_timeout_ns);
}

void fm_http_connection_answer(struct fm_http_connection *connection)
{
    FM_ASSERT(connection->state == FM_HTTP_IN_FLIGHT);
    write_start(connection);
}

/* Says that nothing more comes, and waits for the client to say so too. */
static void linger(struct fm_http_connection *connection)
{
    connection->state = FM_HTTP_LINGER;
    connection->unwritten = 0;
    fm_text_clear(&connection->pending);
    connection->pending_offset = 0;
    if (connection->end_of_input) {
        fm_http_connection_close(connection);
        return;
    }
    fm_stream_shutdown(&connection->stream);
    arm(connection, LINGER_NS);
    advance(connection);
}

/* The answer is out, or it failed. May be called from where it was begun: answers to the requests
 * behind it come in another round. */
static void written(struct fm_http_connection *connection, int result)
{
    struct fm_http_exchange *exchange = connection->exchange;
    bool keep_alive = exchange->keep_alive;
    connection->exchange = NULL;
    if (exchange->answer.release != NULL) {
        exchange->answer.release(exchange->answer.context);
    }
    fm_http_exchange_free(exchange);
    if (connection->state == FM_HTTP_CLOSING) {
        return;
    }
    connection->state = FM_HTTP_IDLE;
    if (result != 0) {
        fm_http_connection_close(connection);
    } else if (!keep_alive) {
        linger(connection);
    } else {
        connection->since_ns = round_ns(connection);
        arm(connection, connection->server->options.idle_timeout_ns);
        advance(connection);
    }
}

static void on_written(void *context, int result)
{
    struct fm_http_connection *connection = context;
    struct fm_loop *loop = connection->server->loop;
    written(connection, result);
    fm_loop_run_posted(loop);
}

/* Answers by ourselves and closes. */
static void reject(struct fm_http_connection *connection, int status, const char *reason)
{
    if (connection->state == FM_HTTP_CLOSING) {
        return;
    }
    if (connection->exchange == NULL) {
        connection->exchange = fm_http_exchange_create(connection);
    }
    connection->server->stats.rejected++;
    if (connection->exchange == NULL || !fm_stream_is_ready(&connection->stream)) {
        fm_http_connection_close(connection);
        return;
    }
    connection->exchange->keep_alive = false;
    fm_http_exchange_reject(connection->exchange, status, reason);
    write_start(connection);
}

/* --- Time limits --- */

bool fm_http_connection_continue(struct fm_http_connection *connection)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    int status = fm_stream_say(&connection->stream, text, sizeof(text) - 1);
    if (status != 0 && status != FM_EAGAIN) {
        fm_http_connection_close(connection);
        return false;
    }
    return true;
}

/* A client that closed its half may be gone altogether: only writing tells. */
static void probe(struct fm_http_connection *connection)
{
    if (fm_http_connection_continue(connection)) {
        arm(connection, PROBE_NS);
    }
}

static uint64_t body_allowed_ns(const struct fm_http_connection *connection)
{
    return connection->server->options.body_timeout_ns +
           (uint64_t)connection->exchange->body_size / BODY_BYTES_PER_SECOND * 1000000000u;
}

static void body_check(struct fm_http_connection *connection)
{
    uint64_t allowed = body_allowed_ns(connection);
    uint64_t spent = round_ns(connection) - connection->since_ns;
    if (spent + 1000000 >= allowed) {
        reject(connection, 408, "the request's body came too slowly");
    } else {
        arm(connection, allowed - spent);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct fm_http_connection *connection = timer->data;
    size_t unwritten = fm_stream_unwritten(&connection->stream);
    switch (connection->state) {
    case FM_HTTP_HEAD:
        reject(connection, 408, "the request's head came too slowly");
        break;
    case FM_HTTP_BODY:
        body_check(connection);
        break;
    case FM_HTTP_IN_FLIGHT:
        probe(connection);
        break;
    case FM_HTTP_WRITING:
        if (unwritten < connection->unwritten) {
            connection->unwritten = unwritten;
            arm(connection, connection->server->options.write_timeout_ns);
        } else {
            fm_http_connection_close(connection);
        }
        break;
    case FM_HTTP_IDLE:
    case FM_HTTP_LINGER:
        fm_http_connection_close(connection);
        break;
    case FM_HTTP_CLOSING:
        break;
    }
}

static void arm(struct fm_http_connection *connection, uint64_t delay_ns)
{
    if (connection->state == FM_HTTP_CLOSING) {
        return;
    }
    uint64_t delay_ms = delay_ns / 1000000 + (delay_ns % 1000000 != 0);
    int result = uv_timer_start(&connection->timer, on_timer, delay_ms, 0);
    FM_ASSERT(result == 0);
}

/* --- Requests --- */

static void dispatch(struct fm_http_connection *connection)
{
    struct fm_http_exchange *exchange = connection->exchange;
    const char *reason = "";
    int status = fm_http_exchange_complete(exchange, &reason);
    if (status != 0) {
        reject(connection, status, reason);
        return;
    }
    struct fm_http_server *server = connection->server;
    connection->state = FM_HTTP_IN_FLIGHT;
    (void)uv_timer_stop(&connection->timer);
    server->stats.requests++;
    server->stats.in_flight++;
    server->options.handle(server->options.context, &exchange->request);
    if (connection->end_of_input && !exchange->is_1_0) {
        arm(connection, PROBE_FIRST_NS);
    }
}

/* Parses; returns how many bytes were used. */
static size_t feed(struct fm_http_connection *connection, const char *data, size_t length)
{
    bool begins = connection->state == FM_HTTP_IDLE;
    if (begins) {
        connection->state = FM_HTTP_HEAD;
        connection->since_ns = round_ns(connection);
    }
    bool in_head = connection->state == FM_HTTP_HEAD;
    size_t consumed = 0;
    int status = fm_http_parser_feed(connection->parser, data, length, &consumed);
    if (status == FM_EAGAIN) {
        dispatch(connection);
    } else if (status == FM_ECANCELLED) {
        reject(connection, connection->reject_status, connection->reject_reason);
    } else if (status == FM_ETOOLARGE) {
        reject(connection, 431, "the request's header fields are too large");
    } else if (status != 0) {
        char reason[160] = "malformed HTTP request: ";
        size_t used = strlen(reason);
        const char *problem = fm_http_parser_problem(connection->parser);
        size_t room = strnlen(problem, sizeof(reason) - used - 1);
        memcpy(reason + used, problem, room);
        reason[used + room] = '\0';
        reject(connection, 400, reason);
    } else if (in_head && connection->state == FM_HTTP_BODY) {
        arm(connection, body_allowed_ns(connection));
    } else if (connection->state == FM_HTTP_HEAD && connection->exchange == NULL) {
        /* Only empty lines so far, which may stand before a request: they do not begin one. */
        connection->state = FM_HTTP_IDLE;
    } else if (begins && connection->state == FM_HTTP_HEAD) {
        /* Most requests are whole by now and need no limit. */
        arm(connection, connection->server->options.header_timeout_ns);
    }
    return status == 0 || status == FM_EAGAIN ? consumed : length;
}

static bool wants_bytes(const struct fm_http_connection *connection)
{
    return connection->state == FM_HTTP_IDLE || connection->state == FM_HTTP_HEAD ||
           connection->state == FM_HTTP_BODY;
}

static void keep(struct fm_http_connection *connection, const char *data, size_t length)
{
    struct fm_text *pending = &connection->pending;
    if (connection->pending_offset > 0) {
        pending->length -= connection->pending_offset;
        memmove(pending->data, pending->data + connection->pending_offset, pending->length);
        connection->pending_offset = 0;
    }
    fm_text_append(pending, data, length);
    if (pending->failed) {
        fm_http_connection_close(connection);
    }
}

static void on_end_of_input(struct fm_http_connection *connection)
{
    connection->end_of_input = true;
    if (connection->state == FM_HTTP_IN_FLIGHT && connection->exchange->is_1_0) {
        /* No interim answers for HTTP/1.0: the client is taken at its word that it waits. */
        return;
    }
    if (connection->state == FM_HTTP_IN_FLIGHT) {
        probe(connection);
        arm(connection, PROBE_FIRST_NS);
    } else if (connection->state != FM_HTTP_WRITING) {
        fm_http_connection_close(connection);
    }
}

static void on_ended(void *context, int result)
{
    if (result == 0) {
        on_end_of_input(context);
    } else {
        fm_http_connection_close(context);
    }
}

static void on_read(void *context, const char *data, size_t length)
{
    struct fm_http_connection *connection = context;
    struct fm_loop *loop = connection->server->loop;
    if (connection->state == FM_HTTP_LINGER) {
        connection->unwritten += length;
        if (connection->unwritten > LINGER_BYTES_MAX) {
            fm_http_connection_close(connection);
        }
        return;
    }
    size_t used = 0;
    if (wants_bytes(connection)) {
        FM_ASSERT(connection->pending.length == connection->pending_offset);
        used = feed(connection, data, length);
    }
    if (used < length) {
        keep(connection, data + used, length - used);
    }
    advance(connection);
    fm_loop_run_posted(loop);
}

/* Uses what is pending as far as the state allows, and reads on or stops reading. */
static void advance(struct fm_http_connection *connection)
{
    struct fm_text *pending = &connection->pending;
    while (wants_bytes(connection) && connection->pending_offset < pending->length) {
        size_t used = feed(connection, pending->data + connection->pending_offset,
                           pending->length - connection->pending_offset);
        if (connection->state == FM_HTTP_LINGER) {
            /* Refused, and nothing is pending any more. */
            return;
        }
        connection->pending_offset += used;
    }
    if (connection->state == FM_HTTP_CLOSING) {
        return;
    }
    if (connection->pending_offset == pending->length) {
        fm_text_clear(pending);
        connection->pending_offset = 0;
    }
    if (connection->end_of_input) {
        if (wants_bytes(connection)) {
            fm_http_connection_close(connection);
        }
        return;
    }
    bool want = pending->length - connection->pending_offset < PENDING_BYTES_MAX;
    if (want) {
        fm_stream_read_start(&connection->stream);
    } else {
        fm_stream_read_stop(&connection->stream);
    }
}

static const struct fm_stream_events stream_events = {
    .read = on_read, .ended = on_ended, .written = on_written, .closed = on_closed};

/* --- The beginning --- */

/* Makes room by closing the connection that has been idle longest. */
static bool evict_idle(struct fm_http_server *server)
{
    struct fm_http_connection *oldest = NULL;
    for (struct fm_http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_HTTP_IDLE &&
            (oldest == NULL || connection->since_ns < oldest->since_ns)) {
            oldest = connection;
        }
    }
    if (oldest != NULL) {
        fm_http_connection_close(oldest);
    }
    return oldest != NULL;
}

bool fm_http_connection_accept(struct fm_http_server *server, uv_stream_t *listener)
{
    struct fm_http_connection *connection = fm_alloc_zero(1, sizeof(*connection));
    struct fm_http_parser *parser =
        connection != NULL ? fm_http_parser_create(&fm_http_events, connection) : NULL;
    if (parser == NULL) {
        fm_free(connection);
        return false;
    }
    bool full = server->stats.connections >= server->options.connections_max && !evict_idle(server);
    connection->server = server;
    connection->parser = parser;
    connection->since_ns = round_ns(connection);
    (void)uv_timer_init(server->uv, &connection->timer);
    connection->timer.data = connection;
    connection->handles_open = 2;
    connection->next = server->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    server->connections = connection;
    server->handles_open++;
    server->stats.connections++;
    if (fm_stream_accept(&connection->stream, listener, &server->shared, &stream_events,
                         connection) != 0) {
        fm_http_connection_close(connection);
        return true;
    }
    server->stats.connections_accepted++;
    if (full) {
        server->stats.connections_refused++;
        reject(connection, 503, "the server has as many connections as it may; try again later");
        return true;
    }
    arm(connection, server->options.tls != NULL ? server->options.header_timeout_ns
                                                : server->options.idle_timeout_ns);
    advance(connection);
    return true;
}
