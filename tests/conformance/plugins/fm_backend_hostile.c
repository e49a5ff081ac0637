/*
 * A plug-in that lies. What about is told by the environment variable FM_HOSTILE (the table, read
 * each time the plug-in is loaded) or by the model's setting `lie` (everything behind the table).
 * Without either it is a decent plug-in of one FP32 tensor that answers nothing.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fermata/backend.h"

static struct fm_port ports[2000];
static const char *lie = "";
static bool load_failed;

static int device_open(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_device, struct fm_error *reterr)
{
    (void)settings;
    (void)reterr;
    *ret_device = (void *)(uintptr_t)host;
    return setting_count > 0 ? FM_EINTERNAL : 0;
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
    (void)reterr;
    lie = "";
    for (size_t i = 0; i < setting_count; i++) {
        lie = strcmp(settings[i].key, "lie") == 0 ? settings[i].value : lie;
    }
    *ret_model = device;
    load_failed = strcmp(lie, "wordless failure") == 0;
    return load_failed ? FM_ECORRUPT : 0;
}

/* After a failed load there is nothing to unload, whatever the load left behind. */
static void model_unload(void *handle)
{
    (void)handle;
    if (load_failed) {
        abort();
    }
}

static int model_info(void *model, struct fm_model_info *ret_info)
{
    static struct fm_port output;
    (void)model;
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        ports[i] =
            (struct fm_port){.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    }
    output = ports[0];
    output.name = "y";
    ret_info->input_count = 1;
    ret_info->output_count = 1;
    ret_info->inputs = ports;
    ret_info->outputs = &output;
    if (strcmp(lie, "negative rank") == 0) {
        ports[0].rank = -3;
    } else if (strcmp(lie, "high rank") == 0) {
        ports[0].rank = 17;
    } else if (strcmp(lie, "no name") == 0) {
        ports[0].name = NULL;
    } else if (strcmp(lie, "empty name") == 0) {
        output.name = "";
    } else if (strcmp(lie, "unknown type") == 0) {
        ports[0].dtype = 99;
    } else if (strcmp(lie, "negative dimension") == 0) {
        ports[0].shape[1] = -7;
    } else if (strcmp(lie, "too many") == 0) {
        ret_info->input_count = 2000;
    } else if (strcmp(lie, "null ports") == 0) {
        ret_info->inputs = NULL;
    } else if (strcmp(lie, "same name") == 0) {
        ret_info->input_count = 2;
    } else if (strcmp(lie, "no outputs") == 0) {
        ret_info->output_count = 0;
    }
    return strcmp(lie, "no info") == 0 ? FM_EINTERNAL : 0;
}

static int instance_create(void *model, const struct fm_setting *settings, size_t setting_count,
                           void **ret_instance, struct fm_error *reterr)
{
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_instance = model;
    return strcmp(lie, "no instance") == 0 ? FM_ELIMIT : 0;
}

static int submit(void *instance, struct fm_execution *execution)
{
    (void)instance;
    (void)execution;
    return FM_EUNAVAILABLE; /* and not a word why */
}

static struct fm_backend decent(void)
{
    return (struct fm_backend){.struct_size = sizeof(struct fm_backend),
                               .abi_major = FM_BACKEND_ABI_MAJOR,
                               .abi_minor = FM_BACKEND_ABI_MINOR,
                               .name = "hostile",
                               .version = "1",
                               .description = "lies",
                               .device_open = device_open,
                               .device_close = nothing,
                               .model_load = model_load,
                               .model_unload = model_unload,
                               .model_info = model_info,
                               .instance_create = instance_create,
                               .instance_destroy = nothing,
                               .submit = submit};
}

FM_PLUGIN_EXPORT const struct fm_backend *fm_backend_entry(uint16_t host_abi_major,
                                                           uint16_t host_abi_minor);

const struct fm_backend *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    static struct fm_backend table;
    const char *wanted = getenv("FM_HOSTILE");
    (void)host_abi_major;
    (void)host_abi_minor;
    wanted = wanted != NULL ? wanted : "";
    table = decent();
    if (strcmp(wanted, "null") == 0) {
        return NULL;
    }
    if (strcmp(wanted, "major") == 0) {
        table.abi_major = FM_BACKEND_ABI_MAJOR + 1;
    } else if (strcmp(wanted, "tiny") == 0) {
        table.struct_size = 4;
    } else if (strcmp(wanted, "short") == 0) {
        table.struct_size = offsetof(struct fm_backend, submit);
    } else if (strcmp(wanted, "function") == 0) {
        table.model_info = NULL;
    } else if (strcmp(wanted, "name") == 0) {
        table.name = NULL;
    } else if (strcmp(wanted, "bad name") == 0) {
        table.name = "../../etc";
    } else if (strcmp(wanted, "other name") == 0) {
        table.name = "somebody_else";
    }
    return &table;
}
