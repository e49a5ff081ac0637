/*
 * The record of a run under load. See load_record.h.
 */
#include "core/bench/load_record.h"

#include <math.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NS_PER_S     UINT64_C(1000000000)
#define NS_PER_MS    1e6
#define SECONDS_ROOM 16u

static const char *const outcome_names[FM_LOAD_OUTCOME_COUNT_] = {
    [FM_LOAD_OK] = "ok",
    [FM_LOAD_TIMEOUT] = "timeout",
    [FM_LOAD_CONNECTION] = "connection",
    [FM_LOAD_REFUSED] = "refused",
    [FM_LOAD_STATUS] = "status",
    [FM_LOAD_ANSWER] = "answer",
    [FM_LOAD_DROPPED] = "dropped"};
static const char *const phase_names[FM_LOAD_PHASE_COUNT_] = {
    [FM_LOAD_WARMUP] = "warmup", [FM_LOAD_MEASURED] = "measured", [FM_LOAD_DRAIN] = "drain"};

const char *fm_load_outcome_name(enum fm_load_outcome outcome)
{
    return outcome < FM_LOAD_OUTCOME_COUNT_ ? outcome_names[outcome] : "unknown";
}

int fm_load_record_init(struct fm_load_record *ret_record, const struct fm_load_options *options,
                        struct fm_error *reterr)
{
    uint64_t longest = FM_LOAD_SECONDS_MAX * NS_PER_S;
    if (options->measure_ns == 0 || options->timeout_ns == 0 || options->measure_ns > longest ||
        options->warmup_ns > longest || options->timeout_ns > longest) {
        return fm_error_set(reterr, FM_EINVAL,
                            "a run measures, and waits for an answer, for some time above 0, and "
                            "each of its times is %u s at the most",
                            FM_LOAD_SECONDS_MAX);
    }
    *ret_record = (struct fm_load_record){.options = *options, .first_sent_ns = UINT64_MAX};
    ret_record->phases = fm_alloc_zero(FM_LOAD_PHASE_COUNT_, sizeof(*ret_record->phases));
    return ret_record->phases != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

void fm_load_record_deinit(struct fm_load_record *record)
{
    fm_free(record->phases);
    fm_free(record->seconds);
    *record = (struct fm_load_record){0};
}

/* --- Adding --- */

static enum fm_load_phase phase_of(const struct fm_load_record *record, uint64_t intended_ns)
{
    const struct fm_load_options *options = &record->options;
    return intended_ns < options->warmup_ns                         ? FM_LOAD_WARMUP
           : intended_ns < options->warmup_ns + options->measure_ns ? FM_LOAD_MEASURED
                                                                    : FM_LOAD_DRAIN;
}

/* NULL: no memory. What is later than a run that takes twice as long counts into the last second.
 */
static struct fm_load_second *second_of(struct fm_load_record *record, uint64_t at_ns)
{
    const struct fm_load_options *options = &record->options;
    uint64_t last = (options->warmup_ns + 2 * options->measure_ns + options->timeout_ns) / NS_PER_S;
    uint64_t second = at_ns / NS_PER_S;
    size_t index = (size_t)(second < last ? second : last);
    if (index >= record->second_capacity) {
        size_t capacity = index + 1 > 2 * record->second_capacity ? index + SECONDS_ROOM
                                                                  : 2 * record->second_capacity;
        struct fm_load_second *grown =
            fm_realloc(record->seconds, capacity * sizeof(*record->seconds));
        if (grown == NULL) {
            return NULL;
        }
        memset(grown + record->second_capacity, 0,
               (capacity - record->second_capacity) * sizeof(*grown));
        record->seconds = grown;
        record->second_capacity = capacity;
    }
    record->second_count = index >= record->second_count ? index + 1 : record->second_count;
    return &record->seconds[index];
}

static uint64_t since(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

static void phase_add(struct fm_load_record *record, struct fm_load_phase_record *phase,
                      const struct fm_load_request *request, uint64_t response_ns)
{
    uint64_t slo_ns = record->options.slo_ns;
    uint64_t service_ns = request->outcome == FM_LOAD_TIMEOUT
                              ? record->options.timeout_ns
                              : since(request->sent_ns, request->done_ns);
    phase->outcomes[request->outcome]++;
    if (request->outcome != FM_LOAD_DROPPED) {
        fm_fine_histogram_add(&phase->lag, since(request->intended_ns, request->sent_ns), 1);
    }
    if (request->outcome == FM_LOAD_OK || request->outcome == FM_LOAD_TIMEOUT) {
        fm_fine_histogram_add(&phase->response, response_ns, 1);
        fm_fine_histogram_add(&phase->service, service_ns, 1);
    }
    if (request->outcome == FM_LOAD_OK) {
        phase->in_slo += slo_ns == 0 || response_ns <= slo_ns;
        if (request->first_byte_ns > 0) {
            fm_fine_histogram_add(&phase->first_byte,
                                  since(request->sent_ns, request->first_byte_ns), 1);
        }
    }
}

int fm_load_record_add(struct fm_load_record *record, const struct fm_load_request *request)
{
    enum fm_load_phase phase = phase_of(record, request->intended_ns);
    bool ended = request->outcome != FM_LOAD_DROPPED;
    FM_ASSERT(request->outcome < FM_LOAD_OUTCOME_COUNT_);
    /* The later one first: it may move all of them. */
    if (second_of(record, ended && request->done_ns > request->intended_ns
                              ? request->done_ns
                              : request->intended_ns) == NULL) {
        return FM_ENOMEM;
    }
    uint64_t response_ns =
        request->outcome == FM_LOAD_TIMEOUT
            ? since(request->intended_ns, request->sent_ns) + record->options.timeout_ns
            : since(request->intended_ns, request->done_ns);
    struct fm_load_second *second = second_of(record, request->intended_ns);
    second->intended++;
    second->ok += request->outcome == FM_LOAD_OK;
    second->failed += request->outcome != FM_LOAD_OK;
    if (request->outcome == FM_LOAD_OK) {
        fm_log_histogram_add(&second->response, response_ns);
        second_of(record, request->done_ns)->ended++;
    }
    phase_add(record, &record->phases[phase], request, response_ns);
    if (phase == FM_LOAD_MEASURED && ended) {
        record->first_sent_ns =
            request->sent_ns < record->first_sent_ns ? request->sent_ns : record->first_sent_ns;
        record->last_sent_ns =
            request->sent_ns > record->last_sent_ns ? request->sent_ns : record->last_sent_ns;
    }
    return 0;
}

int fm_load_record_merge(struct fm_load_record *record, const struct fm_load_record *other)
{
    for (size_t i = 0; i < other->second_count; i++) {
        const struct fm_load_second *from = &other->seconds[i];
        struct fm_load_second *to = second_of(record, i * NS_PER_S);
        if (to == NULL) {
            return FM_ENOMEM;
        }
        to->intended += from->intended;
        to->ok += from->ok;
        to->failed += from->failed;
        to->ended += from->ended;
        fm_log_histogram_merge(&to->response, &from->response);
    }
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        struct fm_load_phase_record *to = &record->phases[i];
        const struct fm_load_phase_record *from = &other->phases[i];
        for (unsigned k = 0; k < FM_LOAD_OUTCOME_COUNT_; k++) {
            to->outcomes[k] += from->outcomes[k];
        }
        to->in_slo += from->in_slo;
        fm_fine_histogram_merge(&to->response, &from->response);
        fm_fine_histogram_merge(&to->service, &from->service);
        fm_fine_histogram_merge(&to->first_byte, &from->first_byte);
        fm_fine_histogram_merge(&to->lag, &from->lag);
    }
    record->first_sent_ns =
        other->first_sent_ns < record->first_sent_ns ? other->first_sent_ns : record->first_sent_ns;
    record->last_sent_ns =
        other->last_sent_ns > record->last_sent_ns ? other->last_sent_ns : record->last_sent_ns;
    record->client_cpu_s += other->client_cpu_s;
    record->client_cpus_max += other->client_cpus_max;
    return 0;
}

/* --- Asking --- */

static uint64_t intended_of(const struct fm_load_phase_record *phase)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        sum += phase->outcomes[i];
    }
    return sum;
}

