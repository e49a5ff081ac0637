/*
 * What a graph takes: parameters, FLOP and bytes, exactly, as far as its shapes say.
 *
 * Owns: the counting. Thread rule: pure.
 *
 * FLOP: a multiply-add is 2; so a product of n numbers with n weights is 2n, with a bias 2n + 1
 * (NVIDIA, Deep Learning Performance Guide: "Matrix Multiplication Background"; S. Williams et al.,
 * Roofline, CACM 52, 2009, count floating-point operations likewise). Every other operation on an
 * element is 1, whatever it costs: addition, multiplication, division, square root, comparison
 * (ReLU, maximum), exp, tanh, erf, sigmoid. Zeros around an image are multiplied like pixels.
 * Integers, and what only moves numbers, are 0.
 *
 * Bytes: each node reads its inputs and writes its outputs once. What only looks at its input
 * otherwise (Reshape, Squeeze) moves nothing; Gather reads what it picks. A runtime that fuses
 * nodes moves less, one whose caches are small moves more (a recurrent layer's weights at each
 * step): the truth about a device is for its own counters.
 */
#ifndef FM_CORE_ONNX_MODEL_COUNTS_H
#define FM_CORE_ONNX_MODEL_COUNTS_H

#include "core/onnx/onnx_graph.h"

struct fm_model_counts {
    uint64_t parameters;      /* numbers that would be learnt; constants of formulas are none */
    uint64_t parameter_bytes; /* of these */
    uint64_t weight_bytes;    /* those of them that are read whole for each batch */
    uint32_t nodes;
    /* Per row: */
    uint64_t flop;
    uint64_t gathered_bytes;   /* rows of tables that are looked up */
    uint64_t input_bytes;      /* the graph's inputs, read once */
    uint64_t output_bytes;     /* the graph's outputs, written once */
    uint64_t activation_bytes; /* everything else that nodes read and write */
};

void fm_model_counts_make(const struct fm_onnx_graph *graph, struct fm_model_counts *ret_counts);

/*
 * Bytes to and from memory for each row of a batch of `batch` > 0:
 * weights / batch + gathered + inputs + outputs + activations.
 */
double fm_model_traffic_bytes(const struct fm_model_counts *counts, uint64_t batch);
/* The same without activations: what remains when all of them stay in caches. */
double fm_model_traffic_least_bytes(const struct fm_model_counts *counts, uint64_t batch);
/* FLOP for each byte of the traffic: the horizontal axis of a roofline. */
double fm_model_intensity(const struct fm_model_counts *counts, uint64_t batch);

#endif
