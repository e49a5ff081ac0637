/*
 * Triton's config.pbtxt into a model description. See model_description.h and
 * docs/model-repository.md.
 *
 * HOW IT WORKS. Each message of Triton's schema has a table of its fields: how to read one, or why
 * it means nothing here. A field of the second kind becomes a note. A field in no table becomes a
 * note too, unless it looks like a misspelling of one that is.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/pbtxt.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/runtime/accelerator_group.h"
#include "host/runtime/model_description.h"

enum { GPUS_MAX = 64, PARAMETERS_MAX = 256, RULES_MAX = 64, FILE_BYTES_MAX = 4 << 20 };

struct reader {
    struct fm_model_description *description;
    const char *file;
    struct fm_error *reterr;
    const struct fm_pbtxt_value *platform;  /* NULL: not given */
    const struct fm_pbtxt_value *preferred; /* the largest preferred batch size */
    int64_t preferred_max;
    const struct fm_pbtxt_field *batching; /* dynamic_batching that says what to wait for */
    const struct fm_pbtxt_value *kind;     /* of the first instance group that has one */
    bool json; /* which has no enumerations, and writes large numbers in quotes */
    bool has_max_batch_size;
    bool has_provider;
    int64_t device_id; /* -1: not given */
    uint32_t device_line;
    size_t parameter_count;
};

/* One field of a message: read it, or (read NULL) say why not. */
struct rule {
    const char *name;
    bool repeated;
    int (*read)(struct reader *reader, const struct fm_pbtxt_field *field, void *target);
    const char *reason;
};

static int fail(const struct reader *reader, const struct fm_pbtxt_value *value, const char *format,
                ...) FM_PRINTF(3, 4);

static int fail(const struct reader *reader, const struct fm_pbtxt_value *value, const char *format,
                ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return fm_error_set(reader->reterr, FM_EINVAL, "%s:%u:%u: %s", reader->file, value->line,
                        value->column, message);
}

static int out_of_memory(const struct reader *reader)
{
    return fm_error_set(reader->reterr, FM_ENOMEM, "%s: out of memory", reader->file);
}

static int wrong_type(const struct reader *reader, const struct fm_pbtxt_field *field,
                      const char *wanted)
{
    return fail(reader, &field->value, "'%s' must be %s, not %s", field->name, wanted,
                fm_pbtxt_kind_name(field->value.kind));
}

/* "config.pbtxt:12: <text>" among the model's notes. */
static int note(const struct reader *reader, uint32_t line, const char *format, ...)
    FM_PRINTF(3, 4);

static int note(const struct reader *reader, uint32_t line, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return fm_model_description_note(reader->description, "%s:%u: %s", reader->file, line,
                                     message) == 0
               ? 0
               : out_of_memory(reader);
}

static int unknown_field(const struct reader *reader, const struct fm_pbtxt_field *field,
                         const char *message, const struct rule *rules, size_t count)
{
    const char *names[RULES_MAX];
    for (size_t i = 0; i < count; i++) {
        names[i] = rules[i].name;
    }
    const char *nearest = fm_text_suggest(field->name, names, count);
    if (nearest != NULL) {
        return fm_error_set(reader->reterr, FM_EINVAL,
                            "%s:%u:%u: %s has no field '%.60s'; did you mean '%s'?", reader->file,
                            field->line, field->column, message, field->name, nearest);
    }
    return note(reader, field->line, "'%.60s' is ignored: %s has no such field", field->name,
                message);
}

