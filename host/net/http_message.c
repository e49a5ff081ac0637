/*
 * One HTTP request put together from the parser's pieces, and one answer written. See
 * http_internal.h.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/http_internal.h"
#include "host/os/os.h"

/* Smaller bodies fit in a packet as they are. */
#define COMPRESS_BYTES_MIN 1024u

struct fm_http_exchange *fm_http_exchange_create(struct fm_http_connection *connection)
{
    struct fm_http_server *server = connection->server;
    struct fm_http_exchange *exchange = server->exchanges;
    if (exchange != NULL) {
        server->exchanges = exchange->next;
        server->exchange_count--;
    } else {
        exchange = fm_alloc_zero(1, sizeof(*exchange));
    }
    if (exchange != NULL) {
        exchange->server = server;
        exchange->connection = connection;
    }
    return exchange;
}

static void exchange_destroy(struct fm_http_exchange *exchange)
{
    fm_free(exchange->starts);
    fm_free(exchange->headers);
    fm_text_deinit(&exchange->head);
    fm_text_deinit(&exchange->answer_head);
    fm_free(exchange);
}

void fm_http_exchanges_release(struct fm_http_server *server)
{
    while (server->exchanges != NULL) {
        struct fm_http_exchange *next = server->exchanges->next;
        exchange_destroy(server->exchanges);
        server->exchanges = next;
    }
    server->exchange_count = 0;
}

/* Keeps it for the server's next request, with the memory of its head; all else is as new. */
static void exchange_keep(struct fm_http_exchange *exchange)
{
    struct fm_http_server *server = exchange->server;
    fm_text_clear(&exchange->head);
    fm_text_clear(&exchange->answer_head);
    const struct fm_http_exchange kept = {.head = exchange->head,
                                          .answer_head = exchange->answer_head,
                                          .starts = exchange->starts,
                                          .headers = exchange->headers,
                                          .header_capacity = exchange->header_capacity,
                                          .next = server->exchanges};
    *exchange = kept;
    server->exchanges = exchange;
    server->exchange_count++;
}

void fm_http_exchange_free(struct fm_http_exchange *exchange)
{
    if (exchange == NULL) {
        return;
    }
    struct fm_http_server *server = exchange->server;
    server->body_bytes -= exchange->body_charged;
    fm_buffer_unref(exchange->request.body_buffer);
    fm_free(exchange->body);
    if (exchange->buffers != exchange->few_buffers) {
        fm_free(exchange->buffers);
    }
    fm_text_deinit(&exchange->error_body);
    fm_text_deinit(&exchange->compressed);
    if (server->exchange_count < FM_HTTP_EXCHANGES_KEPT &&
        exchange->head.capacity <= FM_HTTP_BYTES_KEPT &&
        exchange->answer_head.capacity <= FM_HTTP_BYTES_KEPT) {
        exchange_keep(exchange);
    } else {
        exchange_destroy(exchange);
    }
}

/* --- Reading --- */

static int reject(struct fm_http_connection *connection, int status, const char *reason)
{
    connection->reject_status = status;
    connection->reject_reason = reason;
    return -1;
}

static int event_begin(void *context)
{
    struct fm_http_connection *connection = context;
    FM_ASSERT(connection->exchange == NULL);
    connection->exchange = fm_http_exchange_create(connection);
    return connection->exchange != NULL ? 0 : reject(connection, 503, "out of memory");
}

