/*
 * One call: its metadata and its messages, and the end of it. See grpc_internal.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/grpc_fields.h"
#include "host/net/grpc_internal.h"
#include "host/os/os.h"

#define EXCHANGES_FREE_MAX 1024u
/* A larger message must first show that it is coming. */
#define ANNOUNCED_BYTES_MAX ((size_t)1 << 20)
#define FIELDS_MAX          1024u

struct fm_grpc_exchange *fm_grpc_exchange_create(struct fm_grpc_connection *connection,
                                                 int32_t stream_id)
{
    struct fm_grpc_server *server = connection->server;
    struct fm_grpc_exchange *exchange = server->exchanges_free;
    if (exchange != NULL) {
        server->exchanges_free = exchange->next;
        server->exchanges_free_count--;
    } else {
        exchange = fm_alloc(sizeof(*exchange));
        if (exchange == NULL) {
            return NULL;
        }
    }
    memset(exchange, 0, offsetof(struct fm_grpc_exchange, fields_inline));
    exchange->server = server;
    exchange->connection = connection;
    exchange->stream_id = stream_id;
    exchange->fields = exchange->fields_inline;
    exchange->field_capacity = FM_GRPC_FIELDS_INLINE;
    exchange->waiting_end = &exchange->waiting;
    exchange->outgoing_end = &exchange->outgoing;
    exchange->next = connection->exchanges;
    if (exchange->next != NULL) {
        exchange->next->previous = exchange;
    }
    connection->exchanges = exchange;
    connection->exchange_count++;
    return exchange;
}

void fm_grpc_exchange_drop_received(struct fm_grpc_exchange *exchange)
{
    fm_free(exchange->data);
    exchange->data = NULL;
    while (exchange->waiting != NULL) {
        struct fm_grpc_incoming *incoming = exchange->waiting;
        exchange->waiting = incoming->next;
        fm_buffer_unref(incoming->buffer);
        fm_free(incoming);
    }
    exchange->waiting_end = &exchange->waiting;
    fm_free(exchange->given);
    exchange->given = NULL;
    exchange->unhandled = 0;
    exchange->server->stats.message_bytes -= exchange->charged;
    exchange->charged = 0;
}

void fm_grpc_exchange_free(struct fm_grpc_exchange *exchange)
{
    struct fm_grpc_server *server = exchange->server;
    FM_ASSERT(exchange->connection == NULL && exchange->outgoing == NULL);
    fm_grpc_exchange_drop_received(exchange);
    for (uint32_t i = 0; i < exchange->field_count; i++) {
        nghttp2_rcbuf_decref(exchange->fields[i].name);
        nghttp2_rcbuf_decref(exchange->fields[i].value);
    }
    if (exchange->fields != exchange->fields_inline) {
        fm_free(exchange->fields);
    }
    if (exchange->path != NULL) {
        nghttp2_rcbuf_decref(exchange->path);
    }
    fm_text_deinit(&exchange->status_text);
    fm_text_deinit(&exchange->trailer_text);
    if (server->exchanges_free_count < EXCHANGES_FREE_MAX) {
        exchange->next = server->exchanges_free;
        server->exchanges_free = exchange;
        server->exchanges_free_count++;
    } else {
        fm_free(exchange);
    }
}

static void tell_cancelled(struct fm_grpc_exchange *exchange)
{
    if (!exchange->begun || exchange->finished || exchange->cancelled) {
        return;
    }
    exchange->cancelled = true;
    if (exchange->server->options.events.cancelled != NULL) {
        exchange->server->options.events.cancelled(exchange->server->options.context,
                                                   &exchange->call);
    }
}

void fm_grpc_exchange_close(struct fm_grpc_exchange *exchange)
{
    struct fm_grpc_connection *connection = exchange->connection;
    fm_grpc_answer_drop(exchange);
    if (exchange->previous != NULL) {
        exchange->previous->next = exchange->next;
    } else {
        connection->exchanges = exchange->next;
    }
    if (exchange->next != NULL) {
        exchange->next->previous = exchange->previous;
    }
    connection->exchange_count--;
    if (connection->exchange_count == 0) {
        connection->idle_ns = fm_grpc_now_ns(exchange->server);
    }
    exchange->connection = NULL;
    if (!exchange->begun || exchange->finished) {
        fm_grpc_exchange_free(exchange);
        return;
    }
    if (!exchange->ended) {
        exchange->server->stats.cancelled++;
    }
    tell_cancelled(exchange);
}

