/*
 * Models and pipelines made ready for requests. See servable.h.
 */
#include "host/runtime/servable.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan/flow.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/runtime/pipeline_file.h"

/* Model files are read for the fingerprint only; weights beyond this size are hashed by size and
 * time instead. */
#define FINGERPRINT_BYTES_MAX ((size_t)256 << 20)
#define NO_GROUP              UINT32_MAX

enum { PATH_SIZE = 4096, ACCELERATOR_NAME_SIZE = FM_GROUP_NAME_SIZE + 5 };

struct hashed_file {
    const char *path;
    struct hashed_file *next;
};

/* A model that stages of this servable run on: loaded once for all that ask for the same. */
struct loaded_model {
    struct fm_model *model;
    const struct fm_model_config *config;
    const struct fm_setting *settings; /* merged, as it was loaded with */
    size_t setting_count;
    uint32_t instance_count;
    uint32_t group;                /* NO_GROUP, or where it runs */
    const struct fm_setting *base; /* of model and stage, whatever the group */
    size_t base_count;
    uint32_t base_instances;
    struct loaded_model *next;
};

struct fm_servable {
    struct fm_arena arena;
    struct loaded_model *models; /* owns them; bindings borrow */
    char *name;
    uint64_t version;
    char *path;                          /* model or pipeline file; NULL: none */
    struct hashed_file *files;           /* whose bytes are part of the fingerprint, newest first */
    struct fm_pipeline_file *file;       /* pipelines */
    struct fm_repository own_repository; /* the one a pipeline file names */
    struct fm_pipeline_spec model_spec;  /* one-model servables */
    struct fm_stage_spec model_stage;
    struct fm_stage_binding *bindings; /* by stage */
    struct fm_stage_ports *ports;
    struct fm_model **group_models; /* by stage, then group; NULL where it does not run */
    uint32_t group_count;
    struct fm_stage_place *places; /* by stage, then accelerator */
    char (*accelerator_names)[ACCELERATOR_NAME_SIZE];
    uint32_t accelerator_count; /* of the executor */
    uint32_t stage_count;
    struct fm_pipeline *pipeline;
    struct fm_executor *executor;
    struct fm_port *outputs;
    uint64_t settings_hash;
    bool cpu_only;        /* every model computes on this machine's CPUs */
    uint32_t threads_max; /* largest number of threads of one instance */
};

/* --- fingerprint --- */

static uint64_t hash_string(uint64_t hash, const char *text)
{
    return fm_hash_add(hash, text, strlen(text) + 1);
}

static uint64_t hash_file(uint64_t hash, const char *path)
{
    struct fm_file_facts facts;
    char *data = NULL;
    size_t size = 0;
    if (fm_file_read(path, FINGERPRINT_BYTES_MAX, &data, &size, NULL) == 0) {
        hash = fm_hash_add(hash, data, size);
        fm_free(data);
    } else if (fm_file_stat(path, &facts, NULL) == 0) {
        hash = fm_hash_add(hash, &facts.size, sizeof(facts.size));
        hash = fm_hash_add(hash, &facts.modified_ns, sizeof(facts.modified_ns));
    }
    return hash;
}

/* --- models --- */

static void note(const struct fm_servable_options *options, const char *text)
{
    if (options->note != NULL) {
        options->note(options->note_context, text);
    }
}

/* Backend settings that say how fast, not what: they do not change results, so a resumed job may
 * change them. */
static bool setting_changes_results(const char *key)
{
    static const char *const speed_only[] = {"threads", "inter_op_threads", "spinning",
                                             "arena",   "arena_extend",     "memory_pattern"};
    for (size_t i = 0; i < sizeof(speed_only) / sizeof(speed_only[0]); i++) {
        if (strcmp(key, speed_only[i]) == 0) {
            return false;
        }
    }
    return true;
}

static void setting_put(struct fm_setting *settings, size_t *count, const char *key,
                        const char *value)
{
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(settings[i].key, key) == 0) {
            settings[i].value = value;
            return;
        }
    }
    settings[(*count)++] = (struct fm_setting){.key = key, .value = value};
}

static const char *setting_get(const struct fm_setting *settings, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].key, key) == 0) {
            return settings[i].value;
        }
    }
    return NULL;
}

/* Remembers a file for the fingerprint, which is computed only when somebody asks. */
static int account_file(struct fm_servable *servable, const char *path)
{
    struct hashed_file *file = fm_arena_alloc(&servable->arena, sizeof(*file));
    if (file == NULL || (file->path = fm_arena_strdup(&servable->arena, path)) == NULL) {
        return FM_ENOMEM;
    }
    file->next = servable->files;
    servable->files = file;
    return 0;
}

