/*
 * The output directory: what lies where, and the steps by which a shard's results become visible.
 *
 *   part-00003.jsonl            results of shard 3, complete the moment it has this name; in
 *                               another format (sink.h) it has that one's ending
 *   errors/part-00003.jsonl     its dead letters, when there are any
 *   _manifest.json, _SUCCESS    the end, in this order
 *   stage/part-00003.7.jsonl    attempt 7 of shard 3, being written (and .errors.jsonl)
 *   .fermata/                   ledger.db, lock, history, inputs-0, inputs-1, ... (one for each
 *                               segment), rows-0, ... (likewise, where files hold rows), spool/
 *
 * Owns: names, attempt files, the commit order, reconciling what a killed process left, the
 * manifest, discarding a job. Does not own: what is in the rows, the ledger's decisions. Thread
 * rule: an attempt belongs to one thread; everything else is called when nothing else runs.
 */
#ifndef FM_ENGINES_BATCH_OUTPUT_H
#define FM_ENGINES_BATCH_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "engines/batch/fault.h"
#include "engines/batch/sink.h"
#include "host/os/file.h"
#include "host/store/job_store.h"

#define FM_OUTPUT_PATH_MAX 4096

#define FM_OUTPUT_STATE_DIRECTORY  ".fermata"
#define FM_OUTPUT_STAGE_DIRECTORY  "stage"
#define FM_OUTPUT_ERRORS_DIRECTORY "errors"
#define FM_OUTPUT_LEDGER_FILE      "ledger.db"
#define FM_OUTPUT_LOCK_FILE        "lock"
#define FM_OUTPUT_HISTORY_FILE     "history"
#define FM_OUTPUT_SPOOL            "spool"     /* a folder; see spool.h */
#define FM_OUTPUT_SPOOL_NEW        "spool.new" /* likewise */
#define FM_OUTPUT_SPOOL_RETRY      "spool.retry"
#define FM_OUTPUT_SPOOL_STDIN      "stdin" /* in one of them, as the next two */
#define FM_OUTPUT_SPOOL_STDIN_PART FM_OUTPUT_SPOOL_STDIN ".part"
#define FM_OUTPUT_SPOOL_QUERY      "query"
#define FM_OUTPUT_MANIFEST_FILE    "_manifest.json"
#define FM_OUTPUT_SUCCESS_FILE     "_SUCCESS"

enum fm_output_state {
    FM_OUTPUT_EMPTY,     /* no job, and nothing that looks like one's results */
    FM_OUTPUT_JOB,       /* a job's ledger */
    FM_OUTPUT_FOREIGN,   /* results without a ledger */
    FM_OUTPUT_DISCARDED, /* --restart was interrupted: only clearing is left to do */
};

/* Looks, and changes nothing. */
int FM_NODISCARD fm_output_look(const char *directory, enum fm_output_state *ret_state,
                                struct fm_error *reterr);
/* Whether there are parts, dead letters, a manifest or _SUCCESS, of whatever job. */
int FM_NODISCARD fm_output_has_results(const char *directory, bool *ret_results,
                                       struct fm_error *reterr);
/* Makes the directories, durably. */
int FM_NODISCARD fm_output_prepare(const char *directory, struct fm_error *reterr);
/* ".fermata/<name>" */
int FM_NODISCARD fm_output_state_path(const char *directory, const char *name, char *ret_path,
                                      size_t size, struct fm_error *reterr);
/* Removes the job and its results, and nothing else (rows that were taken down for the next one
 * stay). Can be interrupted at any point and called again. The ledger must not be open. */
int FM_NODISCARD fm_output_discard(const char *directory, struct fm_fault *fault,
                                   struct fm_error *reterr);
/* Takes back _SUCCESS and _manifest.json, before a job that had ended goes on. */
int FM_NODISCARD fm_output_reopen(const char *directory, struct fm_error *reterr);

