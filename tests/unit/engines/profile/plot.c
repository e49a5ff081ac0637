/*
 * Tests of engines/profile/plot: pictures of ordinary, single-point, empty and awkward profiles.
 */
#include "engines/profile/plot.h"

#include "tests/harness/test.h"

static struct fm_profile_record record;

static void add(uint32_t setting, uint32_t batch, uint64_t rate, uint64_t latency_us)
{
    struct fm_profile_point point = {.batch = batch, .sample_count = 1};
    struct fm_profile_measure measure = {.rate_millihertz = rate * 1000};
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        point.latency_ns[i] = latency_us * 1000 * (1 + i);
    }
    record.settings[setting].threads = 1;
    record.settings[setting].instances = setting + 1;
    (void)!fm_profile_setting_add(&record.settings[setting], &point, &measure, NULL);
}

static void start(uint32_t setting_count)
{
    memset(&record, 0, sizeof record);
    (void)snprintf(record.model, sizeof record.model, "a<b>&c");
    record.complete = true;
    record.setting_count = setting_count;
}

/* Every '<' has its '>' and every quoted attribute its end: enough to notice broken markup here;
 * e2e parses it. */
static bool is_balanced(const char *text)
{
    int open = 0;
    unsigned quotes = 0;
    for (; *text != '\0'; text++) {
        open += *text == '<' ? 1 : *text == '>' ? -1 : 0;
        quotes += *text == '"';
        if (open < 0 || open > 1) {
            return false;
        }
    }
    return open == 0 && quotes % 2 == 0;
}

TEST(ordinary_profile)
{
    start(2);
    for (uint32_t batch = 1; batch <= 32; batch *= 2) {
        add(0, batch, 50, batch * 20000);
        add(1, batch, 99 - batch, batch * 20000);
    }
    (void)!fm_profile_record_choose(&record, 0, 0, 20);
    struct fm_text text = {0};
    fm_profile_plot_svg(&record, &text);
    CHECK(!text.failed);
    CHECK(is_balanced(text.data));
    CHECK_STR_CONTAINS(text.data, "a&lt;b&gt;&amp;c");
    CHECK_STR_CONTAINS(text.data, "2 x 1 thread (recommended)");
    CHECK_STR_CONTAINS(text.data, ">32</text>");
    CHECK(strstr(text.data, "nan") == NULL && strstr(text.data, "inf") == NULL);
    fm_text_deinit(&text);
    for (uint32_t columns = 0; columns < 200; columns += 7) {
        fm_profile_plot_terminal(&record, columns, columns % 2 == 0, &text);
        CHECK(!text.failed);
        CHECK_STR_CONTAINS(text.data, "b  2 x 1 thread  (recommended)");
        fm_text_deinit(&text);
    }
}

TEST(degenerate_profiles)
{
    struct fm_text text = {0};
    start(0);
    fm_profile_plot_svg(&record, &text);
    fm_profile_plot_terminal(&record, 80, true, &text);
    CHECK(!text.failed && strstr(text.data, "nan") == NULL);
    fm_text_deinit(&text);
    start(FM_PROFILE_SETTINGS_MAX);
    record.complete = false;
    add(3, FM_PROFILE_BATCH_MAX, 0, FM_PROFILE_LATENCY_MAX_NS / 10000);
    (void)snprintf(record.settings[3].options, sizeof record.settings[3].options, "spinning=yes");
    fm_profile_plot_svg(&record, &text);
    CHECK(is_balanced(text.data));
    CHECK_STR_CONTAINS(text.data, "(incomplete)");
    CHECK_STR_CONTAINS(text.data, "4 x 1 thread, spinning=yes");
    CHECK(strstr(text.data, "nan") == NULL && strstr(text.data, "inf") == NULL);
    fm_text_clear(&text);
    fm_profile_plot_terminal(&record, 80, false, &text);
    CHECK_STR_CONTAINS(text.data, "65536");
    fm_text_deinit(&text);
}

TEST_MAIN()
