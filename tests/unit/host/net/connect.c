/*
 * Tests of what a client connects to, and of connecting: URLs that are wrong, addresses that never
 * answer, pauses after failures. Lookups are answered here, with addresses of this machine.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static int look_up(uv_loop_t *uv, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                   const char *host, const char *port, const struct addrinfo *hints);
static void let_go(struct addrinfo *addresses);
#define uv_getaddrinfo  look_up
#define uv_freeaddrinfo let_go
#include "host/net/connect.c"
#undef uv_getaddrinfo
#undef uv_freeaddrinfo

#include "host/net/loop.h"
#include "tests/harness/test.h"

#define MILLISECOND UINT64_C(1000000)

/* --- addresses --- */

static struct sockaddr_in places[4];
static struct addrinfo infos[4];
static int place_count;

static int look_up(uv_loop_t *uv, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                   const char *host, const char *port, const struct addrinfo *hints)
{
    (void)uv;
    (void)host;
    (void)port;
    (void)hints;
    for (int i = 0; i < place_count; i++) {
        infos[i] = (struct addrinfo){.ai_addr = (struct sockaddr *)&places[i],
                                     .ai_next = i + 1 < place_count ? &infos[i + 1] : NULL};
    }
    done(request, place_count > 0 ? 0 : UV_EAI_NONAME, place_count > 0 ? infos : NULL);
    return 0;
}

static void let_go(struct addrinfo *addresses)
{
    (void)addresses;
}

static int listen_at(struct sockaddr_in *place, int backlog)
{
    socklen_t length = sizeof(*place);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *place = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (bind(listener, (struct sockaddr *)place, sizeof(*place)) != 0 ||
        listen(listener, backlog) != 0 ||
        getsockname(listener, (struct sockaddr *)place, &length) != 0) {
        abort();
    }
    return listener;
}

enum { FILLERS = 4 };

/* A listener whose queue is full: who connects hears nothing. False: it hears something here. */
static bool fill(const struct sockaddr_in *place, int *fillers)
{
    struct pollfd last = {.events = POLLOUT};
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (const struct sockaddr *)place, sizeof(*place));
    }
    last.fd = fillers[FILLERS - 1];
    return poll(&last, 1, 100) == 0;
}

static void close_all(const int *descriptors, int count)
{
    for (int i = 0; i < count; i++) {
        (void)close(descriptors[i]);
    }
}

/* --- one dial --- */

struct
try {
    struct fm_loop *loop;
    struct fm_deadlines deadlines;
    struct fm_stream_shared *shared;
    struct fm_endpoint endpoint;
    struct fm_stream stream;
    struct fm_dial dial;
    struct fm_error failure;
    int result;
    int done_count;
    bool closed;
    bool deadlines_closed;
};

static void on_done(void *context, int result)
{
    struct try *try = context;
    try->result = result;
    try->done_count++;
    if (result != 0) {
        fm_dial_failure(&try->dial, result, &try->failure);
        fm_dial_close(&try->dial);
    }
}

static void on_stream_closed(void *context)
{
    struct try *try = context;
    try->closed = fm_dial_is_over(&try->dial);
}

static void on_deadlines_closed(void *context)
{
    *(bool *)context = true;
}

static const struct fm_stream_events events = {.closed = on_stream_closed};

static void try_begin(struct try *try, uint64_t timeout_ns)
{
    *try = (struct try){.shared = calloc(1, sizeof(struct fm_stream_shared))};
    if (try->shared == NULL || fm_loop_create(&try->loop, NULL) != 0 ||
        fm_endpoint_parse("http://localhost:1", &try->endpoint, NULL) != 0) {
        abort();
    }
    uv_loop_t *uv = fm_loop_uv(try->loop);
    fm_deadlines_init(&try->deadlines, uv);
    fm_stream_init(&try->stream, uv, false, try->shared, &events, try);
    const struct fm_dial_options options = {.endpoint = &try->endpoint,
                                            .uv = uv,
                                            .deadlines = &try->deadlines,
                                            .timeout_ns = timeout_ns,
                                            .done = on_done,
                                            .context = try};
    if (fm_dial_start(&try->dial, &try->stream, &options) != 0) {
        abort();
    }
}