/* How fast it is. */
static void account_speed(struct fm_servable *servable, const struct fm_model_config *config)
{
    const char *provider =
        setting_get(config->device_settings, config->device_setting_count, "provider");
    provider = provider != NULL ? provider
                                : setting_get(config->settings, config->setting_count, "provider");
    const char *threads_text = setting_get(config->settings, config->setting_count, "threads");
    uint64_t threads = 1;
    if (threads_text != NULL && fm_parse_uint64(threads_text, &threads) != 0) {
        threads = 1;
    }
    if (strcmp(config->backend, "onnxruntime") != 0 ||
        (provider != NULL && strcmp(provider, "cpu") != 0)) {
        servable->cpu_only = false;
    }
    if (threads > servable->threads_max && threads < 1024) {
        servable->threads_max = (uint32_t)threads;
    }
}

/* What it answers. */
static int account_model(struct fm_servable *servable, const struct fm_model_config *config,
                         const struct fm_setting *settings, size_t setting_count)
{
    servable->settings_hash = hash_string(servable->settings_hash, config->backend);
    for (size_t i = 0; i < setting_count; i++) {
        if (setting_changes_results(settings[i].key)) {
            servable->settings_hash = hash_string(servable->settings_hash, settings[i].key);
            servable->settings_hash = hash_string(servable->settings_hash, settings[i].value);
        }
    }
    return config->path != NULL ? account_file(servable, config->path) : 0;
}

static int account_operator(struct fm_servable *servable,
                            const struct fm_operator_instance *instance, struct fm_error *reterr)
{
    struct fm_operator_info info;
    int status = fm_operator_info(instance, &info, reterr);
    for (size_t i = 0; i < info.file_count && status == 0; i++) {
        status = account_file(servable, info.files[i]);
    }
    size_t path_count = 0;
    const char *const *paths = fm_operator_paths(instance, &path_count);
    for (size_t i = 0; i < path_count && status == 0; i++) {
        struct fm_file_facts facts;
        bool file = fm_file_stat(paths[i], &facts, NULL) == 0 && facts.kind == FM_FILE_REGULAR;
        status = file ? account_file(servable, paths[i]) : 0;
    }
    return status == FM_ENOMEM ? fm_error_set(reterr, status, "out of memory") : status;
}

static bool settings_equal(const struct fm_setting *left, size_t left_count,
                           const struct fm_setting *right, size_t right_count)
{
    bool same = left_count == right_count;
    for (size_t i = 0; same && i < left_count; i++) {
        const char *value = setting_get(right, right_count, left[i].key);
        same = value != NULL && strcmp(value, left[i].value) == 0;
    }
    return same;
}

static struct fm_model *loaded_find(const struct fm_servable *servable,
                                    const struct fm_model_config *config,
                                    const struct fm_model_config *merged, uint32_t group)
{
    for (const struct loaded_model *loaded = servable->models; loaded != NULL;
         loaded = loaded->next) {
        if (loaded->config == config && loaded->group == group &&
            loaded->instance_count == merged->instance_count &&
            settings_equal(loaded->settings, loaded->setting_count, merged->settings,
                           merged->setting_count)) {
            return loaded->model;
        }
    }
    return NULL;
}

/* What it answers counts once, however many groups of accelerators it is loaded for: a job may be
 * resumed on others. `wanted` is without its model. */
static int account_loaded(struct fm_servable *servable, const struct fm_model_config *merged,
                          const struct loaded_model *wanted)
{
    account_speed(servable, merged);
    for (const struct loaded_model *of = servable->models; of != NULL; of = of->next) {
        if (wanted->group != NO_GROUP && of->config == wanted->config &&
            of->base_instances == wanted->base_instances &&
            settings_equal(of->base, of->base_count, wanted->base, wanted->base_count)) {
            return 0;
        }
    }
    return account_model(servable, wanted->config, wanted->base, wanted->base_count);
}

static int loaded_add(struct fm_servable *servable, const struct fm_model_config *merged,
                      const struct fm_servable_options *options, const struct loaded_model *wanted,
                      struct fm_model **ret_model, struct fm_error *reterr)
{
    const struct fm_model_config *config = wanted->config;
    struct loaded_model *loaded = fm_arena_alloc(&servable->arena, sizeof(*loaded));
    if (loaded == NULL || account_loaded(servable, merged, wanted) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", config->name);
    }
    bool noted = false; /* for another group */
    for (const struct loaded_model *of = servable->models; of != NULL; of = of->next) {
        noted = noted || of->config == config;
    }
    for (size_t i = 0; !noted && i < config->note_count; i++) {
        note(options, config->notes[i]);
    }
    int status = fm_model_load(merged, ret_model, reterr);
    if (status == 0) {
        *loaded = *wanted;
        loaded->model = *ret_model;
        loaded->next = servable->models;
        servable->models = loaded;
    }
    return status;
}

