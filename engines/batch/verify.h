/*
 * Proving once more that a job's results are complete, from nothing but what is on the disk.
 *
 * Owns: what has to hold of manifest, parts, dead letters, and of ledger and recorded inputs where
 * these are there; the words for what does not. Does not own: changing anything. Thread rule: one
 * call at a time, from one thread; callbacks come from within it.
 *
 * HOW IT WORKS. Every part that the manifest names is read from its first byte to its last: size,
 * checksum, and every line, which must be JSON with an id. Results and dead letters of a part are
 * walked side by side, row by row; the dead letters say which rows they are, all others must be
 * results. Parts must lie behind each other without a hole. Where the recorded list of inputs is
 * there, every row must have the id that stands in it; and all ids must be different. Without a
 * manifest the ledger says which parts there should be: then the job is not complete, but what
 * there is of it is looked at.
 *
 * Memory: one line of each of two files, one record of the manifest, the names in the directory,
 * and some MiB to compare ids.
 */
#ifndef FM_ENGINES_BATCH_VERIFY_H
#define FM_ENGINES_BATCH_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_verify_progress {
    uint64_t bytes;
    uint64_t rows;
    uint64_t parts;
    uint64_t elapsed_ns;
};

struct fm_verify_options {
    const char *directory;
    size_t ids_in_memory; /* 0: as many as are sensible (unique_ids.h) */
    /* One thing that is wrong, or only worth to know, in words. NULL: dropped (but counted). */
    void (*problem)(void *context, const char *text);
    void (*note)(void *context, const char *text);
    void (*progress)(void *context, const struct fm_verify_progress *progress); /* NULL: dropped */
    bool (*stop)(void *context); /* asked now and then; NULL: never */
    void *context;
};

enum fm_verify_verdict {
    FM_VERIFY_PROVEN,
    FM_VERIFY_PROVEN_WITH_LETTERS,
    FM_VERIFY_NOT_PROVEN,
};

struct fm_verify_report {
    enum fm_verify_verdict verdict;
    bool has_manifest;
    bool has_ledger;
    bool has_inputs;       /* the recorded list of inputs: every row's id was compared with it */
    char job[256];         /* "": unknown */
    uint64_t rows_in;      /* as the manifest says, or the ledger */
    uint64_t rows_out;     /* lines counted, that are results ... */
    uint64_t dead_letters; /* ... and dead letters */
    uint64_t parts;
    uint64_t bytes; /* read */
    uint64_t problems;
    uint64_t elapsed_ns;
};

/*
 * 0: *ret_report says what was found; NOT_PROVEN is no error. FM_ENOTFOUND: no directory, or
 * nothing in it that could be proven; FM_EUNAVAILABLE: a process works on the job; FM_ECANCELLED:
 * stop; FM_EIO, FM_EPERM, FM_ENOMEM: it could not be found out.
 */
int FM_NODISCARD fm_verify_run(const struct fm_verify_options *options,
                               struct fm_verify_report *ret_report, struct fm_error *reterr);

#endif
