/*
 * Loaded models. See model.h.
 */
#include "host/runtime/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/runtime/backend_registry.h"

enum {
    BATCH_MAX_DEFAULT = 8, /* for a batchable model whose configuration does not say */
    SETTINGS_MAX = 256,
    LABELS_BYTES_MAX = 16 << 20,
};

/* A device in use: one per backend and device settings, shared by all models on it. */
struct device {
    struct device *next;
    const struct fm_backend *backend;
    char *key;
    void *handle;
    uint32_t users;
};

struct labels {
    char **lines;
    size_t count;
};

struct fm_model {
    struct fm_arena arena;
    const struct fm_backend *backend;
    struct device *device;
    void *handle;
    void **instances;
    uint32_t instance_count;
    const char *name;
    uint64_t version;
    const char *platform;
    struct fm_port *inputs;
    uint32_t input_count;
    struct fm_port *outputs;
    uint32_t output_count;
    struct labels *labels; /* by output */
    uint32_t batch_max;
    bool never_waits;
};

/* --- configuration --- */

void fm_model_config_init(struct fm_model_config *config)
{
    *config =
        (struct fm_model_config){.version = 1, .max_batch_size = -1, .backend = "onnxruntime"};
    fm_arena_init(&config->arena, 0);
    config->goal = FM_SCHED_GOAL_COUNT_;
    config->policy = FM_SCHED_POLICY_COUNT_;
}

void fm_model_config_deinit(struct fm_model_config *config)
{
    fm_arena_deinit(&config->arena);
    *config = (struct fm_model_config){0};
}

int fm_model_config_set(struct fm_model_config *config, const char *key, const char *value,
                        struct fm_error *reterr)
{
    char *copy = fm_arena_strdup(&config->arena, value);
    struct fm_setting *settings =
        fm_arena_alloc(&config->arena, (config->setting_count + 1) * sizeof(*settings));
    char *key_copy = fm_arena_strdup(&config->arena, key);
    if (copy == NULL || settings == NULL || key_copy == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "setting '%s': out of memory", key);
    }
    for (size_t i = 0; i < config->setting_count; i++) {
        if (strcmp(config->settings[i].key, key) == 0) {
            config->settings[i].value = copy;
            return 0;
        }
    }
    if (config->setting_count == SETTINGS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "setting '%s': a model has at most %d settings", key,
                            SETTINGS_MAX);
    }
    if (config->setting_count > 0) {
        memcpy(settings, config->settings, config->setting_count * sizeof(*settings));
    }
    settings[config->setting_count] = (struct fm_setting){.key = key_copy, .value = copy};
    config->settings = settings;
    config->setting_count++;
    return 0;
}

/* Settings that choose and set up the device rather than the model. */
static bool is_device_setting(const char *key)
{
    return strcmp(key, "provider") == 0 || strncmp(key, "provider.", 9) == 0 ||
           strncmp(key, "device.", 7) == 0;
}

static const char *setting_get(const struct fm_model_config *config, const char *key)
{
    for (size_t i = 0; i < config->setting_count; i++) {
        if (strcmp(config->settings[i].key, key) == 0) {
            return config->settings[i].value;
        }
    }
    return NULL;
}

/* --- devices --- */

static struct fm_mutex devices_mutex = {PTHREAD_MUTEX_INITIALIZER};
static struct device *devices;

static void device_release(struct device *device)
{
    if (device == NULL) {
        return;
    }
    fm_mutex_lock(&devices_mutex);
    FM_ASSERT(device->users > 0);
    device->users--;
    if (device->users == 0) {
        struct device **link = &devices;
        while (*link != device) {
            link = &(*link)->next;
        }
        *link = device->next;
        device->backend->device_close(device->handle);
        fm_free(device->key);
        free(device);
    }
    fm_mutex_unlock(&devices_mutex);
}

