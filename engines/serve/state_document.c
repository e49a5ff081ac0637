/*
 * The dashboard's state. See state_document.h.
 */
#include "engines/serve/state_document.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define QUERY_VALUE_MAX 20

/* --- The query --- */

int fm_state_query_parse(const char *query, struct fm_state_query *ret_query,
                         struct fm_error *reterr)
{
    *ret_query = (struct fm_state_query){0};
    for (const char *at = query; *at != '\0';) {
        size_t length = strcspn(at, "&");
        size_t key_length = strcspn(at, "=&");
        uint64_t *value = key_length == 5 && strncmp(at, "since", 5) == 0 ? &ret_query->since_us
                          : key_length == 7 && strncmp(at, "history", 7) == 0
                              ? &ret_query->history_since
                              : NULL;
        if (value == NULL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "/debug/state has no parameter '%.*s'; it has since and history",
                                (int)(key_length < 40 ? key_length : 40), at);
        }
        char text[QUERY_VALUE_MAX + 1] = {0};
        size_t value_length = length > key_length ? length - key_length - 1 : 0;
        if (value_length <= QUERY_VALUE_MAX) {
            memcpy(text, at + length - value_length, value_length);
        }
        if (fm_parse_uint64(text, value) != 0) {
            return fm_error_set(reterr, FM_EINVAL,
                                "/debug/state: '%.*s' must be a whole number, as the last answer "
                                "gave it",
                                (int)key_length, at);
        }
        at += length + (at[length] == '&' ? 1 : 0);
    }
    return 0;
}

/* --- Parts --- */

static void member_bool(struct fm_json_writer *json, const char *key, bool value)
{
    fm_json_key(json, key);
    fm_json_bool(json, value);
}

static void member_ms(struct fm_json_writer *json, const char *key, uint64_t ns)
{
    fm_json_member_number(json, key, (double)(ns / 1000) / 1e3);
}

static void server_write(struct fm_json_writer *json, const struct fm_view *view)
{
    fm_json_key(json, "server");
    fm_json_object_begin(json);
    fm_json_member_string(json, "version", view->version);
    fm_json_member_string(json, "commit", view->commit);
    fm_json_member_string(json, "build", view->build);
    fm_json_member_string(json, "host", view->host);
    fm_json_member_string(json, "policy", view->policy);
    member_bool(json, "ready", view->ready);
    member_bool(json, "draining", view->draining);
    fm_json_member_uint(json, "wall_ms", view->wall_ns / 1000000);
    fm_json_member_uint(json, "start_ms", view->start_wall_ns / 1000000);
    fm_json_member_uint(json, "now_us", view->now_ns / 1000);
    fm_json_member_uint(json, "cpus", view->cpu_count);
    const struct fm_view_process *process = &view->process;
    member_ms(json, "cpu_ms", process->cpu_ns);
    fm_json_member_uint(json, "resident", process->resident_bytes);
    fm_json_member_uint(json, "peak", process->peak_bytes);
    fm_json_member_uint(json, "threads", process->threads);
    fm_json_member_uint(json, "descriptors", process->open_descriptors);
    fm_json_member_uint(json, "descriptors_max", process->descriptors_max);
    fm_json_object_end(json);
}

