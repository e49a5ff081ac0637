/*
 * Tests of the gRPC client against a server that says what it is told to, frame by frame: what is
 * no gRPC, answers that end early, no memory for another connection, servers that are not there.
 * What it does with a good server is tested in tests/unit/engines/client.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"

static void *alloc_zero(size_t count, size_t size);
#define fm_alloc_zero alloc_zero
#include "host/net/grpc_client.c"
#undef fm_alloc_zero

#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

/* --- memory --- */

static bool no_connections;

static void *alloc_zero(size_t count, size_t size)
{
    if (no_connections && size == sizeof(struct fm_grpc_client_connection)) {
        return NULL;
    }
    return fm_alloc_zero(count, size);
}

/* --- the server --- */

enum { ANSWERS_MAX = 4, FRAME_HEAD = 9 };

struct fake {
    int listener;
    char url[64];
    struct fm_thread thread;
    struct fm_text answers[ANSWERS_MAX]; /* frames; each goes to the stream of its request */
    _Atomic uint32_t requests;
    _Atomic uint32_t connections;
    _Atomic int reset_code; /* of the last RST_STREAM; -1: none came */
};

static bool receive(int connection, void *data, size_t size)
{
    return size == 0 || recv(connection, data, size, MSG_WAITALL) == (ssize_t)size;
}

static void answer(struct fake *fake, int connection, const unsigned char *stream)
{
    uint32_t number = atomic_fetch_add(&fake->requests, 1);
    struct fm_text *frames = &fake->answers[number % ANSWERS_MAX];
    for (size_t at = 0; at < frames->length;) {
        unsigned char *head = (unsigned char *)frames->data + at;
        memcpy(head + 5, stream, 4);
        at += FRAME_HEAD + ((size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2]);
    }
    (void)send(connection, frames->data, frames->length, MSG_NOSIGNAL);
}

static void fake_serve(struct fake *fake, int connection)
{
    static const unsigned char settings[FRAME_HEAD] = {0, 0, 0, NGHTTP2_SETTINGS};
    static char payload[1 << 20];
    char preface[24];
    unsigned char head[FRAME_HEAD];
    (void)send(connection, settings, sizeof(settings), MSG_NOSIGNAL);
    if (!receive(connection, preface, sizeof(preface))) {
        return;
    }
    while (receive(connection, head, sizeof(head))) {
        size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (size > sizeof(payload) || !receive(connection, payload, size)) {
            return;
        }
        if (head[3] == NGHTTP2_HEADERS) {
            answer(fake, connection, head + 5);
        } else if (head[3] == NGHTTP2_RST_STREAM) {
            atomic_store(&fake->reset_code, payload[3]);
        }
    }
}

static void fake_run(void *argument)
{
    struct fake *fake = argument;
    int connection = -1;
    while ((connection = accept(fake->listener, NULL, NULL)) >= 0) {
        atomic_fetch_add(&fake->connections, 1);
        fake_serve(fake, connection);
        (void)close(connection);
    }
}

static void fake_start(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    (void)signal(SIGPIPE, SIG_IGN);
    atomic_store(&fake->reset_code, -1);
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fake->listener, 8) != 0 ||
        getsockname(fake->listener, (struct sockaddr *)&address, &length) != 0 ||
        fm_thread_start(&fake->thread, "fake", fake_run, fake) != 0) {
        abort();
    }
    (void)snprintf(fake->url, sizeof(fake->url), "grpc://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
}

/* After the client. */
static void fake_stop(struct fake *fake)
{
    (void)shutdown(fake->listener, SHUT_RDWR);
    fm_thread_join(&fake->thread);
    (void)close(fake->listener);
    for (int i = 0; i < ANSWERS_MAX; i++) {
        fm_text_deinit(&fake->answers[i]);
    }
}

static void frame_add(struct fm_text *frames, uint8_t type, uint8_t flags, const void *payload,
                      size_t size)
{
    const char head[FRAME_HEAD] = {(char)(size >> 16), (char)(size >> 8), (char)size, (char)type,
                                   (char)flags};
    fm_text_append(frames, head, sizeof(head));
    fm_text_append(frames, payload, size);
}

