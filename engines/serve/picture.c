/*
 * Gathering the picture. See picture.h.
 */
#include "engines/serve/picture.h"

#include <stdio.h>
#include <string.h>

#include "core/util/memory.h"
#include "core/util/tally.h"
#include "host/net/otlp_exporter.h"
#include "host/os/memory_facts.h"
#include "host/os/os.h"
#include "host/os/process_facts.h"

/* With the scheduler standing still. */
static void scheduler_look(void *context, const struct fm_sched *sched,
                           const struct fm_scheduler_stats *stats)
{
    struct fm_picture *picture = context;
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
static uint32_t stage_place(struct fm_picture *picture, const struct fm_model *model)
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

static void stage_fill(struct fm_picture *picture, const struct fm_catalog_entry *entry,
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
static void stages_fill(struct fm_picture *picture, const struct fm_catalog_entry *entry)
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

static void models_fill(struct fm_picture *picture)
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
static int models_reserve(struct fm_picture *picture)
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

static void accelerators_fill(struct fm_serve *serve, struct fm_picture *picture)
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
                                         .brief = stats.brief,
                                         .failures = stats.hangs,
                                         .busy_ns = stats.busy_ns};
    }
}

static void loops_fill(struct fm_serve *serve, struct fm_picture *picture)
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
                                            .peak_bytes = fm_memory_peak(),
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

void fm_picture_deinit(struct fm_picture *picture)
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

int fm_picture_take(struct fm_serve *serve, struct fm_picture *picture)
{
    const struct fm_serve_options *options = serve->options;
    struct fm_serve_observer *observer = &serve->observer;
    uint32_t accelerators = fm_pool_accelerator_count(serve->pool);
    uint32_t span_models;
    *picture = (struct fm_picture){.catalog = observer->reader.view};
    picture->span_models = fm_serve_span_names(serve, &span_models);
    int status = models_reserve(picture);
    picture->accelerators = fm_alloc_zero(accelerators, sizeof *picture->accelerators);
    picture->accelerator_names = fm_alloc_zero(accelerators, sizeof *picture->accelerator_names);
    picture->loops = fm_alloc_zero(serve->loop_count, sizeof *picture->loops);
    if (status != 0 || picture->accelerators == NULL || picture->accelerator_names == NULL ||
        picture->loops == NULL || picture->span_models == NULL) {
        fm_picture_deinit(picture);
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
