/*
 * The server's own side of a look at the repositories that somebody asked for. How looks follow
 * each other is in tests/e2e/serve_models.py.
 */
#include "engines/serve/server.c"

#include <unistd.h>

#include "tests/harness/test.h"

static char lines[2000];
static unsigned told_ready;

static void on_line(void *context, const char *text, size_t length)
{
    size_t used = strlen(lines);
    (void)context;
    (void)snprintf(lines + used, sizeof(lines) - used, "%.*s\n", (int)length, text);
}

static void on_ready_told(struct fm_serve *serve)
{
    (void)serve;
    told_ready++;
}

TEST(a_look_that_fails_is_logged)
{
    static struct fm_serve serve;
    struct fm_error error = {0};
    const struct fm_log_options log = {.level = FM_LOG_INFO, .line = on_line};
    serve.owner.ready = on_ready_told;
    serve.polling.context = &serve;
    serve.polls = true;
    CHECK_INT_EQ(fm_log_start(&log, &error), 0);
    on_polled(&serve.polling);
    CHECK(!serve.polls);
    CHECK_INT_EQ(told_ready, 1);
    serve.polls = true;
    (void)fm_error_set(&serve.polling.error, FM_ENOMEM, "out of memory for the list");
    on_polled(&serve.polling);
    fm_log_stop();
    CHECK(strstr(lines, "poll_failed reason=\"out of memory for the list\"") != NULL);
    CHECK(strstr(lines, "poll_failed") == strstr(lines, "poll_failed reason=\"out"));
    /* Whoever waits for the end of reloading is told of it: what was served goes on. */
    CHECK_INT_EQ(told_ready, 2);
}

TEST_MAIN()
