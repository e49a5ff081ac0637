/*
 * Heat maps. See heat_map.h.
 */
#include "core/plot/heat_map.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/plot/markup.h"
#include "core/util/assert.h"

enum { LEFT = 96, CELL_WIDTH_MAX = 84, CELL_WIDTH_MIN = 34, CELL_HEIGHT = 30, WIDTH = 720 };

/* From dark to light, even steps for the eye and for printers without colour (cividis, thinned). */
static const struct {
    unsigned char rgb[3];
    unsigned char terminal; /* among 256 colours */
} ramp[] = {{{0, 34, 78}, 17},      {{33, 59, 110}, 24},    {{76, 85, 108}, 60},
            {{108, 110, 114}, 242}, {{138, 138, 121}, 245}, {{172, 166, 112}, 143},
            {{206, 195, 93}, 185},  {{254, 232, 56}, 226}};

struct scale {
    double low;
    double high;
    bool logarithmic;
};

static double scaled(const struct scale *scale, double value)
{
    return !scale->logarithmic ? value : value > 0 ? log10(value) : -INFINITY;
}

static struct scale scale_of(const struct fm_heat_map *map)
{
    struct scale scale = {.low = INFINITY, .high = -INFINITY, .logarithmic = map->logarithmic};
    for (size_t i = 0; i < (size_t)map->row_count * map->column_count; i++) {
        double value = scaled(&scale, map->values[i]);
        if (isfinite(value)) {
            scale.low = fmin(scale.low, value);
            scale.high = fmax(scale.high, value);
        }
    }
    return scale;
}

/* 0 to 1. */
static double share_of(const struct scale *scale, double value)
{
    double at = scaled(scale, value);
    if (at == -INFINITY) {
        return 0;
    }
    if (!(scale->high > scale->low)) {
        return 0.5;
    }
    return at > scale->low ? fmin((at - scale->low) / (scale->high - scale->low), 1) : 0;
}

static void color_of(double share, unsigned ret_color[3])
{
    double at = share * (FM_COUNT_OF(ramp) - 1);
    size_t below = (size_t)at < FM_COUNT_OF(ramp) - 1 ? (size_t)at : FM_COUNT_OF(ramp) - 2;
    double part = at - (double)below;
    const unsigned char *from = ramp[below].rgb;
    const unsigned char *to = ramp[below + 1].rgb;
    for (unsigned i = 0; i < 3; i++) {
        ret_color[i] = (unsigned)lround(from[i] + (to[i] - from[i]) * part);
    }
}

static void cell_draw(const struct scale *scale, double x, double y, double width, double value,
                      struct fm_text *text)
{
    char shown[FM_AXIS_TEXT_SIZE];
    unsigned color[3];
    double share = share_of(scale, value);
    color_of(share, color);
    (void)snprintf(shown, sizeof(shown), "%.3g", value);
    fm_text_append_format(text,
                          "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
                          "fill=\"#%02x%02x%02x\"/>",
                          x, y, width - 1, CELL_HEIGHT - 1, color[0], color[1], color[2]);
    /* The style of pictures has a colour for texts: an element's own style is above it. */
    fm_text_append_format(text,
                          "<text class=\"small\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                          "style=\"fill:%s\">%s</text>\n",
                          x + width / 2, y + CELL_HEIGHT / 2.0 + 4,
                          share > 0.55 ? "#000000" : "#ffffff", shown);
}

static void label_draw(struct fm_text *text, const char *class, double x, double y,
                       const char *anchor, const char *label)
{
    fm_text_append_format(text, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
                          class, x, y, anchor);
    fm_markup_escape_string(text, label);
    fm_text_append_string(text, "</text>\n");
}

