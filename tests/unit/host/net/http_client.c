/*
 * Tests of which connections the HTTP client uses for its calls: when others cannot be made, when
 * they are gone, when there is no memory for them. What it does with a good server is tested in
 * tests/unit/engines/client.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"

static void *alloc_zero(size_t count, size_t size);
#define fm_alloc_zero alloc_zero
#include "host/net/http_client.c"
#undef fm_alloc_zero

#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

/* --- memory --- */

static bool no_connections;

static void *alloc_zero(size_t count, size_t size)
{
    if (no_connections && size == sizeof(struct fm_http_client_connection)) {
        return NULL;
    }
    return fm_alloc_zero(count, size);
}

/* --- the server --- */

struct fake {
    int listener;
    char url[64];
    struct fm_thread thread;
    bool only_one;     /* connection; then nobody listens any more */
    bool drops_first;  /* connection, at once */
    _Atomic bool held; /* answers are held back */
    _Atomic uint32_t requests;
    _Atomic uint32_t connections; /* that came */
    _Atomic uint32_t dropped;
};

/* GETs only. */
static bool request_read(int connection)
{
    char text[4096];
    size_t size = 0;
    while (size < 4 || memcmp(text + size - 4, "\r\n\r\n", 4) != 0) {
        ssize_t got = recv(connection, text + size, sizeof(text) - size, 0);
        if (got <= 0) {
            return false;
        }
        size += (size_t)got;
    }
    return true;
}

static void fake_serve(struct fake *fake, int connection)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    while (request_read(connection)) {
        atomic_fetch_add(&fake->requests, 1);
        while (atomic_load(&fake->held)) {
            fm_sleep_until(fm_os_now_ns() + 100000);
        }
        (void)send(connection, text, sizeof(text) - 1, MSG_NOSIGNAL);
    }
}

static void fake_run(void *argument)
{
    struct fake *fake = argument;
    int connection = -1;
    while ((connection = accept(fake->listener, NULL, NULL)) >= 0) {
        if (fake->only_one) {
            (void)close(fake->listener);
            fake->listener = -1;
        }
        if (atomic_fetch_add(&fake->connections, 1) > 0 || !fake->drops_first) {
            fake_serve(fake, connection);
        }
        (void)close(connection);
        atomic_fetch_add(&fake->dropped, 1);
    }
}

static void fake_start(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    (void)signal(SIGPIPE, SIG_IGN);
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fake->listener, 8) != 0 ||
        getsockname(fake->listener, (struct sockaddr *)&address, &length) != 0 ||
        fm_thread_start(&fake->thread, "fake", fake_run, fake) != 0) {
        abort();
    }
    (void)snprintf(fake->url, sizeof(fake->url), "http://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
}

/* After the client. */
static void fake_stop(struct fake *fake)
{
    if (!fake->only_one) {
        (void)shutdown(fake->listener, SHUT_RDWR);
    }
    fm_thread_join(&fake->thread);
    if (!fake->only_one) {
        (void)close(fake->listener);
    }
}

/* --- the client, on this thread --- */

struct side {
    struct fm_loop *loop;
    struct fm_endpoint endpoint;
    struct fm_http_client *client;
    bool closed;
};

struct asked {
    struct fm_http_client_call call;
    bool is_done;
};

static void on_closed_all(void *context)
{
    *(bool *)context = true;
}

static void side_open(struct side *side, const char *url, uint32_t connections)
{
    *side = (struct side){0};
    if (fm_loop_create(&side->loop, NULL) != 0 ||
        fm_endpoint_parse(url, &side->endpoint, NULL) != 0) {
        abort();
    }
    const struct fm_http_client_options options = {.endpoint = &side->endpoint,
                                                   .connections_max = connections,
                                                   .connect_timeout_ns = 60 * SECOND,
                                                   .body_bytes_max = 1000,
                                                   .fields = ""};
    if (fm_http_client_create(side->loop, &options, &side->client, NULL) != 0) {
        abort();
    }
}

static void turn(struct side *side)
{
    (void)uv_run(fm_loop_uv(side->loop), UV_RUN_ONCE);
}

static void side_close(struct side *side)
{
    fm_http_client_close(side->client, on_closed_all, &side->closed);
    while (!side->closed) {
        turn(side);
    }
    fm_loop_destroy(side->loop);
    fm_endpoint_deinit(&side->endpoint);
}

static void on_done(struct fm_http_client_call *call)
{
    FM_CONTAINER_OF(call, struct asked, call)->is_done = true;
    fm_buffer_unref(call->body);
    call->body = NULL;
}

