/*
 * Where a client connects to, and connecting. See connect.h.
 */
#include "host/net/connect.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/unix_socket.h"

#define HTTP_PORT      8000
#define GRPC_PORT      8001
#define URL_BYTES_MAX  2048
#define PAUSE_FIRST_NS UINT64_C(20000000)
#define PAUSE_MAX_NS   UINT64_C(1000000000)

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

struct shown {
    char text[128];
};

/* A URL as messages have it: cut, and without what may be a password. */
static struct shown show(const char *url)
{
    struct shown shown;
    const char *end = strstr(url, "://");
    if (strchr(url, '@') == NULL) {
        (void)snprintf(shown.text, sizeof(shown.text), "%.100s%s", url,
                       strlen(url) > 100 ? "..." : "");
    } else {
        (void)snprintf(shown.text, sizeof(shown.text), "%.*s...",
                       end != NULL && end - url < 20 ? (int)(end + 3 - url) : 0, url);
    }
    return shown;
}

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
    if (strlen(path) > FM_UNIX_SOCKET_PATH_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "cannot connect to socket '%.100s...': its name has %zu bytes, and a "
                            "socket's may have %u",
                            path, strlen(path), FM_UNIX_SOCKET_PATH_MAX);
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
                            show(endpoint->url).text);
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
        return fm_error_set(reterr, FM_EINVAL, "'%s' has something behind the %s",
                            show(endpoint->url).text,
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
                            show(endpoint->url).text);
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
                            "'%s' is no URL of a server: it begins with http://, https://, "
                            "grpc://, grpcs://, unix: or grpc+unix:, and has no spaces",
                            show(url).text);
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
        dial->options.done(dial->options.context, result);
    }
}

/* There is room: it is among the others, or has just left them. */
static void deadline_move(struct fm_dial *dial, uint64_t at_ns)
{
    fm_deadlines_remove(dial->options.deadlines, &dial->deadline);
    dial->deadline.at_ns = at_ns;
    int status = fm_deadlines_add(dial->options.deadlines, &dial->deadline);
    FM_ASSERT(status == 0);
}

static void on_reopened(uv_handle_t *handle)
{
    struct fm_stream *stream = handle->data;
    struct fm_dial *dial = stream->write.data;
    stream->write.data = stream;
    dial->is_reopening = false;
    (void)uv_tcp_init(dial->options.uv, &stream->socket.tcp);
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

static void on_late(struct fm_deadline *deadline)
{
    struct fm_dial *dial = FM_CONTAINER_OF(deadline, struct fm_dial, deadline);
    if (deadline->at_ns < dial->end_ns) {
        deadline_move(dial, dial->end_ns);
        if (!dial->is_reopening) {
            attempt_failed(dial, UV_ETIMEDOUT);
        }
        return;
    }
    dial->is_late = true;
    finish(dial, UV_ETIMEDOUT);
}

static void on_connected(uv_connect_t *connecting, int result)
{
    struct fm_dial *dial = connecting->data;
    if (dial->is_reopening) {
        /* Given up: the next address's turn comes when the socket is closed. */
        return;
    }
    if (dial->is_closed) {
        finish(dial, result);
    } else if (result != 0) {
        attempt_failed(dial, result);
    } else {
        deadline_move(dial, dial->end_ns);
        finish(dial, 0);
    }
}

static void attempt(struct fm_dial *dial)
{
    const struct addrinfo *address = dial->next;
    uint64_t now_ns = fm_os_now_ns();
    uint64_t left_ns = dial->end_ns > now_ns ? dial->end_ns - now_ns : 0;
    uint64_t count = 0;
    for (const struct addrinfo *at = address; at != NULL; at = at->ai_next) {
        count++;
    }
    deadline_move(dial, count > 1 ? now_ns + left_ns / count : dial->end_ns);
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

int fm_dial_start(struct fm_dial *dial, struct fm_stream *stream,
                  const struct fm_dial_options *options)
{
    const struct fm_endpoint *endpoint = options->endpoint;
    char port[8];
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    *dial = (struct fm_dial){.options = *options, .stream = stream};
    dial->resolving.data = dial;
    dial->connecting.data = dial;
    dial->end_ns = fm_os_now_ns() + options->timeout_ns;
    dial->deadline = (struct fm_deadline){.at_ns = dial->end_ns, .passed = on_late};
    if (fm_deadlines_add(options->deadlines, &dial->deadline) != 0) {
        return FM_ENOMEM;
    }
    if (endpoint->path != NULL) {
        /* Tells of every failure in the callback. */
        uv_pipe_connect(&dial->connecting, &stream->socket.pipe, endpoint->path, on_connected);
        return 0;
    }
    (void)snprintf(port, sizeof(port), "%u", endpoint->port);
    dial->is_resolving = true;
    int result =
        uv_getaddrinfo(options->uv, &dial->resolving, on_resolved, endpoint->host, port, &hints);
    if (result != 0) {
        dial->is_resolving = false;
        finish(dial, result);
    }
    return 0;
}

void fm_dial_ready(struct fm_dial *dial)
{
    fm_deadlines_remove(dial->options.deadlines, &dial->deadline);
}

void fm_dial_failure(const struct fm_dial *dial, int result, struct fm_error *reterr)
{
    const char *problem = fm_stream_problem(dial->stream);
    const char *url = dial->options.endpoint->url;
    if (dial->is_late) {
        (void)fm_error_set(reterr, FM_EUNAVAILABLE, "cannot connect to %s: not within %llu ms", url,
                           (unsigned long long)(dial->options.timeout_ns / 1000000));
        return;
    }
    (void)fm_error_set(reterr, FM_EUNAVAILABLE, "cannot connect to %s: %s", url,
                       problem != NULL ? problem
                       : result != 0   ? uv_strerror(result)
                                       : "the server ended the handshake of TLS");
}

void fm_dial_close(struct fm_dial *dial)
{
    if (dial->is_closed) {
        return;
    }
    dial->is_closed = true;
    fm_deadlines_remove(dial->options.deadlines, &dial->deadline);
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

/* --- Pauses --- */

void fm_dial_pause_begin(struct fm_dial_pause *pause, struct fm_deadlines *deadlines,
                         const struct fm_error *failure)
{
    if (fm_dial_pause_lasts(pause)) {
        return;
    }
    pause->failure = *failure;
    pause->wait_ns = pause->wait_ns == 0                 ? PAUSE_FIRST_NS
                     : pause->wait_ns < PAUSE_MAX_NS / 2 ? 2 * pause->wait_ns
                                                         : PAUSE_MAX_NS;
    pause->deadline.at_ns = fm_os_now_ns() + pause->wait_ns;
    if (fm_deadlines_add(deadlines, &pause->deadline) != 0) {
        pause->wait_ns = 0;
    }
}

bool fm_dial_pause_lasts(const struct fm_dial_pause *pause)
{
    return pause->deadline.place != 0;
}

void fm_dial_pause_late(const struct fm_dial_pause *pause, struct fm_error *reterr)
{
    if (pause != NULL && fm_dial_pause_lasts(pause)) {
        (void)fm_error_set(reterr, FM_EDEADLINE, "not connected within the time limit: %.400s",
                           pause->failure.text);
    } else {
        (void)fm_error_set(reterr, FM_EDEADLINE, "no answer within the time limit");
    }
}

void fm_dial_pause_end(struct fm_dial_pause *pause, struct fm_deadlines *deadlines)
{
    fm_deadlines_remove(deadlines, &pause->deadline);
    pause->wait_ns = 0;
}