/* Whether the backend has a number of threads that can be set. */
static bool has_threads(const struct fm_model_config *config)
{
    return strcmp(config->backend, "onnxruntime") == 0 ||
           setting_get(config->settings, config->setting_count, "threads") != NULL;
}

/* The device that the group stands for, in ONNX Runtime's words: other backends have one. */
static int device_merge(struct fm_servable *servable, const struct fm_model_config *config,
                        const struct fm_accelerator_group *group, struct fm_model_config *merged)
{
    const char *provider = fm_model_config_provider(config);
    bool gpu = provider != NULL && strcmp(provider, "cpu") != 0;
    if (strcmp(config->backend, "onnxruntime") != 0 || (group->kind != FM_GROUP_GPU && !gpu)) {
        return 0;
    }
    size_t count = 0;
    struct fm_setting *settings =
        fm_arena_alloc(&servable->arena, (config->device_setting_count + 2) * sizeof(*settings));
    char *device = fm_arena_alloc(&servable->arena, 16);
    if (settings == NULL || device == NULL) {
        return FM_ENOMEM;
    }
    (void)snprintf(device, 16, "%u", (unsigned)group->device);
    /* What is said of a GPU means nothing to the CPU. */
    for (size_t i = 0; group->kind == FM_GROUP_GPU && i < config->device_setting_count; i++) {
        setting_put(settings, &count, config->device_settings[i].key,
                    config->device_settings[i].value);
    }
    setting_put(settings, &count, "provider",
                group->kind != FM_GROUP_GPU ? "cpu"
                : gpu                       ? provider
                                            : "cuda");
    if (group->kind == FM_GROUP_GPU) {
        setting_put(settings, &count, "provider.device_id", device);
    }
    merged->device_settings = settings;
    merged->device_setting_count = count;
    return 0;
}

/*
 * The model that an equal stage has loaded already, or a new one. Loads with the configuration's
 * settings, those of the stage over them, those of the command line over both, and what the group
 * of accelerators needs over all.
 */
static int model_open_for(struct fm_servable *servable, const struct fm_model_config *config,
                          const struct fm_stage_settings *stage,
                          const struct fm_servable_options *options, uint32_t group,
                          struct fm_model **ret_model, struct fm_error *reterr)
{
    struct fm_model_config merged = *config;
    const struct fm_accelerator_group *of = group != NO_GROUP ? &options->groups[group] : NULL;
    const struct fm_model_group_config *own =
        of != NULL ? fm_accelerator_group_config(config, of) : NULL;
    size_t stage_count = stage != NULL ? stage->parameter_count : 0;
    size_t own_count = own != NULL ? own->setting_count : 0;
    struct fm_setting *settings =
        fm_arena_alloc(&servable->arena,
                       (config->setting_count + stage_count + own_count + 1) * sizeof(*settings));
    char *threads = fm_arena_alloc(&servable->arena, 16);
    if (settings == NULL || threads == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", config->name);
    }
    size_t count = 0;
    for (size_t i = 0; i < config->setting_count; i++) {
        setting_put(settings, &count, config->settings[i].key, config->settings[i].value);
    }
    for (size_t i = 0; i < stage_count; i++) {
        setting_put(settings, &count, stage->parameters[i].key, stage->parameters[i].value);
    }
    struct loaded_model wanted = {.config = config, .group = group, .base_count = count};
    struct fm_setting *base = fm_arena_alloc(&servable->arena, (count + 1) * sizeof(*base));
    if (base == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", config->name);
    }
    memcpy(base, settings, count * sizeof(*base));
    wanted.base = base;
    bool names_threads = of != NULL && of->threads > 0;
    if (names_threads ? has_threads(config) : options->threads > 0) {
        (void)snprintf(threads, 16, "%u", names_threads ? of->threads : options->threads);
        setting_put(settings, &count, "threads", threads);
    }
    for (size_t i = 0; i < own_count; i++) {
        setting_put(settings, &count, own->settings[i].key, own->settings[i].value);
    }
    if (of != NULL && device_merge(servable, config, of, &merged) != 0) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", config->name);
    }
    if (setting_get(settings, count, "provider") != NULL &&
        merged.device_settings != config->device_settings) {
        /* Written among the settings it would go before the device's. */
        setting_put(settings, &count, "provider",
                    setting_get(merged.device_settings, merged.device_setting_count, "provider"));
    }
    merged.settings = settings;
    merged.setting_count = count;
    merged.batch_default = options->batch_default;
    if (stage != NULL && stage->instances > 0) {
        merged.instance_count = stage->instances;
    }
    if (options->instances > 0) {
        merged.instance_count = options->instances;
    }
    wanted.base_instances = merged.instance_count;
    if (of != NULL) {
        merged.instance_count = of->accelerators;
    }
    wanted.settings = settings;
    wanted.setting_count = count;
    wanted.instance_count = merged.instance_count;
    *ret_model = loaded_find(servable, config, &merged, group);
    if (*ret_model != NULL) {
        return 0;
    }
    int status = loaded_add(servable, &merged, options, &wanted, ret_model, reterr);
    return status == 0 || of == NULL
               ? status
               : fm_error_prefix(reterr, status, "on accelerators '%s'", of->name);
}

