/*
 * Starting this program again. See successor.h.
 *
 * HOW IT WORKS. Everything that the new process needs is laid out first. Then the process is split
 * (vfork: no memory is copied, which could take as long as loading a model), and the new half only
 * moves descriptors to their places and executes the program: it shares our memory until then, so
 * it may do no more than that.
 */
#include "host/os/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum { FIRST_DESCRIPTOR = 3, EXEC_FAILED = 127, PROCESS_ID_SIZE = 24 };

#define ARGUMENTS_BYTES_MAX ((size_t)4 << 20)
#define CHANNEL_VARIABLE    "FERMATA_UPGRADE_FD"
/* One that is ending has so long to do it by itself. */
#define END_NS      UINT64_C(1000000000)
#define END_STEP_NS UINT64_C(2000000)
/* <linux/close_range.h>, which older kernels' headers do not have. */
#define CLOSE_ON_EXEC (1u << 2)

/* --- Sockets --- */

int fm_handed_sockets_add(struct fm_handed_sockets *sockets, const char *name, int descriptor,
                          struct fm_error *reterr)
{
    if (descriptor < 0) {
        return 0;
    }
    if (sockets->count == FM_HANDED_SOCKETS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "more than %d sockets are listened on",
                            FM_HANDED_SOCKETS_MAX);
    }
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
    if (copy < 0) {
        return fm_error_set(reterr, FM_EIO, "cannot copy a listening socket: %s", strerror(errno));
    }
    struct fm_handed_socket *socket = &sockets->list[sockets->count++];
    (void)snprintf(socket->name, sizeof(socket->name), "%s", name);
    socket->descriptor = copy;
    return 0;
}

void fm_handed_sockets_close(struct fm_handed_sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->count; i++) {
        if (sockets->list[i].descriptor >= 0) {
            (void)close(sockets->list[i].descriptor);
        }
    }
    sockets->count = 0;
}

uint32_t fm_handed_sockets_count(const struct fm_handed_sockets *sockets, const char *name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sockets->count; i++) {
        count += strcmp(sockets->list[i].name, name) == 0 ? 1 : 0;
    }
    return count;
}

int fm_handed_sockets_take(struct fm_handed_sockets *sockets, const char *name, uint32_t index)
{
    for (uint32_t i = 0; i < sockets->count; i++) {
        struct fm_handed_socket *socket = &sockets->list[i];
        if (strcmp(socket->name, name) != 0 || index-- > 0) {
            continue;
        }
        int descriptor = socket->descriptor;
        socket->descriptor = -1;
        return descriptor > 0 ? descriptor : 0;
    }
    return 0;
}

/* --- What the new process is given --- */

struct plan {
    char *arguments_text;
    char **arguments;
    char **environment;
    char *path;
    struct fm_text descriptor_names;
    char listen_process[sizeof("LISTEN_PID=") + PROCESS_ID_SIZE]; /* filled in by the new half */
    char watchdog_process[sizeof("WATCHDOG_PID=") + PROCESS_ID_SIZE];
    char listen_count[40];
    char channel_variable[60];
    int *descriptors; /* in their order; the channel's end is the last */
    uint32_t descriptor_count;
    uint32_t copied; /* of descriptors: ours, to be closed */
    int report[2];   /* a pipe: what the new half could not do; closed by executing the program */
};

static void plan_release(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->copied; i++) {
        (void)close(plan->descriptors[i]);
    }
    for (int i = 0; i < 2; i++) {
        if (plan->report[i] > 0) {
            (void)close(plan->report[i]);
        }
    }
    fm_text_deinit(&plan->descriptor_names);
    fm_free(plan->descriptors);
    fm_free(plan->path);
    fm_free(plan->environment);
    fm_free(plan->arguments);
    fm_free(plan->arguments_text);
}

/* What this process was started with, as the kernel kept it. */
static int arguments_read(struct plan *plan, struct fm_error *reterr)
{
    struct fm_text text = {0};
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : 1;
    while (got > 0 && text.length < ARGUMENTS_BYTES_MAX) {
        char part[4096];
        got = read(file, part, sizeof(part));
        fm_text_append(&text, part, got > 0 ? (size_t)got : 0);
    }
    int error = errno;
    if (file >= 0) {
        (void)close(file);
    }
    size_t count = 0;
    for (size_t i = 0; got == 0 && i < text.length; i++) {
        count += text.data[i] == '\0' ? 1 : 0;
    }
    if (got != 0 || count == 0 || text.failed) {
        fm_text_deinit(&text);
        return fm_error_set(reterr, FM_EIO,
                            "cannot read what this process was started with from "
                            "/proc/self/cmdline: %s",
                            got < 0 ? strerror(error) : "too long, or empty");
    }
    plan->arguments_text = fm_text_take(&text);
    plan->arguments = fm_alloc_zero(count + 1, sizeof(char *));
    if (plan->arguments_text == NULL || plan->arguments == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the arguments");
    }
    char *at = plan->arguments_text;
    for (size_t i = 0; i < count; i++) {
        plan->arguments[i] = at;
        at += strlen(at) + 1;
    }
    return 0;
}

