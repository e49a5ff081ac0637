/*
 * Telling a webhook how a job begins and how it ends.
 *
 * Owns: the documents. Does not own: sending (host/net/webhook.h). A webhook that fails is never
 * the job's failure. Thread rule: one thread.
 */
#ifndef FM_ENGINES_BATCH_NOTIFY_H
#define FM_ENGINES_BATCH_NOTIFY_H

#include "core/ledger/ledger.h"
#include "engines/batch/job_file.h"
#include "host/net/webhook.h"

/* What happened. */
struct fm_notify_event {
    const char *event;   /* "begin", "end", "stopped", "failed" */
    const char *verdict; /* "complete", "stopped", ...; NULL: not yet */
    const char *error;   /* why it failed; NULL: it did not */
    const struct fm_ledger_proof *proof;
    uint64_t rows_before; /* done by earlier runs */
    uint64_t elapsed_ns;
};

void fm_notify(struct fm_webhook *webhook, const struct fm_job *job,
               const struct fm_notify_event *event);

#endif
