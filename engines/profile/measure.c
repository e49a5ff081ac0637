/*
 * Measuring l(b). See measure.h.
 */
#include "engines/profile/measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/os.h"
#include "host/os/thread.h"

enum {
    CELLS_MAX = 1024,
    LOADED_MAX = 64,
    INSTANCES_MAX = 64,
    ROUNDS_MAX = 1000,
    SAMPLES_MAX = 16384,
    NEAR_BEST_PERCENT = 90
};

/* Median over the points of (fastest - slowest round) / median: a quiet machine stays below 0.1. */
#define BUSY_SPREAD 0.3

/* Latencies of one point. When full, every other one is dropped and from then on only every
 * stride-th kept: even over time, fixed memory. */
struct samples {
    uint64_t *latency_ns; /* SAMPLES_MAX */
    uint32_t count;
    uint32_t stride; /* 0 counts as 1 */
    uint32_t skipped;
    uint64_t total; /* all that were offered */
};

/* A model loaded with one number of threads and one variant. */
struct loaded {
    struct fm_model *model;
    uint32_t threads;
    size_t variant;
    uint32_t instances; /* as many as any of its settings needs */
};

/* A point to measure. */
struct cell {
    uint32_t setting; /* index into record->settings */
    struct loaded *loaded;
    uint32_t batch_index;
    uint32_t batch;
    bool dropped;         /* too slow, or its setting's smaller batch was */
    uint64_t estimate_ns; /* one run, from the warm-up */
    struct samples samples;
    double *rates; /* rows per second, by round */
    uint32_t rate_count;
};

struct measurement {
    const struct fm_measure_options *options;
    struct fm_model_config *config;
    struct fm_profile_record *record;
    struct loaded loaded[LOADED_MAX];
    uint32_t loaded_count;
    struct cell *cells;
    uint32_t cell_count;
    uint32_t batches[FM_PROFILE_POINTS_MAX];
    uint32_t batch_count;
    uint32_t input_count;
    uint32_t output_count;
    bool batched;
    struct fm_value *inputs; /* [batch_count][input_count] */
    struct fm_random random;
    struct fm_measure_progress progress;
    bool stopped;
};

/* What one thread of a slice does and finds. */
struct driver {
    struct measurement *measurement;
    struct cell *cell;
    uint32_t instance;
    uint64_t slice_ns;
    bool warm_up;
    struct samples *samples;
    struct fm_output *outputs;
    uint64_t rows;
    uint64_t elapsed_ns;
    uint64_t first_ns; /* latency of the first run */
    struct fm_error error;
    struct fm_thread thread;
};

static void samples_add(struct samples *samples, uint64_t latency_ns)
{
    samples->total++;
    if (samples->skipped + 1 < samples->stride) {
        samples->skipped++;
        return;
    }
    samples->skipped = 0;
    if (samples->count == SAMPLES_MAX) {
        for (uint32_t i = 0; i < SAMPLES_MAX / 2; i++) {
            samples->latency_ns[i] = samples->latency_ns[2 * i];
        }
        samples->count = SAMPLES_MAX / 2;
        samples->stride = samples->stride == 0 ? 2 : samples->stride * 2;
    }
    samples->latency_ns[samples->count++] = latency_ns;
}

static bool should_stop(const struct measurement *measurement)
{
    const struct fm_measure_options *options = measurement->options;
    return options->stop != NULL && options->stop(options->context);
}

/* One batch, timed. */
static int run_once(struct driver *driver, uint64_t *ret_latency_ns)
{
    struct measurement *measurement = driver->measurement;
    struct fm_tensor inputs[FM_PROFILE_POINTS_MAX];
    for (uint32_t i = 0; i < measurement->input_count; i++) {
        inputs[i] =
            measurement->inputs[driver->cell->batch_index * measurement->input_count + i].tensor;
    }
    memset(driver->outputs, 0, measurement->output_count * sizeof *driver->outputs);
    for (uint32_t i = 0; i < measurement->output_count; i++) {
        driver->outputs[i].wanted = 1;
    }
    struct fm_execution execution = {
        .struct_size = sizeof execution,
        .input_count = measurement->input_count,
        .output_count = measurement->output_count,
        .batch_size = driver->cell->batch,
        .inputs = inputs,
        .outputs = driver->outputs,
    };
    uint64_t start_ns = fm_os_now_ns();
    int status =
        fm_model_run(driver->cell->loaded->model, driver->instance, &execution, &driver->error);
    for (uint32_t i = 0; i < measurement->output_count; i++) {
        if (status == 0 && driver->outputs[i].release != NULL) {
            driver->outputs[i].release(driver->outputs[i].release_context);
        }
    }
    *ret_latency_ns = fm_os_now_ns() - start_ns;
    return status;
}

