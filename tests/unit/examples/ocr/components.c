/* Connected components: shapes that join late, noise, and every small map against flood fill. */
#include "examples/ocr/components.c"

#include "tests/harness/test.h"

static float *map_parse(const char *rows, int32_t height, int32_t width)
{
    float *map = malloc((size_t)height * (size_t)width * sizeof(*map));
    for (int32_t i = 0; map != NULL && i < height * width; i++) {
        map[i] = rows[i] == '#' ? 0.9f : 0.1f;
    }
    return map;
}

TEST(a_u_is_one_component)
{
    float *map = map_parse("#..#"
                           "#..#"
                           "####",
                           3, 4);
    struct ocr_components found;
    CHECK_INT_EQ(ocr_components_find(map, 3, 4, 0.3f, 1, &found), 0);
    CHECK_INT_EQ(found.count, 1);
    CHECK_INT_EQ(found.items[0].run_count, 5);
    CHECK_INT_EQ(found.items[0].left, 0);
    CHECK_INT_EQ(found.items[0].right, 4);
    CHECK_INT_EQ(found.items[0].top, 0);
    CHECK_INT_EQ(found.items[0].bottom, 3);
    CHECK_NEAR(found.items[0].score, 0.9, 1e-6);
    ocr_components_deinit(&found);
    free(map);
}

TEST(corners_touch_and_order_is_that_of_first_pixels)
{
    float *map = map_parse("..#.#"
                           ".#..."
                           "#...#",
                           3, 5);
    struct ocr_components found;
    CHECK_INT_EQ(ocr_components_find(map, 3, 5, 0.3f, 1, &found), 0);
    CHECK_INT_EQ(found.count, 3);
    CHECK_INT_EQ(found.items[0].left, 0);
    CHECK_INT_EQ(found.items[0].run_count, 3);
    CHECK_INT_EQ(found.items[1].left, 4);
    CHECK_INT_EQ(found.items[1].top, 0);
    CHECK_INT_EQ(found.items[2].top, 2);
    ocr_components_deinit(&found);
    free(map);
}

TEST(thin_bridges_fall)
{
    float *map = map_parse("##...##"
                           "#######"
                           "##...##"
                           ".......",
                           4, 7);
    struct ocr_components found;
    CHECK_INT_EQ(ocr_components_find(map, 4, 7, 0.3f, 1, &found), 0);
    CHECK_INT_EQ(found.count, 1);
    ocr_components_deinit(&found);
    CHECK_INT_EQ(ocr_components_find(map, 4, 7, 0.3f, 2, &found), 0);
    CHECK_INT_EQ(found.count, 2);
    CHECK_INT_EQ(found.items[0].right, 2);
    CHECK_INT_EQ(found.items[1].left, 5);
    ocr_components_deinit(&found);
    CHECK_INT_EQ(ocr_components_find(map, 4, 7, 0.3f, 4, &found), 0);
    CHECK_INT_EQ(found.count, 0);
    ocr_components_deinit(&found);
    free(map);
}

TEST(odd_values_and_sizes)
{
    float map[6] = {NAN, INFINITY, -INFINITY, 0.3f, 5.0f, NAN};
    struct ocr_components found;
    CHECK_INT_EQ(ocr_components_find(map, 2, 3, 0.3f, 1, &found), 0);
    CHECK_INT_EQ(found.count, 1); /* the infinity and the 5 below it; 0.3 is not above 0.3 */
    CHECK_NEAR(found.items[0].score, 1.0, 0);
    ocr_components_deinit(&found);
    CHECK_INT_EQ(ocr_components_find(map, 0, 3, 0.3f, 1, &found), FM_EINVAL);
    CHECK_INT_EQ(ocr_components_find(map, 1, OCR_MAP_SIDE_MAX + 1, 0.3f, 1, &found), FM_EINVAL);
    map[1] = map[4] = 0;
    CHECK_INT_EQ(ocr_components_find(map, 2, 3, 0.3f, 1, &found), 0);
    CHECK_INT_EQ(found.count, 0);
    ocr_components_deinit(&found);
}

static void flood(const float *map, int *label, int height, int width, int y, int x, int value)
{
    if (y < 0 || x < 0 || y >= height || x >= width || map[y * width + x] < 0.5f ||
        label[y * width + x] != 0) {
        return;
    }
    label[y * width + x] = value;
    for (int i = 0; i < 9; i++) {
        flood(map, label, height, width, y + i / 3 - 1, x + i % 3 - 1, value);
    }
}

TEST(every_map_of_4_by_4_as_flood_fill_has_it)
{
    for (int bits = 0; bits < 65536; bits++) {
        float map[16];
        int label[16] = {0};
        int count = 0;
        for (int i = 0; i < 16; i++) {
            map[i] = (bits >> i & 1) != 0 ? 1.0f : 0.0f;
        }
        for (int i = 0; i < 16; i++) {
            if (map[i] > 0.5f && label[i] == 0) {
                flood(map, label, 4, 4, i / 4, i % 4, ++count);
            }
        }
        struct ocr_components found;
        CHECK_INT_EQ(ocr_components_find(map, 4, 4, 0.5f, 1, &found), 0);
        CHECK_INT_EQ(found.count, count);
        for (size_t i = 0; i < found.count; i++) {
            for (size_t j = 0; j < found.items[i].run_count; j++) {
                const struct ocr_run *run = &found.runs[found.items[i].first_run + j];
                for (int32_t x = run->begin; x < run->end; x++) {
                    CHECK_INT_EQ(label[run->row * 4 + x], i + 1);
                }
            }
        }
        ocr_components_deinit(&found);
    }
}

TEST_MAIN()
