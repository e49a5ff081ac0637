/*
 * Tests of listening on sockets that another process made: they are taken in any case, and what
 * went wrong names them.
 */
#include "host/net/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "host/net/grpc_server.h"
#include "host/net/http_server.h"
#include "host/net/loop.h"
#include "tests/harness/test.h"

static bool accept_none(void *context, uv_stream_t *handle)
{
    (void)context;
    (void)handle;
    return true;
}

static bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

static int open_and_close(struct fm_listener_options options, bool begin, struct fm_error *error)
{
    struct fm_loop *loop = NULL;
    struct fm_listener listener;
    if (fm_loop_create(&loop, NULL) != 0) {
        abort();
    }
    options.accept = accept_none;
    int status = fm_listener_open(&listener, fm_loop_uv(loop), &options, error);
    if (status == 0 && begin) {
        status = fm_listener_begin(&listener, error);
    }
    fm_listener_close(&listener);
    while (listener.handles_open > 0) {
        (void)uv_run(fm_loop_uv(loop), UV_RUN_ONCE);
    }
    fm_loop_destroy(loop);
    return status;
}

static void pair(int *ends)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        abort();
    }
}

TEST(inherited_sockets_are_closed_whatever_fails)
{
    char path[300];
    int ends[2];
    int files[2];
    struct fm_error error = {0};
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    /* TCP comes first, and fails. */
    pair(ends);
    CHECK_INT_EQ(pipe2(files, O_CLOEXEC), 0);
    CHECK_INT_NE(open_and_close((struct fm_listener_options){.inherited = files[0],
                                                             .unix_path = "/tmp/s",
                                                             .unix_inherited = ends[0]},
                                false, &error),
                 0);
    CHECK(!is_open(files[0]) && !is_open(ends[0]));
    (void)close(files[1]);
    (void)close(ends[1]);
    /* A name that is too long. */
    pair(ends);
    CHECK_INT_NE(
        open_and_close((struct fm_listener_options){.unix_path = path, .unix_inherited = ends[0]},
                       false, &error),
        0);
    CHECK(!is_open(ends[0]));
    (void)close(ends[1]);
    /* None. */
    pair(ends);
    CHECK_INT_EQ(
        open_and_close((struct fm_listener_options){.unix_inherited = ends[0]}, false, &error), 0);
    CHECK(!is_open(ends[0]));
    (void)close(ends[1]);
}

TEST(beginning_to_listen_names_the_socket_that_fails)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    char words[64];
    struct fm_error error = {0};
    /* Those that are connected cannot listen. */
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT_EQ(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_INT_EQ(listen(server, 8), 0);
    CHECK_INT_EQ(getsockname(server, (struct sockaddr *)&address, &length), 0);
    CHECK_INT_EQ(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_INT_EQ(getsockname(client, (struct sockaddr *)&address, &length), 0);
    CHECK_INT_EQ(open_and_close((struct fm_listener_options){.inherited = client, .held = true},
                                true, &error),
                 FM_EUNAVAILABLE);
    (void)snprintf(words, sizeof(words), "socket of port %u: ", (unsigned)ntohs(address.sin_port));
    CHECK_STR_CONTAINS(error.text, words);
    (void)close(server);
    int ends[2];
    pair(ends);
    CHECK_INT_EQ(open_and_close((struct fm_listener_options){.unix_path = "/tmp/some-socket",
                                                             .unix_inherited = ends[0],
                                                             .held = true},
                                true, &error),
                 FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "socket '/tmp/some-socket': ");
    (void)close(ends[1]);
}

static void http_handle(void *context, struct fm_http_request *request)
{
    (void)context;
    (void)request;
}

static void write_error(struct fm_text *text, const char *message)
{
    fm_text_append_string(text, message);
}

static void grpc_begin(void *context, struct fm_grpc_call *call)
{
    (void)context;
    (void)call;
}

static int make(struct fm_loop *loop, bool grpc, int tcp, int local)
{
    struct fm_error error = {0};
    if (grpc) {
        struct fm_grpc_options options;
        struct fm_grpc_server *server = NULL;
        fm_grpc_options_init(&options);
        options.inherited = tcp;
        options.unix_path = "/tmp/some-socket";
        options.unix_inherited = local;
        options.events.begin = grpc_begin;
        int status = fm_grpc_server_create(loop, &options, &server, &error);
        fm_grpc_server_destroy(server);
        return status;
    }
    struct fm_http_options options;
    struct fm_http_server *server = NULL;
    fm_http_options_init(&options);
    options.inherited = tcp;
    options.unix_path = "/tmp/some-socket";
    options.unix_inherited = local;
    options.handle = http_handle;
    options.write_error = write_error;
    int status = fm_http_server_create(loop, &options, &server, &error);
    fm_http_server_destroy(server);
    return status;
}

/* Every allocation fails in turn. */
TEST(servers_without_memory_close_what_they_inherit)
{
    for (int grpc = 0; grpc < 2; grpc++) {
        int status = FM_ENOMEM;
        for (uint64_t at = 1; status == FM_ENOMEM; at++) {
            struct fm_loop *loop = NULL;
            int tcp[2];
            int local[2];
            CHECK_INT_EQ(fm_loop_create(&loop, NULL), 0);
            pair(tcp);
            pair(local);
            (void)fm_memory_fail_at(at, 0);
            status = make(loop, grpc != 0, tcp[0], local[0]);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status != 0 && !is_open(tcp[0]) && !is_open(local[0]));
            (void)close(tcp[1]);
            (void)close(local[1]);
            fm_loop_destroy(loop);
        }
    }
}

TEST_MAIN()
