/*
 * Records of load: what counts where, response against service time, merging, outcomes.
 */
#include "core/bench/load_record.h"

#include "core/proto/json.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

static const struct fm_load_windows windows = {
    .warmup_ns = S, .measured_ns = 10 * S, .drain_ns = S / 2};

static struct fm_load_record *make(uint64_t slo_ns)
{
    struct fm_load_record *record = NULL;
    return fm_load_record_create(&windows, 2 * S, slo_ns, &record, NULL) == 0 ? record : NULL;
}

static void add(struct fm_load_record *record, enum fm_load_outcome outcome, uint64_t intended_ns,
                uint64_t lag_ns, uint64_t service_ns)
{
    struct fm_load_request request = {
        .intended_ns = intended_ns,
        .sent_ns = intended_ns + lag_ns,
        .first_byte_ns = intended_ns + lag_ns + service_ns / 2,
        .done_ns = intended_ns + lag_ns + service_ns,
        .outcome = outcome,
    };
    fm_load_record_add(record, &request);
}

TEST(a_request_counts_where_it_was_intended)
{
    struct fm_load_record *record = make(0);
    CHECK(record != NULL);
    CHECK_UINT_EQ(record->second_count, 12);
    add(record, FM_LOAD_OK, S - 1, 0, 5 * S); /* ends in the window, belongs to the warm-up */
    add(record, FM_LOAD_OK, S, 0, MS);
    add(record, FM_LOAD_OK, 11 * S - 1, 0, 3 * S); /* ends behind the run */
    add(record, FM_LOAD_OK, 11 * S, 0, MS);
    add(record, FM_LOAD_OK, 99 * S, 0, MS); /* a closed loop's last one, sent late */
    CHECK_UINT_EQ(fm_load_part_count(&record->parts[FM_LOAD_WARMUP]), 1);
    CHECK_UINT_EQ(fm_load_part_count(&record->parts[FM_LOAD_MEASURED]), 2);
    CHECK_UINT_EQ(fm_load_part_count(&record->parts[FM_LOAD_DRAIN]), 2);
    CHECK_UINT_EQ(record->parts[FM_LOAD_MEASURED].response.max_ns, 3 * S);
    CHECK_UINT_EQ(record->seconds[0].intended, 1);
    CHECK_UINT_EQ(record->seconds[10].done, 1);
    CHECK_UINT_EQ(record->seconds[11].intended, 2);
    fm_load_record_destroy(record);
}

TEST(times_run_from_where_they_should)
{
    struct fm_load_record *record = make(30 * MS);
    CHECK(record != NULL);
    add(record, FM_LOAD_OK, 2 * S, 10 * MS, 20 * MS); /* just within the SLO */
    add(record, FM_LOAD_OK, 2 * S, 11 * MS, 20 * MS); /* the lag is what makes it miss */
    const struct fm_load_part *part = &record->parts[FM_LOAD_MEASURED];
    CHECK_UINT_EQ(part->response.max_ns, 31 * MS);
    CHECK_NEAR(part->response.sum_ns, 61e6, 0.5);
    CHECK_NEAR(part->service.sum_ns, 40e6, 0.5);
    CHECK_NEAR(part->first_byte.sum_ns, 20e6, 0.5);
    CHECK_NEAR(part->lag.sum_ns, 21e6, 0.5);
    CHECK_UINT_EQ(part->good, 1);
    fm_load_record_destroy(record);
}

