/*
 * Fuzzes host/net's reading of requests: the same bytes give the same requests wherever they are
 * cut, within the limits, and whatever follows a refused request is never read. Without sockets but
 * the one that takes "100 Continue". The first byte chooses the length of the pieces.
 */
#include <string.h>
#include <sys/socket.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/http_internal.h"
#include "tests/fuzz/check.h"

enum { HEADER_BYTES_MAX = 512, HEADERS_MAX = 8, BODY_BYTES_MAX = 256 };

static struct fm_http_server server;
static struct fm_http_connection connection;
static uv_loop_t loop;

static void prepare(void)
{
    static int sockets[2];
    if (server.options.header_bytes_max != 0) {
        return;
    }
    fm_http_options_init(&server.options);
    server.options.header_bytes_max = HEADER_BYTES_MAX;
    server.options.header_count_max = HEADERS_MAX;
    server.options.body_bytes_max = BODY_BYTES_MAX;
    server.options.body_bytes_total_max = BODY_BYTES_MAX;
    connection.server = &server;
    /* Nobody reads the other end: once it is full, libuv says so, as with a client that is slow. */
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    FUZZ_CHECK(uv_loop_init(&loop) == 0);
    server.uv = &loop;
    FUZZ_CHECK(fm_stream_open(&connection.stream, &loop, sockets[0], &server.shared, NULL, NULL) ==
               0);
}

/* What came out of a run of bytes. */
struct outcome {
    uint64_t hash; /* of every complete request */
    uint32_t request_count;
    bool refused;
};

static void add(struct outcome *outcome, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        outcome->hash = (outcome->hash ^ (unsigned char)data[i]) * UINT64_C(1099511628211);
    }
    outcome->hash = (outcome->hash ^ 256u) * UINT64_C(1099511628211);
}

static void add_text(struct outcome *outcome, const char *text)
{
    add(outcome, text, strlen(text));
}

static void add_request(struct outcome *outcome)
{
    struct fm_http_exchange *exchange = connection.exchange;
    const struct fm_http_request *request = &exchange->request;
    const char *reason = NULL;
    if (fm_http_exchange_complete(exchange, &reason) != 0) {
        FUZZ_CHECK(reason != NULL);
        outcome->refused = true;
        return;
    }
    FUZZ_CHECK(exchange->head.length < HEADER_BYTES_MAX && !fm_fuzz_canary);
    FUZZ_CHECK(request->header_count <= HEADERS_MAX && request->body_size <= BODY_BYTES_MAX);
    FUZZ_CHECK(server.body_bytes == request->body_size);
    FUZZ_CHECK(exchange->is_1_0 || fm_http_header_find(request, "Host") != NULL);
    add_text(outcome, request->method);
    add_text(outcome, request->path);
    add_text(outcome, request->query);
    for (uint32_t i = 0; i < request->header_count; i++) {
        add_text(outcome, request->headers[i].name);
        add_text(outcome, request->headers[i].value);
    }
    if (request->body_size > 0) {
        add(outcome, request->body, request->body_size);
    }
    add_text(outcome, exchange->keep_alive ? "keep" : "close");
    outcome->request_count++;
    outcome->refused = !exchange->keep_alive;
}

static struct outcome run(const char *data, size_t size, size_t first, size_t piece)
{
    struct outcome outcome = {.hash = UINT64_C(14695981039346656037)};
    connection.state = FM_HTTP_HEAD;
    connection.parser = fm_http_parser_create(&fm_http_events, &connection);
    FM_ASSERT(connection.parser != NULL);
    size_t end = first;
    for (size_t at = 0; at < size && !outcome.refused;) {
        while (end <= at) {
            end += piece;
        }
        size_t length = (end < size ? end : size) - at;
        /* A copy of its own, so that a look behind its end is seen. */
        char *copy = fm_alloc(length);
        FM_ASSERT(copy != NULL);
        memcpy(copy, data + at, length);
        size_t used = 0;
        int status = fm_http_parser_feed(connection.parser, copy, length, &used);
        fm_free(copy);
        FUZZ_CHECK(used <= length && (status != 0 || used == length));
        at += used;
        if (status == FM_EAGAIN) {
            add_request(&outcome);
            fm_http_exchange_free(connection.exchange);
            connection.exchange = NULL;
            connection.state = FM_HTTP_HEAD;
        } else if (status != 0) {
            FUZZ_CHECK(status != FM_ECANCELLED || connection.reject_status >= 400);
            outcome.refused = true;
        }
    }
    fm_http_exchange_free(connection.exchange);
    connection.exchange = NULL;
    fm_http_parser_free(connection.parser);
    connection.parser = NULL;
    FUZZ_CHECK(server.body_bytes == 0);
    return outcome;
}

static void compare(const struct outcome *whole, const struct outcome *cut)
{
    FUZZ_CHECK(whole->request_count == cut->request_count && whole->hash == cut->hash);
    FUZZ_CHECK(whole->refused == cut->refused);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    prepare();
    if (size < 2 || size > 4096) {
        return 0;
    }
    const char *text = (const char *)data + 1;
    size--;
    struct outcome whole = run(text, size, size, size);
    struct outcome cut = run(text, size, 1, 1 + data[0] % 16u);
    compare(&whole, &cut);
    cut = run(text, size, 1, 1);
    compare(&whole, &cut);
    for (size_t split = 1; split < size && size <= 200; split++) {
        cut = run(text, size, split, size);
        compare(&whole, &cut);
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

#define POST "POST /a?b HTTP/1.1\r\nHost: x\r\n"

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const struct {
        const char *text;
        size_t length; /* 0: up to the NUL */
    } seeds[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: y\r\n\r\n", 0},
        {POST "Content-Length: 3\r\n\r\noneGET / HTTP/1.0\r\n\r\n", 0},
        {POST "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\none\r\n0\r\nT: u\r\n\r\n", 0},
        {POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 0},
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 0},
        {POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nfour", 0},
        {POST "Content-Length: +3\r\n\r\none", 0},
        {POST "Content-Length: 18446744073709551616\r\n\r\n", 0},
        {POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0},
        {POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 0},
        {POST "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 0},
        {POST "A: b\r\n c\r\n\td\r\nE:\r\nF: \r\n\r\n", 0},
        {POST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\none", 0},
        {POST "A: b\nC:d\n\nGET / HTTP/1.1\nHost: x\n\n", 0},
        {"GET / HTTP/1.1\r\nHost: "
         "x\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\nF:6\r\nG:7\r\nH:8\r\n\r\n",
         0},
        {"\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n", 0},
        {"GET http://localhost/p HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: "
         "Upgrade\r\n\r\nrest",
         0},
        {"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 29},
        {"GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n", 29},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
    };
    if (index > sizeof(seeds) / sizeof(seeds[0]) || capacity < 1024) {
        return 0;
    }
    data[0] = (uint8_t)index;
    if (index == sizeof(seeds) / sizeof(seeds[0])) {
        static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
        memcpy(data + 1, head, sizeof(head) - 1);
        memset(data + sizeof(head), 'a', 600);
        return sizeof(head) + 600;
    }
    size_t length = seeds[index].length > 0 ? seeds[index].length : strlen(seeds[index].text);
    memcpy(data + 1, seeds[index].text, length);
    return 1 + length;
}
