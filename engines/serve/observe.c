/*
 * What the server shows of itself: the picture for metrics, dashboard and trace, and the paths they
 * are behind. See serve_internal.h.
 *
 * Any loop is asked and answers; a thread of its own, the observer, writes the documents (with
 * hundreds of models that takes tens of milliseconds) and makes of the counts what is made of them:
 * rates, history, advice. Thread rule: the picture is the observer's.
 */
#include <stdio.h>
#include <string.h>

#include "core/stats/prometheus.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/tally.h"
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

/* --- the picture -------------------------------------------------------------------------------
 */

struct picture {
    struct fm_view view;
    struct fm_view_model *models;
    struct fm_view_accelerator *accelerators;
    char (*accelerator_names)[24];
    struct fm_view_loop *loops;
    const char **span_models;
    const struct fm_pool_model **pool_models; /* by model; NULL: a pipeline, or not ready */
    struct fm_model_totals *merged;           /* of models that pipelines ran, too: merged_count */
    uint32_t merged_count;
    struct fm_view_stage *stages;
    struct fm_model_totals *stage_totals;
    const struct fm_catalog_view *catalog;
    struct fm_text log; /* of the state document */
};

/* So often what was counted is looked at. */
#define TICK_NS UINT64_C(1000000000)
/* Memory that was freed is given back where more than this was kept in so many looks, but not all
 * the time. */
#define KEPT_BYTES_MAX ((uint64_t)64 << 20)
#define KEPT_LOOKS     3u
#define LOOK_EVERY_NS  UINT64_C(5000000000)

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
    for (uint32_t i = 0; i < picture->view.model_count; i++) {
        struct fm_sched_model_stats of;
        if (picture->pool_models[i] == NULL) {
            continue;
        }
        fm_sched_model_stats_get(sched, fm_pool_model_id(picture->pool_models[i]), &of);
        picture->models[i].queued = of.queued;
        picture->models[i].target_batch = of.target;
        picture->models[i].rate_millihertz = of.rate_millihertz;
        picture->models[i].bad_permyriad = of.bad_permyriad;
    }
}

