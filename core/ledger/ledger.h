/*
 * The ledger: which rows of a job are done, who holds which shard, and what comes next. A pure
 * state machine.
 *
 * Owns: shard states (READY -> LEASED -> DONE | DEAD), epochs, lease deadlines, splitting at a
 * finished prefix, the completeness proof. Does not own: persistence (host/store keeps what this
 * decides), rows' contents, clocks. Thread rule: one thread at a time.
 *
 * HOW IT WORKS. Rows of the job are numbered from 0. Each call of add_rows appends a segment that
 * is cut into shards of a fixed size; the boundaries follow from the segment's record, which is
 * persisted, and are never recomputed. Shards nobody has claimed exist only as "the rest of the
 * segment"; a claimed shard has a record while it is open; DONE and DEAD shards are kept as merged
 * row ranges. Memory is therefore proportional to open and dead shards, whatever the number of
 * rows. A claim adds one to the shard's epoch; renew, commit, release and kill name owner and epoch
 * and are refused (and counted) when the lease is no longer theirs, so that a late worker cannot
 * touch what it has lost.
 *
 * LIMITATIONS. Leases are searched linearly: meant for up to a few thousand at once.
 */
#ifndef FM_CORE_LEDGER_LEDGER_H
#define FM_CORE_LEDGER_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ledger/row_ranges.h"

enum fm_shard_state {
    FM_SHARD_READY,
    FM_SHARD_LEASED,
    FM_SHARD_DONE,
    FM_SHARD_DEAD,
    FM_SHARD_STATE_COUNT_
};

const char *fm_shard_state_name(enum fm_shard_state state);

/* A contiguous range of rows. */
struct fm_shard {
    uint64_t number; /* names the output part; unique in the job */
    uint64_t first_row;
    uint64_t row_count;
    uint64_t owner;       /* LEASED: whose; else of the last attempt */
    uint64_t deadline_ns; /* LEASED */
    uint64_t epoch;       /* claims so far: the number of the attempt */
    enum fm_shard_state state;
    uint64_t rows_out;     /* DONE: rows that gave a result ... */
    uint64_t dead_letters; /* ... and rows that did not; together row_count */
};

struct fm_ledger_options {
    uint32_t leases_max;
    uint64_t lease_ns; /* 0: leases never expire */
};

enum fm_ledger_answer {
    FM_LEDGER_GRANTED,
    FM_LEDGER_WAIT,     /* nothing to hand out now, but others still hold shards (or leases_max is
                           reached) */
    FM_LEDGER_FINISHED, /* every row is DONE or DEAD */
};

/* Arithmetic of the end: complete means that every row of the input is accounted for exactly once.
 */
struct fm_ledger_proof {
    uint64_t rows_in;
    uint64_t rows_out;
    uint64_t dead_letters;
    uint64_t rows_dead;    /* in shards given up as a whole */
    uint64_t rows_missing; /* neither done nor dead */
    bool complete;         /* rows_in == rows_out + dead_letters, and nothing dead or missing */
};

struct fm_ledger_stats {
    uint64_t claims;
    uint64_t commits;
    uint64_t releases;
    uint64_t expiries;
    uint64_t stale; /* refused because the lease had gone */
    uint64_t open_shards;
    uint64_t leased_shards;
    uint64_t done_ranges;
};

struct fm_ledger;

int FM_NODISCARD fm_ledger_create(const struct fm_ledger_options *options,
                                  struct fm_ledger **ret_ledger);
void fm_ledger_destroy(struct fm_ledger *ledger); /* accepts NULL */

/* A run of rows cut into shards of one size. */
struct fm_ledger_segment {
    uint64_t first_row;
    uint64_t row_count;
    uint64_t shard_rows;   /* the last shard of the segment may be shorter */
    uint64_t first_number; /* shards of the segment are numbered from here */
};

/* Appends rows to the job, at the end. FM_EINVAL: no rows, or shard_rows 0. *ret_segment is what to
 * persist. */
int FM_NODISCARD fm_ledger_add_rows(struct fm_ledger *ledger, uint64_t row_count,
                                    uint64_t shard_rows, struct fm_ledger_segment *ret_segment);

/*
 * Rebuilding from a store: all segments in order, then every shard that was ever claimed or split
 * off, in any order, then finish. FM_ECORRUPT when they do not fit together.
 */
int FM_NODISCARD fm_ledger_restore_segment(struct fm_ledger *ledger,
                                           const struct fm_ledger_segment *segment);
int FM_NODISCARD fm_ledger_restore_shard(struct fm_ledger *ledger, const struct fm_shard *shard);
int FM_NODISCARD fm_ledger_restore_finish(struct fm_ledger *ledger);

/*
 * Leases the unfinished shard with the lowest rows to `owner`, and first takes back what has
 * expired. FM_ENOMEM changes nothing but that. *ret_shard is set when granted.
 */
int FM_NODISCARD fm_ledger_claim(struct fm_ledger *ledger, uint64_t now_ns, uint64_t owner,
                                 enum fm_ledger_answer *ret_answer, struct fm_shard *ret_shard);

/* Each of these: FM_ECANCELLED when the shard is not leased to this owner in this epoch (counted as
 * stale). */
int FM_NODISCARD fm_ledger_renew(struct fm_ledger *ledger, uint64_t now_ns, uint64_t number,
                                 uint64_t owner, uint64_t epoch);
int FM_NODISCARD fm_ledger_release(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                   uint64_t epoch);
/* Gives the shard up for good: DEAD. */
int FM_NODISCARD fm_ledger_kill(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                uint64_t epoch);
/*
 * Commits the first rows_out + dead_letters rows (at least 1; FM_EINVAL otherwise). When these are
 * not all, the rest becomes a READY shard of its own with a new number, given in *ret_rest
 * (row_count 0: no rest). FM_ENOMEM changes nothing.
 */
int FM_NODISCARD fm_ledger_commit(struct fm_ledger *ledger, uint64_t number, uint64_t owner,
                                  uint64_t epoch, uint64_t rows_out, uint64_t dead_letters,
                                  struct fm_shard *ret_rest);

/* Takes back leases whose deadline has come. Returns how many. */
uint32_t fm_ledger_expire(struct fm_ledger *ledger, uint64_t now_ns);

uint64_t fm_ledger_row_count(const struct fm_ledger *ledger);
void fm_ledger_prove(const struct fm_ledger *ledger, struct fm_ledger_proof *ret_proof);
void fm_ledger_stats(const struct fm_ledger *ledger, struct fm_ledger_stats *ret_stats);
/* An open shard (READY or LEASED, claimed or split off before), by index from 0, in row order.
 * False behind the last. */
bool fm_ledger_open_shard(const struct fm_ledger *ledger, uint64_t index,
                          struct fm_shard *ret_shard);

/* Checks the whole structure: every row in exactly one place. Aborts when something is wrong. For
 * tests and after restoring. */
void fm_ledger_validate(const struct fm_ledger *ledger);

#endif
