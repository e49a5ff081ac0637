/*
 * The bytes of one connection over libuv. See stream.h.
 */
#include "host/net/stream.h"

#include "core/util/assert.h"

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct fm_stream *stream = handle->data;
    *ret_buffer =
        uv_buf_init(stream->shared->read_buffer, (unsigned)sizeof(stream->shared->read_buffer));
}

static void on_read(uv_stream_t *handle, ssize_t size, const uv_buf_t *buffer)
{
    struct fm_stream *stream = handle->data;
    stream->shared->stats.reads++;
    if (size > 0 && !stream->closing) {
        stream->shared->stats.bytes_read += (uint64_t)size;
        stream->events->read(stream->context, buffer->base, (size_t)size);
    } else if (size < 0 && !stream->closing && !stream->ended) {
        stream->ended = true;
        fm_stream_read_stop(stream);
        stream->events->ended(stream->context, size == UV_EOF ? 0 : (int)size);
    }
}

int fm_stream_accept(struct fm_stream *stream, uv_stream_t *listener,
                     struct fm_stream_shared *shared, const struct fm_stream_events *events,
                     void *context)
{
    *stream = (struct fm_stream){.events = events, .context = context, .shared = shared};
    if (listener->type == UV_TCP) {
        (void)uv_tcp_init(listener->loop, &stream->socket.tcp);
    } else {
        (void)uv_pipe_init(listener->loop, &stream->socket.pipe, 0);
    }
    stream->socket.handle.data = stream;
    stream->write.data = stream;
    int result = uv_accept(listener, &stream->socket.stream);
    if (result == 0 && listener->type == UV_TCP) {
        (void)uv_tcp_nodelay(&stream->socket.tcp, 1);
    }
    return result;
}

int fm_stream_open(struct fm_stream *stream, uv_loop_t *uv, int descriptor,
                   struct fm_stream_shared *shared, const struct fm_stream_events *events,
                   void *context)
{
    *stream = (struct fm_stream){.events = events, .context = context, .shared = shared};
    (void)uv_pipe_init(uv, &stream->socket.pipe, 0);
    stream->socket.handle.data = stream;
    stream->write.data = stream;
    return uv_pipe_open(&stream->socket.pipe, descriptor);
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

static void on_written(uv_write_t *write, int result)
{
    struct fm_stream *stream = write->data;
    stream->writing = false;
    stream->events->written(stream->context, result);
}

int fm_stream_write(struct fm_stream *stream, uv_buf_t *buffers, unsigned count)
{
    FM_ASSERT(!stream->writing && !stream->closing);
    int result = uv_try_write(&stream->socket.stream, buffers, count);
    stream->shared->stats.writes++;
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
    stream->writing = true;
    return FM_EAGAIN;
}

size_t fm_stream_unwritten(const struct fm_stream *stream)
{
    return uv_stream_get_write_queue_size(&stream->socket.stream);
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
        /* Fails where the peer is gone, which reading tells too. */
        (void)uv_shutdown(&stream->shutdown, &stream->socket.stream, on_shut);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct fm_stream *stream = handle->data;
    stream->events->closed(stream->context);
}

void fm_stream_close(struct fm_stream *stream)
{
    if (!stream->closing) {
        stream->closing = true;
        uv_close(&stream->socket.handle, on_closed);
    }
}
