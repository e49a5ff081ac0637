/*
 * The threads of a batch job. See run.h.
 */
#include "engines/batch/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/output.h"
#include "engines/batch/row_format.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { WRITE_ROWS_MAX = 64, READ_ATTEMPTS_MAX = 3, TICK_MS = 100 };
#define NS_PER_MS UINT64_C(1000000)

struct run;
struct shard_run;

/* One row in flight. Belongs to whoever took it from a queue; to the writer when `finished`. */
struct row {
    struct run *run;
    struct shard_run *shard;
    struct row *next;
    uint64_t index;  /* in the shard */
    uint64_t number; /* in the job */
    uint64_t size_hint;
    uint64_t charged; /* bytes counted against bytes_in_flight */
    uint64_t start_ns;
    uint32_t attempts;
    bool finished;
    bool good;
    char id[FM_LISTING_ID_MAX];
    struct fm_request request;
    struct fm_value *inputs;
    struct fm_value *outputs;
    struct fm_stage_timing *timings;
    struct fm_error error;
    const char *failed_stage;
    struct fm_text line;
};

struct row_queue {
    struct row *first;
    struct row *last;
};

/* A shard this process holds, between claim and commit. */
struct shard_run {
    struct fm_shard shard;
    struct fm_attempt files;
    uint64_t admitted;
    uint64_t written;
    struct row **slots; /* rows [written, admitted) by index modulo rows_in_flight */
    struct shard_run *next;
};

struct run {
    const struct fm_run_options *options;
    struct fm_executor *executor;
    const struct fm_pipeline *pipeline;
    struct fm_row_format format;
    const char **stage_names;
    struct row *rows;
    struct fm_thread *threads; /* readers, then the writer */
    uint32_t thread_count;

    struct fm_mutex mutex;
    struct fm_condition work;  /* readers wait here */
    struct fm_condition ready; /* the writer */
    struct fm_condition turn;  /* the calling thread */
    struct row *free_rows;
    struct row_queue to_read;
    struct row_queue to_format;
    struct shard_run *shards;
    uint32_t shard_count;
    uint32_t in_flight;
    uint64_t bytes_in_flight;
    bool stopping;   /* admits no more rows */
    bool abandoning; /* and keeps nothing of the open shards */
    bool ending;     /* threads may go */
    enum fm_run_end end;
    struct fm_error failure;
    uint64_t finished_rows; /* in this run */
    uint64_t finished_bad;
    struct fm_run_progress progress;
    uint64_t *busy_before; /* by stage: for the slowest */
    uint64_t busy_at_ns;
};

/* --- Queues and verdicts; the lock is held --- */

static void queue_push(struct row_queue *queue, struct row *row)
{
    row->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = row;
    } else {
        queue->first = row;
    }
    queue->last = row;
}

static struct row *queue_pop(struct row_queue *queue)
{
    struct row *row = queue->first;
    if (row != NULL) {
        queue->first = row->next;
        queue->last = queue->first == NULL ? NULL : queue->last;
        row->next = NULL;
    }
    return row;
}

static void row_free(struct run *run, struct row *row)
{
    row->shard = NULL;
    row->finished = false;
    fm_text_clear(&row->line);
    row->next = run->free_rows;
    run->free_rows = row;
    run->in_flight--;
    fm_condition_signal(&run->turn);
}

/* No more rows are admitted; those that nobody has read yet go back to their shard. They are its
 * last ones, because rows are read in order. */
static void stop(struct run *run, enum fm_run_end end, bool abandoning)
{
    struct row *row = NULL;
    if (!run->stopping) {
        run->end = end;
    }
    run->stopping = true;
    run->abandoning = run->abandoning || abandoning;
    while ((row = queue_pop(&run->to_read)) != NULL) {
        row->shard->admitted--;
        row_free(run, row);
    }
    fm_condition_signal(&run->ready);
    fm_condition_signal(&run->turn);
}

/* The first failure is the one that is told. */
static void fail(struct run *run, const struct fm_error *error)
{
    if (run->failure.status == 0) {
        run->failure = *error;
        run->end = FM_RUN_FAILED;
    }
    stop(run, FM_RUN_FAILED, true);
}

