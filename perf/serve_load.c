/*
 * A load generator for servers of the Open Inference Protocol: HTTP/1.1 and gRPC, closed loop and
 * open loop, answers checked, results as one JSON object.
 *
 * usage: serve_load --http PORT | --grpc PORT [--OPTION VALUE]...     (see `option_rows` below)
 *
 * Closed loop: connections x streams requests are always under way. Open loop (--rate): a seeded
 * Poisson process says when requests are due; latency counts from then, however late they could be
 * sent, so that a server that stalls cannot hide it (no coordinated omission). What is due before
 * the warm-up is over is not counted. Replay (--replay FILE): the requests of a recording (`fermata
 * serve --record-payloads`) are due when they came, or --speed times as fast, with the deadlines
 * that they brought; all count.
 *
 * Owns: connections, schedule, samples. Does not own: what the server is (the perf scripts start
 * it). Thread rule: one thread.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/proto/oip_client.h"
#include "core/proto/payload.h"
#include "core/util/error.h"
#include "core/util/random.h"
#include "core/util/text.h"

enum {
    STATUS_MAX = 600,
    STATUS_WRONG = 599, /* an answer that is not what was sent */
    STATUS_LOST = 598,  /* none before the end */
    CONNECTIONS_MAX = 4096,
    STREAMS_MAX = 4096,
    BACKLOG_MAX = 1 << 20, /* due and not sent */
    MODELS_MAX = 1024,
    WINDOW = 1 << 30,
};

#define NS_PER_S UINT64_C(1000000000)

static struct {
    uint64_t http_port;
    uint64_t grpc_port;
    const char *model;
    uint64_t models; /* above 0: names are --model and a number, chosen at random */
    uint64_t connections;
    uint64_t streams;
    double rate;
    double seconds;
    double warmup;
    uint64_t requests; /* ends after so many */
    double timeout_ms;
    double slo_ms;
    const char *input;
    const char *shape;
    const char *datatype;
    uint64_t bytes;
    bool check;
    uint64_t pid;
    uint64_t seed;
    const char *replay;
    double speed;
} options = {.model = "echo",
             .connections = 1,
             .streams = 1,
             .seconds = 3,
             .warmup = 0.5,
             .input = "x",
             .shape = "1,256",
             .datatype = "FP32",
             .bytes = 1024,
             .seed = 1,
             .speed = 1};

/* Exactly one of the places is set. */
static const struct {
    const char *name;
    uint64_t *count;
    double *number;
    const char **text;
    bool *flag;
} option_rows[] = {
    {"--http", .count = &options.http_port},
    {"--grpc", .count = &options.grpc_port},
    {"--model", .text = &options.model},
    {"--models", .count = &options.models},
    {"--connections", .count = &options.connections},
    {"--streams", .count = &options.streams},
    {"--rate", .number = &options.rate},
    {"--seconds", .number = &options.seconds},
    {"--warmup", .number = &options.warmup},
    {"--requests", .count = &options.requests},
    {"--timeout-ms", .number = &options.timeout_ms},
    {"--slo-ms", .number = &options.slo_ms},
    {"--input", .text = &options.input},
    {"--shape", .text = &options.shape},
    {"--datatype", .text = &options.datatype},
    {"--bytes", .count = &options.bytes},
    {"--check", .flag = &options.check},
    {"--pid", .count = &options.pid},
    {"--seed", .count = &options.seed},
    {"--replay", .text = &options.replay},
    {"--speed", .number = &options.speed},
};

/* One request under way, or the place for one. */
struct slot {
    struct connection *connection;
    struct slot *next; /* free ones */
    uint64_t due_ns;
    bool counts;
    int32_t stream;
    uint32_t model;
    size_t sent; /* of the body */
    int status;
    unsigned char *answer;
    size_t answer_size;
    size_t answer_capacity;
};

struct connection {
    int fd;
    struct slot *slots;
    nghttp2_session *session;
    unsigned char *out;
    size_t out_size;
    size_t out_done;
    size_t out_capacity;
    bool waits; /* to write */
    /* HTTP/1.1: the answer so far. */
    unsigned char *in;
    size_t in_size;
    size_t in_capacity;
};

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct connection *connections;
static struct slot *free_slots;
static int epoll_fd;

/* A request as it is sent. */
struct body {
    struct bytes bytes; /* HTTP: with its head */
    size_t tail;        /* its last bytes are its last tensor: what --check looks for */
    uint64_t due_ns;    /* replay: after the beginning */
    char timeout[24];   /* gRPC; "": none */
};

