/*
 * What a model's configuration file says: the common form of model.yaml and config.pbtxt, used by
 * repository.c only.
 *
 * Owns: filling struct fm_model_config from either file, the version policy, and the defaults both
 * have in common. Does not own: where files lie, versions that exist (repository.c). Thread rule:
 * no shared state.
 */
#ifndef FM_HOST_RUNTIME_MODEL_DESCRIPTION_H
#define FM_HOST_RUNTIME_MODEL_DESCRIPTION_H

#include "host/runtime/model.h"

#define FM_MODEL_FILE_DEFAULT    "model.onnx"
#define FM_MODEL_BACKEND_DEFAULT "onnxruntime"
#define FM_MODEL_BATCH_MAX       (1 << 20)
/* Those that a model may have, in messages. */
#define FM_MODEL_POLICIES "deferred, eager, latest, timeout, target, nexus, clockwork and symphony"
#define FM_MODEL_LIST_MAX 4096 /* entries of any one list in a configuration */

enum fm_version_policy { FM_VERSIONS_LATEST, FM_VERSIONS_ALL, FM_VERSIONS_SPECIFIC };

struct fm_model_description {
    struct fm_model_config *config; /* filled in; its arena holds every string of this struct too */
    const char *directory;     /* of the model: what relative paths are relative to. Borrowed */
    const char *expected_name; /* of the directory; NULL: any name will do. Borrowed */
    bool sent;             /* it came in a request: what it names lies in the model's directory */
    const char *name;      /* NULL: the file does not say */
    const char *file_name; /* of the model file in a version directory; NULL: the default */
    enum fm_version_policy policy;
    uint64_t latest_count;
    uint64_t *specific;
    size_t specific_count;
};

/* Defaults: the latest version. `config` was initialised by the caller, who frees it. */
void fm_model_description_init(struct fm_model_description *description,
                               struct fm_model_config *config, const char *directory,
                               const char *expected_name);

/* Read one file. Mistakes are "file:line:column: ...". */
int FM_NODISCARD fm_model_description_read_yaml(struct fm_model_description *description,
                                                const char *path, struct fm_error *reterr);
int FM_NODISCARD fm_model_description_read_pbtxt(struct fm_model_description *description,
                                                 const char *path, struct fm_error *reterr);
/* Triton's configuration that came in a request: JSON when it begins with '{', else protobuf's text
 * format. `label` stands for the file's name in messages. Paths that lead out of the model's
 * directory, and plug-ins that are files, are refused: FM_EINVAL. */
int FM_NODISCARD fm_model_description_read_text(struct fm_model_description *description,
                                                const char *label, const char *text, size_t size,
                                                struct fm_error *reterr);

/* For the readers. All copy their strings into the configuration's arena and fail with FM_ENOMEM
 * only. */
int FM_NODISCARD fm_model_description_note(struct fm_model_description *description,
                                           const char *format, ...) FM_PRINTF(2, 3);
int FM_NODISCARD fm_model_description_set(struct fm_model_description *description, const char *key,
                                          const char *value);
int FM_NODISCARD fm_model_description_set_device(struct fm_model_description *description,
                                                 const char *key, const char *value);
int FM_NODISCARD fm_model_description_copy(struct fm_model_description *description,
                                           const char *text, const char **ret_copy);
/* Whether the description may name that file: one that was sent must not read others than its own.
 */
bool fm_model_description_may_name(const struct fm_model_description *description,
                                   const char *path);
/* A path relative to the model's directory. FM_ETOOLARGE when it is too long. */
int FM_NODISCARD fm_model_description_path(struct fm_model_description *description,
                                           const char *text, const char **ret_path);

#endif
