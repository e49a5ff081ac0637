/*
 * The bytes of one connection over libuv. See stream.h.
 */
#include "host/net/stream.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/tally.h"
#include "host/net/loop.h"
#include "host/os/socket.h"

/* Encrypted and written at a time. */
#define SEAL_BYTES ((size_t)256 << 10)

static bool sealed_flush(struct fm_stream *stream);
static int seal(struct fm_stream *stream);

/* --- Reading --- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct fm_stream *stream = handle->data;
    *ret_buffer =
        uv_buf_init(stream->shared->read_buffer, (unsigned)sizeof(stream->shared->read_buffer));
}

static void end(struct fm_stream *stream, int result)
{
    if (!stream->ended && !stream->closing) {
        stream->ended = true;
        fm_stream_read_stop(stream);
        stream->events->ended(stream->context, result);
    }
}

/* Bytes of TLS: the handshake, and what is inside. */
static void unseal(struct fm_stream *stream, const char *data, size_t size)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 22\r\nConnection: close\r\n\r\n"
                               "This port speaks TLS.\n";
    bool was_ready = fm_tls_session_is_ready(stream->tls);
    int status = fm_tls_session_feed(stream->tls, data, size);
    if (status == FM_ETYPE) {
        uv_buf_t buffer = uv_buf_init((char *)text, sizeof(text) - 1);
        (void)uv_try_write(&stream->socket.stream, &buffer, 1);
    }
    if (status == 0 && !was_ready && fm_tls_session_is_ready(stream->tls) &&
        stream->events->ready != NULL) {
        stream->events->ready(stream->context);
    }
    size_t length = 1;
    while (status == 0 && length > 0 && !stream->closing && fm_tls_session_is_ready(stream->tls)) {
        char *plain = stream->shared->plain_buffer;
        status =
            fm_tls_session_read(stream->tls, plain, sizeof(stream->shared->plain_buffer), &length);
        if (status == 0 && length > 0) {
            stream->events->read(stream->context, plain, length);
        }
    }
    if (stream->closing) {
        return;
    }
    if (!sealed_flush(stream)) {
        end(stream, UV_EPIPE);
    } else if (status != 0) {
        stream->end_said = status == FM_ECANCELLED;
        end(stream, stream->end_said ? 0 : UV_EPROTO);
    }
}

static void on_read(uv_stream_t *handle, ssize_t size, const uv_buf_t *buffer)
{
    struct fm_stream *stream = handle->data;
    fm_loop_stay_awake(handle->loop->data);
    stream->shared->stats.reads++;
    fm_tally_add(FM_TALLY_READS, 1);
    if (size > 0 && !stream->closing) {
        stream->shared->stats.bytes_read += (uint64_t)size;
        if (stream->tls != NULL) {
            unseal(stream, buffer->base, (size_t)size);
        } else {
            stream->events->read(stream->context, buffer->base, (size_t)size);
        }
    } else if (size < 0) {
        end(stream, size == UV_EOF ? 0 : (int)size);
    }
}

/* --- Beginning --- */

static void init(struct fm_stream *stream, struct fm_stream_shared *shared,
                 const struct fm_stream_events *events, void *context)
{
    *stream = (struct fm_stream){.events = events, .context = context, .shared = shared};
    stream->write.data = stream;
}

static int session_open(struct fm_stream *stream)
{
    if (stream->shared->tls != NULL) {
        stream->tls = fm_tls_session_create(stream->shared->tls, stream->shared->protocol);
        return stream->tls != NULL ? 0 : UV_ENOMEM;
    }
    return 0;
}

int fm_stream_accept(struct fm_stream *stream, uv_stream_t *listener,
                     struct fm_stream_shared *shared, const struct fm_stream_events *events,
                     void *context)
{
    init(stream, shared, events, context);
    if (listener->type == UV_TCP) {
        (void)uv_tcp_init(listener->loop, &stream->socket.tcp);
    } else {
        (void)uv_pipe_init(listener->loop, &stream->socket.pipe, 0);
    }
    stream->socket.handle.data = stream;
    int result = uv_accept(listener, &stream->socket.stream);
    if (result == 0 && listener->type == UV_TCP) {
        (void)uv_tcp_nodelay(&stream->socket.tcp, 1);
    }
    return result == 0 ? session_open(stream) : result;
}

int fm_stream_open(struct fm_stream *stream, uv_loop_t *uv, int descriptor,
                   struct fm_stream_shared *shared, const struct fm_stream_events *events,
                   void *context)
{
    init(stream, shared, events, context);
    (void)uv_pipe_init(uv, &stream->socket.pipe, 0);
    stream->socket.handle.data = stream;
    return uv_pipe_open(&stream->socket.pipe, descriptor);
}