static struct body *bodies;
static size_t body_count;
static struct bytes payload;
static bool open_loop;
static size_t replayed; /* how many of the bodies are due */
static struct fm_random random_arrivals;
static struct fm_random random_models;

static uint64_t begin_ns; /* of what counts */
static uint64_t end_ns;
static bool over; /* nothing new is sent */
static uint64_t *samples;
static size_t sample_count;
static size_t sample_capacity;
static uint64_t status_counts[STATUS_MAX];
static uint64_t good_count; /* within the SLO */
static uint64_t sent_count;
static uint64_t answered_count;
static uint64_t in_flight;
static uint64_t cpu_begin_ns;
static uint64_t cpu_end_ns;
static uint64_t real_begin_ns;
static uint64_t real_end_ns;
static uint64_t answered_begin;
static uint64_t answered_end;

/* Due and not sent: a ring of times. */
static uint64_t *backlog;
static size_t backlog_first;
static size_t backlog_count;

static void fail(const char *what)
{
    (void)fprintf(stderr, "serve_load: %s%s%s\n", what, errno != 0 ? ": " : "",
                  errno != 0 ? strerror(errno) : "");
    exit(EXIT_FAILURE);
}

static void *memory(void *old, size_t size)
{
    void *data = realloc(old, size);
    if (data == NULL) {
        fail("no memory");
    }
    return data;
}

static uint64_t now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

/* CPU time of all threads of the server, in nanoseconds. */
static uint64_t server_cpu_ns(void)
{
    char path[64];
    uint64_t total = 0;
    if (options.pid == 0) {
        return 0;
    }
    (void)snprintf(path, sizeof path, "/proc/%llu/task", (unsigned long long)options.pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        fail(path);
    }
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char file[400];
        unsigned long long spent = 0;
        (void)snprintf(file, sizeof file, "%s/%s/schedstat", path, task->d_name);
        FILE *of = task->d_name[0] != '.' ? fopen(file, "r") : NULL;
        if (of != NULL) {
            total += fscanf(of, "%llu", &spent) == 1 ? spent : 0;
            (void)fclose(of);
        }
    }
    (void)closedir(tasks);
    return total;
}

/* --- what is sent ---------------------------------------------------------------------------- */

static void append(struct bytes *to, const void *data, size_t size)
{
    to->data = memory(to->data, to->size + size + 1);
    if (size > 0) {
        memcpy(to->data + to->size, data, size);
    }
    to->size += size;
}

static void append_varint(struct bytes *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        append(to, &(unsigned char){(unsigned char)(value | 0x80)}, 1);
    }
    append(to, &(unsigned char){(unsigned char)value}, 1);
}

static void append_field(struct bytes *to, unsigned number, const void *data, size_t size)
{
    append_varint(to, number << 3 | 2);
    append_varint(to, size);
    append(to, data, size);
}

static void http_body(struct bytes *to, const char *name)
{
    char head[1024];
    char json[512];
    char timeout[64] = "";
    if (options.timeout_ms > 0) {
        (void)snprintf(timeout, sizeof timeout, ",\"timeout\":%.0f", options.timeout_ms * 1000);
    }
    int json_size =
        snprintf(json, sizeof json,
                 "{\"inputs\":[{\"name\":\"%s\",\"shape\":[%s],\"datatype\":\"%s\","
                 "\"parameters\":{\"binary_data_size\":%d}}],"
                 "\"parameters\":{\"binary_data_output\":true%s}}",
                 options.input, options.shape, options.datatype, (int)options.bytes, timeout);
    int head_size = snprintf(head, sizeof head,
                             "POST /v2/models/%s/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                             "Content-Type: application/octet-stream\r\n"
                             "Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n",
                             name, json_size, json_size + (int)options.bytes);
    append(to, head, (size_t)head_size);
    append(to, json, (size_t)json_size);
    append(to, payload.data, payload.size);
}

static void grpc_prefix(struct bytes *to, size_t size)
{
    const unsigned char prefix[5] = {0, (unsigned char)(size >> 24), (unsigned char)(size >> 16),
                                     (unsigned char)(size >> 8), (unsigned char)size};
    append(to, prefix, sizeof prefix);
}

