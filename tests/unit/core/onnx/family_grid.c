/*
 * Grids of models.
 */
#include "core/onnx/family_grid.h"

#include "tests/harness/test.h"

TEST(every_combination_once_the_last_first)
{
    static const uint64_t layers[] = {4, 2};
    static const uint64_t hidden[] = {8, 16, 12};
    static const uint64_t inputs[] = {5};
    struct fm_family_grid grid = {.family = FM_FAMILY_MLP, .seed = 9};
    CHECK_UINT_EQ(fm_family_grid_count(&grid), 1);
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_LAYERS, layers, 2, NULL), 0);
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_HIDDEN, hidden, 3, NULL), 0);
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_INPUTS, inputs, 1, NULL), 0);
    CHECK_INT_EQ(fm_family_grid_check(&grid, NULL), 0);
    CHECK_UINT_EQ(fm_family_grid_count(&grid), 6);
    for (uint64_t i = 0; i < 6; i++) {
        struct fm_family_spec spec;
        fm_family_grid_at(&grid, i, &spec);
        CHECK_UINT_EQ(spec.seed, 9);
        CHECK_UINT_EQ(spec.values[FM_FAMILY_LAYERS], layers[i / 3]);
        CHECK_UINT_EQ(spec.values[FM_FAMILY_HIDDEN], hidden[i % 3]);
        CHECK_UINT_EQ(spec.values[FM_FAMILY_INPUTS], 5);
        CHECK_UINT_EQ(fm_family_value(&spec, FM_FAMILY_OUTPUTS), 10);
        char expected[64];
        struct fm_text text = {0};
        (void)snprintf(expected, sizeof expected, "mlp-layers%d-hidden%d", (int)layers[i / 3],
                       (int)hidden[i % 3]);
        fm_family_grid_name(&grid, i, &text);
        CHECK_STR_EQ(text.data, expected);
        fm_text_deinit(&text);
    }
}

TEST(one_model_has_the_name_of_its_family)
{
    struct fm_family_grid grid = {.family = FM_FAMILY_DLRM};
    struct fm_text text = {0};
    static const uint64_t rows[] = {7};
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_ROWS, rows, 1, NULL), 0);
    fm_family_grid_name(&grid, 0, &text);
    CHECK_STR_EQ(text.data, "dlrm");
    fm_text_deinit(&text);
}

TEST(values_that_are_refused)
{
    static const uint64_t good[] = {2, 4};
    static const uint64_t twice[] = {3, 5, 3};
    static const uint64_t wrong[] = {1, 513};
    static const uint64_t many[FM_FAMILY_GRID_VALUES_MAX + 1] = {1};
    struct fm_family_grid grid = {.family = FM_FAMILY_MLP};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_LAYERS, good, 2, NULL), 0);
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_LAYERS, twice, 3, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 3 is there twice");
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_LAYERS, wrong, 2, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 513 is not from 1 to 512");
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_LAYERS, good, 0, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 0 values; give 1 to 64");
    CHECK_INT_EQ(
        fm_family_grid_set(&grid, FM_FAMILY_LAYERS, many, FM_FAMILY_GRID_VALUES_MAX + 1, &error),
        FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 65 values; give 1 to 64");
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_HEADS, good, 2, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "a model of the family mlp has none");
    CHECK_UINT_EQ(grid.axes[FM_FAMILY_LAYERS].count, 2); /* as it was */
    CHECK_UINT_EQ(grid.axes[FM_FAMILY_LAYERS].values[1], 4);
}

TEST(grids_that_are_refused)
{
    struct fm_family_grid grid = {.family = FM_FAMILY_TRANSFORMER};
    struct fm_error error = {0};
    static const uint64_t heads[] = {4, 6};
    CHECK_INT_EQ(fm_family_grid_set(&grid, FM_FAMILY_HEADS, heads, 2, NULL), 0);
    CHECK_INT_EQ(fm_family_grid_check(&grid, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "transformer-heads6: heads: hidden, 256, is not a multiple");
    uint64_t values[FM_FAMILY_GRID_VALUES_MAX];
    for (uint64_t i = 0; i < FM_FAMILY_GRID_VALUES_MAX; i++) {
        values[i] = i + 1;
    }
    /* 64 to the power of 7, and of 16, which does not fit into 64 bits. */
    grid = (struct fm_family_grid){.family = FM_FAMILY_DLRM};
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        enum fm_family_parameter parameter = (enum fm_family_parameter)i;
        if (fm_family_default(FM_FAMILY_DLRM, parameter) > 0) {
            CHECK_INT_EQ(
                fm_family_grid_set(&grid, parameter, values, FM_FAMILY_GRID_VALUES_MAX, NULL), 0);
        }
    }
    CHECK_UINT_EQ(fm_family_grid_count(&grid), UINT64_C(1) << 42);
    CHECK_INT_EQ(fm_family_grid_check(&grid, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "models are too many for one grid, which has 1024 at most");
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        grid.axes[i].count = FM_FAMILY_GRID_VALUES_MAX;
    }
    CHECK_UINT_EQ(fm_family_grid_count(&grid), UINT64_MAX);
}

TEST_MAIN()
