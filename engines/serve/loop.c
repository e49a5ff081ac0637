/*
 * One event loop: its listeners, its rounds, its drain. See serve_internal.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/serve/serve_internal.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/service_manager.h"

/* A client that is just connecting when the end begins is still served. */
#define DRAIN_GRACE_NS UINT64_C(100000000)
/* So often others may hear what this loop has counted. */
#define PUBLISH_NS UINT64_C(250000000)
/* So long the longest turn is remembered, at least. */
#define TURN_NS UINT64_C(5000000000)

/* --- rounds ------------------------------------------------------------------------------------
 */

/* Of the last TURN_NS to twice that. */
static uint64_t turn_longest_ns(struct fm_serve_loop *loop, uint64_t now_ns)
{
    uint64_t turn_ns = fm_loop_turn_longest_ns(loop->loop);
    if (now_ns - loop->turn_since_ns > TURN_NS) {
        loop->turn_since_ns = now_ns;
        loop->turn_before_ns = loop->turn_ns;
        loop->turn_ns = 0;
    }
    loop->turn_ns = turn_ns > loop->turn_ns ? turn_ns : loop->turn_ns;
    return loop->turn_ns > loop->turn_before_ns ? loop->turn_ns : loop->turn_before_ns;
}

static void publish(struct fm_serve_loop *loop, uint64_t now_ns)
{
    loop->publish_ns = now_ns + PUBLISH_NS;
    loop->wall_offset_ns = fm_os_wall_ns() - now_ns;
    struct fm_serve_loop_counts counts = {.cpu_ns = fm_os_thread_cpu_ns(),
                                          .turn_longest_ns = turn_longest_ns(loop, now_ns),
                                          .local = loop->local_count};
    if (loop->http != NULL) {
        fm_http_server_stats(loop->http, &counts.http);
    }
    if (loop->grpc != NULL) {
        fm_grpc_server_stats(loop->grpc, &counts.grpc);
    }
    fm_mutex_lock(&loop->serve->counts_lock);
    loop->counts = counts;
    fm_mutex_unlock(&loop->serve->counts_lock);
}

