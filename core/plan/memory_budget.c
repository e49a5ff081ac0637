/*
 * A budget of memory. See memory_budget.h.
 */
#include "core/plan/memory_budget.h"

#include <math.h>

#include "core/util/assert.h"

/* Of experience, with every piece that has taken less. */
#define FORGETS 4096u
/* So many classes above all experience, a piece runs alone where that is strict: a factor of 16. */
#define CLASSES_FAR 16u
/* Of the limit: what a piece counts with, of which nothing is known. */
#define UNKNOWN_PART 64u
/* What stands is the least in so many looks. */
#define WINDOW_LOOKS 8u

void fm_memory_budget_init(struct fm_memory_budget *ret_budget, uint64_t limit_bytes, bool strict)
{
    *ret_budget = (struct fm_memory_budget){
        .limit_bytes = limit_bytes, .strict = strict, .window_bytes = UINT64_MAX};
}

/* Of sizes up to 3 each is a class; above, the two digits behind the first one tell four apart. */
static uint32_t class_of(uint64_t size)
{
    if (size < 4) {
        return (uint32_t)size;
    }
    uint32_t digits = 63u - (uint32_t)__builtin_clzll(size);
    return 4 * (digits - 1) + (uint32_t)(size >> (digits - 2) & 3);
}

/* The largest size of a class. */
static double class_top(uint32_t class)
{
    if (class < 4) {
        return class;
    }
    return ldexp(4 + class % 4 + 1, (int)(class / 4) - 1) - 1;
}

static uint64_t scaled(uint64_t bytes, double size, double other)
{
    double wanted = (double)bytes * (size > 1 ? size : 1) / (other > 1 ? other : 1);
    return wanted < 4e18 ? (uint64_t)wanted : UINT64_C(4000000000000000000);
}

uint64_t fm_memory_budget_expect(const struct fm_memory_budget *budget, uint64_t size)
{
    uint32_t class = class_of(size);
    uint32_t below = class;
    uint32_t above = class;
    while (below > 0 && budget->most[below] == 0) {
        below--;
    }
    while (above < FM_MEMORY_BUDGET_CLASSES - 1 && budget->most[above] == 0) {
        above++;
    }
    uint64_t from_above = budget->most[above] > 0 ? budget->most[above] : UINT64_MAX;
    uint64_t from_below = budget->most[below] > 0
                              ? scaled(budget->most[below], (double)size, class_top(below))
                              : UINT64_MAX;
    uint64_t unknown = budget->strict ? budget->limit_bytes : budget->limit_bytes / UNKNOWN_PART;
    if (budget->most[class] > 0) {
        return budget->most[class];
    }
    if (budget->most[above] == 0 && (budget->most[below] == 0 || class - below >= CLASSES_FAR)) {
        return from_below != UINT64_MAX && from_below > unknown ? from_below : unknown;
    }
    /* A larger one takes no less, and none takes more for each unit than a smaller one. */
    return from_above < from_below ? from_above : from_below;
}

bool fm_memory_budget_may(const struct fm_memory_budget *budget, uint64_t expected_bytes)
{
    uint64_t limit = budget->limit_bytes;
    if (limit == 0 || budget->pieces == 0) {
        return true;
    }
    uint64_t used = budget->expected_bytes + budget->standing_bytes;
    used = used > budget->seen_bytes ? used : budget->seen_bytes;
    uint32_t known = budget->pieces_most > 0 ? budget->pieces_most : 1;
    if (budget->strict && budget->pieces >= 2 * known) {
        return false;
    }
    if (budget->strict && budget->pieces >= known) {
        used += budget->standing_bytes / known * (budget->pieces + 1 - known);
    }
    return used <= limit && expected_bytes <= limit - used;
}

void fm_memory_budget_begin(struct fm_memory_budget *budget, uint64_t expected_bytes)
{
    budget->expected_bytes += expected_bytes;
    budget->pieces++;
}

void fm_memory_budget_change(struct fm_memory_budget *budget, uint64_t from_bytes,
                             uint64_t to_bytes)
{
    FM_ASSERT(budget->expected_bytes >= from_bytes);
    budget->expected_bytes -= from_bytes;
    budget->expected_bytes += to_bytes;
}

void fm_memory_budget_end(struct fm_memory_budget *budget, uint64_t expected_bytes)
{
    FM_ASSERT(budget->pieces > 0);
    fm_memory_budget_change(budget, expected_bytes, 0);
    budget->pieces--;
}

void fm_memory_budget_learn(struct fm_memory_budget *budget, uint64_t size, uint64_t bytes)
{
    uint32_t class = class_of(size);
    uint64_t *most = &budget->most[class];
    uint64_t now = scaled(bytes > 0 ? bytes : 1, class_top(class), (double)size);
    *most = now >= *most ? now : *most - (*most - now) / FORGETS;
}

bool fm_memory_budget_knows(const struct fm_memory_budget *budget)
{
    bool knows = false;
    for (uint32_t i = 0; i < FM_MEMORY_BUDGET_CLASSES; i++) {
        knows = knows || budget->most[i] > 0;
    }
    return knows;
}

void fm_memory_budget_look(struct fm_memory_budget *budget, uint64_t seen_bytes,
                           uint64_t known_bytes)
{
    uint64_t more = seen_bytes > known_bytes ? seen_bytes - known_bytes : 0;
    budget->seen_bytes = seen_bytes;
    budget->window_bytes = more < budget->window_bytes ? more : budget->window_bytes;
    budget->window_looks++;
    if (budget->window_looks == WINDOW_LOOKS || budget->pieces == 0) {
        budget->standing_bytes = budget->window_bytes;
        budget->pieces_most =
            budget->pieces > budget->pieces_most ? budget->pieces : budget->pieces_most;
        budget->window_bytes = UINT64_MAX;
        budget->window_looks = 0;
    }
}
