/*
 * One batch job from beginning to end. See batch.h.
 */
#include "engines/batch/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/block.h"
#include "engines/batch/job_notes.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/lister.h"
#include "engines/batch/notify.h"
#include "engines/batch/output.h"
#include "engines/batch/remote.h"
#include "engines/batch/spool.h"
#include "host/os/file.h"
#include "host/os/file_lock.h"
#include "host/os/memory_facts.h"
#include "host/os/os.h"
#include "host/store/sqlite_store.h"

#define NS_PER_MS UINT64_C(1000000)
/* Who was not heard of for so long has lost what it held. */
#define LEASE_NS (5000 * NS_PER_MS)
/* Attempts at a shard before it is cut in two. A row that ends processes costs two of them for the
 * shard and one for each halving. */
#define INFRASTRUCTURE_ATTEMPTS_MAX 20u
#define DATA_ATTEMPTS_MAX           2u
#define BACKOFF_NS                  (50 * NS_PER_MS)
#define BACKOFF_MAX_NS              (5000 * NS_PER_MS)
/* What a shard should take: what a lost worker costs at most, and often enough for progress. */
#define SHARD_TARGET_NS  (10000 * NS_PER_MS)
#define SHARD_LEAST_NS   (500 * NS_PER_MS)
#define SHARD_ROWS_FIRST 16u
#define LEASES_MAX       65536u
#define WORKERS_MAX      4096u
/* Of a walk, to see what there is before anything is begun. */
#define PROBE_FILES 16u
/* Of a query of which a few rows are shown: enough to see whether its columns fit. */
#define TRY_ROWS UINT64_C(100)

/* What a webhook may cost: one document, and all that is left at the end. */
#define WEBHOOK_NS       (5000 * NS_PER_MS)
#define WEBHOOK_GRACE_NS (10000 * NS_PER_MS)

/* Everything that lives as long as the job runs. */
struct batch {
    const struct fm_job *job;
    const struct fm_batch_options *options;
    struct fm_listing listing;
    bool has_listing;
    struct fm_job_setup setup;
    struct fm_file_lock lock;
    struct fm_spool spool; /* of rows that are taken down first */
    bool locked;
    struct fm_job_store *store;
    struct fm_master *master;
    struct fm_row_source source;
    uint32_t segment_count;
    bool listing_whole; /* else it has the first few files only */
    char base[4096];    /* where ids start */
    bool resumed;
    uint64_t rows_recorded; /* by earlier runs */
    size_t *added;          /* of the listing: what they did not know */
    uint64_t files_found;   /* when all were listed */
    struct fm_lister *lister;
    bool listed; /* it has come to its end */
    struct fm_job_facts facts;
    struct fm_job_fact recorded[FM_JOB_FACTS + 2]; /* those, that of a retry and of a spool */
    size_t recorded_count;
    struct fm_text retry_from; /* what it is of */
    struct fm_retry retry;
    struct fm_webhook *webhook; /* NULL: none */
    uint64_t finish_by_ms;      /* since 1970; 0: no time */
};

static void note(const struct batch *batch, const char *format, ...) FM_PRINTF(2, 3);

static void note(const struct batch *batch, const char *format, ...)
{
    char text[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    if (batch->options->note == NULL) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    batch->options->note(batch->options->context, text);
}

/* --- Pipeline and facts --- */

/* Where a job is run, nothing runs here: the workers have pipelines of their own. */
static int setup_open(struct batch *batch, bool check_only, struct fm_error *reterr)
{
    const struct fm_job_setup_options options = {.check_only = check_only,
                                                 .note = batch->options->note,
                                                 .note_context = batch->options->context};
    return fm_job_setup_open(&batch->setup, batch->job, &options, reterr);
}

/* A source whose rows do not fit at all is refused before anything is written. */
static int rows_try(const struct batch *batch, struct fm_error *reterr)
{
    /* Of dead letters the first may be gone, or be as bad as they were. */
    int status = batch->job->format != NULL && batch->retry.count == 0
                     ? fm_row_index_try(&batch->listing, &batch->setup.source, reterr)
                     : 0;
    return status != 0 ? fm_error_prefix(reterr, status, "%s", batch->job->file) : 0;
}

/* Results that cannot be written are, too. */
static int output_try(struct batch *batch, struct fm_error *reterr)
{
    struct fm_block_plan plan;
    char path[2 * FM_LISTING_ID_MAX];
    int status = 0;
    bool learns = batch->job->sink->typed && batch->job->passed_count > 0;
    for (size_t i = 0; i < batch->listing.count && learns; i++) {
        const char *id = batch->listing.entries[i].id;
        status = fm_path_join(path, sizeof(path), batch->listing.base, id);
        status = status == 0 ? fm_job_setup_types_learn(&batch->setup, path, reterr)
                             : fm_error_set(reterr, status, "the path '%.200s...' is too long", id);
        learns = status != 0 && batch->retry.count > 0; /* of dead letters it may be gone */
    }
    status = status != 0 ? status : fm_block_plan_init(&plan, &batch->setup, "", reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", batch->job->file);
    }
    fm_block_plan_deinit(&plan);
    return 0;
}

/* What is tried before a job is run are files. */
static int sample_permits(const struct batch *batch, struct fm_error *reterr)
{
    for (size_t i = 0; i < batch->listing.count; i++) {
        if (fm_remote_is(batch->listing.base, batch->listing.entries[i].id)) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "%s: rows behind addresses cannot be tried before the job is run: "
                                "run a few of them with --limit into another --output",
                                batch->job->file);
        }
    }
    return 0;
}

