/*
 * Tests of engines/profile/inputs: shapes as typed, shapes completed, values made up for every
 * dtype.
 */
#include "engines/profile/inputs.h"

#include "tests/harness/test.h"

static int parse(const char *text, struct fm_input_shape *shape, struct fm_error *error)
{
    static char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", text);
    return fm_input_shape_parse(copy, shape, error);
}

TEST(shapes_are_parsed)
{
    struct fm_input_shape shape;
    CHECK_INT_EQ(parse("x=3,48,320", &shape, NULL), 0);
    CHECK_STR_EQ(shape.name, "x");
    CHECK_UINT_EQ(shape.rank, 3);
    CHECK_INT_EQ(shape.shape[2], 320);
    CHECK_INT_EQ(parse("7", &shape, NULL), 0);
    CHECK(shape.name == NULL);
    CHECK_INT_EQ(parse("a=b=5", &shape, NULL), 0);
    CHECK_STR_EQ(shape.name, "a=b");
    static const char *const wrong[] = {
        "x=", "", "x=3,", "x=0", "x=-1", "x=3x4", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct fm_error error = {0};
        CHECK_INT_EQ(parse(wrong[i], &shape, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "for example x=3,48,320");
    }
}

TEST(open_sizes_must_be_given)
{
    const struct fm_port port = {
        .name = "x", .dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 3, 48, -1}};
    struct fm_port row;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_input_row_shape(&port, true, NULL, 0, 1, &row, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(
        error.text,
        "one row of input 'x' is [3,48,-1]: say which sizes to measure with, for example "
        "--input-shape x=3,48,64");
    struct fm_input_shape shape = {.name = NULL, .rank = 3, .shape = {3, 48, 320}};
    CHECK_INT_EQ(fm_input_row_shape(&port, true, &shape, 1, 1, &row, &error), 0);
    CHECK_INT_EQ(row.rank, 3);
    CHECK_INT_EQ(row.shape[2], 320);
    CHECK_INT_EQ(fm_input_row_shape(&port, true, &shape, 1, 2, &row, &error),
                 FM_EINVAL); /* unnamed, two inputs */
    shape = (struct fm_input_shape){.name = "x", .rank = 3, .shape = {3, 50, 320}};
    CHECK_INT_EQ(fm_input_row_shape(&port, true, &shape, 1, 2, &row, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "fixed at 48, not 50");
    CHECK_INT_EQ(fm_input_row_shape(&port, false, &shape, 1, 1, &row, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "give 4 sizes, not 3");
}

TEST(values_fit_every_dtype)
{
    struct fm_random random;
    fm_random_init(&random, 1);
    for (uint32_t dtype = 1; dtype < FM_DTYPE_COUNT_; dtype++) {
        const struct fm_port row = {.name = "x", .dtype = dtype, .rank = 2, .shape = {3, 4}};
        struct fm_value value = {0};
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_input_fill(&row, true, 5, &random, &value, &error), 0);
        CHECK_INT_EQ(fm_tensor_check(&value.tensor, &error), 0);
        CHECK_UINT_EQ(value.tensor.rank, 3);
        CHECK_INT_EQ(value.tensor.shape[0], 5);
        if (dtype == FM_DTYPE_FP32) {
            float sum = 0;
            for (size_t i = 0; i < 60; i++) {
                float number = ((const float *)value.tensor.data)[i];
                CHECK(number >= 0 && number <= 1);
                sum += number;
            }
            CHECK(sum > 10 && sum < 50);
        }
        if (dtype == FM_DTYPE_INT64) {
            for (size_t i = 0; i < 60; i++) {
                CHECK(((const int64_t *)value.tensor.data)[i] == 0 ||
                      ((const int64_t *)value.tensor.data)[i] == 1);
            }
        }
        fm_value_unref(&value);
    }
    const struct fm_port huge = {
        .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {INT64_MAX / 2, 4}};
    struct fm_value value = {0};
    CHECK_INT_NE(fm_input_fill(&huge, true, 5, &random, &value, NULL), 0);
}

TEST_MAIN()
