/*
 * What pictures share. See picture.h.
 */
#include "core/plot/picture.h"

#include <string.h>

#include "core/plot/markup.h"

enum { TICK_WIDTH = 70, TICK_HEIGHT = 45, LEGEND_LINE = 20, LETTER_WIDTH = 7 };

/* Plain classes, no CSS variables: many viewers of SVG do not know them. */
static void scheme_style(struct fm_text *text, bool dark)
{
    enum { PAPER, INK, GRID, QUIET, SERIES };
    static const char *const schemes[2][SERIES + FM_PICTURE_COLORS] = {
        {"#ffffff", "#1c2430", "#d5dae1", "#5b6675", "#0072b2", "#d55e00", "#009e73", "#aa3377",
         "#b8860b", "#56a0d3", "#7a5195", "#4d4d4d"},
        {"#12161c", "#e6eaf0", "#2c3542", "#9aa6b5", "#5ab4e6", "#ff9d4d", "#3ecf9f", "#f08cc4",
         "#e6c34d", "#a3d5f7", "#c3a6e8", "#bbbbbb"},
    };
    const char *const *scheme = schemes[dark];
    fm_text_append_format(text,
                          ".fm-paper{fill:%s}.fm text{fill:%s}.fm .grid{stroke:%s}"
                          ".fm text.quiet{fill:%s}.fm .rule{stroke:%s}\n",
                          scheme[PAPER], scheme[INK], scheme[GRID], scheme[QUIET], scheme[INK]);
    for (unsigned i = 0; i < FM_PICTURE_COLORS; i++) {
        fm_text_append_format(text, ".fm .line%u{stroke:%s}.fm .fill%u{fill:%s}", i,
                              scheme[SERIES + i], i, scheme[SERIES + i]);
    }
    fm_text_append_char(text, '\n');
}

void fm_picture_style(struct fm_text *text)
{
    fm_text_append_string(text, ".fm{max-width:100%;height:auto}\n"
                                ".fm text{font:12px system-ui,sans-serif}"
                                ".fm text.title{font-size:15px;font-weight:600}"
                                ".fm text.small{font-size:11px}\n"
                                ".fm .line{fill:none;stroke-width:2;stroke-linejoin:round}"
                                ".fm .rule{fill:none;stroke-dasharray:4 3;opacity:.6}\n");
    scheme_style(text, false);
    fm_text_append_string(text, "@media(prefers-color-scheme:dark){\n");
    scheme_style(text, true);
    fm_text_append_string(text, "}\n");
}

void fm_picture_begin(struct fm_text *text, enum fm_picture_place place, const char *title,
                      double width, double height)
{
    fm_text_append_format(text,
                          "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fm\" width=\"%g\" "
                          "height=\"%g\" viewBox=\"0 0 %g %g\" role=\"img\">\n",
                          width, height, width, height);
    if (title != NULL) {
        fm_text_append_string(text, "<title>");
        fm_markup_escape_string(text, title);
        fm_text_append_string(text, "</title>\n");
    }
    if (place == FM_PICTURE_FILE) {
        fm_text_append_string(text, "<style>\n");
        fm_picture_style(text);
        fm_text_append_format(text,
                              "</style>\n<rect class=\"fm-paper\" width=\"%g\" height=\"%g\"/>\n",
                              width, height);
    }
    if (title != NULL) {
        fm_text_append_string(text, "<text class=\"title\" x=\"16\" y=\"24\">");
        fm_markup_escape_string(text, title);
        fm_text_append_string(text, "</text>\n");
    }
}

void fm_picture_end(struct fm_text *text)
{
    fm_text_append_string(text, "</svg>\n");
}

double fm_picture_x(const struct fm_picture_frame *frame, const struct fm_axis *axis, double value)
{
    return frame->left + fm_axis_place(axis, value) * frame->width;
}

double fm_picture_y(const struct fm_picture_frame *frame, const struct fm_axis *axis, double value)
{
    return frame->top + (1 - fm_axis_place(axis, value)) * frame->height;
}

static void x_axis(struct fm_text *text, const struct fm_picture_frame *frame,
                   const struct fm_axis *axis)
{
    struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
    uint32_t count = fm_axis_ticks(axis, (uint32_t)(frame->width / TICK_WIDTH), ticks);
    double bottom = frame->top + frame->height;
    for (uint32_t i = 0; i < count; i++) {
        double x = fm_picture_x(frame, axis, ticks[i].value);
        fm_text_append_format(text,
                              "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text x=\"%.1f\" "
                              "y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                              x, frame->top, bottom, x, bottom + 17, ticks[i].text);
    }
    fm_text_append_format(text,
                          "<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                          frame->left + frame->width / 2, bottom + 36);
    fm_markup_escape_string(text, axis->label);
    fm_text_append_string(text, "</text>\n");
}

static void y_axis(struct fm_text *text, const struct fm_picture_frame *frame,
                   const struct fm_axis *axis)
{
    struct fm_axis_tick ticks[FM_AXIS_TICKS_MAX];
    uint32_t count = fm_axis_ticks(axis, (uint32_t)(frame->height / TICK_HEIGHT), ticks);
    for (uint32_t i = 0; i < count; i++) {
        double y = fm_picture_y(frame, axis, ticks[i].value);
        fm_text_append_format(text,
                              "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text x=\"%.1f\" "
                              "y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                              frame->left, y, frame->left + frame->width, frame->left - 7, y + 4,
                              ticks[i].text);
    }
    double x = frame->left - 52;
    double y = frame->top + frame->height / 2;
    fm_text_append_format(text,
                          "<text class=\"quiet\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                          "transform=\"rotate(-90 %.1f %.1f)\">",
                          x, y, x, y);
    fm_markup_escape_string(text, axis->label);
    fm_text_append_string(text, "</text>\n");
}

void fm_picture_axes(struct fm_text *text, const struct fm_picture_frame *frame,
                     const struct fm_axis *x, const struct fm_axis *y)
{
    if (x != NULL) {
        x_axis(text, frame, x);
    }
    if (y != NULL) {
        y_axis(text, frame, y);
    }
}

/* Roughly: names are short and mostly of narrow letters. */
static double name_width(const char *name)
{
    return 26 + (double)strlen(name) * LETTER_WIDTH + 18;
}

double fm_picture_legend(struct fm_text *text, double left, double top, double width,
                         const char *const *names, uint32_t count)
{
    double x = left;
    double y = top;
    for (uint32_t i = 0; i < count; i++) {
        if (x > left && x + name_width(names[i]) > left + width) {
            x = left;
            y += LEGEND_LINE;
        }
        fm_text_append_format(text,
                              "<rect class=\"fill%u\" x=\"%.1f\" y=\"%.1f\" width=\"18\" "
                              "height=\"5\"/><text x=\"%.1f\" y=\"%.1f\">",
                              (unsigned)(i % FM_PICTURE_COLORS), x, y + 5, x + 24, y + 12);
        fm_markup_escape_string(text, names[i]);
        fm_text_append_string(text, "</text>\n");
        x += name_width(names[i]);
    }
    return count > 0 ? y + LEGEND_LINE - top : 0;
}
