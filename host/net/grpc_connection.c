/*
 * The life of one HTTP/2 connection: bytes to nghttp2 and back, its events, floods and time limits,
 * the end. See grpc_internal.h.
 *
 * Where a connection stands is `state`; fm_grpc_connection_close is the only way to
 * FM_GRPC_CLOSING. Nothing is closed inside nghttp2: `broken` remembers it.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/grpc_internal.h"
#include "host/net/http2_frames.h"

#define LINGER_NS        UINT64_C(1000000000)
#define LINGER_BYTES_MAX (16u << 20)
/* Frames that wait to be written before no more is read. */
#define QUEUE_MAX    2048u
#define HEADER_TABLE 4096u
#define ACKS_MAX     1000u
#define SETTINGS_MAX 32u

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* --- The end --- */

static void on_closed(void *context)
{
    fm_grpc_server_forget(context);
}

void fm_grpc_connection_close(struct fm_grpc_connection *connection)
{
    if (connection->busy) {
        connection->broken = true;
        return;
    }
    if (connection->state == FM_GRPC_CLOSING) {
        return;
    }
    connection->state = FM_GRPC_CLOSING;
    fm_stream_close(&connection->stream);
    /* What is being written is released in the write's callback, due before the stream's. */
    while (connection->exchanges != NULL) {
        fm_grpc_exchange_close(connection->exchanges);
    }
    if (connection->output != NULL && !connection->stream.writing) {
        fm_grpc_output_done(connection->server, connection->output);
        connection->output = NULL;
    }
}

static void fail(struct fm_grpc_connection *connection)
{
    if (connection->state == FM_GRPC_OPEN) {
        connection->server->stats.connections_failed++;
    }
    fm_grpc_connection_close(connection);
}

/* Says that nothing more comes, and waits for the client to say so too. */
static void linger(struct fm_grpc_connection *connection)
{
    connection->state = FM_GRPC_LINGER;
    connection->since_ns = fm_grpc_now_ns(connection->server);
    if (connection->stream.ended) {
        fm_grpc_connection_close(connection);
        return;
    }
    fm_stream_shutdown(&connection->stream);
    fm_stream_read_start(&connection->stream);
}

void fm_grpc_connection_goaway(struct fm_grpc_connection *connection)
{
    if (connection->state != FM_GRPC_OPEN || connection->goaway) {
        return;
    }
    connection->goaway = true;
    int32_t last = nghttp2_session_get_last_proc_stream_id(connection->session);
    (void)nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR,
                                NULL, 0);
    fm_grpc_server_mark(connection);
}

/* The client does what a client does not do. */
static void calm(struct fm_grpc_connection *connection)
{
    connection->goaway = true;
    (void)nghttp2_session_terminate_session(connection->session, NGHTTP2_ENHANCE_YOUR_CALM);
    fm_grpc_server_mark(connection);
}

/* --- Writing --- */

/* Asks nghttp2 for frames until there is no room or nothing is left. */
static bool fill(struct fm_grpc_connection *connection, struct fm_grpc_output *output)
{
    while (fm_grpc_output_has_room(output)) {
        const uint8_t *data = NULL;
        ssize_t size = nghttp2_session_mem_send(connection->session, &data);
        if (size < 0) {
            return false;
        }
        if (size == 0) {
            break;
        }
        fm_grpc_output_copy(output, data, (size_t)size);
    }
    return true;
}

/* One output. FM_EAGAIN: the socket is full; else not 0: it is broken. */
static int write_one(struct fm_grpc_connection *connection, bool *ret_more)
{
    struct fm_grpc_server *server = connection->server;
    struct fm_grpc_output *output = fm_grpc_output_take(server);
    if (output == NULL) {
        return FM_ENOMEM;
    }
    connection->output = output;
    connection->busy = true;
    bool filled = fill(connection, output);
    connection->busy = false;
    int status = filled && !connection->broken ? 0 : FM_EIO;
    *ret_more = !fm_grpc_output_has_room(output);
    if (status == 0 && output->count > 0) {
        status = fm_stream_write(&connection->stream, output->buffers, output->count);
    }
    if (status == FM_EAGAIN) {
        connection->unwritten = fm_stream_unwritten(&connection->stream);
        connection->progress_ns = fm_grpc_now_ns(server);
    } else {
        connection->output = NULL;
        fm_grpc_output_done(server, output);
    }
    return status;
}

