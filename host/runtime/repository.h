/*
 * The model repository: directories of models and pipelines turned into configurations.
 *
 * Owns: the layout <repository>/<model>/<version>/model.onnx, optional model.yaml, Triton's
 * config.pbtxt, <model>/pipeline.yaml, version policies, labels. Does not own: loading weights
 * (model.h), serving. Reads files only; never writes. Thread rule: no shared state.
 */
#ifndef FM_HOST_RUNTIME_REPOSITORY_H
#define FM_HOST_RUNTIME_REPOSITORY_H

#include "host/runtime/model.h"

enum fm_repository_entry_kind { FM_REPOSITORY_MODEL, FM_REPOSITORY_PIPELINE };

/* One model (with the versions its policy selects, ascending) or pipeline. */
struct fm_repository_entry {
    char *name;
    enum fm_repository_entry_kind kind;
    char *path;                       /* model directory, model file, or pipeline file */
    struct fm_model_config *versions; /* models: one configuration per selected version */
    size_t version_count;
    struct fm_error
        error; /* status != 0: this entry cannot be used, and why; the others still can */
};

struct fm_repository {
    struct fm_repository_entry *entries; /* by name, in byte order; names are unique */
    size_t count;
};

/*
 * Reads any of: a repository directory, one model's directory, a model file (.onnx; named after the
 * file, or after its model directory when it lies in <model>/<version>/), a pipeline file (.yaml).
 * A broken model inside a repository becomes an entry with an error; a broken path itself is an
 * error.
 */
int FM_NODISCARD fm_repository_open(const char *path, struct fm_repository *ret_repository,
                                    struct fm_error *reterr);
void fm_repository_close(struct fm_repository *repository);

/* Of a version's directory: "17", without leading zeros and from 1; 0 for any other name. */
uint64_t fm_repository_version_number(const char *name);

/* The names of what a path holds, without reading what they are. */
struct fm_repository_names {
    bool single;  /* the path is one model or pipeline, not a directory of several */
    char **names; /* in byte order, each once */
    size_t count;
};
/* Any path that fm_repository_open takes; here a directory without models is none that fails. */
int FM_NODISCARD fm_repository_list(const char *path, struct fm_repository_names *ret_names,
                                    struct fm_error *reterr);
void fm_repository_names_free(struct fm_repository_names *names);

/* What stands in for a model's files. Borrowed. */
struct fm_repository_override {
    const char *config; /* Triton's, as JSON or text, instead of the configuration file; NULL: the
                           file */
    size_t config_size;
    const char *directory; /* instead of the model's directory; NULL: its own */
};
/*
 * One entry of what a path holds, read now; *ret_repository has this one only. `override` may be
 * NULL. Unlike fm_repository_open, what is wrong with the entry is the call's error. FM_ENOTFOUND
 * when the path has nothing of that name.
 */
int FM_NODISCARD fm_repository_read(const char *path, const char *name,
                                    const struct fm_repository_override *override,
                                    struct fm_repository *ret_repository, struct fm_error *reterr);
/*
 * Where a model or pipeline of that name lies: its directory, or its file when that is all it is.
 * FM_ENOTFOUND when neither is there.
 */
int FM_NODISCARD fm_repository_locate(const char *path, bool single, const char *name,
                                      char *ret_path, size_t size, struct fm_error *reterr);
/* ENOTFOUND suggests the nearest name. version 0: the highest. *ret_config is borrowed. */
int FM_NODISCARD fm_repository_find_model(const struct fm_repository *repository, const char *name,
                                          uint64_t version,
                                          const struct fm_model_config **ret_config,
                                          struct fm_error *reterr);

#endif
