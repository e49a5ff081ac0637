/*
 * Child processes. See child.h.
 */
#include "host/net/child.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "core/util/error.h"
#include "core/util/memory.h"

#define PATH_BYTES 4096

struct fm_child {
    uv_process_t handle;
    void (*ended)(void *context, int64_t exit_status, int signal_number);
    void *context;
    bool running;
};

static void freed(uv_handle_t *handle)
{
    fm_free(handle->data);
}

static void exited(uv_process_t *handle, int64_t exit_status, int signal_number)
{
    struct fm_child *child = handle->data;
    child->running = false;
    if (child->ended != NULL) {
        child->ended(child->context, exit_status, signal_number);
    }
}

int fm_child_start(struct fm_loop *loop, const struct fm_child_options *options,
                   struct fm_child **ret_child, struct fm_error *reterr)
{
    char program[PATH_BYTES];
    size_t size = sizeof(program);
    int result = uv_exepath(program, &size);
    struct fm_child *child = fm_alloc_zero(1, sizeof(*child));
    if (result != 0 || child == NULL) {
        fm_free(child);
        return fm_error_set(reterr, result != 0 ? FM_EIO : FM_ENOMEM, "cannot start a process: %s",
                            result != 0 ? uv_strerror(result) : "out of memory");
    }
    uv_stdio_container_t files[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2},
                                     {.flags = UV_INHERIT_FD, .data.fd = 2}};
    uv_process_options_t wanted = {.exit_cb = exited,
                                   .file = program,
                                   .args = (char **)options->arguments,
                                   .stdio_count = 3,
                                   .stdio = files};
    child->ended = options->ended;
    child->context = options->context;
    child->handle.data = child;
    result = uv_spawn(fm_loop_uv(loop), &child->handle, &wanted);
    if (result != 0) {
        child->ended = NULL;
        uv_close((uv_handle_t *)&child->handle, freed);
        return fm_error_set(reterr, FM_EIO, "cannot start '%s': %s", program, uv_strerror(result));
    }
    child->running = true;
    *ret_child = child;
    return 0;
}

int fm_child_process(const struct fm_child *child)
{
    return child->handle.pid;
}

bool fm_child_running(const struct fm_child *child)
{
    return child->running;
}

void fm_child_terminate(struct fm_child *child)
{
    if (child->running) {
        (void)uv_process_kill(&child->handle, SIGTERM);
    }
}

void fm_child_kill(struct fm_child *child)
{
    if (child->running) {
        (void)uv_process_kill(&child->handle, SIGKILL);
    }
}

void fm_child_close(struct fm_child *child)
{
    if (child != NULL) {
        child->ended = NULL;
        uv_close((uv_handle_t *)&child->handle, freed);
    }
}

void fm_child_describe(int64_t exit_status, int signal_number, char *text, size_t size)
{
    if (signal_number != 0) {
        (void)snprintf(text, size, "signal %d (%s)", signal_number, strsignal(signal_number));
    } else {
        (void)snprintf(text, size, "exit code %" PRId64, exit_status);
    }
}

bool fm_child_is_crash(int signal_number)
{
    return signal_number == SIGSEGV || signal_number == SIGABRT || signal_number == SIGBUS ||
           signal_number == SIGFPE || signal_number == SIGILL || signal_number == SIGSYS ||
           signal_number == SIGTRAP;
}

bool fm_child_is_kill(int signal_number)
{
    return signal_number == SIGKILL;
}
