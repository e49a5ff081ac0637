/*
 * What a family gives to the table in families.c: one builder each, in a file of its own.
 *
 * A builder takes a specification that was checked and adds everything to an empty graph. Errors of
 * memory stick in the graph. The folder's own.
 */
#ifndef FM_CORE_ONNX_FAMILY_INTERNAL_H
#define FM_CORE_ONNX_FAMILY_INTERNAL_H

#include "core/onnx/families.h"

void fm_family_mlp_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);
void fm_family_cnn_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);
void fm_family_rnn_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);
void fm_family_transformer_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);
void fm_family_dlrm_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);

/* The value that counts, as the signed number that shapes are made of. */
static inline int64_t fm_family_size(const struct fm_family_spec *spec,
                                     enum fm_family_parameter parameter)
{
    return (int64_t)fm_family_value(spec, parameter);
}

#endif