static void threshold_check(struct run *run)
{
    const struct fm_job *job = run->options->job;
    uint64_t bad = run->finished_bad;
    bool ratio = run->finished_rows >= job->errors_min_sample &&
                 (double)bad > job->errors_max_ratio * (double)run->finished_rows;
    bool count = run->progress.dead_letters > job->errors_max_rows;
    if (run->stopping || !(ratio || count)) {
        return;
    }
    if (count) {
        (void)fm_error_set(&run->failure, FM_ELIMIT,
                           "%" PRIu64 " rows failed, and the job allows %" PRIu64
                           " (errors.max_rows)",
                           run->progress.dead_letters, job->errors_max_rows);
    } else {
        (void)fm_error_set(&run->failure, FM_ELIMIT,
                           "%" PRIu64 " of the first %" PRIu64
                           " rows failed, and the job allows a share of %g (errors.max_ratio)",
                           bad, run->finished_rows, job->errors_max_ratio);
    }
    stop(run, FM_RUN_THRESHOLD, true);
}

/* The row has its line: the writer's turn. */
static void deliver(struct run *run, struct row *row)
{
    run->bytes_in_flight -= row->charged;
    row->charged = 0;
    row->finished = true;
    run->finished_rows++;
    run->progress.rows_done++;
    if (!row->good) {
        run->finished_bad++;
        run->progress.dead_letters++;
        if (run->failure.status == 0 && !run->stopping) {
            threshold_check(run);
            if (run->failure.status != 0) {
                (void)fm_error_prefix(&run->failure, run->failure.status, "stopped");
                size_t used = strlen(run->failure.text);
                (void)snprintf(run->failure.text + used, sizeof(run->failure.text) - used,
                               "; the last of them: %.200s", row->error.text);
            }
        }
    }
    fm_condition_signal(&run->ready);
    if (run->to_read.first != NULL) {
        fm_condition_signal(&run->work); /* bytes_in_flight may have room again */
    }
}

/* --- Reading and formatting: reader threads --- */

static void source_path(const struct row *row, char *ret_path, size_t size)
{
    if (fm_path_join(ret_path, size, row->run->options->base, row->id) != 0) {
        (void)snprintf(ret_path, size, "%s", row->id);
    }
}

static int row_read(struct row *row, char **ret_data, size_t *ret_size)
{
    char path[2 * FM_LISTING_ID_MAX];
    size_t bytes_max = (size_t)row->run->options->job->file_bytes_max;
    source_path(row, path, sizeof(path));
    for (;;) {
        int status = fm_file_read(path, bytes_max, ret_data, ret_size, &row->error);
        row->attempts++;
        bool passing = status == FM_EIO || status == FM_ELIMIT || status == FM_ENOMEM;
        if (status == 0 || !passing || row->attempts == READ_ATTEMPTS_MAX) {
            return status;
        }
        fm_sleep_until(fm_os_now_ns() + 50 * NS_PER_MS * row->attempts);
    }
}

/* A BYTES tensor of one string, in the shape that the port wants: every dimension 1. */
static int input_make(const struct row *row, const char *data, size_t size,
                      struct fm_value *ret_value)
{
    uint32_t count = 0;
    const struct fm_port *port =
        &fm_servable_inputs(row->run->options->servable, &count)[row->run->options->input];
    int status = fm_value_from_bytes(ret_value, data, size);
    if (status == 0 && port->rank >= 0) {
        ret_value->tensor.rank = (uint32_t)port->rank;
        for (int32_t i = 0; i < port->rank; i++) {
            ret_value->tensor.shape[i] = 1;
        }
    }
    return status;
}

static void request_done(struct fm_request *request)
{
    struct row *row = request->user;
    struct run *run = row->run;
    fm_mutex_lock(&run->mutex);
    queue_push(&run->to_format, row);
    fm_condition_signal(&run->work);
    fm_mutex_unlock(&run->mutex);
}

static int row_fail(struct row *row, const char *stage, int status)
{
    row->failed_stage = stage;
    if (row->error.status == 0) {
        (void)fm_error_set(&row->error, status, "%s", fm_status_text(status));
    }
    return status;
}

