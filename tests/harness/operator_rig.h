/*
 * Runs one operator outside a pipeline, for unit tests and fuzzers: parameters in, values in,
 * values out.
 *
 * Thread rule: one rig, one thread.
 */
#ifndef FM_TESTS_HARNESS_OPERATOR_RIG_H
#define FM_TESTS_HARNESS_OPERATOR_RIG_H

#include "host/runtime/operator_registry.h"

enum { FM_RIG_PORTS_MAX = 8 };

/* Zero-initialise. */
struct fm_rig {
    struct fm_operator_instance *instance;
    struct fm_value_list inputs[FM_RIG_PORTS_MAX];
    struct fm_value_list outputs[FM_RIG_PORTS_MAX];
    uint32_t input_count;
    uint32_t output_count;
    struct fm_error error;
};

/* parameters: "key=value;key=value", NULL for none. */
int FM_NODISCARD fm_rig_create(struct fm_rig *rig, const char *operator_name,
                               const char *parameters);
/* A fresh element of an input, zeroed; its bytes, NULL when out of memory. */
void *fm_rig_input(struct fm_rig *rig, uint32_t port, uint32_t dtype, uint32_t rank,
                   const int64_t *shape);
/* A BYTES [1] element. */
void fm_rig_input_bytes(struct fm_rig *rig, uint32_t port, const void *data, size_t size);
/* Forgets the outputs of the run before. */
int FM_NODISCARD fm_rig_run(struct fm_rig *rig);
/* Element 0 of an output; NULL when there is none. */
const struct fm_tensor *fm_rig_output(const struct fm_rig *rig, uint32_t port);
void fm_rig_inputs_clear(struct fm_rig *rig);
void fm_rig_destroy(struct fm_rig *rig);

#endif
