/*
 * Axes. See axis.h.
 */
#include "core/plot/axis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The last nine that is drawn: beyond, a double has no digits left. */
#define NINES_MAX 15.0
/* Differences and quotients of such values are finite. */
#define VALUE_MAX 1e150

double fm_axis_step(double range, double count)
{
    double rough = range / count;
    double power = pow(10, floor(log10(rough)));
    double digit = rough / power;
    return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
}

bool fm_axis_has(const struct fm_axis *axis, double value)
{
    switch (axis->scale) {
    case FM_AXIS_LOG:
        return value >= 1 / VALUE_MAX && value <= VALUE_MAX;
    case FM_AXIS_NINES:
        return value >= 0 && value < 1;
    case FM_AXIS_LINEAR:
    default:
        return fabs(value) <= VALUE_MAX;
    }
}

/* On the scale, where equal distances are equal. */
static double scaled(const struct fm_axis *axis, double value)
{
    switch (axis->scale) {
    case FM_AXIS_LOG:
        return log10(value);
    case FM_AXIS_NINES:
        return fmin(-log10(1 - value), NINES_MAX);
    case FM_AXIS_LINEAR:
    default:
        return value;
    }
}

static void fit_linear(struct fm_axis *axis, double low, double high)
{
    if (low >= 0 && low < high / 2) {
        low = 0;
    }
    if (low == high) {
        double room = low == 0 ? 1 : fabs(low) / 2;
        high += room;
        low = low == 0 ? 0 : low - room;
    }
    double step = fm_axis_step(high - low, 5);
    axis->from = floor(low / step) * step;
    axis->to = ceil(high / step) * step;
    if (!isfinite(axis->from) || !isfinite(axis->to) || axis->to <= axis->from) {
        axis->from = low; /* so large, or so close, that steps cannot be added to them */
        axis->to = nextafter(high, INFINITY);
    }
}

/* A decade is not needed where a part of it will do. */
static void fit_log(struct fm_axis *axis, double low, double high)
{
    double first = pow(10, floor(log10(low)));
    double last = pow(10, floor(log10(high)));
    axis->from = low >= 5 * first ? 5 * first : low >= 2 * first ? 2 * first : first;
    axis->to = high <= last       ? last
               : high <= 2 * last ? 2 * last
               : high <= 5 * last ? 5 * last
                                  : 10 * last;
    if (axis->to <= axis->from) {
        axis->from = low / 2;
        axis->to = high * 2;
    }
}

void fm_axis_fit(struct fm_axis *axis, double low, double high)
{
    if (!fm_axis_has(axis, low) || !fm_axis_has(axis, high) || low > high) {
        low = axis->scale == FM_AXIS_LOG ? 1 : 0;
        high = axis->scale == FM_AXIS_NINES ? 0.9 : 1;
    }
    switch (axis->scale) {
    case FM_AXIS_LOG:
        fit_log(axis, low, high);
        break;
    case FM_AXIS_NINES:
        axis->from = 0;
        axis->to = 1 - pow(10, -fmax(1, fmin(ceil(scaled(axis, high) - 1e-9), NINES_MAX)));
        break;
    case FM_AXIS_LINEAR:
    default:
        fit_linear(axis, low, high);
        break;
    }
}

double fm_axis_place(const struct fm_axis *axis, double value)
{
    double from = scaled(axis, axis->from);
    return (scaled(axis, value) - from) / (scaled(axis, axis->to) - from);
}

const char *fm_axis_text(double value, char text[FM_AXIS_TEXT_SIZE])
{
    double size = fabs(value);
    const char *suffix = size >= 1e15   ? ""
                         : size >= 1e12 ? "T"
                         : size >= 1e9  ? "G"
                         : size >= 1e6  ? "M"
                         : size >= 1e4  ? "k"
                                        : "";
    double unit = suffix[0] == 'T'   ? 1e12
                  : suffix[0] == 'G' ? 1e9
                  : suffix[0] == 'M' ? 1e6
                  : suffix[0] == 'k' ? 1e3
                                     : 1;
    (void)snprintf(text, FM_AXIS_TEXT_SIZE, "%.6g%s", value / unit, suffix);
    return text;
}

