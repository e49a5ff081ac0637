/*
 * Rows of a source, column by column. See row_block.h.
 */
#include "core/source/row_block.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

int fm_row_block_init(struct fm_row_block *ret_block, const struct fm_column *columns,
                      uint32_t tensor_count, uint32_t passed_count, uint32_t rows_max)
{
    *ret_block = (struct fm_row_block){.tensor_count = tensor_count,
                                       .passed_count = passed_count,
                                       .columns = columns,
                                       .capacity = rows_max};
    ret_block->tensors = fm_alloc_zero(tensor_count + 1, sizeof(*ret_block->tensors));
    ret_block->shapes = fm_alloc_zero(tensor_count + 1, sizeof(*ret_block->shapes));
    ret_block->lengths = fm_alloc_zero(tensor_count + 1, sizeof(*ret_block->lengths));
    ret_block->rows = fm_alloc_zero(rows_max, sizeof(*ret_block->rows));
    if (ret_block->tensors == NULL || ret_block->shapes == NULL || ret_block->lengths == NULL ||
        ret_block->rows == NULL) {
        fm_row_block_deinit(ret_block);
        return FM_ENOMEM;
    }
    return 0;
}

void fm_row_block_deinit(struct fm_row_block *block)
{
    for (uint32_t i = 0; block->tensors != NULL && i < block->tensor_count; i++) {
        fm_text_deinit(&block->tensors[i]);
    }
    fm_text_deinit(&block->texts);
    fm_free(block->tensors);
    fm_free(block->shapes);
    fm_free(block->lengths);
    fm_free(block->rows);
    *block = (struct fm_row_block){0};
}

void fm_row_block_clear(struct fm_row_block *block)
{
    for (uint32_t i = 0; i < block->tensor_count; i++) {
        fm_text_clear(&block->tensors[i]);
    }
    fm_text_clear(&block->texts);
    block->row_count = 0;
    block->good_count = 0;
    block->open = false;
}

void fm_row_block_begin(struct fm_row_block *block, uint64_t row, uint64_t line)
{
    FM_ASSERT(!block->open && block->row_count < block->capacity);
    block->rows[block->row_count] = (struct fm_block_row){.row = row, .line = line, .id = SIZE_MAX};
    for (uint32_t i = 0; i < block->tensor_count; i++) {
        block->lengths[i] = block->tensors[i].length;
    }
    block->texts_length = block->texts.length;
    block->passed_now = 0;
    block->open = true;
}

void fm_row_block_place(struct fm_row_block *block, uint64_t offset, size_t size)
{
    FM_ASSERT(block->open);
    block->rows[block->row_count].offset = offset;
    block->rows[block->row_count].size = size;
}

int fm_row_block_shape(struct fm_row_block *block, uint32_t tensor, const int64_t *shape)
{
    size_t size = block->columns[tensor].rank * sizeof(*shape);
    if (block->good_count == 0) {
        memcpy(block->shapes[tensor], shape, size);
        return 0;
    }
    return memcmp(block->shapes[tensor], shape, size) == 0 ? 0 : FM_EAGAIN;
}

void fm_row_block_id(struct fm_row_block *block, const char *data, size_t size)
{
    struct fm_block_row *row = &block->rows[block->row_count];
    FM_ASSERT(block->open);
    row->id = block->texts.length;
    row->id_size = size;
    fm_text_append(&block->texts, data, size);
    fm_text_append_char(&block->texts, '\0');
}

void fm_row_block_pass(struct fm_row_block *block, const char *json, size_t size)
{
    FM_ASSERT(block->open && block->passed_now < block->passed_count);
    if (block->passed_now++ == 0) {
        block->rows[block->row_count].passed = block->texts.length;
    }
    fm_text_append(&block->texts, json, size);
    fm_text_append_char(&block->texts, '\0');
}

static void tensors_take_back(struct fm_row_block *block)
{
    for (uint32_t i = 0; i < block->tensor_count; i++) {
        block->tensors[i].length = block->lengths[i];
        block->tensors[i].failed = false;
    }
}

void fm_row_block_drop(struct fm_row_block *block)
{
    FM_ASSERT(block->open);
    tensors_take_back(block);
    block->texts.length = block->texts_length;
    block->texts.failed = false;
    block->open = false;
}

int fm_row_block_end(struct fm_row_block *block)
{
    bool failed = block->texts.failed;
    FM_ASSERT(block->open && block->passed_now == block->passed_count);
    for (uint32_t i = 0; i < block->tensor_count; i++) {
        failed = failed || block->tensors[i].failed;
    }
    if (failed) {
        fm_row_block_drop(block);
        return FM_ENOMEM;
    }
    block->row_count++;
    block->good_count++;
    block->open = false;
    return 0;
}

int fm_row_block_fail(struct fm_row_block *block, const struct fm_error *error)
{
    struct fm_block_row *row = &block->rows[block->row_count];
    FM_ASSERT(block->open && error->status != 0);
    tensors_take_back(block);
    /* The same number for every row: what was not come by is null. */
    while (block->passed_now < block->passed_count) {
        fm_row_block_pass(block, "null", 4);
    }
    row->status = error->status;
    row->words = block->texts.length;
    fm_text_append(&block->texts, error->text, strlen(error->text) + 1);
    if (block->texts.failed) {
        fm_row_block_drop(block);
        return FM_ENOMEM;
    }
    block->row_count++;
    block->open = false;
    return 0;
}
