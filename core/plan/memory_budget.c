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
/* Of the memory that a process may have, in percent. */
#define PROCESS_PERCENT 80u
/* Of what a piece is reckoned to have, with every one that has had less; and the least of it. */
#define SIZE_FORGETS  64u
#define LATE_SIZE_MIN (UINT64_C(1) << 20)

uint64_t fm_memory_budget_limit(const struct fm_memory_room *room)
{
    uint64_t soft = room->process_bytes / 100 * PROCESS_PERCENT;
    uint64_t limit = soft > room->used_bytes ? soft - room->used_bytes : 0;
    uint32_t sharers = room->sharers > 0 ? room->sharers : 1;
    if (room->said_bytes != FM_MEMORY_BUDGET_UNSAID) {
        return room->said_bytes;
    }
    if (room->process_bytes == 0 && room->available_bytes == 0) {
        return 0;
    }
    if (room->process_bytes == 0) {
        limit = room->available_bytes / 4 * 3 / sharers; /* others want some, too */
    }
    return limit > FM_MEMORY_BUDGET_MIN ? limit : FM_MEMORY_BUDGET_MIN;
}

void fm_memory_budget_init(struct fm_memory_budget *ret_budget, uint64_t limit_bytes, bool strict,
                           uint64_t resident_bytes)
{
    *ret_budget = (struct fm_memory_budget){.limit_bytes = limit_bytes,
                                            .strict = strict,
                                            .warm = !strict,
                                            .based = !strict,
                                            .base_bytes = resident_bytes,
                                            .window_bytes = UINT64_MAX};
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

static uint64_t expect_sized(const struct fm_memory_budget *budget, uint64_t size, uint64_t unknown)
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
    if (budget->most[class] > 0) {
        return budget->most[class];
    }
    if (budget->most[above] == 0 && (budget->most[below] == 0 || class - below >= CLASSES_FAR)) {
        return from_below != UINT64_MAX && from_below > unknown ? from_below : unknown;
    }
    /* A larger one takes no less, and none takes more for each unit than a smaller one. */
    return from_above < from_below ? from_above : from_below;
}

uint64_t fm_memory_budget_expect(const struct fm_memory_budget *budget, uint64_t size)
{
    uint64_t part = budget->limit_bytes / UNKNOWN_PART;
    uint64_t unknown = budget->strict ? budget->limit_bytes : part;
    if (size != FM_MEMORY_SIZE_UNKNOWN) {
        return expect_sized(budget, size, unknown);
    }
    if (budget->most_late == 0) {
        return unknown;
    }
    return budget->most_late > part ? budget->most_late : part;
}

uint64_t fm_memory_budget_late_size(const struct fm_memory_budget *budget, uint64_t most)
{
    return budget->late_size > 0 && budget->late_size < most ? budget->late_size : most;
}

bool fm_memory_budget_wants_base(const struct fm_memory_budget *budget)
{
    return !budget->warm && budget->through && budget->pieces == 0;
}

void fm_memory_budget_base(struct fm_memory_budget *budget, uint64_t resident_bytes)
{
    budget->base_bytes = resident_bytes > budget->base_bytes ? resident_bytes : budget->base_bytes;
    budget->seen_bytes = 0;
    budget->standing_bytes = 0;
    budget->window_bytes = UINT64_MAX;
    budget->window_looks = 0;
    budget->based = true;
    budget->warm = true;
}

static bool fits(const struct fm_memory_budget *budget, uint64_t expected_bytes)
{
    uint64_t limit = budget->limit_bytes;
    uint64_t used = budget->expected_bytes + budget->standing_bytes;
    uint32_t known = budget->pieces_most > 0 ? budget->pieces_most : 1;
    if (limit == 0 || budget->pieces == 0) {
        return true;
    }
    if (!budget->warm || (budget->strict && budget->pieces >= 2 * known)) {
        return false;
    }
    used = used > budget->seen_bytes ? used : budget->seen_bytes;
    if (budget->strict && budget->pieces >= known) {
        used += budget->standing_bytes / known * (budget->pieces + 1 - known);
    }
    return used <= limit && expected_bytes <= limit - used;
}

bool fm_memory_budget_may(struct fm_memory_budget *budget, uint64_t size)
{
    bool may = fits(budget, fm_memory_budget_expect(budget, size));
    budget->waits = budget->waits || !may;
    return may;
}

static void change(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                   uint64_t expected_bytes)
{
    FM_ASSERT(budget->expected_bytes >= piece->expected_bytes);
    budget->expected_bytes -= piece->expected_bytes;
    budget->expected_bytes += expected_bytes;
    piece->expected_bytes = expected_bytes;
}