void fm_stream_init(struct fm_stream *stream, uv_loop_t *uv, bool local,
                    struct fm_stream_shared *shared, const struct fm_stream_events *events,
                    void *context)
{
    init(stream, shared, events, context);
    if (local) {
        (void)uv_pipe_init(uv, &stream->socket.pipe, 0);
    } else {
        (void)uv_tcp_init(uv, &stream->socket.tcp);
    }
    stream->socket.handle.data = stream;
}

int fm_stream_begin(struct fm_stream *stream)
{
    int result = session_open(stream);
    if (result == 0 && stream->socket.handle.type == UV_TCP) {
        (void)uv_tcp_nodelay(&stream->socket.tcp, 1);
    }
    if (result == 0 && stream->tls != NULL && fm_tls_session_start(stream->tls) != 0) {
        result = UV_EPROTO;
    } else if (result == 0 && stream->tls != NULL && !sealed_flush(stream)) {
        result = UV_EPIPE;
    }
    if (result == 0) {
        fm_stream_read_start(stream);
    }
    return result;
}

const char *fm_stream_problem(const struct fm_stream *stream)
{
    return stream->tls != NULL ? fm_tls_session_problem(stream->tls) : NULL;
}

void fm_stream_read_start(struct fm_stream *stream)
{
    if (!stream->reading && !stream->ended && !stream->closing) {
        stream->reading = uv_read_start(&stream->socket.stream, on_alloc, on_read) == 0;
    }
}

void fm_stream_read_stop(struct fm_stream *stream)
{
    if (stream->reading) {
        (void)uv_read_stop(&stream->socket.stream);
        stream->reading = false;
    }
}

/* --- The peer --- */

const struct fm_peer *fm_stream_peer(struct fm_stream *stream)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct fm_peer *peer = &stream->peer;
    struct sockaddr_storage name = {0};
    int length = sizeof(name);
    if (peer->kind != FM_PEER_UNKNOWN || stream->closing) {
        return peer;
    }
    if (stream->socket.handle.type != UV_TCP) {
        peer->kind = FM_PEER_UNIX;
    } else if (uv_tcp_getpeername(&stream->socket.tcp, (struct sockaddr *)&name, &length) == 0) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&name;
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&name;
        if (name.ss_family == AF_INET) {
            peer->kind = FM_PEER_IPV4;
            memcpy(peer->address, &ipv4->sin_addr, 4);
        } else if (memcmp(&ipv6->sin6_addr, mapped, sizeof mapped) == 0) {
            peer->kind = FM_PEER_IPV4;
            memcpy(peer->address, (const uint8_t *)&ipv6->sin6_addr + sizeof mapped, 4);
        } else {
            peer->kind = FM_PEER_IPV6;
            memcpy(peer->address, &ipv6->sin6_addr, 16);
        }
    }
    return peer;
}

int fm_stream_peer_process(const struct fm_stream *stream)
{
    uv_os_fd_t descriptor = -1;
    return stream->socket.handle.type == UV_NAMED_PIPE && !stream->closing &&
                   uv_fileno(&stream->socket.handle, &descriptor) == 0
               ? fm_socket_peer_process(descriptor)
               : 0;
}

bool fm_stream_peer_left(const struct fm_stream *stream)
{
    uv_os_fd_t descriptor = -1;
    return stream->ended || uv_fileno(&stream->socket.handle, &descriptor) != 0 ||
           fm_socket_peer_left(descriptor);
}

/* --- Writing --- */

static void on_written(uv_write_t *write, int result)
{
    struct fm_stream *stream = write->data;
    stream->queued = false;
    if (stream->tls != NULL && result == 0 && !stream->closing) {
        fm_text_clear(&stream->sealed);
        int status = seal(stream);
        if (status == FM_EAGAIN || !stream->writing) {
            return;
        }
        result = status == 0 ? 0 : UV_EPIPE;
    }
    if (stream->writing) {
        stream->writing = false;
        stream->events->written(stream->context, result);
    }
}

/* Writes what the socket takes; what it does not is waiting (FM_EAGAIN), with libuv. */
static int write_raw(struct fm_stream *stream, uv_buf_t *buffers, unsigned count)
{
    int result = uv_try_write(&stream->socket.stream, buffers, count);
    stream->shared->stats.writes++;
    fm_tally_add(FM_TALLY_WRITES, 1);
    if (result < 0 && result != UV_EAGAIN) {
        return FM_EIO;
    }
    size_t taken = result > 0 ? (size_t)result : 0;
    stream->shared->stats.bytes_written += taken;
    unsigned first = 0;
    while (first < count && taken >= buffers[first].len) {
        taken -= buffers[first].len;
        first++;
    }
    if (first == count) {
        return 0;
    }
    buffers[first].base += taken;
    buffers[first].len -= taken;
    if (uv_write(&stream->write, &stream->socket.stream, buffers + first, count - first,
                 on_written) != 0) {
        return FM_EIO;
    }
    for (unsigned i = first; i < count; i++) {
        stream->shared->stats.bytes_written += buffers[i].len;
    }
    stream->shared->stats.writes++;
    fm_tally_add(FM_TALLY_WRITES, 1);
    stream->queued = true;
    return FM_EAGAIN;
}