/* A thread of a slice: batches back to back until the time is up, one at least. */
static void driver_run(void *argument)
{
    struct driver *driver = argument;
    uint64_t start_ns = fm_os_now_ns();
    uint64_t end_ns = start_ns + driver->slice_ns;
    uint64_t now_ns = start_ns;
    do {
        uint64_t latency_ns = 0;
        if (run_once(driver, &latency_ns) != 0) {
            return;
        }
        now_ns = fm_os_now_ns();
        driver->first_ns = driver->rows == 0 ? latency_ns : driver->first_ns;
        driver->rows += driver->cell->batch;
        if (!driver->warm_up) {
            samples_add(driver->samples, latency_ns);
        }
    } while (now_ns < end_ns && !should_stop(driver->measurement));
    driver->elapsed_ns = now_ns - start_ns;
}

/* Moves a thread's latencies to the point's. */
static void samples_merge(struct samples *to, const struct samples *from)
{
    for (uint32_t i = 0; i < from->count; i++) {
        samples_add(to, from->latency_ns[i]);
    }
    to->total += from->total - from->count;
}

/* All instances of the point at once, for a slice of time. warm_up: the numbers only set the
 * estimate. */
static int slice_run(struct measurement *measurement, struct cell *cell, uint64_t slice_ns,
                     bool warm_up, struct fm_error *reterr)
{
    uint32_t instances = measurement->record->settings[cell->setting].instances;
    struct driver *drivers = fm_alloc_zero(instances, sizeof *drivers);
    struct samples *samples = fm_alloc_zero(instances, sizeof *samples);
    uint64_t *latencies = fm_alloc((size_t)instances * SAMPLES_MAX * sizeof *latencies);
    struct fm_output *outputs =
        fm_alloc_zero((size_t)instances * measurement->output_count + 1, sizeof *outputs);
    int status = 0;
    if (drivers == NULL || samples == NULL || latencies == NULL || outputs == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory while measuring");
        goto out;
    }
    for (uint32_t i = 0; i < instances; i++) {
        samples[i].latency_ns = latencies + (size_t)i * SAMPLES_MAX;
        drivers[i] = (struct driver){.measurement = measurement,
                                     .cell = cell,
                                     .instance = i,
                                     .slice_ns = slice_ns,
                                     .warm_up = warm_up,
                                     .samples = &samples[i],
                                     .outputs = outputs + (size_t)i * measurement->output_count};
    }
    uint32_t started = 0;
    while (status == 0 && started < instances) {
        status =
            fm_thread_start(&drivers[started].thread, "measure", driver_run, &drivers[started]);
        started += status == 0;
    }
    if (status != 0) {
        (void)fm_error_set(reterr, status, "cannot start %" PRIu32 " measuring threads", instances);
    }
    double rate = 0;
    for (uint32_t i = 0; i < started; i++) {
        fm_thread_join(&drivers[i].thread);
        if (drivers[i].error.status != 0 && status == 0) {
            status = fm_error_set(reterr, drivers[i].error.status, "%" PRIu32 " rows at once: %s",
                                  cell->batch, drivers[i].error.text);
        }
        rate += drivers[i].elapsed_ns > 0
                    ? (double)drivers[i].rows * 1e9 / (double)drivers[i].elapsed_ns
                    : 0;
    }
    if (status == 0 && warm_up) {
        cell->estimate_ns = drivers[0].first_ns;
    } else if (status == 0 && cell->rate_count < ROUNDS_MAX) {
        cell->rates[cell->rate_count++] = rate;
        for (uint32_t i = 0; i < instances; i++) {
            samples_merge(&cell->samples, &samples[i]);
        }
    }
out:
    fm_free(outputs);
    fm_free(latencies);
    fm_free(samples);
    fm_free(drivers);
    return status;
}