void fm_grpc_exchange_fail(struct fm_grpc_exchange *exchange, int code, const char *format, ...)
{
    if (exchange->ended || exchange->connection == NULL) {
        return;
    }
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    exchange->ended = true;
    exchange->code = code;
    exchange->server->stats.rejected++;
    fm_grpc_message_encode(&exchange->status_text, message, FM_GRPC_MESSAGE_TEXT_MAX);
    fm_grpc_answer_end(exchange);
    tell_cancelled(exchange);
}

/* --- Metadata --- */

static bool fields_grow(struct fm_grpc_exchange *exchange)
{
    uint32_t capacity = exchange->field_capacity * 4;
    struct fm_grpc_field *fields = fm_alloc(capacity * sizeof(*fields));
    if (fields == NULL) {
        return false;
    }
    memcpy(fields, exchange->fields, exchange->field_count * sizeof(*fields));
    if (exchange->fields != exchange->fields_inline) {
        fm_free(exchange->fields);
    }
    exchange->fields = fields;
    exchange->field_capacity = capacity;
    return true;
}

#define IS(text) (name.len == sizeof(text) - 1 && memcmp(name.base, (text), sizeof(text) - 1) == 0)

static bool pseudo_field(struct fm_grpc_exchange *exchange, nghttp2_vec name, nghttp2_rcbuf *value)
{
    nghttp2_vec text = nghttp2_rcbuf_get_buf(value);
    if (IS(":path")) {
        nghttp2_rcbuf_incref(value);
        exchange->path = value;
        exchange->call.path = (const char *)text.base;
    } else if (IS(":method")) {
        exchange->is_post = text.len == 4 && memcmp(text.base, "POST", 4) == 0;
    } else if (!IS(":scheme") && !IS(":authority")) {
        return false;
    }
    return true;
}

int fm_grpc_exchange_field(struct fm_grpc_exchange *exchange, nghttp2_rcbuf *name_buffer,
                           nghttp2_rcbuf *value_buffer)
{
    nghttp2_vec name = nghttp2_rcbuf_get_buf(name_buffer);
    nghttp2_vec value = nghttp2_rcbuf_get_buf(value_buffer);
    size_t bytes_max = exchange->server->options.metadata_bytes_max;
    exchange->field_bytes += name.len + value.len + 32;
    if (exchange->field_bytes > bytes_max) {
        /* A little too much is refused in words; a bomb ends the connection. */
        return exchange->field_bytes > bytes_max * 4 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    if (name.len > 0 && name.base[0] == ':' && pseudo_field(exchange, name, value_buffer)) {
        return 0;
    }
    if (exchange->field_count == exchange->field_capacity &&
        (exchange->field_count >= FIELDS_MAX || !fields_grow(exchange))) {
        exchange->field_bytes = bytes_max + 1;
        return 0;
    }
    nghttp2_rcbuf_incref(name_buffer);
    nghttp2_rcbuf_incref(value_buffer);
    exchange->fields[exchange->field_count++] =
        (struct fm_grpc_field){.name = name_buffer, .value = value_buffer};
    const char *text = (const char *)value.base;
    if (IS("content-type")) {
        exchange->content_type = text;
    } else if (IS("grpc-timeout")) {
        exchange->timeout = text;
    } else if (IS("grpc-encoding")) {
        exchange->encoding_name = text;
    } else if (IS("grpc-accept-encoding")) {
        exchange->accept_encoding = text;
    }
    return 0;
}

const char *fm_grpc_call_metadata(const struct fm_grpc_call *call, const char *wanted)
{
    const struct fm_grpc_exchange *exchange = (const struct fm_grpc_exchange *)call;
    size_t length = strlen(wanted);
    for (uint32_t i = 0; i < exchange->field_count; i++) {
        nghttp2_vec name = nghttp2_rcbuf_get_buf(exchange->fields[i].name);
        if (name.len == length && memcmp(name.base, wanted, length) == 0) {
            return (const char *)nghttp2_rcbuf_get_buf(exchange->fields[i].value).base;
        }
    }
    return NULL;
}

bool fm_grpc_call_connected(const struct fm_grpc_call *call)
{
    const struct fm_grpc_exchange *exchange = (const struct fm_grpc_exchange *)call;
    return exchange->connection != NULL && !exchange->ended;
}

static void encoding_refuse(struct fm_grpc_exchange *exchange)
{
    static const char trailer[] = "grpc-accept-encoding\0identity,deflate,gzip";
    fm_text_append(&exchange->trailer_text, trailer, sizeof(trailer));
    exchange->trailer_count = exchange->trailer_text.failed ? 0 : 1;
    fm_grpc_exchange_fail(exchange, FM_GRPC_UNIMPLEMENTED,
                          "messages compressed with '%.64s' are not supported; gzip and deflate "
                          "are",
                          exchange->encoding_name);
}

void fm_grpc_exchange_head_complete(struct fm_grpc_exchange *exchange)
{
    struct fm_grpc_server *server = exchange->server;
    if (exchange->field_bytes > server->options.metadata_bytes_max) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED,
                              "the call's metadata is larger than the %zu bytes or %u fields that "
                              "this server takes",
                              server->options.metadata_bytes_max, FIELDS_MAX);
        return;
    }
    if (exchange->content_type == NULL || !fm_grpc_content_type_matches(exchange->content_type)) {
        server->stats.rejected++;
        fm_grpc_answer_http(exchange, "415");
        return;
    }
    if (!exchange->is_post || exchange->call.path == NULL) {
        server->stats.rejected++;
        fm_grpc_answer_http(exchange, "405");
        return;
    }
    if (exchange->timeout != NULL) {
        uint64_t timeout_ns = 0;
        if (fm_grpc_timeout_parse(exchange->timeout, &timeout_ns) != 0) {
            fm_grpc_exchange_fail(exchange, FM_GRPC_INVALID_ARGUMENT,
                                  "grpc-timeout '%.32s' is not up to eight digits and one of H, M, "
                                  "S, m, u, n",
                                  exchange->timeout);
            return;
        }
        uint64_t now_ns = fm_os_now_ns();
        exchange->call.deadline_ns =
            timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
    }
    if (exchange->encoding_name != NULL) {
        exchange->encoding =
            fm_compression_parse(exchange->encoding_name, strlen(exchange->encoding_name));
        if (exchange->encoding == FM_COMPRESSION_COUNT_) {
            encoding_refuse(exchange);
            return;
        }
    }
    exchange->answer_encoding = fm_compression_choose(exchange->accept_encoding);
    exchange->begun = true;
    server->stats.calls++;
    server->stats.in_flight++;
    server->options.events.begin(server->options.context, &exchange->call);
}