/* A ModelInferRequest behind gRPC's five bytes. */
static void grpc_body(struct bytes *to, const char *name)
{
    struct bytes tensor = {0};
    struct bytes shape = {0};
    struct bytes message = {0};
    for (const char *text = options.shape; *text != '\0';) {
        char *end;
        append_varint(&shape, strtoull(text, &end, 10));
        text = *end == ',' ? end + 1 : end;
    }
    append_field(&tensor, 1, options.input, strlen(options.input));
    append_field(&tensor, 2, options.datatype, strlen(options.datatype));
    append_field(&tensor, 3, shape.data, shape.size);
    append_field(&message, 1, name, strlen(name));
    append_field(&message, 5, tensor.data, tensor.size);
    append_field(&message, 7, payload.data, payload.size);
    grpc_prefix(to, message.size);
    append(to, message.data, message.size);
    free(tensor.data);
    free(shape.data);
    free(message.data);
}

static void bodies_make(void)
{
    payload.size = options.bytes;
    payload.data = memory(NULL, payload.size + 1);
    for (size_t i = 0; i < payload.size; i++) {
        /* Small finite numbers in every format, and no two rows alike. */
        payload.data[i] = (unsigned char)(i % 4 == 3 ? 0x3f : (i * 7) % 0x70);
    }
    body_count = options.models > 0 ? options.models : 1;
    bodies = memory(NULL, body_count * sizeof *bodies);
    memset(bodies, 0, body_count * sizeof *bodies);
    for (size_t i = 0; i < body_count; i++) {
        char name[256];
        (void)snprintf(name, sizeof name, options.models > 0 ? "%s%u" : "%s", options.model,
                       (unsigned)i);
        if (options.grpc_port != 0) {
            grpc_body(&bodies[i].bytes, name);
        } else {
            http_body(&bodies[i].bytes, name);
        }
        bodies[i].tail = payload.size;
        if (options.timeout_ms > 0) {
            (void)snprintf(bodies[i].timeout, sizeof bodies[i].timeout, "%.0fu",
                           options.timeout_ms * 1000);
        }
    }
}

/* --- what was recorded ----------------------------------------------------------------------- */

/* A name as a part of a path. */
static void path_append(struct fm_text *to, const char *name)
{
    for (; *name != '\0'; name++) {
        unsigned char at = (unsigned char)*name;
        if ((at >= 'a' && at <= 'z') || (at >= 'A' && at <= 'Z') || (at >= '0' && at <= '9') ||
            strchr("-._~", at) != NULL) {
            fm_text_append_char(to, (char)at);
        } else {
            fm_text_append_format(to, "%%%02X", at);
        }
    }
}

static void recorded_head(struct bytes *to, const struct fm_payload *recorded,
                          const struct fm_oip_client_message *message)
{
    struct fm_text head = {0};
    if (options.grpc_port != 0) {
        grpc_prefix(to, message->size);
        return;
    }
    fm_text_append_string(&head, "POST /v2/models/");
    path_append(&head, recorded->model);
    fm_text_append_format(&head,
                          "/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                          "Content-Type: application/octet-stream\r\n"
                          "Inference-Header-Content-Length: %zu\r\nContent-Length: %zu\r\n\r\n",
                          message->head.length, message->size);
    if (head.failed) {
        fail("no memory");
    }
    append(to, head.data, head.length);
    fm_text_deinit(&head);
}

/* The request as the client library would send it. Over gRPC its deadline is a header field. */
static void recorded_body(struct bytes *to, const struct fm_payload *recorded)
{
    bool grpc = options.grpc_port != 0;
    struct fm_client_input *inputs = memory(NULL, (recorded->input_count + 1) * sizeof *inputs);
    struct fm_client_output *outputs = memory(NULL, (recorded->output_count + 1) * sizeof *outputs);
    for (uint32_t i = 0; i < recorded->input_count; i++) {
        inputs[i] = (struct fm_client_input){.name = recorded->inputs[i].name,
                                             .tensor = recorded->inputs[i].tensor};
    }
    for (uint32_t i = 0; i < recorded->output_count; i++) {
        outputs[i] = (struct fm_client_output){.name = recorded->outputs[i].name,
                                               .classes = recorded->outputs[i].classes};
    }
    const struct fm_client_request request = {
        .struct_size = sizeof request,
        .model = recorded->model,
        .id = recorded->id,
        .inputs = inputs,
        .input_count = recorded->input_count,
        .outputs = outputs,
        .output_count = recorded->output_count,
        .priority = recorded->priority,
        .timeout_ns = grpc ? 0 : recorded->timeout_us * 1000,
    };
    struct fm_oip_client_message message;
    struct fm_error error = {0};
    int status = grpc ? fm_oip_client_encode_grpc(&request, &message, &error)
                      : fm_oip_client_encode_json(&request, true, &message, &error);
    if (status != 0) {
        (void)fprintf(stderr, "serve_load: %s: %s\n", options.replay, error.text);
        exit(EXIT_FAILURE);
    }
    recorded_head(to, recorded, &message);
    for (uint32_t i = 0; i < message.part_count; i++) {
        append(to, message.parts[i].data, message.parts[i].size);
    }
    fm_oip_client_message_deinit(&message);
    free(inputs);
    free(outputs);
}

