/*
 * The backend plug-in ABI: how Fermata runs models on a runtime (ONNX Runtime, an emulation, a GPU
 * library, ...).
 *
 * A backend is a shared object that exports fm_backend_entry(). Objects form a chain: backend ->
 * device -> model -> instance. A device is where models live (a CPU, a GPU). A model is loaded
 * weights. An instance executes one batch at a time: it is what the scheduler calls an accelerator.
 *
 * Compatibility: a struct that may grow begins with struct_size, its size as the side that made it
 * knew it; tables carry abi_major and abi_minor. Fields are only ever appended. A host refuses
 * another major; it treats a field beyond struct_size as absent (NULL), and so does a plug-in. Who
 * fills in a struct that the other side made sets its fields one by one and none beyond
 * struct_size: assigning the whole struct would write over what stands behind a smaller one.
 * Structs without struct_size (fm_port, fm_tensor, fm_setting, fm_output, fm_error) stand in arrays
 * and in other structs, and never change within a major.
 *
 * Thread rules: device_open, model_load, instance_create and their opposites may be called from any
 * thread, not concurrently for the same object. submit() is called by one thread at a time per
 * instance; different instances run concurrently. submit() never blocks on the computation: it
 * hands over and returns; `complete` is called exactly once, from any thread, possibly from within
 * submit(). Destruction in reverse order of creation, only with no execution in flight.
 */
#ifndef FERMATA_BACKEND_H
#define FERMATA_BACKEND_H

#include "fermata/status.h"
#include "fermata/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FM_BACKEND_ABI_MAJOR 1
#define FM_BACKEND_ABI_MINOR 3

enum fm_log_level { FM_LOG_DEBUG, FM_LOG_INFO, FM_LOG_WARNING, FM_LOG_ERROR };

/* What the host offers a plug-in. Valid as long as the plug-in is loaded. Every function is thread
 * safe. */
struct fm_host {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint64_t (*now_ns)(void);                               /* monotonic */
    void (*log)(enum fm_log_level level, const char *text); /* text is copied */
};

/* Where a model's bytes are. */
struct fm_model_source {
    uint32_t struct_size;
    const char *name;    /* model name, for messages */
    const char *version; /* decimal version, for messages */
    const char *path;    /* file to load; NULL for backends that need none */
};

/* What a loaded model looks like. All pointers belong to the model and live until model_unload().
 */
struct fm_model_info {
    uint32_t struct_size;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t batch_dimension; /* 1 where dimension 0 of every input and output is variable: requests
                                 can be batched */
    const struct fm_port *inputs;
    const struct fm_port *outputs;
    const char *platform; /* for metadata, e.g. "onnxruntime_onnx" */

    /* Since 1.3. 1: execute() computes on the calling thread from its beginning to its end, waits
     * for no device, file or other thread, and takes a time that the sizes of its inputs bound,
     * whatever is in them. Batches that take less than waking a thread may then be run by the event
     * loop that brings them. */
    uint32_t never_waits;
    uint32_t reserved;
};

/*
 * One output of an execution. Before submit the caller sets `wanted`, and either leaves tensor.data
 * NULL (the backend allocates) or sets tensor completely to a buffer of its own of exactly the
 * right dtype, shape and size (bound output, no copy). After completion with status 0 tensor is
 * filled in; if `release` is set, the caller must call release(release_context) once when done with
 * the bytes.
 */
struct fm_output {
    struct fm_tensor tensor;
    void (*release)(void *release_context);
    void *release_context;
    uint32_t wanted;
    uint32_t reserved;
};

/*
 * One batch. Owned by the caller, untouched by it between submit and complete. inputs[i] belongs to
 * port i of the model's inputs; an absent optional input has dtype FM_DTYPE_INVALID. Input bytes
 * are borrowed until complete.
 */
struct fm_execution {
    uint32_t struct_size;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t batch_size; /* rows, for backends whose time depends on it; 1 for unbatched models */
    const struct fm_tensor *inputs;
    struct fm_output *outputs;
    void (*complete)(struct fm_execution *execution, int status); /* set by the caller */
    void *user;                                                   /* the caller's */
    uint64_t start_ns;     /* set by the backend: when computing began */
    uint64_t end_ns;       /* and ended */
    struct fm_error error; /* set by the backend when status < 0 */
};

struct fm_backend {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *name;        /* as in configuration: "onnxruntime" */
    const char *version;     /* of the runtime behind it */
    const char *description; /* one line */

    /* Opens the device that the settings name. On success *ret_device is the backend's. Unknown
     * settings are an error (FM_EINVAL). */
    int (*device_open)(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_device, struct fm_error *reterr);
    void (*device_close)(void *device); /* accepts NULL */

    /* Loads weights. May take long; never called on a serving thread. Settings are the model's
     * backend parameters. */
    int (*model_load)(void *device, const struct fm_model_source *source,
                      const struct fm_setting *settings, size_t setting_count, void **ret_model,
                      struct fm_error *reterr);
    void (*model_unload)(void *model); /* accepts NULL */
    int (*model_info)(void *model,
                      struct fm_model_info *ret_info); /* ret_info->struct_size set by the caller */

    int (*instance_create)(void *model, const struct fm_setting *settings, size_t setting_count,
                           void **ret_instance, struct fm_error *reterr);
    void (*instance_destroy)(void *instance); /* accepts NULL */

    /* Takes the batch. Non-zero: nothing was taken, complete will not be called, execution->error
     * may say why. */
    int (*submit)(void *instance, struct fm_execution *execution);

    /* Since 1.1. Bytes of weights and arenas held by the model, 0 when unknown. */
    uint64_t (*model_memory)(void *model);

    /* Since 1.2. Runs the batch on the calling thread and returns when it is over: 0, or a status
     * with execution->error set; `complete` is not called. By one thread at a time per instance,
     * and not while a submitted batch runs. NULL: there is submit() only. */
    int (*execute)(void *instance, struct fm_execution *execution);
};

/* The one exported symbol. Returns a table that lives as long as the shared object, or NULL when it
 * cannot serve that host. */
#define FM_BACKEND_ENTRY_SYMBOL "fm_backend_entry"
typedef const struct fm_backend *(*fm_backend_entry_function)(uint16_t host_abi_major,
                                                              uint16_t host_abi_minor);

#if defined(__GNUC__)
#define FM_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define FM_PLUGIN_EXPORT
#endif

#ifdef __cplusplus
}
#endif
#endif
