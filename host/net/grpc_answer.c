/*
 * What goes back to the client: messages, packed into frames without copying the large parts of
 * them, and the end of a call. See grpc_internal.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "host/net/grpc_fields.h"
#include "host/net/grpc_internal.h"

/* A part up to this size is copied, which costs less than referring to it. */
#define COPY_BYTES_MAX    512u
#define OUTGOING_FREE_MAX 1024u
/* A frame's head and a message's prefix, and some room. */
#define FRAME_BYTES 32u

/* Static texts for nghttp2, which does not write to them. */
#define STATIC_FIELD(name, value)                                                   \
    {                                                                               \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1, \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE            \
    }

/* --- Outputs --- */

struct fm_grpc_output *fm_grpc_output_take(struct fm_grpc_server *server)
{
    struct fm_grpc_output *output = server->output_free;
    server->output_free = NULL;
    if (output == NULL) {
        output = fm_alloc(sizeof(*output));
    }
    if (output != NULL) {
        output->next = NULL;
        output->done = NULL;
        output->count = 0;
        output->used = 0;
        output->total = 0;
    }
    return output;
}

static void outgoing_free(struct fm_grpc_server *server, struct fm_grpc_outgoing *outgoing)
{
    if (outgoing->message.release != NULL) {
        outgoing->message.release(outgoing->message.context);
    }
    fm_text_deinit(&outgoing->compressed);
    if (server->outgoing_free_count < OUTGOING_FREE_MAX) {
        outgoing->next = server->outgoing_free;
        server->outgoing_free = outgoing;
        server->outgoing_free_count++;
    } else {
        fm_free(outgoing);
    }
}

void fm_grpc_outgoing_free_all(struct fm_grpc_server *server)
{
    while (server->outgoing_free != NULL) {
        struct fm_grpc_outgoing *outgoing = server->outgoing_free;
        server->outgoing_free = outgoing->next;
        fm_free(outgoing);
    }
}

void fm_grpc_output_done(struct fm_grpc_server *server, struct fm_grpc_output *output)
{
    while (output->done != NULL) {
        struct fm_grpc_outgoing *outgoing = output->done;
        output->done = outgoing->next;
        outgoing_free(server, outgoing);
    }
    if (server->output_free == NULL) {
        server->output_free = output;
    } else {
        fm_free(output);
    }
}

void fm_grpc_output_copy(struct fm_grpc_output *output, const void *data, size_t size)
{
    FM_ASSERT(size <= sizeof(output->bytes) - output->used);
    char *at = output->bytes + output->used;
    memcpy(at, data, size);
    output->used += size;
    output->total += size;
    uv_buf_t *last = output->count > 0 ? &output->buffers[output->count - 1] : NULL;
    if (last != NULL && last->base + last->len == at) {
        last->len += size;
        return;
    }
    FM_ASSERT(output->count < FM_GRPC_OUTPUT_BUFFERS);
    output->buffers[output->count++] = (uv_buf_t){.base = at, .len = size};
}

static void output_refer(struct fm_grpc_output *output, const void *data, size_t size)
{
    FM_ASSERT(output->count < FM_GRPC_OUTPUT_BUFFERS);
    /* libuv only reads them; its type has no const. */
    output->buffers[output->count++] = (uv_buf_t){.base = (char *)data, .len = size};
    output->total += size;
}

/* --- Messages into frames --- */

static void outgoing_pop(struct fm_grpc_exchange *exchange)
{
    struct fm_grpc_outgoing *outgoing = exchange->outgoing;
    struct fm_grpc_output *output = exchange->connection->output;
    exchange->outgoing = outgoing->next;
    if (exchange->outgoing == NULL) {
        exchange->outgoing_end = &exchange->outgoing;
    }
    outgoing->next = output->done;
    output->done = outgoing;
    exchange->server->stats.messages_sent++;
    if (exchange->unsent-- == exchange->server->options.unsent_max && !exchange->finished) {
        fm_grpc_exchange_grant(exchange);
        if (exchange->server->options.events.writable != NULL && exchange->begun &&
            !exchange->ended) {
            exchange->server->options.events.writable(exchange->server->options.context,
                                                      &exchange->call);
        }
    }
}

