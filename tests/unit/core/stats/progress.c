/*
 * Rates, estimates and their words.
 */
#include "core/stats/progress.h"

#include "tests/harness/test.h"

#define SECOND 1000000000ull

TEST(the_recent_rate_follows_and_the_mean_does_not)
{
    struct fm_progress progress;
    fm_progress_start(&progress, 5 * SECOND, 100, 1000, 10 * SECOND);
    CHECK_NEAR(fm_progress_rate_recent(&progress), 0, 1e-9);
    uint64_t rest_ns = 0;
    CHECK(!fm_progress_rest_ns(&progress, 6 * SECOND, &rest_ns));
    uint64_t now_ns = 5 * SECOND;
    uint64_t done = 100;
    for (int i = 0; i < 1000; i++) { /* 100 s at 1 a second */
        now_ns += SECOND / 10;
        done += i % 10 == 9 ? 1 : 0;
        fm_progress_update(&progress, now_ns, done);
    }
    CHECK_NEAR(fm_progress_rate_recent(&progress), 1, 0.15);
    CHECK_NEAR(fm_progress_rate_mean(&progress, now_ns), 1, 0.02);
    for (int i = 0; i < 200; i++) { /* 20 s at 10 a second */
        now_ns += SECOND / 10;
        done += 1;
        fm_progress_update(&progress, now_ns, done);
    }
    CHECK_NEAR(fm_progress_rate_recent(&progress), 10, 0.3);
    CHECK_NEAR(fm_progress_rate_mean(&progress, now_ns), 300.0 / 120, 0.05);
    CHECK(fm_progress_rest_ns(&progress, now_ns, &rest_ns));
    CHECK_NEAR((double)rest_ns / SECOND, 600 / ((10 + 2.5) / 2), 3);
}

TEST(words)
{
    char text[64];
    CHECK_STR_EQ(fm_progress_format_duration(0, text, sizeof(text)), "0:00");
    CHECK_STR_EQ(fm_progress_format_duration(42499999999u, text, sizeof(text)), "0:42");
    CHECK_STR_EQ(fm_progress_format_duration(3725 * SECOND, text, sizeof(text)), "1:02:05");
    CHECK_STR_EQ(fm_progress_format_duration(274200 * SECOND, text, sizeof(text)), "3d 04:10");
    CHECK_STR_EQ(fm_progress_format_rate(0.516, text, sizeof(text)), "0.52");
    CHECK_STR_EQ(fm_progress_format_rate(12.34, text, sizeof(text)), "12.3");
    CHECK_STR_EQ(fm_progress_format_rate(1450.4, text, sizeof(text)), "1450");
    CHECK_STR_EQ(fm_progress_format_bar(1, 4, 8, "#", ".", text, sizeof(text)), "##......");
    CHECK_STR_EQ(fm_progress_format_bar(9, 4, 4, "#", ".", text, sizeof(text)), "####");
    CHECK_STR_EQ(fm_progress_format_bar(4, 4, 4, "\xe2\x96\x88", " ", text, 8),
                 "\xe2\x96\x88\xe2\x96\x88");
}

TEST_MAIN()
