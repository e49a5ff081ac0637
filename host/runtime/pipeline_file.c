/*
 * The pipeline file's syntax. See pipeline_file.h and docs/pipeline.md. What names mean is checked
 * later, by fm_pipeline_link.
 */
#include "host/runtime/pipeline_file.h"

#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "host/config/config.h"
#include "host/os/file.h"
#include "host/runtime/model.h"

enum { PLUGINS_MAX = 64, ROWS_MAX = 1 << 20, FAN_OUT_MAX = 1 << 24 };

struct reader {
    struct fm_pipeline_file *file;
    struct fm_error *reterr;
};

static int out_of_memory(const struct reader *reader)
{
    return fm_error_set(reader->reterr, FM_ENOMEM, "%s: out of memory while reading the pipeline",
                        reader->file->spec.file);
}

static int copy_text(const struct reader *reader, const char *text, const char **ret_copy)
{
    *ret_copy = fm_arena_strdup(&reader->file->arena, text);
    return *ret_copy != NULL ? 0 : out_of_memory(reader);
}

static void *allocate(const struct reader *reader, size_t count, size_t size)
{
    return fm_arena_alloc(&reader->file->arena, count * size);
}

static struct fm_mark mark_of(const struct fm_config *node)
{
    return (struct fm_mark){.line = node->line, .column = node->column};
}

/* A required, non-empty text, copied. */
static int read_name(const struct reader *reader, struct fm_config *mapping, const char *key,
                     const char **ret_name)
{
    struct fm_config *node = NULL;
    int status = fm_config_require(mapping, key, &node, reader->reterr);
    if (status == 0 && fm_config_is_empty(node)) {
        status = fm_config_error(node, reader->reterr,
                                 "'%s' is empty: write what it names after it, as '%s: <text>'",
                                 key, key);
    }
    if (status == 0) {
        status = fm_config_expect(node, FM_CONFIG_SCALAR, reader->reterr);
    }
    return status == 0 ? copy_text(reader, node->text, ret_name) : status;
}

/* A path relative to the file, resolved and copied. */
static int resolve_path(const struct reader *reader, const struct fm_config *node, const char *text,
                        const char **ret_path)
{
    char path[sizeof(reader->file->directory)];
    if (fm_path_join(path, sizeof(path), reader->file->directory, text) != 0) {
        return fm_config_error(node, reader->reterr, "the path is longer than %zu bytes",
                               sizeof(path) - 1);
    }
    return copy_text(reader, path, ret_path);
}

