/*
 * The messages of the control plane: everything that the server says and is told besides
 * inference, over gRPC and over REST.
 *
 * Owns: building, packing, printing, parsing, and the answers of server reflection. One plain
 * struct stands for a message in both forms; JSON is printed from the protobuf message itself, so
 * the two cannot differ. protobuf-c stays inside this folder. Does not own: what the values are,
 * inference (core/proto/oip.h, oip_grpc.h), transport. Thread rule: no shared state.
 *
 * Writers append one message to `text`; check text->failed at the end, which also says that memory
 * ran out on the way. Everything in the structs they take is borrowed for the call.
 *
 * Readers fill a struct whose strings live in its arena; release it with the _deinit of its type.
 * On failure nothing has to be released; reterr says what is wrong (FM_EINVAL, FM_ENOMEM). REST
 * requests may have an empty body: all defaults. What stands in a REST path (a model's or a
 * region's name) is not in the body; those members are "" then.
 */
#ifndef FM_HOST_MESSAGES_MESSAGES_H
#define FM_HOST_MESSAGES_MESSAGES_H

#include "core/proto/oip.h"
#include "core/util/memory.h"

enum fm_messages_form { FM_MESSAGES_PROTOBUF, FM_MESSAGES_JSON };

/* --- What the server says --- */

void fm_messages_write_live(struct fm_text *text, enum fm_messages_form form, bool live);
void fm_messages_write_ready(struct fm_text *text, enum fm_messages_form form, bool ready);
/* ModelReady; JSON has the name too. */
void fm_messages_write_model_ready(struct fm_text *text, enum fm_messages_form form,
                                   const char *name, bool ready);

struct fm_messages_server {
    const char *name;
    const char *version;
    const char *const *extensions;
    size_t extension_count;
};
void fm_messages_write_server(struct fm_text *text, enum fm_messages_form form,
                              const struct fm_messages_server *server);

struct fm_messages_model {
    const struct fm_oip_signature *signature;
    const char *platform;
    const uint64_t *versions;
    size_t version_count;
};
void fm_messages_write_model(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_model *model);

/* --- A model's configuration --- */

enum fm_messages_device { FM_MESSAGES_AUTO, FM_MESSAGES_GPU, FM_MESSAGES_CPU, FM_MESSAGES_MODEL };

struct fm_messages_instances {
    const char *name;
    enum fm_messages_device device;
    uint32_t count;
    const int32_t *gpus;
    size_t gpu_count;
};

enum fm_messages_versions {
    FM_MESSAGES_VERSIONS_UNSAID,
    FM_MESSAGES_VERSIONS_LATEST,
    FM_MESSAGES_VERSIONS_ALL,
    FM_MESSAGES_VERSIONS_SPECIFIC,
};

/* All that is zero is left out. */
struct fm_messages_config {
    const struct fm_oip_signature *signature;
    const char *platform;
    const char *backend;
    const char *file_name;          /* default_model_filename */
    const char *const *label_files; /* by output, NULL where there is none */
    enum fm_messages_versions versions;
    uint32_t latest_count;
    const uint64_t *specific;
    size_t specific_count;
    const struct fm_messages_instances *instances;
    size_t instance_count;
    bool dynamic_batching; /* waiting requests are gathered into one run */
    bool response_cache;
    const uint32_t *preferred_batch_sizes;
    size_t preferred_batch_size_count;
    uint64_t max_queue_delay_ns;
    uint64_t priority_levels;
    uint64_t default_priority;
    uint32_t queue_max; /* default_queue_policy.max_queue_size */
    const struct fm_setting *parameters;
    size_t parameter_count;
    uint32_t warmup_count; /* runs, each of `warmup_batch` rows of zeros */
    uint32_t warmup_batch;
};
/* JSON: the configuration itself, with every default, as clients read it. */
void fm_messages_write_config(struct fm_text *text, enum fm_messages_form form,
                              const struct fm_messages_config *config);

/* --- Statistics --- */

struct fm_messages_duration {
    uint64_t count;
    uint64_t ns;
};

struct fm_messages_batch {
    uint64_t batch_size;
    struct fm_messages_duration compute_input;
    struct fm_messages_duration compute_infer;
    struct fm_messages_duration compute_output;
};

struct fm_messages_memory {
    const char *type; /* "CPU", "GPU" */
    int64_t id;
    uint64_t bytes;
};

struct fm_messages_statistics {
    const char *name;
    uint64_t version;
    uint64_t last_inference_ms; /* wall time; 0: never */
    uint64_t inference_count;   /* rows */
    uint64_t execution_count;   /* batches */
    struct fm_messages_duration success;
    struct fm_messages_duration fail;
    struct fm_messages_duration queue;
    struct fm_messages_duration compute_input;
    struct fm_messages_duration compute_infer;
    struct fm_messages_duration compute_output;
    struct fm_messages_duration cache_hit;
    struct fm_messages_duration cache_miss;
    const struct fm_messages_batch *batches;
    size_t batch_count;
    const struct fm_messages_memory *memory;
    size_t memory_count;
};
void fm_messages_write_statistics(struct fm_text *text, enum fm_messages_form form,
                                  const struct fm_messages_statistics *rows, size_t count);

/* --- The repository, shared memory, settings, health --- */

