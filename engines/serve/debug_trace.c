/*
 * The trace of the last seconds. See debug_trace.h.
 *
 * In the trace event format a process is a group of tracks and a thread is a track: process 1 are
 * the accelerators, process 2 the event loops. Requests are nested async spans, because those of
 * one loop overlap.
 */
#include "engines/serve/debug_trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define PROCESS_ACCELERATORS 1u
#define PROCESS_LOOPS        2u
#define TRACKS_NAMED_MAX     4096u
#define RING_SPANS_MAX       (1u << 16) /* of one ring; 3 MB */

int fm_debug_trace_query_parse(const char *query, uint32_t *ret_seconds, struct fm_error *reterr)
{
    *ret_seconds = FM_DEBUG_TRACE_SECONDS;
    if (query[0] == '\0') {
        return 0;
    }
    uint64_t seconds = 0;
    if (strncmp(query, "seconds=", 8) != 0 || fm_parse_uint64(query + 8, &seconds) != 0 ||
        seconds < 1 || seconds > FM_DEBUG_TRACE_SECONDS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "/debug/trace takes seconds=N with N from 1 to %u, and nothing else",
                            FM_DEBUG_TRACE_SECONDS_MAX);
    }
    *ret_seconds = (uint32_t)seconds;
    return 0;
}

int fm_debug_trace_init(struct fm_debug_trace *trace, const struct fm_view *view, uint32_t seconds)
{
    uint64_t span_ns = (uint64_t)seconds * 1000000000u;
    *trace = (struct fm_debug_trace){
        .view = view, .since_ns = view->now_ns > span_ns ? view->now_ns - span_ns : 0};
    trace->spans = fm_alloc_zero(RING_SPANS_MAX, sizeof(*trace->spans));
    return trace->spans != NULL ? 0 : FM_ENOMEM;
}

void fm_debug_trace_deinit(struct fm_debug_trace *trace)
{
    fm_free(trace->spans);
    *trace = (struct fm_debug_trace){0};
}

/* --- Events --- */

static uint32_t process_of(const struct fm_span *span)
{
    return span->track == FM_TRACK_ACCELERATOR ? PROCESS_ACCELERATORS : PROCESS_LOOPS;
}

/* What all events have: opens the object. The trace's times begin with it, in microseconds. */
static void event_begin(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                        const char *phase, const char *name, const struct fm_span *span,
                        uint64_t at_ns)
{
    uint64_t since_ns = at_ns > trace->since_ns ? at_ns - trace->since_ns : 0;
    fm_json_object_begin(json);
    fm_json_member_string(json, "ph", phase);
    fm_json_member_string(json, "name", name);
    fm_json_member_uint(json, "pid", process_of(span));
    fm_json_member_uint(json, "tid", span->index + 1);
    fm_json_member_number(json, "ts", (double)since_ns / 1e3);
}

static const char *model_name(const struct fm_debug_trace *trace, const struct fm_span *span)
{
    const struct fm_view *view = trace->view;
    const char *name = span->model < view->span_model_count ? view->span_models[span->model] : NULL;
    return name != NULL ? name : "";
}

static uint64_t length_ns(const struct fm_debug_trace *trace, const struct fm_span *span)
{
    uint64_t start_ns = span->start_ns > trace->since_ns ? span->start_ns : trace->since_ns;
    return span->end_ns > start_ns ? span->end_ns - start_ns : 0;
}

/* An arrow's one end: from the request to the batch that ran it. */
static void flow_write(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                       const char *phase, const struct fm_span *span, uint64_t at_ns)
{
    event_begin(json, trace, phase, "batch", span, at_ns);
    fm_json_member_string(json, "cat", "batch");
    fm_json_member_uint(json, "id", span->batch);
    if (phase[0] == 'f') {
        fm_json_member_string(json, "bp", "e");
    }
    fm_json_object_end(json);
}

static void batch_write(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                        const struct fm_span *span)
{
    event_begin(json, trace, "X", model_name(trace, span), span, span->start_ns);
    fm_json_member_string(json, "cat", "batch");
    fm_json_member_number(json, "dur", (double)length_ns(trace, span) / 1e3);
    fm_json_key(json, "args");
    fm_json_object_begin(json);
    fm_json_member_uint(json, "rows", span->count);
    fm_json_member_uint(json, "batch", span->batch);
    fm_json_object_end(json);
    fm_json_object_end(json);
    if (span->batch != 0) {
        flow_write(json, trace, "f", span, span->start_ns);
    }
}

/* Overlaps others of its track, so it is an async span: a begin and an end with one id. */
static void async_write(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                        const struct fm_span *span, const char *category, uint64_t id)
{
    const char *name = fm_span_kind_name((enum fm_span_kind)span->kind);
    for (int end = 0; end < 2; end++) {
        event_begin(json, trace, end ? "e" : "b", name, span, end ? span->end_ns : span->start_ns);
        fm_json_member_string(json, "cat", category);
        fm_json_key(json, "id");
        char text[24];
        fm_json_raw(json, text, (size_t)snprintf(text, sizeof(text), "\"0x%" PRIx64 "\"", id));
        if (!end) {
            fm_json_key(json, "args");
            fm_json_object_begin(json);
            fm_json_member_string(json, "model", model_name(trace, span));
            fm_json_member_uint(json, "count", span->count);
            fm_json_object_end(json);
        }
        fm_json_object_end(json);
    }
}