static void ask(struct side *side, struct asked *asked)
{
    asked->call.method = "GET";
    asked->call.target = "/";
    asked->call.done = on_done;
    fm_http_client_send(side->client, &asked->call);
}

static void wait_done(struct side *side, const struct asked *asked)
{
    while (!asked->is_done) {
        turn(side);
    }
}

TEST(calls_wait_for_a_busy_connection_when_no_other_can_be_made)
{
    struct fake fake = {.only_one = true, .held = true};
    struct side side;
    struct asked asked[3] = {0};
    fake_start(&fake);
    side_open(&side, fake.url, 2);
    ask(&side, &asked[0]);
    while (atomic_load(&fake.requests) == 0) {
        (void)uv_run(fm_loop_uv(side.loop), UV_RUN_NOWAIT);
    }
    ask(&side, &asked[1]);
    ask(&side, &asked[2]);
    while (!fm_dial_pause_lasts(&side.client->pause) && !asked[1].is_done) {
        turn(&side);
    }
    CHECK(!asked[1].is_done && !asked[2].is_done);
    atomic_store(&fake.held, false);
    for (int i = 0; i < 3; i++) {
        wait_done(&side, &asked[i]);
        CHECK_STR_EQ(asked[i].call.error.text, "");
        CHECK_INT_EQ(asked[i].call.status, 0);
    }
    side_close(&side);
    fake_stop(&fake);
    CHECK_UINT_EQ(fake.connections, 1);
}

TEST(a_connection_that_was_never_used_may_be_gone_too)
{
    struct fake fake = {.drops_first = true};
    struct side side;
    struct asked given_up = {0};
    struct asked asked = {0};
    fake_start(&fake);
    side_open(&side, fake.url, 1);
    ask(&side, &given_up);
    fm_http_client_cancel(&given_up.call, FM_ECANCELLED, "no need");
    CHECK(given_up.is_done);
    /* Connected, then gone, which the loop has not been told. */
    while (side.client->idle == NULL && atomic_load(&fake.dropped) == 0) {
        (void)uv_run(fm_loop_uv(side.loop), UV_RUN_NOWAIT);
    }
    bool idle = side.client->idle != NULL;
    while (atomic_load(&fake.dropped) == 0) {
        fm_sleep_until(fm_os_now_ns() + 100000);
    }
    ask(&side, &asked);
    wait_done(&side, &asked);
    /* No call was sent where nobody could hear it. */
    CHECK(!idle || asked.call.tries == 1);
    CHECK_STR_EQ(asked.call.error.text, "");
    side_close(&side);
    fake_stop(&fake);
    CHECK_UINT_EQ(fake.connections, 2);
}

TEST(without_memory_for_another_connection_those_that_stand_serve)
{
    struct fake fake = {.held = true};
    struct side side;
    struct asked asked[3] = {0};
    fake_start(&fake);
    side_open(&side, fake.url, 3);
    ask(&side, &asked[0]);
    while (atomic_load(&fake.requests) == 0) {
        (void)uv_run(fm_loop_uv(side.loop), UV_RUN_NOWAIT);
    }
    no_connections = true;
    ask(&side, &asked[1]);
    ask(&side, &asked[2]);
    atomic_store(&fake.held, false);
    for (int i = 0; i < 3; i++) {
        wait_done(&side, &asked[i]);
        CHECK_STR_EQ(asked[i].call.error.text, "");
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
    side_open(&side, "http://127.0.0.1:1", 4);
    for (int i = 0; i < 6; i++) {
        struct asked asked = {0};
        ask(&side, &asked);
        wait_done(&side, &asked);
        CHECK_INT_EQ(asked.call.status, FM_EUNAVAILABLE);
        CHECK_STR_CONTAINS(asked.call.error.text,
                           "cannot connect to http://127.0.0.1:1: connection refused");
    }
    /* 20 + 40 + 80 + 160 + 320 ms */
    CHECK(fm_os_now_ns() - began_ns >= 600 * (SECOND / 1000));
    /* One whose time is over in the pause. */
    struct asked asked = {.call = {.deadline_ns = fm_os_now_ns() + SECOND / 100}};
    ask(&side, &asked);
    wait_done(&side, &asked);
    CHECK_INT_EQ(asked.call.status, FM_EDEADLINE);
    CHECK_STR_EQ(asked.call.error.text,
                 "not connected within the time limit: cannot connect to http://127.0.0.1:1: "
                 "connection refused");
    side_close(&side);
}

TEST_MAIN()
