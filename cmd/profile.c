/*
 * `fermata profile`: measures l(b), prints tables and charts, writes the profile file.
 *
 * Owns: options, progress, Ctrl-C, printing. Does not own: measuring (engines/profile), the file's
 * format (host/runtime/profile_file.h). Thread rule: the main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "cmd/file_arguments.h"
#include "cmd/model_argument.h"
#include "core/proto/json.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/profile/measure.h"
#include "engines/profile/plot.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/stop_signal.h"
#include "host/runtime/profile_file.h"

enum {
    LIST_MAX = FM_OPTION_LIST_MAX,
    VARIANTS_MAX = 16,
    KNEE_TOLERANCE_PERMILLE = 50,
    PATH_SIZE = 4096
};

static bool stop_asked(void *context)
{
    (void)context;
    return fm_stop_signal_get() != 0;
}

/* What the callbacks of the measurement need. */
struct watcher {
    const struct fm_call *call;
    uint64_t start_ns;
    bool visible; /* a progress line is on the terminal */
    bool wanted;
};

static void progress_clear(struct watcher *watcher)
{
    if (watcher->visible) {
        (void)fprintf(stderr, "\r\033[K");
        watcher->visible = false;
    }
}

static void on_progress(void *context, const struct fm_measure_progress *progress)
{
    struct watcher *watcher = context;
    if (!watcher->wanted) {
        return;
    }
    if (progress->total == 0) {
        (void)fprintf(stderr, "\r\033[K%s ...", progress->phase);
    } else {
        uint64_t elapsed_ns = fm_os_now_ns() - watcher->start_ns;
        uint64_t left_ns = progress->done > 0
                               ? elapsed_ns / progress->done * (progress->total - progress->done)
                               : 0;
        (void)fprintf(stderr,
                      "\r\033[K%s %" PRIu32 "/%" PRIu32 ": %" PRIu32 " x %" PRIu32
                      " thread%s, batch %" PRIu32 ", about %" PRIu64 " s left",
                      progress->phase, progress->done, progress->total, progress->instances,
                      progress->threads, progress->threads == 1 ? "" : "s", progress->batch,
                      (left_ns + 999999999) / 1000000000);
    }
    (void)fflush(stderr);
    watcher->visible = true;
}

static void on_note(void *context, const char *text)
{
    struct watcher *watcher = context;
    progress_clear(watcher);
    fm_call_note(watcher->call, "%s", text);
}

/* ---- options ---- */

struct settings {
    uint32_t batches[LIST_MAX];
    uint32_t threads[LIST_MAX];
    uint32_t instances[LIST_MAX];
    struct fm_input_shape shapes[LIST_MAX];
    struct fm_measure_variant variants[VARIANTS_MAX];
    struct fm_measure_variant set[LIST_MAX]; /* --set */
    uint32_t set_count;
    bool shapes_wrong; /* for this model */
    struct fm_measure_options options;
};

/* A list option as ascending numbers without doubles. */
static size_t list_get(const struct fm_call *call, const char *name, uint32_t *list)
{
    uint32_t count = 0;
    const int64_t *values = fm_call_integers(call, name, &count);
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t at = 0;
        while (at < used && list[at] < values[i]) {
            at++;
        }
        if (at < used && list[at] == values[i]) {
            continue;
        }
        memmove(list + at + 1, list + at, (used - at) * sizeof *list);
        list[at] = (uint32_t)values[i];
        used++;
    }
    return used;
}

static int shapes_get(const struct fm_call *call, struct settings *settings,
                      struct fm_error *reterr)
{
    uint32_t count = 0;
    const char *const *texts = fm_call_strings(call, "input-shape", &count);
    if (count > LIST_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "more than %d --input-shape", LIST_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        char *copy = fm_arena_strdup(call->arena, texts[i]);
        if (copy == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory");
        }
        int status = fm_input_shape_parse(copy, &settings->shapes[i], reterr);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "--input-shape");
        }
    }
    settings->options.shapes = settings->shapes;
    settings->options.shape_count = count;
    return 0;
}

