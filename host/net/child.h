/*
 * Child processes on an event loop: started, and their end told.
 *
 * Owns: the libuv handle. Does not own: what they are for, when to start another. Thread rule: the
 * loop's thread.
 */
#ifndef FM_HOST_NET_CHILD_H
#define FM_HOST_NET_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/net/loop.h"

struct fm_child;

struct fm_child_options {
    const char *const *arguments; /* NULL-terminated, the first one is the program's name */
    /* It has ended: with an exit status, or by a signal (not 0). The child is to be closed. */
    void (*ended)(void *context, int64_t exit_status, int signal_number);
    void *context;
};

/* Starts this very program. What the child says on its standard output goes to our standard error.
 * FM_ENOMEM, FM_EIO with words. */
int FM_NODISCARD fm_child_start(struct fm_loop *loop, const struct fm_child_options *options,
                                struct fm_child **ret_child, struct fm_error *reterr);
int fm_child_process(const struct fm_child *child); /* its number */
bool fm_child_running(const struct fm_child *child);
/* Asks it to go (SIGTERM), if it runs. */
void fm_child_terminate(struct fm_child *child);
/* Ends it at once (SIGKILL), if it runs; `ended` follows. */
void fm_child_kill(struct fm_child *child);
/* Frees it when the loop has let go of it; one that runs goes on, and nobody hears of its end.
 * Accepts NULL. */
void fm_child_close(struct fm_child *child);

/* "signal 11 (Segmentation fault)", "exit code 3". */
void fm_child_describe(int64_t exit_status, int signal_number, char *text, size_t size);
/* The signal means that the process itself did something wrong (and not that it was told to go). */
bool fm_child_is_crash(int signal_number);
/* The signal that nobody can ignore (SIGKILL). */
bool fm_child_is_kill(int signal_number);

#endif
