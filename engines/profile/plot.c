/*
 * Plots of profiles. See plot.h.
 */
#include "engines/profile/plot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/plot/axis.h"
#include "core/plot/markup.h"

enum {
    SERIES_COLORS = 8,
    CHART_ROWS = 12,
    CHART_COLUMNS_MAX = 72,
    CHART_COLUMNS_MIN = 20,
    MARGIN_LEFT = 11
};

const char *fm_profile_setting_label(const struct fm_profile_setting *setting, char *text,
                                     size_t size)
{
    (void)snprintf(text, size, "%" PRIu32 " x %" PRIu32 " thread%s%s%s", setting->instances,
                   setting->threads, setting->threads == 1 ? "" : "s",
                   setting->options[0] != '\0' ? ", " : "", setting->options);
    return text;
}

/* The part of the record's numbers that a picture covers. */
struct extent {
    double batch_min, batch_max; /* log2 */
    double rate_max;
    double latency_min, latency_max; /* log10 of ms */
};

static struct extent extent_of(const struct fm_profile_record *record)
{
    struct extent extent = {
        .batch_min = 32, .batch_max = 0, .rate_max = 0, .latency_min = 300, .latency_max = -300};
    for (uint32_t i = 0; i < record->setting_count; i++) {
        const struct fm_profile_setting *setting = &record->settings[i];
        for (uint32_t j = 0; j < setting->profile.point_count; j++) {
            const struct fm_profile_point *point = &setting->profile.points[j];
            double batch = log2(point->batch);
            double rate = (double)setting->measures[j].rate_millihertz / 1000;
            double low = log10((double)point->latency_ns[FM_PROFILE_P50] / 1e6);
            double high = log10((double)point->latency_ns[FM_PROFILE_P99] / 1e6);
            extent.batch_min = fmin(extent.batch_min, batch);
            extent.batch_max = fmax(extent.batch_max, batch);
            extent.rate_max = fmax(extent.rate_max, rate);
            extent.latency_min = fmin(extent.latency_min, low);
            extent.latency_max = fmax(extent.latency_max, high);
        }
    }
    if (extent.batch_max <= extent.batch_min) {
        extent.batch_min -= 0.5;
        extent.batch_max = extent.batch_min + 1;
    }
    extent.latency_min = floor(extent.latency_min);
    extent.latency_max = fmax(ceil(extent.latency_max), extent.latency_min + 1);
    extent.rate_max = extent.rate_max > 0 ? extent.rate_max * 1.08 : 1;
    return extent;
}

/* ---- SVG ---- */

/* Where a panel lies and what it maps. */
struct panel {
    double x, y, width, height;
    double from_x, to_x, from_y, to_y;
};

static double map_x(const struct panel *panel, double value)
{
    return panel->x + (value - panel->from_x) / (panel->to_x - panel->from_x) * panel->width;
}

static double map_y(const struct panel *panel, double value)
{
    return panel->y + panel->height -
           (value - panel->from_y) / (panel->to_y - panel->from_y) * panel->height;
}

/* Plain classes, no CSS variables: many viewers do not know them. Colour-blind safe. */
static void svg_style(struct fm_text *text)
{
    static const char *const schemes[2][4 + SERIES_COLORS] = {
        {"#ffffff", "#1c2430", "#d5dae1", "#5b6675", "#0072b2", "#d55e00", "#009e73", "#aa3377",
         "#b8860b", "#56a0d3", "#7a5195", "#4d4d4d"},
        {"#12161c", "#e6eaf0", "#2c3542", "#9aa6b5", "#5ab4e6", "#ff9d4d", "#3ecf9f", "#f08cc4",
         "#e6c34d", "#a3d5f7", "#c3a6e8", "#bbbbbb"},
    };
    fm_text_append_string(text, "<style>\n"
                                "text { font-family: system-ui, sans-serif; font-size: 12px; }\n"
                                ".title { font-size: 16px; font-weight: 600; }\n"
                                ".line { fill: none; stroke-width: 2; }\n"
                                ".band { opacity: 0.15; stroke: none; }\n"
                                ".choice { fill: none; stroke-width: 2; }\n");
    for (unsigned dark = 0; dark < 2; dark++) {
        const char *const *scheme = schemes[dark];
        fm_text_append_string(text, dark ? "@media (prefers-color-scheme: dark) {\n" : "");
        fm_text_append_format(text,
                              ".paper { fill: %s; }\ntext { fill: %s; }\n"
                              ".choice { stroke: %s; }\n.grid { stroke: %s; }\n"
                              "text.quiet { fill: %s; }\n",
                              scheme[0], scheme[1], scheme[1], scheme[2], scheme[3]);
        for (unsigned i = 0; i < SERIES_COLORS; i++) {
            fm_text_append_format(text, ".line%u { stroke: %s; } .fill%u { fill: %s; }\n", i,
                                  scheme[4 + i], i, scheme[4 + i]);
        }
        fm_text_append_string(text, dark ? "}\n" : "");
    }
    fm_text_append_string(text, "</style>\n");
}

