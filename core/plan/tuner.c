/*
 * The tuner. See tuner.h.
 */
#include "core/plan/tuner.h"

#include <string.h>

#include "core/util/assert.h"

#define NS_PER_MS       UINT64_C(1000000)
#define WINDOW_NS       (400 * NS_PER_MS)
#define WINDOW_ROWS_MIN 8u
#define SOME_ROWS       32u
#define SOME_BATCHES    4u
/* Of a model's batches. */
#define BATCH_WINDOW_NS      (100 * NS_PER_MS)
#define BATCH_WINDOW_BATCHES 16u
/* After a step that did not help. Doubled with every one in a row. */
#define PAUSE_NS          (5000 * NS_PER_MS)
#define PAUSE_DOUBLES_MAX 8u
/* Shares of the time. */
#define BUSY         0.9
#define BUSY_THREADS 0.85
#define SATURATED    0.95
#define OFTEN        0.5
/* Shares of the largest batch. */
#define FILLED 0.8
/* What a step must bring: of what it would bring at best; and of batches at all. */
#define GAIN_SHARE 0.2
#define GAIN_BATCH 0.05

/* What happened between two samples. */
struct window {
    double seconds;
    double rows_per_s;
    double cpu;                                 /* share of the CPUs */
    double full;                                /* share of the time */
    double readers;                             /* share of them that was busy */
    double operators;                           /* likewise */
    double used[FM_PIPELINE_STAGES_MAX];        /* share of a model's slots */
    double filled[FM_PIPELINE_STAGES_MAX];      /* mean batch over the largest */
    double rows_per_ns[FM_PIPELINE_STAGES_MAX]; /* while it was busy */
    bool saturated; /* the CPUs are busy, or a model with full batches is */
    bool unfilled;  /* a model is busy with batches that are not full */
};

static bool is_model(const struct fm_tuner *tuner, uint32_t stage)
{
    return tuner->stages[stage].slots > 0;
}

void fm_tuner_init(struct fm_tuner *ret_tuner, const struct fm_tuner_options *options)
{
    FM_ASSERT(options->stage_count <= FM_PIPELINE_STAGES_MAX);
    FM_ASSERT(options->rows_step > 0 && options->cpus > 0);
    *ret_tuner = (struct fm_tuner){.rows = options->rows,
                                   .readers = options->readers,
                                   .operators = options->operators,
                                   .rows_step = options->rows_step,
                                   .cpus = options->cpus,
                                   .stage_count = options->stage_count,
                                   .path = {.rows = options->rows.first,
                                            .readers = options->readers.first,
                                            .operators = options->operators.first},
                                   .stage = FM_TUNER_NO_STAGE};
    for (uint32_t i = 0; i < options->stage_count; i++) {
        uint32_t most = options->stages[i].slots > 0 ? options->stages[i].batch_max : 0;
        ret_tuner->stages[i] = options->stages[i];
        ret_tuner->batches[i] = (struct fm_tuner_knob){.value = most, .max = most};
    }
}

static double share(uint64_t part, double whole)
{
    return whole > 0 ? (double)part / whole : 0;
}

static void window_measure(const struct fm_tuner *tuner, const struct fm_tuner_sample *end,
                           struct window *ret_window)
{
    const struct fm_tuner_sample *begin = &tuner->begin;
    double ns = (double)(end->now_ns - begin->now_ns);
    uint64_t operators_ns = 0;
    struct window window = {.seconds = ns / 1e9};
    window.rows_per_s = share(end->rows - begin->rows, window.seconds);
    window.cpu = share(end->cpu_ns - begin->cpu_ns, ns * tuner->cpus);
    window.full = share(end->full_ns - begin->full_ns, ns);
    window.readers = share(end->readers_busy_ns - begin->readers_busy_ns, ns * tuner->path.readers);
    window.saturated = window.cpu >= BUSY;
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        const struct fm_tuner_stage_sample *now = &end->stages[i];
        const struct fm_tuner_stage_sample *then = &begin->stages[i];
        uint64_t busy_ns = now->busy_ns - then->busy_ns;
        uint64_t rows = now->rows - then->rows;
        if (!is_model(tuner, i)) {
            operators_ns += busy_ns;
            continue;
        }
        double most = (double)tuner->batches[i].value;
        window.used[i] = share(busy_ns, ns * tuner->stages[i].slots);
        window.filled[i] = share(rows, (double)(now->batches - then->batches) * most);
        window.rows_per_ns[i] = share(rows, (double)busy_ns);
        window.saturated =
            window.saturated || (window.used[i] >= SATURATED && window.filled[i] >= FILLED);
        window.unfilled = window.unfilled || (window.used[i] >= BUSY && window.filled[i] < FILLED);
    }
    window.operators = share(operators_ns, ns * tuner->path.operators);
    *ret_window = window;
}

