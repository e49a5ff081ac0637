/*
 * What the server shows of itself: the picture for metrics, dashboard and trace, and the paths they
 * are behind. See serve_internal.h.
 *
 * Any loop answers; what is made of the counts (rates, history, advice) is under one lock, which
 * only those who look take.
 */
#include <stdio.h>
#include <string.h>

#include "core/stats/prometheus.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/debug_trace.h"
#include "engines/serve/metrics.h"
#include "engines/serve/pages.h"
#include "engines/serve/serve_internal.h"
#include "engines/serve/state_document.h"
#include "engines/serve/view.h"
#include "host/net/otlp_exporter.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"

/* --- names in the timeline ---------------------------------------------------------------------
 */

uint32_t fm_serve_span_model(struct fm_serve *serve, const char *name)
{
    uint32_t number = 0;
    fm_mutex_lock(&serve->observe_lock);
    while (number < serve->span_model_count && strcmp(serve->span_models[number], name) != 0) {
        number++;
    }
    if (number == serve->span_model_count) {
        char **names = fm_realloc(serve->span_models, (number + 1) * sizeof *names);
        char *copy = fm_strdup(name);
        serve->span_models = names != NULL ? names : serve->span_models;
        if (names != NULL && copy != NULL) {
            names[number] = copy;
            serve->span_model_count++;
        } else {
            fm_free(copy);
            number = FM_TIMELINE_NONE;
        }
    }
    fm_mutex_unlock(&serve->observe_lock);
    return number;
}

void fm_serve_observe_release(struct fm_serve *serve)
{
    for (uint32_t i = 0; i < serve->span_model_count; i++) {
        fm_free(serve->span_models[i]);
    }
    fm_free(serve->span_models);
}

/* --- the picture: with observe_lock held --------------------------------------------------------
 */

struct picture {
    struct fm_view view;
    struct fm_view_model *models;
    struct fm_view_accelerator *accelerators;
    char (*accelerator_names)[24];
    struct fm_view_loop *loops;
    const struct fm_catalog_view *catalog;
    struct fm_text log; /* of the state document */
};

/* With the scheduler standing still. */
static void scheduler_look(void *context, const struct fm_sched *sched,
                           const struct fm_scheduler_stats *stats)
{
    struct picture *picture = context;
    (void)stats;
    fm_sched_stats_get(sched, &picture->view.sched);
    for (uint32_t i = 0; i < picture->view.accelerator_count; i++) {
        picture->accelerators[i].rest_until_ns =
            fm_sched_rest_until_ns(sched, picture->view.now_ns, i);
    }
    for (size_t i = 0; i < picture->catalog->row_count; i++) {
        const struct fm_catalog_entry *entry = picture->catalog->rows[i].entry;
        const struct fm_serving *serving = entry != NULL ? entry->attached : NULL;
        struct fm_sched_model_stats of;
        if (serving == NULL || serving->model == NULL) {
            continue;
        }
        fm_sched_model_stats_get(sched, fm_pool_model_id(serving->model), &of);
        picture->models[i].queued = of.queued;
        picture->models[i].target_batch = of.target;
        picture->models[i].rate_millihertz = of.rate_millihertz;
        picture->models[i].bad_permyriad = of.bad_permyriad;
    }
}

