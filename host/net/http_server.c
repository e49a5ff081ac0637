/*
 * The beginning, the drain and the end of the server. See http_server.h.
 */
#include "host/net/http_server.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/net/http_internal.h"

void fm_http_options_init(struct fm_http_options *options)
{
    *options = (struct fm_http_options){
        .header_bytes_max = 32768,
        .header_count_max = 128,
        .body_bytes_max = (size_t)64 << 20,
        .body_bytes_total_max = (size_t)1 << 30,
        .connections_max = 4096,
        .idle_timeout_ns = UINT64_C(75000000000),
        .header_timeout_ns = UINT64_C(10000000000),
        .body_timeout_ns = UINT64_C(30000000000),
        .write_timeout_ns = UINT64_C(60000000000),
        .error_type = "text/plain",
    };
}

static void drained_check(struct fm_http_server *server)
{
    if (server->closed_to_new && server->connections == NULL && !server->drained) {
        server->drained = true;
        if (server->options.drained != NULL) {
            server->options.drained(server->options.context);
        }
    }
}

void fm_http_server_forget(struct fm_http_server *server)
{
    server->handles_open--;
    fm_listener_retry(&server->listener);
    drained_check(server);
}

static void handle_closed(uv_handle_t *handle)
{
    struct fm_http_server *server = handle->data;
    server->handles_open--;
}

static bool accept_one(void *context, uv_stream_t *handle)
{
    return fm_http_connection_accept(context, handle);
}

int fm_http_server_create(struct fm_loop *loop, const struct fm_http_options *options,
                          struct fm_http_server **ret_server, struct fm_error *reterr)
{
    FM_ASSERT(options->handle != NULL && options->write_error != NULL);
    struct fm_http_server *server = fm_alloc_zero(1, sizeof(*server));
    if (server == NULL) {
        fm_listener_refuse(fm_loop_uv(loop), options->inherited, options->unix_inherited);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while making the HTTP server");
    }
    server->loop = loop;
    server->uv = fm_loop_uv(loop);
    server->options = *options;
    server->shared.tls = options->tls;
    server->shared.protocol = "http/1.1";
    (void)uv_timer_init(server->uv, &server->grace);
    server->grace.data = server;
    server->grace_open = true;
    server->handles_open++;
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
        fm_http_server_destroy(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

uint16_t fm_http_server_port(const struct fm_http_server *server)
{
    return server->listener.port;
}

int fm_http_server_begin(struct fm_http_server *server, struct fm_error *reterr)
{
    return fm_listener_begin(&server->listener, reterr);
}

void fm_http_server_descriptors(const struct fm_http_server *server, int *ret_tcp, int *ret_unix)
{
    fm_listener_descriptors(&server->listener, ret_tcp, ret_unix);
}

static void grace_over(uv_timer_t *timer)
{
    struct fm_http_server *server = timer->data;
    fm_listener_stop(&server->listener);
    server->closed_to_new = true;
    for (struct fm_http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_HTTP_IDLE) {
            fm_http_connection_close(connection);
        }
    }
    drained_check(server);
}

void fm_http_server_leave(struct fm_http_server *server)
{
    fm_listener_leave(&server->listener);
    server->draining = true;
    server->closed_to_new = true;
    drained_check(server);
}

void fm_http_server_drain(struct fm_http_server *server, uint64_t grace_ns)
{
    if (server->ending) {
        return;
    }
    server->ending = true;
    server->draining = true;
    int result = uv_timer_start(&server->grace, grace_over, grace_ns / 1000000, 0);
    FM_ASSERT(result == 0);
}

void fm_http_server_abort(struct fm_http_server *server)
{
    fm_listener_stop(&server->listener);
    server->draining = true;
    server->ending = true;
    server->closed_to_new = true;
    for (struct fm_http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        fm_http_connection_close(connection);
    }
    drained_check(server);
}

void fm_http_server_destroy(struct fm_http_server *server)
{
    if (server == NULL) {
        return;
    }
    server->options.drained = NULL;
    fm_http_server_abort(server);
    if (server->grace_open) {
        server->grace_open = false;
        uv_close((uv_handle_t *)&server->grace, handle_closed);
    }
    fm_listener_close(&server->listener);
    fm_loop_run_posted(server->loop);
    while (server->handles_open > 0 || server->listener.handles_open > 0) {
        (void)uv_run(server->uv, UV_RUN_ONCE);
    }
    FM_ASSERT(server->stats.in_flight == 0);
    fm_http_exchanges_release(server);
    fm_free(server);
}

void fm_http_server_stats(const struct fm_http_server *server, struct fm_http_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->bytes_received = server->shared.stats.bytes_read;
    ret_stats->bytes_sent = server->shared.stats.bytes_written;
    ret_stats->reads = server->shared.stats.reads;
    ret_stats->writes = server->shared.stats.writes;
}