struct fm_messages_index_row {
    const char *name;
    uint64_t version;   /* 0: no version is known */
    const char *state;  /* "READY", "LOADING", "UNLOADING", "UNAVAILABLE" */
    const char *reason; /* "" when there is none */
};
/* JSON: an array; a row has only the members that say something. */
void fm_messages_write_index(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_index_row *rows, size_t count);

struct fm_messages_region {
    const char *name;
    const char *key;
    uint64_t offset;
    uint64_t size;
};
/* JSON: an array. */
void fm_messages_write_regions(struct fm_text *text, enum fm_messages_form form,
                               const struct fm_messages_region *rows, size_t count);
/* There are never any: the answer of a server without CUDA. */
void fm_messages_write_cuda_regions(struct fm_text *text, enum fm_messages_form form);

enum fm_messages_kind { FM_MESSAGES_STRINGS, FM_MESSAGES_BOOL, FM_MESSAGES_UINT };

/* A trace setting (strings: none = its default) or a log setting (one value of any kind). */
struct fm_messages_setting {
    const char *key;
    enum fm_messages_kind kind;
    const char *const *strings;
    size_t string_count;
    bool is_true;
    uint32_t number;
};
/* JSON: an object; trace_level is an array, the others are strings. */
void fm_messages_write_trace(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_messages_setting *settings, size_t count);
void fm_messages_write_log(struct fm_text *text, enum fm_messages_form form,
                           const struct fm_messages_setting *settings, size_t count);

enum fm_messages_health {
    FM_MESSAGES_HEALTH_UNKNOWN,
    FM_MESSAGES_HEALTH_SERVING,
    FM_MESSAGES_HEALTH_NOT_SERVING,
    FM_MESSAGES_HEALTH_SERVICE_UNKNOWN,
};
/* grpc.health.v1; gRPC only. */
void fm_messages_write_health(struct fm_text *text, enum fm_messages_health health);

/* One answer of ServerReflectionInfo (v1 and v1alpha are the same bytes) to one request. What
 * cannot be found is an error inside the stream, and a success here; FM_EINVAL: no such request. */
int FM_NODISCARD fm_messages_reflect(struct fm_text *text, const void *data, size_t size,
                                     struct fm_error *reterr);

/* --- What the server is told --- */

/* Any request that is a name and perhaps a version: ServerLive, ModelReady, ModelMetadata,
 * ModelConfig, ModelStatistics, status and unregister of shared memory, and Health.Check (its
 * service is the name). gRPC only. */
struct fm_messages_name {
    struct fm_arena arena;
    const char *name;
    const char *version; /* as it was sent: fm_oip_version_parse */
};
int FM_NODISCARD fm_messages_read_name(const void *data, size_t size,
                                       struct fm_messages_name *ret_name, struct fm_error *reterr);
void fm_messages_name_deinit(struct fm_messages_name *name);

int FM_NODISCARD fm_messages_read_index(enum fm_messages_form form, const void *data, size_t size,
                                        bool *ret_ready_only, struct fm_error *reterr);

struct fm_messages_file {
    const char *path; /* "1/model.onnx": what stood behind "file:" */
    const void *data;
    size_t size;
};

/* RepositoryModelLoad and RepositoryModelUnload. */
struct fm_messages_load {
    struct fm_arena arena;
    const char *repository;
    const char *model;
    const char *config; /* JSON; NULL: none */
    struct fm_messages_file *files;
    size_t file_count;
    bool unload_dependents;
};
/* FM_EINVAL also for files without a configuration, and for parameters that are not known: a load
 * that does something else than was asked is worse than none. */
int FM_NODISCARD fm_messages_read_load(enum fm_messages_form form, const void *data, size_t size,
                                       struct fm_messages_load *ret_load, struct fm_error *reterr);
int FM_NODISCARD fm_messages_read_unload(enum fm_messages_form form, const void *data, size_t size,
                                         struct fm_messages_load *ret_load,
                                         struct fm_error *reterr);
void fm_messages_load_deinit(struct fm_messages_load *load);

/* SystemSharedMemoryRegister. */
struct fm_messages_register {
    struct fm_arena arena;
    const char *name;
    const char *key;
    uint64_t offset;
    uint64_t size;
};
int FM_NODISCARD fm_messages_read_register(enum fm_messages_form form, const void *data,
                                           size_t size, struct fm_messages_register *ret_register,
                                           struct fm_error *reterr);
void fm_messages_register_deinit(struct fm_messages_register *request);

/* TraceSetting and LogSettings: only what is to change. A trace setting without strings goes back
 * to its default (JSON: null). */
struct fm_messages_settings {
    struct fm_arena arena;
    const char *model; /* trace: "" for the server's own */
    struct fm_messages_setting *settings;
    size_t count;
};
int FM_NODISCARD fm_messages_read_trace(enum fm_messages_form form, const void *data, size_t size,
                                        struct fm_messages_settings *ret_settings,
                                        struct fm_error *reterr);
int FM_NODISCARD fm_messages_read_log(enum fm_messages_form form, const void *data, size_t size,
                                      struct fm_messages_settings *ret_settings,
                                      struct fm_error *reterr);
void fm_messages_settings_deinit(struct fm_messages_settings *settings);

#endif
