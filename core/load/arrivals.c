/*
 * Arrival processes: gaps drawn at unit rate, put on the clock through the integrated rate.
 *
 * Does not own: the trace and the steps, which are the caller's. Thread rule: pure; a stream
 * belongs to one thread.
 */
#include "core/load/arrivals.h"

#include <math.h>
#include <string.h>

#include "core/load/loadgen_schedule.h"
#include "core/load/portable_math.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/random.h"

#define NS_PER_S 1e9

/*
 * A stretch of time in which the rate is a straight line, in units per second. A unit is what the
 * process counts in: arrivals, or seconds at factor 1 for MMPP and TRACE, whose rate is not one
 * number.
 */
struct segment {
    uint64_t start_ns; /* since the start of the period */
    uint64_t end_ns;
    double rate;
    double slope; /* of the rate, per second */
    double area;  /* units in all; INFINITY in the last one when nothing repeats */
};

/* A place in time, measured in units behind the start of a segment. */
struct cursor {
    uint64_t origin_ns; /* where the period began */
    uint32_t index;
    double units;
};

struct fm_arrivals {
    enum fm_arrivals_kind kind;
    struct fm_random random;
    struct cursor at;
    uint64_t last_ns;
    bool finished;
    bool normal_spare;   /* the polar method makes two at a time */
    double normal_value; /* the spare one */

    double gamma_d; /* d and c of Marsaglia and Tsang, of shape + 1 when that is below 1 */
    double gamma_c;
    double gamma_boost; /* 1/shape when that is below 1, else 0 */
    double gamma_scale; /* makes the mean 1 */

    struct fm_arrivals_state states[FM_ARRIVALS_STATES_MAX]; /* rates scaled */
    uint32_t state_count;
    uint32_t state;
    uint64_t state_end_ns;

    const uint64_t *times_ns;
    uint64_t time_count;
    uint64_t time_index;
    double times_scale; /* without steps: what the times are divided by; 0: there are steps */

    struct fm_loadgen_schedule *loadgen; /* LOADGEN, else NULL: its state is large */

    uint64_t period_ns;
    double period_units;
    uint64_t silent_from_ns; /* from here on the rate is 0 for good; NEVER: it is not */
    uint32_t segment_count;
    struct segment segments[];
};

static const char *const kind_names[FM_ARRIVALS_KIND_COUNT_] = {
    [FM_ARRIVALS_CONSTANT] = "constant", [FM_ARRIVALS_POISSON] = "poisson",
    [FM_ARRIVALS_GAMMA] = "gamma",       [FM_ARRIVALS_MMPP] = "mmpp",
    [FM_ARRIVALS_TRACE] = "trace",       [FM_ARRIVALS_LOADGEN] = "loadgen",
};

const char *fm_arrivals_kind_name(enum fm_arrivals_kind kind)
{
    return (unsigned)kind < FM_ARRIVALS_KIND_COUNT_ ? kind_names[kind] : "unknown";
}

enum fm_arrivals_kind fm_arrivals_kind_parse(const char *name)
{
    for (unsigned kind = 0; kind < FM_ARRIVALS_KIND_COUNT_; kind++) {
        if (strcmp(kind_names[kind], name) == 0) {
            return (enum fm_arrivals_kind)kind;
        }
    }
    return FM_ARRIVALS_KIND_COUNT_;
}

/* False for NaN. */
static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static int check_states(const struct fm_arrivals_spec *spec, struct fm_error *reterr)
{
    if (spec->state_count < 2 || spec->state_count > FM_ARRIVALS_STATES_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "states: %u given; mmpp needs 2 to %u (one state is poisson)",
                            spec->state_count, FM_ARRIVALS_STATES_MAX);
    }
    bool any = false;
    for (uint32_t i = 0; i < spec->state_count; i++) {
        const struct fm_arrivals_state *state = &spec->states[i];
        if (!within(state->rate_hz, 0, FM_ARRIVALS_RATE_MAX_HZ)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "states[%u].rate_hz: %g is not a rate from 0 to %g per second", i,
                                state->rate_hz, FM_ARRIVALS_RATE_MAX_HZ);
        }
        if (!within(state->mean_s, FM_ARRIVALS_STATE_MIN_S, FM_ARRIVALS_STATE_MAX_S)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "states[%u].mean_s: %g is not a duration from %g to %g seconds", i,
                                state->mean_s, FM_ARRIVALS_STATE_MIN_S, FM_ARRIVALS_STATE_MAX_S);
        }
        any = any || state->rate_hz > 0;
    }
    if (!any) {
        return fm_error_set(reterr, FM_EINVAL,
                            "states: every rate_hz is 0, so nothing would ever arrive; give one "
                            "state a rate");
    }
    return 0;
}

