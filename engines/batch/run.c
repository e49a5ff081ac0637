/*
 * One job, one master, one worker, one process. See run.h.
 */
#include "engines/batch/run.h"

#include <stdio.h>
#include <string.h>

#include "core/ledger/holder.h"
#include "core/util/error.h"
#include "engines/batch/data_path.h"
#include "engines/batch/output.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/store/store_writer.h"

#define NS_PER_MS UINT64_C(1000000)
/* Between two looks at how far the shards are. */
#define BEAT_NS (20 * NS_PER_MS)
/* Between two questions to the hooks. */
#define HOOKS_NS (100 * NS_PER_MS)

struct run {
    const struct fm_run_options *options;
    struct fm_master *master;
    struct fm_holder *holder;
    struct fm_data_path *path;
    struct fm_store_writer *writer;
    struct fm_error failure; /* the first one */
    bool stopped;
    bool over; /* the worker may go */
    uint64_t hooks_next_ns;

    /* What the other threads say. */
    struct fm_mutex mutex;
    struct fm_condition turn;
    bool woken;
    uint64_t stored;
    struct fm_error store_failure;
};

/* --- What other threads say --- */

static void on_wake(void *context)
{
    struct run *run = context;
    fm_mutex_lock(&run->mutex);
    run->woken = true;
    fm_condition_signal(&run->turn);
    fm_mutex_unlock(&run->mutex);
}

static void on_stored(void *context, uint64_t sequence, int status, const struct fm_error *error)
{
    struct run *run = context;
    fm_mutex_lock(&run->mutex);
    if (status == 0) {
        run->stored = sequence;
    } else if (run->store_failure.status == 0) {
        run->store_failure = *error;
    }
    run->woken = true;
    fm_condition_signal(&run->turn);
    fm_mutex_unlock(&run->mutex);
}

static void fail(struct run *run, const struct fm_error *error)
{
    if (run->failure.status == 0) {
        run->failure = *error;
    }
}

/* For what can only be lack of memory. */
static void check(struct run *run, int status, const char *what)
{
    struct fm_error error = {0};
    if (status != 0) {
        (void)fm_error_set(&error, status, "cannot %s: %s", what, fm_status_text(status));
        fail(run, &error);
    }
}

/* --- From the master to the worker --- */

static void publish(struct run *run, const struct fm_master_action *action)
{
    struct fm_error error = {0};
    const struct fm_run_options *options = run->options;
    int status = fm_fault_hit(options->fault, FM_FAULT_AFTER_COMMIT, &error);
    status = status != 0 ? status
                         : fm_output_publish(options->job->output, action->shard.number,
                                             action->files.attempt, action->files.letters_bytes > 0,
                                             options->fault, &error);
    if (status != 0) {
        fail(run, &error);
    }
}

static void master_does(struct run *run, const struct fm_master_action *action)
{
    struct fm_error error = {0};
    const struct fm_shard *shard = &action->shard;
    switch (action->kind) {
    case FM_MASTER_GRANT:
        if (fm_fault_hit(run->options->fault, FM_FAULT_CLAIMED, &error) != 0) {
            fail(run, &error);
        } else {
            check(run, fm_holder_granted(run->holder, shard, action->reason), "take a shard");
        }
        break;
    case FM_MASTER_COMMITTED:
        publish(run, action);
        fm_holder_committed(run->holder, shard->number, shard->epoch);
        break;
    case FM_MASTER_REFUSED:
        fm_holder_refused(run->holder, shard->number, shard->epoch);
        break;
    case FM_MASTER_TRIM:
        fm_holder_asked(run->holder, shard->number, shard->epoch, action->keep_rows);
        break;
    case FM_MASTER_STOP:
    case FM_MASTER_DROP:
        fm_holder_stop(run->holder, action->kind == FM_MASTER_DROP);
        break;
    case FM_MASTER_END:
        fm_holder_ended(run->holder);
        break;
    case FM_MASTER_ACTION_COUNT_:
    default:
        break;
    }
}

/* --- From the worker to the master, and to the data path --- */

struct row_getter {
    struct run *run;
    uint64_t first_row;
};

static int row_get(void *context, uint64_t index, struct fm_data_path_row *ret_row)
{
    const struct row_getter *getter = context;
    struct fm_error error = {0};
    int status = fm_row_source_get(getter->run->options->source, getter->first_row + index,
                                   &ret_row->id, &ret_row->size, &error);
    if (status != 0) {
        fail(getter->run, &error);
    }
    return status;
}