/* Appends a piece of the head; a piece of another kind than the last begins a new text. */
static int head_append(struct fm_http_connection *connection, enum fm_http_piece piece,
                       const char *data, size_t length)
{
    struct fm_http_exchange *exchange = connection->exchange;
    const struct fm_http_options *options = &connection->server->options;
    /* With the NUL behind this text, and the one behind the text before it: the same sum wherever
     * the pieces were cut. */
    size_t ends = exchange->piece != (int)piece && exchange->start_count > 0 ? 2 : 1;
    if (exchange->head.length + length + ends > options->header_bytes_max) {
        return piece == FM_HTTP_PIECE_TARGET
                   ? reject(connection, 414, "the request's target is too long")
                   : reject(connection, 431, "the request's header fields are too large");
    }
    if (exchange->piece != (int)piece) {
        uint32_t max = 1 + 2 * options->header_count_max;
        if (exchange->starts == NULL) {
            exchange->starts = fm_alloc(max * sizeof(*exchange->starts));
        }
        if (exchange->start_count == max) {
            return reject(connection, 431, "the request has too many header fields");
        }
        if (exchange->starts == NULL) {
            return reject(connection, 503, "out of memory");
        }
        if (exchange->start_count > 0) {
            fm_text_append_char(&exchange->head, '\0');
        }
        exchange->starts[exchange->start_count++] = (uint32_t)exchange->head.length;
        exchange->piece = (int)piece;
    }
    fm_text_append(&exchange->head, data, length);
    return exchange->head.failed ? reject(connection, 503, "out of memory") : 0;
}

static int event_target(void *context, const char *data, size_t length)
{
    return head_append(context, FM_HTTP_PIECE_TARGET, data, length);
}

/* Trailers, which may follow a chunked body, mean nothing here. */
static int trailer_skip(struct fm_http_connection *connection, size_t length)
{
    connection->exchange->trailer_bytes += length;
    return connection->exchange->trailer_bytes <= connection->server->options.header_bytes_max
               ? 0
               : reject(connection, 431, "the request's trailer fields are too large");
}

static int event_header_name(void *context, const char *data, size_t length)
{
    struct fm_http_connection *connection = context;
    if (connection->state == FM_HTTP_BODY) {
        return trailer_skip(connection, length);
    }
    return head_append(context, FM_HTTP_PIECE_NAME, data, length);
}

static int event_header_value(void *context, const char *data, size_t length)
{
    struct fm_http_connection *connection = context;
    if (connection->state == FM_HTTP_BODY) {
        return trailer_skip(connection, length);
    }
    return head_append(context, FM_HTTP_PIECE_VALUE, data, length);
}

/* The bit of a name's first letter: the same for both cases. */
static uint32_t initial_of(const char *name)
{
    return UINT32_C(1) << ((unsigned char)name[0] & 31u);
}

/* Letters differ in one bit from their other case: most names are told apart at once. */
static inline bool name_is(const struct fm_http_header *header, const char *name)
{
    return ((header->name[0] ^ name[0]) & ~0x20) == 0 && strcasecmp(header->name, name) == 0;
}

const char *fm_http_header_find(const struct fm_http_request *request, const char *name)
{
    if ((request->header_initials & initial_of(name)) == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (name_is(&request->headers[i], name)) {
            return request->headers[i].value;
        }
    }
    return NULL;
}

static uint32_t header_count(const struct fm_http_request *request, const char *name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++) {
        count += name_is(&request->headers[i], name) ? 1 : 0;
    }
    return count;
}

/* The texts' addresses, once head does not grow any more. */
static int headers_make(struct fm_http_connection *connection)
{
    struct fm_http_exchange *exchange = connection->exchange;
    FM_ASSERT(exchange->start_count > 0);
    uint32_t count = (exchange->start_count - 1) / 2;
    if (exchange->headers == NULL || count > exchange->header_capacity) {
        fm_free(exchange->headers);
        exchange->header_capacity = count < 16 ? 16 : count;
        exchange->headers = fm_alloc(exchange->header_capacity * sizeof(*exchange->headers));
    }
    if (exchange->headers == NULL) {
        return reject(connection, 503, "out of memory");
    }
    exchange->request.header_initials = 0;
    for (uint32_t i = 0; i < count; i++) {
        exchange->headers[i].name = exchange->head.data + exchange->starts[1 + 2 * i];
        exchange->headers[i].value = exchange->head.data + exchange->starts[2 + 2 * i];
        exchange->request.header_initials |= initial_of(exchange->headers[i].name);
    }
    exchange->request.headers = exchange->headers;
    exchange->request.header_count = count;
    return 0;
}

/* The body comes in chunks, and is in no other coding inside them. */
static bool only_chunked(const struct fm_http_request *request)
{
    const char *coding = fm_http_header_find(request, "Transfer-Encoding");
    return coding != NULL && header_count(request, "Transfer-Encoding") == 1 &&
           strncasecmp(coding, "chunked", 7) == 0 && coding[7 + strspn(coding + 7, " \t")] == '\0';
}