static void progress_report(struct measurement *measurement, const struct cell *cell,
                            const char *phase)
{
    const struct fm_measure_options *options = measurement->options;
    if (options->progress == NULL) {
        return;
    }
    measurement->progress.phase = phase;
    if (cell != NULL) {
        const struct fm_profile_setting *setting = &measurement->record->settings[cell->setting];
        measurement->progress.threads = setting->threads;
        measurement->progress.instances = setting->instances;
        measurement->progress.batch = cell->batch;
    }
    options->progress(options->context, &measurement->progress);
}

/* ---- what to measure ---- */

/* The numbers of instances to try with `threads` threads each. */
static uint32_t instances_list(const struct fm_measure_options *options, uint32_t threads,
                               uint32_t *list, uint32_t max)
{
    uint32_t count = 0;
    if (options->instances != NULL) {
        for (size_t i = 0; i < options->instance_count && count < max; i++) {
            list[count++] = options->instances[i];
        }
        return count;
    }
    uint32_t cpus = options->cpu_count > 0 ? options->cpu_count : fm_os_cpu_count();
    uint32_t most = cpus / threads > 0 ? cpus / threads : 1;
    most = most < INSTANCES_MAX ? most : INSTANCES_MAX;
    for (uint32_t instances = 1; instances < most && count + 1 < max; instances *= 2) {
        list[count++] = instances;
    }
    list[count++] = most;
    return count;
}

/* Adds the settings of one number of threads and one variant; *ret_most is the largest number of
 * instances. */
static int settings_add(struct measurement *measurement, uint32_t threads, size_t variant,
                        uint32_t *ret_most, struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    struct fm_profile_record *record = measurement->record;
    uint32_t list[INSTANCES_MAX];
    uint32_t count = instances_list(options, threads, list, INSTANCES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (options->cpu_count > 0 && (uint64_t)threads * list[i] > options->cpu_count) {
            continue;
        }
        if (record->setting_count == FM_PROFILE_SETTINGS_MAX || list[i] > INSTANCES_MAX) {
            return fm_error_set(reterr, FM_ELIMIT,
                                "more than %d settings or %d instances; give shorter lists",
                                FM_PROFILE_SETTINGS_MAX, INSTANCES_MAX);
        }
        struct fm_profile_setting *setting = &record->settings[record->setting_count++];
        setting->threads = threads;
        setting->instances = list[i];
        if (variant < options->variant_count && options->variants[variant].key != NULL) {
            (void)snprintf(setting->options, sizeof setting->options, "%s=%s",
                           options->variants[variant].key, options->variants[variant].value);
        }
        *ret_most = list[i] > *ret_most ? list[i] : *ret_most;
    }
    return 0;
}

/* Loads the model once for these settings. */
static int load(struct measurement *measurement, struct loaded *loaded, bool set_threads,
                struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    struct fm_model_config *config = measurement->config;
    int status = 0;
    if (set_threads) {
        char text[16];
        (void)snprintf(text, sizeof text, "%" PRIu32, loaded->threads);
        status = fm_model_config_set(config, "threads", text, reterr);
    }
    if (status == 0 && loaded->variant < options->variant_count &&
        options->variants[loaded->variant].key != NULL) {
        status = fm_model_config_set(config, options->variants[loaded->variant].key,
                                     options->variants[loaded->variant].value, reterr);
    }
    config->instance_count = loaded->instances;
    if (status == 0) {
        status = fm_model_load(config, &loaded->model, reterr);
    }
    if (status != 0) {
        return status;
    }
    /* A configuration's maximum is for serving; to find out what is best, look beyond it when the
     * user asks or when nobody chose it. */
    uint32_t wanted = options->batches[options->batch_count - 1];
    uint32_t batch_max = fm_model_batch_max(loaded->model);
    bool raise = batch_max > 0 && batch_max < wanted &&
                 (options->batches_given || config->max_batch_size < 0);
    if (raise) {
        fm_model_free(loaded->model);
        loaded->model = NULL;
        config->max_batch_size = (int64_t)wanted;
        status = fm_model_load(config, &loaded->model, reterr);
    }
    return status;
}

