/*
 * The memory of what a data path has in work: what is counted of it, and what the process has.
 *
 * Owns: looking at the process's memory, the counts of blocks in work, having the allocator give
 * back. Does not own: what may begin (core/plan/memory_budget decides), waiting. Thread rule: under
 * the caller's lock, but for fm_path_memory_measure and fm_path_memory_limit.
 */
#ifndef FM_ENGINES_BATCH_PATH_MEMORY_H
#define FM_ENGINES_BATCH_PATH_MEMORY_H

#include "core/plan/memory_budget.h"
#include "core/proto/batch_messages.h"
#include "engines/batch/block.h"

/* Of a block in work. Zero-initialise. */
struct fm_path_piece {
    struct fm_memory_piece piece;
    uint64_t charged_bytes; /* of bytes_in_flight */
    uint64_t own_bytes;     /* that it has outside of the executor */
};

/* Zero-initialise, then init. */
struct fm_path_memory {
    struct fm_memory_budget budget;
    uint64_t bytes_in_flight; /* that are charged for all pieces */
    uint64_t own_bytes;       /* of all pieces */
    uint64_t look_ns;         /* the last one */
};

/* The process's memory at some time. */
struct fm_path_measure {
    uint64_t executor_bytes;
    uint64_t resident_bytes;
};

/* The limit on rows in work of a process that runs a job, with everything loaded: process_bytes it
 * may have (0: no limit), and so many processes share the machine. */
uint64_t fm_path_memory_limit(const struct fm_job *job, uint64_t process_bytes, uint32_t sharers);
/* Whether that is the user's own number. */
bool fm_path_memory_is_strict(const struct fm_job *job);

void fm_path_memory_init(struct fm_path_memory *ret_memory, uint64_t limit_bytes, bool strict);

/* What counts against bytes_in_flight for the piece from now on; and what the piece has by itself,
 * beside what the executor has of it. */
void fm_path_memory_charge(struct fm_path_memory *memory, struct fm_path_piece *piece,
                           uint64_t bytes);
void fm_path_memory_own(struct fm_path_memory *memory, struct fm_path_piece *piece, uint64_t bytes);

/* Whether a piece of that size may begin. May take its time, where the process is measured first.
 */
bool fm_path_memory_may(struct fm_path_memory *memory, uint64_t size);
/* The block is through: its lines are what it has from now on. */
void fm_path_memory_through(struct fm_path_memory *memory, struct fm_path_piece *piece,
                            const struct fm_block *block);
/* Nothing is left of the piece, through or not. */
void fm_path_memory_end(struct fm_path_memory *memory, struct fm_path_piece *piece);

/* Without the caller's lock, because the executor's comes before it. */
void fm_path_memory_measure(struct fm_executor *executor, struct fm_path_measure *ret_measure);
/* Takes what was measured. */
void fm_path_memory_look(struct fm_path_memory *memory, const struct fm_path_measure *measure,
                         uint64_t now_ns);
/* Whether the last look is long enough ago. */
bool fm_path_memory_is_due(const struct fm_path_memory *memory, uint64_t now_ns);

void fm_path_memory_tell(const struct fm_path_memory *memory, struct fm_batch_memory *ret_memory);

#endif
