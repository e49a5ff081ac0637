/*
 * Fault points: named places where a batch job can be made to die or to fail, so that anyone can
 * see that it recovers.
 *
 * `fermata batch --fault POINT[:N][:error|:memory]` reaches one of them. The points stand between
 * every two steps that change the disk. Thread rule: hit from any thread.
 */
#ifndef FM_ENGINES_BATCH_FAULT_H
#define FM_ENGINES_BATCH_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

/* X(NAME, name, where it lies) */
#define FM_FAULT_TABLE(X)                                                                          \
    X(TAKING_DOWN, "taking-down", "a piece of standard input was written, more may come")          \
    X(TAKEN_DOWN, "taken-down", "standard input is written as a whole, the job is not begun")      \
    X(LISTED, "listed", "the list of inputs is written, the ledger is not begun")                  \
    X(CREATED, "created", "the ledger is begun, no shard is claimed")                              \
    X(CLAIMED, "claimed", "a shard is claimed in the ledger, its attempt file is not there")       \
    X(ROW_WRITTEN, "row-written", "a row was appended to an attempt file")                         \
    X(BEFORE_SYNC, "before-sync", "an attempt file is complete, not flushed to the disk")          \
    X(BEFORE_COMMIT, "before-commit", "an attempt file is on the disk, the ledger does not know")  \
    X(AFTER_COMMIT, "after-commit", "the ledger has committed, nothing is renamed")                \
    X(LETTERS_PUBLISHED, "letters-published", "the dead letters are renamed, the part is not")     \
    X(PUBLISHED, "published", "the part is renamed")                                               \
    X(RECONCILED, "reconciled", "a resumed job has repaired what it found")                        \
    X(GROWN_LISTED, "grown-listed", "new inputs are listed, the ledger does not know")             \
    X(GROWN, "grown", "the ledger knows the new inputs")                                           \
    X(BEFORE_MANIFEST, "before-manifest", "every shard is published, the manifest is not written") \
    X(AFTER_MANIFEST, "after-manifest", "the manifest is written, _SUCCESS is not")                \
    X(DISCARDING, "discarding", "--restart has begun to remove the former job")

enum fm_fault_point {
#define FM_FAULT_ENUM(name, text, where) FM_FAULT_##name,
    FM_FAULT_TABLE(FM_FAULT_ENUM)
#undef FM_FAULT_ENUM
        FM_FAULT_COUNT_
};

/* Zeroed: no fault. */
struct fm_fault {
    enum fm_fault_point point;
    atomic_uint_fast64_t countdown; /* 0: off */
    int status;                     /* fail with FM_ENOSPC or FM_ENOMEM; 0: die */
};

/* "before-commit", "row-written:17", "row-written:17:error" (no space), ":memory" (no memory). */
int FM_NODISCARD fm_fault_parse(const char *text, struct fm_fault *ret_fault,
                                struct fm_error *reterr);
const char *fm_fault_name(enum fm_fault_point point);
const char *fm_fault_where(enum fm_fault_point point);
/* 0, or the process dies here, or FM_ENOSPC, FM_ENOMEM. fault may be NULL. */
int FM_NODISCARD fm_fault_hit(struct fm_fault *fault, enum fm_fault_point point,
                              struct fm_error *reterr);

#endif
