/*
 * What came of a run of load: counts and times of every request, kept small enough to merge.
 *
 * Owns: outcomes by the parts of a run, histograms, one series by seconds, their form as JSON
 * (schema "fermata.load/1"). Does not own: clocks, the schedule (load_plan.h), who sent the
 * requests, whether the run is worth anything (verdict.h). Thread rule: pure; a record belongs to
 * one thread, and those of several threads are merged.
 *
 * A request counts where its *intended* time lies, whenever it ends. Response time runs from the
 * intended time: what a user waits. Service time, beside it, runs from when it was really sent; it
 * hides what waited in front of a stalled server (coordinated omission: G. Tene, "How NOT to
 * measure latency", 2013). Lag is sent minus intended: the generator's own health.
 *
 * One that was not answered in time counts with its lag and the timeout as response time, and with
 * the timeout as service time. Requests that failed otherwise are counted but have no response
 * time, so that fast failures do not make a server look fast.
 */
#ifndef FM_CORE_BENCH_LOAD_RECORD_H
#define FM_CORE_BENCH_LOAD_RECORD_H

#include <stdint.h>

#include "core/bench/load_plan.h"
#include "core/bench/verdict.h"
#include "core/stats/fine_histogram.h"
#include "core/stats/log_histogram.h"
#include "fermata/status.h"

/* Of a series: 8 buckets an octave where the whole has 32, so quantiles are exact to 12 %. */
#define FM_LOAD_SECOND_WIDTH   4u
#define FM_LOAD_SECOND_BUCKETS (FM_LOG_HISTOGRAM_BUCKETS / FM_LOAD_SECOND_WIDTH)

enum fm_load_outcome {
    FM_LOAD_OK,
    FM_LOAD_REFUSED,      /* the target said that it is the request's fault */
    FM_LOAD_OVERLOADED,   /* the target said that it is too busy or not ready */
    FM_LOAD_FAILED,       /* the target said that it failed */
    FM_LOAD_TIMEOUT,      /* no answer in time */
    FM_LOAD_LOST,         /* the connection could not be made, or ended */
    FM_LOAD_WRONG_ANSWER, /* an answer that cannot be read or is not what was asked for */
    FM_LOAD_CAPPED,       /* never sent: too many were in flight */
    FM_LOAD_OUTCOME_COUNT_
};

/* Times since the run's start. */
struct fm_load_request {
    uint64_t intended_ns;
    uint64_t sent_ns;       /* CAPPED: not looked at */
    uint64_t first_byte_ns; /* 0: there was none */
    uint64_t done_ns;       /* CAPPED: not looked at */
    enum fm_load_outcome outcome;
};

struct fm_load_part {
    uint64_t outcomes[FM_LOAD_OUTCOME_COUNT_];
    uint64_t good;                       /* OK, and within the SLO where there is one */
    struct fm_fine_histogram response;   /* OK and TIMEOUT */
    struct fm_fine_histogram service;    /* the same requests */
    struct fm_fine_histogram first_byte; /* from sent; OK only */
    struct fm_fine_histogram lag;        /* all but CAPPED */
};

/* One second of the run, of what is intended in it. */
struct fm_load_second {
    uint32_t intended;
    uint32_t sent;
    uint32_t done; /* OK */
    uint32_t failed;
    uint64_t response_sum_ns;                 /* of those done */
    uint32_t buckets[FM_LOAD_SECOND_BUCKETS]; /* response times; timeouts, too */
};

struct fm_load_record {
    struct fm_load_windows windows;
    uint64_t timeout_ns;
    uint64_t slo_ns;       /* 0: none */
    uint64_t last_sent_ns; /* of what is measured */
    /* Of the clients in the measured window, for whoever sends to set. */
    double client_cpu_s;
    double client_cpus_max; /* that they may use; 0: it was not measured */
    struct fm_load_part parts[FM_LOAD_PHASE_COUNT_];
    uint32_t second_count;
    struct fm_load_second seconds[];
};

/* FM_EINVAL (windows, a timeout of 0) with the field named in reterr, FM_ENOMEM. A record takes
 * about 1 KiB for each second, and 860 KiB. */
int FM_NODISCARD fm_load_record_create(const struct fm_load_windows *windows, uint64_t timeout_ns,
                                       uint64_t slo_ns, struct fm_load_record **ret_record,
                                       struct fm_error *reterr);
void fm_load_record_destroy(struct fm_load_record *record); /* accepts NULL */

/* Counts a request that ended. What is intended behind the drain counts into its last second. */
void fm_load_record_add(struct fm_load_record *record, const struct fm_load_request *request);

/* Adds what `other` (borrowed) counted. FM_EINVAL, and nothing is added, unless both have the same
 * windows, timeout and SLO; FM_ELIMIT when a count would no longer fit into 32 bits. */
int FM_NODISCARD fm_load_record_merge(struct fm_load_record *record,
                                      const struct fm_load_record *other, struct fm_error *reterr);

/* How many were intended in a part, whatever came of them. */
uint64_t fm_load_part_count(const struct fm_load_part *part);

/* Per second of the measured window. */
struct fm_load_rates {
    double intended_hz;
    double sent_hz;
    double ok_hz;
    double good_hz; /* goodput */
};
void fm_load_record_rates(const struct fm_load_record *record, struct fm_load_rates *ret_rates);

/*
 * What a verdict looks at. Of the arrivals as they were configured: their rate (0: a closed loop or
 * a burst) and the variation of their gaps. `seconds` has room for second_max and is borrowed by
 * the summary: the whole seconds of the measured window.
 */
void fm_load_record_summarize(const struct fm_load_record *record, double rate_hz, double gap_cv,
                              struct fm_verdict_second *seconds, size_t second_max,
                              struct fm_verdict_summary *ret_summary);

/* Appends one JSON object. */
void fm_load_record_write(const struct fm_load_record *record, struct fm_text *text);

/* As fm_log_histogram_quantile_ns, of a second's response times. */
uint64_t fm_load_second_quantile_ns(const struct fm_load_second *second, uint32_t permille);

/* What an answer's status means: OK for 2xx and 0. */
enum fm_load_outcome fm_load_outcome_from_http(int code);
enum fm_load_outcome fm_load_outcome_from_grpc(int code);
const char *fm_load_outcome_name(enum fm_load_outcome outcome);

#endif