static int device_open_locked(const struct fm_backend *backend, const struct fm_setting *settings,
                              size_t count, char *take_key, struct device **ret_device,
                              struct fm_error *reterr)
{
    struct device *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "backend '%s': out of memory", backend->name);
    }
    int status = backend->device_open(fm_host_table(), settings, count, &device->handle, reterr);
    if (status != 0) {
        free(device);
        return status;
    }
    device->backend = backend;
    device->key = take_key;
    device->next = devices;
    devices = device;
    *ret_device = device;
    return 0;
}

/* What tells devices apart. Lengths lead, so that no value, whatever it holds, reads like two
 * settings. NULL when out of memory. */
static char *device_key(const struct fm_backend *backend, const struct fm_setting *settings,
                        size_t count)
{
    struct fm_text text = {0};
    fm_text_append_string(&text, backend->name);
    for (size_t i = 0; i < count; i++) {
        fm_text_append_format(&text, "\n%zu:%s=%zu:%s", strlen(settings[i].key), settings[i].key,
                              strlen(settings[i].value), settings[i].value);
    }
    return fm_text_take(&text);
}

static int device_acquire(const struct fm_backend *backend, const struct fm_setting *settings,
                          size_t count, struct device **ret_device, struct fm_error *reterr)
{
    char *key = device_key(backend, settings, count);
    if (key == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "backend '%s': out of memory", backend->name);
    }
    struct device *device = NULL;
    int status = 0;
    fm_mutex_lock(&devices_mutex);
    for (struct device *candidate = devices; candidate != NULL && device == NULL;
         candidate = candidate->next) {
        device = strcmp(candidate->key, key) == 0 ? candidate : NULL;
    }
    if (device == NULL) {
        status = device_open_locked(backend, settings, count, key, &device, reterr);
        key = status == 0 ? NULL : key;
    }
    if (status == 0) {
        device->users++;
        *ret_device = device;
    }
    fm_mutex_unlock(&devices_mutex);
    fm_free(key);
    return status;
}

/* --- what the backend says of the model --- */

static int ports_copy(struct fm_model *model, const struct fm_port *ports, uint32_t count,
                      const char *what, struct fm_port **ret_ports, struct fm_error *reterr)
{
    if (count > FM_MODEL_PORTS_MAX || (count > 0 && ports == NULL)) {
        return fm_error_set(reterr, FM_EABI, "the backend reports %u %ss%s", count, what,
                            count > FM_MODEL_PORTS_MAX ? ", more than the 1024 allowed"
                                                       : " without saying which");
    }
    struct fm_port *copy = fm_arena_alloc(&model->arena, (count + 1) * sizeof(*copy));
    if (copy == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ports[i].name == NULL || ports[i].name[0] == '\0') {
            return fm_error_set(reterr, FM_EABI, "the backend reports %s %u without a name", what,
                                i);
        }
        if (ports[i].rank < 0 || ports[i].rank > FM_RANK_MAX) {
            return fm_error_set(reterr, FM_EABI, "%s '%s' has %d dimensions; 0 to %d are supported",
                                what, ports[i].name, ports[i].rank, FM_RANK_MAX);
        }
        if (ports[i].dtype == FM_DTYPE_INVALID || ports[i].dtype >= FM_DTYPE_COUNT_) {
            return fm_error_set(reterr, FM_EABI, "%s '%s' has an unknown data type (%u)", what,
                                ports[i].name, ports[i].dtype);
        }
        for (int32_t axis = 0; axis < ports[i].rank; axis++) {
            if (ports[i].shape[axis] < -1) {
                return fm_error_set(reterr, FM_EABI, "%s '%s' has a negative dimension", what,
                                    ports[i].name);
            }
        }
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(copy[k].name, ports[i].name) == 0) {
                return fm_error_set(reterr, FM_EABI, "the backend reports two %ss called '%s'",
                                    what, ports[i].name);
            }
        }
        copy[i] = ports[i];
        copy[i].name = fm_arena_strdup(&model->arena, ports[i].name);
        if (copy[i].name == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory");
        }
    }
    *ret_ports = copy;
    return 0;
}