TEST(failures_are_counted_and_only_timeouts_have_times)
{
    struct fm_load_record *record = make(0);
    CHECK(record != NULL);
    for (int i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        add(record, (enum fm_load_outcome)i, 2 * S, i == FM_LOAD_TIMEOUT ? S : MS, S);
    }
    const struct fm_load_part *part = &record->parts[FM_LOAD_MEASURED];
    for (int i = 0; i < FM_LOAD_OUTCOME_COUNT_; i++) {
        CHECK_UINT_EQ(part->outcomes[i], 1);
    }
    CHECK_UINT_EQ(part->response.count, 2);
    CHECK_UINT_EQ(part->response.max_ns, 3 * S); /* the lag and the timeout */
    CHECK_UINT_EQ(part->service.count, 2);
    CHECK_UINT_EQ(part->first_byte.count, 1);
    CHECK_UINT_EQ(part->lag.count, FM_LOAD_OUTCOME_COUNT_ - 1);
    CHECK_UINT_EQ(part->good, 1);
    CHECK_UINT_EQ(record->seconds[2].intended, FM_LOAD_OUTCOME_COUNT_);
    CHECK_UINT_EQ(record->seconds[2].sent, FM_LOAD_OUTCOME_COUNT_ - 1);
    CHECK_UINT_EQ(record->seconds[2].done, 1);
    CHECK_UINT_EQ(record->seconds[2].failed, FM_LOAD_OUTCOME_COUNT_ - 1);
    struct fm_load_rates rates;
    fm_load_record_rates(record, &rates);
    CHECK_NEAR(rates.intended_hz, 0.8, 1e-12);
    CHECK_NEAR(rates.sent_hz, 0.7, 1e-12);
    CHECK_NEAR(rates.ok_hz, 0.1, 1e-12);
    CHECK_NEAR(rates.good_hz, 0.1, 1e-12);
    fm_load_record_destroy(record);
}

/* A server that answers in 1 ms, one at a time, and stalls from 5 s to 6 s: 100 requests a second
 * on a schedule see it in p99, the one client that waits for each answer sees it once in 9,000. */
TEST(a_stall_shows_on_a_schedule_and_hides_from_one_who_waits)
{
    struct fm_load_record *open = make(0);
    struct fm_load_record *closed = make(0);
    CHECK(open != NULL && closed != NULL);
    uint64_t free_ns = 0;
    for (uint64_t at_ns = 0; at_ns < 11 * S; at_ns += 10 * MS) {
        uint64_t start_ns = at_ns > free_ns ? at_ns : free_ns;
        start_ns = start_ns >= 5 * S && start_ns < 6 * S ? 6 * S : start_ns;
        free_ns = start_ns + MS;
        add(open, FM_LOAD_OK, at_ns, 0, free_ns - at_ns);
    }
    for (uint64_t at_ns = 0; at_ns < 11 * S; at_ns = free_ns) {
        free_ns = (at_ns >= 5 * S && at_ns < 6 * S ? 6 * S : at_ns) + MS;
        add(closed, FM_LOAD_OK, at_ns, 0, free_ns - at_ns);
    }
    const struct fm_load_part *seen = &open->parts[FM_LOAD_MEASURED];
    const struct fm_load_part *hidden = &closed->parts[FM_LOAD_MEASURED];
    CHECK_UINT_EQ(seen->response.count, 1000);
    /* The tenth slowest of those that waited 1,001 ms, 992 ms, ... */
    CHECK_NEAR(fm_fine_histogram_quantile_ns(&seen->response, 0.99), 911e6, 9.1e6);
    CHECK_NEAR(fm_fine_histogram_quantile_ns(&seen->response, 0.5), 1e6, 0.004e6);
    CHECK(fm_fine_histogram_quantile_ns(&hidden->service, 0.99) < 2 * MS);
    CHECK_UINT_EQ(hidden->service.max_ns, 1001 * MS);
    CHECK(fm_load_second_quantile_ns(&open->seconds[5], 990) > 850 * MS);
    CHECK(fm_load_second_quantile_ns(&open->seconds[4], 990) < 2 * MS);
    fm_load_record_destroy(open);
    fm_load_record_destroy(closed);
}

/* Sums of squares are rounded, each in its order: alike, and then the same. */
static void squares_compare(struct fm_fine_histogram *merged, const struct fm_fine_histogram *all)
{
    CHECK_NEAR(merged->squares_ns2, all->squares_ns2, all->squares_ns2 * 1e-12);
    merged->squares_ns2 = all->squares_ns2;
}

