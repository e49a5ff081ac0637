/*
 * Tests of core/source/element: every pair of types against long double arithmetic, the edges, the
 * words.
 */
#include "core/source/element.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

static const uint32_t numbers[] = {
    FM_DTYPE_BOOL, FM_DTYPE_UINT8, FM_DTYPE_UINT16, FM_DTYPE_UINT32, FM_DTYPE_UINT64,
    FM_DTYPE_INT8, FM_DTYPE_INT16, FM_DTYPE_INT32,  FM_DTYPE_INT64,  FM_DTYPE_FP16,
    FM_DTYPE_BF16, FM_DTYPE_FP32,  FM_DTYPE_FP64};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

/* Exact for every value of every type. */
static long double value_of(uint32_t dtype, const unsigned char *bytes)
{
    uint64_t bits = 0;
    uint16_t half = 0;
    float single = 0;
    double real = 0;
    unsigned size = fm_dtype_bits(dtype) / 8;
    memcpy(&bits, bytes, size);
    memcpy(&half, bytes, size < 2 ? size : 2);
    memcpy(&single, bytes, size < 4 ? size : 4);
    memcpy(&real, bytes, size);
    if (dtype == FM_DTYPE_BOOL) {
        return bits != 0;
    }
    if (fm_element_is_signed(dtype)) {
        return (long double)((int64_t)(bits << (64 - 8 * size)) >> (64 - 8 * size));
    }
    return dtype == FM_DTYPE_FP16   ? (long double)fm_fp16_to_float(half)
           : dtype == FM_DTYPE_BF16 ? (long double)fm_bf16_to_float(half)
           : dtype == FM_DTYPE_FP32 ? (long double)single
           : dtype == FM_DTYPE_FP64 ? (long double)real
                                    : (long double)bits;
}

/* Whether the value has a place in the type. */
static bool fits(long double value, uint32_t to)
{
    if (fm_element_is_float(to)) {
        unsigned char out[8];
        return isnan(value) || isinf(value) || fm_element_from_double(to, (double)value, out);
    }
    if (isnan(value) || truncl(value) != value) {
        return false;
    }
    long double max = to == FM_DTYPE_BOOL          ? 1
                      : fm_element_is_unsigned(to) ? (long double)fm_element_unsigned_max(to)
                                                   : (long double)fm_element_signed_max(to);
    return value <= max && value >= (fm_element_is_signed(to) ? -max - 1 : 0);
}

/* One element; false: it came out wrongly. */
static bool right(uint32_t from, const unsigned char *bytes, uint32_t to)
{
    unsigned char out[8] = {0};
    uint64_t bad = 7;
    long double value = value_of(from, bytes);
    bool done = fm_elements_convert(from, bytes, 1, to, out, &bad);
    if (done != fits(value, to)) {
        return false;
    }
    if (!done) {
        return bad == 0;
    }
    long double got = value_of(to, out);
    if (isnan(value)) {
        return isnan(got);
    }
    unsigned char rounded[8] = {0};
    if (fm_element_is_float(to)) {
        (void)fm_element_from_double(to, (double)value, rounded);
        return got == value_of(to, rounded);
    }
    return got == value && (to != FM_DTYPE_BOOL || out[0] <= 1);
}

TEST(every_pair_of_types)
{
    struct fm_random random;
    fm_random_init(&random, 7);
    for (size_t f = 0; f < NUMBERS; f++) {
        for (size_t t = 0; t < NUMBERS; t++) {
            for (unsigned i = 0; i < 3000; i++) {
                unsigned char bytes[8];
                uint64_t bits = fm_random_next(&random);
                /* Small numbers, edges, and anything. */
                bits = i % 3 == 0 ? bits : i % 3 == 1 ? bits >> (bits % 64) : i / 3;
                memcpy(bytes, &bits, sizeof bytes);
                if (!right(numbers[f], bytes, numbers[t])) {
                    printf("# from %s to %s: %016" PRIx64 "\n", fm_dtype_name(numbers[f]),
                           fm_dtype_name(numbers[t]), bits);
                }
                CHECK(right(numbers[f], bytes, numbers[t]));
            }
        }
    }
}

TEST(edges)
{
    static const double reals[] = {0x1p63,  -0x1p63, 0x1p64, -0x1.0000000000001p63, 0x1p31,
                                   -0x1p31, 255.5,   -0.0,   0x1.fffffffffffffp62,  -1};
    static const uint64_t bits[] = {INT64_MAX, UINT64_C(1) << 63, UINT64_MAX, 255, 256, 32767};
    for (size_t t = 0; t < NUMBERS; t++) {
        for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
            CHECK(right(FM_DTYPE_FP64, (const unsigned char *)&reals[i], numbers[t]));
        }
        for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
            CHECK(right(FM_DTYPE_UINT64, (const unsigned char *)&bits[i], numbers[t]));
            CHECK(right(FM_DTYPE_INT64, (const unsigned char *)&bits[i], numbers[t]));
        }
    }
}

