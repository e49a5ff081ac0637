/*
 * A backend as the conformance tests see it: how to get a model with given ports out of it, and
 * what it answers.
 *
 * Owns: the table of backends under test, model files in a temporary folder, and shorthands for
 * running a model. Thread rule: the test's thread, except for tensors and runs, which are the
 * caller's memory.
 */
#ifndef FM_TESTS_HARNESS_SUBJECT_H
#define FM_TESTS_HARNESS_SUBJECT_H

#include <stdbool.h>

#include "core/tensor/tensor.h"
#include "host/runtime/model.h"

enum { SUBJECT_PORTS_MAX = 64 };

struct fm_subject {
    const char *backend;
    bool echoes;  /* output i is input i; otherwise zeros */
    bool inlines; /* completes inside submit */
    bool (*supports)(uint32_t dtype);
};

extern const struct fm_subject fm_subject_onnxruntime;
extern const struct fm_subject fm_subject_emulated;
extern const struct fm_subject fm_subject_identity;

/* A path in this process's temporary folder, which is removed at exit. Valid until the next call
 * but seven. */
const char *fm_subject_path(const char *name);

/* A configuration for a model of these inputs, and outputs called out_<input>. `instances` of it.
 */
int fm_subject_config(const struct fm_subject *subject, const struct fm_port *inputs, size_t count,
                      uint32_t instances, struct fm_model_config *ret_config) FM_NODISCARD;
/* Configures and loads. */
int fm_subject_load(const struct fm_subject *subject, const struct fm_port *inputs, size_t count,
                    uint32_t instances, struct fm_model **ret_model,
                    struct fm_error *reterr) FM_NODISCARD;

/* One execution with its tensors: fill inputs, run, look at outputs, release. */
struct fm_subject_run {
    struct fm_execution execution;
    struct fm_tensor inputs[SUBJECT_PORTS_MAX];
    struct fm_output outputs[SUBJECT_PORTS_MAX];
};

/* Every output wanted, none bound; inputs absent. */
void fm_subject_run_init(struct fm_subject_run *run, uint32_t input_count, uint32_t output_count,
                         uint32_t rows);
void fm_subject_run_release(struct fm_subject_run *run);

/* A tensor over the caller's bytes. */
struct fm_tensor fm_subject_tensor(uint32_t dtype, const int64_t *shape, uint32_t rank, void *data,
                                   size_t size);

#endif
