/*
 * Searches the highest rate at which a target meets its SLO, in few runs: says which rate to try,
 * takes what came out, and ends with a bracket.
 *
 * Owns: which rate is tried next, when it is enough, and how sure it is. Does not own: runs, what
 * makes one valid (core/bench/verdict). Thread rule: pure; a search belongs to one thread.
 *
 * HOW IT WORKS. From the start the rate doubles until a run misses, or halves until one meets. Then
 * the bracket of the highest rate that met and the lowest that missed is narrowed until it is as
 * narrow as the precision. A run's margin (its latency by the SLO) tells where: near its capacity a
 * target's latency goes as 1 / (capacity - rate), so that the inverse of the margin is nearly a
 * straight line, and the rate where that is 1 is tried next, but at least nearly a precision's
 * width inside the bracket. Where two such guesses have not halved it, the third is the geometric
 * middle. Runs are noisy: the two ends are then tried again until each has the majority of
 * `repeats`; an end that changes sides moves the bracket and the search goes on. A rate of which
 * two runs were not valid is tried no more: without a majority of the others it is a ceiling, above
 * which nothing is tried; with one, that counts, with the confidence that it has.
 *
 * LIMITATIONS. Meeting is taken to be monotone in the rate. A target that misses at a low rate and
 * meets at a higher one (a wait for a batch that does not fill) is seen at the rates tried only.
 */
#ifndef FM_CORE_BENCH_RATE_SEARCH_H
#define FM_CORE_BENCH_RATE_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_RATE_SEARCH_RUNS_LIMIT    200u
#define FM_RATE_SEARCH_REPEATS_LIMIT 31u
#define FM_RATE_SEARCH_RATE_MIN_HZ   1e-6
#define FM_RATE_SEARCH_RATE_MAX_HZ   1e9
#define FM_RATE_SEARCH_PRECISION_MIN 1e-4
#define FM_RATE_SEARCH_PRECISION_MAX 1.0
#define FM_RATE_SEARCH_INVALID_MAX   2u /* runs in which a rate may be not valid */

struct fm_rate_search_options {
    double start_hz;
    double rate_min_hz; /* 0: FM_RATE_SEARCH_RATE_MIN_HZ */
    double rate_max_hz; /* 0: FM_RATE_SEARCH_RATE_MAX_HZ */
    double precision;   /* the bracket's width as a share of its lower end; 0: 0.02 */
    uint32_t repeats;   /* runs at each end, odd; 0: 3 */
    uint32_t runs_max;  /* 0: 40 */
};

enum fm_rate_search_outcome { FM_RATE_SEARCH_MET, FM_RATE_SEARCH_MISSED, FM_RATE_SEARCH_INVALID };

enum fm_rate_search_end {
    FM_RATE_SEARCH_GOES_ON,
    FM_RATE_SEARCH_FOUND,   /* a bracket of the precision */
    FM_RATE_SEARCH_CEILING, /* likewise, but above it runs are not valid: the target may do more */
    FM_RATE_SEARCH_AT_MAX,  /* rate_max_hz is met */
    FM_RATE_SEARCH_AT_MIN,  /* rate_min_hz is missed, or not valid */
    FM_RATE_SEARCH_RUNS     /* runs_max are used up: the bracket is what there is */
};

/* What is known of a rate that was tried. */
struct fm_rate_search_point {
    double rate_hz;
    uint32_t met;
    uint32_t missed;
    uint32_t invalid;
    double log_margin_sum; /* of the runs that had one */
    uint32_t margins;
};

struct fm_rate_search {
    struct fm_rate_search_options options; /* resolved */
    struct fm_rate_search_point points[FM_RATE_SEARCH_RUNS_LIMIT];
    uint32_t point_count; /* ascending in the rate */
    uint32_t runs;
    double width; /* of the bracket, as a logarithm, when it was last halved; 0: there is none */
    uint32_t guesses;
    double next_hz; /* 0: the search has ended */
    enum fm_rate_search_end end;
};

struct fm_rate_search_result {
    enum fm_rate_search_end end;
    double met_hz;    /* the highest rate that met below all that missed; 0: none */
    double missed_hz; /* the lowest rate that missed, of a ceiling: was not valid; 0: none */
    /* Where the margin is 1, by a straight line through the inverse margins of all rates whose
     * margin is from 2/3 to 2, within the bracket: less noisy than its ends. The bracket's middle
     * where there is no such line; 0 without a bracket. */
    double estimate_hz;
    uint32_t met_runs; /* at met_hz, of them met */
    uint32_t met_of;
    uint32_t missed_runs; /* likewise at missed_hz */
    uint32_t missed_of;
    /* Sign test: were the rate as likely to miss as to meet, so many or more of its runs would have
     * met with probability 1 - confidence. 0 where there is no such end. */
    double met_confidence;
    double missed_confidence;
    uint32_t runs;
};

/* FM_EINVAL with the field named. */
int FM_NODISCARD fm_rate_search_init(struct fm_rate_search *search,
                                     const struct fm_rate_search_options *options,
                                     struct fm_error *reterr);
/* The rate to try now, the same until its outcome is taken; 0: the search has ended. */
double fm_rate_search_next(const struct fm_rate_search *search);
/* What the run at that rate gave. margin: its latency (at the SLO's percentile) by the SLO; 0: not
 * known, as is everything that is no finite number above 0. Not after the end. */
void fm_rate_search_take(struct fm_rate_search *search, enum fm_rate_search_outcome outcome,
                         double margin);
void fm_rate_search_result(const struct fm_rate_search *search,
                           struct fm_rate_search_result *ret_result);

#endif
