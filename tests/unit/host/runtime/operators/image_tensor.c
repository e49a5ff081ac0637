/*
 * Unit tests of image_tensor: sizes, sampling, normalisation and layout against values worked out
 * by hand.
 */
#include "core/tensor/tensor.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

static uint8_t *image_input(struct fm_rig *rig, int64_t height, int64_t width, int64_t channels)
{
    const int64_t shape[3] = {height, width, channels};
    return fm_rig_input(rig, 0, FM_DTYPE_UINT8, 3, shape);
}

/* Result [c, h, w] of one run on a gray row of bytes. */
static void run_row(struct fm_rig *rig, const char *parameters, const uint8_t *row, int64_t width)
{
    CHECK_INT_EQ(fm_rig_create(rig, "image_tensor", parameters), 0);
    memcpy(image_input(rig, 1, width, 1), row, (size_t)width);
    CHECK_INT_EQ(fm_rig_run(rig), 0);
}

static void check_result(const char *parameters, const uint8_t *row, int64_t width,
                         const float *expected, int64_t expected_width)
{
    struct fm_rig rig;
    run_row(&rig, parameters, row, width);
    if (!fm_test_failed) {
        const struct fm_tensor *result = fm_rig_output(&rig, 0);
        CHECK_INT_EQ(result->shape[2], expected_width);
        for (int64_t i = 0; i < expected_width; i++) {
            CHECK_NEAR(((float *)result->data)[i], expected[i], 1e-4);
        }
    }
    fm_rig_destroy(&rig);
}

TEST(stretch_same_size_is_a_copy)
{
    check_result("width=4;height=1;scale=1", (const uint8_t[]){0, 10, 200, 255}, 4,
                 (const float[]){0, 10, 200, 255}, 4);
}

TEST(bilinear_enlarges_with_half_pixel_centres)
{
    /* Source coordinates -0.25, 0.25, 0.75, 1.25: the outer two lie beyond the edge pixels'
     * centres. */
    check_result("width=4;height=1;scale=1", (const uint8_t[]){0, 100}, 2,
                 (const float[]){0, 25, 75, 100}, 4);
}

TEST(bilinear_shrinks_without_averaging)
{
    /* Four to two: centres at 0.5 and 2.5. Six to two: at 1 and 4, exactly on pixels. */
    check_result("width=2;height=1;scale=1", (const uint8_t[]){0, 10, 20, 60}, 4,
                 (const float[]){5, 40}, 2);
    check_result("width=2;height=1;scale=1", (const uint8_t[]){9, 1, 9, 9, 2, 9}, 6,
                 (const float[]){1, 2}, 2);
}

TEST(nearest_takes_the_pixel_under_the_centre)
{
    check_result("width=2;height=1;scale=1;interpolation=nearest", (const uint8_t[]){0, 10, 20, 60},
                 4, (const float[]){10, 60}, 2);
    check_result("width=4;height=1;scale=1;interpolation=nearest", (const uint8_t[]){3, 8}, 2,
                 (const float[]){3, 3, 8, 8}, 4);
}

TEST(area_averages)
{
    check_result("width=2;height=1;scale=1;interpolation=area", (const uint8_t[]){0, 10, 20, 60}, 4,
                 (const float[]){5, 40}, 2);
    /* Three to two: each takes one and a half pixels. */
    check_result("width=2;height=1;scale=1;interpolation=area", (const uint8_t[]){30, 60, 90}, 3,
                 (const float[]){40, 80}, 2);
}

TEST(rows_are_sampled_like_columns)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=2;height=4;scale=1"), 0);
    memcpy(image_input(&rig, 2, 2, 1), (const uint8_t[]){0, 40, 100, 80}, 4);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const float *result = fm_rig_output(&rig, 0)->data;
    const float expected[8] = {0, 40, 25, 50, 75, 70, 100, 80};
    for (int i = 0; i < 8; i++) {
        CHECK_NEAR(result[i], expected[i], 1e-4);
    }
    const float *scale = fm_rig_output(&rig, 1)->data;
    CHECK_NEAR(scale[0], 1, 1e-6);
    CHECK_NEAR(scale[1], 2, 1e-6);
    fm_rig_destroy(&rig);
}

