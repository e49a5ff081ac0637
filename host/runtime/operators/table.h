/*
 * The operators that are part of the program: one table, one entry per operator, one file per
 * family.
 *
 * Thread rule: constant data.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_TABLE_H
#define FM_HOST_RUNTIME_OPERATORS_TABLE_H

#include "fermata/operator.h"

/* The built-in operators as a plug-in of its own, in the order in which they are listed. */
extern const struct fm_operator_plugin fm_operators_builtin;

extern const struct fm_operator fm_operator_image_decode;
extern const struct fm_operator fm_operator_image_tensor;
extern const struct fm_operator fm_operator_crop_warp;
extern const struct fm_operator fm_operator_rotate_by_class;
extern const struct fm_operator fm_operator_softmax;
extern const struct fm_operator fm_operator_argmax;
extern const struct fm_operator fm_operator_top_k;
extern const struct fm_operator fm_operator_ctc_decode;
extern const struct fm_operator fm_operator_process;

#endif
