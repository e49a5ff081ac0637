/*
 * Looking at a job from outside: how it stands, from what lies in its output directory.
 *
 * Owns: what the states of a directory mean. Does not own: changing anything; asking a master that
 * runs. Thread rule: no shared state.
 *
 * It may be called at any time, also while a master works there: the ledger is read as it is at one
 * moment (host/store/sqlite_store.h).
 */
#ifndef FM_ENGINES_BATCH_JOB_LOOK_H
#define FM_ENGINES_BATCH_JOB_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "host/store/job_store.h"

enum fm_job_standing {
    FM_JOB_RUNNING,
    FM_JOB_STOPPED,   /* it can be resumed */
    FM_JOB_CANCELLED, /* likewise, but somebody did not want that */
    FM_JOB_COMPLETE,
    FM_JOB_COMPLETE_WITH_LETTERS,
    FM_JOB_INCOMPLETE, /* nothing is left to do, but rows were given up */
    FM_JOB_DISCARDED,  /* --restart was interrupted */
    FM_JOB_UNREADABLE, /* `trouble` says why */
    FM_JOB_STANDING_COUNT_
};

/* "complete with dead letters". */
const char *fm_job_standing_name(enum fm_job_standing standing);

enum { FM_JOB_LOOK_FACTS = 24, FM_JOB_LOOK_WORST = 8 };

struct fm_job_look {
    enum fm_job_standing standing;
    struct fm_error trouble;
    long process;             /* RUNNING: whose; 0: unknown */
    bool has_ledger;          /* false: a manifest is all that there is */
    bool taking;              /* RUNNING: it has not begun, but its rows are taken down (spool.h) */
    uint64_t taken_bytes;     /* so many so far */
    char name[256];           /* "": unknown */
    char file[1024];          /* likewise */
    char state[256];          /* why it does not run, in words; "": unknown */
    char finished[40];        /* as the manifest says; "" */
    uint64_t begun_wall_ns;   /* 0: unknown */
    uint64_t changed_wall_ns; /* when something was written last */
    uint64_t rows_total;
    uint64_t rows_out;
    uint64_t dead_letters;
    uint64_t rows_leased;  /* of shards that somebody has */
    uint64_t rows_waiting; /* of shards that were given back, or failed */
    uint64_t rows_given_up;
    uint64_t rows_unclaimed; /* never handed out */
    uint64_t bytes;          /* of results and dead letters */
    uint64_t shards[FM_SHARD_STATE_COUNT_];
    uint64_t failures[FM_SHARD_FAILURE_COUNT_]; /* of attempts at all shards */
    struct {
        char key[64];
        char value[256];
    } facts[FM_JOB_LOOK_FACTS];
    uint32_t fact_count;
    struct fm_shard_record worst[FM_JOB_LOOK_WORST]; /* with the most failures, worst first */
    uint32_t worst_count;
};

/* FM_ENOTFOUND: no job's output; FM_ENOMEM, FM_EIO, FM_EPERM, FM_ETOOLARGE. What is there but
 * cannot be read is no error: UNREADABLE. */
int FM_NODISCARD fm_job_look(const char *directory, struct fm_job_look *ret_look,
                             struct fm_error *reterr);

/* Calls each(context, directory) for every job at or below `root`; not below those that it found.
 * trouble(context, text): a directory that could not be looked into; NULL: dropped. A negative
 * answer of `each` ends it and is returned. */
int FM_NODISCARD fm_job_find(const char *root, int (*each)(void *context, const char *directory),
                             void (*trouble)(void *context, const char *text), void *context);

#endif
