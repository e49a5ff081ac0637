/*
 * Some rows of a job run in this process, and nothing written: to look at them, or to see how fast
 * they are.
 *
 * Owns: finding the first rows, running them as a worker would, the values of their inputs as JSON.
 * Does not own: printing, what the whole job would take. Thread rule: the calling thread reads, and
 * calls `show`; the pipeline has threads of its own.
 */
#ifndef FM_ENGINES_BATCH_SAMPLE_H
#define FM_ENGINES_BATCH_SAMPLE_H

#include "core/proto/json.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/listing.h"

/* A row that has been run. All of it is borrowed, for the call. */
struct fm_sample_row {
    uint64_t row;
    const struct fm_port *ports;     /* of the inputs */
    const struct fm_tensor *tensors; /* that they got; data NULL: the row could not be read */
    uint32_t input_count;
    const char *line; /* the result, or the dead letter, as JSON, without a newline */
    size_t line_size;
    bool good;
};

struct fm_sample_options {
    const struct fm_job_setup *setup; /* opened to run */
    const struct fm_listing *listing; /* as many files as are wanted, in their order */
    uint64_t rows;                    /* at most */
    uint32_t sharers; /* workers that the machine's memory is to be enough for; 0: one */
    /* One row after the other is shown; NULL: as many at once as a worker has, within its budget of
     * memory, and nothing. */
    void (*show)(void *context, const struct fm_sample_row *row);
    void *context;
};

struct fm_sample_result {
    uint64_t rows;
    uint64_t dead_letters;
    uint64_t took_ns; /* from the first row's begin to the last one's end */
};

/* FM_ENOMEM, and what is wrong with the outputs. What is wrong with rows makes dead letters. */
int FM_NODISCARD fm_sample_run(const struct fm_sample_options *options,
                               struct fm_sample_result *ret_result, struct fm_error *reterr);

/* An input as {"name", "dtype", "shape", "bytes", "values"}: the first ones of many, and of BYTES
 * the first bytes of each where they are text, else null. */
void fm_sample_input_write(struct fm_json_writer *json, const char *name,
                           const struct fm_tensor *tensor);

#endif