TEST(area_of_rows_and_columns_keeps_the_mean)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=3;height=3;scale=1;interpolation=area"),
                 0);
    uint8_t *pixels = image_input(&rig, 7, 11, 3);
    double sum = 0;
    for (int i = 0; i < 7 * 11 * 3; i++) {
        pixels[i] = (uint8_t)(i * 37 % 251);
        sum += pixels[i];
    }
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    double mean = 0;
    for (int i = 0; i < 27; i++) {
        mean += (double)((float *)fm_rig_output(&rig, 0)->data)[i] / 27;
    }
    CHECK_NEAR(mean, sum / (7 * 11 * 3), 1e-3);
    fm_rig_destroy(&rig);
}

TEST(normalisation_and_channel_order)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor",
                               "width=1;height=1;mean=0.485, 0.456, 0.406;std=[0.229,0.224,0.225];"
                               "swap_channels=true"),
                 0);
    memcpy(image_input(&rig, 1, 1, 3), (const uint8_t[]){255, 128, 0}, 3);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const float *result = fm_rig_output(&rig, 0)->data;
    CHECK_NEAR(result[0], (0 - 0.485) / 0.229, 1e-5);
    CHECK_NEAR(result[1], (128 / 255.0 - 0.456) / 0.224, 1e-5);
    CHECK_NEAR(result[2], (1 - 0.406) / 0.225, 1e-5);
    fm_rig_destroy(&rig);
}

TEST(gray_is_repeated_and_colour_is_weighted)
{
    struct fm_rig rig;
    CHECK_INT_EQ(
        fm_rig_create(&rig, "image_tensor", "width=1;height=1;channels=3;scale=1;mean=0,1,2"), 0);
    image_input(&rig, 1, 1, 1)[0] = 50;
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const float *result = fm_rig_output(&rig, 0)->data;
    CHECK_NEAR(result[0], 50, 1e-5);
    CHECK_NEAR(result[1], 49, 1e-5);
    CHECK_NEAR(result[2], 48, 1e-5);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=1;height=1;channels=1;scale=1"), 0);
    memcpy(image_input(&rig, 1, 1, 3), (const uint8_t[]){100, 50, 200}, 3);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_NEAR(((float *)fm_rig_output(&rig, 0)->data)[0], 29.9 + 29.35 + 22.8, 1e-3);
    fm_rig_destroy(&rig);
}

TEST(types_and_layouts)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=2;height=1;dtype=uint8;layout=hwc"), 0);
    memcpy(image_input(&rig, 1, 2, 3), (const uint8_t[]){1, 2, 3, 4, 5, 6}, 6);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *result = fm_rig_output(&rig, 0);
    CHECK_INT_EQ(result->dtype, FM_DTYPE_UINT8);
    CHECK_INT_EQ(result->shape[2], 3);
    CHECK_MEM_EQ(result->data, ((const uint8_t[]){1, 2, 3, 4, 5, 6}), 6);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=2;height=1;dtype=fp16"), 0);
    memcpy(image_input(&rig, 1, 2, 3), (const uint8_t[]){0, 255, 51, 255, 0, 102}, 6);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const uint16_t *halves = fm_rig_output(&rig, 0)->data;
    const float expected[6] = {0, 1, 1, 0, 0.2f, 0.4f};
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(fm_fp16_to_float(halves[i]), expected[i], 2e-4);
    }
    fm_rig_destroy(&rig);
}

static void check_size(const char *parameters, int64_t height, int64_t width, int64_t want_height,
                       int64_t want_width)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", parameters), 0);
    CHECK(image_input(&rig, height, width, 1) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *result = fm_rig_output(&rig, 0);
    CHECK_INT_EQ(result->shape[1], want_height);
    CHECK_INT_EQ(result->shape[2], want_width);
    fm_rig_destroy(&rig);
}

