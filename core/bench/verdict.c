/*
 * The rules of a verdict. See verdict.h. Pure.
 */
#include "core/bench/verdict.h"

#include <math.h>
#include <stdio.h>

#define MS_PER_NS    1e-6
#define S_PER_NS     1e-9
#define FIFTHS       5u
#define FIFTHS_TAKEN 3u
/* Of three counts with one mean, the largest and the smallest are further apart than so many
 * standard deviations once in a thousand. */
#define CHANCE 5.06
/* One count is further than so many from its mean once in a thousand. */
#define CHANCE_OF_ONE 3.29

static const char *const kind_names[FM_VERDICT_KIND_COUNT_] = {
    [FM_VERDICT_ACCOUNT] = "account",
    [FM_VERDICT_COMPLETED] = "completed",
    [FM_VERDICT_DURATION] = "duration",
    [FM_VERDICT_COUNT] = "count",
    [FM_VERDICT_RATE] = "rate",
    [FM_VERDICT_LAG] = "lag",
    [FM_VERDICT_CLIENT_CPU] = "client_cpu",
    [FM_VERDICT_DROPPED] = "dropped",
    [FM_VERDICT_ERRORS] = "errors",
    [FM_VERDICT_THROUGHPUT] = "throughput",
    [FM_VERDICT_LATENCY] = "latency",
    [FM_VERDICT_EARLY_STOPPING] = "early_stopping",
};

static const char *const error_names[FM_VERDICT_ERROR_COUNT_] = {
    [FM_VERDICT_ERROR_TIMEOUT] = "timed out",
    [FM_VERDICT_ERROR_CONNECTION] = "lost their connection",
    [FM_VERDICT_ERROR_STATUS] = "were answered with an error",
    [FM_VERDICT_ERROR_ANSWER] = "got a wrong answer",
};

const char *fm_verdict_kind_name(enum fm_verdict_kind kind)
{
    return (unsigned)kind < FM_VERDICT_KIND_COUNT_ ? kind_names[kind] : "unknown";
}

void fm_verdict_limits_default(struct fm_verdict_limits *ret_limits)
{
    *ret_limits = (struct fm_verdict_limits){
        .duration_min_ns = UINT64_C(10000000000),
        .count_min = 100,
        .rate_error_max = 0.01,
        .lag_p99_max_ns = 1000000,
        .lag_slo_share = 0.1,
        .client_cpu_max = 0.8,
        .dropped_max = 0.001,
        .errors_max = 0.001,
        .throughput_spread_max = 0.1,
        .latency_spread_max = 0.25,
        .rule = {.percentile = 0.99, .confidence = FM_EARLY_STOPPING_CONFIDENCE},
    };
}

struct judge {
    const struct fm_verdict_summary *summary;
    const struct fm_verdict_limits *limits;
    struct fm_verdict *verdict;
};

/* The text of the next reason, which is counted. */
static char *add(struct judge *judge, enum fm_verdict_kind kind)
{
    struct fm_verdict_reason *reason = &judge->verdict->reasons[judge->verdict->reason_count++];
    reason->kind = kind;
    return reason->text;
}

static uint64_t error_sum(const struct fm_verdict_summary *summary)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FM_VERDICT_ERROR_COUNT_; i++) {
        sum += summary->errors[i];
    }
    return sum;
}

static void judge_account(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    uint64_t outcomes = summary->completed + error_sum(summary) + summary->dropped;
    if (outcomes < summary->intended) {
        (void)snprintf(
            add(judge, FM_VERDICT_ACCOUNT), FM_VERDICT_TEXT_SIZE,
            "%llu of %llu requests have no outcome: the run was cut off before they were "
            "answered or timed out; let it drain",
            (unsigned long long)(summary->intended - outcomes),
            (unsigned long long)summary->intended);
    } else if (outcomes > summary->intended || summary->sent + summary->dropped < outcomes) {
        (void)snprintf(
            add(judge, FM_VERDICT_ACCOUNT), FM_VERDICT_TEXT_SIZE,
            "%llu outcomes of %llu requests, of which %llu were sent, do not add up: the "
            "record is damaged; measure again",
            (unsigned long long)outcomes, (unsigned long long)summary->intended,
            (unsigned long long)summary->sent);
    }
}

static void judge_extent(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    const struct fm_verdict_limits *limits = judge->limits;
    if (summary->completed == 0) {
        (void)snprintf(
            add(judge, FM_VERDICT_COMPLETED), FM_VERDICT_TEXT_SIZE,
            "none of %llu requests was answered; see the errors, and try the target with "
            "one request",
            (unsigned long long)summary->intended);
    }
    if (summary->duration_ns < limits->duration_min_ns) {
        (void)snprintf(add(judge, FM_VERDICT_DURATION), FM_VERDICT_TEXT_SIZE,
                       "measured for %.3f s, the least is %.3f s; measure %.3f s longer",
                       (double)summary->duration_ns * S_PER_NS,
                       (double)limits->duration_min_ns * S_PER_NS,
                       (double)(limits->duration_min_ns - summary->duration_ns) * S_PER_NS);
    }
    if (summary->completed < limits->count_min) {
        (void)snprintf(add(judge, FM_VERDICT_COUNT), FM_VERDICT_TEXT_SIZE,
                       "%llu requests were answered, the least is %llu; measure longer, until %llu "
                       "more are",
                       (unsigned long long)summary->completed,
                       (unsigned long long)limits->count_min,
                       (unsigned long long)(limits->count_min - summary->completed));
    }
}

