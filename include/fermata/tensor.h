/*
 * Tensors as they cross the plug-in boundary: data type, shape, contiguous bytes. A view, never an
 * owner.
 *
 * Owns: the data type table and the layout of struct fm_tensor. Does not own: memory (who owns the
 * bytes is said by the function that takes the view). Thread rule: plain data.
 */
#ifndef FERMATA_TENSOR_H
#define FERMATA_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/*
 * X(name, value, bits per element, name in the Open Inference Protocol, name in Triton's
 * config.pbtxt). Values are part of the ABI: append only. BYTES has no fixed size: a tensor of it
 * holds, for each element in row-major order, a little-endian uint32 length and then that many
 * bytes (the protocol's own binary form). Types below 8 bits are packed, low nibble first, as in
 * ONNX. The types that the protocol does not name carry ONNX's name.
 */
#define FM_DTYPE_TABLE(X)                                       \
    X(INVALID, 0, 0, "INVALID", "TYPE_INVALID")                 \
    X(BOOL, 1, 8, "BOOL", "TYPE_BOOL")                          \
    X(UINT8, 2, 8, "UINT8", "TYPE_UINT8")                       \
    X(UINT16, 3, 16, "UINT16", "TYPE_UINT16")                   \
    X(UINT32, 4, 32, "UINT32", "TYPE_UINT32")                   \
    X(UINT64, 5, 64, "UINT64", "TYPE_UINT64")                   \
    X(INT8, 6, 8, "INT8", "TYPE_INT8")                          \
    X(INT16, 7, 16, "INT16", "TYPE_INT16")                      \
    X(INT32, 8, 32, "INT32", "TYPE_INT32")                      \
    X(INT64, 9, 64, "INT64", "TYPE_INT64")                      \
    X(FP16, 10, 16, "FP16", "TYPE_FP16")                        \
    X(FP32, 11, 32, "FP32", "TYPE_FP32")                        \
    X(FP64, 12, 64, "FP64", "TYPE_FP64")                        \
    X(BYTES, 13, 0, "BYTES", "TYPE_STRING")                     \
    X(BF16, 14, 16, "BF16", "TYPE_BF16")                        \
    X(FP8E4M3FN, 15, 8, "FLOAT8E4M3FN", "TYPE_FP8E4M3FN")       \
    X(FP8E4M3FNUZ, 16, 8, "FLOAT8E4M3FNUZ", "TYPE_FP8E4M3FNUZ") \
    X(FP8E5M2, 17, 8, "FLOAT8E5M2", "TYPE_FP8E5M2")             \
    X(FP8E5M2FNUZ, 18, 8, "FLOAT8E5M2FNUZ", "TYPE_FP8E5M2FNUZ") \
    X(COMPLEX64, 19, 64, "COMPLEX64", "TYPE_COMPLEX64")         \
    X(COMPLEX128, 20, 128, "COMPLEX128", "TYPE_COMPLEX128")     \
    X(UINT4, 21, 4, "UINT4", "TYPE_UINT4")                      \
    X(INT4, 22, 4, "INT4", "TYPE_INT4")

enum fm_dtype {
#define FM_DTYPE_ENUM(name, value, bits, oip, triton) FM_DTYPE_##name = (value),
    FM_DTYPE_TABLE(FM_DTYPE_ENUM)
#undef FM_DTYPE_ENUM
        FM_DTYPE_COUNT_
};

#define FM_RANK_MAX 16

/* A dense, row-major tensor. A scalar has rank 0 and one element. `size` is the number of bytes at
 * `data`. */
struct fm_tensor {
    uint32_t dtype; /* enum fm_dtype */
    uint32_t rank;
    int64_t shape[FM_RANK_MAX];
    void *data; /* borrowed; NULL only where size is 0 or the tensor is absent */
    size_t size;
};

/* A tensor and the name of the input or output that it is. */
struct fm_named_tensor {
    const char *name;
    struct fm_tensor tensor;
};

/* Flags of struct fm_port. */
#define FM_PORT_OPTIONAL 1u /* input: may be absent */
#define FM_PORT_MANY                                                                        \
    2u /* operator output: any number of elements (fan-out); operator input: takes them all \
          (fan-in) */

/* One named input or output of a model or an operator. */
struct fm_port {
    const char *name;           /* owned by whoever returned the port, valid as long as it */
    uint32_t dtype;             /* enum fm_dtype; FM_DTYPE_INVALID = any (operators only) */
    int32_t rank;               /* -1 = any (operators only) */
    int64_t shape[FM_RANK_MAX]; /* -1 = variable */
    uint32_t flags;
    uint32_t reserved;
};

/* A configuration entry handed to a plug-in. Both strings are borrowed for the length of the call.
 */
struct fm_setting {
    const char *key;
    const char *value;
};

#endif
