/*
 * Some rows of a source, column by column: tensors of a row each, the rows' ids, and the values
 * that are passed through to the results.
 *
 * Owns: the bytes, what belongs to which row, taking back a row that turned out bad. Does not own:
 * reading (host/source), what a text stands for (column.h). Thread rule: caller's memory.
 *
 * A reader begins a row, appends one row to the text of every tensor, and its id and passed values;
 * then it ends the row, or fails it with words. A row that failed stays in the block, without
 * bytes in the tensors. All good rows of a block have the same shapes: one that has others does not
 * fit any more, and begins the next block.
 */
#ifndef FM_CORE_SOURCE_ROW_BLOCK_H
#define FM_CORE_SOURCE_ROW_BLOCK_H

#include "core/source/column.h"

struct fm_block_row {
    uint64_t row;    /* in its file, from 0 */
    uint64_t line;   /* on which it begins, from 1; 0: the format has no lines */
    uint64_t offset; /* of its record in the file, which has so many bytes ... */
    size_t size;     /* ... 0: the format has no records */
    int status;      /* 0: its values are in the tensors */
    size_t words;    /* where why it failed begins in the texts */
    size_t id;       /* likewise its id; SIZE_MAX: it has none */
    size_t id_size;  /* an id may hold any byte */
    size_t passed;   /* where its passed values begin: JSON values, each with a NUL behind it */
};

struct fm_row_block {
    uint32_t tensor_count;
    uint32_t passed_count;
    struct fm_text *tensors;         /* by tensor: the good rows, one behind the other */
    int64_t (*shapes)[FM_RANK_MAX];  /* by tensor: of each good row, once there is one */
    const struct fm_column *columns; /* by tensor; borrowed */
    struct fm_block_row *rows;
    uint32_t row_count;
    uint32_t good_count;
    struct fm_text texts; /* ids, passed values, words */

    /* Internal. */
    uint32_t capacity;
    size_t *lengths; /* by tensor: before the row that has begun */
    size_t texts_length;
    uint32_t passed_now;
    bool open;
};

/* `columns` by tensor, borrowed; rows_max: that it can hold. FM_ENOMEM. */
int FM_NODISCARD fm_row_block_init(struct fm_row_block *ret_block, const struct fm_column *columns,
                                   uint32_t tensor_count, uint32_t passed_count, uint32_t rows_max);
void fm_row_block_deinit(struct fm_row_block *block); /* accepts a zeroed one */
void fm_row_block_clear(struct fm_row_block *block);  /* keeps the memory */

/* There must be room: row_count < rows_max. */
void fm_row_block_begin(struct fm_row_block *block, uint64_t row, uint64_t line);
/* Where its record lies in the file. */
void fm_row_block_place(struct fm_row_block *block, uint64_t offset, size_t size);
/* To be said once for every tensor, after its row was appended to block->tensors[tensor].
 * FM_EAGAIN: the block's other rows have another shape; drop the row, and begin the next block with
 * it. */
int FM_NODISCARD fm_row_block_shape(struct fm_row_block *block, uint32_t tensor,
                                    const int64_t *shape);
void fm_row_block_id(struct fm_row_block *block, const char *data, size_t size);
/* passed_count of them, in order. `json`: one JSON value. */
void fm_row_block_pass(struct fm_row_block *block, const char *json, size_t size);
/* The row is complete. FM_ENOMEM: something could not be kept, and the row was dropped. */
int FM_NODISCARD fm_row_block_end(struct fm_row_block *block);
/* The row is bad, for this reason; its id and passed values stay, and values not given are null.
 * FM_ENOMEM: as above. */
int FM_NODISCARD fm_row_block_fail(struct fm_row_block *block, const struct fm_error *error);
/* As if the row had not begun. */
void fm_row_block_drop(struct fm_row_block *block);

#endif
