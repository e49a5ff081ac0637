/*
 * `fermata bench model`: writes a model of a family, and says what it takes.
 *
 * Owns: options, printing. Does not own: models (core/onnx), files (engines/bench). Thread rule:
 * the main thread.
 */
#include <inttypes.h>
#include <string.h>

#include "cmd/arguments.h"
#include "cmd/command.h"
#include "core/onnx/families.h"
#include "core/onnx/model_counts.h"
#include "core/proto/json.h"
#include "core/util/error.h"
#include "engines/bench/model_directory.h"
#include "host/os/file.h"

/* What is printed. */
struct report {
    struct fm_family_spec spec;
    struct fm_model_counts counts;
    uint64_t file_bytes;
    const int64_t *batches;
    uint32_t batch_count;
    bool written;
    struct fm_model_directory directory;
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

/* The specification of the command line. */
static int spec_read(const struct fm_call *call, struct fm_family_spec *ret_spec)
{
    const char *name = fm_call_positional(call, 0);
    *ret_spec = (struct fm_family_spec){.family = fm_family_parse(name),
                                        .seed = (uint64_t)fm_call_integer(call, "seed")};
    if (ret_spec->family == FM_FAMILY_COUNT_) {
        return family_unknown(call, name);
    }
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        enum fm_family_parameter parameter = (enum fm_family_parameter)i;
        const char *option = fm_family_parameter_name(parameter);
        struct fm_error error = {0};
        if (fm_call_given(call, option) &&
            fm_family_set(ret_spec, parameter, (uint64_t)fm_call_integer(call, option), &error) !=
                0) {
            return fm_call_usage(call, "--%s", error.text);
        }
    }
    return FM_EXIT_OK;
}

/* "6.02 MiB"; below 10 KiB the bytes. */
static void bytes_append(struct fm_text *text, double bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 10240) {
        fm_text_append_format(text, "%.0f bytes", bytes);
        return;
    }
    size_t unit = 0;
    for (bytes /= 1024; bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++) {
        bytes /= 1024;
    }
    fm_text_append_format(text, "%.4g %s", bytes, units[unit]);
}

static void line_append(struct fm_text *text, const char *label, uint64_t bytes)
{
    fm_text_append_format(text, "  %-13s", label);
    bytes_append(text, (double)bytes);
    fm_text_append_char(text, '\n');
}

static void report_table(const struct report *report, struct fm_text *text)
{
    const struct fm_model_counts *counts = &report->counts;
    fm_family_describe(&report->spec, text);
    fm_text_append_format(text, "\n  %-13s%" PRIu64 " (", "parameters", counts->parameters);
    bytes_append(text, (double)counts->parameter_bytes);
    fm_text_append_format(text, ") in %" PRIu32 " nodes\nper row:\n  %-13s%" PRIu64 "\n",
                          counts->nodes, "FLOP", counts->flop);
    line_append(text, "inputs", counts->input_bytes);
    line_append(text, "outputs", counts->output_bytes);
    line_append(text, "activations", counts->activation_bytes);
    if (counts->gathered_bytes > 0) {
        line_append(text, "looked up", counts->gathered_bytes);
    }
    fm_text_append_string(text, "\n  batch  bytes moved per row  FLOP per byte  without "
                                "activations\n");
    for (uint32_t i = 0; i < report->batch_count; i++) {
        uint64_t batch = (uint64_t)report->batches[i];
        fm_text_append_format(text, "  %5" PRIu64 "  %19.0f  %13.4g  %19.0f\n", batch,
                              fm_model_traffic_bytes(counts, batch),
                              fm_model_intensity(counts, batch),
                              fm_model_traffic_least_bytes(counts, batch));
    }
    if (report->written) {
        fm_text_append_format(text, "\nwritten: %s (", report->directory.model_path);
        bytes_append(text, (double)report->file_bytes);
        fm_text_append_char(text, ')');
        if (report->directory.config_path[0] != '\0') {
            fm_text_append_format(text, ", %s", report->directory.config_path);
        }
        fm_text_append_char(text, '\n');
    }
}

static void counts_write(struct fm_json_writer *json, const struct fm_model_counts *counts)
{
    fm_json_member_uint(json, "parameters", counts->parameters);
    fm_json_member_uint(json, "parameter_bytes", counts->parameter_bytes);
    fm_json_member_uint(json, "weight_bytes_per_batch", counts->weight_bytes);
    fm_json_member_uint(json, "nodes", counts->nodes);
    fm_json_key(json, "per_row");
    fm_json_object_begin(json);
    fm_json_member_uint(json, "flop", counts->flop);
    fm_json_member_uint(json, "input_bytes", counts->input_bytes);
    fm_json_member_uint(json, "output_bytes", counts->output_bytes);
    fm_json_member_uint(json, "activation_bytes", counts->activation_bytes);
    fm_json_member_uint(json, "gathered_bytes", counts->gathered_bytes);
    fm_json_object_end(json);
}

