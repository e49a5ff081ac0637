/*
 * The log: both formats, escaping, levels, the rate limit of a place in the code, and many threads
 * at once.
 */
#include "host/os/log.h"

#include <stdlib.h>
#include <unistd.h>

#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

static int ends[2];

static int start(enum fm_log_format format, enum fm_log_level level)
{
    struct fm_log_options options = {.level = level, .format = format};
    if (pipe(ends) != 0) {
        return -1;
    }
    options.descriptor = ends[1];
    return fm_log_start(&options, NULL);
}

static const char *finish(char *text, size_t size)
{
    fm_log_stop();
    (void)close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length + 1 < size && (got = read(ends[0], text + length, size - 1 - length)) > 0) {
        length += (size_t)got;
    }
    text[length] = '\0';
    (void)close(ends[0]);
    return text;
}

TEST(text_records)
{
    char text[4096];
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    fm_log(FM_LOG_INFO, "model_ready", FM_LOG_TEXT("model", "ocr"), FM_LOG_UINT("version", 3),
           FM_LOG_NUMBER("load_s", 0.5), FM_LOG_FLAG("warm", true), FM_LOG_INT("delta", -2));
    fm_log(FM_LOG_DEBUG, "hidden", FM_LOG_TEXT("x", "y"));
    fm_log(FM_LOG_ERROR, "bad", FM_LOG_TEXT("why", "line\nbreak \"x\" =1"),
           FM_LOG_TEXT("none", NULL), FM_LOG_TEXT("e", "\xFF\x1b[2J"));
    finish(text, sizeof(text));
    CHECK_STR_CONTAINS(text,
                       "Z info    model_ready model=ocr version=3 load_s=0.5 warm=true delta=-2\n");
    CHECK(strstr(text, "hidden") == NULL);
    CHECK_STR_CONTAINS(
        text,
        "error   bad why=\"line\\nbreak \\\"x\\\" =1\" none=\"\" e=\"\xEF\xBF\xBD\\u001b[2J\"\n");
}

TEST(json_records)
{
    char text[4096];
    CHECK_INT_EQ(start(FM_LOG_FORMAT_JSON, FM_LOG_DEBUG), 0);
    fm_log(FM_LOG_WARNING, "odd", FM_LOG_TEXT("why", "a\"b"),
           FM_LOG_UINT("n", 18446744073709551615u));
    finish(text, sizeof(text));
    CHECK_STR_CONTAINS(text, "{\"time\":\"2");
    CHECK_STR_CONTAINS(text, "\",\"level\":\"warning\",\"event\":\"odd\",\"why\":\"a\\\"b\",\"n\":"
                             "18446744073709551615}\n");
}

TEST(the_latest_records_can_be_asked_for)
{
    static char text[1 << 16];
    static struct fm_log_site sites[FM_LOG_RECENT_MAX + 5];
    struct fm_text recent = {0};
    fm_log_recent(&recent);
    CHECK_UINT_EQ(recent.length, 0);
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    for (uint32_t i = 0; i < FM_LOG_RECENT_MAX + 5; i++) {
        fm_log_write(&sites[i], FM_LOG_INFO, "row", &FM_LOG_UINT("i", i), 1);
    }
    fm_log(FM_LOG_DEBUG, "hidden", FM_LOG_TEXT("x", "y"));
    fm_log_recent(&recent);
    uint32_t lines = 0;
    for (size_t i = 0; i < recent.length; i++) {
        lines += recent.data[i] == '\n' ? 1 : 0;
    }
    CHECK_UINT_EQ(lines, FM_LOG_RECENT_MAX);
    CHECK_STR_CONTAINS(recent.data, "\"level\":\"info\",\"event\":\"row\",\"i\":5}\n");
    CHECK_STR_CONTAINS(recent.data, "\"i\":68}\n");
    CHECK(!fm_test_contains(recent.data, "\"i\":4}"));
    CHECK(!fm_test_contains(recent.data, "hidden"));
    fm_text_deinit(&recent);
    finish(text, sizeof(text));
}

