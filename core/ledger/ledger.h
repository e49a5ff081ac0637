/*
 * The ledger: which rows of a job are done, who holds which shard, and what comes next. A pure
 * state machine.
 *
 * Owns: shard states (READY -> LEASED -> DONE | DEAD), epochs, lease deadlines, retry budgets,
 * splitting, the completeness proof. Does not own: persistence (host/store keeps what this
 * decides), how large shards should be (pace.h), who is alive (master.h), rows' contents, clocks.
 * Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Rows of the job are numbered from 0. add_rows appends a segment; a claim cuts the
 * next shard off it, as large as the claimant asks. The boundaries of a shard are part of what a
 * claim makes the caller persist, and are never computed again. Rows that nobody has claimed exist
 * only as "the rest of the segment", an unfinished shard has a record, and what is DONE or DEAD is
 * kept as merged row ranges: memory is proportional to unfinished shards, whatever the number of
 * rows.
 *
 * A claim adds one to the shard's epoch. Renew, commit, trim, release and fail name owner and epoch
 * and are refused (and counted) when the lease is no longer theirs, so that a late worker cannot
 * touch what it has lost. A shard may be leased a second time while the first lease goes on
 * (lease_again): whoever commits first has done it, the other is stale.
 *
 * Segments have a rank, which is persisted with them, and so have the shards that are cut off them:
 * as long as there are rows of a lower rank to be handed out, no others are.
 *
 * A shard that fails is handed out again, later and later. Two budgets are counted: of workers that
 * were lost (INFRASTRUCTURE: generous) and of attempts that its rows may have ended (DATA: strict).
 * One that has used up a budget is cut in halves, until a single row is left; so is one after every
 * third lost worker, so that shards get as small as what workers live for. A row whose budget is
 * used up is "condemned": whoever claims it writes it down as a dead letter and does not run it. If
 * even that fails, it is DEAD, and the job cannot be complete. So nothing is ever dropped.
 *
 * LIMITATIONS. At most two leases for a shard. Adding and removing an unfinished shard moves the
 * numbers behind it in an array: meant for up to some ten thousand unfinished shards at once.
 */
#ifndef FM_CORE_LEDGER_LEDGER_H
#define FM_CORE_LEDGER_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ledger/row_ranges.h"

/* Which rows are handed out first: a rank of 0 before one of 1, and so on. The last is that of rows
 * of which nothing is said. */
#define FM_LEDGER_RANKS     17u
#define FM_LEDGER_RANK_LAST (FM_LEDGER_RANKS - 1)
/* Of a job. */
#define FM_LEDGER_ROWS_MAX (UINT64_C(1) << 58)

/* Times that a condemned row is tried to be written down before it is DEAD. */
#define FM_LEDGER_CONDEMNED_ATTEMPTS 3u

enum fm_shard_state {
    FM_SHARD_READY,
    FM_SHARD_LEASED,
    FM_SHARD_DONE,
    FM_SHARD_DEAD,
    FM_SHARD_STATE_COUNT_
};

const char *fm_shard_state_name(enum fm_shard_state state);

/* Why an attempt came to nothing. */
enum fm_shard_failure {
    FM_SHARD_FAILURE_INFRASTRUCTURE, /* the worker was lost, preempted, or had no memory left */
    FM_SHARD_FAILURE_DATA,           /* the attempt itself crashed, hung or failed */
    FM_SHARD_FAILURE_COUNT_
};

/* A contiguous range of rows. */
struct fm_shard {
    uint64_t number; /* names the output part; unique in the job */
    uint64_t first_row;
    uint64_t row_count;
    uint64_t owner;       /* LEASED: whose, of the newest lease; else of the last attempt */
    uint64_t deadline_ns; /* LEASED: of the newest lease */
    uint64_t epoch;       /* goes up by one with each claim: the number of the attempt */
    enum fm_shard_state state;
    uint32_t failures[FM_SHARD_FAILURE_COUNT_];
    bool condemned;        /* one row that must not be run: to be written as a dead letter */
    uint64_t rows_out;     /* DONE: rows that gave a result ... */
    uint64_t dead_letters; /* ... and rows that did not; together row_count */
};

/* Rows of it may have ended a process: nothing else should be run beside it. */
static inline bool fm_shard_suspect(const struct fm_shard *shard)
{
    return shard->failures[FM_SHARD_FAILURE_DATA] > 0 && !shard->condemned;
}

