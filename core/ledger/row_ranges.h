/*
 * A set of rows kept as merged ranges: memory grows with the holes in it, not with the rows.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_CORE_LEDGER_ROW_RANGES_H
#define FM_CORE_LEDGER_ROW_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_row_range {
    uint64_t first;
    uint64_t end; /* one behind the last */
};

/* Ascending, disjoint, never touching. Zero-initialise to start. */
struct fm_row_ranges {
    struct fm_row_range *items;
    size_t count;
    size_t capacity;
    uint64_t rows;
};

void fm_row_ranges_deinit(struct fm_row_ranges *ranges);
/*
 * Adds [first, first + count), merging with its neighbours. FM_EEXIST when any of it is there
 * already, FM_EINVAL for an empty range or one that overflows, FM_ENOMEM; the set is unchanged
 * then.
 */
int FM_NODISCARD fm_row_ranges_add(struct fm_row_ranges *ranges, uint64_t first, uint64_t count);
/* Makes sure that the next add cannot fail for memory. */
int FM_NODISCARD fm_row_ranges_reserve(struct fm_row_ranges *ranges);
bool fm_row_ranges_contains(const struct fm_row_ranges *ranges, uint64_t row);
/* Whether any row of [first, end) is in the set. */
bool fm_row_ranges_overlap(const struct fm_row_ranges *ranges, uint64_t first, uint64_t end);
/* Whether the set is what it must be: ascending, apart, rightly counted. O(ranges). */
bool fm_row_ranges_validate(const struct fm_row_ranges *ranges);

#endif
