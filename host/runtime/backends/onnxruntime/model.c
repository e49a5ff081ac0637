/*
 * The model: an ONNX Runtime session made from settings, and what its inputs and outputs are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/runtime/backends/onnxruntime/ort.h"

/* What a model's settings may say. Defaults are for one core per instance: instances beat threads,
 * and spinning loses on shared machines. */
struct session_settings {
    int64_t threads;
    int64_t inter_op_threads;
    bool spinning;
    bool arena;
    const struct fm_setting *arena_extend; /* NULL: the session has an arena of its own */
    bool memory_pattern;
    bool brief;
    GraphOptimizationLevel graph_optimization;
    ExecutionMode execution_mode;
    const struct fm_setting *all; /* for session.* and free_dimension.* */
    size_t all_count;
};

static const char *const known_settings[] = {"threads",
                                             "inter_op_threads",
                                             "spinning",
                                             "arena",
                                             "arena_extend",
                                             "memory_pattern",
                                             "graph_optimization",
                                             "execution_mode",
                                             "session.<key>",
                                             "free_dimension.<name>",
                                             "brief"};

static int setting_error(const struct fm_setting *setting, const char *wanted,
                         struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINVAL, "onnxruntime: setting '%s' must be %s, but is '%s'",
                        setting->key, wanted, setting->value);
}

static int read_count(const struct fm_setting *setting, int64_t *ret_value, struct fm_error *reterr)
{
    if (fm_parse_int64(setting->value, ret_value) != 0 || *ret_value < 1 || *ret_value > 1024) {
        return setting_error(setting, "a number from 1 to 1024", reterr);
    }
    return 0;
}

static int read_flag(const struct fm_setting *setting, bool *ret_value, struct fm_error *reterr)
{
    return fm_parse_bool(setting->value, ret_value) == 0
               ? 0
               : setting_error(setting, "true or false", reterr);
}

static int read_level(const struct fm_setting *setting, GraphOptimizationLevel *ret_level,
                      struct fm_error *reterr)
{
    static const struct {
        const char *name;
        GraphOptimizationLevel level;
    } levels[] = {{"disabled", ORT_DISABLE_ALL},
                  {"basic", ORT_ENABLE_BASIC},
                  {"extended", ORT_ENABLE_EXTENDED},
                  {"all", ORT_ENABLE_ALL}};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(setting->value, levels[i].name) == 0) {
            *ret_level = levels[i].level;
            return 0;
        }
    }
    return setting_error(setting, "disabled, basic, extended or all", reterr);
}

static int read_mode(const struct fm_setting *setting, ExecutionMode *ret_mode,
                     struct fm_error *reterr)
{
    if (strcmp(setting->value, "sequential") == 0 || strcmp(setting->value, "parallel") == 0) {
        *ret_mode = setting->value[0] == 's' ? ORT_SEQUENTIAL : ORT_PARALLEL;
        return 0;
    }
    return setting_error(setting, "sequential or parallel", reterr);
}

static int setting_read(const struct fm_setting *setting, struct session_settings *settings,
                        struct fm_error *reterr)
{
    const char *key = setting->key;
    if (strcmp(key, "threads") == 0) {
        return read_count(setting, &settings->threads, reterr);
    }
    if (strcmp(key, "inter_op_threads") == 0) {
        return read_count(setting, &settings->inter_op_threads, reterr);
    }
    if (strcmp(key, "spinning") == 0) {
        return read_flag(setting, &settings->spinning, reterr);
    }
    if (strcmp(key, "arena") == 0) {
        return read_flag(setting, &settings->arena, reterr);
    }
    if (strcmp(key, "arena_extend") == 0) {
        settings->arena_extend = setting;
        return strcmp(setting->value, "power_of_two") == 0 ||
                       strcmp(setting->value, "same_as_requested") == 0
                   ? 0
                   : setting_error(setting, "power_of_two or same_as_requested", reterr);
    }
    if (strcmp(key, "memory_pattern") == 0) {
        return read_flag(setting, &settings->memory_pattern, reterr);
    }
    if (strcmp(key, "brief") == 0) {
        return read_flag(setting, &settings->brief, reterr);
    }
    if (strcmp(key, "graph_optimization") == 0) {
        return read_level(setting, &settings->graph_optimization, reterr);
    }
    if (strcmp(key, "execution_mode") == 0) {
        return read_mode(setting, &settings->execution_mode, reterr);
    }
    if (strncmp(key, "session.", 8) == 0 || strncmp(key, "free_dimension.", 15) == 0) {
        return 0; /* handed through below */
    }
    const char *nearest =
        fm_text_suggest(key, known_settings, sizeof(known_settings) / sizeof(known_settings[0]));
    return fm_error_set(reterr, FM_EINVAL, "onnxruntime: unknown setting '%s'%s%s%s", key,
                        nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                        nearest != NULL ? "'?" : "");
}