TEST(a_place_that_logs_too_much_is_limited)
{
    static char text[65536];
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    for (int i = 0; i < 1000; i++) {
        fm_log(FM_LOG_INFO, "storm", FM_LOG_INT("i", i));
    }
    finish(text, sizeof(text));
    int lines = 0;
    for (const char *at = text; (at = strstr(at, "storm")) != NULL; at++) {
        lines++;
    }
    CHECK_INT_LE(FM_LOG_BURST, lines);
    CHECK_INT_LT(lines, 200);
}

static void trickle(int count)
{
    for (int i = 0; i < count; i++) {
        fm_log(FM_LOG_ERROR, "once", FM_LOG_INT("i", i));
    }
}

/* All that were written, and all that were said to be left out. */
static unsigned long accounted(const char *text)
{
    unsigned long records = 0;
    for (const char *at = text; (at = strstr(at, " once i=")) != NULL; at++) {
        records++;
    }
    for (const char *at = text; (at = strstr(at, "suppressed=")) != NULL; at++) {
        records += strtoul(at + strlen("suppressed="), NULL, 10);
    }
    for (const char *at = text; (at = strstr(at, "of=once records=")) != NULL; at++) {
        records += strtoul(at + strlen("of=once records="), NULL, 10);
    }
    return records;
}

TEST(what_was_left_out_is_said_when_nothing_comes_any_more)
{
    static char text[65536];
    struct fm_text recent = {0};
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    trickle(300);
    /* While the log goes on, by itself ... */
    uint64_t end_ns = fm_os_now_ns() + 30 * UINT64_C(1000000000);
    while (!fm_test_contains(recent.data != NULL ? recent.data : "", "log_suppressed") &&
           fm_os_now_ns() < end_ns) {
        fm_sleep_until(fm_os_now_ns() + 10000000);
        fm_text_clear(&recent);
        fm_log_recent(&recent);
    }
    CHECK(fm_test_contains(recent.data, "\"level\":\"error\",\"event\":\"log_suppressed\""));
    fm_text_deinit(&recent);
    /* ... and at its end. */
    trickle(200);
    finish(text, sizeof(text));
    CHECK_INT_EQ(accounted(text), 500);
    CHECK(strstr(strstr(text, "log_suppressed") + 1, "log_suppressed") != NULL);
}

TEST(long_values_are_cut_and_nothing_is_written_before_the_start)
{
    static char text[65536];
    static char value[10000];
    fm_log(FM_LOG_ERROR, "early", FM_LOG_TEXT("x", "y"));
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    memset(value, 'v', sizeof(value) - 1);
    fm_log(FM_LOG_INFO, "long", FM_LOG_TEXT("value", value));
    fm_log_flush(1000000000);
    finish(text, sizeof(text));
    CHECK(strstr(text, "early") == NULL);
    CHECK_INT_LT(strlen(text), FM_LOG_TEXT_BYTES_MAX + 200);
}

static void storm(void *argument)
{
    (void)argument;
    for (int i = 0; i < 2000; i++) {
        fm_log(FM_LOG_INFO, "many", FM_LOG_INT("i", i));
    }
}

TEST(threads_share_it)
{
    static char text[1 << 20];
    CHECK_INT_EQ(start(FM_LOG_FORMAT_TEXT, FM_LOG_INFO), 0);
    struct fm_thread threads[4] = {0};
    for (int i = 0; i < 4; i++) {
        CHECK_INT_EQ(fm_thread_start(&threads[i], "storm", storm, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        fm_thread_join(&threads[i]);
    }
    finish(text, sizeof(text));
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        CHECK(strncmp(line, "20", 2) == 0);
        CHECK(strchr(line, '\n') != NULL);
    }
}

TEST_MAIN()
