/*
 * Saying something to a program and hearing its answer, through its pipes, with a deadline.
 *
 * Owns: reading while writing, so that two full pipes are no deadlock; waiting. Does not own: the
 * descriptors, what is said. Thread rule: one exchange per program at a time; blocks the caller.
 */
#ifndef FM_HOST_OS_PROGRAM_PIPE_H
#define FM_HOST_OS_PROGRAM_PIPE_H

#include <stddef.h>
#include <stdint.h>

#include "core/proto/process_frames.h"
#include "host/os/program.h"

enum fm_exchange_end {
    FM_EXCHANGE_DONE,    /* everything was taken, and the answer is complete */
    FM_EXCHANGE_CLOSED,  /* it has closed one of the pipes */
    FM_EXCHANGE_LATE,    /* the deadline has passed */
    FM_EXCHANGE_GARBAGE, /* the answer is none, or goes on behind its end: answer->error */
    FM_EXCHANGE_FAILED,  /* reading or writing has failed: answer->error */
};

/*
 * Writes the pieces and reads one frame into `answer`, which has begun. deadline_ns as
 * fm_os_now_ns(). SIGPIPE does not reach anybody.
 */
enum fm_exchange_end fm_program_exchange(const struct fm_program *program,
                                         const struct fm_process_piece *pieces, size_t piece_count,
                                         struct fm_process_answer *answer, uint64_t deadline_ns);

#endif