static void report_json(const struct report *report, struct fm_text *text)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "family", fm_family_name(report->spec.family));
    fm_json_key(&json, "specification");
    fm_json_object_begin(&json);
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        uint64_t value = fm_family_value(&report->spec, (enum fm_family_parameter)i);
        if (value > 0) {
            fm_json_member_uint(&json, fm_family_parameter_name((enum fm_family_parameter)i),
                                value);
        }
    }
    fm_json_member_uint(&json, "seed", report->spec.seed);
    fm_json_object_end(&json);
    counts_write(&json, &report->counts);
    fm_json_key(&json, "traffic");
    fm_json_array_begin(&json);
    for (uint32_t i = 0; i < report->batch_count; i++) {
        uint64_t batch = (uint64_t)report->batches[i];
        fm_json_object_begin(&json);
        fm_json_member_uint(&json, "batch", batch);
        fm_json_member_number(&json, "bytes_per_row",
                              fm_model_traffic_bytes(&report->counts, batch));
        fm_json_member_number(&json, "least_bytes_per_row",
                              fm_model_traffic_least_bytes(&report->counts, batch));
        fm_json_member_number(&json, "flop_per_byte", fm_model_intensity(&report->counts, batch));
        fm_json_object_end(&json);
    }
    fm_json_array_end(&json);
    fm_json_member_uint(&json, "file_bytes", report->file_bytes);
    if (report->written) {
        fm_json_member_string(&json, "model_path", report->directory.model_path);
        if (report->directory.config_path[0] != '\0') {
            fm_json_member_string(&json, "config_path", report->directory.config_path);
        }
    }
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
}

/* Writes, when there is somewhere to write, and prints. */
static int graph_use(const struct fm_call *call, const struct fm_onnx_graph *graph,
                     struct report *report)
{
    const char *path = fm_call_string(call, "output");
    if (path != NULL) {
        struct fm_model_directory_options options = {
            .graph = graph,
            .path = path,
            .batch_max = (uint32_t)fm_call_integer(call, "max-batch"),
            .replace = fm_call_flag(call, "force")};
        struct fm_error error = {0};
        if (fm_model_directory_write(&options, &report->directory, &error) != 0) {
            return fm_call_fail(call, &error);
        }
        report->written = true;
    }
    fm_model_counts_make(graph, &report->counts);
    report->batches = fm_call_integers(call, "batch", &report->batch_count);
    struct fm_text text = {0};
    if (call->json) {
        report_json(report, &text);
    } else {
        report_table(report, &text);
    }
    return fm_call_print(call, &text);
}

static int run(const struct fm_call *call)
{
    static struct report report;
    int exit_code = spec_read(call, &report.spec);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    const char *path = fm_call_string(call, "output");
    if (path == NULL && fm_call_flag(call, "force")) {
        return fm_call_usage(call, "--force replaces what lies at --output, which is not given");
    }
    if (fm_call_given(call, "max-batch") &&
        (path == NULL || strcmp(fm_path_extension(path), ".onnx") == 0)) {
        return fm_call_usage(call, "--max-batch is for the model.yaml of a directory, and --output "
                                   "names none");
    }
    struct fm_onnx_graph graph;
    struct fm_error error = {0};
    int status = fm_family_build(&report.spec, &graph, &report.file_bytes, &error);
    if (status == FM_EINVAL || status == FM_ETOOLARGE) {
        return fm_call_usage(call, "%s", error.text);
    }
    if (status != 0) {
        return fm_call_fail(call, &error);
    }
    exit_code = graph_use(call, &graph, &report);
    fm_onnx_graph_deinit(&graph);
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "FAMILY", .help = "mlp, cnn, rnn, lstm, transformer or dlrm"},
    {.name = NULL},
};

#define SIZE_OPTION(option_name, option_help)                                                    \
    {                                                                                            \
        .name = (option_name), .kind = FM_OPTION_INTEGER, .value_name = "N", .help = option_help \
    }

static const struct fm_option options_table[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .value_name = "PATH",
     .help = "where to write: FILE.onnx, or a directory to be made, which gets a model.yaml, too "
             "(without this, nothing is written)",
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
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .help = "mlp, cnn, rnn, lstm, transformer: how many (2; cnn: 4)",
     .group = "The model (defaults in brackets)"},
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
        "The model takes batches of any size. A file that is there is left as it is, unless "
        "--force is given.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/generated-models.md",
    .run = run,
};