static int check_times(const struct fm_arrivals_spec *spec, struct fm_error *reterr)
{
    if (spec->times_ns == NULL || spec->time_count == 0) {
        return fm_error_set(reterr, FM_EINVAL, "times_ns: a trace needs at least one time");
    }
    for (uint64_t i = 1; i < spec->time_count; i++) {
        if (spec->times_ns[i] < spec->times_ns[i - 1]) {
            return fm_error_set(reterr, FM_EINVAL,
                                "times_ns[%llu]: %llu is before the time in front of it (%llu); "
                                "sort the trace",
                                (unsigned long long)i, (unsigned long long)spec->times_ns[i],
                                (unsigned long long)spec->times_ns[i - 1]);
        }
    }
    return 0;
}

static int check_steps(const struct fm_arrivals_spec *spec, struct fm_error *reterr)
{
    if (spec->step_count > FM_ARRIVALS_STEPS_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "step_count: %u is above the limit of %u",
                            spec->step_count, FM_ARRIVALS_STEPS_MAX);
    }
    if (spec->step_count > 0 && spec->steps == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "steps: step_count is %u, but there are none",
                            spec->step_count);
    }
    if (spec->kind == FM_ARRIVALS_LOADGEN && spec->step_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "steps: LoadGen's schedule has one rate; without steps, or as poisson");
    }
    uint64_t last_ns = 0;
    for (uint32_t i = 0; i < spec->step_count; i++) {
        const struct fm_arrivals_step *step = &spec->steps[i];
        if (step->at_ns < last_ns || step->at_ns == FM_ARRIVALS_NEVER) {
            return fm_error_set(reterr, FM_EINVAL,
                                "steps[%u].at_ns: %llu is %s; steps ascend in time", i,
                                (unsigned long long)step->at_ns,
                                step->at_ns < last_ns ? "before the step in front of it" : "never");
        }
        if (!within(step->factor, 0, FM_ARRIVALS_FACTOR_MAX)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "steps[%u].factor: %g is not a factor from 0 to %g", i,
                                step->factor, FM_ARRIVALS_FACTOR_MAX);
        }
        last_ns = step->at_ns;
    }
    if (spec->period_ns != 0 && spec->step_count == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "period_ns: there are no steps that could repeat; give steps, or 0");
    }
    if (spec->period_ns != 0 && spec->period_ns < last_ns) {
        return fm_error_set(reterr, FM_EINVAL, "period_ns: %llu is before the last step, at %llu",
                            (unsigned long long)spec->period_ns, (unsigned long long)last_ns);
    }
    return 0;
}

