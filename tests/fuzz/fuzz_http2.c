/*
 * Fuzzes host/net's gRPC connections: the same bytes give the same calls and messages wherever they
 * are cut, within the limits; every call that began is ended once; nothing stays behind. The first
 * byte chooses the length of the pieces. The answers go into a socket whose other end is read in
 * between.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/grpc_internal.h"
#include "tests/fuzz/check.h"

enum { MESSAGE_BYTES_MAX = 600, METADATA_BYTES_MAX = 2048, CALLS_MAX = 4096 };

static struct fm_loop *loop;
static struct fm_grpc_server *server;

/* What came out of a run of bytes. */
static struct outcome {
    uint64_t hash; /* of every message, with its call */
    uint32_t calls;
    uint32_t finished;
    uint32_t cancelled;
} outcome;

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    }
    return (hash ^ size) * UINT64_C(1099511628211);
}

static void finish(struct fm_grpc_call *call)
{
    outcome.finished++;
    fm_grpc_finish(call, 0, NULL, NULL, 0);
}

static void on_begin(void *context, struct fm_grpc_call *call)
{
    (void)context;
    outcome.calls++;
    outcome.hash = mix(outcome.hash, call->path, strlen(call->path));
    FUZZ_CHECK(fm_grpc_call_connected(call));
    FUZZ_CHECK(fm_grpc_call_metadata(call, "content-type") != NULL);
    if (fm_grpc_call_metadata(call, "x-refuse") != NULL) {
        finish(call);
    }
}

static void release(void *context)
{
    fm_free(context);
}

static void on_message(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    (void)context;
    FUZZ_CHECK(size <= MESSAGE_BYTES_MAX && !fm_fuzz_canary);
    FUZZ_CHECK((buffer != NULL) == (size > 0));
    outcome.hash = mix(outcome.hash, data, size);
    struct {
        struct fm_grpc_part parts[2];
        char bytes[MESSAGE_BYTES_MAX];
    } *answer = fm_alloc_zero(1, sizeof(*answer));
    FM_ASSERT(answer != NULL);
    memcpy(answer->bytes, data, size);
    answer->parts[0] = (struct fm_grpc_part){answer->bytes, size};
    answer->parts[1] = (struct fm_grpc_part){answer->bytes, 513};
    const struct fm_grpc_message message = {.parts = answer->parts,
                                            .part_count = 2,
                                            .compress = size % 2 == 1,
                                            .release = release,
                                            .context = answer};
    fm_grpc_send(call, &message);
    fm_grpc_handled(call);
}

static void on_half_closed(void *context, struct fm_grpc_call *call)
{
    (void)context;
    outcome.hash = mix(outcome.hash, "end", 3);
    finish(call);
}

static void on_cancelled(void *context, struct fm_grpc_call *call)
{
    (void)context;
    outcome.cancelled++;
    FUZZ_CHECK(!fm_grpc_call_connected(call));
    finish(call);
}

static void prepare(void)
{
    if (server != NULL) {
        return;
    }
    struct fm_grpc_options options;
    fm_grpc_options_init(&options);
    options.message_bytes_max = MESSAGE_BYTES_MAX;
    options.metadata_bytes_max = METADATA_BYTES_MAX;
    options.calls_max = CALLS_MAX;
    options.resets_per_second_max = UINT32_MAX;
    options.control_frames_per_second_max = UINT32_MAX;
    options.events = (struct fm_grpc_events){.begin = on_begin,
                                             .message = on_message,
                                             .half_closed = on_half_closed,
                                             .cancelled = on_cancelled};
    FUZZ_CHECK(fm_loop_create(&loop, NULL) == 0);
    FUZZ_CHECK(fm_grpc_server_create(loop, &options, &server, NULL) == 0);
}

