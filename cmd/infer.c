/*
 * `fermata infer`: one model, some inputs, their answers.
 *
 * Owns: reading the files, pairing them with the model's inputs, writing .npy files. Does not own:
 * options about images, shapes and outputs (infer_options), fitting files to ports and running
 * (engines/infer), printing (infer_report). Thread
 * rule: the main thread.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/command.h"
#include "cmd/file_arguments.h"
#include "cmd/infer_options.h"
#include "cmd/infer_report.h"
#include "cmd/model_argument.h"
#include "core/proto/npy.h"
#include "core/proto/oip.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/infer/input.h"
#include "engines/infer/run.h"
#include "host/os/file.h"

/* One input in memory, unless --input-limit says otherwise. */
#define INPUT_LIMIT_DEFAULT "256MiB"

enum { INPUTS_MAX = 100000, LABELS_BYTES_MAX = 16 << 20, LIST_TEXT_SIZE = 256 };

/* One INPUT of the command line. */
struct source {
    const char *argument;
    const char *path;
    int port; /* of NAME=FILE; -1: not named */
    bool is_stdin;
    const char *label; /* for messages and results */
    char *data;
    size_t size;
};

/* Everything the command holds; released in job_deinit. */
struct job {
    const struct fm_call *call;
    struct fm_infer_options options;
    struct fm_repository repository;
    struct fm_repository_entry *entry;
    struct fm_servable *servable;
    const struct fm_port *inputs;
    uint32_t input_count;
    const struct fm_port *outputs;
    uint32_t output_count;
    bool batched;
    struct fm_image_plan *plans; /* by input */
    struct source *sources;
    uint32_t source_count;
    bool named; /* sources are NAME=FILE */
    struct fm_infer_item *items;
    size_t item_count;
    struct fm_infer_result *results;
    struct fm_infer_latencies latencies;
    struct fm_infer_view view;
};

/* The lines of a labels file; they live in the call's arena. */
static int labels_load(const struct fm_call *call, const char *path, struct fm_infer_view *view,
                       struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    int status = fm_file_read(path, LABELS_BYTES_MAX, &data, &size, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "--labels");
    }
    char *copy = fm_arena_strndup(call->arena, data, size);
    fm_free(data);
    size_t count = 0;
    for (size_t i = 0; copy != NULL && copy[i] != '\0'; i++) {
        count += copy[i] == '\n' || copy[i + 1] == '\0';
    }
    const char **labels = fm_arena_alloc(call->arena, (count + 1) * sizeof *labels);
    if (copy == NULL || labels == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "--labels '%s': out of memory", path);
    }
    view->labels = labels;
    while (view->label_count < count && copy != NULL) {
        char *line = strsep(&copy, "\n");
        size_t length = strlen(line);
        if (length > 0 && line[length - 1] == '\r') {
            line[length - 1] = '\0';
        }
        labels[view->label_count++] = line;
    }
    return 0;
}

/* ---- opening ---- */

/* Options of the view, and the labels. */
static int view_make(struct job *job, struct fm_error *reterr)
{
    const struct fm_call *call = job->call;
    const char *labels = fm_call_string(call, "labels");
    job->view = (struct fm_infer_view){.call = call,
                                       .servable = job->servable,
                                       .top = (uint32_t)fm_call_integer(call, "top"),
                                       .top_given = fm_call_given(call, "top"),
                                       .softmax = fm_call_flag(call, "softmax"),
                                       .values = (uint32_t)fm_call_integer(call, "values"),
                                       .plans = job->plans};
    return labels != NULL ? labels_load(call, labels, &job->view, reterr) : 0;
}

