/*
 * Layers as ONNX nodes. See onnx_layers.h.
 */
#include "core/onnx/onnx_layers.h"

#include <math.h>

#include "core/util/assert.h"

#define BIAS_RADIUS 0.1
/* Of a tanh network's recurrent weights: what comes around fades. */
#define RECURRENT_GAIN 0.5

/* The shape of a value, to be changed. */
struct shape {
    uint32_t rank;
    int64_t sizes[FM_ONNX_RANK_MAX];
};

static struct shape shape_of(const struct fm_onnx_graph *graph, uint32_t value)
{
    const struct fm_onnx_value *found = fm_onnx_graph_value(graph, value);
    struct shape shape = {.rank = found->rank};
    for (uint32_t i = 0; i < FM_ONNX_RANK_MAX; i++) {
        shape.sizes[i] = i < found->rank ? found->shape[i] : 1;
    }
    return shape;
}

static int64_t size_last(const struct shape *shape)
{
    return shape->rank > 0 ? shape->sizes[shape->rank - 1] : 1;
}

static uint64_t elements_of(const struct fm_onnx_graph *graph, uint32_t value)
{
    return fm_onnx_value_elements(fm_onnx_graph_value(graph, value));
}

/* The radius of a uniform distribution of that variance. */
static double radius_of(double variance)
{
    return sqrt(3 * variance);
}

/* A node of `count` inputs with one output of floats, called `name`.`suffix`. */
static uint32_t node_add(struct fm_onnx_graph *graph, struct fm_onnx_node node, const char *name,
                         const char *suffix, const struct shape *shape)
{
    uint32_t output = fm_onnx_graph_inner(graph, fm_onnx_graph_name(graph, "%s.%s", name, suffix),
                                          FM_ONNX_FLOAT, shape->rank, shape->sizes);
    node.outputs[0] = output;
    node.output_count = 1;
    fm_onnx_graph_node(graph, &node);
    return output;
}

static uint32_t bias_add(struct fm_onnx_graph *graph, const char *name, int64_t size)
{
    return fm_onnx_graph_parameter(graph, fm_onnx_graph_name(graph, "%s.bias", name), 1, &size, 0,
                                   BIAS_RADIUS);
}

static uint32_t weight_add(struct fm_onnx_graph *graph, const char *name, struct shape shape,
                           double radius)
{
    return fm_onnx_graph_parameter(graph, fm_onnx_graph_name(graph, "%s.weight", name), shape.rank,
                                   shape.sizes, 0, radius);
}

uint32_t fm_layer_gemm(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t outputs,
                       double gain)
{
    struct shape in = shape_of(graph, x);
    int64_t n = size_last(&in);
    uint32_t weight =
        weight_add(graph, name, (struct shape){2, {outputs, n}}, radius_of(gain / (double)n));
    uint32_t inputs[] = {x, weight, bias_add(graph, name, outputs)};
    return node_add(graph,
                    (struct fm_onnx_node){.operation = "Gemm",
                                          .inputs = inputs,
                                          .input_count = 3,
                                          .attributes = {{.name = "transB", .integer = 1}},
                                          .attribute_count = 1,
                                          .flop = (2 * (uint64_t)n + 1) * (uint64_t)outputs},
                    name, "out", &(struct shape){2, {FM_ONNX_BATCH, outputs}});
}

uint32_t fm_layer_linear(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t outputs,
                         double gain)
{
    struct shape shape = shape_of(graph, x);
    int64_t n = size_last(&shape);
    uint64_t positions = elements_of(graph, x) / (uint64_t)n;
    uint32_t weight =
        weight_add(graph, name, (struct shape){2, {n, outputs}}, radius_of(gain / (double)n));
    shape.sizes[2] = outputs;
    uint32_t inputs[] = {x, weight};
    uint64_t flop = 2 * (uint64_t)n * positions * (uint64_t)outputs;
    uint32_t product =
        node_add(graph,
                 (struct fm_onnx_node){
                     .operation = "MatMul", .inputs = inputs, .input_count = 2, .flop = flop},
                 name, "product", &shape);
    return fm_layer_binary(graph, name, "Add", product, bias_add(graph, name, outputs));
}

uint32_t fm_layer_unary(struct fm_onnx_graph *graph, const char *name, const char *operation,
                        uint32_t x)
{
    struct shape shape = shape_of(graph, x);
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = operation, .inputs = &x, .input_count = 1, .flop = elements_of(graph, x)},
        name, operation, &shape);
}