static void model_fill(const struct fm_catalog_row *row,
                       struct fm_view_model *ret_model)
{
    *ret_model = (struct fm_view_model){.name = row->name,
                                        .version = row->version,
                                        .kind = "model",
                                        .state = fm_catalog_state_name(row->state),
                                        .reason = row->reason,
                                        .backend = "",
                                        .policy = "",
                                        .goal = "",
                                        .load_ns = row->load_ns};
    const struct fm_catalog_entry *entry = row->entry;
    if (entry == NULL) {
        return;
    }
    const struct fm_serving *serving = entry->attached;
    const struct fm_model *model = fm_servable_model(entry->servable);
    ret_model->inputs = entry->signature.inputs;
    ret_model->input_count = entry->signature.input_count;
    ret_model->outputs = entry->signature.outputs;
    ret_model->output_count = entry->signature.output_count;
    ret_model->slo_ns = serving->slo_ns;
    ret_model->batch_max = entry->signature.batch_max;
    ret_model->in_flight = atomic_load_explicit(&serving->in_flight, memory_order_relaxed);
    ret_model->totals = &serving->totals;
    ret_model->recent = &serving->recent;
    if (model == NULL) {
        ret_model->kind = "pipeline";
        return;
    }
    ret_model->backend = fm_model_backend_name(model);
    ret_model->policy = fm_sched_policy_name(serving->policy);
    ret_model->goal = fm_sched_goal_name(serving->options.goal);
    ret_model->instances = serving->instances;
    ret_model->memory_bytes = serving->memory_bytes;
}

static void accelerators_fill(struct fm_serve *serve, struct picture *picture)
{
    for (uint32_t i = 0; i < picture->view.accelerator_count; i++) {
        struct fm_pool_accelerator_stats stats;
        fm_pool_accelerator_stats(serve->pool, i, &stats);
        (void)snprintf(picture->accelerator_names[i], sizeof picture->accelerator_names[i], "%s-%u",
                       stats.type, (unsigned)i);
        picture->accelerators[i] =
            (struct fm_view_accelerator){.name = picture->accelerator_names[i],
                                         .type = stats.type,
                                         .state = stats.down   ? FM_VIEW_ACCELERATOR_DOWN
                                                  : stats.busy ? FM_VIEW_ACCELERATOR_BUSY
                                                               : FM_VIEW_ACCELERATOR_IDLE,
                                         .model = "",
                                         .batches = stats.batches,
                                         .failures = stats.hangs,
                                         .busy_ns = stats.busy_ns};
    }
}

static void loops_fill(const struct fm_serve *serve, struct picture *picture)
{
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        const struct fm_serve_loop_counts *counts = &serve->loops[i].counts;
        picture->loops[i] = (struct fm_view_loop){
            .requests = counts->http.requests + counts->grpc.calls + counts->local,
            .rejected = counts->http.rejected + counts->grpc.rejected,
            .cancelled = counts->http.cancelled + counts->grpc.cancelled,
            .connections_accepted =
                counts->http.connections_accepted + counts->grpc.connections_accepted,
            .connections_refused =
                counts->http.connections_refused + counts->grpc.connections_refused,
            .connections = counts->http.connections + counts->grpc.connections,
            .in_flight = counts->http.in_flight + counts->grpc.in_flight,
            .bytes_received = counts->http.bytes_received + counts->grpc.bytes_received,
            .bytes_sent = counts->http.bytes_sent + counts->grpc.bytes_sent,
            .cpu_ns = counts->cpu_ns};
    }
}

static void process_fill(struct fm_view_process *ret_process)
{
    struct fm_process_facts facts;
    fm_process_facts_get(&facts);
    *ret_process = (struct fm_view_process){.cpu_ns = fm_os_cpu_ns(),
                                            .resident_bytes = facts.resident_bytes,
                                            .peak_bytes = fm_os_memory_peak(),
                                            .virtual_bytes = facts.virtual_bytes,
                                            .open_descriptors = facts.open_descriptors,
                                            .descriptors_max = facts.descriptors_max,
                                            .threads = facts.threads};
}

