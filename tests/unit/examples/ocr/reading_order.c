/* Reading order: lines, columns, tables, pages with a title and figures, and that no box is ever
 * lost. */
#include "examples/ocr/reading_order.c"

#include "core/util/random.h"
#include "tests/harness/test.h"

#define COUNT_MAX 300

struct sheet {
    struct ocr_bounds bounds[COUNT_MAX];
    struct ocr_place places[COUNT_MAX];
    size_t count;
};

static void sheet_add(struct sheet *sheet, double left, double top, double right)
{
    sheet->bounds[sheet->count++] = (struct ocr_bounds){left, top, right, top + 20};
}

TEST(words_of_a_line_go_from_left_to_right)
{
    struct sheet sheet = {0};
    sheet_add(&sheet, 300, 104, 380);
    sheet_add(&sheet, 100, 130, 500);
    sheet_add(&sheet, 100, 100, 200);
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, 3, sheet.places), 0);
    CHECK_INT_EQ(sheet.places[0].box, 2);
    CHECK_INT_EQ(sheet.places[1].box, 0);
    CHECK_INT_EQ(sheet.places[2].box, 1);
    CHECK_INT_EQ(sheet.places[0].line, sheet.places[1].line);
    CHECK_INT_EQ(sheet.places[2].line, sheet.places[1].line + 1);
}

TEST(two_columns_below_a_title_and_above_a_footer)
{
    struct sheet sheet = {0};
    sheet_add(&sheet, 200, 50, 800); /* 0: title, across */
    for (int i = 0; i < 20; i++) {   /* 1, 3, ..: left; 2, 4, ..: right */
        sheet_add(&sheet, 100, 100 + 25 * i, i % 5 == 4 ? 300 : 480);
        sheet_add(&sheet, 520, 100 + 25 * i, i % 7 == 6 ? 700 : 900);
    }
    sheet_add(&sheet, 300, 700, 700); /* 41: footer, across */
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, sheet.count, sheet.places), 0);
    CHECK_INT_EQ(sheet.places[0].box, 0);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_INT_EQ(sheet.places[1 + i].box, 1 + 2 * i);
        CHECK_INT_EQ(sheet.places[21 + i].box, 2 + 2 * i);
    }
    CHECK_INT_EQ(sheet.places[41].box, 41);
}

TEST(a_table_is_read_across)
{
    struct sheet sheet = {0};
    for (int i = 0; i < 20; i++) {
        sheet_add(&sheet, 100, 100 + 25 * i, 220);
        sheet_add(&sheet, 520, 100 + 25 * i, 640 + 260 * (i == 0));
    }
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, sheet.count, sheet.places), 0);
    for (uint32_t i = 0; i < 40; i++) {
        CHECK_INT_EQ(sheet.places[i].box, i);
        CHECK_INT_EQ(sheet.places[i].line, i / 2);
    }
}

TEST(a_table_full_of_cells_is_read_across)
{
    /* Both halves are full, as columns are, but of three cells each. */
    struct sheet sheet = {0};
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 6; j++) {
            sheet_add(&sheet, 100 + 136 * j, 100 + 25 * i, 220 + 136 * j);
        }
    }
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, sheet.count, sheet.places), 0);
    for (uint32_t i = 0; i < 48; i++) {
        CHECK_INT_EQ(sheet.places[i].box, i);
        CHECK_INT_EQ(sheet.places[i].line, i / 6);
    }
}

TEST(columns_survive_a_line_drawn_too_far_and_a_wide_footer)
{
    struct sheet sheet = {0};
    for (int i = 0; i < 20; i++) { /* even: left; odd: right */
        sheet_add(&sheet, 100, 100 + 25 * i, i == 10 ? 515 : 490);
        sheet_add(&sheet, 500, 100 + 25 * i, 890);
    }
    sheet_add(&sheet, 800, 700, 1100); /* 40: the footer stands out of the text */
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, sheet.count, sheet.places), 0);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_INT_EQ(sheet.places[i].box, 2 * i);
        CHECK_INT_EQ(sheet.places[20 + i].box, 1 + 2 * i);
    }
    CHECK_INT_EQ(sheet.places[40].box, 40);
}

TEST(one_column_with_short_lines_stays_one)
{
    struct sheet sheet = {0};
    for (int i = 0; i < 30; i++) {
        sheet_add(&sheet, 100, 100 + 25 * i, i % 3 == 0 ? 300 : 900);
    }
    CHECK_INT_EQ(ocr_reading_order(sheet.bounds, sheet.count, sheet.places), 0);
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_INT_EQ(sheet.places[i].box, i);
    }
}

TEST(random_boxes_all_come_once_and_alike_in_any_order)
{
    struct fm_random random;
    fm_random_init(&random, 11);
    for (int round = 0; round < 300; round++) {
        struct sheet sheet = {0};
        size_t count = (size_t)fm_random_below(&random, COUNT_MAX);
        for (size_t i = 0; i < count; i++) {
            double left = (double)fm_random_below(&random, 900);
            sheet_add(&sheet, left, (double)fm_random_below(&random, 1300),
                      left + 1 + (double)fm_random_below(&random, 400));
        }
        CHECK_INT_EQ(ocr_reading_order(sheet.bounds, count, sheet.places), 0);
        char seen[COUNT_MAX] = {0};
        for (size_t i = 0; i < count; i++) {
            CHECK(sheet.places[i].box < count);
            CHECK_INT_EQ(seen[sheet.places[i].box], 0);
            seen[sheet.places[i].box] = 1;
            CHECK(i == 0 || sheet.places[i].line == sheet.places[i - 1].line ||
                  sheet.places[i].line == sheet.places[i - 1].line + 1);
        }
    }
}

TEST(limits)
{
    struct ocr_place place;
    CHECK_INT_EQ(ocr_reading_order(NULL, 0, &place), 0);
    CHECK_INT_EQ(ocr_reading_order(NULL, OCR_BOXES_MAX + 1, &place), FM_ELIMIT);
}

TEST_MAIN()