/* Reads and submits. Not 0: the row has failed and was not submitted. */
static int row_start(struct row *row)
{
    char *data = NULL;
    size_t size = 0;
    row->start_ns = fm_os_now_ns();
    row->attempts = 0;
    row->error = (struct fm_error){0};
    row->failed_stage = NULL;
    int status = row_read(row, &data, &size);
    if (status == 0 && size == 0) {
        status = fm_error_set(&row->error, FM_ECORRUPT, "the file is empty");
    }
    if (status != 0) {
        fm_free(data);
        return row_fail(row, "read", status);
    }
    row->error = (struct fm_error){0};
    status = input_make(row, data, size, &row->inputs[row->run->options->input]);
    fm_free(data);
    if (status != 0) {
        return row_fail(row, "read", status);
    }
    memset(row->timings, 0, row->run->pipeline->stage_count * sizeof(*row->timings));
    row->request = (struct fm_request){.inputs = row->inputs,
                                       .outputs = row->outputs,
                                       .timings = row->timings,
                                       .rows = 1,
                                       .done = request_done,
                                       .user = row};
    status = fm_executor_submit(row->run->executor, &row->request);
    if (status != 0) {
        row->error = row->request.error;
        fm_value_unref(&row->inputs[row->run->options->input]);
        return row_fail(row, "input", status);
    }
    return 0;
}

static void letter_write(struct row *row)
{
    char path[2 * FM_LISTING_ID_MAX];
    source_path(row, path, sizeof(path));
    struct fm_dead_letter letter = {.id = row->id,
                                    .source = path,
                                    .row = row->number,
                                    .stage = row->failed_stage,
                                    .status = row->error.status,
                                    .message = row->error.text,
                                    .attempts = row->attempts};
    fm_text_clear(&row->line);
    row->good = false;
    /* Without memory for even this the line stays empty, and the writer takes that as the job's
     * failure. */
    if (fm_row_format_letter(&letter, &row->line) != 0) {
        fm_text_clear(&row->line);
    }
}

static void row_format(struct row *row)
{
    struct run *run = row->run;
    uint64_t stage_ns[FM_PIPELINE_STAGES_MAX];
    int status = row->request.error.status;
    if (status != 0) {
        int stage = row->request.failed_stage;
        row->error = row->request.error;
        row->failed_stage = stage >= 0 ? run->stage_names[stage] : "pipeline";
    } else {
        for (uint32_t i = 0; i < run->pipeline->stage_count; i++) {
            stage_ns[i] = row->timings[i].run_ns;
        }
        status =
            fm_row_format_result(&run->format, row->id, row->outputs, stage_ns,
                                 row->request.done_ns - row->start_ns, &row->line, &row->error);
        row->failed_stage = "write";
        row->good = true;
    }
    for (uint32_t i = 0; i < run->pipeline->output_count; i++) {
        fm_value_unref(&row->outputs[i]);
    }
    if (status != 0) {
        letter_write(row);
    }
}

/* The next row to read, when bytes_in_flight has room for it (one row always may). The lock is
 * held. */
static struct row *take_to_read(struct run *run)
{
    struct row *row = run->to_read.first;
    if (row == NULL) {
        return NULL;
    }
    uint64_t limit = run->options->job->file_bytes_max;
    uint64_t charge = row->size_hint < limit                      ? row->size_hint
                      : row->size_hint == FM_LISTING_SIZE_UNKNOWN ? 0
                                                                  : limit;
    if (run->bytes_in_flight > 0 &&
        run->bytes_in_flight + charge > run->options->job->bytes_in_flight) {
        return NULL;
    }
    row->charged = charge;
    run->bytes_in_flight += charge;
    return queue_pop(&run->to_read);
}

static void reader_thread(void *argument)
{
    struct run *run = argument;
    fm_mutex_lock(&run->mutex);
    for (;;) {
        struct row *row = queue_pop(&run->to_format);
        bool formatting = row != NULL;
        if (row == NULL) {
            row = take_to_read(run);
        }
        if (row == NULL) {
            if (run->ending) {
                break;
            }
            fm_condition_wait(&run->work, &run->mutex);
            continue;
        }
        fm_mutex_unlock(&run->mutex);
        bool finished = formatting;
        if (formatting) {
            row_format(row);
        } else if (row_start(row) != 0) {
            letter_write(row);
            finished = true;
        }
        fm_mutex_lock(&run->mutex);
        if (finished) {
            deliver(run, row);
        }
    }
    fm_mutex_unlock(&run->mutex);
}

/* --- Writing and committing: the writer thread --- */

static struct row *next_line(const struct run *run, const struct shard_run *shard)
{
    if (shard->written == shard->admitted) {
        return NULL;
    }
    struct row *row = shard->slots[shard->written % run->options->rows_in_flight];
    return row->finished ? row : NULL;
}

/* Nothing will come any more. */
static bool shard_is_over(const struct run *run, const struct shard_run *shard)
{
    return shard->written == shard->admitted &&
           (shard->admitted == shard->shard.row_count || run->stopping);
}

