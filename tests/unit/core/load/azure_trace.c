/*
 * azure_trace: both forms from files of their shape, and every complaint with its line.
 */
#include "core/load/azure_trace.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

#define MINUTE UINT64_C(60000000000)
#define HEADER "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n"
#define ROWS   "app,func,end_timestamp,duration\n"

/* Of tests/data: made up, in the form of the published files. */
#define APP_1      "dd311ca871902316d9841aab4ccec38d79d89a0da0c41aebb8f010b8e9a5b5ab"
#define FUNCTION_1 "6d10f35970d13a48f1b763357840fc1878d1fa0141312f12fa5a2bcc9b86ad34"
#define FUNCTION_3 "757ec8bcbd2c7d5df4c453ffe54864a79d86908fc65b7af4df6e0f2c1e772687"

static uint64_t *times;
static uint64_t count;
static struct fm_error error;

static int parse_with(struct fm_azure_trace_options options, const char *text, size_t size)
{
    fm_free(times);
    options.name = "a.csv";
    error = (struct fm_error){0};
    return fm_azure_trace_parse(&options, text, size, &times, &count, &error);
}

static int parse(enum fm_azure_trace_form form, const char *text)
{
    return parse_with((struct fm_azure_trace_options){.form = form}, text, strlen(text));
}

static int parse_file(struct fm_azure_trace_options options, const char *name)
{
    static char text[65536];
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/tests/data/%s", getenv("FM_SOURCE_ROOT"), name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return -1;
    }
    size_t size = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    return parse_with(options, text, size);
}

/* How many times lie in a minute, and whether all of them ascend. */
static uint64_t in_minute(uint64_t minute)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i++) {
        found += times[i] / MINUTE == minute;
    }
    return found;
}

static bool ascending(void)
{
    for (uint64_t i = 1; i < count; i++) {
        if (times[i] < times[i - 1]) {
            return false;
        }
    }
    return true;
}

TEST(counts_become_times_of_their_minutes)
{
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.seed = 1}, "azure_2019.csv"), 0);
    CHECK_UINT_EQ(count, 125 + 24 + 45);
    CHECK(ascending());
    CHECK_UINT_EQ(in_minute(0), 4); /* two functions */
    CHECK_UINT_EQ(in_minute(1), 0);
    CHECK_UINT_EQ(in_minute(2), 125);
    CHECK_UINT_EQ(in_minute(60), 1);
    CHECK_UINT_EQ(in_minute(700), 40);
    CHECK_UINT_EQ(in_minute(1439), 2);
    uint64_t first_ns = times[0];
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.seed = 1}, "azure_2019.csv"), 0);
    CHECK_UINT_EQ(times[0], first_ns);
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.seed = 2}, "azure_2019.csv"), 0);
    CHECK(times[0] != first_ns);
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.seed = 1, .from_first = true},
                            "azure_2019.csv"),
                 0);
    CHECK_UINT_EQ(times[0], 0);
}

TEST(rows_are_chosen)
{
    CHECK_INT_EQ(
        parse_file((struct fm_azure_trace_options){.function = FUNCTION_1}, "azure_2019.csv"), 0);
    CHECK_UINT_EQ(count, 125);
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.app = APP_1}, "azure_2019.csv"), 0);
    CHECK_UINT_EQ(count, 149);
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.app = APP_1, .function = FUNCTION_3},
                            "azure_2019.csv"),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "a.csv: no row is of application " APP_1 " and function 757ec");
    CHECK_INT_EQ(parse_file((struct fm_azure_trace_options){.form = FM_AZURE_TRACE_2021,
                                                            .function = FUNCTION_3},
                            "azure_2021.csv"),
                 0);
    CHECK_UINT_EQ(count, 2);
    CHECK_UINT_EQ(times[0], 125000000); /* the one that ended last */
    CHECK_UINT_EQ(times[1], 250000000);
}

