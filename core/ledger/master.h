/*
 * The master of a job: who works, who gets which shard, what is to be made durable before anybody
 * hears of it. A pure state machine over the ledger.
 *
 * Owns: the workers that it knows, what each of them holds, whom to give the next shard, whom to
 * relieve near the end, the limit on failed rows, the order "first durable, then told". Does not
 * own: shards (ledger.h), how messages travel, the store, files. Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Every function takes the time and what happened, and leaves records to be stored
 * (take_records) and actions (next_action). The caller stores all records that it took in one
 * transaction, which is group commit without any waiting, and says so (persisted); actions that
 * depend on a record come out only after that. So a worker never holds a lease, and never hears of
 * a commit, that a restarted master would not know.
 *
 * A worker says how many shards it wants to hold at once; it is given as many, in the sizes that
 * its pace asks for. It has to be heard of (beat) within a lease's time, or loses what it holds.
 * Workers that went and came back (hello) keep what the ledger says they still have.
 *
 * A shard whose rows may have ended a process is given to a worker that holds nothing else, and
 * nothing else beside it: otherwise an innocent shard would be blamed with it.
 *
 * Near the end, when nothing is left to hand out, a worker without work relieves the one that would
 * end last: that one is asked for the end of its shard (TRIM), as much as brings both to their end
 * at the same time. Whoever does not answer that, or holds a single row for very long, gets
 * company: the shard is leased a second time, and the first commit counts.
 */
#ifndef FM_CORE_LEDGER_MASTER_H
#define FM_CORE_LEDGER_MASTER_H

#include <stddef.h>

#include "core/ledger/pace.h"
#include "core/ledger/shard_record.h"

/* Shards that one worker may hold at once. */
#define FM_MASTER_SHARDS_OF_ONE_MAX 16u

struct fm_master_limits {
    uint64_t bad_rows_max;    /* UINT64_MAX: no limit */
    double bad_ratio_max;     /* of the rows finished since the master started ... */
    uint64_t bad_ratio_after; /* ... once there are so many */
};

struct fm_master_options {
    struct fm_ledger_options ledger; /* lease_ns > 0 */
    struct fm_pace_options pace;
    uint64_t shard_rows; /* 0: as the pace of workers says */
    uint32_t workers_max;
    struct fm_master_limits limits;
    uint64_t relief_ns;    /* a worker that would need this much longer than another is relieved */
    uint64_t duplicate_ns; /* one that was asked and has not changed for so long gets company;
                              0: never */
};

enum fm_master_action_kind {
    FM_MASTER_GRANT,     /* `shard` is the worker's */
    FM_MASTER_COMMITTED, /* the attempt counts: publish its files, then tell the worker */
    FM_MASTER_REFUSED,   /* the worker does not have this lease (any more): its attempt is to be
                            thrown away; also the answer to one that failed */
    FM_MASTER_TRIM,      /* the worker is asked to keep only the first keep_rows rows; 0: to give it
                            back if it has not begun */
    FM_MASTER_STOP,      /* the worker is to commit what it has finished and give the rest back */
    FM_MASTER_DROP,      /* the worker is to give everything back and keep nothing */
    FM_MASTER_END,       /* nothing is left to do: the worker may go */
    FM_MASTER_ACTION_COUNT_
};

struct fm_master_action {
    enum fm_master_action_kind kind;
    uint64_t worker;
    struct fm_shard shard;             /* GRANT; of the others number and epoch */
    char reason[FM_SHARD_REASON_SIZE]; /* GRANT of a condemned row: why */
    struct fm_part_facts files;        /* COMMITTED */
    uint64_t keep_rows;                /* TRIM */
};

/* What a worker says of a shard that it holds. */
struct fm_master_holding {
    uint64_t number;
    uint64_t epoch;
    uint64_t rows_done; /* finished, of them ... */
    uint64_t rows_bad;  /* ... dead letters */
};

struct fm_master;

int FM_NODISCARD fm_master_create(const struct fm_master_options *options,
                                  struct fm_master **ret_master);
void fm_master_destroy(struct fm_master *master); /* accepts NULL */

/* The ledger: to restore it before anything else happens, and to ask it. Rows are added through
 * fm_master_add_rows. */
struct fm_ledger *fm_master_ledger(struct fm_master *master);
/* fm_ledger_restore_shard, and it keeps the reason of an unfinished one. */
int FM_NODISCARD fm_master_restore_shard(struct fm_master *master, uint64_t now_ns,
                                         const struct fm_shard_record *record);

/* More rows, which the caller has stored; and no more to come. FM_EINVAL, FM_ENOMEM. */
int FM_NODISCARD fm_master_add_rows(struct fm_master *master, uint64_t now_ns,
                                    const struct fm_ledger_segment *rows,
                                    struct fm_ledger_segment *ret_segment);
