/*
 * ModelStreamInfer: many requests and answers on one call. See include/fermata/client.h.
 *
 * What crosses threads is behind the stream's mutex. Messages are made on the sender's thread and
 * handed over as tasks of the client's loop, in the order in which they were sent. The stream's
 * memory is freed by fm_client_stream_close, when nothing on the client's thread refers to it.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/client/client_internal.h"

#define PREFIX_BYTES 5u /* of gRPC, in front of a message */

struct fm_client_stream {
    struct fm_client *client;
    struct fm_client_stream_options options;
    struct fm_grpc_client_call grpc;
    struct fm_loop_task start_task;
    struct fm_loop_task finish_task;
    struct fm_loop_task close_task;
    struct fm_client_waiter waiter;
    struct fm_mutex mutex;
    /* Behind the mutex. */
    uint32_t posted_count; /* tasks that the loop has not run yet */
    size_t posted_bytes;   /* of messages among them */
    bool finished;         /* we send nothing more */
    bool over;             /* nothing is sent or received any more */
    /* Of the client's thread. */
    bool started;
    bool ended;
    bool closing; /* somebody waits for it */
};

/* A message on its way to the loop. */
struct message {
    struct fm_grpc_client_message message; /* the first member: freed as such */
    struct fm_loop_task task;
    struct fm_client_stream *stream;
};

static const char what[] = "streaming inference";

static int stream_fail(const struct fm_client_stream *stream, struct fm_error *reterr, int status,
                       const char *why)
{
    return fm_error_set(reterr, status, "%s at %s: %s", what, stream->client->endpoint.url, why);
}

/* --- On the client's thread --- */

static void stream_answer(struct fm_client_stream *stream, const struct fm_oip_client_body *body)
{
    struct fm_oip_client_answer answer = {0};
    struct fm_error problem = {0};
    struct fm_error error = {0};
    int status = fm_oip_client_decode_grpc(body, NULL, true, &answer, &problem);
    struct fm_client_result *result = NULL;
    if (status != 0) {
        status = stream_fail(stream, &error, status, problem.text);
    } else {
        /* The protocol has words for it, but no code. */
        if (answer.error_text != NULL) {
            status = stream_fail(stream, &error, FM_EINTERNAL, answer.error_text);
        }
        result = fm_client_result_make(&answer);
        if (result == NULL) {
            status = stream_fail(stream, &error, FM_ENOMEM, "out of memory for the result");
        }
    }
    stream->options.answer(stream->options.context, status, result, &error);
}

static void grpc_message(struct fm_grpc_client_call *grpc, struct fm_buffer *buffer,
                         const char *data, size_t size)
{
    struct fm_client_stream *stream = FM_CONTAINER_OF(grpc, struct fm_client_stream, grpc);
    const struct fm_oip_client_body body = {.data = data, .size = size, .buffer = buffer};
    stream_answer(stream, &body);
    fm_buffer_unref(buffer);
}

/* A task has run: whoever closes the stream may free it when all have, and nothing comes. */
static void step_end(struct fm_client_stream *stream)
{
    fm_mutex_lock(&stream->mutex);
    stream->posted_count--;
    bool free_now = stream->closing && stream->ended && stream->posted_count == 0;
    fm_mutex_unlock(&stream->mutex);
    if (free_now) {
        fm_client_waiter_wake(&stream->waiter);
    }
}

static void grpc_done(struct fm_grpc_client_call *grpc)
{
    struct fm_client_stream *stream = FM_CONTAINER_OF(grpc, struct fm_client_stream, grpc);
    struct fm_error error = {0};
    int status =
        grpc->status != 0 ? stream_fail(stream, &error, grpc->status, grpc->error.text) : 0;
    fm_mutex_lock(&stream->mutex);
    stream->over = true;
    fm_mutex_unlock(&stream->mutex);
    if (stream->options.ended != NULL) {
        stream->options.ended(stream->options.context, status, &error);
    }
    stream->ended = true;
}