/* What is kept of requests and answers: the response cache, the recording of payloads. */
static void kept_fill(const struct fm_serve *serve, struct fm_view *view)
{
    if (serve->cache != NULL) {
        struct fm_response_cache_stats cache;
        fm_response_cache_stats(serve->cache, &cache);
        view->cache = (struct fm_view_cache){.enabled = true,
                                             .bytes = cache.bytes,
                                             .bytes_max = cache.bytes_max,
                                             .entries = cache.entries,
                                             .inserted = cache.inserted,
                                             .evicted = cache.evicted,
                                             .too_large = cache.too_large,
                                             .no_memory = cache.no_memory};
    }
    if (serve->payloads != NULL) {
        struct fm_payload_recording_stats payloads;
        fm_payload_recording_stats(serve->payloads, &payloads);
        view->payloads = (struct fm_view_payloads){.enabled = true,
                                                   .bytes = payloads.bytes,
                                                   .recorded = payloads.recorded,
                                                   .left_out = payloads.left_out,
                                                   .sampled_out = payloads.sampled_out};
    }
}

static void picture_deinit(struct picture *picture)
{
    fm_free(picture->models);
    fm_free(picture->accelerators);
    fm_free(picture->accelerator_names);
    fm_free(picture->loops);
    fm_text_deinit(&picture->log);
}

/* FM_ENOMEM. */
static int picture_take(struct fm_serve_loop *loop, struct picture *picture)
{
    struct fm_serve *serve = loop->serve;
    uint32_t accelerators = fm_pool_accelerator_count(serve->pool);
    *picture = (struct picture){.catalog = loop->reader.view};
    picture->models = fm_alloc_zero(picture->catalog->row_count + 1, sizeof *picture->models);
    picture->accelerators = fm_alloc_zero(accelerators, sizeof *picture->accelerators);
    picture->accelerator_names = fm_alloc_zero(accelerators, sizeof *picture->accelerator_names);
    picture->loops = fm_alloc_zero(serve->loop_count, sizeof *picture->loops);
    if (picture->models == NULL || picture->accelerators == NULL ||
        picture->accelerator_names == NULL || picture->loops == NULL) {
        picture_deinit(picture);
        return FM_ENOMEM;
    }
    picture->view = (struct fm_view){.version = serve->options->server_version,
                                     .commit = "",
                                     .build = "",
                                     .host = "",
                                     .policy = fm_sched_policy_name(serve->options->policy),
                                     .now_ns = fm_os_now_ns(),
                                     .wall_ns = fm_os_wall_ns(),
                                     .start_wall_ns = serve->start_wall_ns,
                                     .ready = fm_serve_is_ready(loop),
                                     .draining = fm_serve_is_draining(serve),
                                     .cpu_count = fm_os_cpu_count(),
                                     .models = picture->models,
                                     .model_count = (uint32_t)picture->catalog->row_count,
                                     .accelerators = picture->accelerators,
                                     .accelerator_count = accelerators,
                                     .loops = picture->loops,
                                     .loop_count = serve->loop_count,
                                     .advice = &serve->advice,
                                     .process = {.cpu_ns = fm_os_cpu_ns(),
                                                 .resident_bytes = fm_os_memory_now(),
                                                 .peak_bytes = fm_os_memory_peak()},
                                     .history = &serve->history,
                                     .timeline = &serve->timeline,
                                     .span_models = (const char *const *)serve->span_models,
                                     .span_model_count = serve->span_model_count,
                                     .log = ""};
    process_fill(&picture->view.process);
    if (serve->otlp != NULL) {
        struct fm_otlp_stats otlp;
        fm_otlp_exporter_stats(serve->otlp, &otlp);
        picture->view.otlp = (struct fm_view_export){
            .enabled = true, .sent = otlp.sent, .dropped = otlp.dropped, .failed = otlp.failed};
    }
    kept_fill(serve, &picture->view);
    for (size_t i = 0; i < picture->catalog->row_count; i++) {
        model_fill(&picture->catalog->rows[i], &picture->models[i]);
    }
    fm_access_view(serve->access, &picture->view.access);
    accelerators_fill(serve, picture);
    loops_fill(serve, picture);
    fm_pool_look(serve->pool, scheduler_look, picture);
    return 0;
}

