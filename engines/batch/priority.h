/*
 * Which inputs of a job are done first: what `input.priority` says of them.
 *
 * Owns: the match of an id with the job file's patterns. Does not own: the order in which shards
 * are handed out (core/ledger/ledger.h), cutting the list of inputs (lister.h). Thread rule: no
 * state.
 */
#ifndef FM_ENGINES_BATCH_PRIORITY_H
#define FM_ENGINES_BATCH_PRIORITY_H

#include "engines/batch/job_file.h"

/*
 * The rank of an input: the number of the first pattern that it matches, from 0; without such
 * FM_LEDGER_RANK_LAST. A pattern matches ids as those of `files` match paths; without `*`, `?` and
 * `[` it is an id, or a directory with all that is below it.
 */
uint32_t fm_priority_rank(const struct fm_job *job, const char *id);

#endif
