/*
 * A worker of a batch job. See worker.h.
 */
#include "engines/batch/worker.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/ledger/blame.h"
#include "core/ledger/holder.h"
#include "core/proto/batch_messages.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/batch/data_path.h"
#include "engines/batch/job_setup.h"
#include "engines/batch/listing.h"
#include "engines/batch/output.h"
#include "engines/batch/path_memory.h"
#include "host/net/grpc_client.h"
#include "host/os/memory_facts.h"
#include "host/os/memory_limit.h"
#include "host/os/os.h"
#include "host/os/process.h"
#include "host/os/process_facts.h"

#define NS_PER_MS UINT64_C(1000000)
/* Between two looks at progress, stop and time. */
#define TICK_NS (50 * NS_PER_MS)
/* Between two tries to reach the master. */
#define RETRY_NS (200 * NS_PER_MS)
/* How long it waits for the answer to its leave. */
#define LEAVE_NS (1000 * NS_PER_MS)
/* Looks that are so far apart: this process stood still, and so did its stages. */
#define PAUSE_NS (1000 * NS_PER_MS)
/* A stage that runs for so long is told to the master, where there is no limit. */
#define LONG_NS (60000 * NS_PER_MS)
/* Between two looks at the memory. */
#define MEMORY_NS (200 * NS_PER_MS)
/* What is in work when it goes has so long to come to its end. */
#define DRAIN_NS (2000 * NS_PER_MS)
/* Rows per minute are those of so long. */
#define RATE_NS (2000 * NS_PER_MS)
/* Of the memory that it may have, in percent: with more it makes way for a fresh process. */
#define MEMORY_SOFT 90u

enum { PREFIX_BYTES = 5, SPARE_SHARDS = 2, OVERDUE_MAX = FM_MASTER_SHARDS_OF_ONE_MAX };

struct worker {
    const struct fm_worker_options *options;
    struct fm_loop *loop;
    struct fm_endpoint endpoint;
    struct fm_grpc_client *client;
    struct fm_grpc_client_field token_field;
    struct fm_grpc_client_call call;
    bool call_open;
    uint64_t retry_ns; /* when there is no call */
    uint64_t begun_ns;
    uint64_t number;
    uint32_t shards_max;
    char host[256];
    char name[256];

    struct fm_job job;
    bool has_job;
    struct fm_job_setup setup;
    struct fm_job_facts facts;
    char base[4096];
    struct fm_holder *holder; /* NULL: no welcome yet */
    struct fm_data_path *path;
    const struct fm_batch_grant *grant; /* while it is being taken */

    struct fm_loop_task wake_task;
    atomic_bool wake_posted;
    bool stopping; /* it is to go */
    bool leaving;  /* it has said so */
    uint64_t leave_ns;
    bool closing;
    struct fm_error failure; /* why it goes; 0: the job is over, or it was stopped */
    enum fm_crew_cause cause;

    uint64_t rate_ns; /* of the look at the rows that are through ... */
    uint64_t rate_rows;
    uint64_t rows_per_minute; /* ... between it and the one before */
    uint64_t ticked_ns;
    uint64_t awake_ns; /* since when this process has not stood still */
    uint64_t memory_bytes;
    uint64_t memory_next_ns;
    uint64_t memory_first; /* with everything loaded, before the first row */
};

static void hand_on(struct worker *worker);

/* --- Going --- */

static void closed(void *context)
{
    struct worker *worker = context;
    worker->client = NULL;
    fm_loop_stop(worker->loop);
}

static void end(struct worker *worker)
{
    if (!worker->closing) {
        worker->closing = true;
        fm_grpc_client_close(worker->client, closed, worker);
    }
}

/* --- Messages to the master --- */

/* Lost when there is no call: after the next connection the master is told again what matters. */
static void say(struct worker *worker, const struct fm_batch_worker_message *message)
{
    static const char prefix[PREFIX_BYTES] = {0};
    if (!worker->call_open) {
        return;
    }
    struct fm_grpc_client_message *bytes = fm_alloc_zero(1, sizeof(*bytes));
    int status = bytes != NULL ? 0 : FM_ENOMEM;
    if (status == 0) {
        fm_text_append(&bytes->bytes, prefix, sizeof(prefix));
        status = fm_batch_worker_message_write(&bytes->bytes, message);
    }
    if (status != 0 || bytes->bytes.failed) {
        FM_ASSERT(status == 0 || status == FM_ENOMEM);
        fm_grpc_client_message_free(bytes);
        fm_grpc_client_cancel(&worker->call, FM_ENOMEM, "out of memory for a message");
        return;
    }
    size_t size = bytes->bytes.length - PREFIX_BYTES;
    for (unsigned i = 0; i < 4; i++) {
        bytes->bytes.data[1 + i] = (char)(size >> (24 - 8 * i));
    }
    fm_grpc_client_call_send(&worker->call, bytes);
}