static int pass_through(const struct ort_device *device, const struct session_settings *settings,
                        OrtSessionOptions *options, struct fm_error *reterr)
{
    const OrtApi *api = device->api;
    for (size_t i = 0; i < settings->all_count; i++) {
        const struct fm_setting *setting = &settings->all[i];
        int status = 0;
        if (strncmp(setting->key, "free_dimension.", 15) == 0) {
            int64_t size = 0;
            if (fm_parse_int64(setting->value, &size) != 0 || size < 1) {
                return setting_error(setting, "a positive number", reterr);
            }
            status = ort_status(
                device, api->AddFreeDimensionOverrideByName(options, setting->key + 15, size),
                setting->key, reterr);
        } else if (strncmp(setting->key, "session.", 8) == 0) {
            status = ort_status(device,
                                api->AddSessionConfigEntry(options, setting->key, setting->value),
                                setting->key, reterr);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int arena_apply(const struct ort_device *device, const struct session_settings *settings,
                       OrtSessionOptions *options, struct fm_error *reterr)
{
    if (!settings->arena && settings->arena_extend != NULL) {
        return fm_error_set(
            reterr, FM_EINVAL,
            "onnxruntime: 'arena_extend' makes no sense with 'arena: false'; remove one");
    }
    if (!settings->arena) {
        return ort_status(device, device->api->DisableCpuMemArena(options), "arena", reterr);
    }
    if (settings->arena_extend == NULL) {
        return 0;
    }
    int status = ort_arena_share(device, settings->arena_extend->value[0] == 's', reterr);
    return status != 0 ? status
                       : ort_status(device,
                                    device->api->AddSessionConfigEntry(
                                        options, "session.use_env_allocators", "1"),
                                    "arena_extend", reterr);
}

static int options_apply(const struct ort_device *device, const struct session_settings *settings,
                         OrtSessionOptions *options, struct fm_error *reterr)
{
    const OrtApi *api = device->api;
    const char *spin = settings->spinning ? "1" : "0";
    int status = ort_status(device, api->SetIntraOpNumThreads(options, (int)settings->threads),
                            "threads", reterr);
    status = status != 0
                 ? status
                 : ort_status(device,
                              api->SetInterOpNumThreads(options, (int)settings->inter_op_threads),
                              "threads", reterr);
    status = status != 0 ? status
                         : ort_status(device,
                                      api->AddSessionConfigEntry(
                                          options, "session.intra_op.allow_spinning", spin),
                                      "spinning", reterr);
    status = status != 0 ? status
                         : ort_status(device,
                                      api->AddSessionConfigEntry(
                                          options, "session.inter_op.allow_spinning", spin),
                                      "spinning", reterr);
    status = status != 0 ? status
                         : ort_status(device,
                                      api->SetSessionGraphOptimizationLevel(
                                          options, settings->graph_optimization),
                                      "graph", reterr);
    status =
        status != 0
            ? status
            : ort_status(device, api->SetSessionExecutionMode(options, settings->execution_mode),
                         "mode", reterr);
    status = status != 0 ? status : arena_apply(device, settings, options, reterr);
    if (status == 0 && !settings->memory_pattern) {
        status = ort_status(device, api->DisableMemPattern(options), "memory pattern", reterr);
    }
    status = status != 0 ? status : pass_through(device, settings, options, reterr);
    return status != 0 ? status : ort_provider_append(device, options, reterr);
}

/* Reads name and type of input or output `index`. */
static int port_read(const struct ort_model *model, size_t index, bool input,
                     struct fm_port *ret_port, struct fm_error *reterr)
{
    const struct ort_device *device = model->device;
    const OrtApi *api = device->api;
    const char *what = input ? "input" : "output";
    char *name = NULL;
    OrtTypeInfo *type = NULL;
    enum ONNXType kind = ONNX_TYPE_UNKNOWN;
    int status = ort_status(
        device,
        input ? api->SessionGetInputName(model->session, index, device->allocator, &name)
              : api->SessionGetOutputName(model->session, index, device->allocator, &name),
        what, reterr);
    if (status == 0) {
        ret_port->name = strdup(name);
        (void)ort_status(device, api->AllocatorFree(device->allocator, name), what, NULL);
        status = ret_port->name != NULL
                     ? 0
                     : fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
    }
    status = status != 0
                 ? status
                 : ort_status(device,
                              input ? api->SessionGetInputTypeInfo(model->session, index, &type)
                                    : api->SessionGetOutputTypeInfo(model->session, index, &type),
                              what, reterr);
    status = status != 0
                 ? status
                 : ort_status(device, api->GetOnnxTypeFromTypeInfo(type, &kind), what, reterr);
    if (status == 0 && kind != ONNX_TYPE_TENSOR) {
        status = fm_error_set(
            reterr, FM_EUNSUPPORTED,
            "%s '%s' is no tensor but a %s; export the model with tensor inputs and outputs only",
            what, ret_port->name,
            kind == ONNX_TYPE_SEQUENCE   ? "sequence"
            : kind == ONNX_TYPE_MAP      ? "map"
            : kind == ONNX_TYPE_OPTIONAL ? "optional type"
                                         : "special type");
    }
    const OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0;
    status = status != 0
                 ? status
                 : ort_status(device, api->CastTypeInfoToTensorInfo(type, &info), what, reterr);
    status = status != 0
                 ? status
                 : ort_status(device, api->GetTensorElementType(info, &element), what, reterr);
    status = status != 0 ? status
                         : ort_status(device, api->GetDimensionsCount(info, &rank), what, reterr);
    if (status == 0 && (rank > FM_RANK_MAX || ort_dtype_from(element) == FM_DTYPE_INVALID)) {
        status = fm_error_set(
            reterr, FM_EUNSUPPORTED,
            "%s '%s' has %zu dimensions of ONNX element type %d, which is not supported", what,
            ret_port->name, rank, (int)element);
    }
    if (status == 0) {
        ret_port->rank = (int32_t)rank;
        ret_port->dtype = ort_dtype_from(element);
        status = ort_status(device, api->GetDimensions(info, ret_port->shape, rank), what, reterr);
        for (size_t axis = 0; axis < rank; axis++) {
            ret_port->shape[axis] = ret_port->shape[axis] < 0 ? -1 : ret_port->shape[axis];
        }
    }
    if (type != NULL) {
        api->ReleaseTypeInfo(type);
    }
    return status;
}

static int ports_read(struct ort_model *model, struct fm_error *reterr)
{
    const OrtApi *api = model->device->api;
    size_t counts[2] = {0, 0};
    int status = ort_status(model->device, api->SessionGetInputCount(model->session, &counts[0]),
                            "inputs", reterr);
    status = status != 0
                 ? status
                 : ort_status(model->device, api->SessionGetOutputCount(model->session, &counts[1]),
                              "outputs", reterr);
    if (status != 0) {
        return status;
    }
    model->inputs = calloc(counts[0] + 1, sizeof(struct fm_port));
    model->outputs = calloc(counts[1] + 1, sizeof(struct fm_port));
    if (model->inputs == NULL || model->outputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
    }
    model->input_count = (uint32_t)counts[0];
    model->output_count = (uint32_t)counts[1];
    model->batchable = counts[0] > 0;
    for (size_t i = 0; i < counts[0] + counts[1]; i++) {
        bool input = i < counts[0];
        struct fm_port *port = input ? &model->inputs[i] : &model->outputs[i - counts[0]];
        status = port_read(model, input ? i : i - counts[0], input, port, reterr);
        if (status != 0) {
            return status;
        }
        model->batchable = model->batchable && port->rank > 0 && port->shape[0] < 0;
    }
    return 0;
}

/* ONNX Runtime's own words for a missing or broken file are long; the common cases get short ones.
 */
static int file_check(const struct fm_model_source *source, uint64_t *ret_size,
                      struct fm_error *reterr)
{
    if (source->path == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "onnxruntime needs a model file");
    }
    FILE *file = fopen(source->path, "re");
    if (file == NULL) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "cannot open '%s'; is the path right and readable?", source->path);
    }
    char first[4];
    size_t got = fread(first, 1, sizeof(first), file);
    bool failed = ferror(file) != 0;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
    (void)fclose(file);
    if (failed) {
        return fm_error_set(reterr, FM_EINVAL, "cannot read '%s': it is a directory or unreadable",
                            source->path);
    }
    if (got == 0) {
        return fm_error_set(reterr, FM_ECORRUPT, "'%s' is empty", source->path);
    }
    *ret_size = size > 0 ? (uint64_t)size : 0;
    return 0;
}

