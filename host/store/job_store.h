/*
 * Where a batch job's ledger is kept: the interface. One implementation here (sqlite_store.h); a
 * shared database will be another.
 *
 * Owns: the record types and the table of functions. A store remembers decisions, it does not make
 * them (core/ledger does); but it refuses what would undo one, so that it fences late writers by
 * itself.
 * A function that returns 0 has made its change durable. Thread rule: every function may be called
 * from any thread; calls are serialised.
 */
#ifndef FM_HOST_STORE_JOB_STORE_H
#define FM_HOST_STORE_JOB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ledger/shard_record.h"
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

struct fm_job_store;

struct fm_job_store_functions {
    const char *name;
    /* Makes this process the one that may change the job: whoever was before is refused from now
     * on. Before anything else that changes. */
    int (*take)(struct fm_job_store *store, struct fm_error *reterr);
    /* Begins a job: facts and first segment in one transaction. FM_EEXIST when the store holds one.
     */
    int (*create)(struct fm_job_store *store, const struct fm_job_fact *facts, size_t fact_count,
                  const struct fm_job_segment *segment, struct fm_error *reterr);
    /* Appends a segment and replaces the given facts, in one transaction. */
    int (*grow)(struct fm_job_store *store, const struct fm_job_fact *facts, size_t fact_count,
                const struct fm_job_segment *segment, struct fm_error *reterr);
    /* Sets facts, in one transaction; FM_ECANCELLED as in put. */
    int (*facts_put)(struct fm_job_store *store, const struct fm_job_fact *facts, size_t fact_count,
                     struct fm_error *reterr);
    /* Every fact, in the order of their keys. A negative answer ends it and is returned. */
    int (*facts)(struct fm_job_store *store,
                 int (*each)(void *context, const struct fm_job_fact *fact), void *context,
                 struct fm_error *reterr);
    /* The value of a fact, appended to *ret_value; FM_ENOTFOUND when the store holds no job, or no
     * such fact. */
    int (*fact)(struct fm_job_store *store, const char *key, struct fm_text *ret_value,
                struct fm_error *reterr);
    /* Every segment in order; every shard that was ever claimed or split off, in the order of
     * their numbers (the faster one) or of their rows. A negative answer ends it and is returned.
     */
    int (*segments)(struct fm_job_store *store,
                    int (*each)(void *context, const struct fm_job_segment *segment), void *context,
                    struct fm_error *reterr);
    int (*shards)(struct fm_job_store *store, bool by_row,
                  int (*each)(void *context, const struct fm_shard_record *shard), void *context,
                  struct fm_error *reterr);
    /* One shard; FM_ENOTFOUND. */
    int (*shard)(struct fm_job_store *store, uint64_t number, struct fm_shard_record *ret_shard,
                 struct fm_error *reterr);
    /*
     * THE commit point: these shards are from now on as these records say, all of them or none. A
     * shard that is DONE or DEAD never changes, a reason stays until there is another, and an epoch
     * never goes back: FM_ECANCELLED, as when another process has taken the job.
     */
    int (*put)(struct fm_job_store *store, const struct fm_shard_record *shards, size_t count,
               struct fm_error *reterr);
    void (*close)(struct fm_job_store *store); /* frees the store; accepts NULL */
};

struct fm_job_store {
    const struct fm_job_store_functions *functions;
};

#endif
