/*
 * The table of built-in operators. Adding one: a file, a line here, a test and a section in
 * docs/operators.md.
 */
#include "host/runtime/operators/table.h"

#include "core/util/assert.h"

static const struct fm_operator *const operators[] = {
    &fm_operator_image_decode,    &fm_operator_image_tensor, &fm_operator_crop_warp,
    &fm_operator_rotate_by_class, &fm_operator_softmax,      &fm_operator_argmax,
    &fm_operator_top_k,           &fm_operator_ctc_decode,   &fm_operator_process,
};

const struct fm_operator_plugin fm_operators_builtin = {
    .struct_size = sizeof(struct fm_operator_plugin),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "builtin",
    .operators = operators,
    .operator_count = FM_COUNT_OF(operators),
};
