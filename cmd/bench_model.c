/*
 * `fermata bench model`: writes models of a family, and says what they take.
 *
 * Owns: options, where what goes. Does not own: models (core/onnx), files (engines/bench), what is
 * printed (bench_model_report). Thread rule: the main thread.
 */
#include <inttypes.h>
#include <string.h>

#include "cmd/arguments.h"
#include "cmd/bench_model_report.h"
#include "cmd/command.h"
#include "core/onnx/family_grid.h"
#include "core/util/error.h"
#include "host/os/file.h"
#include "host/os/stop_signal.h"

/* Everything the command holds, in the call's arena. */
struct work {
    const struct fm_call *call;
    struct fm_family_grid grid;
    const char *output; /* NULL: nothing is written */
    struct fm_bench_model *models;
    uint32_t count;
};

static int family_unknown(const struct fm_call *call, const char *name)
{
    const char *names[FM_FAMILY_COUNT_];
    struct fm_text list = {0};
    for (int i = 0; i < FM_FAMILY_COUNT_; i++) {
        names[i] = fm_family_name((enum fm_family)i);
        fm_text_append_format(&list, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *nearest = fm_arguments_suggest(name, names, FM_FAMILY_COUNT_);
    int exit_code =
        nearest != NULL
            ? fm_call_usage(call, "there is no family '%s'; did you mean '%s'?", name, nearest)
            : fm_call_usage(call, "there is no family '%s'; there are: %s", name,
                            list.failed ? "others" : list.data);
    fm_text_deinit(&list);
    return exit_code;
}

/* The values of one parameter; FM_EXIT_OK where none are given. */
static int axis_read(const struct fm_call *call, struct fm_family_grid *grid,
                     enum fm_family_parameter parameter)
{
    const char *option = fm_family_parameter_name(parameter);
    if (!fm_call_given(call, option)) {
        return FM_EXIT_OK;
    }
    uint64_t values[FM_OPTION_LIST_MAX];
    uint32_t count = 0;
    const int64_t *given = fm_call_integers(call, option, &count);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (uint64_t)given[i];
    }
    struct fm_error error = {0};
    return fm_family_grid_set(grid, parameter, values, count, &error) != 0
               ? fm_call_usage(call, "--%s", error.text)
               : FM_EXIT_OK;
}

/* The models that the command line asks for. */
static int grid_read(const struct fm_call *call, struct fm_family_grid *ret_grid)
{
    const char *name = fm_call_positional(call, 0);
    *ret_grid = (struct fm_family_grid){.family = fm_family_parse(name),
                                        .seed = (uint64_t)fm_call_integer(call, "seed")};
    if (ret_grid->family == FM_FAMILY_COUNT_) {
        return family_unknown(call, name);
    }
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        int exit_code = axis_read(call, ret_grid, (enum fm_family_parameter)i);
        if (exit_code != FM_EXIT_OK) {
            return exit_code;
        }
    }
    struct fm_error error = {0};
    return fm_family_grid_check(ret_grid, &error) != 0 ? fm_call_usage(call, "%s", error.text)
                                                       : FM_EXIT_OK;
}

/* Options that mean nothing for what is to be written. */
static int output_check(const struct work *work)
{
    const struct fm_call *call = work->call;
    bool is_file = work->output != NULL && strcmp(fm_path_extension(work->output), ".onnx") == 0;
    if (work->output == NULL && fm_call_flag(call, "force")) {
        return fm_call_usage(call, "--force replaces what lies at --output, which is not given");
    }
    if (fm_call_given(call, "max-batch") && (work->output == NULL || is_file)) {
        return fm_call_usage(call, "--max-batch is for the model.yaml of a directory, and --output "
                                   "names none");
    }
    if (is_file && work->count > 1) {
        return fm_call_usage(call,
                             "--output: '%s' is a single file, and these are %" PRIu32
                             " models: give a directory for all of them",
                             work->output, work->count);
    }
    return FM_EXIT_OK;
}

/* Where a model goes: its part of the repository, or all of --output. */
static int place_of(const struct work *work, const struct fm_bench_model *model, char *ret_path,
                    size_t size, struct fm_error *reterr)
{
    int status = work->count > 1 ? fm_path_join(ret_path, size, work->output, model->name)
                                 : fm_path_join(ret_path, size, ".", work->output);
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "cannot write '%.100s...': the path is too long",
                              work->output);
}