/* Loads the model that was found. */
static int job_load(struct job *job, struct fm_error *reterr)
{
    const struct fm_call *call = job->call;
    struct fm_servable_options options = {
        .instances = (uint32_t)fm_call_integer(call, "instances"),
        .threads = (uint32_t)fm_call_integer(call, "threads"),
        .check_only = fm_call_flag(call, "inputs"),
        .note = fm_call_note_text,
        .note_context = (void *)(uintptr_t)call,
    };
    /* One input needs one instance, and one is soonest ready; a pipeline may fan out to many. */
    if (options.instances == 0 && job->entry->kind == FM_REPOSITORY_MODEL) {
        options.instances = 1;
    }
    int status = fm_servable_open(&job->repository, job->entry->name,
                                  (uint64_t)fm_call_integer(call, "model-version"), &options,
                                  &job->servable, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_model *model = fm_servable_model(job->servable);
    job->batched = model != NULL && fm_model_batch_max(model) > 0;
    job->inputs = fm_servable_inputs(job->servable, &job->input_count);
    job->outputs = fm_servable_outputs(job->servable, &job->output_count);
    job->plans = fm_arena_alloc(call->arena, ((size_t)job->input_count + 1) * sizeof *job->plans);
    if (job->plans == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < job->input_count; i++) {
        fm_image_plan_make(&job->inputs[i], job->batched, &job->options.image, &job->plans[i]);
    }
    return view_make(job, reterr);
}

/* ---- inputs ---- */

/* "NAME=FILE" names an input when NAME is one; otherwise it is a file with '=' in its name. */
static int source_make(const struct job *job, const char *argument, struct source *ret_source,
                       struct fm_error *reterr)
{
    char names[LIST_TEXT_SIZE];
    struct fm_file_facts facts;
    const char *equals = strchr(argument, '=');
    *ret_source = (struct source){.argument = argument, .path = argument, .port = -1};
    if (equals != NULL) {
        ret_source->port = fm_infer_port_find(job->inputs, job->input_count, argument,
                                              (size_t)(equals - argument));
    }
    if (ret_source->port >= 0) {
        ret_source->path = equals + 1;
    } else if (equals != NULL && fm_file_stat(argument, &facts, NULL) == 0 &&
               facts.kind == FM_FILE_ABSENT) {
        return fm_error_set(
            reterr, FM_EINVAL, "'%s': '%.*s' is no input of '%s' (%s), and there is no such file",
            argument, (int)(equals - argument), argument, fm_servable_name(job->servable),
            fm_infer_port_names(job->inputs, job->input_count, names, sizeof names));
    }
    ret_source->is_stdin = strcmp(ret_source->path, "-") == 0;
    ret_source->label = ret_source->is_stdin ? "standard input" : ret_source->path;
    return 0;
}

/* What named sources must be: all named, each input once, none missing. */
static int named_sources_check(const struct job *job, struct fm_error *reterr)
{
    char names[LIST_TEXT_SIZE];
    for (uint32_t i = 0; i < job->source_count; i++) {
        if (job->sources[i].port < 0) {
            return fm_error_set(
                reterr, FM_EINVAL,
                "'%s' has no input's name in front; with NAME=FILE every input needs it (%s)",
                job->sources[i].argument,
                fm_infer_port_names(job->inputs, job->input_count, names, sizeof names));
        }
    }
    for (uint32_t i = 0; i < job->input_count; i++) {
        uint32_t count = 0;
        for (uint32_t j = 0; j < job->source_count; j++) {
            count += job->sources[j].port == (int)i;
        }
        if (count > 1) {
            return fm_error_set(reterr, FM_EINVAL, "input '%s' was given twice",
                                job->inputs[i].name);
        }
        if (count == 0 && (job->inputs[i].flags & FM_PORT_OPTIONAL) == 0) {
            return fm_error_set(reterr, FM_EINVAL, "input '%s' is missing: add %s=FILE",
                                job->inputs[i].name, job->inputs[i].name);
        }
    }
    return 0;
}

/* Which INPUT is for what, before any is read. */
static int sources_make(struct job *job, struct fm_error *reterr)
{
    uint32_t count = job->call->positional_count - 1;
    uint32_t stdin_count = 0;
    if (count > INPUTS_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "%" PRIu32 " inputs are more than %d", count,
                            INPUTS_MAX);
    }
    job->sources = fm_arena_alloc(job->call->arena, ((size_t)count + 1) * sizeof *job->sources);
    if (job->sources == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        int status = source_make(job, job->call->positionals[i + 1], &job->sources[i], reterr);
        if (status != 0) {
            return status;
        }
        job->source_count++;
        job->named = job->named || job->sources[i].port >= 0;
        stdin_count += job->sources[i].is_stdin;
    }
    if (stdin_count > 1) {
        return fm_error_set(reterr, FM_EINVAL, "standard input ('-') was given twice");
    }
    return job->named ? named_sources_check(job, reterr) : 0;
}