static int describe(struct fm_model *model, const struct fm_model_config *config,
                    bool *ret_batchable, struct fm_error *reterr)
{
    struct fm_model_info info = {.struct_size = sizeof(info)};
    int status = model->backend->model_info(model->handle, &info);
    if (status != 0) {
        return fm_error_set(reterr, status, "the backend cannot describe the model: %s",
                            fm_status_text(status));
    }
    status = ports_copy(model, info.inputs, info.input_count, "input", &model->inputs, reterr);
    status = status != 0 ? status
                         : ports_copy(model, info.outputs, info.output_count, "output",
                                      &model->outputs, reterr);
    if (status != 0) {
        return status;
    }
    model->input_count = info.input_count;
    model->output_count = info.output_count;
    if (info.output_count == 0) {
        return fm_error_set(reterr, FM_EINVAL, "the model has no outputs");
    }
    model->platform = fm_arena_strdup(&model->arena,
                                      info.platform != NULL ? info.platform : model->backend->name);
    model->name = fm_arena_strdup(&model->arena, config->name);
    model->version = config->version;
    model->never_waits = info.never_waits != 0;
    *ret_batchable = info.batch_dimension != 0;
    for (uint32_t i = 0; i < model->input_count + model->output_count; i++) {
        const struct fm_port *port =
            i < model->input_count ? &model->inputs[i] : &model->outputs[i - model->input_count];
        *ret_batchable = *ret_batchable && port->rank > 0 && port->shape[0] < 0;
    }
    return model->platform == NULL || model->name == NULL
               ? fm_error_set(reterr, FM_ENOMEM, "out of memory")
               : 0;
}

/* --- declared against real --- */

static int complete_batch(struct fm_model *model, const struct fm_model_config *config,
                          bool batchable, struct fm_error *reterr)
{
    if (config->max_batch_size > 0 && !batchable) {
        return fm_error_set(reterr, FM_EINVAL,
                            "max_batch_size is %lld, but the model has a fixed dimension 0 and "
                            "cannot batch; set max_batch_size to 0",
                            (long long)config->max_batch_size);
    }
    if (config->max_batch_size > UINT32_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "max_batch_size %lld is too large",
                            (long long)config->max_batch_size);
    }
    uint32_t unsaid = config->batch_default > 0 ? config->batch_default : BATCH_MAX_DEFAULT;
    model->batch_max = config->max_batch_size >= 0 ? (uint32_t)config->max_batch_size
                       : batchable                 ? unsaid
                                                   : 0;
    return 0;
}

static void difference(struct fm_text *text, const char *format, ...) FM_PRINTF(2, 3);

static void difference(struct fm_text *text, const char *format, ...)
{
    char line[300];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fm_text_append_format(text, "%s%s", text->length > 0 ? "; " : "", line);
}

static struct fm_port *port_find(struct fm_port *ports, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(ports[i].name, name) == 0) {
            return &ports[i];
        }
    }
    return NULL;
}

/* Compares one declaration and, where it is narrower than the model (224 for -1), takes it over. */
static void declared_check(const struct fm_model *model,
                           const struct fm_model_port_config *declared, struct fm_port *port,
                           const char *what, struct fm_text *text)
{
    if (declared->dtype != FM_DTYPE_INVALID && declared->dtype != port->dtype) {
        difference(text, "%s '%s' is declared %s, but is %s", what, declared->name,
                   fm_dtype_name(declared->dtype), fm_dtype_name(port->dtype));
    }
    port->flags |= declared->optional ? FM_PORT_OPTIONAL : 0;
    if (declared->rank < 0) {
        return;
    }
    /* As in Triton, declared shapes leave the batch dimension out when the model batches. */
    int32_t skip = model->batch_max > 0 ? 1 : 0;
    bool same = declared->rank + skip == port->rank;
    for (int32_t i = 0; same && i < declared->rank; i++) {
        int64_t real = port->shape[i + skip];
        same = declared->shape[i] < 0 || real < 0 || declared->shape[i] == real;
    }
    if (!same) {
        char shapes[2][160];
        difference(
            text, "%s '%s' is declared %s%s, but is %s", what, declared->name,
            fm_shape_format(declared->shape, (uint32_t)declared->rank, shapes[0],
                            sizeof(shapes[0])),
            skip ? " (without the batch dimension)" : "",
            fm_shape_format(port->shape, (uint32_t)port->rank, shapes[1], sizeof(shapes[1])));
        return;
    }
    for (int32_t i = 0; i < declared->rank; i++) {
        if (port->shape[i + skip] < 0) {
            port->shape[i + skip] = declared->shape[i];
        }
    }
}

