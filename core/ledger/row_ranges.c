/*
 * Merged row ranges in a sorted array. See row_ranges.h.
 */
#include "core/ledger/row_ranges.h"

#include <string.h>

#include "core/util/memory.h"

void fm_row_ranges_deinit(struct fm_row_ranges *ranges)
{
    fm_free(ranges->items);
    *ranges = (struct fm_row_ranges){0};
}

/* Index of the first range that ends behind `row`. */
static size_t find(const struct fm_row_ranges *ranges, uint64_t row)
{
    size_t low = 0;
    size_t high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->items[middle].end > row) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

int fm_row_ranges_reserve(struct fm_row_ranges *ranges)
{
    if (ranges->count < ranges->capacity) {
        return 0;
    }
    size_t capacity = ranges->capacity == 0 ? 16 : ranges->capacity * 2;
    struct fm_row_range *grown = fm_realloc(ranges->items, capacity * sizeof(*grown));
    if (grown == NULL) {
        return FM_ENOMEM;
    }
    ranges->items = grown;
    ranges->capacity = capacity;
    return 0;
}

int fm_row_ranges_add(struct fm_row_ranges *ranges, uint64_t first, uint64_t count)
{
    uint64_t end = first + count;
    if (count == 0 || end < first) {
        return FM_EINVAL;
    }
    size_t at = find(ranges, first);
    if (at < ranges->count && ranges->items[at].first < end) {
        return FM_EEXIST;
    }
    bool joins_before = at > 0 && ranges->items[at - 1].end == first;
    bool joins_after = at < ranges->count && ranges->items[at].first == end;
    struct fm_row_range *items = ranges->items;
    if (joins_before && joins_after) {
        items[at - 1].end = items[at].end;
        memmove(items + at, items + at + 1, (ranges->count - at - 1) * sizeof(*items));
        ranges->count--;
    } else if (joins_before) {
        items[at - 1].end = end;
    } else if (joins_after) {
        items[at].first = first;
    } else {
        int status = fm_row_ranges_reserve(ranges);
        if (status != 0) {
            return status;
        }
        items = ranges->items;
        memmove(items + at + 1, items + at, (ranges->count - at) * sizeof(*items));
        items[at] = (struct fm_row_range){.first = first, .end = end};
        ranges->count++;
    }
    ranges->rows += count;
    return 0;
}

bool fm_row_ranges_contains(const struct fm_row_ranges *ranges, uint64_t row)
{
    size_t at = find(ranges, row);
    return at < ranges->count && ranges->items[at].first <= row;
}

bool fm_row_ranges_overlap(const struct fm_row_ranges *ranges, uint64_t first, uint64_t end)
{
    size_t at = find(ranges, first);
    return first < end && at < ranges->count && ranges->items[at].first < end;
}

bool fm_row_ranges_validate(const struct fm_row_ranges *ranges)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < ranges->count; i++) {
        if (ranges->items[i].first >= ranges->items[i].end ||
            (i > 0 && ranges->items[i - 1].end >= ranges->items[i].first)) {
            return false;
        }
        rows += ranges->items[i].end - ranges->items[i].first;
    }
    return rows == ranges->rows;
}
