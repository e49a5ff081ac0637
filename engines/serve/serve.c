/*
 * The life of the process that serves: a server, ended by signals, watched by a service manager.
 * See serve.h.
 */
#include "engines/serve/serve.h"

#include <stdio.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/handover.h"
#include "engines/serve/serve_internal.h"
#include "engines/serve/takeover.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/process.h"
#include "host/os/thread.h"

/* What is recorded has so long to reach its files when the process ends at once. */
#define SAVING_NS UINT64_C(3000000000)

enum { STATUS_SIZE = 80 };

/* What a process has besides its server. */
struct process {
    struct fm_takeover takeover; /* when it was started to take another one's place */
    struct fm_handover handover; /* to one that is to take its place */
    uint32_t end_signals;        /* that came: SIGTERM and SIGINT */
};

static uint32_t in_flight(const struct fm_serve *serve)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        sum += fm_serve_loop_in_flight(&serve->loops[i]);
    }
    return sum;
}

static void on_exit_timeout(void *context)
{
    struct fm_serve *serve = context;
    fm_log(FM_LOG_ERROR, "exit_timeout", FM_LOG_UINT("requests_in_flight", in_flight(serve)),
           FM_LOG_FLAG("loading", !serve->stopped),
           FM_LOG_TEXT("next", "ending without their answers"));
    serve->end = FM_SERVE_TIMED_OUT;
    fm_loop_stop(serve->loops[0].loop);
}

/* Who is idle, or streams, has had time to go on with the new process. */
static void on_leave_over(void *context)
{
    struct fm_serve *serve = context;
    fm_serve_leave_end(serve);
    fm_loop_alarm(serve->loops[0].loop, serve->options->exit_timeout_ns / 2, on_exit_timeout,
                  serve);
}

/* It drains from now on, whoever wanted it. */
static void on_draining(struct fm_serve *serve)
{
    const struct process *process = serve->owner.context;
    uint64_t timeout_ns = serve->options->exit_timeout_ns;
    if (fm_serve_is_stopping(serve) && !process->takeover.waits) {
        fm_supervision_stopping();
    }
    if (fm_serve_is_stopping(serve)) {
        fm_loop_alarm(serve->loops[0].loop, timeout_ns, on_exit_timeout, serve);
    } else {
        fm_loop_alarm(serve->loops[0].loop, timeout_ns / 2, on_leave_over, serve);
    }
}

static void status_write(const struct fm_serve *serve, char *status, size_t size)
{
    (void)snprintf(status, size, "%zu models ready",
                   serve->loops[0].reader.view->counts[FM_CATALOG_READY]);
}

static void on_ready(struct fm_serve *serve)
{
    struct process *process = serve->owner.context;
    char status[STATUS_SIZE];
    if (process->takeover.waits) {
        fm_takeover_loaded(&process->takeover);
        return;
    }
    status_write(serve, status, sizeof(status));
    fm_supervision_ready(status);
}

/* --- another process in the place of this one, and the other way round -------------------------
 */

static int supervision_start(struct fm_serve *serve, struct fm_error *reterr)
{
    struct fm_loop *loops[FM_SUPERVISION_LOOPS_MAX];
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        loops[i] = serve->loops[i].loop;
    }
    return fm_supervision_start(&serve->supervision, loops, serve->loop_count, reterr);
}

static void on_begun(struct fm_serve *serve, const struct fm_error *error)
{
    struct process *process = serve->owner.context;
    fm_takeover_begun(&process->takeover, error);
}

static void on_taken_over(struct fm_serve *serve)
{
    struct fm_error error = {0};
    char status[STATUS_SIZE];
    fm_log(FM_LOG_INFO, "took_over", FM_LOG_INT("process", fm_process_id()));
    status_write(serve, status, sizeof(status));
    fm_supervision_main_process(0, status);
    if (supervision_start(serve, &error) != 0) {
        fm_log(FM_LOG_ERROR, "watchdog_failed", FM_LOG_TEXT("reason", error.text),
               FM_LOG_TEXT("next", "serving; the service manager will miss the watchdog"));
    }
}

