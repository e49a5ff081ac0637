/*
 * What master and workers of a job must agree on: the pipeline, which of its inputs gets what, and
 * the facts that make the job this job.
 *
 * Owns: opening the pipeline as a job needs it, the facts. Does not own: the job file, comparing
 * facts with a ledger's. Thread rule: one thread at a time.
 */
#ifndef FM_ENGINES_BATCH_JOB_SETUP_H
#define FM_ENGINES_BATCH_JOB_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "engines/batch/job_file.h"
#include "host/runtime/servable.h"
#include "host/store/job_store.h"

struct fm_job_setup {
    const struct fm_job *job; /* borrowed */
    struct fm_servable *servable;
    uint32_t input; /* of the pipeline, that gets the file's bytes */
    bool batched;   /* it is one model, and a request may hold many rows */
    /* Of a source of records: what is wanted of it, and which input of the pipeline each tensor
     * is. */
    struct fm_source_spec source;
    uint32_t *inputs;
    uint32_t block_rows; /* rows that are read and run together, at most; 1: each by itself */
    struct fm_arena arena;
    uint32_t halvings;
};

struct fm_job_setup_options {
    bool check_only;   /* nothing is going to run */
    uint32_t halvings; /* of the rows in flight and of the largest batches, each down to 1 */
    void (*note)(void *context, const char *text); /* NULL: dropped */
    void *note_context;
};

/* Loads the pipeline and its models, and finds the inputs. What it says names the job file. */
int FM_NODISCARD fm_job_setup_open(struct fm_job_setup *setup, const struct fm_job *job,
                                   const struct fm_job_setup_options *options,
                                   struct fm_error *reterr);
void fm_job_setup_close(struct fm_job_setup *setup); /* accepts a zeroed one */
/* Gives back the pipeline and its models; `source` stays. */
void fm_job_setup_unload(struct fm_job_setup *setup);

/* Rows to have in work at once: the job's own number, or enough that every instance of the stages
 * that see whole rows has a batch in work and one waiting, and every CPU has something to decode.
 */
uint32_t fm_job_setup_rows_in_flight(const struct fm_job_setup *setup);
/* Rows more, which are being fetched from addresses: none where the job says how many rows there
 * may be in work. */
uint32_t fm_job_setup_rows_fetched(const struct fm_job_setup *setup);
/* Whether that is one row, and every batch is of one item: more halvings would change nothing. */
bool fm_job_setup_is_single(const struct fm_job_setup *setup);

enum { FM_JOB_FACTS = 10, FM_JOB_FACT_SIZE = 256 };

/* Where the job names a column for the rows' ids, it is this fact's value. */
#define FM_JOB_FACT_ID "input.id"

/* Not to be moved: the items point into it. */
struct fm_job_facts {
    struct fm_job_fact items[FM_JOB_FACTS];
    char values[FM_JOB_FACTS][FM_JOB_FACT_SIZE];
};

void fm_job_facts_make(const struct fm_job_setup *setup, struct fm_job_facts *ret_facts);

#endif
