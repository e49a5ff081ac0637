/*
 * The gRPC server's beginning, its rounds, time limits, drain and end. See grpc_server.h.
 */
#include "host/net/grpc_server.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/net/grpc_internal.h"

#define SWEEP_MS_MIN 10
#define SWEEP_MS_MAX 1000

void fm_grpc_options_init(struct fm_grpc_options *options)
{
    *options = (struct fm_grpc_options){
        .connections_max = 4096,
        .calls_max = 1024,
        .message_bytes_max = (size_t)64 << 20,
        .message_bytes_total_max = (size_t)1 << 30,
        .metadata_bytes_max = 16384,
        .unhandled_max = 256,
        .unsent_max = 256,
        .stream_window_bytes = 16u << 20,
        .connection_window_bytes = 64u << 20,
        .resets_per_second_max = 1000,
        .control_frames_per_second_max = 2000,
        .handshake_timeout_ns = UINT64_C(10000000000),
        .idle_timeout_ns = UINT64_C(3600000000000),
        .keepalive_ns = UINT64_C(60000000000),
        .keepalive_timeout_ns = UINT64_C(20000000000),
        .message_timeout_ns = UINT64_C(60000000000),
        .write_timeout_ns = UINT64_C(60000000000),
    };
}

/* --- Rounds --- */

void fm_grpc_server_mark(struct fm_grpc_connection *connection)
{
    if (!connection->dirty) {
        connection->dirty = true;
        connection->dirty_next = connection->server->dirty;
        connection->server->dirty = connection;
    }
}

/* Connections that are marked meanwhile (by what a release does) have their turn too. */
static void flush(struct fm_grpc_server *server)
{
    while (server->dirty != NULL) {
        struct fm_grpc_connection *connection = server->dirty;
        server->dirty = connection->dirty_next;
        connection->dirty = false;
        fm_grpc_connection_flush(connection);
    }
}

/* After what came and what was posted ... */
static void on_check(uv_check_t *check)
{
    flush(check->data);
}

/* ... and after timers. */
static void on_prepare(uv_prepare_t *prepare)
{
    flush(prepare->data);
}

/* Once no connection is left whose session saw an allocation fail: all of those are closing. */
static void blocks_recover(struct fm_grpc_server *server)
{
    for (const struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_GRPC_CLOSING) {
            return;
        }
    }
    fm_block_pool_recover(&server->blocks);
}

static void on_sweep(uv_timer_t *timer)
{
    struct fm_grpc_server *server = timer->data;
    uint64_t now_ns = fm_grpc_now_ns(server);
    struct fm_grpc_connection *next = NULL;
    if (server->blocks.failed) {
        blocks_recover(server);
    }
    for (struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = next) {
        /* A connection that is closed stays in the list until later. */
        next = connection->next;
        fm_grpc_connection_sweep(connection, now_ns);
    }
}

static uint64_t sweep_ms(const struct fm_grpc_options *options)
{
    const uint64_t limits[] = {options->handshake_timeout_ns, options->idle_timeout_ns,
                               options->keepalive_ns,         options->keepalive_timeout_ns,
                               options->message_timeout_ns,   options->write_timeout_ns};
    uint64_t period = SWEEP_MS_MAX;
    for (size_t i = 0; i < FM_COUNT_OF(limits); i++) {
        uint64_t quarter = limits[i] / 4000000;
        period = quarter < period ? quarter : period;
    }
    return period < SWEEP_MS_MIN ? SWEEP_MS_MIN : period;
}

/* --- The beginning --- */

static void handle_closed(uv_handle_t *handle)
{
    struct fm_grpc_server *server = handle->data;
    server->handles_open--;
}

static void handles_init(struct fm_grpc_server *server)
{
    (void)uv_timer_init(server->uv, &server->grace);
    (void)uv_timer_init(server->uv, &server->sweep);
    (void)uv_prepare_init(server->uv, &server->prepare);
    (void)uv_check_init(server->uv, &server->check);
    server->grace.data = server;
    server->sweep.data = server;
    server->prepare.data = server;
    server->check.data = server;
    server->handles_open += 4;
    server->handles_init = true;
    uint64_t period = sweep_ms(&server->options);
    int result = uv_timer_start(&server->sweep, on_sweep, period, period);
    FM_ASSERT(result == 0);
    (void)uv_prepare_start(&server->prepare, on_prepare);
    (void)uv_check_start(&server->check, on_check);
}

static bool accept_one(void *context, uv_stream_t *handle)
{
    return fm_grpc_connection_accept(context, handle);
}

