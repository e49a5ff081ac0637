/*
 * The server as an object: read the paths, listen, load, drain, release. See serve_internal.h.
 *
 * Owns: the order in which its parts come and go. Does not own: who wants it and when it ends
 * (serve.c: a process that is told by signals). Thread rule: per function.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/net/otlp_exporter.h"
#include "host/os/file.h"
#include "host/os/log.h"
#include "host/os/os.h"

#define REQUESTS_MAX_DEFAULT 1024u
/* One event loop for so many CPUs: the others are for what accelerators there are. */
#define CPUS_PER_LOOP 4u
/* Spans that are not sent at the end have so long. */
#define OTLP_GRACE_NS UINT64_C(2000000000)
/* So many models that had to be abandoned are remembered. */
#define ABANDONED_REMEMBERED 64u
/* So often what was recorded is written. */
#define TICK_NS UINT64_C(1000000000)

void fm_serve_stop_when_done(struct fm_serve *serve)
{
    if (fm_serve_is_draining(serve) && serve->loops_drained == serve->loop_count &&
        serve->stopped) {
        fm_loop_stop(serve->loops[0].loop);
    }
}

/* --- access ------------------------------------------------------------------------------------
 */

/* Whether only this machine can connect there. */
static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

static void access_warn(const struct fm_serve_options *options)
{
    bool certified = options->tls_client_ca_path != NULL && !options->tls_client_optional;
    if (is_loopback(options->host) || options->insecure) {
        return;
    }
    if (options->token_file == NULL && !certified) {
        fm_log(FM_LOG_WARNING, "open_to_all", FM_LOG_TEXT("host", options->host),
               FM_LOG_TEXT("text", "everybody who reaches this address may use and read all; "
                                   "--token-file or --tls-client-ca changes that, --insecure says "
                                   "that it is meant so"));
    } else if (options->tls_certificate_path == NULL) {
        fm_log(FM_LOG_WARNING, "tokens_in_the_clear", FM_LOG_TEXT("host", options->host),
               FM_LOG_TEXT("text", "tokens can be read on their way here; --tls-cert changes that, "
                                   "--insecure says that something else takes care of it"));
    }
}

static int access_open(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_serve_options *options = serve->options;
    const struct fm_access_options access = {.token_file = options->token_file,
                                             .auth_health = options->auth_health,
                                             .limit = options->client_limit,
                                             .origins = options->cors_origins,
                                             .origin_count = options->cors_origin_count};
    const struct fm_tls_options tls = {.certificate_path = options->tls_certificate_path,
                                       .key_path = options->tls_key_path,
                                       .client_ca_path = options->tls_client_ca_path,
                                       .clients =
                                           options->tls_client_ca_path == NULL ? FM_TLS_CLIENTS_ANY
                                           : options->tls_client_optional ? FM_TLS_CLIENTS_VERIFIED
                                                                          : FM_TLS_CLIENTS_REQUIRED,
                                       .only_1_3 = options->tls_only_1_3};
    serve->regions.refused = !options->allow_client_shm;
    int status = fm_access_create(&access, &serve->access, reterr);
    if (status == 0 && options->tls_certificate_path != NULL) {
        status = fm_tls_create(&tls, &serve->tls, reterr);
    }
    if (status == 0) {
        access_warn(options);
    }
    return status;
}

static void reloaded(const char *what, int status, const struct fm_error *error)
{
    if (status == 0) {
        fm_log(FM_LOG_INFO, "reloaded", FM_LOG_TEXT("what", what));
    } else {
        fm_log(FM_LOG_ERROR, "reload_failed", FM_LOG_TEXT("what", what),
               FM_LOG_TEXT("reason", error->text),
               FM_LOG_TEXT("next", "going on with what was read before"));
    }
}

static void access_reload(struct fm_serve *serve)
{
    struct fm_error error = {0};
    if (serve->tls != NULL) {
        reloaded("certificates", fm_tls_reload(serve->tls, &error), &error);
    }
    if (serve->options->token_file != NULL) {
        reloaded("tokens", fm_access_reload(serve->access, &error), &error);
    }
}

/* --- the end -----------------------------------------------------------------------------------
 */

