/*
 * Tensors across the border: element types, values over the caller's bytes, outputs handed out
 * without a copy, strings.
 */
#include <stdlib.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "host/runtime/backends/onnxruntime/ort.h"

static const struct {
    ONNXTensorElementDataType type;
    uint32_t dtype;
} types[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, FM_DTYPE_FP32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, FM_DTYPE_UINT8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, FM_DTYPE_INT8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, FM_DTYPE_UINT16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, FM_DTYPE_INT16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, FM_DTYPE_INT32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, FM_DTYPE_INT64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, FM_DTYPE_BYTES},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, FM_DTYPE_BOOL},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, FM_DTYPE_FP16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, FM_DTYPE_FP64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, FM_DTYPE_UINT32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, FM_DTYPE_UINT64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64, FM_DTYPE_COMPLEX64},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX128, FM_DTYPE_COMPLEX128},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, FM_DTYPE_BF16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN, FM_DTYPE_FP8E4M3FN},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ, FM_DTYPE_FP8E4M3FNUZ},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2, FM_DTYPE_FP8E5M2},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ, FM_DTYPE_FP8E5M2FNUZ},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4, FM_DTYPE_UINT4},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4, FM_DTYPE_INT4},
};

uint32_t ort_dtype_from(ONNXTensorElementDataType type)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].type == type) {
            return types[i].dtype;
        }
    }
    return FM_DTYPE_INVALID;
}

ONNXTensorElementDataType ort_dtype_to(uint32_t dtype)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].dtype == dtype) {
            return types[i].type;
        }
    }
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

/* Strings have to be copied: ONNX Runtime keeps them as C++ objects. */
static int strings_fill(const struct ort_device *device, const struct fm_tensor *tensor,
                        OrtValue *value, struct fm_error *reterr)
{
    uint64_t count = 0;
    int status = fm_shape_element_count(tensor->shape, tensor->rank, &count);
    const char *cursor = tensor->data;
    for (uint64_t i = 0; status == 0 && i < count; i++) {
        uint32_t length = 0;
        char *target = NULL;
        memcpy(&length, cursor, sizeof(length));
        status = ort_status(
            device, device->api->GetResizedStringTensorElementBuffer(value, i, length, &target),
            "strings", reterr);
        if (status == 0 && length > 0) {
            memcpy(target, cursor + sizeof(length), length);
        }
        cursor += sizeof(length) + length;
    }
    return status;
}

int ort_value_from_tensor(const struct ort_device *device, const struct fm_tensor *tensor,
                          OrtValue **ret_value, struct fm_error *reterr)
{
    static char nothing[64]; /* an empty tensor still needs an address */
    ONNXTensorElementDataType type = ort_dtype_to(tensor->dtype);
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
        int status =
            ort_status(device,
                       device->api->CreateTensorAsOrtValue(device->allocator, tensor->shape,
                                                           tensor->rank, type, ret_value),
                       "strings", reterr);
        return status != 0 ? status : strings_fill(device, tensor, *ret_value, reterr);
    }
    void *data = tensor->size > 0 ? tensor->data : nothing;
    return ort_status(device,
                      device->api->CreateTensorWithDataAsOrtValue(device->cpu_memory, data,
                                                                  tensor->size, tensor->shape,
                                                                  tensor->rank, type, ret_value),
                      "tensor", reterr);
}

/* What an output handed out without a copy holds on to. */
struct held_value {
    const OrtApi *api;
    OrtValue *value;
};

static void held_release(void *context)
{
    struct held_value *held = context;
    held->api->ReleaseValue(held->value);
    free(held);
}

static int strings_read(const struct ort_device *device, OrtValue *value, uint64_t count,
                        struct fm_output *output, struct fm_error *reterr)
{
    size_t total = 0;
    int status = ort_status(device, device->api->GetStringTensorDataLength(value, &total),
                            "strings", reterr);
    if (status != 0) {
        return status;
    }
    size_t *offsets = malloc((count + 1) * sizeof(*offsets));
    char *text = malloc(total + 1);
    char *wire = malloc(total + count * 4 + 1);
    if (offsets == NULL || text == NULL || wire == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "strings: out of memory");
    } else if (count > 0) {
        status = ort_status(device,
                            device->api->GetStringTensorContent(value, text, total, offsets, count),
                            "strings", reterr);
    }
    if (status == 0) {
        char *cursor = wire;
        offsets[count] = total;
        for (uint64_t i = 0; i < count; i++) {
            uint32_t length = (uint32_t)(offsets[i + 1] - offsets[i]);
            memcpy(cursor, &length, sizeof(length));
            memcpy(cursor + sizeof(length), text + offsets[i], length);
            cursor += sizeof(length) + length;
        }
        output->tensor.data = wire;
        output->tensor.size = (size_t)(cursor - wire);
        output->release = free;
        output->release_context = wire;
        wire = NULL;
    }
    free(offsets);
    free(text);
    free(wire);
    return status;
}

/* dtype and shape of a value into ret_tensor. */
static int value_describe(const struct ort_device *device, const OrtValue *value,
                          struct fm_tensor *ret_tensor, struct fm_error *reterr)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0;
    int status =
        ort_status(device, device->api->GetTensorTypeAndShape(value, &info), "output", reterr);
    status = status != 0 ? status
                         : ort_status(device, device->api->GetTensorElementType(info, &type),
                                      "output", reterr);
    status = status != 0 ? status
                         : ort_status(device, device->api->GetDimensionsCount(info, &rank),
                                      "output", reterr);
    if (status == 0 && rank > FM_RANK_MAX) {
        status =
            fm_error_set(reterr, FM_EUNSUPPORTED,
                         "output: %zu dimensions, at most %d are supported", rank, FM_RANK_MAX);
    }
    if (status == 0) {
        *ret_tensor = (struct fm_tensor){.dtype = ort_dtype_from(type), .rank = (uint32_t)rank};
        status = ort_status(device, device->api->GetDimensions(info, ret_tensor->shape, rank),
                            "output", reterr);
    }
    if (info != NULL) {
        device->api->ReleaseTensorTypeAndShapeInfo(info);
    }
    return status;
}

int ort_value_to_output(const struct ort_device *device, OrtValue *take_value,
                        struct fm_output *output, struct fm_error *reterr)
{
    struct fm_tensor tensor;
    uint64_t count = 0;
    int status = value_describe(device, take_value, &tensor, reterr);
    if (status == 0 && fm_shape_element_count(tensor.shape, tensor.rank, &count) != 0) {
        status = fm_error_set(reterr, FM_EINTERNAL, "output: impossible shape");
    }
    if (status != 0) {
        return status;
    }
    output->tensor = tensor;
    if (tensor.dtype == FM_DTYPE_BYTES) {
        status = strings_read(device, take_value, count, output, reterr);
        if (status == 0) {
            device->api->ReleaseValue(take_value);
        }
        return status;
    }
    struct held_value *held = malloc(sizeof(*held));
    if (held == NULL ||
        fm_tensor_bytes(tensor.dtype, tensor.shape, tensor.rank, &output->tensor.size) != 0) {
        free(held);
        return fm_error_set(reterr, FM_ENOMEM, "output: out of memory");
    }
    status = ort_status(device, device->api->GetTensorMutableData(take_value, &output->tensor.data),
                        "output", reterr);
    if (status != 0) {
        free(held);
        return status;
    }
    *held = (struct held_value){.api = device->api, .value = take_value};
    output->release = held_release;
    output->release_context = held;
    return 0;
}
