/*
 * What the server says of itself and of models, in either form. See serve_internal.h.
 */
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/model_document.h"
#include "engines/serve/serve_internal.h"

bool fm_serve_is_ready_by(const struct fm_serve *serve, const struct fm_catalog_view *view)
{
    return !fm_serve_is_stopping(serve) &&
           fm_catalog_view_is_ready(view, serve->options->strict_readiness);
}

bool fm_serve_is_ready(const struct fm_serve_loop *loop)
{
    return fm_serve_is_ready_by(loop->serve, loop->reader.view);
}

void fm_serve_write_server(const struct fm_serve_loop *loop, struct fm_text *text,
                           enum fm_messages_form form)
{
    /* Only what works: clients decide by this list what to ask for. */
    static const char *const extensions[] = {
        "classification",  "model_repository",    "model_repository(unload_dependents)",
        "schedule_policy", "model_configuration", "binary_tensor_data",
        "parameters",      "statistics",          "trace",
        "logging",         "system_shared_memory"};
    const struct fm_messages_server server = {
        .name = loop->serve->options->server_name,
        .version = loop->serve->options->server_version,
        .extensions = extensions,
        .extension_count = FM_COUNT_OF(extensions) - (loop->serve->regions.refused ? 1 : 0)};
    fm_messages_write_server(text, form, &server);
}

void fm_serve_write_metadata(const struct fm_serve_loop *loop, struct fm_text *text,
                             enum fm_messages_form form, const struct fm_catalog_entry *entry,
                             bool all_versions)
{
    size_t row_count = 0;
    const struct fm_catalog_row *rows =
        fm_catalog_view_rows(loop->reader.view, entry->name, &row_count);
    uint64_t *versions = fm_alloc_zero(row_count + 1, sizeof *versions);
    if (versions == NULL) {
        text->failed = true;
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].entry != NULL && (all_versions || rows[i].entry == entry)) {
            versions[count++] = rows[i].version;
        }
    }
    const struct fm_messages_model model = {.signature = &entry->signature,
                                            .platform = fm_servable_platform(entry->servable),
                                            .versions = versions,
                                            .version_count = count};
    fm_messages_write_model(text, form, &model);
    fm_free(versions);
}

void fm_serve_write_config(struct fm_text *text, enum fm_messages_form form,
                           const struct fm_catalog_entry *entry)
{
    const struct fm_model *model = fm_servable_model(entry->servable);
    const struct fm_serving *serving = entry->attached;
    const struct fm_model_document config = {
        .signature = &entry->signature,
        .platform = fm_servable_platform(entry->servable),
        .backend = model != NULL ? fm_model_backend_name(model) : "fermata",
        .instance_count = serving->instances,
        .groups = serving->groups,
        .models = serving->options.models,
        .group_count = serving->group_count,
        .batches = entry->signature.batch_max > 0,
        .policy = model != NULL ? fm_sched_policy_name(serving->policy) : NULL,
        .response_cache = fm_servable_response_cache(entry->servable),
        .priority_levels = FM_SCHED_PRIORITY_COUNT,
        .default_priority = 2,
        .queue_max = serving->requests_max,
        .config = fm_servable_config(entry->servable)};
    /* A pipeline does not say its steps: clients that see an ensemble want statistics of its models
     * under their names, but a pipeline has its own copies of them. */
    fm_model_document_write(text, form, &config);
}

/* --- statistics --------------------------------------------------------------------------------
 */

static struct fm_messages_duration duration(const struct fm_time_total *total)
{
    return (struct fm_messages_duration){total->count, total->ns};
}

static size_t batches_fill(const struct fm_model_totals *totals, struct fm_messages_batch *rows)
{
    size_t count = 0;
    for (uint32_t size = 1; size < totals->row_count; size++) {
        const struct fm_batch_row_total *of = &totals->rows[size];
        if (of->batches > 0) {
            rows[count++] =
                (struct fm_messages_batch){.batch_size = size,
                                           .compute_input = {of->batches, of->input_ns},
                                           .compute_infer = {of->batches, of->infer_ns},
                                           .compute_output = {of->batches, of->output_ns}};
        }
    }
    return count;
}

/* What a stage of some pipeline counted of a model that has a row. */
struct stage_count {
    size_t row; /* of the view */
    const struct fm_model_counters *counters;
};

static int compare_stages(const void *left, const void *right)
{
    size_t one = ((const struct stage_count *)left)->row;
    size_t other = ((const struct stage_count *)right)->row;
    return one < other ? -1 : one > other; /* of one row: sums, whose order does not matter */
}

static const struct fm_serving *row_serving(const struct fm_catalog_row *row)
{
    return row->entry != NULL ? row->entry->attached : NULL;
}

