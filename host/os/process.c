/*
 * The process's signals and stacks. See process.h.
 */
#include "host/os/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/os/thread.h"

#define DESCRIPTORS_MAX ((rlim_t)1 << 20)

/* As many as the machine's owner lets us have: the usual limit is for programs that still call
 * select(). */
static void descriptors_allow(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        rlim_t most = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
        limit.rlim_cur = limit.rlim_cur < most ? most : limit.rlim_cur;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void fm_process_prepare(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    descriptors_allow();
    pthread_attr_t attributes;
    size_t size = 0;
    if (pthread_getattr_default_np(&attributes) == 0) {
        if (pthread_attr_getstacksize(&attributes, &size) == 0 && size < FM_THREAD_STACK_MIN &&
            pthread_attr_setstacksize(&attributes, FM_THREAD_STACK_MIN) == 0) {
            (void)pthread_setattr_default_np(&attributes);
        }
        (void)pthread_attr_destroy(&attributes);
    }
}

int fm_process_id(void)
{
    return (int)getpid();
}

bool fm_process_give_way(int nice_value)
{
    errno = 0;
    int now = getpriority(PRIO_PROCESS, 0); /* of the calling thread, on Linux */
    if (now == -1 && errno != 0) {
        return false;
    }
    return now >= nice_value || setpriority(PRIO_PROCESS, 0, nice_value) == 0;
}

_Noreturn void fm_process_end(int exit_code)
{
    _exit(exit_code);
}

struct call {
    int (*run)(void *argument);
    void *argument;
    int result;
};

static void call_main(void *argument)
{
    struct call *call = argument;
    call->result = call->run(call->argument);
}

int fm_process_run(int (*run)(void *argument), void *argument)
{
    struct rlimit limit;
    struct call call = {.run = run, .argument = argument};
    struct fm_thread thread = {0};
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= FM_THREAD_STACK_MIN ||
        fm_thread_start(&thread, "fermata", call_main, &call) != 0) {
        return run(argument);
    }
    fm_thread_join(&thread);
    return call.result;
}
