/*
 * The watchdog and what else a service manager is told. See supervision.h.
 */
#include "engines/serve/supervision.h"

#include <stdio.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/os/os.h"
#include "host/os/process.h"
#include "host/os/service_manager.h"

void fm_supervision_ready(const char *status)
{
    char lines[300];
    (void)snprintf(lines, sizeof(lines), "READY=1\nSTATUS=%s", status);
    (void)fm_service_manager_tell(lines);
}

void fm_supervision_main_process(int process, const char *status)
{
    char lines[300];
    (void)snprintf(lines, sizeof(lines), "MAINPID=%d\nREADY=1\nSTATUS=%s",
                   process != 0 ? process : fm_process_id(), status);
    (void)fm_service_manager_tell(lines);
}

void fm_supervision_reloading(void)
{
    (void)fm_service_manager_tell_reloading();
}

void fm_supervision_stopping(void)
{
    (void)fm_service_manager_tell("STOPPING=1");
}

static void pulse_answer(struct fm_loop_task *task)
{
    struct fm_supervision_pulse *pulse = FM_CONTAINER_OF(task, struct fm_supervision_pulse, task);
    fm_mutex_lock(&pulse->supervision->lock);
    pulse->asked = false;
    fm_mutex_unlock(&pulse->supervision->lock);
}

/* Asks every loop that answered the last time; true when that were all. The lock is held. */
static bool pulses_ask(struct fm_supervision *supervision)
{
    bool all = true;
    for (uint32_t i = 0; i < supervision->pulse_count; i++) {
        struct fm_supervision_pulse *pulse = &supervision->pulses[i];
        all = all && !pulse->asked;
        if (!pulse->asked) {
            pulse->asked = true;
            fm_loop_post(pulse->loop, &pulse->task);
        }
    }
    return all;
}

static void watchdog_run(void *argument)
{
    struct fm_supervision *supervision = argument;
    fm_mutex_lock(&supervision->lock);
    while (!supervision->ends) {
        if (pulses_ask(supervision)) {
            (void)fm_service_manager_tell("WATCHDOG=1");
        }
        uint64_t until_ns = fm_os_now_ns() + supervision->interval_ns;
        while (!supervision->ends &&
               fm_condition_wait_until(&supervision->wake, &supervision->lock, until_ns)) {
        }
    }
    fm_mutex_unlock(&supervision->lock);
}

int fm_supervision_start(struct fm_supervision *supervision, struct fm_loop *const *loops,
                         uint32_t loop_count, struct fm_error *reterr)
{
    uint64_t watchdog_ns = fm_service_manager_watchdog_ns();
    FM_ASSERT(loop_count <= FM_SUPERVISION_LOOPS_MAX);
    if (watchdog_ns == 0) {
        return 0;
    }
    /* Three times in an interval: a question, its answer at the next one, and one to spare. */
    supervision->interval_ns = watchdog_ns / 3 + 1;
    supervision->pulse_count = loop_count;
    for (uint32_t i = 0; i < loop_count; i++) {
        supervision->pulses[i] = (struct fm_supervision_pulse){
            .task = {.run = pulse_answer}, .loop = loops[i], .supervision = supervision};
    }
    fm_mutex_init(&supervision->lock);
    fm_condition_init(&supervision->wake);
    int status = fm_thread_start(&supervision->thread, "fm-watchdog", watchdog_run, supervision);
    supervision->running = status == 0;
    if (status != 0) {
        fm_condition_deinit(&supervision->wake);
        fm_mutex_deinit(&supervision->lock);
        return fm_error_set(reterr, status, "cannot start the watchdog's thread");
    }
    return 0;
}

void fm_supervision_stop(struct fm_supervision *supervision)
{
    if (!supervision->running) {
        return;
    }
    fm_mutex_lock(&supervision->lock);
    supervision->ends = true;
    fm_condition_signal(&supervision->wake);
    fm_mutex_unlock(&supervision->lock);
    fm_thread_join(&supervision->thread);
    /* Questions on their way refer to this. */
    for (uint32_t i = 0; i < supervision->pulse_count; i++) {
        fm_loop_run_posted(supervision->pulses[i].loop);
    }
    fm_condition_deinit(&supervision->wake);
    fm_mutex_deinit(&supervision->lock);
    supervision->running = false;
}
