/*
 * Unit tests of crop_warp and rotate_by_class: identity, rotation, perspective, size rules, hostile
 * quads.
 */
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

/* A smooth picture: the value at pixel centre (x, y) is linear, so bilinear sampling is exact
 * inside. */
static uint8_t ramp(double x, double y)
{
    return (uint8_t)lround(20 + 2 * x + y);
}

static void rig_make(struct fm_rig *rig, const char *parameters, int64_t height, int64_t width,
                     int64_t channels, const float *quad)
{
    const int64_t shape[3] = {height, width, channels};
    const int64_t quad_shape[2] = {4, 2};
    CHECK_INT_EQ(fm_rig_create(rig, "crop_warp", parameters), 0);
    uint8_t *pixels = fm_rig_input(rig, 0, FM_DTYPE_UINT8, 3, shape);
    for (int64_t i = 0; i < height * width * channels; i++) {
        int64_t at = i / channels;
        pixels[i] = (uint8_t)(ramp((double)(at % width), (double)(at / width)) + i % channels);
    }
    memcpy(fm_rig_input(rig, 1, FM_DTYPE_FP32, 2, quad_shape), quad, 8 * sizeof(float));
}

TEST(whole_image_is_itself)
{
    for (int64_t channels = 1; channels <= 3; channels += 2) {
        struct fm_rig rig;
        rig_make(&rig, NULL, 30, 40, channels, (const float[]){0, 0, 40, 0, 40, 30, 0, 30});
        CHECK_INT_EQ(fm_rig_run(&rig), 0);
        const struct fm_tensor *crop = fm_rig_output(&rig, 0);
        CHECK_INT_EQ(crop->shape[0], 30);
        CHECK_INT_EQ(crop->shape[1], 40);
        CHECK_INT_EQ(crop->shape[2], channels);
        CHECK_MEM_EQ(crop->data, rig.inputs[0].items[0].tensor.data, crop->size);
        fm_rig_destroy(&rig);
    }
}

TEST(corners_in_another_order_rotate)
{
    struct fm_rig rig;
    /* The quad begins at the image's bottom right corner: turned by 180 degrees. */
    rig_make(&rig, NULL, 30, 40, 1, (const float[]){40, 30, 0, 30, 0, 0, 40, 0});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *crop = fm_rig_output(&rig, 0);
    const uint8_t *source = rig.inputs[0].items[0].tensor.data;
    for (int i = 0; i < 1200; i++) {
        CHECK_INT_EQ(((uint8_t *)crop->data)[i], source[1199 - i]);
    }
    fm_rig_destroy(&rig);
}

TEST(tall_crops_are_turned_counterclockwise)
{
    struct fm_rig rig;
    rig_make(&rig, "rotate_tall=1.5", 30, 40, 1, (const float[]){4, 5, 8, 5, 8, 25, 4, 25});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *crop = fm_rig_output(&rig, 0);
    CHECK_INT_EQ(crop->shape[0], 4);
    CHECK_INT_EQ(crop->shape[1], 20);
    /* Counterclockwise: the old right column becomes the top row, read downwards. */
    CHECK_INT_EQ(((uint8_t *)crop->data)[0], ramp(7, 5));
    CHECK_INT_EQ(((uint8_t *)crop->data)[19], ramp(7, 24));
    CHECK_INT_EQ(((uint8_t *)crop->data)[60], ramp(4, 5));
    fm_rig_destroy(&rig);
    rig_make(&rig, "rotate_tall=5.1", 30, 40, 1, (const float[]){4, 5, 8, 5, 8, 25, 4, 25});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[0], 20);
    fm_rig_destroy(&rig);
}

TEST(slanted_quad_follows_the_ramp)
{
    struct fm_rig rig;
    /* A square of side 10 * sqrt(2), standing on a corner: 14 x 14 pixels. */
    rig_make(&rig, NULL, 40, 40, 1, (const float[]){20, 10, 30, 20, 20, 30, 10, 20});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *crop = fm_rig_output(&rig, 0);
    CHECK_INT_EQ(crop->shape[0], 14);
    CHECK_INT_EQ(crop->shape[1], 14);
    for (int y = 0; y < 14; y++) {
        for (int x = 0; x < 14; x++) {
            double u = (x + 0.5) / 14;
            double v = (y + 0.5) / 14;
            double want = 20 + 2 * (20 + 10 * u - 10 * v - 0.5) + (10 + 10 * u + 10 * v - 0.5);
            CHECK_NEAR(((uint8_t *)crop->data)[y * 14 + x], want, 0.51);
        }
    }
    fm_rig_destroy(&rig);
}

TEST(perspective_hits_the_diagonals_crossing)
{
    struct fm_rig rig;
    /* The centre of a projective square is where the quad's diagonals cross: here (16, 40/3). */
    rig_make(&rig, "height=3", 40, 40, 1, (const float[]){10, 10, 22, 10, 28, 20, 4, 20});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *crop = fm_rig_output(&rig, 0);
    CHECK_INT_EQ(crop->shape[0], 3);
    CHECK_INT_EQ(crop->shape[1] % 2, 1);
    double want = 20 + 2 * (16 - 0.5) + (40.0 / 3 - 0.5);
    CHECK_NEAR(((uint8_t *)crop->data)[crop->shape[1] + crop->shape[1] / 2], want, 0.51);
    fm_rig_destroy(&rig);
}