/* "KEY=A,B,C" becomes one variant for each value. */
static int variants_get(const struct fm_call *call, struct settings *settings,
                        struct fm_error *reterr)
{
    const char *text = fm_call_string(call, "vary");
    if (text == NULL) {
        return 0;
    }
    char *copy = fm_arena_strdup(call->arena, text);
    char *value = copy != NULL ? strchr(copy, '=') : NULL;
    if (value == NULL || value == copy) {
        return fm_error_set(reterr, copy == NULL ? FM_ENOMEM : FM_EINVAL,
                            "--vary: '%s' is not KEY=VALUE,VALUE,...", text);
    }
    *value++ = '\0';
    while (value != NULL && settings->options.variant_count < VARIANTS_MAX) {
        char *comma = strchr(value, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        settings->variants[settings->options.variant_count++] =
            (struct fm_measure_variant){.key = copy, .value = value};
        value = comma;
    }
    settings->options.variants = settings->variants;
    return value == NULL
               ? 0
               : fm_error_set(reterr, FM_EINVAL, "--vary: more than %d values", VARIANTS_MAX);
}

/* --set, as texts. */
static int settings_get(const struct fm_call *call, struct settings *settings,
                        struct fm_error *reterr)
{
    const char *const *texts = fm_call_strings(call, "set", &settings->set_count);
    if (settings->set_count > LIST_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "more than %d --set", LIST_MAX);
    }
    for (uint32_t i = 0; i < settings->set_count; i++) {
        char *key = fm_arena_strdup(call->arena, texts[i]);
        char *value = key != NULL ? strchr(key, '=') : NULL;
        if (value == NULL || value == key) {
            return fm_error_set(reterr, key == NULL ? FM_ENOMEM : FM_EINVAL,
                                "--set: '%s' is not KEY=VALUE, as in graph_optimization=all",
                                texts[i]);
        }
        *value++ = '\0';
        settings->set[i] = (struct fm_measure_variant){.key = key, .value = value};
    }
    return 0;
}

/* Fixed backend settings of the user go into the configuration. */
static int settings_apply(const struct settings *settings, struct fm_model_config *config,
                          struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < settings->set_count; i++) {
        status = fm_model_config_set(config, settings->set[i].key, settings->set[i].value, reterr);
    }
    return status;
}

/* Powers of two up to the number of CPUs, and that number. */
static size_t threads_default(uint32_t *list)
{
    uint32_t cpus = fm_os_cpu_count();
    size_t count = 0;
    for (uint32_t threads = 1; threads < cpus && count + 1 < LIST_MAX; threads *= 2) {
        list[count++] = threads;
    }
    list[count++] = cpus;
    return count;
}

/* Looks at the arguments alone: every EINVAL is a usage error. */
static int options_get(const struct fm_call *call, struct settings *settings,
                       struct fm_error *reterr)
{
    struct fm_measure_options *options = &settings->options;
    options->batches = settings->batches;
    options->batch_count = list_get(call, "batch", settings->batches);
    options->batches_given = fm_call_given(call, "batch");
    options->threads = settings->threads;
    options->thread_count = list_get(call, "threads", settings->threads);
    options->instance_count = list_get(call, "instances", settings->instances);
    options->instances = options->instance_count > 0 ? settings->instances : NULL;
    options->cpu_count = fm_call_flag(call, "oversubscribe") ? 0 : fm_os_cpu_count();
    options->duration_ns = fm_call_duration_ns(call, "duration");
    options->latency_limit_ns = fm_call_duration_ns(call, "latency-limit");
    options->rounds = (uint32_t)fm_call_integer(call, "rounds");
    options->deciding_rounds = options->rounds;
    options->slo_ns = fm_call_given(call, "slo") ? fm_call_duration_ns(call, "slo") : 0;
    options->seed = 1;
    options->stop = stop_asked;
    options->progress = on_progress;
    options->note = on_note;
    options->ret_shapes_wrong = &settings->shapes_wrong;
    int status = shapes_get(call, settings, reterr);
    if (status == 0) {
        status = variants_get(call, settings, reterr);
    }
    return status == 0 ? settings_get(call, settings, reterr) : status;
}

