/*
 * What accelerators of a batch worker have done, as the text that a beat carries: "front 1234 17,
 * back.0 980 12", by accelerator its name, the milliseconds that it was busy, and its batches.
 *
 * Owns: this text, written and read. Does not own: the beat (batch_messages.h), measuring. Nothing
 * is allocated; views point into the text. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_BATCH_ACCELERATORS_H
#define FM_CORE_PROTO_BATCH_ACCELERATORS_H

#include "core/proto/batch_messages.h"

/* As many as a worker may have, with names as long as they may be. */
#define FM_BATCH_ACCELERATORS_TEXT_SIZE FM_BATCH_REASON_BYTES_MAX

struct fm_batch_accelerator {
    struct fm_batch_view name; /* of letters, digits, '-', '_' and '.' */
    uint64_t busy_ms;
    uint64_t batches;
};

/* Appends it to text[size], which ends in NUL. False: there is no room, and the text is as it was.
 */
bool fm_batch_accelerator_append(char *text, size_t size,
                                 const struct fm_batch_accelerator *accelerator);
/* Takes the first one off the text. False: there is none, or what stands there is something else.
 */
bool fm_batch_accelerator_next(struct fm_batch_view *text,
                               struct fm_batch_accelerator *ret_accelerator);

#endif
