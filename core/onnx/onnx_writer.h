/*
 * Writes a graph as an ONNX model: the protobuf messages of onnx.proto, by hand.
 *
 * Owns: the file's form: IR version 8, operator set 17, values' names and shapes with the symbolic
 * axis "batch", parameters as raw_data. Everything but the parameters is made in memory (some
 * hundred bytes for each node); their numbers are made and handed on in pieces, so a model of
 * gigabytes costs no memory. Does not own: files. Thread rule: the graph is only read.
 */
#ifndef FM_CORE_ONNX_ONNX_WRITER_H
#define FM_CORE_ONNX_ONNX_WRITER_H

#include "core/onnx/onnx_graph.h"

#define FM_ONNX_OPSET      17
#define FM_ONNX_IR_VERSION 8
/* A protobuf message ends here: its readers count bytes as int32. */
#define FM_ONNX_BYTES_MAX UINT64_C(2147483647)

/* Where the bytes go, in order. Anything but 0 ends the writing and is what it returns. */
struct fm_onnx_sink {
    int (*put)(void *context, const void *data, size_t size, struct fm_error *reterr);
    void *context;
};

/* How many bytes the model has. FM_ETOOLARGE above FM_ONNX_BYTES_MAX, FM_ENOMEM. */
int FM_NODISCARD fm_onnx_measure(const struct fm_onnx_graph *graph, uint64_t *ret_bytes,
                                 struct fm_error *reterr);
/* Hands that many bytes to the sink, the same ones each time. Errors as above, and the sink's. */
int FM_NODISCARD fm_onnx_write(const struct fm_onnx_graph *graph, const struct fm_onnx_sink *sink,
                               struct fm_error *reterr);

#endif
