/*
 * How busy the stages of a job are: of one worker, and of all together.
 *
 * Owns: names that outlive the message they came in, means, the form in JSON. Does not own: where
 * the numbers come from (stage_watch.h). Thread rule: caller's memory.
 */
#ifndef FM_ENGINES_BATCH_STAGE_USE_H
#define FM_ENGINES_BATCH_STAGE_USE_H

#include "core/proto/batch_messages.h"
#include "core/proto/json.h"

#define FM_STAGE_NAME_SIZE 64u /* longer ones are cut */

struct fm_stage_use {
    char name[FM_STAGE_NAME_SIZE];
    double busy;      /* share of the time of its instances or threads, 0 to 1 */
    uint32_t workers; /* whose mean it is */
};

/* Zero-initialise. */
struct fm_stage_uses {
    uint32_t count;
    struct fm_stage_use items[FM_BATCH_STAGES_MAX];
};

/* What a worker says, copied. */
void fm_stage_uses_set(struct fm_stage_uses *uses, const struct fm_batch_stages *stages);
/* Takes one more worker, or one more set of them, into the means, stage by stage; of stages that
 * there is no room for, nothing is kept. */
void fm_stage_uses_add(struct fm_stage_uses *means, const struct fm_stage_uses *more);
/* The names are views into `uses`. */
void fm_stage_uses_view(const struct fm_stage_uses *uses, struct fm_batch_stages *ret_stages);
/* {"detect": 0.87, "read": 0.12} */
void fm_stage_uses_write(const struct fm_stage_uses *uses, struct fm_json_writer *json);
/* Reads that, the object's beginning taken already. FM_ETYPE, FM_ENOMEM. */
int FM_NODISCARD fm_stage_uses_read(struct fm_stage_uses *ret_uses, struct fm_json_reader *json);

#endif