static const char *port_suggest(const struct fm_port *ports, uint32_t count, const char *name)
{
    const char *nearest = NULL;
    for (uint32_t i = 0; i < count; i++) {
        nearest = fm_text_suggest_next(name, nearest, ports[i].name);
    }
    return nearest;
}

static void declared_list_check(const struct fm_model *model,
                                const struct fm_model_port_config *declared, size_t declared_count,
                                struct fm_port *ports, uint32_t port_count, const char *what,
                                struct fm_text *text)
{
    for (size_t i = 0; i < declared_count; i++) {
        struct fm_port *port = port_find(ports, port_count, declared[i].name);
        if (port != NULL) {
            declared_check(model, &declared[i], port, what, text);
            continue;
        }
        const char *nearest = port_suggest(ports, port_count, declared[i].name);
        difference(text, "the model has no %s '%s'%s%s%s", what, declared[i].name,
                   nearest != NULL  ? "; did you mean '"
                   : port_count > 0 ? "; it has '"
                                    : "",
                   nearest != NULL  ? nearest
                   : port_count > 0 ? ports[0].name
                                    : "",
                   port_count > 0 ? "'" : "");
    }
}

static int declarations_check(struct fm_model *model, const struct fm_model_config *config,
                              struct fm_error *reterr)
{
    struct fm_text text = {0};
    declared_list_check(model, config->inputs, config->input_count, model->inputs,
                        model->input_count, "input", &text);
    declared_list_check(model, config->outputs, config->output_count, model->outputs,
                        model->output_count, "output", &text);
    int status = 0;
    if (text.failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory");
    } else if (text.length > 0) {
        status = fm_error_set(reterr, FM_ETYPE, "the configuration does not fit the model: %s",
                              text.data);
    }
    fm_text_deinit(&text);
    return status;
}

/* --- labels --- */

static int labels_read(struct fm_model *model, const char *path, struct labels *ret_labels,
                       struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    int status = fm_file_read(path, LABELS_BYTES_MAX, &data, &size, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "labels");
    }
    if (memchr(data, '\0', size) != NULL) {
        fm_free(data);
        return fm_error_set(reterr, FM_ECORRUPT,
                            "labels '%s': the file holds a NUL byte; it must be text, one label a "
                            "line",
                            path);
    }
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        count += data[i] == '\n' || i + 1 == size ? 1 : 0;
    }
    ret_labels->lines = fm_arena_alloc(&model->arena, (count + 1) * sizeof(*ret_labels->lines));
    size_t start = 0;
    for (size_t i = 0; i < count && ret_labels->lines != NULL; i++) {
        size_t length = strcspn(data + start, "\n");
        size_t kept = length > 0 && data[start + length - 1] == '\r' ? length - 1 : length;
        ret_labels->lines[i] = fm_arena_strndup(&model->arena, data + start, kept);
        ret_labels->count += ret_labels->lines[i] != NULL ? 1 : 0;
        start += length + 1;
    }
    fm_free(data);
    return ret_labels->count == count
               ? 0
               : fm_error_set(reterr, FM_ENOMEM, "labels '%s': out of memory", path);
}

