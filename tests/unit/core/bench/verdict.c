/*
 * verdict: every reason comes exactly when it should, in words, in a fixed order.
 */
#include "core/bench/verdict.h"

#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)
#define MS     UINT64_C(1000000)

enum { SECONDS = 20 };

static struct fm_verdict_second seconds[SECONDS];
static struct fm_verdict_summary summary;
static struct fm_verdict_limits limits;
static struct fm_verdict verdict;

/* A run that nothing is to be said against: 20 s at 1,000 per second, 10 ms each. */
static void begin(void)
{
    fm_verdict_limits_default(&limits);
    for (size_t i = 0; i < SECONDS; i++) {
        seconds[i] = (struct fm_verdict_second){1000, 1000 * 10 * MS};
    }
    summary = (struct fm_verdict_summary){
        .intended = 20000,
        .sent = 20000,
        .completed = 20000,
        .duration_ns = 20 * SECOND,
        .rate_hz = 1000,
        .achieved_hz = 1000,
        .lag_p99_ns = 100000,
        .slo_ns = 5 * MS,
        .client_cpus = 0.5,
        .client_cpus_max = 1,
        .seconds = seconds,
        .second_count = SECONDS,
    };
}

static bool valid(void)
{
    fm_verdict_judge(&summary, &limits, &verdict);
    return verdict.valid && verdict.reason_count == 0;
}

/* The text of the only reason; "" when there is none, or others. */
static const char *reason(enum fm_verdict_kind kind)
{
    fm_verdict_judge(&summary, &limits, &verdict);
    return !verdict.valid && verdict.reason_count == 1 && verdict.reasons[0].kind == kind
               ? verdict.reasons[0].text
               : "";
}

TEST(nothing_to_be_said)
{
    begin();
    CHECK(valid());
    struct fm_text text = {0};
    fm_verdict_print(&verdict, &text);
    CHECK_STR_EQ(text.data, "VALID\n");
    fm_text_deinit(&text);
}

TEST(outcomes_add_up)
{
    begin();
    summary.completed = 19999;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_ACCOUNT), "1 of 20000 requests have no outcome");
    summary.errors[FM_VERDICT_ERROR_TIMEOUT] = 1;
    CHECK(valid());
    summary.errors[FM_VERDICT_ERROR_TIMEOUT] = 2;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_ACCOUNT), "20001 outcomes of 20000 requests");
    begin();
    summary.sent = 19999;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_ACCOUNT), "of which 19999 were sent, do not add up");
    summary.completed = 19999;
    summary.dropped = 1;
    CHECK(valid());
}

TEST(nothing_was_answered)
{
    begin();
    limits.count_min = 0;
    limits.errors_max = -1;
    summary.completed = 0;
    summary.errors[FM_VERDICT_ERROR_CONNECTION] = 20000;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_COMPLETED), "none of 20000 requests was answered");
    begin();
    summary.intended = summary.sent = summary.completed = 0;
    summary.rate_hz = 0;
    limits.count_min = 0;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_COMPLETED), "none of 0 requests");
}

TEST(long_enough)
{
    begin();
    limits.duration_min_ns = summary.duration_ns;
    CHECK(valid());
    limits.duration_min_ns++;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_DURATION), "measured for 20.000 s, the least is 20.000 s");
    limits.duration_min_ns = 60 * SECOND;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_DURATION), "measure 40.000 s longer");
    limits.duration_min_ns = 0;
    CHECK(valid());
}

TEST(requests_enough)
{
    begin();
    limits.count_min = 20000;
    CHECK(valid());
    limits.count_min = 20001;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_COUNT),
                       "20000 requests were answered, the least is 20001");
    CHECK_STR_CONTAINS(verdict.reasons[0].text, "until 1 more");
}

TEST(rate_as_configured)
{
    begin();
    summary.achieved_hz = 990.5;
    CHECK(valid());
    summary.achieved_hz = 989;
    CHECK_STR_CONTAINS(
        reason(FM_VERDICT_RATE),
        "989 requests/s were sent, 1000 were configured: 1.10 % too few, the most is "
        "1.00 %; give the client more threads");
    summary.achieved_hz = 1009.5;
    CHECK(valid());
    summary.achieved_hz = 1011;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_RATE), "1.10 % too many");
    /* Poisson: 20,000 gaps add up to their sum give or take 3.29 / sqrt(20,000). */
    summary.gap_cv = 1;
    summary.achieved_hz = 977;
    CHECK(valid());
    summary.achieved_hz = 976;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_RATE), "2.40 % too few, the most is 2.33 %");
    summary.rate_hz = 0; /* closed loop */
    CHECK(valid());
    summary.rate_hz = 1000;
    limits.rate_error_max = -1;
    CHECK(valid());
}