static int facts_compare(struct batch *batch, struct fm_error *reterr)
{
    struct fm_text differences = {0};
    int status = 0;
    for (size_t i = 0; i < FM_JOB_FACTS && status == 0; i++) {
        struct fm_text value = {0};
        const char *former = fm_job_fact_former(batch->facts.items[i].key);
        status =
            batch->store->functions->fact(batch->store, batch->facts.items[i].key, &value, reterr);
        const char *was = value.data != NULL ? value.data : "";
        if (status == FM_ENOTFOUND && former != NULL) {
            *reterr = (struct fm_error){0};
            status = 0;
            was = former;
        }
        if (status == 0 && strcmp(was, batch->facts.items[i].value) != 0) {
            fm_text_append_format(&differences, "%s%s was '%s' and is '%s'",
                                  differences.length > 0 ? "; " : "", batch->facts.items[i].key,
                                  was, batch->facts.items[i].value);
        }
        fm_text_deinit(&value);
    }
    if (status == 0 && differences.length > 0) {
        status = fm_error_set(
            reterr, FM_EINVAL,
            "cannot resume '%s', because the results would differ: %s. Put it back, or --restart",
            batch->job->output, differences.data);
    }
    fm_text_deinit(&differences);
    return status;
}

/* --- Listing and ledger --- */

static void listing_note(const struct batch *batch, uint64_t hidden, uint64_t duplicates)
{
    if (hidden > 0) {
        note(batch, "%" PRIu64 " name(s) that begin with a dot were left out", hidden);
    }
    if (duplicates > 0) {
        note(batch, "%" PRIu64 " inputs were named more than once and count once", duplicates);
    }
}

static int probe(void *context)
{
    const struct batch *batch = context;
    return batch->listing.count == PROBE_FILES ? 1 : 0;
}

/* All inputs; or the first few, where a walk is going to find them while the job runs: enough to
 * see that there are some, and what they look like. */
static int listing_make(struct batch *batch, bool whole, struct fm_error *reterr)
{
    const struct fm_job *job = batch->job;
    batch->listing_whole = whole || batch->options->retry != NULL || !fm_listing_is_walk(job);
    int status =
        fm_job_is_spooled(job) ? fm_spool_list(&batch->spool, job, &batch->listing, reterr)
        : batch->listing_whole
            ? fm_listing_build(job, job->output, NULL, &batch->listing, reterr)
            : fm_listing_walk(job, job->output, NULL, probe, batch, &batch->listing, reterr);
    batch->has_listing = status >= 0 || !batch->listing_whole;
    if (status >= 0 && batch->options->retry != NULL && batch->retry.count == 0) {
        status =
            fm_retry_choose(&batch->retry, batch->options->retry, job, &batch->listing, reterr);
        if (status == 0 && !fm_output_is_complete(batch->options->retry)) {
            note(batch, "the job in '%s' is not complete: these are its dead letters so far",
                 batch->options->retry);
        }
    }
    if (status < 0) {
        return fm_error_prefix(reterr, status, "%s", job->file);
    }
    if (batch->listing_whole) {
        listing_note(batch, batch->listing.hidden_count, batch->listing.duplicate_count);
    }
    return 0;
}

static void listing_forget(struct batch *batch)
{
    if (batch->has_listing) {
        fm_listing_deinit(&batch->listing);
    }
    batch->has_listing = false;
}

static int segment_open(struct batch *batch, const struct fm_job_segment *segment,
                        struct fm_error *reterr)
{
    struct fm_segment_paths paths;
    int status = fm_segment_paths_make(batch->job->output, batch->segment_count++, &paths, reterr);
    return status != 0 ? status
                       : fm_row_source_add(&batch->source, paths.listing,
                                           batch->job->format != NULL ? paths.index : NULL,
                                           segment->rows.first_row, segment->rows.row_count,
                                           segment->listing_checksum, reterr);
}

static int segment_take(struct batch *batch, const struct fm_job_segment *segment,
                        struct fm_error *reterr)
{
    struct fm_ledger_segment rows;
    int status = segment_open(batch, segment, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_master_add_rows(batch->master, fm_os_now_ns(), &segment->rows, &rows);
    FM_ASSERT(status != 0 || (rows.first_row == segment->rows.first_row &&
                              rows.row_count == segment->rows.row_count));
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "cannot add %" PRIu64 " rows to the ledger: %s",
                              segment->rows.row_count, fm_status_text(status));
}

/* They are recorded now: memory stays flat whatever their number. */
static void inputs_forget(struct batch *batch)
{
    batch->files_found = batch->listing_whole ? batch->listing.count : 0;
    listing_forget(batch);
    fm_free(batch->added);
    batch->added = NULL;
}

static void listing_ended(struct batch *batch)
{
    struct fm_lister_counts counts;
    uint64_t rows = fm_ledger_row_count(fm_master_ledger(batch->master));
    fm_lister_counts(batch->lister, &counts);
    if (!batch->listing_whole) {
        listing_note(batch, counts.hidden, counts.duplicates);
    }
    if (batch->resumed && rows > batch->rows_recorded) {
        note(batch, "%" PRIu64 " new inputs since the job was begun", rows - batch->rows_recorded);
    }
    inputs_forget(batch);
}

