/*
 * An axis of a plot: what it covers, where a value lies on it, and where it is marked.
 *
 * Owns: round steps, scales, texts of marks. Does not own: drawing. Thread rule: pure.
 */
#ifndef FM_CORE_PLOT_AXIS_H
#define FM_CORE_PLOT_AXIS_H

#include <stdbool.h>
#include <stdint.h>

enum fm_axis_scale {
    FM_AXIS_LINEAR,
    FM_AXIS_LOG,   /* values above 0 */
    FM_AXIS_NINES, /* shares from 0 to below 1, such that 0, 0.9, 0.99 ... are equally far apart:
                      -log10(1 - share), as the tails of latencies are shown */
};

struct fm_axis {
    const char *label; /* borrowed */
    enum fm_axis_scale scale;
    double from; /* fm_axis_fit sets both */
    double to;
};

enum { FM_AXIS_TICKS_MAX = 32, FM_AXIS_TEXT_SIZE = 24 };

struct fm_axis_tick {
    double value;
    char text[FM_AXIS_TEXT_SIZE]; /* empty: marked, not named */
};

/* 1, 2 or 5 times a power of ten, so that about `count` steps make `range` > 0. */
double fm_axis_step(double range, double count);
/* Whether the scale has a place for it: not beyond 1e150, on a LOG axis above 0, on one of NINES
 * from 0 to below 1. */
bool fm_axis_has(const struct fm_axis *axis, double value);
/*
 * Covers all values from low to high, with round ends, and never nothing: where low is high, there
 * is some room around it. LINEAR axes begin at 0 when low is not below 0 and less than half of
 * high.
 */
void fm_axis_fit(struct fm_axis *axis, double low, double high);
/* From 0 at `from` to 1 at `to`, and beyond them where the value is outside. */
double fm_axis_place(const struct fm_axis *axis, double value);
/* About `wanted` marks, in ascending order, all of them on the axis. Returns how many. */
uint32_t fm_axis_ticks(const struct fm_axis *axis, uint32_t wanted,
                       struct fm_axis_tick ret_ticks[FM_AXIS_TICKS_MAX]);
/* As marks are named: "0.5", "20k", "1.5M". Returns text. */
const char *fm_axis_text(double value, char text[FM_AXIS_TEXT_SIZE]);

#endif
