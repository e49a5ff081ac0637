/*
 * The pipeline file: YAML into a pipeline specification.
 *
 *   name: ocr
 *   models: ../models        # repository, relative to this file; default: where the pipeline lies
 *   slo: 500ms               # serve: answer within this time where a request brings no deadline
 *   plugins: [ocr_text]      # operator plug-ins: a name to search, or a path relative to this file
 *   inputs:
 *     - {name: image, dtype: BYTES, shape: [1]}
 *   stages:
 *     - name: page
 *       operator: image_decode
 *       inputs: {bytes: image} # or one source as a plain string when the target has one input
 *       parameters: {max_pixels: 50000000}
 *     - name: detect
 *       model: det             # optional: version: 1
 *       inputs: {x: prepare}   # "stage" alone when it has one output, else "stage.port"
 *       batch: {max: 4, bucket_axis: 2, bucket_step: 32, pad_value: 0, wait_for: 4}
 *       instances: 2
 *       accelerators: [front]  # groups that it runs on, where there are groups
 *       settings: {threads: 1} # backend settings, over those of the model's own configuration
 *     - name: lines
 *       operator: ocr_boxes
 *       inputs: {probability: detect.out, image: page.image}
 *       fan_out_max: 2000
 *   outputs:
 *     text: page_text.text
 *     line_text: ctc.text      # a value of an inner scope is stacked
 *
 * Owns: this syntax and nothing of its meaning (core/plan/pipeline.h). Thread rule: no shared
 * state.
 */
#ifndef FM_HOST_RUNTIME_PIPELINE_FILE_H
#define FM_HOST_RUNTIME_PIPELINE_FILE_H

#include "core/plan/pipeline.h"
#include "host/runtime/accelerator_group.h"

/* What the file says of a stage beyond struct fm_stage_spec. */
struct fm_stage_settings {
    struct fm_setting *parameters; /* operator parameters or backend settings */
    size_t parameter_count;
    uint64_t model_version; /* 0: highest */
    uint32_t instances;     /* 0: as the model says */
    struct fm_stage_groups groups;
};

struct fm_pipeline_file {
    struct fm_arena arena;
    struct fm_pipeline_spec spec;
    struct fm_stage_settings *stages; /* parallel to spec.stages */
    const char *models;               /* resolved path; NULL: not given */
    const char **plugins;             /* names, or resolved paths */
    size_t plugin_count;
    bool response_cache;  /* its answers may be kept and given again */
    char directory[4096]; /* of the file */
};

/* Every mistake is "file:line:column: ..." with a suggestion where one is near. */
int FM_NODISCARD fm_pipeline_file_load(const char *path, struct fm_pipeline_file **ret_file,
                                       struct fm_error *reterr);
int FM_NODISCARD fm_pipeline_file_load_text(const char *path, const char *text, size_t length,
                                            struct fm_pipeline_file **ret_file,
                                            struct fm_error *reterr);
void fm_pipeline_file_free(struct fm_pipeline_file *file); /* accepts NULL */

#endif
