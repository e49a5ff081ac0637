/*
 * Where a client connects to, and connecting. See connect.h.
 */
#include "host/net/connect.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/memory.h"

#define HTTP_PORT     8000
#define GRPC_PORT     8001
#define URL_BYTES_MAX 2048

/* --- URLs --- */

struct scheme {
    const char *name;
    bool grpc;
    bool tls;
    bool local;
};

static const struct scheme schemes[] = {
    {"http://", false, false, false},  {"https://", false, true, false},
    {"grpc://", true, false, false},   {"grpcs://", true, true, false},
    {"unix:", false, false, true},     {"http+unix:", false, false, true},
    {"grpc+unix:", true, false, true},
};

void fm_endpoint_deinit(struct fm_endpoint *endpoint)
{
    fm_free(endpoint->url);
    fm_free(endpoint->host);
    fm_free(endpoint->authority);
    fm_free(endpoint->prefix);
    fm_free(endpoint->path);
    *endpoint = (struct fm_endpoint){0};
}

static int local_parse(const char *rest, struct fm_endpoint *endpoint, struct fm_error *reterr)
{
    /* unix:///a/b is /a/b, too. */
    const char *path = strncmp(rest, "//", 2) == 0 ? rest + 2 : rest;
    if (path[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "'%s' names no socket: unix:/path/of/it",
                            endpoint->url);
    }
    endpoint->path = fm_strdup(path);
    endpoint->host = fm_strdup("localhost");
    endpoint->authority = fm_strdup("localhost");
    endpoint->prefix = fm_strdup("");
    return 0;
}

static int port_parse(const char *text, size_t length, struct fm_endpoint *endpoint,
                      struct fm_error *reterr)
{
    uint32_t port = 0;
    bool good = length > 0 && length <= 5;
    for (size_t i = 0; good && i < length; i++) {
        good = text[i] >= '0' && text[i] <= '9';
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (!good || port == 0 || port > UINT16_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "the port in '%s' is no number from 1 to 65535",
                            endpoint->url);
    }
    endpoint->port = (uint16_t)port;
    return 0;
}

static int remote_parse(const char *rest, struct fm_endpoint *endpoint, struct fm_error *reterr)
{
    size_t length = strcspn(rest, "/?#");
    const char *tail = rest + length;
    size_t tail_length = strlen(tail);
    while (tail_length > 0 && tail[tail_length - 1] == '/') {
        tail_length--;
    }
    if (memchr(rest, '@', length) != NULL) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "a server's URL holds no user and password; use the option for a token");
    }
    if (strpbrk(tail, "?#") != NULL || (endpoint->grpc && tail_length > 0)) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' has something behind the %s", endpoint->url,
                            endpoint->grpc ? "port, where gRPC has nothing" : "path");
    }
    bool bracketed = rest[0] == '[';
    const char *end = bracketed ? memchr(rest, ']', length) : memchr(rest, ':', length);
    const char *host = bracketed ? rest + 1 : rest;
    size_t host_length = end != NULL ? (size_t)(end - host) : length;
    const char *colon = bracketed && end != NULL ? end + 1 : end;
    if (host_length == 0 || (bracketed && end == NULL) ||
        (colon != NULL && colon < rest + length && *colon != ':')) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' names no host: http://HOST:PORT",
                            endpoint->url);
    }
    endpoint->port = endpoint->grpc ? GRPC_PORT : HTTP_PORT;
    if (colon != NULL && colon < rest + length) {
        int status = port_parse(colon + 1, (size_t)(rest + length - colon - 1), endpoint, reterr);
        if (status != 0) {
            return status;
        }
    }
    struct fm_text authority = {0};
    endpoint->host = fm_strndup(host, host_length);
    endpoint->prefix = fm_strndup(tail, tail_length);
    fm_text_append_string(&authority, bracketed ? "[" : "");
    fm_text_append(&authority, host, host_length);
    fm_text_append_format(&authority, "%s:%u", bracketed ? "]" : "", endpoint->port);
    endpoint->authority = fm_text_take(&authority);
    return 0;
}

int fm_endpoint_parse(const char *url, struct fm_endpoint *ret_endpoint, struct fm_error *reterr)
{
    struct fm_endpoint endpoint = {0};
    const struct scheme *scheme = NULL;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncasecmp(url, schemes[i].name, strlen(schemes[i].name)) == 0) {
            scheme = &schemes[i];
        }
    }
    bool good = strlen(url) <= URL_BYTES_MAX;
    for (const char *at = url; good && *at != '\0'; at++) {
        good = (unsigned char)*at > ' ' && *at != 0x7f;
    }
    if (scheme == NULL || !good) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%.100s' is no URL of a server: it begins with http://, https://, "
                            "grpc://, grpcs://, unix: or grpc+unix:, and has no spaces",
                            url);
    }
    endpoint.url = fm_strdup(url);
    endpoint.grpc = scheme->grpc;
    endpoint.tls = scheme->tls;
    int status = endpoint.url == NULL ? FM_ENOMEM : 0;
    if (status == 0) {
        const char *rest = url + strlen(scheme->name);
        status = scheme->local ? local_parse(rest, &endpoint, reterr)
                               : remote_parse(rest, &endpoint, reterr);
    }
    if (status == 0 && (endpoint.host == NULL || endpoint.authority == NULL ||
                        endpoint.prefix == NULL || (scheme->local && endpoint.path == NULL))) {
        status = FM_ENOMEM;
    }
    if (status != 0) {
        fm_endpoint_deinit(&endpoint);
        return status == FM_ENOMEM ? fm_error_set(reterr, status, "out of memory for the URL")
                                   : status;
    }
    *ret_endpoint = endpoint;
    return 0;
}