static void stream_start(struct fm_loop_task *task)
{
    struct fm_client_stream *stream = FM_CONTAINER_OF(task, struct fm_client_stream, start_task);
    stream->started = true;
    fm_grpc_client_send(stream->client->grpc, &stream->grpc);
    if (stream->closing && !stream->ended) {
        fm_grpc_client_cancel(&stream->grpc, FM_ECANCELLED, "the stream was closed");
    }
    step_end(stream);
}

static void message_give(struct fm_loop_task *task)
{
    struct message *message = FM_CONTAINER_OF(task, struct message, task);
    struct fm_client_stream *stream = message->stream;
    fm_mutex_lock(&stream->mutex);
    stream->posted_bytes -= message->message.bytes.length;
    fm_mutex_unlock(&stream->mutex);
    if (stream->ended) {
        fm_grpc_client_message_free(&message->message);
    } else {
        fm_grpc_client_call_send(&stream->grpc, &message->message);
    }
    step_end(stream);
}

static void stream_finish(struct fm_loop_task *task)
{
    struct fm_client_stream *stream = FM_CONTAINER_OF(task, struct fm_client_stream, finish_task);
    if (!stream->ended) {
        fm_grpc_client_call_send(&stream->grpc, NULL);
    }
    step_end(stream);
}

/* Tasks that this very thread posted before may still be to come, the first one too. */
static void stream_close(struct fm_loop_task *task)
{
    struct fm_client_stream *stream = FM_CONTAINER_OF(task, struct fm_client_stream, close_task);
    stream->closing = true;
    if (stream->started && !stream->ended) {
        fm_grpc_client_cancel(&stream->grpc, FM_ECANCELLED, "the stream was closed");
    }
    step_end(stream);
}

/* --- On any thread --- */

/* Behind the mutex, so that what two threads send arrives in the order of the lock. */
static void task_post(struct fm_client_stream *stream, struct fm_loop_task *task)
{
    stream->posted_count++;
    fm_loop_post(stream->client->loop, task);
}

int fm_client_stream_open(struct fm_client *client, const struct fm_client_stream_options *options,
                          struct fm_client_stream **ret_stream, struct fm_error *reterr)
{
    struct fm_client_stream_options wanted = {0};
    if (options == NULL || options->struct_size < sizeof(options->struct_size)) {
        return fm_error_set(reterr, FM_EINVAL, "struct_size of the stream's options is not set");
    }
    size_t size = options->struct_size;
    memcpy(&wanted, options, size < sizeof(wanted) ? size : sizeof(wanted));
    if (wanted.answer == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "there is no `answer` to call");
    }
    if (!client->endpoint.grpc) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "%s at %s: REST has no streams; use a URL that begins with grpc://",
                            what, client->endpoint.url);
    }
    struct fm_client_stream *stream = fm_alloc_zero(1, sizeof(*stream));
    if (stream == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the stream");
    }
    stream->client = client;
    stream->options = wanted;
    stream->grpc.path = "/inference.GRPCInferenceService/ModelStreamInfer";
    stream->grpc.stream = true;
    stream->grpc.compressed = client->compression != FM_COMPRESSION_IDENTITY;
    stream->grpc.deadline_ns =
        wanted.timeout_ns > 0 ? fm_client_deadline(client, wanted.timeout_ns) : 0;
    stream->grpc.message = grpc_message;
    stream->grpc.done = grpc_done;
    stream->start_task.run = stream_start;
    stream->finish_task.run = stream_finish;
    stream->close_task.run = stream_close;
    fm_mutex_init(&stream->mutex);
    fm_client_waiter_init(&stream->waiter);
    *ret_stream = stream;
    fm_mutex_lock(&stream->mutex);
    task_post(stream, &stream->start_task);
    fm_mutex_unlock(&stream->mutex);
    return 0;
}

