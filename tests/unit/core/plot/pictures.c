/*
 * Tests of core/plot's pictures: well-formed markup whatever names and numbers are in them, gaps,
 * scales, legends; the same in a terminal.
 */
#include <math.h>

#include "core/plot/bars.h"
#include "core/plot/heat_map.h"
#include "core/plot/markup.h"
#include "core/plot/plot.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

/* Elements nest, attributes are quoted, and no number is none. */
static bool is_well_formed(const char *text)
{
    int depth = 0;
    bool ok = strstr(text, "nan") == NULL && strstr(text, "inf") == NULL;
    while (ok && (text = strchr(text, '<')) != NULL) {
        const char *end = strchr(text, '>');
        unsigned quotes = 0;
        ok = end != NULL;
        for (const char *at = text; ok && at < end; at++) {
            quotes += *at == '"';
            ok = at == text || *at != '<';
        }
        ok = ok && quotes % 2 == 0;
        if (ok) {
            depth += text[1] == '/' ? -1 : end[-1] == '/' ? 0 : 1;
            ok = depth >= 0;
            text = end;
        }
    }
    return ok && depth == 0;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (; (text = strstr(text, part)) != NULL; text++) {
        count++;
    }
    return count;
}

TEST(markup_is_escaped)
{
    struct fm_text text = {0};
    fm_markup_escape_string(&text, "a<b>&\"c\" \xc3\xa4\xff\x01");
    CHECK_STR_EQ(text.data, "a&lt;b&gt;&amp;&quot;c&quot; \xc3\xa4\xef\xbf\xbd\xef\xbf\xbd");
    fm_text_deinit(&text);
}

TEST(a_plot_has_its_lines_points_rules_and_legend)
{
    const double x[] = {1, 10, 100, 1000};
    const double y[] = {0.5, 0.9, 0.99, 0.999};
    const double more[] = {0.2, 0.5, 0.8, 0.9};
    const char *const labels[] = {NULL, "knee <1>", NULL, NULL};
    const struct fm_plot_series series[] = {
        {.name = "deferred & co", .mark = FM_PLOT_STEPS, .x = x, .y = y, .count = 4},
        {.name = "timeout",
         .mark = FM_PLOT_LINE_POINTS,
         .x = x,
         .y = more,
         .count = 4,
         .labels = labels}};
    const struct fm_plot_rule rules[] = {{.vertical = true, .at = 50, .label = "SLO 50 ms"},
                                         {.at = 0.99, .label = "p99"},
                                         {.vertical = true, .at = -1, .label = "nowhere"}};
    const struct fm_plot plot = {.title = "Latency",
                                 .x = {.label = "ms", .scale = FM_AXIS_LOG},
                                 .y = {.label = "share", .scale = FM_AXIS_NINES},
                                 .series = series,
                                 .series_count = 2,
                                 .rules = rules,
                                 .rule_count = 3};
    struct fm_text text = {0};
    fm_plot_svg(&plot, FM_PICTURE_FILE, &text);
    CHECK(!text.failed && is_well_formed(text.data));
    CHECK_STR_CONTAINS(text.data, "<style>");
    CHECK_STR_CONTAINS(text.data, ">deferred &amp; co</text>");
    CHECK_STR_CONTAINS(text.data, ">knee &lt;1&gt;</text>");
    CHECK_STR_CONTAINS(text.data, ">SLO 50 ms</text>");
    CHECK_STR_CONTAINS(text.data, ">p99.9</text>");
    CHECK(strstr(text.data, "nowhere") == NULL);
    CHECK_UINT_EQ(count_of(text.data, "<circle"), 4);
    CHECK_UINT_EQ(count_of(text.data, "class=\"line line"), 2);
    fm_text_clear(&text);
    fm_plot_svg(&plot, FM_PICTURE_PAGE, &text);
    CHECK(is_well_formed(text.data) && strstr(text.data, "<style>") == NULL);
    fm_text_clear(&text);
    fm_plot_terminal(&plot, 60, 20, false, &text);
    CHECK_STR_CONTAINS(text.data, "Latency\nshare\n");
    CHECK_STR_CONTAINS(text.data, "a  deferred & co\n");
    CHECK_STR_CONTAINS(text.data, "     p99 +");
    CHECK_UINT_EQ(count_of(text.data, "\n"), 1 + 1 + 15 + 3 + 2);
    fm_text_deinit(&text);
}

