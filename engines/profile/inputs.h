/*
 * Made-up inputs to measure a model with: right in type and shape, the same on every run.
 *
 * Owns: sizes for variable dimensions, and the bytes. Numbers are uniform in [0, 1), whole numbers
 * are 0 or 1 (valid as indices of any table), strings are "fermata". Thread rule: pure; finished
 * inputs are read-only and may be shared by threads.
 */
#ifndef FM_ENGINES_PROFILE_INPUTS_H
#define FM_ENGINES_PROFILE_INPUTS_H

#include "core/tensor/tensor.h"
#include "core/util/random.h"

/* Sizes of one row of an input (no batch dimension), as the user gave them. */
struct fm_input_shape {
    const char *name; /* NULL: the model's only input */
    uint32_t rank;
    int64_t shape[FM_RANK_MAX];
};

/* "x=3,48,320" or "3,48,320" -> *ret_shape; `text` is cut up and must outlive it. */
int FM_NODISCARD fm_input_shape_parse(char *text, struct fm_input_shape *ret_shape,
                                      struct fm_error *reterr);

/*
 * Completes the shape of one row of `port`: variable dimensions come from `shapes`. `batched`:
 * dimension 0 of the port is the batch and is left out. FM_EINVAL says which size is missing and
 * how to give it, FM_ETYPE which one does not fit; FM_EUNSUPPORTED: no shape would do.
 */
int FM_NODISCARD fm_input_row_shape(const struct fm_port *port, bool batched,
                                    const struct fm_input_shape *shapes, size_t shape_count,
                                    size_t port_count, struct fm_port *ret_row,
                                    struct fm_error *reterr);

/* `rows` rows of it (the batch dimension in front when `batched`). */
int FM_NODISCARD fm_input_fill(const struct fm_port *row, bool batched, uint32_t rows,
                               struct fm_random *random, struct fm_value *ret_value,
                               struct fm_error *reterr);

#endif
