/*
 * Traces of bench tasks: made from a seed, or read. See queue_sim.h.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/load/portable_math.h"
#include "core/load/trace_text.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "core/util/text.h"
#include "engines/bench/queue_draw.h"
#include "engines/bench/queue_sim.h"

#define MEAN_SECONDS    300.0 /* of exponential lengths; the median of lognormal ones */
#define UNIFORM_SECONDS 60.0
#define UNIFORM_TIMES   10.0
#define SHORT_SECONDS   100.0
#define LONG_SECONDS    1000.0
#define LONG_SHARE      0.2
#define LENGTH_LEAST_NS UINT64_C(1000000)

static const char *const mix_names[] = {"uniform", "exponential", "bimodal", "lognormal"};

const char *fm_queue_sim_mix_name(enum fm_queue_sim_mix mix)
{
    return mix_names[mix];
}

void fm_queue_trace_deinit(struct fm_queue_trace *trace)
{
    fm_free(trace->arrivals_ns);
    fm_free(trace->lengths_ns);
    fm_free(trace->estimates_ns);
    *trace = (struct fm_queue_trace){0};
}

static double exponential_draw(struct fm_random *random)
{
    return -fm_portable_log(1 - fm_random_unit(random));
}

/* Marsaglia's polar method (docs/workloads.md), with the logarithm that is the same everywhere. */
double fm_queue_draw_normal(struct fm_random *random)
{
    for (;;) {
        double x = 2 * fm_random_unit(random) - 1;
        double y = 2 * fm_random_unit(random) - 1;
        double square = x * x + y * y;
        if (square > 0 && square < 1) {
            return x * sqrt(-2 * fm_portable_log(square) / square);
        }
    }
}

static double length_draw(struct fm_random *random, enum fm_queue_sim_mix mix)
{
    switch (mix) {
    case FM_QUEUE_SIM_UNIFORM:
        return UNIFORM_SECONDS * (1 + (UNIFORM_TIMES - 1) * fm_random_unit(random));
    case FM_QUEUE_SIM_BIMODAL:
        return fm_random_unit(random) < LONG_SHARE ? LONG_SECONDS : SHORT_SECONDS;
    case FM_QUEUE_SIM_LOGNORMAL:
        return MEAN_SECONDS * fm_portable_exp(fm_queue_draw_normal(random));
    case FM_QUEUE_SIM_EXPONENTIAL:
    case FM_QUEUE_SIM_MIX_COUNT_:
    default:
        return MEAN_SECONDS * exponential_draw(random);
    }
}

static double length_mean(enum fm_queue_sim_mix mix)
{
    switch (mix) {
    case FM_QUEUE_SIM_UNIFORM:
        return UNIFORM_SECONDS * (1 + UNIFORM_TIMES) / 2;
    case FM_QUEUE_SIM_BIMODAL:
        return LONG_SHARE * LONG_SECONDS + (1 - LONG_SHARE) * SHORT_SECONDS;
    case FM_QUEUE_SIM_LOGNORMAL:
        return MEAN_SECONDS * fm_portable_exp(0.5);
    case FM_QUEUE_SIM_EXPONENTIAL:
    case FM_QUEUE_SIM_MIX_COUNT_:
    default:
        return MEAN_SECONDS;
    }
}

int fm_queue_trace_make(const struct fm_queue_sim_options *options, uint64_t seed,
                        struct fm_queue_trace *ret_trace)
{
    struct fm_random lengths;
    struct fm_random arrivals;
    double now_s = 0;
    double gap_s = length_mean(options->mix) / (options->load * options->followers);
    *ret_trace = (struct fm_queue_trace){
        .arrivals_ns = fm_alloc_zero(options->tasks, sizeof(uint64_t)),
        .lengths_ns = fm_alloc_zero(options->tasks, sizeof(uint64_t)),
        .count = options->tasks,
    };
    if (ret_trace->arrivals_ns == NULL || ret_trace->lengths_ns == NULL) {
        fm_queue_trace_deinit(ret_trace);
        return FM_ENOMEM;
    }
    fm_random_init(&lengths, seed ^ FM_QUEUE_DRAW_LENGTHS);
    fm_random_init(&arrivals, seed ^ FM_QUEUE_DRAW_ARRIVALS);
    for (uint32_t i = 0; i < options->tasks; i++) {
        uint64_t length_ns = (uint64_t)(length_draw(&lengths, options->mix) * 1e9);
        now_s += options->poisson ? gap_s * exponential_draw(&arrivals) : 0;
        ret_trace->arrivals_ns[i] = (uint64_t)(now_s * 1e9);
        ret_trace->lengths_ns[i] = length_ns > LENGTH_LEAST_NS ? length_ns : LENGTH_LEAST_NS;
    }
    return 0;
}