static int load_all(struct measurement *measurement, struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    size_t variant_count = options->variant_count > 0 ? options->variant_count : 1;
    size_t thread_count = options->thread_count > 0 ? options->thread_count : 1;
    for (size_t variant = 0; variant < variant_count; variant++) {
        for (size_t i = 0; i < thread_count; i++) {
            uint32_t first = measurement->record->setting_count;
            uint32_t most = 0;
            uint32_t threads = options->thread_count > 0 ? options->threads[i] : 1;
            int status = settings_add(measurement, threads, variant, &most, reterr);
            if (status == 0 && measurement->record->setting_count == first) {
                continue;
            }
            if (status == 0 && measurement->loaded_count == LOADED_MAX) {
                status = fm_error_set(reterr, FM_ELIMIT,
                                      "more than %d ways to load the model; give shorter lists",
                                      LOADED_MAX);
            }
            if (status != 0) {
                return status;
            }
            struct loaded *loaded = &measurement->loaded[measurement->loaded_count++];
            *loaded = (struct loaded){.threads = threads, .variant = variant, .instances = most};
            progress_report(measurement, NULL, "loading");
            status = load(measurement, loaded, options->thread_count > 0, reterr);
            if (status != 0) {
                return status;
            }
        }
    }
    if (measurement->loaded_count == 0) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "every setting needs more than the %" PRIu32
            " usable CPUs; give smaller --threads or --instances, or --oversubscribe",
            options->cpu_count);
    }
    return 0;
}

/* Which batch sizes the model can do. */
static int batches_choose(struct measurement *measurement, struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    uint32_t batch_max = fm_model_batch_max(measurement->loaded[0].model);
    measurement->batched = batch_max > 0;
    for (size_t i = 0; i < options->batch_count && measurement->batch_count < FM_PROFILE_POINTS_MAX;
         i++) {
        if (options->batches[i] <= (batch_max > 0 ? batch_max : 1)) {
            measurement->batches[measurement->batch_count++] = options->batches[i];
        }
    }
    if (measurement->batch_count == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            batch_max == 0
                                ? "the model does not batch, so only --batch 1 can be measured"
                                : "no batch size is within the model's maximum");
    }
    if (batch_max == 0 && options->batch_count > 1 && options->note != NULL) {
        options->note(options->context,
                      "the model does not batch: only one row at a time is measured");
    }
    return 0;
}

/* Every shape that was given names an input. */
static int shapes_check(const struct measurement *measurement, const struct fm_port *ports,
                        struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    for (size_t i = 0; i < options->shape_count; i++) {
        bool found = options->shapes[i].name == NULL && measurement->input_count == 1;
        for (uint32_t j = 0; j < measurement->input_count && options->shapes[i].name != NULL; j++) {
            found = found || strcmp(ports[j].name, options->shapes[i].name) == 0;
        }
        if (!found) {
            return fm_error_set(
                reterr, FM_EINVAL,
                "--input-shape names '%s', which is not an input of the model; its first is '%s'",
                options->shapes[i].name != NULL ? options->shapes[i].name : "",
                measurement->input_count > 0 ? ports[0].name : "");
        }
    }
    return 0;
}

static int inputs_make(struct measurement *measurement, struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    const struct fm_port *ports =
        fm_model_inputs(measurement->loaded[0].model, &measurement->input_count);
    (void)fm_model_outputs(measurement->loaded[0].model, &measurement->output_count);
    if (measurement->input_count > FM_PROFILE_POINTS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "the model has %" PRIu32 " inputs; up to %d can be measured",
                            measurement->input_count, FM_PROFILE_POINTS_MAX);
    }
    int status = shapes_check(measurement, ports, reterr);
    if (status != 0) {
        *options->ret_shapes_wrong = true;
        return status;
    }
    measurement->inputs =
        fm_alloc_zero((size_t)measurement->batch_count * measurement->input_count + 1,
                      sizeof *measurement->inputs);
    if (measurement->inputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while measuring");
    }
    size_t used = 0;
    for (uint32_t i = 0; i < measurement->input_count; i++) {
        struct fm_port row;
        char shown[160];
        status = fm_input_row_shape(&ports[i], measurement->batched, options->shapes,
                                    options->shape_count, measurement->input_count, &row, reterr);
        *options->ret_shapes_wrong = status == FM_EINVAL || status == FM_ETYPE;
        for (uint32_t j = 0; status == 0 && j < measurement->batch_count; j++) {
            status = fm_input_fill(&row, measurement->batched, measurement->batches[j],
                                   &measurement->random,
                                   &measurement->inputs[j * measurement->input_count + i], reterr);
        }
        if (status != 0) {
            return status;
        }
        if (used < sizeof measurement->record->inputs) {
            used += (size_t)snprintf(
                measurement->record->inputs + used, sizeof measurement->record->inputs - used,
                "%s%s %s %s", i == 0 ? "" : ", ", row.name, fm_dtype_name(row.dtype),
                fm_shape_format(row.shape, (uint32_t)row.rank, shown, sizeof shown));
        }
    }
    return 0;
}

