/*
 * Images, shapes and output files on the command line. See infer_options.h.
 */
#include "cmd/infer_options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/arguments.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"

enum { LIST_TEXT_SIZE = 256, SUGGESTIONS_MAX = 64 };

/* ---- texts ---- */

/* "0.485,0.456,0.406" or one number for all channels. */
static int channels_parse(const char *option, const char *text, double *values,
                          struct fm_error *reterr)
{
    char copy[128];
    uint32_t count = 0;
    int length = snprintf(copy, sizeof copy, "%s", text);
    char *rest = length < (int)sizeof copy ? copy : NULL;
    while (rest != NULL && count < FM_PLAN_CHANNELS_MAX) {
        char *comma = strchr(rest, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        if (fm_parse_double(rest, &values[count]) != 0) {
            count = 0;
            break;
        }
        count++;
        rest = comma;
    }
    if (count != 1 && count != 3) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--%s: '%s' is not one number or three, as in 0.485,0.456,0.406",
                            option, text);
    }
    for (uint32_t i = count; i < FM_PLAN_CHANNELS_MAX; i++) {
        values[i] = values[count - 1];
    }
    return 0;
}

static int size_parse(const char *text, struct fm_image_options *options, struct fm_error *reterr)
{
    char width[16];
    uint64_t numbers[2] = {0};
    const char *cross = strchr(text, 'x');
    if (cross != NULL && (size_t)(cross - text) < sizeof width) {
        (void)snprintf(width, sizeof width, "%.*s", (int)(cross - text), text);
        if (fm_parse_uint64(width, &numbers[0]) == 0 &&
            fm_parse_uint64(cross + 1, &numbers[1]) == 0 && numbers[0] > 0 && numbers[1] > 0 &&
            numbers[0] <= FM_PLAN_SIDE_MAX && numbers[1] <= FM_PLAN_SIDE_MAX) {
            options->width = (uint32_t)numbers[0];
            options->height = (uint32_t)numbers[1];
            return 0;
        }
    }
    return fm_error_set(reterr, FM_EINVAL,
                        "--size: '%s' is not WIDTHxHEIGHT, as in 640x480 (sides up to %d)", text,
                        FM_PLAN_SIDE_MAX);
}

static int std_parse(const char *text, double *values, struct fm_error *reterr)
{
    int status = channels_parse("std", text, values, reterr);
    for (uint32_t i = 0; status == 0 && i < FM_PLAN_CHANNELS_MAX; i++) {
        if (values[i] == 0) {
            status = fm_error_set(reterr, FM_EINVAL,
                                  "--std: '%s' would divide by zero; give the standard deviation "
                                  "of each channel, or leave it out for 1",
                                  text);
        }
    }
    return status;
}

static int image_parse(const struct fm_call *call, struct fm_infer_options *options,
                       struct fm_error *reterr)
{
    static const char *const names[] = {"size", "scale", "mean", "std", "bgr"};
    struct fm_image_options *image = &options->image;
    int status = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (options->image_option == NULL && fm_call_given(call, names[i])) {
            options->image_option = names[i];
        }
    }
    image->bgr = fm_call_flag(call, "bgr");
    image->has_scale = fm_call_given(call, "scale");
    image->scale = fm_call_number(call, "scale");
    if (image->has_scale && image->scale == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--scale: 0 would make every pixel the same; give a factor such as "
                            "0.00392157 (1/255), or leave it out");
    }
    if (fm_call_given(call, "size")) {
        status = size_parse(fm_call_string(call, "size"), image, reterr);
    }
    if (status == 0 && fm_call_given(call, "mean")) {
        status = channels_parse("mean", fm_call_string(call, "mean"), image->mean, reterr);
    }
    if (status == 0 && fm_call_given(call, "std")) {
        status = std_parse(fm_call_string(call, "std"), image->std, reterr);
    }
    return status;
}

static int shapes_parse(const struct fm_call *call, struct fm_infer_options *options,
                        struct fm_error *reterr)
{
    const char *const *texts = fm_call_strings(call, "shape", &options->shape_count);
    options->shapes =
        fm_arena_alloc(call->arena, ((size_t)options->shape_count + 1) * sizeof *options->shapes);
    if (options->shapes == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < options->shape_count; i++) {
        char *copy = fm_arena_strdup(call->arena, texts[i]);
        options->shapes[i].text = texts[i];
        int status = copy == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
                                  : fm_input_shape_parse(copy, &options->shapes[i].shape, reterr);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "--shape");
        }
    }
    return 0;
}

static int outputs_parse(const struct fm_call *call, struct fm_infer_options *options,
                         struct fm_error *reterr)
{
    const char *const *texts = fm_call_strings(call, "output", &options->output_count);
    options->outputs =
        fm_arena_alloc(call->arena, ((size_t)options->output_count + 1) * sizeof *options->outputs);
    if (options->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < options->output_count; i++) {
        size_t length = strlen(texts[i]);
        options->outputs[i] = (struct fm_infer_output){.text = texts[i], .path = texts[i]};
        if (length == 0 || texts[i][0] == '=' || texts[i][length - 1] == '=') {
            return fm_error_set(reterr, FM_EINVAL,
                                "--output: '%s' is not FILE.npy or NAME=FILE.npy", texts[i]);
        }
    }
    return 0;
}

int fm_infer_options_parse(const struct fm_call *call, struct fm_infer_options *ret_options,
                           struct fm_error *reterr)
{
    *ret_options = (struct fm_infer_options){.input_bytes_max = fm_call_bytes(call, "input-limit")};
    int status = image_parse(call, ret_options, reterr);
    if (status == 0) {
        status = shapes_parse(call, ret_options, reterr);
    }
    return status == 0 ? outputs_parse(call, ret_options, reterr) : status;
}

