/*
 * The pace of workers: how fast each of them is, and from that how many rows its next shard should
 * have.
 *
 * Owns: the arithmetic. Does not own: who works, what is left (master.h). Thread rule: pure, on the
 * caller's memory.
 *
 * A shard should take about as long on every worker, so that a slow one does not hold up the end
 * and a lost one costs little. Near the end of the job shards become smaller, by guided
 * self-scheduling (Polychronopoulos and Kuck, 1987): a worker gets half of its share of what is
 * left, by its speed, so that all end together.
 */
#ifndef FM_CORE_LEDGER_PACE_H
#define FM_CORE_LEDGER_PACE_H

#include <stdint.h>

struct fm_pace_options {
    uint64_t target_ns;  /* what a shard should take */
    uint64_t least_ns;   /* what it should take at least, near the end: below this, beginning and
                            committing one costs more than it brings */
    uint64_t rows_first; /* of a shard while no rate is known; > 0 */
    uint64_t rows_max;   /* > 0 */
};

/* Of one worker. Zero-initialise. */
struct fm_pace {
    double rows_per_s;  /* 0: not known yet */
    uint64_t last_ns;   /* when it last finished something */
    uint64_t last_rows; /* and how much that was */
};

/* The worker finished `rows` rows that it was given at granted_ns. */
void fm_pace_observe(struct fm_pace *pace, uint64_t now_ns, uint64_t granted_ns, uint64_t rows);

/* How fast it is, judging also by what it has done of a shard that it was given at granted_ns and
 * has not finished: a worker that stalls is not as fast as it was. 0: nothing is known. */
double fm_pace_rate(const struct fm_pace *pace, uint64_t now_ns, uint64_t granted_ns,
                    uint64_t rows_done);

/* Who shares what is left. */
struct fm_pace_all {
    double rows_per_s; /* of all workers together, as far as it is known */
    uint32_t workers;
    uint64_t rows_left; /* that nobody has yet */
};

/* Rows of the worker's next shard. At least 1. */
uint64_t fm_pace_rows(const struct fm_pace_options *options, const struct fm_pace *pace,
                      const struct fm_pace_all *all);

#endif