/* Where the view has that version; its row_count: nowhere. */
static size_t row_find(const struct fm_catalog_view *view, const char *name, uint64_t version)
{
    size_t count = 0;
    const struct fm_catalog_row *rows = fm_catalog_view_rows(view, name, &count);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].version == version) {
            return (size_t)(rows - view->rows) + i;
        }
    }
    return view->row_count;
}

/* All of a view, by row; once, as there may be many thousand rows. To be freed. */
static int stages_collect(const struct fm_catalog_view *view, struct stage_count **ret_stages,
                          size_t *ret_count)
{
    size_t capacity = 0;
    size_t count = 0;
    for (size_t i = 0; i < view->row_count; i++) {
        const struct fm_serving *serving = row_serving(&view->rows[i]);
        capacity += serving != NULL ? fm_serving_stage_count(serving) : 0;
    }
    struct stage_count *stages = fm_alloc((capacity + 1) * sizeof *stages);
    if (stages == NULL) {
        return FM_ENOMEM;
    }
    for (size_t i = 0; i < view->row_count && count < capacity; i++) {
        const struct fm_serving *serving = row_serving(&view->rows[i]);
        uint32_t stage_count = serving != NULL ? fm_serving_stage_count(serving) : 0;
        for (uint32_t k = 0; k < stage_count; k++) {
            const char *model = NULL;
            uint64_t version = 0;
            const struct fm_model_counters *counters =
                fm_serving_stage_counters(serving, k, &model, &version);
            size_t row = counters != NULL ? row_find(view, model, version) : view->row_count;
            if (row < view->row_count) {
                stages[count++] = (struct stage_count){row, counters};
            }
        }
    }
    qsort(stages, count, sizeof *stages, compare_stages);
    *ret_stages = stages;
    *ret_count = count;
    return 0;
}

