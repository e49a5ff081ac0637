/*
 * The columns that a reader has to find, and what each of them is good for: shared by all formats.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_HOST_SOURCE_CELLS_H
#define FM_HOST_SOURCE_CELLS_H

#include "host/source/source.h"

/* What one column gives to one tensor's row. */
struct fm_source_cell {
    struct fm_column column; /* its name is the source's column */
    uint32_t tensor;
    bool last; /* of the tensor's row */
};

/* Zero-initialise. */
struct fm_source_cells {
    struct fm_source_cell *items; /* in the order of the tensors and their names */
    uint32_t count;
    /* Of the cells, then of the id (NULL: none is wanted), then of what is passed. */
    const char **names;
    uint32_t name_count;
};

/* A tensor without names is one cell, which has the input's name. FM_ENOMEM. */
int FM_NODISCARD fm_source_cells_make(struct fm_source_cells *cells,
                                      const struct fm_source_spec *spec);
void fm_source_cells_deinit(struct fm_source_cells *cells); /* accepts a zeroed one */

/*
 * The end of a row whose parts were given with this status, 0 or what is wrong with it (*error has
 * the words): it becomes good, or bad with the words "<unit> <number>: ...". FM_EAGAIN: it does not
 * fit into the block, and was dropped; FM_ENOMEM likewise, with words in *reterr.
 */
int FM_NODISCARD fm_source_row_end(struct fm_row_block *block, int status, struct fm_error *error,
                                   const char *unit, uint64_t number, struct fm_error *reterr);

#endif
