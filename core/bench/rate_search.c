/*
 * The search for the highest rate. See rate_search.h. Pure.
 */
#include "core/bench/rate_search.h"

#include <math.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"

#define PRECISION_DEFAULT 0.02
#define REPEATS_DEFAULT   3u
#define RUNS_DEFAULT      40u
#define INSIDE            0.9 /* of the precision: how near to an end a guess may be */
#define GUESSES_MAX       2u  /* without halving the bracket */
#define CONTRADICTION     0.1 /* of margin and majority: noise; beyond, something else missed */

static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static int check(const struct fm_rate_search_options *options, struct fm_error *reterr)
{
    if (!within(options->rate_min_hz, FM_RATE_SEARCH_RATE_MIN_HZ, FM_RATE_SEARCH_RATE_MAX_HZ)) {
        return fm_error_set(
            reterr, FM_EINVAL, "rate_min_hz: %g is not a rate from %g to %g per second",
            options->rate_min_hz, FM_RATE_SEARCH_RATE_MIN_HZ, FM_RATE_SEARCH_RATE_MAX_HZ);
    }
    if (!within(options->rate_max_hz, options->rate_min_hz, FM_RATE_SEARCH_RATE_MAX_HZ)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "rate_max_hz: %g is not a rate from rate_min_hz (%g) to %g per second",
                            options->rate_max_hz, options->rate_min_hz, FM_RATE_SEARCH_RATE_MAX_HZ);
    }
    if (!within(options->start_hz, options->rate_min_hz, options->rate_max_hz)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "start_hz: %g is not between the lowest rate, %g, and the highest, %g",
                            options->start_hz, options->rate_min_hz, options->rate_max_hz);
    }
    if (!within(options->precision, FM_RATE_SEARCH_PRECISION_MIN, FM_RATE_SEARCH_PRECISION_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "precision: %g is not a share from %g to %g",
                            options->precision, FM_RATE_SEARCH_PRECISION_MIN,
                            FM_RATE_SEARCH_PRECISION_MAX);
    }
    if (options->repeats % 2 == 0 || options->repeats > FM_RATE_SEARCH_REPEATS_LIMIT) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "repeats: %u is not an odd number up to %u; an even one has no majority",
            options->repeats, FM_RATE_SEARCH_REPEATS_LIMIT);
    }
    if (options->runs_max > FM_RATE_SEARCH_RUNS_LIMIT) {
        return fm_error_set(reterr, FM_EINVAL, "runs_max: %u is above the limit of %u",
                            options->runs_max, FM_RATE_SEARCH_RUNS_LIMIT);
    }
    return 0;
}

int fm_rate_search_init(struct fm_rate_search *search, const struct fm_rate_search_options *options,
                        struct fm_error *reterr)
{
    memset(search, 0, sizeof *search);
    struct fm_rate_search_options *own = &search->options;
    *own = *options;
    own->rate_min_hz = own->rate_min_hz == 0 ? FM_RATE_SEARCH_RATE_MIN_HZ : own->rate_min_hz;
    own->rate_max_hz = own->rate_max_hz == 0 ? FM_RATE_SEARCH_RATE_MAX_HZ : own->rate_max_hz;
    own->precision = own->precision == 0 ? PRECISION_DEFAULT : own->precision;
    own->repeats = own->repeats == 0 ? REPEATS_DEFAULT : own->repeats;
    own->runs_max = own->runs_max == 0 ? RUNS_DEFAULT : own->runs_max;
    int status = check(own, reterr);
    search->next_hz = status == 0 ? own->start_hz : 0;
    return status;
}

double fm_rate_search_next(const struct fm_rate_search *search)
{
    return search->next_hz;
}

static bool has_met(const struct fm_rate_search_point *point)
{
    return point->met > point->missed;
}

static bool has_missed(const struct fm_rate_search_point *point)
{
    return point->missed > point->met;
}

/* No majority, and no more runs are to be had. */
static bool is_ceiling(const struct fm_rate_search_point *point)
{
    return point->met == point->missed && point->invalid >= FM_RATE_SEARCH_INVALID_MAX;
}

