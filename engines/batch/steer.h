/*
 * Steering a job from outside: asking its master, over the socket in the job's directory, and the
 * mark of a cancelled job where nobody works on it.
 *
 * Owns: finding the socket, the call, the mark. Does not own: what the master does (host.h, the
 * service Control of proto/batch.proto). Thread rule: no shared state; a call blocks.
 */
#ifndef FM_ENGINES_BATCH_STEER_H
#define FM_ENGINES_BATCH_STEER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/proto/batch_control.h"

enum fm_steer { FM_STEER_STATUS, FM_STEER_PAUSE, FM_STEER_RESUME, FM_STEER_CANCEL };

/* The master's answer, which outlives the call. Zero-initialise. */
struct fm_steer_answer {
    struct fm_text bytes;
    struct fm_batch_status status; /* its views point into the bytes */
};

/* Waits for the answer, `patience_ns` at most. FM_ENOTFOUND: there is no job; FM_EUNAVAILABLE:
 * nobody works on it, or who does so does not answer; FM_EPERM; FM_EUNSUPPORTED: the master is an
 * older Fermata; FM_ENOMEM. */
int FM_NODISCARD fm_steer_ask(const char *directory, enum fm_steer what, uint64_t patience_ns,
                              struct fm_steer_answer *ret_answer, struct fm_error *reterr);
void fm_steer_answer_deinit(struct fm_steer_answer *answer);

/*
 * Marks a job on which nobody works as cancelled, or takes that back. *ret_changed: it was not so
 * before. FM_ENOTFOUND: there is no job; FM_EUNAVAILABLE: somebody works on it; FM_EINVAL: it is
 * complete, so that there is nothing to cancel; and as the store and the lock say.
 */
int FM_NODISCARD fm_steer_mark(const char *directory, bool cancelled, bool *ret_changed,
                               struct fm_error *reterr);

#endif
