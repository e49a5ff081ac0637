/*
 * The event loop: one thread, libuv underneath, tasks posted to it from any thread, termination
 * signals as events.
 *
 * Owns: the libuv loop, the wake-up handle, the signal watchers. Does not own: what runs on it
 * (http_server.h). Thread rule: fm_loop_post from any thread; everything else from the thread that
 * runs the loop.
 */
#ifndef FM_HOST_NET_LOOP_H
#define FM_HOST_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

struct uv_loop_s;
struct fm_loop;

/* Something to run once on the loop's thread. Embedded in its owner; may be posted again once it
 * ran. */
struct fm_loop_task {
    struct fm_loop_task *next;
    void (*run)(struct fm_loop_task *task);
};

int FM_NODISCARD fm_loop_create(struct fm_loop **ret_loop, struct fm_error *reterr);
/* Runs what is still posted, then frees. Everything else on the loop must be closed or closing.
 * Accepts NULL. */
void fm_loop_destroy(struct fm_loop *loop);

/* Runs until fm_loop_stop. From here on the calling thread does not get SIGPIPE: a client that
 * leaves is an error of one write. */
void fm_loop_run(struct fm_loop *loop);
/* Whether the calling thread is running it. */
bool fm_loop_is_here(const struct fm_loop *loop);
void fm_loop_stop(struct fm_loop *loop);
/* Tasks run in the order in which their thread posted them. Those that the loop's own thread posts
 * run before it waits, and cost no system call. Never fails and never blocks for long. */
void fm_loop_post(struct fm_loop *loop, struct fm_loop_task *task);
/* Runs what is posted now. For code on the loop's thread that wants its own posts done before it
 * returns. */
void fm_loop_run_posted(struct fm_loop *loop);

/* SIGTERM, SIGINT, SIGHUP and SIGUSR2 become calls of handler on the loop's thread. */
int FM_NODISCARD fm_loop_watch_signals(struct fm_loop *loop,
                                       void (*handler)(void *context, int signal_number),
                                       void *context, struct fm_error *reterr);
/* Whether it is SIGHUP, which asks to look at files again and not to end. */
bool fm_loop_is_hangup(int signal_number);
/* Whether it is SIGUSR2, which asks for a new process in the place of this one. */
bool fm_loop_is_upgrade(int signal_number);
/* Calls handler once after delay_ns, instead of what was set before. There is one such alarm. */
void fm_loop_alarm(struct fm_loop *loop, uint64_t delay_ns, void (*handler)(void *context),
                   void *context);

/* Calls handler whenever the loop has done what there was to do and is about to wait: where what
 * came in one round is handed on at once. One handler; before the loop runs. */
void fm_loop_each_round(struct fm_loop *loop, void (*handler)(void *context), void *context);

/* On the loop's thread: the longest time that it worked without looking at what else there is,
 * since the last call; to a millisecond. */
uint64_t fm_loop_turn_longest_ns(struct fm_loop *loop);

/* For the other files of host/net. */
struct uv_loop_s *fm_loop_uv(struct fm_loop *loop);
/* On its thread, when something came in: what is posted until the round ends costs no wake-up. */
void fm_loop_stay_awake(struct fm_loop *loop);

#endif