/* ---- against the model ---- */

int fm_infer_port_find(const struct fm_port *ports, uint32_t count, const char *name, size_t length)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strlen(ports[i].name) == length && strncmp(ports[i].name, name, length) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const char *fm_infer_port_names(const struct fm_port *ports, uint32_t count, char *text,
                                size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && used < size; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", ports[i].name);
    }
    return text;
}

/* "'nosuch'; did you mean 'y'?" or "'nosuch'; it has a, b" */
static const char *unknown_format(const struct fm_port *ports, uint32_t count, const char *name,
                                  char *text, size_t size)
{
    const char *candidates[SUGGESTIONS_MAX] = {NULL};
    char names[LIST_TEXT_SIZE];
    uint32_t used = count < SUGGESTIONS_MAX ? count : SUGGESTIONS_MAX;
    for (uint32_t i = 0; i < used; i++) {
        candidates[i] = ports[i].name;
    }
    const char *nearest = fm_arguments_suggest(name, candidates, used);
    if (nearest != NULL) {
        (void)snprintf(text, size, "'%.64s'; did you mean '%.64s'?", name, nearest);
    } else {
        (void)snprintf(text, size, "'%.64s'; it has %s", name,
                       fm_infer_port_names(ports, count, names, sizeof names));
    }
    return text;
}

static int image_check(const struct fm_infer_options *options, const struct fm_infer_ports *ports,
                       struct fm_error *reterr)
{
    const struct fm_image_options *image = &options->image;
    bool usable = false;
    if (options->image_option == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < ports->input_count; i++) {
        const struct fm_image_plan *plan = &ports->plans[i];
        usable = usable || plan->usable;
        if (plan->usable && image->width > 0 &&
            (plan->width != image->width || plan->height != image->height)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--size: images for input '%s' of '%s' have to be %" PRIu32
                                "x%" PRIu32 ", not %" PRIu32 "x%" PRIu32 "; leave --size out",
                                ports->inputs[i].name, ports->name, plan->width, plan->height,
                                image->width, image->height);
        }
    }
    return usable ? 0
                  : fm_error_set(reterr, FM_EINVAL,
                                 "--%s is for models with an image-like input of numbers, and '%s' "
                                 "has none; leave it out (--inputs shows what it takes)",
                                 options->image_option, ports->name);
}

static int shapes_check(const struct fm_infer_options *options, const struct fm_infer_ports *ports,
                        struct fm_error *reterr)
{
    char text[LIST_TEXT_SIZE * 2];
    for (uint32_t i = 0; i < options->shape_count; i++) {
        const char *name = options->shapes[i].shape.name;
        if (name != NULL &&
            fm_infer_port_find(ports->inputs, ports->input_count, name, strlen(name)) < 0) {
            return fm_error_set(
                reterr, FM_EINVAL, "--shape '%s': '%s' has no input %s", options->shapes[i].text,
                ports->name,
                unknown_format(ports->inputs, ports->input_count, name, text, sizeof text));
        }
    }
    return 0;
}

static int output_check(struct fm_infer_output *output, const struct fm_infer_ports *ports,
                        struct fm_error *reterr)
{
    char text[LIST_TEXT_SIZE * 2];
    const char *equals = strchr(output->text, '=');
    size_t length = equals != NULL ? (size_t)(equals - output->text) : 0;
    int port = equals != NULL
                   ? fm_infer_port_find(ports->outputs, ports->output_count, output->text, length)
                   : -1;
    if (port >= 0) {
        output->port = (uint32_t)port;
        output->path = equals + 1;
        return 0;
    }
    if (equals != NULL && memchr(output->text, '/', length) == NULL) {
        char name[LIST_TEXT_SIZE];
        (void)snprintf(name, sizeof name, "%.*s", (int)(length < 255 ? length : 255), output->text);
        return fm_error_set(
            reterr, FM_EINVAL,
            "--output '%s': '%s' has no output %s (a file with '=' in its name is "
            "written as ./%s)",
            output->text, ports->name,
            unknown_format(ports->outputs, ports->output_count, name, text, sizeof text),
            output->text);
    }
    if (ports->output_count != 1) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--output '%s': there are %" PRIu32
                            " outputs; write NAME=FILE.npy, for example %s=%s",
                            output->text, ports->output_count,
                            ports->output_count > 0 ? ports->outputs[0].name : "", output->text);
    }
    return 0;
}

int fm_infer_options_check(struct fm_infer_options *options, const struct fm_infer_ports *ports,
                           struct fm_error *reterr)
{
    int status = image_check(options, ports, reterr);
    if (status == 0) {
        status = shapes_check(options, ports, reterr);
    }
    for (uint32_t i = 0; status == 0 && i < options->output_count; i++) {
        status = output_check(&options->outputs[i], ports, reterr);
        for (uint32_t j = 0; status == 0 && j < i; j++) {
            if (strcmp(options->outputs[i].path, options->outputs[j].path) == 0) {
                status = fm_error_set(reterr, FM_EINVAL,
                                      "--output: '%s' is to be written twice; give each its own "
                                      "file",
                                      options->outputs[i].path);
            }
        }
    }
    return status;
}

int fm_infer_outputs_check(const struct fm_infer_options *options, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < options->output_count; i++) {
        int status = fm_file_check_writable(options->outputs[i].path, reterr);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "--output");
        }
    }
    return 0;
}