static void try_end(struct try *try)
{
    fm_dial_close(&try->dial);
    while (!try->closed) {
        (void)uv_run(fm_loop_uv(try->loop), UV_RUN_ONCE);
    }
    fm_deadlines_deinit(&try->deadlines, on_deadlines_closed, &try->deadlines_closed);
    while (!try->deadlines_closed) {
        (void)uv_run(fm_loop_uv(try->loop), UV_RUN_ONCE);
    }
    fm_endpoint_deinit(&try->endpoint);
    fm_loop_destroy(try->loop);
    free(try->shared);
}

static void run_until_done(struct try *try)
{
    while (try->done_count == 0) {
        (void)uv_run(fm_loop_uv(try->loop), UV_RUN_ONCE);
    }
}

TEST(an_address_that_never_answers_leaves_time_for_the_next)
{
    int fillers[FILLERS];
    int listeners[2] = {listen_at(&places[0], 0), listen_at(&places[1], 8)};
    bool silent = fill(&places[0], fillers);
    place_count = 2;
    if (silent) {
        struct try try;
        struct sockaddr_in peer = {0};
        int length = sizeof(peer);
        try_begin(&try, 2000 * MILLISECOND);
        run_until_done(&try);
        CHECK_INT_EQ(try.result, 0);
        CHECK_INT_EQ(uv_tcp_getpeername(&try.stream.socket.tcp, (struct sockaddr *)&peer, &length),
                     0);
        CHECK_UINT_EQ(peer.sin_port, places[1].sin_port);
        fm_dial_ready(&try.dial);
        try_end(&try);
        CHECK_INT_EQ(try.done_count, 1);
    }
    close_all(fillers, FILLERS);
    close_all(listeners, 2);
    if (!silent) {
        TEST_SKIP("a full queue of connections is no black hole here");
    }
}

TEST(the_limit_holds_for_all_addresses_and_for_what_follows)
{
    int fillers[FILLERS];
    int listeners[2] = {listen_at(&places[0], 0), listen_at(&places[2], 8)};
    bool silent = fill(&places[0], fillers);
    places[1] = places[0];
    if (silent) {
        struct try try;
        place_count = 2;
        try_begin(&try, 200 * MILLISECOND);
        run_until_done(&try);
        CHECK_INT_EQ(try.result, UV_ETIMEDOUT);
        CHECK_STR_EQ(try.failure.text, "cannot connect to http://localhost:1: not within 200 ms");
        try_end(&try);
        CHECK_INT_EQ(try.done_count, 1);
    }
    /* Connected, but never as good as it has to be. */
    struct try try;
    places[0] = places[2];
    place_count = 1;
    try_begin(&try, 200 * MILLISECOND);
    run_until_done(&try);
    CHECK_INT_EQ(try.result, 0);
    while (try.done_count < 2) {
        (void)uv_run(fm_loop_uv(try.loop), UV_RUN_ONCE);
    }
    CHECK_INT_EQ(try.result, UV_ETIMEDOUT);
    CHECK_STR_CONTAINS(try.failure.text, "not within 200 ms");
    try_end(&try);
    close_all(fillers, FILLERS);
    close_all(listeners, 2);
}

TEST(addresses_that_refuse_are_passed_over)
{
    struct try try;
    (void)close(listen_at(&places[0], 1));
    (void)close(listen_at(&places[1], 1));
    int listener = listen_at(&places[2], 8);
    place_count = 3;
    try_begin(&try, 60000 * MILLISECOND);
    run_until_done(&try);
    CHECK_INT_EQ(try.result, 0);
    try_end(&try);
    place_count = 2;
    try_begin(&try, 60000 * MILLISECOND);
    run_until_done(&try);
    CHECK_INT_EQ(try.result, UV_ECONNREFUSED);
    CHECK_STR_CONTAINS(try.failure.text, "connection refused");
    try_end(&try);
    place_count = 0;
    try_begin(&try, 60000 * MILLISECOND);
    CHECK_INT_EQ(try.result, UV_EAI_NONAME);
    try_end(&try);
    /* Given up in the middle. */
    place_count = 2;
    try_begin(&try, 60000 * MILLISECOND);
    try_end(&try);
    CHECK_INT_EQ(try.done_count, 0);
    (void)close(listener);
}