/* Builds a model, counts it and looks whether it can be written; nothing is changed. */
static int model_plan(struct work *work, uint32_t index, struct fm_error *reterr)
{
    struct fm_bench_model *model = &work->models[index];
    struct fm_onnx_graph graph;
    struct fm_text name = {0};
    fm_family_grid_at(&work->grid, index, &model->spec);
    fm_family_grid_name(&work->grid, index, &name);
    model->name = name.failed ? NULL : fm_arena_strdup(work->call->arena, name.data);
    fm_text_deinit(&name);
    if (model->name == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = fm_family_build(&model->spec, &graph, &model->file_bytes, reterr);
    if (status != 0) {
        return work->count > 1 ? fm_error_prefix(reterr, status, "%s", model->name) : status;
    }
    fm_model_counts_make(&graph, &model->counts);
    fm_onnx_graph_deinit(&graph);
    char path[4096];
    if (work->output == NULL) {
        return 0;
    }
    status = place_of(work, model, path, sizeof path, reterr);
    return status != 0 ? status
                       : fm_model_directory_check(path, fm_call_flag(work->call, "force"), reterr);
}

static bool stopped(void)
{
    return fm_stop_signal_get() != 0;
}

static int model_write(struct work *work, uint32_t index, struct fm_error *reterr)
{
    struct fm_bench_model *model = &work->models[index];
    struct fm_model_directory *directory =
        fm_arena_alloc(work->call->arena, sizeof *model->directory);
    if (directory == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    char path[4096];
    int status = place_of(work, model, path, sizeof path, reterr);
    struct fm_onnx_graph graph;
    status = status != 0 ? status : fm_family_build(&model->spec, &graph, NULL, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_model_directory_options options = {
        .graph = &graph,
        .path = path,
        .batch_max = (uint32_t)fm_call_integer(work->call, "max-batch"),
        .replace = fm_call_flag(work->call, "force"),
        .stopped = stopped};
    status = fm_model_directory_write(&options, directory, reterr);
    fm_onnx_graph_deinit(&graph);
    model->directory = directory;
    return status;
}

/* All of them are looked at before the first one is written. */
static int models_make(struct work *work, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < work->count && status == 0; i++) {
        status = model_plan(work, i, reterr);
    }
    if (status == 0 && work->output != NULL && work->count > 1) {
        status = fm_model_repository_check(work->output, reterr);
    }
    for (uint32_t i = 0; i < work->count && status == 0 && work->output != NULL; i++) {
        status = model_write(work, i, reterr);
    }
    return status;
}

static int report_print(const struct work *work)
{
    struct fm_bench_model_report report = {.models = work->models, .count = work->count};
    report.batches = fm_call_integers(work->call, "batch", &report.batch_count);
    struct fm_text text = {0};
    if (work->call->json) {
        fm_bench_model_report_json(&report, &text);
    } else {
        fm_bench_model_report_text(&report, &text);
    }
    return fm_call_print(work->call, &text);
}

static int run(const struct fm_call *call)
{
    static struct work work;
    work = (struct work){.call = call, .output = fm_call_string(call, "output")};
    int exit_code = grid_read(call, &work.grid);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    work.count = (uint32_t)fm_family_grid_count(&work.grid);
    exit_code = output_check(&work);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    struct fm_error error = {0};
    work.models = fm_arena_alloc(call->arena, work.count * sizeof *work.models);
    if (work.models == NULL) {
        (void)fm_error_set(&error, FM_ENOMEM, "out of memory");
        return fm_call_fail(call, &error);
    }
    fm_stop_signal_install();
    int status = models_make(&work, &error);
    if (status == FM_ECANCELLED) {
        return fm_call_fail_with(call, 128 + fm_stop_signal_get(), "%s", error.text);
    }
    if (status != 0) {
        return error.status == FM_ETOOLARGE ? fm_call_usage(call, "%s", error.text)
                                            : fm_call_fail(call, &error);
    }
    return report_print(&work);
}

static const struct fm_positional positionals[] = {
    {.name = "FAMILY", .help = "mlp, cnn, rnn, lstm, transformer or dlrm"},
    {.name = NULL},
};

#define SIZE_OPTION(option_name, option_help)                                               \
    {                                                                                       \
        .name = (option_name), .kind = FM_OPTION_INTEGERS, .value_name = "N,...", .min = 1, \
        .help = option_help                                                                 \
    }

static const struct fm_option options_table[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .value_name = "PATH",
     .help = "where to write: FILE.onnx, or a directory to be made, which gets a model.yaml, too; "
             "of several models a repository (without this, nothing is written)",
     .group = "Files"},
    {.name = "force", .kind = FM_OPTION_FLAG, .help = "replace a model that is there"},
    {.name = "max-batch",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "32",
     .min = 1,
     .max = 65536,
     .help = "the largest batch that model.yaml allows"},
    {.name = "layers",
     .kind = FM_OPTION_INTEGERS,
     .value_name = "N,...",
     .min = 1,
     .help = "mlp, cnn, rnn, lstm, transformer: how many (2; cnn: 4)",
     .group = "The model (defaults in brackets; several values: a model for each combination)"},
    SIZE_OPTION("hidden", "all but cnn: width of a layer (256; rnn, lstm: 128; dlrm: 64)"),
    SIZE_OPTION("inputs", "mlp, rnn, lstm: numbers in a row, or in a step (128; 64)"),
    SIZE_OPTION("outputs", "mlp, cnn, rnn, lstm: numbers that come out (10)"),
    SIZE_OPTION("channels", "cnn: of each layer (32)"),
    SIZE_OPTION("image", "cnn: pixels on a side (32)"),
    SIZE_OPTION("kernel", "cnn: pixels on a side of a convolution, odd (3)"),
    SIZE_OPTION("sequence", "rnn, lstm, transformer: steps (32; transformer: 64)"),
    SIZE_OPTION("heads", "transformer: of the attention (4)"),
    SIZE_OPTION("expansion", "transformer: the feed-forward layer is so often as wide (4)"),
    SIZE_OPTION("dense", "dlrm: inputs that are numbers (13)"),
    SIZE_OPTION("tables", "dlrm: embedding tables (8)"),
    SIZE_OPTION("rows", "dlrm: of each table (10000)"),
    SIZE_OPTION("width", "dlrm: numbers in each row of a table (16)"),
    SIZE_OPTION("bottom", "dlrm: layers for the numbers (2)"),
    SIZE_OPTION("top", "dlrm: layers for the interactions, before the last (2)"),
    {.name = "seed",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .help = "of the weights"},
    {.name = "batch",
     .short_name = 'b',
     .kind = FM_OPTION_INTEGERS,
     .value_name = "N,...",
     .default_value = "1,8,32",
     .min = 1,
     .max = 1048576,
     .help = "print the bytes that are moved at these batch sizes",
     .group = "What is printed"},
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"A model to measure with, and an answer of it",
     "fermata bench model mlp --layers 4 --hidden 512 --output models/mlp && fermata infer "
     "models/mlp --inputs"},
    {"What would this one take?",
     "fermata bench model transformer --layers 12 --hidden 768 --heads 12 --sequence 128"},
    {"Nine models for a heat map",
     "fermata bench model mlp --layers 2,4,8 --hidden 256,512,1024 --output models"},
    {"A recommender of 2 GB in one file",
     "fermata bench model dlrm --tables 26 --rows 300000 --width 64 --output dlrm.onnx"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, 0};

const struct fm_command fm_command_bench_model = {
    .name = "bench model",
    .summary = "write a model of any size to measure with, and say what it takes",
    .description =
        "Makes a network of a family from a few numbers, with weights from a seed: the same words "
        "give the same file everywhere. Prints how many parameters it has, how many floating-point "
        "operations a row takes (a multiply-add is 2), and how many bytes are moved, all "
        "exactly.\n\n"
        "Where parameters have several values, as in --layers 2,4 --hidden 64,256, each "
        "combination is "
        "a model, and --output becomes a repository of them.\n\n"
        "The model takes batches of any size. A file that is there is left as it is, unless "
        "--force is given.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/generated-models.md",
    .run = run,
};
