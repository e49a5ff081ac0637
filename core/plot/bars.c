/*
 * Bars of parts. See bars.h.
 */
#include "core/plot/bars.h"

#include <math.h>
#include <string.h>

#include "core/plot/markup.h"

enum { WIDTH = 720, LEFT = 150, RIGHT = 70, BAR_HEIGHT = 22, LINE_HEIGHT = 32 };
enum { NAME_COLUMNS_MAX = 24, BAR_COLUMNS_MIN = 10, BAR_COLUMNS_MAX = 120, NUMBER_COLUMNS = 10 };

static double value_of(const struct fm_bars *bars, uint32_t bar, uint32_t part)
{
    double value = bars->values[(size_t)bar * bars->part_count + part];
    return isfinite(value) && value > 0 ? value : 0;
}

static double sum_of(const struct fm_bars *bars, uint32_t bar)
{
    double sum = 0;
    for (uint32_t i = 0; i < bars->part_count; i++) {
        sum += value_of(bars, bar, i);
    }
    return sum;
}

static double largest_of(const struct fm_bars *bars)
{
    double largest = 0;
    for (uint32_t i = 0; i < bars->bar_count; i++) {
        largest = fmax(largest, sum_of(bars, i));
    }
    return largest;
}

static void bar_draw(const struct fm_bars *bars, uint32_t bar, const struct fm_axis *axis,
                     const struct fm_picture_frame *frame, double y, struct fm_text *text)
{
    double done = 0;
    char shown[FM_AXIS_TEXT_SIZE];
    fm_text_append_format(text, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8,
                          y + BAR_HEIGHT / 2.0 + 4);
    fm_markup_escape_string(text, bars->bars[bar]);
    fm_text_append_string(text, "</text>\n");
    for (uint32_t i = 0; i < bars->part_count; i++) {
        double value = value_of(bars, bar, i);
        double x = fm_picture_x(frame, axis, done);
        done += value;
        if (value > 0) {
            fm_text_append_format(text,
                                  "<rect class=\"fill%u\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" "
                                  "height=\"%d\"><title>",
                                  (unsigned)(i % FM_PICTURE_COLORS), x, y,
                                  fm_picture_x(frame, axis, done) - x, BAR_HEIGHT);
            fm_markup_escape_string(text, bars->parts[i]);
            fm_text_append_format(text, ": %.4g</title></rect>\n", value);
        }
    }
    fm_text_append_format(text, "<text class=\"small\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                          fm_picture_x(frame, axis, done) + 6, y + BAR_HEIGHT / 2.0 + 4,
                          fm_axis_text(done, shown));
}

void fm_bars_svg(const struct fm_bars *bars, enum fm_picture_place place, struct fm_text *text)
{
    struct fm_axis axis = {.label = bars->label};
    struct fm_text legend = {0};
    struct fm_picture_frame frame = {.left = LEFT,
                                     .top = bars->title != NULL ? 44 : 16,
                                     .width = WIDTH - LEFT - RIGHT,
                                     .height = (double)bars->bar_count * LINE_HEIGHT};
    double bottom = frame.top + frame.height;
    fm_axis_fit(&axis, 0, largest_of(bars));
    double legend_height =
        fm_picture_legend(&legend, 16, bottom + 48, WIDTH - 32, bars->parts, bars->part_count);
    fm_picture_begin(text, place, bars->title, WIDTH, bottom + 48 + legend_height);
    fm_picture_axes(text, &frame, &axis, NULL);
    for (uint32_t i = 0; i < bars->bar_count; i++) {
        bar_draw(bars, i, &axis, &frame,
                 frame.top + (double)i * LINE_HEIGHT + (LINE_HEIGHT - BAR_HEIGHT) / 2.0, text);
    }
    fm_text_append(text, legend.length > 0 ? legend.data : "", legend.length);
    text->failed = text->failed || legend.failed;
    fm_text_deinit(&legend);
    fm_picture_end(text);
}

/* --- Terminal --- */

static char letter_of(uint32_t part)
{
    return (char)('A' + part % 26);
}

void fm_bars_terminal(const struct fm_bars *bars, uint32_t columns, struct fm_text *text)
{
    size_t margin = 4;
    double largest = largest_of(bars);
    for (uint32_t i = 0; i < bars->bar_count; i++) {
        size_t length = strlen(bars->bars[i]);
        margin = length > margin ? length : margin;
    }
    margin = margin < NAME_COLUMNS_MAX ? margin : NAME_COLUMNS_MAX;
    uint32_t taken = (uint32_t)margin + 1 + NUMBER_COLUMNS;
    uint32_t width = columns > taken + BAR_COLUMNS_MIN ? columns - taken : BAR_COLUMNS_MIN;
    width = width < BAR_COLUMNS_MAX ? width : BAR_COLUMNS_MAX;
    if (bars->title != NULL) {
        fm_text_append_format(text, "%s\n", bars->title);
    }
    for (uint32_t i = 0; i < bars->bar_count; i++) {
        double done = 0;
        long drawn = 0;
        char shown[FM_AXIS_TEXT_SIZE];
        fm_text_append_format(text, "%*.*s ", (int)margin, (int)margin, bars->bars[i]);
        for (uint32_t part = 0; part < bars->part_count; part++) {
            done += value_of(bars, i, part);
            long end = largest > 0 ? lround(done / largest * width) : 0;
            for (; drawn < end; drawn++) {
                fm_text_append_char(text, letter_of(part));
            }
        }
        fm_text_append_format(text, " %s\n", fm_axis_text(done, shown));
    }
    fm_text_append_format(text, "%*s %s\n", (int)margin, "", bars->label);
    for (uint32_t i = 0; i < bars->part_count; i++) {
        fm_text_append_format(text, "%*s %c  %s\n", (int)margin, "", letter_of(i), bars->parts[i]);
    }
}
