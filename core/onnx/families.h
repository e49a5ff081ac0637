/*
 * Families of networks for benchmarks: from a few numbers to a graph.
 *
 * Owns: which families there are, their parameters with limits and defaults, and the check of a
 * specification. Each family is a file of its own (family_internal.h) and a line of the table in
 * families.c. Does not own: files. Thread rule: pure; a graph is the caller's.
 *
 * The same specification gives the same model, to the byte, with every compiler and processor.
 * Every family is row by row: what comes out for a row does not depend on the others of its batch.
 */
#ifndef FM_CORE_ONNX_FAMILIES_H
#define FM_CORE_ONNX_FAMILIES_H

#include "core/onnx/onnx_graph.h"
#include "core/util/text.h"

enum fm_family {
    FM_FAMILY_MLP,
    FM_FAMILY_CNN,
    FM_FAMILY_RNN,
    FM_FAMILY_LSTM,
    FM_FAMILY_TRANSFORMER,
    FM_FAMILY_DLRM,
    FM_FAMILY_COUNT_
};

enum fm_family_parameter {
    FM_FAMILY_LAYERS,
    FM_FAMILY_HIDDEN,
    FM_FAMILY_INPUTS,
    FM_FAMILY_OUTPUTS,
    FM_FAMILY_CHANNELS,
    FM_FAMILY_IMAGE,
    FM_FAMILY_KERNEL,
    FM_FAMILY_SEQUENCE,
    FM_FAMILY_HEADS,
    FM_FAMILY_EXPANSION,
    FM_FAMILY_DENSE,
    FM_FAMILY_TABLES,
    FM_FAMILY_ROWS,
    FM_FAMILY_WIDTH,
    FM_FAMILY_BOTTOM,
    FM_FAMILY_TOP,
    FM_FAMILY_PARAMETER_COUNT_
};

#define FM_FAMILY_SEED_DEFAULT 1

/* Zero-initialise, with a family; 0 is the family's default. fm_family_set checks as it sets. */
struct fm_family_spec {
    enum fm_family family;
    uint64_t values[FM_FAMILY_PARAMETER_COUNT_];
    uint64_t seed; /* of the parameters' numbers */
};

const char *fm_family_name(enum fm_family family);
const char *fm_family_summary(enum fm_family family);
enum fm_family fm_family_parse(const char *name); /* COUNT_: unknown */

const char *fm_family_parameter_name(enum fm_family_parameter parameter);
enum fm_family_parameter fm_family_parameter_parse(const char *name); /* COUNT_: unknown */
uint64_t fm_family_parameter_max(enum fm_family_parameter parameter); /* the least is 1 */
/* What it is where nothing is said; 0: the family has no such parameter. */
uint64_t fm_family_default(enum fm_family family, enum fm_family_parameter parameter);

/* FM_EINVAL: the family has no such parameter, or the value is out of range; *spec is as before. */
int FM_NODISCARD fm_family_set(struct fm_family_spec *spec, enum fm_family_parameter parameter,
                               uint64_t value, struct fm_error *reterr);
/* The value that counts: what was set, else the default. */
uint64_t fm_family_value(const struct fm_family_spec *spec, enum fm_family_parameter parameter);
/* All of a specification: each value by itself, and those that must fit together. FM_EINVAL. */
int FM_NODISCARD fm_family_check(const struct fm_family_spec *spec, struct fm_error *reterr);
/* "mlp layers=2 hidden=256 inputs=128 outputs=10 seed=1": every value that counts, so equal texts
 * are equal models. */
void fm_family_describe(const struct fm_family_spec *spec, struct fm_text *text);

/*
 * Checks and builds; *ret_graph is the caller's to deinit on success, and nothing on failure.
 * *ret_bytes (NULL allowed) is what a file of it would have. FM_EINVAL, FM_ENOMEM; FM_ETOOLARGE
 * where that is more than an ONNX file can hold.
 */
int FM_NODISCARD fm_family_build(const struct fm_family_spec *spec, struct fm_onnx_graph *ret_graph,
                                 uint64_t *ret_bytes, struct fm_error *reterr);

#endif
