/*
 * One batch job from beginning to end. See batch.h.
 */
#include "engines/batch/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/output.h"
#include "host/os/file_lock.h"
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

/* Everything that lives as long as the job runs. */
struct batch {
    const struct fm_job *job;
    const struct fm_batch_options *options;
    struct fm_listing listing;
    bool has_listing;
    struct fm_job_setup setup;
    struct fm_file_lock lock;
    struct fm_job_store *store;
    struct fm_master *master;
    struct fm_row_source source;
    uint64_t rows_found;
    uint32_t segment_count;
    struct fm_job_facts facts;
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

/* Nothing runs here: the workers have pipelines of their own. */
static int setup_open(struct batch *batch, struct fm_error *reterr)
{
    const struct fm_job_setup_options options = {
        .check_only = true, .note = batch->options->note, .note_context = batch->options->context};
    return fm_job_setup_open(&batch->setup, batch->job, &options, reterr);
}

static int facts_compare(struct batch *batch, struct fm_error *reterr)
{
    struct fm_text differences = {0};
    int status = 0;
    for (size_t i = 0; i < FM_JOB_FACTS && status == 0; i++) {
        struct fm_text value = {0};
        status =
            batch->store->functions->fact(batch->store, batch->facts.items[i].key, &value, reterr);
        const char *was = value.data != NULL ? value.data : "";
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

static int listing_make(struct batch *batch, struct fm_error *reterr)
{
    int status = fm_listing_build(batch->job, batch->job->output, &batch->listing, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s", batch->job->file);
    }
    batch->has_listing = true;
    batch->rows_found = batch->listing.count;
    if (batch->listing.hidden_count > 0) {
        note(batch, "%" PRIu64 " name(s) that begin with a dot were left out",
             batch->listing.hidden_count);
    }
    if (batch->listing.duplicate_count > 0) {
        note(batch, "%" PRIu64 " inputs were named more than once and count once",
             batch->listing.duplicate_count);
    }
    return 0;
}

/* Rows of the inputs that there are now. */
static uint64_t rows_wanted(const struct batch *batch)
{
    uint64_t limit = batch->options->limit;
    return limit > 0 && limit < batch->rows_found ? limit : batch->rows_found;
}

static int listing_path(const struct batch *batch, uint32_t segment, char *ret_path, size_t size,
                        struct fm_error *reterr)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "inputs-%" PRIu32, segment);
    return fm_output_state_path(batch->job->output, name, ret_path, size, reterr);
}

/* Records entries of the listing as a new segment: file first, then the ledger. */
static int segment_add(struct batch *batch, const size_t *order, size_t count,
                       struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_job_segment segment = {0};
    bool first = batch->segment_count == 0;
    const struct fm_job_store_functions *store = batch->store->functions;
    int status = listing_path(batch, batch->segment_count, path, sizeof(path), reterr);
    status = status != 0 ? status
                         : fm_listing_write(&batch->listing, order, count, path,
                                            &segment.listing_checksum, reterr);
    status = status != 0 ? status
                         : fm_fault_hit(batch->options->fault,
                                        first ? FM_FAULT_LISTED : FM_FAULT_GROWN_LISTED, reterr);
    if (status != 0) {
        return status;
    }
    status = fm_master_add_rows(batch->master, fm_os_now_ns(), count, 1, &segment.rows);
    if (status != 0) {
        return fm_error_set(reterr, status, "cannot add %zu rows to the ledger: %s", count,
                            fm_status_text(status));
    }
    status = first ? store->create(batch->store, batch->facts.items, FM_JOB_FACTS, &segment, reterr)
                   : store->grow(batch->store, NULL, 0, &segment, reterr);
    status = status != 0 ? status
                         : fm_fault_hit(batch->options->fault,
                                        first ? FM_FAULT_CREATED : FM_FAULT_GROWN, reterr);
    status = status != 0
                 ? status
                 : fm_row_source_add(&batch->source, path, segment.rows.first_row,
                                     segment.rows.row_count, segment.listing_checksum, reterr);
    batch->segment_count++;
    return status;
}

struct restorer {
    struct batch *batch;
    struct fm_error *reterr;
};

static int restore_segment(void *context, const struct fm_job_segment *segment)
{
    struct restorer *restorer = context;
    struct batch *batch = restorer->batch;
    char path[FM_OUTPUT_PATH_MAX];
    int status = fm_ledger_restore_segment(fm_master_ledger(batch->master), &segment->rows);
    if (status != 0) {
        return status;
    }
    status = listing_path(batch, batch->segment_count++, path, sizeof(path), restorer->reterr);
    return status != 0 ? status
                       : fm_row_source_add(&batch->source, path, segment->rows.first_row,
                                           segment->rows.row_count, segment->listing_checksum,
                                           restorer->reterr);
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

/* New inputs become new shards. */
static int job_grow(struct batch *batch, struct fm_error *reterr)
{
    size_t *added = NULL;
    size_t count = 0;
    uint64_t limit = batch->options->limit;
    uint64_t recorded = fm_ledger_row_count(fm_master_ledger(batch->master));
    int status =
        fm_listing_compare(&batch->listing, &batch->source, recorded, &added, &count, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "cannot resume '%s'", batch->job->output);
    }
    if (limit > 0 && limit < recorded + count) {
        count = limit > recorded ? (size_t)(limit - recorded) : 0;
        if (limit < recorded) {
            note(batch,
                 "the job has %" PRIu64 " rows already; --limit %" PRIu64
                 " adds none and takes none away",
                 recorded, limit);
        }
    }
    if (count > 0) {
        note(batch, "%zu new inputs since the job was begun", count);
        status = fm_output_reopen(batch->job->output, reterr);
        status = status != 0 ? status : segment_add(batch, added, count, reterr);
    }
    fm_free(added);
    return status;
}

static int job_resume(struct batch *batch, struct fm_error *reterr)
{
    int status = facts_compare(batch, reterr);
    status = status != 0 ? status : ledger_restore(batch, reterr);
    status = status != 0 ? status
                         : fm_output_reconcile(batch->job->output, batch->store,
                                               batch->options->listen != NULL,
                                               batch->options->fault, reterr);
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

static int output_lock(struct batch *batch, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    long holder = 0;
    int status = fm_output_state_path(batch->job->output, "lock", path, sizeof(path), reterr);
    status = status != 0 ? status : fm_file_lock_acquire(&batch->lock, path, &holder, reterr);
    if (status == FM_EUNAVAILABLE) {
        return fm_error_set(reterr, status,
                            "'%s' is being worked on by process %ld: wait for it, or stop it",
                            batch->job->output, holder);
    }
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
    return status != 0 ? status : segment_add(batch, NULL, (size_t)rows_wanted(batch), reterr);
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

/* Lock, then look again: what was seen before the lock may have changed. */
static int output_open(struct batch *batch, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
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
    status = status != 0 ? status
                         : fm_output_state_path(output, "ledger.db", path, sizeof(path), reterr);
    status = status != 0 ? status : fm_sqlite_store_open(path, &batch->store, reterr);
    status = status != 0 ? status : batch->store->functions->take(batch->store, reterr);
    if (status != 0) {
        return status;
    }
    if (master_create(batch) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the ledger");
    }
    status = batch->store->functions->fact(batch->store, batch->facts.items[0].key, &value, reterr);
    fm_text_deinit(&value);
    if (status == 0) {
        return job_resume(batch, reterr);
    }
    if (status != FM_ENOTFOUND) {
        return status;
    }
    *reterr = (struct fm_error){0};
    return job_begin(batch, reterr);
}

/* --- Running --- */

static void batch_close(struct batch *batch)
{
    fm_job_setup_close(&batch->setup);
    fm_row_source_deinit(&batch->source);
    fm_master_destroy(batch->master);
    if (batch->store != NULL) {
        batch->store->functions->close(batch->store);
    }
    fm_file_lock_release(&batch->lock);
    if (batch->has_listing) {
        fm_listing_deinit(&batch->listing);
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
                                        .proof = &report->proof,
                                        .facts = batch->facts.items,
                                        .fact_count = FM_JOB_FACTS,
                                        .rows_found = batch->rows_found,
                                        .finished_wall_ns = fm_os_wall_ns()};
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
    fm_master_close(batch->master, fm_os_now_ns(), true);
    fm_ledger_prove(fm_master_ledger(batch->master), &report->proof);
    report->rows_before = report->proof.rows_out + report->proof.dead_letters;
    progress = (struct fm_run_progress){.rows_total = report->proof.rows_in,
                                        .rows_done = report->rows_before,
                                        .rows_committed = report->rows_before,
                                        .dead_letters = report->proof.dead_letters};
    if (batch->options->begin != NULL) {
        batch->options->begin(batch->options->context, &progress);
    }
    const struct fm_batch_host_options options = {.job = batch->job,
                                                  .facts = &batch->facts,
                                                  .base = batch->listing.base,
                                                  .master = batch->master,
                                                  .lease_ns = LEASE_NS,
                                                  .store = batch->store,
                                                  .source = &batch->source,
                                                  .fault = batch->options->fault,
                                                  .hooks = batch->options->hooks,
                                                  .workers = batch->options->workers,
                                                  .listen = batch->options->listen,
                                                  .version = batch->options->version,
                                                  .worker_fault = batch->options->fault_text,
                                                  .note = batch->options->note,
                                                  .note_context = batch->options->context};
    uint64_t start_ns = fm_os_now_ns();
    int status = fm_batch_host_run(&options, &end, &progress, reterr);
    report->elapsed_ns = fm_os_now_ns() - start_ns;
    report->crew = progress.crew;
    report->began = true;
    if (status != 0) {
        return failure_explain(batch, reterr);
    }
    switch (end) {
    case FM_RUN_STOPPED:
        report->verdict = FM_BATCH_STOPPED;
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
    status = status != 0 ? status : listing_make(&batch, error);
    status = status != 0 ? status : setup_open(&batch, error);
    if (status == 0) {
        fm_job_facts_make(&batch.setup, &batch.facts);
        fm_job_setup_close(&batch.setup);
        status = output_open(&batch, error);
    }
    if (status == 0) {
        fm_free(batch.listing
                    .entries); /* recorded now: memory stays flat whatever the number of rows */
        fm_arena_deinit(&batch.listing.arena);
        fm_arena_init(&batch.listing.arena, 0);
        batch.listing.entries = NULL;
        batch.listing.count = 0;
        ret_report->rows_found = batch.rows_found;
        status = job_run(&batch, ret_report, error);
    }
    batch_close(&batch);
    ret_report->memory_peak = fm_os_memory_peak();
    ret_report->worker_memory_peak = fm_os_memory_peak_of_children();
    return status;
}

int fm_batch_plan(const struct fm_job *job, const struct fm_batch_options *options,
                  struct fm_batch_plan *ret_plan, struct fm_error *reterr)
{
    struct batch batch = {.job = job, .options = options};
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    *ret_plan = (struct fm_batch_plan){0};
    int status = fm_output_look(job->output, &state, reterr);
    status = status != 0 ? status : listing_make(&batch, reterr);
    status = status != 0 ? status : setup_open(&batch, reterr);
    if (status == 0) {
        uint32_t count = 0;
        uint64_t rows = rows_wanted(&batch);
        ret_plan->rows_found = batch.rows_found;
        ret_plan->rows = rows;
        for (uint64_t i = 0; i < rows; i++) {
            uint64_t size = batch.listing.entries[i].size;
            ret_plan->bytes += size != FM_LISTING_SIZE_UNKNOWN ? size : 0;
        }
        ret_plan->shard_rows = job->shard_rows;
        ret_plan->hidden_count = batch.listing.hidden_count;
        ret_plan->duplicate_count = batch.listing.duplicate_count;
        ret_plan->stages = fm_servable_pipeline(batch.setup.servable)->stage_count;
        ret_plan->rows_in_flight = fm_job_setup_rows_in_flight(&batch.setup);
        ret_plan->output_holds_job = state == FM_OUTPUT_JOB;
        (void)snprintf(ret_plan->pipeline, sizeof(ret_plan->pipeline), "%.120s",
                       fm_servable_name(batch.setup.servable));
        (void)snprintf(ret_plan->tensor, sizeof(ret_plan->tensor), "%.120s",
                       fm_servable_inputs(batch.setup.servable, &count)[batch.setup.input].name);
    }
    batch_close(&batch);
    return status;
}
