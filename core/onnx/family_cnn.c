/*
 * cnn: x [batch, 3, image, image] -> `layers` times a convolution to `channels` and ReLU, with a
 * max-pooling that halves the image after every second one as long as it has 4 pixels on a side ->
 * the mean of each channel -> Gemm -> y [batch, outputs]. In the manner of K. Simonyan,
 * A. Zisserman, Very deep convolutional networks, ICLR 2015, but for channels that stay as many.
 */
#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_layers.h"

enum { COLOURS = 3, POOLED_SIDE_MIN = 4 };

void fm_family_cnn_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph)
{
    int64_t side = fm_family_size(spec, FM_FAMILY_IMAGE);
    int64_t shape[] = {FM_ONNX_BATCH, COLOURS, side, side};
    uint32_t x = fm_onnx_graph_input(graph, "x", FM_ONNX_FLOAT, 4, shape);
    for (int64_t i = 0; i < fm_family_size(spec, FM_FAMILY_LAYERS); i++) {
        const char *name = fm_onnx_graph_name(graph, "layer%d", (int)i);
        x = fm_layer_conv(graph, name, x, fm_family_size(spec, FM_FAMILY_CHANNELS),
                          fm_family_size(spec, FM_FAMILY_KERNEL));
        x = fm_layer_unary(graph, name, "Relu", x);
        if (i % 2 == 1 && side >= POOLED_SIDE_MIN) {
            x = fm_layer_max_pool(graph, name, x);
            side /= 2;
        }
    }
    x = fm_layer_average_pool(graph, "pool", x);
    x = fm_layer_gemm(graph, "head", x, fm_family_size(spec, FM_FAMILY_OUTPUTS), FM_LAYER_GAIN);
    fm_onnx_graph_output(graph, x, "y");
}
