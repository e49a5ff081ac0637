/*
 * A loaded model: a backend's model plus its instances, as everything above the plug-in boundary
 * sees it.
 *
 * Owns: the model configuration record, loading, completing the configuration from what the backend
 * reports, instances, and checking tensors before they cross the boundary. Does not own: where
 * configurations come from (repository.h), scheduling, queues. Thread rule: load and free from one
 * thread; submit per instance as in fermata/backend.h; everything else is read-only after loading.
 */
#ifndef FM_HOST_RUNTIME_MODEL_H
#define FM_HOST_RUNTIME_MODEL_H

#include <stdbool.h>

#include "core/sched/sched.h"
#include "core/tensor/tensor.h"
#include "core/util/memory.h"
#include "fermata/backend.h"

#define FM_MODEL_PORTS_MAX     1024
#define FM_MODEL_INSTANCES_MAX 256

/* A tensor as a configuration declares it: everything but the name may be left to the model file.
 */
struct fm_model_port_config {
    const char *name;
    uint32_t dtype; /* INVALID: not declared */
    int32_t rank;   /* -1: not declared; Triton convention: without the batch dimension when
                       max_batch_size > 0 */
    int64_t shape[FM_RANK_MAX];
    const char *label_path; /* labels, one a line; NULL: none */
    bool optional;
};

/* What a configuration says of a group of accelerators (accelerator_group.h) that it names. */
struct fm_model_group_config {
    const char *name;            /* the group's, or its kind's */
    struct fm_setting *settings; /* there, over the model's own */
    size_t setting_count;
    const char *profile_path; /* there; NULL: none */
};

/* Everything that says how a model is loaded and run. Strings live in `arena`. */
struct fm_model_config {
    struct fm_arena arena;
    const char *name;
    uint64_t version;
    const char *path;        /* model file; NULL when the backend needs none */
    const char *backend;     /* "onnxruntime" */
    int64_t max_batch_size;  /* 0: the model does not batch; -1: batch_default when dimension 0 of
                                every input and output is variable, else 0 */
    uint32_t batch_default;  /* 0: 8 */
    uint32_t instance_count; /* 0: choose (CPU: one per usable CPU) */
    struct fm_setting *device_settings;
    size_t device_setting_count;
    struct fm_model_group_config *groups; /* those it may use; none: see the next two */
    size_t group_count;
    uint32_t kinds; /* bits of fm_group_kind that it asks for; 0: not said */
    uint32_t *gpus; /* and of GPUs, which; none: any */
    size_t gpu_count;
    struct fm_setting *settings; /* backend parameters for model and instance: "threads",
                                    "graph_optimization", ... */
    size_t setting_count;
    struct fm_model_port_config *inputs;
    size_t input_count;
    struct fm_model_port_config *outputs;
    size_t output_count;
    uint32_t *preferred_batch_sizes;
    size_t preferred_batch_size_count;
    uint64_t max_queue_delay_ns;
    uint32_t warmup_count;            /* runs on zero-filled input before the model is ready */
    uint32_t warmup_batch;            /* rows in each */
    const char *profile_path;         /* latency profile written by `fermata profile`; NULL: none */
    uint64_t slo_ns;                  /* of requests that bring no deadline; 0: not said */
    enum fm_sched_goal goal;          /* COUNT_: not said */
    enum fm_sched_policy_kind policy; /* of its batches; COUNT_: the server's */
    bool response_cache;              /* its answers may be kept and given again */
    char **notes; /* fields that were read but mean nothing here, one sentence each: reported once
                     by whoever loads the model */
    size_t note_count;
};

void fm_model_config_init(
    struct fm_model_config *config); /* defaults; version 1, max_batch_size -1, rank -1 */
void fm_model_config_deinit(struct fm_model_config *config);
int FM_NODISCARD
fm_model_config_set(struct fm_model_config *config, const char *key, const char *value,
                    struct fm_error *reterr); /* appends/replaces a setting; copies */

struct fm_model;

/*
 * Loads weights and creates all instances; runs the warm-up. Borrows config during the call and
 * copies what it keeps. Compares declared and real ports and reports every difference in one
 * message.
 */
int FM_NODISCARD fm_model_load(const struct fm_model_config *config, struct fm_model **ret_model,
                               struct fm_error *reterr);
void fm_model_free(struct fm_model *model); /* accepts NULL; nothing may be in flight */

const char *fm_model_name(const struct fm_model *model);
uint64_t fm_model_version(const struct fm_model *model);
const char *fm_model_platform(const struct fm_model *model);
const char *fm_model_backend_name(const struct fm_model *model);
/* Ports with full shapes (batch dimension included, as -1, when max_batch_size > 0). */
const struct fm_port *fm_model_inputs(const struct fm_model *model, uint32_t *ret_count);
const struct fm_port *fm_model_outputs(const struct fm_model *model, uint32_t *ret_count);
/* Rows that may be run at once; 0: the model does not batch (one request per run, shapes as they
 * are). */
uint32_t fm_model_batch_max(const struct fm_model *model);
uint32_t fm_model_instance_count(const struct fm_model *model);
/* Labels of output `index`, NULL when it has none; *ret_count of them. */
const char *const *fm_model_labels(const struct fm_model *model, uint32_t index, size_t *ret_count);
uint64_t fm_model_memory(const struct fm_model *model);

/*
 * Runs `rows` rows of zeros once (variable dimensions are 1, but for the batch) and says how long
 * it took: for warming up, and for a first guess at latencies. Models that do not take such inputs
 * fail.
 */
int FM_NODISCARD fm_model_try(struct fm_model *model, uint32_t index, uint32_t rows,
                              uint64_t *ret_ns, struct fm_error *reterr);

/* Hands a batch to instance `index`. The rules of struct fm_backend.submit hold. */
int FM_NODISCARD fm_model_submit(struct fm_model *model, uint32_t index,
                                 struct fm_execution *execution);
/* Whether fm_model_run computes on the calling thread. */
bool fm_model_executes(const struct fm_model *model);
/* Whether it then only computes, waiting for nothing (fermata/backend.h). */
bool fm_model_never_waits(const struct fm_model *model);
/* Runs a batch and waits, on the calling thread where the backend can. Outputs' release is the
 * caller's business; execution->error has the words, too. */
int FM_NODISCARD fm_model_run(struct fm_model *model, uint32_t index,
                              struct fm_execution *execution, struct fm_error *reterr);

#endif
