/*
 * Tests of core/bench/load_record: who counts where and with what, merging, the summary, JSON.
 */
#include "core/bench/load_record.h"

#include "core/proto/json.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

static const struct fm_load_options options = {
    .warmup_ns = 2 * S, .measure_ns = 10 * S, .slo_ns = 50 * MS, .timeout_ns = 1 * S};

static struct fm_load_record record;

static void add(uint64_t intended_ns, uint64_t lag_ns, uint64_t service_ns,
                enum fm_load_outcome outcome)
{
    const struct fm_load_request request = {.intended_ns = intended_ns,
                                            .sent_ns = intended_ns + lag_ns,
                                            .first_byte_ns = intended_ns + lag_ns + service_ns / 2,
                                            .done_ns = intended_ns + lag_ns + service_ns,
                                            .outcome = outcome};
    CHECK_INT_EQ(fm_load_record_add(&record, &request), 0);
}

TEST(a_request_counts_where_it_was_intended)
{
    CHECK_INT_EQ(fm_load_record_init(&record, &options, NULL), 0);
    add(2 * S - 1, 5 * MS, MS, FM_LOAD_OK);       /* warm-up, although it was sent behind it */
    add(2 * S, 0, MS, FM_LOAD_OK);                /* the first */
    add(12 * S - 1, 3 * S, 100 * MS, FM_LOAD_OK); /* the last, however late */
    add(12 * S, 0, MS, FM_LOAD_OK);               /* a closed loop's */
    CHECK_UINT_EQ(record.phases[FM_LOAD_WARMUP].outcomes[FM_LOAD_OK], 1);
    CHECK_UINT_EQ(record.phases[FM_LOAD_MEASURED].outcomes[FM_LOAD_OK], 2);
    CHECK_UINT_EQ(record.phases[FM_LOAD_DRAIN].outcomes[FM_LOAD_OK], 1);
    const struct fm_load_phase_record *measured = &record.phases[FM_LOAD_MEASURED];
    /* Response time from the intended time; service time, and first byte, from sending. */
    CHECK_UINT_EQ(measured->response.max_ns, 3100 * MS);
    CHECK_UINT_EQ(measured->service.max_ns, 100 * MS);
    CHECK_UINT_EQ(measured->first_byte.max_ns, 50 * MS);
    CHECK_UINT_EQ(measured->lag.max_ns, 3 * S);
    CHECK_UINT_EQ(measured->in_slo, 1);
    CHECK_UINT_EQ(record.seconds[11].intended, 1);
    CHECK_UINT_EQ(record.seconds[15].ended, 1);
    CHECK_UINT_EQ(record.seconds[15].intended, 0);
    CHECK_NEAR(fm_load_record_goodput_hz(&record), 0.1, 1e-9);
    fm_load_record_deinit(&record);
}

TEST(failures_count_as_what_they_are)
{
    CHECK_INT_EQ(fm_load_record_init(&record, &options, NULL), 0);
    add(3 * S, 10 * MS, 1300 * MS, FM_LOAD_TIMEOUT); /* noticed late: counts as the limit */
    add(4 * S, 0, MS, FM_LOAD_CONNECTION);
    add(5 * S, 0, MS, FM_LOAD_REFUSED);
    add(6 * S, 0, MS, FM_LOAD_STATUS);
    add(7 * S, 0, MS, FM_LOAD_ANSWER);
    add(8 * S, 0, 0, FM_LOAD_DROPPED);
    const struct fm_load_phase_record *measured = &record.phases[FM_LOAD_MEASURED];
    CHECK_UINT_EQ(measured->response.count, 1);
    CHECK_UINT_EQ(measured->response.max_ns, 1010 * MS);
    CHECK_UINT_EQ(measured->service.max_ns, 1000 * MS);
    CHECK_UINT_EQ(measured->lag.count, 5);
    CHECK_UINT_EQ(measured->in_slo, 0);
    struct fm_verdict_second seconds[20];
    struct fm_verdict_summary summary;
    fm_load_record_summarize(&record, 100, 1, seconds, 20, &summary);
    CHECK_UINT_EQ(summary.intended, 6);
    CHECK_UINT_EQ(summary.sent, 5);
    CHECK_UINT_EQ(summary.completed, 0);
    CHECK_UINT_EQ(summary.dropped, 1);
    CHECK_UINT_EQ(summary.late, 6);
    CHECK_UINT_EQ(summary.errors[FM_VERDICT_ERROR_TIMEOUT], 1);
    CHECK_UINT_EQ(summary.errors[FM_VERDICT_ERROR_CONNECTION], 1);
    CHECK_UINT_EQ(summary.errors[FM_VERDICT_ERROR_STATUS], 2);
    CHECK_UINT_EQ(summary.errors[FM_VERDICT_ERROR_ANSWER], 1);
    CHECK(summary.client_cpus < 0);
    CHECK_UINT_EQ(summary.second_count, 10);
    CHECK_STR_EQ(fm_load_outcome_name(FM_LOAD_ANSWER), "answer");
    fm_load_record_deinit(&record);
}

