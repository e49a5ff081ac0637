/*
 * trace_text: both forms, exact nanoseconds, and every complaint with its line.
 */
#include "core/load/trace_text.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

static uint64_t *times;
static uint64_t count;
static struct fm_error error;

static int parse_with(struct fm_trace_text_options options, const char *text)
{
    fm_free(times);
    options.name = "t.csv";
    error = (struct fm_error){0};
    return fm_trace_text_parse(&options, text, strlen(text), &times, &count, &error);
}

static int parse(const char *column, const char *text)
{
    return parse_with((struct fm_trace_text_options){.column = column}, text);
}

/* The message, or "" where there was no error. */
static const char *complaint(const char *column, const char *text)
{
    int status = parse(column, text);
    return status == FM_EINVAL && times == NULL && count == 0 ? error.text : "";
}

TEST(one_time_per_line)
{
    CHECK_INT_EQ(parse(NULL, "\xEF\xBB\xBF# a trace\n\n0\n 0.5 # half\r\n0.5\n+1.25\t\n2"), 0);
    const uint64_t expected[] = {0, 500000000, 500000000, 1250000000, 2000000000};
    CHECK_UINT_EQ(count, 5);
    CHECK_MEM_EQ(times, expected, sizeof(expected));
}

TEST(a_column_of_csv)
{
    CHECK_INT_EQ(parse("timestamp",
                       "# made by hand\nid, \"timestamp\" ,note\n1,0.1,\"a, \"\"b\"\"\""
                       "\r\n\n2,\"0.2\",\n"),
                 0);
    const uint64_t expected[] = {100000000, 200000000};
    CHECK_UINT_EQ(count, 2);
    CHECK_MEM_EQ(times, expected, sizeof(expected));
    CHECK_INT_EQ(parse("only", "only\n3\n"), 0);
    CHECK_UINT_EQ(times[0], 3000000000);
}

TEST(nanoseconds_are_exact)
{
    static const struct {
        const char *text;
        uint64_t time_ns;
    } cases[] = {
        {"0.000000001", 1},
        {"0.0000000005", 1},
        {"0.00000000049999999999999999999999", 0},
        {"1.0000000014999", 1000000001},
        {"1e-05", 10000},
        {"1.000000000000000000e+00", 1000000000},
        {"12.5E2", 1250000000000},
        {".5", 500000000},
        {"5.", 5000000000},
        {"0e99999999999999999999", 0},
        {"7e-99999999999999999999", 0},
        {"6e-10", 1},
        {"4e-10", 0},
        {"0000000000000000000000000000001", 1000000000},
        {"1700000000.123456789", 1700000000123456789},
        {"18446744073.709551613", UINT64_MAX - 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT_EQ(parse(NULL, cases[i].text), 0);
        CHECK_UINT_EQ(count, 1);
        CHECK_UINT_EQ(times[0], cases[i].time_ns);
    }
}

TEST(counted_from_the_first)
{
    struct fm_trace_text_options options = {.from_first = true};
    CHECK_INT_EQ(parse_with(options, "1700000000.5\n1700000000.5\n1700000002.75\n"), 0);
    CHECK_UINT_EQ(times[0], 0);
    CHECK_UINT_EQ(times[1], 0);
    CHECK_UINT_EQ(times[2], 2250000000);
}

TEST(other_times_come_in_any_order)
{
    struct fm_trace_text_options options = {.any_order = true};
    CHECK_INT_EQ(parse_with(options, "2\n1.5\n3\n"), 0);
    CHECK_UINT_EQ(times[0], 2000000000);
    CHECK_UINT_EQ(times[1], 1500000000);
    CHECK_UINT_EQ(times[2], 3000000000);
}

TEST(complaints_name_the_line)
{
    CHECK_STR_CONTAINS(complaint(NULL, "1\n2\n1.5\n"), "t.csv:3: \"1.5\" is before");
    CHECK_STR_CONTAINS(complaint(NULL, "# x\n\n-1\n"), "t.csv:3: \"-1\" is not a time");
    const char *const bad[] = {"x",     ".",   "1.2.3", "1e",  "1e+", "1e1.5", "0x10",
                               "1 2",   "nan", "inf",   "1s",  "++1", "e5",    "1,5",
                               "\"1\"", "--1", "+",     "1e-", "1_0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_STR_CONTAINS(complaint(NULL, bad[i]), "t.csv:1: ");
        CHECK_STR_CONTAINS(complaint(NULL, bad[i]), "is not a time in seconds");
    }
    CHECK_STR_CONTAINS(complaint(NULL, "time,x\n"), "name the column");
    CHECK(!fm_test_contains(complaint(NULL, "x\n"), "name the column"));
    const char *const late[] = {"18446744073.709551614", "18446744074", "1e11", "1e99999",
                                "99999999999999999999999999"};
    for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++) {
        CHECK_STR_CONTAINS(complaint(NULL, late[i]), "is too late");
    }
    CHECK_STR_CONTAINS(complaint(NULL, ""), "t.csv: holds no times");
    CHECK_STR_CONTAINS(complaint(NULL, "# nothing\n\n"), "holds no times");
}

TEST(complaints_about_csv)
{
    CHECK_STR_CONTAINS(complaint("t", "a,b\n1,2\n"),
                       "t.csv:1: no column is named \"t\"; the header is \"a,b\"");
    CHECK_STR_CONTAINS(complaint("t", "t,b,t\n1,2,3\n"), "more than one column is named \"t\"");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n1,2\n3\n"), "t.csv:3: 1 fields, but the header has 2");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n1,2,3\n"), "t.csv:2: 3 fields");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n\"1,2\n"), "t.csv:2: a field's double quotes");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n\"1\"x,2\n"), "t.csv:2: a field's double quotes");
    CHECK_STR_CONTAINS(complaint("t", "\"a,t\n"), "t.csv:1: a field's double quotes");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n1,\n"), "t.csv:2: \"\" is not a time");
    CHECK_STR_CONTAINS(complaint("t", "a,t\n"), "holds no times");
    CHECK_STR_CONTAINS(complaint("t", ""), "holds no times");
}

TEST(limits_and_memory)
{
    struct fm_trace_text_options options = {.times_max = 2};
    CHECK_INT_EQ(parse_with(options, "1\n2\n"), 0);
    CHECK_INT_EQ(parse_with(options, "1\n2\n3\n"), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(error.text, "t.csv:3: more than the limit of 2 times");
    CHECK_PTR_EQ(times, NULL);
    static char text[6001];
    memset(text, '1', 6000);
    for (size_t i = 1; i < 6000; i += 2) {
        text[i] = '\n';
    }
    uint64_t nth = 1;
    for (int status = FM_ENOMEM; status != 0; nth++) {
        (void)fm_memory_fail_at(nth, 0);
        status = parse(NULL, text);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || (status == FM_ENOMEM && times == NULL && count == 0));
        CHECK(status == 0 || fm_test_contains(error.text, "out of memory"));
    }
    CHECK_UINT_EQ(count, 3000);
    CHECK_UINT_EQ(nth, 5); /* three growths, and the run in which none failed */
    fm_free(times);
    times = NULL;
}

TEST_MAIN()
