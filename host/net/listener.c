/*
 * Listening. See listener.h.
 */
#include "host/net/listener.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/os/socket.h"

#define BACKLOG 511
/* While there was no memory for a connection that came. */
#define RETRY_NS UINT64_C(100000000)

static void handle_closed(uv_handle_t *handle)
{
    struct fm_listener *listener = handle->data;
    listener->handles_open--;
}

static void retry(uv_timer_t *timer)
{
    fm_listener_retry(timer->data);
}

static void on_connection(uv_stream_t *handle, int result)
{
    struct fm_listener *listener = handle->data;
    /* A failed accept (out of descriptors, or the client is gone already) concerns that client
     * only. */
    if (result != 0 || listener->accept(listener->context, handle)) {
        return;
    }
    if (handle == (uv_stream_t *)&listener->tcp) {
        listener->tcp_waiting = true;
    } else {
        listener->pipe_waiting = true;
    }
    if (listener->retry_open) {
        int started = uv_timer_start(&listener->retry, retry, RETRY_NS / 1000000, 0);
        FM_ASSERT(started == 0);
    }
}

void fm_listener_retry(struct fm_listener *listener)
{
    bool tcp = listener->tcp_waiting && listener->tcp_open;
    bool pipe = listener->pipe_waiting && listener->pipe_open;
    listener->tcp_waiting = false;
    listener->pipe_waiting = false;
    if (tcp) {
        on_connection((uv_stream_t *)&listener->tcp, 0);
    }
    if (pipe) {
        on_connection((uv_stream_t *)&listener->pipe, 0);
    }
}

static int resolve(struct fm_listener *listener, const struct fm_listener_options *options,
                   struct sockaddr_storage *ret_address, size_t *ret_size, struct fm_error *reterr)
{
    uint16_t number = options->sibling != NULL ? options->sibling->port : options->port;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)number);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t request;
    /* Without a callback it answers at once; that is fine before the loop runs. */
    int result = uv_getaddrinfo(listener->uv, &request, NULL, options->host, port, &hints);
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "cannot listen on host '%s': %s",
                            options->host, uv_strerror(result));
    }
    FM_ASSERT(request.addrinfo->ai_addrlen <= sizeof(*ret_address));
    *ret_size = request.addrinfo->ai_addrlen;
    memcpy(ret_address, request.addrinfo->ai_addr, *ret_size);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int share_port(struct fm_listener *listener, const struct fm_listener_options *options,
                      const struct sockaddr_storage *address, size_t size)
{
    uv_os_fd_t descriptor = -1;
    int result = uv_fileno((const uv_handle_t *)&listener->tcp, &descriptor);
    if (result == 0 && options->sibling == NULL) {
        result = uv_translate_sys_error(fm_socket_address_free(address, size));
    }
    return result != 0 ? result : uv_translate_sys_error(fm_socket_share_port(descriptor));
}

static void port_note(struct fm_listener *listener, const struct sockaddr_storage *address)
{
    listener->port =
        ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                             : ((const struct sockaddr_in *)address)->sin_port);
}

static void descriptor_close(uv_loop_t *uv, int descriptor)
{
    uv_fs_t request;
    (void)uv_fs_close(uv, &request, descriptor, NULL);
    uv_fs_req_cleanup(&request);
}

void fm_listener_refuse(uv_loop_t *uv, int inherited, int unix_inherited)
{
    if (inherited > 0) {
        descriptor_close(uv, inherited);
    }
    if (unix_inherited > 0) {
        descriptor_close(uv, unix_inherited);
    }
}

/* A socket that somebody bound before us. */
static int listen_inherited(struct fm_listener *listener, const struct fm_listener_options *options,
                            struct fm_error *reterr)
{
    int descriptor = options->inherited;
    struct sockaddr_storage address = {0};
    int length = sizeof(address);
    int result = uv_tcp_init(listener->uv, &listener->tcp);
    if (result == 0) {
        listener->tcp.data = listener;
        listener->tcp_open = true;
        listener->handles_open++;
        result = uv_tcp_open(&listener->tcp, descriptor);
    }
    if (result != 0) {
        descriptor_close(listener->uv, descriptor);
    } else {
        result = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &length);
    }
    if (result == 0 && address.ss_family != AF_INET && address.ss_family != AF_INET6) {
        result = UV_ENOTSUP;
    }
    if (result == 0 && !options->held) {
        result = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    }
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "cannot listen on the inherited socket %d: %s",
                            descriptor, uv_strerror(result));
    }
    port_note(listener, &address);
    return 0;
}

static int listen_tcp(struct fm_listener *listener, const struct fm_listener_options *options,
                      struct fm_error *reterr)
{
    struct sockaddr_storage address = {0};
    size_t size = 0;
    int status = resolve(listener, options, &address, &size, reterr);
    if (status != 0) {
        return status;
    }
    int result = uv_tcp_init_ex(listener->uv, &listener->tcp, address.ss_family);
    if (result == 0) {
        listener->tcp.data = listener;
        listener->tcp_open = true;
        listener->handles_open++;
        if (options->shared || options->sibling != NULL) {
            result = share_port(listener, options, &address, size);
        }
    }
    if (result == 0) {
        result = uv_tcp_bind(&listener->tcp, (const struct sockaddr *)&address, 0);
    }
    if (result == 0 && !options->held) {
        result = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    }
    int length = sizeof(address);
    if (result == 0) {
        result = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &length);
    }
    if (result != 0) {
        return fm_error_set(
            reterr, FM_EUNAVAILABLE, "cannot listen on %s port %u: %s%s", options->host,
            (unsigned)options->port, uv_strerror(result),
            result == UV_EADDRINUSE ? "; another program uses this port, choose another one" : "");
    }
    port_note(listener, &address);
    return 0;
}