static void holder_speaks(struct run *run, const struct fm_holder_action *action, uint64_t now_ns)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t count = fm_holder_holdings(run->holder, holdings);
    uint64_t worker = run->options->worker;
    uint64_t number = action->shard.number;
    uint64_t epoch = action->shard.epoch;
    uint64_t shards = run->options->rows_in_flight / run->options->shard_rows + 2;
    uint32_t shards_max =
        shards < FM_MASTER_SHARDS_OF_ONE_MAX ? (uint32_t)shards : FM_MASTER_SHARDS_OF_ONE_MAX;
    int status = 0;
    switch (action->kind) {
    case FM_HOLDER_HELLO:
        status = fm_master_hello(run->master, now_ns, worker, shards_max, holdings, count);
        break;
    case FM_HOLDER_BEAT:
        status = fm_master_beat(run->master, now_ns, worker, holdings, count);
        break;
    case FM_HOLDER_DONE:
        status = fm_master_done(run->master, now_ns, worker, &action->done);
        break;
    case FM_HOLDER_FAILED:
        status = fm_master_failed(run->master, now_ns, worker, number, epoch, action->failure,
                                  action->reason);
        break;
    case FM_HOLDER_RELEASED:
        status = fm_master_released(run->master, now_ns, worker, number, epoch);
        break;
    case FM_HOLDER_TRIMMED:
        status = fm_master_trimmed(run->master, now_ns, worker, number, epoch, action->keep_rows);
        break;
    case FM_HOLDER_RUN:
    case FM_HOLDER_SHORTEN:
    case FM_HOLDER_CURTAIL:
    case FM_HOLDER_ABANDON:
    case FM_HOLDER_EXIT:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        break;
    }
    check(run, status, "account for a shard");
}

static void holder_does(struct run *run, const struct fm_holder_action *action, uint64_t now_ns)
{
    uint64_t number = action->shard.number;
    struct row_getter getter = {.run = run, .first_row = action->shard.first_row};
    switch (action->kind) {
    case FM_HOLDER_RUN:
        check(run, fm_data_path_run(run->path, &action->shard, action->reason, row_get, &getter),
              "begin a shard");
        break;
    case FM_HOLDER_SHORTEN:
        fm_holder_shortened(run->holder, number,
                            fm_data_path_shorten(run->path, number, action->keep_rows));
        break;
    case FM_HOLDER_CURTAIL:
        fm_data_path_curtail(run->path, number);
        break;
    case FM_HOLDER_ABANDON:
        fm_data_path_abandon(run->path, number);
        break;
    case FM_HOLDER_EXIT:
        run->over = true;
        break;
    case FM_HOLDER_HELLO:
    case FM_HOLDER_BEAT:
    case FM_HOLDER_DONE:
    case FM_HOLDER_FAILED:
    case FM_HOLDER_RELEASED:
    case FM_HOLDER_TRIMMED:
    case FM_HOLDER_ACTION_COUNT_:
    default:
        holder_speaks(run, action, now_ns);
        break;
    }
}

static void path_says(struct run *run, const struct fm_data_path_event *event)
{
    switch (event->kind) {
    case FM_DATA_PATH_DONE:
        fm_holder_done(run->holder, &event->done);
        break;
    case FM_DATA_PATH_RELEASED:
        fm_holder_released(run->holder, event->done.number);
        break;
    case FM_DATA_PATH_BROKEN:
    default:
        fail(run, &event->error);
        break;
    }
}

/* --- The loop --- */

/* What the store's writer has said since the last look. */
static void stored_take(struct run *run)
{
    fm_mutex_lock(&run->mutex);
    uint64_t stored = run->stored;
    struct fm_error failure = run->store_failure;
    fm_mutex_unlock(&run->mutex);
    fm_master_persisted(run->master, stored);
    if (failure.status != 0) {
        fail(run, &failure);
    }
}

static void records_give(struct run *run)
{
    const struct fm_shard_record *records = NULL;
    uint64_t sequence = 0;
    size_t count = fm_master_take_records(run->master, &records, &sequence);
    int status = count > 0 ? fm_store_writer_push(run->writer, records, count, sequence) : 0;
    if (status != 0) {
        stored_take(run); /* it has the words, where the store has failed meanwhile */
        check(run, status, "hand decisions to the ledger");
    }
}

/* Hands on what there is, until nothing follows from it any more. */
static void hand_on(struct run *run, uint64_t now_ns)
{
    bool busy = true;
    while (busy && run->failure.status == 0) {
        struct fm_data_path_event event;
        struct fm_master_action order;
        struct fm_holder_action action;
        busy = false;
        while (run->failure.status == 0 && fm_holder_next_action(run->holder, &action)) {
            holder_does(run, &action, now_ns);
            busy = true;
        }
        if (run->failure.status == 0 && fm_data_path_poll(run->path, &event)) {
            path_says(run, &event);
            busy = true;
        } else if (run->failure.status == 0 && fm_master_next_action(run->master, &order)) {
            master_does(run, &order);
            busy = true;
        }
    }
    records_give(run);
}

static void progress_hear(struct run *run)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    size_t count = fm_holder_holdings(run->holder, holdings);
    for (size_t i = 0; i < count; i++) {
        if (fm_data_path_progress(run->path, holdings[i].number, &holdings[i])) {
            fm_holder_progress(run->holder, &holdings[i]);
        }
    }
}