static void ports_write(struct fm_json_writer *json, const char *key, const struct fm_port *ports,
                        uint32_t count)
{
    fm_json_key(json, key);
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < count; i++) {
        fm_json_object_begin(json);
        fm_json_member_string(json, "name", ports[i].name);
        fm_json_member_string(json, "datatype", fm_dtype_name(ports[i].dtype));
        fm_json_member_ints(json, "shape", ports[i].shape,
                            ports[i].rank > 0 ? (uint32_t)ports[i].rank : 0);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

static void recent_write(struct fm_json_writer *json, const struct fm_recent *recent)
{
    struct fm_recent_rates rates = {0};
    if (recent != NULL) {
        fm_recent_rates(recent, &rates);
    }
    fm_json_key(json, "recent");
    if (rates.span_ns == 0) {
        fm_json_null(json);
        return;
    }
    fm_json_object_begin(json);
    member_ms(json, "span_ms", rates.span_ns);
    fm_json_member_number(json, "requests", rates.requests);
    fm_json_member_number(json, "good", rates.good);
    fm_json_member_number(json, "failures", rates.failures);
    fm_json_member_number(json, "dropped", rates.dropped);
    fm_json_member_number(json, "batch", rates.batch_mean);
    fm_json_member_number(json, "met", rates.met_share);
    member_ms(json, "p50_ms", rates.p50_ns);
    member_ms(json, "p99_ms", rates.p99_ns);
    member_ms(json, "queue_p99_ms", rates.queue_p99_ns);
    fm_json_object_end(json);
}

static void size_write(struct fm_json_writer *json, uint32_t size, uint64_t batches)
{
    if (batches > 0) {
        fm_json_array_begin(json);
        fm_json_uint(json, size);
        fm_json_uint(json, batches);
        fm_json_array_end(json);
    }
}

/* [[size, batches], ...], each size by itself, or gathered to the next power of two. */
static void sizes_write(struct fm_json_writer *json, const struct fm_model_totals *totals)
{
    fm_json_key(json, "sizes");
    fm_json_array_begin(json);
    bool gather = totals->row_count > FM_STATE_SIZES_MAX;
    uint64_t gathered = 0;
    for (uint32_t size = 0; size < totals->row_count; size++) {
        uint64_t batches = totals->rows[size].batches;
        if (!gather) {
            size_write(json, size, batches);
            continue;
        }
        gathered += batches;
        if ((size & (size - 1)) == 0 || size + 1 == totals->row_count) {
            size_write(json, size, gathered);
            gathered = 0;
        }
    }
    fm_json_array_end(json);
}

static void counts_write(struct fm_json_writer *json, const struct fm_model_totals *totals)
{
    static const struct fm_model_totals nothing = {0};
    totals = totals != NULL ? totals : &nothing;
    fm_json_key(json, "counts");
    fm_json_object_begin(json);
    fm_json_member_uint(json, "success", totals->times[FM_COUNTED_SUCCESS].count);
    fm_json_member_uint(json, "failure", totals->times[FM_COUNTED_FAIL].count);
    fm_json_member_uint(json, "good", fm_model_totals_good(totals));
    fm_json_member_uint(json, "late", totals->answers_late);
    fm_json_member_uint(json, "met", totals->deadlines_met);
    fm_json_member_uint(json, "missed", totals->deadlines_missed);
    fm_json_member_uint(json, "inferences", totals->inferences);
    fm_json_member_uint(json, "batches", totals->executions);
    fm_json_member_uint(json, "last_ms", totals->last_inference_ms);
    fm_json_member_uint(json, "cache_hits", totals->times[FM_COUNTED_CACHE_HIT].count);
    fm_json_member_uint(json, "cache_misses", totals->times[FM_COUNTED_CACHE_MISS].count);
    fm_json_key(json, "drops");
    fm_json_object_begin(json);
    for (uint32_t i = 0; i < FM_COUNTED_DROP_COUNT_; i++) {
        if (totals->drops[i] > 0) {
            fm_json_member_uint(json, fm_counted_drop_name((enum fm_counted_drop)i),
                                totals->drops[i]);
        }
    }
    fm_json_object_end(json);
    sizes_write(json, totals);
    fm_json_object_end(json);
}

static void model_write(struct fm_json_writer *json, const struct fm_view_model *model)
{
    fm_json_object_begin(json);
    fm_json_member_string(json, "name", model->name);
    /* A string, as the protocol has it: not every reader keeps 64 bits of a number. */
    char version[24];
    (void)snprintf(version, sizeof(version), "%" PRIu64, model->version);
    fm_json_member_string(json, "version", version);
    fm_json_member_string(json, "kind", model->kind);
    fm_json_member_string(json, "state", fm_catalog_state_name(model->state));
    fm_json_member_string(json, "reason", model->reason);
    fm_json_member_string(json, "backend", model->backend);
    fm_json_member_string(json, "policy", model->policy);
    fm_json_member_string(json, "goal", model->goal);
    ports_write(json, "inputs", model->inputs, model->input_count);
    ports_write(json, "outputs", model->outputs, model->output_count);
    member_ms(json, "slo_ms", model->slo_ns);
    member_ms(json, "load_ms", model->load_ns);
    fm_json_member_uint(json, "memory", model->memory_bytes);
    fm_json_member_uint(json, "batch_max", model->batch_max);
    fm_json_member_uint(json, "instances", model->instances);
    fm_json_member_uint(json, "queued", model->queued);
    fm_json_member_uint(json, "in_flight", model->in_flight);
    fm_json_member_uint(json, "target", model->target_batch);
    fm_json_member_number(json, "arrivals", (double)model->rate_millihertz / 1e3);
    recent_write(json, model->recent);
    counts_write(json, model->totals);
    fm_json_object_end(json);
}

static void accelerators_write(struct fm_json_writer *json, const struct fm_view *view)
{
    static const char *const states[] = {"down", "idle", "busy"};
    fm_json_key(json, "accelerators");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < view->accelerator_count && i < FM_STATE_ACCELERATORS_MAX; i++) {
        const struct fm_view_accelerator *accelerator = &view->accelerators[i];
        fm_json_object_begin(json);
        fm_json_member_string(json, "name", accelerator->name);
        fm_json_member_string(json, "type", accelerator->type);
        fm_json_member_string(json, "state", states[accelerator->state]);
        fm_json_member_string(json, "model", accelerator->model);
        fm_json_member_uint(json, "batches", accelerator->batches);
        fm_json_member_uint(json, "failures", accelerator->failures);
        member_ms(json, "busy_ms", accelerator->busy_ns);
        fm_json_key(json, "rest_ms");
        if (accelerator->rest_until_ns == FM_SCHED_NEVER) {
            fm_json_null(json); /* without an end in sight */
        } else {
            fm_json_number(json,
                           accelerator->rest_until_ns > view->now_ns
                               ? (double)((accelerator->rest_until_ns - view->now_ns) / 1000) / 1e3
                               : 0);
        }
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

/* --- The timeline --- */

static bool span_shown(const struct fm_span *span, const struct fm_state_query *query)
{
    return (span->kind == FM_SPAN_BATCH || span->kind == FM_SPAN_REST ||
            span->kind == FM_SPAN_WINDOW) &&
           span->track == FM_TRACK_ACCELERATOR && span->index < FM_STATE_ACCELERATORS_MAX &&
           span->end_ns / 1000 > query->since_us;
}

/* [kind, accelerator, start_us, length_us, model, rows]: some thousand of them, so no keys. */
static void span_write(struct fm_json_writer *json, const struct fm_span *span)
{
    uint64_t length_ns = span->end_ns > span->start_ns ? span->end_ns - span->start_ns : 0;
    fm_json_array_begin(json);
    fm_json_uint(json, span->kind);
    fm_json_uint(json, span->index);
    fm_json_uint(json, span->start_ns / 1000);
    fm_json_uint(json, length_ns / 1000);
    if (span->model == FM_TIMELINE_NONE) {
        fm_json_int(json, -1);
    } else {
        fm_json_uint(json, span->model);
    }
    fm_json_uint(json, span->count);
    fm_json_array_end(json);
}

static void spans_write(struct fm_json_writer *json, const struct fm_view *view,
                        const struct fm_state_query *query)
{
    const struct fm_timeline *timeline = view->timeline;
    uint64_t oldest_ns =
        view->now_ns > FM_STATE_SPAN_AGE_NS ? view->now_ns - FM_STATE_SPAN_AGE_NS : 0;
    uint32_t left = FM_STATE_SPANS_MAX;
    struct fm_span *spans = fm_alloc_zero(FM_STATE_SPANS_MAX, sizeof(*spans));
    if (spans == NULL) {
        json->text->failed = true;
        return;
    }
    for (uint32_t ring = 0; ring < timeline->ring_count && left > 0; ring++) {
        /* Every ring gets its share of the room, and what those before it left over. */
        uint32_t share = left / (timeline->ring_count - ring);
        uint32_t count = fm_timeline_read(timeline, ring, oldest_ns, spans, share);
        for (uint32_t i = 0; i < count; i++) {
            if (span_shown(&spans[i], query)) {
                span_write(json, &spans[i]);
                left--;
            }
        }
    }
    fm_free(spans);
}

static void timeline_write(struct fm_json_writer *json, const struct fm_view *view,
                           const struct fm_state_query *query)
{
    fm_json_key(json, "timeline");
    fm_json_object_begin(json);
    fm_json_key(json, "models");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < view->span_model_count && i < FM_STATE_MODELS_MAX; i++) {
        fm_json_string(json, view->span_models[i] != NULL ? view->span_models[i] : "");
    }
    fm_json_array_end(json);
    fm_json_key(json, "spans");
    fm_json_array_begin(json);
    if (view->timeline != NULL) {
        spans_write(json, view, query);
    }
    fm_json_array_end(json);
    fm_json_object_end(json);
}

/* --- The rest --- */

/* [wall_ms, span_ms, good, late, failed, dropped, inferences, batches, queued, up, used, wanted] */
static void history_write(struct fm_json_writer *json, const struct fm_history *history,
                          uint64_t since_ms)
{
    fm_json_key(json, "history");
    fm_json_array_begin(json);
    for (uint32_t i = 0; history != NULL && i < history->count; i++) {
        const struct fm_history_sample *sample = fm_history_get(history, i);
        if (sample->wall_ms <= since_ms) {
            continue;
        }
        const uint32_t numbers[] = {
            sample->span_ms,          sample->good,    sample->late,
            sample->failed,           sample->dropped, sample->inferences,
            sample->executions,       sample->queued,  sample->accelerators_up,
            sample->accelerators_use, sample->wanted};
        fm_json_array_begin(json);
        fm_json_uint(json, sample->wall_ms);
        for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
            fm_json_uint(json, numbers[n]);
        }
        fm_json_array_end(json);
    }
    fm_json_array_end(json);
}