/* One piece of the first message, at most `length` bytes: how many went. */
static size_t pack_piece(struct fm_grpc_exchange *exchange, struct fm_grpc_outgoing *outgoing,
                         size_t length)
{
    struct fm_grpc_output *output = exchange->connection->output;
    size_t size = 0;
    if (outgoing->prefix_left > 0) {
        size = outgoing->prefix_left < length ? outgoing->prefix_left : length;
        fm_grpc_output_copy(output, outgoing->prefix + (5 - outgoing->prefix_left), size);
        outgoing->prefix_left = (uint8_t)(outgoing->prefix_left - size);
        return size;
    }
    const struct fm_grpc_part *part = &outgoing->message.parts[outgoing->part];
    size = part->size - outgoing->offset;
    size = size < length ? size : length;
    const char *data = (const char *)part->data + outgoing->offset;
    if (size <= COPY_BYTES_MAX) {
        fm_grpc_output_copy(output, data, size);
        exchange->server->stats.bytes_copied += size;
    } else {
        output_refer(output, data, size);
    }
    outgoing->offset += size;
    return size;
}

static void parts_skip(struct fm_grpc_outgoing *outgoing)
{
    while (outgoing->part < outgoing->message.part_count &&
           outgoing->offset == outgoing->message.parts[outgoing->part].size) {
        outgoing->part++;
        outgoing->offset = 0;
    }
}

bool fm_grpc_output_has_room(const struct fm_grpc_output *output)
{
    return output->count + 8 < FM_GRPC_OUTPUT_BUFFERS &&
           output->used + FM_GRPC_OUTPUT_RESERVE + COPY_BYTES_MAX + FRAME_BYTES <
               sizeof(output->bytes) &&
           output->total < FM_GRPC_OUTPUT_TOTAL;
}

/* The bytes that the next frame takes, not 0: messages as long as their pieces find room. */
static size_t frame_length(const struct fm_grpc_exchange *exchange, size_t length_max)
{
    const struct fm_grpc_output *output = exchange->connection->output;
    size_t buffers = FM_GRPC_OUTPUT_BUFFERS - 4 - output->count;
    size_t bytes = sizeof(output->bytes) - FM_GRPC_OUTPUT_RESERVE - FRAME_BYTES - output->used;
    size_t length = 0;
    for (const struct fm_grpc_outgoing *outgoing = exchange->outgoing;
         outgoing != NULL && length < length_max; outgoing = outgoing->next) {
        size_t offset = outgoing->offset;
        for (uint32_t part = outgoing->part;
             part < outgoing->message.part_count && length < length_max; part++) {
            size_t size = outgoing->message.parts[part].size - offset;
            offset = 0;
            if (size == 0) {
                continue;
            }
            if (buffers < 2 || bytes <= COPY_BYTES_MAX) {
                return length;
            }
            length += size;
            buffers -= 2;
            bytes -= size <= COPY_BYTES_MAX ? size : 0;
        }
        if (bytes <= COPY_BYTES_MAX) {
            break;
        }
        length += outgoing->prefix_left;
        bytes -= outgoing->prefix_left;
    }
    return length < length_max ? length : length_max;
}

int fm_grpc_answer_pack(struct fm_grpc_exchange *exchange, const uint8_t *head, size_t length)
{
    struct fm_grpc_output *output = exchange->connection->output;
    fm_grpc_output_copy(output, head, 9);
    exchange->progress_ns = fm_grpc_now_ns(exchange->server);
    while (length > 0) {
        struct fm_grpc_outgoing *outgoing = exchange->outgoing;
        parts_skip(outgoing);
        size_t size = pack_piece(exchange, outgoing, length);
        length -= size;
        outgoing->unpacked -= size;
        if (outgoing->unpacked == 0) {
            outgoing_pop(exchange);
        }
    }
    /* It went; nghttp2 is to make no other frame before there is another output. */
    return fm_grpc_output_has_room(output) ? 0 : NGHTTP2_ERR_PAUSE;
}

