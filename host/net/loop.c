/*
 * The event loop. See loop.h. Thread rule: what others post is a stack without locks; all else
 * belongs to the loop's thread.
 *
 * HOW IT WORKS: whoever posts wakes the loop only if it waits or is about to: `awake` says so, as
 * in host/os/parker.h. The loop says that it is about to wait before it looks for the last time
 * whether something was posted, and that it is awake as soon as it is.
 */
#include "host/net/loop.h"

#include <signal.h>
#include <stdatomic.h>
#include <uv.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/tally.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { SIGNAL_COUNT = 4 };

struct fm_loop {
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t alarm;
    uv_signal_t signals[SIGNAL_COUNT];
    bool watching;
    struct fm_loop_task *_Atomic posted; /* by other threads, the last one first */
    _Atomic uint32_t awake;
    _Atomic uint32_t posting;       /* threads that are in fm_loop_post */
    struct fm_loop_task *own_first; /* posted by the loop's thread while it runs */
    struct fm_loop_task *own_last;
    void (*on_signal)(void *context, int signal_number);
    void *signal_context;
    void (*on_alarm)(void *context);
    void *alarm_context;
    uv_check_t check; /* of rounds */
    uv_prepare_t prepare;
    uv_idle_t idle; /* while there is something to do behind the next look at the sockets */
    void (*on_round)(void *context);
    void *round_context;
    uint64_t turn_longest_ns;
};

/* The loop that this thread runs. */
static _Thread_local struct fm_loop *running_here;

/* Runs tasks in the order of their list. */
static void tasks_run(struct fm_loop_task *task)
{
    while (task != NULL) {
        /* The task may be gone after it ran. */
        struct fm_loop_task *next = task->next;
        task->run(task);
        task = next;
    }
}

/* Runs what the loop's thread has posted up to now. */
static void own_run(struct fm_loop *loop)
{
    struct fm_loop_task *task = loop->own_first;
    loop->own_first = NULL;
    loop->own_last = NULL;
    tasks_run(task);
}

/* Runs what other threads have posted up to now. */
static void posted_run(struct fm_loop *loop)
{
    struct fm_loop_task *last = NULL;
    if (atomic_load_explicit(&loop->posted, memory_order_relaxed) != NULL) {
        last = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    }
    struct fm_loop_task *first = NULL;
    while (last != NULL) {
        struct fm_loop_task *before = last->next;
        last->next = first;
        first = last;
        last = before;
    }
    tasks_run(first);
}

/* The loop need not be told of what is posted from now on: it looks before it waits. */
static void stay_awake(struct fm_loop *loop)
{
    if (atomic_load_explicit(&loop->awake, memory_order_relaxed) == 0) {
        (void)atomic_exchange_explicit(&loop->awake, 1, memory_order_acq_rel);
    }
}

/* It only ends the wait; libuv has read it. */
static void woken(uv_async_t *wake)
{
    (void)wake;
    fm_tally_add(FM_TALLY_READS, 1);
}

static void idled(uv_idle_t *idle)
{
    (void)uv_idle_stop(idle);
}

/* libuv's own time is of when it woke, in milliseconds. */
static void turn_end(struct fm_loop *loop)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t woken_ns = uv_now(&loop->uv) * 1000000;
    uint64_t turn_ns = now_ns > woken_ns ? now_ns - woken_ns : 0;
    loop->turn_longest_ns = turn_ns > loop->turn_longest_ns ? turn_ns : loop->turn_longest_ns;
}

uint64_t fm_loop_turn_longest_ns(struct fm_loop *loop)
{
    uint64_t longest_ns = loop->turn_longest_ns;
    loop->turn_longest_ns = 0;
    return longest_ns;
}

/* The loop is about to wait. */
static void prepared(uv_prepare_t *prepare)
{
    struct fm_loop *loop = prepare->data;
    fm_tally_add(FM_TALLY_WAITS, 1);
    if (loop->on_round != NULL) {
        loop->on_round(loop->round_context);
    }
    turn_end(loop);
    (void)atomic_exchange_explicit(&loop->awake, 0, memory_order_acq_rel);
    if (loop->own_first != NULL ||
        atomic_load_explicit(&loop->posted, memory_order_acquire) != NULL) {
        /* Behind another look at the sockets, without waiting: what tasks post again and again must
         * not keep out everything else, and what they send leaves when others of this phase, which
         * may be over, say so. */
        stay_awake(loop);
        (void)uv_idle_start(&loop->idle, idled);
    }
}

/* What came in has been looked at. */
static void checked(uv_check_t *check)
{
    struct fm_loop *loop = check->data;
    stay_awake(loop);
    posted_run(loop);
    own_run(loop);
    if (loop->on_round != NULL) {
        loop->on_round(loop->round_context);
        own_run(loop); /* what the round has ended at once need not wait for the next one */
    }
    turn_end(loop);
}

void fm_loop_stay_awake(struct fm_loop *loop)
{
    stay_awake(loop);
}