struct fm_ledger_options {
    uint32_t leases_max; /* at once, > 0 */
    uint64_t lease_ns;   /* 0: leases never expire */
    /* Epochs of new shards begin behind this. A random number keeps workers of a job that was begun
     * anew from being taken for workers of this one: no lease of theirs has the same epoch. */
    uint64_t epoch_first;
    /* Attempts after which a shard is cut in two; 0: never. */
    uint32_t attempts_max[FM_SHARD_FAILURE_COUNT_];
    uint64_t backoff_ns;     /* before a shard that failed once is handed out again; doubles ... */
    uint64_t backoff_max_ns; /* ... up to this */
};

enum fm_ledger_answer {
    FM_LEDGER_GRANTED,
    FM_LEDGER_WAIT,     /* nothing to hand out now: others still hold shards, leases_max is reached,
                           a failed shard has to wait, only suspect ones are READY, more rows may
                           come, or the job is paused */
    FM_LEDGER_FINISHED, /* every row is DONE or DEAD, and no more will come */
};

/* Arithmetic of the end: complete means that every row of the input is accounted for exactly once.
 */
struct fm_ledger_proof {
    uint64_t rows_in;
    uint64_t rows_out;
    uint64_t dead_letters;
    uint64_t rows_dead;    /* in shards given up as a whole */
    uint64_t rows_missing; /* neither done nor dead */
    bool complete;         /* closed, rows_in == rows_out + dead_letters, nothing dead or missing */
};

struct fm_ledger_stats {
    uint64_t claims;
    uint64_t commits;
    uint64_t releases;
    uint64_t expiries;
    uint64_t failures[FM_SHARD_FAILURE_COUNT_]; /* told, and by expiry */
    uint64_t splits;
    uint64_t trims;
    uint64_t duplicates; /* second leases */
    uint64_t stale;      /* refused because the lease had gone */
    uint64_t open_shards;
    uint64_t ready_suspects; /* of these, as of the last claim */
    uint64_t leases;
    uint64_t done_ranges;
    uint64_t rows_unclaimed; /* never handed out */
};

struct fm_ledger;

int FM_NODISCARD fm_ledger_create(const struct fm_ledger_options *options,
                                  struct fm_ledger **ret_ledger);
void fm_ledger_destroy(struct fm_ledger *ledger); /* accepts NULL */

/* A run of rows. */
struct fm_ledger_segment {
    uint64_t first_row;
    uint64_t row_count;
    uint64_t grain_rows; /* shards of the segment begin at multiples of it where nothing failed;
                            1: anywhere */
    uint32_t rank;       /* below FM_LEDGER_RANKS */
};

/* Appends rows to the job, at the end: what first_row says is not looked at. FM_EINVAL: no rows,
 * more than FM_LEDGER_ROWS_MAX, grain 0, or no such rank; FM_ENOMEM. *ret_segment is what to
 * persist. */
int FM_NODISCARD fm_ledger_add_rows(struct fm_ledger *ledger, const struct fm_ledger_segment *rows,
                                    struct fm_ledger_segment *ret_segment);
/* No more rows will come, or, after a `false`, perhaps. A new ledger is open. */
void fm_ledger_close(struct fm_ledger *ledger, bool closed);
/* While it is paused nothing is handed out; what is held goes on. */
void fm_ledger_pause(struct fm_ledger *ledger, bool paused);

/*
 * Rebuilding from a store: all segments in order, then every shard that was ever claimed or split
 * off, in any order, then finish, after which the rows behind a segment's last shard are those
 * that nobody has claimed. Leases get a new deadline. FM_ECORRUPT when they do not fit together.
 */
int FM_NODISCARD fm_ledger_restore_segment(struct fm_ledger *ledger,
                                           const struct fm_ledger_segment *segment);
int FM_NODISCARD fm_ledger_restore_shard(struct fm_ledger *ledger, uint64_t now_ns,
                                         const struct fm_shard *shard);
int FM_NODISCARD fm_ledger_restore_finish(struct fm_ledger *ledger);

struct fm_ledger_claim {
    uint64_t owner;
    uint64_t rows_max; /* of a shard that is cut off now, which has one grain at least */
    bool suspects;     /* a suspect shard is welcome: the owner holds nothing else */
};

/*
 * Leases the READY shard of the lowest rank, and there with the lowest rows, to the owner, or cuts
 * one off the rows that nobody had yet, when these are lower; suspect ones come first. Expired
 * leases must have been taken back before (expire). FM_ENOMEM changes nothing. *ret_shard is set
 * when granted: it is to be persisted before the owner hears of it.
 */
int FM_NODISCARD fm_ledger_claim(struct fm_ledger *ledger, uint64_t now_ns,
                                 const struct fm_ledger_claim *claim,
                                 enum fm_ledger_answer *ret_answer, struct fm_shard *ret_shard);
