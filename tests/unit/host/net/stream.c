/*
 * Tests of streams with TLS, which is made up here: "plain" text goes over the wire as it is, and
 * '.' says that no more comes. What real TLS does is tested in tests/e2e/tls.py.
 */
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static int try_write(uv_stream_t *stream, const uv_buf_t *buffers, unsigned count);
#define uv_try_write try_write
#include "host/net/stream.c"
#undef uv_try_write

#include "host/net/loop.h"
#include "tests/harness/test.h"

/* --- TLS, and writes that fail --- */

struct fm_tls_session {
    struct fm_text in;
    struct fm_text out;
};

static bool start_fails;

struct fm_tls_session *fm_tls_session_create(struct fm_tls *tls, const char *protocol)
{
    (void)tls;
    (void)protocol;
    return calloc(1, sizeof(struct fm_tls_session));
}

void fm_tls_session_destroy(struct fm_tls_session *session)
{
    if (session != NULL) {
        fm_text_deinit(&session->in);
        fm_text_deinit(&session->out);
        free(session);
    }
}

int fm_tls_session_start(struct fm_tls_session *session)
{
    fm_text_append_string(&session->out, "hello");
    return start_fails ? FM_ECORRUPT : 0;
}

const char *fm_tls_session_problem(const struct fm_tls_session *session)
{
    (void)session;
    return NULL;
}

int fm_tls_session_feed(struct fm_tls_session *session, const void *data, size_t size)
{
    fm_text_append(&session->in, data, size);
    return 0;
}

bool fm_tls_session_is_ready(const struct fm_tls_session *session)
{
    (void)session;
    return true;
}

int fm_tls_session_read(struct fm_tls_session *session, void *data, size_t size_max,
                        size_t *ret_size)
{
    const char *text = session->in.data;
    size_t size = session->in.length;
    *ret_size = 0;
    if (size > 0 && text[0] == '.') {
        return FM_ECANCELLED;
    }
    while (*ret_size < size && *ret_size < size_max && text[*ret_size] != '.') {
        ++*ret_size;
    }
    if (*ret_size > 0) {
        memcpy(data, text, *ret_size);
        memmove(session->in.data, session->in.data + *ret_size, size - *ret_size);
        session->in.length -= *ret_size;
    }
    return 0;
}

int fm_tls_session_write(struct fm_tls_session *session, const void *data, size_t size)
{
    fm_text_append(&session->out, data, size);
    return session->out.failed ? FM_EIO : 0;
}

void fm_tls_session_end(struct fm_tls_session *session)
{
    fm_text_append_char(&session->out, '.');
}

size_t fm_tls_session_output(struct fm_tls_session *session, const char **ret_data)
{
    *ret_data = session->out.data;
    return session->out.length;
}

void fm_tls_session_output_clear(struct fm_tls_session *session)
{
    fm_text_clear(&session->out);
}

/* The next ones' results; 0: as they come. */
static int planned[4];

static int try_write(uv_stream_t *stream, const uv_buf_t *buffers, unsigned count)
{
    int result = planned[0];
    memmove(planned, planned + 1, sizeof(planned) - sizeof(planned[0]));
    return result != 0 ? result : uv_try_write(stream, buffers, count);
}

/* --- one stream --- */

struct side {
    struct fm_loop *loop;
    struct fm_stream_shared shared;
    struct fm_stream stream;
    int peer;
    char got[64];
    int ended;
    int end_result;
    bool end_said;
    int written;
    int write_result;
    bool closed;
};

static void on_data(void *context, const char *data, size_t size)
{
    struct side *side = context;
    strncat(side->got, data, size < 32 ? size : 32);
}

static void on_end(void *context, int result)
{
    struct side *side = context;
    side->ended++;
    side->end_result = result;
    side->end_said = fm_stream_end_was_said(&side->stream);
}

static void on_write(void *context, int result)
{
    struct side *side = context;
    side->written++;
    side->write_result = result;
}

static void on_close(void *context)
{
    ((struct side *)context)->closed = true;
}

static const struct fm_stream_events events = {
    .read = on_data, .ended = on_end, .written = on_write, .closed = on_close};

static struct side *side_open(bool tls)
{
    int ends[2];
    struct side *side = calloc(1, sizeof(*side));
    (void)signal(SIGPIPE, SIG_IGN);
    if (side == NULL || fm_loop_create(&side->loop, NULL) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        abort();
    }
    /* Only looked at for being there. */
    side->shared.tls = tls ? (struct fm_tls *)(void *)side : NULL;
    side->peer = ends[1];
    fm_stream_init(&side->stream, fm_loop_uv(side->loop), true, &side->shared, &events, side);
    if (uv_pipe_open(&side->stream.socket.pipe, ends[0]) != 0) {
        abort();
    }
    return side;
}

static void side_close(struct side *side)
{
    fm_stream_close(&side->stream);
    while (!side->closed) {
        (void)uv_run(fm_loop_uv(side->loop), UV_RUN_ONCE);
    }
    fm_loop_destroy(side->loop);
    (void)close(side->peer);
    free(side);
}

TEST(the_end_of_bytes_is_not_the_end_of_what_is_said)
{
    static const struct {
        bool tls;
        const char *text;
        bool said;
    } cases[] = {{true, "abc", false}, {true, "abc.", true}, {true, ".", true},
                 {true, "", false},    {false, "abc", true}, {false, "", true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct side *side = side_open(cases[i].tls);
        CHECK_INT_EQ(fm_stream_begin(&side->stream), 0);
        CHECK(!fm_stream_end_was_said(&side->stream));
        CHECK_INT_EQ(send(side->peer, cases[i].text, strlen(cases[i].text), MSG_NOSIGNAL),
                     (int)strlen(cases[i].text));
        CHECK_INT_EQ(shutdown(side->peer, SHUT_WR), 0);
        while (side->ended == 0) {
            (void)uv_run(fm_loop_uv(side->loop), UV_RUN_ONCE);
        }
        CHECK_INT_EQ(side->end_result, 0);
        CHECK_INT_EQ(side->end_said, cases[i].said);
        side_close(side);
    }
}

/* A write of several pieces, the second of which finds the connection broken. */
TEST(results_of_writes_are_those_of_libuv)
{
    enum { SIZE = 2 * SEAL_BYTES };
    struct side *side = side_open(true);
    char *data = calloc(1, SIZE);
    CHECK(data != NULL);
    CHECK_INT_EQ(fm_stream_begin(&side->stream), 0);
    uv_buf_t buffer = {.base = data, .len = SIZE};
    planned[0] = UV_EAGAIN;
    planned[1] = UV_ECONNRESET;
    CHECK_INT_EQ(fm_stream_write(&side->stream, &buffer, 1), FM_EAGAIN);
    while (side->written == 0) {
        char drain[4096];
        (void)uv_run(fm_loop_uv(side->loop), UV_RUN_NOWAIT);
        (void)recv(side->peer, drain, sizeof(drain), MSG_DONTWAIT);
    }
    CHECK_INT_EQ(side->write_result, UV_EPIPE);
    side_close(side);
    free(data);
}

TEST(a_handshake_that_cannot_leave_is_no_error_of_the_protocol)
{
    struct side *side = side_open(true);
    planned[0] = UV_ECONNRESET;
    CHECK_INT_EQ(fm_stream_begin(&side->stream), UV_EPIPE);
    side_close(side);
    side = side_open(true);
    start_fails = true;
    CHECK_INT_EQ(fm_stream_begin(&side->stream), UV_EPROTO);
    start_fails = false;
    side_close(side);
}

TEST_MAIN()