TEST(lag_within_a_millisecond_or_a_tenth_of_the_slo)
{
    begin();
    summary.lag_p99_ns = MS;
    CHECK(valid());
    summary.lag_p99_ns = MS + 1000;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_LAG), "1.001 ms or more after their time, the most is "
                                               "1.000 ms");
    summary.slo_ns = 50 * MS;
    CHECK(valid());
    summary.lag_p99_ns = 5 * MS;
    CHECK(valid());
    summary.lag_p99_ns = 5 * MS + 1;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_LAG), "the most is 5.000 ms");
    limits.lag_slo_share = -1;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_LAG), "the most is 1.000 ms");
    limits.lag_p99_max_ns = 0;
    CHECK(valid());
}

TEST(client_has_cpu_left)
{
    begin();
    summary.client_cpus_max = 2;
    summary.client_cpus = 1.6;
    CHECK(valid());
    summary.client_cpus = 1.7;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_CLIENT_CPU),
                       "used 1.70 of the 2 CPUs it may use (85 %), the most is 80 %");
    limits.client_cpu_max = -1;
    CHECK(valid());
    limits.client_cpu_max = 0.8;
    summary.client_cpus = -1; /* not measured */
    CHECK(valid());
    summary.client_cpus = 1;
    summary.client_cpus_max = 0;
    CHECK(valid());
}

TEST(few_are_dropped)
{
    begin();
    summary.dropped = 20;
    summary.completed = 19980;
    CHECK(valid());
    summary.dropped = 21;
    summary.completed = 19979;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_DROPPED),
                       "21 of 20000 requests (0.105 %) were not sent, because as many as may be "
                       "were in flight; the most is 0.1 %; raise the cap");
    limits.dropped_max = -1;
    CHECK(valid());
}

TEST(few_fail)
{
    begin();
    summary.errors[FM_VERDICT_ERROR_STATUS] = 15;
    summary.errors[FM_VERDICT_ERROR_ANSWER] = 5;
    summary.completed = 19980;
    CHECK(valid());
    summary.errors[FM_VERDICT_ERROR_TIMEOUT] = 2;
    summary.errors[FM_VERDICT_ERROR_CONNECTION] = 3;
    summary.completed = 19975;
    CHECK_STR_EQ(
        reason(FM_VERDICT_ERRORS),
        "25 of 20000 requests (0.125 %) failed: 2 timed out, 3 lost their connection, 15 "
        "were answered with an error, 5 got a wrong answer; the most is 0.1 %; look at the "
        "target's log, or lower the rate");
    limits.errors_max = 0;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_ERRORS), "the most is 0 %");
    limits.errors_max = -1;
    CHECK(valid());
    limits.errors_max = 0;
    begin();
    CHECK(valid());
}

TEST(longest_text_fits)
{
    begin();
    summary.intended = summary.sent = UINT64_MAX / 2;
    summary.completed = 0;
    for (size_t i = 0; i < FM_VERDICT_ERROR_COUNT_; i++) {
        summary.errors[i] = UINT64_MAX / 8;
    }
    fm_verdict_judge(&summary, &limits, &verdict);
    for (uint32_t i = 0; i < verdict.reason_count; i++) {
        CHECK(strlen(verdict.reasons[i].text) < FM_VERDICT_TEXT_SIZE - 1);
    }
}

TEST(throughput_is_stable)
{
    begin();
    for (size_t i = 0; i < 8; i++) {
        seconds[i] = (struct fm_verdict_second){0}; /* the first two fifths do not count */
    }
    CHECK(valid());
    for (size_t i = 8; i < 12; i++) {
        seconds[i] = (struct fm_verdict_second){910, 910 * 10 * MS};
    }
    CHECK(valid());
    for (size_t i = 8; i < 12; i++) {
        seconds[i] = (struct fm_verdict_second){900, 900 * 10 * MS};
    }
    CHECK_STR_CONTAINS(reason(FM_VERDICT_THROUGHPUT),
                       "from 900 to 1000 requests/s in the last three fifths of the run, the most "
                       "is 10 %");
    limits.throughput_spread_max = -1;
    CHECK(valid());
}