static int sources_read(struct job *job, struct fm_error *reterr)
{
    size_t limit = job->options.input_bytes_max;
    for (uint32_t i = 0; i < job->source_count; i++) {
        struct source *source = &job->sources[i];
        struct fm_error error = {0};
        int status = source->is_stdin
                         ? fm_file_read_stdin(limit, &source->data, &source->size, &error)
                         : fm_file_read(source->path, limit, &source->data, &source->size, &error);
        if (status != 0) {
            return fm_error_set(reterr, status, "%s%s", error.text,
                                status == FM_ETOOLARGE ? "; --input-limit raises it" : "");
        }
    }
    return 0;
}

/* The shape the user gave for raw data of this input; NULL: none. */
static struct fm_infer_shape *shape_find(const struct job *job, const struct fm_port *port)
{
    for (uint32_t i = 0; i < job->options.shape_count; i++) {
        struct fm_infer_shape *shape = &job->options.shapes[i];
        if (shape->shape.name == NULL || strcmp(shape->shape.name, port->name) == 0) {
            return shape;
        }
    }
    return NULL;
}

/* Fills input `index` of an item from a source. */
static int item_fill(struct job *job, struct fm_infer_item *item, uint32_t index,
                     const struct source *source, struct fm_error *reterr)
{
    struct fm_infer_shape *given = shape_find(job, &job->inputs[index]);
    struct fm_input_file file = {.label = source->label,
                                 .data = source->data,
                                 .size = source->size,
                                 .shape = given != NULL ? given->shape.shape : NULL,
                                 .rank = given != NULL ? given->shape.rank : 0};
    if (given != NULL && job->inputs[index].dtype != FM_DTYPE_BYTES &&
        fm_input_recognize(source->data, source->size) == FM_INPUT_RAW) {
        given->used = true;
    }
    int status = fm_input_convert(&file, &job->inputs[index], job->batched, &job->plans[index],
                                  &item->inputs[index], reterr);
    if (status == 0 && job->batched) {
        item->rows = (uint32_t)item->inputs[index].tensor.shape[0];
    }
    return status;
}

/* An item from the body of an infer request of the Open Inference Protocol. */
static int item_from_json(struct job *job, struct fm_infer_item *item, const struct source *source,
                          struct fm_error *reterr)
{
    struct fm_oip_request request = {0};
    struct fm_oip_signature signature = {
        .name = fm_servable_name(job->servable),
        .version = fm_servable_version(job->servable),
        .inputs = job->inputs,
        .input_count = job->input_count,
        .batch_max = job->batched ? fm_model_batch_max(fm_servable_model(job->servable)) : 0,
    };
    signature.outputs = fm_servable_outputs(job->servable, &signature.output_count);
    const struct fm_oip_body body = {
        .data = source->data, .size = source->size, .header_length = FM_OIP_HEADER_ABSENT};
    int status = fm_oip_request_decode(&signature, &body, &request, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "'%s'", source->label);
    }
    for (uint32_t i = 0; i < job->input_count; i++) {
        item->inputs[i] = request.inputs[i];
        request.inputs[i] = (struct fm_value){0};
    }
    item->rows = request.rows;
    fm_oip_request_deinit(&request);
    return 0;
}

static bool is_json(const struct job *job, const struct source *source)
{
    bool takes_bytes = job->input_count == 1 && job->inputs[0].dtype == FM_DTYPE_BYTES;
    return source->port < 0 && !takes_bytes &&
           fm_input_recognize(source->data, source->size) == FM_INPUT_JSON;
}

/* The one input that a file without a name is for; -1 when there are several. */
static int only_input(const struct job *job)
{
    int found = -1;
    for (uint32_t i = 0; i < job->input_count; i++) {
        if ((job->inputs[i].flags & FM_PORT_OPTIONAL) == 0) {
            if (found >= 0) {
                return -1;
            }
            found = (int)i;
        }
    }
    return found >= 0 ? found : job->input_count > 0 ? 0 : -1;
}