/* Adds what was found meanwhile. 1: more may come; 0: that was all; negative: listing failed. */
static int more_rows(void *context, struct fm_error *reterr)
{
    struct batch *batch = context;
    struct fm_job_segment segment;
    struct fm_error error = {0};
    if (batch->lister == NULL || batch->listed) {
        return 0;
    }
    for (;;) {
        int status = 0;
        switch (fm_lister_next(batch->lister, &segment, &error)) {
        case FM_LISTER_SEGMENT:
            status = segment_take(batch, &segment, reterr);
            break;
        case FM_LISTER_BUSY:
            return 1;
        case FM_LISTER_ENDED:
        default:
            batch->listed = true;
            if (error.status == 0) {
                listing_ended(batch);
            } else {
                *reterr = error;
            }
            fm_lister_stop(batch->lister);
            batch->lister = NULL;
            return error.status;
        }
        if (status != 0) {
            return status;
        }
    }
}

/* Begins to list: `order` of what is listed already (NULL: all of it), or a walk. Comes back when
 * there is something, or nothing. */
static int listing_begin(struct batch *batch, const size_t *order, size_t count,
                         struct fm_error *reterr)
{
    uint64_t limit = batch->options->limit;
    uint64_t there = fm_ledger_row_count(fm_master_ledger(batch->master));
    const struct fm_lister_options options = {
        .job = batch->job,
        .source = batch->job->format != NULL ? &batch->setup.source : NULL,
        .store = batch->store,
        .facts = batch->resumed ? NULL : batch->recorded,
        .fact_count = batch->resumed ? 0 : batch->recorded_count,
        .first_row = there,
        .first_segment = batch->segment_count,
        .rows_max = limit == 0      ? UINT64_MAX
                    : limit > there ? limit - there
                                    : 0,
        .listing = batch->listing_whole ? &batch->listing : NULL,
        .order = order,
        .order_count = count,
        .retry = batch->retry.count > 0 ? &batch->retry : NULL,
        .fault = batch->options->fault};
    int status = fm_lister_start(&options, &batch->lister, reterr);
    if (status != 0) {
        return status;
    }
    fm_lister_wait(batch->lister);
    status = more_rows(batch, reterr);
    return status < 0 ? status : 0;
}

struct restorer {
    struct batch *batch;
    struct fm_error *reterr;
};

static int restore_segment(void *context, const struct fm_job_segment *segment)
{
    struct restorer *restorer = context;
    struct batch *batch = restorer->batch;
    int status = fm_ledger_restore_segment(fm_master_ledger(batch->master), &segment->rows);
    return status != 0 ? status : segment_open(batch, segment, restorer->reterr);
}

/* This process holds the lock, so former holders of shards in it, and its children, are gone. Those
 * of other hosts may still be there, and come back. */
static int restore_shard(void *context, const struct fm_shard_record *record)
{
    const struct restorer *restorer = context;
    struct fm_shard_record unheld = *record;
    if (record->shard.state == FM_SHARD_LEASED && restorer->batch->options->listen == NULL) {
        unheld.shard.state = FM_SHARD_READY;
    }
    return fm_master_restore_shard(restorer->batch->master, fm_os_now_ns(), &unheld);
}

static int ledger_restore(struct batch *batch, struct fm_error *reterr)
{
    struct restorer restorer = {.batch = batch, .reterr = reterr};
    const struct fm_job_store_functions *store = batch->store->functions;
    int status = store->segments(batch->store, restore_segment, &restorer, reterr);
    status =
        status != 0 ? status : store->shards(batch->store, false, restore_shard, &restorer, reterr);
    status = status != 0 ? status : fm_ledger_restore_finish(fm_master_ledger(batch->master));
    if (status != 0 && reterr->status == 0) {
        return fm_error_set(
            reterr, status,
            "the ledger of '%s' does not fit together: %s; --restart begins the job anew",
            batch->job->output, fm_status_text(status));
    }
    return status;
}

/* Which dead letters the job is of, if it is of some: nothing comes to them. */
static int retry_restore(struct batch *batch, struct fm_error *reterr)
{
    const char *wanted = batch->options->retry;
    struct fm_error unknown = {0};
    int status = batch->store->functions->fact(batch->store, FM_JOB_FACT_RETRY, &batch->retry_from,
                                               &unknown);
    if (status != 0 && status != FM_ENOTFOUND) {
        return fm_error_set(reterr, status, "%s", unknown.text);
    }
    const char *was = status == 0 && batch->retry_from.data != NULL ? batch->retry_from.data : NULL;
    if (wanted != NULL && (was == NULL || strcmp(was, wanted) != 0)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "cannot resume '%s' with --retry-dead-letters '%s': it runs %s%s%s; "
                            "choose another directory with --output, or --restart",
                            batch->job->output, wanted,
                            was != NULL ? "the dead letters of '" : "all inputs",
                            was != NULL ? was : "", was != NULL ? "'" : "");
    }
    if (was != NULL && wanted == NULL) { /* else it is there already */
        batch->recorded[batch->recorded_count++] =
            (struct fm_job_fact){.key = FM_JOB_FACT_RETRY, .value = was};
    }
    return 0;
}

/* New inputs become new shards. */
static int job_grow(struct batch *batch, struct fm_error *reterr)
{
    size_t count = 0;
    uint64_t limit = batch->options->limit;
    int status = 0;
    if (!batch->listing_whole) {
        listing_forget(batch);
        status = listing_make(batch, true, reterr);
    }
    if (status != 0) {
        return status;
    }
    status = fm_row_source_compare(&batch->source, &batch->listing, &batch->added, &count, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "cannot resume '%s'", batch->job->output);
    }
    if (limit > 0 && limit < batch->rows_recorded) {
        note(batch,
             "the job has %" PRIu64 " rows already; --limit %" PRIu64
             " adds none and takes none away",
             batch->rows_recorded, limit);
    }
    if (count == 0 || (limit > 0 && limit <= batch->rows_recorded)) {
        inputs_forget(batch);
        return 0;
    }
    status = fm_output_reopen(batch->job->output, reterr);
    return status != 0 ? status : listing_begin(batch, batch->added, count, reterr);
}