/* The groups that the stage is to run on: those of the options go before those of the file. */
static const struct fm_stage_groups *stage_groups(const struct fm_servable *servable,
                                                  uint32_t stage,
                                                  const struct fm_servable_options *options)
{
    const struct fm_stage_groups *said =
        servable->file != NULL ? &servable->file->stages[stage].groups : NULL;
    for (uint32_t i = 0; i < options->stage_group_count && said != NULL; i++) {
        if (strcmp(options->stage_groups[i].stage, said->stage) == 0) {
            return &options->stage_groups[i];
        }
    }
    return said;
}

/* One that the pipeline does not have, or an operator. */
static int stage_groups_check(const struct fm_servable *servable,
                              const struct fm_servable_options *options, struct fm_error *reterr)
{
    const struct fm_pipeline_spec *spec = servable->file != NULL ? &servable->file->spec : NULL;
    for (uint32_t i = 0; i < options->stage_group_count; i++) {
        const char *name = options->stage_groups[i].stage;
        const struct fm_stage_spec *found = NULL;
        const char *near = NULL;
        for (size_t k = 0; spec != NULL && k < spec->stage_count && found == NULL; k++) {
            found = strcmp(spec->stages[k].name, name) == 0 ? &spec->stages[k] : NULL;
            near = spec->stages[k].kind == FM_STAGE_MODEL
                       ? fm_text_suggest_next(name, near, spec->stages[k].name)
                       : near;
        }
        if (spec == NULL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "accelerators are given to the stage '%s', but '%s' is one model "
                                "and has no stages: its own 'accelerators' say where it runs",
                                name, servable->name);
        }
        if (found == NULL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "accelerators are given to the stage '%s', which %s does not "
                                "have%s%s%s",
                                name, spec->file, near != NULL ? "; did you mean '" : "",
                                near != NULL ? near : "", near != NULL ? "'?" : "");
        }
        if (found->kind != FM_STAGE_MODEL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "accelerators are given to the stage '%s', which is an operator: "
                                "only models run on accelerators",
                                name);
        }
    }
    return 0;
}

/* Of a stage: for each group that it may use, or the one there is without groups. */
static int model_open(struct fm_servable *servable, const struct fm_model_config *config,
                      uint32_t stage, const struct fm_stage_settings *settings,
                      const struct fm_servable_options *options, struct fm_error *reterr)
{
    struct fm_model **first = &servable->bindings[stage].model;
    bool allowed[FM_GROUPS_MAX] = {false};
    const struct fm_stage_groups *said = stage_groups(servable, stage, options);
    if (options->group_count == 0 && said != NULL && said->name_count > 0) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "the 'accelerators' of stage '%.100s' have no effect, because no groups of "
                       "accelerators are given",
                       said->stage);
        note(options, text);
    }
    if (options->group_count == 0) {
        return model_open_for(servable, config, settings, options, NO_GROUP, first, reterr);
    }
    struct fm_model **models = &servable->group_models[stage * options->group_count];
    int status =
        fm_accelerator_groups_match(config, options->groups, options->group_count, allowed, reterr);
    if (status == 0 && said != NULL) {
        status =
            fm_stage_groups_narrow(said, options->groups, options->group_count, allowed, reterr);
    }
    for (uint32_t i = 0; i < options->group_count && status == 0; i++) {
        if (allowed[i]) {
            status = model_open_for(servable, config, settings, options, i, &models[i], reterr);
            *first = *first != NULL ? *first : models[i];
        }
    }
    return status;
}

/* --- pieces common to both kinds --- */

static int servable_create(const char *name, uint64_t version, const char *path,
                           struct fm_servable **ret_servable, struct fm_error *reterr)
{
    struct fm_servable *servable = calloc(1, sizeof(*servable));
    if (servable == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", name);
    }
    fm_arena_init(&servable->arena, 0);
    servable->version = version;
    servable->cpu_only = true;
    servable->threads_max = 1;
    servable->settings_hash = FM_HASH_START;
    servable->name = fm_arena_strdup(&servable->arena, name);
    servable->path = path != NULL ? fm_arena_strdup(&servable->arena, path) : NULL;
    if (servable->name == NULL || (path != NULL && servable->path == NULL)) {
        fm_servable_close(servable);
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", name);
    }
    *ret_servable = servable;
    return 0;
}

