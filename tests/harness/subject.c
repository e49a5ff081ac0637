/*
 * Backends under test. See subject.h.
 */
#include "tests/harness/subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/text.h"
#include "host/os/file.h"
#include "tests/harness/onnx_writer.h"

static bool supports_everything(uint32_t dtype)
{
    return dtype != FM_DTYPE_INVALID;
}

/* ONNX Runtime has no kernels for complex numbers on a CPU. */
static bool supports_real(uint32_t dtype)
{
    return dtype != FM_DTYPE_INVALID && dtype != FM_DTYPE_COMPLEX64 && dtype != FM_DTYPE_COMPLEX128;
}

const struct fm_subject fm_subject_onnxruntime = {
    .backend = "onnxruntime", .echoes = true, .supports = supports_real};
const struct fm_subject fm_subject_emulated = {.backend = "emulated",
                                               .supports = supports_everything};
const struct fm_subject fm_subject_identity = {
    .backend = "identity", .echoes = true, .inlines = true, .supports = supports_everything};

static char folder[64];

static void folder_remove(void)
{
    struct fm_file_list list = {0};
    if (fm_file_list(folder, &list, NULL) == 0) {
        for (size_t i = 0; i < list.count; i++) {
            char path[512];
            if (fm_path_join(path, sizeof(path), folder, list.names[i]) == 0 && unlink(path) != 0) {
                (void)rmdir(path);
            }
        }
        fm_file_list_free(&list);
    }
    (void)rmdir(folder);
}

const char *fm_subject_path(const char *name)
{
    static char paths[8][256];
    static size_t next;
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/fermata-conformance-XXXXXX");
        if (mkdtemp(folder) == NULL || atexit(folder_remove) != 0) {
            abort();
        }
    }
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

/* "x:FP32[-1,4], y:..." with a prefix before every name. */
static char *port_list(const struct fm_port *ports, size_t count, const char *prefix)
{
    struct fm_text text = {0};
    for (size_t i = 0; i < count; i++) {
        char shape[400];
        fm_text_append_format(
            &text, "%s%s%s:%s%s", i > 0 ? ", " : "", prefix, ports[i].name,
            fm_dtype_name(ports[i].dtype),
            fm_shape_format(ports[i].shape, (uint32_t)ports[i].rank, shape, sizeof(shape)));
    }
    return fm_text_take(&text);
}

static int config_fill(const struct fm_subject *subject, const struct fm_port *inputs, size_t count,
                       struct fm_model_config *config)
{
    static unsigned serial;
    if (strcmp(subject->backend, "onnxruntime") == 0) {
        char name[40];
        (void)snprintf(name, sizeof(name), "identity-%u.onnx", serial++);
        config->path = fm_arena_strdup(&config->arena, fm_subject_path(name));
        return config->path == NULL ? FM_ENOMEM
                                    : fm_onnx_save_identity(config->path, inputs, count);
    }
    char *list = port_list(inputs, count, "");
    int status = list == NULL ? FM_ENOMEM : fm_model_config_set(config, "inputs", list, NULL);
    fm_free(list);
    if (status == 0 && strcmp(subject->backend, "emulated") == 0) {
        list = port_list(inputs, count, "out_");
        status = list == NULL ? FM_ENOMEM : fm_model_config_set(config, "outputs", list, NULL);
        fm_free(list);
    }
    return status;
}

int fm_subject_config(const struct fm_subject *subject, const struct fm_port *inputs, size_t count,
                      uint32_t instances, struct fm_model_config *ret_config)
{
    fm_model_config_init(ret_config);
    ret_config->name = "subject";
    ret_config->version = 3;
    ret_config->backend = subject->backend;
    ret_config->instance_count = instances;
    int status = config_fill(subject, inputs, count, ret_config);
    if (status != 0) {
        fm_model_config_deinit(ret_config);
    }
    return status;
}

int fm_subject_load(const struct fm_subject *subject, const struct fm_port *inputs, size_t count,
                    uint32_t instances, struct fm_model **ret_model, struct fm_error *reterr)
{
    struct fm_model_config config;
    int status = fm_subject_config(subject, inputs, count, instances, &config);
    if (status != 0) {
        return status;
    }
    status = fm_model_load(&config, ret_model, reterr);
    fm_model_config_deinit(&config);
    return status;
}

void fm_subject_run_init(struct fm_subject_run *run, uint32_t input_count, uint32_t output_count,
                         uint32_t rows)
{
    *run = (struct fm_subject_run){.execution = {.struct_size = sizeof(run->execution),
                                                 .input_count = input_count,
                                                 .output_count = output_count,
                                                 .batch_size = rows}};
    run->execution.inputs = run->inputs;
    run->execution.outputs = run->outputs;
    for (uint32_t i = 0; i < output_count; i++) {
        run->outputs[i].wanted = 1;
    }
}

void fm_subject_run_release(struct fm_subject_run *run)
{
    for (uint32_t i = 0; i < run->execution.output_count; i++) {
        struct fm_output *output = &run->outputs[i];
        if (output->release != NULL) {
            output->release(output->release_context);
        }
        *output = (struct fm_output){.wanted = 1};
    }
}

struct fm_tensor fm_subject_tensor(uint32_t dtype, const int64_t *shape, uint32_t rank, void *data,
                                   size_t size)
{
    struct fm_tensor tensor = {.dtype = dtype, .rank = rank, .data = data, .size = size};
    for (uint32_t i = 0; i < rank; i++) {
        tensor.shape[i] = shape[i];
    }
    return tensor;
}
