/*
 * A backend that says that it never waits, and waits: as many milliseconds as a batch's first
 * number is above 100000. Apart from that it answers what it was asked, x FP32[-1,4] as y.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fermata/backend.h"

static const struct fm_host *the_host;

static int device_open(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_device, struct fm_error *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    the_host = host;
    *ret_device = (void *)(uintptr_t)host;
    return 0;
}

static void nothing(void *handle)
{
    (void)handle;
}

static int model_load(void *device, const struct fm_model_source *source,
                      const struct fm_setting *settings, size_t setting_count, void **ret_model,
                      struct fm_error *reterr)
{
    (void)source;
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_model = device;
    return 0;
}

static int model_info(void *model, struct fm_model_info *ret_info)
{
    static const struct fm_port x = {
        .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    static const struct fm_port y = {
        .name = "y", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    (void)model;
    ret_info->input_count = 1;
    ret_info->output_count = 1;
    ret_info->batch_dimension = 1;
    ret_info->inputs = &x;
    ret_info->outputs = &y;
    ret_info->never_waits = 1;
    return 0;
}

static int instance_create(void *model, const struct fm_setting *settings, size_t setting_count,
                           void **ret_instance, struct fm_error *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_instance = model;
    return 0;
}

static int execute(void *instance, struct fm_execution *execution)
{
    const struct fm_tensor *input = &execution->inputs[0];
    struct fm_output *output = &execution->outputs[0];
    const float first = *(const float *)input->data;
    (void)instance;
    execution->start_ns = the_host->now_ns();
    if (first > 100000) {
        long ms = (long)(first - 100000);
        struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        (void)nanosleep(&wait, NULL);
    }
    output->tensor = *input;
    output->tensor.data = malloc(input->size);
    if (output->tensor.data == NULL) {
        return FM_ENOMEM;
    }
    memcpy(output->tensor.data, input->data, input->size);
    output->release = free;
    output->release_context = output->tensor.data;
    execution->end_ns = the_host->now_ns();
    return 0;
}

static int submit(void *instance, struct fm_execution *execution)
{
    execution->complete(execution, execute(instance, execution));
    return 0;
}

FM_PLUGIN_EXPORT const struct fm_backend *fm_backend_entry(uint16_t host_abi_major,
                                                           uint16_t host_abi_minor);

const struct fm_backend *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    static const struct fm_backend table = {.struct_size = sizeof(struct fm_backend),
                                            .abi_major = FM_BACKEND_ABI_MAJOR,
                                            .abi_minor = FM_BACKEND_ABI_MINOR,
                                            .name = "dawdles",
                                            .version = "1",
                                            .description = "waits, though it says it never does",
                                            .device_open = device_open,
                                            .device_close = nothing,
                                            .model_load = model_load,
                                            .model_unload = nothing,
                                            .model_info = model_info,
                                            .instance_create = instance_create,
                                            .instance_destroy = nothing,
                                            .submit = submit,
                                            .execute = execute};
    (void)host_abi_major;
    (void)host_abi_minor;
    return &table;
}