int fm_loop_create(struct fm_loop **ret_loop, struct fm_error *reterr)
{
    struct fm_loop *loop = fm_alloc_zero(1, sizeof(*loop));
    if (loop == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while making the event loop");
    }
    int result = uv_loop_init(&loop->uv);
    if (result != 0) {
        fm_free(loop);
        return fm_error_set(reterr, FM_EIO, "cannot make the event loop: %s", uv_strerror(result));
    }
    result = uv_async_init(&loop->uv, &loop->wake, woken);
    if (result != 0) {
        (void)uv_loop_close(&loop->uv);
        fm_free(loop);
        return fm_error_set(reterr, FM_EIO, "cannot make the event loop's wake-up handle: %s",
                            uv_strerror(result));
    }
    loop->wake.data = loop;
    (void)uv_timer_init(&loop->uv, &loop->alarm);
    loop->alarm.data = loop;
    (void)uv_prepare_init(&loop->uv, &loop->prepare);
    loop->prepare.data = loop;
    (void)uv_prepare_start(&loop->prepare, prepared);
    uv_unref((uv_handle_t *)&loop->prepare);
    (void)uv_check_init(&loop->uv, &loop->check);
    loop->check.data = loop;
    (void)uv_check_start(&loop->check, checked);
    uv_unref((uv_handle_t *)&loop->check);
    (void)uv_idle_init(&loop->uv, &loop->idle);
    loop->idle.data = loop;
    loop->uv.data = loop;
    /* Until it runs: what is posted before is found by the first look. */
    atomic_init(&loop->awake, 1);
    *ret_loop = loop;
    return 0;
}

void fm_loop_each_round(struct fm_loop *loop, void (*handler)(void *context), void *context)
{
    FM_ASSERT(loop->on_round == NULL);
    loop->on_round = handler;
    loop->round_context = context;
}

void fm_loop_destroy(struct fm_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    fm_loop_run_posted(loop);
    /* Who posted the last task may not have come back yet. */
    while (atomic_load_explicit(&loop->posting, memory_order_acquire) > 0) {
        fm_sleep_until(fm_os_now_ns() + 10000);
    }
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    if (loop->watching) {
        for (int i = 0; i < SIGNAL_COUNT; i++) {
            uv_close((uv_handle_t *)&loop->signals[i], NULL);
        }
    }
    /* It ends early where a task has stopped a loop that never ran. */
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) {
    }
    int result = uv_loop_close(&loop->uv);
    FM_ASSERT(result == 0);
    fm_free(loop);
}

void fm_loop_run(struct fm_loop *loop)
{
    struct fm_loop *outer = running_here;
    sigset_t broken_pipe;
    (void)sigemptyset(&broken_pipe);
    (void)sigaddset(&broken_pipe, SIGPIPE);
    int status = pthread_sigmask(SIG_BLOCK, &broken_pipe, NULL);
    FM_ASSERT(status == 0);
    running_here = loop;
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    running_here = outer;
}

bool fm_loop_is_here(const struct fm_loop *loop)
{
    return running_here == loop;
}

void fm_loop_stop(struct fm_loop *loop)
{
    uv_stop(&loop->uv);
}

void fm_loop_post(struct fm_loop *loop, struct fm_loop_task *task)
{
    task->next = NULL;
    if (running_here == loop) {
        /* It need not be woken, and nobody else looks at this list. */
        if (loop->own_first == NULL) {
            loop->own_first = task;
        } else {
            loop->own_last->next = task;
        }
        loop->own_last = task;
        return;
    }
    atomic_fetch_add_explicit(&loop->posting, 1, memory_order_relaxed);
    struct fm_loop_task *last = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        task->next = last;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &last, task,
                                                    memory_order_release, memory_order_relaxed));
    if (atomic_exchange_explicit(&loop->awake, 1, memory_order_acq_rel) == 0) {
        fm_tally_add(FM_TALLY_WAKES, 1);
        (void)uv_async_send(&loop->wake);
    }
    atomic_fetch_sub_explicit(&loop->posting, 1, memory_order_release);
}

void fm_loop_run_posted(struct fm_loop *loop)
{
    own_run(loop);
    posted_run(loop);
    own_run(loop);
}

static void signalled(uv_signal_t *handle, int signal_number)
{
    struct fm_loop *loop = handle->data;
    loop->on_signal(loop->signal_context, signal_number);
}

int fm_loop_watch_signals(struct fm_loop *loop, void (*handler)(void *context, int signal_number),
                          void *context, struct fm_error *reterr)
{
    static const int numbers[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    FM_ASSERT(!loop->watching);
    loop->on_signal = handler;
    loop->signal_context = context;
    int result = 0;
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        /* Fails only without descriptors for the signal pipe; the first call makes it for all. */
        result = uv_signal_init(&loop->uv, &loop->signals[i]);
        if (result != 0) {
            FM_ASSERT(i == 0);
            return fm_error_set(reterr, FM_EIO, "cannot watch signals: %s", uv_strerror(result));
        }
        loop->signals[i].data = loop;
    }
    loop->watching = true;
    for (int i = 0; i < SIGNAL_COUNT && result == 0; i++) {
        result = uv_signal_start(&loop->signals[i], signalled, numbers[i]);
    }
    return result == 0
               ? 0
               : fm_error_set(reterr, FM_EIO, "cannot watch signals: %s", uv_strerror(result));
}

bool fm_loop_is_hangup(int signal_number)
{
    return signal_number == SIGHUP;
}

bool fm_loop_is_upgrade(int signal_number)
{
    return signal_number == SIGUSR2;
}

static void alarmed(uv_timer_t *timer)
{
    struct fm_loop *loop = timer->data;
    loop->on_alarm(loop->alarm_context);
}

void fm_loop_alarm(struct fm_loop *loop, uint64_t delay_ns, void (*handler)(void *context),
                   void *context)
{
    loop->on_alarm = handler;
    loop->alarm_context = context;
    int result = uv_timer_start(&loop->alarm, alarmed, delay_ns / 1000000, 0);
    FM_ASSERT(result == 0);
}

struct uv_loop_s *fm_loop_uv(struct fm_loop *loop)
{
    return &loop->uv;
}
