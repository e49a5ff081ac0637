/*
 * Stores decisions on a thread of its own, as many together as there are: group commit.
 *
 * Owns: the thread, and copies of the records that wait for it. Does not own: the store, which must
 * outlive it; what is decided, and who may hear of it when (core/ledger/master.h). Thread rule:
 * push and stop are one thread's at a time; stop, and the end of the store, are not for the
 * callback. The callback comes on the writer's thread.
 *
 * HOW IT WORKS. The thread takes everything that waits and stores it with one `put`, which is one
 * transaction. What is pushed while that runs waits, and is the next transaction. So nobody waits
 * for company: a lone decision is stored at once, and the more there are, the more share the time
 * that the disk takes.
 *
 * LIMITATIONS. A failure is final, also one that might pass: what the store holds after it is not
 * known to whoever decided, so the job is to be opened anew. Memory that was needed once is kept.
 */
#ifndef FM_HOST_STORE_STORE_WRITER_H
#define FM_HOST_STORE_STORE_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "host/store/job_store.h"

/* So many records may wait; some 22 MB. A push that is larger all by itself is taken when nothing
 * waits. */
#define FM_STORE_WRITER_RECORDS_MAX 65536u

/*
 * One transaction is over. Status 0: everything that was pushed up to `sequence` is durable; error
 * is NULL. Otherwise nothing behind the last good sequence is, or will be, by this writer: error
 * says why (borrowed), and there is no further call.
 */
typedef void fm_store_writer_stored_fn(void *context, uint64_t sequence, int status,
                                       const struct fm_error *error);

struct fm_store_writer;

/* FM_ENOMEM; FM_ELIMIT: no thread. */
int FM_NODISCARD fm_store_writer_start(struct fm_job_store *store,
                                       fm_store_writer_stored_fn *on_stored, void *context,
                                       struct fm_store_writer **ret_writer,
                                       struct fm_error *reterr);
/*
 * Copies the records (at least one), which are stored behind all that were pushed before, in the
 * same transaction each. `sequence` names the last of them, and is above that of the push before.
 * Never waits for the disk. FM_EAGAIN: too many wait, come again after a call of on_stored;
 * FM_ENOMEM; after a failure its status. None of the records was taken then.
 */
int FM_NODISCARD fm_store_writer_push(struct fm_store_writer *writer,
                                      const struct fm_shard_record *records, size_t count,
                                      uint64_t sequence);
/* Stores everything that was pushed, unless that has failed, and frees the writer: there is no
 * call of on_stored any more. Accepts NULL. */
void fm_store_writer_stop(struct fm_store_writer *writer);

/* Records that wait, for a metric; those of the transaction under way do not count. Any thread. */
size_t fm_store_writer_waiting(struct fm_store_writer *writer);

#endif
