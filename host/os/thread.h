/*
 * Threads, locks, conditions: pthreads behind names that say what they are for.
 *
 * Failures of lock operations are programmer errors and abort. Only thread creation can fail at run
 * time.
 */
#ifndef FM_HOST_OS_THREAD_H
#define FM_HOST_OS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_mutex {
    pthread_mutex_t handle;
};
struct fm_condition {
    pthread_cond_t handle; /* waits on the monotonic clock */
};
struct fm_thread {
    pthread_t handle;
    bool running;
};

void fm_mutex_init(struct fm_mutex *mutex);
void fm_mutex_deinit(struct fm_mutex *mutex);
void fm_mutex_lock(struct fm_mutex *mutex);
bool fm_mutex_try_lock(struct fm_mutex *mutex); /* false: somebody has it */
void fm_mutex_unlock(struct fm_mutex *mutex);

void fm_condition_init(struct fm_condition *condition);
void fm_condition_deinit(struct fm_condition *condition);
void fm_condition_wait(struct fm_condition *condition, struct fm_mutex *mutex);
/* False when deadline_ns (monotonic, as fm_os_now_ns) passed first. */
bool fm_condition_wait_until(struct fm_condition *condition, struct fm_mutex *mutex,
                             uint64_t deadline_ns);
void fm_condition_signal(struct fm_condition *condition);
void fm_condition_broadcast(struct fm_condition *condition);

/* Address space, not memory. What an operator or a library needs, whatever `ulimit -s` says. */
#define FM_THREAD_STACK_MIN ((size_t)2 << 20)

/* The name (cut to 15 characters) shows in ps and in traces. All signals are blocked in the new
 * thread. Its stack is the process's default, but at least FM_THREAD_STACK_MIN. */
int FM_NODISCARD fm_thread_start(struct fm_thread *thread, const char *name,
                                 void (*run)(void *argument), void *argument);
void fm_thread_join(struct fm_thread *thread); /* no-op when not running */

/* Timed waits of the calling thread end as exactly as the kernel can, not some 50 us later, when it
 * has gathered several. */
void fm_thread_timers_exact(void);

/* The calling thread gives way to the process's others where they want the CPUs. A wish. */
void fm_thread_background(void);

void fm_sleep_until(uint64_t deadline_ns);

#endif