static int allocate_stages(struct fm_servable *servable, size_t count,
                           const struct fm_servable_options *options, struct fm_error *reterr)
{
    servable->group_count = options->group_count;
    servable->group_models = fm_arena_alloc(&servable->arena, count * (options->group_count + 1) *
                                                                  sizeof(struct fm_model *));
    servable->bindings = fm_arena_alloc(&servable->arena, count * sizeof(*servable->bindings));
    servable->ports = fm_arena_alloc(&servable->arena, count * sizeof(*servable->ports));
    if (servable->bindings == NULL || servable->ports == NULL || servable->group_models == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", servable->name);
    }
    servable->stage_count = (uint32_t)count;
    return 0;
}

static void model_ports(const struct fm_model *model, struct fm_stage_ports *ret_ports)
{
    ret_ports->inputs = fm_model_inputs(model, &ret_ports->input_count);
    ret_ports->outputs = fm_model_outputs(model, &ret_ports->output_count);
    ret_ports->batch_max = fm_model_batch_max(model);
}

/* Numbers the groups' accelerators, and says what each stage runs on them. */
static int places_make(struct fm_servable *servable, const struct fm_servable_options *options,
                       struct fm_error *reterr)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < options->group_count; i++) {
        count += options->groups[i].accelerators;
    }
    if (count > FM_FLOW_ACCELERATORS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "there are %" PRIu32 " accelerators in all groups together: %d are "
                            "possible here",
                            count, FM_FLOW_ACCELERATORS_MAX);
    }
    servable->accelerator_names =
        fm_arena_alloc(&servable->arena, count * sizeof(*servable->accelerator_names));
    servable->places =
        fm_arena_alloc(&servable->arena, count * servable->stage_count * sizeof(*servable->places));
    if (servable->accelerator_names == NULL || servable->places == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", servable->name);
    }
    uint32_t number = 0;
    for (uint32_t i = 0; i < options->group_count; i++) {
        const struct fm_accelerator_group *group = &options->groups[i];
        for (uint32_t k = 0; k < group->accelerators; k++, number++) {
            char place[5] = "";
            if (group->accelerators > 1) {
                (void)snprintf(place, sizeof(place), ".%u", (unsigned)(k % 1000));
            }
            (void)snprintf(servable->accelerator_names[number], ACCELERATOR_NAME_SIZE, "%s%s",
                           group->name, place);
            for (uint32_t stage = 0; stage < servable->stage_count; stage++) {
                servable->places[stage * count + number] = (struct fm_stage_place){
                    .model = fm_servable_group_model(servable, stage, i), .instance = k};
            }
        }
    }
    for (uint32_t stage = 0; stage < servable->stage_count; stage++) {
        servable->bindings[stage].places = &servable->places[stage * count];
    }
    servable->accelerator_count = count;
    return 0;
}

static int servable_start(struct fm_servable *servable, const struct fm_pipeline_spec *spec,
                          const struct fm_servable_options *options, struct fm_error *reterr)
{
    int status = fm_pipeline_link(spec, servable->ports, &servable->pipeline, reterr);
    if (status != 0) {
        return status;
    }
    servable->outputs = fm_arena_alloc(&servable->arena, servable->pipeline->output_count *
                                                             sizeof(*servable->outputs));
    if (servable->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", servable->name);
    }
    for (uint32_t i = 0; i < servable->pipeline->output_count; i++) {
        servable->outputs[i] = servable->pipeline->outputs[i].type;
    }
    if (options->group_count > 0 && !options->outside) {
        status = places_make(servable, options, reterr);
    }
    if (status != 0) {
        return status;
    }
    if (options->check_only) {
        return 0;
    }
    /* Models of one pipeline share the CPUs: more runs at once than CPUs only evict each other's
     * caches. */
    uint32_t cpus = fm_os_cpu_count();
    uint32_t slots = servable->threads_max >= cpus ? 1 : cpus / servable->threads_max;
    struct fm_executor_options executor_options = {
        .outside = options->outside,
        .operator_threads = options->operator_threads,
        .requests_max = options->requests_max,
        .batch_halvings = options->batch_halvings,
        .accelerator_count = servable->accelerator_count,
        .accelerator_slots =
            servable->cpu_only && servable->stage_count > 1 && servable->accelerator_count == 0
                ? slots
                : 0};
    return fm_executor_create(servable->pipeline, servable->bindings, &executor_options,
                              &servable->executor, reterr);
}

/* --- one model --- */