/* Within a minute all moments are alike: the mean is its middle, the variance a twelfth. */
TEST(times_spread_over_the_minute)
{
    CHECK_INT_EQ(parse(FM_AZURE_TRACE_2019, HEADER "o,a,f,http,100000,0,100000\n"), 0);
    CHECK_UINT_EQ(count, 200000);
    CHECK(ascending());
    double mean = 0;
    double squares = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double share = (double)times[i] / (double)MINUTE;
        CHECK(share < 1);
        mean += share / 1e5;
        squares += (share - 0.5) * (share - 0.5) / 1e5;
    }
    CHECK_NEAR(mean, 0.5, 4.5 * sqrt(1.0 / 12 / 1e5));
    CHECK_NEAR(squares, 1.0 / 12, 4.5 * sqrt(1.0 / 180 / 1e5));
    CHECK(times[100000] >= 2 * MINUTE && times[count - 1] < 3 * MINUTE);
}

TEST(ends_become_arrivals)
{
    CHECK_INT_EQ(
        parse_file((struct fm_azure_trace_options){.form = FM_AZURE_TRACE_2021}, "azure_2021.csv"),
        0);
    /* The first one began a quarter of a second before the trace: all count from there. */
    const uint64_t expected[] = {0, 375000000, 500000000, 1625000000, 2750000150, 3500000000};
    CHECK_UINT_EQ(count, 6);
    CHECK_MEM_EQ(times, expected, sizeof expected);
    CHECK_INT_EQ(parse(FM_AZURE_TRACE_2021, "\xEF\xBB\xBF" ROWS "a,f,3,1\r\n\na,f,2.5,1\n"), 0);
    CHECK_UINT_EQ(count, 2);
    CHECK_UINT_EQ(times[0], 1500000000);
    CHECK_UINT_EQ(times[1], 2000000000);
    CHECK_INT_EQ(
        parse_with((struct fm_azure_trace_options){.form = FM_AZURE_TRACE_2021, .from_first = true},
                   ROWS "a,f,3,1\n", strlen(ROWS "a,f,3,1\n")),
        0);
    CHECK_UINT_EQ(times[0], 0);
    CHECK_INT_EQ(parse(FM_AZURE_TRACE_2021, ROWS "a,f,0,9223372036\na,f,9223372036,0\n"), 0);
    CHECK_UINT_EQ(times[1], UINT64_C(18446744072000000000));
}

/* The message, or "" where there was no error. */
static const char *complaint(enum fm_azure_trace_form form, const char *text)
{
    int status = parse(form, text);
    return status == FM_EINVAL && times == NULL && count == 0 ? error.text : "";
}