static int job_resume(struct batch *batch, struct fm_error *reterr)
{
    int status = fm_job_notes_permit(batch->store, batch->job->output, reterr);
    status = status != 0 ? status : facts_compare(batch, reterr);
    status = status != 0 ? status : retry_restore(batch, reterr);
    status = status != 0 ? status : ledger_restore(batch, reterr);
    batch->resumed = true;
    batch->rows_recorded = fm_ledger_row_count(fm_master_ledger(batch->master));
    status = status != 0 ? status
                         : fm_output_reconcile(batch->job->output, batch->job->sink, batch->store,
                                               batch->options->listen != NULL,
                                               batch->options->fault, reterr);
    if (status == 0 && batch->retry_from.length > 0) {
        inputs_forget(batch);
        return 0;
    }
    return status != 0 ? status : job_grow(batch, reterr);
}

/* --- The output directory --- */

static int output_permits(const struct batch *batch, enum fm_output_state state,
                          struct fm_error *reterr)
{
    const char *output = batch->job->output;
    bool asked = batch->options->resume || batch->options->restart;
    if (state == FM_OUTPUT_JOB && !asked) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%s' already holds a job: continue it with --resume, begin anew with "
                            "--restart, or choose another directory with --output",
                            output);
    }
    if (state == FM_OUTPUT_FOREIGN) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%s' holds results but no ledger, so they are not touched: choose "
                            "another directory with --output",
                            output);
    }
    return 0;
}

/* The dead letters of a directory would go with the results in it. */
static int retry_permits(const struct batch *batch, struct fm_error *reterr)
{
    const char *from = batch->options->retry;
    return from == NULL || !fm_file_is_same(from, batch->job->output)
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "the dead letters of '%s' cannot be run into the same directory: "
                              "choose another one with --output",
                              from);
}

static int output_lock(struct batch *batch, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    long holder = 0;
    if (batch->locked) {
        return 0;
    }
    int status = fm_output_state_path(batch->job->output, "lock", path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_lock_acquire(&batch->lock, path, &holder, reterr);
    batch->locked = status == 0;
    if (status == FM_EUNAVAILABLE) {
        return fm_error_set(reterr, status,
                            "'%s' is being worked on by process %ld: wait for it, or stop it",
                            batch->job->output, holder);
    }
    return status;
}

static int store_open(struct batch *batch, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    if (batch->store != NULL) {
        return 0;
    }
    int status = fm_output_state_path(batch->job->output, "ledger.db", path, sizeof(path), reterr);
    return status != 0 ? status : fm_sqlite_store_open(path, &batch->store, reterr);
}

/* The sum of the rows that the job was begun with; nothing: it was not begun. */
static int spool_recorded(struct batch *batch, struct fm_text *sum, struct fm_error *reterr)
{
    int status = store_open(batch, reterr);
    status = status != 0
                 ? status
                 : batch->store->functions->fact(batch->store, FM_JOB_FACT_SPOOL, sum, reterr);
    if (status == FM_ENOTFOUND) {
        *reterr = (struct fm_error){0};
        return 0;
    }
    return status;
}

/* Rows that can be had once only are taken down under the lock. */
static int spool_take(struct batch *batch, struct fm_error *reterr)
{
    struct fm_text was = {0};
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    const char *output = batch->job->output;
    if (!fm_job_is_spooled(batch->job)) {
        return 0;
    }
    int status = fm_output_prepare(output, reterr);
    status = status != 0 ? status : output_lock(batch, reterr);
    status = status != 0 ? status : fm_output_look(output, &state, reterr);
    status = status != 0 ? status : output_permits(batch, state, reterr);
    bool resumes = state == FM_OUTPUT_JOB && batch->options->resume;
    if (status == 0 && resumes) {
        status = spool_recorded(batch, &was, reterr);
    }
    const struct fm_spool_options options = {.job = batch->job,
                                             .resumes = resumes,
                                             .continues = batch->options->resume,
                                             .recorded = was.length > 0 ? was.data : NULL,
                                             .retry = batch->options->retry,
                                             .rows_max = UINT64_MAX,
                                             .fault = batch->options->fault};
    status = status != 0 ? status : fm_spool_open(&batch->spool, &options, reterr);
    if (status == 0 && batch->spool.taken) {
        note(batch, "the rows are those that a start before this one took down from standard "
                    "input, whole; what is on it now is not read (--restart reads it)");
    } else if (status == 0 && !batch->spool.made && batch->job->standard_input &&
               fm_file_stdin_has_data()) {
        note(batch, "the job goes on with the rows that it was begun with; what is on standard "
                    "input now is not read (--restart reads it)");
    }
    fm_text_deinit(&was);
    return status;
}

/* Those who only look have them elsewhere. */
static int spool_look(struct batch *batch, uint64_t rows_max, struct fm_error *reterr)
{
    const struct fm_spool_options options = {
        .job = batch->job, .temporary = true, .retry = batch->options->retry, .rows_max = rows_max};
    return fm_job_is_spooled(batch->job) ? fm_spool_open(&batch->spool, &options, reterr) : 0;
}

static const char *files_describe(const struct fm_job *job)
{
    if (fm_job_is_spooled(job)) {
        return job->standard_input ? "standard input" : job->query;
    }
    return job->list != NULL ? job->list : job->files[0];
}

/* A job of dead letters is one before it is known which rows these are: begun again without the
 * option it would run all inputs. */
static int retry_begin(struct batch *batch, struct fm_error *reterr)
{
    const struct fm_job_store_functions *store = batch->store->functions;
    const char *wanted = batch->options->retry;
    const struct fm_job_fact fact = {.key = FM_JOB_FACT_RETRY, .value = wanted};
    struct fm_text was = {0};
    int status = wanted != NULL ? store->facts_put(batch->store, &fact, 1, reterr)
                                : store->fact(batch->store, FM_JOB_FACT_RETRY, &was, reterr);
    if (wanted == NULL && status == 0) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' was begun to run the dead letters of '%s', and was stopped "
                              "before it knew which rows these are: give --retry-dead-letters '%s' "
                              "once more, or --restart runs all inputs",
                              batch->job->output, was.data, was.data);
    } else if (wanted == NULL && status == FM_ENOTFOUND) {
        *reterr = (struct fm_error){0};
        status = 0;
    }
    fm_text_deinit(&was);
    return status;
}