static void leave(struct worker *worker)
{
    struct fm_batch_worker_message message = {.kind = FM_BATCH_WORKER_LEAVE};
    if (worker->leaving) {
        return;
    }
    worker->leaving = true;
    worker->leave_ns = fm_os_now_ns() + LEAVE_NS;
    message.leave.status = worker->failure.status;
    message.leave.reason = fm_batch_view_of(worker->failure.text);
    message.leave.cause = worker->cause;
    say(worker, &message);
    if (worker->call_open) {
        fm_grpc_client_call_send(&worker->call, NULL);
    } else {
        end(worker);
    }
}

static void note(const struct worker *worker, const char *text)
{
    if (worker->options->note != NULL) {
        worker->options->note(worker->options->context, text);
    }
}

/* It cannot work (any more): the master is told why, and it goes. */
static void fail(struct worker *worker, const struct fm_error *error)
{
    if (worker->failure.status == 0 && error->status == FM_ENOMEM) {
        worker->cause = FM_CREW_STARVED;
        note(worker, error->text);
    }
    fm_error_keep(&worker->failure, error);
    leave(worker);
}

static void check(struct worker *worker, int status, const char *what)
{
    struct fm_error error = {0};
    if (status != 0) {
        (void)fm_error_cannot(&error, status, what);
        fail(worker, &error);
    }
}

/* It makes way: `status` and words are why. It goes when it holds nothing any more. */
static void make_way(struct worker *worker, enum fm_crew_cause cause, const struct fm_error *error)
{
    worker->cause = cause;
    worker->failure = *error;
    worker->stopping = true;
    note(worker, error->text);
}

static void join(struct worker *worker)
{
    struct fm_batch_worker_message message = {.kind = FM_BATCH_WORKER_JOIN};
    message.join.protocol_version = FM_BATCH_PROTOCOL_VERSION;
    message.join.fermata_version = fm_batch_view_of(worker->options->version);
    message.join.host = fm_batch_view_of(worker->host);
    message.join.process = (uint32_t)fm_process_id();
    message.join.name = fm_batch_view_of(worker->name);
    say(worker, &message);
}

static void holdings_write(const struct worker *worker, struct fm_batch_holdings *ret_holdings)
{
    ret_holdings->count = (uint32_t)fm_holder_holdings(worker->holder, ret_holdings->items);
}

/* --- The holder --- */

static int row_get(void *context, struct fm_data_path_row *ret_row)
{
    struct fm_batch_rows *rows = context;
    static _Thread_local char id[FM_BATCH_ID_BYTES_MAX + 1];
    struct fm_batch_row row;
    bool more = fm_batch_rows_next(rows, &row);
    FM_ASSERT(more);
    (void)snprintf(id, sizeof(id), "%.*s", (int)row.id.size, row.id.data);
    *ret_row = (struct fm_data_path_row){
        .id = id,
        .size = row.size,
        .row_count = row.row_count,
        .first_row = row.first_row,
        .point = {.row = row.point_row, .offset = row.point_offset, .line = row.point_line}};
    return 0;
}

/* Where there is no limit, a person may want to know what takes so long. */
static void long_stage_write(const struct worker *worker, struct fm_batch_beat *beat)
{
    struct fm_data_path_overdue overdue;
    uint64_t now_ns = fm_os_now_ns();
    if (worker->job.stage_time_ns == 0 && now_ns - worker->awake_ns >= LONG_NS &&
        fm_data_path_overdue(worker->path, now_ns - LONG_NS, &overdue, 1) > 0 &&
        strlen(overdue.stage) <= FM_BATCH_NAME_BYTES_MAX) {
        beat->long_stage = fm_batch_view_of(overdue.stage);
        beat->long_ns = now_ns - overdue.start_ns;
    }
}

static uint64_t rate_look(struct worker *worker, uint64_t rows)
{
    uint64_t now_ns = fm_os_now_ns();
    uint64_t past_ns = now_ns - worker->rate_ns;
    if (worker->rate_ns == 0 || past_ns >= RATE_NS) {
        worker->rows_per_minute =
            worker->rate_ns == 0
                ? 0
                : (uint64_t)((double)(rows - worker->rate_rows) * 60e9 / (double)past_ns + 0.5);
        worker->rate_ns = now_ns;
        worker->rate_rows = rows;
    }
    return worker->rows_per_minute;
}

