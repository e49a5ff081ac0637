/*
 * The families of core/onnx computed in plain loops of doubles, which count what they do.
 *
 * Owns: the arithmetic, one row at a time, and the counters. Knows the specification and the
 * parameters' names, and nothing of the graph: what it counts is what it did. Thread rule: caller's
 * memory.
 */
#ifndef FM_TESTS_HARNESS_NETWORK_REFERENCE_H
#define FM_TESTS_HARNESS_NETWORK_REFERENCE_H

#include "core/onnx/families.h"

enum { FM_REFERENCE_WEIGHTS_MAX = 512 };

struct fm_reference {
    const struct fm_family_spec *spec;
    const struct fm_onnx_graph *graph; /* for the parameters' numbers, by their names */
    /* What was done so far, over all rows. */
    uint64_t flop;
    uint64_t moved;      /* bytes that nodes read and wrote, parameters left out */
    uint64_t gathered;   /* bytes of rows of tables */
    uint64_t parameters; /* numbers of all parameters that were looked at, each once */
    bool failed;         /* a parameter was not there, or of another size */
    struct {
        const char *name;
        float *numbers;
    } weights[FM_REFERENCE_WEIGHTS_MAX];
    uint32_t weight_count;
    double *scratch[FM_REFERENCE_WEIGHTS_MAX * 4]; /* of this row, freed at its end */
    uint32_t scratch_count;
};

/* The graph was built from the specification; both are borrowed. */
void fm_reference_init(struct fm_reference *reference, const struct fm_family_spec *spec,
                       const struct fm_onnx_graph *graph);
void fm_reference_deinit(struct fm_reference *reference);
/* One row: `x` is the input of floats, `indices` that of integers (dlrm). Writes the outputs. */
void fm_reference_row(struct fm_reference *reference, const float *x, const int64_t *indices,
                      double *ret_y);

#endif