static int item_add(struct job *job, const char *label, struct fm_infer_item **ret_item,
                    struct fm_error *reterr)
{
    struct fm_infer_item *item = &job->items[job->item_count];
    item->label = label;
    item->rows = 1;
    item->inputs =
        fm_arena_alloc(job->call->arena, ((size_t)job->input_count + 1) * sizeof *item->inputs);
    if (item->inputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    job->item_count++;
    *ret_item = item;
    return 0;
}

/* All sources are NAME=FILE: together they are one item. */
static int items_from_named(struct job *job, struct fm_error *reterr)
{
    struct fm_infer_item *item = NULL;
    int status =
        item_add(job, job->source_count == 1 ? job->sources[0].label : "inputs", &item, reterr);
    for (uint32_t i = 0; status == 0 && i < job->source_count; i++) {
        status = item_fill(job, item, (uint32_t)job->sources[i].port, &job->sources[i], reterr);
    }
    return status;
}

static int items_make(struct job *job, struct fm_error *reterr)
{
    char names[LIST_TEXT_SIZE];
    job->items =
        fm_arena_alloc(job->call->arena, ((size_t)job->source_count + 1) * sizeof *job->items);
    if (job->items == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    if (job->named) {
        return items_from_named(job, reterr);
    }
    int only = only_input(job);
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < job->source_count; i++) {
        struct fm_infer_item *item = NULL;
        status = item_add(job, job->sources[i].label, &item, reterr);
        if (status == 0 && is_json(job, &job->sources[i])) {
            status = item_from_json(job, item, &job->sources[i], reterr);
        } else if (status == 0 && only < 0) {
            status = fm_error_set(
                reterr, FM_EINVAL,
                "'%s' is no infer request, and the model has %" PRIu32
                " inputs (%s): write NAME=FILE for each",
                job->sources[i].label, job->input_count,
                fm_infer_port_names(job->inputs, job->input_count, names, sizeof names));
        } else if (status == 0) {
            status = item_fill(job, item, (uint32_t)only, &job->sources[i], reterr);
        }
    }
    return status;
}

/* The first input that a source with an image is prepared for; -1: there is none. */
static int image_input(const struct job *job)
{
    int only = only_input(job);
    for (uint32_t i = 0; i < job->source_count; i++) {
        const struct source *source = &job->sources[i];
        int port = source->port >= 0 ? source->port : only;
        if (port >= 0 && job->plans[port].usable &&
            fm_input_recognize(source->data, source->size) == FM_INPUT_IMAGE) {
            return port;
        }
    }
    return -1;
}

/* Options that no input made use of were meant for something: saying nothing would hide it. */
static int unused_options_check(const struct job *job, struct fm_error *reterr)
{
    if (job->options.image_option != NULL && image_input(job) < 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--%s is for images (JPEG, PNG), and no input is one; leave it out",
                            job->options.image_option);
    }
    for (uint32_t i = 0; i < job->options.shape_count; i++) {
        if (!job->options.shapes[i].used) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--shape '%s' is for raw numbers, and no input took it; leave it "
                                "out",
                                job->options.shapes[i].text);
        }
    }
    return 0;
}

/* Says once how images are turned into numbers: nobody should have to guess. */
static void images_note(const struct job *job)
{
    char text[256];
    int port = image_input(job);
    if (port >= 0) {
        fm_call_note(
            job->call, "images for '%s': %s (--size, --scale, --mean, --std, --bgr change it)",
            job->inputs[port].name, fm_image_plan_describe(&job->plans[port], text, sizeof text));
    }
}

/* ---- running ---- */

static void results_clear(struct job *job)
{
    for (size_t i = 0; job->results != NULL && i < job->item_count; i++) {
        fm_infer_result_deinit(&job->results[i], job->output_count);
    }
}

static int compare_uint64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Warm-up, then --repeat times; the results of the last run stay. The latency of a run is that of
 * its slowest request. */