static int event_head_complete(void *context)
{
    struct fm_http_connection *connection = context;
    struct fm_http_exchange *exchange = connection->exchange;
    const struct fm_http_options *options = &connection->server->options;
    exchange->request.method = fm_http_parser_method(connection->parser);
    exchange->is_head = strcmp(exchange->request.method, "HEAD") == 0;
    exchange->keep_alive = fm_http_parser_keep_alive(connection->parser);
    exchange->is_1_0 = fm_http_parser_is_1_0(connection->parser);
    if (headers_make(connection) != 0) {
        return -1;
    }
    if (fm_http_parser_is_chunked(connection->parser) && !only_chunked(&exchange->request)) {
        return reject(connection, 501,
                      "the only transfer coding that this server takes is "
                      "chunked; use Content-Encoding for compression");
    }
    uint64_t length = fm_http_parser_content_length(connection->parser);
    if (length > options->body_bytes_max) {
        return reject(connection, 413, "the request's body is larger than this server accepts");
    }
    const char *expect = fm_http_header_find(&exchange->request, "Expect");
    if (expect != NULL && expect[0] != '\0' && !exchange->is_1_0) {
        if (strcasecmp(expect, "100-continue") != 0) {
            return reject(connection, 417, "the only expectation that can be met is 100-continue");
        }
        if (length > 0 || fm_http_parser_is_chunked(connection->parser)) {
            /* Should the socket be full, the client goes on by itself after a while. */
            if (!fm_http_connection_continue(connection)) {
                return -1;
            }
        }
    }
    connection->state = FM_HTTP_BODY;
    connection->since_ns = uv_now(connection->server->uv) * 1000000u;
    return 0;
}

static int event_chunk(void *context)
{
    struct fm_http_connection *connection = context;
    return ++connection->exchange->chunk_count <= FM_HTTP_CHUNKS_MAX
               ? 0
               : reject(connection, 413, "the request's body comes in too many chunks");
}

/* What the body has to be moved by for the data in it to be aligned. */
static size_t body_offset(const struct fm_http_exchange *exchange)
{
    const char *name = exchange->server->options.align_header;
    const char *text = name != NULL ? fm_http_header_find(&exchange->request, name) : NULL;
    uint64_t before;
    if (text == NULL || fm_parse_uint64(text, &before) != 0) {
        return 0;
    }
    const uint64_t align = _Alignof(max_align_t);
    return (size_t)((align - before % align) % align);
}

static bool body_reserve(struct fm_http_exchange *exchange, size_t size)
{
    if (size <= exchange->body_capacity) {
        return true;
    }
    size_t capacity = exchange->body_capacity < 4096 ? 4096 : exchange->body_capacity * 2;
    /* A body whose length is known and moderate is given room at once; larger ones must first show
     * that they are coming. */
    uint64_t announced = fm_http_parser_content_length(exchange->connection->parser);
    if (exchange->body_capacity == 0 && announced <= (1u << 20)) {
        capacity = (size_t)announced;
    }
    capacity = capacity < size ? size : capacity;
    if (exchange->body_capacity == 0) {
        exchange->body_offset = body_offset(exchange);
    }
    char *body = fm_realloc(exchange->body, exchange->body_offset + capacity);
    if (body == NULL) {
        return false;
    }
    exchange->body = body;
    exchange->body_capacity = capacity;
    return true;
}

static int event_body(void *context, const char *data, size_t length)
{
    struct fm_http_connection *connection = context;
    struct fm_http_exchange *exchange = connection->exchange;
    struct fm_http_server *server = connection->server;
    if (length > server->options.body_bytes_max - exchange->body_size) {
        return reject(connection, 413, "the request's body is larger than this server accepts");
    }
    if (length > server->options.body_bytes_total_max - server->body_bytes) {
        return reject(connection, 503,
                      "the server holds as many request bytes as it may; try again later");
    }
    if (!body_reserve(exchange, exchange->body_size + length)) {
        return reject(connection, 503, "out of memory");
    }
    memcpy(exchange->body + exchange->body_offset + exchange->body_size, data, length);
    exchange->body_size += length;
    exchange->body_charged += length;
    server->body_bytes += length;
    server->stats.bytes_copied += length;
    return 0;
}