/* Only ONNX Runtime is known to have threads to set; the other backends are measured as they are.
 */
static void threads_complete(const struct fm_model_config *config, struct settings *settings)
{
    if (settings->options.thread_count == 0 && config->backend != NULL &&
        strcmp(config->backend, "onnxruntime") == 0) {
        settings->options.thread_count = threads_default(settings->threads);
    }
}

/* ---- printing ---- */

static const char *milliseconds(uint64_t ns, char *text, size_t size)
{
    double ms = (double)ns / 1e6;
    (void)snprintf(text, size,
                   ms < 0.1    ? "%.4f"
                   : ms < 10   ? "%.3f"
                   : ms < 1000 ? "%.1f"
                               : "%.0f",
                   ms);
    return text;
}

static void table_print(const struct fm_call *call, const struct fm_profile_record *record)
{
    for (uint32_t i = 0; i < record->setting_count; i++) {
        const struct fm_profile_setting *setting = &record->settings[i];
        char label[FM_PROFILE_NAME_SIZE + 64];
        if (setting->profile.point_count == 0) {
            continue;
        }
        printf("\n%s%s%s\n", fm_style(call->color_out, FM_STYLE_BOLD),
               fm_profile_setting_label(setting, label, sizeof label),
               fm_style(call->color_out, FM_STYLE_RESET));
        printf(
            "  batch     rows/s   (slowest - fastest)   p50 ms   p90 ms   p99 ms     cv  runs\n");
        for (uint32_t j = 0; j < setting->profile.point_count; j++) {
            const struct fm_profile_point *point = &setting->profile.points[j];
            const struct fm_profile_measure *measure = &setting->measures[j];
            bool chosen =
                record->has_choice && record->choice_setting == i && record->choice_point == j;
            char p50[24];
            char p90[24];
            char p99[24];
            printf("%s%c %5" PRIu32 " %10.5g   %8.5g - %-8.5g  %8s %8s %8s %5.1f%% %5" PRIu32
                   "%s\n",
                   fm_style(call->color_out && chosen, FM_STYLE_GREEN), chosen ? '*' : ' ',
                   point->batch, (double)measure->rate_millihertz / 1000,
                   (double)measure->rate_low_millihertz / 1000,
                   (double)measure->rate_high_millihertz / 1000,
                   milliseconds(point->latency_ns[FM_PROFILE_P50], p50, sizeof p50),
                   milliseconds(point->latency_ns[FM_PROFILE_P90], p90, sizeof p90),
                   milliseconds(point->latency_ns[FM_PROFILE_P99], p99, sizeof p99),
                   (double)measure->spread_permille / 10, point->sample_count,
                   fm_style(call->color_out && chosen, FM_STYLE_RESET));
        }
        printf("  knee: batch %" PRIu32 "\n",
               fm_profile_knee(&setting->profile, FM_PROFILE_P50, KNEE_TOLERANCE_PERMILLE));
    }
}