/*
 * A second lease of a shard that somebody else holds. FM_EINVAL: it is not LEASED, `owner` has it,
 * or it is suspect or condemned; FM_ELIMIT: it has two, or leases_max is reached.
 */
int FM_NODISCARD fm_ledger_lease_again(struct fm_ledger *ledger, uint64_t now_ns, uint64_t owner,
                                       uint64_t number, struct fm_shard *ret_shard);

/* Each of these: FM_ECANCELLED when the shard is not leased to this owner in this epoch (counted as
 * stale). */
int FM_NODISCARD fm_ledger_renew(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number,
                                 uint64_t owner, uint64_t epoch);
/* Given back unharmed. */
int FM_NODISCARD fm_ledger_release(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                   uint64_t epoch);
/*
 * Commits the first rows_out + dead_letters rows (at least 1; FM_EINVAL otherwise). When these are
 * not all, the rest becomes a READY shard of its own with a new number, given in *ret_rest
 * (row_count 0: no rest). FM_ENOMEM changes nothing.
 */
int FM_NODISCARD fm_ledger_commit(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                  uint64_t epoch, uint64_t rows_out, uint64_t dead_letters,
                                  struct fm_shard *ret_rest);
/*
 * The owner keeps the first keep_rows rows (at least 1, not all; FM_EINVAL otherwise); the others
 * become a READY shard with a new number, *ret_rest. Not for one that is leased twice (FM_EINVAL).
 * FM_ENOMEM changes nothing. *ret_shard is what is left.
 */
int FM_NODISCARD fm_ledger_trim(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                uint64_t epoch, uint64_t keep_rows, struct fm_shard *ret_shard,
                                struct fm_shard *ret_rest);

/* What became of a shard that lost a lease. To be persisted. */
struct fm_ledger_outcome {
    struct fm_shard shard; /* as it is now: READY, DEAD, or LEASED where another lease goes on */
    struct fm_shard half;  /* the other half, READY; row_count 0: it was not split */
    uint64_t owner;        /* whose lease it was */
    uint64_t epoch;
    bool expired;
};

/* The attempt came to nothing. FM_ENOMEM changes nothing. */
int FM_NODISCARD fm_ledger_fail(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number,
                                uint64_t owner, uint64_t epoch, enum fm_shard_failure failure,
                                struct fm_ledger_outcome *ret_outcome);
/* Takes back one lease whose deadline has come, as a failure of infrastructure. False: there is
 * none. Never fails: without memory for a split the shard stays whole and is tried again. */
bool fm_ledger_expire(struct fm_ledger *ledger, uint64_t now_ns,
                      struct fm_ledger_outcome *ret_outcome);
/* When expire or claim may have something new to say, if nothing happens before; UINT64_MAX: never.
 */
uint64_t fm_ledger_next_ns(const struct fm_ledger *ledger);

uint64_t fm_ledger_row_count(const struct fm_ledger *ledger);
void fm_ledger_prove(const struct fm_ledger *ledger, struct fm_ledger_proof *ret_proof);
void fm_ledger_stats(const struct fm_ledger *ledger, struct fm_ledger_stats *ret_stats);

/* A lease, as seen from outside. */
struct fm_lease {
    uint64_t owner;
    uint64_t epoch;
    uint64_t granted_ns;
    uint64_t deadline_ns;
};

#define FM_LEDGER_LEASES_OF_ONE_MAX 2u

/* An unfinished shard that has a record, in the order of their numbers, by index from 0; false
 * behind the last. ret_leases (may be NULL) gets those of a LEASED one; its count is returned in
 * *ret_lease_count. */
bool fm_ledger_open_shard(const struct fm_ledger *ledger, uint64_t index,
                          struct fm_shard *ret_shard,
                          struct fm_lease ret_leases[FM_LEDGER_LEASES_OF_ONE_MAX],
                          uint32_t *ret_lease_count);
/* Likewise by its number; false when it has no record. */
bool fm_ledger_find(const struct fm_ledger *ledger, uint64_t number, struct fm_shard *ret_shard,
                    struct fm_lease ret_leases[FM_LEDGER_LEASES_OF_ONE_MAX],
                    uint32_t *ret_lease_count);
/* Every row that there is, is done or dead, and no more will come. */
bool fm_ledger_finished(const struct fm_ledger *ledger);
/* Nothing waits to be claimed, now or, but for failures, later. */
bool fm_ledger_all_claimed(const struct fm_ledger *ledger);

/* Checks the whole structure: every row in exactly one place. Aborts when something is wrong. For
 * tests and after restoring. */
void fm_ledger_validate(const struct fm_ledger *ledger);

#endif
