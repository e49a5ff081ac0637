/*
 * The report of a job: one HTML file with everything in it, no network, no script.
 *
 * Owns: gathering what it shows from the job's directory, layout, charts. Does not own: the numbers
 * (job_look.h, history.h, letters.h). Thread rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_JOB_REPORT_H
#define FM_ENGINES_BATCH_JOB_REPORT_H

#include "core/proto/batch_control.h"
#include "core/util/text.h"

struct fm_job_report_options {
    const char *directory;
    double price_per_hour; /* of one worker; 0: no costs are shown */
    /* What the master says, for a page that is served while the job runs; NULL: none. */
    const struct fm_batch_status *status;
    unsigned refresh_s; /* the page asks for itself again after so long; 0: never */
};

/* Appends the page. As fm_job_look; FM_ENOMEM. What cannot be read (a damaged ledger, dead letters)
 * is said in the page. */
int FM_NODISCARD fm_job_report_write(const struct fm_job_report_options *options,
                                     struct fm_text *text, struct fm_error *reterr);

#endif
