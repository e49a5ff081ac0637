/*
 * Configurations as documents. See model_document.h.
 */
#include "engines/serve/model_document.h"

#include <string.h>

/* What is put together for one document, in an arena. */
struct making {
    const struct fm_model_document *document;
    struct fm_arena arena;
    struct fm_messages_config config;
    bool failed;
};

static void *make(struct making *making, size_t count, size_t size)
{
    void *memory = fm_arena_alloc(&making->arena, (count + 1) * size);
    making->failed = making->failed || memory == NULL;
    return memory;
}

static const char *file_name(const char *path)
{
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    return slash != NULL ? slash + 1 : path;
}

static const char *setting_find(const struct fm_model_config *config, const char *key)
{
    for (size_t i = 0; i < config->device_setting_count; i++) {
        if (strcmp(config->device_settings[i].key, key) == 0) {
            return config->device_settings[i].value;
        }
    }
    return NULL;
}

/* Those of each group of accelerators that the model may use. */
static void add_groups(struct making *making)
{
    const struct fm_model_document *document = making->document;
    struct fm_messages_instances *instances =
        make(making, document->group_count, sizeof(*instances));
    int32_t *gpus = make(making, document->group_count, sizeof(*gpus));
    size_t count = 0;
    for (uint32_t i = 0; instances != NULL && gpus != NULL && i < document->group_count; i++) {
        const struct fm_accelerator_group *group = &document->groups[i];
        if (document->models[i] == NULL) {
            continue;
        }
        bool gpu = group->kind == FM_GROUP_GPU;
        gpus[i] = (int32_t)group->device;
        instances[count++] =
            (struct fm_messages_instances){.name = group->name,
                                           .device = gpu ? FM_MESSAGES_GPU : FM_MESSAGES_CPU,
                                           .count = fm_model_instance_count(document->models[i]),
                                           .gpus = gpu ? &gpus[i] : NULL,
                                           .gpu_count = gpu ? 1 : 0};
    }
    making->config.instances = instances;
    making->config.instance_count = count;
}

/* All instances are one group: they differ in nothing. */
static void add_instances(struct making *making)
{
    const struct fm_model_document *document = making->document;
    const struct fm_model_config *config = document->config;
    struct fm_messages_instances *instances = make(making, 1, sizeof(*instances));
    int32_t *gpu = make(making, 1, sizeof(*gpu));
    if (instances == NULL || gpu == NULL) {
        return;
    }
    const char *provider = config != NULL ? setting_find(config, "provider") : NULL;
    const char *device = config != NULL ? setting_find(config, "provider.device_id") : NULL;
    int64_t number = 0;
    *instances = (struct fm_messages_instances){.name = document->signature->name,
                                                .device = FM_MESSAGES_CPU,
                                                .count = document->instance_count};
    if (provider != NULL && strcmp(provider, "cpu") != 0) {
        instances->device = FM_MESSAGES_GPU;
        instances->gpus = gpu;
        instances->gpu_count = 1;
        if (device != NULL && fm_parse_int64(device, &number) == 0 && number >= 0 &&
            number <= INT32_MAX) {
            *gpu = (int32_t)number;
        }
    }
    making->config.instances = instances;
    making->config.instance_count = 1;
}

static void add_parameters(struct making *making, const struct fm_model_config *config)
{
    const char *policy = making->document->policy;
    size_t count = config->device_setting_count + config->setting_count;
    struct fm_setting *parameters = make(making, count + 1, sizeof(*parameters));
    for (size_t i = 0; parameters != NULL && i < count; i++) {
        parameters[i] = i < config->device_setting_count
                            ? config->device_settings[i]
                            : config->settings[i - config->device_setting_count];
    }
    if (parameters != NULL && policy != NULL) {
        parameters[count++] = (struct fm_setting){.key = "fermata.policy", .value = policy};
    }
    making->config.parameters = parameters;
    making->config.parameter_count = parameters != NULL ? count : 0;
}

static void add_labels(struct making *making, const struct fm_model_config *config)
{
    const struct fm_oip_signature *signature = making->document->signature;
    const char **labels = make(making, signature->output_count, sizeof(*labels));
    for (uint32_t i = 0; labels != NULL && i < signature->output_count; i++) {
        for (size_t k = 0; k < config->output_count; k++) {
            if (strcmp(config->outputs[k].name, signature->outputs[i].name) == 0) {
                labels[i] = file_name(config->outputs[k].label_path);
            }
        }
    }
    making->config.label_files = labels;
}

static void add_configured(struct making *making, const struct fm_model_config *config)
{
    making->config.file_name = file_name(config->path);
    making->config.preferred_batch_sizes = config->preferred_batch_sizes;
    making->config.preferred_batch_size_count = config->preferred_batch_size_count;
    making->config.max_queue_delay_ns = config->max_queue_delay_ns;
    making->config.warmup_count = config->warmup_count;
    making->config.warmup_batch = config->warmup_batch;
    add_parameters(making, config);
    add_labels(making, config);
}

void fm_model_document_write(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_model_document *document)
{
    struct making making = {.document = document};
    making.config = (struct fm_messages_config){.signature = document->signature,
                                                .platform = document->platform,
                                                .backend = document->backend,
                                                .dynamic_batching = document->batches,
                                                .response_cache = document->response_cache,
                                                .priority_levels = document->priority_levels,
                                                .default_priority = document->default_priority,
                                                .queue_max = document->queue_max};
    if (document->instance_count > 0 && document->group_count > 0) {
        add_groups(&making);
    } else if (document->instance_count > 0) {
        add_instances(&making);
    }
    if (document->config != NULL) {
        add_configured(&making, document->config);
    }
    if (making.failed) {
        text->failed = true;
    } else {
        fm_messages_write_config(text, form, &making.config);
    }
    fm_arena_deinit(&making.arena);
}
