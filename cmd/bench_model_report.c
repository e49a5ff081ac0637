/*
 * Models in words, tables and JSON. See bench_model_report.h.
 */
#include "cmd/bench_model_report.h"

#include <inttypes.h>
#include <string.h>

#include "core/proto/json.h"

/* "6.027 MiB"; below 10 KiB the bytes. */
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

static void page_append(const struct fm_bench_model *model,
                        const struct fm_bench_model_report *report, struct fm_text *text)
{
    const struct fm_model_counts *counts = &model->counts;
    fm_family_describe(&model->spec, text);
    fm_text_append_format(text, "\n  %s\n", fm_family_summary(model->spec.family));
    fm_text_append_format(text, "  %-13s%" PRIu64 " (", "parameters", counts->parameters);
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
    if (model->directory != NULL) {
        fm_text_append_format(text, "\nwritten: %s (", model->directory->model_path);
        bytes_append(text, (double)model->file_bytes);
        fm_text_append_char(text, ')');
        if (model->directory->config_path[0] != '\0') {
            fm_text_append_format(text, ", %s", model->directory->config_path);
        }
        fm_text_append_char(text, '\n');
    }
}

static void table_append(const struct fm_bench_model_report *report, struct fm_text *text)
{
    int width = (int)strlen("model");
    uint64_t file_bytes = 0;
    for (uint32_t i = 0; i < report->count; i++) {
        int length = (int)strlen(report->models[i].name);
        width = length > width ? length : width;
        file_bytes += report->models[i].file_bytes;
    }
    fm_text_append_format(text, "%-*s  %11s  %15s  bytes moved per row\n", width, "", "", "FLOP");
    fm_text_append_format(text, "%-*s  %11s  %15s", width, "model", "parameters", "per row");
    for (uint32_t i = 0; i < report->batch_count; i++) {
        char heading[32] = "";
        struct fm_text made;
        fm_text_begin(&made, heading, sizeof heading);
        fm_text_append_format(&made, "batch %" PRIi64, report->batches[i]);
        fm_text_append_format(text, "  %13s", made.data);
        fm_text_deinit(&made);
    }
    fm_text_append_char(text, '\n');
    for (uint32_t i = 0; i < report->count; i++) {
        const struct fm_bench_model *model = &report->models[i];
        fm_text_append_format(text, "%-*s  %11" PRIu64 "  %15" PRIu64, width, model->name,
                              model->counts.parameters, model->counts.flop);
        for (uint32_t j = 0; j < report->batch_count; j++) {
            fm_text_append_format(
                text, "  %13.0f",
                fm_model_traffic_bytes(&model->counts, (uint64_t)report->batches[j]));
        }
        fm_text_append_char(text, '\n');
    }
    fm_text_append_format(text, "\n%s: %" PRIu32 " models of ",
                          report->models[0].directory != NULL ? "written" : "not written",
                          report->count);
    bytes_append(text, (double)file_bytes);
    fm_text_append_string(text, " together\n");
}

void fm_bench_model_report_text(const struct fm_bench_model_report *report, struct fm_text *text)
{
    if (report->count == 1) {
        page_append(&report->models[0], report, text);
    } else {
        table_append(report, text);
    }
}

static void specification_write(struct fm_json_writer *json, const struct fm_family_spec *spec)
{
    fm_json_member_string(json, "family", fm_family_name(spec->family));
    fm_json_key(json, "specification");
    fm_json_object_begin(json);
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        uint64_t value = fm_family_value(spec, (enum fm_family_parameter)i);
        if (value > 0) {
            fm_json_member_uint(json, fm_family_parameter_name((enum fm_family_parameter)i), value);
        }
    }
    fm_json_member_uint(json, "seed", spec->seed);
    fm_json_object_end(json);
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

static void model_write(struct fm_json_writer *json, const struct fm_bench_model *model,
                        const struct fm_bench_model_report *report)
{
    fm_json_object_begin(json);
    fm_json_member_string(json, "name", model->name);
    specification_write(json, &model->spec);
    counts_write(json, &model->counts);
    fm_json_key(json, "traffic");
    fm_json_array_begin(json);
    for (uint32_t i = 0; i < report->batch_count; i++) {
        uint64_t batch = (uint64_t)report->batches[i];
        fm_json_object_begin(json);
        fm_json_member_uint(json, "batch", batch);
        fm_json_member_number(json, "bytes_per_row", fm_model_traffic_bytes(&model->counts, batch));
        fm_json_member_number(json, "least_bytes_per_row",
                              fm_model_traffic_least_bytes(&model->counts, batch));
        fm_json_member_number(json, "flop_per_byte", fm_model_intensity(&model->counts, batch));
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
    fm_json_member_uint(json, "file_bytes", model->file_bytes);
    if (model->directory != NULL) {
        fm_json_member_string(json, "model_path", model->directory->model_path);
        if (model->directory->config_path[0] != '\0') {
            fm_json_member_string(json, "config_path", model->directory->config_path);
        }
    }
    fm_json_object_end(json);
}

void fm_bench_model_report_json(const struct fm_bench_model_report *report, struct fm_text *text)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_key(&json, "models");
    fm_json_array_begin(&json);
    for (uint32_t i = 0; i < report->count; i++) {
        model_write(&json, &report->models[i], report);
    }
    fm_json_array_end(&json);
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
}