static int job_run(struct job *job, struct fm_error *reterr)
{
    uint32_t warm_up = (uint32_t)fm_call_integer(job->call, "warmup");
    uint32_t repeat = (uint32_t)fm_call_integer(job->call, "repeat");
    job->results = fm_arena_alloc(job->call->arena, (job->item_count + 1) * sizeof *job->results);
    job->latencies.ns = fm_arena_alloc(job->call->arena, repeat * sizeof *job->latencies.ns);
    if (job->results == NULL || job->latencies.ns == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < warm_up + repeat; i++) {
        results_clear(job);
        int status = fm_infer_run(job->servable, job->items, job->item_count, job->results, reterr);
        if (status != 0) {
            return status;
        }
        uint64_t slowest_ns = 0;
        for (size_t j = 0; j < job->item_count; j++) {
            slowest_ns =
                job->results[j].latency_ns > slowest_ns ? job->results[j].latency_ns : slowest_ns;
        }
        if (i >= warm_up) {
            job->latencies.ns[job->latencies.count++] = slowest_ns;
        }
    }
    qsort(job->latencies.ns, job->latencies.count, sizeof *job->latencies.ns, compare_uint64);
    return 0;
}

/* ---- .npy files ---- */

/* Output `index` of all items as one array: stacked along dimension 0 when there are several. */
static int output_write(const struct job *job, uint32_t index, const char *path,
                        struct fm_error *reterr)
{
    struct fm_value stacked = {0};
    struct fm_text text = {0};
    struct fm_value *column = fm_arena_alloc(job->call->arena, job->item_count * sizeof *column);
    if (column == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < job->item_count; i++) {
        if (job->results[i].error.status != 0) {
            return fm_error_set(reterr, job->results[i].error.status,
                                "'%s' is not written because '%s' failed", path,
                                job->items[i].label);
        }
        column[i] = job->results[i].outputs[index];
    }
    int status =
        job->item_count > 1 ? fm_input_stack(column, job->item_count, &stacked, reterr) : 0;
    if (status == 0) {
        status =
            fm_npy_write(job->item_count > 1 ? &stacked.tensor : &column[0].tensor, &text, reterr);
    }
    if (status == 0) {
        status = fm_file_write_atomic(path, text.data, text.length, reterr);
    }
    fm_text_deinit(&text);
    fm_value_unref(&stacked);
    return status == 0 ? 0 : fm_error_prefix(reterr, status, "--output");
}

static int outputs_write(const struct job *job, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < job->options.output_count; i++) {
        status =
            output_write(job, job->options.outputs[i].port, job->options.outputs[i].path, reterr);
    }
    return status;
}

/* ---- the command ---- */

/* Says why items failed; the exit code is that of the first. With --json the results hold every
 * reason already, and one document of an error is enough. */
static int failures_print(const struct job *job)
{
    int exit_code = FM_EXIT_OK;
    for (size_t i = 0; i < job->item_count; i++) {
        if (job->results[i].error.status != 0 && (exit_code == FM_EXIT_OK || !job->call->json)) {
            struct fm_error error = job->results[i].error;
            (void)fm_error_prefix(&error, error.status, "'%s'", job->items[i].label);
            int code = fm_call_fail(job->call, &error);
            exit_code = exit_code == FM_EXIT_OK ? code : exit_code;
        }
    }
    return exit_code;
}

static int results_print(struct job *job)
{
    struct fm_text text = {0};
    struct fm_error error = {0};
    fm_infer_report(&job->view, job->items, job->results, job->item_count, &job->latencies, &text);
    int exit_code = fm_call_print(job->call, &text);
    if (exit_code != FM_EXIT_OK) {
        return exit_code;
    }
    exit_code = failures_print(job);
    if (outputs_write(job, &error) != 0 && (exit_code == FM_EXIT_OK || !job->call->json)) {
        int code = fm_call_fail(job->call, &error);
        exit_code = exit_code == FM_EXIT_OK ? code : exit_code;
    }
    return exit_code;
}

static void job_deinit(struct job *job)
{
    results_clear(job);
    for (size_t i = 0; i < job->item_count; i++) {
        for (uint32_t j = 0; j < job->input_count; j++) {
            fm_value_unref(&job->items[i].inputs[j]);
        }
    }
    for (uint32_t i = 0; i < job->source_count; i++) {
        fm_free(job->sources[i].data);
    }
    fm_servable_close(job->servable);
    fm_repository_close(&job->repository);
}

