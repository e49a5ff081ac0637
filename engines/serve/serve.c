/*
 * The life of the server: read the paths, listen, load, serve, drain. See serve.h.
 */
#include "engines/serve/serve.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/log.h"
#include "host/os/os.h"

/* A client that is just connecting when the end begins is still served. */
#define DRAIN_GRACE_NS UINT64_C(100000000)

void fm_serve_stop_when_done(struct fm_serve *serve)
{
    if (serve->draining && serve->http_drained && serve->in_flight == 0 && serve->stopped) {
        fm_loop_stop(serve->loop);
    }
}

static void on_http_drained(void *context)
{
    struct fm_serve *serve = context;
    serve->http_drained = true;
    fm_serve_stop_when_done(serve);
}

static void on_exit_timeout(void *context)
{
    struct fm_serve *serve = context;
    fm_log(FM_LOG_ERROR, "exit_timeout", FM_LOG_UINT("requests_in_flight", serve->in_flight),
           FM_LOG_FLAG("loading", !serve->stopped),
           FM_LOG_TEXT("next", "ending without their answers"));
    serve->end = FM_SERVE_TIMED_OUT;
    fm_loop_stop(serve->loop);
}

static void drain(struct fm_serve *serve)
{
    serve->draining = true;
    fm_catalog_submit(serve->catalog, &serve->stopping);
    fm_http_server_drain(serve->http, DRAIN_GRACE_NS);
    fm_loop_alarm(serve->loop, serve->options->exit_timeout_ns, on_exit_timeout, serve);
}

static void on_polled(struct fm_catalog_operation *operation)
{
    struct fm_serve *serve = operation->context;
    serve->polls = false;
}

static void on_signal(void *context, int signal_number)
{
    struct fm_serve *serve = context;
    if (serve->http == NULL) {
        /* It could not listen, and is ending already. */
        return;
    }
    if (fm_loop_is_hangup(signal_number)) {
        fm_log(FM_LOG_INFO, "polling", FM_LOG_INT("signal", signal_number));
        if (!serve->polls && !serve->draining) {
            serve->polls = true;
            fm_catalog_submit(serve->catalog, &serve->polling);
        }
        return;
    }
    if (serve->draining) {
        fm_log(FM_LOG_WARNING, "second_signal", FM_LOG_INT("signal", signal_number),
               FM_LOG_UINT("requests_in_flight", serve->in_flight),
               FM_LOG_TEXT("next", "ending at once"));
        serve->end = FM_SERVE_FORCED;
        fm_loop_stop(serve->loop);
        return;
    }
    fm_log(FM_LOG_INFO, "draining", FM_LOG_INT("signal", signal_number),
           FM_LOG_UINT("requests_in_flight", serve->in_flight),
           FM_LOG_NUMBER("exit_timeout_s", (double)serve->options->exit_timeout_ns / 1e9));
    drain(serve);
}

/* On the catalog's thread. */
static void on_event(void *context, const struct fm_catalog_event *event)
{
    const struct fm_serve *serve = context;
    const struct fm_catalog_entry *entry = event->entry;
    switch (event->kind) {
    case FM_CATALOG_EVENT_READY:
        fm_log(FM_LOG_INFO, "model_ready", FM_LOG_TEXT("model", event->name),
               FM_LOG_UINT("version", event->version),
               FM_LOG_TEXT("platform", fm_servable_platform(entry->servable)),
               FM_LOG_UINT("batch_max", entry->signature.batch_max),
               FM_LOG_NUMBER("load_s", (double)(entry->load_ns / 1000000) / 1e3),
               FM_LOG_FLAG("replaces", event->replaces));
        return;
    case FM_CATALOG_EVENT_FAILED:
        if (serve->options->strict && !event->replaces) {
            /* The end of the server says it. */
            return;
        }
        fm_log(FM_LOG_ERROR, "model_failed", FM_LOG_TEXT("model", event->name),
               FM_LOG_UINT("version", event->version), FM_LOG_TEXT("reason", event->error->text),
               FM_LOG_TEXT("next", event->replaces ? "what was loaded before goes on answering"
                                                   : "serving without it"));
        return;
    case FM_CATALOG_EVENT_UNLOADED:
        fm_log(FM_LOG_INFO, "model_unloaded", FM_LOG_TEXT("model", event->name),
               FM_LOG_UINT("version", event->version));
        return;
    case FM_CATALOG_EVENT_POLL_FAILED:
        fm_log(FM_LOG_ERROR, "poll_failed", FM_LOG_TEXT("path", event->name),
               FM_LOG_TEXT("reason", event->error->text),
               FM_LOG_TEXT("next", "serving what is loaded"));
        return;
    case FM_CATALOG_EVENT_COUNT_:
        return;
    }
}

