/*
 * Watches how busy the stages of a worker's pipeline are, and which one uses most of the computing
 * time.
 *
 * Owns: what was seen at the last look. Does not own: the sums themselves (host/runtime/executor,
 * path_meter.h). Thread rule: one thread.
 */
#ifndef FM_ENGINES_BATCH_STAGE_WATCH_H
#define FM_ENGINES_BATCH_STAGE_WATCH_H

#include "core/proto/batch_messages.h"
#include "host/runtime/executor.h"

struct fm_stage_watch {
    struct fm_executor *executor; /* borrowed */
    const char *const *names;     /* by stage; borrowed, as what is told */
    uint32_t stage_count;
    const char *slowest;  /* NULL: unknown */
    double slowest_share; /* of the computing time of all stages */
    /* Reading, and stages in the pipeline's order; of many, the busiest. */
    struct fm_batch_stages stages;
    /* Internal. */
    const char *readers; /* what they are called: a stage may have the same name */
    uint64_t *busy_before_ns;
    uint64_t readers_before_ns;
    uint64_t at_ns;
};

/* FM_ENOMEM. */
int FM_NODISCARD fm_stage_watch_init(struct fm_stage_watch *ret_watch, struct fm_executor *executor,
                                     const char *const *names, uint32_t stage_count,
                                     uint64_t now_ns);
void fm_stage_watch_deinit(struct fm_stage_watch *watch); /* accepts a zeroed one */
/* Nothing, until some time has passed since the last look. readers_busy_ns is a sum that grows, and
 * `readers` the number of threads that it is of. */
void fm_stage_watch_look(struct fm_stage_watch *watch, uint64_t readers_busy_ns, uint32_t readers,
                         uint64_t now_ns);

#endif
