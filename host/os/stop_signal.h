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
/*
 * Until fm_stop_signal_install: SIGINT, SIGTERM and SIGHUP end the process at once, with 128 +
 * their number, and remove the folder that fm_stop_signal_folder has named, if there is one: for
 * work that leaves nothing else behind. A signal that is ignored stays ignored.
 */
void fm_stop_signal_end_at_once(void);
/* A folder of files, without folders in it, that a signal removes; NULL: none. One at a time. A
 * path that is too long is not removed. */
void fm_stop_signal_folder(const char *path);
void fm_stop_signal_remove(void); /* back to what the signals did before */
/* The number of the signal that came, 0: none. */
int fm_stop_signal_get(void);

/* Ends this process as SIGKILL does: nothing is flushed, nothing is cleaned up. For fault
 * injection. */
_Noreturn void fm_stop_at_once(void);

#endif
