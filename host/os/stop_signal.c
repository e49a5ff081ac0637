/*
 * Signals that ask for an end. See stop_signal.h.
 */
#include "host/os/stop_signal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int received; /* lock-free: the handler may write it, any thread may read it */
static struct sigaction before_interrupt;
static struct sigaction before_terminate;

static void on_signal(int number)
{
    if (received != 0) {
        _exit(128 + number);
    }
    received = number;
}

/* --- Ending at once --- */

static char folder[PATH_MAX];
static atomic_bool folder_there; /* lock-free, likewise */

/* With calls only that a handler may make: readdir allocates, so the kernel is asked itself. */
static void folder_remove(void)
{
    _Alignas(struct dirent64) char names[4096];
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    long got = 1;
    while (descriptor >= 0 && got > 0) {
        got = syscall(SYS_getdents64, descriptor, names, sizeof(names));
        for (long at = 0; at < got;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(names + at);
            (void)unlinkat(descriptor, entry->d_name, 0); /* fails for "." and ".." */
            at += entry->d_reclen;
        }
    }
    (void)rmdir(folder);
}

static void on_signal_end(int number)
{
    if (atomic_exchange(&folder_there, false)) {
        folder_remove();
    }
    _exit(128 + number);
}

void fm_stop_signal_end_at_once(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal_end};
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        sigaddset(&action.sa_mask, numbers[i]);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            (void)sigaction(numbers[i], &action, NULL);
        }
    }
}

void fm_stop_signal_folder(const char *path)
{
    atomic_store(&folder_there, false);
    if (path != NULL && strlen(path) < sizeof(folder)) {
        memcpy(folder, path, strlen(path) + 1);
        atomic_store(&folder_there, true);
    }
}

/* --- Stopping between two steps --- */

void fm_stop_signal_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    received = 0;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    (void)sigaction(SIGINT, &action, &before_interrupt);
    (void)sigaction(SIGTERM, &action, &before_terminate);
}

void fm_stop_signal_remove(void)
{
    (void)sigaction(SIGINT, &before_interrupt, NULL);
    (void)sigaction(SIGTERM, &before_terminate, NULL);
}

int fm_stop_signal_get(void)
{
    return received;
}

_Noreturn void fm_stop_at_once(void)
{
    (void)kill(getpid(), SIGKILL);
    _exit(137);
}
