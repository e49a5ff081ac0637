/*
 * Programs as children. See program.h.
 *
 * HOW IT WORKS. As in successor.c, everything is laid out first; then the process is split (vfork),
 * and the new half only moves descriptors, resets signals and executes the program.
 * PR_SET_PDEATHSIG is told of the end of a thread, not of a process: hence the rule in the header.
 */
#include "host/os/program.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/os.h"

enum { STANDARD_FILES = 3, GIVEN_FILES = 4, EXEC_FAILED = 127, PATH_SIZE = 4096, SIGNALS_MAX = 64 };

/* As much as is given to anybody: big tensors go in fewer pieces. */
#define PIPE_BYTES (1 << 20)
/* <linux/close_range.h>, which older kernels' headers do not have. */
#define CLOSE_ON_EXEC (1u << 2)

/* --- Finding it --- */

static bool is_executable(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && access(path, X_OK) == 0;
}

static int find_by_path(const char *name, const char *directory, char *ret_path, size_t size,
                        struct fm_error *reterr)
{
    char path[PATH_SIZE];
    struct stat facts;
    if (fm_path_join(path, sizeof(path), directory, name) != 0 || strlen(name) >= size) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path of the program is too long");
    }
    if (!is_executable(path)) {
        if (stat(path, &facts) != 0) {
            return fm_error_set(reterr, errno == ENOENT ? FM_ENOTFOUND : FM_EIO,
                                "there is no program '%s': %s", path, strerror(errno));
        }
        return fm_error_set(reterr, FM_EPERM, "'%s' cannot be executed; try: chmod +x", path);
    }
    /* The new half is in the directory already when it executes this. */
    memcpy(ret_path, name, strlen(name) + 1);
    return 0;
}

int fm_program_find(const char *name, const char *directory, char *ret_path, size_t size,
                    struct fm_error *reterr)
{
    if (strchr(name, '/') != NULL) {
        return find_by_path(name, directory, ret_path, size, reterr);
    }
    const char *folders = fm_os_environment("PATH");
    while (folders != NULL && *folders != '\0' && name[0] != '\0') {
        const char *end = strchrnul(folders, ':');
        /* Only what is absolute: another directory is the current one by then. */
        int length = snprintf(ret_path, size, "%.*s/%s", (int)(end - folders), folders, name);
        if (folders[0] == '/' && length > 0 && (size_t)length < size && is_executable(ret_path)) {
            return 0;
        }
        folders = *end == ':' ? end + 1 : end;
    }
    return fm_error_set(reterr, FM_ENOTFOUND, "there is no program '%s' on PATH%s", name,
                        strchr(name, ' ') != NULL
                            ? "; program and arguments are a list, as [python3, tool.py]"
                            : "");
}

/* --- Starting it --- */

struct plan {
    const struct fm_program_command *command;
    int theirs[STANDARD_FILES];
    int report[2]; /* a pipe: what the new half could not do; closed by executing the program */
    pid_t parent;
};

static _Noreturn void report(const struct plan *plan, int error)
{
    (void)!write(plan->report[1], &error, sizeof(error));
    _exit(EXEC_FAILED);
}

/* The new half. It shares our memory: nothing but system calls. */
static _Noreturn void become(const struct plan *plan)
{
    sigset_t none;
    /* The kernel's own form, all of it zero: SIG_DFL. The C library's would go through a sanitizer,
     * which would note it for the process that we share our memory with. */
    static const unsigned long usual[8];
    for (int i = 1; i <= SIGNALS_MAX; i++) {
        (void)syscall(SYS_rt_sigaction, i, usual, NULL, (size_t)SIGNALS_MAX / 8);
    }
    (void)setsid();
    /* Should we have ended before this was asked for, nobody would tell. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != plan->parent) {
        report(plan, errno != 0 ? errno : ESRCH);
    }
    for (int i = 0; i < STANDARD_FILES; i++) {
        if (dup2(plan->theirs[i], i) < 0) {
            report(plan, errno);
        }
    }
    int memory = plan->command->memory;
    if (memory == FM_PROGRAM_MEMORY ? fcntl(memory, F_SETFD, 0) != 0
                                    : memory > 0 && dup2(memory, FM_PROGRAM_MEMORY) < 0) {
        report(plan, errno);
    }
    if (chdir(plan->command->directory) != 0) {
        report(plan, errno);
    }
#ifdef SYS_close_range
    /* Ours are close-on-exec from birth; this is for libraries whose are not. */
    (void)syscall(SYS_close_range, memory > 0 ? (unsigned)GIVEN_FILES : (unsigned)STANDARD_FILES,
                  ~0u, CLOSE_ON_EXEC);
#endif
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execve(plan->command->path, (char *const *)plan->command->arguments, environ);
    report(plan, errno);
}