static int labels_load(struct fm_model *model, const struct fm_model_config *config,
                       struct fm_error *reterr)
{
    model->labels =
        fm_arena_alloc(&model->arena, (model->output_count + 1) * sizeof(*model->labels));
    if (model->labels == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < config->output_count; i++) {
        const struct fm_port *port =
            port_find(model->outputs, model->output_count, config->outputs[i].name);
        if (port != NULL && config->outputs[i].label_path != NULL) {
            int status = labels_read(model, config->outputs[i].label_path,
                                     &model->labels[port - model->outputs], reterr);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

/* --- loading --- */

/* Device settings as given, then those among the model's settings; the later one of a name wins. */
static size_t settings_split(const struct fm_model_config *config, struct fm_setting *ret_device,
                             size_t *ret_device_count, struct fm_setting *ret_model)
{
    size_t device_count = 0;
    size_t model_count = 0;
    for (size_t i = 0; i < config->device_setting_count + config->setting_count; i++) {
        bool own = i < config->device_setting_count;
        const struct fm_setting *setting =
            own ? &config->device_settings[i] : &config->settings[i - config->device_setting_count];
        if (!own && !is_device_setting(setting->key)) {
            ret_model[model_count++] = *setting;
            continue;
        }
        size_t at = 0;
        while (at < device_count && strcmp(ret_device[at].key, setting->key) != 0) {
            at++;
        }
        ret_device[at] = *setting;
        device_count += at == device_count ? 1 : 0;
    }
    *ret_device_count = device_count;
    return model_count;
}

static uint32_t instance_count_choose(const struct fm_model_config *config)
{
    if (config->instance_count > 0) {
        return config->instance_count;
    }
    uint64_t threads = 1;
    const char *text = setting_get(config, "threads");
    if (text != NULL && (fm_parse_uint64(text, &threads) != 0 || threads == 0)) {
        threads = 1;
    }
    uint32_t cpus = fm_os_cpu_count();
    uint32_t count = threads >= cpus ? 1 : cpus / (uint32_t)threads;
    return count < FM_MODEL_INSTANCES_MAX ? count : FM_MODEL_INSTANCES_MAX;
}

static int instances_create(struct fm_model *model, const struct fm_model_config *config,
                            struct fm_error *reterr)
{
    uint32_t wanted = instance_count_choose(config);
    if (wanted > FM_MODEL_INSTANCES_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "%u instances, but a model has at most %d", wanted,
                            FM_MODEL_INSTANCES_MAX);
    }
    model->instances = fm_arena_alloc(&model->arena, wanted * sizeof(*model->instances));
    if (model->instances == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < wanted; i++) {
        int status =
            model->backend->instance_create(model->handle, NULL, 0, &model->instances[i], reterr);
        if (status != 0) {
            return fm_error_prefix(reterr, status, "instance %u of %u", i + 1, wanted);
        }
        model->instance_count++;
    }
    return 0;
}

int fm_model_try(struct fm_model *model, uint32_t instance, uint32_t rows, uint64_t *ret_ns,
                 struct fm_error *reterr)
{
    *ret_ns = 0;
    struct fm_tensor *inputs = calloc((size_t)model->input_count + 1, sizeof(*inputs));
    struct fm_value *values = calloc((size_t)model->input_count + 1, sizeof(*values));
    struct fm_output *outputs = calloc((size_t)model->output_count + 1, sizeof(*outputs));
    int status = inputs == NULL || values == NULL || outputs == NULL ? FM_ENOMEM : 0;
    for (uint32_t i = 0; status == 0 && i < model->input_count; i++) {
        const struct fm_port *port = &model->inputs[i];
        int64_t shape[FM_RANK_MAX];
        for (int32_t axis = 0; axis < port->rank; axis++) {
            shape[axis] = axis == 0 && model->batch_max > 0 ? (int64_t)rows
                          : port->shape[axis] < 0           ? 1
                                                            : port->shape[axis];
        }
        uint64_t elements = 0;
        status = fm_shape_element_count(shape, (uint32_t)port->rank, &elements);
        /* An empty string is four zero bytes, so zeros are right for BYTES too. */
        status = status != 0 ? status
                             : fm_value_alloc(&values[i], port->dtype, shape, (uint32_t)port->rank,
                                              (size_t)elements * 4);
        if (status == 0) {
            memset(values[i].tensor.data, 0, values[i].tensor.size);
            inputs[i] = values[i].tensor;
        }
    }
    for (uint32_t i = 0; outputs != NULL && i < model->output_count; i++) {
        outputs[i].wanted = 1;
    }
    if (status == 0) {
        struct fm_execution execution = {.struct_size = sizeof(execution),
                                         .input_count = model->input_count,
                                         .output_count = model->output_count,
                                         .batch_size = rows,
                                         .inputs = inputs,
                                         .outputs = outputs};
        uint64_t start_ns = fm_os_now_ns();
        status = fm_model_run(model, instance, &execution, reterr);
        *ret_ns = fm_os_now_ns() - start_ns;
    } else {
        status = fm_error_set(reterr, status, "%s", fm_status_text(status));
    }
    for (uint32_t i = 0; outputs != NULL && i < model->output_count; i++) {
        if (outputs[i].release != NULL) {
            outputs[i].release(outputs[i].release_context);
        }
    }
    for (uint32_t i = 0; values != NULL && i < model->input_count; i++) {
        fm_value_unref(&values[i]);
    }
    free(inputs);
    free(values);
    free(outputs);
    return status;
}

static int warm_up(struct fm_model *model, const struct fm_model_config *config,
                   struct fm_error *reterr)
{
    uint32_t rows = config->warmup_batch > 0 ? config->warmup_batch : 1;
    uint32_t rows_max = model->batch_max > 0 ? model->batch_max : 1;
    if (rows > rows_max) {
        return fm_error_set(reterr, FM_EINVAL,
                            "warm-up batch of %u rows, but the model takes at most %u", rows,
                            rows_max);
    }
    for (uint32_t i = 0; i < config->warmup_count; i++) {
        for (uint32_t k = 0; k < model->instance_count; k++) {
            uint64_t took_ns;
            int status = fm_model_try(model, k, rows, &took_ns, reterr);
            if (status != 0) {
                return fm_error_prefix(reterr, status, "warm-up");
            }
        }
    }
    return 0;
}

static int load_into(struct fm_model *model, const struct fm_model_config *config,
                     struct fm_error *reterr)
{
    if (config->setting_count + config->device_setting_count > SETTINGS_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "more than %d settings", SETTINGS_MAX);
    }
    size_t room = config->setting_count + config->device_setting_count;
    struct fm_setting *device_settings =
        fm_arena_alloc(&model->arena, room * sizeof(*device_settings));
    struct fm_setting *settings = fm_arena_alloc(&model->arena, room * sizeof(*settings));
    if (device_settings == NULL || settings == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    size_t device_count = 0;
    size_t count = settings_split(config, device_settings, &device_count, settings);
    char version[24];
    (void)snprintf(version, sizeof(version), "%llu", (unsigned long long)config->version);
    struct fm_model_source source = {.struct_size = sizeof(source),
                                     .name = config->name,
                                     .version = version,
                                     .path = config->path};
    bool batchable = false;
    int status = fm_backend_find(config->backend, &model->backend, reterr);
    status = status != 0 ? status
                         : device_acquire(model->backend, device_settings, device_count,
                                          &model->device, reterr);
    /* Through a variable of its own: what a failed load leaves in it must not be unloaded. */
    void *handle = NULL;
    status = status != 0 ? status
                         : model->backend->model_load(model->device->handle, &source, settings,
                                                      count, &handle, reterr);
    model->handle = status == 0 ? handle : NULL;
    status = status != 0 ? status : describe(model, config, &batchable, reterr);
    status = status != 0 ? status : complete_batch(model, config, batchable, reterr);
    status = status != 0 ? status : declarations_check(model, config, reterr);
    status = status != 0 ? status : labels_load(model, config, reterr);
    status = status != 0 ? status : instances_create(model, config, reterr);
    return status != 0 ? status : warm_up(model, config, reterr);
}

int fm_model_load(const struct fm_model_config *config, struct fm_model **ret_model,
                  struct fm_error *reterr)
{
    struct fm_error error = {0};
    struct fm_model *model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "model '%s': out of memory", config->name);
    }
    fm_arena_init(&model->arena, 0);
    int status = load_into(model, config, &error);
    if (status != 0) {
        fm_model_free(model);
        if (error.status == 0) {
            (void)fm_error_set(&error, status, "%s", fm_status_text(status));
        }
        return fm_error_set(reterr, status, "model '%s' version %llu: %s", config->name,
                            (unsigned long long)config->version, error.text);
    }
    *ret_model = model;
    return 0;
}