TEST(what_has_no_place_leaves_a_gap)
{
    const double x[] = {1, 2, 3, 4, 5};
    const double y[] = {1, 2, NAN, 4, 5};
    const double low[] = {0.5, 1, NAN, 3, 4};
    const double high[] = {2, 3, INFINITY, 5, 6};
    struct fm_plot_series series = {
        .name = "one", .mark = FM_PLOT_LINE, .x = x, .y = y, .count = 5, .low = low, .high = high};
    struct fm_plot plot = {
        .x = {.label = "x"}, .y = {.label = "y"}, .series = &series, .series_count = 1};
    struct fm_text text = {0};
    fm_plot_svg(&plot, FM_PICTURE_PAGE, &text);
    CHECK(is_well_formed(text.data));
    const char *line = strstr(text.data, "class=\"line line0\" d=\"");
    CHECK(line != NULL);
    CHECK(strchr(line, 'M') != NULL && strchr(strchr(line, 'M') + 1, 'M') != NULL);
    fm_text_clear(&text);
    /* Of nothing, and of one point. */
    series.count = 0;
    fm_plot_svg(&plot, FM_PICTURE_FILE, &text);
    CHECK(is_well_formed(text.data));
    fm_text_clear(&text);
    series.count = 1;
    series.mark = FM_PLOT_POINTS;
    fm_plot_svg(&plot, FM_PICTURE_FILE, &text);
    CHECK(is_well_formed(text.data) && count_of(text.data, "<circle") == 1);
    fm_text_clear(&text);
    plot.series_count = 0;
    fm_plot_terminal(&plot, 0, 0, true, &text);
    CHECK(!text.failed);
    fm_text_deinit(&text);
}

/* What is outside is cut off, in both forms, however far outside it is. */
TEST(ends_that_are_set_are_kept)
{
    const double x[] = {0.5, 10, 1e9};
    const double y[] = {0.95, 0.5, 0.999};
    const struct fm_plot_series series[] = {
        {.name = "line", .mark = FM_PLOT_LINE_POINTS, .x = x, .y = y, .count = 3}};
    const struct fm_plot_rule rules[] = {{.vertical = true, .at = 1e6, .label = "outside"},
                                         {.at = 0.95}};
    const struct fm_plot plot = {
        .x = {.label = "x", .scale = FM_AXIS_LOG, .from = 1, .to = 100},
        .y = {.label = "y", .scale = FM_AXIS_NINES, .from = 0.1, .to = 0.9999},
        .x_fixed = true,
        .y_fixed = true,
        .series = series,
        .series_count = 1,
        .rules = rules,
        .rule_count = 2};
    struct fm_text text = {0};
    fm_plot_svg(&plot, FM_PICTURE_FILE, &text);
    CHECK(is_well_formed(text.data));
    CHECK_UINT_EQ(count_of(text.data, "<circle"), 1);
    CHECK(strstr(text.data, "outside") == NULL && strstr(text.data, ">min<") == NULL);
    CHECK_UINT_EQ(count_of(text.data, "<svg"), 2); /* the inner one cuts the line off */
    for (uint32_t columns = 20; columns < 130; columns += 5) {
        fm_text_clear(&text);
        fm_plot_terminal(&plot, columns, 20, false, &text);
        CHECK(!text.failed);
        for (const char *line = text.data; *line != '\0';) {
            size_t length = strcspn(line, "\n");
            CHECK(length <= (columns > 26 ? columns : 26));
            line += length + 1;
        }
    }
    fm_text_deinit(&text);
}

