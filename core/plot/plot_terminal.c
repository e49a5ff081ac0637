/*
 * Plots in the characters of a terminal. See plot.h.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/plot/plot.h"
#include "core/util/memory.h"

enum { MARGIN = 10, COLUMNS_MIN = 16, COLUMNS_MAX = 400, ROWS_MIN = 4, ROWS_MAX = 200 };

struct cell {
    char mark; /* 0: nothing */
    unsigned char series;
};

struct screen {
    struct fm_axis x;
    struct fm_axis y;
    uint32_t columns;
    uint32_t rows;
    struct cell *cells;
};

/* Points win over the dots between them, the first series over later ones, and all of them over
 * rules. */
static void cell_put(struct screen *screen, double x, double y, char mark, uint32_t series)
{
    if (!(x > -0.001 && x < 1.001 && y > -0.001 && y < 1.001)) {
        return;
    }
    long column = lround(x * (screen->columns - 1));
    long row = lround((1 - y) * (screen->rows - 1));
    struct cell *cell = &screen->cells[(size_t)row * screen->columns + (size_t)column];
    bool is_rule = series == UINT8_MAX;
    if (cell->mark == 0 || (mark != '.' && !is_rule && cell->mark == '.')) {
        *cell = (struct cell){.mark = mark, .series = (unsigned char)series};
    }
}

static void segment_put(struct screen *screen, const double from[2], const double to[2],
                        enum fm_plot_mark mark, uint32_t series)
{
    double length =
        fmax(fabs(to[0] - from[0]) * screen->columns, fabs(to[1] - from[1]) * screen->rows);
    uint32_t steps = length < 4 * COLUMNS_MAX ? (uint32_t)ceil(length) : 4 * COLUMNS_MAX;
    for (uint32_t i = 1; i < steps; i++) {
        double part = (double)i / steps;
        if (mark == FM_PLOT_STEPS) {
            cell_put(screen, from[0] + (to[0] - from[0]) * part, from[1], '.', series);
            cell_put(screen, to[0], from[1] + (to[1] - from[1]) * part, '.', series);
        } else {
            cell_put(screen, from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part,
                     '.', series);
        }
    }
}

static char letter_of(uint32_t series)
{
    return (char)('a' + series % 26);
}

static void series_put(struct screen *screen, const struct fm_plot_series *series, uint32_t number)
{
    double before[2] = {0};
    bool pen_down = false;
    for (size_t i = 0; i < series->count; i++) {
        if (!fm_axis_has(&screen->x, series->x[i]) || !fm_axis_has(&screen->y, series->y[i])) {
            pen_down = false;
            continue;
        }
        const double at[2] = {fm_axis_place(&screen->x, series->x[i]),
                              fm_axis_place(&screen->y, series->y[i])};
        bool dense = series->mark == FM_PLOT_LINE || series->mark == FM_PLOT_STEPS;
        cell_put(screen, at[0], at[1], dense ? '.' : letter_of(number), number);
        if (pen_down && series->mark != FM_PLOT_POINTS) {
            segment_put(screen, before, at, series->mark, number);
        }
        memcpy(before, at, sizeof(before));
        pen_down = true;
    }
    /* A line without points has its letter at its end. */
    if (pen_down && series->mark != FM_PLOT_POINTS) {
        cell_put(screen, before[0], before[1], letter_of(number), number);
    }
}

static void rule_put(struct screen *screen, const struct fm_plot_rule *rule)
{
    const struct fm_axis *axis = rule->vertical ? &screen->x : &screen->y;
    if (!fm_axis_has(axis, rule->at)) {
        return;
    }
    double place = fm_axis_place(axis, rule->at);
    if (!(place > -0.001 && place < 1.001)) {
        return;
    }
    uint32_t count = rule->vertical ? screen->rows : screen->columns;
    for (uint32_t i = 0; i < count; i++) {
        double part = count > 1 ? (double)i / (count - 1) : 0;
        cell_put(screen, rule->vertical ? place : part, rule->vertical ? part : place,
                 rule->vertical ? '|' : '-', UINT8_MAX);
    }
}