/* Ends the server because of what loading found. */
static void give_up(struct fm_serve *serve, const struct fm_error *error)
{
    if (serve->failure.status == 0) {
        serve->failure = *error;
    }
    if (!serve->draining) {
        drain(serve);
    }
}

static void on_stopped(struct fm_catalog_operation *operation)
{
    struct fm_serve *serve = operation->context;
    serve->stopped = true;
    fm_serve_stop_when_done(serve);
}

/* The first loading is through. */
static void on_started(struct fm_catalog_operation *operation)
{
    struct fm_serve *serve = operation->context;
    const struct fm_catalog_view *view = serve->reader.view;
    size_t ready = view->counts[FM_CATALOG_READY];
    size_t failed = view->counts[FM_CATALOG_UNAVAILABLE];
    serve->loading = false;
    if (serve->draining) {
        return;
    }
    if (operation->error.status != 0) {
        give_up(serve, &operation->error);
    } else if (serve->options->control == FM_SERVE_CONTROL_NONE && ready == 0) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_EINVAL,
                           "none of the %zu models loads, so there is nothing to serve", failed);
        give_up(serve, &error);
    } else {
        failed = serve->options->control == FM_SERVE_CONTROL_EXPLICIT
                     ? view->models_wanted - view->models_ready
                     : failed;
        fm_log(
            FM_LOG_INFO, "ready", FM_LOG_UINT("models", ready), FM_LOG_UINT("failed", failed),
            FM_LOG_NUMBER("after_s", (double)((fm_os_now_ns() - serve->start_ns) / 1000000) / 1e3));
    }
}

static void on_note(void *context, const char *text)
{
    (void)context;
    fm_log(FM_LOG_WARNING, "note", FM_LOG_TEXT("text", text));
}

static struct fm_catalog_operation operation(struct fm_serve *serve,
                                             enum fm_catalog_operation_kind kind,
                                             void (*done)(struct fm_catalog_operation *operation))
{
    return (struct fm_catalog_operation){
        .kind = kind, .reader = &serve->reader, .done = done, .context = serve};
}

static int catalog_open(struct fm_serve *serve, struct fm_error *reterr)
{
    static const enum fm_catalog_mode modes[] = {
        [FM_SERVE_CONTROL_NONE] = FM_CATALOG_NONE,
        [FM_SERVE_CONTROL_POLL] = FM_CATALOG_POLLING,
        [FM_SERVE_CONTROL_EXPLICIT] = FM_CATALOG_EXPLICIT,
    };
    const struct fm_serve_options *options = serve->options;
    const struct fm_catalog_options catalog = {
        .paths = options->paths,
        .path_count = options->path_count,
        .models = options->models,
        .model_count = options->model_count,
        .mode = modes[options->control],
        .load_models = options->load_models,
        .load_model_count = options->load_model_count,
        .poll_interval_ns = options->poll_interval_ns,
        .load_threads = options->load_threads,
        .strict = options->strict,
        .servable = {.operator_threads = options->operator_threads,
                     .requests_max = options->requests_max,
                     .instances = options->instances,
                     .threads = options->threads,
                     .note = on_note},
        .event = on_event,
        .context = serve};
    int status = fm_catalog_open(&catalog, &serve->catalog, reterr);
    if (status == 0) {
        fm_catalog_add_reader(serve->catalog, &serve->reader, serve->loop);
        serve->starting = operation(serve, FM_CATALOG_START, on_started);
        serve->stopping = operation(serve, FM_CATALOG_STOP, on_stopped);
        serve->polling = operation(serve, FM_CATALOG_POLL, on_polled);
    }
    return status;
}

