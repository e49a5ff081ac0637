/*
 * A budget of memory: whether one more piece of work may begin, so that all of them together stay
 * below a limit.
 *
 * Owns: what pieces of some size are expected to take, learnt from those that are through; the sum
 * of it over those in work. Does not own: measuring, what a piece is, waiting (engines/batch/
 * data_path). Thread rule: pure; caller's memory.
 *
 * HOW IT WORKS. A piece has a size that is known beforehand (the bytes of a file, or the number of
 * rows). Sizes are put in classes, four from each power of two to the next one, and a class
 * remembers the most that one of its pieces has taken, as for its largest size, which it forgets
 * slowly (half of it within 3000 pieces of the class), so that one expensive piece in a thousand is
 * expected for ever. A class without experience looks at its neighbours. Beside that, looks tell
 * how much the process really has: what it always has beyond what is known of its pieces (caches of
 * libraries, memory that the allocator keeps) counts as standing; and where there is more than
 * expected, that is what counts. Where it is
 * strict, what stands is expected to grow with more pieces at once than ever before, and these
 * become no more than twice as many until there were some looks. One piece alone may always begin.
 *
 * LIMITATIONS. A piece that takes much more than all of its size did before is a surprise, and so
 * is every other one that is in work just then.
 */
#ifndef FM_CORE_PLAN_MEMORY_BUDGET_H
#define FM_CORE_PLAN_MEMORY_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define FM_MEMORY_BUDGET_CLASSES 252u

struct fm_memory_budget {
    uint64_t limit_bytes; /* 0: there is none, and everything may begin */
    /* What nothing is known of, because nothing near its size is through, runs alone. Otherwise it
     * is expected to take a small part of the limit. */
    bool strict;
    uint64_t expected_bytes; /* of all pieces in work */
    uint64_t standing_bytes;
    uint64_t seen_bytes;  /* by the last look */
    uint32_t pieces;      /* in work */
    uint32_t pieces_most; /* when there were some looks */
    /* Internal. */
    uint64_t most[FM_MEMORY_BUDGET_CLASSES]; /* 0: no experience */
    uint64_t window_bytes;                   /* the least of what stands, in this window */
    uint32_t window_looks;
};

void fm_memory_budget_init(struct fm_memory_budget *ret_budget, uint64_t limit_bytes, bool strict);

/* What a piece is expected to take at its most. */
uint64_t fm_memory_budget_expect(const struct fm_memory_budget *budget, uint64_t size);
/* Whether a piece that is expected to take so much may begin now. */
bool fm_memory_budget_may(const struct fm_memory_budget *budget, uint64_t expected_bytes);
/* It begins; it is expected to take something else from now on; it is over. */
void fm_memory_budget_begin(struct fm_memory_budget *budget, uint64_t expected_bytes);
void fm_memory_budget_change(struct fm_memory_budget *budget, uint64_t from_bytes,
                             uint64_t to_bytes);
void fm_memory_budget_end(struct fm_memory_budget *budget, uint64_t expected_bytes);
/* A piece of that size has taken so much at its most. */
void fm_memory_budget_learn(struct fm_memory_budget *budget, uint64_t size, uint64_t bytes);
/* Whether anything was learnt. */
bool fm_memory_budget_knows(const struct fm_memory_budget *budget);
/* What the process has beyond what it began with, and how much of it is known to be its pieces'. To
 * be called often. */
void fm_memory_budget_look(struct fm_memory_budget *budget, uint64_t seen_bytes,
                           uint64_t known_bytes);

#endif