static void judge_rate(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    double limit = judge->limits->rate_error_max;
    double error = summary->rate_hz > 0 ? summary->achieved_hz / summary->rate_hz - 1.0 : 0;
    double chance = CHANCE_OF_ONE * summary->gap_cv / sqrt(fmax((double)summary->intended, 1));
    if (limit < 0 || fabs(error) <= fmax(limit, chance)) {
        return;
    }
    limit = fmax(limit, chance);
    (void)snprintf(add(judge, FM_VERDICT_RATE), FM_VERDICT_TEXT_SIZE,
                   "%.6g requests/s were sent, %.6g were configured: %.2f %% too %s, the most is "
                   "%.2f %%; %s",
                   summary->achieved_hz, summary->rate_hz, fabs(error) * 100,
                   error < 0 ? "few" : "many", limit * 100,
                   error < 0 ? "give the client more threads or connections or a higher cap on "
                               "requests in flight, or lower the rate"
                             : "measure longer: in a short run chance adds requests");
}

static void judge_lag(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    const struct fm_verdict_limits *limits = judge->limits;
    double share_ns =
        limits->lag_slo_share > 0 ? limits->lag_slo_share * (double)summary->slo_ns : 0;
    double limit_ns = fmax((double)limits->lag_p99_max_ns, share_ns);
    if (limits->lag_p99_max_ns == 0 || (double)summary->lag_p99_ns <= limit_ns) {
        return;
    }
    (void)snprintf(
        add(judge, FM_VERDICT_LAG), FM_VERDICT_TEXT_SIZE,
        "the client sent 1 %% of the requests %.3f ms or more after their time, the most "
        "is %.3f ms; give it more threads or a machine of its own, or lower the rate",
        (double)summary->lag_p99_ns * MS_PER_NS, limit_ns * MS_PER_NS);
}

static void judge_client_cpu(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    double limit = judge->limits->client_cpu_max;
    if (limit < 0 || summary->client_cpus < 0 || !(summary->client_cpus_max > 0) ||
        summary->client_cpus <= limit * summary->client_cpus_max) {
        return;
    }
    (void)snprintf(
        add(judge, FM_VERDICT_CLIENT_CPU), FM_VERDICT_TEXT_SIZE,
        "the client used %.2f of the %.4g CPUs it may use (%.0f %%), the most is %.0f %%: "
        "its own queue may be in the latencies; give it more threads or another machine, "
        "or lower the rate",
        summary->client_cpus, summary->client_cpus_max,
        summary->client_cpus / summary->client_cpus_max * 100, limit * 100);
}

/* Whether `count` is more than `limit` of the intended requests. */
static bool exceeds(const struct judge *judge, uint64_t count, double limit)
{
    return limit >= 0 && (double)count > limit * (double)judge->summary->intended;
}

static double percent(const struct judge *judge, uint64_t count)
{
    uint64_t intended = judge->summary->intended;
    return intended > 0 ? (double)count * 100 / (double)intended : 100;
}

static void judge_losses(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    const struct fm_verdict_limits *limits = judge->limits;
    if (exceeds(judge, summary->dropped, limits->dropped_max)) {
        (void)snprintf(add(judge, FM_VERDICT_DROPPED), FM_VERDICT_TEXT_SIZE,
                       "%llu of %llu requests (%.3g %%) were not sent, because as many as may be "
                       "were in flight; the most is %.3g %%; raise the cap, or lower the rate",
                       (unsigned long long)summary->dropped, (unsigned long long)summary->intended,
                       percent(judge, summary->dropped), limits->dropped_max * 100);
    }
    uint64_t errors = error_sum(summary);
    if (!exceeds(judge, errors, limits->errors_max)) {
        return;
    }
    char *text = add(judge, FM_VERDICT_ERRORS);
    int length = snprintf(text, FM_VERDICT_TEXT_SIZE,
                          "%llu of %llu requests (%.3g %%) failed:", (unsigned long long)errors,
                          (unsigned long long)summary->intended, percent(judge, errors));
    const char *between = "";
    for (unsigned i = 0; i < FM_VERDICT_ERROR_COUNT_ && length < (int)FM_VERDICT_TEXT_SIZE; i++) {
        if (summary->errors[i] > 0) {
            length += snprintf(text + length, FM_VERDICT_TEXT_SIZE - (size_t)length, "%s %llu %s",
                               between, (unsigned long long)summary->errors[i], error_names[i]);
            between = ",";
        }
    }
    if (length < (int)FM_VERDICT_TEXT_SIZE) {
        (void)snprintf(text + length, FM_VERDICT_TEXT_SIZE - (size_t)length,
                       "; the most is %.3g %%; look at the target's log, or lower the rate",
                       limits->errors_max * 100);
    }
}