TEST(a_heat_map_shows_its_values_and_leaves_out_what_is_none)
{
    const char *const columns[] = {"1", "8", "32"};
    const char *const rows[] = {"2 layers", "<4>"};
    const double values[] = {10, 20, 40, 80, NAN, 0};
    struct fm_heat_map map = {.title = "MLP",
                              .x_label = "batch",
                              .y_label = "layers",
                              .value_label = "GFLOP/s",
                              .columns = columns,
                              .column_count = 3,
                              .rows = rows,
                              .row_count = 2,
                              .values = values};
    struct fm_text text = {0};
    for (int i = 0; i < 2; i++) {
        map.logarithmic = i == 1;
        fm_heat_map_svg(&map, FM_PICTURE_FILE, &text);
        CHECK(!text.failed && is_well_formed(text.data));
        CHECK_UINT_EQ(count_of(text.data, "<rect"), 5 + 1); /* and the paper */
        CHECK_STR_CONTAINS(text.data, ">&lt;4&gt;</text>");
        /* The lowest and the highest colour. */
        CHECK_STR_CONTAINS(text.data, "#00224e");
        CHECK_STR_CONTAINS(text.data, "#fee838");
        fm_text_clear(&text);
    }
    fm_heat_map_terminal(&map, true, &text);
    CHECK_STR_CONTAINS(text.data, "2 layers");
    CHECK_STR_CONTAINS(text.data, "\x1b[48;5;226m");
    fm_text_clear(&text);
    fm_heat_map_terminal(&map, false, &text);
    CHECK(strchr(text.data, '\x1b') == NULL);
    /* Rows from below. */
    CHECK(strstr(text.data, "<4>") < strstr(text.data, "2 layers"));
    fm_text_deinit(&text);
}

TEST(bars_are_as_long_as_their_parts_together)
{
    const char *const names[] = {"batch 1", "batch 8"};
    const char *const parts[] = {"queue", "compute", "network"};
    const double values[] = {1, 2, 1, NAN, 8, -1};
    const struct fm_bars bars = {.title = "Stages",
                                 .label = "ms",
                                 .bars = names,
                                 .bar_count = 2,
                                 .parts = parts,
                                 .part_count = 3,
                                 .values = values};
    struct fm_text text = {0};
    fm_bars_svg(&bars, FM_PICTURE_FILE, &text);
    CHECK(!text.failed && is_well_formed(text.data));
    CHECK_STR_CONTAINS(text.data, "<title>compute: 8</title>");
    CHECK(strstr(text.data, "<title>network: -1") == NULL);
    fm_text_clear(&text);
    fm_bars_terminal(&bars, 58, &text);
    CHECK_STR_CONTAINS(text.data, "batch 1 AAAAABBBBBBBBBBCCCCC 4\n");
    CHECK_STR_CONTAINS(text.data, "batch 8 BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB 8\n");
    fm_text_deinit(&text);
}

TEST(random_plots_are_well_formed)
{
    struct fm_random random;
    fm_random_init(&random, 7);
    for (int i = 0; i < 300; i++) {
        double x[40];
        double y[40];
        size_t count = (size_t)(fm_random_unit(&random) * 40);
        for (size_t k = 0; k < count; k++) {
            double kind = fm_random_unit(&random);
            x[k] = kind < 0.05 ? NAN : kind < 0.1 ? -1 : pow(10, 30 * fm_random_unit(&random) - 15);
            y[k] = kind > 0.95 ? INFINITY : kind > 0.9 ? 0 : fm_random_unit(&random);
        }
        const struct fm_plot_series series = {
            .name = "s", .mark = (enum fm_plot_mark)(i % 4), .x = x, .y = y, .count = count};
        const struct fm_plot plot = {.x = {.label = "x", .scale = (enum fm_axis_scale)(i / 4 % 2)},
                                     .y = {.label = "y", .scale = (enum fm_axis_scale)(i / 8 % 3)},
                                     .series = &series,
                                     .series_count = 1};
        struct fm_text text = {0};
        fm_plot_svg(&plot, FM_PICTURE_FILE, &text);
        CHECK(!text.failed && is_well_formed(text.data));
        fm_text_clear(&text);
        fm_plot_terminal(&plot, (uint32_t)(fm_random_unit(&random) * 200),
                         (uint32_t)(fm_random_unit(&random) * 60), i % 2 == 0, &text);
        CHECK(!text.failed);
        fm_text_deinit(&text);
    }
}

TEST_MAIN()
