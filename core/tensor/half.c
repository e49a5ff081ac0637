/*
 * 16-bit floating point: IEEE 754 binary16 and bfloat16 to and from float, rounding to nearest
 * even. Pure.
 */
#include <string.h>

#include "core/tensor/tensor.h"

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

float fm_fp16_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1Fu;
    uint32_t mantissa = half & 0x3FFu;
    if (exponent == 0x1F) {
        return float_from_bits(sign | 0x7F800000u | mantissa << 13);
    }
    if (exponent == 0) {
        /* Zero and subnormals: mantissa * 2^-24, exact in a float. */
        float magnitude = (float)mantissa * 0x1.0p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    return float_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t fm_fp16_from_float(float value)
{
    uint32_t bits = float_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return (uint16_t)(sign | 0x7E00u);
    }
    if (magnitude >= 0x47800000u) { /* 65536 and more, infinity */
        return (uint16_t)(sign | 0x7C00u);
    }
    if (magnitude < 0x38800000u) {
        /* Below 2^-14: adding 0.5 lets the float unit round the value to a multiple of 2^-24. */
        float shifted = float_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (float_bits(shifted) - 0x3F000000u));
    }
    uint32_t odd = (magnitude >> 13) & 1u;
    magnitude += 0xFFFu + odd;
    return (uint16_t)(sign | ((magnitude - 0x38000000u) >> 13));
}

float fm_bf16_to_float(uint16_t value)
{
    return float_from_bits((uint32_t)value << 16);
}

uint16_t fm_bf16_from_float(float value)
{
    uint32_t bits = float_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return (uint16_t)((bits >> 16) | 0x40u);
    }
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