static double measured_s(const struct fm_load_record *record)
{
    return (double)record->options.measure_ns / (double)NS_PER_S;
}

double fm_load_record_goodput_hz(const struct fm_load_record *record)
{
    return (double)record->phases[FM_LOAD_MEASURED].in_slo / measured_s(record);
}

/* How fast requests were sent: over the measured phase, or longer where the last of them was sent
 * behind its end. */
static double achieved_hz(const struct fm_load_record *record)
{
    const struct fm_load_phase_record *phase = &record->phases[FM_LOAD_MEASURED];
    const struct fm_load_options *options = &record->options;
    uint64_t end_ns = options->warmup_ns + options->measure_ns;
    end_ns = record->last_sent_ns > end_ns ? record->last_sent_ns : end_ns;
    return (double)phase->lag.count * (double)NS_PER_S / (double)(end_ns - options->warmup_ns);
}

void fm_load_record_summarize(const struct fm_load_record *record, double rate_hz, double gap_cv,
                              struct fm_verdict_second *seconds, size_t second_max,
                              struct fm_verdict_summary *ret_summary)
{
    const struct fm_load_phase_record *phase = &record->phases[FM_LOAD_MEASURED];
    const struct fm_load_options *options = &record->options;
    uint64_t intended = intended_of(phase);
    size_t first = (size_t)((options->warmup_ns + NS_PER_S - 1) / NS_PER_S);
    size_t end = (size_t)((options->warmup_ns + options->measure_ns) / NS_PER_S);
    *ret_summary = (struct fm_verdict_summary){
        .intended = intended,
        .sent = phase->lag.count,
        .completed = phase->outcomes[FM_LOAD_OK],
        .errors = {[FM_VERDICT_ERROR_TIMEOUT] = phase->outcomes[FM_LOAD_TIMEOUT],
                   [FM_VERDICT_ERROR_CONNECTION] = phase->outcomes[FM_LOAD_CONNECTION],
                   [FM_VERDICT_ERROR_STATUS] =
                       phase->outcomes[FM_LOAD_REFUSED] + phase->outcomes[FM_LOAD_STATUS],
                   [FM_VERDICT_ERROR_ANSWER] = phase->outcomes[FM_LOAD_ANSWER]},
        .dropped = phase->outcomes[FM_LOAD_DROPPED],
        .late = intended - phase->in_slo,
        .duration_ns = options->measure_ns,
        .rate_hz = rate_hz,
        .achieved_hz = achieved_hz(record),
        .gap_cv = gap_cv,
        .lag_p99_ns = (uint64_t)fm_fine_histogram_quantile_ns(&phase->lag, 0.99),
        .slo_ns = options->slo_ns,
        .client_cpus = record->client_cpus_max > 0 ? record->client_cpu_s / measured_s(record) : -1,
        .client_cpus_max = record->client_cpus_max,
        .seconds = seconds};
    /* Whole seconds that lie in the phase; by the second in which their requests were intended. */
    for (size_t i = first; i < end && ret_summary->second_count < second_max; i++) {
        struct fm_verdict_second *second = &seconds[ret_summary->second_count++];
        *second = (struct fm_verdict_second){0};
        if (i < record->second_count) {
            second->completed = record->seconds[i].ok;
            second->latency_sum_ns = record->seconds[i].response.sum_ns;
        }
    }
}

