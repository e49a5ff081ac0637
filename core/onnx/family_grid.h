/*
 * Many models of one family: each parameter has one value or several, and every combination is a
 * model.
 *
 * Owns: the lists of values, their checks, the order and the names. Does not own: what is done with
 * the models. Thread rule: pure; a grid is the caller's memory.
 */
#ifndef FM_CORE_ONNX_FAMILY_GRID_H
#define FM_CORE_ONNX_FAMILY_GRID_H

#include "core/onnx/families.h"

#define FM_FAMILY_GRID_VALUES_MAX 64u   /* of one parameter */
#define FM_FAMILY_GRID_MODELS_MAX 1024u /* of a grid */

struct fm_family_grid_axis {
    uint64_t values[FM_FAMILY_GRID_VALUES_MAX];
    uint32_t count; /* 0: the family's default, and nothing else */
};

/* Zero-initialise, with a family and a seed. */
struct fm_family_grid {
    enum fm_family family;
    uint64_t seed; /* of all models */
    struct fm_family_grid_axis axes[FM_FAMILY_PARAMETER_COUNT_];
};

/*
 * Gives a parameter its values, in that order; they are copied. FM_EINVAL: none or too many of
 * them, one of them twice, one out of range, a parameter that the family has not; *grid is as
 * before.
 */
int FM_NODISCARD fm_family_grid_set(struct fm_family_grid *grid, enum fm_family_parameter parameter,
                                    const uint64_t *values, uint32_t count,
                                    struct fm_error *reterr);
/* How many models there are; at least 1. Saturates at UINT64_MAX. */
uint64_t fm_family_grid_count(const struct fm_family_grid *grid);
/* Model `index`, below the count: the last parameter that has several values changes first. */
void fm_family_grid_at(const struct fm_family_grid *grid, uint64_t index,
                       struct fm_family_spec *ret_spec);
/* All of it: not too many models, and each for itself. FM_EINVAL; of a model it says which. */
int FM_NODISCARD fm_family_grid_check(const struct fm_family_grid *grid, struct fm_error *reterr);
/* What tells a model from the others of its grid, as a name for files: "mlp-layers2-hidden64"; the
 * family's name alone when there is only one. Different for each. */
void fm_family_grid_name(const struct fm_family_grid *grid, uint64_t index, struct fm_text *text);

#endif