uint32_t fm_layer_binary(struct fm_onnx_graph *graph, const char *name, const char *operation,
                         uint32_t x, uint32_t other)
{
    struct shape shape = shape_of(graph, x);
    uint32_t inputs[] = {x, other};
    return node_add(graph,
                    (struct fm_onnx_node){.operation = operation,
                                          .inputs = inputs,
                                          .input_count = 2,
                                          .flop = elements_of(graph, x)},
                    name, operation, &shape);
}

uint32_t fm_layer_modulo(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t modulus)
{
    struct shape shape = shape_of(graph, x);
    uint32_t inputs[] = {x, fm_onnx_graph_integers(graph,
                                                   fm_onnx_graph_name(graph, "%s.modulus", name),
                                                   &modulus, 1, true)};
    uint32_t output = fm_onnx_graph_inner(graph, fm_onnx_graph_name(graph, "%s.out", name),
                                          FM_ONNX_INT64, shape.rank, shape.sizes);
    fm_onnx_graph_node(graph, &(struct fm_onnx_node){.operation = "Mod",
                                                     .inputs = inputs,
                                                     .input_count = 2,
                                                     .outputs = {output},
                                                     .output_count = 1});
    return output;
}

uint32_t fm_layer_matmul(struct fm_onnx_graph *graph, const char *name, uint32_t a, uint32_t b)
{
    struct shape shape = shape_of(graph, a);
    struct shape right = shape_of(graph, b);
    uint64_t inner = (uint64_t)size_last(&shape);
    uint64_t flop = 2 * elements_of(graph, a) * (uint64_t)size_last(&right);
    FM_ASSERT(graph->failed || (uint64_t)right.sizes[right.rank - 2] == inner);
    if (shape.rank > 0) {
        shape.sizes[shape.rank - 1] = size_last(&right);
    }
    uint32_t inputs[] = {a, b};
    return node_add(graph,
                    (struct fm_onnx_node){
                        .operation = "MatMul", .inputs = inputs, .input_count = 2, .flop = flop},
                    name, "product", &shape);
}

uint32_t fm_layer_softmax(struct fm_onnx_graph *graph, const char *name, uint32_t x)
{
    struct shape shape = shape_of(graph, x);
    uint64_t n = (uint64_t)size_last(&shape);
    /* Of n: the maximum n - 1, subtractions n, exponentials n, the sum n - 1, divisions n. */
    uint64_t flop = elements_of(graph, x) / n * (5 * n - 2);
    return node_add(graph,
                    (struct fm_onnx_node){.operation = "Softmax",
                                          .inputs = &x,
                                          .input_count = 1,
                                          .attributes = {{.name = "axis", .integer = -1}},
                                          .attribute_count = 1,
                                          .flop = flop},
                    name, "softmax", &shape);
}

uint32_t fm_layer_norm(struct fm_onnx_graph *graph, const char *name, uint32_t x)
{
    struct shape shape = shape_of(graph, x);
    int64_t size = size_last(&shape);
    uint64_t n = (uint64_t)size;
    uint32_t scale = fm_onnx_graph_parameter(graph, fm_onnx_graph_name(graph, "%s.scale", name), 1,
                                             &size, 1, BIAS_RADIUS);
    uint32_t inputs[] = {x, scale, bias_add(graph, name, size)};
    /* Of n: the mean n, differences n, squares n, their mean n; epsilon, root and reciprocal 3;
     * times that n, times scale n, plus bias n. */
    uint64_t flop = elements_of(graph, x) / n * (7 * n + 3);
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "LayerNormalization", .inputs = inputs, .input_count = 3, .flop = flop},
        name, "out", &shape);
}

uint32_t fm_layer_gelu(struct fm_onnx_graph *graph, const char *name, uint32_t x)
{
    uint32_t root =
        fm_onnx_graph_number(graph, fm_onnx_graph_name(graph, "%s.root", name), 1.4142135623730951);
    uint32_t one = fm_onnx_graph_number(graph, fm_onnx_graph_name(graph, "%s.one", name), 1);
    uint32_t half = fm_onnx_graph_number(graph, fm_onnx_graph_name(graph, "%s.half", name), 0.5);
    uint32_t y = fm_layer_binary(graph, name, "Div", x, root);
    y = fm_layer_unary(graph, name, "Erf", y);
    y = fm_layer_binary(graph, name, "Add", y, one);
    y = fm_layer_binary(graph, name, "Mul", x, y);
    return fm_layer_binary(graph, fm_onnx_graph_name(graph, "%s.halved", name), "Mul", y, half);
}