void fm_grpc_connection_flush(struct fm_grpc_connection *connection)
{
    bool more = true;
    if (!fm_stream_is_ready(&connection->stream)) {
        /* What is to be said follows the handshake of TLS. */
        return;
    }
    while (more && connection->state == FM_GRPC_OPEN && !connection->stream.writing) {
        int status = write_one(connection, &more);
        if (status != 0 && status != FM_EAGAIN) {
            fail(connection);
        }
    }
    if (connection->state != FM_GRPC_OPEN) {
        return;
    }
    if (connection->stream.writing) {
        if (nghttp2_session_get_outbound_queue_size(connection->session) > QUEUE_MAX) {
            connection->reading_held = true;
            fm_stream_read_stop(&connection->stream);
        }
        return;
    }
    if (connection->reading_held) {
        connection->reading_held = false;
        fm_stream_read_start(&connection->stream);
    }
    if (nghttp2_session_want_read(connection->session) == 0 &&
        nghttp2_session_want_write(connection->session) == 0) {
        linger(connection);
    }
}

static void on_written(void *context, int result)
{
    struct fm_grpc_connection *connection = context;
    struct fm_grpc_output *output = connection->output;
    connection->output = NULL;
    if (output != NULL) {
        fm_grpc_output_done(connection->server, output);
    }
    if (connection->state == FM_GRPC_CLOSING) {
        return;
    }
    if (result != 0) {
        fail(connection);
    } else if (connection->state == FM_GRPC_LINGER) {
        linger(connection);
    } else {
        fm_grpc_server_mark(connection);
    }
}

/* --- Reading --- */

/* Says what is spoken here to whoever begins with something else. */
static void refuse_protocol(struct fm_grpc_connection *connection, uint8_t first)
{
    static char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                         "Content-Length: 75\r\nConnection: close\r\n\r\n"
                         "This port speaks gRPC over HTTP/2 without upgrade. REST is on another "
                         "one.\n";
    connection->server->stats.connections_failed++;
    uv_buf_t buffer = uv_buf_init(text, sizeof(text) - 1);
    bool is_text = connection->preface_length > 0 || (first >= 'A' && first <= 'Z');
    if (!is_text || fm_stream_write(&connection->stream, &buffer, 1) != 0) {
        fm_grpc_connection_close(connection);
        return;
    }
    linger(connection);
}

/* False: it is not HTTP/2, and dealt with. */
static bool preface_check(struct fm_grpc_connection *connection, const char *data, size_t size)
{
    size_t missing = sizeof(preface) - 1 - connection->preface_length;
    for (size_t i = 0; i < size && i < missing; i++) {
        if (data[i] != preface[connection->preface_length]) {
            refuse_protocol(connection, (uint8_t)data[i]);
            return false;
        }
        connection->preface_length++;
    }
    return true;
}

static void on_read(void *context, const char *data, size_t size)
{
    struct fm_grpc_connection *connection = context;
    if (connection->state == FM_GRPC_LINGER) {
        connection->lingered_bytes += size;
        if (connection->lingered_bytes > LINGER_BYTES_MAX) {
            fm_grpc_connection_close(connection);
        }
        return;
    }
    connection->read_ns = fm_grpc_now_ns(connection->server);
    connection->ping_ns = 0;
    if (connection->preface_length < sizeof(preface) - 1 &&
        !preface_check(connection, data, size)) {
        return;
    }
    connection->busy = true;
    ssize_t used = nghttp2_session_mem_recv(connection->session, (const uint8_t *)data, size);
    connection->busy = false;
    if (used < 0 || connection->broken) {
        fail(connection);
        return;
    }
    fm_grpc_server_mark(connection);
}

static void on_ended(void *context, int result)
{
    (void)result;
    fm_grpc_connection_close(context);
}

static const struct fm_stream_events stream_events = {
    .read = on_read, .ended = on_ended, .written = on_written, .closed = on_closed};

