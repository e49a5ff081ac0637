/*
 * transformer: x [batch, sequence, hidden] -> `layers` encoder blocks -> LayerNormalization ->
 * y [batch, sequence, hidden]. A block is x + attention(norm(x)), then x + feed_forward(norm(x)):
 * the form with the norm in front (R. Xiong et al., On layer normalization in the transformer
 * architecture, ICML 2020) of A. Vaswani et al., Attention is all you need, NeurIPS 2017, with GELU
 * (D. Hendrycks, K. Gimpel, 2016). No mask, no positions: they cost next to nothing.
 */
#include <math.h>

#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_layers.h"

struct sizes {
    int64_t hidden;
    int64_t heads;
    int64_t sequence;
    int64_t expansion;
};

/* [batch, sequence, hidden] -> [batch, heads, sequence, hidden / heads], or its two last axes the
 * other way round. */
static uint32_t heads_split(struct fm_onnx_graph *graph, const char *name,
                            const struct sizes *sizes, uint32_t x, bool transposed)
{
    static const int64_t order[] = {0, 2, 1, 3};
    static const int64_t order_transposed[] = {0, 2, 3, 1};
    int64_t shape[] = {FM_ONNX_BATCH, sizes->sequence, sizes->heads, sizes->hidden / sizes->heads};
    x = fm_layer_reshape(graph, name, x, 4, shape);
    return fm_layer_transpose(graph, name, x, transposed ? order_transposed : order);
}

static uint32_t projected(struct fm_onnx_graph *graph, const char *block, const char *what,
                          const struct sizes *sizes, uint32_t x, bool transposed)
{
    const char *name = fm_onnx_graph_name(graph, "%s.%s", block, what);
    x = fm_layer_linear(graph, name, x, sizes->hidden, FM_LAYER_GAIN);
    return heads_split(graph, name, sizes, x, transposed);
}

/* softmax(q k^T / sqrt(hidden / heads)) v for each head, and a linear layer over all of them. */
static uint32_t attention(struct fm_onnx_graph *graph, const char *block, const struct sizes *sizes,
                          uint32_t x)
{
    static const int64_t order[] = {0, 2, 1, 3};
    uint32_t query = projected(graph, block, "query", sizes, x, false);
    uint32_t key = projected(graph, block, "key", sizes, x, true);
    uint32_t value = projected(graph, block, "value", sizes, x, false);
    const char *name = fm_onnx_graph_name(graph, "%s.scores", block);
    uint32_t scale = fm_onnx_graph_number(graph, fm_onnx_graph_name(graph, "%s.scale", name),
                                          1 / sqrt((double)sizes->hidden / (double)sizes->heads));
    uint32_t scores = fm_layer_matmul(graph, name, query, key);
    scores = fm_layer_binary(graph, name, "Mul", scores, scale);
    scores = fm_layer_softmax(graph, name, scores);
    name = fm_onnx_graph_name(graph, "%s.mixed", block);
    x = fm_layer_matmul(graph, name, scores, value);
    x = fm_layer_transpose(graph, name, x, order);
    int64_t shape[] = {FM_ONNX_BATCH, sizes->sequence, sizes->hidden};
    x = fm_layer_reshape(graph, name, x, 3, shape);
    return fm_layer_linear(graph, fm_onnx_graph_name(graph, "%s.output", block), x, sizes->hidden,
                           FM_LAYER_GAIN);
}

static uint32_t feed_forward(struct fm_onnx_graph *graph, const char *block,
                             const struct sizes *sizes, uint32_t x)
{
    x = fm_layer_linear(graph, fm_onnx_graph_name(graph, "%s.up", block), x,
                        sizes->hidden * sizes->expansion, FM_LAYER_GAIN);
    x = fm_layer_gelu(graph, fm_onnx_graph_name(graph, "%s.gelu", block), x);
    return fm_layer_linear(graph, fm_onnx_graph_name(graph, "%s.down", block), x, sizes->hidden,
                           FM_LAYER_GAIN_RELU);
}

void fm_family_transformer_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph)
{
    struct sizes sizes = {.hidden = fm_family_size(spec, FM_FAMILY_HIDDEN),
                          .heads = fm_family_size(spec, FM_FAMILY_HEADS),
                          .sequence = fm_family_size(spec, FM_FAMILY_SEQUENCE),
                          .expansion = fm_family_size(spec, FM_FAMILY_EXPANSION)};
    int64_t shape[] = {FM_ONNX_BATCH, sizes.sequence, sizes.hidden};
    uint32_t x = fm_onnx_graph_input(graph, "x", FM_ONNX_FLOAT, 3, shape);
    for (int64_t i = 0; i < fm_family_size(spec, FM_FAMILY_LAYERS); i++) {
        const char *block = fm_onnx_graph_name(graph, "layer%d", (int)i);
        const char *first = fm_onnx_graph_name(graph, "%s.norm1", block);
        const char *second = fm_onnx_graph_name(graph, "%s.norm2", block);
        uint32_t change = attention(graph, block, &sizes, fm_layer_norm(graph, first, x));
        x = fm_layer_binary(graph, first, "Add", x, change);
        change = feed_forward(graph, block, &sizes, fm_layer_norm(graph, second, x));
        x = fm_layer_binary(graph, second, "Add", x, change);
    }
    x = fm_layer_norm(graph, "norm", x);
    fm_onnx_graph_output(graph, x, "y");
}
