/*
 * What the files of the onnxruntime backend share.
 *
 * Owns: the shapes of device, model and instance inside this plug-in. Thread rule: a device and a
 * model are read-only once made; an instance belongs to its own thread, and to its mutex where
 * submit touches it.
 */
#ifndef FM_HOST_RUNTIME_BACKENDS_ONNXRUNTIME_ORT_H
#define FM_HOST_RUNTIME_BACKENDS_ONNXRUNTIME_ORT_H

#include <onnxruntime_c_api.h>
#include <pthread.h>
#include <stdbool.h>

#include "fermata/backend.h"

enum { ORT_OPTIONS_MAX = 64 };

struct ort_device {
    const struct fm_host *host;
    const OrtApi *api;
    OrtEnv *environment;
    OrtMemoryInfo *cpu_memory;
    OrtAllocator *allocator;            /* the default one, not owned */
    char *provider;                     /* "cpu", "cuda", ... */
    char *option_keys[ORT_OPTIONS_MAX]; /* provider options */
    char *option_values[ORT_OPTIONS_MAX];
    size_t option_count;
};

struct ort_model {
    struct ort_device *device;
    OrtSession *session;
    struct fm_port *inputs;
    struct fm_port *outputs;
    uint32_t input_count;
    uint32_t output_count;
    bool batchable;
    bool never_waits;
    uint64_t file_size;
};

struct ort_instance {
    struct ort_model *model;
    OrtIoBinding *binding;
    OrtRunOptions *run_options;
    OrtValue **inputs; /* of the batch in progress */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct fm_execution *pending; /* handed over, not taken yet */
    bool has_thread;
    bool stopping;
};

/* Turns an OrtStatus into a status and words (one line, no path of ONNX Runtime's sources), and
 * releases it. NULL is success. */
int ort_status(const struct ort_device *device, OrtStatus *take_status, const char *what,
               struct fm_error *reterr);

/* Element types, both ways; FM_DTYPE_INVALID and UNDEFINED where there is no counterpart. */
uint32_t ort_dtype_from(ONNXTensorElementDataType type);
ONNXTensorElementDataType ort_dtype_to(uint32_t dtype);

int ort_device_open(const struct fm_host *host, const struct fm_setting *settings,
                    size_t setting_count, void **ret_device, struct fm_error *reterr);
void ort_device_close(void *device);
/* Adds the device's execution provider to session options. */
int ort_provider_append(const struct ort_device *device, OrtSessionOptions *options,
                        struct fm_error *reterr);

/*
 * Makes the process's shared CPU arena, which sessions use when told so, with this way of growing.
 * There is one: a second call with another way fails.
 */
int ort_arena_share(const struct ort_device *device, bool as_requested, struct fm_error *reterr);

int ort_model_load(void *device, const struct fm_model_source *source,
                   const struct fm_setting *settings, size_t setting_count, void **ret_model,
                   struct fm_error *reterr);
void ort_model_unload(void *model);
int ort_model_info(void *model, struct fm_model_info *ret_info);
uint64_t ort_model_memory(void *model);

int ort_instance_create(void *model, const struct fm_setting *settings, size_t setting_count,
                        void **ret_instance, struct fm_error *reterr);
void ort_instance_destroy(void *instance);
int ort_instance_submit(void *instance, struct fm_execution *execution);
int ort_instance_execute(void *instance, struct fm_execution *execution);

/* An OrtValue over (or, for strings, from) the caller's tensor. */
int ort_value_from_tensor(const struct ort_device *device, const struct fm_tensor *tensor,
                          OrtValue **ret_value, struct fm_error *reterr);
/* Fills output->tensor and its release from the value, which is taken on success. */
int ort_value_to_output(const struct ort_device *device, OrtValue *take_value,
                        struct fm_output *output, struct fm_error *reterr);

#endif