/* --- Events of HTTP/2 --- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct fm_grpc_connection *connection = context;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct fm_grpc_exchange *exchange = fm_grpc_exchange_create(connection, frame->hd.stream_id);
    if (exchange == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, exchange);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *context)
{
    (void)flags;
    (void)context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct fm_grpc_exchange *exchange =
        nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    return exchange != NULL ? fm_grpc_exchange_field(exchange, name, value) : 0;
}

static void count_reset(struct fm_grpc_connection *connection)
{
    if (++connection->resets > connection->server->options.resets_per_second_max) {
        calm(connection);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct fm_grpc_connection *connection = context;
    struct fm_grpc_exchange *exchange = NULL;
    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) {
        exchange = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (exchange == NULL) {
            return 0;
        }
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            fm_grpc_exchange_head_complete(exchange);
        }
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            fm_grpc_exchange_end(exchange);
        }
    } else if (frame->hd.type == NGHTTP2_SETTINGS) {
        connection->handshaken = true;
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        count_reset(connection);
    }
    return 0;
}

/* Frames that cost us something and bring nothing. */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *context)
{
    (void)session;
    struct fm_grpc_connection *connection = context;
    bool useful = head->type == NGHTTP2_HEADERS || head->type == NGHTTP2_WINDOW_UPDATE ||
                  head->type == NGHTTP2_RST_STREAM ||
                  (head->type == NGHTTP2_DATA &&
                   (head->length > 0 || (head->flags & NGHTTP2_FLAG_END_STREAM) != 0));
    uint64_t second = uv_now(connection->server->uv) / 1000;
    if (second != connection->second) {
        connection->second = second;
        connection->resets = 0;
        connection->control_frames = 0;
    }
    if (!useful &&
        ++connection->control_frames > connection->server->options.control_frames_per_second_max) {
        calm(connection);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t size, void *context)
{
    (void)context;
    /* The connection's window bounds what is on its way; what is here is bounded by bytes held. */
    (void)nghttp2_session_consume_connection(session, size);
    struct fm_grpc_exchange *exchange = nghttp2_session_get_stream_user_data(session, stream_id);
    if (exchange == NULL) {
        return 0;
    }
    fm_grpc_exchange_data(exchange, data, size);
    if ((flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        exchange->credit += size;
        fm_grpc_exchange_grant(exchange);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t code,
                           void *context)
{
    (void)code;
    (void)context;
    struct fm_grpc_exchange *exchange = nghttp2_session_get_stream_user_data(session, stream_id);
    if (exchange != NULL) {
        (void)nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        fm_grpc_exchange_close(exchange);
    }
    return 0;
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *context)
{
    (void)session;
    (void)frame;
    (void)context;
    return fm_grpc_answer_pack(source->ptr, head, length);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct fm_grpc_connection *connection = context;
    if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        /* The call is over: a client that still sends need not. */
        if (nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0) {
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                            NGHTTP2_NO_ERROR);
        }
    } else if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        connection->server->stats.connections_failed++;
    }
    return 0;
}

/* --- The beginning --- */

static void *memory_alloc(size_t size, void *context)
{
    return fm_block_alloc(context, size);
}

static void memory_free(void *memory, void *context)
{
    fm_block_free(context, memory);
}

static void *memory_alloc_zero(size_t count, size_t size, void *context)
{
    return fm_block_alloc_zero(context, count, size);
}

static void *memory_realloc(void *memory, size_t size, void *context)
{
    return fm_block_realloc(context, memory, size);
}

int fm_grpc_connection_prepare(struct fm_grpc_server *server)
{
    server->memory = (nghttp2_mem){.mem_user_data = &server->blocks,
                                   .malloc = memory_alloc,
                                   .free = memory_free,
                                   .calloc = memory_alloc_zero,
                                   .realloc = memory_realloc};
    if (nghttp2_session_callbacks_new(&server->callbacks) != 0 ||
        nghttp2_option_new(&server->http2_options) != 0) {
        return FM_ENOMEM;
    }
    nghttp2_session_callbacks *callbacks = server->callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, fm_http2_read_length);
    nghttp2_option *options = server->http2_options;
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_max_outbound_ack(options, ACKS_MAX);
    nghttp2_option_set_max_settings(options, SETTINGS_MAX);
    nghttp2_option_set_max_deflate_dynamic_table_size(options, HEADER_TABLE);
    return 0;
}

