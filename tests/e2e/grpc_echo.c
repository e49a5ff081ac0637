/*
 * A small gRPC server for tests: echoes raw bytes, and does what a service can do to a client.
 *
 * usage: grpc_echo [KEY=NUMBER | host=ADDRESS | unix=PATH | loops=N | cert=FILE key=FILE [ca=FILE
 *        clients=1|2] | http=1]...   KEY: a field of struct fm_grpc_options
 *
 * With http=1 it also echoes over HTTP/1.1 (one loop). Prints "port N http M" once it listens;
 * reads its certificate again on SIGHUP; drains on SIGTERM and prints its statistics. The methods
 * of /test.Echo are in the table at the end. Thread rule: each loop on a thread of its own.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/net/grpc_server.h"
#include "host/net/http_server.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { LOOPS_MAX = 16 };

struct lane {
    struct fm_loop *loop;
    struct fm_grpc_server *server;
    struct fm_thread thread;
    struct fm_loop_task drain;
};

static struct lane lanes[LOOPS_MAX];
static size_t lane_count = 1;
static size_t drained_count;
static struct fm_mutex drained_mutex;
static atomic_int cancelled_count;
static struct fm_tls_options tls_options;
static struct fm_tls *tls;
static bool with_http;
static struct fm_http_server *http;

/* What a call of ours needs. */
struct work {
    struct fm_grpc_call *call;
    struct lane *lane;
    void (*message)(struct work *work, struct fm_buffer *buffer, const char *data, size_t size);
    void (*half_closed)(struct work *work);
    struct fm_loop_task task;
    struct fm_thread thread;
    struct fm_buffer *buffer;
    size_t size;
    int code;
    bool threaded;
    char *text;
};

struct answer {
    struct fm_grpc_part part;
    struct fm_buffer *buffer;
};

static void answer_release(void *context)
{
    struct answer *answer = context;
    fm_buffer_unref(answer->buffer);
    fm_free(answer);
}

static void send_bytes(struct fm_grpc_call *call, struct fm_buffer *buffer, const void *data,
                       size_t size, bool compress)
{
    struct answer *answer = fm_alloc(sizeof(*answer));
    if (answer == NULL) {
        return;
    }
    answer->part = (struct fm_grpc_part){data, size};
    answer->buffer = buffer != NULL ? fm_buffer_ref(buffer) : NULL;
    const struct fm_grpc_message message = {.parts = &answer->part,
                                            .part_count = 1,
                                            .compress = compress,
                                            .release = answer_release,
                                            .context = answer};
    fm_grpc_send(call, &message);
}

static void send_text(struct fm_grpc_call *call, const char *text)
{
    size_t size = strlen(text);
    struct fm_buffer *buffer = fm_buffer_create(size + 1);
    if (buffer != NULL) {
        memcpy(fm_buffer_data(buffer), text, size + 1);
        send_bytes(call, buffer, fm_buffer_data(buffer), size, false);
        fm_buffer_unref(buffer);
    }
}

static void work_end(struct work *work, int code, const char *message)
{
    fm_grpc_finish(work->call, code, message, NULL, 0);
    fm_buffer_unref(work->buffer);
    fm_free(work->text);
    fm_free(work);
}

/* --- What methods do with a message --- */

static void echo(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    send_bytes(work->call, buffer, data, size, false);
    fm_grpc_handled(work->call);
}

static void echo_compressed(struct work *work, struct fm_buffer *buffer, const char *data,
                            size_t size)
{
    send_bytes(work->call, buffer, data, size, true);
    fm_grpc_handled(work->call);
}

static void ignore(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)work;
    (void)buffer;
    (void)data;
    (void)size;
}

static void finish_ok(struct work *work)
{
    work_end(work, 0, NULL);
}

static void hold(struct work *work)
{
    (void)work;
}

/* "CODE:MESSAGE" */
static void status(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)buffer;
    work->text = fm_strndup(data, size);
    work->code = work->text != NULL ? (int)strtol(work->text, NULL, 10) : 13;
}

static void finish_status(struct work *work)
{
    const char *colon = work->text != NULL ? strchr(work->text, ':') : NULL;
    const struct fm_grpc_trailer trailers[] = {{"x-one", "first"}, {"x-two", "second"}};
    fm_grpc_finish(work->call, work->code, colon != NULL ? colon + 1 : NULL, trailers, 2);
    fm_free(work->text);
    fm_free(work);
}