static void body_add(const struct fm_payload *recorded)
{
    if ((body_count & (body_count - 1)) == 0) {
        bodies = memory(bodies, (body_count > 0 ? 2 * body_count : 1) * sizeof *bodies);
    }
    struct body *body = &bodies[body_count++];
    *body = (struct body){.due_ns = recorded->time_ns};
    if (recorded->input_count > 0) {
        body->tail = recorded->inputs[recorded->input_count - 1].tensor.size;
    }
    recorded_body(&body->bytes, recorded);
    if (options.grpc_port != 0 && recorded->timeout_us > 0) {
        /* The protocol has eight digits. */
        bool micro = recorded->timeout_us < 100000000;
        uint64_t milli = recorded->timeout_us / 1000;
        (void)snprintf(body->timeout, sizeof body->timeout, "%llu%c",
                       (unsigned long long)(micro              ? recorded->timeout_us
                                            : milli < 99999999 ? milli
                                                               : 99999999),
                       micro ? 'u' : 'm');
    }
}

static int by_due(const void *left, const void *right)
{
    uint64_t one = ((const struct body *)left)->due_ns;
    uint64_t other = ((const struct body *)right)->due_ns;
    return (one > other) - (one < other);
}

/* A last line that was cut off is not read; every other one has to be right. */
static void recording_read(void)
{
    struct fm_arena arena;
    FILE *file = fopen(options.replay, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    bool begun = false;
    if (file == NULL) {
        fail(options.replay);
    }
    for (unsigned number = 1; (length = getline(&line, &capacity, file)) > 0; number++) {
        struct fm_payload recorded;
        struct fm_error error = {0};
        if (line[length - 1] != '\n') {
            break;
        }
        fm_arena_init(&arena, 0);
        int status = fm_payload_read(line, (size_t)length, &arena, &recorded, &error);
        begun = begun || (status == 0 && recorded.kind == FM_PAYLOAD_BEGIN);
        if (status != 0 || !begun) {
            (void)fprintf(stderr, "serve_load: %s:%u: %s\n", options.replay, number,
                          status != 0 ? error.text
                                      : "the first line of a recording says its format");
            exit(EXIT_FAILURE);
        }
        if (recorded.kind == FM_PAYLOAD_REQUEST) {
            body_add(&recorded);
        }
        fm_arena_deinit(&arena);
    }
    free(line);
    (void)fclose(file);
    if (body_count == 0) {
        errno = 0;
        fail("the recording has no requests");
    }
    qsort(bodies, body_count, sizeof *bodies, by_due);
    uint64_t first_ns = bodies[0].due_ns;
    for (size_t i = 0; i < body_count; i++) {
        bodies[i].due_ns = (uint64_t)((double)(bodies[i].due_ns - first_ns) / options.speed);
    }
}

/* --- answers --------------------------------------------------------------------------------- */

static void next_request(struct slot *slot);

static void sample_add(uint64_t latency_ns)
{
    if (sample_count == sample_capacity) {
        sample_capacity = sample_capacity > 0 ? 2 * sample_capacity : 1 << 16;
        samples = memory(samples, sample_capacity * sizeof *samples);
    }
    samples[sample_count++] = latency_ns;
}

static void count(struct slot *slot, int status, uint64_t at_ns)
{
    bool ok = status == 0 || status == 200;
    const struct body *body = &bodies[slot->model];
    if (ok && options.check &&
        (slot->answer_size < body->tail ||
         memcmp(slot->answer + slot->answer_size - body->tail,
                body->bytes.data + body->bytes.size - body->tail, body->tail) != 0)) {
        status = STATUS_WRONG;
        ok = false;
    }
    status_counts[status >= 0 && status < STATUS_MAX ? status : STATUS_WRONG]++;
    uint64_t latency_ns = at_ns - slot->due_ns;
    if (ok) {
        sample_add(latency_ns);
        good_count += options.slo_ms == 0 || (double)latency_ns <= options.slo_ms * 1e6;
    }
}

/* Frees the slot, and uses it again. */
static void answered(struct slot *slot, int status)
{
    uint64_t at_ns = now();
    answered_count++;
    in_flight--;
    bool counts = open_loop ? slot->counts : at_ns >= begin_ns && at_ns < end_ns;
    if (counts) {
        count(slot, status, at_ns);
    }
    slot->answer_size = 0;
    slot->next = free_slots;
    free_slots = slot;
    if (!open_loop) {
        free_slots = slot->next;
        next_request(slot);
    }
}

static void keep(struct slot *slot, const void *data, size_t size)
{
    if (slot->answer_size + size > slot->answer_capacity) {
        slot->answer_capacity = 2 * (slot->answer_size + size);
        slot->answer = memory(slot->answer, slot->answer_capacity);
    }
    memcpy(slot->answer + slot->answer_size, data, size);
    slot->answer_size += size;
}

/* --- gRPC ------------------------------------------------------------------------------------ */

static ssize_t body_read(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    (void)session;
    (void)stream;
    (void)context;
    struct slot *slot = source->ptr;
    const struct bytes *body = &bodies[slot->model].bytes;
    size_t size = body->size - slot->sent < length ? body->size - slot->sent : length;
    memcpy(buffer, body->data + slot->sent, size);
    slot->sent += size;
    if (slot->sent == body->size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)size;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    (void)flags;
    (void)context;
    struct slot *slot = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (slot != NULL && name_size == 11 && memcmp(name, "grpc-status", 11) == 0) {
        slot->status = 0;
        for (size_t i = 0; i < value_size && i < 3; i++) {
            slot->status = slot->status * 10 + (value[i] - '0');
        }
    }
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                    size_t size, void *context)
{
    (void)flags;
    (void)context;
    struct slot *slot = nghttp2_session_get_stream_user_data(session, stream);
    if (slot != NULL && options.check) {
        keep(slot, data, size);
    }
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *context)
{
    (void)code;
    (void)context;
    struct slot *slot = nghttp2_session_get_stream_user_data(session, stream);
    if (slot != NULL) {
        answered(slot, slot->status);
    }
    return 0;
}

static void grpc_open(struct connection *connection)
{
    nghttp2_session_callbacks *callbacks;
    (void)nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    (void)nghttp2_session_client_new(&connection->session, callbacks, connection);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
                                               {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    (void)nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, 2);
    (void)nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
}

#define FIELD(name, value)                                                              \
    {                                                                                   \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), sizeof(name) - 1,  \
            strlen(value), NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE \
    }