static void svg_x_axis(const struct fm_profile_record *record, const struct panel *panel,
                       struct fm_text *text)
{
    uint32_t marked[FM_PROFILE_POINTS_MAX * 2];
    uint32_t count = 0;
    for (uint32_t i = 0; i < record->setting_count; i++) {
        for (uint32_t j = 0; j < record->settings[i].profile.point_count; j++) {
            uint32_t batch = record->settings[i].profile.points[j].batch;
            bool known = false;
            for (uint32_t k = 0; k < count; k++) {
                known = known || marked[k] == batch;
            }
            if (known || count == FM_PROFILE_POINTS_MAX * 2) {
                continue;
            }
            marked[count++] = batch;
            double x = map_x(panel, log2(batch));
            fm_text_append_format(
                text,
                "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%" PRIu32 "</text>\n",
                x, panel->y, x, panel->y + panel->height, x, panel->y + panel->height + 18, batch);
        }
    }
    fm_text_append_format(text,
                          "<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\" "
                          "text-anchor=\"middle\">batch size (rows)</text>\n",
                          panel->x + panel->width / 2, panel->y + panel->height + 38);
}

static void svg_y_tick(const struct panel *panel, double value, double shown, struct fm_text *text)
{
    double y = map_y(panel, value);
    fm_text_append_format(text,
                          "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                          panel->x, y, panel->x + panel->width, y, panel->x - 8, y + 4, shown);
}

static void svg_y_label(const struct panel *panel, const char *label, struct fm_text *text)
{
    double x = panel->x - 52;
    double y = panel->y + panel->height / 2;
    fm_text_append_format(text,
                          "<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                          "transform=\"rotate(-90 %.1f %.1f)\">%s</text>\n",
                          x, y, x, y, label);
}

static double point_latency(const struct fm_profile_setting *setting, uint32_t point,
                            enum fm_profile_statistic statistic)
{
    return log10((double)setting->profile.points[point].latency_ns[statistic] / 1e6);
}

/* A setting's line (and, for the latency, the band from p50 to p99). */
static void svg_series(const struct fm_profile_setting *setting, uint32_t index,
                       const struct panel *panel, bool latency, struct fm_text *text)
{
    uint32_t count = setting->profile.point_count;
    unsigned series = index % SERIES_COLORS;
    if (count == 0) {
        return;
    }
    if (latency) {
        fm_text_append_format(text, "<polygon class=\"band fill%u\" points=\"", series);
        for (uint32_t i = 0; i < count; i++) {
            fm_text_append_format(text, "%.1f,%.1f ",
                                  map_x(panel, log2(setting->profile.points[i].batch)),
                                  map_y(panel, point_latency(setting, i, FM_PROFILE_P50)));
        }
        for (uint32_t i = count; i > 0; i--) {
            fm_text_append_format(text, "%.1f,%.1f ",
                                  map_x(panel, log2(setting->profile.points[i - 1].batch)),
                                  map_y(panel, point_latency(setting, i - 1, FM_PROFILE_P99)));
        }
        fm_text_append_string(text, "\"/>\n");
    }
    fm_text_append_format(text, "<polyline class=\"line line%u\" points=\"", series);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            double x = map_x(panel, log2(setting->profile.points[i].batch));
            double value = latency ? point_latency(setting, i, FM_PROFILE_P50)
                                   : (double)setting->measures[i].rate_millihertz / 1000;
            if (pass == 0) {
                fm_text_append_format(text, "%.1f,%.1f ", x, map_y(panel, value));
            } else {
                fm_text_append_format(
                    text, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" class=\"fill%u\"/>", x,
                    map_y(panel, value), series);
            }
        }
        fm_text_append_string(text, pass == 0 ? "\"/>\n" : "\n");
    }
}

static void svg_choice(const struct fm_profile_record *record, const struct panel *panel,
                       bool latency, struct fm_text *text)
{
    if (!record->has_choice) {
        return;
    }
    const struct fm_profile_setting *setting = &record->settings[record->choice_setting];
    uint32_t point = record->choice_point;
    double value = latency ? point_latency(setting, point, FM_PROFILE_P50)
                           : (double)setting->measures[point].rate_millihertz / 1000;
    fm_text_append_format(text, "<circle class=\"choice\" cx=\"%.1f\" cy=\"%.1f\" r=\"8\"/>\n",
                          map_x(panel, log2(setting->profile.points[point].batch)),
                          map_y(panel, value));
}

