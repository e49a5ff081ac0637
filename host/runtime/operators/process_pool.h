/*
 * The processes of one `process` stage: started, given items, watched, started again.
 *
 * Owns: the processes and what they get to do one after the other; what is logged of them. Does not
 * own: the frames (core/proto/process_frames.h), the pauses between starts (core/plan/restart.h),
 * parameters. Thread rule: fm_process_pool_run from many threads, each of which it blocks until its
 * item is done.
 */
#ifndef FM_HOST_RUNTIME_OPERATORS_PROCESS_POOL_H
#define FM_HOST_RUNTIME_OPERATORS_PROCESS_POOL_H

#include "fermata/operator.h"
#include "host/os/program.h"

/* Borrowed, and in place as long as the pool is. */
struct fm_process_pool_options {
    struct fm_program_command command;
    const struct fm_host *host; /* its log */
    const struct fm_port *inputs;
    const struct fm_port *outputs;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t processes;
    uint32_t attempts;       /* of an item whose process ends */
    uint64_t time_limit_ns;  /* of an item */
    uint64_t start_limit_ns; /* until a process is ready */
    uint64_t answer_bytes_max;
    size_t memory_half; /* shared with each process in each direction; 0: none */
};

struct fm_process_pool;

/* Starts all processes and waits until they are ready. `stage` is copied. */
int FM_NODISCARD fm_process_pool_start(const struct fm_process_pool_options *options,
                                       const char *stage, struct fm_process_pool **ret_pool,
                                       struct fm_error *reterr);
/* Closes the processes' standard inputs, gives them a moment, and ends those that go on. Accepts
 * NULL. */
void fm_process_pool_stop(struct fm_process_pool *pool);

/*
 * One item. FM_EINVAL: its process refused it, with the process's words. FM_EDEADLINE: the process
 * has not answered within the time limit. FM_ECORRUPT, FM_ETOOLARGE: its answer is no good.
 * FM_EINTERNAL: the process has ended. FM_EUNAVAILABLE: no process can be started.
 */
int FM_NODISCARD fm_process_pool_run(struct fm_process_pool *pool, struct fm_operator_call *call);

#endif