static int read_plugins(const struct reader *reader, struct fm_config *root)
{
    struct fm_config *list = fm_config_get(root, "plugins");
    if (list == NULL || list->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    if (status == 0 && list->count > PLUGINS_MAX) {
        status = fm_config_error(list, reader->reterr, "more than %d plug-ins", PLUGINS_MAX);
    }
    if (status != 0) {
        return status;
    }
    reader->file->plugins = allocate(reader, list->count, sizeof(*reader->file->plugins));
    if (reader->file->plugins == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        const struct fm_config *node = &list->children[i];
        const char **plugin = &reader->file->plugins[reader->file->plugin_count++];
        if (fm_config_is_empty(node)) {
            status = fm_config_error(
                node, reader->reterr,
                "an entry of 'plugins' is empty: write a plug-in's name or the path of its .so");
        }
        status = status == 0 ? fm_config_expect(node, FM_CONFIG_SCALAR, reader->reterr) : status;
        if (status == 0 && strchr(node->text, '/') != NULL) {
            status = resolve_path(reader, node, node->text, plugin);
        } else if (status == 0 && strcmp(fm_path_extension(node->text), ".so") == 0) {
            /* A file beside the pipeline file. The loader takes a path only where it sees a '/'. */
            char local[sizeof(reader->file->directory)];
            (void)snprintf(local, sizeof(local), "./%s", node->text);
            status = resolve_path(reader, node, local, plugin);
        } else if (status == 0) {
            status = copy_text(reader, node->text, plugin);
        }
    }
    return status;
}

/* One entry of the pipeline's inputs: all three keys are mandatory, because nothing else could
 * supply them. */
static int read_port(const struct reader *reader, struct fm_config *node, struct fm_port *port)
{
    struct fm_config *ignored = NULL;
    port->rank = -1;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_name(reader, node, "name", &port->name) : status;
    status = status == 0 ? fm_config_require(node, "dtype", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_dtype(node, "dtype", &port->dtype, reader->reterr) : status;
    status = status == 0 ? fm_config_require(node, "shape", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_shape(node, "shape", port->shape, &port->rank, reader->reterr)
                         : status;
    status = status == 0 ? fm_config_finish(node, reader->reterr) : status;
    if (status == 0 && (port->dtype == FM_DTYPE_INVALID || port->rank < 0)) {
        status = fm_config_error(node, reader->reterr,
                                 "'dtype' and 'shape' of input '%s' must not be empty", port->name);
    }
    return status;
}

static int read_inputs(const struct reader *reader, struct fm_config *root)
{
    struct fm_pipeline_spec *spec = &reader->file->spec;
    struct fm_config *list = NULL;
    int status = fm_config_require(root, "inputs", &list, reader->reterr);
    if (status == 0) {
        status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    }
    if (status == 0 && (list->count == 0 || list->count > FM_PIPELINE_PORTS_MAX)) {
        status =
            fm_config_error(list, reader->reterr, "a pipeline has 1 to %d inputs, this one has %zu",
                            FM_PIPELINE_PORTS_MAX, list->count);
    }
    if (status != 0) {
        return status;
    }
    spec->inputs = allocate(reader, list->count, sizeof(*spec->inputs));
    if (spec->inputs == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_config *node = &list->children[i];
        struct fm_port *port = &spec->inputs[spec->input_count++];
        status = read_port(reader, node, port);
        for (size_t j = 0; status == 0 && j < i; j++) {
            if (strcmp(spec->inputs[j].name, port->name) == 0) {
                status =
                    fm_config_error(node, reader->reterr, "two inputs are called '%s'", port->name);
            }
        }
    }
    return status;
}

/* One "port: source". */
static int read_binding(const struct reader *reader, const char *port, const struct fm_config *node,
                        struct fm_binding_spec *binding)
{
    int status = 0;
    if (fm_config_is_empty(node)) {
        status = fm_config_error(
            node, reader->reterr,
            "the source%s%s%s is empty: name an input of the pipeline, a stage, "
            "or <stage>.<output>",
            port != NULL ? " of '" : "", port != NULL ? port : "", port != NULL ? "'" : "");
    }
    status = status == 0 ? fm_config_expect(node, FM_CONFIG_SCALAR, reader->reterr) : status;
    if (status == 0 && port != NULL) {
        status = copy_text(reader, port, &binding->port);
    }
    if (status == 0) {
        binding->mark = mark_of(node);
        status = copy_text(reader, node->text, &binding->source);
    }
    return status;
}

static int read_bindings(const struct reader *reader, const struct fm_config *map,
                         struct fm_binding_spec **ret_bindings, size_t *ret_count)
{
    int status = fm_config_expect(map, FM_CONFIG_MAPPING, reader->reterr);
    if (status == 0 && map->count > FM_PIPELINE_PORTS_MAX) {
        status =
            fm_config_error(map, reader->reterr, "more than %d entries", FM_PIPELINE_PORTS_MAX);
    }
    if (status != 0) {
        return status;
    }
    *ret_bindings = allocate(reader, map->count, sizeof(**ret_bindings));
    if (*ret_bindings == NULL) {
        return out_of_memory(reader);
    }
    *ret_count = map->count;
    for (size_t i = 0; status == 0 && i < map->count; i++) {
        status = read_binding(reader, map->keys[i], &map->children[i], &(*ret_bindings)[i]);
    }
    return status;
}

static int read_stage_inputs(const struct reader *reader, struct fm_config *node,
                             struct fm_stage_spec *stage)
{
    struct fm_config *inputs = fm_config_get(node, "inputs");
    if (inputs == NULL || inputs->kind == FM_CONFIG_NULL) {
        return 0;
    }
    if (inputs->kind == FM_CONFIG_SEQUENCE) {
        return fm_config_error(
            inputs, reader->reterr,
            "'inputs' of a stage is a map {<input>: <source>}, or one source, not a list");
    }
    if (inputs->kind == FM_CONFIG_MAPPING) {
        return read_bindings(reader, inputs, &stage->inputs, &stage->input_count);
    }
    stage->inputs = allocate(reader, 1, sizeof(*stage->inputs));
    if (stage->inputs == NULL) {
        return out_of_memory(reader);
    }
    stage->input_count = 1;
    return read_binding(reader, NULL, inputs, &stage->inputs[0]);
}

static int read_batch(const struct reader *reader, struct fm_config *node,
                      struct fm_batch_spec *batch)
{
    *batch = (struct fm_batch_spec){.bucket_axis = -1};
    struct fm_config *map = fm_config_get(node, "batch");
    if (map == NULL || map->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int64_t max = 0;
    int64_t axis = -1;
    int64_t step = 0;
    int64_t wait_for = 0;
    int status = fm_config_expect(map, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_config_int(map, "max", 1, ROWS_MAX, &max, reader->reterr) : status;
    status = status == 0
                 ? fm_config_int(map, "bucket_axis", 0, FM_RANK_MAX - 1, &axis, reader->reterr)
                 : status;
    status = status == 0 ? fm_config_int(map, "bucket_step", 1, INT32_MAX, &step, reader->reterr)
                         : status;
    status = status == 0 ? fm_config_int(map, "wait_for", 0, ROWS_MAX, &wait_for, reader->reterr)
                         : status;
    status = status == 0 ? fm_config_double(map, "pad_value", -1e38, 1e38, &batch->pad_value,
                                            reader->reterr)
                         : status;
    status = status == 0 ? fm_config_finish(map, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    struct fm_config *dependent = fm_config_get(map, "bucket_step");
    dependent = dependent != NULL ? dependent : fm_config_get(map, "pad_value");
    if (axis < 0 && dependent != NULL) {
        return fm_config_error(dependent, reader->reterr,
                               "'bucket_step' and 'pad_value' need a 'bucket_axis' to act on");
    }
    struct fm_config *wait_node = fm_config_get(map, "wait_for");
    if (max > 0 && wait_for > max) {
        return fm_config_error(
            wait_node, reader->reterr,
            "'wait_for' is larger than 'max' (%lld), so the wait would never end", (long long)max);
    }
    batch->max = (uint32_t)max;
    batch->bucket_axis = (int32_t)axis;
    batch->bucket_step = (uint32_t)step;
    batch->wait_for = (uint32_t)wait_for;
    return 0;
}

/* Keys that belong to the other kind of stage get a message of their own. */
static int refuse_keys(const struct reader *reader, struct fm_config *node, const char *const *keys,
                       const char *advice)
{
    for (size_t i = 0; keys[i] != NULL; i++) {
        for (size_t j = 0; j < node->count; j++) {
            if (strcmp(node->keys[j], keys[i]) == 0) {
                return fm_error_set(reader->reterr, FM_EINVAL, "%s:%u:%u: '%s' %s", node->file,
                                    node->key_lines[j], node->key_columns[j], keys[i], advice);
            }
        }
    }
    return 0;
}

static int read_model_stage(const struct reader *reader, struct fm_config *node,
                            struct fm_stage_spec *stage, struct fm_stage_settings *settings)
{
    static const char *const foreign[] = {"parameters", "fan_out_max", NULL};
    int64_t version = 0;
    int64_t instances = 0;
    stage->kind = FM_STAGE_MODEL;
    int status = refuse_keys(reader, node, foreign,
                             "is for operators; a model takes 'settings', 'batch' and 'instances'");
    status = status == 0 ? read_name(reader, node, "model", &stage->target) : status;
    status = status == 0 ? fm_config_int(node, "version", 1, INT64_MAX, &version, reader->reterr)
                         : status;
    status = status == 0 ? fm_config_int(node, "instances", 1, FM_MODEL_INSTANCES_MAX, &instances,
                                         reader->reterr)
                         : status;
    status = status == 0 ? read_batch(reader, node, &stage->batch) : status;
    if (status == 0) {
        status =
            fm_config_settings(fm_config_get(node, "settings"), &reader->file->arena,
                               &settings->parameters, &settings->parameter_count, reader->reterr);
    }
    settings->groups.stage = stage->name;
    status = status == 0
                 ? fm_stage_groups_read(fm_config_get(node, "accelerators"), &reader->file->arena,
                                        &settings->groups, reader->reterr)
                 : status;
    settings->model_version = (uint64_t)version;
    settings->instances = (uint32_t)instances;
    return status;
}

static int read_operator_stage(const struct reader *reader, struct fm_config *node,
                               struct fm_stage_spec *stage, struct fm_stage_settings *settings)
{
    static const char *const foreign[] = {"settings", "batch",        "instances",
                                          "version",  "accelerators", NULL};
    int64_t fan_out_max = 0;
    stage->kind = FM_STAGE_OPERATOR;
    int status = refuse_keys(reader, node, foreign,
                             "is for models; an operator takes 'parameters' and 'fan_out_max'");
    status = status == 0 ? read_name(reader, node, "operator", &stage->target) : status;
    status = status == 0
                 ? fm_config_int(node, "fan_out_max", 1, FAN_OUT_MAX, &fan_out_max, reader->reterr)
                 : status;
    if (status == 0) {
        status =
            fm_config_settings(fm_config_get(node, "parameters"), &reader->file->arena,
                               &settings->parameters, &settings->parameter_count, reader->reterr);
    }
    stage->fan_out_max = (uint32_t)fan_out_max;
    return status;
}

static int read_stage(const struct reader *reader, struct fm_config *node,
                      struct fm_stage_spec *stage, struct fm_stage_settings *settings)
{
    stage->mark = mark_of(node);
    stage->batch.bucket_axis = -1;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    if (status == 0) {
        status = read_name(reader, node, "name", &stage->name);
    }
    if (status != 0) {
        return status;
    }
    bool has_model = fm_config_get(node, "model") != NULL;
    bool has_operator = fm_config_get(node, "operator") != NULL;
    if (has_model && has_operator) {
        return fm_config_error(node, reader->reterr,
                               "stage '%s' has both 'model' and 'operator': it is one or the other",
                               stage->name);
    }
    if (has_model) {
        status = read_model_stage(reader, node, stage, settings);
    } else if (has_operator) {
        status = read_operator_stage(reader, node, stage, settings);
    }
    if (status == 0) {
        status = read_stage_inputs(reader, node, stage);
    }
    if (status == 0 && !has_model && !has_operator) {
        /* A misspelt 'operator' is better told as such. */
        (void)fm_config_get(node, "parameters");
        (void)fm_config_get(node, "settings");
        status = fm_config_finish(node, reader->reterr);
        return status != 0
                   ? status
                   : fm_config_error(node, reader->reterr,
                                     "stage '%s' needs 'model: <name>' or 'operator: <name>'",
                                     stage->name);
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_stages(const struct reader *reader, struct fm_config *root)
{
    struct fm_pipeline_spec *spec = &reader->file->spec;
    struct fm_config *list = NULL;
    int status = fm_config_require(root, "stages", &list, reader->reterr);
    if (status == 0) {
        status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    }
    if (status == 0 && (list->count == 0 || list->count > FM_PIPELINE_STAGES_MAX)) {
        status =
            fm_config_error(list, reader->reterr, "a pipeline has 1 to %d stages, this one has %zu",
                            FM_PIPELINE_STAGES_MAX, list->count);
    }
    if (status != 0) {
        return status;
    }
    spec->stages = allocate(reader, list->count, sizeof(*spec->stages));
    reader->file->stages = allocate(reader, list->count, sizeof(*reader->file->stages));
    if (spec->stages == NULL || reader->file->stages == NULL) {
        return out_of_memory(reader);
    }
    spec->stage_count = list->count;
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        status = read_stage(reader, &list->children[i], &spec->stages[i], &reader->file->stages[i]);
    }
    return status;
}

/* The pipeline's name: as the file says, else its directory's for ".../<name>/pipeline.yaml", else
 * the file's own without extension. */
static int read_pipeline_name(const struct reader *reader, struct fm_config *root, const char *path)
{
    if (fm_config_get(root, "name") != NULL) {
        return read_name(reader, root, "name", &reader->file->spec.name);
    }
    const char *base = fm_path_base(path);
    size_t length = strlen(base) - strlen(fm_path_extension(path));
    const char *directory = fm_path_base(reader->file->directory);
    if (strcmp(base, "pipeline.yaml") == 0 && directory[0] != '\0' && strcmp(directory, ".") != 0 &&
        strcmp(directory, "..") != 0) {
        return copy_text(reader, directory, &reader->file->spec.name);
    }
    reader->file->spec.name = fm_arena_strndup(&reader->file->arena, base, length);
    return reader->file->spec.name != NULL ? 0 : out_of_memory(reader);
}

static int read_root(const struct reader *reader, struct fm_config *root, const char *path)
{
    struct fm_pipeline_spec *spec = &reader->file->spec;
    struct fm_config *outputs = NULL;
    if (root->kind == FM_CONFIG_NULL) {
        return fm_config_error(
            root, reader->reterr,
            "the file is empty; a pipeline has 'inputs', 'stages' and 'outputs'");
    }
    int status = fm_config_expect(root, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_pipeline_name(reader, root, path) : status;
    if (status == 0 && fm_config_get(root, "models") != NULL) {
        const char *models = NULL;
        status = read_name(reader, root, "models", &models);
        status = status == 0 ? resolve_path(reader, fm_config_get(root, "models"), models,
                                            &reader->file->models)
                             : status;
    }
    status = status == 0 ? fm_config_bool(root, "response_cache", &reader->file->response_cache,
                                          reader->reterr)
                         : status;
    status =
        status == 0 ? fm_config_duration_ns(root, "slo", &spec->slo_ns, reader->reterr) : status;
    status = status == 0 ? read_plugins(reader, root) : status;
    status = status == 0 ? read_inputs(reader, root) : status;
    status = status == 0 ? read_stages(reader, root) : status;
    status = status == 0 ? fm_config_require(root, "outputs", &outputs, reader->reterr) : status;
    status =
        status == 0 ? read_bindings(reader, outputs, &spec->outputs, &spec->output_count) : status;
    if (status == 0 && spec->output_count == 0) {
        status = fm_config_error(outputs, reader->reterr, "a pipeline has at least one output");
    }
    return status == 0 ? fm_config_finish(root, reader->reterr) : status;
}

static int file_create(const char *path, struct fm_pipeline_file **ret_file,
                       struct fm_error *reterr)
{
    struct fm_pipeline_file *file = fm_alloc_zero(1, sizeof(*file));
    if (file == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory while reading the pipeline",
                            path);
    }
    fm_arena_init(&file->arena, 0);
    file->spec.file = fm_arena_strdup(&file->arena, path);
    if (file->spec.file == NULL) {
        fm_pipeline_file_free(file);
        return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory while reading the pipeline",
                            path);
    }
    if (fm_path_directory(file->directory, sizeof(file->directory), path) != 0) {
        fm_pipeline_file_free(file);
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the path of the pipeline file is longer than %zu bytes",
                            sizeof(file->directory) - 1);
    }
    *ret_file = file;
    return 0;
}

/* Takes the tree. */
static int load_tree(const char *path, struct fm_config *root, struct fm_pipeline_file **ret_file,
                     struct fm_error *reterr)
{
    struct fm_pipeline_file *file = NULL;
    int status = file_create(path, &file, reterr);
    if (status == 0) {
        struct reader reader = {.file = file, .reterr = reterr};
        status = read_root(&reader, root, path);
    }
    fm_config_free(root);
    if (status != 0) {
        fm_pipeline_file_free(file);
        return status;
    }
    *ret_file = file;
    return 0;
}

int fm_pipeline_file_load(const char *path, struct fm_pipeline_file **ret_file,
                          struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    *ret_file = NULL;
    int status = fm_config_load(path, &root, reterr);
    return status == 0 ? load_tree(path, root, ret_file, reterr) : status;
}

int fm_pipeline_file_load_text(const char *path, const char *text, size_t length,
                               struct fm_pipeline_file **ret_file, struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    *ret_file = NULL;
    int status = fm_config_load_text(path, text, length, &root, reterr);
    return status == 0 ? load_tree(path, root, ret_file, reterr) : status;
}

void fm_pipeline_file_free(struct fm_pipeline_file *file)
{
    if (file != NULL) {
        fm_arena_deinit(&file->arena);
        fm_free(file);
    }
}