/* As whoever started us found it: /proc/self/exe would be the file that was there then, even when
 * it was replaced. */
static int program_find(struct plan *plan, struct fm_error *reterr)
{
    const char *name = plan->arguments[0];
    const char *folders = fm_os_environment("PATH");
    if (strchr(name, '/') != NULL) {
        plan->path = fm_strdup(name);
        if (plan->path == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the program's path");
        }
        return access(plan->path, X_OK) == 0
                   ? 0
                   : fm_error_set(reterr, errno == ENOENT ? FM_ENOTFOUND : FM_EIO,
                                  "cannot run '%s': %s", plan->path, strerror(errno));
    }
    while (folders != NULL && *folders != '\0') {
        struct fm_text path = {0};
        const char *end = strchrnul(folders, ':');
        fm_text_append(&path, folders, (size_t)(end - folders));
        fm_text_append_string(&path, end == folders ? "./" : "/");
        fm_text_append_string(&path, name);
        fm_free(plan->path);
        plan->path = fm_text_take(&path);
        if (plan->path != NULL && access(plan->path, X_OK) == 0) {
            return 0;
        }
        folders = *end == ':' ? end + 1 : end;
    }
    return fm_error_set(reterr, FM_ENOTFOUND, "there is no program '%s' on PATH any more", name);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Ours, without what was meant for this process and with what is meant for the new one. */
static int environment_make(struct plan *plan, struct fm_error *reterr)
{
    uint64_t process = 0;
    const char *watchdog = fm_os_environment("WATCHDOG_PID");
    bool watched = watchdog != NULL && fm_parse_uint64(watchdog, &process) == 0 &&
                   process == (uint64_t)getpid();
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    plan->environment = fm_alloc_zero(count + 6, sizeof(char *));
    if (plan->environment == NULL || plan->descriptor_names.failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the environment");
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!starts_with(environ[i], "LISTEN_PID=") && !starts_with(environ[i], "LISTEN_FDS=") &&
            !starts_with(environ[i], "LISTEN_FDNAMES=") &&
            !starts_with(environ[i], CHANNEL_VARIABLE "=") &&
            !(watched && starts_with(environ[i], "WATCHDOG_PID="))) {
            plan->environment[kept++] = environ[i];
        }
    }
    (void)snprintf(plan->listen_process, sizeof(plan->listen_process), "LISTEN_PID=");
    (void)snprintf(plan->watchdog_process, sizeof(plan->watchdog_process), "WATCHDOG_PID=");
    uint32_t sockets = plan->descriptor_count - 1;
    (void)snprintf(plan->listen_count, sizeof(plan->listen_count), "LISTEN_FDS=%u",
                   (unsigned)sockets);
    (void)snprintf(plan->channel_variable, sizeof(plan->channel_variable), CHANNEL_VARIABLE "=%u",
                   (unsigned)(FIRST_DESCRIPTOR + sockets));
    plan->environment[kept++] = plan->listen_process;
    plan->environment[kept++] = plan->listen_count;
    plan->environment[kept++] = plan->descriptor_names.data;
    plan->environment[kept++] = plan->channel_variable;
    if (watched) {
        plan->environment[kept++] = plan->watchdog_process;
    }
    return 0;
}

/* Above where the handed ones are to be, as those. */
static int report_open(struct plan *plan, uint32_t socket_count, struct fm_error *reterr)
{
    int ends[2] = {-1, -1};
    bool good = pipe2(ends, O_CLOEXEC) == 0;
    for (int i = 0; i < 2 && good; i++) {
        plan->report[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR + (int)socket_count + 1);
        good = plan->report[i] > 0;
    }
    int error = errno;
    for (int i = 0; i < 2 && ends[i] >= 0; i++) {
        (void)close(ends[i]);
    }
    return good ? 0 : fm_error_set(reterr, FM_EIO, "cannot make a pipe: %s", strerror(error));
}