static int check(const struct fm_arrivals_spec *spec, struct fm_error *reterr)
{
    if ((unsigned)spec->kind >= FM_ARRIVALS_KIND_COUNT_) {
        return fm_error_set(reterr, FM_EINVAL,
                            "kind: %u is none; there are constant, poisson, "
                            "gamma, mmpp, trace and loadgen",
                            (unsigned)spec->kind);
    }
    bool by_rate = spec->kind != FM_ARRIVALS_TRACE;
    bool zero_allowed = spec->kind == FM_ARRIVALS_MMPP && spec->rate_hz == 0;
    if (by_rate && !zero_allowed &&
        !within(spec->rate_hz, FM_ARRIVALS_RATE_MIN_HZ, FM_ARRIVALS_RATE_MAX_HZ)) {
        return fm_error_set(reterr, FM_EINVAL, "rate_hz: %g is not a rate from %g to %g per second",
                            spec->rate_hz, FM_ARRIVALS_RATE_MIN_HZ, FM_ARRIVALS_RATE_MAX_HZ);
    }
    if (spec->kind == FM_ARRIVALS_GAMMA &&
        !within(spec->shape, FM_ARRIVALS_SHAPE_MIN, FM_ARRIVALS_SHAPE_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "shape: %g is not between %g and %g", spec->shape,
                            FM_ARRIVALS_SHAPE_MIN, FM_ARRIVALS_SHAPE_MAX);
    }
    double scale = spec->scale == 0 ? 1 : spec->scale;
    if (spec->kind == FM_ARRIVALS_LOADGEN &&
        spec->rate_hz * scale > FM_LOADGEN_SCHEDULE_RATE_MAX_HZ) {
        return fm_error_set(reterr, FM_EINVAL,
                            "rate_hz: %g times a scale of %g is above %g per second; LoadGen cuts "
                            "gaps off to nanoseconds, so that such a schedule stands still",
                            spec->rate_hz, scale, FM_LOADGEN_SCHEDULE_RATE_MAX_HZ);
    }
    if (spec->scale != 0 && !within(spec->scale, FM_ARRIVALS_SCALE_MIN, FM_ARRIVALS_SCALE_MAX)) {
        return fm_error_set(reterr, FM_EINVAL, "scale: %g is not between %g and %g (0 means 1)",
                            spec->scale, FM_ARRIVALS_SCALE_MIN, FM_ARRIVALS_SCALE_MAX);
    }
    int status = check_steps(spec, reterr);
    if (status == 0 && spec->kind == FM_ARRIVALS_MMPP) {
        status = check_states(spec, reterr);
    }
    if (status == 0 && spec->kind == FM_ARRIVALS_TRACE) {
        status = check_times(spec, reterr);
    }
    return status;
}

/* Appends the stretch up to end_ns; the rate goes from `first` to `last` in it. */
static void add_segment(struct fm_arrivals *arrivals, uint64_t end_ns, double first, double last)
{
    uint32_t count = arrivals->segment_count;
    uint64_t start_ns = count == 0 ? 0 : arrivals->segments[count - 1].end_ns;
    if (end_ns == start_ns) {
        return;
    }
    struct segment *segment = &arrivals->segments[arrivals->segment_count++];
    double seconds = (double)(end_ns - start_ns) / NS_PER_S;
    *segment = (struct segment){
        .start_ns = start_ns,
        .end_ns = end_ns,
        .rate = first,
        .slope = (last - first) / seconds,
        .area = (first + last) * 0.5 * seconds,
    };
    arrivals->period_units += segment->area;
}

static void add_segments(struct fm_arrivals *arrivals, const struct fm_arrivals_spec *spec,
                         double rate)
{
    double factor = 1.0;
    for (uint32_t i = 0; i < spec->step_count; i++) {
        const struct fm_arrivals_step *step = &spec->steps[i];
        double last = step->ramp ? step->factor : factor;
        add_segment(arrivals, step->at_ns, rate * factor, rate * last);
        factor = step->factor;
    }
    arrivals->period_ns = spec->period_ns;
    arrivals->silent_from_ns = FM_ARRIVALS_NEVER;
    if (spec->period_ns != 0) {
        add_segment(arrivals, spec->period_ns, rate * factor, rate * factor);
        arrivals->silent_from_ns = arrivals->period_units > 0 ? FM_ARRIVALS_NEVER : 0;
        return;
    }
    add_segment(arrivals, FM_ARRIVALS_NEVER, rate * factor, rate * factor);
    struct segment *last = &arrivals->segments[arrivals->segment_count - 1];
    if (factor > 0) {
        last->area = INFINITY;
    } else {
        arrivals->silent_from_ns = last->start_ns;
    }
}

static double draw_exponential(struct fm_arrivals *arrivals)
{
    uint64_t number = (fm_random_next(&arrivals->random) >> 11) + 1; /* 1 to 2^53 */
    return -fm_portable_log((double)number * 0x1.0p-53);
}