static void grpc_request(struct slot *slot)
{
    const nghttp2_nv fields[] = {FIELD(":method", "POST"),
                                 FIELD(":scheme", "http"),
                                 FIELD(":path", "/inference.GRPCInferenceService/ModelInfer"),
                                 FIELD(":authority", "127.0.0.1"),
                                 FIELD("content-type", "application/grpc"),
                                 FIELD("te", "trailers"),
                                 FIELD("grpc-timeout", bodies[slot->model].timeout)};
    const nghttp2_data_provider body = {.source.ptr = slot, .read_callback = body_read};
    slot->status = 2; /* of what ends without one */
    slot->stream =
        nghttp2_submit_request(slot->connection->session, NULL, fields,
                               bodies[slot->model].timeout[0] != '\0' ? 7 : 6, &body, slot);
    if (slot->stream < 0) {
        fail(nghttp2_strerror(slot->stream));
    }
}

/* --- connections ----------------------------------------------------------------------------- */

static void out_append(struct connection *connection, const void *data, size_t size)
{
    if (connection->out_size + size > connection->out_capacity) {
        connection->out_capacity = 2 * (connection->out_size + size);
        connection->out = memory(connection->out, connection->out_capacity);
    }
    memcpy(connection->out + connection->out_size, data, size);
    connection->out_size += size;
}

static void poll_set(struct connection *connection, bool waits)
{
    if (connection->waits != waits) {
        connection->waits = waits;
        struct epoll_event event = {.events = EPOLLIN | (waits ? (uint32_t)EPOLLOUT : 0),
                                    .data.ptr = connection};
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
    }
}

