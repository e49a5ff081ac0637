/*
 * Plots as SVG. See plot.h.
 */
#include "core/plot/plot.h"

#include <math.h>

#include "core/plot/markup.h"
#include "core/util/assert.h"

#define WIDTH  720.0
#define LEFT   72.0
#define RIGHT  24.0
#define HEIGHT 300.0

/* --- Axes --- */

struct range {
    double low;
    double high;
};

static void range_add(struct range *range, const struct fm_axis *axis, double value)
{
    if (fm_axis_has(axis, value)) {
        range->low = fmin(range->low, value);
        range->high = fmax(range->high, value);
    }
}

void fm_plot_axes(const struct fm_plot *plot, struct fm_axis *ret_x, struct fm_axis *ret_y)
{
    struct range x = {.low = INFINITY, .high = -INFINITY};
    struct range y = x;
    *ret_x = plot->x;
    *ret_y = plot->y;
    for (uint32_t i = 0; i < plot->series_count; i++) {
        const struct fm_plot_series *series = &plot->series[i];
        for (size_t j = 0; j < series->count; j++) {
            if (!fm_axis_has(&plot->x, series->x[j]) || !fm_axis_has(&plot->y, series->y[j])) {
                continue;
            }
            range_add(&x, &plot->x, series->x[j]);
            range_add(&y, &plot->y, series->y[j]);
            if (series->low != NULL) {
                range_add(&y, &plot->y, series->low[j]);
                range_add(&y, &plot->y, series->high[j]);
            }
        }
    }
    for (uint32_t i = 0; i < plot->rule_count; i++) {
        const struct fm_plot_rule *rule = &plot->rules[i];
        range_add(rule->vertical ? &x : &y, rule->vertical ? &plot->x : &plot->y, rule->at);
    }
    if (!plot->x_fixed) {
        fm_axis_fit(ret_x, x.low, x.high);
    }
    if (!plot->y_fixed) {
        fm_axis_fit(ret_y, y.low, y.high);
    }
}

/* --- Drawing --- */

struct canvas {
    struct fm_text *text;
    struct fm_picture_frame frame;
    struct fm_axis x;
    struct fm_axis y;
};

static bool is_drawn(const struct canvas *canvas, const struct fm_plot_series *series, size_t at)
{
    return fm_axis_has(&canvas->x, series->x[at]) && fm_axis_has(&canvas->y, series->y[at]);
}

static bool is_inside(const struct fm_axis *axis, double value)
{
    double place = fm_axis_place(axis, value);
    return place >= -1e-9 && place <= 1 + 1e-9;
}

static double x_of(const struct canvas *canvas, double value)
{
    return fm_picture_x(&canvas->frame, &canvas->x, value);
}

static double y_of(const struct canvas *canvas, double value)
{
    return fm_picture_y(&canvas->frame, &canvas->y, value);
}

static void band_draw(const struct canvas *canvas, const struct fm_plot_series *series,
                      unsigned color)
{
    bool any = false;
    for (size_t i = 0; i < 2 * series->count; i++) {
        size_t at = i < series->count ? i : 2 * series->count - 1 - i;
        double y = i < series->count ? series->low[at] : series->high[at];
        if (!fm_axis_has(&canvas->x, series->x[at]) || !fm_axis_has(&canvas->y, y)) {
            continue;
        }
        if (!any) {
            fm_text_append_format(canvas->text, "<path class=\"fill%u\" opacity=\".15\" d=\"",
                                  color);
        }
        fm_text_append_format(canvas->text, "%c%.1f %.1f", any ? 'L' : 'M',
                              x_of(canvas, series->x[at]), y_of(canvas, y));
        any = true;
    }
    fm_text_append_string(canvas->text, any ? "Z\"/>\n" : "");
}

static void line_draw(const struct canvas *canvas, const struct fm_plot_series *series,
                      unsigned color)
{
    bool pen_down = false;
    fm_text_append_format(canvas->text, "<path class=\"line line%u\" d=\"", color);
    for (size_t i = 0; i < series->count; i++) {
        if (!is_drawn(canvas, series, i)) {
            pen_down = false;
            continue;
        }
        double x = x_of(canvas, series->x[i]);
        double y = y_of(canvas, series->y[i]);
        if (!pen_down) {
            fm_text_append_format(canvas->text, "M%.1f %.1f", x, y);
        } else if (series->mark == FM_PLOT_STEPS) {
            fm_text_append_format(canvas->text, "H%.1fV%.1f", x, y);
        } else {
            fm_text_append_format(canvas->text, "L%.1f %.1f", x, y);
        }
        pen_down = true;
    }
    fm_text_append_string(canvas->text, "\"/>\n");
}