/* A steady run is valid, and its summary is what went in. */
TEST(a_steady_run_is_summarized)
{
    struct fm_verdict_second seconds[10];
    struct fm_verdict_summary summary;
    struct fm_verdict_limits limits;
    struct fm_verdict verdict;
    CHECK_INT_EQ(fm_load_record_init(&record, &options, NULL), 0);
    for (uint64_t at = 0; at < 12 * S; at += 10 * MS) {
        add(at, 20000, at % (200 * MS) == 0 ? 80 * MS : 5 * MS, FM_LOAD_OK);
    }
    record.client_cpu_s = 2;
    record.client_cpus_max = 1;
    fm_load_record_summarize(&record, 100, 0, seconds, 10, &summary);
    CHECK_UINT_EQ(summary.intended, 1000);
    CHECK_UINT_EQ(summary.completed, 1000);
    CHECK_UINT_EQ(summary.late, 50);
    CHECK_NEAR(summary.achieved_hz, 100, 0.01);
    CHECK_NEAR(summary.client_cpus, 0.2, 1e-9);
    CHECK_NEAR((double)summary.lag_p99_ns, 20000, 100);
    CHECK_UINT_EQ(summary.second_count, 10);
    CHECK_UINT_EQ(seconds[9].completed, 100);
    fm_verdict_limits_default(&limits);
    fm_verdict_judge(&summary, &limits, &verdict);
    CHECK(verdict.valid);
    fm_load_record_deinit(&record);
}

TEST(merged_records_are_as_one)
{
    struct fm_load_record parts[2];
    struct fm_random random;
    fm_random_init(&random, 5);
    CHECK_INT_EQ(fm_load_record_init(&record, &options, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_INT_EQ(fm_load_record_init(&parts[i], &options, NULL), 0);
        parts[i].client_cpu_s = 1;
        parts[i].client_cpus_max = 1;
    }
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t intended = fm_random_below(&random, 13 * S);
        const struct fm_load_request request = {
            .intended_ns = intended,
            .sent_ns = intended + fm_random_below(&random, MS),
            .done_ns = intended + 2 * MS + fm_random_below(&random, 100 * MS),
            .outcome = (enum fm_load_outcome)fm_random_below(&random, FM_LOAD_OUTCOME_COUNT_)};
        CHECK_INT_EQ(fm_load_record_add(&record, &request), 0);
        CHECK_INT_EQ(fm_load_record_add(&parts[i % 2], &request), 0);
    }
    record.client_cpu_s = 2;
    record.client_cpus_max = 2;
    CHECK_INT_EQ(fm_load_record_merge(&parts[0], &parts[1]), 0);
    struct fm_text one = {0};
    struct fm_text other = {0};
    fm_load_record_write(&record, &one);
    fm_load_record_write(&parts[0], &other);
    CHECK(!one.failed && !other.failed);
    /* Means are sums in another order: they end differently at most. */
    CHECK_UINT_EQ(parts[0].second_count, record.second_count);
    CHECK(memcmp(parts[0].seconds, record.seconds, record.second_count * sizeof(*record.seconds)) ==
          0);
    CHECK(parts[0].last_sent_ns == record.last_sent_ns &&
          parts[0].first_sent_ns == record.first_sent_ns);
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        CHECK(memcmp(parts[0].phases[i].response.buckets, record.phases[i].response.buckets,
                     sizeof(record.phases[i].response.buckets)) == 0);
        CHECK(memcmp(parts[0].phases[i].outcomes, record.phases[i].outcomes,
                     sizeof(record.phases[i].outcomes)) == 0);
    }
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, one.data, one.length);
    CHECK_INT_EQ(fm_json_skip(&reader), 0);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_END);
    CHECK_STR_CONTAINS(one.data, "\"schema\":\"fermata.load/1\"");
    CHECK_STR_CONTAINS(one.data, "\"slo_ms\":50");
    CHECK_STR_CONTAINS(one.data, "\"p99_9_ms\":");
    fm_text_deinit(&one);
    fm_text_deinit(&other);
    for (unsigned i = 0; i < 2; i++) {
        fm_load_record_deinit(&parts[i]);
    }
    fm_load_record_deinit(&record);
}

TEST(impossible_options_are_refused)
{
    struct fm_error error = {0};
    struct fm_load_options wrong[] = {options, options, options, options};
    wrong[0].measure_ns = 0;
    wrong[1].timeout_ns = 0;
    wrong[2].measure_ns = UINT64_MAX;
    wrong[3].warmup_ns = UINT64_MAX;
    for (size_t i = 0; i < 4; i++) {
        CHECK_INT_EQ(fm_load_record_init(&record, &wrong[i], &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "43200 s at the most");
    }
    /* An answer that comes after a day still has a second to count in. */
    CHECK_INT_EQ(fm_load_record_init(&record, &options, NULL), 0);
    add(3 * S, 0, 1000000 * S, FM_LOAD_OK);
    CHECK_UINT_EQ(record.second_count, 24);
    fm_load_record_deinit(&record);
}

TEST_MAIN()
