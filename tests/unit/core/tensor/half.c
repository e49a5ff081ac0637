/*
 * Tests of core/tensor/half: every 16-bit value there and back, rounding to nearest even.
 */
#include "core/tensor/tensor.h"
#include "tests/harness/test.h"

TEST(every_fp16_value_round_trips)
{
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float value = fm_fp16_to_float((uint16_t)bits);
        if (isnan(value)) {
            CHECK((bits & 0x7C00u) == 0x7C00u && (bits & 0x3FFu) != 0);
            CHECK(isnan(fm_fp16_to_float(fm_fp16_from_float(value))));
        } else {
            CHECK_UINT_EQ(fm_fp16_from_float(value), bits);
        }
    }
}

/* Halfway between two neighbours goes to the even one; a hair above goes up. */
TEST(fp16_rounds_to_nearest_even)
{
    for (uint32_t bits = 0; bits < 0x7BFF; bits++) {
        double low = (double)fm_fp16_to_float((uint16_t)bits);
        double high = (double)fm_fp16_to_float((uint16_t)(bits + 1));
        float middle = (float)((low + high) / 2);
        uint32_t even = (bits & 1u) != 0 ? bits + 1 : bits;
        CHECK_UINT_EQ(fm_fp16_from_float(middle), even);
        CHECK_UINT_EQ(fm_fp16_from_float(nextafterf(middle, INFINITY)), bits + 1);
        CHECK_UINT_EQ(fm_fp16_from_float(-nextafterf(middle, 0)), bits | 0x8000u);
    }
}

TEST(fp16_extremes)
{
    CHECK_UINT_EQ(fm_fp16_from_float(65504.0f), 0x7BFF);
    CHECK_UINT_EQ(fm_fp16_from_float(65519.9f), 0x7BFF);
    CHECK_UINT_EQ(fm_fp16_from_float(65520.0f), 0x7C00);
    CHECK_UINT_EQ(fm_fp16_from_float(1e30f), 0x7C00);
    CHECK_UINT_EQ(fm_fp16_from_float(-INFINITY), 0xFC00);
    CHECK_UINT_EQ(fm_fp16_from_float(1e-30f), 0);
    CHECK_UINT_EQ(fm_fp16_from_float(-0.0f), 0x8000);
}

TEST(every_bf16_value_round_trips)
{
    for (uint32_t bits = 0; bits <= 0xFFFF; bits++) {
        float value = fm_bf16_to_float((uint16_t)bits);
        if (isnan(value)) {
            CHECK(isnan(fm_bf16_to_float(fm_bf16_from_float(value))));
        } else {
            CHECK_UINT_EQ(fm_bf16_from_float(value), bits);
        }
    }
    CHECK_UINT_EQ(fm_bf16_from_float(1.00390625f), 0x3F80); /* halfway: even */
    CHECK_UINT_EQ(fm_bf16_from_float(1.01171875f), 0x3F82);
}

TEST_MAIN()