static void choice_print(const struct fm_call *call, const struct fm_profile_record *record)
{
    if (!record->has_choice) {
        printf("\nNothing that was measured keeps p99 within %g ms.\n",
               (double)record->slo_ns / 1e6);
        return;
    }
    const struct fm_profile_setting *setting = &record->settings[record->choice_setting];
    const struct fm_profile_point *point = &setting->profile.points[record->choice_point];
    double rate = (double)setting->measures[record->choice_point].rate_millihertz / 1000;
    char p99[24];
    printf("\n%sRecommended:%s %" PRIu32 " instance%s x %" PRIu32 " thread%s, batches of %" PRIu32
           "%s%s: %.5g rows/s, p99 %s ms\n",
           fm_style(call->color_out, FM_STYLE_BOLD), fm_style(call->color_out, FM_STYLE_RESET),
           setting->instances, setting->instances == 1 ? "" : "s", setting->threads,
           setting->threads == 1 ? "" : "s", point->batch, setting->options[0] != '\0' ? ", " : "",
           setting->options, rate,
           milliseconds(point->latency_ns[FM_PROFILE_P99], p99, sizeof p99));
    printf("(the smallest batch within 2%% of the highest rate%s)\n",
           record->slo_ns > 0 ? " that keeps the SLO" : "");
}

static void setting_write(struct fm_json_writer *writer, const struct fm_profile_setting *setting)
{
    fm_json_member_uint(writer, "threads", setting->threads);
    fm_json_member_uint(writer, "instances", setting->instances);
    fm_json_member_string(writer, "options", setting->options);
}

static void point_write(struct fm_json_writer *writer, const struct fm_profile_setting *setting,
                        uint32_t index)
{
    const struct fm_profile_point *point = &setting->profile.points[index];
    const struct fm_profile_measure *measure = &setting->measures[index];
    fm_json_object_begin(writer);
    fm_json_member_uint(writer, "batch", point->batch);
    fm_json_member_uint(writer, "samples", point->sample_count);
    fm_json_member_uint(writer, "mean_ns", point->latency_ns[FM_PROFILE_MEAN]);
    fm_json_member_uint(writer, "p50_ns", point->latency_ns[FM_PROFILE_P50]);
    fm_json_member_uint(writer, "p90_ns", point->latency_ns[FM_PROFILE_P90]);
    fm_json_member_uint(writer, "p99_ns", point->latency_ns[FM_PROFILE_P99]);
    fm_json_member_number(writer, "cv", (double)measure->spread_permille / 1000);
    fm_json_member_number(writer, "rate", (double)measure->rate_millihertz / 1000);
    fm_json_member_number(writer, "rate_low", (double)measure->rate_low_millihertz / 1000);
    fm_json_member_number(writer, "rate_high", (double)measure->rate_high_millihertz / 1000);
    fm_json_object_end(writer);
}

static void json_write(const struct fm_profile_record *record, const char *path,
                       struct fm_text *text)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    fm_json_member_string(&writer, "model", record->model);
    fm_json_member_uint(&writer, "version", record->version);
    fm_json_member_string(&writer, "backend", record->backend);
    fm_json_member_string(&writer, "machine", record->machine);
    fm_json_member_string(&writer, "measured", record->measured);
    fm_json_member_string(&writer, "inputs", record->inputs);
    fm_json_key(&writer, "complete");
    fm_json_bool(&writer, record->complete);
    fm_json_key(&writer, "file");
    if (path != NULL) {
        fm_json_string(&writer, path);
    } else {
        fm_json_null(&writer);
    }
    fm_json_key(&writer, "recommended");
    if (record->has_choice) {
        const struct fm_profile_setting *setting = &record->settings[record->choice_setting];
        fm_json_object_begin(&writer);
        setting_write(&writer, setting);
        fm_json_member_uint(&writer, "batch", setting->profile.points[record->choice_point].batch);
        fm_json_member_number(&writer, "rate",
                              (double)setting->measures[record->choice_point].rate_millihertz /
                                  1000);
        fm_json_object_end(&writer);
    } else {
        fm_json_null(&writer);
    }
    fm_json_key(&writer, "settings");
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; i < record->setting_count; i++) {
        fm_json_object_begin(&writer);
        setting_write(&writer, &record->settings[i]);
        if (record->settings[i].profile.point_count > 0) {
            fm_json_member_uint(&writer, "knee",
                                fm_profile_knee(&record->settings[i].profile, FM_PROFILE_P50,
                                                KNEE_TOLERANCE_PERMILLE));
        }
        fm_json_key(&writer, "points");
        fm_json_array_begin(&writer);
        for (uint32_t j = 0; j < record->settings[i].profile.point_count; j++) {
            point_write(&writer, &record->settings[i], j);
        }
        fm_json_array_end(&writer);
        fm_json_object_end(&writer);
    }
    fm_json_array_end(&writer);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