static int session_create(struct ort_model *model, const struct fm_model_source *source,
                          const struct session_settings *settings, struct fm_error *reterr)
{
    const OrtApi *api = model->device->api;
    OrtSessionOptions *options = NULL;
    int status = ort_status(model->device, api->CreateSessionOptions(&options), "session", reterr);
    status = status != 0 ? status : options_apply(model->device, settings, options, reterr);
    if (status == 0) {
        status = ort_status(
            model->device,
            api->CreateSession(model->device->environment, source->path, options, &model->session),
            source->path, reterr);
        /* Whatever kind of failure it calls it: the file could not be made a session. */
        status = status == FM_EINTERNAL ? FM_ECORRUPT : status;
        if (reterr != NULL && status != 0) {
            reterr->status = status;
        }
    }
    if (options != NULL) {
        api->ReleaseSessionOptions(options);
    }
    return status;
}

/* It is for who knows the model to say that its time is bounded: a loop's is not. The rest is
 * checked. */
static int brief_check(const struct ort_model *model, const struct session_settings *settings,
                       struct fm_error *reterr)
{
    bool one_thread = settings->threads == 1 && settings->execution_mode == ORT_SEQUENTIAL;
    if (!settings->brief || (one_thread && strcasecmp(model->device->provider, "cpu") == 0)) {
        return 0;
    }
    return fm_error_set(
        reterr, FM_EINVAL,
        "onnxruntime: setting 'brief' is for models that compute on one thread of a "
        "CPU, but %s; leave it out, or set threads to 1, execution_mode to "
        "sequential and provider to cpu",
        one_thread ? "the provider is another one" : "this one has several");
}