static void progress_get(const struct run *run, struct fm_run_progress *ret_progress)
{
    struct fm_data_path_stats stats;
    struct fm_master_progress progress;
    fm_data_path_stats(run->path, &stats);
    fm_master_progress(run->master, &progress);
    *ret_progress = (struct fm_run_progress){.rows_total = progress.rows_total,
                                             .rows_done = progress.rows_done,
                                             .rows_committed = progress.rows_committed,
                                             .dead_letters = progress.dead_letters,
                                             .rows_in_flight = stats.rows_in_flight,
                                             .slowest_stage = stats.slowest_stage,
                                             .slowest_share = stats.slowest_share};
}

static void hooks_ask(struct run *run, uint64_t now_ns)
{
    const struct fm_run_hooks *hooks = &run->options->hooks;
    if (now_ns < run->hooks_next_ns) {
        return;
    }
    run->hooks_next_ns = now_ns + HOOKS_NS;
    if (!run->stopped && hooks->stop != NULL && hooks->stop(hooks->context)) {
        run->stopped = true;
        check(run, fm_master_stop(run->master, now_ns, false), "stop");
    }
    if (hooks->progress != NULL) {
        struct fm_run_progress progress;
        progress_get(run, &progress);
        hooks->progress(hooks->context, &progress);
    }
}

static void wait(struct run *run)
{
    uint64_t until_ns = fm_os_now_ns() + BEAT_NS;
    fm_mutex_lock(&run->mutex);
    while (!run->woken && fm_condition_wait_until(&run->turn, &run->mutex, until_ns)) {
    }
    run->woken = false;
    fm_mutex_unlock(&run->mutex);
}

static void work(struct run *run)
{
    fm_holder_connected(run->holder, fm_os_now_ns());
    while (run->failure.status == 0 && !run->over) {
        uint64_t now_ns = fm_os_now_ns();
        stored_take(run);
        progress_hear(run);
        fm_holder_tick(run->holder, now_ns);
        check(run, fm_master_tick(run->master, now_ns), "hand out shards");
        hooks_ask(run, now_ns);
        hand_on(run, now_ns);
        if (run->failure.status == 0 && !run->over) {
            wait(run);
        }
    }
}

/* --- Life --- */

static enum fm_run_end end_of(const struct run *run, struct fm_error *reterr)
{
    struct fm_error limit;
    struct fm_data_path_stats stats;
    if (run->failure.status != 0) {
        *reterr = run->failure;
        return FM_RUN_FAILED;
    }
    if (fm_master_limit_passed(run->master, &limit)) {
        fm_data_path_stats(run->path, &stats);
        (void)fm_error_set(reterr, limit.status, "stopped: %.250s; the last of them: %.200s",
                           limit.text, stats.last_error.text);
        return FM_RUN_THRESHOLD;
    }
    /* A stop that came when everything was done stopped nothing. */
    return run->stopped && !fm_ledger_finished(fm_master_ledger(run->master)) ? FM_RUN_STOPPED
                                                                              : FM_RUN_FINISHED;
}

int fm_run(const struct fm_run_options *options, enum fm_run_end *ret_end,
           struct fm_run_progress *ret_progress, struct fm_error *reterr)
{
    struct run run = {.options = options, .master = options->master};
    const struct fm_holder_options holder = {.worker = options->worker,
                                             .shards_max = FM_MASTER_SHARDS_OF_ONE_MAX,
                                             .beat_ns = BEAT_NS,
                                             .give_up_ns = UINT64_MAX / 2};
    const struct fm_data_path_options path = {.job = options->job,
                                              .base = options->base,
                                              .servable = options->servable,
                                              .fault = options->fault,
                                              .input = options->input,
                                              .rows_in_flight = options->rows_in_flight,
                                              .wake = on_wake,
                                              .context = &run};
    fm_mutex_init(&run.mutex);
    fm_condition_init(&run.turn);
    int status = fm_holder_create(&holder, fm_os_now_ns(), &run.holder);
    if (status != 0) {
        status = fm_error_set(reterr, status, "out of memory");
    }
    status = status != 0 ? status : fm_data_path_open(&path, &run.path, reterr);
    status = status != 0
                 ? status
                 : fm_store_writer_start(options->store, on_stored, &run, &run.writer, reterr);
    if (status == 0) {
        work(&run);
        *ret_end = end_of(&run, reterr);
        status = *ret_end == FM_RUN_FAILED ? run.failure.status : 0;
        progress_get(&run, ret_progress);
        ret_progress->slowest_stage = NULL; /* it goes with the path */
        if (options->hooks.progress != NULL) {
            options->hooks.progress(options->hooks.context, ret_progress);
        }
    }
    fm_data_path_close(run.path);
    fm_store_writer_stop(run.writer);
    fm_holder_destroy(run.holder);
    fm_condition_deinit(&run.turn);
    fm_mutex_deinit(&run.mutex);
    return status;
}