TEST(rows_and_pixels_agree)
{
    /* The fast path for upright rectangles against the general one, by a corner just beyond its
     * tolerance. */
    struct fm_rig fast;
    struct fm_rig slow;
    rig_make(&fast, "height=48", 60, 80, 3,
             (const float[]){10.3f, 7.7f, 70.1f, 7.7f, 70.1f, 31.2f, 10.3f, 31.2f});
    rig_make(&slow, "height=48", 60, 80, 3,
             (const float[]){10.3f, 7.7f, 70.1f, 7.702f, 70.1f, 31.2f, 10.3f, 31.2f});
    CHECK_INT_EQ(fm_rig_run(&fast), 0);
    CHECK_INT_EQ(fm_rig_run(&slow), 0);
    const struct fm_tensor *a = fm_rig_output(&fast, 0);
    const struct fm_tensor *b = fm_rig_output(&slow, 0);
    CHECK_INT_EQ(a->shape[1], (int64_t)ceil(48 * (70.1 - 10.3) / (31.2 - 7.7)));
    CHECK_INT_EQ(a->size, b->size);
    for (size_t i = 0; i < a->size; i++) {
        CHECK_NEAR(((uint8_t *)a->data)[i], ((uint8_t *)b->data)[i], 1);
    }
    fm_rig_destroy(&fast);
    fm_rig_destroy(&slow);
}

TEST(sizes_are_bounded)
{
    struct fm_rig rig;
    rig_make(&rig, "height=48;min_width=16;max_width=100", 30, 40, 1,
             (const float[]){0, 0, 40, 0, 40, 1, 0, 1});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[1], 100);
    fm_rig_destroy(&rig);
    rig_make(&rig, "height=48;min_width=16", 30, 40, 1, (const float[]){0, 0, 1, 0, 1, 30, 0, 30});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[1], 16);
    fm_rig_destroy(&rig);
    /* Far beyond the image: the edge is repeated, and the size is limited. */
    rig_make(&rig, NULL, 30, 40, 1,
             (const float[]){-1e6f, -1e6f, 1e6f, -1e6f, 1e6f, 1e6f, -1e6f, 1e6f});
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[0], 8192);
    CHECK_INT_EQ(fm_rig_output(&rig, 0)->shape[1], 8192);
    CHECK_INT_EQ(((uint8_t *)fm_rig_output(&rig, 0)->data)[0], ramp(0, 0));
    fm_rig_destroy(&rig);
}

static void check_refused(const float *quad, const char *text)
{
    struct fm_rig rig;
    rig_make(&rig, "height=48", 30, 40, 1, quad);
    int status = fm_rig_run(&rig);
    CHECK_INT_EQ(status, FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, text);
    fm_rig_destroy(&rig);
}

TEST(hostile_quads_are_errors)
{
    check_refused((const float[]){NAN, 0, 40, 0, 40, 30, 0, 30}, "corner 0");
    check_refused((const float[]){0, 0, 40, INFINITY, 40, 30, 0, 30}, "corner 1");
    check_refused((const float[]){0, 0, 1e30f, 0, 40, 30, 0, 30}, "no place");
    check_refused((const float[]){5, 5, 5, 5, 5, 5, 5, 5}, "degenerate");
    check_refused((const float[]){0, 0, 10, 0, 10, 0, 0, 0}, "degenerate");
    check_refused((const float[]){0, 0, 10, 10, 20, 20, 30, 30}, "in line");
    check_refused((const float[]){0, 0, 40, 30, 40, 0, 0, 30}, "not convex");
    check_refused((const float[]){0, 0, 40, 0, 10, 10, 0, 30}, "not convex");
}

TEST(rotate_by_class_turns_or_forwards)
{
    const int64_t shape[3] = {1, 2, 3};
    const int64_t two[1] = {2};
    for (int upside_down = 0; upside_down < 2; upside_down++) {
        struct fm_rig rig;
        CHECK_INT_EQ(fm_rig_create(&rig, "rotate_by_class", "threshold=0.6"), 0);
        memcpy(fm_rig_input(&rig, 0, FM_DTYPE_UINT8, 3, shape), (const uint8_t[]){1, 2, 3, 4, 5, 6},
               6);
        ((float *)fm_rig_input(&rig, 1, FM_DTYPE_FP32, 1, two))[1] = upside_down ? 0.7f : 0.6f;
        CHECK_INT_EQ(fm_rig_run(&rig), 0);
        const struct fm_tensor *result = fm_rig_output(&rig, 0);
        const uint8_t turned[6] = {4, 5, 6, 1, 2, 3};
        if (upside_down) {
            CHECK_MEM_EQ(result->data, turned, 6);
        } else {
            CHECK_PTR_EQ(result->data, rig.inputs[0].items[0].tensor.data);
        }
        fm_rig_destroy(&rig);
    }
}

TEST(rotate_by_class_wants_its_class)
{
    const int64_t shape[3] = {1, 2, 1};
    const int64_t two[1] = {2};
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "rotate_by_class", "class_index=2"), 0);
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_UINT8, 3, shape) != NULL);
    CHECK(fm_rig_input(&rig, 1, FM_DTYPE_FP32, 1, two) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "only 2 classes");
    fm_rig_destroy(&rig);
}

TEST_MAIN()
