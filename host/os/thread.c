/*
 * Threads and locks over pthreads. See thread.h.
 */
#include "host/os/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "core/util/tally.h"
#include "host/os/os.h"

void fm_mutex_init(struct fm_mutex *mutex)
{
    int status = pthread_mutex_init(&mutex->handle, NULL);
    FM_ASSERT(status == 0);
}

void fm_mutex_deinit(struct fm_mutex *mutex)
{
    int status = pthread_mutex_destroy(&mutex->handle);
    FM_ASSERT(status == 0);
}

void fm_mutex_lock(struct fm_mutex *mutex)
{
    int status = pthread_mutex_lock(&mutex->handle);
    FM_ASSERT(status == 0);
}

bool fm_mutex_try_lock(struct fm_mutex *mutex)
{
    int status = pthread_mutex_trylock(&mutex->handle);
    FM_ASSERT(status == 0 || status == EBUSY);
    return status == 0;
}

void fm_mutex_unlock(struct fm_mutex *mutex)
{
    int status = pthread_mutex_unlock(&mutex->handle);
    FM_ASSERT(status == 0);
}

void fm_condition_init(struct fm_condition *condition)
{
    pthread_condattr_t attributes;
    int status = pthread_condattr_init(&attributes);
    FM_ASSERT(status == 0);
    status = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    FM_ASSERT(status == 0);
    status = pthread_cond_init(&condition->handle, &attributes);
    FM_ASSERT(status == 0);
    pthread_condattr_destroy(&attributes);
}

void fm_condition_deinit(struct fm_condition *condition)
{
    int status = pthread_cond_destroy(&condition->handle);
    FM_ASSERT(status == 0);
}

void fm_condition_wait(struct fm_condition *condition, struct fm_mutex *mutex)
{
    fm_tally_add(FM_TALLY_WAITS, 1);
    int status = pthread_cond_wait(&condition->handle, &mutex->handle);
    FM_ASSERT(status == 0);
}

static struct timespec timespec_from_ns(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

bool fm_condition_wait_until(struct fm_condition *condition, struct fm_mutex *mutex,
                             uint64_t deadline_ns)
{
    struct timespec deadline = timespec_from_ns(deadline_ns);
    fm_tally_add(FM_TALLY_WAITS, 1);
    int status = pthread_cond_timedwait(&condition->handle, &mutex->handle, &deadline);
    FM_ASSERT(status == 0 || status == ETIMEDOUT);
    return status == 0;
}

void fm_condition_signal(struct fm_condition *condition)
{
    int status = pthread_cond_signal(&condition->handle);
    FM_ASSERT(status == 0);
}

void fm_condition_broadcast(struct fm_condition *condition)
{
    int status = pthread_cond_broadcast(&condition->handle);
    FM_ASSERT(status == 0);
}

#define BACKGROUND_NICE 10

struct thread_start {
    void (*run)(void *argument);
    void *argument;
    char name[16];
};

static void *thread_main(void *argument)
{
    struct thread_start start = *(struct thread_start *)argument;
    fm_free(argument);
    (void)pthread_setname_np(pthread_self(), start.name);
    start.run(start.argument);
    return NULL;
}

/* The default follows the limit on the main thread's stack, which may be far too small. */
static int create_with_stack(pthread_t *handle, struct thread_start *start)
{
    pthread_attr_t attributes;
    size_t size = 0;
    int status = pthread_attr_init(&attributes);
    if (status != 0) {
        return status;
    }
    status = pthread_attr_getstacksize(&attributes, &size);
    if (status == 0 && size < FM_THREAD_STACK_MIN) {
        status = pthread_attr_setstacksize(&attributes, FM_THREAD_STACK_MIN);
    }
    status = status != 0 ? status : pthread_create(handle, &attributes, thread_main, start);
    (void)pthread_attr_destroy(&attributes);
    return status;
}

int fm_thread_start(struct fm_thread *thread, const char *name, void (*run)(void *argument),
                    void *argument)
{
    thread->running = false;
    struct thread_start *start = fm_alloc(sizeof(*start));
    if (start == NULL) {
        return FM_ENOMEM;
    }
    start->run = run;
    start->argument = argument;
    (void)snprintf(start->name, sizeof(start->name), "%s", name);
    /* Signals are for the loop or main thread: block them around creation, so that the new thread
     * never has them open. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    /* What a thread's own access raises: blocked, it would end the process past any handler. */
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = create_with_stack(&thread->handle, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0) {
        fm_free(start);
        return status == EAGAIN ? FM_ELIMIT : FM_EINTERNAL;
    }
    thread->running = true;
    return 0;
}

void fm_thread_join(struct fm_thread *thread)
{
    if (thread->running) {
        int status = pthread_join(thread->handle, NULL);
        FM_ASSERT(status == 0);
        thread->running = false;
    }
}

void fm_sleep_until(uint64_t deadline_ns)
{
    struct timespec deadline = timespec_from_ns(deadline_ns);
    fm_tally_add(FM_TALLY_WAITS, 1);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR) {
    }
}

void fm_thread_background(void)
{
    /* On Linux this is of one thread, named by its number. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BACKGROUND_NICE);
}

void fm_thread_timers_exact(void)
{
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* a wish: nothing depends on it */
}