void fm_heat_map_svg(const struct fm_heat_map *map, enum fm_picture_place place,
                     struct fm_text *text)
{
    struct scale scale = scale_of(map);
    double columns = map->column_count > 0 ? map->column_count : 1;
    double width = fmin(CELL_WIDTH_MAX, fmax(CELL_WIDTH_MIN, (WIDTH - LEFT - 24) / columns));
    double top = map->title != NULL ? 44 : 16;
    double bottom = top + (double)map->row_count * CELL_HEIGHT;
    double middle = LEFT + width * columns / 2;
    fm_picture_begin(text, place, map->title, fmax(WIDTH, LEFT + width * columns + 24),
                     bottom + 68);
    for (uint32_t row = 0; row < map->row_count; row++) {
        double y = bottom - (double)(row + 1) * CELL_HEIGHT;
        label_draw(text, "small", LEFT - 8, y + CELL_HEIGHT / 2.0 + 4, "end", map->rows[row]);
        for (uint32_t i = 0; i < map->column_count; i++) {
            double value = map->values[(size_t)row * map->column_count + i];
            if (isfinite(value)) {
                cell_draw(&scale, LEFT + i * width, y, width, value, text);
            }
        }
    }
    for (uint32_t i = 0; i < map->column_count; i++) {
        label_draw(text, "small", LEFT + (i + 0.5) * width, bottom + 16, "middle", map->columns[i]);
    }
    label_draw(text, "quiet", middle, bottom + 36, "middle", map->x_label);
    label_draw(text, "quiet", middle, bottom + 56, "middle", map->value_label);
    fm_text_append_format(text,
                          "<text class=\"quiet\" x=\"20\" y=\"%.1f\" text-anchor=\"middle\" "
                          "transform=\"rotate(-90 20 %.1f)\">",
                          (top + bottom) / 2, (top + bottom) / 2);
    fm_markup_escape_string(text, map->y_label);
    fm_text_append_string(text, "</text>\n");
    fm_picture_end(text);
}

/* --- Terminal --- */

static int width_of(const struct fm_heat_map *map)
{
    size_t longest = 4;
    for (size_t i = 0; i < (size_t)map->row_count * map->column_count; i++) {
        char shown[FM_AXIS_TEXT_SIZE];
        int length =
            isfinite(map->values[i]) ? snprintf(shown, sizeof(shown), "%.3g", map->values[i]) : 0;
        longest = (size_t)length > longest ? (size_t)length : longest;
    }
    for (uint32_t i = 0; i < map->column_count; i++) {
        size_t length = strlen(map->columns[i]);
        longest = length > longest ? length : longest;
    }
    return (int)(longest < 16 ? longest : 16);
}

static int margin_of(const struct fm_heat_map *map)
{
    size_t longest = 4;
    for (uint32_t i = 0; i < map->row_count; i++) {
        size_t length = strlen(map->rows[i]);
        longest = length > longest ? length : longest;
    }
    return (int)(longest < 24 ? longest : 24);
}

void fm_heat_map_terminal(const struct fm_heat_map *map, bool color, struct fm_text *text)
{
    struct scale scale = scale_of(map);
    int width = width_of(map);
    int margin = margin_of(map);
    if (map->title != NULL) {
        fm_text_append_format(text, "%s\n", map->title);
    }
    fm_text_append_format(text, "%s, by %s\n", map->value_label, map->y_label);
    for (uint32_t row = map->row_count; row-- > 0;) {
        fm_text_append_format(text, "%*.*s ", margin, margin, map->rows[row]);
        for (uint32_t i = 0; i < map->column_count; i++) {
            double value = map->values[(size_t)row * map->column_count + i];
            char shown[FM_AXIS_TEXT_SIZE] = "";
            if (isfinite(value)) {
                (void)snprintf(shown, sizeof(shown), "%.3g", value);
            }
            double share = isfinite(value) ? share_of(&scale, value) : 0;
            size_t step = (size_t)lround(share * (FM_COUNT_OF(ramp) - 1));
            bool colored = color && shown[0] != '\0';
            if (colored) {
                fm_text_append_format(text, "\x1b[48;5;%um\x1b[38;5;%um", ramp[step].terminal,
                                      share > 0.55 ? 16 : 231);
            }
            fm_text_append_format(text, " %*s ", width, shown);
            fm_text_append_string(text, colored ? "\x1b[0m" : "");
        }
        fm_text_append_char(text, '\n');
    }
    fm_text_append_format(text, "%*s ", margin, "");
    for (uint32_t i = 0; i < map->column_count; i++) {
        fm_text_append_format(text, " %*.*s ", width, width, map->columns[i]);
    }
    fm_text_append_format(text, "\n%*s  %s\n", margin, "", map->x_label);
}
