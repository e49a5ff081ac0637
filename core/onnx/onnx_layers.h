/*
 * The layers that families are made of: each adds a node or a few, with parameters, shapes and
 * exactly counted FLOP, and returns the value that comes out.
 *
 * Owns: which ONNX operators a layer is (operator set 17) and what they count; the conventions are
 * in model_counts.h. Does not own: which layers make a network (families.h). `name` is the first
 * part of the names of all that a layer adds; it is borrowed for the graph's life. Thread rule: the
 * graph is the caller's. Errors stick in the graph.
 *
 * Parameters: with `gain` g and n inputs to each output, weights are uniform with variance g/n, so
 * that an output has g times the mean square of the inputs: 2 in front of a ReLU, which takes half
 * of it away (K. He et al., Delving Deep into Rectifiers, ICCV 2015), else 1 (X. Glorot, Y. Bengio,
 * Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010). Biases
 * are uniform in [-0.1, 0.1), so that one that is forgotten shows.
 */
#ifndef FM_CORE_ONNX_ONNX_LAYERS_H
#define FM_CORE_ONNX_ONNX_LAYERS_H

#include "core/onnx/onnx_graph.h"

#define FM_LAYER_GAIN_RELU 2.0
#define FM_LAYER_GAIN      1.0

enum fm_layer_cell { FM_LAYER_RNN, FM_LAYER_LSTM };

/* x: [batch, n] -> [batch, outputs]. Gemm with `name`.weight [outputs, n], `name`.bias. */
uint32_t fm_layer_gemm(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t outputs,
                       double gain);
/* x: [batch, s, n] -> [batch, s, outputs]. MatMul with `name`.weight [n, outputs], Add of
 * `name`.bias. */
uint32_t fm_layer_linear(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t outputs,
                         double gain);
/* One operation for each element: Relu, Sigmoid, Erf. The result is `name`.out. */
uint32_t fm_layer_unary(struct fm_onnx_graph *graph, const char *name, const char *operation,
                        uint32_t x);
/* One operation for each element of x: Add, Mul, Div; other: as large, or a constant number. */
uint32_t fm_layer_binary(struct fm_onnx_graph *graph, const char *name, const char *operation,
                         uint32_t x, uint32_t other);
/* x mod `modulus`, of integers; not below 0. */
uint32_t fm_layer_modulo(struct fm_onnx_graph *graph, const char *name, uint32_t x,
                         int64_t modulus);
/* a: [..., m, k], b: [..., k, n], both with the batch. */
uint32_t fm_layer_matmul(struct fm_onnx_graph *graph, const char *name, uint32_t a, uint32_t b);
/* Over the last axis. */
uint32_t fm_layer_softmax(struct fm_onnx_graph *graph, const char *name, uint32_t x);
/* Over the last axis, with `name`.scale near 1 and `name`.bias; epsilon 1e-5. */
uint32_t fm_layer_norm(struct fm_onnx_graph *graph, const char *name, uint32_t x);
/* x * 0.5 * (1 + erf(x / sqrt(2))): five nodes. */
uint32_t fm_layer_gelu(struct fm_onnx_graph *graph, const char *name, uint32_t x);
/* The batch stays the first axis; shape[0] is FM_ONNX_BATCH. */
uint32_t fm_layer_reshape(struct fm_onnx_graph *graph, const char *name, uint32_t x, uint32_t rank,
                          const int64_t *shape);
/* Without axis `axis`, whose size is 1. */
uint32_t fm_layer_squeeze(struct fm_onnx_graph *graph, const char *name, uint32_t x, uint32_t axis);
/* Axis i of the result is axis order[i] of x. */
uint32_t fm_layer_transpose(struct fm_onnx_graph *graph, const char *name, uint32_t x,
                            const int64_t *order);
/* x: [batch, c, side, side] -> [batch, channels, side, side]: stride 1, zeros around it, `kernel`
 * odd; `name`.weight [channels, c, kernel, kernel], `name`.bias. */
uint32_t fm_layer_conv(struct fm_onnx_graph *graph, const char *name, uint32_t x, int64_t channels,
                       int64_t kernel);
/* The largest of each 2 x 2; a last odd row or column is left out. */
uint32_t fm_layer_max_pool(struct fm_onnx_graph *graph, const char *name, uint32_t x);
/* [batch, c, side, side] -> [batch, c]: the mean of each channel. */
uint32_t fm_layer_average_pool(struct fm_onnx_graph *graph, const char *name, uint32_t x);
/* The rows of `name`.weight [rows, width] that the integers in `indices` [batch] name. */
uint32_t fm_layer_embedding(struct fm_onnx_graph *graph, const char *name, uint32_t indices,
                            int64_t rows, int64_t width, double radius);
/* x: [batch, n] -> [batch, count], its elements `picked`; -> [batch] where is_scalar and count is
 * 1. */
uint32_t fm_layer_pick(struct fm_onnx_graph *graph, const char *name, uint32_t x,
                       const int64_t *picked, uint32_t count, bool is_scalar);
/* [batch, a], [batch, b], ... -> [batch, a + b + ...]. */
uint32_t fm_layer_concat(struct fm_onnx_graph *graph, const char *name, const uint32_t *values,
                         uint32_t count);
/*
 * x: [steps, batch, n] -> [steps, batch, hidden], or only the last step's [batch, hidden]. LSTM or
 * RNN (tanh) of ONNX with `name`.weight, `name`.recurrent, `name`.bias, their gates in ONNX's
 * order.
 */
uint32_t fm_layer_recurrent(struct fm_onnx_graph *graph, const char *name, enum fm_layer_cell cell,
                            uint32_t x, int64_t hidden, bool last_only);

#endif