uint32_t fm_layer_reshape(struct fm_onnx_graph *graph, const char *name, uint32_t x, uint32_t rank,
                          const int64_t *shape)
{
    struct shape out = {.rank = rank};
    int64_t wanted[FM_ONNX_RANK_MAX] = {0}; /* 0: as it is in x */
    for (uint32_t i = 0; i < rank; i++) {
        out.sizes[i] = shape[i];
        wanted[i] = shape[i] == FM_ONNX_BATCH ? 0 : shape[i];
    }
    uint32_t inputs[] = {x,
                         fm_onnx_graph_integers(graph, fm_onnx_graph_name(graph, "%s.shape", name),
                                                wanted, rank, false)};
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "Reshape", .inputs = inputs, .input_count = 2, .is_view = true},
        name, "view", &out);
}

uint32_t fm_layer_squeeze(struct fm_onnx_graph *graph, const char *name, uint32_t x, uint32_t axis)
{
    struct shape in = shape_of(graph, x);
    struct shape out = {.rank = 0};
    for (uint32_t i = 0; i < in.rank; i++) {
        if (i != axis) {
            out.sizes[out.rank++] = in.sizes[i];
        }
    }
    int64_t wanted = axis;
    uint32_t inputs[] = {x,
                         fm_onnx_graph_integers(graph, fm_onnx_graph_name(graph, "%s.axes", name),
                                                &wanted, 1, false)};
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "Squeeze", .inputs = inputs, .input_count = 2, .is_view = true},
        name, "view", &out);
}

uint32_t fm_layer_transpose(struct fm_onnx_graph *graph, const char *name, uint32_t x,
                            const int64_t *order)
{
    struct shape in = shape_of(graph, x);
    struct shape out = in;
    for (uint32_t i = 0; i < in.rank; i++) {
        out.sizes[i] = in.sizes[order[i]];
    }
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "Transpose",
            .inputs = &x,
            .input_count = 1,
            .attributes = {{.name = "perm", .integers = order, .integer_count = in.rank}},
            .attribute_count = 1},
        name, "transposed", &out);
}

uint32_t fm_layer_conv(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t channels,
                       int64_t kernel)
{
    struct shape shape = shape_of(graph, x);
    int64_t taps = shape.sizes[1] * kernel * kernel;
    int64_t pads[] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    int64_t sides[] = {kernel, kernel};
    uint32_t weight =
        weight_add(graph, name, (struct shape){4, {channels, shape.sizes[1], kernel, kernel}},
                   radius_of(FM_LAYER_GAIN_RELU / (double)taps));
    uint32_t inputs[] = {x, weight, bias_add(graph, name, channels)};
    shape.sizes[1] = channels;
    uint64_t outputs = (uint64_t)(channels * shape.sizes[2] * shape.sizes[3]);
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "Conv",
            .inputs = inputs,
            .input_count = 3,
            .attributes = {{.name = "kernel_shape", .integers = sides, .integer_count = 2},
                           {.name = "pads", .integers = pads, .integer_count = 4}},
            .attribute_count = 2,
            .flop = outputs * (2 * (uint64_t)taps + 1)},
        name, "out", &shape);
}

uint32_t fm_layer_max_pool(struct fm_onnx_graph *graph, const char *name, uint32_t x)
{
    struct shape shape = shape_of(graph, x);
    static const int64_t two[] = {2, 2};
    shape.sizes[2] /= 2;
    shape.sizes[3] /= 2;
    uint64_t outputs = (uint64_t)(shape.sizes[1] * shape.sizes[2] * shape.sizes[3]);
    return node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "MaxPool",
            .inputs = &x,
            .input_count = 1,
            .attributes = {{.name = "kernel_shape", .integers = two, .integer_count = 2},
                           {.name = "strides", .integers = two, .integer_count = 2}},
            .attribute_count = 2,
            .flop = 3 * outputs},
        name, "pooled", &shape);
}

uint32_t fm_layer_average_pool(struct fm_onnx_graph *graph, const char *name, uint32_t x)
{
    struct shape shape = shape_of(graph, x);
    /* Of n pixels: n - 1 additions and a division. */
    uint64_t flop = elements_of(graph, x);
    int64_t flat[] = {FM_ONNX_BATCH, shape.sizes[1]};
    shape.sizes[2] = shape.sizes[3] = 1;
    uint32_t pooled = node_add(
        graph,
        (struct fm_onnx_node){
            .operation = "GlobalAveragePool", .inputs = &x, .input_count = 1, .flop = flop},
        name, "mean", &shape);
    return fm_layer_reshape(graph, name, pooled, 2, flat);
}

uint32_t fm_layer_embedding(struct fm_onnx_graph *graph, const char *name, uint32_t indices,
                            int64_t rows, int64_t width, double radius)
{
    uint32_t weight = weight_add(graph, name, (struct shape){2, {rows, width}}, radius);
    uint32_t inputs[] = {weight, indices};
    return node_add(graph,
                    (struct fm_onnx_node){
                        .operation = "Gather", .inputs = inputs, .input_count = 2, .picks = true},
                    name, "out", &(struct shape){2, {FM_ONNX_BATCH, width}});
}