static void counter_write(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                          const struct fm_span *span)
{
    event_begin(json, trace, "C", "queued", span, span->start_ns);
    fm_json_key(json, "args");
    fm_json_object_begin(json);
    fm_json_member_uint(json, span->model == FM_TIMELINE_NONE ? "all" : model_name(trace, span),
                        span->count);
    fm_json_object_end(json);
    fm_json_object_end(json);
}

static void span_write(struct fm_json_writer *json, const struct fm_debug_trace *trace,
                       const struct fm_span *span)
{
    switch ((enum fm_span_kind)span->kind) {
    case FM_SPAN_BATCH:
        batch_write(json, trace, span);
        break;
    case FM_SPAN_REST:
    case FM_SPAN_WINDOW:
        async_write(json, trace, span, "accelerator",
                    span->batch != 0 ? span->batch : span->start_ns);
        break;
    case FM_SPAN_QUEUE:
        async_write(json, trace, span, "request", span->request);
        if (span->batch != 0) {
            flow_write(json, trace, "s", span, span->end_ns);
        }
        break;
    case FM_SPAN_DECODE:
    case FM_SPAN_HELD:
    case FM_SPAN_COMPUTE:
    case FM_SPAN_CACHE:
    case FM_SPAN_ENCODE:
        async_write(json, trace, span, "request", span->request);
        break;
    case FM_SPAN_QUEUED:
        counter_write(json, trace, span);
        break;
    case FM_SPAN_KIND_COUNT_:
        break;
    }
}

/* --- The document --- */

static void name_write(struct fm_json_writer *json, const char *what, uint32_t process,
                       uint32_t track, const char *name, uint32_t number)
{
    fm_json_object_begin(json);
    fm_json_member_string(json, "ph", "M");
    fm_json_member_string(json, "name", what);
    fm_json_member_uint(json, "pid", process);
    fm_json_member_uint(json, "tid", track);
    fm_json_key(json, "args");
    fm_json_object_begin(json);
    struct fm_text label = {0};
    fm_text_append_string(&label, name);
    if (track > 0) {
        fm_text_append_format(&label, " %" PRIu32, number);
    }
    fm_json_member_string(json, "name", label.failed ? "" : label.data);
    json->text->failed = json->text->failed || label.failed;
    fm_text_deinit(&label);
    fm_json_object_end(json);
    fm_json_object_end(json);
}

static void names_write(struct fm_json_writer *json, const struct fm_view *view)
{
    name_write(json, "process_name", PROCESS_ACCELERATORS, 0, "accelerators", 0);
    name_write(json, "process_name", PROCESS_LOOPS, 0, "event loops", 0);
    for (uint32_t i = 0; i < view->accelerator_count && i < TRACKS_NAMED_MAX; i++) {
        name_write(json, "thread_name", PROCESS_ACCELERATORS, i + 1, view->accelerators[i].name, i);
    }
    for (uint32_t i = 0; i < view->loop_count && i < TRACKS_NAMED_MAX; i++) {
        name_write(json, "thread_name", PROCESS_LOOPS, i + 1, "loop", i);
    }
}

static void begin_write(const struct fm_debug_trace *trace, struct fm_text *text)
{
    struct fm_json_writer json;
    fm_text_append_string(text, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    fm_json_writer_init(&json, text);
    names_write(&json, trace->view);
}

static void end_write(struct fm_debug_trace *trace, struct fm_text *text)
{
    fm_text_append_format(text, "],\"otherData\":{\"server\":\"fermata\",\"cut\":\"%s\"}}\n",
                          trace->cut ? "yes: the size limit was reached" : "no");
    trace->ended = true;
}

/* The next ring that has something. False: none is left. */
static bool ring_take(struct fm_debug_trace *trace)
{
    const struct fm_timeline *timeline = trace->view->timeline;
    while (trace->span_next == trace->span_count) {
        if (timeline == NULL || trace->ring_next == timeline->ring_count) {
            return false;
        }
        trace->span_count = fm_timeline_read(timeline, trace->ring_next, trace->since_ns,
                                             trace->spans, RING_SPANS_MAX);
        trace->span_next = 0;
        trace->ring_next++;
    }
    return true;
}

bool fm_debug_trace_next(struct fm_debug_trace *trace, struct fm_text *text)
{
    size_t before = text->length;
    if (!trace->started) {
        trace->started = true;
        begin_write(trace, text);
    } else if (!trace->ended && !trace->cut && ring_take(trace)) {
        struct fm_json_writer json;
        fm_json_writer_init(&json, text);
        json.comma = true;
        for (uint32_t i = 0; i < FM_DEBUG_TRACE_CHUNK_SPANS && trace->span_next < trace->span_count;
             i++) {
            span_write(&json, trace, &trace->spans[trace->span_next++]);
        }
        trace->cut = trace->bytes + (text->length - before) > FM_DEBUG_TRACE_BYTES_MAX;
    } else if (!trace->ended) {
        end_write(trace, text);
    }
    trace->bytes += text->length - before;
    return !trace->ended;
}
