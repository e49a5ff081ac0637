/*
 * Some rows on their way through the pipeline: read together, run together, and written as lines.
 *
 * Owns: reading one file, or the next rows of one; making the pipeline's inputs of them; the
 * request; turning what comes back into lines, or into dead letters; running rows one by one when
 * a batch of them failed, so that only the bad ones are bad. Does not own: which rows there are,
 * what becomes of lines (data_path.h). Thread rule: a block belongs to one thread at a time; in
 * the executor it belongs to that.
 */
#ifndef FM_ENGINES_BATCH_BLOCK_H
#define FM_ENGINES_BATCH_BLOCK_H

#include "core/ledger/blame.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/row_format.h"
#include "host/net/objects.h"

/* What all blocks of a worker share: read-only. */
struct fm_block_plan {
    const struct fm_job_setup *setup;
    const char *base; /* where relative ids start */
    struct fm_row_format format;
    const char **stage_names;
    struct fm_column *columns; /* of the tensors of a source of records */
    /* Nothing can be run with less memory: a row that gets none is to blame for it, unless the
     * process has grown. Otherwise its block is starved. */
    bool single;
    uint64_t memory_bytes; /* that the process may have; 0: no limit, so that nothing is too much */
    uint64_t memory_first; /* of the process, before the first row */
};

/* What is wrong with the outputs; FM_ENOMEM. `setup` and `base` are borrowed. */
int FM_NODISCARD fm_block_plan_init(struct fm_block_plan *ret_plan,
                                    const struct fm_job_setup *setup, const char *base,
                                    struct fm_error *reterr);
void fm_block_plan_deinit(struct fm_block_plan *plan); /* accepts a zeroed one */

/* One row's results, as the sink has packed them, or its dead letter. */
struct fm_block_line {
    size_t size; /* 0: there was no memory for it */
    bool good;   /* else a dead letter */
};

struct fm_block {
    const struct fm_block_plan *plan;
    uint32_t rows_max;

    /* Where its rows come from; set by whoever starts it. */
    const char *id;     /* of the file */
    uint64_t first_row; /* of the job */
    uint64_t file_row;  /* of a source of records: the first one's number in the file */
    uint32_t row_count;
    uint64_t bytes; /* that it holds, as far as its inputs go */

    struct fm_request request; /* its `done` and `user` are those of the starter */
    struct fm_text lines;      /* what came of it: row_count lines, one behind the other */
    bool sealed;               /* `lines` is what the sink has made of them (sink.h), all good */
    struct fm_block_line *line;
    uint32_t bad;
    struct fm_error last_error; /* of a bad row */
    bool starved; /* there was no memory for it: somebody else may do better; no line counts */
    struct fm_error starvation;

    struct fm_fetch fetch; /* of a row behind an address; its `done` is the starter's */

    /* Internal. */
    char *address; /* of that row */
    struct fm_text url;
    struct fm_row_block rows; /* of records */
    struct fm_value *inputs;
    struct fm_value *outputs;
    struct fm_value *alone_inputs; /* of one row that is run again */
    struct fm_tensor *views;       /* by output: one row's */
    size_t *offsets;               /* by input or output: how far rows have been taken */
    struct fm_stage_timing *timings;
    uint64_t *stage_ns;
    uint64_t start_ns;
    uint64_t memory_before; /* of the process, where it is the only row */
    uint32_t attempts;      /* at reading */
    struct fm_error error;
};

int FM_NODISCARD fm_block_init(struct fm_block *ret_block, const struct fm_block_plan *plan,
                               uint32_t rows_max, void (*done)(struct fm_request *request),
                               void *user);
void fm_block_deinit(struct fm_block *block); /* accepts a zeroed one */

/* Reads a row that is a file. false: its line is there, and it is a dead letter (or it is starved).
 */
bool fm_block_read_file(struct fm_block *block, const char *id, uint64_t row);
/* Begins to fetch a row that is behind an address: fetch.done comes, after which
 * fm_block_fetch_end goes on as fm_block_read_file does. */
void fm_block_fetch_begin(struct fm_block *block, struct fm_objects *objects, const char *id,
                          uint64_t row);
bool fm_block_fetch_end(struct fm_block *block);
/* A row that is not to be run: who is to blame. */
void fm_block_condemn(struct fm_block *block, const char *id, uint64_t row, uint64_t file_row,
                      const struct fm_blame *blame);
/*
 * Takes up to rows_max rows of a file from its reader. 0: row_count of them are there, or, when
 * there are none, the file is over. What it returns is wrong with the file.
 */
int FM_NODISCARD fm_block_read(struct fm_block *block, struct fm_source_reader *reader,
                               const char *id, uint64_t row, uint64_t file_row, uint32_t rows_max,
                               struct fm_error *reterr);
/* Submits what was read. true: it is in the executor, and `done` comes, after which fm_block_finish
 * makes its lines. false: they are there, all of them dead letters (or it is starved). */
bool fm_block_submit(struct fm_block *block);
/* Rows that could not be read, all for the same reason. */
void fm_block_fail(struct fm_block *block, const char *id, uint64_t row, uint64_t file_row,
                   uint32_t row_count, const struct fm_error *error);
/* After `done`. */
void fm_block_finish(struct fm_block *block);
/* What the rows that were read take by themselves, where they are records: until it is cleared. */
uint64_t fm_block_rows_bytes(const struct fm_block *block);
/* What its outputs take, between `done` and fm_block_finish. */
uint64_t fm_block_outputs_bytes(const struct fm_block *block);
/* Ready for the next rows. Keeps its memory, unless that is much. */
void fm_block_clear(struct fm_block *block);

#endif