/* --- Status --- */

static const char *const codes[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                    "9", "10", "11", "12", "13", "14", "15", "16"};

/* The trailer's fields, appended to `fields`. */
static size_t status_fields(const struct fm_grpc_exchange *exchange, nghttp2_nv *fields)
{
    static const char status[] = "grpc-status";
    static const char message[] = "grpc-message";
    size_t count = 0;
    const char *code = codes[exchange->code];
    fields[count++] =
        (nghttp2_nv){(uint8_t *)status, (uint8_t *)code, sizeof(status) - 1, strlen(code),
                     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    if (exchange->status_text.length > 0) {
        fields[count++] = (nghttp2_nv){(uint8_t *)message, (uint8_t *)exchange->status_text.data,
                                       sizeof(message) - 1, exchange->status_text.length,
                                       NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX};
    }
    const char *at = exchange->trailer_text.data;
    for (uint32_t i = 0; i < exchange->trailer_count; i++) {
        const char *value = at + strlen(at) + 1;
        fields[count++] = (nghttp2_nv){(uint8_t *)at, (uint8_t *)value, strlen(at), strlen(value),
                                       NGHTTP2_NV_FLAG_NONE};
        at = value + strlen(value) + 1;
    }
    return count;
}

#define STATUS_FIELDS_MAX (2 + FM_GRPC_TRAILERS_MAX)

static ssize_t on_data_source(nghttp2_session *session, int32_t stream_id, uint8_t *buffer,
                              size_t length, uint32_t *flags, nghttp2_data_source *source,
                              void *context)
{
    (void)buffer;
    (void)context;
    struct fm_grpc_exchange *exchange = source->ptr;
    size_t size = 0;
    size_t total = 0;
    if (exchange->outgoing != NULL) {
        size = frame_length(exchange, length);
        for (const struct fm_grpc_outgoing *outgoing = exchange->outgoing;
             outgoing != NULL && total <= size; outgoing = outgoing->next) {
            total += outgoing->unpacked;
        }
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (total > size) {
        return (ssize_t)size;
    }
    if (!exchange->ended) {
        exchange->deferred = size == 0;
        return size == 0 ? NGHTTP2_ERR_DEFERRED : (ssize_t)size;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_nv fields[STATUS_FIELDS_MAX];
    size_t count = status_fields(exchange, fields);
    if (nghttp2_submit_trailer(session, stream_id, fields, count) != 0) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)size;
}

/* --- Heads --- */

static void submit_failed(struct fm_grpc_exchange *exchange)
{
    (void)nghttp2_submit_rst_stream(exchange->connection->session, NGHTTP2_FLAG_NONE,
                                    exchange->stream_id, NGHTTP2_INTERNAL_ERROR);
}

/* The first message decides whether any may be compressed. */
static void submit_head(struct fm_grpc_exchange *exchange, bool compressed)
{
    static const nghttp2_nv plain[] = {STATIC_FIELD(":status", "200"),
                                       STATIC_FIELD("content-type", "application/grpc")};
    nghttp2_nv fields[3] = {plain[0], plain[1]};
    size_t count = 2;
    if (compressed) {
        static const char encoding[] = "grpc-encoding";
        const char *name = fm_compression_name(exchange->answer_encoding);
        fields[count++] =
            (nghttp2_nv){(uint8_t *)encoding, (uint8_t *)name, sizeof(encoding) - 1, strlen(name),
                         NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    } else {
        exchange->answer_encoding = FM_COMPRESSION_IDENTITY;
    }
    const nghttp2_data_provider provider = {.source = {.ptr = exchange},
                                            .read_callback = on_data_source};
    exchange->submitted = true;
    if (nghttp2_submit_response(exchange->connection->session, exchange->stream_id, fields, count,
                                &provider) != 0) {
        submit_failed(exchange);
    }
}

static void resume(struct fm_grpc_exchange *exchange)
{
    if (exchange->deferred) {
        exchange->deferred = false;
        (void)nghttp2_session_resume_data(exchange->connection->session, exchange->stream_id);
    }
    fm_grpc_server_mark(exchange->connection);
}

void fm_grpc_answer_end(struct fm_grpc_exchange *exchange)
{
    if (exchange->submitted) {
        resume(exchange);
        return;
    }
    static const nghttp2_nv plain[] = {STATIC_FIELD(":status", "200"),
                                       STATIC_FIELD("content-type", "application/grpc")};
    nghttp2_nv fields[2 + STATUS_FIELDS_MAX] = {plain[0], plain[1]};
    size_t count = 2 + status_fields(exchange, fields + 2);
    exchange->submitted = true;
    if (nghttp2_submit_response(exchange->connection->session, exchange->stream_id, fields, count,
                                NULL) != 0) {
        submit_failed(exchange);
    }
    fm_grpc_server_mark(exchange->connection);
}

void fm_grpc_answer_http(struct fm_grpc_exchange *exchange, const char *status)
{
    nghttp2_nv fields[] = {{(uint8_t *)":status", (uint8_t *)status, 7, strlen(status),
                            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE},
                           STATIC_FIELD("content-length", "0")};
    exchange->ended = true;
    exchange->submitted = true;
    if (nghttp2_submit_response(exchange->connection->session, exchange->stream_id, fields,
                                FM_COUNT_OF(fields), NULL) != 0) {
        submit_failed(exchange);
    }
    fm_grpc_server_mark(exchange->connection);
}

/* --- Messages --- */

static struct fm_grpc_outgoing *outgoing_take(struct fm_grpc_server *server)
{
    struct fm_grpc_outgoing *outgoing = server->outgoing_free;
    if (outgoing != NULL) {
        server->outgoing_free = outgoing->next;
        server->outgoing_free_count--;
        *outgoing = (struct fm_grpc_outgoing){0};
        return outgoing;
    }
    return fm_alloc_zero(1, sizeof(*outgoing));
}

/* Replaces the message by its compressed form. */
static bool compress(struct fm_grpc_exchange *exchange, struct fm_grpc_outgoing *outgoing)
{
    struct fm_compressor *compressor =
        fm_compressor_create(exchange->answer_encoding, &outgoing->compressed);
    int status = compressor != NULL ? 0 : FM_ENOMEM;
    for (uint32_t i = 0; i < outgoing->message.part_count && status == 0; i++) {
        const struct fm_grpc_part *part = &outgoing->message.parts[i];
        status = fm_compressor_add(compressor, part->data, part->size);
    }
    status = status == 0 ? fm_compressor_end(compressor) : status;
    fm_compressor_destroy(compressor);
    if (status != 0) {
        return false;
    }
    if (outgoing->message.release != NULL) {
        outgoing->message.release(outgoing->message.context);
        outgoing->message.release = NULL;
    }
    exchange->server->stats.bytes_copied += outgoing->compressed.length;
    outgoing->compressed_part =
        (struct fm_grpc_part){outgoing->compressed.data, outgoing->compressed.length};
    outgoing->message.parts = &outgoing->compressed_part;
    outgoing->message.part_count = 1;
    return true;
}

static uint64_t message_size(const struct fm_grpc_message *message)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < message->part_count; i++) {
        size += message->parts[i].size;
    }
    return size;
}

void fm_grpc_send(struct fm_grpc_call *call, const struct fm_grpc_message *message)
{
    struct fm_grpc_exchange *exchange = (struct fm_grpc_exchange *)call;
    FM_ASSERT(!exchange->finished && message->part_count <= FM_GRPC_PARTS_MAX);
    struct fm_grpc_outgoing *outgoing = NULL;
    if (exchange->connection != NULL && !exchange->ended) {
        outgoing = outgoing_take(exchange->server);
        if (outgoing == NULL) {
            fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED, "out of memory");
        }
    }
    if (outgoing == NULL) {
        if (message->release != NULL) {
            message->release(message->context);
        }
        return;
    }
    outgoing->message = *message;
    bool compressed = message->compress && exchange->answer_encoding != FM_COMPRESSION_IDENTITY;
    bool good = !compressed || compress(exchange, outgoing);
    uint64_t size = message_size(&outgoing->message);
    if (!good || size > UINT32_MAX) {
        outgoing_free(exchange->server, outgoing);
        fm_grpc_exchange_fail(exchange, FM_GRPC_RESOURCE_EXHAUSTED,
                              good ? "the answer is larger than a gRPC message can be"
                                   : "out of memory while compressing the answer");
        return;
    }
    outgoing->prefix[0] = compressed ? 1 : 0;
    for (int i = 0; i < 4; i++) {
        outgoing->prefix[1 + i] = (uint8_t)(size >> (24 - 8 * i));
    }
    outgoing->prefix_left = 5;
    outgoing->unpacked = 5 + (size_t)size;
    if (exchange->outgoing == NULL) {
        exchange->progress_ns = fm_grpc_now_ns(exchange->server);
    }
    *exchange->outgoing_end = outgoing;
    exchange->outgoing_end = &outgoing->next;
    exchange->unsent++;
    if (!exchange->submitted) {
        submit_head(exchange, compressed);
    }
    resume(exchange);
}