/* So many that it does not matter where in a batch a window begins; no more than are in flight. */
static uint64_t some_rows(const struct fm_tuner *tuner)
{
    uint64_t enough = SOME_ROWS;
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        uint64_t batches = (uint64_t)SOME_BATCHES * tuner->batches[i].value;
        enough = batches > enough ? batches : enough;
    }
    return tuner->path.rows < enough ? tuner->path.rows : enough;
}

/* Whether the window says something. */
static bool window_is_long(const struct fm_tuner *tuner, const struct fm_tuner_sample *sample)
{
    const struct fm_tuner_sample *begin = &tuner->begin;
    uint64_t ns = sample->now_ns - begin->now_ns;
    if (tuner->phase == FM_TUNER_TRIES && tuner->stage != FM_TUNER_NO_STAGE) {
        uint64_t batches =
            sample->stages[tuner->stage].batches - begin->stages[tuner->stage].batches;
        return ns >= BATCH_WINDOW_NS && batches >= BATCH_WINDOW_BATCHES;
    }
    uint64_t rows = sample->rows - begin->rows;
    return ns >= WINDOW_NS && rows >= WINDOW_ROWS_MIN && rows >= 2 * some_rows(tuner);
}

/* --- Steps --- */

/* The other size to try: the direction changes where there is none in it. */
static uint32_t other_batch(const struct fm_tuner_knob *knob)
{
    bool upwards = knob->value < knob->max && (knob->upwards || knob->value == 1);
    uint32_t twice = knob->max - knob->value > knob->value ? 2 * knob->value : knob->max;
    return upwards ? twice : knob->value > 1 ? knob->value / 2 : knob->value;
}

static bool batch_is_due(const struct fm_tuner *tuner, const struct window *window, uint32_t stage,
                         uint64_t now_ns)
{
    const struct fm_tuner_knob *knob = &tuner->batches[stage];
    return is_model(tuner, stage) && knob->max > 1 && window->used[stage] >= BUSY &&
           window->filled[stage] >= FILLED && window->rows_per_ns[stage] > 0 &&
           now_ns >= knob->retry_ns;
}

/* One that was not tried for the longest time. false: there is none. */
static bool batch_step(struct fm_tuner *tuner, const struct window *window, uint64_t now_ns)
{
    uint32_t chosen = FM_TUNER_NO_STAGE;
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        if (batch_is_due(tuner, window, i, now_ns) &&
            (chosen == FM_TUNER_NO_STAGE ||
             tuner->batches[i].retry_ns < tuner->batches[chosen].retry_ns)) {
            chosen = i;
        }
    }
    if (chosen == FM_TUNER_NO_STAGE) {
        return false;
    }
    tuner->stage = chosen;
    tuner->batch_before = tuner->batches[chosen].value;
    tuner->speed = window->rows_per_ns[chosen];
    tuner->batches[chosen].value = other_batch(&tuner->batches[chosen]);
    return true;
}

/* By half, and twofold until that does not help for the first time. */
static uint32_t raised(const struct fm_tuner *tuner, uint32_t value, uint32_t max)
{
    uint32_t step = tuner->path_missed ? value / 2 : value;
    step = step > 0 ? step : 1;
    return value >= max ? value : max - value > step ? value + step : max;
}

/* By how much it would be faster at best. */
static double growth(uint32_t before, uint32_t after)
{
    return before > 0 ? (double)after / before - 1 : 0;
}

/* Raises all that was short: one of them alone would change nothing where two were. A thread needs
 * a row of its own. false: nothing was short, or all of it may be no more. */
static bool path_step(struct fm_tuner *tuner, const struct window *window, uint64_t now_ns)
{
    struct fm_tuner_path *path = &tuner->path;
    struct fm_tuner_path before = *path;
    bool waits = window->saturated && !window->unfilled;
    if (waits || now_ns < tuner->path_retry_ns) {
        return false;
    }
    if (window->readers >= BUSY_THREADS && !window->saturated) {
        path->readers = raised(tuner, path->readers, tuner->readers.max);
    }
    if (window->operators >= BUSY_THREADS && !window->saturated) {
        path->operators = raised(tuner, path->operators, tuner->operators.max);
    }
    if (window->full >= OFTEN) {
        path->rows = raised(tuner, path->rows, tuner->rows.max);
    }
    if (path->rows == before.rows && path->readers == before.readers &&
        path->operators == before.operators) {
        return false;
    }
    uint64_t threads = path->readers - before.readers + path->operators - before.operators;
    uint64_t rows = before.rows + threads * tuner->rows_step;
    rows = rows > path->rows ? rows : path->rows;
    rows = (rows + tuner->rows_step - 1) / tuner->rows_step * tuner->rows_step;
    path->rows = rows < tuner->rows.max ? (uint32_t)rows : tuner->rows.max;
    double best = growth(before.readers, path->readers);
    double operators = growth(before.operators, path->operators);
    best = operators > best ? operators : best;
    best = best > 0 ? best : growth(before.rows, path->rows);
    tuner->path_before = before;
    tuner->speed = window->rows_per_s;
    tuner->gain = GAIN_SHARE * best;
    tuner->stage = FM_TUNER_NO_STAGE;
    return true;
}

