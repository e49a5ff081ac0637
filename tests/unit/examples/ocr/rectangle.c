/* Hulls and rectangles: known shapes, degenerate ones, and random sets against brute force. */
#include "examples/ocr/rectangle.c"

#include "core/util/random.h"
#include "tests/harness/test.h"

static int is_inside(const struct ocr_point *hull, size_t count, struct ocr_point point)
{
    for (size_t i = 0; i < count; i++) {
        if (cross(&hull[i], &hull[(i + 1) % count], &point) < -1e-9) {
            return 0;
        }
    }
    return 1;
}

TEST(hull_of_a_square_with_points_on_its_sides)
{
    struct ocr_point points[] = {{0, 0}, {2, 0}, {1, 1}, {2, 2}, {0, 2}, {1, 0}, {0, 1}, {2, 2}};
    CHECK_INT_EQ(ocr_hull(points, 8), 4);
    CHECK_NEAR(points[0].x, 0, 0);
    CHECK_NEAR(points[0].y, 0, 0);
}

TEST(hull_of_nothing_a_point_a_line)
{
    struct ocr_point points[] = {{1, 1}, {1, 1}, {1, 1}};
    CHECK_INT_EQ(ocr_hull(points, 0), 0);
    CHECK_INT_EQ(ocr_hull(points, 3), 1);
    struct ocr_point line[] = {{0, 0}, {3, 3}, {1, 1}, {2, 2}};
    CHECK_INT_EQ(ocr_hull(line, 4), 2);
    struct ocr_rectangle rectangle = ocr_rectangle_around(line, 2);
    CHECK_NEAR(rectangle.width * rectangle.height, 0, 1e-12);
}

TEST(random_hulls_hold_all_points_and_bend_one_way)
{
    struct fm_random random;
    fm_random_init(&random, 7);
    for (int round = 0; round < 2000; round++) {
        struct ocr_point points[24];
        struct ocr_point all[24];
        size_t count = 3 + (size_t)fm_random_below(&random, 22);
        for (size_t i = 0; i < count; i++) {
            points[i].x = (double)fm_random_below(&random, 12);
            points[i].y = (double)fm_random_below(&random, 12);
            all[i] = points[i];
        }
        size_t corners = ocr_hull(points, count);
        CHECK_INT_LE(corners, count);
        for (size_t i = 0; i < corners && corners >= 3; i++) {
            CHECK(cross(&points[i], &points[(i + 1) % corners], &points[(i + 2) % corners]) > 0);
        }
        for (size_t i = 0; i < count && corners >= 3; i++) {
            CHECK(is_inside(points, corners, all[i]));
        }
    }
}

TEST(a_turned_box_is_found_again)
{
    for (int degrees = -44; degrees <= 44; degrees += 4) {
        double angle = degrees * 3.14159265358979 / 180;
        struct ocr_point points[4];
        for (int i = 0; i < 4; i++) {
            double x = i == 1 || i == 2 ? 40 : -40;
            double y = i >= 2 ? 6 : -6;
            points[i].x = 100 + x * cos(angle) - y * sin(angle);
            points[i].y = 50 + x * sin(angle) + y * cos(angle);
        }
        struct ocr_point corners[4];
        memcpy(corners, points, sizeof(corners));
        CHECK_INT_EQ(ocr_hull(points, 4), 4);
        struct ocr_rectangle rectangle = ocr_rectangle_around(points, 4);
        CHECK_NEAR(rectangle.width, 80, 1e-6);
        CHECK_NEAR(rectangle.height, 12, 1e-6);
        struct ocr_quad quad = ocr_rectangle_quad(&rectangle, 1, 1);
        for (int i = 0; i < 4; i++) {
            CHECK_NEAR(quad.corners[i].x, corners[i].x, 1e-6);
            CHECK_NEAR(quad.corners[i].y, corners[i].y, 1e-6);
        }
    }
}

TEST(growing_moves_every_side_alike)
{
    struct ocr_rectangle rectangle = {{50, 50}, {1, 0}, 60, 12};
    struct ocr_rectangle grown = ocr_rectangle_grow(&rectangle, 1.5);
    CHECK_NEAR(grown.width, 60 + 2 * 7.5, 1e-12); /* 720 * 1.5 / 144 */
    CHECK_NEAR(grown.height, 12 + 2 * 7.5, 1e-12);
    CHECK_NEAR(grown.center.x, 50, 0);
    struct ocr_rectangle flat =
        ocr_rectangle_grow(&(struct ocr_rectangle){{0, 0}, {1, 0}, 0, 0}, 1.5);
    CHECK_NEAR(flat.width, 0, 0);
}

TEST(an_upright_rectangle_is_read_from_below)
{
    struct ocr_rectangle rectangle = {{10, 50}, {1, 0}, 12, 60};
    struct ocr_quad quad = ocr_rectangle_quad(&rectangle, 2, 1);
    CHECK_NEAR(quad.corners[0].x, 8, 0); /* bottom left */
    CHECK_NEAR(quad.corners[0].y, 80, 0);
    CHECK_NEAR(quad.corners[1].y, 20, 0); /* top left */
    struct ocr_bounds bounds = ocr_quad_bounds(&quad);
    CHECK_NEAR(bounds.left, 8, 0);
    CHECK_NEAR(bounds.top, 20, 0);
    CHECK_NEAR(bounds.right, 32, 0);
    CHECK_NEAR(bounds.bottom, 80, 0);
}

TEST_MAIN()