/* 10 a second: 40 in a fifth, of which chance makes 23 to 55. */
TEST(chance_is_not_instability)
{
    begin();
    for (size_t i = 0; i < SECONDS; i++) {
        uint64_t completed = i < 12 ? 8 : i < 16 ? 10 : 12;
        seconds[i] = (struct fm_verdict_second){completed, completed * 10 * MS};
    }
    CHECK(valid());
    for (size_t i = 16; i < SECONDS; i++) {
        seconds[i] = (struct fm_verdict_second){20, 20 * 10 * MS};
    }
    CHECK_STR_CONTAINS(reason(FM_VERDICT_THROUGHPUT), "from 8 to 20 requests/s");
}

/* Latency that grows with the run, as over capacity: neighbouring seconds differ by 6 % only. */
TEST(latency_is_stable)
{
    begin();
    for (size_t i = 0; i < SECONDS; i++) {
        seconds[i].latency_sum_ns = 1000 * (i + 1) * 10 * MS;
    }
    CHECK_STR_CONTAINS(reason(FM_VERDICT_LATENCY),
                       "means from 105.000 to 185.000 ms in the last three fifths of the run");
    limits.latency_spread_max = 0.77;
    CHECK(valid());
    limits.latency_spread_max = 0.76;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_LATENCY), "the most is 76 %");
    limits.latency_spread_max = -1;
    CHECK(valid());
    limits.latency_spread_max = 0.1;
    summary.second_count = 4; /* too short to have fifths */
    CHECK(valid());
    begin();
    for (size_t i = 8; i < SECONDS; i++) {
        seconds[i] = (struct fm_verdict_second){0}; /* nothing ended: no mean */
    }
    CHECK(valid());
}

TEST(late_ones_prove_the_slo)
{
    begin();
    limits.early_stopping = true;
    summary.late = 167;
    CHECK(valid());
    summary.late = 200;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_EARLY_STOPPING),
                       "200 of 20000 requests were over 5.000 ms: that does not prove the 99th "
                       "percentile with confidence 0.99; so many late ones need 23");
    CHECK_STR_CONTAINS(verdict.reasons[0].text, " more if none of them is late");
    summary.slo_ns = 0;
    CHECK(valid());
    summary.slo_ns = 5 * MS;
    limits.early_stopping = false;
    CHECK(valid());
    limits.early_stopping = true;
    summary.late = UINT64_MAX;
    CHECK_STR_CONTAINS(reason(FM_VERDICT_EARLY_STOPPING), "need more than can be counted");
}

TEST(all_reasons_in_their_order)
{
    begin();
    limits.early_stopping = true;
    limits.dropped_max = 0;
    summary.intended = 100;
    summary.sent = 90;
    summary.completed = 0;
    summary.dropped = 10;
    summary.errors[FM_VERDICT_ERROR_TIMEOUT] = 80;
    summary.late = 100;
    summary.duration_ns = SECOND;
    summary.achieved_hz = 90;
    summary.lag_p99_ns = SECOND;
    summary.client_cpus = 1;
    for (size_t i = 0; i < SECONDS; i++) {
        seconds[i] = (struct fm_verdict_second){i * 1000, i * i * 1000 * MS};
    }
    fm_verdict_judge(&summary, &limits, &verdict);
    CHECK_UINT_EQ(verdict.reason_count, FM_VERDICT_KIND_COUNT_);
    struct fm_text text = {0};
    fm_verdict_print(&verdict, &text);
    CHECK(strncmp(text.data, "INVALID\n  account: 10 of 100", 28) == 0);
    const char *at = text.data;
    for (unsigned i = 0; i < FM_VERDICT_KIND_COUNT_; i++) {
        char label[32];
        CHECK_INT_EQ(verdict.reasons[i].kind, i);
        (void)snprintf(label, sizeof label,
                       "\n  %s: ", fm_verdict_kind_name((enum fm_verdict_kind)i));
        const char *found = strstr(at, label);
        CHECK(found != NULL);
        at = found + 1;
    }
    CHECK(strchr(strchr(at, '\n') + 1, '\n') == NULL);
    fm_text_deinit(&text);
    CHECK_STR_EQ(fm_verdict_kind_name(FM_VERDICT_KIND_COUNT_), "unknown");
    begin();
    CHECK(valid()); /* nothing is left of the one before */
}

TEST_MAIN()
