/*
 * Tests of engines/infer/input and image: recognising files, fitting them to ports, stacking,
 * guessing layouts.
 */
#include "engines/infer/input.h"

#include "core/proto/npy.h"
#include "engines/infer/run.h"
#include "tests/harness/test.h"

TEST(files_are_recognized_by_content)
{
    static const struct {
        const char *data;
        size_t size;
        enum fm_input_kind kind;
    } cases[] = {
        {"\x93NUMPY\1\0", 8, FM_INPUT_NPY},
        {"\xff\xd8\xff\xe0", 4, FM_INPUT_IMAGE},
        {"\x89PNG\r\n\x1a\n", 8, FM_INPUT_IMAGE},
        {" \n{\"inputs\": []}", 16, FM_INPUT_JSON},
        {"\xEF\xBB\xBF{\"inputs\": []}", 17, FM_INPUT_JSON},
        {"{\"outputs\": []}", 15, FM_INPUT_RAW},
        {"", 0, FM_INPUT_RAW},
        {"\xff\xd8", 2, FM_INPUT_RAW},
        {"   ", 3, FM_INPUT_RAW},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_INT_EQ(fm_input_recognize(cases[i].data, cases[i].size), cases[i].kind);
    }
}

static const struct fm_image_plan no_plan;

TEST(raw_numbers_take_the_port_s_shape)
{
    static const float numbers[12];
    const struct fm_port port = {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    struct fm_input_file file = {
        .label = "f", .data = (const char *)numbers, .size = sizeof numbers};
    struct fm_value value = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_input_convert(&file, &port, true, &no_plan, &value, &error), 0);
    CHECK_INT_EQ(value.tensor.shape[0], 3);
    fm_value_unref(&value);
    const int64_t row[] = {4};
    file.shape = row;
    file.rank = 1;
    file.size = 16;
    CHECK_INT_EQ(fm_input_convert(&file, &port, true, &no_plan, &value, &error), 0);
    CHECK_UINT_EQ(value.tensor.rank, 2);
    CHECK_INT_EQ(value.tensor.shape[0], 1);
    fm_value_unref(&value);
    file.size = 15;
    CHECK_INT_EQ(fm_input_convert(&file, &port, true, &no_plan, &value, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "15 bytes");
    file.size = 0;
    CHECK_INT_EQ(fm_input_convert(&file, &port, true, &no_plan, &value, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "is empty");
    const struct fm_port open = {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, -1}};
    file =
        (struct fm_input_file){.label = "f", .data = (const char *)numbers, .size = sizeof numbers};
    CHECK_INT_EQ(fm_input_convert(&file, &open, true, &no_plan, &value, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "--shape");
}

TEST(bytes_ports_take_anything)
{
    const struct fm_port port = {.name = "image", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    const struct fm_port matrix = {
        .name = "image", .dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {-1, 1}};
    const struct fm_input_file file = {.label = "f", .data = "\xff\xd8\xff", .size = 3};
    struct fm_value value = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_input_convert(&file, &port, false, &no_plan, &value, &error), 0);
    CHECK_UINT_EQ(value.tensor.size, 7);
    fm_value_unref(&value);
    CHECK_INT_EQ(fm_input_convert(&file, &matrix, true, &no_plan, &value, &error), 0);
    CHECK_UINT_EQ(value.tensor.rank, 2);
    CHECK_INT_EQ(fm_tensor_check(&value.tensor, &error), 0);
    fm_value_unref(&value);
}

TEST(layouts_are_guessed)
{
    static const struct {
        struct fm_port port;
        bool batched, usable, last;
        uint32_t channels, width, height;
    } cases[] = {
        {{.dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 3, 224, 320}},
         true,
         true,
         false,
         3,
         320,
         224},
        {{.dtype = FM_DTYPE_FP16, .rank = 4, .shape = {-1, 224, 320, 3}},
         true,
         true,
         true,
         3,
         320,
         224},
        {{.dtype = FM_DTYPE_UINT8, .rank = 4, .shape = {1, 1, 28, 28}},
         false,
         true,
         false,
         1,
         28,
         28},
        {{.dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 3, -1, -1}}, true, true, false, 3, 0, 0},
        {{.dtype = FM_DTYPE_FP32, .rank = 4, .shape = {2, 3, 28, 28}},
         false,
         false,
         false,
         0,
         0,
         0},
        {{.dtype = FM_DTYPE_FP32, .rank = 4, .shape = {-1, 7, 28, 28}},
         true,
         false,
         false,
         0,
         0,
         0},
        {{.dtype = FM_DTYPE_INT64, .rank = 4, .shape = {-1, 3, 28, 28}},
         true,
         false,
         false,
         0,
         0,
         0},
        {{.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}}, true, false, false, 0, 0, 0},
    };
    const struct fm_image_options options = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fm_image_plan plan;
        fm_image_plan_make(&cases[i].port, cases[i].batched, &options, &plan);
        CHECK_INT_EQ(plan.usable, cases[i].usable);
        CHECK_INT_EQ(plan.channels_last, cases[i].last);
        CHECK_UINT_EQ(plan.channels, cases[i].channels);
        CHECK_UINT_EQ(plan.width, cases[i].width);
        CHECK_UINT_EQ(plan.height, cases[i].height);
    }
}

TEST(values_are_stacked_and_cut_again)
{
    static const char two[] = "\1\0\0\0a\3\0\0\0bcd";
    static const char one[] = "\2\0\0\0ef";
    struct fm_value values[] = {
        {.tensor = {.dtype = FM_DTYPE_BYTES,
                    .rank = 1,
                    .shape = {2},
                    .data = (void *)(uintptr_t)two,
                    .size = 12}},
        {.tensor = {.dtype = FM_DTYPE_BYTES,
                    .rank = 1,
                    .shape = {1},
                    .data = (void *)(uintptr_t)one,
                    .size = 6}},
    };
    struct fm_value stacked = {0};
    struct fm_value part = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_input_stack(values, 2, &stacked, &error), 0);
    CHECK_INT_EQ(stacked.tensor.shape[0], 3);
    CHECK_INT_EQ(fm_infer_slice(&stacked, 1, 2, &part, &error), 0);
    CHECK_INT_EQ(part.tensor.shape[0], 2);
    CHECK_UINT_EQ(part.tensor.size, 13);
    CHECK_INT_EQ(fm_tensor_check(&part.tensor, &error), 0);
    CHECK_MEM_EQ((const char *)part.tensor.data + 4, "bcd", 3);
    fm_value_unref(&part);
    CHECK_INT_EQ(fm_infer_slice(&stacked, 2, 2, &part, &error), FM_EINTERNAL);
    fm_value_unref(&stacked);
    values[1].tensor.dtype = FM_DTYPE_UINT8;
    CHECK_INT_EQ(fm_input_stack(values, 2, &stacked, &error), FM_ETYPE);
}

TEST_MAIN()
