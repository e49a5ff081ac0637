/*
 * Tables and JSON of `fermata infer`. See infer_report.h.
 */
#include "cmd/infer_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "engines/infer/values.h"

enum { CLASSES_MAX = 1000, SHAPE_SIZE = 160, NAME_COLUMN = 18 };

static const char *bold(const struct fm_infer_view *view)
{
    return fm_style(view->call->color_out, FM_STYLE_BOLD);
}

static const char *dim(const struct fm_infer_view *view)
{
    return fm_style(view->call->color_out, FM_STYLE_DIM);
}

static const char *plain(const struct fm_infer_view *view)
{
    return fm_style(view->call->color_out, FM_STYLE_RESET);
}

static const char *shape_text(const int64_t *shape, uint32_t rank, char *text)
{
    return fm_shape_format(shape, rank, text, SHAPE_SIZE);
}

/* Labels of output `port`: the user's for the first output, else the model's. */
static const char *const *labels_of(const struct fm_infer_view *view, uint32_t port,
                                    size_t *ret_count)
{
    const struct fm_model *model = fm_servable_model(view->servable);
    if (port == 0 && view->labels != NULL) {
        *ret_count = view->label_count;
        return view->labels;
    }
    *ret_count = 0;
    return model != NULL ? fm_model_labels(model, port, ret_count) : NULL;
}

/* ---- describing ---- */

static void describe_ports(const struct fm_infer_view *view, const char *title,
                           const struct fm_port *ports, uint32_t count, bool inputs,
                           struct fm_text *text)
{
    char shape[SHAPE_SIZE];
    char plan[256];
    fm_text_append_format(text, "\n%s%s%s\n", bold(view), title, plain(view));
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_port *port = &ports[i];
        size_t label_count = 0;
        fm_text_append_format(
            text, "  %-*s %-6s %s%s", NAME_COLUMN, port->name, fm_dtype_name(port->dtype),
            shape_text(port->shape, port->rank < 0 ? 0 : (uint32_t)port->rank, shape),
            (port->flags & FM_PORT_OPTIONAL) != 0 ? " (optional)" : "");
        if (inputs && port->dtype == FM_DTYPE_BYTES) {
            fm_text_append_string(text, "  takes any file as it is");
        } else if (inputs && view->plans[i].usable) {
            fm_text_append_format(text, "\n  %-*s takes .npy, raw numbers, and images: %s",
                                  NAME_COLUMN, "",
                                  fm_image_plan_describe(&view->plans[i], plan, sizeof plan));
        } else if (inputs) {
            fm_text_append_string(text, "  takes .npy or raw numbers");
        } else if (labels_of(view, i, &label_count) != NULL) {
            fm_text_append_format(text, "  %zu labels", label_count);
        }
        fm_text_append_char(text, '\n');
    }
}

static void describe_text(const struct fm_infer_view *view, struct fm_text *text)
{
    const struct fm_servable *servable = view->servable;
    const struct fm_model *model = fm_servable_model(servable);
    uint32_t count = 0;
    fm_text_append_format(text, "%s%s%s version %" PRIu64 " (%s)\n", bold(view),
                          fm_servable_name(servable), plain(view), fm_servable_version(servable),
                          fm_servable_platform(servable));
    if (model != NULL && fm_model_batch_max(model) > 0) {
        fm_text_append_format(text, "batches up to %" PRIu32 " rows; dimension 0 is the batch\n",
                              fm_model_batch_max(model));
    } else if (model != NULL) {
        fm_text_append_string(text, "does not batch: one request at a time, in the shapes below\n");
    } else {
        const struct fm_pipeline *pipeline = fm_servable_pipeline(servable);
        fm_text_append_string(text, "stages: ");
        for (uint32_t i = 0; i < pipeline->stage_count; i++) {
            const struct fm_stage_spec *spec = pipeline->stages[i].spec;
            fm_text_append_format(text, "%s%s (%s %s)", i == 0 ? "" : ", ", spec->name,
                                  spec->kind == FM_STAGE_MODEL ? "model" : "operator",
                                  spec->target);
        }
        fm_text_append_char(text, '\n');
    }
    const struct fm_port *ports = fm_servable_inputs(servable, &count);
    describe_ports(view, "Inputs", ports, count, true, text);
    ports = fm_servable_outputs(servable, &count);
    describe_ports(view, "Outputs", ports, count, false, text);
}