static void shard_remove(struct run *run, struct shard_run *shard)
{
    struct shard_run **link = &run->shards;
    while (*link != shard) {
        link = &(*link)->next;
    }
    *link = shard->next;
    run->shard_count--;
    fm_free(shard->slots);
    fm_free(shard);
    fm_condition_signal(&run->turn);
}

/* Appends the lines that are ready, in order. Called and returns with the lock; works without. */
static void write_lines(struct run *run, struct shard_run *shard)
{
    struct row *rows[WRITE_ROWS_MAX];
    struct row *row = NULL;
    size_t count = 0;
    struct fm_error error = {0};
    int status = 0;
    while (count < WRITE_ROWS_MAX && (row = next_line(run, shard)) != NULL) {
        rows[count++] = row;
        shard->written++;
    }
    bool keep = !run->abandoning;
    fm_mutex_unlock(&run->mutex);
    for (size_t i = 0; i < count && keep && status == 0; i++) {
        if (rows[i]->line.length == 0) {
            status = fm_error_set(&error, FM_ENOMEM, "out of memory for the line of row %" PRIu64,
                                  rows[i]->number);
            break;
        }
        status = fm_attempt_append(&shard->files, rows[i]->good, rows[i]->line.data,
                                   rows[i]->line.length, &error);
        status =
            status != 0 ? status : fm_fault_hit(run->options->fault, FM_FAULT_ROW_WRITTEN, &error);
    }
    fm_mutex_lock(&run->mutex);
    for (size_t i = 0; i < count; i++) {
        row_free(run, rows[i]);
    }
    if (status != 0) {
        fail(run, &error);
    }
}

/* Attempt file -> disk -> ledger -> name. Without the lock. */
static int shard_commit(struct run *run, struct shard_run *shard, bool *ret_asked,
                        struct fm_error *reterr)
{
    const struct fm_run_options *options = run->options;
    struct fm_shard_record records[2] = {
        {.shard = shard->shard, .files.attempt = shard->shard.epoch}};
    struct fm_shard *done = &records[0].shard;
    struct fm_shard *rest = &records[1].shard;
    int status = fm_fault_hit(options->fault, FM_FAULT_BEFORE_SYNC, reterr);
    status = status != 0 ? status : fm_attempt_sync(&shard->files, &records[0], reterr);
    status = status != 0 ? status : fm_fault_hit(options->fault, FM_FAULT_BEFORE_COMMIT, reterr);
    if (status != 0) {
        return status;
    }
    fm_mutex_lock(&run->mutex);
    status = fm_ledger_commit(options->ledger, done->number, done->owner, done->epoch,
                              done->rows_out, done->dead_letters, rest);
    fm_mutex_unlock(&run->mutex);
    if (status != 0) {
        return fm_error_set(reterr, status, "the ledger refuses shard %" PRIu64 ": %s",
                            done->number, fm_status_text(status));
    }
    done->state = FM_SHARD_DONE;
    /* When this fails nobody knows whether it is committed; the run ends, and the next start reads
     * what the store really holds. */
    *ret_asked = true;
    status = options->store->functions->put(options->store, records, rest->row_count > 0 ? 2 : 1,
                                            reterr);
    if (status != 0) {
        return status;
    }
    fm_mutex_lock(&run->mutex);
    run->progress.rows_committed += done->row_count;
    fm_mutex_unlock(&run->mutex);
    status = fm_fault_hit(options->fault, FM_FAULT_AFTER_COMMIT, reterr);
    return status != 0 ? status : fm_attempt_publish(&shard->files, options->fault, reterr);
}

static void shard_give_back(struct run *run, struct shard_run *shard)
{
    const struct fm_run_options *options = run->options;
    struct fm_error error = {0};
    fm_attempt_abandon(&shard->files);
    fm_mutex_lock(&run->mutex);
    int status = fm_ledger_release(options->ledger, shard->shard.number, shard->shard.owner,
                                   shard->shard.epoch);
    fm_mutex_unlock(&run->mutex);
    struct fm_shard_record record = {.shard = shard->shard};
    record.shard.state = FM_SHARD_READY;
    /* A lease that stays in the store, because the disk is full, is taken back by the next start.
     */
    if (status == 0 && options->store->functions->put(options->store, &record, 1, &error) != 0 &&
        error.status != FM_ENOSPC && error.status != FM_EIO) {
        fm_mutex_lock(&run->mutex);
        fail(run, &error);
        fm_mutex_unlock(&run->mutex);
    }
}