static int model_spec_build(struct fm_servable *servable, const struct fm_stage_ports *ports,
                            struct fm_error *reterr)
{
    struct fm_stage_spec *stage = &servable->model_stage;
    struct fm_pipeline_spec *spec = &servable->model_spec;
    stage->inputs = fm_arena_alloc(&servable->arena, ports->input_count * sizeof(*stage->inputs));
    spec->inputs = fm_arena_alloc(&servable->arena, ports->input_count * sizeof(*spec->inputs));
    spec->outputs = fm_arena_alloc(&servable->arena, ports->output_count * sizeof(*spec->outputs));
    if (stage->inputs == NULL || spec->inputs == NULL || spec->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", servable->name);
    }
    /* The stage's name must differ from every port's, and the sources must be found whatever
     * characters the ports' names have. */
    *stage = (struct fm_stage_spec){.name = "@",
                                    .kind = FM_STAGE_MODEL,
                                    .target = servable->name,
                                    .inputs = stage->inputs,
                                    .input_count = ports->input_count,
                                    .items_have_rows = true,
                                    .batch = {.bucket_axis = -1}};
    for (uint32_t i = 0; i < ports->input_count; i++) {
        spec->inputs[i] = ports->inputs[i];
        stage->inputs[i] = (struct fm_binding_spec){.port = ports->inputs[i].name,
                                                    .source = ports->inputs[i].name};
    }
    for (uint32_t i = 0; i < ports->output_count; i++) {
        size_t length = strlen(ports->outputs[i].name) + 3;
        char *source = fm_arena_alloc(&servable->arena, length);
        if (source == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", servable->name);
        }
        (void)snprintf(source, length, "@.%s", ports->outputs[i].name);
        spec->outputs[i] =
            (struct fm_binding_spec){.port = ports->outputs[i].name, .source = source};
    }
    spec->file = servable->path != NULL ? servable->path : servable->name;
    spec->name = servable->name;
    spec->input_count = ports->input_count;
    spec->stages = stage;
    spec->stage_count = 1;
    spec->output_count = ports->output_count;
    return 0;
}

static int open_model(const struct fm_model_config *config,
                      const struct fm_servable_options *options, struct fm_servable **ret_servable,
                      struct fm_error *reterr)
{
    struct fm_servable *servable = NULL;
    int status = servable_create(config->name, config->version, config->path, &servable, reterr);
    if (status != 0) {
        return status;
    }
    status = allocate_stages(servable, 1, options, reterr);
    status = status != 0 ? status : stage_groups_check(servable, options, reterr);
    if (status == 0) {
        status = model_open(servable, config, 0, NULL, options, reterr);
    }
    if (status == 0) {
        model_ports(servable->bindings[0].model, &servable->ports[0]);
        status = model_spec_build(servable, &servable->ports[0], reterr);
    }
    if (status == 0) {
        status = servable_start(servable, &servable->model_spec, options, reterr);
    }
    if (status != 0) {
        fm_servable_close(servable);
        return status;
    }
    *ret_servable = servable;
    return 0;
}

/* --- pipelines --- */

/* "file:line:column: stage 'x'" in front of what went wrong with the stage's target. */
static int stage_error(const struct fm_servable *servable, uint32_t stage, int status,
                       struct fm_error *reterr)
{
    const struct fm_stage_spec *spec = &servable->file->spec.stages[stage];
    return fm_error_prefix(reterr, status, "%s:%u:%u: stage '%s'", servable->file->spec.file,
                           spec->mark.line, spec->mark.column, spec->name);
}

static int open_operator_stage(struct fm_servable *servable, uint32_t stage,
                               struct fm_error *reterr)
{
    const struct fm_operator *operator_ = NULL;
    struct fm_operator_instance *instance = NULL;
    const struct fm_stage_settings *settings = &servable->file->stages[stage];
    int status = fm_operator_find(servable->file->spec.stages[stage].target, &operator_, reterr);
    if (status == 0) {
        status = fm_operator_create(operator_, settings->parameters, settings->parameter_count,
                                    servable->file->directory, &instance, reterr);
    }
    if (status != 0) {
        return stage_error(servable, stage, status, reterr);
    }
    struct fm_stage_ports *ports = &servable->ports[stage];
    servable->bindings[stage].operator_instance = instance;
    status = account_operator(servable, instance, reterr);
    if (status != 0) {
        return stage_error(servable, stage, status, reterr);
    }
    ports->inputs = fm_operator_inputs(instance, &ports->input_count);
    ports->outputs = fm_operator_outputs(instance, &ports->output_count);
    return 0;
}

static int open_model_stage(struct fm_servable *servable, uint32_t stage,
                            const struct fm_repository *repository,
                            const struct fm_servable_options *options, struct fm_error *reterr)
{
    const struct fm_model_config *config = NULL;
    const struct fm_stage_spec *spec = &servable->file->spec.stages[stage];
    int status = FM_ENOTFOUND;
    if (repository == NULL) {
        (void)fm_error_set(reterr, status,
                           "the file names no model repository: add 'models: <directory>'");
    } else {
        status = fm_repository_find_model(
            repository, spec->target, servable->file->stages[stage].model_version, &config, reterr);
    }
    if (status == 0) {
        status =
            model_open(servable, config, stage, &servable->file->stages[stage], options, reterr);
    }
    if (status != 0) {
        return stage_error(servable, stage, status, reterr);
    }
    model_ports(servable->bindings[stage].model, &servable->ports[stage]);
    return 0;
}