/* The request as one message with gRPC's prefix. */
static int message_make(struct fm_client_stream *stream, const struct fm_client_request *request,
                        struct message **ret_message, struct fm_error *reterr)
{
    struct fm_client *client = stream->client;
    struct fm_oip_client_message encoded = {0};
    int status = fm_oip_client_encode_grpc(request, &encoded, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", what);
    }
    struct message *message = fm_alloc_zero(1, sizeof(*message));
    if (message == NULL) {
        fm_oip_client_message_deinit(&encoded);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    struct fm_text *text = &message->message.bytes;
    bool compressed = client->compression != FM_COMPRESSION_IDENTITY;
    struct fm_compressor *compressor = NULL;
    char prefix[PREFIX_BYTES] = {compressed ? 1 : 0};
    fm_text_append(text, prefix, sizeof(prefix));
    if (compressed) {
        compressor = fm_compressor_create(client->compression, text);
        status = compressor != NULL ? 0 : FM_ENOMEM;
    } else {
        /* One allocation for a large tensor, instead of one that doubles. */
        text->length -= fm_text_reserve(text, encoded.size) != NULL ? encoded.size : 0;
    }
    for (uint32_t i = 0; status == 0 && i < encoded.part_count; i++) {
        if (compressed) {
            status = fm_compressor_add(compressor, encoded.parts[i].data, encoded.parts[i].size);
        } else {
            fm_text_append(text, encoded.parts[i].data, encoded.parts[i].size);
        }
    }
    status = status == 0 && compressed ? fm_compressor_end(compressor) : status;
    fm_compressor_destroy(compressor);
    fm_oip_client_message_deinit(&encoded);
    if (status != 0 || text->failed) {
        fm_grpc_client_message_free(&message->message);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    size_t size = text->length - PREFIX_BYTES;
    for (unsigned i = 0; i < 4; i++) {
        text->data[1 + i] = (char)(size >> (24 - 8 * i));
    }
    *ret_message = message;
    return 0;
}

int fm_client_stream_send(struct fm_client_stream *stream, const struct fm_client_request *request,
                          struct fm_error *reterr)
{
    struct fm_client_request taken;
    struct message *message = NULL;
    int status = fm_client_request_take(stream->client, request, &taken, reterr);
    status = status == 0 ? message_make(stream, &taken, &message, reterr) : status;
    if (status != 0) {
        return status;
    }
    message->stream = stream;
    message->task.run = message_give;
    const char *why = "";
    fm_mutex_lock(&stream->mutex);
    if (stream->over || stream->finished) {
        status = FM_EUNAVAILABLE;
        why = stream->over ? "the stream is over" : "the stream was finished: nothing more is sent";
    } else if (stream->posted_bytes + stream->grpc.waiting_bytes > FM_CLIENT_STREAM_BYTES_MAX) {
        status = FM_EAGAIN;
        why = "too many bytes wait to be sent already";
    } else {
        stream->posted_bytes += message->message.bytes.length;
        task_post(stream, &message->task);
    }
    fm_mutex_unlock(&stream->mutex);
    if (status != 0) {
        fm_grpc_client_message_free(&message->message);
        return stream_fail(stream, reterr, status, why);
    }
    return 0;
}

void fm_client_stream_finish(struct fm_client_stream *stream)
{
    fm_mutex_lock(&stream->mutex);
    bool first = !stream->finished;
    stream->finished = true;
    if (first) {
        task_post(stream, &stream->finish_task);
    }
    fm_mutex_unlock(&stream->mutex);
}

void fm_client_stream_close(struct fm_client_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    FM_ASSERT(fm_client_may_wait(stream->client, NULL) == 0);
    fm_mutex_lock(&stream->mutex);
    stream->finished = true;
    task_post(stream, &stream->close_task);
    fm_mutex_unlock(&stream->mutex);
    fm_client_waiter_wait(&stream->waiter);
    FM_ASSERT(stream->posted_bytes == 0);
    fm_mutex_deinit(&stream->mutex);
    fm_free(stream);
}
