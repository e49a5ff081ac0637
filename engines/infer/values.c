/*
 * Tensor elements as numbers. See values.h.
 */
#include "engines/infer/values.h"

#include <math.h>
#include <string.h>

bool fm_dtype_is_float(uint32_t dtype)
{
    return dtype == FM_DTYPE_FP16 || dtype == FM_DTYPE_FP32 || dtype == FM_DTYPE_FP64 ||
           dtype == FM_DTYPE_BF16;
}

bool fm_dtype_is_number(uint32_t dtype)
{
    return fm_dtype_is_float(dtype) || (dtype >= FM_DTYPE_BOOL && dtype <= FM_DTYPE_INT64) ||
           dtype == FM_DTYPE_UINT4 || dtype == FM_DTYPE_INT4;
}

/* Loads a fixed-size element; the bytes may lie anywhere. */
#define LOAD(type)                                                                          \
    do {                                                                                    \
        type value_;                                                                        \
        memcpy(&value_, (const char *)tensor->data + index * sizeof value_, sizeof value_); \
        return (double)value_;                                                              \
    } while (0)

static double half_load(const struct fm_tensor *tensor, uint64_t index)
{
    uint16_t half;
    memcpy(&half, (const char *)tensor->data + index * sizeof half, sizeof half);
    return (double)(tensor->dtype == FM_DTYPE_FP16 ? fm_fp16_to_float(half)
                                                   : fm_bf16_to_float(half));
}

static double nibble_load(const struct fm_tensor *tensor, uint64_t index)
{
    unsigned byte = ((const unsigned char *)tensor->data)[index / 2];
    unsigned nibble = index % 2 == 0 ? byte & 15u : byte >> 4;
    return tensor->dtype == FM_DTYPE_INT4 && nibble >= 8 ? (double)nibble - 16 : (double)nibble;
}

double fm_element_number(const struct fm_tensor *tensor, uint64_t index)
{
    switch ((enum fm_dtype)tensor->dtype) {
    case FM_DTYPE_BOOL:
    case FM_DTYPE_UINT8:
        LOAD(uint8_t);
    case FM_DTYPE_UINT16:
        LOAD(uint16_t);
    case FM_DTYPE_UINT32:
        LOAD(uint32_t);
    case FM_DTYPE_UINT64:
        LOAD(uint64_t);
    case FM_DTYPE_INT8:
        LOAD(int8_t);
    case FM_DTYPE_INT16:
        LOAD(int16_t);
    case FM_DTYPE_INT32:
        LOAD(int32_t);
    case FM_DTYPE_INT64:
        LOAD(int64_t);
    case FM_DTYPE_FP32:
        LOAD(float);
    case FM_DTYPE_FP64:
        LOAD(double);
    case FM_DTYPE_FP16:
    case FM_DTYPE_BF16:
        return half_load(tensor, index);
    case FM_DTYPE_UINT4:
    case FM_DTYPE_INT4:
        return nibble_load(tensor, index);
    case FM_DTYPE_INVALID:
    case FM_DTYPE_BYTES:
    case FM_DTYPE_FP8E4M3FN:
    case FM_DTYPE_FP8E4M3FNUZ:
    case FM_DTYPE_FP8E5M2:
    case FM_DTYPE_FP8E5M2FNUZ:
    case FM_DTYPE_COMPLEX64:
    case FM_DTYPE_COMPLEX128:
    case FM_DTYPE_COUNT_:
        break;
    }
    return (double)NAN;
}

void fm_summarize(const struct fm_tensor *tensor, struct fm_summary *ret_summary)
{
    struct fm_summary summary = {0};
    double sum = 0;
    bool first = true;
    if (fm_shape_element_count(tensor->shape, tensor->rank, &summary.count) != 0 ||
        !fm_dtype_is_number(tensor->dtype)) {
        summary.count = 0;
    }
    for (uint64_t i = 0; i < summary.count; i++) {
        double value = fm_element_number(tensor, i);
        if (!isfinite(value)) {
            summary.not_finite++;
            continue;
        }
        summary.min = first || value < summary.min ? value : summary.min;
        summary.max = first || value > summary.max ? value : summary.max;
        sum += value;
        first = false;
    }
    uint64_t finite = summary.count - summary.not_finite;
    summary.mean = finite > 0 ? sum / (double)finite : 0;
    *ret_summary = summary;
}

uint32_t fm_top(const struct fm_tensor *tensor, uint64_t first, uint32_t size, uint32_t count,
                struct fm_class *classes)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < size; i++) {
        double score = fm_element_number(tensor, first + i);
        if (isnan(score) || (used == count && (count == 0 || score <= classes[used - 1].score))) {
            continue;
        }
        uint32_t at = used < count ? used++ : used - 1;
        while (at > 0 && classes[at - 1].score < score) {
            classes[at] = classes[at - 1];
            at--;
        }
        classes[at] = (struct fm_class){.index = i, .score = score};
    }
    return used;
}
