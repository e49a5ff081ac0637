/*
 * Tensors inside the tree: the plug-in ABI's view plus a reference-counted owner of the bytes.
 *
 * Owns: element sizes, shapes, byte counts, BYTES element access, half-precision conversion, and
 * the life of tensor bytes. Thread rule: reference counts are atomic; a tensor's bytes are written
 * by one thread before it is shared and read-only afterwards.
 */
#ifndef FM_CORE_TENSOR_TENSOR_H
#define FM_CORE_TENSOR_TENSOR_H

#include <stdbool.h>

#include "fermata/status.h"
#include "fermata/tensor.h"

/* The owner of some bytes. Opaque; made by fm_buffer_create or fm_buffer_wrap. */
struct fm_buffer;

/* A tensor and its owner. `buffer` NULL: the bytes are borrowed, and the tensor must not outlive
 * them. Zeroed = no value. */
struct fm_value {
    struct fm_tensor tensor;
    struct fm_buffer *buffer;
};

const char *fm_dtype_name(uint32_t dtype);        /* "FP32"; "INVALID" for anything unknown */
const char *fm_dtype_config_name(uint32_t dtype); /* "TYPE_FP32" */
uint32_t fm_dtype_parse(const char *name,
                        size_t length); /* either name; FM_DTYPE_INVALID when unknown */
uint32_t fm_dtype_bits(uint32_t dtype); /* 0 for BYTES */

/* Product of the dimensions (1 for rank 0). FM_EINVAL for a negative dimension or rank,
 * FM_ETOOLARGE on overflow. */
int FM_NODISCARD fm_shape_element_count(const int64_t *shape, uint32_t rank, uint64_t *ret_count);
/* Bytes of a dense tensor of fixed-size elements. FM_ETYPE for BYTES. */
int FM_NODISCARD fm_tensor_bytes(uint32_t dtype, const int64_t *shape, uint32_t rank,
                                 size_t *ret_size);
/* "[1,3,-1,48]" into text (cut to size). Returns text. */
const char *fm_shape_format(const int64_t *shape, uint32_t rank, char *text, size_t size);
/* True when every fixed dimension of the port's shape equals the tensor's (and ranks agree; rank -1
 * agrees with all). */
bool fm_shape_matches(const struct fm_port *port, const int64_t *shape, uint32_t rank);
/* Checks dtype, shape and that size is right (for BYTES: that the lengths add up exactly). */
int FM_NODISCARD fm_tensor_check(const struct fm_tensor *tensor, struct fm_error *reterr);

/* Element `index` of a BYTES tensor that passed fm_tensor_check, O(index). */
int FM_NODISCARD fm_bytes_get(const struct fm_tensor *tensor, uint64_t index, const char **ret_data,
                              size_t *ret_length);

/*
 * A view of the next `rows` rows (dimension 0) of a tensor of rank 1 or more, from byte *offset on,
 * which moves behind them. FM_ECORRUPT: they are not all there (BYTES: the lengths are walked).
 */
int FM_NODISCARD fm_tensor_rows_next(const struct fm_tensor *whole, size_t *offset, uint64_t rows,
                                     struct fm_tensor *ret_view);

float fm_fp16_to_float(uint16_t half);
uint16_t fm_fp16_from_float(float value); /* round to nearest even */
float fm_bf16_to_float(uint16_t value);
uint16_t fm_bf16_from_float(float value);

/* A buffer with `size` bytes of its own (aligned to 64); count 1. NULL when out of memory. */
struct fm_buffer *fm_buffer_create(size_t size) __attribute__((warn_unused_result));
/* A buffer around foreign bytes: release(context) is called once, when the count reaches 0. Takes
 * nothing on failure (NULL). */
struct fm_buffer *fm_buffer_wrap(void *data, size_t size, void (*release)(void *context),
                                 void *context) __attribute__((warn_unused_result));
void *fm_buffer_data(struct fm_buffer *buffer);
size_t fm_buffer_size(const struct fm_buffer *buffer);
struct fm_buffer *fm_buffer_ref(struct fm_buffer *buffer);
void fm_buffer_unref(struct fm_buffer *buffer); /* accepts NULL */

/* Makes *value own fresh bytes for dtype/shape (BYTES: give `size`; others: size is ignored and
 * computed). */
int FM_NODISCARD fm_value_alloc(struct fm_value *ret_value, uint32_t dtype, const int64_t *shape,
                                uint32_t rank, size_t size);
/* A BYTES tensor of shape [1] holding one string. */
int FM_NODISCARD fm_value_from_bytes(struct fm_value *ret_value, const void *data, size_t length);
/* Another reference to the same bytes. */
struct fm_value fm_value_ref(const struct fm_value *value);
void fm_value_unref(struct fm_value *value); /* and zeroes it; accepts a zeroed one */

#endif