/* Reads every field of a message by its table. `message` names it for people. */
static int read_fields(struct reader *reader, const struct fm_pbtxt_value *value,
                       const char *message, const struct rule *rules, size_t count, void *target)
{
    uint64_t seen = 0;
    FM_ASSERT(count <= RULES_MAX);
    for (const struct fm_pbtxt_field *field = value->fields; field != NULL; field = field->next) {
        size_t index = 0;
        while (index < count && strcmp(rules[index].name, field->name) != 0) {
            index++;
        }
        int status = 0;
        if (index == count) {
            status = unknown_field(reader, field, message, rules, count);
        } else {
            const struct rule *rule = &rules[index];
            bool again = (seen >> index & 1) != 0;
            seen |= (uint64_t)1 << index;
            if (again && !rule->repeated && rule->read != NULL) {
                status = fm_error_set(reader->reterr, FM_EINVAL, "%s:%u:%u: '%s' stands twice",
                                      reader->file, field->line, field->column, field->name);
            } else if (rule->read != NULL) {
                status = rule->read(reader, field, target);
            } else if (!again) {
                status =
                    note(reader, field->line, "'%s' is ignored: %s", field->name, rule->reason);
            }
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int read_message(struct reader *reader, const struct fm_pbtxt_field *field,
                        const struct rule *rules, size_t count, void *target)
{
    if (field->value.kind != FM_PBTXT_MESSAGE) {
        return wrong_type(reader, field, "a message { ... }");
    }
    return read_fields(reader, &field->value, field->name, rules, count, target);
}

static int read_string(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    const char **copy = target;
    const char *text = NULL;
    if (fm_pbtxt_string(&field->value, &text) != 0) {
        return wrong_type(reader, field, "a string");
    }
    return fm_model_description_copy(reader->description, text, copy) == 0 ? 0
                                                                           : out_of_memory(reader);
}

/* Whether the value may be an enumeration's. */
static bool is_word(const struct reader *reader, const struct fm_pbtxt_value *value)
{
    return value->kind == FM_PBTXT_IDENTIFIER || (reader->json && value->kind == FM_PBTXT_STRING);
}

static int to_int64(const struct reader *reader, const struct fm_pbtxt_value *value,
                    int64_t *ret_value)
{
    return reader->json && value->kind == FM_PBTXT_STRING ? fm_parse_int64(value->text, ret_value)
                                                          : fm_pbtxt_int64(value, ret_value);
}

static int read_integer(struct reader *reader, const struct fm_pbtxt_field *field, int64_t min,
                        int64_t max, int64_t *ret_value)
{
    int64_t value = 0;
    if (to_int64(reader, &field->value, &value) != 0 || value < min || value > max) {
        return fail(reader, &field->value, "'%s' must be a whole number from %lld to %lld",
                    field->name, (long long)min, (long long)max);
    }
    *ret_value = value;
    return 0;
}

/* A configuration that a client sends says nothing about other files than the model's own. */
static int check_path(const struct reader *reader, const struct fm_pbtxt_value *value,
                      const char *path)
{
    return fm_model_description_may_name(reader->description, path)
               ? 0
               : fail(reader, value,
                      "'%.60s' leads out of the model's directory, which a configuration that is "
                      "sent must not; put the file beside the model and name it relative to that",
                      path);
}

static int read_path(struct reader *reader, const struct fm_pbtxt_field *field,
                     const char **ret_path)
{
    const char *text = NULL;
    if (fm_pbtxt_string(&field->value, &text) != 0) {
        return wrong_type(reader, field, "a string");
    }
    if (text[0] == '\0') {
        return 0;
    }
    if (check_path(reader, &field->value, text) != 0) {
        return FM_EINVAL;
    }
    int status = fm_model_description_path(reader->description, text, ret_path);
    if (status == FM_ETOOLARGE) {
        return fail(reader, &field->value, "the path is too long");
    }
    return status == 0 ? 0 : out_of_memory(reader);
}

/* ---- identity ---- */

static int read_name(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct fm_model_description *description = reader->description;
    const char *name = NULL;
    (void)target;
    int status = read_string(reader, field, &name);
    if (status != 0 || name[0] == '\0') {
        return status;
    }
    if (description->expected_name != NULL && strcmp(name, description->expected_name) != 0) {
        return fail(reader, &field->value,
                    "the model is called '%s' here but its directory '%s': make them equal, or "
                    "leave 'name' out",
                    name, description->expected_name);
    }
    description->name = name;
    return 0;
}

static int unsupported(const struct reader *reader, const struct fm_pbtxt_value *value,
                       const char *what, const char *name)
{
    if (strcmp(name, "ensemble") == 0) {
        return fm_error_set(reader->reterr, FM_EUNSUPPORTED,
                            "%s:%u:%u: Triton ensembles are not read: describe the stages in a "
                            "pipeline.yaml instead",
                            reader->file, value->line, value->column);
    }
    return fm_error_set(reader->reterr, FM_EUNSUPPORTED,
                        "%s:%u:%u: %s '%.60s' is not supported: export the model to ONNX and use "
                        "backend: \"onnxruntime\"",
                        reader->file, value->line, value->column, what, name);
}

static int read_platform(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    const char *platform = NULL;
    (void)target;
    int status = read_string(reader, field, &platform);
    if (status != 0 || platform[0] == '\0') {
        return status;
    }
    if (strcmp(platform, "onnxruntime_onnx") != 0) {
        return unsupported(reader, &field->value, "platform", platform);
    }
    reader->platform = &field->value;
    return 0;
}

static int read_backend(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    /* Backends that Triton has and that are no plug-ins of ours; any other name may be one. */
    static const char *const foreign[] = {"tensorrt", "pytorch",  "tensorflow",
                                          "python",   "openvino", "dali",
                                          "fil",      "vllm",     "tensorrtllm"};
    const char *backend = NULL;
    (void)target;
    int status = read_string(reader, field, &backend);
    if (status != 0 || backend[0] == '\0') {
        return status;
    }
    for (size_t i = 0; i < FM_COUNT_OF(foreign); i++) {
        if (strcmp(backend, foreign[i]) == 0) {
            return unsupported(reader, &field->value, "backend", backend);
        }
    }
    if (reader->description->sent && strchr(backend, '/') != NULL) {
        return fail(reader, &field->value,
                    "backend '%.60s' is a file, which a configuration that is sent must not name; "
                    "use the name of a plug-in",
                    backend);
    }
    reader->description->config->backend = backend;
    return 0;
}

static int read_ensemble(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    (void)target;
    return unsupported(reader, &field->value, "", "ensemble");
}

static int read_model_filename(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    const char *name = NULL;
    (void)target;
    int status = read_string(reader, field, &name);
    status = status == 0 ? check_path(reader, &field->value, name) : status;
    if (status == 0 && name[0] != '\0') {
        reader->description->file_name = name;
    }
    return status;
}

static int read_max_batch_size(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    (void)target;
    reader->has_max_batch_size = true;
    return read_integer(reader, field, 0, FM_MODEL_BATCH_MAX,
                        &reader->description->config->max_batch_size);
}

/* ---- version policy ---- */

static int read_num_versions(struct reader *reader, const struct fm_pbtxt_field *field,
                             void *target)
{
    int64_t count = 0;
    (void)target;
    int status = read_integer(reader, field, 0, FM_MODEL_LIST_MAX, &count);
    reader->description->latest_count = count > 0 ? (uint64_t)count : 1;
    return status;
}

static int read_latest(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {{"num_versions", false, read_num_versions, NULL}};
    reader->description->policy = FM_VERSIONS_LATEST;
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

static int read_all(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    reader->description->policy = FM_VERSIONS_ALL;
    return read_message(reader, field, NULL, 0, target);
}

static int read_specific_version(struct reader *reader, const struct fm_pbtxt_field *field,
                                 void *target)
{
    struct fm_model_description *description = reader->description;
    int64_t version = 0;
    (void)target;
    int status = read_integer(reader, field, 1, INT64_MAX, &version);
    if (status == 0 && description->specific_count == FM_MODEL_LIST_MAX) {
        status = fail(reader, &field->value, "more than %d versions", FM_MODEL_LIST_MAX);
    }
    if (status != 0) {
        return status;
    }
    if (description->specific == NULL) {
        description->specific = fm_arena_alloc(&description->config->arena,
                                               FM_MODEL_LIST_MAX * sizeof(*description->specific));
        if (description->specific == NULL) {
            return out_of_memory(reader);
        }
    }
    description->specific[description->specific_count++] = (uint64_t)version;
    return 0;
}

static int read_specific(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {{"versions", true, read_specific_version, NULL}};
    reader->description->policy = FM_VERSIONS_SPECIFIC;
    int status = read_message(reader, field, rules, FM_COUNT_OF(rules), target);
    if (status == 0 && reader->description->specific_count == 0) {
        status = fail(reader, &field->value, "'specific' names no versions");
    }
    return status;
}

static int read_version_policy(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    static const struct rule rules[] = {{"latest", false, read_latest, NULL},
                                        {"all", false, read_all, NULL},
                                        {"specific", false, read_specific, NULL}};
    int status = read_message(reader, field, rules, FM_COUNT_OF(rules), target);
    if (status == 0 && field->value.fields != NULL && field->value.fields->next != NULL) {
        status = fail(reader, &field->value,
                      "a version policy is one of 'latest', 'all' and 'specific', not several");
    }
    return status;
}

/* ---- inputs and outputs ---- */

/* A port and what shape the model itself sees. */
struct port {
    struct fm_model_port_config *config;
    int64_t reshape[FM_RANK_MAX];
    int32_t reshape_rank; /* -1: none */
    uint32_t reshape_line;
};

static int read_port_name(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    return read_string(reader, field, &((struct port *)target)->config->name);
}

static int read_data_type(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const char *const names[] = {
#define DTYPE_NAME(name, value, bits, oip, triton) triton,
        FM_DTYPE_TABLE(DTYPE_NAME)
#undef DTYPE_NAME
    };
    struct port *port = target;
    const struct fm_pbtxt_value *value = &field->value;
    for (uint32_t i = 0; is_word(reader, value) && i < FM_COUNT_OF(names); i++) {
        if (strcmp(value->text, names[i]) == 0) {
            port->config->dtype =
                i; /* the table is dense; TYPE_INVALID leaves it to the model file */
            return 0;
        }
    }
    if (!is_word(reader, value)) {
        return wrong_type(reader, field, "a data type such as TYPE_FP32");
    }
    const char *nearest = fm_text_suggest(value->text, names + 1, FM_COUNT_OF(names) - 1);
    return fail(reader, value, "'%.60s' is no data type%s%s%s", value->text,
                nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                nearest != NULL ? "'?" : "");
}

static int append_dimension(struct reader *reader, const struct fm_pbtxt_field *field,
                            int64_t *shape, int32_t *rank)
{
    int64_t dimension = 0;
    if (*rank >= FM_RANK_MAX) {
        return fail(reader, &field->value, "'%s' has more than %d dimensions", field->name,
                    FM_RANK_MAX);
    }
    if (to_int64(reader, &field->value, &dimension) != 0 || dimension < -1 || dimension == 0) {
        return fail(reader, &field->value,
                    "a dimension must be a whole number of at least 1, or -1 where it varies");
    }
    *rank = *rank < 0 ? 0 : *rank;
    shape[(*rank)++] = dimension;
    return 0;
}

static int read_dims(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct port *port = target;
    return append_dimension(reader, field, port->config->shape, &port->config->rank);
}

static int read_reshape_shape(struct reader *reader, const struct fm_pbtxt_field *field,
                              void *target)
{
    struct port *port = target;
    return append_dimension(reader, field, port->reshape, &port->reshape_rank);
}

static int read_reshape(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {{"shape", true, read_reshape_shape, NULL}};
    struct port *port = target;
    port->reshape_rank = 0;
    port->reshape_line = field->line;
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

static int read_optional(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct port *port = target;
    return fm_pbtxt_bool(&field->value, &port->config->optional) == 0
               ? 0
               : wrong_type(reader, field, "true or false");
}

static int read_label_filename(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    return read_path(reader, field, &((struct port *)target)->config->label_path);
}

static int read_format(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    (void)target;
    if (is_word(reader, &field->value) && strcmp(field->value.text, "FORMAT_NONE") == 0) {
        return 0;
    }
    return note(
        reader, field->line,
        "'format' is ignored: an input is bytes of its shape, images are prepared by operators");
}

static const char shape_tensor_reason[] = "only TensorRT models have such tensors";

static const struct rule input_rules[] = {
    {"name", false, read_port_name, NULL},
    {"data_type", false, read_data_type, NULL},
    {"format", false, read_format, NULL},
    {"dims", true, read_dims, NULL},
    {"reshape", false, read_reshape, NULL},
    {"optional", false, read_optional, NULL},
    {"is_shape_tensor", false, NULL, shape_tensor_reason},
    {"is_non_linear_format_io", false, NULL, shape_tensor_reason},
    {"allow_ragged_batch", false, NULL, "only requests of equal shapes share a batch"},
};

static const struct rule output_rules[] = {
    {"name", false, read_port_name, NULL},
    {"data_type", false, read_data_type, NULL},
    {"dims", true, read_dims, NULL},
    {"reshape", false, read_reshape, NULL},
    {"label_filename", false, read_label_filename, NULL},
    {"is_shape_tensor", false, NULL, shape_tensor_reason},
    {"is_non_linear_format_io", false, NULL, shape_tensor_reason},
};

/* Appends one port to a list that doubles at every power of two. */
static int read_port(struct reader *reader, const struct fm_pbtxt_field *field,
                     const struct rule *rules, size_t rule_count,
                     struct fm_model_port_config **ports, size_t *count)
{
    if (*count == FM_MODEL_PORTS_MAX) {
        return fail(reader, &field->value, "more than %d entries of '%s'", FM_MODEL_PORTS_MAX,
                    field->name);
    }
    if ((*count & (*count - 1)) == 0) {
        size_t capacity = *count == 0 ? 1 : *count * 2;
        struct fm_model_port_config *grown =
            fm_arena_alloc(&reader->description->config->arena, capacity * sizeof(*grown));
        if (grown == NULL) {
            return out_of_memory(reader);
        }
        if (*count > 0) {
            memcpy(grown, *ports, *count * sizeof(*grown));
        }
        *ports = grown;
    }
    struct port port = {.config = &(*ports)[*count], .reshape_rank = -1};
    *port.config = (struct fm_model_port_config){.rank = -1};
    int status = read_message(reader, field, rules, rule_count, &port);
    if (status == 0 && (port.config->name == NULL || port.config->name[0] == '\0')) {
        status = fail(reader, &field->value, "this '%s' has no name", field->name);
    }
    for (size_t i = 0; status == 0 && i < *count; i++) {
        if (strcmp((*ports)[i].name, port.config->name) == 0) {
            status = fail(reader, &field->value, "two entries of '%s' are called '%s'", field->name,
                          port.config->name);
        }
    }
    if (status == 0 && port.reshape_rank >= 0) {
        memcpy(port.config->shape, port.reshape, sizeof(port.reshape));
        port.config->rank = port.reshape_rank;
        status =
            note(reader, port.reshape_line,
                 "'reshape' is ignored: requests carry '%s' in the shape that the model itself has",
                 port.config->name);
    }
    *count += status == 0;
    return status;
}

static int read_input(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct fm_model_config *config = reader->description->config;
    (void)target;
    return read_port(reader, field, input_rules, FM_COUNT_OF(input_rules), &config->inputs,
                     &config->input_count);
}

static int read_output(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct fm_model_config *config = reader->description->config;
    (void)target;
    return read_port(reader, field, output_rules, FM_COUNT_OF(output_rules), &config->outputs,
                     &config->output_count);
}

/* ---- instances ---- */

struct group {
    int64_t count;
    const struct fm_pbtxt_value *kind;
    size_t gpu_count;
};

static int read_group_count(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    return read_integer(reader, field, 1, FM_MODEL_INSTANCES_MAX, &((struct group *)target)->count);
}

static int read_group_kind(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const char *const kinds[] = {"KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"};
    /* The others leave it to the server. */
    static const uint32_t kind_bits[] = {0, 1u << FM_GROUP_GPU, 1u << FM_GROUP_CPU, 0};
    struct group *group = target;
    group->kind = &field->value;
    for (size_t i = 0; is_word(reader, &field->value) && i < FM_COUNT_OF(kinds); i++) {
        if (strcmp(field->value.text, kinds[i]) == 0) {
            reader->description->config->kinds |= kind_bits[i];
            return 0;
        }
    }
    return fail(reader, &field->value,
                "'kind' must be one of KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL");
}

static int read_group_gpu(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    struct group *group = target;
    int64_t device = 0;
    int status = read_integer(reader, field, 0, INT32_MAX, &device);
    if (status != 0) {
        return status;
    }
    group->gpu_count++;
    struct fm_model_config *config = reader->description->config;
    if (config->gpu_count == GPUS_MAX) {
        return fail(reader, &field->value, "more than %d 'gpus'", GPUS_MAX);
    }
    if (config->gpus == NULL) {
        config->gpus = fm_arena_alloc(&config->arena, GPUS_MAX * sizeof(*config->gpus));
        if (config->gpus == NULL) {
            return out_of_memory(reader);
        }
    }
    config->gpus[config->gpu_count++] = (uint32_t)device;
    if (reader->device_id < 0) {
        reader->device_id = device;
        reader->device_line = field->line;
        return 0;
    }
    return group->gpu_count == 2
               ? note(reader, field->line,
                      "'gpus' after the first is for groups of accelerators (serve "
                      "--accelerators gpu:...); without them all instances share a device")
               : 0;
}

static int read_instance_group(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    static const struct rule rules[] = {
        {"name", false, NULL, "instances have numbers, not names"},
        {"kind", false, read_group_kind, NULL},
        {"count", false, read_group_count, NULL},
        {"gpus", true, read_group_gpu, NULL},
        {"rate_limiter", false, NULL,
         "the scheduler decides which model runs from latencies and deadlines"},
        {"secondary_devices", true, NULL, "only TensorRT models use them"},
        {"profile", true, NULL, "TensorRT optimisation profiles mean nothing to ONNX models"},
        {"passive", false, NULL, "every instance serves requests"},
        {"host_policy", false, NULL,
         "placement on sockets and cores is left to the operating system"},
    };
    struct fm_model_config *config = reader->description->config;
    struct group group = {.count = 1};
    (void)target;
    int status = read_message(reader, field, rules, FM_COUNT_OF(rules), &group);
    if (status != 0) {
        return status;
    }
    if (config->instance_count + group.count > FM_MODEL_INSTANCES_MAX) {
        return fail(reader, &field->value, "more than %d instances", FM_MODEL_INSTANCES_MAX);
    }
    config->instance_count += (uint32_t)group.count;
    if (group.kind == NULL) {
        return 0;
    }
    if (reader->kind != NULL && strcmp(reader->kind->text, group.kind->text) != 0) {
        return note(reader, group.kind->line,
                    "'kind: %s' is for groups of accelerators (serve --accelerators cpu:...,"
                    "gpu:...); without them all instances share a device, and an earlier group "
                    "says %s",
                    group.kind->text, reader->kind->text);
    }
    reader->kind = group.kind;
    return 0;
}

/* ---- batching and warm-up ---- */

static int read_preferred_batch_size(struct reader *reader, const struct fm_pbtxt_field *field,
                                     void *target)
{
    struct fm_model_config *config = reader->description->config;
    int64_t size = 0;
    (void)target;
    int status = read_integer(reader, field, 1, FM_MODEL_BATCH_MAX, &size);
    if (status == 0 && config->preferred_batch_size_count == FM_MODEL_LIST_MAX) {
        status =
            fail(reader, &field->value, "more than %d preferred batch sizes", FM_MODEL_LIST_MAX);
    }
    if (status != 0) {
        return status;
    }
    if (config->preferred_batch_sizes == NULL) {
        config->preferred_batch_sizes = fm_arena_alloc(
            &config->arena, FM_MODEL_LIST_MAX * sizeof(*config->preferred_batch_sizes));
        if (config->preferred_batch_sizes == NULL) {
            return out_of_memory(reader);
        }
    }
    config->preferred_batch_sizes[config->preferred_batch_size_count++] = (uint32_t)size;
    reader->batching = field;
    if (size > reader->preferred_max) {
        reader->preferred_max = size;
        reader->preferred = &field->value;
    }
    return 0;
}

static int read_max_queue_delay(struct reader *reader, const struct fm_pbtxt_field *field,
                                void *target)
{
    int64_t microseconds = 0;
    (void)target;
    int status = read_integer(reader, field, 0, INT64_MAX / 1000, &microseconds);
    if (microseconds > 0) {
        reader->batching = field;
    }
    reader->description->config->max_queue_delay_ns = (uint64_t)microseconds * 1000;
    return status;
}

static int read_dynamic_batching(struct reader *reader, const struct fm_pbtxt_field *field,
                                 void *target)
{
    static const char priority_reason[] = "requests are ordered by deadline, not by priority";
    static const char queue_reason[] = "deadlines decide which requests are dropped";
    static const struct rule rules[] = {
        {"preferred_batch_size", true, read_preferred_batch_size, NULL},
        {"max_queue_delay_microseconds", false, read_max_queue_delay, NULL},
        {"preserve_ordering", false, NULL,
         "every answer goes to its own request; clients see the order they ask in"},
        {"priority_levels", false, NULL, priority_reason},
        {"default_priority_level", false, NULL, priority_reason},
        {"default_queue_policy", false, NULL, queue_reason},
        {"priority_queue_policy", true, NULL, priority_reason},
    };
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

struct warmup {
    int64_t count;
    int64_t batch_size;
};

static int read_warmup_count(struct reader *reader, const struct fm_pbtxt_field *field,
                             void *target)
{
    return read_integer(reader, field, 0, 1000, &((struct warmup *)target)->count);
}

static int read_warmup_batch_size(struct reader *reader, const struct fm_pbtxt_field *field,
                                  void *target)
{
    return read_integer(reader, field, 0, FM_MODEL_BATCH_MAX,
                        &((struct warmup *)target)->batch_size);
}

static int read_model_warmup(struct reader *reader, const struct fm_pbtxt_field *field,
                             void *target)
{
    static const struct rule rules[] = {
        {"name", false, NULL, "warm-up runs have no names"},
        {"batch_size", false, read_warmup_batch_size, NULL},
        {"count", false, read_warmup_count, NULL},
        {"inputs", true, NULL, "warm-up runs on zeros of the model's own shapes"},
    };
    struct fm_model_config *config = reader->description->config;
    struct warmup warmup = {0};
    (void)target;
    int status = read_message(reader, field, rules, FM_COUNT_OF(rules), &warmup);
    if (status != 0) {
        return status;
    }
    uint32_t count = warmup.count > 0 ? (uint32_t)warmup.count : 1;
    uint32_t batch = warmup.batch_size > 0 ? (uint32_t)warmup.batch_size : 1;
    if (config->warmup_count + count > 1000) {
        return fail(reader, &field->value, "more than 1000 warm-up runs");
    }
    config->warmup_count += count;
    config->warmup_batch = batch > config->warmup_batch ? batch : config->warmup_batch;
    return 0;
}

/* ---- parameters and optimisation ---- */

/* One entry of a map: `key: "k" value: { string_value: "v" }` or `key: "k" value: "v"`. */
struct entry {
    const char *key;
    const char *value;
};

static int read_scalar(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    const char **copy = target;
    const char *text = NULL;
    if (fm_pbtxt_scalar(&field->value, &text) != 0) {
        return wrong_type(reader, field, "a string");
    }
    return fm_model_description_copy(reader->description, text, copy) == 0 ? 0
                                                                           : out_of_memory(reader);
}

static int read_entry_key(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    return read_string(reader, field, &((struct entry *)target)->key);
}

static int read_entry_value(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {{"string_value", false, read_scalar, NULL}};
    const char **value = &((struct entry *)target)->value;
    return field->value.kind == FM_PBTXT_MESSAGE
               ? read_message(reader, field, rules, FM_COUNT_OF(rules), value)
               : read_scalar(reader, field, value);
}

static int read_entry(struct reader *reader, const struct fm_pbtxt_field *field,
                      struct entry *entry)
{
    static const struct rule rules[] = {{"key", false, read_entry_key, NULL},
                                        {"value", false, read_entry_value, NULL}};
    *entry = (struct entry){0};
    if (++reader->parameter_count > PARAMETERS_MAX) {
        return fail(reader, &field->value, "more than %d parameters", PARAMETERS_MAX);
    }
    int status = read_message(reader, field, rules, FM_COUNT_OF(rules), entry);
    if (status == 0 && (entry->key == NULL || entry->key[0] == '\0')) {
        status = fail(reader, &field->value, "this entry of '%s' has no key", field->name);
    }
    if (status == 0 && entry->value == NULL) {
        entry->value = "";
    }
    return status;
}

/* Triton's names of ONNX Runtime's knobs, and ours. */
static const struct {
    const char *triton;
    const char *ours;
    bool is_switch;
} onnx_parameters[] = {
    {"intra_op_thread_count", "threads", false},
    {"inter_op_thread_count", "inter_op_threads", false},
    {"execution_mode", "execution_mode", false},
    {"enable_mem_arena", "arena", true},
    {"enable_mem_pattern", "memory_pattern", true},
};

static int read_onnx_parameter(struct reader *reader, const struct fm_pbtxt_field *field,
                               const struct entry *entry)
{
    for (size_t i = 0; i < FM_COUNT_OF(onnx_parameters); i++) {
        if (strcmp(entry->key, onnx_parameters[i].triton) != 0) {
            continue;
        }
        const char *value = entry->value;
        bool zero = strcmp(value, "0") == 0;
        if (onnx_parameters[i].is_switch) {
            value = zero ? "false" : "true";
        } else if (strcmp(entry->key, "execution_mode") == 0) {
            value = zero ? "sequential" : "parallel";
        } else if (zero) {
            return 0; /* 0 threads: the runtime's default */
        }
        return fm_model_description_set(reader->description, onnx_parameters[i].ours, value) == 0
                   ? 0
                   : out_of_memory(reader);
    }
    return note(reader, field->line,
                "parameter '%.60s' is ignored: it is none that Fermata knows (its own begin with "
                "'fermata.')",
                entry->key);
}

/* The groups of accelerators that the model may use, separated by commas. */
static int read_groups(struct reader *reader, const struct fm_pbtxt_field *field, const char *names)
{
    struct fm_model_config *config = reader->description->config;
    config->groups = fm_arena_alloc(&config->arena, FM_GROUPS_MAX * sizeof(*config->groups));
    config->group_count = 0;
    if (config->groups == NULL) {
        return out_of_memory(reader);
    }
    for (const char *at = names;; at++) {
        at += strspn(at, " ");
        size_t length = strcspn(at, ", ");
        if (length == 0 || config->group_count == FM_GROUPS_MAX) {
            return fail(reader, &field->value,
                        "'%.60s' does not name accelerators: write up to %u names, separated by "
                        "commas",
                        names, FM_GROUPS_MAX);
        }
        const char *name = fm_arena_strndup(&config->arena, at, length);
        if (name == NULL) {
            return out_of_memory(reader);
        }
        config->groups[config->group_count++].name = name;
        at += length + strspn(at + length, " ");
        if (*at != ',') {
            return *at == '\0' ? 0
                               : fail(reader, &field->value,
                                      "'%.60s' does not name accelerators: separate names by "
                                      "commas",
                                      names);
        }
    }
}

static int read_parameter(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const char prefix[] = "fermata.";
    struct fm_model_description *description = reader->description;
    struct entry entry;
    (void)target;
    int status = read_entry(reader, field, &entry);
    if (status != 0) {
        return status;
    }
    if (strncmp(entry.key, prefix, sizeof(prefix) - 1) != 0) {
        return read_onnx_parameter(reader, field, &entry);
    }
    const char *key = entry.key + sizeof(prefix) - 1;
    if (strcmp(key, "accelerators") == 0) {
        return read_groups(reader, field, entry.value);
    }
    if (strcmp(key, "profile") == 0) {
        if (check_path(reader, &field->value, entry.value) != 0) {
            return FM_EINVAL;
        }
        status =
            fm_model_description_path(description, entry.value, &description->config->profile_path);
    } else if (strcmp(key, "slo") == 0) {
        if (fm_parse_duration_ns(entry.value, &description->config->slo_ns) != 0) {
            return fail(reader, &field->value, "'%.60s' is no time; write it as 50ms", entry.value);
        }
    } else if (strcmp(key, "goal") == 0) {
        description->config->goal = fm_sched_goal_parse(entry.value);
        if (description->config->goal == FM_SCHED_GOAL_COUNT_) {
            return fail(reader, &field->value,
                        "'%.60s' is no goal; there are balanced, efficiency and latency",
                        entry.value);
        }
    } else if (strcmp(key, "policy") == 0) {
        description->config->policy = fm_sched_policy_parse(entry.value);
        if (description->config->policy == FM_SCHED_POLICY_COUNT_) {
            return fail(reader, &field->value, "'%.60s' is no policy; there are " FM_MODEL_POLICIES,
                        entry.value);
        }
    } else if (strcmp(key, "provider") == 0 || strncmp(key, "provider.", 9) == 0) {
        reader->has_provider = true;
        status = fm_model_description_set_device(description, key, entry.value);
    } else {
        status = fm_model_description_set(description, key, entry.value);
    }
    return status == 0              ? 0
           : status == FM_ETOOLARGE ? fail(reader, &field->value, "the path is too long")
                                    : out_of_memory(reader);
}

static int read_graph_level(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const char *const levels[] = {"basic", "all", "extended", "disabled"}; /* from -1 */
    int64_t level = 0;
    (void)target;
    int status = read_integer(reader, field, -1, 2, &level);
    if (status != 0 || level == 0) {
        return status;
    }
    return fm_model_description_set(reader->description, "graph_optimization", levels[level + 1]) ==
                   0
               ? 0
               : out_of_memory(reader);
}

static int read_graph(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {{"level", false, read_graph_level, NULL}};
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

struct accelerator {
    const char *name; /* borrowed from the tree */
    bool chosen;
};

static int choose_accelerator(struct reader *reader, const struct fm_pbtxt_field *field,
                              struct accelerator *accelerator)
{
    static const char *const providers[] = {"tensorrt", "cuda", "openvino"};
    for (const struct fm_pbtxt_field *inner = field->value.fields; inner != NULL;
         inner = inner->next) {
        if (strcmp(inner->name, "name") == 0 &&
            fm_pbtxt_string(&inner->value, &accelerator->name) != 0) {
            return wrong_type(reader, inner, "a string");
        }
    }
    for (size_t i = 0; accelerator->name != NULL && i < FM_COUNT_OF(providers); i++) {
        if (strcmp(accelerator->name, providers[i]) != 0) {
            continue;
        }
        if (reader->has_provider) {
            return note(reader, field->line,
                        "accelerator '%s' is ignored: another one was chosen already",
                        accelerator->name);
        }
        reader->has_provider = true;
        accelerator->chosen = true;
        return fm_model_description_set_device(reader->description, "provider",
                                               accelerator->name) == 0
                   ? 0
                   : out_of_memory(reader);
    }
    return note(reader, field->line,
                "accelerator '%.60s' is ignored: it is none of tensorrt, cuda, openvino",
                accelerator->name != NULL ? accelerator->name : "");
}

/* An option of the chosen execution provider, under ONNX Runtime's name for it. */
static int read_accelerator_parameter(struct reader *reader, const struct fm_pbtxt_field *field,
                                      void *target)
{
    const struct accelerator *accelerator = target;
    struct entry entry;
    char key[128];
    int status = read_entry(reader, field, &entry);
    if (status != 0 || !accelerator->chosen) {
        return status;
    }
    const char *option = entry.key;
    if (strcmp(accelerator->name, "tensorrt") == 0) {
        if (strcmp(option, "max_workspace_size_bytes") == 0) {
            option = "trt_max_workspace_size";
        } else if (strcmp(option, "precision_mode") == 0) {
            option = strcmp(entry.value, "FP16") == 0   ? "trt_fp16_enable"
                     : strcmp(entry.value, "INT8") == 0 ? "trt_int8_enable"
                                                        : NULL;
            entry.value = "1";
        } else if (strncmp(option, "trt_", 4) != 0) {
            return note(
                reader, field->line,
                "parameter '%.60s' is ignored: give ONNX Runtime's own name for it (trt_...)",
                option);
        }
    }
    if (option == NULL) {
        return 0; /* FP32 is what TensorRT does by itself */
    }
    int length = snprintf(key, sizeof(key), "provider.%s", option);
    if (length < 0 || (size_t)length >= sizeof(key)) {
        return fail(reader, &field->value, "the key is too long");
    }
    return fm_model_description_set_device(reader->description, key, entry.value) == 0
               ? 0
               : out_of_memory(reader);
}

static int read_accelerator_name(struct reader *reader, const struct fm_pbtxt_field *field,
                                 void *target)
{
    /* Read ahead of the parameters, which may stand before it. */
    (void)reader;
    (void)field;
    (void)target;
    return 0;
}

static int read_accelerator(struct reader *reader, const struct fm_pbtxt_field *field, void *target)
{
    static const struct rule rules[] = {
        {"name", false, read_accelerator_name, NULL},
        {"parameters", true, read_accelerator_parameter, NULL},
    };
    struct accelerator accelerator = {0};
    (void)target;
    int status =
        field->value.kind == FM_PBTXT_MESSAGE ? choose_accelerator(reader, field, &accelerator) : 0;
    return status == 0 ? read_message(reader, field, rules, FM_COUNT_OF(rules), &accelerator)
                       : status;
}

static int read_execution_accelerators(struct reader *reader, const struct fm_pbtxt_field *field,
                                       void *target)
{
    static const struct rule rules[] = {
        {"gpu_execution_accelerator", true, read_accelerator, NULL},
        {"cpu_execution_accelerator", true, read_accelerator, NULL},
    };
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

static int read_optimization(struct reader *reader, const struct fm_pbtxt_field *field,
                             void *target)
{
    static const struct rule rules[] = {
        {"graph", false, read_graph, NULL},
        {"execution_accelerators", false, read_execution_accelerators, NULL},
        {"priority", false, NULL,
         "the scheduler decides which model runs from latencies and deadlines"},
        {"cuda", false, NULL, "CUDA graphs are not used"},
        {"input_pinned_memory", false, NULL, "pinned memory is not used"},
        {"output_pinned_memory", false, NULL, "pinned memory is not used"},
        {"gather_kernel_buffer_threshold", false, NULL, "inputs are gathered on the CPU"},
        {"eager_batching", false, NULL, "requests are decoded straight into the batch always"},
    };
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

static int read_cache_enable(struct reader *reader, const struct fm_pbtxt_field *field,
                             void *target)
{
    (void)target;
    return fm_pbtxt_bool(&field->value, &reader->description->config->response_cache) == 0
               ? 0
               : wrong_type(reader, field, "true or false");
}

static int read_response_cache(struct reader *reader, const struct fm_pbtxt_field *field,
                               void *target)
{
    static const struct rule rules[] = {{"enable", false, read_cache_enable, NULL}};
    return read_message(reader, field, rules, FM_COUNT_OF(rules), target);
}

/* ---- the whole ---- */

static const struct rule model_rules[] = {
    {"name", false, read_name, NULL},
    {"platform", false, read_platform, NULL},
    {"backend", false, read_backend, NULL},
    {"runtime", false, NULL, "the backend plug-in is found by the backend's name"},
    {"version_policy", false, read_version_policy, NULL},
    {"max_batch_size", false, read_max_batch_size, NULL},
    {"input", true, read_input, NULL},
    {"output", true, read_output, NULL},
    {"batch_input", true, NULL, "requests carry all inputs of the model themselves"},
    {"batch_output", true, NULL, "outputs are split along the batch dimension"},
    {"optimization", false, read_optimization, NULL},
    {"dynamic_batching", false, read_dynamic_batching, NULL},
    {"sequence_batching", false, NULL,
     "requests are independent here; the client sends the state tensors back itself"},
    {"ensemble_scheduling", false, read_ensemble, NULL},
    {"instance_group", true, read_instance_group, NULL},
    {"default_model_filename", false, read_model_filename, NULL},
    {"cc_model_filenames", true, NULL, "one file serves every device"},
    {"metric_tags", true, NULL, "metrics carry the model's name and version"},
    {"parameters", true, read_parameter, NULL},
    {"model_warmup", true, read_model_warmup, NULL},
    {"model_operations", false, NULL, "custom operator libraries are not loaded"},
    {"model_transaction_policy", false, NULL, "every request has one answer"},
    {"model_repository_agents", false, NULL, "models are loaded from files as they are"},
    {"response_cache", false, read_response_cache, NULL},
    {"model_metrics", false, NULL, "histograms have fixed buckets"},
};

/* KIND_GPU means CUDA unless an accelerator says otherwise; then 'gpus' says which. */
static int finish_device(struct reader *reader)
{
    const struct fm_model_config *config = reader->description->config;
    const char *provider = NULL;
    char device[32];
    if (reader->kind != NULL && strcmp(reader->kind->text, "KIND_GPU") == 0 &&
        !reader->has_provider &&
        fm_model_description_set_device(reader->description, "provider", "cuda") != 0) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; i < config->device_setting_count; i++) {
        provider = strcmp(config->device_settings[i].key, "provider") == 0
                       ? config->device_settings[i].value
                       : provider;
    }
    if (reader->device_id < 0) {
        return 0;
    }
    if (provider == NULL || (strcmp(provider, "cuda") != 0 && strcmp(provider, "tensorrt") != 0)) {
        return note(
            reader, reader->device_line,
            "'gpus' is ignored: the instances run on the CPU (kind: KIND_GPU puts them on a GPU)");
    }
    (void)snprintf(device, sizeof(device), "%lld", (long long)reader->device_id);
    return fm_model_description_set_device(reader->description, "provider.device_id", device) == 0
               ? 0
               : out_of_memory(reader);
}

/* What depends on several fields, whose order is free. */
static int finish(struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    if (config->backend != NULL && reader->platform != NULL &&
        strcmp(config->backend, FM_MODEL_BACKEND_DEFAULT) != 0) {
        return fail(reader, reader->platform,
                    "platform 'onnxruntime_onnx' contradicts backend '%s'", config->backend);
    }
    if (config->backend == NULL) {
        config->backend = FM_MODEL_BACKEND_DEFAULT;
    }
    /* As Triton: what is left out is completed from the model file unless inputs and outputs are
     * both given. */
    if (!reader->has_max_batch_size && config->input_count > 0 && config->output_count > 0) {
        config->max_batch_size = 0;
    }
    if (reader->preferred != NULL && config->max_batch_size >= 0 &&
        reader->preferred_max > config->max_batch_size) {
        return fail(reader, reader->preferred,
                    "the preferred batch size %lld is larger than 'max_batch_size' (%lld)",
                    (long long)reader->preferred_max, (long long)config->max_batch_size);
    }
    int status = 0;
    if (reader->batching != NULL && config->policy != FM_SCHED_POLICY_TIMEOUT) {
        status = note(reader, reader->batching->line,
                      "preferred_batch_size and max_queue_delay_microseconds are for policy "
                      "'timeout' only, others decide by deadlines; parameter 'fermata.policy' with "
                      "string_value 'timeout' chooses it");
    }
    return status == 0 && strcmp(config->backend, FM_MODEL_BACKEND_DEFAULT) == 0
               ? finish_device(reader)
               : status;
}

static int read_tree(struct reader *reader, const struct fm_pbtxt_value *root)
{
    int status = read_fields(reader, root, "a model configuration", model_rules,
                             FM_COUNT_OF(model_rules), NULL);
    return status == 0 ? finish(reader) : status;
}

int fm_model_description_read_text(struct fm_model_description *description, const char *label,
                                   const char *text, size_t size, struct fm_error *reterr)
{
    static const char *const maps[] = {"parameters", "metric_tags", "cc_model_filenames", NULL};
    struct fm_arena arena;
    struct fm_pbtxt_value root;
    struct reader reader = {
        .description = description, .file = label, .reterr = reterr, .device_id = -1};
    size_t start = fm_text_after_bom(text, size);
    description->sent = true;
    while (start < size && strchr(" \t\r\n", text[start]) != NULL) {
        start++;
    }
    fm_arena_init(&arena, 0);
    reader.json = start < size && text[start] == '{';
    int status = reader.json ? fm_pbtxt_parse_json(label, text, size, maps, &arena, &root, reterr)
                             : fm_pbtxt_parse(label, text, size, &arena, &root, reterr);
    if (status == 0) {
        status = read_tree(&reader, &root);
    }
    fm_arena_deinit(&arena);
    return status;
}

int fm_model_description_read_pbtxt(struct fm_model_description *description, const char *path,
                                    struct fm_error *reterr)
{
    char *text = NULL;
    size_t size = 0;
    int status = fm_file_read(path, FILE_BYTES_MAX, &text, &size, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_arena arena;
    struct fm_pbtxt_value root;
    struct reader reader = {
        .description = description, .file = path, .reterr = reterr, .device_id = -1};
    fm_arena_init(&arena, 0);
    status = fm_pbtxt_parse(path, text, size, &arena, &root, reterr);
    fm_free(text);
    if (status == 0) {
        status = read_tree(&reader, &root);
    }
    fm_arena_deinit(&arena);
    return status;
}
