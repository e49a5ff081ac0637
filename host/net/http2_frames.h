/*
 * How large the frames of HTTP/2 are, for the server and the client. Thread rule: pure functions.
 */
#ifndef FM_HOST_NET_HTTP2_FRAMES_H
#define FM_HOST_NET_HTTP2_FRAMES_H

#include <nghttp2/nghttp2.h>
#include <stdint.h>

#define FM_HTTP2_FRAME_BYTES_MAX ((uint32_t)256 << 10) /* of DATA, both ways */

/* How much the next frame of DATA may have: for nghttp2's data_source_read_length_callback, whose
 * own answer is small. */
ssize_t fm_http2_read_length(nghttp2_session *session, uint8_t frame_type, int32_t stream_id,
                             int32_t connection_window, int32_t stream_window,
                             uint32_t frame_bytes_max, void *context);

#endif