static void row_print(const struct screen *screen, uint32_t row, bool color, struct fm_text *text)
{
    static const unsigned char codes[FM_PICTURE_COLORS] = {34, 33, 32, 35, 93, 36, 95, 90};
    const struct cell *cells = &screen->cells[(size_t)row * screen->columns];
    uint32_t end = screen->columns;
    while (end > 0 && cells[end - 1].mark == 0) {
        end--;
    }
    for (uint32_t i = 0; i < end; i++) {
        bool colored = color && cells[i].mark != 0 && cells[i].series != UINT8_MAX;
        if (colored) {
            fm_text_append_format(text, "\x1b[%um", codes[cells[i].series % FM_PICTURE_COLORS]);
        }
        fm_text_append_char(text, cells[i].mark != 0 ? cells[i].mark : ' ');
        fm_text_append_string(text, colored ? "\x1b[0m" : "");
    }
    fm_text_append_char(text, '\n');
}

static void rows_print(const struct screen *screen, bool color, struct fm_text *text)
{
    struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
    uint32_t count = fm_axis_ticks(&screen->y, screen->rows / 3, ticks);
    for (uint32_t row = 0; row < screen->rows; row++) {
        const char *name = "";
        for (uint32_t i = 0; i < count; i++) {
            double place = fm_axis_place(&screen->y, ticks[i].value);
            if (lround((1 - place) * (screen->rows - 1)) == (long)row) {
                name = ticks[i].text;
            }
        }
        fm_text_append_format(text, "%*s %c", MARGIN - 2, name, name[0] != '\0' ? '+' : '|');
        row_print(screen, row, color, text);
    }
}

/* Names of marks where they fit without touching. */
static void x_axis_print(const struct screen *screen, struct fm_text *text)
{
    struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
    uint32_t count = fm_axis_ticks(&screen->x, screen->columns / 10, ticks);
    char line[COLUMNS_MAX + FM_AXIS_TEXT_SIZE];
    size_t used = 0;
    memset(line, ' ', sizeof(line));
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strlen(ticks[i].text);
        size_t at =
            (size_t)lround(fm_axis_place(&screen->x, ticks[i].value) * (screen->columns - 1));
        at = at > length / 2 ? at - length / 2 : 0;
        at = at + length > screen->columns && screen->columns > length ? screen->columns - length
                                                                       : at;
        if ((used == 0 || at > used) && at + length <= screen->columns) {
            memcpy(line + at, ticks[i].text, length);
            used = at + length;
        }
    }
    fm_text_append_format(text, "%*s+", MARGIN - 1, "");
    for (uint32_t i = 0; i < screen->columns; i++) {
        fm_text_append_char(text, '-');
    }
    fm_text_append_format(text, "\n%*s%.*s\n%*s%s\n", MARGIN, "", (int)used, line, MARGIN, "",
                          screen->x.label);
}

static uint32_t between(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

void fm_plot_terminal(const struct fm_plot *plot, uint32_t columns, uint32_t rows, bool color,
                      struct fm_text *text)
{
    uint32_t around = plot->title != NULL ? 5 : 4; /* title, label, the x axis with its own */
    struct screen screen = {
        .columns = between(columns > MARGIN ? columns - MARGIN : 0, COLUMNS_MIN, COLUMNS_MAX),
        .rows = between(rows > around ? rows - around : 0, ROWS_MIN, ROWS_MAX)};
    screen.cells = fm_alloc_zero((size_t)screen.columns * screen.rows, sizeof(*screen.cells));
    if (screen.cells == NULL) {
        text->failed = true;
        return;
    }
    fm_plot_axes(plot, &screen.x, &screen.y);
    for (uint32_t i = 0; i < plot->series_count; i++) {
        series_put(&screen, &plot->series[i], i);
    }
    for (uint32_t i = 0; i < plot->rule_count; i++) {
        rule_put(&screen, &plot->rules[i]);
    }
    if (plot->title != NULL) {
        fm_text_append_format(text, "%s\n", plot->title);
    }
    fm_text_append_format(text, "%s\n", screen.y.label);
    rows_print(&screen, color, text);
    x_axis_print(&screen, text);
    for (uint32_t i = 0; i < plot->series_count && plot->series_count > 1; i++) {
        fm_text_append_format(text, "%*s%c  %s\n", MARGIN, "", letter_of(i), plot->series[i].name);
    }
    fm_free(screen.cells);
}
