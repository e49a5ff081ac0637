/*
 * Listening, drain, and the end of the server. See http_server.h.
 */
#include "host/net/http_server.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/net/http_internal.h"

#define BACKLOG 511
/* While there was no memory for a connection that came. */
#define RETRY_NS UINT64_C(100000000)

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

static void on_connection(uv_stream_t *listener, int result);

static void drained_check(struct fm_http_server *server)
{
    if (server->closed_to_new && server->connections == NULL && !server->drained) {
        server->drained = true;
        if (server->options.drained != NULL) {
            server->options.drained(server->options.context);
        }
    }
}

/* Tries again where there was no memory for a connection. */
static void waiting_accept(struct fm_http_server *server)
{
    bool tcp = server->tcp_waiting && server->tcp_open;
    bool pipe = server->pipe_waiting && server->pipe_open;
    server->tcp_waiting = false;
    server->pipe_waiting = false;
    if (tcp) {
        on_connection((uv_stream_t *)&server->tcp, 0);
    }
    if (pipe) {
        on_connection((uv_stream_t *)&server->pipe, 0);
    }
}

static void retry(uv_timer_t *timer)
{
    waiting_accept(timer->data);
}

void fm_http_server_wait(struct fm_http_server *server, const uv_stream_t *listener)
{
    if (listener == (const uv_stream_t *)&server->tcp) {
        server->tcp_waiting = true;
    } else {
        server->pipe_waiting = true;
    }
    if (server->timers_open) {
        int result = uv_timer_start(&server->retry, retry, RETRY_NS / 1000000, 0);
        FM_ASSERT(result == 0);
    }
}

void fm_http_server_forget(struct fm_http_server *server)
{
    server->handles_open--;
    waiting_accept(server);
    drained_check(server);
}

static void handle_closed(uv_handle_t *handle)
{
    struct fm_http_server *server = handle->data;
    server->handles_open--;
}

static void on_connection(uv_stream_t *listener, int result)
{
    struct fm_http_server *server = listener->data;
    /* A failed accept (out of descriptors, or the client is gone already) concerns that client
     * only. */
    if (result == 0) {
        fm_http_connection_accept(server, listener);
    }
}

static int resolve(struct fm_http_server *server, struct sockaddr_storage *ret_address,
                   struct fm_error *reterr)
{
    const struct fm_http_options *options = &server->options;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)options->port);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t request;
    /* Without a callback it answers at once; that is fine before the loop runs. */
    int result = uv_getaddrinfo(server->uv, &request, NULL, options->host, port, &hints);
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "cannot listen on host '%s': %s",
                            options->host, uv_strerror(result));
    }
    FM_ASSERT(request.addrinfo->ai_addrlen <= sizeof(*ret_address));
    memcpy(ret_address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int listen_tcp(struct fm_http_server *server, struct fm_error *reterr)
{
    struct sockaddr_storage address = {0};
    int status = resolve(server, &address, reterr);
    if (status != 0) {
        return status;
    }
    int result = uv_tcp_init(server->uv, &server->tcp);
    if (result == 0) {
        server->tcp.data = server;
        server->tcp_open = true;
        server->handles_open++;
        result = uv_tcp_bind(&server->tcp, (const struct sockaddr *)&address, 0);
    }
    if (result == 0) {
        result = uv_listen((uv_stream_t *)&server->tcp, BACKLOG, on_connection);
    }
    int length = sizeof(address);
    if (result == 0) {
        result = uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&address, &length);
    }
    if (result != 0) {
        return fm_error_set(
            reterr, FM_EUNAVAILABLE, "cannot listen on %s port %u: %s%s", server->options.host,
            (unsigned)server->options.port, uv_strerror(result),
            result == UV_EADDRINUSE ? "; another program uses this port, choose another one" : "");
    }
    server->port =
        ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                            : ((struct sockaddr_in *)&address)->sin_port);
    return 0;
}

/* What stands in the way of a socket at `path`. Nothing is ever removed to make room. */
static const char *unix_path_problem(struct fm_http_server *server, const char *path)
{
    uv_fs_t request;
    int result = uv_fs_lstat(server->uv, &request, path, NULL);
    uint64_t kind = result == 0 ? request.statbuf.st_mode & S_IFMT : 0;
    uv_fs_req_cleanup(&request);
    if (result != 0) {
        return "";
    }
    return kind == S_IFSOCK  ? "; another server uses it, or died and left it: then remove it"
           : kind == S_IFDIR ? "; it is a directory: name a file in it that does not exist yet"
           : kind == S_IFLNK ? "; it is a symbolic link: name a file that does not exist yet"
                             : "; it is a file and no socket: name one that does not exist yet";
}

