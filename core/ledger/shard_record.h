/*
 * A shard as it is stored: what the ledger knows of it, and what its committed part must look like.
 *
 * Thread rule: values only.
 */
#ifndef FM_CORE_LEDGER_SHARD_RECORD_H
#define FM_CORE_LEDGER_SHARD_RECORD_H

#include "core/ledger/ledger.h"

#define FM_SHARD_REASON_SIZE 192u

/* The files of a committed attempt. */
struct fm_part_facts {
    uint64_t attempt; /* the epoch that wrote them; may be below the shard's */
    uint64_t part_bytes;
    uint64_t part_checksum;
    uint64_t letters_bytes; /* the dead-letter part; 0: there is none */
    uint64_t letters_checksum;
};

struct fm_shard_record {
    struct fm_shard shard;             /* deadline_ns and condemned are not stored */
    struct fm_part_facts files;        /* DONE */
    char reason[FM_SHARD_REASON_SIZE]; /* why it failed last, or is DEAD; "": it did not */
};

#endif