void fm_model_free(struct fm_model *model)
{
    if (model == NULL) {
        return;
    }
    for (uint32_t i = 0; i < model->instance_count; i++) {
        model->backend->instance_destroy(model->instances[i]);
    }
    if (model->handle != NULL) {
        model->backend->model_unload(model->handle);
    }
    device_release(model->device);
    fm_arena_deinit(&model->arena);
    free(model);
}

/* --- facts --- */

const char *fm_model_name(const struct fm_model *model)
{
    return model->name;
}

uint64_t fm_model_version(const struct fm_model *model)
{
    return model->version;
}

const char *fm_model_platform(const struct fm_model *model)
{
    return model->platform;
}

const char *fm_model_backend_name(const struct fm_model *model)
{
    return model->backend->name;
}

const struct fm_port *fm_model_inputs(const struct fm_model *model, uint32_t *ret_count)
{
    *ret_count = model->input_count;
    return model->inputs;
}

const struct fm_port *fm_model_outputs(const struct fm_model *model, uint32_t *ret_count)
{
    *ret_count = model->output_count;
    return model->outputs;
}

uint32_t fm_model_batch_max(const struct fm_model *model)
{
    return model->batch_max;
}

uint32_t fm_model_instance_count(const struct fm_model *model)
{
    return model->instance_count;
}