/* Copies above where they are to be, so that none is in the way of another. */
static int descriptors_make(struct plan *plan, const struct fm_handed_sockets *sockets, int channel,
                            struct fm_error *reterr)
{
    plan->descriptor_count = sockets->count + 1;
    plan->descriptors = fm_alloc_zero(plan->descriptor_count, sizeof(int));
    if (plan->descriptors == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the sockets");
    }
    fm_text_append_string(&plan->descriptor_names, "LISTEN_FDNAMES=");
    for (uint32_t i = 0; i < plan->descriptor_count; i++) {
        bool is_socket = i < sockets->count;
        int descriptor = is_socket ? sockets->list[i].descriptor : channel;
        int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR + (int)sockets->count + 1);
        if (copy < 0) {
            return fm_error_set(reterr, FM_EIO, "cannot copy a socket for the new process: %s",
                                strerror(errno));
        }
        plan->descriptors[plan->copied++] = copy;
        if (is_socket) {
            fm_text_append_string(&plan->descriptor_names, i > 0 ? ":" : "");
            fm_text_append_string(&plan->descriptor_names, sockets->list[i].name);
        }
    }
    return report_open(plan, sockets->count, reterr);
}

/* --- Splitting --- */

static void process_id_write(char *text, pid_t process)
{
    char digits[PROCESS_ID_SIZE];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + process % 10);
        process /= 10;
    } while (process > 0);
    while (count > 0) {
        *text++ = digits[--count];
    }
    *text = '\0';
}

static void report(const struct plan *plan, int error)
{
    ssize_t written = write(plan->report[1], &error, sizeof(error));
    _exit(written > 0 ? EXEC_FAILED : EXEC_FAILED - 1);
}

/* The new half, in our memory: system calls only. */
static void become(struct plan *plan)
{
    sigset_t none;
    struct sigaction action;
    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN) {
            action = (struct sigaction){.sa_handler = SIG_DFL};
            (void)sigaction(number, &action, NULL);
        }
    }
    /* Until it watches signals itself, another request for an upgrade must not end it. */
    action = (struct sigaction){.sa_handler = SIG_IGN};
    (void)sigaction(SIGUSR2, &action, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    process_id_write(plan->listen_process + sizeof("LISTEN_PID=") - 1, getpid());
    process_id_write(plan->watchdog_process + sizeof("WATCHDOG_PID=") - 1, getpid());
    for (uint32_t i = 0; i < plan->descriptor_count; i++) {
        if (dup2(plan->descriptors[i], FIRST_DESCRIPTOR + (int)i) < 0) {
            report(plan, errno);
        }
    }
#ifdef SYS_close_range
    /* Ours are close-on-exec from birth; this is for libraries whose are not. */
    (void)syscall(SYS_close_range, (unsigned)FIRST_DESCRIPTOR + plan->descriptor_count, ~0u,
                  CLOSE_ON_EXEC);
#endif
    (void)execve(plan->path, plan->arguments, plan->environment);
    report(plan, errno);
}

static pid_t split(struct plan *plan)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    /* A signal that reaches the new half first must not run handlers in our memory. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t process = vfork();
    if (process == 0) {
        become(plan);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return process;
}

static int launch(struct fm_successor *successor, struct plan *plan, struct fm_error *reterr)
{
    int error = 0;
    pid_t process = split(plan);
    if (process < 0) {
        return fm_error_set(reterr, FM_EIO, "cannot start a process: %s", strerror(errno));
    }
    (void)close(plan->report[1]);
    plan->report[1] = -1;
    /* Empty once the program is executed. */
    ssize_t got = -1;
    do {
        got = read(plan->report[0], &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        (void)waitpid(process, NULL, 0);
        return fm_error_set(reterr, FM_EIO, "cannot run '%s': %s", plan->path, strerror(error));
    }
    successor->process = process;
    return 0;
}

int fm_successor_start(struct fm_successor *successor, const struct fm_handed_sockets *sockets,
                       struct fm_error *reterr)
{
    int pair[2] = {-1, -1};
    struct plan plan = {0};
    *successor = (struct fm_successor){.channel = -1};
    if (getpid() == 1) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "this process is the first of its container, which ends with it: run "
                            "it below an init (docker run --init)");
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return fm_error_set(reterr, FM_EIO, "cannot make a channel: %s", strerror(errno));
    }
    int status = arguments_read(&plan, reterr);
    status = status == 0 ? program_find(&plan, reterr) : status;
    status = status == 0 ? descriptors_make(&plan, sockets, pair[1], reterr) : status;
    status = status == 0 ? environment_make(&plan, reterr) : status;
    status = status == 0 ? launch(successor, &plan, reterr) : status;
    plan_release(&plan);
    (void)close(pair[1]);
    if (status != 0) {
        (void)close(pair[0]);
        return status;
    }
    successor->channel = pair[0];
    return 0;
}

/* --- Its end --- */

void fm_successor_release(struct fm_successor *successor)
{
    fm_channel_close(successor->channel);
    *successor = (struct fm_successor){.channel = -1};
}

void fm_successor_stop(struct fm_successor *successor)
{
    if (successor->process > 0) {
        (void)kill(successor->process, SIGTERM);
    }
    fm_successor_release(successor);
}

