/*
 * rnn and lstm: x [batch, sequence, inputs] -> `layers` recurrent layers of `hidden` -> the last
 * step of the last one -> Gemm -> y [batch, outputs].
 */
#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_layers.h"

void fm_family_rnn_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph)
{
    /* Recurrent operators want the steps in front of the batch. */
    static const int64_t order[] = {1, 0, 2};
    enum fm_layer_cell cell = spec->family == FM_FAMILY_LSTM ? FM_LAYER_LSTM : FM_LAYER_RNN;
    int64_t shape[] = {FM_ONNX_BATCH, fm_family_size(spec, FM_FAMILY_SEQUENCE),
                       fm_family_size(spec, FM_FAMILY_INPUTS)};
    uint32_t x = fm_onnx_graph_input(graph, "x", FM_ONNX_FLOAT, 3, shape);
    x = fm_layer_transpose(graph, "steps", x, order);
    int64_t layers = fm_family_size(spec, FM_FAMILY_LAYERS);
    for (int64_t i = 0; i < layers; i++) {
        x = fm_layer_recurrent(graph, fm_onnx_graph_name(graph, "layer%d", (int)i), cell, x,
                               fm_family_size(spec, FM_FAMILY_HIDDEN), i + 1 == layers);
    }
    x = fm_layer_gemm(graph, "head", x, fm_family_size(spec, FM_FAMILY_OUTPUTS), FM_LAYER_GAIN);
    fm_onnx_graph_output(graph, x, "y");
}
