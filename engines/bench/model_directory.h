/*
 * Generated models as files: one FILE.onnx, or a model's directory as `serve`, `infer` and `batch`
 * take it, with model.yaml and 1/model.onnx.
 *
 * Owns: names, what may be replaced, the text of model.yaml. Each file appears whole or not at all.
 * Does not own: what is in a model (core/onnx). Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BENCH_MODEL_DIRECTORY_H
#define FM_ENGINES_BENCH_MODEL_DIRECTORY_H

#include "core/onnx/onnx_graph.h"

struct fm_model_directory_options {
    const struct fm_onnx_graph *graph;
    const char *path;      /* not empty: what ends in .onnx is a file, anything else a directory */
    uint32_t batch_max;    /* for model.yaml */
    bool replace;          /* what is there already, when it is of this kind */
    bool (*stopped)(void); /* asked now and then; true: it ends, and leaves no file of it. NULL: it
                              goes on */
};

/* Where things lie now. */
struct fm_model_directory {
    char model_path[4096];
    char config_path[4096]; /* "" when there is none */
};

/*
 * Whether a model could be written to `path` now, as far as what is there says; changes nothing.
 * The errors are those of writing.
 */
int FM_NODISCARD fm_model_directory_check(const char *path, bool replace, struct fm_error *reterr);
/* The same of a directory for several models. FM_EINVAL: it is a file, or something else's. */
int FM_NODISCARD fm_model_repository_check(const char *path, struct fm_error *reterr);

/*
 * Writes all of it. FM_EEXIST: something is there, and is left as it is; FM_EINVAL: a directory
 * that holds something else, a path that is none; FM_ECANCELLED: it was stopped; errors of the file
 * system. Directories are made as needed and stay when a later step fails, and so does the model
 * where model.yaml cannot be written.
 */
int FM_NODISCARD fm_model_directory_write(const struct fm_model_directory_options *options,
                                          struct fm_model_directory *ret_directory,
                                          struct fm_error *reterr);

#endif