void fm_grpc_answer_drop(struct fm_grpc_exchange *exchange)
{
    struct fm_grpc_output *output =
        exchange->connection != NULL ? exchange->connection->output : NULL;
    while (exchange->outgoing != NULL) {
        struct fm_grpc_outgoing *outgoing = exchange->outgoing;
        exchange->outgoing = outgoing->next;
        if (output != NULL) {
            /* A part of it may be on its way out. */
            outgoing->next = output->done;
            output->done = outgoing;
        } else {
            outgoing_free(exchange->server, outgoing);
        }
    }
    exchange->outgoing_end = &exchange->outgoing;
    exchange->unsent = 0;
}

uint32_t fm_grpc_call_unsent(const struct fm_grpc_call *call)
{
    return ((const struct fm_grpc_exchange *)call)->unsent;
}

void fm_grpc_finish(struct fm_grpc_call *call, int code, const char *message,
                    const struct fm_grpc_trailer *trailers, uint32_t trailer_count)
{
    struct fm_grpc_exchange *exchange = (struct fm_grpc_exchange *)call;
    FM_ASSERT(exchange->begun && !exchange->finished);
    FM_ASSERT(trailer_count <= FM_GRPC_TRAILERS_MAX);
    FM_ASSERT(code >= 0 && code < (int)FM_COUNT_OF(codes));
    exchange->finished = true;
    exchange->server->stats.in_flight--;
    fm_grpc_exchange_drop_received(exchange);
    if (exchange->connection == NULL) {
        fm_grpc_exchange_free(exchange);
        return;
    }
    if (exchange->ended) {
        return;
    }
    exchange->ended = true;
    exchange->code = code;
    if (message != NULL && message[0] != '\0') {
        fm_grpc_message_encode(&exchange->status_text, message, FM_GRPC_MESSAGE_TEXT_MAX);
    }
    for (uint32_t i = 0; i < trailer_count; i++) {
        fm_text_append(&exchange->trailer_text, trailers[i].name, strlen(trailers[i].name) + 1);
        fm_text_append(&exchange->trailer_text, trailers[i].value, strlen(trailers[i].value) + 1);
    }
    /* Without memory for words, the code has to do. */
    exchange->trailer_count = exchange->trailer_text.failed ? 0 : trailer_count;
    fm_grpc_answer_end(exchange);
}