/* The model that runs setting `index`. Settings were added in the order of loading. */
static struct loaded *loaded_of(struct measurement *measurement, uint32_t index)
{
    const struct fm_profile_setting *setting = &measurement->record->settings[index];
    for (uint32_t i = 0; i < measurement->loaded_count; i++) {
        struct loaded *loaded = &measurement->loaded[i];
        const struct fm_measure_options *options = measurement->options;
        char text[FM_PROFILE_NAME_SIZE] = "";
        if (loaded->variant < options->variant_count &&
            options->variants[loaded->variant].key != NULL) {
            (void)snprintf(text, sizeof text, "%s=%s", options->variants[loaded->variant].key,
                           options->variants[loaded->variant].value);
        }
        if (loaded->threads == setting->threads && strcmp(text, setting->options) == 0) {
            return loaded;
        }
    }
    return NULL;
}

static int cells_make(struct measurement *measurement, struct fm_error *reterr)
{
    uint32_t rounds = measurement->options->rounds + measurement->options->deciding_rounds;
    uint64_t count = (uint64_t)measurement->record->setting_count * measurement->batch_count;
    if (count > CELLS_MAX || rounds > ROUNDS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT,
                            "%" PRIu64 " points are too many (up to %d); give shorter lists", count,
                            CELLS_MAX);
    }
    measurement->cells = fm_alloc_zero(count, sizeof *measurement->cells);
    if (measurement->cells == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while measuring");
    }
    for (uint32_t i = 0; i < measurement->record->setting_count; i++) {
        for (uint32_t j = 0; j < measurement->batch_count; j++) {
            struct cell *cell = &measurement->cells[measurement->cell_count++];
            *cell = (struct cell){.setting = i,
                                  .loaded = loaded_of(measurement, i),
                                  .batch_index = j,
                                  .batch = measurement->batches[j]};
            cell->rates = fm_alloc_zero(rounds, sizeof *cell->rates);
            cell->samples.latency_ns = fm_alloc(SAMPLES_MAX * sizeof *cell->samples.latency_ns);
            if (cell->rates == NULL || cell->samples.latency_ns == NULL) {
                return fm_error_set(reterr, FM_ENOMEM, "out of memory while measuring");
            }
        }
    }
    return 0;
}

/* ---- measuring ---- */

/* One run of every point, in ascending batch size, to warm up and to see which are too slow. */
static int warm_up(struct measurement *measurement, struct fm_error *reterr)
{
    const struct fm_measure_options *options = measurement->options;
    measurement->progress.total = measurement->cell_count * (options->rounds + 1);
    for (uint32_t i = 0; i < measurement->cell_count && !measurement->stopped; i++) {
        struct cell *cell = &measurement->cells[i];
        const struct cell *smaller = i > 0 && cell[-1].setting == cell->setting ? &cell[-1] : NULL;
        if (smaller != NULL && options->latency_limit_ns > 0 &&
            (smaller->dropped || smaller->estimate_ns > options->latency_limit_ns)) {
            cell->dropped = true;
            if (!smaller->dropped && options->note != NULL) {
                char text[160];
                (void)snprintf(text, sizeof text,
                               "%" PRIu32
                               " rows already take %.1f s: larger batches are not measured",
                               smaller->batch, (double)smaller->estimate_ns / 1e9);
                options->note(options->context, text);
            }
            continue;
        }
        progress_report(measurement, cell, "warming up");
        int status = slice_run(measurement, cell, 0, true, reterr);
        if (status != 0) {
            return status;
        }
        measurement->progress.done++;
        measurement->stopped = should_stop(measurement);
    }
    return 0;
}

/* Visits every point that is not dropped once, in a new random order. */
static int round_run(struct measurement *measurement, uint64_t slice_ns, const char *phase,
                     struct fm_error *reterr)
{
    uint32_t order[CELLS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        if (!measurement->cells[i].dropped) {
            order[count++] = i;
        }
    }
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)fm_random_below(&measurement->random, i);
        uint32_t kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
    for (uint32_t i = 0; i < count && !measurement->stopped; i++) {
        struct cell *cell = &measurement->cells[order[i]];
        progress_report(measurement, cell, phase);
        /* Caches and thread pools belong to whoever ran last: take them back before the clock runs,
         * where that is cheap. */
        int status =
            cell->estimate_ns < slice_ns / 8 ? slice_run(measurement, cell, 0, true, reterr) : 0;
        if (status == 0) {
            status = slice_run(measurement, cell, slice_ns, false, reterr);
        }
        if (status != 0) {
            return status;
        }
        measurement->progress.done++;
        measurement->stopped = should_stop(measurement);
    }
    return 0;
}