/* A ledger that holds no job is one whose creation was cut short: nothing was claimed yet, so there
 * are no results. Where there are some, the ledger has lost what it knew. */
static int job_begin(struct batch *batch, struct fm_error *reterr)
{
    bool results = false;
    int status = fm_output_has_results(batch->job->output, &results, reterr);
    if (status == 0 && results) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the ledger of '%s' is empty although there are results: it was "
                            "emptied or replaced; put .fermata/ledger.db back, or --restart begins "
                            "the job anew",
                            batch->job->output);
    }
    status = status != 0 ? status : retry_begin(batch, reterr); /* before there are rows of it */
    if (status == 0 && batch->spool.settles) {
        status = fm_spool_settle(&batch->spool, reterr);
        (void)snprintf(batch->listing.base, sizeof(batch->listing.base), "%s", batch->spool.folder);
        (void)snprintf(batch->base, sizeof(batch->base), "%s", batch->spool.folder);
    }
    status = status != 0 ? status : listing_begin(batch, NULL, 0, reterr);
    if (status == 0 && batch->listed && batch->segment_count == 0) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "%s: the input has no rows: %s",
                              batch->job->file, files_describe(batch->job));
        if (fm_job_is_spooled(batch->job)) {
            /* The next start takes them down anew. */
            int ignored = fm_file_remove_tree(batch->spool.folder, NULL);
            (void)ignored;
        }
    }
    return status;
}

static int master_create(struct batch *batch)
{
    const struct fm_job *job = batch->job;
    struct fm_master_options options = {
        .ledger = {.leases_max = LEASES_MAX,
                   .lease_ns = LEASE_NS,
                   .epoch_first = fm_os_entropy() >> 32,
                   .attempts_max = {INFRASTRUCTURE_ATTEMPTS_MAX, DATA_ATTEMPTS_MAX},
                   .backoff_ns = BACKOFF_NS,
                   .backoff_max_ns = BACKOFF_MAX_NS},
        .pace = {.target_ns = SHARD_TARGET_NS,
                 .least_ns = SHARD_LEAST_NS,
                 .rows_first = SHARD_ROWS_FIRST,
                 .rows_max = FM_JOB_SHARD_ROWS_MAX},
        .shard_rows = job->shard_rows,
        .workers_max = WORKERS_MAX,
        .limits = {.bad_rows_max = job->errors_max_rows,
                   .bad_ratio_max = job->errors_max_ratio,
                   .bad_ratio_after = job->errors_min_sample},
        .relief_ns = SHARD_LEAST_NS,
        .duplicate_ns = LEASE_NS};
    return fm_master_create(&options, &batch->master);
}

/* Rows that were taken down for a job that never began, where another one goes on. */
static int spool_forget(const struct batch *batch, struct fm_error *reterr)
{
    static const char *const folders[] = {FM_OUTPUT_SPOOL_NEW, FM_OUTPUT_SPOOL_RETRY};
    char path[FM_OUTPUT_PATH_MAX];
    int status = 0;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && status == 0; i++) {
        status = fm_output_state_path(batch->job->output, folders[i], path, sizeof(path), reterr);
        status = status != 0 ? status : fm_file_remove_tree(path, reterr);
    }
    return status;
}

/* Lock, then look again: what was seen before the lock may have changed. */
static int output_open(struct batch *batch, struct fm_error *reterr)
{
    struct fm_text value = {0};
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    const char *output = batch->job->output;
    int status = fm_output_prepare(output, reterr);
    status = status != 0 ? status : output_lock(batch, reterr);
    status = status != 0 ? status : fm_output_look(output, &state, reterr);
    status = status != 0 ? status : output_permits(batch, state, reterr);
    if (status == 0 &&
        ((state == FM_OUTPUT_JOB && batch->options->restart) || state == FM_OUTPUT_DISCARDED)) {
        status = fm_output_discard(output, batch->options->fault, reterr);
    }
    status = status != 0 ? status : store_open(batch, reterr);
    status = status != 0 ? status : batch->store->functions->take(batch->store, reterr);
    if (status != 0) {
        return status;
    }
    if (master_create(batch) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger");
    }
    status = batch->store->functions->fact(batch->store, batch->facts.items[0].key, &value, reterr);
    fm_text_deinit(&value);
    if (status != 0 && status != FM_ENOTFOUND) {
        return status;
    }
    bool begun = status == 0;
    *reterr = (struct fm_error){0};
    status = begun ? job_resume(batch, reterr) : job_begin(batch, reterr);
    return status != 0 ? status : spool_forget(batch, reterr);
}

