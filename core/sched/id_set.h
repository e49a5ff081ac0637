/*
 * A set of ids below a bound, whose least member is found in O(1).
 *
 * Owns: the bits. Thread rule: pure; one thread at a time. Three levels of 64-bit words: up to
 * 262,144 ids.
 */
#ifndef FM_CORE_SCHED_ID_SET_H
#define FM_CORE_SCHED_ID_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_ID_SET_BOUND_MAX (64u * 64u * 64u)
#define FM_ID_SET_NONE      UINT32_MAX

struct fm_id_set {
    uint64_t top;
    uint64_t middle[64];
    uint64_t *words;
    uint32_t bound;
    uint32_t count;
};

/* Empty; ids below `bound` <= FM_ID_SET_BOUND_MAX. FM_ENOMEM. */
int FM_NODISCARD fm_id_set_init(struct fm_id_set *set, uint32_t bound);
void fm_id_set_deinit(struct fm_id_set *set); /* accepts a zeroed one */

void fm_id_set_add(struct fm_id_set *set, uint32_t id);    /* nothing if it is in */
void fm_id_set_remove(struct fm_id_set *set, uint32_t id); /* nothing if it is not */
bool fm_id_set_has(const struct fm_id_set *set, uint32_t id);
/* How many members are less than `bound`. O(bound / 64). */
uint32_t fm_id_set_count_below(const struct fm_id_set *set, uint32_t bound);
/* The least id that has `count` members below it, or the bound if there are fewer.
 * O(bound / 64). */
uint32_t fm_id_set_end(const struct fm_id_set *set, uint32_t count);
/* The least member >= from; FM_ID_SET_NONE: there is none. */
uint32_t fm_id_set_first(const struct fm_id_set *set, uint32_t from);

bool fm_id_set_validate(const struct fm_id_set *set);

#endif
