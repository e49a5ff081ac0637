/* ocr_boxes as a host runs it: plain maps, hostile ones, bad parameters, failures on the way. */
#include "examples/ocr/text_detection.c"
#include "examples/ocr/components.c"
#include "examples/ocr/operators.h"
#include "examples/ocr/page.c"
#include "examples/ocr/reading_order.c"
#include "examples/ocr/rectangle.c"

#include "core/util/random.h"
#include "tests/harness/test.h"
#include "tests/unit/examples/ocr/call.h"

struct scene {
    struct call *call;
    void *state;
    float *map;
    struct fm_tensor tensors[2];
};

static int scene_run(struct scene *scene, int height, int width)
{
    scene->tensors[0] =
        (struct fm_tensor){.dtype = FM_DTYPE_FP32, .rank = 3, .shape = {1, height, width}};
    scene->tensors[0].data = scene->map;
    scene->tensors[0].size = (size_t)height * (size_t)width * sizeof(float);
    scene->tensors[1] =
        (struct fm_tensor){.dtype = FM_DTYPE_UINT8, .rank = 3, .shape = {2 * height, width, 1}};
    scene->call->inputs[0] = (struct fm_tensor_list){&scene->tensors[0], 1};
    scene->call->inputs[1] = (struct fm_tensor_list){&scene->tensors[1], 1};
    return ocr_boxes_operator.run(scene->state, &scene->call->call);
}

static struct scene scene_create(size_t pixels)
{
    struct scene scene = {.call = call_create(2), .map = calloc(pixels, sizeof(float))};
    if (scene.map == NULL ||
        operator_create(&ocr_boxes_operator, NULL, NULL, &scene.state, NULL) != 0) {
        abort();
    }
    return scene;
}

static void scene_destroy(struct scene *scene)
{
    call_destroy(scene->call);
    ocr_boxes_operator.destroy(scene->state);
    free(scene->map);
}

static void bar(float *map, int width, int left, int top, int right, int bottom)
{
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            map[y * width + x] = 0.9f;
        }
    }
}

TEST(two_lines_become_two_quads_of_the_page)
{
    struct scene scene = scene_create(100 * 200);
    bar(scene.map, 200, 20, 60, 180, 68);
    bar(scene.map, 200, 20, 20, 100, 28);
    bar(scene.map, 200, 150, 20, 152, 28); /* too narrow */
    CHECK_INT_EQ(scene_run(&scene, 100, 200), 0);
    CHECK_INT_EQ(scene.call->counts[0], 2);
    const float *quad = scene.call->outputs[0][0].data;
    double grow = 80 * 8 * 1.5 / (2 * 88);
    CHECK_NEAR(quad[0], 20 - grow, 1e-4);
    CHECK_NEAR(quad[1], 2 * (20 - grow), 1e-4); /* the page is twice as high as the map */
    CHECK_NEAR(quad[4], 100 + grow, 1e-4);
    CHECK_NEAR(quad[5], 2 * (28 + grow), 1e-4);
    scene_destroy(&scene);
}

TEST(maps_without_text_and_maps_full_of_it)
{
    struct scene scene = scene_create(64 * 64);
    CHECK_INT_EQ(scene_run(&scene, 64, 64), 0);
    CHECK_INT_EQ(scene.call->counts[0], 0);
    for (int i = 0; i < 64 * 64; i++) {
        scene.map[i] = 1.0f;
    }
    CHECK_INT_EQ(scene_run(&scene, 64, 64), 0);
    CHECK_INT_EQ(scene.call->counts[0], 1);
    CHECK_INT_EQ(scene_run(&scene, 1, 1), 0); /* one pixel is below side_min */
    CHECK_INT_EQ(scene.call->counts[0], 1);
    for (int i = 0; i < 64 * 64; i++) {
        scene.map[i] = NAN;
    }
    CHECK_INT_EQ(scene_run(&scene, 64, 64), 0);
    CHECK_INT_EQ(scene.call->counts[0], 1);
    scene_destroy(&scene);
}

TEST(a_mark_at_one_end_does_not_lift_the_line)
{
    struct scene scene = scene_create(100 * 400);
    bar(scene.map, 400, 20, 40, 380, 48);
    bar(scene.map, 400, 20, 34, 32, 40);
    CHECK_INT_EQ(scene_run(&scene, 100, 400), 0);
    CHECK_INT_EQ(scene.call->counts[0], 1);
    const float *quad = scene.call->outputs[0][0].data;
    double grow = 360 * 8 * 1.5 / (2 * 368);
    /* The page is twice as high as the map; around the mark too, the box would begin 20 higher. */
    CHECK_NEAR(quad[1], 2 * (40 - grow), 4);
    CHECK_NEAR(quad[3], 2 * (40 - grow), 4);
    CHECK_NEAR(quad[5], 2 * (48 + grow), 4);
    scene_destroy(&scene);
}

