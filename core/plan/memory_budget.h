/*
 * A budget of memory: whether one more piece of work may begin, so that all of them together stay
 * below a limit.
 *
 * Owns: the limit where nobody says one; what pieces of some size are expected to take, learnt from
 * those that are through; the sum of it over those in work; when the allocator is to give back what
 * it keeps. Does not own: measuring, what a piece is, waiting (engines/batch/path_memory). Thread
 * rule: pure; caller's memory.
 *
 * HOW IT WORKS. A piece has a size (the bytes of a file, or the number of rows). Sizes are put in
 * classes, four from each power of two to the next one, and a class remembers the most that one of
 * its pieces has taken, as for its largest size, which it forgets slowly (half of it within 3000
 * pieces of the class), so that one expensive piece in a thousand is expected for ever. A class
 * without experience looks at its neighbours. A size may be known only once the piece was read:
 * until then it is expected to take what others have taken of which nothing was known either; then
 * it is expected anew, and may have to wait before it goes on. Beside that, looks tell how much the
 * process really has: what it always has beyond what is known of its pieces (caches of libraries,
 * memory that the allocator keeps) counts as standing; and where there is more than expected, that
 * is what counts. Where it is strict, the first piece is alone, and what the process has after it,
 * without any, is the base above which memory counts; and what stands is expected to grow with more
 * pieces at once than ever before, and these become no more than twice as many until there were
 * some looks. One piece alone may always begin.
 *
 * LIMITATIONS. A piece that takes much more than all of its size did before is a surprise, and so
 * is every other one that is in work just then. One that fails early teaches little.
 */
#ifndef FM_CORE_PLAN_MEMORY_BUDGET_H
#define FM_CORE_PLAN_MEMORY_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define FM_MEMORY_BUDGET_CLASSES 252u
/* The least that makes sense, and what stands for a limit that nobody has said. */
#define FM_MEMORY_BUDGET_MIN    (UINT64_C(1) << 20)
#define FM_MEMORY_BUDGET_UNSAID UINT64_MAX
/* Of a piece that was not read yet. */
#define FM_MEMORY_SIZE_UNKNOWN UINT64_MAX

/* What there is for a process when it begins. */
struct fm_memory_room {
    uint64_t said_bytes;      /* by the user, 0: no limit; or FM_MEMORY_BUDGET_UNSAID */
    uint64_t process_bytes;   /* that the process may have; 0: no limit */
    uint64_t used_bytes;      /* of it, already */
    uint64_t available_bytes; /* of the machine; 0: not known */
    uint32_t sharers;         /* processes that want some of that, with this one; 0: likewise 1 */
};

/* The limit: the user's; or most of what the process may still have; or its part of most of what
 * there is. 0: none, where nothing is known. */
uint64_t fm_memory_budget_limit(const struct fm_memory_room *room);

/* A piece in work, from begin to end. Zero-initialise. */
struct fm_memory_piece {
    uint64_t size;
    uint64_t expected_bytes;
    bool late;    /* it began without its size */
    bool running; /* its size is known, and it is not through */
};

/* What a piece has taken at its most, when it is through. */
struct fm_memory_taken {
    bool ran;            /* false: it was read at most */
    uint64_t read_bytes; /* that were read for it: there twice when they become a tensor ... */
    bool read_stays;     /* ... or beside what it has while it runs */
    uint64_t run_bytes;  /* while it ran */
    uint64_t line_bytes; /* its results, which are made while the others are there */
};

struct fm_memory_budget {
    uint64_t limit_bytes; /* 0: there is none, and everything may begin */
    /* What nothing is known of, because nothing near its size is through, runs alone. Otherwise it
     * is expected to take a small part of the limit. */
    bool strict;
    bool based;              /* base_bytes is that of a process that has begun to work ... */
    bool warm;               /* ... and of one that has run something, if anything has */
    uint64_t base_bytes;     /* resident, without anything in work */
    uint64_t expected_bytes; /* of all pieces in work */
    uint64_t standing_bytes;
    uint64_t seen_bytes;  /* above base_bytes, by the last look ... */
    uint64_t known_bytes; /* ... of which so much is the pieces' */
    uint64_t most_bytes;  /* ever seen */
    uint32_t pieces;      /* in work */
    uint32_t running;     /* of those, whose size is known, and that are not through */
    uint32_t pieces_most; /* when there were some looks */
    /* Internal. */
    uint64_t most[FM_MEMORY_BUDGET_CLASSES]; /* 0: no experience */
    uint64_t most_late;                      /* likewise, of pieces that began without a size */
    uint64_t late_size;                      /* what one of those is reckoned to have */
    bool through;                            /* something is ... */
    bool ran;                                /* ... and has run */
    bool waits;                              /* something had to, since the allocator was asked */
    uint64_t window_bytes;                   /* the least of what stands, in this window */
    uint32_t window_looks;
};

void fm_memory_budget_init(struct fm_memory_budget *ret_budget, uint64_t limit_bytes, bool strict,
                           uint64_t resident_bytes);

/* What a piece is expected to take at its most. */
uint64_t fm_memory_budget_expect(const struct fm_memory_budget *budget, uint64_t size);
/* The size that a piece is reckoned to have of which it is not known: as the largest lately, and
 * slowly less; `most` until there was one. */
uint64_t fm_memory_budget_late_size(const struct fm_memory_budget *budget, uint64_t most);

/* Whether the process is as it is without anything in work, and its resident memory is to be told
 * as the base. */
bool fm_memory_budget_wants_base(const struct fm_memory_budget *budget);
void fm_memory_budget_base(struct fm_memory_budget *budget, uint64_t resident_bytes);

/* Whether a piece of that size may begin now; it begins. */
bool fm_memory_budget_may(struct fm_memory_budget *budget, uint64_t size);
void fm_memory_budget_begin(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                            uint64_t size);
/* It was read. Whether it may go on, with that size; it goes on. Only a piece that began without
 * its size has to ask: the others may always. */
bool fm_memory_budget_may_go_on(struct fm_memory_budget *budget,
                                const struct fm_memory_piece *piece, uint64_t size);
void fm_memory_budget_go_on(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                            uint64_t size);
/* It is through, and has its results, which take kept_bytes from now on. */
void fm_memory_budget_through(struct fm_memory_budget *budget, struct fm_memory_piece *piece,
                              const struct fm_memory_taken *taken, uint64_t kept_bytes);
/* It is over, through or not. */
void fm_memory_budget_end(struct fm_memory_budget *budget, struct fm_memory_piece *piece);

/* What the process has, and how much of it is known to be its pieces'. To be called often. */
void fm_memory_budget_look(struct fm_memory_budget *budget, uint64_t resident_bytes,
                           uint64_t known_bytes);
/* Whether the allocator is to give back what it keeps: something waits, and there is more than is
 * known. Each question begins anew. */
bool fm_memory_budget_trims(struct fm_memory_budget *budget);

#endif
