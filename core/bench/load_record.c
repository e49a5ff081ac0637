/*
 * What came of a run of load. See load_record.h. Pure.
 */
#include "core/bench/load_record.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"

#define NS_PER_S UINT64_C(1000000000)

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

    part->outcomes[request->outcome]++;
    second->intended++;
    second->sent += sent ? 1 : 0;
    second->done += ok ? 1 : 0;
    second->failed += ok ? 0 : 1;
    if (sent) {
        fm_log_histogram_add(&part->lag, since(request->sent_ns, request->intended_ns));
    }
    if (!timed) {
        return;
    }
    uint64_t response_ns = ok ? since(request->done_ns, request->intended_ns) : record->timeout_ns;
    fm_log_histogram_add(&part->response, response_ns);
    fm_log_histogram_add(&part->service, since(request->done_ns, request->sent_ns));
    second->buckets[fm_log_histogram_index(response_ns) / FM_LOAD_SECOND_WIDTH]++;
    if (ok && request->first_byte_ns != 0) {
        fm_log_histogram_add(&part->first_byte, since(request->first_byte_ns, request->sent_ns));
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
    fm_log_histogram_merge(&part->response, &other->response);
    fm_log_histogram_merge(&part->service, &other->service);
    fm_log_histogram_merge(&part->first_byte, &other->first_byte);
    fm_log_histogram_merge(&part->lag, &other->lag);
}

static void second_merge(struct fm_load_second *second, const struct fm_load_second *other)
{
    second->intended += other->intended;
    second->sent += other->sent;
    second->done += other->done;
    second->failed += other->failed;
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
