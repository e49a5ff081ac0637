/* Tests of host/os/process: what a dead reader and a full quota do, and where work runs. */
#include "host/os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/os/thread.h"
#include "tests/harness/test.h"

TEST(a_reader_that_left_is_an_error_of_the_write)
{
    int ends[2];
    fm_process_prepare();
    CHECK_INT_EQ(pipe(ends), 0);
    (void)close(ends[0]);
    CHECK_INT_EQ(write(ends[1], "x", 1), -1);
    CHECK_INT_EQ(errno, EPIPE);
    (void)close(ends[1]);
}

TEST(a_file_at_its_limit_is_an_error_of_the_write)
{
    struct rlimit before;
    char path[] = "/tmp/fm-process-XXXXXX";
    fm_process_prepare();
    CHECK_INT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    int file = mkstemp(path);
    CHECK(file >= 0);
    (void)unlink(path);
    struct rlimit limit = {.rlim_cur = 4, .rlim_max = before.rlim_max};
    CHECK_INT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ssize_t first = write(file, "12345678", 8);
    ssize_t second = write(file, "x", 1);
    int error = errno;
    CHECK_INT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)close(file);
    CHECK_INT_EQ(first, 4);
    CHECK_INT_EQ(second, -1);
    CHECK_INT_EQ(error, EFBIG);
}

TEST(how_a_child_ended_is_told_though_our_parent_ignores_it)
{
    int result = 0;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    fm_process_prepare();
    pid_t child = fork();
    if (child == 0) {
        _exit(3);
    }
    CHECK_INT_EQ(waitpid(child, &result, 0), child);
    CHECK(WIFEXITED(result));
    CHECK_INT_EQ(WEXITSTATUS(result), 3);
}

static int note_thread(void *argument)
{
    *(pthread_t *)argument = pthread_self();
    return 7;
}

TEST(work_leaves_a_main_thread_with_a_small_stack)
{
    struct rlimit before;
    pthread_t usual = pthread_self();
    pthread_t small = pthread_self();
    CHECK_INT_EQ(getrlimit(RLIMIT_STACK, &before), 0);
    struct rlimit limit = {.rlim_cur = 4u << 20, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
    int usual_result = fm_process_run(note_thread, &usual);
    limit.rlim_cur = 512u << 10;
    CHECK(setrlimit(RLIMIT_STACK, &limit) == 0);
    int small_result = fm_process_run(note_thread, &small);
    CHECK_INT_EQ(setrlimit(RLIMIT_STACK, &before), 0);
    CHECK_INT_EQ(usual_result, 7);
    CHECK_INT_EQ(small_result, 7);
    CHECK(pthread_equal(usual, pthread_self()));
    CHECK(!pthread_equal(small, pthread_self()));
}

TEST_MAIN()