/* Adds up what was counted of every model. */
static void models_sample(struct fm_serve_loop *loop, uint64_t now_ns,
                          struct fm_history_totals *ret_totals)
{
    const struct fm_catalog_view *view = loop->reader.view;
    *ret_totals = (struct fm_history_totals){0};
    for (size_t i = 0; i < view->row_count; i++) {
        if (view->rows[i].entry != NULL) {
            struct fm_serving *serving = view->rows[i].entry->attached;
            fm_serving_sample(serving, now_ns);
            fm_history_totals_add(ret_totals, &serving->totals);
        }
    }
}

void fm_serve_observe_tick(struct fm_serve *serve)
{
    struct fm_serve_loop *loop = &serve->loops[0];
    struct picture picture;
    fm_mutex_lock(&serve->observe_lock);
    struct fm_history_now now = {.now_ns = fm_os_now_ns(), .wall_ns = fm_os_wall_ns()};
    models_sample(loop, now.now_ns, &now.totals);
    if (picture_take(loop, &picture) == 0) {
        const struct fm_sched_stats *stats = &picture.view.sched;
        uint64_t requests = now.totals.good + now.totals.late + now.totals.dropped;
        uint64_t bad = now.totals.late + now.totals.dropped;
        const struct fm_advice_input input = {
            .accelerators_up = stats->accelerators_up,
            .accelerators_active = stats->accelerators_active,
            .need_milli = stats->busy_milli,
            .bad_permyriad = requests > 0 ? (uint32_t)(bad * 10000 / requests) : 0};
        serve->advice = fm_advisor_update(&serve->advisor, now.now_ns, &input);
        now.queued = stats->queued;
        now.accelerators_up = stats->accelerators_up;
        now.accelerators_use = stats->accelerators_busy;
        now.wanted = serve->advice.wanted;
        picture_deinit(&picture);
    }
    fm_history_sample(&serve->history, &now);
    fm_mutex_unlock(&serve->observe_lock);
}

/* --- documents ----------------------------------------------------------------------------------
 */

enum document { DOCUMENT_METRICS, DOCUMENT_STATE, DOCUMENT_TRACE, DOCUMENT_NONE };

static int trace_write(const struct fm_view *view, const char *query, struct fm_text *text,
                       struct fm_error *reterr)
{
    struct fm_debug_trace trace;
    uint32_t seconds = 0;
    int status = fm_debug_trace_query_parse(query, &seconds, reterr);
    if (status != 0) {
        return status;
    }
    if (fm_debug_trace_init(&trace, view, seconds) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the trace");
    }
    while (fm_debug_trace_next(&trace, text)) {
    }
    fm_debug_trace_deinit(&trace);
    return 0;
}

static int document_write(struct fm_serve_loop *loop, enum document document, const char *query,
                          struct fm_text *text, struct fm_error *reterr)
{
    struct fm_serve *serve = loop->serve;
    struct fm_state_query state = {0};
    struct picture picture;
    int status = 0;
    if (document == DOCUMENT_STATE) {
        status = fm_state_query_parse(query, &state, reterr);
    }
    if (status != 0) {
        return status;
    }
    fm_mutex_lock(&serve->observe_lock);
    struct fm_history_totals totals;
    models_sample(loop, fm_os_now_ns(), &totals);
    status = picture_take(loop, &picture);
    if (status != 0) {
        (void)fm_error_set(reterr, status, "out of memory for the document");
    } else if (document == DOCUMENT_METRICS) {
        fm_metrics_write(&picture.view, text);
    } else if (document == DOCUMENT_STATE) {
        fm_log_recent(&picture.log);
        picture.view.log = picture.log.data != NULL && !picture.log.failed ? picture.log.data : "";
        fm_state_document_write(&picture.view, &state, text);
    } else {
        status = trace_write(&picture.view, query, text, reterr);
    }
    if (picture.models != NULL) {
        picture_deinit(&picture);
    }
    fm_mutex_unlock(&serve->observe_lock);
    return status;
}