/*
 * The repository of a pipeline's models: the one its file names, else the one it was found in, else
 * (a file opened alone) the directory above its own when it lies there as
 * <repository>/<name>/pipeline.yaml.
 */
static int models_open(struct fm_servable *servable, const struct fm_repository *found_in,
                       const struct fm_repository **ret_models, struct fm_error *reterr)
{
    const struct fm_pipeline_file *file = servable->file;
    char above[PATH_SIZE];
    const char *path = file->models;
    *ret_models = found_in;
    bool alone = found_in->count == 1 && found_in->entries[0].kind == FM_REPOSITORY_PIPELINE;
    if (path == NULL && alone && strcmp(fm_path_base(file->spec.file), "pipeline.yaml") == 0) {
        if (fm_path_join(above, sizeof(above), file->directory, "..") != 0) {
            return fm_error_set(reterr, FM_ETOOLARGE, "%s: the path is too long", file->spec.file);
        }
        path = above;
    }
    if (path == NULL) {
        return 0;
    }
    int status = fm_repository_open(path, &servable->own_repository, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "%s: models", file->spec.file);
    }
    *ret_models = &servable->own_repository;
    return 0;
}

static int open_stages(struct fm_servable *servable, const struct fm_repository *repository,
                       const struct fm_servable_options *options, struct fm_error *reterr)
{
    const struct fm_pipeline_spec *spec = &servable->file->spec;
    for (size_t i = 0; i < servable->file->plugin_count; i++) {
        int status = fm_operator_plugin_load(servable->file->plugins[i], reterr);
        if (status == 0 && account_file(servable, servable->file->plugins[i]) != 0) {
            status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
        }
        if (status != 0) {
            return fm_error_prefix(reterr, status, "%s", spec->file);
        }
    }
    const struct fm_repository *models = NULL;
    int status = models_open(servable, repository, &models, reterr);
    status = status != 0 ? status : allocate_stages(servable, spec->stage_count, options, reterr);
    for (uint32_t i = 0; status == 0 && i < spec->stage_count; i++) {
        status = spec->stages[i].kind == FM_STAGE_MODEL
                     ? open_model_stage(servable, i, models, options, reterr)
                     : open_operator_stage(servable, i, reterr);
    }
    return status;
}

/* Before anything can run: nobody has the servable yet. */
static int operators_start(struct fm_servable *servable, struct fm_error *reterr)
{
    int status = 0;
    for (uint32_t i = 0; i < servable->stage_count && status == 0; i++) {
        const struct fm_operator_instance *instance = servable->bindings[i].operator_instance;
        if (instance != NULL) {
            status = fm_operator_start(instance, servable->file->spec.stages[i].name, reterr);
            status = status == 0 ? 0 : stage_error(servable, i, status, reterr);
        }
    }
    return status;
}

static int open_pipeline(const char *path, const struct fm_repository *repository, const char *name,
                         const struct fm_servable_options *options,
                         struct fm_servable **ret_servable, struct fm_error *reterr)
{
    struct fm_pipeline_file *file = NULL;
    struct fm_servable *servable = NULL;
    int status = fm_pipeline_file_load(path, &file, reterr);
    if (status != 0) {
        return status;
    }
    status = servable_create(name != NULL ? name : file->spec.name, 1, path, &servable, reterr);
    if (status != 0) {
        fm_pipeline_file_free(file);
        return status;
    }
    servable->file = file;
    if (account_file(servable, path) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory", path);
    }
    status = status != 0 ? status : stage_groups_check(servable, options, reterr);
    status = status != 0 ? status : open_stages(servable, repository, options, reterr);
    if (status == 0) {
        status = servable_start(servable, &file->spec, options, reterr);
    }
    if (status == 0 && !options->check_only) {
        status = operators_start(servable, reterr);
    }
    if (status != 0) {
        fm_servable_close(servable);
        return status;
    }
    *ret_servable = servable;
    return 0;
}

/* --- public --- */