void fm_serve_begin(struct fm_serve *serve)
{
    for (uint32_t i = 1; i < serve->loop_count; i++) {
        fm_loop_post(serve->loops[i].loop, &serve->loops[i].begin_task);
    }
    fm_serve_loop_begin(&serve->loops[0]);
}

static void phase_enter(struct fm_serve *serve, enum fm_serve_phase phase)
{
    FM_ASSERT(phase > fm_serve_phase(serve));
    atomic_store_explicit(&serve->phase, (uint32_t)phase, memory_order_relaxed);
}

void fm_serve_leave(struct fm_serve *serve)
{
    phase_enter(serve, FM_SERVE_LEAVING);
    fm_catalog_submit(serve->catalog, &serve->stopping);
    for (uint32_t i = 1; i < serve->loop_count; i++) {
        fm_loop_post(serve->loops[i].loop, &serve->loops[i].leave_task);
    }
    fm_serve_loop_leave(&serve->loops[0]);
    serve->owner.draining(serve);
}

void fm_serve_leave_end(struct fm_serve *serve)
{
    phase_enter(serve, FM_SERVE_LEFT);
    fm_pool_drain(serve->pool);
    for (uint32_t i = 1; i < serve->loop_count; i++) {
        fm_loop_post(serve->loops[i].loop, &serve->loops[i].drain_task);
    }
    fm_serve_loop_drain(&serve->loops[0]);
}

void fm_serve_drain(struct fm_serve *serve)
{
    phase_enter(serve, FM_SERVE_ENDING);
    fm_catalog_submit(serve->catalog, &serve->stopping);
    fm_pool_drain(serve->pool);
    for (uint32_t i = 1; i < serve->loop_count; i++) {
        fm_loop_post(serve->loops[i].loop, &serve->loops[i].drain_task);
    }
    fm_serve_loop_drain(&serve->loops[0]);
    serve->owner.draining(serve);
}

/* --- loading -----------------------------------------------------------------------------------
 */