int ort_model_load(void *device, const struct fm_model_source *source,
                   const struct fm_setting *settings, size_t setting_count, void **ret_model,
                   struct fm_error *reterr)
{
    struct session_settings session = {.threads = 1,
                                       .inter_op_threads = 1,
                                       .arena = true,
                                       .memory_pattern = true,
                                       .graph_optimization = ORT_ENABLE_ALL,
                                       .execution_mode = ORT_SEQUENTIAL,
                                       .all = settings,
                                       .all_count = setting_count};
    int status = 0;
    for (size_t i = 0; status == 0 && i < setting_count; i++) {
        status = setting_read(&settings[i], &session, reterr);
    }
    struct ort_model *model = status == 0 ? calloc(1, sizeof(*model)) : NULL;
    if (model == NULL) {
        return status != 0 ? status : fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
    }
    model->device = device;
    model->never_waits = session.brief;
    status = brief_check(model, &session, reterr);
    status = status != 0 ? status : file_check(source, &model->file_size, reterr);
    status = status != 0 ? status : session_create(model, source, &session, reterr);
    status = status != 0 ? status : ports_read(model, reterr);
    if (status != 0) {
        ort_model_unload(model);
        return status;
    }
    *ret_model = model;
    return 0;
}

void ort_model_unload(void *handle)
{
    struct ort_model *model = handle;
    if (model == NULL) {
        return;
    }
    if (model->session != NULL) {
        model->device->api->ReleaseSession(model->session);
    }
    for (uint32_t i = 0; i < model->input_count; i++) {
        free((void *)(uintptr_t)model->inputs[i].name);
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        free((void *)(uintptr_t)model->outputs[i].name);
    }
    free(model->inputs);
    free(model->outputs);
    free(model);
}

int ort_model_info(void *handle, struct fm_model_info *ret_info)
{
    const struct ort_model *model = handle;
    ret_info->input_count = model->input_count;
    ret_info->output_count = model->output_count;
    ret_info->batch_dimension = model->batchable ? 1 : 0;
    ret_info->inputs = model->inputs;
    ret_info->outputs = model->outputs;
    ret_info->platform = "onnxruntime_onnx";
    if (ret_info->struct_size >=
        offsetof(struct fm_model_info, never_waits) + sizeof(ret_info->never_waits)) {
        ret_info->never_waits = model->never_waits ? 1 : 0;
    }
    return 0;
}

/* The file is the best measure at hand: ONNX Runtime does not tell what a session holds. */
uint64_t ort_model_memory(void *handle)
{
    const struct ort_model *model = handle;
    return model->file_size;
}
