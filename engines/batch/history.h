/*
 * What became of a job over time: a bounded record in its directory (.fermata/history), over all of
 * its runs.
 *
 * Owns: the file, thinning, which shards took longest. Does not own: what the numbers mean to a
 * reader (job_report.h). Thread rule: one thread.
 *
 * HOW IT WORKS. A line of JSON for each sample, appended; two a second at first. When there are
 * FM_HISTORY_SAMPLES_MAX, every second one is dropped, the file is written anew, and from then on
 * the time between two is twice as long. The first and the last sample of a run are kept. Nothing
 * is flushed to the disk: what a killed machine loses of it is no loss.
 */
#ifndef FM_ENGINES_BATCH_HISTORY_H
#define FM_ENGINES_BATCH_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engines/batch/stage_use.h"
#include "fermata/status.h"

#define FM_HISTORY_SAMPLES_MAX 2000u
#define FM_HISTORY_SHARDS_MAX  20u /* the slowest ones */
#define FM_HISTORY_STAGE_SIZE  FM_STAGE_NAME_SIZE

struct fm_history_sample {
    uint64_t wall_ms;
    bool begin; /* the first one of a run */
    uint64_t rows_done;
    uint64_t rows_committed;
    uint64_t dead_letters;
    uint64_t workers; /* connected */
    /* Since the run began. */
    uint64_t workers_lost;             /* attempts that ended with their worker */
    uint64_t attempts_failed;          /* attempts that their rows have ended */
    uint64_t shards_cut;               /* in halves, after too many of these */
    char stage[FM_HISTORY_STAGE_SIZE]; /* the slowest one; "": unknown */
    double stage_share;
    struct fm_stage_uses stages; /* how busy all of them were lately */
};

struct fm_history_shard {
    uint64_t number;
    uint64_t first_row;
    uint64_t rows;
    uint64_t ms; /* from grant to commit */
};

/* Where something is read into. Deinit with fm_history_record_deinit. */
struct fm_history_record {
    struct fm_history_sample *samples; /* by time */
    size_t sample_count;
    struct fm_history_shard shards[FM_HISTORY_SHARDS_MAX]; /* slowest first */
    size_t shard_count;
    uint64_t interval_ms;
};

/* What the file holds; lines that cannot be read (the last one, cut off) are passed over. No file:
 * nothing. FM_ENOMEM, FM_EIO, FM_EPERM. */
int FM_NODISCARD fm_history_read(const char *path, struct fm_history_record *ret_record,
                                 struct fm_error *reterr);
void fm_history_record_deinit(struct fm_history_record *record);

struct fm_history;

/* Continues the file, or begins it. NULL: no memory. A file that cannot be read or written is no
 * error here: fm_history_trouble says so. */
struct fm_history *fm_history_open(const char *path, uint64_t now_ns);
/* Whether a sample is due; the first one and the last one always are. Also when there is something
 * for fm_history_trouble to say. */
bool fm_history_due(const struct fm_history *history, uint64_t now_ns);
/* `begin` is set for the first one. */
void fm_history_add(struct fm_history *history, uint64_t now_ns,
                    const struct fm_history_sample *sample);
/* A lease begins; its shard is committed. */
void fm_history_granted(struct fm_history *history, uint64_t now_ns, uint64_t epoch,
                        const struct fm_history_shard *shard);
void fm_history_committed(struct fm_history *history, uint64_t now_ns, uint64_t number,
                          uint64_t epoch);
/* True once, when something has gone wrong with the file: nothing is written any more. */
bool fm_history_trouble(struct fm_history *history, struct fm_error *ret_error);
/* Accepts NULL. */
void fm_history_close(struct fm_history *history);

#endif