int fm_servable_open(const struct fm_repository *repository, const char *name, uint64_t version,
                     const struct fm_servable_options *options, struct fm_servable **ret_servable,
                     struct fm_error *reterr)
{
    for (size_t i = 0; i < repository->count; i++) {
        const struct fm_repository_entry *entry = &repository->entries[i];
        if (strcmp(entry->name, name) != 0) {
            continue;
        }
        if (entry->error.status != 0) {
            return fm_error_set(reterr, entry->error.status, "%s", entry->error.text);
        }
        if (entry->kind == FM_REPOSITORY_PIPELINE) {
            return open_pipeline(entry->path, repository, name, options, ret_servable, reterr);
        }
        break;
    }
    const struct fm_model_config *config = NULL;
    int status = fm_repository_find_model(repository, name, version, &config, reterr);
    return status != 0 ? status : open_model(config, options, ret_servable, reterr);
}

int fm_servable_open_path(const char *path, const struct fm_servable_options *options,
                          struct fm_servable **ret_servable, struct fm_error *reterr)
{
    struct fm_repository repository = {0};
    int status = fm_repository_open(path, &repository, reterr);
    if (status != 0) {
        return status;
    }
    if (repository.count != 1) {
        status = fm_error_set(
            reterr, FM_EINVAL, "'%s' holds %zu models: say which one, for example '%s/%s'", path,
            repository.count, path, repository.count > 0 ? repository.entries[0].name : "<model>");
    } else {
        status = fm_servable_open(&repository, repository.entries[0].name, 0, options, ret_servable,
                                  reterr);
    }
    fm_repository_close(&repository);
    return status;
}

void fm_servable_close(struct fm_servable *servable)
{
    if (servable == NULL) {
        return;
    }
    fm_executor_destroy(servable->executor);
    fm_pipeline_free(servable->pipeline);
    for (uint32_t i = 0; i < servable->stage_count; i++) {
        fm_operator_destroy(servable->bindings[i].operator_instance);
    }
    for (struct loaded_model *loaded = servable->models; loaded != NULL; loaded = loaded->next) {
        fm_model_free(loaded->model);
    }
    fm_repository_close(&servable->own_repository);
    fm_pipeline_file_free(servable->file);
    fm_arena_deinit(&servable->arena);
    free(servable);
}

const char *fm_servable_name(const struct fm_servable *servable)
{
    return servable->name;
}

uint64_t fm_servable_version(const struct fm_servable *servable)
{
    return servable->version;
}

const char *fm_servable_platform(const struct fm_servable *servable)
{
    return servable->file != NULL ? "fermata_pipeline"
                                  : fm_model_platform(servable->bindings[0].model);
}

const struct fm_pipeline *fm_servable_pipeline(const struct fm_servable *servable)
{
    return servable->pipeline;
}

struct fm_executor *fm_servable_executor(const struct fm_servable *servable)
{
    return servable->executor;
}

const struct fm_stage_binding *fm_servable_bindings(const struct fm_servable *servable)
{
    return servable->bindings;
}

struct fm_model *fm_servable_group_model(const struct fm_servable *servable, uint32_t stage,
                                         uint32_t group)
{
    return servable->group_count == 0
               ? NULL
               : servable->group_models[stage * servable->group_count + group];
}

uint32_t fm_servable_accelerator_count(const struct fm_servable *servable)
{
    return servable->accelerator_count;
}

const char *fm_servable_accelerator_name(const struct fm_servable *servable, uint32_t accelerator)
{
    FM_ASSERT(accelerator < servable->accelerator_count);
    return servable->accelerator_names[accelerator];
}

uint32_t fm_servable_stage_slots(const struct fm_servable *servable, uint32_t stage)
{
    uint32_t slots = 0;
    for (uint32_t i = 0; i < servable->accelerator_count; i++) {
        slots += servable->bindings[stage].places[i].model != NULL ? 1 : 0;
    }
    return servable->accelerator_count > 0
               ? slots
               : fm_model_instance_count(servable->bindings[stage].model);
}

const struct fm_port *fm_servable_inputs(const struct fm_servable *servable, uint32_t *ret_count)
{
    *ret_count = (uint32_t)servable->pipeline->spec->input_count;
    return servable->pipeline->spec->inputs;
}

const struct fm_port *fm_servable_outputs(const struct fm_servable *servable, uint32_t *ret_count)
{
    *ret_count = servable->pipeline->output_count;
    return servable->outputs;
}

struct fm_model *fm_servable_model(const struct fm_servable *servable)
{
    return servable->file != NULL ? NULL : servable->bindings[0].model;
}

const struct fm_model_config *fm_servable_config(const struct fm_servable *servable)
{
    return fm_servable_model(servable) != NULL ? servable->models->config : NULL;
}

bool fm_servable_response_cache(const struct fm_servable *servable)
{
    return servable->file != NULL ? servable->file->response_cache
                                  : servable->models->config->response_cache;
}

uint64_t fm_servable_fingerprint(const struct fm_servable *servable)
{
    uint64_t hash = servable->settings_hash;
    for (const struct hashed_file *file = servable->files; file != NULL; file = file->next) {
        hash = hash_file(hash, file->path);
    }
    return hash;
}