static void on_replaced(struct fm_serve *serve, int process)
{
    char status[STATUS_SIZE];
    status_write(serve, status, sizeof(status));
    /* Said by both: a service manager may hear its main process only. */
    fm_supervision_main_process(process, status);
    fm_log(FM_LOG_INFO, "upgraded", FM_LOG_INT("process", process),
           FM_LOG_UINT("requests_in_flight", in_flight(serve)),
           FM_LOG_TEXT("next", "answering what is here, then ending"));
    fm_serve_leave(serve);
}

static void on_not_replaced(struct fm_serve *serve)
{
    if (!fm_serve_is_draining(serve)) {
        on_ready(serve);
    }
}

static void upgrade(struct fm_serve *serve)
{
    struct process *process = serve->owner.context;
    bool before = process->handover.running;
    fm_handover_begin(&process->handover);
    if (!before && process->handover.running) {
        fm_supervision_reloading();
    }
}

/* --- signals -----------------------------------------------------------------------------------
 */

static void on_end_signal(struct fm_serve *serve, int signal_number)
{
    struct process *process = serve->owner.context;
    process->end_signals++;
    if (process->end_signals > 1) {
        fm_log(FM_LOG_WARNING, "second_signal", FM_LOG_INT("signal", signal_number),
               FM_LOG_UINT("requests_in_flight", in_flight(serve)),
               FM_LOG_TEXT("next", "ending at once"));
        serve->end = FM_SERVE_FORCED;
        fm_loop_stop(serve->loops[0].loop);
        return;
    }
    fm_log(FM_LOG_INFO, "draining", FM_LOG_INT("signal", signal_number),
           FM_LOG_UINT("requests_in_flight", in_flight(serve)),
           FM_LOG_NUMBER("exit_timeout_s", (double)serve->options->exit_timeout_ns / 1e9));
    if (fm_serve_is_ending(serve)) {
        /* By itself, and its time runs already. */
        return;
    }
    if (fm_serve_phase(serve) == FM_SERVE_LEAVING) {
        fm_loop_alarm(serve->loops[0].loop, serve->options->exit_timeout_ns, on_exit_timeout,
                      serve);
        fm_serve_leave_end(serve);
        return;
    }
    fm_handover_cancel(&process->handover);
    fm_serve_drain(serve);
}

static void on_signal(void *context, int signal_number)
{
    struct fm_serve *serve = context;
    if (!serve->started) {
        /* It could not listen, and is ending already. */
        return;
    }
    if (fm_loop_is_upgrade(signal_number)) {
        upgrade(serve);
    } else if (fm_loop_is_hangup(signal_number)) {
        if (fm_serve_reload(serve)) {
            fm_supervision_reloading();
        }
    } else {
        on_end_signal(serve, signal_number);
    }
}

/* --- an end with threads that go on ---------------------------------------------------------- */

/* Freed by nobody: the process ends. */
struct saving {
    struct fm_serve *serve;
    struct fm_mutex lock;
    struct fm_condition changed;
    bool done;
};

static void saving_run(void *argument)
{
    struct saving *saving = argument;
    fm_serve_recordings_end(saving->serve);
    fm_mutex_lock(&saving->lock);
    saving->done = true;
    fm_condition_signal(&saving->changed);
    fm_mutex_unlock(&saving->lock);
}

/* What was recorded goes to its files, unless the disk does not take it in time. */
static void recordings_save(struct fm_serve *serve)
{
    struct fm_thread thread;
    if (serve->options->record_path == NULL && serve->payloads == NULL) {
        return;
    }
    struct saving *saving = fm_alloc_zero(1, sizeof *saving);
    if (saving != NULL) {
        saving->serve = serve;
        fm_mutex_init(&saving->lock);
        fm_condition_init(&saving->changed);
    }
    if (saving == NULL || fm_thread_start(&thread, "fm-save", saving_run, saving) != 0) {
        fm_serve_recordings_end(serve);
        return;
    }
    uint64_t until_ns = fm_os_now_ns() + SAVING_NS;
    bool in_time = true;
    fm_mutex_lock(&saving->lock);
    while (!saving->done && in_time) {
        in_time = fm_condition_wait_until(&saving->changed, &saving->lock, until_ns);
    }
    bool done = saving->done;
    fm_mutex_unlock(&saving->lock);
    if (!done) {
        fm_log(FM_LOG_ERROR, "recording_failed",
               FM_LOG_TEXT("reason", "the disk is slower than the end of this process"),
               FM_LOG_TEXT("next", "what is in the files is good up to where they end"));
    }
}