/* --- Connecting --- */

static void attempt(struct fm_dial *dial);

static void addresses_free(struct fm_dial *dial)
{
    if (dial->addresses != NULL) {
        uv_freeaddrinfo(dial->addresses);
        dial->addresses = NULL;
        dial->next = NULL;
    }
}

static void finish(struct fm_dial *dial, int result)
{
    addresses_free(dial);
    if (!dial->is_closed) {
        dial->done(dial->context, result);
    }
}

static void on_reopened(uv_handle_t *handle)
{
    struct fm_stream *stream = handle->data;
    struct fm_dial *dial = stream->write.data;
    stream->write.data = stream;
    dial->is_reopening = false;
    (void)uv_tcp_init(dial->uv, &stream->socket.tcp);
    if (dial->is_closed) {
        addresses_free(dial);
        fm_stream_close(stream);
    } else {
        attempt(dial);
    }
}

/* This address is none that answers: the next, with a socket of its own. */
static void attempt_failed(struct fm_dial *dial, int result)
{
    if (dial->is_closed || dial->next == NULL) {
        finish(dial, result);
        return;
    }
    dial->is_reopening = true;
    /* Nothing is written yet: a place to find the dial by. */
    dial->stream->write.data = dial;
    uv_close(&dial->stream->socket.handle, on_reopened);
}

static void on_connected(uv_connect_t *connecting, int result)
{
    struct fm_dial *dial = connecting->data;
    if (dial->is_closed) {
        finish(dial, result);
    } else if (result != 0) {
        attempt_failed(dial, result);
    } else {
        finish(dial, 0);
    }
}

static void attempt(struct fm_dial *dial)
{
    const struct addrinfo *address = dial->next;
    dial->next = address->ai_next;
    int result = uv_tcp_connect(&dial->connecting, &dial->stream->socket.tcp, address->ai_addr,
                                on_connected);
    if (result != 0) {
        attempt_failed(dial, result);
    }
}

static void on_resolved(uv_getaddrinfo_t *resolving, int result, struct addrinfo *addresses)
{
    struct fm_dial *dial = resolving->data;
    dial->is_resolving = false;
    dial->addresses = addresses;
    if (dial->is_closed) {
        finish(dial, UV_ECANCELED);
        if (dial->stream_closed) {
            dial->stream->events->closed(dial->stream->context);
        }
    } else if (result != 0 || addresses == NULL) {
        finish(dial, result != 0 ? result : UV_EAI_NONAME);
    } else {
        dial->next = addresses;
        attempt(dial);
    }
}

void fm_dial_start(struct fm_dial *dial, struct fm_stream *stream,
                   const struct fm_endpoint *endpoint, uv_loop_t *uv,
                   void (*done)(void *context, int result), void *context)
{
    char port[8];
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    *dial = (struct fm_dial){
        .stream = stream, .endpoint = endpoint, .uv = uv, .done = done, .context = context};
    dial->resolving.data = dial;
    dial->connecting.data = dial;
    if (endpoint->path != NULL) {
        /* Tells of every failure in the callback. */
        uv_pipe_connect(&dial->connecting, &stream->socket.pipe, endpoint->path, on_connected);
        return;
    }
    (void)snprintf(port, sizeof(port), "%u", endpoint->port);
    dial->is_resolving = true;
    int result = uv_getaddrinfo(uv, &dial->resolving, on_resolved, endpoint->host, port, &hints);
    if (result != 0) {
        dial->is_resolving = false;
        dial->next = NULL;
        finish(dial, result);
    }
}

void fm_dial_close(struct fm_dial *dial)
{
    if (dial->is_closed) {
        return;
    }
    dial->is_closed = true;
    if (dial->is_resolving) {
        /* It may be too late for that, then the callback comes all the same. */
        (void)uv_cancel((uv_req_t *)&dial->resolving);
    }
    if (!dial->is_reopening) {
        fm_stream_close(dial->stream);
    }
}

bool fm_dial_is_over(struct fm_dial *dial)
{
    dial->stream_closed = true;
    return !dial->is_resolving;
}