static void drain_socket(int descriptor)
{
    char bytes[16384];
    while (recv(descriptor, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
}

/* `answering`: what is to go out goes out after each piece, not at the end. */
static struct outcome run(const uint8_t *data, size_t size, size_t first, size_t piece,
                          bool answering)
{
    int sockets[2];
    outcome = (struct outcome){.hash = UINT64_C(14695981039346656037)};
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    struct fm_grpc_connection *connection = fm_grpc_connection_open(server, sockets[0]);
    FM_ASSERT(connection != NULL);
    size_t end = first;
    for (size_t at = 0; at < size && connection->state == FM_GRPC_OPEN;) {
        size_t length = (end < size ? end : size) - at;
        /* A copy of its own, so that a look behind its end is seen. */
        char *copy = fm_alloc(length);
        FM_ASSERT(copy != NULL);
        memcpy(copy, data + at, length);
        connection->stream.events->read(connection, copy, length);
        fm_free(copy);
        at += length;
        end = at + piece;
        if (answering || at == size) {
            fm_grpc_connection_flush(connection);
            drain_socket(sockets[1]);
        }
    }
    fm_grpc_connection_close(connection);
    /* Its write, if one is waiting, and its handle. */
    while (server->connections != NULL) {
        (void)uv_run(server->uv, UV_RUN_NOWAIT);
    }
    close(sockets[1]);
    FUZZ_CHECK(outcome.finished == outcome.calls);
    FUZZ_CHECK(server->stats.in_flight == 0 && server->stats.message_bytes == 0);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    prepare();
    if (size < 2 || size > 4096) {
        return 0;
    }
    size_t piece = 1 + data[0] % 64u;
    data++;
    size--;
    struct outcome whole = run(data, size, size, size, false);
    struct outcome cut = run(data, size, 1, piece, false);
    FUZZ_CHECK(whole.calls == cut.calls && whole.hash == cut.hash);
    size_t split = 1 + (size_t)data[size - 1] * size / 256;
    cut = run(data, size, split, size, false);
    FUZZ_CHECK(whole.calls == cut.calls && whole.hash == cut.hash);
    /* When answers leave in between, streams are over sooner, and what follows may mean something
     * else. */
    (void)run(data, size, split, piece, true);
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

/* --- Seeds --- */

struct writer {
    uint8_t *data;
    size_t size;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    memcpy(writer->data + writer->size, data, size);
    writer->size += size;
}

static void put_frame(struct writer *writer, uint8_t kind, uint8_t flags, uint8_t stream,
                      const void *data, size_t size)
{
    const uint8_t head[9] = {0, (uint8_t)(size >> 8), (uint8_t)size, kind, flags, 0, 0, 0, stream};
    put(writer, head, sizeof(head));
    put(writer, data, size);
}

static void put_field(struct writer *writer, const char *name, const char *value)
{
    uint8_t length = (uint8_t)strlen(name);
    put(writer, "\0", 1);
    put(writer, &length, 1);
    put(writer, name, length);
    length = (uint8_t)strlen(value);
    put(writer, &length, 1);
    put(writer, value, length);
}

/* ":method: POST" and ":scheme: http" are in the static table. */
static void put_head(struct writer *writer, uint8_t stream, const char *name, const char *value)
{
    uint8_t bytes[512];
    struct writer block = {.data = bytes};
    put(&block, "\x83\x86", 2);
    put_field(&block, ":authority", "x");
    put_field(&block, ":path", "/a.B/C");
    put_field(&block, "te", "trailers");
    put_field(&block, "content-type", "application/grpc");
    if (name != NULL) {
        put_field(&block, name, value);
    }
    put_frame(writer, 1, 4, stream, bytes, block.size);
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const uint8_t gzip[] = {1,    0,    0,    0,    27,   0x1f, 0x8b, 8,    0,    0, 0,
                                   0,    0,    0,    3,    0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0,
                                   0x86, 0xa6, 0x10, 0x36, 5,    0,    0,    0,    0,    0};
    static const struct {
        const char *name;
        const char *value;
        uint8_t kind;
        uint8_t flags;
        const char *payload;
        size_t size;
    } seeds[] = {
        {NULL, NULL, 0, 1, "\0\0\0\0\3one\0\0\0\0\0", 13},
        {"grpc-timeout", "100m", 0, 1, "\0\0\0\0\3one", 8},
        {"grpc-encoding", "gzip", 0, 1, (const char *)gzip, sizeof(gzip)},
        {"grpc-accept-encoding", "gzip,deflate", 0, 9, "\2\0\0\0\0\1a\0\0", 9},
        {"grpc-encoding", "snappy", 0, 1, "\0\0\0\0\0", 5},
        {"x-refuse", "1", 0, 0, "\0\0\0\0\3one", 8},
        {NULL, NULL, 0, 1, "\0\0\0\xff\xff", 5},
        {NULL, NULL, 3, 0, "\0\0\0\x8", 4},
        {NULL, NULL, 8, 0, "\0\0\1\0", 4},
        {NULL, NULL, 2, 0, "\0\0\0\0\1", 5},
        {NULL, NULL, 9, 4, "\x83", 1},
        {NULL, NULL, 1, 5, "\0\1x\1y", 5},
        {NULL, NULL, 7, 0, "\0\0\0\0\0\0\0\0", 8},
    };
    if (index >= sizeof(seeds) / sizeof(seeds[0]) || capacity < 2048) {
        return 0;
    }
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct writer writer = {.data = data};
    uint8_t piece = (uint8_t)index;
    put(&writer, &piece, 1);
    put(&writer, preface, sizeof(preface) - 1);
    put_frame(&writer, 4, 0, 0, "\0\4\0\0\1\0", index % 2 == 0 ? 6 : 0);
    put_head(&writer, 1, seeds[index].name, seeds[index].value);
    put_frame(&writer, seeds[index].kind, seeds[index].flags, 1, seeds[index].payload,
              seeds[index].size);
    put_frame(&writer, 6, 0, 0, "pingpong", 8);
    put_head(&writer, 3, NULL, NULL);
    put_frame(&writer, 0, 0, 3, "\0\0\0\0\3tw", 7);
    put_frame(&writer, 0, 1, 3, "o\0\0\0\0\0", 6);
    return writer.size;
}
