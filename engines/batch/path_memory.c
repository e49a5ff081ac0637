/*
 * The memory of blocks in work. See path_memory.h.
 */
#include "engines/batch/path_memory.h"

#include "host/os/memory_facts.h"
#include "host/os/memory_limit.h"
#include "host/os/process_facts.h"

/* Between two looks at the memory of the process. */
#define LOOK_NS UINT64_C(1000000)

uint64_t fm_path_memory_limit(const struct fm_job *job, uint64_t process_bytes, uint32_t sharers)
{
    const struct fm_memory_room room = {.said_bytes = job->memory_budget,
                                        .process_bytes = process_bytes,
                                        .used_bytes = fm_memory_limit_used(),
                                        .available_bytes = fm_memory_available(),
                                        .sharers = sharers};
    return fm_memory_budget_limit(&room);
}

bool fm_path_memory_is_strict(const struct fm_job *job)
{
    return job->memory_budget != FM_MEMORY_BUDGET_UNSAID && job->memory_budget > 0;
}

void fm_path_memory_init(struct fm_path_memory *ret_memory, uint64_t limit_bytes, bool strict)
{
    *ret_memory = (struct fm_path_memory){0};
    fm_memory_budget_init(&ret_memory->budget, limit_bytes, strict, fm_memory_resident());
}

void fm_path_memory_charge(struct fm_path_memory *memory, struct fm_path_piece *piece,
                           uint64_t bytes)
{
    memory->bytes_in_flight += bytes - piece->charged_bytes; /* modulo 2^64 it comes out right */
    piece->charged_bytes = bytes;
}

void fm_path_memory_own(struct fm_path_memory *memory, struct fm_path_piece *piece, uint64_t bytes)
{
    memory->own_bytes += bytes - piece->own_bytes; /* likewise */
    piece->own_bytes = bytes;
}

bool fm_path_memory_may(struct fm_path_memory *memory, uint64_t size)
{
    if (fm_memory_budget_wants_base(&memory->budget)) {
        fm_process_memory_release();
        fm_memory_budget_base(&memory->budget, fm_memory_resident());
    }
    return fm_memory_budget_may(&memory->budget, size);
}

void fm_path_memory_through(struct fm_path_memory *memory, struct fm_path_piece *piece,
                            const struct fm_block *block)
{
    const struct fm_memory_taken taken = {
        .ran = block->bad < block->row_count || block->request.bytes_most > 0,
        .read_bytes = block->bytes,
        .read_stays = block->plan->columns != NULL, /* those inputs are the block's own */
        .run_bytes = block->request.bytes_most,
        .line_bytes = block->lines.capacity};
    fm_path_memory_charge(memory, piece, block->lines.length);
    fm_path_memory_own(memory, piece, block->lines.capacity + fm_block_rows_bytes(block));
    fm_memory_budget_through(&memory->budget, &piece->piece, &taken, piece->own_bytes);
}

void fm_path_memory_end(struct fm_path_memory *memory, struct fm_path_piece *piece)
{
    fm_path_memory_charge(memory, piece, 0);
    fm_path_memory_own(memory, piece, 0);
    fm_memory_budget_end(&memory->budget, &piece->piece);
}

void fm_path_memory_measure(struct fm_executor *executor, struct fm_path_measure *ret_measure)
{
    *ret_measure = (struct fm_path_measure){.executor_bytes = fm_executor_bytes(executor),
                                            .resident_bytes = fm_memory_resident()};
}

void fm_path_memory_look(struct fm_path_memory *memory, const struct fm_path_measure *measure,
                         uint64_t now_ns)
{
    fm_memory_budget_look(&memory->budget, measure->resident_bytes,
                          measure->executor_bytes + memory->own_bytes);
    memory->look_ns = now_ns;
}

bool fm_path_memory_is_due(const struct fm_path_memory *memory, uint64_t now_ns)
{
    /* The clock of whoever asks may have been read before that of the last look. */
    return now_ns >= memory->look_ns + LOOK_NS;
}

void fm_path_memory_tell(const struct fm_path_memory *memory, struct fm_batch_memory *ret_memory)
{
    const struct fm_memory_budget *budget = &memory->budget;
    *ret_memory = (struct fm_batch_memory){.budget = budget->limit_bytes,
                                           .base = budget->base_bytes,
                                           .used = budget->seen_bytes,
                                           .most = budget->most_bytes,
                                           .rows = budget->known_bytes};
}