const struct fm_http_parser_events fm_http_events = {
    .begin = event_begin,
    .target = event_target,
    .header_name = event_header_name,
    .header_value = event_header_value,
    .head_complete = event_head_complete,
    .chunk = event_chunk,
    .body = event_body,
};

static void body_release(void *context)
{
    fm_free(context);
}

/* Puts what comes out of the body in its place. 0, or the status to reject with. */
static int body_decompress(struct fm_http_exchange *exchange, const char **ret_reason)
{
    struct fm_http_server *server = exchange->server;
    const char *name = fm_http_header_find(&exchange->request, "Content-Encoding");
    enum fm_compression compression =
        name != NULL ? fm_compression_parse(name, strlen(name)) : FM_COMPRESSION_IDENTITY;
    if (compression == FM_COMPRESSION_COUNT_) {
        *ret_reason = "this server takes bodies with Content-Encoding gzip, deflate or identity";
        return 415;
    }
    if (compression == FM_COMPRESSION_IDENTITY || exchange->body_size == 0) {
        return 0;
    }
    struct fm_text text = {0};
    int status = fm_decompress(compression, exchange->body + exchange->body_offset,
                               exchange->body_size, server->options.body_bytes_max, &text);
    server->body_bytes -= exchange->body_charged;
    exchange->body_charged = 0;
    int answer = 0;
    if (status == FM_ETOOLARGE) {
        *ret_reason = "the request's body is larger than this server accepts, once decompressed";
        answer = 413;
    } else if (status == FM_ENOMEM) {
        *ret_reason = "out of memory";
        answer = 503;
    } else if (status != 0) {
        *ret_reason = "the request's body is not compressed as Content-Encoding says";
        answer = 400;
    } else if (text.length > server->options.body_bytes_total_max - server->body_bytes) {
        *ret_reason = "the server holds as many request bytes as it may; try again later";
        answer = 503;
    }
    if (answer != 0) {
        fm_text_deinit(&text);
        return answer;
    }
    fm_free(exchange->body);
    exchange->body = text.data;
    exchange->body_offset = 0;
    exchange->body_size = text.length;
    exchange->body_charged = text.length;
    server->body_bytes += text.length;
    server->stats.bytes_copied += text.length;
    return 0;
}

int fm_http_exchange_complete(struct fm_http_exchange *exchange, const char **ret_reason)
{
    struct fm_http_request *request = &exchange->request;
    char *target = exchange->head.data + exchange->starts[0];
    if (target[0] != '/' && strcmp(target, "*") != 0) {
        /* The absolute form, as sent to proxies: the path begins behind the authority. */
        char *authority = strstr(target, "://");
        char *path = authority != NULL ? strchr(authority + 3, '/') : NULL;
        if (path == NULL) {
            *ret_reason = "the request's target is not a path";
            return 400;
        }
        target = path;
    }
    char *query = strchr(target, '?');
    request->path = target;
    request->query = "";
    if (query != NULL) {
        *query = '\0';
        request->query = query + 1;
    }
    if (!exchange->is_1_0 && fm_http_header_find(request, "Host") == NULL) {
        *ret_reason = "an HTTP/1.1 request needs a Host header field";
        return 400;
    }
    if (header_count(request, "Host") > 1) {
        *ret_reason = "the request has more than one Host header field";
        return 400;
    }
    int status = body_decompress(exchange, ret_reason);
    if (status != 0) {
        return status;
    }
    if (exchange->body_size > 0) {
        char *first = exchange->body + exchange->body_offset;
        request->body_buffer =
            fm_buffer_wrap(first, exchange->body_size, body_release, exchange->body);
        if (request->body_buffer == NULL) {
            *ret_reason = "out of memory";
            return 503;
        }
        request->body = first;
        request->body_size = exchange->body_size;
        exchange->body = NULL;
    }
    return 0;
}

/* --- Writing --- */

