/*
 * Columns and what they are good for. See cells.h.
 */
#include "host/source/cells.h"

#include <inttypes.h>

#include "core/util/error.h"
#include "core/util/memory.h"

int fm_source_cells_make(struct fm_source_cells *cells, const struct fm_source_spec *spec)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < spec->tensor_count; i++) {
        count += spec->tensors[i].name_count > 0 ? spec->tensors[i].name_count : 1;
    }
    cells->items = fm_alloc_zero(count + 1, sizeof(*cells->items));
    cells->names = fm_alloc_zero(count + 1 + spec->passed_count, sizeof(*cells->names));
    if (cells->items == NULL || cells->names == NULL) {
        return FM_ENOMEM;
    }
    cells->count = count;
    cells->name_count = count + 1 + spec->passed_count;
    struct fm_source_cell *cell = cells->items;
    const char **name = cells->names;
    for (uint32_t i = 0; i < spec->tensor_count; i++) {
        const struct fm_source_tensor *tensor = &spec->tensors[i];
        for (uint32_t n = 0; n == 0 || n < tensor->name_count; n++) {
            cell->column = tensor->column;
            cell->column.name = tensor->name_count > 0 ? tensor->names[n] : tensor->column.name;
            cell->column.rank = tensor->name_count > 1 ? 0 : tensor->column.rank;
            cell->tensor = i;
            cell->last = n + 1 >= tensor->name_count;
            *name++ = cell->column.name;
            cell++;
        }
    }
    *name++ = spec->id;
    for (uint32_t i = 0; i < spec->passed_count; i++) {
        *name++ = spec->passed[i];
    }
    return 0;
}

void fm_source_cells_deinit(struct fm_source_cells *cells)
{
    fm_free(cells->items);
    fm_free(cells->names);
    *cells = (struct fm_source_cells){0};
}

int fm_source_row_end(struct fm_row_block *block, int status, struct fm_error *error,
                      const char *unit, uint64_t number, struct fm_error *reterr)
{
    if (status == FM_EAGAIN || status == FM_ENOMEM) {
        fm_row_block_drop(block);
        return status == FM_EAGAIN ? status
                                   : fm_error_set(reterr, FM_ENOMEM, "out of memory for a row");
    }
    if (status != 0) {
        status = fm_error_prefix(error, status, "%s %" PRIu64, unit, number);
    }
    status = status == 0 ? fm_row_block_end(block) : fm_row_block_fail(block, error);
    return status == 0 ? 0 : fm_error_set(reterr, status, "out of memory for a row");
}
