/*
 * What came of a run of load. See load_record.h. Pure.
 */
#include "core/bench/load_record.h"

#include "core/proto/json.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS 1e6

static const char *const outcome_names[FM_LOAD_OUTCOME_COUNT_] = {
    [FM_LOAD_OK] = "ok",
    [FM_LOAD_REFUSED] = "refused",
    [FM_LOAD_OVERLOADED] = "overloaded",
    [FM_LOAD_FAILED] = "failed",
    [FM_LOAD_TIMEOUT] = "timeout",
    [FM_LOAD_LOST] = "lost",
    [FM_LOAD_WRONG_ANSWER] = "wrong_answer",
    [FM_LOAD_CAPPED] = "capped",
};

const char *fm_load_outcome_name(enum fm_load_outcome outcome)
{
    return (unsigned)outcome < FM_LOAD_OUTCOME_COUNT_ ? outcome_names[outcome] : "unknown";
}

enum fm_load_outcome fm_load_outcome_from_http(int code)
{
    if (code >= 200 && code < 300) {
        return FM_LOAD_OK;
    }
    if (code == 429 || code == 503) {
        return FM_LOAD_OVERLOADED;
    }
    if (code == 408 || code == 504) {
        return FM_LOAD_TIMEOUT;
    }
    if (code >= 400 && code < 500) {
        return FM_LOAD_REFUSED;
    }
    return code >= 500 && code < 600 ? FM_LOAD_FAILED : FM_LOAD_WRONG_ANSWER;
}

/* Codes: grpc/doc/statuscodes.md. */
enum fm_load_outcome fm_load_outcome_from_grpc(int code)
{
    switch (code) {
    case 0:
        return FM_LOAD_OK;
    case 4: /* DEADLINE_EXCEEDED */
        return FM_LOAD_TIMEOUT;
    case 8:  /* RESOURCE_EXHAUSTED */
    case 14: /* UNAVAILABLE */
        return FM_LOAD_OVERLOADED;
    case 3:  /* INVALID_ARGUMENT */
    case 5:  /* NOT_FOUND */
    case 6:  /* ALREADY_EXISTS */
    case 7:  /* PERMISSION_DENIED */
    case 9:  /* FAILED_PRECONDITION */
    case 11: /* OUT_OF_RANGE */
    case 12: /* UNIMPLEMENTED */
    case 16: /* UNAUTHENTICATED */
        return FM_LOAD_REFUSED;
    case 1:  /* CANCELLED */
    case 2:  /* UNKNOWN */
    case 10: /* ABORTED */
    case 13: /* INTERNAL */
    case 15: /* DATA_LOSS */
        return FM_LOAD_FAILED;
    default:
        return FM_LOAD_WRONG_ANSWER;
    }
}

int fm_load_record_create(const struct fm_load_windows *windows, uint64_t timeout_ns,
                          uint64_t slo_ns, struct fm_load_record **ret_record,
                          struct fm_error *reterr)
{
    *ret_record = NULL;
    int status = fm_load_windows_check(windows, reterr);
    if (status != 0) {
        return status;
    }
    if (timeout_ns == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "timeout_ns: with 0 no request could be answered in time; give one");
    }
    uint64_t seconds = (fm_load_windows_end_ns(windows) + NS_PER_S - 1) / NS_PER_S;
    struct fm_load_record *record =
        fm_alloc_zero(1, sizeof *record + (size_t)seconds * sizeof record->seconds[0]);
    if (record == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the record of %llu seconds",
                            (unsigned long long)seconds);
    }
    record->windows = *windows;
    record->timeout_ns = timeout_ns;
    record->slo_ns = slo_ns;
    record->second_count = (uint32_t)seconds;
    *ret_record = record;
    return 0;
}

void fm_load_record_destroy(struct fm_load_record *record)
{
    fm_free(record);
}

/* A request cannot end before it began; clocks of two threads may say so by some nanoseconds. */
static uint64_t since(uint64_t later_ns, uint64_t earlier_ns)
{
    return later_ns > earlier_ns ? later_ns - earlier_ns : 0;
}

