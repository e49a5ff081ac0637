/*
 * A plug-in of ABI 1.0, kept as it was: it gives back one FP32 tensor. It must go on loading and
 * running whatever ABI 1.x becomes.
 *
 * The structs are copies of fermata/backend.h and fermata/tensor.h of 1.0, on purpose: including
 * today's headers would prove nothing. Never bring them up to date.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct error_1_0 {
    int32_t status;
    char text[512];
};
struct tensor_1_0 {
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[16];
    void *data;
    size_t size;
};
struct port_1_0 {
    const char *name;
    uint32_t dtype;
    int32_t rank;
    int64_t shape[16];
    uint32_t flags;
    uint32_t reserved;
};
struct setting_1_0 {
    const char *key;
    const char *value;
};
struct host_1_0 {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint64_t (*now_ns)(void);
    void (*log)(int level, const char *text);
};
struct source_1_0 {
    uint32_t struct_size;
    const char *name;
    const char *version;
    const char *path;
};
struct info_1_0 {
    uint32_t struct_size;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t batch_dimension;
    const struct port_1_0 *inputs;
    const struct port_1_0 *outputs;
    const char *platform;
};
struct output_1_0 {
    struct tensor_1_0 tensor;
    void (*release)(void *release_context);
    void *release_context;
    uint32_t wanted;
    uint32_t reserved;
};
struct execution_1_0 {
    uint32_t struct_size;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t batch_size;
    const struct tensor_1_0 *inputs;
    struct output_1_0 *outputs;
    void (*complete)(struct execution_1_0 *execution, int status);
    void *user;
    uint64_t start_ns;
    uint64_t end_ns;
    struct error_1_0 error;
};
struct backend_1_0 {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *name;
    const char *version;
    const char *description;
    int (*device_open)(const struct host_1_0 *host, const struct setting_1_0 *settings,
                       size_t setting_count, void **ret_device, struct error_1_0 *reterr);
    void (*device_close)(void *device);
    int (*model_load)(void *device, const struct source_1_0 *source,
                      const struct setting_1_0 *settings, size_t setting_count, void **ret_model,
                      struct error_1_0 *reterr);
    void (*model_unload)(void *model);
    int (*model_info)(void *model, struct info_1_0 *ret_info);
    int (*instance_create)(void *model, const struct setting_1_0 *settings, size_t setting_count,
                           void **ret_instance, struct error_1_0 *reterr);
    void (*instance_destroy)(void *instance);
    int (*submit)(void *instance, struct execution_1_0 *execution);
};

enum { DTYPE_FP32 = 11, STATUS_ENOMEM = -8 };

static int device_open(const struct host_1_0 *host, const struct setting_1_0 *settings,
                       size_t setting_count, void **ret_device, struct error_1_0 *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_device = (void *)(uintptr_t)host;
    return host->struct_size >= sizeof(*host) ? 0 : -1;
}

static void nothing(void *handle)
{
    (void)handle;
}

static int model_load(void *device, const struct source_1_0 *source,
                      const struct setting_1_0 *settings, size_t setting_count, void **ret_model,
                      struct error_1_0 *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_model = device;
    return source->name != NULL && source->version != NULL ? 0 : -1;
}

static int model_info(void *model, struct info_1_0 *ret_info)
{
    static const struct port_1_0 input = {
        .name = "x", .dtype = DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    static const struct port_1_0 output = {
        .name = "out_x", .dtype = DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    (void)model;
    ret_info->input_count = 1;
    ret_info->output_count = 1;
    ret_info->batch_dimension = 1;
    ret_info->inputs = &input;
    ret_info->outputs = &output;
    ret_info->platform = "old";
    return 0;
}

static int instance_create(void *model, const struct setting_1_0 *settings, size_t setting_count,
                           void **ret_instance, struct error_1_0 *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_instance = model;
    return 0;
}

static int submit(void *instance, struct execution_1_0 *execution)
{
    const struct host_1_0 *host = instance;
    struct output_1_0 *output = &execution->outputs[0];
    int status = 0;
    execution->start_ns = host->now_ns();
    if (output->wanted != 0 && output->tensor.data == NULL) {
        void *copy = malloc(execution->inputs[0].size + 1);
        status = copy == NULL ? STATUS_ENOMEM : 0;
        output->tensor = execution->inputs[0];
        output->tensor.data = copy;
        output->release = free;
        output->release_context = copy;
    }
    if (status == 0 && output->wanted != 0 && execution->inputs[0].size > 0) {
        memcpy(output->tensor.data, execution->inputs[0].data, execution->inputs[0].size);
    }
    execution->end_ns = host->now_ns();
    execution->complete(execution, status);
    return 0;
}

static const struct backend_1_0 table = {.struct_size = sizeof(struct backend_1_0),
                                         .abi_major = 1,
                                         .abi_minor = 0,
                                         .name = "old",
                                         .version = "1",
                                         .description = "ABI 1.0",
                                         .device_open = device_open,
                                         .device_close = nothing,
                                         .model_load = model_load,
                                         .model_unload = nothing,
                                         .model_info = model_info,
                                         .instance_create = instance_create,
                                         .instance_destroy = nothing,
                                         .submit = submit};

__attribute__((visibility("default"))) const struct backend_1_0 *fm_backend_entry(
    uint16_t host_abi_major, uint16_t host_abi_minor);

const struct backend_1_0 *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    (void)host_abi_minor;
    return host_abi_major == 1 ? &table : NULL;
}