static int session_open(struct fm_grpc_connection *connection)
{
    struct fm_grpc_server *server = connection->server;
    const struct fm_grpc_options *options = &server->options;
    if (nghttp2_session_server_new3(&connection->session, server->callbacks, connection,
                                    server->http2_options, &server->memory) != 0) {
        return FM_ENOMEM;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->calls_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FM_HTTP2_FRAME_BYTES_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)options->metadata_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int32_t window = (int32_t)options->connection_window_bytes;
    return nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
                                   FM_COUNT_OF(settings)) == 0 &&
                   nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                                         window) == 0
               ? 0
               : FM_ENOMEM;
}

/* Makes room by closing the connection that has been idle longest. */
static bool evict_idle(struct fm_grpc_server *server)
{
    struct fm_grpc_connection *oldest = NULL;
    for (struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_GRPC_OPEN && connection->exchange_count == 0 &&
            (oldest == NULL || connection->idle_ns < oldest->idle_ns)) {
            oldest = connection;
        }
    }
    if (oldest != NULL) {
        fm_grpc_connection_close(oldest);
    }
    return oldest != NULL;
}

/* A connection in the server's list, without a stream. NULL: no memory. */
static struct fm_grpc_connection *create(struct fm_grpc_server *server, bool *ret_full)
{
    struct fm_grpc_connection *connection = fm_alloc_zero(1, sizeof(*connection));
    if (connection == NULL) {
        return NULL;
    }
    connection->server = server;
    if (session_open(connection) != 0) {
        nghttp2_session_del(connection->session);
        fm_free(connection);
        return NULL;
    }
    *ret_full = server->stats.connections >= server->options.connections_max && !evict_idle(server);
    uint64_t now_ns = fm_grpc_now_ns(server);
    connection->since_ns = now_ns;
    connection->read_ns = now_ns;
    connection->idle_ns = now_ns;
    connection->next = server->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    server->connections = connection;
    server->handles_open++;
    server->stats.connections++;
    return connection;
}

static void start(struct fm_grpc_connection *connection, bool full)
{
    connection->server->stats.connections_accepted++;
    if (full) {
        /* Without a word: a client that had SETTINGS and GOAWAY would come again at once. */
        connection->server->stats.connections_refused++;
        fm_grpc_connection_close(connection);
        return;
    }
    /* Our SETTINGS wait for the client's first bytes, which may be HTTP/1.1. */
    if (connection->server->draining) {
        (void)nghttp2_submit_shutdown_notice(connection->session);
    }
    fm_stream_read_start(&connection->stream);
}

bool fm_grpc_connection_accept(struct fm_grpc_server *server, uv_stream_t *listener)
{
    bool full = false;
    struct fm_grpc_connection *connection = create(server, &full);
    if (connection == NULL) {
        return false;
    }
    if (fm_stream_accept(&connection->stream, listener, &server->shared, &stream_events,
                         connection) != 0) {
        fm_grpc_connection_close(connection);
    } else {
        start(connection, full);
    }
    return true;
}

struct fm_grpc_connection *fm_grpc_connection_open(struct fm_grpc_server *server, int descriptor)
{
    bool full = false;
    struct fm_grpc_connection *connection = create(server, &full);
    if (connection == NULL) {
        return NULL;
    }
    if (fm_stream_open(&connection->stream, server->uv, descriptor, &server->shared, &stream_events,
                       connection) != 0) {
        fm_grpc_connection_close(connection);
    } else {
        start(connection, full);
    }
    return connection;
}

