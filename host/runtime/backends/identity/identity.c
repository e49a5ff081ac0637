/*
 * The identity backend: gives back what it gets, inside submit(). It measures what Fermata itself
 * costs, and serves tests as a model of any type.
 *
 * Settings of a model: `inputs` (default "x:FP32[-1,-1]"), see port_list.h. Output i is called like
 * input i with "out_" in front, unless `outputs` lists names. The bytes are copied: they are the
 * caller's only until completion. Thread rule: as fermata/backend.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/runtime/backends/common/port_list.h"

struct model {
    const struct fm_host *host;
    struct port_list inputs;
    struct port_list outputs;
};

static int device_open(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_device, struct fm_error *reterr)
{
    if (setting_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "identity: a device has no settings, but '%s' was given",
                            settings[0].key);
    }
    *ret_device = (void *)(uintptr_t)host;
    return 0;
}

static void device_close(void *device)
{
    (void)device;
}

/* Output names from a comma-separated list, one for each input; types are the inputs'. */
static int outputs_name(struct model *model, const char *names, struct fm_error *reterr)
{
    uint32_t count = model->inputs.count;
    model->outputs = model->inputs;
    for (uint32_t i = 0; i < count; i++) {
        char name[PORT_NAME_SIZE];
        if (names == NULL) {
            (void)snprintf(name, sizeof(name), "out_%.50s", model->inputs.names[i]);
        } else {
            names += strspn(names, " ");
            size_t length = strcspn(names, ", ");
            const char *rest = names + length + strspn(names + length, " ");
            bool last = i + 1 == count;
            if (length == 0 || length >= sizeof(name) || *rest != (last ? '\0' : ',')) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "identity: 'outputs' must be %u name%s of at most %d bytes, "
                                    "with commas between: "
                                    "one for each input; see '%.40s'",
                                    count, count == 1 ? "" : "s", PORT_NAME_SIZE - 1, names);
            }
            (void)snprintf(name, sizeof(name), "%.*s", (int)length, names);
            names = rest + (last ? 0 : 1);
        }
        memcpy(model->outputs.names[i], name, sizeof(name));
        model->outputs.ports[i].name = model->outputs.names[i];
    }
    return 0;
}

static int model_load(void *device, const struct fm_model_source *source,
                      const struct fm_setting *settings, size_t setting_count, void **ret_model,
                      struct fm_error *reterr)
{
    const char *inputs = "x:FP32[-1,-1]";
    const char *outputs = NULL;
    (void)source;
    for (size_t i = 0; i < setting_count; i++) {
        if (strcmp(settings[i].key, "inputs") == 0) {
            inputs = settings[i].value;
        } else if (strcmp(settings[i].key, "outputs") == 0) {
            outputs = settings[i].value;
        } else {
            static const char *const known[] = {"inputs", "outputs"};
            const char *nearest = fm_text_suggest(settings[i].key, known, 2);
            return fm_error_set(
                reterr, FM_EINVAL, "identity: unknown setting '%s'; %s%s%s", settings[i].key,
                nearest != NULL ? "did you mean '" : "there are 'inputs' and 'outputs",
                nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "'");
        }
    }
    struct model *model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "identity: out of memory");
    }
    model->host = device;
    int status = port_list_parse(&model->inputs, "inputs", inputs, reterr);
    status = status != 0 ? status : outputs_name(model, outputs, reterr);
    if (status != 0) {
        free(model);
        return status;
    }
    *ret_model = model;
    return 0;
}

static void model_unload(void *model)
{
    free(model);
}

static int model_info(void *handle, struct fm_model_info *ret_info)
{
    struct model *model = handle;
    ret_info->input_count = model->inputs.count;
    ret_info->output_count = model->outputs.count;
    ret_info->inputs = model->inputs.ports;
    ret_info->outputs = model->outputs.ports;
    ret_info->batch_dimension = port_list_is_batchable(&model->inputs) ? 1 : 0;
    ret_info->platform = "identity";
    if (ret_info->struct_size >=
        offsetof(struct fm_model_info, never_waits) + sizeof(ret_info->never_waits)) {
        ret_info->never_waits = 1;
    }
    return 0;
}

static uint64_t model_memory(void *model)
{
    (void)model;
    return sizeof(struct model);
}

static int instance_create(void *model, const struct fm_setting *settings, size_t setting_count,
                           void **ret_instance, struct fm_error *reterr)
{
    if (setting_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "identity: an instance has no settings, but '%s' was given",
                            settings[0].key);
    }
    *ret_instance = model;
    return 0;
}

static void instance_destroy(void *instance)
{
    (void)instance;
}

static int output_fill(const struct fm_tensor *input, struct fm_output *output,
                       struct fm_error *reterr)
{
    if (output->tensor.data != NULL) {
        if (output->tensor.size != input->size) {
            return fm_error_set(reterr, FM_ETYPE,
                                "identity: the bound output has %zu bytes, the input %zu",
                                output->tensor.size, input->size);
        }
        if (input->size > 0) {
            memcpy(output->tensor.data, input->data, input->size);
        }
        return 0;
    }
    void *copy = malloc(input->size > 0 ? input->size : 1);
    if (copy == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "identity: out of memory for %zu bytes",
                            input->size);
    }
    if (input->size > 0) {
        memcpy(copy, input->data, input->size);
    }
    output->tensor = *input;
    output->tensor.data = copy;
    output->release = free;
    output->release_context = copy;
    return 0;
}

static int execute(void *instance, struct fm_execution *execution)
{
    const struct model *model = instance;
    int status = 0;
    execution->start_ns = model->host->now_ns();
    for (uint32_t i = 0; status == 0 && i < execution->output_count; i++) {
        if (execution->outputs[i].wanted != 0) {
            status = output_fill(&execution->inputs[i], &execution->outputs[i], &execution->error);
        }
    }
    for (uint32_t i = 0; status != 0 && i < execution->output_count; i++) {
        if (execution->outputs[i].release != NULL) {
            execution->outputs[i].release(execution->outputs[i].release_context);
            execution->outputs[i].release = NULL;
            execution->outputs[i].tensor.data = NULL;
        }
    }
    execution->end_ns = model->host->now_ns();
    return status;
}

static int submit(void *instance, struct fm_execution *execution)
{
    execution->complete(execution, execute(instance, execution));
    return 0;
}

static const struct fm_backend table = {.struct_size = sizeof(struct fm_backend),
                                        .abi_major = FM_BACKEND_ABI_MAJOR,
                                        .abi_minor = FM_BACKEND_ABI_MINOR,
                                        .name = "identity",
                                        .version = "1",
                                        .description =
                                            "gives back its inputs: measures our own overhead",
                                        .device_open = device_open,
                                        .device_close = device_close,
                                        .model_load = model_load,
                                        .model_unload = model_unload,
                                        .model_info = model_info,
                                        .instance_create = instance_create,
                                        .instance_destroy = instance_destroy,
                                        .submit = submit,
                                        .model_memory = model_memory,
                                        .execute = execute};

FM_PLUGIN_EXPORT const struct fm_backend *fm_backend_entry(uint16_t host_abi_major,
                                                           uint16_t host_abi_minor);

const struct fm_backend *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    (void)host_abi_minor;
    return host_abi_major == FM_BACKEND_ABI_MAJOR ? &table : NULL;
}