static void beat(struct worker *worker)
{
    struct fm_batch_worker_message message = {.kind = FM_BATCH_WORKER_BEAT};
    struct fm_data_path_stats stats;
    uint64_t used = fm_memory_limit_used();
    fm_data_path_stats(worker->path, &stats);
    holdings_write(worker, &message.beat.holdings);
    message.beat.memory_bytes = fm_memory_peak();
    message.beat.memory_bytes = message.beat.memory_bytes > used ? message.beat.memory_bytes : used;
    message.beat.rows_per_minute = rate_look(worker, stats.rows_finished);
    message.beat.slowest_stage =
        fm_batch_view_of(stats.slowest_stage != NULL ? stats.slowest_stage : "");
    if (message.beat.slowest_stage.size > FM_BATCH_NAME_BYTES_MAX) {
        message.beat.slowest_stage.size = FM_BATCH_NAME_BYTES_MAX;
    }
    message.beat.slowest_share = stats.slowest_share;
    message.beat.last_error = fm_batch_view_of(stats.last_error.text);
    message.beat.tuned = stats.tuned;
    message.beat.memory = stats.memory;
    message.beat.stages = stats.stages;
    long_stage_write(worker, &message.beat);
    say(worker, &message);
}

static void holder_speaks(struct worker *worker, const struct fm_holder_action *action)
{
    struct fm_batch_worker_message message = {0};
    switch (action->kind) {
    case FM_HOLDER_HELLO:
        message.kind = FM_BATCH_WORKER_HELLO;
        message.hello.worker = worker->number;
        message.hello.shards_max = worker->shards_max;
        message.hello.single = fm_job_setup_is_single(&worker->setup);
        holdings_write(worker, &message.hello.holdings);
        break;
    case FM_HOLDER_BEAT:
        beat(worker);
        return;
    case FM_HOLDER_DONE:
        /* Should it be one failed row too many, the master says which. */
        if (action->done.dead_letters > 0) {
            beat(worker);
        }
        message.kind = FM_BATCH_WORKER_DONE;
        message.done = action->done;
        break;
    case FM_HOLDER_FAILED:
        message.kind = FM_BATCH_WORKER_FAILED;
        message.failed = (struct fm_batch_failed){.number = action->shard.number,
                                                  .epoch = action->shard.epoch,
                                                  .failure = action->failure,
                                                  .reason = fm_batch_view_of(action->reason)};
        break;
    case FM_HOLDER_RELEASED:
        message.kind = FM_BATCH_WORKER_RELEASED;
        message.released =
            (struct fm_batch_lease){.number = action->shard.number, .epoch = action->shard.epoch};
        break;
    case FM_HOLDER_TRIMMED:
        message.kind = FM_BATCH_WORKER_TRIMMED;
        message.trimmed = (struct fm_batch_trim){.number = action->shard.number,
                                                 .epoch = action->shard.epoch,
                                                 .keep_rows = action->keep_rows};
        break;
    case FM_HOLDER_RUN:
    case FM_HOLDER_SHORTEN:
    case FM_HOLDER_CURTAIL:
    case FM_HOLDER_ABANDON:
    case FM_HOLDER_EXIT:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        FM_ASSERT(false);
    }
    say(worker, &message);
}

static void holder_does(struct worker *worker, const struct fm_holder_action *action)
{
    uint64_t number = action->shard.number;
    struct fm_batch_rows rows = {0};
    switch (action->kind) {
    case FM_HOLDER_RUN:
        FM_ASSERT(worker->grant != NULL && worker->grant->shard.number == number);
        rows = worker->grant->rows;
        check(worker,
              fm_data_path_run(worker->path, &action->shard, action->reason, row_get, &rows),
              "begin a shard");
        break;
    case FM_HOLDER_SHORTEN:
        fm_holder_shortened(worker->holder, number,
                            fm_data_path_shorten(worker->path, number, action->keep_rows));
        break;
    case FM_HOLDER_CURTAIL:
        fm_data_path_curtail(worker->path, number);
        break;
    case FM_HOLDER_ABANDON:
        fm_data_path_abandon(worker->path, number);
        break;
    case FM_HOLDER_EXIT:
        if (action->given_up) {
            (void)fm_error_set(&worker->failure, FM_EUNAVAILABLE,
                               "the master at %s was not there for too long; what was not "
                               "committed is given up",
                               worker->endpoint.url);
        }
        leave(worker);
        break;
    case FM_HOLDER_HELLO:
    case FM_HOLDER_BEAT:
    case FM_HOLDER_DONE:
    case FM_HOLDER_FAILED:
    case FM_HOLDER_RELEASED:
    case FM_HOLDER_TRIMMED:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        holder_speaks(worker, action);
        break;
    }
}