struct spread {
    double low;
    double high;
};

static void spread_add(struct spread *spread, double value, bool first)
{
    spread->low = first || value < spread->low ? value : spread->low;
    spread->high = first || value > spread->high ? value : spread->high;
}

/* Fifths of the run, not single seconds: of a target that falls behind steadily, neighbouring
 * seconds look alike. */
static void judge_stability(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    const struct fm_verdict_limits *limits = judge->limits;
    size_t length = summary->second_count / FIFTHS;
    if (length == 0) {
        return;
    }
    struct spread rates = {0};
    struct spread means_ms = {0};
    bool first_mean = true;
    for (size_t i = 0; i < FIFTHS_TAKEN; i++) {
        const struct fm_verdict_second *seconds =
            &summary->seconds[summary->second_count - (FIFTHS_TAKEN - i) * length];
        uint64_t completed = 0;
        double latency_ns = 0;
        for (size_t j = 0; j < length; j++) {
            completed += seconds[j].completed;
            latency_ns += (double)seconds[j].latency_sum_ns;
        }
        spread_add(&rates, (double)completed / (double)length, i == 0);
        if (completed > 0) {
            spread_add(&means_ms, latency_ns * MS_PER_NS / (double)completed, first_mean);
            first_mean = false;
        }
    }
    double chance = CHANCE * sqrt((rates.low + rates.high) / 2 / (double)length);
    double limit = limits->throughput_spread_max;
    if (limit >= 0 && rates.high - rates.low > fmax(limit * rates.low, chance)) {
        (void)snprintf(add(judge, FM_VERDICT_THROUGHPUT), FM_VERDICT_TEXT_SIZE,
                       "throughput is not stable: from %.6g to %.6g requests/s in the last three "
                       "fifths of the run, the most is %.0f %% between them; warm up or measure "
                       "longer, and look for what else runs",
                       rates.low, rates.high, limit * 100);
    }
    limit = limits->latency_spread_max;
    if (limit >= 0 && means_ms.high > means_ms.low * (1 + limit)) {
        (void)snprintf(add(judge, FM_VERDICT_LATENCY), FM_VERDICT_TEXT_SIZE,
                       "latency is not stable: means from %.3f to %.3f ms in the last three fifths "
                       "of the run, the most is %.0f %% between them; warm up longer, or lower the "
                       "rate: a queue that grows has no latency",
                       means_ms.low, means_ms.high, limit * 100);
    }
}

static void judge_early_stopping(struct judge *judge)
{
    const struct fm_verdict_summary *summary = judge->summary;
    const struct fm_early_stopping *rule = &judge->limits->rule;
    if (!judge->limits->early_stopping || summary->slo_ns == 0) {
        return;
    }
    struct fm_early_stopping_proof proof;
    fm_early_stopping_proof(rule, summary->late, summary->intended, &proof);
    if (proof.valid) {
        return;
    }
    char needed[96] = "more than can be counted";
    if (proof.total_min != UINT64_MAX) {
        (void)snprintf(needed, sizeof needed, "%llu, %llu more if none of them is late",
                       (unsigned long long)proof.total_min, (unsigned long long)proof.more);
    }
    (void)snprintf(
        add(judge, FM_VERDICT_EARLY_STOPPING), FM_VERDICT_TEXT_SIZE,
        "%llu of %llu requests were over %.3f ms: that does not prove the %.9gth percentile "
        "with confidence %g; so many late ones need %s; measure longer, or lower the rate",
        (unsigned long long)summary->late, (unsigned long long)summary->intended,
        (double)summary->slo_ns * MS_PER_NS, rule->percentile * 100, rule->confidence, needed);
}

void fm_verdict_judge(const struct fm_verdict_summary *summary,
                      const struct fm_verdict_limits *limits, struct fm_verdict *ret_verdict)
{
    struct judge judge = {.summary = summary, .limits = limits, .verdict = ret_verdict};
    ret_verdict->reason_count = 0;
    judge_account(&judge);
    judge_extent(&judge);
    judge_rate(&judge);
    judge_lag(&judge);
    judge_client_cpu(&judge);
    judge_losses(&judge);
    judge_stability(&judge);
    judge_early_stopping(&judge);
    ret_verdict->valid = ret_verdict->reason_count == 0;
}

void fm_verdict_print(const struct fm_verdict *verdict, struct fm_text *text)
{
    fm_text_append_string(text, verdict->valid ? "VALID\n" : "INVALID\n");
    for (uint32_t i = 0; i < verdict->reason_count; i++) {
        fm_text_append_format(text, "  %s: %s\n", fm_verdict_kind_name(verdict->reasons[i].kind),
                              verdict->reasons[i].text);
    }
}
