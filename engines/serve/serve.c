/*
 * The life of the process that serves: a server, ended by signals, watched by a service manager.
 * See serve.h.
 */
#include "engines/serve/serve.h"

#include <stdio.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/thread.h"

/* What is recorded has so long to reach its files when the process ends at once. */
#define SAVING_NS UINT64_C(3000000000)

static uint32_t in_flight(const struct fm_serve *serve)
{
    return serve->loops[0].in_flight; /* the others' are theirs */
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

/* It drains from now on, whoever wanted it. */
static void on_draining(struct fm_serve *serve)
{
    fm_supervision_stopping();
    fm_loop_alarm(serve->loops[0].loop, serve->options->exit_timeout_ns, on_exit_timeout, serve);
}

static void on_ready(struct fm_serve *serve)
{
    char status[80];
    (void)snprintf(status, sizeof(status), "%zu models ready",
                   serve->loops[0].reader.view->counts[FM_CATALOG_READY]);
    fm_supervision_ready(status);
}

static void on_signal(void *context, int signal_number)
{
    struct fm_serve *serve = context;
    if (!serve->started) {
        /* It could not listen, and is ending already. */
        return;
    }
    if (fm_loop_is_hangup(signal_number)) {
        fm_log(FM_LOG_INFO, "polling", FM_LOG_INT("signal", signal_number));
        if (fm_serve_reload(serve)) {
            fm_supervision_reloading();
        }
        return;
    }
    if (fm_serve_is_draining(serve)) {
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
    fm_serve_drain(serve);
}

static int supervision_start(struct fm_serve *serve, struct fm_error *reterr)
{
    struct fm_loop *loops[FM_SUPERVISION_LOOPS_MAX];
    for (uint32_t i = 0; i < serve->loop_count; i++) {
        loops[i] = serve->loops[i].loop;
    }
    return fm_supervision_start(&serve->supervision, loops, serve->loop_count, reterr);
}

static int start(struct fm_serve *serve, struct fm_error *reterr)
{
    /* First, so that whoever reads that it listens can already end it gracefully. */
    int status = fm_loop_watch_signals(serve->loops[0].loop, on_signal, serve, reterr);
    status = status != 0 ? status : fm_serve_start(serve, reterr);
    return status != 0 ? status : supervision_start(serve, reterr);
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

int fm_serve_run(const struct fm_serve_options *options, enum fm_serve_end *ret_end,
                 struct fm_error *reterr)
{
    static const struct fm_serve_owner owner = {.ready = on_ready, .draining = on_draining};
    struct fm_serve *serve = NULL;
    int status = fm_serve_create(options, &owner, &serve, reterr);
    if (status != 0) {
        return status;
    }
    status = start(serve, reterr);
    if (status == 0) {
        fm_loop_run(serve->loops[0].loop);
        *ret_end = serve->end;
        if (serve->end != FM_SERVE_DRAINED) {
            /* Threads go on using it after this function returned. */
            recordings_save(serve);
            return 0;
        }
        fm_serve_log_stopped(serve);
        if (fm_pool_down_count(serve->pool) > 0) {
            *ret_end = FM_SERVE_HUNG;
            recordings_save(serve);
            return 0;
        }
        if (serve->failure.status != 0) {
            status = serve->failure.status;
            if (reterr != NULL) {
                *reterr = serve->failure;
            }
        }
    }
    fm_serve_destroy(serve);
    return status;
}