static pid_t split(const struct plan *plan)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    /* A signal that reaches the new half first must not run handlers in our memory. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = 0;
    pid_t process = vfork();
    if (process == 0) {
        become(plan);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return process;
}

/* A pipe with no end among the files that the new half overwrites. */
static int pipe_make(int *ret_read, int *ret_write)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= GIVEN_FILES) {
            continue;
        }
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, GIVEN_FILES);
        int error = errno;
        (void)close(ends[i]);
        ends[i] = moved;
        if (moved < 0) {
            (void)close(ends[1 - i]);
            return error;
        }
    }
    *ret_read = ends[0];
    *ret_write = ends[1];
    return 0;
}

static int ours_make(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    return fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : errno;
}

static int pipes_make(struct plan *plan, struct fm_program *program)
{
    int error = pipe_make(&plan->theirs[0], &program->input);
    error = error != 0 ? error : pipe_make(&program->output, &plan->theirs[1]);
    error = error != 0 ? error : pipe_make(&program->error, &plan->theirs[2]);
    error = error != 0 ? error : pipe_make(&plan->report[0], &plan->report[1]);
    error = error != 0 ? error : ours_make(program->input);
    error = error != 0 ? error : ours_make(program->output);
    error = error != 0 ? error : ours_make(program->error);
    if (error == 0) {
        (void)fcntl(program->input, F_SETPIPE_SZ, PIPE_BYTES);
        (void)fcntl(program->output, F_SETPIPE_SZ, PIPE_BYTES);
    }
    return error;
}

void fm_program_descriptor_close(int *descriptor)
{
    if (*descriptor >= 0) {
        (void)close(*descriptor);
    }
    *descriptor = -1;
}

static int exit_open(pid_t process)
{
#ifdef SYS_pidfd_open
    /* Close-on-exec by itself. */
    return (int)syscall(SYS_pidfd_open, process, 0u);
#else
    (void)process;
    return -1;
#endif
}

/* Empty once the program is executed; else why it is not. */
static int report_read(const struct plan *plan)
{
    int error = 0;
    ssize_t got = -1;
    do {
        got = read(plan->report[0], &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
    return got > 0 ? error : 0;
}

int fm_program_start(const struct fm_program_command *command, struct fm_program *ret_program,
                     struct fm_error *reterr)
{
    struct plan plan = {.command = command, .theirs = {-1, -1, -1}, .report = {-1, -1}};
    struct fm_program program = {.input = -1, .output = -1, .error = -1, .exit = -1};
    int status = 0;
    pid_t process = -1;
    plan.parent = getpid();
    int error = pipes_make(&plan, &program);
    if (error == 0) {
        process = split(&plan);
        error = process < 0 ? errno : 0;
    }
    if (error != 0) {
        status = fm_error_set(reterr, error == ENOMEM ? FM_ENOMEM : FM_EIO,
                              "cannot start a process: %s", strerror(error));
    }
    fm_program_descriptor_close(&plan.report[1]);
    if (process > 0) {
        error = report_read(&plan);
        if (error != 0) {
            (void)waitpid(process, NULL, 0);
            status = fm_error_set(reterr, error == ENOMEM ? FM_ENOMEM : FM_EIO,
                                  "cannot run '%s' in '%s': %s", command->path, command->directory,
                                  strerror(error));
        }
    }
    fm_program_descriptor_close(&plan.report[0]);
    for (int i = 0; i < STANDARD_FILES; i++) {
        fm_program_descriptor_close(&plan.theirs[i]);
    }
    if (status != 0) {
        fm_program_descriptor_close(&program.input);
        fm_program_descriptor_close(&program.output);
        fm_program_descriptor_close(&program.error);
        return status;
    }
    program.process = process;
    program.exit = exit_open(process);
    *ret_program = program;
    return 0;
}

/* --- Its end --- */

void fm_program_kill(const struct fm_program *program)
{
    if (program->process > 0) {
        (void)kill(-program->process, SIGKILL);
    }
}

bool fm_program_reap(struct fm_program *program, struct fm_program_end *ret_end)
{
    int result = 0;
    siginfo_t seen = {0};
    /* First looked at only: as long as it is there, its number and its group's are its own. */
    int found = waitid(P_PID, (id_t)program->process, &seen, WEXITED | WNOHANG | WNOWAIT);
    if (found == 0 && seen.si_pid == 0) {
        return false;
    }
    *ret_end = (struct fm_program_end){0};
    if (found == 0) {
        fm_program_kill(program);
        pid_t reaped = -1;
        do {
            reaped = waitpid(program->process, &result, 0);
        } while (reaped < 0 && errno == EINTR);
        ret_end->known = reaped == program->process;
        ret_end->signal = WIFSIGNALED(result) ? WTERMSIG(result) : 0;
        ret_end->code = WIFEXITED(result) ? WEXITSTATUS(result) : 0;
    }
    program->process = 0;
    return true;
}

void fm_program_describe(const struct fm_program_end *end, char *text, size_t size)
{
    if (!end->known) {
        (void)snprintf(text, size, "an exit code that nobody knows");
    } else if (end->signal != 0) {
        (void)snprintf(text, size, "signal %d (%s)", end->signal, strsignal(end->signal));
    } else {
        (void)snprintf(text, size, "exit code %d", end->code);
    }
}