static void svg_legend(const struct fm_profile_record *record, double y, struct fm_text *text)
{
    char label[FM_PROFILE_NAME_SIZE + 64];
    for (uint32_t i = 0; i < record->setting_count; i++) {
        double x = 70 + (double)(i % 3) * 280;
        double line = y + (double)(i / 3) * 20;
        fm_text_append_format(text,
                              "<rect x=\"%.1f\" y=\"%.1f\" width=\"18\" height=\"4\" "
                              "class=\"fill%u\"/><text x=\"%.1f\" y=\"%.1f\">",
                              x, line - 6, (unsigned)(i % SERIES_COLORS), x + 26, line);
        fm_markup_escape_string(
            text, fm_profile_setting_label(&record->settings[i], label, sizeof label));
        fm_text_append_string(text, record->has_choice && record->choice_setting == i
                                        ? " (recommended)</text>\n"
                                        : "</text>\n");
    }
}

void fm_profile_plot_svg(const struct fm_profile_record *record, struct fm_text *text)
{
    struct extent extent = extent_of(record);
    double legend_height = (double)((record->setting_count + 2) / 3) * 20;
    double height = 430 + legend_height;
    struct panel rate = {.x = 80,
                         .y = 70,
                         .width = 370,
                         .height = 280,
                         .from_x = extent.batch_min,
                         .to_x = extent.batch_max,
                         .from_y = 0,
                         .to_y = extent.rate_max};
    struct panel latency = rate;
    latency.x = 540;
    latency.from_y = extent.latency_min;
    latency.to_y = extent.latency_max;
    fm_text_append_format(text,
                          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"940\" height=\"%.0f\" "
                          "viewBox=\"0 0 940 %.0f\" role=\"img\">\n"
                          "<title>Latency profile</title>\n",
                          height, height);
    svg_style(text);
    fm_text_append_format(text,
                          "<rect class=\"paper\" width=\"940\" height=\"%.0f\"/>\n"
                          "<text class=\"title\" x=\"24\" y=\"30\">Latency profile of ",
                          height);
    fm_markup_escape_string(text, record->model);
    fm_text_append_string(text, record->complete ? "</text>\n" : " (incomplete)</text>\n");
    fm_text_append_string(text, "<text class=\"quiet\" x=\"24\" y=\"50\">");
    fm_markup_escape_string(text, record->inputs);
    fm_text_append_string(text, record->machine[0] != '\0' ? "; " : "");
    fm_markup_escape_string(text, record->machine);
    fm_text_append_string(text, "</text>\n");
    svg_x_axis(record, &rate, text);
    svg_x_axis(record, &latency, text);
    double step = fm_axis_step(extent.rate_max, 5);
    for (double value = 0; value <= extent.rate_max; value += step) {
        svg_y_tick(&rate, value, value, text);
    }
    for (double value = extent.latency_min; value <= extent.latency_max; value += 1) {
        svg_y_tick(&latency, value, pow(10, value), text);
    }
    svg_y_label(&rate, "rows per second, all instances", text);
    svg_y_label(&latency, "latency of a batch, ms (p50, band to p99)", text);
    for (uint32_t i = 0; i < record->setting_count; i++) {
        svg_series(&record->settings[i], i, &rate, false, text);
        svg_series(&record->settings[i], i, &latency, true, text);
    }
    svg_choice(record, &rate, false, text);
    svg_choice(record, &latency, true, text);
    svg_legend(record, 425, text);
    fm_text_append_string(text, "</svg>\n");
}

/* ---- terminal ---- */

struct chart {
    char cells[CHART_ROWS][CHART_COLUMNS_MAX];
    unsigned char series[CHART_ROWS][CHART_COLUMNS_MAX];
    uint32_t width;
};

static void chart_put(struct chart *chart, double x, double y, char mark, unsigned series)
{
    uint32_t column = (uint32_t)(x * (chart->width - 1) + 0.5);
    uint32_t row = CHART_ROWS - 1 - (uint32_t)(y * (CHART_ROWS - 1) + 0.5);
    /* Marks of points win over the dots between them. */
    if (chart->cells[row][column] == ' ' || (mark != '.' && chart->cells[row][column] == '.')) {
        chart->cells[row][column] = mark;
        chart->series[row][column] = (unsigned char)series;
    }
}

