/*
 * When a job is to be finished: times with their zones, durations, and what is neither.
 */
#include "engines/batch/finish_by.h"

#include "tests/harness/test.h"

static uint64_t at_ms(const char *text)
{
    struct fm_finish_by finish_by;
    return fm_finish_by_parse(text, &finish_by, NULL) == 0 && finish_by.given ? finish_by.at_ms : 1;
}

TEST(times_have_a_zone)
{
    CHECK_UINT_EQ(at_ms("2026-11-23T06:00:00Z"), UINT64_C(1795413600000));
    CHECK_UINT_EQ(at_ms("2026-11-23T06:00Z"), UINT64_C(1795413600000));
    CHECK_UINT_EQ(at_ms("2026-11-23 07:00:00+01:00"), UINT64_C(1795413600000));
    CHECK_UINT_EQ(at_ms("2026-11-22T22:30:00.250-0730"), UINT64_C(1795413600000));
    CHECK_UINT_EQ(at_ms("2024-02-29T23:59:59Z"), UINT64_C(1709251199000));
    CHECK_UINT_EQ(at_ms("1970-01-02T00:00:00Z"), UINT64_C(86400000));
}

TEST(or_so_long_after_the_begin)
{
    struct fm_finish_by finish_by;
    CHECK_INT_EQ(fm_finish_by_parse("90m", &finish_by, NULL), 0);
    CHECK(finish_by.given && finish_by.at_ms == 0);
    CHECK_UINT_EQ(finish_by.after_ms, UINT64_C(5400000));
    CHECK_INT_EQ(fm_finish_by_parse("none", &finish_by, NULL), 0);
    CHECK(finish_by.given && finish_by.at_ms == 0 && finish_by.after_ms == 0);
}

TEST(what_is_neither_is_told)
{
    static const char *const bad[] = {"",
                                      "tomorrow",
                                      "7200",
                                      "2h30",
                                      "0s",
                                      "-2h",
                                      "99999999h",
                                      "2026-11-23T06:00:00",
                                      "2026-11-23",
                                      "2026-11-23T06:00:00Zz",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-11-23T24:00:00Z",
                                      "2026-11-23T06:60:00Z",
                                      "2026-11-23T06:00:00+25:00",
                                      "2026-11-23T06:00:00.Z",
                                      "1970-01-01T00:00:00+01:00"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_finish_by finish_by;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_finish_by_parse(bad[i], &finish_by, &error), FM_EINVAL);
        CHECK(strstr(error.text, "is no time to finish by") != NULL);
    }
}

TEST_MAIN()
