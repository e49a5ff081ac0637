/*
 * A servable: a model or a pipeline, loaded and ready for requests, whatever it was made of.
 *
 * Owns: everything behind it (repository records, models, operators, the linked pipeline, the
 * executor), released in one call. This is what `serve`, `batch` and `infer` use, so that a
 * pipeline file means the same in all three. A model becomes a pipeline of one stage. Thread rule:
 * open and close from one thread; the executor's rules hold in between.
 */
#ifndef FM_HOST_RUNTIME_SERVABLE_H
#define FM_HOST_RUNTIME_SERVABLE_H

#include "host/runtime/accelerator_group.h"
#include "host/runtime/executor.h"
#include "host/runtime/repository.h"

struct fm_servable_options {
    uint32_t operator_threads; /* 0: choose */
    uint32_t requests_max;     /* 0: default */
    uint32_t batch_default;    /* largest batch of models that do not say theirs; 0: 8 */
    uint32_t batch_halvings;   /* largest batches are halved so often, down to 1 */
    uint32_t instances;        /* instances per model; 0: as configured */
    uint32_t threads;          /* threads per instance; 0: as configured */
    /* Each model is loaded for every one of these groups that it may use, with an instance for each
     * accelerator (`instances` is not looked at, `threads` is for cpu groups that name none).
     * Borrowed during the open; none: there is one model. */
    const struct fm_accelerator_group *groups;
    uint32_t group_count;
    /* Which of them a stage runs on, over what the pipeline file says. Borrowed likewise. */
    const struct fm_stage_groups *stage_groups;
    uint32_t stage_group_count;
    bool outside;   /* models are run by others (executor.h), who have to be named */
    int check_only; /* load, link and check, but start nothing (for --dry-run) */
    /* One sentence for each thing the user should know once (ignored fields, ...). NULL: dropped.
     */
    void (*note)(void *context, const char *text);
    void *note_context;
};

struct fm_servable;

/* Loads the entry `entry` of `repository` (a model at `version`, 0 = highest; or a pipeline, whose
 * models are found as its file says). */
int FM_NODISCARD fm_servable_open(const struct fm_repository *repository, const char *name,
                                  uint64_t version, const struct fm_servable_options *options,
                                  struct fm_servable **ret_servable, struct fm_error *reterr);
/* Shortcut: a path to a pipeline file, a model file, or a model directory. */
int FM_NODISCARD fm_servable_open_path(const char *path, const struct fm_servable_options *options,
                                       struct fm_servable **ret_servable, struct fm_error *reterr);
void fm_servable_close(
    struct fm_servable *servable); /* waits for requests in flight; accepts NULL */

const char *fm_servable_name(const struct fm_servable *servable);
uint64_t fm_servable_version(const struct fm_servable *servable);
const char *fm_servable_platform(
    const struct fm_servable *servable); /* "fermata_pipeline" for pipelines */
const struct fm_pipeline *fm_servable_pipeline(const struct fm_servable *servable);
struct fm_executor *fm_servable_executor(const struct fm_servable *servable);
/* What each stage runs, by stage: borrowed. */
const struct fm_stage_binding *fm_servable_bindings(const struct fm_servable *servable);
/* What a stage runs on accelerators of a group: borrowed; NULL: it does not run there. The binding
 * has the first of them. Without groups: NULL. */
struct fm_model *fm_servable_group_model(const struct fm_servable *servable, uint32_t stage,
                                         uint32_t group);
/* Where groups are given and nobody outside runs the models, the groups' accelerators in their
 * order are those of the executor; else there are none. */
uint32_t fm_servable_accelerator_count(const struct fm_servable *servable);
/* "front"; "back.0" of a group that has several. Borrowed. */
const char *fm_servable_accelerator_name(const struct fm_servable *servable, uint32_t accelerator);
/* Batches that a model stage may have in work at once: accelerators, or instances. */
uint32_t fm_servable_stage_slots(const struct fm_servable *servable, uint32_t stage);
/* Ports as requests see them. */
const struct fm_port *fm_servable_inputs(const struct fm_servable *servable, uint32_t *ret_count);
const struct fm_port *fm_servable_outputs(const struct fm_servable *servable, uint32_t *ret_count);
/* The model behind a one-model servable, else NULL. */
struct fm_model *fm_servable_model(const struct fm_servable *servable);
/* How that model was configured, else NULL. Borrowed from the repository that it was opened from,
 * and gone with it. */
const struct fm_model_config *fm_servable_config(const struct fm_servable *servable);
/* Whether its configuration allows that its answers are kept and given again. */
bool fm_servable_response_cache(const struct fm_servable *servable);
/* FNV-1a over the pipeline file, its plug-ins, the files of models and operators (those that their
 * parameters name, and those that they tell) and parameters: what a resumed job compares. */
uint64_t fm_servable_fingerprint(const struct fm_servable *servable);

#endif