/* --- life --------------------------------------------------------------------------------------
 */

static int start(struct process *process, struct fm_serve *serve, struct fm_error *reterr)
{
    /* First, so that whoever reads that it listens can already end it gracefully. */
    int status = fm_loop_watch_signals(serve->loops[0].loop, on_signal, serve, reterr);
    status = status != 0 ? status : fm_takeover_start(&process->takeover, serve, reterr);
    status = status != 0 ? status : fm_serve_start(serve, reterr);
    /* The watchdog is the old process's until it is replaced. */
    return status != 0 || process->takeover.active ? status : supervision_start(serve, reterr);
}

/* True: everything was answered, and may be released. */
static bool run(struct fm_serve *serve, enum fm_serve_end *ret_end)
{
    fm_loop_run(serve->loops[0].loop);
    *ret_end = serve->end;
    if (serve->end != FM_SERVE_DRAINED) {
        /* Threads go on using it after this function returned. */
        recordings_save(serve);
        return false;
    }
    fm_serve_log_stopped(serve);
    if (fm_pool_down_count(serve->pool) > 0) {
        *ret_end = FM_SERVE_HUNG;
        recordings_save(serve);
        return false;
    }
    return true;
}

/* Why it was to end, where no caller hears of it. */
static void failure_tell(struct process *process, const struct fm_serve *serve)
{
    const struct fm_error *failure = serve->failure.status != 0 ? &serve->failure : NULL;
    if (failure != NULL) {
        fm_log(FM_LOG_ERROR, "serve_failed", FM_LOG_TEXT("reason", failure->text),
               FM_LOG_TEXT("next", "ending"));
    }
    fm_takeover_tell_failed(&process->takeover, failure);
}

static int serve_with(struct process *process, const struct fm_serve_options *options,
                      enum fm_serve_end *ret_end, struct fm_error *reterr)
{
    const struct fm_serve_owner owner = {
        .ready = on_ready,
        .draining = on_draining,
        .begun = on_begun,
        .context = process,
        .sockets = process->takeover.active ? &process->takeover.sockets : NULL};
    struct fm_serve *serve = NULL;
    int status = fm_serve_create(options, &owner, &serve, reterr);
    if (status != 0) {
        fm_takeover_end(&process->takeover, reterr);
        return status;
    }
    process->takeover.done = on_taken_over;
    process->handover.serve = serve;
    process->handover.done = on_replaced;
    process->handover.failed = on_not_replaced;
    status = start(process, serve, reterr);
    if (status == 0) {
        if (!run(serve, ret_end)) {
            failure_tell(process, serve);
            return 0;
        }
        if (serve->failure.status != 0) {
            status = serve->failure.status;
            *reterr = serve->failure;
        }
    }
    fm_handover_end(&process->handover);
    fm_takeover_end(&process->takeover, status != 0 ? reterr : NULL);
    fm_serve_destroy(serve);
    return status;
}

int fm_serve_run(const struct fm_serve_options *options, enum fm_serve_end *ret_end,
                 struct fm_error *reterr)
{
    struct fm_error error = {0};
    struct process *process = fm_alloc_zero(1, sizeof(*process));
    if (process == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    *ret_end = FM_SERVE_DRAINED;
    int status = fm_takeover_open(&process->takeover, &options, &error);
    if (status == 0) {
        status = serve_with(process, options, ret_end, &error);
    } else {
        fm_takeover_end(&process->takeover, &error);
    }
    if (*ret_end == FM_SERVE_DRAINED) {
        fm_takeover_close(&process->takeover);
        fm_free(process);
    }
    if (status != 0 && reterr != NULL) {
        *reterr = error;
    }
    return status;
}