/* On the catalog's thread. */
static void on_event(void *context, const struct fm_catalog_event *event)
{
    const struct fm_catalog_entry *entry = event->entry;
    (void)context;
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
        if (event->ends_start) {
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

void fm_serve_fail(struct fm_serve *serve, const struct fm_error *error)
{
    if (serve->failure.status == 0) {
        serve->failure = *error;
    }
    if (!fm_serve_is_draining(serve)) {
        fm_serve_drain(serve);
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
    const struct fm_catalog_view *view = serve->loops[0].reader.view;
    size_t ready = view->counts[FM_CATALOG_READY];
    size_t failed = view->counts[FM_CATALOG_UNAVAILABLE];
    serve->loading = false;
    if (fm_serve_is_draining(serve)) {
        return;
    }
    if (operation->error.status != 0) {
        fm_serve_fail(serve, &operation->error);
    } else if (serve->options->control == FM_SERVE_CONTROL_NONE && ready == 0) {
        struct fm_error error = {0};
        (void)fm_error_set(&error, FM_EINVAL,
                           "none of the %zu models loads, so there is nothing to serve", failed);
        fm_serve_fail(serve, &error);
    } else {
        failed = serve->options->control == FM_SERVE_CONTROL_EXPLICIT
                     ? view->models_wanted - view->models_ready
                     : failed;
        fm_log(
            FM_LOG_INFO, "ready", FM_LOG_UINT("models", ready), FM_LOG_UINT("failed", failed),
            FM_LOG_NUMBER("after_s", (double)((fm_os_now_ns() - serve->start_ns) / 1000000) / 1e3));
        serve->owner.ready(serve);
    }
}

static void poll_begin(struct fm_serve *serve)
{
    fm_log(FM_LOG_INFO, "polling", FM_LOG_UINT("repositories", serve->options->path_count));
    serve->polls = true;
    serve->poll_again = false;
    fm_catalog_submit(serve->catalog, &serve->polling);
}

static void on_polled(struct fm_catalog_operation *operation)
{
    struct fm_serve *serve = operation->context;
    serve->polls = false;
    if (operation->error.status != 0 && !fm_serve_is_draining(serve)) {
        fm_log(FM_LOG_ERROR, "poll_failed", FM_LOG_TEXT("reason", operation->error.text),
               FM_LOG_TEXT("next", "serving what is loaded; ask again later"));
    }
    if (serve->poll_again && !fm_serve_is_draining(serve)) {
        /* What changed behind the look that is over. */
        poll_begin(serve);
        return;
    }
    /* While the first loading is under way, what was asked for meanwhile is not its end. */
    if (!fm_serve_is_draining(serve) && !serve->loading) {
        serve->owner.ready(serve);
    }
}

bool fm_serve_reload(struct fm_serve *serve)
{
    access_reload(serve);
    if (serve->polls || fm_serve_is_draining(serve)) {
        serve->poll_again = serve->polls;
        return false;
    }
    poll_begin(serve);
    return true;
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
        .kind = kind, .reader = &serve->loops[0].reader, .done = done, .context = serve};
}

/* --- models into the pool ----------------------------------------------------------------------
 */

static uint32_t span_model(void *context, const char *name)
{
    return fm_serve_span_model(context, name);
}

static int attach(void *context, struct fm_catalog_entry *entry, struct fm_error *reterr)
{
    struct fm_serve *serve = context;
    const struct fm_serving_options options = {.pool = serve->pool,
                                               .loop_count = serve->loop_count,
                                               .requests_max = serve->options->requests_max > 0
                                                                   ? serve->options->requests_max
                                                                   : REQUESTS_MAX_DEFAULT,
                                               .slo_ns = serve->options->slo_ns,
                                               .groups = serve->options->groups,
                                               .group_count = serve->options->group_count,
                                               .policy = serve->options->policy,
                                               .goal = serve->options->goal,
                                               .goal_given = serve->options->goal_given,
                                               .cache = serve->cache != NULL,
                                               .measure = serve->options->measure,
                                               .span_model = span_model,
                                               .context = serve};
    if (serve->cache == NULL && fm_servable_response_cache(entry->servable)) {
        fm_log(FM_LOG_WARNING, "response_cache_off", FM_LOG_TEXT("model", entry->name),
               FM_LOG_TEXT("text",
                           "its configuration wants its answers cached, but this server has "
                           "no response cache; --response-cache 64MiB gives it one"),
               FM_LOG_TEXT("next", "computing every answer"));
    }
    struct fm_serving *serving = NULL;
    int status = fm_serving_create(&options, entry, &serving, reterr);
    if (status == 0) {
        entry->attached = serving;
    }
    return status;
}

/* Models that cannot be released, as a run that hangs uses them: remembered so that whoever looks
 * for memory that was lost finds that these are not. */
static struct fm_servable *_Atomic abandoned[ABANDONED_REMEMBERED];
static _Atomic uint32_t abandoned_count;

static void detach(void *context, struct fm_catalog_entry *entry)
{
    (void)context;
    if (!fm_serving_destroy(entry->attached)) {
        fm_log(FM_LOG_ERROR, "model_abandoned", FM_LOG_TEXT("model", entry->name),
               FM_LOG_UINT("version", entry->version),
               FM_LOG_TEXT("reason", "a batch of it does not return"),
               FM_LOG_TEXT("next", "going on without it; its memory stays in use until the end"));
        uint32_t index = atomic_fetch_add_explicit(&abandoned_count, 1, memory_order_relaxed);
        abandoned[index % ABANDONED_REMEMBERED] = entry->servable;
        entry->servable = NULL;
    }
    entry->attached = NULL;
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
        /* An instance for each accelerator: any of them may run any model. */
        .servable = {.operator_threads = options->operator_threads,
                     .requests_max = options->requests_max,
                     .instances = fm_pool_accelerator_count(serve->pool),
                     .groups = options->groups,
                     .group_count = options->group_count,
                     .threads = options->threads,
                     .outside = true,
                     .note = on_note},
        .attach = attach,
        .detach = detach,
        .event = on_event,
        .context = serve};
    int status = fm_catalog_open(&catalog, &serve->catalog, reterr);
    for (uint32_t i = 0; i < serve->loop_count && status == 0; i++) {
        fm_catalog_add_reader(serve->catalog, &serve->loops[i].reader, serve->loops[i].loop);
    }
    if (status == 0) {
        fm_catalog_add_reader(serve->catalog, &serve->observer.reader, serve->observer.loop);
    }
    serve->starting = operation(serve, FM_CATALOG_START, on_started);
    serve->stopping = operation(serve, FM_CATALOG_STOP, on_stopped);
    serve->polling = operation(serve, FM_CATALOG_POLL, on_polled);
    return status;
}

/* On a thread of the pool. */
static void on_hang(void *context, const struct fm_pool_hang *hang)
{
    (void)context;
    if (hang->over) {
        fm_log(FM_LOG_INFO, "accelerator_answers", FM_LOG_UINT("accelerator", hang->accelerator),
               FM_LOG_TEXT("type", hang->type), FM_LOG_TEXT("next", "serving with it again"));
        return;
    }
    fm_log(FM_LOG_ERROR, "accelerator_hangs", FM_LOG_UINT("accelerator", hang->accelerator),
           FM_LOG_TEXT("type", hang->type), FM_LOG_TEXT("model", hang->model),
           FM_LOG_NUMBER("after_s", (double)(hang->ran_ns / 1000000) / 1e3),
           FM_LOG_TEXT("next", "its requests were answered with errors; serving without it until "
                               "it answers"));
}

uint32_t fm_serve_accelerators_default(uint32_t cpus, uint32_t threads)
{
    uint32_t count = cpus > threads ? cpus / threads : 1;
    return count < FM_SCHEDULER_ENDPOINTS_MAX ? count : FM_SCHEDULER_ENDPOINTS_MAX;
}

uint32_t fm_serve_loops_default(uint32_t cpus)
{
    uint32_t count = cpus > CPUS_PER_LOOP ? cpus / CPUS_PER_LOOP : 1;
    /* The pool has a submitter of its own beside them. */
    return count < FM_SCHEDULER_ENDPOINTS_MAX ? count : FM_SCHEDULER_ENDPOINTS_MAX - 1;
}

static int pool_open(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_serve_options *options = serve->options;
    uint32_t threads = options->threads > 0 ? options->threads : 1;
    struct fm_pool_type types[FM_GROUPS_MAX] = {
        {.name = options->emulated ? "emulated" : "cpu",
         .accelerators = options->accelerators > 0
                             ? options->accelerators
                             : fm_serve_accelerators_default(fm_os_cpu_count(), threads),
         .shares_threads = options->emulated}};
    for (uint32_t i = 0; i < options->group_count; i++) {
        const struct fm_accelerator_group *group = &options->groups[i];
        types[i] = (struct fm_pool_type){.name = group->name,
                                         .accelerators = group->accelerators,
                                         .shares_threads = group->kind == FM_GROUP_EMULATED};
    }
    const struct fm_pool_options pool = {.policy = options->policy,
                                         .types = types,
                                         .type_count =
                                             options->group_count > 0 ? options->group_count : 1,
                                         .batch_max = FM_SERVING_BATCH_MAX,
                                         .submitter_count = serve->loop_count,
                                         .learn = true,
                                         .admit = options->admit,
                                         .brief = options->brief,
                                         .hang_ns = options->hang_ns,
                                         .on_hang = on_hang,
                                         .on_run = fm_serve_span_run,
                                         .record_path = options->record_path,
                                         .context = serve};
    int status = fm_pool_create(&pool, &serve->pool, reterr);
    if (status == 0 && fm_serve_spans_init(serve) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the timeline");
    }
    return status;
}

/* --- the beginning and the end -----------------------------------------------------------------
 */

/* Once. */
static void recording_failed(struct fm_serve *serve, const struct fm_error *error)
{
    if (!serve->recording_failed) {
        serve->recording_failed = true;
        fm_log(FM_LOG_ERROR, "recording_failed", FM_LOG_TEXT("file", serve->options->record_path),
               FM_LOG_TEXT("reason", error->text),
               FM_LOG_TEXT("next", "serving without it; it is good up to where it ends"));
    }
}

/* What was recorded is in the file a second later, also while nothing happens. */
static void recording_tick(struct fm_serve *serve)
{
    struct fm_error error = {0};
    if (serve->options->record_path != NULL && !serve->recording_failed &&
        fm_pool_record_flush(serve->pool, &error) != 0) {
        recording_failed(serve, &error);
    }
}

void fm_serve_recordings_end(struct fm_serve *serve)
{
    struct fm_error error = {0};
    if (serve->pool != NULL && fm_pool_record_end(serve->pool, &error) != 0) {
        recording_failed(serve, &error);
    }
    if (serve->pool != NULL && serve->options->record_path != NULL && !serve->started) {
        /* Nothing was recorded, and the next start shall not find a file that is in its way. */
        (void)!fm_file_remove(serve->options->record_path, NULL);
    }
    fm_payload_recording_end(serve->payloads);
    if (serve->payloads != NULL && !serve->started) {
        (void)!fm_file_remove(serve->options->payload_path, NULL);
    }
}

void fm_serve_destroy(struct fm_serve *serve)
{
    for (uint32_t i = 1; serve->loops != NULL && i < serve->loop_count; i++) {
        if (serve->loops[i].loop != NULL) {
            fm_loop_post(serve->loops[i].loop, &serve->loops[i].stop_task);
            fm_thread_join(&serve->loops[i].thread);
        }
    }
    fm_serve_observer_stop(serve);
    fm_supervision_stop(&serve->supervision);
    fm_catalog_close(serve->catalog);
    for (uint32_t i = serve->loops != NULL ? serve->loop_count : 0; i > 0; i--) {
        fm_serve_loop_release(&serve->loops[i - 1]);
    }
    fm_serve_observer_release(serve);
    fm_otlp_exporter_stop(serve->otlp, OTLP_GRACE_NS);
    fm_serve_recordings_end(serve);
    fm_pool_destroy(serve->pool);
    fm_serve_spans_release(serve);
    fm_shared_regions_deinit(&serve->regions);
    fm_payload_recording_close(serve->payloads);
    fm_response_cache_destroy(serve->cache);
    fm_access_destroy(serve->access);
    fm_tls_destroy(serve->tls);
    fm_mutex_deinit(&serve->counts_lock);
    fm_mutex_deinit(&serve->names_lock);
    fm_free(serve->loops);
    fm_free(serve);
}

/* Each loop of the process that handed them over has one of either protocol. */
static uint32_t sockets_per_name(const struct fm_handed_sockets *sockets)
{
    uint32_t http = sockets != NULL ? fm_handed_sockets_count(sockets, "http") : 0;
    uint32_t grpc = sockets != NULL ? fm_handed_sockets_count(sockets, "grpc") : 0;
    return http > grpc ? http : grpc;
}

static int loops_open(struct fm_serve *serve, struct fm_error *reterr)
{
    uint32_t handed = sockets_per_name(serve->owner.sockets);
    /* Every socket that was handed over needs somebody who looks at it. */
    serve->loop_count = handed > 0                  ? handed
                        : serve->options->loops > 0 ? serve->options->loops
                                                    : fm_serve_loops_default(fm_os_cpu_count());
    serve->loops = fm_alloc_zero(serve->loop_count, sizeof *serve->loops);
    if (serve->loops == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    int status = 0;
    for (uint32_t i = 0; i < serve->loop_count && status == 0; i++) {
        status = fm_serve_loop_init(&serve->loops[i], serve, i, reterr);
    }
    return status;
}

static int tracing_start(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_serve_options *options = serve->options;
    serve->sampler = (struct fm_trace_sampler){.rate_millionths = options->trace_rate_millionths,
                                               .respect_parent_no = true};
    if (options->otlp_endpoint == NULL && options->otlp_traces_endpoint == NULL) {
        return 0;
    }
    const struct fm_otlp_options otlp = {.endpoint = options->otlp_endpoint,
                                         .traces_endpoint = options->otlp_traces_endpoint,
                                         .headers = options->otlp_headers,
                                         .service_name = options->otlp_service_name,
                                         .service_version = options->server_version};
    return fm_otlp_exporter_start(&otlp, &serve->otlp, reterr);
}

static int payloads_open(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_serve_options *options = serve->options;
    char server[80];
    if (options->payload_path == NULL) {
        return 0;
    }
    (void)snprintf(server, sizeof server, "fermata %.60s", options->server_version);
    const struct fm_payload_recording_options payloads = {.path = options->payload_path,
                                                          .server = server,
                                                          .bytes_max = options->payload_bytes_max,
                                                          .share = options->payload_share};
    return fm_payload_recording_open(&payloads, &serve->payloads, reterr);
}

static void on_tick(void *context)
{
    struct fm_serve *serve = context;
    recording_tick(serve);
    fm_loop_alarm(serve->loops[0].loop, TICK_NS, on_tick, serve);
}

/* What needs nobody else. */
static int parts_open(struct fm_serve *serve, struct fm_error *reterr)
{
    int status = fm_serve_observer_open(serve, reterr);
    status = status != 0 ? status : access_open(serve, reterr);
    status = status != 0 ? status : tracing_start(serve, reterr);
    if (status == 0 && serve->options->response_cache_bytes > 0) {
        status =
            fm_response_cache_create(serve->options->response_cache_bytes, &serve->cache, reterr);
    }
    status = status != 0 ? status : loops_open(serve, reterr);
    status = status != 0 ? status : pool_open(serve, reterr);
    return status != 0 ? status : catalog_open(serve, reterr);
}

int fm_serve_create(const struct fm_serve_options *options, const struct fm_serve_owner *owner,
                    struct fm_serve **ret_serve, struct fm_error *reterr)
{
    FM_ASSERT(options->path_count > 0 && options->host != NULL);
    struct fm_serve *serve = fm_alloc_zero(1, sizeof(*serve));
    if (serve == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    serve->options = options;
    serve->owner = *owner;
    serve->start_ns = fm_os_now_ns();
    serve->start_wall_ns = fm_os_wall_ns();
    fm_os_host_name(serve->host_name, sizeof serve->host_name);
    fm_mutex_init(&serve->counts_lock);
    fm_mutex_init(&serve->names_lock);
    fm_shared_regions_init(&serve->regions);
    int status = parts_open(serve, reterr);
    if (status != 0) {
        fm_serve_destroy(serve);
        return status;
    }
    *ret_serve = serve;
    return 0;
}

int fm_serve_start(struct fm_serve *serve, struct fm_error *reterr)
{
    /* Before a client can connect to what cannot start. */
    int status = payloads_open(serve, reterr);
    for (uint32_t i = 0; i < serve->loop_count && status == 0; i++) {
        status = fm_serve_loop_listen(&serve->loops[i], reterr);
    }
    if (serve->owner.sockets != NULL) {
        fm_handed_sockets_close(serve->owner.sockets);
    }
    for (uint32_t i = 1; i < serve->loop_count && status == 0; i++) {
        status = fm_serve_loop_start(&serve->loops[i], reterr);
    }
    status = status != 0 ? status : fm_serve_observer_start(serve, reterr);
    if (status == 0) {
        serve->started = true;
        serve->loading = true;
        fm_loop_alarm(serve->loops[0].loop, TICK_NS, on_tick, serve);
        fm_catalog_submit(serve->catalog, &serve->starting);
    }
    return status;
}

void fm_serve_log_stopped(const struct fm_serve *serve)
{
    struct fm_serve_loop_counts sum = {0};
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        const struct fm_serve_loop_counts *counts = &serve->loops[i].counts;
        sum.http.requests += counts->http.requests + counts->grpc.calls + counts->local;
        sum.http.connections_accepted +=
            counts->http.connections_accepted + counts->grpc.connections_accepted;
        sum.http.cancelled += counts->http.cancelled + counts->grpc.cancelled;
        sum.http.rejected += counts->http.rejected + counts->grpc.rejected;
    }
    fm_log(FM_LOG_INFO, "stopped", FM_LOG_UINT("requests", sum.http.requests),
           FM_LOG_UINT("connections", sum.http.connections_accepted),
           FM_LOG_UINT("cancelled", sum.http.cancelled),
           FM_LOG_UINT("rejected", sum.http.rejected));
}