/* --- JSON --- */

static void histogram_write(struct fm_json_writer *json, const char *key,
                            const struct fm_fine_histogram *histogram)
{
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50_ms", 0.5},     {"p90_ms", 0.9},       {"p95_ms", 0.95}, {"p99_ms", 0.99},
                     {"p99_9_ms", 0.999}, {"p99_99_ms", 0.9999}, {"max_ms", 1}};
    fm_json_key(json, key);
    fm_json_object_begin(json);
    fm_json_member_uint(json, "count", histogram->count);
    if (histogram->count > 0) {
        fm_json_member_number(json, "min_ms", (double)histogram->min_ns / NS_PER_MS);
        fm_json_member_number(json, "mean_ms", fm_fine_histogram_mean_ns(histogram) / NS_PER_MS);
        fm_json_member_number(json, "cv", fm_fine_histogram_variation(histogram));
        for (size_t i = 0; i < FM_COUNT_OF(quantiles); i++) {
            fm_json_member_number(json, quantiles[i].name,
                                  fm_fine_histogram_quantile_ns(histogram, quantiles[i].q) /
                                      NS_PER_MS);
        }
    }
    /* Pairs of a bucket's number (fine_histogram.h) and its count. */
    fm_json_key(json, "buckets");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < FM_FINE_HISTOGRAM_BUCKETS; i++) {
        if (histogram->buckets[i] > 0) {
            fm_json_uint(json, i);
            fm_json_uint(json, histogram->buckets[i]);
        }
    }
    fm_json_array_end(json);
    fm_json_object_end(json);
}

