/*
 * A worker's side of the ledger: what it holds, what it tells the master, and what it may do with
 * an attempt. A pure state machine.
 *
 * Owns: the life of a lease in the worker, what is said again after a lost connection, giving up.
 * Does not own: how messages travel, the rows, the files. Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Every function takes what happened and leaves actions, which the caller takes out
 * (next_action) before it calls again: messages for the master and orders for the data path. The
 * data path reports progress and ends. After a lost connection the worker goes on with what it
 * holds; when there is a connection again it says what it holds, and again what it has finished
 * and what it has failed, until the master has answered that.
 *
 * An attempt that was reported as done belongs to the master: whether it counts is known only
 * there. So it is never thrown away here, not even when the master does not know the lease any
 * more, because it may have committed it and the answer was lost.
 */
#ifndef FM_CORE_LEDGER_HOLDER_H
#define FM_CORE_LEDGER_HOLDER_H

#include "core/ledger/master.h"

struct fm_holder_options {
    uint64_t beat_ns;    /* between two signs of life: a fraction of the lease */
    uint64_t give_up_ns; /* without a connection for so long it stops for good */
};

enum fm_holder_action_kind {
    /* For the master. */
    FM_HOLDER_HELLO, /* with what it holds (fm_holder_holdings) */
    FM_HOLDER_BEAT,  /* likewise */
    FM_HOLDER_DONE,
    FM_HOLDER_FAILED,
    FM_HOLDER_RELEASED,
    FM_HOLDER_TRIMMED,
    /* For the data path. */
    FM_HOLDER_RUN,     /* begin the shard */
    FM_HOLDER_SHORTEN, /* keep only the first keep_rows rows, or as many as have begun; answered by
                          fm_holder_shortened */
    FM_HOLDER_CURTAIL, /* begin no more rows of it: what is finished is the end of it; answered by
                          done, or by released when there is nothing */
    FM_HOLDER_ABANDON, /* stop it and throw the attempt away; not answered */
    FM_HOLDER_EXIT,    /* the job is over, or the master was not there for too long */
    FM_HOLDER_ACTION_COUNT_
};

struct fm_holder_action {
    enum fm_holder_action_kind kind;
    struct fm_shard shard;             /* RUN; of the others number and epoch */
    uint64_t keep_rows;                /* SHORTEN, TRIMMED */
    struct fm_master_done done;        /* DONE */
    enum fm_shard_failure failure;     /* FAILED */
    char reason[FM_SHARD_REASON_SIZE]; /* FAILED; RUN of a condemned row */
    bool given_up;                     /* EXIT */
};

struct fm_holder;

int FM_NODISCARD fm_holder_create(const struct fm_holder_options *options, uint64_t now_ns,
                                  struct fm_holder **ret_holder);
void fm_holder_destroy(struct fm_holder *holder); /* accepts NULL */

void fm_holder_connected(struct fm_holder *holder, uint64_t now_ns);
void fm_holder_disconnected(struct fm_holder *holder, uint64_t now_ns);
/* A sign of life is due, or it is time to give up. Call it at fm_holder_next_ns. */
void fm_holder_tick(struct fm_holder *holder, uint64_t now_ns);
uint64_t fm_holder_next_ns(const struct fm_holder *holder);

/* What the master says. FM_EINVAL: what no master of ours would say. */
int FM_NODISCARD fm_holder_granted(struct fm_holder *holder, const struct fm_shard *shard,
                                   const char *reason);
void fm_holder_committed(struct fm_holder *holder, uint64_t number, uint64_t epoch);
void fm_holder_refused(struct fm_holder *holder, uint64_t number, uint64_t epoch);
void fm_holder_asked(struct fm_holder *holder, uint64_t number, uint64_t epoch, uint64_t keep_rows);
/* Also what the worker's own end leads to, as by SIGTERM. */
void fm_holder_stop(struct fm_holder *holder, bool drop);
void fm_holder_ended(struct fm_holder *holder);

/* What the data path says of a shard that it was told to run and not to abandon. */
void fm_holder_progress(struct fm_holder *holder, const struct fm_master_holding *progress);
void fm_holder_shortened(struct fm_holder *holder, uint64_t number, uint64_t keep_rows);
/* The attempt is on the disk. */
void fm_holder_done(struct fm_holder *holder, const struct fm_master_done *done);
/* The attempt is thrown away: it failed. It stays among the holdings until the master has answered
 * (refused): a failure that the master does not hear of would come again. */
void fm_holder_failed(struct fm_holder *holder, uint64_t number, enum fm_shard_failure failure,
                      const char *reason);
/* The attempt is thrown away: nothing of it was finished. */
void fm_holder_released(struct fm_holder *holder, uint64_t number);
/* Whether the shard is reported as done, and only the master's answer is missing. */
bool fm_holder_is_reported(const struct fm_holder *holder, uint64_t number);

/* The next thing to do; false: nothing. */
bool fm_holder_next_action(struct fm_holder *holder, struct fm_holder_action *ret_action);
/* What it holds, for HELLO and BEAT. Returns how many. */
size_t fm_holder_holdings(const struct fm_holder *holder,
                          struct fm_master_holding ret_holdings[FM_MASTER_SHARDS_OF_ONE_MAX]);

#endif
