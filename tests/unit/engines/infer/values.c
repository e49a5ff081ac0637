/*
 * Tests of engines/infer/values: every dtype as numbers, summaries, the best classes against
 * sorting.
 */
#include "engines/infer/values.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

TEST(elements_of_every_dtype)
{
    static const struct {
        uint32_t dtype;
        unsigned char bytes[16];
        double first, second;
    } cases[] = {
        {FM_DTYPE_BOOL, {1, 0}, 1, 0},
        {FM_DTYPE_UINT8, {255, 7}, 255, 7},
        {FM_DTYPE_INT8, {255, 7}, -1, 7},
        {FM_DTYPE_UINT16, {1, 2, 0xff, 0xff}, 513, 65535},
        {FM_DTYPE_INT16, {1, 2, 0xff, 0xff}, 513, -1},
        {FM_DTYPE_UINT32, {0, 0, 0, 0x80, 1}, 2147483648.0, 1},
        {FM_DTYPE_INT32, {0, 0, 0, 0x80, 1}, -2147483648.0, 1},
        {FM_DTYPE_INT64, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9}, -2, 9},
        {FM_DTYPE_UINT64, {5, 0, 0, 0, 0, 0, 0, 0, 9}, 5, 9},
        {FM_DTYPE_FP16, {0x00, 0x3c, 0x00, 0xc0}, 1, -2},
        {FM_DTYPE_BF16, {0x80, 0x3f, 0x00, 0xc0}, 1, -2},
        {FM_DTYPE_FP32, {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0}, 1, -2},
        {FM_DTYPE_FP64, {0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}, 1, -2},
        {FM_DTYPE_UINT4, {0x9f}, 15, 9},
        {FM_DTYPE_INT4, {0x7f}, -1, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct fm_tensor tensor = {.dtype = cases[i].dtype,
                                         .rank = 1,
                                         .shape = {2},
                                         .data = (void *)(uintptr_t)cases[i].bytes};
        CHECK(fm_dtype_is_number(cases[i].dtype));
        CHECK_NEAR(fm_element_number(&tensor, 0), cases[i].first, 0);
        CHECK_NEAR(fm_element_number(&tensor, 1), cases[i].second, 0);
    }
    CHECK(!fm_dtype_is_number(FM_DTYPE_BYTES) && !fm_dtype_is_number(FM_DTYPE_COMPLEX64) &&
          !fm_dtype_is_number(FM_DTYPE_FP8E4M3FN));
    CHECK(fm_dtype_is_float(FM_DTYPE_BF16) && !fm_dtype_is_float(FM_DTYPE_INT8));
}

TEST(summaries_leave_out_what_is_not_finite)
{
    float numbers[] = {3, NAN, -1, INFINITY, 4};
    struct fm_tensor tensor = {.dtype = FM_DTYPE_FP32, .rank = 1, .shape = {5}, .data = numbers};
    struct fm_summary summary;
    fm_summarize(&tensor, &summary);
    CHECK_UINT_EQ(summary.count, 5);
    CHECK_UINT_EQ(summary.not_finite, 2);
    CHECK_NEAR(summary.min, -1, 0);
    CHECK_NEAR(summary.max, 4, 0);
    CHECK_NEAR(summary.mean, 2, 1e-12);
    tensor.shape[0] = 0;
    fm_summarize(&tensor, &summary);
    CHECK_UINT_EQ(summary.count, 0);
}

TEST(top_agrees_with_sorting)
{
    struct fm_random random;
    fm_random_init(&random, 3);
    for (int round = 0; round < 500; round++) {
        float scores[40];
        struct fm_class classes[40];
        uint32_t size = 1 + (uint32_t)fm_random_below(&random, 20);
        uint32_t count = (uint32_t)fm_random_below(&random, 25);
        for (uint32_t i = 0; i < 40; i++) {
            scores[i] =
                fm_random_below(&random, 10) == 0 ? NAN : (float)fm_random_below(&random, 6);
        }
        const struct fm_tensor tensor = {
            .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {40}, .data = scores};
        uint32_t found = fm_top(&tensor, 10, size, count, classes);
        bool taken[40] = {false};
        for (uint32_t i = 0; i < found; i++) {
            uint32_t best = 40;
            for (uint32_t j = 0; j < size; j++) {
                if (!taken[j] && !isnan(scores[10 + j]) &&
                    (best == 40 || scores[10 + j] > scores[10 + best])) {
                    best = j;
                }
            }
            CHECK_UINT_EQ(classes[i].index, best);
            taken[best] = true;
        }
        uint32_t numbers = 0;
        for (uint32_t j = 0; j < size; j++) {
            numbers += isnan(scores[10 + j]) ? 0u : 1u;
        }
        CHECK_UINT_EQ(found, numbers < count ? numbers : count);
    }
}

TEST_MAIN()