/* Not through uv_pipe_bind: it would remove the name when it closes, whosever it is by then. */
static int unix_bind(struct fm_http_server *server, const char *path)
{
    int descriptor = -1;
    int result = uv_translate_sys_error(fm_unix_socket_bind(&server->unix_name, path, &descriptor));
    if (result == 0) {
        result = uv_pipe_open(&server->pipe, descriptor);
        if (result != 0) {
            uv_fs_t request;
            (void)uv_fs_close(server->uv, &request, descriptor, NULL);
            uv_fs_req_cleanup(&request);
        }
    }
    return result;
}

static int listen_unix(struct fm_http_server *server, struct fm_error *reterr)
{
    const char *path = server->options.unix_path;
    if (strlen(path) > FM_UNIX_SOCKET_PATH_MAX) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "cannot listen on socket '%s': its name has %zu bytes, and a socket's "
                            "may have %u; choose a shorter path",
                            path, strlen(path), FM_UNIX_SOCKET_PATH_MAX);
    }
    int result = uv_pipe_init(server->uv, &server->pipe, 0);
    if (result == 0) {
        server->pipe.data = server;
        server->pipe_open = true;
        server->handles_open++;
        result = unix_bind(server, path);
    }
    if (result == 0) {
        result = uv_listen((uv_stream_t *)&server->pipe, BACKLOG, on_connection);
    }
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "cannot listen on socket '%s': %s%s", path,
                            uv_strerror(result),
                            result == UV_EADDRINUSE ? unix_path_problem(server, path) : "");
    }
    return 0;
}

static void listeners_close(struct fm_http_server *server)
{
    if (server->tcp_open) {
        server->tcp_open = false;
        uv_close((uv_handle_t *)&server->tcp, handle_closed);
    }
    if (server->pipe_open) {
        server->pipe_open = false;
        fm_unix_socket_remove(&server->unix_name);
        uv_close((uv_handle_t *)&server->pipe, handle_closed);
    }
}

int fm_http_server_create(struct fm_loop *loop, const struct fm_http_options *options,
                          struct fm_http_server **ret_server, struct fm_error *reterr)
{
    FM_ASSERT(options->handle != NULL && options->write_error != NULL);
    struct fm_http_server *server = fm_alloc_zero(1, sizeof(*server));
    if (server == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while making the HTTP server");
    }
    server->loop = loop;
    server->uv = fm_loop_uv(loop);
    server->options = *options;
    (void)uv_timer_init(server->uv, &server->grace);
    server->grace.data = server;
    (void)uv_timer_init(server->uv, &server->retry);
    server->retry.data = server;
    server->timers_open = true;
    server->handles_open += 2;
    int status = options->host != NULL ? listen_tcp(server, reterr) : 0;
    if (status == 0 && options->unix_path != NULL) {
        status = listen_unix(server, reterr);
    }
    if (status != 0) {
        fm_http_server_destroy(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

uint16_t fm_http_server_port(const struct fm_http_server *server)
{
    return server->port;
}

static void grace_over(uv_timer_t *timer)
{
    struct fm_http_server *server = timer->data;
    listeners_close(server);
    server->closed_to_new = true;
    for (struct fm_http_connection *connection = server->connections; connection != NULL;
         connection = connection->next) {
        if (connection->state == FM_HTTP_IDLE) {
            fm_http_connection_close(connection);
        }
    }
    drained_check(server);
}

void fm_http_server_drain(struct fm_http_server *server, uint64_t grace_ns)
{
    if (server->draining) {
        return;
    }
    server->draining = true;
    int result = uv_timer_start(&server->grace, grace_over, grace_ns / 1000000, 0);
    FM_ASSERT(result == 0);
}

void fm_http_server_abort(struct fm_http_server *server)
{
    listeners_close(server);
    server->draining = true;
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
    if (server->timers_open) {
        server->timers_open = false;
        uv_close((uv_handle_t *)&server->grace, handle_closed);
        uv_close((uv_handle_t *)&server->retry, handle_closed);
    }
    fm_loop_run_posted(server->loop);
    while (server->handles_open > 0) {
        (void)uv_run(server->uv, UV_RUN_ONCE);
    }
    FM_ASSERT(server->stats.in_flight == 0);
    fm_free(server);
}

void fm_http_server_stats(const struct fm_http_server *server, struct fm_http_stats *ret_stats)
{
    *ret_stats = server->stats;
}
