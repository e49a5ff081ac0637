/*
 * A failed assertion names the place and the condition and ends the process by SIGABRT, in release
 * builds too.
 *
 * The .c file is included so that the counters of coverage builds are written before the process
 * ends.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/test.h"

#if FM_COVERAGE
void __gcov_dump(void);
#endif

static _Noreturn void dump_counters_and_abort(void)
{
#if FM_COVERAGE
    __gcov_dump();
#endif
    abort();
}

#define abort() dump_counters_and_abort()
#include "core/util/assert.c"
#undef abort

TEST(false_condition_aborts_with_its_place)
{
    int ends[2];
    CHECK_INT_EQ(pipe(ends), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK_INT_NE(child, -1);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        FM_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    close(ends[1]);
    char text[512] = "";
    size_t length = 0;
    ssize_t got = 0;
    while (length < sizeof(text) - 1 &&
           (got = read(ends[0], text + length, sizeof(text) - 1 - length)) > 0) {
        length += (size_t)got;
    }
    close(ends[0]);
    int status = 0;
    CHECK_INT_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    CHECK_INT_EQ(WTERMSIG(status), SIGABRT);
    CHECK_STR_CONTAINS(text, "1 + 1 == 3");
    CHECK_STR_CONTAINS(text, "tests/unit/core/util/assert.c:");
}

TEST(true_condition_does_nothing_and_is_evaluated_once)
{
    int count = 0;
    FM_ASSERT(++count == 1);
    CHECK_INT_EQ(count, 1);
}

TEST_MAIN()