/* "COUNT SIZE": that many answers of that many bytes. */
static void many(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)buffer;
    char *text = fm_strndup(data, size);
    char *end = text;
    unsigned long count = text != NULL ? strtoul(text, &end, 10) : 0;
    size_t bytes = text != NULL ? strtoul(end, NULL, 10) : 0;
    fm_free(text);
    struct fm_buffer *one = fm_buffer_create(bytes);
    if (one == NULL) {
        return;
    }
    memset(fm_buffer_data(one), 'x', bytes);
    for (unsigned long i = 0; i < count; i++) {
        send_bytes(work->call, one, fm_buffer_data(one), bytes, false);
    }
    fm_buffer_unref(one);
}

static void metadata(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)buffer;
    char *name = fm_strndup(data, size);
    const char *value = name != NULL ? fm_grpc_call_metadata(work->call, name) : NULL;
    send_text(work->call, value != NULL ? value : "(none)");
    fm_free(name);
}

static void deadline(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)buffer;
    (void)data;
    (void)size;
    char text[48] = "none";
    if (work->call->deadline_ns > 0) {
        uint64_t now_ns = fm_os_now_ns();
        uint64_t left = work->call->deadline_ns > now_ns ? work->call->deadline_ns - now_ns : 0;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)left);
    }
    send_text(work->call, text);
}

static void stats(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)buffer;
    (void)data;
    (void)size;
    struct fm_grpc_stats one;
    char text[768];
    fm_grpc_server_stats(work->lane->server, &one);
    (void)snprintf(
        text, sizeof(text),
        "{\"accepted\":%llu,\"refused\":%llu,\"failed\":%llu,\"calls\":%llu,\"rejected\":%llu,"
        "\"cancelled\":%llu,\"told\":%d,\"received\":%llu,\"sent\":%llu,\"reads\":%llu,"
        "\"writes\":%llu,\"copied\":%llu,\"message_bytes\":%zu,\"connections\":%u,"
        "\"in_flight\":%u,\"bytes_received\":%llu,\"bytes_sent\":%llu}",
        (unsigned long long)one.connections_accepted, (unsigned long long)one.connections_refused,
        (unsigned long long)one.connections_failed, (unsigned long long)one.calls,
        (unsigned long long)one.rejected, (unsigned long long)one.cancelled,
        atomic_load(&cancelled_count), (unsigned long long)one.messages_received,
        (unsigned long long)one.messages_sent, (unsigned long long)one.reads,
        (unsigned long long)one.writes, (unsigned long long)one.bytes_copied, one.message_bytes,
        one.connections, one.in_flight, (unsigned long long)one.bytes_received,
        (unsigned long long)one.bytes_sent);
    send_text(work->call, text);
}

/* Answered from another thread. */
static void keep(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    (void)data;
    work->buffer = buffer != NULL ? fm_buffer_ref(buffer) : NULL;
    work->size = size;
}

static void later_run(struct fm_loop_task *task)
{
    struct work *work = (struct work *)((char *)task - offsetof(struct work, task));
    fm_thread_join(&work->thread);
    if (work->buffer != NULL) {
        const char *end = (const char *)fm_buffer_data(work->buffer) + fm_buffer_size(work->buffer);
        send_bytes(work->call, work->buffer, end - work->size, work->size, false);
    }
    work_end(work, 0, NULL);
}

static void later_thread(void *argument)
{
    struct work *work = argument;
    work->task.run = later_run;
    fm_loop_post(work->lane->loop, &work->task);
}

static void later(struct work *work)
{
    work->threaded = true;
    if (fm_thread_start(&work->thread, "later", later_thread, work) != 0) {
        work_end(work, 8, "no thread");
    }
}

/* How far from an aligned place the message ends. */
static void ending(struct work *work, struct fm_buffer *buffer, const char *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    send_bytes(work->call, NULL, &digits[(uintptr_t)(data + size) % _Alignof(max_align_t)], 1,
               false);
    (void)buffer;
}

/* --- The service --- */

static const struct {
    const char *path;
    void (*message)(struct work *work, struct fm_buffer *buffer, const char *data, size_t size);
    void (*half_closed)(struct work *work);
} methods[] = {
    {"/test.Echo/Unary", echo, finish_ok},
    {"/test.Echo/Stream", echo, finish_ok},
    {"/test.Echo/Compressed", echo_compressed, finish_ok},
    {"/test.Echo/Ignore", ignore, hold}, /* never says that it handled a message */
    {"/test.Echo/Hold", ignore, hold},
    {"/test.Echo/Status", status, finish_status},
    {"/test.Echo/Many", many, finish_ok},
    {"/test.Echo/Metadata", metadata, finish_ok},
    {"/test.Echo/Deadline", deadline, finish_ok},
    {"/test.Echo/Stats", stats, finish_ok},
    {"/test.Echo/Later", keep, later},
    {"/test.Echo/Ending", ending, finish_ok},
};