/* The files of one attempt at one shard. Zero-initialise. */
struct fm_attempt {
    const char *directory;
    const struct fm_sink *sink;
    uint64_t number;
    uint64_t epoch;
    struct fm_sink_file *part;     /* NULL: it is not open, or was synced */
    struct fm_file_writer letters; /* opened by the first dead letter */
    uint64_t letters_checksum;
    uint64_t rows_out;
    uint64_t dead_letters;
};

/* `directory` and `format`, whose sink writes the part, are borrowed until the end. */
int FM_NODISCARD fm_attempt_open(struct fm_attempt *attempt, const char *directory,
                                 const struct fm_row_format *format, uint64_t number,
                                 uint64_t epoch, struct fm_error *reterr);
/* Appends finished rows that are all good, as the sink has sealed them. */
int FM_NODISCARD fm_attempt_append_sealed(struct fm_attempt *attempt, uint64_t rows,
                                          const char *sealed, size_t size, struct fm_error *reterr);
/* Appends finished rows that are all good, as the sink has packed them, or all dead letters: lines
 * with their newlines. */
int FM_NODISCARD fm_attempt_append(struct fm_attempt *attempt, bool good, uint64_t rows,
                                   const char *data, size_t size, struct fm_error *reterr);
/* Everything on the disk, names included; fills the sizes and checksums of *ret_record. After this
 * only the ledger's commit is missing. */
int FM_NODISCARD fm_attempt_sync(struct fm_attempt *attempt, struct fm_shard_record *ret_record,
                                 struct fm_error *reterr);
/* Whether the files of an attempt are there, as long as its worker says. False also when that
 * cannot be found out. */
bool fm_output_attempt_is_there(const char *directory, const struct fm_sink *sink, uint64_t number,
                                uint64_t epoch, const struct fm_part_facts *files);
/* After the ledger's commit: gives the files of the attempt `epoch` their final names; `letters`:
 * there is one with dead letters. */
int FM_NODISCARD fm_output_publish(const char *directory, const struct fm_sink *sink,
                                   uint64_t number, uint64_t epoch, bool letters,
                                   struct fm_fault *fault, struct fm_error *reterr);
/* Closes and removes; accepts an attempt in any state before publish. */
void fm_attempt_abandon(struct fm_attempt *attempt);
/* The job is complete: what counts is published, and what is still in stage/ does not. False also
 * when that cannot be found out. */
bool fm_output_is_complete(const char *directory);
/* Removes the files of an attempt that was synced, of a complete job. */
void fm_output_attempt_remove(const char *directory, const struct fm_sink *sink, uint64_t number,
                              uint64_t epoch);

/*
 * At start: every part must be one that the ledger knows; attempt files of committed shards are
 * published, all others removed (with keep_held not those of a lease that stands in the store:
 * workers of other hosts may be at them); then every committed part must be there with its size and
 * checksum, for which all of them are read (FM_ECORRUPT otherwise).
 */
int FM_NODISCARD fm_output_reconcile(const char *directory, const struct fm_sink *sink,
                                     struct fm_job_store *store, bool keep_held,
                                     struct fm_fault *fault, struct fm_error *reterr);

struct fm_output_summary {
    const char *name;
    const struct fm_sink *sink;
    const struct fm_ledger_proof *proof;
    const struct fm_job_fact *facts; /* what the job was; written as they are */
    size_t fact_count;
    uint64_t rows_found; /* inputs there are; more than rows_in when --limit left some out */
    uint64_t finished_wall_ns;
};

/*
 * The end of a job: checks that the committed parts add up to the proof and are there with their
 * checksums, writes _manifest.json, then _SUCCESS. FM_ECORRUPT when they do not add up: neither is
 * written then.
 */
int FM_NODISCARD fm_output_finish(const char *directory, struct fm_job_store *store,
                                  const struct fm_output_summary *summary, struct fm_fault *fault,
                                  struct fm_error *reterr);

#endif
