/*
 * The instance: runs one batch at a time through an IO binding. execute() runs it on the caller's
 * thread; submit() hands it to a thread of the instance's own, made by the first of them, and
 * returns.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "host/runtime/backends/onnxruntime/ort.h"

static int bind_inputs(struct ort_instance *instance, const struct fm_execution *execution,
                       struct fm_error *reterr)
{
    const struct ort_model *model = instance->model;
    const OrtApi *api = model->device->api;
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (execution->inputs[i].dtype == FM_DTYPE_INVALID) {
            continue; /* an optional input that is absent */
        }
        int status = ort_value_from_tensor(model->device, &execution->inputs[i],
                                           &instance->inputs[i], reterr);
        if (status == 0) {
            status = ort_status(
                model->device,
                api->BindInput(instance->binding, model->inputs[i].name, instance->inputs[i]),
                model->inputs[i].name, reterr);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* ONNX Runtime runs nothing for nobody: without a wanted output it computes the first one, which
 * outputs_read then drops. */
static int bind_any_output(struct ort_instance *instance, struct fm_error *reterr)
{
    const struct ort_model *model = instance->model;
    const char *name = model->outputs[0].name;
    return ort_status(
        model->device,
        model->device->api->BindOutputToDevice(instance->binding, name, model->device->cpu_memory),
        name, reterr);
}

/* Bound outputs are written in place; the others are left to ONNX Runtime, in CPU memory. Unwanted
 * ones are not bound at all. */
static int bind_outputs(struct ort_instance *instance, const struct fm_execution *execution,
                        struct fm_error *reterr)
{
    const struct ort_model *model = instance->model;
    const OrtApi *api = model->device->api;
    bool any = false;
    for (uint32_t i = 0; i < model->output_count; i++) {
        const struct fm_output *output = &execution->outputs[i];
        const char *name = model->outputs[i].name;
        OrtValue *value = NULL;
        int status = 0;
        if (output->wanted == 0) {
            continue;
        }
        any = true;
        if (output->tensor.data != NULL && output->tensor.dtype != FM_DTYPE_BYTES) {
            status = ort_value_from_tensor(model->device, &output->tensor, &value, reterr);
            if (status == 0) {
                status = ort_status(model->device, api->BindOutput(instance->binding, name, value),
                                    name, reterr);
                api->ReleaseValue(value);
            }
        } else if (output->tensor.data != NULL) {
            status = fm_error_set(reterr, FM_EUNSUPPORTED,
                                  "output '%s': strings cannot be written into the caller's buffer",
                                  name);
        } else {
            status = ort_status(
                model->device,
                api->BindOutputToDevice(instance->binding, name, model->device->cpu_memory), name,
                reterr);
        }
        if (status != 0) {
            return status;
        }
    }
    return any ? 0 : bind_any_output(instance, reterr);
}

static void outputs_drop(struct fm_execution *execution)
{
    for (uint32_t i = 0; i < execution->output_count; i++) {
        struct fm_output *output = &execution->outputs[i];
        if (output->release != NULL) {
            output->release(output->release_context);
            output->release = NULL;
            output->tensor.data = NULL;
        }
    }
}

static int outputs_read(struct ort_instance *instance, struct fm_execution *execution,
                        struct fm_error *reterr)
{
    const struct ort_model *model = instance->model;
    const OrtApi *api = model->device->api;
    OrtValue **values = NULL;
    size_t count = 0;
    size_t next = 0;
    int status = ort_status(
        model->device,
        api->GetBoundOutputValues(instance->binding, model->device->allocator, &values, &count),
        "outputs", reterr);
    for (uint32_t i = 0; status == 0 && i < model->output_count; i++) {
        struct fm_output *output = &execution->outputs[i];
        if (output->wanted == 0) {
            continue;
        }
        OrtValue *value = next < count ? values[next] : NULL;
        if (value == NULL) {
            status = fm_error_set(reterr, FM_EINTERNAL, "output '%s' did not come",
                                  model->outputs[i].name);
        } else if (output->tensor.data == NULL) {
            status = ort_value_to_output(model->device, value, output, reterr);
            values[next] = status == 0 ? NULL : value;
        }
        next++;
    }
    for (size_t i = 0; i < count && values != NULL; i++) {
        if (values[i] != NULL) {
            api->ReleaseValue(values[i]);
        }
    }
    if (values != NULL) {
        (void)ort_status(model->device, api->AllocatorFree(model->device->allocator, values),
                         "outputs", NULL);
    }
    if (status != 0) {
        outputs_drop(execution);
    }
    return status;
}

int ort_instance_execute(void *handle, struct fm_execution *execution)
{
    struct ort_instance *instance = handle;
    const struct ort_model *model = instance->model;
    const OrtApi *api = model->device->api;
    execution->start_ns = model->device->host->now_ns();
    int status = bind_inputs(instance, execution, &execution->error);
    status = status != 0 ? status : bind_outputs(instance, execution, &execution->error);
    if (status == 0) {
        status = ort_status(
            model->device,
            api->RunWithBinding(model->session, instance->run_options, instance->binding), "run",
            &execution->error);
    }
    status = status != 0 ? status : outputs_read(instance, execution, &execution->error);
    api->ClearBoundInputs(instance->binding);
    api->ClearBoundOutputs(instance->binding);
    for (uint32_t i = 0; i < model->input_count; i++) {
        if (instance->inputs[i] != NULL) {
            api->ReleaseValue(instance->inputs[i]);
            instance->inputs[i] = NULL;
        }
    }
    execution->end_ns = model->device->host->now_ns();
    return status;
}

static void *instance_main(void *argument)
{
    struct ort_instance *instance = argument;
    pthread_mutex_lock(&instance->mutex);
    for (;;) {
        while (instance->pending == NULL && !instance->stopping) {
            pthread_cond_wait(&instance->wake, &instance->mutex);
        }
        struct fm_execution *execution = instance->pending;
        if (execution == NULL) {
            break;
        }
        instance->pending = NULL;
        pthread_mutex_unlock(&instance->mutex);
        int status = ort_instance_execute(instance, execution);
        execution->complete(execution, status);
        pthread_mutex_lock(&instance->mutex);
    }
    pthread_mutex_unlock(&instance->mutex);
    return NULL;
}

/* Signals are the host's business: the new thread starts with all of them blocked. */
static int thread_start(struct ort_instance *instance, struct fm_error *reterr)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&instance->thread, NULL, instance_main, instance);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        return fm_error_set(reterr, FM_ELIMIT, "cannot start a thread for the instance: %s",
                            strerror(error));
    }
    (void)pthread_setname_np(instance->thread, "fm-onnxruntime");
    instance->has_thread = true;
    return 0;
}