/* --- Messages --- */

static bool is_over(const struct fm_grpc_exchange *exchange)
{
    return exchange->ended || exchange->finished || exchange->connection == NULL;
}

/* Remembers the size of a message that the callee gets. */
static bool given_push(struct fm_grpc_exchange *exchange, size_t size)
{
    uint32_t max = exchange->server->options.unhandled_max;
    if (exchange->unhandled == 0 && exchange->given == NULL) {
        exchange->given_one = size;
        exchange->unhandled = 1;
        return true;
    }
    if (exchange->given == NULL) {
        exchange->given = fm_alloc_zero(max, sizeof(*exchange->given));
        if (exchange->given == NULL) {
            return false;
        }
        exchange->given[0] = exchange->given_one;
        exchange->given_first = 0;
    }
    exchange->given[(exchange->given_first + exchange->unhandled) % max] = size;
    exchange->unhandled++;
    return true;
}

static void end_tell(struct fm_grpc_exchange *exchange)
{
    if (exchange->end_received && exchange->waiting == NULL && !exchange->end_told &&
        !is_over(exchange)) {
        exchange->end_told = true;
        if (exchange->server->options.events.half_closed != NULL) {
            exchange->server->options.events.half_closed(exchange->server->options.context,
                                                         &exchange->call);
        }
    }
}

