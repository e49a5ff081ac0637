/*
 * Writes small ONNX models for tests, straight as protobuf, with nothing but this repository.
 *
 * Owns: the wire form of the few ONNX messages that tests need. Does not check that a model makes
 * sense: tests want wrong ones too. Thread rule: caller's memory. Errors stick and fm_onnx_save
 * reports them.
 */
#ifndef FM_TESTS_HARNESS_ONNX_WRITER_H
#define FM_TESTS_HARNESS_ONNX_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/tensor.h"

enum fm_onnx_kind { FM_ONNX_TENSOR, FM_ONNX_SEQUENCE, FM_ONNX_OPTIONAL, FM_ONNX_MAP };

/* Zero-initialise; call fm_onnx_deinit at the end. */
struct fm_onnx_writer {
    struct fm_text graph; /* fields of GraphProto so far */
    int64_t opset;        /* 0: 21 */
};

/* ONNX's number of a data type (TensorProto.DataType). */
int fm_onnx_element_type(uint32_t dtype);

/*
 * A negative dimension becomes symbolic: "batch" for axis 0, "<name>_<axis>" for others, where
 * <name> is the port's without a leading "out_".
 */
void fm_onnx_input(struct fm_onnx_writer *writer, const struct fm_port *port);
void fm_onnx_output(struct fm_onnx_writer *writer, const struct fm_port *port);
/* An input that is no tensor but holds FP32 tensors (a map: from INT64 to FP32). */
void fm_onnx_input_of_kind(struct fm_onnx_writer *writer, const char *name, enum fm_onnx_kind kind);

/* `inputs` and `outputs` are names with commas between. */
void fm_onnx_node(struct fm_onnx_writer *writer, const char *operation, const char *inputs,
                  const char *outputs);
/* The same with one integer attribute. */
void fm_onnx_node_int(struct fm_onnx_writer *writer, const char *operation, const char *inputs,
                      const char *outputs, const char *attribute, int64_t value);
/* A constant with its bytes in the model. */
void fm_onnx_constant(struct fm_onnx_writer *writer, const char *name,
                      const struct fm_tensor *tensor);
/* A constant whose bytes lie in the file `location`, relative to the model. */
void fm_onnx_constant_external(struct fm_onnx_writer *writer, const char *name,
                               const struct fm_tensor *tensor, const char *location);

/* The whole model's bytes, appended to ret_bytes. */
void fm_onnx_finish(struct fm_onnx_writer *writer, struct fm_text *ret_bytes);
/* Writes the model to a file. Non-zero when anything failed. */
int fm_onnx_save(struct fm_onnx_writer *writer, const char *path) FM_NODISCARD;
void fm_onnx_deinit(struct fm_onnx_writer *writer);

/* Output i is inputs[i] under the name "out_<name>", by Identity (4-bit types, for which ONNX
 * Runtime has none: by Cast to the same type). */
int fm_onnx_save_identity(const char *path, const struct fm_port *inputs,
                          size_t count) FM_NODISCARD;

#endif