/* The first of the stages that count for the row, or for one behind it. */
static size_t stage_first(const struct stage_count *stages, size_t count, size_t row)
{
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (stages[middle].row < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* One entry's row, with memory of its own for the batches. What pipelines ran of the model counts,
 * too. */
static int statistics_fill(const struct fm_catalog_view *view, size_t row,
                           const struct stage_count *stages, size_t stage_count,
                           struct fm_messages_statistics *ret_row)
{
    const struct fm_catalog_entry *entry = view->rows[row].entry;
    struct fm_model_totals totals = {0};
    int status = fm_serving_totals_add(entry->attached, &totals);
    for (size_t i = stage_first(stages, stage_count, row);
         i < stage_count && stages[i].row == row && status == 0; i++) {
        status = fm_model_totals_add(&totals, stages[i].counters);
    }
    struct fm_messages_batch *rows =
        status == 0 ? fm_alloc_zero((size_t)totals.row_count + 1, sizeof *rows) : NULL;
    if (rows != NULL) {
        *ret_row = (struct fm_messages_statistics){
            .name = entry->name,
            .version = entry->version,
            .last_inference_ms = totals.last_inference_ms,
            .inference_count = totals.inferences,
            .execution_count = totals.executions,
            .success = duration(&totals.times[FM_COUNTED_SUCCESS]),
            .fail = duration(&totals.times[FM_COUNTED_FAIL]),
            .queue = duration(&totals.times[FM_COUNTED_QUEUE]),
            .compute_input = duration(&totals.times[FM_COUNTED_COMPUTE_INPUT]),
            .compute_infer = duration(&totals.times[FM_COUNTED_COMPUTE_INFER]),
            .compute_output = duration(&totals.times[FM_COUNTED_COMPUTE_OUTPUT]),
            .cache_hit = duration(&totals.times[FM_COUNTED_CACHE_HIT]),
            .cache_miss = duration(&totals.times[FM_COUNTED_CACHE_MISS]),
            .batches = rows,
            .batch_count = batches_fill(&totals, rows)};
    }
    fm_model_totals_deinit(&totals);
    return rows != NULL ? 0 : FM_ENOMEM;
}

int fm_serve_write_statistics(const struct fm_serve_loop *loop, struct fm_text *text,
                              enum fm_messages_form form, const char *name, uint64_t version,
                              struct fm_error *reterr)
{
    const struct fm_catalog_view *view = loop->reader.view;
    const struct fm_catalog_row *rows = view->rows;
    size_t row_count = view->row_count;
    if (name[0] != '\0') {
        struct fm_catalog_entry *entry = NULL;
        int status = fm_catalog_view_find(view, name, version, &entry, reterr);
        if (status != 0) {
            return status;
        }
        rows = fm_catalog_view_rows(view, name, &row_count);
    }
    struct fm_messages_statistics *statistics = fm_alloc_zero(row_count + 1, sizeof *statistics);
    struct stage_count *stages = NULL;
    size_t stage_count = 0;
    size_t count = 0;
    int status = statistics != NULL ? stages_collect(view, &stages, &stage_count) : FM_ENOMEM;
    for (size_t i = 0; i < row_count && status == 0; i++) {
        if (rows[i].entry != NULL && (version == 0 || rows[i].version == version)) {
            status = statistics_fill(view, (size_t)(rows - view->rows) + i, stages, stage_count,
                                     &statistics[count]);
            count += status == 0 ? 1 : 0;
        }
    }
    if (status == 0) {
        fm_messages_write_statistics(text, form, statistics, count);
    }
    for (size_t i = 0; i < count; i++) {
        fm_free((void *)(uintptr_t)statistics[i].batches);
    }
    fm_free(statistics);
    fm_free(stages);
    return status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for the statistics");
}

/* --- the repository, shared memory, settings ---------------------------------------------------
 */

void fm_serve_write_index(const struct fm_serve_loop *loop, struct fm_text *text,
                          enum fm_messages_form form, bool ready_only)
{
    const struct fm_catalog_view *view = loop->reader.view;
    struct fm_messages_index_row *rows = fm_alloc_zero(view->row_count + 1, sizeof *rows);
    if (rows == NULL) {
        text->failed = true;
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < view->row_count; i++) {
        const struct fm_catalog_row *row = &view->rows[i];
        if (!ready_only || row->state == FM_CATALOG_READY) {
            rows[count++] = (struct fm_messages_index_row){
                row->name, row->version, fm_catalog_state_name(row->state), row->reason};
        }
    }
    fm_messages_write_index(text, form, rows, count);
    fm_free(rows);
}

int fm_serve_write_regions(const struct fm_serve_loop *loop, struct fm_text *text,
                           enum fm_messages_form form, const char *name, struct fm_error *reterr)
{
    struct fm_arena arena;
    struct fm_messages_region *rows = NULL;
    size_t count = 0;
    fm_arena_init(&arena, 0);
    int status = fm_shared_regions_list(&loop->serve->regions, name, &arena, &rows, &count, reterr);
    if (status == 0) {
        fm_messages_write_regions(text, form, rows, count);
    }
    fm_arena_deinit(&arena);
    return status;
}

int fm_serve_write_trace(struct fm_text *text, enum fm_messages_form form,
                         const struct fm_messages_settings *change, struct fm_error *reterr)
{
    static const char *const off[] = {"OFF"};
    static const char *const none[] = {""};
    static const char *const zero[] = {"0"};
    static const char *const unlimited[] = {"-1"};
    const struct fm_messages_setting settings[] = {
        {.key = "trace_file", .strings = none, .string_count = 1},
        {.key = "trace_level", .strings = off, .string_count = 1},
        {.key = "trace_rate", .strings = zero, .string_count = 1},
        {.key = "trace_count", .strings = unlimited, .string_count = 1},
        {.key = "log_frequency", .strings = zero, .string_count = 1}};
    for (size_t i = 0; change != NULL && i < change->count; i++) {
        const struct fm_messages_setting *setting = &change->settings[i];
        bool same = setting->string_count == 0;
        for (size_t k = 0; k < sizeof(settings) / sizeof(settings[0]) && !same; k++) {
            same = strcmp(setting->key, settings[k].key) == 0 && setting->string_count == 1 &&
                   strcmp(setting->strings[0], settings[k].strings[0]) == 0;
        }
        if (!same) {
            return fm_error_set(
                reterr, FM_EUNSUPPORTED,
                "trace setting '%.100s' cannot be changed here: the last seconds are "
                "always recorded, GET /debug/trace returns them",
                setting->key);
        }
    }
    fm_messages_write_trace(text, form, settings, sizeof(settings) / sizeof(settings[0]));
    return 0;
}

int fm_serve_write_log(struct fm_text *text, enum fm_messages_form form,
                       const struct fm_messages_settings *change, struct fm_error *reterr)
{
    static const char *const none[] = {""};
    static const char *const format[] = {"default"};
    const struct fm_messages_setting settings[] = {
        {.key = "log_file", .strings = none, .string_count = 1},
        {.key = "log_info", .kind = FM_MESSAGES_BOOL, .is_true = true},
        {.key = "log_warning", .kind = FM_MESSAGES_BOOL, .is_true = true},
        {.key = "log_error", .kind = FM_MESSAGES_BOOL, .is_true = true},
        {.key = "log_verbose_level", .kind = FM_MESSAGES_UINT},
        {.key = "log_format", .strings = format, .string_count = 1}};
    if (change != NULL && change->count > 0) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "log settings are given when the server starts (--log-level, "
                            "--log-format); '%.100s' cannot be changed while it runs",
                            change->settings[0].key);
    }
    fm_messages_write_log(text, form, settings, sizeof(settings) / sizeof(settings[0]));
    return 0;
}
