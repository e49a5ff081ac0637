/*
 * The tuning of a data path: it asks the executor how busy the stages are, has core/plan/tuner
 * decide, and sets what is the executor's.
 *
 * Owns: the tuner, its settings in words. Does not own: readers, rows
 * in flight and their blocks, which the data path sets itself. Thread rule: one thread at a time.
 */
#ifndef FM_ENGINES_BATCH_PATH_TUNER_H
#define FM_ENGINES_BATCH_PATH_TUNER_H

#include "core/proto/batch_messages.h"
#include "engines/batch/block.h"

struct fm_path_tuner_options {
    const struct fm_block_plan *plan; /* borrowed while the tuner is open */
    struct fm_job_ranges ranges;
};

struct fm_path_tuner;

/* FM_ENOMEM. */
int FM_NODISCARD fm_path_tuner_open(const struct fm_path_tuner_options *options,
                                    struct fm_path_tuner **ret_tuner, struct fm_error *reterr);
void fm_path_tuner_close(struct fm_path_tuner *tuner); /* accepts NULL */

/* The most readers and rows in flight that there will be. */
uint32_t fm_path_tuner_readers_max(const struct fm_path_tuner *tuner);
uint32_t fm_path_tuner_rows_max(const struct fm_path_tuner *tuner);
void fm_path_tuner_settings(const struct fm_path_tuner *tuner,
                            struct fm_tuner_settings *ret_settings);
/* Sets the executor's part of them: batches, and threads of operators. */
void fm_path_tuner_apply(struct fm_path_tuner *tuner, const struct fm_tuner_settings *settings);

/* Whether it is time for a look, which begins with this. */
bool fm_path_tuner_is_due(struct fm_path_tuner *tuner, uint64_t now_ns);
/* Of *sample the caller has set the rows, and the times of readers and of being full; works: there
 * are rows in work. Whether there are other settings now. */
bool fm_path_tuner_look(struct fm_path_tuner *tuner, uint64_t now_ns, bool works,
                        struct fm_tuner_sample *sample);

/* The settings for people; the text is the tuner's, until the next call. */
void fm_path_tuner_tell(struct fm_path_tuner *tuner, struct fm_batch_tuned *ret_tuned);

#endif