void fm_load_record_add(struct fm_load_record *record, const struct fm_load_request *request)
{
    FM_ASSERT((unsigned)request->outcome < FM_LOAD_OUTCOME_COUNT_);
    bool sent = request->outcome != FM_LOAD_CAPPED;
    bool ok = request->outcome == FM_LOAD_OK;
    bool timed = ok || request->outcome == FM_LOAD_TIMEOUT;
    enum fm_load_phase phase = fm_load_windows_phase(&record->windows, request->intended_ns);
    struct fm_load_part *part = &record->parts[phase];
    uint64_t index = request->intended_ns / NS_PER_S;
    index = index < record->second_count ? index : record->second_count - 1;
    struct fm_load_second *second = &record->seconds[index];
    uint64_t lag_ns = since(request->sent_ns, request->intended_ns);

    part->outcomes[request->outcome]++;
    second->intended++;
    second->sent += sent ? 1 : 0;
    second->done += ok ? 1 : 0;
    second->failed += ok ? 0 : 1;
    if (sent) {
        fm_fine_histogram_add(&part->lag, lag_ns, 1);
        bool last = phase == FM_LOAD_MEASURED && request->sent_ns > record->last_sent_ns;
        record->last_sent_ns = last ? request->sent_ns : record->last_sent_ns;
    }
    if (!timed) {
        return;
    }
    uint64_t response_ns =
        ok ? since(request->done_ns, request->intended_ns) : lag_ns + record->timeout_ns;
    uint64_t service_ns = ok ? since(request->done_ns, request->sent_ns) : record->timeout_ns;
    fm_fine_histogram_add(&part->response, response_ns, 1);
    fm_fine_histogram_add(&part->service, service_ns, 1);
    second->response_sum_ns += ok ? response_ns : 0;
    second->buckets[fm_log_histogram_index(response_ns) / FM_LOAD_SECOND_WIDTH]++;
    if (ok && request->first_byte_ns != 0) {
        fm_fine_histogram_add(&part->first_byte, since(request->first_byte_ns, request->sent_ns),
                              1);
    }
    if (ok && (record->slo_ns == 0 || response_ns <= record->slo_ns)) {
        part->good++;
    }
}

static bool windows_equal(const struct fm_load_windows *a, const struct fm_load_windows *b)
{
    return a->warmup_ns == b->warmup_ns && a->measured_ns == b->measured_ns &&
           a->drain_ns == b->drain_ns;
}

static void part_merge(struct fm_load_part *part, const struct fm_load_part *other)
{
    for (unsigned i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        part->outcomes[i] += other->outcomes[i];
    }
    part->good += other->good;
    fm_fine_histogram_merge(&part->response, &other->response);
    fm_fine_histogram_merge(&part->service, &other->service);
    fm_fine_histogram_merge(&part->first_byte, &other->first_byte);
    fm_fine_histogram_merge(&part->lag, &other->lag);
}

static void second_merge(struct fm_load_second *second, const struct fm_load_second *other)
{
    second->intended += other->intended;
    second->sent += other->sent;
    second->done += other->done;
    second->failed += other->failed;
    second->response_sum_ns += other->response_sum_ns;
    for (unsigned i = 0; i < FM_LOAD_SECOND_BUCKETS; i++) {
        second->buckets[i] += other->buckets[i];
    }
}

int fm_load_record_merge(struct fm_load_record *record, const struct fm_load_record *other,
                         struct fm_error *reterr)
{
    if (!windows_equal(&record->windows, &other->windows) ||
        record->timeout_ns != other->timeout_ns || record->slo_ns != other->slo_ns) {
        return fm_error_set(reterr, FM_EINVAL,
                            "two records of load differ in their windows, timeout or SLO; merge "
                            "those of one run");
    }
    /* No count of a bucket or a second exceeds that of all requests. */
    uint64_t count = 0;
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        count += fm_load_part_count(&record->parts[i]) + fm_load_part_count(&other->parts[i]);
    }
    if (count > UINT32_MAX) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "two records of load have %llu requests together; one holds %llu",
                            (unsigned long long)count, (unsigned long long)UINT32_MAX);
    }
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        part_merge(&record->parts[i], &other->parts[i]);
    }
    for (uint32_t i = 0; i < record->second_count; i++) {
        second_merge(&record->seconds[i], &other->seconds[i]);
    }
    record->last_sent_ns =
        other->last_sent_ns > record->last_sent_ns ? other->last_sent_ns : record->last_sent_ns;
    record->client_cpu_s += other->client_cpu_s;
    record->client_cpus_max += other->client_cpus_max;
    return 0;
}