/* Everything that can be known to be wrong before an input is read. */
static int job_check(struct job *job, struct fm_error *reterr)
{
    const struct fm_infer_ports ports = {.name = fm_servable_name(job->servable),
                                         .inputs = job->inputs,
                                         .input_count = job->input_count,
                                         .outputs = job->outputs,
                                         .output_count = job->output_count,
                                         .plans = job->plans};
    int status = fm_infer_options_check(&job->options, &ports, reterr);
    return status == 0 ? sources_make(job, reterr) : status;
}

/* No output may lie over an input, or over another output. */
static int files_check(const struct job *job, struct fm_error *reterr)
{
    const struct fm_call *call = job->call;
    size_t count = 0;
    struct fm_file_argument *files = fm_arena_alloc(
        call->arena, ((size_t)job->source_count + job->options.output_count + 2) * sizeof *files);
    if (files == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    files[count++] =
        (struct fm_file_argument){.name = "MODEL", .path = fm_call_positional(call, 0)};
    files[count++] =
        (struct fm_file_argument){.name = "--labels", .path = fm_call_string(call, "labels")};
    for (uint32_t i = 0; i < job->source_count; i++) {
        files[count++] = (struct fm_file_argument){
            .name = "INPUT", .path = job->sources[i].is_stdin ? NULL : job->sources[i].path};
    }
    for (uint32_t i = 0; i < job->options.output_count; i++) {
        files[count++] = (struct fm_file_argument){
            .name = "--output", .path = job->options.outputs[i].path, .written = true};
    }
    return fm_file_arguments_check(files, count, reterr);
}

static int job_answer(struct job *job)
{
    struct fm_error error = {0};
    if (job_check(job, &error) != 0 || files_check(job, &error) != 0) {
        return fm_call_fail_arguments(job->call, &error);
    }
    int status = fm_infer_outputs_check(&job->options, &error);
    if (status == 0) {
        status = sources_read(job, &error);
    }
    if (status == 0) {
        status = items_make(job, &error);
    }
    if (status != 0) {
        return fm_call_fail(job->call, &error);
    }
    if (unused_options_check(job, &error) != 0) {
        return fm_call_fail_arguments(job->call, &error);
    }
    images_note(job);
    return job_run(job, &error) != 0 ? fm_call_fail(job->call, &error) : results_print(job);
}

static int describe(struct job *job)
{
    struct fm_text text = {0};
    fm_infer_describe(&job->view, &text);
    return fm_call_print(job->call, &text);
}

static int run(const struct fm_call *call)
{
    struct job job = {.call = call};
    struct fm_error error = {0};
    bool only_describe = fm_call_flag(call, "inputs");
    if (fm_infer_options_parse(call, &job.options, &error) != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    if (fm_model_argument_open(call, fm_call_positional(call, 0), &job.repository, &job.entry,
                               &error) != 0) {
        return fm_call_fail(call, &error);
    }
    int exit_code = FM_EXIT_OK;
    if (call->positional_count == 1 && !only_describe) {
        exit_code =
            fm_call_usage(call, "no input was given; name a file, or '-' for standard input, or "
                                "see what the model takes with --inputs");
    } else if (job_load(&job, &error) != 0) {
        exit_code = fm_call_fail(call, &error);
    } else {
        exit_code = only_describe ? describe(&job) : job_answer(&job);
    }
    job_deinit(&job);
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "MODEL",
     .help = "a model file (.onnx), a model's directory, a pipeline file (.yaml), or a repository "
             "with --model",
     .path = true},
    {.name = "INPUT",
     .help = "an image, a .npy array, raw numbers, a JSON infer request, or any file for a "
             "pipeline that takes bytes; - is standard input; "
             "NAME=FILE where the model has several inputs",
     .optional = true,
     .repeat = true,
     .path = true},
    {.name = NULL},
};

static const struct fm_option options[] = {
    FM_OPTION_MODEL,
    FM_OPTION_MODEL_VERSION,
    {.name = "inputs",
     .kind = FM_OPTION_FLAG,
     .help = "describe the model (ports, types, batching) and run nothing"},
    {.name = "top",
     .short_name = 'k',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "5",
     .min = 0,
     .max = 1000,
     .help = "the N best classes of each row; shown without this option when the model has labels",
     .group = "Results"},
    {.name = "labels",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "names of the classes of the first output, one a line"},
    {.name = "softmax",
     .kind = FM_OPTION_FLAG,
     .help = "show classes with probabilities made of their scores"},
    {.name = "values",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "8",
     .min = 0,
     .max = 1000000000,
     .help = "how many values of each output to print; 0 prints all"},
    {.name = "output",
     .short_name = 'o',
     .kind = FM_OPTION_PATH,
     .repeat = true,
     .value_name = "[NAME=]FILE",
     .help = "write an output as .npy; with several inputs they are stacked"},
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = "shape",
     .short_name = 's',
     .kind = FM_OPTION_STRING,
     .repeat = true,
     .value_name = "[NAME=]SIZES",
     .help = "shape of raw numbers where it does not follow from the model: 1,3,48,320",
     .group = "Inputs"},
    {.name = "size",
     .kind = FM_OPTION_STRING,
     .value_name = "WxH",
     .help = "resize images to this, where the model leaves it open (without this, their own size "
             "rounded up to a multiple of 32)"},
    {.name = "scale",
     .kind = FM_OPTION_NUMBER,
     .value_name = "X",
     .number_min = -1e9,
     .number_max = 1e9,
     .help = "a pixel becomes (pixel * scale - mean) / std (without this, 1/255; 1 for "
             "whole-number inputs)"},
    {.name = "mean",
     .kind = FM_OPTION_STRING,
     .value_name = "R,G,B",
     .help = "mean of each channel, or one number for all (without this, 0)"},
    {.name = "std",
     .kind = FM_OPTION_STRING,
     .value_name = "R,G,B",
     .help = "standard deviation, likewise (without this, 1)"},
    {.name = "bgr", .kind = FM_OPTION_FLAG, .help = "channels in the order blue, green, red"},
    {.name = "input-limit",
     .kind = FM_OPTION_BYTES,
     .value_name = "SIZE",
     .default_value = INPUT_LIMIT_DEFAULT,
     .help = "largest input that is read into memory, from a file or standard input"},
    {.name = "repeat",
     .short_name = 'n',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1",
     .min = 1,
     .max = 1000000,
     .help = "run N times and print latency quantiles",
     .group = "Running"},
    {.name = "warmup",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "0",
     .min = 0,
     .max = 1000000,
     .help = "run N times before that, without counting"},
    {.name = "instances",
     .short_name = 'i',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 64,
     .help = "instances of each model (default: 1; in a pipeline as configured)"},
    {.name = "threads",
     .short_name = 't',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 1024,
     .help = "threads of each instance (without this, as the model is configured)"},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What is this image? The five best classes, with names",
     "fermata infer resnet50.onnx cat.jpg --labels imagenet.txt --top 5"},
    {"What does the model want, and what does it give?",
     "fermata infer .deps/models/ocr/cls --inputs"},
    {"Read the text of a page with a pipeline of three models",
     "fermata infer examples/ocr/pipeline.yaml page.png"},
    {"Several files become one batch; the output goes to NumPy",
     "fermata infer model.onnx a.npy b.npy --output out.npy"},
    {"A model with two inputs", "fermata infer model.onnx ids=ids.npy mask=mask.npy"},
    {"How long does it take? 100 runs after 10 to warm up",
     "fermata infer model.onnx x.npy --warmup 10 --repeat 100"},
    {"For programs", "cat request.json | fermata infer models --model det - --json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, 0};

const struct fm_command fm_command_infer = {
    .name = "infer",
    .summary = "run a model or pipeline once and print what it answers",
    .description = "Inputs are recognised by their content. Several files without names are "
                   "separate inputs: they run as one batch where the "
                   "model can batch, side by side where it cannot.\n\n"
                   "JPEG and PNG files go into a pipeline as they are. For a bare model with an "
                   "image-like input they are decoded, resized to its "
                   "size, and scaled; what was done is printed.",
    .positionals = positionals,
    .options = options,
    .examples = examples,
    .exit_codes = exit_codes,
    .run = run,
};
