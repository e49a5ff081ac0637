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

#include "core/plan/tuner.h"
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
    const uint32_t *passed_types; /* as in struct fm_row_format; NULL: not known */
    const char *types;            /* the same in words, "INT64,TEXT,JSON"; NULL likewise */
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

/* The types of the passed columns, where the results want to know: out of a file of the input, or
 * as another process has found them. What is wrong with the file; FM_ETOOLARGE: too many of them.
 */
int FM_NODISCARD fm_job_setup_types_learn(struct fm_job_setup *setup, const char *path,
                                          struct fm_error *reterr);
int FM_NODISCARD fm_job_setup_types_take(struct fm_job_setup *setup, const char *text, size_t size,
                                         struct fm_error *reterr);

/* Rows to have in work at once: the job's own number, or enough that every instance of the stages
 * that see whole rows has a batch in work and one waiting, and every CPU has something to decode.
 */
uint32_t fm_job_setup_rows_in_flight(const struct fm_job_setup *setup);
/* Where tuning of a worker begins and how far it may go: nowhere beyond a number that the job file
 * has, and nowhere at all where memory was short. */
struct fm_job_ranges {
    struct fm_tuner_range rows; /* in flight */
    struct fm_tuner_range readers;
    struct fm_tuner_range operators; /* threads; first 0: the pipeline has no operators */
};
void fm_job_setup_ranges(const struct fm_job_setup *setup, struct fm_job_ranges *ret_ranges);
/* Rows more, which are being fetched from addresses: none where the job says how many rows there
 * may be in work. */
uint32_t fm_job_setup_rows_fetched(const struct fm_job_setup *setup);
/* Whether that is one row, and every batch is of one item: more halvings would change nothing. */
bool fm_job_setup_is_single(const struct fm_job_setup *setup);

enum { FM_JOB_FACTS = 12, FM_JOB_FACT_SIZE = 256 };

/* Where the job names a column for the rows' ids, it is this fact's value. */
#define FM_JOB_FACT_ID "input.id"
/* And this one's begins with what the results are written as. */
#define FM_JOB_FACT_FORMAT "output.format"
/* The types of the passed columns, "INT64,TEXT,JSON", where the results have such: the master finds
 * them out, and the workers take them over. */
#define FM_JOB_FACT_TYPES "output.types"
/* Of a job that runs the dead letters of another one, which workers need not know: where they are.
 */
#define FM_JOB_FACT_RETRY "input.dead_letters"
/* What inputs are read as: another one has other rows. */
#define FM_JOB_FACT_SOURCE "input.format"
/* Its value, in FM_JOB_FACT_SIZE bytes at most. */
void fm_job_source_describe(const struct fm_job *job, char *ret_text, size_t size);
/* Of a job whose rows were taken down (spool.h), likewise: the sum of their file. */
#define FM_JOB_FACT_SPOOL "input.rows"

/* Not to be moved: the items point into it, and into the setup. */
struct fm_job_facts {
    struct fm_job_fact items[FM_JOB_FACTS];
    char values[FM_JOB_FACTS][FM_JOB_FACT_SIZE];
};

/* What a fact was in jobs that were begun before it was recorded; NULL: it always was. */
const char *fm_job_fact_former(const char *key);

void fm_job_facts_make(const struct fm_job_setup *setup, struct fm_job_facts *ret_facts);

#endif