void fm_grpc_call_peer(const struct fm_grpc_call *call, char *text, size_t size)
{
    const struct fm_grpc_exchange *exchange = (const struct fm_grpc_exchange *)call;
    struct sockaddr_storage address = {0};
    int length = sizeof(address);
    (void)snprintf(text, size, "%s", exchange->connection == NULL ? "gone" : "unix");
    if (exchange->connection == NULL || exchange->connection->stream.socket.handle.type != UV_TCP ||
        uv_tcp_getpeername(&exchange->connection->stream.socket.tcp, (struct sockaddr *)&address,
                           &length) != 0) {
        return;
    }
    if (address.ss_family == AF_INET6) {
        (void)uv_ip6_name((const struct sockaddr_in6 *)&address, text, size);
    } else {
        (void)uv_ip4_name((const struct sockaddr_in *)&address, text, size);
    }
}

struct fm_peer fm_grpc_call_address(const struct fm_grpc_call *call)
{
    const struct fm_grpc_exchange *exchange = (const struct fm_grpc_exchange *)call;
    return exchange->connection != NULL ? *fm_stream_peer(&exchange->connection->stream)
                                        : (struct fm_peer){.kind = FM_PEER_UNKNOWN};
}

int fm_grpc_call_process(const struct fm_grpc_call *call)
{
    const struct fm_grpc_exchange *exchange = (const struct fm_grpc_exchange *)call;
    return exchange->connection != NULL ? fm_stream_peer_process(&exchange->connection->stream) : 0;
}

/* --- Time limits --- */

static bool passed(uint64_t since_ns, uint64_t limit_ns, uint64_t now_ns)
{
    return now_ns > since_ns && now_ns - since_ns > limit_ns;
}

static void sweep_exchanges(struct fm_grpc_connection *connection, uint64_t now_ns)
{
    const struct fm_grpc_options *options = &connection->server->options;
    struct fm_grpc_exchange *next = NULL;
    for (struct fm_grpc_exchange *exchange = connection->exchanges; exchange != NULL;
         exchange = next) {
        next = exchange->next;
        if (exchange->outgoing != NULL &&
            passed(exchange->progress_ns, options->write_timeout_ns, now_ns)) {
            (void)nghttp2_submit_rst_stream(connection->session, NGHTTP2_FLAG_NONE,
                                            exchange->stream_id, NGHTTP2_CANCEL);
            fm_grpc_server_mark(connection);
        } else if (exchange->prefix_length > 0 &&
                   passed(exchange->received_ns, options->message_timeout_ns, now_ns)) {
            fm_grpc_exchange_fail(exchange, FM_GRPC_CANCELLED,
                                  "the rest of a message did not come in time");
        }
    }
}

static void sweep_keepalive(struct fm_grpc_connection *connection, uint64_t now_ns)
{
    const struct fm_grpc_options *options = &connection->server->options;
    if (connection->ping_ns != 0) {
        if (passed(connection->ping_ns, options->keepalive_timeout_ns, now_ns)) {
            fail(connection);
        }
    } else if (passed(connection->read_ns, options->keepalive_ns, now_ns)) {
        connection->ping_ns = now_ns;
        (void)nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
        fm_grpc_server_mark(connection);
    }
}

void fm_grpc_connection_sweep(struct fm_grpc_connection *connection, uint64_t now_ns)
{
    const struct fm_grpc_options *options = &connection->server->options;
    if (connection->state == FM_GRPC_CLOSING) {
        return;
    }
    if (connection->state == FM_GRPC_LINGER) {
        if (passed(connection->since_ns, LINGER_NS, now_ns)) {
            fm_grpc_connection_close(connection);
        }
        return;
    }
    if (!connection->handshaken &&
        passed(connection->since_ns, options->handshake_timeout_ns, now_ns)) {
        fail(connection);
        return;
    }
    if (connection->stream.writing) {
        size_t unwritten = fm_stream_unwritten(&connection->stream);
        if (unwritten < connection->unwritten) {
            connection->unwritten = unwritten;
            connection->progress_ns = now_ns;
        } else if (passed(connection->progress_ns, options->write_timeout_ns, now_ns)) {
            fail(connection);
            return;
        }
    }
    if (connection->exchange_count == 0 &&
        passed(connection->idle_ns, options->idle_timeout_ns, now_ns)) {
        fm_grpc_connection_goaway(connection);
    }
    sweep_exchanges(connection, now_ns);
    sweep_keepalive(connection, now_ns);
}