const char *const *fm_model_labels(const struct fm_model *model, uint32_t index, size_t *ret_count)
{
    *ret_count = index < model->output_count ? model->labels[index].count : 0;
    return *ret_count > 0 ? (const char *const *)model->labels[index].lines : NULL;
}

uint64_t fm_model_memory(const struct fm_model *model)
{
    bool known = model->backend->struct_size >= offsetof(struct fm_backend, model_memory) +
                                                    sizeof(model->backend->model_memory) &&
                 model->backend->model_memory != NULL;
    return known ? model->backend->model_memory(model->handle) : 0;
}

/* --- running --- */

static int input_check(const struct fm_model *model, const struct fm_port *port,
                       const struct fm_tensor *tensor, struct fm_error *reterr)
{
    char shapes[2][160];
    if (tensor->dtype == FM_DTYPE_INVALID) {
        return (port->flags & FM_PORT_OPTIONAL) != 0
                   ? 0
                   : fm_error_set(reterr, FM_EINVAL, "model '%s': input '%s' is missing",
                                  model->name, port->name);
    }
    if (tensor->dtype != port->dtype) {
        return fm_error_set(reterr, FM_ETYPE, "model '%s': input '%s' must be %s, but is %s",
                            model->name, port->name, fm_dtype_name(port->dtype),
                            fm_dtype_name(tensor->dtype));
    }
    if (tensor->rank > FM_RANK_MAX || !fm_shape_matches(port, tensor->shape, tensor->rank)) {
        return fm_error_set(
            reterr, FM_ETYPE, "model '%s': input '%s' must have shape %s, but has %s", model->name,
            port->name,
            fm_shape_format(port->shape, (uint32_t)port->rank, shapes[0], sizeof(shapes[0])),
            tensor->rank > FM_RANK_MAX
                ? "too many dimensions"
                : fm_shape_format(tensor->shape, tensor->rank, shapes[1], sizeof(shapes[1])));
    }
    int status = fm_tensor_check(tensor, reterr);
    return status != 0
               ? fm_error_prefix(reterr, status, "model '%s': input '%s'", model->name, port->name)
               : 0;
}