/* --- Running --- */

static void batch_close(struct batch *batch, struct fm_error *error)
{
    fm_spool_error(&batch->spool, batch->job, error);
    fm_lister_stop(batch->lister);
    fm_job_setup_close(&batch->setup);
    fm_row_source_deinit(&batch->source);
    fm_master_destroy(batch->master);
    if (batch->store != NULL) {
        batch->store->functions->close(batch->store);
    }
    fm_spool_close(&batch->spool);
    fm_file_lock_release(&batch->lock);
    listing_forget(batch);
    fm_free(batch->added);
    fm_retry_deinit(&batch->retry);
    fm_text_deinit(&batch->retry_from);
}

/* Inputs there are, as far as anybody has looked: a limit may have ended that. */
static uint64_t rows_found(const struct batch *batch)
{
    uint64_t rows = fm_ledger_row_count(fm_master_ledger(batch->master));
    uint64_t files = batch->job->format == NULL ? batch->files_found : 0;
    return files > rows ? files : rows;
}

static void facts_make(struct batch *batch)
{
    fm_job_facts_make(&batch->setup, &batch->facts);
    memcpy(batch->recorded, batch->facts.items, sizeof(batch->facts.items));
    batch->recorded_count = FM_JOB_FACTS;
    if (batch->options->retry != NULL) {
        batch->recorded[batch->recorded_count++] =
            (struct fm_job_fact){.key = FM_JOB_FACT_RETRY, .value = batch->options->retry};
    }
    if (fm_job_is_spooled(batch->job)) {
        batch->recorded[batch->recorded_count++] =
            (struct fm_job_fact){.key = FM_JOB_FACT_SPOOL, .value = batch->spool.checksum};
    }
}

static int job_finish(struct batch *batch, struct fm_batch_report *report, struct fm_error *reterr)
{
    fm_ledger_prove(fm_master_ledger(batch->master), &report->proof);
    if (!report->proof.complete) {
        report->verdict = FM_BATCH_INCOMPLETE;
        return 0;
    }
    struct fm_output_summary summary = {.name = batch->job->name,
                                        .sink = batch->job->sink,
                                        .proof = &report->proof,
                                        .facts = batch->recorded,
                                        .fact_count = batch->recorded_count,
                                        .rows_found = rows_found(batch),
                                        .finished_wall_ns = fm_os_wall_ns()};
    if (report->proof.rows_out + report->proof.dead_letters == report->rows_before) {
        report->ended_ms = 0;
    }
    report->verdict =
        report->proof.dead_letters > 0 ? FM_BATCH_COMPLETE_WITH_LETTERS : FM_BATCH_COMPLETE;
    return fm_output_finish(batch->job->output, batch->store, &summary, batch->options->fault,
                            reterr);
}

/* A failure while the job ran, as what a person must know. Nothing that went well before can be
 * missing now, unless somebody took it away or the disk did. */
static int failure_explain(const struct batch *batch, struct fm_error *reterr)
{
    struct fm_error cause = *reterr;
    enum fm_output_state state = FM_OUTPUT_JOB;
    if (fm_output_look(batch->job->output, &state, NULL) == 0 && state != FM_OUTPUT_JOB) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "the output directory '%s' was removed or replaced while the job ran "
                            "(%s): put it back and go on with --resume; without it, run the job "
                            "anew",
                            batch->job->output, cause.text);
    }
    if (cause.status == FM_ENOTFOUND || cause.status == FM_EPERM || cause.status == FM_EEXIST) {
        return fm_error_set(reterr, FM_EIO, "%s", cause.text);
    }
    return cause.status;
}

static int job_run(struct batch *batch, struct fm_batch_report *report, struct fm_error *reterr)
{
    struct fm_run_progress progress = {0};
    enum fm_run_end end = FM_RUN_FINISHED;
    fm_ledger_prove(fm_master_ledger(batch->master), &report->proof);
    report->rows_before = report->proof.rows_out + report->proof.dead_letters;
    progress = (struct fm_run_progress){.rows_total = report->proof.rows_in,
                                        .listing = batch->lister != NULL && !batch->listed,
                                        .rows_done = report->rows_before,
                                        .rows_committed = report->rows_before,
                                        .dead_letters = report->proof.dead_letters};
    if (batch->webhook != NULL) {
        const struct fm_notify_event begin = {
            .event = "begin", .proof = &report->proof, .rows_before = report->rows_before};
        fm_notify(batch->webhook, batch->job, &begin);
    }
    if (batch->options->begin != NULL) {
        batch->options->begin(batch->options->context, &progress);
    }
    const struct fm_batch_host_options options = {.job = batch->job,
                                                  .facts = &batch->facts,
                                                  .base = batch->base,
                                                  .master = batch->master,
                                                  .lease_ns = LEASE_NS,
                                                  .store = batch->store,
                                                  .source = &batch->source,
                                                  .more_rows = more_rows,
                                                  .more_context = batch,
                                                  .fault = batch->options->fault,
                                                  .hooks = batch->options->hooks,
                                                  .workers_min = batch->options->workers_min,
                                                  .workers_max = batch->options->workers_max,
                                                  .finish_by_ms = batch->finish_by_ms,
                                                  .listen = batch->options->listen,
                                                  .page = batch->options->page,
                                                  .version = batch->options->version,
                                                  .worker_fault = batch->options->fault_text,
                                                  .note = batch->options->note,
                                                  .note_context = batch->options->context};
    uint64_t start_ns = fm_os_now_ns();
    int status = fm_batch_host_run(&options, &end, &progress, reterr);
    report->elapsed_ns = fm_os_now_ns() - start_ns;
    report->finish_by_ms = batch->finish_by_ms;
    report->ended_ms = fm_os_wall_ns() / NS_PER_MS;
    report->crew = progress.crew;
    report->began = true;
    report->rows_found = rows_found(batch);
    if (status != 0) {
        return failure_explain(batch, reterr);
    }
    switch (end) {
    case FM_RUN_STOPPED:
        report->verdict = FM_BATCH_STOPPED;
        break;
    case FM_RUN_CANCELLED:
        report->verdict = FM_BATCH_CANCELLED;
        break;
    case FM_RUN_THRESHOLD:
        report->verdict = FM_BATCH_THRESHOLD;
        report->error = *reterr;
        *reterr = (struct fm_error){0};
        break;
    case FM_RUN_FINISHED:
    case FM_RUN_FAILED:
    default:
        status = job_finish(batch, report, reterr);
        return status != 0 ? failure_explain(batch, reterr) : 0;
    }
    fm_ledger_prove(fm_master_ledger(batch->master), &report->proof);
    return 0;
}

