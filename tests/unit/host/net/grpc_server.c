/*
 * The gRPC server without a network: every allocation of a connection and its calls fails in turn.
 * What clients see is tested in tests/e2e/grpc_client.py and grpc_wire.py.
 */
#include "host/net/grpc_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "host/net/grpc_internal.h"
#include "tests/harness/test.h"

struct service {
    int begun;
    int finished;
    int messages;
    int released;
};

static const struct fm_grpc_part part = {"answer", 6};

static void release(void *context)
{
    struct service *service = context;
    service->released++;
}

static void on_begin(void *context, struct fm_grpc_call *call)
{
    struct service *service = context;
    service->begun++;
    call->user = service;
}

static void on_message(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    struct service *service = context;
    (void)buffer;
    (void)data;
    (void)size;
    service->messages++;
    const struct fm_grpc_message message = {
        .parts = &part, .part_count = 1, .compress = true, .release = release, .context = service};
    fm_grpc_send(call, &message);
}

static void finish(void *context, struct fm_grpc_call *call)
{
    struct service *service = context;
    const struct fm_grpc_trailer trailer = {"x-name", "value"};
    service->finished++;
    fm_grpc_finish(call, 5, "some words", &trailer, 1);
}

/* Two calls: a plain one, and a compressed one with two messages. */
static size_t request(char *data)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    static const char head[] =
        "\x83\x86\0\x0a:authority\1x\0\5:path\2/x\0\x0c"
        "content-type\x10"
        "application/grpc\0\x0dgrpc-encoding\4gzip\0\x14grpc-accept-encoding\4gzip";
    static const char plain[] = "\0\0\0\0\3one";
    static const char packed[] = "\x01\0\0\0\x17"
                                 "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb"
                                 "\xcf\x4b\x05\x00\xf1\x86\x6c\x7a\x03\x00\x00\x00"
                                 "\0\0\0\0\3two";
    size_t at = sizeof(preface) - 1;
    memcpy(data, preface, at);
    for (int stream = 1; stream <= 3; stream += 2) {
        const char *body = stream == 1 ? plain : packed;
        size_t size = stream == 1 ? sizeof(plain) - 1 : sizeof(packed) - 1;
        const char headers[9] = {0, 0, (char)(sizeof(head) - 1), 1, 4, 0, 0, 0, (char)stream};
        const char frame[9] = {0, 0, (char)size, 0, 1, 0, 0, 0, (char)stream};
        memcpy(data + at, headers, 9);
        memcpy(data + at + 9, head, sizeof(head) - 1);
        at += 9 + sizeof(head) - 1;
        memcpy(data + at, frame, 9);
        memcpy(data + at + 9, body, size);
        at += 9 + size;
    }
    return at;
}

/* One connection that sends the request in pieces of 100 bytes and goes. */
static void visit(struct fm_grpc_server *server)
{
    char data[1024];
    char back[16384];
    int sockets[2];
    size_t size = request(data);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
        return;
    }
    struct fm_grpc_connection *connection = fm_grpc_connection_open(server, sockets[0]);
    if (connection == NULL) {
        close(sockets[0]);
    }
    for (size_t at = 0; connection != NULL && at < size; at += 100) {
        size_t length = size - at < 100 ? size - at : 100;
        if (connection->state == FM_GRPC_OPEN) {
            connection->stream.events->read(connection, data + at, length);
            fm_grpc_connection_flush(connection);
        }
        while (recv(sockets[1], back, sizeof(back), MSG_DONTWAIT) > 0) {
        }
    }
    if (connection != NULL) {
        fm_grpc_connection_close(connection);
    }
    while (server->connections != NULL) {
        (void)uv_run(server->uv, UV_RUN_NOWAIT);
    }
    close(sockets[1]);
}

TEST(every_allocation_may_fail)
{
    struct service service = {0};
    struct fm_loop *loop = NULL;
    CHECK_INT_EQ(fm_loop_create(&loop, NULL), 0);
    struct fm_grpc_options options;
    fm_grpc_options_init(&options);
    options.context = &service;
    options.events = (struct fm_grpc_events){
        .begin = on_begin, .message = on_message, .half_closed = finish, .cancelled = finish};
    bool fired = true;
    uint64_t n = 1;
    for (; fired; n++) {
        CHECK_INT_LT(n, 500);
        /* A server of its own, so that no pool has what is to fail. */
        struct fm_grpc_server *server = NULL;
        CHECK_INT_EQ(fm_grpc_server_create(loop, &options, &server, NULL), 0);
        (void)fm_memory_fail_at(n, 0);
        visit(server);
        fired = fm_memory_fail_at(0, 0) >= n;
        CHECK_INT_EQ(service.begun, service.finished);
        CHECK_INT_EQ(service.messages, service.released);
        struct fm_grpc_stats stats;
        fm_grpc_server_stats(server, &stats);
        CHECK_INT_EQ(stats.in_flight, 0);
        CHECK_UINT_EQ(stats.message_bytes, 0);
        /* The next one is served. */
        service = (struct service){0};
        visit(server);
        CHECK_INT_EQ(service.begun, 2);
        CHECK_INT_EQ(service.finished, 2);
        CHECK_INT_EQ(service.messages, 3);
        CHECK_INT_EQ(service.released, 3);
        service = (struct service){0};
        fm_grpc_server_destroy(server);
    }
    CHECK_INT_LT(20, n);
    fm_loop_destroy(loop);
}

TEST(a_server_that_cannot_be_made)
{
    struct fm_loop *loop = NULL;
    CHECK_INT_EQ(fm_loop_create(&loop, NULL), 0);
    struct fm_grpc_options options;
    fm_grpc_options_init(&options);
    options.events.begin = on_begin;
    struct fm_grpc_server *server = NULL;
    struct fm_error error = {0};
    options.host = "256.1.1.1";
    CHECK_INT_EQ(fm_grpc_server_create(loop, &options, &server, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "256.1.1.1");
    options.host = NULL;
    options.unix_path = "/nowhere/socket";
    CHECK_INT_EQ(fm_grpc_server_create(loop, &options, &server, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "/nowhere/socket");
    fm_grpc_server_destroy(NULL);
    fm_loop_destroy(loop);
}

TEST_MAIN()