static const char *status_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {{200, "OK"},
                {204, "No Content"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {408, "Request Timeout"},
                {409, "Conflict"},
                {413, "Content Too Large"},
                {414, "URI Too Long"},
                {415, "Unsupported Media Type"},
                {417, "Expectation Failed"},
                {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"},
                {500, "Internal Server Error"},
                {501, "Not Implemented"},
                {503, "Service Unavailable"},
                {507, "Insufficient Storage"}};
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        if (rows[i].status == status) {
            return rows[i].reason;
        }
    }
    return "Unknown";
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", made once a second. */
static const char *date_now(struct fm_http_server *server)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint64_t second = fm_os_wall_ns() / 1000000000u;
    if (second != server->date_second) {
        /* "2026-01-31T12:00:00.123Z" holds all but the day of the week; 1970 began on a Thursday.
         */
        char iso[40];
        fm_os_format_time(second * 1000000000u, iso, sizeof(iso));
        unsigned month = (unsigned)(iso[5] - '0') * 10 + (unsigned)(iso[6] - '0');
        (void)snprintf(server->date, sizeof(server->date), "%s, %.2s %s %.4s %.8s GMT",
                       days[(second / 86400 + 4) % 7], iso + 8, months[(month + 11) % 12], iso,
                       iso + 11);
        server->date_second = second;
    }
    return server->date;
}

/* Without printf, which took a tenth of a small answer's time. */
static void append_number(struct fm_text *text, uint64_t value)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    fm_text_append(text, digits + at, sizeof(digits) - at);
}

static void append_field(struct fm_text *text, const char *name, const char *value)
{
    fm_text_append_string(text, name);
    fm_text_append(text, ": ", 2);
    fm_text_append_string(text, value);
    fm_text_append(text, "\r\n", 2);
}

static void write_head(struct fm_http_exchange *exchange, size_t body_size, bool close)
{
    const struct fm_http_answer *answer = &exchange->answer;
    struct fm_text *text = &exchange->answer_head;
    fm_text_append_string(text, "HTTP/1.1 ");
    append_number(text, (uint64_t)answer->status);
    fm_text_append_char(text, ' ');
    fm_text_append_string(text, status_reason(answer->status));
    append_field(text, "\r\nDate", date_now(exchange->server));
    if (answer->content_type != NULL) {
        append_field(text, "Content-Type", answer->content_type);
    }
    fm_text_append_string(text, "Content-Length: ");
    append_number(text, body_size);
    fm_text_append_string(text, "\r\n");
    if (answer->compress) {
        fm_text_append_string(text, "Vary: Accept-Encoding\r\n");
    }
    if (exchange->compression != FM_COMPRESSION_IDENTITY) {
        append_field(text, "Content-Encoding", fm_compression_name(exchange->compression));
    }
    for (uint32_t i = 0; i < answer->header_count; i++) {
        append_field(text, answer->headers[i].name, answer->headers[i].value);
    }
    if (exchange->request.answer_fields != NULL) {
        fm_text_append_string(text, exchange->request.answer_fields);
    }
    if (close) {
        fm_text_append_string(text, "Connection: close\r\n");
    } else if (exchange->is_1_0) {
        fm_text_append_string(text, "Connection: keep-alive\r\n");
    }
    fm_text_append_string(text, "\r\n");
}

/* Makes exchange->compressed where that is wanted and worth it. */
static void answer_compress(struct fm_http_exchange *exchange, size_t body_size)
{
    const struct fm_http_answer *answer = &exchange->answer;
    const char *accepted = fm_http_header_find(&exchange->request, "Accept-Encoding");
    enum fm_compression compression = fm_compression_choose(accepted);
    if (!answer->compress || body_size < COMPRESS_BYTES_MIN ||
        compression == FM_COMPRESSION_IDENTITY) {
        return;
    }
    struct fm_compressor *compressor = fm_compressor_create(compression, &exchange->compressed);
    int status = compressor != NULL ? 0 : FM_ENOMEM;
    for (uint32_t i = 0; i < answer->part_count && status == 0; i++) {
        status = fm_compressor_add(compressor, answer->parts[i].data, answer->parts[i].size);
    }
    status = status == 0 ? fm_compressor_end(compressor) : status;
    fm_compressor_destroy(compressor);
    if (status == 0 && exchange->compressed.length < body_size) {
        exchange->compression = compression;
    } else {
        /* Without memory for it, too, the body goes out as it is. */
        fm_text_deinit(&exchange->compressed);
    }
}