/* How this run has ended, for those who look at the job. */
static void end_note(const struct batch *batch, int status, const struct fm_batch_report *report,
                     const struct fm_error *error)
{
    static const char *const states[] = {[FM_BATCH_COMPLETE] = FM_JOB_STATE_COMPLETE,
                                         [FM_BATCH_COMPLETE_WITH_LETTERS] = FM_JOB_STATE_COMPLETE,
                                         [FM_BATCH_STOPPED] = FM_JOB_STATE_STOPPED,
                                         [FM_BATCH_CANCELLED] = FM_JOB_STATE_CANCELLED,
                                         [FM_BATCH_THRESHOLD] = "too many failed rows",
                                         [FM_BATCH_INCOMPLETE] = "incomplete"};
    bool done = status == 0 && report->proof.complete;
    const char *state = status != 0 ? error->text : states[report->verdict];
    fm_job_notes_end(batch->store, state);
    if (batch->webhook != NULL) {
        const struct fm_notify_event end = {
            .event = status != 0                                      ? "failed"
                     : done || report->verdict == FM_BATCH_INCOMPLETE ? "end"
                                                                      : "stopped",
            .verdict = status != 0 ? NULL : state,
            .error = status != 0                             ? error->text
                     : report->verdict == FM_BATCH_THRESHOLD ? report->error.text
                                                             : NULL,
            .proof = &report->proof,
            .rows_before = report->rows_before,
            .elapsed_ns = report->elapsed_ns};
        fm_notify(batch->webhook, batch->job, &end);
    }
}

/* Before anything is begun: an address that is none is a mistake to be mended. */
static int webhook_open(struct batch *batch, struct fm_error *reterr)
{
    return batch->job->webhook == NULL
               ? 0
               : fm_webhook_start(batch->job->webhook, WEBHOOK_NS, &batch->webhook, reterr);
}

static void webhook_close(struct batch *batch)
{
    struct fm_error error = {0};
    if (fm_webhook_stop(batch->webhook, WEBHOOK_GRACE_NS, &error) != 0) {
        note(batch, "%s", error.text);
    }
}

int fm_batch_run(const struct fm_job *job, const struct fm_batch_options *options,
                 struct fm_batch_report *ret_report, struct fm_error *reterr)
{
    struct batch batch = {.job = job, .options = options};
    struct fm_error local = {0};
    struct fm_error *error = reterr != NULL ? reterr : &local;
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    *ret_report = (struct fm_batch_report){0};
    *error = (struct fm_error){0};
    /* The cheap refusals first; models are loaded when nothing else can go wrong. */
    int status = fm_output_look(job->output, &state, error);
    status = status != 0 ? status : output_permits(&batch, state, error);
    status = status != 0 ? status : retry_permits(&batch, error);
    status = status != 0 ? status : webhook_open(&batch, error);
    status = status != 0 ? status : spool_take(&batch, error);
    status = status != 0 ? status : listing_make(&batch, false, error);
    status = status != 0 ? status : setup_open(&batch, true, error);
    status = status != 0 ? status : rows_try(&batch, error);
    status = status != 0 ? status : output_try(&batch, error);
    if (status == 0) {
        facts_make(&batch);
        fm_job_setup_unload(&batch.setup);
        (void)snprintf(batch.base, sizeof(batch.base), "%s", batch.listing.base);
        status = output_open(&batch, error);
    }
    if (status == 0) {
        status = fm_job_notes_begin(batch.store, job, fm_os_wall_ns(), error);
        status = status != 0 ? status
                             : fm_finish_by_settle(batch.store, &options->finish_by,
                                                   &job->finish_by, &batch.finish_by_ms, error);
        if (status == 0) {
            status = job_run(&batch, ret_report, error);
            end_note(&batch, status, ret_report, error);
        }
    }
    batch_close(&batch, error);
    webhook_close(&batch);
    ret_report->memory_peak = fm_memory_peak();
    ret_report->worker_memory_peak = fm_os_memory_peak_of_children();
    return status;
}