static void loops_write(struct fm_json_writer *json, const struct fm_view *view)
{
    fm_json_key(json, "loops");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < view->loop_count; i++) {
        const struct fm_view_loop *loop = &view->loops[i];
        fm_json_object_begin(json);
        fm_json_member_uint(json, "requests", loop->requests);
        fm_json_member_uint(json, "rejected", loop->rejected);
        fm_json_member_uint(json, "cancelled", loop->cancelled);
        fm_json_member_uint(json, "connections", loop->connections);
        fm_json_member_uint(json, "in_flight", loop->in_flight);
        fm_json_member_uint(json, "received", loop->bytes_received);
        fm_json_member_uint(json, "sent", loop->bytes_sent);
        member_ms(json, "cpu_ms", loop->cpu_ns);
        member_ms(json, "lag_ms", loop->lag_max_ns);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

static void scheduler_write(struct fm_json_writer *json, const struct fm_view *view)
{
    fm_json_key(json, "scheduler");
    fm_json_object_begin(json);
    fm_json_member_uint(json, "queued", view->sched.queued);
    fm_json_member_uint(json, "up", view->sched.accelerators_up);
    fm_json_member_uint(json, "busy", view->sched.accelerators_busy);
    fm_json_member_uint(json, "used", view->sched.accelerators_active);
    fm_json_member_number(json, "needed", (double)view->sched.busy_milli / 1e3);
    fm_json_key(json, "advice");
    if (view->advice == NULL) {
        fm_json_null(json);
    } else {
        fm_json_object_begin(json);
        fm_json_member_uint(json, "wanted", view->advice->wanted);
        fm_json_member_uint(json, "missing", view->advice->missing);
        fm_json_member_uint(json, "could_go", view->advice->could_go);
        uint64_t changed_ns = view->advice->changed_ns;
        member_ms(json, "age_ms", view->now_ns > changed_ns ? view->now_ns - changed_ns : 0);
        fm_json_object_end(json);
    }
    fm_json_object_end(json);
}

/* The latest lines of a text of JSON objects. */
static void log_write(struct fm_json_writer *json, const char *log)
{
    fm_json_key(json, "log");
    fm_json_array_begin(json);
    uint32_t lines = 0;
    for (const char *at = strchr(log, '\n'); at != NULL; at = strchr(at + 1, '\n')) {
        lines++;
    }
    uint32_t skip = lines > FM_STATE_LOG_LINES_MAX ? lines - FM_STATE_LOG_LINES_MAX : 0;
    for (const char *at = log; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        if (skip > 0) {
            skip--;
        } else if (length > 0) {
            fm_json_raw(json, at, length);
        }
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    fm_json_array_end(json);
}

void fm_state_document_write(const struct fm_view *view, const struct fm_state_query *query,
                             struct fm_text *text)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_uint(&json, "format", FM_STATE_FORMAT);
    server_write(&json, view);
    fm_json_key(&json, "models");
    fm_json_array_begin(&json);
    for (uint32_t i = 0; i < view->model_count && i < FM_STATE_MODELS_MAX; i++) {
        model_write(&json, &view->models[i]);
    }
    fm_json_array_end(&json);
    fm_json_member_uint(
        &json, "models_omitted",
        view->model_count > FM_STATE_MODELS_MAX ? view->model_count - FM_STATE_MODELS_MAX : 0);
    fm_json_member_uint(&json, "accelerator_count", view->accelerator_count);
    accelerators_write(&json, view);
    scheduler_write(&json, view);
    timeline_write(&json, view, query);
    history_write(&json, view->history, query->history_since);
    loops_write(&json, view);
    log_write(&json, view->log);
    fm_json_object_end(&json);
}
