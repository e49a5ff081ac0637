/*
 * dlrm: dense [batch, dense] and indices [batch, tables] -> y [batch, 1], a probability.
 *
 * dense goes through the bottom MLP, whose last layer has `width` outputs; column i of indices
 * picks a row of table i. The products of each pair of these tables + 1 vectors, with the bottom's
 * output beside them, go through the top MLP. M. Naumov et al., Deep learning recommendation model
 * for personalization and recommendation systems, 2019.
 *
 * Any integer is an index: the row is the index modulo `rows`, so that random requests need not
 * know the tables.
 */
#include <math.h>

#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_layers.h"

/* `layers` times Gemm and ReLU: to `hidden`, the last to `outputs`. */
static uint32_t mlp(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t layers,
                    int64_t hidden, int64_t outputs)
{
    for (int64_t i = 0; i < layers; i++) {
        const char *layer = fm_onnx_graph_name(graph, "%s%d", name, (int)i);
        x = fm_layer_gemm(graph, layer, x, i + 1 == layers ? outputs : hidden, FM_LAYER_GAIN_RELU);
        x = fm_layer_unary(graph, layer, "Relu", x);
    }
    return x;
}

/* All of `vectors` as [batch, count, width]. */
static uint32_t stacked(struct fm_onnx_graph *graph, const uint32_t *vectors, uint32_t count,
                        int64_t width)
{
    uint32_t x = fm_layer_concat(graph, "vectors", vectors, count);
    int64_t shape[] = {FM_ONNX_BATCH, count, width};
    return fm_layer_reshape(graph, "vectors", x, 3, shape);
}

/* [batch, count, width] -> the products of each pair, [batch, count (count - 1) / 2]. */
static uint32_t interaction(struct fm_onnx_graph *graph, uint32_t x, int64_t count)
{
    static const int64_t order[] = {0, 2, 1};
    uint32_t products =
        fm_layer_matmul(graph, "pairs", x, fm_layer_transpose(graph, "pairs", x, order));
    int64_t shape[] = {FM_ONNX_BATCH, count * count};
    products = fm_layer_reshape(graph, "pairs", products, 2, shape);
    int64_t pair_count = count * (count - 1) / 2;
    int64_t *picked = fm_arena_alloc(&graph->arena, (size_t)pair_count * sizeof *picked);
    if (picked == NULL) {
        graph->failed = true;
        return FM_ONNX_NONE;
    }
    int64_t *next = picked;
    for (int64_t i = 1; i < count; i++) {
        for (int64_t j = 0; j < i; j++) {
            *next++ = i * count + j;
        }
    }
    return fm_layer_pick(graph, "pairs", products, picked, (uint32_t)pair_count, false);
}

void fm_family_dlrm_build(const struct fm_family_spec *spec, struct fm_onnx_graph *graph)
{
    int64_t tables = fm_family_size(spec, FM_FAMILY_TABLES);
    int64_t rows = fm_family_size(spec, FM_FAMILY_ROWS);
    int64_t width = fm_family_size(spec, FM_FAMILY_WIDTH);
    int64_t hidden = fm_family_size(spec, FM_FAMILY_HIDDEN);
    int64_t dense_shape[] = {FM_ONNX_BATCH, fm_family_size(spec, FM_FAMILY_DENSE)};
    int64_t index_shape[] = {FM_ONNX_BATCH, tables};
    uint32_t dense = fm_onnx_graph_input(graph, "dense", FM_ONNX_FLOAT, 2, dense_shape);
    uint32_t indices = fm_onnx_graph_input(graph, "indices", FM_ONNX_INT64, 2, index_shape);
    size_t size = (size_t)(tables + 1) * sizeof(uint32_t);
    uint32_t *vectors = fm_arena_alloc(&graph->arena, size);
    if (vectors == NULL) {
        graph->failed = true;
        return;
    }
    vectors[0] = mlp(graph, "bottom", dense, fm_family_size(spec, FM_FAMILY_BOTTOM), hidden, width);
    indices = fm_layer_modulo(graph, "rows", indices, rows);
    /* A product of two vectors has the variance width * (radius^2 / 3)^2; this makes it 1. */
    double radius = sqrt(3 / sqrt((double)width));
    for (int64_t i = 0; i < tables; i++) {
        const char *column = fm_onnx_graph_name(graph, "column%d", (int)i);
        uint32_t index = fm_layer_pick(graph, column, indices, &i, 1, true);
        vectors[i + 1] = fm_layer_embedding(graph, fm_onnx_graph_name(graph, "table%d", (int)i),
                                            index, rows, width, radius);
    }
    uint32_t x = stacked(graph, vectors, (uint32_t)tables + 1, width);
    uint32_t both[] = {vectors[0], interaction(graph, x, tables + 1)};
    x = fm_layer_concat(graph, "features", both, 2);
    x = mlp(graph, "top", x, fm_family_size(spec, FM_FAMILY_TOP), hidden, hidden);
    x = fm_layer_gemm(graph, "head", x, 1, FM_LAYER_GAIN);
    x = fm_layer_unary(graph, "head", "Sigmoid", x);
    fm_onnx_graph_output(graph, x, "y");
}
