/*
 * model.yaml into a model description. The schema is documented in docs/model-repository.md. See
 * model_description.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/config/config.h"
#include "host/runtime/model_description.h"

struct reader {
    struct fm_model_description *description;
    struct fm_config *root;
    struct fm_error *reterr;
};

static int out_of_memory(const struct reader *reader)
{
    return fm_error_set(reader->reterr, FM_ENOMEM, "%s: out of memory", reader->root->file);
}

/* An optional, non-empty text, copied. */
static int read_text(const struct reader *reader, struct fm_config *mapping, const char *key,
                     const char **value)
{
    const char *text = NULL;
    int status = fm_config_string(mapping, key, &text, reader->reterr);
    if (status != 0 || text == NULL) {
        return status;
    }
    if (text[0] == '\0') {
        return fm_config_error(fm_config_get(mapping, key), reader->reterr,
                               "'%s' is empty: write a text after it, or leave the key out", key);
    }
    return fm_model_description_copy(reader->description, text, value) == 0 ? 0
                                                                            : out_of_memory(reader);
}

/* An optional path, made relative to the model's directory. */
static int read_path(const struct reader *reader, struct fm_config *mapping, const char *key,
                     const char **value)
{
    const char *text = NULL;
    int status = read_text(reader, mapping, key, &text);
    if (status != 0 || text == NULL) {
        return status;
    }
    status = fm_model_description_path(reader->description, text, value);
    if (status == FM_ETOOLARGE) {
        return fm_config_error(fm_config_get(mapping, key), reader->reterr, "the path is too long");
    }
    return status == 0 ? 0 : out_of_memory(reader);
}

static int read_identity(const struct reader *reader)
{
    struct fm_model_description *description = reader->description;
    struct fm_model_config *config = description->config;
    int status = read_text(reader, reader->root, "name", &description->name);
    if (status == 0 && description->name != NULL && description->expected_name != NULL &&
        strcmp(description->name, description->expected_name) != 0) {
        return fm_config_error(fm_config_get(reader->root, "name"), reader->reterr,
                               "the model is called '%s' here but its directory '%s': make them "
                               "equal, or leave 'name' out",
                               description->name, description->expected_name);
    }
    config->backend = FM_MODEL_BACKEND_DEFAULT;
    status = status == 0 ? read_text(reader, reader->root, "backend", &config->backend) : status;
    status =
        status == 0 ? read_text(reader, reader->root, "file", &description->file_name) : status;
    status =
        status == 0 ? read_path(reader, reader->root, "profile", &config->profile_path) : status;
    return status == 0 ? fm_config_int(reader->root, "max_batch_size", 0, FM_MODEL_BATCH_MAX,
                                       &config->max_batch_size, reader->reterr)
                       : status;
}

