/*
 * What the files of the data path share: a path, its shards and its blocks. See data_path.h.
 *
 * Owns: their shapes. Thread rule: as each comment says; "the lock" is the path's mutex.
 */
#ifndef FM_ENGINES_BATCH_DATA_PATH_INTERNAL_H
#define FM_ENGINES_BATCH_DATA_PATH_INTERNAL_H

#include "engines/batch/block.h"
#include "engines/batch/data_path.h"
#include "engines/batch/output.h"
#include "engines/batch/path_memory.h"
#include "engines/batch/path_meter.h"
#include "engines/batch/path_tuner.h"
#include "engines/batch/stage_watch.h"
#include "host/os/thread.h"

struct shard_work;

/* A block in flight. Belongs to whoever took it; to the writer when it is finished. */
struct flight {
    struct fm_block block;
    struct fm_data_path *path;
    struct shard_work *shard;
    struct flight *next;      /* free, or to be formatted */
    struct flight *following; /* of its shard */
    struct fm_path_piece piece;
    bool finished;
};

struct flight_queue {
    struct flight *first;
    struct flight *last;
};

enum shard_state {
    SHARD_RUNNING,
    SHARD_SYNCING, /* the writer brings it to the disk */
    SHARD_ENDED,   /* `event` waits to be collected */
};

/* A shard between run and poll. */
struct shard_work {
    struct fm_shard shard; /* row_count: those that are to be run */
    enum shard_state state;
    bool abandoned;
    char reason[FM_SHARD_REASON_SIZE];
    struct fm_blame blame; /* what it says */
    struct fm_arena arena; /* of the files and their ids */
    struct fm_data_path_row *files;
    struct fm_attempt attempt;
    bool attempt_open;
    uint64_t admitted; /* rows that are in a block */
    uint64_t written;
    uint64_t in_work;     /* blocks whose memory is not free again */
    uint64_t done;        /* rows that have their line ... */
    uint64_t bad;         /* ... and are dead letters */
    struct flight *first; /* blocks in row order, until they are written */
    struct flight *last;
    /* Where files hold rows: how far they were read. Of the thread that reads. */
    bool reading;
    struct fm_source_reader *reader; /* of files[file]; NULL: it is not open */
    size_t file;
    uint64_t file_done; /* rows of it */
    struct fm_data_path_event event;
    struct shard_work *next;
};

/* A thread that reads and formats. */
struct reader {
    struct fm_data_path *path;
    struct fm_thread thread;
    uint32_t number;
};

struct fm_data_path {
    struct fm_data_path_options options;
    struct fm_executor *executor;
    struct fm_block_plan plan;
    struct flight **flights; /* room for as many as there may ever be */
    uint32_t flight_count;
    struct reader *readers; /* likewise */
    uint32_t reader_count;
    struct fm_thread writer;
    bool has_writer;
    struct fm_objects *objects; /* NULL: all rows are files */
    struct fm_path_tuner *tuner;

    struct fm_mutex mutex;
    struct fm_condition work;   /* readers wait here ... */
    uint32_t readers_resting;   /* ... so many */
    bool reader_called;         /* one of them, and it has not looked yet */
    bool reader_due;            /* one of them has something to look for: path_unlock calls it */
    bool writer_due;            /* likewise */
    struct fm_condition parked; /* here those that are too many */
    struct fm_condition ready;  /* the writer */
    struct fm_condition gone;   /* close, for the last shard */
    uint32_t readers_max;       /* that work at once, by the settings */
    uint32_t flights_max;       /* in use at once, by the settings; rows_fetched more of those */
    uint32_t flights_used;
    uint32_t flights_finished; /* of those: they wait to be written, or are being so */
    uint32_t block_rows;       /* that are read together, by the settings */
    struct fm_path_meter meter;
    struct flight *free_flights;
    struct flight_queue to_submit; /* fetched */
    struct flight_queue to_format;
    struct shard_work *shards; /* in the order in which they came */
    uint32_t rows_in_flight;
    uint64_t rows_finished;
    struct fm_path_memory memory;
    struct fm_error starvation; /* the first; nothing is begun any more */
    bool starvation_told;
    bool ending; /* threads may go */
    struct fm_error failure;
    struct fm_error last_error;
    struct fm_stage_watch watch;
};

/* --- The lock, and who is called when it is left --- */

static inline void path_lock(struct fm_data_path *path)
{
    fm_mutex_lock(&path->mutex);
}

/* Whom to call. One reader at a time is enough: it looks at all there is, and has the next one
 * called. The lock is held. */
static inline void calls_take(struct fm_data_path *path, bool *ret_reader, bool *ret_writer)
{
    *ret_reader = path->reader_due && path->readers_resting > 0 && !path->reader_called;
    *ret_writer = path->writer_due;
    path->reader_called = path->reader_called || *ret_reader;
    path->reader_due = false;
    path->writer_due = false;
}

/* Calls when the lock is free, so that nobody wakes only to wait for it. Not for threads that may
 * outlive the path. */
static inline void path_unlock(struct fm_data_path *path)
{
    bool reader = false;
    bool writer = false;
    calls_take(path, &reader, &writer);
    fm_mutex_unlock(&path->mutex);
    if (reader) {
        fm_condition_signal(&path->work);
    }
    if (writer) {
        fm_condition_signal(&path->ready);
    }
}

/* --- data_path.c; the lock is held --- */

/* Of a shard that is in no path; and one that leaves its path, first. */
void fm_data_path_shard_free(struct shard_work *shard);
void fm_data_path_shard_remove(struct fm_data_path *path, struct shard_work *shard);
/* Nobody wants the shard any more; the writer throws it away when its blocks are through. */
void fm_data_path_shard_abandon(struct fm_data_path *path, struct shard_work *shard);

#endif