TEST(too_many_boxes_are_refused)
{
    struct scene scene = scene_create(256 * 256);
    for (int y = 0; y + 3 < 256; y += 5) {
        for (int x = 0; x + 3 < 256; x += 5) {
            bar(scene.map, 256, x, y, x + 3, y + 3);
        }
    }
    CHECK_INT_EQ(scene_run(&scene, 256, 256), FM_ELIMIT);
    CHECK_STR_CONTAINS(scene.call->call.error.text, "more than 2000 text boxes");
    scene_destroy(&scene);
}

TEST(maps_of_a_wrong_form_are_refused)
{
    struct scene scene = scene_create(16);
    CHECK_INT_EQ(scene_run(&scene, 4, 4), 0);
    scene.tensors[0].shape[0] = 2;
    CHECK_INT_EQ(ocr_boxes_operator.run(scene.state, &scene.call->call), FM_ETYPE);
    scene.tensors[0].shape[0] = 1;
    scene.tensors[0].shape[1] = 5;
    CHECK_INT_EQ(ocr_boxes_operator.run(scene.state, &scene.call->call), FM_ETYPE);
    scene.tensors[0].shape[1] = 0;
    CHECK_INT_EQ(ocr_boxes_operator.run(scene.state, &scene.call->call), FM_ETOOLARGE);
    scene.tensors[0].rank = 1;
    CHECK_INT_EQ(ocr_boxes_operator.run(scene.state, &scene.call->call), FM_ETYPE);
    scene_destroy(&scene);
}

TEST(random_maps_give_finite_quads)
{
    struct fm_random random;
    fm_random_init(&random, 3);
    for (int round = 0; round < 400; round++) {
        int height = 1 + (int)fm_random_below(&random, 60);
        int width = 1 + (int)fm_random_below(&random, 60);
        struct scene scene = scene_create((size_t)(height * width));
        unsigned percent = (unsigned)fm_random_below(&random, 100);
        for (int i = 0; i < height * width; i++) {
            scene.map[i] = fm_random_below(&random, 100) < percent ? 0.95f : 0.0f;
        }
        CHECK_INT_EQ(scene_run(&scene, height, width), 0);
        for (size_t i = 0; i < scene.call->counts[0]; i++) {
            struct ocr_quad quad;
            CHECK_INT_EQ(ocr_quad_read(&scene.call->outputs[0][i], &quad, NULL), 0);
        }
        scene_destroy(&scene);
    }
}

TEST(a_failing_host_is_reported)
{
    struct scene scene = scene_create(100 * 200);
    bar(scene.map, 200, 20, 60, 180, 68);
    bar(scene.map, 200, 20, 20, 100, 28);
    scene.call->emit_fails_at = 2;
    CHECK_INT_EQ(scene_run(&scene, 100, 200), FM_ENOMEM);
    CHECK_INT_EQ(scene.call->call.error.status, FM_ENOMEM);
    scene_destroy(&scene);
}

TEST(parameters_are_checked)
{
    struct fm_error error = {0};
    void *state = NULL;
    CHECK_INT_EQ(operator_create(&ocr_boxes_operator, "threshold", "1.5", &state, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'threshold' is '1.5': give a number from 0 to 1");
    CHECK_INT_EQ(operator_create(&ocr_boxes_operator, "unclip", "nan", &state, &error), FM_EINVAL);
    CHECK_INT_EQ(operator_create(&ocr_boxes_operator, "boxes_max", "", &state, &error), FM_EINVAL);
    CHECK_INT_EQ(operator_create(&ocr_boxes_operator, "side_min", "3x", &state, &error), FM_EINVAL);
}

TEST(the_plugin_offers_three_operators)
{
    const struct fm_operator_plugin *plugin = fm_operator_entry(FM_OPERATOR_ABI_MAJOR, 0);
    CHECK_INT_EQ(plugin->operator_count, 3);
    CHECK_STR_EQ(plugin->operators[0]->name, "ocr_boxes");
    CHECK_PTR_EQ(fm_operator_entry(FM_OPERATOR_ABI_MAJOR + 1, 0), NULL);
}

TEST_MAIN()