static int compare_double(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

static int compare_uint64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double median_rate(const struct cell *cell)
{
    double sorted[ROUNDS_MAX];
    if (cell->rate_count == 0) {
        return 0;
    }
    memcpy(sorted, cell->rates, cell->rate_count * sizeof *sorted);
    qsort(sorted, cell->rate_count, sizeof *sorted, compare_double);
    uint32_t middle = cell->rate_count / 2;
    return cell->rate_count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/* More rounds for the points near the best, so that chance does not decide. */
static int decide(struct measurement *measurement, uint64_t slice_ns, struct fm_error *reterr)
{
    double best = 0;
    uint32_t near = 0;
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        double rate = median_rate(&measurement->cells[i]);
        best = rate > best ? rate : best;
    }
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        struct cell *cell = &measurement->cells[i];
        cell->dropped = median_rate(cell) * 100 < best * (double)NEAR_BEST_PERCENT;
        near += !cell->dropped;
    }
    if (near < 2) {
        return 0;
    }
    measurement->progress.total += near * measurement->options->deciding_rounds;
    int status = 0;
    for (uint32_t i = 0;
         i < measurement->options->deciding_rounds && status == 0 && !measurement->stopped; i++) {
        status = round_run(measurement, slice_ns, "deciding", reterr);
    }
    return status;
}

/* ---- the record ---- */

/* Nearest rank. */
static uint64_t quantile_ns(const struct samples *samples, uint32_t percent)
{
    uint64_t rank = ((uint64_t)samples->count * percent + 99) / 100;
    return samples->latency_ns[rank == 0 ? 0 : rank - 1];
}

static uint32_t spread_permille(const struct samples *samples, double mean)
{
    double sum = 0;
    for (uint32_t i = 0; i < samples->count; i++) {
        double distance = (double)samples->latency_ns[i] - mean;
        sum += distance * distance;
    }
    double variance = samples->count > 1 ? sum / (samples->count - 1) : 0;
    return mean > 0 ? (uint32_t)(sqrt(variance) / mean * 1000 + 0.5) : 0;
}

static uint64_t at_least_one(uint64_t latency_ns)
{
    return latency_ns == 0                          ? 1
           : latency_ns < FM_PROFILE_LATENCY_MAX_NS ? latency_ns
                                                    : FM_PROFILE_LATENCY_MAX_NS;
}

static int cell_record(struct measurement *measurement, struct cell *cell, struct fm_error *reterr)
{
    struct samples *samples = &cell->samples;
    if (samples->count == 0 || cell->rate_count == 0) {
        return 0;
    }
    qsort(samples->latency_ns, samples->count, sizeof *samples->latency_ns, compare_uint64);
    double sum = 0;
    for (uint32_t i = 0; i < samples->count; i++) {
        sum += (double)samples->latency_ns[i];
    }
    double mean = sum / samples->count;
    double low = cell->rates[0];
    double high = cell->rates[0];
    for (uint32_t i = 1; i < cell->rate_count; i++) {
        low = cell->rates[i] < low ? cell->rates[i] : low;
        high = cell->rates[i] > high ? cell->rates[i] : high;
    }
    struct fm_profile_point point = {
        .batch = cell->batch,
        .sample_count = samples->total < UINT32_MAX ? (uint32_t)samples->total : UINT32_MAX,
        .latency_ns = {at_least_one((uint64_t)(mean + 0.5)), at_least_one(quantile_ns(samples, 50)),
                       at_least_one(quantile_ns(samples, 90)),
                       at_least_one(quantile_ns(samples, 99))},
    };
    struct fm_profile_measure measure = {
        .rate_millihertz = (uint64_t)(median_rate(cell) * 1000 + 0.5),
        .rate_low_millihertz = (uint64_t)(low * 1000 + 0.5),
        .rate_high_millihertz = (uint64_t)(high * 1000 + 0.5),
        .spread_permille = spread_permille(samples, mean),
    };
    return fm_profile_setting_add(&measurement->record->settings[cell->setting], &point, &measure,
                                  reterr);
}