static void path_says(struct worker *worker, const struct fm_data_path_event *event)
{
    switch (event->kind) {
    case FM_DATA_PATH_DONE:
        fm_holder_done(worker->holder, &event->done);
        break;
    case FM_DATA_PATH_RELEASED:
        fm_holder_released(worker->holder, event->done.number);
        break;
    case FM_DATA_PATH_STARVED:
        if (!worker->stopping) {
            make_way(worker, FM_CREW_STARVED, &event->error);
        }
        fm_holder_stop(worker->holder, false);
        break;
    case FM_DATA_PATH_BROKEN:
    default:
        fail(worker, &event->error);
        break;
    }
}

/* Hands on what there is, until nothing follows from it any more. */
static void hand_on(struct worker *worker)
{
    bool busy = worker->holder != NULL;
    while (busy && !worker->leaving) {
        struct fm_holder_action action;
        struct fm_data_path_event event;
        busy = false;
        while (!worker->leaving && fm_holder_next_action(worker->holder, &action)) {
            holder_does(worker, &action);
            busy = true;
        }
        if (!worker->leaving && fm_data_path_poll(worker->path, &event)) {
            path_says(worker, &event);
            busy = true;
        }
    }
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    if (worker->stopping && worker->holder != NULL &&
        fm_holder_holdings(worker->holder, holdings) == 0) {
        leave(worker);
    }
}

/* --- Watching itself --- */

/* The shards of the stages that hang have failed, everything else is given back. */
static void hang_end(struct worker *worker, uint64_t now_ns,
                     const struct fm_data_path_overdue *overdue, size_t count)
{
    char words[FM_SHARD_REASON_SIZE];
    char reason[FM_SHARD_REASON_SIZE];
    struct fm_error error = {0};
    (void)snprintf(words, sizeof(words),
                   "the stage had been running for %.1f s and may take %.1f s (limits.stage_time)",
                   (double)(now_ns - overdue[0].start_ns) / 1e9,
                   (double)worker->job.stage_time_ns / 1e9);
    (void)fm_error_set(&error, FM_EDEADLINE, "stage '%s' hangs with row %" PRIu64 ": %s",
                       overdue[0].stage, overdue[0].row, words);
    make_way(worker, FM_CREW_HUNG, &error);
    for (size_t i = 0; i < count; i++) {
        if (overdue[i].held) {
            fm_blame_write(reason, sizeof(reason), FM_EDEADLINE, overdue[i].stage, words);
            fm_data_path_abandon(worker->path, overdue[i].number);
            fm_holder_failed(worker->holder, overdue[i].number, FM_SHARD_FAILURE_DATA, reason);
        }
    }
    fm_holder_stop(worker->holder, true);
}

static void stages_look(struct worker *worker, uint64_t now_ns)
{
    struct fm_data_path_overdue overdue[OVERDUE_MAX];
    uint64_t limit_ns = worker->job.stage_time_ns;
    if (limit_ns == 0 || worker->cause == FM_CREW_HUNG || now_ns - worker->awake_ns < limit_ns) {
        return;
    }
    size_t count = fm_data_path_overdue(worker->path, now_ns - limit_ns, overdue, OVERDUE_MAX);
    if (count > 0) {
        hang_end(worker, now_ns, overdue, count);
    }
}

/* A process that has grown near to its limit makes way in time: it commits what it has begun. Not
 * one that was there from the beginning, nor one that has done nothing: the next would be no
 * better. */
static void memory_look(struct worker *worker, uint64_t now_ns)
{
    uint64_t soft = worker->memory_bytes / 100 * MEMORY_SOFT;
    struct fm_data_path_stats stats;
    struct fm_error error = {0};
    if (worker->memory_bytes == 0 || worker->stopping || now_ns < worker->memory_next_ns) {
        return;
    }
    worker->memory_next_ns = now_ns + MEMORY_NS;
    if (fm_memory_limit_used() < soft) {
        return;
    }
    fm_data_path_stats(worker->path, &stats);
    if (worker->memory_first >= soft || stats.rows_finished == 0) {
        return;
    }
    fm_process_memory_release();
    uint64_t used = fm_memory_limit_used();
    if (used < soft) {
        worker->memory_next_ns = now_ns + 25 * MEMORY_NS; /* giving back costs time, too */
        return;
    }
    (void)fm_error_set(&error, FM_EAGAIN,
                       "its memory has grown to %" PRIu64 " of %" PRIu64
                       " MiB (workers.memory); it makes way for a fresh process",
                       used >> 20, worker->memory_bytes >> 20);
    make_way(worker, FM_CREW_RECYCLED, &error);
    fm_holder_stop(worker->holder, false);
}

/* --- Progress --- */

static void progress_hear(struct worker *worker)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t count = fm_holder_holdings(worker->holder, holdings);
    for (size_t i = 0; i < count; i++) {
        if (fm_data_path_progress(worker->path, holdings[i].number, &holdings[i])) {
            fm_holder_progress(worker->holder, &holdings[i]);
        }
    }
}

/* --- The job --- */

