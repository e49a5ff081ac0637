/*
 * Watches how busy the stages of a worker's pipeline are, and which one uses most of the computing
 * time.
 *
 * Owns: what was seen at the last look. Does not own: the sums themselves (host/runtime/executor,
 * path_meter.h), clocks. Thread rule: one thread.
 */
#ifndef FM_ENGINES_BATCH_STAGE_WATCH_H
#define FM_ENGINES_BATCH_STAGE_WATCH_H

#include "core/proto/batch_messages.h"

/* What a stage, or reading, has been busy since the beginning, over all of its slots or threads. */
struct fm_stage_sum {
    uint64_t busy_ns;
    uint32_t slots;
};

struct fm_stage_watch {
    const char *const *names; /* by stage; borrowed, as what is told */
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
int FM_NODISCARD fm_stage_watch_init(struct fm_stage_watch *ret_watch, const char *const *names,
                                     uint32_t stage_count, uint64_t now_ns);
void fm_stage_watch_deinit(struct fm_stage_watch *watch); /* accepts a zeroed one */
/* Whether enough time has passed since the last look. */
bool fm_stage_watch_is_due(const struct fm_stage_watch *watch, uint64_t now_ns);
/* `sums` by stage. */
void fm_stage_watch_look(struct fm_stage_watch *watch, const struct fm_stage_sum *readers,
                         const struct fm_stage_sum *sums, uint64_t now_ns);

#endif