static void model_fill(const struct fm_catalog_row *row, struct fm_view_model *ret_model)
{
    *ret_model = (struct fm_view_model){.name = row->name,
                                        .version = row->version,
                                        .kind = "model",
                                        .state = row->state,
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

/* --- models that pipelines run --- */

static uint32_t stage_count(const struct fm_catalog_entry *entry)
{
    const struct fm_serving *serving = entry != NULL ? entry->attached : NULL;
    return serving != NULL && serving->stages != NULL
               ? fm_servable_pipeline(entry->servable)->stage_count
               : 0;
}

/* The model's place in the picture: that of one that is served under its name, or one of its own
 * behind them. */
static uint32_t stage_place(struct picture *picture, const struct fm_model *model)
{
    uint32_t i = 0;
    while (i < picture->view.model_count &&
           (picture->pool_models[i] == NULL ||
            picture->models[i].version != fm_model_version(model) ||
            strcmp(picture->models[i].name, fm_model_name(model)) != 0)) {
        i++;
    }
    if (i == picture->view.model_count) {
        picture->view.model_count++;
        picture->models[i] = (struct fm_view_model){.name = fm_model_name(model),
                                                    .version = fm_model_version(model),
                                                    .kind = "stage",
                                                    .state = FM_CATALOG_READY,
                                                    .reason = "",
                                                    .backend = fm_model_backend_name(model),
                                                    .policy = "",
                                                    .goal = "",
                                                    .memory_bytes = fm_model_memory(model),
                                                    .batch_max = fm_model_batch_max(model),
                                                    .instances = fm_model_instance_count(model)};
        picture->models[i].inputs = fm_model_inputs(model, &picture->models[i].input_count);
        picture->models[i].outputs = fm_model_outputs(model, &picture->models[i].output_count);
    }
    return i;
}

static void stage_fill(struct picture *picture, const struct fm_catalog_entry *entry,
                       uint32_t stage, const struct fm_model_counters *counters)
{
    const struct fm_serving *serving = entry->attached;
    const struct fm_stage_spec *spec = fm_servable_pipeline(entry->servable)->stages[stage].spec;
    struct fm_model_totals *totals = &picture->stage_totals[picture->view.stage_count];
    int status = fm_model_totals_add(totals, counters);
    (void)status; /* without memory the rows are fewer; the rest is there */
    picture->stages[picture->view.stage_count++] = (struct fm_view_stage){
        .pipeline = entry->name,
        .version = entry->version,
        .name = spec->name,
        .model = fm_model_name(fm_servable_bindings(entry->servable)[stage].model),
        .budget_ns = fm_pool_stages_budget_ns(serving->stages, stage),
        .totals = totals};
}

/* Adds what a pipeline's stages counted to their models, as Triton does for what an ensemble is
 * composed of. Without memory numbers are missing. */
static void stages_fill(struct picture *picture, const struct fm_catalog_entry *entry)
{
    const struct fm_serving *serving = entry->attached;
    const struct fm_stage_binding *bindings = fm_servable_bindings(entry->servable);
    for (uint32_t i = 0; i < stage_count(entry); i++) {
        const struct fm_model_counters *counters = fm_pool_stages_counters(serving->stages, i);
        if (counters == NULL) {
            continue;
        }
        stage_fill(picture, entry, i, counters);
        uint32_t place = stage_place(picture, bindings[i].model);
        struct fm_view_model *model = &picture->models[place];
        const struct fm_catalog_entry *served =
            place < picture->catalog->row_count ? picture->catalog->rows[place].entry : NULL;
        int status = 0;
        if (model->totals < picture->merged ||
            model->totals >= picture->merged + picture->merged_count) {
            struct fm_model_totals *own = &picture->merged[picture->merged_count++];
            model->totals = own;
            status = served != NULL ? fm_serving_totals_add(served->attached, own) : 0;
        }
        if (picture->pool_models[place] == NULL) {
            picture->pool_models[place] = fm_pool_stages_model(serving->stages, i);
        }
        status =
            status == 0
                ? fm_model_totals_add((struct fm_model_totals *)(uintptr_t)model->totals, counters)
                : status;
        (void)status;
    }
}

static void models_fill(struct picture *picture)
{
    const struct fm_catalog_view *catalog = picture->catalog;
    for (size_t i = 0; i < catalog->row_count; i++) {
        const struct fm_catalog_entry *entry = catalog->rows[i].entry;
        const struct fm_serving *serving = entry != NULL ? entry->attached : NULL;
        model_fill(&catalog->rows[i], &picture->models[i]);
        picture->pool_models[i] = serving != NULL ? serving->model : NULL;
    }
    for (size_t i = 0; i < catalog->row_count; i++) {
        if (stage_count(catalog->rows[i].entry) > 0) {
            stages_fill(picture, catalog->rows[i].entry);
        }
    }
}

/* Room for all models, and for those of all stages. FM_ENOMEM. */
static int models_reserve(struct picture *picture)
{
    size_t stages = 0;
    for (size_t i = 0; i < picture->catalog->row_count; i++) {
        stages += stage_count(picture->catalog->rows[i].entry);
    }
    size_t count = picture->catalog->row_count + stages + 1;
    picture->models = fm_alloc_zero(count, sizeof *picture->models);
    picture->pool_models = fm_alloc_zero(count, sizeof(struct fm_pool_model *));
    picture->merged = fm_alloc_zero(stages + 1, sizeof *picture->merged);
    picture->stages = fm_alloc_zero(stages + 1, sizeof *picture->stages);
    picture->stage_totals = fm_alloc_zero(stages + 1, sizeof *picture->stage_totals);
    return picture->models != NULL && picture->pool_models != NULL && picture->merged != NULL &&
                   picture->stages != NULL && picture->stage_totals != NULL
               ? 0
               : FM_ENOMEM;
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

static void loops_fill(struct fm_serve *serve, struct picture *picture)
{
    fm_mutex_lock(&serve->counts_lock);
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
            .cpu_ns = counts->cpu_ns,
            .lag_max_ns = counts->turn_longest_ns};
    }
    fm_mutex_unlock(&serve->counts_lock);
}

static void process_fill(const struct fm_serve *serve, struct fm_view_process *ret_process)
{
    struct fm_process_facts facts;
    fm_process_facts_get(&facts);
    *ret_process = (struct fm_view_process){.cpu_ns = fm_os_cpu_ns(),
                                            .resident_bytes = facts.resident_bytes,
                                            .peak_bytes = fm_os_memory_peak(),
                                            .virtual_bytes = facts.virtual_bytes,
                                            .open_descriptors = facts.open_descriptors,
                                            .descriptors_max = facts.descriptors_max,
                                            .threads = facts.threads,
                                            .machine_cpu = serve->observer.cpu_utilization};
    fm_machine_memory_get(&ret_process->machine_memory, &ret_process->machine_memory_used);
    for (uint32_t i = 0; i < FM_TALLY_COUNT_; i++) {
        ret_process->tally[i] = fm_tally_total((enum fm_tally)i);
    }
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
    for (uint32_t i = 0; i < picture->merged_count; i++) {
        fm_model_totals_deinit(&picture->merged[i]);
    }
    for (uint32_t i = 0; i < picture->view.stage_count; i++) {
        fm_model_totals_deinit(&picture->stage_totals[i]);
    }
    fm_free(picture->merged);
    fm_free(picture->stages);
    fm_free(picture->stage_totals);
    fm_free(picture->pool_models);
    fm_free(picture->models);
    fm_free(picture->accelerators);
    fm_free(picture->accelerator_names);
    fm_free(picture->loops);
    fm_free(picture->span_models);
    fm_text_deinit(&picture->log);
}

/* FM_ENOMEM. */
static int picture_take(struct fm_serve *serve, struct picture *picture)
{
    const struct fm_serve_options *options = serve->options;
    struct fm_serve_observer *observer = &serve->observer;
    uint32_t accelerators = fm_pool_accelerator_count(serve->pool);
    uint32_t span_models;
    *picture = (struct picture){.catalog = observer->reader.view};
    picture->span_models = fm_serve_span_names(serve, &span_models);
    int status = models_reserve(picture);
    picture->accelerators = fm_alloc_zero(accelerators, sizeof *picture->accelerators);
    picture->accelerator_names = fm_alloc_zero(accelerators, sizeof *picture->accelerator_names);
    picture->loops = fm_alloc_zero(serve->loop_count, sizeof *picture->loops);
    if (status != 0 || picture->accelerators == NULL || picture->accelerator_names == NULL ||
        picture->loops == NULL || picture->span_models == NULL) {
        picture_deinit(picture);
        return FM_ENOMEM;
    }
    picture->view =
        (struct fm_view){.version = options->server_version,
                         .commit = options->server_commit != NULL ? options->server_commit : "",
                         .build = options->server_build != NULL ? options->server_build : "",
                         .host = serve->host_name,
                         .policy = fm_sched_policy_name(options->policy),
                         .now_ns = fm_os_now_ns(),
                         .wall_ns = fm_os_wall_ns(),
                         .start_wall_ns = serve->start_wall_ns,
                         .ready = fm_serve_is_ready_by(serve, observer->reader.view),
                         .draining = fm_serve_is_draining(serve),
                         .cpu_count = fm_os_cpu_count(),
                         .models = picture->models,
                         .model_count = (uint32_t)picture->catalog->row_count,
                         .stages = picture->stages,
                         .abandoned_count = fm_pool_abandoned_count(serve->pool),
                         .accelerators = picture->accelerators,
                         .accelerator_count = accelerators,
                         .loops = picture->loops,
                         .loop_count = serve->loop_count,
                         .advice = &observer->advice,
                         .history = &observer->history,
                         .timeline = &serve->timeline,
                         .span_models = picture->span_models,
                         .span_model_count = span_models,
                         .log = ""};
    process_fill(serve, &picture->view.process);
    if (serve->otlp != NULL) {
        struct fm_otlp_stats otlp;
        fm_otlp_exporter_stats(serve->otlp, &otlp);
        picture->view.otlp = (struct fm_view_export){
            .enabled = true, .sent = otlp.sent, .dropped = otlp.dropped, .failed = otlp.failed};
    }
    kept_fill(serve, &picture->view);
    models_fill(picture);
    fm_access_view(serve->access, &picture->view.access);
    accelerators_fill(serve, picture);
    loops_fill(serve, picture);
    fm_pool_look(serve->pool, scheduler_look, picture);
    return 0;
}

/* Adds up what was counted of every model. */
static void models_sample(struct fm_serve *serve, uint64_t now_ns,
                          struct fm_history_totals *ret_totals)
{
    const struct fm_catalog_view *view = serve->observer.reader.view;
    *ret_totals = (struct fm_history_totals){0};
    for (size_t i = 0; i < view->row_count; i++) {
        if (view->rows[i].entry != NULL) {
            struct fm_serving *serving = view->rows[i].entry->attached;
            fm_serving_sample(serving, now_ns);
            fm_history_totals_add(ret_totals, &serving->totals);
        }
    }
}

/* What the timeline shows besides batches: who rests, and how many wait. */
static void spans_put(struct fm_serve *serve, const struct fm_view *view)
{
    for (uint32_t i = 0; i < view->accelerator_count; i++) {
        if (view->accelerators[i].rest_until_ns > view->now_ns) {
            fm_serve_span_rest(serve, i, view->now_ns);
        }
    }
    const struct fm_span queued = {.start_ns = view->now_ns,
                                   .end_ns = view->now_ns,
                                   .model = FM_TIMELINE_NONE,
                                   .count = view->sched.queued,
                                   .kind = FM_SPAN_QUEUED,
                                   .track = FM_TRACK_LOOP};
    fm_timeline_put(&serve->timeline, serve->loop_count, &queued);
}

/* What large answers to clients that do not read leave behind is in the allocator's arenas, which
 * give nothing back by themselves. A program that we are only a part of sees to its own. What is
 * given back is still counted as kept: only what comes on top of it is worth another time. */
static void memory_look(struct fm_serve *serve, uint64_t now_ns)
{
    struct fm_serve_observer *observer = &serve->observer;
    if (!serve->options->supervised || now_ns < observer->kept_look_ns) {
        return;
    }
    observer->kept_look_ns = now_ns + LOOK_EVERY_NS;
    uint64_t kept = fm_process_memory_kept();
    observer->kept_bytes = kept < observer->kept_bytes ? kept : observer->kept_bytes;
    bool much = kept - observer->kept_bytes > KEPT_BYTES_MAX;
    observer->kept_looks = much ? observer->kept_looks + 1 : 0;
    if (observer->kept_looks >= KEPT_LOOKS) {
        fm_process_memory_release();
        observer->kept_looks = 0;
        observer->kept_bytes = fm_process_memory_kept();
    }
}

/* About once a second. */
static void on_tick(void *context)
{
    struct fm_serve *serve = context;
    struct fm_serve_observer *observer = &serve->observer;
    struct picture picture;
    struct fm_history_now now = {.now_ns = fm_os_now_ns(), .wall_ns = fm_os_wall_ns()};
    models_sample(serve, now.now_ns, &now.totals);
    fm_machine_cpu_look(&observer->cpu, &observer->cpu_utilization);
    if (picture_take(serve, &picture) == 0) {
        const struct fm_sched_stats *stats = &picture.view.sched;
        uint64_t requests = now.totals.good + now.totals.late + now.totals.dropped;
        uint64_t bad = now.totals.late + now.totals.dropped;
        const struct fm_advice_input input = {
            .accelerators_up = stats->accelerators_up,
            .accelerators_active = stats->accelerators_active,
            .need_milli = stats->busy_milli,
            .bad_permyriad = requests > 0 ? (uint32_t)(bad * 10000 / requests) : 0};
        observer->advice = fm_advisor_update(&observer->advisor, now.now_ns, &input);
        now.queued = stats->queued;
        now.accelerators_up = stats->accelerators_up;
        now.accelerators_use = stats->accelerators_busy;
        now.wanted = observer->advice.wanted;
        spans_put(serve, &picture.view);
        picture_deinit(&picture);
    }
    fm_history_sample(&observer->history, &now);
    memory_look(serve, now.now_ns);
    fm_loop_alarm(observer->loop, TICK_NS, on_tick, serve);
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

static int document_write(struct fm_serve *serve, enum document document, const char *query,
                          struct fm_text *text, struct fm_error *reterr)
{
    struct fm_state_query state = {0};
    struct picture picture;
    int status = 0;
    if (document == DOCUMENT_STATE) {
        status = fm_state_query_parse(query, &state, reterr);
    }
    if (status != 0) {
        return status;
    }
    struct fm_history_totals totals;
    models_sample(serve, fm_os_now_ns(), &totals);
    status = picture_take(serve, &picture);
    if (status != 0) {
        return fm_error_set(reterr, status, "out of memory for the document");
    }
    if (document == DOCUMENT_METRICS) {
        fm_metrics_write(&picture.view, text);
    } else if (document == DOCUMENT_STATE) {
        fm_log_recent(&picture.log);
        picture.view.log = picture.log.data != NULL && !picture.log.failed ? picture.log.data : "";
        fm_state_document_write(&picture.view, &state, text);
    } else {
        status = trace_write(&picture.view, query, text, reterr);
    }
    picture_deinit(&picture);
    return status;
}

/* A document that is being waited for. */
struct asked {
    struct fm_loop_task task;
    struct fm_serve *serve;
    struct fm_http_request *http;
    enum document document;
};

/* On the observer's thread. */
static void document_answer(struct fm_loop_task *task)
{
    static const char *const types[] = {[DOCUMENT_METRICS] = FM_PROMETHEUS_TYPE,
                                        [DOCUMENT_STATE] = "application/json",
                                        [DOCUMENT_TRACE] = FM_DEBUG_TRACE_TYPE};
    struct asked *asked = FM_CONTAINER_OF(task, struct asked, task);
    struct fm_text text = {0};
    struct fm_error error = {0};
    if (document_write(asked->serve, asked->document, asked->http->query, &text, &error) != 0) {
        fm_text_deinit(&text);
        fm_serve_http_error(asked->http, fm_status_http(error.status), error.text);
    } else {
        fm_serve_http_text(asked->http, 200, types[asked->document], &text);
    }
    fm_free(asked);
}

static void document_ask(struct fm_serve_loop *loop, struct fm_http_request *http,
                         enum document document)
{
    struct asked *asked = fm_alloc(sizeof *asked);
    if (asked == NULL) {
        fm_serve_http_error(http, fm_status_http(FM_ENOMEM), "out of memory for the document");
        return;
    }
    *asked = (struct asked){
        .task = {.run = document_answer}, .serve = loop->serve, .http = http, .document = document};
    fm_loop_post(loop->serve->observer.loop, &asked->task);
}

/* On the stack of a thread that waits. */
struct waited {
    struct fm_loop_task task;
    struct fm_serve *serve;
    enum document document;
    struct fm_text *text;
    struct fm_error *error; /* or NULL */
    int status;
    struct fm_mutex lock;
    struct fm_condition changed;
    bool done; /* behind the lock */
};

/* On the observer's thread. */
static void waited_write(struct fm_loop_task *task)
{
    struct waited *waited = FM_CONTAINER_OF(task, struct waited, task);
    waited->status =
        document_write(waited->serve, waited->document, "", waited->text, waited->error);
    fm_mutex_lock(&waited->lock);
    waited->done = true;
    fm_condition_signal(&waited->changed);
    fm_mutex_unlock(&waited->lock);
}

int fm_serve_observe_write(struct fm_serve *serve, bool state, struct fm_text *text,
                           struct fm_error *reterr)
{
    struct waited waited = {.task = {.run = waited_write},
                            .serve = serve,
                            .document = state ? DOCUMENT_STATE : DOCUMENT_METRICS,
                            .text = text,
                            .error = reterr};
    fm_mutex_init(&waited.lock);
    fm_condition_init(&waited.changed);
    fm_loop_post(serve->observer.loop, &waited.task);
    fm_mutex_lock(&waited.lock);
    while (!waited.done) {
        fm_condition_wait(&waited.changed, &waited.lock);
    }
    fm_mutex_unlock(&waited.lock);
    fm_condition_deinit(&waited.changed);
    fm_mutex_deinit(&waited.lock);
    return waited.status;
}

/* --- the observer ------------------------------------------------------------------------------
 */

static void on_stop_task(struct fm_loop_task *task)
{
    struct fm_serve_observer *observer = FM_CONTAINER_OF(task, struct fm_serve_observer, stop_task);
    fm_loop_stop(observer->loop);
}

int fm_serve_observer_open(struct fm_serve *serve, struct fm_error *reterr)
{
    const struct fm_advice_options advice = {.accelerators_min = 1,
                                             .accelerators_max = FM_SCHED_ACCELERATORS_LIMIT,
                                             .headroom_permille = 200};
    struct fm_serve_observer *observer = &serve->observer;
    observer->stop_task.run = on_stop_task;
    int status = fm_advisor_init(&observer->advisor, &advice, reterr);
    return status == 0 ? fm_loop_create(&observer->loop, reterr) : status;
}

static void observer_run(void *argument)
{
    struct fm_serve_observer *observer = argument;
    fm_thread_background();
    fm_loop_run(observer->loop);
}

int fm_serve_observer_start(struct fm_serve *serve, struct fm_error *reterr)
{
    struct fm_serve_observer *observer = &serve->observer;
    fm_loop_alarm(observer->loop, TICK_NS, on_tick, serve);
    int status = fm_thread_start(&observer->thread, "fm-observer", observer_run, observer);
    observer->running = status == 0;
    return status == 0 ? 0 : fm_error_set(reterr, status, "cannot start the thread that observes");
}

void fm_serve_observer_stop(struct fm_serve *serve)
{
    struct fm_serve_observer *observer = &serve->observer;
    if (observer->running) {
        fm_loop_post(observer->loop, &observer->stop_task);
        fm_thread_join(&observer->thread);
        observer->running = false;
    }
}

void fm_serve_observer_release(struct fm_serve *serve)
{
    fm_loop_destroy(serve->observer.loop);
}

/* --- paths -------------------------------------------------------------------------------------
 */

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
        document_ask(loop, http, document);
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