static void woken(struct fm_loop_task *task)
{
    struct worker *worker = FM_CONTAINER_OF(task, struct worker, wake_task);
    atomic_store(&worker->wake_posted, false);
    hand_on(worker);
}

/* From the data path's threads. */
static void on_wake(void *context)
{
    struct worker *worker = context;
    if (!atomic_exchange(&worker->wake_posted, true)) {
        fm_loop_post(worker->loop, &worker->wake_task);
    }
}

static int text_take(struct fm_batch_view view, char *ret_text, size_t size, const char *what,
                     struct fm_error *reterr)
{
    if (view.size >= size || memchr(view.data, '\0', view.size) != NULL) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the master's %s is no path for this system",
                            what);
    }
    memcpy(ret_text, view.data, view.size);
    ret_text[view.size] = '\0';
    return 0;
}

/* The facts as they are here must be the master's. */
static int facts_compare(const struct worker *worker, struct fm_batch_facts theirs,
                         struct fm_error *reterr)
{
    struct fm_batch_fact fact;
    uint32_t matched = 0;
    while (fm_batch_facts_next(&theirs, &fact)) {
        for (size_t i = 0; i < FM_JOB_FACTS; i++) {
            const struct fm_job_fact *ours = &worker->facts.items[i];
            if (strlen(ours->key) != fact.key.size ||
                memcmp(ours->key, fact.key.data, fact.key.size) != 0) {
                continue;
            }
            matched++;
            if (strlen(ours->value) != fact.value.size ||
                memcmp(ours->value, fact.value.data, fact.value.size) != 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "the job is another one here than at the master's: %s is "
                                    "'%s' here and '%.*s' there; bring '%s', its pipeline and "
                                    "models to the same state on both hosts",
                                    ours->key, ours->value, (int)fact.value.size, fact.value.data,
                                    worker->job.file);
            }
        }
    }
    return matched == FM_JOB_FACTS
               ? 0
               : fm_error_set(reterr, FM_EUNSUPPORTED,
                              "the master speaks of %u facts of the job that this program knows, "
                              "of %d: it is another version",
                              matched, FM_JOB_FACTS);
}

/* What the master has found out about the columns that are passed. */
static int types_take(struct worker *worker, struct fm_batch_facts theirs, struct fm_error *reterr)
{
    struct fm_batch_fact fact;
    while (fm_batch_facts_next(&theirs, &fact)) {
        if (fact.key.size == strlen(FM_JOB_FACT_TYPES) && fact.value.size > 0 &&
            memcmp(fact.key.data, FM_JOB_FACT_TYPES, fact.key.size) == 0) {
            return fm_job_setup_types_take(&worker->setup, fact.value.data, fact.value.size,
                                           reterr);
        }
    }
    return 0;
}

