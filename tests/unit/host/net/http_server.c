/*
 * The HTTP server through real sockets: answers from this and other threads, keep-alive,
 * pipelining, chunked bodies, every limit, slow and leaving clients, drain. The server runs on a
 * thread of its own; the test is the client.
 */
#include "host/net/http_server.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

struct fixture {
    struct fm_loop *loop;
    struct fm_http_server *server;
    struct fm_thread thread;
    struct fm_loop_task task;
    void (*order)(struct fixture *fixture); /* run by task on the loop */
    struct fm_thread worker;
    struct fm_mutex mutex;
    struct fm_http_request *held[16]; /* answered when the test says so */
    int held_count;
    atomic_int cancelled;
    atomic_int drained;
    struct fm_http_stats stats;
    atomic_int stats_ready;
};

static struct fm_http_part hello = {"hello", 5};

static void unref(void *context)
{
    fm_buffer_unref(context);
}

static void on_cancelled(struct fm_http_request *request)
{
    struct fixture *fixture = request->user;
    atomic_fetch_add(&fixture->cancelled, 1);
}

static void answer_text(struct fm_http_request *request, int status)
{
    struct fm_http_answer answer = {
        .status = status, .content_type = "text/plain", .parts = &hello, .part_count = 1};
    fm_http_answer(request, &answer);
}

static void handle(void *context, struct fm_http_request *request)
{
    struct fixture *fixture = context;
    if (strcmp(request->path, "/echo") == 0) {
        /* The answer refers to the request's own bytes, which the buffer keeps. */
        static _Thread_local struct fm_http_part part;
        part = (struct fm_http_part){request->body, request->body_size};
        struct fm_http_answer answer = {.status = 200,
                                        .content_type = "application/octet-stream",
                                        .parts = &part,
                                        .part_count = 1,
                                        .compress = true};
        if (request->body_buffer != NULL) {
            answer.release = unref;
            answer.context = fm_buffer_ref(request->body_buffer);
        }
        fm_http_answer(request, &answer);
    } else if (strcmp(request->path, "/hold") == 0) {
        request->user = fixture;
        request->cancelled = on_cancelled;
        fm_mutex_lock(&fixture->mutex);
        fixture->held[fixture->held_count++] = request;
        fm_mutex_unlock(&fixture->mutex);
    } else {
        answer_text(request, strcmp(request->path, "/") == 0 ? 200 : 404);
    }
}

static void write_error(struct fm_text *text, const char *message)
{
    fm_text_append_string(text, message);
}

static void on_drained(void *context)
{
    struct fixture *fixture = context;
    atomic_store(&fixture->drained, 1);
    fm_loop_stop(fixture->loop);
}

static void run_loop(void *argument)
{
    struct fixture *fixture = argument;
    fm_loop_run(fixture->loop);
}

static void task_run(struct fm_loop_task *task)
{
    struct fixture *fixture = (struct fixture *)((char *)task - offsetof(struct fixture, task));
    fixture->order(fixture);
}

static void order(struct fixture *fixture, void (*what)(struct fixture *fixture))
{
    fixture->order = what;
    fixture->task.run = task_run;
    fm_loop_post(fixture->loop, &fixture->task);
}

static int start(struct fixture *fixture, void (*adjust)(struct fm_http_options *options))
{
    memset(fixture, 0, sizeof(*fixture));
    fm_mutex_init(&fixture->mutex);
    struct fm_http_options options;
    fm_http_options_init(&options);
    options.host = "127.0.0.1";
    options.handle = handle;
    options.write_error = write_error;
    options.drained = on_drained;
    options.context = fixture;
    if (adjust != NULL) {
        adjust(&options);
    }
    struct fm_error error = {0};
    if (fm_loop_create(&fixture->loop, &error) != 0 ||
        fm_http_server_create(fixture->loop, &options, &fixture->server, &error) != 0 ||
        fm_thread_start(&fixture->thread, "http", run_loop, fixture) != 0) {
        printf("# %s\n", error.text);
        return -1;
    }
    return 0;
}

static void order_stop(struct fixture *fixture)
{
    fm_loop_stop(fixture->loop);
}

