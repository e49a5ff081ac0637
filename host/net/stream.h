/*
 * The bytes of one connection: reading, writing, closing.
 *
 * Owns: the libuv handle, and TLS where it is wanted. Does not own: what the bytes mean, time
 * limits, what is written. For the other files of host/net. Thread rule: the loop's thread.
 */
#ifndef FM_HOST_NET_STREAM_H
#define FM_HOST_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/util/text.h"
#include "fermata/status.h"
#include "host/net/peer.h"
#include "host/net/tls.h"

#define FM_STREAM_READ_BYTES  ((size_t)128 << 10)
#define FM_STREAM_PLAIN_BYTES ((size_t)64 << 10)

struct fm_stream_stats {
    uint64_t reads; /* system calls */
    uint64_t writes;
    uint64_t bytes_read;
    uint64_t bytes_written;
};

/* What the streams of one server share: one buffer for all, because what was read is used up before
 * the next read. */
struct fm_stream_shared {
    struct fm_stream_stats stats;
    struct fm_tls *tls;   /* NULL: without */
    const char *protocol; /* with TLS: what is spoken, for ALPN */
    char plain_buffer[FM_STREAM_PLAIN_BYTES];
    char read_buffer[FM_STREAM_READ_BYTES];
};

struct fm_stream_events {
    /* The bytes are valid during the call. */
    void (*read)(void *context, const char *data, size_t size);
    /* Results are libuv's, UV_EPIPE and the like, for uv_strerror. */
    /* Nothing more comes: the peer closed its sending half (result 0), or the connection broke. */
    void (*ended)(void *context, int result);
    /* A write that could not be done at once is done (0) or failed. Called before `closed`. */
    void (*written)(void *context, int result);
    /* The stream may be freed. */
    void (*closed)(void *context);
    /* The handshake of TLS is done. NULL: nobody asks (servers). */
    void (*ready)(void *context);
};

struct fm_stream {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_write_t write;
    uv_shutdown_t shutdown;
    const struct fm_stream_events *events;
    void *context;
    struct fm_stream_shared *shared;
    /* With TLS. */
    struct fm_tls_session *tls;
    struct fm_text sealed; /* what libuv is writing */
    uv_buf_t *unsealed;    /* what a write still has to encrypt */
    unsigned unsealed_count;
    struct fm_peer peer; /* UNKNOWN: not asked yet */
    bool reading;
    bool ended;
    bool end_said; /* the peer said so, inside TLS */
    bool writing;  /* a write of the user's is waiting */
    bool departed; /* a byte of the latest write may be with the peer, even if it failed */
    bool queued;   /* libuv has one */
    bool shut;
    bool closing;
};

/* Takes the connection that `listener` has. Not 0: there was none; fm_stream_close is due all the
 * same. */
int FM_NODISCARD fm_stream_accept(struct fm_stream *stream, uv_stream_t *listener,
                                  struct fm_stream_shared *shared,
                                  const struct fm_stream_events *events, void *context);

/* Takes a connected Unix socket instead. Not 0: it could not, and the descriptor is still the
 * caller's; fm_stream_close is due all the same. */
int FM_NODISCARD fm_stream_open(struct fm_stream *stream, uv_loop_t *uv, int descriptor,
                                struct fm_stream_shared *shared,
                                const struct fm_stream_events *events, void *context);

/* The client's side: a stream that is not connected yet (connect.h does that); fm_stream_close is
 * due. */
void fm_stream_init(struct fm_stream *stream, uv_loop_t *uv, bool local,
                    struct fm_stream_shared *shared, const struct fm_stream_events *events,
                    void *context);
/* It is connected: begins to read, and the handshake of TLS where there is one. Not 0: it cannot.
 */
int FM_NODISCARD fm_stream_begin(struct fm_stream *stream);
/* What TLS says about a connection that ended; NULL: nothing. */
const char *fm_stream_problem(const struct fm_stream *stream);

void fm_stream_read_start(struct fm_stream *stream);
void fm_stream_read_stop(struct fm_stream *stream);

/*
 * Writes all of the buffers, with one system call where the socket takes them. 0: written.
 * FM_EAGAIN: the rest is waiting; the bytes and the array are borrowed until `written`, and no
 * other write may be begun. Else the connection is broken; `departed` tells whether something had
 * left before. The array is changed.
 */
int FM_NODISCARD fm_stream_write(struct fm_stream *stream, uv_buf_t *buffers, unsigned count);
/* Writes a few bytes where all of them are taken at once, and nothing of them otherwise
 * (FM_EAGAIN). Else the connection is broken. */
int FM_NODISCARD fm_stream_say(struct fm_stream *stream, const char *text, size_t size);
/* Bytes of the present write that are waiting. */
size_t fm_stream_unwritten(const struct fm_stream *stream);

/* The peer has ended the connection, though reading may not have told yet. Asks the system. */
bool fm_stream_peer_left(const struct fm_stream *stream);

/* Asked once and remembered. An IPv4 address that came over IPv6 is one of IPv4. */
const struct fm_peer *fm_stream_peer(struct fm_stream *stream);
/* The process at the other end of a Unix socket, as the kernel says; 0: not known. */
int fm_stream_peer_process(const struct fm_stream *stream);

/* Ended, and not by somebody on the way: over TLS, the peer has said that no more comes. */
bool fm_stream_end_was_said(const struct fm_stream *stream);

/* The handshake of TLS is done, or there is none. */
bool fm_stream_is_ready(const struct fm_stream *stream);

/* Says to the peer that nothing more comes. Not while a write waits. */
void fm_stream_shutdown(struct fm_stream *stream);
/* Ends everything; `closed` follows. May be called again. */
void fm_stream_close(struct fm_stream *stream);

#endif
