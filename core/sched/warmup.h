/*
 * What is decided about a model that comes without a profile: which batches are tried while it
 * loads, what is believed until then, which SLO it gets, and how all of that gives way to what its
 * batches really take.
 *
 * Owns: these rules. Does not own: running the model (engines/serve/serving.c), the table itself
 * (profile.h), learning from batch to batch inside the scheduler (latency_table.h). Thread rule:
 * pure; caller's memory.
 */
#ifndef FM_CORE_SCHED_WARMUP_H
#define FM_CORE_SCHED_WARMUP_H

#include "core/sched/profile.h"
#include "core/stats/model_counters.h"

#define FM_WARMUP_RUNS_MAX 20u

/*
 * The batch to try next, up to batch_max, after `spent_ns` of trying; 0: enough. Powers of two as
 * far as the time goes, and the largest, which says how throughput grows. Of a slow model a second
 * size is worth its time: nothing larger than what was tried ever runs, so nobody would learn
 * better later.
 */
uint32_t fm_warmup_next(const struct fm_profile *profile, uint32_t batch_max, uint64_t spent_ns);
/* Whether a batch is to run once more, that ran `count` times in `spent_ns`. */
bool fm_warmup_repeats(uint32_t count, uint64_t spent_ns);
/* The first run does not count, unless it took so long that once has to do. */
bool fm_warmup_counts_first(uint64_t took_ns);

/* The profile of a model that could not be tried, until batches have run. */
void fm_warmup_guess(uint32_t batch_max, struct fm_profile *ret_profile);

/* An SLO where none is given, by what one row takes (by a profile): nothing that is not overload is
 * dropped. */
uint64_t fm_warmup_slo_ns(uint64_t latency_ns);

/*
 * Puts latencies that turn out to be others into the profile: of a model that was guessed, or whose
 * real inputs are not like those it was tried with. rows[row_count] is what was counted, by batch
 * size; learnt[row_count] the same as of when it was last believed, and is moved on. True: the
 * profile changed; *guessed is then false.
 */
bool fm_warmup_follow(struct fm_profile *profile, bool *guessed,
                      const struct fm_batch_row_total *rows, struct fm_batch_row_total *learnt,
                      uint32_t row_count);

#endif