/* Names and values in turn, up to NULL, uncompressed. */
static void headers_add(struct fm_text *frames, bool last, const char *const *fields)
{
    struct fm_text block = {0};
    for (; *fields != NULL; fields += 2) {
        fm_text_append_char(&block, '\0');
        for (int i = 0; i < 2; i++) {
            fm_text_append_char(&block, (char)strlen(fields[i]));
            fm_text_append_string(&block, fields[i]);
        }
    }
    frame_add(frames, NGHTTP2_HEADERS,
              (uint8_t)(NGHTTP2_FLAG_END_HEADERS | (last ? NGHTTP2_FLAG_END_STREAM : 0)),
              block.data, block.length);
    fm_text_deinit(&block);
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GOOD        ":status", "200", "content-type", "application/grpc"

static void good_answer(struct fm_text *frames)
{
    headers_add(frames, false, FIELDS(GOOD));
    frame_add(frames, NGHTTP2_DATA, 0, "\0\0\0\0\2hi", 7);
    headers_add(frames, true, FIELDS("grpc-status", "0"));
}

/* --- the client, on this thread --- */

struct side {
    struct fm_loop *loop;
    struct fm_endpoint endpoint;
    struct fm_grpc_client *client;
    bool closed;
};

struct asked {
    struct fm_grpc_client_call call;
    struct fm_oip_part part;
    char said[16];
    bool is_done;
};

static void on_closed_all(void *context)
{
    *(bool *)context = true;
}

static void on_round(void *context)
{
    struct side *side = context;
    if (side->client != NULL && !side->closed) {
        fm_grpc_client_round(side->client);
    }
}

static void side_open(struct side *side, const char *url, uint32_t connections)
{
    *side = (struct side){0};
    if (fm_loop_create(&side->loop, NULL) != 0 ||
        fm_endpoint_parse(url, &side->endpoint, NULL) != 0) {
        abort();
    }
    const struct fm_grpc_client_options options = {.endpoint = &side->endpoint,
                                                   .connections_max = connections,
                                                   .retries_max = 2,
                                                   .connect_timeout_ns = 60 * SECOND,
                                                   .message_bytes_max = 1000};
    if (fm_grpc_client_create(side->loop, &options, &side->client, NULL) != 0) {
        abort();
    }
    fm_loop_each_round(side->loop, on_round, side);
}

/* Calls may end when the loop is about to wait. */
static void turn(struct side *side)
{
    (void)uv_run(fm_loop_uv(side->loop), UV_RUN_NOWAIT);
    fm_sleep_until(fm_os_now_ns() + 20000);
}

static void side_close(struct side *side)
{
    fm_grpc_client_close(side->client, on_closed_all, &side->closed);
    while (!side->closed) {
        (void)uv_run(fm_loop_uv(side->loop), UV_RUN_ONCE);
    }
    fm_loop_destroy(side->loop);
    fm_endpoint_deinit(&side->endpoint);
}

static void on_message(struct fm_grpc_client_call *call, struct fm_buffer *buffer, const char *data,
                       size_t size)
{
    struct asked *asked = FM_CONTAINER_OF(call, struct asked, call);
    (void)snprintf(asked->said, sizeof(asked->said), "%.*s", (int)size, data);
    fm_buffer_unref(buffer);
}

static void on_done(struct fm_grpc_client_call *call)
{
    FM_CONTAINER_OF(call, struct asked, call)->is_done = true;
}

static void ask(struct side *side, struct asked *asked)
{
    asked->call.path = "/a/b";
    asked->call.parts = &asked->part;
    asked->call.part_count = asked->part.size > 0 ? 1 : 0;
    asked->call.size = asked->part.size;
    asked->call.message = on_message;
    asked->call.done = on_done;
    fm_grpc_client_send(side->client, &asked->call);
}

static void wait_done(struct side *side, const struct asked *asked)
{
    while (!asked->is_done) {
        turn(side);
    }
}

TEST(what_is_no_grpc_is_not_read_as_such)
{
    const struct {
        const char *const *fields;
        const char *data; /* of 20 bytes; NULL: none */
        const char *code; /* NULL: no trailers */
        int status;
        const char *words;
    } cases[] = {
        {FIELDS(":status", "503", "content-type", "text/html"), "<html>down</html>   ", NULL,
         FM_EUNAVAILABLE, "HTTP status 503 and content type 'text/html', not with gRPC's"},
        {FIELDS(":status", "502", "content-type", "application/grpc"), "\0\0\0\0\2hi             ",
         NULL, FM_EUNAVAILABLE, "HTTP status 502"},
        {FIELDS(":status", "503"), NULL, "0", FM_EUNAVAILABLE, "HTTP status 503"},
        {FIELDS(":status", "200", "content-type", "text/plain"), "\xff\xff\xff\xffhello hello no ",
         NULL, FM_ECORRUPT, "content type 'text/plain', not with gRPC's"},
        {FIELDS(":status", "200"), "\0\0\0\0\2hi             ", "0", FM_ECORRUPT,
         "content type ''"},
        {FIELDS(":status", "404", "content-type", "text/html"), NULL, "5", FM_ENOTFOUND,
         "the server gave no reason"},
        {FIELDS(GOOD), "\0\0\0\0\40hi             ", "0", FM_ECORRUPT,
         "the last message is cut off"},
        {FIELDS(GOOD), "\0\0\0\0\17fifteen bytes a", "0", 0, ""},
        {FIELDS(GOOD), NULL, "0", FM_ECORRUPT, "no message"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake = {0};
        struct side side;
        struct asked asked = {0};
        struct fm_text *frames = &fake.answers[0];
        headers_add(frames, cases[i].data == NULL && cases[i].code == NULL, cases[i].fields);
        if (cases[i].data != NULL) {
            frame_add(frames, NGHTTP2_DATA, cases[i].code == NULL ? NGHTTP2_FLAG_END_STREAM : 0,
                      cases[i].data, 20);
        }
        if (cases[i].code != NULL) {
            headers_add(frames, true, FIELDS("grpc-status", cases[i].code));
        }
        fake_start(&fake);
        side_open(&side, fake.url, 1);
        ask(&side, &asked);
        wait_done(&side, &asked);
        side_close(&side);
        fake_stop(&fake);
        CHECK_STR_CONTAINS(asked.call.error.text, cases[i].words);
        CHECK_INT_EQ(asked.call.status, cases[i].status);
        CHECK_UINT_EQ(asked.said[0] != '\0', cases[i].status == 0);
    }
}

/* The server need not hear all that we say. */
TEST(an_answer_ends_its_call)
{
    static char large[4 << 20];
    struct fake fake = {0};
    struct side side;
    struct asked stream = {.call = {.stream = true}};
    struct asked half = {.part = {large, sizeof(large)}};
    struct asked last = {0};
    headers_add(&fake.answers[0], false, FIELDS(GOOD));
    headers_add(&fake.answers[0], true, FIELDS("grpc-status", "7", "grpc-message", "not you"));
    headers_add(&fake.answers[1], true, FIELDS(GOOD, "grpc-status", "8"));
    good_answer(&fake.answers[2]);
    fake_start(&fake);
    side_open(&side, fake.url, 1);
    ask(&side, &stream);
    wait_done(&side, &stream);
    CHECK_INT_EQ(stream.call.code, 7);
    CHECK_STR_EQ(stream.call.error.text, "not you");
    /* The window of the server is shut after 64 KiB. */
    ask(&side, &half);
    wait_done(&side, &half);
    CHECK_INT_EQ(half.call.code, 8);
    ask(&side, &last);
    wait_done(&side, &last);
    CHECK_STR_EQ(last.call.error.text, "");
    CHECK_STR_EQ(last.said, "hi");
    side_close(&side);
    fake_stop(&fake);
    CHECK_UINT_EQ(fake.connections, 1);
    CHECK_INT_EQ(fake.reset_code, NGHTTP2_NO_ERROR);
}

TEST(without_memory_for_another_connection_those_that_stand_serve)
{
    struct fake fake = {0};
    struct side side;
    struct asked asked[4] = {0};
    for (int i = 0; i < ANSWERS_MAX; i++) {
        good_answer(&fake.answers[i]);
    }
    fake_start(&fake);
    side_open(&side, fake.url, 2);
    ask(&side, &asked[0]);
    wait_done(&side, &asked[0]);
    no_connections = true;
    for (int i = 1; i < 4; i++) {
        ask(&side, &asked[i]);
    }
    for (int i = 1; i < 4; i++) {
        wait_done(&side, &asked[i]);
        CHECK_STR_EQ(asked[i].call.error.text, "");
        CHECK_STR_EQ(asked[i].said, "hi");
    }
    side_close(&side);
    fake_stop(&fake);
    CHECK_UINT_EQ(fake.connections, 1);
    /* But without any. */
    struct asked none = {0};
    side_open(&side, fake.url, 2);
    ask(&side, &none);
    wait_done(&side, &none);
    no_connections = false;
    CHECK_INT_EQ(none.call.status, FM_ENOMEM);
    side_close(&side);
}

TEST(a_server_that_is_not_there_is_left_alone_for_a_while)
{
    struct side side;
    uint64_t began_ns = fm_os_now_ns();
    side_open(&side, "grpc://127.0.0.1:1", 1);
    for (int i = 0; i < 6; i++) {
        struct asked asked = {0};
        ask(&side, &asked);
        wait_done(&side, &asked);
        CHECK_INT_EQ(asked.call.status, FM_EUNAVAILABLE);
        CHECK_STR_CONTAINS(asked.call.error.text,
                           "cannot connect to grpc://127.0.0.1:1: connection refused");
    }
    /* 20 + 40 + 80 + 160 + 320 ms */
    CHECK(fm_os_now_ns() - began_ns >= 600 * (SECOND / 1000));
    /* One whose time is over in the pause. */
    struct asked asked = {.call = {.deadline_ns = fm_os_now_ns() + SECOND / 100}};
    ask(&side, &asked);
    wait_done(&side, &asked);
    CHECK_INT_EQ(asked.call.status, FM_EDEADLINE);
    CHECK_STR_EQ(asked.call.error.text,
                 "not connected within the time limit: cannot connect to grpc://127.0.0.1:1: "
                 "connection refused");
    side_close(&side);
}

TEST_MAIN()