TEST(merged_is_as_if_one_had_counted)
{
    struct fm_load_record *all = make(15 * MS);
    struct fm_load_record *parts[2] = {make(15 * MS), make(15 * MS)};
    CHECK(all != NULL && parts[0] != NULL && parts[1] != NULL);
    for (uint64_t i = 0; i < 5000; i++) {
        enum fm_load_outcome outcome = (enum fm_load_outcome)(i % 11 % FM_LOAD_OUTCOME_COUNT_);
        uint64_t at_ns = i * 2300000;
        uint64_t service_ns = MS + i * i % 40 * MS;
        add(all, outcome, at_ns, i % 7 * 1000, service_ns);
        add(parts[i % 3 == 0], outcome, at_ns, i % 7 * 1000, service_ns);
    }
    CHECK_INT_EQ(fm_load_record_merge(parts[0], parts[1], NULL), 0);
    for (unsigned i = 0; i < FM_LOAD_PHASE_COUNT_; i++) {
        squares_compare(&parts[0]->parts[i].response, &all->parts[i].response);
        squares_compare(&parts[0]->parts[i].service, &all->parts[i].service);
        squares_compare(&parts[0]->parts[i].first_byte, &all->parts[i].first_byte);
        squares_compare(&parts[0]->parts[i].lag, &all->parts[i].lag);
    }
    CHECK_MEM_EQ(parts[0], all, sizeof *all + all->second_count * sizeof all->seconds[0]);
    fm_load_record_destroy(all);
    fm_load_record_destroy(parts[0]);
    fm_load_record_destroy(parts[1]);
}

/* A steady run is summarized as what went in, which a verdict believes; and its JSON is one. */
TEST(a_steady_run_is_summarized_and_written)
{
    struct fm_load_record *record = make(50 * MS);
    struct fm_verdict_second seconds[12];
    struct fm_verdict_summary summary;
    struct fm_verdict_limits limits;
    struct fm_verdict verdict;
    CHECK(record != NULL);
    for (uint64_t at_ns = 0; at_ns < 11 * S; at_ns += 10 * MS) {
        add(record, FM_LOAD_OK, at_ns, 20000, at_ns % (200 * MS) == 0 ? 80 * MS : 5 * MS);
    }
    fm_load_record_summarize(record, 100, 0, seconds, 12, &summary);
    CHECK(summary.client_cpus < 0);
    record->client_cpu_s = 2;
    record->client_cpus_max = 1;
    fm_load_record_summarize(record, 100, 0, seconds, 12, &summary);
    CHECK_UINT_EQ(summary.intended, 1000);
    CHECK_UINT_EQ(summary.completed, 1000);
    CHECK_UINT_EQ(summary.late, 50);
    CHECK_NEAR(summary.achieved_hz, 100, 0.01);
    CHECK_NEAR(summary.client_cpus, 0.2, 1e-9);
    CHECK_NEAR((double)summary.lag_p99_ns, 20000, 100);
    CHECK_UINT_EQ(summary.second_count, 10);
    CHECK_UINT_EQ(seconds[9].completed, 100);
    CHECK_UINT_EQ(seconds[9].latency_sum_ns, 95 * 5 * MS + 5 * 80 * MS + 100 * 20000);
    fm_verdict_limits_default(&limits);
    fm_verdict_judge(&summary, &limits, &verdict);
    CHECK(verdict.valid);
    fm_load_record_summarize(record, 100, 0, seconds, 3, &summary);
    CHECK_UINT_EQ(summary.second_count, 3);

    struct fm_text text = {0};
    struct fm_json_reader reader;
    fm_load_record_write(record, &text);
    CHECK(!text.failed);
    fm_json_reader_init(&reader, text.data, text.length);
    CHECK_INT_EQ(fm_json_skip(&reader), 0);
    CHECK_INT_EQ(fm_json_next(&reader), FM_JSON_END);
    CHECK_STR_CONTAINS(text.data, "\"schema\":\"fermata.load/1\"");
    CHECK_STR_CONTAINS(text.data, "\"slo_ms\":50");
    CHECK_STR_CONTAINS(text.data, "\"goodput_hz\":95");
    CHECK_STR_CONTAINS(text.data, "\"p99_9_ms\":");
    fm_text_deinit(&text);
    fm_load_record_destroy(record);
}