int fm_serve_observe_write(struct fm_serve_loop *loop, bool state, struct fm_text *text,
                           struct fm_error *reterr)
{
    return document_write(loop, state ? DOCUMENT_STATE : DOCUMENT_METRICS, "", text, reterr);
}

static void document_answer(struct fm_serve_loop *loop, struct fm_http_request *http,
                            enum document document)
{
    static const char *const types[] = {[DOCUMENT_METRICS] = FM_PROMETHEUS_TYPE,
                                        [DOCUMENT_STATE] = "application/json",
                                        [DOCUMENT_TRACE] = FM_DEBUG_TRACE_TYPE};
    struct fm_text text = {0};
    struct fm_error error = {0};
    if (document_write(loop, document, http->query, &text, &error) != 0) {
        fm_text_deinit(&text);
        fm_serve_http_error(http, fm_status_http(error.status), error.text);
    } else {
        fm_serve_http_text(http, 200, types[document], &text);
    }
}

struct page {
    struct fm_page page;
    struct fm_http_part part;
};

/* A page of the dashboard; its bytes lie in the program. */
static void page_answer(struct fm_http_request *http, const struct fm_page *found)
{
    struct page *page = fm_alloc(sizeof *page);
    if (page == NULL) {
        const struct fm_http_answer none = {.status = 503};
        fm_http_answer(http, &none);
        return;
    }
    page->page = *found;
    page->part = (struct fm_http_part){found->bytes, found->size};
    struct fm_http_answer answer = {.status = found->status,
                                    .content_type =
                                        found->status == 304 ? NULL : found->content_type,
                                    .parts = &page->part,
                                    .part_count = found->status == 304 ? 0 : 1,
                                    .release = fm_free,
                                    .context = page};
    _Static_assert(FM_PAGE_HEADERS <= FM_HTTP_ANSWER_HEADERS_MAX, "there is room for all");
    for (size_t i = 0; i < found->header_count; i++) {
        answer.headers[answer.header_count++] =
            (struct fm_http_header){found->headers[i].name, found->headers[i].value};
    }
    fm_http_answer(http, &answer);
}

enum fm_access_class fm_serve_observe_class(const struct fm_http_request *http)
{
    struct fm_page page;
    return fm_page_find(http->path, NULL, NULL, &page) || strcmp(http->method, "OPTIONS") == 0
               ? FM_ACCESS_OPEN
               : FM_ACCESS_OBSERVE;
}

bool fm_serve_observe_route(struct fm_serve_loop *loop, struct fm_http_request *http)
{
    struct fm_page page;
    bool is_page = fm_page_find(http->path, fm_http_header_find(http, "If-None-Match"),
                                fm_http_header_find(http, "Accept-Encoding"), &page);
    enum document document = strcmp(http->path, "/metrics") == 0       ? DOCUMENT_METRICS
                             : strcmp(http->path, "/debug/state") == 0 ? DOCUMENT_STATE
                             : strcmp(http->path, "/debug/trace") == 0 ? DOCUMENT_TRACE
                                                                       : DOCUMENT_NONE;
    if (!is_page && document == DOCUMENT_NONE) {
        return false;
    }
    if (strcmp(http->method, "GET") != 0 && strcmp(http->method, "HEAD") != 0) {
        const struct fm_http_answer answer = {.status =
                                                  strcmp(http->method, "OPTIONS") == 0 ? 200 : 405,
                                              .headers = {{"Allow", "GET, HEAD, OPTIONS"}},
                                              .header_count = 1};
        fm_http_answer(http, &answer);
    } else if (is_page) {
        page_answer(http, &page);
    } else {
        document_answer(loop, http, document);
    }
    return true;
}

void fm_serve_observe_handle(void *context, struct fm_http_request *http)
{
    struct fm_serve_loop *loop = context;
    if (fm_serve_http_guard(loop, http, fm_serve_observe_class(http)) &&
        !fm_serve_observe_route(loop, http)) {
        fm_serve_http_error(http, 404, "Not Found");
    }
}