/* Marsaglia's polar method. fm_random_normal is not used because it depends on the C library. */
static double draw_normal(struct fm_arrivals *arrivals)
{
    if (arrivals->normal_spare) {
        arrivals->normal_spare = false;
        return arrivals->normal_value;
    }
    for (;;) {
        double x = 2.0 * fm_random_unit(&arrivals->random) - 1.0;
        double y = 2.0 * fm_random_unit(&arrivals->random) - 1.0;
        double square = x * x + y * y;
        if (square < 1.0 && square > 0.0) {
            double length = sqrt(-2.0 * fm_portable_log(square) / square);
            arrivals->normal_spare = true;
            arrivals->normal_value = y * length;
            return x * length;
        }
    }
}

/* Gamma with mean 1: Marsaglia and Tsang, "A simple method for generating gamma variables", ACM
 * TOMS 26 (2000), with their boost for shapes below 1. */
static double draw_gamma(struct fm_arrivals *arrivals)
{
    double d = arrivals->gamma_d;
    double v = 0;
    for (;;) {
        double x = draw_normal(arrivals);
        v = 1.0 + arrivals->gamma_c * x;
        if (v <= 0) {
            continue;
        }
        v = v * v * v;
        double u = 1.0 - fm_random_unit(&arrivals->random);
        double x2 = x * x;
        if (u < 1.0 - 0.0331 * x2 * x2 ||
            fm_portable_log(u) < 0.5 * x2 + d * (1.0 - v + fm_portable_log(v))) {
            break;
        }
    }
    double value = d * v * arrivals->gamma_scale;
    if (arrivals->gamma_boost > 0) {
        value *= fm_portable_exp(-draw_exponential(arrivals) * arrivals->gamma_boost);
    }
    return value;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* Moves the cursor, whose units may lie beyond its segment, to the segment they lie in; false when
 * that is never. An arrival exactly at the end of a segment belongs to it. */
static bool settle(struct fm_arrivals *arrivals)
{
    struct cursor *at = &arrivals->at;
    for (;;) {
        const struct segment *segment = &arrivals->segments[at->index];
        if (at->units <= segment->area && segment->area > 0) {
            return true;
        }
        at->units -= segment->area;
        if (at->index + 1 < arrivals->segment_count) {
            at->index++;
            continue;
        }
        if (arrivals->period_ns == 0 || !(arrivals->period_units > 0)) {
            return false;
        }
        /* Whole periods are skipped at once: a slow rate under a short period costs no loop. */
        double repeats = floor(at->units / arrivals->period_units);
        double skipped_ns = (repeats + 1.0) * (double)arrivals->period_ns;
        if (!(skipped_ns < 0x1.0p+63) || at->origin_ns > UINT64_MAX / 2) {
            return false;
        }
        at->origin_ns += ((uint64_t)repeats + 1) * arrivals->period_ns;
        at->units -= repeats * arrivals->period_units;
        at->units = at->units > 0 ? at->units : 0;
        at->index = 0;
    }
}

/* The time at which the cursor, settled, stands: the integrated rate, inverted. */
static uint64_t time_at(const struct fm_arrivals *arrivals)
{
    const struct cursor *at = &arrivals->at;
    const struct segment *segment = &arrivals->segments[at->index];
    double offset_ns = 0;
    if (segment->slope == 0) {
        offset_ns = at->units * NS_PER_S / segment->rate;
    } else if (at->units > 0) {
        /* The root of slope/2 x^2 + rate x = units in the form that loses no digits. */
        double square = segment->rate * segment->rate + 2.0 * segment->slope * at->units;
        double root = sqrt(square > 0 ? square : 0);
        offset_ns = 2.0 * at->units * NS_PER_S / (segment->rate + root);
    }
    offset_ns += 0.5;
    uint64_t start_ns = add_saturating(at->origin_ns, segment->start_ns);
    uint64_t length_ns = segment->end_ns - segment->start_ns;
    if (offset_ns >= (double)length_ns) {
        return add_saturating(start_ns, length_ns);
    }
    return add_saturating(start_ns, (uint64_t)offset_ns);
}

/* Puts the cursor at a time that is not before it. */
static void seek(struct fm_arrivals *arrivals, uint64_t time_ns)
{
    struct cursor *at = &arrivals->at;
    uint64_t offset_ns = time_ns - at->origin_ns;
    if (arrivals->period_ns != 0 && offset_ns >= arrivals->period_ns) {
        at->index = 0;
        at->origin_ns += offset_ns / arrivals->period_ns * arrivals->period_ns;
        offset_ns = time_ns - at->origin_ns;
    }
    while (offset_ns >= arrivals->segments[at->index].end_ns &&
           at->index + 1 < arrivals->segment_count) {
        at->index++;
    }
    const struct segment *segment = &arrivals->segments[at->index];
    double seconds = (double)(offset_ns - segment->start_ns) / NS_PER_S;
    at->units = (segment->rate + 0.5 * segment->slope * seconds) * seconds;
}

static void enter_state(struct fm_arrivals *arrivals, uint32_t state)
{
    double length_ns = draw_exponential(arrivals) * arrivals->states[state].mean_s * NS_PER_S;
    arrivals->state = state;
    arrivals->state_end_ns = length_ns >= 0x1.0p+63 ? FM_ARRIVALS_NEVER
                                                    : add_saturating(arrivals->state_end_ns,
                                                                     (uint64_t)(length_ns + 0.5));
}

/* The state at time 0 is drawn with the probabilities of the long run, so that nothing warms up. */
static void start_states(struct fm_arrivals *arrivals, const struct fm_arrivals_spec *spec,
                         double scale)
{
    double weight = 0;
    double arrivals_per_cycle = 0;
    for (uint32_t i = 0; i < spec->state_count; i++) {
        weight += spec->states[i].mean_s;
        arrivals_per_cycle += spec->states[i].mean_s * spec->states[i].rate_hz;
    }
    double mean_hz = arrivals_per_cycle / weight;
    double factor = spec->rate_hz > 0 ? spec->rate_hz / mean_hz * scale : scale;
    arrivals->state_count = spec->state_count;
    double point = fm_random_unit(&arrivals->random) * weight;
    uint32_t first = 0;
    for (uint32_t i = 0; i < spec->state_count; i++) {
        arrivals->states[i] = spec->states[i];
        arrivals->states[i].rate_hz *= factor;
        if (first == i && i + 1 < spec->state_count && point >= spec->states[i].mean_s) {
            point -= spec->states[i].mean_s;
            first++;
        }
    }
    enter_state(arrivals, first);
}

/* A state's end forgets the gap that was under way: Poisson arrivals have no memory, so a new gap
 * drawn from there has the same distribution. */
static uint64_t next_mmpp(struct fm_arrivals *arrivals)
{
    for (;;) {
        double rate_hz = arrivals->states[arrivals->state].rate_hz;
        if (rate_hz > 0) {
            struct cursor before = arrivals->at;
            arrivals->at.units += draw_exponential(arrivals) / rate_hz;
            uint64_t time_ns = settle(arrivals) ? time_at(arrivals) : FM_ARRIVALS_NEVER;
            if (time_ns <= arrivals->state_end_ns) {
                return time_ns;
            }
            arrivals->at = before;
        }
        if (arrivals->state_end_ns == FM_ARRIVALS_NEVER ||
            arrivals->state_end_ns >= arrivals->silent_from_ns) {
            return FM_ARRIVALS_NEVER;
        }
        seek(arrivals, arrivals->state_end_ns);
        uint32_t other =
            arrivals->state_count == 2
                ? 0
                : (uint32_t)fm_random_below(&arrivals->random, arrivals->state_count - 1);
        enter_state(arrivals, (arrivals->state + 1 + other) % arrivals->state_count);
    }
}

uint64_t fm_arrivals_trace_time_ns(uint64_t time_ns, double scale)
{
    if (scale == 1.0) {
        return time_ns;
    }
    double scaled_ns = (double)time_ns / scale + 0.5;
    return scaled_ns < 0x1.0p+63 ? (uint64_t)scaled_ns : FM_ARRIVALS_NEVER;
}

static uint64_t next_trace(struct fm_arrivals *arrivals)
{
    if (arrivals->time_index == arrivals->time_count) {
        return FM_ARRIVALS_NEVER;
    }
    uint64_t index = arrivals->time_index++;
    uint64_t time_ns = arrivals->times_ns[index];
    if (arrivals->times_scale > 0) {
        return fm_arrivals_trace_time_ns(time_ns, arrivals->times_scale);
    }
    uint64_t before_ns = index == 0 ? 0 : arrivals->times_ns[index - 1];
    arrivals->at.units += (double)(time_ns - before_ns) / NS_PER_S;
    return settle(arrivals) ? time_at(arrivals) : FM_ARRIVALS_NEVER;
}

int fm_arrivals_create(const struct fm_arrivals_spec *spec, uint64_t seed,
                       struct fm_arrivals **ret_arrivals, struct fm_error *reterr)
{
    *ret_arrivals = NULL;
    int status = check(spec, reterr);
    if (status != 0) {
        return status;
    }
    size_t segments_max = (size_t)spec->step_count + 1;
    struct fm_arrivals *arrivals =
        fm_alloc_zero(1, sizeof(*arrivals) + segments_max * sizeof(arrivals->segments[0]));
    if (arrivals == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for arrivals with %u steps",
                            spec->step_count);
    }
    fm_random_init(&arrivals->random, seed);
    arrivals->kind = spec->kind;
    double scale = spec->scale == 0 ? 1.0 : spec->scale;
    double rate = spec->rate_hz * scale;
    if (spec->kind == FM_ARRIVALS_GAMMA) {
        bool bursts = spec->shape < 1.0;
        arrivals->gamma_d = (bursts ? spec->shape + 1.0 : spec->shape) - 1.0 / 3.0;
        arrivals->gamma_c = 1.0 / sqrt(9.0 * arrivals->gamma_d);
        arrivals->gamma_boost = bursts ? 1.0 / spec->shape : 0.0;
        arrivals->gamma_scale = 1.0 / spec->shape;
    } else if (spec->kind == FM_ARRIVALS_MMPP) {
        rate = 1.0;
        start_states(arrivals, spec, scale);
    } else if (spec->kind == FM_ARRIVALS_TRACE) {
        rate = scale;
        arrivals->times_ns = spec->times_ns;
        arrivals->time_count = spec->time_count;
        arrivals->times_scale = spec->step_count == 0 ? scale : 0;
    } else if (spec->kind == FM_ARRIVALS_LOADGEN) {
        arrivals->loadgen = fm_alloc(sizeof(*arrivals->loadgen));
        if (arrivals->loadgen == NULL) {
            fm_arrivals_destroy(arrivals);
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for LoadGen's schedule");
        }
        fm_loadgen_schedule_init(arrivals->loadgen, rate,
                                 spec->loadgen_seeded ? spec->loadgen_seed : seed);
    }
    add_segments(arrivals, spec, rate);
    *ret_arrivals = arrivals;
    return 0;
}