/* What was sent late makes the time longer over which it was sent. */
TEST(a_generator_that_cannot_keep_up_has_a_lower_rate)
{
    struct fm_load_record *record = make(0);
    struct fm_verdict_second seconds[12];
    struct fm_verdict_summary summary;
    CHECK(record != NULL);
    for (uint64_t i = 0; i < 1000; i++) {
        add(record, FM_LOAD_OK, S + i * 10 * MS, i * 10 * MS, MS); /* at half of the rate */
    }
    fm_load_record_summarize(record, 100, 0, seconds, 12, &summary);
    CHECK_NEAR(summary.achieved_hz, 50, 0.1);
    fm_load_record_destroy(record);
}

TEST(what_does_not_belong_together_is_not_merged)
{
    struct fm_load_record *record = make(0);
    struct fm_load_record *other = make(MS);
    CHECK(record != NULL && other != NULL);
    add(other, FM_LOAD_OK, 0, 0, MS);
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_load_record_merge(record, other, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "SLO");
    other->slo_ns = 0;
    other->timeout_ns++;
    CHECK_INT_EQ(fm_load_record_merge(record, other, NULL), FM_EINVAL);
    other->timeout_ns--;
    other->windows.drain_ns--;
    CHECK_INT_EQ(fm_load_record_merge(record, other, NULL), FM_EINVAL);
    other->windows.drain_ns++;
    other->parts[FM_LOAD_MEASURED].outcomes[FM_LOAD_LOST] = UINT32_MAX;
    CHECK_INT_EQ(fm_load_record_merge(record, other, &error), FM_ELIMIT);
    CHECK_UINT_EQ(fm_load_part_count(&record->parts[FM_LOAD_WARMUP]), 0);
    fm_load_record_destroy(record);
    fm_load_record_destroy(other);
}

TEST(a_record_needs_a_window_a_timeout_and_memory)
{
    struct fm_load_record *record = NULL;
    struct fm_error error = {0};
    struct fm_load_windows none = {0};
    CHECK_INT_EQ(fm_load_record_create(&none, S, 0, &record, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "measured_ns");
    CHECK_INT_EQ(fm_load_record_create(&windows, 0, 0, &record, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "timeout_ns");
    fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_load_record_create(&windows, S, 0, &record, &error), FM_ENOMEM);
    fm_memory_fail_at(0, 0);
    CHECK(record == NULL);
    static const struct fm_load_second empty;
    CHECK_UINT_EQ(fm_load_second_quantile_ns(&empty, 990), 0);
}

TEST(statuses_have_outcomes)
{
    CHECK_INT_EQ(fm_load_outcome_from_http(200), FM_LOAD_OK);
    CHECK_INT_EQ(fm_load_outcome_from_http(302), FM_LOAD_WRONG_ANSWER);
    CHECK_INT_EQ(fm_load_outcome_from_http(404), FM_LOAD_REFUSED);
    CHECK_INT_EQ(fm_load_outcome_from_http(429), FM_LOAD_OVERLOADED);
    CHECK_INT_EQ(fm_load_outcome_from_http(503), FM_LOAD_OVERLOADED);
    CHECK_INT_EQ(fm_load_outcome_from_http(504), FM_LOAD_TIMEOUT);
    CHECK_INT_EQ(fm_load_outcome_from_http(500), FM_LOAD_FAILED);
    CHECK_INT_EQ(fm_load_outcome_from_http(999), FM_LOAD_WRONG_ANSWER);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(0), FM_LOAD_OK);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(3), FM_LOAD_REFUSED);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(4), FM_LOAD_TIMEOUT);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(13), FM_LOAD_FAILED);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(14), FM_LOAD_OVERLOADED);
    CHECK_INT_EQ(fm_load_outcome_from_grpc(17), FM_LOAD_WRONG_ANSWER);
    CHECK_STR_EQ(fm_load_outcome_name(FM_LOAD_CAPPED), "capped");
    CHECK_STR_EQ(fm_load_outcome_name(FM_LOAD_OUTCOME_COUNT_), "unknown");
}

TEST_MAIN()
