/*
 * W3C trace context. See traceparent.h.
 *
 *   traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                version, trace id, parent's span id, flags
 */
#include "core/proto/traceparent.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LENGTH        55u
#define FLAG_SAMPLED  1u
#define RATE_MILLIONS 1000000u

/* `digits` lower-case hexadecimal digits; the standard allows no others. */
static bool hex_read(const char *text, uint32_t digits, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < digits; i++) {
        char character = text[i];
        uint32_t digit;
        if (character >= '0' && character <= '9') {
            digit = (uint32_t)(character - '0');
        } else if (character >= 'a' && character <= 'f') {
            digit = (uint32_t)(character - 'a') + 10;
        } else {
            return false;
        }
        value = value << 4 | digit;
    }
    *ret_value = value;
    return true;
}

int fm_traceparent_parse(const char *text, size_t length, struct fm_trace_context *ret_context)
{
    uint64_t version;
    uint64_t flags;
    struct fm_trace_context context = {0};
    if (length < LENGTH || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !hex_read(text, 2, &version) || !hex_read(text + 3, 16, &context.trace_high) ||
        !hex_read(text + 19, 16, &context.trace_low) || !hex_read(text + 36, 16, &context.span) ||
        !hex_read(text + 53, 2, &flags)) {
        return FM_EINVAL;
    }
    /* Later versions may add fields behind a dash; 255 is forbidden. */
    if (version == 0xFF || (version == 0 && length != LENGTH) ||
        (length > LENGTH && text[LENGTH] != '-')) {
        return FM_EINVAL;
    }
    if ((context.trace_high | context.trace_low) == 0 || context.span == 0) {
        return FM_EINVAL;
    }
    context.sampled = (flags & FLAG_SAMPLED) != 0;
    *ret_context = context;
    return 0;
}

void fm_traceparent_format(const struct fm_trace_context *context, char text[FM_TRACEPARENT_SIZE])
{
    (void)snprintf(text, FM_TRACEPARENT_SIZE, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%02x",
                   context->trace_high, context->trace_low, context->span,
                   context->sampled ? FLAG_SAMPLED : 0);
}

/* A key: lower-case letters, digits, _ - * / and at most one @. */
static bool state_key(const char *text, size_t length)
{
    size_t at_signs = 0;
    for (size_t i = 0; i < length; i++) {
        char character = text[i];
        at_signs += character == '@' ? 1 : 0;
        bool letter =
            (character >= 'a' && character <= 'z') || (character >= '0' && character <= '9');
        if (!letter && (i == 0 || character == '\0' || strchr("_-*/@", character) == NULL)) {
            return false;
        }
    }
    return length > 0 && length <= 256 && at_signs <= 1;
}

/* "key=value", where the value is printable without comma and equals sign. */
static bool state_row(const char *text, size_t length)
{
    const char *equals = memchr(text, '=', length);
    if (equals == NULL || !state_key(text, (size_t)(equals - text))) {
        return false;
    }
    size_t value_length = length - (size_t)(equals - text) - 1;
    for (size_t i = 0; i < value_length; i++) {
        char character = equals[1 + i];
        if (character < ' ' || character > '~' || character == '=') {
            return false;
        }
    }
    return value_length > 0 && value_length <= 256;
}

bool fm_tracestate_valid(const char *text, size_t length)
{
    uint32_t rows = 0;
    if (length > FM_TRACESTATE_BYTES_MAX) {
        return false;
    }
    for (size_t from = 0; from < length;) {
        const char *comma = memchr(text + from, ',', length - from);
        size_t end = comma != NULL ? (size_t)(comma - text) : length;
        size_t first = from;
        size_t last = end;
        while (first < last && (text[first] == ' ' || text[first] == '\t')) {
            first++;
        }
        while (last > first && (text[last - 1] == ' ' || text[last - 1] == '\t')) {
            last--;
        }
        if (last > first) {
            if (++rows > FM_TRACESTATE_ROWS_MAX || !state_row(text + first, last - first)) {
                return false;
            }
        }
        from = end + 1;
    }
    return rows > 0;
}

/* The trace id's lower half decides, as OpenTelemetry's ratio sampler does it: 63 bits of it are
 * taken as random. */
static bool rate_samples(const struct fm_trace_sampler *sampler, uint64_t trace_low)
{
    if (sampler->rate_millionths >= RATE_MILLIONS) {
        return true;
    }
    uint64_t bound = (UINT64_C(1) << 63) / RATE_MILLIONS * sampler->rate_millionths;
    return (trace_low & (UINT64_MAX >> 1)) < bound;
}

struct fm_trace_context fm_trace_context_begin(const struct fm_trace_sampler *sampler,
                                               const struct fm_trace_context *parent,
                                               const uint64_t random[3])
{
    struct fm_trace_context context = {.span = random[2] != 0 ? random[2] : 1};
    if (parent != NULL) {
        context.trace_high = parent->trace_high;
        context.trace_low = parent->trace_low;
        context.sampled = parent->sampled ||
                          (!sampler->respect_parent_no && rate_samples(sampler, parent->trace_low));
        return context;
    }
    context.trace_high = random[0];
    context.trace_low = random[1] != 0 ? random[1] : 1;
    context.sampled = rate_samples(sampler, context.trace_low);
    return context;
}