/* The lowest that missed or is a ceiling, and the highest below it that met; NULL: none. */
static void bracket(const struct fm_rate_search *search,
                    const struct fm_rate_search_point **ret_low,
                    const struct fm_rate_search_point **ret_high)
{
    *ret_low = NULL;
    *ret_high = NULL;
    for (uint32_t i = 0; i < search->point_count; i++) {
        const struct fm_rate_search_point *point = &search->points[i];
        if (has_missed(point) || is_ceiling(point)) {
            *ret_high = point;
            return;
        }
        *ret_low = has_met(point) ? point : *ret_low;
    }
}

/* The point of the rate that was tried, put in its place. */
static struct fm_rate_search_point *point_of(struct fm_rate_search *search, double rate_hz)
{
    uint32_t at = 0;
    while (at < search->point_count && search->points[at].rate_hz < rate_hz) {
        at++;
    }
    struct fm_rate_search_point *point = &search->points[at];
    if (at == search->point_count || point->rate_hz != rate_hz) {
        FM_ASSERT(search->point_count < FM_RATE_SEARCH_RUNS_LIMIT);
        memmove(point + 1, point, (search->point_count - at) * sizeof *point);
        *point = (struct fm_rate_search_point){.rate_hz = rate_hz};
        search->point_count++;
    }
    return point;
}

/* Enough runs agree that no further ones can change the majority, or no further ones are to be had.
 */
static bool is_sure(const struct fm_rate_search *search, const struct fm_rate_search_point *point)
{
    uint32_t needed = search->options.repeats / 2 + 1;
    return point->met >= needed || point->missed >= needed ||
           point->invalid >= FM_RATE_SEARCH_INVALID_MAX;
}

/* Runs at this rate have disagreed evenly, or were not valid once: it has to be tried again. */
static bool is_open(const struct fm_rate_search_point *point)
{
    return point->met == point->missed && !is_ceiling(point);
}

/* 1 / the mean margin; 0: not known. */
static double inverse_margin(const struct fm_rate_search_point *point)
{
    return point->margins > 0 ? exp(-point->log_margin_sum / point->margins) : 0;
}

/* Where, within the bracket, the line through the ends' inverse margins is 1; 0: it does not say.
 */
static double interpolate(const struct fm_rate_search_point *low,
                          const struct fm_rate_search_point *high)
{
    double above = inverse_margin(low);
    double below = inverse_margin(high);
    if (low->margins == 0 || high->margins == 0 || above < 1 - CONTRADICTION ||
        below > 1 + CONTRADICTION || above <= below) {
        return 0;
    }
    double share = (above - 1) / (above - below);
    return low->rate_hz + (high->rate_hz - low->rate_hz) * fmin(fmax(share, 0), 1);
}

static double narrow(struct fm_rate_search *search, const struct fm_rate_search_point *low,
                     const struct fm_rate_search_point *high)
{
    double width = log(high->rate_hz / low->rate_hz);
    if (search->width == 0 || width <= search->width / 2 || width > search->width) {
        search->width = width;
        search->guesses = 0;
    }
    double middle = sqrt(low->rate_hz * high->rate_hz);
    double guess = search->guesses < GUESSES_MAX ? interpolate(low, high) : 0;
    search->guesses = guess > 0 ? search->guesses + 1 : 0;
    search->width = guess > 0 ? search->width : width;
    if (guess == 0) {
        return middle;
    }
    double inside = 1 + INSIDE * search->options.precision;
    double least = fmin(low->rate_hz * inside, middle);
    double most = fmax(high->rate_hz / inside, middle);
    return guess < least ? least : guess > most ? most : guess;
}

/* The rate to try next; 0 with the reason in `end`. */
static double decide(struct fm_rate_search *search)
{
    const struct fm_rate_search_options *options = &search->options;
    for (uint32_t i = 0; i < search->point_count; i++) {
        if (is_open(&search->points[i])) {
            return search->points[i].rate_hz;
        }
    }
    const struct fm_rate_search_point *low = NULL;
    const struct fm_rate_search_point *high = NULL;
    bracket(search, &low, &high);
    FM_ASSERT(low != NULL || high != NULL); /* nothing is open, and something was tried */
    if (high == NULL) {
        if (low->rate_hz < options->rate_max_hz) {
            return fmin(low->rate_hz * 2, options->rate_max_hz);
        }
        search->end = FM_RATE_SEARCH_AT_MAX;
        return is_sure(search, low) ? 0 : low->rate_hz;
    }
    if (low == NULL) {
        if (high->rate_hz > options->rate_min_hz) {
            return fmax(high->rate_hz / 2, options->rate_min_hz);
        }
        search->end = FM_RATE_SEARCH_AT_MIN;
        return is_sure(search, high) ? 0 : high->rate_hz;
    }
    if (high->rate_hz > low->rate_hz * (1 + options->precision)) {
        return narrow(search, low, high);
    }
    search->end = is_ceiling(high) ? FM_RATE_SEARCH_CEILING : FM_RATE_SEARCH_FOUND;
    if (!is_sure(search, low)) {
        return low->rate_hz;
    }
    return is_sure(search, high) ? 0 : high->rate_hz;
}