/* --- Files --- */

/* The line, from 1, of the `index`-th one that counts, from 0: the header. And where it begins. */
static uint64_t line_find(const char *text, size_t size, uint64_t index, size_t *ret_begin)
{
    size_t begin = fm_text_after_bom(text, size);
    uint64_t line = 1;
    while (begin < size) {
        while (begin < size && (text[begin] == ' ' || text[begin] == '\t')) {
            begin++;
        }
        bool counts =
            begin < size && text[begin] != '#' && text[begin] != '\n' && text[begin] != '\r';
        if (counts && index-- == 0) {
            break;
        }
        const char *end = memchr(text + begin, '\n', size - begin);
        begin = end != NULL ? (size_t)(end - text) + 1 : size;
        line++;
    }
    *ret_begin = begin;
    return line;
}

static bool header_names(const char *text, size_t size, const char *column)
{
    size_t length = strlen(column);
    size_t begin;
    (void)line_find(text, size, 0, &begin);
    while (begin < size && text[begin] != '\n') {
        size_t end = begin;
        while (end < size && text[end] != ',' && text[end] != '\n' && text[end] != '\r') {
            end++;
        }
        size_t from = begin;
        size_t to = end;
        while (from < to && strchr(" \t\"", text[from]) != NULL) {
            from++;
        }
        while (to > from && strchr(" \t\"", text[to - 1]) != NULL) {
            to--;
        }
        if (to - from == length && memcmp(text + from, column, length) == 0) {
            return true;
        }
        begin = end < size && text[end] == ',' ? end + 1 : size;
    }
    return false;
}

/* All of them, one after the other, have to end on the clock, in whatever order. */
static int ends_check(const char *name, const struct fm_queue_trace *trace, struct fm_error *reterr)
{
    uint64_t left_ns = UINT64_MAX / 2;
    for (uint32_t i = 0; i < trace->count; i++) {
        if (trace->lengths_ns[i] > left_ns) {
            return fm_error_set(reterr, FM_EINVAL,
                                "%s: its tasks together are longer than 292 years", name);
        }
        left_ns -= trace->lengths_ns[i];
    }
    return trace->count == 0 || trace->arrivals_ns[trace->count - 1] <= UINT64_MAX / 2
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "%s: arrival_s may be 292 years at the most: count it from the "
                              "beginning of the trace",
                              name);
}

static int column_read(const char *name, const char *column, const char *text, size_t size,
                       bool above_zero, uint64_t **ret_values, uint32_t *ret_count,
                       struct fm_error *reterr)
{
    struct fm_trace_text_options options = {.name = name,
                                            .column = column,
                                            .times_max = FM_QUEUE_SIM_TASKS_MAX,
                                            .any_order = above_zero};
    uint64_t count = 0;
    int status = fm_trace_text_parse(&options, text, size, ret_values, &count, reterr);
    for (uint64_t i = 0; status == 0 && above_zero && i < count; i++) {
        uint64_t value_ns = (*ret_values)[i];
        if (value_ns == 0 || value_ns > FM_JOB_QUEUE_ESTIMATE_MAX_NS) {
            size_t begin;
            uint64_t line = line_find(text, size, i + 1, &begin);
            status = fm_error_set(reterr, FM_EINVAL,
                                  "%s:%" PRIu64 ": %s must be above 0 and at most a year", name,
                                  line, column);
            break;
        }
    }
    *ret_count = (uint32_t)count;
    return status;
}

int fm_queue_trace_parse(const char *name, const char *text, size_t size,
                         struct fm_queue_trace *ret_trace, struct fm_error *reterr)
{
    uint32_t count = 0;
    *ret_trace = (struct fm_queue_trace){0};
    int status = column_read(name, "arrival_s", text, size, false, &ret_trace->arrivals_ns,
                             &ret_trace->count, reterr);
    if (status == 0) {
        status =
            column_read(name, "length_s", text, size, true, &ret_trace->lengths_ns, &count, reterr);
    }
    if (status == 0 && header_names(text, size, "estimate_s")) {
        status = column_read(name, "estimate_s", text, size, true, &ret_trace->estimates_ns, &count,
                             reterr);
    }
    status = status == 0 ? ends_check(name, ret_trace, reterr) : status;
    if (status != 0) {
        fm_queue_trace_deinit(ret_trace);
    }
    return status;
}