/* ---- files ---- */

struct files {
    char yaml[PATH_SIZE];
    char svg[PATH_SIZE];
};

/* "<model>.profile.yaml" unless the user chose; the plot lies beside it. */
static int files_name(const char *stem, const char *suffix, struct files *files,
                      struct fm_error *reterr)
{
    int length = snprintf(files->yaml, sizeof files->yaml, "%s%s", stem, suffix);
    if (length <= 0 || (size_t)length + 5 >= sizeof files->yaml) {
        return fm_error_set(reterr, FM_EINVAL, "--output: the path '%.100s' is %s", stem,
                            length == 0 ? "empty" : "too long");
    }
    const char *extension = fm_path_extension(files->yaml);
    (void)snprintf(files->svg, sizeof files->svg, "%.*s.svg",
                   (int)(strlen(files->yaml) - strlen(extension)), files->yaml);
    if (strcmp(files->svg, files->yaml) == 0) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "--output is the profile file (.yaml); the plot lies beside it as .svg");
    }
    return 0;
}

/* Asked before the measurement: minutes of it must not end at a path that cannot be written. */
static int files_check(const struct fm_call *call, const char *model, struct files *files,
                       struct fm_error *reterr)
{
    int status = 0;
    if (!fm_call_flag(call, "save")) {
        return 0;
    }
    if (!fm_call_given(call, "output")) {
        status = files_name(model, ".profile.yaml", files, reterr);
    }
    if (status == 0) {
        status = fm_file_check_writable(files->yaml, reterr);
    }
    return status == 0 ? fm_file_check_writable(files->svg, reterr) : status;
}

static int files_write(const struct fm_profile_record *record, const struct files *files,
                       struct fm_error *reterr)
{
    struct fm_text text = {0};
    int status = fm_profile_file_write(record, files->yaml, reterr);
    if (status != 0) {
        return status;
    }
    fm_profile_plot_svg(record, &text);
    status = text.failed
                 ? fm_error_set(reterr, FM_ENOMEM, "out of memory while drawing '%s'", files->svg)
                 : fm_file_write_atomic(files->svg, text.data, text.length, reterr);
    fm_text_deinit(&text);
    return status;
}

/* The processor's name, as the kernel gives it. */
static void machine_name(char *text, size_t size)
{
    char *data = NULL;
    size_t length = 0;
    char name[160] = "";
    if (fm_file_read("/proc/cpuinfo", 1u << 20, &data, &length, NULL) == 0) {
        const char *line = strstr(data, "model name");
        const char *value = line != NULL ? strchr(line, ':') : NULL;
        if (value != NULL) {
            value += strspn(value, ": \t");
            (void)snprintf(name, sizeof name, "%.*s, ", (int)strcspn(value, "\n"), value);
        }
    }
    fm_free(data);
    (void)snprintf(text, size, "%s%" PRIu32 " CPUs", name, fm_os_cpu_count());
}

/* ---- the command ---- */