uint64_t fm_load_part_count(const struct fm_load_part *part)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        count += part->outcomes[i];
    }
    return count;
}

void fm_load_record_rates(const struct fm_load_record *record, struct fm_load_rates *ret_rates)
{
    const struct fm_load_part *part = &record->parts[FM_LOAD_MEASURED];
    double seconds = (double)record->windows.measured_ns / (double)NS_PER_S;
    uint64_t count = fm_load_part_count(part);
    *ret_rates = (struct fm_load_rates){
        .intended_hz = (double)count / seconds,
        .sent_hz = (double)(count - part->outcomes[FM_LOAD_CAPPED]) / seconds,
        .ok_hz = (double)part->outcomes[FM_LOAD_OK] / seconds,
        .good_hz = (double)part->good / seconds,
    };
}

uint64_t fm_load_second_quantile_ns(const struct fm_load_second *second, uint32_t permille)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < FM_LOAD_SECOND_BUCKETS; i++) {
        count += second->buckets[i];
    }
    uint64_t rank = (count * permille + 999) / 1000; /* from 1 */
    rank = rank > 0 ? rank : 1;
    uint64_t before = 0;
    for (uint32_t i = 0; i < FM_LOAD_SECOND_BUCKETS; i++) {
        uint64_t here = second->buckets[i];
        if (here > 0 && before + here >= rank) {
            uint64_t low_ns = fm_log_histogram_edge_ns(i * FM_LOAD_SECOND_WIDTH);
            uint64_t high_ns = fm_log_histogram_edge_ns((i + 1) * FM_LOAD_SECOND_WIDTH);
            double share = (double)(rank - before) / (double)here;
            return low_ns + (uint64_t)((double)(high_ns - low_ns) * share);
        }
        before += here;
    }
    return 0;
}

/* --- The summary --- */

/* How fast requests were sent: over the measured window, or longer where the last of its requests
 * was sent behind its end. */
static double achieved_hz(const struct fm_load_record *record)
{
    const struct fm_load_windows *windows = &record->windows;
    uint64_t end_ns = windows->warmup_ns + windows->measured_ns;
    end_ns = record->last_sent_ns > end_ns ? record->last_sent_ns : end_ns;
    return (double)record->parts[FM_LOAD_MEASURED].lag.count * (double)NS_PER_S /
           (double)(end_ns - windows->warmup_ns);
}