uint32_t fm_layer_pick(struct fm_onnx_graph *graph, const char *name, uint32_t x,
                       const int64_t *picked, uint32_t count, bool is_scalar)
{
    uint32_t inputs[] = {x,
                         fm_onnx_graph_integers(graph, fm_onnx_graph_name(graph, "%s.picked", name),
                                                picked, count, is_scalar)};
    int64_t shape[] = {FM_ONNX_BATCH, count};
    uint32_t output =
        fm_onnx_graph_inner(graph, fm_onnx_graph_name(graph, "%s.out", name),
                            fm_onnx_graph_value(graph, x)->type, is_scalar ? 1 : 2, shape);
    fm_onnx_graph_node(graph, &(struct fm_onnx_node){.operation = "Gather",
                                                     .inputs = inputs,
                                                     .input_count = 2,
                                                     .outputs = {output},
                                                     .output_count = 1,
                                                     .attributes = {{.name = "axis", .integer = 1}},
                                                     .attribute_count = 1,
                                                     .picks = true});
    return output;
}

uint32_t fm_layer_concat(struct fm_onnx_graph *graph, const char *name, const uint32_t *values,
                         uint32_t count)
{
    struct shape shape = {2, {FM_ONNX_BATCH, 0}};
    for (uint32_t i = 0; i < count; i++) {
        shape.sizes[1] += (int64_t)elements_of(graph, values[i]);
    }
    return node_add(graph,
                    (struct fm_onnx_node){.operation = "Concat",
                                          .inputs = values,
                                          .input_count = count,
                                          .attributes = {{.name = "axis", .integer = 1}},
                                          .attribute_count = 1},
                    name, "out", &shape);
}

/*
 * FLOP of one step and one of `hidden` outputs. Each gate: n + hidden multiply-adds, two biases,
 * the function. An LSTM besides: the new cell f*c + i*g 3, its tanh 1, times the output gate 1.
 * Formulas: the operators RNN and LSTM of ONNX.
 */
static uint64_t cell_flop(enum fm_layer_cell cell, int64_t n, int64_t hidden)
{
    uint64_t gate = 2 * ((uint64_t)n + (uint64_t)hidden) + 2 + 1;
    return cell == FM_LAYER_LSTM ? 4 * gate + 5 : gate;
}

uint32_t fm_layer_recurrent(struct fm_onnx_graph *graph, const char *name, enum fm_layer_cell cell,
                            uint32_t x, int64_t hidden, bool last_only)
{
    struct shape in = shape_of(graph, x);
    int64_t gates = cell == FM_LAYER_LSTM ? 4 : 1;
    int64_t n = size_last(&in);
    int64_t recurrent_shape[] = {1, gates * hidden, hidden};
    int64_t bias_shape[] = {1, 2 * gates * hidden};
    uint32_t weight = weight_add(graph, name, (struct shape){3, {1, gates * hidden, n}},
                                 radius_of(FM_LAYER_GAIN / (double)n));
    uint32_t recurrent =
        fm_onnx_graph_parameter(graph, fm_onnx_graph_name(graph, "%s.recurrent", name), 3,
                                recurrent_shape, 0, radius_of(RECURRENT_GAIN / (double)hidden));
    uint32_t bias = fm_onnx_graph_parameter(graph, fm_onnx_graph_name(graph, "%s.bias", name), 2,
                                            bias_shape, 0, BIAS_RADIUS);
    uint32_t inputs[] = {x, weight, recurrent, bias};
    int64_t shape[] = {last_only ? 1 : in.sizes[0], 1, FM_ONNX_BATCH, hidden};
    uint32_t output = last_only
                          ? fm_onnx_graph_inner(graph, fm_onnx_graph_name(graph, "%s.last", name),
                                                FM_ONNX_FLOAT, 3, shape + 1)
                          : fm_onnx_graph_inner(graph, fm_onnx_graph_name(graph, "%s.out", name),
                                                FM_ONNX_FLOAT, 4, shape);
    struct fm_onnx_node node = {
        .operation = cell == FM_LAYER_LSTM ? "LSTM" : "RNN",
        .inputs = inputs,
        .input_count = 4,
        .outputs = {last_only ? FM_ONNX_NONE : output, output},
        .output_count = last_only ? 2 : 1,
        .attributes = {{.name = "hidden_size", .integer = hidden}},
        .attribute_count = 1,
        .flop = (uint64_t)in.sizes[0] * (uint64_t)hidden * cell_flop(cell, n, hidden),
    };
    fm_onnx_graph_node(graph, &node);
    return fm_layer_squeeze(graph, name, output, last_only ? 0 : 1);
}