/* More than are looked at in one go, from an odd address, and the place of the bad one. */
TEST(many_at_once)
{
    enum { COUNT = 1000 };
    static unsigned char bytes[COUNT * sizeof(double) + 1];
    static float singles[COUNT];
    static uint8_t small[COUNT];
    for (int i = 0; i < COUNT; i++) {
        double value = i / 4.0;
        memcpy(bytes + 1 + (size_t)i * sizeof value, &value, sizeof value);
    }
    uint64_t bad = 0;
    CHECK(fm_elements_convert(FM_DTYPE_FP64, bytes + 1, COUNT, FM_DTYPE_FP32, singles, &bad));
    for (int i = 0; i < COUNT; i++) {
        CHECK_NEAR(singles[i], i / 4.0, 0);
    }
    CHECK(!fm_elements_convert(FM_DTYPE_FP64, bytes + 1, COUNT, FM_DTYPE_UINT8, small, &bad));
    CHECK_UINT_EQ(bad, 1);
    for (int at = 0; at < COUNT; at += 111) {
        double huge = 1e39;
        static unsigned char copy[sizeof bytes];
        memcpy(copy, bytes, sizeof copy);
        memcpy(copy + 1 + (size_t)at * sizeof huge, &huge, sizeof huge);
        CHECK(!fm_elements_convert(FM_DTYPE_FP64, copy + 1, COUNT, FM_DTYPE_FP32, singles, &bad));
        CHECK_UINT_EQ(bad, (uint64_t)at);
    }
    CHECK(fm_elements_convert(FM_DTYPE_FP32, NULL, 0, FM_DTYPE_FP32, NULL, &bad));
}

TEST(words)
{
    struct fm_error error = {0};
    const int16_t ints[] = {1, 300};
    const double reals[] = {1.5, NAN, 1e300};
    const uint64_t large = UINT64_MAX;
    CHECK_INT_EQ(fm_element_refuse("age", FM_DTYPE_INT16, ints, 1, FM_DTYPE_UINT8, &error),
                 FM_ETYPE);
    CHECK_STR_EQ(error.text, "column 'age': '300' is no UINT8: it must be 0 to 255");
    (void)fm_element_refuse("x", FM_DTYPE_FP64, reals, 0, FM_DTYPE_INT8, &error);
    CHECK_STR_EQ(error.text,
                 "column 'x': '1.5' is no INT8: it must be a number without a fraction");
    (void)fm_element_refuse("x", FM_DTYPE_FP64, reals, 1, FM_DTYPE_INT8, &error);
    CHECK_STR_EQ(error.text, "column 'x': 'nan' is no INT8: it must be -128 to 127");
    (void)fm_element_refuse("x", FM_DTYPE_FP64, reals, 2, FM_DTYPE_FP16, &error);
    CHECK_STR_EQ(error.text, "column 'x': '1e+300' is no FP16: it must be within 65504 of zero");
    (void)fm_element_refuse("x", FM_DTYPE_FP64, reals, 0, FM_DTYPE_BOOL, &error);
    CHECK_STR_EQ(error.text, "column 'x': '1.5' is no BOOL: it must be true, false, 1 or 0");
    (void)fm_element_refuse("x", FM_DTYPE_UINT64, &large, 0, FM_DTYPE_INT64, &error);
    CHECK_STR_EQ(error.text, "column 'x': '18446744073709551615' is no INT64: it must be "
                             "-9223372036854775808 to 9223372036854775807");
}

TEST(json)
{
    static const struct {
        uint32_t dtype;
        uint64_t bits;
        const char *json;
    } cases[] = {
        {FM_DTYPE_BOOL, 2, "true"},
        {FM_DTYPE_INT8, 0xFF, "-1"},
        {FM_DTYPE_UINT64, UINT64_MAX, "18446744073709551615"},
        {FM_DTYPE_FP16, 0x3E00, "1.5"},
        {FM_DTYPE_FP32, 0x3DCCCCCD, "0.1"},
        {FM_DTYPE_FP64, UINT64_C(0x3FB999999999999A), "0.1"},
        {FM_DTYPE_FP64, UINT64_C(0x7FF0000000000000), "null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_text text = {0};
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, &text);
        fm_element_write_json(&writer, cases[i].dtype, &cases[i].bits, 0);
        CHECK_STR_EQ(text.data, cases[i].json);
        fm_text_deinit(&text);
    }
}

TEST_MAIN()
