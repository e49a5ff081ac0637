/*
 * Spans and the trace format. See recording.h.
 */
#include "engines/sim/recording.h"

#include <stdio.h>

#include "core/proto/json.h"
#include "core/util/memory.h"

#define CAPACITY_FIRST 1024u

void fm_sim_recording_add(void *context, const struct fm_sim_span *span)
{
    struct fm_sim_recording *recording = context;
    if (recording->span_count == recording->span_capacity &&
        recording->span_count < recording->span_max) {
        uint32_t capacity =
            recording->span_capacity == 0 ? CAPACITY_FIRST : recording->span_capacity * 2;
        capacity = capacity < recording->span_max ? capacity : recording->span_max;
        struct fm_sim_span *grown =
            fm_realloc(recording->spans, (size_t)capacity * sizeof *recording->spans);
        if (grown != NULL) {
            recording->spans = grown;
            recording->span_capacity = capacity;
        }
    }
    if (recording->span_count < recording->span_capacity) {
        recording->spans[recording->span_count++] = *span;
    } else {
        recording->omitted++;
    }
}

void fm_sim_recording_deinit(struct fm_sim_recording *recording)
{
    fm_free(recording->spans);
    *recording = (struct fm_sim_recording){0};
}

/* Microseconds with three decimals, exactly. */
static void member_time(struct fm_json_writer *writer, const char *key, uint64_t time_ns)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%llu.%03u", (unsigned long long)(time_ns / 1000),
                          (unsigned)(time_ns % 1000));
    fm_json_key(writer, key);
    fm_json_raw(writer, text, (size_t)length);
}

/* What the row of an accelerator (or, for the first, the whole) is called. */
static void name_write(struct fm_json_writer *writer, const char *what, uint32_t row,
                       const char *name)
{
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "name", what);
    fm_json_member_string(writer, "ph", "M");
    fm_json_member_uint(writer, "pid", 1);
    fm_json_member_uint(writer, "tid", row);
    fm_json_key(writer, "args");
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "name", name);
    fm_json_object_end(writer);
    fm_json_object_end(writer);
}

static void span_write(struct fm_json_writer *writer, const struct fm_sim_result *result,
                       const struct fm_sim_span *span)
{
    char name[160];
    fm_json_object_begin(writer);
    fm_json_member_string(
        writer, "name",
        fm_sim_scenario_model_name(result->scenario, span->model, name, sizeof name));
    fm_json_member_string(writer, "cat", span->completed ? "batch" : "lost");
    fm_json_member_string(writer, "ph", "X");
    fm_json_member_uint(writer, "pid", 1);
    fm_json_member_uint(writer, "tid", span->accelerator);
    member_time(writer, "ts", span->begin_ns);
    member_time(writer, "dur", span->end_ns - span->begin_ns);
    fm_json_key(writer, "args");
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "batch", span->batch);
    fm_json_member_uint(writer, "requests", span->count);
    fm_json_object_end(writer);
    fm_json_object_end(writer);
}

void fm_sim_recording_trace(const struct fm_sim_recording *recording,
                            const struct fm_sim_result *result, struct fm_text *text)
{
    struct fm_json_writer writer;
    char name[96];
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_member_string(&writer, "displayTimeUnit", "ms");
    fm_json_key(&writer, "traceEvents");
    fm_json_array_begin(&writer);
    (void)snprintf(name, sizeof name, "fermata sim, policy %s, seed %llu",
                   fm_sched_policy_name(result->policy), (unsigned long long)result->seed);
    name_write(&writer, "process_name", 0, name);
    for (uint32_t i = 0; i < result->accelerator_count; i++) {
        if (result->accelerators[i].batches > 0) {
            (void)snprintf(name, sizeof name, "accelerator %u", i);
            name_write(&writer, "thread_name", i, name);
        }
    }
    for (uint32_t i = 0; i < recording->span_count; i++) {
        span_write(&writer, result, &recording->spans[i]);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}