void fm_master_close(struct fm_master *master, uint64_t now_ns, bool closed);

void fm_master_pause(struct fm_master *master, uint64_t now_ns, bool paused);
/* Nothing more is handed out, and every worker gets STOP, or DROP. For good. */
int FM_NODISCARD fm_master_stop(struct fm_master *master, uint64_t now_ns, bool drop);

/*
 * What workers say. `worker` is a number that the worker chose for itself, once. Each of these:
 * FM_ENOMEM: say it again; FM_EINVAL: what no worker of ours would say. A lease that the worker
 * does not have is answered with REFUSED, and is no error.
 */

/* It is there (again), wants to hold up to shards_max shards, and holds these; whatever else the
 * ledger thought it holds never reached it, and is given back. FM_ELIMIT: workers_max are there. */
int FM_NODISCARD fm_master_hello(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                 uint32_t shards_max, const struct fm_master_holding *holdings,
                                 size_t count);
/* It lives, and is so far. */
int FM_NODISCARD fm_master_beat(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                const struct fm_master_holding *holdings, size_t count);

struct fm_master_done {
    uint64_t number;
    uint64_t epoch;
    uint64_t rows_out;
    uint64_t dead_letters;
    struct fm_part_facts files; /* attempt is set to the epoch */
};

/* Its attempt is on the disk. Of a shard that it stopped early the rows are a prefix. */
int FM_NODISCARD fm_master_done(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                const struct fm_master_done *done);
int FM_NODISCARD fm_master_failed(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                  uint64_t number, uint64_t epoch, enum fm_shard_failure failure,
                                  const char *reason);
int FM_NODISCARD fm_master_released(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                    uint64_t number, uint64_t epoch);
/* The answer to TRIM: it keeps so many rows; all of them: it can give nothing. */
int FM_NODISCARD fm_master_trimmed(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                   uint64_t number, uint64_t epoch, uint64_t keep_rows);
/* It has no connection any more, but may come back while its leases last: gets nothing new. */
void fm_master_lost(struct fm_master *master, uint64_t worker);
/* It is gone for good. All that it held has failed, for this reason; NULL: it had given everything
 * back, or does so now. */
int FM_NODISCARD fm_master_gone(struct fm_master *master, uint64_t now_ns, uint64_t worker,
                                enum fm_shard_failure failure, const char *reason);

/* Leases that expire, failed shards whose time has come, relief, the limit on failed rows. */
int FM_NODISCARD fm_master_tick(struct fm_master *master, uint64_t now_ns);
/* When tick is due, if nothing happens before. */
uint64_t fm_master_next_ns(const struct fm_master *master, uint64_t now_ns);

/* Records that are to be stored: how many take_records would give. */
size_t fm_master_records_waiting(const struct fm_master *master);
/* The records that are to be stored, in one transaction, and the number to say so with; borrowed
 * until the next call of anything else. 0: none. They are the caller's matter from then on. */
size_t fm_master_take_records(struct fm_master *master, const struct fm_shard_record **ret_records,
                              uint64_t *ret_sequence);
/* All records up to this number are durable. */
void fm_master_persisted(struct fm_master *master, uint64_t sequence);
/* The next thing to do; false: nothing, for now. */
bool fm_master_next_action(struct fm_master *master, struct fm_master_action *ret_action);

/* Every row is done or dead and that is durable; or it was stopped, and nobody holds anything. */
bool fm_master_over(const struct fm_master *master);
/* The limit on failed rows was passed, which has stopped the job with DROP; says how, in words. */
bool fm_master_limit_passed(const struct fm_master *master, struct fm_error *ret_how);

/* Whether the worker has this lease, as far as the master knows. */
bool fm_master_holds(const struct fm_master *master, uint64_t worker, uint64_t number,
                     uint64_t epoch);

/* How a worker stands, in the order of their numbers, by index from 0; false behind the last. */
struct fm_master_worker {
    uint64_t worker;
    bool connected;
    uint32_t shards;
    uint64_t rows_in_work;
    uint64_t rows_committed;
    double rows_per_s;
    uint64_t heard_ns;
};

bool fm_master_worker(const struct fm_master *master, size_t index,
                      struct fm_master_worker *ret_worker);

struct fm_master_progress {
    uint64_t rows_total;
    uint64_t rows_committed;
    uint64_t rows_done; /* with those that are finished and not committed */
    uint64_t dead_letters;
    uint64_t rows_in_work; /* of shards that somebody holds, and not done */
    uint32_t workers;      /* connected */
    double rows_per_s;
};

void fm_master_progress(const struct fm_master *master, struct fm_master_progress *ret_progress);

/* Checks the whole structure; aborts when something is wrong. For tests. */
void fm_master_validate(const struct fm_master *master);

#endif
