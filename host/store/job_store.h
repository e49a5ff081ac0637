/*
 * Where a batch job's ledger is kept: the interface. One implementation here (sqlite_store.h); a
 * shared database will be another.
 *
 * Owns: the record types and the table of functions. A store remembers decisions, it does not make
 * them (core/ledger does); but every change of a shard names owner and epoch and is refused with
 * FM_ECANCELLED when these are no longer the stored ones, so that it fences late writers by itself.
 * A function that returns 0 has made its change durable. Thread rule: every function may be called
 * from any thread; calls are serialised.
 */
#ifndef FM_HOST_STORE_JOB_STORE_H
#define FM_HOST_STORE_JOB_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/ledger/ledger.h"
#include "core/util/text.h"
#include "fermata/status.h"

/* What makes a job this job: compared, value by value, before it is resumed. */
struct fm_job_fact {
    const char *key;
    const char *value;
};

struct fm_job_segment {
    struct fm_ledger_segment rows;
    uint64_t listing_checksum; /* of the file that lists the segment's inputs */
};

/* A shard as stored, with what a committed part must look like. */
struct fm_job_shard {
    struct fm_shard shard;
    uint64_t part_bytes;
    uint64_t part_checksum;
    uint64_t letters_bytes; /* the dead-letter part; 0: there is none */
    uint64_t letters_checksum;
};

struct fm_job_store;

struct fm_job_store_functions {
    const char *name;
    /* Begins a job: facts and first segment in one transaction. FM_EEXIST when the store holds one.
     */
    int (*create)(struct fm_job_store *store, const struct fm_job_fact *facts, size_t fact_count,
                  const struct fm_job_segment *segment, struct fm_error *reterr);
    /* Appends a segment and replaces the given facts, in one transaction. */
    int (*grow)(struct fm_job_store *store, const struct fm_job_fact *facts, size_t fact_count,
                const struct fm_job_segment *segment, struct fm_error *reterr);
    /* The value of a fact, appended to *ret_value; FM_ENOTFOUND when the store holds no job, or no
     * such fact. */
    int (*fact)(struct fm_job_store *store, const char *key, struct fm_text *ret_value,
                struct fm_error *reterr);
    /* Every segment in order; every shard that was ever claimed or split off, in row order. A
     * negative answer ends it and is returned. */
    int (*segments)(struct fm_job_store *store,
                    int (*each)(void *context, const struct fm_job_segment *segment), void *context,
                    struct fm_error *reterr);
    int (*shards)(struct fm_job_store *store,
                  int (*each)(void *context, const struct fm_job_shard *shard), void *context,
                  struct fm_error *reterr);
    /* One shard; FM_ENOTFOUND. */
    int (*shard)(struct fm_job_store *store, uint64_t number, struct fm_job_shard *ret_shard,
                 struct fm_error *reterr);
    /* `shard` as granted by the ledger: its epoch must be above the stored one. */
    int (*claim)(struct fm_job_store *store, const struct fm_shard *shard, struct fm_error *reterr);
    int (*release)(struct fm_job_store *store, const struct fm_shard *shard,
                   struct fm_error *reterr);
    /* THE commit point: the shard is DONE with these rows, and `rest` (row_count 0: none) is a new
     * READY shard. */
    int (*commit)(struct fm_job_store *store, const struct fm_job_shard *shard,
                  const struct fm_shard *rest, struct fm_error *reterr);
    /* Takes every lease back, when all holders are known to be gone. */
    int (*release_all)(struct fm_job_store *store, struct fm_error *reterr);
    void (*close)(struct fm_job_store *store); /* frees the store; accepts NULL */
};

struct fm_job_store {
    const struct fm_job_store_functions *functions;
};

#endif