static void running_set(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                        bool running)
{
    FM_ASSERT(!piece->running || budget->running > 0);
    budget->running += (running ? 1u : 0u) - (piece->running ? 1u : 0u);
    piece->running = running;
}

void fm_memory_budget_begin(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                            uint64_t size)
{
    *piece = (struct fm_memory_piece){.size = size, .late = size == FM_MEMORY_SIZE_UNKNOWN};
    budget->pieces++;
    change(budget, piece, fm_memory_budget_expect(budget, size));
    running_set(budget, piece, !piece->late);
}

/* With nothing running it goes on whatever it takes: the results of what was begun after it may
 * wait for its own. */
bool fm_memory_budget_may_go_on(struct fm_memory_budget *budget,
                                const struct fm_memory_piece *piece, uint64_t size)
{
    uint64_t limit = budget->limit_bytes;
    uint64_t expected = fm_memory_budget_expect(budget, size);
    uint64_t seen = budget->seen_bytes > size ? budget->seen_bytes - size : 0;
    uint64_t others = budget->expected_bytes + budget->standing_bytes - piece->expected_bytes;
    others = others > seen ? others : seen;
    bool may = limit == 0 || piece->running || budget->running == 0 ||
               (others <= limit && expected <= limit - others);
    budget->waits = budget->waits || !may;
    return may;
}

/* What the next ones without a size are reckoned to have. */
static void late_size_learn(struct fm_memory_budget *budget, uint64_t size)
{
    uint64_t less = budget->late_size - budget->late_size / SIZE_FORGETS;
    less = less > LATE_SIZE_MIN ? less : LATE_SIZE_MIN;
    budget->late_size = size > less ? size : less;
}

void fm_memory_budget_go_on(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                            uint64_t size)
{
    piece->size = size;
    if (piece->late) {
        late_size_learn(budget, size);
    }
    change(budget, piece, fm_memory_budget_expect(budget, size));
    running_set(budget, piece, true);
}

static uint64_t most_of(const struct fm_memory_taken *taken)
{
    uint64_t read = 2 * taken->read_bytes;
    uint64_t run = taken->run_bytes + taken->line_bytes;
    run += taken->read_stays ? taken->read_bytes : 0;
    return run > read ? run : read;
}

static void most_learn(uint64_t *most, uint64_t bytes)
{
    uint64_t now = bytes > 0 ? bytes : 1;
    *most = now >= *most ? now : *most - (*most - now) / FORGETS;
}

/* One that did not run says nothing about its size, only that such a one, whose size nobody knew,
 * need not run. */
static void learn(struct fm_memory_budget *budget, const struct fm_memory_piece *piece,
                  const struct fm_memory_taken *taken)
{
    uint64_t bytes = most_of(taken);
    budget->through = true;
    if (piece->late) {
        most_learn(&budget->most_late, bytes);
    }
    if (taken->ran && !budget->ran) {
        budget->ran = true;
        budget->warm = !budget->strict; /* a base from before it is too low */
    }
    if (taken->ran && piece->size != FM_MEMORY_SIZE_UNKNOWN) {
        uint32_t class = class_of(piece->size);
        most_learn(&budget->most[class], scaled(bytes, class_top(class), (double)piece->size));
    }
}

void fm_memory_budget_through(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                              const struct fm_memory_taken *taken, uint64_t kept_bytes)
{
    learn(budget, piece, taken);
    change(budget, piece, kept_bytes);
    running_set(budget, piece, false);
}

void fm_memory_budget_end(struct fm_memory_budget *budget, struct fm_memory_piece *piece)
{
    FM_ASSERT(budget->pieces > 0);
    change(budget, piece, 0);
    running_set(budget, piece, false);
    budget->pieces--;
}

void fm_memory_budget_look(struct fm_memory_budget *budget, uint64_t resident_bytes,
                           uint64_t known_bytes)
{
    budget->known_bytes = known_bytes;
    if (!budget->based) {
        return;
    }
    uint64_t seen = resident_bytes > budget->base_bytes ? resident_bytes - budget->base_bytes : 0;
    uint64_t more = seen > known_bytes ? seen - known_bytes : 0;
    budget->seen_bytes = seen;
    budget->most_bytes = seen > budget->most_bytes ? seen : budget->most_bytes;
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

bool fm_memory_budget_trims(struct fm_memory_budget *budget)
{
    bool trims = budget->waits && budget->seen_bytes > budget->known_bytes;
    budget->waits = false;
    return trims;
}