static void chart_series(struct chart *chart, const struct fm_profile_setting *setting,
                         unsigned series, const struct extent *extent, bool points)
{
    double last_x = 0;
    double last_y = 0;
    for (uint32_t i = 0; i < setting->profile.point_count; i++) {
        double x = (log2(setting->profile.points[i].batch) - extent->batch_min) /
                   (extent->batch_max - extent->batch_min);
        double y = (double)setting->measures[i].rate_millihertz / 1000 / extent->rate_max;
        for (double at = 0; i > 0 && !points && at < 1; at += 1.0 / (double)CHART_COLUMNS_MAX) {
            chart_put(chart, last_x + (x - last_x) * at, last_y + (y - last_y) * at, '.', series);
        }
        if (points) {
            chart_put(chart, x, y, (char)('a' + series % 26), series);
        }
        last_x = x;
        last_y = y;
    }
}

static void chart_print(const struct chart *chart, const struct extent *extent, bool color,
                        struct fm_text *text)
{
    static const char *const colors[SERIES_COLORS] = {"\033[34m", "\033[33m", "\033[32m",
                                                      "\033[35m", "\033[36m", "\033[31m",
                                                      "\033[94m", "\033[37m"};
    for (uint32_t row = 0; row < CHART_ROWS; row++) {
        if (row % 4 == 0 || row == CHART_ROWS - 1) {
            fm_text_append_format(text, "%9.4g |",
                                  extent->rate_max * (CHART_ROWS - 1 - row) / (CHART_ROWS - 1));
        } else {
            fm_text_append_string(text, "          |");
        }
        uint32_t end = chart->width;
        while (end > 0 && chart->cells[row][end - 1] == ' ') {
            end--;
        }
        for (uint32_t column = 0; column < end; column++) {
            char mark = chart->cells[row][column];
            if (color && mark != ' ') {
                fm_text_append_format(text, "%s%c\033[0m",
                                      colors[chart->series[row][column] % SERIES_COLORS], mark);
            } else {
                fm_text_append_char(text, mark);
            }
        }
        fm_text_append_char(text, '\n');
    }
}

/* The batch sizes under the chart, as many as fit. */
static void chart_axis(const struct fm_profile_record *record, const struct chart *chart,
                       const struct extent *extent, struct fm_text *text)
{
    char line[CHART_COLUMNS_MAX + 16];
    memset(line, ' ', sizeof line);
    for (uint32_t i = 0; i < record->setting_count; i++) {
        for (uint32_t j = 0; j < record->settings[i].profile.point_count; j++) {
            char number[12];
            uint32_t batch = record->settings[i].profile.points[j].batch;
            int length = snprintf(number, sizeof number, "%" PRIu32, batch);
            double x = (log2(batch) - extent->batch_min) / (extent->batch_max - extent->batch_min);
            size_t column = (size_t)(x * (chart->width - 1) + 0.5);
            bool free_space = length > 0;
            for (size_t k = column > 0 ? column - 1 : 0; k <= column + (size_t)length && free_space;
                 k++) {
                free_space = line[k] == ' ';
            }
            if (free_space) {
                memcpy(line + column, number, (size_t)length);
            }
        }
    }
    size_t end = sizeof line;
    while (end > 0 && line[end - 1] == ' ') {
        end--;
    }
    fm_text_append_string(text, "          +");
    for (uint32_t i = 0; i < chart->width; i++) {
        fm_text_append_char(text, '-');
    }
    fm_text_append_string(text, "\n           ");
    fm_text_append(text, line, end);
    fm_text_append_string(text, "\n           batch size (rows)\n");
}

void fm_profile_plot_terminal(const struct fm_profile_record *record, uint32_t columns, bool color,
                              struct fm_text *text)
{
    struct extent extent = extent_of(record);
    struct chart chart;
    memset(&chart, 0, sizeof chart);
    memset(chart.cells, ' ', sizeof chart.cells);
    chart.width = columns > MARGIN_LEFT + CHART_COLUMNS_MIN + 4 ? columns - MARGIN_LEFT - 4
                                                                : CHART_COLUMNS_MIN;
    chart.width = chart.width < CHART_COLUMNS_MAX ? chart.width : CHART_COLUMNS_MAX;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < record->setting_count; i++) {
            chart_series(&chart, &record->settings[i], i, &extent, pass == 1);
        }
    }
    fm_text_append_string(text, "rows per second, all instances together\n");
    chart_print(&chart, &extent, color, text);
    chart_axis(record, &chart, &extent, text);
    char label[FM_PROFILE_NAME_SIZE + 64];
    for (uint32_t i = 0; i < record->setting_count; i++) {
        fm_text_append_format(text, "           %c  %s%s\n", 'a' + (int)(i % 26),
                              fm_profile_setting_label(&record->settings[i], label, sizeof label),
                              record->has_choice && record->choice_setting == i ? "  (recommended)"
                                                                                : "");
    }
}
