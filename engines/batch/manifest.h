/*
 * Reading a job's _manifest.json, piece by piece: however many parts it names, one is in memory.
 *
 * Owns: what a manifest must look like. Does not own: writing it (output.h), whether what it says
 * is true (verify.h). Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_MANIFEST_H
#define FM_ENGINES_BATCH_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ledger/shard_record.h"
#include "engines/batch/part_name.h"
#include "host/store/job_store.h"

#define FM_MANIFEST_VERSION 1u

struct fm_manifest_part {
    char name[FM_PART_NAME_SIZE]; /* "part-00003.jsonl" */
    uint64_t number;
    const struct fm_sink *sink; /* that has written it, as its name says */
    uint64_t first_row;
    uint64_t rows_in; /* rows + dead_letters, if the manifest is right */
    uint64_t rows;
    uint64_t dead_letters;
    struct fm_part_facts files; /* attempt is not known */
};

struct fm_manifest_head {
    char job[256];
    char finished[40];
    bool complete;
    uint64_t rows_in;
    uint64_t rows_out;
    uint64_t dead_letters;
    uint64_t inputs_found;
};

struct fm_manifest_handlers {
    /* Each part as it stands there, borrowed for the call; NULL: not wanted. A negative answer ends
     * the reading and is returned. */
    int (*part)(void *context, const struct fm_manifest_part *part);
    /* Each fact, when all parts have been there; likewise. */
    int (*fact)(void *context, const struct fm_job_fact *fact);
    void *context;
};

/* FM_ENOTFOUND; FM_ECORRUPT: it is not a manifest of Fermata, with where and why; FM_EUNSUPPORTED:
 * one of a newer Fermata; FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_manifest_read(const char *path, const struct fm_manifest_handlers *handlers,
                                  struct fm_manifest_head *ret_head, struct fm_error *reterr);

#endif