static const struct {
    enum fm_azure_trace_form form;
    const char *text;
    const char *message;
} mistakes[] = {
    {FM_AZURE_TRACE_2019, "", "a.csv: is empty; it must begin with the header"},
    {FM_AZURE_TRACE_2021, "\n\n", "a.csv: is empty"},
    {FM_AZURE_TRACE_2019, HEADER, "a.csv: holds no invocations"},
    {FM_AZURE_TRACE_2021, ROWS, "a.csv: holds no invocations"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,0,0,0\n", "holds no invocations: every count is 0"},
    {FM_AZURE_TRACE_2019, ROWS,
     "a.csv:1: column 1 is \"app\", must be \"HashOwner\": the header is not that of Azure's trace "
     "of 2019"},
    {FM_AZURE_TRACE_2021, HEADER, "a.csv:1: column 1 is \"HashOwner\", must be \"app\""},
    {FM_AZURE_TRACE_2019, "\nHashOwner,HashApp,HashFunction,Trigger,1,3\n",
     "a.csv:2: column 6 is \"3\", must be \"2\""},
    {FM_AZURE_TRACE_2019, "HashOwner,HashApp,HashFunction,Trigger\n",
     "a.csv:1: column 5 is \"\", must be \"1\""},
    {FM_AZURE_TRACE_2019, "HashOwner,HashApp\n", "column 3 is \"\", must be \"HashFunction\""},
    {FM_AZURE_TRACE_2021, "app,func\n", "column 3 is \"\", must be \"end_timestamp\""},
    {FM_AZURE_TRACE_2021, "app,func,end_timestamp,duration,more\n",
     "column 5 is \"more\", must be \"the end\""},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,2\n", "a.csv:2: 6 fields, but the header has 7"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,2,3,4,5\n", "a.csv:2: more than 7 fields"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,-2,3\n", "a.csv:2: \"-2\" is not a count"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,2.5,3\n", "\"2.5\" is not a count"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,,3\n", "\"\" is not a count"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,f,t,1,1000000001,3\n", "from 0 to 1000000000"},
    {FM_AZURE_TRACE_2019, HEADER "o,a,\"f,t,1,2,3\n", "a.csv:2: a field's double quotes"},
    {FM_AZURE_TRACE_2019, "\"HashOwner\n", "a.csv:1: a field's double quotes"},
    {FM_AZURE_TRACE_2021, ROWS "a,f,1,0\na,f,1\n", "a.csv:3: 3 fields, but the header has 4"},
    {FM_AZURE_TRACE_2021, ROWS "a,f,1,0,0\n", "a.csv:2: more than 4 fields"},
    {FM_AZURE_TRACE_2021, ROWS "a,f,x,0\n", "a.csv:2: end_timestamp \"x\" is not a number"},
    {FM_AZURE_TRACE_2021, ROWS "a,f,1,-1\n", "a.csv:2: duration \"-1\" is not a number"},
    {FM_AZURE_TRACE_2021, ROWS "a,f,1e10,0\n", "end_timestamp \"1e10\" is not a number"},
    {FM_AZURE_TRACE_2021, ROWS "a,\"f,1,0\n", "a.csv:2: a field's double quotes"},
};

TEST(mistakes_are_told_with_their_line)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        CHECK_STR_CONTAINS(complaint(mistakes[i].form, mistakes[i].text), mistakes[i].message);
    }
    CHECK_INT_EQ(parse_with((struct fm_azure_trace_options){.function = "g"},
                            HEADER "o,a,f,t,1,1,1", strlen(HEADER "o,a,f,t,1,1,1")),
                 FM_EINVAL);
    CHECK_STR_EQ(error.text, "a.csv: no row is of function g");
}

TEST(a_day_is_the_most)
{
    static char text[16384];
    size_t at = (size_t)snprintf(text, sizeof text, "HashOwner,HashApp,HashFunction,Trigger");
    for (unsigned minute = 1; minute <= FM_AZURE_TRACE_MINUTES_MAX + 1; minute++) {
        at += (size_t)snprintf(text + at, sizeof text - at, ",%u", minute);
    }
    CHECK_STR_CONTAINS(complaint(FM_AZURE_TRACE_2019, text),
                       "column 1445 is \"1441\", must be \"the end\"");
}

TEST(limits_of_times)
{
    static const char counts[] = HEADER "o,a,f,t,1,1,1\no,a,f,t,1,0,0\n";
    static const char rows[] = ROWS "a,f,1,0\na,f,2,0\na,f,3,0\na,f,4,0\n";
    for (int form = 0; form < 2; form++) {
        const char *text = form == 0 ? counts : rows;
        struct fm_azure_trace_options options = {
            .form = form == 0 ? FM_AZURE_TRACE_2019 : FM_AZURE_TRACE_2021, .times_max = 3};
        CHECK_INT_EQ(parse_with(options, text, strlen(text)), FM_ETOOLARGE);
        CHECK_STR_CONTAINS(error.text, form == 0 ? "a.csv:3: more than the limit of 3"
                                                 : "a.csv:5: more than the limit of 3");
        CHECK_PTR_EQ(times, NULL);
        options.times_max = 4;
        CHECK_INT_EQ(parse_with(options, text, strlen(text)), 0);
        CHECK_UINT_EQ(count, 4);
    }
}

TEST(out_of_memory)
{
    for (int form = 0; form < 2; form++) {
        const char *text = form == 0 ? HEADER "o,a,f,t,1,1,1\n" : ROWS "a,f,1,0\n";
        (void)fm_memory_fail_at(1, 0);
        int status = parse(form == 0 ? FM_AZURE_TRACE_2019 : FM_AZURE_TRACE_2021, text);
        (void)fm_memory_fail_at(0, 0);
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_PTR_EQ(times, NULL);
        CHECK_STR_CONTAINS(error.text, "a.csv: out of memory");
    }
}

TEST_MAIN()