static int measure(const struct fm_call *call, struct settings *settings, struct files *files,
                   struct fm_profile_record *record, struct fm_error *reterr)
{
    struct fm_repository repository = {0};
    struct fm_repository_entry *entry = NULL;
    struct fm_model_config *config = NULL;
    struct watcher watcher = {.call = call,
                              .start_ns = fm_os_now_ns(),
                              .wanted = fm_os_is_terminal(2) && !call->json &&
                                        !fm_call_flag(call, "quiet")};
    int status =
        fm_model_argument_open(call, fm_call_positional(call, 0), &repository, &entry, reterr);
    if (status != 0) {
        return status;
    }
    if (entry->kind == FM_REPOSITORY_PIPELINE) {
        status = fm_error_set(
            reterr, FM_EINVAL,
            "'%s' is a pipeline; a profile is of one model: measure each of its models",
            entry->name);
    }
    if (status == 0) {
        status = fm_model_argument_config(call, entry, &config, reterr);
    }
    if (status == 0) {
        status = settings_apply(settings, config, reterr);
    }
    if (status == 0) {
        status = files_check(call, entry->name, files, reterr);
    }
    if (status == 0) {
        threads_complete(config, settings);
        settings->options.context = &watcher;
        status = fm_measure(config, &settings->options, record, reterr);
        progress_clear(&watcher);
    }
    fm_repository_close(&repository);
    return status;
}

static int report(const struct fm_call *call, const struct fm_profile_record *record,
                  const struct files *files)
{
    struct fm_text text = {0};
    if (call->json) {
        json_write(record, files != NULL ? files->yaml : NULL, &text);
        return fm_call_print(call, &text);
    }
    printf("%s%s%s version %" PRIu64 " on %s; one row: %s\n",
           fm_style(call->color_out, FM_STYLE_BOLD), record->model,
           fm_style(call->color_out, FM_STYLE_RESET), record->version, record->machine,
           record->inputs);
    table_print(call, record);
    printf("\n");
    fm_profile_plot_terminal(record, call->columns, call->color_out, &text);
    int exit_code = fm_call_print(call, &text);
    choice_print(call, record);
    if (files != NULL) {
        printf("Wrote %s and %s\n", files->yaml, files->svg);
    }
    return exit_code;
}

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    bool save = fm_call_flag(call, "save");
    struct settings *settings = fm_arena_alloc(call->arena, sizeof *settings);
    struct files files = {0};
    struct fm_profile_record *record = fm_arena_alloc(call->arena, sizeof *record);
    if (settings == NULL || record == NULL) {
        return fm_call_fail_with(call, FM_EXIT_FAILURE, "out of memory");
    }
    int status = options_get(call, settings, &error);
    if (status == 0 && save && fm_call_given(call, "output")) {
        status = files_name(fm_call_string(call, "output"), "", &files, &error);
        const struct fm_file_argument given[] = {
            {.name = "MODEL", .path = fm_call_positional(call, 0)},
            {.name = "--output", .path = files.yaml, .written = true},
            {.name = "the plot beside --output", .path = files.svg, .written = true},
        };
        status = status == 0 ? fm_file_arguments_check(given, FM_COUNT_OF(given), &error) : status;
    }
    if (status != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    fm_stop_signal_install();
    status = measure(call, settings, &files, record, &error);
    if (settings->shapes_wrong) {
        return fm_call_usage(call, "%s", error.text);
    }
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    machine_name(record->machine, sizeof record->machine);
    fm_os_format_time(fm_os_wall_ns(), record->measured, sizeof record->measured);
    /* A file that cannot be written must not cost the user what was measured: report first, then
     * fail. */
    status = save ? files_write(record, &files, &error) : 0;
    int exit_code = report(call, record, save && status == 0 ? &files : NULL);
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    if (exit_code == FM_EXIT_OK && !record->complete) {
        exit_code = fm_call_fail_with(call, FM_EXIT_INCOMPLETE,
                                      "interrupted: the profile holds what was measured so far%s",
                                      save ? " and is marked as incomplete" : "");
    }
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "MODEL",
     .help = "a model file (.onnx), a model's directory, or a repository with --model",
     .path = true},
    {.name = NULL},
};