static void on_begin(void *context, struct fm_grpc_call *call)
{
    if (strcmp(call->path, "/test.Echo/Refuse") == 0) {
        fm_grpc_finish(call, FM_GRPC_UNAVAILABLE, "not now", NULL, 0);
        return;
    }
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(call->path, methods[i].path) == 0) {
            struct work *work = fm_alloc_zero(1, sizeof(*work));
            if (work == NULL) {
                break;
            }
            work->call = call;
            work->lane = context;
            work->message = methods[i].message;
            work->half_closed = methods[i].half_closed;
            call->user = work;
            return;
        }
    }
    fm_grpc_finish(call, FM_GRPC_UNIMPLEMENTED, "no such method", NULL, 0);
}

static void on_message(void *context, struct fm_grpc_call *call, struct fm_buffer *buffer,
                       const void *data, size_t size)
{
    (void)context;
    struct work *work = call->user;
    work->message(work, buffer, data, size);
}

static void on_half_closed(void *context, struct fm_grpc_call *call)
{
    (void)context;
    struct work *work = call->user;
    work->half_closed(work);
}

static void on_cancelled(void *context, struct fm_grpc_call *call)
{
    (void)context;
    struct work *work = call->user;
    atomic_fetch_add(&cancelled_count, 1);
    if (!work->threaded) {
        work_end(work, FM_GRPC_CANCELLED, NULL);
    }
}

static void on_drained(void *context)
{
    struct lane *lane = context;
    fm_mutex_lock(&drained_mutex);
    bool last = ++drained_count == lane_count;
    fm_mutex_unlock(&drained_mutex);
    if (lane != &lanes[0]) {
        fm_loop_stop(lane->loop);
    }
    if (last) {
        printf("drained\n");
        fflush(stdout);
    }
    if (lane == &lanes[0]) {
        fm_loop_stop(lane->loop);
    }
}

static void drain_run(struct fm_loop_task *task)
{
    struct lane *lane = (struct lane *)((char *)task - offsetof(struct lane, drain));
    fm_grpc_server_drain(lane->server, 100000000);
}

static void on_signal(void *context, int number)
{
    (void)context;
    if (fm_loop_is_hangup(number)) {
        struct fm_error error = {0};
        int result = tls != NULL ? fm_tls_reload(tls, &error) : 0;
        printf("%s\n", result == 0 ? "reloaded" : error.text);
        fflush(stdout);
        return;
    }
    for (size_t i = 0; i < lane_count; i++) {
        lanes[i].drain.run = drain_run;
        fm_loop_post(lanes[i].loop, &lanes[i].drain);
    }
}

static void lane_run(void *argument)
{
    struct lane *lane = argument;
    fm_loop_run(lane->loop);
}

/* --- HTTP/1.1 --- */

static void http_release(void *context)
{
    fm_buffer_unref(context);
}

static void http_handle(void *context, struct fm_http_request *request)
{
    (void)context;
    const struct fm_http_part part = {request->body, request->body_size};
    static struct fm_http_part parts[64];
    static size_t turn;
    struct fm_http_part *own = &parts[turn++ % 64];
    *own = part;
    struct fm_http_answer answer = {.status = 200, .content_type = "text/plain", .compress = true};
    if (request->body_size > 0) {
        answer.parts = own;
        answer.part_count = 1;
        answer.release = http_release;
        answer.context = fm_buffer_ref(request->body_buffer);
    }
    fm_http_answer(request, &answer);
}

static void http_error(struct fm_text *text, const char *message)
{
    fm_text_append_string(text, message);
}

static int http_start(const struct fm_grpc_options *options, struct fm_error *reterr)
{
    struct fm_http_options http_options;
    fm_http_options_init(&http_options);
    http_options.host = options->host;
    http_options.tls = options->tls;
    http_options.body_bytes_max = options->message_bytes_max;
    http_options.handle = http_handle;
    http_options.write_error = http_error;
    http_options.header_timeout_ns = options->handshake_timeout_ns;
    return fm_http_server_create(lanes[0].loop, &http_options, &http, reterr);
}

/* --- Options --- */

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(struct fm_grpc_options, name), sizeof(((struct fm_grpc_options *)0)->name) \
    }

