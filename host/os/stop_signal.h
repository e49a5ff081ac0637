/*
 * Ctrl-C and SIGTERM for work that can be stopped between two steps: the first asks, the second
 * ends the process at once.
 *
 * For engines without an event loop (those with one: host/net/loop.h). Process wide; install and
 * remove from the main thread, ask from any.
 */
#ifndef FM_HOST_OS_STOP_SIGNAL_H
#define FM_HOST_OS_STOP_SIGNAL_H

/*
 * From now on SIGINT and SIGTERM are remembered; a second one of them ends the process at once,
 * with 128 + its number, without any cleaning up. Use it only where dying at any instant is
 * harmless.
 */
void fm_stop_signal_install(void);
void fm_stop_signal_remove(void); /* back to what the signals did before */
/* The number of the signal that came, 0: none. */
int fm_stop_signal_get(void);

/* Ends this process as SIGKILL does: nothing is flushed, nothing is cleaned up. For fault
 * injection. */
_Noreturn void fm_stop_at_once(void);

#endif
