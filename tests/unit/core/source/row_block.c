/*
 * Tests of core/source/row_block: rows that are good, bad, taken back, or of another shape.
 */
#include "core/source/row_block.h"

#include "core/util/error.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_column columns[] = {
    {.name = "x", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {-1}},
    {.name = "t", .dtype = FM_DTYPE_UINT8},
};

static void give(struct fm_row_block *block, uint64_t row, const char *id, int32_t elements)
{
    const int64_t shape[] = {elements};
    fm_row_block_begin(block, row, row + 2);
    fm_row_block_id(block, id, strlen(id));
    fm_row_block_pass(block, "1", 1);
    fm_row_block_pass(block, "\"two\"", 5);
    for (int32_t i = 0; i < elements; i++) {
        fm_text_append(&block->tensors[0], &i, sizeof(i));
    }
    fm_text_append_char(&block->tensors[1], (char)row);
    CHECK_INT_EQ(fm_row_block_shape(block, 0, shape),
                 block->good_count == 0 || block->shapes[0][0] == elements ? 0 : FM_EAGAIN);
}

TEST(good_rows_lie_behind_each_other)
{
    struct fm_row_block block;
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 2, 2, 4), 0);
    for (uint64_t row = 7; row < 10; row++) {
        give(&block, row, row == 8 ? "eight" : "other", 2);
        CHECK_INT_EQ(fm_row_block_end(&block), 0);
    }
    const int32_t numbers[] = {0, 1, 0, 1, 0, 1};
    CHECK_INT_EQ(block.row_count, 3);
    CHECK_INT_EQ(block.good_count, 3);
    CHECK_INT_EQ(block.tensors[0].length, sizeof(numbers));
    CHECK_MEM_EQ(block.tensors[0].data, numbers, sizeof(numbers));
    CHECK_MEM_EQ(block.tensors[1].data, "\x07\x08\x09", 3);
    CHECK_INT_EQ(block.shapes[0][0], 2);
    CHECK_INT_EQ(block.rows[1].row, 8);
    CHECK_INT_EQ(block.rows[1].line, 10);
    CHECK_STR_EQ(block.texts.data + block.rows[1].id, "eight");
    CHECK_STR_EQ(block.texts.data + block.rows[1].passed, "1");
    CHECK_STR_EQ(block.texts.data + block.rows[1].passed + 2, "\"two\"");
    fm_row_block_clear(&block);
    CHECK_INT_EQ(block.row_count + block.good_count, 0);
    CHECK_INT_EQ(block.tensors[0].length, 0);
    fm_row_block_deinit(&block);
}

TEST(a_bad_row_leaves_its_words_and_no_bytes)
{
    struct fm_row_block block;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 2, 2, 4), 0);
    give(&block, 0, "good", 1);
    CHECK_INT_EQ(fm_row_block_end(&block), 0);
    (void)fm_error_set(&error, FM_ETYPE, "column 'x': no");
    fm_row_block_begin(&block, 1, 0);
    fm_row_block_pass(&block, "5", 1);
    fm_text_append_string(&block.tensors[0], "half of it");
    CHECK_INT_EQ(fm_row_block_fail(&block, &error), 0);
    give(&block, 2, "good, too", 1);
    CHECK_INT_EQ(fm_row_block_end(&block), 0);
    CHECK_INT_EQ(block.row_count, 3);
    CHECK_INT_EQ(block.good_count, 2);
    CHECK_INT_EQ(block.tensors[0].length, 2 * sizeof(int32_t));
    CHECK_INT_EQ(block.rows[1].status, FM_ETYPE);
    CHECK(block.rows[1].id == SIZE_MAX);
    CHECK_STR_EQ(block.texts.data + block.rows[1].words, "column 'x': no");
    CHECK_STR_EQ(block.texts.data + block.rows[1].passed, "5");
    CHECK_STR_EQ(block.texts.data + block.rows[1].passed + 2, "null");
    fm_row_block_deinit(&block);
}

TEST(a_row_of_another_shape_waits_for_the_next_block)
{
    struct fm_row_block block;
    CHECK_INT_EQ(fm_row_block_init(&block, columns, 2, 2, 4), 0);
    give(&block, 0, "one", 1);
    CHECK_INT_EQ(fm_row_block_end(&block), 0);
    size_t texts = block.texts.length;
    give(&block, 1, "of three", 3);
    fm_row_block_drop(&block);
    CHECK_INT_EQ(block.row_count, 1);
    CHECK_INT_EQ(block.tensors[0].length, sizeof(int32_t));
    CHECK_INT_EQ(block.tensors[1].length, 1);
    CHECK_INT_EQ(block.texts.length, texts);
    fm_row_block_clear(&block);
    give(&block, 1, "of three", 3);
    CHECK_INT_EQ(fm_row_block_end(&block), 0);
    CHECK_INT_EQ(block.shapes[0][0], 3);
    fm_row_block_deinit(&block);
}

/* A row whose memory cannot be had is dropped, whole; the block goes on. */
TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    int status = FM_ENOMEM;
    int failures = 0;
    for (uint64_t n = 1; n < 100 && status != 0; n++) {
        struct fm_row_block block = {0};
        const int64_t shape[] = {1};
        struct fm_error error = {.status = FM_ETYPE, .text = "no"};
        (void)fm_memory_fail_at(n, 0);
        status = fm_row_block_init(&block, columns, 2, 1, 4);
        bool made = status == 0;
        for (uint64_t row = 0; row < 2 && status == 0; row++) {
            fm_row_block_begin(&block, row, 0);
            fm_row_block_id(&block, "id", 2);
            fm_row_block_pass(&block, "1", 1);
            fm_text_append(&block.tensors[0], "four", 4);
            fm_text_append(&block.tensors[1], "1", 1);
            CHECK_INT_EQ(fm_row_block_shape(&block, 0, shape), 0);
            status = row == 0 ? fm_row_block_end(&block) : fm_row_block_fail(&block, &error);
        }
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
        if (made && status != 0) {
            CHECK(block.row_count < 2 && !block.texts.failed && !block.tensors[0].failed);
        }
        failures += status != 0;
        fm_row_block_deinit(&block);
    }
    CHECK_INT_EQ(status, 0);
    CHECK(failures > 4);
}

TEST_MAIN()