static void ports_write(struct fm_json_writer *writer, const char *key, const struct fm_port *ports,
                        uint32_t count)
{
    fm_json_key(writer, key);
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < count; i++) {
        fm_json_object_begin(writer);
        fm_json_member_string(writer, "name", ports[i].name);
        fm_json_member_string(writer, "datatype", fm_dtype_name(ports[i].dtype));
        fm_json_member_ints(writer, "shape", ports[i].shape,
                            ports[i].rank < 0 ? 0 : (uint32_t)ports[i].rank);
        fm_json_key(writer, "optional");
        fm_json_bool(writer, (ports[i].flags & FM_PORT_OPTIONAL) != 0);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

static void identity_write(struct fm_json_writer *writer, const struct fm_servable *servable)
{
    fm_json_member_string(writer, "model", fm_servable_name(servable));
    fm_json_key(writer, "version");
    fm_json_uint(writer, fm_servable_version(servable));
    fm_json_member_string(writer, "platform", fm_servable_platform(servable));
}

static void describe_json(const struct fm_infer_view *view, struct fm_text *text)
{
    struct fm_json_writer writer;
    uint32_t count = 0;
    const struct fm_model *model = fm_servable_model(view->servable);
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    identity_write(&writer, view->servable);
    fm_json_key(&writer, "batch_max");
    fm_json_uint(&writer, model != NULL ? fm_model_batch_max(model) : 0);
    const struct fm_port *ports = fm_servable_inputs(view->servable, &count);
    ports_write(&writer, "inputs", ports, count);
    ports = fm_servable_outputs(view->servable, &count);
    ports_write(&writer, "outputs", ports, count);
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_infer_describe(const struct fm_infer_view *view, struct fm_text *text)
{
    if (view->call->json) {
        describe_json(view, text);
    } else {
        describe_text(view, text);
    }
}

/* ---- classes ---- */

/* The classes of one row of an output, when classes are wanted of it. Returns how many. */
static uint32_t classes_get(const struct fm_infer_view *view, uint32_t port,
                            const struct fm_tensor *tensor, uint64_t row, struct fm_class *classes)
{
    size_t label_count = 0;
    bool labelled = labels_of(view, port, &label_count) != NULL;
    if (!(view->top_given || labelled) || view->top == 0 || tensor->rank == 0 ||
        !fm_dtype_is_number(tensor->dtype) || tensor->shape[tensor->rank - 1] < 2 ||
        tensor->shape[tensor->rank - 1] > UINT32_MAX) {
        return 0;
    }
    uint32_t size = (uint32_t)tensor->shape[tensor->rank - 1];
    uint32_t wanted = view->top < CLASSES_MAX ? view->top : CLASSES_MAX;
    uint32_t count = fm_top(tensor, row * size, size, wanted, classes);
    if (view->softmax && count > 0) {
        double sum = 0;
        for (uint32_t i = 0; i < size; i++) {
            double score = fm_element_number(tensor, row * size + i);
            sum += isnan(score) ? 0 : exp(score - classes[0].score);
        }
        double best = classes[0].score;
        for (uint32_t i = 0; i < count; i++) {
            classes[i].score = exp(classes[i].score - best) / sum;
        }
    }
    return count;
}

/* Rows of classes in a tensor: everything but its last dimension. */
static uint64_t class_rows(const struct fm_tensor *tensor)
{
    uint64_t rows = 1;
    for (uint32_t i = 0; i + 1 < tensor->rank; i++) {
        rows *= (uint64_t)tensor->shape[i];
    }
    return rows;
}

static const char *label_at(const struct fm_infer_view *view, uint32_t port, uint32_t index)
{
    size_t count = 0;
    const char *const *labels = labels_of(view, port, &count);
    return labels != NULL && index < count ? labels[index] : NULL;
}

static void classes_print(const struct fm_infer_view *view, uint32_t port,
                          const struct fm_tensor *tensor, struct fm_text *text)
{
    static struct fm_class classes[CLASSES_MAX];
    uint64_t rows = class_rows(tensor);
    for (uint64_t row = 0; row < rows; row++) {
        uint32_t count = classes_get(view, port, tensor, row, classes);
        if (count > 0 && rows > 1) {
            fm_text_append_format(text, "    row %" PRIu64 "\n", row);
        }
        for (uint32_t i = 0; i < count; i++) {
            const char *label = label_at(view, port, classes[i].index);
            fm_text_append_format(text, "    %4" PRIu32 ".  %-10.6g class %" PRIu32, i + 1,
                                  classes[i].score, classes[i].index);
            fm_text_append_format(text, label != NULL ? "  %s%s%s\n" : "%s%s%s\n", bold(view),
                                  label != NULL ? label : "", plain(view));
        }
    }
}

/* ---- values ---- */

/* A string for a terminal: control characters but newlines become escapes; lines after the first
 * are indented. */
static void string_print(const char *data, size_t length, struct fm_text *text)
{
    size_t at = 0;
    while (at < length) {
        size_t sequence = fm_utf8_sequence(data + at, length - at);
        unsigned char byte = (unsigned char)data[at];
        if (sequence == 1 && byte == '\n') {
            fm_text_append_string(text, at + 1 < length ? "\n    " : "");
        } else if (sequence == 0 ||
                   (sequence == 1 && (byte < ' ' || byte == 127) && byte != '\t')) {
            fm_text_append_format(text, "\\x%02x", byte);
        } else {
            fm_text_append(text, data + at, sequence);
        }
        at += sequence > 0 ? sequence : 1;
    }
}

static void strings_print(const struct fm_infer_view *view, const struct fm_tensor *tensor,
                          struct fm_text *text)
{
    uint64_t count = 0;
    const char *element = tensor->data;
    (void)!fm_shape_element_count(tensor->shape, tensor->rank, &count);
    uint64_t shown = view->values == 0 || count < view->values ? count : view->values;
    for (uint64_t i = 0; i < shown; i++) {
        uint32_t length = 0;
        memcpy(&length, element, sizeof length);
        fm_text_append_string(text, "    ");
        string_print(element + sizeof length, length, text);
        fm_text_append_char(text, '\n');
        element += sizeof length + length;
    }
    if (shown < count) {
        fm_text_append_format(text, "    %s... and %" PRIu64 " more (--values 0 shows all)%s\n",
                              dim(view), count - shown, plain(view));
    }
}

static void number_print(const struct fm_tensor *tensor, uint64_t index, struct fm_text *text)
{
    double value = fm_element_number(tensor, index);
    fm_text_append_format(text, fm_dtype_is_float(tensor->dtype) ? " %.6g" : " %.0f", value);
}

static void numbers_print(const struct fm_infer_view *view, const struct fm_tensor *tensor,
                          struct fm_text *text)
{
    struct fm_summary summary;
    fm_summarize(tensor, &summary);
    if (summary.count == 0) {
        return;
    }
    fm_text_append_format(text, "    min %.6g  max %.6g  mean %.6g", summary.min, summary.max,
                          summary.mean);
    if (summary.not_finite > 0) {
        fm_text_append_format(text, "  %" PRIu64 " not finite", summary.not_finite);
    }
    fm_text_append_string(text, "\n   ");
    uint64_t shown =
        view->values == 0 || summary.count < view->values ? summary.count : view->values;
    for (uint64_t i = 0; i < shown; i++) {
        number_print(tensor, i, text);
    }
    fm_text_append_string(text, shown < summary.count ? " ...\n" : "\n");
}

static void output_print(const struct fm_infer_view *view, uint32_t port, const char *name,
                         const struct fm_tensor *tensor, struct fm_text *text)
{
    char shape[SHAPE_SIZE];
    fm_text_append_format(text, "  %-*s %-6s %s\n", NAME_COLUMN, name, fm_dtype_name(tensor->dtype),
                          shape_text(tensor->shape, tensor->rank, shape));
    if (tensor->dtype == FM_DTYPE_BYTES) {
        strings_print(view, tensor, text);
    } else if (fm_dtype_is_number(tensor->dtype)) {
        numbers_print(view, tensor, text);
        classes_print(view, port, tensor, text);
    }
}

/* ---- results ---- */

static uint64_t quantile_ns(const struct fm_infer_latencies *latencies, uint32_t percent)
{
    uint64_t rank = ((uint64_t)latencies->count * percent + 99) / 100;
    return latencies->ns[rank == 0 ? 0 : rank - 1];
}

static void report_text(const struct fm_infer_view *view, const struct fm_infer_item *items,
                        const struct fm_infer_result *results, size_t count,
                        const struct fm_infer_latencies *latencies, struct fm_text *text)
{
    uint32_t output_count = 0;
    const struct fm_port *outputs = fm_servable_outputs(view->servable, &output_count);
    for (size_t i = 0; i < count; i++) {
        const struct fm_infer_result *result = &results[i];
        fm_text_append_format(text, "%s%s%s%s", i == 0 ? "" : "\n", bold(view), items[i].label,
                              plain(view));
        if (result->error.status != 0) {
            /* Why is said once, on standard error. */
            fm_text_append_format(text, "\n  %sfailed%s\n",
                                  fm_style(view->call->color_out, FM_STYLE_RED), plain(view));
            continue;
        }
        fm_text_append_format(text, "  %s%.3g ms", dim(view), (double)result->latency_ns / 1e6);
        if (result->batch_rows > items[i].rows) {
            fm_text_append_format(text, ", in a batch of %" PRIu32, result->batch_rows);
        }
        fm_text_append_format(text, "%s\n", plain(view));
        for (uint32_t j = 0; j < output_count; j++) {
            output_print(view, j, outputs[j].name, &result->outputs[j].tensor, text);
        }
    }
    if (latencies->count > 1) {
        fm_text_append_format(
            text,
            "\n%" PRIu32
            " times: min %.4g ms, p50 %.4g ms, p90 %.4g ms, p99 %.4g ms, max %.4g ms\n",
            latencies->count, (double)latencies->ns[0] / 1e6,
            (double)quantile_ns(latencies, 50) / 1e6, (double)quantile_ns(latencies, 90) / 1e6,
            (double)quantile_ns(latencies, 99) / 1e6,
            (double)latencies->ns[latencies->count - 1] / 1e6);
    }
}

static void data_write(struct fm_json_writer *writer, const struct fm_tensor *tensor)
{
    uint64_t count = 0;
    const char *element = tensor->data;
    (void)!fm_shape_element_count(tensor->shape, tensor->rank, &count);
    fm_json_key(writer, "data");
    if (tensor->dtype != FM_DTYPE_BYTES && !fm_dtype_is_number(tensor->dtype)) {
        fm_json_null(writer);
        return;
    }
    fm_json_array_begin(writer);
    for (uint64_t i = 0; i < count; i++) {
        if (tensor->dtype == FM_DTYPE_BYTES) {
            uint32_t length = 0;
            memcpy(&length, element, sizeof length);
            fm_json_string_n(writer, element + sizeof length, length);
            element += sizeof length + length;
        } else if (tensor->dtype == FM_DTYPE_BOOL) {
            fm_json_bool(writer, fm_element_number(tensor, i) != 0);
        } else if (tensor->dtype == FM_DTYPE_INT64 || tensor->dtype == FM_DTYPE_UINT64) {
            int64_t exact;
            memcpy(&exact, (const char *)tensor->data + i * sizeof exact, sizeof exact);
            if (tensor->dtype == FM_DTYPE_INT64) {
                fm_json_int(writer, exact);
            } else {
                fm_json_uint(writer, (uint64_t)exact);
            }
        } else if (tensor->dtype == FM_DTYPE_FP64) {
            fm_json_number(writer, fm_element_number(tensor, i));
        } else {
            fm_json_float(writer, (float)fm_element_number(tensor, i));
        }
    }
    fm_json_array_end(writer);
}

static void classes_write(const struct fm_infer_view *view, struct fm_json_writer *writer,
                          uint32_t port, const struct fm_tensor *tensor)
{
    static struct fm_class classes[CLASSES_MAX];
    bool open = false;
    for (uint64_t row = 0;
         tensor->dtype != FM_DTYPE_BYTES && tensor->rank > 0 && row < class_rows(tensor); row++) {
        uint32_t count = classes_get(view, port, tensor, row, classes);
        if (count == 0) {
            break;
        }
        if (!open) {
            fm_json_key(writer, "top");
            fm_json_array_begin(writer);
            open = true;
        }
        fm_json_array_begin(writer);
        for (uint32_t i = 0; i < count; i++) {
            const char *label = label_at(view, port, classes[i].index);
            fm_json_object_begin(writer);
            fm_json_key(writer, "class");
            fm_json_uint(writer, classes[i].index);
            fm_json_key(writer, "score");
            fm_json_number(writer, classes[i].score);
            if (label != NULL) {
                fm_json_member_string(writer, "label", label);
            }
            fm_json_object_end(writer);
        }
        fm_json_array_end(writer);
    }
    if (open) {
        fm_json_array_end(writer);
    }
}

static void result_write(const struct fm_infer_view *view, struct fm_json_writer *writer,
                         const struct fm_infer_item *item, const struct fm_infer_result *result)
{
    uint32_t output_count = 0;
    const struct fm_port *outputs = fm_servable_outputs(view->servable, &output_count);
    fm_json_object_begin(writer);
    fm_json_member_string(writer, "input", item->label);
    if (result->error.status != 0) {
        fm_json_member_string(writer, "error", result->error.text);
        fm_json_object_end(writer);
        return;
    }
    fm_json_key(writer, "latency_ms");
    fm_json_number(writer, (double)result->latency_ns / 1e6);
    fm_json_key(writer, "batch_rows");
    fm_json_uint(writer, result->batch_rows);
    fm_json_key(writer, "outputs");
    fm_json_array_begin(writer);
    for (uint32_t i = 0; i < output_count; i++) {
        const struct fm_tensor *tensor = &result->outputs[i].tensor;
        fm_json_object_begin(writer);
        fm_json_member_string(writer, "name", outputs[i].name);
        fm_json_member_string(writer, "datatype", fm_dtype_name(tensor->dtype));
        fm_json_member_ints(writer, "shape", tensor->shape, tensor->rank);
        classes_write(view, writer, i, tensor);
        data_write(writer, tensor);
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
    fm_json_object_end(writer);
}

static void report_json(const struct fm_infer_view *view, const struct fm_infer_item *items,
                        const struct fm_infer_result *results, size_t count,
                        const struct fm_infer_latencies *latencies, struct fm_text *text)
{
    static const struct {
        const char *key;
        uint32_t percent;
    } quantiles[] = {{"p50_ms", 50}, {"p90_ms", 90}, {"p99_ms", 99}};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    fm_json_object_begin(&writer);
    identity_write(&writer, view->servable);
    fm_json_key(&writer, "results");
    fm_json_array_begin(&writer);
    for (size_t i = 0; i < count; i++) {
        result_write(view, &writer, &items[i], &results[i]);
    }
    fm_json_array_end(&writer);
    if (latencies->count > 1) {
        fm_json_key(&writer, "latency");
        fm_json_object_begin(&writer);
        fm_json_key(&writer, "count");
        fm_json_uint(&writer, latencies->count);
        for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
            fm_json_key(&writer, quantiles[i].key);
            fm_json_number(&writer, (double)quantile_ns(latencies, quantiles[i].percent) / 1e6);
        }
        fm_json_object_end(&writer);
    }
    fm_json_object_end(&writer);
    fm_text_append_char(text, '\n');
}

void fm_infer_report(const struct fm_infer_view *view, const struct fm_infer_item *items,
                     const struct fm_infer_result *results, size_t count,
                     const struct fm_infer_latencies *latencies, struct fm_text *text)
{
    if (view->call->json) {
        report_json(view, items, results, count, latencies, text);
    } else {
        report_text(view, items, results, count, latencies, text);
    }
}
