/*
 * The recording of requests with their tensors into a file (core/proto/payload.h has the format,
 * docs/payloads.md what it is good for).
 *
 * Owns: the file, which only its owner may read; a thread that writes to it; copies of requests on
 * their way there. Does not own: requests. Thread rule: put and stats on any thread; open, end and
 * close by one; no put may be going on when it is closed.
 *
 * No loop waits for the disk: a request is copied in memory and left to the thread. What does not
 * fit (FM_PAYLOAD_WAITING_BYTES_MAX wait already, the file is full, the disk fails, there is no
 * memory) is left out and counted, the log says so, and so does the file's last line. What is
 * recorded is in the file a tenth of a second later, unless the disk is slower than the requests.
 */
#ifndef FM_ENGINES_SERVE_PAYLOAD_RECORDING_H
#define FM_ENGINES_SERVE_PAYLOAD_RECORDING_H

#include <stdbool.h>

#include "core/proto/payload.h"
#include "core/util/random.h"

/* Of copies that are not in the file yet. */
#define FM_PAYLOAD_WAITING_BYTES_MAX (UINT64_C(64) << 20)

struct fm_payload_recording;

struct fm_payload_recording_options {
    const char *path; /* must not exist yet */
    const char *server;
    uint64_t bytes_max; /* of the file */
    double share;       /* of the requests that is wanted, 0 .. 1 */
};

/* FM_EEXIST, what the file system says, FM_ENOMEM. */
int FM_NODISCARD fm_payload_recording_open(const struct fm_payload_recording_options *options,
                                           struct fm_payload_recording **ret_recording,
                                           struct fm_error *reterr);
/* Writes what waits and the last line. What is put from now on is left out; what was left out so
 * far is logged. Once or never. Accepts NULL. */
void fm_payload_recording_end(struct fm_payload_recording *recording);
/* Ends it, if that was not done, and frees it. Accepts NULL. */
void fm_payload_recording_close(struct fm_payload_recording *recording);

/* Whether the next request is one of the share that is wanted; `random` is the caller's own. */
bool fm_payload_recording_wants(struct fm_payload_recording *recording, struct fm_random *random);
/* Copies a request. payload->time_ns is monotonic time as fm_os_now_ns has it. */
void fm_payload_recording_put(struct fm_payload_recording *recording,
                              const struct fm_payload *payload);

/* A request that could not even be described, for want of memory. */
void fm_payload_recording_lost(struct fm_payload_recording *recording);

struct fm_payload_recording_stats {
    uint64_t bytes; /* in the file */
    uint64_t recorded;
    uint64_t left_out;
    uint64_t sampled_out;
};
void fm_payload_recording_stats(const struct fm_payload_recording *recording,
                                struct fm_payload_recording_stats *ret_stats);

#endif