static void phase_write(struct fm_json_writer *json, const struct fm_load_phase_record *phase)
{
    fm_json_object_begin(json);
    fm_json_member_uint(json, "intended", intended_of(phase));
    fm_json_member_uint(json, "sent", phase->lag.count);
    fm_json_member_uint(json, "in_slo", phase->in_slo);
    fm_json_key(json, "outcomes");
    fm_json_object_begin(json);
    for (unsigned i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        fm_json_member_uint(json, outcome_names[i], phase->outcomes[i]);
    }
    fm_json_object_end(json);
    histogram_write(json, "response", &phase->response);
    histogram_write(json, "service", &phase->service);
    histogram_write(json, "first_byte", &phase->first_byte);
    histogram_write(json, "lag", &phase->lag);
    fm_json_object_end(json);
}

static void seconds_write(struct fm_json_writer *json, const struct fm_load_record *record)
{
    fm_json_key(json, "seconds");
    fm_json_array_begin(json);
    for (size_t i = 0; i < record->second_count; i++) {
        const struct fm_load_second *second = &record->seconds[i];
        fm_json_object_begin(json);
        fm_json_member_uint(json, "intended", second->intended);
        fm_json_member_uint(json, "ok", second->ok);
        fm_json_member_uint(json, "failed", second->failed);
        fm_json_member_uint(json, "ended", second->ended);
        fm_json_member_number(json, "response_p50_ms",
                              (double)fm_log_histogram_quantile_ns(&second->response, 500) /
                                  NS_PER_MS);
        fm_json_member_number(json, "response_p99_ms",
                              (double)fm_log_histogram_quantile_ns(&second->response, 990) /
                                  NS_PER_MS);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

void fm_load_record_write(const struct fm_load_record *record, struct fm_text *text)
{
    const struct fm_load_options *options = &record->options;
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "schema", "fermata.load/1");
    fm_json_member_number(&json, "warmup_s", (double)options->warmup_ns / (double)NS_PER_S);
    fm_json_member_number(&json, "measure_s", measured_s(record));
    fm_json_member_number(&json, "timeout_s", (double)options->timeout_ns / (double)NS_PER_S);
    fm_json_key(&json, "slo_ms");
    if (options->slo_ns > 0) {
        fm_json_number(&json, (double)options->slo_ns / NS_PER_MS);
    } else {
        fm_json_null(&json);
    }
    fm_json_member_number(&json, "achieved_hz", achieved_hz(record));
    fm_json_member_number(&json, "goodput_hz", fm_load_record_goodput_hz(record));
    fm_json_member_number(&json, "client_cpu_s", record->client_cpu_s);
    fm_json_member_number(&json, "client_cpus_max", record->client_cpus_max);
    fm_json_key(&json, "phases");
    fm_json_object_begin(&json);
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        fm_json_key(&json, phase_names[i]);
        phase_write(&json, &record->phases[i]);
    }
    fm_json_object_end(&json);
    seconds_write(&json, record);
    fm_json_object_end(&json);
}