/* Takes a reference of buffer. */
static void give(struct fm_grpc_exchange *exchange, struct fm_buffer *buffer, size_t size)
{
    struct fm_grpc_server *server = exchange->server;
    if (!given_push(exchange, size)) {
        fm_buffer_unref(buffer);
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    server->stats.messages_received++;
    if (server->options.events.message != NULL) {
        /* It stands at the end. */
        const char *data = "";
        if (buffer != NULL) {
            data = (const char *)fm_buffer_data(buffer) + fm_buffer_size(buffer) - size;
        }
        server->options.events.message(server->options.context, &exchange->call, buffer, data,
                                       size);
    }
    fm_buffer_unref(buffer);
}

static void give_waiting(struct fm_grpc_exchange *exchange)
{
    while (!is_over(exchange) && exchange->waiting != NULL &&
           exchange->unhandled < exchange->server->options.unhandled_max) {
        struct fm_grpc_incoming *incoming = exchange->waiting;
        exchange->waiting = incoming->next;
        if (exchange->waiting == NULL) {
            exchange->waiting_end = &exchange->waiting;
        }
        struct fm_buffer *buffer = incoming->buffer;
        size_t size = incoming->size;
        fm_free(incoming);
        give(exchange, buffer, size);
    }
}

void fm_grpc_handled(struct fm_grpc_call *call)
{
    struct fm_grpc_exchange *exchange = (struct fm_grpc_exchange *)call;
    FM_ASSERT(!exchange->finished);
    if (exchange->unhandled == 0) {
        return;
    }
    size_t size = exchange->given_one;
    if (exchange->given != NULL) {
        size = exchange->given[exchange->given_first];
        exchange->given_first =
            (exchange->given_first + 1) % exchange->server->options.unhandled_max;
    }
    exchange->unhandled--;
    exchange->charged -= size;
    exchange->server->stats.message_bytes -= size;
    /* The callee may say so from inside the call that gave it the message. */
    if (!exchange->delivering) {
        exchange->delivering = true;
        give_waiting(exchange);
        end_tell(exchange);
        exchange->delivering = false;
        if (!is_over(exchange)) {
            fm_grpc_exchange_grant(exchange);
        }
    }
}

static void message_push(struct fm_grpc_exchange *exchange, struct fm_buffer *buffer, size_t size)
{
    if (exchange->waiting == NULL &&
        exchange->unhandled < exchange->server->options.unhandled_max) {
        give(exchange, buffer, size);
        return;
    }
    struct fm_grpc_incoming *incoming = fm_alloc(sizeof(*incoming));
    if (incoming == NULL) {
        fm_buffer_unref(buffer);
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    *incoming = (struct fm_grpc_incoming){.buffer = buffer, .size = size};
    *exchange->waiting_end = incoming;
    exchange->waiting_end = &incoming->next;
}

/* False: the server has as many bytes as it may have. */
static bool charge(struct fm_grpc_exchange *exchange, size_t size)
{
    struct fm_grpc_server *server = exchange->server;
    if (size > server->options.message_bytes_total_max - server->stats.message_bytes) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED,
                              "the server holds as many request bytes as it may; try again later");
        return false;
    }
    server->stats.message_bytes += size;
    exchange->charged += size;
    return true;
}

/* Puts what comes out of exchange->data in its place. */
static bool decompress(struct fm_grpc_exchange *exchange)
{
    size_t bytes_max = exchange->server->options.message_bytes_max;
    struct fm_text text = {0};
    int status = fm_decompress(exchange->encoding, exchange->data + exchange->front, exchange->size,
                               bytes_max, &text);
    if (status == FM_ETOOLARGE) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED,
                              "a message is larger than the %zu bytes that this server takes, "
                              "once it is decompressed",
                              bytes_max);
    } else if (status == FM_ENOMEM) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else if (status != 0) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_INTERNAL, "a message is no valid %s data",
                              fm_compression_name(exchange->encoding));
    }
    if (status != 0 || !charge(exchange, text.length)) {
        fm_text_deinit(&text);
        return false;
    }
    exchange->server->stats.bytes_copied += text.length;
    exchange->server->stats.message_bytes -= exchange->size;
    exchange->charged -= exchange->size;
    fm_free(exchange->data);
    exchange->data = text.data;
    exchange->front = 0;
    exchange->size = text.length;
    return true;
}

static void message_complete(struct fm_grpc_exchange *exchange)
{
    bool compressed = exchange->prefix[0] == 1;
    exchange->prefix_length = 0;
    if (compressed && exchange->size > 0 && !decompress(exchange)) {
        return;
    }
    struct fm_buffer *buffer = NULL;
    size_t size = exchange->size;
    if (size > 0) {
        buffer = fm_buffer_wrap(exchange->data, exchange->front + size, fm_free, exchange->data);
        if (buffer == NULL) {
            fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
            return;
        }
    } else {
        fm_free(exchange->data);
    }
    exchange->data = NULL;
    message_push(exchange, buffer, size);
}