static void points_draw(const struct canvas *canvas, const struct fm_plot_series *series,
                        unsigned color)
{
    for (size_t i = 0; i < series->count; i++) {
        if (!is_drawn(canvas, series, i) || !is_inside(&canvas->x, series->x[i]) ||
            !is_inside(&canvas->y, series->y[i])) {
            continue;
        }
        double x = x_of(canvas, series->x[i]);
        double y = y_of(canvas, series->y[i]);
        fm_text_append_format(canvas->text,
                              "<circle class=\"fill%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n",
                              color, x, y);
        if (series->labels != NULL && series->labels[i] != NULL) {
            bool right = x < canvas->frame.left + canvas->frame.width * 0.75;
            fm_text_append_format(canvas->text, "<text class=\"small\" x=\"%.1f\" y=\"%.1f\"%s>",
                                  right ? x + 7 : x - 7, y - 6,
                                  right ? "" : " text-anchor=\"end\"");
            fm_markup_escape_string(canvas->text, series->labels[i]);
            fm_text_append_string(canvas->text, "</text>\n");
        }
    }
}

static void rule_draw(const struct canvas *canvas, const struct fm_plot_rule *rule)
{
    const struct fm_axis *axis = rule->vertical ? &canvas->x : &canvas->y;
    const struct fm_picture_frame *frame = &canvas->frame;
    if (!fm_axis_has(axis, rule->at) || !is_inside(axis, rule->at)) {
        return;
    }
    double x = rule->vertical ? x_of(canvas, rule->at) : frame->left;
    double y = rule->vertical ? frame->top : y_of(canvas, rule->at);
    if (rule->vertical) {
        fm_text_append_format(canvas->text, "<path class=\"rule\" d=\"M%.1f %.1fv%.1f\"/>\n", x, y,
                              frame->height);
    } else {
        fm_text_append_format(canvas->text, "<path class=\"rule\" d=\"M%.1f %.1fh%.1f\"/>\n", x, y,
                              frame->width);
    }
    if (rule->label != NULL) {
        fm_text_append_format(canvas->text, "<text class=\"small quiet\" x=\"%.1f\" y=\"%.1f\">",
                              x + 4, rule->vertical ? y + frame->height - 6 : y - 4);
        fm_markup_escape_string(canvas->text, rule->label);
        fm_text_append_string(canvas->text, "</text>\n");
    }
}

/* In a picture of their own inside, at whose edges they end: it has the coordinates of the one
 * around it. */
static void lines_draw(const struct canvas *canvas, const struct fm_plot *plot)
{
    const struct fm_picture_frame *frame = &canvas->frame;
    fm_text_append_format(canvas->text,
                          "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                          "viewBox=\"%.1f %.1f %.1f %.1f\">\n",
                          frame->left, frame->top - 1, frame->width, frame->height + 2, frame->left,
                          frame->top - 1, frame->width, frame->height + 2);
    for (uint32_t i = 0; i < plot->series_count; i++) {
        const struct fm_plot_series *series = &plot->series[i];
        unsigned color = (unsigned)(i % FM_PICTURE_COLORS);
        if (series->low != NULL) {
            band_draw(canvas, series, color);
        }
        if (series->mark != FM_PLOT_POINTS) {
            line_draw(canvas, series, color);
        }
    }
    fm_text_append_string(canvas->text, "</svg>\n");
}

static void legend_draw(const struct fm_plot *plot, double top, struct fm_text *text,
                        double *ret_height)
{
    const char *names[FM_PICTURE_COLORS * 4];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plot->series_count && count < FM_COUNT_OF(names); i++) {
        names[count++] = plot->series[i].name;
    }
    *ret_height =
        count > 1 ? fm_picture_legend(text, LEFT, top, WIDTH - LEFT - RIGHT, names, count) : 0;
}

void fm_plot_svg(const struct fm_plot *plot, enum fm_picture_place place, struct fm_text *text)
{
    struct fm_text legend = {0};
    double legend_height = 0;
    struct canvas canvas = {
        .text = text, .frame = {.left = LEFT, .width = WIDTH - LEFT - RIGHT, .height = HEIGHT}};
    canvas.frame.top = plot->title != NULL ? 44 : 16;
    fm_plot_axes(plot, &canvas.x, &canvas.y);
    legend_draw(plot, canvas.frame.top + HEIGHT + 48, &legend, &legend_height);
    fm_picture_begin(text, place, plot->title, WIDTH,
                     canvas.frame.top + HEIGHT + 48 + legend_height);
    fm_picture_axes(text, &canvas.frame, &canvas.x, &canvas.y);
    lines_draw(&canvas, plot);
    for (uint32_t i = 0; i < plot->series_count; i++) {
        const struct fm_plot_series *series = &plot->series[i];
        if (series->mark == FM_PLOT_POINTS || series->mark == FM_PLOT_LINE_POINTS) {
            points_draw(&canvas, series, (unsigned)(i % FM_PICTURE_COLORS));
        }
    }
    for (uint32_t i = 0; i < plot->rule_count; i++) {
        rule_draw(&canvas, &plot->rules[i]);
    }
    fm_text_append(text, legend.length > 0 ? legend.data : "", legend.length);
    text->failed = text->failed || legend.failed;
    fm_text_deinit(&legend);
    fm_picture_end(text);
}