/* What goes where. */
static void plan_inputs(const struct batch *batch, struct fm_batch_plan *plan)
{
    uint32_t count = 0;
    const struct fm_port *ports = fm_servable_inputs(batch->setup.servable, &count);
    (void)snprintf(plan->format, sizeof(plan->format), "%s",
                   batch->job->format != NULL ? batch->job->format->name : "files");
    if (batch->job->format == NULL) {
        (void)snprintf(plan->tensor, sizeof(plan->tensor), "%.120s",
                       ports[batch->setup.input].name);
        return;
    }
    for (uint32_t i = 0; i < batch->setup.source.tensor_count; i++) {
        size_t used = strlen(plan->tensor);
        (void)snprintf(plan->tensor + used, sizeof(plan->tensor) - used, "%s%s", i > 0 ? ", " : "",
                       batch->setup.source.tensors[i].column.name);
    }
}

int fm_batch_plan(const struct fm_job *job, const struct fm_batch_options *options,
                  struct fm_batch_plan *ret_plan, struct fm_error *reterr)
{
    struct batch batch = {.job = job, .options = options};
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    uint64_t rows = 0;
    *ret_plan = (struct fm_batch_plan){0};
    int status = fm_output_look(job->output, &state, reterr);
    status = status != 0
                 ? status
                 : spool_look(&batch, options->limit > 0 ? options->limit : UINT64_MAX, reterr);
    status = status != 0 ? status : listing_make(&batch, true, reterr);
    status = status != 0 ? status : setup_open(&batch, options->sample == 0, reterr);
    status = status != 0 ? status : rows_try(&batch, reterr);
    status = status != 0 ? status : output_try(&batch, reterr);
    status = status == 0 && options->sample > 0 ? sample_permits(&batch, reterr) : status;
    if (status == 0 && batch.retry.count > 0) {
        rows = batch.retry.count;
    } else if (status == 0 && job->format != NULL) {
        status =
            fm_row_index_count(&batch.listing, &batch.setup.source,
                               options->limit > 0 ? options->limit : UINT64_MAX, &rows, reterr);
    }
    if (status == 0) {
        ret_plan->files = batch.listing.count;
        ret_plan->rows_found = job->format != NULL ? rows : batch.listing.count;
        ret_plan->rows = options->limit > 0 && options->limit < ret_plan->rows_found
                             ? options->limit
                             : ret_plan->rows_found;
        for (size_t i = 0; i < batch.listing.count; i++) {
            const struct fm_listing_entry *entry = &batch.listing.entries[i];
            bool wanted = batch.retry.count > 0 ? true
                          : job->format != NULL ? entry->row_count > 0
                                                : i < ret_plan->rows;
            ret_plan->bytes += wanted && entry->size != FM_LISTING_SIZE_UNKNOWN ? entry->size : 0;
        }
        ret_plan->shard_rows = job->shard_rows;
        ret_plan->hidden_count = batch.listing.hidden_count;
        ret_plan->duplicate_count = batch.listing.duplicate_count;
        ret_plan->stages = fm_servable_pipeline(batch.setup.servable)->stage_count;
        ret_plan->rows_in_flight = fm_job_setup_rows_in_flight(&batch.setup);
        ret_plan->output_holds_job = state == FM_OUTPUT_JOB;
        (void)snprintf(ret_plan->pipeline, sizeof(ret_plan->pipeline), "%.120s",
                       fm_servable_name(batch.setup.servable));
        plan_inputs(&batch, ret_plan);
    }
    if (status == 0 && options->sample > 0) {
        const struct fm_sample_options sample = {.setup = &batch.setup,
                                                 .listing = &batch.listing,
                                                 .rows = options->sample,
                                                 .sharers = options->workers_max};
        status = fm_sample_run(&sample, &ret_plan->sample, reterr);
        ret_plan->sample_memory = fm_memory_peak();
    }
    batch_close(&batch, reterr);
    return status;
}

struct preview {
    struct batch *batch;
    uint64_t rows;
};

static int preview_found(void *context)
{
    const struct preview *preview = context;
    return preview->batch->listing.count >= preview->rows ? 1 : 0;
}

int fm_batch_preview(const struct fm_job *job, const struct fm_batch_options *options,
                     uint64_t rows, void (*show)(void *context, const struct fm_sample_row *row),
                     void *context, struct fm_sample_result *ret_result, struct fm_error *reterr)
{
    struct batch batch = {.job = job, .options = options};
    struct preview preview = {.batch = &batch, .rows = rows};
    bool walk = fm_listing_is_walk(job);
    int status = spool_look(&batch, rows > TRY_ROWS ? rows : TRY_ROWS, reterr);
    if (status != 0) {
        batch_close(&batch, reterr);
        return status;
    }
    status = fm_job_is_spooled(job) ? fm_spool_list(&batch.spool, job, &batch.listing, reterr)
             : walk ? fm_listing_walk(job, job->output, NULL, preview_found, &preview,
                                      &batch.listing, reterr)
                    : fm_listing_build(job, job->output, NULL, &batch.listing, reterr);
    batch.has_listing = walk || status == 0;
    status = status < 0 ? fm_error_prefix(reterr, status, "%s", job->file) : 0;
    status = status != 0 ? status : sample_permits(&batch, reterr);
    status = status != 0 ? status : setup_open(&batch, false, reterr);
    status = status != 0 ? status : rows_try(&batch, reterr);
    if (status == 0) {
        const struct fm_sample_options sample = {.setup = &batch.setup,
                                                 .listing = &batch.listing,
                                                 .rows = rows,
                                                 .show = show,
                                                 .context = context};
        status = fm_sample_run(&sample, ret_result, reterr);
    }
    batch_close(&batch, reterr);
    return status;
}