void fm_arrivals_destroy(struct fm_arrivals *arrivals)
{
    if (arrivals != NULL) {
        fm_free(arrivals->loadgen);
    }
    fm_free(arrivals);
}

uint64_t fm_arrivals_next(struct fm_arrivals *arrivals)
{
    if (arrivals->finished) {
        return FM_ARRIVALS_NEVER;
    }
    uint64_t time_ns = FM_ARRIVALS_NEVER;
    if (arrivals->kind == FM_ARRIVALS_MMPP) {
        time_ns = next_mmpp(arrivals);
    } else if (arrivals->kind == FM_ARRIVALS_TRACE) {
        time_ns = next_trace(arrivals);
    } else if (arrivals->kind == FM_ARRIVALS_LOADGEN) {
        time_ns = fm_loadgen_schedule_next(arrivals->loadgen);
    } else {
        arrivals->at.units += arrivals->kind == FM_ARRIVALS_CONSTANT  ? 1.0
                              : arrivals->kind == FM_ARRIVALS_POISSON ? draw_exponential(arrivals)
                                                                      : draw_gamma(arrivals);
        time_ns = settle(arrivals) ? time_at(arrivals) : FM_ARRIVALS_NEVER;
    }
    /* On falling ramps rounding may put equal places a nanosecond apart, the later one first. */
    time_ns = time_ns < arrivals->last_ns ? arrivals->last_ns : time_ns;
    arrivals->last_ns = time_ns;
    arrivals->finished = time_ns == FM_ARRIVALS_NEVER;
    return time_ns;
}