static const struct {
    const char *name;
    size_t offset;
    size_t size;
} fields[] = {FIELD(port),
              FIELD(connections_max),
              FIELD(calls_max),
              FIELD(message_bytes_max),
              FIELD(message_bytes_total_max),
              FIELD(metadata_bytes_max),
              FIELD(unhandled_max),
              FIELD(unsent_max),
              FIELD(stream_window_bytes),
              FIELD(connection_window_bytes),
              FIELD(resets_per_second_max),
              FIELD(control_frames_per_second_max),
              FIELD(handshake_timeout_ns),
              FIELD(idle_timeout_ns),
              FIELD(keepalive_ns),
              FIELD(keepalive_timeout_ns),
              FIELD(message_timeout_ns),
              FIELD(write_timeout_ns)};

static int option_read(struct fm_grpc_options *options, char *argument)
{
    char *equals = strchr(argument, '=');
    if (equals == NULL) {
        return -1;
    }
    *equals = '\0';
    if (strcmp(argument, "unix") == 0) {
        options->unix_path = equals + 1;
        options->host = NULL;
        return 0;
    }
    if (strcmp(argument, "host") == 0) {
        options->host = equals + 1;
        return 0;
    }
    if (strcmp(argument, "cert") == 0) {
        tls_options.certificate_path = equals + 1;
        return 0;
    }
    if (strcmp(argument, "key") == 0) {
        tls_options.key_path = equals + 1;
        return 0;
    }
    if (strcmp(argument, "ca") == 0) {
        tls_options.client_ca_path = equals + 1;
        return 0;
    }
    uint64_t value = strtoull(equals + 1, NULL, 10);
    if (strcmp(argument, "clients") == 0) {
        tls_options.clients = (enum fm_tls_clients)value;
        return 0;
    }
    if (strcmp(argument, "http") == 0) {
        with_http = value != 0;
        return 0;
    }
    if (strcmp(argument, "loops") == 0 && value >= 1 && value <= LOOPS_MAX) {
        lane_count = (size_t)value;
        return 0;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(argument, fields[i].name) == 0) {
            memcpy((char *)options + fields[i].offset, &value, fields[i].size);
            return 0;
        }
    }
    return -1;
}

static int lanes_start(struct fm_grpc_options *options)
{
    struct fm_error error = {0};
    if (tls_options.certificate_path != NULL && fm_tls_create(&tls_options, &tls, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    options->tls = tls;
    for (size_t i = 0; i < lane_count; i++) {
        options->context = &lanes[i];
        options->shared = lane_count > 1;
        options->sibling = i > 0 ? lanes[0].server : NULL;
        if (fm_loop_create(&lanes[i].loop, &error) != 0 ||
            fm_grpc_server_create(lanes[i].loop, options, &lanes[i].server, &error) != 0) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }
    }
    if (with_http && http_start(options, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    if (fm_loop_watch_signals(lanes[0].loop, on_signal, NULL, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (size_t i = 1; i < lane_count; i++) {
        if (fm_thread_start(&lanes[i].thread, "lane", lane_run, &lanes[i]) != 0) {
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct fm_grpc_options options;
    fm_grpc_options_init(&options);
    options.host = "127.0.0.1";
    options.events = (struct fm_grpc_events){.begin = on_begin,
                                             .message = on_message,
                                             .half_closed = on_half_closed,
                                             .cancelled = on_cancelled,
                                             .drained = on_drained};
    for (int i = 1; i < argc; i++) {
        if (option_read(&options, argv[i]) != 0) {
            fprintf(stderr, "cannot read '%s'\n", argv[i]);
            return 2;
        }
    }
    fm_mutex_init(&drained_mutex);
    if (lanes_start(&options) != 0) {
        return 6;
    }
    printf("port %u http %u\n", (unsigned)fm_grpc_server_port(lanes[0].server),
           http != NULL ? (unsigned)fm_http_server_port(http) : 0u);
    fflush(stdout);
    fm_loop_run(lanes[0].loop);
    for (size_t i = 1; i < lane_count; i++) {
        fm_thread_join(&lanes[i].thread);
    }
    struct fm_grpc_stats total = {0};
    for (size_t i = 0; i < lane_count; i++) {
        struct fm_grpc_stats one;
        fm_grpc_server_stats(lanes[i].server, &one);
        total.calls += one.calls;
        total.connections_accepted += one.connections_accepted > 0;
        total.in_flight += one.in_flight;
        total.message_bytes += one.message_bytes;
    }
    fm_http_server_destroy(http);
    for (size_t i = lane_count; i-- > 0;) {
        fm_grpc_server_destroy(lanes[i].server);
        fm_loop_destroy(lanes[i].loop);
    }
    fm_tls_destroy(tls);
    fm_mutex_deinit(&drained_mutex);
    printf("calls %llu lanes_used %llu in_flight %u message_bytes %zu\n",
           (unsigned long long)total.calls, (unsigned long long)total.connections_accepted,
           total.in_flight, total.message_bytes);
    return 0;
}