/* The five bytes before a message are there. */
static bool message_begin(struct fm_grpc_exchange *exchange)
{
    const uint8_t *prefix = exchange->prefix;
    size_t size = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 |
                  (size_t)prefix[4];
    size_t bytes_max = exchange->server->options.message_bytes_max;
    if (prefix[0] > 1) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_INTERNAL,
                              "a message begins with %u, where 0 or 1 says whether it is "
                              "compressed",
                              prefix[0]);
        return false;
    }
    if (prefix[0] == 1 && exchange->encoding == FM_COMPRESSION_IDENTITY) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_INTERNAL,
                              "a message is marked as compressed, but grpc-encoding does not say "
                              "how");
        return false;
    }
    if (size > bytes_max) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED,
                              "a message of %zu bytes is larger than the %zu bytes that this "
                              "server takes",
                              size, bytes_max);
        return false;
    }
    exchange->size = size;
    exchange->front = (0 - size) % _Alignof(max_align_t);
    exchange->received = 0;
    exchange->capacity = 0;
    return true;
}

static bool message_reserve(struct fm_grpc_exchange *exchange, size_t received)
{
    size_t needed = exchange->front + received;
    if (needed <= exchange->capacity) {
        return true;
    }
    size_t capacity = exchange->front + exchange->size;
    if (exchange->capacity == 0 && capacity > ANNOUNCED_BYTES_MAX && needed < ANNOUNCED_BYTES_MAX) {
        capacity = ANNOUNCED_BYTES_MAX;
    }
    char *data = fm_realloc(exchange->data, capacity);
    if (data == NULL) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return false;
    }
    exchange->data = data;
    exchange->capacity = capacity;
    return true;
}

/* Takes a piece of a message; how many bytes were used. */
static size_t message_append(struct fm_grpc_exchange *exchange, const uint8_t *data, size_t size)
{
    size_t length = exchange->size - exchange->received;
    length = length < size ? length : size;
    if (length > 0) {
        if (!message_reserve(exchange, exchange->received + length) || !charge(exchange, length)) {
            return length;
        }
        memcpy(exchange->data + exchange->front + exchange->received, data, length);
        exchange->received += length;
        exchange->server->stats.bytes_copied += length;
    }
    if (exchange->received == exchange->size) {
        message_complete(exchange);
    }
    return length;
}

void fm_grpc_exchange_data(struct fm_grpc_exchange *exchange, const uint8_t *data, size_t size)
{
    bool nested = exchange->delivering;
    exchange->delivering = true;
    exchange->received_ns = fm_grpc_now_ns(exchange->server);
    while (size > 0 && !is_over(exchange)) {
        size_t used = 0;
        if (exchange->prefix_length < sizeof(exchange->prefix)) {
            size_t missing = sizeof(exchange->prefix) - exchange->prefix_length;
            used = missing < size ? missing : size;
            memcpy(exchange->prefix + exchange->prefix_length, data, used);
            exchange->prefix_length = (uint8_t)(exchange->prefix_length + used);
            if (exchange->prefix_length == sizeof(exchange->prefix) && message_begin(exchange) &&
                exchange->size == 0) {
                (void)message_append(exchange, data, 0);
            }
        } else {
            used = message_append(exchange, data, size);
        }
        data += used;
        size -= used;
    }
    if (!is_over(exchange)) {
        give_waiting(exchange);
    }
    exchange->delivering = nested;
}

void fm_grpc_exchange_end(struct fm_grpc_exchange *exchange)
{
    if (exchange->end_received) {
        return;
    }
    exchange->end_received = true;
    if (exchange->prefix_length > 0 && !is_over(exchange)) {
        fm_grpc_exchange_fail(exchange, FM_GRPC_INTERNAL,
                              "the client ended the call inside a message");
        return;
    }
    end_tell(exchange);
}

void fm_grpc_exchange_grant(struct fm_grpc_exchange *exchange)
{
    const struct fm_grpc_options *options = &exchange->server->options;
    bool held = !exchange->ended && (exchange->unhandled >= options->unhandled_max ||
                                     exchange->unsent >= options->unsent_max);
    if (held || exchange->credit == 0 || exchange->end_received) {
        return;
    }
    size_t credit = exchange->credit;
    exchange->credit = 0;
    (void)nghttp2_session_consume_stream(exchange->connection->session, exchange->stream_id,
                                         credit);
    fm_grpc_server_mark(exchange->connection);
}