static void stop(struct fixture *fixture)
{
    if (!atomic_load(&fixture->drained)) {
        order(fixture, order_stop);
    }
    fm_thread_join(&fixture->thread);
    fm_http_server_destroy(fixture->server);
    fm_loop_destroy(fixture->loop);
    fm_mutex_deinit(&fixture->mutex);
}

static void order_stats(struct fixture *fixture)
{
    fm_http_server_stats(fixture->server, &fixture->stats);
    atomic_store(&fixture->stats_ready, 1);
}

static struct fm_http_stats stats_get(struct fixture *fixture)
{
    atomic_store(&fixture->stats_ready, 0);
    order(fixture, order_stats);
    while (!atomic_load(&fixture->stats_ready)) {
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
    return fixture->stats;
}

static int dial(struct fixture *fixture)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fm_http_server_port(fixture->server))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client >= 0 && connect(client, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(client);
        return -1;
    }
    int on = 1;
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return client;
}

static void put_n(int client, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(client, data, length, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        data += sent;
        length -= (size_t)sent;
    }
}

static void put(int client, const char *text)
{
    put_n(client, text, strlen(text));
}

/* Reads until `text` holds `wanted`, the other side closes, or 5 s went by. Returns the text's
 * length, negative when closed. */
static ssize_t get_until(int client, const char *wanted, char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (;;) {
        if (wanted != NULL && strstr(text, wanted) != NULL) {
            return (ssize_t)length;
        }
        struct pollfd poller = {.fd = client, .events = POLLIN};
        if (length + 1 == size || poll(&poller, 1, 5000) != 1) {
            return (ssize_t)length;
        }
        ssize_t received = recv(client, text + length, size - 1 - length, 0);
        if (received <= 0) {
            return -(ssize_t)length - 1;
        }
        length += (size_t)received;
        text[length] = '\0';
    }
}