static const struct fm_option options[] = {
    FM_OPTION_MODEL,
    FM_OPTION_MODEL_VERSION,
    {.name = "batch",
     .short_name = 'b',
     .kind = FM_OPTION_INTEGERS,
     .value_name = "B,B,...",
     .default_value = "1,2,4,8,16,32",
     .min = 1,
     .max = FM_PROFILE_BATCH_MAX,
     .help = "batch sizes; those beyond what the model can do are left out",
     .group = "What to measure"},
    {.name = "threads",
     .short_name = 't',
     .kind = FM_OPTION_INTEGERS,
     .value_name = "T,T,...",
     .min = 1,
     .max = 1024,
     .help =
         "threads of one instance; without this, powers of two up to the CPUs (ONNX Runtime only)"},
    {.name = "instances",
     .short_name = 'i',
     .kind = FM_OPTION_INTEGERS,
     .value_name = "I,I,...",
     .min = 1,
     .max = 64,
     .help = "instances running at once; without this, powers of two as far as threads x instances "
             "fit on the CPUs"},
    {.name = "input-shape",
     .short_name = 's',
     .kind = FM_OPTION_STRING,
     .repeat = true,
     .value_name = "NAME=SIZES",
     .help = "sizes of one row of an input, without the batch, where the model leaves them open: "
             "x=3,48,320"},
    {.name = "set",
     .kind = FM_OPTION_STRING,
     .repeat = true,
     .value_name = "KEY=VALUE",
     .help = "a backend setting over those of the model's configuration"},
    {.name = "vary",
     .kind = FM_OPTION_STRING,
     .value_name = "KEY=A,B",
     .help = "measure everything with each of these values of a backend setting"},
    {.name = "oversubscribe",
     .kind = FM_OPTION_FLAG,
     .help = "also measure settings of more threads than there are CPUs"},
    {.name = "duration",
     .short_name = 'd',
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "1s",
     .help = "time for each point (setting and batch size), over all rounds",
     .group = "How to measure"},
    {.name = "rounds",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "5",
     .min = 1,
     .max = 100,
     .help = "visits to each point; rates are medians over the rounds, so a disturbance of the "
             "machine hits all alike"},
    {.name = "latency-limit",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "10s",
     .help = "when one batch takes longer, larger ones are not measured"},
    {.name = "slo",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .help = "recommend only what keeps p99 within this",
     .group = "Results"},
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "the profile file; the plot lies beside it with .svg (without this, "
             "<model>.profile.yaml here)"},
    {.name = "save",
     .kind = FM_OPTION_FLAG,
     .default_value = "yes",
     .help = "print only, write no files"},
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"Find the best setting on this machine; the model leaves the size of a row open",
     "fermata profile .deps/models/ocr/cls --input-shape x=3,48,192"},
    {"Another model, with rows of 3 x 48 x 320",
     "fermata profile .deps/models/ocr/rec --input-shape x=3,48,320"},
    {"Only what keeps 99 of 100 batches within 50 ms", "fermata profile model.onnx --slo 50ms"},
    {"Is ONNX Runtime's spinning worth its CPU time?",
     "fermata profile model.onnx --vary spinning=false,true"},
    {"A quick look for a program to read",
     "fermata profile model.onnx --duration 200ms --no-save --json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_INCOMPLETE, FM_EXIT_UNAVAILABLE,
                                 FM_EXIT_INTERRUPTED, 0};

const struct fm_command fm_command_profile = {
    .name = "profile",
    .summary = "measure how long a model takes by batch size, and find its best setting",
    .description =
        "Runs the model on made-up input with each number of threads and instances and each batch "
        "size, back to back, and "
        "prints rates and latencies with their spread. All points are visited in rounds and in "
        "random order, so that noise of a "
        "shared machine hits them alike.\n\n"
        "The profile file is what the scheduler reads: l(b), the latency of a batch of b rows, as "
        "measured. The knee is the "
        "smallest batch that gives 95% of a setting's best rate; on a CPU that is often 1.\n\n"
        "Ctrl-C ends early; what was measured is written and marked as incomplete.",
    .positionals = positionals,
    .options = options,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/profile.md",
    .run = run,
};