void fm_load_record_summarize(const struct fm_load_record *record, double rate_hz, double gap_cv,
                              struct fm_verdict_second *seconds, size_t second_max,
                              struct fm_verdict_summary *ret_summary)
{
    const struct fm_load_part *part = &record->parts[FM_LOAD_MEASURED];
    const struct fm_load_windows *windows = &record->windows;
    uint64_t intended = fm_load_part_count(part);
    size_t first = (size_t)((windows->warmup_ns + NS_PER_S - 1) / NS_PER_S);
    size_t end = (size_t)((windows->warmup_ns + windows->measured_ns) / NS_PER_S);
    *ret_summary = (struct fm_verdict_summary){
        .intended = intended,
        .sent = part->lag.count,
        .completed = part->outcomes[FM_LOAD_OK],
        .errors = {[FM_VERDICT_ERROR_TIMEOUT] = part->outcomes[FM_LOAD_TIMEOUT],
                   [FM_VERDICT_ERROR_CONNECTION] = part->outcomes[FM_LOAD_LOST],
                   [FM_VERDICT_ERROR_STATUS] = part->outcomes[FM_LOAD_REFUSED] +
                                               part->outcomes[FM_LOAD_OVERLOADED] +
                                               part->outcomes[FM_LOAD_FAILED],
                   [FM_VERDICT_ERROR_ANSWER] = part->outcomes[FM_LOAD_WRONG_ANSWER]},
        .dropped = part->outcomes[FM_LOAD_CAPPED],
        .late = intended - part->good,
        .duration_ns = windows->measured_ns,
        .rate_hz = rate_hz,
        .achieved_hz = achieved_hz(record),
        .gap_cv = gap_cv,
        .lag_p99_ns = (uint64_t)fm_fine_histogram_quantile_ns(&part->lag, 0.99),
        .slo_ns = record->slo_ns,
        .client_cpus = record->client_cpus_max > 0
                           ? record->client_cpu_s * (double)NS_PER_S / (double)windows->measured_ns
                           : -1,
        .client_cpus_max = record->client_cpus_max,
        .seconds = seconds};
    for (size_t i = first; i < end && ret_summary->second_count < second_max; i++) {
        seconds[ret_summary->second_count++] =
            (struct fm_verdict_second){.completed = record->seconds[i].done,
                                       .latency_sum_ns = record->seconds[i].response_sum_ns};
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

static void part_write(struct fm_json_writer *json, const struct fm_load_part *part)
{
    fm_json_object_begin(json);
    fm_json_member_uint(json, "intended", fm_load_part_count(part));
    fm_json_member_uint(json, "sent", part->lag.count);
    fm_json_member_uint(json, "good", part->good);
    fm_json_key(json, "outcomes");
    fm_json_object_begin(json);
    for (unsigned i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        fm_json_member_uint(json, outcome_names[i], part->outcomes[i]);
    }
    fm_json_object_end(json);
    histogram_write(json, "response", &part->response);
    histogram_write(json, "service", &part->service);
    histogram_write(json, "first_byte", &part->first_byte);
    histogram_write(json, "lag", &part->lag);
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
        fm_json_member_uint(json, "sent", second->sent);
        fm_json_member_uint(json, "ok", second->done);
        fm_json_member_uint(json, "failed", second->failed);
        fm_json_member_number(json, "response_p50_ms",
                              (double)fm_load_second_quantile_ns(second, 500) / NS_PER_MS);
        fm_json_member_number(json, "response_p99_ms",
                              (double)fm_load_second_quantile_ns(second, 990) / NS_PER_MS);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

static void seconds_member(struct fm_json_writer *json, const char *key, uint64_t ns)
{
    fm_json_member_number(json, key, (double)ns / (double)NS_PER_S);
}

void fm_load_record_write(const struct fm_load_record *record, struct fm_text *text)
{
    struct fm_load_rates rates;
    struct fm_json_writer json;
    fm_load_record_rates(record, &rates);
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "schema", "fermata.load/1");
    seconds_member(&json, "warmup_s", record->windows.warmup_ns);
    seconds_member(&json, "measured_s", record->windows.measured_ns);
    seconds_member(&json, "drain_s", record->windows.drain_ns);
    seconds_member(&json, "timeout_s", record->timeout_ns);
    fm_json_key(&json, "slo_ms");
    if (record->slo_ns > 0) {
        fm_json_number(&json, (double)record->slo_ns / NS_PER_MS);
    } else {
        fm_json_null(&json);
    }
    fm_json_member_number(&json, "intended_hz", rates.intended_hz);
    fm_json_member_number(&json, "achieved_hz", achieved_hz(record));
    fm_json_member_number(&json, "ok_hz", rates.ok_hz);
    fm_json_member_number(&json, "goodput_hz", rates.good_hz);
    fm_json_member_number(&json, "client_cpu_s", record->client_cpu_s);
    fm_json_member_number(&json, "client_cpus_max", record->client_cpus_max);
    fm_json_key(&json, "parts");
    fm_json_object_begin(&json);
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        fm_json_key(&json, fm_load_phase_name((enum fm_load_phase)i));
        part_write(&json, &record->parts[i]);
    }
    fm_json_object_end(&json);
    seconds_write(&json, record);
    fm_json_object_end(&json);
}
