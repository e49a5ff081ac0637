/*
 * Signals that ask for an end. See stop_signal.h.
 */
#include "host/os/stop_signal.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
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
