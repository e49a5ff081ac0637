/*
 * Spans as OTLP/JSON. See otlp.h. 64-bit numbers are strings and ids hexadecimal text, as the
 * mapping of protobuf to JSON and its exception for OTLP have it.
 */
#include "core/stats/otlp.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"

#define STATUS_ERROR 2u

static void attribute_string(struct fm_json_writer *json, const char *key, const char *value)
{
    fm_json_object_begin(json);
    fm_json_member_string(json, "key", key);
    fm_json_key(json, "value");
    fm_json_object_begin(json);
    fm_json_member_string(json, "stringValue", value);
    fm_json_object_end(json);
    fm_json_object_end(json);
}

static void member_uint_string(struct fm_json_writer *json, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    fm_json_member_string(json, key, text);
}

static void attribute_uint(struct fm_json_writer *json, const char *key, uint64_t value)
{
    fm_json_object_begin(json);
    fm_json_member_string(json, "key", key);
    fm_json_key(json, "value");
    fm_json_object_begin(json);
    member_uint_string(json, "intValue", value);
    fm_json_object_end(json);
    fm_json_object_end(json);
}

static void member_span_id(struct fm_json_writer *json, const char *key, uint64_t id)
{
    char text[20];
    (void)snprintf(text, sizeof(text), "%016" PRIx64, id);
    fm_json_member_string(json, key, text);
}

static void attributes_write(struct fm_json_writer *json, const struct fm_otlp_span *span)
{
    fm_json_key(json, "attributes");
    fm_json_array_begin(json);
    if (span->model[0] != '\0') {
        attribute_string(json, "fermata.model", span->model);
    }
    if (span->protocol[0] != '\0') {
        attribute_string(json, "network.protocol.name", span->protocol);
    }
    if (span->batch > 0) {
        attribute_uint(json, "fermata.batch_size", span->batch);
    }
    if (span->has_window) {
        attribute_uint(json, "fermata.queue_ns", span->queue_ns);
        attribute_uint(json, "fermata.window_ns", span->window_ns);
    }
    if (span->status != 0) {
        attribute_string(json, "error.type", fm_status_name(span->status));
    }
    fm_json_array_end(json);
}

static void span_write(struct fm_json_writer *json, const struct fm_otlp_span *span)
{
    char trace[36];
    (void)snprintf(trace, sizeof(trace), "%016" PRIx64 "%016" PRIx64, span->context.trace_high,
                   span->context.trace_low);
    fm_json_object_begin(json);
    fm_json_member_string(json, "traceId", trace);
    member_span_id(json, "spanId", span->context.span);
    if (span->parent != 0) {
        member_span_id(json, "parentSpanId", span->parent);
    }
    if (span->tracestate[0] != '\0') {
        fm_json_member_string(json, "traceState", span->tracestate);
    }
    fm_json_member_string(json, "name", span->name);
    fm_json_member_uint(json, "kind", span->kind);
    member_uint_string(json, "startTimeUnixNano", span->start_ns);
    member_uint_string(json, "endTimeUnixNano", span->end_ns);
    attributes_write(json, span);
    fm_json_key(json, "status");
    fm_json_object_begin(json);
    if (span->status != 0) {
        fm_json_member_uint(json, "code", STATUS_ERROR);
        fm_json_member_string(json, "message", fm_status_text(span->status));
    }
    fm_json_object_end(json);
    fm_json_object_end(json);
}

static void resource_write(struct fm_json_writer *json, const struct fm_otlp_resource *resource)
{
    fm_json_key(json, "resource");
    fm_json_object_begin(json);
    fm_json_key(json, "attributes");
    fm_json_array_begin(json);
    attribute_string(json, "service.name", resource->service_name);
    attribute_string(json, "service.version", resource->service_version);
    if (resource->host[0] != '\0') {
        attribute_string(json, "host.name", resource->host);
    }
    attribute_string(json, "telemetry.sdk.name", "fermata");
    fm_json_array_end(json);
    fm_json_object_end(json);
}

void fm_otlp_write(const struct fm_otlp_resource *resource, const struct fm_otlp_span *spans,
                   uint32_t count, struct fm_text *text)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_key(&json, "resourceSpans");
    fm_json_array_begin(&json);
    fm_json_object_begin(&json);
    resource_write(&json, resource);
    fm_json_key(&json, "scopeSpans");
    fm_json_array_begin(&json);
    fm_json_object_begin(&json);
    fm_json_key(&json, "scope");
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "name", "fermata");
    fm_json_member_string(&json, "version", resource->service_version);
    fm_json_object_end(&json);
    fm_json_key(&json, "spans");
    fm_json_array_begin(&json);
    for (uint32_t i = 0; i < count; i++) {
        span_write(&json, &spans[i]);
    }
    fm_json_array_end(&json);
    fm_json_object_end(&json);
    fm_json_array_end(&json);
    fm_json_object_end(&json);
    fm_json_array_end(&json);
    fm_json_object_end(&json);
}

void fm_otlp_span_set_model(struct fm_otlp_span *span, const char *model)
{
    size_t length = strlen(model);
    if (length >= sizeof(span->model)) {
        length = sizeof(span->model) - 1;
        while (length > 0 && ((unsigned char)model[length] & 0xC0u) == 0x80u) {
            length--;
        }
    }
    memcpy(span->model, model, length);
    span->model[length] = '\0';
}
