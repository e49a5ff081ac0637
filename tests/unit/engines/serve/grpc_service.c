/*
 * gRPC's methods without memory: every allocation between a call's bytes and its answer's fails in
 * turn, also those that end the call while it is being answered. What clients see is tested in
 * tests/e2e/serve_grpc.py.
 *
 * The service has a loop without a server around it, and a connection without a network.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/net/grpc_internal.h"
#include "tests/harness/test.h"

enum { ALLOCATIONS_MAX = 500 };

static const struct fm_serve_options nothing;
static struct fm_serve serve;
static struct fm_serve_loop loop;
static struct fm_catalog_view view;

static size_t put_frame(char *data, int kind, int flags, const char *body, size_t size)
{
    const char head[9] = {0, 0, (char)size, (char)kind, (char)flags, 0, 0, 0, 1};
    memcpy(data, head, sizeof(head));
    memcpy(data + sizeof(head), body, size);
    return sizeof(head) + size;
}

/* A call with one message; `ends`: and no more. */
static size_t request(char *data, const char *path, const char *message, size_t size, bool ends)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    static const char before[] = "\x83\x86\0\x0a:authority\1x\0\5:path";
    static const char behind[] = "\0\x0c"
                                 "content-type\x10"
                                 "application/grpc";
    char fields[256];
    char prefixed[64] = {0, 0, 0, 0, (char)size};
    size_t length = strlen(path);
    size_t at = sizeof(before) - 1;
    memcpy(fields, before, at);
    fields[at++] = (char)length;
    memcpy(fields + at, path, length);
    at += length;
    memcpy(fields + at, behind, sizeof(behind) - 1);
    at += sizeof(behind) - 1;
    memcpy(prefixed + 5, message, size);
    size_t used = sizeof(preface) - 1;
    memcpy(data, preface, used);
    used += put_frame(data + used, 1, 4, fields, at);
    return used + put_frame(data + used, 0, ends ? 1 : 0, prefixed, 5 + size);
}

static void flush(struct fm_grpc_connection *connection, int socket)
{
    char back[4096];
    if (connection->state == FM_GRPC_OPEN) {
        fm_grpc_connection_flush(connection);
    }
    while (recv(socket, back, sizeof(back), MSG_DONTWAIT) > 0) {
    }
}

/* One connection that sends the request, hears what changes, and goes. */
static void visit(struct fm_grpc_server *server, const char *data, size_t size)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
        abort();
    }
    struct fm_grpc_connection *connection = fm_grpc_connection_open(server, sockets[0]);
    if (connection == NULL) {
        close(sockets[0]);
    } else {
        if (connection->state == FM_GRPC_OPEN) {
            connection->stream.events->read(connection, data, size);
        }
        flush(connection, sockets[1]);
        view.started = true;
        fm_serve_grpc_watch_round(&loop);
        flush(connection, sockets[1]);
        atomic_store(&serve.phase, FM_SERVE_ENDING);
        fm_serve_grpc_watch_round(&loop);
        flush(connection, sockets[1]);
        fm_grpc_connection_close(connection);
    }
    while (server->connections != NULL) {
        (void)uv_run(server->uv, UV_RUN_NOWAIT);
    }
    close(sockets[1]);
    view.started = false;
    atomic_store(&serve.phase, FM_SERVE_SERVING);
}

static void sweep(const char *path, const char *message, size_t message_size, bool ends)
{
    char data[1024];
    size_t size = request(data, path, message, message_size, ends);
    struct fm_grpc_options options;
    fm_grpc_options_init(&options);
    options.context = &loop;
    fm_serve_grpc_events(&options.events);
    bool fired = true;
    uint64_t n = 1;
    for (; fired; n++) {
        CHECK_INT_LT(n, ALLOCATIONS_MAX);
        /* A server of its own, so that no pool has what is to fail, nor the loop. */
        struct fm_grpc_server *server = NULL;
        struct fm_grpc_stats stats;
        CHECK_INT_EQ(fm_grpc_server_create(loop.loop, &options, &server, NULL), 0);
        (void)fm_memory_fail_at(n, 0);
        visit(server, data, size);
        fired = fm_memory_fail_at(0, 0) >= n;
        fm_grpc_server_stats(server, &stats);
        CHECK_UINT_EQ(stats.in_flight, 0);
        CHECK_UINT_EQ(fm_serve_loop_in_flight(&loop), 0);
        CHECK_PTR_EQ(loop.watching, NULL);
        CHECK_PTR_EQ(loop.streams, NULL);
        /* The next one is served. */
        visit(server, data, size);
        fm_grpc_server_stats(server, &stats);
        CHECK_UINT_EQ(stats.in_flight, 0);
        CHECK_INT_LT(0, stats.messages_received);
        CHECK_INT_LT(0, stats.messages_sent);
        fm_grpc_server_destroy(server);
        fm_serve_grpc_calls_release(&loop);
    }
    printf("# %s: %d allocations\n", path, (int)n - 1);
    CHECK_INT_LT(10, n);
}

TEST(every_allocation_may_fail)
{
    const struct fm_access_options access = {0};
    CHECK_INT_EQ(fm_access_create(&access, &serve.access, NULL), 0);
    serve.options = &nothing;
    loop.serve = &serve;
    loop.reader.view = &view;
    CHECK_INT_EQ(fm_access_seat_init(&loop.seat, serve.access, NULL), 0);
    CHECK_INT_EQ(fm_loop_create(&loop.loop, NULL), 0);
    sweep("/inference.GRPCInferenceService/ServerLive", "", 0, true);
    sweep("/grpc.health.v1.Health/Watch", "", 0, true);
    sweep("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "\x3a\1x", 3, true);
    sweep("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "\x3a\1x", 3, false);
    fm_loop_destroy(loop.loop);
    fm_access_seat_deinit(&loop.seat);
    fm_access_destroy(serve.access);
}

TEST_MAIN()