/* What came in this round goes to the scheduler together. */
static void on_round(void *context)
{
    struct fm_serve_loop *loop = context;
    fm_inference_flush(loop);
    if (loop->watching != NULL) {
        fm_serve_grpc_watch_round(loop);
    }
    uint64_t now_ns = fm_os_now_ns();
    if (now_ns >= loop->publish_ns) {
        publish(loop, now_ns);
    }
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void on_drained_main(struct fm_loop_task *task)
{
    struct fm_serve_loop *loop = FM_CONTAINER_OF(task, struct fm_serve_loop, drained_task);
    loop->serve->loops_drained++;
    fm_serve_stop_when_done(loop->serve);
}

void fm_serve_loop_progress(struct fm_serve_loop *loop)
{
    if (!fm_serve_is_draining(loop->serve) || loop->drained || fm_serve_loop_in_flight(loop) > 0 ||
        !loop->http_drained || !loop->grpc_drained || !loop->metrics_drained) {
        return;
    }
    loop->drained = true;
    publish(loop, fm_os_now_ns());
    fm_loop_post(loop->serve->loops[0].loop, &loop->drained_task);
}

static void on_http_drained(void *context)
{
    struct fm_serve_loop *loop = context;
    loop->http_drained = true;
    fm_serve_loop_progress(loop);
}

static void on_metrics_drained(void *context)
{
    struct fm_serve_loop *loop = context;
    loop->metrics_drained = true;
    fm_serve_loop_progress(loop);
}

void fm_serve_loop_drain(struct fm_serve_loop *loop)
{
    fm_serve_grpc_watch_round(loop);
    fm_serve_grpc_streams_end(loop);
    if (loop->http != NULL) {
        fm_http_server_drain(loop->http, DRAIN_GRACE_NS);
    }
    if (loop->grpc != NULL) {
        fm_grpc_server_drain(loop->grpc, DRAIN_GRACE_NS);
    }
    if (loop->metrics != NULL) {
        fm_http_server_drain(loop->metrics, DRAIN_GRACE_NS);
    }
    fm_serve_loop_progress(loop);
}

void fm_serve_loop_leave(struct fm_serve_loop *loop)
{
    fm_serve_grpc_watch_round(loop);
    if (loop->http != NULL) {
        fm_http_server_leave(loop->http);
    }
    if (loop->grpc != NULL) {
        fm_grpc_server_leave(loop->grpc);
    }
    if (loop->metrics != NULL) {
        fm_http_server_leave(loop->metrics);
    }
    fm_serve_loop_progress(loop);
}

static void on_leave_task(struct fm_loop_task *task)
{
    fm_serve_loop_leave(FM_CONTAINER_OF(task, struct fm_serve_loop, leave_task));
}

static void on_drain_task(struct fm_loop_task *task)
{
    fm_serve_loop_drain(FM_CONTAINER_OF(task, struct fm_serve_loop, drain_task));
}

static void on_stop_task(struct fm_loop_task *task)
{
    struct fm_serve_loop *loop = FM_CONTAINER_OF(task, struct fm_serve_loop, stop_task);
    fm_loop_stop(loop->loop);
}

/* --- sockets that go from process to process ----------------------------------------------------
 */

static void on_begun_main(struct fm_loop_task *task)
{
    struct fm_serve_loop *loop = FM_CONTAINER_OF(task, struct fm_serve_loop, begun_task);
    struct fm_serve *serve = loop->serve;
    const struct fm_error *error = NULL;
    serve->loops_begun++;
    if (serve->loops_begun < serve->loop_count) {
        return;
    }
    for (uint32_t i = serve->loop_count; i > 0; i--) {
        error =
            serve->loops[i - 1].begin_error.status != 0 ? &serve->loops[i - 1].begin_error : error;
    }
    serve->owner.begun(serve, error);
}

void fm_serve_loop_begin(struct fm_serve_loop *loop)
{
    struct fm_error *error = &loop->begin_error;
    int status = loop->http != NULL ? fm_http_server_begin(loop->http, error) : 0;
    if (status == 0 && loop->grpc != NULL) {
        status = fm_grpc_server_begin(loop->grpc, error);
    }
    if (status == 0 && loop->metrics != NULL) {
        status = fm_http_server_begin(loop->metrics, error);
    }
    FM_ASSERT(status == error->status);
    fm_loop_post(loop->serve->loops[0].loop, &loop->begun_task);
}

static void on_begin_task(struct fm_loop_task *task)
{
    fm_serve_loop_begin(FM_CONTAINER_OF(task, struct fm_serve_loop, begin_task));
}

int fm_serve_loop_sockets(const struct fm_serve_loop *loop, struct fm_handed_sockets *sockets,
                          struct fm_error *reterr)
{
    int tcp = -1;
    int local = -1;
    int status = 0;
    if (loop->http != NULL) {
        fm_http_server_descriptors(loop->http, &tcp, &local);
        status = fm_handed_sockets_add(sockets, "http", tcp, reterr);
        status = status == 0 ? fm_handed_sockets_add(sockets, "http-unix", local, reterr) : status;
    }
    if (status == 0 && loop->grpc != NULL) {
        fm_grpc_server_descriptors(loop->grpc, &tcp, &local);
        status = fm_handed_sockets_add(sockets, "grpc", tcp, reterr);
        status = status == 0 ? fm_handed_sockets_add(sockets, "grpc-unix", local, reterr) : status;
    }
    if (status == 0 && loop->metrics != NULL) {
        fm_http_server_descriptors(loop->metrics, &tcp, &local);
        status = fm_handed_sockets_add(sockets, "metrics", tcp, reterr);
    }
    return status;
}

/* --- listening ---------------------------------------------------------------------------------
 */

/* The socket that somebody opened for us, or 0: the process before this one, or a service manager.
 */
static int inherited(const struct fm_serve_loop *loop, const char *name, uint32_t index)
{
    struct fm_handed_sockets *sockets = loop->serve->owner.sockets;
    return sockets != NULL                    ? fm_handed_sockets_take(sockets, name, loop->index)
           : loop->serve->options->supervised ? fm_service_manager_socket(name, index)
                                              : 0;
}

static int inherited_unix(const struct fm_serve_loop *loop, const char *name, const char *path)
{
    struct fm_handed_sockets *sockets = loop->serve->owner.sockets;
    return sockets != NULL && path != NULL ? fm_handed_sockets_take(sockets, name, 0) : 0;
}

static void http_options(const struct fm_serve_loop *loop, struct fm_http_options *http)
{
    const struct fm_serve_options *options = loop->serve->options;
    fm_http_options_init(http);
    http->host = options->host;
    http->body_bytes_max = options->body_bytes_max;
    http->body_bytes_total_max = http->body_bytes_total_max < options->body_bytes_max
                                     ? options->body_bytes_max
                                     : http->body_bytes_total_max;
    http->connections_max = options->connections_max;
    http->idle_timeout_ns = options->idle_timeout_ns;
    http->tls = loop->serve->tls;
    http->held = loop->serve->owner.sockets != NULL;
    http->write_error = fm_oip_write_error;
    http->align_header = "Inference-Header-Content-Length";
    http->error_type = "application/json";
    http->context = (void *)(uintptr_t)loop;
}

static void listening_log(const struct fm_serve_loop *loop, const char *protocol,
                          const char *scheme, uint16_t port)
{
    const char *host = loop->serve->options->host;
    char url[300];
    bool ipv6 = strchr(host, ':') != NULL;
    if (loop->index == 0) {
        (void)snprintf(url, sizeof(url), "%s%s%s%s:%u", scheme, ipv6 ? "[" : "", host,
                       ipv6 ? "]" : "", (unsigned)port);
        fm_log(FM_LOG_INFO, "listening", FM_LOG_TEXT("url", url), FM_LOG_TEXT("for", protocol));
    }
}

static int http_listen(struct fm_serve_loop *loop, struct fm_error *reterr)
{
    const struct fm_serve_options *options = loop->serve->options;
    struct fm_http_options http;
    http_options(loop, &http);
    http.port = options->port;
    http.unix_path = loop->index == 0 ? options->unix_path : NULL;
    http.unix_inherited = inherited_unix(loop, "http-unix", http.unix_path);
    http.shared = loop->serve->loop_count > 1;
    http.sibling = loop->index > 0 ? loop->serve->loops[0].http : NULL;
    http.inherited = inherited(loop, "http", 0);
    http.handle = fm_serve_http_handle;
    http.drained = on_http_drained;
    int status = fm_http_server_create(loop->loop, &http, &loop->http, reterr);
    if (status == 0) {
        listening_log(loop, "http", options->tls_certificate_path != NULL ? "https://" : "http://",
                      fm_http_server_port(loop->http));
        if (http.unix_path != NULL) {
            fm_log(FM_LOG_INFO, "listening", FM_LOG_TEXT("socket", http.unix_path),
                   FM_LOG_TEXT("for", "http"));
        }
    }
    return status;
}

static int grpc_listen(struct fm_serve_loop *loop, struct fm_error *reterr)
{
    const struct fm_serve_options *options = loop->serve->options;
    struct fm_grpc_options grpc;
    fm_grpc_options_init(&grpc);
    grpc.host = options->host;
    grpc.port = options->grpc_port;
    grpc.unix_path = loop->index == 0 ? options->grpc_unix_path : NULL;
    grpc.unix_inherited = inherited_unix(loop, "grpc-unix", grpc.unix_path);
    grpc.shared = loop->serve->loop_count > 1;
    grpc.sibling = loop->index > 0 ? loop->serve->loops[0].grpc : NULL;
    grpc.inherited = inherited(loop, "grpc", 1);
    grpc.connections_max = options->connections_max;
    grpc.message_bytes_max = options->body_bytes_max;
    if (grpc.message_bytes_total_max < options->body_bytes_max) {
        grpc.message_bytes_total_max = options->body_bytes_max;
    }
    grpc.tls = loop->serve->tls;
    grpc.held = loop->serve->owner.sockets != NULL;
    grpc.context = loop;
    fm_serve_grpc_events(&grpc.events);
    int status = fm_grpc_server_create(loop->loop, &grpc, &loop->grpc, reterr);
    if (status == 0) {
        listening_log(loop, "grpc", "", fm_grpc_server_port(loop->grpc));
        if (grpc.unix_path != NULL) {
            fm_log(FM_LOG_INFO, "listening", FM_LOG_TEXT("socket", grpc.unix_path),
                   FM_LOG_TEXT("for", "grpc"));
        }
    }
    return status;
}

static int metrics_listen(struct fm_serve_loop *loop, struct fm_error *reterr)
{
    struct fm_http_options http;
    http_options(loop, &http);
    http.port = loop->serve->options->metrics_port;
    http.inherited = inherited(loop, "metrics", 2);
    http.handle = fm_serve_observe_handle;
    http.drained = on_metrics_drained;
    int status = fm_http_server_create(loop->loop, &http, &loop->metrics, reterr);
    if (status == 0) {
        listening_log(loop, "metrics", loop->serve->tls != NULL ? "https://" : "http://",
                      fm_http_server_port(loop->metrics));
    }
    return status;
}

int fm_serve_loop_listen(struct fm_serve_loop *loop, struct fm_error *reterr)
{
    const struct fm_serve_options *options = loop->serve->options;
    int status = options->http ? http_listen(loop, reterr) : 0;
    if (status == 0 && options->grpc) {
        status = grpc_listen(loop, reterr);
    }
    if (status == 0 && options->metrics && loop->index == 0) {
        status = metrics_listen(loop, reterr);
    }
    loop->http_drained = loop->http == NULL;
    loop->grpc_drained = loop->grpc == NULL;
    loop->metrics_drained = loop->metrics == NULL;
    return status;
}

/* --- life --------------------------------------------------------------------------------------
 */

int fm_serve_loop_init(struct fm_serve_loop *loop, struct fm_serve *serve, uint32_t index,
                       struct fm_error *reterr)
{
    loop->serve = serve;
    loop->index = index;
    fm_random_init(&loop->random, fm_os_entropy());
    fm_random_init(&loop->payload_random, fm_os_entropy());
    loop->drain_task.run = on_drain_task;
    loop->stop_task.run = on_stop_task;
    loop->drained_task.run = on_drained_main;
    loop->begin_task.run = on_begin_task;
    loop->begun_task.run = on_begun_main;
    loop->leave_task.run = on_leave_task;
    int status = fm_loop_create(&loop->loop, reterr);
    status = status == 0 ? fm_access_seat_init(&loop->seat, serve->access, reterr) : status;
    if (status == 0 && serve->cache != NULL) {
        loop->digester = fm_digester_create();
        status = loop->digester != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "out of memory for an event loop");
    }
    if (status == 0) {
        fm_loop_each_round(loop->loop, on_round, loop);
    }
    return status;
}

static void loop_run(void *argument)
{
    struct fm_serve_loop *loop = argument;
    fm_loop_run(loop->loop);
}

int fm_serve_loop_start(struct fm_serve_loop *loop, struct fm_error *reterr)
{
    char name[24];
    (void)snprintf(name, sizeof name, "fm-loop-%u", (unsigned)loop->index);
    int status = fm_thread_start(&loop->thread, name, loop_run, loop);
    return status == 0 ? 0
                       : fm_error_set(reterr, status, "cannot start the thread of event loop %u",
                                      (unsigned)loop->index);
}

void fm_serve_loop_release(struct fm_serve_loop *loop)
{
    if (loop->loop == NULL) {
        return;
    }
    fm_http_server_destroy(loop->http);
    fm_grpc_server_destroy(loop->grpc);
    fm_http_server_destroy(loop->metrics);
    fm_inferences_release(loop);
    fm_serve_grpc_calls_release(loop);
    fm_access_seat_deinit(&loop->seat);
    fm_digester_destroy(loop->digester);
    fm_loop_destroy(loop->loop);
}
