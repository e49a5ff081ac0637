/*
 * Remembered JSON: clients send the same JSON with every request, and only the binary tensors
 * behind it, and perhaps the id in front, differ. What it says is read once.
 *
 * Owns: the last few heads of infer requests to one model, what they said, and the head of the
 * answer that each got. Remembered are those whose inputs are all binary and in the body, of at
 * most FM_OIP_MEMO_TEXT_MAX bytes without the id; every other request is read and answered as if
 * there were no memory. Does not own: what is said of a mistake: whatever does not fit what is
 * remembered is read again. Thread rule: one thread; the signature is the same in all calls.
 */
#ifndef FM_CORE_PROTO_OIP_MEMO_H
#define FM_CORE_PROTO_OIP_MEMO_H

#include <stdint.h>

#define FM_OIP_MEMO_HEADS     4u /* of each model; the oldest is forgotten */
#define FM_OIP_MEMO_TEXT_MAX  768u
#define FM_OIP_MEMO_PORTS_MAX 8u

struct fm_oip_seen; /* one head */

/* Zeroed: nothing is remembered. */
struct fm_oip_memo {
    struct fm_oip_seen *heads[FM_OIP_MEMO_HEADS];
    uint64_t remembered; /* how often one was, since the beginning */
};

/* No request that was decoded with it may be answered any more. */
void fm_oip_memo_deinit(struct fm_oip_memo *memo);

#endif