/* Sends what there is to send. */
static void flush(struct connection *connection)
{
    for (;;) {
        const uint8_t *data;
        ssize_t size = 0;
        while (connection->session != NULL && connection->out_size < 1 << 20 &&
               (size = nghttp2_session_mem_send(connection->session, &data)) > 0) {
            out_append(connection, data, (size_t)size);
        }
        if (connection->out_done == connection->out_size) {
            break;
        }
        size = write(connection->fd, connection->out + connection->out_done,
                     connection->out_size - connection->out_done);
        if (size < 0 && errno == EAGAIN) {
            poll_set(connection, true);
            return;
        }
        if (size < 0) {
            fail("write");
        }
        connection->out_done += (size_t)size;
        if (connection->out_done == connection->out_size) {
            connection->out_done = 0;
            connection->out_size = 0;
        }
    }
    poll_set(connection, false);
}

static void next_request(struct slot *slot)
{
    if (over || (options.requests > 0 && sent_count >= options.requests)) {
        return;
    }
    slot->model = options.replay != NULL ? (uint32_t)sent_count
                  : options.models > 0   ? (uint32_t)fm_random_below(&random_models, options.models)
                                         : 0;
    slot->sent = 0;
    if (!open_loop) {
        slot->due_ns = now();
    }
    sent_count++;
    in_flight++;
    if (slot->connection->session != NULL) {
        grpc_request(slot);
    } else {
        const struct bytes *body = &bodies[slot->model].bytes;
        out_append(slot->connection, body->data, body->size);
    }
}

/* A whole answer in the buffer? Then it is taken out. */
static void http_answers(struct connection *connection)
{
    unsigned char *end = memmem(connection->in, connection->in_size, "\r\n\r\n", 4);
    if (end == NULL) {
        return;
    }
    size_t head = (size_t)(end - connection->in) + 4;
    *end = '\0';
    const char *length = strcasestr((const char *)connection->in, "\r\nContent-Length:");
    size_t body = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    int status =
        connection->in_size > 12 ? (int)strtol((const char *)connection->in + 9, NULL, 10) : 0;
    *end = '\r';
    if (connection->in_size < head + body) {
        return;
    }
    connection->in_size = 0; /* one request is under way: nothing follows */
    if (options.check) {
        keep(connection->slots, connection->in + head, body);
    }
    answered(connection->slots, status);
}

/* At least one read; true: maybe more. */
static bool receive(struct connection *connection)
{
    if (connection->in_capacity - connection->in_size < 1 << 17) {
        connection->in_capacity = 2 * connection->in_capacity + (1 << 18);
        connection->in = memory(connection->in, connection->in_capacity);
    }
    size_t room = connection->in_capacity - connection->in_size;
    ssize_t size = read(connection->fd, connection->in + connection->in_size, room);
    if (size < 0 && errno == EAGAIN) {
        return false;
    }
    if (size <= 0) {
        errno = size == 0 ? 0 : errno;
        fail("the server closed a connection");
    }
    if (connection->session == NULL) {
        connection->in_size += (size_t)size;
        http_answers(connection);
        return false;
    }
    ssize_t taken = nghttp2_session_mem_recv(connection->session, connection->in, (size_t)size);
    if (taken < 0) {
        fail(nghttp2_strerror((int)taken));
    }
    return (size_t)size == room;
}

static void connection_open(struct connection *connection)
{
    uint64_t port = options.grpc_port != 0 ? options.grpc_port : options.http_port;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        fail("connect");
    }
    int one = 1;
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event);
    if (options.grpc_port != 0) {
        grpc_open(connection);
    }
    connection->slots = calloc(options.streams, sizeof *connection->slots);
    if (connection->slots == NULL) {
        fail("no memory");
    }
    for (uint64_t i = 0; i < options.streams; i++) {
        connection->slots[i].connection = connection;
    }
}

/* --- the schedule ---------------------------------------------------------------------------- */

/* To the next request that is due. */
static uint64_t gap_ns(void)
{
    if (options.replay != NULL) {
        replayed++;
        return replayed < body_count ? bodies[replayed].due_ns - bodies[replayed - 1].due_ns
                                     : end_ns;
    }
    return (uint64_t)(-log(1.0 - fm_random_unit(&random_arrivals)) / options.rate * 1e9);
}