/* Called and returns with the lock. */
static void shard_end(struct run *run, struct shard_run *shard)
{
    struct fm_error error = {0};
    bool keep = !run->abandoning && shard->written > 0;
    bool asked = false;
    int status = 0;
    fm_mutex_unlock(&run->mutex);
    if (keep) {
        status = shard_commit(run, shard, &asked, &error);
        /* Once the store was asked, the files stay: whether they count is for it to say, at the
         * next start. */
        if (status != 0 && !asked) {
            fm_attempt_abandon(&shard->files);
        }
    } else {
        shard_give_back(run, shard);
    }
    fm_mutex_lock(&run->mutex);
    if (status != 0) {
        fail(run, &error);
    }
    shard_remove(run, shard);
}

static void writer_thread(void *argument)
{
    struct run *run = argument;
    fm_mutex_lock(&run->mutex);
    for (;;) {
        struct shard_run *shard = run->shards;
        while (shard != NULL && next_line(run, shard) == NULL && !shard_is_over(run, shard)) {
            shard = shard->next;
        }
        if (shard == NULL) {
            if (run->ending) {
                break;
            }
            fm_condition_wait(&run->ready, &run->mutex);
        } else if (next_line(run, shard) != NULL) {
            write_lines(run, shard);
        } else {
            shard_end(run, shard);
        }
    }
    fm_mutex_unlock(&run->mutex);
}

/* --- Claiming and admitting: the calling thread --- */

static int shard_open(struct run *run, const struct fm_shard *claimed, struct shard_run **ret_shard,
                      struct fm_error *reterr)
{
    const struct fm_run_options *options = run->options;
    struct shard_run *shard = fm_alloc_zero(1, sizeof(*shard));
    struct row **slots = fm_alloc_zero(options->rows_in_flight, sizeof(*slots));
    int status = shard == NULL || slots == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory for a shard")
                     : 0;
    if (status == 0) {
        shard->shard = *claimed;
        shard->slots = slots;
        const struct fm_shard_record record = {.shard = *claimed};
        status = options->store->functions->put(options->store, &record, 1, reterr);
    }
    status = status != 0 ? status : fm_fault_hit(options->fault, FM_FAULT_CLAIMED, reterr);
    status = status != 0 ? status
                         : fm_attempt_open(&shard->files, options->job->output, claimed->number,
                                           claimed->epoch, reterr);
    if (status != 0) {
        fm_free(slots);
        fm_free(shard);
        return status;
    }
    *ret_shard = shard;
    return 0;
}

/* Called and returns with the lock. True: *ret_shard is set. False: nothing to claim now;
 * *ret_finished says whether for good. */
static bool shard_claim(struct run *run, struct shard_run **ret_shard, bool *ret_finished)
{
    struct fm_error error = {0};
    struct fm_shard claimed;
    enum fm_ledger_answer answer = FM_LEDGER_WAIT;
    const struct fm_ledger_claim claim = {
        .owner = run->options->owner, .rows_max = run->options->shard_rows, .suspects = true};
    int status = fm_ledger_claim(run->options->ledger, fm_os_now_ns(), &claim, &answer, &claimed);
    if (status != 0) {
        (void)fm_error_set(&error, status, "cannot claim a shard: %s", fm_status_text(status));
        fail(run, &error);
        return false;
    }
    *ret_finished = answer == FM_LEDGER_FINISHED;
    if (answer != FM_LEDGER_GRANTED) {
        return false;
    }
    struct shard_run *shard = NULL;
    fm_mutex_unlock(&run->mutex);
    status = shard_open(run, &claimed, &shard, &error);
    fm_mutex_lock(&run->mutex);
    if (status != 0) {
        fail(run, &error);
        return false;
    }
    /* At the end of the list: older shards are written first. */
    struct shard_run **link = &run->shards;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = shard;
    run->shard_count++;
    if (run->stopping) {
        fm_condition_signal(
            &run->ready); /* it was stopped meanwhile: the writer gives the shard back */
    }
    *ret_shard = shard;
    return true;
}

