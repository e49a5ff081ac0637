/*
 * What a master of a batch job answers to those who steer it (service Control of
 * proto/batch.proto), as bytes: how the job stands, to a plain struct and back.
 *
 * Owns: the message Status, read in place and written at the end of a text, and its limits. Does
 * not own: who may ask, what is done (engines/batch). Nothing is allocated by the reader; views
 * point into the message. Thread rule: caller's memory.
 *
 * The corners of the protocol are settled as in batch_messages.h.
 */
#ifndef FM_CORE_PROTO_BATCH_CONTROL_H
#define FM_CORE_PROTO_BATCH_CONTROL_H

#include "core/proto/batch_messages.h"

#define FM_BATCH_CONTROL_STATUS "/fermata.batch.v1.Control/GetStatus"
#define FM_BATCH_CONTROL_PAUSE  "/fermata.batch.v1.Control/Pause"
#define FM_BATCH_CONTROL_RESUME "/fermata.batch.v1.Control/Resume"
#define FM_BATCH_CONTROL_CANCEL "/fermata.batch.v1.Control/Cancel"

#define FM_BATCH_STATUS_BYTES_MAX   (16u << 20)
#define FM_BATCH_STATUS_WORKERS_MAX 4096u

struct fm_batch_worker_status {
    uint64_t worker;
    struct fm_batch_view name;
    struct fm_batch_view host;
    uint32_t process;
    bool connected;
    uint32_t shards; /* held */
    uint64_t rows_in_work;
    uint64_t rows_committed;
    uint64_t rows_per_minute;
    uint64_t memory_bytes;
    struct fm_batch_view slowest_stage; /* empty: unknown */
    double slowest_share;
    struct fm_batch_view last_error; /* empty: none */
    uint64_t silent_ns;              /* since it was heard last */
    struct fm_batch_tuned tuned;
    struct fm_batch_memory memory;
    struct fm_batch_stages stages;
};

/* As the lists of batch_messages.h. */
struct fm_batch_worker_statuses {
    const struct fm_batch_worker_status *items;
    uint64_t count;
    struct fm_batch_view wire; /* internal */
};

#define FM_BATCH_REST_UNKNOWN UINT64_MAX

struct fm_batch_status {
    struct fm_batch_view job;
    struct fm_batch_view version; /* of the program */
    uint32_t process;
    bool paused;
    bool stopping;  /* it ends as soon as what is in work is finished ... */
    bool cancelled; /* ... because somebody has cancelled it */
    uint64_t rows_total;
    uint64_t rows_committed;
    uint64_t rows_done; /* with those that are finished and not committed */
    uint64_t dead_letters;
    uint64_t rows_in_work;
    double rows_per_s; /* lately */
    uint64_t rest_ns;  /* or FM_BATCH_REST_UNKNOWN */
    uint64_t running_ns;
    uint32_t workers_wanted;          /* 0: the master does not say */
    struct fm_batch_view workers_why; /* as many; empty: nothing can be said yet */
    uint64_t finish_by_ms;            /* since 1970; 0: no time */
    bool late;                        /* it cannot be met */
    struct fm_batch_worker_statuses workers;
};

/* FM_EINVAL: malformed; FM_ETOOLARGE, FM_ELIMIT: beyond a limit. */
int FM_NODISCARD fm_batch_status_read(const void *data, size_t size,
                                      struct fm_batch_status *ret_status, struct fm_error *reterr);
/* FM_ENOMEM; FM_ETOOLARGE, FM_ELIMIT. On failure the text is what it was before. */
int FM_NODISCARD fm_batch_status_write(struct fm_text *text, const struct fm_batch_status *status);
bool fm_batch_worker_statuses_next(struct fm_batch_worker_statuses *workers,
                                   struct fm_batch_worker_status *ret_worker);

#endif
