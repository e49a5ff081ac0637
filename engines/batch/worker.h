/*
 * A worker of a batch job: it joins a master, gets the job from it, and runs the shards that it is
 * given.
 *
 * Owns: the connection and its loss, the data path, leaving. Does not own: what it may do with an
 * attempt (core/ledger/holder.h), messages (core/proto/batch_messages.h), starting processes
 * (host.h). Thread rule: one call at a time for a process, from one thread.
 *
 * HOW IT WORKS. One thread runs an event loop with one call, a stream of messages each way. What
 * the master says goes to the holder, and what follows goes to the data path or back. The data path
 * has threads of its own and wakes the loop. Files are read and written here: inputs and the output
 * directory have to be there under the same paths as at the master's.
 *
 * It watches itself: the stages that run too long (limits.stage_time), and its memory, of which the
 * master says how much it may have.
 */
#ifndef FM_ENGINES_BATCH_WORKER_H
#define FM_ENGINES_BATCH_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "engines/batch/fault.h"
#include "engines/batch/token.h"
#include "fermata/status.h"

struct fm_worker_options {
    const char *url;                    /* of the master: grpc://host:port, grpcs://, unix:/path */
    const char *version;                /* of this program */
    const char *name;                   /* for people; NULL: host and process */
    const struct fm_batch_token *token; /* NULL: none */
    const char *ca_path; /* these three: TLS, as in fm_tls_client_options; NULL: none */
    const char *certificate_path;
    const char *key_path;
    uint32_t sharers;            /* workers on this machine, with this one; 0: as many as the master
                                    knows of */
    const char *accelerators;    /* groups, instead of those of the job file; NULL: these */
    uint64_t patience_ns;        /* how long to try to reach the master in the beginning */
    struct fm_fault *fault;      /* NULL: none */
    bool (*stop)(void *context); /* asked several times a second: it is to finish what it has
                                    begun, give the rest back, and go; NULL: never */
    void (*note)(void *context, const char *text); /* NULL: dropped */
    void *context;
};

/*
 * Works until the job is over, or it is stopped: 0. FM_EUNAVAILABLE: the master was not there for
 * too long; FM_EPERM, FM_EINVAL, FM_EUNSUPPORTED: it does not want this worker, and says why; what
 * is wrong with the job's files as seen from here; FM_ENOSPC, FM_EIO: the data path cannot go on;
 * what the master says when the job has failed there.
 *
 * Three ends mean that another process is to take this one's place, and are notes, not errors:
 * FM_EAGAIN: its memory has grown, so that it made way; FM_ENOMEM: it ran out of memory;
 * FM_EDEADLINE: a stage hangs.
 *
 * *ret_stuck: something of the pipeline does not come to an end. Threads still run then, and
 * nothing has been freed: the caller ends the process at once (fm_process_end).
 */
int FM_NODISCARD fm_worker_run(const struct fm_worker_options *options, bool *ret_stuck,
                               struct fm_error *reterr);

#endif