/* What is due goes out, where there is a place for it. */
static void schedule(uint64_t *next_ns)
{
    uint64_t now_ns = now();
    for (; *next_ns <= now_ns && *next_ns < end_ns; *next_ns += gap_ns()) {
        if (backlog_count == BACKLOG_MAX) {
            fail("a million requests are due and cannot be sent: more --connections or --streams?");
        }
        backlog[(backlog_first + backlog_count++) % BACKLOG_MAX] = *next_ns;
    }
    while (backlog_count > 0 && free_slots != NULL) {
        struct slot *slot = free_slots;
        free_slots = slot->next;
        slot->due_ns = backlog[backlog_first];
        slot->counts = slot->due_ns >= begin_ns;
        backlog_first = (backlog_first + 1) % BACKLOG_MAX;
        backlog_count--;
        next_request(slot);
    }
}

static void wait_events(uint64_t until_ns)
{
    struct epoll_event events[256];
    uint64_t now_ns = now();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    const struct timespec timeout = {(time_t)(left_ns / NS_PER_S), (long)(left_ns % NS_PER_S)};
    int ready = epoll_pwait2(epoll_fd, events, 256, &timeout, NULL);
    for (int i = 0; i < ready; i++) {
        struct connection *connection = events[i].data.ptr;
        while ((events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 && receive(connection)) {
        }
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        flush(&connections[i]);
    }
}

static bool done(uint64_t now_ns)
{
    if (options.requests > 0) {
        return answered_count >= options.requests;
    }
    if (options.replay != NULL && (replayed < body_count || backlog_count > 0) &&
        now_ns < end_ns + 60 * NS_PER_S) {
        return false;
    }
    return now_ns >= end_ns + 3 * NS_PER_S || (now_ns >= end_ns && (in_flight == 0 || !open_loop));
}

static void run(void)
{
    uint64_t start_ns = now();
    uint64_t next_ns = start_ns;
    begin_ns = start_ns + (uint64_t)(options.warmup * 1e9);
    end_ns = begin_ns + (uint64_t)(options.seconds * 1e9);
    if (options.replay != NULL) {
        begin_ns = start_ns;
        end_ns = start_ns + bodies[body_count - 1].due_ns + 1;
    }
    if (options.requests > 0) {
        begin_ns = start_ns;
        end_ns = UINT64_MAX;
    }
    for (uint64_t j = 0; j < options.streams; j++) {
        for (uint64_t i = 0; i < options.connections; i++) {
            struct slot *slot = &connections[i].slots[j];
            if (open_loop) {
                slot->next = free_slots;
                free_slots = slot;
            } else {
                next_request(slot);
            }
        }
    }
    for (uint64_t now_ns = start_ns; !done(now_ns); now_ns = now()) {
        if (open_loop) {
            schedule(&next_ns);
        }
        for (uint64_t i = 0; i < options.connections; i++) {
            flush(&connections[i]);
        }
        if (real_begin_ns == 0 && now_ns >= begin_ns) {
            real_begin_ns = now_ns;
            answered_begin = answered_count;
            cpu_begin_ns = server_cpu_ns();
        }
        if (real_end_ns == 0 && now_ns >= end_ns) {
            real_end_ns = now_ns;
            answered_end = answered_count;
            cpu_end_ns = server_cpu_ns();
            over = !open_loop;
        }
        uint64_t until_ns = now_ns + NS_PER_S / 10;
        if (open_loop && next_ns < until_ns && next_ns < end_ns) {
            until_ns = next_ns;
        }
        wait_events(until_ns < end_ns || now_ns >= end_ns ? until_ns : end_ns);
    }
    if (real_end_ns == 0) {
        real_end_ns = now();
        answered_end = answered_count;
        cpu_end_ns = server_cpu_ns();
    }
}

/* --- results --------------------------------------------------------------------------------- */

static int by_value(const void *left, const void *right)
{
    uint64_t one = *(const uint64_t *)left;
    uint64_t other = *(const uint64_t *)right;
    return (one > other) - (one < other);
}

static double quantile_us(double of)
{
    if (sample_count == 0) {
        return 0;
    }
    size_t index = (size_t)ceil(of * (double)sample_count);
    return (double)samples[index > 0 ? index - 1 : 0] / 1e3;
}

static void report(void)
{
    if (open_loop) {
        status_counts[STATUS_LOST] += in_flight + backlog_count;
    }
    if (sample_count > 0) {
        qsort(samples, sample_count, sizeof *samples, by_value);
    }
    double seconds = (double)(real_end_ns - real_begin_ns) / 1e9;
    uint64_t answers = answered_end - answered_begin;
    double total = 0;
    uint64_t counted = 0;
    for (size_t i = 0; i < sample_count; i++) {
        total += (double)samples[i];
    }
    (void)printf("{\"seconds\": %.3f, \"answers\": %llu, \"rate\": %.1f, \"goodput\": %.1f, ",
                 seconds, (unsigned long long)answers, (double)answers / seconds,
                 (double)good_count / seconds);
    (void)printf("\"latency_us\": {\"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, "
                 "\"p999\": %.1f, \"max\": %.1f}, ",
                 sample_count > 0 ? total / (double)sample_count / 1e3 : 0, quantile_us(0.5),
                 quantile_us(0.9), quantile_us(0.99), quantile_us(0.999), quantile_us(1));
    if (options.pid != 0 && answers > 0) {
        double cpu = (double)(cpu_end_ns - cpu_begin_ns);
        (void)printf("\"server_cpu_us\": %.3f, \"server_cpus\": %.3f, ",
                     cpu / 1e3 / (double)answers, cpu / 1e9 / seconds);
    }
    (void)printf("\"statuses\": {");
    const char *separator = "";
    for (int i = 0; i < STATUS_MAX; i++) {
        counted += status_counts[i];
        if (status_counts[i] > 0) {
            char name[16];
            (void)snprintf(name, sizeof name, "%d", i);
            (void)printf("%s\"%s\": %llu", separator,
                         i == STATUS_WRONG  ? "wrong"
                         : i == STATUS_LOST ? "lost"
                                            : name,
                         (unsigned long long)status_counts[i]);
            separator = ", ";
        }
    }
    (void)printf("}, \"counted\": %llu}\n", (unsigned long long)counted);
}

/* Takes the option at `arguments`; how many words it is, 0: it is wrong. */
static int option_take(char **arguments)
{
    for (size_t i = 0; i < sizeof option_rows / sizeof option_rows[0]; i++) {
        if (strcmp(arguments[0], option_rows[i].name) != 0) {
            continue;
        }
        if (option_rows[i].flag != NULL) {
            *option_rows[i].flag = true;
            return 1;
        }
        const char *value = arguments[1];
        int status = value == NULL ? -1 : 0;
        if (status == 0 && option_rows[i].count != NULL) {
            status = fm_parse_uint64(value, option_rows[i].count);
        } else if (status == 0 && option_rows[i].number != NULL) {
            status = fm_parse_double(value, option_rows[i].number);
        } else if (status == 0) {
            *option_rows[i].text = value;
        }
        return status == 0 ? 2 : 0;
    }
    return 0;
}

static bool options_fit(void)
{
    return (options.http_port == 0) != (options.grpc_port == 0) && options.connections >= 1 &&
           options.connections <= CONNECTIONS_MAX && options.streams >= 1 &&
           options.streams <= STREAMS_MAX && (options.http_port == 0 || options.streams == 1) &&
           options.models <= MODELS_MAX && options.bytes >= 1 && options.bytes < WINDOW &&
           options.requests <= INT32_MAX && options.speed > 0 &&
           (options.replay == NULL || (options.rate <= 0 && options.requests == 0)) &&
           options.rate >= 0 && options.seconds > 0 && options.http_port <= UINT16_MAX &&
           options.grpc_port <= UINT16_MAX;
}

int main(int argument_count, char **arguments)
{
    for (int i = 1, words; i < argument_count; i += words) {
        words = option_take(arguments + i);
        if (words == 0) {
            (void)fprintf(stderr, "serve_load: '%s' is no option, or has no value it can have\n",
                          arguments[i]);
            return 2;
        }
    }
    if (!options_fit()) {
        (void)fprintf(stderr, "serve_load: --http PORT (one stream per connection) or --grpc PORT, "
                              "and sensible numbers\n");
        return 2;
    }
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    fm_random_init(&random_arrivals, options.seed);
    fm_random_init(&random_models, options.seed + 1000003);
    backlog = memory(NULL, BACKLOG_MAX * sizeof *backlog);
    connections = calloc(options.connections, sizeof *connections);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || epoll_fd < 0) {
        fail("start");
    }
    open_loop = options.rate > 0 || options.replay != NULL;
    if (options.replay != NULL) {
        recording_read();
    } else {
        bodies_make();
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        connection_open(&connections[i]);
    }
    run();
    report();
    return EXIT_SUCCESS;
}
