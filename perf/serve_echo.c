/*
 * A bare echo server: what the transports cost without inference, for perf/serve_overhead.
 *
 * usage: serve_echo
 *
 * One event loop with the same HTTP/1.1 and gRPC servers as `fermata serve`; every body and every
 * message is given back as it came, without being looked at or copied. Prints "http PORT grpc PORT"
 * once it listens; ends on SIGTERM. Thread rule: one thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/net/grpc_server.h"
#include "host/net/http_server.h"

static struct fm_loop *loop;

/* What an answer borrows until it has left. Used again, so that the echo allocates nothing. */
struct answer {
    struct answer *next;
    struct fm_buffer *buffer;
    struct fm_http_part http;
    struct fm_grpc_part grpc;
};

static struct answer *free_answers;

static struct answer *answer_take(struct fm_buffer *buffer)
{
    struct answer *answer = free_answers;
    if (answer != NULL) {
        free_answers = answer->next;
    } else {
        answer = fm_alloc(sizeof *answer);
        if (answer == NULL) {
            abort();
        }
    }
    answer->buffer = buffer != NULL ? fm_buffer_ref(buffer) : NULL;
    return answer;
}

static void answer_release(void *context)
{
    struct answer *answer = context;
    fm_buffer_unref(answer->buffer);
    answer->next = free_answers;
    free_answers = answer;
}

static void on_http(void *context, struct fm_http_request *request)
{
    (void)context;
    struct answer *out = answer_take(request->body_buffer);
    out->http = (struct fm_http_part){request->body, request->body_size};
    const struct fm_http_answer answer = {.status = 200,
                                          .content_type = "application/octet-stream",
                                          .parts = &out->http,
                                          .part_count = 1,
                                          .release = answer_release,
                                          .context = out};
    fm_http_answer(request, &answer);
}

static void on_begin(void *context, struct fm_grpc_call *call)
{
    (void)context;
    (void)call;
}

static void on_message(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    (void)context;
    struct answer *out = answer_take(buffer);
    out->grpc = (struct fm_grpc_part){data, size};
    const struct fm_grpc_message message = {
        .parts = &out->grpc, .part_count = 1, .release = answer_release, .context = out};
    fm_grpc_send(call, &message);
    fm_grpc_finish(call, FM_GRPC_OK, NULL, NULL, 0);
}

static void on_half_closed(void *context, struct fm_grpc_call *call)
{
    (void)context;
    fm_grpc_finish(call, FM_GRPC_INVALID_ARGUMENT, "no message", NULL, 0);
}

static void on_cancelled(void *context, struct fm_grpc_call *call)
{
    (void)context;
    fm_grpc_finish(call, FM_GRPC_CANCELLED, NULL, NULL, 0);
}

static void write_error(struct fm_text *text, const char *message)
{
    fm_text_append_string(text, message);
}

static void on_signal(void *context, int number)
{
    (void)context;
    if (!fm_loop_is_hangup(number)) {
        fm_loop_stop(loop);
    }
}

int main(void)
{
    struct fm_error error = {0};
    struct fm_http_options http;
    struct fm_grpc_options grpc;
    struct fm_http_server *http_server = NULL;
    struct fm_grpc_server *grpc_server = NULL;
    fm_http_options_init(&http);
    http.host = "127.0.0.1";
    http.handle = on_http;
    http.write_error = write_error;
    http.error_type = "text/plain";
    fm_grpc_options_init(&grpc);
    grpc.host = "127.0.0.1";
    grpc.events.begin = on_begin;
    grpc.events.message = on_message;
    grpc.events.half_closed = on_half_closed;
    grpc.events.cancelled = on_cancelled;
    if (fm_loop_create(&loop, &error) != 0 ||
        fm_loop_watch_signals(loop, on_signal, NULL, &error) != 0 ||
        fm_http_server_create(loop, &http, &http_server, &error) != 0 ||
        fm_grpc_server_create(loop, &grpc, &grpc_server, &error) != 0) {
        (void)fprintf(stderr, "serve_echo: %s\n", error.text);
        return EXIT_FAILURE;
    }
    (void)printf("http %u grpc %u\n", (unsigned)fm_http_server_port(http_server),
                 (unsigned)fm_grpc_server_port(grpc_server));
    (void)fflush(stdout);
    fm_loop_run(loop);
    fm_grpc_server_abort(grpc_server);
    fm_grpc_server_destroy(grpc_server);
    fm_http_server_abort(http_server);
    fm_http_server_destroy(http_server);
    fm_loop_destroy(loop);
    while (free_answers != NULL) {
        struct answer *next = free_answers->next;
        fm_free(free_answers);
        free_answers = next;
    }
    return EXIT_SUCCESS;
}