static int read_port(const struct reader *reader, struct fm_config *node, bool output,
                     struct fm_model_port_config *port)
{
    struct fm_config *name = NULL;
    port->rank = -1;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? fm_config_require(node, "name", &name, reader->reterr) : status;
    status = status == 0 ? read_text(reader, node, "name", &port->name) : status;
    if (status == 0 && port->name == NULL) {
        status = fm_config_error(name, reader->reterr,
                                 "'name' is empty: write the port's name after it");
    }
    status = status == 0 ? fm_config_dtype(node, "dtype", &port->dtype, reader->reterr) : status;
    status = status == 0 ? fm_config_shape(node, "shape", port->shape, &port->rank, reader->reterr)
                         : status;
    if (status == 0 && output) {
        status = read_path(reader, node, "labels", &port->label_path);
    } else if (status == 0) {
        status = fm_config_bool(node, "optional", &port->optional, reader->reterr);
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_ports(const struct reader *reader, const char *key, bool output,
                      struct fm_model_port_config **ret_ports, size_t *ret_count)
{
    struct fm_config *list = fm_config_get(reader->root, key);
    if (list == NULL || list->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    if (status == 0 && list->count > FM_MODEL_PORTS_MAX) {
        status = fm_config_error(list, reader->reterr, "more than %d %s", FM_MODEL_PORTS_MAX, key);
    }
    if (status != 0) {
        return status;
    }
    struct fm_model_port_config *ports =
        fm_arena_alloc(&reader->description->config->arena, list->count * sizeof(*ports));
    if (ports == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; i < list->count; i++) {
        status = read_port(reader, &list->children[i], output, &ports[i]);
        for (size_t j = 0; status == 0 && j < i; j++) {
            if (strcmp(ports[i].name, ports[j].name) == 0) {
                status = fm_config_error(&list->children[i], reader->reterr,
                                         "two %s are called '%s'", key, ports[i].name);
            }
        }
        if (status != 0) {
            return status;
        }
    }
    *ret_ports = ports;
    *ret_count = list->count;
    return 0;
}

/* One entry of the top-level 'labels': sets the label file of an output, which is added when it was
 * not declared. */
static int add_labels(const struct reader *reader, const struct fm_config *node, const char *output)
{
    struct fm_model_config *config = reader->description->config;
    struct fm_model_port_config *port = NULL;
    int status = fm_config_expect(node, FM_CONFIG_SCALAR, reader->reterr);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < config->output_count; i++) {
        if (strcmp(config->outputs[i].name, output) == 0) {
            port = &config->outputs[i];
        }
    }
    if (port == NULL) {
        struct fm_model_port_config *grown =
            fm_arena_alloc(&config->arena, (config->output_count + 1) * sizeof(*grown));
        if (grown == NULL) {
            return out_of_memory(reader);
        }
        if (config->output_count > 0) {
            memcpy(grown, config->outputs, config->output_count * sizeof(*grown));
        }
        config->outputs = grown;
        port = &grown[config->output_count];
        port->rank = -1;
        if (fm_model_description_copy(reader->description, output, &port->name) != 0) {
            return out_of_memory(reader);
        }
        config->output_count++;
    }
    if (port->label_path != NULL) {
        return fm_config_error(node, reader->reterr, "output '%s' has labels already", output);
    }
    status = fm_model_description_path(reader->description, node->text, &port->label_path);
    if (status == FM_ETOOLARGE) {
        return fm_config_error(node, reader->reterr, "the path is too long");
    }
    return status == 0 ? 0 : out_of_memory(reader);
}

static int read_labels(const struct reader *reader)
{
    const struct fm_model_config *config = reader->description->config;
    struct fm_config *node = fm_config_get(reader->root, "labels");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    if (node->kind == FM_CONFIG_SCALAR) {
        return config->output_count == 1
                   ? add_labels(reader, node, config->outputs[0].name)
                   : fm_config_error(
                         node, reader->reterr,
                         "say which output the labels are of: labels: {<output>: %.60s}",
                         node->text);
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    if (status == 0 && node->count > FM_MODEL_PORTS_MAX) {
        status =
            fm_config_error(node, reader->reterr, "more than %d label files", FM_MODEL_PORTS_MAX);
    }
    for (size_t i = 0; status == 0 && i < node->count; i++) {
        status = add_labels(reader, &node->children[i], node->keys[i]);
    }
    return status;
}

static int read_settings(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    int64_t instances = 0;
    int64_t threads = 0;
    int status = fm_config_int(reader->root, "instances", 1, FM_MODEL_INSTANCES_MAX, &instances,
                               reader->reterr);
    status = status == 0 ? fm_config_int(reader->root, "threads", 1, 1024, &threads, reader->reterr)
                         : status;
    if (status == 0) {
        status = fm_config_settings(fm_config_get(reader->root, "settings"), &config->arena,
                                    &config->settings, &config->setting_count, reader->reterr);
    }
    if (status == 0) {
        status = fm_config_settings(fm_config_get(reader->root, "device"), &config->arena,
                                    &config->device_settings, &config->device_setting_count,
                                    reader->reterr);
    }
    if (status != 0) {
        return status;
    }
    config->instance_count = (uint32_t)instances;
    if (threads == 0) {
        return 0;
    }
    struct fm_config *node = fm_config_get(fm_config_get(reader->root, "settings"), "threads");
    if (node != NULL) {
        return fm_config_error(node, reader->reterr,
                               "'threads' stands both here and beside 'settings': remove one");
    }
    char text[32];
    (void)snprintf(text, sizeof(text), "%lld", (long long)threads);
    return fm_model_description_set(reader->description, "threads", text) == 0
               ? 0
               : out_of_memory(reader);
}

static int read_group(const struct reader *reader, const char *name, struct fm_config *node,
                      struct fm_model_group_config *group)
{
    struct fm_arena *arena = &reader->description->config->arena;
    if (fm_model_description_copy(reader->description, name, &group->name) != 0) {
        return out_of_memory(reader);
    }
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0
                 ? fm_config_settings(fm_config_get(node, "settings"), arena, &group->settings,
                                      &group->setting_count, reader->reterr)
                 : status;
    status = status == 0 ? read_path(reader, node, "profile", &group->profile_path) : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* "cpu", [cpu, big], or {big: {settings: {...}, profile: ...}, cpu: {}}. */
static int read_groups(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    struct fm_config *node = fm_config_get(reader->root, "accelerators");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    size_t count = node->kind == FM_CONFIG_SCALAR ? 1 : node->count;
    if (count == 0 || count > FM_MODEL_LIST_MAX) {
        return fm_config_error(node, reader->reterr,
                               "'accelerators' names the groups that the model may use");
    }
    config->groups = fm_arena_alloc(&config->arena, count * sizeof(*config->groups));
    if (config->groups == NULL) {
        return out_of_memory(reader);
    }
    config->group_count = count;
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        struct fm_config *child = node->kind == FM_CONFIG_SCALAR ? node : &node->children[i];
        if (node->kind == FM_CONFIG_MAPPING) {
            status = read_group(reader, node->keys[i], child, &config->groups[i]);
            continue;
        }
        status = fm_config_expect(child, FM_CONFIG_SCALAR, reader->reterr);
        status = status == 0 ? read_group(reader, child->text, NULL, &config->groups[i]) : status;
    }
    return status;
}

/* A list of whole numbers, each in [1, max]. */
static int read_numbers(const struct reader *reader, const struct fm_config *list, const char *what,
                        uint64_t max, uint64_t **ret_numbers)
{
    int status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    if (status == 0 && (list->count == 0 || list->count > FM_MODEL_LIST_MAX)) {
        status = fm_config_error(list, reader->reterr, "a list of 1 to %d %ss is expected here",
                                 FM_MODEL_LIST_MAX, what);
    }
    if (status != 0) {
        return status;
    }
    *ret_numbers =
        fm_arena_alloc(&reader->description->config->arena, list->count * sizeof(**ret_numbers));
    if (*ret_numbers == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct fm_config *node = &list->children[i];
        uint64_t *number = &(*ret_numbers)[i];
        if (node->kind != FM_CONFIG_SCALAR || node->quoted ||
            fm_parse_uint64(node->text, number) != 0 || *number == 0 || *number > max) {
            return fm_config_error(node, reader->reterr,
                                   "a %s must be a whole number from 1 to %llu", what,
                                   (unsigned long long)max);
        }
    }
    return 0;
}

static int read_batching(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    struct fm_config *map = fm_config_get(reader->root, "batching");
    if (map == NULL || map->kind == FM_CONFIG_NULL) {
        return 0;
    }
    uint64_t max =
        config->max_batch_size > 0 ? (uint64_t)config->max_batch_size : FM_MODEL_BATCH_MAX;
    uint64_t *sizes = NULL;
    int status = fm_config_expect(map, FM_CONFIG_MAPPING, reader->reterr);
    struct fm_config *list = fm_config_get(map, "preferred_sizes");
    if (status == 0 && config->max_batch_size == 0) {
        status = fm_config_error(
            map, reader->reterr,
            "'batching' has no effect with 'max_batch_size: 0': remove one of them");
    }
    if (status == 0 && list != NULL && list->kind != FM_CONFIG_NULL) {
        status = read_numbers(reader, list, "batch size", max, &sizes);
    }
    if (status == 0 && sizes != NULL) {
        config->preferred_batch_sizes =
            fm_arena_alloc(&config->arena, list->count * sizeof(*config->preferred_batch_sizes));
        if (config->preferred_batch_sizes == NULL) {
            return out_of_memory(reader);
        }
        for (size_t i = 0; i < list->count; i++) {
            config->preferred_batch_sizes[i] = (uint32_t)sizes[i];
        }
        config->preferred_batch_size_count = list->count;
    }
    status = status == 0 ? fm_config_duration_ns(map, "max_queue_delay",
                                                 &config->max_queue_delay_ns, reader->reterr)
                         : status;
    return status == 0 ? fm_config_finish(map, reader->reterr) : status;
}

/* How its batches are formed: for servers. */
static int read_policy(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    const char *name = NULL;
    int status = fm_config_string(reader->root, "policy", &name, reader->reterr);
    if (status != 0 || name == NULL) {
        return status;
    }
    config->policy = fm_sched_policy_parse(name);
    return config->policy != FM_SCHED_POLICY_COUNT_
               ? 0
               : fm_config_error(fm_config_get(reader->root, "policy"), reader->reterr,
                                 "'%s' is no policy; there are " FM_MODEL_POLICIES, name);
}

/* What is promised of it, and how: for servers. */
static int read_promise(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    const char *goal = NULL;
    int status = fm_config_duration_ns(reader->root, "slo", &config->slo_ns, reader->reterr);
    status = status == 0 ? fm_config_bool(reader->root, "response_cache", &config->response_cache,
                                          reader->reterr)
                         : status;
    status = status == 0 ? fm_config_string(reader->root, "goal", &goal, reader->reterr) : status;
    if (status != 0 || goal == NULL) {
        return status;
    }
    config->goal = fm_sched_goal_parse(goal);
    return config->goal != FM_SCHED_GOAL_COUNT_
               ? 0
               : fm_config_error(fm_config_get(reader->root, "goal"), reader->reterr,
                                 "'%s' is no goal; there are balanced, efficiency and latency",
                                 goal);
}

/* "latest", "all", {latest: 2}, {specific: [1, 3]}. */
static int read_version_policy(const struct reader *reader)
{
    static const char *const words[] = {"latest", "all", NULL};
    struct fm_model_description *description = reader->description;
    struct fm_config *node = fm_config_get(reader->root, "version_policy");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    if (node->kind == FM_CONFIG_SCALAR) {
        int word = 0;
        int status = fm_config_enum(reader->root, "version_policy", words, &word, reader->reterr);
        description->policy = word == 1 ? FM_VERSIONS_ALL : FM_VERSIONS_LATEST;
        return status;
    }
    int64_t latest = 0;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0
                 ? fm_config_int(node, "latest", 1, FM_MODEL_LIST_MAX, &latest, reader->reterr)
                 : status;
    struct fm_config *specific = fm_config_get(node, "specific");
    if (status == 0 && specific != NULL && specific->kind != FM_CONFIG_NULL) {
        status = read_numbers(reader, specific, "version", INT64_MAX, &description->specific);
        description->specific_count = specific->count;
        description->policy = FM_VERSIONS_SPECIFIC;
    }
    status = status == 0 ? fm_config_finish(node, reader->reterr) : status;
    if (status == 0 && (latest > 0) == (description->policy == FM_VERSIONS_SPECIFIC)) {
        status = fm_config_error(
            node, reader->reterr,
            "a version policy is 'latest', 'all', {latest: <count>} or {specific: [<versions>]}");
    }
    if (status == 0 && latest > 0) {
        description->latest_count = (uint64_t)latest;
    }
    return status;
}

static int read_warmup(const struct reader *reader)
{
    struct fm_model_config *config = reader->description->config;
    struct fm_config *node = fm_config_get(reader->root, "warmup");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int64_t count = 1;
    int64_t batch = 1;
    int status = 0;
    if (node->kind == FM_CONFIG_SCALAR) {
        status = fm_config_int(reader->root, "warmup", 0, 1000, &count, reader->reterr);
    } else {
        status = fm_config_int(node, "count", 0, 1000, &count, reader->reterr);
        int64_t batch_max =
            config->max_batch_size > 0 ? config->max_batch_size : FM_MODEL_BATCH_MAX;
        status = status == 0 ? fm_config_int(node, "batch", 1, batch_max, &batch, reader->reterr)
                             : status;
        status = status == 0 ? fm_config_finish(node, reader->reterr) : status;
    }
    config->warmup_count = (uint32_t)count;
    config->warmup_batch = (uint32_t)batch;
    return status;
}

int fm_model_description_read_yaml(struct fm_model_description *description, const char *path,
                                   struct fm_error *reterr)
{
    struct reader reader = {.description = description, .reterr = reterr};
    struct fm_model_config *config = description->config;
    int status = fm_config_load(path, &reader.root, reterr);
    if (status != 0) {
        return status;
    }
    if (reader.root->kind != FM_CONFIG_NULL) {
        status = fm_config_expect(reader.root, FM_CONFIG_MAPPING, reterr);
    }
    status = status == 0 ? read_identity(&reader) : status;
    status = status == 0
                 ? read_ports(&reader, "inputs", false, &config->inputs, &config->input_count)
                 : status;
    status = status == 0
                 ? read_ports(&reader, "outputs", true, &config->outputs, &config->output_count)
                 : status;
    status = status == 0 ? read_labels(&reader) : status;
    status = status == 0 ? read_settings(&reader) : status;
    status = status == 0 ? read_groups(&reader) : status;
    status = status == 0 ? read_batching(&reader) : status;
    status = status == 0 ? read_promise(&reader) : status;
    status = status == 0 ? read_policy(&reader) : status;
    status = status == 0 ? read_version_policy(&reader) : status;
    status = status == 0 ? read_warmup(&reader) : status;
    status = status == 0 ? fm_config_finish(reader.root, reterr) : status;
    fm_config_free(reader.root);
    return status;
}