/* What stands in the way of a socket at `path`. Nothing is ever removed to make room. */
static const char *unix_path_problem(struct fm_listener *listener, const char *path)
{
    uv_fs_t request;
    int result = uv_fs_lstat(listener->uv, &request, path, NULL);
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
static int unix_bind(struct fm_listener *listener, const struct fm_listener_options *options)
{
    int descriptor = -1;
    int result = 0;
    if (options->unix_inherited > 0) {
        descriptor = options->unix_inherited;
        listener->unix_inherited = true;
        memcpy(listener->unix_name.path, options->unix_path, strlen(options->unix_path) + 1);
    } else if (options->sibling != NULL) {
        uv_os_fd_t first = -1;
        result = uv_fileno((const uv_handle_t *)&options->sibling->pipe, &first);
        descriptor = result == 0 ? fm_socket_duplicate(first) : -1;
        if (result == 0 && descriptor < 0) {
            result = uv_translate_sys_error(-descriptor);
        }
    } else {
        result = uv_translate_sys_error(
            fm_unix_socket_bind(&listener->unix_name, options->unix_path, &descriptor));
    }
    if (result == 0) {
        result = uv_pipe_open(&listener->pipe, descriptor);
        if (result != 0) {
            descriptor_close(listener->uv, descriptor);
        }
    }
    return result;
}

static int listen_unix(struct fm_listener *listener, const struct fm_listener_options *options,
                       struct fm_error *reterr)
{
    const char *path = options->unix_path;
    if (strlen(path) > FM_UNIX_SOCKET_PATH_MAX) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "cannot listen on socket '%s': its name has %zu bytes, and a socket's "
                            "may have %u; choose a shorter path",
                            path, strlen(path), FM_UNIX_SOCKET_PATH_MAX);
    }
    int result = uv_pipe_init(listener->uv, &listener->pipe, 0);
    if (result == 0) {
        listener->pipe.data = listener;
        listener->pipe_open = true;
        listener->handles_open++;
        result = unix_bind(listener, options);
    }
    if (result == 0 && !options->held) {
        result = uv_listen((uv_stream_t *)&listener->pipe, BACKLOG, on_connection);
    }
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE, "cannot listen on socket '%s': %s%s", path,
                            uv_strerror(result),
                            result == UV_EADDRINUSE ? unix_path_problem(listener, path) : "");
    }
    return 0;
}

int fm_listener_open(struct fm_listener *listener, uv_loop_t *uv,
                     const struct fm_listener_options *options, struct fm_error *reterr)
{
    *listener = (struct fm_listener){
        .uv = uv, .accept = options->accept, .context = options->context, .handles_open = 1};
    (void)uv_timer_init(uv, &listener->retry);
    listener->retry.data = listener;
    listener->retry_open = true;
    int status = options->inherited > 0  ? listen_inherited(listener, options, reterr)
                 : options->host != NULL ? listen_tcp(listener, options, reterr)
                                         : 0;
    if (status == 0 && options->unix_path != NULL) {
        status = listen_unix(listener, options, reterr);
    }
    if (!listener->unix_inherited) {
        /* It did not come to that. */
        fm_listener_refuse(uv, 0, options->unix_inherited);
    }
    return status;
}

int fm_listener_begin(struct fm_listener *listener, struct fm_error *reterr)
{
    int result = 0;
    if (listener->tcp_open) {
        result = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    }
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "cannot listen on the inherited socket of port %u: %s",
                            (unsigned)listener->port, uv_strerror(result));
    }
    if (listener->pipe_open) {
        result = uv_listen((uv_stream_t *)&listener->pipe, BACKLOG, on_connection);
    }
    if (result != 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "cannot listen on the inherited socket '%s': %s",
                            listener->unix_name.path, uv_strerror(result));
    }
    if (listener->pipe_open && listener->unix_inherited) {
        fm_unix_socket_adopt(&listener->unix_name);
    }
    return 0;
}

void fm_listener_descriptors(const struct fm_listener *listener, int *ret_tcp, int *ret_unix)
{
    *ret_tcp = -1;
    *ret_unix = -1;
    if (listener->tcp_open) {
        (void)uv_fileno((const uv_handle_t *)&listener->tcp, ret_tcp);
    }
    if (listener->pipe_open) {
        (void)uv_fileno((const uv_handle_t *)&listener->pipe, ret_unix);
    }
}

void fm_listener_leave(struct fm_listener *listener)
{
    listener->unix_name.bound = false;
    fm_listener_stop(listener);
}

void fm_listener_stop(struct fm_listener *listener)
{
    if (listener->tcp_open) {
        listener->tcp_open = false;
        uv_close((uv_handle_t *)&listener->tcp, handle_closed);
    }
    if (listener->pipe_open) {
        listener->pipe_open = false;
        fm_unix_socket_remove(&listener->unix_name);
        uv_close((uv_handle_t *)&listener->pipe, handle_closed);
    }
}

void fm_listener_close(struct fm_listener *listener)
{
    fm_listener_stop(listener);
    if (listener->retry_open) {
        listener->retry_open = false;
        uv_close((uv_handle_t *)&listener->retry, handle_closed);
    }
}
