/*
 * What a run under load has shown, request by request put into histograms.
 *
 * Owns: how requests are accounted, merging the records of several clients, and their form as JSON
 * (schema "fermata.load/1"). Does not own: clocks, sending, whether the run may be believed
 * (verdict.h). Thread rule: pure; one thread at a time for each record.
 *
 * HOW IT WORKS. A request belongs to the phase and to the second in which it was *intended* to be
 * sent, whenever it really was, and is followed to its end. Its response time counts from there:
 * a target that stalls cannot hide it by holding up those that wait to be sent (coordinated
 * omission; Gil Tene, "How NOT to Measure Latency", 2013). Service time counts from when it was
 * sent. One that had no answer in time enters both with the time limit; other failures enter
 * neither. With a closed loop the intended time is that of sending.
 */
#ifndef FM_CORE_BENCH_LOAD_RECORD_H
#define FM_CORE_BENCH_LOAD_RECORD_H

#include "core/bench/verdict.h"
#include "core/stats/fine_histogram.h"
#include "core/stats/log_histogram.h"

/* Of each of a run's times; a second takes 4 KiB. */
#define FM_LOAD_SECONDS_MAX 43200u

enum fm_load_phase {
    FM_LOAD_WARMUP,
    FM_LOAD_MEASURED,
    FM_LOAD_DRAIN, /* intended behind the end: a closed loop's last ones */
    FM_LOAD_PHASE_COUNT_
};

enum fm_load_outcome {
    FM_LOAD_OK,
    FM_LOAD_TIMEOUT,
    FM_LOAD_CONNECTION, /* refused, lost, closed in the middle */
    FM_LOAD_REFUSED,    /* the target said that it cannot now: 429, 503, RESOURCE_EXHAUSTED ... */
    FM_LOAD_STATUS,     /* another error of the target's */
    FM_LOAD_ANSWER,     /* no answer to what was asked: not the protocol, or of other shapes */
    FM_LOAD_DROPPED,    /* never sent: as many as may be were in flight */
    FM_LOAD_OUTCOME_COUNT_
};

/* Times of one clock, since the run began. */
struct fm_load_request {
    uint64_t intended_ns;
    uint64_t sent_ns;       /* not of DROPPED */
    uint64_t first_byte_ns; /* of the answer; 0: there was none */
    uint64_t done_ns;
    enum fm_load_outcome outcome;
};

struct fm_load_options {
    uint64_t warmup_ns;  /* the measured phase begins there ... */
    uint64_t measure_ns; /* ... and is so long, above 0 */
    uint64_t slo_ns;     /* on the response time; 0: there is none */
    uint64_t timeout_ns; /* above 0 */
};

struct fm_load_phase_record {
    uint64_t outcomes[FM_LOAD_OUTCOME_COUNT_];
    uint64_t in_slo;                   /* of OK; without an SLO all of them */
    struct fm_fine_histogram response; /* of OK and TIMEOUT */
    struct fm_fine_histogram service;
    struct fm_fine_histogram first_byte; /* from sending; of OK */
    struct fm_fine_histogram lag;        /* from intended to sent; of all that were sent */
};

/* By the intended second, since the run began. */
struct fm_load_second {
    uint64_t intended;
    uint64_t ok;
    uint64_t failed; /* DROPPED included */
    uint64_t ended;  /* answers that came in this second, whenever they were intended */
    struct fm_log_histogram response;
};

struct fm_load_record {
    struct fm_load_options options;
    struct fm_load_phase_record *phases; /* FM_LOAD_PHASE_COUNT_ */
    struct fm_load_second *seconds;
    size_t second_count;
    size_t second_capacity;
    uint64_t first_sent_ns; /* of the measured phase; UINT64_MAX: none was */
    uint64_t last_sent_ns;
    /* Of the clients, while the measured phase lasted; the caller's to set. */
    double client_cpu_s;
    double client_cpus_max;
};

/* FM_EINVAL: options; FM_ENOMEM. */
int FM_NODISCARD fm_load_record_init(struct fm_load_record *ret_record,
                                     const struct fm_load_options *options,
                                     struct fm_error *reterr);
void fm_load_record_deinit(struct fm_load_record *record); /* accepts a zeroed one */

/* FM_ENOMEM: it was not counted. */
int FM_NODISCARD fm_load_record_add(struct fm_load_record *record,
                                    const struct fm_load_request *request);
/* Of the same options. FM_ENOMEM: part of it may be there. */
int FM_NODISCARD fm_load_record_merge(struct fm_load_record *record,
                                      const struct fm_load_record *other);

/* What a verdict looks at; `seconds` has room for second_max of the measured phase and is borrowed
 * by the summary. rate_hz and gap_cv are the workload's (0: a closed loop). */
void fm_load_record_summarize(const struct fm_load_record *record, double rate_hz, double gap_cv,
                              struct fm_verdict_second *seconds, size_t second_max,
                              struct fm_verdict_summary *ret_summary);
/* Of the measured phase: answers within the SLO for each second of it. */
double fm_load_record_goodput_hz(const struct fm_load_record *record);

const char *fm_load_outcome_name(enum fm_load_outcome outcome); /* "ok", "timeout" ... */

/* One JSON object. */
void fm_load_record_write(const struct fm_load_record *record, struct fm_text *text);

#endif