/* Admits the next row of the shard. Called and returns with the lock. */
static void row_admit(struct run *run, struct shard_run *shard)
{
    struct fm_error error = {0};
    const char *id = NULL;
    uint64_t size = 0;
    uint64_t number = shard->shard.first_row + shard->admitted;
    fm_mutex_unlock(&run->mutex);
    int status = fm_row_source_get(run->options->source, number, &id, &size, &error);
    fm_mutex_lock(&run->mutex);
    if (status != 0) {
        fail(run, &error);
        return;
    }
    if (run->stopping) {
        return;
    }
    struct row *row = run->free_rows;
    run->free_rows = row->next;
    run->in_flight++;
    row->shard = shard;
    row->index = shard->admitted;
    row->number = number;
    row->size_hint = size;
    row->good = false;
    (void)snprintf(row->id, sizeof(row->id), "%s", id);
    shard->slots[shard->admitted % run->options->rows_in_flight] = row;
    shard->admitted++;
    queue_push(&run->to_read, row);
    fm_condition_signal(&run->work);
}

/* The stage that used most of the computing time since the last look. */
static void slowest_update(struct run *run, uint64_t now_ns)
{
    uint64_t total = 0;
    uint64_t most = 0;
    uint32_t slowest = 0;
    if (now_ns - run->busy_at_ns < 2000 * NS_PER_MS) {
        return;
    }
    for (uint32_t i = 0; i < run->pipeline->stage_count; i++) {
        struct fm_executor_stage_stats stats;
        fm_executor_stats(run->executor, i, &stats);
        uint64_t busy = stats.busy_ns - run->busy_before[i];
        run->busy_before[i] = stats.busy_ns;
        total += busy;
        if (busy > most) {
            most = busy;
            slowest = i;
        }
    }
    run->busy_at_ns = now_ns;
    if (total > 0) {
        run->progress.slowest_stage = run->stage_names[slowest];
        run->progress.slowest_share = (double)most / (double)total;
    }
}

static void tick(struct run *run)
{
    const struct fm_run_hooks *hooks = &run->options->hooks;
    slowest_update(run, fm_os_now_ns());
    fm_mutex_lock(&run->mutex);
    struct fm_run_progress progress = run->progress;
    progress.rows_in_flight = run->in_flight;
    fm_mutex_unlock(&run->mutex);
    if (hooks->progress != NULL) {
        hooks->progress(hooks->context, &progress);
    }
}

static void work(struct run *run)
{
    const struct fm_run_hooks *hooks = &run->options->hooks;
    struct shard_run *current = NULL;
    bool finished = false;
    uint64_t next_tick_ns = fm_os_now_ns();
    fm_mutex_lock(&run->mutex);
    for (;;) {
        if (!run->stopping && hooks->stop != NULL && hooks->stop(hooks->context)) {
            stop(run, FM_RUN_STOPPED, false);
        }
        while (!run->stopping && !finished && run->free_rows != NULL &&
               fm_os_now_ns() < next_tick_ns) {
            if (current == NULL && !shard_claim(run, &current, &finished)) {
                break;
            }
            row_admit(run, current);
            /* Under the lock, before the writer can end the shard. */
            current =
                run->stopping || current->admitted == current->shard.row_count ? NULL : current;
        }
        current = run->stopping ? NULL : current;
        if ((run->stopping || finished) && run->shard_count == 0) {
            break;
        }
        if (fm_os_now_ns() >= next_tick_ns) {
            fm_mutex_unlock(&run->mutex);
            tick(run);
            fm_mutex_lock(&run->mutex);
            next_tick_ns = fm_os_now_ns() + TICK_MS * NS_PER_MS;
            continue;
        }
        (void)fm_condition_wait_until(&run->turn, &run->mutex, next_tick_ns);
    }
    fm_mutex_unlock(&run->mutex);
    tick(run);
}

/* --- Life --- */

static int rows_create(struct run *run, struct fm_error *reterr)
{
    uint32_t input_count = 0;
    uint32_t count = run->options->rows_in_flight;
    (void)fm_servable_inputs(run->options->servable, &input_count);
    run->rows = fm_alloc_zero(count, sizeof(*run->rows));
    for (uint32_t i = 0; run->rows != NULL && i < count; i++) {
        struct row *row = &run->rows[i];
        row->run = run;
        row->inputs = fm_alloc_zero(input_count, sizeof(*row->inputs));
        row->outputs = fm_alloc_zero(run->pipeline->output_count, sizeof(*row->outputs));
        row->timings = fm_alloc_zero(run->pipeline->stage_count, sizeof(*row->timings));
        if (row->inputs == NULL || row->outputs == NULL || row->timings == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for %u rows in flight", count);
        }
        row->next = run->free_rows;
        run->free_rows = row;
    }
    return run->rows != NULL
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "out of memory for %u rows in flight", count);
}