static int wait_held(struct fixture *fixture, int count)
{
    for (int i = 0; i < 5000; i++) {
        fm_mutex_lock(&fixture->mutex);
        int held = fixture->held_count;
        fm_mutex_unlock(&fixture->mutex);
        if (held >= count) {
            return 0;
        }
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
    return -1;
}

static void release_all(struct fixture *fixture)
{
    fm_mutex_lock(&fixture->mutex);
    for (int i = 0; i < fixture->held_count; i++) {
        answer_text(fixture->held[i], 200);
    }
    fixture->held_count = 0;
    fm_mutex_unlock(&fixture->mutex);
}

/* One connection: send everything, then everything that comes back until the server closes. */
static void exchange(struct fixture *fixture, const char *request, char *text, size_t size)
{
    int client = dial(fixture);
    put(client, request);
    (void)get_until(client, NULL, text, size);
    (void)close(client);
}

TEST(answers_and_keeps_the_connection)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    char text[4096];
    for (int i = 0; i < 3; i++) {
        put(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        CHECK_INT_LT(0, get_until(client, "\r\n\r\nhello", text, sizeof(text)));
        CHECK_STR_CONTAINS(text, "HTTP/1.1 200 OK\r\nDate: ");
        CHECK_STR_CONTAINS(text, "Content-Length: 5\r\n");
        CHECK(strstr(text, "Connection: close") == NULL);
    }
    put(client, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK_INT_LT(get_until(client, NULL, text, sizeof(text)), 0);
    CHECK_STR_CONTAINS(text, "Content-Length: 5\r\n");
    CHECK_STR_CONTAINS(text, "Connection: close\r\n");
    CHECK(strstr(text, "hello") == NULL);
    (void)close(client);
    CHECK_INT_EQ(stats_get(&fixture).requests, 4);
    stop(&fixture);
}

/* A small answer costs one system call, and a body one copy. */
TEST(what_a_request_costs)
{
    struct fixture fixture;
    char text[4096];
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    struct fm_http_stats before = stats_get(&fixture);
    for (int i = 0; i < 10; i++) {
        put(client, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none");
        CHECK_INT_GT(get_until(client, "\r\n\r\none", text, sizeof(text)), 0);
    }
    struct fm_http_stats after = stats_get(&fixture);
    CHECK_UINT_EQ(after.writes - before.writes, 10);
    CHECK_UINT_EQ(after.reads - before.reads, 10);
    CHECK_UINT_EQ(after.bytes_copied - before.bytes_copied, 30);
    (void)close(client);
    stop(&fixture);
}

TEST(bodies_by_length_and_in_chunks_at_every_split)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    static const char *const requests[] = {
        "POST /echo?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello "
        "\r\n5\r\nworld\r\n0\r\nTrailer: y\r\n\r\n",
    };
    for (size_t r = 0; r < 2; r++) {
        int client = dial(&fixture);
        size_t length = strlen(requests[r]);
        for (size_t split = 1; split < length; split++) {
            char text[2048];
            put_n(client, requests[r], split);
            /* Lets the pieces arrive apart, mostly. */
            fm_sleep_until(fm_os_now_ns() + 200000);
            put_n(client, requests[r] + split, length - split);
            CHECK_INT_LT(0, get_until(client, "hello world", text, sizeof(text)));
            CHECK_STR_CONTAINS(text, "Content-Length: 11\r\n");
        }
        (void)close(client);
    }
    stop(&fixture);
}

TEST(pipelined_requests_are_answered_in_order)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    put(client, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo"
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK_INT_EQ(wait_held(&fixture, 1), 0);
    release_all(&fixture);
    char text[8192];
    (void)get_until(client, NULL, text, sizeof(text));
    const char *first = strstr(text, "hello");
    const char *one = strstr(text, "one");
    const char *two = strstr(text, "two");
    CHECK(first != NULL && one != NULL && two != NULL);
    CHECK(first < one && one < two && strstr(two, "hello") != NULL);
    (void)close(client);
    stop(&fixture);
}

static void adjust_small(struct fm_http_options *options)
{
    options->header_bytes_max = 500;
    options->header_count_max = 5;
    options->body_bytes_max = 1000;
    options->body_bytes_total_max = 1500;
}

TEST(limits_have_their_answers)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, adjust_small), 0);
    char request[4096];
    char text[4096];
    char filler[2001];
    memset(filler, 'a', 2000);
    filler[2000] = '\0';
    (void)snprintf(request, sizeof(request), "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", filler);
    exchange(&fixture, request, text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 414 ");
    CHECK_STR_CONTAINS(text, "Connection: close");
    (void)snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", filler);
    exchange(&fixture, request, text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 431 ");
    exchange(&fixture, "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n\r\n",
             text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 431 ");
    exchange(&fixture, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", text,
             sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 413 ");
    (void)snprintf(request, sizeof(request),
                   "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                   "chunked\r\n\r\n7d0\r\n%s\r\n0\r\n\r\n",
                   filler);
    exchange(&fixture, request, text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 413 ");
    CHECK_INT_EQ(stats_get(&fixture).rejected, 5);
    CHECK_INT_EQ(stats_get(&fixture).requests, 0);
    stop(&fixture);
}

TEST(malformed_requests_are_refused)
{
    static const char *const bad[] = {
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/9.9.9\r\nHost: x\r\n\r\n",
    };
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[2048];
        exchange(&fixture, bad[i], text, sizeof(text));
        CHECK_STR_CONTAINS(text, "HTTP/1.1 400 ");
        CHECK_STR_CONTAINS(text, "Connection: close");
    }
    char text[2048];
    exchange(&fixture, "GET http://host:1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text,
             sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 200 ");
    exchange(&fixture, "GET / HTTP/1.0\r\n\r\n", text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 200 ");
    exchange(&fixture,
             "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n",
             text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 200 ");
    exchange(&fixture,
             "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\nhi",
             text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 417 ");
    stop(&fixture);
}

TEST(transfer_codings_beside_chunked_are_not_taken)
{
    static const struct {
        const char *fields;
        const char *code;
    } cases[] = {
        {"Transfer-Encoding: chunked", "HTTP/1.1 200 "},
        {"Transfer-Encoding: Chunked", "HTTP/1.1 200 "},
        {"Transfer-Encoding: gzip, chunked", "HTTP/1.1 501 "},
        {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "HTTP/1.1 501 "},
        {"Transfer-Encoding: gzip", "HTTP/1.1 400 "},
    };
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char request[512];
        char text[2048];
        (void)snprintf(request, sizeof(request),
                       "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n\r\n"
                       "2\r\nhi\r\n0\r\n\r\n",
                       cases[i].fields);
        exchange(&fixture, request, text, sizeof(text));
        CHECK_STR_CONTAINS(text, cases[i].code);
    }
    stop(&fixture);
}

TEST(continue_is_said_when_asked_for)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    char text[2048];
    put(client,
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    CHECK_INT_LT(0, get_until(client, "HTTP/1.1 100 Continue\r\n\r\n", text, sizeof(text)));
    put(client, "body");
    CHECK_INT_LT(0, get_until(client, "\r\n\r\nbody", text, sizeof(text)));
    (void)close(client);
    stop(&fixture);
}

TEST(a_client_that_leaves_cancels_its_request)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    put(client, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_INT_EQ(wait_held(&fixture, 1), 0);
    (void)close(client);
    for (int i = 0; i < 5000 && atomic_load(&fixture.cancelled) == 0; i++) {
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
    CHECK_INT_EQ(atomic_load(&fixture.cancelled), 1);
    release_all(&fixture);
    CHECK_INT_EQ(stats_get(&fixture).in_flight, 0);
    CHECK_INT_EQ(stats_get(&fixture).connections, 0);
    stop(&fixture);
}

TEST(a_client_that_closes_only_its_half_gets_its_answers)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int client = dial(&fixture);
    put(client, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: "
                "x\r\nContent-Length: 3\r\n\r\ntwo");
    CHECK_INT_EQ(wait_held(&fixture, 1), 0);
    (void)shutdown(client, SHUT_WR);
    fm_sleep_until(fm_os_now_ns() + 300 * 1000000);
    CHECK_INT_EQ(atomic_load(&fixture.cancelled), 0);
    release_all(&fixture);
    char text[4096];
    CHECK_INT_LT(get_until(client, NULL, text, sizeof(text)), 0);
    CHECK_STR_CONTAINS(text, "100 Continue");
    CHECK_STR_CONTAINS(text, "hello");
    CHECK_STR_CONTAINS(text, "two");
    (void)close(client);
    stop(&fixture);
}

static void adjust_fast(struct fm_http_options *options)
{
    options->header_timeout_ns = SECOND / 5;
    options->body_timeout_ns = SECOND / 5;
    options->idle_timeout_ns = SECOND / 5;
    options->connections_max = 2;
}

TEST(slow_clients_are_given_up)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, adjust_fast), 0);
    char text[2048];
    exchange(&fixture, "GET / HT", text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 408 ");
    exchange(&fixture, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", text,
             sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 408 ");
    exchange(&fixture, "", text, sizeof(text));
    CHECK_STR_EQ(text, "");
    stop(&fixture);
}

TEST(connections_are_limited)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, adjust_fast), 0);
    int first = dial(&fixture);
    int second = dial(&fixture);
    put(first, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    put(second, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_INT_EQ(wait_held(&fixture, 2), 0);
    char text[2048];
    exchange(&fixture, "", text, sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 503 ");
    CHECK_STR_CONTAINS(text, "Retry-After: 1");
    release_all(&fixture);
    CHECK_INT_LT(0, get_until(first, "hello", text, sizeof(text)));
    /* The idle ones make room. */
    exchange(&fixture, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", text,
             sizeof(text));
    CHECK_STR_CONTAINS(text, "HTTP/1.1 200 ");
    (void)close(first);
    (void)close(second);
    stop(&fixture);
}

static void order_drain(struct fixture *fixture)
{
    fm_http_server_drain(fixture->server, 50 * 1000000);
}

TEST(drain_answers_what_is_in_flight)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    int idle = dial(&fixture);
    int client = dial(&fixture);
    put(client, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_INT_EQ(wait_held(&fixture, 1), 0);
    order(&fixture, order_drain);
    char text[2048];
    CHECK_INT_LT(get_until(idle, NULL, text, sizeof(text)), 0);
    CHECK_INT_EQ(dial(&fixture), -1);
    CHECK_INT_EQ(atomic_load(&fixture.drained), 0);
    release_all(&fixture);
    CHECK_INT_LT(get_until(client, NULL, text, sizeof(text)), 0);
    CHECK_STR_CONTAINS(text, "hello");
    CHECK_STR_CONTAINS(text, "Connection: close");
    (void)close(client);
    (void)close(idle);
    fm_thread_join(&fixture.thread);
    CHECK_INT_EQ(atomic_load(&fixture.drained), 1);
    stop(&fixture);
}

static char *large;
#define LARGE_SIZE ((size_t)8 << 20)

TEST(large_bodies_go_both_ways)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    large = malloc(LARGE_SIZE);
    char *back = malloc(LARGE_SIZE + 1024);
    for (size_t i = 0; i < LARGE_SIZE; i++) {
        large[i] = (char)(i * 2654435761u >> 13);
    }
    int client = dial(&fixture);
    char head[128];
    (void)snprintf(
        head, sizeof(head),
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
        LARGE_SIZE);
    put(client, head);
    put_n(client, large, LARGE_SIZE);
    size_t length = 0;
    ssize_t received;
    while ((received = recv(client, back + length, LARGE_SIZE + 1024 - length, 0)) > 0) {
        length += (size_t)received;
    }
    CHECK(length > LARGE_SIZE);
    CHECK_MEM_EQ(back + length - LARGE_SIZE, large, LARGE_SIZE);
    (void)close(client);
    free(large);
    free(back);
    stop(&fixture);
}

static void adjust_taken(struct fm_http_options *options)
{
    options->host = "256.1.1.1";
}

TEST(addresses_that_cannot_be_used)
{
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    struct fm_http_options options;
    fm_http_options_init(&options);
    options.host = "127.0.0.1";
    options.port = fm_http_server_port(fixture.server);
    options.handle = handle;
    options.write_error = write_error;
    struct fm_loop *loop = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_loop_create(&loop, &error), 0);
    struct fm_http_server *second = NULL;
    CHECK_INT_EQ(fm_http_server_create(loop, &options, &second, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "another program uses this port");
    adjust_taken(&options);
    CHECK_INT_EQ(fm_http_server_create(loop, &options, &second, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "256.1.1.1");
    fm_loop_destroy(loop);
    stop(&fixture);
}

static char unix_path[64];

static void adjust_unix(struct fm_http_options *options)
{
    options->unix_path = unix_path;
}

/* A server takes away the name it made, and never one that somebody else put in its place. */
TEST(a_socket_of_another_stays)
{
    char folder[] = "/tmp/fermata-test-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct fixture fixture;
    struct stat before;
    struct stat after = {0};
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(unix_path, sizeof(unix_path), "%s/s", folder);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", unix_path);
    CHECK_INT_EQ(start(&fixture, adjust_unix), 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[1024];
    CHECK_INT_EQ(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    put(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_INT_GT(get_until(client, "hello", text, sizeof(text)), 0);
    (void)close(client);
    stop(&fixture);
    CHECK_INT_NE(lstat(unix_path, &before), 0);
    CHECK_INT_EQ(start(&fixture, adjust_unix), 0);
    /* Moved, so that its inode stays in use and the next one is another. */
    char aside[80];
    (void)snprintf(aside, sizeof(aside), "%s.aside", unix_path);
    CHECK_INT_EQ(rename(unix_path, aside), 0);
    int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT_EQ(bind(other, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_INT_EQ(lstat(unix_path, &before), 0);
    stop(&fixture);
    CHECK_INT_EQ(lstat(unix_path, &after), 0);
    CHECK_UINT_EQ(after.st_ino, before.st_ino);
    (void)close(other);
    (void)unlink(unix_path);
    (void)unlink(aside);
    (void)rmdir(folder);
}

/* Each allocation of a connection, a request and its answer fails in turn: the client gets an
 * answer or its connection is closed, and the next client is served. */
TEST(failed_allocations_concern_one_request)
{
    static const char request[] =
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\none";
    struct fixture fixture;
    CHECK_INT_EQ(start(&fixture, NULL), 0);
    bool fired = true;
    uint64_t n = 1;
    for (; fired; n++) {
        char text[2048];
        CHECK_INT_LT(n, 200);
        (void)fm_memory_fail_at(n, 0);
        exchange(&fixture, request, text, sizeof(text));
        fired = fm_memory_fail_at(0, 0) >= n;
        CHECK(text[0] == '\0' || strncmp(text, "HTTP/1.1 200 ", 13) == 0 ||
              strncmp(text, "HTTP/1.1 503 ", 13) == 0);
        exchange(&fixture, request, text, sizeof(text));
        CHECK_STR_CONTAINS(text, "HTTP/1.1 200 ");
    }
    CHECK_INT_LT(5, n);
    CHECK_INT_EQ(stats_get(&fixture).in_flight, 0);
    stop(&fixture);
}

TEST_MAIN()
