/*
 * The sizes of HTTP/2's frames. See http2_frames.h.
 */
#include "host/net/http2_frames.h"

ssize_t fm_http2_read_length(nghttp2_session *session, uint8_t frame_type, int32_t stream_id,
                             int32_t connection_window, int32_t stream_window,
                             uint32_t frame_bytes_max, void *context)
{
    (void)session;
    (void)frame_type;
    (void)stream_id;
    (void)context;
    int32_t window = connection_window < stream_window ? connection_window : stream_window;
    uint32_t length =
        frame_bytes_max < FM_HTTP2_FRAME_BYTES_MAX ? frame_bytes_max : FM_HTTP2_FRAME_BYTES_MAX;
    return (uint32_t)window < length ? window : (ssize_t)length;
}