void fm_rate_search_take(struct fm_rate_search *search, enum fm_rate_search_outcome outcome,
                         double margin)
{
    FM_ASSERT(search->next_hz > 0);
    struct fm_rate_search_point *point = point_of(search, search->next_hz);
    point->met += outcome == FM_RATE_SEARCH_MET;
    point->missed += outcome == FM_RATE_SEARCH_MISSED;
    point->invalid += outcome == FM_RATE_SEARCH_INVALID;
    if (outcome != FM_RATE_SEARCH_INVALID && margin > 0 && margin < INFINITY) {
        point->log_margin_sum += log(margin);
        point->margins++;
    }
    search->runs++;
    search->next_hz = decide(search);
    if (search->next_hz > 0) {
        search->end = FM_RATE_SEARCH_GOES_ON;
        if (search->runs == search->options.runs_max) {
            search->next_hz = 0;
            search->end = FM_RATE_SEARCH_RUNS;
        }
    }
}

/* 1 - P(X >= count), X binomial of `of` fair throws. */
static double sign_confidence(uint32_t count, uint32_t of)
{
    double below = 0;
    double term = 1; /* of choose i */
    for (uint32_t i = 0; i < count; i++) {
        below += term;
        term *= (double)(of - i) / (double)(i + 1);
    }
    return ldexp(below, -(int)of);
}

/* Least squares, each rate weighing as many runs as it had. */
static double estimate(const struct fm_rate_search *search, double low_hz, double high_hz)
{
    double runs = 0;
    double rate_sum = 0;
    double value_sum = 0;
    double square_sum = 0;
    double product_sum = 0;
    for (uint32_t i = 0; i < search->point_count; i++) {
        const struct fm_rate_search_point *point = &search->points[i];
        double value = inverse_margin(point) - 1;
        if (fabs(value) <= 0.5) {
            double rate = point->rate_hz - low_hz; /* small numbers keep their digits */
            runs += point->margins;
            rate_sum += point->margins * rate;
            value_sum += point->margins * value;
            square_sum += point->margins * rate * rate;
            product_sum += point->margins * rate * value;
        }
    }
    double spread = runs * square_sum - rate_sum * rate_sum;
    double slope = runs * product_sum - rate_sum * value_sum;
    if (!(spread > 0) || !(slope < 0)) {
        return sqrt(low_hz * high_hz);
    }
    double root = low_hz + (rate_sum - value_sum * spread / slope) / runs;
    return fmin(fmax(root, low_hz), high_hz);
}

void fm_rate_search_result(const struct fm_rate_search *search,
                           struct fm_rate_search_result *ret_result)
{
    const struct fm_rate_search_point *low = NULL;
    const struct fm_rate_search_point *high = NULL;
    bracket(search, &low, &high);
    *ret_result = (struct fm_rate_search_result){.end = search->end, .runs = search->runs};
    if (low != NULL && high != NULL) {
        ret_result->estimate_hz = estimate(search, low->rate_hz, high->rate_hz);
    }
    if (low != NULL) {
        ret_result->met_hz = low->rate_hz;
        ret_result->met_runs = low->met;
        ret_result->met_of = low->met + low->missed;
        ret_result->met_confidence = sign_confidence(low->met, ret_result->met_of);
    }
    if (high != NULL) {
        ret_result->missed_hz = high->rate_hz;
        ret_result->missed_runs = high->missed;
        ret_result->missed_of = high->met + high->missed;
        ret_result->missed_confidence = sign_confidence(high->missed, ret_result->missed_of);
    }
}