static int names_create(struct run *run, struct fm_error *reterr)
{
    uint32_t count = run->pipeline->stage_count;
    run->stage_names = fm_alloc_zero(count, sizeof(*run->stage_names));
    run->busy_before = fm_alloc_zero(count, sizeof(*run->busy_before));
    if (run->stage_names == NULL || run->busy_before == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_stage_spec *spec = run->pipeline->stages[i].spec;
        run->stage_names[i] = spec->items_have_rows ? spec->target : spec->name;
    }
    run->format.outputs = fm_servable_outputs(run->options->servable, &run->format.output_count);
    run->format.strip_rows = run->pipeline->stages[0].spec->items_have_rows &&
                             run->pipeline->stages[0].ports.batch_max > 0;
    run->format.bytes = run->options->job->bytes;
    run->format.timings = run->options->job->timings;
    run->format.stage_names = run->stage_names;
    run->format.stage_count = count;
    return 0;
}

static int threads_start(struct run *run, struct fm_error *reterr)
{
    uint32_t readers = run->options->job->read_threads;
    run->threads = fm_alloc_zero(readers + 1, sizeof(*run->threads));
    if (run->threads == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for threads");
    }
    for (uint32_t i = 0; i <= readers; i++) {
        int status = fm_thread_start(&run->threads[i], i < readers ? "fm-read" : "fm-write",
                                     i < readers ? reader_thread : writer_thread, run);
        if (status != 0) {
            return fm_error_set(reterr, status, "cannot start thread %u of %u", i + 1, readers + 1);
        }
        run->thread_count++;
    }
    return 0;
}

static void run_deinit(struct run *run)
{
    fm_mutex_lock(&run->mutex);
    run->ending = true;
    fm_condition_broadcast(&run->work);
    fm_condition_broadcast(&run->ready);
    fm_mutex_unlock(&run->mutex);
    for (uint32_t i = 0; i < run->thread_count; i++) {
        fm_thread_join(&run->threads[i]);
    }
    for (uint32_t i = 0; run->rows != NULL && i < run->options->rows_in_flight; i++) {
        fm_text_deinit(&run->rows[i].line);
        fm_free(run->rows[i].inputs);
        fm_free(run->rows[i].outputs);
        fm_free(run->rows[i].timings);
    }
    fm_free(run->rows);
    fm_free(run->threads);
    fm_free(run->stage_names);
    fm_free(run->busy_before);
    fm_condition_deinit(&run->turn);
    fm_condition_deinit(&run->ready);
    fm_condition_deinit(&run->work);
    fm_mutex_deinit(&run->mutex);
}

int fm_run(const struct fm_run_options *options, enum fm_run_end *ret_end,
           struct fm_run_progress *ret_progress, struct fm_error *reterr)
{
    struct fm_ledger_proof proof;
    struct run run = {.options = options,
                      .executor = fm_servable_executor(options->servable),
                      .pipeline = fm_servable_pipeline(options->servable)};
    fm_mutex_init(&run.mutex);
    fm_condition_init(&run.work);
    fm_condition_init(&run.ready);
    fm_condition_init(&run.turn);
    fm_ledger_prove(options->ledger, &proof);
    run.progress.rows_total = proof.rows_in;
    run.progress.rows_done = proof.rows_out + proof.dead_letters;
    run.progress.rows_committed = run.progress.rows_done;
    run.progress.dead_letters = proof.dead_letters;
    run.busy_at_ns = fm_os_now_ns();
    int status = names_create(&run, reterr);
    status = status != 0 ? status : fm_row_format_check(&run.format, reterr);
    status = status != 0 ? status : rows_create(&run, reterr);
    status = status != 0 ? status : threads_start(&run, reterr);
    if (status == 0) {
        work(&run);
        *ret_end = run.end;
        if (run.end == FM_RUN_FAILED || run.end == FM_RUN_THRESHOLD) {
            (void)fm_error_set(reterr, run.failure.status, "%s", run.failure.text);
            status = run.end == FM_RUN_FAILED ? run.failure.status : 0;
        }
        run.progress.slowest_stage = NULL;
        *ret_progress = run.progress;
    }
    run_deinit(&run);
    return status;
}