static void instance_free(struct ort_instance *instance)
{
    const OrtApi *api = instance->model->device->api;
    if (instance->binding != NULL) {
        api->ReleaseIoBinding(instance->binding);
    }
    if (instance->run_options != NULL) {
        api->ReleaseRunOptions(instance->run_options);
    }
    pthread_cond_destroy(&instance->wake);
    pthread_mutex_destroy(&instance->mutex);
    free(instance->inputs);
    free(instance);
}

int ort_instance_create(void *handle, const struct fm_setting *settings, size_t setting_count,
                        void **ret_instance, struct fm_error *reterr)
{
    struct ort_model *model = handle;
    if (setting_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "onnxruntime: an instance has no settings, but '%s' was given",
                            settings[0].key);
    }
    struct ort_instance *instance = calloc(1, sizeof(*instance));
    if (instance == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
    }
    instance->model = model;
    pthread_mutex_init(&instance->mutex, NULL);
    pthread_cond_init(&instance->wake, NULL);
    instance->inputs = calloc((size_t)model->input_count + 1, sizeof(OrtValue *));
    int status = instance->inputs == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory")
                     : 0;
    const OrtApi *api = model->device->api;
    status = status != 0 ? status
                         : ort_status(model->device,
                                      api->CreateIoBinding(model->session, &instance->binding),
                                      "binding", reterr);
    status = status != 0 ? status
                         : ort_status(model->device, api->CreateRunOptions(&instance->run_options),
                                      "run options", reterr);
    if (status != 0) {
        instance_free(instance);
        return status;
    }
    *ret_instance = instance;
    return 0;
}

void ort_instance_destroy(void *handle)
{
    struct ort_instance *instance = handle;
    if (instance == NULL) {
        return;
    }
    pthread_mutex_lock(&instance->mutex);
    instance->stopping = true;
    pthread_cond_signal(&instance->wake);
    pthread_mutex_unlock(&instance->mutex);
    if (instance->has_thread) {
        pthread_join(instance->thread, NULL);
    }
    instance_free(instance);
}

int ort_instance_submit(void *handle, struct fm_execution *execution)
{
    struct ort_instance *instance = handle;
    int status = 0;
    pthread_mutex_lock(&instance->mutex);
    if (instance->pending != NULL) {
        status =
            fm_error_set(&execution->error, FM_EAGAIN, "the instance has a batch waiting already");
    } else {
        status = instance->has_thread ? 0 : thread_start(instance, &execution->error);
    }
    if (status == 0) {
        instance->pending = execution;
        pthread_cond_signal(&instance->wake);
    }
    pthread_mutex_unlock(&instance->mutex);
    return status;
}
