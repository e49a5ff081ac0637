/*
 * A program that was started without its standard files has them after all.
 */
#include "host/os/standard_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/test.h"

TEST(what_is_missing_becomes_the_null_device)
{
    char byte = 'x';
    /* Standard output stays: it carries this test's result. */
    (void)close(STDIN_FILENO);
    (void)close(STDERR_FILENO);
    CHECK(fm_standard_files_open());
    CHECK_INT_EQ(read(STDIN_FILENO, &byte, 1), 0);
    CHECK_INT_EQ(write(STDERR_FILENO, &byte, 1), 1);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK_INT_GT(next, STDERR_FILENO);
    (void)close(next);
}

TEST(output_that_nobody_can_have_cannot_be_written)
{
    CHECK(fm_standard_output_is_writable());
    pid_t child = fork();
    if (child == 0) { /* standard output here carries this test's result */
        (void)close(STDOUT_FILENO);
        bool opened = fm_standard_files_open();
        bool failed = write(STDOUT_FILENO, "x", 1) == -1 && errno == EBADF;
        _exit(opened && failed && !fm_standard_output_is_writable() ? 0 : 1);
    }
    int state = -1;
    CHECK_INT_EQ(waitpid(child, &state, 0), child);
    CHECK_INT_EQ(state, 0);
}

TEST(what_is_there_stays)
{
    int ends[2];
    char byte = 'x';
    CHECK_INT_EQ(pipe(ends), 0);
    CHECK_INT_EQ(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    CHECK(fm_standard_files_open());
    CHECK_INT_EQ(write(ends[1], "y", 1), 1);
    CHECK_INT_EQ(read(STDIN_FILENO, &byte, 1), 1);
    CHECK_INT_EQ(byte, 'y');
}

TEST_MAIN()