static uint64_t pause_ns(uint32_t *misses)
{
    uint32_t doubles = *misses < PAUSE_DOUBLES_MAX ? *misses : PAUSE_DOUBLES_MAX;
    (*misses)++;
    return PAUSE_NS << doubles;
}

/* true: the step is taken back. */
static bool batch_step_end(struct fm_tuner *tuner, const struct window *window, uint64_t now_ns)
{
    struct fm_tuner_knob *knob = &tuner->batches[tuner->stage];
    bool helped = window->rows_per_ns[tuner->stage] >= tuner->speed * (1 + GAIN_BATCH);
    knob->upwards = (knob->value > tuner->batch_before) == helped;
    if (helped) {
        knob->misses = 0;
        return false;
    }
    knob->value = tuner->batch_before;
    knob->retry_ns = now_ns + pause_ns(&knob->misses);
    return true;
}

static bool path_step_end(struct fm_tuner *tuner, const struct window *window, uint64_t now_ns)
{
    if (window->rows_per_s >= tuner->speed * (1 + tuner->gain)) {
        tuner->path_misses = 0;
        return false;
    }
    tuner->path = tuner->path_before;
    if (tuner->path_missed) {
        tuner->path_retry_ns = now_ns + pause_ns(&tuner->path_misses);
    }
    tuner->path_missed = true; /* a smaller step is tried at once */
    return true;
}

/* What is idle goes back towards where it began. */
static bool lower(uint32_t *value, uint32_t first, double busy)
{
    uint32_t wanted = (uint32_t)(busy * *value * 1.5) + 1;
    wanted = wanted > first ? wanted : first;
    bool idle = *value > first && busy < OFTEN && wanted < *value;
    *value = idle ? wanted : *value;
    return idle;
}

static void window_begin(struct fm_tuner *tuner, const struct fm_tuner_sample *sample,
                         enum fm_tuner_phase phase)
{
    tuner->phase = phase;
    tuner->begin = *sample;
    tuner->begun = true;
}

static bool step_begin(struct fm_tuner *tuner, const struct fm_tuner_sample *sample)
{
    struct window window;
    window_measure(tuner, sample, &window);
    bool changed = lower(&tuner->path.readers, tuner->readers.first, window.readers);
    changed = lower(&tuner->path.operators, tuner->operators.first, window.operators) || changed;
    enum fm_tuner_phase phase = FM_TUNER_WATCHES;
    if (changed) {
        phase = FM_TUNER_COMES_BACK;
    } else if (batch_step(tuner, &window, sample->now_ns)) {
        phase = FM_TUNER_TRIES; /* batches are other ones from now on */
    } else if (path_step(tuner, &window, sample->now_ns)) {
        phase = FM_TUNER_SETTLES;
    }
    window_begin(tuner, sample, phase);
    return phase != FM_TUNER_WATCHES;
}

static bool step_end(struct fm_tuner *tuner, const struct fm_tuner_sample *sample)
{
    struct window window;
    window_measure(tuner, sample, &window);
    bool back = tuner->stage == FM_TUNER_NO_STAGE ? path_step_end(tuner, &window, sample->now_ns)
                                                  : batch_step_end(tuner, &window, sample->now_ns);
    window_begin(tuner, sample, back ? FM_TUNER_COMES_BACK : FM_TUNER_WATCHES);
    return back;
}

bool fm_tuner_look(struct fm_tuner *tuner, const struct fm_tuner_sample *sample)
{
    if (!tuner->begun) {
        window_begin(tuner, sample, tuner->phase);
        return false;
    }
    if (tuner->phase == FM_TUNER_SETTLES || tuner->phase == FM_TUNER_COMES_BACK) {
        if (sample->rows - tuner->begin.rows >= some_rows(tuner)) {
            window_begin(tuner, sample,
                         tuner->phase == FM_TUNER_SETTLES ? FM_TUNER_TRIES : FM_TUNER_WATCHES);
        }
        return false;
    }
    if (!window_is_long(tuner, sample)) {
        return false;
    }
    return tuner->phase == FM_TUNER_TRIES ? step_end(tuner, sample) : step_begin(tuner, sample);
}

void fm_tuner_pause(struct fm_tuner *tuner)
{
    tuner->begun = false;
}

void fm_tuner_settings(const struct fm_tuner *tuner, struct fm_tuner_settings *ret_settings)
{
    *ret_settings = (struct fm_tuner_settings){.rows = tuner->path.rows,
                                               .readers = tuner->path.readers,
                                               .operators = tuner->path.operators};
    for (uint32_t i = 0; i < tuner->stage_count; i++) {
        ret_settings->batch[i] = tuner->batches[i].value;
    }
}