/* A bound output must be exactly what the port says: backends write into it as it is. */
static int bound_check(const struct fm_model *model, const struct fm_port *port,
                       const struct fm_tensor *tensor, struct fm_error *reterr)
{
    char shape[160];
    if (tensor->dtype == port->dtype && tensor->rank <= FM_RANK_MAX &&
        fm_shape_matches(port, tensor->shape, tensor->rank)) {
        size_t size = 0;
        if (port->dtype == FM_DTYPE_BYTES) {
            return fm_error_set(reterr, FM_EUNSUPPORTED,
                                "model '%s': output '%s' holds strings, whose size is not known "
                                "before: it cannot be bound",
                                model->name, port->name);
        }
        if (fm_tensor_bytes(tensor->dtype, tensor->shape, tensor->rank, &size) == 0 &&
            size == tensor->size) {
            return 0;
        }
    }
    return fm_error_set(reterr, FM_ETYPE,
                        "model '%s': the buffer bound to output '%s' is not %s%s of the right size",
                        model->name, port->name, fm_dtype_name(port->dtype),
                        fm_shape_format(port->shape, (uint32_t)port->rank, shape, sizeof(shape)));
}

static int execution_check(const struct fm_model *model, struct fm_execution *execution)
{
    struct fm_error *error = &execution->error;
    error->status = 0;
    if (execution->input_count != model->input_count ||
        execution->output_count != model->output_count) {
        return fm_error_set(error, FM_EINVAL,
                            "model '%s' has %u inputs and %u outputs, but %u and %u were given",
                            model->name, model->input_count, model->output_count,
                            execution->input_count, execution->output_count);
    }
    for (uint32_t i = 0; i < model->input_count; i++) {
        int status = input_check(model, &model->inputs[i], &execution->inputs[i], error);
        if (status != 0) {
            return status;
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        const struct fm_output *output = &execution->outputs[i];
        if (output->wanted != 0 && output->tensor.data != NULL) {
            int status = bound_check(model, &model->outputs[i], &output->tensor, error);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

int fm_model_submit(struct fm_model *model, uint32_t index, struct fm_execution *execution)
{
    FM_ASSERT(index < model->instance_count);
    int status = execution_check(model, execution);
    return status != 0 ? status : model->backend->submit(model->instances[index], execution);
}

bool fm_model_executes(const struct fm_model *model)
{
    return model->backend->struct_size >=
               offsetof(struct fm_backend, execute) + sizeof(model->backend->execute) &&
           model->backend->execute != NULL;
}

bool fm_model_never_waits(const struct fm_model *model)
{
    return model->never_waits && fm_model_executes(model);
}

struct waiter {
    struct fm_mutex mutex;
    struct fm_condition condition;
    int status;
    bool done;
};

static void waiter_complete(struct fm_execution *execution, int status)
{
    struct waiter *waiter = execution->user;
    fm_mutex_lock(&waiter->mutex);
    waiter->status = status;
    waiter->done = true;
    fm_condition_signal(&waiter->condition);
    fm_mutex_unlock(&waiter->mutex);
}

static int submit_and_wait(struct fm_model *model, uint32_t index, struct fm_execution *execution)
{
    struct waiter waiter = {.done = false};
    fm_mutex_init(&waiter.mutex);
    fm_condition_init(&waiter.condition);
    execution->complete = waiter_complete;
    execution->user = &waiter;
    int status = model->backend->submit(model->instances[index], execution);
    if (status == 0) {
        fm_mutex_lock(&waiter.mutex);
        while (!waiter.done) {
            fm_condition_wait(&waiter.condition, &waiter.mutex);
        }
        fm_mutex_unlock(&waiter.mutex);
        status = waiter.status;
    }
    fm_condition_deinit(&waiter.condition);
    fm_mutex_deinit(&waiter.mutex);
    return status;
}

int fm_model_run(struct fm_model *model, uint32_t index, struct fm_execution *execution,
                 struct fm_error *reterr)
{
    FM_ASSERT(index < model->instance_count);
    int status = execution_check(model, execution);
    if (status == 0) {
        status = fm_model_executes(model)
                     ? model->backend->execute(model->instances[index], execution)
                     : submit_and_wait(model, index, execution);
    }
    if (status != 0) {
        return fm_error_set(reterr, status, "%s",
                            execution->error.status != 0 ? execution->error.text
                                                         : fm_status_text(status));
    }
    return 0;
}