/* --- pauses --- */

static int pauses_over;

static void on_pause_over(struct fm_deadline *deadline)
{
    (void)deadline;
    pauses_over++;
}

TEST(pauses_grow_up_to_a_second)
{
    static const uint64_t wanted_ms[] = {20, 40, 80, 160, 320, 640, 1000, 1000};
    struct fm_loop *loop = NULL;
    struct fm_deadlines deadlines;
    struct fm_dial_pause pause = {.deadline = {.passed = on_pause_over}};
    struct fm_error failure = {FM_EUNAVAILABLE, "it is down"};
    bool closed = false;
    CHECK_INT_EQ(fm_loop_create(&loop, NULL), 0);
    fm_deadlines_init(&deadlines, fm_loop_uv(loop));
    CHECK(!fm_dial_pause_lasts(&pause));
    fm_dial_pause_begin(&pause, &deadlines, &failure);
    CHECK(fm_dial_pause_lasts(&pause));
    while (pauses_over == 0) {
        (void)uv_run(fm_loop_uv(loop), UV_RUN_ONCE);
    }
    CHECK(!fm_dial_pause_lasts(&pause));
    for (size_t i = 1; i < sizeof(wanted_ms) / sizeof(wanted_ms[0]); i++) {
        fm_dial_pause_begin(&pause, &deadlines, &failure);
        /* Several failures at once are one. */
        fm_dial_pause_begin(&pause, &deadlines, &failure);
        CHECK_UINT_EQ(pause.wait_ns, wanted_ms[i] * MILLISECOND);
        fm_deadlines_remove(&deadlines, &pause.deadline);
    }
    fm_dial_pause_begin(&pause, &deadlines, &failure);
    fm_dial_pause_end(&pause, &deadlines);
    CHECK(!fm_dial_pause_lasts(&pause));
    CHECK_UINT_EQ(pause.wait_ns, 0);
    fm_deadlines_deinit(&deadlines, on_deadlines_closed, &closed);
    while (!closed) {
        (void)uv_run(fm_loop_uv(loop), UV_RUN_ONCE);
    }
    fm_loop_destroy(loop);
}

/* --- URLs --- */

TEST(urls_with_a_password_are_not_repeated)
{
    static const char *const urls[] = {
        "ftp://localhost:secret@host",
        "http://localhost:secret@host",
        "http://localhost:se/secret@host",
        "grpc://[me:secret@host",
        "http://localhost:sec ret-secret@x",
        "grpc://host/me:secret@x",
        "http://localhost:se?secret@host",
        "me:secret@host",
        "http:///secret@",
    };
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct fm_endpoint endpoint;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_endpoint_parse(urls[i], &endpoint, &error), FM_EINVAL);
        CHECK(error.text[0] != '\0' && strstr(error.text, "secret") == NULL);
    }
    struct fm_endpoint endpoint;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_endpoint_parse("ftp://host", &endpoint, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'ftp://host' is no URL");
    CHECK_INT_EQ(fm_endpoint_parse("ftp://localhost:b@host", &endpoint, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'ftp:/"
                                   "/...' is no URL");
}

TEST(names_of_sockets_have_their_length)
{
    char url[300] = "unix:/";
    struct fm_endpoint endpoint;
    struct fm_error error = {0};
    memset(url + 6, 'x', FM_UNIX_SOCKET_PATH_MAX - 1);
    CHECK_INT_EQ(fm_endpoint_parse(url, &endpoint, &error), 0);
    CHECK_UINT_EQ(strlen(endpoint.path), FM_UNIX_SOCKET_PATH_MAX);
    fm_endpoint_deinit(&endpoint);
    url[strlen(url)] = 'x';
    CHECK_INT_EQ(fm_endpoint_parse(url, &endpoint, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "its name has 108 bytes, and a socket's may have 107");
}

TEST_MAIN()