int fm_grpc_server_create(struct fm_loop *loop, const struct fm_grpc_options *options,
                          struct fm_grpc_server **ret_server, struct fm_error *reterr)
{
    FM_ASSERT(options->events.begin != NULL && options->unhandled_max > 0);
    struct fm_grpc_server *server = fm_alloc_zero(1, sizeof(*server));
    if (server == NULL) {
        fm_listener_refuse(fm_loop_uv(loop), options->inherited, options->unix_inherited);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while making the gRPC server");
    }
    server->loop = loop;
    server->uv = fm_loop_uv(loop);
    server->options = *options;
    server->shared.tls = options->tls;
    server->shared.protocol = "h2";
    if (fm_grpc_connection_prepare(server) != 0) {
        fm_listener_refuse(server->uv, options->inherited, options->unix_inherited);
        fm_grpc_server_destroy(server);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while making the gRPC server");
    }
    handles_init(server);
    const struct fm_listener_options listening = {
        .host = options->host,
        .port = options->port,
        .inherited = options->inherited,
        .unix_path = options->unix_path,
        .unix_inherited = options->unix_inherited,
        .held = options->held,
        .shared = options->shared,
        .sibling = options->sibling != NULL ? &options->sibling->listener : NULL,
        .accept = accept_one,
        .context = server,
    };
    int status = fm_listener_open(&server->listener, server->uv, &listening, reterr);
    if (status != 0) {
        fm_grpc_server_destroy(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

uint16_t fm_grpc_server_port(const struct fm_grpc_server *server)
{
    return server->listener.port;
}

/* --- The end --- */

static void drained_check(struct fm_grpc_server *server)
{
    if (server->closed_to_new && server->connections == NULL && !server->drained) {
        server->drained = true;
        if (server->options.events.drained != NULL) {
            server->options.events.drained(server->options.context);
        }
    }
}

void fm_grpc_server_forget(struct fm_grpc_connection *connection)
{
    struct fm_grpc_server *server = connection->server;
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        server->connections = connection->next;
    }
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    for (struct fm_grpc_connection **link = &server->dirty; connection->dirty && *link != NULL;
         link = &(*link)->dirty_next) {
        if (*link == connection) {
            *link = connection->dirty_next;
            break;
        }
    }
    nghttp2_session_del(connection->session);
    fm_free(connection);
    if (server->blocks.failed) {
        blocks_recover(server);
    }
    server->stats.connections--;
    server->handles_open--;
    fm_listener_retry(&server->listener);
    drained_check(server);
}

int fm_grpc_server_begin(struct fm_grpc_server *server, struct fm_error *reterr)
{
    return fm_listener_begin(&server->listener, reterr);
}

void fm_grpc_server_descriptors(const struct fm_grpc_server *server, int *ret_tcp, int *ret_unix)
{
    fm_listener_descriptors(&server->listener, ret_tcp, ret_unix);
}

static void grace_over(uv_timer_t *timer)
{
    struct fm_grpc_server *server = timer->data;
    fm_listener_stop(&server->listener);
    server->closed_to_new = true;
    for (struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        fm_grpc_connection_goaway(connection);
    }
    drained_check(server);
}

/* No new calls, please; those that are on their way are taken all the same. */
static void leaving_tell(struct fm_grpc_server *server)
{
    if (server->draining) {
        return;
    }
    server->draining = true;
    for (struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_GRPC_OPEN && !connection->goaway &&
            nghttp2_submit_shutdown_notice(connection->session) == 0) {
            fm_grpc_server_mark(connection);
        }
    }
}

void fm_grpc_server_leave(struct fm_grpc_server *server)
{
    fm_listener_leave(&server->listener);
    leaving_tell(server);
    server->closed_to_new = true;
    drained_check(server);
}

void fm_grpc_server_drain(struct fm_grpc_server *server, uint64_t grace_ns)
{
    if (server->ending) {
        return;
    }
    server->ending = true;
    leaving_tell(server);
    int result = uv_timer_start(&server->grace, grace_over, grace_ns / 1000000, 0);
    FM_ASSERT(result == 0);
}

void fm_grpc_server_abort(struct fm_grpc_server *server)
{
    fm_listener_stop(&server->listener);
    server->draining = true;
    server->ending = true;
    server->closed_to_new = true;
    for (struct fm_grpc_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        fm_grpc_connection_close(connection);
    }
    drained_check(server);
}

static void memory_free(struct fm_grpc_server *server)
{
    while (server->exchanges_free != NULL) {
        struct fm_grpc_exchange *exchange = server->exchanges_free;
        server->exchanges_free = exchange->next;
        fm_free(exchange);
    }
    fm_grpc_outgoing_free_all(server);
    fm_free(server->output_free);
    fm_block_pool_deinit(&server->blocks);
    nghttp2_session_callbacks_del(server->callbacks);
    nghttp2_option_del(server->http2_options);
    fm_free(server);
}

void fm_grpc_server_destroy(struct fm_grpc_server *server)
{
    if (server == NULL) {
        return;
    }
    server->options.events.drained = NULL;
    if (server->handles_init) {
        fm_grpc_server_abort(server);
        fm_listener_close(&server->listener);
        uv_close((uv_handle_t *)&server->grace, handle_closed);
        uv_close((uv_handle_t *)&server->sweep, handle_closed);
        uv_close((uv_handle_t *)&server->prepare, handle_closed);
        uv_close((uv_handle_t *)&server->check, handle_closed);
    }
    fm_loop_run_posted(server->loop);
    while (server->handles_open > 0 || server->listener.handles_open > 0) {
        (void)uv_run(server->uv, UV_RUN_ONCE);
    }
    FM_ASSERT(server->stats.in_flight == 0);
    memory_free(server);
}

void fm_grpc_server_stats(const struct fm_grpc_server *server, struct fm_grpc_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->bytes_received = server->shared.stats.bytes_read;
    ret_stats->bytes_sent = server->shared.stats.bytes_written;
    ret_stats->reads = server->shared.stats.reads;
    ret_stats->writes = server->shared.stats.writes;
}