TEST(sizes_follow_the_image)
{
    const char *page = "fit=limit_longest;limit=1536;multiple=32";
    check_size(page, 1403, 992, 1408, 992);
    check_size(page, 3000, 1500, 1536, 768);
    check_size(page, 5, 5, 32, 32);
    check_size(page, 1, 3000, 32, 1536);
    check_size("fit=limit_shortest;limit=736;multiple=32", 100, 200, 736, 1472);
    check_size("fit=limit_shortest;limit=64", 100, 200, 100, 200);
    check_size("fit=height;height=48", 24, 100, 48, 200);
    check_size("fit=height;height=48;multiple=32", 24, 100, 48, 224);
    check_size("fit=height;height=48;max_width=100", 24, 100, 48, 100);
    check_size("fit=height;height=48;min_width=320", 24, 100, 48, 320);
    check_size("fit=none;multiple=32", 48, 100, 64, 128);
    check_size("fit=none;height=48;width=192", 48, 100, 48, 192);
    check_size("fit=none;height=48;width=192", 48, 300, 48, 192);
    check_size("fit=letterbox;height=50;width=60", 10, 200, 50, 60);
    check_size("fit=cover;height=50;width=60", 10, 200, 50, 60);
}

TEST(none_pads_or_cuts_and_never_scales)
{
    check_result("fit=none;width=4;height=1;scale=1;pad=-7", (const uint8_t[]){5, 6}, 2,
                 (const float[]){5, 6, -7, -7}, 4);
    check_result("fit=none;width=2;height=1;scale=1", (const uint8_t[]){5, 6, 7, 8}, 4,
                 (const float[]){5, 6}, 2);
    check_result("fit=none;width=2;height=1;scale=1;anchor=center", (const uint8_t[]){5, 6, 7, 8},
                 4, (const float[]){6, 7}, 2);
    check_result("fit=none;width=6;height=1;scale=1;anchor=center", (const uint8_t[]){5, 6}, 2,
                 (const float[]){0, 0, 5, 6, 0, 0}, 6);
}

TEST(letterbox_and_cover_keep_proportions)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor",
                               "fit=letterbox;width=4;height=4;scale=1;pad=9;anchor=center"),
                 0);
    memset(image_input(&rig, 1, 2, 1), 200, 2);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const float *result = fm_rig_output(&rig, 0)->data;
    for (int i = 0; i < 16; i++) {
        CHECK_NEAR(result[i], i >= 4 && i < 12 ? 200 : 9, 1e-3);
    }
    const float *offset = fm_rig_output(&rig, 2)->data;
    CHECK_NEAR(offset[0], 0, 1e-6);
    CHECK_NEAR(offset[1], 1, 1e-6);
    fm_rig_destroy(&rig);
    check_result("fit=cover;width=2;height=1;scale=1", (const uint8_t[]){1, 2, 3, 4}, 4,
                 (const float[]){2, 3}, 2);
}

static void check_refused(const char *parameters, const char *text)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", parameters), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, text);
    fm_rig_destroy(&rig);
}

TEST(parameters_that_make_no_sense_are_refused)
{
    check_refused("fit=strech", "did you mean 'stretch'");
    check_refused("", "needs width and height");
    check_refused("fit=limit_longest", "needs limit");
    check_refused("width=4;height=4;limit=5", "limit is for fit");
    check_refused("fit=height;height=48;width=5", "no width");
    check_refused("width=4;height=4;std=0", "numbers from");
    check_refused("width=4;height=4;mean=1,2,3,4", "1 to 3 numbers");
    check_refused("width=4;height=4;mean=", "1 to 3 numbers");
    check_refused("width=4;height=4;channels=2", "0, 1 or 3");
    check_refused("width=-4;height=4", "whole number");
    check_refused("fit=none;min_width=9;max_width=8", "min_width 9");
    check_refused("hight=4", "did you mean 'height'");
}

TEST(hostile_images_are_errors)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "fit=height;height=1048576;max_width=1048576"),
                 0);
    image_input(&rig, 1, 1000, 1)[0] = 1;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETOOLARGE);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "width=4;height=4"), 0);
    CHECK(image_input(&rig, 0, 10, 3) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "operator 'image_tensor': UINT8[0,10,3] is no image");
    fm_rig_inputs_clear(&rig);
    CHECK(image_input(&rig, 4, 4, 2) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "image_tensor", "fit=none;max_width=8"), 0);
    CHECK(image_input(&rig, 1, 9, 1) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETOOLARGE);
    fm_rig_destroy(&rig);
}

TEST_MAIN()