static void text_copy(char *field, size_t size, const char *text)
{
    (void)snprintf(field, size, "%s", text);
}

/* Says so when rounds of one point differ so much that something else must be using the CPUs. */
static void busy_note(const struct measurement *measurement)
{
    const struct fm_measure_options *options = measurement->options;
    double spreads[CELLS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        const struct cell *cell = &measurement->cells[i];
        double low = cell->rate_count >= 3 ? cell->rates[0] : 0;
        double high = low;
        for (uint32_t j = 1; low > 0 && j < cell->rate_count; j++) {
            low = cell->rates[j] < low ? cell->rates[j] : low;
            high = cell->rates[j] > high ? cell->rates[j] : high;
        }
        if (low > 0) {
            spreads[count++] = (high - low) / median_rate(cell);
        }
    }
    if (count == 0 || options->note == NULL) {
        return;
    }
    qsort(spreads, count, sizeof *spreads, compare_double);
    if (spreads[count / 2] > BUSY_SPREAD) {
        char text[192];
        (void)snprintf(text, sizeof text,
                       "the machine is busy: rates of one point differ by %.0f%% between rounds; "
                       "the recommendation is a guess until measured on a quiet machine",
                       spreads[count / 2] * 100);
        options->note(options->context, text);
    }
}

static int record_finish(struct measurement *measurement, struct fm_error *reterr)
{
    struct fm_profile_record *record = measurement->record;
    const struct fm_model *model = measurement->loaded[0].model;
    text_copy(record->model, sizeof record->model, fm_model_name(model));
    text_copy(record->backend, sizeof record->backend, fm_model_backend_name(model));
    record->version = fm_model_version(model);
    record->complete = !measurement->stopped;
    busy_note(measurement);
    uint32_t points = 0;
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        int status = cell_record(measurement, &measurement->cells[i], reterr);
        if (status != 0) {
            return status;
        }
    }
    for (uint32_t i = 0; i < record->setting_count; i++) {
        points += record->settings[i].profile.point_count;
    }
    if (points == 0) {
        return fm_error_set(reterr, FM_ECANCELLED, "interrupted before anything was measured");
    }
    (void)fm_profile_record_choose(record, measurement->options->cpu_count,
                                   measurement->options->slo_ns, 20);
    return 0;
}

static void measurement_deinit(struct measurement *measurement)
{
    for (uint32_t i = 0; i < measurement->cell_count; i++) {
        fm_free(measurement->cells[i].rates);
        fm_free(measurement->cells[i].samples.latency_ns);
    }
    fm_free(measurement->cells);
    for (size_t i = 0; measurement->inputs != NULL &&
                       i < (size_t)measurement->batch_count * measurement->input_count;
         i++) {
        fm_value_unref(&measurement->inputs[i]);
    }
    fm_free(measurement->inputs);
    for (uint32_t i = 0; i < measurement->loaded_count; i++) {
        fm_model_free(measurement->loaded[i].model);
    }
}

int fm_measure(struct fm_model_config *config, const struct fm_measure_options *options,
               struct fm_profile_record *record, struct fm_error *reterr)
{
    struct measurement *measurement = fm_alloc_zero(1, sizeof *measurement);
    if (measurement == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while measuring");
    }
    memset(record, 0, sizeof *record); /* hundreds of kilobytes: no temporary on the stack */
    measurement->options = options;
    measurement->config = config;
    measurement->record = record;
    fm_random_init(&measurement->random, options->seed);
    uint64_t slice_ns = options->duration_ns / options->rounds;
    int status = load_all(measurement, reterr);
    if (status == 0) {
        status = batches_choose(measurement, reterr);
    }
    if (status == 0) {
        status = inputs_make(measurement, reterr);
    }
    if (status == 0) {
        status = cells_make(measurement, reterr);
    }
    if (status == 0) {
        status = warm_up(measurement, reterr);
    }
    for (uint32_t i = 0; i < options->rounds && status == 0 && !measurement->stopped; i++) {
        status = round_run(measurement, slice_ns, "measuring", reterr);
    }
    if (status == 0 && !measurement->stopped && options->deciding_rounds > 0) {
        status = decide(measurement, slice_ns, reterr);
    }
    if (status == 0) {
        status = record_finish(measurement, reterr);
    }
    measurement_deinit(measurement);
    fm_free(measurement);
    return status;
}
