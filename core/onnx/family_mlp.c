/*
 * mlp: x [batch, inputs] -> `layers` times Gemm to `hidden` and ReLU -> Gemm -> y [batch, outputs].
 */
#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_layers.h"

void fm_family_mlp_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph)
{
    int64_t shape[] = {FM_ONNX_BATCH, fm_family_size(spec, FM_FAMILY_INPUTS)};
    uint32_t x = fm_onnx_graph_input(graph, "x", FM_ONNX_FLOAT, 2, shape);
    for (int64_t i = 0; i < fm_family_size(spec, FM_FAMILY_LAYERS); i++) {
        const char *name = fm_onnx_graph_name(graph, "layer%d", (int)i);
        x = fm_layer_gemm(graph, name, x, fm_family_size(spec, FM_FAMILY_HIDDEN),
                          FM_LAYER_GAIN_RELU);
        x = fm_layer_unary(graph, name, "Relu", x);
    }
    x = fm_layer_gemm(graph, "head", x, fm_family_size(spec, FM_FAMILY_OUTPUTS), FM_LAYER_GAIN);
    fm_onnx_graph_output(graph, x, "y");
}