static uint32_t put(struct fm_axis_tick *ticks, uint32_t count, double value)
{
    if (count < FM_AXIS_TICKS_MAX) {
        ticks[count].value = value;
        (void)fm_axis_text(value, ticks[count].text);
        count++;
    }
    return count;
}

static uint32_t ticks_linear(const struct fm_axis *axis, uint32_t wanted,
                             struct fm_axis_tick *ticks)
{
    double step = fm_axis_step(axis->to - axis->from, wanted);
    double first = ceil(axis->from / step - 1e-9);
    uint32_t count = 0;
    for (uint32_t i = 0; i < FM_AXIS_TICKS_MAX; i++) {
        double value = (first + i) * step;
        if (!(value <= axis->to + 1e-9 * step)) {
            break;
        }
        count = put(ticks, count, value == 0 ? 0 : value); /* no -0 */
    }
    return count;
}

/* Powers of ten; and 2 and 5 times them, where there are few. */
static uint32_t ticks_log(const struct fm_axis *axis, uint32_t wanted, struct fm_axis_tick *ticks)
{
    double decades = log10(axis->to / axis->from);
    double every = ceil(decades / (wanted > 0 ? wanted : 1));
    uint32_t parts = decades * 3 <= wanted + 1 ? 3 : 1;
    uint32_t count = 0;
    every = every > 1 ? every : 1;
    for (double power = floor(log10(axis->from));
         pow(10, power) <= axis->to * (1 + 1e-9) && count < FM_AXIS_TICKS_MAX; power += every) {
        static const double factors[] = {1, 2, 5};
        for (uint32_t i = 0; i < parts; i++) {
            double value = factors[i] * pow(10, power);
            if (value >= axis->from * (1 - 1e-9) && value <= axis->to * (1 + 1e-9)) {
                count = put(ticks, count, value);
            }
        }
    }
    return count;
}

static uint32_t put_named(const struct fm_axis *axis, struct fm_axis_tick *ticks, uint32_t count,
                          double value, const char *name)
{
    double place = fm_axis_place(axis, value);
    if (!(place >= -1e-9 && place <= 1 + 1e-9)) {
        return count;
    }
    (void)put(ticks, count, value);
    (void)snprintf(ticks[count].text, FM_AXIS_TEXT_SIZE, "%s", name);
    return count + 1;
}

/* "min", "p50", "p90", "p99", "p99.9" ... */
static uint32_t ticks_nines(const struct fm_axis *axis, struct fm_axis_tick *ticks)
{
    uint32_t count = put_named(axis, ticks, 0, 0, "min");
    count = put_named(axis, ticks, count, 0.5, "p50");
    for (int nines = 1; nines <= (int)NINES_MAX; nines++) {
        char name[FM_AXIS_TEXT_SIZE];
        double value = 1 - pow(10, -nines);
        (void)snprintf(name, sizeof(name), "p%.*f", nines > 2 ? nines - 2 : 0, value * 100);
        count = put_named(axis, ticks, count, value, name);
    }
    return count;
}

uint32_t fm_axis_ticks(const struct fm_axis *axis, uint32_t wanted,
                       struct fm_axis_tick ret_ticks[FM_AXIS_TICKS_MAX])
{
    wanted = wanted == 0 ? 1 : wanted < FM_AXIS_TICKS_MAX / 2 ? wanted : FM_AXIS_TICKS_MAX / 2;
    switch (axis->scale) {
    case FM_AXIS_LOG:
        return ticks_log(axis, wanted, ret_ticks);
    case FM_AXIS_NINES:
        return ticks_nines(axis, ret_ticks);
    case FM_AXIS_LINEAR:
    default:
        return ticks_linear(axis, wanted, ret_ticks);
    }
}