int fm_http_exchange_write(struct fm_http_exchange *exchange, bool close)
{
    const struct fm_http_answer *answer = &exchange->answer;
    FM_ASSERT(answer->part_count <= FM_HTTP_PARTS_MAX);
    size_t body_size = 0;
    for (uint32_t i = 0; i < answer->part_count; i++) {
        body_size += answer->parts[i].size;
    }
    answer_compress(exchange, body_size);
    bool compressed = exchange->compression != FM_COMPRESSION_IDENTITY;
    write_head(exchange, compressed ? exchange->compressed.length : body_size, close);
    exchange->buffers =
        answer->part_count < FM_HTTP_FEW_BUFFERS
            ? exchange->few_buffers
            : fm_alloc_zero((size_t)answer->part_count + 1, sizeof(*exchange->buffers));
    if (exchange->answer_head.failed || exchange->buffers == NULL) {
        return FM_ENOMEM;
    }
    unsigned count = 1;
    exchange->buffers[0] =
        (uv_buf_t){.base = exchange->answer_head.data, .len = exchange->answer_head.length};
    if (compressed && !exchange->is_head) {
        exchange->buffers[count++] =
            (uv_buf_t){.base = exchange->compressed.data, .len = exchange->compressed.length};
    }
    for (uint32_t i = 0; i < answer->part_count && !exchange->is_head && !compressed; i++) {
        if (answer->parts[i].size > 0) {
            /* libuv only reads them; its type has no const. */
            exchange->buffers[count++] = (uv_buf_t){
                .base = (char *)(uintptr_t)answer->parts[i].data, .len = answer->parts[i].size};
        }
    }
    return fm_stream_write(&exchange->connection->stream, exchange->buffers, count);
}

void fm_http_exchange_reject(struct fm_http_exchange *exchange, int status, const char *reason)
{
    const struct fm_http_options *options = &exchange->server->options;
    fm_text_clear(&exchange->error_body);
    options->write_error(&exchange->error_body, reason);
    if (exchange->error_body.failed || exchange->error_body.data == NULL) {
        fm_text_clear(&exchange->error_body);
    }
    exchange->error_part =
        (struct fm_http_part){exchange->error_body.data, exchange->error_body.length};
    exchange->answer = (struct fm_http_answer){.status = status,
                                               .content_type = options->error_type,
                                               .parts = &exchange->error_part,
                                               .part_count = 1};
    if (status == 503) {
        exchange->answer.headers[exchange->answer.header_count++] =
            (struct fm_http_header){"Retry-After", "1"};
    }
}

struct fm_peer fm_http_request_peer(const struct fm_http_request *request)
{
    const struct fm_http_exchange *exchange =
        FM_CONTAINER_OF(request, const struct fm_http_exchange, request);
    return exchange->connection != NULL ? *fm_stream_peer(&exchange->connection->stream)
                                        : (struct fm_peer){.kind = FM_PEER_UNKNOWN};
}

/* --- Answers from any thread --- */

static void answered(struct fm_loop_task *task)
{
    struct fm_http_exchange *exchange = FM_CONTAINER_OF(task, struct fm_http_exchange, answered);
    exchange->server->stats.in_flight--;
    if (exchange->connection != NULL) {
        fm_http_connection_answer(exchange->connection);
        return;
    }
    if (exchange->answer.release != NULL) {
        exchange->answer.release(exchange->answer.context);
    }
    fm_http_exchange_free(exchange);
}

void fm_http_answer(struct fm_http_request *request, const struct fm_http_answer *answer)
{
    struct fm_http_exchange *exchange = FM_CONTAINER_OF(request, struct fm_http_exchange, request);
    exchange->answer = *answer;
    exchange->answered.run = answered;
    fm_loop_post(exchange->server->loop, &exchange->answered);
}
