/*
 * What the program asks of its process before anything else: signals that must not kill it, and
 * stacks that do not depend on the shell it was started from.
 *
 * Owns: the disposition of SIGPIPE, SIGXFSZ and SIGCHLD, the smallest stack of threads. Does not
 * own: the signals that end work (stop_signal.h, host/net/loop.h). For programs; a library leaves
 * the process to its owner. Thread rule: once, from the main thread, before any other thread
 * exists.
 */
#ifndef FM_HOST_OS_PROCESS_H
#define FM_HOST_OS_PROCESS_H

#include <stdbool.h>

/*
 * From here on a reader that left and a file that reached its size limit (ulimit -f) are errors of
 * one write, EPIPE and EFBIG, and threads of libraries that ask for no stack size get at least
 * FM_THREAD_STACK_MIN (thread.h). How a child ended can be asked, even where we were started by
 * somebody who ignores that (an ignored SIGCHLD is inherited).
 */
void fm_process_prepare(void);

/* The number of this process. Any thread. */
int fm_process_id(void);

/* The calling thread, and what it starts from now on, threads and processes, gets this nice value
 * (1 to 19: the larger, the more it gives way to others of the machine), unless its own is larger
 * already. False: the system refuses. */
bool fm_process_give_way(int nice_value);

/* Ends this process with an exit code, without waiting for threads that do not come to an end and
 * without cleaning up anything. For main programs only. */
_Noreturn void fm_process_end(int exit_code);

/*
 * Returns run(argument). Runs it on the calling thread when that one's stack may grow to
 * FM_THREAD_STACK_MIN; under a smaller limit (ulimit -s) on a thread of its own with a usual stack,
 * because the libraries we call are not written for less. Falls back to the calling thread when no
 * thread can be had.
 */
int fm_process_run(int (*run)(void *argument), void *argument);

#endif