static int listen_start(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_serve_options *options = serve->options;
    struct fm_http_options http;
    fm_http_options_init(&http);
    http.host = options->host;
    http.port = options->port;
    http.unix_path = options->unix_path;
    http.body_bytes_max = options->body_bytes_max;
    http.body_bytes_total_max = http.body_bytes_total_max < options->body_bytes_max
                                    ? options->body_bytes_max
                                    : http.body_bytes_total_max;
    http.connections_max = options->connections_max;
    http.idle_timeout_ns = options->idle_timeout_ns;
    http.handle = fm_serve_handle;
    http.write_error = fm_oip_write_error;
    http.error_type = "application/json";
    http.drained = on_http_drained;
    http.context = serve;
    int status = fm_http_server_create(serve->loop, &http, &serve->http, reterr);
    if (status == 0) {
        char url[300];
        bool ipv6 = strchr(options->host, ':') != NULL;
        (void)snprintf(url, sizeof(url), "http://%s%s%s:%u", ipv6 ? "[" : "", options->host,
                       ipv6 ? "]" : "", (unsigned)fm_http_server_port(serve->http));
        fm_log(FM_LOG_INFO, "listening", FM_LOG_TEXT("url", url));
        if (options->unix_path != NULL) {
            fm_log(FM_LOG_INFO, "listening", FM_LOG_TEXT("socket", options->unix_path));
        }
    }
    return status;
}

/* Everything was answered, or nothing was started: releases all. */
static void release(struct fm_serve *serve)
{
    fm_catalog_close(serve->catalog);
    fm_http_server_destroy(serve->http);
    fm_loop_destroy(serve->loop);
    fm_free(serve);
}

/* Everything that has to be there before the first request. On failure only the loop is left. */
static int start(struct fm_serve *serve, struct fm_error *reterr)
{
    int status = catalog_open(serve, reterr);
    if (status != 0) {
        return status;
    }
    /* First, so that whoever reads that it listens can already end it gracefully. */
    status = fm_loop_watch_signals(serve->loop, on_signal, serve, reterr);
    if (status == 0) {
        status = listen_start(serve, reterr);
    }
    if (status == 0) {
        serve->loading = true;
        fm_catalog_submit(serve->catalog, &serve->starting);
    }
    return status;
}

static void stopped_log(const struct fm_serve *serve)
{
    struct fm_http_stats stats;
    fm_http_server_stats(serve->http, &stats);
    fm_log(FM_LOG_INFO, "stopped", FM_LOG_UINT("requests", stats.requests),
           FM_LOG_UINT("connections", stats.connections_accepted),
           FM_LOG_UINT("cancelled", stats.cancelled), FM_LOG_UINT("rejected", stats.rejected));
}

int fm_serve_run(const struct fm_serve_options *options, enum fm_serve_end *ret_end,
                 struct fm_error *reterr)
{
    FM_ASSERT(options->path_count > 0 && options->host != NULL);
    /* Not on the stack: when the end is forced, threads go on using it after this function
     * returned. */
    struct fm_serve *serve = fm_alloc_zero(1, sizeof(*serve));
    if (serve == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    serve->options = options;
    serve->start_ns = fm_os_now_ns();
    int status = fm_loop_create(&serve->loop, reterr);
    if (status != 0) {
        fm_free(serve);
        return status;
    }
    status = start(serve, reterr);
    if (status == 0) {
        fm_loop_run(serve->loop);
        *ret_end = serve->end;
        if (serve->end != FM_SERVE_DRAINED) {
            return 0;
        }
        stopped_log(serve);
        if (serve->failure.status != 0) {
            status = serve->failure.status;
            if (reterr != NULL) {
                *reterr = serve->failure;
            }
        }
    }
    release(serve);
    return status;
}