void fm_successor_end(struct fm_successor *successor, bool drains, char *ret_how, size_t size)
{
    int result = 0;
    bool ended = false;
    bool unknown = false;
    uint64_t until_ns = fm_os_now_ns() + END_NS;
    ret_how[0] = '\0';
    if (successor->process <= 0) {
        return;
    }
    /* The channel may be found closed a moment before the process is gone. */
    struct pollfd channel = {.fd = successor->channel, .events = POLLIN};
    bool ending = poll(&channel, 1, 0) > 0 && (channel.revents & POLLHUP) != 0;
    do {
        pid_t found = waitpid(successor->process, &result, WNOHANG);
        /* Where SIGCHLD is ignored, the system keeps no result, and may give the number away. */
        unknown = found < 0 && errno == ECHILD;
        ended = unknown || found == successor->process;
        if (!ended && ending) {
            fm_sleep_until(fm_os_now_ns() + END_STEP_NS);
        }
    } while (!ended && ending && fm_os_now_ns() < until_ns);
    if (!ended) {
        (void)kill(successor->process, drains ? SIGTERM : SIGKILL);
        while (waitpid(successor->process, NULL, 0) < 0 && errno == EINTR) {
        }
        (void)snprintf(ret_how, size, "it was ended");
    } else if (unknown) {
        (void)snprintf(ret_how, size, "it ended");
    } else if (WIFSIGNALED(result)) {
        (void)snprintf(ret_how, size, "it was killed by signal %d", WTERMSIG(result));
    } else {
        (void)snprintf(ret_how, size, "it ended with exit code %d", WEXITSTATUS(result));
    }
    fm_successor_release(successor);
}

/* --- In the new process --- */

static bool number_read(const char *variable, uint64_t most, uint64_t *ret_number)
{
    const char *text = fm_os_environment(variable);
    return text != NULL && fm_parse_uint64(text, ret_number) == 0 && *ret_number <= most;
}

int fm_predecessor_find(struct fm_handed_sockets *ret_sockets)
{
    uint64_t process = 0;
    uint64_t count = 0;
    uint64_t channel = 0;
    const char *names = fm_os_environment("LISTEN_FDNAMES");
    ret_sockets->count = 0;
    if (!number_read("LISTEN_PID", INT32_MAX, &process) || process != (uint64_t)getpid() ||
        !number_read("LISTEN_FDS", FM_HANDED_SOCKETS_MAX, &count) ||
        !number_read(CHANNEL_VARIABLE, INT32_MAX, &channel) ||
        channel != FIRST_DESCRIPTOR + count || names == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < count; i++) {
        const char *end = strchrnul(names, ':');
        struct fm_handed_socket *socket = &ret_sockets->list[ret_sockets->count++];
        socket->descriptor = FIRST_DESCRIPTOR + (int)i;
        (void)snprintf(socket->name, sizeof(socket->name), "%.*s", (int)(end - names), names);
        (void)fcntl(socket->descriptor, F_SETFD, FD_CLOEXEC);
        names = *end == ':' ? end + 1 : end;
    }
    return fcntl((int)channel, F_SETFD, FD_CLOEXEC) == 0 ? (int)channel : -1;
}

/* --- The channel --- */

static int channel_wait(int channel, short events, uint64_t deadline_ns)
{
    struct pollfd entry = {.fd = channel, .events = events};
    for (;;) {
        uint64_t now_ns = fm_os_now_ns();
        if (deadline_ns != 0 && now_ns >= deadline_ns) {
            return FM_EDEADLINE;
        }
        uint64_t left_ms = deadline_ns != 0 ? (deadline_ns - now_ns) / 1000000 + 1 : 0;
        int timeout = deadline_ns == 0 ? -1 : left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
        int result = poll(&entry, 1, timeout);
        if (result > 0) {
            return 0;
        }
        if (result < 0 && errno != EINTR) {
            return FM_EIO;
        }
    }
}

int fm_channel_send(int channel, const void *data, size_t size, uint64_t deadline_ns)
{
    const char *at = data;
    while (size > 0) {
        ssize_t sent = send(channel, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return FM_ECANCELLED;
        } else {
            int status = channel_wait(channel, POLLOUT, deadline_ns);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

int fm_channel_receive(int channel, void *data, size_t size, uint64_t deadline_ns)
{
    char *at = data;
    while (size > 0) {
        int status = channel_wait(channel, POLLIN, deadline_ns);
        if (status != 0) {
            return status;
        }
        ssize_t got = recv(channel, at, size, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            return FM_ECANCELLED;
        }
        at += got > 0 ? got : 0;
        size -= got > 0 ? (size_t)got : 0;
    }
    return 0;
}

void fm_channel_wake(int channel)
{
    (void)shutdown(channel, SHUT_RDWR);
}

void fm_channel_close(int channel)
{
    if (channel >= 0) {
        (void)close(channel);
    }
}