/* Writes what TLS has for the wire. */
static int output_write(struct fm_stream *stream)
{
    const char *data = NULL;
    size_t size = fm_tls_session_output(stream->tls, &data);
    if (size == 0) {
        return 0;
    }
    /* A copy, because TLS may have more to say while this is waiting. */
    fm_text_clear(&stream->sealed);
    fm_text_append(&stream->sealed, data, size);
    if (stream->sealed.failed) {
        return FM_ENOMEM;
    }
    fm_tls_session_output_clear(stream->tls);
    uv_buf_t buffer = {.base = stream->sealed.data, .len = size};
    return write_raw(stream, &buffer, 1);
}

/* What the handshake and alerts say, unless something is being written, which takes it along. */
static bool sealed_flush(struct fm_stream *stream)
{
    int status = stream->queued ? 0 : output_write(stream);
    return status == 0 || status == FM_EAGAIN;
}

/* Encrypts and writes a piece at a time, so that memory does not grow with the answer. */
static int seal(struct fm_stream *stream)
{
    int status = 0;
    do {
        size_t sealed = 0;
        while (status == 0 && stream->unsealed_count > 0 && sealed < SEAL_BYTES) {
            uv_buf_t *buffer = stream->unsealed;
            size_t size = buffer->len < SEAL_BYTES - sealed ? buffer->len : SEAL_BYTES - sealed;
            status = fm_tls_session_write(stream->tls, buffer->base, size);
            sealed += size;
            buffer->base += size;
            buffer->len -= size;
            if (buffer->len == 0) {
                stream->unsealed++;
                stream->unsealed_count--;
            }
        }
        status = status == 0 ? output_write(stream) : status;
    } while (status == 0 && stream->unsealed_count > 0);
    return status;
}

int fm_stream_write(struct fm_stream *stream, uv_buf_t *buffers, unsigned count)
{
    FM_ASSERT(!stream->writing && !stream->closing);
    const uint64_t before = stream->shared->stats.bytes_written;
    int status = FM_EAGAIN;
    if (stream->tls == NULL) {
        status = write_raw(stream, buffers, count);
    } else {
        stream->unsealed = buffers;
        stream->unsealed_count = count;
        /* Else the write that is waiting goes on with it. */
        status = stream->queued ? FM_EAGAIN : seal(stream);
    }
    stream->writing = status == FM_EAGAIN;
    stream->departed = stream->writing || stream->shared->stats.bytes_written != before;
    return status;
}

int fm_stream_say(struct fm_stream *stream, const char *text, size_t size)
{
    FM_ASSERT(!stream->writing && !stream->closing);
    if (stream->tls == NULL) {
        uv_buf_t buffer = {.base = (char *)text, .len = size};
        int result = uv_try_write(&stream->socket.stream, &buffer, 1);
        stream->shared->stats.writes++;
        fm_tally_add(FM_TALLY_WRITES, 1);
        /* A part of it can be neither taken back nor completed. */
        return result == UV_EAGAIN ? FM_EAGAIN : result == (int)size ? 0 : FM_EIO;
    }
    if (stream->queued) {
        return FM_EAGAIN;
    }
    int status = fm_tls_session_write(stream->tls, text, size);
    return status == 0 && sealed_flush(stream) ? 0 : FM_EIO;
}

bool fm_stream_end_was_said(const struct fm_stream *stream)
{
    return stream->ended && (stream->tls == NULL || stream->end_said);
}

bool fm_stream_is_ready(const struct fm_stream *stream)
{
    return stream->tls == NULL || fm_tls_session_is_ready(stream->tls);
}

size_t fm_stream_unwritten(const struct fm_stream *stream)
{
    size_t size = uv_stream_get_write_queue_size(&stream->socket.stream);
    for (unsigned i = 0; stream->writing && i < stream->unsealed_count; i++) {
        size += stream->unsealed[i].len;
    }
    return size;
}

static void on_shut(uv_shutdown_t *shutdown, int result)
{
    (void)shutdown;
    (void)result;
}

void fm_stream_shutdown(struct fm_stream *stream)
{
    FM_ASSERT(!stream->writing);
    if (!stream->shut && !stream->closing) {
        stream->shut = true;
        if (stream->tls != NULL) {
            fm_tls_session_end(stream->tls);
            (void)sealed_flush(stream);
        }
        /* Fails where the peer is gone, which reading tells too. */
        (void)uv_shutdown(&stream->shutdown, &stream->socket.stream, on_shut);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct fm_stream *stream = handle->data;
    fm_tls_session_destroy(stream->tls);
    stream->tls = NULL;
    fm_text_deinit(&stream->sealed);
    stream->events->closed(stream->context);
}

void fm_stream_close(struct fm_stream *stream)
{
    if (!stream->closing) {
        stream->closing = true;
        uv_close(&stream->socket.handle, on_closed);
    }
}
