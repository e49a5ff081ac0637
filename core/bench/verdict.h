/*
 * The verdict on a run under load: VALID, or INVALID with every reason in words.
 *
 * Owns: the rules by which a measurement may be believed, their limits, and the words. Does not
 * own: measuring, whether the target was good (a run that misses its SLO may be valid). Thread
 * rule: pure.
 *
 * HOW IT WORKS. Each rule is one kind of reason and looks at a few numbers of the summary. Rules do
 * not know of one another, so that a run may have several reasons; they are told in the order of
 * the kinds: first what makes the rest hard to read.
 */
#ifndef FM_CORE_BENCH_VERDICT_H
#define FM_CORE_BENCH_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/stats/early_stopping.h"
#include "core/util/text.h"

#define FM_VERDICT_TEXT_SIZE 384u

/* How a request that was sent failed. */
enum fm_verdict_error {
    FM_VERDICT_ERROR_TIMEOUT,
    FM_VERDICT_ERROR_CONNECTION, /* refused, lost, closed in the middle */
    FM_VERDICT_ERROR_STATUS,     /* the target answered with an error */
    FM_VERDICT_ERROR_ANSWER,     /* what came is no answer to what was asked */
    FM_VERDICT_ERROR_COUNT_
};

/* What completed in one whole second of the measured interval. */
struct fm_verdict_second {
    uint64_t completed;
    uint64_t latency_sum_ns; /* of those */
};

/* A run's measured interval. Requests are counted by their intended time. */
struct fm_verdict_summary {
    uint64_t intended;  /* should have been sent */
    uint64_t sent;      /* were */
    uint64_t completed; /* answered, in time for the SLO or not */
    uint64_t errors[FM_VERDICT_ERROR_COUNT_];
    uint64_t dropped; /* not sent, because as many as may be were in flight */
    uint64_t late;    /* over the SLO; errors and dropped ones included */
    uint64_t duration_ns;
    double rate_hz;      /* configured; 0: closed loop, there is none */
    double achieved_hz;  /* sent, by the clock */
    double gap_cv;       /* standard deviation of the configured gaps by their mean; Poisson: 1 */
    uint64_t lag_p99_ns; /* of actual less intended sending */
    uint64_t slo_ns;     /* 0: there is none */
    double client_cpus;  /* that the generator used on average; below 0: not measured */
    double client_cpus_max;                  /* that it may use: by its threads and the machine */
    const struct fm_verdict_second *seconds; /* borrowed; in order */
    size_t second_count;
};

/* What is still believed. Of doubles, below 0: not judged; of others, 0: not judged. */
struct fm_verdict_limits {
    uint64_t duration_min_ns;
    uint64_t count_min;      /* completed */
    double rate_error_max;   /* share of the configured rate; besides, what chance makes of gaps */
    uint64_t lag_p99_max_ns; /* or lag_slo_share of the SLO, whichever is larger */
    double lag_slo_share;
    double client_cpu_max; /* share of client_cpus_max */
    double dropped_max;    /* share of the intended */
    double errors_max;     /* share of the intended */
    /* The run is cut into fifths; among the last three, the largest less the smallest may be this
     * share of the smallest. Throughput is given besides what chance makes of counts. */
    double throughput_spread_max;
    double latency_spread_max; /* of the mean */
    bool early_stopping;       /* with an SLO: late ones have to prove it by `rule` */
    struct fm_early_stopping rule;
};

/* In the order in which they are told. */
enum fm_verdict_kind {
    FM_VERDICT_ACCOUNT,   /* requests without an outcome, or outcomes without a request */
    FM_VERDICT_COMPLETED, /* nothing was answered */
    FM_VERDICT_DURATION,
    FM_VERDICT_COUNT,
    FM_VERDICT_RATE,
    FM_VERDICT_LAG,
    FM_VERDICT_CLIENT_CPU,
    FM_VERDICT_DROPPED,
    FM_VERDICT_ERRORS,
    FM_VERDICT_THROUGHPUT, /* unstable */
    FM_VERDICT_LATENCY,    /* unstable */
    FM_VERDICT_EARLY_STOPPING,
    FM_VERDICT_KIND_COUNT_
};

struct fm_verdict_reason {
    enum fm_verdict_kind kind;
    char text[FM_VERDICT_TEXT_SIZE]; /* what, by how much, what to do */
};

struct fm_verdict {
    bool valid;
    uint32_t reason_count; /* 0 when valid */
    struct fm_verdict_reason reasons[FM_VERDICT_KIND_COUNT_];
};

/* The defaults: 10 s, 100 requests, rate within 1 %, lag p99 within 1 ms or 10 % of the SLO, 80 %
 * of the client's CPUs, 0.1 % dropped, 0.1 % errors, throughput within 10 % and latency within 25 %
 * over the last three fifths; no early stopping (its rule: 99th percentile, confidence 0.99). */
void fm_verdict_limits_default(struct fm_verdict_limits *ret_limits);

/* With early_stopping the rule has to be one (fm_early_stopping_check). */
void fm_verdict_judge(const struct fm_verdict_summary *summary,
                      const struct fm_verdict_limits *limits, struct fm_verdict *ret_verdict);

/* A word for results that programs read: "client_cpu"; "unknown" beyond the last. */
const char *fm_verdict_kind_name(enum fm_verdict_kind kind);
/* "VALID", or "INVALID" and a line for each reason, each ending with a line feed. */
void fm_verdict_print(const struct fm_verdict *verdict, struct fm_text *text);

#endif