static int job_open(struct worker *worker, const struct fm_batch_welcome *welcome,
                    struct fm_error *reterr)
{
    char file[4096];
    char output[4096];
    int status = text_take(welcome->job_file, file, sizeof(file), "job file", reterr);
    status =
        status != 0 ? status : text_take(welcome->output, output, sizeof(output), "output", reterr);
    status = status != 0
                 ? status
                 : text_take(welcome->base, worker->base, sizeof(worker->base), "base", reterr);
    status = status != 0 ? status : fm_job_load(file, &worker->job, reterr);
    if (status != 0) {
        return status;
    }
    worker->has_job = true;
    worker->job.output = fm_arena_strdup(&worker->job.arena, output);
    if (worker->job.output == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    if (worker->options->accelerators != NULL) {
        status = fm_job_accelerators_set(&worker->job, worker->options->accelerators, reterr);
    }
    if (status != 0) {
        return fm_error_prefix(reterr, status, "--accelerators");
    }
    /* Before the models are loaded: they count. */
    worker->memory_bytes = welcome->memory_bytes;
    if (welcome->memory_bytes > 0) {
        status = fm_memory_limit_set(welcome->memory_bytes, reterr);
    }
    if (status != 0) {
        return status;
    }
    /* Likewise before there are threads that work: they take it over. */
    if (worker->job.worker_nice > 0 && !fm_process_give_way((int)worker->job.worker_nice)) {
        note(worker, "the system refuses to let this worker give way to others (workers.nice)");
    }
    if (fm_path_memory_is_strict(&worker->job)) {
        fm_process_memory_keep_little();
    }
    const struct fm_job_setup_options setup = {.halvings = welcome->halvings,
                                               .note = worker->options->note,
                                               .note_context = worker->options->context};
    status = fm_job_setup_open(&worker->setup, &worker->job, &setup, reterr);
    if ((status == FM_ENOMEM || status == FM_ELIMIT) && worker->memory_bytes > 0) {
        return fm_error_prefix(reterr, status,
                               "with the %" PRIu64 " MiB that a worker may have (workers.memory)",
                               worker->memory_bytes >> 20);
    }
    status = status != 0 ? status : types_take(worker, welcome->facts, reterr);
    if (status == 0) {
        fm_job_facts_make(&worker->setup, &worker->facts);
        status = facts_compare(worker, welcome->facts, reterr);
    }
    return status;
}

static int work_begin(struct worker *worker, const struct fm_batch_welcome *welcome,
                      struct fm_error *reterr)
{
    int status = job_open(worker, welcome, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_data_path_options path = {.setup = &worker->setup,
                                        .base = worker->base,
                                        .fault = worker->options->fault,
                                        .rows_fetched = fm_job_setup_rows_fetched(&worker->setup),
                                        .single = fm_job_setup_is_single(&worker->setup),
                                        .memory_bytes = worker->memory_bytes,
                                        .wake = on_wake,
                                        .context = worker};
    fm_job_setup_ranges(&worker->setup, &path.ranges);
    uint32_t told = worker->options->sharers;
    path.memory_budget = fm_path_memory_limit(&worker->job, worker->memory_bytes,
                                              told > welcome->sharers ? told : welcome->sharers);
    path.memory_budget_strict = fm_path_memory_is_strict(&worker->job);
    /* One in work and one behind it, and where the job wants small ones, enough that the rows in
     * flight are had. */
    uint64_t rows = worker->job.shard_rows;
    uint64_t wanted = 4 * (uint64_t)path.ranges.rows.first;
    wanted = wanted < path.ranges.rows.max ? wanted : path.ranges.rows.max;
    uint64_t shards = SPARE_SHARDS + (rows > 0 ? (wanted + path.rows_fetched) / rows : 0);
    worker->shards_max =
        shards < FM_MASTER_SHARDS_OF_ONE_MAX ? (uint32_t)shards : FM_MASTER_SHARDS_OF_ONE_MAX;
    const struct fm_holder_options holder = {.beat_ns = welcome->beat_ns,
                                             .give_up_ns = welcome->give_up_ns};
    status = fm_data_path_open(&path, &worker->path, reterr);
    if (status == 0 && fm_holder_create(&holder, fm_os_now_ns(), &worker->holder) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    worker->memory_first = fm_memory_limit_used();
    if (status == 0 && worker->memory_bytes > 0 &&
        worker->memory_first >= worker->memory_bytes / 100 * MEMORY_SOFT) {
        char text[FM_ERROR_TEXT_SIZE];
        (void)snprintf(text, sizeof(text),
                       "pipeline and models alone take %" PRIu64 " of %" PRIu64
                       " MiB (workers.memory): allow more, or rows will fail",
                       worker->memory_first >> 20, worker->memory_bytes >> 20);
        note(worker, text);
    }
    return status;
}

/* --- Messages from the master --- */

static void welcomed(struct worker *worker, const struct fm_batch_welcome *welcome)
{
    struct fm_error error = {0};
    int status = worker->holder == NULL ? work_begin(worker, welcome, &error)
                                        : facts_compare(worker, welcome->facts, &error);
    if (status != 0) {
        fail(worker, &error);
        return;
    }
    fm_holder_connected(worker->holder, fm_os_now_ns());
}

static void granted(struct worker *worker, const struct fm_batch_grant *grant)
{
    char reason[FM_SHARD_REASON_SIZE];
    fm_batch_view_copy(grant->reason, reason, sizeof(reason));
    worker->grant = grant;
    check(worker, fm_holder_granted(worker->holder, &grant->shard, reason), "take a shard");
    hand_on(worker);
    worker->grant = NULL;
}

static void asked_to_stop(struct worker *worker, const struct fm_batch_stop *stop)
{
    struct fm_error error = {0};
    if (stop->again && !worker->stopping) {
        (void)fm_error_set(&error, FM_EAGAIN,
                           "the master wants a fresh process in the place of this one");
        make_way(worker, FM_CREW_RECYCLED, &error);
    }
    fm_holder_stop(worker->holder, stop->drop);
}

static void ended(struct worker *worker, const struct fm_batch_end *end)
{
    char words[FM_ERROR_TEXT_SIZE];
    struct fm_error error = {0};
    if (end->status != 0) {
        fm_batch_view_copy(end->reason, words, sizeof(words));
        (void)fm_error_set(&error, end->status, "the job has failed at its master: %.400s", words);
        fm_error_keep(&worker->failure, &error);
    }
    fm_holder_ended(worker->holder);
}

static void obey(struct worker *worker, const struct fm_batch_master_message *message)
{
    switch (message->kind) {
    case FM_BATCH_MASTER_WELCOME:
        welcomed(worker, &message->welcome);
        break;
    case FM_BATCH_MASTER_GRANT:
        granted(worker, &message->grant);
        break;
    case FM_BATCH_MASTER_COMMITTED:
        fm_holder_committed(worker->holder, message->committed.number, message->committed.epoch);
        break;
    case FM_BATCH_MASTER_REFUSED:
        fm_holder_refused(worker->holder, message->refused.number, message->refused.epoch);
        break;
    case FM_BATCH_MASTER_TRIM:
        fm_holder_asked(worker->holder, message->trim.number, message->trim.epoch,
                        message->trim.keep_rows);
        break;
    case FM_BATCH_MASTER_STOP:
        asked_to_stop(worker, &message->stop);
        break;
    case FM_BATCH_MASTER_END:
        ended(worker, &message->end);
        break;
    case FM_BATCH_MASTER_COUNT_:
    default:
        break;
    }
}

static void on_message(struct fm_grpc_client_call *call, struct fm_buffer *buffer, const char *data,
                       size_t size)
{
    struct worker *worker = FM_CONTAINER_OF(call, struct worker, call);
    struct fm_batch_master_message message;
    struct fm_error error = {0};
    if (!worker->leaving) {
        int status = fm_batch_master_message_read(data, size, &message, &error);
        if (status == 0 && worker->holder == NULL && message.kind != FM_BATCH_MASTER_WELCOME) {
            status = fm_error_set(&error, FM_EINVAL, "the master did not begin with a welcome");
        }
        if (status == 0) {
            obey(worker, &message);
            hand_on(worker);
        } else {
            fail(worker, &error);
        }
    }
    fm_buffer_unref(buffer);
}

/* --- The connection --- */

static void on_done(struct fm_grpc_client_call *call)
{
    struct worker *worker = FM_CONTAINER_OF(call, struct worker, call);
    uint64_t now_ns = fm_os_now_ns();
    worker->call_open = false;
    if (worker->closing || worker->leaving) {
        end(worker);
        return;
    }
    int status = call->status;
    bool final = status == FM_EPERM || status == FM_EINVAL || status == FM_EUNSUPPORTED ||
                 status == FM_ETOOLARGE;
    bool early =
        worker->holder == NULL && now_ns - worker->begun_ns >= worker->options->patience_ns;
    if (final || early) {
        worker->failure = call->error;
        worker->leaving = true;
        end(worker);
        return;
    }
    worker->retry_ns = now_ns + RETRY_NS;
    if (worker->holder != NULL) {
        fm_holder_disconnected(worker->holder, now_ns);
        hand_on(worker);
    }
}

static void call_begin(struct worker *worker)
{
    worker->call = (struct fm_grpc_client_call){.path = "/fermata.batch.v1.Ledger/Work",
                                                .stream = true,
                                                .message = on_message,
                                                .done = on_done};
    worker->call_open = true;
    fm_grpc_client_send(worker->client, &worker->call);
    if (worker->call_open) {
        join(worker);
    }
}

/* Tries to reach the master again, unless the job came to its end without this worker. */
static void reach(struct worker *worker)
{
    if (worker->holder != NULL && fm_output_is_complete(worker->job.output)) {
        note(worker, "the job is complete, and its master gone");
        fm_holder_ended(worker->holder);
        hand_on(worker);
    } else {
        call_begin(worker);
    }
}

/* --- Time --- */

static void tick(void *context)
{
    struct worker *worker = context;
    const struct fm_worker_options *options = worker->options;
    uint64_t now_ns = fm_os_now_ns();
    if (worker->closing) {
        return;
    }
    fm_loop_alarm(worker->loop, TICK_NS, tick, worker);
    worker->awake_ns = now_ns - worker->ticked_ns >= PAUSE_NS ? now_ns : worker->awake_ns;
    worker->ticked_ns = now_ns;
    if (worker->leaving) {
        if (now_ns >= worker->leave_ns) {
            end(worker);
        }
        return;
    }
    if (!worker->stopping && options->stop != NULL && options->stop(options->context)) {
        worker->stopping = true;
        if (worker->holder != NULL) {
            fm_holder_stop(worker->holder, false);
        } else {
            leave(worker);
        }
    }
    if (worker->holder != NULL) {
        progress_hear(worker);
        fm_holder_tick(worker->holder, now_ns);
    }
    hand_on(worker);
    if (worker->holder != NULL && !worker->leaving) {
        stages_look(worker, now_ns);
        hand_on(worker);
    }
    if (worker->holder != NULL && !worker->leaving) {
        fm_data_path_tune(worker->path, now_ns);
        memory_look(worker, now_ns);
        hand_on(worker);
    }
    if (!worker->call_open && !worker->leaving && !worker->closing && now_ns >= worker->retry_ns) {
        reach(worker);
    }
}

static void on_round(void *context)
{
    struct worker *worker = context;
    if (worker->client != NULL && !worker->closing) {
        fm_grpc_client_round(worker->client);
    }
}

/* --- Life --- */

static int client_make(struct worker *worker, struct fm_error *reterr)
{
    const struct fm_worker_options *options = worker->options;
    struct fm_tls *tls = NULL;
    char url[4200];
    bool local = strncmp(options->url, "unix:", 5) == 0;
    (void)snprintf(url, sizeof(url), "%s%s", local ? "grpc+" : "", options->url);
    int status = fm_endpoint_parse(url, &worker->endpoint, reterr);
    if (status == 0 && !worker->endpoint.grpc) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' is no URL of a job's master: it begins with grpc://, grpcs:// "
                              "or unix:",
                              options->url);
    }
    if (status != 0) {
        return status;
    }
    if (worker->endpoint.tls) {
        const struct fm_tls_client_options wanted = {.ca_path = options->ca_path,
                                                     .certificate_path = options->certificate_path,
                                                     .key_path = options->key_path,
                                                     .server_name = worker->endpoint.host};
        status = fm_tls_create_client(&wanted, &tls, reterr);
    }
    if (status != 0) {
        return status;
    }
    struct fm_grpc_client_options client = {.endpoint = &worker->endpoint,
                                            .tls = tls,
                                            .connections_max = 1,
                                            .connect_timeout_ns = 5000 * NS_PER_MS,
                                            .message_bytes_max = FM_BATCH_MESSAGE_BYTES_MAX};
    if (options->token != NULL) {
        worker->token_field =
            (struct fm_grpc_client_field){.name = "authorization", .value = options->token->header};
        client.fields = &worker->token_field;
        client.field_count = 1;
    }
    status = fm_grpc_client_create(worker->loop, &client, &worker->client, reterr);
    if (status != 0) {
        fm_tls_destroy(tls);
    }
    return status;
}

/* Attempts that nobody answered for: of a complete job they are nothing but files in the way. */
static void leftovers_remove(const struct worker *worker)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t count = worker->holder != NULL ? fm_holder_holdings(worker->holder, holdings) : 0;
    for (size_t i = 0; i < count; i++) {
        if (fm_holder_is_reported(worker->holder, holdings[i].number) &&
            fm_output_is_complete(worker->job.output)) {
            fm_output_attempt_remove(worker->job.output, worker->job.sink, holdings[i].number,
                                     holdings[i].epoch);
        }
    }
}

static void worker_destroy(struct worker *worker)
{
    fm_data_path_close(worker->path);
    fm_loop_destroy(worker->loop);
    fm_holder_destroy(worker->holder);
    fm_job_setup_close(&worker->setup);
    if (worker->has_job) {
        fm_job_deinit(&worker->job);
    }
    fm_endpoint_deinit(&worker->endpoint);
    fm_free(worker);
}

static int run(struct worker *worker, struct fm_error *reterr)
{
    const struct fm_worker_options *options = worker->options;
    fm_os_host_name(worker->host, sizeof(worker->host));
    if (options->name != NULL) {
        (void)snprintf(worker->name, sizeof(worker->name), "%s", options->name);
    } else {
        (void)snprintf(worker->name, sizeof(worker->name), "%.200s:%d", worker->host,
                       fm_process_id());
    }
    int status = fm_loop_create(&worker->loop, reterr);
    status = status != 0 ? status : client_make(worker, reterr);
    if (status != 0) {
        return status;
    }
    fm_loop_each_round(worker->loop, on_round, worker);
    fm_loop_alarm(worker->loop, 0, tick, worker);
    call_begin(worker);
    fm_loop_run(worker->loop);
    *reterr = worker->failure;
    return worker->failure.status;
}

int fm_worker_run(const struct fm_worker_options *options, bool *ret_stuck, struct fm_error *reterr)
{
    struct worker *worker = fm_alloc_zero(1, sizeof(*worker));
    if (worker == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    worker->options = options;
    worker->begun_ns = fm_os_now_ns();
    worker->ticked_ns = worker->begun_ns;
    worker->number = fm_os_entropy() | 1; /* 0 is no number */
    worker->wake_task.run = woken;
    int status = run(worker, reterr);
    if (status == FM_ENOMEM && worker->cause != FM_CREW_STARVED) {
        note(worker, reterr->text);
    }
    worker->leaving = true; /* whatever the data path still says, nobody hands it on */
    leftovers_remove(worker);
    uint64_t drain_ns = worker->cause == FM_CREW_HUNG ? 0 : DRAIN_NS;
    *ret_stuck =
        worker->path != NULL && !fm_data_path_drain(worker->path, fm_os_now_ns() + drain_ns);
    if (!*ret_stuck) {
        worker_destroy(worker);
    }
    return status;
}
